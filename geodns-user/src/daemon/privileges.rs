//! Capabilities: the process keeps those that it needs, and gives up all others.

use anyhow::Context;
use caps::{CapSet, Capability};
use nix::unistd::{Gid, getgroups, setgroups};

use crate::base::capability;

/// Capabilities that the daemon needs as long as it runs: load programs and make maps, attach them, have the verifier
/// allow what it allows a tracer, bind port 53 on addresses that come, and ping mirrors.
///
/// CAP_DAC_OVERRIDE, where we have it, so that a reload can still read a configuration in another
/// user's folder, and the control socket in one can be removed: taking it from user 0 would not
/// keep it from root's own files anyway.
const KEPT: [Capability; 6] = [
    Capability::CAP_BPF,
    Capability::CAP_NET_ADMIN,
    Capability::CAP_PERFMON,
    Capability::CAP_NET_BIND_SERVICE,
    Capability::CAP_NET_RAW,
    Capability::CAP_DAC_OVERRIDE,
];

/// Capabilities that it takes to load the program and attach it.
const FOR_PROGRAM: [Capability; 3] = [
    Capability::CAP_BPF,
    Capability::CAP_NET_ADMIN,
    Capability::CAP_PERFMON,
];

/// Fails if we may not load the program or attach it, and says what is missing: the verifier would say of a missing
/// CAP_PERFMON that the program is wrong.
pub fn require_for_program() -> anyhow::Result<()> {
    let have = caps::read(None, CapSet::Permitted).context("cannot read capabilities")?;
    let missing = FOR_PROGRAM.iter().filter(|needed| !have.contains(needed));
    let missing: Vec<String> = missing.map(ToString::to_string).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let given = KEPT
        .iter()
        .filter(|&&kept| kept != Capability::CAP_DAC_OVERRIDE);
    let given: Vec<String> = given.map(ToString::to_string).collect();
    anyhow::bail!(
        "cannot load the eBPF program without {}: run as root, or give it to geodns (systemd: AmbientCapabilities={} \
         and the same in CapabilityBoundingSet=; containers: --cap-add), or set kernel.mode = \"off\"",
        missing.join(", "),
        given.join(" ")
    )
}

/// Lets the process open as many files as it may: each listen address is several sockets, and TCP
/// connections of strangers must not take what the control socket needs.
pub fn raise_file_limit() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(_, hard)| setrlimit(Resource::RLIMIT_NOFILE, hard, hard));
    if let Err(error) = raised {
        tracing::warn!("cannot raise the limit of open files: {error}");
    }
}

/// Joins the group that may read over the control socket, so that the socket can be given to it later. Without the right to
/// join, that fails then, if it is not the daemon's group already.
pub fn join(group: Gid) {
    let joined = getgroups().and_then(|mut groups| {
        groups.push(group);
        setgroups(&groups)
    });
    if let Err(error) = joined {
        tracing::debug!("cannot join group {group}: {error}");
    }
}

/// Gives up every other capability, for good. For the calling thread and those that it makes from
/// now on, so before there is a runtime.
pub fn drop_all_but_needed() -> anyhow::Result<()> {
    capability::keep_only(&KEPT)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    /// The unit file leaves us the capabilities that we keep, but for one that only a start without systemd needs.
    #[test]
    fn the_unit_leaves_what_is_kept() {
        let unit = include_str!("../../../etc/geodns.service");
        let mut lines = unit.lines();
        let line = lines.find_map(|line| line.strip_prefix("CapabilityBoundingSet="));
        let left = line.unwrap().split(' ').map(|name| name.parse().unwrap());
        let mut kept: HashSet<Capability> = KEPT.into_iter().collect();
        kept.remove(&Capability::CAP_DAC_OVERRIDE);
        assert_eq!(left.collect::<HashSet<_>>(), kept);
    }
}

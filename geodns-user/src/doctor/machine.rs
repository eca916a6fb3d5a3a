//! The machine: kernel, file system of pins, capabilities, settings.

use std::fs;
use std::path::{Path, PathBuf};

use caps::{CapSet, Capability};
use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit};

use crate::kernel::drivers::{self, Finding, Version};
use crate::kernel::probe::Probe;
use crate::kernel::{Error, bpffs};

/// The capabilities that the program needs.
const NEEDED: [Capability; 3] = [
    Capability::CAP_BPF,
    Capability::CAP_NET_ADMIN,
    Capability::CAP_PERFMON,
];

/// The first kernel that has the tables of programs counted by the cgroup, and not by RLIMIT_MEMLOCK.
const COUNTS_MEMORY: Version = (5, 11);

/// The machine, as far as the program depends on it.
#[derive(Clone, Debug)]
pub struct Facts {
    /// The kernel's version.
    pub kernel: Version,
    /// Instructions that the verifier walked; or why the program was not loaded.
    pub loaded: Result<u32, String>,
    /// Whether loading it failed for want of a right.
    pub not_permitted: bool,
    /// Capabilities that this process lacks.
    pub lacking: Vec<String>,
    /// The folder of pins.
    pub pin: PathBuf,
    /// Whether it is in a bpffs; `None`: that cannot be seen.
    pub is_bpffs: Option<bool>,
    /// Whether programs are compiled; `None`: that cannot be seen.
    pub jit: Option<bool>,
    /// Whether compiled programs are hardened, for everybody.
    pub is_hardened: bool,
    /// Whether the kernel panics where it would warn.
    pub panics: bool,
    /// The kernel's lockdown, unless it is off.
    pub lockdown: Option<String>,
    /// Octets that this process may lock in memory (RLIMIT_MEMLOCK); `None`: any number.
    pub lockable: Option<u64>,
}

impl Facts {
    /// Reads them.
    pub fn read(pin: &Path, probe: &mut Result<Probe, Error>) -> Self {
        let loaded = match probe {
            Ok(probe) => probe
                .verified_instructions()
                .map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        let has = |capability: &Capability| {
            caps::has_cap(None, CapSet::Effective, *capability).unwrap_or(false)
        };
        let lacking = NEEDED.iter().filter(|capability| !has(capability));
        let number =
            |path: &str| -> Option<u32> { fs::read_to_string(path).ok()?.trim().parse().ok() };
        // "none [integrity] confidentiality"
        let lockdown = fs::read_to_string("/sys/kernel/security/lockdown").ok();
        let lockdown = lockdown.and_then(|text| {
            let (_, rest) = text.split_once('[')?;
            Some(rest.split_once(']')?.0.to_owned())
        });
        Self {
            kernel: drivers::kernel_version(),
            loaded,
            not_permitted: matches!(probe, Err(Error::Permission)),
            lacking: lacking.map(ToString::to_string).collect(),
            pin: pin.to_path_buf(),
            is_bpffs: bpffs::is_bpffs(pin).ok(),
            jit: number("/proc/sys/net/core/bpf_jit_enable").map(|on| on != 0),
            is_hardened: number("/proc/sys/net/core/bpf_jit_harden") == Some(2),
            panics: number("/proc/sys/kernel/panic_on_warn") == Some(1),
            lockdown: lockdown.filter(|of| of != "none"),
            lockable: getrlimit(Resource::RLIMIT_MEMLOCK)
                .ok()
                .map(|(now, _)| now)
                .filter(|&now| now != RLIM_INFINITY),
        }
    }
}

/// The findings.
pub fn findings(facts: &Facts) -> Vec<Finding> {
    let mut findings = Vec::new();
    let (major, minor) = facts.kernel;
    findings.push(match &facts.loaded {
        Ok(0) => Finding::ok(format!("Linux {major}.{minor} loads the program")),
        Ok(instructions) => Finding::ok(format!(
            "Linux {major}.{minor} loads the program ({instructions} instructions verified)"
        )),
        Err(error) => Finding::problem(format!("Linux {major}.{minor}: {error}")),
    });
    if !facts.lacking.is_empty() {
        let text = format!(
            "this process lacks {}: run it as root; so it could not see everything",
            facts.lacking.join(", ")
        );
        findings.push(match facts.loaded {
            Ok(_) => Finding::note(text),
            Err(_) => Finding::problem(text),
        });
    }
    let pin = facts.pin.display();
    findings.push(match facts.is_bpffs {
        Some(true) => Finding::ok(format!("{pin} is in a bpffs")),
        Some(false) if facts.pin.starts_with(bpffs::USUAL) => Finding::note(format!(
            "there is no bpffs at {} yet: geodns mounts one if it runs as root",
            bpffs::USUAL
        ))
        .mend(format!("mount -t bpf bpf {}", bpffs::USUAL)),
        Some(false) => Finding::problem(format!("{pin} (kernel.pin) is not in a bpffs"))
            .mend("mount -t bpf bpf FOLDER"),
        None => Finding::note(format!("{pin} (kernel.pin) cannot be looked at")),
    });
    match facts.jit {
        Some(true) => findings.push(Finding::ok("the kernel compiles programs (JIT)")),
        Some(false) => findings.push(
            Finding::note("the kernel interprets programs, which costs several times as much")
                .mend("sysctl -w net.core.bpf_jit_enable=1"),
        ),
        None => findings.push(Finding::note(
            "net.core.bpf_jit_enable cannot be read: whether the kernel compiles programs is not known",
        )),
    }
    if facts.is_hardened {
        findings.push(
            Finding::note(
                "the kernel hardens compiled programs, root's too, which makes them slower",
            )
            .mend("sysctl -w net.core.bpf_jit_harden=1"),
        );
    }
    if facts.panics {
        findings.push(Finding::note(
            "kernel.panic_on_warn is set: a driver's warning takes the machine down",
        ));
    }
    if let Some(lockable) = facts.lockable.filter(|_| facts.kernel < COUNTS_MEMORY) {
        findings.push(
            Finding::note(format!(
                "Linux {major}.{minor} takes the program's tables for locked memory, and this process may lock \
                 {lockable} octets"
            ))
            .mend("ulimit -l unlimited"),
        );
    }
    if let Some(lockdown) = &facts.lockdown {
        let text = format!("kernel lockdown is {lockdown}");
        findings.push(match facts.not_permitted {
            true => Finding::problem(format!(
                "{text}, which may be why the program is not loaded"
            )),
            false => Finding::note(text),
        });
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::drivers::Level;

    fn good() -> Facts {
        Facts {
            kernel: (6, 1),
            loaded: Ok(200_000),
            pin: "/sys/fs/bpf/geodns".into(),
            is_bpffs: Some(true),
            jit: Some(true),
            not_permitted: false,
            lacking: Vec::new(),
            is_hardened: false,
            panics: false,
            lockdown: None,
            lockable: Some(8 << 20),
        }
    }

    /// The findings that are not good ones.
    fn bad(facts: &Facts) -> Vec<String> {
        let findings = findings(facts).into_iter();
        let bad = findings.filter(|finding| finding.level != Level::Ok);
        bad.map(|of| format!("{:?} {of}", of.level)).collect()
    }

    type Change<'a> = &'a dyn Fn(&mut Facts);

    #[test]
    fn a_good_machine_has_good_findings() {
        assert!(bad(&good()).is_empty());
        assert_eq!(
            findings(&good())[0].text,
            "Linux 6.1 loads the program (200000 instructions verified)"
        );
    }

    #[test]
    fn whatever_is_amiss_has_its_line() {
        let machine = |change: &dyn Fn(&mut Facts)| {
            let mut facts = good();
            change(&mut facts);
            bad(&facts)
        };
        let cases: &[(Change<'_>, &str)] = &[
            (&|of| of.loaded = Err("no".into()), "Problem Linux 6.1: no"),
            (
                &|of| of.lacking = vec!["CAP_BPF".into()],
                "Note this process lacks CAP_BPF",
            ),
            (
                &|of| of.is_bpffs = Some(false),
                "mount -t bpf bpf /sys/fs/bpf",
            ),
            (&|of| of.is_bpffs = None, "cannot be looked at"),
            (
                &|of| of.jit = Some(false),
                "sysctl -w net.core.bpf_jit_enable=1",
            ),
            (
                &|of| of.is_hardened = true,
                "sysctl -w net.core.bpf_jit_harden=1",
            ),
            (
                &|of| of.kernel = (5, 10),
                "may lock 8388608 octets: ulimit -l unlimited",
            ),
            (&|of| of.panics = true, "kernel.panic_on_warn is set"),
            (
                &|of| of.lockdown = Some("integrity".into()),
                "Note kernel lockdown is integrity",
            ),
        ];
        for (change, says) in cases {
            let found = machine(change);
            assert!(
                found.len() == 1 && found[0].contains(says),
                "{says}: {found:?}"
            );
        }
        let elsewhere = machine(&|of| {
            of.is_bpffs = Some(false);
            of.pin = "/tmp/pins".into();
        });
        assert!(
            elsewhere[0].starts_with("Problem /tmp/pins"),
            "{elsewhere:?}"
        );
        let locked = machine(&|of| {
            of.loaded = Err("permission".into());
            of.not_permitted = true;
            of.lockdown = Some("confidentiality".into());
        });
        assert!(
            locked[1].starts_with("Problem kernel lockdown"),
            "{locked:?}"
        );
    }
}

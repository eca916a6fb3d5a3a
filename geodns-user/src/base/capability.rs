//! Capabilities of the process.

use std::collections::HashSet;

use anyhow::Context;
use caps::{CapSet, Capability};

/// Gives up every capability but these, for good. For the calling thread and those that it makes from now on, so before
/// there is a runtime.
pub fn keep_only(kept: &[Capability]) -> anyhow::Result<()> {
    let have = caps::read(None, CapSet::Permitted).context("cannot read capabilities")?;
    let keep: HashSet<Capability> = kept
        .iter()
        .copied()
        .filter(|capability| have.contains(capability))
        .collect();
    let narrow = || {
        // A child could get them back only through the bounding set, which SETPCAP narrows.
        if have.contains(&Capability::CAP_SETPCAP) {
            for capability in caps::read(None, CapSet::Bounding)? {
                if !keep.contains(&capability) {
                    caps::drop(None, CapSet::Bounding, capability)?;
                }
            }
        }
        caps::clear(None, CapSet::Ambient)?;
        caps::set(None, CapSet::Effective, &keep)?;
        caps::set(None, CapSet::Permitted, &keep)?;
        caps::set(None, CapSet::Inheritable, &HashSet::new())
    };
    narrow().context("cannot drop capabilities")?;
    nix::sys::prctl::set_no_new_privs().context("cannot set no_new_privs")
}

//! Loads the program, and attaches it for a moment, to see whether it can be done. Nothing of it stays.

use std::os::fd::{AsFd, OwnedFd};

use aya::programs::ProgramType;
use aya::sys::{BpfHelper, is_helper_supported};
use aya::{Ebpf, EbpfLoader};
use geodns_common::verdict::Verdict;

use super::instance;
use super::netdev::{Netdev, Netdevs};
use super::shared::{Counters, SharedMaps};
use super::stub::Build;
use super::{Error, attach, sys};

/// The calls of the kernel that the program makes, with the first kernel that has each.
const HELPERS: &[(BpfHelper, &str, &str)] = &[
    (
        BpfHelper::BPF_FUNC_ktime_get_coarse_ns,
        "bpf_ktime_get_coarse_ns",
        "5.11",
    ),
    (
        BpfHelper::BPF_FUNC_ringbuf_output,
        "bpf_ringbuf_output",
        "5.8",
    ),
    (BpfHelper::BPF_FUNC_jiffies64, "bpf_jiffies64", "5.5"),
    (
        BpfHelper::BPF_FUNC_xdp_adjust_tail,
        "bpf_xdp_adjust_tail",
        "4.18",
    ),
    (
        BpfHelper::BPF_FUNC_xdp_load_bytes,
        "bpf_xdp_load_bytes",
        "5.18",
    ),
    (
        BpfHelper::BPF_FUNC_xdp_store_bytes,
        "bpf_xdp_store_bytes",
        "5.18",
    ),
];

/// The features of the kernel that the program needs and that are not there, each with the first kernel that has it.
fn lacking() -> Vec<String> {
    let lacks = |helper| matches!(is_helper_supported(ProgramType::Xdp, helper), Ok(false));
    let missing = HELPERS.iter().filter(|(helper, ..)| lacks(*helper));
    missing
        .map(|(_, name, since)| format!("{name} (Linux {since})"))
        .collect()
}

/// The same failure, or the features that the kernel lacks where these are why the program was not loaded. What the
/// kernel calls itself does not matter: distributions put features into older ones.
pub fn explained(error: Error) -> Error {
    let lacks = match error {
        Error::Load(_) => lacking(),
        _ => Vec::new(),
    };
    if lacks.is_empty() {
        return error;
    }
    let name = nix::sys::utsname::uname();
    let release = name.map(|name| name.release().to_string_lossy().into_owned());
    Error::OldKernel {
        release: release.unwrap_or_default(),
        lacks,
    }
}

/// The program, loaded and attached nowhere. It has no tables, so it passes everything.
pub struct Probe {
    ebpf: Ebpf,
    shared: SharedMaps,
}

/// The program, attached for as long as this lives.
pub struct Held(OwnedFd);

impl Probe {
    /// Loads it.
    pub fn load(object: &[u8]) -> Result<Self, Error> {
        let shared = SharedMaps::new(object)?;
        let mut ebpf = sys::undisturbed(|| EbpfLoader::new().load(object)).map_err(Error::load)?;
        shared.put_into(&mut ebpf)?;
        let program = instance::program(&mut ebpf, Build::Plain)?;
        sys::undisturbed(|| program.load()).map_err(Error::refused)?;
        Ok(Self { ebpf, shared })
    }

    /// Instructions that the verifier walked; 0: the kernel does not tell.
    pub fn verified_instructions(&mut self) -> Result<u32, Error> {
        let info = instance::program(&mut self.ebpf, Build::Plain)?.info().ok();
        Ok(info
            .and_then(|of| of.verified_instruction_count())
            .unwrap_or(0))
    }

    /// Attaches it to an interface, natively or not: with the frags mark, if the driver refuses it without.
    pub fn attach(
        &mut self,
        netdev: &Netdev,
        netdevs: &Netdevs,
        generic: bool,
    ) -> Result<Held, Error> {
        let mut attach = |build| {
            let program = instance::program(&mut self.ebpf, build)?;
            if program.fd().is_err() {
                sys::undisturbed(|| program.load()).map_err(Error::refused)?;
            }
            let program = program.fd().map_err(Error::refused)?.as_fd();
            sys::link_xdp(program, netdev.ifindex, generic)
                .map(Held)
                .map_err(|error| attach::refusal(program, netdev, netdevs, generic, &error))
        };
        match attach(Build::Plain) {
            Err(Error::NoNative { .. }) => attach(Build::Frags),
            done => done,
        }
    }

    /// Packets that it has seen.
    pub fn seen(&self) -> Result<u64, Error> {
        let counters: Counters = self.shared.counters()?;
        let by_verdict = counters.read()?;
        let verdicts = by_verdict.iter().take(Verdict::ALL.len());
        Ok(verdicts.sum())
    }
}

impl Held {
    /// Takes it off.
    pub fn detach(self) -> Result<(), Error> {
        sys::link_detach(self.0.as_fd()).map_err(Error::Trial)
    }
}

//! Errors of the program and its maps, in words that say what to do.

use std::io;
use std::path::PathBuf;

use super::drivers::Finding;

/// Why the program is not where it should be. Displays as one line.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Built without the object.
    #[error(
        "this geodns was built without its eBPF program: build it with `cargo xtask build`, \
         or set kernel.mode = \"off\""
    )]
    NoObject,
    /// Too old a kernel.
    #[error(
        "this is Linux {release}, and the eBPF program needs what it lacks: {}: upgrade, or set kernel.mode = \"off\"",
        lacks.join(", ")
    )]
    OldKernel {
        /// The release that runs.
        release: String,
        /// The missing features, each with the first kernel that has it.
        lacks: Vec<String>,
    },
    /// The object is not the one that we know.
    #[error("the eBPF object does not fit: {0}")]
    Object(String),
    /// Loading it failed.
    #[error("cannot load the eBPF program: {0}")]
    Load(String),
    /// No right to.
    #[error(
        "cannot load the eBPF program: permission denied, though CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON are there: \
         those of a user namespace (a rootless container) do not count, and kernel lockdown or a security module may \
         forbid it; run on the host, or set kernel.mode = \"off\""
    )]
    Permission,
    /// `kernel.pin` is elsewhere.
    #[error(
        "kernel.pin = {path:?} is not in a bpffs: mount one there (mount -t bpf bpf FOLDER) \
         or put it under /sys/fs/bpf"
    )]
    NotBpffs {
        /// The folder.
        path: PathBuf,
    },
    /// No bpffs, and none can be mounted.
    #[error(
        "cannot mount a bpffs at {path:?}: {source}; mount it (mount -t bpf bpf {path:?}) or run as root"
    )]
    Mount {
        /// Where.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A run of the program on a packet that nobody sent failed.
    #[error("cannot try the eBPF program out: {0}")]
    Trial(io::Error),
    /// Something with a pin failed.
    #[error("cannot {what} {path:?}: {source}{}", whose(source))]
    Pin {
        /// The action that failed.
        what: &'static str,
        /// To what.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// Another daemon is there.
    #[error("{path:?} is in use by another geodns: stop it, or set kernel.pin to another folder")]
    InUse {
        /// The folder.
        path: PathBuf,
    },
    /// No interface to attach to.
    #[error(
        "no interface to attach to: give --iface, set kernel.interfaces, or kernel.mode = \"off\""
    )]
    NoInterfaces,
    /// No such interface.
    #[error("no interface {name:?} (kernel.interfaces or --iface); there are {have}")]
    UnknownInterface {
        /// The wanted value.
        name: String,
        /// The values that exist.
        have: String,
    },
    /// Somebody else's program is attached.
    #[error(
        "{interface}: another XDP program{} is attached: {hint}; or leave {interface} out of kernel.interfaces",
        .program.map(|id| format!(" (id {id})")).unwrap_or_default()
    )]
    Occupied {
        /// The interface.
        interface: String,
        /// Id of the program, if known.
        program: Option<u32>,
        /// Its owner, if that can be found, and how to detach it.
        hint: String,
    },
    /// Somebody's program is attached to an interface below this one, or upon it.
    #[error(
        "{interface}: an XDP program{} is attached to {other}, and Linux takes none on {interface} beside it: name \
         {other} alone in kernel.interfaces, or take the program off there",
        .program.map(|id| format!(" (id {id})")).unwrap_or_default()
    )]
    OccupiedBeside {
        /// The interface.
        interface: String,
        /// The interface that has the program.
        other: String,
        /// Id of the program, if known.
        program: Option<u32>,
    },
    /// No packet with an Ethernet header comes in there.
    #[error("{interface}: {instead}")]
    Unfit {
        /// The interface.
        interface: String,
        /// What is wrong with it, and what to name.
        instead: String,
    },
    /// The driver refuses.
    #[error(
        "{interface}: its driver{} takes no program in native mode: {reason}{}",
        in_brackets(driver),
        listed(advice)
    )]
    NoNative {
        /// The interface.
        interface: String,
        /// The driver's name; empty if none is told.
        driver: String,
        /// The driver's text, or the kernel's error.
        reason: String,
        /// Findings that explain it, with their commands.
        advice: Vec<Finding>,
    },
    /// The driver refuses the program without the frags mark, and the one with it cannot be had.
    #[error("{plain}; and with the frags mark: {frags}")]
    NoFrags {
        /// The driver's refusal.
        plain: Box<Error>,
        /// Why there is none with the mark.
        frags: Box<Error>,
    },
    /// The driver refuses, and the stack must not be asked.
    #[error("{native}; {generic}")]
    NoMode {
        /// The driver's refusal.
        native: Box<Error>,
        /// What speaks against generic mode.
        generic: String,
    },
    /// The kernel refuses.
    #[error("{interface}: cannot attach the program: {reason}")]
    Attach {
        /// The interface.
        interface: String,
        /// The kernel's error.
        reason: String,
    },
    /// VLAN tags would be lost.
    #[error(
        "{interface}: its driver takes VLAN tags off and cannot be told not to \
         (rxvlan: {source}); use kernel.mode = \"generic\""
    )]
    VlanStripped {
        /// The interface.
        interface: String,
        /// The driver's error.
        source: io::Error,
    },
    /// The program in a link could not be replaced.
    #[error("{interface}: cannot replace the program: {reason}")]
    Replace {
        /// The interface.
        interface: String,
        /// The kernel's error.
        reason: String,
    },
    /// `kernel.next` is no program that can be called.
    #[error("kernel.next = {path:?}: {reason}")]
    Next {
        /// Where it is pinned.
        path: PathBuf,
        /// Why it cannot be called.
        reason: String,
    },
    /// After [`Kernel::stop`](super::Kernel::stop).
    #[error("geodns is stopping")]
    Stopped,
    /// More than the map holds.
    #[error(
        "{rows} listen addresses times interfaces are more than the program can hold: \
         shorten server.listen or kernel.interfaces"
    )]
    TooManyAddresses {
        /// The right value.
        rows: usize,
    },
    /// A map cannot be read or written.
    #[error("map {map}: {reason}")]
    Map {
        /// Its name.
        map: &'static str,
        /// The kernel's error.
        reason: String,
    },
}

fn in_brackets(driver: &str) -> String {
    match driver {
        "" => String::new(),
        driver => format!(" ({driver})"),
    }
}

fn listed(findings: &[Finding]) -> String {
    findings.iter().map(|of| format!("; {of}")).collect()
}

/// Remedy for a folder that is not ours.
fn whose(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied => {
            "; run as root, or set kernel.pin to a folder in the bpffs that belongs to geodns' user"
        }
        _ => "",
    }
}

impl Error {
    pub(super) fn load(error: aya::EbpfError) -> Self {
        let text = chain(&error);
        if is_permission(&error) {
            Self::Permission
        } else {
            Self::Load(text)
        }
    }

    /// The kernel rejected the program: the verifier's last words; the rest is logged at debug level.
    pub(super) fn refused(error: aya::programs::ProgramError) -> Self {
        if let aya::programs::ProgramError::LoadError {
            io_error,
            verifier_log,
        } = &error
        {
            let log = verifier_log.to_string();
            if io_error.raw_os_error() == Some(libc::EPERM) {
                return Self::Permission;
            }
            tracing::debug!("verifier: {log}");
            let last = log
                .lines()
                .rev()
                .map(str::trim)
                .filter(|line| !line.is_empty())
                .find(|line| {
                    !["processed ", "verification time", "stack depth"]
                        .iter()
                        .any(|statistics| line.starts_with(statistics))
                })
                .unwrap_or("no word from the verifier");
            return Self::Load(format!("{io_error}: {last}"));
        }
        Self::Load(chain(&error))
    }

    pub(super) fn counters(error: aya::maps::MapError) -> Self {
        Self::Map {
            map: "COUNTERS",
            reason: chain(&error),
        }
    }
}

fn is_permission(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut at = Some(error);
    while let Some(error) = at {
        if let Some(io) = error.downcast_ref::<io::Error>()
            && io.raw_os_error() == Some(libc::EPERM)
        {
            return true;
        }
        at = error.source();
    }
    false
}

/// An error and its causes in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut at = error.source();
    while let Some(cause) = at {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        at = cause.source();
    }
    text.replace('\n', " ")
}

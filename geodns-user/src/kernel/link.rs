//! The program on an interface: a pinned `bpf_link`.
//!
//! The pin, and nothing else, keeps the program attached: descriptors are opened for one call and
//! closed. So a daemon that dies leaves everything as it is, and the next one replaces the
//! program inside the link without a packet in between.

use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use aya::programs::links::{FdLink, PinnedLink};
use aya::programs::xdp::XdpLink;
use aya::programs::{ProgramError, Xdp, XdpMode};

use super::netdev::{self, Netdev};
use super::{Error, bpffs, sys};
use crate::config::Mode;

/// An interface that the program is attached to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attachment {
    /// The interface's name.
    pub name: String,
    /// Its index.
    pub ifindex: u32,
    /// Whether the program runs in the stack's receive path, not in the driver.
    pub generic: bool,
}

impl Attachment {
    /// Whether its link is pinned and holds.
    pub fn is_among(&self, pinned: &[Pinned]) -> bool {
        pinned
            .iter()
            .any(|link| link.name == self.name && link.ifindex == Some(self.ifindex))
    }

    /// `native` or `generic`.
    pub fn mode(&self) -> &'static str {
        if self.generic { "generic" } else { "native" }
    }
}

/// A pinned link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pinned {
    /// The interface's name when it was pinned.
    pub name: String,
    /// Index of the interface that it is attached to; `None`: that interface has gone.
    pub ifindex: Option<u32>,
}

/// Where links are pinned.
pub fn folder(shared: &Path) -> PathBuf {
    shared.join("links")
}

/// Where it is noted which interfaces had rxvlan on.
pub fn rxvlan_folder(shared: &Path) -> PathBuf {
    shared.join("rxvlan")
}

/// A file name for an interface. bpffs takes no dots; interfaces have no colons.
fn file_name(interface: &str) -> String {
    interface.replace('.', ":")
}

fn pin_path(shared: &Path, interface: &str) -> PathBuf {
    folder(shared).join(file_name(interface))
}

/// The links that are pinned, whoever did it.
pub fn pinned(shared: &Path) -> Result<Vec<Pinned>, Error> {
    let folder = folder(shared);
    let examine = || {
        bpffs::list(&folder)?
            .into_iter()
            .map(|file| {
                let link = sys::obj_get(&folder.join(&file))?;
                let ifindex = sys::fdinfo(link.as_fd(), "ifindex")?;
                Ok(Pinned {
                    name: file.replace(':', "."),
                    ifindex: ifindex
                        .and_then(|index| u32::try_from(index).ok())
                        .filter(|&index| index != 0),
                })
            })
            .collect::<io::Result<_>>()
    };
    examine().map_err(|source| Error::Pin {
        what: "examine the links in",
        path: folder.clone(),
        source,
    })
}

/// Attaches a program to an interface that has none, and pins the link.
pub fn attach(
    shared: &Path,
    program: &mut Xdp,
    netdev: &Netdev,
    mode: Mode,
) -> Result<Attachment, Error> {
    let (generic, fallback) = match mode {
        Mode::Generic | Mode::Off => (true, None),
        Mode::Native => (false, None),
        // What veth's driver sends (XDP_TX) its peer drops unless a program is there to take it,
        // and nobody can see from here whether there is.
        Mode::Auto if netdev.is_veth => {
            tracing::warn!(
                "{}: this is a veth, where native answers arrive only if the other end has an XDP \
                 program too: if it has, set kernel.mode = \"native\"",
                netdev.name
            );
            (true, None)
        }
        // Whatever the driver's reason, the stack can.
        Mode::Auto => match try_attach(shared, program, netdev, false) {
            Ok(()) => return Ok(attachment(netdev, false)),
            Err(error @ (Error::NoNative { .. } | Error::VlanStripped { .. })) => {
                (true, Some(error))
            }
            Err(error) => return Err(error),
        },
    };
    try_attach(shared, program, netdev, generic)?;
    if let Some(reason) = fallback {
        tracing::warn!("{reason}: attached in generic mode");
    }
    Ok(attachment(netdev, generic))
}

fn attachment(netdev: &Netdev, generic: bool) -> Attachment {
    Attachment {
        name: netdev.name.clone(),
        ifindex: netdev.ifindex,
        generic,
    }
}

fn try_attach(
    shared: &Path,
    program: &mut Xdp,
    netdev: &Netdev,
    generic: bool,
) -> Result<(), Error> {
    let path = pin_path(shared, &netdev.name);
    bpffs::create_dir(&folder(shared))?;
    keep_vlan_tags(shared, &netdev.name, generic)?;
    let undo = |error| {
        restore_rxvlan(shared, &netdev.name);
        error
    };
    let mode = if generic {
        XdpMode::Skb
    } else {
        XdpMode::Driver
    };
    let id = program
        .attach_to_if_index(netdev.ifindex, mode)
        .map_err(|error| undo(refusal(netdev, generic, error)))?;
    let link = program.take_link(id).map_err(Error::refused)?;
    // Where the kernel has no bpf_link for XDP, aya attaches by netlink; that cannot be pinned.
    // `Kernel::start` has refused such kernels.
    let link = FdLink::try_from(link).map_err(|_| {
        undo(Error::NoLink {
            interface: netdev.name.clone(),
        })
    })?;
    link.pin(&path).map_err(|error| {
        undo(Error::Pin {
            what: "pin the link at",
            path,
            source: io::Error::other(error),
        })
    })?;
    Ok(())
}

/// Why an interface did not take the program.
fn refusal(netdev: &Netdev, generic: bool, error: ProgramError) -> Error {
    let errno = match &error {
        ProgramError::SyscallError(call) => call.io_error.raw_os_error(),
        _ => None,
    };
    let interface = netdev.name.clone();
    match errno {
        Some(libc::EBUSY | libc::EEXIST) => Error::Occupied {
            interface,
            program: netdev.xdp.and_then(|xdp| xdp.program),
        },
        Some(libc::EPERM | libc::ENODEV | libc::ENOENT) => Error::Attach {
            interface,
            reason: super::chain(&error),
        },
        _ if !generic => Error::NoNative {
            interface,
            reason: super::chain(&error),
        },
        _ => Error::Attach {
            interface,
            reason: super::chain(&error),
        },
    }
}

/// Replaces the program of a pinned link by another one, in one step.
pub fn replace(shared: &Path, program: &mut Xdp, interface: &str) -> Result<(), Error> {
    let failed = |reason: String| Error::Replace {
        interface: interface.to_owned(),
        reason,
    };
    let link = PinnedLink::from_pin(pin_path(shared, interface))
        .map_err(|error| failed(super::chain(&error)))?;
    let link =
        XdpLink::try_from(FdLink::from(link)).map_err(|error| failed(super::chain(&error)))?;
    // aya closes the descriptor on an error; the pin stays.
    let id = program
        .attach_to_link(link)
        .map_err(|error| failed(super::chain(&error)))?;
    program
        .take_link(id)
        .map_err(|error| failed(super::chain(&error)))?;
    Ok(())
}

/// Detaches and unpins, if there is a pin, and gives the interface back as it was.
pub fn detach(shared: &Path, interface: &str) -> Result<(), Error> {
    let path = pin_path(shared, interface);
    let detach = || {
        match sys::obj_get(&path) {
            // ENODEV or EINVAL: the interface has gone, and the attachment with it.
            Ok(link) => match sys::link_detach(link.as_fd()) {
                Err(error)
                    if !matches!(error.raw_os_error(), Some(libc::ENODEV | libc::EINVAL)) =>
                {
                    return Err(error);
                }
                _ => {}
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        bpffs::remove(&path)
    };
    detach().map_err(|source| Error::Pin {
        what: "detach the link at",
        path: path.clone(),
        source,
    })?;
    restore_rxvlan(shared, interface);
    Ok(())
}

/// Has the interface leave VLAN tags in the packet: XDP would neither see a stripped one nor send
/// it back. Notes what was, in the bpffs, so that a later daemon can restore it too.
fn keep_vlan_tags(shared: &Path, interface: &str, generic: bool) -> Result<(), Error> {
    match netdev::rxvlan(interface) {
        Ok(true) => {}
        // Interfaces without ethtool strip nothing.
        Ok(false) | Err(_) => return Ok(()),
    }
    if let Err(source) = netdev::set_rxvlan(interface, false) {
        // In generic mode the tag travels beside the packet, and comes back with it.
        return if generic {
            Ok(())
        } else {
            Err(Error::VlanStripped {
                interface: interface.to_owned(),
                source,
            })
        };
    }
    bpffs::create_dir(&rxvlan_folder(shared).join(file_name(interface)))
}

fn restore_rxvlan(shared: &Path, interface: &str) {
    if fs::remove_dir(rxvlan_folder(shared).join(file_name(interface))).is_ok()
        && let Err(error) = netdev::set_rxvlan(interface, true)
        && error.raw_os_error() != Some(libc::ENODEV)
    {
        tracing::warn!("{interface}: rxvlan stays off: {error}");
    }
}

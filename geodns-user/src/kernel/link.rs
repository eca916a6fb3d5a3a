//! The program on an interface: a `bpf_link`, pinned and held open.
//!
//! The pin keeps the program attached when the daemon dies, and the next one replaces the program inside the link
//! without a packet in between. The descriptor keeps it attached when somebody removes the pin ([`pins`]
//! puts it back).

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use super::netdev::{self, Netdev, Netdevs};
use super::pins::{Left, Pins};
use super::{Error, bpffs, pins, sys};
use crate::config::Mode;
use crate::fault;

/// A link, open: the program stays attached for as long as this lives, or a pin.
#[derive(Debug)]
pub struct Link(OwnedFd);

impl AsFd for Link {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Link {
    /// Opens what is pinned at a path; `None`: it is no link, or gone.
    pub fn open(path: &Path) -> io::Result<Option<Self>> {
        let link = match sys::obj_get(path) {
            Ok(object) => Self(object),
            Err(error) if error.kind() == io::ErrorKind::NotFound || path.is_dir() => {
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        Ok(link.id().is_some().then_some(link))
    }

    fn number(&self, field: &str) -> Option<u32> {
        let number = sys::fdinfo(self.as_fd(), field).ok().flatten()?;
        u32::try_from(number).ok().filter(|&number| number != 0)
    }

    /// Its number in the kernel.
    pub fn id(&self) -> Option<u32> {
        self.number("link_id")
    }

    /// Index of the interface that it is attached to; `None`: that interface has gone, or the link was detached.
    pub fn ifindex(&self) -> Option<u32> {
        self.number("ifindex")
    }

    /// Id of the program in it.
    pub fn program(&self) -> Option<u32> {
        self.number("prog_id")
    }

    /// Puts another program in it, in one step.
    pub fn replace(&self, program: BorrowedFd<'_>) -> io::Result<()> {
        sys::link_update(self.as_fd(), program)
    }

    /// Detaches it at once, whoever else holds it.
    pub fn detach(&self) -> io::Result<()> {
        match sys::link_detach(self.as_fd()) {
            // The interface has gone, and the attachment with it.
            Err(error) if matches!(error.raw_os_error(), Some(libc::ENODEV | libc::EINVAL)) => {
                Ok(())
            }
            other => other,
        }
    }

    /// The interface of this network namespace that it is attached to. One of another namespace may have the same
    /// name and index, but not the same program on it.
    pub fn interface<'a>(&self, netdevs: &'a Netdevs) -> Option<&'a Netdev> {
        let netdev = netdevs.at(self.ifindex()?)?;
        let program = self.program();
        let has_it = netdev
            .xdp
            .is_some_and(|xdp| program.is_some() && xdp.program == program);
        has_it.then_some(netdev)
    }
}

/// An interface that the program is attached to.
#[derive(Debug)]
pub struct Attachment {
    /// The interface's name.
    pub name: String,
    /// Its index.
    pub ifindex: u32,
    /// Whether the program runs in the stack's receive path, not in the driver.
    pub generic: bool,
    /// The attachment.
    pub link: Link,
    /// Whether rxvlan was on before.
    pub had_rxvlan: bool,
}

impl Attachment {
    /// Whether its link still holds.
    pub fn holds(&self) -> bool {
        self.link.ifindex() == Some(self.ifindex)
    }

    /// `native` or `generic`.
    pub fn mode(&self) -> &'static str {
        if self.generic { "generic" } else { "native" }
    }

    /// A link that an earlier daemon left on an interface.
    pub fn taken_over(left: Left, netdev: &Netdev) -> Self {
        Self {
            name: netdev.name.clone(),
            ifindex: netdev.ifindex,
            generic: netdev.xdp.is_some_and(|xdp| xdp.generic),
            link: left.link,
            had_rxvlan: left.had_rxvlan,
        }
    }

    /// Puts another program on the interface, in one step.
    pub fn replace(&self, program: BorrowedFd<'_>) -> Result<(), Error> {
        let replaced = fault::point("kernel: link").and_then(|()| self.link.replace(program));
        replaced.map_err(|error| Error::Replace {
            interface: self.name.clone(),
            reason: error.to_string(),
        })
    }

    /// Detaches it, unpins it, and gives the interface back as it was.
    pub fn detach(&self, pins: &Pins) -> Result<(), Error> {
        let path = pins.link(&self.name);
        let detached = self.link.detach().and_then(|()| bpffs::remove(&path));
        detached.map_err(|source| Error::Pin {
            what: "detach the link at",
            path,
            source,
        })?;
        let _ = fs::remove_dir(pins.note(&self.name));
        if self.had_rxvlan {
            restore_rxvlan(&self.name);
        }
        Ok(())
    }
}

/// Attaches a program to an interface that has none.
pub fn attach(
    pins: &Pins,
    program: BorrowedFd<'_>,
    netdev: &Netdev,
    mode: Mode,
) -> Result<Attachment, Error> {
    let (generic, fallback) = match mode {
        Mode::Generic | Mode::Off => (true, None),
        Mode::Native => (false, None),
        // What veth's driver sends (XDP_TX) its peer drops unless a program is there to take it,
        // and nobody can see from here whether there is.
        Mode::Auto if netdev.is_veth => {
            let interface = netdev.name.as_str();
            tracing::warn!(
                interface,
                "{interface}: this is a veth, where native answers arrive only if the other end has an XDP \
                 program too: if it has, set kernel.mode = \"native\""
            );
            (true, None)
        }
        // Whatever the driver's reason, the stack can.
        Mode::Auto => match try_attach(pins, program, netdev, false) {
            Ok(attachment) => return Ok(attachment),
            Err(error @ (Error::NoNative { .. } | Error::VlanStripped { .. })) => {
                (true, Some(error))
            }
            Err(error) => return Err(error),
        },
    };
    let attachment = try_attach(pins, program, netdev, generic)?;
    if let Some(reason) = fallback {
        tracing::warn!(
            interface = netdev.name,
            cause = %reason,
            "{reason}: attached in generic mode"
        );
    }
    Ok(attachment)
}

fn try_attach(
    pins: &Pins,
    program: BorrowedFd<'_>,
    netdev: &Netdev,
    generic: bool,
) -> Result<Attachment, Error> {
    let note = pins.note(&netdev.name);
    // A daemon before us may have turned it off, and its link be gone.
    let had_rxvlan = keep_vlan_tags(&netdev.name, generic)? || note.exists();
    let attach = || {
        if had_rxvlan {
            bpffs::create_dir(&note)?;
        }
        let link = sys::link_xdp(program, netdev.ifindex, generic)
            .map_err(|error| refusal(netdev, generic, &error))?;
        let link = Link(link);
        pins.put_link(&netdev.name, &link)?;
        Ok(link)
    };
    match attach() {
        Ok(link) => Ok(Attachment {
            name: netdev.name.clone(),
            ifindex: netdev.ifindex,
            generic,
            link,
            had_rxvlan,
        }),
        Err(error) => {
            let _ = fs::remove_dir(&note);
            if had_rxvlan {
                restore_rxvlan(&netdev.name);
            }
            Err(error)
        }
    }
}

/// Why an interface did not take the program.
fn refusal(netdev: &Netdev, generic: bool, error: &io::Error) -> Error {
    let interface = netdev.name.clone();
    let reason = error.to_string();
    match error.raw_os_error() {
        Some(libc::EBUSY | libc::EEXIST) => occupied(netdev),
        Some(libc::EPERM | libc::ENODEV | libc::ENOENT) => Error::Attach { interface, reason },
        _ if !generic => Error::NoNative { interface, reason },
        _ => Error::Attach { interface, reason },
    }
}

fn occupied(netdev: &Netdev) -> Error {
    let program = netdev.xdp.and_then(|xdp| xdp.program);
    let off = match netdev.xdp {
        Some(xdp) if xdp.generic => "xdpgeneric",
        _ => "xdpdrv",
    };
    let hint = program.and_then(pins::whose).unwrap_or_else(|| {
        format!(
            "detach it with `ip link set dev {} {off} off`, or end the process that holds its link",
            netdev.name
        )
    });
    Error::Occupied {
        interface: netdev.name.clone(),
        program,
        hint,
    }
}

/// Has the interface leave VLAN tags in the packet: XDP would neither see a stripped one nor send
/// it back. Whether it did not do so before.
fn keep_vlan_tags(interface: &str, generic: bool) -> Result<bool, Error> {
    match netdev::rxvlan(interface) {
        Ok(true) => {}
        // Interfaces without ethtool strip nothing.
        Ok(false) | Err(_) => return Ok(false),
    }
    match netdev::set_rxvlan(interface, false) {
        Ok(()) => Ok(true),
        // In generic mode the tag travels beside the packet, and comes back with it.
        Err(_) if generic => Ok(false),
        Err(source) => Err(Error::VlanStripped {
            interface: interface.to_owned(),
            source,
        }),
    }
}

/// Has the interface take VLAN tags off again.
pub fn restore_rxvlan(interface: &str) {
    if let Err(error) = netdev::set_rxvlan(interface, true)
        && error.raw_os_error() != Some(libc::ENODEV)
    {
        tracing::warn!(interface, cause = %error, "{interface}: rxvlan stays off: {error}");
    }
}

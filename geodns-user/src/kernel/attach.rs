//! Attaches the stub to an interface, pins its link, and takes both back.

use std::fs;
use std::io;
use std::os::fd::BorrowedFd;

use super::link::{Attachment, Link, restore_rxvlan};
use super::netdev::{Kind, Netdev, Netdevs};
use super::pins::{Left, Pins};
use super::{Error, bpffs, ethtool, pins, sys};
use crate::config::Mode;

impl Attachment {
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
            restore_rxvlan(self.ifindex, &self.name);
        }
        Ok(())
    }
}

/// Attaches a program to an interface that has none.
pub fn attach(
    pins: &Pins,
    program: BorrowedFd<'_>,
    netdev: &Netdev,
    netdevs: &Netdevs,
    mode: Mode,
) -> Result<Attachment, Error> {
    let has_vlans = !netdevs.vlans(netdev.ifindex).is_empty();
    let (generic, fallback) = match mode {
        Mode::Generic | Mode::Off => (true, None),
        Mode::Native => (false, None),
        // What veth's driver sends (XDP_TX) its peer drops unless a program is there to take it,
        // and nobody can see from here whether there is.
        Mode::Auto if netdev.kind == Kind::Veth => (true, None),
        // Whatever the driver's reason, the stack can.
        Mode::Auto => match try_attach(pins, program, netdev, has_vlans, false) {
            Ok(attachment) => return Ok(attachment),
            Err(error @ (Error::NoNative { .. } | Error::VlanStripped { .. })) => {
                (true, Some(error))
            }
            Err(error) => return Err(error),
        },
    };
    let attachment = try_attach(pins, program, netdev, has_vlans, generic)?;
    if mode == Mode::Auto && netdev.kind == Kind::Veth {
        let interface = netdev.name.as_str();
        tracing::warn!(
            interface,
            "{interface}: this is a veth, where native answers arrive only if the other end has an XDP \
             program too: if it has, set kernel.mode = \"native\""
        );
    }
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
    has_vlans: bool,
    generic: bool,
) -> Result<Attachment, Error> {
    let note = pins.note(&netdev.name);
    // A daemon before us may have turned it off, and its link be gone.
    let had_rxvlan = keep_vlan_tags(netdev, has_vlans, generic)? || note.exists();
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
                restore_rxvlan(netdev.ifindex, &netdev.name);
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
    let hint = program
        .and_then(|program| pins::whose(program, netdev.ifindex))
        .unwrap_or_else(|| {
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
fn keep_vlan_tags(netdev: &Netdev, has_vlans: bool, generic: bool) -> Result<bool, Error> {
    // In generic mode the tag travels beside the packet, and comes back with it. Some cards take their link down for a
    // change of this.
    if generic && !has_vlans {
        return Ok(false);
    }
    match ethtool::rxvlan(netdev.ifindex) {
        Ok(true) => {}
        // Interfaces without ethtool strip nothing.
        Ok(false) | Err(_) => return Ok(false),
    }
    let interface = netdev.name.as_str();
    match ethtool::set_rxvlan(netdev.ifindex, false) {
        Ok(()) => Ok(true),
        Err(_) if generic => Ok(false),
        Err(error) if !has_vlans => {
            tracing::info!(
                interface,
                cause = %error,
                "{interface}: it takes VLAN tags off, and that cannot be changed: VLANs upon it need \
                 kernel.mode = \"generic\""
            );
            Ok(false)
        }
        Err(source) => Err(Error::VlanStripped {
            interface: interface.to_owned(),
            source,
        }),
    }
}

//! Attaches the stub to an interface, pins its link, and takes both back.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use super::drivers::{Facts, Level};
use super::instance::Instance;
use super::link::{self, Attachment, Link};
use super::netdev::{Kind, Netdev, Netdevs};
use super::offloads::Offloads;
use super::pins::{Left, Pins};
use super::stub::{Build, Stub};
use super::stubs::Stubs;
use super::{Error, bpffs, extack, pins, sys};
use crate::config::Mode;

impl Attachment {
    /// A link that an earlier daemon left on an interface, by the name that the configuration has for it.
    pub fn taken_over(
        left: Left,
        name: &str,
        stubs: &Stubs,
        netdev: &Netdev,
        netdevs: &Netdevs,
    ) -> Self {
        let generic = netdev.xdp.is_some_and(|xdp| xdp.generic);
        Self {
            reason: generic.then(|| {
                let found = Facts::read(netdev, netdevs).native();
                let found: Vec<String> = found.iter().map(ToString::to_string).collect();
                match found.is_empty() {
                    true => "the daemon before attached it so".to_owned(),
                    false => found.join("; "),
                }
            }),
            name: name.to_owned(),
            ifindex: netdev.ifindex,
            generic,
            build: stubs.build(left.link.program()).unwrap_or(Build::Plain),
            link: left.link,
        }
    }

    /// Puts a stub in the place of the program in its link: the one with the frags mark, if the driver refuses the other.
    /// It calls the instance by then.
    pub fn take_stub(&mut self, stubs: &mut Stubs, instance: &mut Instance) -> Result<(), Error> {
        match self.replace(stubs.plain()) {
            Err(refused) if !self.generic => {
                let taken = self.take_frags(stubs, instance);
                taken.map_err(|_| refused)
            }
            done => done,
        }
    }

    /// Puts the stub with the frags mark there.
    pub fn take_frags(&mut self, stubs: &mut Stubs, instance: &mut Instance) -> Result<(), Error> {
        stubs.call_both(instance)?;
        self.replace(stubs.frags()?)
    }

    /// Detaches it and unpins it.
    pub fn detach(&self, pins: &Pins) -> Result<(), Error> {
        let path = pins.link(&self.name);
        let detached = self.link.detach().and_then(|()| bpffs::remove(&path));
        detached.map_err(|source| Error::Pin {
            what: "detach the link at",
            path,
            source,
        })
    }
}

/// Attaches a stub to an interface that has no program. `name`: the name that the configuration has for it, which its
/// link keeps. On an error offloads may be off that [`Offloads::follow`] gives back.
pub fn attach(
    pins: &Pins,
    offloads: &mut Offloads,
    stubs: &mut Stubs,
    name: &str,
    netdev: &Netdev,
    netdevs: &Netdevs,
    mode: Mode,
) -> Result<Attachment, Error> {
    if let Some(instead) = netdevs.instead_of(netdev) {
        return Err(Error::Unfit {
            interface: netdev.name.clone(),
            instead,
        });
    }
    let interface = name;
    let in_vain = Facts::read(netdev, netdevs).in_vain();
    let (generic, reason) = match mode {
        Mode::Generic | Mode::Off => (true, Some("kernel.mode is \"generic\"".to_owned())),
        Mode::Native => (false, None),
        // What veth's driver sends (XDP_TX) its peer drops unless a program is there to take it,
        // and nobody can see from here whether there is.
        Mode::Auto if netdev.kind == Kind::Veth => {
            let reason = "this is a veth, where native answers arrive only if the other end has an XDP program too: \
                          if it has, set kernel.mode = \"native\"";
            (true, Some(reason.to_owned()))
        }
        Mode::Auto if in_vain.is_some() => (true, in_vain.map(|finding| finding.to_string())),
        // Whatever the driver's reason, the stack can.
        Mode::Auto => match attach_native(pins, offloads, stubs, name, netdev, netdevs) {
            Ok(attachment) => return Ok(attachment),
            Err(
                error @ (Error::NoNative { .. }
                | Error::NoFrags { .. }
                | Error::VlanStripped { .. }),
            ) => {
                match Facts::read(netdev, netdevs).generic() {
                    Some(finding) if finding.level == Level::Problem => {
                        return Err(Error::NoMode {
                            native: Box::new(error),
                            generic: finding.to_string(),
                        });
                    }
                    Some(finding) => tracing::warn!(interface, "{interface}: {finding}"),
                    None => {}
                }
                let error = error.to_string();
                let reason = error.strip_prefix(&format!("{interface}: "));
                (true, Some(reason.unwrap_or(&error).to_owned()))
            }
            Err(error) => return Err(error),
        },
    };
    if !generic {
        return attach_native(pins, offloads, stubs, name, netdev, netdevs);
    }
    let plain = stubs.plain();
    let mut attachment = try_attach(pins, offloads, plain, name, netdev, netdevs, generic)?;
    if let (Mode::Auto, Some(reason)) = (mode, &reason) {
        tracing::warn!(interface, "{interface}: attached in generic mode: {reason}");
    }
    attachment.reason = reason;
    Ok(attachment)
}

/// Attaches a stub in the driver: the one with the frags mark, if the driver has refused the other.
fn attach_native(
    pins: &Pins,
    offloads: &mut Offloads,
    stubs: &mut Stubs,
    name: &str,
    netdev: &Netdev,
    netdevs: &Netdevs,
) -> Result<Attachment, Error> {
    let mut attach = |stub: &Stub| try_attach(pins, offloads, stub, name, netdev, netdevs, false);
    let refused = match attach(stubs.plain()) {
        Err(error @ Error::NoNative { .. }) => error,
        done => return done,
    };
    match stubs.frags() {
        Ok(stub) => attach(stub),
        Err(error) => Err(Error::NoFrags {
            plain: Box::new(refused),
            frags: Box::new(error),
        }),
    }
}

fn try_attach(
    pins: &Pins,
    offloads: &mut Offloads,
    stub: &Stub,
    name: &str,
    netdev: &Netdev,
    netdevs: &Netdevs,
    generic: bool,
) -> Result<Attachment, Error> {
    let program = stub.as_fd();
    let link = || {
        let link = sys::link_xdp(program, netdev.ifindex, generic);
        link.map_err(|error| refusal(program, netdev, netdevs, generic, &error))
    };
    let link = Link(offloads.attach(pins, netdev, netdevs, generic, link)?);
    pins.put_link(name, &link)?;
    Ok(Attachment {
        name: name.to_owned(),
        ifindex: netdev.ifindex,
        generic,
        build: stub.build(),
        reason: None,
        link,
    })
}

/// Explains why an interface did not take the program.
pub fn refusal(
    program: BorrowedFd<'_>,
    netdev: &Netdev,
    netdevs: &Netdevs,
    generic: bool,
    error: &io::Error,
) -> Error {
    let interface = netdev.name.clone();
    match error.raw_os_error() {
        Some(libc::EBUSY | libc::EEXIST) => return occupied(netdev, netdevs),
        Some(libc::EPERM | libc::ENODEV | libc::ENOENT) => {
            let reason = error.to_string();
            return Error::Attach { interface, reason };
        }
        _ => {}
    }
    let reason = match extack::reason(program, netdev.ifindex, generic) {
        Some(text) => format!("{text:?}"),
        None => error.to_string(),
    };
    if generic {
        return Error::Attach { interface, reason };
    }
    let facts = Facts::read(netdev, netdevs);
    Error::NoNative {
        interface,
        advice: facts.native(),
        driver: facts.driver,
        reason,
    }
}

/// Tells whose program is in the way: on the interface itself, or on one below or upon it, which Linux takes no other
/// beside.
fn occupied(netdev: &Netdev, netdevs: &Netdevs) -> Error {
    let beside = netdevs
        .lowers(netdev.ifindex)
        .chain(netdevs.with_uppers(netdev.ifindex));
    let mut beside = beside.filter_map(|of| Some((of, of.xdp?)));
    if netdev.xdp.is_none()
        && let Some((of, xdp)) = beside.next()
    {
        return Error::OccupiedBeside {
            interface: netdev.name.clone(),
            other: of.name.clone(),
            program: xdp.program,
        };
    }
    let program = netdev.xdp.and_then(|xdp| xdp.program);
    let off = match netdev.xdp {
        Some(xdp) if xdp.generic => "xdpgeneric",
        _ => "xdpdrv",
    };
    let hint = program.and_then(|program| {
        let held = || Some(format!("{} holds its link: end it", link::holder(program)?));
        pins::whose(program, netdev.ifindex).or_else(held)
    });
    let hint = hint.unwrap_or_else(|| {
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

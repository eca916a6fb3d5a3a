//! The program on an interface: a `bpf_link`, pinned and held open.
//!
//! The pin keeps the program attached when the daemon dies, and the next one takes the link over. A link of a release
//! without a [`stub`](super::stub) gets it in the place of its program, without a packet in between. The descriptor
//! keeps it attached when somebody removes the pin ([`pins`](super::pins) puts it back).

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use super::netdev::{Netdev, Netdevs};
use super::stub::{Build, Stub};
use super::{Error, sys};

/// A link, open: the program stays attached for as long as this lives, or a pin.
#[derive(Debug)]
pub struct Link(pub OwnedFd);

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
    /// name and index, but has its link, and so its program, from another folder of pins.
    pub fn interface<'a>(&self, netdevs: &'a Netdevs) -> Option<&'a Netdev> {
        let netdev = netdevs.at(self.ifindex()?)?;
        let program = self.program();
        let has_it = netdev
            .xdp
            .is_some_and(|xdp| program.is_some() && xdp.program == program);
        has_it.then_some(netdev)
    }
}

/// Names the process that holds the link of a program, as far as we may look at others' descriptors.
pub fn holder(program: u32) -> Option<String> {
    let holds = |fdinfo: &str| {
        let mut fields = fdinfo.lines().filter_map(|line| line.split_once(':'));
        fdinfo.contains("link_id:")
            && fields.any(|(name, value)| name == "prog_id" && value.trim().parse() == Ok(program))
    };
    let processes = fs::read_dir("/proc").ok()?.flatten();
    for process in processes {
        let name = process.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        let descriptors = fs::read_dir(process.path().join("fdinfo"));
        let mut descriptors = descriptors.into_iter().flatten().flatten();
        if descriptors.any(|of| fs::read_to_string(of.path()).is_ok_and(|text| holds(&text))) {
            let name = fs::read_to_string(process.path().join("comm")).unwrap_or_default();
            return Some(format!("process {pid} ({})", name.trim()));
        }
    }
    None
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
    /// The build of the stub that is in the link.
    pub build: Build,
    /// Why it runs in the receive path; `None` in native mode.
    pub reason: Option<String>,
    /// The attachment.
    pub link: Link,
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

    /// Puts a stub on the interface in the place of the program that is there, in one step.
    pub fn replace(&mut self, stub: &Stub) -> Result<(), Error> {
        let replaced = self.link.replace(stub.as_fd());
        replaced.map_err(|error| Error::Replace {
            interface: self.name.clone(),
            reason: error.to_string(),
        })?;
        self.build = stub.build();
        Ok(())
    }
}

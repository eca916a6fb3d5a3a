//! Interfaces that the program is to be attached to and is not: they are not there, or have refused it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::link::Attachment;
use super::netdev::{Netdev, Netdevs};
use super::offloads::Offloads;
use super::pins::Pins;
use super::stubs::Stubs;
use super::{Error, Settings, attach};

/// How often an interface is tried that has refused the program: not all that mends it is told by the kernel.
const TRY_AGAIN: Duration = Duration::from_secs(60);

/// These interfaces by name, each with its last failure.
#[derive(Debug, Default)]
pub struct Waiting(BTreeMap<String, Failed>);

/// A try that has failed.
#[derive(Debug)]
struct Failed {
    /// The interface then; `None`: it was not there.
    netdev: Option<Netdev>,
    error: Error,
    at: Instant,
    /// Whether the error is in the log.
    is_said: bool,
}

/// An interface that the program is not attached to.
#[derive(Clone, Copy, Debug)]
pub struct NotAttached<'a> {
    /// Its name.
    pub name: &'a str,
    /// Whether it is there.
    pub is_there: bool,
    /// Why not.
    pub error: &'a Error,
}

impl NotAttached<'_> {
    /// `waiting` for it to come, or `refused`.
    pub fn state(&self) -> &'static str {
        if self.is_there { "refused" } else { "waiting" }
    }
}

impl Failed {
    /// Whether it may end in another way by now.
    fn is_due(&self, netdev: Option<&Netdev>) -> bool {
        if self.netdev.as_ref() != netdev {
            return true;
        }
        match (&self.error, netdev) {
            (_, None) => false,
            // Its program may be gone, or that of an interface upon or below it.
            (Error::Occupied { .. } | Error::OccupiedBeside { .. }, Some(netdev)) => {
                netdev.xdp.is_none()
            }
            // A try costs some cards their link for a moment.
            (Error::VlanStripped { .. }, Some(_)) => false,
            _ => self.at.elapsed() >= TRY_AGAIN,
        }
    }
}

impl Waiting {
    /// Attaches the program to those interfaces of the settings that it is not attached to, and that may take it by
    /// now.
    pub fn attach(
        &mut self,
        pins: &Pins,
        stubs: &mut Stubs,
        settings: &Settings,
        attached: &[Attachment],
        offloads: &mut Offloads,
        netdevs: &Netdevs,
    ) -> Vec<Attachment> {
        let mut fresh = Vec::new();
        for name in netdevs.lowers_first(&settings.interfaces) {
            let netdev = netdevs.named(name);
            let failed = self.0.get(name);
            let is_attached =
                |netdev: &Netdev| attached.iter().any(|at| at.ifindex == netdev.ifindex);
            if netdev.is_some_and(is_attached)
                || failed.is_some_and(|failed| !failed.is_due(netdev))
            {
                continue;
            }
            let done = match netdev {
                Some(netdev) => {
                    attach::attach(pins, offloads, stubs, name, netdev, netdevs, settings.mode)
                }
                None => Err(Error::UnknownInterface {
                    name: name.to_owned(),
                    have: netdevs.names(),
                }),
            };
            match done {
                Ok(attachment) => {
                    self.0.remove(name);
                    fresh.push(attachment);
                }
                Err(error) => self.fail(name, netdev, error),
            }
        }
        fresh
    }

    fn fail(&mut self, name: &str, netdev: Option<&Netdev>, error: Error) {
        let text = error.to_string();
        let before = self.0.get(name);
        let is_said =
            before.is_some_and(|before| before.is_said && before.error.to_string() == text);
        let failed = Failed {
            netdev: netdev.cloned(),
            error,
            at: Instant::now(),
            is_said,
        };
        self.0.insert(name.to_owned(), failed);
    }

    /// Notes that an interface has gone, which its caller has said.
    pub fn gone(&mut self, name: &str, netdevs: &Netdevs) {
        let failed = Failed {
            netdev: None,
            error: Error::UnknownInterface {
                name: name.to_owned(),
                have: netdevs.names(),
            },
            at: Instant::now(),
            is_said: true,
        };
        self.0.insert(name.to_owned(), failed);
    }

    /// Logs each error once.
    pub fn complain(&mut self) {
        for (name, failed) in &mut self.0 {
            if std::mem::replace(&mut failed.is_said, true) {
                continue;
            }
            let again = match failed.netdev {
                None => "it is attached to when it comes",
                Some(_) => "it is tried again",
            };
            tracing::warn!(
                interface = name,
                "{}; {again}, and the slow path answers meanwhile",
                failed.error
            );
        }
    }

    /// Forgets all, so that all are tried at once, and their errors are logged again.
    pub fn forget(&mut self) {
        self.0.clear();
    }

    /// One of the errors.
    pub fn into_error(self) -> Option<Error> {
        self.0.into_values().map(|failed| failed.error).next()
    }

    /// Each interface.
    pub fn all(&self) -> impl Iterator<Item = NotAttached<'_>> {
        self.0.iter().map(|(name, failed)| NotAttached {
            name,
            is_there: failed.netdev.is_some(),
            error: &failed.error,
        })
    }

    /// Whether an interface refuses the program, so that it is to be tried again before long.
    pub fn is_refused(&self) -> bool {
        self.all().any(|at| at.is_there)
    }
}

//! This node's place in an anycast set: kernel routes whose metric says how it stands.
//!
//! A routing daemon (BIRD, FRR) learns the routes and tells its neighbours. geodns speaks no BGP.
//!
//! - [`course`]: decides how the node is announced, from all that is known of it; pure
//! - [`hold_down`]: how long a node that has failed stays the last resort; pure
//! - [`links`]: interfaces that have a carrier, and the addresses of `lo`
//! - [`probe`]: asks the node itself
//! - [`route`]: the device, and the routes on it
//! - [`snippet`]: the configuration with which BIRD and FRR carry the routes; pure
//! - [`told`]: asks BIRD and FRR whether neighbours are told
//! - [`machine`]: settings of this machine that are in the way
//! - [`holder`]: the process that holds the device and outlives the daemon
//!
//! The holder is a process of its own. It opens no socket to strangers, and keeps no privilege but CAP_NET_ADMIN. When
//! the daemon dies, the holder makes the routes the last resort at once: clients move where another node is up, and
//! where none is, the kernel goes on answering for `kernel.stale_after`. When the holder dies, the kernel removes the
//! device and its routes.

pub mod course;
pub mod hold_down;
pub mod holder;
pub mod links;
pub mod machine;
pub mod probe;
pub mod route;
pub mod snippet;
pub mod told;

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;
use links::Links;

use crate::config::Announce;

/// How a node is announced. The metric of its routes says it to the routing daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// Not announced yet: the node cannot answer so far.
    Waiting,
    /// Announced.
    Up,
    /// Announced as one that is about to leave (RFC 8326, GRACEFUL_SHUTDOWN).
    Draining,
    /// Announced as the last choice: it does not answer as it should, or has failed shortly before.
    LastResort,
    /// Announced as the last choice: it would leave, and too few other nodes are up.
    Held,
    /// Not announced any more.
    Withdrawn,
}

impl State {
    /// Each of them, best first.
    pub const ALL: [Self; 6] = [
        Self::Up,
        Self::Draining,
        Self::LastResort,
        Self::Held,
        Self::Withdrawn,
        Self::Waiting,
    ];

    /// The metric of the routes; `None`: there are none.
    pub const fn metric(self) -> Option<u32> {
        match self {
            Self::Up => Some(100),
            Self::Draining => Some(200),
            Self::LastResort | Self::Held => Some(LAST_RESORT),
            Self::Waiting | Self::Withdrawn => None,
        }
    }

    /// Its name, as commands and metrics have it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Up => "up",
            Self::Draining => "draining",
            Self::LastResort => "last-resort",
            Self::Held => "held",
            Self::Withdrawn => "withdrawn",
        }
    }
}

/// Metric of a node that is the last choice.
pub const LAST_RESORT: u32 = 300;

/// Prefixes that are announced, of a server that listens on these addresses: those of the configuration, else a /32 or
/// /128 of each address that is on `lo`.
pub fn prefixes(
    config: &Announce,
    listen: impl IntoIterator<Item = IpAddr>,
    links: &Links,
) -> BTreeSet<IpNet> {
    match &config.prefixes {
        Some(prefixes) => prefixes.iter().copied().collect(),
        None => {
            let listen = listen.into_iter();
            let on_lo = listen.filter(|address| links.lo.contains(address));
            on_lo.map(IpNet::from).collect()
        }
    }
}

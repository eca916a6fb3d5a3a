//! The words that the files of the slow path share: how a message comes, who answers it, and what the answer was.

use std::net::IpAddr;

use geodns_common::abi;

use crate::config::Secrets;
use crate::world::World;

/// The protocol that carries a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// UDP: bounded by the client's size, truncated past it.
    Udp,
    /// TCP: up to 65,535 octets.
    Tcp,
    /// TLS over TCP: as TCP, and padded where the client asks for it.
    Tls,
}

/// How this server names itself to clients that ask, and the secrets of its cookies.
#[derive(Clone, Debug)]
pub struct Identity {
    /// `id.server` and `hostname.bind` in class CH; `None`: such queries are refused, as for the others.
    pub id: Option<String>,
    /// NSID (RFC 5001), its first 128 octets.
    pub nsid: Option<String>,
    /// `version.bind` and `version.server` in class CH.
    pub version: Option<String>,
    /// The secrets that cookies are made with; `None`: no cookies are made.
    pub cookies: Option<Secrets>,
}

impl Identity {
    /// NSID.
    pub fn nsid(&self) -> Option<&[u8]> {
        let id = self.nsid.as_ref()?.as_bytes();
        Some(&id[..id.len().min(abi::NSID_MAX)])
    }
}

/// The facts of an answer that are counted and sampled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Response code, extended.
    pub rcode: u16,
    /// A pool answered.
    pub steered: bool,
    /// TC is set.
    pub truncated: bool,
    /// The query had a client subnet.
    pub ecs: bool,
    /// The client that a pool answered.
    pub sample: Option<Sample>,
    /// The counter of the mirror that is first in a pool's answer (`Pool::counter`).
    pub counter: Option<u32>,
    /// TC is set for a bound that a client with a good cookie does not have.
    pub wants_cookie: bool,
}

impl Outcome {
    /// Counts an answer of a pool by the mirror that is first in it, if the world counts them.
    pub fn count_mirror(&self, world: &World, writer: usize) {
        if let (Some(by_mirror), Some(counter)) = (&world.by_mirror, self.counter) {
            by_mirror.add(writer, counter);
        }
    }

    /// A response that is nothing but its code.
    pub const fn of(rcode: u16) -> Self {
        Self {
            rcode,
            steered: false,
            truncated: false,
            ecs: false,
            sample: None,
            counter: None,
            wants_cookie: false,
        }
    }
}

/// A client that was answered from a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// Number of the plan.
    pub generation: u64,
    /// Number of the pool in it that was asked.
    pub pool: usize,
    /// The address that counted.
    pub client: IpAddr,
}

//! The slow path: the authoritative server in userspace, UDP and TCP.
//!
//! - [`authority`]: one DNS message in; none, one or many out: whatever arrives
//! - [`answer`]: a query in, one message out; what it writes for a steered name is byte for byte what
//!   the fast path would
//! - `server`: sockets and workers, on addresses that may change (each an `endpoint`)
//! - `stats`: what it counted
//! - `seen`: clients that it answered lately; `asked`: names that it was asked for since the kernel's table lacks them
//! - `seldom`: lines of the log that strangers cause
//!
//! Inside, an answer: `query` reads, `lookup` finds, `respond` decides (with `subnet`), `write` writes (with `cookies`). Around it, the
//! transports: `udp` (threads, by the `batch`, within the limit of the `limiter`) and `tcp` (tasks, within the bounds of `connections` and `places`) ask
//! a `handler`, which makes ready for the names of a batch (`prefetch`), verifies and makes signatures (`signed`), hears that zones have changed (`notices`) and
//! gives whole zones away (`transfer`, with the `composer`).
//!
//! # How queries come
//!
//! **UDP.** There is a thread for each core, 16 at the most, and each has a socket for each listen address. So an answer
//! leaves from the address that was asked, and the kernel spreads clients over the threads (SO_REUSEPORT). A thread
//! waits for all its sockets by epoll. It takes up to 32 datagrams by one system call, then goes on to the next socket,
//! so that a flood on one address leaves the others their turn. It answers a batch from one world, counts in numbers of
//! its own, and sends the batch by one call. A new or removed address is an order to the threads, and their other
//! sockets stay as they are.
//!
//! **Prefetch.** In a zone larger than the caches, a random name costs two waits for memory: for the line of the index
//! that says where its node is, and for the node. `prefetch` asks for the lines of all names of a batch, then for the
//! nodes, so that they wait together. Answers are the same without it.
//!
//! **TCP and TLS** are tokio tasks. A task answers together all queries that a segment brings, and writes once. A
//! transfer (`Answer::Stream`) is written by a task of its own, whole messages at a time, between the answers to the
//! connection's next queries; a fifth transfer on a connection waits until one of four ends.
//!
//! The bounds of a connection:
//! - 10 s until a query is whole, for a handshake, and for each write; 2 s when more than half of all connections are
//!   in use
//! - 16 KB of answers waiting beside the last one
//! - 4,096 connections, or as many as the listen addresses leave file descriptors for; TLS has half of them for itself
//!
//! A new client always gets a place (`places` says who loses one). A client is idle, too, while it has not yet sent a
//! whole query or a whole handshake. Over TLS the OPT record of a response is padded to a block of 468 octets, its
//! signature counted, if the query's OPT record has that option.
//!
//! **A panic while answering** is caught. The message is answered with SERVFAIL, `panics` counts it, and the worker goes
//! on. The log has the query in hex, for one panic each 10 s.

mod asked;
mod batch;
mod composer;
mod connections;
mod cookies;
mod endpoint;
mod handler;
pub mod limiter;
pub mod lookup;
mod notices;
mod places;
mod prefetch;
mod query;
mod respond;
mod seen;
mod seldom;
mod server;
mod signed;
mod stats;
pub mod subnet;
mod tcp;
#[cfg(test)]
mod tests;
mod transfer;
mod udp;
mod write;

use std::net::IpAddr;

pub use batch::BATCH;
pub use endpoint::Endpoint;
pub use handler::{Answer, Messages, Request, authority};
pub use notices::{Notice, Notices};
pub use respond::Outcome;
pub use seen::Sample;
pub use server::{ListenError, Options, Server};
pub use stats::Stats;

use geodns_common::abi;

use crate::config::Secrets;
use crate::world::World;

/// What carries a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// UDP: bounded by the client's size, truncated past it.
    Udp,
    /// TCP: up to 65,535 octets.
    Tcp,
    /// TLS over TCP: as TCP, and padded where the client asks for it.
    Tls,
}

/// Who we say we are.
#[derive(Clone, Debug)]
pub struct Identity {
    /// `id.server` and `hostname.bind` in class CH; `None`: nobody is told, as of the others.
    pub id: Option<String>,
    /// NSID (RFC 5001), its first 128 octets.
    pub nsid: Option<String>,
    /// `version.bind` and `version.server` in class CH.
    pub version: Option<String>,
    /// What cookies are made with; `None`: none are.
    pub cookies: Option<Secrets>,
}

impl Identity {
    /// NSID.
    fn nsid(&self) -> Option<&[u8]> {
        let id = self.nsid.as_ref()?.as_bytes();
        Some(&id[..id.len().min(abi::NSID_MAX)])
    }
}

/// Answers one message into `response` (cleared first). `false`: send nothing.
pub fn answer(
    world: &World,
    identity: &Identity,
    query: &[u8],
    client: IpAddr,
    transport: Transport,
    response: &mut Vec<u8>,
) -> bool {
    respond::respond(world, identity, query, client, transport, response).is_some()
}

/// Makes ready for the answers to several messages, [`BATCH`] at the most: names of large zones are fetched from
/// memory for all of them at once. The answers are the same without.
pub fn prefetch<'a>(world: &World, messages: impl Iterator<Item = &'a [u8]>) {
    prefetch::prefetch(world, messages);
}

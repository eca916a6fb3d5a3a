//! The slow path: the authoritative server in userspace, over UDP, TCP and TLS.
//!
//! [`authority`] answers one DNS message with none, one or many. [`answer()`] answers a query that is not signed with
//! one message. What both write for a steered name is byte for byte what the fast path would.
//!
//! The files, each of which uses only those above it:
//!
//! - `message`: how a message comes, who answers it, and what the answer was
//! - `query`: reads a message
//! - [`lookup`]: finds what a zone has for a name
//! - [`subnet`], `cookies`: client subnets, DNS cookies
//! - `stats`: the counters
//! - `seen`: a sample of the clients that were answered lately
//! - `asked`: a sample of the names that were asked for since the kernel's table lacks them
//! - `arrivals`: queries over UDP by the interface that they came by
//! - `seldom`: lines of the log that strangers cause
//! - `notices`: the queue of NOTIFYs
//! - `tsig`: verifies and makes TSIG signatures
//! - `composer`: messages that are built with `domain`
//! - `stream`: the messages of a zone transfer
//! - `request`: a message on its way: request, verified, unsigned, answer
//! - `write`: writes a response
//! - `respond`: answers a query, in one message
//! - `notify`: answers a NOTIFY
//! - `transfer`: decides who gets a zone
//! - `authority`: verify, answer, sign
//! - `batch`: many datagrams by one system call
//! - `prefetch`: makes ready for the names of a batch
//! - `guard`: a panic while answering ends nobody
//! - [`limiter`]: response rate limiting
//! - `connections`: the connections of TCP and TLS, on the seats of [`base`](crate::base::seats)
//! - `endpoint`: an address to listen on
//! - `shared`: what the workers of all transports share
//! - `udp`, `tcp`: the transports: threads, and tasks
//! - `server`: sockets and workers, on addresses that may change
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
//! A new client always gets a seat ([`seats`](crate::base::seats) says who loses one). A client is idle, too, while it
//! has not yet sent a whole query or a whole handshake. Over TLS the OPT record of a response is padded to a block of
//! 468 octets, its signature counted, if the query's OPT record has that option.
//!
//! **A panic while answering** is caught. The message is answered with SERVFAIL, `panics` counts it, and the worker goes
//! on. The log has the query in hex, for one panic each 10 s.

mod arrivals;
mod asked;
mod authority;
mod batch;
mod composer;
mod connections;
mod cookies;
mod endpoint;
mod guard;
pub mod limiter;
pub mod lookup;
mod message;
mod notices;
mod notify;
mod prefetch;
mod query;
mod request;
mod respond;
mod seen;
mod seldom;
mod server;
mod shared;
mod stats;
mod stream;
pub mod subnet;
mod tcp;
#[cfg(test)]
mod tests;
mod transfer;
mod tsig;
mod udp;
mod write;

use std::net::IpAddr;

pub use arrivals::ByInterface;
pub use authority::authority;
pub use batch::BATCH;
pub use endpoint::Endpoint;
pub use message::{Identity, Outcome, Sample, Transport};
pub use notices::{Notice, Notices};
pub use request::{Answer, Messages, Request};
pub use server::{ListenError, Options, Server};
pub use stats::Stats;

use query::Query;
use request::Verified;

use crate::world::World;

/// Answers one query into `response` (cleared first), as if it were not signed. `false`: send nothing.
pub fn answer(
    world: &World,
    identity: &Identity,
    query: &[u8],
    client: IpAddr,
    transport: Transport,
    response: &mut Vec<u8>,
) -> bool {
    let request = Request {
        world,
        notices: &Notices::default(),
        identity,
        message: query,
        client,
        transport,
        bound: None,
    };
    let Some(query) = Query::parse(query, transport) else {
        return false;
    };
    let verified = Verified {
        request,
        query,
        signer: None,
    };
    respond::answer(&verified, response);
    true
}

/// Makes ready for the answers to several messages, [`BATCH`] at the most: names of large zones are fetched from
/// memory for all of them at once. The answers are the same without.
pub fn prefetch<'a>(world: &World, messages: impl Iterator<Item = &'a [u8]>) {
    prefetch::prefetch(world, messages);
}

//! dnstap: queries and responses of both paths, for other programs to read.
//!
//! The slow path offers each exchange to the [`Tap`]. Those of the fast path come from the ring buffer that the
//! program tells of samples by. The tap takes one in N of them, and never waits: an exchange that finds its queue full
//! is counted, and gone. A task writes them to a Unix socket or a file.
//!
//! - `frame`: an exchange, out of the frames of the program
//! - `message`: the messages of dnstap.proto
//! - `streams`: Frame Streams, the container that they travel in
//! - `output`: writes to a socket or a file

mod frame;
mod message;
mod output;
mod streams;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::SystemTime;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;

pub use frame::exchange;

use crate::config::Dnstap;

/// Exchanges that wait to be written, at the most.
const WAITING: usize = 16 << 10;
/// Octets of their messages, at the most.
const WAITING_OCTETS: usize = 16 << 20;

/// The transport of an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// UDP.
    Udp,
    /// TCP.
    Tcp,
    /// DNS over TLS.
    Tls,
}

/// A query, and the response to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exchange {
    /// When the query came.
    pub asked: SystemTime,
    /// When it was answered or dropped.
    pub answered: SystemTime,
    /// The client.
    pub client: SocketAddr,
    /// The address that was asked.
    pub server: SocketAddr,
    /// The transport.
    pub protocol: Protocol,
    /// The query.
    pub query: Vec<u8>,
    /// The response; `None`: there was none, or it is a zone transfer.
    pub response: Option<Vec<u8>>,
}

impl Exchange {
    fn octets(&self) -> usize {
        self.query.len() + self.response.as_ref().map_or(0, Vec::len)
    }
}

/// Counters of a tap.
#[derive(Debug, Default)]
pub struct Counts {
    written: AtomicU64,
    lost: AtomicU64,
    waiting: AtomicUsize,
}

impl Counts {
    /// Exchanges that were written.
    pub fn written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }

    /// Exchanges that were taken and could not be written.
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    fn lose(&self) {
        self.lost.fetch_add(1, Ordering::Relaxed);
    }
}

/// The place where exchanges are offered. Its writer ends when the last clone is dropped.
#[derive(Clone, Debug)]
pub struct Tap {
    every: u32,
    queue: mpsc::Sender<Exchange>,
    counts: Arc<Counts>,
}

impl Tap {
    /// Opens one as the configuration says, with its writer. `identity`: the name of this server.
    pub fn open(config: &Dnstap, identity: &str, counts: Arc<Counts>) -> (Self, JoinHandle<()>) {
        let (queue, exchanges) = mpsc::channel(WAITING);
        let identity = config.identity.as_deref().unwrap_or(identity);
        let writer = output::write(
            config.to.clone(),
            identity.as_bytes().to_vec(),
            exchanges,
            Arc::clone(&counts),
        );
        let tap = Self {
            every: config.every,
            queue,
            counts,
        };
        (tap, tokio::spawn(writer))
    }

    /// log2 of how many queries there are for one that is taken.
    pub fn shift(&self) -> u32 {
        self.every.trailing_zeros()
    }

    /// Whether the next exchange of the slow path is to be offered.
    pub fn is_turn(&self) -> bool {
        self.every == 1 || rand::random::<u32>() & (self.every - 1) == 0
    }

    /// Takes an exchange, or loses it.
    pub fn take(&self, exchange: Exchange) {
        let octets = exchange.octets();
        let waiting = &self.counts.waiting;
        if waiting.fetch_add(octets, Ordering::Relaxed) + octets > WAITING_OCTETS
            || self.queue.try_send(exchange).is_err()
        {
            waiting.fetch_sub(octets, Ordering::Relaxed);
            self.counts.lose();
        }
    }
}

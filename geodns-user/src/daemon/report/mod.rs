//! The daemon reports on itself: failures, addresses that it does not listen on, its state in a line.
//!
//! - `failure`: the last failure that is not over
//! - `listening`: addresses that the server does not listen on
//! - `summary`: the state in a line
//! - `systemd`: messages to systemd

mod failure;
mod listening;
mod summary;
pub mod systemd;

use super::Daemon;
use crate::observe::counters;

pub use failure::LastFailure;
pub use listening::NotListening;

/// State of the reports to `geodns status` and systemd.
#[derive(Default)]
pub struct Report {
    /// The last failure that is not over.
    pub failure: LastFailure,
    /// Addresses that the server does not listen on.
    pub not_listening: NotListening,
    /// Why the program is not loaded, though `kernel.mode` is not off.
    pub not_loaded: Option<String>,
    /// The last beat of the heartbeat.
    pub pulse: systemd::Pulse,
}

impl Daemon {
    /// Queries of others so far: those that the program has answered, and all of the slow path.
    pub fn queries(&self) -> u64 {
        let slow = self.server.stats().queries().into_iter().sum::<u64>();
        let counted = self.counters.as_ref().map(|counters| counters.read());
        let fast = counted.and_then(Result::ok);
        slow.wrapping_add(fast.map_or(0, |counts| counters::answered(&counts)))
    }
}

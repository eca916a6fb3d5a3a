//! The queue of NOTIFYs (RFC 1996) that primaries have sent, for whoever transfers zones.

use std::net::IpAddr;
use std::sync::Arc;

use tokio::sync::mpsc;

use super::stats::{Counter, Stats};
use crate::base::name::Name;

/// Notices that nobody has looked at yet, at the most. More are dropped: they come again.
const WAITING: usize = 256;

/// A primary says that a zone of its has changed.
#[derive(Clone, Debug)]
pub struct Notice {
    /// Apex.
    pub apex: Name,
    /// The primary.
    pub from: IpAddr,
    /// The serial that the zone has now, if the primary says so.
    pub serial: Option<u32>,
}

/// The sender's end of the queue. Nobody listens to the default.
#[derive(Debug, Default)]
pub struct Notices(Option<(mpsc::Sender<Notice>, Arc<Stats>)>);

impl Notices {
    /// A queue with its receiver, which counts there.
    pub(super) fn new(stats: Arc<Stats>) -> (Self, mpsc::Receiver<Notice>) {
        let (tell, heard) = mpsc::channel(WAITING);
        (Self(Some((tell, stats))), heard)
    }

    /// Puts a notice into the queue, if there is room.
    pub fn tell(&self, notice: Notice) {
        let Some((tell, stats)) = &self.0 else { return };
        stats.add(Counter::NotifyHeard);
        if tell.try_send(notice).is_err() {
            stats.add(Counter::NotifyMerged);
        }
    }
}

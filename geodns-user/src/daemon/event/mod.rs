//! Events: kept on disk, read from there and from memory, and followed.
//!
//! - `history`: kept and read
//! - `follow`: whoever follows them
//! - `notify`: targets that are told of them

mod follow;
mod history;
mod notify;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use async_trait::async_trait;
use tokio::sync::{Semaphore, watch};

use super::control::Control;
use crate::control::event::Asked;
use crate::control::problem::Failure;
use crate::control::watch::Stream;
use crate::event::{Event, Journal};

/// Followers, at the most.
const FOLLOWERS: usize = 32;

/// The events of this node.
pub struct Events {
    /// The latest ones.
    pub journal: Arc<Journal>,
    /// Number of the last one that is on disk, or never will be.
    kept: AtomicU64,
    /// Number of those that are not in the history: they came too fast for the disk.
    pub lost: AtomicU64,
    /// Held by whoever reads them from the disk: one at a time.
    reading: tokio::sync::Mutex<()>,
    targets: notify::Targets,
    followers: Arc<Semaphore>,
    /// Whether followers are to end.
    closed: watch::Sender<bool>,
}

impl Events {
    /// Events that go on after those of the process before.
    pub fn new(journal: Arc<Journal>, last: u64) -> Self {
        journal.go_on(last);
        Self {
            journal,
            kept: AtomicU64::new(last),
            lost: AtomicU64::new(0),
            reading: tokio::sync::Mutex::default(),
            targets: notify::Targets::default(),
            followers: Arc::new(Semaphore::new(FOLLOWERS)),
            closed: watch::Sender::new(false),
        }
    }

    /// Ends all followers, for good.
    pub fn close(&self) {
        self.closed.send_replace(true);
    }
}

#[async_trait]
impl crate::control::event::Service for Control {
    async fn events(&self, of: Asked) -> Result<Vec<Event>, Failure> {
        self.0.read_events(of).await
    }

    async fn follow_events(&self, of: Asked) -> Result<Stream, Failure> {
        self.0.follow_events(of).await
    }
}

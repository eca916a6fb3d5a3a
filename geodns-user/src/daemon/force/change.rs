//! A change is made alone, where it may block, and to its end.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{Mutex, MutexGuard, OwnedMutexGuard};

use crate::control::problem::Failure;
use crate::daemon::Daemon;

/// How long a reload waits for another one that reads its files.
const TO_READ: Duration = Duration::from_secs(10);

/// A failure on this side.
pub fn internal(error: impl std::fmt::Display) -> Failure {
    Failure::Internal(format!("{error:#}"))
}

/// Whole milliseconds since a moment.
pub fn milliseconds(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX)
}

/// Locks of whoever changes the world: one at a time.
#[derive(Default)]
pub struct Changes {
    /// Held by whoever changes the world. Its holder never waits for a file that somebody has named.
    edits: Arc<Mutex<()>>,
    /// Held by whoever reads files that are to be put in force; before `edits`.
    reading: Mutex<()>,
}

impl Changes {
    /// Waits until nobody else changes the world, and keeps everybody else from it.
    pub async fn alone(&self) -> OwnedMutexGuard<()> {
        Arc::clone(&self.edits).lock_owned().await
    }
}

impl Daemon {
    /// Runs a change, alone, where it may block; to its end, even if nobody waits for it any more.
    pub async fn change<T: Send + 'static>(
        self: &Arc<Self>,
        change: impl FnOnce(&Self) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        let alone = self.changes.alone().await;
        self.change_alone(alone, change).await
    }

    /// Runs a change as [`Daemon::change`] does, for whoever is alone already.
    pub async fn change_alone<T: Send + 'static>(
        self: &Arc<Self>,
        alone: OwnedMutexGuard<()>,
        change: impl FnOnce(&Self) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        let work = move |daemon: &Self| {
            let _alone = alone;
            change(daemon)
        };
        self.blocking(work).await
    }

    /// Runs work where it may block, beside changes. Reads of the state are such work: a disk that does not answer must
    /// not hold up a change that does not need it.
    pub async fn blocking<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Self) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        let daemon = Arc::clone(self);
        tokio::task::spawn_blocking(move || work(&daemon))
            .await
            .map_err(internal)?
    }

    /// Keeps everybody else from reading files that are to be put in force: files that are read later are in force
    /// later. Never under `edits`, since reading may take for ever.
    pub async fn read_alone(&self) -> Result<MutexGuard<'_, ()>, Failure> {
        let alone = tokio::time::timeout(TO_READ, self.changes.reading.lock()).await;
        alone.map_err(|_| {
            Failure::Internal(format!(
                "another reload has been reading its files for more than {} s: is one of them on a file system \
                 that does not answer?",
                TO_READ.as_secs()
            ))
        })
    }
}

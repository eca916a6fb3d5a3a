//! How a change is made: alone, where it may block, and to its end.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::OwnedMutexGuard;

use crate::control::api::Failure;
use crate::daemon::Daemon;

/// How long a reload waits for another one that reads its files.
const TO_READ: Duration = Duration::from_secs(10);

pub fn internal(error: impl std::fmt::Display) -> Failure {
    Failure::Internal(format!("{error:#}"))
}

pub fn milliseconds(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX)
}

impl Daemon {
    /// Runs a change, alone, where it may block; to its end, even if nobody waits for it any more.
    pub async fn change<T: Send + 'static>(
        self: &Arc<Self>,
        change: impl FnOnce(&Self) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        let alone = Arc::clone(&self.edits).lock_owned().await;
        self.change_alone(alone, change).await
    }

    /// The same, for whoever is alone already.
    pub async fn change_alone<T: Send + 'static>(
        self: &Arc<Self>,
        alone: OwnedMutexGuard<()>,
        change: impl FnOnce(&Self) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        let daemon = Arc::clone(self);
        tokio::task::spawn_blocking(move || {
            let _alone = alone;
            change(&daemon)
        })
        .await
        .map_err(internal)?
    }

    /// For whoever reads files that are to be put in force: what is read later is in force later. Not under
    /// `edits`, since reading may take for ever.
    pub async fn read_alone(&self) -> Result<tokio::sync::MutexGuard<'_, ()>, Failure> {
        let alone = tokio::time::timeout(TO_READ, self.reading.lock()).await;
        alone.map_err(|_| {
            Failure::Internal(format!(
                "another reload has been reading its files for more than {} s: is one of them on a file system \
                 that does not answer?",
                TO_READ.as_secs()
            ))
        })
    }
}

//! Results of checks that the disk does not have yet: health does not wait for the disk.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use tokio::sync::Notify;

use crate::base::lock::lock;
use crate::daemon::Daemon;
use crate::daemon::force::internal;
use crate::health::Saved;
use crate::supervise::Never;

/// Results of checks that the disk does not have yet, by their targets.
#[derive(Debug, Default)]
pub struct Unsaved {
    fresh: Mutex<HashMap<String, Saved>>,
    come: Notify,
    /// Held while results are written: the last result of a target is the last on the disk.
    writing: Mutex<()>,
}

impl Daemon {
    /// Has results kept over a restart, soon.
    pub fn keep_soon(&self, found: impl IntoIterator<Item = (String, Saved)>) {
        lock(&self.mirrors.unsaved.fresh).extend(found);
        self.mirrors.unsaved.come.notify_one();
    }

    /// Writes results to the disk, for ever.
    pub async fn keep_findings(self: Arc<Self>) -> Never {
        loop {
            self.mirrors.unsaved.come.notified().await;
            let daemon = Arc::clone(&self);
            let kept = tokio::task::spawn_blocking(move || daemon.keep_found());
            if let Err(failure) = kept.await.map_err(internal) {
                tracing::warn!("what the checks found is not kept over a restart: {failure}");
            }
        }
    }

    /// Writes the results so far to the disk.
    pub fn keep_found(&self) {
        let _writing = lock(&self.mirrors.unsaved.writing);
        let found = std::mem::take(&mut *lock(&self.mirrors.unsaved.fresh));
        if found.is_empty() {
            return;
        }
        let found: Vec<_> = found.into_iter().collect();
        if let Err(error) = self.state.save_health(&found) {
            tracing::warn!("what the checks found is not kept over a restart: {error}");
        }
    }
}

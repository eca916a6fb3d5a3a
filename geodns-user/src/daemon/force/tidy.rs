//! Tidies the kernel's tables in the pauses between edits.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::daemon::Daemon;
use crate::heap;
use crate::supervise::Never;

/// Between attempts to make the kernel's tables anew.
const MEND_AGAIN: Duration = Duration::from_secs(10);
/// How long edits must have paused before the tables are tidied.
const PAUSE: Duration = Duration::from_secs(1);
/// The most pauses that are waited for while edits go on and on.
const PAUSES: usize = 60;

impl Daemon {
    /// Reclaims in the pauses between edits and after a world has been replaced, and mends what is out of step, for
    /// ever.
    pub async fn tidy(self: Arc<Self>) -> Never {
        loop {
            match self.out_of_step.load(Ordering::Relaxed) {
                true => tokio::time::sleep(MEND_AGAIN).await,
                false => self.untidy.notified().await,
            }
            for _ in 0..PAUSES {
                let before = self.edited.load(Ordering::Relaxed);
                tokio::time::sleep(PAUSE).await;
                if self.edited.load(Ordering::Relaxed) == before {
                    break;
                }
            }
            let tidied = self.change(|daemon| {
                let world = daemon.world.load_full();
                if !daemon.out_of_step.load(Ordering::Relaxed) {
                    return daemon.reclaim(&world);
                }
                daemon.put_anew(&world)?;
                tracing::info!("the kernel's tables have been made anew after a failure");
                Ok(())
            });
            if let Err(failure) = tidied.await {
                tracing::warn!(cause = %failure, "the kernel's tables could not be tidied: {failure}");
            }
            // A world that was replaced has gone by now, too.
            let _ = tokio::task::spawn_blocking(heap::give_back).await;
        }
    }
}

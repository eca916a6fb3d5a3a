//! Tidies the kernel's tables in the pauses between edits, and mends them where they are out of step.

use std::sync::Arc;

use crate::daemon::Daemon;
use crate::heap;
use crate::supervise::Never;

impl Daemon {
    /// Frees what edits and replaced worlds have let go, and mends what is out of step, for ever.
    pub async fn tidy(self: Arc<Self>) -> Never {
        loop {
            self.upkeep.due().await;
            let tidied = self.change(|daemon| {
                let world = daemon.world.load_full();
                if !daemon.upkeep.is_out_of_step() {
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

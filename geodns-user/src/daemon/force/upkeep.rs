//! When the kernel's tables need upkeep: after edits, and where they may be other than the plan.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::Notify;

/// Between attempts to make the kernel's tables anew.
const MEND_AGAIN: Duration = Duration::from_secs(10);
/// How long edits must have paused before the tables are tidied.
const PAUSE: Duration = Duration::from_secs(1);
/// The most pauses that are waited for while edits go on and on.
const PAUSES: usize = 60;

/// Upkeep that the kernel's tables need.
#[derive(Debug, Default)]
pub struct Upkeep {
    /// The tables may be other than the plan: a new one is due.
    out_of_step: AtomicBool,
    /// Edits so far: the tables are tidied when this stands still.
    edits: AtomicU64,
    due: Notify,
}

impl Upkeep {
    /// An edit has let go of something in the tables.
    pub fn edited(&self) {
        self.edits.fetch_add(1, Ordering::Relaxed);
        self.due.notify_one();
    }

    /// Has the tables made anew, as soon as may be: they may be other than the plan.
    pub fn mend(&self) {
        self.out_of_step.store(true, Ordering::Relaxed);
        self.due.notify_one();
    }

    /// A new plan is in force, and the tables are as it is.
    pub fn replaced(&self) {
        self.out_of_step.store(false, Ordering::Relaxed);
        self.due.notify_one();
    }

    /// Whether the tables may be other than the plan.
    pub fn is_out_of_step(&self) -> bool {
        self.out_of_step.load(Ordering::Relaxed)
    }

    /// Waits until there is something to do, and edits pause.
    pub async fn due(&self) {
        match self.is_out_of_step() {
            true => tokio::time::sleep(MEND_AGAIN).await,
            false => self.due.notified().await,
        }
        for _ in 0..PAUSES {
            let before = self.edits.load(Ordering::Relaxed);
            tokio::time::sleep(PAUSE).await;
            if self.edits.load(Ordering::Relaxed) == before {
                break;
            }
        }
    }
}

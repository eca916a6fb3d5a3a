//! A disk of the state that does not answer holds up only changes that are to be kept on it. Whoever waits for one of
//! these is told after 10 s.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use crate::control::problem::Failure;
use crate::daemon::Daemon;

/// How long a use of the state may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often a waiting caller looks whether the disk still answers.
const LOOK: Duration = Duration::from_millis(250);

impl Daemon {
    /// The first half of a sentence that says that the disk of the state does not answer; `None`: it does.
    pub fn silent_disk(&self) -> Option<String> {
        let silent = self.state.silent_for().filter(|time| *time >= PATIENCE)?;
        let (path, seconds) = (self.state.path().display(), silent.as_secs());
        Some(format!(
            "state {path}: its disk has not answered for {seconds} s"
        ))
    }

    /// Waits for work that may need the disk of the state, as long as the disk answers. If it does not, the error says
    /// `else_say`: what becomes of the work.
    pub async fn while_disk_answers<T>(
        &self,
        else_say: &str,
        work: impl Future<Output = T>,
    ) -> Result<T, Failure> {
        tokio::pin!(work);
        loop {
            if let Ok(done) = timeout(LOOK, &mut work).await {
                return Ok(done);
            }
            if let Some(silent) = self.silent_disk() {
                let cause = format!("{silent}; {else_say}");
                tracing::error!(cause, "{cause}");
                return Err(Failure::Internal(cause));
            }
        }
    }

    /// Runs a change as [`Daemon::change`] does. The caller waits for the outcome only as long as the disk answers.
    pub async fn change_for<T: Send + 'static>(
        self: &Arc<Self>,
        change: impl FnOnce(&Self) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        const NOT_BEGUN: &str = "nothing has changed: repeat this when the disk answers";
        const BEGUN: &str = "this change is not in force, but will be if the disk answers after all: see what is in \
                             force before you repeat it";
        let alone = self.changes.alone();
        let alone = self.while_disk_answers(NOT_BEGUN, alone).await?;
        let change = self.change_alone(alone, change);
        self.while_disk_answers(BEGUN, change).await?
    }
}

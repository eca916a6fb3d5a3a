//! The control socket's side of the daemon. Each feature answers its own calls, with these.

use std::sync::Arc;

use super::Daemon;
use super::audit::{self, Who};
use super::force::Edit;
use crate::control::by::By;
use crate::control::problem::Failure;

/// The end of a question that the disk of the state does not answer.
pub const UNREAD: &str = "ask again when the disk answers";

/// The daemon, as the control socket sees it.
pub struct Control(pub Arc<Daemon>);

impl Control {
    /// Makes an edit, and has the log say who did; to its end, even if nobody waits for it any more.
    pub async fn edit<T: Send + 'static>(
        &self,
        what: &'static str,
        prepare: impl Fn(&Daemon) -> Result<Edit<T>, Failure> + Send + Sync + 'static,
        tell: impl FnOnce(&Who, &T) + Send + 'static,
    ) -> Result<T, Failure> {
        let by = By::current();
        let told = move |outcome: &Result<T, Failure>| {
            let who = Who::of(&by);
            match outcome {
                Ok(changed) => tell(&who, changed),
                Err(failure) => audit::failed(&who, what, failure),
            }
        };
        self.0.edit_for(prepare, told).await
    }

    /// Reads from the state. The caller waits for it only as long as the disk answers.
    pub async fn read_state<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Daemon) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        let reading = self.0.blocking(read);
        self.0.while_disk_answers(UNREAD, reading).await?
    }
}

//! What the daemon says of itself: what is not in force, where it does not listen, its state in a line.
//!
//! - `listening`: what is not listened on
//! - `summary`: the state in a line
//! - `systemd`: what systemd is told

mod listening;
mod summary;
pub mod systemd;

pub use listening::Complaints;

use super::Daemon;
use crate::base::lock::lock;

impl Daemon {
    /// Has the status say what is not in force, and why.
    pub fn complain(&self, line: &str) {
        *lock(&self.last_error) = Some(line.to_owned());
    }

    /// Takes back what the status says of a failure, which is over.
    pub fn forgive<T>(&self, failed: &mut Option<(T, String)>) {
        let Some((_, line)) = failed.take() else {
            return;
        };
        let mut last_error = lock(&self.last_error);
        last_error.take_if(|error| *error == line);
    }
}

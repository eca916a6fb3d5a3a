//! Files that change are read again once they have rested for a second. A broken one changes nothing.
//!
//! - `certificate`: certificates
//! - `databases`: GeoIP databases

mod certificate;
mod databases;

pub use databases::folder;

use std::time::Duration;

use tokio::time::{Interval, MissedTickBehavior, interval};

use super::report::LastFailure;

/// How often files are looked at. A file that is the same for so long is taken for complete.
const LOOK: Duration = Duration::from_secs(1);

/// When to look at files.
fn looks() -> Interval {
    let mut looks = interval(LOOK);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    looks
}

/// Files that are not in force, as they were seen.
#[derive(Debug)]
struct Watched<T> {
    /// At the last look.
    seen: Option<T>,
    /// Files that could not be put in force: they are not tried again.
    failed: Option<T>,
    /// The line that the status has of that.
    said: Option<String>,
}

impl<T> Default for Watched<T> {
    fn default() -> Self {
        Self {
            seen: None,
            failed: None,
            said: None,
        }
    }
}

impl<T: Clone + PartialEq> Watched<T> {
    /// Takes the files that a look finds changed (`None`: all are in force). Gives them back once they have rested and
    /// are to be put in force.
    fn due(&mut self, changed: Option<T>, failure: &LastFailure) -> Option<T> {
        if changed.is_none() {
            self.forgive(failure);
        }
        let rested = self.seen == changed;
        let failed = self.failed == changed;
        self.seen.clone_from(&changed);
        changed.filter(|_| rested && !failed)
    }

    /// Takes the outcome of files that were due. A failure is a line for the status.
    fn done(&mut self, put: Result<(), String>, failure: &LastFailure) {
        match put {
            Ok(()) => self.forgive(failure),
            Err(line) => {
                self.failed.clone_from(&self.seen);
                failure.complain(&mut self.said, line);
            }
        }
    }

    fn forgive(&mut self, failure: &LastFailure) {
        self.failed = None;
        failure.forgive(&mut self.said);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_due_once_they_have_rested_and_not_again_after_a_failure() {
        let failure = LastFailure::default();
        let mut watched = Watched::default();
        assert_eq!(watched.due(None, &failure), None);
        assert_eq!(watched.due(Some(1), &failure), None);
        assert_eq!(watched.due(Some(2), &failure), None);
        assert_eq!(watched.due(Some(2), &failure), Some(2));
        watched.done(Err("broken".to_owned()), &failure);
        assert_eq!(watched.due(Some(2), &failure), None);
        assert_eq!(failure.line().as_deref(), Some("broken"));
        assert_eq!(watched.due(Some(3), &failure), None);
        assert_eq!(watched.due(Some(3), &failure), Some(3));
        watched.done(Ok(()), &failure);
        assert_eq!(failure.line(), None);
        // What had failed may be tried again now.
        assert_eq!(watched.due(Some(2), &failure), None);
        assert_eq!(watched.due(Some(2), &failure), Some(2));
        watched.done(Err("broken".to_owned()), &failure);
        assert_eq!(watched.due(None, &failure), None);
        assert_eq!(failure.line(), None);
    }
}

//! Lines of the log that strangers cause: no more than one in ten seconds.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::base::lock::lock;

/// One is logged in this time.
const EVERY: Duration = Duration::from_secs(10);

/// When one was logged last, and how many were not since.
#[derive(Debug)]
pub struct Seldom(Mutex<(Option<Instant>, u64)>);

/// Zones and notices that were refused.
pub static REFUSALS: Seldom = Seldom::new();

impl Seldom {
    /// One of which nothing was logged yet.
    pub const fn new() -> Self {
        Self(Mutex::new((None, 0)))
    }

    /// Whether one may be logged now: how many were not, since the last.
    pub fn turn(&self) -> Option<u64> {
        self.turn_at(Instant::now())
    }

    fn turn_at(&self, now: Instant) -> Option<u64> {
        let mut last = lock(&self.0);
        let (at, omitted) = &mut *last;
        if at.is_some_and(|at| now.saturating_duration_since(at) < EVERY) {
            *omitted += 1;
            return None;
        }
        *at = Some(now);
        Some(std::mem::take(omitted))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_in_ten_seconds_and_the_others_are_counted() {
        let seldom = Seldom::new();
        let start = Instant::now();
        for (seconds, expect) in [
            (0, Some(0)),
            (1, None),
            (9, None),
            (10, Some(2)),
            (19, None),
            (20, Some(1)),
            (60, Some(0)),
        ] {
            let turn = seldom.turn_at(start + Duration::from_secs(seconds));
            assert_eq!(turn, expect, "{seconds}");
        }
    }
}

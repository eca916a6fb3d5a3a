//! How long a node that has failed stays the last resort, although it answers again.
//!
//! Each failure within an hour doubles the time, so that a node that fails again and again does not make routes flap
//! (RFC 7196 has routers suppress those that do). Failures are kept over restarts: a daemon in a crash loop is one that
//! fails.

use std::ops::RangeInclusive;
use std::time::Duration;

/// Failures count for this long.
const WINDOW: Duration = Duration::from_secs(3600);
/// Failures that are remembered, at the most.
const MOST: usize = 64;

/// Failures of a node, and how long each of them keeps it from being up.
#[derive(Clone, Debug)]
pub struct HoldDown {
    bounds: RangeInclusive<Duration>,
    /// In milliseconds since 1970, oldest first.
    failures: Vec<u64>,
}

impl HoldDown {
    /// Takes the shortest and the longest time, and the failures that an earlier daemon has kept.
    ///
    /// A failure that is yet to come, by a clock that has been set back, counts as one of now.
    pub fn new(bounds: RangeInclusive<Duration>, kept: &[u64], now: u64) -> Self {
        let mut failures: Vec<u64> = kept.iter().map(|&at| at.min(now)).collect();
        failures.sort_unstable();
        let mut new = Self { bounds, failures };
        new.forget(now);
        new
    }

    /// Other bounds, after a reload.
    pub fn set_bounds(&mut self, bounds: RangeInclusive<Duration>) {
        self.bounds = bounds;
    }

    /// Notes a failure.
    pub fn note(&mut self, now: u64) {
        self.failures.push(now);
        self.forget(now);
    }

    /// Forgets all failures: the operator knows better.
    pub fn clear(&mut self) {
        self.failures.clear();
    }

    /// Failures to keep, oldest first.
    pub fn failures(&self) -> &[u64] {
        &self.failures
    }

    /// The moment until which the node is held down; `None`: it is not.
    pub fn until(&self, now: u64) -> Option<u64> {
        let last = *self.failures.last()?;
        let since = now.saturating_sub(millis(WINDOW));
        let count = self.failures.iter().filter(|&&at| at >= since).count();
        let doublings = u32::try_from(count.saturating_sub(1)).unwrap_or(u32::MAX);
        let factor = 1u32.checked_shl(doublings).unwrap_or(u32::MAX);
        let (least, most) = (*self.bounds.start(), *self.bounds.end());
        let long = least.saturating_mul(factor).min(most);
        let until = last.saturating_add(millis(long));
        (until > now).then_some(until)
    }

    fn forget(&mut self, now: u64) {
        // The longest time of all may reach further than the window.
        let since = now.saturating_sub(millis(WINDOW.max(*self.bounds.end())));
        self.failures.retain(|&at| at >= since);
        let more = self.failures.len().saturating_sub(MOST);
        self.failures.drain(..more);
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: u64 = 1000;
    const START: u64 = 1_700_000_000_000;

    fn held() -> HoldDown {
        let bounds = Duration::from_secs(30)..=Duration::from_secs(900);
        HoldDown::new(bounds, &[], START)
    }

    #[test]
    fn each_failure_within_an_hour_doubles_the_time() {
        let mut held = held();
        assert_eq!(held.until(START), None);
        let mut now = START;
        for seconds in [30, 60, 120, 240, 480, 900, 900] {
            held.note(now);
            assert_eq!(held.until(now), Some(now + seconds * S));
            now += seconds * S;
            assert_eq!(held.until(now), None, "after {seconds} s");
        }
        assert_eq!(held.until(now + 3600 * S), None);
        held.note(now + 3600 * S);
        assert_eq!(held.until(now + 3600 * S), Some(now + 3630 * S));
    }

    #[test]
    fn failures_survive_a_restart_and_a_clock_that_was_set_back() {
        let mut before = held();
        before.note(START);
        before.note(START + 40 * S);
        let bounds = Duration::from_secs(30)..=Duration::from_secs(900);
        let after = HoldDown::new(bounds.clone(), before.failures(), START + 50 * S);
        assert_eq!(after.until(START + 50 * S), Some(START + 100 * S));
        let set_back = HoldDown::new(bounds, before.failures(), START - 7200 * S);
        assert_eq!(
            set_back.until(START - 7200 * S),
            Some(START - 7200 * S + 60 * S)
        );
    }

    #[test]
    fn a_crash_loop_does_not_grow_what_is_kept() {
        let mut held = held();
        for second in 0..10_000 {
            held.note(START + second * S);
        }
        assert_eq!(held.failures().len(), MOST);
        assert_eq!(
            held.until(START + 9_999 * S),
            Some(START + (9_999 + 900) * S)
        );
    }
}

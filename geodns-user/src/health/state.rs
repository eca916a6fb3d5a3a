//! From results to a verdict that does not flap: the state of one target, pure and without a clock.
//!
//! As gdnsd's `up_thresh`, `ok_thresh` and `down_thresh`: a target that is down comes up after
//! `rise` successes in a row. One that is up goes down after `fall` failures; successes between them
//! clear them only when there are `ok` in a row, so that a target which fails every other time goes
//! down too. The very first result decides at once.

use std::time::{Duration, Instant};

use crate::config::Check;

/// State of a target.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    up: Option<bool>,
    /// Successes in a row that count towards a change: the target is down, or up with failures.
    successes: u16,
    /// Failures that count: the target is up, and they are not cleared.
    failures: u16,
    /// The turn of the next check: no check starts before its turn.
    next: Option<Instant>,
}

impl State {
    /// The state with a verdict from before a restart.
    pub fn restored(up: bool) -> Self {
        Self {
            up: Some(up),
            ..Self::default()
        }
    }

    /// The state without the turn of the next check.
    pub fn replanned(self) -> Self {
        Self { next: None, ..self }
    }

    /// The verdict, once there is one.
    pub fn up(&self) -> Option<bool> {
        self.up
    }

    /// Takes a result. `next` is the turn of the next check, which does not start before; further turns come an
    /// interval after each other. Gives whether the verdict is another one now, or the first.
    pub fn result(&mut self, check: &Check, success: bool, next: Instant) -> bool {
        self.next = Some(next);
        match (self.up, success) {
            (None, first) => return self.turn(first),
            (Some(false), true) => {
                self.successes = self.successes.saturating_add(1);
                if self.successes >= check.rise {
                    return self.turn(true);
                }
            }
            (Some(false), false) => self.successes = 0,
            (Some(true), true) if self.failures > 0 => {
                self.successes = self.successes.saturating_add(1);
                if self.successes >= check.ok {
                    self.failures = 0;
                    self.successes = 0;
                }
            }
            (Some(true), true) => {}
            (Some(true), false) => {
                self.successes = 0;
                self.failures = self.failures.saturating_add(1);
                if self.failures >= check.fall {
                    return self.turn(false);
                }
            }
        }
        false
    }

    /// A check that could not be made: only the turn of the next is known.
    pub fn postpone(&mut self, next: Instant) {
        self.next = Some(next);
    }

    fn turn(&mut self, up: bool) -> bool {
        self.up = Some(up);
        self.successes = 0;
        self.failures = 0;
        true
    }

    /// The least time until the verdict can be another one: the results that it takes, each as early
    /// as it can be. Nothing as long as there has been no result that says when the next turn is.
    pub fn until_change(&self, check: &Check, now: Instant) -> Duration {
        let results = match self.up {
            None => return Duration::ZERO,
            Some(true) => check.fall.saturating_sub(self.failures),
            Some(false) => check.rise.saturating_sub(self.successes),
        };
        // The thresholds may have become lower with results counted: still, it takes one.
        let more = check.interval * u32::from(results.saturating_sub(1));
        match self.next {
            Some(next) => (next + more).saturating_duration_since(now),
            None => Duration::ZERO,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::config::CheckKind;

    const INTERVAL: Duration = Duration::from_secs(5);

    fn rules(rise: u16, fall: u16, ok: u16) -> Check {
        Check {
            kind: CheckKind::Icmp,
            interval: INTERVAL,
            timeout: INTERVAL / 2,
            rise,
            fall,
            ok,
            jitter: Duration::ZERO,
        }
    }

    /// `+` is a success, `-` a failure; the verdicts are `U` and `D`, `?` before the first.
    #[track_caller]
    fn check(rules: &Check, mut state: State, results: &str, verdicts: &str) {
        let now = Instant::now();
        let got: String = results
            .chars()
            .map(|result| {
                let before = state.up();
                let changed = state.result(rules, result == '+', now);
                assert_eq!(changed, state.up() != before);
                if state.up() == Some(true) { 'U' } else { 'D' }
            })
            .collect();
        assert_eq!(got, verdicts, "{results}");
    }

    #[test]
    fn the_first_result_decides_at_once() {
        check(&rules(3, 3, 3), State::default(), "+", "U");
        check(&rules(3, 3, 3), State::default(), "-", "D");
    }

    #[test]
    fn down_to_up_takes_successes_in_a_row() {
        let rules = rules(3, 3, 3);
        check(&rules, State::restored(false), "++-++-+++", "DDDDDDDDU");
    }

    #[test]
    fn failures_add_up_until_enough_successes_clear_them() {
        // Two in a row clear.
        check(
            &rules(2, 3, 2),
            State::restored(true),
            "--++--+-",
            "UUUUUUUD",
        );
        // One does not, and successes before the first failure do not count.
        check(
            &rules(2, 3, 2),
            State::restored(true),
            "++++-+-+-",
            "UUUUUUUUD",
        );
        // With ok = 1 they must be in a row, as HAProxy's.
        check(
            &rules(2, 3, 1),
            State::restored(true),
            "--+--+---",
            "UUUUUUUUD",
        );
        check(&rules(1, 1, 1), State::restored(true), "-+-+", "DUDU");
    }

    #[test]
    fn the_least_time_until_a_change_counts_results_and_what_has_passed() {
        let rules = rules(2, 3, 2);
        let start = Instant::now();
        let mut state = State::default();
        assert_eq!(state.until_change(&rules, start), Duration::ZERO);
        state.result(&rules, true, start + INTERVAL);
        let at = |state: &State, secs| {
            let now = start + Duration::from_secs(secs);
            state.until_change(&rules, now).as_secs()
        };
        assert_eq!(at(&state, 0), 15);
        assert_eq!(at(&state, 3), 12);
        // Its turn is past, so the next check can come any moment; two more turns must come.
        assert_eq!(at(&state, 7), 8);
        assert_eq!(at(&state, 60), 0);
        state.result(&rules, false, start + 2 * INTERVAL);
        assert_eq!(at(&state, 5), 10);
        state.result(&rules, false, start + 3 * INTERVAL);
        assert_eq!(at(&state, 10), 5);
        state.postpone(start + 4 * INTERVAL);
        assert_eq!(at(&state, 15), 5);
        state.result(&rules, false, start + 5 * INTERVAL);
        assert_eq!((state.up(), at(&state, 20)), (Some(false), 10));
        assert_eq!(at(&State::restored(true), 0), 0);
        assert_eq!(at(&state.replanned(), 20), 0);
    }

    #[test]
    fn lower_thresholds_make_no_change_without_a_result() {
        let now = Instant::now();
        let mut state = State::restored(true);
        for _ in 0..4 {
            state.result(&rules(2, 5, 2), false, now);
        }
        let lower = rules(2, 2, 2);
        assert_eq!(state.up(), Some(true));
        assert_eq!(state.until_change(&lower, now), Duration::ZERO);
        assert!(state.result(&lower, false, now));
        assert_eq!(state.up(), Some(false));
    }

    /// The verdict as its definition says, from all results since the last change.
    fn model(rules: &Check, mut up: Option<bool>, results: &[bool]) -> Option<bool> {
        let mut since: Vec<bool> = Vec::new();
        for &result in results {
            since.push(result);
            let last = |n: u16, part: &[bool]| {
                part.len() >= n.into() && part[part.len() - usize::from(n)..].iter().all(|&ok| ok)
            };
            let next = match up {
                None => result,
                Some(false) => last(rules.rise, &since),
                Some(true) => {
                    let cleared = (0..=since.len())
                        .rev()
                        .find(|&end| last(rules.ok, &since[..end]));
                    let counted = &since[cleared.unwrap_or(0)..];
                    counted.iter().filter(|&&ok| !ok).count() < rules.fall.into()
                }
            };
            if up != Some(next) {
                since.clear();
            }
            up = Some(next);
        }
        up
    }

    fn some_rules() -> impl Strategy<Value = Check> {
        (1..6u16, 1..6u16, 1..6u16).prop_map(|(rise, fall, ok)| rules(rise, fall, ok))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn it_is_as_its_definition_says(
            rules in some_rules(),
            before in any::<Option<bool>>(),
            results in proptest::collection::vec(any::<bool>(), 0..60),
        ) {
            let now = Instant::now();
            let mut state = before.map_or_else(State::default, State::restored);
            for (n, &result) in results.iter().enumerate() {
                state.result(&rules, result, now);
                prop_assert_eq!(state.up(), model(&rules, before, &results[..=n]));
            }
        }

        /// No results change the verdict before that time, and some do then.
        #[test]
        fn the_least_time_until_a_change_is_a_bound_and_is_reached(
            rules in some_rules(),
            results in proptest::collection::vec(any::<bool>(), 1..20),
        ) {
            let now = Instant::now();
            let mut state = State::default();
            for &result in &results {
                state.result(&rules, result, now + INTERVAL);
            }
            let least = state.until_change(&rules, now).as_secs() / INTERVAL.as_secs();
            prop_assert!((1..6).contains(&least));
            let changes = |list: u32, len: u64| {
                let mut state = state.clone();
                (0..len).any(|n| state.result(&rules, list >> n & 1 == 1, now))
            };
            for list in 0..1 << (least - 1) {
                prop_assert!(!changes(list, least - 1));
            }
            prop_assert!((0..1 << least).any(|list| changes(list, least)));
        }
    }
}

//! The metric that the holder announces while the daemon is silent or gone. Pure.

use std::time::{Duration, Instant};

use super::message::Announcement;
use crate::announce::LAST_RESORT;

/// The daemon's last word, and how long ago that was.
#[derive(Debug)]
pub struct Switch {
    word: Option<Announcement>,
    heard: Instant,
    /// The daemon has closed its connection.
    is_gone: bool,
}

impl Switch {
    /// Nothing has been said.
    pub fn new(now: Instant) -> Self {
        Self {
            word: None,
            heard: now,
            is_gone: false,
        }
    }

    /// The daemon says this.
    pub fn hear(&mut self, word: Announcement, now: Instant) {
        *self = Self {
            word: Some(word),
            heard: now,
            is_gone: false,
        };
    }

    /// The daemon has closed its connection: it is dead.
    pub fn lose(&mut self) {
        self.is_gone = true;
    }

    /// The daemon's last word.
    pub fn word(&self) -> Option<&Announcement> {
        self.word.as_ref()
    }

    /// Metric of the routes now; `None`: no routes.
    pub fn metric(&self, now: Instant) -> Option<u32> {
        let word = self.word.as_ref()?;
        let metric = word.metric?;
        let silent = now.saturating_duration_since(self.heard);
        if !self.is_gone && silent < word.silence() {
            Some(metric)
        } else if silent < word.stale_after() {
            Some(metric.max(LAST_RESORT))
        } else {
            None
        }
    }

    /// Whether nothing is left to hold, and nobody there to say more.
    pub fn is_over(&self, now: Instant) -> bool {
        self.is_gone && self.metric(now).is_none()
    }

    /// How long the metric stays as it is if nothing is said; `None`: for ever.
    pub fn changes_in(&self, now: Instant) -> Option<Duration> {
        let word = self.word.as_ref()?;
        word.metric?;
        let ends = [word.silence(), word.stale_after()];
        let left = ends.map(|end| (self.heard + end).saturating_duration_since(now));
        left.into_iter().filter(|left| !left.is_zero()).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn word(metric: Option<u32>) -> Announcement {
        Announcement {
            prefixes: vec!["192.0.2.53/32".parse().unwrap()],
            table: 254,
            metric,
            silence_ms: 1_000,
            stale_after_ms: 300_000,
        }
    }

    const S: Duration = Duration::from_secs(1);

    #[test]
    fn a_dead_daemon_is_the_last_resort_at_once_and_withdrawn_when_it_is_stale() {
        let start = Instant::now();
        let mut switch = Switch::new(start);
        assert_eq!(switch.metric(start), None);
        switch.hear(word(Some(100)), start);
        assert_eq!(switch.metric(start), Some(100));
        switch.lose();
        assert_eq!(switch.metric(start), Some(300));
        assert!(!switch.is_over(start + 299 * S));
        assert_eq!(switch.metric(start + 300 * S), None);
        assert!(switch.is_over(start + 300 * S));
    }

    #[test]
    fn a_daemon_that_hangs_is_the_last_resort_and_back_with_its_next_word() {
        let start = Instant::now();
        let mut switch = Switch::new(start);
        switch.hear(word(Some(100)), start);
        assert_eq!(switch.changes_in(start), Some(S));
        assert_eq!(switch.metric(start + S), Some(300));
        assert_eq!(switch.changes_in(start + S), Some(299 * S));
        assert_eq!(switch.metric(start + 300 * S), None);
        // It hangs, and may say more: the holder stays.
        assert!(!switch.is_over(start + 300 * S));
        switch.hear(word(Some(100)), start + 301 * S);
        assert_eq!(switch.metric(start + 301 * S), Some(100));
    }

    #[test]
    fn what_was_withdrawn_stays_so() {
        let start = Instant::now();
        let mut switch = Switch::new(start);
        switch.hear(word(None), start);
        assert_eq!(switch.changes_in(start), None);
        switch.lose();
        assert!(switch.is_over(start));
    }
}

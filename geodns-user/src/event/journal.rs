//! The latest events in memory, each with its number.
//!
//! Whoever keeps events, shows them or sends them reads from here at its own pace. A reader that is too slow loses the
//! oldest ones and learns how many. So nobody who makes an event ever waits.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use tokio::sync::watch;

use super::Event;
use crate::base::lock::lock;

/// Events in memory, at the most.
pub const LATEST: usize = 4096;

/// The latest events.
#[derive(Debug)]
pub struct Journal {
    latest: Mutex<Latest>,
    /// Number of the last event.
    last: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Latest {
    /// Number of the last one.
    last: u64,
    /// Their numbers have no gaps.
    events: VecDeque<Arc<Event>>,
}

/// Events after a position.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Next {
    /// The events, in their order.
    pub events: Vec<Arc<Event>>,
    /// Number of events before them that are not here any more.
    pub lost: u64,
}

impl Default for Journal {
    fn default() -> Self {
        Self {
            latest: Mutex::default(),
            last: watch::Sender::new(0),
        }
    }
}

impl Journal {
    /// Adds an event, and gives it its number.
    pub fn add(&self, mut event: Event) {
        let mut latest = lock(&self.latest);
        latest.last += 1;
        event.seq = latest.last;
        if latest.events.len() == LATEST {
            latest.events.pop_front();
        }
        latest.events.push_back(Arc::new(event));
        self.last.send_replace(latest.last);
    }

    /// Goes on with the number after `last`, the last one of the process before. The events so far get new numbers.
    pub fn go_on(&self, last: u64) {
        let mut latest = lock(&self.latest);
        for event in &mut latest.events {
            Arc::make_mut(event).seq += last;
        }
        latest.last += last;
        self.last.send_replace(latest.last);
    }

    /// Number of the last event.
    pub fn last(&self) -> u64 {
        *self.last.borrow()
    }

    /// Number of the oldest event in memory, or of the next one.
    pub fn first(&self) -> u64 {
        let latest = lock(&self.latest);
        latest.last + 1 - latest.events.len() as u64
    }

    /// Events after this number, at most so many.
    pub fn after(&self, seq: u64, most: usize) -> Next {
        let latest = lock(&self.latest);
        let first = latest.last + 1 - latest.events.len() as u64;
        let skip = usize::try_from((seq + 1).saturating_sub(first)).unwrap_or(usize::MAX);
        Next {
            events: latest
                .events
                .iter()
                .skip(skip)
                .take(most)
                .cloned()
                .collect(),
            lost: first.saturating_sub(seq + 1),
        }
    }

    /// Waits until there is an event after this number.
    pub async fn wait(&self, seq: u64) {
        let mut last = self.last.subscribe();
        // The sender lives as long as this does.
        let _ = last.wait_for(|last| *last > seq).await;
    }
}

#[cfg(test)]
mod tests {
    use super::super::Kind;
    use super::*;

    fn numbers(next: &Next) -> Vec<u64> {
        next.events.iter().map(|event| event.seq).collect()
    }

    #[test]
    fn a_reader_has_its_own_pace_and_learns_what_it_has_lost() {
        let journal = Journal::default();
        for _ in 0..3 {
            journal.add(Event::of(0, Kind::Reload, None));
        }
        assert_eq!(numbers(&journal.after(0, 10)), [1, 2, 3]);
        journal.go_on(100);
        assert_eq!(numbers(&journal.after(100, 10)), [101, 102, 103]);
        assert_eq!(numbers(&journal.after(101, 1)), [102]);
        assert_eq!(journal.after(103, 10), Next::default());
        for _ in 0..LATEST {
            journal.add(Event::of(0, Kind::Reload, None));
        }
        let next = journal.after(101, 2);
        assert_eq!((numbers(&next), next.lost), (vec![104, 105], 2));
        assert_eq!(
            (journal.first(), journal.last()),
            (104, 103 + LATEST as u64)
        );
        assert_eq!(journal.after(u64::MAX - 1, 2), Next::default());
    }

    #[tokio::test]
    async fn whoever_waits_is_woken() {
        let journal = Arc::new(Journal::default());
        let waiting = Arc::clone(&journal);
        let waiting = tokio::spawn(async move { waiting.wait(0).await });
        journal.add(Event::of(0, Kind::Start, None));
        waiting.await.unwrap();
        journal.wait(0).await;
    }
}

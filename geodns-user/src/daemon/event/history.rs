//! Events are kept on disk by a task of their own: no one who makes an event waits for the disk. The latest ones are
//! read from memory, all others from the disk.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::base::clock::now_unix_ms;
use crate::control::event::{Asked, From};
use crate::control::problem::Failure;
use crate::daemon::Daemon;
use crate::daemon::control::UNREAD;
use crate::daemon::force::internal;
use crate::event::journal::{LATEST, Next};
use crate::event::{Event, Wanted};
use crate::supervise::Never;

/// Events that one write keeps, or one read takes from the disk, at the most.
const AT_ONCE: usize = 512;
/// The pause after a write.
const PAUSE: Duration = Duration::from_millis(100);
/// The pause after a write that has failed.
const AGAIN: Duration = Duration::from_secs(5);

impl Daemon {
    /// Keeps events on disk, for ever.
    pub async fn keep_history(self: Arc<Self>) -> Never {
        let mut is_told = false;
        loop {
            let kept = self.events.kept.load(Ordering::Acquire);
            self.events.journal.wait(kept).await;
            let done = self.blocking(|daemon| daemon.keep_some_events(false)).await;
            let error = done.err();
            if let Some(failure) = error.as_ref().filter(|_| !is_told) {
                tracing::warn!(cause = %failure, "events are not kept: {failure}; trying again");
            }
            is_told = error.is_some();
            tokio::time::sleep(if is_told { AGAIN } else { PAUSE }).await;
        }
    }

    /// Keeps the next events. `is_end`: all of them, and none comes after them.
    pub fn keep_some_events(&self, is_end: bool) -> Result<(), Failure> {
        let events = &self.events;
        loop {
            let kept = events.kept.load(Ordering::Acquire);
            let Next { events: next, lost } = events.journal.after(kept, AT_ONCE);
            if lost > 0 {
                events.lost.fetch_add(lost, Ordering::Relaxed);
                // Else they would count again if the write fails.
                events.kept.fetch_max(kept + lost, Ordering::AcqRel);
                tracing::warn!(
                    lost,
                    "{lost} events are not in the history: they came faster than the disk takes them"
                );
            }
            let kept = self.state.keep_events(&next, now_unix_ms(), is_end);
            kept.map_err(internal)?;
            if let Some(last) = next.last() {
                events.kept.store(last.seq, Ordering::Release);
            }
            if !is_end || next.len() < AT_ONCE {
                return Ok(());
            }
        }
    }

    /// `events`
    pub async fn read_events(self: &Arc<Self>, of: Asked) -> Result<Vec<Event>, Failure> {
        let Asked {
            from,
            wanted,
            limit,
        } = of;
        let after = match from {
            From::Latest => return self.last_events(&wanted, limit).await,
            From::After(seq) => seq,
            From::Time(unix_ms) => self.event_before(unix_ms).await?,
        };
        let mut position = after;
        let mut found = Vec::new();
        loop {
            let next = self.next_events(&mut position).await?;
            if next.is_empty() || found.len() >= limit {
                break;
            }
            found.extend(next.into_iter().filter(|event| wanted.has(event)));
        }
        found.truncate(limit);
        Ok(found.iter().map(|event| Event::clone(event)).collect())
    }

    /// Events after a position, which moves on: from memory, or from the disk if they are older. Nothing if there are none.
    pub(super) async fn next_events(
        self: &Arc<Self>,
        position: &mut u64,
    ) -> Result<Vec<Arc<Event>>, Failure> {
        let first = self.events.journal.first();
        while *position + 1 < first {
            let from = *position + 1;
            let kept = self
                .of_disk(move |daemon| daemon.state.events(from, first - 1, AT_ONCE, false))
                .await?;
            *position = kept.next.map_or(first, |next| next) - 1;
            if !kept.events.is_empty() {
                return Ok(kept.events.into_iter().map(Arc::new).collect());
            }
        }
        let next = self.events.journal.after(*position, AT_ONCE).events;
        *position = next.last().map_or(*position, |last| last.seq);
        Ok(next)
    }

    /// The last events that are wanted, at most N, in their order.
    pub(super) async fn last_events(
        self: &Arc<Self>,
        wanted: &Wanted,
        limit: usize,
    ) -> Result<Vec<Event>, Failure> {
        let (mut before, latest) = {
            let latest = self.events.journal.after(0, LATEST).events;
            let first = latest.first().map(|first| first.seq);
            (first.unwrap_or(self.events.journal.last() + 1), latest)
        };
        let latest = latest.into_iter().rev().filter(|event| wanted.has(event));
        // The newest first.
        let mut found: Vec<Event> = latest.take(limit).map(|event| (*event).clone()).collect();
        while found.len() < limit && before > 1 {
            let to = before - 1;
            let kept = self
                .of_disk(move |daemon| daemon.state.events(0, to, AT_ONCE, true))
                .await?;
            let events = kept.events.into_iter().rev();
            found.extend(events.filter(|event| wanted.has(event)));
            before = kept.next.map_or(0, |next| next + 1);
        }
        found.truncate(limit);
        found.reverse();
        Ok(found)
    }

    /// Number of the last event before a time.
    pub(super) async fn event_before(self: &Arc<Self>, unix_ms: u64) -> Result<u64, Failure> {
        let latest = self.events.journal.after(0, LATEST).events;
        let at = latest
            .iter()
            .position(|event| event.time_unix_ms >= unix_ms);
        match at {
            Some(0) => {}
            Some(at) => return Ok(latest[at].seq - 1),
            None => return Ok(self.events.journal.last()),
        }
        let first = self.of_disk(move |daemon| daemon.state.event_since(unix_ms));
        Ok(first.await?.saturating_sub(1))
    }

    /// Reads from the disk, one at a time, as long as it answers.
    async fn of_disk<T: Send + 'static>(
        self: &Arc<Self>,
        read: impl FnOnce(&Self) -> Result<T, crate::state::Error> + Send + 'static,
    ) -> Result<T, Failure> {
        let reading = async {
            let _alone = self.events.reading.lock().await;
            self.blocking(move |daemon| read(daemon).map_err(internal))
                .await
        };
        self.while_disk_answers(UNREAD, reading).await?
    }
}

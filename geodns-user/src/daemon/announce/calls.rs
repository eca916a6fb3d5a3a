//! The calls of the API on the announcement.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use async_trait::async_trait;

use super::Announcing;
use crate::announce::course::Word;
use crate::base::clock::now_unix_ms;
use crate::base::lock::lock;
use crate::control::announce::{
    AnnounceCheck, AnnounceWord, Announcement, Service, SetAnnouncement,
};
use crate::control::by::By;
use crate::control::problem::Failure;
use crate::daemon::Daemon;
use crate::daemon::audit::{self, Who};
use crate::daemon::control::{Control, UNREAD};
use crate::daemon::force::internal;

impl Daemon {
    /// The announcement, if the configuration has one.
    pub fn announcement_shown(&self) -> Option<Announcement> {
        let announcing = self.announcing.as_ref()?;
        let config = self.announce_config();
        let seen = lock(&announcing.seen).clone();
        let now = now_unix_ms();
        let (word, until_unix_ms) = match *lock(&announcing.word) {
            Word::Auto => (AnnounceWord::Up, None),
            // Its time is over.
            Word::Drain(Some(until)) if until <= now => (AnnounceWord::Up, None),
            Word::Drain(until) => (AnnounceWord::Drain, until),
            Word::Withdraw { .. } => (AnnounceWord::Withdraw, None),
        };
        let checks = seen.checks.into_iter().map(|check| AnnounceCheck {
            check: check.kind.to_owned(),
            target: check.target,
            fault: check.fault,
            counts: check.counts,
        });
        Some(Announcement {
            state: seen.state.name().to_owned(),
            since_unix_ms: seen.since,
            why: seen.why,
            metric: seen.state.metric(),
            prefixes: seen.prefixes.into_iter().collect(),
            device: config.device,
            table: config.table,
            word,
            until_unix_ms,
            failures: seen.failures.len() as u64,
            trouble: seen.trouble,
            checks: checks.collect(),
            now_unix_ms: now,
        })
    }

    fn announcing(&self) -> Result<&Announcing, Failure> {
        self.announcing.as_ref().ok_or_else(|| {
            Failure::NotFound(
                "nothing is announced: add a section [announce] to the configuration, and restart"
                    .to_owned(),
            )
        })
    }

    fn require_announcement(&self) -> Result<Announcement, Failure> {
        self.announcing()?;
        self.announcement_shown()
            .ok_or_else(|| internal("nothing is announced"))
    }
}

#[async_trait]
impl Service for Control {
    async fn announcement(&self) -> Result<Announcement, Failure> {
        self.0.require_announcement()
    }

    async fn announce(&self, set: SetAnnouncement) -> Result<Announcement, Failure> {
        self.0.announcing()?;
        let word = match set.word {
            AnnounceWord::Up => Word::Auto,
            AnnounceWord::Drain => {
                Word::Drain(set.for_ms.map(|time| now_unix_ms().saturating_add(time)))
            }
            AnnounceWord::Withdraw => Word::Withdraw { force: set.force },
        };
        let (daemon, by) = (Arc::clone(&self.0), By::current());
        // Durable first, then in force.
        let kept = tokio::task::spawn_blocking(move || {
            let announcing = daemon.announcing()?;
            let clears = word == Word::Auto;
            let kept = announcing.keep(&daemon.state, |kept| {
                kept.word = word;
                if clears {
                    kept.failures.clear();
                }
            });
            kept.map_err(internal)?;
            *lock(&announcing.word) = word;
            announcing.forgives.fetch_or(clears, Ordering::Relaxed);
            audit::announce(&Who::of(&by), &set);
            Ok(())
        });
        let kept = self.0.while_disk_answers(UNREAD, kept).await?;
        kept.map_err(internal)??;
        let interval = self.0.announce_config().interval;
        self.0.announcing()?.round(interval).await;
        self.0.require_announcement()
    }
}

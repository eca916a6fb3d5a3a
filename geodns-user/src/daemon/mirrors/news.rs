//! News of mirrors' health, heeded one batch after the other in a thread of its own.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use geodns_common::abi::SHARES;

use crate::base::clock::now_unix_ms;
use crate::config::Config;
use crate::control::problem::Failure;
use crate::daemon::Daemon;
use crate::daemon::force::{News, pools_of};
use crate::fault;
use crate::health::{self, Event, Feed, Target, Trouble, Verdict};
use crate::service::{Which, targets};
use crate::supervise::{self, Never};

/// The longest pause between looks.
const IDLE: Duration = Duration::from_secs(3600);
/// The pause after news that could not be heeded.
const AGAIN: Duration = Duration::from_secs(1);
/// News that are heeded at once, at the most.
const BATCH: usize = 1024;

/// The mirrors of a target: these, as long as the configuration is still the one that they are of.
fn mirrors_of<'a>(
    config: &'a Config,
    judged: &[usize],
    target: &Target,
) -> Vec<&'a crate::config::Mirror> {
    let of = |mirror: &&crate::config::Mirror| Target::of(mirror).any(|of| of == *target);
    let judged = judged.iter().filter_map(|&at| config.mirrors.get(at));
    let judged: Vec<_> = judged.filter(of).collect();
    match judged.is_empty() {
        true => config.mirrors.iter().filter(of).collect(),
        false => judged,
    }
}

/// Logs that an address of a mirror is up or down now.
fn log(config: &Config, mirror: &crate::config::Mirror, event: &Event) {
    let pools = pools_of(config, &mirror.id);
    let (mirror, target) = (mirror.id.as_str(), &event.target);
    let address = target.address;
    match event.up {
        true => tracing::info!(
            mirror,
            pools,
            %address,
            check = %target,
            state = "up",
            "mirror {mirror}: {target} is up"
        ),
        false => {
            let cause = event.reason.as_deref().unwrap_or("no reason known");
            tracing::warn!(
                mirror,
                pools,
                %address,
                check = %target,
                state = "down",
                cause,
                "mirror {mirror}: {target} is down: {cause}"
            );
        }
    }
}

impl Daemon {
    /// Starts the checks of a configuration, and forgets the results of all others.
    pub fn check_anew(&self, config: &Config) {
        self.mirrors.monitor.set_targets(targets(config));
        let keys = targets(config).map(|target| target.key()).collect();
        if let Err(error) = self.state.retain_health(&keys) {
            tracing::warn!("what checks once found of others is still kept: {error}");
        }
        let snapshot = self.mirrors.monitor.snapshot();
        self.in_service.current().findings.take(snapshot);
        self.heed_or_again();
    }

    /// Starts to heed news, in a thread of its own, until [`News::Stop`].
    pub fn heed_news(
        self: &Arc<Self>,
        news: Receiver<News>,
    ) -> std::io::Result<std::thread::JoinHandle<()>> {
        let daemon = Arc::clone(self);
        let heed = move || {
            loop {
                assert!(!fault::panics("health"), "as a test wants it");
                let first = match news.recv_timeout(daemon.until_next_change()) {
                    Ok(first) => Some(first),
                    Err(RecvTimeoutError::Timeout) => None,
                    Err(RecvTimeoutError::Disconnected) => return,
                };
                let batch: Vec<News> = first
                    .into_iter()
                    .chain(news.try_iter().take(BATCH))
                    .collect();
                if batch.iter().any(|news| matches!(news, News::Stop)) {
                    return;
                }
                if let Err(failure) = daemon.heed_batch(batch) {
                    tracing::error!(
                        cause = %failure,
                        "a change of a mirror's health is not in the answers: {failure}; trying again"
                    );
                    std::thread::sleep(AGAIN);
                    daemon.in_service.tell(News::Again);
                }
            }
        };
        supervise::thread("health", heed)
    }

    /// How long until a word on a mirror changes by itself: a ramp or an expiry.
    fn until_next_change(&self) -> Duration {
        let now = now_unix_ms();
        let standings = self.in_service.standings();
        let next = standings
            .values()
            .filter_map(|standing| standing.next_change(now, SHARES as u32))
            .min();
        next.map_or(IDLE, |at| {
            Duration::from_millis(at.saturating_sub(now).max(1)).min(IDLE)
        })
    }

    /// Heeds news together. Without news, the time has come for a ramp or an expiry.
    fn heed_batch(&self, batch: Vec<News>) -> Result<(), Failure> {
        let mut changed = Vec::new();
        let mut troubles = Vec::new();
        {
            let mut current = self.in_service.current();
            let mut mirrors = BTreeSet::new();
            let mut all = batch.is_empty();
            for news in batch {
                match news {
                    News::Checked(event) => {
                        if current.findings.checked(&event) {
                            mirrors.extend(current.roster.mirrors_of(&event.target));
                        }
                        if event.changed {
                            changed.push((current.roster.mirrors_of(&event.target), event));
                        }
                    }
                    News::Feed(verdicts) => {
                        self.warn_of_strangers(&verdicts);
                        current.findings.feed(&verdicts);
                        all = true;
                    }
                    News::Voted(votes) => {
                        current.findings.vote(votes);
                        all = true;
                    }
                    News::Troubled(trouble) => {
                        troubles.push((current.roster.mirrors_of(&trouble.target), trouble));
                    }
                    News::Again => all = true,
                    News::Look | News::Stop => {}
                }
            }
            if all {
                self.heed_at(&mut current, &Which::All, now_unix_ms())?;
            } else if !mirrors.is_empty() {
                self.heed_at(&mut current, &Which::These(mirrors), now_unix_ms())?;
            }
        }
        if !changed.is_empty() {
            self.mirrors.verdicts.fetch_add(1, Ordering::Release);
        }
        self.tell(&changed);
        self.tell_troubles(&troubles);
        Ok(())
    }

    /// Heeds other monitors' file, for ever.
    pub async fn follow_feed(self: Arc<Self>, feed: Arc<Mutex<Feed>>) -> Never {
        let tell = |verdicts: &[Verdict]| self.in_service.tell(News::Feed(verdicts.to_vec()));
        Feed::watch(feed, tell).await
    }

    /// Warns of verdicts on mirrors that the configuration lacks.
    pub fn warn_of_strangers(&self, verdicts: &[Verdict]) {
        let world = self.world.load_full();
        let config = &world.inputs.config;
        let feed = config
            .health_feed
            .as_deref()
            .unwrap_or(Path::new(""))
            .display();
        for verdict in verdicts {
            if !config
                .mirrors
                .iter()
                .any(|mirror| mirror.id == verdict.mirror)
            {
                let (line, mirror) = (verdict.line, &verdict.mirror);
                tracing::warn!(%feed, line, mirror, "{feed}:{line}: no mirror {mirror:?}; the line says nothing");
            }
        }
    }

    /// Logs which checks could not be made.
    fn tell_troubles(&self, troubles: &[(Vec<usize>, Trouble)]) {
        let world = self.world.load_full();
        for (mirrors, trouble) in troubles {
            let mirrors = mirrors_of(&world.inputs.config, mirrors, &trouble.target);
            let mirrors: Vec<&str> = mirrors.iter().map(|mirror| mirror.id.as_str()).collect();
            let mirror = (!mirrors.is_empty()).then(|| mirrors.join(","));
            let Trouble {
                checks,
                target,
                cause,
            } = trouble;
            tracing::warn!(
                mirror,
                address = %target.address,
                check = %target,
                checks,
                cause,
                "health: {checks} checks could not be made; {target}: {cause}"
            );
        }
    }

    /// Logs results that have changed, and keeps them over a restart.
    fn tell(&self, changed: &[(Vec<usize>, Event)]) {
        if changed.is_empty() {
            return;
        }
        let world = self.world.load_full();
        for (mirrors, event) in changed {
            for mirror in mirrors_of(&world.inputs.config, mirrors, &event.target) {
                log(&world.inputs.config, mirror, event);
            }
        }
        let now = now_unix_ms();
        let saved = changed.iter().map(|(_, event)| {
            let saved = health::Saved {
                up: event.up,
                since_unix_ms: now,
            };
            (event.target.key(), saved)
        });
        self.keep_soon(saved);
    }
}

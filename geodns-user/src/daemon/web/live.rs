//! Numbers of each second, and the trends. Nothing is read while no address is listened on.

use std::sync::Arc;
use std::time::Instant;

use tokio::task::JoinHandle;
use tokio::time::{Duration, MissedTickBehavior, interval};

use crate::base::clock::now_unix_ms;
use crate::base::lock::lock;
use crate::daemon::Daemon;
use crate::observe::counters;
use crate::observe::trends::{MAX_MIRRORS, Rates};
use crate::supervise::Never;
use crate::web::view::Live;

/// Seconds of a sample of the trends.
const SAMPLE: u64 = 10;
/// Seconds between two writes of the trends to the disk.
const KEEP: u64 = 60;
/// The name of the trends in the state.
const KEPT: &str = "trends";

/// Messages since the counters started, and when that was read.
#[derive(Clone, Copy)]
struct Counts {
    at: Instant,
    kernel: u64,
    slow: u64,
    dropped: u64,
}

impl Counts {
    /// Messages a second since other counts. Counters that started anew count as 0.
    fn rates_since(&self, before: &Self) -> Rates {
        let seconds = (self.at - before.at).as_secs_f64().max(0.001);
        let rate = |now: u64, before: u64| now.saturating_sub(before) as f64 / seconds;
        Rates {
            kernel: rate(self.kernel, before.kernel),
            slow: rate(self.slow, before.slow),
            dropped: rate(self.dropped, before.dropped),
        }
    }
}

impl Daemon {
    /// Reads the numbers of each second and keeps the trends, for ever.
    pub async fn keep_trends(self: Arc<Self>) -> Never {
        while !self.listeners.web.is_open() {
            self.web.opened.notified().await;
        }
        let daemon = Arc::clone(&self);
        // Before the first sample, or they would be lost. A disk that hangs keeps the trends waiting, and nobody else.
        let kept = tokio::task::spawn_blocking(move || daemon.state.own(KEPT)).await;
        match kept {
            Ok(Ok(Some(kept))) => *lock(&self.web.trends) = Arc::new(kept),
            Ok(Ok(None)) => {}
            Ok(Err(error)) => tracing::warn!("the trends of the dashboard are lost: {error}"),
            Err(error) => tracing::warn!("the trends of the dashboard are lost: {error}"),
        }
        let mut seconds = interval(Duration::from_secs(1));
        seconds.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut last = self.counts();
        let mut sampled = last;
        let mut second = 0_u64;
        let mut keeping: Option<JoinHandle<()>> = None;
        loop {
            seconds.tick().await;
            if !self.listeners.web.is_open() {
                self.web.opened.notified().await;
                last = self.counts();
                sampled = last;
                continue;
            }
            second += 1;
            let now = self.counts();
            let rates = now.rates_since(&last);
            last = now;
            let is_sample = second.is_multiple_of(SAMPLE);
            if is_sample {
                self.sample(now.rates_since(&sampled));
                sampled = now;
            }
            // Mirrors are many, and change seldom.
            if is_sample || second == 1 || self.web.live.receiver_count() > 0 {
                self.tell_live(&now, rates);
            }
            let is_kept = keeping.as_ref().is_none_or(JoinHandle::is_finished);
            if second.is_multiple_of(KEEP) && is_kept {
                let daemon = Arc::clone(&self);
                keeping = Some(tokio::task::spawn_blocking(move || daemon.save_trends()));
            }
        }
    }

    fn counts(&self) -> Counts {
        let counts = self
            .counters
            .as_ref()
            .and_then(|counters| counters.read().ok());
        let counts = counts.as_ref().map_or(&[][..], |counts| &counts[..]);
        let slow = self.server.stats().snapshot();
        let answers = slow.iter().filter(|(name, _)| name.starts_with("rcode_"));
        Counts {
            at: Instant::now(),
            kernel: counters::answered(counts),
            slow: answers.map(|(_, count)| count).sum(),
            dropped: counters::dropped(counts),
        }
    }

    fn tell_live(&self, now: &Counts, rates: Rates) {
        let mirrors = self.mirrors();
        let all = Rates {
            kernel: now.kernel as f64,
            slow: now.slow as f64,
            dropped: 0.0,
        };
        self.web.live.send_replace(Arc::new(Live {
            at_unix_ms: now_unix_ms(),
            rates,
            kernel_share: all.share(),
            in_service: mirrors.iter().filter(|mirror| mirror.in_service).count(),
            mirrors: mirrors.len(),
            answered: now.kernel + now.slow,
        }));
    }

    /// Adds a sample to the trends.
    fn sample(&self, rates: Rates) {
        let mirrors = self.mirrors();
        let mirrors = mirrors.iter().take(MAX_MIRRORS);
        let mirrors = mirrors.map(|mirror| (mirror.id.as_str(), mirror.in_service));
        let mut trends = lock(&self.web.trends);
        Arc::make_mut(&mut trends).take(now_unix_ms() / 1000, rates, mirrors);
    }

    /// Writes the trends to the disk.
    pub fn save_trends(&self) {
        let trends = Arc::clone(&lock(&self.web.trends));
        if *trends == Default::default() {
            return;
        }
        if let Err(error) = self.state.keep_own(KEPT, &*trends) {
            tracing::warn!("the trends of the dashboard are not kept over a restart: {error}");
        }
    }
}

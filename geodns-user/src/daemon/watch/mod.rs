//! `geodns top` and `geodns capture`: the program shows queries to lookers.
//!
//! The program tells something only while somebody looks, and a task reads it as long. Any number of lookers share
//! one sampling; there is one capture at a time, and one tap. Whoever goes is noticed by its stream being dropped.
//!
//! - `top`: the picture of `geodns top`

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream;
use geodns_common::layout::Sighting;
use geodns_common::verdict::Verdict;
use geodns_common::watch::Watch;
use nix::time::{ClockId, clock_gettime};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::{broadcast, mpsc};
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval};

use crate::daemon::control::Control;

mod top;

use self::top::Samples;
use super::Daemon;
use super::force::internal;
use crate::base::lock::lock;
use crate::block::{InForce, Rule, RuleText};
use crate::control::problem::Failure;
use crate::control::watch::{CaptureQuery, Stream};
use crate::dnstap::{self, Tap};
use crate::kernel;
use crate::kernel::watch::{Capture, Sketches, Watching};
use crate::observe::{counters, pcap};

/// How often a picture is made.
const PICTURE: Duration = Duration::from_secs(1);
/// Samples a second, at the most, or little more.
const SAMPLES: u64 = 5_000;
/// Sightings that are taken before other tasks have their turn.
const AT_ONCE: usize = 1024;
/// Chunks of frames that wait for a capture.
const WAITING: usize = 256;
/// Pictures that wait for a looker.
const PICTURES: usize = 4;

/// Everyone who looks.
#[derive(Debug, Default)]
pub struct Lookers {
    looking: Mutex<Looking>,
    /// Frames that a capture was too slow for.
    lost: AtomicU64,
}

#[derive(Debug, Default)]
struct Looking {
    watching: Watching,
    tops: usize,
    pictures: Option<broadcast::Sender<Bytes>>,
    frames: Option<mpsc::Sender<Bytes>>,
    /// Where exchanges of the program are offered for dnstap.
    tap: Option<Arc<Tap>>,
    task: Option<JoinHandle<()>>,
    /// The daemon stops: nobody may look any more.
    closed: bool,
}

impl Lookers {
    fn lock(&self) -> MutexGuard<'_, Looking> {
        lock(&self.looking)
    }

    /// Frames that a capture was too slow for.
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }
}

/// One who looks, for as long as this lives.
struct Looker {
    daemon: Arc<Daemon>,
    captures: bool,
}

impl Drop for Looker {
    fn drop(&mut self) {
        let (daemon, captures) = (Arc::clone(&self.daemon), self.captures);
        // It waits for the kernel's clock.
        tokio::task::spawn_blocking(move || daemon.leave(captures));
    }
}

impl Daemon {
    /// `top`: a picture each second, as a line of JSON.
    pub fn top(self: &Arc<Self>) -> Result<Stream, Failure> {
        self.can_look()?;
        let shift = shift(self.population()?, PICTURE);
        let pictures = {
            let mut looking = self.lookers.lock();
            looking.open()?;
            let pictures = looking
                .pictures
                .get_or_insert_with(|| broadcast::channel(PICTURES).0);
            let pictures = pictures.subscribe();
            looking.tops += 1;
            looking.watching.samples.get_or_insert(shift);
            pictures
        };
        let looker = Looker {
            daemon: Arc::clone(self),
            captures: false,
        };
        self.look()?;
        let next = |(mut pictures, looker): (broadcast::Receiver<Bytes>, Looker)| async move {
            loop {
                match pictures.recv().await {
                    Ok(picture) => return Some((picture, (pictures, looker))),
                    // Too slow for all of them.
                    Err(broadcast::error::RecvError::Lagged(_)) => {}
                    Err(broadcast::error::RecvError::Closed) => return None,
                }
            }
        };
        Ok(stream::unfold((pictures, looker), next).boxed())
    }

    /// `capture`: a file for tcpdump, as it comes.
    pub fn capture(self: &Arc<Self>, query: &CaptureQuery) -> Result<Stream, Failure> {
        self.can_look()?;
        let capture = understood(query).map_err(Failure::Invalid)?;
        let frames = {
            let mut looking = self.lookers.lock();
            looking.open()?;
            if looking.frames.is_some() {
                let why = "another capture is under way: wait for its end, or end it";
                return Err(Failure::Invalid(why.to_owned()));
            }
            let (sender, frames) = mpsc::channel(WAITING);
            looking.frames = Some(sender);
            looking.watching.capture = Some(capture);
            frames
        };
        let looker = Looker {
            daemon: Arc::clone(self),
            captures: true,
        };
        self.look()?;
        let next = |(mut frames, looker): (mpsc::Receiver<Bytes>, Looker)| async move {
            let chunk = frames.recv().await?;
            Some((chunk, (frames, looker)))
        };
        let start = stream::once(async { Bytes::from(pcap::start()) });
        Ok(start.chain(stream::unfold((frames, looker), next)).boxed())
    }

    /// Ends all streams, for good.
    pub fn close_lookers(&self) {
        let mut looking = self.lookers.lock();
        looking.closed = true;
        (looking.pictures, looking.frames, looking.tap) = (None, None, None);
        if let Some(task) = looking.task.take() {
            task.abort();
        }
    }

    fn can_look(&self) -> Result<(), Failure> {
        match self.has_kernel() {
            true => Ok(()),
            false => Err(Failure::Invalid(
                "kernel.mode is off, and there is no program that could be looked at; tcpdump sees all that \
                 the slow path answers"
                    .to_owned(),
            )),
        }
    }

    /// Asks the program for what lookers want, and starts to read it if no task does.
    fn look(self: &Arc<Self>) -> Result<(), Failure> {
        let mut looking = self.lookers.lock();
        self.ask(&looking.watching)?;
        if looking.task.as_ref().is_none_or(JoinHandle::is_finished) {
            let reader = Reader::open(self)?;
            looking.task = Some(tokio::spawn(reader.read()));
        }
        Ok(())
    }

    fn ask(&self, watching: &Watching) -> Result<(), Failure> {
        let kernel = self.lock_kernel();
        kernel.map_or(Ok(()), |mut kernel| {
            kernel.set_watching(watching.clone()).map_err(internal)
        })
    }

    /// Lets a looker go.
    fn leave(&self, captures: bool) {
        let mut looking = self.lookers.lock();
        if captures {
            looking.watching.capture = None;
        } else {
            looking.tops -= 1;
            if looking.tops == 0 {
                looking.watching.samples = None;
                looking.pictures = None;
            }
        }
        if let Err(failure) = self.ask(&looking.watching) {
            tracing::warn!("the program goes on telling what nobody looks at: {failure}");
        }
        if captures {
            // Not before the program has ended it: the next one's filter is another.
            looking.frames = None;
        }
        looking.end_unneeded();
    }

    /// Has the program tell this tap of exchanges, in place of the one before; `None`: nobody.
    pub fn tap_program(self: &Arc<Self>, tap: Option<Arc<Tap>>) -> Result<(), Failure> {
        if !self.has_kernel() {
            return Ok(());
        }
        {
            let mut looking = self.lookers.lock();
            looking.watching.taps = tap.as_ref().map(|tap| tap.shift());
            looking.tap = tap;
            if looking.tap.is_none() {
                self.ask(&looking.watching)?;
                looking.end_unneeded();
                return Ok(());
            }
            looking.open()?;
        }
        self.look()
    }

    /// Queries a second that can be sampled, by what a tenth of a second shows.
    fn population(&self) -> Result<u64, Failure> {
        let before = self.counted()?;
        std::thread::sleep(Duration::from_millis(100));
        Ok(10 * (population(&self.counted()?) - population(&before)))
    }

    /// The program's counters.
    fn counted(&self) -> Result<[u64; geodns_common::verdict::COUNTERS], Failure> {
        let counters = self.counters.as_ref();
        counters.map_or(Ok([0; geodns_common::verdict::COUNTERS]), |counters| {
            counters.read().map_err(internal)
        })
    }
}

impl Looking {
    /// Ends the task that reads, if nobody looks any more.
    fn end_unneeded(&mut self) {
        if self.tops == 0
            && self.frames.is_none()
            && self.tap.is_none()
            && let Some(task) = self.task.take()
        {
            task.abort();
        }
    }

    fn open(&self) -> Result<(), Failure> {
        match self.closed {
            false => Ok(()),
            true => Err(Failure::Internal(kernel::Error::Stopped.to_string())),
        }
    }
}

/// Packets that were for us, whatever became of them: those that a sample may be of.
fn population(counters: &[u64]) -> u64 {
    let all = Verdict::ALL.iter().filter(|verdict| is_for_us(**verdict));
    all.map(|verdict| counters[*verdict as usize] + counters::over_budget(counters, *verdict))
        .fold(0, u64::wrapping_add)
}

/// Whether a packet with this verdict was a message to us.
fn is_for_us(verdict: Verdict) -> bool {
    verdict as u32 <= Verdict::Aborted as u32 || verdict as u32 >= Verdict::MessageSize as u32
}

/// log2 of N, where one query in N is sampled, after this many queries in this time.
fn shift(queries: u64, time: Duration) -> u32 {
    let a_second = queries as f64 / time.as_secs_f64().max(f64::EPSILON);
    let times = (a_second / SAMPLES as f64).max(1.0);
    (times.log2().ceil() as u32).min(Watch::MAX_SHIFT)
}

/// The capture that a query asks for. An error says what is wrong with the query.
fn understood(query: &CaptureQuery) -> Result<Capture, String> {
    let said = RuleText {
        name: query.name.clone(),
        below: query.below.clone(),
        qtype: query.qtype.clone(),
        from: query.from,
    };
    let of = match said == RuleText::default() {
        true => None,
        false => Some(InForce {
            rule: Rule::new(&said)?,
            counter: 0,
            dropped: Arc::default(),
        }),
    };
    let every = query.every.unwrap_or(1);
    if !every.is_power_of_two() || every > 1 << Watch::MAX_SHIFT {
        return Err(format!(
            "every: {every} is no power of two up to {}; write one, as 64",
            1 << Watch::MAX_SHIFT
        ));
    }
    let mut verdicts = 0;
    for word in query.verdicts.iter().flat_map(|list| list.split(',')) {
        let verdict = Verdict::ALL.iter().find(|verdict| verdict.name() == word);
        let verdict = verdict.ok_or_else(|| {
            let for_us = Verdict::ALL.iter().filter(|verdict| is_for_us(**verdict));
            let names: Vec<&str> = for_us.map(|verdict| verdict.name()).collect();
            format!("{word:?} is no verdict; there are {}", names.join(", "))
        })?;
        verdicts |= 1 << *verdict as u32;
    }
    Ok(Capture {
        of,
        verdicts: if query.verdicts.is_none() {
            u64::MAX
        } else {
            verdicts
        },
        shift: every.trailing_zeros(),
    })
}

/// Reads what the program tells.
struct Reader {
    daemon: Arc<Daemon>,
    sightings: AsyncFd<kernel::watch::Sightings>,
    sketches: Sketches,
    samples: Samples,
    counters: Vec<u64>,
    in_userspace: BTreeMap<String, u64>,
    since: Instant,
}

impl Reader {
    fn open(daemon: &Arc<Daemon>) -> Result<Self, Failure> {
        let kernel = daemon.lock_kernel();
        let kernel = kernel.ok_or_else(|| internal(kernel::Error::Stopped))?;
        let sightings = kernel.sightings().map_err(internal)?;
        let sketches = kernel.sketches().map_err(internal)?;
        drop(kernel);
        // SAFETY: the ring buffer owns its descriptor, always the same one, until it is dropped; only the reader
        // has it.
        let sightings = unsafe { AsyncFd::register_with_interest(sightings, Interest::READABLE) };
        let sightings = sightings.map_err(|error| internal(error.to_string()))?;
        let mut reader = Self {
            sightings,
            sketches,
            samples: Samples::default(),
            counters: daemon.counted()?.to_vec(),
            in_userspace: daemon.server.stats().snapshot(),
            since: Instant::now(),
            daemon: Arc::clone(daemon),
        };
        // What is in there is from before.
        while reader.drain(|_, _| {}) {}
        Ok(reader)
    }

    /// Reads until the task is aborted.
    async fn read(mut self) {
        for second in [false, true] {
            let _ = self.sketches.clear(second);
        }
        let mut pictures = interval(PICTURE);
        pictures.set_missed_tick_behavior(MissedTickBehavior::Delay);
        pictures.tick().await;
        let mut is_more = false;
        loop {
            let is_picture = tokio::select! {
                biased;
                _ = pictures.tick() => true,
                // Nobody wakes us for what is there already.
                () = std::future::ready(()), if is_more => false,
                ready = self.sightings.readable() => {
                    if let Ok(mut ready) = ready {
                        ready.clear_ready();
                    }
                    false
                }
            };
            is_more = self.drain(Self::take);
            // Others have work to do, too.
            tokio::task::yield_now().await;
            if is_picture && let Err(failure) = self.picture().await {
                tracing::warn!("no picture for `geodns top`: {failure}");
            }
        }
    }

    /// Takes sightings, N at the most. Gives whether there may be more.
    fn drain(&mut self, take: impl Fn(&mut Self, &Sighting)) -> bool {
        for _ in 0..AT_ONCE {
            let Some(sighting) = self.sightings.get_mut().take() else {
                return false;
            };
            take(self, &sighting);
        }
        true
    }

    fn take(&mut self, sighting: &Sighting) {
        if sighting.kinds & Watch::SAMPLE != 0 {
            self.samples.add(sighting);
        }
        if sighting.kinds & Watch::CAPTURE != 0
            && let Some(frames) = &self.daemon.lookers.lock().frames
        {
            let records = Bytes::from(pcap::records(sighting, epoch()));
            if frames.try_send(records).is_err() {
                self.samples.lost += 1;
                self.daemon.lookers.lost.fetch_add(1, Ordering::Relaxed);
            }
        }
        if sighting.kinds & Watch::TAP != 0
            && let Some(tap) = &self.daemon.lookers.lock().tap
            && let Some(exchange) = dnstap::exchange(sighting, epoch())
        {
            tap.take(exchange);
        }
    }

    /// Makes a picture of the time since the last one.
    async fn picture(&mut self) -> Result<(), Failure> {
        let (before, now) = {
            let mut looking = self.daemon.lookers.lock();
            if looking.tops == 0 {
                return Ok(());
            }
            let before = looking.watching.clone();
            looking.watching.second = !before.second;
            self.daemon.ask(&looking.watching)?;
            (before, looking.watching.clone())
        };
        tokio::time::sleep(kernel::block::TICKS).await;
        let key = match self.daemon.lock_kernel() {
            Some(kernel) => kernel.instance().settings().hash_key,
            None => return Ok(()),
        };
        let prefixes = self.sketches.take(&key, before.second).map_err(internal)?;
        let counters = self.daemon.counted()?.to_vec();
        let in_userspace = self.daemon.server.stats().snapshot();
        let time = self.since.elapsed();
        let counted: Vec<u64> = counters
            .iter()
            .zip(&self.counters)
            .map(|(now, before)| now.wrapping_sub(*before))
            .collect();
        let slow: BTreeMap<String, u64> = in_userspace
            .iter()
            .map(|(name, now)| {
                let before = self.in_userspace.get(name).copied().unwrap_or(0);
                (name.clone(), now.saturating_sub(before))
            })
            .collect();
        (self.counters, self.in_userspace, self.since) = (counters, in_userspace, Instant::now());
        let queries = population(&counted);
        let world = self.daemon.world.load();
        let samples = std::mem::take(&mut self.samples);
        let top = samples.picture(
            &world.inputs.config,
            time,
            queries,
            &counted,
            &slow,
            &prefixes,
        );
        let wanted = shift(queries, time);
        let mut looking = self.daemon.lookers.lock();
        if now.samples.is_some_and(|shift| shift != wanted) && looking.tops > 0 {
            looking.watching.samples = Some(wanted);
            self.daemon.ask(&looking.watching)?;
        }
        if let Some(pictures) = &looking.pictures {
            let mut line = serde_json::to_vec(&top).map_err(internal)?;
            line.push(b'\n');
            // Nobody may be there any more.
            let _ = pictures.send(line.into());
        }
        Ok(())
    }
}

/// How far the time of day is ahead of the kernel's clock.
fn epoch() -> Duration {
    let now = |clock| clock_gettime(clock).map_or(Duration::ZERO, Duration::from);
    now(ClockId::CLOCK_REALTIME).saturating_sub(now(ClockId::CLOCK_MONOTONIC))
}

#[async_trait]
impl crate::control::watch::Service for Control {
    async fn top(&self) -> Result<Stream, Failure> {
        let daemon = Arc::clone(&self.0);
        let looks = tokio::task::spawn_blocking(move || daemon.top());
        looks.await.map_err(internal)?
    }

    async fn capture(&self, query: CaptureQuery) -> Result<Stream, Failure> {
        let daemon = Arc::clone(&self.0);
        let looks = tokio::task::spawn_blocking(move || daemon.capture(&query));
        looks.await.map_err(internal)?
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_as_many_as_can_be_looked_at() {
        for (queries, want) in [
            (0, 0),
            (SAMPLES, 0),
            (SAMPLES + 1, 1),
            (1_000_000, 8),
            (u64::MAX, Watch::MAX_SHIFT),
        ] {
            assert_eq!(shift(queries, Duration::from_secs(1)), want, "{queries}");
        }
        assert_eq!(shift(SAMPLES, Duration::from_millis(500)), 1);
    }

    #[test]
    fn a_capture_is_understood_or_refused_in_a_line() {
        let query = CaptureQuery::default();
        let capture = understood(&query).unwrap();
        assert!(capture.of.is_none());
        assert_eq!((capture.verdicts, capture.shift), (u64::MAX, 0));
        let query = CaptureQuery {
            below: Some("example.org".to_owned()),
            verdicts: Some("answered,drop_blocked".to_owned()),
            every: Some(64),
            ..CaptureQuery::default()
        };
        let capture = understood(&query).unwrap();
        let both = 1 << Verdict::Answered as u32 | 1 << Verdict::Blocked as u32;
        assert_eq!((capture.verdicts, capture.shift), (both, 6));
        let every = CaptureQuery {
            every: Some(3),
            ..CaptureQuery::default()
        };
        assert!(
            understood(&every)
                .unwrap_err()
                .starts_with("every: 3 is no power of two")
        );
        let verdicts = CaptureQuery {
            verdicts: Some("answerd".to_owned()),
            ..CaptureQuery::default()
        };
        let why = understood(&verdicts).unwrap_err();
        assert!(
            why.starts_with("\"answerd\" is no verdict; there are answered, static, "),
            "{why}"
        );
        assert!(
            !why.contains("pass_not_ip") && why.lines().count() == 1,
            "{why}"
        );
    }
}

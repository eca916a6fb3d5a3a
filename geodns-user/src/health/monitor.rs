//! All checks, each at its turn, and the states of their targets.
//!
//! One task keeps the times: a heap of turns, one timer, and at most N checks in flight; a task
//! of its own has only a check that runs. Targets' turns are spread evenly over their intervals, and
//! each check starts a little later than its turn, by chance, so that thousands of them, or several
//! nodes', never fire together.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet};
use std::fmt;
use std::ops::RangeInclusive;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime};

use tokio::sync::Notify;
use tokio::task::{self, AbortHandle, JoinError, JoinHandle, JoinSet};
use tokio::time::{Instant, sleep_until};

use super::check::{Outcome, Probe, Shared};
use super::state::State;
use super::target::Target;
use super::trace::Traces;
use crate::base::lock::lock;
use crate::supervise::{Never, forever};

/// Between the first checks of targets that are new: a thousand each second.
const FIRST: Duration = Duration::from_millis(1);
/// The golden ratio's fraction: its multiples, without their whole parts, are spread evenly over 0
/// to 1 however many there are.
const GOLDEN: f64 = 0.618_033_988_749_895;
/// How often trouble on this side is logged, at the most.
const COMPLAIN: Duration = Duration::from_secs(60);

/// How a monitor runs.
#[derive(Clone, Debug)]
pub struct Options {
    /// The most checks under way at once: as many as there are if no target answers, within this range. More must
    /// wait, and are late.
    pub in_flight: RangeInclusive<usize>,
    /// Verdicts of before a restart, by [`Target::key`]. They hold until results overthrow them, as
    /// if there had been no restart.
    pub saved: HashMap<String, Saved>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            in_flight: 256..=4096,
            saved: HashMap::new(),
        }
    }
}

/// State of a target that survives a restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Saved {
    /// Its verdict.
    pub up: bool,
    /// Since when, in milliseconds since 1970.
    pub since_unix_ms: u64,
}

/// A result, and what it made of the verdict.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The target of the check.
    pub target: Arc<Target>,
    /// The verdict.
    pub up: bool,
    /// Whether it is another one than before, or the first.
    pub changed: bool,
    /// The least time until it can change.
    pub until_change: Duration,
    /// Why the check failed, if it did.
    pub reason: Option<String>,
}

/// Checks that could not be made, for a reason on this side. They say nothing of their targets.
#[derive(Clone, Debug)]
pub struct Trouble {
    /// How many, since this was told last.
    pub checks: u64,
    /// The target of the first of them.
    pub target: Arc<Target>,
    /// Why it could not be made.
    pub cause: String,
}

/// News of a monitor.
#[derive(Clone, Debug)]
pub enum Told {
    /// A result, as it comes in.
    Result(Event),
    /// Now and then.
    Trouble(Trouble),
}

/// State of a target.
#[derive(Clone, Debug)]
pub struct Status {
    /// The target.
    pub target: Arc<Target>,
    /// The verdict; `None` before the first result.
    pub up: Option<bool>,
    /// Since when.
    pub since: Option<SystemTime>,
    /// The latest result.
    pub last: Option<Last>,
    /// Checks that passed, since the start.
    pub passed: u64,
    /// Checks that failed.
    pub failed: u64,
    /// How often the verdict became another one. The first one does not count.
    pub changes: u64,
    /// The least time until it can change.
    pub until_change: Duration,
    /// Time that the trace of the mirror's content named when it was last read.
    pub trace: Option<SystemTime>,
}

/// A result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Last {
    /// When.
    pub at: SystemTime,
    /// How long the check took.
    pub latency: Duration,
    /// Its result.
    pub outcome: Outcome,
}

/// Runs checks until it is dropped.
pub struct Monitor {
    inner: Arc<Inner>,
    traces: Arc<Traces>,
    task: JoinHandle<Never>,
}

impl fmt::Debug for Monitor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Monitor").finish_non_exhaustive()
    }
}

impl Monitor {
    /// Starts without targets, in the current runtime. `tell` is called with each result as it comes
    /// in, and must not block.
    pub fn start(options: Options, tell: impl FnMut(Told) + Send + 'static) -> Self {
        let shared = Shared::default();
        let traces = Arc::clone(&shared.traces);
        let shared = Mutex::new(shared);
        let prepare = move |targets: Vec<Arc<Target>>| {
            let mut shared = lock(&shared);
            *shared = shared.renewed();
            let keys: HashSet<String> = targets.iter().map(|target| target.key()).collect();
            shared.traces.retain(|key| keys.contains(key));
            targets
                .iter()
                .map(|target| {
                    let probe = Arc::new(Probe::new(target, &shared));
                    let run = move || {
                        let probe = probe.clone();
                        Box::pin(async move { probe.run().await }) as Running
                    };
                    Arc::new(run) as Run
                })
                .collect()
        };
        let mut monitor = Self::start_with(options, tell, Box::new(prepare));
        monitor.traces = traces;
        monitor
    }

    fn start_with(
        options: Options,
        tell: impl FnMut(Told) + Send + 'static,
        prepare: Box<Prepare>,
    ) -> Self {
        let inner = Arc::new(Inner {
            table: Mutex::new(Table {
                epoch: Instant::now(),
                saved: options.saved,
                seed: rand::random(),
                ..Table::new()
            }),
            changed: Notify::new(),
            most: AtomicUsize::new(*options.in_flight.start()),
            in_flight: options.in_flight,
            prepare,
        });
        let keeper = Keeper {
            inner: inner.clone(),
            running: JoinSet::new(),
            whose: HashMap::new(),
            tell: Box::new(tell),
            complaints: Complaints::new(),
        };
        let keeper = Arc::new(tokio::sync::Mutex::new(keeper));
        Self {
            inner,
            traces: Arc::default(),
            task: tokio::spawn(forever("checks", move || {
                let keeper = Arc::clone(&keeper);
                async move { keeper.lock().await.run().await }
            })),
        }
    }

    /// Checks these from now on, each once, and no others. Those that are there already go on as if
    /// nothing had happened; one of which only the times or thresholds changed keeps its verdict. The
    /// system's root certificates are read anew.
    pub fn set_targets(&self, targets: impl IntoIterator<Item = Target>) {
        let mut wanted: Vec<Arc<Target>> = Vec::new();
        let mut seen = HashSet::new();
        for target in targets {
            let target = Arc::new(target);
            if seen.insert(target.clone()) {
                wanted.push(target);
            }
        }
        let waiting = |target: &Arc<Target>| {
            target.check.timeout.as_secs_f64() / target.check.interval.as_secs_f64()
        };
        let waiting: f64 = wanted.iter().map(waiting).sum();
        let (least, most) = (*self.inner.in_flight.start(), *self.inner.in_flight.end());
        let most = (waiting.ceil() as usize).min(most).max(least);
        self.inner.most.store(most, Ordering::Relaxed);
        let runs = (self.inner.prepare)(wanted.clone());
        self.inner.table().replace(wanted, runs);
        self.inner.changed.notify_one();
    }

    /// State of each target, in the order of their keys.
    pub fn snapshot(&self) -> Vec<Status> {
        let mut all: Vec<Status> = {
            let table = self.inner.table();
            let now = Instant::now();
            table
                .entries
                .values()
                .map(|entry| entry.status(now))
                .collect()
        };
        for status in &mut all {
            if status.target.has_trace() {
                status.trace = self.traces.get(&status.target.key());
            }
        }
        all.sort_by_cached_key(|status| status.target.key());
        all
    }

    /// States to keep over a restart, by [`Target::key`].
    pub fn saved(&self) -> HashMap<String, Saved> {
        let table = self.inner.table();
        let entries = table.entries.values();
        let saved = entries.filter_map(|entry| Some((entry.target.key(), entry.saved()?)));
        // One that is not among the targets today may be tomorrow, but nobody knows how it is then.
        saved.collect()
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        self.task.abort();
    }
}

type Running = Pin<Box<dyn Future<Output = Outcome> + Send>>;
/// Makes a check of one target.
type Run = Arc<dyn Fn() -> Running + Send + Sync>;
/// Makes targets ready to be checked.
type Prepare = dyn Fn(Vec<Arc<Target>>) -> Vec<Run> + Send + Sync;

struct Inner {
    table: Mutex<Table>,
    /// There are other targets.
    changed: Notify,
    in_flight: RangeInclusive<usize>,
    /// The most that may be in flight with these targets.
    most: AtomicUsize,
    prepare: Box<Prepare>,
}

impl Inner {
    /// The most checks under way at once.
    fn most(&self) -> usize {
        self.most.load(Ordering::Relaxed).max(1)
    }

    /// Locked for moments only, never across an await.
    fn table(&self) -> MutexGuard<'_, Table> {
        lock(&self.table)
    }
}

/// All targets.
struct Table {
    entries: HashMap<u64, Entry>,
    numbers: HashMap<Arc<Target>, u64>,
    /// Turns, the first one on top. A target that is in no check stands here once; one that is gone may still do.
    turns: BinaryHeap<Reverse<(Instant, u64)>>,
    /// Number of the next target.
    next: u64,
    epoch: Instant,
    /// Where in their intervals the first turns are, as a part of the whole range.
    seed: u32,
    saved: HashMap<String, Saved>,
}

/// One target.
struct Entry {
    target: Arc<Target>,
    run: Run,
    state: State,
    since: Option<SystemTime>,
    last: Option<Last>,
    passed: u64,
    failed: u64,
    changes: u64,
    /// The turn that is next, or now. A check starts then or, by jitter, a little later.
    turn: Instant,
    /// Where in an interval its turns are.
    phase: Duration,
    running: Option<AbortHandle>,
}

impl Table {
    fn new() -> Self {
        Self {
            entries: HashMap::new(),
            numbers: HashMap::new(),
            turns: BinaryHeap::new(),
            next: 0,
            epoch: Instant::now(),
            seed: 0,
            saved: HashMap::new(),
        }
    }

    /// These targets instead of those.
    fn replace(&mut self, targets: Vec<Arc<Target>>, runs: Vec<Run>) {
        let mut before = std::mem::take(&mut self.entries);
        let numbers = std::mem::take(&mut self.numbers);
        let mut new = Vec::new();
        for (target, run) in targets.into_iter().zip(runs) {
            let stays = numbers.get(&target);
            match stays.and_then(|number| Some((number, before.remove(number)?))) {
                Some((&number, mut entry)) => {
                    entry.run = run;
                    self.numbers.insert(entry.target.clone(), number);
                    self.entries.insert(number, entry);
                }
                None => new.push((target, run)),
            }
        }
        for entry in before.values_mut() {
            if let Some(running) = entry.running.take() {
                running.abort();
            }
        }
        let mut known: HashMap<String, Entry> = before
            .into_values()
            .map(|entry| (entry.target.key(), entry))
            .collect();
        let now = Instant::now();
        for (place, (target, run)) in (0u32..).zip(new) {
            let entry = self.entry(target, run, &mut known, now + FIRST * place);
            self.numbers.insert(entry.target.clone(), self.next);
            self.turns.push(Reverse((entry.turn, self.next)));
            self.entries.insert(self.next, entry);
            self.next += 1;
        }
        let entries = &self.entries;
        self.turns
            .retain(|Reverse((_, number))| entries.contains_key(number));
    }

    /// A new target, with what is known of what it asks.
    fn entry(
        &mut self,
        target: Arc<Target>,
        run: Run,
        known: &mut HashMap<String, Entry>,
        first: Instant,
    ) -> Entry {
        let key = target.key();
        let share =
            (f64::from(self.seed) / f64::from(u32::MAX) + self.next as f64 * GOLDEN).fract();
        let mut entry = Entry {
            run,
            state: State::default(),
            since: None,
            last: None,
            passed: 0,
            failed: 0,
            changes: 0,
            turn: first,
            phase: target.check.interval.mul_f64(share),
            running: None,
            target,
        };
        let saved = self.saved.remove(&key);
        if let Some(before) = known.remove(&key) {
            entry.state = before.state.replanned();
            entry.since = before.since;
            entry.last = before.last;
            entry.passed = before.passed;
            entry.failed = before.failed;
            entry.changes = before.changes;
        } else if let Some(saved) = saved {
            entry.state = State::restored(saved.up);
            let since = Duration::from_millis(saved.since_unix_ms);
            entry.since = SystemTime::UNIX_EPOCH.checked_add(since);
        }
        entry
    }

    /// When the next check is to start.
    fn due(&self) -> Option<Instant> {
        self.turns.peek().map(|Reverse((due, _))| *due)
    }

    /// Takes a result, plans the next check, and says what to tell.
    fn result(&mut self, number: u64, outcome: Outcome, latency: Duration) -> Option<Event> {
        let entry = self.entries.get_mut(&number)?;
        let now = Instant::now();
        entry.running = None;
        entry.turn = entry.next_turn(self.epoch, now);
        let jitter = entry.target.check.jitter.mul_f64(rand::random());
        let due = now.max(entry.turn + jitter);
        self.turns.push(Reverse((due, number)));
        entry.result(outcome, latency, now)
    }
}

impl Entry {
    /// The turn after the present one. Turns that have passed by are left out, but for the latest.
    fn next_turn(&self, epoch: Instant, now: Instant) -> Instant {
        let interval = self.target.check.interval;
        let origin = epoch + self.phase;
        let number = |at: Instant| {
            let since = at.saturating_duration_since(origin);
            u32::try_from(since.as_nanos() / interval.as_nanos().max(1)).unwrap_or(u32::MAX)
        };
        // The first turn stands anywhere between two; the second one is at least half an interval off.
        let after = self.turn + interval / 2;
        let next = match after < origin {
            true => 0,
            false => number(after).saturating_add(1),
        };
        let latest = number(now);
        origin + interval * next.max(latest)
    }

    fn result(&mut self, outcome: Outcome, latency: Duration, now: Instant) -> Option<Event> {
        let next = self.turn.into_std();
        let check = &self.target.check;
        let first = self.state.up().is_none();
        let (changed, reason) = match &outcome {
            Outcome::Passed => {
                self.passed += 1;
                (self.state.result(check, true, next), None)
            }
            Outcome::Failed(reason) => {
                self.failed += 1;
                let reason = reason.clone();
                (self.state.result(check, false, next), Some(reason))
            }
            Outcome::Impossible(_) => {
                self.state.postpone(next);
                self.last = Some(Last::now(latency, outcome));
                return None;
            }
        };
        let last = Last::now(latency, outcome);
        if changed {
            self.since = Some(last.at);
            self.changes += u64::from(!first);
        }
        self.last = Some(last);
        Some(Event {
            target: self.target.clone(),
            up: self.state.up()?,
            changed,
            until_change: self.state.until_change(check, now.into_std()),
            reason,
        })
    }

    fn status(&self, now: Instant) -> Status {
        let check = &self.target.check;
        Status {
            target: self.target.clone(),
            up: self.state.up(),
            since: self.since,
            last: self.last.clone(),
            passed: self.passed,
            failed: self.failed,
            changes: self.changes,
            until_change: self.state.until_change(check, now.into_std()),
            trace: None,
        }
    }

    fn saved(&self) -> Option<Saved> {
        let since = self.since?.duration_since(SystemTime::UNIX_EPOCH).ok()?;
        Some(Saved {
            up: self.state.up()?,
            since_unix_ms: u64::try_from(since.as_millis()).ok()?,
        })
    }
}

impl Last {
    fn now(latency: Duration, outcome: Outcome) -> Self {
        Self {
            at: SystemTime::now(),
            latency,
            outcome,
        }
    }
}

/// A check that is over.
struct Done {
    outcome: Outcome,
    latency: Duration,
}

/// Starts checks at their turns and takes their results.
struct Keeper {
    inner: Arc<Inner>,
    running: JoinSet<Done>,
    /// Which target a task checks.
    whose: HashMap<task::Id, u64>,
    tell: Box<dyn FnMut(Told) + Send>,
    complaints: Complaints,
}

impl Keeper {
    async fn run(&mut self) -> Never {
        loop {
            self.start_due();
            // With as many in flight as there may be, the next can only start when one is over.
            let full = self.running.len() >= self.inner.most();
            let due = self.inner.table().due().filter(|_| !full);
            let timer = async {
                match due {
                    Some(due) => sleep_until(due).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = timer => {}
                () = self.inner.changed.notified() => {}
                Some(done) = self.running.join_next_with_id() => self.finish(done),
            }
            if let Some(trouble) = self.complaints.log() {
                (self.tell)(Told::Trouble(trouble));
            }
        }
    }

    fn start_due(&mut self) {
        let inner = self.inner.clone();
        let mut table = inner.table();
        let now = Instant::now();
        while self.running.len() < inner.most()
            && let Some(&Reverse((due, number))) = table.turns.peek()
            && due <= now
        {
            table.turns.pop();
            let Some(entry) = table.entries.get_mut(&number) else {
                continue;
            };
            if now.duration_since(due) > entry.target.check.interval {
                self.complaints.late += 1;
            }
            let run = entry.run.clone();
            let handle = self.running.spawn(async move {
                let start = Instant::now();
                let outcome = run().await;
                let latency = start.elapsed();
                Done { outcome, latency }
            });
            self.whose.insert(handle.id(), number);
            entry.running = Some(handle);
        }
    }

    fn finish(&mut self, done: Result<(task::Id, Done), JoinError>) {
        let (id, done) = match done {
            Ok(done) => done,
            // The target is gone.
            Err(error) if error.is_cancelled() => {
                self.whose.remove(&error.id());
                return;
            }
            Err(error) => {
                let outcome = Outcome::Impossible(format!("the check broke: {error}"));
                let latency = Duration::ZERO;
                (error.id(), Done { outcome, latency })
            }
        };
        let Some(number) = self.whose.remove(&id) else {
            return;
        };
        if let Outcome::Impossible(reason) = &done.outcome {
            self.complaints.impossible(number, reason, &self.inner);
        }
        let event = self
            .inner
            .table()
            .result(number, done.outcome, done.latency);
        if let Some(event) = event {
            (self.tell)(Told::Result(event));
        }
    }
}

/// Trouble on this side, told now and then.
struct Complaints {
    /// Checks that started more than an interval late.
    late: u64,
    /// Checks that were impossible.
    trouble: Option<Trouble>,
    /// When there may be lines again.
    after: Instant,
}

impl Complaints {
    fn new() -> Self {
        Self {
            late: 0,
            trouble: None,
            after: Instant::now(),
        }
    }

    fn impossible(&mut self, number: u64, reason: &str, inner: &Inner) {
        if let Some(trouble) = &mut self.trouble {
            trouble.checks += 1;
            return;
        }
        let table = inner.table();
        self.trouble = table.entries.get(&number).map(|entry| Trouble {
            checks: 1,
            target: Arc::clone(&entry.target),
            cause: reason.to_owned(),
        });
    }

    /// Logs that checks are late. Gives those that were impossible, whose mirrors another knows.
    fn log(&mut self) -> Option<Trouble> {
        if self.late == 0 && self.trouble.is_none() || Instant::now() < self.after {
            return None;
        }
        if self.late > 0 {
            let checks = self.late;
            tracing::warn!(
                checks,
                "health: {checks} checks started more than an interval late; too many wait for their \
                 timeouts: raise intervals, or lower timeouts"
            );
        }
        let before = std::mem::replace(
            self,
            Self {
                after: Instant::now() + COMPLAIN,
                ..Self::new()
            },
        );
        before.trouble
    }
}

#[cfg(test)]
mod tests;

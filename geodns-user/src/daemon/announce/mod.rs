//! This node of an anycast set is announced as it stands: by a thread of its own, in rounds.
//!
//! - `checks`: a round of checks of the node itself
//! - `kept`: survives restarts, on this node alone
//! - `neighbours`: whether neighbours are told of its routes
//! - `rounds`: the thread: checks, decides, and tells the holder of the device
//! - `calls`: the calls of the API
//!
//! The thread has a runtime of its own: a slow path whose runtime hangs is one that does not answer, and is noticed.

mod calls;
mod checks;
mod kept;
mod neighbours;
mod rounds;

use std::collections::BTreeSet;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use ipnet::IpNet;
use tokio::sync::{Notify, watch};

use super::Daemon;
use crate::announce::course::Word;
use crate::announce::{State, machine};
use crate::base::clock::now_unix_ms;
use crate::base::lock::lock;
use crate::config::{Announce, Config};
use crate::state;
use crate::supervise;
use checks::Check;
use kept::Kept;

/// Beyond the time of a drain, a stop waits this long for the routes to be gone.
const MARGIN: Duration = Duration::from_secs(5);
/// The longest drain until no query comes.
const DRAIN_MOST: Duration = Duration::from_secs(120);

/// The announcement of a running daemon. There is one if the configuration has `[announce]`.
pub struct Announcing {
    /// The operator's word in force.
    word: Mutex<Word>,
    /// On disk. Locked by whoever writes it there, which may take long.
    kept: Mutex<Kept>,
    /// The daemon ends: drain, then withdraw.
    ends: AtomicBool,
    /// It ends at once: withdraw.
    hurries: AtomicBool,
    /// The operator wants failures to be forgotten.
    forgives: AtomicBool,
    /// The next round is wanted now.
    due: Notify,
    /// The last round.
    seen: Mutex<Seen>,
    /// Rounds so far; `None`: there are no more.
    rounds: watch::Sender<Option<u64>>,
}

/// The node as the last round found it.
#[derive(Clone, Debug)]
struct Seen {
    state: State,
    /// Since when, in milliseconds since 1970.
    since: u64,
    why: String,
    prefixes: BTreeSet<IpNet>,
    /// The holder or its routes are not as they should be.
    trouble: Option<String>,
    /// Moments of failures within the last hours.
    failures: Vec<u64>,
    checks: Vec<Check>,
}

impl Announcing {
    /// The announcement of a start, if the configuration has one. A daemon before that crashed is a failure.
    pub fn load(config: &Config, state: &state::State) -> Result<Option<Self>, state::Error> {
        if config.announce.is_none() {
            return Ok(None);
        }
        for warning in machine::warnings(config) {
            tracing::warn!("{warning}");
        }
        let mut kept = Kept::load(state)?;
        let now = now_unix_ms();
        if kept.runs {
            tracing::warn!(
                "the daemon before has ended without a stop: it counts as a failure of this node"
            );
            kept.failures.push(now);
        }
        kept.runs = true;
        kept.save(state)?;
        Ok(Some(Self {
            word: Mutex::new(kept.word),
            seen: Mutex::new(Seen {
                state: State::Waiting,
                since: now,
                why: "starting".to_owned(),
                prefixes: BTreeSet::new(),
                trouble: None,
                failures: kept.failures.clone(),
                checks: Vec::new(),
            }),
            kept: Mutex::new(kept),
            ends: AtomicBool::new(false),
            hurries: AtomicBool::new(false),
            forgives: AtomicBool::new(false),
            due: Notify::new(),
            rounds: watch::channel(Some(0)).0,
        }))
    }

    /// The routes that are in force.
    fn routes(&self) -> Vec<IpNet> {
        let seen = lock(&self.seen);
        match seen.state.metric() {
            Some(_) => seen.prefixes.iter().copied().collect(),
            None => Vec::new(),
        }
    }

    /// Keeps a change on disk. Blocks on it.
    fn keep(
        &self,
        state: &state::State,
        change: impl FnOnce(&mut Kept),
    ) -> Result<(), state::Error> {
        let mut kept = lock(&self.kept);
        let mut next = kept.clone();
        change(&mut next);
        next.save(state)?;
        *kept = next;
        Ok(())
    }

    /// Drains and withdraws, as long as that may take: for the end of the daemon. Called again, it withdraws at once.
    pub fn end(&self) {
        if self.ends.swap(true, Ordering::Relaxed) {
            self.hurries.store(true, Ordering::Relaxed);
        }
        self.due.notify_one();
    }

    /// Waits until nothing is announced any more.
    async fn ended(&self, config: &Announce) {
        let most = config.drain.unwrap_or(DRAIN_MOST) + MARGIN;
        let mut rounds = self.rounds.subscribe();
        let over = rounds.wait_for(Option::is_none);
        if tokio::time::timeout(most, over).await.is_err() {
            tracing::warn!("the routes of this node could not be withdrawn in time");
        }
    }

    /// Waits until a round is over that began after this call, or as long as that may take.
    async fn round(&self, interval: Duration) {
        let mut rounds = self.rounds.subscribe();
        let before = *rounds.borrow_and_update();
        self.due.notify_one();
        // The one under way may have begun before.
        let is_later = |now: &Option<u64>| match (now, before) {
            (Some(now), Some(before)) => *now >= before + 2,
            _ => true,
        };
        let later = rounds.wait_for(is_later);
        let _ = tokio::time::timeout(3 * interval + MARGIN, later).await;
    }
}

impl Daemon {
    /// Starts the thread that announces this node, if the configuration has `[announce]`.
    pub fn start_announcing(self: &Arc<Self>) -> io::Result<Option<JoinHandle<()>>> {
        if self.announcing.is_none() {
            return Ok(None);
        }
        let daemon = Arc::clone(self);
        supervise::thread("announce", move || daemon.announce_in_rounds()).map(Some)
    }

    /// Waits until this node is announced no longer.
    pub async fn ended(&self, config: &Announce) {
        if let Some(announcing) = &self.announcing {
            announcing.ended(config).await;
        }
    }

    /// Notes that this daemon ends on purpose. Blocks on the disk.
    pub fn keep_end(&self) {
        if let Some(announcing) = &self.announcing
            && let Err(error) = announcing.keep(&self.state, |kept| kept.runs = false)
        {
            tracing::warn!("the next start takes this stop for a crash: {error}");
        }
    }
}

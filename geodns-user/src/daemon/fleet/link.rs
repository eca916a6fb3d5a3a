//! The link of a node to the store of its fleet: it follows the commits, and makes commits of its own.
//!
//! Commits of things come to the node ([`Home`]) in order, each whole. All other entries (nodes, votes) are kept in memory
//! here. A link that breaks is made again, after a pause that grows.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use crate::announce::course::Permission;
use crate::base::clock::now_unix_ms;
use crate::base::lock::lock;
use crate::fault;
use crate::fleet::node::{self, Node};
use crate::fleet::rollout::{BUNDLE, REPORT, ROLLOUT};
use crate::fleet::votes::{TARGETS, VOTES};
use crate::shared::{
    Batch, Kind, Lost, Position, Refused, Revision, Shared, Snapshot, Trouble, Watch, Write,
};
use crate::state::{Change, Item, Membership};
use crate::supervise::Never;

/// The key whose value is the id of the fleet. `fleet init` puts it, and every write demands it.
pub const GUARD: &str = "fleet/id";
/// Keys of nodes that have leave to stop being announced begin with this.
pub const LEAVING: &str = "announce/leaves/";
/// Prefixes of entries that are no things of the state.
const REST: &[&str] = &[
    "fleet/",
    node::PREFIX,
    "announce/",
    TARGETS,
    VOTES,
    ROLLOUT,
    REPORT,
];
/// Before the link is made again: the first pause, which doubles, and the longest.
const PAUSES: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(5)];
/// The longest wait for a link that is made anew.
const SETTLES: Duration = Duration::from_secs(10);
/// How long a commit whose outcome is not known is repeated.
const FIND_OUT: Duration = Duration::from_secs(5);
/// Between repetitions.
const REPEAT: Duration = Duration::from_millis(200);
/// How long a commit may take to come back and be in force.
const COME_BACK: Duration = Duration::from_secs(10);
/// How often a commit is tried to be kept and put in force before the node goes on, and tries the rest later.
const TRIES: usize = 3;
/// Before things that are kept are put in force again: the first pause, which doubles, and the longest.
const LATER: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(60)];

/// The node, as its link sees it.
#[async_trait]
pub trait Home: Send + Sync + 'static {
    /// The fleet that the node is in, and the last commit that it has.
    async fn known(&self) -> Result<(Option<Membership>, Position), String>;

    /// Keeps a commit and puts it in force.
    async fn take(&self, change: Change, position: Position) -> Result<(), NotTaken>;

    /// Takes over all things of the store, in the place of what there is.
    async fn adopt(
        &self,
        entries: Vec<(Item, Revision)>,
        position: Position,
    ) -> Result<(), NotTaken>;

    /// Puts things in force as they are kept, by their keys.
    async fn put_again(&self, keys: Vec<String>) -> Result<(), String>;
}

/// How far a commit did not come in this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotTaken {
    /// It is not on disk, so the node may not go on to the next one.
    NotKept(String),
    /// It is on disk. The things with these keys are not in force.
    NotInForce(Vec<String>, String),
}

/// How the link is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    /// It is being made: the node reads what it has missed.
    Connecting,
    /// The node is in no fleet yet.
    NotJoined,
    /// The node has all commits.
    Following,
    /// The store is of no use.
    Broken(Trouble),
    /// The node may not follow the store: an operator has to look at it.
    Stopped(String),
}

/// The link at a moment.
#[derive(Clone, Debug)]
pub struct View {
    /// How it is.
    pub condition: Condition,
    /// The last moment that the node had all commits; before the first one, the start.
    pub fresh: Instant,
    /// How old was at the start what the node had, until it has had all commits.
    pub stale_before: Duration,
    /// The last commit that is in force here.
    pub in_force: Position,
    /// The last commit that changed things of the state, or that this node began with.
    pub things: Revision,
    /// Things that are kept and could not be put in force, by their keys: the commit, and why. They are tried again.
    pub failed: BTreeMap<String, (Revision, String)>,
    /// Why the store has refused the last commit of this node, if it has: it is full, say.
    pub refused: Option<Trouble>,
    /// The fleet.
    pub membership: Option<Membership>,
}

/// A link.
pub struct Link {
    store: Arc<dyn Shared>,
    /// Name of this node.
    pub node: String,
    /// The id of this run of the daemon, which no other one has.
    pub run: String,
    /// Whether the store has had the entry of this run.
    is_registered: AtomicBool,
    view: watch::Sender<View>,
    /// Entries that are no things of the state, each with the commit that put it.
    rest: Mutex<BTreeMap<String, (Revision, Vec<u8>)>>,
    /// Milliseconds that each node's clock was ahead of this one's when its entry came, by name.
    ahead: Mutex<BTreeMap<String, i64>>,
    /// Counts changes of `rest`.
    news: watch::Sender<u64>,
    /// Keys of things that this node alone has changed: reading them waits for no disk.
    pub local: Mutex<Arc<BTreeSet<String>>>,
    /// The wish of this node to stop being announced.
    pub wish: Mutex<Wish>,
    /// The wish is another one.
    pub wished: tokio::sync::Notify,
    /// Has the link made again at once.
    again: tokio::sync::Notify,
}

/// A node's wish to stop being announced, and the answer to it.
#[derive(Default)]
pub struct Wish {
    /// Whether it wishes so.
    pub is_there: bool,
    /// The answer of the fleet.
    pub answer: Permission,
}

/// Why a link has ended.
enum End {
    Lost(Lost),
    Stopped(String),
    NotJoined,
    /// The fleet of this node is another one, or the operator wants it.
    Anew,
}

impl From<Lost> for End {
    fn from(lost: Lost) -> Self {
        match lost {
            Lost::Disconnected(_) | Lost::Compacted => Self::Lost(lost),
            Lost::WentBack { .. } => Self::Stopped(format!(
                "{lost}; answers go on as they are: look at it, then `geodns fleet join`"
            )),
        }
    }
}

/// Why a commit was not made, or not put in force here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failed {
    /// Another commit came first.
    Conflict(Revision),
    /// In one line: why, and what has become of the change.
    Refused(String),
    /// The store does not take such a change.
    Invalid(String),
}

impl Link {
    /// A link that nobody follows yet, of a node that had all commits this time ago.
    pub fn new(store: Arc<dyn Shared>, node: String, stale: Duration) -> Self {
        Self {
            store,
            node,
            run: random_id(),
            is_registered: AtomicBool::new(false),
            view: watch::Sender::new(View {
                condition: Condition::Connecting,
                fresh: Instant::now(),
                stale_before: stale,
                in_force: Position::default(),
                things: Revision::default(),
                failed: BTreeMap::new(),
                refused: None,
                membership: None,
            }),
            rest: Mutex::default(),
            ahead: Mutex::default(),
            news: watch::Sender::new(0),
            local: Mutex::default(),
            wish: Mutex::default(),
            wished: tokio::sync::Notify::new(),
            again: tokio::sync::Notify::new(),
        }
    }

    /// The store.
    pub fn store(&self) -> &Arc<dyn Shared> {
        &self.store
    }

    /// The link as it is now.
    pub fn view(&self) -> View {
        self.view.borrow().clone()
    }

    /// Time since the node had all commits; `None`: it has them.
    pub fn stale_for(&self) -> Option<Duration> {
        let view = self.view.borrow();
        (view.condition != Condition::Following)
            .then(|| view.fresh.elapsed().saturating_add(view.stale_before))
    }

    /// Follows changes of the view.
    pub fn views(&self) -> watch::Receiver<View> {
        self.view.subscribe()
    }

    /// Follows changes of entries that are no things of the state.
    pub fn news(&self) -> watch::Receiver<u64> {
        self.news.subscribe()
    }

    /// Entries that are no things of the state, below a prefix, without it.
    pub fn below(&self, prefix: &str) -> Vec<(String, Vec<u8>)> {
        let rest = lock(&self.rest);
        let below = rest.range(prefix.to_owned()..);
        below
            .map_while(|(key, (_, value))| {
                let key = key.strip_prefix(prefix)?;
                Some((key.to_owned(), value.clone()))
            })
            .collect()
    }

    /// Entries below a prefix that have changed since `known`, which is brought up to date: each with its value, or
    /// `None` if it is gone.
    pub fn changes_below(
        &self,
        prefix: &str,
        known: &mut BTreeMap<String, Revision>,
    ) -> Vec<(String, Option<Vec<u8>>)> {
        let rest = lock(&self.rest);
        let is_gone = |key: &&String| key.starts_with(prefix) && !rest.contains_key(*key);
        let gone: Vec<String> = known.keys().filter(is_gone).cloned().collect();
        known.retain(|key, _| !gone.contains(key));
        let mut changes: Vec<_> = gone.into_iter().map(|key| (key, None)).collect();
        let below = rest.range(prefix.to_owned()..);
        for (key, (revision, value)) in below.take_while(|(key, _)| key.starts_with(prefix)) {
            if known.get(key) != Some(revision) {
                known.insert(key.clone(), *revision);
                changes.push((key.clone(), Some(value.clone())));
            }
        }
        changes
    }

    /// The commit that put an entry that is no thing of the state; `None`: there is no such entry.
    pub fn changed(&self, key: &str) -> Option<Revision> {
        lock(&self.rest).get(key).map(|(revision, _)| *revision)
    }

    /// An entry that is no thing of the state, and the commit that put it; `None`: there is no such entry.
    pub fn entry(&self, key: &str) -> Option<(Revision, Vec<u8>)> {
        lock(&self.rest).get(key).cloned()
    }

    /// Names of the nodes that live.
    pub fn alive(&self) -> BTreeSet<String> {
        let rest = lock(&self.rest);
        let nodes = rest.range(node::PREFIX.to_owned()..);
        nodes
            .map_while(|(key, _)| key.strip_prefix(node::PREFIX).map(str::to_owned))
            .collect()
    }

    /// The nodes that live.
    pub fn nodes(&self) -> BTreeMap<String, Node> {
        let nodes = self.below(node::PREFIX).into_iter();
        nodes
            .filter_map(|(name, value)| Some((name, Node::parse(&value).ok()?)))
            .collect()
    }

    /// Has the link made anew: the fleet of this node is another one, or the operator wants it.
    pub fn begin_anew(&self) {
        self.again.notify_one();
    }

    /// Waits until the link is so, for 10 s at the most: the store may go away meanwhile.
    pub async fn until(&self, is: impl FnMut(&View) -> bool) {
        let mut views = self.views();
        let _ = timeout(SETTLES, views.wait_for(is)).await;
    }

    /// Why no edit can be made now, in a line; `None`: it can.
    pub fn refusal(&self) -> Option<String> {
        let view = self.view();
        let why = match view.condition {
            Condition::Following => return None,
            Condition::Connecting => "this node still reads what it has missed".to_owned(),
            Condition::NotJoined => {
                "this node is in no fleet yet: `geodns fleet init` makes the fleet, `geodns fleet join` joins it"
                    .to_owned()
            }
            Condition::Broken(trouble) => format!(
                "the fleet's store is of no use for {} s: {trouble}; answers go on, and this node alone can be \
                 changed with --local",
                (view.fresh.elapsed() + view.stale_before).as_secs()
            ),
            Condition::Stopped(why) => why,
        };
        Some(format!("nothing has changed: {why}"))
    }

    /// Makes a commit, if this node has all commits so far. A commit whose outcome is not known is repeated until it is.
    pub async fn commit(&self, write: &Write) -> Result<Revision, Failed> {
        if let Some(refusal) = self.refusal() {
            return Err(Failed::Refused(refusal));
        }
        let point =
            |name: &str| fault::point(name).map_err(|error| Failed::Refused(error.to_string()));
        point("fleet: before the commit")?;
        let started = Instant::now();
        // An attempt whose answer was lost may have been done.
        let mut lost = false;
        loop {
            let done = self.store.commit(write).await;
            self.note_refusal(&done);
            match done {
                Ok(revision) => {
                    point("fleet: after the commit")?;
                    return Ok(revision);
                }
                Err(Refused::Conflict(revision)) => return Err(Failed::Conflict(revision)),
                Err(Refused::TooLarge(why) | Refused::Invalid(why)) => {
                    return Err(Failed::Invalid(why));
                }
                Err(Refused::Unavailable(trouble)) if !lost => {
                    return Err(Failed::Refused(format!("nothing has changed: {trouble}")));
                }
                Err(Refused::Unknown(trouble) | Refused::Unavailable(trouble)) => {
                    if started.elapsed() >= FIND_OUT {
                        return Err(Failed::Refused(format!(
                            "the change may have been made, or not, or is made yet: {trouble}; see what is in force \
                             once this node has all changes, before you repeat it"
                        )));
                    }
                    lost = true;
                    sleep(REPEAT).await;
                }
            }
        }
    }

    fn note_refusal(&self, done: &Result<Revision, Refused>) {
        let refused = match done {
            Ok(_) | Err(Refused::Conflict(_)) => None,
            Err(Refused::Unavailable(trouble)) => Some(trouble.clone()),
            Err(_) => return,
        };
        self.view.send_if_modified(|view| {
            let is_news = view.refused != refused;
            view.refused = refused;
            is_news
        });
    }

    /// Waits until a commit is in force here. The error says why it is not.
    pub async fn in_force(&self, revision: Revision) -> Result<(), String> {
        let mut views = self.views();
        let come = views.wait_for(|view| view.in_force.revision >= revision);
        let Ok(Ok(view)) = timeout(COME_BACK, come).await else {
            return Err("is in force here once this node can read it".to_owned());
        };
        match view.failed.values().find(|(failed, _)| *failed == revision) {
            Some((_, why)) => Err(format!("could not be put in force here yet: {why}")),
            None => Ok(()),
        }
    }

    /// Follows the store, for ever.
    pub async fn follow(&self, home: &dyn Home) -> Never {
        tokio::select! {
            never = self.follow_store(home) => never,
            never = self.put_failed(home) => never,
        }
    }

    async fn follow_store(&self, home: &dyn Home) -> Never {
        let mut pause = PAUSES[0];
        let mut compacted = false;
        loop {
            let end = match self.follow_once(home, compacted).await {
                Ok(never) => match never {},
                Err(end) => end,
            };
            compacted = matches!(end, End::Lost(Lost::Compacted));
            if self.view.borrow().condition == Condition::Following {
                pause = PAUSES[0];
            }
            let (condition, rest) = match end {
                End::Lost(Lost::Disconnected(trouble)) => (Condition::Broken(trouble), pause),
                End::Lost(_) | End::Anew => (Condition::Connecting, Duration::ZERO),
                End::Stopped(why) => (Condition::Stopped(why), PAUSES[1]),
                End::NotJoined => (Condition::NotJoined, PAUSES[1]),
            };
            self.set(condition);
            let jitter = rand::random_range(0.5..1.0);
            let _ = timeout(rest.mul_f64(jitter), self.again.notified()).await;
            pause = (pause * 2).min(PAUSES[1]);
        }
    }

    /// Sets the condition, and has the log say so if it is another one.
    fn set(&self, condition: Condition) {
        let before = self.view.borrow().condition.clone();
        self.view.send_modify(|view| {
            if before == Condition::Following || condition == Condition::Following {
                view.fresh = Instant::now();
                view.stale_before = Duration::ZERO;
            }
            view.condition = condition.clone();
        });
        if before == condition {
            return;
        }
        let event = crate::event::Kind::Fleet.name();
        match &condition {
            Condition::Following => tracing::info!(event, "fleet: this node has all commits"),
            Condition::Broken(trouble) => {
                tracing::warn!(event, cause = %trouble, "fleet: {trouble}; answers go on, edits are refused");
            }
            Condition::Stopped(why) => tracing::error!(event, cause = why, "fleet: {why}"),
            Condition::NotJoined => tracing::warn!(
                "fleet: this node is in no fleet yet: `geodns fleet init` makes the fleet, `geodns fleet join` joins it"
            ),
            Condition::Connecting => {}
        }
    }

    /// Follows the store until that ends. `compacted`: the store has forgotten what this node has missed.
    async fn follow_once(&self, home: &dyn Home, compacted: bool) -> Result<Never, End> {
        let (membership, mut position) = home.known().await.map_err(End::Stopped)?;
        self.view.send_modify(|view| {
            view.membership.clone_from(&membership);
            view.in_force = position;
            view.things = position.revision;
        });
        let mut now = self.read_rest().await?;
        let Some(membership) = membership else {
            return Err(End::NotJoined);
        };
        self.check(&membership)?;
        if compacted {
            let snapshot = self.store.snapshot().await?;
            position = self.take_over(home, snapshot).await?;
            // The watch begins with the snapshot: entries that were read before it may be older.
            now = self.read_rest().await?;
        }
        let mut watch = self.store.watch(position).await?;
        self.heed(home, &membership, &mut watch, position, now)
            .await
    }

    /// Heeds one commit after the other. `now` is the commit that was the last one when the link was made.
    async fn heed(
        &self,
        home: &dyn Home,
        membership: &Membership,
        watch: &mut Watch,
        mut position: Position,
        now: Revision,
    ) -> Result<Never, End> {
        loop {
            if position.revision >= now && self.view.borrow().condition != Condition::Following {
                self.set(Condition::Following);
            }
            let batch = tokio::select! {
                batch = watch.next() => batch?,
                () = self.again.notified() => return Err(End::Anew),
            };
            position.revision = batch.revision;
            let (change, has_rest) = self.sort(batch);
            // Before its things: a commit that makes another fleet of this one, or none, is not for this node.
            if has_rest && position.revision >= now {
                self.check(membership)?;
            }
            match change.0.is_empty() {
                true => self.view.send_modify(|view| view.in_force = position),
                false => {
                    let keys = change.keys();
                    let taken = take(home, change, position).await;
                    self.note(taken, &keys, position)?;
                }
            }
        }
    }

    /// Notes that things are in force here as a commit has them, or that some are not yet.
    fn note(
        &self,
        taken: Result<(), NotTaken>,
        keys: &[String],
        position: Position,
    ) -> Result<(), End> {
        let revision = position.revision;
        let (failed, why) = match taken {
            Ok(()) => (Vec::new(), String::new()),
            Err(NotTaken::NotInForce(failed, why)) => (failed, why),
            // The next link begins with it.
            Err(NotTaken::NotKept(why)) => {
                let line = format!("revision {revision} is not kept here: {why}");
                let trouble = Trouble::new(Kind::Other, line);
                return Err(End::Lost(Lost::Disconnected(trouble)));
            }
        };
        self.view.send_modify(|view| {
            view.failed.retain(|key, _| !keys.contains(key));
            let failed = failed.into_iter();
            view.failed
                .extend(failed.map(|key| (key, (revision, why.clone()))));
            view.in_force = position;
            view.things = revision;
        });
        Ok(())
    }

    /// Tries things again that could not be put in force, those of one commit together, for ever.
    async fn put_failed(&self, home: &dyn Home) -> Never {
        let mut views = self.views();
        let mut pause = LATER[0];
        loop {
            // The sender lives as long as we do.
            let _ = views.wait_for(|view| !view.failed.is_empty()).await;
            sleep(pause).await;
            let mut commits: BTreeMap<Revision, Vec<String>> = BTreeMap::new();
            for (key, (revision, _)) in self.view().failed {
                commits.entry(revision).or_default().push(key);
            }
            pause = (pause * 2).min(LATER[1]);
            for (revision, keys) in commits {
                match home.put_again(keys.clone()).await {
                    Ok(()) => {
                        tracing::info!("fleet: revision {revision} is in force here now");
                        let is_it =
                            |key: &String, of: Revision| of == revision && keys.contains(key);
                        self.view.send_modify(|view| {
                            view.failed.retain(|key, (of, _)| !is_it(key, *of))
                        });
                        pause = LATER[0];
                    }
                    Err(why) => tracing::warn!(
                        cause = why,
                        "fleet: revision {revision} is not in force here yet: {why}; trying again in {} s",
                        pause.as_secs()
                    ),
                }
            }
        }
    }

    /// The things of a commit. All other entries are kept here; gives whether there were any.
    fn sort(&self, batch: Batch) -> (Change, bool) {
        let mut change = Change::default();
        let mut has_rest = false;
        for entry in batch.changes {
            match Item::parse(&entry.key, entry.value.as_deref()) {
                Ok(Some(item)) => change.0.push(item),
                // Bundles are large: who needs one reads it.
                Ok(None) if entry.key.starts_with(BUNDLE) => {}
                Ok(None) => {
                    has_rest = true;
                    self.compare_clocks(&entry);
                    let mut rest = lock(&self.rest);
                    match entry.value {
                        Some(value) => rest.insert(entry.key, (batch.revision, value)),
                        None => rest.remove(&entry.key),
                    };
                }
                Err(why) => tracing::warn!("fleet: an entry is left aside: {why}"),
            }
        }
        if has_rest {
            self.news.send_modify(|count| *count += 1);
        }
        (change, has_rest)
    }

    /// Notes how far the clock of a node is from this one's, when its entry comes at once.
    fn compare_clocks(&self, entry: &crate::shared::Change) {
        let Some(name) = entry.key.strip_prefix(node::PREFIX) else {
            return;
        };
        let node = entry.value.as_deref().map(Node::parse);
        let Some(Ok(node)) = node else {
            lock(&self.ahead).remove(name);
            return;
        };
        // One that the node has missed is old.
        if self.view.borrow().condition != Condition::Following {
            return;
        }
        let ahead = node.ahead_ms(now_unix_ms());
        let before = lock(&self.ahead).insert(name.to_owned(), ahead);
        if let Some(how) = node::clock_apart(name, ahead)
            && before.is_none_or(|before| node::clock_apart(name, before).is_none())
        {
            tracing::warn!("fleet: {how}");
        }
    }

    /// Milliseconds that the clock of a node was ahead of this one's when its last entry came; `None`: not known.
    pub fn ahead_ms(&self, node: &str) -> Option<i64> {
        lock(&self.ahead).get(node).copied()
    }

    /// Reads the entries that are no things of the state. Gives the last commit.
    async fn read_rest(&self) -> Result<Revision, Lost> {
        let mut rest = BTreeMap::new();
        let mut now = Revision::default();
        for prefix in REST {
            let snapshot = self.store.below(prefix).await?;
            // What has changed between two of these comes by the watch.
            now = now.max(snapshot.position.revision);
            let entries = snapshot.entries.into_iter();
            rest.extend(entries.map(|entry| (entry.key, (entry.changed, entry.value))));
        }
        *lock(&self.rest) = rest;
        self.news.send_modify(|count| *count += 1);
        Ok(now)
    }

    /// Whether the store is that of our fleet, and nobody else has our name.
    fn check(&self, membership: &Membership) -> Result<(), End> {
        let rest = lock(&self.rest);
        let foreign = |is: &str| {
            End::Stopped(format!(
                "the fleet of this node is {}, and {is}: two fleets under one name? Answers go on as they are; \
                 `geodns fleet join` joins the one that is there",
                membership.fleet
            ))
        };
        match rest.get(GUARD) {
            None => return Err(foreign("the store has none")),
            Some((_, id)) if id != membership.fleet.as_bytes() => {
                let id = String::from_utf8_lossy(id);
                return Err(foreign(&format!("the store has {}", id.escape_debug())));
            }
            Some(_) => {}
        }
        let ours = rest.get(&node::key(&self.node));
        let Some(ours) = ours.and_then(|(_, value)| Node::parse(value).ok()) else {
            return Ok(());
        };
        let at = ours
            .site
            .map_or_else(String::new, |site| format!(" at site {site}"));
        if ours.id != membership.node {
            return Err(End::Stopped(format!(
                "another node{at} is named {}, too: this one takes no part until one of the two has another \
                 server.identity",
                self.node
            )));
        }
        if ours.run == self.run {
            self.is_registered.store(true, Ordering::Relaxed);
        } else if self.is_registered.load(Ordering::Relaxed) {
            // The run before ours has ended, so it puts no entry over ours.
            return Err(End::Stopped(format!(
                "another node{at} is named {}, too, and has a copy of the state of this one: this one takes no part \
                 while that one runs; stop one of the two, delete its state, and give it another server.identity",
                self.node
            )));
        }
        Ok(())
    }

    async fn take_over(&self, home: &dyn Home, snapshot: Snapshot) -> Result<Position, End> {
        let position = snapshot.position;
        let adopted = home.adopt(things(&snapshot), position).await;
        self.note(adopted, &[], position)?;
        Ok(position)
    }
}

/// An id that nobody else has.
pub fn random_id() -> String {
    format!("{:016x}", rand::random::<u64>())
}

/// The things of a snapshot, each with its commit.
pub fn things(snapshot: &Snapshot) -> Vec<(Item, Revision)> {
    let things = snapshot.entries.iter().filter_map(|entry| {
        match Item::parse(&entry.key, Some(&entry.value)) {
            Ok(item) => Some((item?, entry.changed)),
            Err(why) => {
                tracing::warn!("fleet: an entry is left aside: {why}");
                None
            }
        }
    });
    things.collect()
}

/// Has a commit kept and put in force, trying it again a few times.
async fn take(home: &dyn Home, change: Change, position: Position) -> Result<(), NotTaken> {
    let revision = position.revision;
    let mut pause = PAUSES[0];
    let mut tries = 1;
    loop {
        let taken = home.take(change.clone(), position).await;
        let Err(NotTaken::NotKept(why) | NotTaken::NotInForce(_, why)) = &taken else {
            return taken;
        };
        if tries == TRIES {
            tracing::error!(
                cause = why,
                "fleet: revision {revision} is not in force here: {why}"
            );
            return taken;
        }
        tracing::warn!(
            cause = why,
            "fleet: revision {revision} is not in force yet: {why}; trying again"
        );
        sleep(pause).await;
        pause *= 10;
        tries += 1;
    }
}

#[cfg(test)]
mod tests;

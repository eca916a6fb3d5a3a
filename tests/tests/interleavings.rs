//! A model of a fleet: three nodes edit one store, and crash, are cut off, lose answers and lag behind its compaction,
//! in orders drawn at random. No acknowledged edit is lost, none is done twice, reads and writes are linearizable, and
//! in the end all nodes have the same.
//!
//! The nodes do as `geodns::shared` says: they keep a copy and its position, an edit is prepared upon the copy and
//! guarded by it, repeated under its name, and acknowledged once it is in force here. `cargo xtask test --fleet` makes
//! it long. A run that fails prints its steps, and the seed that `GEODNS_SEED` takes.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use geodns::shared::twin::{Client, Fate, Twin};
use geodns::shared::{Batch, Kind, Lost, Position, Refused, Revision, Shared, Snapshot, Write};
use geodns_tests::history::{Access, How, NEVER, is_linearizable};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, RngSeed, TestRunner};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

const NODES: usize = 3;
/// Keys of lists, which edits append to, and of values, which they replace.
const LISTS: [&str; 2] = ["list/a", "list/b"];
const VALUES: [&str; 2] = ["value/a", "value/b"];
/// Longer than anything takes that ends.
const PATIENCE: Duration = Duration::from_secs(60);

/// One thing that happens.
#[derive(Clone, Debug)]
enum Step {
    /// A node appends to a list, guarded by the revision that it knows.
    Append(usize, usize),
    /// A node replaces a value, whatever it is.
    Replace(usize, usize),
    /// A node reads all from the store.
    Read(usize),
    Wait(u64),
    Cut(usize),
    Heal(usize),
    Slow(usize, u64),
    Fates(usize, Vec<bool>),
    Crash(usize),
    Start(usize),
    NoQuorum,
    Quorum,
    Compact,
}

fn step() -> impl Strategy<Value = Step> {
    let node = 0..NODES;
    prop_oneof![
        8 => (node.clone(), 0..LISTS.len()).prop_map(|(node, key)| Step::Append(node, key)),
        4 => (node.clone(), 0..VALUES.len()).prop_map(|(node, key)| Step::Replace(node, key)),
        3 => node.clone().prop_map(Step::Read),
        6 => (0_u64..300).prop_map(Step::Wait),
        2 => node.clone().prop_map(Step::Cut),
        3 => node.clone().prop_map(Step::Heal),
        2 => (node.clone(), 0_u64..120).prop_map(|(node, delay)| Step::Slow(node, delay)),
        3 => (node.clone(), prop::collection::vec(any::<bool>(), 1..3))
            .prop_map(|(node, fates)| Step::Fates(node, fates)),
        2 => node.clone().prop_map(Step::Crash),
        3 => node.prop_map(Step::Start),
        1 => Just(Step::NoQuorum),
        2 => Just(Step::Quorum),
        2 => Just(Step::Compact),
    ]
}

/// A mistake that a node could make: the checks must find it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mistake {
    None,
    /// Repeats a write under another name, and unguarded.
    NewName,
    /// Writes without a guard.
    NoGuard,
    /// Goes on behind commits that were compacted away.
    SkipsHistory,
    /// Acknowledges a write that may not be done.
    TrustsLuck,
}

/// An operation, as its caller sees it.
#[derive(Clone, Debug)]
struct Op {
    what: What,
    begun: usize,
    /// `None`: nobody knows whether it was done.
    ended: Option<usize>,
    /// Surely not done.
    refused: bool,
}

#[derive(Clone, Debug)]
enum What {
    Append(usize),
    Replace(usize),
    Read(BTreeMap<String, String>),
}

/// Everything that happened, in order.
#[derive(Clone, Default)]
struct History(Arc<Mutex<(usize, Vec<Op>)>>);

impl History {
    fn begin(&self, what: What) -> usize {
        let (clock, ops) = &mut *self.0.lock().unwrap();
        *clock += 1;
        ops.push(Op {
            what,
            begun: *clock,
            ended: None,
            refused: false,
        });
        ops.len() - 1
    }

    fn end(&self, op: usize, change: impl FnOnce(&mut Op)) {
        let (clock, ops) = &mut *self.0.lock().unwrap();
        *clock += 1;
        ops[op].ended = Some(*clock);
        change(&mut ops[op]);
    }
}

/// The disk of a node: a copy of the store, and the position of it.
#[derive(Clone, Debug, Default)]
struct Disk {
    position: Option<Position>,
    entries: BTreeMap<String, (String, Revision)>,
}

impl Disk {
    fn take(&mut self, batch: &Batch) {
        for change in &batch.changes {
            match &change.value {
                None => drop(self.entries.remove(&change.key)),
                Some(value) => {
                    let entry = (text(value), batch.revision);
                    self.entries.insert(change.key.clone(), entry);
                }
            }
        }
        if let Some(position) = &mut self.position {
            position.revision = batch.revision;
        }
    }

    fn replace(&mut self, snapshot: &Snapshot) {
        let entries = snapshot.entries.iter();
        self.entries = entries
            .map(|entry| (entry.key.clone(), (text(&entry.value), entry.changed)))
            .collect();
        self.position = Some(snapshot.position);
    }
}

fn text(value: &[u8]) -> String {
    String::from_utf8_lossy(value).into_owned()
}

/// A node: its disk, which survives a crash, and its tasks, if it runs.
struct Node {
    disk: watch::Sender<Disk>,
    alive: Option<(Client, Vec<JoinHandle<()>>)>,
}

/// Keeps the copy of a node up to date.
async fn follow(client: Client, disk: watch::Sender<Disk>, mistake: Mistake) {
    loop {
        let position = disk.borrow().position;
        let lost = match position {
            None => Lost::Compacted,
            Some(position) => match client.watch(position).await {
                Err(lost) => lost,
                Ok(mut watch) => loop {
                    match watch.next().await {
                        Ok(batch) => disk.send_modify(|disk| disk.take(&batch)),
                        Err(lost) => break lost,
                    }
                },
            },
        };
        if lost == Lost::Compacted
            && let Ok(snapshot) = client.snapshot().await
        {
            disk.send_modify(|disk| match mistake {
                Mistake::SkipsHistory if disk.position.is_some() => {
                    disk.position = Some(snapshot.position);
                }
                _ => disk.replace(&snapshot),
            });
            continue;
        }
        sleep(Duration::from_millis(50)).await;
    }
}

/// Waits until a node has a revision.
async fn in_force(disk: &watch::Sender<Disk>, revision: Revision) {
    let mut news = disk.subscribe();
    let reached = |disk: &Disk| disk.position.is_some_and(|at| at.revision >= revision);
    let _ = news.wait_for(reached).await;
}

/// Makes an edit as a node does.
async fn edit(
    client: Client,
    disk: watch::Sender<Disk>,
    history: History,
    what: What,
    mistake: Mistake,
) {
    let op = history.begin(what.clone());
    let mut unknown = false;
    for _ in 0..6 {
        let write = match &what {
            What::Append(list) => {
                let key = LISTS[*list];
                let known = disk.borrow().entries.get(key).cloned();
                let (before, changed) = known.unzip();
                let value = before.unwrap_or_default() + &format!("{op},");
                let write = Write::new().put(key, value);
                match mistake {
                    Mistake::NoGuard => write,
                    _ => write.guard(key, changed),
                }
            }
            What::Replace(value) => Write::new().put(VALUES[*value], op.to_string()),
            What::Read(_) => unreachable!("it is no edit"),
        };
        let mut repeats = 0;
        let conflict = loop {
            match client.commit(&write).await {
                Ok(revision) => {
                    in_force(&disk, revision).await;
                    return history.end(op, |_| {});
                }
                Err(Refused::Conflict(revision)) => break revision,
                Err(Refused::Unavailable(_)) if !unknown => {
                    return history.end(op, |op| op.refused = true);
                }
                Err(Refused::Unknown(_)) if mistake == Mistake::TrustsLuck => {
                    return history.end(op, |_| {});
                }
                Err(Refused::Unavailable(_) | Refused::Unknown(_)) => unknown = true,
                Err(refused) => panic!("{refused}"),
            }
            repeats += 1;
            if repeats == 6 {
                return;
            }
            sleep(Duration::from_millis(30)).await;
            if mistake == Mistake::NewName {
                in_force(&disk, Revision(0)).await;
                break Revision(0);
            }
        };
        in_force(&disk, conflict).await;
    }
}

async fn read(client: Client, history: History) {
    let op = history.begin(What::Read(BTreeMap::new()));
    match client.snapshot().await {
        Err(_) => history.end(op, |op| op.refused = true),
        Ok(snapshot) => history.end(op, |op| {
            let entries = snapshot.entries.iter();
            let entries = entries.map(|entry| (entry.key.clone(), text(&entry.value)));
            op.what = What::Read(entries.collect());
        }),
    }
}

/// Lets all of it happen, heals everything, and checks the outcome.
async fn happen(steps: &[Step], mistake: Mistake) -> Result<(), String> {
    let store = Twin::new();
    let history = History::default();
    let mut nodes: Vec<Node> = Vec::new();
    for _ in 0..NODES {
        nodes.push(Node {
            disk: watch::Sender::new(Disk::default()),
            alive: None,
        });
    }
    let start = |node: &mut Node| {
        if node.alive.is_none() {
            let client = store.client();
            let following = follow(client.clone(), node.disk.clone(), mistake);
            node.alive = Some((client, vec![tokio::spawn(following)]));
        }
    };
    nodes.iter_mut().for_each(start);
    for step in steps {
        let at = |node: usize| nodes[node].alive.as_ref().map(|(client, _)| client);
        match step {
            Step::Append(node, _) | Step::Replace(node, _) | Step::Read(node) => {
                let node = &mut nodes[*node];
                let Some((client, tasks)) = &mut node.alive else {
                    continue;
                };
                let (client, disk, history) = (client.clone(), node.disk.clone(), history.clone());
                tasks.push(match *step {
                    Step::Append(_, key) => {
                        tokio::spawn(edit(client, disk, history, What::Append(key), mistake))
                    }
                    Step::Replace(_, key) => {
                        tokio::spawn(edit(client, disk, history, What::Replace(key), mistake))
                    }
                    _ => tokio::spawn(read(client, history)),
                });
                tokio::task::yield_now().await;
            }
            Step::Wait(time) => sleep(Duration::from_millis(*time)).await,
            Step::Cut(node) => {
                at(*node).inspect(|client| client.trouble(Some(Kind::Unreachable)));
            }
            Step::Heal(node) => {
                at(*node).inspect(|client| client.trouble(None));
            }
            Step::Slow(node, delay) => {
                at(*node).inspect(|client| client.delay(Duration::from_millis(*delay)));
            }
            Step::Fates(node, fates) => {
                let fates = fates.iter().map(|answer| match answer {
                    true => Fate::AnswerLost,
                    false => Fate::RequestLost,
                });
                at(*node).inspect(|client| client.fates(fates));
            }
            Step::Crash(node) => {
                if let Some((_, tasks)) = nodes[*node].alive.take() {
                    tasks.iter().for_each(JoinHandle::abort);
                }
            }
            Step::Start(node) => start(&mut nodes[*node]),
            Step::NoQuorum => store.trouble(Some(Kind::NoQuorum)),
            Step::Quorum => store.trouble(None),
            Step::Compact => store.compact(),
        }
    }
    store.trouble(None);
    for node in &mut nodes {
        start(node);
        if let Some((client, _)) = &node.alive {
            client.trouble(None);
            client.delay(Duration::ZERO);
        }
    }
    // Edits that are under way end.
    for node in &mut nodes {
        let tasks = node
            .alive
            .iter_mut()
            .flat_map(|(_, tasks)| tasks.drain(1..));
        for task in tasks.collect::<Vec<_>>() {
            let ended = timeout(PATIENCE, task).await;
            ended
                .map_err(|_| "an edit does not end".to_owned())?
                .map_err(|error| error.to_string())?;
        }
    }
    let last = store
        .client()
        .snapshot()
        .await
        .map_err(|lost| lost.to_string())?;
    let mut whole = Disk::default();
    whole.replace(&last);
    for (number, node) in nodes.iter().enumerate() {
        let caught_up = timeout(PATIENCE, in_force(&node.disk, last.position.revision)).await;
        caught_up.map_err(|_| format!("node {number} does not catch up"))?;
        let disk = node.disk.borrow().clone();
        if disk.entries != whole.entries {
            return Err(format!("node {number} has {disk:?}, the store {whole:?}"));
        }
    }
    for node in &nodes {
        let tasks = node.alive.iter().flat_map(|(_, tasks)| tasks);
        tasks.for_each(JoinHandle::abort);
    }
    let ops = history.0.lock().unwrap().1.clone();
    let found = |key: &str| whole.entries.get(key).map(|(value, _)| value.clone());
    for (number, key) in LISTS.iter().enumerate() {
        check_list(&ops, number, &found(key).unwrap_or_default())?;
    }
    for (number, key) in VALUES.iter().enumerate() {
        check_value(&ops, number, found(key))?;
    }
    Ok(())
}

/// A list shows the order of its edits itself: all that is left to ask is whether the callers could see it so.
fn check_list(ops: &[Op], list: usize, last: &str) -> Result<(), String> {
    let numbers = |list: &str| -> Vec<usize> {
        list.split_terminator(',')
            .map(|number| number.parse().expect("a number"))
            .collect()
    };
    let order = numbers(last);
    let place = |op: usize| order.iter().position(|other| *other == op);
    let twice = order.iter().collect::<HashSet<_>>().len() < order.len();
    if twice {
        return Err(format!("{}: {last} has one twice", LISTS[list]));
    }
    // Each operation with the number of entries that it left, or saw.
    let mut lengths: Vec<(usize, usize, usize)> = Vec::new();
    for (number, op) in ops.iter().enumerate() {
        match (&op.what, op.ended) {
            (What::Append(of), ended) if *of == list => match (place(number), ended) {
                (None, Some(_)) if !op.refused => {
                    return Err(format!("{}: {last} has lost {number}", LISTS[list]));
                }
                (Some(_), Some(_)) if op.refused => {
                    return Err(format!("{}: {number} was refused, and done", LISTS[list]));
                }
                (Some(place), ended) => {
                    lengths.push((op.begun, ended.unwrap_or(usize::MAX), place + 1));
                }
                (None, _) => {}
            },
            (What::Read(seen), Some(ended)) if !op.refused => {
                let seen = seen
                    .get(LISTS[list])
                    .map(String::as_str)
                    .unwrap_or_default();
                if !last.starts_with(seen) {
                    return Err(format!("{}: {seen} was read, and is {last}", LISTS[list]));
                }
                lengths.push((op.begun, ended, numbers(seen).len()));
            }
            _ => {}
        }
    }
    for before in &lengths {
        for after in lengths.iter().filter(|after| after.0 > before.1) {
            if after.2 < before.2 {
                let list = LISTS[list];
                return Err(format!(
                    "{list}: {after:?} does not see {before:?}: {ops:?}"
                ));
            }
        }
    }
    Ok(())
}

/// Whether an order explains all that was seen of a value. The last read is that of the store at the end.
fn check_value(ops: &[Op], value: usize, last: Option<String>) -> Result<(), String> {
    let ops_of = ops.iter().enumerate().filter(|(_, op)| !op.refused);
    let accesses = ops_of.filter_map(|(number, op)| {
        let how = match &op.what {
            What::Replace(of) if *of == value => How::Writes(Some(number.to_string())),
            What::Read(seen) if op.ended.is_some() => How::Reads(seen.get(VALUES[value]).cloned()),
            _ => return None,
        };
        let ended = op.ended.unwrap_or(NEVER);
        let begun = op.begun;
        Some(Access { begun, ended, how })
    });
    let mut all: Vec<Access> = accesses.collect();
    all.push(Access {
        begun: NEVER - 2,
        ended: NEVER - 1,
        how: How::Reads(last),
    });
    match is_linearizable(&all) {
        true => Ok(()),
        false => Err(format!("{}: no order explains {ops:?}", VALUES[value])),
    }
}

fn run(steps: &[Step], mistake: Mistake) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build();
    runtime.expect("a runtime").block_on(happen(steps, mistake))
}

fn runner(seed: u64) -> TestRunner {
    TestRunner::new(Config {
        failure_persistence: None,
        rng_algorithm: RngAlgorithm::ChaCha,
        rng_seed: RngSeed::Fixed(seed),
        cases: 100,
        ..Config::default()
    })
}

#[test]
fn no_interleaving_loses_or_doubles_an_edit() {
    let long = geodns_tests::fleet_takes_minutes();
    let end = Instant::now() + Duration::from_secs(if long { 300 } else { 8 });
    let seed = std::env::var("GEODNS_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok());
    let mut seed: u64 = seed.unwrap_or_else(rand::random);
    let mut cases = 0;
    while Instant::now() < end {
        let steps = prop::collection::vec(step(), 1..60);
        let failed = runner(seed).run(&steps, |steps| {
            run(&steps, Mistake::None).map_err(TestCaseError::fail)
        });
        if let Err(failed) = failed {
            panic!("GEODNS_SEED={seed}: {failed}");
        }
        cases += 100;
        seed = seed.wrapping_add(1);
    }
    println!("{cases} interleavings");
}

#[test]
fn each_mistake_is_found() {
    for mistake in [
        Mistake::NewName,
        Mistake::NoGuard,
        Mistake::SkipsHistory,
        Mistake::TrustsLuck,
    ] {
        let mut runner = runner(1);
        let steps = prop::collection::vec(step(), 60);
        let mut tries = 0;
        loop {
            let steps = steps.new_tree(&mut runner).expect("steps").current();
            if let Err(found) = run(&steps, mistake) {
                println!("{mistake:?} after {tries} tries: {found}");
                break;
            }
            tries += 1;
            assert!(tries < 3000, "{mistake:?} is not found");
        }
    }
}

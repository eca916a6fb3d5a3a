//! A thousand edits at five real daemons with a real etcd, while sites are cut off, and daemons and members are killed or
//! hang: no acknowledged edit is lost, none that was refused is made, and soon after the last fault all nodes are alike,
//! and so are their answers.
//!
//! Minutes long: `cargo xtask test --fleet`. It prints its seed, which `GEODNS_SEED` takes to draw the same again.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, RwLock};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use geodns::geo::Layer;
use geodns::shared::Shared;
use geodns::shared::etcd::Etcd;
use geodns::state::Item;
use geodns::steering::standing::Admin;
use geodns_tests::daemon::Daemon;
use geodns_tests::dns::{A, Query, TXT};
use geodns_tests::etcd::Setup;
use geodns_tests::fleet::Fleet;
use geodns_tests::history::{Access, How, MOST, NEVER, is_linearizable};
use geodns_tests::{fleet_takes_minutes, needs_root, skipped, until};
use nix::sys::signal::Signal;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

/// Edits that are acknowledged before it is over.
const EDITS: usize = 1000;
/// It takes no longer, whatever happens.
const MOST_TIME: Duration = Duration::from_secs(1200);
/// Sites, of which the first three have a member of etcd. The first one has the program.
const SITES: usize = 5;
const MIRRORS: [(&str, &str); 3] = [
    ("ams", "192.0.2.10"),
    ("iad", "198.51.100.10"),
    ("sin", "203.0.113.10"),
];
const POOLS: [&str; 2] = ["www", "alt"];
/// Prefixes that every node sets, in each pool.
const PREFIXES: usize = 16;
/// Names that get tokens.
const OWNERS: usize = 40;
/// How long the last read of the store may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// Time between two reads of the store.
const READ: Duration = Duration::from_secs(8);

const SECOND_POOL: &str = r#"
[[pool]]
id = "alt"
mirrors = ["ams", "iad", "sin"]
policy = "table"
default = "iad"
prefixes = "world.csv"
ttl = 60
[[steer]]
name = "alt.example.org"
pool = "alt"
"#;

/// Values of things, as edits name both.
type Things = BTreeMap<String, String>;

/// An edit: the thing that it changes, its value afterwards, and the words of the command.
struct Edit {
    thing: String,
    value: Option<String>,
    words: Vec<String>,
}

/// Draws an edit. Its number makes it another one than all others, where that can be.
fn draw(random: &mut StdRng, number: usize, files: &tempfile::TempDir) -> Result<Edit> {
    let (mirror, _) = MIRRORS.choose(random).context("no mirror")?;
    let pool = POOLS.choose(random).context("no pool")?;
    let some = |text: &str| Some(text.to_owned());
    let (thing, value, words) = match random.random_range(0..100) {
        0..40 => {
            let prefix = prefix(random.random_range(0..PREFIXES));
            let thing = format!("map {pool} {prefix}");
            match random.random_bool(0.15) {
                true => (thing, None, format!("map del {prefix} --pool {pool}")),
                false => {
                    let words = format!("map set {prefix} {mirror} --pool {pool}");
                    (thing, some(mirror), words)
                }
            }
        }
        40..60 => {
            let prefix = format!("10.{}.{}.0/24", number / 256, number % 256);
            let words = format!("map set {prefix} {mirror} --pool {pool}");
            (format!("map {pool} {prefix}"), some(mirror), words)
        }
        60..70 => (
            format!("weight {mirror}"),
            Some(number.to_string()),
            format!("mirror weight {mirror} {number}"),
        ),
        70..78 => {
            let word = ["up", "down"].choose(random).context("no word")?;
            let words = format!("mirror {word} {mirror}");
            (format!("word {mirror}"), some(word), words)
        }
        78..86 => {
            let prefix = format!("12.{}.{}.0/24", number / 256, number % 256);
            let words = format!("block add --from {prefix}");
            (format!("block {prefix}"), some("is there"), words)
        }
        86..95 => {
            let owner = format!("h{}.example.org", random.random_range(0..OWNERS));
            let words = format!("acme set {owner} token{number}");
            let thing = format!("token token{number}");
            (thing, some("is there"), words)
        }
        _ => {
            let prefix = format!("11.{}.{}.0/24", number / 256, number % 256);
            let file = files.path().join(format!("{number}.csv"));
            std::fs::write(&file, format!("prefix,mirror\n{prefix},{mirror}\n"))?;
            let words = format!("map import {} --pool {pool}", file.display());
            (format!("import {pool}"), Some(prefix), words)
        }
    };
    let words = words.split_whitespace().map(str::to_owned).collect();
    Ok(Edit {
        thing,
        value,
        words,
    })
}

fn prefix(number: usize) -> String {
    format!("20.{}.{}.0/24", 64 + number / 4, number % 4 * 64)
}

/// Everything in the store, thing by thing, as edits name them.
async fn read(etcd: &Etcd) -> Option<Things> {
    let snapshot = etcd.snapshot().await.ok()?;
    let mut things = BTreeMap::new();
    for entry in snapshot.entries {
        let item = Item::parse(&entry.key, Some(&entry.value)).expect("a good entry");
        let is_there = || "is there".to_owned();
        match item {
            Some(Item::Override {
                pool,
                prefix,
                mirror: Some(mirror),
            }) => drop(things.insert(format!("map {pool} {prefix}"), mirror)),
            Some(Item::Import {
                pool,
                import: Some(import),
            }) => {
                let layer = Layer::from_bytes(&import.layer).expect("a good list");
                let (first, _) = layer.iter().next().expect("a list of one");
                things.insert(format!("import {pool}"), first.to_string());
            }
            Some(Item::Standing {
                mirror,
                standing: Some(standing),
            }) => {
                let word = match standing.admin {
                    Admin::Up => Some("up"),
                    Admin::Down => Some("down"),
                    Admin::Auto | Admin::Drain(_) => None,
                };
                things.extend(word.map(|word| (format!("word {mirror}"), word.to_owned())));
                let weight = standing.weight.map(|weight| weight.value.to_string());
                things.extend(weight.map(|weight| (format!("weight {mirror}"), weight)));
            }
            Some(Item::Block {
                block: Some(block), ..
            }) => {
                let from = block.said.from.expect("a rule of a prefix");
                things.insert(format!("block {from}"), is_there());
            }
            Some(Item::Token {
                text,
                token: Some(_),
                ..
            }) => drop(things.insert(format!("token {text}"), is_there())),
            _ => {}
        }
    }
    Some(things)
}

/// What has happened so far.
#[derive(Default)]
struct History {
    clock: AtomicUsize,
    /// Things, and what callers did to them.
    accesses: Mutex<Vec<(String, Access)>>,
    /// Snapshots of the store, each with its begin and its end.
    reads: Mutex<Vec<(usize, usize, Things)>>,
    acknowledged: AtomicUsize,
    refused: AtomicUsize,
    unknown: AtomicUsize,
    /// What was said of edits that may have been made, without numbers.
    said: Mutex<BTreeSet<String>>,
}

impl History {
    fn now(&self) -> usize {
        self.clock.fetch_add(1, Ordering::SeqCst)
    }

    /// Makes an edit, and notes what its caller knows of it.
    fn make(&self, daemon: &Daemon, edit: Edit) -> Result<()> {
        let begun = self.now();
        let output = daemon.cli(&edit.words)?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let is_made = output.status.success() || said.contains("the change is made");
        let is_refused = ["nothing has changed", "no daemon at"];
        if !is_made && is_refused.iter().any(|words| said.contains(words)) {
            self.refused.fetch_add(1, Ordering::SeqCst);
            return Ok(());
        }
        let ended = match is_made {
            true => self.now(),
            false => NEVER,
        };
        let count = if is_made {
            &self.acknowledged
        } else {
            let plain = said.replace(|letter: char| letter.is_ascii_digit(), "");
            self.said.lock().expect("no panic").insert(plain);
            &self.unknown
        };
        count.fetch_add(1, Ordering::SeqCst);
        let how = How::Writes(edit.value);
        let access = Access { begun, ended, how };
        let mut accesses = self.accesses.lock().expect("no panic");
        accesses.push((edit.thing, access));
        Ok(())
    }

    /// Whether an order of all edits explains all that was read.
    fn check(self) -> Result<usize> {
        let mut things: BTreeMap<String, Vec<Access>> = BTreeMap::new();
        for (thing, access) in self.accesses.into_inner()? {
            things.entry(thing).or_default().push(access);
        }
        let reads = self.reads.into_inner()?;
        for (_, _, seen) in &reads {
            // Nobody has made it, or it was refused.
            if let Some(thing) = seen.keys().find(|thing| !things.contains_key(*thing)) {
                bail!("{thing} is there, and nobody has made it");
            }
        }
        for (thing, mut accesses) in things.clone() {
            // The last one counts most.
            for (begun, ended, seen) in reads.iter().rev().take(MOST - accesses.len().min(MOST)) {
                accesses.push(Access {
                    begun: *begun,
                    ended: *ended,
                    how: How::Reads(seen.get(&thing).cloned()),
                });
            }
            accesses.sort_by_key(|access| access.begun);
            ensure!(
                is_linearizable(&accesses),
                "{thing}: no order explains {accesses:#?}"
            );
        }
        Ok(things.len())
    }
}

/// Something that goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// A site is cut off, with its daemon and its member, if it has one.
    Cut(usize),
    KillDaemon(usize),
    HangDaemon(usize),
    KillMember(usize),
    HangMember(usize),
}

impl Fault {
    fn draw(random: &mut StdRng) -> Self {
        let member = random.random_range(0..3);
        let site = random.random_range(0..SITES);
        match random.random_range(0..10) {
            0..3 => Self::Cut(site),
            3..6 => Self::KillDaemon(site),
            6 => Self::HangDaemon(site),
            7 | 8 => Self::KillMember(member),
            _ => Self::HangMember(member),
        }
    }

    /// Whether two of them do not touch the same process.
    fn goes_with(self, other: Self) -> bool {
        let process = |fault: Self| match fault {
            Self::Cut(site) => (0, site),
            Self::KillDaemon(site) | Self::HangDaemon(site) => (1, site),
            Self::KillMember(site) | Self::HangMember(site) => (2, site),
        };
        process(self) != process(other)
    }

    fn begin(self, fleet: &mut Fleet, daemons: &[RwLock<Daemon>]) -> Result<()> {
        let signal = |site: usize, signal| daemons[site].read().expect("no panic").signal(signal);
        match self {
            Self::Cut(site) => fleet.cluster.triangle().cut(site + 1),
            Self::KillDaemon(site) => signal(site, Signal::SIGKILL),
            Self::HangDaemon(site) => signal(site, Signal::SIGSTOP),
            Self::KillMember(site) => fleet.cluster.kill(site),
            Self::HangMember(site) => fleet.cluster.signal(site, Signal::SIGSTOP),
        }
    }

    fn end(self, fleet: &mut Fleet, daemons: &[RwLock<Daemon>]) -> Result<()> {
        match self {
            Self::Cut(site) => fleet.cluster.triangle().heal(site + 1),
            Self::KillDaemon(site) => {
                let mut daemon = daemons[site].write().expect("no panic");
                daemon.wait()?;
                daemon.again(fleet.space(site), &fleet.setups[site])
            }
            Self::HangDaemon(site) => daemons[site]
                .read()
                .expect("no panic")
                .signal(Signal::SIGCONT),
            // Without waiting for a member that cannot be ready yet.
            Self::KillMember(site) => fleet.cluster.begin_again(site),
            Self::HangMember(site) => fleet.cluster.signal(site, Signal::SIGCONT),
        }
    }
}

/// Has things go wrong, one or two at a time, until enough edits are made. Gives how many, and when the last was over.
fn disturb(
    fleet: &mut Fleet,
    daemons: &[RwLock<Daemon>],
    random: &mut StdRng,
    history: &History,
    over: &AtomicBool,
) -> Result<(usize, Instant)> {
    let started = Instant::now();
    let mut healed = started;
    let mut count = 0;
    while history.acknowledged.load(Ordering::SeqCst) < EDITS {
        ensure!(started.elapsed() < MOST_TIME, "it takes too long");
        ensure!(!over.load(Ordering::SeqCst), "an edit has failed");
        let pause = |random: &mut StdRng, most: u64| {
            thread::sleep(Duration::from_millis(random.random_range(100..most)));
        };
        let one = Fault::draw(random);
        let other = Fault::draw(random);
        let mut faults = vec![one];
        if random.random_bool(0.3) && one.goes_with(other) {
            faults.push(other);
        }
        for fault in &faults {
            println!("{:?}: {fault:?}", started.elapsed());
            fault.begin(fleet, daemons)?;
            pause(random, 500);
        }
        pause(random, 3000);
        for fault in &faults {
            fault.end(fleet, daemons)?;
        }
        count += faults.len();
        healed = Instant::now();
        if history.acknowledged.load(Ordering::SeqCst) < EDITS {
            pause(random, 3000);
        }
    }
    Ok((count, healed))
}

/// The answers of all nodes, to the same questions of the same client, by the program and by the slow path.
fn check_answers(fleet: &Fleet, state: &Things) -> Result<usize> {
    let mut count = 0;
    let before = fleet.daemons[0].counters()?;
    for pool in POOLS {
        let name = format!("{pool}.example.org");
        for number in 0..PREFIXES {
            let prefix = prefix(number);
            let (address, _) = prefix.split_once('/').context("no length")?;
            let address: IpAddr = address.parse()?;
            let query = || Query::new(&name, A).subnet_of(address, 24);
            let found = (0..SITES).map(|site| fleet.answer_to(site, 3, &query()));
            let found: Vec<String> = found.collect::<Result<_>>()?;
            ensure!(
                found.iter().all(|answer| *answer == found[0]),
                "{pool} {prefix}: {found:?}"
            );
            if let Some(mirror) = state.get(&format!("map {pool} {prefix}")) {
                let of = MIRRORS.iter().find(|(id, _)| id == mirror);
                let (_, address) = of.context("an unknown mirror")?;
                ensure!(
                    found[0] == *address,
                    "{pool} {prefix} {mirror}: {found:?}\n{}",
                    fleet.daemons[0].ok("map list")?
                );
            }
            count += SITES;
        }
    }
    let answered = |counters: &BTreeMap<String, u64>| counters.get("answered").copied();
    let after = fleet.daemons[0].counters()?;
    let by_program = answered(&after).unwrap_or(0) - answered(&before).unwrap_or(0);
    ensure!(
        by_program as usize >= POOLS.len() * PREFIXES,
        "{before:?} {after:?}"
    );
    for owner in 0..OWNERS {
        let name = format!("_acme-challenge.h{owner}.example.org");
        let texts = |site| {
            let reply = fleet.reply_to(site, 3, &Query::new(&name, TXT).edns(1232))?;
            let mut texts: Vec<String> = reply.of("TXT").into_iter().map(str::to_owned).collect();
            texts.sort_unstable();
            Ok(texts)
        };
        let found: Vec<Vec<String>> = (0..SITES).map(texts).collect::<Result<_>>()?;
        ensure!(
            found.iter().all(|answer| *answer == found[0]),
            "{name}: {found:?}"
        );
        count += SITES;
    }
    Ok(count)
}

#[test]
fn no_acknowledged_edit_is_lost_whatever_is_cut_off_or_dies() -> Result<()> {
    needs_root!();
    if !fleet_takes_minutes() {
        skipped("a thousand edits of a fleet", "cargo xtask test --fleet");
        return Ok(());
    }
    let seed = std::env::var("GEODNS_SEED").ok();
    let seed: u64 = match seed {
        Some(seed) => seed.parse().context("GEODNS_SEED")?,
        None => rand::random(),
    };
    println!("GEODNS_SEED={seed}");
    let ran = run(seed);
    ran.with_context(|| format!("GEODNS_SEED={seed}"))
}

fn run(seed: u64) -> Result<()> {
    let mut fleet = Fleet::joined_of(SITES, Setup::default(), |site, setup| {
        let setup = setup.and(SECOND_POOL);
        match site {
            0 => setup.mode("generic"),
            _ => setup,
        }
    })?;
    let watcher = fleet.cluster.triangle().another(9)?;
    let store = fleet.cluster.fleet("test");
    let files = tempfile::tempdir()?;
    let history = History::default();
    // No edit begins any more, and none is under way.
    let (over, done) = (AtomicBool::new(false), AtomicBool::new(false));
    let numbers = AtomicUsize::new(0);
    let daemons: Vec<RwLock<Daemon>> = fleet.daemons.drain(..).map(RwLock::new).collect();

    let ((faults, healed), last) = thread::scope(|scope| {
        let reader = scope.spawn(|| {
            watcher.enter(|| {
                let mut runtime = tokio::runtime::Builder::new_current_thread();
                runtime.enable_all().build()?.block_on(async {
                    let etcd = Etcd::new(&store);
                    let mut ended = None;
                    loop {
                        let is_last = done.load(Ordering::SeqCst);
                        let begun = history.now();
                        if let Some(seen) = read(&etcd).await {
                            let ended = history.now();
                            let mut reads = history.reads.lock().expect("no panic");
                            reads.push((begun, ended, seen.clone()));
                            if is_last {
                                return Ok::<_, anyhow::Error>(seen);
                            }
                        }
                        if is_last {
                            let since = ended.get_or_insert_with(Instant::now);
                            ensure!(since.elapsed() < PATIENCE, "no last read of the store");
                        }
                        let pause = if is_last { READ / 100 } else { READ };
                        let started = Instant::now();
                        while started.elapsed() < pause && done.load(Ordering::SeqCst) == is_last {
                            tokio::time::sleep(READ / 100).await;
                        }
                    }
                })
            })
        });
        let mut editors = Vec::new();
        for (site, daemon) in daemons.iter().enumerate() {
            let (history, over, numbers, files) = (&history, &over, &numbers, &files);
            editors.push(scope.spawn(move || {
                let mut random = StdRng::seed_from_u64(seed ^ (site as u64 + 1) << 32);
                while !over.load(Ordering::SeqCst) {
                    let number = numbers.fetch_add(1, Ordering::SeqCst);
                    let edit = draw(&mut random, number, files)?;
                    let daemon = daemon.read().expect("no panic");
                    let made = history.make(&daemon, edit);
                    drop(daemon);
                    made.inspect_err(|_| over.store(true, Ordering::SeqCst))?;
                    let pause = random.random_range(20..400);
                    thread::sleep(Duration::from_millis(pause));
                }
                Ok::<_, anyhow::Error>(())
            }));
        }
        let mut random = StdRng::seed_from_u64(seed);
        let disturbed = disturb(&mut fleet, &daemons, &mut random, &history, &over);
        over.store(true, Ordering::SeqCst);
        let edited: Vec<Result<()>> = editors
            .into_iter()
            .map(|editor| editor.join().expect("no panic"))
            .collect();
        done.store(true, Ordering::SeqCst);
        edited.into_iter().collect::<Result<()>>()?;
        let faults = disturbed?;
        fleet.cluster.ready()?;
        Ok::<_, anyhow::Error>((faults, reader.join().expect("no panic")?))
    })?;
    fleet.daemons = daemons
        .into_iter()
        .map(|daemon| daemon.into_inner().expect("no panic"))
        .collect();
    fleet.settled()?;
    let alike = healed.elapsed();
    let count = |count: &AtomicUsize| count.load(Ordering::SeqCst);
    println!(
        "{} edits acknowledged, {} refused, {} unknown, {faults} faults; one plan everywhere {alike:?} after the last",
        count(&history.acknowledged),
        count(&history.refused),
        count(&history.unknown),
    );
    for said in history.said.lock().expect("no panic").iter() {
        println!("unknown: {}", said.trim());
    }
    ensure!(alike < Duration::from_secs(30), "alike after {alike:?}");
    let things = history.check()?;
    println!("{things} things, each explained by an order of its edits");

    for (mirror, _) in MIRRORS {
        fleet.daemons[1].ok(&format!("mirror auto {mirror} --wait all"))?;
    }
    // What one had not read yet when it said that it follows.
    until("the same overrides everywhere", || {
        let lists = fleet.daemons.iter();
        let lists = lists.map(|daemon| daemon.ok("map list --json"));
        let lists: Vec<String> = lists.collect::<Result<_>>()?;
        Ok(lists.windows(2).all(|two| two[0] == two[1]))
    })?;
    let answers = check_answers(&fleet, &last)?;
    println!("{answers} answers are as the edits say");
    Ok(())
}

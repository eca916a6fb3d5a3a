//! Bundles that are rolled out over a hundred real daemons, and taken back; bad ones; and the cost of a fleet that has
//! nothing to do.

use std::collections::BTreeSet;
use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use geodns_tests::bundles::Bundles;
use geodns_tests::daemon::Setup;
use geodns_tests::dns::{Query, Reply, TXT};

use super::milliseconds;
use super::nodes::{self, Nodes};
use crate::figure::{Figure, Goal, Results};

/// Daemons.
const COUNT: usize = 100;
/// A client asks each node this often.
const EVERY: Duration = Duration::from_millis(40);
/// How long nodes may take until they say what they ought to.
const PATIENCE: Duration = Duration::from_secs(60);
/// The time in which an idle fleet is watched.
const IDLE: Duration = Duration::from_secs(10);
/// The name whose text tells which bundle a node runs.
const NAME: &str = "bundle.example.net";
/// What a node that runs a bundle without that name's zone says.
const REFUSED: &str = "REFUSED";

/// Measures an idle fleet, then rollouts.
pub fn run(rounds: usize, results: &mut Results) {
    let mut made = None;
    let name = |what: &str| format!("fleet: {COUNT} nodes: {what}");
    results.take(&name("start"), || {
        made = Some(Fleet::new()?);
        Ok(Vec::new())
    });
    let Some(mut fleet) = made else {
        return;
    };
    results.take(&name("idle"), || fleet.idle(rounds));
    results.take(&name("asked"), || fleet.asked(rounds));
    results.take(&name("apply and rollback"), || fleet.apply(rounds));
    results.take(&name("bundles refused by the preview"), || {
        fleet.refused(rounds)
    });
    results.take(&name("bundles that do not work"), || fleet.broken(rounds));
}

/// The nodes, and bundles for them.
struct Fleet {
    nodes: Nodes,
    bundles: Bundles,
    serial: u64,
}

/// How a bundle differs from what runs.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// In the text alone.
    Good,
    /// It gives other mirrors to more clients than may be.
    Moves,
    /// It has no zone for the name that everybody asks for.
    Lacks,
}

impl Fleet {
    fn new() -> Result<Self> {
        let bundles = Bundles::new()?;
        let mut fleet = Self {
            nodes: Nodes::new(COUNT, &setup("own", Kind::Good), &bundles.trusted_keys())?,
            bundles,
            serial: 0,
        };
        // So that there is something to go back to.
        let first = fleet.bundle("first", Kind::Good)?;
        fleet.nodes.daemons[0].ok(&apply(&first, 0))?;
        Ok(fleet)
    }

    /// A signed bundle with a text.
    fn bundle(&mut self, text: &str, kind: Kind) -> Result<PathBuf> {
        self.serial += 1;
        self.bundles.make(self.serial, &setup(text, kind))
    }

    /// Commits and CPU of a fleet without queries and edits.
    fn idle(&self, rounds: usize) -> Result<Vec<Figure>> {
        let mut commits = figure("idle: commits to etcd", "a second").goal(Goal::Below(2.0));
        let mut requests = figure("idle: requests to etcd", "a second");
        let mut cpu = figure("idle: CPU of a daemon", "% of a core").goal(Goal::Below(1.0));
        let mut of_etcd = figure("idle: CPU of a member of etcd", "% of a core");
        for _ in 0..rounds {
            let start = Instant::now();
            let before = self.nodes.load()?;
            std::thread::sleep(IDLE);
            let after = self.nodes.load()?;
            let a_second =
                |before: f64, after: f64| (after - before) / start.elapsed().as_secs_f64();
            commits.rounds.push(a_second(before.commits, after.commits));
            requests
                .rounds
                .push(a_second(before.requests, after.requests));
            cpu.rounds
                .push(a_second(before.daemons, after.daemons) * 100.0 / COUNT as f64);
            of_etcd
                .rounds
                .push(a_second(before.etcd, after.etcd) * 100.0 / 3.0);
        }
        Ok(vec![commits, requests, cpu, of_etcd])
    }

    /// Commits of a fleet that is asked, and of an edit.
    fn asked(&self, rounds: usize) -> Result<Vec<Figure>> {
        let mut commits =
            figure("asked, no edits: commits to etcd", "a second").goal(Goal::Below(10.0));
        let mut of_edit = figure("an edit: commits to etcd until all have it", "commits");
        let mut everywhere = figure("an edit with --wait all", "ms");
        for round in 0..rounds {
            self.watched(|nodes, _| {
                // Until the rate is known to be one.
                std::thread::sleep(IDLE);
                let (start, before) = (Instant::now(), nodes.load()?.commits);
                std::thread::sleep(IDLE);
                let count = nodes.load()?.commits - before;
                commits.rounds.push(count / start.elapsed().as_secs_f64());
                let (start, before) = (Instant::now(), nodes.load()?.commits);
                let state = ["down", "auto"][round % 2];
                nodes.daemons[0].ok(&format!("mirror {state} sin --wait all"))?;
                everywhere.rounds.push(milliseconds(start.elapsed()));
                of_edit.rounds.push(nodes.load()?.commits - before);
                Ok(())
            })?;
        }
        Ok(vec![commits, of_edit, everywhere])
    }

    /// A good bundle is rolled out, and taken back.
    fn apply(&mut self, rounds: usize) -> Result<Vec<Figure>> {
        let seconds = |what, most| figure(what, "s").goal(Goal::Below(most));
        let mut applied = seconds("apply, the canary not watched: done", 10.0);
        let mut commits = figure("apply, the canary not watched: commits to etcd", "commits");
        let mut back = seconds("rollback: done", 2.0);
        let mut said = seconds("rollback: answers of all nodes", 2.0);
        for round in 0..rounds {
            let text = format!("round {round}");
            let file = self.bundle(&text, Kind::Good)?;
            self.watched(|nodes, watched| {
                let before = nodes.load()?.commits;
                let start = Instant::now();
                nodes.daemons[0].ok(&apply(&file, 0))?;
                applied.rounds.push(start.elapsed().as_secs_f64());
                commits.rounds.push(nodes.load()?.commits - before);
                watched.all_say(&text)?;
                let start = Instant::now();
                nodes.daemons[0].ok("fleet rollback")?;
                back.rounds.push(start.elapsed().as_secs_f64());
                let at = watched.all_say("first")?;
                said.rounds.push((at - start).as_secs_f64());
                Ok(())
            })?;
        }
        Ok(vec![applied, commits, back, said])
    }

    /// A bundle that moves too many clients runs nowhere.
    fn refused(&mut self, rounds: usize) -> Result<Vec<Figure>> {
        let mut ran =
            figure("a bundle that moves too many clients: ran it", "nodes").goal(Goal::Below(1.0));
        for round in 0..rounds {
            let text = format!("moves {round}");
            let file = self.bundle(&text, Kind::Moves)?;
            self.watched(|nodes, watched| {
                let (_, why) = nodes.daemons[0].fails(&apply(&file, 0))?;
                ensure!(why.contains("max-change"), "not refused: {why}");
                ran.rounds.push(watched.ever(&text) as f64);
                Ok(())
            })?;
        }
        Ok(vec![ran])
    }

    /// A bundle that nobody can tell from a good one before it runs: its nodes refuse what is asked.
    fn broken(&mut self, rounds: usize) -> Result<Vec<Figure>> {
        let mut ran =
            figure("a bundle that refuses what is asked: ran it", "nodes").goal(Goal::Below(2.0));
        let mut back = figure("a bundle that refuses what is asked: taken back after", "s");
        for _ in 0..rounds {
            let file = self.bundle("lacks", Kind::Lacks)?;
            self.watched(|nodes, watched| {
                let start = Instant::now();
                let (_, why) = nodes.daemons[0].fails(&apply(&file, 30))?;
                ensure!(why.contains("SERVFAIL or REFUSED"), "not taken back: {why}");
                let at = watched.all_say("first")?;
                back.rounds.push((at - start).as_secs_f64());
                ran.rounds.push(watched.ever(REFUSED) as f64);
                Ok(())
            })?;
        }
        Ok(vec![ran, back])
    }

    /// Does something while a client asks all nodes.
    fn watched(&self, act: impl FnOnce(&Nodes, &Watched) -> Result<()>) -> Result<()> {
        let clients = (0..COUNT).map(|number| self.nodes.client(number));
        let clients = clients.collect::<Result<Vec<_>>>()?;
        let watched = Watched::default();
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let asking = scope.spawn(|| watched.ask(&clients, &over));
            let done = watched
                .all_say("first")
                .and_then(|_| act(&self.nodes, &watched));
            over.store(true, Ordering::Relaxed);
            let asked = asking.join();
            asked.unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
            done
        })
    }
}

/// What the nodes say to a client.
#[derive(Default)]
struct Watched(Mutex<Vec<Said>>);

#[derive(Clone, Default)]
struct Said {
    /// The last answer, and since when it is the same.
    now: Option<(String, Instant)>,
    ever: BTreeSet<String>,
}

impl Watched {
    /// Asks all nodes in turns until it is over.
    fn ask(&self, clients: &[UdpSocket], over: &AtomicBool) -> Result<()> {
        *self.0.lock().expect("not poisoned") = vec![Said::default(); clients.len()];
        let query = Query::new(NAME, TXT).bytes();
        let mut buffer = [0; 512];
        for client in clients {
            client.set_nonblocking(true)?;
        }
        while !over.load(Ordering::Relaxed) {
            let begun = Instant::now();
            for client in clients {
                client.send(&query).context("a node does not listen")?;
            }
            std::thread::sleep(EVERY / 2);
            for (number, client) in clients.iter().enumerate() {
                while let Ok(length) = client.recv(&mut buffer) {
                    let reply = Reply::parse(&buffer[..length])?;
                    let text = match reply.of("TXT").first() {
                        Some(text) => text.trim_matches('"').to_owned(),
                        None => reply.status(),
                    };
                    let said = &mut self.0.lock().expect("not poisoned")[number];
                    if said.now.as_ref().is_none_or(|(now, _)| *now != text) {
                        said.ever.insert(text.clone());
                        said.now = Some((text, begun));
                    }
                }
            }
            std::thread::sleep(EVERY.saturating_sub(begun.elapsed()));
        }
        Ok(())
    }

    /// Waits until all nodes say this, and gives the moment since when.
    fn all_say(&self, text: &str) -> Result<Instant> {
        let end = Instant::now() + PATIENCE;
        loop {
            let said = self.0.lock().expect("not poisoned").clone();
            let since = said.iter().map(|said| {
                let (now, since) = said.now.as_ref()?;
                (now == text).then_some(*since)
            });
            if let Some(Some(last)) = since
                .collect::<Option<Vec<_>>>()
                .map(|all| all.into_iter().max())
            {
                return Ok(last);
            }
            if Instant::now() > end {
                let others = said.iter().enumerate();
                let others = others.filter_map(|(number, said)| {
                    let now = said.now.as_ref().map(|(now, _)| now.as_str());
                    (now != Some(text)).then(|| format!("{} {now:?}", nodes::name(number)))
                });
                let others: Vec<String> = others.collect();
                bail!("not all nodes say {text:?}: {}", others.join(", "));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// The number of nodes that have ever said this.
    fn ever(&self, text: &str) -> usize {
        let said = self.0.lock().expect("not poisoned");
        said.iter().filter(|said| said.ever.contains(text)).count()
    }
}

/// The configuration and its files.
fn setup(text: &str, kind: Kind) -> Setup {
    let zone = format!(
        "@ 60 SOA ns1 hostmaster 1 3600 600 86400 60\n@ 60 NS ns1\nns1 60 A 192.0.2.53\nbundle 60 TXT {text:?}\n"
    );
    let good = Setup::example(&[]).file("example.net.zone", &zone);
    let asked = "[[zone]]\nname = \"example.net\"\nfile = \"example.net.zone\"\n";
    match kind {
        Kind::Good => good.and(asked),
        Kind::Moves => good
            .and(asked)
            .but("default = \"ams\"", "default = \"iad\""),
        Kind::Lacks => good,
    }
}

/// The command that rolls a bundle out, its canary watched for some seconds.
fn apply(file: &Path, wait: u64) -> String {
    format!("fleet apply {} --wait {wait}s", file.display())
}

fn figure(what: &str, unit: &'static str) -> Figure {
    Figure::new("fleet", format!("{COUNT} nodes: {what}"), unit, Vec::new())
}

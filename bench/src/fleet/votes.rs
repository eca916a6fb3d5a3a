//! Votes of a hundred nodes on a thousand mirrors. Three of the nodes are daemons, which check real mirrors. The others
//! have no checks: they vote as nodes do that find out about a mirror each at its own time, through connections of their
//! own.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::convert::Infallible;
use std::net::Ipv4Addr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use geodns::config::{Fleet, Quorum};
use geodns::fleet::node::{self, Node};
use geodns::fleet::polls::{self, Checked, Polls};
use geodns::health::target::number;
use geodns::shared::etcd::Etcd;
use geodns::shared::{Put, Shared, Watch, Write};
use geodns_tests::daemon::Setup;
use geodns_tests::dns::{self, A, Query, Reply};
use geodns_tests::net::{Space, join};
use geodns_tests::until;

use super::milliseconds;
use super::nodes::{FLEET, Nodes, name};
use crate::figure::{Figure, Goal, Results};

/// Nodes that are daemons.
const DAEMONS: usize = 3;
/// Nodes that are not.
const VOTERS: usize = 97;
/// Pools, and mirrors of each. A pool answers with the first that is up.
const POOLS: usize = 20;
const MIRRORS: usize = 50;
/// The check of each mirror.
const INTERVAL: Duration = Duration::from_secs(2);
const TIMEOUT: Duration = Duration::from_secs(1);
const FALL: u32 = 3;
const RISE: u32 = 2;
/// A mirror is out of answers this long after the last check of it that `fall` needs, at the most.
const WITHIN: Duration = Duration::from_secs(1);
/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// Measures a mirror that dies, and an uplink that does.
pub fn run(rounds: usize, results: &mut Results) {
    let of = |what: &str| format!("fleet: votes: {what}");
    let mut made = None;
    results.take(&of("start"), || {
        made = Some(World::new()?);
        Ok(Vec::new())
    });
    let Some(world) = made else {
        return;
    };
    let over = AtomicBool::new(false);
    let counted = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for place in 0..3 {
            let fleet = world.nodes.cluster.fleet_beside(place, FLEET);
            let (world, counted, over) = (&world, &counted, &over);
            scope.spawn(move || {
                let vote = || world.vote(&fleet, place, counted, over);
                world.nodes.space(place).enter(vote)
            });
        }
        results.take(&of("all vote"), || {
            until("all vote", || Ok(counted.load(Ordering::Relaxed) == VOTERS))?;
            world.until_all_know("0 of 100 nodes say down")?;
            Ok(Vec::new())
        });
        results.take(&of("a mirror dies"), || world.mirror_dies(rounds));
        results.take(&of("an uplink dies"), || world.uplink_dies(rounds));
        over.store(true, Ordering::Relaxed);
    });
}

/// The daemons, the mirrors that they check, and what voters find.
struct World {
    nodes: Nodes,
    mirrors: Space,
    /// The mirror that has died or come back last.
    truth: Mutex<Truth>,
}

#[derive(Clone, Copy)]
struct Truth {
    mirror: usize,
    is_up: bool,
    since: Instant,
}

impl World {
    fn new() -> Result<Self> {
        let nodes = Nodes::new(DAEMONS, &setup(), "")?;
        let mirrors = Space::new("mirrors")?;
        // Each of 10.200.0.0/16 is here.
        mirrors.ip("route add local 10.200.0.0/16 dev lo")?;
        for place in 0..DAEMONS {
            let node = nodes.space(place);
            join(node, "uplink", &mirrors, &format!("n{place}"))?;
            mirrors.ip(&format!("address add 10.201.{place}.1/24 dev n{place}"))?;
            node.ip(&format!("address add 10.201.{place}.2/24 dev uplink"))?;
            node.ip(&format!("route add 10.200.0.0/16 via 10.201.{place}.1"))?;
        }
        let truth = Truth {
            mirror: 0,
            is_up: true,
            since: Instant::now(),
        };
        let truth = Mutex::new(truth);
        Ok(Self {
            nodes,
            mirrors,
            truth,
        })
    }

    /// Votes as a third of the voters do, until it is over.
    fn vote(
        &self,
        fleet: &Fleet,
        place: usize,
        counted: &AtomicUsize,
        over: &AtomicBool,
    ) -> Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let voters = (0..VOTERS).filter(|voter| voter % 3 == place);
        runtime.block_on(async {
            let voting = voters.map(|voter| self.vote_as(fleet, voter, counted));
            let voting = futures_util::future::join_all(voting);
            let over = async {
                while !over.load(Ordering::Relaxed) {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            };
            tokio::select! {
                _ = voting => {}
                () = over => {}
            }
        });
        Ok(())
    }

    /// Votes as one of them, whatever becomes of its connections.
    async fn vote_as(&self, fleet: &Fleet, voter: usize, counted: &AtomicUsize) -> Infallible {
        // Not all at once.
        tokio::time::sleep(Duration::from_millis(20) * voter as u32).await;
        let name = format!("v{voter:03}");
        let start = Instant::now() - INTERVAL.mul_f64(rand::random());
        let mut is_new = true;
        loop {
            let counted = || {
                if std::mem::replace(&mut is_new, false) {
                    counted.fetch_add(1, Ordering::Relaxed);
                }
            };
            let lost = match self.connected(fleet, &name, start, counted).await {
                Ok(never) => match never {},
                Err(lost) => lost,
            };
            eprintln!("bench: {name}: {lost:#}");
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }

    /// Votes through a connection. `voted`: the store has the votes.
    async fn connected(
        &self,
        fleet: &Fleet,
        name: &str,
        start: Instant,
        mut voted: impl FnMut(),
    ) -> Result<Infallible> {
        let store = Etcd::new(fleet);
        let says = Node {
            id: name.to_owned(),
            ..Node::default()
        };
        let put = Put::new(node::key(name), says.value()).leased(node::LEASE);
        store.commit(&Write::new().with(put)).await?;
        let mut polls = Polls::new(name.to_owned(), Quorum::default());
        let checked = Checked {
            targets: (0..POOLS * MIRRORS).map(target).collect(),
            bounds: Vec::new(),
        };
        polls.set(Quorum::default(), checked);
        (0..POOLS * MIRRORS).for_each(|mirror| polls.found(target(mirror), true));
        let snapshot = store.snapshot().await?;
        let watch = store.watch(snapshot.position).await?;
        let polls = RefCell::new(polls);
        let vote = async {
            let mut ticks = tokio::time::interval(polls::EVERY);
            loop {
                ticks.tick().await;
                let truth = *self.truth.lock().expect("not poisoned");
                let is_up = truth.found_up(start, Instant::now());
                polls.borrow_mut().found(target(truth.mirror), is_up);
                let puts = polls.borrow().missing();
                if puts.is_empty() {
                    voted();
                } else {
                    let write = puts.into_iter().fold(Write::new(), Write::with);
                    store.commit(&write).await?;
                }
            }
        };
        tokio::select! {
            never = follow(watch, name, &polls) => never,
            never = vote => never,
        }
    }

    /// A mirror dies, and comes back.
    fn set(&self, mirror: usize, is_up: bool) -> Result<Instant> {
        let verb = if is_up { "del" } else { "add" };
        let address = address(mirror);
        let route = format!("route {verb} blackhole {address}/32 table local");
        let since = Instant::now();
        self.mirrors.ip(&route)?;
        *self.truth.lock().expect("not poisoned") = Truth {
            mirror,
            is_up,
            since,
        };
        Ok(since)
    }

    /// Waits until each daemon gives this reason for the last mirror.
    fn until_all_know(&self, reason: &str) -> Result<()> {
        let last = mirror_id(POOLS * MIRRORS - 1);
        for daemon in &self.nodes.daemons {
            until(reason, || {
                let shown = daemon.json(&format!("mirror show {last}"))?;
                Ok(shown["why"]
                    .as_str()
                    .is_some_and(|why| why.contains(reason)))
            })?;
        }
        Ok(())
    }

    fn mirror_dies(&self, rounds: usize) -> Result<Vec<Figure>> {
        let goal = Goal::Below(milliseconds(INTERVAL * FALL + WITHIN));
        let mut changed = figure("a mirror dies: changed answer of three daemons", "ms").goal(goal);
        let clients = (0..DAEMONS).map(|number| self.nodes.client(number));
        let clients = clients.collect::<Result<Vec<_>>>()?;
        for round in 0..rounds {
            let pool = round % POOLS;
            let mirrors = [pool * MIRRORS, pool * MIRRORS + 1];
            let answer = |mirror: usize| -> Result<Instant> {
                let wanted = address(mirror).to_string();
                let query = Query::new(&format!("p{pool}.example.org"), A).bytes();
                let mut waiting: BTreeSet<usize> = (0..DAEMONS).collect();
                let end = Instant::now() + PATIENCE;
                while !waiting.is_empty() {
                    ensure!(
                        Instant::now() < end,
                        "daemons {waiting:?} do not answer {wanted}"
                    );
                    for number in waiting.clone() {
                        let reply = dns::ask(&clients[number], &query, PATIENCE)?;
                        let reply = Reply::parse(&reply.context("no answer")?)?;
                        if reply.of("A").first() == Some(&wanted.as_str()) {
                            waiting.remove(&number);
                        }
                    }
                    std::thread::sleep(Duration::from_millis(5));
                }
                Ok(Instant::now())
            };
            answer(mirrors[0])?;
            let dead = self.set(mirrors[0], false)?;
            changed
                .rounds
                .push(milliseconds(answer(mirrors[1])? - dead));
            self.set(mirrors[0], true)?;
            answer(mirrors[0])?;
        }
        Ok(vec![changed])
    }

    /// A daemon reaches no mirror any more, and etcd as before.
    fn uplink_dies(&self, rounds: usize) -> Result<Vec<Figure>> {
        let mut moved = figure("a node's uplink dies: mirrors out of service", "mirrors")
            .goal(Goal::Below(1.0));
        for _ in 0..rounds {
            let place = DAEMONS - 1;
            // What mirrors answer does not arrive.
            let cut = |verb: &str| {
                let words = format!("route {verb} blackhole 10.201.{place}.2/32");
                self.mirrors.ip(&words)
            };
            let abstains = format!("abstained: {}", name(place));
            cut("add")?;
            let mut most = 0;
            let mut look = || -> Result<()> {
                for daemon in &self.nodes.daemons {
                    let (code, list) = daemon.request("GET", "/v1/mirrors", "")?;
                    ensure!(code == 200, "{list}");
                    most = most.max(list.matches("\"in_service\":false").count());
                }
                Ok(())
            };
            let last = mirror_id(POOLS * MIRRORS - 1);
            until(&abstains, || {
                look()?;
                let shown = self.nodes.daemons[0].json(&format!("mirror show {last}"))?;
                Ok(shown["why"]
                    .as_str()
                    .is_some_and(|why| why.contains(&abstains)))
            })?;
            let end = Instant::now() + INTERVAL * FALL;
            while Instant::now() < end {
                look()?;
                std::thread::sleep(Duration::from_millis(100));
            }
            moved.rounds.push(most as f64);
            cut("del")?;
            self.until_all_know("0 of 100 nodes say down")?;
        }
        Ok(vec![moved])
    }
}

/// Takes the votes of a voter as the store has them.
async fn follow(mut watch: Watch, name: &str, polls: &RefCell<Polls>) -> Result<Infallible> {
    loop {
        for change in watch.next().await?.changes {
            if change.key.rsplit('/').next() == Some(name) {
                let value = change.value.as_deref();
                polls.borrow_mut().take(&change.key, value)?;
            }
        }
    }
}

impl Truth {
    /// Whether a check has the mirror up, whose turns come once an interval, counted from `start`.
    fn found_up(self, start: Instant, now: Instant) -> bool {
        let turns =
            |at: Instant| at.saturating_duration_since(start).as_nanos() / INTERVAL.as_nanos();
        let (needed, takes) = match self.is_up {
            true => (RISE, Duration::ZERO),
            false => (FALL, TIMEOUT),
        };
        let has_noticed = turns(now - takes) >= turns(self.since) + u128::from(needed);
        has_noticed == self.is_up
    }
}

/// Three daemons check all of it.
fn setup() -> Setup {
    let mut body = "[[zone]]\nname = \"example.org\"\nfile = \"example.org.zone\"\n".to_owned();
    for mirror in 0..POOLS * MIRRORS {
        body += &format!(
            "[[mirror]]\nid = {:?}\naddresses = [\"{}\"]\ncheck = {{ type = \"icmp\", interval = \"{}s\", timeout = \"{}s\", fall = {FALL}, rise = {RISE} }}\n",
            mirror_id(mirror),
            address(mirror),
            INTERVAL.as_secs(),
            TIMEOUT.as_secs(),
        );
    }
    for pool in 0..POOLS {
        let mirrors = (pool * MIRRORS..).take(MIRRORS).map(mirror_id);
        let mirrors: Vec<String> = mirrors.collect();
        body += &format!(
            "[[pool]]\nid = \"p{pool}\"\nmirrors = {mirrors:?}\npolicy = \"failover\"\n[[steer]]\nname = \"p{pool}.example.org\"\npool = \"p{pool}\"\n"
        );
    }
    Setup::example(&[]).body(&body)
}

fn mirror_id(mirror: usize) -> String {
    format!("m{mirror:04}")
}

fn address(mirror: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, 200, (mirror / 250) as u8, (mirror % 250 + 1) as u8)
}

/// The number that votes have for the check of a mirror.
fn target(mirror: usize) -> u64 {
    number(&format!("icmp {}", address(mirror)))
}

fn figure(what: &str, unit: &'static str) -> Figure {
    Figure::new(
        "fleet",
        format!("100 nodes, 1,000 mirrors: {what}"),
        unit,
        Vec::new(),
    )
}

//! An edit at one node, until every kernel of the fleet answers by it: three nodes and a hundred more that follow the
//! same store, side by side and with the sea between them.

use std::net::{IpAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use geodns::config::Fleet;
use geodns::shared::Shared;
use geodns::shared::etcd::Etcd;
use geodns_tests::daemon::Daemon;
use geodns_tests::dns::{self, A, Query, Reply};
use geodns_tests::etcd::{self, Cluster};
use geodns_tests::net::Space;
use geodns_tests::sites::routing::Detection;
use geodns_tests::sites::{self, NAMES, Sites};

use super::milliseconds;
use super::world::COUNT;
use crate::figure::{Figure, Goal, Results, quantile};

/// Nodes that only follow.
const FOLLOWERS: usize = 100;
/// How long an edit may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// A name whose answer is the same at all sites: the first mirror in service.
const NAME: &str = "first.example.org";
/// Key of the mirror that is edited.
const KEY: &str = "mirror/ams";

/// How far sites are apart.
struct Distance {
    name: &'static str,
    /// One way, between the sites 1 and 2, 1 and 3, 2 and 3.
    delays: [u64; 3],
    flags: &'static [&'static str],
    edits: usize,
    goal: f64,
}

const DISTANCES: [Distance; 2] = [
    Distance {
        name: "side by side",
        delays: [0; 3],
        flags: &[],
        edits: 100,
        goal: 50.0,
    },
    Distance {
        name: "round trips of 80, 160, 220 ms",
        delays: [40, 80, 110],
        flags: &["--heartbeat-interval=250", "--election-timeout=2500"],
        edits: 30,
        goal: 350.0,
    },
];

/// Measures edits at each distance.
pub fn run(rounds: usize, results: &mut Results) {
    for distance in &DISTANCES {
        let name = format!("fleet: edits, {}", distance.name);
        results.take(&name, || measure(distance, rounds));
    }
}

fn measure(distance: &Distance, rounds: usize) -> Result<Vec<Figure>> {
    let sites = Sites::apart(COUNT, Detection::Hold, |one, other| {
        Duration::from_millis(distance.delays[one + other - 3])
    })?;
    let places = sites
        .sites
        .iter()
        .map(|site| (&site.node, address(site.number)));
    let places: Vec<(&Space, IpAddr)> = places.collect();
    let cluster = Cluster::within(
        &places,
        etcd::Setup {
            flags: distance.flags.iter().map(|&flag| flag.to_owned()).collect(),
            ..etcd::Setup::default()
        },
    )?;
    let mut daemons = Vec::new();
    for site in &sites.sites {
        let pool = format!(
            "[[pool]]\nid = \"first\"\nmirrors = {:?}\npolicy = \"failover\"\n[[steer]]\nname = {NAME:?}\npool = \
             \"first\"\n",
            &NAMES[..2]
        );
        // Its own site's member of etcd first.
        let section = etcd::section(&cluster.fleet_beside(site.number - 1, "bench"));
        let setup = sites::setup(site.number).and(&pool).and(&section);
        daemons.push(Daemon::start(&site.node, &setup)?);
    }
    daemons[0].ok("fleet init")?;
    for daemon in &daemons[1..] {
        daemon.ok("fleet join --yes")?;
    }
    let over = Arc::new(AtomicBool::new(false));
    let seen: Arc<Mutex<Vec<Vec<Instant>>>> = Arc::default();
    std::thread::scope(|scope| {
        for site in &sites.sites {
            let fleet = cluster.fleet_beside(site.number - 1, "bench");
            let count = FOLLOWERS / COUNT + usize::from(site.number <= FOLLOWERS % COUNT);
            let (seen, over) = (Arc::clone(&seen), Arc::clone(&over));
            scope.spawn(move || site.node.enter(|| follow(&fleet, count, &seen, &over)));
        }
        let measured = edits(distance, rounds, &sites, &daemons, &seen);
        over.store(true, Ordering::Relaxed);
        measured
    })
}

/// Follows the store N times, and notes when each commit comes that the bench makes.
fn follow(
    fleet: &Fleet,
    count: usize,
    seen: &Mutex<Vec<Vec<Instant>>>,
    over: &AtomicBool,
) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let followers = (0..count).map(|_| async {
            let place = {
                let mut seen = seen.lock().expect("not poisoned");
                seen.push(Vec::new());
                seen.len() - 1
            };
            // Each has connections of its own.
            let store = Etcd::new(fleet);
            let snapshot = store.snapshot().await?;
            let mut watch = store.watch(snapshot.position).await?;
            loop {
                let batch = watch.next().await?;
                if batch.changes.iter().any(|change| change.key == KEY) {
                    seen.lock().expect("not poisoned")[place].push(Instant::now());
                }
            }
            #[expect(unreachable_code, reason = "gives the type of the errors")]
            Ok::<(), anyhow::Error>(())
        });
        let over = async {
            while !over.load(Ordering::Relaxed) {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::select! {
            ended = futures_util::future::try_join_all(followers) => ended.map(drop),
            () = over => Ok(()),
        }
    })
}

fn edits(
    distance: &Distance,
    rounds: usize,
    sites: &Sites,
    daemons: &[Daemon],
    seen: &Mutex<Vec<Vec<Instant>>>,
) -> Result<Vec<Figure>> {
    let figure = |what: &str| {
        let what = format!("edit, {}: {what}", distance.name);
        Figure::new("fleet", what, "ms", Vec::new())
    };
    let mut said = figure("done at its node, p50");
    let mut middle = figure("changed answer of every kernel, p50");
    let mut worst = figure("changed answer of every kernel, p99").goal(Goal::Below(distance.goal));
    let mut others = figure(&format!("seen by {FOLLOWERS} followers, p99"));
    let sockets = sites.sites.iter().map(|site| {
        let any = IpAddr::from([0; 4]);
        site.client.udp(any, (address(site.number), 53).into())
    });
    let sockets = sockets.collect::<Result<Vec<_>>>()?;
    // Until all followers follow.
    std::thread::sleep(Duration::from_secs(3));
    let mut done = 0;
    for _ in 0..rounds {
        let (mut acknowledged, mut answered, mut followed) = (Vec::new(), Vec::new(), Vec::new());
        for edit in 0..distance.edits {
            let state = ["down", "auto"][edit % 2];
            let wanted = ["198.51.100.2", "198.51.100.1"][edit % 2];
            let daemon = &daemons[edit / 2 % COUNT];
            let start = Instant::now();
            let times = std::thread::scope(|scope| {
                let asking = sockets.iter();
                let asking = asking.map(|socket| scope.spawn(|| until(socket, wanted)));
                let asking: Vec<_> = asking.collect();
                let body = format!("{{\"state\":{state:?}}}");
                let (code, answer) = daemon.request("PUT", "/v1/mirrors/ams/admin", &body)?;
                ensure!(code == 200, "mirror {state}: {code}: {answer}");
                acknowledged.push(milliseconds(start.elapsed()));
                let joined = asking.into_iter().map(|thread| thread.join());
                let times = joined
                    .map(|time| time.unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
                times.collect::<Result<Vec<Instant>>>()
            })?;
            let last = times.into_iter().max().context("no kernel")?;
            answered.push(milliseconds(last - start));
            done += 1;
            followed.push(milliseconds(all_have(seen, done)? - start));
        }
        said.rounds.push(quantile(&acknowledged, 0.5));
        middle.rounds.push(quantile(&answered, 0.5));
        worst.rounds.push(quantile(&answered, 0.99));
        others.rounds.push(quantile(&followed, 0.99));
    }
    Ok(vec![said, middle, worst, others])
}

/// Asks until the answer is this, and says when it was.
fn until(socket: &UdpSocket, wanted: &str) -> Result<Instant> {
    let query = Query::new(NAME, A).bytes();
    let end = Instant::now() + PATIENCE;
    while Instant::now() < end {
        let answer = dns::ask(socket, &query, PATIENCE)?.context("no answer")?;
        let at = Instant::now();
        if Reply::parse(&answer)?.of("A").first() == Some(&wanted) {
            return Ok(at);
        }
        std::thread::sleep(Duration::from_micros(300));
    }
    bail!("no kernel answers {wanted} after {PATIENCE:?}")
}

/// Waits until each follower has seen N commits, and says when the last one had.
fn all_have(seen: &Mutex<Vec<Vec<Instant>>>, count: usize) -> Result<Instant> {
    let end = Instant::now() + PATIENCE;
    loop {
        {
            let seen = seen.lock().expect("not poisoned");
            let times = seen.iter().map(|times| times.get(count - 1).copied());
            if seen.len() == FOLLOWERS
                && let Some(times) = times.collect::<Option<Vec<_>>>()
            {
                return times.into_iter().max().context("no follower");
            }
            ensure!(
                Instant::now() < end,
                "{} followers, and not all of them have seen commit {count}",
                seen.len()
            );
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn address(number: usize) -> IpAddr {
    IpAddr::from([10, 77, number as u8, 2])
}

//! A mirror that goes out of service, and comes back: from a monitor's word to the first answer that
//! heeds it, in one pool beside the real prefix list, and in a thousand pools.

use std::fmt::Write;
use std::net::{IpAddr, UdpSocket};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use geodns_tests::daemon::{Daemon, EXAMPLE_ZONE, Setup};
use geodns_tests::dns::{self, A, Query, Reply};
use geodns_tests::net::{Pair, at};
use geodns_tests::real;

use crate::figure::{Figure, Goal, quantile};

const SERVER: &str = "192.0.2.53";
const CLIENT: &str = "192.0.2.1";
/// Pools that hold the mirror.
const POOLS: usize = 1000;
/// Flips of a round.
const FLIPS: usize = 100;
const PATIENCE: Duration = Duration::from_secs(2);

/// Flips the mirror in one pool and in a thousand.
pub fn run(list: Option<&Path>, rounds: usize) -> Result<Vec<Figure>> {
    let pair = Pair::new(&[])?;
    let mut figures = Vec::new();
    for (pools, goal) in [(1, 1.0), (POOLS, 5.0)] {
        let mut daemon = Daemon::start(&pair.server, &setup(pools))?;
        if let (1, Some(list)) = (pools, list) {
            daemon.ok(&format!("map import {} --pool p0", list.display()))?;
        }
        let socket = pair
            .client
            .udp(CLIENT.parse::<IpAddr>()?, at(SERVER, 53)?)?;
        let what = |share: &str| match pools {
            1 => format!("a monitor's word to changed answer, {share}"),
            _ => format!("the same, in the last of {POOLS} pools, {share}"),
        };
        let mut median = Figure::new("flip", what("p50"), "ms", Vec::new());
        let mut worst = Figure::new("flip", what("p99"), "ms", Vec::new());
        median.goal = Some(Goal::Below(goal));
        for _ in 0..rounds {
            let mut took = Vec::new();
            for _ in 0..FLIPS {
                took.push(flip(&daemon, &socket, pools, "down", 11)?);
                took.push(flip(&daemon, &socket, pools, "up", 10)?);
            }
            median.rounds.push(quantile(&took, 0.5));
            worst.rounds.push(quantile(&took, 0.99));
        }
        figures.extend([median, worst]);
        daemon.stop()?;
    }
    Ok(figures)
}

/// Pools that take the first of two mirrors that is in service; the first is the same in all.
fn setup(pools: usize) -> Setup {
    let mut body = String::from("[[zone]]\nname = \"example.org\"\nfile = \"example.org.zone\"\n");
    for (id, octet) in &real::MIRRORS {
        let _ = write!(
            body,
            "[[mirror]]\nid = {id:?}\naddresses = [\"192.0.2.{octet}\"]\n"
        );
    }
    let ids = real::MIRRORS.map(|(id, _)| id);
    for pool in 0..pools {
        let _ = write!(
            body,
            "[[pool]]\nid = \"p{pool}\"\nmirrors = {ids:?}\npolicy = \"failover\"\n\
             [[steer]]\nname = \"p{pool}.example.org\"\npool = \"p{pool}\"\n"
        );
    }
    Setup::new(&[SERVER])
        .body(&body)
        .file("example.org.zone", EXAMPLE_ZONE)
}

/// Tells the daemon, and gives the milliseconds until the last pool answers by it. All others must
/// then do so too.
fn flip(daemon: &Daemon, socket: &UdpSocket, pools: usize, word: &str, wanted: u8) -> Result<f64> {
    let wanted = format!("192.0.2.{wanted}");
    let ask = |pool: usize| -> Result<String> {
        let query = Query::new(&format!("p{pool}.example.org"), A).bytes();
        let bytes = dns::ask(socket, &query, PATIENCE)?.context("no answer")?;
        let reply = Reply::parse(&bytes)?;
        Ok(reply.of("A").first().context("no address")?.to_string())
    };
    let path = format!("/v1/mirrors/{}/health", real::MIRRORS[0].0);
    let body = format!("{{\"up\":{},\"reason\":\"bench\"}}", word == "up");
    let start = Instant::now();
    let (code, answer) = daemon.request("PUT", &path, &body)?;
    ensure!(code == 200, "set-health {word}: {code}: {answer}");
    while ask(pools - 1)? != wanted {
        if start.elapsed() > PATIENCE {
            bail!("the last pool does not answer {wanted} after {PATIENCE:?}");
        }
    }
    let took = start.elapsed().as_secs_f64() * 1e3;
    for pool in (0..pools).step_by(37) {
        let got = ask(pool)?;
        ensure!(
            got == wanted,
            "pool {pool} answers {got} after the last answered {wanted}"
        );
    }
    Ok(took)
}

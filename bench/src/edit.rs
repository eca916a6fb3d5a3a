//! `map set`: from the request to the first answer that has changed, with the real prefix list in
//! force if it is there; beside a small file written and synced to the same disk.

use std::fs::File;
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use geodns_tests::daemon::Daemon;
use geodns_tests::dns::{self, A, Query, Reply};
use geodns_tests::net::{Pair, Space, at};
use geodns_tests::real;
use ipnet::Ipv4Net;

use crate::figure::{Figure, Goal, quantile};

const SERVER: &str = "192.0.2.53";
/// Edits of a round.
const EDITS: usize = 500;
/// Edits through the command line, which starts a process for each.
const COMMANDS: usize = 50;
const PATIENCE: Duration = Duration::from_secs(2);

/// Edits prefixes of many lengths around clients in many places.
pub fn run(list: Option<&Path>, rounds: usize) -> Result<Vec<Figure>> {
    let pair = Pair::new(&[])?;
    // So that the client can ask from every address there.
    pair.client.ip("route add local 20.0.0.0/7 dev lo")?;
    let mut daemon = Daemon::start(&pair.server, &real::setup(SERVER))?;
    if let Some(list) = list {
        daemon.ok(&format!("map import {}", list.display()))?;
    }
    let mut clients = (0..).map(client);
    let mut next = || clients.next().context("there is always another");
    let mut figures: Vec<Figure> = [
        "request to changed answer, p50",
        "request to changed answer, p99",
        "request to changed answer, max",
        "`geodns map set` to changed answer, p50",
        "a file written and synced, p50",
    ]
    .into_iter()
    .map(|what| Figure::new("map set", what, "ms", Vec::new()))
    .collect();
    figures[1].goal = Some(Goal::Below(10.0));
    let synced = daemon.home.folder.path().join("synced");
    for _ in 0..rounds {
        let (mut requests, mut commands, mut syncs) = (Vec::new(), Vec::new(), Vec::new());
        for edit in 0..EDITS {
            requests.push(one(&daemon, &pair.client, next()?, false)?);
            let start = Instant::now();
            let mut file = File::create(&synced)?;
            file.write_all(&[0; 4096])?;
            file.sync_all()?;
            syncs.push(milliseconds(start));
            if edit < COMMANDS {
                commands.push(one(&daemon, &pair.client, next()?, true)?);
            }
        }
        for (figure, value) in figures.iter_mut().zip([
            quantile(&requests, 0.5),
            quantile(&requests, 0.99),
            quantile(&requests, 1.0),
            quantile(&commands, 0.5),
            quantile(&syncs, 0.5),
        ]) {
            figure.rounds.push(value);
        }
    }
    daemon.stop()?;
    Ok(figures)
}

/// A client and the prefix around it to edit: every tenth a /16, the others a /24 to /32. No edit lies
/// in the prefix of another one, which would be the one to count.
fn client(number: u32) -> (Ipv4Addr, Ipv4Net) {
    let (address, len) = if number.is_multiple_of(10) {
        (21 << 24 | (number / 10 % 256) << 16 | 1, 16)
    } else {
        // Odd: every /24 of 20/8 comes once before the first comes again.
        let place = number.wrapping_mul(40_503) % (1 << 16);
        (20 << 24 | place << 8 | 1, 24 + (number % 9) as u8)
    };
    let client = Ipv4Addr::from(address);
    (client, Ipv4Net::new_assert(client, len).trunc())
}

/// Sends a client's network to another mirror. Gives the milliseconds until it gets there.
fn one(
    daemon: &Daemon,
    space: &Space,
    (client, prefix): (Ipv4Addr, Ipv4Net),
    command: bool,
) -> Result<f64> {
    let socket = space.udp(IpAddr::V4(client), at(SERVER, 53)?)?;
    let query = Query::new(real::NAME, A).bytes();
    let ask = || -> Result<String> {
        let bytes = dns::ask(&socket, &query, PATIENCE)?.context("no answer")?;
        let reply = Reply::parse(&bytes)?;
        Ok(reply.of("A").first().context("no address")?.to_string())
    };
    let before = ask()?;
    let other = |(_, octet): &&(&str, u8)| before != format!("192.0.2.{octet}");
    let (mirror, octet) = real::MIRRORS.iter().find(other).context("another mirror")?;
    let wanted = format!("192.0.2.{octet}");

    let start = Instant::now();
    if command {
        daemon.ok(&format!("map set {prefix} {mirror}"))?;
    } else {
        let body = format!("{{\"prefix\":\"{prefix}\",\"mirror\":\"{mirror}\"}}");
        let (code, body) = daemon.request("PUT", "/v1/map", &body)?;
        ensure!(code == 200, "map set {prefix} {mirror}: {code}: {body}");
    }
    while ask()? != wanted {
        if start.elapsed() > PATIENCE {
            bail!("{client} has not moved to {mirror} after {PATIENCE:?}");
        }
    }
    Ok(milliseconds(start))
}

fn milliseconds(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1e3
}

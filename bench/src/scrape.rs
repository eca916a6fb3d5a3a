//! A scrape of the metrics of 1,000 pools of 64 mirrors, each counted in both paths.

use std::fmt::Write as _;
use std::io::{Read, Write as _};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use geodns_tests::daemon::{Daemon, EXAMPLE_ZONE, Setup, pool};
use geodns_tests::net::{Pair, at, ip};

use crate::figure::{Figure, Goal};

const POOLS: usize = 1000;
const MIRRORS: usize = 64;
const SERVER: &str = "192.0.2.53";
/// Scrapes of a round, of which the median counts.
const SCRAPES: usize = 9;

/// Times scrapes over the network, from the request to the last octet.
pub fn run(rounds: usize) -> Result<Vec<Figure>> {
    let mut body = String::from(
        "[metrics]\nlisten = [\"192.0.2.53:9533\"]\nmax_series = 1000000\n\
         [[zone]]\nname = \"example.org\"\nfile = \"example.org.zone\"\n",
    );
    let ids: Vec<String> = (0..MIRRORS).map(|number| format!("m{number}")).collect();
    for (number, id) in ids.iter().enumerate() {
        writeln!(
            body,
            "[[mirror]]\nid = {id:?}\naddresses = [\"198.51.100.{}\"]",
            number + 1
        )?;
    }
    let policy = format!("mirrors = {ids:?}\npolicy = \"table\"\ndefault = \"m0\"");
    for number in 0..POOLS {
        body.push_str(&pool(&format!("p{number}"), &policy));
    }
    let setup = Setup::new(&[SERVER])
        .body(&body)
        .file("example.org.zone", EXAMPLE_ZONE);
    let pair = Pair::new(&[])?;
    let _daemon = Daemon::start(&pair.server, &setup)?;
    let mut times = Figure::new("scrape", "1,000 pools of 64 mirrors", "ms", Vec::new());
    let mut sizes = Figure::new("scrape", "1,000 pools of 64 mirrors", "MB", Vec::new());
    times.goal = Some(Goal::Below(50.0));
    for _ in 0..rounds {
        let mut scrapes = Vec::new();
        let mut octets = 0;
        for _ in 0..SCRAPES {
            let mut stream = pair.client.tcp(ip("192.0.2.1"), at(SERVER, 9533)?)?;
            stream.set_read_timeout(Some(Duration::from_secs(30)))?;
            let start = Instant::now();
            stream.write_all(
                b"GET /metrics HTTP/1.1\r\nHost: m\r\nConnection: close\r\n\
                  Accept: application/openmetrics-text\r\n\r\n",
            )?;
            let mut text = Vec::new();
            stream.read_to_end(&mut text)?;
            scrapes.push(start.elapsed().as_secs_f64() * 1e3);
            octets = text.len();
        }
        ensure!(octets > POOLS * MIRRORS * 2 * 60, "only {octets} octets");
        scrapes.sort_by(f64::total_cmp);
        times.rounds.push(scrapes[SCRAPES / 2]);
        sizes.rounds.push(octets as f64 / 1e6);
    }
    Ok(vec![times, sizes])
}

//! The slow path alone, on one core, beside NSD on the same core and zone: answers a second over UDP,
//! from a flood, and queries a second over TCP, pipelined. The generators have the first core.

use std::fmt::Write;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use geodns_tests::daemon::{Daemon, EXAMPLE_ZONE, Setup};
use geodns_tests::dns::{self, A, AAAA, MX, Query, Reply};
use geodns_tests::net::{Pair, Space, at, run as output};
use geodns_tests::peers::{self, Kind, Peer};

use crate::cpu::on_cpu;
use crate::figure::{Figure, Goal};

const GEODNS: &str = "192.0.2.53";
const NSD: &str = "192.0.2.54";
/// Hosts of the zone.
const HOSTS: usize = 10_000;
/// Seconds of each load.
const SECONDS: f64 = 2.0;
/// Queries a second that the flood tries: more than either answers.
const FLOOD: u32 = 2_000_000;
/// Kinds of load: what it is, in what, what our share of NSD's must be.
const LOADS: [(Load, &str, f64); 3] = [
    (Load::Flood, "UDP, a flood (kxdpgun)", 1.0),
    (Load::Clients, "UDP, 100 outstanding (dnsperf)", 1.0),
    (
        Load::Tcp,
        "TCP, 20 connections, 200 outstanding (dnsperf)",
        0.8,
    ),
];

#[derive(Clone, Copy, Debug)]
enum Load {
    Flood,
    Clients,
    Tcp,
}

/// Loads both, in turns.
pub fn run(rounds: usize) -> Result<Vec<Figure>> {
    let cpus = std::thread::available_parallelism()?.get();
    ensure!(cpus >= 2, "one core for the server and one for the load");
    let pair = Pair::bare(&[])?;
    let hosts = hosts();
    let setup = Setup::new(&[GEODNS])
        .mode("off")
        .body("[[zone]]\nname = \"example.org\"\nfile = \"example.org.zone\"\n")
        .file("example.org.zone", &hosts);
    let mut daemon = on_cpu(cpus - 1, || Daemon::start(&pair.server, &setup))?;
    let setup = peers::Setup {
        listen: vec![NSD.parse()?],
        zones: vec![("example.org".to_owned(), hosts)],
        // As bare as it can be: no limits of rate.
        rest: "server:\n  rrl-ratelimit: 0\n  rrl-whitelist-ratelimit: 0\n  tcp-count: 1000\n"
            .to_owned(),
        ..peers::Setup::default()
    };
    let nsd = on_cpu(cpus - 1, || Peer::start(&pair.server, Kind::Nsd, &setup))?;
    eprintln!(
        "bench: slow: {} and geodns {}, {HOSTS} hosts",
        nsd.version,
        env!("CARGO_PKG_VERSION")
    );
    let answers = |server| answers(&pair.client, server);
    let (ours, theirs) = (answers(GEODNS)?, answers(NSD)?);
    ensure!(
        ours == theirs,
        "they answer differently: {ours:#?}, {theirs:#?}"
    );
    let folder = daemon.home.folder.path();
    let questions = folder.join("questions");
    std::fs::write(&questions, questions_of())?;
    pair.client.ip(&format!(
        "neighbour replace {GEODNS} lladdr {} dev eth0",
        pair.server.mac("eth0")?
    ))?;
    pair.client.ip(&format!(
        "neighbour replace {NSD} lladdr {} dev eth0",
        pair.server.mac("eth0")?
    ))?;

    let mut figures = Vec::new();
    for (load, what, goal) in LOADS {
        let mut rates = [Vec::new(), Vec::new()];
        // The first round makes both warm and does not count.
        for round in 0..=rounds {
            for (rates, server) in rates.iter_mut().zip([GEODNS, NSD]) {
                let rate = load.put(&pair.client, server, &questions)?;
                if round > 0 {
                    rates.push(rate);
                }
            }
        }
        let [ours, theirs] = rates;
        let ratios = ours.iter().zip(&theirs).map(|(ours, theirs)| ours / theirs);
        let ratios = ratios.collect();
        figures.extend([
            Figure::new("slow", format!("NSD: {what}"), "answers/s", theirs),
            Figure::new("slow", format!("geodns: {what}"), "answers/s", ours),
            Figure::new("slow", format!("geodns: {what}"), "x NSD", ratios)
                .goal(Goal::AtLeast(goal)),
        ]);
    }
    nsd.stop()?;
    daemon.stop()?;
    Ok(figures)
}

/// The example's zone with many hosts more.
fn hosts() -> String {
    let mut zone = EXAMPLE_ZONE.to_owned();
    for host in 0..HOSTS {
        let (high, low) = (host / 250, host % 250);
        let _ = writeln!(zone, "host{host} IN A 198.18.{high}.{low}");
        let _ = writeln!(zone, "host{host} IN AAAA 2001:db8:100::{host:x}");
    }
    zone
}

/// Seven of ten for a host, the others for its absent type, an absent name and the apex.
fn questions_of() -> String {
    let mut questions = String::new();
    for number in 0..HOSTS {
        // A prime's multiples, so that hosts do not come in the order of the zone.
        let host = number * 7919 % HOSTS;
        let _ = match number % 10 {
            0..4 => writeln!(questions, "host{host}.example.org A"),
            4..7 => writeln!(questions, "host{host}.example.org AAAA"),
            7 => writeln!(questions, "host{host}.example.org MX"),
            8 => writeln!(questions, "absent{host}.example.org A"),
            _ => writeln!(questions, "example.org MX"),
        };
    }
    questions
}

/// Asks a server one question of each kind: servers that are compared must give the same answers.
fn answers(client: &Space, server: &str) -> Result<Vec<Reply>> {
    let socket = client.udp("192.0.2.1".parse()?, at(server, 53)?)?;
    let kinds = [
        ("host7.example.org", A),
        ("host7.example.org", AAAA),
        ("host7.example.org", MX),
        ("absent7.example.org", A),
        ("example.org", MX),
    ];
    let ask = |(name, qtype)| {
        let query = Query::new(name, qtype).bytes();
        let reply = dns::ask(&socket, &query, Duration::from_secs(5))?;
        let mut reply = Reply::parse(&reply.with_context(|| format!("{server} is silent"))?)?;
        // NSD compresses names in RDATA.
        reply.length = 0;
        Ok(reply)
    };
    kinds.into_iter().map(ask).collect()
}

impl Load {
    /// Puts this load on a server. Gives answers a second.
    fn put(self, client: &Space, server: &str, questions: &Path) -> Result<f64> {
        let seconds = SECONDS.to_string();
        let mut dnsperf = client.command("dnsperf");
        dnsperf
            .args(["-s", server, "-l", &seconds, "-t", "1", "-d"])
            .arg(questions);
        match self {
            Self::Flood => {
                let mut kxdpgun = client.command("kxdpgun");
                kxdpgun
                    .args(["-t", &seconds, "-Q", &FLOOD.to_string()])
                    .args(["-b", "32", "-F", "0s0", "-i"])
                    .arg(questions)
                    .arg(server);
                // Now and then it says nothing at all.
                let text = (0..3)
                    .map(|_| on_cpu(0, || output(&mut kxdpgun)))
                    .find(|text| text.as_ref().map_or(true, |text| !text.is_empty()))
                    .context("kxdpgun says nothing")??;
                Ok(figure(&text, "total replies:")? / SECONDS)
            }
            Self::Clients => {
                dnsperf.args(["-c", "10", "-q", "100"]);
                let text = on_cpu(0, || output(&mut dnsperf))?;
                figure(&text, "Queries per second:")
            }
            Self::Tcp => {
                dnsperf.args(["-m", "tcp", "-c", "20", "-q", "200"]);
                let text = on_cpu(0, || output(&mut dnsperf))?;
                figure(&text, "Queries per second:")
            }
        }
    }
}

/// The figure behind a label.
fn figure(text: &str, label: &str) -> Result<f64> {
    text.lines()
        .find_map(|line| line.trim().strip_prefix(label))
        .and_then(|rest| rest.split_whitespace().next()?.parse().ok())
        .with_context(|| format!("no {label} in:\n{text}"))
}

//! What names cost: a zone of a million beside one of a thousand, and a flood of names that do not
//! exist.

use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use geodns::config::Config;
use geodns::serve::{self, Identity, Transport};
use geodns::world::{Inputs, World};
use geodns_common::verdict::Verdict;

use super::flood::{Flood, Flow, SERVER};
use super::{Figure, Goal, quantile};
use crate::daemon::{Daemon, Setup, at};
use crate::dns::{A, Query};
use crate::rig::Responder;
use crate::world::{Pair, Space, join};

/// Names of the large zone and of the small one, and one of each, in which zeros are any digits.
const ZONES: [(usize, &str); 2] = [
    (1_000_000, "h000000.example.org"),
    (1_000, "h000.example.org"),
];
/// A name that is in neither; its digits are random.
const ABSENT: &str = "x00000000.example.org";
/// How long each flood lasts.
const TIME: Duration = Duration::from_secs(1);
/// Queries of the slow path, in one round.
const LOOKUPS: usize = 200_000;
/// Where the second client asks over TCP.
const ASIDE: &str = "192.0.3.53";
const ASIDE_CLIENT: &str = "192.0.3.1";

const CONFIG: &str = "[[zone]]\nname = \"example.org\"\nfile = \"example.org.zone\"\n";

/// A zone with so many names that have an address each.
fn zone(names: usize) -> String {
    let digits = (names - 1).to_string().len();
    let mut text = String::from(
        "$TTL 3600\n@ SOA ns hostmaster 1 7200 900 1209600 300\n@ NS ns\nns A 192.0.2.53\n",
    );
    for number in 0..names {
        let [_, a, b, c] = (number as u32).to_be_bytes();
        let _ = writeln!(text, "h{number:0digits$} A 10.{a}.{b}.{c}");
    }
    text
}

/// All of it.
pub fn run(rounds: usize) -> Result<Vec<Figure>> {
    let mut figures = daemon(rounds.min(3))?;
    figures.extend(lookups(rounds)?);
    figures.extend(absent(rounds)?);
    Ok(figures)
}

/// A daemon with a million names: how long until it answers, and its memory.
fn daemon(rounds: usize) -> Result<Vec<Figure>> {
    let (names, _) = ZONES[0];
    let mut seconds = Vec::new();
    let mut bytes = Vec::new();
    let setup = Setup::new(&[SERVER])
        .body(CONFIG)
        .file("example.org.zone", &zone(names));
    for _ in 0..rounds {
        let pair = Pair::new(&[])?;
        let start = Instant::now();
        let mut daemon = Daemon::start(&pair.server, &setup)?;
        let socket = pair.client.udp("192.0.2.1".parse()?, at(SERVER, 53)?)?;
        let query = Query::new("h999999.example.org", A).bytes();
        crate::dns::ask(&socket, &query, Duration::from_secs(3))?.context("no answer")?;
        seconds.push(start.elapsed().as_secs_f64());
        let pid = daemon.pid().context("it runs")?;
        let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
        let rss = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = rss.and_then(|rest| rest.trim().strip_suffix(" kB"));
        bytes.push(kib.context("no VmRSS")?.parse::<f64>()? * 1024.0 / names as f64);
        daemon.stop()?;
    }
    Ok(vec![
        Figure::new("names", "a million: start to first answer", "s", seconds)
            .goal(Goal::Below(8.0)),
        Figure::new("names", "a million: memory (RSS)", "octets/name", bytes)
            .goal(Goal::Below(350.0)),
    ])
}

/// The zones, compiled.
fn worlds() -> Result<[World; 2]> {
    let compiled = |names| -> Result<World> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("geodns.toml");
        std::fs::write(&path, CONFIG)?;
        std::fs::write(folder.path().join("example.org.zone"), zone(names))?;
        let inputs = Inputs::of(Config::load(&path)?)?;
        Ok(inputs.compile(&inputs.layers(), 1, [1, 2])?)
    };
    Ok([compiled(ZONES[0].0)?, compiled(ZONES[1].0)?])
}

/// Lookups of random names of both zones, in the kernel and in the slow path.
fn lookups(rounds: usize) -> Result<Vec<Figure>> {
    let worlds = worlds()?;
    let mut flood = Flood::new(ZONES[0].1)?;
    let mut responders = Vec::new();
    for world in &worlds {
        let plan = world.plan.read().expect("not poisoned");
        let mut responder = Responder::load(&*plan, plan.capacity())?;
        flood.listen(&mut responder)?;
        responders.push(responder);
    }
    let mut kernel = [Vec::new(), Vec::new()];
    let mut whole = Vec::new();
    let mut slow = [Vec::new(), Vec::new()];
    let nanoseconds = |flow: &Flow, frames: u64| 1e9 / flow.per_second(frames);
    // The first round only warms up.
    for round in 0..=rounds {
        let bare = flood.reflector(TIME)?;
        let bare = nanoseconds(&bare, bare.seen.queries);
        let mut spent_whole = [0.0; 2];
        for (which, (_, name)) in ZONES.into_iter().enumerate() {
            flood.vary(name)?;
            let flow = flood.responder(&mut responders[which], TIME)?;
            let answered = 100.0 * flow.seen.answers as f64 / flow.sent as f64;
            ensure!(
                answered > 90.0,
                "{answered} % of the names of {name} are answered"
            );
            let spent = slow_lookups(&worlds[which], name)?;
            spent_whole[which] = nanoseconds(&flow, flow.seen.answers);
            if round > 0 {
                kernel[which].push(nanoseconds(&flow, flow.seen.answers) - bare);
                slow[which].push(spent);
            }
        }
        if round > 0 {
            whole.push(spent_whole[0] / spent_whole[1]);
        }
    }
    let mut figures = vec![Figure::new(
        "names",
        "kernel: one of a million, generator and sink included",
        "x of a thousand",
        whole,
    )];
    for (path, [million, thousand]) in [("kernel", kernel), ("slow path", slow)] {
        let ratios = million.iter().zip(&thousand).map(|(m, t)| m / t).collect();
        figures.extend([
            Figure::new(
                "names",
                format!("{path}: one of a thousand"),
                "ns",
                thousand.clone(),
            ),
            Figure::new(
                "names",
                format!("{path}: one of a million"),
                "ns",
                million.clone(),
            ),
            Figure::new(
                "names",
                format!("{path}: one of a million"),
                "x of a thousand",
                ratios,
            )
            .goal(Goal::Below(1.5)),
        ]);
    }
    Ok(figures)
}

/// Nanoseconds that the slow path takes to answer for a random name.
fn slow_lookups(world: &World, name: &str) -> Result<f64> {
    let identity = Identity {
        id: "bench".to_owned(),
        version: "bench".to_owned(),
    };
    let zeros = name.bytes().filter(|&byte| byte == b'0').count();
    let digits = name.find('0').context("a name with zeros")?..;
    let query = Query::new(name, A).bytes();
    // Header, and the label's length.
    let first = 12 + 1 + digits.start;
    // Knuth's MMIX generator.
    let mut seed = 1_u64;
    let queries: Vec<Vec<u8>> = (0..LOOKUPS)
        .map(|_| {
            seed = seed
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            let number = (seed >> 33) % 10_u64.pow(zeros as u32);
            let mut query = query.clone();
            query[first..first + zeros].copy_from_slice(format!("{number:0zeros$}").as_bytes());
            query
        })
        .collect();
    let client: IpAddr = "192.0.2.1".parse()?;
    let mut response = Vec::new();
    let start = Instant::now();
    for query in &queries {
        let answered = serve::answer(
            world,
            &identity,
            query,
            client,
            Transport::Udp,
            &mut response,
        );
        ensure!(answered && response[7] == 1, "no answer for a name");
    }
    Ok(start.elapsed().as_nanos() as f64 / LOOKUPS as f64)
}

/// A flood of names that do not exist, beside a bare reflector; and a second client that asks the
/// slow path over TCP all the while.
fn absent(rounds: usize) -> Result<Vec<Figure>> {
    let server = Space::new("target")?;
    let client = Space::new("aside")?;
    let mut flood = Flood::over(server, ABSENT)?;
    join(flood.server(), "eth1", &client, "eth0")?;
    flood.server().ip_batch(&format!(
        "address add {SERVER}/24 dev eth0\naddress add {ASIDE}/24 dev eth1\n"
    ))?;
    client.ip(&format!("address add {ASIDE_CLIENT}/24 dev eth0"))?;
    let setup = Setup::new(&[SERVER, ASIDE])
        .body(CONFIG)
        .file("example.org.zone", &zone(1_000));

    let (mut reflected, mut rates) = (Vec::new(), Vec::new());
    let (mut ratios, mut answered, mut tcp) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..=rounds {
        let flow = flood.reflector(TIME)?;
        let bare = flow.per_second(flow.seen.queries);
        let mut daemon = Daemon::start(flood.server(), &setup)?;
        flood.vary(ABSENT)?;
        let before = daemon.counters()?;
        let stop = AtomicBool::new(false);
        let (asked, well) = (AtomicU64::new(0), AtomicU64::new(0));
        let flow = std::thread::scope(|scope| {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    asked.fetch_add(1, Ordering::Relaxed);
                    if by_tcp(&client).is_ok() {
                        well.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
            let flow = flood.run(TIME);
            stop.store(true, Ordering::Relaxed);
            flow
        })?;
        let after = daemon.counters()?;
        daemon.stop()?;
        if round == 0 {
            continue;
        }
        let counted = |name: &str| (after[name] - before[name]) as f64;
        let nxdomain = counted(Verdict::Nxdomain.name());
        // All that came in by the flood's interface.
        let rate = flow.per_second(flow.seen.nxdomain);
        reflected.push(bare);
        rates.push(rate);
        ratios.push(rate / bare);
        answered.push(100.0 * nxdomain / flow.sent as f64);
        let (asked, well) = (asked.into_inner(), well.into_inner());
        ensure!(asked > 0, "nobody asked over TCP");
        tcp.push(100.0 * well as f64 / asked as f64);
    }
    ensure!(
        quantile(&answered, 1.0) <= 100.1,
        "more answers than questions"
    );
    Ok(vec![
        Figure::new("names", "absent: bare reflector", "frames/s", reflected),
        Figure::new(
            "names",
            "absent: NXDOMAIN in the kernel",
            "answers/s",
            rates,
        ),
        Figure::new(
            "names",
            "absent: NXDOMAIN in the kernel",
            "x reflector",
            ratios,
        )
        .goal(Goal::AtLeast(0.55)),
        Figure::new("names", "absent: answered", "%", answered).goal(Goal::AtLeast(99.9)),
        Figure::new("names", "absent: meanwhile over TCP", "% answered", tcp)
            .goal(Goal::AtLeast(100.0)),
    ])
}

/// One question of the second client.
fn by_tcp(client: &Space) -> Result<()> {
    let mut stream = client.tcp(ASIDE_CLIENT.parse()?, at(ASIDE, 53)?)?;
    let query = Query::new("h500.example.org", A).bytes();
    let len = u16::try_from(query.len())?.to_be_bytes();
    stream.write_all(&[&len, &query[..]].concat())?;
    let mut head = [0; 14];
    stream.read_exact(&mut head)?;
    // ANCOUNT, behind the message's length.
    ensure!(head[9] == 1, "no answer in it");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_zones_have_the_names_that_are_asked_for() {
        for (names, name) in [(1_000, ZONES[1].1), (10, "h0.example.org")] {
            let text = zone(names);
            let label = name.split('.').next().unwrap();
            assert!(
                text.lines()
                    .any(|line| line.starts_with(&format!("{label} A ")))
            );
            assert_eq!(text.lines().count(), 4 + names);
        }
    }
}

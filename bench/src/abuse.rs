//! A flood from one prefix, more than could be answered and less than can be dropped: what the others get
//! meanwhile. The generator is on a core of its own; threads of the kernel's receive (threaded NAPI) on another,
//! where the daemon is too.

use std::fs;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use geodns_common::verdict::Verdict;
use geodns_tests::daemon::{Daemon, difference};
use geodns_tests::dns::{self, A, COOKIE, MX, Query, Reply};
use geodns_tests::net::{Space, at, ip};
use geodns_tests::packet::Frame;
use geodns_tests::real;
use geodns_tests::rig::{CLIENTS, Clients, Pattern, TEMPLATES};

use crate::cpu::{Awake, last_cpu, pin};
use crate::figure::{Figure, Goal, quantile};
use crate::flood::{Flood, Flow, SERVER};

/// How long each flood lasts.
const TIME: Duration = Duration::from_secs(2);
/// Frames of the parts of one in which what is lost is counted by itself: some 20 ms. A virtual machine's core is
/// taken away now and then, and a veth's ring holds a tenth of a millisecond of this; most parts are spared.
const PART: u32 = 32_768;
/// The prefix that the flood comes from: all but its last octet.
const PREFIX: [u8; 3] = [20, 1, 2];
/// Clients in the same prefix: one has a cookie, one asks over TCP.
const WITH_COOKIE: &str = "20.1.2.77";
const OVER_TCP: &str = "20.1.2.9";
/// Absent, so that the few that are answered are told from other answers.
const FLOOD: &str = "none-00000000.example.org";
const LIMIT: &str =
    "[rrl]\nrate = 1000\nslip = 100\n[cookies]\nsecrets = [\"e5e973e5a6b2a43f48e7dc849e37bfcf\"]\n";

/// A query from an address.
fn pattern(query: &Query, source: Clients, from: &str) -> Pattern {
    let frame = Frame::new(from, SERVER, query.bytes());
    Pattern {
        source,
        ..Pattern::new(frame.bytes())
    }
}

/// The queries of the flood.
fn flooding() -> Pattern {
    let mut pattern = pattern(&Query::new(FLOOD, A), Clients::Table, "0.0.0.0");
    let first = Frame::new("0.0.0.0", SERVER, Vec::new()).dns() + 12 + 1;
    let digits = FLOOD.find('0').unwrap_or_default()..FLOOD.find('.').unwrap_or_default();
    pattern.digits = first + digits.start..first + digits.end;
    pattern
}

/// The flood with one query in [`TEMPLATES`] of somebody else's.
fn among(pattern: Pattern) -> Vec<Pattern> {
    let mut patterns = vec![flooding(); TEMPLATES - 1];
    patterns.push(pattern);
    patterns
}

/// Measures what can be answered and dropped, and what others get.
pub fn run(rounds: usize) -> Result<Vec<Figure>> {
    let mut flood = Flood::over(Space::new("target")?, real::NAME)?;
    flood.address_server()?;
    flood.generator().ip_batch(&format!(
        "address add 192.0.2.1/24 dev eth0
         address add {OVER_TCP}/32 dev lo"
    ))?;
    let mut setup = real::setup(SERVER);
    setup.body.insert_str(0, LIMIT);
    let daemon = Daemon::start(flood.server(), &setup)?;
    let (first, last) = (0, last_cpu()?);
    ensure!(
        first != last,
        "this needs two CPUs: one generates, the other receives"
    );
    for task in fs::read_dir(format!("/proc/{}/task", daemon.pid().context("it runs")?))? {
        pin(task?.file_name().to_string_lossy().parse()?, last)?;
    }
    let mut control = Flood::new(real::NAME)?;
    control.attach("discard")?;
    let clients: Vec<_> = (0..CLIENTS)
        .map(|number| {
            let [a, b, c] = PREFIX;
            IpAddr::from([a, b, c, (number % 250) as u8 + 1])
        })
        .collect();
    for flood in [&mut flood, &mut control] {
        flood.receive_on(last)?;
        flood.generate_on(first);
        flood.rig().set_clients(&clients)?;
    }

    let _awake = Awake::keep(last);
    let rounds = (0..rounds).map(|_| round(&mut flood, &mut control, &daemon));
    Ok(figures(&rounds.collect::<Result<Vec<_>>>()?))
}

/// The outcome of one round.
struct Round {
    answerable: f64,
    dropped: f64,
    flooded: f64,
    /// By part, as what follows.
    lost: Vec<f64>,
    lost_by_control: Vec<f64>,
    others: Vec<f64>,
    with_cookie: Vec<f64>,
    over_tcp: f64,
}

/// `control` is another pair of ends, where everything is dropped: what it loses, the machine loses.
fn round(flood: &mut Flood, control: &mut Flood, daemon: &Daemon) -> Result<Round> {
    let steered = Query::new(real::NAME, A);
    let with_cookie = cookie(flood)?;

    flood.ask(&[pattern(&steered, Clients::Random, "0.0.0.0")])?;
    let flow = flood.run(TIME)?;
    let answerable = flow.per_second(flow.seen.answers);

    flood.ask(&[flooding()])?;
    let before = daemon.counters()?;
    let flow = flood.run(TIME)?;
    let counted = difference(&before, &daemon.counters()?);
    let limited = counted.get(Verdict::Limited.name());
    let dropped = flow.per_second(limited.copied().unwrap_or(0));

    // Twice what can be answered, and less than can be dropped: not what the generator is told, but what it does.
    let wanted = (2.0 * answerable).min(0.9 * dropped);
    let mut pace = Duration::from_secs_f64(1.0 / wanted);
    flood.ask_paced(&[flooding()], pace)?;
    pace = pace.mul_f64(rate(&parts(flood)?) / wanted);
    flood.ask_paced(&among(pattern(&steered, Clients::Random, "0.0.0.0")), pace)?;
    let flows = parts(flood)?;
    let flooded = rate(&flows);
    let lost = by(&flows, share_lost);
    let others = by(&flows, |flow| got(flow, flow.seen.answers));
    flood.ask_paced(&among(with_cookie), pace)?;
    let with_cookie = by(&parts(flood)?, |flow| got(flow, flow.seen.nodata));

    flood.ask_paced(&[flooding()], pace)?;
    let over = AtomicBool::new(false);
    let space = Arc::clone(flood.generator());
    let (asked, answered) = thread::scope(|scope| {
        let client = scope.spawn(|| ask_over_tcp(&space, &over));
        let flow = flood.run(TIME);
        over.store(true, Ordering::Relaxed);
        let asked = client.join().expect("no panic");
        flow.map(|_| asked)
    })?;
    control.ask_paced(&[flooding()], pace)?;
    let lost_by_control = by(&parts(control)?, share_lost);
    Ok(Round {
        answerable,
        dropped,
        flooded,
        lost,
        lost_by_control,
        others,
        with_cookie,
        over_tcp: 100.0 * f64::from(answered) / f64::from(asked.max(1)),
    })
}

/// Floods for [`TIME`], in parts.
fn parts(flood: &mut Flood) -> Result<Vec<Flow>> {
    let start = Instant::now();
    let mut flows = Vec::new();
    while start.elapsed() < TIME {
        flows.push(flood.run_once(PART)?);
    }
    Ok(flows)
}

fn by(flows: &[Flow], of: impl Fn(&Flow) -> f64) -> Vec<f64> {
    flows.iter().map(of).collect()
}

/// Packets a second that were sent, in most parts.
fn rate(flows: &[Flow]) -> f64 {
    quantile(&by(flows, |flow| flow.per_second(flow.sent)), 0.5)
}

/// Percent that was lost before the program saw it.
fn share_lost(flow: &Flow) -> f64 {
    100.0 * flow.lost.there as f64 / flow.sent as f64
}

/// How many of the others' queries were answered, in percent.
fn got(flow: &Flow, answers: u64) -> f64 {
    100.0 * answers as f64 * TEMPLATES as f64 / flow.sent as f64
}

/// A query with a good cookie: for what there is no data of, so that its answers are told from others.
fn cookie(flood: &mut Flood) -> Result<Pattern> {
    let query = |cookie: &[u8]| Query::new(real::NAME, MX).edns(1232).option(COOKIE, cookie);
    let first = pattern(&query(b"\x01geodns\x01"), Clients::One, WITH_COOKIE);
    let frame = flood.ask_once(&first, Duration::from_secs(1))?;
    let frame = frame.context("no answer with a cookie")?;
    let cookie = frame.get(frame.len().saturating_sub(24)..);
    Ok(pattern(
        &query(cookie.context("no cookie")?),
        Clients::One,
        WITH_COOKIE,
    ))
}

/// Asks over TCP, a connection for each query, until it is over. Gives how many were asked and how many answered.
fn ask_over_tcp(space: &Space, over: &AtomicBool) -> (u32, u32) {
    let (mut asked, mut answered) = (0, 0);
    while !over.load(Ordering::Relaxed) {
        asked += 1;
        answered += u32::from(ask_once_over_tcp(space).is_ok());
        thread::sleep(Duration::from_millis(2));
    }
    (asked, answered)
}

fn ask_once_over_tcp(space: &Space) -> Result<()> {
    let query = Query::new(real::NAME, A).bytes();
    let mut stream = space.tcp(ip(OVER_TCP), at(SERVER, 53)?)?;
    let reply = dns::ask_tcp(&mut stream, &query)?;
    ensure!(!Reply::parse(&reply)?.answers.is_empty());
    Ok(())
}

fn figures(rounds: &[Round]) -> Vec<Figure> {
    let figure = |what: &str, unit, of: fn(&Round) -> f64| {
        Figure::new("abuse", what, unit, rounds.iter().map(of).collect())
    };
    let parts = |what: &str, of: fn(&Round) -> &Vec<f64>| {
        let parts = rounds.iter().flat_map(of).copied().collect();
        Figure::new("abuse", what, "%", parts)
    };
    let enough = Goal::AtLeast(99.0);
    vec![
        figure(
            "one steered A, flooded from everywhere: answered",
            "answers/s",
            |of| of.answerable,
        ),
        figure("a /24 that floods: dropped", "packets/s", |of| of.dropped),
        figure(
            "a /24 that floods while others ask: sent",
            "packets/s",
            |of| of.flooded,
        ),
        figure("the same, of what can be answered", "x", |of| {
            of.flooded / of.answerable
        }),
        parts(
            "the same, lost before the program saw it: the veth's ring was full",
            |of| &of.lost,
        ),
        parts(
            "the same, lost before a program that drops everything saw it",
            |of| &of.lost_by_control,
        ),
        parts("others' queries that are answered", |of| &of.others).goal(enough),
        parts("the same, from the /24 with a cookie", |of| &of.with_cookie).goal(enough),
        figure("the same, from the /24 over TCP", "%", |of| of.over_tcp).goal(enough),
    ]
}

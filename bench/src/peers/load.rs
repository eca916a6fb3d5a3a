//! Puts loads on the servers. What is compared takes turns in each round.
//!
//! A server that answers in the kernel is flooded: each query is answered before the next ones are made. One
//! in userspace would never run beside a flood on the same core, so it is offered a load that is paced; its
//! figure is the most that it answers at any.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use geodns_tests::rig::Seen;

use super::scenarios::Scenario;
use super::servers::{Role, Server};
use super::world::List;
use crate::cpu::first;
use crate::figure::quantile;
use crate::flood::{By, Flood, Flow, Paced};

/// How long one load lasts.
const TIME: Duration = Duration::from_millis(300);
/// How long half of the load lasts.
const HALF_TIME: Duration = Duration::from_secs(1);
/// The first load, in queries a second, and how many times it the next is.
const FIRST: f64 = 10_000.0;
const STEP: f64 = 1.5;
/// After the first round: loads, as shares of the best one so far.
const AROUND: [f64; 4] = [0.85, 1.0, 1.15, 1.3];
/// A server is past its best when it answers less than this share of it.
const PAST: f64 = 0.5;
/// With a core to itself, it is past its best when N steps in a row do not bring this many times it.
const STEPS_PAST: usize = 3;
/// The same.
const MORE: f64 = 1.03;
/// The generator is at its end when it sends less than this share of what it is asked for.
const SENT: f64 = 0.9;
/// Rounds that a busy machine may spoil, for each that counts.
const SPOILT: usize = 3;
/// A core that is busy for so much of the time has none left.
const ALL: f64 = 0.97;
/// Measurements of the price of counting.
const COUNTINGS: usize = 3;

/// The outcome of one load.
#[derive(Clone, Copy, Debug)]
pub struct Point {
    /// Queries a second that were sent.
    pub offered: f64,
    /// Answers a second.
    pub answered: f64,
    /// Percent of the queries that were answered in the end.
    pub share: f64,
}

/// The best of a server with a core to itself.
#[derive(Clone, Copy, Debug, Default)]
pub struct Alone {
    /// Queries a second that the generator was asked for.
    pub asked: f64,
    /// Answers a second.
    pub answered: f64,
}

impl Alone {
    fn or(self, other: Self) -> Self {
        if other.answered > self.answered {
            other
        } else {
            self
        }
    }
}

/// Figures at half of the best load.
#[derive(Clone, Copy, Debug)]
pub struct Half {
    /// Queries a second.
    pub offered: f64,
    /// Percent of them that were answered.
    pub answered: f64,
    /// Microseconds from a query's making to its answer's arrival: median.
    pub p50: f64,
    /// The same: 90 of 100 are below.
    pub p90: f64,
    /// The same: 99 of 100 are below.
    pub p99: f64,
    /// Nanoseconds of the core for each answer, above what the same load takes where it is dropped on
    /// arrival. None where the core was always busy, with something else.
    pub cpu: Option<f64>,
}

/// The figures of one server in one scenario.
#[derive(Clone, Debug, Default)]
pub struct Measured {
    /// Answers a second (of the reflector, frames), one a round.
    pub rates: Vec<f64>,
    /// Answers a second of one in userspace that has a core to itself, one a round.
    pub alone: Vec<Alone>,
    /// Answers by offered load, in the first round.
    pub curve: Vec<Point>,
    /// Half of the load, one a round.
    pub halves: Vec<Half>,
    /// Why it has left, if it has.
    pub failed: Option<String>,
}

impl Measured {
    /// The median of a figure of half of the load.
    pub fn half(&self, figure: impl Fn(&Half) -> f64) -> f64 {
        let values: Vec<f64> = self.halves.iter().map(figure).collect();
        quantile(&values, 0.5)
    }

    /// Percent of the queries that were answered, at the worst, of the loads below a share of the best.
    pub fn answered_below(&self, share: f64) -> f64 {
        let below = self.curve.iter();
        let below = below.filter(|point| point.offered <= share * self.rate());
        below.map(|point| point.share).fold(100.0, f64::min)
    }

    /// The median of the nanoseconds of the core for an answer, of the rounds in which they are known.
    pub fn cpu(&self) -> Option<f64> {
        let known: Vec<f64> = self.halves.iter().filter_map(|half| half.cpu).collect();
        (!known.is_empty()).then(|| quantile(&known, 0.5))
    }

    /// The median of the answers a second.
    pub fn rate(&self) -> f64 {
        quantile(&self.rates, 0.5)
    }

    /// The same with a core to itself. Of one in the kernel it is no other figure, and a lower bound: generator and
    /// sink stay on its core.
    pub fn rate_alone(&self) -> f64 {
        match self.alone.is_empty() {
            true => self.rate(),
            false => {
                let rates: Vec<f64> = self.alone.iter().map(|one| one.answered).collect();
                quantile(&rates, 0.5)
            }
        }
    }
}

/// Measures a scenario: what each server did, in the order of the servers.
pub fn measure(
    servers: &mut [Server],
    scenario: &Scenario,
    list: &List,
    rounds: usize,
) -> Result<Vec<Measured>> {
    let mut frames = None;
    for server in servers.iter_mut().filter(|one| one.takes_part(scenario)) {
        server.prepare(scenario, list)?;
        if frames.is_none() {
            frames = Some(server.flood.frames()?);
        }
        if let Some(frames) = &frames {
            server.flood.send_frames(frames)?;
        }
    }
    let discard = servers
        .iter()
        .position(|server| server.role == Role::Discard)
        .context("nobody discards")?;
    let mut measured = vec![Measured::default(); servers.len()];
    for _ in 0..rounds {
        for at in (0..servers.len()).filter(|at| *at != discard) {
            if !servers[at].takes_part(scenario) {
                continue;
            }
            let of = &mut measured[at];
            if of.failed.is_some() {
                continue;
            }
            // What ours and the reflector do is what this is about.
            match round(servers, at, discard, of) {
                Err(error) if servers[at].role == Role::Peer => {
                    eprintln!("bench: peers: {}: {error:#}", servers[at].name);
                    of.failed = Some(format!("{error:#}"));
                }
                done => done?,
            }
        }
    }
    Ok(measured)
}

/// One round of one server.
fn round(servers: &mut [Server], at: usize, discard: usize, of: &mut Measured) -> Result<()> {
    let server = &mut servers[at];
    if of.curve.is_empty() {
        of.curve = sweep(server)?;
    }
    let rate = best(server, of)?;
    let (mut half, answering) = half(server, rate / 2.0)?;
    let by = server.by();
    let dropping = busy(&mut servers[discard].flood, rate / 2.0, by)?;
    half.cpu = between(answering, dropping);
    of.rates.push(rate);
    of.halves.push(half);
    let server = &mut servers[at];
    if !server.is_in_kernel() {
        let most = alone(server, of)?;
        of.alone.push(most);
    }
    Ok(())
}

/// Offers more and more, until it is too much.
fn sweep(server: &mut Server) -> Result<Vec<Point>> {
    let mut points: Vec<Point> = Vec::new();
    let mut rate = FIRST;
    // One that is past it may have been disturbed.
    let mut past = 0;
    while past < 2 {
        let point = offer(server, rate)?;
        let best = points
            .iter()
            .map(|point| point.answered)
            .fold(0.0, f64::max);
        points.push(point);
        let is_past = point.answered < PAST * best || point.offered < SENT * rate;
        past = if is_past { past + 1 } else { 0 };
        rate *= STEP;
    }
    Ok(points)
}

/// The most that a server in userspace answers a second with a core to itself. Its loads come by live frames from the
/// other core.
fn alone(server: &mut Server, so_far: &Measured) -> Result<Alone> {
    let patterns = server.patterns.clone();
    let counts = server.role;
    let name = server.name;
    let flood = &mut server.flood;
    let most = flood.apart(|flood| {
        let mut offer = |rate: f64| -> Result<Alone> {
            flood.ask_paced(&patterns, Duration::from_secs_f64(1.0 / rate))?;
            let flow = flood.run_once((rate * TIME.as_secs_f64()) as u32)?;
            let answered = flow.per_second(counts.counted(flow.seen));
            Ok(Alone {
                asked: rate,
                answered,
            })
        };
        let mut best = Alone::default();
        if let Some(before) = so_far.alone.first() {
            for share in AROUND {
                best = best.or(offer(share * before.asked)?);
            }
            return Ok(best);
        }
        // The generator has a core of its own, so more can be offered than is sent: only what comes back says when
        // it is enough.
        let mut rate = so_far.rate() / STEP;
        let mut past = 0;
        while past < STEPS_PAST {
            let point = offer(rate)?;
            past = if point.answered < MORE * best.answered {
                past + 1
            } else {
                0
            };
            best = best.or(point);
            rate *= STEP;
        }
        Ok(best)
    });
    // As it was asked before.
    server.flood.ask(&server.patterns)?;
    let most = most?;
    ensure!(
        most.answered > 0.0,
        "{name} answers nothing with a core to itself"
    );
    Ok(most)
}

fn offer(server: &mut Server, rate: f64) -> Result<Point> {
    let paced = paced(server, rate, TIME, false)?;
    Ok(Point {
        offered: paced.per_second(paced.sent),
        answered: paced.per_second(server.counted(paced.seen)),
        share: 100.0 * server.counted(paced.all) as f64 / paced.sent.max(1) as f64,
    })
}

/// A load, which is repeated where the wire lost frames of one who answers in the kernel, as a flood is.
fn paced(server: &mut Server, rate: f64, time: Duration, timed: bool) -> Result<Paced> {
    let mut spoilt = 0;
    loop {
        let paced = server.flood.paced(rate, time, server.by(), timed)?;
        if !server.is_in_kernel() || paced.lost.is_nothing() || spoilt == SPOILT {
            return Ok(paced);
        }
        spoilt += 1;
    }
}

/// The most that a server answers a second.
fn best(server: &mut Server, so_far: &Measured) -> Result<f64> {
    if server.is_in_kernel() {
        let role = server.role;
        let counted = |seen| role.counted(seen);
        return flooded(server.name, counted, || server.flood.run(2 * TIME));
    }
    let before = match so_far.rates.is_empty() {
        true => so_far
            .curve
            .iter()
            .map(|point| point.answered)
            .fold(0.0, f64::max),
        false => so_far.rate(),
    };
    ensure!(before > 0.0, "{} answers nothing", server.name);
    let mut best: f64 = 0.0;
    for share in AROUND {
        best = best.max(offer(server, share * before)?.answered);
    }
    Ok(best)
}

/// Answers a second in a flood, which is repeated where it lost frames: something else ran on this core, and the
/// veth's rings overflowed. `name` is who answers; `counted` says what counts of what came back.
pub fn flooded(
    name: &str,
    counted: impl Fn(Seen) -> u64,
    mut flood: impl FnMut() -> Result<Flow>,
) -> Result<f64> {
    for _ in 0..=SPOILT {
        let flow = first(1, &mut flood)?;
        let counted = counted(flow.seen);
        if flow.lost.is_nothing() && counted == flow.sent {
            return Ok(flow.per_second(counted));
        }
        let lost = flow.lost.there + flow.lost.back;
        ensure!(
            counted + lost >= flow.sent,
            "{name} answered {counted} of {} queries, and {lost} were lost on the way",
            flow.sent
        );
    }
    anyhow::bail!(
        "{name} lost frames in {} floods: the machine is too busy to measure",
        SPOILT + 1
    )
}

/// Half of a load, with times, and how busy it kept the core.
fn half(server: &mut Server, rate: f64) -> Result<(Half, Busy)> {
    let paced = paced(server, rate, HALF_TIME, true)?;
    let quantile = |share| {
        paced
            .times
            .quantile(share)
            .with_context(|| format!("{} answers nothing", server.name))
    };
    let half = Half {
        offered: paced.per_second(paced.sent),
        answered: 100.0 * server.counted(paced.all) as f64 / paced.sent as f64,
        p50: quantile(0.5)?,
        p90: quantile(0.9)?,
        p99: quantile(0.99)?,
        cpu: None,
    };
    Ok((half, Busy::of(&paced)))
}

/// How busy a load kept the core.
#[derive(Clone, Copy)]
struct Busy {
    /// Nanoseconds for each query.
    query: f64,
    /// Share of all the time.
    share: f64,
}

impl Busy {
    fn of(paced: &Paced) -> Self {
        Self {
            query: paced.busy * 1e9 / paced.sent.max(1) as f64,
            share: paced.busy / paced.time.as_secs_f64(),
        }
    }
}

/// Nanoseconds that a query takes more in one load than in another. Where the core had no time left, nobody knows
/// who took it.
fn between(one: Busy, other: Busy) -> Option<f64> {
    let is_known = one.share < ALL && other.share < ALL;
    is_known.then_some(one.query - other.query)
}

/// Nanoseconds of the core that counting takes for each answer of a server in userspace: above what the same load,
/// of those frames that it was asked last, takes where answers are dropped as soon as they arrive.
pub fn counting(server: &mut Server, rate: f64) -> Result<Option<f64>> {
    let by = server.by();
    let mut more = Vec::new();
    for _ in 0..COUNTINGS {
        let counted = busy(&mut server.flood, rate, by)?;
        let dropped = server.flood.without_sink(|flood| busy(flood, rate, by))?;
        more.extend(between(counted, dropped));
    }
    Ok((!more.is_empty()).then(|| quantile(&more, 0.5)))
}

/// How busy a load keeps the core.
fn busy(flood: &mut Flood, rate: f64, by: By) -> Result<Busy> {
    Ok(Busy::of(&flood.paced(rate, HALF_TIME, by, false)?))
}

//! `cargo xtask bench --peers`: ours beside other name servers, all with the same zone and list of prefixes, asked by
//! the same generator; and a report of it. Each server is measured in two ways: one core for all (server, generator and
//! sink share it), and, of those in userspace, with a core to itself.
//!
//! - [`scenarios`]: what they are asked, and what ours must reach; one row each
//! - [`world`]: what they serve, in each one's own form
//! - [`servers`]: starts them, and checks that they answer alike
//! - [`load`]: offers loads, and measures
//! - [`sizes`]: what an answer of ours takes by how much is served
//! - [`report`], [`plot`]: what comes of it

pub mod load;
pub mod plot;
pub mod report;
pub mod scenarios;
pub mod servers;
pub mod sizes;
pub mod world;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use crate::cost;
use crate::cpu::first;
use crate::figure::{Figure, Goal};
use crate::flood::above;
use load::{Half, Measured};
use report::{Place, Report};
use scenarios::{SCENARIOS, Scenario};
use servers::{Counting, Role, Server};
use sizes::Cost;
use world::List;

/// The outcome of a scenario.
pub struct Outcome {
    /// The scenario.
    pub scenario: &'static Scenario,
    /// The figures of each server, in the order of the servers.
    pub measured: Vec<Measured>,
}

/// Measures these scenarios and, if it is said, [`sizes`] (none: all), writes the report (nowhere said: into
/// `target/bench`), and gives what ours must reach.
pub fn run(
    list: &Path,
    rounds: usize,
    wanted: &[String],
    out: Option<&Path>,
) -> Result<Vec<Figure>> {
    let known: Vec<&str> = SCENARIOS.iter().map(|scenario| scenario.id).collect();
    let known = [known, vec![sizes::ID]].concat();
    for word in wanted {
        ensure!(
            known.contains(&word.as_str()),
            "there is no scenario {word:?}: there are {}",
            known.join(", ")
        );
    }
    let is_wanted = |id: &str| wanted.is_empty() || wanted.iter().any(|word| word == id);
    first(2, || Ok(())).context(
        "servers and generator take turns by SCHED_RR, which is not permitted here: run as root with CAP_SYS_NICE \
         (of Docker: `--cap-add SYS_NICE`), outside of groups without `cpu.rt_runtime_us`",
    )?;
    let place = Place::here()?;
    let read = List::read(list)?;
    let costs = measured_costs(&read, rounds, is_wanted(sizes::ID))?;
    let (mut servers, missing) = servers::start(list, &read)?;
    servers::check(&mut servers, &read)?;
    let mut outcomes = Vec::new();
    for scenario in SCENARIOS.iter().filter(|scenario| is_wanted(scenario.id)) {
        eprintln!("bench: peers: {}", scenario.what);
        outcomes.push(Outcome {
            scenario,
            measured: load::measure(&mut servers, scenario, &read, rounds)?,
        });
    }
    count(&mut servers, &outcomes)?;
    let mut figures = vec![cost::putting_back("peers", rounds)?];
    for outcome in &outcomes {
        figures.extend(figures_of(&servers, outcome)?);
    }
    let folder = match out {
        Some(folder) => folder.to_owned(),
        None => default_folder(&place),
    };
    let report = Report {
        place: &place,
        servers: &servers,
        missing: &missing,
        outcomes: &outcomes,
        costs: &costs,
        figures: &figures,
        prefixes: read.len(),
        rounds,
    };
    report.write(&folder)?;
    eprintln!("bench: peers: the report is in {}", folder.display());
    for server in servers {
        server.stop()?;
    }
    Ok(figures)
}

/// Measures the cost of an answer by size, if that is wanted.
fn measured_costs(list: &List, rounds: usize, wanted: bool) -> Result<Vec<Cost>> {
    if !wanted {
        return Ok(Vec::new());
    }
    eprintln!("bench: peers: ours with more and more names and prefixes");
    sizes::measure(list, rounds)
}

/// Measures what counting takes of an answer of each server in userspace, at half of its load in the last scenario
/// that it was asked in: its frames are still there.
fn count(servers: &mut [Server], outcomes: &[Outcome]) -> Result<()> {
    for (at, server) in servers.iter_mut().enumerate() {
        let asked = outcomes.iter().rev();
        let mut asked = asked.filter(|outcome| server.takes_part(outcome.scenario));
        let Some(measured) = asked.next().map(|outcome| &outcome.measured[at]) else {
            continue;
        };
        if !server.is_in_kernel() && !measured.rates.is_empty() {
            let counting = load::counting(server, measured.rate() / 2.0)?;
            let known = counting.zip(measured.cpu());
            server.counting = known.map(|(counting, all)| Counting {
                nanoseconds: counting,
                percent: 100.0 * counting / all,
            });
        }
    }
    Ok(())
}

fn default_folder(place: &Place) -> PathBuf {
    let bench = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/bench");
    bench.join(&place.date)
}

/// The figures of geodns in a scenario, with their goals.
fn figures_of(servers: &[Server], outcome: &Outcome) -> Result<Vec<Figure>> {
    let of = |role: Role| {
        let all = servers.iter().zip(&outcome.measured);
        all.filter(move |(server, _)| server.role == role && server.takes_part(outcome.scenario))
            .map(|(_, measured)| measured)
    };
    let ours = of(Role::Ours).next().context("ours is there")?;
    let reflector = of(Role::Reflector).next().context("a reflector is there")?;
    let peers: Vec<&Measured> = of(Role::Peer)
        .filter(|measured| measured.rates.len() == ours.rates.len())
        .collect();
    let Scenario { what, bars, .. } = outcome.scenario;
    let best = |round: usize| {
        peers
            .iter()
            .map(|peer| peer.rates[round])
            .fold(0.0, f64::max)
    };
    let rounds = || ours.rates.iter().enumerate();
    let to_reflector = rounds().map(|(round, rate)| rate / reflector.rates[round]);
    let above = rounds().map(|(round, rate)| above(*rate, reflector.rates[round]));
    let mut figures = vec![
        Figure::new("peers", *what, "answers/s", ours.rates.clone()),
        Figure::new("peers", *what, "x reflector", to_reflector.collect()),
        with_goal(
            Figure::new("peers", *what, "ns above reflector", above.collect()),
            bars.map(|bars| Goal::Below(bars.above_ns)),
        ),
    ];
    let half = |figure: fn(&Half) -> f64| ours.halves.iter().map(figure).collect();
    figures.push(
        Figure::new(
            "peers",
            format!("{what}: answered at half load"),
            "%",
            half(|half| half.answered),
        )
        .goal(Goal::AtLeast(100.0)),
    );
    figures.push(
        Figure::new(
            "peers",
            format!("{what}: answered at any load below 90 % of the best"),
            "%",
            vec![ours.answered_below(0.9)],
        )
        .goal(Goal::AtLeast(100.0)),
    );
    if peers.is_empty() {
        return Ok(figures);
    }
    let best_alone = |round: usize| {
        let alone = peers.iter().filter_map(|peer| peer.alone.get(round));
        alone.map(|one| one.answered).fold(0.0, f64::max)
    };
    let to_alone = rounds().map(|(round, rate)| rate / best_alone(round));
    figures.push(with_goal(
        Figure::new(
            "peers",
            *what,
            "x best peer with a core to itself",
            to_alone.collect(),
        ),
        bars.map(|bars| Goal::AtLeast(bars.peers)),
    ));
    let to_best = rounds().map(|(round, rate)| rate / best(round));
    figures.push(Figure::new(
        "peers",
        *what,
        "x best peer, one core for all",
        to_best.collect(),
    ));
    let mut latency = |name: &str, of: fn(&Half) -> f64| {
        let least = peers.iter().map(|peer| peer.half(of));
        let least = least.fold(f64::INFINITY, f64::min);
        let what = format!("{what}: latency at half load, {name}");
        figures.push(Figure::new("peers", what, "us", half(of)).goal(Goal::Below(least)));
    };
    latency("median", |half| half.p50);
    latency("99 %", |half| half.p99);
    Ok(figures)
}

fn with_goal(figure: Figure, goal: Option<Goal>) -> Figure {
    match goal {
        Some(goal) => figure.goal(goal),
        None => figure,
    }
}

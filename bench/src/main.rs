//! `cargo xtask bench`: the figures, and whether they reach their goals.
//!
//! - `flood`: answers a second, beside a bare reflector
//! - `abuse`: answers to other clients while one prefix floods
//! - `connections`: answers to other clients while some hold all connections
//! - `cost`: nanoseconds a packet, one question after the other; `stages`: the same, stage by stage
//! - `import`: the real prefix list into the kernel, beside the kernel's own LPM trie
//! - `geography`: the real city databases, and lookups beside the trie's
//! - `edit`: from `map set` to the changed answer, beside a write that is on disk; `flip`: the same for a mirror that
//!   goes and comes back
//! - `names`: zones of many names, and names that do not exist
//! - `slow`: answers a second in userspace, beside NSD
//! - `scrape`: the metrics of many pools and mirrors
//! - `fleet`: an anycast set whose nodes die, hang, drain and stop; `fleet-peers`: other ways to announce one;
//!   `fleet-edits`: edits at one node that are in force on all; `fleet-votes`: a hundred nodes vote on a thousand
//!   mirrors; `fleet-rollout`: bundles over a hundred nodes
//! - `peers`: answers a second, latency and CPU beside every other server, with a report
//! - `verifier`: instructions that the verifier walks for each program
//! - `sender`: a paced load; `cpu`: threads on CPUs; `figure`: figures, goals, and how they are shown
//!
//! Each bench works in network namespaces of its own. It measures geodns and what geodns is compared to in the same
//! round, one after the other, so that the machine's noise hits both. It shows the medians of several rounds.

mod abuse;
mod connections;
mod cost;
mod cpu;
mod edit;
mod figure;
mod fleet;
mod flip;
mod flood;
mod geography;
mod import;
mod names;
mod peers;
mod scrape;
mod sender;
mod slow;
mod stages;
mod verifier;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use geodns_tests::{real_databases, real_prefixes};

use figure::{Figure, Results, table, to_json};

#[derive(Parser)]
#[command(name = "cargo xtask bench", about = "Measure")]
struct Args {
    /// Benches to run [default: all]
    benches: Vec<String>,
    /// Rounds of each
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..))]
    rounds: u16,
    /// Measure other name servers, too, with real data, and write a report; names are scenarios then
    #[arg(long)]
    peers: bool,
    /// Folder for the report [default: target/bench/DATE]
    #[arg(long, value_name = "FOLDER", requires = "peers")]
    out: Option<PathBuf>,
    /// Another build of the program to compare in the bench `flood`, attached without a stub
    #[arg(long, value_name = "OBJECT", conflicts_with = "peers")]
    beside: Option<PathBuf>,
    /// Print the figures as JSON, on standard output
    #[arg(long)]
    json: bool,
}

const NAMES: [&str; 17] = [
    "verifier",
    "cost",
    "stages",
    "flood",
    "abuse",
    "import",
    "geography",
    "set",
    "flip",
    "names",
    "slow",
    "scrape",
    "fleet",
    "fleet-peers",
    "fleet-edits",
    "fleet-votes",
    "fleet-rollout",
];

fn main() -> ExitCode {
    let args = Args::parse();
    match bench(&args) {
        Ok(results) => {
            if args.json {
                println!("{:#}", to_json(&results.figures));
            } else {
                println!("{}", table(&results.figures));
            }
            for failure in &results.failures {
                eprintln!("bench: not measured: {failure}");
            }
            match results.met() {
                true => ExitCode::SUCCESS,
                false => ExitCode::FAILURE,
            }
        }
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn bench(args: &Args) -> Result<Results> {
    ensure!(
        nix::unistd::geteuid().is_root(),
        "network namespaces and XDP need root: run `sudo cargo xtask bench`"
    );
    let wanted = |name: &str| args.benches.is_empty() || args.benches.iter().any(|b| b == name);
    let rounds = usize::from(args.rounds);
    let list: Option<PathBuf> = real_prefixes();
    let list = list.as_deref();
    if list.is_none() {
        eprintln!("bench: no real prefix list: run `cargo xtask data` to measure with it");
    }
    if args.peers {
        let list = list.context("there is no real prefix list: run `cargo xtask data`")?;
        let figures = peers::run(list, rounds, &args.benches, args.out.as_deref())?;
        return Ok(Results {
            figures,
            ..Results::default()
        });
    }
    ensure!(
        args.beside.is_none() || wanted("flood"),
        "--beside is for the bench flood: name it, too"
    );
    for name in &args.benches {
        ensure!(
            NAMES.contains(&name.as_str()),
            "there is no bench {name:?}: there are {}",
            NAMES.join(", ")
        );
    }
    let mut results = Results::default();
    for name in NAMES.into_iter().filter(|name| wanted(name)) {
        match name {
            "fleet" => fleet::events::run(rounds, &mut results),
            "fleet-peers" => fleet::peers::run(rounds, &mut results),
            "fleet-edits" => fleet::edits::run(rounds, &mut results),
            "fleet-votes" => fleet::votes::run(rounds, &mut results),
            "fleet-rollout" => fleet::rollout::run(rounds, &mut results),
            _ => results.take(name, || one(name, list, args)),
        }
    }
    Ok(results)
}

/// A bench whose figures come all together.
fn one(name: &str, list: Option<&Path>, args: &Args) -> Result<Vec<Figure>> {
    let rounds = usize::from(args.rounds);
    Ok(match name {
        "verifier" => verifier::run(list)?,
        "cost" => cost::run(rounds)?,
        "stages" => stages::run(list, rounds)?,
        "flood" => flood::run(list, args.beside.as_deref(), rounds)?,
        "abuse" => [abuse::run(rounds)?, connections::run(rounds)?].concat(),
        "import" => match list {
            Some(list) => import::run(list, rounds)?,
            None => Vec::new(),
        },
        "names" => names::run(rounds)?,
        "flip" => flip::run(list, rounds)?,
        "slow" => slow::run(rounds)?,
        "scrape" => scrape::run(rounds)?,
        "geography" => match real_databases() {
            Some(databases) => geography::run(&databases, rounds)?,
            None => Vec::new(),
        },
        _ => edit::run(list, rounds)?,
    })
}

//! The real city databases, IPv4 and IPv6, and `nearest` over 24 mirrors: how long until the table is in
//! the kernel, on one core, and what it takes there and in the daemon; what a lookup costs, beside the
//! kernel's own LPM trie with the same prefixes; and what `geodns preview` of one mirror more takes.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use geodns::config::Config;
use geodns::plan::Plan;
use geodns::world::Inputs;
use geodns_common::abi::Family;
use geodns_common::tables::{self, Tables};
use geodns_tests::daemon::Daemon;
use geodns_tests::net::Pair;
use geodns_tests::real;
use geodns_tests::rig::{DRAWS, Responder, Rig};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;

use crate::figure::{Figure, Goal, quantile};

/// Runs of a program, each of [`DRAWS`] lookups.
const RUNS: u32 = 50_000;
/// How long a daemon may go on giving memory back after its start.
const SETTLE: Duration = Duration::from_secs(3);

/// Compiles and loads as a daemon does it, starts one, and looks addresses up.
pub fn run(databases: &[PathBuf], rounds: usize) -> Result<Vec<Figure>> {
    let mut figures: Vec<Figure> = [
        ("databases read", "s"),
        ("steered and compiled", "s"),
        ("in the kernel", "s"),
        ("start to end, one core", "s"),
        ("kernel memory", "MB"),
        ("daemon: peak", "MB"),
        ("daemon: at rest", "MB"),
        ("lookup", "ns"),
        ("LPM trie: lookup", "ns"),
        ("lookups", "x LPM trie"),
        ("preview of one mirror more: compile", "s"),
        ("preview of one mirror more: compare", "s"),
        ("preview of one mirror more: daemon's peak", "MB"),
    ]
    .into_iter()
    .map(|(what, unit)| Figure::new("geography", what, unit, Vec::new()))
    .collect();
    for (figure, goal) in [
        (3, Goal::Below(6.0)),
        (4, Goal::Below(128.0)),
        (5, Goal::Below(1200.0)),
        (6, Goal::Below(300.0)),
        (9, Goal::AtLeast(6.0)),
        (11, Goal::Below(3.0)),
        (12, Goal::Below(1200.0)),
    ] {
        figures[figure].goal = Some(goal);
    }
    for _ in 0..rounds {
        // A thread of its own, which alone is pinned.
        let one_core = std::thread::scope(|scope| {
            let round = scope.spawn(|| pinned(databases));
            round.join().expect("no panic")
        })?;
        let daemon = daemon(databases)?;
        let values = one_core.into_iter().chain(daemon);
        let places = [0, 1, 2, 3, 4, 7, 8, 9, 5, 6, 10, 11, 12];
        for (figure, value) in places.into_iter().zip(values) {
            figures[figure].rounds.push(value);
        }
    }
    Ok(figures)
}

/// Measures on one core: seconds to read, to compile, to load, in all; bytes in the kernel; nanoseconds of a lookup, of
/// one in the trie, and their ratio.
fn pinned(databases: &[PathBuf]) -> Result<Vec<f64>> {
    let mut core = CpuSet::new();
    core.set(0)?;
    sched_setaffinity(Pid::from_raw(0), &core)?;

    let folder = real::geographic(databases)?;
    let start = Instant::now();
    let inputs = Inputs::of(Config::load(&folder.path().join("geodns.toml"))?)?;
    let read = start.elapsed().as_secs_f64();
    let start = Instant::now();
    let world = inputs.compile(&inputs.layers(), 1, [1, 2])?;
    let compiled = start.elapsed().as_secs_f64();
    let plan = world.plan.read().expect("not poisoned");
    let start = Instant::now();
    let responder = Responder::load(&*plan, plan.capacity())?;
    let loaded = start.elapsed().as_secs_f64();
    let memory = responder.instance.memory() as f64 / 1e6;
    drop(responder);
    let (table, trie) = lookups(&plan)?;
    let all = read + compiled + loaded;
    Ok(vec![
        read,
        compiled,
        loaded,
        all,
        memory,
        table,
        trie,
        trie / table,
    ])
}

/// Nanoseconds of a lookup of a random IPv4 address in the table, and in a trie of its leaves.
fn lookups(plan: &Plan) -> Result<(f64, f64)> {
    let leaves = leaves(plan)?;
    let atlas = plan.pool(0).context("a pool")?.atlas.load() as usize;
    let roots = &plan.roots()[atlas * 512..][..512];
    let mut rig = Rig::with_tables(roots, plan.blocks(), &leaves)?;
    let idle = rig.draw("draw", RUNS)?.1;
    let (mut table, mut trie) = (Vec::new(), Vec::new());
    // In turns: a machine's noise hits both.
    for _ in 0..3 {
        let (table_found, table_ns) = rig.draw("draw_table", RUNS)?;
        let (trie_found, trie_ns) = rig.draw("draw_trie", RUNS)?;
        ensure!(table_found == trie_found, "they do not say the same");
        table.push((table_ns - idle) / f64::from(DRAWS));
        trie.push((trie_ns - idle) / f64::from(DRAWS));
    }
    let median = |values: &[f64]| quantile(values, 0.5);
    Ok((median(&table), median(&trie)))
}

/// The prefixes of the IPv4 table that are one region each, as large as can be, and their regions.
fn leaves(plan: &Plan) -> Result<Vec<(Ipv4Addr, u8, u32)>> {
    let atlas = plan.pool(0).context("a pool")?.atlas.load() as u32;
    let mut leaves = Vec::new();
    let mut next = Some(0_u32);
    while let Some(first) = next {
        let mut key = [0; 16];
        key[..4].copy_from_slice(&first.to_be_bytes());
        let entry =
            tables::find_entry(plan, atlas, Family::V4, &key).context("IPv4 is all there")?;
        leaves.push((first.into(), entry.scope(), entry.region()));
        let last = first | u32::MAX.checked_shr(entry.scope().into()).unwrap_or(0);
        next = last.checked_add(1);
    }
    Ok(leaves)
}

/// Measures a daemon: megabytes at its peak and at rest; seconds that a preview compiles and compares, and megabytes at
/// the peak of that.
fn daemon(databases: &[PathBuf]) -> Result<[f64; 5]> {
    let pair = Pair::new(&[])?;
    let setup = real::geographic_setup("192.0.2.53", databases);
    let mut daemon = Daemon::start(&pair.server, &setup)?;
    std::thread::sleep(SETTLE);
    let pid = daemon.pid().context("it runs")?;
    let megabytes = |key: &str| -> Result<f64> {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
        let line = status.lines().find_map(|line| line.strip_prefix(key));
        let kib = line.and_then(|rest| rest.trim().strip_suffix(" kB"));
        Ok(kib.with_context(|| format!("no {key}"))?.parse::<f64>()? * 1024.0 / 1e6)
    };
    let (peak, rest) = (megabytes("VmHWM:")?, megabytes("VmRSS:")?);
    let path = daemon.home.folder.path().join("new.toml");
    let config = std::fs::read_to_string(daemon.home.config())?;
    std::fs::write(&path, one_more(&config)?)?;
    let preview = daemon.json_exits(&format!("preview {}", path.display()), &[0, 4])?;
    let moves = preview["names"][0]["moves"].as_array().context("moves")?;
    let taken = moves
        .iter()
        .filter(|one| one["to"] == "vie" && one["from"] != "vie")
        .filter_map(|one| one["v4"].as_f64());
    let taken: f64 = taken.sum();
    ensure!(taken > 0.001, "the mirror takes nothing: {preview}");
    let seconds = |key: &str| -> Result<f64> {
        let ms = preview[key].as_f64();
        Ok(ms.with_context(|| format!("no {key}"))? / 1e3)
    };
    let figures = [
        peak,
        rest,
        seconds("compile_ms")?,
        seconds("compare_ms")?,
        megabytes("VmHWM:")?,
    ];
    daemon.stop()?;
    Ok(figures)
}

/// The configuration with a mirror in Vienna too.
fn one_more(config: &str) -> Result<String> {
    let (head, pool) = config.split_once("[[pool]]").context("no pool")?;
    let pool = pool.replacen("mirrors = [", "mirrors = [\"vie\", ", 1);
    Ok(format!(
        "{head}[[mirror]]\nid = \"vie\"\naddresses = [\"192.0.2.200\", \"2001:db8::200\"]\n\
         location = {{ lat = 48.21, lon = 16.37 }}\n[[pool]]{pool}"
    ))
}

//! `map import` of the real prefix list: how long until it is in the kernel, and what it takes there;
//! beside the kernel's own LPM trie, filled with the same prefixes.

use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use aya::maps::lpm_trie::Key;
use aya::maps::{LpmTrie, MapData};
use geodns_tests::built::rig_object;
use geodns_tests::daemon::Daemon;
use geodns_tests::net::Pair;
use geodns_tests::real;
use ipnet::IpNet;

use crate::figure::{Figure, Goal};

/// Imports into a daemon of its own each round.
pub fn run(list: &Path, rounds: usize) -> Result<Vec<Figure>> {
    let text = std::fs::read_to_string(list)?;
    let prefixes: Vec<(IpNet, &str)> = text
        .lines()
        .filter_map(|line| {
            let (prefix, mirror) = line.split_once(',')?;
            Some((prefix.parse().ok()?, mirror))
        })
        .collect();
    let mut figures: Vec<Figure> = [
        ("parse", "s"),
        ("compile", "s"),
        ("on disk (redb)", "s"),
        ("in the kernel", "s"),
        ("parsed, compiled, in the kernel", "s"),
        ("`geodns map import`, start to end", "s"),
        ("kernel memory", "MB"),
        ("LPM trie: fill", "s"),
        ("LPM trie: kernel memory", "MB"),
        ("kernel memory", "x LPM trie"),
    ]
    .into_iter()
    .map(|(what, unit)| Figure::new("import", what, unit, Vec::new()))
    .collect();
    figures[4].goal = Some(Goal::Below(2.0));
    figures[6].goal = Some(Goal::Below(48.0));

    let pair = Pair::new(&[])?;
    for _ in 0..rounds {
        let mut daemon = Daemon::start(&pair.server, &real::setup("192.0.2.53"))?;
        let start = Instant::now();
        let done = daemon.json(&format!("map import {}", list.display()))?;
        let wall = start.elapsed().as_secs_f64();
        ensure!(
            done["prefixes"]["www"] == prefixes.len(),
            "not all were imported: {done}"
        );
        let seconds = |key: &str| -> Result<f64> {
            Ok(done[key].as_f64().with_context(|| format!("no {key}"))? / 1e3)
        };
        let (parse, compile) = (seconds("parse_ms")?, seconds("compile_ms")?);
        let publish = seconds("publish_ms")?;
        let memory = done["kernel_memory_bytes"].as_f64().context("no memory")? / 1e6;
        daemon.stop()?;

        let (fill, trie) = lpm_trie(&prefixes)?;
        for (figure, value) in figures.iter_mut().zip([
            parse,
            compile,
            seconds("store_ms")?,
            publish,
            parse + compile + publish,
            wall,
            memory,
            fill,
            trie / 1e6,
            memory * 1e6 / trie,
        ]) {
            figure.rounds.push(value);
        }
    }
    Ok(figures)
}

/// Seconds to fill a trie with the prefixes, and its bytes.
fn lpm_trie(prefixes: &[(IpNet, &str)]) -> Result<(f64, f64)> {
    let mut ebpf = aya::EbpfLoader::new()
        .map_max_entries("TRIE", u32::try_from(prefixes.len())?)
        .load(&rig_object()?)?;
    let map = ebpf.map_mut("TRIE").context("the rig has no map TRIE")?;
    let mut trie: LpmTrie<&mut MapData, u32, u32> = LpmTrie::try_from(map)?;
    let before = slab()?;
    let start = Instant::now();
    for (prefix, mirror) in prefixes {
        let IpNet::V4(prefix) = prefix else { continue };
        let key = Key::new(prefix.prefix_len().into(), prefix.addr().to_bits().to_be());
        let number = real::MIRRORS.iter().position(|(id, _)| id == mirror);
        trie.insert(
            &key,
            u32::try_from(number.context("an unknown mirror")?)?,
            0,
        )?;
    }
    let fill = start.elapsed().as_secs_f64();
    // A trie's own count leaves out its inner nodes and what the allocator rounds up.
    Ok((fill, slab()? - before))
}

/// Bytes in the kernel's slabs.
fn slab() -> Result<f64> {
    let text = std::fs::read_to_string("/proc/meminfo")?;
    let line = text.lines().find_map(|line| line.strip_prefix("Slab:"));
    let kib = line.and_then(|rest| rest.trim().strip_suffix(" kB"));
    Ok(1024.0
        * kib
            .context("no Slab in /proc/meminfo")?
            .trim()
            .parse::<f64>()?)
}

//! Memory: what `geodns check` says of the kernel's, and what the daemon gives back of its own.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use geodns::kernel::memory;
use geodns_common::tables::Tables;
use geodns_tests::daemon::{Daemon, Home, Setup};
use geodns_tests::needs_root;
use geodns_tests::net::{Pair, Pins, Space};
use geodns_tests::real;
use geodns_tests::rig::Responder;

/// The difference of two numbers, in percent of the larger.
fn apart(one: u64, other: u64) -> f64 {
    let (smaller, larger) = (one.min(other), one.max(other));
    100.0 * (larger - smaller) as f64 / larger.max(1) as f64
}

#[test]
fn every_map_takes_what_is_worked_out_for_it() -> Result<()> {
    needs_root!();
    for world in [real::compiled(None)?, real::limited()?] {
        let plan = world.plan.read().expect("not poisoned");
        let responder = Responder::load(&*plan, plan.capacity())?;
        let taken: BTreeMap<&str, u64> = responder.instance.memory_by_map().collect();
        let exempt = plan.exempt().len();
        let expected: BTreeMap<&str, u64> =
            memory::by_map(&plan.capacity(), plan.settings(), exempt).collect();
        let names =
            |of: &BTreeMap<&str, u64>| of.keys().map(ToString::to_string).collect::<Vec<_>>();
        ensure!(names(&taken) == names(&expected), "{taken:?}\n{expected:?}");
        for (name, taken) in taken {
            let expected = expected[name];
            // Kernels count the head of a map differently, and tries by what is in them.
            let is_close = taken.abs_diff(expected) <= 3 * 4096 || apart(taken, expected) < 3.0;
            ensure!(is_close, "{name} takes {taken} octets, not {expected}");
        }
    }
    Ok(())
}

#[test]
fn check_says_what_a_start_takes() -> Result<()> {
    needs_root!();
    let pair = Pair::new(&[])?;
    let small = Setup::example(&["192.0.2.53"]);
    let mut limited = small.clone();
    limited
        .body
        .push_str("[rrl]\nrate = 100\nallow = [\"192.0.2.0/24\", \"2001:db8::/32\"]\n");
    let hosts: String = (0..50_000)
        .map(|number| format!("host{number} IN TXT \"some text of host {number}\"\n"))
        .collect();
    let zone = format!("{}{hosts}", geodns_tests::daemon::EXAMPLE_ZONE);
    let large = small.clone().file("example.org.zone", &zone);
    let mut weighted = small.clone();
    weighted.body = weighted
        .body
        .replace("policy = \"table\"", "policy = \"weighted\"")
        .replace("default = \"ams\"\nprefixes = \"world.csv\"\n", "");
    for (what, setup) in [
        ("small", small),
        ("limited", limited),
        ("large", large),
        ("weighted", weighted),
    ] {
        let mut daemon = Daemon::start(&pair.server, &setup)?;
        let said = daemon.json(&format!("check {}", daemon.home.config().display()))?;
        let said = said["kernel_memory_bytes"].as_u64().context("no figure")?;
        let status = daemon.json("status")?;
        let taken = status["kernel_memory_bytes"]
            .as_u64()
            .context("no figure")?;
        println!("{what}: check says {said}, {taken} are taken");
        ensure!(apart(said, taken) < 3.0, "{what}: {said} beside {taken}");
        daemon.stop()?;
    }
    Ok(())
}

/// Octets that a process has in memory.
fn resident(daemon: &Daemon) -> Result<u64> {
    let pid = daemon.pid().context("not running")?;
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB"));
    Ok(kib.context("no VmRSS")?.parse::<u64>()? * 1024)
}

#[test]
fn what_a_replaced_plan_held_is_given_back() -> Result<()> {
    const OVERRIDES: u32 = 30_000;
    const RELOADS: u32 = 20;
    needs_root!();
    let space = Space::new("memory")?;
    let setup = Setup::example(&["127.0.0.1"]).mode("off");
    // In memory: every edit is synced.
    let home = Home {
        folder: tempfile::Builder::new()
            .prefix("geodns-")
            .tempdir_in(Path::new("/dev/shm"))?,
        pins: Pins::new()?,
    };
    home.write(&setup)?;
    let mut daemon = Daemon::start_at(&space, home, &setup)?;
    let empty = resident(&daemon)?;
    let mirrors = ["ams", "iad", "sin"];
    for number in 0..OVERRIDES {
        // Neighbours are of different mirrors, so that each is a leaf of its own.
        let [a, b, c, _] = (0x1400_0000 + (number << 8)).to_be_bytes();
        let body = format!(
            r#"{{"prefix": "{a}.{b}.{c}.0/24", "mirror": "{}"}}"#,
            mirrors[number as usize % 3]
        );
        let (code, said) = daemon.request("PUT", "/v1/map", &body)?;
        ensure!(code == 200, "{said}");
        if number % (OVERRIDES / RELOADS) == 0 {
            daemon.ok("reload")?;
        }
    }
    // What the tables tidy, they tidy in the pauses.
    std::thread::sleep(Duration::from_secs(3));
    let used = resident(&daemon)?;
    daemon.ok("reload")?;
    std::thread::sleep(Duration::from_secs(2));
    let reloaded = resident(&daemon)?;
    daemon.stop()?;
    daemon.again(&space, &setup)?;
    std::thread::sleep(Duration::from_secs(2));
    let fresh = resident(&daemon)?;
    println!(
        "{empty} octets at first, {used} after {OVERRIDES} overrides, {reloaded} after a reload, {fresh} after a start"
    );
    ensure!(
        reloaded as f64 <= 1.5 * fresh as f64,
        "{reloaded} octets after {OVERRIDES} overrides and {RELOADS} reloads, {fresh} after a start"
    );
    daemon.stop()
}

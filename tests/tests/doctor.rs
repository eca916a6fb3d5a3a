//! `geodns doctor` on real interfaces: what it finds, and that it changes nothing.

use std::process::Output;

use anyhow::{Context, Result, ensure};
use geodns_tests::built::binary;
use geodns_tests::daemon::{Daemon, Setup};
use geodns_tests::needs_root;
use geodns_tests::net::{Pair, Space};
use serde_json::Value;

/// Runs it in a namespace.
fn doctor(space: &Space, arguments: &[&str]) -> Result<Output> {
    let mut command = space.command(binary()?);
    command.arg("doctor").args(arguments);
    Ok(command.output()?)
}

/// Runs it for these interfaces; its exit code, and all findings of the first one with their levels.
fn findings(space: &Space, arguments: &[&str]) -> Result<(i32, Vec<String>)> {
    let done = doctor(space, &[&["--json"], arguments].concat())?;
    let text = String::from_utf8(done.stdout)?;
    let report: Value = serde_json::from_str(&text)
        .with_context(|| format!("{text}{}", String::from_utf8_lossy(&done.stderr)))?;
    let found = report["interfaces"][0]["findings"].as_array();
    let line = |of: &Value| {
        let text = |key: &str| of[key].as_str().unwrap_or_default().to_owned();
        format!("{} {}: {}", text("level"), text("text"), text("command"))
    };
    let found = found.with_context(|| text.clone())?.iter().map(line);
    Ok((done.status.code().context("it ends")?, found.collect()))
}

#[test]
fn interfaces_are_examined_and_left_alone() -> Result<()> {
    needs_root!();
    let pair = Pair::new(&[])?;
    pair.server.ip_batch(
        "link add br0 type bridge
         link add port0 type veth peer name port1
         link set port0 master br0",
    )?;
    for (interface, code, says) in [
        ("eth0", 0, "note native answers of a veth arrive only if"),
        (
            "lo",
            1,
            "problem no query from the network comes in by loopback",
        ),
        (
            "br0",
            0,
            "note br0 is a bridge: name its ports (port0) instead",
        ),
        ("none0", 1, "problem no such interface; there are"),
    ] {
        let (ended, found) = findings(&pair.server, &["--iface", interface])?;
        ensure!(ended == code, "{interface}: {ended}: {found:?}");
        let has_it = found.iter().any(|line| line.starts_with(says));
        ensure!(has_it, "{interface}: {found:?}");
    }
    // For people. Two interfaces of which one is in vain.
    let done = doctor(&pair.server, &["--iface", "br0", "--iface", "port0"])?;
    let text = String::from_utf8(done.stdout)?;
    ensure!(
        text.starts_with("this machine\n  ok       Linux "),
        "{text}"
    );
    ensure!(text.contains("leave br0 out"), "{text}");
    // Wrong usage.
    ensure!(doctor(&pair.server, &["--nonsense"])?.status.code() == Some(2));
    ensure!(!pair.server.ip("link show")?.contains("xdp"));
    Ok(())
}

/// Somebody else's program is a problem, and is named; a daemon's own is a note.
#[test]
fn a_program_that_is_there_already_is_named() -> Result<()> {
    needs_root!();
    let pair = Pair::new(&[])?;
    // The client's end has one, whose link this process holds.
    let (code, found) = findings(&pair.client, &["--iface", "eth0"])?;
    let process = format!("process {} (", std::process::id());
    let names =
        |line: &String| line.starts_with("problem an XDP program (id ") && line.contains(&process);
    ensure!(code == 1 && found.iter().any(names), "{found:?}");
    let mut daemon = Daemon::start(&pair.server, &Setup::example(&[]))?;
    let (code, found) = findings(&pair.server, &["--iface", "eth0"])?;
    let is_ours =
        |line: &String| line.starts_with("note an XDP program (id ") && line.contains("geodns");
    ensure!(code == 0 && found.iter().any(is_ours), "{found:?}");
    daemon.stop()
}

#[test]
fn a_trial_attaches_and_takes_off() -> Result<()> {
    needs_root!();
    let pair = Pair::bare(&[])?;
    let done = doctor(&pair.server, &["--iface", "eth0", "--try"])?;
    let says = String::from_utf8(done.stderr)?;
    ensure!(
        says.contains("eth0: attaching the program for 2 s"),
        "{says}"
    );
    let text = String::from_utf8(done.stdout)?;
    ensure!(text.contains("native mode works"), "{text}");
    ensure!(!pair.server.ip("link show")?.contains("xdp"));
    Ok(())
}

/// Whoever may not load programs learns that not everything could be seen.
#[test]
fn without_capabilities_it_says_what_it_could_not_see() -> Result<()> {
    needs_root!();
    let pair = Pair::bare(&[])?;
    let mut command = pair.server.command("setpriv");
    command.arg("--bounding-set=-all").arg(binary()?);
    let done = command.args(["doctor", "--iface", "eth0"]).output()?;
    let text = String::from_utf8(done.stdout)?;
    ensure!(done.status.code() == Some(1), "{text}");
    ensure!(
        text.contains("this process lacks CAP_BPF, CAP_NET_ADMIN, CAP_PERFMON"),
        "{text}"
    );
    ensure!(text.contains("eth0 (veth)"), "{text}");
    Ok(())
}

//! A program that is attached and does not see queries is noticed, and nothing else is taken for that.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use aya::programs::links::{FdLink, PinnedLink};
use aya::programs::xdp::XdpLink;
use geodns::kernel::pins;
use geodns_tests::daemon::{Daemon, Setup};
use geodns_tests::dns::{self, A, ANY, Query};
use geodns_tests::net::{Pair, Space, at, ip};
use geodns_tests::rig::Rig;
use geodns_tests::{needs_root, until};
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(10);
/// Queries at once: more than those that do not matter, in each look.
const MANY: usize = 30;

/// Asks many times for what the slow path answers.
fn ask(space: &Space, from: &str, server: &str) -> Result<()> {
    let socket = space.udp(ip(from), at(server, 53)?)?;
    let query = Query::new("www.example.org", ANY).bytes();
    for _ in 0..MANY {
        dns::ask(&socket, &query, PATIENCE)?.context("no answer")?;
    }
    Ok(())
}

/// Asks until the log says something.
fn ask_until(daemon: &Daemon, text: &str, ask: impl Fn() -> Result<()>) -> Result<()> {
    until(text, || {
        ask()?;
        std::thread::sleep(Duration::from_millis(500));
        Ok(daemon.log().contains(text))
    })
}

/// The counters of the only interface.
fn interface(daemon: &Daemon) -> Result<Value> {
    let stats = daemon.json("stats")?;
    Ok(stats["interfaces"][0].clone())
}

#[test]
fn frames_for_a_mac_address_that_the_program_does_not_know_are_noticed() -> Result<()> {
    needs_root!();
    let pair = Pair::new(&[])?;
    let mut daemon = Daemon::start(&pair.server, &Setup::example(&[]))?;
    let asked = || ask(&pair.client, "192.0.2.1", "192.0.2.53");
    // Several looks: of queries that are passed, and of this host's own clients, whose queries over IPv6 seem to come
    // by the card.
    for _ in 0..25 {
        asked()?;
        ask(&pair.server, "2001:db8::53", "2001:db8::53")?;
        ask(&pair.server, "2001:db8::54", "2001:db8::53")?;
        std::thread::sleep(Duration::from_secs(1));
    }
    let line = daemon.ok("status --check")?;
    ensure!(line.starts_with("OK: eth0 ("), "{line}");
    let of = interface(&daemon)?;
    ensure!(
        of["blind"] == false && of["interfaces"][0] == "eth0",
        "{of}"
    );
    let passed = of["kernel"]["passed"].as_u64().context("no counter")?;
    let expected = 25 * MANY as u64;
    ensure!(
        passed >= expected && of["slow"].as_u64() == Some(passed),
        "{of}"
    );

    // As for a cluster that has a MAC address of many.
    pair.client
        .ip("neighbour replace 192.0.2.53 lladdr ff:ff:ff:ff:ff:ff dev eth0 nud permanent")?;
    ask_until(&daemon, "the program does not see queries", asked)?;
    ensure!(interface(&daemon)?["blind"] == true);
    let status = daemon.json("status")?;
    ensure!(status["blind"][0]["cause"] == "other_mac", "{status}");
    let line = daemon.exits("status --check", &[1])?;
    ensure!(
        line.starts_with("WARNING: eth0: the program does not see"),
        "{line}"
    );
    ensure!(daemon.ok("status")?.contains("blind"));
    ensure!(daemon.ok("stats")?.contains("blind: see geodns status"));

    pair.client.ip("neighbour flush dev eth0 nud permanent")?;
    ask_until(&daemon, "sees its queries again", asked)?;
    ensure!(daemon.ok("status --check")?.starts_with("OK: "));
    let told = daemon.log().matches("does not see queries").count();
    ensure!(told == 1, "{}", daemon.log());
    daemon.stop()
}

#[test]
fn a_program_that_is_not_run_is_noticed() -> Result<()> {
    needs_root!();
    let pair = Pair::new(&[])?;
    let mut daemon = Daemon::start(&pair.server, &Setup::example(&[]))?;
    // Another one comes into the link: as with a driver that takes ours and does not run it, queries reach the slow
    // path, and no counter grows.
    let link = pins::home(daemon.home.pins.path()).join("links/eth0");
    let link = FdLink::from(PinnedLink::from_pin(&link)?);
    let mut rig = Rig::load()?;
    rig.program("pass")?
        .attach_to_link(XdpLink::try_from(link)?)?;
    ask_until(&daemon, "its driver does not run the program", || {
        ask(&pair.client, "192.0.2.1", "192.0.2.53")
    })?;
    let line = daemon.exits("status --check", &[1])?;
    ensure!(line.contains("ip link set dev eth0 mtu"), "{line}");
    // The daemon attaches its own anew.
    daemon.logged("eth0: attaching the program anew")?;
    until("the program answers", || {
        let before = daemon.counters()?["answered"];
        pair.ask("192.0.2.1", "192.0.2.53", &Query::new("www.example.org", A))?;
        Ok(daemon.counters()?["answered"] > before)
    })?;
    daemon.stop()
}

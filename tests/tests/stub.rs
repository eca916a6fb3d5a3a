//! The stub that is attached: plans change under it on all interfaces at once, it outlives the daemon, and
//! `geodns detach` takes it off. `kernel.next` gets what is passed.

use std::net::UdpSocket;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use geodns_tests::built::binary;
use geodns_tests::daemon::Daemon;
use geodns_tests::dns::{self, A, Query};
use geodns_tests::net::{Pair, at, ip, output, unique};
use geodns_tests::two_cards::{
    OTHER, PATIENCE, Pinned, SERVER, ask, attached, is_answered, lose_none_during, pair, setup,
    socket,
};
use geodns_tests::{needs_root, until};
use nix::sys::signal::Signal;

/// Queries reach a socket of the network stack.
fn is_passed(pair: &Pair, server: &str) -> Result<()> {
    let listener = pair.server.enter(|| {
        let listener = UdpSocket::bind(at(server, 53)?)?;
        listener.set_read_timeout(Some(PATIENCE))?;
        Ok(listener)
    })?;
    let query = Query::new("www.example.org", A).bytes();
    socket(pair, server, 53)?.send(&query)?;
    let mut got = [0; 512];
    let len = listener.recv(&mut got).context("it was not passed")?;
    ensure!(got[..len] == query);
    Ok(())
}

/// Runs a command that needs no daemon.
fn run(pair: &Pair, arguments: &[&str]) -> Result<(bool, String)> {
    let mut command = pair.server.command(binary()?);
    let done = output(command.args(arguments))?;
    let said = [done.stdout, done.stderr].concat();
    Ok((done.status.success(), String::from_utf8(said)?))
}

// Invariant 6
#[test]
fn reloads_under_queries_on_two_interfaces_lose_none_and_change_no_interface() -> Result<()> {
    needs_root!();
    let pair = pair("pass")?;
    let mut daemon = Daemon::start(&pair.server, &setup("detach"))?;
    let before = attached(&pair)?;
    ensure!(before.len() == 2, "{before:?}");
    lose_none_during(5, &pair, &daemon)?;
    ensure!(attached(&pair)? == before, "the interfaces were touched");
    is_answered(&pair, &daemon)?;
    daemon.stop()?;
    ensure!(attached(&pair)?.is_empty());
    Ok(())
}

#[test]
fn a_stop_leaves_the_stub_which_passes_everything_and_the_next_start_takes_it_over() -> Result<()> {
    needs_root!();
    let pair = pair("pass")?;
    let setup = setup("stub");
    let mut daemon = Daemon::start(&pair.server, &setup)?;
    is_answered(&pair, &daemon)?;
    let before = attached(&pair)?;
    for turn in 0..3 {
        match turn {
            1 => daemon.crash()?,
            _ => daemon.stop()?,
        }
        let now = attached(&pair)?;
        ensure!(now == before, "turn {turn}: {before:?} and {now:?}");
        match turn {
            // It goes on answering.
            1 => ask(&socket(&pair, SERVER, 53)?)?,
            _ => {
                is_passed(&pair, SERVER)?;
                is_passed(&pair, OTHER)?;
            }
        }
        let started = Instant::now();
        daemon.again(&pair.server, &setup)?;
        ensure!(attached(&pair)? == before, "turn {turn}");
        is_answered(&pair, &daemon)?;
        println!(
            "turn {turn}: answered {:?} after the start",
            started.elapsed()
        );
    }
    // An interface that is not configured any more does not keep it.
    let mut one = setup.clone();
    one.interfaces = vec!["eth0".into()];
    daemon.stop()?;
    daemon.home.write(&one)?;
    daemon.again(&pair.server, &one)?;
    ensure!(attached(&pair)? == before[..1]);
    // A stop at a terminal leaves nothing.
    let status = daemon.end(Signal::SIGINT)?;
    ensure!(status.success() && attached(&pair)?.is_empty());
    ensure!(daemon.home.pins.list().is_empty());
    Ok(())
}

#[test]
fn detach_takes_off_what_a_stopped_daemon_has_left() -> Result<()> {
    needs_root!();
    let pair = pair("pass")?;
    for on_stop in ["stub", "keep"] {
        let rxvlan = |on: &str| -> Result<bool> {
            let shown = output(pair.server.command("ethtool").args(["-k", "eth0"]))?.stdout;
            Ok(String::from_utf8(shown)?.contains(&format!("rx-vlan-offload: {on}")))
        };
        output(
            pair.server
                .command("ethtool")
                .args(["-K", "eth0", "rxvlan", "on"]),
        )?;
        ensure!(rxvlan("on")?);
        let setup = setup(on_stop);
        let mut daemon = Daemon::start(&pair.server, &setup)?;
        ensure!(rxvlan("off")?);
        let config = daemon.home.config().display().to_string();
        let pins = daemon.home.pins.path().display().to_string();
        let detach = ["detach", "--config", &config];
        let (done, said) = run(&pair, &detach)?;
        let running =
            format!("a geodns that runs with kernel.pin = {pins:?} uses what is attached");
        ensure!(!done && said.contains(&running), "{said}");
        ensure!(said.lines().count() == 1, "{said}");
        is_answered(&pair, &daemon)?;
        daemon.stop()?;
        ensure!(attached(&pair)?.len() == 2);

        let (done, said) = run(&pair, &detach)?;
        ensure!(done, "{said}");
        let expected = "eth0: detached, and rxvlan turned on again\neth1: detached\n";
        let mut lines: Vec<&str> = said.lines().collect();
        lines.sort_unstable();
        ensure!(lines == expected.lines().collect::<Vec<_>>(), "{said}");
        ensure!(attached(&pair)?.is_empty() && rxvlan("on")?);
        ensure!(daemon.home.pins.list().is_empty());

        let (done, said) = run(&pair, &["detach", "--pin", &pins])?;
        ensure!(
            done && said == format!("{pins}: nothing was left attached\n"),
            "{said}"
        );
        let (_, said) = run(&pair, &["detach", "--pin", &pins, "--json"])?;
        ensure!(said == "[]\n", "{said}");
    }
    Ok(())
}

#[test]
fn a_stub_whose_pins_somebody_removed_is_pinned_again_and_answers() -> Result<()> {
    needs_root!();
    let pair = pair("pass")?;
    let setup = setup("stub");
    let mut daemon = Daemon::start(&pair.server, &setup)?;
    let before = attached(&pair)?;
    std::fs::remove_dir_all(daemon.home.pins.path())?;
    daemon.ok("reload")?;
    is_answered(&pair, &daemon)?;
    // A change of an interface has the daemon look.
    pair.server.ip("address add 192.0.2.99/24 dev eth0")?;
    until("what was removed is pinned again", || {
        Ok(daemon.log().contains("somebody has removed"))
    })?;
    daemon.crash()?;
    ensure!(attached(&pair)? == before);
    ask(&socket(&pair, OTHER, 53)?)?;
    daemon.again(&pair.server, &setup)?;
    ensure!(attached(&pair)? == before);
    is_answered(&pair, &daemon)?;
    daemon.stop()
}

/// Sends a message to a port of the server, and gives what comes back.
fn sent(pair: &Pair, port: u16, message: &[u8]) -> Result<Vec<u8>> {
    let socket = pair.client.udp(ip("192.0.2.1"), at(SERVER, port)?)?;
    dns::ask(&socket, message, PATIENCE)?.context("nothing came back")
}

// Invariant 2
#[test]
fn the_next_program_gets_what_is_passed_as_it_came_and_nothing_else() -> Result<()> {
    needs_root!();
    let pair = pair("pass")?;
    let next = Pinned::new("reflect")?;
    let mut setup = setup("stub");
    setup.kernel = format!("next = {:?}\n", next.0);
    let mut daemon = Daemon::start(&pair.server, &setup)?;
    let query = Query::new("www.example.org", A).bytes();
    for turn in 0..2 {
        is_answered(&pair, &daemon)?;
        // It is for another port, so geodns passes it.
        ensure!(sent(&pair, 5353, &query)? == query, "turn {turn}");
        // What geodns drops is not passed: of a response and a query, only the query comes back.
        let socket = pair.client.udp(ip("192.0.2.1"), at(SERVER, 53)?)?;
        let mut response = query.clone();
        response[2] |= 0x80;
        socket.send(&response)?;
        let other = Query::new("www.example.com", A).bytes();
        ensure!(
            dns::ask(&socket, &other, PATIENCE)?.as_deref() == Some(&other[..]),
            "turn {turn}"
        );
        // Another instance has it too.
        daemon.ok("reload")?;
    }
    daemon.stop()?;
    // Without an instance it gets all.
    ensure!(sent(&pair, 53, &query)? == query);
    setup.kernel.clear();
    daemon.home.write(&setup)?;
    daemon.again(&pair.server, &setup)?;
    is_answered(&pair, &daemon)?;
    daemon.stop()?;
    is_passed(&pair, SERVER)
}

#[test]
fn a_reload_takes_another_next_program_and_keeps_the_one_before_on_a_bad_path() -> Result<()> {
    needs_root!();
    let pair = pair("pass")?;
    let next = Pinned::new("reflect")?;
    let mut setup = setup("detach");
    let mut daemon = Daemon::start(&pair.server, &setup)?;
    let query = Query::new("www.example.org", A).bytes();
    setup.kernel = format!("next = {:?}\n", next.0);
    daemon.home.write(&setup)?;
    daemon.ok("reload")?;
    ensure!(sent(&pair, 5353, &query)? == query);
    is_answered(&pair, &daemon)?;

    let mut bad = setup.clone();
    bad.kernel = "next = \"/sys/fs/bpf/geodns-none\"\n".into();
    daemon.home.write(&bad)?;
    let (_, said) = daemon.fails("reload")?;
    ensure!(
        said.contains("nothing is pinned there") && said.lines().count() == 1,
        "{said}"
    );
    ensure!(sent(&pair, 5353, &query)? == query);

    // Its pin goes; it stays.
    std::fs::remove_file(&next.0)?;
    daemon.home.write(&setup)?;
    daemon.ok("reload")?;
    ensure!(sent(&pair, 5353, &query)? == query);

    setup.kernel.clear();
    daemon.home.write(&setup)?;
    daemon.ok("reload")?;
    let listener = pair.server.enter(|| {
        let listener = UdpSocket::bind(at(SERVER, 5353)?)?;
        listener.set_read_timeout(Some(PATIENCE))?;
        Ok(listener)
    })?;
    let socket = pair.client.udp(ip("192.0.2.1"), at(SERVER, 5353)?)?;
    socket.send(&query)?;
    let mut got = [0; 512];
    let len = listener.recv(&mut got).context("it was not passed")?;
    ensure!(got[..len] == query);
    is_answered(&pair, &daemon)?;
    daemon.stop()
}

#[test]
fn a_next_program_that_cannot_be_called_is_named_and_done_without() -> Result<()> {
    needs_root!();
    let pair = pair("pass")?;
    let map = Path::new("/sys/fs/bpf").join(unique("map"));
    let array = aya::maps::Array::<aya::maps::MapData, u32>::create(1, 0)?;
    array.pin(&map)?;
    for (path, reason) in [
        (
            Path::new("/sys/fs/bpf/geodns-none"),
            "nothing is pinned there",
        ),
        (&map, "it is no program"),
    ] {
        let mut setup = setup("detach");
        setup.kernel = format!("next = {path:?}\n");
        let mut daemon = Daemon::start(&pair.server, &setup)?;
        daemon.logged(&format!("kernel.next = {path:?}: {reason}; "))?;
        is_answered(&pair, &daemon)?;
        daemon.stop()?;
    }
    std::fs::remove_file(map)?;
    Ok(())
}

//! The program with the frags mark: on interfaces whose MTU is too large for the other, natively, beside interfaces that
//! have the other.

use std::net::UdpSocket;

use anyhow::{Context, Result, ensure};
use geodns_tests::built::binary;
use geodns_tests::daemon::{Daemon, Setup};
use geodns_tests::dns::{self, A, Query, Reply};
use geodns_tests::needs_root;
use geodns_tests::net::{Pair, at, run};
use geodns_tests::two_cards::{
    self, AMS, OTHER, PATIENCE, Pinned, ask, attached, is_answered, lose_none_during, setup, socket,
};

/// A server with an interface at the usual MTU and one at 9000, and its clients.
fn pair() -> Result<Pair> {
    let pair = two_cards::pair("pass_frags")?;
    for space in [&pair.server, &pair.client] {
        space.ip("link set eth1 mtu 9000")?;
    }
    Ok(pair)
}

/// Mode and mark of an interface, as `status` has them.
fn mode(daemon: &Daemon, interface: &str) -> Result<(String, bool)> {
    let status = daemon.json("status")?;
    let interfaces = status["interfaces"].as_array().context("no interfaces")?;
    let mut found = interfaces.iter();
    let found = found.find(|at| at["name"] == interface);
    let found = found.with_context(|| status.to_string())?;
    let mode = found["mode"].as_str().unwrap_or_default();
    Ok((mode.to_owned(), found["frags"] == true))
}

fn is_native(daemon: &Daemon) -> Result<()> {
    for (interface, frags) in [("eth0", false), ("eth1", true)] {
        let found = mode(daemon, interface)?;
        ensure!(
            found == ("native".to_owned(), frags),
            "{interface}: {found:?}"
        );
    }
    let status = daemon.ok("status")?;
    for expected in ["eth0 (native)", "eth1 (native, frags)"] {
        ensure!(status.contains(expected), "{status}");
    }
    Ok(())
}

// Invariant 6
#[test]
fn reloads_under_queries_lose_none_on_interfaces_of_both_builds() -> Result<()> {
    needs_root!();
    let pair = pair()?;
    let mut daemon = Daemon::start(&pair.server, &setup("detach"))?;
    is_native(&daemon)?;
    is_answered(&pair, &daemon)?;
    let before = attached(&pair)?;
    ensure!(before.len() == 2, "{before:?}");
    lose_none_during(3, &pair, &daemon)?;
    ensure!(attached(&pair)? == before, "the interfaces were touched");
    is_answered(&pair, &daemon)?;
    // An edit is one of both.
    daemon.ok("map set 192.0.3.0/24 iad")?;
    let bytes = dns::ask(
        &socket(&pair, OTHER, 53)?,
        &Query::new("www.example.org", A).bytes(),
        PATIENCE,
    )?;
    let reply = Reply::parse(&bytes.context("a question was lost")?)?;
    ensure!(reply.of("A") != [AMS], "{reply}");
    daemon.stop()?;
    ensure!(attached(&pair)?.is_empty());
    ensure!(daemon.home.pins.list().is_empty());
    Ok(())
}

#[test]
fn stubs_of_both_builds_outlive_the_daemon_and_are_taken_over() -> Result<()> {
    needs_root!();
    let pair = pair()?;
    let setup = setup("stub");
    let mut daemon = Daemon::start(&pair.server, &setup)?;
    let before = attached(&pair)?;
    daemon.crash()?;
    ask(&socket(&pair, OTHER, 53)?)?;
    daemon.again(&pair.server, &setup)?;
    ensure!(attached(&pair)? == before);
    is_native(&daemon)?;
    is_answered(&pair, &daemon)?;
    daemon.stop()?;
    ensure!(attached(&pair)? == before);
    daemon.again(&pair.server, &setup)?;
    ensure!(attached(&pair)? == before);
    is_answered(&pair, &daemon)?;
    // Nothing is left of a stub that no interface has.
    daemon.stop()?;
    let mut one = setup.clone();
    one.interfaces = vec!["eth0".into()];
    daemon.home.write(&one)?;
    daemon.again(&pair.server, &one)?;
    ensure!(attached(&pair)? == before[..1]);
    let left = daemon.home.pins.list().into_iter();
    let left: Vec<_> = left
        .filter(|pin| format!("{pin:?}").contains("frags"))
        .collect();
    ensure!(left.is_empty(), "{left:?}");
    // It comes back while the daemon runs.
    daemon.home.write(&setup)?;
    daemon.ok("reload")?;
    is_native(&daemon)?;
    is_answered(&pair, &daemon)?;
    daemon.ok("reload")?;
    is_answered(&pair, &daemon)?;
    daemon.stop()?;
    let config = daemon.home.config().display().to_string();
    let mut detach = pair.server.command(binary()?);
    run(detach.args(["detach", "--config", &config]))?;
    ensure!(attached(&pair)?.is_empty());
    ensure!(daemon.home.pins.list().is_empty());
    Ok(())
}

// Invariant 2
#[test]
fn a_packet_of_several_buffers_reaches_the_stack_as_it_came() -> Result<()> {
    needs_root!();
    let pair = pair()?;
    let mut daemon = Daemon::start(&pair.server, &setup("detach"))?;
    let listener = pair.server.enter(|| {
        let listener = UdpSocket::bind(at(OTHER, 5353)?)?;
        listener.set_read_timeout(Some(PATIENCE))?;
        Ok(listener)
    })?;
    let sent: Vec<u8> = (0..8000_u32).map(|at| (at % 251) as u8).collect();
    socket(&pair, OTHER, 5353)?.send(&sent)?;
    let mut got = vec![0; 9000];
    let len = listener.recv(&mut got).context("it was not passed")?;
    ensure!(got[..len] == sent);
    is_answered(&pair, &daemon)?;
    daemon.stop()
}

#[test]
fn a_next_program_without_the_mark_keeps_a_jumbo_interface_from_it() -> Result<()> {
    needs_root!();
    let pair = pair()?;
    let next = Pinned::new("reflect")?;
    let mut setup = setup("stub");
    setup.required = false;
    setup.kernel = format!("next = {:?}\n", next.0);
    let mut daemon = Daemon::start(&pair.server, &setup)?;
    let status = daemon.json("status")?;
    let waiting = &status["waiting_interfaces"][0];
    ensure!(waiting["name"] == "eth1", "{status}");
    let reason = waiting["reason"].as_str().unwrap_or_default();
    ensure!(
        reason.contains("one of them has the frags mark"),
        "{reason}"
    );
    // One with the mark goes only with that interface, and so is not taken.
    let marked = Pinned::new("pass_frags")?;
    let with = |setup: &Setup, next: &Pinned| {
        let mut setup = setup.clone();
        setup.kernel = format!("next = {:?}\n", next.0);
        setup
    };
    daemon.home.write(&with(&setup, &marked))?;
    let (_, said) = daemon.fails("reload")?;
    ensure!(
        said.contains("one of them has the frags mark") && said.lines().count() == 1,
        "{said}"
    );
    daemon.stop()
}

//! The program with the frags mark: on interfaces whose MTU is too large for the other, natively, beside interfaces that
//! have the other.

use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use aya::programs::Xdp;
use geodns_tests::built::{binary, rig_object};
use geodns_tests::daemon::{Daemon, Setup, difference};
use geodns_tests::dns::{self, A, Query, Reply};
use geodns_tests::needs_root;
use geodns_tests::net::{Pair, at, ip, join, run, unique};

const SERVER: &str = "192.0.2.53";
/// On `eth1`, whose MTU is 9000.
const JUMBO: &str = "192.0.3.53";
const AMS: &str = "192.0.2.10";
const PATIENCE: Duration = Duration::from_secs(30);

/// A server with an interface at the usual MTU and one at 9000, and its clients.
fn pair() -> Result<Pair> {
    let pair = Pair::new(&[])?;
    join(&pair.server, "eth1", &pair.client, "eth1")?;
    pair.server.ip("address add 192.0.3.53/24 dev eth1")?;
    pair.client.ip("address add 192.0.3.1/24 dev eth1")?;
    for space in [&pair.server, &pair.client] {
        space.ip("link set eth1 mtu 9000")?;
    }
    pair.client.attach("eth1", "pass_frags")?;
    Ok(pair)
}

fn setup(on_stop: &str) -> Setup {
    let mut setup = Setup::example(&[SERVER, JUMBO]);
    setup.interfaces = vec!["eth0".into(), "eth1".into()];
    setup.on_stop = on_stop.into();
    setup
}

fn socket(pair: &Pair, server: &str, port: u16) -> Result<UdpSocket> {
    let from = match server {
        SERVER => "192.0.2.1",
        _ => "192.0.3.1",
    };
    pair.client.udp(ip(from), at(server, port)?)
}

fn ask(socket: &UdpSocket) -> Result<()> {
    let query = Query::new("www.example.org", A).bytes();
    let bytes = dns::ask(socket, &query, PATIENCE)?.context("a question was lost")?;
    let reply = Reply::parse(&bytes)?;
    ensure!(reply.of("A") == [AMS], "{reply}");
    Ok(())
}

/// Both interfaces are answered on, by the kernel.
fn is_answered(pair: &Pair, daemon: &Daemon) -> Result<()> {
    let before = daemon.counters()?;
    for server in [SERVER, JUMBO] {
        ask(&socket(pair, server, 53)?)?;
    }
    let counted = difference(&before, &daemon.counters()?);
    ensure!(counted.get("answered") == Some(&2), "{counted:?}");
    Ok(())
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

/// The ids of the programs on both interfaces.
fn attached(pair: &Pair) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for interface in ["eth0", "eth1"] {
        let shown = pair.server.ip(&format!("-d link show {interface}"))?;
        let line = shown.lines().find(|line| line.contains("prog/xdp"));
        found.extend(line.map(|line| line.trim().to_owned()));
    }
    Ok(found)
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
    let done = AtomicBool::new(false);
    let asked = std::thread::scope(|scope| {
        let askers = [SERVER, JUMBO].map(|server| {
            let (pair, done) = (&pair, &done);
            scope.spawn(move || -> Result<u64> {
                let socket = socket(pair, server, 53)?;
                let mut asked = 0;
                while !done.load(Ordering::Relaxed) {
                    ask(&socket).with_context(|| format!("question {asked} to {server}"))?;
                    asked += 1;
                    std::thread::sleep(Duration::from_millis(10));
                }
                Ok(asked)
            })
        });
        let changed = (0..3).try_for_each(|_| daemon.ok("reload").map(|_| ()));
        done.store(true, Ordering::Relaxed);
        let asked = askers.map(|asker| asker.join().expect("no panic"));
        changed?;
        let [one, other] = asked;
        anyhow::Ok([one?, other?])
    })?;
    println!("{asked:?} questions during three reloads, none lost");
    ensure!(attached(&pair)? == before, "the interfaces were touched");
    is_answered(&pair, &daemon)?;
    // An edit is one of both.
    daemon.ok("map set 192.0.3.0/24 iad")?;
    let bytes = dns::ask(
        &socket(&pair, JUMBO, 53)?,
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
    ask(&socket(&pair, JUMBO, 53)?)?;
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
        let listener = UdpSocket::bind(at(JUMBO, 5353)?)?;
        listener.set_read_timeout(Some(PATIENCE))?;
        Ok(listener)
    })?;
    let sent: Vec<u8> = (0..8000_u32).map(|at| (at % 251) as u8).collect();
    socket(&pair, JUMBO, 5353)?.send(&sent)?;
    let mut got = vec![0; 9000];
    let len = listener.recv(&mut got).context("it was not passed")?;
    ensure!(got[..len] == sent);
    is_answered(&pair, &daemon)?;
    daemon.stop()
}

/// A program of the rig, pinned beside a daemon's pins.
struct Pinned(PathBuf);

impl Pinned {
    fn new(name: &str) -> Result<Self> {
        let path = Path::new("/sys/fs/bpf").join(unique("next"));
        let mut rig = aya::Ebpf::load(&rig_object()?)?;
        let program: &mut Xdp = rig.program_mut(name).context("none")?.try_into()?;
        program.load()?;
        program.pin(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
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

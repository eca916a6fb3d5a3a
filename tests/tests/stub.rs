//! The stub that is attached: plans change under it on all interfaces at once, it outlives the daemon, and
//! `geodns detach` takes it off. `kernel.next` gets what is passed.

use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use aya::programs::Xdp;
use geodns_tests::built::{binary, rig_object};
use geodns_tests::daemon::{Daemon, Setup, difference};
use geodns_tests::dns::{self, A, Query, Reply};
use geodns_tests::net::{Pair, at, ip, join, output, unique};
use geodns_tests::{needs_root, until};
use nix::sys::signal::Signal;

const SERVER: &str = "192.0.2.53";
/// On `eth1`.
const OTHER: &str = "192.0.3.53";
const AMS: &str = "192.0.2.10";
const PATIENCE: Duration = Duration::from_secs(30);

/// A server with two interfaces, and its clients.
fn pair() -> Result<Pair> {
    let pair = Pair::new(&[])?;
    join(&pair.server, "eth1", &pair.client, "eth1")?;
    pair.server.ip("address add 192.0.3.53/24 dev eth1")?;
    pair.client.ip("address add 192.0.3.1/24 dev eth1")?;
    pair.client.attach("eth1", "pass")?;
    Ok(pair)
}

fn setup(on_stop: &str) -> Setup {
    let mut setup = Setup::example(&[SERVER, OTHER]);
    setup.interfaces = vec!["eth0".into(), "eth1".into()];
    setup.on_stop = on_stop.into();
    setup
}

fn socket(pair: &Pair, server: &str) -> Result<UdpSocket> {
    let from = match server {
        SERVER => "192.0.2.1",
        _ => "192.0.3.1",
    };
    pair.client.udp(ip(from), at(server, 53)?)
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
    for server in [SERVER, OTHER] {
        ask(&socket(pair, server)?)?;
    }
    let counted = difference(&before, &daemon.counters()?);
    ensure!(counted.get("answered") == Some(&2), "{counted:?}");
    Ok(())
}

/// What `ip` shows of the programs on both interfaces.
fn attached(pair: &Pair) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for interface in ["eth0", "eth1"] {
        let shown = pair.server.ip(&format!("-d link show {interface}"))?;
        let line = shown.lines().find(|line| line.contains("prog/xdp"));
        found.extend(line.map(|line| line.trim().to_owned()));
    }
    Ok(found)
}

/// Queries reach a socket of the network stack.
fn is_passed(pair: &Pair, server: &str) -> Result<()> {
    let listener = pair.server.enter(|| {
        let listener = UdpSocket::bind(at(server, 53)?)?;
        listener.set_read_timeout(Some(PATIENCE))?;
        Ok(listener)
    })?;
    let query = Query::new("www.example.org", A).bytes();
    socket(pair, server)?.send(&query)?;
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
    let pair = pair()?;
    let mut daemon = Daemon::start(&pair.server, &setup("detach"))?;
    let before = attached(&pair)?;
    ensure!(before.len() == 2, "{before:?}");
    let done = AtomicBool::new(false);
    let asked = std::thread::scope(|scope| {
        let askers = [SERVER, OTHER].map(|server| {
            let (pair, done) = (&pair, &done);
            scope.spawn(move || -> Result<u64> {
                let socket = socket(pair, server)?;
                let mut asked = 0;
                while !done.load(Ordering::Relaxed) {
                    ask(&socket).with_context(|| format!("question {asked} to {server}"))?;
                    asked += 1;
                    std::thread::sleep(Duration::from_millis(10));
                }
                Ok(asked)
            })
        });
        let change = || -> Result<()> {
            for _ in 0..5 {
                daemon.ok("reload")?;
            }
            Ok(())
        };
        let changed = change();
        done.store(true, Ordering::Relaxed);
        let asked = askers.map(|asker| asker.join().expect("no panic"));
        changed?;
        let [one, other] = asked;
        anyhow::Ok([one?, other?])
    })?;
    println!("{asked:?} questions during five reloads, none lost");
    ensure!(attached(&pair)? == before, "the interfaces were touched");
    is_answered(&pair, &daemon)?;
    daemon.stop()?;
    ensure!(attached(&pair)?.is_empty());
    Ok(())
}

#[test]
fn a_stop_leaves_the_stub_which_passes_everything_and_the_next_start_takes_it_over() -> Result<()> {
    needs_root!();
    let pair = pair()?;
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
            1 => ask(&socket(&pair, SERVER)?)?,
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
    let pair = pair()?;
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
    let pair = pair()?;
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
    ask(&socket(&pair, OTHER)?)?;
    daemon.again(&pair.server, &setup)?;
    ensure!(attached(&pair)? == before);
    is_answered(&pair, &daemon)?;
    daemon.stop()
}

/// The reflector of the rig, pinned beside a daemon's pins.
struct Reflector(PathBuf);

impl Reflector {
    fn pin() -> Result<Self> {
        let path = Path::new("/sys/fs/bpf").join(unique("next"));
        let mut rig = aya::Ebpf::load(&rig_object()?)?;
        let program: &mut Xdp = rig.program_mut("reflect").context("none")?.try_into()?;
        program.load()?;
        program.pin(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Reflector {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
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
    let pair = pair()?;
    let next = Reflector::pin()?;
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
    let pair = pair()?;
    let next = Reflector::pin()?;
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
    let pair = pair()?;
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

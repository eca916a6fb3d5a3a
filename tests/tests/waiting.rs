//! Interfaces that are not there, or do not take the program: the slow path answers until they do.

use anyhow::{Context, Result, ensure};
use geodns_tests::built::binary;
use geodns_tests::daemon::{Daemon, Home, Setup};
use geodns_tests::dns::{A, Query};
use geodns_tests::net::{Pair, Space, join, output};
use geodns_tests::{needs_root, until};
use serde_json::Value;

const SERVER: &str = "192.0.2.53";

/// A daemon that may go on without the program on an interface.
fn setup(interfaces: &[&str]) -> Setup {
    let mut setup = Setup::example(&[SERVER]);
    setup.interfaces = interfaces.iter().map(|&name| name.into()).collect();
    setup.required = false;
    setup
}

/// Asks for a steered name, and gives whether the program answered.
fn is_fast(pair: &Pair, daemon: &Daemon) -> Result<bool> {
    let before = daemon.counters()?["answered"];
    let reply = pair.ask("192.0.2.1", SERVER, &Query::new("www.example.org", A))?;
    ensure!(!reply.answers.is_empty(), "{reply}");
    Ok(daemon.counters()?["answered"] > before)
}

/// State and reason of an interface that waits for the program, as the status has it.
fn waits(daemon: &Daemon, name: &str) -> Result<Option<(String, String)>> {
    let status = daemon.json("status")?;
    let all = status["waiting_interfaces"].as_array().context("a list")?;
    let found = all.iter().find(|at| at["name"] == name);
    let text = |at: &Value, key: &str| at[key].as_str().map(str::to_owned).unwrap_or_default();
    Ok(found.map(|at| (text(at, "state"), text(at, "reason"))))
}

/// Warnings in the log that name this.
fn warnings(daemon: &Daemon, name: &str) -> usize {
    let log = daemon.log();
    let warnings = log.lines().filter(|line| line.contains("WARN"));
    warnings.filter(|line| line.contains(name)).count()
}

#[test]
fn an_interface_that_comes_later_is_attached_to_and_one_that_never_comes_is_waited_for()
-> Result<()> {
    needs_root!();
    let pair = Pair::new(&[])?;
    let mut daemon = Daemon::start(&pair.server, &setup(&["late0", "never0"]))?;
    ensure!(!is_fast(&pair, &daemon)?);
    let (state, reason) = waits(&daemon, "late0")?.context("it waits")?;
    ensure!(state == "waiting" && reason.contains("eth0"), "{reason}");
    let text = daemon.ok("status")?;
    ensure!(text.contains("late0 (waiting), never0 (waiting)"), "{text}");
    let said = warnings(&daemon, "\"late0\"");
    ensure!(said == 1, "{}", daemon.log());

    // As a bond or a VLAN that is made after the daemon has started.
    pair.server.ip("link set eth0 down")?;
    pair.server.ip("link set eth0 name late0")?;
    pair.server.ip("link set late0 up")?;
    pair.server.ip("route replace default via 192.0.2.1")?;
    until("the program is attached", || {
        Ok(waits(&daemon, "late0")?.is_none())
    })?;
    ensure!(is_fast(&pair, &daemon)?);

    // It leaves to another network namespace, and comes back.
    let elsewhere = Space::new("elsewhere")?;
    pair.server
        .ip(&format!("link set late0 netns {}", elsewhere.name()))?;
    until("it has gone", || Ok(waits(&daemon, "late0")?.is_some()))?;
    elsewhere.ip(&format!("link set late0 netns {}", pair.server.name()))?;
    pair.server.ip_batch(&format!(
        "link set late0 up
         address replace {SERVER}/24 dev late0"
    ))?;
    until("it is attached again", || {
        Ok(waits(&daemon, "late0")?.is_none())
    })?;
    until("the program answers", || is_fast(&pair, &daemon))?;
    let (state, _) = waits(&daemon, "never0")?.context("it waits for ever")?;
    ensure!(state == "waiting");
    ensure!(warnings(&daemon, "\"never0\"") == 1, "{}", daemon.log());
    daemon.stop()
}

#[test]
fn an_occupied_interface_is_taken_when_it_is_free() -> Result<()> {
    needs_root!();
    let pair = Pair::new(&[])?;
    let home = Home::new()?;
    let mut other = Daemon::start(&pair.server, &setup(&["eth0"]).mode("generic"))?;
    let mut mine = setup(&["eth0"]);
    mine.listen = vec!["192.0.2.54".into()];
    home.write(&mine)?;
    let mut daemon = Daemon::start_at(&pair.server, home, &mine)?;
    let ask = || pair.ask("192.0.2.1", "192.0.2.54", &Query::new("www.example.org", A));
    ensure!(!ask()?.answers.is_empty());
    let (state, reason) = waits(&daemon, "eth0")?.context("it waits")?;
    let held = format!("kernel.pin = {:?} uses it", other.home.pins.path());
    ensure!(state == "refused" && reason.contains(&held), "{reason}");
    ensure!(daemon.ok("reload")?.contains("another XDP program"));
    other.stop()?;
    until("the program is attached", || {
        Ok(waits(&daemon, "eth0")?.is_none())
    })?;
    until("the program answers", || {
        let before = daemon.counters()?["answered"];
        ensure!(!ask()?.answers.is_empty());
        Ok(daemon.counters()?["answered"] > before)
    })?;
    daemon.stop()
}

#[test]
fn a_driver_without_native_mode_leaves_its_queries_to_the_slow_path() -> Result<()> {
    needs_root!();
    let pair = Pair::new(&[])?;
    pair.server.ip_batch(
        "address flush dev eth0
         link add br0 type bridge
         link set eth0 master br0
         link set br0 up
         address add 192.0.2.53/24 dev br0",
    )?;
    let mut daemon = Daemon::start(&pair.server, &setup(&["br0"]))?;
    let (state, reason) = waits(&daemon, "br0")?.context("it waits")?;
    ensure!(state == "refused" && reason.contains("native"), "{reason}");
    ensure!(!is_fast(&pair, &daemon)?);
    ensure!(warnings(&daemon, "br0") == 1, "{}", daemon.log());
    daemon.stop()
}

/// Addresses on loopback, a dummy or a tunnel are answered on by the slow path, and nobody takes that for the fast one.
#[test]
fn interfaces_that_take_no_program_leave_all_to_the_slow_path() -> Result<()> {
    needs_root!();
    let pair = Pair::new(&[])?;
    pair.server.ip("tuntap add dev tun0 mode tun")?;
    for (name, says) in [
        ("lo", "name the card that they come in by"),
        ("tun0", "no Ethernet header"),
    ] {
        let mut setup = setup(&[name]);
        let mut daemon = Daemon::start(&pair.server, &setup)?;
        let (state, reason) = waits(&daemon, name)?.context("it is told")?;
        ensure!(state == "refused" && reason.contains(says), "{reason}");
        ensure!(!is_fast(&pair, &daemon)?);
        ensure!(warnings(&daemon, says) == 1, "{}", daemon.log());
        let text = daemon.ok("status")?;
        ensure!(text.contains(&format!("{name} (refused)")), "{text}");
        let config = daemon.home.config();
        let mut check = pair.server.command(binary()?);
        let checked = output(check.arg("check").arg("--config").arg(config))?;
        let text = String::from_utf8(checked.stdout)?;
        ensure!(checked.status.success() && text.contains(says), "{text}");
        daemon.stop()?;
        setup.required = true;
        let home = Home::new()?;
        home.write(&setup)?;
        let done = Daemon::attempt(&pair.server, &home, &setup)?;
        let text = String::from_utf8(done.stderr)?;
        ensure!(
            done.status.code() == Some(1) && text.contains(says),
            "{text}"
        );
    }
    Ok(())
}

#[test]
fn a_reload_may_name_an_interface_that_is_to_come_unless_it_is_required() -> Result<()> {
    needs_root!();
    let pair = Pair::new(&[])?;
    let mut setup = setup(&["eth0"]);
    let mut daemon = Daemon::start(&pair.server, &setup)?;
    setup.interfaces.push("late0".into());
    setup.required = true;
    daemon.home.write(&setup)?;
    let (_, said) = daemon.fails("reload")?;
    ensure!(said.contains("no interface \"late0\""), "{said}");
    setup.required = false;
    daemon.home.write(&setup)?;
    let said = daemon.ok("reload")?;
    ensure!(said.contains("but: no interface \"late0\""), "{said}");
    ensure!(is_fast(&pair, &daemon)?);
    let far = Space::new("far")?;
    join(&pair.server, "late0", &far, "late0")?;
    until("the program is attached", || {
        Ok(waits(&daemon, "late0")?.is_none())
    })?;
    ensure!(is_fast(&pair, &daemon)?);
    daemon.stop()
}

#[test]
fn a_program_that_cannot_be_loaded_leaves_all_to_the_slow_path() -> Result<()> {
    needs_root!();
    let pair = Pair::new(&[])?;
    let setup = setup(&["eth0"]);
    let home = Home::new()?;
    home.write(&setup)?;
    let text = std::fs::read_to_string(home.config())?;
    let pin = format!("{:?}", home.folder.path().join("pins"));
    let text = text.replace(&format!("{:?}", home.pins.path()), &pin);
    std::fs::write(home.config(), text)?;
    let mut daemon = Daemon::start_at(&pair.server, home, &setup)?;
    let reply = pair.ask("192.0.2.1", SERVER, &Query::new("www.example.org", A))?;
    ensure!(!reply.answers.is_empty(), "{reply}");
    let status = daemon.json("status")?;
    let why = status["not_loaded"].as_str().context("a reason")?;
    ensure!(why.contains("is not in a bpffs"), "{why}");
    let text = daemon.ok("status")?;
    ensure!(
        text.contains("not loaded: the slow path answers everything") && text.contains(why),
        "{text}"
    );
    // And goes on to be changed.
    daemon.ok("reload")?;
    daemon.ok("map set 10.1.0.0/16 sin")?;
    daemon.stop()
}

//! A daemon that announces its node, in a namespace, without a routing daemon: the routes are looked at as the kernel
//! has them.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use geodns_tests::daemon::{Daemon, Home, Setup};
use geodns_tests::dns::{A, Query};
use geodns_tests::needs_root;
use geodns_tests::net::{Pair, at, ip};
use nix::sys::signal::Signal;
use serde_json::Value;

/// How long something may take, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
const ANYCAST: [&str; 2] = ["192.0.2.53", "2001:db8::53"];

/// A node with this section, whose hold-down is short.
fn setup(section: &str) -> Setup {
    let section = format!(
        "[announce]\nprefixes = [\"192.0.2.53\", \"2001:db8::53\"]\nrise = \"0s\"\nhold_down = \"0s..0s\"\n{section}\n"
    );
    Setup::example(&ANYCAST).and(&section)
}

/// The announcement, as the API shows it.
fn shown(daemon: &Daemon) -> Result<Value> {
    let (code, body) = daemon.request("GET", "/v1/announce", "")?;
    ensure!(code == 200, "{code}: {body}");
    Ok(serde_json::from_str(&body)?)
}

/// Has the operator say a word; what the daemon answers.
fn say(daemon: &Daemon, word: &str) -> Result<Value> {
    let (code, body) = daemon.request("PUT", "/v1/announce", word)?;
    ensure!(code == 200, "{code}: {body}");
    Ok(serde_json::from_str(&body)?)
}

/// Metrics of the routes to both addresses.
fn metrics(pair: &Pair) -> Result<Vec<String>> {
    let mut metrics = Vec::new();
    for (family, address) in ["-4", "-6"].into_iter().zip(ANYCAST) {
        let shown = pair
            .server
            .ip(&format!("{family} route show {address} proto 53"))?;
        let words: Vec<&str> = shown.split_whitespace().collect();
        let metric = words.iter().position(|word| *word == "metric");
        metrics.extend(metric.and_then(|at| Some((*words.get(at + 1)?).to_owned())));
    }
    Ok(metrics)
}

/// Waits until both routes have this metric, or there are none; how long that took.
fn until(pair: &Pair, metric: Option<&str>, why: &dyn Fn() -> String) -> Result<Duration> {
    let expected: Vec<&str> = metric.map_or(Vec::new(), |metric| vec![metric; 2]);
    let start = Instant::now();
    loop {
        let found = metrics(pair)?;
        if found == expected {
            return Ok(start.elapsed());
        }
        ensure!(
            start.elapsed() < PATIENCE,
            "{found:?}, not {expected:?}: {}",
            why()
        );
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_node_is_up_once_it_answers_and_follows_its_operator() -> Result<()> {
    needs_root!();
    let pair = Pair::new(&[])?;
    let daemon = Daemon::start(&pair.server, &setup("drain = \"0s\""))?;
    until(&pair, Some("100"), &|| daemon.log())?;
    let found = shown(&daemon)?;
    ensure!(found["state"] == "up" && found["why"] == "", "{found}");
    let checks = found["checks"].as_array().context("no checks")?;
    for kind in ["program", "carrier", "UDP", "TCP"] {
        let mut of = checks
            .iter()
            .filter(|check| check["check"] == kind)
            .peekable();
        ensure!(of.peek().is_some(), "no {kind}: {found}");
        ensure!(of.all(|check| check["fault"].is_null()), "{found}");
    }
    for (word, state, metric) in [
        (r#"{"word":"drain"}"#, "draining", Some("200")),
        (r#"{"word":"withdraw"}"#, "withdrawn", None),
        (r#"{"word":"up"}"#, "up", Some("100")),
        (r#"{"word":"drain","for_ms":1000}"#, "draining", Some("200")),
    ] {
        let found = say(&daemon, word)?;
        ensure!(found["state"] == state, "{word}: {found}");
        until(&pair, metric, &|| daemon.log())?;
    }
    until(&pair, Some("100"), &|| daemon.log())?;
    Ok(())
}

#[test]
fn the_operators_word_survives_a_restart_and_a_stop_withdraws() -> Result<()> {
    needs_root!();
    let pair = Pair::new(&[])?;
    let setup = setup("drain = \"0s\"");
    let mut daemon = Daemon::start(&pair.server, &setup)?;
    until(&pair, Some("100"), &|| daemon.log())?;
    say(&daemon, r#"{"word":"drain"}"#)?;
    daemon.stop()?;
    ensure!(metrics(&pair)?.is_empty());
    ensure!(pair.server.ip("link show geodns0").is_err());
    daemon.again(&pair.server, &setup)?;
    until(&pair, Some("200"), &|| daemon.log())?;
    ensure!(shown(&daemon)?["failures"] == 0, "{}", shown(&daemon)?);
    Ok(())
}

#[test]
fn a_crash_is_the_last_resort_at_once_and_the_next_daemon_takes_over_without_a_gap() -> Result<()> {
    needs_root!();
    let pair = Pair::new(&[])?;
    // The holder does not wait for the silence of the daemon, which would be 15 s here.
    let setup = setup("interval = \"5s\"").but("0s..0s", "2s..2s");
    let mut daemon = Daemon::start(&pair.server, &setup)?;
    until(&pair, Some("100"), &|| daemon.log())?;
    daemon.crash()?;
    let waited = until(&pair, Some("300"), &|| daemon.log())?;
    ensure!(waited < Duration::from_secs(12), "{waited:?}");
    pair.ask(
        "192.0.2.1",
        "192.0.2.53",
        &Query::new("mail.example.org", A),
    )?;
    daemon.again(&pair.server, &setup)?;
    // Held down: it has just failed. Its routes were there all the time.
    let start = Instant::now();
    let mut found = metrics(&pair)?;
    while found == ["300", "300"] {
        ensure!(start.elapsed() < PATIENCE, "{}", daemon.log());
        found = metrics(&pair)?;
    }
    ensure!(found.len() >= 2, "{found:?}");
    until(&pair, Some("100"), &|| daemon.log())?;
    ensure!(
        daemon.log().contains("counts as a failure"),
        "{}",
        daemon.log()
    );
    ensure!(shown(&daemon)?["failures"] == 1);
    Ok(())
}

#[test]
fn a_daemon_that_hangs_is_the_last_resort_until_it_goes_on() -> Result<()> {
    needs_root!();
    let pair = Pair::new(&[])?;
    let daemon = Daemon::start(&pair.server, &setup(""))?;
    until(&pair, Some("100"), &|| daemon.log())?;
    daemon.signal(Signal::SIGSTOP)?;
    until(&pair, Some("300"), &|| daemon.log())?;
    daemon.signal(Signal::SIGCONT)?;
    until(&pair, Some("100"), &|| daemon.log())?;
    Ok(())
}

#[test]
fn a_holder_that_dies_takes_the_routes_along_and_another_one_takes_its_place() -> Result<()> {
    needs_root!();
    let pair = Pair::new(&[])?;
    let daemon = Daemon::start(&pair.server, &setup(""))?;
    until(&pair, Some("100"), &|| daemon.log())?;
    let pid = holder(&daemon)?;
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), Signal::SIGKILL)?;
    // The routes go with it, and come with the next one.
    daemon.logged("the holder of the device has ended")?;
    until(&pair, Some("100"), &|| daemon.log())?;
    ensure!(holder(&daemon)? != pid);
    ensure!(shown(&daemon)?["failures"] == 1);
    Ok(())
}

#[test]
fn a_node_whose_routes_cannot_be_made_does_not_say_that_it_is_up() -> Result<()> {
    needs_root!();
    let pair = Pair::new(&[])?;
    pair.server
        .ip("route add 192.0.2.53/32 dev lo metric 100 proto static")?;
    let daemon = Daemon::start(&pair.server, &setup(""))?;
    let why = "route 192.0.2.53/32 metric 100 in table 254: another program has made it";
    daemon.logged(why)?;
    let found = shown(&daemon)?;
    ensure!(
        found["state"] == "waiting" && found["why"] == why && found["metric"].is_null(),
        "{found}"
    );
    ensure!(metrics(&pair)?.is_empty());
    let line = daemon.ok("status")?;
    ensure!(line.contains(why), "{line}");
    pair.ask(
        "192.0.2.1",
        "192.0.2.53",
        &Query::new("mail.example.org", A),
    )?;
    pair.server
        .ip("route del 192.0.2.53/32 dev lo metric 100 proto static")?;
    until(&pair, Some("100"), &|| daemon.log())?;
    Ok(())
}

#[test]
fn the_device_has_ipv6_where_new_devices_have_none() -> Result<()> {
    needs_root!();
    let pair = Pair::new(&[])?;
    pair.server
        .sysctl("net/ipv6/conf/default/disable_ipv6", "1")?;
    let daemon = Daemon::start(&pair.server, &setup(""))?;
    until(&pair, Some("100"), &|| daemon.log())?;
    pair.server
        .sysctl("net/ipv6/conf/geodns0/disable_ipv6", "1")?;
    daemon.logged("IPv6 is off for device geodns0: set net.ipv6.conf.geodns0.disable_ipv6 to 0")?;
    pair.server
        .sysctl("net/ipv6/conf/geodns0/disable_ipv6", "0")?;
    until(&pair, Some("100"), &|| daemon.log())?;
    Ok(())
}

/// A holder of a later version: it refuses a daemon of today, and ends when that says so.
fn later_holder(pair: &Pair, socket: &Path) -> Result<Vec<String>> {
    let listener = UnixListener::bind(socket)?;
    let (stream, _) = listener.accept()?;
    let mut heard = Vec::new();
    for line in BufReader::new(&stream).lines() {
        let line = line?;
        let is_end = line == "\"end\"";
        heard.push(line);
        if is_end {
            pair.server.ip("link delete geodns0")?;
            std::fs::remove_file(socket)?;
            break;
        }
        (&stream).write_all(b"{\"failed\":\"its words have version 7\"}\n")?;
    }
    Ok(heard)
}

#[test]
fn a_holder_of_another_version_is_told_to_end_and_replaced() -> Result<()> {
    needs_root!();
    let pair = Pair::new(&[])?;
    let setup = setup("");
    let home = Home::new()?;
    home.write(&setup)?;
    pair.server.ip_batch(
        "tuntap add dev geodns0 mode tun
         link set geodns0 up
         route add 192.0.2.53/32 dev geodns0 metric 300 proto 53",
    )?;
    let socket = home.folder.path().join("announce.sock");
    std::thread::scope(|scope| {
        let holder = scope.spawn(|| later_holder(&pair, &socket));
        let daemon = Daemon::start_at(&pair.server, home, &setup);
        let log = || daemon.as_ref().map(Daemon::log).unwrap_or_default();
        let found = until(&pair, Some("100"), &log);
        // A test that fails ends, too.
        drop(UnixStream::connect(&socket));
        let heard = holder.join().map_err(|_| anyhow!("panicked"))??;
        ensure!(
            heard == [r#"{"hello":{"version":1,"device":"geodns0"}}"#, "\"end\""],
            "{heard:?}"
        );
        ensure!(
            log().contains(
                "the holder of the routes is replaced, and they with it: its words have version 7"
            ),
            "{}",
            log()
        );
        found.map(drop)
    })
}

#[test]
fn a_holder_that_hangs_or_has_another_device_is_replaced() -> Result<()> {
    needs_root!();
    let pair = Pair::new(&[])?;
    let before = setup("");
    let mut daemon = Daemon::start(&pair.server, &before)?;
    until(&pair, Some("100"), &|| daemon.log())?;
    let pid = nix::unistd::Pid::from_raw(holder(&daemon)?);
    daemon.crash()?;
    nix::sys::signal::kill(pid, Signal::SIGSTOP)?;
    daemon.again(&pair.server, &before)?;
    until(&pair, Some("100"), &|| daemon.log())?;
    daemon.logged("the holder of the routes is replaced")?;
    ensure!(holder(&daemon)? != pid.as_raw());

    daemon.crash()?;
    until(&pair, Some("300"), &|| daemon.log())?;
    let after = setup("device = \"anycast0\"");
    daemon.home.write(&after)?;
    daemon.again(&pair.server, &after)?;
    daemon.logged("it holds device geodns0, and announce.device is anycast0")?;
    until(&pair, Some("100"), &|| daemon.log())?;
    ensure!(pair.server.ip("link show geodns0").is_err());
    let routes = pair.server.ip("route show 192.0.2.53")?;
    ensure!(routes.contains("dev anycast0"), "{routes}");
    Ok(())
}

/// Process id of the holder that the daemon has started.
fn holder(daemon: &Daemon) -> Result<i32> {
    let pid = daemon.pid().context("it does not run")?;
    for process in std::fs::read_dir("/proc")? {
        let path = process?.path();
        let stat = std::fs::read_to_string(path.join("stat")).unwrap_or_default();
        let parent = stat
            .rsplit_once(')')
            .and_then(|(_, rest)| rest.split_whitespace().nth(1));
        let line = std::fs::read(path.join("cmdline")).unwrap_or_default();
        if parent == Some(&pid.to_string())
            && line.split(|octet| *octet == 0).any(|word| word == b"hold")
        {
            return Ok(path
                .file_name()
                .context("no name")?
                .to_string_lossy()
                .parse()?);
        }
    }
    anyhow::bail!("no holder:\n{}", daemon.log())
}

#[test]
fn carrier_that_is_lost_and_a_program_that_is_taken_off_are_failures() -> Result<()> {
    needs_root!();
    let pair = Pair::new(&[])?;
    let daemon = Daemon::start(&pair.server, &setup(""))?;
    until(&pair, Some("100"), &|| daemon.log())?;
    pair.client.ip("link set eth0 down")?;
    until(&pair, Some("300"), &|| daemon.log())?;
    let found = shown(&daemon)?;
    ensure!(found["why"] == "carrier eth0: none", "{found}");
    pair.client.ip("link set eth0 up")?;
    until(&pair, Some("100"), &|| daemon.log())?;
    pair.server.ip("address delete 192.0.2.53/24 dev eth0")?;
    until(&pair, Some("300"), &|| daemon.log())?;
    let found = shown(&daemon)?;
    ensure!(
        found["why"]
            .as_str()
            .is_some_and(|why| why.contains("add it to lo")),
        "{found}"
    );
    Ok(())
}

#[test]
fn a_node_stays_up_where_the_program_is_not_attached_while_it_has_a_carrier() -> Result<()> {
    needs_root!();
    let pair = Pair::new(&[])?;
    pair.server.attach("eth0", "pass")?;
    let mut setup = setup("");
    setup.required = false;
    let daemon = Daemon::start(&pair.server, &setup)?;
    until(&pair, Some("100"), &|| daemon.log())?;
    let status = daemon.json("status")?;
    ensure!(
        status["waiting_interfaces"][0]["state"] == "refused",
        "{status}"
    );
    pair.client.ip("link set eth0 down")?;
    until(&pair, Some("300"), &|| daemon.log())?;
    let found = shown(&daemon)?;
    ensure!(found["why"] == "carrier eth0: none", "{found}");
    pair.client.ip("link set eth0 up")?;
    until(&pair, Some("100"), &|| daemon.log())?;
    Ok(())
}

#[test]
fn own_questions_meet_no_rule_and_no_limit_and_are_not_counted() -> Result<()> {
    needs_root!();
    let pair = Pair::new(&[])?;
    let rules = "[rrl]\nrate = 1\n[[block]]\nbelow = \"example.org\"\n";
    let daemon = Daemon::start(&pair.server, &setup("").and(rules))?;
    until(&pair, Some("100"), &|| daemon.log())?;
    let start = Instant::now();
    loop {
        let slow = daemon.stats("slow")?;
        let count = |name: &str| slow.get(name).copied();
        ensure!(
            count("queries_udp") == Some(0) && count("queries_tcp") == Some(0),
            "{slow:?}"
        );
        if count("own_checks") > Some(20) {
            break;
        }
        ensure!(start.elapsed() < PATIENCE, "{slow:?}");
        std::thread::sleep(Duration::from_millis(100));
    }
    until(&pair, Some("100"), &|| daemon.log())?;
    Ok(())
}

#[test]
fn without_a_device_there_is_a_line_and_dns_goes_on() -> Result<()> {
    needs_root!();
    let pair = Pair::new(&[])?;
    pair.server.ip("link add geodns0 type bridge")?;
    let daemon = Daemon::start(&pair.server, &setup(""))?;
    let start = Instant::now();
    let found = loop {
        let found = shown(&daemon)?;
        if found["why"]
            .as_str()
            .is_some_and(|why| why.contains("has ended"))
        {
            break found;
        }
        ensure!(start.elapsed() < PATIENCE, "{found}\n{}", daemon.log());
        std::thread::sleep(Duration::from_millis(50));
    };
    ensure!(found["state"] == "waiting", "{found}");
    ensure!(
        daemon.log().contains("device geodns0: "),
        "{}",
        daemon.log()
    );
    pair.ask(
        "192.0.2.1",
        "192.0.2.53",
        &Query::new("mail.example.org", A),
    )?;
    pair.server.ip("link delete geodns0")?;
    until(&pair, Some("100"), &|| daemon.log())?;
    Ok(())
}

#[test]
fn a_reload_changes_the_prefixes_and_says_what_needs_a_restart() -> Result<()> {
    needs_root!();
    let pair = Pair::new(&[])?;
    let daemon = Daemon::start(&pair.server, &setup(""))?;
    until(&pair, Some("100"), &|| daemon.log())?;
    let other = setup("device = \"anycast0\"").but("\"192.0.2.53\", ", "");
    daemon.home.write(&other)?;
    let (code, body) = daemon.request("POST", "/v1/reload", "")?;
    ensure!(code == 200, "{body}");
    let start = Instant::now();
    while metrics(&pair)?.len() != 1 {
        ensure!(start.elapsed() < PATIENCE, "{}", daemon.log());
    }
    daemon.logged("only after a restart: announce.device")?;
    Ok(())
}

#[test]
fn a_stop_drains_until_no_query_comes_and_a_second_signal_ends_that() -> Result<()> {
    needs_root!();
    let pair = Pair::new(&[])?;
    let setup = setup("");
    let mut daemon = Daemon::start(&pair.server, &setup)?;
    until(&pair, Some("100"), &|| daemon.log())?;
    daemon.signal(Signal::SIGTERM)?;
    until(&pair, Some("200"), &|| daemon.log())?;
    let asked = Instant::now();
    pair.ask(
        "192.0.2.1",
        "192.0.2.53",
        &Query::new("mail.example.org", A),
    )?;
    // Quiet after 5 s.
    until(&pair, None, &|| daemon.log())?;
    let waited = asked.elapsed();
    ensure!(waited > Duration::from_secs(4), "{waited:?}");
    let status = daemon.wait()?;
    ensure!(status.success(), "{status}\n{}", daemon.log());
    let setup = self::setup("drain = \"10m\"");
    daemon.home.write(&setup)?;
    daemon.again(&pair.server, &setup)?;
    until(&pair, Some("100"), &|| daemon.log())?;
    daemon.signal(Signal::SIGTERM)?;
    until(&pair, Some("200"), &|| daemon.log())?;
    let start = Instant::now();
    daemon.signal(Signal::SIGTERM)?;
    let status = daemon.wait()?;
    // The drain would have taken ten minutes.
    ensure!(
        status.success() && start.elapsed() < PATIENCE,
        "{status}\n{}",
        daemon.log()
    );
    ensure!(metrics(&pair)?.is_empty());
    Ok(())
}

/// Starts a daemon by way of a shell that changes its surroundings first.
fn start_in(pair: &Pair, setup: &Setup, before: &str) -> Result<(Daemon, tempfile::TempDir)> {
    let folder = tempfile::tempdir()?;
    let wrapper = folder.path().join("geodns");
    let binary = geodns_tests::built::binary()?;
    std::fs::write(
        &wrapper,
        format!("#!/bin/sh\n{before} {} \"$@\"\n", binary.display()),
    )?;
    std::fs::set_permissions(&wrapper, std::fs::Permissions::from_mode(0o755))?;
    let mut daemon = Daemon::start(&pair.server, setup)?;
    daemon.stop()?;
    daemon.set_binary(wrapper);
    daemon.again(&pair.server, setup)?;
    Ok((daemon, folder))
}

#[test]
fn without_tun_or_the_right_to_it_there_is_a_line_and_dns_goes_on() -> Result<()> {
    needs_root!();
    let pair = Pair::new(&[])?;
    for (before, mode, line) in [
        (
            "exec unshare --mount sh -c 'mount -t tmpfs none /dev/net && exec \"$@\"' sh",
            "native",
            "/dev/net/tun: not there: load the module tun",
        ),
        (
            "exec setpriv --bounding-set -net_admin --inh-caps -net_admin",
            "off",
            "device geodns0: Operation not permitted (os error 1): it takes CAP_NET_ADMIN",
        ),
    ] {
        let setup = setup("drain = \"0s\"").mode(mode);
        let (daemon, _folder) = start_in(&pair, &setup, before)?;
        daemon.logged(line)?;
        pair.ask(
            "192.0.2.1",
            "192.0.2.53",
            &Query::new("mail.example.org", A),
        )?;
        ensure!(shown(&daemon)?["state"] == "waiting", "{}", shown(&daemon)?);
    }
    Ok(())
}

#[test]
fn a_check_warns_of_what_is_in_the_way() -> Result<()> {
    needs_root!();
    let pair = Pair::new(&[])?;
    pair.server.ip("link add eth1 type bridge")?;
    pair.server.sysctl("net/ipv4/conf/eth1/rp_filter", "1")?;
    let section = "[announce]\nprefixes = [\"192.0.2.53\", \"198.51.100.53\"]\n";
    let mut setup = Setup::example(&["192.0.2.53", "198.51.100.53"]).and(section);
    setup.interfaces.push("eth1".to_owned());
    let check = |setup: &Setup| -> Result<String> {
        let home = Home::new()?;
        home.write(setup)?;
        let mut command = pair.server.command(geodns_tests::built::binary()?);
        let output = command.arg("check").arg(home.config()).output()?;
        ensure!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let said = check(&setup)?;
    ensure!(
        said.contains("server.listen: 198.51.100.53 is announced, and no interface"),
        "{said}"
    );
    ensure!(said.contains("rp_filter of eth1 is 1"), "{said}");
    ensure!(!said.contains("192.0.2.53 is announced"), "{said}");
    let said = check(&Setup::example(&["192.0.2.53"]).and("[announce]\n"))?;
    ensure!(
        said.contains("no address of it is on lo, so nothing is announced"),
        "{said}"
    );
    Ok(())
}

#[test]
fn overload_of_the_slow_path_is_no_failure() -> Result<()> {
    needs_root!();
    let pair = Pair::new(&[])?;
    // A busy machine may take the thread's time for longer than the usual silence.
    let daemon = Daemon::start(&pair.server, &setup("interval = \"1s\""))?;
    until(&pair, Some("100"), &|| daemon.log())?;
    // The program passes class CH: id.server TXT.
    let query = b"\x12\x34\0\0\0\x01\0\0\0\0\0\0\x02id\x06server\0\0\x10\0\x03";
    let over = AtomicBool::new(false);
    let sockets: Result<Vec<_>> = (0..3)
        .map(|_| pair.client.udp(ip("192.0.2.1"), at("192.0.2.53", 53)?))
        .collect();
    let sockets = sockets?;
    std::thread::scope(|scope| {
        for socket in &sockets {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    let _ = socket.send(query);
                }
            });
        }
        let watch = || -> Result<()> {
            let start = Instant::now();
            while start.elapsed() < Duration::from_secs(6) {
                let found = metrics(&pair)?;
                ensure!(found == ["100", "100"], "{found:?}\n{}", daemon.log());
                std::thread::sleep(Duration::from_millis(20));
            }
            Ok(())
        };
        let watched = watch();
        over.store(true, Ordering::Relaxed);
        watched
    })?;
    let slow = daemon.stats("slow")?;
    ensure!(
        slow.get("queries_udp").is_some_and(|count| *count > 50_000),
        "{slow:?}"
    );
    ensure!(shown(&daemon)?["failures"] == 0, "{}", shown(&daemon)?);
    Ok(())
}

//! Where is listened, and what is said where it cannot be: interfaces without addresses, interfaces in VRFs, and
//! capabilities that are missing.

use std::fs::File;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use geodns_tests::built::binary;
use geodns_tests::daemon::{Daemon, EXAMPLE_ZONE, Home, Setup, difference};
use geodns_tests::dns::{self, A, Query, Reply, TXT};
use geodns_tests::needs_root;
use geodns_tests::net::{Pair, Space, at, ip, output, run};

const SERVER: &str = "192.0.2.53";
const SERVER_V6: &str = "2001:db8::53";
const SOON: Duration = Duration::from_secs(10);

/// Waits until something holds.
fn until(what: &str, daemon: &Daemon, holds: impl Fn() -> Result<bool>) -> Result<()> {
    geodns_tests::until(what, holds).with_context(|| daemon.log())
}

fn complaints(daemon: &Daemon) -> Result<Vec<String>> {
    let status = daemon.json("status")?;
    Ok(serde_json::from_value(status["not_listening"].clone())?)
}

#[test]
fn without_an_address_log_and_status_say_so_until_there_is_one() -> Result<()> {
    needs_root!();
    let pair = Pair::bare(&[])?;
    pair.server.ip("address flush dev eth0 scope global")?;
    let mut daemon = Daemon::start(&pair.server, &Setup::example(&[]).mode("generic"))?;
    let warning = "no address to listen on: eth0 has only link-local ones, ";
    daemon.logged(warning)?;
    daemon.logged("; no address to listen on")?;
    let said = complaints(&daemon)?;
    ensure!(said.len() == 1 && said[0].starts_with(warning), "{said:?}");
    let shown = daemon.ok("status")?;
    ensure!(shown.contains(warning), "{shown}");

    let query = Query::new("mail.example.org", A).bytes();
    let answers = || -> Result<bool> {
        let socket = pair.client.udp(ip("192.0.2.1"), at(SERVER, 53)?)?;
        Ok(matches!(
            dns::ask(&socket, &query, Duration::from_millis(200)),
            Ok(Some(_))
        ))
    };
    for round in 1..=2 {
        pair.server.ip("address add 192.0.2.53/24 dev eth0")?;
        until("an address that comes is answered on", &daemon, answers)?;
        until("nothing is complained of", &daemon, || {
            Ok(complaints(&daemon)?.is_empty())
        })?;
        pair.server.ip("address del 192.0.2.53/24 dev eth0")?;
        until("the last one that goes is complained of", &daemon, || {
            Ok(!complaints(&daemon)?.is_empty())
        })?;
        let warned = daemon.log().matches(warning).count();
        ensure!(warned == 1 + round, "{warned} times:\n{}", daemon.log());
    }
    pair.server.sysctl("net/ipv6/conf/eth0/disable_ipv6", "1")?;
    until("that there is none at all", &daemon, || {
        let said = complaints(&daemon)?;
        Ok(said.iter().any(|line| line.contains("eth0 has none;")))
    })?;
    daemon.stop()
}

#[test]
fn an_address_that_cannot_be_bound_is_in_the_status_for_as_long_as_it_lasts() -> Result<()> {
    needs_root!();
    let pair = Pair::bare(&[])?;
    let mut daemon = Daemon::start(&pair.server, &Setup::example(&[]).mode("off"))?;
    ensure!(complaints(&daemon)?.is_empty());
    let taken = pair.server.enter(|| {
        // Free until the address is there, so that this socket has it first.
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::DGRAM, None)?;
        socket.set_freebind_v4(true)?;
        socket.bind(&at("192.0.2.60", 53)?.into())?;
        Ok(socket)
    })?;
    pair.server.ip("address add 192.0.2.60/24 dev eth0")?;
    until("an address that is taken", &daemon, || {
        let said = complaints(&daemon)?;
        Ok(said.len() == 1
            && said[0].starts_with("192.0.2.60 port 53 (UDP): address already in use"))
    })?;
    drop(taken);
    daemon.ok("reload")?;
    ensure!(complaints(&daemon)?.is_empty());
    daemon.stop()
}

/// Whether the kernel has VRFs; a test that needs them says so if not.
fn has_vrfs(test: &str) -> Result<bool> {
    let space = Space::new("vrf")?;
    match space.ip("link add blue type vrf table 10") {
        Err(error) if error.to_string().contains("Unknown device type") => {
            geodns_tests::skipped(test, "this kernel has no VRFs");
            Ok(false)
        }
        // Anything else is for the test itself to run into.
        _ => Ok(true),
    }
}

/// Asks over UDP what the program answers, over UDP what the slow path does, and over TCP.
fn is_answered(pair: &Pair, daemon: &Daemon, server: &str, has_program: bool) -> Result<()> {
    let from = match ip(server).is_ipv4() {
        true => ip("192.0.2.1"),
        false => ip("2001:db8::1"),
    };
    let big = Query::new("big.example.org", TXT).edns(1232);
    for (query, fast) in [(Query::new("www.example.org", A), true), (big, false)] {
        let what = || format!("{query:?} of {server}");
        let before = match has_program {
            true => daemon.counters()?,
            false => Default::default(),
        };
        let socket = pair.client.udp(from, at(server, 53)?)?;
        let reply = dns::ask(&socket, &query.bytes(), SOON).with_context(what)?;
        let reply = Reply::parse(&reply.with_context(what)?)?;
        ensure!(!reply.answers.is_empty(), "{}: {reply:?}", what());
        if has_program {
            let counted = difference(&before, &daemon.counters()?);
            ensure!(counted.contains_key("answered") == fast, "{counted:?}");
        }
        let mut stream = pair.client.tcp(from, at(server, 53)?).with_context(what)?;
        let reply = dns::ask_tcp(&mut stream, &query.bytes()).with_context(what)?;
        ensure!(!Reply::parse(&reply)?.answers.is_empty());
    }
    Ok(())
}

#[test]
fn an_interface_in_a_vrf_is_answered_on_over_udp_and_tcp() -> Result<()> {
    needs_root!();
    if !has_vrfs("an_interface_in_a_vrf_is_answered_on_over_udp_and_tcp")? {
        return Ok(());
    }
    let pair = Pair::new(&[])?;
    let addresses = "address replace 192.0.2.53/24 dev eth0
         address replace 2001:db8::53/64 dev eth0 nodad";
    pair.server.ip_batch(&format!(
        "link add blue type vrf table 10
         link set blue up
         link set eth0 master blue
         {addresses}"
    ))?;
    let mut zone = EXAMPLE_ZONE.to_owned();
    for number in 0..3 {
        zone += &format!("big IN TXT \"{number}{}\"\n", "x".repeat(200));
    }
    for (listen, mode) in [
        (&[][..], "native"),
        (&[SERVER, SERVER_V6][..], "native"),
        (&[SERVER, SERVER_V6][..], "off"),
    ] {
        let setup = Setup::example(listen)
            .mode(mode)
            .file("example.org.zone", &zone);
        let mut daemon = Daemon::start(&pair.server, &setup)?;
        let has_program = mode != "off";
        for server in [SERVER, SERVER_V6] {
            is_answered(&pair, &daemon, server, has_program)
                .with_context(|| format!("in the VRF, {listen:?}, {mode}:\n{}", daemon.log()))?;
        }
        // Out of it, and back.
        for (change, says) in [
            (
                "link set eth0 nomaster",
                "192.0.2.53: answered on from now on",
            ),
            (
                "link set eth0 master blue",
                "192.0.2.53 in VRF blue: answered on from now on",
            ),
        ] {
            pair.server.ip_batch(&format!("{change}\n{addresses}"))?;
            daemon.logged(says)?;
            until("the addresses are followed", &daemon, || {
                let status = daemon.json("status")?;
                let listen: Vec<String> = serde_json::from_value(status["listen"].clone())?;
                Ok([SERVER, SERVER_V6]
                    .iter()
                    .all(|&at| listen.iter().any(|of| of == at)))
            })?;
            std::thread::sleep(Duration::from_millis(300));
            for server in [SERVER, SERVER_V6] {
                is_answered(&pair, &daemon, server, has_program)
                    .with_context(|| format!("{change}:\n{}", daemon.log()))?;
            }
        }
        daemon.stop()?;
    }
    Ok(())
}

/// Runs geodns without these capabilities until it ends or its output has this text; gives the output.
fn run_without(space: &Space, setup: &Setup, capabilities: &str, text: &str) -> Result<String> {
    let home = Home::new()?;
    home.write(setup)?;
    let log = home.folder.path().join("log");
    let mut child = space
        .command("setpriv")
        .arg(format!("--inh-caps={capabilities}"))
        .arg(format!("--bounding-set={capabilities}"))
        .arg(binary()?)
        .args(["run", "--config"])
        .arg(home.config())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(File::create(&log)?)
        .spawn()
        .context("cannot run setpriv")?;
    let end = Instant::now() + SOON;
    let said = || std::fs::read_to_string(&log);
    while child.try_wait()?.is_none() {
        let has_said = said()?;
        if has_said.contains(text) || Instant::now() > end {
            child.kill()?;
            child.wait()?;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(said()?)
}

#[test]
fn a_capability_that_is_missing_is_named_and_how_to_give_it() -> Result<()> {
    needs_root!();
    let pair = Pair::bare(&[])?;
    let with_program = Setup::example(&[SERVER]).mode("generic");
    let without_program = Setup::example(&[SERVER]).mode("off");
    let checked = "id = \"ams\"\ncheck = { type = \"icmp\" }\n";
    let pinging = Setup::example(&[SERVER])
        .mode("off")
        .but("id = \"ams\"\n", checked);
    let ambient = "AmbientCapabilities=CAP_";
    let ready = "ready: ";
    for (setup, capabilities, says) in [
        (&with_program, "-bpf", &["without CAP_BPF: ", ambient][..]),
        (
            &with_program,
            "-net_admin",
            &["without CAP_NET_ADMIN: ", ambient],
        ),
        (
            &with_program,
            "-perfmon",
            &["without CAP_PERFMON: ", ambient],
        ),
        (
            &with_program,
            "-all,+net_bind_service",
            &["without CAP_BPF, CAP_NET_ADMIN, CAP_PERFMON: ", ambient],
        ),
        (
            &with_program,
            "-net_bind_service",
            &[SERVER, "CAP_NET_BIND_SERVICE", ambient],
        ),
        (
            &without_program,
            "-net_bind_service",
            &["CAP_NET_BIND_SERVICE", ambient],
        ),
        // What nobody needs who does not use it.
        (&without_program, "-all,+net_bind_service", &[ready]),
        (&with_program, "-net_raw,-dac_override", &[ready]),
        (&pinging, "-net_raw", &["CAP_NET_RAW"]),
    ] {
        // The last that is said is what the start or the check has come to.
        let what = says.last().copied().unwrap_or_default();
        let said = run_without(&pair.server, setup, capabilities, what)?;
        let line = said.lines().rev().find(|line| line.contains(what));
        let line = line.with_context(|| format!("{capabilities}: {what:?} is not said: {said}"))?;
        for part in says {
            ensure!(line.contains(part), "{capabilities}: {part:?}: {said}");
        }
        ensure!(!said.contains("verifier"), "{said}");
    }
    Ok(())
}

#[test]
fn who_we_are_is_told_as_configured_and_to_nobody_where_that_is_off() -> Result<()> {
    needs_root!();
    let pair = Pair::new(&[])?;
    let mut setup = Setup::example(&[SERVER]);
    let mut daemon = Daemon::start(&pair.server, &setup)?;
    let dig = |words: &str| -> Result<String> {
        let mut dig = pair.client.command("dig");
        dig.arg(format!("@{SERVER}")).args(["+tries=1", "+time=3"]);
        let done = output(dig.args(words.split_whitespace()))?;
        Ok(String::from_utf8(done.stdout)?)
    };
    for (lines, id, nsid, version) in [
        ("", None, None, Some("geodns ")),
        (
            "identity = \"ams1\"\nversion = \"DNS\"\n",
            Some("ams1"),
            Some("ams1"),
            Some("\"DNS\""),
        ),
        (
            "identity = false\nversion = false\n",
            Some(""),
            Some(""),
            Some(""),
        ),
        (
            "identity = false\nnsid = \"n1\"\n",
            Some(""),
            Some("n1"),
            Some("geodns "),
        ),
        (
            "identity = \"ams1\"\nnsid = false\n",
            Some("ams1"),
            Some(""),
            Some("geodns "),
        ),
    ] {
        setup.server = lines.into();
        daemon.home.write(&setup)?;
        daemon.ok("reload")?;
        let host = run(std::process::Command::new("uname").arg("-n"))?;
        let host = host.trim();
        for (name, expected) in [
            ("id.server", id.unwrap_or(host)),
            ("hostname.bind", id.unwrap_or(host)),
            ("version.bind", version.unwrap_or_default()),
            ("version.server", version.unwrap_or_default()),
        ] {
            let said = dig(&format!("{name} CH TXT"))?;
            match expected {
                "" => ensure!(said.contains("status: REFUSED"), "{lines}: {said}"),
                text => ensure!(
                    said.contains("status: NOERROR") && said.contains(text),
                    "{lines}: {said}"
                ),
            }
        }
        // Of a pool, whom the program answers, and over TCP, whom the slow path does.
        for way in ["+notcp", "+tcp"] {
            let said = dig(&format!("{way} +nsid www.example.org A"))?;
            ensure!(said.contains("status: NOERROR"), "{said}");
            match nsid.unwrap_or(host) {
                "" => ensure!(!said.contains("NSID"), "{lines}: {said}"),
                text => ensure!(said.contains(&format!("(\"{text}\")")), "{lines}: {said}"),
            }
        }
    }
    daemon.stop()
}

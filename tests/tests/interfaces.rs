//! Interfaces that frames come in by in other ways than from a wire: from this machine itself, and for a bridge or a
//! macvlan upon the card.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use geodns_tests::daemon::{Daemon, Home, Setup, difference};
use geodns_tests::dns::{self, A, AAAA, ANY, PADDING, Query, Reply};
use geodns_tests::net::{Pair, Space, at, ip, run};
use geodns_tests::{needs_root, until};

const PATIENCE: Duration = Duration::from_secs(10);

/// Asks for a steered name and for ANY, and gives how many of the queries the program answered.
fn ask(daemon: &Daemon, client: &Space, from: IpAddr, server: &str) -> Result<u64> {
    let before = daemon.counters()?;
    for query in [
        Query::new("www.example.org", A),
        Query::new("www.example.org", A).edns(1232),
        Query::new("mail.example.org", A),
        Query::new("www.example.org", ANY),
    ] {
        let socket = client.udp(from, at(server, 53)?)?;
        let reply = dns::ask(&socket, &query.bytes(), PATIENCE)?;
        let reply = reply.with_context(|| format!("{query:?}: {:?}", daemon.counters()))?;
        ensure!(!Reply::parse(&reply)?.answers.is_empty(), "{query:?}");
    }
    let counted: BTreeMap<String, u64> = difference(&before, &daemon.counters()?);
    let of = |name: &str| counted.get(name).copied().unwrap_or(0);
    Ok(of("answered") + of("static"))
}

/// A client on the same machine leaves checksums to a card that there is none of; one that a bridge passes the answer
/// to may have none either.
#[test]
fn queries_with_unfinished_checksums_are_answered_right() -> Result<()> {
    needs_root!();
    let [server, between, client] = ["server", "between", "client"].map(Space::new);
    let (server, between, client) = (server?, between?, client?);
    for (space, inner) in [(&server, "ports"), (&client, "portc")] {
        space.ip(&format!(
            "link add eth0 type veth peer name {inner} netns {}",
            between.name()
        ))?;
        space.ip("link set eth0 up")?;
    }
    between.ip_batch(
        "link add br0 type bridge
         link set ports master br0
         link set portc master br0
         link set ports up
         link set portc up
         link set br0 up",
    )?;
    for (space, host) in [(&server, 53), (&client, 1)] {
        space.ip(&format!("address add 192.0.2.{host}/24 dev eth0"))?;
        space.ip(&format!("address add 2001:db8::{host}/64 dev eth0 nodad"))?;
    }
    // The mode for a veth is the generic one.
    let mut daemon = Daemon::start(&server, &Setup::example(&[]).mode("auto"))?;
    for offload in ["on", "off", "on"] {
        // Its card finishes checksums, or they stay as they are and nobody minds.
        for port in ["ports", "portc"] {
            run(between.command("ethtool").args(["-K", port, "tx", offload]))?;
        }
        for (from, to) in [("192.0.2.1", "192.0.2.53"), ("2001:db8::1", "2001:db8::53")] {
            let answered = ask(&daemon, &client, ip(from), to)
                .with_context(|| format!("{to}, tx of the bridge's ports {offload}"))?;
            ensure!(answered == 3, "{to}: {answered}, {:?}", daemon.counters()?);
        }
    }
    daemon.stop()
}

#[test]
fn frames_for_a_bridge_and_for_a_macvlan_are_answered_natively() -> Result<()> {
    needs_root!();
    let pair = Pair::new(&[])?;
    pair.server.ip_batch(
        "address flush dev eth0
         link add br0 type bridge
         link set br0 address 02:00:00:00:00:b0
         link set eth0 master br0
         link set br0 up
         address add 192.0.2.53/24 dev br0
         address add 2001:db8::53/64 dev br0 nodad",
    )?;
    let setup = Setup::example(&[]).mode("native");
    let mut daemon = Daemon::start(&pair.server, &setup)?;
    let both = [("192.0.2.1", "192.0.2.53"), ("2001:db8::1", "2001:db8::53")];
    for (from, to) in both {
        ensure!(ask(&daemon, &pair.client, ip(from), to)? == 3, "{to}");
    }
    // Followed: the bridge's MAC address changes; the addresses move to a macvlan.
    pair.server.ip("link set br0 address 02:00:00:00:00:b1")?;
    pair.client.ip("neigh flush dev eth0")?;
    moved(&daemon, &pair, "the bridge has another MAC address")?;
    pair.server.ip_batch(
        "link set eth0 nomaster
         link del br0
         link add mv0 link eth0 type macvlan mode bridge
         link set mv0 up
         address add 192.0.2.53/24 dev mv0
         address add 2001:db8::53/64 dev mv0 nodad",
    )?;
    pair.client.ip("neigh flush dev eth0")?;
    moved(&daemon, &pair, "a macvlan has the addresses")?;
    for (from, to) in both {
        ensure!(ask(&daemon, &pair.client, ip(from), to)? == 3, "{to}");
    }
    daemon.stop()
}

/// Waits until the program answers what it can, of both families.
fn moved(daemon: &Daemon, pair: &Pair, what: &str) -> Result<()> {
    until(what, || {
        let v4 = ask(daemon, &pair.client, ip("192.0.2.1"), "192.0.2.53");
        let v6 = ask(daemon, &pair.client, ip("2001:db8::1"), "2001:db8::53");
        Ok(matches!((v4, v6), (Ok(3), Ok(3))))
    })
}

/// The head of a frame that the stack made for a veth has some 210 octets of room, the tail often no more than 30.
#[test]
fn an_answer_may_take_the_room_of_head_and_tail_together() -> Result<()> {
    needs_root!();
    for mode in ["native", "generic"] {
        let pair = Pair::new(&[])?;
        let setup = Setup::world("pools_of_every_shape", &["192.0.2.53"]).mode(mode);
        let mut daemon = Daemon::start(&pair.server, &setup)?;
        // The program takes queries of 512 octets at the most.
        for padding in (300..=460).step_by(4) {
            let query = Query::new("many.example.org", AAAA).edns(1232);
            let query = query.option(PADDING, &vec![0; padding]).bytes();
            let before = daemon.counters()?;
            let socket = pair.client.udp(ip("192.0.2.1"), at("192.0.2.53", 53)?)?;
            let reply = dns::ask(&socket, &query, PATIENCE)?.context("no answer")?;
            ensure!(Reply::parse(&reply)?.answers.len() == 24);
            let counted = difference(&before, &daemon.counters()?);
            if !counted.contains_key("answered") {
                let grows = reply.len() - query.len();
                ensure!(grows > 240, "{mode}, by {grows}: {counted:?}");
                ensure!(counted.contains_key("pass_no_room"), "{counted:?}");
            }
        }
        daemon.stop()?;
    }
    Ok(())
}

#[test]
fn a_card_may_be_named_after_what_stands_upon_it() -> Result<()> {
    needs_root!();
    let pair = Pair::new(&[])?;
    pair.server.ip_batch(
        "link add mv0 link eth0 type macvlan mode bridge
         link set mv0 up",
    )?;
    let mut setup = Setup::example(&[]).mode("auto");
    setup.interfaces = ["mv0", "eth0"].map(str::to_owned).into();
    let mut daemon = Daemon::start(&pair.server, &setup)?;
    ensure!(ask(&daemon, &pair.client, ip("192.0.2.1"), "192.0.2.53")? == 3);
    daemon.stop()
}

/// An interface that does not take the program says why, in the driver's words, and what to do.
#[test]
fn a_refusal_says_why_and_what_to_name_instead() -> Result<()> {
    needs_root!();
    let pair = Pair::new(&[])?;
    pair.server.ip_batch(
        "link add mv0 link eth0 type macvlan mode bridge
         link add br0 type bridge
         link add port0 type veth peer name port1
         link set port0 master br0
         tuntap add dev tun0 mode tun",
    )?;
    for (interface, says) in [
        (
            "br0",
            &[
                "takes no program in native mode: \"",
                "does not support XDP",
                "(port0)",
            ][..],
        ),
        ("mv0", &["does not support XDP", "name eth0 instead"]),
        ("lo", &["loopback", "name the card"]),
        ("tun0", &["no Ethernet header"]),
    ] {
        let mut setup = Setup::example(&[]).mode("native");
        setup.interfaces = vec![interface.into()];
        let home = Home::new()?;
        home.write(&setup)?;
        let done = Daemon::attempt(&pair.server, &home, &setup)?;
        let text = String::from_utf8(done.stderr)?;
        let last = text.lines().last().unwrap_or_default();
        ensure!(done.status.code() == Some(1), "{interface}: {text}");
        for part in says {
            ensure!(
                last.contains(part),
                "{interface}: does not say {part}: {last}"
            );
        }
    }
    Ok(())
}

#[test]
fn the_status_keeps_the_reason_for_generic_mode() -> Result<()> {
    needs_root!();
    let pair = Pair::new(&[])?;
    pair.server.ip_batch(
        "link add mv0 link eth0 type macvlan mode bridge
         link set mv0 up
         address add 198.51.100.53/24 dev mv0",
    )?;
    for (interface, mode, says) in [
        ("eth0", "auto", "this is a veth"),
        ("eth0", "generic", "kernel.mode is \"generic\""),
        ("mv0", "auto", "name eth0 instead"),
    ] {
        let mut setup = Setup::example(&[]).mode(mode);
        setup.interfaces = vec![interface.into()];
        let mut daemon = Daemon::start(&pair.server, &setup)?;
        let status = daemon.json("status")?;
        let reason = status["interfaces"][0]["reason"].as_str();
        ensure!(
            reason.is_some_and(|reason| reason.contains(says)),
            "{status}"
        );
        let text = daemon.ok("status")?;
        ensure!(
            text.contains(&format!("{interface} is generic: ")),
            "{text}"
        );
        daemon.stop()?;
    }
    Ok(())
}

/// An interface may be named by an alternative name, which stays when somebody renames it.
#[test]
fn an_alternative_name_stays_when_the_interface_is_renamed() -> Result<()> {
    needs_root!();
    let pair = Pair::new(&[])?;
    pair.server
        .ip("link property add dev eth0 altname uplink.0")?;
    let mut setup = Setup::example(&[]).mode("native");
    setup.interfaces = vec!["uplink.0".into()];
    let mut daemon = Daemon::start(&pair.server, &setup)?;
    let (from, to) = (ip("192.0.2.1"), "192.0.2.53");
    ensure!(ask(&daemon, &pair.client, from, to)? == 3);
    let attached = |daemon: &Daemon| {
        let log = daemon.log();
        log.matches("attached in native mode").count()
    };
    ensure!(attached(&daemon) == 1, "{}", daemon.log());
    // Kernels before 6.2 rename an interface only while it is down.
    if pair.server.ip("link set eth0 name wan5").is_ok() {
        ensure!(ask(&daemon, &pair.client, from, to)? == 3);
        daemon.ok("reload")?;
        ensure!(ask(&daemon, &pair.client, from, to)? == 3);
        ensure!(attached(&daemon) == 1, "{}", daemon.log());
    }
    // The next daemon takes it over.
    daemon.crash()?;
    daemon.again(&pair.server, &setup)?;
    daemon.logged("taken over")?;
    ensure!(ask(&daemon, &pair.client, from, to)? == 3);
    daemon.stop()
}

/// A veth's driver drops what it sends if nobody is there to take it.
#[test]
fn answers_that_the_driver_drops_are_told() -> Result<()> {
    needs_root!();
    let pair = Pair::bare(&[])?;
    let mut daemon = Daemon::start(&pair.server, &Setup::example(&[]).mode("native"))?;
    let dropped = || -> Result<u64> {
        let stats = daemon.json("stats")?;
        let dropped = stats["interfaces"][0]["dropped_by_driver"].as_u64();
        dropped.with_context(|| format!("not told: {stats}"))
    };
    ensure!(dropped()? == 0);
    let socket = pair.client.udp(ip("192.0.2.1"), at("192.0.2.53", 53)?)?;
    socket.send(&Query::new("www.example.org", A).bytes())?;
    until("the driver counts it", || Ok(dropped()? == 1))?;
    ensure!(daemon.ok("stats")?.contains("LOST BY DRIVER"));
    daemon.stop()
}

#[test]
fn a_change_of_a_card_under_the_program_is_told() -> Result<()> {
    needs_root!();
    let pair = Pair::new(&[])?;
    let mut daemon = Daemon::start(&pair.server, &Setup::example(&[]).mode("native"))?;
    pair.server.ip("link set eth0 mtu 3000")?;
    daemon.logged("eth0: its MTU is 3000, and was 1500 when the program was attached")?;
    daemon.logged("ip link set dev eth0 mtu 1500")?;
    let changed = daemon.json("status")?["changed_settings"].take();
    ensure!(
        changed[0]["interface"] == "eth0" && changed[0]["harmful"] == true,
        "{changed}"
    );
    let said = "its MTU is 3000, and was 1500";
    ensure!(daemon.ok("status")?.contains(said));

    let line = daemon.exits("status --check", &[1])?;
    ensure!(line.contains(said), "{line}");
    pair.server.ip("link set eth0 mtu 1500")?;
    daemon.logged("eth0: its MTU is 1500 again")?;
    daemon.ok("status --check")?;
    daemon.stop()
}

//! Untagged, 802.1Q and QinQ; native and generic; IPv4 and IPv6; steering by the client's network;
//! TCP; large answers: over real interfaces, and with the tags put into the frames by hand where the
//! kernel has no VLAN interfaces.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use geodns_tests::daemon::{Daemon, Setup, difference};
use geodns_tests::dns::{self, A, AAAA, ANY, Query, Reply, TXT};
use geodns_tests::needs_root;
use geodns_tests::net::{Pair, Space, at};
use geodns_tests::packet::Frame;
use geodns_tests::tap::Tap;

/// How long something may take, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long one attempt of many may take.
const TRY: Duration = Duration::from_millis(500);

/// A network on the wire: its number, and the interface that it is on at both ends.
type Network = (u8, &'static str);
const UNTAGGED: [Network; 1] = [(0, "eth0")];
const TAGGED: [Network; 2] = [(10, "eth0.10"), (20, "eth0.100.20")];

/// The example, and 30 mirrors: too many for the fast path and for UDP.
fn setup(listen: &[&str], mode: &str) -> Setup {
    let mut body = String::new();
    let mut ids = Vec::new();
    for number in 0..30 {
        ids.push(format!("m{number}"));
        body.push_str(&format!(
            "[[mirror]]\nid = \"m{number}\"\n\
             addresses = [\"203.0.113.{0}\", \"2001:db8:f::{number:x}\", \"2001:db8:f:1::{number:x}\"]\n",
            100 + number
        ));
    }
    for (id, count) in [("ten", 10), ("all", 30)] {
        body.push_str(&format!(
            "[[pool]]\nid = {id:?}\nmirrors = {:?}\npolicy = \"all\"\n\
             [[steer]]\nname = \"{id}.example.org\"\npool = {id:?}\n",
            &ids[..count]
        ));
    }
    Setup::example(listen).mode(mode).and(&body)
}

/// One wire with a network untagged, or with two: 802.1Q tag 10, and 802.1ad tag 100 around 802.1Q
/// tag 20. The server is .53 (::53) in each; a client of network N comes from 10.1.N.1, 10.2.N.1,
/// fd01:N::1 and fd02:N::1.
fn wire(networks: &[Network]) -> Result<Pair> {
    let pair = Pair::new(&[])?;
    if networks == TAGGED {
        // A veth takes frames with one tag more than its MTU says, not with two.
        for (space, host) in [(&pair.server, "53"), (&pair.client, "1")] {
            space.ip_batch(&format!(
                "link add link eth0 name eth0.10 type vlan protocol 802.1Q id 10
                 link add link eth0 name eth0.100 type vlan protocol 802.1ad id 100
                 link add link eth0.100 name eth0.100.20 mtu 1496 type vlan protocol 802.1Q id 20
                 link set eth0.10 up
                 link set eth0.100 up
                 link set eth0.100.20 up
                 address add 198.51.10.{host}/24 dev eth0.10
                 address add 198.51.20.{host}/24 dev eth0.100.20
                 address add 2001:db8:10::{host}/64 dev eth0.10 nodad
                 address add 2001:db8:20::{host}/64 dev eth0.100.20 nodad"
            ))?;
        }
    }
    for &(number, _) in networks {
        let (v4, v6) = (gateway(number, false), gateway(number, true));
        for side in [1, 2] {
            pair.client.ip_batch(&format!(
                "address add 10.{side}.{number}.1/32 dev lo
                 address add fd0{side}:0:{number}::1/128 dev lo nodad"
            ))?;
            pair.server.ip_batch(&format!(
                "route add 10.{side}.{number}.0/24 via {v4}
                 route add fd0{side}:0:{number}::/48 via {v6}"
            ))?;
        }
    }
    Ok(pair)
}

/// Whether the kernel has VLAN interfaces; a test that needs them says so if not.
fn has_vlan_interfaces(test: &str) -> Result<bool> {
    let space = Space::new("vlan")?;
    match space.ip("link add link lo name vlan1 type vlan id 1") {
        Err(error) if error.to_string().contains("Unknown device type") => {
            geodns_tests::skipped(test, "this kernel has no VLAN interfaces");
            Ok(false)
        }
        // Anything else is for the test itself to run into.
        _ => Ok(true),
    }
}

fn network(number: u8, v6: bool) -> String {
    match (number, v6) {
        (0, false) => "192.0.2.".into(),
        (0, true) => "2001:db8::".into(),
        (_, false) => format!("198.51.{number}."),
        (_, true) => format!("2001:db8:{number}::"),
    }
}

fn gateway(number: u8, v6: bool) -> String {
    network(number, v6) + "1"
}

fn server(number: u8, v6: bool) -> String {
    network(number, v6) + "53"
}

fn check(daemon: &Daemon, client: &Space, number: u8) -> Result<()> {
    for v6 in [false, true] {
        let to = at(&server(number, v6), 53)?;
        for (side, a, aaaa) in [
            (1, "198.51.100.10", "2001:db8:2::10"),
            (2, "203.0.113.10", "2001:db8:3::10"),
        ] {
            let from: IpAddr = if v6 {
                format!("fd0{side}:0:{number}::1").parse()?
            } else {
                format!("10.{side}.{number}.1").parse()?
            };
            let what = || format!("from {from} to {to}");
            let socket = client.udp(from, to)?;
            let ask = |query: &Query| -> Result<(Reply, Vec<u8>, Vec<String>)> {
                let before = daemon.counters()?;
                let bytes = dns::ask(&socket, &query.bytes(), PATIENCE)?
                    .with_context(|| format!("no answer {}", what()))?;
                let counted = difference(&before, &daemon.counters()?);
                let reply = Reply::parse(&bytes)?;
                Ok((reply, bytes, counted.into_keys().collect()))
            };
            for (qtype, rtype, want) in [(A, "A", a), (AAAA, "AAAA", aaaa)] {
                for query in [
                    Query::new("www.example.org", qtype),
                    Query::new("WwW.eXample.org", qtype).edns(1232),
                ] {
                    let (reply, bytes, counted) = ask(&query)?;
                    ensure!(reply.of(rtype) == [want], "{}: {reply}", what());
                    ensure!(
                        counted.iter().any(|name| name == "answered"),
                        "{}: not by the kernel: {counted:?}",
                        what()
                    );
                    let mut stream = client.tcp(from, to)?;
                    for _ in 0..2 {
                        ensure!(
                            dns::ask_tcp(&mut stream, &query.bytes())? == bytes,
                            "{}: TCP differs",
                            what()
                        );
                    }
                }
            }
            // From the zone file; and from the slow path, through the same tags.
            let (reply, _, counted) = ask(&Query::new("www.example.org", TXT))?;
            ensure!(
                reply.of("TXT") == ["\"steered by geodns\""],
                "{}: {reply}",
                what()
            );
            ensure!(counted.iter().any(|name| name == "static"), "{counted:?}");
            let (reply, _, counted) = ask(&Query::new("www.example.org", ANY))?;
            ensure!(reply.answers.len() == 1, "{}: {reply}", what());
            ensure!(
                counted.iter().any(|name| name == "pass_qtype"),
                "{counted:?}"
            );
            // Twenty addresses in one answer, 593 octets: of the kernel, if the frame has the room.
            let (reply, _, counted) = ask(&Query::new("ten.example.org", AAAA).edns(1232))?;
            ensure!(reply.of("AAAA").len() == 20, "{}: {reply}", what());
            let by_kernel = |name: &String| name == "answered" || name == "pass_no_room";
            ensure!(counted.iter().any(by_kernel), "{counted:?}");
            // Sixty are for TCP.
            let query = Query::new("all.example.org", AAAA).edns(1232);
            let (reply, ..) = ask(&query)?;
            ensure!(reply.flags & dns::TC != 0, "{}: {reply}", what());
            let reply = Reply::parse(&dns::ask_tcp(&mut client.tcp(from, to)?, &query.bytes())?)?;
            ensure!(reply.of("AAAA").len() == 60, "{}: {reply}", what());
        }
    }
    Ok(())
}

fn clients_are_answered(networks: &[Network], mode: &str) -> Result<()> {
    let pair = wire(networks)?;
    let listen: Vec<String> = networks
        .iter()
        .flat_map(|&(number, _)| [server(number, false), server(number, true)])
        .collect();
    let listen: Vec<&str> = listen.iter().map(String::as_str).collect();
    let mut daemon = Daemon::start(&pair.server, &setup(&listen, mode))?;
    let status = daemon.json("status")?;
    ensure!(
        status["interfaces"][0]["mode"] == mode,
        "attached otherwise: {status}"
    );
    for &(number, interface) in networks {
        check(&daemon, &pair.client, number)
            .with_context(|| format!("on {interface}, {mode}:\n{}", daemon.log()))?;
    }
    daemon.stop()
}

#[test]
fn untagged_clients_are_answered_in_native_mode() -> Result<()> {
    needs_root!();
    clients_are_answered(&UNTAGGED, "native")
}

#[test]
fn untagged_clients_are_answered_in_generic_mode() -> Result<()> {
    needs_root!();
    clients_are_answered(&UNTAGGED, "generic")
}

#[test]
fn clients_in_vlans_are_answered_in_native_mode() -> Result<()> {
    needs_root!();
    if !has_vlan_interfaces("clients_in_vlans_are_answered_in_native_mode")? {
        return Ok(());
    }
    clients_are_answered(&TAGGED, "native")
}

#[test]
fn clients_in_vlans_are_answered_in_generic_mode() -> Result<()> {
    needs_root!();
    if !has_vlan_interfaces("clients_in_vlans_are_answered_in_generic_mode")? {
        return Ok(());
    }
    clients_are_answered(&TAGGED, "generic")
}

/// Frames with every kind of tag, sent and received as they are on the wire: those of VLANs that the server has are
/// answered, others not.
fn frames_are_answered(test: &str, mode: &str) -> Result<()> {
    let pair = Pair::new(&[])?;
    let has_vlans = has_vlan_interfaces(test)?;
    if has_vlans {
        pair.server.ip_batch(
            "link add link eth0 name eth0.10 type vlan protocol 802.1Q id 10
             link add link eth0 name eth0.100 type vlan protocol 802.1ad id 100
             link add link eth0.100 name eth0.100.20 type vlan protocol 802.1Q id 20
             link set eth0.10 up
             link set eth0.100 up
             link set eth0.100.20 up",
        )?;
    }
    let setup = setup(&["192.0.2.53", "2001:db8::53"], mode);
    let mut daemon = Daemon::start(&pair.server, &setup)?;
    let octets = |space: &Space| -> Result<[u8; 6]> {
        let mac = space.mac("eth0")?;
        let octets: Vec<u8> = mac
            .split(':')
            .map(|octet| u8::from_str_radix(octet, 16))
            .collect::<Result<_, _>>()?;
        octets.try_into().ok().context("six octets")
    };
    let macs = [octets(&pair.server)?, octets(&pair.client)?];
    let tap = Tap::new(&pair.client, "eth0")?;
    // Whether the server has the VLAN: in none, with a priority alone, and in those above.
    let tags: [(bool, &[(u16, u16)]); 8] = [
        (true, &[]),
        (true, &[(0x8100, 0xe000)]),
        (has_vlans, &[(0x8100, 0x600a)]),
        (has_vlans, &[(0x88a8, 0x0064), (0x8100, 0xe014)]),
        (false, &[(0x8100, 0x0064)]),
        (false, &[(0x8100, 0x000b)]),
        (false, &[(0x8100, 0x000a), (0x8100, 0x0014)]),
        (false, &[(0x8100, 0x0001), (0x8100, 0x0002)]),
    ];
    let mut answered = 0;
    for (is_ours, tags) in tags {
        for (client, server, a) in [
            ("10.1.0.1", "192.0.2.53", "198.51.100.10"),
            ("10.2.0.1", "192.0.2.53", "203.0.113.10"),
            ("fd01::1", "2001:db8::53", "198.51.100.10"),
            ("fd02::1", "2001:db8::53", "203.0.113.10"),
        ] {
            // 20 addresses, 593 octets: a query has to be long for a veth's frame to grow so much.
            let mut ten = Query::new("ten.example.org", AAAA);
            ten = ten.edns(1232).option(dns::PADDING, &[0; 400]);
            for (query, records) in [
                (Query::new("www.example.org", A), 1),
                (Query::new("wWw.example.org", A).edns(1232), 1),
                (ten, 20),
            ] {
                let mut frame = Frame::new(client, server, query.bytes());
                frame.macs = macs;
                frame.tags = tags.to_vec();
                let what = || format!("{mode}, tags {tags:x?}, from {client}");
                let before = daemon.counters()?;
                tap.send(&frame.bytes())?;
                let patience = match is_ours {
                    true => PATIENCE,
                    false => Duration::from_millis(100),
                };
                let back = tap.receive(patience, |seen| {
                    Frame::parse(seen).is_some_and(|seen| seen.source == frame.destination)
                })?;
                if !is_ours {
                    ensure!(back.is_none(), "{}: answered", what());
                    let counted = difference(&before, &daemon.counters()?);
                    ensure!(
                        counted.contains_key("pass_other_address"),
                        "{}: {counted:?}",
                        what()
                    );
                    continue;
                }
                let back = back.with_context(|| format!("{}: no answer", what()))?;
                let reply = Reply::parse(frame.response(&back).with_context(what)?)?;
                ensure!(reply.answers.len() == records, "{}: {reply}", what());
                ensure!(records > 1 || reply.of("A") == [a], "{}: {reply}", what());
                answered += 1;
            }
        }
    }
    ensure!(daemon.counters()?["answered"] == answered);
    if has_vlans {
        // A VLAN that goes is not answered in any longer.
        let mut frame = Frame::new(
            "10.1.0.1",
            "192.0.2.53",
            Query::new("www.example.org", A).bytes(),
        );
        frame.macs = macs;
        frame.tags = vec![(0x8100, 10)];
        let is_answered = |patience: Duration| -> Result<bool> {
            tap.send(&frame.bytes())?;
            let back = tap.receive(patience, |seen| {
                Frame::parse(seen).is_some_and(|seen| seen.source == frame.destination)
            })?;
            Ok(back.is_some())
        };
        ensure!(is_answered(PATIENCE)?, "{mode}: the VLAN is there");
        pair.server.ip("link del eth0.10")?;
        let end = Instant::now() + PATIENCE;
        while is_answered(Duration::from_millis(200))? {
            ensure!(Instant::now() < end, "{mode}: the VLAN has gone");
        }
    }
    daemon.stop()
}

#[test]
fn tagged_frames_are_answered_in_native_mode() -> Result<()> {
    needs_root!();
    frames_are_answered("tagged_frames_are_answered_in_native_mode", "native")
}

#[test]
fn tagged_frames_are_answered_in_generic_mode() -> Result<()> {
    needs_root!();
    frames_are_answered("tagged_frames_are_answered_in_generic_mode", "generic")
}

#[test]
fn without_listen_the_interfaces_own_addresses_are_answered_and_followed() -> Result<()> {
    needs_root!();
    let pair = Pair::new(&["10.1.0.1", "fd01::1"])?;
    let mut daemon = Daemon::start(&pair.server, &Setup::example(&[]))?;
    let answered = |from: &str, to: &str, patience: Duration| -> Result<bool> {
        let socket = pair.client.udp(from.parse()?, at(to, 53)?)?;
        let query = Query::new("www.example.org", A).bytes();
        let before = daemon.counters()?;
        // Refused while nobody listens there.
        let Ok(Some(bytes)) = dns::ask(&socket, &query, patience) else {
            return Ok(false);
        };
        ensure!(Reply::parse(&bytes)?.of("A") == ["198.51.100.10"]);
        Ok(difference(&before, &daemon.counters()?).contains_key("answered"))
    };
    for (from, to) in [
        ("10.1.0.1", "192.0.2.53"),
        ("10.1.0.1", "192.0.2.54"),
        ("fd01::1", "2001:db8::53"),
    ] {
        ensure!(answered(from, to, PATIENCE)?, "{to} is the interface's");
    }
    pair.server.ip("address add 192.0.2.99/24 dev eth0")?;
    pair.server.ip("address del 192.0.2.54/24 dev eth0")?;
    let follow = |what: &str, holds: &dyn Fn() -> Result<bool>| -> Result<()> {
        let end = Instant::now() + PATIENCE;
        while !holds()? {
            ensure!(Instant::now() < end, "{what}, not yet:\n{}", daemon.log());
            std::thread::sleep(Duration::from_millis(100));
        }
        Ok(())
    };
    follow("a new address is answered", &|| {
        answered("10.1.0.1", "192.0.2.99", TRY)
    })?;
    follow("a deleted one is not", &|| {
        answered("10.1.0.1", "192.0.2.54", TRY).map(|answered| !answered)
    })?;
    daemon.stop()
}

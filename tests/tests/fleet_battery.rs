//! Two nodes of a fleet, one with the program in the driver and one without, that have everything from the shared state:
//! both paths give the same octets, before and after a bundle.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use geodns_tests::bundles::Bundles;
use geodns_tests::daemon::{Daemon, Setup};
use geodns_tests::dns::{A, AAAA, COOKIE, ECS, Query, TXT};
use geodns_tests::etcd::{Cluster, Setup as EtcdSetup};
use geodns_tests::needs_root;
use geodns_tests::net::ip;
use geodns_tests::twins::Twins;

/// Clients, and the mirror that each gets from the prefix list of `www`.
const CLIENTS: [(&str, &str); 6] = [
    ("10.1.0.1", "iad"),
    ("10.2.3.4", "sin"),
    ("10.9.0.1", "ams"),
    ("20.2.0.1", "sin"),
    ("fd01::1", "iad"),
    ("fd02:0:0:ffff::1", "sin"),
];

/// Asks both, each client for its address, and has the program count all as answered.
fn steered(twins: &mut Twins, mirror_of: impl Fn(&str, &str) -> &'static str) -> Result<()> {
    twins.counted()?;
    let mut asked = 0;
    for (client, listed) in CLIENTS {
        let mirror = mirror_of(client, listed);
        for qtype in [A, AAAA] {
            for query in [
                Query::new("www.example.org", qtype),
                Query::new("a.cdn.example.org", qtype).edns(1232),
            ] {
                let said = twins.ask(ip(client), &query)?.addresses();
                let want = address(mirror, qtype);
                ensure!(said == want, "{client}: {said}, not {want}");
                asked += 1;
            }
        }
    }
    twins.all_counted("answered", asked)
}

fn address(mirror: &str, qtype: u16) -> &'static str {
    match (mirror, qtype) {
        ("ams", A) => "192.0.2.10",
        ("ams", _) => "2001:db8:1::10",
        ("iad", A) => "198.51.100.10",
        ("iad", _) => "2001:db8:2::10",
        (_, A) => "203.0.113.10",
        (_, _) => "2001:db8:3::10",
    }
}

// Invariant 1
#[test]
fn both_paths_answer_alike_from_what_the_fleet_gave_them() -> Result<()> {
    needs_root!();
    let pair = Twins::place()?;
    let home = IpAddr::from(Ipv4Addr::LOCALHOST);
    let cluster = Cluster::within(&[(&pair.server, home)], EtcdSetup::default())?;
    let bundles = Bundles::new()?;
    let world = Setup::world("pools_of_every_shape", &[])
        .but("secrets = [\"e5e973e5a6b2a43f48e7dc849e37bfcf\"]", "");
    let section = format!("{}{}", cluster.section("test"), bundles.trusted_keys());
    let node = |name: &str| {
        let mut setup = world.clone().and(&section);
        setup.server = format!("identity = {name:?}\n");
        setup
    };
    // Where the operator is.
    let mut setup = node("desk").mode("off");
    setup.listen = vec!["127.0.0.1".to_owned()];
    setup.port = 5353;
    let desk = Daemon::start(&pair.server, &setup)?;
    desk.ok("fleet init")?;
    desk.ok("map set 10.2.0.0/16 iad --pool www")?;
    let mut twins = Twins::start_each(pair, [&node("fast"), &node("slow")])?;
    twins.ok("fleet join --yes")?;
    // What was there when they joined.
    let before = |client: &str, listed: &str| match (client, listed) {
        ("10.2.3.4", _) => "iad",
        (_, "iad") => "iad",
        (_, "sin") => "sin",
        _ => "ams",
    };
    steered(&mut twins, before)?;
    // What has come since.
    let import = cluster.file("import.csv");
    std::fs::write(&import, "prefix,mirror\n20.0.0.0/8,iad\nfd01::/16,ams\n")?;
    for words in [
        "map set 10.9.0.0/16 sin --pool www",
        "map del 10.2.0.0/16 --pool www",
        &format!("map import {} --pool www", import.display()),
        "acme set www.example.org token",
        "block add --name blocked.example.org",
        "mirror down iad",
    ] {
        desk.ok(&format!("{words} --wait all"))?;
    }
    let after = |client: &str, _: &str| match client {
        "10.9.0.1" | "10.2.3.4" => "sin",
        "20.2.0.1" | "fd01::1" | "10.1.0.1" => "ams",
        _ => "sin",
    };
    let all = |twins: &mut Twins| -> Result<()> {
        // The second choice of those who would get `iad` is the default.
        steered(twins, after)?;
        let from = ip("10.9.0.1");
        let www = || Query::new("www.example.org", A);
        twins.ask(from, &www().option(ECS, &[0, 1, 16, 0, 10, 2]))?;
        let token = Query::new("_acme-challenge.www.example.org", TXT);
        let reply = format!("{:?}", twins.ask(from, &token)?.answers);
        ensure!(reply.contains("token"), "{reply}");
        // The cookie is made by the fleet's secret, within the second.
        let cookie = www().option(COOKIE, &[1, 2, 3, 4, 5, 6, 7, 8]);
        twins.until("the same cookie", |twins| {
            let [fast, slow] = twins.ask_each(from, &cookie)?;
            Ok(fast == slow)
        })?;
        let blocked = Query::new("blocked.example.org", A).bytes();
        let silence = twins.send(from, &blocked, Duration::from_millis(60))?;
        ensure!(silence == [None, None], "{silence:?}");
        Ok(())
    };
    all(&mut twins)?;

    // A bundle: overrides, words, rules and tokens stand over it.
    let mut bundle = world.clone();
    for (name, content) in &mut bundle.files {
        if name == "example.org.zone" {
            content.extend_from_slice(b"\nbundle.example.org. 60 IN TXT \"new\"\n");
        }
    }
    let bundle = bundles.make(1, &bundle)?;
    desk.ok(&format!("fleet apply {} --wait 0s", bundle.display()))?;
    let query = Query::new("bundle.example.org", TXT);
    twins.counted()?;
    let reply = format!("{:?}", twins.ask(ip("10.1.0.1"), &query)?.answers);
    ensure!(reply.contains("new"), "{reply}");
    twins.all_counted("static", 1)?;
    all(&mut twins)?;
    twins.stop().context("at the end")
}

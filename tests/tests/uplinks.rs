//! A node with two uplinks: the program answers by the interface that a query came in by, the slow path by the routing
//! table, which may be the other one.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use geodns_tests::built::binary;
use geodns_tests::daemon::{Daemon, Setup};
use geodns_tests::dns::{self, A, Query};
use geodns_tests::needs_root;
use geodns_tests::net::{Space, at, ip, join};
use geodns_tests::sites::{V4, V6};
use serde_json::Value;

/// How long something may take, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// Addresses of the clients that are routers themselves: behind `eth0`, and behind `eth1`.
const CLIENTS: [[&str; 2]; 2] = [
    ["203.0.113.1", "2001:db8:c::1"],
    ["203.0.113.2", "2001:db8:c::2"],
];
/// Names of the node's interfaces, in the order of [`CLIENTS`].
const UPLINKS: [&str; 2] = ["eth0", "eth1"];

/// Queries that are counted on their way.
const COUNT: u64 = 50;

/// A node between two routers. Its default route is by `eth0`. The routers are joined.
struct World {
    node: Space,
    routers: [Space; 2],
}

impl World {
    fn new() -> Result<Self> {
        let node = Space::new("node")?;
        let routers = [Space::new("r0")?, Space::new("r1")?];
        join(&routers[0], "peer", &routers[1], "peer")?;
        node.ip_batch(&format!(
            "address add {V4}/32 dev lo\naddress add {V6}/128 dev lo nodad\n"
        ))?;
        for (number, router) in routers.iter().enumerate() {
            let (uplink, other) = (UPLINKS[number], 1 - number);
            join(&node, uplink, router, "node")?;
            router.attach("node", "pass")?;
            router.sysctl("net/ipv4/ip_forward", "1")?;
            router.sysctl("net/ipv6/conf/all/forwarding", "1")?;
            node.ip_batch(&format!(
                "address add 10.77.{number}.2/24 dev {uplink}
                 address add fd77:{number}::2/64 dev {uplink} nodad
                 route add default via 10.77.{number}.1 metric 10{number}
                 route add default via fd77:{number}::1 metric 10{number}"
            ))?;
            let [v4, v6] = CLIENTS[number];
            let [other_v4, other_v6] = CLIENTS[other];
            router.ip_batch(&format!(
                "address add 10.77.{number}.1/24 dev node
                 address add fd77:{number}::1/64 dev node nodad
                 address add 10.79.0.1{number}/24 dev peer
                 address add fd79::1{number}/64 dev peer nodad
                 address add {v4}/32 dev lo
                 address add {v6}/128 dev lo nodad
                 route add {other_v4}/32 via 10.79.0.1{other}
                 route add {other_v6}/128 via fd79::1{other}"
            ))?;
        }
        let world = Self { node, routers };
        world.join_node(0)?;
        world.join_node(1)?;
        Ok(world)
    }

    /// Gives a router its way to the anycast addresses. An interface that goes down loses that, and its IPv6 address.
    fn join_node(&self, number: usize) -> Result<()> {
        self.routers[number].ip_batch(&format!(
            "address replace fd77:{number}::1/64 dev node nodad
             route replace {V4}/32 via 10.77.{number}.2
             route replace {V6}/128 via fd77:{number}::2"
        ))
    }

    /// Asks as the client behind an uplink, over a family; whether there was an answer within the time.
    fn is_answered(
        &self,
        number: usize,
        family: usize,
        query: &[u8],
        time: Duration,
    ) -> Result<bool> {
        let to = at([V4, V6][family], 53)?;
        let socket = self.routers[number].udp(ip(CLIENTS[number][family]), to)?;
        Ok(dns::ask(&socket, query, time)?.is_some())
    }

    /// The packets that a router has taken from the node, or from the other router.
    fn received(&self, number: usize, interface: &str) -> Result<u64> {
        let shown = self.routers[number].ip(&format!("-j -s link show {interface}"))?;
        let shown: Value = serde_json::from_str(&shown)?;
        let packets = &shown[0]["stats64"]["rx"]["packets"];
        packets.as_u64().with_context(|| shown.to_string())
    }
}

fn setup() -> Setup {
    let section = "[announce]\nrise = \"0s\"\nhold_down = \"0s..0s\"\n";
    let mut setup = Setup::example(&[V4, V6]).and(section);
    setup.interfaces = UPLINKS.map(str::to_owned).to_vec();
    setup
}

/// Waits until the node is announced like this, and gives the announcement.
fn until(daemon: &Daemon, state: &str) -> Result<Value> {
    let start = Instant::now();
    loop {
        let found = daemon.json("announce list")?;
        if found["state"] == state {
            return Ok(found);
        }
        ensure!(start.elapsed() < PATIENCE, "{found}\n{}", daemon.log());
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Targets of checks of a kind that found no fault.
fn good<'a>(announcement: &'a Value, kind: &str) -> Vec<&'a str> {
    let checks = announcement["checks"].as_array().into_iter().flatten();
    let good = checks.filter(|check| check["check"] == kind && check["fault"].is_null());
    good.filter_map(|check| check["target"].as_str()).collect()
}

/// Answered by the kernel.
fn hot() -> Vec<u8> {
    Query::new("www.example.org", A).bytes()
}

/// Answered by the slow path: class CH, id.server TXT.
fn slow() -> Vec<u8> {
    b"\x12\x34\0\0\0\x01\0\0\0\0\0\0\x02id\x06server\0\0\x10\0\x03".to_vec()
}

#[test]
fn both_uplinks_are_answered_unless_rp_filter_is_strict_and_a_check_warns_of_that() -> Result<()> {
    needs_root!();
    let world = World::new()?;
    let daemon = Daemon::start(&world.node, &setup())?;
    let found = until(&daemon, "up")?;
    for uplink in UPLINKS {
        for address in [V4, V6] {
            let target = format!("{uplink} {address}");
            ensure!(
                good(&found, "program").contains(&target.as_str()),
                "{found}"
            );
        }
    }
    for filter in ["0", "2", "1"] {
        world.node.sysctl("net/ipv4/conf/all/rp_filter", filter)?;
        for number in [0, 1] {
            for family in [0, 1] {
                let why = format!("rp_filter {filter}, uplink {number}, family {family}");
                ensure!(
                    world.is_answered(number, family, &hot(), PATIENCE)?,
                    "{why}: the kernel does not answer"
                );
                // The stack takes the queries of the second uplink for forged.
                let is_dropped = filter == "1" && number == 1 && family == 0;
                let time = match is_dropped {
                    true => Duration::from_millis(500),
                    false => PATIENCE,
                };
                ensure!(
                    world.is_answered(number, family, &slow(), time)? != is_dropped,
                    "{why}: the slow path"
                );
            }
        }
        let mut command = world.node.command(binary()?);
        let said = command.arg("check").arg(daemon.home.config()).output()?;
        let said = String::from_utf8_lossy(&said.stdout).into_owned();
        ensure!(
            said.contains("rp_filter of eth0 is 1") == (filter == "1"),
            "rp_filter {filter}: {said}"
        );
    }
    // Its questions to itself are local: they find nothing wrong.
    until(&daemon, "up")?;
    Ok(())
}

#[test]
fn the_program_answers_by_the_uplink_of_the_query_and_the_slow_path_by_the_default_route()
-> Result<()> {
    needs_root!();
    let world = World::new()?;
    let daemon = Daemon::start(&world.node, &setup())?;
    until(&daemon, "up")?;
    for (query, by_other) in [(hot(), false), (slow(), true)] {
        let before = (world.received(1, "node")?, world.received(1, "peer")?);
        for _ in 0..COUNT {
            ensure!(world.is_answered(1, 0, &query, PATIENCE)?);
        }
        let after = (world.received(1, "node")?, world.received(1, "peer")?);
        let [direct, other] = [after.0 - before.0, after.1 - before.1];
        // Neighbour discovery sends some packets, too.
        ensure!((direct >= COUNT) != by_other, "{direct} from the node");
        ensure!((other >= COUNT) == by_other, "{other} by the other router");
    }
    Ok(())
}

#[test]
fn a_node_stays_up_while_one_uplink_has_a_carrier() -> Result<()> {
    needs_root!();
    let world = World::new()?;
    // As a routing daemon would, the kernel takes no way that is dead.
    world
        .node
        .sysctl("net/ipv4/conf/all/ignore_routes_with_linkdown", "1")?;
    world
        .node
        .sysctl("net/ipv6/conf/all/ignore_routes_with_linkdown", "1")?;
    let daemon = Daemon::start(&world.node, &setup())?;
    until(&daemon, "up")?;
    for lost in [0, 1] {
        let (router, left) = (&world.routers[lost], 1 - lost);
        router.ip("link set node down")?;
        let start = Instant::now();
        loop {
            let found = daemon.json("announce list")?;
            let program = good(&found, "program");
            if !program.contains(&UPLINKS[lost]) && program.contains(&UPLINKS[left]) {
                ensure!(good(&found, "carrier") == ["eth0, eth1"], "{found}");
                break;
            }
            ensure!(start.elapsed() < PATIENCE, "{found}");
        }
        for family in [0, 1] {
            for query in [hot(), slow()] {
                let is_answered = world.is_answered(left, family, &query, PATIENCE)?;
                ensure!(is_answered, "without {}: family {family}", UPLINKS[lost]);
            }
        }
        let found = until(&daemon, "up")?;
        ensure!(found["failures"] == 0, "{found}");
        router.ip("link set node up")?;
        world.join_node(lost)?;
        let start = Instant::now();
        while !good(&daemon.json("announce list")?, "program").contains(&UPLINKS[lost]) {
            ensure!(start.elapsed() < PATIENCE, "{}", daemon.log());
        }
    }
    for router in &world.routers {
        router.ip("link set node down")?;
    }
    let found = until(&daemon, "last-resort")?;
    ensure!(found["why"] == "carrier eth0, eth1: none", "{found}");
    for router in &world.routers {
        router.ip("link set node up")?;
    }
    until(&daemon, "up")?;
    Ok(())
}

//! Three daemons vote on mirrors through a real etcd. Each site has mirrors of its own at the same addresses, so a test
//! decides what each node sees.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use geodns_tests::daemon::{Daemon, Setup};
use geodns_tests::dns::{A, Query, Reply};
use geodns_tests::etcd::{Cluster, Setup as EtcdSetup, Triangle};
use geodns_tests::needs_root;
use geodns_tests::net::at;
use nix::sys::signal::Signal;

const PATIENCE: Duration = Duration::from_secs(30);
const MIRRORS: [(&str, &str); 3] = [
    ("ams", "192.0.2.10"),
    ("iad", "198.51.100.10"),
    ("sin", "203.0.113.10"),
];
const CONFIGURATION: &str = r#"
[[zone]]
name = "example.org"
file = "example.org.zone"
[[pool]]
id = "www"
mirrors = ["ams", "iad", "sin"]
policy = "failover"
ttl = 60
[[steer]]
name = "www.example.org"
pool = "www"
"#;

struct World {
    cluster: Cluster,
    daemons: Vec<Daemon>,
    /// By site and mirror.
    mirrors: Vec<Vec<Option<TcpListener>>>,
}

impl World {
    fn new(quorum: &str) -> Result<Self> {
        let cluster = Cluster::three(EtcdSetup::default())?;
        let mut world = Self {
            cluster,
            daemons: Vec::new(),
            mirrors: Vec::new(),
        };
        for number in 1..=3 {
            let space = &world.cluster.triangle().spaces[number - 1];
            space.ip("link set lo up")?;
            let mut mirrors = Vec::new();
            for (_, address) in MIRRORS {
                space.ip(&format!("address add {address}/32 dev lo"))?;
                let listener = space.enter(|| Ok(TcpListener::bind((address, 80))?))?;
                mirrors.push(Some(listener));
            }
            world.mirrors.push(mirrors);
            let address = Triangle::address(number as u8).to_string();
            let mut body = CONFIGURATION.to_owned();
            for (id, address) in MIRRORS {
                body += &format!(
                    "[[mirror]]\nid = {id:?}\naddresses = [{address:?}]\n\
                     check = {{ type = \"tcp\", port = 80, interval = \"200ms\", fall = 2, rise = 2 }}\n"
                );
            }
            body += &format!("[quorum]\n{quorum}\n{}", world.cluster.section("test"));
            let mut setup = Setup::example(&[&address]).mode("off").body(&body);
            setup.server = format!("identity = \"n{number}\"\n");
            let space = &world.cluster.triangle().spaces[number - 1];
            let daemon = Daemon::start(space, &setup)?;
            daemon.ok(match number {
                1 => "fleet init",
                _ => "fleet join --yes",
            })?;
            world.daemons.push(daemon);
        }
        for node in 0..3 {
            world.until(node, "ams", true, "0 of 3 nodes say down")?;
        }
        Ok(world)
    }

    /// A mirror as one site sees it.
    fn set(&mut self, site: usize, mirror: usize, up: bool) -> Result<()> {
        let space = &self.cluster.triangle().spaces[site];
        self.mirrors[site][mirror] = match up {
            true => {
                let address = MIRRORS[mirror].1;
                Some(space.enter(|| Ok(TcpListener::bind((address, 80))?))?)
            }
            false => None,
        };
        Ok(())
    }

    /// Waits until a node has a mirror in service or not, for this reason.
    fn until(&self, node: usize, mirror: &str, in_service: bool, why: &str) -> Result<Duration> {
        let start = Instant::now();
        loop {
            let shown = self.daemons[node].json(&format!("mirror show {mirror}"))?;
            let says = shown["why"].as_str().context("no why")?;
            if shown["in_service"] == in_service && says.contains(why) {
                return Ok(start.elapsed());
            }
            ensure!(
                start.elapsed() < PATIENCE,
                "n{}: {shown}\n{}",
                node + 1,
                self.daemons[node].log()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// The address that a node answers with.
    fn answer(&self, node: usize) -> Result<String> {
        let space = &self.cluster.triangle().spaces[node];
        let address = Triangle::address(node as u8 + 1);
        let socket = space.udp(address, at(&address.to_string(), 53)?)?;
        let query = Query::new("www.example.org", A).bytes();
        let reply = geodns_tests::dns::ask(&socket, &query, Duration::from_secs(5))?;
        Ok(Reply::parse(&reply.context("no answer")?)?.addresses())
    }
}

#[test]
fn a_mirror_is_down_when_most_nodes_say_so() -> Result<()> {
    needs_root!();
    let mut world = World::new("")?;
    // One node alone cannot reach it.
    world.set(0, 0, false)?;
    for node in 0..3 {
        world.until(node, "ams", true, "1 of 3 nodes say down")?;
        ensure!(world.answer(node)?.contains(MIRRORS[0].1));
    }
    let dead = Instant::now();
    world.set(1, 0, false)?;
    for node in 0..3 {
        world.until(node, "ams", false, "2 of 3 nodes say down")?;
        ensure!(!world.answer(node)?.contains(MIRRORS[0].1), "n{node}");
    }
    println!("decided everywhere after {:?}", dead.elapsed());
    // Operators stand above.
    world.daemons[2].ok("mirror up ams --wait all")?;
    for node in 0..3 {
        world.until(node, "ams", true, "the operator says up")?;
    }
    world.daemons[2].ok("mirror auto ams --wait all")?;
    world.set(0, 0, true)?;
    for node in 0..3 {
        world.until(node, "ams", true, "1 of 3 nodes say down")?;
    }
    Ok(())
}

#[test]
fn a_node_with_a_dead_uplink_moves_nobody_and_goes_on() -> Result<()> {
    needs_root!();
    let mut world = World::new("")?;
    for mirror in 0..3 {
        world.set(2, mirror, false)?;
    }
    let abstains = "each node goes by its own checks of mirrors: 2 of 3 nodes have a vote";
    for daemon in &world.daemons {
        daemon.logged(abstains)?;
    }
    for node in 0..2 {
        world.until(node, "ams", true, "")?;
    }
    // Its own checks have everything down, which it does not believe.
    world.until(2, "ams", false, "")?;
    for node in 0..3 {
        ensure!(world.answer(node)?.contains(MIRRORS[0].1), "n{node}");
    }
    Ok(())
}

#[test]
fn without_etcd_own_checks_decide_after_ten_seconds() -> Result<()> {
    needs_root!();
    let mut world = World::new("")?;
    for member in 0..3 {
        world.cluster.signal(member, Signal::SIGSTOP)?;
    }
    let gone = Instant::now();
    world.set(1, 2, false)?;
    std::thread::sleep(Duration::from_secs(6));
    world.until(1, "sin", true, "of 3 nodes say down")?;
    world.until(1, "sin", false, "found down")?;
    ensure!(
        gone.elapsed() > Duration::from_secs(9),
        "{:?}",
        gone.elapsed()
    );
    world.until(0, "sin", true, "")?;
    for member in 0..3 {
        world.cluster.signal(member, Signal::SIGCONT)?;
    }
    for node in 0..3 {
        world.until(node, "sin", true, "1 of 3 nodes say down")?;
    }
    Ok(())
}

#[test]
fn a_mirror_that_one_node_cannot_reach_can_go_last_there() -> Result<()> {
    needs_root!();
    let mut world = World::new("local = \"avoid\"")?;
    world.set(1, 0, false)?;
    world.until(1, "ams", true, "so it goes last here")?;
    world.until(0, "ams", true, "1 of 3 nodes say down")?;
    ensure!(world.answer(0)?.contains(MIRRORS[0].1));
    ensure!(!world.answer(1)?.contains(MIRRORS[0].1));
    Ok(())
}

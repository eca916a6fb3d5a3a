//! Real BIRD and real FRR carry the routes of announced nodes, by the configuration that `geodns announce config`
//! prints: clients move as the states say, and no answer is lost that need not be.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use geodns_tests::daemon::{Daemon, Setup};
use geodns_tests::needs_root;
use geodns_tests::sites::asker::{Asker, Course};
use geodns_tests::sites::routing::{Bird, Detection, Frr};
use geodns_tests::sites::{self, Site, Sites, V4, V6};
use nix::sys::signal::Signal;
use serde_json::Value;

/// A node with `[announce]`.
fn setup(number: usize, more: &str) -> Setup {
    let section = format!(
        "\n[announce]\nprefixes = [\"{V4}\", \"{V6}\"]\nrise = \"1s\"\nhold_down = \"2s..1m\"\n{more}\n"
    );
    sites::setup(number).and(&section)
}

/// The configuration of a node's BIRD or FRR, as geodns prints it.
fn printed(daemon: &Daemon, routing: &str, number: usize) -> Result<String> {
    let config = daemon.home.config();
    daemon.ok(&format!(
        "announce config {routing} --config {} --neighbour 10.77.{number}.1=6500{number} --neighbour \
         fd77:{number}::1=6500{number}",
        config.display()
    ))
}

fn bird(site: &Site, daemon: &Daemon) -> Result<Bird> {
    let number = site.number;
    let printed = printed(daemon, "bird", number)?;
    let config = format!(
        "log stderr {{ warning, error, fatal, bug }};\nrouter id 10.77.{number}.2;\nprotocol device {{ }}\n{printed}"
    );
    Bird::start(&site.node, &config).with_context(|| config)
}

/// Sites with a daemon and a BIRD each, each client answered by its own site.
struct World {
    world: Sites,
    daemons: Vec<Daemon>,
    birds: Vec<Bird>,
    setups: Vec<Setup>,
}

impl World {
    fn new(count: usize, more: &str) -> Result<Self> {
        let world = Sites::new(count, Detection::Bfd)?;
        let (mut daemons, mut birds, mut setups) = (Vec::new(), Vec::new(), Vec::new());
        for site in &world.sites {
            let setup = setup(site.number, more);
            let daemon = Daemon::start(&site.node, &setup)?;
            birds.push(bird(site, &daemon)?);
            daemons.push(daemon);
            setups.push(setup);
        }
        let made = Self {
            world,
            daemons,
            birds,
            setups,
        };
        made.world.settle().with_context(|| made.told())?;
        Ok(made)
    }

    /// All that a failure needs to be understood.
    fn told(&self) -> String {
        let nodes = self.daemons.iter().zip(&self.birds);
        let nodes = nodes.map(|(daemon, bird)| {
            let routes = bird.ask("show route all").unwrap_or_default();
            format!("{}\n{routes}\n{}", daemon.log(), bird.log())
        });
        nodes.collect::<Vec<_>>().join("\n---\n")
    }

    /// Asks from client 1 while something happens to site 1, and for a time after. Gives how long it took until clients
    /// moved, and all that was asked.
    fn during(
        &mut self,
        event: impl FnOnce(&mut Self) -> Result<()>,
        after: Duration,
    ) -> Result<(Option<Duration>, Course)> {
        let asker = Asker::start(&self.world.sites[0].client, V4, 2000)?;
        std::thread::sleep(Duration::from_millis(300));
        let at = Instant::now();
        event(self)?;
        std::thread::sleep(after);
        let course = asker.finish()?;
        Ok((course.moved_from(1, at), course))
    }

    /// The route to the anycast address, as router 1 has it from its node, in full.
    fn at_router(&self) -> Result<String> {
        let bird = self.world.sites[0].bird.as_ref().context("no BIRD")?;
        bird.ask(&format!("show route protocol site4 all for {V4}"))
    }

    fn state(&self, number: usize) -> Result<String> {
        let (_, body) = self.daemons[number - 1].request("GET", "/v1/announce", "")?;
        let shown: Value = serde_json::from_str(&body)?;
        Ok(shown["state"].as_str().unwrap_or_default().to_owned())
    }

    fn until_state(&self, number: usize, state: &str) -> Result<()> {
        let start = Instant::now();
        while self.state(number)? != state {
            ensure!(
                start.elapsed() < Duration::from_secs(20),
                "{}, not {state}\n{}",
                self.state(number)?,
                self.told()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }
}

#[test]
fn each_state_has_its_mark_and_a_drain_loses_nothing() -> Result<()> {
    needs_root!();
    let mut world = World::new(2, "drain = \"1s\"")?;
    let route = world.at_router()?;
    ensure!(
        !route.contains("65535,0") && route.contains("as_path: 65053\n"),
        "{route}"
    );

    let drain = |world: &mut World| world.daemons[0].ok("announce drain").map(drop);
    let (moved, course) = world.during(drain, Duration::from_secs(1))?;
    ensure!(
        moved.is_some() && course.lost() == 0 && course.errors() == 0,
        "{moved:?} {}",
        course.lost()
    );
    let route = world.at_router()?;
    ensure!(route.contains("(65535,0)"), "{route}");

    let withdraw = |world: &mut World| world.daemons[0].ok("announce withdraw").map(drop);
    let (_, course) = world.during(withdraw, Duration::from_secs(3))?;
    ensure!(
        course.lost() == 0 && course.by(1) == 0,
        "{} lost",
        course.lost()
    );
    ensure!(world.state(1)? == "withdrawn", "{}", world.told());
    ensure!(
        !world.at_router()?.contains("as_path"),
        "{}",
        world.at_router()?
    );

    world.daemons[0].ok("announce up")?;
    world.world.settle()?;
    Ok(())
}

#[test]
fn stop_restart_and_upgrade_lose_no_answer() -> Result<()> {
    needs_root!();
    let mut world = World::new(2, "drain = \"1s\"")?;
    let stop = |world: &mut World| world.daemons[0].stop();
    let (moved, course) = world.during(stop, Duration::from_secs(1))?;
    ensure!(
        moved.is_some() && course.lost() == 0 && course.errors() == 0,
        "{} lost\n{}",
        course.lost(),
        world.told()
    );
    // The next one is another binary in the same place.
    let start = |world: &mut World| {
        let (node, setup) = (&world.world.sites[0].node, &world.setups[0]);
        world.daemons[0].again(node, setup)
    };
    let (_, course) = world.during(start, Duration::from_secs(4))?;
    ensure!(
        course.lost() == 0 && course.errors() == 0,
        "{} lost\n{}",
        course.lost(),
        world.told()
    );
    ensure!(course.by(1) > 0, "it is not back: {}", world.told());
    Ok(())
}

#[test]
fn clients_move_when_the_daemon_dies_and_hot_answers_go_on() -> Result<()> {
    needs_root!();
    let mut world = World::new(2, "")?;
    let crash = |world: &mut World| world.daemons[0].crash();
    let (moved, course) = world.during(crash, Duration::from_secs(1))?;
    let moved = moved.with_context(|| world.told())?;
    ensure!(moved < Duration::from_millis(100), "after {moved:?}");
    ensure!(
        course.lost() == 0 && course.errors() == 0,
        "{} lost",
        course.lost()
    );
    let route = world.at_router()?;
    ensure!(
        route.contains("as_path: 65053 65053 65053 65053"),
        "{route}"
    );

    // All of them are dead: nobody moves, and every kernel answers.
    let crash = |world: &mut World| world.daemons[1].crash();
    let (_, course) = world.during(crash, Duration::from_secs(1))?;
    ensure!(
        course.lost() == 0 && course.errors() == 0,
        "{} lost",
        course.lost()
    );
    world.world.settle()?;

    for number in [0, 1] {
        let (node, setup) = (&world.world.sites[number].node, &world.setups[number]);
        world.daemons[number].again(node, setup)?;
    }
    world.until_state(1, "up")?;
    world.until_state(2, "up")?;
    world.world.settle()?;
    Ok(())
}

#[test]
fn clients_move_when_the_slow_path_hangs_and_come_back() -> Result<()> {
    needs_root!();
    let mut world = World::new(2, "")?;
    let hang = |world: &mut World| world.daemons[0].signal(Signal::SIGSTOP);
    let (moved, course) = world.during(hang, Duration::from_secs(2))?;
    let moved = moved.with_context(|| world.told())?;
    ensure!(moved < Duration::from_secs(1), "after {moved:?}");
    ensure!(
        course.lost() == 0 && course.errors() == 0,
        "{} lost",
        course.lost()
    );
    world.daemons[0].signal(Signal::SIGCONT)?;
    world.world.settle()?;
    Ok(())
}

#[test]
fn a_routing_daemon_that_is_killed_or_comes_late_is_no_failure_of_the_node() -> Result<()> {
    needs_root!();
    let mut world = World::new(2, "")?;
    world.birds[0].signal(Signal::SIGKILL)?;
    world.world.wait_for(&[Some(2), Some(2)])?;
    ensure!(world.state(1)? == "up", "{}", world.told());
    let node = &world.world.sites[0].node;
    world.birds[0].again(node)?;
    world.world.settle()?;
    ensure!(world.state(1)? == "up", "{}", world.told());
    Ok(())
}

#[test]
fn frr_carries_the_states_too() -> Result<()> {
    needs_root!();
    let world = Sites::new(2, Detection::Bfd)?;
    let (mut daemons, mut frrs) = (Vec::new(), Vec::new());
    for site in &world.sites {
        // FRR prefers an address on lo to our route to it.
        for address in [V4, V6] {
            let address: IpAddr = address.parse()?;
            let (family, prefix) = match address {
                IpAddr::V4(_) => ("-4", format!("{address}/32")),
                IpAddr::V6(_) => ("-6", format!("{address}/128")),
            };
            site.node
                .ip(&format!("{family} addr del {prefix} dev lo"))?;
            site.node
                .ip(&format!("{family} route add local {prefix} dev lo"))?;
        }
        let daemon = Daemon::start(&site.node, &setup(site.number, "drain = \"1s\""))?;
        let number = site.number;
        let printed = printed(&daemon, "frr", number)?;
        let config = printed.replace(
            "router bgp 65053\n",
            &format!("router bgp 65053\n bgp router-id 10.77.{number}.2\n"),
        );
        let config = format!("frr defaults datacenter\n{config}");
        frrs.push(Frr::start(&site.node, &config).with_context(|| config)?);
        daemons.push(daemon);
    }
    world
        .settle()
        .with_context(|| frrs[0].log() + &daemons[0].log())?;
    let asker = Asker::start(&world.sites[0].client, V4, 1000)?;
    daemons[0].ok("announce drain")?;
    world.wait_for(&[Some(2), Some(2)])?;
    daemons[0].ok("announce up")?;
    world.settle()?;
    daemons[0].ok("announce withdraw")?;
    world.wait_for(&[Some(2), Some(2)])?;
    daemons[0].ok("announce up")?;
    world.settle()?;
    let course = asker.finish()?;
    ensure!(
        course.lost() == 0 && course.errors() == 0,
        "{} lost",
        course.lost()
    );
    daemons[0].crash()?;
    world.wait_for(&[Some(2), Some(2)])?;
    Ok(())
}

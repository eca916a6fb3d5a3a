//! Real BIRD and real FRR carry the routes of announced nodes, by the configuration that `geodns announce config`
//! prints: clients move as the states say, and no answer is lost that need not be.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use geodns_tests::daemon::{Daemon, Setup};
use geodns_tests::sites::asker::{Asker, Course};
use geodns_tests::sites::routing::{Bird, Detection, Frr, Kind, Routing};
use geodns_tests::sites::{self, Site, Sites, V4, V6};
use geodns_tests::{needs_root, until};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
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

/// The routing daemon of a node, by the configuration that geodns prints.
fn routing(kind: Kind, site: &Site, daemon: &Daemon) -> Result<Routing> {
    let number = site.number;
    match kind {
        Kind::Bird => {
            let config = format!(
                "log stderr {{ warning, error, fatal, bug }};\nrouter id 10.77.{number}.2;\nprotocol device {{ }}\n{}",
                printed(daemon, "bird", number)?
            );
            let bird = Bird::start(&site.node, &config).with_context(|| config)?;
            Ok(Routing::Bird(bird))
        }
        Kind::Frr => {
            let config = printed(daemon, "frr", number)?.replace(
                "router bgp 65053\n",
                &format!("router bgp 65053\n bgp router-id 10.77.{number}.2\n"),
            );
            let config = format!("frr defaults datacenter\n{config}");
            let frr = Frr::start(&site.node, &config).with_context(|| config)?;
            Ok(Routing::Frr(frr))
        }
    }
}

/// Sites with a daemon and a routing daemon each, each client answered by its own site.
struct World {
    world: Sites,
    daemons: Vec<Daemon>,
    routings: Vec<Routing>,
    setups: Vec<Setup>,
}

impl World {
    /// Routers do not give up a node that a busy machine stops for a moment.
    fn new(kind: Kind, count: usize, more: &str) -> Result<Self> {
        let world = Sites::new(count, Detection::Default)?;
        let (mut daemons, mut routings, mut setups) = (Vec::new(), Vec::new(), Vec::new());
        for site in &world.sites {
            if kind == Kind::Frr {
                site.deliver_by_routes()?;
            }
            let setup = setup(site.number, more);
            let daemon = Daemon::start(&site.node, &setup)?;
            routings.push(routing(kind, site, &daemon)?);
            daemons.push(daemon);
            setups.push(setup);
        }
        let made = Self {
            world,
            daemons,
            routings,
            setups,
        };
        made.world.settle().with_context(|| made.told())?;
        Ok(made)
    }

    /// All that a failure needs to be understood.
    fn told(&self) -> String {
        let nodes = self.daemons.iter().zip(&self.routings);
        let nodes = nodes.map(|(daemon, routing)| {
            let routes = match routing {
                Routing::Bird(bird) => bird.ask("show route all").unwrap_or_default(),
                Routing::Frr(_) => String::new(),
            };
            format!("{}\n{routes}\n{}", daemon.log(), routing.log())
        });
        nodes.collect::<Vec<_>>().join("\n---\n")
    }

    /// Asks from client 1 while something happens to site 1, and until each client is answered by this site: no answer
    /// is lost. Gives how long it took until clients moved, and all that was asked.
    fn during(
        &mut self,
        event: impl FnOnce(&mut Self) -> Result<()>,
        then: [usize; 2],
    ) -> Result<(Option<Duration>, Course)> {
        let asker = Asker::start(&self.world.sites[0].client, V4, 500)?;
        std::thread::sleep(Duration::from_millis(300));
        let at = Instant::now();
        event(self)?;
        let waited = self.world.wait_for(&then.map(Some));
        waited.with_context(|| self.told())?;
        std::thread::sleep(Duration::from_millis(500));
        let course = asker.finish()?;
        ensure!(
            course.lost() == 0 && course.errors() == 0,
            "{} lost, {} errors\n{}",
            course.lost(),
            course.errors(),
            self.told()
        );
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

    /// The process that holds the device of site 1.
    fn holder(&self) -> Result<Pid> {
        self.world.sites[0].holder()
    }

    /// Starts the daemon of site 1 from another binary, which takes the place of the one in this folder.
    fn upgrade(&mut self, folder: &Path, version: &str) -> Result<()> {
        self.daemons[0].set_binary(place(folder, version)?);
        self.daemons[0].again(&self.world.sites[0].node, &self.setups[0])
    }

    fn until_state(&self, number: usize, state: &str) -> Result<()> {
        let start = Instant::now();
        while self.state(number)? != state {
            ensure!(
                start.elapsed() < Duration::from_secs(60),
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
fn each_state_has_its_mark_and_a_drain_loses_nothing_by_bird() -> Result<()> {
    needs_root!();
    marks(Kind::Bird)
}

#[test]
fn each_state_has_its_mark_and_a_drain_loses_nothing_by_frr() -> Result<()> {
    needs_root!();
    marks(Kind::Frr)
}

fn marks(kind: Kind) -> Result<()> {
    let mut world = World::new(kind, 2, "drain = \"1s\"")?;
    let route = world.at_router()?;
    ensure!(
        !route.contains("65535,0") && route.contains("as_path: 65053\n"),
        "{route}"
    );

    let drain = |world: &mut World| world.daemons[0].ok("announce drain").map(drop);
    let (moved, _) = world.during(drain, [2, 2])?;
    ensure!(moved.is_some(), "{}", world.told());
    let route = world.at_router()?;
    ensure!(route.contains("(65535,0)"), "{route}");

    let withdraw = |world: &mut World| {
        world.daemons[0].ok("announce withdraw")?;
        world.until_state(1, "withdrawn")
    };
    let (_, course) = world.during(withdraw, [2, 2])?;
    ensure!(course.by(1) == 0, "{}", world.told());
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
    let mut world = World::new(Kind::Bird, 2, "drain = \"1s\"")?;
    let folder = tempfile::tempdir()?;
    let stop = |world: &mut World| world.daemons[0].stop();
    let (moved, _) = world.during(stop, [2, 2])?;
    ensure!(moved.is_some(), "{}", world.told());
    let upgrade = |world: &mut World| world.upgrade(folder.path(), "1");
    let (_, course) = world.during(upgrade, [1, 2])?;
    ensure!(course.by(1) > 0, "it is not back: {}", world.told());

    // The binary of a running daemon is replaced, and the daemon crashes: the next one takes its holder over.
    let holder = world.holder()?;
    let crash_and_upgrade = |world: &mut World| {
        place(folder.path(), "2")?;
        world.daemons[0].crash()?;
        world.upgrade(folder.path(), "3")?;
        world.until_state(1, "up")
    };
    world.during(crash_and_upgrade, [1, 2])?;
    ensure!(world.holder()? == holder, "{}", world.told());
    // A daemon whose binary is gone starts holders like itself.
    place(folder.path(), "4")?;
    let kill_holder = |world: &mut World| Ok(kill(world.holder()?, Signal::SIGKILL)?);
    world.during(kill_holder, [1, 2])?;
    ensure!(world.holder()? != holder, "{}", world.told());
    Ok(())
}

/// Puts another binary in the place of the one in a folder, as a package manager does.
fn place(folder: &Path, version: &str) -> Result<PathBuf> {
    let (new, place) = (folder.join("new"), folder.join("geodns"));
    std::fs::copy(geodns_tests::built::binary()?, &new)?;
    // What stands behind its sections is not loaded.
    let mut file = std::fs::File::options().append(true).open(&new)?;
    file.write_all(version.as_bytes())?;
    drop(file);
    std::fs::rename(&new, &place)?;
    Ok(place)
}

#[test]
fn clients_move_when_the_daemon_dies_and_hot_answers_go_on_by_bird() -> Result<()> {
    needs_root!();
    dies(Kind::Bird)
}

#[test]
fn clients_move_when_the_daemon_dies_and_hot_answers_go_on_by_frr() -> Result<()> {
    needs_root!();
    dies(Kind::Frr)
}

fn dies(kind: Kind) -> Result<()> {
    // The holder does not wait for the silence of the daemon, which would be 15 s here.
    let mut world = World::new(kind, 2, "interval = \"5s\"")?;
    let crash = |world: &mut World| world.daemons[0].crash();
    let (moved, _) = world.during(crash, [2, 2])?;
    let moved = moved.with_context(|| world.told())?;
    ensure!(moved < Duration::from_secs(12), "after {moved:?}");
    let route = world.at_router()?;
    ensure!(
        route.contains("as_path: 65053 65053 65053 65053"),
        "{route}"
    );

    // All of them are dead: nobody moves, and every kernel answers.
    let crash = |world: &mut World| world.daemons[1].crash();
    world.during(crash, [1, 2])?;

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
    let mut world = World::new(Kind::Bird, 2, "")?;
    let hang = |world: &mut World| world.daemons[0].signal(Signal::SIGSTOP);
    let (moved, _) = world.during(hang, [2, 2])?;
    ensure!(moved.is_some(), "{}", world.told());
    world.daemons[0].signal(Signal::SIGCONT)?;
    world.world.settle()?;
    Ok(())
}

#[test]
fn bird_that_is_killed_or_comes_late_is_no_failure_of_the_node() -> Result<()> {
    needs_root!();
    routing_dies(Kind::Bird)
}

#[test]
fn frr_that_is_killed_or_comes_late_is_no_failure_of_the_node() -> Result<()> {
    needs_root!();
    routing_dies(Kind::Frr)
}

fn routing_dies(kind: Kind) -> Result<()> {
    // A busy machine may take the thread's time for longer than the usual silence.
    let mut world = World::new(kind, 2, "interval = \"1s\"")?;
    let nobody = "no program follows the routes of this machine";
    ensure!(!world.daemons[0].ok("announce list")?.contains(nobody));
    world.routings[0].signal(Signal::SIGKILL)?;
    world.world.wait_for(&[Some(2), Some(2)])?;
    until("it is told", || {
        Ok(world.daemons[0].ok("announce list")?.contains(nobody))
    })?;
    ensure!(world.daemons[0].ok("status")?.contains(nobody));
    world.daemons[0].logged(nobody)?;
    ensure!(world.state(1)? == "up", "{}", world.told());
    let node = &world.world.sites[0].node;
    world.routings[0].again(node)?;
    world.world.settle()?;
    ensure!(world.state(1)? == "up", "{}", world.told());
    until("it is there again", || {
        Ok(!world.daemons[0].ok("announce list")?.contains(nobody))
    })?;
    Ok(())
}

#[test]
fn bird_that_rejects_the_route_is_told() -> Result<()> {
    needs_root!();
    rejects(
        Kind::Bird,
        &[
            ("accept;", "reject;", "its export filters reject the route"),
            ("learn;", "/* no learn */", "BIRD does not know the route"),
        ],
    )
}

#[test]
fn frr_that_rejects_the_route_is_told() -> Result<()> {
    needs_root!();
    let (lets_in, lets_out) = ("route-map GEODNS-NONE in", "route-map GEODNS-NONE out");
    let (learns, does_not) = (
        "redistribute kernel route-map GEODNS4",
        "no redistribute kernel",
    );
    rejects(
        Kind::Frr,
        &[
            (lets_in, lets_out, "a route-map rejects it"),
            (learns, does_not, "bgpd does not know the route"),
        ],
    )
}

/// With each of these changes of its configuration, the routing daemon tells nobody, and geodns says this.
fn rejects(kind: Kind, changes: &[(&str, &str, &str)]) -> Result<()> {
    let mut world = World::new(
        kind,
        2,
        "interval = \"1s\"\nrouting = [\"bird.ctl\", \"bgpd.vty\"]",
    )?;
    let socket = world.routings[0].socket();
    let link = world.daemons[0].home.config();
    let link = link.with_file_name(socket.file_name().context("no name")?);
    let listed = |world: &World| world.daemons[0].ok("announce list");
    std::os::unix::fs::symlink(&socket, &link)?;
    // Longer than it takes to find a fault.
    std::thread::sleep(Duration::from_secs(12));
    let said = listed(&world)?;
    ensure!(
        said.contains("routing") && !said.contains("neighbour"),
        "{said}"
    );
    for (words, others, expected) in changes {
        let node = &world.world.sites[0].node;
        world.routings[0].change(node, words, others)?;
        until(expected, || Ok(listed(&world)?.contains(expected)))
            .with_context(|| format!("{}\n{}", listed(&world).unwrap_or_default(), world.told()))?;
        ensure!(world.daemons[0].ok("status")?.contains(expected));
        world.daemons[0].logged(expected)?;
        ensure!(world.state(1)? == "up", "{}", world.told());
        let node = &world.world.sites[0].node;
        world.routings[0].change(node, others, words)?;
        until("it is told again", || {
            Ok(!listed(&world)?.contains(expected))
        })?;
        world.world.settle()?;
    }
    Ok(())
}

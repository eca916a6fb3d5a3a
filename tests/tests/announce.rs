//! The process that holds the device of announced routes, and a node's questions to itself: real devices, real routes,
//! and daemons that die or hang.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use geodns::announce::holder::Options;
use geodns::announce::holder::client::{Client, Trouble};
use geodns::announce::holder::message::{Announcement, Word};
use geodns::announce::probe;
use geodns_tests::built::binary;
use geodns_tests::daemon::{Daemon, Setup};
use geodns_tests::dns::{A, Query};
use geodns_tests::needs_root;
use geodns_tests::net::{Pair, Space};

const V4: &str = "192.0.2.53";
const V6: &str = "2001:db8:53::53";
/// Time for what comes, on a busy machine.
const LONG: Duration = Duration::from_secs(60);
/// A daemon that is silent for this many milliseconds hangs: longer than a busy machine holds a test up.
const SILENCE: u64 = 5_000;
/// Time for an answer that does not come.
const SHORT: Duration = Duration::from_millis(200);

/// A holder in a namespace.
struct World {
    space: Space,
    folder: tempfile::TempDir,
    child: Child,
}

impl World {
    fn start() -> Result<Self> {
        let space = Space::new("site")?;
        let folder = tempfile::tempdir()?;
        let child = space
            .command(binary()?)
            .args(["hold", "--device", "geodns0", "--socket"])
            .arg(folder.path().join("announce.sock"))
            .stderr(Stdio::piped())
            .spawn()?;
        Ok(Self {
            space,
            folder,
            child,
        })
    }

    /// Connects as a daemon does.
    fn connect(&self) -> Result<Client> {
        let options = Options {
            socket: self.folder.path().join("announce.sock"),
            device: "geodns0".to_owned(),
        };
        let nobody = PathBuf::from("/nonexistent");
        let end = Instant::now() + LONG;
        loop {
            match Client::connect(&nobody, &options) {
                Ok(client) => return Ok(client),
                Err(error) if Instant::now() > end => anyhow::bail!("{error}"),
                Err(_) => std::thread::sleep(Duration::from_millis(10)),
            }
        }
    }

    /// Metrics of the routes to the two addresses, as `ip route` shows them.
    fn metrics(&self) -> Result<Vec<String>> {
        let mut metrics = Vec::new();
        for (family, prefix) in [("-4", V4), ("-6", V6)] {
            let shown = self.space.ip(&format!("{family} route show {prefix}"))?;
            for line in shown.lines() {
                ensure!(
                    line.contains("dev geodns0") && line.contains("proto 53"),
                    "{line}"
                );
                let words: Vec<&str> = line.split_whitespace().collect();
                let at = words.iter().position(|word| *word == "metric");
                let metric = at.and_then(|at| words.get(at + 1)).context("no metric")?;
                metrics.push((*metric).to_owned());
            }
        }
        Ok(metrics)
    }

    /// Waits until both routes have this metric, and says how long that took.
    fn until(&self, metrics: &[&str]) -> Result<Duration> {
        let start = Instant::now();
        loop {
            let found = self.metrics()?;
            if found == metrics {
                return Ok(start.elapsed());
            }
            ensure!(start.elapsed() < LONG, "{found:?}, not {metrics:?}");
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    fn has_ended(&mut self) -> Result<bool> {
        let end = Instant::now() + LONG;
        while Instant::now() < end {
            if self.child.try_wait()?.is_some() {
                return Ok(true);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(false)
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn announce(metric: Option<u32>) -> Result<Word> {
    Ok(Word::Announce(Announcement {
        prefixes: vec![format!("{V4}/32").parse()?, format!("{V6}/128").parse()?],
        table: 254,
        metric,
        silence_ms: SILENCE,
        stale_after_ms: 2 * SILENCE,
    }))
}

#[test]
fn routes_follow_the_state_and_the_end_of_the_daemon() -> Result<()> {
    needs_root!();
    let mut world = World::start()?;
    let mut daemon = world.connect()?;
    for metric in [100, 200, 300, 100] {
        daemon.say(&announce(Some(metric))?)?;
        let metric = metric.to_string();
        ensure!(world.metrics()? == [metric.as_str(); 2]);
    }
    daemon.say(&announce(None)?)?;
    ensure!(world.metrics()?.is_empty());
    daemon.say(&announce(Some(100))?)?;
    daemon.say(&Word::End)?;
    ensure!(world.has_ended()?);
    ensure!(world.metrics()?.is_empty());
    Ok(())
}

#[test]
fn a_dead_daemon_is_the_last_resort_at_once_and_another_one_takes_over() -> Result<()> {
    needs_root!();
    let mut world = World::start()?;
    let mut daemon = world.connect()?;
    daemon.say(&announce(Some(100))?)?;
    drop(daemon);
    world.until(&["300", "300"])?;
    // One that starts says nothing until it answers: what is announced stays.
    let mut next = world.connect()?;
    std::thread::sleep(Duration::from_millis(500));
    ensure!(world.metrics()? == ["300", "300"]);
    let said = Instant::now();
    next.say(&announce(Some(100))?)?;
    ensure!(world.metrics()? == ["100", "100"]);
    // It hangs.
    world.until(&["300", "300"])?;
    let waited = said.elapsed();
    ensure!(waited >= Duration::from_millis(SILENCE), "after {waited:?}");
    next.say(&announce(Some(100))?)?;
    ensure!(world.metrics()? == ["100", "100"]);
    drop(next);
    world.until(&["300", "300"])?;
    world.until(&[])?;
    ensure!(world.has_ended()?);
    Ok(())
}

#[test]
fn the_end_of_the_holder_withdraws_and_a_daemon_notices() -> Result<()> {
    needs_root!();
    let mut world = World::start()?;
    let mut daemon = world.connect()?;
    daemon.say(&announce(Some(100))?)?;
    world.child.kill()?;
    world.child.wait()?;
    world.until(&[])?;
    let said = daemon.say(&announce(Some(100))?);
    ensure!(matches!(said, Err(Trouble::Lost(_))), "{said:?}");
    Ok(())
}

#[test]
fn routes_that_somebody_deletes_are_there_again() -> Result<()> {
    needs_root!();
    let world = World::start()?;
    let mut daemon = world.connect()?;
    daemon.say(&announce(Some(100))?)?;
    // The second takes all routes of the device along.
    for what in [
        "route del 192.0.2.53/32 dev geodns0",
        "link set geodns0 down",
    ] {
        world.space.ip(what)?;
        let start = Instant::now();
        while world.metrics()? != ["100", "100"] {
            ensure!(start.elapsed() < LONG, "after {what}");
            std::thread::sleep(Duration::from_millis(100));
            daemon.say(&announce(Some(100))?)?;
        }
    }
    Ok(())
}

#[test]
fn a_route_of_another_program_is_left_alone_and_named() -> Result<()> {
    needs_root!();
    let world = World::start()?;
    let mut daemon = world.connect()?;
    world
        .space
        .ip(&format!("route add {V4}/32 dev lo metric 100"))?;
    let said = daemon.say(&announce(Some(100))?);
    let Err(Trouble::Refused(why)) = said else {
        anyhow::bail!("{said:?}");
    };
    ensure!(why.contains(V4) && why.contains("another program"), "{why}");
    daemon.say(&announce(Some(300))?)?;
    let shown = world.space.ip("-6 route show 2001:db8:53::53")?;
    ensure!(shown.contains("metric 300"), "{shown}");
    Ok(())
}

#[test]
fn a_device_that_another_holds_is_refused_in_one_line() -> Result<()> {
    needs_root!();
    let world = World::start()?;
    let _daemon = world.connect()?;
    let second = world
        .space
        .command(binary()?)
        .args(["hold", "--device", "geodns0", "--socket"])
        .arg(world.folder.path().join("second.sock"))
        .output()?;
    let said = String::from_utf8_lossy(&second.stderr);
    ensure!(!second.status.success());
    ensure!(
        said.lines().count() == 1 && said.contains("another program holds it"),
        "{said}"
    );
    Ok(())
}

/// Questions of a node to itself, in its namespace.
fn probe(space: &Space, patience: Duration) -> Result<std::result::Result<(), String>> {
    let parse = |text: &str| Ok::<_, anyhow::Error>(text.parse::<SocketAddr>()?.into());
    let places = [parse("192.0.2.53:53")?, parse("[2001:db8::53]:53")?];
    let query = Query::new("mail.example.org", A).bytes();
    space.enter(|| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let asked = runtime.block_on(probe::ask(&places, &query, false, patience));
        ensure!(asked.len() == 4, "{asked:?}");
        let mut faults = asked.iter().filter(|asked| asked.fault.is_some());
        Ok(faults.next().map_or(Ok(()), |asked| Err(asked.to_string())))
    })
}

#[test]
fn a_slow_path_that_hangs_or_is_dead_is_noticed_while_the_kernel_answers() -> Result<()> {
    needs_root!();
    let pair = Pair::new(&[])?;
    let mut daemon = Daemon::start(&pair.server, &Setup::example(&[]))?;
    let answered = || {
        pair.ask(
            "192.0.2.1",
            "192.0.2.53",
            &Query::new("mail.example.org", A),
        )
    };
    let good = probe(&pair.server, LONG)?;
    ensure!(good == Ok(()), "{good:?}");
    daemon.signal(nix::sys::signal::Signal::SIGSTOP)?;
    let hangs = probe(&pair.server, SHORT)?;
    ensure!(
        hangs == Err("UDP 192.0.2.53: no answer within 200 ms".to_owned()),
        "{hangs:?}"
    );
    answered()?;
    daemon.signal(nix::sys::signal::Signal::SIGCONT)?;
    let good = probe(&pair.server, LONG)?;
    ensure!(good == Ok(()), "{good:?}");
    daemon.crash()?;
    let dead = probe(&pair.server, LONG)?;
    ensure!(
        dead.as_ref().is_err_and(|why| why.contains("refused")),
        "{dead:?}"
    );
    answered()?;
    Ok(())
}

#[test]
fn a_second_holder_leaves_the_socket_of_the_first_alone() -> Result<()> {
    needs_root!();
    let world = World::start()?;
    let mut daemon = world.connect()?;
    daemon.say(&announce(Some(100))?)?;
    let second = world
        .space
        .command(binary()?)
        .args(["hold", "--device", "geodns0", "--socket"])
        .arg(world.folder.path().join("announce.sock"))
        .output()?;
    ensure!(!second.status.success());
    let mut next = world.connect()?;
    next.say(&announce(Some(200))?)?;
    ensure!(world.metrics()? == ["200", "200"]);
    Ok(())
}

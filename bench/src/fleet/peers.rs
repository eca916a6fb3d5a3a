//! Knot DNS at the sites, watched by anycast-healthchecker with BIRD, and by ExaBGP's healthcheck: as they come, and as
//! fast as they go.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use geodns_tests::peers::{self, Kind, Peer};
use geodns_tests::process::Process;
use geodns_tests::sites::asker::Asker;
use geodns_tests::sites::routing::{Bird, Detection, node};
use geodns_tests::sites::{Site, Sites, V4, V6};
use geodns_tests::{other_server, python_peer};
use nix::sys::signal::Signal;

use super::{BEFORE, Course, RATE, milliseconds};
use crate::figure::{Figure, Results};

/// Sites: one that the event happens at, and one that clients go to.
const COUNT: usize = 2;
/// How long clients may take to move.
const PATIENCE: Duration = Duration::from_secs(60);
/// The check: a query, as its users write it.
const CHECK: &str = "dig +time=1 +tries=1 @192.0.2.53 www.example.org A";

/// A program that announces a node for as long as its server answers.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Watcher {
    Healthchecker,
    Exabgp,
}

/// How it is set up: its name in the figures, and its options.
struct Setup {
    name: &'static str,
    watcher: Watcher,
    /// Seconds between checks, and checks that fail before it acts.
    interval: u32,
    fall: u32,
}

const SETUPS: [Setup; 4] = [
    Setup {
        name: "anycast-healthchecker as it comes",
        watcher: Watcher::Healthchecker,
        interval: 10,
        fall: 2,
    },
    Setup {
        name: "anycast-healthchecker at its fastest",
        watcher: Watcher::Healthchecker,
        interval: 1,
        fall: 1,
    },
    Setup {
        name: "ExaBGP's healthcheck as it comes",
        watcher: Watcher::Exabgp,
        interval: 5,
        fall: 3,
    },
    Setup {
        name: "ExaBGP's healthcheck at its fastest",
        watcher: Watcher::Exabgp,
        interval: 1,
        fall: 1,
    },
];

/// A site with Knot DNS, and what announces it.
struct Node {
    knot: Peer,
    _bird: Option<Bird>,
    _watcher: Process,
    _folder: tempfile::TempDir,
}

/// The server hangs, beside each watcher.
pub fn run(rounds: usize, results: &mut Results) {
    for setup in &SETUPS {
        let name = format!("{}: Knot DNS hangs", setup.name);
        results.take(&format!("fleet: {name}"), || measure(setup, &name, rounds));
    }
}

fn measure(setup: &Setup, name: &str, rounds: usize) -> Result<Vec<Figure>> {
    let sites = Sites::new(COUNT, Detection::Bfd)?;
    let start = |site: &Site| Node::start(site, setup);
    let nodes = sites.sites.iter().map(start).collect::<Result<Vec<_>>>()?;
    let settle = || sites.wait_for_over(&[V4], &[Some(1), Some(2)]);
    settle()?;
    let first = nodes.first().context("a first site")?;
    let mut course = Course::new(name);
    for _ in 0..rounds {
        settle()?;
        let asker = Asker::start(&sites.sites[0].client, V4, RATE)?;
        std::thread::sleep(BEFORE);
        let at = Instant::now();
        first.knot.signal(Signal::SIGSTOP)?;
        while sites.who(1, V4)? != Some(2) && at.elapsed() < PATIENCE {
            std::thread::sleep(Duration::from_millis(50));
        }
        let seen = asker.finish()?;
        let moved = seen.moved_from(1, at).context("nobody moved")?;
        course.moved.rounds.push(milliseconds(moved));
        course.lost.rounds.push(seen.lost() as f64);
        first.knot.signal(Signal::SIGCONT)?;
    }
    Ok(course.figures())
}

impl Node {
    fn start(site: &Site, setup: &Setup) -> Result<Self> {
        let zone = format!(
            "@ 300 SOA ns1 hostmaster 1 3600 600 86400 60\n@ 300 NS ns1\nns1 300 A {V4}\nwww 300 A 198.51.100.{}\n",
            site.number
        );
        let knot = Peer::start(
            &site.node,
            Kind::Knot,
            &peers::Setup {
                listen: vec![V4.parse()?, V6.parse()?],
                zones: vec![("example.org".to_owned(), zone)],
                ..peers::Setup::default()
            },
        )?;
        let folder = tempfile::Builder::new().prefix("watcher-").tempdir()?;
        let (bird, watcher) = match setup.watcher {
            Watcher::Healthchecker => {
                let (bird, watcher) = healthchecker(site, setup, &folder)?;
                (Some(bird), watcher)
            }
            Watcher::Exabgp => (None, exabgp(site, setup, &folder)?),
        };
        Ok(Self {
            knot,
            _bird: bird,
            _watcher: watcher,
            _folder: folder,
        })
    }
}

/// anycast-healthchecker writes a list of prefixes, and has BIRD read it again.
fn healthchecker(
    site: &Site,
    setup: &Setup,
    folder: &tempfile::TempDir,
) -> Result<(Bird, Process)> {
    let at = |name: &str| folder.path().join(name);
    let list = at("prefixes.conf");
    fs::write(
        &list,
        "define ACAST_PS_ADVERTISE = [ 10.189.200.255/32 ];\n",
    )?;
    let announced = format!(
        "include \"{}\";\nprotocol direct anycast {{ ipv4; interface \"lo\"; }}\n\
         filter announce {{ if net.type = NET_IP4 && net ~ ACAST_PS_ADVERTISE then accept; reject; }}\n",
        list.display()
    );
    let bird = Bird::start(&site.node, &node(site.number, Detection::Bfd, &announced))?;
    let config = format!(
        "[DEFAULT]\ninterface = lo\n[daemon]\npidfile = {}\nipv4 = true\nipv6 = false\nbird_conf = {}\n\
         bird_variable = ACAST_PS_ADVERTISE\nbird_reconfigure_cmd = {} -s {} configure\n\
         dummy_ip_prefix = 10.189.200.255/32\nloglevel = info\nlog_file = {}\nstderr_file = {}\n\
         [dns]\ncheck_cmd = {CHECK}\ncheck_interval = {}\ncheck_timeout = 2\ncheck_rise = 2\ncheck_fail = {}\n\
         check_disabled = false\non_disabled = withdraw\nip_prefix = {V4}/32\n",
        at("pid").display(),
        list.display(),
        other_server("birdc")?.display(),
        bird.socket().display(),
        at("log").display(),
        at("stderr").display(),
        setup.interval,
        setup.fall,
    );
    fs::write(at("config"), config)?;
    fs::create_dir(at("checks"))?;
    let mut command = site.node.command(python_peer("anycast-healthchecker")?);
    command
        .arg("-f")
        .arg(at("config"))
        .arg("-d")
        .arg(at("checks"));
    let process = Process::start(command, at("output"))?;
    Ok((bird, process))
}

/// ExaBGP speaks BGP itself, and withdraws when its check fails.
fn exabgp(site: &Site, setup: &Setup, folder: &tempfile::TempDir) -> Result<Process> {
    let i = site.number;
    let python = python_peer("python")?;
    let config = format!(
        "process check {{\n  run {} -m exabgp healthcheck --no-syslog --no-ip-setup --withdraw-on-down --interval {} \
         --fast-interval 1 --fall {} --ip {V4}/32 --next-hop 10.77.{i}.2 --cmd \"{CHECK}\";\n  encoder text;\n}}\n\
         neighbor 10.77.{i}.1 {{\n  router-id 10.77.{i}.2;\n  local-address 10.77.{i}.2;\n  local-as 65053;\n  \
         peer-as 6500{i};\n  family {{ ipv4 unicast; }}\n  api {{ processes [ check ]; }}\n}}\n",
        python.display(),
        setup.interval,
        setup.fall,
    );
    let path = folder.path().join("exabgp.conf");
    fs::write(&path, config)?;
    let mut command = site.node.command(python_peer("exabgp")?);
    command
        .arg("server")
        .arg(&path)
        .env("exabgp_daemon_user", "root");
    Process::start(command, folder.path().join("output"))
}

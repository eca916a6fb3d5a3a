//! Three sites, each with a node that announces itself through BIRD.

use std::time::Duration;

use anyhow::{Context, Result};
use geodns_tests::daemon::{Daemon, Setup};
use geodns_tests::sites::routing::{Bird, Detection, LEARNED, node};
use geodns_tests::sites::{self, Site, Sites};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Sites.
pub const COUNT: usize = 3;

/// The sites and their daemons.
pub struct World {
    pub sites: Sites,
    pub daemons: Vec<Daemon>,
    _birds: Vec<Bird>,
}

impl World {
    /// All announced, each client answered by its own site.
    pub fn new(detection: Detection) -> Result<Self> {
        let sites = Sites::new(COUNT, detection)?;
        let (mut daemons, mut birds) = (Vec::new(), Vec::new());
        for site in &sites.sites {
            let config = node(site.number, detection, LEARNED);
            birds.push(Bird::start(&site.node, &config)?);
            daemons.push(Daemon::start(&site.node, &setup(site.number))?);
        }
        sites.settle()?;
        Ok(Self {
            sites,
            daemons,
            _birds: birds,
        })
    }

    /// A site, by its number.
    pub fn site(&self, number: usize) -> &Site {
        &self.sites.sites[number - 1]
    }

    /// The daemon of a site.
    pub fn daemon(&mut self, number: usize) -> &mut Daemon {
        &mut self.daemons[number - 1]
    }

    /// Starts a daemon that has ended.
    pub fn again(&mut self, number: usize) -> Result<()> {
        let site = &self.sites.sites[number - 1];
        self.daemons[number - 1].again(&site.node, &setup(number))
    }

    /// The process that holds a site's device.
    pub fn holder(&self, number: usize) -> Result<Pid> {
        let pids = self.site(number).node.pids()?;
        let holds = |pid: &&i32| {
            let line = std::fs::read(format!("/proc/{pid}/cmdline"));
            line.is_ok_and(|line| line.split(|octet| *octet == 0).nth(1) == Some(b"hold"))
        };
        let pid = pids.iter().find(holds).context("nobody holds the device")?;
        Ok(Pid::from_raw(*pid))
    }

    /// Sends a signal to the daemons of all sites.
    pub fn signal_all(&self, signal: Signal) -> Result<()> {
        self.daemons
            .iter()
            .try_for_each(|daemon| daemon.signal(signal))
    }

    /// Kills the process that holds a site's device.
    pub fn kill_holder(&self, number: usize) -> Result<()> {
        Ok(kill(self.holder(number)?, Signal::SIGKILL)?)
    }
}

/// A node that is up again as soon as it answers: the bench has no use for what protects an operator from flapping.
fn setup(number: usize) -> Setup {
    sites::setup(number).and("[announce]\nrise = \"1s\"\nhold_down = \"1s..1s\"\n")
}

/// Waits.
pub fn pass(seconds: f64) {
    std::thread::sleep(Duration::from_secs_f64(seconds));
}

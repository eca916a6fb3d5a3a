//! Three sites, each with a node that announces itself through BIRD or FRR.

use std::time::Duration;

use anyhow::Result;
use geodns_tests::daemon::{Daemon, Setup};
use geodns_tests::sites::routing::{Bird, Detection, Frr, Kind, LEARNED, Routing, frr_node, node};
use geodns_tests::sites::{self, Site, Sites, V4, V6};
use nix::sys::signal::{Signal, kill};

/// Sites.
pub const COUNT: usize = 3;

/// The sites and their daemons.
pub struct World {
    pub sites: Sites,
    pub daemons: Vec<Daemon>,
    kind: Kind,
    _routings: Vec<Routing>,
}

impl World {
    /// All announced, each client answered by its own site.
    pub fn new(detection: Detection, kind: Kind) -> Result<Self> {
        let sites = Sites::new(COUNT, detection)?;
        let (mut daemons, mut routings) = (Vec::new(), Vec::new());
        for site in &sites.sites {
            let number = site.number;
            routings.push(match kind {
                Kind::Bird => {
                    let config = node(number, detection, LEARNED);
                    Routing::Bird(Bird::start(&site.node, &config)?)
                }
                Kind::Frr => {
                    site.deliver_by_routes()?;
                    Routing::Frr(Frr::start(&site.node, &frr_node(number))?)
                }
            });
            daemons.push(Daemon::start(&site.node, &setup(number))?);
        }
        sites.settle()?;
        Ok(Self {
            sites,
            daemons,
            kind,
            _routings: routings,
        })
    }

    /// Whether routers find out about silent nodes in this way, and nodes have routing daemons of this kind.
    pub fn is(&self, detection: Detection, kind: Kind) -> bool {
        self.sites.detection() == detection && self.kind == kind
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

    /// Sends a signal to the daemons of all sites.
    pub fn signal_all(&self, signal: Signal) -> Result<()> {
        self.daemons
            .iter()
            .try_for_each(|daemon| daemon.signal(signal))
    }

    /// Kills the process that holds a site's device.
    pub fn kill_holder(&self, number: usize) -> Result<()> {
        Ok(kill(self.site(number).holder()?, Signal::SIGKILL)?)
    }
}

/// A node that is up again as soon as it answers: the bench has no use for what protects an operator from flapping.
fn setup(number: usize) -> Setup {
    let section = format!(
        "[announce]\nprefixes = [\"{V4}\", \"{V6}\"]\nrise = \"1s\"\nhold_down = \"1s..1s\"\n"
    );
    sites::setup(number).and(&section)
}

/// Waits.
pub fn pass(seconds: f64) {
    std::thread::sleep(Duration::from_secs_f64(seconds));
}

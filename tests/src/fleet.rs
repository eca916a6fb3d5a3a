//! A fleet: a daemon at each of several sites, with a real etcd of three members at the first three.

use std::fmt::Write as _;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::daemon::{Daemon, Setup};
use crate::dns::{A, Query, Reply, ask};
use crate::etcd::{self, Cluster, Triangle};
use crate::net::{Space, at};
use crate::until;

/// Daemons at sites that a switch joins. Sites are counted from 0 here, and node I is named `nI+1`.
pub struct Fleet {
    /// Its etcd.
    pub cluster: Cluster,
    /// Sites that have no member of etcd.
    more: Vec<Space>,
    /// The daemons, by site.
    pub daemons: Vec<Daemon>,
    /// Their setups.
    pub setups: Vec<Setup>,
}

impl Fleet {
    /// Daemons at three sites. Nobody has made the fleet yet.
    pub fn alone() -> Result<Self> {
        Self::of(3, etcd::Setup::default(), |_, setup| setup)
    }

    /// A fleet of three.
    pub fn joined() -> Result<Self> {
        Self::joined_of(3, etcd::Setup::default(), |_, setup| setup)
    }

    /// Daemons at N sites, set up in their own ways. Nobody has made the fleet yet.
    pub fn of(
        count: usize,
        etcd: etcd::Setup,
        with: impl Fn(usize, Setup) -> Setup,
    ) -> Result<Self> {
        let mut fleet = Self {
            cluster: Cluster::three(etcd)?,
            more: Vec::new(),
            daemons: Vec::new(),
            setups: Vec::new(),
        };
        for site in 0..count {
            if site >= 3 {
                let space = fleet.cluster.triangle().another(site + 1)?;
                fleet.more.push(space);
            }
            let setup = with(site, fleet.setup(site, &format!("n{}", site + 1)));
            let daemon = Daemon::start(fleet.space(site), &setup)?;
            fleet.daemons.push(daemon);
            fleet.setups.push(setup);
        }
        Ok(fleet)
    }

    /// The same as a fleet.
    pub fn joined_of(
        count: usize,
        etcd: etcd::Setup,
        with: impl Fn(usize, Setup) -> Setup,
    ) -> Result<Self> {
        let fleet = Self::of(count, etcd, with)?;
        fleet.daemons[0].ok("fleet init")?;
        for daemon in &fleet.daemons[1..] {
            daemon.ok("fleet join --yes")?;
        }
        fleet.settled()?;
        Ok(fleet)
    }

    /// The namespace of a site.
    pub fn space(&self, site: usize) -> &Space {
        match site.checked_sub(3) {
            None => &self.cluster.triangle().spaces[site],
            Some(more) => &self.more[more],
        }
    }

    /// The configuration of a site's daemon, named so: without the program, and with its own member of etcd first.
    pub fn setup(&self, site: usize, name: &str) -> Setup {
        let address = Triangle::address(site as u8 + 1).to_string();
        let mut setup = Setup::example(&[&address]).mode("off");
        setup.server = format!("identity = {name:?}\n");
        let section = etcd::section(&self.cluster.fleet_beside(site % 3, "test"));
        setup.and(&format!("\n{section}"))
    }

    /// Waits until each node follows, and all of them have one plan.
    pub fn settled(&self) -> Result<()> {
        for daemon in &self.daemons {
            until("one plan everywhere", || self.is_settled(daemon))
                .with_context(|| self.shown())?;
        }
        Ok(())
    }

    fn is_settled(&self, daemon: &Daemon) -> Result<bool> {
        let fleet = daemon.json("fleet status")?;
        let nodes = fleet["nodes"].as_array().context("no nodes")?;
        let same = nodes.windows(2).all(|two| two[0]["plan"] == two[1]["plan"]);
        Ok(fleet["state"] == "following" && nodes.len() == self.daemons.len() && same)
    }

    /// All nodes, as they see the fleet, and their logs: for a test that fails.
    pub fn shown(&self) -> String {
        let mut text = String::new();
        for daemon in &self.daemons {
            let status = daemon.ok("fleet status").unwrap_or_default();
            let _ = writeln!(text, "{status}\n{}", daemon.log());
        }
        text
    }

    /// The state of a node's link, as `fleet status` has it.
    pub fn state(&self, site: usize) -> Result<String> {
        let fleet = self.daemons[site].json("fleet status")?;
        let state = fleet["state"].as_str().context("no state")?;
        Ok(state.to_owned())
    }

    /// Waits until a node's link is in a state.
    pub fn is(&self, site: usize, state: &str) -> Result<()> {
        until(&format!("n{} is {state}", site + 1), || {
            Ok(self.state(site)? == state)
        })
        .with_context(|| self.shown())
    }

    /// The addresses that a node answers its own site with.
    pub fn answer(&self, site: usize) -> Result<String> {
        self.answer_to(site, site, &Query::new("www.example.org", A))
    }

    /// The addresses that a node answers a question with that another site asks.
    pub fn answer_to(&self, site: usize, from: usize, query: &Query) -> Result<String> {
        Ok(self.reply_to(site, from, query)?.addresses())
    }

    /// The reply of a node to a question that another site asks.
    pub fn reply_to(&self, site: usize, from: usize, query: &Query) -> Result<Reply> {
        let [to, of] = [site, from].map(|site| Triangle::address(site as u8 + 1));
        let socket = self.space(from).udp(of, at(&to.to_string(), 53)?)?;
        let reply = ask(&socket, &query.bytes(), Duration::from_secs(5))?;
        Reply::parse(&reply.context("no answer")?)
    }

    /// Starts a daemon that has ended.
    pub fn again(&mut self, site: usize) -> Result<()> {
        let space = match site.checked_sub(3) {
            None => &self.cluster.triangle().spaces[site],
            Some(more) => &self.more[more],
        };
        self.daemons[site].again(space, &self.setups[site])
    }

    /// Has a daemon heed the faults that this file orders: it starts again.
    pub fn heed_faults(&mut self, site: usize, file: &std::path::Path) -> Result<()> {
        let orders = ("GEODNS_FAULTS".to_owned(), file.display().to_string());
        self.setups[site].environment.push(orders);
        self.daemons[site].stop()?;
        self.again(site)?;
        self.settled()
    }
}

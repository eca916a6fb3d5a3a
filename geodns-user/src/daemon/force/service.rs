//! Mirrors go in and out of service: the room `service` decides, and this file stores that in the plan in force and in
//! the kernel.
//!
//! A thread that decides holds [`Current`], so that decisions come one after the other.

use std::collections::BTreeSet;
use std::sync::mpsc::Sender;
use std::sync::{Mutex, MutexGuard};

use geodns_common::abi::Family;

use super::internal;
use crate::base::clock::now_unix_ms;
use crate::base::lock::{lock, write};
use crate::config::{Config, Fail};
use crate::control::problem::Failure;
use crate::daemon::Daemon;
use crate::event::Kind;
use crate::health::{Event, Trouble, Verdict};
use crate::kernel;
use crate::service::{Condition, Findings, Roster, Standings, Votes, Which, in_service, put};
use crate::state::Out;
use crate::world::World;

/// News that may move a mirror in or out of service.
pub enum News {
    /// A check has a result.
    Checked(Event),
    /// Checks that could not be made.
    Troubled(Trouble),
    /// Other monitors' file has changed: all its verdicts.
    Feed(Vec<Verdict>),
    /// The fleet has decided about targets: all its decisions.
    Voted(Votes),
    /// Something else is to change by itself.
    Look,
    /// A decision that could not be put in force is to be tried again.
    Again,
    /// The daemon stops.
    Stop,
}

/// The mirrors in service, and why they are.
pub struct InService {
    /// Operators' and other monitors' words, as the state has them.
    standings: Mutex<Standings>,
    current: Mutex<Current>,
    news: Sender<News>,
}

/// Findings, and the mirrors that are in service by them in the plan in force.
#[derive(Default)]
pub struct Current {
    /// Results of checks, and other monitors' file.
    pub findings: Findings,
    /// The roster of the plan in force.
    pub roster: Roster,
    /// Whether an answer that is not in force may still be read.
    flipped: bool,
    /// Pools without a mirror in service, as the log has it.
    unserved: BTreeSet<String>,
    /// Mirrors that are out of service as the events have it, and pools that were out when the process started.
    out: Out,
}

impl InService {
    /// The state before the first answer.
    pub fn new(standings: Standings, findings: Findings, out: Out, news: Sender<News>) -> Self {
        let current = Current {
            findings,
            out,
            ..Current::default()
        };
        Self {
            standings: Mutex::new(standings),
            current: Mutex::new(current),
            news,
        }
    }

    /// Locks operators' and other monitors' words.
    pub fn standings(&self) -> MutexGuard<'_, Standings> {
        lock(&self.standings)
    }

    /// Locks the mirrors in service.
    pub fn current(&self) -> MutexGuard<'_, Current> {
        lock(&self.current)
    }

    /// Sends news to the thread that heeds them.
    pub fn tell(&self, news: News) {
        // Without that thread, the daemon stops.
        let _ = self.news.send(news);
    }
}

/// Logs pools that have lost their last mirror, or have one again. `unserved` has those that the log knows of, `out` those
/// that the process before knew of.
fn log_pools(
    config: &Config,
    roster: &Roster,
    unserved: &mut BTreeSet<String>,
    out: &mut BTreeSet<String>,
) {
    for (number, pool) in config.pools.iter().enumerate() {
        let id = pool.id.as_str();
        let is_served = pool.of.is_some() || roster.is_served(config, number);
        if is_served && unserved.remove(id) | out.remove(id) {
            tracing::info!(
                event = Kind::PoolIn.name(),
                pool = id,
                state = "served",
                "pool {id}: a mirror is in service again"
            );
        } else if !is_served && unserved.insert(id.to_owned()) {
            let does = without_mirrors(config, pool);
            // The process before may have told of it.
            let event = (!out.contains(id)).then_some(Kind::PoolOut.name());
            tracing::warn!(
                event,
                pool = id,
                state = "unserved",
                "pool {id}: no mirror is in service: {does}"
            );
        }
    }
}

/// Ids of the pools that hold a mirror, for a field.
pub fn pools_of(config: &Config, mirror: &str) -> String {
    let holds = |pool: &&crate::config::Pool| {
        let mut mirrors = pool.mirrors.iter();
        pool.of.is_none() && mirrors.any(|&other| config.mirrors[other].id == mirror)
    };
    let ids = config.pools.iter().filter(holds);
    let ids: Vec<_> = ids.map(|pool| pool.id.as_str()).collect();
    ids.join(",")
}

/// Says what a pool does without a mirror in service.
fn without_mirrors(config: &Config, pool: &crate::config::Pool) -> String {
    match pool.fail {
        Fail::Open => "it answers as if all were (fail = \"open\")".to_owned(),
        Fail::Closed => "it answers SERVFAIL (fail = \"closed\")".to_owned(),
        Fail::Fallback(other) => format!(
            "pool {} answers (fail = \"fallback\")",
            config.pools[other].id
        ),
    }
}

impl Daemon {
    /// Brings answers up to date that are in force already; if that fails, it is tried again soon.
    pub fn heed_or_again(&self) {
        if let Err(failure) = self.heed(&Which::All) {
            tracing::error!(
                cause = %failure,
                "who is in service is not up to date in the answers: {failure}; trying again"
            );
            self.in_service.tell(News::Again);
        }
    }

    /// Puts mirrors in and out of service in a world that is not in force yet.
    pub fn put_service(&self, next: &World) {
        let current = self.in_service.current();
        let standings = self.in_service.standings();
        let mut plan = write(&next.plan);
        let config = &next.inputs.config;
        put(
            &mut plan,
            config,
            &standings,
            &current.findings,
            now_unix_ms(),
        );
    }

    /// Puts mirrors in and out of service, in the plan in force and in the kernel.
    pub fn heed(&self, which: &Which) -> Result<(), Failure> {
        let mut current = self.in_service.current();
        self.heed_at(&mut current, which, now_unix_ms())
    }

    /// Puts mirrors in and out of service as of a moment in Unix milliseconds.
    pub fn heed_at(&self, current: &mut Current, which: &Which, now: u64) -> Result<(), Failure> {
        let world = self.world.load_full();
        let config = &world.inputs.config;
        // If a step fails, all is looked at anew the next time.
        let mut roster = std::mem::take(&mut current.roster);
        let mut which = which;
        if !roster.is_of(world.generation) {
            roster = Roster::fresh(config, world.generation);
            which = &Which::All;
        }
        // An answer has just the addresses that are up before its mirror is in service, and all of them
        // only when it is not any more.
        let readdressed = {
            let standings = self.in_service.standings();
            roster.readdressed(config, &standings, &current.findings, which, now)
        };
        self.readdress(current, &roster, &world, &readdressed, true)?;
        {
            let standings = self.in_service.standings();
            // The kernel's lock first, as everywhere.
            let mut kernel = self.lock_kernel();
            let mut plan = write(&world.plan);
            let findings = &current.findings;
            let stores = roster.bring(&mut plan, config, &standings, findings, which, now);
            if !stores.is_empty() {
                self.apply(kernel.as_deref_mut(), &stores)?;
            }
        }
        self.readdress(current, &roster, &world, &readdressed, false)?;
        self.log_mirrors(config, &roster, current, which, now);
        let Current { unserved, out, .. } = &mut *current;
        log_pools(config, &roster, unserved, &mut out.pools);
        current.roster = roster;
        Ok(())
    }

    /// Logs mirrors that have gone out of service, or have come back.
    fn log_mirrors(
        &self,
        config: &Config,
        roster: &Roster,
        current: &mut Current,
        which: &Which,
        now: u64,
    ) {
        let Current { findings, out, .. } = current;
        for number in which.of(config.mirrors.len()) {
            let mirror = &config.mirrors[number];
            let id = mirror.id.as_str();
            let is_in = roster.is_in_service(number);
            if is_in != out.mirrors.contains(id) {
                continue;
            }
            let standing = self.in_service.standings().get(id).cloned();
            let (_, cause) = in_service(mirror, &standing.unwrap_or_default(), findings, now);
            let pools = pools_of(config, id);
            match is_in {
                true => {
                    out.mirrors.remove(id);
                    let event = Kind::MirrorIn.name();
                    tracing::info!(
                        event,
                        mirror = id,
                        pools,
                        cause,
                        "mirror {id} comes into service: {cause}"
                    );
                }
                false => {
                    out.mirrors.insert(id.to_owned());
                    let event = Kind::MirrorOut.name();
                    tracing::warn!(
                        event,
                        mirror = id,
                        pools,
                        cause,
                        "mirror {id} goes out of service: {cause}"
                    );
                }
            }
        }
    }

    /// Brings the addresses in mirrors' answers up to date, in those families that have one that is up,
    /// or in those that have none.
    fn readdress(
        &self,
        current: &mut Current,
        roster: &Roster,
        world: &World,
        mirrors: &[(usize, Condition)],
        with_any: bool,
    ) -> Result<(), Failure> {
        let families = |condition: &Condition| {
            [Family::V4, Family::V6]
                .into_iter()
                .filter(|family| condition.addresses[family.index()].len() > 1)
                .filter(|&family| condition.has_any(family) == with_any)
                .collect::<Vec<_>>()
        };
        if mirrors.iter().all(|(_, now)| families(now).is_empty()) {
            return Ok(());
        }
        // Where there is none, a reader may have seen the mirror in service still.
        if (current.flipped || !with_any) && self.has_kernel() {
            kernel::grace().map_err(internal)?;
        }
        let config = &world.inputs.config;
        let mut kernel = self.lock_kernel();
        let mut plan = write(&world.plan);
        let mut stores = Vec::new();
        for (mirror, now) in mirrors {
            for family in families(now) {
                stores.extend(roster.set_addresses(&mut plan, config, *mirror, now, family));
            }
        }
        current.flipped = !stores.is_empty();
        self.apply(kernel.as_deref_mut(), &stores)
    }

    /// A warning for each pool of a mirror that has no mirror in service now.
    pub fn unserved(&self, mirror: &str) -> Vec<String> {
        let current = self.in_service.current();
        let world = self.world.load_full();
        let config = &world.inputs.config;
        if !current.roster.is_of(world.generation) {
            return Vec::new();
        }
        let holds = |pool: &usize| {
            let mut mirrors = config.pools[*pool].mirrors.iter();
            mirrors.any(|&other| config.mirrors[other].id == mirror)
        };
        (0..config.pools.len())
            .filter(holds)
            .filter(|&pool| config.pools[pool].of.is_none())
            .filter(|&pool| !current.roster.is_served(config, pool))
            .map(|pool| {
                let of = &config.pools[pool];
                let does = without_mirrors(config, of);
                format!("pool {} has no mirror in service now: {does}", of.id)
            })
            .collect()
    }
}

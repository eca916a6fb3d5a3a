//! The mirrors in service in one plan, and the stores that a change of them takes.

use std::collections::{BTreeSet, HashMap};

use geodns_common::abi::Family;

use super::{Condition, Findings, Standings};
use crate::config::Config;
use crate::health::Target;
use crate::plan::{Plan, Store};
use crate::steering::standing::Standing;
use crate::steering::{self, Health, Service};

/// Which mirrors may have changed.
#[derive(Clone, Debug)]
pub enum Which {
    /// All of them.
    All,
    /// These, by their index in the configuration.
    These(BTreeSet<usize>),
}

impl Which {
    /// Their indices, in a configuration of N mirrors.
    pub fn of(&self, mirrors: usize) -> Vec<usize> {
        match self {
            Self::All => (0..mirrors).collect(),
            Self::These(these) => these.iter().copied().collect(),
        }
    }
}

/// The mirrors in service in one plan.
#[derive(Debug, Default)]
pub struct Roster {
    generation: u64,
    mirrors: Vec<Condition>,
    services: Vec<Service>,
    /// Whether less is believed, as [`Findings::careful`].
    careful: bool,
    answered_by: Vec<u64>,
    /// Pools of each mirror.
    pools_of: Vec<Vec<usize>>,
    /// Mirrors of each target.
    mirrors_of: HashMap<Target, Vec<usize>>,
}

/// Brings a plan that nobody answers from yet up to date.
pub fn put(
    plan: &mut Plan,
    config: &Config,
    standings: &Standings,
    findings: &Findings,
    now_unix_ms: u64,
) {
    let mut roster = Roster::fresh(config, 0);
    let _ = roster.bring(plan, config, standings, findings, &Which::All, now_unix_ms);
    for (mirror, condition) in roster.mirrors.iter().enumerate() {
        for family in [Family::V4, Family::V6] {
            let _ = roster.set_addresses(plan, config, mirror, condition, family);
        }
    }
}

impl Roster {
    /// The roster of a fresh plan: everyone is in service.
    pub fn fresh(config: &Config, generation: u64) -> Self {
        let mut pools_of = vec![Vec::new(); config.mirrors.len()];
        for (number, pool) in config.pools.iter().enumerate() {
            for &mirror in &pool.mirrors {
                pools_of[mirror].push(number);
            }
        }
        let mut mirrors_of: HashMap<Target, Vec<usize>> = HashMap::new();
        for (number, mirror) in config.mirrors.iter().enumerate() {
            for target in Target::of(mirror) {
                mirrors_of.entry(target).or_default().push(number);
            }
        }
        Self {
            generation,
            mirrors: config.mirrors.iter().map(Condition::good).collect(),
            services: Vec::new(),
            careful: false,
            answered_by: Vec::new(),
            pools_of,
            mirrors_of,
        }
    }

    /// Whether it is of the plan of this number.
    pub fn is_of(&self, generation: u64) -> bool {
        self.generation == generation && !self.mirrors.is_empty()
    }

    /// Mirrors of a target, by their index in the configuration.
    pub fn mirrors_of(&self, target: &Target) -> Vec<usize> {
        let of = self.mirrors_of.get(target);
        of.cloned().unwrap_or_default()
    }

    /// Looks at mirrors anew. Gives the stores for the rows of their pools that this changes in the plan.
    pub fn bring(
        &mut self,
        plan: &mut Plan,
        config: &Config,
        standings: &Standings,
        findings: &Findings,
        which: &Which,
        now_unix_ms: u64,
    ) -> Vec<Store> {
        let nothing = Standing::default();
        let first = self.services.len() != config.pools.len();
        let mut pools: BTreeSet<usize> = BTreeSet::new();
        let mut reweighed: BTreeSet<usize> = BTreeSet::new();
        for mirror in which.of(config.mirrors.len()) {
            let of = &config.mirrors[mirror];
            let standing = standings.get(&of.id).unwrap_or(&nothing);
            let now = Condition::of(of, standing, findings, now_unix_ms);
            let before = &self.mirrors[mirror];
            if before.health != now.health {
                pools.extend(&self.pools_of[mirror]);
            }
            if before.health.weight != now.health.weight {
                reweighed.extend(&self.pools_of[mirror]);
            }
            self.mirrors[mirror] = now;
        }
        let careful = findings.careful();
        if first || self.careful != careful {
            self.careful = careful;
            pools.extend(0..config.pools.len());
        }
        let mut stores = Vec::new();
        for &pool in reweighed
            .iter()
            .filter(|&&pool| !config.pools[pool].groups.is_empty())
        {
            let mirrors = config.pools[pool].mirrors.iter();
            let weights: Vec<u32> = mirrors.map(|&m| self.mirrors[m].health.weight).collect();
            stores.extend(plan.set_weights(config, pool, &weights));
        }
        if pools.is_empty() {
            return stores;
        }
        for &pool in &pools {
            let service = self.service(plan, config, pool);
            match self.services.get_mut(pool) {
                Some(there) => *there = service,
                None => self.services.push(service),
            }
        }
        let has: Vec<[u64; 2]> = plan.pools().iter().map(|pool| pool.has).collect();
        let answered_by = steering::answered_by(&config.pools, &has, &self.services);
        let moved = |pool: &usize| self.answered_by.get(*pool) != Some(&answered_by[*pool]);
        pools.extend((0..config.pools.len()).filter(moved));
        self.answered_by = answered_by;
        for pool in pools {
            stores.extend(plan.set_service(pool, &self.services[pool], self.answered_by[pool]));
        }
        stores
    }

    fn service(&self, plan: &Plan, config: &Config, pool: usize) -> Service {
        let of = &config.pools[pool];
        // Who asks for one mirror by its name gets it.
        let health: Vec<Health> = match of.of {
            Some(_) => of.mirrors.iter().map(|_| Health::good(1)).collect(),
            None => of.mirrors.iter().map(|&m| self.mirrors[m].health).collect(),
        };
        steering::service(of, plan.pools()[pool].has, &health, self.careful)
    }

    /// Mirrors whose answers may need other addresses, in the condition that they are in now.
    pub fn readdressed(
        &self,
        config: &Config,
        standings: &Standings,
        findings: &Findings,
        which: &Which,
        now_unix_ms: u64,
    ) -> Vec<(usize, Condition)> {
        let nothing = Standing::default();
        let see = |mirror: usize| {
            let of = &config.mirrors[mirror];
            let standing = standings.get(&of.id).unwrap_or(&nothing);
            let now = Condition::of(of, standing, findings, now_unix_ms);
            let several = now.addresses.iter().any(|addresses| addresses.len() > 1);
            let changed = self.mirrors[mirror].addresses != now.addresses;
            (several && (changed || matches!(which, Which::All))).then_some((mirror, now))
        };
        let mirrors = which.of(config.mirrors.len());
        mirrors.into_iter().filter_map(see).collect()
    }

    /// Leaves a family's addresses that are down out of a mirror's answers, as long as one is up.
    pub fn set_addresses(
        &self,
        plan: &mut Plan,
        config: &Config,
        mirror: usize,
        condition: &Condition,
        family: Family,
    ) -> Vec<Store> {
        let mut stores = Vec::new();
        if config.mirrors[mirror].cname.is_some() {
            return stores;
        }
        for &pool in &self.pools_of[mirror] {
            let of = &config.pools[pool];
            let Some(number) = of.mirrors.iter().position(|&other| other == mirror) else {
                continue;
            };
            let by_name = of.of.is_some() || !condition.has_any(family);
            let addresses = condition.addresses[family.index()].iter();
            let up: Vec<bool> = addresses.map(|&up| up || by_name).collect();
            stores.extend(plan.set_addresses(config, pool, number as u8, family, &up));
        }
        stores
    }

    /// Whether new clients are sent to a mirror.
    pub fn is_in_service(&self, mirror: usize) -> bool {
        self.mirrors[mirror].is_in_service()
    }

    /// Whether so few mirrors of a pool are up that the checks are not believed, for any family.
    pub fn distrusts_checks(&self, pool: usize) -> bool {
        let service = self.services.get(pool);
        service.is_some_and(|service| service.panic != [false; 2])
    }

    /// Whether a pool has a mirror left that new clients are sent to.
    pub fn is_served(&self, config: &Config, pool: usize) -> bool {
        let mut mirrors = config.pools[pool].mirrors.iter();
        mirrors.any(|&mirror| self.mirrors[mirror].is_in_service())
    }
}

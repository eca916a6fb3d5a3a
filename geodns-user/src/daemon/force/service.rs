//! Who is in service: from what is found and said of the mirrors to the rows of the pools.
//!
//! One thread heeds all news (results of checks, other monitors' file, time that passes); what an
//! operator says is heeded where it is said. Whoever heeds holds the [`Judge`], so that decisions come
//! one after the other.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::time::Duration;

use geodns_common::abi::{Family, SHARES};

use crate::base::clock::now_unix_ms;
use crate::base::lock::{lock, write};
use crate::config::{Config, Fail};
use crate::control::api::Failure;
use crate::daemon::Daemon;
use crate::health::{Event, Status, Target, Trouble, Verdict};
use crate::kernel;
use crate::plan::{Plan, Store};
use crate::steering::standing::{Admin, Standing};
use crate::steering::{self, Health, Service};
use crate::world::World;

/// What is said, by mirror's id. Of a mirror that is not here nothing is said.
pub type Standings = HashMap<String, Standing>;

/// What may move a mirror in or out of service.
pub enum News {
    /// A check has a result.
    Checked(Event),
    /// Checks that could not be made.
    Troubled(Trouble),
    /// What other monitors' file says now.
    Feed(Vec<Verdict>),
    /// Something else is to change by itself.
    Look,
    /// What could not be put in force is to be tried again.
    Again,
    /// The daemon stops.
    Stop,
}

/// What is known of the mirrors, and what has come of it.
#[derive(Default)]
pub struct Judge {
    /// What the checks found, by target.
    found: HashMap<Target, Found>,
    /// What other monitors' file says, by mirror and address.
    feed: HashMap<(String, Option<IpAddr>), (bool, String)>,
    /// Of the plan in force.
    judged: Judged,
    /// Whether an answer that is not in force may still be read.
    flipped: bool,
    /// Pools without a mirror in service, as the log has it.
    unserved: BTreeSet<String>,
}

/// What a check found.
#[derive(Clone, Debug)]
struct Found {
    up: bool,
    reason: String,
    /// The least time from any moment before the next result until the state could change.
    until_change: Duration,
}

/// What has come of it for one plan.
#[derive(Default)]
struct Judged {
    generation: u64,
    mirrors: Vec<Seen>,
    services: Vec<Service>,
    answered_by: Vec<u64>,
    /// Pools of each mirror.
    pools_of: Vec<Vec<usize>>,
    /// Mirrors of each target.
    mirrors_of: HashMap<Target, Vec<usize>>,
}

/// A mirror, as it is seen.
#[derive(Clone, Debug, PartialEq)]
struct Seen {
    health: Health,
    /// Whether each of its addresses is up, by [`Family::index`].
    addresses: [Vec<bool>; 2],
}

impl Seen {
    /// Whether an address of a family is up.
    fn has_any(&self, family: Family) -> bool {
        self.addresses[family.index()].contains(&true)
    }
}

/// Which mirrors may have changed.
pub enum Which {
    /// All of them.
    All,
    /// These, by their index in the configuration.
    These(BTreeSet<usize>),
}

/// Targets of all checks.
pub fn targets(config: &Config) -> impl Iterator<Item = Target> {
    config.mirrors.iter().flat_map(Target::of)
}

impl Judge {
    /// Takes over what a monitor knows of its targets: from before a restart, or under other times.
    /// Forgets all others.
    pub fn take(&mut self, status: Vec<Status>) {
        let mut before = std::mem::take(&mut self.found);
        for status in status {
            let found = before.remove(&*status.target).or_else(|| {
                Some(Found {
                    up: status.up?,
                    reason: "not checked again yet".to_owned(),
                    until_change: Duration::ZERO,
                })
            });
            if let Some(found) = found {
                self.found.insert(Target::clone(&status.target), found);
            }
        }
    }

    /// Knows of a configuration's targets what it knows of those that ask the same at other times: for
    /// the moment between the plan that it is compiled to and the monitor's taking it over.
    pub fn foresee(&mut self, config: &Config) {
        let foreseen = self.foreseen(config);
        self.found.extend(foreseen);
    }

    /// What it would know with a configuration in force: see [`Judge::foresee`].
    pub fn foreseeing(&self, config: &Config) -> Self {
        let mut found = self.found.clone();
        found.extend(self.foreseen(config));
        Self {
            found,
            feed: self.feed.clone(),
            ..Self::default()
        }
    }

    fn foreseen(&self, config: &Config) -> Vec<(Target, Found)> {
        let by_key = self
            .found
            .iter()
            .map(|(target, found)| (target.key(), found));
        let by_key: HashMap<String, &Found> = by_key.collect();
        targets(config)
            .filter(|target| !self.found.contains_key(target))
            .filter_map(|target| {
                let found = Found {
                    until_change: Duration::ZERO,
                    ..Found::clone(by_key.get(&target.key())?)
                };
                Some((target, found))
            })
            .collect()
    }

    /// Takes what other monitors' file says, in the place of what it said before.
    pub fn feed(&mut self, verdicts: &[Verdict]) {
        let entry = |verdict: &Verdict| {
            let reason = verdict.reason.clone().unwrap_or_default();
            let of = (verdict.mirror.clone(), verdict.address);
            (of, (verdict.up, reason))
        };
        self.feed = verdicts.iter().map(entry).collect();
    }

    /// Takes a result. Gives whether it may change an answer.
    pub fn checked(&mut self, event: &Event) -> bool {
        // The next result is an interval away, and until then nothing is worked out anew.
        let until_change = event
            .until_change
            .saturating_sub(event.target.check.interval);
        let found = Found {
            up: event.up,
            reason: event.reason.clone().unwrap_or_default(),
            until_change,
        };
        let seconds = |found: &Found| (found.up, found.until_change.as_secs());
        let now = seconds(&found);
        let target = Target::clone(&event.target);
        let before = self.found.insert(target, found);
        before.as_ref().map(seconds) != Some(now)
    }

    /// What monitors' file or our own checks say of an address, and why. `None`: nothing.
    pub fn found(
        &self,
        mirror: &crate::config::Mirror,
        address: Option<IpAddr>,
    ) -> Option<(bool, &str)> {
        let feed = |address| self.feed.get(&(mirror.id.clone(), address));
        let fed = address
            .and_then(|address| feed(Some(address)))
            .or_else(|| feed(None));
        if let Some((up, reason)) = fed {
            return Some((*up, reason));
        }
        let target = Target {
            check: mirror.check.clone()?,
            address: address?,
        };
        let found = self.found.get(&target)?;
        Some((found.up, &found.reason))
    }

    /// Mirrors of a target, by their index in the configuration that was last judged.
    pub fn mirrors_of(&self, target: &Target) -> Vec<usize> {
        let of = self.judged.mirrors_of.get(target);
        of.cloned().unwrap_or_default()
    }

    /// A mirror, as it is now.
    fn see(&self, mirror: &crate::config::Mirror, standing: &Standing, now: u64) -> Seen {
        let up = |address: Option<IpAddr>| {
            let said = match standing.admin {
                // Known apart, below.
                Admin::Down => Some(true),
                _ => standing.decides(address, now),
            };
            let found = || self.found(mirror, address).map(|(up, _)| up);
            said.or_else(found).unwrap_or(true)
        };
        let v4 = mirror.v4.iter().map(|&address| up(Some(address.into())));
        let v6 = mirror.v6.iter().map(|&address| up(Some(address.into())));
        let addresses = [v4.collect::<Vec<_>>(), v6.collect::<Vec<_>>()];
        let any = |addresses: &Vec<bool>| match mirror.cname {
            Some(_) => up(None),
            None => addresses.contains(&true),
        };
        let until_change = |target| {
            let found = self.found.get(&target);
            // The first result may say anything.
            found.map_or(Duration::ZERO, |found| found.until_change)
        };
        let by_check = match standing.admin {
            Admin::Auto | Admin::Drain(_) => Target::of(mirror).map(until_change).min(),
            Admin::Up | Admin::Down => None,
        };
        let by_itself = standing.next_change(now, SHARES as u32);
        let by_itself = by_itself.map(|at| Duration::from_millis(at.saturating_sub(now)));
        Seen {
            health: Health {
                up: [any(&addresses[0]), any(&addresses[1])],
                down: standing.admin == Admin::Down,
                drained: (standing.drained(now) * SHARES as f64) as usize,
                weight: standing.weight(mirror.weight, now),
                until_change: by_check.into_iter().chain(by_itself).min(),
            },
            addresses,
        }
    }

    /// Brings a plan that nobody answers from yet up to date, as of a moment in Unix milliseconds.
    pub fn put(&self, plan: &mut Plan, config: &Config, standings: &Standings, now: u64) {
        let mut judged = Judged::unknown(config, 0);
        let _ = judged.bring(self, plan, config, standings, &Which::All, now);
        for (mirror, seen) in judged.mirrors.iter().enumerate() {
            for family in [Family::V4, Family::V6] {
                let _ = set_addresses(plan, config, &judged, mirror, seen, family);
            }
        }
    }
}

impl Judged {
    /// As a fresh plan has it: everything in service.
    fn unknown(config: &Config, generation: u64) -> Self {
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
        let mirrors = config.mirrors.iter().map(|mirror| Seen {
            health: Health::good(mirror.weight),
            addresses: [vec![true; mirror.v4.len()], vec![true; mirror.v6.len()]],
        });
        Self {
            generation,
            mirrors: mirrors.collect(),
            services: Vec::new(),
            answered_by: Vec::new(),
            pools_of,
            mirrors_of,
        }
    }

    /// Looks at mirrors anew, and gives the stores for what that changes in the plan.
    fn bring(
        &mut self,
        judge: &Judge,
        plan: &mut Plan,
        config: &Config,
        standings: &Standings,
        which: &Which,
        now: u64,
    ) -> Vec<Store> {
        let nothing = Standing::default();
        let first = self.services.len() != config.pools.len();
        let mut pools: BTreeSet<usize> = BTreeSet::new();
        let mut reweighed: BTreeSet<usize> = BTreeSet::new();
        let mut look = |mirror: usize| {
            let of = &config.mirrors[mirror];
            let seen = judge.see(of, standings.get(&of.id).unwrap_or(&nothing), now);
            let before = &self.mirrors[mirror];
            if before.health != seen.health {
                pools.extend(&self.pools_of[mirror]);
            }
            if before.health.weight != seen.health.weight {
                reweighed.extend(&self.pools_of[mirror]);
            }
            self.mirrors[mirror] = seen;
        };
        match which {
            Which::All => (0..config.mirrors.len()).for_each(&mut look),
            Which::These(mirrors) => mirrors.iter().copied().for_each(&mut look),
        }
        if first {
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
        steering::service(of, plan.pools()[pool].has, &health)
    }

    /// Whether a pool has a mirror left that new clients are sent to.
    fn is_served(&self, config: &Config, pool: usize) -> bool {
        config.pools[pool].mirrors.iter().any(|&mirror| {
            let health = &self.mirrors[mirror].health;
            !health.down
                && health.up.contains(&true)
                && health.weight > 0
                && health.drained < SHARES
        })
    }
}

/// Leaves a family's addresses that are down out of a mirror's answers, as long as one is up.
fn set_addresses(
    plan: &mut Plan,
    config: &Config,
    judged: &Judged,
    mirror: usize,
    seen: &Seen,
    family: Family,
) -> Vec<Store> {
    let mut stores = Vec::new();
    if config.mirrors[mirror].cname.is_some() {
        return stores;
    }
    for &pool in &judged.pools_of[mirror] {
        let of = &config.pools[pool];
        let Some(number) = of.mirrors.iter().position(|&other| other == mirror) else {
            continue;
        };
        let by_name = of.of.is_some() || !seen.has_any(family);
        let addresses = seen.addresses[family.index()].iter();
        let up: Vec<bool> = addresses.map(|&up| up || by_name).collect();
        stores.extend(plan.set_addresses(config, pool, number as u8, family, &up));
    }
    stores
}

/// Says which pools have lost their last mirror, or have one again. `unserved`: those of which it was said.
fn log_pools(config: &Config, judged: &Judged, unserved: &mut BTreeSet<String>) {
    for (number, pool) in config.pools.iter().enumerate() {
        let id = pool.id.as_str();
        let is_served = pool.of.is_some() || judged.is_served(config, number);
        if is_served && unserved.remove(id) {
            tracing::info!(
                pool = id,
                state = "served",
                "pool {id}: a mirror is in service again"
            );
        } else if !is_served && unserved.insert(id.to_owned()) {
            let does = without_mirrors(config, pool);
            tracing::warn!(
                pool = id,
                state = "unserved",
                "pool {id}: no mirror is in service: {does}"
            );
        }
    }
}

/// What a pool does without a mirror in service.
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
            let _ = self.news.send(News::Again);
        }
    }

    /// Brings a world that is not in force yet up to date.
    pub fn put_service(&self, next: &World) {
        let judge = lock(&self.judge);
        let standings = lock(&self.standings);
        let mut plan = write(&next.plan);
        judge.put(&mut plan, &next.inputs.config, &standings, now_unix_ms());
    }

    /// Brings the plan in force and the kernel up to date.
    pub fn heed(&self, which: &Which) -> Result<(), Failure> {
        let mut judge = lock(&self.judge);
        self.heed_with(&mut judge, which)
    }

    pub fn heed_with(&self, judge: &mut Judge, which: &Which) -> Result<(), Failure> {
        self.heed_at(judge, which, now_unix_ms())
    }

    /// As of a moment, in Unix milliseconds.
    pub fn heed_at(&self, judge: &mut Judge, which: &Which, now: u64) -> Result<(), Failure> {
        let world = self.world.load_full();
        let config = &world.inputs.config;
        let mut judged = std::mem::take(&mut judge.judged);
        let mut which = which;
        if judged.generation != world.generation || judged.mirrors.is_empty() {
            judged = Judged::unknown(config, world.generation);
            which = &Which::All;
        }
        // An answer has just the addresses that are up before its mirror is in service, and all of them
        // only when it is not any more.
        let readdressed = self.readdressed(judge, &judged, config, which, now);
        self.readdress(judge, &judged, &world, &readdressed, true)?;
        {
            let standings = lock(&self.standings);
            // The kernel's lock first, as everywhere.
            let mut kernel = self.lock_kernel();
            let mut plan = write(&world.plan);
            let stores = judged.bring(judge, &mut plan, config, &standings, which, now);
            if !stores.is_empty() {
                self.apply(kernel.as_deref_mut(), &stores)?;
            }
        }
        self.readdress(judge, &judged, &world, &readdressed, false)?;
        log_pools(config, &judged, &mut judge.unserved);
        judge.judged = judged;
        Ok(())
    }

    /// Mirrors whose answers may need other addresses, as they are now.
    fn readdressed(
        &self,
        judge: &Judge,
        judged: &Judged,
        config: &Config,
        which: &Which,
        now: u64,
    ) -> Vec<(usize, Seen)> {
        let nothing = Standing::default();
        let standings = lock(&self.standings);
        let see = |mirror: usize| {
            let of = &config.mirrors[mirror];
            let seen = judge.see(of, standings.get(&of.id).unwrap_or(&nothing), now);
            let several = seen.addresses.iter().any(|addresses| addresses.len() > 1);
            let changed = judged.mirrors[mirror].addresses != seen.addresses;
            (several && (changed || matches!(which, Which::All))).then_some((mirror, seen))
        };
        match which {
            Which::All => (0..config.mirrors.len()).filter_map(see).collect(),
            Which::These(mirrors) => mirrors.iter().copied().filter_map(see).collect(),
        }
    }

    /// Brings the addresses in mirrors' answers up to date, in those families that have one that is up,
    /// or in those that have none.
    fn readdress(
        &self,
        judge: &mut Judge,
        judged: &Judged,
        world: &World,
        mirrors: &[(usize, Seen)],
        with_any: bool,
    ) -> Result<(), Failure> {
        let families = |seen: &Seen| {
            [Family::V4, Family::V6]
                .into_iter()
                .filter(|family| seen.addresses[family.index()].len() > 1)
                .filter(|&family| seen.has_any(family) == with_any)
                .collect::<Vec<_>>()
        };
        if mirrors.iter().all(|(_, seen)| families(seen).is_empty()) {
            return Ok(());
        }
        let internal = |error: std::io::Error| Failure::Internal(error.to_string());
        // Where there is none, a reader may have seen the mirror in service still.
        if (judge.flipped || !with_any) && self.kernel.is_some() {
            kernel::grace().map_err(internal)?;
        }
        let config = &world.inputs.config;
        let mut kernel = self.lock_kernel();
        let mut plan = write(&world.plan);
        let mut stores = Vec::new();
        for (mirror, seen) in mirrors {
            for family in families(seen) {
                stores.extend(set_addresses(
                    &mut plan, config, judged, *mirror, seen, family,
                ));
            }
        }
        judge.flipped = !stores.is_empty();
        self.apply(kernel.as_deref_mut(), &stores)
    }

    /// Pools that have lost their last mirror, of those that hold this one.
    pub fn unserved(&self, mirror: &str) -> Vec<String> {
        let judge = lock(&self.judge);
        let world = self.world.load_full();
        let config = &world.inputs.config;
        if judge.judged.generation != world.generation {
            return Vec::new();
        }
        let holds = |pool: &usize| {
            let mut mirrors = config.pools[*pool].mirrors.iter();
            mirrors.any(|&other| config.mirrors[other].id == mirror)
        };
        (0..config.pools.len())
            .filter(holds)
            .filter(|&pool| config.pools[pool].of.is_none())
            .filter(|&pool| !judge.judged.is_served(config, pool))
            .map(|pool| {
                let of = &config.pools[pool];
                let does = without_mirrors(config, of);
                format!("pool {} has no mirror in service now: {does}", of.id)
            })
            .collect()
    }
}

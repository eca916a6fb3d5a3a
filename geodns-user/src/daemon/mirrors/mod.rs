//! Words of operators and other monitors on mirrors are kept, put in force, and shown.
//!
//! - `alerts`: alerts of Alertmanager, as verdicts
//! - `news`: results of checks and other monitors' file, heeded
//! - `unsaved`: results of checks that the disk does not have yet

mod alerts;
mod news;
mod unsaved;

use unsaved::Unsaved;

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, mpsc};

use async_trait::async_trait;

use super::Daemon;
use super::audit;
use super::control::Control;
use super::force::{Edit, News};
use super::ids::require_mirror;
use crate::base::clock::{now_unix_ms, unix_ms};
use crate::config::{self, Config};
use crate::control::mirror::{
    AdminState, CheckState, Mirror, MirrorAdmin, MirrorChanged, MirrorCheck, MirrorWeight,
    SetAdmin, SetHealth, SetWeight, Verdict,
};
use crate::control::problem::Failure;
use crate::health::{self, Monitor, Outcome, Status, Target, Told};
use crate::service::{Findings, Standings, Which, in_service, targets};
use crate::state::{Item, State};
use crate::steering::standing::{Admin, External, Ramp, Standing, Weight};

/// The checks of all mirrors.
pub struct Mirrors {
    pub monitor: Monitor,
    /// Counts batches of results with changed verdicts.
    pub verdicts: AtomicU64,
    unsaved: Unsaved,
}

impl Mirrors {
    /// With a monitor that has started.
    pub fn new(monitor: Monitor) -> Self {
        Self {
            monitor,
            verdicts: AtomicU64::new(0),
            unsaved: Unsaved::default(),
        }
    }
}

/// Starts the checks, from where they were before a restart.
pub fn start_monitor(
    config: &Config,
    state: &State,
    news: mpsc::Sender<News>,
) -> anyhow::Result<Monitor> {
    let options = health::Options {
        saved: state.health()?,
        ..health::Options::default()
    };
    let monitor = Monitor::start(options, move |told| {
        let _ = news.send(match told {
            Told::Result(event) => News::Checked(event),
            Told::Trouble(trouble) => News::Troubled(trouble),
        });
    });
    monitor.set_targets(targets(config));
    Ok(monitor)
}

/// Loads the words on mirrors. Those on mirrors that the configuration lacks stay in the state.
pub fn load(config: &Config, state: &State) -> anyhow::Result<Standings> {
    let standings = state.standings()?;
    warn_of_unknown(config, &standings);
    Ok(standings)
}

/// Warns of words on mirrors that the configuration lacks.
pub fn warn_of_unknown(config: &Config, standings: &Standings) {
    let known = |id: &String| config.mirrors.iter().any(|mirror| mirror.id == *id);
    let mut unknown: Vec<_> = standings.keys().filter(|id| !known(id)).collect();
    unknown.sort_unstable();
    for id in unknown {
        tracing::warn!(
            mirror = id.as_str(),
            "what was said of mirror {id} (up, down, drain, weight, health) is not in force: the \
             configuration has no such mirror"
        );
    }
}

impl Daemon {
    /// `GET /v1/mirrors`
    pub fn mirrors(&self) -> Vec<Mirror> {
        let world = self.world.load_full();
        let config = &world.inputs.config;
        self.with_known(config, now_unix_ms(), |known| {
            let mirrors = config.mirrors.iter().enumerate();
            mirrors
                .map(|(number, mirror)| known.view(number, &self.standing(&mirror.id)))
                .collect()
        })
    }

    /// `GET /v1/mirrors/{id}`
    pub fn mirror(&self, id: &str) -> Result<Mirror, Failure> {
        let world = self.world.load_full();
        let config = &world.inputs.config;
        let mirror = require_mirror(config, id)?;
        Ok(self.with_known(config, now_unix_ms(), |known| {
            known.view(mirror, &self.standing(id))
        }))
    }

    /// `mirror up | down | drain | auto`
    pub fn set_admin(&self, id: &str, change: SetAdmin) -> Result<Edit<MirrorChanged>, Failure> {
        self.stand(id, |standing, _, now| {
            let admin = match change.state {
                AdminState::Auto => Admin::Auto,
                AdminState::Up => Admin::Up,
                AdminState::Down => Admin::Down,
                AdminState::Drain => Admin::Drain(ramp(now, change.over_ms)),
            };
            standing.set_admin(admin, now);
            Ok(())
        })
    }

    /// `mirror weight`; without a change, `--reset`
    pub fn set_weight(
        &self,
        id: &str,
        change: Option<SetWeight>,
    ) -> Result<Edit<MirrorChanged>, Failure> {
        self.stand(id, |standing, mirror, now| {
            standing.weight = change.map(|change| Weight {
                value: change.value,
                from: standing.weight(mirror.weight, now),
                ramp: ramp(now, change.over_ms),
            });
            Ok(())
        })
    }

    /// `mirror set-health`
    pub fn set_health(&self, id: &str, change: &SetHealth) -> Result<Edit<MirrorChanged>, Failure> {
        self.stand(id, |standing, mirror, now| {
            if let Some(address) = change.address {
                require_address(mirror, address)?;
            }
            let verdict = External {
                up: change.up,
                address: change.address,
                until_unix_ms: change.for_ms.map(|time| now.saturating_add(time)),
                reason: change.reason.clone(),
                since_unix_ms: now,
            };
            standing
                .set_external(verdict)
                .map_err(|refused| Failure::Invalid(format!("mirror {id}: {refused}")))
        })
    }

    /// `mirror set-health --clear`: one address's, or all. Addresses that the mirror no longer has
    /// can be cleared, too.
    pub fn clear_health(
        &self,
        id: &str,
        address: Option<IpAddr>,
    ) -> Result<Edit<MirrorChanged>, Failure> {
        self.stand(id, |standing, mirror, _| {
            match address {
                Some(one) if standing.external.iter().all(|v| v.address != address) => {
                    require_address(mirror, one)?;
                }
                _ => standing.clear_external(address),
            }
            Ok(())
        })
    }

    /// Prepares a change of the words on a mirror.
    fn stand(
        &self,
        id: &str,
        change: impl FnOnce(&mut Standing, &config::Mirror, u64) -> Result<(), Failure>,
    ) -> Result<Edit<MirrorChanged>, Failure> {
        let world = self.world.load_full();
        let config = &world.inputs.config;
        let mirror = require_mirror(config, id)?;
        let now = now_unix_ms();
        let before = self.standing(id);
        let mut after = before.clone();
        change(&mut after, &config.mirrors[mirror], now)?;
        let items = vec![Item::standing(id, after.clone())];
        let id = id.to_owned();
        Ok(Edit::new(
            format!("mirror {id}"),
            items,
            move |daemon, _| {
                let warnings = daemon.warnings(&id);
                daemon.with_known(&world.inputs.config, now, |known| MirrorChanged {
                    before: known.view(mirror, &before),
                    after: known.view(mirror, &after),
                    warnings,
                })
            },
        ))
    }

    /// Puts words on mirrors in force, all of them or none.
    pub fn put_standings(&self, standings: &[(&str, Option<&Standing>)]) -> Result<(), Failure> {
        let after = standings.iter().map(|&(id, after)| (id, after.cloned()));
        let before = self.swap_standings(after.collect());
        let world = self.world.load_full();
        let mirrors = world.inputs.config.mirrors.iter().enumerate();
        let mirrors =
            mirrors.filter(|(_, mirror)| standings.iter().any(|(id, _)| *id == mirror.id));
        let mirrors = mirrors.map(|(at, _)| at).collect();
        self.heed(&Which::These(mirrors)).inspect_err(|_| {
            self.swap_standings(before);
            self.heed_or_again();
        })?;
        // For the next step of a ramp.
        self.in_service.tell(News::Look);
        Ok(())
    }

    /// Replaces words on mirrors. Gives those that they had, from the last to the first: a mirror may stand there twice.
    fn swap_standings<'a>(
        &self,
        standings: Vec<(&'a str, Option<Standing>)>,
    ) -> Vec<(&'a str, Option<Standing>)> {
        let mut all = self.in_service.standings();
        let swapped = standings.into_iter().map(|(id, standing)| {
            let before = match standing {
                Some(standing) => all.insert(id.to_owned(), standing),
                None => all.remove(id),
            };
            (id, before)
        });
        let mut swapped: Vec<_> = swapped.collect();
        swapped.reverse();
        swapped
    }

    /// Warnings for the operator who has said something of a mirror.
    fn warnings(&self, id: &str) -> Vec<String> {
        let standing = self.standing(id);
        let drained = matches!(standing.admin, Admin::Down | Admin::Drain(_));
        let out = drained || standing.weight.is_some() || !standing.external.is_empty();
        if out { self.unserved(id) } else { Vec::new() }
    }

    /// The words on a mirror.
    pub fn standing(&self, id: &str) -> Standing {
        let standings = self.in_service.standings();
        standings.get(id).cloned().unwrap_or_default()
    }

    /// Runs `show` with all that mirrors are shown from, as it is at this moment.
    fn with_known<T>(&self, config: &Config, now: u64, show: impl FnOnce(&Known<'_>) -> T) -> T {
        let checks = self.mirrors.monitor.snapshot().into_iter();
        let checks = checks.map(|status| (Arc::clone(&status.target), status));
        let current = self.in_service.current();
        let mut pools = vec![Vec::new(); config.mirrors.len()];
        for pool in config.pools.iter().filter(|pool| pool.of.is_none()) {
            for &mirror in &pool.mirrors {
                pools[mirror].push(&*pool.id);
            }
        }
        show(&Known {
            config,
            pools: &pools,
            findings: &current.findings,
            checks: &checks.collect(),
            now,
        })
    }
}

fn ramp(since_unix_ms: u64, over_ms: Option<u64>) -> Ramp {
    Ramp {
        since_unix_ms,
        over_ms: over_ms.unwrap_or(0),
    }
}

fn require_address(mirror: &config::Mirror, address: IpAddr) -> Result<(), Failure> {
    if mirror.addresses().any(|other| other == address) {
        return Ok(());
    }
    let known: Vec<_> = mirror.addresses().map(|known| known.to_string()).collect();
    Err(Failure::Invalid(format!(
        "mirror {} has no address {address}; it has {}",
        mirror.id,
        known.join(", ")
    )))
}

/// All that mirrors are shown from.
struct Known<'a> {
    config: &'a Config,
    /// Ids of the pools of each mirror.
    pools: &'a [Vec<&'a str>],
    findings: &'a Findings,
    checks: &'a HashMap<Arc<Target>, Status>,
    now: u64,
}

impl Known<'_> {
    /// A mirror, as the API shows it.
    fn view(&self, number: usize, standing: &Standing) -> Mirror {
        let mirror = &self.config.mirrors[number];
        let profile = &mirror.profile;
        let pools = self.pools[number].iter();
        let (in_service, why) = in_service(mirror, standing, self.findings, self.now);
        Mirror {
            id: mirror.id.clone(),
            addresses: mirror.addresses().collect(),
            pools: pools.map(|&id| id.to_owned()).collect(),
            in_service,
            why,
            admin: admin(standing, self.now),
            weight: weight(mirror, standing, self.now),
            checks: mirror
                .addresses()
                .map(|at| self.check(mirror, at))
                .collect(),
            external: verdicts(standing, self.now),
            url: profile.url.clone(),
            sponsor: profile.sponsor.clone(),
            country: profile
                .country
                .map(|code| String::from_utf8_lossy(&code).into_owned()),
            bandwidth: profile.bandwidth,
            limits: (!mirror.limits.are_none()).then(|| mirror.limits.to_string()),
            now_unix_ms: self.now,
        }
    }

    /// The state of our own check of an address.
    fn check(&self, mirror: &config::Mirror, address: IpAddr) -> MirrorCheck {
        let target = mirror.check.clone().map(|check| Target { check, address });
        let status = target.and_then(|target| self.checks.get(&target));
        let state = match status.and_then(|status| status.up) {
            Some(true) => CheckState::Up,
            Some(false) => CheckState::Down,
            None => CheckState::Unknown,
        };
        let since = status.and_then(|status| status.since);
        let last = status.and_then(|status| status.last.as_ref());
        MirrorCheck {
            address,
            state,
            since_unix_ms: since.map(unix_ms),
            reason: last.and_then(|last| match &last.outcome {
                Outcome::Passed => None,
                Outcome::Failed(reason) | Outcome::Impossible(reason) => Some(reason.clone()),
            }),
            latency_ms: last.map(|last| last.latency.as_secs_f64() * 1000.0),
            trace_unix_ms: status.and_then(|status| status.trace).map(unix_ms),
        }
    }
}

fn admin(standing: &Standing, now: u64) -> MirrorAdmin {
    let (state, ramp) = match standing.admin {
        Admin::Auto => (AdminState::Auto, None),
        Admin::Up => (AdminState::Up, None),
        Admin::Down => (AdminState::Down, None),
        Admin::Drain(ramp) => (AdminState::Drain, Some(ramp)),
    };
    MirrorAdmin {
        state,
        since_unix_ms: standing.admin_since_unix_ms,
        drained: standing.drained(now),
        over_ms: ramp.map(|ramp| ramp.over_ms),
        until_unix_ms: ramp.map(|ramp| ramp.end_unix_ms()),
    }
}

fn weight(mirror: &config::Mirror, standing: &Standing, now: u64) -> MirrorWeight {
    let configured = mirror.weight;
    let ramp = standing.weight.map(|weight| weight.ramp);
    MirrorWeight {
        configured,
        in_force: standing.weight(configured, now),
        wanted: standing.weight.map(|weight| weight.value),
        since_unix_ms: ramp.map(|ramp| ramp.since_unix_ms),
        over_ms: ramp.map(|ramp| ramp.over_ms),
        until_unix_ms: ramp.map(|ramp| ramp.end_unix_ms()),
    }
}

fn verdicts(standing: &Standing, now: u64) -> Vec<Verdict> {
    let verdicts = standing.external.iter();
    verdicts
        .filter(|verdict| verdict.in_force(now))
        .map(|verdict| Verdict {
            up: verdict.up,
            address: verdict.address,
            since_unix_ms: verdict.since_unix_ms,
            until_unix_ms: verdict.until_unix_ms,
            reason: verdict.reason.clone(),
        })
        .collect()
}

#[async_trait]
impl crate::control::mirror::Service for Control {
    async fn mirrors(&self) -> Result<Vec<Mirror>, Failure> {
        Ok(self.0.mirrors())
    }

    async fn mirror(&self, id: String) -> Result<Mirror, Failure> {
        self.0.mirror(&id)
    }

    async fn mirror_admin(&self, id: String, change: SetAdmin) -> Result<MirrorChanged, Failure> {
        let change = move |daemon: &Daemon| daemon.set_admin(&id, change);
        self.edit("mirror", change, audit::mirror).await
    }

    async fn mirror_weight(&self, id: String, change: SetWeight) -> Result<MirrorChanged, Failure> {
        let change = move |daemon: &Daemon| daemon.set_weight(&id, Some(change));
        self.edit("mirror weight", change, audit::mirror).await
    }

    async fn mirror_weight_reset(&self, id: String) -> Result<MirrorChanged, Failure> {
        let change = move |daemon: &Daemon| daemon.set_weight(&id, None);
        self.edit("mirror weight", change, audit::mirror).await
    }

    async fn mirror_health(&self, id: String, change: SetHealth) -> Result<MirrorChanged, Failure> {
        let change = move |daemon: &Daemon| daemon.set_health(&id, &change);
        self.edit("mirror set-health", change, audit::health).await
    }

    async fn mirror_health_clear(
        &self,
        id: String,
        address: Option<IpAddr>,
    ) -> Result<MirrorChanged, Failure> {
        let change = move |daemon: &Daemon| daemon.clear_health(&id, address);
        self.edit("mirror set-health", change, audit::health).await
    }
}

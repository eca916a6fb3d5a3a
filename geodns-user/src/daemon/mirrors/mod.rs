//! What an operator and other monitors say of mirrors: kept, put in force, and shown.
//!
//! - `news`: what checks and other monitors' file find, heeded
//! - `unsaved`: what checks found and the disk does not have yet

mod news;
mod unsaved;

pub use unsaved::Findings;

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use super::Daemon;
use super::force::{Judge, News, Standings, Which, durably, internal};
use super::ids::require_mirror;
use crate::base::clock::{now_unix_ms, unix_ms};
use crate::base::lock::lock;
use crate::config::{self, Config};
use crate::control::api::{
    AdminState, CheckState, Failure, Mirror, MirrorAdmin, MirrorChanged, MirrorCheck, MirrorWeight,
    SetAdmin, SetHealth, SetWeight, Verdict,
};
use crate::health::{Outcome, Status, Target};
use crate::state::State;
use crate::steering::standing::{Admin, External, Ramp, Standing, Weight};

/// What the state holds. What is said of mirrors that the configuration lacks stays there.
pub fn load(config: &Config, state: &State) -> anyhow::Result<Standings> {
    let standings = state.standings()?;
    warn_of_unknown(config, &standings);
    Ok(standings)
}

/// Says which of them mean a mirror that the configuration lacks.
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
    pub fn set_admin(&self, id: &str, change: SetAdmin) -> Result<MirrorChanged, Failure> {
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
    ) -> Result<MirrorChanged, Failure> {
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
    pub fn set_health(&self, id: &str, change: SetHealth) -> Result<MirrorChanged, Failure> {
        self.stand(id, |standing, mirror, now| {
            if let Some(address) = change.address {
                require_address(mirror, address)?;
            }
            let verdict = External {
                up: change.up,
                address: change.address,
                until_unix_ms: change.for_ms.map(|time| now.saturating_add(time)),
                reason: change.reason,
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
    ) -> Result<MirrorChanged, Failure> {
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

    /// Changes what is said of a mirror: on the disk, then in force. Where that fails, nothing changes.
    fn stand(
        &self,
        id: &str,
        change: impl FnOnce(&mut Standing, &config::Mirror, u64) -> Result<(), Failure>,
    ) -> Result<MirrorChanged, Failure> {
        let world = self.world.load_full();
        let config = &world.inputs.config;
        let mirror = require_mirror(config, id)?;
        let now = now_unix_ms();
        let before = self.standing(id);
        let mut after = before.clone();
        change(&mut after, &config.mirrors[mirror], now)?;
        let warnings = durably(
            &format!("mirror {id}"),
            || self.keep_standing(id, &after),
            || self.restand(id),
            || {
                self.keep_standing(id, &before)?;
                self.heed_or_again();
                Ok(())
            },
        )?;
        let changed = self.with_known(config, now, |known| MirrorChanged {
            before: known.view(mirror, &before),
            after: known.view(mirror, &after),
            warnings,
        });
        Ok(changed)
    }

    /// Brings the answers up to date with what is said of a mirror; what the operator should know.
    pub fn restand(&self, id: &str) -> Result<Vec<String>, Failure> {
        let world = self.world.load_full();
        let mirrors = world.inputs.config.mirrors.iter();
        let mirror = mirrors.enumerate().find(|(_, mirror)| mirror.id == id);
        self.heed(&Which::These(
            mirror.into_iter().map(|(at, _)| at).collect(),
        ))?;
        // For the next step of a ramp.
        let _ = self.news.send(News::Look);
        let standing = self.standing(id);
        let drained = matches!(standing.admin, Admin::Down | Admin::Drain(_));
        let out = drained || standing.weight.is_some() || !standing.external.is_empty();
        Ok(if out { self.unserved(id) } else { Vec::new() })
    }

    /// What is said of a mirror.
    pub fn standing(&self, id: &str) -> Standing {
        let standings = lock(&self.standings);
        standings.get(id).cloned().unwrap_or_default()
    }

    /// What mirrors are shown from, as it is at this moment.
    fn with_known<T>(&self, config: &Config, now: u64, show: impl FnOnce(&Known<'_>) -> T) -> T {
        let checks = self.monitor.snapshot().into_iter();
        let checks = checks.map(|status| (Arc::clone(&status.target), status));
        let judge = lock(&self.judge);
        show(&Known {
            config,
            judge: &judge,
            checks: &checks.collect(),
            now,
        })
    }

    fn keep_standing(&self, id: &str, standing: &Standing) -> Result<(), Failure> {
        self.state.save_standing(id, standing).map_err(internal)?;
        let mut standings = lock(&self.standings);
        if standing.is_empty() {
            standings.remove(id);
        } else {
            standings.insert(id.to_owned(), standing.clone());
        }
        Ok(())
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

/// What mirrors are shown from.
struct Known<'a> {
    config: &'a Config,
    judge: &'a Judge,
    checks: &'a HashMap<Arc<Target>, Status>,
    now: u64,
}

impl Known<'_> {
    /// A mirror, as the API shows it.
    fn view(&self, number: usize, standing: &Standing) -> Mirror {
        let mirror = &self.config.mirrors[number];
        let holding = self.config.pools.iter();
        let pools = holding.filter(|pool| pool.mirrors.contains(&number) && pool.of.is_none());
        let found = |address| self.judge.found(mirror, address);
        let (in_service, why) = judge(mirror, standing, &found, self.now);
        Mirror {
            id: mirror.id.clone(),
            addresses: mirror.addresses().collect(),
            pools: pools.map(|pool| pool.id.clone()).collect(),
            in_service,
            why,
            admin: admin(standing, self.now),
            weight: weight(mirror, standing, self.now),
            checks: mirror
                .addresses()
                .map(|at| self.check(mirror, at))
                .collect(),
            external: verdicts(standing, self.now),
            now_unix_ms: self.now,
        }
    }

    /// What our own checks found.
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

/// What a mirror's addresses (`None`: its name) were found to be by monitors' file or our own checks,
/// and why.
type FoundAt<'a> = dyn Fn(Option<IpAddr>) -> Option<(bool, &'a str)> + 'a;

/// Whether new clients are sent to a mirror, and why.
fn judge(
    mirror: &config::Mirror,
    standing: &Standing,
    found: &FoundAt<'_>,
    now: u64,
) -> (bool, String) {
    let drained = standing.drained(now);
    match standing.admin {
        Admin::Up => return (true, "the operator says up".to_owned()),
        Admin::Down => return (false, "the operator says down".to_owned()),
        Admin::Drain(_) if drained >= 1.0 => return (false, "drained".to_owned()),
        Admin::Auto | Admin::Drain(_) => {}
    }
    let mut addresses: Vec<Option<IpAddr>> = mirror.addresses().map(Some).collect();
    if addresses.is_empty() {
        addresses.push(None);
    }
    let verdict = |address: Option<IpAddr>| match standing.external(address, now) {
        Some(verdict) => Some((
            verdict.up,
            with_reason("a monitor says", verdict.up, &verdict.reason),
        )),
        None => found(address).map(|(up, reason)| (up, with_reason("found", up, reason))),
    };
    let verdicts: Vec<_> = addresses
        .into_iter()
        .filter_map(|at| Some((at, verdict(at)?)))
        .collect();
    let down: Vec<_> = verdicts.iter().filter(|(_, (up, _))| !up).collect();
    let all = mirror.addresses().count().max(1);
    match down.first() {
        Some((_, (_, why))) if down.len() == all => return (false, why.clone()),
        Some((_, (_, why))) => {
            return (
                true,
                format!("{} of {all} addresses out: {why}", down.len()),
            );
        }
        None => {}
    }
    if standing.weight(mirror.weight, now) == 0 {
        return (false, "weight 0".to_owned());
    }
    if let Admin::Drain(_) = standing.admin {
        let percent = (drained * 100.0).floor();
        return (true, format!("draining, {percent} % drained"));
    }
    let why = verdicts.first().map(|(_, (_, why))| why.clone());
    (
        true,
        why.unwrap_or_else(|| "nothing says otherwise".to_owned()),
    )
}

fn with_reason(who: &str, up: bool, reason: &str) -> String {
    let word = if up { "up" } else { "down" };
    match reason {
        "" => format!("{who} {word}"),
        reason => format!("{who} {word}: {reason}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn why_a_mirror_is_in_service_or_not() {
        let mirror = config::Mirror {
            v4: vec!["192.0.2.1".parse().unwrap()],
            v6: vec!["2001:db8::1".parse().unwrap()],
            ..config::Mirror::sample("ams")
        };
        let down = |address: Option<&str>, reason: &str| External {
            up: false,
            address: address.map(|address| address.parse().unwrap()),
            until_unix_ms: Some(50),
            reason: reason.into(),
            since_unix_ms: 0,
        };
        let said = |admin, external: &[External]| Standing {
            admin,
            external: external.to_vec(),
            ..Standing::default()
        };
        let drain = Admin::Drain(ramp(0, Some(100)));
        let light = Standing {
            weight: Some(Weight {
                value: 0,
                from: 100,
                ramp: ramp(0, None),
            }),
            ..Standing::default()
        };
        let all = [down(None, "no route")];
        let one = [down(Some("192.0.2.1"), "")];
        for (standing, now, in_service, why) in [
            (Standing::default(), 0, true, "nothing says otherwise"),
            (said(Admin::Up, &all), 0, true, "the operator says up"),
            (said(Admin::Down, &[]), 0, false, "the operator says down"),
            (said(drain, &[]), 37, true, "draining, 37 % drained"),
            (said(drain, &[]), 100, false, "drained"),
            (
                said(drain, &all),
                37,
                false,
                "a monitor says down: no route",
            ),
            (
                said(Admin::Auto, &one),
                0,
                true,
                "1 of 2 addresses out: a monitor says down",
            ),
            (said(Admin::Auto, &all), 50, true, "nothing says otherwise"),
            (light, 0, false, "weight 0"),
        ] {
            let judged = judge(&mirror, &standing, &|_| None, now);
            assert_eq!(
                judged,
                (in_service, why.to_owned()),
                "{standing:?} at {now}"
            );
        }
    }
}

//! Mirrors, their checks, and pools.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::SystemTime;

use crate::base::clock::now_unix_ms;
use crate::config::Fail;
use crate::daemon::Daemon;
use crate::health::{Status, Target};
use crate::metrics::snapshot::Label;
use crate::metrics::{Family, Snapshot};
use crate::service::Condition;
use crate::steering::standing::{Admin, Standing};
use crate::world::World;

impl Daemon {
    /// The mirrors as they are at this moment, and what it means for pools.
    pub(super) fn add_mirrors(&self, snapshot: &mut Snapshot, world: &World) {
        let config = &world.inputs.config;
        let checks: HashMap<Arc<Target>, Status> = self
            .mirrors
            .monitor
            .snapshot()
            .into_iter()
            .map(|status| (Arc::clone(&status.target), status))
            .collect();
        let (now, nothing) = (now_unix_ms(), Standing::default());
        let clock = SystemTime::now();
        let states = ["auto", "up", "down", "drain"].map(Label::from);
        let current = self.in_service.current();
        let standings = self.in_service.standings();
        let mut in_service = Vec::with_capacity(config.mirrors.len());
        for mirror in &config.mirrors {
            let id = &Label::from(&*mirror.id);
            let standing = standings.get(&mirror.id).unwrap_or(&nothing);
            let is_in_service =
                Condition::of(mirror, standing, &current.findings, now).is_in_service();
            in_service.push(is_in_service);
            snapshot.put_with(Family::MirrorInService, [id], is_in_service);
            let admin = match standing.admin {
                Admin::Auto => 0,
                Admin::Up => 1,
                Admin::Down => 2,
                Admin::Drain(_) => 3,
            };
            for (number, state) in states.iter().enumerate() {
                snapshot.put_with(Family::MirrorAdmin, [id, state], number == admin);
            }
            snapshot.put_with(Family::MirrorDrained, [id], standing.drained(now));
            let weight = standing.weight(mirror.weight, now);
            snapshot.put_with(Family::MirrorWeight, [id], u64::from(weight));
            for address in mirror.addresses() {
                let target = mirror.check.clone().map(|check| Target { check, address });
                let Some(status) = target.and_then(|target| checks.get(&target)) else {
                    continue;
                };
                let address = &Label::from(address.to_string());
                if let Some(up) = status.up {
                    snapshot.put_with(Family::CheckUp, [id, address], up);
                }
                if let Some(last) = &status.last {
                    let seconds = last.latency.as_secs_f64();
                    snapshot.put_with(Family::CheckDuration, [id, address], seconds);
                }
                if let Some(trace) = status.trace {
                    // One that is ahead of this clock is new.
                    let age = clock.duration_since(trace).unwrap_or_default();
                    snapshot.put_with(Family::MirrorAge, [id, address], age.as_secs_f64());
                }
            }
        }
        let roster = &current.roster;
        // Pools of one mirror are there so that it has a name.
        for (number, pool) in config.pools.iter().enumerate() {
            if pool.of.is_some() {
                continue;
            }
            let id = &Label::from(&*pool.id);
            let mirrors = pool.mirrors.iter();
            let serving = mirrors.filter(|&&mirror| in_service[mirror]).count();
            let distrusts = roster.is_of(world.generation) && roster.distrusts_checks(number);
            let failed_open = distrusts || serving == 0 && matches!(pool.fail, Fail::Open);
            snapshot.put_with(Family::PoolMirrors, [id], pool.mirrors.len() as u64);
            snapshot.put_with(Family::PoolInService, [id], serving as u64);
            snapshot.put_with(Family::PoolFailedOpen, [id], failed_open);
        }
    }
}

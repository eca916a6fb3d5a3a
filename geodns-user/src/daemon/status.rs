//! State of the daemon, and its counters.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use async_trait::async_trait;
use geodns_common::verdict::Tally;

use super::control::Control;
use crate::base::clock::unix_ms;
use crate::base::lock::read;
use crate::control::problem::Failure;
use crate::control::status::{
    self, AtlasStatus, Interface, PoolStatus, Restarted, Stats, Status, WaitingInterface,
};
use crate::kernel::stub::Build;
use crate::observe::counters;
use crate::supervise;

#[async_trait]
impl status::Service for Control {
    async fn status(&self) -> Result<Status, Failure> {
        let daemon = &self.0;
        let listen = daemon.server.listening().await;
        let world = daemon.world.load_full();
        let config = &world.inputs.config;
        let names = daemon.names_status(&world);
        let plan = read(&world.plan);
        let pools = config
            .pools
            .iter()
            .enumerate()
            .map(|(number, pool)| {
                let layers = plan.layers(number);
                PoolStatus {
                    id: pool.id.clone(),
                    policy: pool.policy.name().to_owned(),
                    mirrors: pool
                        .mirrors
                        .iter()
                        .map(|&mirror| config.mirrors[mirror].id.clone())
                        .collect(),
                    listed: layers.base.len() as u64,
                    imported: layers.imported.len() as u64,
                    overrides: layers.overrides.len() as u64,
                }
            })
            .collect();
        let shared_by = |pools: Vec<usize>| {
            let ids = pools.into_iter().map(|pool| config.pools[pool].id.clone());
            ids.collect()
        };
        let atlases = plan
            .atlases()
            .into_iter()
            .map(|(number, pools)| AtlasStatus {
                number,
                pools: shared_by(pools),
            });
        let atlases: Vec<_> = atlases.collect();
        let regions = plan.regions().len() as u64;
        let atlas_bytes = plan.atlas_bytes();
        drop(plan);
        let (mut interfaces, mut waiting, mut verified, mut memory) =
            (Vec::new(), Vec::new(), 0, 0);
        if let Some(kernel) = daemon.lock_kernel() {
            verified = u64::from(kernel.instance().verified_instructions());
            memory = kernel.instance().memory();
            waiting = kernel
                .waiting()
                .all()
                .map(|at| WaitingInterface {
                    name: at.name.to_owned(),
                    state: at.state().to_owned(),
                    reason: at.error.to_string(),
                })
                .collect();
            interfaces = kernel
                .attached()
                .iter()
                .map(|attachment| Interface {
                    name: attachment.name.clone(),
                    mode: attachment.mode().to_owned(),
                    frags: attachment.build == Build::Frags,
                    reason: attachment.reason.clone(),
                    pinned: true,
                })
                .collect();
        }
        Ok(Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            config: config.path.display().to_string(),
            uptime_seconds: daemon.started.elapsed().as_secs(),
            generation: world.generation,
            listen: listen.iter().map(|at| at.ip()).collect(),
            not_listening: daemon.report.not_listening.all(),
            port: config.server.port,
            tls_port: config.tls.as_ref().map(|tls| tls.port),
            interfaces,
            missing_interfaces: waiting.iter().map(|at| at.name.clone()).collect(),
            waiting_interfaces: waiting,
            not_loaded: daemon.report.not_loaded.clone(),
            blind: daemon.blind(),
            changed_settings: daemon.changed_settings(),
            zones: world.zones.load().len() as u64,
            members: config.members().count() as u64,
            signed_zones: {
                let zones = world.zones.load();
                let signed = zones.iter().filter(|zone| zone.is_signed());
                let names = signed.map(|zone| zone.apex.fmt_with_dot().to_string());
                names.collect()
            },
            steered_names: config.steers.len() as u64,
            names,
            pools,
            verified_instructions: verified,
            atlases,
            regions,
            atlas_bytes,
            kernel_memory_bytes: memory,
            notify: daemon.notify_status(),
            events_lost: daemon.events.lost.load(Ordering::Relaxed),
            restarted: supervise::restarted()
                .into_iter()
                .map(|known| Restarted {
                    name: known.name,
                    times: known.times,
                    cause: known.cause,
                    at_unix_ms: unix_ms(known.at),
                })
                .collect(),
            announcement: daemon.announcement_shown(),
            last_error: daemon
                .silent_disk()
                .or_else(|| daemon.report.failure.line()),
            fleet: daemon.fleet_line(),
        })
    }

    async fn stats(&self) -> Result<Stats, Failure> {
        let kernel = match &self.0.counters {
            Some(counters) => {
                let counts = counters
                    .read()
                    .map_err(|error| Failure::Internal(error.to_string()))?;
                let mut by_name = counters::by_name(&counts);
                // What was told and whoever captures was too slow for.
                *by_name
                    .entry(Tally::WatchLost.name().to_owned())
                    .or_default() += self.0.lookers.lost();
                by_name
            }
            None => BTreeMap::new(),
        };
        Ok(Stats {
            kernel,
            slow: self.0.server.stats().snapshot(),
            dnstap: self.0.dnstap_stats(),
            interfaces: self
                .0
                .interface_stats()
                .map_err(|error| Failure::Internal(error.to_string()))?,
        })
    }
}

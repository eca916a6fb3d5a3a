//! What the control socket asks.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use geodns_common::abi::Family;
use geodns_common::verdict::Tally;
use ipnet::IpNet;

use super::Daemon;
use super::audit::{self as edits, Who};
use super::force::internal;
use super::reasons::Reasons;
use crate::base::clock::{now_unix_ms, unix_ms};
use crate::base::lock::read;
use crate::config::{Catalog, Config, Policy};
use crate::control::api::{
    self, AcmeChanged, AcmeClear, AcmeSet, AcmeToken, AtlasStatus, BlockAdd, BlockChanged,
    BlockRemove, BlockRule, CaptureQuery, ExplainQuery, Explanation, Failure, Imported, Interface,
    Lookup, MapChanged, MapDel, MapSet, Mapping, Mirror, MirrorChanged, PoolStatus, Preview,
    Proposal, Reloaded, Restarted, Service, SetAdmin, SetHealth, SetWeight, Stats, Status, Stream,
    Zone, ZoneRole,
};
use crate::control::by::By;
use crate::observe::counters;
use crate::plan::{Plan, Selection};
use crate::steering::Whereabouts;
use crate::supervise;
use crate::world::World;

/// The daemon, as the control socket sees it.
pub struct Control(pub Arc<Daemon>);

impl Control {
    /// Makes a change, and has the log say who did; to its end, even if nobody waits for it any more.
    async fn edit<T: Send + 'static>(
        &self,
        what: &'static str,
        change: impl FnOnce(&Daemon) -> Result<T, Failure> + Send + 'static,
        tell: impl FnOnce(&Who, &T) + Send + 'static,
    ) -> Result<T, Failure> {
        let by = By::current();
        // Under the lock of edits: lines are in the order of what they tell.
        let change = move |daemon: &Daemon| {
            let changed = change(daemon);
            let who = Who::of(&by);
            match &changed {
                Ok(changed) => tell(&who, changed),
                Err(failure) => edits::failed(&who, what, failure),
            }
            changed
        };
        self.0.change_for(change).await
    }

    /// Reads what the state has, with no change under way.
    async fn read_state<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Daemon) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        let reading = self.0.change(read);
        self.0.while_disk_answers(UNREAD, reading).await?
    }
}

/// What becomes of a question that the disk of the state does not answer.
const UNREAD: &str = "ask again when the disk answers";

impl Service for Control {
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
        let (mut interfaces, mut missing, mut verified, mut memory) =
            (Vec::new(), Vec::new(), 0, 0);
        if let Some(kernel) = daemon.lock_kernel() {
            verified = u64::from(kernel.instance().verified_instructions());
            memory = kernel.instance().memory();
            let attached = |name: &String| kernel.attached().iter().any(|at| at.name == *name);
            missing = kernel.settings().interfaces.clone();
            missing.retain(|name| !attached(name));
            interfaces = kernel
                .attached()
                .iter()
                .map(|attachment| Interface {
                    name: attachment.name.clone(),
                    mode: attachment.mode().to_owned(),
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
            missing_interfaces: missing,
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
            restarted: supervise::restarted()
                .into_iter()
                .map(|known| Restarted {
                    name: known.name,
                    times: known.times,
                    cause: known.cause,
                    at_unix_ms: unix_ms(known.at),
                })
                .collect(),
            last_error: daemon
                .silent_disk()
                .or_else(|| daemon.report.failure.line()),
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
        })
    }

    async fn acme_list(&self) -> Result<Vec<AcmeToken>, Failure> {
        self.read_state(|daemon| daemon.acme_list()).await
    }

    async fn acme_set(&self, set: AcmeSet) -> Result<AcmeChanged, Failure> {
        self.edit("acme set", move |daemon| daemon.acme_set(&set), edits::acme)
            .await
    }

    async fn acme_clear(&self, clear: AcmeClear) -> Result<AcmeChanged, Failure> {
        let change = move |daemon: &Daemon| daemon.acme_clear(&clear);
        self.edit("acme clear", change, edits::acme).await
    }

    async fn top(&self) -> Result<Stream, Failure> {
        let daemon = Arc::clone(&self.0);
        let looks = tokio::task::spawn_blocking(move || daemon.top());
        looks.await.map_err(internal)?
    }

    async fn capture(&self, query: CaptureQuery) -> Result<Stream, Failure> {
        let daemon = Arc::clone(&self.0);
        let looks = tokio::task::spawn_blocking(move || daemon.capture(&query));
        looks.await.map_err(internal)?
    }

    async fn block_list(&self) -> Result<Vec<BlockRule>, Failure> {
        self.read_state(|daemon| daemon.block_list()).await
    }

    async fn block_add(&self, add: BlockAdd) -> Result<BlockChanged, Failure> {
        let change = move |daemon: &Daemon| daemon.block_add(&add);
        let tell = |who: &Who, changed: &_| edits::block(who, "added", changed);
        self.edit("block add", change, tell).await
    }

    async fn block_remove(&self, remove: BlockRemove) -> Result<BlockChanged, Failure> {
        let change = move |daemon: &Daemon| daemon.block_remove(&remove);
        let tell = |who: &Who, changed: &_| edits::block(who, "removed", changed);
        self.edit("block remove", change, tell).await
    }

    async fn mirrors(&self) -> Result<Vec<Mirror>, Failure> {
        Ok(self.0.mirrors())
    }

    async fn mirror(&self, id: String) -> Result<Mirror, Failure> {
        self.0.mirror(&id)
    }

    async fn mirror_admin(&self, id: String, change: SetAdmin) -> Result<MirrorChanged, Failure> {
        let change = move |daemon: &Daemon| daemon.set_admin(&id, change);
        self.edit("mirror", change, edits::mirror).await
    }

    async fn mirror_weight(&self, id: String, change: SetWeight) -> Result<MirrorChanged, Failure> {
        let change = move |daemon: &Daemon| daemon.set_weight(&id, Some(change));
        self.edit("mirror weight", change, edits::mirror).await
    }

    async fn mirror_weight_reset(&self, id: String) -> Result<MirrorChanged, Failure> {
        let change = move |daemon: &Daemon| daemon.set_weight(&id, None);
        self.edit("mirror weight", change, edits::mirror).await
    }

    async fn mirror_health(&self, id: String, change: SetHealth) -> Result<MirrorChanged, Failure> {
        let change = move |daemon: &Daemon| daemon.set_health(&id, change);
        self.edit("mirror set-health", change, edits::mirror).await
    }

    async fn mirror_health_clear(
        &self,
        id: String,
        address: Option<IpAddr>,
    ) -> Result<MirrorChanged, Failure> {
        let change = move |daemon: &Daemon| daemon.clear_health(&id, address);
        self.edit("mirror set-health", change, edits::mirror).await
    }

    async fn zones(&self) -> Result<Vec<Zone>, Failure> {
        let world = self.0.world.load_full();
        let config = &world.inputs.config;
        let zones = world.zones.load();
        let mut steered = vec![BTreeMap::new(); zones.len()];
        for steer in &config.steers {
            if let Some((number, _)) = zones.find(steer.name.for_slice()) {
                let pool = config.pools[steer.pool].id.clone();
                steered[number].insert(steer.name.fmt_with_dot().to_string(), pool);
            }
        }
        let now_unix_ms = now_unix_ms();
        let shown = zones.iter().zip(&config.zones).zip(steered);
        let shown = shown.map(|((zone, of), steered)| {
            let listed = of.listing.as_ref().map(|listing| &listing.catalog);
            let member_of = of.member.as_ref().map(|member| &member.catalog).or(listed);
            let checked_unix_ms = self.0.checked_unix_ms(&zone.apex);
            let expires = checked_unix_ms.filter(|_| !zone.is_empty());
            Zone {
                name: zone.apex.fmt_with_dot().to_string(),
                serial: zone.serial(),
                names: zone.names() as u64,
                steered,
                catalog: of.catalog.as_ref().map(|catalog| match catalog {
                    Catalog::Consumer(_) => api::Catalog::Consumer,
                    Catalog::Producer => api::Catalog::Producer,
                }),
                member_of: member_of.map(|catalog| catalog.fmt_with_dot().to_string()),
                role: match of.primaries.is_empty() {
                    true => ZoneRole::Primary,
                    false => ZoneRole::Secondary,
                },
                signed: zone.is_signed(),
                checked_unix_ms,
                expires_unix_ms: expires.map(|at| at + 1000 * zone.expire().as_secs()),
                now_unix_ms,
            }
        });
        Ok(shown.collect())
    }

    async fn map_list(&self, pool: Option<String>) -> Result<Vec<Mapping>, Failure> {
        let world = self.0.world.load_full();
        let config = &world.inputs.config;
        let plan = read(&world.plan);
        let mut mappings = Vec::new();
        for pool in pools(config, pool.as_deref())? {
            let overrides = plan.layers(pool).overrides.iter();
            mappings.extend(overrides.map(|(&prefix, &mirror)| Mapping {
                prefix,
                mirror: config.mirror_id(pool, mirror).to_owned(),
                pool: config.pools[pool].id.clone(),
            }));
        }
        Ok(mappings)
    }

    async fn map_set(&self, change: MapSet) -> Result<MapChanged, Failure> {
        let change = move |daemon: &Daemon| {
            daemon.set(change.prefix, &change.mirror, change.pool.as_deref())
        };
        self.edit("map set", change, edits::map).await
    }

    async fn map_del(&self, change: MapDel) -> Result<MapChanged, Failure> {
        let change = move |daemon: &Daemon| daemon.del(change.prefix, change.pool.as_deref());
        self.edit("map del", change, edits::map).await
    }

    async fn map_get(&self, address: IpAddr, pool: Option<String>) -> Result<Vec<Lookup>, Failure> {
        let world = self.0.world.load_full();
        let config = &world.inputs.config;
        let plan = read(&world.plan);
        let pools = pools(config, pool.as_deref())?;
        Ok(pools
            .into_iter()
            .map(|pool| look_up(config, &plan, pool, address))
            .collect())
    }

    async fn map_export(&self, pool: Option<String>) -> Result<String, Failure> {
        let world = self.0.world.load_full();
        // A million lines: not on a thread that others wait for.
        tokio::task::spawn_blocking(move || export(&world, pool.as_deref()))
            .await
            .map_err(|error| Failure::Internal(error.to_string()))?
    }

    async fn map_import(
        &self,
        csv: String,
        name: String,
        pool: Option<String>,
    ) -> Result<Imported, Failure> {
        let file = name.clone();
        let change = move |daemon: &Daemon| daemon.import(&csv, &name, pool.as_deref());
        let tell = move |who: &Who, imported: &_| edits::import(who, &file, imported);
        self.edit("map import", change, tell).await
    }

    async fn explain(&self, question: ExplainQuery) -> Result<Explanation, Failure> {
        // It maps the kernel's tables, and waits for locks.
        let daemon = Arc::clone(&self.0);
        tokio::task::spawn_blocking(move || daemon.explain(&question))
            .await
            .map_err(|error| Failure::Internal(error.to_string()))?
    }

    async fn preview(&self, proposal: Proposal) -> Result<Preview, Failure> {
        let preview = self.0.preview(proposal);
        self.0.while_disk_answers(UNREAD, preview).await?
    }

    async fn reload(&self, zone: Option<String>) -> Result<Reloaded, Failure> {
        // To its end, even if the client does not wait.
        let (daemon, by) = (Arc::clone(&self.0), By::current());
        let reloading = tokio::spawn(async move {
            match zone {
                Some(zone) => daemon.reload_zone(&zone, &by).await,
                None => daemon.reload_all(&by).await,
            }
        });
        let else_say = "nothing has been reloaded, but will be if the disk answers after all";
        let reloaded = self.0.while_disk_answers(else_say, reloading).await?;
        reloaded.map_err(|error| Failure::Internal(error.to_string()))?
    }
}

/// The pools asked about: one, or all.
fn pools(config: &Config, id: Option<&str>) -> Result<Vec<usize>, Failure> {
    let Some(id) = id else {
        return Ok((0..config.pools.len()).collect());
    };
    match config.pools.iter().position(|pool| pool.id == id) {
        Some(pool) => Ok(vec![pool]),
        None => {
            let known: Vec<_> = config.pools.iter().map(|pool| pool.id.as_str()).collect();
            Err(Failure::NotFound(format!(
                "no pool {id}; there are {}",
                known.join(", ")
            )))
        }
    }
}

pub fn look_up(config: &Config, plan: &Plan, pool: usize, client: IpAddr) -> Lookup {
    let ids = |selection: &Selection| {
        let mirrors = selection.mirrors.iter();
        mirrors
            .map(|&mirror| config.mirror_id(pool, mirror).to_owned())
            .collect()
    };
    let v4 = plan.select(pool, Family::V4, client);
    let v6 = plan.select(pool, Family::V6, client);
    let (prefix, source) = match config.pools[pool].policy {
        Policy::All => (None, "all"),
        _ => {
            let counted = plan.counted(pool, client);
            let known = Whereabouts::of(&plan.geography().lookup(counted).place);
            Reasons::new(config, plan, pool, counted, &known).first()
        }
    };
    Lookup {
        pool: config.pools[pool].id.clone(),
        mirrors: ids(&v4),
        mirrors_v6: ids(&v6),
        scope: v4.scope,
        prefix,
        source: source.to_owned(),
    }
}

/// Every prefix in force as `prefix,mirror,mirror,...`. Of all pools at once only if none contradict.
fn export(world: &World, pool: Option<&str>) -> Result<String, Failure> {
    let config = &world.inputs.config;
    let plan = read(&world.plan);
    let mut all: BTreeMap<IpNet, (usize, &[u8])> = BTreeMap::new();
    let ids = |(pool, members): (usize, &[u8])| {
        let ids = members.iter().map(|&member| config.mirror_id(pool, member));
        ids.collect::<Vec<_>>().join(",")
    };
    for pool in pools(config, pool)? {
        for (prefix, members) in plan.layers(pool).in_force() {
            let here = (pool, members);
            match all.insert(prefix, here) {
                Some(other) if ids(other) != ids(here) => {
                    return Err(Failure::Invalid(format!(
                        "{prefix} is {} in pool {} and {} in pool {}: name one with --pool",
                        ids(other),
                        config.pools[other.0].id,
                        ids(here),
                        config.pools[pool].id
                    )));
                }
                _ => {}
            }
        }
    }
    let mut csv = String::from("prefix,mirror\n");
    for (prefix, here) in all {
        use std::fmt::Write;
        writeln!(csv, "{prefix},{}", ids(here))
            .map_err(|error| Failure::Internal(error.to_string()))?;
    }
    Ok(csv)
}

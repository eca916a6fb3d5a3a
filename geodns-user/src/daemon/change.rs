//! What changes the world: edits, imports, reloads. One at a time.
//!
//! A change is durable before it is in force, and in force before it is said to be done. One that
//! fails on the way is taken back: nothing has changed then, on the disk or in the answers.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::Context;
use geodns_common::abi::Order;
use ipnet::IpNet;
use tokio::sync::OwnedMutexGuard;

use super::durably::durably;
use super::edits::{self, Who};
use super::{Daemon, acme, blocks, catalogs, cookies, limits, load, notify, standing, warn_of};
use crate::base::complaint::Errors;
use crate::base::lock::{lock, read, write};
use crate::base::prefix;
use crate::config::{self, Config, ZoneFile};
use crate::control::api::{Change, Failure, Imported, MapChanged, Reloaded};
use crate::control::by::By;
use crate::geo::{Layer, Layers};
use crate::heap;
use crate::kernel::Kernel;
use crate::kernel::instance::Instance;
use crate::kernel::netdev::Netdevs;
use crate::plan::{EditError, Store};
use crate::publish::Backend;
use crate::state::{Import, State};
use crate::supervise::Never;
use crate::world::{Inputs, Warning, World};
use crate::zone::{self, Zone};

/// Between attempts to make the kernel's tables anew.
const MEND_AGAIN: Duration = Duration::from_secs(10);
/// How long a reload waits for another one that reads its files.
const TO_READ: Duration = Duration::from_secs(10);
/// How long edits must have paused before the tables are tidied.
const PAUSE: Duration = Duration::from_secs(1);
/// The most pauses that are waited for while edits go on and on.
const PAUSES: usize = 60;

/// The layers of each pool: the configuration's lists and what the state holds.
///
/// What the state has of pools and mirrors that the configuration no longer has is kept there, and
/// not in force.
pub fn layers(inputs: &Inputs, state: &State) -> anyhow::Result<Vec<Layers>> {
    let config = &inputs.config;
    let mut layers = inputs.layers();
    for import in state.imports()? {
        let Some(pool) = table_pool(config, &import.pool) else {
            tracing::warn!(
                pool = import.pool,
                "the import of pool {} is not in force: there is no such pool, or its policy is \"all\"",
                import.pool
            );
            continue;
        };
        let packed = Layer::from_bytes(&import.layer).with_context(|| {
            format!(
                "state {}: the import of pool {} is damaged: import the list again",
                config.state.display(),
                import.pool
            )
        })?;
        layers[pool].imported = Arc::new(renumber(config, pool, &import.mirrors, packed));
    }
    let mut unknown: BTreeMap<(String, String), (IpNet, usize)> = BTreeMap::new();
    for entry in state.overrides()? {
        let known = table_pool(config, &entry.pool)
            .and_then(|pool| Some((pool, config.mirror_in_pool(pool, &entry.mirror)?)));
        match known {
            Some((pool, mirror)) => {
                layers[pool].overrides.insert(entry.prefix, mirror);
            }
            None => {
                let count = unknown
                    .entry((entry.pool, entry.mirror))
                    .or_insert((entry.prefix, 0));
                count.1 += 1;
            }
        }
    }
    for ((pool, mirror), (first, count)) in unknown {
        tracing::warn!(
            pool,
            mirror,
            overrides = count,
            "{count} overrides of pool {pool} to mirror {mirror}, {first} the first, are not in \
             force: the configuration has no such pool, or no such mirror in it, or its policy is \"all\""
        );
    }
    Ok(layers)
}

/// An imported list, from the numbers that mirrors had then to those that they have now.
fn renumber(config: &Config, pool: usize, mirrors: &[String], layer: Layer) -> Layer {
    let now: Vec<Option<u8>> = mirrors
        .iter()
        .map(|id| config.mirror_in_pool(pool, id))
        .collect();
    let as_they_were = |(place, &now): (usize, &Option<u8>)| now.map(usize::from) == Some(place);
    if now.iter().enumerate().all(as_they_were) {
        return layer;
    }
    for (id, now) in mirrors.iter().zip(&now) {
        if now.is_none() {
            tracing::warn!(
                mirror = id.as_str(),
                pool = config.pools[pool].id,
                "imported prefixes of mirror {id} in pool {} are not in force: it has no such mirror",
                config.pools[pool].id
            );
        }
    }
    layer.renumber(|mirror| now.get(usize::from(mirror)).copied().flatten())
}

fn table_pool(config: &Config, id: &str) -> Option<usize> {
    config
        .pools
        .iter()
        .position(|pool| pool.id == id && pool.has_table())
}

/// A pool by its id, which must have a table.
fn require_table(config: &Config, id: &str) -> Result<usize, Failure> {
    if let Some(pool) = table_pool(config, id) {
        return Ok(pool);
    }
    if config.pools.iter().any(|pool| pool.id == id) {
        return Err(Failure::Invalid(format!(
            "pool {id} has policy \"all\": everyone gets every mirror of it, and no prefix matters"
        )));
    }
    let pools: Vec<_> = config.pools.iter().map(|pool| pool.id.as_str()).collect();
    Err(Failure::NotFound(format!(
        "no pool {id}; there are {}",
        pools.join(", ")
    )))
}

/// A mirror by its id.
pub(super) fn require_mirror(config: &Config, id: &str) -> Result<usize, Failure> {
    let mirrors = config.mirrors.iter();
    let ids: Vec<_> = mirrors.map(|mirror| mirror.id.as_str()).collect();
    ids.iter()
        .position(|other| *other == id)
        .ok_or_else(|| Failure::NotFound(format!("no mirror {id}; there are {}", ids.join(", "))))
}

/// The pools that a mirror's prefix is for, each with the mirror's number in it.
fn pools_of(
    config: &Config,
    mirror: &str,
    pool: Option<&str>,
) -> Result<Vec<(usize, u8)>, Failure> {
    let is_nested = |pool: &config::Pool| pool.groups.iter().any(|group| group.id == mirror);
    if !config.pools.iter().any(is_nested) {
        require_mirror(config, mirror)?;
    }
    if let Some(id) = pool {
        let pool = require_table(config, id)?;
        let number = config
            .mirror_in_pool(pool, mirror)
            .ok_or_else(|| Failure::Invalid(format!("pool {id} does not hold mirror {mirror}")))?;
        return Ok(vec![(pool, number)]);
    }
    let pools: Vec<_> = (0..config.pools.len())
        .filter(|&pool| config.pools[pool].has_table())
        .filter_map(|pool| Some((pool, config.mirror_in_pool(pool, mirror)?)))
        .collect();
    if pools.is_empty() {
        return Err(Failure::Invalid(format!(
            "mirror {mirror} is in no pool where a prefix matters: policy \"all\" gives it to everyone"
        )));
    }
    Ok(pools)
}

pub(super) fn internal(error: impl std::fmt::Display) -> Failure {
    Failure::Internal(format!("{error:#}"))
}

impl Daemon {
    /// Runs a change, alone, where it may block; to its end, even if nobody waits for it any more.
    pub(super) async fn change<T: Send + 'static>(
        self: &Arc<Self>,
        change: impl FnOnce(&Self) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        let alone = Arc::clone(&self.edits).lock_owned().await;
        self.change_alone(alone, change).await
    }

    /// The same, for whoever is alone already.
    pub(super) async fn change_alone<T: Send + 'static>(
        self: &Arc<Self>,
        alone: OwnedMutexGuard<()>,
        change: impl FnOnce(&Self) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        let daemon = Arc::clone(self);
        tokio::task::spawn_blocking(move || {
            let _alone = alone;
            change(&daemon)
        })
        .await
        .map_err(internal)?
    }

    /// `map set`
    pub(super) fn set(
        &self,
        prefix: IpNet,
        mirror: &str,
        pool: Option<&str>,
    ) -> Result<MapChanged, Failure> {
        prefix::check(prefix).map_err(Failure::Invalid)?;
        let world = self.world.load_full();
        let config = &world.inputs.config;
        let pools = pools_of(config, mirror, pool)?
            .into_iter()
            .map(|(pool, number)| (pool, Some(number)))
            .collect();
        self.edit(&world, prefix, pools)
    }

    /// `map del`
    pub(super) fn del(&self, prefix: IpNet, pool: Option<&str>) -> Result<MapChanged, Failure> {
        prefix::check(prefix).map_err(Failure::Invalid)?;
        let world = self.world.load_full();
        let config = &world.inputs.config;
        let pools: Vec<usize> = match pool {
            Some(id) => vec![require_table(config, id)?],
            None => (0..config.pools.len()).collect(),
        };
        let plan = read(&world.plan);
        let pools: Vec<_> = pools
            .into_iter()
            .filter(|&pool| plan.layers(pool).overrides.contains_key(&prefix))
            .map(|pool| (pool, None))
            .collect();
        drop(plan);
        if pools.is_empty() {
            return Err(Failure::NotFound(match pool {
                Some(pool) => format!("pool {pool} has no override of {prefix}"),
                None => format!("no pool has an override of {prefix}"),
            }));
        }
        self.edit(&world, prefix, pools)
    }

    /// Sets or deletes an override in some pools.
    fn edit(
        &self,
        world: &World,
        prefix: IpNet,
        pools: Vec<(usize, Option<u8>)>,
    ) -> Result<MapChanged, Failure> {
        let config = &world.inputs.config;
        let plan = read(&world.plan);
        let before: Vec<(usize, Option<u8>)> = pools
            .iter()
            .map(|&(pool, _)| (pool, plan.layers(pool).overrides.get(&prefix).copied()))
            .collect();
        drop(plan);
        durably(
            &format!("map, {prefix}"),
            || self.keep(config, prefix, &pools),
            || {
                self.put_in_force(world, prefix, &pools).inspect_err(|_| {
                    // Some pools may have it.
                    if self.put_in_force(world, prefix, &before).is_err() {
                        self.mend();
                    }
                })
            },
            || self.keep(config, prefix, &before),
        )?;
        self.edited.fetch_add(1, Ordering::Relaxed);
        self.untidy.notify_one();
        let name = |pool, mirror: Option<u8>| mirror.map(|m| config.mirror_id(pool, m).to_owned());
        let changes = pools
            .iter()
            .zip(&before)
            .map(|(&(pool, after), &(_, before))| Change {
                pool: config.pools[pool].id.clone(),
                before: name(pool, before),
                after: name(pool, after),
            })
            .collect();
        Ok(MapChanged { prefix, changes })
    }

    /// Makes overrides durable, in one transaction for each mirror that they name.
    fn keep(
        &self,
        config: &Config,
        prefix: IpNet,
        pools: &[(usize, Option<u8>)],
    ) -> Result<(), Failure> {
        let mut by_mirror: BTreeMap<Option<&str>, Vec<&str>> = BTreeMap::new();
        for &(pool, mirror) in pools {
            by_mirror
                .entry(mirror.map(|mirror| config.mirror_id(pool, mirror)))
                .or_default()
                .push(&config.pools[pool].id);
        }
        for (mirror, pools) in by_mirror {
            match mirror {
                Some(mirror) => self.state.set(&pools, prefix, mirror),
                None => self.state.del(&pools, prefix),
            }
            .map_err(internal)?;
        }
        Ok(())
    }

    /// Brings plan and kernel up to date: in place, or with a new plan where there is no room.
    fn put_in_force(
        &self,
        world: &World,
        prefix: IpNet,
        pools: &[(usize, Option<u8>)],
    ) -> Result<(), Failure> {
        if self.edit_in_place(world, prefix, pools)? {
            return Ok(());
        }
        // What earlier edits have let go may be room enough.
        self.reclaim(world)?;
        if self.edit_in_place(world, prefix, pools)? {
            return Ok(());
        }
        tracing::info!("the tables are full: compiling larger ones");
        let plan = read(&world.plan);
        let mut layers: Vec<Layers> = (0..world.inputs.config.pools.len())
            .map(|pool| plan.layers(pool).clone())
            .collect();
        drop(plan);
        for &(pool, mirror) in pools {
            match mirror {
                Some(mirror) => layers[pool].overrides.insert(prefix, mirror),
                None => layers[pool].overrides.remove(&prefix),
            };
        }
        let next = self.compile(&world.inputs_now(), &layers, world.generation + 1)?;
        let instance = self.prepare(&next)?;
        self.commit(next, instance)
    }

    /// `false`: there is no room. Pools before the one without room are done.
    fn edit_in_place(
        &self,
        world: &World,
        prefix: IpNet,
        pools: &[(usize, Option<u8>)],
    ) -> Result<bool, Failure> {
        // The kernel's lock first: who waits for it must not hold up the slow path.
        let mut kernel = self.lock_kernel();
        let mut plan = write(&world.plan);
        for &(pool, mirror) in pools {
            let stores = match plan.set_override(pool, prefix, mirror) {
                Ok(stores) => stores,
                Err(EditError::Outgrown) => return Ok(false),
            };
            self.apply(kernel.as_deref_mut(), &stores)?;
        }
        Ok(true)
    }

    /// Stores in the kernel's tables what the plan has by now. Where that fails they are other than the plan, and
    /// are made anew soon.
    pub(super) fn apply(
        &self,
        kernel: Option<&mut Kernel>,
        stores: &[Store],
    ) -> Result<(), Failure> {
        let applied = kernel.map_or(Ok(()), |kernel| kernel.apply(stores));
        applied.map_err(|error| {
            self.mend();
            internal(error)
        })
    }

    /// Has the kernel's tables made anew, as soon as may be: they may be other than the plan.
    pub(super) fn mend(&self) {
        self.out_of_step.store(true, Ordering::Relaxed);
        self.untidy.notify_one();
    }

    /// Frees what edits have let go, once no packet can be looking at it.
    fn reclaim(&self, world: &World) -> Result<(), Failure> {
        if let Some(mut kernel) = self.lock_kernel() {
            kernel.grace().map_err(internal)?;
        }
        write(&world.plan).reclaim();
        Ok(())
    }

    /// Reclaims in the pauses between edits and after a world has been replaced, and mends what is out of step, for
    /// ever.
    pub(super) async fn tidy(self: Arc<Self>) -> Never {
        loop {
            match self.out_of_step.load(Ordering::Relaxed) {
                true => tokio::time::sleep(MEND_AGAIN).await,
                false => self.untidy.notified().await,
            }
            for _ in 0..PAUSES {
                let before = self.edited.load(Ordering::Relaxed);
                tokio::time::sleep(PAUSE).await;
                if self.edited.load(Ordering::Relaxed) == before {
                    break;
                }
            }
            let tidied = self.change(|daemon| {
                let world = daemon.world.load_full();
                if !daemon.out_of_step.load(Ordering::Relaxed) {
                    return daemon.reclaim(&world);
                }
                daemon.put_anew(&world)?;
                tracing::info!("the kernel's tables have been made anew after a failure");
                Ok(())
            });
            if let Err(failure) = tidied.await {
                tracing::warn!(cause = %failure, "the kernel's tables could not be tidied: {failure}");
            }
            // A world that was replaced has gone by now, too.
            let _ = tokio::task::spawn_blocking(heap::give_back).await;
        }
    }

    /// Loads a world's program; nothing is in force yet.
    pub(super) fn prepare(&self, next: &World) -> Result<Option<Instance>, Failure> {
        // Not the kernel's lock for so long: what the checks find must not wait.
        let Some(loader) = self.lock_kernel().map(|kernel| kernel.loader()) else {
            return Ok(None);
        };
        let plan = read(&next.plan);
        loader
            .load(&*plan, plan.capacity())
            .map(Some)
            .map_err(internal)
    }

    /// Puts a world in force, in the kernel and in the slow path. On an error nothing has changed.
    pub(super) fn commit(&self, next: World, instance: Option<Instance>) -> Result<(), Failure> {
        self.commit_with(next, instance, None)
    }

    /// The same, with these rules of what is dropped, in the place of those in force.
    fn commit_with(
        &self,
        next: World,
        instance: Option<Instance>,
        rules: Option<blocks::Compiled>,
    ) -> Result<(), Failure> {
        let limiter = limits::of(&next, instance.as_ref());
        if let (Some(mut kernel), Some(instance)) = (self.lock_kernel(), instance) {
            let rules = rules
                .as_ref()
                .map(|rules| (Arc::clone(&rules.blocks), &*rules.fresh));
            kernel.commit_with(instance, rules).map_err(internal)?;
        }
        // From here on nothing can fail.
        if let Some(rules) = rules {
            self.server.set_blocks(Arc::clone(&rules.blocks));
            self.ledger.put(rules);
        }
        // A packet that was passed by the program before has put its token back there.
        self.server.set_limiter(limiter);
        self.world.store(Arc::new(next));
        self.out_of_step.store(false, Ordering::Relaxed);
        self.untidy.notify_one();
        // What has changed since it was compiled.
        self.heed_or_again();
        Ok(())
    }

    /// Compiles a world, with who is in service.
    pub(super) fn compile(
        &self,
        inputs: &Inputs,
        layers: &[Layers],
        generation: u64,
    ) -> Result<World, Failure> {
        let world = inputs
            .compile(layers, generation, rand::random())
            .map_err(|error| Failure::Invalid(error.to_string()))?;
        self.put_service(&world);
        Ok(world)
    }

    /// `map import`
    pub(super) fn import(
        &self,
        csv: &str,
        name: &str,
        pool: Option<&str>,
    ) -> Result<Imported, Failure> {
        let world = self.world.load_full();
        let config = &world.inputs.config;
        let started = Instant::now();
        let lists = parse(config, csv, name, pool)?;
        let parse_ms = milliseconds(started);

        let started = Instant::now();
        let plan = read(&world.plan);
        let mut layers: Vec<Layers> = (0..config.pools.len())
            .map(|pool| plan.layers(pool).clone())
            .collect();
        drop(plan);
        let mut before = Vec::new();
        for (pool, list) in &lists {
            before.push((
                *pool,
                std::mem::replace(&mut layers[*pool].imported, Arc::clone(list)),
            ));
        }
        let next = self.compile(&world.inputs_now(), &layers, world.generation + 1)?;
        let compile_ms = milliseconds(started);

        let started = Instant::now();
        let instance = self.prepare(&next)?;
        let mut publish_ms = milliseconds(started);

        let started = Instant::now();
        let keep = |lists: &[(usize, Arc<Layer>)]| {
            let imports = lists.iter();
            let imports = imports.map(|(pool, list)| packed(config, *pool, list));
            let imports: Vec<Import> = imports.collect();
            self.state.import(&imports).map_err(internal)
        };
        let mut store_ms = 0;
        durably(
            name,
            || keep(&lists).inspect(|()| store_ms = milliseconds(started)),
            || {
                let started = Instant::now();
                self.commit(next, instance)?;
                publish_ms += milliseconds(started);
                Ok(())
            },
            || keep(&before),
        )?;
        Ok(Imported {
            prefixes: lists
                .iter()
                .map(|(pool, list)| (config.pools[*pool].id.clone(), list.len() as u64))
                .collect(),
            parse_ms,
            compile_ms,
            store_ms,
            publish_ms,
            kernel_memory_bytes: self
                .lock_kernel()
                .map_or(0, |kernel| kernel.instance().memory()),
        })
    }

    /// `reload`, SIGHUP: reads everything again. On an error nothing changes.
    pub(super) async fn reload_all(self: &Arc<Self>, by: &By) -> Result<Reloaded, Failure> {
        notify::reloading();
        let reloaded = self.try_reload().await;
        edits::reload(&Who::of(by), &reloaded);
        *lock(&self.last_error) = reloaded.as_ref().err().map(ToString::to_string);
        notify::ready(&self.summary());
        reloaded
    }

    /// Has the status say what is not in force, and why.
    pub(super) fn complain(&self, line: &str) {
        *lock(&self.last_error) = Some(line.to_owned());
    }

    /// Takes back what the status says of a failure, which is over.
    pub(super) fn forgive<T>(&self, failed: &mut Option<(T, String)>) {
        let Some((_, line)) = failed.take() else {
            return;
        };
        let mut last_error = lock(&self.last_error);
        last_error.take_if(|error| *error == line);
    }

    async fn try_reload(self: &Arc<Self>) -> Result<Reloaded, Failure> {
        let netlink = self.follow.lock().await.netlink.clone();
        let netdevs = Netdevs::read(&netlink).await.map_err(internal)?;
        let _alone = self.read_alone().await?;
        let daemon = Arc::clone(self);
        let read = tokio::task::spawn_blocking(move || daemon.read_files());
        let read = read.await.map_err(internal)??;
        let before = self.world.load().zones.load_full();
        let mut reloaded = self
            .change(move |daemon| daemon.reload(read, &netdevs))
            .await?;
        self.follow_zones(Some(&before));
        if let Err(error) = self.follow_interfaces().await {
            // The plan is in force all the same.
            reloaded.warning = Some(format!("{error:#}"));
        }
        Ok(reloaded)
    }

    /// For whoever reads files that are to be put in force: what is read later is in force later. Not under
    /// `edits`, since reading may take for ever.
    pub(super) async fn read_alone(&self) -> Result<tokio::sync::MutexGuard<'_, ()>, Failure> {
        let alone = tokio::time::timeout(TO_READ, self.reading.lock()).await;
        alone.map_err(|_| {
            Failure::Internal(format!(
                "another reload has been reading its files for more than {} s: is one of them on a file system \
                 that does not answer?",
                TO_READ.as_secs()
            ))
        })
    }

    /// Reads the configuration and its files, with nothing in its zones that are not from files.
    fn read_files(&self) -> Result<Inputs, Failure> {
        let invalid = |error: Errors| Failure::Invalid(error.to_string());
        let world = self.world.load_full();
        let config = load(&self.options.config, &self.options).map_err(invalid)?;
        let previous = Some(&*world.inputs.geography);
        super::read(config, &[], previous, &|_| None).map_err(invalid)
    }

    /// What was read, with members of catalogs, and with zones that come from elsewhere as they are now.
    fn complete(&self, read: Inputs) -> Result<Inputs, Failure> {
        let members = self.state.members().map_err(internal)?;
        if members.is_empty() && read.config.zones.iter().all(|zone| zone.file.is_some()) {
            return Ok(read);
        }
        let mut config = Config::clone(&read.config);
        config.set_members(&members);
        let of_files = Arc::unwrap_or_clone(read.zones);
        let zone = |zone: &ZoneFile| {
            let read = of_files.number(zone.name.for_slice());
            match read.filter(|_| zone.file.is_some()) {
                Some(number) => Arc::clone(&of_files[number]),
                None => self
                    .kept_zone(zone)
                    .unwrap_or_else(|| Arc::new(Zone::empty(zone.name.clone()))),
            }
        };
        let zones = config.zones.iter().map(zone).collect();
        // Before names are marked on them: what nobody else has need not be copied.
        drop(of_files);
        let zones =
            zone::arranged(&config, zones).map_err(|error| Failure::Invalid(error.to_string()))?;
        Ok(Inputs {
            config: Arc::new(config),
            zones: Arc::new(zones),
            ..read
        })
    }

    /// Puts in force what was read. All that can fail stands before the commit.
    fn reload(&self, read: Inputs, netdevs: &Netdevs) -> Result<Reloaded, Failure> {
        let world = self.world.load_full();
        let mut inputs = self.complete(read)?;
        warn_of(&inputs);
        let zones = Arc::make_mut(&mut inputs.zones);
        acme::put_over_all(&inputs.config, &self.state, zones)?;
        let ledgers = catalogs::produce(&inputs.config, &self.state, zones)?;
        zones.make_offers(&inputs.config, &world.zones.load(), None);
        let mut config = Config::clone(&inputs.config);
        let fixed = keep_fixed(&mut config, &world.inputs.config);
        inputs.config = Arc::new(config);
        if self.kernel.is_some()
            && let Some(name) = inputs
                .config
                .kernel
                .interfaces
                .iter()
                .find(|name| netdevs.named(name).is_none())
        {
            return Err(Failure::Invalid(format!(
                "{}: kernel.interfaces: no interface {name:?}; there are {}",
                inputs.config.path.display(),
                netdevs.names()
            )));
        }
        let layers = layers(&inputs, &self.state).map_err(internal)?;
        let generation = world.generation + 1;
        lock(&self.judge).foresee(&inputs.config);
        let next = self.compile(&inputs, &layers, generation)?;
        inputs.unmatched().iter().for_each(Warning::log);
        let cookies = cookies::secrets(&inputs.config, &self.state).map_err(internal)?;
        let rules = self.ledger.compile(&inputs.config, &self.state)?;
        let instance = self.prepare(&next)?;
        // If it is not in force then after all, the next reload lists what there is by then.
        catalogs::keep(&self.state, &ledgers)?;
        self.commit_with(next, instance, Some(rules))?;
        standing::warn_of_unknown(&inputs.config, &lock(&self.standings));
        self.check_anew(&inputs.config);
        self.set_cookies(&inputs.config, cookies);
        // Who listens is set anew after this.
        self.server
            .set_tls(inputs.config.tls.as_ref().map(|tls| tls.port));
        self.server.set_certificate(inputs.certificate.clone());
        if let Some(mut kernel) = self.lock_kernel() {
            kernel.set_interfaces(inputs.config.kernel.interfaces.clone());
        }
        if !fixed.is_empty() {
            let (file, keys) = (inputs.config.path.display(), fixed.join(", "));
            tracing::warn!(
                %file,
                keys,
                "changed in {file}, and in force only after a restart: {keys}"
            );
        }
        Ok(Reloaded {
            generation,
            warning: None,
        })
    }
}

/// Keeps what a running daemon cannot change; says what that is.
fn keep_fixed(new: &mut Config, old: &Config) -> Vec<&'static str> {
    let mut changed = Vec::new();
    macro_rules! keep {
        ($name:literal, $($field:ident).+) => {
            if new.$($field).+ != old.$($field).+ {
                changed.push($name);
                new.$($field).+.clone_from(&old.$($field).+);
            }
        };
    }
    keep!("server.port", server.port);
    keep!("kernel.mode", kernel.mode);
    keep!("kernel.pin", kernel.pin);
    keep!("kernel.stale_after", kernel.stale_after);
    keep!("control.socket", socket);
    keep!("state.path", state);
    keep!("health.feed", health_feed);
    changed
}

/// The lists that a file has for each pool. Without a pool named, a line is for every pool that
/// has a table and holds its mirror; pools that no line is for keep what they have, unless the
/// file is empty, which empties all.
fn parse(
    config: &Config,
    csv: &str,
    name: &str,
    pool: Option<&str>,
) -> Result<Vec<(usize, Arc<Layer>)>, Failure> {
    let says_something = |line: &str| !line.trim().is_empty() && !line.trim().starts_with('#');
    if !csv.lines().any(says_something) {
        // More likely an accident than a wish.
        return Err(Failure::Invalid(format!(
            "{name}: it is empty; to empty the tables, import a file with just the line prefix,mirror"
        )));
    }
    let tables: Vec<usize> = match pool {
        Some(id) => vec![require_table(config, id)?],
        None => (0..config.pools.len())
            .filter(|&pool| config.pools[pool].has_table())
            .collect(),
    };
    if tables.is_empty() {
        return Err(Failure::Invalid(
            "every pool has policy \"all\": there is nothing to import to".to_owned(),
        ));
    }
    let mut lists = Vec::new();
    for &table in &tables {
        let mirrors: BTreeMap<&str, Option<u8>> = config
            .mirrors
            .iter()
            .filter(|mirror| {
                tables
                    .iter()
                    .any(|&pool| config.mirror_in_pool(pool, &mirror.id).is_some())
            })
            .map(|mirror| (mirror.id.as_str(), config.mirror_in_pool(table, &mirror.id)))
            .collect();
        let list = Layer::parse(csv, Path::new(name), None, |id| {
            mirrors.get(id).copied().ok_or_else(|| {
                let known: Vec<_> = mirrors.keys().copied().collect();
                format!(
                    "no mirror {id:?} in a table; there are {}",
                    known.join(", ")
                )
            })
        })
        .map_err(|error| Failure::Invalid(error.to_string()))?;
        lists.push((table, Arc::new(list)));
    }
    if pool.is_none() && lists.iter().any(|(_, list)| !list.is_empty()) {
        lists.retain(|(_, list)| !list.is_empty());
    }
    Ok(lists)
}

fn packed(config: &Config, pool: usize, list: &Layer) -> Import {
    let of = &config.pools[pool];
    let groups = Order::group(0)..Order::group(of.groups.len() as u8);
    let id = |member: u8| {
        let known = usize::from(member) < of.mirrors.len() || groups.contains(&member);
        // A number that is no member's is in no list.
        let id = known.then(|| config.mirror_id(pool, member));
        id.unwrap_or_default().to_owned()
    };
    let last = if groups.is_empty() {
        of.mirrors.len() as u8
    } else {
        groups.end
    };
    Import {
        pool: of.id.clone(),
        mirrors: (0..last).map(id).collect(),
        layer: list.to_bytes(),
    }
}

pub(super) fn milliseconds(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX)
}

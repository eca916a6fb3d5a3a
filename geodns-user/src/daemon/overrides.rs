//! Overrides and imports: prefixes get mirrors that an operator names.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Context;
use async_trait::async_trait;
use geodns_common::abi::Order;
use ipnet::IpNet;

use super::Daemon;
use super::audit::{self, Who};
use super::control::Control;
use super::force::{Edit, Ready, Took, internal, milliseconds};
use super::ids::{require_mirror, require_table, table_pool};
use super::reasons::look_up;
use crate::base::lock::{read, write};
use crate::base::prefix;
use crate::config::{self, Config};
use crate::control::map::{Change, Imported, MapChanged};
use crate::control::map::{Lookup, MapDel, MapSet, Mapping};
use crate::control::problem::Failure;
use crate::geo::{Layer, Layers};
use crate::plan::EditError;
use crate::state::{Import, Item, State};
use crate::steering::{Steering, Whereabouts};
use crate::world::{Inputs, World};

/// Overrides that are put in force one by one, at the most. A new plan is compiled for more.
const IN_PLACE: usize = 64;

/// The layers of each pool: the configuration's lists and what the state holds.
///
/// Entries of the state for pools and mirrors that the configuration no longer has stay there, and are not in force.
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
        layers[pool].imported = imported(config, pool, &import)?;
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

/// The list of a pool's import.
fn imported(config: &Config, pool: usize, import: &Import) -> anyhow::Result<Arc<Layer>> {
    let packed = Layer::from_bytes(&import.layer).with_context(|| {
        format!(
            "state {}: the import of pool {} is damaged: import the list again",
            config.state.display(),
            import.pool
        )
    })?;
    Ok(Arc::new(renumber(config, pool, &import.mirrors, packed)))
}

/// Gives the mirrors of an imported list the numbers that they have now.
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

impl Daemon {
    /// `map set`
    pub fn set(
        &self,
        prefix: IpNet,
        mirror: &str,
        pool: Option<&str>,
    ) -> Result<Edit<MapChanged>, Failure> {
        prefix::check(prefix).map_err(Failure::Invalid)?;
        let world = self.world.load_full();
        let config = &world.inputs.config;
        let pools = pools_of(config, mirror, pool)?.into_iter();
        let pools: Vec<_> = pools.map(|(pool, number)| (pool, Some(number))).collect();
        Ok(map_edit(&world, prefix, &pools))
    }

    /// `map del`
    pub fn del(&self, prefix: IpNet, pool: Option<&str>) -> Result<Edit<MapChanged>, Failure> {
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
        Ok(map_edit(&world, prefix, &pools))
    }

    /// Puts overrides in force, all of them or none, and with them new lists of some pools.
    pub fn put_overrides(
        &self,
        overrides: &[(&str, IpNet, Option<&str>)],
        lists: &[(&str, Option<&Import>)],
        ready: Ready,
    ) -> Result<(), Failure> {
        let world = self.world.load_full();
        if let Ready::World(ready) = ready {
            let (next, instance) = *ready;
            return self.commit(next, instance);
        }
        let config = &world.inputs.config;
        let mut by_prefix: BTreeMap<IpNet, Vec<(usize, Option<u8>)>> = BTreeMap::new();
        for &(pool, prefix, mirror) in overrides {
            // What the configuration lacks is not in force: see `layers`.
            let Some(pool) = table_pool(config, pool) else {
                continue;
            };
            let mirror = mirror.and_then(|mirror| config.mirror_in_pool(pool, mirror));
            by_prefix.entry(prefix).or_default().push((pool, mirror));
        }
        if lists.is_empty() && by_prefix.len() <= IN_PLACE {
            self.put_each(&world, by_prefix)?;
            self.upkeep.edited();
            return Ok(());
        }
        let mut layers = world.layers();
        for (prefix, pools) in by_prefix {
            set_in(&mut layers, prefix, &pools);
        }
        for &(pool, import) in lists {
            let Some(pool) = table_pool(config, pool) else {
                continue;
            };
            layers[pool].imported = match import {
                Some(import) => imported(config, pool, import).map_err(internal)?,
                None => Arc::default(),
            };
        }
        self.put_layers(&world, &layers)
    }

    /// Puts overrides in force one after the other. If one fails, those before it are taken back.
    fn put_each(
        &self,
        world: &World,
        by_prefix: BTreeMap<IpNet, Vec<(usize, Option<u8>)>>,
    ) -> Result<(), Failure> {
        let mut done = Vec::new();
        for (prefix, pools) in by_prefix {
            let plan = read(&world.plan);
            let before =
                |&(pool, _): &(usize, _)| (pool, plan.layers(pool).overrides.get(&prefix).copied());
            let before: Vec<_> = pools.iter().map(before).collect();
            drop(plan);
            // Some pools may have it.
            done.push((prefix, before));
            if let Err(failure) = self.put_in_force(prefix, &pools) {
                for (prefix, before) in done.into_iter().rev() {
                    if self.put_in_force(prefix, &before).is_err() {
                        self.upkeep.mend();
                    }
                }
                return Err(failure);
            }
        }
        Ok(())
    }

    /// Brings plan and kernel up to date: in place, or with a new plan if there is no room.
    fn put_in_force(&self, prefix: IpNet, pools: &[(usize, Option<u8>)]) -> Result<(), Failure> {
        let world = &*self.world.load_full();
        if self.edit_in_place(world, prefix, pools)? {
            return Ok(());
        }
        // What earlier edits have let go may be room enough.
        self.reclaim(world)?;
        if self.edit_in_place(world, prefix, pools)? {
            return Ok(());
        }
        tracing::info!("the tables are full: compiling larger ones");
        let mut layers = world.layers();
        set_in(&mut layers, prefix, pools);
        self.put_layers(world, &layers)
    }

    /// Puts a whole new plan in force, with other layers of pools.
    fn put_layers(&self, world: &World, layers: &[Layers]) -> Result<(), Failure> {
        let next = self.compile(&world.inputs_now(), layers, world.generation + 1)?;
        let instance = self.prepare(&next)?;
        self.commit(next, instance)
    }

    /// Edits plan and kernel in place. Gives `false` if there is no room; pools before the one without room are done.
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

    /// `map import`
    pub fn import(
        &self,
        csv: &str,
        name: &str,
        pool: Option<&str>,
    ) -> Result<Edit<Imported>, Failure> {
        let world = self.world.load_full();
        let config = &world.inputs.config;
        let started = Instant::now();
        let lists = parse(config, csv, name, pool)?;
        let parse_ms = milliseconds(started);

        let started = Instant::now();
        let mut layers = world.layers();
        for (pool, list) in &lists {
            layers[*pool].imported = Arc::clone(list);
        }
        let next = self.compile(&world.inputs_now(), &layers, world.generation + 1)?;
        let compile_ms = milliseconds(started);

        let started = Instant::now();
        let instance = self.prepare(&next)?;
        let load_ms = milliseconds(started);
        let packed = lists.iter().map(|(pool, list)| packed(config, *pool, list));
        let items = packed.map(Item::import).collect();
        let prefixes = lists
            .iter()
            .map(|(pool, list)| (config.pools[*pool].id.clone(), list.len() as u64))
            .collect();
        let tell = move |daemon: &Self, took: Took| Imported {
            prefixes,
            parse_ms,
            compile_ms,
            store_ms: took.store_ms,
            publish_ms: load_ms + took.publish_ms,
            kernel_memory_bytes: daemon
                .lock_kernel()
                .map_or(0, |kernel| kernel.instance().memory()),
        };
        Ok(Edit::new(name, items, tell).with(Ready::World(Box::new((next, instance)))))
    }
}

/// An edit of the override of a prefix in some pools.
fn map_edit(world: &World, prefix: IpNet, pools: &[(usize, Option<u8>)]) -> Edit<MapChanged> {
    let config = &world.inputs.config;
    let plan = read(&world.plan);
    let name = |pool, mirror: Option<u8>| mirror.map(|m| config.mirror_id(pool, m).to_owned());
    let changes = pools.iter().map(|&(pool, after)| Change {
        pool: config.pools[pool].id.clone(),
        before: name(pool, plan.layers(pool).overrides.get(&prefix).copied()),
        after: name(pool, after),
    });
    let changes: Vec<_> = changes.collect();
    let items = changes.iter().map(|change| Item::Override {
        pool: change.pool.clone(),
        prefix,
        mirror: change.after.clone(),
    });
    let items = items.collect();
    let warnings = pools.iter().filter_map(|&(pool, mirror)| {
        let known = Whereabouts::of(&plan.geography().lookup(prefix.addr()).place);
        let steering = Steering::of(&config.pools[pool], &config.mirrors);
        let client = steering.client(&known, prefix.addr());
        let mirror = mirror.filter(|&mirror| !steering.takes(mirror, &client))?;
        let of = config.pools[pool].mirrors.get(usize::from(mirror))?;
        let of = &config.mirrors[*of];
        Some(format!(
            "mirror {} of pool {} does not take clients of {prefix} ({}); the override stands over that",
            of.id, config.pools[pool].id, of.limits
        ))
    });
    let warnings = warnings.collect();
    Edit::new(format!("map, {prefix}"), items, move |_, _| MapChanged {
        prefix,
        changes,
        warnings,
    })
}

/// Sets or deletes the override of a prefix in the layers of some pools.
fn set_in(layers: &mut [Layers], prefix: IpNet, pools: &[(usize, Option<u8>)]) {
    for &(pool, mirror) in pools {
        match mirror {
            Some(mirror) => layers[pool].overrides.insert(prefix, mirror),
            None => layers[pool].overrides.remove(&prefix),
        };
    }
}

/// Parses the lists that a file has for each pool. Without a pool named, a line is for every pool that has a table and
/// holds its mirror. Pools without a line keep their lists, unless the file has no lines at all, which empties all.
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

#[async_trait]
impl crate::control::map::Service for Control {
    async fn map_list(&self, pool: Option<String>) -> Result<Vec<Mapping>, Failure> {
        let world = self.0.world.load_full();
        let config = &world.inputs.config;
        let local = self.0.local_keys();
        let plan = read(&world.plan);
        let mut mappings = Vec::new();
        for pool in pools(config, pool.as_deref())? {
            let overrides = plan.layers(pool).overrides.iter();
            mappings.extend(overrides.map(|(&prefix, &mirror)| {
                let item = Item::Override {
                    pool: config.pools[pool].id.clone(),
                    prefix,
                    mirror: None,
                };
                Mapping {
                    prefix,
                    mirror: config.mirror_id(pool, mirror).to_owned(),
                    pool: config.pools[pool].id.clone(),
                    local: local.contains(&item.key()),
                }
            }));
        }
        Ok(mappings)
    }

    async fn map_set(&self, change: MapSet) -> Result<MapChanged, Failure> {
        let change = move |daemon: &Daemon| {
            daemon.set(change.prefix, &change.mirror, change.pool.as_deref())
        };
        self.edit("map set", change, audit::map).await
    }

    async fn map_del(&self, change: MapDel) -> Result<MapChanged, Failure> {
        let change = move |daemon: &Daemon| daemon.del(change.prefix, change.pool.as_deref());
        self.edit("map del", change, audit::map).await
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
        let tell = move |who: &Who, imported: &_| audit::import(who, &file, imported);
        self.edit("map import", change, tell).await
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

//! `preview`: reads and compiles another configuration, and compares the mirrors that clients would get with those that
//! they get. Nothing is put in force.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use geodns_common::abi::{self, Family};

use super::Daemon;
use super::control::{Control, UNREAD};
use super::force::{internal, milliseconds};
use super::inputs::{self, load, load_bundle};
use super::overrides::layers;
use crate::base::clock::now_unix_ms;
use crate::base::lock::{read, write};
use crate::config::Config;
use crate::control::preview::{Move, NameMoves, Preview, Proposal};
use crate::control::problem::Failure;
use crate::geo::Geography;
use crate::kernel::tables;
use crate::plan::Plan;
use crate::plan::moves::{self, Comparison, Moves};
use crate::serve::Sample;
use crate::service::{self, Which};
use crate::world::World;

impl Daemon {
    /// `POST /v1/preview`
    pub async fn preview(self: &Arc<Self>, proposal: Proposal) -> Result<Preview, Failure> {
        let (preview, _) = self.preview_of(proposal.config.into(), false).await?;
        Ok(preview)
    }

    /// Previews a configuration, and gives its GeoIP databases. `is_bundle`: with the sections of this node's own file.
    pub async fn preview_of(
        self: &Arc<Self>,
        path: PathBuf,
        is_bundle: bool,
    ) -> Result<(Preview, Arc<Geography>), Failure> {
        let started = Instant::now();
        let daemon = Arc::clone(self);
        tokio::task::spawn_blocking(move || {
            let next = daemon.propose(&path, is_bundle)?;
            let compile_ms = milliseconds(started);
            let started = Instant::now();
            let (world, plan) = daemon.at_once(&next)?;
            let seen = daemon.seen(&world)?;
            let now = (&*world.inputs.config, &plan);
            let plan = read(&next.plan);
            let then = (&*next.inputs.config, &*plan);
            let mut preview = compare(now, then, &seen);
            preview.config = path.display().to_string();
            preview.compile_ms = compile_ms;
            preview.compare_ms = milliseconds(started);
            Ok((preview, Arc::clone(&next.inputs.geography)))
        })
        .await
        .map_err(internal)?
    }

    /// A configuration, compiled as a reload would; all mirrors in service.
    fn propose(&self, path: &Path, is_bundle: bool) -> Result<World, Failure> {
        if !path.is_absolute() {
            let path = path.display();
            return Err(Failure::Invalid(format!(
                "config: {path} is not an absolute path: write it from / on"
            )));
        }
        // Its databases are most often those in force, which need not be read again.
        let world = self.world.load_full();
        let members = self.state.members().map_err(internal)?;
        let config = match is_bundle {
            true => load_bundle(path, &self.options),
            false => load(path, &self.options),
        };
        let inputs = config.and_then(|config| {
            let previous = Some(&*world.inputs.geography);
            inputs::read(config, &members, previous, &|zone| self.kept_zone(zone))
        });
        let inputs = inputs.map_err(|error| Failure::Invalid(error.to_string()))?;
        let layers = layers(&inputs, &self.state).map_err(internal)?;
        inputs
            .compile(&layers, world.generation + 1, rand::random())
            .map_err(|error| Failure::Invalid(error.to_string()))
    }

    /// Gives another world the mirrors in service that it would have after a reload, and the world in
    /// force with its plan, as of the same moment: a drain that goes on is as far in both.
    fn at_once(&self, next: &World) -> Result<(Arc<World>, Plan), Failure> {
        let mut current = self.in_service.current();
        let now = now_unix_ms();
        self.heed_at(&mut current, &Which::All, now)?;
        let world = self.world.load_full();
        // A copy: whoever reads the plan for long keeps those who change it waiting, and behind them
        // the slow path.
        let plan = read(&world.plan).clone();
        let standings = self.in_service.standings();
        let config = &next.inputs.config;
        let mut then = write(&next.plan);
        let findings = current.findings.foreseeing(config);
        service::put(&mut then, config, &standings, &findings, now);
        drop(then);
        Ok((world, plan))
    }

    /// Clients that both paths answered lately from a world's plan.
    pub fn seen(&self, world: &World) -> Result<Vec<Sample>, Failure> {
        let mut seen = self.server.seen();
        seen.retain(|sample| sample.generation == world.generation);
        if let Some(kernel) = self.lock_kernel()
            && kernel.instance().settings().generation == world.generation
        {
            let samples = tables::seen(kernel.instance()).map_err(internal)?;
            seen.extend(samples.iter().map(|sample| Sample {
                generation: world.generation,
                pool: sample.pool as usize,
                client: address(sample),
            }));
        }
        Ok(seen)
    }
}

fn address(seen: &abi::Seen) -> IpAddr {
    match (seen.version, seen.client) {
        (4, [a, b, c, d, ..]) => [a, b, c, d].into(),
        (_, octets) => octets.into(),
    }
}

/// Compares two plans: which clients move from which mirror to which.
fn compare((old, from): (&Config, &Plan), (new, to): (&Config, &Plan), seen: &[Sample]) -> Preview {
    let names = |config: &Config| -> BTreeMap<String, usize> {
        let steers = config.steers.iter();
        let pool_of = steers.map(|steer| (steer.name.fmt_with_dot().to_string(), steer.pool));
        pool_of.collect()
    };
    let pools = |config: &Config| -> BTreeSet<String> {
        config.pools.iter().map(|pool| pool.id.clone()).collect()
    };
    let (old_names, new_names) = (names(old), names(new));
    let (old_pools, new_pools) = (pools(old), pools(new));
    let mut alike: BTreeMap<(usize, usize), Vec<String>> = BTreeMap::new();
    for (name, &pool) in &old_names {
        if let Some(&other) = new_names.get(name) {
            alike.entry((pool, other)).or_default().push(name.clone());
        }
    }
    let mut comparison = Comparison::new(from, to);
    let moved = alike.into_iter().map(|((pool, other), names)| {
        let seen = seen.iter().filter(|seen| seen.pool == pool);
        let seen: Vec<IpAddr> = seen.map(|seen| seen.client).collect();
        let answering = [moves::answering(from, pool), moves::answering(to, other)];
        NameMoves {
            names,
            from_pool: old.pools[pool].id.clone(),
            from_answered_by: old.pools[answering[0]].id.clone(),
            to_pool: new.pools[other].id.clone(),
            to_answered_by: new.pools[answering[1]].id.clone(),
            queries_seen: seen.len() as u64,
            moves: moves_of(&mut comparison, pool, other, &seen)
                .into_iter()
                .map(|((from, to), share)| {
                    let [v4, v6, queries] = share;
                    let id = |config: &Config, pool: usize, mirror: Option<u8>| {
                        mirror.map(|mirror| config.mirror_id(pool, mirror).to_owned())
                    };
                    Move {
                        from: id(old, answering[0], from),
                        to: id(new, answering[1], to),
                        v4,
                        v6,
                        queries: (!seen.is_empty()).then_some(queries),
                    }
                })
                .collect(),
        }
    });
    let only = |these: &BTreeMap<String, usize>, others: &BTreeMap<String, usize>| {
        let names = these.keys().filter(|name| !others.contains_key(*name));
        names.cloned().collect()
    };
    Preview {
        config: String::new(),
        names: moved.collect(),
        new_names: only(&new_names, &old_names),
        gone_names: only(&old_names, &new_names),
        new_pools: new_pools.difference(&old_pools).cloned().collect(),
        gone_pools: old_pools.difference(&new_pools).cloned().collect(),
        compile_ms: 0,
        compare_ms: 0,
    }
}

/// The moves by IPv4 addresses, by IPv6 addresses, and by clients.
fn moves_of(
    comparison: &mut Comparison<'_>,
    from: usize,
    to: usize,
    seen: &[IpAddr],
) -> BTreeMap<(Option<u8>, Option<u8>), [f64; 3]> {
    let by: [Moves; 3] = [
        comparison.by_addresses(from, to, Family::V4),
        comparison.by_addresses(from, to, Family::V6),
        comparison.by_clients(from, to, seen.iter().copied()),
    ];
    let mut all: BTreeMap<_, [f64; 3]> = BTreeMap::new();
    for (number, moves) in by.into_iter().enumerate() {
        for (pair, share) in moves {
            // Sums of fractions may come to a little more than all.
            all.entry(pair).or_default()[number] = share.min(1.0);
        }
    }
    all
}

#[async_trait]
impl crate::control::preview::Service for Control {
    async fn preview(&self, proposal: Proposal) -> Result<Preview, Failure> {
        let preview = self.0.preview(proposal);
        let preview = self.0.while_disk_answers(UNREAD, preview).await??;
        self.0.web.previewed(&preview);
        Ok(preview)
    }
}

//! The node says in the shared store what it is, and which plan it has. The entry has a lease, so it goes when the node
//! does.

use std::fmt::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::time::{sleep, timeout};

use super::link::{Condition, Failed, Link, View};
use crate::base::clock::now_unix_ms;
use crate::base::lock::read;
use crate::base::sha256;
use crate::daemon::Daemon;
use crate::daemon::force::internal;
use crate::fleet::node::{self, Node};
use crate::geo::Layer;
use crate::shared::Put;
use crate::supervise::Never;
use crate::world::World;

/// An entry waits this long, in case that more changes.
const PAUSE: Duration = Duration::from_millis(100);
/// The least time between two entries of a node, for each node of the fleet: every entry goes to every node, so all
/// together put no more of them in a large fleet than in a small one.
const SHARE: Duration = Duration::from_millis(10);
/// How often rates are looked at.
const LOOK: Duration = Duration::from_secs(5);

/// Hashes of lists that are in force, by pool, so that a large list is hashed once.
pub type Hashes = Vec<(Arc<Layer>, String)>;

impl Daemon {
    /// Keeps this node's entry up to date, for ever; where there is a fleet.
    pub async fn register(self: Arc<Self>) -> Never {
        let Some(link) = self.fleet.clone() else {
            return std::future::pending().await;
        };
        let mut views = link.views();
        let mut said: Option<Node> = None;
        let mut seen = None;
        let mut before = (Instant::now(), self.queries());
        let mut rate = 0;
        let mut hashes = Hashes::new();
        let mut put = Instant::now();
        loop {
            // Not for the entries of others, which come all the time.
            let of = |view: &View| Some((view.things, view.condition == Condition::Following));
            let changed = views.wait_for(|view| of(view) != seen);
            let _ = timeout(LOOK, changed).await;
            let share = SHARE.saturating_mul(u32::try_from(link.alive().len()).unwrap_or(u32::MAX));
            sleep(PAUSE.max(share.saturating_sub(put.elapsed()))).await;
            seen = of(&link.view());
            if link.view().condition != Condition::Following {
                said = None;
                continue;
            }
            if before.0.elapsed() >= LOOK {
                let now = (Instant::now(), self.queries());
                let count = now.1.saturating_sub(before.1) as f64;
                rate = steady(rate, count / (now.0 - before.0).as_secs_f64());
                before = now;
            }
            let daemon = Arc::clone(&self);
            let known = std::mem::take(&mut hashes);
            let view = link.view();
            let node = tokio::task::spawn_blocking(move || {
                let mut known = known;
                let node = daemon.describe(view, rate, &mut known);
                (node, known)
            });
            let Ok((Some(node), known)) = node.await else {
                continue;
            };
            hashes = known;
            let is_there = link.changed(&node::key(&link.node)).is_some();
            let same = |said: &Node| {
                Node {
                    at_unix_ms: said.at_unix_ms,
                    ..node.clone()
                } == *said
            };
            // After a refusal this commit finds out whether others are made again.
            let is_refused = link.view().refused.is_some();
            if is_there && !is_refused && said.as_ref().is_some_and(same) {
                continue;
            }
            put = Instant::now();
            match self.put_node(&link, &node).await {
                Ok(()) => said = Some(node),
                Err(why) => {
                    tracing::debug!("fleet: this node's entry is not put: {why}");
                    sleep(PAUSE * 10).await;
                }
            }
        }
    }

    async fn put_node(&self, link: &Link, node: &Node) -> Result<(), String> {
        let key = node::key(&link.node);
        let write = tokio::task::block_in_place(|| self.write_of_member());
        let write = write.map_err(|failure| failure.to_string())?;
        // Two nodes with one name: one of them is first.
        let write = write.guard(key.clone(), link.changed(&key));
        let write = write.with(Put::new(key, node.value()).leased(node::LEASE));
        match link.commit(&write).await {
            Ok(revision) => link.in_force(revision).await,
            Err(Failed::Conflict(revision)) => {
                link.in_force(revision).await?;
                Err("another entry came first".to_owned())
            }
            Err(Failed::Refused(why) | Failed::Invalid(why)) => Err(why),
        }
    }

    /// This node, as it is now.
    fn describe(&self, view: View, queries_per_second: u64, hashes: &mut Hashes) -> Option<Node> {
        let world = self.world.load_full();
        let server = &world.inputs.config.server;
        let local = self.state.local().map_err(internal).ok()?;
        Some(Node {
            id: view.membership?.node,
            run: self.fleet.as_ref()?.run.clone(),
            site: server.site.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            revision: view.things,
            config: world.inputs.config.shared_digest.clone(),
            plan: self.hash_of_plan(&world, hashes),
            local: local.len() as u64,
            announce: self.announcement_shown().map(|shown| shown.state),
            queries_per_second,
            at_unix_ms: now_unix_ms(),
        })
    }

    /// A hash over all that decides answers: lists, overrides, GeoIP databases, words on mirrors, rules, zones.
    fn hash_of_plan(&self, world: &World, hashes: &mut Hashes) -> String {
        let mut text = String::new();
        let config = &world.inputs.config;
        let mut fresh = Hashes::new();
        {
            let plan = read(&world.plan);
            for (pool, of) in config.pools.iter().enumerate() {
                let layers = plan.layers(pool);
                let _ = write!(text, "pool {}", of.id);
                for layer in [&layers.base, &layers.imported] {
                    let known = hashes.iter().find(|(known, _)| Arc::ptr_eq(known, layer));
                    let hash = known.map_or_else(
                        || sha256::short(&layer.to_bytes()),
                        |(_, hash)| hash.clone(),
                    );
                    let _ = write!(text, " {hash}");
                    fresh.push((Arc::clone(layer), hash));
                }
                for (prefix, mirror) in &layers.overrides {
                    let _ = write!(text, " {prefix} {mirror}");
                }
            }
        }
        *hashes = fresh;
        for database in world.inputs.geography.databases() {
            let _ = write!(text, "database {}", database.sha256());
        }
        {
            let standings = self.in_service.standings();
            let mut sorted: Vec<_> = standings.iter().collect();
            sorted.sort_unstable_by_key(|(id, _)| *id);
            let _ = write!(text, "mirrors {sorted:?}");
        }
        if let Ok(blocks) = self.state.blocks() {
            let _ = write!(text, "blocks {blocks:?}");
        }
        let zones = world.zones.load();
        let mut serials: Vec<_> = zones
            .iter()
            .map(|zone| (zone.apex.to_string(), zone.serial()))
            .collect();
        serials.sort_unstable();
        let _ = write!(text, "zones {serials:?}");
        sha256::short(text.as_bytes())
    }
}

/// A rate with two digits that count. It is the one before where it differs by no more than a tenth: an entry changes only
/// if the rate does much.
fn steady(before: u64, now: f64) -> u64 {
    let now = now.round() as u64;
    if 10 * now.abs_diff(before) <= now.max(before) {
        return before;
    }
    let unit = 10_u64.pow(now.checked_ilog10().unwrap_or(0).saturating_sub(1));
    now / unit * unit
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_has_two_digits() {
        for (number, is) in [
            (0.0, 0),
            (7.4, 7),
            (99.0, 99),
            (123.0, 120),
            (45_678.0, 45_000),
        ] {
            assert_eq!(steady(0, number), is);
        }
    }

    #[test]
    fn a_rate_that_hardly_changes_stays() {
        for (before, now, is) in [(25, 24.1, 25), (25, 27.0, 25), (25, 29.0, 29), (1, 0.2, 0)] {
            assert_eq!(steady(before, now), is);
        }
    }
}

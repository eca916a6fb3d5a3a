//! A zone as others may have it: what a pool answers made records, and the deltas from the versions before
//! it, in memory, no larger than the zone.
//!
//! A zone that somebody may transfer is kept once more, as an offer: with records in place of pools, and with the deltas
//! that led to it. Without steered names both are the same memory. Offers are made when the zone is replaced. A change
//! without a higher serial drops the deltas, with a warning.

use std::collections::VecDeque;
use std::sync::Arc;

use domain::base::Rtype;
use domain::base::serial::Serial;
use tracing::warn;

use super::Zones;
use super::delta::Delta;
use super::run::{Record, Run};
use super::store::{Node, TooLarge, Zone};
use crate::config::{Config, Pool, Steered};

/// A zone to be transferred.
#[derive(Clone, Debug)]
pub struct Offer {
    /// Its records.
    pub zone: Arc<Zone>,
    /// The deltas that led to it, each from where the one before it ends, the latest last.
    deltas: VecDeque<Arc<Delta>>,
}

impl Offer {
    /// Makes the offer of a zone. `None`: nobody may have it, or there is nothing in it.
    pub(super) fn make(
        config: &Config,
        number: usize,
        zones: &Zones,
        previous: Option<&Arc<Self>>,
    ) -> Option<Arc<Self>> {
        if config.zones[number].allow_transfer.is_empty() || zones[number].is_empty() {
            return None;
        }
        let zone = match export(config, number, zones) {
            Ok(zone) => zone,
            Err(error) => {
                let apex = &zones[number].apex;
                warn!(zone = %apex, cause = %error, "{apex}: it cannot be transferred: {error}");
                return None;
            }
        };
        let Some(previous) = previous else {
            return Some(Arc::new(Self::first(zone)));
        };
        Some(previous.next(zone))
    }

    /// A zone without a past.
    pub fn first(zone: Arc<Zone>) -> Self {
        Self {
            zone,
            deltas: VecDeque::new(),
        }
    }

    /// The offer that follows when the zone has changed.
    pub fn next(self: &Arc<Self>, zone: Arc<Zone>) -> Arc<Self> {
        if Arc::ptr_eq(&zone, &self.zone) {
            return Arc::clone(self);
        }
        let delta = Delta::between(&self.zone, &zone);
        let [old, new] = [self.zone.serial(), zone.serial()].map(Serial);
        if old == new && delta.is_empty() {
            // Nothing that others could see.
            return Arc::clone(self);
        }
        if old.partial_cmp(&new) != Some(std::cmp::Ordering::Less) {
            warn!(
                zone = %zone.apex,
                "{}: it has changed, and its serial has not gone up ({old}, now {new}): secondaries will \
                 not notice; give it a higher one",
                zone.apex
            );
            return Arc::new(Self::first(zone));
        }
        let mut deltas = self.deltas.clone();
        deltas.push_back(Arc::new(delta));
        let size = |deltas: &VecDeque<Arc<Delta>>| -> usize {
            deltas.iter().map(|delta| delta.size()).sum()
        };
        while size(&deltas) > zone.size() {
            deltas.pop_front();
        }
        Arc::new(Self { zone, deltas })
    }

    /// The deltas that lead from a version to this one. `None`: they are not known any more.
    pub fn since(&self, serial: u32) -> Option<Vec<Arc<Delta>>> {
        let mut deltas = self.deltas.iter();
        let first = deltas.position(|delta| delta.from_serial() == serial)?;
        Some(self.deltas.iter().skip(first).cloned().collect())
    }
}

/// A zone with records in the place of pools.
fn export(config: &Config, number: usize, zones: &Zones) -> Result<Arc<Zone>, TooLarge> {
    let zone = &zones[number];
    let names = config.steers.iter().filter(|steer| {
        let node = zone.node(steer.name.for_slice());
        node.is_some_and(|node| node.steer() == Some(steer.pool))
    });
    let names: Vec<_> = names.collect();
    if names.is_empty() {
        return Ok(Arc::clone(zone));
    }
    let mut plain = Zone::clone(zone);
    plain.clear_pools();
    plain.forget_digest()?;
    if config.zones[number].steered == Steered::LeaveOut {
        return Ok(Arc::new(plain));
    }
    for steer in names {
        let name = steer.name.for_slice();
        let mut run = Run::default();
        for record in plain.node(name).into_iter().flat_map(Node::records) {
            run.push(name, record);
        }
        let pool = &config.pools[steer.pool];
        for (rtype, rdata) in default_records(config, pool) {
            run.push(
                name,
                Record {
                    rtype,
                    ttl: pool.ttl,
                    rdata: &rdata,
                },
            );
        }
        let mut records: Vec<_> = run.iter().map(|(_, record)| record).collect();
        plain.set(name, &mut records)?;
    }
    Ok(Arc::new(plain))
}

/// The answer of a pool to a client at an unknown place, with every mirror in service.
fn default_records(config: &Config, pool: &Pool) -> Vec<(Rtype, Vec<u8>)> {
    let order = pool
        .default
        .iter()
        .flat_map(|&member| pool.mirrors_of(member));
    let mirrors = order.filter_map(|&mirror| pool.mirrors.get(usize::from(mirror)));
    let mirrors: Vec<_> = mirrors.map(|&mirror| &config.mirrors[mirror]).collect();
    let most = usize::from(pool.answers);
    let v4 = mirrors.iter().filter(|mirror| !mirror.v4.is_empty());
    let v4 = v4.take(most).flat_map(|mirror| &mirror.v4);
    let v4 = v4.map(|address| (Rtype::A, address.octets().to_vec()));
    let v6 = mirrors.iter().filter(|mirror| !mirror.v6.is_empty());
    let v6 = v6.take(most).flat_map(|mirror| &mirror.v6);
    let v6 = v6.map(|address| (Rtype::AAAA, address.octets().to_vec()));
    let cname = mirrors.iter().find_map(|mirror| mirror.cname.as_ref());
    let cname = cname.map(|name| (Rtype::CNAME, name.as_slice().to_vec()));
    v4.chain(v6).chain(cname).collect()
}

//! Queries over UDP, counted by the interface that they came by.
//!
//! Queries of this host's own clients are left out: over IPv6 they seem to come by the interface that has the address.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Mutex;

use arc_swap::ArcSwap;

use crate::base::lock::lock;

/// Queries by interface index.
pub type ByInterface = BTreeMap<u32, u64>;

/// Counts of all workers, each of which adds to its own.
#[derive(Debug)]
pub struct Arrivals {
    workers: Box<[Mutex<ByInterface>]>,
    /// This host's addresses.
    own: ArcSwap<BTreeSet<IpAddr>>,
}

impl Arrivals {
    /// Counts of N workers, without a query yet.
    pub fn new(workers: usize) -> Self {
        Self {
            workers: (0..workers).map(|_| Mutex::default()).collect(),
            own: ArcSwap::default(),
        }
    }

    /// Leaves out the queries from these addresses from here on.
    pub fn set_own(&self, addresses: BTreeSet<IpAddr>) {
        self.own.store(addresses.into());
    }

    /// Adds the queries of a worker's batch: where each came from, and the interface that it came by.
    pub fn add(&self, worker: usize, batch: impl Iterator<Item = (IpAddr, u32)>) {
        let Some(counts) = self.workers.get(worker) else {
            return;
        };
        let own = self.own.load();
        let mut counts = lock(counts);
        for (client, ifindex) in batch {
            if !own.contains(&client) {
                *counts.entry(ifindex).or_default() += 1;
            }
        }
    }

    /// Sums over all workers.
    pub fn read(&self) -> ByInterface {
        let mut sums = ByInterface::new();
        for counts in &self.workers {
            for (ifindex, count) in &*lock(counts) {
                *sums.entry(*ifindex).or_default() += count;
            }
        }
        sums
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_summed_up_without_those_of_this_host() {
        let arrivals = Arrivals::new(2);
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        arrivals.set_own([ip("2001:db8::53")].into());
        arrivals.add(
            0,
            [(ip("192.0.2.1"), 2), (ip("2001:db8::53"), 2)].into_iter(),
        );
        arrivals.add(
            1,
            [(ip("192.0.2.1"), 2), (ip("2001:db8::1"), 3)].into_iter(),
        );
        // No such worker.
        arrivals.add(2, [(ip("192.0.2.1"), 2)].into_iter());
        assert_eq!(arrivals.read(), [(2, 2), (3, 1)].into());
    }
}

//! A sample of the names that clients ask the slow path for over UDP because the kernel's table lacks them. It shows
//! which of them are asked for most.
//!
//! One query of each batch counts, for as many as were in it. Under little load that is every query. Under
//! much load it costs little.

use std::hash::BuildHasher;
use std::net::IpAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use domain::base::{Name, Rtype};
use geodns_common::respond::respond;
use geodns_common::scratch::Scratch;
use geodns_common::verdict::Verdict;
use hashbrown::DefaultHashBuilder;

use crate::base::lock::lock;
use crate::plan::heat;
use crate::world::World;

/// Names that a worker watches at once: N sets of N.
const SETS: usize = 512;
const WAYS: usize = 8;

/// The samples of all workers.
#[derive(Debug)]
pub(super) struct Asked {
    /// Whether anybody wants to know.
    wanted: AtomicBool,
    workers: Box<[Mutex<Sketch>]>,
}

impl Asked {
    /// The samples of N workers.
    pub fn new(workers: usize) -> Self {
        Self {
            wanted: AtomicBool::new(false),
            workers: (0..workers).map(|_| Mutex::default()).collect(),
        }
    }

    /// Whether samples are wanted.
    pub fn is_wanted(&self) -> bool {
        self.wanted.load(Ordering::Relaxed)
    }

    /// Takes a query into account, for N. Only of names that exist, whose zone is not in the kernel
    /// whole, and of queries that the program would have looked them up for.
    pub fn sample(
        &self,
        worker: usize,
        world: &World,
        message: &[u8],
        client: IpAddr,
        count: usize,
    ) {
        let Some(worker) = self.workers.get(worker) else {
            return;
        };
        let mut sketch = lock(worker);
        let sketch = &mut *sketch;
        if !sketch.scratch.set_query(message, client) {
            return;
        }
        // Whoever edits the plan is not waited for.
        let Ok(plan) = world.plan.try_read() else {
            return;
        };
        if respond(&mut sketch.scratch, &*plan) != Verdict::UnknownName {
            return;
        }
        let mut name = [0; MAX_NAME];
        let (octets, _) = name.as_chunks_mut::<8>();
        for (octets, word) in octets.iter_mut().zip(sketch.scratch.name) {
            *octets = word.to_le_bytes();
        }
        let Some(name) = name.get(..sketch.scratch.name_len as usize) else {
            return;
        };
        let Ok(parsed) = Name::from_slice(name) else {
            return;
        };
        let zones = world.zones.load();
        let Some((zone, there)) = zones.find(parsed) else {
            return;
        };
        if plan.is_partial(zone) && there.named(parsed).is_some() {
            let qtype = Rtype::from_int(sketch.scratch.qtype());
            sketch.count(name, qtype, count as u32);
        }
    }

    /// Takes the names that were asked for since the last call.
    pub fn take(&self) -> Vec<heat::Asked> {
        let mut asked = Vec::new();
        for worker in &self.workers {
            let mut sketch = lock(worker);
            asked.extend(sketch.take());
        }
        asked
    }

    /// Says whether samples are wanted from now on.
    pub fn want(&self, wanted: bool) {
        self.wanted.store(wanted, Ordering::Relaxed);
    }
}

/// Octets of a name, at the most, and one.
const MAX_NAME: usize = 256;

/// The names that one worker is asked for most. A name that has no room in its set takes the count of the
/// least of it down, and its place once that is at 0 (Misra and Gries, within a set).
#[derive(Default)]
struct Sketch {
    scratch: Box<Scratch>,
    hasher: DefaultHashBuilder,
    /// Empty as long as nothing was counted.
    entries: Vec<Counted>,
}

/// A name. Nothing, with a count of 0.
#[derive(Clone, Copy)]
struct Counted {
    hash: u64,
    count: u32,
    qtype: Rtype,
    len: u8,
    name: [u8; MAX_NAME - 1],
}

const NOTHING: Counted = Counted {
    hash: 0,
    count: 0,
    qtype: Rtype::A,
    len: 0,
    name: [0; MAX_NAME - 1],
};

impl std::fmt::Debug for Sketch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sketch").finish_non_exhaustive()
    }
}

impl Sketch {
    fn count(&mut self, name: &[u8], qtype: Rtype, count: u32) {
        if self.entries.is_empty() {
            self.entries.resize(SETS * WAYS, NOTHING);
        }
        let hash = self.hasher.hash_one((name, qtype.to_int()));
        let set = hash as usize % SETS * WAYS;
        let Some(set) = self.entries.get_mut(set..set + WAYS) else {
            return;
        };
        if let Some(there) = set
            .iter_mut()
            .find(|there| there.hash == hash && there.count > 0)
        {
            there.count = there.count.saturating_add(count);
            return;
        }
        let Some(least) = set.iter_mut().min_by_key(|there| there.count) else {
            return;
        };
        if least.count >= count {
            least.count -= count;
            return;
        }
        *least = Counted {
            hash,
            count: count - least.count,
            qtype,
            len: name.len() as u8,
            ..NOTHING
        };
        if let Some(place) = least.name.get_mut(..name.len()) {
            place.copy_from_slice(name);
        }
    }

    fn take(&mut self) -> Vec<heat::Asked> {
        let counted = self.entries.iter_mut().filter(|entry| entry.count > 0);
        let taken = counted.map(|entry| heat::Asked {
            name: entry.name[..usize::from(entry.len)].into(),
            qtype: entry.qtype,
            count: std::mem::take(&mut entry.count),
        });
        taken.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(number: usize) -> Vec<u8> {
        let digits = number.to_string();
        [&[digits.len() as u8], digits.as_bytes(), &[0]].concat()
    }

    #[test]
    fn what_is_asked_most_is_found_among_much_else() {
        let mut sketch = Sketch::default();
        assert!(sketch.take().is_empty());
        for number in 0..100_000 {
            sketch.count(&name(number), Rtype::A, 1);
            if number % 50 == 0 {
                sketch.count(&name(1_000_000), Rtype::AAAA, 2);
            }
        }
        let asked = sketch.take();
        assert!(asked.len() <= SETS * WAYS);
        let most = asked.iter().max_by_key(|asked| asked.count).unwrap();
        assert_eq!((&*most.name, most.qtype), (&*name(1_000_000), Rtype::AAAA));
        assert!(most.count > 2000, "{}", most.count);
        assert!(sketch.take().is_empty());
    }

    #[test]
    fn few_are_counted_exactly() {
        let mut sketch = Sketch::default();
        for number in 0..WAYS {
            for _ in 0..=number {
                sketch.count(&name(number), Rtype::A, 3);
            }
        }
        let mut asked = sketch.take();
        asked.sort_by_key(|asked| asked.count);
        let counts: Vec<_> = asked.iter().map(|asked| asked.count as usize).collect();
        assert_eq!(counts, (1..=WAYS).map(|n| 3 * n).collect::<Vec<_>>());
    }
}

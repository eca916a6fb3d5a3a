//! Answers by mirror, as the slow path counts them.

use std::iter;
use std::sync::atomic::{AtomicU64, Ordering};

use hashbrown::HashMap;

/// Counters of the mirrors of a plan. Each writer has its own.
#[derive(Debug)]
pub struct ByMirror {
    ids: Box<[u64]>,
    writers: Box<[Box<[AtomicU64]>]>,
}

/// Writers that have counters of their own; others share these.
const WRITERS: usize = 16;

impl ByMirror {
    /// None so far, for mirrors of these ids ([`mirror_ids`](geodns_common::tables::Tables::mirror_ids)).
    pub(super) fn new(ids: &[u64]) -> Self {
        let zeros = || iter::repeat_with(AtomicU64::default).take(ids.len());
        Self {
            ids: ids.into(),
            writers: (0..WRITERS).map(|_| zeros().collect()).collect(),
        }
    }

    /// Ids of the mirrors.
    pub fn ids(&self) -> &[u64] {
        &self.ids
    }

    /// Counts an answer, by the counter of the mirror that is first in it.
    pub fn add(&self, writer: usize, counter: u32) {
        let of_writer = self.writers.get(writer % WRITERS);
        if let Some(count) = of_writer.and_then(|counts| counts.get(counter as usize)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Adds the answers so far to those of each mirror, by its id.
    pub fn add_to(&self, by_id: &mut HashMap<u64, u64>) {
        for (counter, id) in self.ids.iter().enumerate() {
            let of_writers = self.writers.iter().filter_map(|counts| counts.get(counter));
            let count: u64 = of_writers.map(|count| count.load(Ordering::Relaxed)).sum();
            *by_id.entry(*id).or_default() += count;
        }
    }
}

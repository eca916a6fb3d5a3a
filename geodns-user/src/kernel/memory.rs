//! The maps of the program, and the kernel memory that they take.
//!
//! Loading the program takes the sizes of its tables from here. `geodns check`, which loads none, takes the memory.

use aya::util::nr_cpus;
use geodns_common::abi::{self, Row, Seen, Settings};
use geodns_common::block::BlockTable;
use geodns_common::layout::{
    self, Cookies, Counters, Heartbeat, Listen, MirrorPage, SKETCH_ROWS, Sighting, Sketch, Traffic,
};
use geodns_common::limit;
use geodns_common::scratch::Scratch;
use geodns_common::verdict::COUNTERS;
use geodns_common::watch::Watch;

use crate::plan::Capacity;

/// Kernel memory of a map beside its elements: `struct bpf_array` and its like.
const HEAD: u64 = 312;
const PAGE: u64 = 4096;

/// How a map holds its elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// One after the other, in pages that userspace can map.
    Mapped,
    /// One after the other.
    Array,
    /// One for each CPU.
    PerCpu,
    /// A trie of prefixes, that takes memory for those that are in it.
    Trie,
    /// A ring buffer of N octets.
    Ring,
}

/// A map of the program.
#[derive(Clone, Copy, Debug)]
pub struct Map {
    /// Its name.
    pub name: &'static str,
    /// Its entries; octets of a ring buffer.
    pub entries: u32,
    kind: Kind,
    value_size: usize,
}

impl Map {
    const fn new<T>(name: &'static str, kind: Kind, entries: u32) -> Self {
        Self {
            name,
            entries,
            kind,
            value_size: size_of::<T>(),
        }
    }

    /// Octets of kernel memory that it takes, as its `fdinfo` has it.
    fn bytes(&self, cpus: u64) -> u64 {
        let (entries, size) = (u64::from(self.entries), self.value_size as u64);
        let element = size.next_multiple_of(8);
        match self.kind {
            Kind::Mapped => {
                HEAD.next_multiple_of(PAGE) + (entries * element).next_multiple_of(PAGE)
            }
            Kind::Array => HEAD + entries * element,
            Kind::PerCpu => HEAD + entries * (8 + element * cpus),
            // A node, with a key of 16 octets.
            Kind::Trie => entries * (40 + 16 + size),
            Kind::Ring => entries + 3 * PAGE,
        }
    }
}

/// The maps whose sizes are the loader's to set: the tables of a plan, buckets if responses are limited, the prefixes
/// that are exempt from that, and counters by mirror.
pub fn tables(capacity: &Capacity, settings: &Settings, exempt: usize) -> [Map; 12] {
    let is_limited = settings.limit.rate.interval != 0;
    let pages = if is_limited { limit::PAGES } else { 1 };
    let mapped = Kind::Mapped;
    let cpus = nr_cpus().unwrap_or(1) as u32;
    let mirrors = settings.mirror_pages * (layout::MIRROR_PARTS + cpus);
    [
        Map::new::<abi::Name>("NAMES", mapped, capacity.names),
        Map::new::<abi::Zone>("ZONES", mapped, capacity.zones),
        Map::new::<abi::Pool>("POOLS", mapped, capacity.pools),
        Map::new::<abi::Answer>("ANSWERS", mapped, capacity.answers),
        Map::new::<abi::Shelf>("SHELVES", mapped, capacity.shelves),
        Map::new::<u64>("REGIONS", mapped, capacity.regions),
        Map::new::<u64>("SLOTS", mapped, capacity.slots),
        Map::new::<abi::Page>("ROOTS", mapped, capacity.roots),
        Map::new::<abi::Block>("BLOCKS", mapped, capacity.blocks),
        Map::new::<limit::Page>("CELLS", mapped, pages),
        Map::new::<MirrorPage>("MIRRORS", mapped, mirrors),
        Map::new::<u32>("EXEMPT", Kind::Trie, exempt as u32),
    ]
    .map(|map| Map {
        // The kernel makes no map of no entries.
        entries: map.entries.max(1),
        ..map
    })
}

/// The maps whose sizes the program has, those that all instances share among them.
fn others() -> [Map; 17] {
    [
        Map::new::<BlockTable>("RULES", Kind::Mapped, 1),
        // What is in it comes and goes, and is small beside the rest.
        Map::new::<u32>("DENIED", Kind::Trie, 0),
        Map::new::<Watch>("WATCH", Kind::Mapped, 1),
        Map::new::<Seen>("SEEN", Kind::Mapped, Seen::SLOTS),
        Map::new::<Settings>(".rodata", Kind::Array, 1),
        Map::new::<Sighting>("SIGHTING", Kind::PerCpu, 1),
        Map::new::<[Row; COUNTERS / 2]>("BUDGETS", Kind::PerCpu, 1),
        Map::new::<Scratch>("SCRATCH", Kind::PerCpu, 1),
        Map::new::<Counters>("COUNTERS", Kind::PerCpu, 1),
        Map::new::<Traffic>("TRAFFIC", Kind::PerCpu, layout::TRAFFIC_SLOTS),
        Map::new::<u64>("DROPPED", Kind::PerCpu, layout::BLOCK_COUNTERS),
        Map::new::<Sketch>("SKETCHES", Kind::PerCpu, 2 * SKETCH_ROWS),
        Map::new::<Heartbeat>("HEARTBEAT", Kind::Mapped, 1),
        Map::new::<Cookies>("COOKIES", Kind::Mapped, 1),
        Map::new::<Listen>("LISTEN", Kind::Mapped, Listen::SLOTS),
        Map::new::<u8>("SIGHTINGS", Kind::Ring, layout::SIGHTINGS_OCTETS),
        // Where the program's log of packets goes, if it is asked for one.
        Map::new::<u8>("AYA_LOGS", Kind::Ring, 1 << 17),
    ]
}

/// Octets of kernel memory that each map takes with a plan of this capacity, and with these settings.
pub fn by_map(
    capacity: &Capacity,
    settings: &Settings,
    exempt: usize,
) -> impl Iterator<Item = (&'static str, u64)> {
    let cpus = nr_cpus().unwrap_or(1) as u64;
    let all = tables(capacity, settings, exempt)
        .into_iter()
        .chain(others());
    all.map(move |map| (map.name, map.bytes(cpus)))
}

/// The same of all of them.
pub fn bytes(capacity: &Capacity, settings: &Settings, exempt: usize) -> u64 {
    by_map(capacity, settings, exempt)
        .map(|(_, bytes)| bytes)
        .sum()
}

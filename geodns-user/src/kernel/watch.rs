//! Samples and frames that the program reports by a ring buffer, and sketches of the clients that ask most
//! ([`geodns_common::watch`]).
//!
//! Each instance has its own filter, since its key hashes the names. All instances share ring buffer and sketches.

use std::collections::HashMap;
use std::io;
use std::mem::{offset_of, size_of};
use std::os::fd::BorrowedFd;
use std::thread;

use aya::maps::{MapData, PerCpuArray, PerCpuValues, RingBuf};
use aya::util::nr_cpus;
use bytemuck::Zeroable;
use geodns_common::block::BlockRule;
use geodns_common::layout::{Place, SKETCH_BITS, SKETCH_ROWS, Sighting, Sketch};
use geodns_common::limit;
use geodns_common::watch::Watch as Element;
use geodns_common::wire::HashKey;

use super::block::{TICKS, compile};
use super::mmap::Mapping;
use super::{Error, chain};
use crate::block::InForce;

/// The packets that the program is to report.
#[derive(Clone, Debug, Default)]
pub struct Watching {
    /// log2 of how many queries there are for a sample; `None`: there are none, and no sketch.
    pub samples: Option<u32>,
    /// Filter of the capture.
    pub capture: Option<Capture>,
    /// log2 of how many queries there are for one that is tapped; `None`: none is.
    pub taps: Option<u32>,
    /// The second sketch is written.
    pub second: bool,
}

/// Queries whose frames are told.
#[derive(Clone, Debug)]
pub struct Capture {
    /// Those that match; `None`: all.
    pub of: Option<InForce>,
    /// Those with these verdicts: a bit for each, by its counter.
    pub verdicts: u64,
    /// log2 of how many of them there are for one that is told.
    pub shift: u32,
}

impl Watching {
    fn row(&self) -> u64 {
        let capture = self.capture.as_ref().map(|capture| capture.shift);
        Element::row(self.samples, capture, self.taps, self.second)
    }
}

/// Requests to an instance.
#[derive(Debug)]
pub struct Watch(Mapping);

impl Watch {
    /// Maps it.
    pub fn new(map: BorrowedFd<'_>) -> io::Result<Self> {
        Mapping::new(map, size_of::<Element>(), 1).map(Self)
    }

    /// Asks for this, in place of what was asked before. Another capture waits two ticks of the clock.
    pub fn set(&self, key: &HashKey, watching: &Watching) {
        let at = offset_of!(Element, row);
        let before = self.0.load_u64(0, at) as u32;
        if let Some(capture) = &watching.capture
            && before & Element::CAPTURE == 0
        {
            let of = capture
                .of
                .as_ref()
                .map_or_else(BlockRule::default, |of| compile(key, of));
            let words: [u64; size_of::<BlockRule>() / 8] = bytemuck::cast(of);
            for (word, value) in words.into_iter().enumerate() {
                self.0
                    .store_u64(0, offset_of!(Element, rule) + 8 * word, value);
            }
            self.0
                .store_u64(0, offset_of!(Element, verdicts), capture.verdicts);
        }
        self.0.store_u64(0, at, watching.row());
        if before & Element::CAPTURE != 0 && watching.capture.is_none() {
            thread::sleep(TICKS);
        }
    }
}

/// Where it is told.
pub struct Sightings(RingBuf<MapData>);

impl std::os::fd::AsRawFd for Sightings {
    fn as_raw_fd(&self) -> std::os::fd::RawFd {
        self.0.as_raw_fd()
    }
}

impl Sightings {
    /// This ring buffer.
    pub fn new(ring: RingBuf<MapData>) -> Self {
        Self(ring)
    }

    /// The next that was told, whole or its head.
    pub fn take(&mut self) -> Option<Box<Sighting>> {
        let item = self.0.next()?;
        let mut sighting: Box<Sighting> = Box::new(Sighting::zeroed());
        let octets = bytemuck::bytes_of_mut(&mut *sighting);
        let len = item.len().min(octets.len());
        octets[..len].copy_from_slice(&item[..len]);
        Some(sighting)
    }
}

/// The sketches of the prefixes that ask most.
pub struct Sketches(PerCpuArray<MapData, Row>);

/// A row of a sketch.
#[repr(transparent)]
#[derive(Clone, Copy)]
struct Row(Sketch);

// SAFETY: integers without padding.
unsafe impl aya::Pod for Row {}

fn failed(error: &dyn std::error::Error) -> Error {
    Error::Map {
        map: "SKETCHES",
        reason: chain(error),
    }
}

impl Sketches {
    /// Opens them.
    pub fn new(map: aya::maps::Map) -> Result<Self, Error> {
        PerCpuArray::try_from(map)
            .map(Self)
            .map_err(|error| failed(&error))
    }

    /// Starts a sketch anew, which nobody may write any more. Gives how many CPUs there are.
    pub fn clear(&mut self, second: bool) -> Result<usize, Error> {
        let cpus = nr_cpus().map_err(|(what, error)| Error::Map {
            map: "SKETCHES",
            reason: format!("{what}: {error}"),
        })?;
        let first = row_of(second);
        for row in first..first + SKETCH_ROWS {
            let zeros = vec![Row([Place::default(); 1 << SKETCH_BITS]); cpus];
            let zeros = PerCpuValues::try_from(zeros).map_err(|error| failed(&error))?;
            self.0.set(row, zeros, 0).map_err(|error| failed(&error))?;
        }
        Ok(cpus)
    }

    /// About which share of all queries each prefix sent, as [`address::prefix`](geodns_common::address::prefix) has it, most first; and starts
    /// anew. Nobody may write this sketch any more.
    pub fn take(&mut self, key: &HashKey, second: bool) -> Result<Vec<(u64, f64)>, Error> {
        let first = row_of(second);
        let mut rows = Vec::new();
        for row in first..first + SKETCH_ROWS {
            rows.push(self.0.get(&row, 0).map_err(|error| failed(&error))?);
        }
        let cpus = self.clear(second)?;
        let of_cpus = (0..cpus).map(|cpu| {
            let rows: Vec<&Sketch> = rows
                .iter()
                .filter_map(|row| Some(&row.get(cpu)?.0))
                .collect();
            rows
        });
        let of_cpus: Vec<_> = of_cpus.collect();
        // Each row has counted all.
        let first = of_cpus.iter().filter_map(|rows| rows.first());
        let all: u64 = first
            .flat_map(|row| row.iter())
            .map(|place| place.total)
            .sum();
        let most = merged(&of_cpus, key).into_iter();
        Ok(most
            .map(|(prefix, queries)| (prefix, queries as f64 / all.max(1) as f64))
            .collect())
    }
}

/// The first row of a sketch.
const fn row_of(second: bool) -> u32 {
    if second { SKETCH_ROWS } else { 0 }
}

/// The totals that the sketches of some CPUs have for each prefix that leads anywhere.
fn merged(of_cpus: &[Vec<&Sketch>], key: &HashKey) -> Vec<(u64, u64)> {
    let mut sums: HashMap<u64, u64> = HashMap::new();
    for rows in of_cpus {
        let places = rows.iter().flat_map(|row| row.iter());
        let leading = places.filter(|place| place.total > 0);
        for prefix in leading.map(|place| place.prefix) {
            sums.entry(prefix).or_default();
        }
    }
    for (&prefix, sum) in &mut sums {
        for rows in of_cpus {
            let estimates = rows.iter().zip(&key.0).map(|(row, &key)| {
                row[limit::place(prefix, key, SKETCH_BITS) as usize].estimate(prefix)
            });
            *sum += estimates.min().unwrap_or(0);
        }
    }
    let mut most: Vec<(u64, u64)> = sums
        .into_iter()
        .filter(|(_, queries)| *queries > 0)
        .collect();
    most.sort_by_key(|&(prefix, queries)| (std::cmp::Reverse(queries), prefix));
    most
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_asks_most_is_found_among_many() {
        let key = HashKey::new([1, 2]);
        let mut rows = vec![[Place::default(); 1 << SKETCH_BITS]; SKETCH_ROWS as usize];
        // A Zipf law over 20,000 prefixes: the first ten have a fifth of all.
        let asked = |rank: u64| 100_000 / (rank + 1);
        let mut all = Vec::new();
        for rank in 0..20_000_u64 {
            all.extend(std::iter::repeat_n(
                rank * 7919 % 0xff_ffff,
                asked(rank) as usize,
            ));
        }
        // Not one after the other.
        let len = all.len();
        for turn in 0..len {
            let prefix = all[turn * 1_000_003 % len];
            for (row, &key) in rows.iter_mut().zip(&key.0) {
                row[limit::place(prefix, key, SKETCH_BITS) as usize].count(prefix);
            }
        }
        let found = merged(&[rows.iter().collect()], &key);
        for rank in 0..10_u64 {
            let (prefix, queries) = found[rank as usize];
            assert_eq!(prefix, rank * 7919 % 0xff_ffff, "rank {rank}");
            let error = queries.abs_diff(asked(rank)) as f64 / asked(rank) as f64;
            assert!(error < 0.1, "rank {rank}: {queries} of {}", asked(rank));
        }
        // Two CPUs that see the same see twice as much.
        let rows: Vec<&Sketch> = rows.iter().collect();
        let twice = merged(&[rows.clone(), rows], &key);
        assert_eq!(twice[0], (found[0].0, 2 * found[0].1));
    }
}

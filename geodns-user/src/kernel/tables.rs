//! The tables in the kernel, read as the program reads them: what `explain` answers from.
//!
//! And the clients that it answered lately ([`seen`]).
//!
//! They are mapped for as long as somebody looks, whatever the instance itself keeps mapped.

use std::io;

use geodns_common::abi::{Answer, Block, Name, Page, Pool, Seen, Settings, Shelf, Zone};
use geodns_common::tables::Tables;

use super::Error;
use super::instance::Instance;
use super::mmap::{Value, View};

/// The tables of an instance. It is borrowed: nothing is stored to them meanwhile.
#[derive(Debug)]
pub struct KernelTables<'a> {
    instance: &'a Instance,
    names: View<Name>,
    zones: View<Zone>,
    pools: View<Pool>,
    answers: View<Answer>,
    shelves: View<Shelf>,
    regions: View<u64>,
    slots: View<u64>,
    roots: View<Page>,
    blocks: View<Block>,
}

impl<'a> KernelTables<'a> {
    /// Maps all of them, to read.
    pub fn of(instance: &'a Instance) -> Result<Self, Error> {
        Ok(Self {
            instance,
            names: view(instance, "NAMES")?,
            zones: view(instance, "ZONES")?,
            pools: view(instance, "POOLS")?,
            answers: view(instance, "ANSWERS")?,
            shelves: view(instance, "SHELVES")?,
            regions: view(instance, "REGIONS")?,
            slots: view(instance, "SLOTS")?,
            roots: view(instance, "ROOTS")?,
            blocks: view(instance, "BLOCKS")?,
        })
    }
}

/// Clients that an instance answered lately.
pub fn seen(instance: &Instance) -> Result<Vec<Seen>, Error> {
    let slots: View<[u64; SEEN_WORDS]> = view(instance, "SEEN")?;
    let samples = (0..Seen::SLOTS).filter_map(|slot| slots.words(slot));
    let samples = samples.map(bytemuck::cast::<[u64; SEEN_WORDS], Seen>);
    Ok(samples.filter(|seen| seen.version != 0).collect())
}

/// 8-byte words of a [`Seen`], which the program writes at any time: each is read once, whole.
const SEEN_WORDS: usize = size_of::<Seen>() / 8;

fn view<T: Value>(instance: &Instance, map: &'static str) -> Result<View<T>, Error> {
    let (fd, entries) = instance.table(map)?;
    View::new(fd, entries).map_err(|error: io::Error| Error::Map {
        map,
        reason: error.to_string(),
    })
}

impl Tables for KernelTables<'_> {
    fn settings(&self) -> &Settings {
        self.instance.settings()
    }
    fn name(&self, slot: u32) -> Option<&Name> {
        self.names.get(slot)
    }
    fn zone(&self, index: u32) -> Option<&Zone> {
        self.zones.get(index)
    }
    fn pool(&self, index: u32) -> Option<&Pool> {
        self.pools.get(index)
    }
    fn answer(&self, index: u32) -> Option<&Answer> {
        self.answers.get(index)
    }
    fn shelf(&self, index: u32) -> Option<&Shelf> {
        self.shelves.get(index)
    }
    fn region(&self, index: u32) -> Option<u64> {
        self.regions.load(index)
    }
    fn root(&self, index: u32) -> Option<&Page> {
        self.roots.get(index)
    }
    fn block(&self, number: u32) -> Option<&Block> {
        self.blocks.get(number)
    }
    fn slot(&self, index: u32) -> Option<u64> {
        self.slots.load(index)
    }
    fn random(&self) -> u32 {
        rand::random()
    }
}

//! The backend in memory: the kernel's tables on the host, of the same size and fed the same way.

use std::io;

use geodns_common::abi::{
    self, Answer, Block, Entry, Name, Page, Pool, SHELF_WORDS, Settings, Shelf, Zone,
};
use geodns_common::tables::Tables;

use super::Backend;
use crate::plan::{Plan, Store};

/// Tables in memory, loaded from a plan and then changed by its stores alone: what shows that the
/// stores are enough.
#[derive(Clone, Debug)]
pub struct Twin {
    settings: Settings,
    names: Vec<Name>,
    zones: Vec<Zone>,
    pools: Vec<Pool>,
    answers: Vec<Answer>,
    shelves: Vec<Shelf>,
    regions: Vec<u64>,
    slots: Vec<u64>,
    roots: Vec<Page>,
    blocks: Vec<Block>,
}

impl Twin {
    /// Loads a plan into tables of its capacity.
    pub fn load(plan: &Plan) -> Self {
        let capacity = plan.capacity();
        let mut roots = plan.roots().to_vec();
        roots.resize(capacity.roots as usize, [Entry(0); 256]);
        let mut blocks = plan.blocks().to_vec();
        blocks.resize(capacity.blocks as usize, [Entry(0); 16]);
        let mut shelves = plan.shelves().to_vec();
        shelves.resize(capacity.shelves as usize, [0; SHELF_WORDS]);
        let mut regions = plan.regions().to_vec();
        regions.resize(capacity.regions as usize, 0);
        Self {
            settings: *plan.settings(),
            names: plan.names().to_vec(),
            zones: plan.zones().to_vec(),
            pools: plan.pools().to_vec(),
            answers: plan.answers().to_vec(),
            shelves,
            regions,
            slots: plan.slots().to_vec(),
            roots,
            blocks,
        }
    }

    fn store(&mut self, store: &Store) -> Option<()> {
        match store {
            Store::Block { number, entries } => {
                *self.blocks.get_mut(*number as usize)? = **entries;
            }
            Store::Root { index, entries } => {
                *self.roots.get_mut(*index as usize)? = **entries;
            }
            Store::RootEntry { index, at, entry } => {
                self.roots.get_mut(*index as usize)?[usize::from(*at)] = *entry;
            }
            Store::Region { index, order } => {
                *self.regions.get_mut(*index as usize)? = *order;
            }
            Store::Slot { index, order } => {
                *self.slots.get_mut(*index as usize)? = *order;
            }
            Store::Answer { index, answer } => {
                *self.answers.get_mut(*index as usize)? = **answer;
            }
            Store::Pool { pool, row, value } => {
                row.of(self.pools.get_mut(*pool as usize)?).set(*value);
            }
            Store::Set { place, words } => {
                let at = *place as usize;
                let there = self.shelves.as_flattened_mut();
                there.get_mut(at..at + words.len())?.copy_from_slice(words);
            }
            Store::Name { slot, word, value } => {
                word.set(self.names.get_mut(*slot as usize)?, *value);
            }
            Store::Soa { zone, of } => {
                let there = self.zones.get_mut(*zone as usize)?;
                let row = there.row.clone();
                *there = abi::Zone {
                    row,
                    ..(**of).clone()
                };
            }
            Store::Zone { zone, value } => self.zones.get_mut(*zone as usize)?.row.set(*value),
        }
        Some(())
    }
}

impl Backend for Twin {
    fn apply(&mut self, stores: &[Store]) -> io::Result<()> {
        for store in stores {
            self.store(store).ok_or_else(|| {
                let message = format!("outside the tables: {store:?}");
                io::Error::new(io::ErrorKind::InvalidInput, message)
            })?;
        }
        Ok(())
    }

    /// Nobody reads while `&mut self` is held.
    fn grace(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Tables for Twin {
    fn settings(&self) -> &Settings {
        &self.settings
    }
    fn name(&self, slot: u32) -> Option<&Name> {
        self.names.get(slot as usize)
    }
    fn zone(&self, index: u32) -> Option<&Zone> {
        self.zones.get(index as usize)
    }
    fn pool(&self, index: u32) -> Option<&Pool> {
        self.pools.get(index as usize)
    }
    fn answer(&self, index: u32) -> Option<&Answer> {
        self.answers.get(index as usize)
    }
    fn shelf(&self, index: u32) -> Option<&Shelf> {
        self.shelves.get(index as usize)
    }
    fn region(&self, index: u32) -> Option<u64> {
        self.regions.get(index as usize).copied()
    }
    fn slot(&self, index: u32) -> Option<u64> {
        self.slots.get(index as usize).copied()
    }
    fn random(&self) -> u32 {
        rand::random()
    }
    fn root(&self, index: u32) -> Option<&abi::Page> {
        self.roots.get(index as usize)
    }
    fn block(&self, number: u32) -> Option<&abi::Block> {
        self.blocks.get(number as usize)
    }
}

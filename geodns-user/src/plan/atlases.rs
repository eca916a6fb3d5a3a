//! All prefix tables of a plan, and their roots.

use std::sync::Arc;

use geodns_common::abi::{self, Entry, Family, ROOT_PAGES};

use super::atlas::ROOT_ENTRIES;
use super::blocks::Full;
use super::runs::Source;
use crate::geo::{Geography, Layers, Wanted};
use crate::steering::Steering;

/// One prefix table and what it was made from.
#[derive(Clone, Debug)]
pub(super) struct Atlas {
    pub(super) steering: Arc<Steering>,
    /// The geography that the steering asks for.
    pub(super) wanted: Wanted,
    pub(super) layers: Layers,
    /// Whether 6to4 and Teredo clients are where their IPv4 addresses are. Overrides do not matter for
    /// it: they come and go.
    pub(super) embedded: bool,
    /// Pools that it serves.
    pub(super) users: u32,
}

impl Atlas {
    pub(super) fn source<'a>(&'a self, geography: &'a Geography) -> Source<'a> {
        Source {
            layers: &self.layers,
            steering: &self.steering,
            geography,
            wanted: self.wanted,
            embedded: self.embedded,
        }
    }
}

/// All atlases, and their roots.
#[derive(Clone, Debug, Default)]
pub(super) struct Atlases {
    /// By number; `None` is a spare one.
    pub(super) atlases: Vec<Option<Atlas>>,
    /// Pages of roots (see [`abi::root`]).
    pub(super) roots: Vec<abi::Page>,
    /// Numbers of atlases that are gone, whose roots a reader may still hold.
    pub(super) limbo: Vec<u32>,
    /// Numbers of atlases that nobody can see.
    pub(super) free: Vec<u32>,
    /// Atlases, at the most.
    pub(super) capacity: u32,
}

/// Pages of roots of one atlas.
pub(super) const ATLAS_PAGES: usize = 2 * ROOT_PAGES as usize;
/// Entries of the roots of one atlas.
pub(super) const ATLAS_ENTRIES: usize = 2 * ROOT_ENTRIES;

impl Atlases {
    pub(super) fn get(&self, number: u32) -> &Atlas {
        let atlas = self.atlases[number as usize].as_ref();
        atlas.expect("a pool's atlas is there")
    }

    pub(super) fn get_mut(&mut self, number: u32) -> &mut Atlas {
        let atlas = self.atlases[number as usize].as_mut();
        atlas.expect("a pool's atlas is there")
    }

    /// The atlas that serves pools of such a kind with such layers.
    pub(super) fn find(&self, steering: &Steering, alike: impl Fn(&Layers) -> bool) -> Option<u32> {
        let found = self.atlases.iter().position(|atlas| {
            let atlas = atlas.as_ref();
            atlas.is_some_and(|atlas| *atlas.steering == *steering && alike(&atlas.layers))
        });
        found.map(|number| number as u32)
    }

    /// A number for another atlas.
    pub(super) fn allocate(&mut self) -> Result<u32, Full> {
        if let Some(number) = self.free.pop() {
            return Ok(number);
        }
        let number = self.atlases.len() as u32;
        if number >= self.capacity {
            return Err(Full);
        }
        self.atlases.push(None);
        let pages = self.roots.len() + ATLAS_PAGES;
        self.roots.resize(pages, [Entry(0); 256]);
        Ok(number)
    }

    /// Both roots of an atlas.
    pub(super) fn entries(&self, number: u32) -> &[Entry] {
        let first = number as usize * ATLAS_ENTRIES;
        &self.roots.as_flattened()[first..first + ATLAS_ENTRIES]
    }

    pub(super) fn entries_mut(&mut self, number: u32) -> &mut [Entry] {
        let first = number as usize * ATLAS_ENTRIES;
        &mut self.roots.as_flattened_mut()[first..first + ATLAS_ENTRIES]
    }
}

/// Where a family's root is in the entries of an atlas.
pub(super) fn root_of(family: Family) -> std::ops::Range<usize> {
    let first = family.index() * ROOT_ENTRIES;
    first..first + ROOT_ENTRIES
}

//! The way through all databases at once.

use geodns_common::abi::Family;
use hashbrown::HashMap;

use super::database::Database;
use super::placeless::{self, Ranges};
use super::tree::Steps;
use super::{Geography, PlaceId};
use crate::geo::{Prefix, Wanted};

/// A place in the databases, going up. See [`Geography::walk`].
pub struct Cursor<'a> {
    geography: &'a Geography,
    wanted: Wanted,
    /// Addresses without a place that are not passed yet.
    placeless: &'static Ranges,
    /// Those that have what is wanted, the most important first.
    sources: Vec<Source<'a>>,
    /// Two places put together.
    combined: HashMap<(PlaceId, PlaceId), PlaceId>,
}

/// One database.
struct Source<'a> {
    database: &'a Database,
    steps: Steps<'a>,
    family: Family,
    /// The places of records.
    known: HashMap<u32, PlaceId>,
    /// The record that the last address had, its place, and where that ends.
    record: Option<u32>,
    place: PlaceId,
    last: Option<u128>,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(geography: &'a Geography, window: Prefix, wanted: Wanted) -> Self {
        let placeless = placeless::ranges(window.family);
        let passed = placeless.partition_point(|&(_, last)| last < window.first);
        let sources = geography
            .databases()
            .filter(|database| database.has().meets(wanted))
            .filter_map(|database| Source::new(database, window.family))
            .collect();
        Self {
            geography,
            wanted,
            placeless: &placeless[passed..],
            sources,
            combined: HashMap::new(),
        }
    }

    /// Goes on to an address, never back. Gives the place there, and the last address for which that
    /// holds at least: what follows may be the same place. It may be past the window.
    #[inline]
    pub fn seek(&mut self, address: u128) -> (PlaceId, u128) {
        let mut last = u128::MAX;
        while let [(from, to), rest @ ..] = self.placeless {
            if address < *from {
                last = from - 1;
                break;
            }
            if address <= *to {
                return (PlaceId::NOTHING, *to);
            }
            self.placeless = rest;
        }
        let mut place = PlaceId::NOTHING;
        for source in &mut self.sources {
            let (found, found_last) = source.seek(self.geography, address, self.wanted);
            last = last.min(found_last);
            place = match (place, found) {
                (PlaceId::NOTHING, one) | (one, PlaceId::NOTHING) => one,
                (one, other) if one == other => one,
                pair => {
                    *(self.combined.entry(pair)).or_insert_with(|| self.geography.combine(pair))
                }
            };
        }
        (place, last)
    }
}

impl<'a> Source<'a> {
    fn new(database: &'a Database, family: Family) -> Option<Self> {
        Some(Self {
            steps: database.tree().steps(family)?,
            database,
            family,
            known: HashMap::new(),
            record: None,
            place: PlaceId::NOTHING,
            last: None,
        })
    }

    #[inline]
    fn seek(&mut self, geography: &Geography, address: u128, wanted: Wanted) -> (PlaceId, u128) {
        if let Some(last) = self.last
            && address <= last
        {
            return (self.place, last);
        }
        let (record, len) = self.steps.seek(address);
        let at = Prefix {
            family: self.family,
            first: address,
            len,
        };
        let last = at.last();
        self.last = Some(last);
        if self.record != Some(record) {
            self.record = Some(record);
            self.place = match self.database.tree().offset(record) {
                None => PlaceId::NOTHING,
                Some(_) => *self.known.entry(record).or_insert_with(|| {
                    let address = at.net().addr();
                    geography.number(self.database.place(address, wanted))
                }),
            };
        }
        (self.place, last)
    }
}

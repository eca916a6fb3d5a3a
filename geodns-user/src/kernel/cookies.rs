//! The secrets of cookies, in a map that all instances of the program share: cookies stay good when a new plan or a
//! new daemon comes.

use std::io;
use std::mem::offset_of;
use std::os::fd::BorrowedFd;

use geodns_common::cookie::Secret;
use geodns_common::layout;

use super::mmap::Mapping;
use crate::config::Secrets;

/// The shared map.
#[derive(Debug)]
pub struct Cookies(Mapping);

impl Cookies {
    /// Maps it.
    pub fn new(map: BorrowedFd<'_>) -> io::Result<Self> {
        Mapping::new(map, size_of::<layout::Cookies>(), 1).map(Self)
    }

    /// Makes cookies with these secrets from here on, or none. A secret keeps its place, and a new one gets
    /// one that the row in force does not name, so that a packet meets the old secrets or the new ones.
    pub fn set(&self, secrets: Option<&Secrets>) {
        let Some(Secrets(secrets)) = secrets else {
            return self.put_row(0);
        };
        let row = self.0.load_u64(0, offset_of!(layout::Cookies, row));
        let named = |row: u64| [row >> 8, row >> 16].map(|place| place as usize & PLACES);
        let mut taken = match row {
            0 => Vec::new(),
            row => named(row).to_vec(),
        };
        let places = secrets.map(|secret| {
            let known = taken.iter().find(|&&place| self.get(place) == secret);
            let place = known.copied().unwrap_or_else(|| {
                let free = (0..layout::Cookies::SECRETS).find(|place| !taken.contains(place));
                let place = free.unwrap_or_default();
                self.put(place, secret);
                place
            });
            taken.push(place);
            place
        });
        self.put_row(layout::Cookies::row(places[0], places[1]));
    }

    fn get(&self, place: usize) -> Secret {
        let at = |word: usize| offset_of!(layout::Cookies, secrets) + 16 * place + 8 * word;
        [0, 1].map(|word| self.0.load_u64(0, at(word)))
    }

    fn put(&self, place: usize, secret: Secret) {
        for (word, value) in secret.into_iter().enumerate() {
            let at = offset_of!(layout::Cookies, secrets) + 16 * place + 8 * word;
            self.0.store_u64(0, at, value);
        }
    }

    fn put_row(&self, row: u64) {
        self.0.store_u64(0, offset_of!(layout::Cookies, row), row);
    }
}

/// Mask of a place.
const PLACES: usize = layout::Cookies::SECRETS - 1;

//! GeoIP databases (MMDB files): where addresses are.
//!
//! - [`Geography`]: several databases, asked as one
//! - `cursor`: the way through all addresses, in order: what a compile reads
//! - `database`: one file, checked (`file`: its copy; `tree`: its networks; `record`: what they say)
//! - `placeless`: addresses that are nowhere
//!
//! These must hold:
//! - The operator's file is copied and never mapped: he may overwrite it or cut it short at any time.
//! - [`Geography::open`] alone fails. What it lets through never panics, and every walk ends; a record
//!   that does not decode says nothing.

use std::collections::BTreeMap;
use std::hash::BuildHasher;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, RwLock};

use hashbrown::{DefaultHashBuilder, HashTable};
use ipnet::IpNet;

use super::{Place, Prefix, Wanted};
use crate::base::complaint::Error;
use crate::base::lock::{read, write};

mod cursor;
mod database;
mod file;
mod placeless;
mod record;
mod tree;

pub use cursor::Cursor;
pub use database::Database;
pub use file::Fingerprint;

/// Number of a place within one [`Geography`]: equal places have equal numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PlaceId(pub u32);

impl PlaceId {
    /// Nothing is known.
    pub const NOTHING: Self = Self(0);
}

/// Several databases, the most important first: each attribute of a place comes from the first one
/// that has it for the address.
#[derive(Debug, Default)]
pub struct Geography {
    databases: Vec<Arc<Database>>,
    places: RwLock<Places>,
}

impl Geography {
    /// Opens databases, the most important first. They are copied into `folder`, as files without a
    /// name. Those of `previous` whose files have not changed are used again, but no numbers of places
    /// are: opening anew is how their memory (some 50 octets each) is given back.
    pub fn open(paths: &[PathBuf], folder: &Path, previous: Option<&Self>) -> Result<Self, Error> {
        let known = previous.map_or(&[][..], |previous| &previous.databases);
        let mut databases = Vec::with_capacity(paths.len());
        for path in paths {
            let now = Fingerprint::now(path).map_err(|error| Error::cannot_read(path, &error))?;
            let known = known.iter().find(|database| *database.fingerprint() == now);
            databases.push(match known {
                Some(database) => Arc::clone(database),
                None => Arc::new(Database::open(path, folder)?),
            });
        }
        Ok(Self {
            databases,
            places: RwLock::default(),
        })
    }

    /// The same databases, with numbers of places of their own: a walk of these leaves nothing in the others' memory.
    pub fn beside(&self) -> Self {
        Self {
            databases: self.databases.clone(),
            places: RwLock::default(),
        }
    }

    /// The databases, the most important first.
    pub fn databases(&self) -> impl Iterator<Item = &Database> {
        self.databases.iter().map(|database| &**database)
    }

    /// Paths of the databases that have another content than these hashes say.
    pub fn other_than(&self, hashes: &BTreeMap<String, String>) -> Vec<String> {
        let paths = self.databases().filter_map(|database| {
            let path = database.path().to_str()?;
            let other = hashes.get(path)? != database.sha256();
            other.then(|| path.to_owned())
        });
        paths.collect()
    }

    /// The attributes that some database may have.
    pub fn has(&self) -> Wanted {
        let all = self.databases();
        all.fold(Wanted::NOTHING, |has, database| has | database.has())
    }

    /// Files that have changed since they were read, by renaming or in place. One that is gone has not
    /// changed: there is nothing to read, as between the two steps of a careless replacement.
    pub fn changed(&self) -> Vec<PathBuf> {
        let changed = |database: &&Database| {
            let now = Fingerprint::now(database.path());
            now.is_ok_and(|now| now != *database.fingerprint())
        };
        let changed = self.databases().filter(changed);
        changed.map(|database| database.path().to_owned()).collect()
    }

    /// Gives back the memory of what was read of the files, as after a compile.
    pub fn relax(&self) {
        self.databases().for_each(Database::relax);
    }

    /// Walks the places of a part of the address space. What is not wanted is left out of the places,
    /// and databases that have nothing else are not read. Costs what the window holds.
    pub fn walk(&self, window: Prefix, wanted: Wanted) -> Cursor<'_> {
        Cursor::new(self, window, wanted)
    }

    /// The place of a number that a walk of this geography gave.
    pub fn place(&self, id: PlaceId) -> Place {
        let places = read(&self.places);
        places.get(id)
    }

    /// How many numbers walks have given so far; the next will be this one.
    pub fn places(&self) -> u32 {
        let places = read(&self.places);
        places.len()
    }

    /// The place of an address by each database, and by all of them together.
    pub fn lookup(&self, address: IpAddr) -> Lookup {
        let mut lookup = Lookup::default();
        let host = Prefix::host(address);
        let mut placeless = placeless::ranges(host.family).iter();
        if placeless.any(|&(first, last)| (first..=last).contains(&host.first)) {
            return lookup;
        }
        for database in self.databases() {
            let Some((network, place)) = database.find(address) else {
                continue;
            };
            lookup.found.push(Found {
                file: database.path().to_owned(),
                kind: database.kind().to_owned(),
                network: network.net(),
                decides: lookup.place.complete(&place),
                place,
            });
        }
        lookup
    }

    /// The number of a place.
    fn number(&self, place: Place) -> PlaceId {
        let mut places = write(&self.places);
        places.number(place)
    }

    /// The number of two places put together; the first is the more important.
    fn combine(&self, (first, second): (PlaceId, PlaceId)) -> PlaceId {
        let mut places = write(&self.places);
        let mut place = places.get(first);
        place.complete(&places.get(second));
        places.number(place)
    }
}

/// The places that databases give for one address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lookup {
    /// The place by each database of the address's family, the most important first. Empty for special
    /// addresses, which have no place.
    pub found: Vec<Found>,
    /// All of it put together.
    pub place: Place,
}

/// The place that one database gives for an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The database's file.
    pub file: PathBuf,
    /// The database's name of its kind.
    pub kind: String,
    /// The network that the address is in.
    pub network: IpNet,
    /// The place of the network; nothing if the database does not know.
    pub place: Place,
    /// The attributes that are taken from here.
    pub decides: Wanted,
}

/// Places and their numbers.
#[derive(Debug, Default)]
struct Places {
    /// The place of number 1, and so on.
    list: Vec<Place>,
    /// Numbers, each with 32 bits of the hash of its place: growing does not read the list, and a
    /// stranger in the same slot is passed by.
    numbers: HashTable<(u32, u32)>,
    hasher: DefaultHashBuilder,
}

impl Places {
    fn get(&self, id: PlaceId) -> Place {
        let index = (id.0 as usize).checked_sub(1);
        index
            .and_then(|index| self.list.get(index))
            .cloned()
            .unwrap_or_default()
    }

    fn len(&self) -> u32 {
        self.list.len() as u32 + 1
    }

    fn number(&mut self, place: Place) -> PlaceId {
        if place == Place::default() {
            return PlaceId::NOTHING;
        }
        let hash = self.hasher.hash_one(&place) as u32;
        let is_same = |&(other, number): &(u32, u32)| {
            other == hash && self.list[number as usize - 1] == place
        };
        if let Some(&(_, number)) = self.numbers.find(spread(hash), is_same) {
            return PlaceId(number);
        }
        self.list.push(place);
        let number = self.list.len() as u32;
        let numbered = (hash, number);
        self.numbers
            .insert_unique(spread(hash), numbered, |&(hash, _)| spread(hash));
        PlaceId(number)
    }
}

/// To 64 bits: a table takes its slot from the lowest and its tag from the highest.
fn spread(hash: u32) -> u64 {
    u64::from(hash) << 32 | u64::from(hash)
}

/// An error of a database's file.
fn error(path: &Path, message: impl Into<String>) -> Error {
    Error {
        file: path.to_owned(),
        line: None,
        column: None,
        key: None,
        message: message.into(),
    }
}

#[cfg(test)]
mod tests;
/// Writes small databases.
#[cfg(test)]
#[path = "../../../../tests/src/mmdb.rs"]
pub(crate) mod writer;

//! The maps that all instances of the program share, and that outlive them and the daemon.
//!
//! They are held by descriptor, and instances get them by descriptor: what stands at their pins
//! ([`pins`](super::pins)) matters to the next daemon alone.
//!
//! A pin is found by its name, so what is there is compared with what the program wants before it is trusted.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::time::Duration;

use aya::maps::{Map, MapData, MapInfo, PerCpuArray, RingBuf};
use aya::{Ebpf, EbpfLoader};
use geodns_common::layout::MAPS;
use geodns_common::verdict::{COUNTERS, Fate};

use super::block::BlockCounters;
use super::cookies::Cookies;
use super::heartbeat::Heartbeat;
use super::listen::Listening;
use super::watch::{Sightings, Sketches};
use super::{Error, chain, sys};

/// The shared maps, open.
#[derive(Debug)]
pub struct SharedMaps(Vec<(&'static str, OwnedFd)>);

/// Packets by verdict.
pub struct Counters(PerCpuArray<MapData, [u64; COUNTERS]>);

impl Counters {
    /// Sums over all CPUs, in the order of `Verdict::ALL`.
    pub fn read(&self) -> Result<[u64; COUNTERS], Error> {
        let mut sums = [0u64; COUNTERS];
        for cpu in self.0.get(&0, 0).map_err(Error::counters)?.iter() {
            for (sum, count) in sums.iter_mut().zip(cpu) {
                *sum = sum.wrapping_add(*count);
            }
        }
        Ok(sums)
    }
}

/// Packets by fate, by interface.
pub struct Traffic(PerCpuArray<MapData, [u64; Fate::COUNT]>);

impl Traffic {
    /// Sums over all CPUs of what came by the interfaces of a slot, in the order of `Fate::ALL`.
    pub fn read(&self, slot: u32) -> Result<[u64; Fate::COUNT], Error> {
        let mut sums = [0u64; Fate::COUNT];
        let failed = |error| Error::Map {
            map: "TRAFFIC",
            reason: chain(&error),
        };
        for cpu in self.0.get(&slot, 0).map_err(failed)?.iter() {
            for (sum, count) in sums.iter_mut().zip(cpu) {
                *sum = sum.wrapping_add(*count);
            }
        }
        Ok(sums)
    }
}

impl SharedMaps {
    /// New ones.
    pub fn new(object: &[u8]) -> Result<Self, Error> {
        Self::open(object, &|_| None)
    }

    /// Those that a daemon before us has pinned at these paths, new ones where there are none. Pins stay as they are.
    pub fn adopt(object: &[u8], pin: impl Fn(&str) -> PathBuf) -> Result<Self, Error> {
        Self::open(object, &|name| Some(pin(name)))
    }

    fn open(object: &[u8], pin: &dyn Fn(&str) -> Option<PathBuf>) -> Result<Self, Error> {
        // The object itself says what the maps must be like.
        let fresh = sys::undisturbed(|| EbpfLoader::new().load(object)).map_err(Error::load)?;
        let open = |name| {
            let fresh = data(&fresh, name)?;
            let pin = pin(name).filter(|path| path.exists());
            let adopted = pin.and_then(|path| {
                adopt(&path, fresh)
                    .inspect_err(|reason| {
                        tracing::warn!("{}: {reason}: a new map is made", path.display());
                    })
                    .ok()
            });
            let map = match adopted {
                Some(map) => Ok(map),
                None => fresh.fd().as_fd().try_clone_to_owned(),
            };
            Ok((name, map.map_err(|error| failed(name, &error))?))
        };
        MAPS.into_iter()
            .map(open)
            .collect::<Result<_, Error>>()
            .map(Self)
    }

    /// Their names and descriptors.
    pub fn maps(&self) -> impl Iterator<Item = (&'static str, BorrowedFd<'_>)> {
        self.0.iter().map(|(name, map)| (*name, map.as_fd()))
    }

    /// Has a loaded object use them in place of the maps of their names that were made for it: its program is
    /// loaded after this, and it is by the number of a descriptor that its code names a map.
    pub fn put_into(&self, ebpf: &mut Ebpf) -> Result<(), Error> {
        for (name, map) in self.maps() {
            let theirs = data(ebpf, name)?.fd().as_fd();
            sys::stand_for(map, theirs).map_err(|error| failed(name, &error))?;
        }
        Ok(())
    }

    fn map(&self, name: &'static str) -> Result<Map, Error> {
        let found = self.maps().find(|(other, _)| *other == name);
        let (_, map) = found.ok_or_else(|| Error::Object(format!("no map {name}")))?;
        let map = map
            .try_clone_to_owned()
            .map_err(|error| failed(name, &error))?;
        MapData::from_fd(map)
            .and_then(Map::from_map_data)
            .map_err(|error| Error::Map {
                map: name,
                reason: chain(&error),
            })
    }

    /// The counters.
    pub fn counters(&self) -> Result<Counters, Error> {
        PerCpuArray::try_from(self.map("COUNTERS")?)
            .map(Counters)
            .map_err(Error::counters)
    }

    /// The counters of interfaces.
    pub fn traffic(&self) -> Result<Traffic, Error> {
        PerCpuArray::try_from(self.map("TRAFFIC")?)
            .map(Traffic)
            .map_err(|error| Error::Map {
                map: "TRAFFIC",
                reason: chain(&error),
            })
    }

    /// Counters of block rules.
    pub fn dropped(&self) -> Result<BlockCounters, Error> {
        PerCpuArray::try_from(self.map("DROPPED")?)
            .map(BlockCounters::new)
            .map_err(Error::counters)
    }

    /// The ring buffer of samples and captured frames.
    pub fn sightings(&self) -> Result<Sightings, Error> {
        RingBuf::try_from(self.map("SIGHTINGS")?)
            .map(Sightings::new)
            .map_err(|error| Error::Map {
                map: "SIGHTINGS",
                reason: chain(&error),
            })
    }

    /// The sketches of the prefixes that ask most.
    pub fn sketches(&self) -> Result<Sketches, Error> {
        Sketches::new(self.map("SKETCHES")?)
    }

    /// The heartbeat.
    pub fn heartbeat(&self, stale_after: Duration) -> Result<Heartbeat, Error> {
        self.mapped("HEARTBEAT", |map| Heartbeat::new(map, stale_after))
    }

    /// Secrets of cookies.
    pub fn cookies(&self) -> Result<Cookies, Error> {
        self.mapped("COOKIES", Cookies::new)
    }

    /// The listen addresses.
    pub fn listening(&self) -> Result<Listening, Error> {
        self.mapped("LISTEN", Listening::new)
    }

    /// Maps an array.
    fn mapped<T>(
        &self,
        name: &'static str,
        new: impl FnOnce(BorrowedFd<'_>) -> io::Result<T>,
    ) -> Result<T, Error> {
        let mut maps = self.maps();
        let (_, map) = maps
            .find(|(other, _)| *other == name)
            .ok_or_else(|| Error::Object(format!("no map {name}")))?;
        new(map).map_err(|error| failed(name, &error))
    }
}

fn failed(map: &'static str, error: &io::Error) -> Error {
    Error::Map {
        map,
        reason: error.to_string(),
    }
}

/// The map that is pinned at a path, if it is like another one; else why it is not taken.
fn adopt(path: &std::path::Path, wanted: &MapData) -> Result<OwnedFd, String> {
    let found = sys::obj_get(path).map_err(|error| error.to_string())?;
    let copy = found.try_clone().map_err(|error| error.to_string())?;
    let info = MapData::from_fd(copy)
        .and_then(|map| map.info())
        .map_err(|_| "it is no map".to_owned())?;
    let wanted = wanted.info().map_err(|error| chain(&error))?;
    match difference(&info, &wanted) {
        None => Ok(found),
        Some(difference) => Err(difference),
    }
}

/// A map of a loaded object.
fn data<'a>(ebpf: &'a Ebpf, name: &str) -> Result<&'a MapData, Error> {
    match ebpf.map(name) {
        Some(Map::Array(data) | Map::PerCpuArray(data) | Map::RingBuf(data)) => Ok(data),
        Some(_) => Err(Error::Object(format!(
            "its map {name} is of an unknown type"
        ))),
        None => Err(Error::Object(format!("it has no map {name}"))),
    }
}

/// Difference of a found map from the wanted one.
fn difference(found: &MapInfo, wanted: &MapInfo) -> Option<String> {
    let kind = |info: &MapInfo| {
        info.map_type()
            .map_or_else(|_| "unknown".to_owned(), |kind| format!("{kind:?}"))
    };
    let fields = [
        ("type", kind(found), kind(wanted)),
        (
            "key size",
            found.key_size().to_string(),
            wanted.key_size().to_string(),
        ),
        (
            "value size",
            found.value_size().to_string(),
            wanted.value_size().to_string(),
        ),
        (
            "size",
            found.max_entries().to_string(),
            wanted.max_entries().to_string(),
        ),
        (
            "flags",
            found.map_flags().to_string(),
            wanted.map_flags().to_string(),
        ),
    ];
    fields
        .into_iter()
        .find(|(_, found, wanted)| found != wanted)
        .map(|(field, found, wanted)| format!("its {field} is {found}, not {wanted}"))
}

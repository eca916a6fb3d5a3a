//! What outlives a program instance, and a daemon: the pinned maps.
//!
//! ```text
//! <kernel.pin>/v<layout version>/COUNTERS HEARTBEAT LISTEN COOKIES...   maps
//!                               /links/<interface>           links
//!                               /rxvlan/<interface>          a folder: rxvlan was on
//! ```
//!
//! A pin is found by its name alone, so what is there is compared with what the program wants
//! before it is trusted.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use aya::maps::{Map, MapData, MapInfo, PerCpuArray, RingBuf};
use aya::{Ebpf, EbpfLoader};
use geodns_common::abi;
use geodns_common::verdict::COUNTERS;
use nix::fcntl::{Flock, FlockArg};

use super::cookies::Cookies;
use super::heartbeat::Heartbeat;
use super::listen::Listening;
use super::rules::Dropped;
use super::watch::{Sightings, Sketches};
use super::{Error, bpffs, chain, link, sys};

/// The maps that every instance shares.
pub const MAPS: [&str; 7] = [
    "COUNTERS",
    "HEARTBEAT",
    "LISTEN",
    "COOKIES",
    "DROPPED",
    "SIGHTINGS",
    "SKETCHES",
];

/// The folder of this layout's pins.
pub fn folder(pin: &Path) -> PathBuf {
    pin.join(format!("v{}", abi::VERSION))
}

/// The shared maps, open. Nobody else uses the folder as long as this lives.
#[derive(Debug)]
pub struct Shared {
    folder: PathBuf,
    _lock: Flock<File>,
}

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

impl Shared {
    /// Takes over the pins of this layout, or makes them.
    pub fn open(pin: &Path, object: &[u8]) -> Result<Self, Error> {
        let folder = folder(pin);
        bpffs::create_dir(&folder)?;
        let lock = lock(&folder)?;
        let shared = Self {
            folder,
            _lock: lock,
        };
        if let Err(error) = shared.adopt_or_pin_all(object) {
            shared.remove_unused();
            return Err(error);
        }
        Ok(shared)
    }

    fn adopt_or_pin_all(&self, object: &[u8]) -> Result<(), Error> {
        // The object itself says what the maps must be like.
        let mut fresh = sys::undisturbed(|| EbpfLoader::new().load(object)).map_err(Error::load)?;
        for name in MAPS {
            self.adopt_or_pin(name, &mut fresh)?;
        }
        Ok(())
    }

    /// After a failed start: nothing half-made stays; what another daemon has left attached stays
    /// for the next start, and all that it needs.
    pub fn remove_unused(&self) {
        if link::pinned(&self.folder).is_ok_and(|links| links.is_empty()) {
            let _ = self.remove();
        }
    }

    /// The folder of this layout's pins.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Where a map is pinned.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    fn adopt_or_pin(&self, name: &str, fresh: &mut Ebpf) -> Result<(), Error> {
        let path = self.path(name);
        let map = fresh
            .take_map(name)
            .ok_or_else(|| Error::Object(format!("it has no map {name}")))?;
        let wanted = data(&map)
            .ok_or_else(|| Error::Object(format!("its map {name} is of an unknown type")))?
            .info()
            .map_err(|error| Error::Object(format!("map {name}: {error}")))?;
        let difference = match MapInfo::from_pin(&path) {
            Ok(found) => difference(&found, &wanted),
            Err(_) if !path.exists() => {
                return map.pin(&path).map_err(|error| Error::Pin {
                    what: "pin a map at",
                    path,
                    source: io::Error::other(error),
                });
            }
            Err(_) => Some("it is no map".to_owned()),
        };
        let Some(difference) = difference else {
            return Ok(());
        };
        let attached = link::pinned(&self.folder)?
            .into_iter()
            .find(|link| link.ifindex.is_some());
        if let Some(link) = attached {
            return Err(Error::Mismatch {
                path,
                difference,
                interface: link.name,
                links: link::folder(&self.folder),
            });
        }
        tracing::warn!(
            "{}: {difference}; nothing is attached that uses it, so it is made anew",
            path.display()
        );
        let replace = || {
            bpffs::remove(&path)?;
            map.pin(&path).map_err(io::Error::other)
        };
        replace().map_err(|source| Error::Pin {
            what: "replace the map at",
            path: path.clone(),
            source,
        })
    }

    fn map(&self, name: &str) -> Result<Map, Error> {
        let path = self.path(name);
        MapData::from_pin(&path)
            .and_then(Map::from_map_data)
            .map_err(|error| Error::Pin {
                what: "open the map at",
                path,
                source: io::Error::other(error),
            })
    }

    /// The counters.
    pub fn counters(&self) -> Result<Counters, Error> {
        PerCpuArray::try_from(self.map("COUNTERS")?)
            .map(Counters)
            .map_err(Error::counters)
    }

    /// What rules dropped.
    pub fn dropped(&self) -> Result<Dropped, Error> {
        PerCpuArray::try_from(self.map("DROPPED")?)
            .map(Dropped::new)
            .map_err(Error::counters)
    }

    /// What the program tells.
    pub fn sightings(&self) -> Result<Sightings, Error> {
        RingBuf::try_from(self.map("SIGHTINGS")?)
            .map(Sightings::new)
            .map_err(|error| Error::Map {
                map: "SIGHTINGS",
                reason: chain(&error),
            })
    }

    /// Who asks most.
    pub fn sketches(&self) -> Result<Sketches, Error> {
        Sketches::new(self.map("SKETCHES")?)
    }

    /// The heartbeat.
    pub fn heartbeat(&self, stale_after: Duration) -> Result<Heartbeat, Error> {
        self.mapped("HEARTBEAT", |map| Heartbeat::new(map, stale_after))
    }

    /// What cookies are made with.
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
        name: &str,
        new: impl FnOnce(BorrowedFd<'_>) -> io::Result<T>,
    ) -> Result<T, Error> {
        let map = self.map(name)?;
        let map = data(&map).ok_or_else(|| Error::Object(format!("{name} is no array")))?;
        new(map.fd().as_fd()).map_err(|source| Error::Pin {
            what: "map",
            path: self.path(name),
            source,
        })
    }

    /// Removes every pin of this layout, and the folders that are empty then.
    pub fn remove(&self) -> Result<(), Error> {
        for name in MAPS {
            let path = self.path(name);
            bpffs::remove(&path).map_err(|source| Error::Pin {
                what: "remove",
                path,
                source,
            })?;
        }
        for folder in [
            link::folder(&self.folder).as_path(),
            link::rxvlan_folder(&self.folder).as_path(),
            &self.folder,
        ]
        .into_iter()
        .chain(self.folder.parent())
        {
            match fs::remove_dir(folder) {
                Ok(()) => {}
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::NotFound | io::ErrorKind::DirectoryNotEmpty
                    ) => {}
                // bpffs itself may be the folder above.
                Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {}
                Err(source) => {
                    return Err(Error::Pin {
                        what: "remove",
                        path: folder.to_path_buf(),
                        source,
                    });
                }
            }
        }
        Ok(())
    }
}

fn lock(folder: &Path) -> Result<Flock<File>, Error> {
    let open = File::open(folder).map_err(|source| Error::Pin {
        what: "open",
        path: folder.to_path_buf(),
        source,
    })?;
    Flock::lock(open, FlockArg::LockExclusiveNonblock).map_err(|(_, error)| match error {
        nix::Error::EWOULDBLOCK => Error::InUse {
            path: folder.to_path_buf(),
        },
        error => Error::Pin {
            what: "lock",
            path: folder.to_path_buf(),
            source: error.into(),
        },
    })
}

fn data(map: &Map) -> Option<&MapData> {
    match map {
        Map::Array(data) | Map::PerCpuArray(data) | Map::RingBuf(data) => Some(data),
        _ => None,
    }
}

/// What of a found map is not as it should be.
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

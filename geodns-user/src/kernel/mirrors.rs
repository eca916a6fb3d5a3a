//! Answers by mirror, as the program counts them: the map MIRRORS, of which each instance has its own.
//!
//! A map names the mirror of each counter, and has what the instances before it counted. So the counts go on over
//! another plan. The map of the instance in force is pinned: they go on over another daemon, too.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use aya::maps::MapData;
use aya::util::nr_cpus;
use geodns_common::layout::{MIRROR_PAGE, MIRROR_PARTS, MirrorPage};
use hashbrown::HashMap;

use super::mmap::Mapping;
use super::sys;

/// The map's name, and that of its pin.
pub const MIRRORS: &str = "MIRRORS";

/// Counters of an instance, mapped.
#[derive(Debug)]
pub struct MirrorCounts {
    map: OwnedFd,
    mapping: Mapping,
    /// Pages that all mirrors take.
    pages: u32,
    cpus: u32,
}

impl MirrorCounts {
    /// Maps them.
    pub(super) fn new(map: BorrowedFd<'_>, entries: u32) -> io::Result<Self> {
        let cpus = nr_cpus().map_err(|(_, error)| error)? as u32;
        Ok(Self {
            map: map.try_clone_to_owned()?,
            mapping: Mapping::new(map, size_of::<MirrorPage>(), entries)?,
            pages: entries / (MIRROR_PARTS + cpus),
            cpus,
        })
    }

    /// Those that a daemon before us has pinned at a path, if they are there.
    pub(super) fn open(path: &Path) -> Option<Self> {
        let map = sys::obj_get(path).ok()?;
        let info = MapData::from_fd(map.try_clone().ok()?).ok()?.info().ok()?;
        let is_alike = info.value_size() as usize == size_of::<MirrorPage>();
        let entries = is_alike.then_some(info.max_entries())?;
        Self::new(map.as_fd(), entries).ok()
    }

    /// Says whose the counters are: an id for each mirror, none of which is 0.
    pub(super) fn name(&self, ids: &[u64]) {
        for (counter, &id) in (0..self.len()).zip(ids) {
            self.store(0, counter, id);
        }
    }

    /// The answers so far, by the mirror's id.
    pub fn by_id(&self) -> HashMap<u64, u64> {
        let counters = 0..self.len();
        let named = counters.map(|counter| (self.load(0, counter), counter));
        named
            .take_while(|&(id, _)| id != 0)
            .map(|(id, counter)| (id, self.answers(counter)))
            .collect()
    }

    /// Adds what an earlier instance counted, and those before it. Mirrors that this one does not have are forgotten.
    pub(super) fn carry(&self, earlier: &Self) {
        let earlier = earlier.by_id();
        for counter in 0..self.len() {
            if let Some(answers) = earlier.get(&self.load(0, counter)) {
                self.store(1, counter, *answers);
            }
        }
    }

    /// The map.
    pub(super) fn map(&self) -> BorrowedFd<'_> {
        self.map.as_fd()
    }

    /// Answers in which a mirror was first, of this instance and of those before it.
    fn answers(&self, counter: u32) -> u64 {
        (1..MIRROR_PARTS + self.cpus)
            .map(|part| self.load(part, counter))
            .fold(0, u64::wrapping_add)
    }

    /// Number of counters.
    fn len(&self) -> u32 {
        self.pages * MIRROR_PAGE
    }

    fn load(&self, part: u32, counter: u32) -> u64 {
        let (page, offset) = self.place(part, counter);
        self.mapping.load_u64(page, offset)
    }

    fn store(&self, part: u32, counter: u32, value: u64) {
        let (page, offset) = self.place(part, counter);
        self.mapping.store_u64(page, offset, value);
    }

    /// Page and offset in it, in octets, of a part of a counter: its id, what was carried, or what a CPU counts.
    fn place(&self, part: u32, counter: u32) -> (u32, usize) {
        let page = part * self.pages + counter / MIRROR_PAGE;
        (page, 8 * (counter % MIRROR_PAGE) as usize)
    }
}

//! One loaded program, with tables of its own: a plan in the kernel.

use std::io;
use std::mem::offset_of;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::{Map, MapData};
use aya::programs::Xdp;
use aya::{Ebpf, EbpfLoader};
use geodns_common::tables::Tables;
use geodns_common::{abi, layout, limit};
use tokio::task::JoinHandle;

use super::block::BlockMaps;
use super::mirrors::{MIRRORS, MirrorCounts};
use super::mmap::{Mapping, Value, View};
use super::shared::SharedMaps;
use super::stub::{Build, Next, Stub};
use super::watch::{Watch, Watching};
use super::{Error, memory, packet_log, sys};
use crate::block::Blocks;
use crate::fault;
use crate::plan::{Capacity, Store};
use crate::publish::Backend;
use crate::supervise::Never;

// SAFETY: 32 bytes of u64, as abi asserts: no padding.
unsafe impl Value for abi::Name {}
// SAFETY: a row, two u16 and a u32, 30 u64: 256 bytes, as abi asserts.
unsafe impl Value for abi::Zone {}
// SAFETY: nine u64, two u32, two u16, a u32 and 64 u64: 600 bytes, as abi asserts.
unsafe impl Value for abi::Pool {}
// SAFETY: Pod.
unsafe impl Value for abi::Answer {}
// SAFETY: an array of u32.
unsafe impl Value for abi::Page {}
// SAFETY: an array of u32.
unsafe impl Value for abi::Block {}
// SAFETY: an integer.
unsafe impl Value for u64 {}
// SAFETY: an array of them.
unsafe impl<const N: usize> Value for [u64; N] {}
// SAFETY: an array of rows, which are u64.
unsafe impl Value for limit::Page {}

/// A program and its tables. The program is loaded and attached nowhere.
#[derive(Debug)]
pub struct Instance {
    ebpf: Ebpf,
    settings: abi::Settings,
    names: Mapping,
    zones: Mapping,
    shelves: Mapping,
    answers: Mapping,
    pools: Mapping,
    regions: Mapping,
    slots: Mapping,
    roots: Mapping,
    blocks: Mapping,
    /// `None`: nothing is limited.
    buckets: Option<Arc<View<limit::Page>>>,
    /// `None`: answers are not counted by mirror.
    mirrors: Option<Arc<MirrorCounts>>,
    block_rules: BlockMaps,
    watch: Watch,
    verified_instructions: u32,
    next: Option<Arc<Next>>,
    has_frags: bool,
}

impl Instance {
    /// Loads the program for a plan and fills its tables. Packets that are passed go to the next program, by way of the
    /// stub's array.
    pub fn load(
        object: &[u8],
        tables: &impl Tables,
        capacity: Capacity,
        log_every: u32,
        shared: &SharedMaps,
        next: Option<(&Stub, Arc<Next>)>,
    ) -> Result<Self, Error> {
        let settings = abi::Settings {
            log_every,
            has_next: next.is_some().into(),
            tick: sys::tick(),
            ..*tables.settings()
        };
        let mut loader = EbpfLoader::new();
        loader.override_global("SETTINGS", bytemuck::bytes_of(&settings), true);
        for map in memory::tables(&capacity, &settings, tables.exempt().len()) {
            loader.map_max_entries(map.name, map.entries);
        }
        loader.map_max_entries("DENIED", layout::BLOCK_COUNTERS);
        // In the place of these come the shared ones.
        for name in layout::MAPS {
            loader.map_max_entries(name, 1);
        }
        let mut ebpf = sys::undisturbed(|| loader.load(object)).map_err(Error::load)?;
        shared.put_into(&mut ebpf)?;
        if let Some((stub, _)) = &next {
            stub.put_into(&ebpf)?;
        }

        let map = |name: &str, value_size: usize| -> Result<Mapping, Error> {
            let (fd, entries) = array(&ebpf, name)?;
            Mapping::new(fd, value_size, entries)
                .map_err(|error| Error::Object(format!("map {name}: {error}")))
        };
        let mut names = map("NAMES", size_of::<abi::Name>())?;
        let mut zones = map("ZONES", size_of::<abi::Zone>())?;
        let mut answers = map("ANSWERS", size_of::<abi::Answer>())?;
        let mut shelves = map("SHELVES", size_of::<abi::Shelf>())?;
        let mut pools = map("POOLS", size_of::<abi::Pool>())?;
        let mut regions = map("REGIONS", size_of::<u64>())?;
        let mut slots = map("SLOTS", size_of::<u64>())?;
        let mut roots = map("ROOTS", size_of::<abi::Page>())?;
        let mut blocks = map("BLOCKS", size_of::<abi::Block>())?;
        fill(&mut names, |index| tables.name(index));
        fill(&mut zones, |index| tables.zone(index));
        fill(&mut answers, |index| tables.answer(index));
        fill(&mut shelves, |index| tables.shelf(index));
        fill(&mut pools, |index| tables.pool(index));
        fill(&mut roots, |index| tables.root(index));
        fill(&mut blocks, |index| tables.block(index));
        fill_words(&mut regions, |index| tables.region(index));
        fill_words(&mut slots, |index| tables.slot(index));

        let buckets = match settings.limit.rate.interval != 0 {
            true => {
                let (fd, entries) = array(&ebpf, "CELLS")?;
                let view = View::of_rows(fd, entries)
                    .map_err(|error| Error::Object(format!("map CELLS: {error}")))?;
                Some(Arc::new(view))
            }
            false => None,
        };
        let mirrors = match settings.mirror_pages != 0 {
            true => {
                let (fd, entries) = array(&ebpf, MIRRORS)?;
                let counts = MirrorCounts::new(fd, entries)
                    .map_err(|error| Error::Object(format!("map {MIRRORS}: {error}")))?;
                counts.name(tables.mirror_ids());
                Some(Arc::new(counts))
            }
            false => None,
        };
        exempt(&mut ebpf, tables.exempt())?;
        let block_rules = BlockMaps::new(array(&ebpf, "RULES")?.0)
            .map_err(|error| Error::Object(format!("map RULES: {error}")))?;
        let watch = Watch::new(array(&ebpf, "WATCH")?.0)
            .map_err(|error| Error::Object(format!("map WATCH: {error}")))?;

        let program = program(&mut ebpf, Build::Plain)?;
        sys::undisturbed(|| program.load()).map_err(Error::refused)?;
        let verified_instructions = program
            .info()
            .ok()
            .and_then(|info| info.verified_instruction_count())
            .unwrap_or(0);
        Ok(Self {
            ebpf,
            settings,
            names,
            zones,
            shelves,
            answers,
            pools,
            regions,
            slots,
            roots,
            blocks,
            buckets,
            mirrors,
            block_rules,
            watch,
            verified_instructions,
            next: next.map(|(_, next)| next),
            has_frags: false,
        })
    }

    /// Loads the build with the frags mark too, over the same tables.
    pub fn load_frags(&mut self, stub: &Stub) -> Result<(), Error> {
        if self.has_frags {
            return Ok(());
        }
        if self.next.is_some() {
            stub.put_into(&self.ebpf)?;
        }
        let program = self.program(Build::Frags)?;
        sys::undisturbed(|| program.load()).map_err(Error::refused)?;
        self.has_frags = true;
        Ok(())
    }

    /// Whether the build with the frags mark is loaded.
    pub fn has_frags(&self) -> bool {
        self.has_frags
    }

    /// The program that gets the packets that are passed.
    pub(super) fn next(&self) -> Option<&Arc<Next>> {
        self.next.as_ref()
    }

    /// Descriptor of a build of the program.
    pub fn program_fd(&mut self, build: Build) -> Result<BorrowedFd<'_>, Error> {
        let program = self.program(build)?;
        Ok(program.fd().map_err(Error::refused)?.as_fd())
    }

    /// A build of the program.
    pub fn program(&mut self, build: Build) -> Result<&mut Xdp, Error> {
        program(&mut self.ebpf, build)
    }

    /// Drops what these rules say, and nothing else.
    pub fn set_blocks(&mut self, blocks: &Blocks) -> Result<(), Error> {
        fault::point("kernel: rules").map_err(|error| Error::Object(error.to_string()))?;
        self.block_rules
            .set(&mut self.ebpf, &self.settings.hash_key, blocks)
    }

    /// Tells this, in place of what was told before.
    pub fn set_watching(&self, watching: &Watching) {
        self.watch.set(&self.settings.hash_key, watching);
    }

    /// Buckets of tokens, from which the slow path takes too. `None`: nothing is limited.
    pub fn buckets(&self) -> Option<Arc<View<limit::Page>>> {
        self.buckets.clone()
    }

    /// Answers by mirror. `None`: they are not counted.
    pub fn mirrors(&self) -> Option<&Arc<MirrorCounts>> {
        self.mirrors.as_ref()
    }

    /// Id in the kernel of a build of the program.
    pub fn program_id(&mut self, build: Build) -> Result<u32, Error> {
        Ok(self.program(build)?.info().map_err(Error::refused)?.id())
    }

    /// Instructions that the verifier walked.
    pub fn verified_instructions(&self) -> u32 {
        self.verified_instructions
    }

    /// Bytes of kernel memory that its maps take, the shared ones among them.
    pub fn memory(&self) -> u64 {
        self.memory_by_map().map(|(_, bytes)| bytes).sum()
    }

    /// The same, map by map.
    pub fn memory_by_map(&self) -> impl Iterator<Item = (&str, u64)> {
        self.ebpf.maps().filter_map(|(name, map)| {
            let (Map::Array(data)
            | Map::PerCpuArray(data)
            | Map::RingBuf(data)
            | Map::LpmTrie(data)) = map
            else {
                return None;
            };
            let bytes = sys::fdinfo(data.fd().as_fd(), "memlock").ok().flatten();
            Some((name, bytes.unwrap_or(0)))
        })
    }

    /// The program's read-only global, frozen since it was loaded.
    pub fn settings(&self) -> &abi::Settings {
        &self.settings
    }

    /// How often the program answered for the name in a slot since this was last asked, up to 255: only of
    /// zones that are not in the table whole. 0 outside the table.
    pub fn take_asked(&self, slot: u32) -> u8 {
        let offset = offset_of!(abi::Name, exact) + abi::Name::ASKED_OCTET;
        match self.names.holds(slot, offset, 1) {
            true => self.names.take_u8(slot, offset),
            false => 0,
        }
    }

    /// Descriptor and size of a table.
    pub(super) fn table(&self, name: &str) -> Result<(BorrowedFd<'_>, u32), Error> {
        array(&self.ebpf, name)
    }

    /// Passes on to our log what the program logs of packets, in a task of its own.
    pub(super) fn log_packets(&mut self) -> io::Result<JoinHandle<Never>> {
        packet_log::pass_on(&mut self.ebpf)
    }

    /// Whether a store is inside the tables.
    fn holds(&self, store: &Store) -> bool {
        let (page, block) = (size_of::<abi::Page>(), size_of::<abi::Block>());
        match store {
            Store::Block { number, .. } => self.blocks.holds(*number, 0, block),
            Store::Root { index, .. } => self.roots.holds(*index, 0, page),
            Store::RootEntry { index, .. } => self.roots.holds(*index, 0, page),
            Store::Region { index, .. } => self.regions.holds(*index, 0, 8),
            Store::Slot { index, .. } => self.slots.holds(*index, 0, 8),
            Store::Answer { index, .. } => self.answers.holds(*index, 0, size_of::<abi::Answer>()),
            Store::Pool { pool, .. } => self.pools.holds(*pool, 0, size_of::<abi::Pool>()),
            Store::Set { place, words } => {
                let (page, offset) = on_shelf(*place);
                self.shelves.holds(page, offset, 8 * words.len())
            }
            Store::Name { slot, .. } => self.names.holds(*slot, 0, size_of::<abi::Name>()),
            Store::Soa { zone, .. } | Store::Zone { zone, .. } => {
                self.zones.holds(*zone, 0, size_of::<abi::Zone>())
            }
        }
    }
}

impl Backend for Instance {
    /// Writes of what nothing points to yet are plain copies; what links them in is one atomic
    /// word, stored with Release. So on any CPU that sees the word, the copies are there too.
    fn apply(&mut self, stores: &[Store]) -> io::Result<()> {
        if let Some(store) = stores.iter().find(|store| !self.holds(store)) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("outside the tables: {store:?}"),
            ));
        }
        let entry_size = size_of::<abi::Entry>();
        for store in stores {
            match store {
                Store::Block { number, entries } => self.blocks.write(*number, &**entries),
                Store::Root { index, entries } => self.roots.write(*index, &**entries),
                Store::RootEntry { index, at, entry } => {
                    self.roots
                        .store_u32(*index, usize::from(*at) * entry_size, entry.0);
                }
                Store::Region { index, order } => self.regions.store_u64(*index, 0, *order),
                Store::Slot { index, order } => self.slots.store_u64(*index, 0, *order),
                Store::Answer { index, answer } => self.answers.write(*index, &**answer),
                Store::Pool { pool, row, value } => {
                    self.pools.store_u64(*pool, row.offset(), *value);
                }
                Store::Set { place, words } => {
                    let (page, offset) = on_shelf(*place);
                    for (at, &word) in words.iter().enumerate() {
                        self.shelves.store_u64(page, offset + 8 * at, word);
                    }
                }
                Store::Name { slot, word, value } => {
                    self.names.store_u64(*slot, word.offset(), *value);
                }
                Store::Soa { zone, of } => {
                    // All but the row, which is the first word.
                    let words = of.bytes().chunks_exact(8).enumerate().skip(1);
                    for (at, word) in words {
                        let word = u64::from_ne_bytes(std::array::from_fn(|octet| word[octet]));
                        self.zones.store_u64(*zone, 8 * at, word);
                    }
                }
                Store::Zone { zone, value } => {
                    self.zones
                        .store_u64(*zone, offset_of!(abi::Zone, row), *value);
                }
            }
        }
        Ok(())
    }

    fn grace(&mut self) -> io::Result<()> {
        sys::grace()
    }
}

/// Page and offset in it, in octets, of a place on the shelves.
fn on_shelf(place: u32) -> (u32, usize) {
    let words = abi::SHELF_WORDS as u32;
    (place / words, 8 * (place % words) as usize)
}

fn fill<'a, T: Value + 'a>(to: &mut Mapping, from: impl Fn(u32) -> Option<&'a T>) {
    for index in 0..to.entries() {
        let Some(value) = from(index) else { break };
        to.write(index, value);
    }
}

fn fill_words(to: &mut Mapping, from: impl Fn(u32) -> Option<u64>) {
    for index in 0..to.entries() {
        let Some(word) = from(index) else { break };
        to.write(index, &word);
    }
}

/// A program of a loaded object.
pub(super) fn program(ebpf: &mut Ebpf, build: Build) -> Result<&mut Xdp, Error> {
    let name = build.program();
    ebpf.program_mut(name)
        .ok_or_else(|| Error::Object(format!("it has no program {name}")))?
        .try_into()
        .map_err(|_| Error::Object(format!("its program {name} is not for XDP")))
}

/// An array map's descriptor and size.
fn array<'a>(ebpf: &'a Ebpf, name: &str) -> Result<(BorrowedFd<'a>, u32), Error> {
    let Some(Map::Array(data)) = ebpf.map(name) else {
        return Err(Error::Object(format!("it has no array {name}")));
    };
    let info = data
        .info()
        .map_err(|error| Error::Object(format!("map {name}: {error}")))?;
    Ok((data.fd().as_fd(), info.max_entries()))
}

/// Puts the prefixes in that are never limited.
fn exempt(ebpf: &mut Ebpf, prefixes: &[([u32; 4], u32)]) -> Result<(), Error> {
    let map = ebpf
        .map_mut("EXEMPT")
        .ok_or_else(|| Error::Object("it has no map EXEMPT".to_owned()))?;
    let failed = |error| Error::Object(format!("map EXEMPT: {error}"));
    let mut trie: LpmTrie<&mut MapData, [u32; 4], u32> = LpmTrie::try_from(map).map_err(failed)?;
    for &(address, len) in prefixes {
        trie.insert(&Key::new(len, address), 0, 0).map_err(failed)?;
    }
    Ok(())
}

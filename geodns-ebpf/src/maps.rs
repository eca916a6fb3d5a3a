//! The maps, and the tables over them.
//!
//! The tables belong to one instance of the program: userspace fills them before it attaches and
//! edits them through their mapping. Counters, heartbeat and listen addresses are pinned and
//! shared by every instance.

use core::mem::MaybeUninit;

use aya_ebpf::macros::map;
use aya_ebpf::maps::lpm_trie::{Key, LpmTrie};
use aya_ebpf::maps::{Array, PerCpuArray, ProgramArray, RingBuf};
use geodns_common::abi::{Answer, Block, Name, Page, Pool, Row, Seen, Settings, Shelf, Zone};
use geodns_common::address;
use geodns_common::block::BlockTable;
use geodns_common::layout::{
    self, Cookies, Counters, Heartbeat, Listen, MirrorPage, SIGHTINGS_OCTETS, SKETCH_ROWS,
    Sighting, Sketch, TRAFFIC_SLOTS, Traffic,
};
use geodns_common::limit;
use geodns_common::opaque::opaque_ref;
use geodns_common::scratch::Scratch;
use geodns_common::tables::{self, Tables};
use geodns_common::verdict::{COUNTERS as COUNTERS_LEN, Tally};
use geodns_common::watch::Watch;
use geodns_common::wire;

/// `BPF_F_MMAPABLE`
const MMAPABLE: u32 = 1 << 10;
/// `BPF_F_NO_PREALLOC`, without which the kernel makes no trie.
const NO_PREALLOC: u32 = 1;

/// The plan's settings, in read-only memory that userspace fills before the program is loaded.
#[unsafe(no_mangle)]
pub static SETTINGS: Settings = Settings::new();

/// [`SETTINGS`], of which LLVM is not to know what it is: it would put the zeros in that stand there.
#[inline(always)]
pub fn settings() -> &'static Settings {
    opaque_ref(&SETTINGS)
}

// Sizes of the tables are the loader's to set.
#[map]
static NAMES: Array<Name> = Array::with_max_entries(1, MMAPABLE);
#[map]
static ZONES: Array<Zone> = Array::with_max_entries(1, MMAPABLE);
#[map]
static POOLS: Array<Pool> = Array::with_max_entries(1, MMAPABLE);
#[map]
static ANSWERS: Array<Answer> = Array::with_max_entries(1, MMAPABLE);
#[map]
static SHELVES: Array<Shelf> = Array::with_max_entries(1, MMAPABLE);
#[map]
static REGIONS: Array<u64> = Array::with_max_entries(1, MMAPABLE);
#[map]
static SLOTS: Array<u64> = Array::with_max_entries(1, MMAPABLE);
#[map]
static ROOTS: Array<Page> = Array::with_max_entries(1, MMAPABLE);
#[map]
static BLOCKS: Array<Block> = Array::with_max_entries(1, MMAPABLE);

/// Buckets of tokens, by prefix; the slow path takes from them too.
#[map]
static CELLS: Array<limit::Page> = Array::with_max_entries(1, MMAPABLE);
/// Prefixes that are never limited.
#[map]
static EXEMPT: LpmTrie<[u32; 4], u32> = LpmTrie::with_max_entries(1, NO_PREALLOC);

// Block rules. Their maps keep the names that older daemons pinned them under.
/// Block rules with a name or a type.
#[map(name = "RULES")]
pub static BLOCK_RULES: Array<BlockTable> = Array::with_max_entries(1, MMAPABLE);
/// Block rules that are a prefix alone: the number of the rule's counter.
#[map(name = "DENIED")]
pub static BLOCK_PREFIXES: LpmTrie<[u32; 4], u32> = LpmTrie::with_max_entries(1, NO_PREALLOC);
/// Packets that each block rule has dropped.
#[map(name = "DROPPED")]
pub static BLOCK_COUNTERS: PerCpuArray<u64> =
    PerCpuArray::with_max_entries(layout::BLOCK_COUNTERS, 0);

/// The packets that are to be reported.
#[map]
pub static WATCH: Array<Watch> = Array::with_max_entries(1, MMAPABLE);
/// The ring buffer of reports.
#[map]
pub static SIGHTINGS: RingBuf = RingBuf::with_byte_size(SIGHTINGS_OCTETS, 0);
/// The report of this packet.
#[map]
pub static SIGHTING: PerCpuArray<Sighting> = PerCpuArray::with_max_entries(1, 0);
/// Two sketches of the clients that ask most.
#[map]
pub static SKETCHES: PerCpuArray<Sketch> = PerCpuArray::with_max_entries(2 * SKETCH_ROWS, 0);

/// Packets passed to the slow path, by verdict: the time at which there may be as many again.
#[map]
pub static BUDGETS: PerCpuArray<[Row; COUNTERS_LEN / 2]> = PerCpuArray::with_max_entries(1, 0);

/// Clients answered lately.
#[map]
pub static SEEN: Array<Seen> = Array::with_max_entries(Seen::SLOTS, MMAPABLE);

/// Packets by verdict, and tallies.
#[map]
pub static COUNTERS: PerCpuArray<Counters> = PerCpuArray::with_max_entries(1, 0);
/// Packets by fate, by interface.
#[map]
pub static TRAFFIC: PerCpuArray<Traffic> = PerCpuArray::with_max_entries(TRAFFIC_SLOTS, 0);
/// Answers by mirror, on each CPU, if they are counted.
#[map]
pub static MIRRORS: Array<MirrorPage> = Array::with_max_entries(1, MMAPABLE);
/// How long this program goes on answering.
#[map]
pub static HEARTBEAT: Array<Heartbeat> = Array::with_max_entries(1, MMAPABLE);
/// Secrets of cookies.
#[map]
static COOKIES: Array<Cookies> = Array::with_max_entries(1, MMAPABLE);
/// The addresses answered on, by interface.
#[map]
pub static LISTEN: Array<Listen> = Array::with_max_entries(Listen::SLOTS, MMAPABLE);

/// The programs that the stub calls, by [`layout::Callee`].
#[map]
pub static PROGRAMS: ProgramArray = ProgramArray::with_max_entries(layout::CALLEES, 0);
/// The same of the stub with the frags mark.
#[map]
pub static FRAGS_PROGRAMS: ProgramArray = ProgramArray::with_max_entries(layout::CALLEES, 0);

#[map]
static SCRATCH: PerCpuArray<Scratch> = PerCpuArray::with_max_entries(1, 0);

/// This CPU's scratch.
#[inline(always)]
pub fn scratch() -> Option<&'static mut Scratch> {
    // SAFETY: each CPU has its own, the program does not nest on a CPU, and no two references
    // that the program holds at once are used in turns with each other.
    SCRATCH
        .get_ptr_mut(0)
        .map(|scratch| unsafe { &mut *scratch })
}

/// The tables, in maps.
#[derive(Clone, Copy)]
pub struct Maps;

impl Tables for Maps {
    #[inline(always)]
    fn settings(&self) -> &Settings {
        settings()
    }

    #[inline(always)]
    fn name(&self, slot: u32) -> Option<&Name> {
        NAMES.get(slot)
    }

    #[inline(always)]
    fn zone(&self, index: u32) -> Option<&Zone> {
        ZONES.get(index)
    }

    #[inline(always)]
    fn pool(&self, index: u32) -> Option<&Pool> {
        POOLS.get(index)
    }

    #[inline(always)]
    fn answer(&self, index: u32) -> Option<&Answer> {
        ANSWERS.get(index)
    }

    #[inline(always)]
    fn shelf(&self, index: u32) -> Option<&Shelf> {
        SHELVES.get(index)
    }

    #[inline(always)]
    fn region(&self, index: u32) -> Option<u64> {
        // SAFETY: an aligned u64, read once.
        REGIONS
            .get_ptr(index)
            .map(|region| unsafe { region.read_volatile() })
    }

    #[inline(always)]
    fn root(&self, index: u32) -> Option<&Page> {
        ROOTS.get(index)
    }

    #[inline(always)]
    fn block(&self, number: u32) -> Option<&Block> {
        BLOCKS.get(number)
    }

    #[inline(always)]
    fn slot(&self, index: u32) -> Option<u64> {
        // SAFETY: an aligned u64, read once.
        SLOTS
            .get_ptr(index)
            .map(|slot| unsafe { slot.read_volatile() })
    }

    #[inline(always)]
    fn random(&self) -> u32 {
        // SAFETY: the helper takes nothing.
        unsafe { aya_ebpf::helpers::bpf_get_prandom_u32() }
    }

    #[inline(always)]
    fn count_asked(&self, slot: u32) {
        if let Some(name) = NAMES.get(slot) {
            name.count_asked();
        }
    }

    #[inline(always)]
    fn cookies(&self) -> Option<&Cookies> {
        COOKIES.get(0)
    }

    #[inline(always)]
    fn now(&self, scratch: &Scratch) -> u32 {
        scratch.now
    }

    #[inline(always)]
    fn cells(&self, page: u32) -> Option<&limit::Page> {
        CELLS.get(page)
    }

    #[inline(always)]
    fn is_exempt(&self, address: [u64; 2], is_v6: bool) -> bool {
        find_prefix(&EXEMPT, address::trie_key(address, is_v6)).is_some()
    }

    #[inline(always)]
    fn tally(&self, tally: Tally) {
        if let Some(counters) = COUNTERS.get_ptr_mut(0) {
            let index = tally.index() as usize & (COUNTERS_LEN - 1);
            // SAFETY: the index is masked; this CPU's copy is not written by another.
            unsafe { (*counters)[index] += 1 };
        }
    }

    #[inline(always)]
    fn is_over_limit(&self, _scratch: &mut Scratch) -> bool {
        geodns_limit() != 0
    }

    #[inline(always)]
    fn hash_cookie(&self, _scratch: &mut Scratch, row: u64, is_first: bool) {
        geodns_cookie(row, is_first as u32);
    }

    #[inline(always)]
    fn has_upper(&self, _scratch: &mut Scratch) -> bool {
        geodns_has_upper() != 0
    }

    #[inline(always)]
    fn put_pointers(&self, _scratch: &mut Scratch, end: u32, listed: u32, pointers: u32) {
        geodns_put_pointers(end, listed, pointers);
    }

    #[inline(always)]
    fn hash(&self, _scratch: &mut Scratch, from: u32) {
        geodns_hash(from);
    }
}

/// The value of a trie for the longest prefix around an address.
#[inline(always)]
pub fn find_prefix(trie: &LpmTrie<[u32; 4], u32>, address: [u32; 4]) -> Option<u32> {
    let [a, b, c, d] = address;
    let mut key = MaybeUninit::<[u32; 5]>::uninit();
    for (at, word) in [128, a, b, c, d].into_iter().enumerate() {
        // LLVM would put two at once where none is aligned.
        // SAFETY: a place of the array.
        unsafe { key.as_mut_ptr().cast::<u32>().add(at).write_volatile(word) };
    }
    // SAFETY: a key is a length and 16 octets, all written, and aligned to no more.
    let key = unsafe { &*key.as_ptr().cast::<Key<[u32; 4]>>() };
    trie.get(key).copied()
}

/// [`tables::is_over_limit`] of this CPU's scratch. A function of its own, that the verifier checks once.
#[inline(never)]
#[unsafe(no_mangle)]
pub extern "C" fn geodns_limit() -> u32 {
    scratch().is_some_and(|scratch| tables::is_over_limit(scratch, &Maps)) as u32
}

/// [`tables::put_back`] of this CPU's scratch, apart from what answered packets pay for.
#[inline(never)]
#[unsafe(no_mangle)]
pub extern "C" fn geodns_put_back() -> u32 {
    if let Some(scratch) = scratch() {
        tables::put_back(scratch, &Maps);
    }
    0
}

/// [`Scratch::hash_cookie`] over this CPU's scratch. A function of its own, that the verifier checks once.
#[inline(never)]
#[unsafe(no_mangle)]
pub extern "C" fn geodns_cookie(row: u64, is_first: u32) -> u32 {
    let (Some(scratch), Some(cookies)) = (scratch(), COOKIES.get(0)) else {
        return 1;
    };
    scratch.hash_cookie(cookies.secret(row, is_first != 0));
    0
}

/// [`Scratch::check_sum`] of this CPU's scratch. A function of its own, that the verifier checks once.
#[inline(never)]
#[unsafe(no_mangle)]
pub extern "C" fn geodns_check_sum() -> u32 {
    scratch().is_some_and(|scratch| scratch.check_sum()) as u32
}

/// [`Scratch::has_upper`] of this CPU's scratch. A function of its own, that the verifier checks once.
#[inline(never)]
#[unsafe(no_mangle)]
pub extern "C" fn geodns_has_upper() -> u32 {
    scratch().is_some_and(|scratch| scratch.has_upper()) as u32
}

/// [`tables::put_pointers`] of this CPU's scratch. A function of its own, that the verifier checks once.
#[inline(never)]
#[unsafe(no_mangle)]
pub extern "C" fn geodns_put_pointers(end: u32, listed: u32, pointers: u32) -> u32 {
    if let Some(scratch) = scratch() {
        tables::put_pointers(scratch, &Maps, end, listed, pointers);
    }
    0
}

/// [`wire::hash`] over this CPU's scratch. A function of its own, that the verifier checks once.
#[inline(never)]
#[unsafe(no_mangle)]
pub extern "C" fn geodns_hash(from: u32) -> u32 {
    let Some(scratch) = scratch() else { return 1 };
    scratch.hash = wire::hash(&settings().hash_key, &scratch.name, from, scratch.name_len);
    0
}

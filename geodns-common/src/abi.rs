//! The layout of the tables: what userspace writes and the XDP program reads.
//!
//! Every type is `repr(C)`, made of integers and arrays with explicit padding, so that its bytes
//! are the map's value on both sides. What changes under running packets is one aligned `u64`
//! ([`Row`]) or one aligned `u32` ([`Entry`]), read once; everything else is written before
//! anything points to it and stays as it is until nothing does.
//!
//! All of this belongs to one instance of the program. Maps that instances share stand in [`layout`](crate::layout).
//!
//! # The tables
//!
//! | table | entry | layout |
//! | --- | --- | --- |
//! | names | [`Name`] | open-addressed, [`NAME_PROBES`] slots from the home of the hash; a slot with a [`Target`] for the name and one for its wildcard |
//! | shelves | [`Set`] | pages of 4 KiB; no set crosses the end of a page, nor of a cache line if it fits in one |
//! | zones | [`Zone`] | a row with the bits *complete* and *pass*, and the SOA of negative answers |
//! | pools | [`Pool`] | constants (mirrors with records, the order of last resort, the first answer and slot) and rows (below) |
//! | answers | [`Answer`] | the rendered records of one mirror and type, owned by a pointer to the question, with TTL 0; two for each, so that one can be written while the other is read |
//! | slots | [`Order`] | [`SLOTS`] for each group, each an order of its mirrors |
//! | regions | [`Order`] | up to eight members, packed in a `u64`; a member is a mirror or a group |
//! | roots, blocks | [`Entry`] | the atlases: a root for the first 16 bits of an address, then blocks of 16 entries (one cache line) for four bits more each: to /32 for IPv4, to /64 for IPv6 |
//!
//! The rows of a pool:
//!
//! | row | what it says |
//! | --- | --- |
//! | `atlas` | the prefix table |
//! | `ttl` | TTL of the records, and whether shares differ ([`Pool::SPLIT`]) |
//! | `answered_by` | for each family: the pool that answers in place of this one |
//! | `second` | for each family: mirrors whose second answer is in force |
//! | `in_service` | for each family and share of the clients: mirrors in service |

use core::cell::UnsafeCell;

use bytemuck::{Pod, Zeroable};

use crate::wire::{self, HASH_KEY_WORDS, HashKey};

/// Settings that stay the same for as long as a plan is in force: a read-only global of the program.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
pub struct Settings {
    /// Key of the hash over names; random for each plan.
    pub hash_key: HashKey,
    /// Number of this plan, counted up by the daemon.
    pub generation: u64,
    /// Slots in the name table less one; slots are a power of two.
    pub name_mask: u32,
    /// UDP port, host byte order.
    pub port: u16,
    /// 1 if any zone is complete, so that an absent name is worth a walk up to its closest encloser.
    pub walk: u16,
    /// Log one packet in this many through aya-log; 0 is never.
    pub log_every: u32,
    /// Octets of `nsid`; 0: who asks for it is passed.
    pub nsid_len: u32,
    /// The EDNS option NSID (RFC 5001) that goes back, code and length included, in memory order.
    pub nsid: [u64; NSID_WORDS],
    /// How much is answered to one prefix.
    pub limit: Limit,
    /// How much a CPU passes to the slow path for any one reason.
    pub budget: Rate,
    /// A tick of the kernel's clock, in nanoseconds, which whoever loads the program knows.
    pub tick: u64,
    /// The [`Stage`] after which a packet is given up, so that a bench can time those before; 0: none.
    pub stop: u32,
    /// 1 if packets that are passed go to another program first.
    pub has_next: u32,
    /// Pages of counters by mirror that each CPU has ([`MirrorPage`](crate::layout::MirrorPage)); 0: answers are not
    /// counted by mirror.
    pub mirror_pages: u32,
    /// Zero.
    pub _pad: u32,
}

/// The steps of the fast path, in their order.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Ethernet, IP and UDP headers are read, and it is for us.
    Headers = 1,
    /// It is copied to the scratch.
    Load,
    /// Header, question and OPT are read, and the limit of responses is kept.
    Question,
    /// The name is hashed and looked up.
    Name,
    /// The answer is rendered.
    Answer,
    /// The packet has room for it.
    Grow,
    /// It is written, with its headers and checksums.
    Turn,
}

impl Stage {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Headers,
        Self::Load,
        Self::Question,
        Self::Name,
        Self::Answer,
        Self::Grow,
        Self::Turn,
    ];
}

impl Settings {
    /// Whether a packet is given up after this stage. In the kernel both values are constants when the program is
    /// loaded, so the verifier removes the code of stages that do not stop.
    #[inline(always)]
    pub const fn stops_after(&self, stage: Stage) -> bool {
        self.stop == stage as u32
    }
}

/// How often something may be: see [`limit`](crate::limit). Times are in nanoseconds.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Rate {
    /// Time between two; 0: there is no limit.
    pub interval: u64,
    /// Time by which one may be ahead of that.
    pub burst: u64,
}

impl Rate {
    /// No limit.
    pub const NONE: Self = Self {
        interval: 0,
        burst: 0,
    };

    /// N a second, and M at once after a pause. 0: no limit.
    pub const fn new(a_second: u32, at_once: u32) -> Self {
        const SECOND: u64 = 1_000_000_000;
        if a_second == 0 {
            return Self::NONE;
        }
        let interval = SECOND / a_second as u64;
        Self {
            interval,
            // What is left in a bucket is enough for one.
            burst: interval * at_once.saturating_sub(1) as u64,
        }
    }
}

/// Response rate limiting.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Limit {
    /// How often a prefix is answered.
    pub rate: Rate,
    /// Key of the hash over prefixes.
    pub key: u64,
    /// One in N queries over the limit is answered, with TC or a cookie; 0: none is.
    pub slip: u32,
    /// 1: it is counted what would be over the limit, and nothing else happens.
    pub dry_run: u32,
    /// 1: there are prefixes that are exempt.
    pub has_exempt: u32,
    /// Octets of a response to who has shown no good cookie, at the most; 0: as many as the client takes.
    pub payload: u32,
}

/// Octets of an NSID, at the most: a truncated response with every option fits 512 octets.
pub const NSID_MAX: usize = 128;
/// 8-byte words of an option NSID.
pub const NSID_WORDS: usize = (4 + NSID_MAX).div_ceil(8);

impl Settings {
    /// All zeros.
    pub const fn new() -> Self {
        Self {
            hash_key: HashKey([0; HASH_KEY_WORDS]),
            generation: 0,
            name_mask: 0,
            port: 0,
            walk: 0,
            log_every: 0,
            nsid_len: 0,
            nsid: [0; NSID_WORDS],
            limit: Limit {
                rate: Rate::NONE,
                key: 0,
                slip: 0,
                dry_run: 0,
                has_exempt: 0,
                payload: 0,
            },
            budget: Rate::NONE,
            tick: 0,
            stop: 0,
            has_next: 0,
            mirror_pages: 0,
            _pad: 0,
        }
    }

    /// Puts an NSID in, its first [`NSID_MAX`] octets.
    pub fn set_nsid(&mut self, id: &[u8]) {
        let id = &id[..id.len().min(NSID_MAX)];
        let octets: &mut [u8] = bytemuck::bytes_of_mut(&mut self.nsid);
        let (head, data) = octets.split_at_mut(4);
        head[..2].copy_from_slice(&wire::OPTION_NSID.to_be_bytes());
        head[2..].copy_from_slice(&(id.len() as u16).to_be_bytes());
        data[..id.len()].copy_from_slice(id);
        self.nsid_len = 4 + id.len() as u32;
    }
}

/// One `u64` that may change while packets run: read whole, once.
///
/// Written by userspace with one aligned 8-byte store through the map's mapping.
#[repr(transparent)]
pub struct Row(UnsafeCell<u64>);

// SAFETY: all access is by aligned, volatile, whole-word loads and stores; a torn value cannot be seen.
unsafe impl Sync for Row {}
// SAFETY: a plain integer.
unsafe impl Zeroable for Row {}

impl Row {
    /// A row with this value.
    pub const fn new(value: u64) -> Self {
        Self(UnsafeCell::new(value))
    }

    /// Reads the row once.
    #[inline(always)]
    pub fn load(&self) -> u64 {
        // SAFETY: the cell is a valid aligned u64 for the life of `&self`.
        unsafe { core::ptr::read_volatile(self.0.get()) }
    }

    /// Writes the row whole. What another CPU writes at once may be lost, or this.
    #[inline(always)]
    pub fn store(&self, value: u64) {
        // SAFETY: the cell is a valid aligned u64, ours to write, for the life of `&self`.
        unsafe { core::ptr::write_volatile(self.0.get(), value) }
    }

    /// Writes the row whole, from its only owner.
    pub fn set(&mut self, value: u64) {
        *self.0.get_mut() = value;
    }
}

impl Clone for Row {
    fn clone(&self) -> Self {
        Self::new(self.load())
    }
}

impl Default for Row {
    fn default() -> Self {
        Self::new(0)
    }
}

impl core::fmt::Debug for Row {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Row({:#x})", self.load())
    }
}

/// Slots that a name is looked for in, from `hash[0] & name_mask` on, wrapping.
pub const NAME_PROBES: u32 = 16;

/// One slot of the open-addressed name table. `hash` of zeros is an empty slot, at which a lookup
/// ends; [`Name::DELETED`] is in use and no name.
///
/// The table holds every owner name, empty non-terminal and zone cut of a complete zone, so that the closest
/// encloser of a name (RFC 4592 section 3.3.1) can be found here. It holds the apex of every zone.
#[repr(C)]
#[derive(Clone, Debug, Default)]
pub struct Name {
    /// [`NameHash`](crate::wire::NameHash) of the lowercased wire name, length bytes and root label
    /// included. The first word of a name's hash is never 0.
    pub hash: [u64; 2],
    /// [`Target`] of the name itself, and [`Name::ASKED`].
    pub exact: Row,
    /// [`Target`] of its wildcard child `*.name`.
    pub wildcard: Row,
}

impl Name {
    /// Hash of a slot whose name is gone: names that were placed past it are still found.
    pub const DELETED: [u64; 2] = [0, 1];

    /// Bits of `exact` in which the program counts, up to 255, how often it answered for a name of a zone
    /// that is not complete: what is asked little gives its place to what is asked more. Userspace sets
    /// them to 0 whenever it has read them.
    pub const ASKED: u64 = 0xff << 8;
    /// Octet of `exact` that they are.
    pub const ASKED_OCTET: usize = if cfg!(target_endian = "big") { 6 } else { 1 };

    /// Counts an answer. The other octets are userspace's to store, so this one is written alone: a
    /// store of the row that comes between takes the count away, and nothing else. Nor is a count
    /// exact that two CPUs make at once.
    #[inline(always)]
    pub fn count_asked(&self) {
        // SAFETY: an octet of the row, which is memory of ours to write, being a cell.
        unsafe {
            let asked = self.exact.0.get().cast::<u8>().add(Self::ASKED_OCTET);
            let count = asked.read_volatile();
            // What is asked often is in many CPUs' caches: after this, it may stay there.
            if count != u8::MAX {
                asked.write_volatile(count + 1);
            }
        }
    }
}

/// The content of a name, packed in a row: kind in bits 0..8, zone in 16..32, pool or set in 32..64. Bits
/// 8..16 are not of it ([`Name::ASKED`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// Nothing.
    None,
    /// A pool answers A and AAAA; there are no other records.
    Steered {
        /// Index in the table of zones.
        zone: u16,
        /// Index in the table of pools.
        pool: u32,
    },
    /// The name exists, or may exist; the slow path answers, also for absent names below it.
    Pass,
    /// The records of a zone file; none at an empty non-terminal.
    Static {
        /// Index in the table of zones.
        zone: u16,
        /// Where its [`Set`] is on the shelves, in words.
        set: u32,
    },
}

impl Target {
    /// Kind of [`Target::Steered`].
    pub(crate) const STEERED: u64 = 1;
    /// Kind of [`Target::Pass`].
    const PASS: u64 = 2;
    /// Kind of [`Target::Static`].
    pub(crate) const STATIC: u64 = 3;

    /// Packs into a row's value.
    pub const fn pack(self) -> u64 {
        match self {
            Self::None => 0,
            Self::Steered { zone, pool } => {
                Self::STEERED | (zone as u64) << 16 | (pool as u64) << 32
            }
            Self::Pass => Self::PASS,
            Self::Static { zone, set } => Self::STATIC | (zone as u64) << 16 | (set as u64) << 32,
        }
    }

    /// Unpacks a row's value; an unknown kind passes.
    #[inline(always)]
    pub const fn unpack(value: u64) -> Self {
        match value & 0xff {
            0 => Self::None,
            Self::STEERED => Self::Steered {
                zone: (value >> 16) as u16,
                pool: (value >> 32) as u32,
            },
            Self::STATIC => Self::Static {
                zone: (value >> 16) as u16,
                set: (value >> 32) as u32,
            },
            _ => Self::Pass,
        }
    }
}

/// 8-byte words of a page of the shelves, a power of two.
pub const SHELF_WORDS: usize = 512;

/// A page of the shelves: records of zone files, as [`Set`]s. No set crosses the end of a page.
pub type Shelf = [u64; SHELF_WORDS];

/// First word of a set: what a zone file has at a name.
///
/// One [`SetType`] for each listed type follows, then their records. Bits 0..8 are the number of
/// types; [`Set::MORE`] and the others follow; bits 32..64 are the pool, with [`Set::POOL`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Set(pub u64);

impl Set {
    /// Types that a set lists, at the most.
    pub const MAX_TYPES: u32 = 15;
    /// No records, as at an empty non-terminal: every type is NODATA.
    pub const EMPTY: Self = Self(0);
    /// The name has types that are not listed: a type that is not listed passes.
    pub const MORE: u64 = 1 << 8;
    /// The first type is a CNAME, which answers for every type.
    pub const CNAME: u64 = 1 << 9;
    /// A pool answers A and AAAA.
    pub const POOL: u64 = 1 << 10;

    /// Types that are listed.
    #[inline(always)]
    pub const fn types(self) -> u32 {
        self.0 as u32 & 0xff
    }

    /// The pool, with [`Set::POOL`].
    #[inline(always)]
    pub const fn pool(self) -> u32 {
        (self.0 >> 32) as u32
    }
}

/// An RRset of a [`Set`]: type in bits 0..16, number of records in 16..32, their octets in 32..41, number of
/// pointers in 41..48, and in 48..64 where the records start, in words from the set's first.
///
/// The records are finished: owned by a pointer to the question (`c0 0c`), with their TTL, names in RDATA
/// compressed, in memory order. 0 octets: there are records, which only the slow path has.
///
/// A wildcard's records stand behind questions of any length, so that pointers in RDATA lack the octets of the
/// question's name. Where these stand is said behind the records, in octets from their first, four to a word.
///
/// Bit 63: names point to the question's, which must have no upper-case letter. For others there are the same records
/// once more, behind all that, as a word like this one says that comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SetType(pub u64);

impl SetType {
    /// Octets of the records of a type, at the most; a multiple of 8.
    pub const MAX_OCTETS: u32 = 480;

    const OTHER: u64 = 1 << 63;
    /// Pointers that lack the question's length, at the most: a record has two, and 16 octets.
    pub const MAX_POINTERS: u32 = 2 * Self::MAX_OCTETS / 16;

    /// Packs.
    pub const fn new(rtype: u16, records: u16, octets: u16, start: u16) -> Self {
        Self(rtype as u64 | (records as u64) << 16 | (octets as u64) << 32 | (start as u64) << 48)
    }

    /// The same, with N pointers that lack the question's length.
    pub const fn with_pointers(self, pointers: u16) -> Self {
        Self(self.0 | (pointers as u64) << 41)
    }

    /// Type.
    #[inline(always)]
    pub const fn rtype(self) -> u16 {
        self.0 as u16
    }

    /// Number of records.
    #[inline(always)]
    pub const fn records(self) -> u32 {
        (self.0 >> 16) as u32 & 0xffff
    }

    /// The same, with records for questions with upper-case letters behind them.
    pub const fn with_other(self) -> Self {
        Self(self.0 | Self::OTHER)
    }

    /// Whether there are other records for questions with upper-case letters, of which a word says all, behind these.
    #[inline(always)]
    pub const fn has_other(self) -> bool {
        self.0 & Self::OTHER != 0
    }

    /// Octets of all of them.
    #[inline(always)]
    pub const fn octets(self) -> u32 {
        (self.0 >> 32) as u32 & 0x1ff
    }

    /// Pointers that lack the octets of the question's name.
    #[inline(always)]
    pub const fn pointers(self) -> u32 {
        (self.0 >> 41) as u32 & 0x7f
    }

    /// Words of the records, and of where their pointers stand.
    #[inline(always)]
    pub const fn words(self) -> u32 {
        self.octets().div_ceil(8) + self.pointers().div_ceil(4)
    }

    /// Where they start, in words from the first of the set.
    #[inline(always)]
    pub const fn start(self) -> u32 {
        (self.0 >> 48) as u32 & 0x7fff
    }
}

/// A zone: its state, and the SOA for negative answers.
#[repr(C)]
#[derive(Clone, Debug)]
pub struct Zone {
    /// State: [`Zone::PASS`] and [`Zone::COMPLETE`] in the low bits, the epoch from bit 8 on.
    pub row: Row,
    /// Octets of the apex name on the wire, root label included.
    pub apex_len: u16,
    /// Zero.
    pub _pad: [u16; 3],
    /// The SOA of negative answers, for questions without upper-case letters in the name; and for others, which
    /// names in it do not point to.
    pub soa: [Soa; 2],
}

/// A SOA record, but for its owner.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct Soa {
    /// Octets used of `words`; 0: it did not fit, and negative answers pass.
    pub len: u16,
    /// Where names in the SOA have pointers, in octets from the start of its record; 0, which is its owner,
    /// where they have none.
    pub pointers_at: [u16; 2],
    /// The pointers there, but for the octets of the question's name.
    pub pointers: [u16; 2],
    /// Zero.
    pub _pad: [u16; 3],
    /// Type, class, TTL as RFC 2308 section 3 asks, RDLENGTH, RDATA; big-endian bytes in memory order.
    pub words: [u64; SOA_WORDS],
}

/// 8-byte words of a zone's SOA.
pub const SOA_WORDS: usize = 29;

impl Zone {
    /// Send everything of this zone to the slow path.
    pub const PASS: u64 = 1;
    /// Every name of the zone is in the name table: an absent name does not exist.
    pub const COMPLETE: u64 = 2;

    /// Whether negative answers are those of another.
    pub fn has_soa_of(&self, other: &Self) -> bool {
        (self.apex_len, self.soa) == (other.apex_len, other.soa)
    }
}

/// Atlas of a pool for which every client is alike: its fallback order answers, with scope 0.
pub const NO_ATLAS: u32 = u32::MAX;

/// Shares that the clients of a pool are parted in, so that a mirror can be drained bit by bit: a
/// client is always in the same one.
pub const SHARES: usize = 32;

/// A pool: which mirrors may answer, in what order, and where their records are.
#[repr(C)]
#[derive(Clone, Debug)]
pub struct Pool {
    /// Atlas, or [`NO_ATLAS`], in the low 32 bits.
    pub atlas: Row,
    /// TTL of the records in the low 32 bits, and [`Pool::SPLIT`].
    pub ttl: Row,
    /// Pool that answers in this one's place, by [`Family::index`] from the low 32 bits on: itself,
    /// but when none of its mirrors is in service and another is named for that.
    pub answered_by: Row,
    /// Masks of the mirrors whose second answer is in force, by [`Family::index`].
    pub second: [Row; 2],
    /// Masks of the mirrors that answer clients whom no mirror in service takes, by [`Family::index`]. Empty
    /// where no mirror is limited.
    pub spare: [Row; 2],
    /// Mask of the mirrors that do not take every client: only an order that names one may give it.
    pub limited: u64,
    /// Masks of the mirrors that have records, by [`Family::index`].
    pub has: [u64; 2],
    /// [`Order`] where the region's own mirrors cannot answer, by [`Family::index`].
    pub fallback: [u64; 2],
    /// First answer of the pool: see [`Pool::answer`].
    pub answers: u32,
    /// First slot of the pool's groups: group `g` has [`SLOTS`] from `groups + g * SLOTS` on.
    pub groups: u32,
    /// Mirrors in an answer, at the most.
    pub count: u16,
    /// [`Pool::ALL`] and the others.
    pub flags: u16,
    /// Zero.
    pub _pad: u32,
    /// Masks of the mirrors in service, by [`Family::index`] and share of the clients. None at all:
    /// SERVFAIL.
    pub in_service: [[Row; SHARES]; 2],
}

impl Pool {
    /// Orders do not matter: mirrors 0, 1, 2... in turn.
    pub const ALL: u16 = 1;
    /// More than the fast path can hold: the slow path answers.
    pub const SLOW: u16 = 2;
    /// Orders name groups of mirrors too.
    pub const GROUPS: u16 = 4;
    /// Which mirror of a group is drawn for each query anew, not by the client's prefix.
    pub const RANDOM: u16 = 8;
    /// Records are CNAMEs, which answer for every type: those of [`Family::V4`] for other types than A
    /// and AAAA.
    pub const ALIAS: u16 = 16;

    /// In `ttl`: a mirror is being drained, so that neighbouring prefixes get different answers.
    pub const SPLIT: u64 = 1 << 32;

    /// A pool's answers are two for each mirror and family, of which one is in force: the other may be
    /// written in the meantime.
    pub const ANSWERS_OF_MIRROR: u32 = 4;

    /// Number of a mirror among those of all pools: which counter is its own.
    #[inline(always)]
    pub const fn counter(&self, mirror: u32) -> u32 {
        self.answers / Self::ANSWERS_OF_MIRROR + mirror
    }

    /// Number of the answer in force of a mirror.
    #[inline(always)]
    pub fn answer(&self, mirror: u32, family: Family) -> u32 {
        let second = (self.second[family.index()].load() >> (mirror & 63)) as u32 & 1;
        self.answers + Self::ANSWERS_OF_MIRROR * mirror + 2 * family.index() as u32 + second
    }
}

/// Mirrors of a pool at the most: a mask is one `u64`.
pub const MAX_MIRRORS: usize = 64;
/// Groups of a pool at the most.
pub const MAX_GROUPS: usize = 64;
/// Mirrors that the fast path puts in one answer, at the most.
pub const MAX_ANSWER_MIRRORS: u32 = 16;

/// Slots of a group, each an [`Order`] of its mirrors: a client's prefix draws one. A mirror is first
/// in as many as its weight asks for.
pub const SLOTS: u32 = 1024;

/// Mirrors (or groups of them, see [`Order::group`]) in order of preference, best in the low byte,
/// [`Order::NONE`] past the last: what a region is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Order(pub u64);

impl Order {
    /// Steps of an order, at the most.
    pub const LEN: usize = 8;
    /// No mirror at this place.
    pub const NONE: u8 = 0xff;
    /// No mirror at all.
    pub const EMPTY: Self = Self(u64::MAX);

    /// The step that stands for a group of mirrors.
    pub const fn group(number: u8) -> u8 {
        MAX_MIRRORS as u8 | number
    }

    /// Packs the first eight; repeats are left out.
    pub fn pack(steps: impl IntoIterator<Item = u8>) -> Self {
        let mut order = u64::MAX;
        let mut seen = 0u128;
        let mut at = 0;
        for step in steps {
            if at == Self::LEN
                || usize::from(step) >= MAX_MIRRORS + MAX_GROUPS
                || seen & 1 << step != 0
            {
                continue;
            }
            seen |= 1 << step;
            order = order & !(0xff << (8 * at)) | u64::from(step) << (8 * at);
            at += 1;
        }
        Self(order)
    }

    /// The step at a place (0 is best).
    #[inline(always)]
    pub const fn get(self, at: u32) -> u8 {
        if at < Self::LEN as u32 {
            (self.0 >> (8 * at)) as u8
        } else {
            Self::NONE
        }
    }

    /// The steps, best first.
    pub fn iter(self) -> impl Iterator<Item = u8> {
        (0..Self::LEN as u32)
            .map(move |at| self.get(at))
            .take_while(|&step| step != Self::NONE)
    }
}

/// Which addresses a question is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Family {
    /// A, IPv4.
    V4,
    /// AAAA, IPv6.
    V6,
}

impl Family {
    /// Place in an array by family.
    #[inline(always)]
    pub const fn index(self) -> usize {
        match self {
            Self::V4 => 0,
            Self::V6 => 1,
        }
    }
}

/// 8-byte words of an answer.
pub const ANSWER_WORDS: usize = 15;

/// Finished resource records of one mirror and type, each owned by a pointer to the question
/// (`c0 0c`), with a TTL of 0: the pool's is put in.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
pub struct Answer {
    /// Octets used of `words`, and [`Answer::POINTS`]; 0 with `records` over 0: they did not fit, the slow path
    /// answers.
    pub len: u16,
    /// Resource records.
    pub records: u16,
    /// [`Answer::SEVERAL_A`] or [`Answer::SEVERAL_AAAA`], if they are several: where the TTLs are.
    pub several: u16,
    /// With [`Answer::POINTS`]: octets of the record before the end of its target that the question's name has too.
    pub before: u8,
    /// With [`Answer::POINTS`]: octets of that end.
    pub shared: u8,
    /// The records, in memory order.
    pub words: [u64; ANSWER_WORDS],
}

impl Answer {
    /// More than one A: a record every 16 octets.
    pub const SEVERAL_A: u16 = 1;
    /// More than one AAAA: a record every 28 octets.
    pub const SEVERAL_AAAA: u16 = 2;
    /// In `len`: a single alias, and every question that it answers ends as its target does. A pointer takes that
    /// end's place, unless the question has upper-case letters. `len` is over that of all words then, so that other
    /// answers pay nothing for the question whether it is set.
    pub const POINTS: u16 = 1 << 15;
}

/// One entry of the prefix table: a leaf (region and scope) or the number of a block below.
///
/// Bit 31 set: bits 0..31 are a block's number. Otherwise bits 0..8 are the scope prefix length
/// and bits 8..31 the region.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Pod, Zeroable)]
pub struct Entry(pub u32);

impl Entry {
    const BLOCK: u32 = 1 << 31;
    /// IPv6 prefixes longer than /64 stand here: the slow path knows them.
    pub const DEEPER: Self = Self(Self::BLOCK - 1);
    /// Regions in a table, at the most.
    pub const MAX_REGIONS: u32 = (1 << 23) - 1;

    /// All addresses here are of `region`; the shortest prefix around them that is all of it is
    /// `scope` bits long.
    pub const fn leaf(region: u32, scope: u8) -> Self {
        Self(region << 8 | scope as u32)
    }

    /// The next four bits of the address are looked up in this block.
    pub const fn block(number: u32) -> Self {
        Self(Self::BLOCK | number)
    }

    /// The block's number, if this is not a leaf.
    #[inline(always)]
    pub const fn as_block(self) -> Option<u32> {
        if self.0 & Self::BLOCK != 0 {
            Some(self.0 & !Self::BLOCK)
        } else {
            None
        }
    }

    /// Region of a leaf.
    #[inline(always)]
    pub const fn region(self) -> u32 {
        self.0 >> 8
    }

    /// Scope prefix length of a leaf.
    #[inline(always)]
    pub const fn scope(self) -> u8 {
        self.0 as u8
    }
}

/// 256 entries, indexed by one byte of an address: 1 KiB.
pub type Page = [Entry; 256];

/// 16 entries, indexed by four bits of an address: 64 octets, a line of the CPU's caches.
pub type Block = [Entry; 16];

/// Pages of one root: a root has 65,536 entries, for the first 16 bits of an address.
pub const ROOT_PAGES: u32 = 256;

/// First page of a root in the table of roots: an atlas has one for IPv4, then one for IPv6.
#[inline(always)]
pub const fn root(atlas: u32, family: Family) -> u32 {
    (atlas * 2 + family.index() as u32) * ROOT_PAGES
}

/// A client that was answered lately, one in [`Seen::EVERY`] of each CPU. Nobody waits for anybody: two
/// CPUs may spoil each other's, which matters little.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Seen {
    /// The address that counted, as the prefix table is indexed.
    pub client: [u8; 16],
    /// The pool that was asked.
    pub pool: u32,
    /// 4 or 6; 0: an empty slot.
    pub version: u32,
}

impl Seen {
    /// Slots, a power of two.
    pub const SLOTS: u32 = 4096;
    /// Answers of a CPU for one that is kept, a power of two.
    pub const EVERY: u32 = 64;

    /// Where a CPU's answer of this number is kept: all slots in turn, each CPU in an order of its own.
    #[inline(always)]
    pub const fn slot(answer: u32, cpu: u32) -> u32 {
        let turn = (answer / Self::EVERY).wrapping_add(cpu << 6);
        turn.wrapping_mul(0x9e37_79b1) >> (32 - Self::SLOTS.trailing_zeros())
    }
}

const _: () = {
    assert!(size_of::<Seen>() == 24);
    assert!(size_of::<Settings>() == 504);
    assert!(size_of::<Name>() == 32);
    assert!(size_of::<Soa>() == 248);
    assert!(size_of::<Zone>() == 512);
    assert!(size_of::<Pool>() == 624);
    assert!(size_of::<Answer>() == 128);
    assert!(size_of::<Shelf>() == 4096);
    assert!(size_of::<Page>() == 1024);
    assert!(size_of::<Block>() == 64);
};

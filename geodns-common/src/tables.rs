//! The trait behind which the tables stand, and the lookups over it.
//!
//! The kernel implements [`Tables`] over BPF maps, userspace over the plan in memory. The lookups
//! are written once, here.

use crate::abi::{
    self, Answer, Block, Entry, Family, Name, Order, Page, Pool, Row, SHELF_WORDS, SetType,
    Settings, Shelf, Target, Zone,
};
use crate::address::Address;
use crate::layout::Cookies;
use crate::limit;
use crate::scratch::Scratch;
use crate::verdict::Tally;
use crate::wire;

/// Read access to the tables of one plan. An index that is out of range gives `None`.
pub trait Tables {
    /// The plan's settings.
    fn settings(&self) -> &Settings;
    /// A slot of the name table.
    fn name(&self, slot: u32) -> Option<&Name>;
    /// A zone.
    fn zone(&self, index: u32) -> Option<&Zone>;
    /// A pool.
    fn pool(&self, index: u32) -> Option<&Pool>;
    /// An answer.
    fn answer(&self, index: u32) -> Option<&Answer>;
    /// A page of the shelves.
    fn shelf(&self, index: u32) -> Option<&Shelf>;
    /// A region's order, as [`Order`] packs it.
    fn region(&self, index: u32) -> Option<u64>;
    /// A page of a root (see [`abi::root`]).
    fn root(&self, index: u32) -> Option<&Page>;
    /// A block of the prefix table below the roots.
    fn block(&self, number: u32) -> Option<&Block>;

    /// A slot of a group, as [`Order`] packs it.
    fn slot(&self, index: u32) -> Option<u64>;
    /// A random number.
    fn random(&self) -> u32;

    /// Counts that a name, by its slot, was answered for ([`Name::count_asked`]). Only the program does.
    #[inline(always)]
    fn count_asked(&self, _slot: u32) {}

    /// The secrets of cookies. `None`: no cookies are made.
    #[inline(always)]
    fn cookies(&self) -> Option<&Cookies> {
        None
    }

    /// Seconds since 1970.
    #[inline(always)]
    fn now(&self, _scratch: &Scratch) -> u32 {
        0
    }

    /// Hashes the cookie that the scratch's `cookie` begins with, into its last word, by a secret of a row of
    /// [`Cookies`]. As with names, the kernel has a function of its own for it.
    #[inline(always)]
    fn hash_cookie(&self, scratch: &mut Scratch, row: u64, is_first: bool) {
        if let Some(cookies) = self.cookies() {
            scratch.hash_cookie(cookies.secret(row, is_first));
        }
    }

    /// A page of buckets of tokens. `None`: nothing is limited.
    #[inline(always)]
    fn cells(&self, _page: u32) -> Option<&limit::Page> {
        None
    }

    /// Prefixes whose addresses are never limited: what [`trie_key`](crate::address::trie_key) gives, and the length.
    fn exempt(&self) -> &[([u32; 4], u32)] {
        &[]
    }

    /// An id for each mirror of each pool, by [`Pool::counter`]: it stays the same in other plans, and is never 0.
    /// None: answers are not counted by mirror.
    fn mirror_ids(&self) -> &[u64] {
        &[]
    }

    /// Whether an address, in memory order, is one of [`Tables::exempt`].
    #[inline(always)]
    fn is_exempt(&self, _address: [u64; 2], _is_v6: bool) -> bool {
        false
    }

    /// Counts something beside the verdict.
    #[inline(always)]
    fn tally(&self, _tally: Tally) {}

    /// [`is_over_limit`]. The kernel has a function of its own for it.
    #[inline(always)]
    fn is_over_limit(&self, scratch: &mut Scratch) -> bool
    where
        Self: Sized,
    {
        is_over_limit(scratch, self)
    }

    /// [`Scratch::has_upper`]. The kernel has a function of its own for it.
    #[inline(always)]
    fn has_upper(&self, scratch: &mut Scratch) -> bool {
        scratch.has_upper()
    }

    /// [`put_pointers`]. The kernel has a function of its own for it.
    #[inline(always)]
    fn put_pointers(&self, scratch: &mut Scratch, end: u32, listed: u32, pointers: u32)
    where
        Self: Sized,
    {
        put_pointers(scratch, self, end, listed, pointers);
    }

    /// Hashes a suffix of the scratch's name, from an octet on, into its `hash`. The kernel has a function
    /// of its own for it, that the verifier checks once.
    #[inline(always)]
    fn hash(&self, scratch: &mut Scratch, from: u32) {
        let key = &self.settings().hash_key;
        scratch.hash = wire::hash(key, &scratch.name, from, scratch.name_len);
    }
}

/// A name of the table, as its two targets.
#[derive(Clone, Copy, Debug)]
pub struct Found {
    /// Packed target of the name.
    pub(crate) exact: u64,
    /// Packed target of its wildcard child.
    pub(crate) wildcard: u64,
    /// The slot that it is in.
    pub(crate) slot: u32,
}

impl Found {
    /// Target of the name.
    pub const fn exact(&self) -> Target {
        Target::unpack(self.exact)
    }

    /// Target of its wildcard child.
    pub const fn wildcard(&self) -> Target {
        Target::unpack(self.wildcard)
    }
}

/// Looks a name's hash up.
#[inline(always)]
pub fn find_name<T: Tables>(tables: &T, name_mask: u32, hash: [u64; 2]) -> Option<Found> {
    let mut probe = 0;
    while probe < abi::NAME_PROBES {
        let slot = (hash[0] as u32).wrapping_add(probe) & name_mask;
        let name = tables.name(slot)?;
        if name.hash[0] == hash[0] && name.hash[1] == hash[1] {
            return Some(Found {
                exact: name.exact.load() & !Name::ASKED,
                wildcard: name.wildcard.load(),
                slot,
            });
        }
        if name.hash[0] | name.hash[1] == 0 {
            return None;
        }
        probe += 1;
    }
    None
}

/// Whether so much has been answered to where the packet in the scratch came from that this is too much. If not, a token
/// is taken.
#[inline(always)]
pub fn is_over_limit<T: Tables>(scratch: &mut Scratch, tables: &T) -> bool {
    let limit = &tables.settings().limit;
    let Some(cell) = cell(scratch, tables) else {
        return false;
    };
    if limit::take(cell, &limit.rate, scratch.clock) {
        scratch.limited = Scratch::TOKEN_TAKEN;
        return false;
    }
    limit.has_exempt == 0 || !tables.is_exempt(scratch.source, scratch.source_is_v6 != 0)
}

/// Puts the token back that [`is_over_limit`] took.
#[inline(always)]
pub fn put_back<T: Tables>(scratch: &Scratch, tables: &T) {
    if let Some(cell) = cell(scratch, tables) {
        limit::put_back(cell, &tables.settings().limit.rate);
    }
}

/// The bucket of where the packet came from.
#[inline(always)]
fn cell<'a, T: Tables>(scratch: &Scratch, tables: &'a T) -> Option<&'a Row> {
    let key = tables.settings().limit.key;
    let number = limit::cell(key, scratch.source, scratch.source_is_v6 != 0);
    let page = tables.cells(number / limit::CELLS_OF_PAGE as u32)?;
    Some(&page[number as usize & (limit::CELLS_OF_PAGE - 1)])
}

/// A word of a page, by its place on all shelves.
#[inline(always)]
pub(crate) fn word(shelf: &Shelf, place: u32) -> u64 {
    shelf[place as usize & (SHELF_WORDS - 1)]
}

/// Adds the octets of the question's name to the pointers of records that start at `end`: where they stand is
/// said at a place on the shelves.
#[inline(always)]
pub fn put_pointers<T: Tables>(
    scratch: &mut Scratch,
    tables: &T,
    end: u32,
    listed: u32,
    pointers: u32,
) {
    let Some(shelf) = tables.shelf(listed / SHELF_WORDS as u32) else {
        return;
    };
    let name_len = scratch.query.name_len as u16;
    let mut at = 0;
    while at < SetType::MAX_POINTERS {
        if at >= pointers {
            break;
        }
        let four = word(shelf, listed + at / 4);
        let place = end + (four >> (16 * (at & 3))) as u16 as u32;
        let pointer = scratch.get16(place).wrapping_add(name_len);
        scratch.put16(place, pointer);
        at += 1;
    }
}

/// The first 64 bits of an address, first octet highest.
#[inline(always)]
const fn high(address: &Address) -> u64 {
    match address.first_chunk() {
        Some(octets) => u64::from_be_bytes(*octets),
        None => 0,
    }
}

/// The leaf for an address: region and scope prefix length. `None` where the table has no answer
/// or the slow path knows better ([`Entry::DEEPER`]).
#[inline(always)]
pub fn find_entry<T: Tables>(
    tables: &T,
    atlas: u32,
    family: Family,
    address: &Address,
) -> Option<Entry> {
    let bits = high(address);
    let page: &Page = tables.root(abi::root(atlas, family) + (bits >> 56) as u32)?;
    let mut entry = load(page, (bits >> 48) as u8);
    // The bits below, from the top. IPv4: four blocks at the most; IPv6: twelve, down to /64.
    let mut rest = bits << 16;
    let mut levels = match family {
        Family::V4 => 4,
        Family::V6 => 12,
    };
    while levels > 0 {
        let Some(number) = entry.as_block() else {
            break;
        };
        let block: &Block = tables.block(number)?;
        entry = load(block, (rest >> 60) as u8);
        rest <<= 4;
        levels -= 1;
    }
    if entry.as_block().is_some() || entry == Entry::DEEPER {
        None
    } else {
        Some(entry)
    }
}

/// One entry of a page or block, read once. The place is below N: a whole byte, or its upper half
/// shifted down.
#[inline(always)]
fn load<const N: usize>(entries: &[Entry; N], place: u8) -> Entry {
    let place = place as usize & (N - 1);
    // SAFETY: N is a power of two, so `place` is below it; the read is aligned and whole, so that a
    // store by userspace is seen either not at all or in full.
    unsafe { core::ptr::read_volatile(entries.as_ptr().add(place)) }
}

/// Order of mirrors for a client, and the scope prefix length of its region.
///
/// `None` where the slow path has to decide.
#[inline(always)]
pub fn find_order<T: Tables>(
    tables: &T,
    pool: &Pool,
    family: Family,
    client: Family,
    address: &Address,
) -> Option<(Order, u8)> {
    let atlas = pool.atlas.load() as u32;
    if atlas == abi::NO_ATLAS {
        return Some((Order(pool.fallback[family.index()]), 0));
    }
    let entry = find_entry(tables, atlas, client, address)?;
    Some((Order(tables.region(entry.region())?), entry.scope()))
}

/// Prefix length of the networks whose clients are treated alike by what is drawn.
#[inline(always)]
pub const fn sticky_len(client: Family) -> u8 {
    match client {
        Family::V4 => 24,
        Family::V6 => 56,
    }
}

/// Whether a pool's answer depends on what is drawn; `ttl` is its row.
#[inline(always)]
pub const fn is_drawn(pool: &Pool, ttl: u64) -> bool {
    pool.flags & Pool::GROUPS != 0 || ttl & Pool::SPLIT != 0
}

/// Scope prefix length of a pool's answer to a client whose region has this one, and that depends on what is
/// drawn, or does not ([`is_drawn`]).
#[inline(always)]
pub fn scope(pool: &Pool, drawn: bool, client: Family, region: u8) -> u8 {
    let sticky = sticky_len(client);
    if drawn && pool.flags & Pool::RANDOM == 0 && region < sticky {
        sticky
    } else {
        region
    }
}

/// The number that a client draws: the same for all of its /24 or /56, on every node and for ever; with
/// [`Pool::RANDOM`] another one each time.
#[inline(always)]
pub fn draw<T: Tables>(tables: &T, pool: &Pool, client: Family, address: &Address) -> u32 {
    if pool.flags & Pool::RANDOM != 0 {
        return tables.random();
    }
    let bits = high(address);
    let network = match client {
        Family::V4 => 4 << 24 | bits >> 40,
        Family::V6 => 6 << 56 | bits >> 8,
    };
    mix(network)
}

/// Spreads a number evenly (the finalizer of SplitMix64). Whoever asks can pick his own prefix, so it
/// need not be secret.
#[inline(always)]
const fn mix(number: u64) -> u32 {
    let number = (number ^ number >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ number >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    (number >> 32) as u32 ^ number as u32
}

/// The share of the clients that a draw is in.
#[inline(always)]
pub const fn share(draw: u32) -> usize {
    (draw >> 16) as usize & (abi::SHARES - 1)
}

/// The slot that a draw is.
#[inline(always)]
pub const fn slot(draw: u32) -> u32 {
    draw & (abi::SLOTS - 1)
}

/// A draw that is this share and this slot.
pub const fn drawn(share: usize, slot: u32) -> u32 {
    (share as u32) << 16 | slot
}

/// The pool that answers a family's queries in a pool's place, most often itself.
#[inline(always)]
pub fn answered_by(pool: &Pool, family: Family) -> u32 {
    (pool.answered_by.load() >> (32 * family.index())) as u32
}

/// Chooses the mirrors of an answer, the same way on both paths: those of `order` that are in
/// service and have `family`; where there are none, those of the pool's fallback; then any that takes every
/// client, and then its spare ones. Gives how many of `chosen` (N, a power of two) it filled: 0 only if none in
/// service takes the client.
#[inline(always)]
pub fn choose<T: Tables, const N: usize>(
    tables: &T,
    pool: &Pool,
    family: Family,
    order: Order,
    draw: u32,
    chosen: &mut [u32; N],
) -> Option<u32> {
    let usable = pool.in_service[family.index()][share(draw)].load() & pool.has[family.index()];
    let count = pool.count as u32;
    let mut found = 0;
    if pool.flags & Pool::GROUPS != 0 {
        found = take_grouped(tables, pool, order, draw, usable, chosen)?;
    } else if pool.flags & Pool::ALL == 0 {
        found = take_ordered(order, usable, count, chosen);
    }
    if found == 0 && pool.flags & Pool::ALL == 0 {
        found = take_ordered(Order(pool.fallback[family.index()]), usable, count, chosen);
    }
    if found == 0 {
        let mut left = usable & !pool.limited;
        if left == 0 {
            left = pool.spare[family.index()].load();
        }
        found = take_all(left, chosen);
    }
    Some(found.min(count))
}

#[inline(always)]
fn take_all<const N: usize>(mut usable: u64, chosen: &mut [u32; N]) -> u32 {
    let mut found = 0;
    while found < N as u32 {
        if usable == 0 {
            break;
        }
        chosen[found as usize & (N - 1)] = usable.trailing_zeros();
        usable &= usable - 1;
        found += 1;
    }
    found
}

/// Without a branch on whether a mirror is in service: the verifier would follow every combination.
/// Enough is enough, though: the first is in service nearly always, and one answers nearly always.
#[inline(always)]
fn take_ordered<const N: usize>(
    order: Order,
    usable: u64,
    count: u32,
    chosen: &mut [u32; N],
) -> u32 {
    let mut found = 0;
    let mut at = 0;
    // The low bit of each octet: not a mirror's number.
    let none = order.0 >> 6 | order.0 >> 7;
    while at < Order::LEN as u32 {
        let mirror = order.get(at) as u32;
        chosen[found as usize & (N - 1)] = mirror;
        found += (!(none >> (8 * at)) & usable >> (mirror & 63)) as u32 & 1;
        if found >= count {
            break;
        }
        at += 1;
    }
    found
}

/// As [`take_ordered`], where a step may be a group: then its mirrors stand in the order of the slot
/// that was drawn. A mirror that several steps name is taken once.
#[inline(always)]
fn take_grouped<T: Tables, const N: usize>(
    tables: &T,
    pool: &Pool,
    order: Order,
    draw: u32,
    mut usable: u64,
    chosen: &mut [u32; N],
) -> Option<u32> {
    let count = pool.count as u32;
    let mut found = 0;
    let mut at = 0;
    while at < Order::LEN as u32 {
        let step = order.get(at);
        if step == Order::NONE {
            break;
        }
        let mut members = Order(u64::MAX << 8 | step as u64);
        if step as usize & abi::MAX_MIRRORS != 0 {
            let group = step as u32 & (abi::MAX_GROUPS as u32 - 1);
            members = Order(tables.slot(pool.groups + group * abi::SLOTS + slot(draw))?);
        }
        let none = members.0 >> 6 | members.0 >> 7;
        let mut place = 0;
        while place < Order::LEN as u32 {
            let mirror = members.get(place) as u32;
            chosen[found as usize & (N - 1)] = mirror;
            let takes = !(none >> (8 * place)) & usable >> (mirror & 63) & 1;
            usable &= !(takes << (mirror & 63));
            found += takes as u32;
            if found >= count {
                return Some(found);
            }
            place += 1;
        }
        at += 1;
    }
    Some(found)
}

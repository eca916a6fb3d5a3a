//! The trait behind which the tables stand, and the lookups over it.
//!
//! The kernel implements [`Tables`] over BPF maps, userspace over the plan in memory. The lookups
//! are written once, here.

use crate::abi::{self, Answer, Block, Entry, Family, Name, Order, Pool, Settings, Target, Zone};
use crate::respond::Scratch;
use crate::wire;

/// Read access to the tables of one plan. An index that is out of range gives `None`.
pub trait Tables {
    /// What stays the same for this plan.
    fn settings(&self) -> Settings;
    /// A slot of the name table.
    fn name(&self, slot: u32) -> Option<&Name>;
    /// A zone.
    fn zone(&self, index: u32) -> Option<&Zone>;
    /// A pool.
    fn pool(&self, index: u32) -> Option<&Pool>;
    /// An answer.
    fn answer(&self, index: u32) -> Option<&Answer>;
    /// A region's order, as [`Order`] packs it.
    fn region(&self, index: u32) -> Option<u64>;
    /// A block of a root (see [`abi::root`]).
    fn root(&self, index: u32) -> Option<&Block>;
    /// A block of the prefix table below the roots.
    fn block(&self, number: u32) -> Option<&Block>;

    /// Hashes the scratch's name from an octet on, into its `hash`. The kernel has a function of
    /// its own for it, that the verifier checks once.
    #[inline(always)]
    fn hash(&self, scratch: &mut Scratch, from: u32) {
        let key = self.settings().hash_key;
        scratch.hash = wire::hash(key, &scratch.name, from, scratch.name_len);
    }
}

/// A name of the table, as its two targets.
#[derive(Clone, Copy, Debug)]
pub struct Found {
    /// What stands at the name.
    pub exact: Target,
    /// What stands at its wildcard child.
    pub wildcard: Target,
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
                exact: Target::unpack(name.exact.load()),
                wildcard: Target::unpack(name.wildcard.load()),
            });
        }
        if name.hash[0] | name.hash[1] == 0 {
            return None;
        }
        probe += 1;
    }
    None
}

/// A client's address, as the prefix table is indexed: network byte order, IPv4 in the first four.
pub type Address = [u8; 16];

/// The leaf for an address: region and scope prefix length. `None` where the table has no answer
/// or the slow path knows better ([`Entry::DEEPER`]).
#[inline(always)]
pub fn find_entry<T: Tables>(
    tables: &T,
    atlas: u32,
    family: Family,
    address: &Address,
) -> Option<Entry> {
    let page = tables.root(abi::root(atlas, family) + address[0] as u32)?;
    let mut entry = load(page, address[1]);
    // IPv4: two levels below the root; IPv6: six, down to /64.
    let deepest = match family {
        Family::V4 => 4,
        Family::V6 => 8,
    };
    let mut at = 2;
    while at < 8 {
        let Some(number) = entry.as_block() else {
            break;
        };
        if at >= deepest {
            return None;
        }
        entry = load(tables.block(number)?, address[at]);
        at += 1;
    }
    if entry.as_block().is_some() || entry == Entry::DEEPER {
        None
    } else {
        Some(entry)
    }
}

/// One entry of a block, read once.
#[inline(always)]
fn load(block: &Block, byte: u8) -> Entry {
    // SAFETY: a byte indexes 256 entries; the read is aligned and whole, so that a store by
    // userspace is seen either not at all or in full.
    unsafe { core::ptr::read_volatile(block.as_ptr().add(byte as usize)) }
}

/// Order of mirrors for a client, and the scope prefix length of an answer made by it.
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

/// Chooses the mirrors of an answer, the same way on both paths: those of `order` that are in
/// service and have `family`; where there are none, those of the pool's fallback; then any; where
/// nothing is in service, as if everything were. Gives how many of `chosen` (N, a power of two) it
/// filled: 0 only if no mirror has the family.
#[inline(always)]
pub fn choose<const N: usize>(
    pool: &Pool,
    family: Family,
    order: Order,
    chosen: &mut [u32; N],
) -> u32 {
    let has = pool.has[family.index()];
    let in_service = pool.in_service.load() & has;
    let usable = if in_service == 0 { has } else { in_service };
    let count = pool.count as u32;
    let mut found = 0;
    if pool.flags & Pool::ALL == 0 {
        found = take_ordered(order, usable, count, chosen);
        if found == 0 {
            found = take_ordered(Order(pool.fallback[family.index()]), usable, count, chosen);
        }
    }
    if found == 0 {
        found = take_all(usable, chosen);
    }
    found.min(count)
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

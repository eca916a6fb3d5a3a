//! One write to the tables: where, and what.

use std::mem::offset_of;

use geodns_common::abi::{self, Family, Row};

/// One write to the tables. A list of them is applied in order, and at every moment between two of
/// them each lookup gives what it gave before the list or what it gives after it. Blocks below the
/// roots never change once linked.
#[derive(Clone, Debug)]
pub enum Store {
    /// A block that nothing points to yet.
    Block {
        /// Its number.
        number: u32,
        /// Its entries.
        entries: Box<abi::Block>,
    },
    /// One page of a root that nothing points to yet.
    Root {
        /// Index in the table of roots.
        index: u32,
        /// Its entries.
        entries: Box<abi::Page>,
    },
    /// One entry of a root.
    RootEntry {
        /// Index in the table of roots.
        index: u32,
        /// Place in it.
        at: u8,
        /// New value.
        entry: abi::Entry,
    },
    /// A region that nothing points to yet.
    Region {
        /// Its number.
        index: u32,
        /// [`abi::Order`] packed.
        order: u64,
    },
    /// A slot of a group.
    Slot {
        /// Index in the table of slots.
        index: u32,
        /// [`abi::Order`] packed.
        order: u64,
    },
    /// An answer that is not in force.
    Answer {
        /// Index in the table of answers.
        index: u32,
        /// Its records.
        answer: Box<abi::Answer>,
    },
    /// A row of a pool.
    Pool {
        /// The pool.
        pool: u32,
        /// Which row.
        row: PoolRow,
        /// New value.
        value: u64,
    },
    /// A set that no packet is answered from.
    Set {
        /// Its place on the shelves, in words.
        place: u32,
        /// Its words, all on one page.
        words: Box<[u64]>,
    },
    /// A word of a slot of the name table.
    Name {
        /// The slot.
        slot: u32,
        /// Which word.
        word: NameWord,
        /// New value.
        value: u64,
    },
    /// The SOA of a zone of which everything passes.
    Soa {
        /// The zone.
        zone: u32,
        /// It, as it will be: all but its row counts.
        of: Box<abi::Zone>,
    },
    /// The row of a zone.
    Zone {
        /// The zone.
        zone: u32,
        /// New value.
        value: u64,
    },
}

/// A word of an [`abi::Name`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameWord {
    /// The first of its hash.
    Hash0,
    /// The second of its hash.
    Hash1,
    /// [`abi::Name::exact`]
    Exact,
    /// [`abi::Name::wildcard`]
    Wildcard,
}

impl NameWord {
    /// Where it is in a slot, in octets.
    pub fn offset(self) -> usize {
        match self {
            Self::Hash0 => offset_of!(abi::Name, hash),
            Self::Hash1 => offset_of!(abi::Name, hash) + 8,
            Self::Exact => offset_of!(abi::Name, exact),
            Self::Wildcard => offset_of!(abi::Name, wildcard),
        }
    }

    /// Its value.
    pub fn get(self, name: &abi::Name) -> u64 {
        match self {
            Self::Hash0 => name.hash[0],
            Self::Hash1 => name.hash[1],
            Self::Exact => name.exact.load(),
            Self::Wildcard => name.wildcard.load(),
        }
    }

    /// Sets it.
    pub fn set(self, name: &mut abi::Name, value: u64) {
        match self {
            Self::Hash0 => name.hash[0] = value,
            Self::Hash1 => name.hash[1] = value,
            Self::Exact => name.exact.set(value),
            Self::Wildcard => name.wildcard.set(value),
        }
    }
}

/// A row of a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PoolRow {
    /// [`abi::Pool::atlas`]
    Atlas,
    /// [`abi::Pool::ttl`]
    Ttl,
    /// [`abi::Pool::answered_by`]
    AnsweredBy,
    /// [`abi::Pool::second`]
    Second(Family),
    /// [`abi::Pool::spare`]
    Spare(Family),
    /// [`abi::Pool::in_service`], of a share of the clients.
    InService(Family, usize),
}

impl PoolRow {
    /// Where it is in a pool, in octets.
    pub fn offset(self) -> usize {
        match self {
            Self::Atlas => offset_of!(abi::Pool, atlas),
            Self::Ttl => offset_of!(abi::Pool, ttl),
            Self::AnsweredBy => offset_of!(abi::Pool, answered_by),
            Self::Second(family) => offset_of!(abi::Pool, second) + 8 * family.index(),
            Self::Spare(family) => offset_of!(abi::Pool, spare) + 8 * family.index(),
            Self::InService(family, share) => {
                offset_of!(abi::Pool, in_service) + 8 * (family.index() * abi::SHARES + share)
            }
        }
    }

    /// The row itself.
    pub fn of(self, pool: &mut abi::Pool) -> &mut Row {
        match self {
            Self::Atlas => &mut pool.atlas,
            Self::Ttl => &mut pool.ttl,
            Self::AnsweredBy => &mut pool.answered_by,
            Self::Second(family) => &mut pool.second[family.index()],
            Self::Spare(family) => &mut pool.spare[family.index()],
            Self::InService(family, share) => &mut pool.in_service[family.index()][share],
        }
    }
}

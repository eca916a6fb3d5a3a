//! The mirrors that a client gets, and the reason.

use std::fmt;
use std::ops::Deref;

use geodns_common::abi;
use ipnet::IpNet;

/// A client's mirrors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selection {
    /// The pool that answers: the one asked, or its fallback.
    pub pool: usize,
    /// That pool's mirrors in the answer, in order.
    pub mirrors: Mirrors,
    /// ECS scope prefix length of the answer.
    pub scope: u8,
    /// Whether the pool has the family; without it the answer is NODATA. With it, and no mirrors,
    /// none is in service: SERVFAIL.
    pub has_family: bool,
    /// TTL of the records.
    pub ttl: u32,
}

/// Some of a pool's mirrors, in order. A list in place: one is made for every answer.
#[derive(Clone, Copy, Eq)]
pub struct Mirrors {
    pub(super) count: u8,
    pub(super) numbers: [u8; abi::MAX_MIRRORS],
}

impl Mirrors {
    pub(super) const NONE: Self = Self {
        count: 0,
        numbers: [0; abi::MAX_MIRRORS],
    };
}

impl Deref for Mirrors {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.numbers[..self.count.into()]
    }
}

impl PartialEq for Mirrors {
    fn eq(&self, other: &Self) -> bool {
        self[..] == other[..]
    }
}

impl fmt::Debug for Mirrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self[..].fmt(f)
    }
}

/// The reason for a client's mirrors, for `explain` and `map get`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The `map set` that matches, if any.
    pub overriding: Option<(IpNet, u8)>,
    /// The listed prefix that matches, if any, and its members.
    pub listed: Option<(IpNet, Vec<u8>)>,
    /// Whether the listed prefix is from `map import`.
    pub imported: bool,
}

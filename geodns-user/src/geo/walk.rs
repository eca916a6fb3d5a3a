//! The layers over a part of the address space, flattened: runs of addresses, in order, that match
//! the same things.

use std::collections::btree_map;
use std::iter::Peekable;
use std::ops::Bound::{Excluded, Included};
use std::slice;

use geodns_common::abi::Family;
use ipnet::IpNet;

use super::{Layer, Layers, Listed, Prefix};

/// Neighbouring addresses for which the layers say the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// First address, from the top of the `u128` (see [`Prefix`]).
    pub first: u128,
    /// Last address.
    pub last: u128,
    /// The prefix list's value (the import's, where it has the address, else the base's).
    pub listed: Option<Listed>,
    /// Mirror of the override.
    pub overriding: Option<u8>,
    /// The value in the list of prefixes that limits name.
    pub limits: Option<u16>,
}

/// Walks the runs of a window: together they are the window. Costs what the window holds, however
/// large the layers are. Neighbouring runs may be alike.
pub struct Walk<'a> {
    base: Cursor<Listing<'a>>,
    imported: Cursor<Listing<'a>>,
    overrides: Cursor<Overrides<'a>>,
    limits: Cursor<Listing<'a>>,
    next: Option<u128>,
    last: u128,
}

impl<'a> Walk<'a> {
    /// Walks a part of the layers, and of the prefixes that limits name.
    pub fn new(layers: &'a Layers, limits: &'a Layer, window: Prefix) -> Self {
        // What covers the whole window sorts up to it, what lies inside sorts after it.
        let inside = (Excluded(window.net()), Included(window.end().net()));
        Self {
            base: Cursor::of(&layers.base, window),
            imported: Cursor::of(&layers.imported, window),
            overrides: Cursor {
                outside: layers.overriding_all(window).map(|(_, mirror)| mirror),
                within: Vec::new(),
                ahead: Overrides(layers.overrides.range(inside)).peekable(),
            },
            limits: Cursor::of(limits, window),
            next: Some(window.first),
            last: window.last(),
        }
    }
}

impl Iterator for Walk<'_> {
    type Item = Run;

    fn next(&mut self) -> Option<Run> {
        let first = self.next?;
        let (base, base_last) = self.base.seek(first);
        let (imported, imported_last) = self.imported.seek(first);
        let (overriding, overrides_last) = self.overrides.seek(first);
        let (limits, limits_last) = self.limits.seek(first);
        let last = base_last
            .min(imported_last)
            .min(overrides_last)
            .min(limits_last)
            .min(self.last);
        self.next = (last < self.last).then(|| last + 1);
        Some(Run {
            first,
            last,
            listed: imported.map(Listed::Imported).or(base.map(Listed::Base)),
            overriding,
            limits,
        })
    }
}

/// The prefixes of a layer from some place on, in order, and what each has.
trait Items: Iterator<Item = (Prefix, Self::Value)> {
    type Value: Copy;
}

/// A place in one layer.
struct Cursor<I: Items> {
    /// The value of the longest prefix that covers the whole window.
    outside: Option<I::Value>,
    /// Prefixes of the window that the place is in, the longest last: last address, and what it has.
    within: Vec<(u128, I::Value)>,
    ahead: Peekable<I>,
}

impl<'a> Cursor<Listing<'a>> {
    fn of(layer: &'a Layer, window: Prefix) -> Self {
        let items = match window.family {
            Family::V4 => {
                let key = ((window.first >> 96) as u32, window.len);
                let start = layer.v4.partition_point(|&(a, len, _)| (a, len) <= key);
                Listing::V4(layer.v4[start..].iter())
            }
            Family::V6 => {
                let key = (window.first, window.len);
                let start = layer.v6.partition_point(|&(a, len, _)| (a, len) <= key);
                Listing::V6(layer.v6[start..].iter())
            }
        };
        Self {
            outside: layer.covering(window).map(|(_, number)| number),
            within: Vec::new(),
            ahead: items.peekable(),
        }
    }
}

impl<I: Items> Cursor<I> {
    /// Goes on to an address, no further than where the last answer ended plus one. Gives what the
    /// layer has there, and the last address for which that holds.
    fn seek(&mut self, address: u128) -> (Option<I::Value>, u128) {
        while self.within.last().is_some_and(|&(last, _)| last < address) {
            self.within.pop();
        }
        while let Some((prefix, value)) = self.ahead.next_if(|(next, _)| next.first <= address) {
            self.within.push((prefix.last(), value));
        }
        let (mut last, value) = match self.within.last() {
            Some(&(last, value)) => (last, Some(value)),
            None => (u128::MAX, self.outside),
        };
        if let Some((next, _)) = self.ahead.peek() {
            last = last.min(next.first - 1);
        }
        (value, last)
    }
}

/// Prefixes of a list.
enum Listing<'a> {
    V4(slice::Iter<'a, (u32, u8, u16)>),
    V6(slice::Iter<'a, (u128, u8, u16)>),
}

impl Items for Listing<'_> {
    type Value = u16;
}

impl Iterator for Listing<'_> {
    type Item = (Prefix, u16);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        Some(match self {
            Self::V4(items) => {
                let &(first, len, number) = items.next()?;
                let first = u128::from(first) << 96;
                let family = Family::V4;
                (Prefix { family, first, len }, number)
            }
            Self::V6(items) => {
                let &(first, len, number) = items.next()?;
                let family = Family::V6;
                (Prefix { family, first, len }, number)
            }
        })
    }
}

/// Overrides.
struct Overrides<'a>(btree_map::Range<'a, IpNet, u8>);

impl Items for Overrides<'_> {
    type Value = u8;
}

impl Iterator for Overrides<'_> {
    type Item = (Prefix, u8);

    fn next(&mut self) -> Option<Self::Item> {
        let (&net, &mirror) = self.0.next()?;
        Some((Prefix::of(net), mirror))
    }
}

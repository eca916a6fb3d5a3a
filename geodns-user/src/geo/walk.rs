//! The layers over a part of the address space, flattened: runs of addresses, in order, that match
//! the same things.

use std::collections::btree_map;
use std::iter::Peekable;
use std::ops::Bound::{Excluded, Included};
use std::slice;

use geodns_common::abi::Family;
use ipnet::IpNet;

use super::{Layer, Layers, Prefix};

/// Neighbouring addresses for which the layers say the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// First address, from the top of the `u128` (see [`Prefix`]).
    pub first: u128,
    /// Last address.
    pub last: u128,
    /// Mirror of the prefix list (the import's, where it has the address, else the base's).
    pub listed: Option<u8>,
    /// Mirror of the override.
    pub overriding: Option<u8>,
}

/// Walks the runs of a window: together they are the window. Costs what the window holds, however
/// large the layers are. Neighbouring runs may be alike.
pub struct Walk<'a> {
    base: Cursor<'a>,
    imported: Cursor<'a>,
    overrides: Cursor<'a>,
    next: Option<u128>,
    last: u128,
}

impl<'a> Walk<'a> {
    /// Walks a part of the layers.
    pub fn new(layers: &'a Layers, window: Prefix) -> Self {
        // What covers the whole window sorts up to it, what lies inside sorts after it.
        let inside = (Excluded(window.net()), Included(window.end().net()));
        Self {
            base: Cursor::of(&layers.base, window),
            imported: Cursor::of(&layers.imported, window),
            overrides: Cursor {
                outside: layers.overriding_all(window).map(|(_, mirror)| mirror),
                within: Vec::new(),
                ahead: Items::Overrides(layers.overrides.range(inside)).peekable(),
            },
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
        let last = base_last
            .min(imported_last)
            .min(overrides_last)
            .min(self.last);
        self.next = (last < self.last).then(|| last + 1);
        Some(Run {
            first,
            last,
            listed: imported.or(base),
            overriding,
        })
    }
}

/// A place in one layer.
struct Cursor<'a> {
    /// Mirror of the longest prefix that covers the whole window.
    outside: Option<u8>,
    /// Prefixes of the window that the place is in, the longest last: last address and mirror.
    within: Vec<(u128, u8)>,
    ahead: Peekable<Items<'a>>,
}

impl<'a> Cursor<'a> {
    fn of(layer: &'a Layer, window: Prefix) -> Self {
        let items = match window.family {
            Family::V4 => {
                let key = ((window.first >> 96) as u32, window.len);
                let start = layer.v4.partition_point(|&(a, len, _)| (a, len) <= key);
                Items::V4(layer.v4[start..].iter())
            }
            Family::V6 => {
                let key = (window.first, window.len);
                let start = layer.v6.partition_point(|&(a, len, _)| (a, len) <= key);
                Items::V6(layer.v6[start..].iter())
            }
        };
        Self {
            outside: layer.covering(window).map(|(_, mirror)| mirror),
            within: Vec::new(),
            ahead: items.peekable(),
        }
    }

    /// Goes on to an address, no further than where the last answer ended plus one. Gives the
    /// mirror there, and the last address for which that holds.
    fn seek(&mut self, address: u128) -> (Option<u8>, u128) {
        while self.within.last().is_some_and(|&(last, _)| last < address) {
            self.within.pop();
        }
        while let Some((prefix, mirror)) = self.ahead.next_if(|(next, _)| next.first <= address) {
            self.within.push((prefix.last(), mirror));
        }
        let (mut last, mirror) = match self.within.last() {
            Some(&(last, mirror)) => (last, Some(mirror)),
            None => (u128::MAX, self.outside),
        };
        if let Some((next, _)) = self.ahead.peek() {
            last = last.min(next.first - 1);
        }
        (mirror, last)
    }
}

/// The prefixes of a layer from some place on, in order.
enum Items<'a> {
    V4(slice::Iter<'a, (u32, u8, u8)>),
    V6(slice::Iter<'a, (u128, u8, u8)>),
    Overrides(btree_map::Range<'a, IpNet, u8>),
}

impl Iterator for Items<'_> {
    type Item = (Prefix, u8);

    #[inline]
    fn next(&mut self) -> Option<(Prefix, u8)> {
        Some(match self {
            Self::V4(items) => {
                let &(first, len, mirror) = items.next()?;
                let first = u128::from(first) << 96;
                let family = Family::V4;
                (Prefix { family, first, len }, mirror)
            }
            Self::V6(items) => {
                let &(first, len, mirror) = items.next()?;
                let family = Family::V6;
                (Prefix { family, first, len }, mirror)
            }
            Self::Overrides(items) => {
                let (&net, &mirror) = items.next()?;
                (Prefix::of(net), mirror)
            }
        })
    }
}

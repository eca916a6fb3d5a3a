//! Runs of addresses whose clients get the same order of mirrors, and the prefixes that they are
//! made of.

use geodns_common::abi::Order;

use crate::config::Pool;
use crate::geo::{Layers, Prefix, Run, Walk};
use crate::steering;

/// The order for every pair of listed mirror and override that a pool can have.
#[derive(Clone, Debug)]
pub struct Orders {
    mirrors: usize,
    orders: Vec<Order>,
}

impl Orders {
    /// Those of a pool.
    pub fn of(pool: &Pool) -> Self {
        let mirrors = pool.mirrors.len();
        let some = |mirror: usize| (mirror < mirrors).then_some(mirror as u8);
        let orders = (0..=mirrors)
            .flat_map(|over| (0..=mirrors).map(move |listed| (over, listed)))
            .map(|(over, listed)| steering::order(pool, some(listed), some(over)))
            .collect();
        Self { mirrors, orders }
    }

    fn get(&self, run: &Run) -> Order {
        let place = |mirror: Option<u8>| {
            let mirror = mirror.map_or(self.mirrors, usize::from);
            mirror.min(self.mirrors)
        };
        self.orders[place(run.overriding) * (self.mirrors + 1) + place(run.listed)]
    }
}

/// The longest runs with one order in a window: first address, last address, order.
pub struct Runs<'a> {
    walk: Walk<'a>,
    orders: &'a Orders,
    ahead: Option<Run>,
}

impl<'a> Runs<'a> {
    /// Those of a window.
    pub fn new(layers: &'a Layers, orders: &'a Orders, window: Prefix) -> Self {
        let mut walk = Walk::new(layers, window);
        let ahead = walk.next();
        Self {
            walk,
            orders,
            ahead,
        }
    }
}

impl Iterator for Runs<'_> {
    type Item = (u128, u128, Order);

    fn next(&mut self) -> Option<Self::Item> {
        let run = self.ahead.take()?;
        let order = self.orders.get(&run);
        let mut last = run.last;
        for next in self.walk.by_ref() {
            if self.orders.get(&next) != order {
                self.ahead = Some(next);
                break;
            }
            last = next.last;
        }
        Some((run.first, last, order))
    }
}

/// The order of all addresses of a prefix, if it is one.
pub fn one_order(layers: &Layers, orders: &Orders, prefix: Prefix) -> Option<Order> {
    let (_, last, order) = Runs::new(layers, orders, prefix).next()?;
    (last == prefix.last()).then_some(order)
}

/// The fewest prefixes that the runs of a window are made of.
///
/// Each is the shortest prefix around its addresses that has one order, as far as the window goes:
/// its length is the scope.
pub struct Pieces<'a> {
    window: Prefix,
    runs: Runs<'a>,
    rest: Option<(u128, u128, Order)>,
}

impl<'a> Pieces<'a> {
    /// Those of a window.
    pub fn new(layers: &'a Layers, orders: &'a Orders, window: Prefix) -> Self {
        Self {
            window,
            runs: Runs::new(layers, orders, window),
            rest: None,
        }
    }
}

impl Iterator for Pieces<'_> {
    type Item = (Prefix, Order);

    fn next(&mut self) -> Option<Self::Item> {
        let (first, last, order) = match self.rest.take() {
            Some(rest) => rest,
            None => self.runs.next()?,
        };
        let aligned = first.trailing_zeros();
        let fits = match (last - first).checked_add(1) {
            Some(addresses) => addresses.ilog2(),
            None => 128,
        };
        let piece = Prefix {
            family: self.window.family,
            first,
            len: 128 - aligned.min(fits) as u8,
        };
        if piece.last() < last {
            self.rest = Some((piece.last() + 1, last, order));
        }
        Some((piece, order))
    }
}

//! Runs of addresses whose clients get the same order of mirrors, and the prefixes that they are
//! made of.

use geodns_common::abi::{Family, Order};
use hashbrown::HashMap;
use ipnet::Ipv6Net;

use crate::geo::{
    Geography, Layers, Listed, PlaceId, Prefix, Run, SIX_TO_FOUR, TEREDO, Walk, Wanted, mmdb,
};
use crate::steering::{Client, Steering, Whereabouts};

/// Inputs of a client's order.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a> {
    /// Prefix lists and overrides.
    pub layers: &'a Layers,
    /// The steering that makes orders of them.
    pub steering: &'a Steering,
    /// Where clients are.
    pub geography: &'a Geography,
    /// The geography that the steering asks for.
    pub wanted: Wanted,
    /// Whether IPv6 addresses that stand for IPv4 ones are looked up as these.
    pub embedded: bool,
}

/// What an order depends on: the place, the list's value, the override, and the limits' value.
type Key = (PlaceId, Option<Listed>, Option<u8>, Option<u16>);

/// The orders of the runs, each worked out once.
#[derive(Debug)]
struct Orders<'a> {
    source: Source<'a>,
    /// By place, where the layers say nothing: half a million of them, asked for six million times.
    /// For whole address spaces alone, since there it is worth its length.
    by_place: Option<Vec<Order>>,
    known: HashMap<Key, Order>,
}

/// Not worked out yet. No order packs to it.
const UNKNOWN: Order = Order(u64::MAX - 2);

impl Orders<'_> {
    #[inline]
    fn get(&mut self, run: &Run, place: PlaceId) -> Order {
        let by_layers = (run.listed, run.overriding, run.limits);
        if let (Some(orders), (None, None, None)) = (&mut self.by_place, by_layers) {
            let at = place.0 as usize;
            if at >= orders.len() {
                orders.resize(at + 1, UNKNOWN);
            }
            if orders[at] == UNKNOWN {
                orders[at] = order(self.source, run, place);
            }
            return orders[at];
        }
        let key = (place, run.listed, run.overriding, run.limits);
        let known = self.known.entry(key);
        *known.or_insert_with(|| order(self.source, run, place))
    }
}

/// Works out an order.
fn order(source: Source<'_>, run: &Run, place: PlaceId) -> Order {
    let known = Whereabouts::of(&source.geography.place(place));
    let client = Client {
        limits: run.limits,
        ..known.place()
    };
    let listed = run
        .listed
        .map_or(&[][..], |listed| source.layers.members(listed));
    source.steering.order(&client, listed, run.overriding)
}

/// In place of an order: addresses that stand for IPv4 ones, which the slow path looks up. No order
/// packs to it.
pub const EMBEDDED: Order = Order(u64::MAX - 1);

/// First and last addresses of the blocks that [`EMBEDDED`] stands for, in order.
const EMBEDDED_BLOCKS: [(u128, u128); 2] = [block(TEREDO), block(SIX_TO_FOUR)];

const fn block(net: Ipv6Net) -> (u128, u128) {
    let first = net.addr().to_bits();
    (first, first | u128::MAX >> net.prefix_len())
}

/// The longest runs with one order in a window: first address, last address, order.
pub struct Runs<'a> {
    walk: Walk<'a>,
    /// Where they are, for a steering that asks.
    places: Option<mmdb::Cursor<'a>>,
    orders: Orders<'a>,
    embedded: &'static [(u128, u128)],
    /// The rest of a run of the layers in which a place or a block begins or ends.
    rest: Option<Run>,
    ahead: Option<(u128, u128, Order)>,
}

impl<'a> Runs<'a> {
    /// Those of a window.
    pub fn new(source: Source<'a>, window: Prefix) -> Self {
        let embedded = source.embedded && window.family == Family::V6;
        let places = || source.geography.walk(window, source.wanted);
        let mut runs = Self {
            walk: Walk::new(source.layers, source.steering.limiting(), window),
            places: (!source.wanted.is_empty()).then(places),
            orders: Orders {
                source,
                by_place: (window.len == 0).then(Vec::new),
                known: HashMap::new(),
            },
            embedded: if embedded { &EMBEDDED_BLOCKS } else { &[] },
            rest: None,
            ahead: None,
        };
        runs.ahead = runs.step();
        runs
    }

    /// The next addresses that are alike.
    #[inline]
    fn step(&mut self) -> Option<(u128, u128, Order)> {
        let run = self.rest.take().or_else(|| self.walk.next())?;
        let (block_last, inside) = self.block(run.first);
        let mut last = run.last.min(block_last);
        let order = if inside {
            EMBEDDED
        } else {
            let mut place = PlaceId::NOTHING;
            if let Some(places) = &mut self.places {
                let (here, place_last) = places.seek(run.first);
                place = here;
                last = last.min(place_last);
            }
            self.orders.get(&run, place)
        };
        if last < run.last {
            self.rest = Some(Run {
                first: last + 1,
                ..run
            });
        }
        Some((run.first, last, order))
    }

    /// The last address up to which none of the blocks begins or ends, and whether this is in one.
    #[inline]
    fn block(&self, address: u128) -> (u128, bool) {
        let mut blocks = self.embedded.iter();
        match blocks.find(|(_, last)| address <= *last) {
            Some(&(first, last)) if first <= address => (last, true),
            Some(&(first, _)) => (first - 1, false),
            None => (u128::MAX, false),
        }
    }
}

impl Iterator for Runs<'_> {
    type Item = (u128, u128, Order);

    fn next(&mut self) -> Option<Self::Item> {
        let (first, mut last, order) = self.ahead.take()?;
        while let Some(next) = self.step() {
            if next.2 != order {
                self.ahead = Some(next);
                break;
            }
            last = next.1;
        }
        Some((first, last, order))
    }
}

/// The order of all addresses of a prefix, if it is one.
pub fn one_order(source: Source<'_>, prefix: Prefix) -> Option<Order> {
    let (_, last, order) = Runs::new(source, prefix).next()?;
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
    pub fn new(source: Source<'a>, window: Prefix) -> Self {
        Self {
            window,
            runs: Runs::new(source, window),
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

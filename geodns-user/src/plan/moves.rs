//! What a new plan would move: two pools' prefix tables, walked side by side.
//!
//! Alike blocks are one block, and a pair of them is walked once, however often it stands in the two
//! tables: the walk costs what the tables hold, not what the address space does.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::rc::Rc;

use geodns_common::abi::{self, Block, Entry, Family, MAX_MIRRORS, NO_ATLAS, Order};
use geodns_common::tables;
use hashbrown::HashMap;

use super::Plan;
use crate::geo::Prefix;

/// A pool of a plan, and who of it is in service.
#[derive(Clone, Copy, Debug)]
pub struct Side<'a> {
    /// The plan.
    pub plan: &'a Plan,
    /// Number of the pool in it.
    pub pool: usize,
    /// Mask of its mirrors that are in service. None at all: as if all were.
    pub in_service: u64,
}

/// Shares of clients, 0 to 1, by the first mirror of their answers on each side: numbers in the pools;
/// `None` where there is no answer. They add up to 1, unless there are no clients at all.
pub type Moves = BTreeMap<(Option<u8>, Option<u8>), f64>;

/// What moves from one side to the other, by share of the address space: all of IPv4, or what is
/// assigned of IPv6 (2000::/3). Left out are addresses that are looked up as IPv4 (6to4, Teredo), and
/// the /64s that longer prefixes than that are set in.
pub fn by_addresses(from: Side<'_>, to: Side<'_>, clients: Family) -> Moves {
    let mut walk = Walk {
        from: from.plan.blocks(),
        to: to.plan.blocks(),
        known: HashMap::new(),
    };
    let (from_root, to_root) = (from.root(clients), to.root(clients));
    let places = match clients {
        Family::V4 => 0..1 << 16,
        Family::V6 => 0x2000..0x4000,
    };
    let mut regions = Regions::default();
    for place in places {
        let pair = (from_root.entry(place), to_root.entry(place));
        walk.add(&mut regions, pair, 1.0);
    }
    // What is left out counts for nobody.
    let total: f64 = regions.values().sum();
    let mut moves = Moves::new();
    let mut joint = Joint::new(from, to);
    for ((from, to), share) in regions {
        joint.add(&mut moves, from, to, share / total);
    }
    moves
}

/// What moves, by clients: whose addresses these are.
pub fn by_clients(
    from: Side<'_>,
    to: Side<'_>,
    clients: impl ExactSizeIterator<Item = IpAddr>,
) -> Moves {
    let share = 1.0 / clients.len() as f64;
    let mut moves = Moves::new();
    for client in clients {
        let first = |side: Side<'_>| {
            let host = Prefix::host(client);
            let (order, _) = side.plan.order(side.pool, side.family(), host);
            let row = &side.plan.pools()[side.pool];
            let draw = tables::draw(side.plan, row, host.family, &host.address());
            side.first(order, tables::slot(draw))
        };
        *moves.entry((first(from), first(to))).or_default() += share;
    }
    moves
}

impl Side<'_> {
    fn row(&self) -> &abi::Pool {
        &self.plan.pools()[self.pool]
    }

    /// The family that is looked at: what the pool has.
    fn family(&self) -> Family {
        match self.row().has[0] {
            0 => Family::V6,
            _ => Family::V4,
        }
    }

    /// The root of the pool's atlas for clients of a family.
    fn root(&self, clients: Family) -> Root<'_> {
        let atlas = self.row().atlas.load() as u32;
        if atlas == NO_ATLAS {
            return Root(None);
        }
        let first = abi::root(atlas, clients) as usize;
        let blocks = &self.plan.roots()[first..first + abi::ROOT_PAGES as usize];
        Root(Some(blocks.as_flattened()))
    }

    /// Order of a region; [`NO_REGION`] has none.
    fn order(&self, region: u32) -> Order {
        match region {
            NO_REGION => Order::EMPTY,
            region => Order(self.plan.regions()[region as usize]),
        }
    }

    /// The first mirror of an answer, for those who draw a slot.
    fn first(&self, order: Order, slot: u32) -> Option<u8> {
        let row = self.row();
        let has = row.has[self.family().index()];
        let usable = match self.in_service & has {
            0 => has,
            usable => usable,
        };
        let is_usable = |mirror: &u8| usable >> (mirror & 63) & 1 != 0;
        let of_member = |member: u8| match member.checked_sub(MAX_MIRRORS as u8) {
            None => Some(member).filter(is_usable),
            Some(group) => {
                let at = row.groups + u32::from(group) * abi::SLOTS + slot;
                let mut order = Order(self.plan.slots()[at as usize]).iter();
                order.find(is_usable)
            }
        };
        let fallback = Order(row.fallback[self.family().index()]);
        order
            .iter()
            .find_map(of_member)
            .or_else(|| fallback.iter().find(is_usable))
            .or_else(|| (usable != 0).then(|| usable.trailing_zeros() as u8))
    }
}

/// Entries of a block.
const BLOCK_ENTRIES: usize = size_of::<Block>() / size_of::<Entry>();

/// In place of a region: every client of the pool is alike.
const NO_REGION: u32 = u32::MAX;

/// A root; none where every client of the pool is alike.
struct Root<'a>(Option<&'a [Entry]>);

impl Root<'_> {
    fn entry(&self, place: usize) -> Option<Entry> {
        self.0.map(|entries| entries[place])
    }
}

/// Shares by region on each side.
type Regions = HashMap<(u32, u32), f64>;

/// Two entries for the same addresses; `None` where there is no table.
type Pair = (Option<Entry>, Option<Entry>);

/// What is below a pair: regions on each side, and their share of it.
type Below = Rc<Vec<((u32, u32), f64)>>;

/// The way through two tables at once.
struct Walk<'a> {
    from: &'a [Block],
    to: &'a [Block],
    /// Pairs that were walked, and what is below them, as shares of it.
    known: HashMap<Pair, Below>,
}

impl Walk<'_> {
    /// Adds what is below a pair, which is so much of everything.
    fn add(&mut self, regions: &mut Regions, pair: Pair, share: f64) {
        if [pair.0, pair.1].contains(&Some(Entry::DEEPER)) {
            return;
        }
        let block = |entry: Option<Entry>| entry.and_then(Entry::as_block);
        if block(pair.0).is_none() && block(pair.1).is_none() {
            let region = |entry: Option<Entry>| entry.map_or(NO_REGION, Entry::region);
            *regions.entry((region(pair.0), region(pair.1))).or_default() += share;
            return;
        }
        // What is below a leaf is all of its region, whatever its scope.
        let below = self.below(pair);
        for &(pair, part) in below.iter() {
            *regions.entry(pair).or_default() += share * part;
        }
    }

    fn below(&mut self, pair: Pair) -> Below {
        if let Some(known) = self.known.get(&pair) {
            return Rc::clone(known);
        }
        let child = |blocks: &[Block], entry: Option<Entry>, at: usize| {
            let block = entry.and_then(Entry::as_block);
            block.map_or(entry, |number| Some(blocks[number as usize][at]))
        };
        let mut regions = Regions::new();
        let mut at = 0;
        while at < BLOCK_ENTRIES {
            let pair_at = |at| (child(self.from, pair.0, at), child(self.to, pair.1, at));
            let pair = pair_at(at);
            let run = (at..BLOCK_ENTRIES)
                .take_while(|&next| pair_at(next) == pair)
                .count();
            self.add(&mut regions, pair, run as f64 / BLOCK_ENTRIES as f64);
            at += run;
        }
        let below = Rc::new(regions.into_iter().collect());
        self.known.insert(pair, Rc::clone(&below));
        below
    }
}

/// The first mirrors of two orders, by share of the slots.
struct Joint<'a> {
    from: Side<'a>,
    to: Side<'a>,
    known: HashMap<(Order, Order), Rc<Moves>>,
}

impl<'a> Joint<'a> {
    fn new(from: Side<'a>, to: Side<'a>) -> Self {
        Self {
            from,
            to,
            known: HashMap::new(),
        }
    }

    /// Adds the moves of a pair of regions, which is so much of everything.
    fn add(&mut self, moves: &mut Moves, from: u32, to: u32, share: f64) {
        let orders = (self.from.order(from), self.to.order(to));
        let joint = match self.known.get(&orders) {
            Some(known) => Rc::clone(known),
            None => {
                let joint = Rc::new(self.joint(orders));
                self.known.insert(orders, Rc::clone(&joint));
                joint
            }
        };
        for (&pair, part) in joint.iter() {
            *moves.entry(pair).or_default() += share * part;
        }
    }

    /// Who draws a slot draws the same one on both sides.
    fn joint(&self, (from, to): (Order, Order)) -> Moves {
        let drawn = |side: Side<'_>| side.row().flags & abi::Pool::GROUPS != 0;
        let slots = match drawn(self.from) || drawn(self.to) {
            true => abi::SLOTS,
            false => 1,
        };
        let mut moves = Moves::new();
        for slot in 0..slots {
            let pair = (self.from.first(from, slot), self.to.first(to, slot));
            *moves.entry(pair).or_default() += 1.0 / f64::from(slots);
        }
        moves
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::net::IpAddr;

    use ipnet::IpNet;
    use proptest::prelude::*;

    use super::super::tests::{compile, config, layer, prefix};
    use super::*;
    use crate::geo::Layers;

    fn side(plan: &Plan) -> Side<'_> {
        Side {
            plan,
            pool: 0,
            in_service: 0b1111,
        }
    }

    fn plan(default: u8, prefixes: &BTreeMap<IpNet, u8>) -> Plan {
        let base = layer(prefixes);
        let layers = Layers {
            base,
            ..Layers::default()
        };
        compile(&config(&[default]), &[layers])
    }

    /// Between two of these addresses nothing changes: one of each piece, and its share.
    fn pieces(prefixes: impl Iterator<Item = IpNet>) -> Vec<(IpAddr, f64)> {
        let mut starts = vec![0u64];
        for net in prefixes {
            if let IpNet::V4(net) = net {
                starts.push(net.network().to_bits().into());
                starts.push(u64::from(net.broadcast().to_bits()) + 1);
            }
        }
        starts.push(1 << 32);
        starts.sort_unstable();
        starts.dedup();
        let pieces = starts.windows(2).map(|pair| {
            let first = IpAddr::V4((pair[0] as u32).into());
            (first, (pair[1] - pair[0]) as f64 / f64::from(2).powi(32))
        });
        pieces.collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn the_walk_finds_what_asking_for_each_piece_does(
            old in prop::collection::btree_map(prefix(), 0..4u8, 0..24),
            new in prop::collection::btree_map(prefix(), 0..4u8, 0..24),
            defaults in (0..4u8, 0..4u8),
        ) {
            let (from, to) = (plan(defaults.0, &old), plan(defaults.1, &new));
            let moves = by_addresses(side(&from), side(&to), Family::V4);
            let mut naive = Moves::new();
            for (address, share) in pieces(old.keys().chain(new.keys()).copied()) {
                let first = |plan: &Plan| {
                    let selection = plan.select(0, Family::V4, address);
                    selection.mirrors.first().copied()
                };
                *naive.entry((first(&from), first(&to))).or_default() += share;
            }
            prop_assert_eq!(moves.keys().collect::<Vec<_>>(), naive.keys().collect::<Vec<_>>());
            for (pair, share) in &moves {
                prop_assert!((share - naive[pair]).abs() < 1e-12, "{:?}: {}", pair, share);
            }
            for clients in [Family::V4, Family::V6] {
                let sum: f64 = by_addresses(side(&from), side(&to), clients).values().sum();
                prop_assert!((sum - 1.0).abs() < 1e-9, "{}", sum);
            }
        }
    }

    #[test]
    fn of_ipv6_what_is_assigned_counts() {
        let list = |mirror| BTreeMap::from([("2600::/16".parse().unwrap(), mirror)]);
        let (from, to) = (plan(0, &list(1)), plan(0, &list(2)));
        let moves = by_addresses(side(&from), side(&to), Family::V6);
        let moved = moves[&(Some(1), Some(2))];
        // 6to4 and Teredo are left out.
        assert!((moved - 1.0 / 8191.0).abs() < 1e-8, "{moves:?}");
        assert_eq!(moves.len(), 2);
    }

    #[test]
    fn who_is_out_of_service_is_out_on_both_sides() {
        let list = BTreeMap::from([("0.0.0.0/1".parse().unwrap(), 1)]);
        let (from, to) = (plan(0, &list), plan(0, &BTreeMap::new()));
        let without = |in_service| {
            let of = |plan| Side {
                in_service,
                ..side(plan)
            };
            by_addresses(of(&from), of(&to), Family::V4)
        };
        assert_eq!(without(0b1111)[&(Some(1), Some(0))], 0.5);
        assert_eq!(without(0b1101), Moves::from([((Some(0), Some(0)), 1.0)]));
    }

    #[test]
    fn clients_are_counted_one_by_one() {
        let list = BTreeMap::from([("10.0.0.0/8".parse().unwrap(), 3)]);
        let (from, to) = (plan(0, &list), plan(0, &BTreeMap::new()));
        let clients = ["10.0.0.1", "10.0.0.2", "11.0.0.1", "2001:db9::1"];
        let clients = clients.map(|client| client.parse().unwrap());
        let moves = by_clients(side(&from), side(&to), clients.into_iter());
        assert_eq!(moves[&(Some(3), Some(0))], 0.5);
        assert_eq!(moves[&(Some(0), Some(0))], 0.5);
    }
}

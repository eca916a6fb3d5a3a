//! Clients that a new plan would move: two pools' prefix tables, walked side by side.
//!
//! Alike blocks are one block, and a pair of them is walked once, however often it stands in the two
//! tables: the walk costs what the tables hold, not what the address space does.
//!
//! The rows say which pool answers (the pool itself or its fallback), and which of its mirrors are in service for
//! the share of the clients that a client is in.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::rc::Rc;

use geodns_common::abi::{self, Block, Entry, Family, MAX_MIRRORS, NO_ATLAS, Order, SHARES, SLOTS};
use geodns_common::tables;
use hashbrown::HashMap;

use super::Plan;
use crate::geo::Prefix;

/// Shares of clients, 0 to 1, by the first mirror of their answers on each side: numbers in the pools
/// that answer ([`answering`]); `None` where none does (SERVFAIL). They add up to 1, unless there are no
/// clients at all.
pub type Moves = BTreeMap<(Option<u8>, Option<u8>), f64>;

/// A plan and what may come after it.
pub struct Comparison<'a> {
    from: &'a Plan,
    to: &'a Plan,
    walk: Walk<'a>,
    /// Regions by the atlases that were walked, one of each plan, and the clients' family.
    walked: HashMap<(u32, u32, Family), Rc<Regions>>,
}

/// The pool that answers the queries of a pool: itself, or its fallback. Of queries for A records, or
/// for AAAA where the pool has none.
pub fn answering(plan: &Plan, pool: usize) -> usize {
    Side::of(plan, pool).pool
}

impl<'a> Comparison<'a> {
    /// Nothing is compared yet.
    pub fn new(from: &'a Plan, to: &'a Plan) -> Self {
        Self {
            from,
            to,
            walk: Walk {
                from: from.blocks(),
                to: to.blocks(),
                known: HashMap::new(),
            },
            walked: HashMap::new(),
        }
    }

    /// The moves from a pool of the one plan to a pool of the other, by share of the address space: all
    /// of IPv4, or the assigned part of IPv6 (2000::/3). Left out are addresses that are looked up as
    /// IPv4 (6to4, Teredo), and the /64s that longer prefixes than that are set in.
    pub fn by_addresses(&mut self, from: usize, to: usize, clients: Family) -> Moves {
        let mut joint = self.joint(from, to);
        let regions = self.regions(joint.from, joint.to, clients);
        // What is left out counts for nobody.
        let total: f64 = regions.values().sum();
        let mut moves = Moves::new();
        for (&(from, to), share) in regions.iter() {
            let orders = (joint.from.order(from), joint.to.order(to));
            joint.add(&mut moves, orders, share / total);
        }
        moves
    }

    /// The moves of the clients that have these addresses.
    pub fn by_clients(
        &self,
        from: usize,
        to: usize,
        clients: impl ExactSizeIterator<Item = IpAddr>,
    ) -> Moves {
        let share = 1.0 / clients.len() as f64;
        let mut joint = self.joint(from, to);
        let mut moves = Moves::new();
        for client in clients {
            let host = Prefix::host(client);
            let order = |side: Side<'_>| side.plan.order(side.pool, side.family, host).0;
            let orders = (order(joint.from), order(joint.to));
            if joint.is_random() {
                joint.add(&mut moves, orders, share);
            } else {
                let draw = |side: Side<'_>| {
                    tables::draw(side.plan, side.row(), host.family, &host.address())
                };
                let from = joint.from.first(orders.0, draw(joint.from));
                let to = joint.to.first(orders.1, draw(joint.to));
                *moves.entry((from, to)).or_default() += share;
            }
        }
        moves
    }

    fn joint(&self, from: usize, to: usize) -> Joint<'a> {
        Joint::new(Side::of(self.from, from), Side::of(self.to, to))
    }

    fn regions(&mut self, from: Side<'a>, to: Side<'a>, clients: Family) -> Rc<Regions> {
        let atlases = (from.atlas(), to.atlas(), clients);
        if let Some(known) = self.walked.get(&atlases) {
            return Rc::clone(known);
        }
        let (from_root, to_root) = (from.root(clients), to.root(clients));
        let places = match clients {
            Family::V4 => 0..1 << 16,
            Family::V6 => 0x2000..0x4000,
        };
        let mut regions = Regions::default();
        for place in places {
            let pair = (from_root.entry(place), to_root.entry(place));
            self.walk.add(&mut regions, pair, 1.0);
        }
        let regions = Rc::new(regions);
        self.walked.insert(atlases, Rc::clone(&regions));
        regions
    }
}

/// A pool that answers, in a plan.
#[derive(Clone, Copy)]
struct Side<'a> {
    plan: &'a Plan,
    pool: usize,
    /// Family of the records that are looked at.
    family: Family,
}

impl<'a> Side<'a> {
    /// A pool of a plan, with IPv4 if it has such addresses, else IPv6.
    fn of(plan: &'a Plan, pool: usize) -> Self {
        let row = &plan.pools()[pool];
        let family = match row.has[0] {
            0 => Family::V6,
            _ => Family::V4,
        };
        Self {
            plan,
            pool: tables::answered_by(row, family) as usize,
            family,
        }
    }

    fn row(&self) -> &'a abi::Pool {
        &self.plan.pools()[self.pool]
    }

    fn atlas(&self) -> u32 {
        self.row().atlas.load() as u32
    }

    /// The root of the pool's atlas for clients of a family.
    fn root(&self, clients: Family) -> Root<'a> {
        let atlas = self.atlas();
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

    /// Masks of the mirrors in service, by share.
    fn in_service(&self) -> &'a [abi::Row; SHARES] {
        &self.row().in_service[self.family.index()]
    }

    /// The first mirror of an answer; `None`: SERVFAIL.
    fn first(&self, order: Order, draw: u32) -> Option<u8> {
        let mut chosen = [0; MAX_MIRRORS];
        let row = self.row();
        let found = tables::choose(self.plan, row, self.family, order, draw, &mut chosen)?;
        (found > 0).then_some(chosen[0] as u8)
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

/// The content of a pair of blocks: regions on each side, and their share of it.
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

/// The first mirrors of two orders, by share of what is drawn.
struct Joint<'a> {
    from: Side<'a>,
    to: Side<'a>,
    /// One of the shares of clients that have the same mirrors in service, on each side, and how many
    /// those are.
    shares: Vec<(usize, u32)>,
    known: HashMap<(Order, Order), Rc<Moves>>,
}

impl<'a> Joint<'a> {
    fn new(from: Side<'a>, to: Side<'a>) -> Self {
        let mut shares: BTreeMap<[u64; 2], (usize, u32)> = BTreeMap::new();
        let rows = from.in_service().iter().zip(to.in_service());
        for (share, (from, to)) in rows.enumerate() {
            let alike = shares.entry([from.load(), to.load()]);
            alike.or_insert((share, 0)).1 += 1;
        }
        Self {
            from,
            to,
            shares: shares.into_values().collect(),
            known: HashMap::new(),
        }
    }

    /// Whether a side draws for each query anew.
    fn is_random(&self) -> bool {
        let random = |side: Side<'_>| side.row().flags & abi::Pool::RANDOM != 0;
        random(self.from) || random(self.to)
    }

    /// Adds the moves of a pair of orders, which is so much of everything.
    fn add(&mut self, moves: &mut Moves, orders: (Order, Order), share: f64) {
        let joint = match self.known.get(&orders) {
            Some(known) => Rc::clone(known),
            None => {
                let joint = Rc::new(self.moves(orders));
                self.known.insert(orders, Rc::clone(&joint));
                joint
            }
        };
        for (&pair, part) in joint.iter() {
            *moves.entry(pair).or_default() += share * part;
        }
    }

    /// The moves between two orders. A client that draws a mirror draws the same slot on both sides.
    fn moves(&self, (from, to): (Order, Order)) -> Moves {
        let is_group = |member: u8| usize::from(member) & MAX_MIRRORS != 0;
        let slots = match from.iter().chain(to.iter()).any(is_group) {
            true => SLOTS,
            false => 1,
        };
        let mut moves = Moves::new();
        for &(share, alike) in &self.shares {
            let part = f64::from(alike) / SHARES as f64 / f64::from(slots);
            for slot in 0..slots {
                let draw = tables::drawn(share, slot);
                let pair = (self.from.first(from, draw), self.to.first(to, draw));
                *moves.entry(pair).or_default() += part;
            }
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
    use crate::config::{Choice, Group, Policy};
    use crate::geo::Layers;
    use crate::steering::Service;

    const BOTH: [Family; 2] = [Family::V4, Family::V6];

    /// Pool 0 has this default and these prefixes; pool 1 answers with mirror 3.
    fn plan(default: u8, prefixes: &BTreeMap<IpNet, u8>) -> Plan {
        let layers = Layers {
            base: layer(prefixes),
            ..Layers::default()
        };
        compile(&config(&[default, 3]), &[layers, Layers::default()])
    }

    /// Puts mirrors of a pool in service, by share, for both families; and the pool that answers.
    fn serve(plan: &mut Plan, pool: usize, in_service: [u64; SHARES], answered_by: u64) {
        let service = Service {
            in_service: [in_service; 2],
            spare: [0; 2],
            ttl: 60,
            panic: [false; 2],
        };
        plan.set_service(pool, &service, answered_by | answered_by << 32);
    }

    fn by_addresses(from: &Plan, to: &Plan, clients: Family) -> Moves {
        Comparison::new(from, to).by_addresses(0, 0, clients)
    }

    fn first(plan: &Plan, client: IpAddr) -> Option<u8> {
        let selection = plan.select(0, Family::V4, client);
        selection.mirrors.first().copied()
    }

    /// The mirrors in service on a side, by share, and whether the other pool answers when none is.
    fn service() -> impl Strategy<Value = ([u64; SHARES], bool)> {
        // A mirror that is not there before a share and is from it on, as in a drain; or the other way.
        let ramp = (0..16u64, 0..16u64, 0..=SHARES);
        let masks = ramp.prop_map(|(before, after, at)| {
            std::array::from_fn(|share| if share < at { before } else { after })
        });
        let none = Just([0; SHARES]);
        (prop_oneof![4 => masks, 1 => none], any::<bool>())
    }

    /// Puts that in force; or a part of the clients alone counts, and all are of it.
    fn put((in_service, fallback): ([u64; SHARES], bool), of: Option<usize>, plan: &mut Plan) {
        let masks = of.map_or(in_service, |share| [in_service[share]; SHARES]);
        let out = in_service == [0; SHARES];
        serve(plan, 0, masks, u64::from(out && fallback));
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
            services in (service(), service()),
        ) {
            let (mut from, mut to) = (plan(defaults.0, &old), plan(defaults.1, &new));
            let pieces = pieces(old.keys().chain(new.keys()).copied());
            let mut naive = Moves::new();
            for part in 0..SHARES {
                put(services.0, Some(part), &mut from);
                put(services.1, Some(part), &mut to);
                for &(address, share) in &pieces {
                    let pair = (first(&from, address), first(&to, address));
                    *naive.entry(pair).or_default() += share / SHARES as f64;
                }
            }
            put(services.0, None, &mut from);
            put(services.1, None, &mut to);
            let moves = by_addresses(&from, &to, Family::V4);
            prop_assert_eq!(moves.keys().collect::<Vec<_>>(), naive.keys().collect::<Vec<_>>());
            for (pair, share) in &moves {
                prop_assert!((share - naive[pair]).abs() < 1e-12, "{:?}: {}", pair, share);
            }
            for clients in BOTH {
                let sum: f64 = by_addresses(&from, &to, clients).values().sum();
                prop_assert!((sum - 1.0).abs() < 1e-9, "{}", sum);
            }
            // Client by client.
            let mut naive = Moves::new();
            for &(address, _) in &pieces {
                let pair = (first(&from, address), first(&to, address));
                *naive.entry(pair).or_default() += 1.0 / pieces.len() as f64;
            }
            let clients = pieces.iter().map(|piece| piece.0);
            let moves = Comparison::new(&from, &to).by_clients(0, 0, clients);
            prop_assert_eq!(moves.keys().collect::<Vec<_>>(), naive.keys().collect::<Vec<_>>());
            for (pair, share) in &moves {
                prop_assert!((share - naive[pair]).abs() < 1e-12, "{:?}: {}", pair, share);
            }
        }
    }

    #[test]
    fn of_ipv6_what_is_assigned_counts() {
        let list = |mirror| BTreeMap::from([("2600::/16".parse().unwrap(), mirror)]);
        let (from, to) = (plan(0, &list(1)), plan(0, &list(2)));
        let moves = by_addresses(&from, &to, Family::V6);
        let moved = moves[&(Some(1), Some(2))];
        // 6to4 and Teredo are left out.
        assert!((moved - 1.0 / 8191.0).abs() < 1e-8, "{moves:?}");
        assert_eq!(moves.len(), 2);
    }

    #[test]
    fn who_is_out_of_service_is_out_on_both_sides() {
        let list = BTreeMap::from([("0.0.0.0/1".parse().unwrap(), 1)]);
        let (mut from, mut to) = (plan(0, &list), plan(0, &BTreeMap::new()));
        let mut without = |in_service| {
            serve(&mut from, 0, in_service, 0);
            serve(&mut to, 0, in_service, 0);
            by_addresses(&from, &to, Family::V4)
        };
        assert_eq!(without([0b1111; SHARES])[&(Some(1), Some(0))], 0.5);
        let gone = without([0b1101; SHARES]);
        assert_eq!(gone, Moves::from([((Some(0), Some(0)), 1.0)]));
        // Drained for 8 shares of 32.
        let drained = without(std::array::from_fn(|share| match share {
            0..8 => 0b1101,
            _ => 0b1111,
        }));
        assert_eq!(drained[&(Some(1), Some(0))], 0.375);
        assert_eq!(drained[&(Some(0), Some(0))], 0.625);
    }

    #[test]
    fn another_pool_answers_in_a_pools_place_or_nobody_does() {
        let list = BTreeMap::from([("0.0.0.0/1".parse().unwrap(), 1)]);
        let (mut from, mut to) = (plan(0, &list), plan(0, &list));
        serve(&mut to, 0, [0; SHARES], 1);
        assert_eq!((answering(&from, 0), answering(&to, 0)), (0, 1));
        let moves = by_addresses(&from, &to, Family::V4);
        let halves = [((Some(0), Some(3)), 0.5), ((Some(1), Some(3)), 0.5)];
        assert_eq!(moves, Moves::from(halves));
        serve(&mut from, 0, [0; SHARES], 0);
        for clients in BOTH {
            let moves = by_addresses(&from, &to, clients);
            assert_eq!(moves, Moves::from([((None, Some(3)), 1.0)]));
            let moves = by_addresses(&to, &from, clients);
            assert_eq!(moves, Moves::from([((Some(3), None), 1.0)]));
        }
        let clients = ["10.0.0.1".parse().unwrap(), "2001:db9::1".parse().unwrap()];
        let moves = Comparison::new(&to, &from).by_clients(0, 0, clients.into_iter());
        assert_eq!(moves, Moves::from([((Some(3), None), 1.0)]));
    }

    /// All four mirrors by weight, with this one's changed, and the last drained for N shares.
    fn weighted(choice: Choice, weight: u32, drained: usize) -> Plan {
        let mut config = config(&[0]);
        config.mirrors[1].weight = weight;
        config.pools[0].policy = Policy::Weighted;
        config.pools[0].groups = vec![Group {
            id: "www".to_owned(),
            mirrors: vec![0, 1, 2, 3],
            policy: Policy::Weighted,
            location: None,
        }];
        config.pools[0].default = vec![Order::group(0)];
        config.pools[0].choice = choice;
        let mut plan = compile(&config, &[Layers::default()]);
        serve(
            &mut plan,
            0,
            std::array::from_fn(|share| if share < drained { 0b0111 } else { 0b1111 }),
            0,
        );
        plan
    }

    #[test]
    fn clients_move_as_addresses_do_where_they_draw() {
        let (from, to) = (
            weighted(Choice::Client, 100, 0),
            weighted(Choice::Client, 300, 8),
        );
        let expected = by_addresses(&from, &to, Family::V4);
        // What the one takes by its weight, and what the other loses: of all, and of a quarter.
        assert!(expected[&(Some(0), Some(1))] > 0.05, "{expected:?}");
        assert!(expected[&(Some(3), Some(0))] > 0.005, "{expected:?}");
        let clients = 0..1 << 16;
        let clients = clients.map(|number: u32| IpAddr::V4((number << 16).into()));
        let clients: Vec<IpAddr> = clients.collect();
        let moves = Comparison::new(&from, &to).by_clients(0, 0, clients.iter().copied());
        for (pair, share) in &expected {
            let seen = moves.get(pair).copied().unwrap_or_default();
            assert!((share - seen).abs() < 0.01, "{pair:?}: {share}, {seen}");
        }
        for client in &clients[..1000] {
            let one = [*client].into_iter();
            let moves = Comparison::new(&from, &to).by_clients(0, 0, one);
            let pair = (first(&from, *client), first(&to, *client));
            assert_eq!(moves, Moves::from([(pair, 1.0)]));
        }
    }

    #[test]
    fn who_draws_anew_for_each_query_counts_for_all_draws() {
        let (from, to) = (
            weighted(Choice::Query, 100, 0),
            weighted(Choice::Query, 300, 8),
        );
        let clients = || ["10.0.0.1".parse().unwrap()].into_iter();
        let moves = Comparison::new(&from, &to).by_clients(0, 0, clients());
        let expected = by_addresses(&from, &to, Family::V4);
        assert_eq!(moves, expected);
        let moves = Comparison::new(&from, &from).by_clients(0, 0, clients());
        assert!(moves.keys().all(|(from, to)| from == to), "{moves:?}");
        assert_eq!(moves.len(), 4);
    }

    #[test]
    fn clients_are_counted_one_by_one() {
        let list = BTreeMap::from([("10.0.0.0/8".parse().unwrap(), 3)]);
        let (from, to) = (plan(0, &list), plan(0, &BTreeMap::new()));
        let clients = ["10.0.0.1", "10.0.0.2", "11.0.0.1", "2001:db9::1"];
        let clients = clients.map(|client| client.parse().unwrap());
        let moves = Comparison::new(&from, &to).by_clients(0, 0, clients.into_iter());
        assert_eq!(moves[&(Some(3), Some(0))], 0.5);
        assert_eq!(moves[&(Some(0), Some(0))], 0.5);
    }
}

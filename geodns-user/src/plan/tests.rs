//! The table against the layers, edits against a fresh compile, and what the kernel would see
//! between two stores.
//!
//! - `geography`: pools that ask where clients are

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use domain::base::rdata::ComposeRecordData;
use domain::base::{Message, Rtype, ToName};
use domain::rdata::Soa;
use geodns_common::abi::{Order, ROOT_PAGES, Set, SetType, Target};
use geodns_common::wire;
use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::config::{Cookies, Kernel, Mirror, Mode, OnStop, Rrl, Server, Told};
use crate::geo::Layer;
use crate::publish::{Backend, Twin};
use crate::steering::Client;
use crate::world::Inputs;

mod geography;

const MIRRORS: usize = 4;

static MIRROR_LIST: LazyLock<Vec<Mirror>> = LazyLock::new(|| {
    let mirror = |n: usize| Mirror {
        v4: vec![[192, 0, 2, n as u8].into()],
        v6: vec![format!("2001:db8::{n}").parse().unwrap()],
        ..Mirror::sample(&format!("m{n}"))
    };
    (0..MIRRORS).map(mirror).collect()
});

/// A configuration of pools that each hold the same few mirrors, with these defaults.
pub(super) fn config(defaults: &[u8]) -> Config {
    Config {
        tls: None,
        web: Default::default(),
        path: PathBuf::from("geodns.toml"),
        server: Server {
            listen: None,
            port: 53,
            identity: Told::Default,
            nsid: Told::Default,
            version: Told::Default,
            site: None,
        },
        cookies: Cookies::Off,
        rrl: Rrl::default(),
        blocks: Vec::new(),
        kernel: Kernel {
            interfaces: Vec::new(),
            mode: Mode::Off,
            required: false,
            pin: PathBuf::new(),
            stale_after: Duration::from_secs(300),
            max_names: 2_000_000,
            pass_limit: 0,
            on_stop: OnStop::Detach,
            next: None,
        },
        socket: PathBuf::new(),
        group: None,
        health_feed: None,
        notify: Vec::new(),
        fleet: None,
        shared_digest: String::new(),
        quorum: crate::config::Quorum::default(),
        transfer: crate::config::Inward::default(),
        announce: None,
        public: None,
        metrics: None,
        dnstap: None,
        state: PathBuf::new(),
        databases: Vec::new(),
        keys: crate::config::Keys::default(),
        zones: Vec::new(),
        mirrors: MIRROR_LIST.clone(),
        pools: defaults.iter().map(|&default| pool(default)).collect(),
        steers: Vec::new(),
    }
}

fn pool(default: u8) -> Pool {
    Pool {
        // All of the order, so that a selection shows it.
        answers: MIRRORS as u16,
        depth: MIRRORS as u8,
        ..Pool::sample(MIRRORS, default)
    }
}

pub(super) fn compile(config: &Config, layers: &[Layers]) -> Plan {
    compile_with(config, &Arc::default(), layers)
}

fn compile_with(config: &Config, geography: &Arc<Geography>, layers: &[Layers]) -> Plan {
    let input = Input {
        config,
        zones: &Zones::default(),
        geography,
        layers,
        generation: 1,
        nsid: Some("test"),
        hash_seed: [1, 2],
    };
    Plan::compile(input).unwrap()
}

pub(super) fn layer(prefixes: &BTreeMap<IpNet, u8>) -> Arc<Layer> {
    let prefixes = prefixes.iter();
    list(
        &prefixes
            .map(|(&net, &mirror)| (net, vec![mirror]))
            .collect(),
    )
}

/// A list of these prefixes, each with an order of mirrors.
fn list(prefixes: &BTreeMap<IpNet, Vec<u8>>) -> Arc<Layer> {
    let mut layer = Layer::default();
    let prefixes = prefixes.iter().map(|(net, order)| (*net, &order[..]));
    layer.insert_all(prefixes).unwrap();
    Arc::new(layer)
}

/// The IPv4 address that is looked up in an IPv6 one's place.
fn embedded(layers: &Layers, address: IpAddr) -> Option<IpAddr> {
    if layers.base.is_empty() && layers.imported.is_empty() {
        return None;
    }
    let is_block = |block: &ipnet::Ipv6Net| IpNet::V6(*block).contains(&address);
    let blocks = [geo::SIX_TO_FOUR, geo::TEREDO];
    blocks.iter().find(|block| is_block(block))?;
    geo::embedded(address.into()).map(|net| net.addr().into())
}

/// The layers' meaning, word for word: the longest match of the highest layer that has one.
fn naive_order(pool: &Pool, layers: &Layers, address: IpAddr) -> Order {
    if let Some(v4) = embedded(layers, address) {
        return naive_order(pool, layers, v4);
    }
    let (listed, overriding) = naive_match(layers, address);
    Steering::of(pool, &MIRROR_LIST).order(&Client::default(), &listed, overriding)
}

/// Listed and overriding prefixes, word for word.
fn naive_match(layers: &Layers, address: IpAddr) -> (Vec<u8>, Option<u8>) {
    fn longest<T>(prefixes: impl Iterator<Item = (IpNet, T)>, address: IpAddr) -> Option<T> {
        let matching = prefixes.filter(|(net, _)| net.contains(&address));
        matching
            .max_by_key(|(net, _)| net.prefix_len())
            .map(|(_, value)| value)
    }
    let overrides = layers.overrides.iter().map(|(&net, &mirror)| (net, mirror));
    let of = |layer: &Layer| {
        let number = longest(layer.iter(), address)?;
        Some(layer.members(number).to_vec())
    };
    let listed = of(&layers.imported).or_else(|| of(&layers.base));
    (listed.unwrap_or_default(), longest(overrides, address))
}

/// The scope, word for word: the length of the shortest prefix around an address of which
/// every address has the same order.
fn naive_scope(pool: &Pool, layers: &Layers, address: IpAddr) -> u8 {
    if let Some(v4) = embedded(layers, address) {
        return naive_scope(pool, layers, v4) + geo::embedded_at(address.into());
    }
    let order = naive_order(pool, layers, address);
    let whole = IpNet::from(address);
    // Between these addresses nothing changes.
    let starts = |prefix: IpNet| {
        let layers = [layers.base.iter(), layers.imported.iter()];
        let overrides: Vec<_> = layers.into_iter().flatten().map(|(net, _)| net).collect();
        overrides
            .into_iter()
            .flat_map(|net| [Some(net.network()), after(net.broadcast())])
            .flatten()
            .filter(|start| prefix.contains(start))
            .collect::<Vec<_>>()
    };
    (0..=whole.prefix_len())
        .find(|&len| {
            let prefix = IpNet::new(address, len).unwrap().trunc();
            let overrides = layers.overrides.keys();
            let own = overrides
                .flat_map(|net| [Some(net.network()), after(net.broadcast())])
                .flatten()
                .filter(|start| prefix.contains(start));
            let mut points = starts(prefix);
            points.extend(own);
            points.push(prefix.network());
            for block in [geo::SIX_TO_FOUR, geo::TEREDO] {
                let first = IpAddr::V6(block.network());
                points.extend(prefix.contains(&first).then_some(first));
            }
            points.into_iter().all(|point| {
                embedded(layers, point).is_none() && naive_order(pool, layers, point) == order
            })
        })
        .expect("an address alone is of one order")
}

fn after(address: IpAddr) -> Option<IpAddr> {
    match address {
        IpAddr::V4(a) => a.to_bits().checked_add(1).map(|a| IpAddr::V4(a.into())),
        IpAddr::V6(a) => a.to_bits().checked_add(1).map(|a| IpAddr::V6(a.into())),
    }
}

fn before(address: IpAddr) -> Option<IpAddr> {
    match address {
        IpAddr::V4(a) => a.to_bits().checked_sub(1).map(|a| IpAddr::V4(a.into())),
        IpAddr::V6(a) => a.to_bits().checked_sub(1).map(|a| IpAddr::V6(a.into())),
    }
}

/// Prefixes that crowd around a few places, so that they nest, touch and repeat.
pub(super) fn prefix() -> impl Strategy<Value = IpNet> {
    let v4_lens = prop::sample::select(vec![
        0u8, 1, 2, 7, 8, 12, 15, 16, 17, 20, 23, 24, 25, 28, 30, 31, 32,
    ]);
    let v4_bases = prop::sample::select(vec![
        0u32,
        0x0a00_0000,
        0x0a00_ff00,
        0x0bff_ff00,
        0xffff_ff00,
    ]);
    let v4 = (v4_bases, any::<u32>(), 0..28u32, v4_lens).prop_map(|(base, noise, spread, len)| {
        let address = base ^ noise & ((1 << spread) - 1);
        let address = IpAddr::V4(address.into());
        IpNet::new(address, len).unwrap().trunc()
    });
    let v6_lens = prop::sample::select(vec![
        0u8, 1, 3, 15, 16, 17, 24, 31, 32, 33, 47, 48, 56, 63, 64, 65, 72, 96, 127, 128,
    ]);
    let v6_bases = prop::sample::select(vec![
        0u128,
        0x2001_0db8 << 96,
        0x2001_0db8_0000_00ff << 64,
        0x2001 << 112,
        0x2002_0a00_00ff << 80,
        0x2002_0bff_ff00 << 80,
        0x2a00_0001_0002_00ff << 64,
        u128::MAX << 64,
    ]);
    let v6 =
        (v6_bases, any::<u128>(), 0..124u32, v6_lens).prop_map(|(base, noise, spread, len)| {
            let address = base ^ noise & ((1 << spread) - 1);
            let address = IpAddr::V6(address.into());
            IpNet::new(address, len).unwrap().trunc()
        });
    prop_oneof![v4, v6]
}

fn prefixes(most: usize) -> impl Strategy<Value = BTreeMap<IpNet, u8>> {
    prop::collection::btree_map(prefix(), 0..MIRRORS as u8, 0..most)
}

/// Prefixes, each with an order of one mirror, some or all.
fn orders(most: usize) -> impl Strategy<Value = BTreeMap<IpNet, Vec<u8>>> {
    let all = (0..MIRRORS as u8).collect::<Vec<_>>();
    let order = (Just(all).prop_shuffle(), 1..=MIRRORS).prop_map(|(mut order, len)| {
        order.truncate(len);
        order
    });
    prop::collection::btree_map(prefix(), order, 0..most)
}

fn layers() -> impl Strategy<Value = Layers> {
    (orders(12), orders(6), prefixes(6)).prop_map(|(base, imported, overrides)| Layers {
        base: list(&base),
        imported: list(&imported),
        overrides,
    })
}

/// Addresses at and beside the ends of all prefixes.
fn edges<'a>(prefixes: impl IntoIterator<Item = &'a IpNet>) -> Vec<IpAddr> {
    let mut edges: Vec<_> = prefixes
        .into_iter()
        .flat_map(|net| {
            let (first, last) = (net.network(), net.broadcast());
            [before(first), Some(first), Some(last), after(last)]
        })
        .flatten()
        .collect();
    edges.extend(["0.0.0.0", "128.0.0.0", "255.255.255.255"].map(|a| a.parse::<IpAddr>().unwrap()));
    edges.extend(["::", "8000::", "2001:db8::1"].map(|a| a.parse::<IpAddr>().unwrap()));
    edges.sort_unstable();
    edges.dedup();
    edges
}

fn edges_of(layers: &Layers) -> Vec<IpAddr> {
    let listed = layers.base.iter().chain(layers.imported.iter());
    let mut all: Vec<_> = listed.map(|(net, _)| net).collect();
    all.extend(layers.overrides.keys());
    edges(&all)
}

fn selected(plan: &Plan, pool: usize, address: IpAddr) -> (Order, u8) {
    let selection = plan.select(pool, Family::V4, address);
    (
        Order::pack(selection.mirrors.iter().copied()),
        selection.scope,
    )
}

/// The row that the kernel would find; `None` where it passes.
fn looked_up(tables: &impl Tables, pool: usize, address: IpAddr) -> Option<(u64, u8)> {
    let row = tables.pool(pool as u32).unwrap();
    let host = Prefix::host(address);
    let found = tables::find_order(tables, row, Family::V4, host.family, &host.address());
    found.map(|(order, scope)| (order.0, scope))
}

/// Pool, client, and what the kernel would find.
type LookedUp = (usize, IpAddr, Option<(u64, u8)>);

/// The rows that the kernel would find for each point, in each of three pools.
fn look_up_all(tables: &impl Tables, points: &[IpAddr]) -> Vec<LookedUp> {
    (0..3)
        .flat_map(|pool| points.iter().map(move |&point| (pool, point)))
        .map(|(pool, point)| (pool, point, looked_up(tables, pool, point)))
        .collect()
}

/// Whether two entries mean the same, all the way down.
fn same(one: &impl Tables, a: Entry, other: &impl Tables, b: Entry) -> bool {
    if a == Entry::DEEPER || b == Entry::DEEPER {
        return a == b;
    }
    match (a.as_block(), b.as_block()) {
        (None, None) => {
            a.scope() == b.scope() && one.region(a.region()) == other.region(b.region())
        }
        (Some(a), Some(b)) => {
            let (a, b) = (one.block(a).unwrap(), other.block(b).unwrap());
            a.iter().zip(b).all(|(&a, &b)| same(one, a, other, b))
        }
        _ => false,
    }
}

fn assert_same_tables(one: &impl Tables, other: &impl Tables, pool: usize) {
    let atlas = |tables: &dyn Fn(u32) -> u64| tables(pool as u32) as u32;
    let a = atlas(&|pool| one.pool(pool).unwrap().atlas.load());
    let b = atlas(&|pool| other.pool(pool).unwrap().atlas.load());
    for family in [Family::V4, Family::V6] {
        for page in 0..ROOT_PAGES {
            let a = one.root(abi::root(a, family) + page).unwrap();
            let b = other.root(abi::root(b, family) + page).unwrap();
            for (at, (&a, &b)) in a.iter().zip(b).enumerate() {
                assert!(same(one, a, other, b), "pool {pool} {family:?} {page}.{at}");
            }
        }
    }
}

/// One edit: which pools (`None`: all in turn), where, what.
type Edit = (Option<usize>, IpNet, Option<u8>);

fn edits(most: usize) -> impl Strategy<Value = Vec<Edit>> {
    let mirror = prop::option::weighted(0.7, 0..MIRRORS as u8);
    vec((prop::option::of(0..3usize), prefix(), mirror), 1..most)
}

/// Edits of three pools give what a fresh compile gives, and what was before or is after at every
/// moment.
fn check_edits(
    config: &Config,
    geography: &Arc<Geography>,
    mut layers: Vec<Layers>,
    edits: &[Edit],
) -> Result<(), TestCaseError> {
    let mut plan = compile_with(config, geography, &layers);
    let mut twin = Twin::load(&plan);
    let mut points: Vec<_> = layers.iter().flat_map(edges_of).collect();
    points.extend(edges(edits.iter().map(|(_, prefix, _)| prefix)));
    for &(only, prefix, mirror) in edits {
        for (pool, layers) in layers.iter_mut().enumerate() {
            if only.is_some_and(|only| only != pool) {
                continue;
            }
            put(layers, prefix, mirror);
            // Of every pool: an edit of one must not show in another.
            let old = look_up_all(&twin, &points);
            let stores = plan.set_override(pool, prefix, mirror).unwrap();
            let new = look_up_all(&plan, &points);
            // Of a long row of stores that differ in their place alone, a few will do.
            let step = stores.len() / 8 + 1;
            for (number, store) in stores.iter().enumerate() {
                twin.apply(std::slice::from_ref(store)).unwrap();
                if number % step != 0 && number + 8 < stores.len() {
                    continue;
                }
                let now = look_up_all(&twin, &points);
                for (now, (old, new)) in now.iter().zip(old.iter().zip(&new)) {
                    prop_assert!(
                        now == old || now == new,
                        "{now:?} is neither {old:?} nor {new:?}"
                    );
                }
            }
            prop_assert_eq!(look_up_all(&twin, &points), new);
        }
        twin.grace().unwrap();
        plan.reclaim();
    }
    let fresh = compile_with(config, geography, &layers);
    for (pool, layers) in layers.iter().enumerate() {
        prop_assert_eq!(plan.layers(pool), layers);
        assert_same_tables(&plan, &fresh, pool);
        assert_same_tables(&twin, &fresh, pool);
        for &point in &points {
            prop_assert_eq!(selected(&plan, pool, point), selected(&fresh, pool, point));
        }
    }
    prop_assert_eq!(plan.blocks.used(), fresh.blocks.used());
    let atlases = |plan: &Plan| plan.atlases.atlases.iter().flatten().count();
    prop_assert_eq!(atlases(&plan), atlases(&fresh));
    Ok(())
}

/// While edits of a pool are made, no scope covers addresses of another region.
fn check_scopes(
    config: &Config,
    geography: &Arc<Geography>,
    layers: Layers,
    edits: &[(IpNet, Option<u8>)],
) -> Result<(), TestCaseError> {
    let mut plan = compile_with(config, geography, std::slice::from_ref(&layers));
    let mut twin = Twin::load(&plan);
    let mut points = edges_of(&layers);
    points.extend(edges(edits.iter().map(|(prefix, _)| prefix)));
    points.sort_unstable();
    points.dedup();
    for &(prefix, mirror) in edits {
        // One that takes several entries of a root cannot be seen all at once.
        if prefix.prefix_len() < 16 {
            continue;
        }
        let stores = plan.set_override(0, prefix, mirror).unwrap();
        let step = stores.len() / 4 + 1;
        for (number, store) in stores.iter().enumerate() {
            twin.apply(std::slice::from_ref(store)).unwrap();
            if number % step != 0 && number + 3 < stores.len() {
                continue;
            }
            let seen: Vec<_> = points
                .iter()
                .filter_map(|&point| Some((point, looked_up(&twin, 0, point)?)))
                .collect();
            for &(point, (order, scope)) in &seen {
                let net = IpNet::new(point, scope).unwrap();
                for &(other, (other_order, _)) in &seen {
                    prop_assert!(
                        !net.contains(&other) || order == other_order,
                        "{} says {} but {} is of another region",
                        point,
                        net.trunc(),
                        other
                    );
                }
            }
        }
        plan.reclaim();
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn the_table_says_what_the_layers_say(layers in layers(), default in 0..MIRRORS as u8) {
        let config = config(&[default]);
        let plan = compile(&config, std::slice::from_ref(&layers));
        for address in edges_of(&layers) {
            let expected = (
                naive_order(&config.pools[0], &layers, address),
                naive_scope(&config.pools[0], &layers, address),
            );
            prop_assert_eq!(selected(&plan, 0, address), expected, "{}", address);
        }
    }

    // Invariant 3
    // Invariant 4
    #[test]
    fn edits_give_what_a_fresh_compile_gives_and_old_or_new_at_every_moment(
        layers in layers(),
        other_list in prefixes(4),
        edits in edits(8),
    ) {
        // Two pools that share an atlas, and one of its own.
        let config = config(&[0, 0, 1]);
        let apart = Layers { base: layer(&other_list), ..Layers::default() };
        check_edits(&config, &Arc::default(), vec![layers.clone(), layers, apart], &edits)?;
    }

    // Invariant 9
    #[test]
    fn no_scope_ever_covers_another_region(
        layers in layers(),
        edits in vec((prefix(), prop::option::weighted(0.6, 0..MIRRORS as u8)), 1..6),
    ) {
        check_scopes(&config(&[0]), &Arc::default(), layers, &edits)?;
    }

    #[test]
    fn an_edit_undone_leaves_nothing_behind(layers in layers(), edit in (prefix(), 0..MIRRORS as u8)) {
        let config = config(&[0, 0]);
        let all = [layers.clone(), layers.clone()];
        let mut plan = compile(&config, &all);
        let used = plan.blocks.used();
        let (prefix, mirror) = edit;
        let before = layers.overrides.get(&prefix).copied();
        plan.set_override(1, prefix, Some(mirror)).unwrap();
        plan.set_override(1, prefix, before).unwrap();
        plan.reclaim();
        prop_assert_eq!(plan.blocks.used(), used);
        prop_assert_eq!(plan.atlases.atlases.iter().flatten().count(), 1);
        prop_assert_eq!(plan.layers(1), &layers);
    }
}

/// Disjoint prefixes as a city database gives them: neighbours mostly of one mirror, lengths from
/// /12 to /24 and now and then longer.
fn city_list(count: usize) -> Layer {
    let mut state = 1u64;
    let mut random = move |below: u64| {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1);
        (state >> 33) % below
    };
    let mut layer = Layer::default();
    let mut at = 0x0100_0000u64;
    let mut mirror = 0;
    while layer.v4.len() < count && at < 0xe000_0000 {
        let len = match random(100) {
            0 => 28 + random(5),
            1..=3 => 16 + random(4),
            _ => 20 + random(5),
        };
        let size = 1 << (32 - len);
        at = at.next_multiple_of(size);
        if random(3) == 0 {
            mirror = random(MIRRORS as u64) as u8;
        }
        layer.v4.push((at as u32, len as u8, mirror.into()));
        at += size;
    }
    layer
}

#[test]
fn an_edit_writes_a_few_blocks_and_only_the_entries_whose_scope_it_moves() {
    let config = config(&[0]);
    let layers = Layers {
        base: Arc::new(city_list(100_000)),
        ..Layers::default()
    };
    assert!(layers.base.len() >= 100_000);
    let mut plan = compile(&config, std::slice::from_ref(&layers));
    let mut worst = 0;
    for n in 0..500usize {
        let (first, len, mirror) = layers.base.v4[n * 199];
        let prefix = IpNet::new(IpAddr::V4(first.into()), len.max(20)).unwrap();
        let stores = plan
            .set_override(0, prefix, Some((mirror as u8 + 1) % MIRRORS as u8))
            .unwrap();
        let blocks = |store: &&Store| matches!(store, Store::Block { .. });
        assert!(stores.iter().filter(blocks).count() <= 5, "{prefix}");
        worst = worst.max(stores.len());
        if n % 2 == 0 {
            plan.set_override(0, prefix, None).unwrap();
        }
        plan.reclaim();
    }
    assert!(worst <= 20, "{worst} stores");
}

// Invariant 4
#[test]
fn a_small_prefix_in_a_large_region_narrows_its_neighbours_first() {
    let config = config(&[0]);
    let mut plan = compile(&config, &[Layers::default()]);
    let client = |address: &str| address.parse::<IpAddr>().unwrap();
    assert_eq!(selected(&plan, 0, client("192.0.2.1")).1, 0);
    let prefix: IpNet = "192.0.2.0/24".parse().unwrap();
    let stores = plan.set_override(0, prefix, Some(2)).unwrap();
    let Some(Store::RootEntry { index, at, .. }) = stores.last() else {
        panic!("{:?}", stores.last());
    };
    assert_eq!((*index, *at), (192, 0));
    // Everything but 192.0/16 is narrowed, and that is one block.
    let entries = |store: &&Store| matches!(store, Store::RootEntry { .. });
    assert_eq!(stores.iter().filter(entries).count(), 65_536);
    assert_eq!(selected(&plan, 0, client("192.0.2.1")).1, 24);
    assert_eq!(selected(&plan, 0, client("192.0.3.1")).1, 24);
    assert_eq!(selected(&plan, 0, client("1.1.1.1")).1, 1);
    assert_eq!(selected(&plan, 0, client("2001:db8::1")).1, 0);
    let stores = plan.set_override(0, prefix, None).unwrap();
    let Some(Store::RootEntry { index, at, .. }) = stores.first() else {
        panic!("{:?}", stores.first());
    };
    assert_eq!((*index, *at), (192, 0));
    assert_eq!(selected(&plan, 0, client("1.1.1.1")).1, 0);
}

#[test]
fn outgrown_tables_change_nothing() {
    let config = config(&[0, 0]);
    let layers = vec![Layers::default(); 2];
    let mut plan = compile(&config, &layers);
    plan.blocks.set_capacity(5);
    let twin = Twin::load(&plan);
    let prefix = |text: &str| text.parse::<IpNet>().unwrap();
    for (pool, text) in [(0, "2001:db8::/64"), (1, "2001:db8:0:1::/80")] {
        let edit = plan.set_override(pool, prefix(text), Some(1));
        assert!(matches!(edit, Err(EditError::Outgrown)), "{text}");
        assert!(plan.layers(pool).overrides.is_empty());
        assert_eq!(plan.blocks.used(), 0);
        assert_eq!(plan.regions(), twin_regions(&plan, &twin));
        assert_same_tables(&plan, &twin, pool);
    }
    // What fits still goes in.
    plan.set_override(0, prefix("192.0.2.0/24"), Some(1))
        .unwrap();
    assert_eq!(plan.blocks.used(), 2);
}

fn twin_regions(plan: &Plan, twin: &Twin) -> Vec<u64> {
    let regions = 0..plan.regions().len() as u32;
    regions.map(|region| twin.region(region).unwrap()).collect()
}

#[test]
fn pools_part_when_one_is_edited_and_join_when_they_are_alike_again() {
    let config = config(&[0, 0, 0]);
    let mut plan = compile(&config, &vec![Layers::default(); 3]);
    let atlas_of = |plan: &Plan, pool: u32| plan.pool(pool).unwrap().atlas.load();
    assert_eq!(plan.capacity().roots, 3 * 512);
    let prefix: IpNet = "198.51.100.0/24".parse().unwrap();
    // More rounds than there are spare roots: they come back.
    for _ in 0..5 {
        for pool in 0..3 {
            plan.set_override(pool, prefix, Some(1)).unwrap();
        }
        assert_eq!(atlas_of(&plan, 0), atlas_of(&plan, 1));
        assert_eq!(atlas_of(&plan, 0), atlas_of(&plan, 2));
        plan.reclaim();
        plan.set_override(1, prefix, None).unwrap();
        assert_ne!(atlas_of(&plan, 0), atlas_of(&plan, 1));
        plan.set_override(0, prefix, None).unwrap();
        plan.set_override(2, prefix, None).unwrap();
        assert_eq!(atlas_of(&plan, 0), atlas_of(&plan, 1));
        plan.reclaim();
    }
    assert_eq!(plan.blocks.used(), 0);
    assert_eq!(plan.atlases.atlases.iter().flatten().count(), 1);
}

#[test]
fn what_decided_is_the_highest_layer_that_matches() {
    let list = |text: &str, mirror: u8| layer(&BTreeMap::from([(text.parse().unwrap(), mirror)]));
    let layers = Layers {
        base: list("10.0.0.0/24", 1),
        imported: list("10.0.0.0/16", 2),
        overrides: BTreeMap::from([("10.0.0.0/8".parse().unwrap(), 3)]),
    };
    let plan = compile(&config(&[0]), &[layers]);
    let origin = plan.origin(0, "10.0.0.1".parse().unwrap());
    assert_eq!(origin.overriding, Some(("10.0.0.0/8".parse().unwrap(), 3)));
    assert_eq!(
        origin.listed,
        Some(("10.0.0.0/16".parse().unwrap(), vec![2]))
    );
    assert!(origin.imported);
    let selection = plan.select(0, Family::V4, "10.0.0.1".parse().unwrap());
    assert_eq!(selection.mirrors[..], [3, 2, 0, 1]);
    let nothing = plan.origin(0, "11.0.0.1".parse().unwrap());
    assert_eq!((nothing.overriding, nothing.listed), (None, None));
}

/// A world on disk, read and compiled as the daemon does it.
fn world(toml: &str, zones: &[(&str, &str)]) -> (Inputs, Plan) {
    let folder = tempfile::tempdir().unwrap();
    for (file, text) in zones {
        std::fs::write(folder.path().join(file), text).unwrap();
    }
    let path = folder.path().join("geodns.toml");
    std::fs::write(&path, toml).unwrap();
    let inputs = Inputs::read(&path).unwrap();
    let layers: Vec<_> = inputs
        .lists
        .iter()
        .map(|list| Layers {
            base: list.clone(),
            ..Layers::default()
        })
        .collect();
    let plan = Plan::compile(Input {
        config: &inputs.config,
        zones: &inputs.zones,
        geography: &inputs.geography,
        layers: &layers,
        generation: 7,
        nsid: Some("test"),
        hash_seed: [3, 4],
    });
    (inputs, plan.unwrap())
}

#[test]
fn each_of_many_nets_may_have_an_order_of_its_own() {
    // As a real configuration has it: 783 nets, 699 of them with other second choices than their neighbours.
    const NETS: usize = 783;
    let mut mirrors: Vec<usize> = (0..12).collect();
    let nets: Vec<(String, Vec<usize>)> = (0..NETS)
        .map(|net| {
            // Each order differs from all others in its first eight.
            let first = net % 12;
            mirrors.rotate_left(1 + net / 12 % 11);
            mirrors.swap(3, 4 + net % 7);
            let rest = mirrors.iter().copied().filter(|&mirror| mirror != first);
            let order = std::iter::once(first).chain(rest).collect();
            let text = match net % 5 {
                0 => format!("2001:db8:{net:x}::/48"),
                _ => format!("10.{}.{}.0/24", net / 256, net % 256),
            };
            (text, order)
        })
        .collect();
    let ids = |order: &[usize], separator: &str| {
        let ids: Vec<_> = order.iter().map(|mirror| format!("m{mirror}")).collect();
        ids.join(separator)
    };
    let mut toml = String::from("[[zone]]\nname = \"example.org\"\nfile = \"example.org.zone\"\n");
    for mirror in 0..12 {
        toml += &format!("[[mirror]]\nid = \"m{mirror}\"\naddresses = [\"192.0.2.1{mirror}\"]\n");
    }
    let all: Vec<usize> = (0..12).collect();
    let all = ids(&all, "\", \"");
    let pool = format!("mirrors = [\"{all}\"]\ndefault = \"m0\"\ndepth = 8\n");
    toml += &format!(
        "[[pool]]\nid = \"listed\"\npolicy = \"geo\"\n{pool}prefixes = \"nets.csv\"\n[[pool]]\n\
         id = \"ruled\"\npolicy = \"geo\"\n{pool}rules = [\n"
    );
    let mut csv = String::from("prefix,mirror,mirror\n");
    for (net, order) in &nets {
        toml += &format!(
            "  {{ prefix = \"{net}\", mirrors = [\"{}\"] }},\n",
            ids(order, "\", \"")
        );
        csv += &format!("{net},{}\n", ids(order, ","));
    }
    toml += "]\n";
    let zone =
        "@ 60 IN SOA ns1 hostmaster 1 1h 15m 1w 1m\n@ 60 IN NS ns1\nns1 60 IN A 192.0.2.53\n";
    let (_, plan) = world(&toml, &[("nets.csv", &csv), ("example.org.zone", zone)]);
    // Alike, and one prefix table for both.
    assert_eq!(plan.atlases().len(), 1);
    let mut orders = std::collections::HashSet::new();
    for (net, order) in &nets {
        let net: IpNet = net.parse().unwrap();
        let expected: Vec<u8> = order[..8].iter().map(|&mirror| mirror as u8).collect();
        let (found, _) = plan.order(1, Family::V4, Prefix::host(net.broadcast()));
        assert_eq!(found.iter().collect::<Vec<_>>(), expected, "{net}");
        orders.insert(expected);
    }
    assert!(orders.len() > 700, "{}", orders.len());
}

const TOML: &str = r#"
[server]
listen = ["192.0.2.53"]
[kernel]
interfaces = ["eth0"]
[[zone]]
name = "example.org"
file = "example.org.zone"
[[zone]]
name = "own.example.org"
file = "own.zone"
[[mirror]]
id = "ams"
addresses = ["192.0.2.10", "2001:db8:1::10"]
[[mirror]]
id = "iad"
addresses = ["192.0.2.20"]
[[mirror]]
id = "big"
addresses = ["192.0.2.31", "192.0.2.32", "192.0.2.33", "192.0.2.34", "192.0.2.35", "192.0.2.36", "192.0.2.37", "192.0.2.38"]
[[pool]]
id = "www"
mirrors = ["ams", "iad"]
policy = "table"
default = "iad"
prefixes = "world.csv"
ttl = 60
[[pool]]
id = "every"
mirrors = ["big", "ams", "iad"]
policy = "all"
ttl = 30
[[steer]]
name = "www.example.org"
pool = "www"
[[steer]]
name = "*.cdn.example.org"
pool = "every"
[[steer]]
name = "own.example.org"
pool = "www"
"#;

const ZONE: &str = "\
$ORIGIN example.org.
$TTL 3600
@ IN SOA ns1 hostmaster 1 7200 3600 1209600 300
@ IN NS ns1
ns1 IN A 192.0.2.1
mail IN A 192.0.2.2
a.b.c IN TXT \"deep\"
*.wild IN TXT \"plain\"
sub IN NS ns.sub
ns.sub IN A 192.0.2.3
*.sub IN A 192.0.2.4
own IN NS ns.own
ns.own IN A 192.0.2.5
";

const OWN: &str = "\
$ORIGIN own.example.org.
@ 600 IN SOA ns hostmaster 1 7200 3600 1209600 900
@ 600 IN NS ns.example.net.
";

const WORLD: &str = "prefix,mirror\n10.0.0.0/8,ams\n";

fn example() -> (Inputs, Plan) {
    let files = [
        ("example.org.zone", ZONE),
        ("own.zone", OWN),
        ("world.csv", WORLD),
    ];
    world(TOML, &files)
}

fn find(plan: &Plan, name: &str) -> Option<(Target, Target)> {
    let name = crate::base::name::parse_name(name).unwrap();
    let settings = plan.settings();
    let hash = wire::hash_name(&settings.hash_key, name.as_slice());
    let found = tables::find_name(plan, settings.name_mask, hash)?;
    Some((found.exact(), found.wildcard()))
}

/// The words of a target: the pool, or the types of the set, or both.
fn stands(plan: &Plan, target: Target) -> String {
    match target {
        Target::None => String::new(),
        Target::Pass => "pass".to_owned(),
        Target::Steered { zone, pool } => format!("zone {zone} pool {pool}"),
        Target::Static { zone, set } => {
            let words = plan.shelves().as_flattened();
            let at = set as usize;
            let head = Set(words[at]);
            let mut text = format!("zone {zone}");
            if head.0 & Set::POOL != 0 {
                text += &format!(" pool {}", head.pool());
            }
            for &listed in &words[at + 1..][..head.types() as usize] {
                text += &format!(" {}", Rtype::from_int(SetType(listed).rtype()));
            }
            text
        }
    }
}

#[test]
fn every_name_stands_in_the_table_with_what_answers_it() {
    let (_, plan) = example();
    for (name, expected) in [
        ("example.org", Some(("zone 0 NS SOA", ""))),
        ("www.example.org", Some(("zone 0 pool 0", ""))),
        ("mail.example.org", Some(("zone 0 A", ""))),
        // Empty non-terminals exist.
        ("b.c.example.org", Some(("zone 0", ""))),
        ("c.example.org", Some(("zone 0", ""))),
        ("cdn.example.org", Some(("zone 0", "zone 0 pool 1"))),
        ("*.cdn.example.org", Some(("zone 0 pool 1", ""))),
        ("wild.example.org", Some(("zone 0", "zone 0 TXT"))),
        // A cut, and what is below it: nothing is answered from there.
        ("sub.example.org", Some(("pass", ""))),
        ("ns.sub.example.org", Some(("pass", ""))),
        // A zone of its own hides what the zone above has there.
        ("own.example.org", Some(("zone 1 pool 0 NS SOA", ""))),
        ("ns.own.example.org", None),
        ("absent.example.org", None),
        ("org", None),
    ] {
        let found = find(&plan, name);
        let found = found.map(|(exact, wild)| (stands(&plan, exact), stands(&plan, wild)));
        let expected = expected.map(|(exact, wild)| (exact.to_owned(), wild.to_owned()));
        assert_eq!(found, expected, "{name}");
    }
    assert_eq!(plan.settings().walk, 1);
    assert_eq!(plan.settings().generation, 7);
}

/// The example with room for N names.
fn with_names(max_names: u32) -> Result<Plan, CompileError> {
    let (inputs, _) = example();
    let mut config = Config::clone(&inputs.config);
    config.kernel.max_names = max_names;
    Plan::compile(Input {
        config: &config,
        zones: &inputs.zones,
        geography: &inputs.geography,
        layers: &inputs.layers(),
        generation: 7,
        nsid: Some("test"),
        hash_seed: [3, 4],
    })
}

#[test]
fn zones_that_are_too_large_are_there_in_part() {
    let (inputs, _) = example();
    let all: usize = inputs.zones.iter().map(|zone| zone.len()).sum();
    let complete = |plan: &Plan| -> Vec<bool> {
        let rows = plan.zones().iter();
        rows.map(|zone| zone.row.load() & abi::Zone::COMPLETE != 0)
            .collect()
    };
    let plan = with_names(all as u32).unwrap();
    assert_eq!(complete(&plan), [true, true]);
    assert_eq!(inputs.warnings(), []);
    let mut few = inputs.clone();
    Arc::make_mut(&mut few.config).kernel.max_names = all as u32 - 1;
    let warned = format!(
        "kernel.max_names: the zones have {all} names and the kernel holds {}; of zones that do \
         not fit whole, it has those that are asked most: raise it",
        all - 1
    );
    assert!(
        few.warnings()[0].to_string().ends_with(&warned),
        "{:?}",
        few.warnings()
    );
    // The first zone does not fit, the second does.
    let plan = with_names(all as u32 - 1).unwrap();
    assert_eq!(complete(&plan), [false, true]);
    for (name, expected) in [
        ("example.org", Some(("zone 0 NS SOA", ""))),
        ("www.example.org", Some(("zone 0 pool 0", ""))),
        // What is absent below it may be there after all.
        ("cdn.example.org", Some(("zone 0", "pass"))),
        ("mail.example.org", None),
        ("own.example.org", Some(("zone 1 pool 0 NS SOA", ""))),
    ] {
        let found = find(&plan, name);
        let found = found.map(|(exact, wild)| (stands(&plan, exact), stands(&plan, wild)));
        let expected = expected.map(|(exact, wild)| (exact.to_owned(), wild.to_owned()));
        assert_eq!(found, expected, "{name}");
    }
    // Both apexes, www, cdn and *.cdn.
    with_names(5).unwrap();
    let error = with_names(4).unwrap_err().to_string();
    assert_eq!(
        error,
        "5 names are steered, apexes, or between those, and kernel.max_names is 4; raise it"
    );
}

#[test]
fn a_zone_row_carries_the_soa_of_negative_answers() {
    let (inputs, plan) = example();
    for (number, ttl) in [(0, 300u32), (1, 600)] {
        let row = plan.zone(number).unwrap();
        let zone = &inputs.zones[number as usize];
        assert_eq!(usize::from(row.apex_len), zone.apex.len());
        let expected = zone.soa().first();
        for (below, row_soa) in [
            ("", &row.soa[0]),
            ("\x01a", &row.soa[0]),
            ("\x03www\x03sub", &row.soa[0]),
            ("\x03wWw\x03sub", &row.soa[1]),
        ] {
            let soa: &[u8] = &bytemuck::cast_slice(&row_soa.words)[..usize::from(row_soa.len)];
            // As the fast path puts it behind a question.
            let name = [below.as_bytes(), zone.apex.as_slice()].concat();
            let head = [
                &[0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0],
                &name[..],
                &[0, 1, 0, 1],
            ]
            .concat();
            let owner = [0xc0, (head.len() - 4 - zone.apex.len()) as u8];
            let mut message = [&head, &owner[..], soa].concat();
            for (at, pointer) in row_soa.pointers_at.into_iter().zip(row_soa.pointers) {
                let at = head.len() + usize::from(at);
                let pointer = pointer.wrapping_add(name.len() as u16);
                message[at..at + 2].copy_from_slice(&pointer.to_be_bytes());
            }
            let message = Message::from_octets(message).unwrap();
            let records = message.authority().unwrap().limit_to::<Soa<_>>();
            let records: Vec<_> = records.map(Result::unwrap).collect();
            assert_eq!((records.len(), records[0].ttl().as_secs()), (1, ttl));
            let mut rdata = Vec::new();
            records[0].data().compose_rdata(&mut rdata).unwrap();
            assert_eq!(
                (
                    rdata.as_slice(),
                    records[0].owner().to_name::<Vec<u8>>().as_slice()
                ),
                (expected, zone.apex.as_slice())
            );
            assert!(soa.len() < 10 + expected.len());
        }
    }
}

#[test]
fn answers_are_the_mirrors_records() {
    let (_, plan) = example();
    let www = plan.pool(0).unwrap();
    let answer = plan.answer(www.answers).unwrap();
    let expected = [0xc0, 0x0c, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4, 192, 0, 2, 10];
    let bytes: &[u8] = bytemuck::cast_slice(&answer.words);
    assert_eq!((answer.len, answer.records), (16, 1));
    assert_eq!(bytes[..16], expected);
    assert_eq!(plan.records(0, 0, Family::V4), (&expected[..], 1));
    // iad has no IPv6.
    let answer = plan.answer(www.answer(1, Family::V6)).unwrap();
    assert_eq!((answer.len, answer.records), (0, 0));
    assert_eq!(www.has, [0b11, 0b01]);
    // Eight addresses are more than an answer holds, but all are there for the slow path.
    let every = plan.pool(1).unwrap();
    let answer = plan.answer(every.answers).unwrap();
    assert_eq!((answer.len, answer.records), (0, 8));
    let (bytes, records) = plan.records(1, 0, Family::V4);
    assert_eq!((bytes.len(), records), (128, 8));
}

#[test]
fn a_pool_for_everyone_gives_all_mirrors_and_scope_0() {
    let (_, plan) = example();
    let client = "10.1.2.3".parse().unwrap();
    let all = plan.select(1, Family::V4, client);
    assert_eq!((all.mirrors.to_vec(), all.scope), (vec![0, 1, 2], 0));
    let all = plan.select(1, Family::V6, client);
    assert_eq!((all.mirrors.to_vec(), all.scope), (vec![1], 0));
}

#[test]
fn a_family_that_the_nearest_mirror_lacks_comes_from_the_next() {
    let (_, plan) = example();
    let outside = "192.0.2.1".parse().unwrap();
    assert_eq!(plan.select(0, Family::V4, outside).mirrors[..], [1]);
    let selection = plan.select(0, Family::V6, outside);
    assert_eq!(selection.mirrors[..], [0]);
    assert_eq!(selection.scope, 1);
}

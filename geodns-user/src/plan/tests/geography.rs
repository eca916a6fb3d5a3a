//! Pools that ask where clients are: the table against lookups in the databases, one by one.

use geodns_common::subnet::{SPECIAL_V4, SPECIAL_V6};
use serde_json::{Value, json};

use super::*;
use crate::config::{Clients, Fail, Limits, Location, Matches, Rule};
use crate::geo::mmdb::writer::Writer;
use crate::steering::{Health, Whereabouts, service};

/// Places of the databases, each near or in what a rule is for.
fn places() -> [Value; 6] {
    [
        json!({"country_code": "de", "city": "Berlin", "latitude": 52.52, "longitude": 13.4}),
        json!({"country": {"iso_code": "US"}, "continent": {"code": "NA"},
            "subdivisions": [{"iso_code": "CA", "names": {"en": "California"}}],
            "city": {"names": {"en": "San Jose"}},
            "location": {"latitude": 37.3, "longitude": -121.9}}),
        json!({"country_code": "CR", "city": "San Jose", "latitude": 9.9, "longitude": -84.1}),
        json!({"country_code": "AU", "latitude": -33.9, "longitude": 151.2}),
        json!({"country_code": "US", "city": "San Jose"}),
        json!({"continent_code": "EU"}),
    ]
}

/// Autonomous systems of the second database; one has a rule.
const SYSTEMS: [u32; 2] = [64_500, 64_501];

/// Two pools by distance that are alike, and one by rules.
fn geo_config() -> Config {
    let mut config = config(&[0, 0, 1]);
    let cities = [(52.4, 4.9), (39.0, -77.5), (1.35, 103.8), (-23.5, -46.6)];
    for (mirror, (lat, lon)) in config.mirrors.iter_mut().zip(cities) {
        mirror.location = Some(Location { lat, lon });
    }
    for pool in &mut config.pools[..2] {
        pool.policy = Policy::Nearest;
    }
    let rule = |(matches, member)| Rule {
        matches,
        members: vec![member],
        line: 1,
    };
    let us = *b"US";
    let city = |subdivision: Option<&str>| Matches::City {
        country: us,
        subdivision: subdivision.map(str::to_owned),
        city: "san jose".into(),
    };
    let subdivision = Matches::Subdivision {
        country: us,
        subdivision: "ca".into(),
    };
    config.pools[2].policy = Policy::Geo;
    config.pools[2].rules = [
        (Matches::Asn(SYSTEMS[0]), 3),
        (city(Some("california")), 2),
        (city(None), 0),
        (subdivision, 1),
        (Matches::Country(*b"AU"), 3),
        (Matches::Continent(*b"EU"), 2),
    ]
    .map(rule)
    .into();
    config
}

/// The pools of [`geo_config`], with mirrors that do not take every client; prefixes have two of them.
fn limited_config(prefixes: &[IpNet]) -> Config {
    let mut config = geo_config();
    let of = |countries: &[[u8; 2]], asns: &[u32], prefixes: &[IpNet]| {
        Some(Clients {
            countries: countries.to_vec(),
            asns: asns.to_vec(),
            prefixes: prefixes.to_vec(),
            ..Clients::default()
        })
    };
    config.mirrors[1].limits.only = of(&[*b"US"], &[SYSTEMS[1]], &[]);
    config.mirrors[2].limits = Limits {
        only: None,
        never: of(&[*b"DE"], &[SYSTEMS[0]], prefixes),
    };
    config.mirrors[2].limits.never.as_mut().unwrap().continents = vec![*b"NA"];
    config.mirrors[3].limits.only = of(&[*b"AU"], &[], prefixes);
    for pool in &mut config.pools {
        pool.limited = 0b1110;
    }
    config
}

/// Whether a mirror's limits, word for word, let it take a client.
fn takes(limits: &Limits, client: &Client<'_>, address: IpAddr) -> bool {
    let meets = |clients: &Clients| {
        client
            .country
            .is_some_and(|code| clients.countries.contains(&code))
            || client
                .continent
                .is_some_and(|code| clients.continents.contains(&code))
            || client
                .asn
                .is_some_and(|number| clients.asns.contains(&number))
            || clients.prefixes.iter().any(|net| net.contains(&address))
    };
    limits.only.as_ref().is_none_or(meets) && !limits.never.as_ref().is_some_and(meets)
}

/// Networks and what of the lists above they have.
type Networks = BTreeMap<IpNet, usize>;

fn networks(of: usize) -> impl Strategy<Value = Networks> {
    let v4: ipnet::Ipv6Net = "::/96".parse().unwrap();
    let networks = prop::collection::btree_map(prefix(), 0..of, 0..10);
    networks.prop_map(move |mut networks| {
        // IPv4, under another name.
        networks.retain(|net, _| !matches!(net, IpNet::V6(net) if v4.contains(net)));
        networks
    })
}

/// Databases of cities, IPv4 and IPv6 apart, and one of autonomous systems.
fn open(cities: &Networks, systems: &Networks) -> Arc<Geography> {
    let folder = tempfile::tempdir().unwrap();
    let of_city = |(&net, &place): (&IpNet, &usize)| (net, places()[place].clone());
    let system = |(&net, &system): (&IpNet, &usize)| (net, json!({"asn": SYSTEMS[system]}));
    let (v4, v6): (Vec<_>, Vec<_>) = cities
        .iter()
        .map(of_city)
        .partition(|(net, _)| matches!(net, IpNet::V4(_)));
    // A database must say something.
    let writers = [
        (
            Writer::new(false, &[("198.41.0.0/24", places()[0].clone())]),
            v4,
        ),
        (Writer::new(true, &[("2a10::/32", places()[0].clone())]), v6),
        (
            Writer::new(true, &[("198.41.0.0/25", json!({"asn": SYSTEMS[1]}))]),
            systems.iter().map(system).collect(),
        ),
    ];
    let mut paths = Vec::new();
    for (number, (mut writer, networks)) in writers.into_iter().enumerate() {
        writer.networks.extend(networks);
        let path = folder.path().join(number.to_string());
        std::fs::write(&path, writer.bytes()).unwrap();
        paths.push(path);
    }
    Arc::new(Geography::open(&paths, folder.path(), None).unwrap())
}

fn geography() -> impl Strategy<Value = (Arc<Geography>, Vec<IpNet>)> {
    let systems = networks(SYSTEMS.len());
    (networks(places().len()), systems).prop_map(|(cities, systems)| {
        let nets = cities.keys().chain(systems.keys()).copied().collect();
        (open(&cities, &systems), nets)
    })
}

/// Prefixes at whose ends something may change, whatever the layers say.
fn fixed() -> Vec<IpNet> {
    let v4 = SPECIAL_V4.iter();
    let v4 = v4.map(|&(first, len)| IpNet::new(IpAddr::V4(first.into()), len).unwrap());
    let v6 = SPECIAL_V6.iter().map(|&(first, len)| {
        IpNet::new(IpAddr::V6((u128::from(first) << 64).into()), len).unwrap()
    });
    let more = [
        "198.41.0.0/24",
        "198.41.0.0/25",
        "2a10::/32",
        "::/96",
        "::ffff:0:0/96",
        "64:ff9b::/96",
        "2001::/32",
        "2002::/16",
        "0.0.0.0/0",
        "::/0",
    ];
    let more = more.map(|net| net.parse().unwrap());
    v4.chain(v6).chain(more).collect()
}

/// The answers of one pool, found out address by address.
struct Naive<'a> {
    steering: Steering,
    layers: &'a Layers,
    geography: &'a Geography,
    /// Where something may change, and the order from there on; `None`: it is IPv4's.
    starts: Vec<(IpAddr, Option<Order>)>,
}

impl<'a> Naive<'a> {
    fn new(
        config: &Config,
        pool: usize,
        geography: &'a Geography,
        networks: &[IpNet],
        layers: &'a Layers,
    ) -> Self {
        let mut naive = Self {
            steering: Steering::of(&config.pools[pool], &config.mirrors),
            layers,
            geography,
            starts: Vec::new(),
        };
        let listed = layers.base.iter().chain(layers.imported.iter());
        let mut all: Vec<_> = listed.map(|(net, _)| net).chain(fixed()).collect();
        all.extend(layers.overrides.keys().chain(networks));
        let ends = all
            .iter()
            .map(|net| (net.network(), after(net.broadcast())));
        let starts = ends.flat_map(|(first, next)| [Some(first), next]).flatten();
        naive.starts = starts
            .map(|start| (start, embedded(start).is_none().then(|| naive.order(start))))
            .collect();
        naive
    }

    fn order(&self, address: IpAddr) -> Order {
        let address = embedded(address).unwrap_or(address);
        let (listed, overriding) = naive_match(self.layers, address);
        let known = Whereabouts::of(&self.geography.lookup(address).place);
        let client = self.steering.client(&known, address);
        self.steering.order(&client, &listed, overriding)
    }

    fn scope(&self, address: IpAddr) -> u8 {
        if let Some(v4) = embedded(address) {
            return self.scope(v4) + geo::embedded_at(address.into());
        }
        let order = Some(self.order(address));
        let bits = IpNet::from(address).prefix_len();
        let is_one = |len: &u8| {
            let prefix = IpNet::new(address, *len).unwrap().trunc();
            let inside = self.starts.iter().filter(|(at, _)| prefix.contains(at));
            let (first, mut inside) = (prefix.network(), inside);
            let begins = embedded(first).is_none().then(|| self.order(first));
            begins == order && inside.all(|(_, other)| *other == order)
        };
        (0..=bits)
            .find(is_one)
            .expect("an address alone is of one order")
    }
}

/// The IPv4 address that is looked up in an IPv6 one's place.
fn embedded(address: IpAddr) -> Option<IpAddr> {
    let is_block = |block: &ipnet::Ipv6Net| IpNet::V6(*block).contains(&address);
    [geo::SIX_TO_FOUR, geo::TEREDO]
        .iter()
        .find(|block| is_block(block))?;
    geo::embedded(address.into()).map(|net| net.addr().into())
}

fn check_table(
    config: &Config,
    plan: &Plan,
    networks: &[IpNet],
    layers: &[Layers],
) -> Result<(), TestCaseError> {
    for (pool, layers) in layers.iter().enumerate() {
        let naive = Naive::new(config, pool, plan.geography(), networks, layers);
        let mut points = edges_of(layers);
        points.extend(edges(networks));
        for address in points {
            let expected = (naive.order(address), naive.scope(address));
            prop_assert_eq!(
                selected(plan, pool, address),
                expected,
                "{} {}",
                pool,
                address
            );
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn the_table_says_what_the_databases_say(
        (geography, networks) in geography(),
        layers in layers(),
    ) {
        let config = geo_config();
        let layers = [layers.clone(), layers, Layers::default()];
        let plan = compile_with(&config, &geography, &layers);
        // Alike pools share one atlas.
        prop_assert_eq!(plan.atlases.atlases.len(), 2);
        check_table(&config, &plan, &networks, &layers)?;
    }

    #[test]
    fn edits_over_a_geography_are_old_or_new_at_every_moment(
        (geography, networks) in geography(),
        layers in layers(),
        mut edits in edits(5),
        more in vec((0..MIRRORS as u8, any::<prop::sample::Index>()), 0..3),
    ) {
        // Overrides of what the databases have, and just beside.
        if !networks.is_empty() {
            edits.extend(more.iter().map(|(mirror, at)| (None, *at.get(&networks), Some(*mirror))));
        }
        let layers = vec![layers.clone(), layers, Layers::default()];
        check_edits(&geo_config(), &geography, layers, &edits)?;
    }

    #[test]
    fn the_table_keeps_the_limits_of_mirrors(
        (geography, mut networks) in geography(),
        layers in layers(),
        prefixes in vec(prefix(), 1..4),
    ) {
        let config = limited_config(&prefixes);
        networks.extend(prefixes);
        let layers = [layers.clone(), layers, Layers::default()];
        let plan = compile_with(&config, &geography, &layers);
        check_table(&config, &plan, &networks, &layers)?;
    }

    #[test]
    fn edits_over_limits_are_old_or_new_at_every_moment(
        (geography, networks) in geography(),
        layers in layers(),
        mut edits in edits(5),
        prefixes in vec(prefix(), 1..4),
    ) {
        edits.extend(prefixes.iter().chain(networks.first()).map(|net| (None, *net, Some(3))));
        let layers = vec![layers.clone(), layers, Layers::default()];
        check_edits(&limited_config(&prefixes), &geography, layers, &edits)?;
    }

    // Invariant 13
    #[test]
    fn no_state_of_health_gives_a_client_a_mirror_that_does_not_take_it(
        (geography, mut networks) in geography(),
        mut layers in layers(),
        prefixes in vec(prefix(), 1..4),
        health in vec((any::<[bool; 2]>(), any::<bool>(), 0..=abi::SHARES, 0..2_u32), MIRRORS),
        panic in prop::sample::select(vec![0.0, 0.5, 1.0]),
        careful in any::<bool>(),
        fail in prop::sample::select(vec![Fail::Open, Fail::Closed, Fail::Fallback(2)]),
        answers in 1..=MIRRORS as u16,
        depth in 1..=MIRRORS as u8,
    ) {
        layers.overrides.clear();
        let mut config = limited_config(&prefixes);
        networks.extend(prefixes);
        for pool in &mut config.pools[..2] {
            (pool.panic, pool.fail, pool.answers, pool.depth) = (panic, fail, answers, depth);
        }
        let layers = [layers.clone(), layers, Layers::default()];
        let mut plan = compile_with(&config, &geography, &layers);
        let health: Vec<Health> = health
            .into_iter()
            .map(|(up, down, drained, weight)| Health { up, down, drained, ..Health::good(weight) })
            .collect();
        let has: Vec<[u64; 2]> = plan.pools().iter().map(|row| row.has).collect();
        let services: Vec<_> = config.pools.iter().zip(&has)
            .map(|(pool, has)| service(pool, *has, &health, careful))
            .collect();
        let by = crate::steering::answered_by(&config.pools, &has, &services);
        for (pool, service) in services.iter().enumerate() {
            plan.set_service(pool, service, by[pool]);
        }
        let mut points = edges_of(&layers[0]);
        points.extend(edges(&networks));
        for address in points {
            let counted = embedded(address).unwrap_or(address);
            let known = Whereabouts::of(&geography.lookup(counted).place);
            for pool in 0..config.pools.len() {
                for family in [Family::V4, Family::V6] {
                    let selection = plan.select(pool, family, address);
                    for &mirror in &*selection.mirrors {
                        let limits = &config.mirrors[usize::from(mirror)].limits;
                        prop_assert!(
                            takes(limits, &known.place(), counted),
                            "pool {} gives {} mirror {}", pool, address, mirror
                        );
                    }
                    // A pool that fails open has an answer for everybody.
                    if config.pools[selection.pool].fail == Fail::Open {
                        prop_assert!(!selection.mirrors.is_empty());
                    }
                }
            }
        }
    }

    #[test]
    fn no_scope_covers_another_region_while_a_geography_is_edited(
        (geography, networks) in geography(),
        layers in layers(),
        edits in vec((prefix(), prop::option::weighted(0.6, 0..MIRRORS as u8)), 1..5),
        more in any::<prop::sample::Index>(),
    ) {
        let mut edits = edits;
        if !networks.is_empty() {
            edits.push((*more.get(&networks), Some(1)));
        }
        check_scopes(&geo_config(), &geography, layers, &edits)?;
    }
}

#[test]
fn an_edit_looks_at_its_own_window_of_the_databases() {
    let networks = (0..2_000_u32).map(|n| {
        let net = IpNet::new(IpAddr::V4((0x0b00_0000 + (n << 8)).into()), 24).unwrap();
        let latitude = f64::from(n % 160) - 80.5;
        (
            net,
            json!({"latitude": latitude, "longitude": f64::from(n % 300) - 149.5}),
        )
    });
    let mut writer = Writer::new(false, &[]);
    writer.networks = networks.collect();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cities.mmdb");
    std::fs::write(&path, writer.bytes()).unwrap();
    let open =
        || Arc::new(Geography::open(std::slice::from_ref(&path), folder.path(), None).unwrap());
    let config = geo_config();
    let layers = vec![Layers::default(); 3];
    let mut plan = compile_with(&config, &open(), &layers);
    // Numbers are given to the places that are walked over.
    let fresh = open();
    plan.geography = Arc::clone(&fresh);
    let prefix = "11.3.232.0/24".parse().unwrap();
    plan.set_override(0, prefix, Some(2)).unwrap();
    plan.set_override(0, prefix, None).unwrap();
    // The region around it is larger, but not much.
    assert!(fresh.places() <= 100, "{}", fresh.places());
}

//! Orders of mirrors, policy by policy.

use super::*;
use crate::config::{Clients, Group};

/// A pool of N mirrors, and these.
pub(super) fn pool(mirrors: usize) -> Pool {
    Pool::sample(mirrors, 0)
}

fn mirrors(count: usize) -> Vec<Mirror> {
    (0..count)
        .map(|n| Mirror {
            v4: vec![[192, 0, 2, n as u8].into()],
            v6: vec!["2001:db8::1".parse().unwrap()],
            ..Mirror::sample(&format!("m{n}"))
        })
        .collect()
}

fn order(pool: &Pool, listed: Option<u8>, overriding: Option<u8>) -> Vec<u8> {
    at(
        pool,
        &mirrors(pool.mirrors.len()),
        &Client::default(),
        listed,
        overriding,
    )
}

fn at(
    pool: &Pool,
    mirrors: &[Mirror],
    place: &Client<'_>,
    listed: impl IntoIterator<Item = u8>,
    overriding: Option<u8>,
) -> Vec<u8> {
    let listed = &listed.into_iter().collect::<Vec<_>>()[..];
    let steering = Steering::of(pool, mirrors);
    let order: Vec<u8> = steering.order(place, listed, overriding).iter().collect();
    let reasons = steering.reasons(place, listed, overriding);
    let explained: Vec<u8> = reasons.iter().map(|(member, _)| *member).collect();
    assert_eq!(explained, order);
    order
}

fn place(lat: f64, lon: f64) -> Client<'static> {
    Client {
        location: Some(Location { lat, lon }),
        ..Client::default()
    }
}

/// Amsterdam, Ashburn, Singapore, São Paulo.
fn world() -> (Pool, Vec<Mirror>) {
    let mut mirrors = mirrors(4);
    let places = [(52.4, 4.9), (39.0, -77.5), (1.35, 103.8), (-23.5, -46.6)];
    for (mirror, (lat, lon)) in mirrors.iter_mut().zip(places) {
        mirror.location = Some(Location { lat, lon });
    }
    let pool = Pool {
        policy: Policy::Nearest,
        ..pool(4)
    };
    (pool, mirrors)
}

#[test]
fn the_override_stands_before_the_list_and_the_list_before_the_default() {
    let pool = Pool {
        depth: 4,
        ..Pool::sample(4, 2)
    };
    for (listed, overriding, expected) in [
        (None, None, [2, 0, 1, 3]),
        (Some(1), None, [1, 2, 0, 3]),
        (None, Some(3), [3, 2, 0, 1]),
        (Some(1), Some(3), [3, 1, 2, 0]),
        (Some(3), Some(3), [3, 2, 0, 1]),
    ] {
        assert_eq!(order(&pool, listed, overriding), expected);
    }
}

#[test]
fn a_mirror_that_the_pool_has_not_is_left_out() {
    assert_eq!(order(&pool(2), Some(7), Some(200)), [0, 1]);
}

#[test]
fn an_order_ends_at_its_depth() {
    let mut pool = Pool::sample(12, 11);
    assert_eq!(order(&pool, Some(10), None), [10, 11, 0]);
    pool.depth = 8;
    assert_eq!(order(&pool, Some(10), None), [10, 11, 0, 1, 2, 3, 4, 5]);
}

#[test]
fn an_order_goes_on_to_the_first_that_has_the_other_family() {
    let mut all = mirrors(6);
    for mirror in &mut all[..4] {
        mirror.v6.clear();
    }
    assert_eq!(
        at(&pool(6), &all, &Client::default(), None, None),
        [0, 1, 2, 4]
    );
    assert_eq!(
        at(&pool(6), &all, &Client::default(), Some(5), None),
        [5, 0, 1]
    );
}

#[test]
fn the_nearest_is_the_nearest_by_the_great_circle() {
    let (pool, mirrors) = world();
    for (client, expected) in [
        (place(48.9, 2.3), [0, 1, 3]),    // Paris
        (place(40.7, -74.0), [1, 0, 3]),  // New York
        (place(-33.9, 151.2), [2, 3, 1]), // Sydney: São Paulo over the pole
        (place(-34.6, -58.4), [3, 1, 0]), // Buenos Aires
        (place(64.1, -21.9), [0, 1, 3]),  // Reykjavík
    ] {
        assert_eq!(at(&pool, &mirrors, &client, None, None), expected);
    }
    // Nothing known: the default; an override stands above what is near.
    assert_eq!(
        at(&pool, &mirrors, &Client::default(), None, None),
        [0, 1, 2]
    );
    assert_eq!(
        at(&pool, &mirrors, &place(48.9, 2.3), None, Some(2)),
        [2, 0, 1]
    );
}

#[test]
fn a_bias_moves_the_border() {
    let (pool, mut mirrors) = world();
    // A little nearer to Ashburn than to Amsterdam.
    let client = place(50.0, -38.0);
    assert_eq!(at(&pool, &mirrors, &client, None, None)[0], 0);
    mirrors[1].bias = 20;
    assert_eq!(at(&pool, &mirrors, &client, None, None)[0], 1);
    mirrors[1].bias = 0;
    mirrors[0].bias = -20;
    assert_eq!(at(&pool, &mirrors, &client, None, None)[0], 1);
}

#[test]
fn distances_are_right() {
    let amsterdam = Location {
        lat: 52.37,
        lon: 4.9,
    };
    let sydney = Location {
        lat: -33.87,
        lon: 151.21,
    };
    let far = amsterdam.distance(sydney);
    assert!((far - 16_644.0).abs() < 20.0, "{far}");
    let (pool, mirrors) = world();
    let reasons = Steering::of(&pool, &mirrors).reasons(&place(-33.87, 151.21), &[], None);
    let Reason::Distance(far, counted) = reasons[0].1 else {
        panic!("{reasons:?}");
    };
    let singapore = Location {
        lat: 1.35,
        lon: 103.8,
    };
    assert!(
        (far - singapore.distance(sydney)).abs() < 1.0 && far == counted,
        "{far}"
    );
}

#[test]
fn the_most_specific_rule_counts() {
    let rule = |matches, members: &[u8]| Rule {
        matches,
        members: members.to_vec(),
        line: 1,
    };
    let pool = Pool {
        policy: Policy::Geo,
        depth: 2,
        rules: vec![
            rule(Matches::Continent(*b"NA"), &[1]),
            rule(Matches::Country(*b"US"), &[2]),
            rule(
                Matches::Subdivision {
                    country: *b"US",
                    subdivision: "ca".into(),
                },
                &[3],
            ),
            rule(
                Matches::City {
                    country: *b"US",
                    subdivision: None,
                    city: "san jose".into(),
                },
                &[4, 3],
            ),
            rule(Matches::Asn(64500), &[5]),
        ],
        ..pool(6)
    };
    let california = ["ca".to_owned(), "california".to_owned()];
    let mexico = Client {
        continent: Some(*b"NA"),
        country: Some(*b"MX"),
        ..Client::default()
    };
    let states = Client {
        country: Some(*b"US"),
        ..mexico
    };
    let los_angeles = Client {
        subdivisions: &california,
        city: Some("los angeles"),
        ..states
    };
    let san_jose = Client {
        city: Some("san jose"),
        ..los_angeles
    };
    let isp = Client {
        asn: Some(64500),
        ..san_jose
    };
    let all = mirrors(6);
    for (place, listed, expected) in [
        (Client::default(), vec![], [0, 1]),
        (mexico, vec![], [1, 0]),
        (states, vec![], [2, 0]),
        (los_angeles, vec![], [3, 0]),
        (san_jose, vec![], [4, 3]),
        (isp, vec![], [5, 0]),
        (isp, vec![3, 1], [3, 1]),
        (mexico, vec![2], [2, 1]),
    ] {
        assert_eq!(at(&pool, &all, &place, listed, None), expected, "{place:?}");
    }
}

#[test]
fn groups_are_members_like_mirrors() {
    let mut all = mirrors(4);
    for (mirror, (lat, lon)) in
        all.iter_mut()
            .zip([(52.0, 5.0), (52.0, 5.0), (39.0, -77.0), (39.0, -77.0)])
    {
        mirror.location = Some(Location { lat, lon });
    }
    all[2].v6.clear();
    let group = |id: &str, of: [u8; 2]| Group {
        id: id.into(),
        mirrors: of.to_vec(),
        policy: Policy::Weighted,
        location: all[usize::from(of[0])].location,
    };
    let pool = Pool {
        policy: Policy::Nearest,
        groups: vec![group("ams", [0, 1]), group("iad", [2, 3])],
        default: vec![Order::group(0), Order::group(1)],
        ..pool(4)
    };
    let [ams, iad] = [0, 1].map(Order::group);
    assert_eq!(at(&pool, &all, &place(40.0, -75.0), None, None), [iad, ams]);
    // An override may name a mirror of a group.
    assert_eq!(
        at(&pool, &all, &place(40.0, -75.0), None, Some(1)),
        [1, iad, ams]
    );
}

#[test]
fn the_fallback_names_only_mirrors_of_the_family() {
    let mut all = mirrors(12);
    for mirror in &mut all[..10] {
        mirror.v6.clear();
    }
    let pool = Pool::sample(12, 3);
    let fallback = |family| -> Vec<u8> { fallback(&pool, &all, family).iter().collect() };
    assert_eq!(fallback(Family::V6), [10, 11]);
    assert_eq!(fallback(Family::V4), [3, 0, 1, 2, 4, 5, 6, 7]);
    assert_eq!(having(&pool, &all, Family::V6), 0b1100_0000_0000);
    assert_eq!(everyone(&pool), 0xfff);
}

#[test]
fn a_mirror_is_left_out_for_clients_that_it_does_not_take() {
    let (mut pool, mut mirrors) = world();
    pool.limited = 0b0011;
    mirrors[0].limits.only = Some(Clients {
        countries: vec![*b"NL"],
        prefixes: vec!["192.0.2.0/24".parse().unwrap()],
        ..Clients::default()
    });
    mirrors[1].limits.never = Some(Clients {
        asns: vec![64_500],
        prefixes: vec!["192.0.2.128/25".parse().unwrap()],
        ..Clients::default()
    });
    let paris = place(48.9, 2.3);
    let steering = Steering::of(&pool, &mirrors);
    let by_prefix = |address: &str| {
        let found = steering.limiting().lookup(address.parse().unwrap());
        found.map(|(_, value)| value)
    };
    assert_eq!(by_prefix("192.0.3.1"), None);
    for (client, expected, kept_out) in [
        // A client at an unknown place meets nothing.
        (paris, vec![1, 3, 2], vec![0]),
        (
            Client {
                country: Some(*b"NL"),
                ..paris
            },
            vec![0, 1, 3],
            vec![],
        ),
        (
            Client {
                asn: Some(64_500),
                ..paris
            },
            vec![3, 2],
            vec![0, 1],
        ),
        (
            Client {
                limits: by_prefix("192.0.2.1"),
                ..paris
            },
            vec![0, 1, 3],
            vec![],
        ),
        // The longer prefix has the shorter one's mirrors, too.
        (
            Client {
                limits: by_prefix("192.0.2.200"),
                ..paris
            },
            vec![0, 3, 2],
            vec![1],
        ),
    ] {
        assert_eq!(at(&pool, &mirrors, &client, None, None), expected);
        assert_eq!(steering.kept_out(&client, &[], None), kept_out);
    }
    // Lists are subject to them, an override is not.
    assert_eq!(at(&pool, &mirrors, &paris, [0, 2], None), [2, 1, 3]);
    assert_eq!(at(&pool, &mirrors, &paris, [0], Some(0)), [0, 1, 3]);
    assert!(steering.kept_out(&paris, &[0], Some(0)).is_empty());
    // Nor does the order of last resort have them.
    let fallback = |family| fallback(&pool, &mirrors, family).iter().collect::<Vec<_>>();
    assert_eq!(fallback(Family::V4), [2, 3]);
    let wanted = Wanted::LOCATION | Wanted::COUNTRY | Wanted::ASN;
    assert_eq!(steering.wanted(), wanted);
}

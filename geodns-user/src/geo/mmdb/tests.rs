//! Databases as they come, as they should not come, and lookups against the plain definition.

use std::fs;
use std::net::IpAddr;
use std::path::PathBuf;

use geodns_common::abi::Family;
use geodns_common::subnet;
use ipnet::IpNet;
use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::{Value as Json, json};
use tempfile::TempDir;

use super::writer::Writer;
use super::*;
use crate::base::country::Code;
use crate::geo::{Location, Subdivision};

/// A folder with databases in it.
struct Files {
    folder: TempDir,
    paths: Vec<PathBuf>,
}

impl Files {
    fn new(all: &[Vec<u8>]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut paths = Vec::new();
        for (number, bytes) in all.iter().enumerate() {
            paths.push(folder.path().join(format!("{number}.mmdb")));
            fs::write(&paths[number], bytes).unwrap();
        }
        Self { folder, paths }
    }

    fn open(&self) -> Result<Geography, String> {
        self.reopen(None)
    }

    fn reopen(&self, previous: Option<&Geography>) -> Result<Geography, String> {
        let opened = Geography::open(&self.paths, self.folder.path(), previous);
        opened.map_err(|error| {
            let folder = format!("{}/", self.folder.path().display());
            error.to_string().replace(&folder, "")
        })
    }
}

fn open(all: &[Writer]) -> Geography {
    let all: Vec<_> = all.iter().map(Writer::bytes).collect();
    Files::new(&all).open().unwrap()
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn lookup(geography: &Geography, text: &str) -> Place {
    geography.lookup(address(text)).place
}

/// All runs of a window that have a place, neighbours that are alike put together.
fn runs(geography: &Geography, window: &str, wanted: Wanted) -> Vec<(IpAddr, IpAddr, PlaceId)> {
    let window = Prefix::of(window.parse().unwrap());
    let mut runs: Vec<(u128, u128, PlaceId)> = Vec::new();
    for (first, last, id) in steps(geography, window, wanted) {
        match runs.last_mut() {
            Some(run) if run.2 == id && run.1 + 1 == first => run.1 = last,
            _ if id == PlaceId::NOTHING => {}
            _ => runs.push((first, last, id)),
        }
    }
    let address = |first| {
        let len = window.end().len;
        let host = Prefix {
            first,
            len,
            ..window
        };
        host.around(len).net().addr()
    };
    let runs = runs.into_iter();
    runs.map(|(first, last, id)| (address(first), address(last), id))
        .collect()
}

/// Reads of a window by a cursor, step by step.
fn steps(geography: &Geography, window: Prefix, wanted: Wanted) -> Vec<(u128, u128, PlaceId)> {
    let mut cursor = geography.walk(window, wanted);
    let mut steps = Vec::new();
    let mut next = Some(window.first);
    while let Some(first) = next {
        let (id, last) = cursor.seek(first);
        assert!(last >= first);
        let last = last.min(window.last());
        steps.push((first, last, id));
        next = (last < window.last()).then(|| last + 1);
    }
    steps
}

fn country(code: &str) -> Json {
    json!({ "country_code": code })
}

fn nested_city() -> Json {
    json!({
        "continent": {"code": "NA", "names": {"de": "Nordamerika", "en": "North America"}},
        "country": {"iso_code": "US", "geoname_id": 6_252_001, "names": {"en": "United States"}},
        "registered_country": {"iso_code": "DE"},
        "subdivisions": [
            {"iso_code": "CA", "names": {"de": "Kalifornien", "en": "California"}},
            {"iso_code": "085", "names": {"en": "Santa Clara"}},
            {"iso_code": "XX", "names": {"en": "One too many"}},
        ],
        "city": {"geoname_id": 5_375_480, "names": {"de": "Mountain View (de)", "en": "Mountain View"}},
        "location": {"accuracy_radius": 20, "latitude": 37.422, "longitude": -122.085,
            "time_zone": "America/Los_Angeles"},
        "postal": {"code": "94043"},
        "traits": {"is_anycast": true, "autonomous_system_number": 15_169,
            "autonomous_system_organization": "Example"},
    })
}

fn flat_city() -> Json {
    json!({
        "country_code": "us", "state1": "California", "state2": "Santa Clara",
        "city": "Mountain View", "postcode": "", "latitude": 37.422, "longitude": -122.085,
        "timezone": "", "autonomous_system_number": 15_169,
        "autonomous_system_organization": "Example",
    })
}

/// The place of both, but for the codes of the subdivisions, which the flat one has not.
fn mountain_view() -> Place {
    let mut place = Place {
        location: Location::new(37.422, -122.085),
        continent: Code::continent("NA"),
        country: Code::country("US"),
        asn: Some(15_169),
        ..Place::default()
    };
    place.set_city(Some("Mountain View"));
    place.set_organisation(Some("Example"));
    let subdivision = |code: &str, name: &str| Subdivision {
        code: Some(code.into()),
        name: Some(name.into()),
    };
    place.set_subdivisions([
        subdivision("US-CA", "California"),
        subdivision("US-085", "Santa Clara"),
    ]);
    place
}

#[test]
fn records_are_read_alike_whatever_their_layout() {
    for record_bits in [24, 28, 32] {
        for single in [false, true] {
            let networks = [("1.0.0.0/24", nested_city()), ("1.0.1.0/24", flat_city())];
            let geography = open(&[Writer {
                record_bits,
                single,
                ..Writer::new(false, &networks)
            }]);
            let expected = mountain_view();
            assert_eq!(lookup(&geography, "1.0.0.7"), expected);
            let mut flat = expected.clone();
            let without_code = |one: &Subdivision| Subdivision {
                code: None,
                name: one.name.clone(),
            };
            flat.set_subdivisions(expected.subdivisions().iter().map(without_code));
            assert_eq!(lookup(&geography, "1.0.1.255"), flat);
            assert_eq!(lookup(&geography, "1.0.2.0"), Place::default());
            assert_eq!(lookup(&geography, "2001:200::1"), Place::default());
            assert_eq!(geography.has(), Wanted::EVERYTHING);
        }
    }
}

#[test]
fn what_is_missing_or_nonsense_is_not_known() {
    let nothing = Place::default();
    let germany = Place {
        continent: Code::continent("EU"),
        country: Code::country("DE"),
        ..Place::default()
    };
    let located = Place {
        location: Location::new(1.5, 2.5),
        ..Place::default()
    };
    for (record, expected) in [
        (json!({}), &nothing),
        (json!([]), &nothing),
        (json!("DE"), &nothing),
        (json!(49), &nothing),
        (country("ZZ"), &nothing),
        (country("-"), &nothing),
        (country(""), &nothing),
        (country("DEU"), &nothing),
        (country("dE"), &germany),
        (json!({"country": "DE"}), &germany),
        (
            json!({"country": "Germany", "country_code": "DE"}),
            &germany,
        ),
        (json!({"country": {"iso_code": "DE"}}), &germany),
        (json!({"registered_country": {"iso_code": "DE"}}), &germany),
        (
            json!({"country": {"iso_code": "ZZ"}, "registered_country": {"iso_code": "DE"}}),
            &germany,
        ),
        (
            json!({"country": {"iso_code": "DE"}, "registered_country": {"iso_code": "FR"}}),
            &germany,
        ),
        (
            json!({"country_code": "DE", "continent": "Atlantis", "city": " - ", "asn": 0}),
            &germany,
        ),
        (
            json!({"country_code": "DE", "city": "a\tb", "state1": {"a": [1, [2]]}, "asn": true}),
            &germany,
        ),
        (
            json!({"country_code": "DE", "city": "x".repeat(300), "state1": "", "state2": "-"}),
            &germany,
        ),
        (json!({"latitude": 91.5, "longitude": 2.5}), &nothing),
        (json!({"latitude": 1.5, "longitude": 180.5}), &nothing),
        (json!({"latitude": 0.0, "longitude": 0.0}), &nothing),
        (json!({"latitude": 1.5}), &nothing),
        (json!({"latitude": "x", "longitude": "y"}), &nothing),
        (json!({"latitude": "NaN", "longitude": 2.5}), &nothing),
        (json!({"latitude": "1.5", "longitude": "2.5"}), &located),
        (
            json!({"location": {"latitude": 1.5, "longitude": 2.5}}),
            &located,
        ),
        (json!({"location": "1.5,2.5"}), &nothing),
    ] {
        // The second network is for the database to be accepted.
        let networks = [
            ("1.0.0.0/24", record.clone()),
            ("2.0.0.0/24", nested_city()),
        ];
        let geography = open(&[Writer::new(false, &networks)]);
        assert_eq!(lookup(&geography, "1.0.0.1"), *expected, "{record}");
        let database = geography.databases().next().unwrap();
        assert_eq!(database.damaged(), 0, "{record}");
    }
}

#[test]
fn systems_are_numbers_or_written_with_as() {
    for (record, asn) in [
        (json!({"autonomous_system_number": 64_496}), Some(64_496)),
        (json!({"asn": "AS64496"}), Some(64_496)),
        (json!({"asn": "64496"}), Some(64_496)),
        (json!({"asn": 4_294_967_295_u32}), Some(u32::MAX)),
        (json!({"asn": "4294967296"}), None),
        (json!({"asn": 1.5}), None),
        (json!({"asn": "AS"}), None),
    ] {
        let networks = [
            ("1.0.0.0/24", record.clone()),
            ("2.0.0.0/24", nested_city()),
        ];
        let geography = open(&[Writer::new(false, &networks)]);
        assert_eq!(lookup(&geography, "1.0.0.1").asn, asn, "{record}");
    }
}

#[test]
fn each_attribute_comes_from_the_first_database_that_has_it() {
    let geography = open(&[
        Writer::new(false, &[("1.0.0.0/24", country("DE"))]),
        Writer::new(
            true,
            &[("1.0.0.0/16", flat_city()), ("2a00::/12", flat_city())],
        ),
        Writer::new(
            false,
            &[("1.0.0.0/8", json!({"asn": 64_496, "city": "Elsewhere"}))],
        ),
    ]);
    let found = geography.lookup(address("1.0.0.1"));
    let decides: Vec<_> = found.found.iter().map(|found| found.decides).collect();
    let from_first = Wanted::COUNTRY | Wanted::CONTINENT;
    let from_second = Wanted::EVERYTHING.without(from_first);
    assert_eq!(decides, [from_first, from_second, Wanted::NOTHING]);
    assert_eq!(found.place.country, Code::country("DE"));
    assert_eq!(found.place.continent, Code::continent("EU"));
    assert_eq!(found.place.city(), Some("Mountain View"));
    assert_eq!(found.place.asn, Some(15_169));
    let nets: Vec<_> = found
        .found
        .iter()
        .map(|found| found.network.to_string())
        .collect();
    assert_eq!(nets, ["1.0.0.0/24", "1.0.0.0/16", "1.0.0.0/8"]);
    assert_eq!(found.found[1].place.country, Code::country("US"));
    assert_eq!(found.found[1].kind, "Test-City");
    assert!(found.found[1].file.ends_with("1.mmdb"));

    // The walk says the same.
    for text in [
        "1.0.0.1", "1.0.1.0", "1.2.0.0", "3.0.0.0", "2a00::1", "2b00::",
    ] {
        let host = Prefix::host(address(text));
        let (id, _) = geography.walk(host, Wanted::EVERYTHING).seek(host.first);
        assert_eq!(geography.place(id), lookup(&geography, text), "{text}");
    }
    // Databases of the other family say nothing at all.
    assert_eq!(geography.lookup(address("2a00::1")).found.len(), 1);
}

#[test]
fn a_walk_gives_the_networks_of_its_window() {
    let geography = open(&[Writer::new(
        false,
        &[
            ("1.0.0.0/8", country("DE")),
            ("1.2.0.0/16", country("FR")),
            ("1.2.3.0/24", country("DE")),
            ("9.0.0.0/32", country("US")),
        ],
    )]);
    let of = |window: &str| {
        let runs = runs(&geography, window, Wanted::COUNTRY).into_iter();
        let text = runs.map(|(first, last, id)| {
            let country = geography.place(id).country.unwrap();
            format!("{first}-{last} {country}")
        });
        text.collect::<Vec<_>>()
    };
    let whole = [
        "1.0.0.0-1.1.255.255 DE",
        "1.2.0.0-1.2.2.255 FR",
        "1.2.3.0-1.2.3.255 DE",
        "1.2.4.0-1.2.255.255 FR",
        "1.3.0.0-1.255.255.255 DE",
        "9.0.0.0-9.0.0.0 US",
    ];
    assert_eq!(of("0.0.0.0/0"), whole);
    assert_eq!(of("1.0.0.0/8"), whole[..5]);
    assert_eq!(
        of("1.2.2.0/23"),
        ["1.2.2.0-1.2.2.255 FR", "1.2.3.0-1.2.3.255 DE"]
    );
    assert_eq!(of("1.2.3.128/25"), ["1.2.3.128-1.2.3.255 DE"]);
    assert_eq!(of("9.0.0.0/32"), ["9.0.0.0-9.0.0.0 US"]);
    assert_eq!(of("8.0.0.0/8"), [""; 0]);
    assert_eq!(of("::/0"), [""; 0]);
    // DE, FR and US, and nothing.
    assert_eq!(geography.places(), 4);
}

#[test]
fn the_ends_of_the_address_space_are_as_other_places() {
    let v6: IpNet = "::/0".parse().unwrap();
    let networks = [
        ("2000::/3", country("DE")),
        ("3fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff/128", country("FR")),
        ("2000::/128", country("FR")),
    ];
    let geography = open(&[Writer::new(true, &networks)]);
    let runs = runs(&geography, &v6.to_string(), Wanted::COUNTRY);
    assert_eq!(runs[0].0, address("2000::"));
    assert_eq!(runs[0].1, address("2000::"));
    let last = runs.last().unwrap();
    assert_eq!((last.0, last.1), (last.0, last.0));
    assert_eq!(runs[0].2, last.2);

    let everything = open(&[Writer::new(false, &[("0.0.0.0/0", country("DE"))])]);
    let (id, last) = everything
        .walk(Prefix::everything(Family::V4), Wanted::COUNTRY)
        .seek(Prefix::host(address("223.255.255.255")).first);
    assert_eq!(everything.place(id).country, Code::country("DE"));
    assert_eq!(last, Prefix::host(address("223.255.255.255")).last());
}

#[test]
fn places_that_differ_only_in_what_is_not_wanted_are_one() {
    let city = |name: &str| json!({"country_code": "DE", "city": name, "asn": 64_496});
    let geography = open(&[
        Writer::new(
            false,
            &[
                ("1.0.0.0/25", city("Berlin")),
                ("1.0.0.128/25", city("Bonn")),
            ],
        ),
        Writer::new(
            false,
            &[("1.0.0.0/26", json!({"latitude": 1.5, "longitude": 2.5}))],
        ),
    ]);
    let window = "1.0.0.0/24";
    let ids = |wanted| {
        let runs = runs(&geography, window, wanted).into_iter();
        runs.map(|(_, _, id)| id).collect::<Vec<_>>()
    };
    assert_eq!(ids(Wanted::COUNTRY).len(), 1);
    assert_eq!(ids(Wanted::COUNTRY | Wanted::ASN).len(), 1);
    assert_eq!(ids(Wanted::CITY).len(), 2);
    assert_eq!(ids(Wanted::CITY | Wanted::LOCATION).len(), 3);
    assert_eq!(ids(Wanted::ORGANISATION), []);
    assert_eq!(ids(Wanted::NOTHING), []);
    // Asked again, the numbers are the same.
    assert_eq!(ids(Wanted::CITY), ids(Wanted::CITY));

    // A database without what is wanted is not read: its networks cut nothing.
    let first = Prefix::host(address("1.0.0.0")).first;
    let everything = Prefix::everything(Family::V4);
    let (_, last) = geography.walk(everything, Wanted::COUNTRY).seek(first);
    assert_eq!(last, Prefix::of("1.0.0.0/25".parse().unwrap()).last());
    let (_, last) = geography.walk(everything, Wanted::LOCATION).seek(first);
    assert_eq!(last, Prefix::of("1.0.0.0/26".parse().unwrap()).last());
}

#[test]
fn a_database_has_the_attributes_whose_keys_it_has() {
    for (record, expected) in [
        (nested_city(), Wanted::EVERYTHING),
        (country("DE"), Wanted::COUNTRY | Wanted::CONTINENT),
        (json!({"continent_code": "EU"}), Wanted::CONTINENT),
        (json!({"latitude": 1.5, "longitude": 2.5}), Wanted::LOCATION),
        (json!({"autonomous_system_number": 64_496}), Wanted::ASN),
        // The letters before "asn" look like the octet that begins a text of three.
        (json!({"city": "Casnewydd"}), Wanted::CITY),
        (
            json!({"asn": "AS64496", "city": "Ccity, Fcountry"}),
            Wanted::ASN | Wanted::CITY,
        ),
    ] {
        for single in [false, true] {
            let networks = [("1.0.0.0/24", record.clone())];
            let geography = open(&[Writer {
                single,
                ..Writer::new(false, &networks)
            }]);
            assert_eq!(geography.has(), expected, "{record}");
        }
    }
}

#[test]
fn equal_places_are_one_whatever_record_they_are_from() {
    let geography = open(&[
        Writer::new(
            false,
            &[("1.0.0.0/24", json!({"country_code": "DE", "n": 1}))],
        ),
        Writer::new(
            true,
            &[
                ("1.0.1.0/24", json!({"country": {"iso_code": "DE"}})),
                (
                    "2a00::/16",
                    json!({"registered_country": {"iso_code": "de"}}),
                ),
            ],
        ),
    ]);
    let v4 = runs(&geography, "0.0.0.0/0", Wanted::COUNTRY);
    let v6 = runs(&geography, "::/0", Wanted::COUNTRY);
    assert_eq!(v4, [(address("1.0.0.0"), address("1.0.1.255"), PlaceId(1))]);
    assert_eq!(v6.len(), 1);
    assert_eq!(v6[0].2, PlaceId(1));
    assert_eq!(geography.places(), 2);
}

#[test]
fn ipv4_is_read_from_below_its_prefix_and_never_as_ipv6() {
    let networks = [
        ("1.0.0.0/8", country("DE")),
        ("223.0.0.0/8", country("FR")),
        ("2a00::/16", country("US")),
        // Nobody's writer does so; still, these addresses are of IPv4.
        ("64:ff9b::/96", country("US")),
    ];
    let plain = Writer::new(true, &networks);
    for writer in [plain.clone(), plain.with_aliases()] {
        let geography = open(&[writer]);
        let v4 = runs(&geography, "0.0.0.0/0", Wanted::COUNTRY);
        let ends: Vec<_> = v4.iter().map(|(first, last, _)| (*first, *last)).collect();
        assert_eq!(
            ends,
            [
                (address("1.0.0.0"), address("1.255.255.255")),
                (address("223.0.0.0"), address("223.255.255.255"))
            ]
        );
        let v6 = runs(&geography, "::/0", Wanted::COUNTRY);
        assert_eq!(v6.len(), 1, "{v6:?}");
        assert_eq!(v6[0].0, address("2a00::"));
        for text in [
            "::1.2.3.4",
            "::ffff:1.2.3.4",
            "2002:102:304::",
            "2001:0:102:304::",
            "64:ff9b::1.2.3.4",
        ] {
            assert_eq!(geography.lookup(address(text)), Lookup::default(), "{text}");
            let net = format!("{text}/128");
            assert_eq!(runs(&geography, &net, Wanted::COUNTRY), [], "{text}");
        }
        let found = &geography.lookup(address("1.2.3.4")).found[0];
        assert_eq!(found.network.to_string(), "1.0.0.0/8");
    }
}

#[test]
fn an_alias_of_ipv4_in_an_odd_place_has_no_place() {
    let networks = [("1.0.0.0/8", country("DE")), ("2a00::/16", country("US"))];
    // The second one is a loop.
    let aliases = ["2a00:1234::/32", "1.2.0.0/16"];
    let geography = open(&[Writer {
        aliases: aliases.map(|alias| alias.parse().unwrap()).into(),
        ..Writer::new(true, &networks)
    }]);
    let text = |window| {
        let runs = runs(&geography, window, Wanted::COUNTRY).into_iter();
        runs.map(|(first, last, _)| format!("{first}-{last}"))
            .collect::<Vec<_>>()
    };
    let v4 = ["1.0.0.0-1.1.255.255", "1.3.0.0-1.255.255.255"];
    assert_eq!(text("0.0.0.0/0"), v4);
    let v6 = [
        "2a00::-2a00:1233:ffff:ffff:ffff:ffff:ffff:ffff",
        "2a00:1235::-2a00:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
    ];
    assert_eq!(text("::/0"), v6);
    assert_eq!(lookup(&geography, "1.2.3.4"), Place::default());
    assert_eq!(lookup(&geography, "2a00:1234::1.2.3.4"), Place::default());
}

#[test]
fn a_record_for_more_than_ipv4_counts_for_ipv4() {
    let geography = open(&[Writer::new(true, &[("::/0", country("DE"))])]);
    let found = geography.lookup(address("1.2.3.4"));
    assert_eq!(found.place.country, Code::country("DE"));
    assert_eq!(found.found[0].network.to_string(), "0.0.0.0/0");
    assert_eq!(lookup(&geography, "2a00::1").country, Code::country("DE"));
}

#[test]
fn special_purpose_addresses_have_no_place() {
    let geography = open(&[
        Writer::new(false, &[("0.0.0.0/0", country("DE"))]),
        Writer::new(true, &[("::/0", country("DE"))]),
    ]);
    for text in [
        "0.1.2.3",
        "10.1.2.3",
        "100.64.0.0",
        "127.0.0.1",
        "169.254.1.1",
        "172.31.255.255",
        "192.0.2.1",
        "192.168.0.1",
        "198.19.255.255",
        "203.0.113.5",
        "224.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "2001:db8::1",
        "fe80::1",
        "fd00::1",
        "ff02::1",
        "100::1",
        "3fff::1",
    ] {
        assert_eq!(geography.lookup(address(text)), Lookup::default(), "{text}");
    }
    for text in [
        "1.1.1.1",
        "9.255.255.255",
        "11.0.0.0",
        "223.255.255.255",
        "2600::",
        "64:ff9a::1",
    ] {
        assert_eq!(
            lookup(&geography, text).country,
            Code::country("DE"),
            "{text}"
        );
    }
    for (first, last, _) in runs(&geography, "0.0.0.0/0", Wanted::COUNTRY) {
        for address in [first, last] {
            let IpAddr::V4(address) = address else {
                panic!()
            };
            assert!(!subnet::is_special_v4(address.to_bits()), "{address}");
        }
    }
    for (first, last, _) in runs(&geography, "::/0", Wanted::COUNTRY) {
        for address in [first, last] {
            let IpAddr::V6(address) = address else {
                panic!()
            };
            let high = (address.to_bits() >> 64) as u64;
            assert!(high == 0 || !subnet::is_special_v6(high), "{address}");
        }
    }
}

#[test]
fn a_file_that_is_replaced_is_seen_and_read_again() {
    let german = Writer::new(false, &[("1.0.0.0/8", country("DE"))]).bytes();
    let french = Writer::new(false, &[("1.0.0.0/8", country("FR"))]).bytes();
    let other = Writer::new(false, &[("2.0.0.0/8", country("US"))]).bytes();
    let files = Files::new(&[german, other]);
    let first = files.open().unwrap();
    assert!(first.changed().is_empty());

    // Renamed over.
    let new = files.folder.path().join("new");
    fs::write(&new, &french).unwrap();
    fs::rename(&new, &files.paths[0]).unwrap();
    assert_eq!(first.changed(), [files.paths[0].clone()]);
    assert_eq!(lookup(&first, "1.0.0.1").country, Code::country("DE"));
    let second = files.reopen(Some(&first)).unwrap();
    assert_eq!(lookup(&second, "1.0.0.1").country, Code::country("FR"));
    assert!(second.changed().is_empty());
    let same = |number: usize| Arc::ptr_eq(&first.databases[number], &second.databases[number]);
    assert!(!same(0), "the changed one is read again");
    assert!(same(1), "the other one is used again");

    // Cut short and written over in place, while it is in use.
    second.relax();
    fs::write(&files.paths[0], b"").unwrap();
    assert_eq!(second.changed(), [files.paths[0].clone()]);
    assert_eq!(lookup(&second, "1.0.0.1").country, Code::country("FR"));
    assert!(files.reopen(Some(&second)).is_err());
    fs::write(&files.paths[0], vec![0xff; french.len()]).unwrap();
    second.relax();
    assert_eq!(lookup(&second, "1.0.0.1").country, Code::country("FR"));
    assert_eq!(runs(&second, "0.0.0.0/0", Wanted::COUNTRY).len(), 2);

    // Gone: nothing to read.
    fs::remove_file(&files.paths[0]).unwrap();
    assert!(second.changed().is_empty());
    assert_eq!(lookup(&second, "1.0.0.1").country, Code::country("FR"));
}

#[test]
fn copies_leave_no_files_behind() {
    let files = Files::new(&[Writer::new(false, &[("1.0.0.0/8", country("DE"))]).bytes()]);
    let geography = files.open().unwrap();
    let names: Vec<_> = fs::read_dir(files.folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(names, ["0.mmdb"]);
    drop(geography);
}

#[test]
fn no_databases_know_nothing() {
    let geography = Geography::default();
    assert_eq!(runs(&geography, "0.0.0.0/0", Wanted::EVERYTHING), []);
    assert_eq!(geography.lookup(address("1.1.1.1")), Lookup::default());
    assert!(geography.changed().is_empty());
    geography.relax();
    assert_eq!(geography.place(PlaceId(7)), Place::default());
}

#[test]
fn what_is_wrong_with_a_file_is_said_in_one_line() {
    let good = Writer::new(
        false,
        &[("1.0.0.0/8", country("DE")), ("9.0.0.0/8", country("FR"))],
    );
    let bytes = good.bytes();
    let patched = |at: usize, new: &[u8]| {
        let mut bytes = bytes.clone();
        bytes[at..at + new.len()].copy_from_slice(new);
        bytes
    };
    let nodes = 8 + 3;
    let data = nodes * 6 + 16;
    for (bytes, expected) in [
        (Vec::new(), "is empty; get the file again"),
        (
            b"not a database".to_vec(),
            "is no MMDB file, or is cut short: it does not end in metadata; get the file again",
        ),
        (
            bytes[..data].to_vec(),
            "is no MMDB file, or is cut short: it does not end in metadata; get the file again",
        ),
        (
            b"\x1f\x8b\x08\0\0\0\0\0".to_vec(),
            "is compressed; unpack it",
        ),
        (b"PK\x03\x04".to_vec(), "is an archive; unpack it"),
        (
            bytes[..bytes.len() - 30].to_vec(),
            "cannot be used: invalid database at offset",
        ),
        (
            Writer {
                version: 3,
                ..good.clone()
            }
            .bytes(),
            "cannot be used: binary_format_major_version - Expected: 2 Actual: 3; \
             get it again, or in format 2 of MaxMind DB",
        ),
        (
            Writer {
                record_bits: 20,
                ..good.clone()
            }
            .bytes(),
            "cannot be used: record_size - Expected: 24, 28, or 32 Actual: 20; \
             get it again, or in format 2 of MaxMind DB",
        ),
        (
            Writer {
                claimed_nodes: Some(1_000_000),
                ..good.clone()
            }
            .bytes(),
            "cannot be used: the MaxMind DB file's search tree extends beyond the metadata section; \
             get it again, or in format 2 of MaxMind DB",
        ),
        (
            Writer {
                claimed_nodes: Some(0),
                ..good.clone()
            }
            .bytes(),
            "cannot be used: node_count - Expected: positive integer Actual: 0; \
             get it again, or in format 2 of MaxMind DB",
        ),
        (
            patched(6, &[0, 0, 0]),
            "its search tree is damaged: node 1 leads back to node 0; get the file again",
        ),
        (
            patched(9, &[0, 0, 3]),
            "its search tree is damaged: node 2 leads back to node 3; get the file again",
        ),
        (
            patched(6, &[0xff, 0xff, 0xff]),
            "its search tree is damaged: node 1 leads past the data; get the file again",
        ),
        (
            patched(6, &[0, 0, nodes as u8 + 1]),
            "its search tree is damaged: node 1 leads past the data; get the file again",
        ),
        (
            patched(data, &[0x00, 0xff]),
            "the record of 1.0.0.0 does not decode: ",
        ),
        (
            Writer {
                kind: "GeoIP2-Anonymous-IP",
                ..Writer::new(false, &[("1.0.0.0/8", json!({"is_anonymous": true}))])
            }
            .bytes(),
            "a database of type \"GeoIP2-Anonymous-IP\" does not say where an address is; use one of \
             cities, countries or autonomous systems",
        ),
        (
            Writer::new(false, &[("1.0.0.0/8", country("ZZ"))]).bytes(),
            "a database of type \"Test-City\" does not say where an address is; use one of cities, \
             countries or autonomous systems",
        ),
    ] {
        let error = Files::new(&[bytes]).open().unwrap_err();
        let expected = format!("0.mmdb: {expected}");
        assert!(error.starts_with(&expected), "{error}\nis not\n{expected}");
        assert!(
            error.ends_with(&expected) || expected.ends_with(['t', ' ']),
            "{error}"
        );
        assert_eq!(error.lines().count(), 1, "{error}");
    }
}

#[test]
fn what_is_wrong_with_a_path_is_said_in_one_line() {
    let mut files = Files::new(&[Writer::new(false, &[("1.0.0.0/8", country("DE"))]).bytes()]);
    let good = files.paths[0].clone();
    let missing = files.folder.path().join("missing");
    let of = |paths: &[&PathBuf], folder: &Path| {
        let paths: Vec<_> = paths.iter().map(|path| (*path).clone()).collect();
        let error = Geography::open(&paths, folder, None)
            .unwrap_err()
            .to_string();
        error.replace(&format!("{}/", files.folder.path().display()), "")
    };
    assert_eq!(
        of(&[&good, &missing], files.folder.path()),
        "missing: cannot read: No such file or directory (os error 2); check the path and its permissions"
    );
    assert_eq!(
        of(&[&files.folder.path().to_owned()], files.folder.path()),
        format!(
            "{}: cannot read: it is a folder, and must be a regular file; check the path and its permissions",
            files.folder.path().display()
        )
    );
    assert_eq!(
        of(&[&good], &missing),
        "0.mmdb: cannot copy into missing: No such file or directory (os error 2); \
         check its permissions and the free space"
    );
    files.paths.push(good);
    assert!(files.open().is_ok(), "the same file twice is no error");
}

#[test]
fn a_record_that_does_not_decode_says_nothing() {
    // Past the sample that is tried at opening.
    let net = |number: u32| {
        let first = Prefix::host(address("1.0.0.0")).first + (u128::from(number) << 104);
        let prefix = Prefix {
            family: Family::V4,
            first,
            len: 24,
        };
        (
            prefix.net(),
            country(if number.is_multiple_of(2) { "DE" } else { "FR" }),
        )
    };
    let mut writer = Writer::new(false, &[]);
    writer.networks.extend((0..12_000).map(net));
    writer.networks.push((
        "2.0.0.0/24".parse().unwrap(),
        json!({"country_code": "damage me"}),
    ));
    let mut bytes = writer.bytes();
    let at = memchr::memmem::find(&bytes, b"damage me").unwrap();
    bytes[at] = 0xff;
    let geography = Files::new(&[bytes]).open().unwrap();
    assert_eq!(lookup(&geography, "2.0.0.1"), Place::default());
    assert_eq!(runs(&geography, "2.0.0.0/8", Wanted::COUNTRY), []);
    assert_eq!(geography.databases().next().unwrap().damaged(), 2);
    assert_eq!(lookup(&geography, "1.0.1.1").country, Code::country("FR"));
}

/// A few records, so that places repeat.
fn record(number: u8) -> (Json, Place) {
    match number {
        0 => (nested_city(), mountain_view()),
        1 => (
            country("FR"),
            Place {
                continent: Code::continent("EU"),
                country: Code::country("FR"),
                ..Place::default()
            },
        ),
        2 => (
            json!({"asn": 64_496}),
            Place {
                asn: Some(64_496),
                ..Place::default()
            },
        ),
        3 => (
            json!({"latitude": 1.5, "longitude": 2.5}),
            Place {
                location: Location::new(1.5, 2.5),
                ..Place::default()
            },
        ),
        _ => (json!({"nothing": "of use"}), Place::default()),
    }
}

fn only(place: &Place, wanted: Wanted) -> Place {
    let mut only = place.clone();
    let wants = |attribute| wanted.contains(attribute);
    only.location = only.location.filter(|_| wants(Wanted::LOCATION));
    only.continent = only.continent.filter(|_| wants(Wanted::CONTINENT));
    only.country = only.country.filter(|_| wants(Wanted::COUNTRY));
    only.asn = only.asn.filter(|_| wants(Wanted::ASN));
    only.set_city(place.city().filter(|_| wants(Wanted::CITY)));
    only.set_organisation(place.organisation().filter(|_| wants(Wanted::ORGANISATION)));
    if !wants(Wanted::SUBDIVISION) {
        only.set_subdivisions([]);
    }
    only
}

/// By the definition: of each database the longest network, put together.
fn defined(databases: &[(Writer, Vec<u8>)], at: Prefix, wanted: Wanted) -> Place {
    let mut place = Place::default();
    let ranges = placeless::ranges(at.family);
    if ranges
        .iter()
        .any(|&(first, last)| (first..=last).contains(&at.first))
    {
        return place;
    }
    for (writer, records) in databases {
        if at.family == Family::V6 && !writer.is_v6 {
            continue;
        }
        let (key, bits) = writer.key(at.net());
        assert!(bits == 128 || !writer.is_v6);
        let networks = writer.networks.iter().zip(records);
        let longest = networks
            .map(|((net, _), record)| (writer.key(*net), record))
            .filter(|((first, len), _)| (first ^ key).leading_zeros() >= u32::from(*len))
            .max_by_key(|((_, len), _)| *len);
        if let Some((_, number)) = longest {
            place.complete(&only(&record(*number).1, wanted));
        }
    }
    place
}

fn nets(is_v6: bool) -> impl Strategy<Value = IpNet> {
    let bases: &[&str] = match is_v6 {
        false => &[
            "1.0.0.0",
            "1.0.0.255",
            "1.128.0.0",
            "9.255.255.255",
            "10.0.0.0",
            "223.255.255.255",
        ],
        true => &[
            "1.0.0.0",
            "10.0.0.0",
            "::",
            "::1:0:0:0",
            "64:ff9b::",
            "2001::",
            "2001:200::",
            "2002::",
            "2a00::",
            "2a00:0:0:1::",
            "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
        ],
    };
    (proptest::sample::select(bases), any::<u8>(), any::<u128>()).prop_map(|(base, len, noise)| {
        let host = Prefix::host(address(base));
        let len = len % (host.len + 1);
        let first = host.first ^ (noise & 0xff) << (128 - host.len);
        Prefix { first, ..host }.around(len).net()
    })
}

fn database() -> impl Strategy<Value = (Writer, Vec<u8>)> {
    let networks = |is_v6: bool| vec((nets(is_v6), 0..5_u8), 1..20);
    let any_networks = any::<bool>().prop_flat_map(move |is_v6| (Just(is_v6), networks(is_v6)));
    let record_bits = proptest::sample::select(vec![24_u16, 28, 32]);
    (any_networks, any::<bool>(), record_bits).prop_map(
        |((is_v6, networks), aliases, record_bits)| {
            let mut networks = networks;
            // One of which something is known, or the database would be refused.
            networks.push(("9.9.9.0/24".parse().unwrap(), 0));
            networks.sort();
            networks.dedup_by_key(|(net, _)| *net);
            let records = networks.iter().map(|(_, record)| *record).collect();
            let networks = networks
                .into_iter()
                .map(|(net, number)| (net, record(number).0));
            let writer = Writer {
                record_bits,
                networks: networks.collect(),
                ..Writer::new(is_v6, &[])
            };
            match aliases && is_v6 {
                true => (writer.with_aliases(), records),
                false => (writer, records),
            }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn a_walk_says_what_a_lookup_by_the_definition_says(
        databases in vec(database(), 1..4),
        window in any::<bool>().prop_flat_map(nets),
        whole in any::<bool>(),
        wanted in vec(proptest::sample::select(&Wanted::NAMES[..]), 1..4),
    ) {
        let wanted = wanted.iter().fold(Wanted::NOTHING, |all, (one, _)| all | *one);
        let writers: Vec<_> = databases.iter().map(|(writer, _)| writer.clone()).collect();
        let geography = open(&writers);
        let window = Prefix::of(window);
        let window = if whole { Prefix::everything(window.family) } else { window };
        let host = window.end().len;
        let mut edges: Vec<_> = writers
            .iter()
            .flat_map(|writer| &writer.networks)
            .map(|(net, _)| Prefix::of(*net))
            .filter(|net| net.family == window.family)
            .flat_map(|net| {
                let (first, last) = (net.first, net.end().first);
                let one = 1 << (128 - host);
                [first, last, first.wrapping_sub(one), last.wrapping_add(one)]
            })
            .chain([window.first, window.end().first])
            .filter(|address| (window.first..=window.last()).contains(address))
            .collect();
        edges.sort_unstable();
        let steps = steps(&geography, window, wanted);
        for address in edges {
            let at = Prefix { first: address, len: host, ..window };
            let step = steps.iter().find(|(first, last, _)| (first..=last).contains(&&address));
            let (.., id) = step.unwrap();
            prop_assert_eq!(geography.place(*id), defined(&databases, at, wanted), "{}", at.net());
            let everything = defined(&databases, at, Wanted::EVERYTHING);
            prop_assert_eq!(geography.lookup(at.net().addr()).place, everything, "{}", at.net());
        }
    }
}

/// Numbers that only look random, the same each time (xorshift64).
struct Noise(u64);

impl Noise {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) as usize % end
    }
}

#[test]
fn damaged_files_never_panic_and_every_walk_ends() {
    let mut noise = Noise(0x9e37_79b9_7f4a_7c15);
    let (mut opened, mut damaged) = (0, 0);
    for record_bits in [24, 28, 32] {
        let networks = [
            ("1.0.0.0/24", nested_city()),
            ("1.0.1.0/28", flat_city()),
            ("9.0.0.0/9", country("FR")),
            ("2600::/20", flat_city()),
            ("2a00::/29", nested_city()),
        ];
        let writer = Writer {
            record_bits,
            ..Writer::new(true, &networks).with_aliases()
        };
        let good = writer.bytes();
        let files = Files::new(std::slice::from_ref(&good));
        let nodes = open(&[writer]).databases().next().unwrap().nodes() as usize;
        for _ in 0..1_000 {
            let mut bytes = good.clone();
            if noise.below(8) == 0 {
                bytes.truncate(noise.below(good.len()));
            }
            for _ in 0..noise.below(6) {
                if !bytes.is_empty() {
                    let at = noise.below(bytes.len());
                    // Small changes lead to nodes and records that exist.
                    bytes[at] = match noise.below(3) {
                        0 => bytes[at].wrapping_add(1),
                        1 => bytes[at] ^ 1 << noise.below(8),
                        _ => noise.below(256) as u8,
                    };
                }
            }
            fs::write(&files.paths[0], &bytes).unwrap();
            if let Err(error) = files.open() {
                assert_eq!(error.lines().count(), 1, "{error}");
            }
            // Records are met that the sample would have refused, as in a large file.
            let Ok(database) = Database::read(&files.paths[0], files.folder.path()) else {
                continue;
            };
            opened += 1;
            let geography = Geography {
                databases: vec![Arc::new(database)],
                ..Geography::default()
            };
            for family in [Family::V4, Family::V6] {
                let window = Prefix::everything(family);
                let steps = steps(&geography, window, Wanted::EVERYTHING);
                assert!(steps.len() < nodes + 100, "{}", steps.len());
                for (first, ..) in steps {
                    let host = Prefix {
                        first,
                        ..window.end()
                    };
                    geography.lookup(host.net().addr());
                }
            }
            let database = geography.databases().next().unwrap();
            damaged += usize::from(database.damaged() > 0);
        }
    }
    assert!(opened > 500 && damaged > 50, "{opened} {damaged}");
}

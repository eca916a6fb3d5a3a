//! The fast path on the host, over tables made by hand: every verdict, and the octets of answers.

use std::net::IpAddr;

use geodns_common::abi::{
    ANSWER_WORDS, Answer, Block, Entry, MAX_ANSWER_MIRRORS, Name, Order, Page, Pool, Row, SHARES,
    SHELF_WORDS, SLOTS, SOA_WORDS, Set, SetType, Settings, Shelf, Soa, Target, Zone,
};
use geodns_common::layout::Cookies;
use geodns_common::respond::respond;
use geodns_common::scratch::{MAX_QUERY, Scratch};
use geodns_common::tables::Tables;
use geodns_common::verdict::Verdict;
use geodns_common::wire;
use proptest::prelude::*;

/// `example.org.` with `www` (steered by client: pool 0), `v4` (IPv4 only: pool 1), `all` (pool 2),
/// `*.cdn` (pool 0), `big` (records that do not fit: pool 3), `alias` (CNAMEs: pool 7); from the zone
/// file `plain` (A, TXT and one too long), `both` (TXT beside pool 0), `many` (types that are not
/// listed), `to` (a CNAME that leads away), `*.wild` (TXT) and the cut `sub`. `example.net.` is not
/// complete.
struct World {
    settings: Settings,
    names: Vec<Name>,
    zones: Vec<Zone>,
    pools: Vec<Pool>,
    answers: Vec<Answer>,
    shelves: Vec<Shelf>,
    regions: Vec<u64>,
    slots: Vec<u64>,
    roots: Vec<Page>,
    blocks: Vec<Block>,
    cookies: Cookies,
}

/// Seconds since 1970.
const NOW: u32 = 1_800_000_000;

impl Tables for World {
    fn settings(&self) -> &Settings {
        &self.settings
    }
    fn name(&self, slot: u32) -> Option<&Name> {
        self.names.get(slot as usize)
    }
    fn zone(&self, index: u32) -> Option<&Zone> {
        self.zones.get(index as usize)
    }
    fn pool(&self, index: u32) -> Option<&Pool> {
        self.pools.get(index as usize)
    }
    fn answer(&self, index: u32) -> Option<&Answer> {
        self.answers.get(index as usize)
    }
    fn shelf(&self, index: u32) -> Option<&Shelf> {
        self.shelves.get(index as usize)
    }
    fn region(&self, index: u32) -> Option<u64> {
        self.regions.get(index as usize).copied()
    }
    fn slot(&self, index: u32) -> Option<u64> {
        self.slots.get(index as usize).copied()
    }
    fn random(&self) -> u32 {
        0
    }
    fn root(&self, index: u32) -> Option<&Page> {
        self.roots.get(index as usize)
    }
    fn block(&self, number: u32) -> Option<&Block> {
        self.blocks.get(number as usize)
    }
    fn cookies(&self) -> Option<&Cookies> {
        Some(&self.cookies)
    }
    fn now(&self, _: &Scratch) -> u32 {
        NOW
    }
}

fn wire_name(name: &str) -> Vec<u8> {
    let mut octets = Vec::new();
    for label in name.split('.').filter(|label| !label.is_empty()) {
        octets.push(label.len() as u8);
        octets.extend_from_slice(label.as_bytes());
    }
    octets.push(0);
    octets
}

fn a(last: u8) -> Vec<u8> {
    vec![
        0xc0, 0x0c, 0, 1, 0, 1, 0xab, 0xcd, 0xef, 60, 0, 4, 192, 0, 2, last,
    ]
}

fn aaaa(last: u8) -> Vec<u8> {
    let mut record = vec![
        0xc0, 0x0c, 0, 28, 0, 1, 0xab, 0xcd, 0xef, 60, 0, 16, 0x20, 1, 0xd, 0xb8,
    ];
    record.extend_from_slice(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last]);
    record
}

fn txt(text: &[u8]) -> Vec<u8> {
    let head = [0xc0, 0x0c, 0, 16, 0, 1, 0xab, 0xcd, 0xef, 60, 0];
    [&head[..], &[text.len() as u8 + 1, text.len() as u8], text].concat()
}

/// To `a.`
fn cname() -> Vec<u8> {
    vec![
        0xc0, 0x0c, 0, 5, 0, 1, 0xab, 0xcd, 0xef, 60, 0, 3, 1, b'a', 0,
    ]
}

fn words<const N: usize>(octets: &[u8]) -> [u64; N] {
    let mut words = [0; N];
    for (word, octets) in words.iter_mut().zip(octets.chunks(8)) {
        let mut bytes = [0; 8];
        bytes[..octets.len()].copy_from_slice(octets);
        *word = u64::from_ne_bytes(bytes);
    }
    words
}

/// Another TTL than any octet of it alone.
const TTL: u32 = 0xabcd_ef3c;

/// Finished records: the TTL is the pool's.
fn answer(records: &[Vec<u8>]) -> Answer {
    let without_ttl = |record: &Vec<u8>| [&record[..6], &[0; 4], &record[10..]].concat();
    let octets: Vec<u8> = records.iter().flat_map(without_ttl).collect();
    let several = match records {
        [_] => 0,
        [record, ..] if record.len() == 16 => Answer::SEVERAL_A,
        _ => Answer::SEVERAL_AAAA,
    };
    Answer {
        len: octets.len() as u16,
        records: records.len() as u16,
        several,
        before: 0,
        shared: 0,
        words: words::<ANSWER_WORDS>(&octets),
    }
}

const SOA: &[u8] = &[
    0, 6, 0, 1, 0, 0, 0, 30, 0, 22, 0, 0, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 4, 0, 0, 0,
    30,
];

impl World {
    fn new() -> Self {
        let mut world = Self {
            settings: Settings {
                hash_key: wire::HashKey::new([7, 8]),
                generation: 1,
                name_mask: 63,
                port: 53,
                walk: 1,
                ..Settings::default()
            },
            names: vec![Name::default(); 64],
            zones: Vec::new(),
            pools: Vec::new(),
            answers: Vec::new(),
            shelves: vec![[0; SHELF_WORDS]; 2],
            // Region 0 prefers mirror 0, region 1 mirror 1.
            regions: vec![Order::pack([0, 1]).0, Order::pack([1, 0]).0],
            slots: Vec::new(),
            roots: vec![[Entry::leaf(0, 1); 256]; 512],
            blocks: vec![[Entry::leaf(0, 16); 16]; 2],
            cookies: Cookies::default(),
        };
        for state in [Zone::COMPLETE, Zone::PASS | Zone::COMPLETE, 0] {
            world.zones.push(Zone {
                row: Row::new(state),
                apex_len: wire_name("example.org").len() as u16,
                _pad: [0; 3],
                soa: [Soa {
                    len: SOA.len() as u16,
                    pointers_at: [0; 2],
                    pointers: [(0xc00c - wire_name("example.org").len()) as u16; 2],
                    _pad: [0; 3],
                    words: words::<SOA_WORDS>(SOA),
                }; 2],
            });
        }
        let pool = |number: u64, answers, has_v6: u64, flags, count| Pool {
            in_service: std::array::from_fn(|_| std::array::from_fn(|_| Row::new(u64::MAX))),
            atlas: Row::new(0),
            ttl: Row::new(TTL.into()),
            answered_by: Row::new(number | number << 32),
            second: [Row::new(0), Row::new(0)],
            spare: [Row::new(0), Row::new(0)],
            limited: 0,
            groups: 0,
            _pad: 0,
            has: [u64::MAX >> (64 - 20), has_v6],
            fallback: [Order::pack([0, 1]).0; 2],
            answers,
            count,
            flags,
        };
        world.pools = vec![
            pool(0, 0, 3, 0, 1),
            pool(1, 0, 0, 0, 1),
            pool(2, 0, 3, Pool::ALL, 20),
            pool(3, 80, 1, 0, 1),
            pool(4, 0, 3, Pool::SLOW, 1),
            pool(5, 0, 3, Pool::ALL, 1),
            pool(6, 84, 1, 0, 1),
            pool(7, 88, 1, Pool::ALIAS, 1),
        ];
        for mirror in 0..20 {
            for record in [a(mirror), a(mirror + 100), aaaa(mirror), aaaa(mirror + 100)] {
                world.answers.push(answer(&[record]));
            }
        }
        // `big`: the A fill an answer, the AAAA do not fit one.
        let all = [a(1), a(2), a(3), a(4), a(5), a(6), a(7)];
        world.answers.push(answer(&all));
        world.answers.push(answer(&all));
        let too_long = Answer {
            records: 9,
            ..Answer::default()
        };
        world.answers.extend([too_long; 2]);
        // `several`: several of each.
        world.answers.extend([answer(&[a(1), a(2)]); 2]);
        let all = [aaaa(1), aaaa(2), aaaa(3), aaaa(4)];
        world.answers.extend([answer(&all); 2]);
        // `alias`: one CNAME.
        world.answers.extend([answer(&[cname()]); 2]);
        let steered = |pool| Target::Steered { zone: 0, pool };
        let empty = Target::Static { zone: 0, set: 0 };
        let both = world.shelve(100, Set::POOL, &[(16, 1, txt(b"both"))]);
        let plain = [(1, 1, a(9)), (16, 1, txt(b"plain")), (99, 3, Vec::new())];
        // To the end of its page.
        let plain = world.shelve(SHELF_WORDS as u32 - 9, 0, &plain);
        let many = world.shelve(
            SHELF_WORDS as u32,
            Set::MORE,
            &[(16, 2, [a(1), a(2)].concat())],
        );
        let to = world.shelve(600, Set::CNAME, &[(5, 1, cname())]);
        let wild = world.shelve(700, 0, &[(16, 1, txt(b"wild"))]);
        for (name, exact, wildcard) in [
            ("example.org", empty, Target::None),
            (
                "example.net",
                Target::Static { zone: 2, set: 0 },
                Target::None,
            ),
            (
                "www.example.net",
                Target::Steered { zone: 2, pool: 0 },
                Target::None,
            ),
            ("www.example.org", steered(0), Target::None),
            ("v4.example.org", steered(1), Target::None),
            ("all.example.org", steered(2), Target::None),
            ("big.example.org", steered(3), Target::None),
            ("slow.example.org", steered(4), Target::None),
            ("first.example.org", steered(5), Target::None),
            ("several.example.org", steered(6), Target::None),
            (
                "away.example.org",
                Target::Steered { zone: 1, pool: 0 },
                Target::None,
            ),
            ("alias.example.org", steered(7), Target::None),
            ("plain.example.org", plain, Target::None),
            ("both.example.org", both, Target::None),
            ("many.example.org", many, Target::None),
            ("to.example.org", to, Target::None),
            ("wild.example.org", empty, wild),
            ("sub.example.org", Target::Pass, Target::None),
            ("slowly.example.org", empty, Target::Pass),
            ("cdn.example.org", empty, steered(0)),
            ("stop.cdn.example.org", empty, Target::None),
        ] {
            world.insert(name, exact, wildcard);
        }
        // 198.51.100.0/24 and 2000::/16 are of region 1; 10.9.0.0/16 has no answer here.
        world.roots[198][51] = Entry::block(0);
        world.blocks[0][6] = Entry::block(1);
        world.blocks[1][4] = Entry::leaf(1, 24);
        world.roots[256 + 0x20][0] = Entry::leaf(1, 16);
        world.roots[10][9] = Entry::DEEPER;
        world
    }

    /// Puts a set on the shelves: types, each with a number of records and their octets.
    fn shelve(&mut self, set: u32, flags: u64, types: &[(u16, u16, Vec<u8>)]) -> Target {
        let words = self.shelves.as_flattened_mut();
        let at = set as usize;
        words[at] = flags | types.len() as u64;
        let mut start = 1 + types.len();
        for (number, (rtype, records, octets)) in types.iter().enumerate() {
            let listed = SetType::new(*rtype, *records, octets.len() as u16, start as u16);
            words[at + 1 + number] = listed.0;
            for octets in octets.chunks(8) {
                let mut word = [0; 8];
                word[..octets.len()].copy_from_slice(octets);
                words[at + start] = u64::from_ne_bytes(word);
                start += 1;
            }
        }
        assert_eq!(at / SHELF_WORDS, (at + start - 1) / SHELF_WORDS);
        Target::Static { zone: 0, set }
    }

    fn insert(&mut self, name: &str, exact: Target, wildcard: Target) {
        let hash = wire::hash_name(&self.settings.hash_key, &wire_name(name));
        let mut slot = hash[0] as usize & 63;
        while self.names[slot].hash != [0; 2] {
            slot = (slot + 1) & 63;
        }
        self.names[slot] = Name {
            hash,
            exact: Row::new(exact.pack()),
            wildcard: Row::new(wildcard.pack()),
        };
    }

    fn ask(&self, query: &[u8], client: &str) -> (Verdict, Vec<u8>) {
        let mut scratch = Scratch::new();
        // What a packet before left behind must not matter.
        scratch.frame.fill(0xa5);
        assert!(scratch.set_query(query, client.parse::<IpAddr>().unwrap()));
        let verdict = respond(&mut scratch, self);
        (verdict, scratch.message().to_vec())
    }

    fn verdict(&self, query: &[u8]) -> Verdict {
        self.ask(query, "192.0.2.1").0
    }
}

fn question(name: &str, qtype: u16) -> Vec<u8> {
    let mut query = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    query.extend_from_slice(&wire_name(name));
    query.extend_from_slice(&qtype.to_be_bytes());
    query.extend_from_slice(&1u16.to_be_bytes());
    query
}

fn with_opt(mut query: Vec<u8>, size: u16, version: u8, flags: u16, options: &[u8]) -> Vec<u8> {
    query[11] = 1;
    query.extend_from_slice(&[0, 0, 41]);
    query.extend_from_slice(&size.to_be_bytes());
    query.extend_from_slice(&[0, version]);
    query.extend_from_slice(&flags.to_be_bytes());
    query.extend_from_slice(&(options.len() as u16).to_be_bytes());
    query.extend_from_slice(options);
    query
}

/// The response to a question without EDNS: header, question, and these sections.
fn expected(query: &[u8], answers: u16, authority: u16, records: &[u8]) -> Vec<u8> {
    let mut response = query.to_vec();
    response[2] = 0x84 | query[2] & 1;
    response[3] = 0;
    response[6..8].copy_from_slice(&answers.to_be_bytes());
    response[8..10].copy_from_slice(&authority.to_be_bytes());
    response.extend_from_slice(records);
    response
}

#[test]
fn answers_by_client_and_type() {
    let world = World::new();
    for (name, qtype, client, record) in [
        ("www.example.org", 1, "192.0.2.1", a(0)),
        ("www.example.org", 28, "192.0.2.1", aaaa(0)),
        ("www.example.org", 1, "198.51.100.200", a(1)),
        ("www.example.org", 1, "198.51.99.200", a(0)),
        ("WwW.eXample.ORG", 1, "198.51.100.200", a(1)),
        ("www.example.org", 28, "2001:db8:100::1", aaaa(0)),
        ("www.example.org", 28, "2000::1", aaaa(1)),
        ("x.cdn.example.org", 1, "192.0.2.1", a(0)),
        ("x.Y.z.CDN.example.org", 1, "192.0.2.1", a(0)),
    ] {
        let query = question(name, qtype);
        let (verdict, response) = world.ask(&query, client);
        assert_eq!(verdict, Verdict::Answered, "{name} {client}");
        assert_eq!(response, expected(&query, 1, 0, &record), "{name} {client}");
    }
}

#[test]
fn answers_with_several_records() {
    let world = World::new();
    let query = question("big.example.org", 1);
    let records = [a(1), a(2), a(3), a(4), a(5), a(6), a(7)].concat();
    assert_eq!(
        world.ask(&query, "192.0.2.1").1,
        expected(&query, 7, 0, &records)
    );

    let query = question("all.example.org", 1);
    let records: Vec<u8> = (0..MAX_ANSWER_MIRRORS as u8).flat_map(a).collect();
    assert_eq!(
        world.ask(&query, "192.0.2.1").1,
        expected(&query, MAX_ANSWER_MIRRORS as u16, 0, &records)
    );
    let query = question("first.example.org", 1);
    assert_eq!(
        world.ask(&query, "192.0.2.1").1,
        expected(&query, 1, 0, &a(0))
    );
}

#[test]
fn every_record_has_the_ttl_of_the_pool() {
    let world = World::new();
    for (qtype, records) in [
        (1, vec![a(1), a(2)]),
        (28, vec![aaaa(1), aaaa(2), aaaa(3), aaaa(4)]),
    ] {
        let query = question("several.example.org", qtype);
        let count = records.len() as u16;
        assert_eq!(
            world.ask(&query, "192.0.2.1").1,
            expected(&query, count, 0, &records.concat())
        );
    }
}

/// Sets who is in service, for both families and every share of the clients.
fn in_service(pool: &mut Pool, mask: u64) {
    for row in pool.in_service.as_flattened_mut() {
        row.set(mask);
    }
}

#[test]
fn mirrors_out_of_service_are_left_out() {
    let mut world = World::new();
    let query = question("www.example.org", 1);
    for (mask, record) in [(!1, a(1)), (1 << 9, a(9))] {
        in_service(&mut world.pools[0], mask);
        assert_eq!(
            world.ask(&query, "192.0.2.1").1,
            expected(&query, 1, 0, &record)
        );
    }
    in_service(&mut world.pools[0], !3);
    world.pools[0].fallback = [Order::pack([0, 1, 5]).0; 2];
    assert_eq!(
        world.ask(&query, "192.0.2.1").1,
        expected(&query, 1, 0, &a(5))
    );
}

// Invariant 13
#[test]
fn a_mirror_that_does_not_take_every_client_is_given_by_orders_alone() {
    let mut world = World::new();
    let query = question("www.example.org", 1);
    let pool = &mut world.pools[0];
    pool.fallback = [Order::pack([0, 1]).0; 2];
    pool.limited = 1 << 5;
    // Those of the orders are out: of the rest only one that takes everybody is given.
    in_service(pool, 1 << 5 | 1 << 6);
    let answer = world.ask(&query, "192.0.2.1").1;
    assert_eq!(answer, expected(&query, 1, 0, &a(6)));
    let pool = &mut world.pools[0];
    in_service(pool, 1 << 5);
    pool.spare[0].set(1 << 2);
    let answer = world.ask(&query, "192.0.2.1").1;
    assert_eq!(answer, expected(&query, 1, 0, &a(2)));
    world.pools[0].spare[0].set(0);
    assert_eq!(world.ask(&query, "192.0.2.1").0, Verdict::Servfail);
}

/// A COOKIE option of N octets.
fn cookie_option(len: u8) -> Vec<u8> {
    let mut option = vec![0, 10, 0, len];
    option.extend((0..len).map(|octet| octet + 1));
    option
}

#[test]
fn cookies_are_made_and_known_again() {
    let mut world = World::new();
    let ask = |world: &World, options: &[u8], client: &str| {
        let query = with_opt(question("www.example.org", 1), 1232, 0, 0, options);
        world.ask(&query, client)
    };
    // Nobody makes any: the option is one that is not known.
    let (verdict, without) = ask(&world, &cookie_option(8), "192.0.2.1");
    assert_eq!(verdict, Verdict::Answered);
    assert_eq!(without[without.len() - 2..], [0, 0]);

    world.cookies.secrets = [[1, 2], [3, 4], [5, 6], [7, 8]];
    world.cookies.row = Row::new(Cookies::row(0, 1));
    let (verdict, made) = ask(&world, &cookie_option(8), "192.0.2.1");
    assert_eq!(verdict, Verdict::Answered);
    let option = made[made.len() - 28..].to_vec();
    assert_eq!(option[..4], [0, 10, 0, 24]);
    assert_eq!(option[4..12], cookie_option(8)[4..]);
    assert_eq!(option[12..16], [1, 0, 0, 0]);
    assert_eq!(option[16..20], NOW.to_be_bytes());
    assert_eq!(made[..made.len() - 30], without[..without.len() - 2]);

    // It comes back as it is, at the same address alone, and with more options beside it.
    let (_, again) = ask(&world, &option, "192.0.2.1");
    assert_eq!(again, made);
    let (_, other) = ask(&world, &option, "192.0.2.2");
    assert_ne!(other[other.len() - 8..], option[20..]);
    let unknown = [0xff, 0xee, 0, 1, 0];
    let (_, twice) = ask(
        &world,
        &[&unknown, &option[..], &cookie_option(8)].concat(),
        "192.0.2.1",
    );
    assert_eq!(twice, made);

    // The secret that is good as well is as good, but makes none.
    world.cookies.row = Row::new(Cookies::row(2, 0));
    let (_, rolled) = ask(&world, &option, "192.0.2.1");
    assert_eq!(rolled[..rolled.len() - 8], made[..made.len() - 8]);
    assert_ne!(rolled[rolled.len() - 8..], made[made.len() - 8..]);

    // The client's subnet says where it is, and not where the packet came from.
    let subnet = [0, 8, 0, 7, 0, 1, 24, 0, 9, 9, 9];
    let (_, beside) = ask(&world, &[&option[..], &subnet].concat(), "192.0.2.1");
    assert_eq!(beside[beside.len() - 8..], rolled[rolled.len() - 8..]);
}

#[test]
fn who_asks_who_we_are_is_told() {
    let mut world = World::new();
    let query = with_opt(question("www.example.org", 1), 1232, 0, 0, &[0, 3, 0, 0]);
    assert_eq!(world.verdict(&query), Verdict::EdnsOption);
    for len in [0, 1, 4, 12, 128, 200] {
        let id: Vec<u8> = (1..=len).collect();
        world.settings.set_nsid(&id);
        let (verdict, response) = world.ask(&query, "192.0.2.1");
        assert_eq!(verdict, Verdict::Answered);
        let len = usize::from(len.min(128));
        let option = &response[response.len() - 4 - len..];
        assert_eq!(option[..4], [0, 3, 0, len as u8]);
        assert_eq!(option[4..], id[..len]);
    }
}

#[test]
fn a_share_of_the_clients_is_treated_alike_and_apart_from_the_others() {
    let mut world = World::new();
    let query = question("www.example.org", 1);
    // Half of the shares have lost mirror 0, and that they differ is said beforehand.
    world.pools[0].ttl = Row::new(TTL as u64 | Pool::SPLIT);
    for row in &mut world.pools[0].in_service[0][..SHARES / 2] {
        row.set(!1);
    }
    let ask = |world: &World, client: String| {
        let response = world.ask(&query, &client).1;
        response[response.len() - 1]
    };
    let mut moved = 0;
    for net in 0..=255 {
        let first = ask(&world, format!("192.0.{net}.1"));
        assert_eq!(ask(&world, format!("192.0.{net}.254")), first);
        moved += u32::from(first == 1);
    }
    assert!((96..160).contains(&moved), "{moved} of 256");
    // By IPv6 too, by /56.
    let first = ask(&world, "2001:db8:1:200::1".into());
    assert_eq!(ask(&world, "2001:db8:1:2ff:ffff::1".into()), first);
}

#[test]
fn with_none_in_service_it_is_a_failure_and_no_authority() {
    let mut world = World::new();
    in_service(&mut world.pools[0], 0);
    let query = question("www.example.org", 1);
    let (verdict, response) = world.ask(&query, "192.0.2.1");
    assert_eq!(verdict, Verdict::Servfail);
    let mut expected = expected(&query, 0, 0, &[]);
    expected[2] &= !4;
    expected[3] = 2;
    assert_eq!(response, expected);
}

#[test]
fn another_pool_answers_in_its_place() {
    let mut world = World::new();
    world.pools[0].answered_by.set(1 << 32 | 6);
    let query = question("www.example.org", 1);
    let records = [a(1), a(2)].concat();
    assert_eq!(
        world.ask(&query, "192.0.2.1").1,
        expected(&query, 2, 0, &records)
    );
    // Of the other family the pool that was asked decides whether there is any.
    world.pools[1].answered_by.set(6 << 32 | 6);
    let query = question("v4.example.org", 28);
    assert_eq!(world.ask(&query, "192.0.2.1").0, Verdict::Nodata);
}

#[test]
fn the_second_answer_of_a_mirror_takes_the_place_of_the_first() {
    let mut world = World::new();
    world.pools[0].second[1].set(1);
    for (qtype, record) in [(1, a(0)), (28, aaaa(100))] {
        let query = question("www.example.org", qtype);
        assert_eq!(
            world.ask(&query, "192.0.2.1").1,
            expected(&query, 1, 0, &record)
        );
    }
}

#[test]
fn a_group_is_drawn_from() {
    let mut world = World::new();
    // Region 0 is group 0 and then mirror 7; the slots of the group are mirrors 2 and 3 in turns.
    world.regions[0] = Order::pack([Order::group(0), 7]).0;
    world.pools[0].flags = Pool::GROUPS;
    let turn = |slot: u32| Order::pack([2 + slot as u8 % 2, 3 - slot as u8 % 2]).0;
    world.slots = (0..SLOTS).map(turn).collect();
    let query = question("www.example.org", 1);
    let ask = |world: &World, net: u32| {
        let response = world.ask(&query, &format!("192.0.{net}.1")).1;
        let (head, records) = response.split_at(query.len());
        assert_eq!(u32::from(head[7]), records.len() as u32 / 16);
        records
            .chunks(16)
            .map(|record| record[15])
            .collect::<Vec<_>>()
    };
    let firsts: Vec<_> = (0..256).map(|net| ask(&world, net)).collect();
    assert!(firsts.iter().all(|first| *first == [2] || *first == [3]));
    let twos = firsts.iter().filter(|first| **first == [2]).count();
    assert!((96..160).contains(&twos), "{twos} of 256");
    // One that is out leaves its clients to the next of the slot, and moves no other.
    in_service(&mut world.pools[0], !(1 << 2));
    assert!((0..256).all(|net| ask(&world, net) == [3]));
    // More than one: the rest of the group before the next step, none twice.
    world.pools[0].count = 3;
    in_service(&mut world.pools[0], !0);
    for (net, first) in (0..256).zip(&firsts) {
        let other = 5 - first[0];
        assert_eq!(ask(&world, net), [first[0], other, 7]);
    }
}

#[test]
fn no_data_has_the_soa() {
    let world = World::new();
    let query = question("v4.EXAMPLE.org", 28);
    let (verdict, response) = world.ask(&query, "192.0.2.1");
    assert_eq!(verdict, Verdict::Nodata);
    let apex = 0xc000 | (12 + 3u16);
    let record = [&apex.to_be_bytes()[..], SOA].concat();
    assert_eq!(response, expected(&query, 0, 1, &record));
}

#[test]
fn any_type_is_answered_from_the_zone_file() {
    let world = World::new();
    for (name, qtype, records, octets) in [
        ("plain.example.org", 1, 1, a(9)),
        ("PLAIN.example.org", 16, 1, txt(b"plain")),
        ("both.example.org", 16, 1, txt(b"both")),
        ("many.example.org", 16, 2, [a(1), a(2)].concat()),
        ("x.y.wild.example.org", 16, 1, txt(b"wild")),
        // A CNAME answers for every type.
        ("to.example.org", 5, 1, cname()),
        ("to.example.org", 28, 1, cname()),
        ("to.example.org", 65280, 1, cname()),
    ] {
        let query = question(name, qtype);
        let (verdict, response) = world.ask(&query, "192.0.2.1");
        assert_eq!(verdict, Verdict::Static, "{name} {qtype}");
        assert_eq!(
            response,
            expected(&query, records, 0, &octets),
            "{name} {qtype}"
        );
    }
}

#[test]
fn a_pool_beside_records_has_the_addresses() {
    let world = World::new();
    for (qtype, record) in [(1, a(0)), (28, aaaa(0))] {
        let query = question("both.example.org", qtype);
        let answered = (Verdict::Answered, expected(&query, 1, 0, &record));
        assert_eq!(world.ask(&query, "192.0.2.1"), answered);
    }
}

#[test]
fn a_pool_of_cnames_answers_every_type() {
    let world = World::new();
    for qtype in [1, 5, 16, 65280] {
        let query = question("alias.example.org", qtype);
        let answered = (Verdict::Answered, expected(&query, 1, 0, &cname()));
        assert_eq!(world.ask(&query, "192.0.2.1"), answered, "{qtype}");
    }
}

#[test]
fn names_without_records_of_the_type_and_absent_names_have_the_soa() {
    let world = World::new();
    let names = [
        ("www.example.org", 16, Verdict::Nodata),
        ("plain.example.org", 28, Verdict::Nodata),
        ("both.example.org", 15, Verdict::Nodata),
        ("cdn.example.org", 1, Verdict::Nodata),
        ("x.cdn.example.org", 16, Verdict::Nodata),
        ("x.wild.example.org", 1, Verdict::Nodata),
        ("x.stop.cdn.example.org", 1, Verdict::Nxdomain),
        ("x.www.example.org", 1, Verdict::Nxdomain),
        ("none.example.org", 1, Verdict::Nxdomain),
        ("a.b.c.d.NONE.example.org", 65280, Verdict::Nxdomain),
    ];
    for (name, qtype, verdict) in names {
        let query = question(name, qtype);
        let apex_at = 12 + wire_name(name).len() - wire_name("example.org").len();
        let record = [&(0xc000 | apex_at as u16).to_be_bytes()[..], SOA].concat();
        let mut expected = expected(&query, 0, 1, &record);
        expected[3] = if verdict == Verdict::Nxdomain { 3 } else { 0 };
        let answered = (verdict, expected);
        assert_eq!(world.ask(&query, "192.0.2.1"), answered, "{name} {qtype}");
    }
}

#[test]
fn names_past_a_deleted_one_are_found() {
    let mut world = World::new();
    let hash = wire::hash_name(&world.settings.hash_key, &wire_name("www.example.org"));
    let mut slots = (0..8).map(|probe| (hash[0] as usize + probe) & 63);
    let slot = slots.find(|&slot| world.names[slot].hash == hash).unwrap();
    let free = slots
        .find(|&slot| world.names[slot].hash == [0; 2])
        .unwrap();
    world.names[free] = world.names[slot].clone();
    world.names[slot].hash = Name::DELETED;
    let query = question("www.example.org", 1);
    assert_eq!(world.verdict(&query), Verdict::Answered);
}

#[test]
fn edns_is_answered_with_edns() {
    let world = World::new();
    let cookie = [0, 10, 0, 8, 1, 2, 3, 4, 5, 6, 7, 8];
    for (flags, options) in [
        (0, &[][..]),
        (0x8000, &cookie),
        (0xffff, &[0xff, 0xee, 0, 0]),
    ] {
        let plain = question("www.example.org", 1);
        let query = with_opt(plain.clone(), 4096, 0, flags, options);
        let (verdict, response) = world.ask(&query, "192.0.2.1");
        assert_eq!(verdict, Verdict::Answered);
        let mut want = expected(&plain, 1, 0, &a(0));
        want[11] = 1;
        want.extend_from_slice(&[0, 0, 41, 0x04, 0xd0, 0, 0]);
        want.extend_from_slice(&(flags & 0x8000).to_be_bytes());
        want.extend_from_slice(&[0, 0]);
        assert_eq!(response, want);
    }
}

#[test]
fn names_of_every_length() {
    let mut world = World::new();
    let label = |n| "a".repeat(n);
    // 255 octets: 63 + 63 + 63 + 61 and their lengths, and the root.
    let longest = [label(63), label(63), label(63), label(61)].join(".");
    let sixteen = vec!["a"; 16].join(".");
    for name in [&longest, &sixteen, "a"] {
        world.insert(name, Target::Steered { zone: 0, pool: 0 }, Target::None);
        assert_eq!(
            world.verdict(&question(name, 1)),
            Verdict::Answered,
            "{name}"
        );
    }
    let too_long = [label(63), label(63), label(63), label(62)].join(".");
    assert_eq!(world.verdict(&question(&too_long, 1)), Verdict::BadName);
    let seventeen = vec!["a"; 17].join(".");
    assert_eq!(world.verdict(&question(&seventeen, 1)), Verdict::ManyLabels);
    assert_eq!(world.verdict(&question("", 1)), Verdict::UnknownName);
}

#[test]
fn passes_for_a_reason() {
    let world = World::new();
    let plain = question("www.example.org", 1);
    let changed = |at: usize, to: u8| {
        let mut query = plain.clone();
        query[at] = to;
        query
    };
    let longer = |octets: &[u8]| [&plain[..], octets].concat();
    let opt = |version, options: &[u8]| with_opt(plain.clone(), 1232, version, 0, options);
    let last = plain.len() - 1;
    let cut = |mut query: Vec<u8>| {
        query.pop();
        query
    };
    for (verdict, query) in [
        (Verdict::MessageSize, vec![0; 16]),
        (Verdict::MessageSize, longer(&[0; MAX_QUERY as usize])),
        (Verdict::Response, changed(2, 0x80)),
        (Verdict::Header, changed(2, 0x20)),
        (Verdict::Header, changed(2, 0x02)),
        (Verdict::Header, changed(2, 0x04)),
        (Verdict::Header, changed(3, 0x40)),
        (Verdict::Header, changed(3, 0x80)),
        (Verdict::Header, changed(3, 0x01)),
        (Verdict::Counts, changed(5, 0)),
        (Verdict::Counts, changed(5, 2)),
        (Verdict::Counts, changed(7, 1)),
        (Verdict::Counts, changed(9, 1)),
        (Verdict::Counts, changed(11, 2)),
        (Verdict::BadName, changed(12, 0xc0)),
        (Verdict::BadName, changed(12, 0x40)),
        (Verdict::BadName, changed(12, 60)),
        (Verdict::BadName, cut(plain.clone())),
        (Verdict::Class, changed(last, 3)),
        (Verdict::Class, changed(last, 255)),
        (Verdict::Qtype, question("www.example.org", 0)),
        (Verdict::Qtype, question("www.example.org", 41)),
        (Verdict::Qtype, question("www.example.org", 43)),
        (Verdict::Qtype, question("www.example.org", 128)),
        (Verdict::Qtype, question("none.example.org", 255)),
        (Verdict::Trailing, longer(&[0])),
        (Verdict::Trailing, [opt(0, &[]), vec![0]].concat()),
        (Verdict::BadOpt, changed(11, 1)),
        (Verdict::BadOpt, cut(opt(0, &[]))),
        (Verdict::BadOpt, opt(0, &[0])),
        (Verdict::BadOpt, opt(0, &[0, 11, 0, 1])),
        (Verdict::BadOpt, cut(opt(0, &[0, 11, 0, 1, 1]))),
        (Verdict::EdnsVersion, opt(1, &[])),
        (Verdict::EdnsOption, opt(0, &[0, 3, 0, 0])),
        (
            Verdict::EdnsOption,
            opt(0, &[0, 11, 0, 0, 0, 8, 0, 4, 0, 1, 0, 1]),
        ),
        (Verdict::EdnsOption, opt(0, &cookie_option(7))),
        (Verdict::EdnsOption, opt(0, &cookie_option(15))),
        (Verdict::EdnsOption, opt(0, &cookie_option(41))),
        (Verdict::EdnsOption, opt(0, &[0xff, 0xee, 0, 0].repeat(9))),
        (Verdict::UnknownName, question("none.example.org.other", 1)),
        (Verdict::UnknownName, question("none.example.net", 1)),
        (Verdict::UnknownName, question("x.www.example.net", 1)),
        (Verdict::SlowName, question("sub.example.org", 1)),
        (Verdict::SlowName, question("x.y.sub.example.org", 1)),
        (Verdict::SlowName, question("x.slowly.example.org", 1)),
        (Verdict::SlowRecords, question("plain.example.org", 99)),
        (Verdict::SlowRecords, question("many.example.org", 1)),
        (Verdict::ZonePass, question("away.example.org", 1)),
        (Verdict::ZonePass, question("away.example.org", 16)),
        (Verdict::ZonePass, question("x.away.example.org", 1)),
        (Verdict::SlowPool, question("slow.example.org", 1)),
        (Verdict::SlowPool, question("big.example.org", 28)),
    ] {
        assert_eq!(world.verdict(&query), verdict, "{query:02x?}");
    }
    let (verdict, _) = world.ask(&plain, "10.9.0.1");
    assert_eq!(verdict, Verdict::NoRegion);
    let mut without = World::new();
    without.settings.walk = 0;
    assert_eq!(
        without.verdict(&question("x.cdn.example.org", 1)),
        Verdict::UnknownName
    );
}

#[test]
fn the_client_bounds_the_size() {
    let world = World::new();
    let name = [&"a".repeat(63), &"b".repeat(63), "all.example.org"].join(".");
    let mut world = world;
    world.insert(&name, Target::Steered { zone: 0, pool: 2 }, Target::None);
    let query = question(&name, 1);
    let len = query.len() + 16 * 16;
    assert!(len < 512);
    assert_eq!(world.verdict(&query), Verdict::Answered);
    let name = [&"c".repeat(63), &name[..]].join(".");
    world.insert(&name, Target::Steered { zone: 0, pool: 2 }, Target::None);
    let query = question(&name, 1);
    assert!(query.len() + 16 * 16 > 480);
    let fits = |size| query.len() + 16 * 16 + 11 <= size as usize;
    for size in [0, 512, 513, 1231, 1232, 65535] {
        let verdict = world.verdict(&with_opt(query.clone(), size, 0, 0, &[]));
        let want = if fits(size.clamp(512, 1232)) {
            Verdict::Answered
        } else {
            Verdict::TooLarge
        };
        assert_eq!(verdict, want, "{size}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 20_000, ..ProptestConfig::default() })]

    /// An answer is well-formed, whatever comes: it has the question as it came, and is within the limit.
    #[test]
    fn never_a_malformed_answer(
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        name in prop::sample::select(vec![
            "www.example.org", "v4.example.org", "a.b.cdn.example.org", "plain.example.org",
            "x.wild.example.org", "both.example.org", "none.example.org",
        ]),
        qtype in prop::sample::select(vec![1u16, 16, 28]),
        edns: bool,
    ) {
        let world = World::new();
        let mut query = question(name, qtype);
        if edns {
            query = with_opt(query, 1232, 0, 0, &[0, 10, 0, 8, 1, 2, 3, 4, 5, 6, 7, 8]);
        }
        for (at, to) in flips {
            let at = at.index(query.len());
            query[at] = to;
        }
        let (verdict, response) = world.ask(&query, "192.0.2.1");
        if verdict.is_answer() {
            let end = 12 + query[12..].iter().position(|&octet| octet == 0).unwrap() + 5;
            prop_assert_eq!(&response[12..end], &query[12..end]);
            prop_assert_eq!(&response[..2], &query[..2]);
            prop_assert!(response.len() <= 512);
            prop_assert_eq!(response[2], 0x84 | query[2] & 1);
            prop_assert_eq!(response[3], if verdict == Verdict::Nxdomain { 3 } else { 0 });
        }
    }

    #[test]
    fn any_octets_at_all(query in prop::collection::vec(any::<u8>(), 0..600)) {
        let world = World::new();
        prop_assert!(!world.verdict(&query).is_answer());
    }
}

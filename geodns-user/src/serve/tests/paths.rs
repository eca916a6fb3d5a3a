//! Two paths, one answer: whatever the zones are, what the fast path answers is what the slow path does.

use std::collections::BTreeMap;

use geodns_common::respond::respond;
use geodns_common::scratch::Scratch;
use geodns_common::tables::Tables;
use geodns_common::verdict::Verdict;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::*;
use crate::base::lock::read;
use crate::base::name::{Name, parse_name};
use crate::plan::{EditError, Plan, Store};
use crate::publish::{Backend, Twin};
use crate::zone::{Record, Zone, Zones};

const CONFIG: &str = r#"
[server]
listen = ["127.0.0.1"]
[kernel]
mode = "off"
max_names = MAX_NAMES
[[zone]]
name = "example"
file = "example.zone"
[[zone]]
name = "b.example"
file = "b.example.zone"
[[zone]]
name = "a.c.example"
file = "a.c.example.zone"
[[zone]]
name = "*.x.example"
file = "x.example.zone"
[[mirror]]
id = "ams"
addresses = ["192.0.2.10"]
[[mirror]]
id = "cdn"
cname = "a.cdn.test"
[[mirror]]
id = "near"
cname = "a.t.example"
[[pool]]
id = "all"
mirrors = ["ams"]
policy = "all"
[[pool]]
id = "cdns"
mirrors = ["cdn"]
policy = "all"
[[pool]]
id = "nears"
mirrors = ["near"]
policy = "all"
[[steer]]
name = "s.example"
pool = "all"
[[steer]]
name = "*.s.example"
pool = "all"
[[steer]]
name = "t.example"
pool = "cdns"
[[steer]]
name = "*.t.example"
pool = "nears"
"#;

const LABELS: [&str; 6] = ["a", "b", "c", "x", "*", "s"];
const TYPES: [u16; 18] = [
    1, 1, 1, 16, 28, 16, 15, 15, 5, 2, 6, 12, 14, 39, 43, 255, 65280, 128,
];

fn pick<'a, T: ?Sized>(random: &mut StdRng, of: &[&'a T]) -> &'a T {
    of[random.random_range(0..of.len())]
}

/// A name of one to three labels under `example`.
fn name(random: &mut StdRng) -> String {
    let labels = random.random_range(1..=3);
    let labels: Vec<_> = (0..labels).map(|_| pick(random, &LABELS)).collect();
    format!("{}.example", labels.join("."))
}

/// The data at a name.
fn records(random: &mut StdRng) -> Vec<String> {
    let far = "far.test.".to_owned();
    match random.random_range(0..17) {
        0 => vec![format!("CNAME {}.", name(random))],
        1 => vec![format!("CNAME {far}")],
        2 => vec!["NS ns.test.".to_owned(), format!("NS {}.", name(random))],
        3 => vec![format!("DNAME {far}")],
        4 => vec![format!("MX 10 {}.", name(random)), format!("MX 20 {far}")],
        // Names of every depth, that share ends with the question and each other, or letters with neither.
        14 => (0..random.random_range(1..40))
            .map(|n| match n % 3 {
                0 if n % 2 == 0 => format!("MX {n} Host{n}.{}.", name(random).to_ascii_uppercase()),
                0 => format!("MX {n} host{n}.{}.", name(random)),
                1 => format!("MX {n} {}.{far}", pick(random, &LABELS)),
                _ => format!("MX {n} {}.", name(random)),
            })
            .collect(),
        15 => (0..random.random_range(1..9))
            .map(|n| format!("MINFO {}. q{n}.{}.", name(random), name(random)))
            .collect(),
        16 => vec![
            format!("PTR {}.", name(random)),
            format!("PTR {far}"),
            "PTR .".to_owned(),
        ],
        // Thirty are what a set holds, and with a name more than 512 octets.
        5 | 6 => (0..random.random_range(28..32))
            .map(|n| format!("A 192.0.2.{n}"))
            .collect(),
        7 => {
            let long = "t".repeat(random.random_range(1..255));
            let mut records = vec![format!("TXT {long} {long}")];
            records.extend((16..36).map(|n| format!("TYPE{} \\# 1 00", 65000 + n)));
            records
        }
        _ => vec!["TXT here".to_owned(), "AAAA 2001:db8::1".to_owned()],
    }
}

/// A zone file of some names below an apex.
fn zone(random: &mut StdRng, apex: &str) -> String {
    let mut names: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for _ in 0..random.random_range(0..50) {
        let name = name(random);
        let steered = name == "s.example" || name == "*.s.example";
        if name.ends_with(&format!(".{apex}")) && !steered {
            names.insert(name, records(random));
        }
    }
    // A wildcard cannot be delegated.
    names.retain(|name, records| !(name.starts_with("*.") && records[0].starts_with("NS ")));
    // Nothing may stand below a DNAME, and no steered name below that or a cut.
    let away: Vec<String> = names
        .iter()
        .filter(|(_, records)| records[0].starts_with("DNAME"))
        .map(|(name, _)| format!(".{name}"))
        .collect();
    names.retain(|name, _| !away.iter().any(|away| name.ends_with(away)));
    let [ns, mail] = match random.random_range(0..3) {
        0 => ["ns".to_owned(), "h".to_owned()],
        1 => ["ns.far.test.".to_owned(), "h.far.test.".to_owned()],
        _ => [
            "NS.".to_owned() + &name(random).to_ascii_uppercase() + ".",
            name(random) + ".",
        ],
    };
    let mut text = format!(
        "$TTL 600\n{apex}. IN SOA {ns} {mail} 1 2 3 4 {}\n",
        random.random::<u16>()
    );
    text += &format!("{apex}. IN NS ns.test.\n");
    for (name, records) in names {
        for record in records {
            text += &format!("{name}. 300 IN {record}\n");
        }
    }
    text
}

fn world(random: &mut StdRng, max_names: u32) -> World {
    let inputs = inputs(random, max_names);
    inputs.compile(&inputs.layers(), 1, [17, 4]).unwrap()
}

fn inputs(random: &mut StdRng, max_names: u32) -> Inputs {
    let folder = tempfile::tempdir().unwrap();
    let write = |file: &str, text: &str| std::fs::write(folder.path().join(file), text).unwrap();
    write(
        "geodns.toml",
        &CONFIG.replace("MAX_NAMES", &max_names.to_string()),
    );
    write("example.zone", &zone(random, "example"));
    write("b.example.zone", &zone(random, "b.example"));
    write("a.c.example.zone", &zone(random, "a.c.example"));
    write("x.example.zone", &zone(random, "*.x.example"));
    Inputs::read(&folder.path().join("geodns.toml")).unwrap()
}

/// A question about a name that may be there.
fn question(random: &mut StdRng) -> (String, Ask) {
    let mut name = name(random);
    match random.random_range(0..8) {
        0 => name = name.to_ascii_uppercase(),
        1 => name = "example".to_owned(),
        2 => name = format!("q.{name}"),
        3 => name = name.replace("s.", "t."),
        _ => {}
    }
    let qtype = Rtype::from_int(TYPES[random.random_range(0..TYPES.len())]);
    let query = ask(&format!("{name} {qtype}"));
    let query = match random.random_range(0..4) {
        0 => query.opt(1232, 0, 0x8000, &[]),
        1 => query.subnet("198.41.0.0/24"),
        2 => query.opt(0, 0, 0, &[]),
        _ => query,
    };
    (format!("{name} {qtype}"), query)
}

/// The verdict of tables on a query, and the answer if it is one.
fn fast(tables: &impl Tables, query: &Ask) -> (Verdict, Vec<u8>) {
    let mut scratch = Scratch::new();
    assert!(scratch.set_query(&query.wire(), query.client));
    let verdict = respond(&mut scratch, tables);
    let message = match verdict.is_answer() {
        true => scratch.message().to_vec(),
        false => Vec::new(),
    };
    (verdict, message)
}

/// The slow path's answer.
fn slow(world: &World, query: &Ask) -> Vec<u8> {
    let mut slow = Vec::new();
    let (wire, udp) = (query.wire(), Transport::Udp);
    answer(world, &identity(), &wire, query.client, udp, &mut slow);
    slow
}

// Invariant 1
#[test]
fn what_the_fast_path_answers_the_slow_path_answers_alike() {
    let mut verdicts: BTreeMap<&str, u32> = BTreeMap::new();
    for seed in 0..300 {
        let mut random = StdRng::seed_from_u64(seed);
        // Mostly whole zones; sometimes room for some of them.
        let max_names = match seed % 4 {
            0 => random.random_range(8..40),
            _ => 1000,
        };
        let world = world(&mut random, max_names);
        let plan = read(&world.plan);
        for _ in 0..500 {
            let (asked, query) = question(&mut random);
            let (verdict, message) = fast(&*plan, &query);
            *verdicts.entry(verdict.name()).or_default() += 1;
            if verdict.is_answer() {
                assert_eq!(message, slow(&world, &query), "seed {seed}: {asked}");
            }
        }
    }
    // Every way to answer was taken, and to pass a name or its records.
    for verdict in [
        Verdict::Answered,
        Verdict::Static,
        Verdict::Nodata,
        Verdict::Nxdomain,
        Verdict::UnknownName,
        Verdict::SlowName,
        Verdict::SlowRecords,
        Verdict::TooLarge,
    ] {
        let times = verdicts.get(verdict.name()).copied().unwrap_or(0);
        assert!(times > 20, "{}: {verdicts:?}", verdict.name());
    }
}

/// The zones with one of them changed: a name of it, all of it, or all of it gone.
fn changed(random: &mut StdRng, zones: &Zones) -> (usize, Zones) {
    let number = random.random_range(0..zones.len());
    let mut zone = Zone::clone(&zones[number]);
    match random.random_range(0..10) {
        0 if number > 0 => zone = Zone::empty(zone.apex),
        1 | 2 => zone = Zone::clone(&inputs(random, 1000).zones[number]),
        _ if zone.is_empty() => zone = Zone::clone(&inputs(random, 1000).zones[number]),
        _ => {
            for _ in 0..random.random_range(1..4) {
                let name = parse_name(&name(random)).unwrap();
                let steered = zone
                    .node(name.for_slice())
                    .is_some_and(|at| at.steer().is_some());
                if steered || name == zone.apex || !name.ends_with(&zone.apex) {
                    continue;
                }
                let record = |rtype, rdata| Record {
                    rtype,
                    rdata,
                    ttl: 7,
                };
                let mut records = match random.random_range(0..6) {
                    0 => vec![record(Rtype::A, b"\x01\x02\x03\x04")],
                    1 => vec![record(Rtype::NS, b"\x02ns\x04test\0")],
                    2 => vec![record(Rtype::CNAME, b"\x03far\x04test\0")],
                    3 => vec![record(Rtype::TXT, b"\x04edit"), record(Rtype::A, b"abcd")],
                    _ => vec![],
                };
                zone.set(name.for_slice(), &mut records).unwrap();
            }
        }
    }
    let mut zones = zones.clone();
    zones.replace(number, Arc::new(zone));
    (number, zones)
}

/// Asks what the tables answer, and that the slow path does alike.
fn agree(random: &mut StdRng, tables: &impl Tables, world: &World, when: &str) {
    let (asked, query) = question(random);
    let (verdict, message) = fast(tables, &query);
    if verdict.is_answer() {
        assert_eq!(message, slow(world, &query), "{when}: {asked}");
    }
}

fn apply(twin: &mut Twin, store: Store) {
    twin.apply(&[store]).unwrap();
}

/// Changes a zone in place, and asks at every moment; or puts a new plan in force. Gives whether it was in place.
fn edit(random: &mut StdRng, world: &mut World, twin: &mut Twin, when: &str) -> bool {
    let before = world.zones.load_full();
    let (number, after) = changed(random, &before);
    let close = world.plan.write().unwrap().close_zone(number);
    apply(twin, close);
    for _ in 0..10 {
        agree(random, twin, world, when);
    }
    world.zones.store(Arc::new(after));
    let after = world.zones.load_full();
    let stores = {
        let mut plan = world.plan.write().unwrap();
        plan.edit_zone(&before, &after, number)
    };
    match stores {
        Ok(stores) => {
            for store in stores {
                apply(twin, store);
                agree(random, twin, world, when);
            }
            let open = world.plan.write().unwrap().open_zone(number);
            apply(twin, open);
            true
        }
        Err(EditError::Outgrown) => {
            // Nothing has changed: the version before may be opened again.
            world.zones.store(before);
            let open = world.plan.write().unwrap().open_zone(number);
            apply(twin, open);
            for _ in 0..10 {
                agree(random, twin, world, when);
            }
            world.zones.store(after);
            let inputs = world.inputs_now();
            *world = inputs.compile(&inputs.layers(), 2, [17, 4]).unwrap();
            *twin = Twin::load(&world.plan.read().unwrap());
            false
        }
    }
}

// Invariant 3
#[test]
fn zones_are_edited_in_place_and_at_no_moment_answered_wrong() {
    let (mut edited, mut outgrown, mut answered, mut asked) = (0, 0, 0, 0);
    for seed in 0..60 {
        let mut random = StdRng::seed_from_u64(seed);
        let max_names = match seed % 4 {
            0 => random.random_range(30..60),
            _ => 1000,
        };
        let mut world = world(&mut random, max_names);
        let mut twin = Twin::load(&world.plan.read().unwrap());
        for step in 0..25 {
            let when = format!("seed {seed}, edit {step}");
            match edit(&mut random, &mut world, &mut twin, &when) {
                true => edited += 1,
                false => outgrown += 1,
            }
            // As if compiled anew, and the plan in memory as the copy of it.
            let inputs = world.inputs_now();
            let fresh = inputs.compile(&inputs.layers(), 3, [5, 6]).unwrap();
            let fresh: &Plan = &fresh.plan.read().unwrap();
            let plan = world.plan.read().unwrap();
            for _ in 0..40 {
                let (name, query) = question(&mut random);
                let (verdict, message) = fast(&twin, &query);
                assert_eq!(
                    fast(&*plan, &query),
                    (verdict, message.clone()),
                    "{when}: {name}"
                );
                if verdict.is_answer() {
                    assert_eq!(message, slow(&world, &query), "{when}: {name}");
                    answered += 1;
                }
                if max_names == 1000 {
                    assert_eq!(fast(fresh, &query), (verdict, message), "{when}: {name}");
                }
                asked += 1;
            }
        }
    }
    assert!(
        edited > 1000 && outgrown > 10,
        "{edited} edits, {outgrown} outgrown"
    );
    assert!(answered > asked / 2, "{answered} of {asked}");
}

#[test]
fn names_come_and_go_in_zones_that_are_not_there_whole_and_at_no_moment_are_answered_wrong() {
    let (mut promoted, mut refused, mut demoted, mut full) = (0, 0, 0, 0);
    for seed in 0..40 {
        let mut random = StdRng::seed_from_u64(seed);
        let max_names = random.random_range(9..20);
        let mut world = world(&mut random, max_names);
        let mut twin = Twin::load(&world.plan.read().unwrap());
        let mut there: Vec<Name> = Vec::new();
        for step in 0..300 {
            let when = format!("seed {seed}, step {step}");
            let zones = world.zones.load_full();
            let name = parse_name(&name(&mut random)).unwrap();
            let mut is_new = false;
            let stores = match random.random_range(0..20) {
                0 => {
                    if !edit(&mut random, &mut world, &mut twin, &when) {
                        there.clear();
                    }
                    continue;
                }
                1..8 if !there.is_empty() => {
                    let gone = there.swap_remove(random.random_range(0..there.len()));
                    let mut plan = world.plan.write().unwrap();
                    let (stores, unwanted) = plan.demote(&zones, gone.for_slice());
                    // Nobody reads the twin between two stores of which the first is asked about.
                    plan.free(unwanted);
                    demoted += 1;
                    stores
                }
                _ => {
                    let mut plan = world.plan.write().unwrap();
                    match plan.promote(&zones, name.for_slice(), Rtype::A) {
                        Ok(Some(stores)) => {
                            there.push(name.clone());
                            is_new = true;
                            promoted += 1;
                            stores
                        }
                        Ok(None) => {
                            refused += 1;
                            continue;
                        }
                        Err(EditError::Outgrown) => {
                            full += 1;
                            continue;
                        }
                    }
                }
            };
            for store in stores {
                apply(&mut twin, store);
                agree(&mut random, &twin, &world, &when);
            }
            let [names, most] = world.plan.read().unwrap().names_of();
            assert!(names <= most, "{when}: {names} names");
            if is_new {
                let query = ask(&format!("{name} A"));
                let (verdict, _) = fast(&twin, &query);
                // What is too long for a client without EDNS is for the slow path all the same.
                assert!(
                    verdict.is_answer() || verdict == Verdict::TooLarge,
                    "{when}: {name}: {verdict:?}"
                );
            }
        }
        // The plan in memory is the copy of it.
        let plan = world.plan.read().unwrap();
        for _ in 0..100 {
            let (name, query) = question(&mut random);
            assert_eq!(
                fast(&*plan, &query),
                fast(&twin, &query),
                "seed {seed}: {name}"
            );
        }
    }
    let counts = [promoted, refused, demoted, full];
    assert!(counts.iter().all(|count| *count > 100), "{counts:?}");
}

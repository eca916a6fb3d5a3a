//! Catalogs read, merged and written.

use std::path::Path;

use super::super::parse;
use super::*;

fn name(text: &str) -> Name {
    parse_name(text).unwrap()
}

/// The catalog `cat.test` with these lines.
fn catalog(lines: &str) -> Zone {
    let text = format!("$TTL 0\n@ SOA invalid. invalid. 1 2 3 4 5\n@ NS invalid.\n{lines}\n");
    let reading = parse(&name("cat.test"), Path::new("zone"), text.as_bytes());
    let errors = reading.findings.errors;
    reading.zone.unwrap_or_else(|| panic!("{errors:?}"))
}

fn entry(member: &str, id: &str) -> Entry {
    Entry {
        name: name(member),
        id: id.into(),
        groups: Vec::new(),
        coo: None,
    }
}

#[test]
fn a_catalog_lists_its_members_and_what_is_said_of_them() {
    let read = read(&catalog(
        "version TXT \"2\"\nA.zones PTR B.example.\nb.zones PTR a.example.\ncoo.b.zones PTR other.test.\n\
         group.b.zones TXT \"one\" \"two\"\ngroup.b.zones TXT \"Three\"\n\
         deep.c.zones PTR never.example.\nd.zones TXT \"no pointer\"\ngroup.e.zones TXT \"no member\"\n\
         thing.ext.a.zones TXT \"x\"\nzones TXT \"y\"\nxzones PTR never.example.\na.xzones PTR never.example.\n\
         coo.a.zones TXT \"another type\"",
    ));
    let b = Entry {
        groups: vec![b"onetwo".to_vec(), b"Three".to_vec()],
        coo: Some(name("other.test")),
        ..entry("a.example", "b")
    };
    assert_eq!(read, Ok(vec![b, entry("b.example", "a")]));
    assert_eq!(super::read(&catalog("version TXT 2")), Ok(Vec::new()));
}

#[test]
fn what_breaks_a_catalog() {
    for (lines, why) in [
        (
            "a.zones PTR a.example.",
            "0 TXT records at version.cat.test, and there must be one",
        ),
        (
            "version TXT 2\nversion TXT 3",
            "2 TXT records at version.cat.test, and there must be one",
        ),
        (
            "version TXT 1",
            "its version is \"1\", and only \"2\" is known",
        ),
        (
            "version TXT 2 2",
            "its version is \"22\", and only \"2\" is known",
        ),
        (
            "version A 192.0.2.1",
            "0 TXT records at version.cat.test, and there must be one",
        ),
        (
            "version TXT 2\na.zones PTR a.example.\na.zones PTR b.example.",
            "a.zones.cat.test has 2 PTR records, and one is the most",
        ),
        (
            "version TXT 2\na.zones PTR a.example.\ncoo.a.zones PTR b.\ncoo.a.zones PTR c.",
            "coo.a.zones.cat.test has 2 PTR records, and one is the most",
        ),
        (
            "version TXT 2\na.zones PTR a.example.\nb.zones PTR A.example.",
            "it lists a.example twice",
        ),
    ] {
        let broken = read(&catalog(lines)).expect_err(lines);
        assert_eq!(broken.to_string(), why);
    }
}

fn said(catalog: &str, entries: &[Entry]) -> Said {
    Said {
        catalog: name(catalog),
        entries: Some(entries.to_vec()),
    }
}

/// Merges, nothing but `taken.example` being in the configuration: `name@catalog/id`, with `!` if it is
/// fresh; and the complaints.
fn merged(said: &[Said], before: &mut Vec<Member>) -> (Vec<String>, Vec<String>) {
    let claims = Claims::of([(&name("taken.example"), false)]);
    let merged = merge(said, before, claims, 4);
    let shown = merged.members.iter().map(|member| {
        let id = String::from_utf8_lossy(&member.id);
        let fresh = if merged.fresh.contains(&member.name) {
            "!"
        } else {
            ""
        };
        format!("{}@{}/{id}{fresh}", member.name, member.catalog)
    });
    let shown = shown.collect();
    *before = merged.members;
    let complaints = merged.complaints.iter().map(ToString::to_string);
    (shown, complaints.collect())
}

#[test]
fn members_come_and_go_with_their_catalog() {
    let mut members = Vec::new();
    let [a, b] = [entry("a.example", "1"), entry("b.example", "2")];
    let (now, complaints) = merged(&[said("cat", &[a.clone(), b.clone()])], &mut members);
    assert_eq!(now, ["a.example@cat/1!", "b.example@cat/2!"]);
    assert!(complaints.is_empty());
    // As before; with another label; broken; and not listed any more.
    let (now, _) = merged(&[said("cat", &[a.clone(), b])], &mut members);
    assert_eq!(now, ["a.example@cat/1", "b.example@cat/2"]);
    let (now, _) = merged(&[said("cat", &[a, entry("b.example", "3")])], &mut members);
    assert_eq!(now, ["a.example@cat/1", "b.example@cat/3!"]);
    let broken = Said {
        catalog: name("cat"),
        entries: None,
    };
    let (now, _) = merged(&[broken], &mut members);
    assert_eq!(now, ["a.example@cat/1", "b.example@cat/3"]);
    let (now, _) = merged(&[said("cat", &[entry("b.example", "3")])], &mut members);
    assert_eq!(now, ["b.example@cat/3"]);
    // No catalog any more.
    let (now, _) = merged(&[], &mut members);
    assert!(now.is_empty());
}

#[test]
fn names_that_are_taken_are_left_alone() {
    let mut members = Vec::new();
    let (now, complaints) = merged(
        &[
            said(
                "one",
                &[entry("a.example", "1"), entry("taken.example", "2")],
            ),
            said("two", &[entry("a.example", "1")]),
        ],
        &mut members,
    );
    assert_eq!(now, ["a.example@one/1!"]);
    assert_eq!(
        complaints,
        [
            "catalog one: taken.example is a zone of the configuration, and left alone",
            "catalog two: a.example is a member of catalog one already, and left alone",
        ]
    );
    // The order of the catalogs does not matter to who has it.
    let two = || said("two", &[entry("a.example", "1")]);
    let (now, _) = merged(
        &[two(), said("one", &[entry("a.example", "1")])],
        &mut members,
    );
    assert_eq!(now, ["a.example@one/1"]);
    // Given up by the one and taken by the other, without a word between them: it begins anew.
    let (now, _) = merged(&[two(), said("one", &[])], &mut members);
    assert_eq!(now, ["a.example@two/1!"]);
}

#[test]
fn a_catalog_hands_a_member_over() {
    for (id, then) in [("1", "a.example@new/1"), ("2", "a.example@new/2!")] {
        let mut members = Vec::new();
        merged(&[said("old", &[entry("a.example", "1")])], &mut members);
        let handed = Entry {
            coo: Some(name("new")),
            ..entry("a.example", "1")
        };
        let old = || said("old", std::slice::from_ref(&handed));
        // It waits until the other has it.
        let (now, _) = merged(&[old(), said("new", &[])], &mut members);
        assert_eq!(now, ["a.example@old/1"]);
        let new = || said("new", &[entry("a.example", id)]);
        let (now, complaints) = merged(&[old(), new()], &mut members);
        assert_eq!((now, complaints), (vec![then.to_owned()], Vec::new()));
        // That the old one still has it, or has it no more, is of no matter.
        for old in [old(), said("old", &[])] {
            let (now, complaints) = merged(&[old, new()], &mut members);
            assert_eq!(now, [then.trim_end_matches('!')]);
            assert!(complaints.is_empty(), "{complaints:?}");
        }
    }
}

/// Names below and above those of others are left alone as their own names are, whoever was here before.
#[test]
fn parts_of_a_name_that_is_taken_are_left_alone() {
    let mut members = Vec::new();
    let hostile = [
        entry(".", "1"),
        entry("example", "2"),
        entry("x.taken.example", "3"),
        entry("free.example", "4"),
    ];
    let (now, complaints) = merged(&[said("one", &hostile)], &mut members);
    assert_eq!(now, ["free.example@one/4!"]);
    assert_eq!(
        complaints,
        [
            "catalog one: . is above taken.example, a zone of the configuration, and left alone",
            "catalog one: example is above taken.example, a zone of the configuration, and left alone",
            "catalog one: x.taken.example is below taken.example, a zone of the configuration, and left alone",
        ]
    );
    // Of another catalog, which comes later; its order is of no matter.
    let two = || said("two", &[entry("x.free.example", "1"), entry("org", "2")]);
    let one = || said("one", &[entry("free.example", "4"), entry("a.org", "5")]);
    merged(&[one()], &mut members);
    let (now, complaints) = merged(&[two(), one()], &mut members);
    assert_eq!(now, ["free.example@one/4", "a.org@one/5"]);
    assert_eq!(
        complaints,
        [
            "catalog two: x.free.example is below free.example, a member of catalog one already, and left alone",
            "catalog two: org is above a.org, a member of catalog one already, and left alone",
        ]
    );
    // The state of a server that knew no such rule, or whose configuration has grown.
    let mut members = vec![
        entry("a.example", "1").member_of(&name("one")),
        entry("b.a.example", "1").member_of(&name("two")),
        entry("x.taken.example", "1").member_of(&name("two")),
    ];
    let one = said("one", &[entry("a.example", "1")]);
    let two = said(
        "two",
        &[entry("b.a.example", "1"), entry("x.taken.example", "1")],
    );
    let (now, complaints) = merged(&[two, one], &mut members);
    assert_eq!(now, ["a.example@one/1"]);
    assert_eq!(complaints.len(), 2, "{complaints:?}");
}

/// A part of a zone is not handed over while another has the rest; all of it may be.
#[test]
fn a_part_of_a_zone_is_not_handed_over() {
    let handed = |member| Entry {
        coo: Some(name("new")),
        ..entry(member, "1")
    };
    let both = [entry("a.example", "1"), entry("b.a.example", "1")];
    let new = || said("new", &both);
    for (old, then) in [
        (
            vec![entry("a.example", "1"), handed("b.a.example")],
            ["a.example@old/1", "b.a.example@old/1"],
        ),
        (
            vec![handed("a.example"), entry("b.a.example", "1")],
            ["a.example@old/1", "b.a.example@old/1"],
        ),
        (
            vec![handed("a.example"), handed("b.a.example")],
            ["a.example@new/1", "b.a.example@new/1"],
        ),
    ] {
        let mut members = Vec::new();
        merged(&[said("old", &both)], &mut members);
        for _ in 0..2 {
            let (now, _) = merged(&[new(), said("old", &old)], &mut members);
            assert_eq!(now, then);
        }
    }
}

#[test]
fn there_is_room_for_so_many_members() {
    let mut members = Vec::new();
    let entries = |numbers: std::ops::Range<usize>| -> Vec<Entry> {
        let entry = |n: usize| entry(&format!("n{n}.example"), &n.to_string());
        numbers.map(entry).collect()
    };
    merged(&[said("cat", &entries(4..7))], &mut members);
    let (now, complaints) = merged(&[said("cat", &entries(0..7))], &mut members);
    let expected = [
        "n0.example@cat/0!",
        "n4.example@cat/4",
        "n5.example@cat/5",
        "n6.example@cat/6",
    ];
    assert_eq!(now, expected);
    assert_eq!(
        complaints,
        ["catalogs: there is no room for 3 members, n1.example the first: 4 are all there may be"]
    );
}

#[test]
fn what_is_written_is_read_again() {
    let members = vec![
        Entry {
            groups: vec![b"g".to_vec()],
            coo: Some(name("other.test")),
            ..entry("a.example", "one")
        },
        entry("b.example", "two"),
    ];
    let zone = write(&name("cat.test"), 7, &members).unwrap();
    assert_eq!(zone.serial(), 7);
    assert_eq!(read(&zone), Ok(members));
    let ns: Vec<_> = zone.top().rrset(Rtype::NS).unwrap().rdata().collect();
    assert_eq!(ns, [b"\x07invalid\0"]);
    assert!(
        zone.nodes()
            .flat_map(Node::records)
            .all(|record| record.ttl == 0)
    );
}

#[test]
fn a_ledger_gives_labels_that_last_and_serials_that_grow() {
    let zones = |names: &[&str]| -> BTreeMap<String, Option<String>> {
        names
            .iter()
            .map(|name| ((*name).to_owned(), None))
            .collect()
    };
    let labels = |ledger: &Ledger| -> BTreeMap<String, Vec<u8>> {
        let entries = ledger.entries().into_iter();
        entries
            .map(|entry| (entry.name.to_string(), entry.id))
            .collect()
    };
    let mut ledger = Ledger::default();
    ledger.list(&zones(&["a.example", "b.example"]), 1000);
    let first = labels(&ledger);
    assert_eq!((ledger.serial, first.len()), (1000, 2));
    assert_ne!(first["a.example"], first["b.example"]);
    // Nothing has changed.
    ledger.list(&zones(&["a.example", "b.example"]), 1010);
    assert_eq!((ledger.serial, labels(&ledger)), (1000, first.clone()));
    // One goes, and comes back as another; the clock has been set back.
    ledger.list(&zones(&["a.example"]), 900);
    assert_eq!((ledger.serial, labels(&ledger).len()), (1001, 1));
    ledger.list(&zones(&["a.example", "b.example"]), 2000);
    let then = labels(&ledger);
    assert_eq!(ledger.serial, 2000);
    assert_eq!(then["a.example"], first["a.example"]);
    assert_ne!(then["b.example"], first["b.example"]);
    // A group is a change, and no reason for another label.
    let mut grouped = zones(&["a.example", "b.example"]);
    grouped.insert("a.example".to_owned(), Some("g".to_owned()));
    ledger.list(&grouped, 2000);
    assert_eq!((ledger.serial, labels(&ledger)), (2001, then));
    // An empty catalog has a serial too, on a machine without a clock as well.
    let mut ledger = Ledger::default();
    ledger.list(&BTreeMap::new(), 0);
    assert_eq!(ledger.serial, 1);
    assert!(write(&name("cat.test"), ledger.serial, &ledger.entries()).is_ok());
}

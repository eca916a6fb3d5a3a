//! Which queries a rule takes, beside what labels, types and prefixes say when they are compared one by one.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use bytemuck::Zeroable;
use geodns_common::abi::{Answer, Block, Name, Page, Pool, Settings, Shelf, Zone};
use geodns_common::address;
use geodns_common::block::{self, BlockRule, RuleList, find};
use geodns_common::scratch::{MAX_LABELS, MAX_QUERY, Scratch};
use geodns_common::tables::Tables;
use geodns_common::wire::{self, HashKey};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

/// A hash key, and no tables.
struct Keyed(Settings);

impl Tables for Keyed {
    fn settings(&self) -> &Settings {
        &self.0
    }
    fn name(&self, _: u32) -> Option<&Name> {
        None
    }
    fn zone(&self, _: u32) -> Option<&Zone> {
        None
    }
    fn pool(&self, _: u32) -> Option<&Pool> {
        None
    }
    fn answer(&self, _: u32) -> Option<&Answer> {
        None
    }
    fn shelf(&self, _: u32) -> Option<&Shelf> {
        None
    }
    fn region(&self, _: u32) -> Option<u64> {
        None
    }
    fn root(&self, _: u32) -> Option<&Page> {
        None
    }
    fn block(&self, _: u32) -> Option<&Block> {
        None
    }
    fn slot(&self, _: u32) -> Option<u64> {
        None
    }
    fn random(&self) -> u32 {
        0
    }
}

fn keyed() -> Keyed {
    let mut settings = Settings::new();
    settings.hash_key = HashKey::new([7, 8]);
    Keyed(settings)
}

/// A rule as it is said.
#[derive(Clone, Debug, Default)]
struct Said {
    /// A name, and whether those below it are meant too.
    name: Option<(Vec<String>, bool)>,
    qtype: Option<u16>,
    /// An address and a prefix length.
    from: Option<(IpAddr, u8)>,
}

/// A query.
#[derive(Clone, Debug)]
struct Asked {
    labels: Vec<String>,
    qtype: u16,
    from: IpAddr,
}

fn mapped(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().into(),
        IpAddr::V6(address) => address.into(),
    }
}

fn bits(address: IpAddr, len: u8) -> u32 {
    u32::from(len) + if address.is_ipv4() { 96 } else { 0 }
}

impl Said {
    /// Whether a query is meant, by comparing.
    fn takes(&self, asked: &Asked) -> bool {
        let is_named = self.name.as_ref().is_none_or(|(name, below)| {
            let Some(deeper) = asked.labels.len().checked_sub(name.len()) else {
                return false;
            };
            let suffix = asked.labels[deeper..].iter().zip(name);
            (*below || deeper == 0) && suffix.into_iter().all(|(a, b)| a.eq_ignore_ascii_case(b))
        });
        let is_from = self.from.is_none_or(|(address, len)| {
            let differ = mapped(address) ^ mapped(asked.from);
            differ.leading_zeros() >= bits(address, len)
        });
        is_named && self.qtype.is_none_or(|qtype| qtype == asked.qtype) && is_from
    }

    fn rule(&self, key: &HashKey, counter: u32) -> BlockRule {
        let mut rule = BlockRule {
            counter,
            qtype: self.qtype.unwrap_or(0).into(),
            ..BlockRule::zeroed()
        };
        if let Some((labels, below)) = &self.name {
            rule.flags = BlockRule::NAME | if *below { BlockRule::BELOW } else { 0 };
            rule.labels = labels.len() as u32;
            let name = wire_name(labels).to_ascii_lowercase();
            rule.hash = wire::hash_name(key, &name);
        }
        if let Some((address, len)) = self.from {
            rule.mask = block::mask(bits(address, len));
            let words = address::trie_words(mapped(address).to_be_bytes());
            rule.address = std::array::from_fn(|word| words[word] & rule.mask[word]);
        }
        rule
    }
}

fn wire_name(labels: &[String]) -> Vec<u8> {
    let mut name = Vec::new();
    for label in labels {
        name.push(label.len() as u8);
        name.extend_from_slice(label.as_bytes());
    }
    name.push(0);
    name
}

fn message(asked: &Asked) -> Vec<u8> {
    let mut message = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    message.extend(wire_name(&asked.labels));
    message.extend(asked.qtype.to_be_bytes());
    message.extend([0, 1]);
    message
}

/// Which of the rules takes a message, by its place.
fn found(said: &[Said], message: &[u8], from: IpAddr) -> Option<u32> {
    let keyed = keyed();
    let mut list = RuleList::default();
    for (at, said) in said.iter().enumerate() {
        list.0[at] = said.rule(&keyed.0.hash_key, at as u32);
    }
    let mut scratch = Box::new(Scratch::new());
    // What a packet before left behind must not matter.
    let before = Asked {
        labels: labels("www.example.org"),
        qtype: 1,
        from,
    };
    assert!(scratch.set_query(&self::message(&before), from));
    scratch.read_question();
    scratch.frame.fill(0xa5);
    assert!(scratch.set_query(message, from));
    scratch.read_question();
    find(&mut scratch, &keyed, &list.0, said.len() as u32)
}

fn labels(text: &str) -> Vec<String> {
    let labels = text.split('.').filter(|label| !label.is_empty());
    labels.map(str::to_owned).collect()
}

fn name(text: &str, below: bool) -> Said {
    Said {
        name: Some((labels(text), below)),
        ..Said::default()
    }
}

fn prefix(text: &str) -> Said {
    let (address, len) = text.split_once('/').unwrap();
    Said {
        from: Some((address.parse().unwrap(), len.parse().unwrap())),
        ..Said::default()
    }
}

#[track_caller]
fn check(said: &Said, qname: &str, from: &str, wanted: bool) {
    let asked = Asked {
        labels: labels(qname),
        qtype: 255,
        from: from.parse().unwrap(),
    };
    assert_eq!(said.takes(&asked), wanted, "the comparison, of {qname:?}");
    let taken = found(std::slice::from_ref(said), &message(&asked), asked.from);
    assert_eq!(taken.is_some(), wanted, "{said:?} of {qname:?} from {from}");
}

#[test]
fn a_name_is_itself_and_below_it_is_all_under_it() {
    let from = "192.0.2.1";
    for (asked, exact, below) in [
        ("example.org", true, true),
        ("EXAMPLE.oRg", true, true),
        ("www.example.org", false, true),
        ("a.b.c.d.e.f.g.h.i.j.k.l.m.n.example.org", false, true),
        ("org", false, false),
        ("", false, false),
        ("notexample.org", false, false),
        ("example.org.net", false, false),
    ] {
        check(&name("example.org", false), asked, from, exact);
        check(&name("example.org", true), asked, from, below);
    }
    check(&name("", false), "", from, true);
    check(&name("", false), "org", from, false);
    check(&name("", true), "", from, true);
    check(&name("", true), "www.example.org", from, true);
}

#[test]
fn a_prefix_ends_where_it_says() {
    for (said, first, last, outside) in [
        ("192.0.2.64/26", "192.0.2.64", "192.0.2.127", "192.0.2.128"),
        ("192.0.2.7/32", "192.0.2.7", "192.0.2.7", "192.0.2.6"),
        ("0.0.0.0/0", "0.0.0.0", "255.255.255.255", "2001:db8::1"),
        (
            "2001:db8::/33",
            "2001:db8::",
            "2001:db8:7fff::1",
            "2001:db8:8000::",
        ),
        (
            "2001:db8::7/128",
            "2001:db8::7",
            "2001:db8::7",
            "2001:db8::6",
        ),
    ] {
        check(&prefix(said), "example.org", first, true);
        check(&prefix(said), "example.org", last, true);
        check(&prefix(said), "example.org", outside, false);
    }
}

#[test]
fn sixty_four_rules_are_looked_at_and_the_first_that_takes_a_query_counts() {
    let said: Vec<Said> = (0..block::MAX)
        .map(|at| name(&format!("n{at}.org"), false))
        .collect();
    let asked = |name: &str| Asked {
        labels: labels(name),
        qtype: 1,
        from: Ipv4Addr::LOCALHOST.into(),
    };
    let place = |said: &[Said], name: &str| {
        let asked = asked(name);
        found(said, &message(&asked), asked.from)
    };
    for at in 0..block::MAX {
        assert_eq!(place(&said, &format!("n{at}.org")), Some(at as u32));
    }
    assert_eq!(place(&said, "n64.org"), None);
    // What is past the end of the list does not count.
    assert_eq!(place(&said[..3], "n3.org"), None);
    let both = [name("org", true), name("n0.org", false)];
    assert_eq!(place(&both, "n0.org"), Some(0));
}

#[test]
fn without_a_question_only_a_prefix_matches() {
    let from: IpAddr = Ipv6Addr::LOCALHOST.into();
    let whole = Asked {
        labels: labels("www.example.org"),
        qtype: 1,
        from,
    };
    let query = message(&whole);
    let mut none = query.clone();
    none[5] = 0;
    let mut pointer = query.clone();
    pointer[12] = 0xc0;
    let mut long = query.clone();
    long.resize(MAX_QUERY as usize + 1, 0);
    let deep = message(&Asked {
        labels: vec!["a".to_owned(); MAX_LABELS + 1],
        ..whole
    });
    let cut = &query[..query.len() - 4];
    for message in [&none[..], &pointer, &long, &deep, cut, &[]] {
        for said in [
            name("", true),
            Said {
                qtype: Some(1),
                ..Said::default()
            },
        ] {
            assert_eq!(found(&[said], message, from), None, "{message:?}");
        }
        assert_eq!(found(&[prefix("::1/128")], message, from), Some(0));
    }
}

fn any_labels(most: usize) -> impl Strategy<Value = Vec<String>> {
    vec(
        select(vec!["a", "A", "b", "ab", "c7-_", "longer-than-8"]),
        0..=most,
    )
    .prop_map(|labels| labels.into_iter().map(str::to_owned).collect())
}

/// Few addresses, near each other, so that prefixes around them are met and missed.
fn any_address() -> impl Strategy<Value = IpAddr> {
    prop_oneof![
        select(vec![0_u32, 1, 128, 0x100, 0x8000_0000, u32::MAX])
            .prop_map(|bits| Ipv4Addr::from_bits(0xc000_0200 ^ bits).into()),
        (select(vec![
            0_u128,
            1,
            1 << 63,
            1 << 64,
            1 << 95,
            1 << 96,
            1 << 127
        ]))
        .prop_map(|bits| Ipv6Addr::from_bits(0x2001_0db8 << 96 ^ bits).into()),
    ]
}

fn any_said() -> impl Strategy<Value = Said> {
    let from = any_address().prop_flat_map(|address| {
        let most: u8 = if address.is_ipv4() { 32 } else { 128 };
        (Just(address), 0..=most)
    });
    let name = (any_labels(3), any::<bool>());
    let qtype = select(vec![1_u16, 28, 255]);
    (option::of(name), option::of(qtype), option::of(from)).prop_map(|(name, qtype, from)| Said {
        name,
        qtype,
        from,
    })
}

fn any_asked() -> impl Strategy<Value = Asked> {
    let qtype = select(vec![1_u16, 28, 255, 256]);
    (any_labels(MAX_LABELS), qtype, any_address()).prop_map(|(labels, qtype, from)| Asked {
        labels,
        qtype,
        from,
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 5_000, ..ProptestConfig::default() })]

    /// Names share suffixes often, as the labels are few.
    #[test]
    fn what_a_rule_takes_is_what_it_says(
        mut said in vec(any_said(), 0..8),
        asked in any_asked(),
    ) {
        said.sort_by_key(|said| said.name.as_ref().map_or(0, |(labels, _)| labels.len()));
        let wanted = said.iter().position(|said| said.takes(&asked));
        let taken = found(&said, &message(&asked), asked.from);
        prop_assert_eq!(taken, wanted.map(|at| at as u32));
    }

    /// A name that ends as a rule's does, however many labels are before.
    #[test]
    fn a_suffix_is_found_below_any_labels(
        before in any_labels(8),
        name in any_labels(8),
        below in any::<bool>(),
    ) {
        let said = Said { name: Some((name.clone(), below)), ..Said::default() };
        let asked = Asked {
            labels: before.iter().chain(&name).map(|label| label.to_uppercase()).collect(),
            qtype: 1,
            from: Ipv4Addr::LOCALHOST.into(),
        };
        let taken = found(&[said], &message(&asked), asked.from);
        prop_assert_eq!(taken.is_some(), below || before.is_empty());
    }
}

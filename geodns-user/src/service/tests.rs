//! Tests: who stands above whom, and that the answers and `mirror show` agree.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use geodns_common::abi::Family;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::*;
use crate::config::{Check, CheckKind, Config, Mirror};
use crate::health::target::number;
use crate::health::{Event, Target, Verdict};
use crate::plan::Plan;
use crate::steering::standing::{Admin, External, Ramp, Weight};
use crate::world::Inputs;

/// A moment long after 1970.
const NOW: u64 = 1_000_000;

fn ramp(since_unix_ms: u64, over_ms: u64) -> Ramp {
    Ramp {
        since_unix_ms,
        over_ms,
    }
}

fn external(
    address: Option<&str>,
    up: bool,
    since_unix_ms: u64,
    until_unix_ms: Option<u64>,
) -> External {
    External {
        up,
        address: address.map(|address| address.parse().unwrap()),
        until_unix_ms,
        reason: String::new(),
        since_unix_ms,
    }
}

#[test]
fn why_a_mirror_is_in_service_or_not() {
    let mirror = Mirror {
        v4: vec!["192.0.2.1".parse().unwrap()],
        v6: vec!["2001:db8::1".parse().unwrap()],
        ..Mirror::sample("ams")
    };
    let down = |address: Option<&str>, reason: &str| External {
        reason: reason.into(),
        ..external(address, false, 0, Some(50))
    };
    let said = |admin, external: &[External]| Standing {
        admin,
        external: external.to_vec(),
        ..Standing::default()
    };
    let drain = Admin::Drain(ramp(0, 100));
    let light = |admin| Standing {
        admin,
        weight: Some(Weight {
            value: 0,
            from: 100,
            ramp: ramp(0, 0),
        }),
        ..Standing::default()
    };
    let all = [down(None, "no route")];
    let one = [down(Some("192.0.2.1"), "")];
    for (standing, now, is_in_service, why) in [
        (Standing::default(), 0, true, "nothing says otherwise"),
        (said(Admin::Up, &all), 0, true, "the operator says up"),
        (said(Admin::Down, &[]), 0, false, "the operator says down"),
        (said(drain, &[]), 37, true, "draining, 37 % drained"),
        (said(drain, &[]), 100, false, "drained"),
        (
            said(drain, &all),
            37,
            false,
            "a monitor says down: no route",
        ),
        (
            said(Admin::Auto, &one),
            0,
            true,
            "1 of 2 addresses out: a monitor says down",
        ),
        (said(Admin::Auto, &all), 50, true, "nothing says otherwise"),
        (light(Admin::Auto), 0, false, "weight 0"),
        (light(Admin::Up), 0, false, "weight 0"),
        (
            Standing {
                external: one.to_vec(),
                ..light(Admin::Auto)
            },
            0,
            false,
            "weight 0",
        ),
    ] {
        let judged = in_service(&mirror, &standing, &Findings::default(), now);
        assert_eq!(
            judged,
            (is_in_service, why.to_owned()),
            "{standing:?} at {now}"
        );
    }
}

// Invariant 11
#[test]
fn votes_of_the_fleet_stand_where_own_checks_do() {
    let check = Check {
        kind: CheckKind::Icmp,
        interval: Duration::from_secs(1),
        timeout: Duration::from_millis(500),
        rise: 2,
        fall: 3,
        ok: 2,
        jitter: Duration::ZERO,
    };
    let mirror = Mirror {
        v4: vec!["192.0.2.1".parse().unwrap()],
        v6: Vec::new(),
        check: Some(check),
        ..Mirror::sample("ams")
    };
    let target = Target::of(&mirror).next().unwrap();
    let event = |up| Event {
        target: Arc::new(target.clone()),
        up,
        changed: true,
        until_change: Duration::from_secs(3),
        reason: Some("no answer".to_owned()),
    };
    let voted = |up, avoid, unanimous| {
        let voted = Voted {
            up,
            reason: "4 of 5 nodes say down".to_owned(),
            avoid,
            unanimous,
        };
        Votes {
            voted: HashMap::from([(number(&target.key()), voted)]),
            careful: None,
        }
    };
    let mut findings = Findings::default();
    let mut standing = Standing::default();
    let at = mirror.addresses().next();
    let decided = |standing: &Standing, findings: &Findings| {
        let decision = decide(&mirror, at, standing, findings, 0);
        (decision.up, decision.source)
    };
    findings.checked(&event(true));
    findings.vote(voted(false, false, false));
    assert_eq!(decided(&standing, &findings), (false, Source::Finding));
    let (is_in_service, why) = in_service(&mirror, &standing, &findings, 0);
    assert_eq!(
        (is_in_service, why.as_str()),
        (false, "found down: 4 of 5 nodes say down")
    );
    // Another vote may change it at any moment.
    let until_change = |findings: &Findings| {
        let condition = Condition::of(&mirror, &Standing::default(), findings, 0);
        condition.health.until_change
    };
    assert_eq!(until_change(&findings), Some(Duration::ZERO));
    findings.vote(voted(false, false, true));
    assert_eq!(until_change(&findings), Some(Duration::from_secs(2)));

    // The fleet has it up, and this node cannot reach it.
    findings.checked(&event(false));
    findings.vote(voted(true, true, false));
    assert_eq!(decided(&standing, &findings), (true, Source::Finding));
    let condition = Condition::of(&mirror, &standing, &findings, 0);
    assert_eq!(condition.health.avoid, [true, false]);
    // Monitors and the operator stand above.
    standing
        .set_external(external(None, true, 0, None))
        .unwrap();
    let condition = Condition::of(&mirror, &standing, &findings, 0);
    assert_eq!(condition.health.avoid, [false; 2]);
    findings.vote(voted(false, false, true));
    assert_eq!(decided(&standing, &findings), (true, Source::Monitor));
    standing.admin = Admin::Down;
    assert_eq!(decided(&standing, &findings), (false, Source::Operator));
    // Without votes, the own check decides.
    findings.vote(Votes::default());
    assert_eq!(
        decided(&Standing::default(), &findings),
        (false, Source::Finding)
    );
}

// Invariant 11
#[test]
fn the_operator_stands_above_monitors_and_an_address_above_all() {
    let (one, two) = ("192.0.2.1", "192.0.2.2");
    let at = |text: &str| Some(text.parse().unwrap());
    let mirror = Mirror::sample("ams");
    let nothing = Findings::default();
    let decides = |standing: &Standing, address: Option<IpAddr>, now| {
        let decision = decide(&mirror, address, standing, &nothing, now);
        (decision.source != Source::Nobody).then_some(decision.up)
    };
    let mut standing = Standing::default();
    assert_eq!(decides(&standing, at(one), 0), None);
    standing
        .set_external(external(None, false, 10, None))
        .unwrap();
    standing
        .set_external(external(Some(one), true, 10, Some(20)))
        .unwrap();
    for (now, first) in [(10, true), (19, true), (20, false)] {
        assert_eq!(decides(&standing, at(one), now), Some(first), "{now}");
        assert_eq!(decides(&standing, at(two), now), Some(false), "{now}");
    }
    standing.admin = Admin::Up;
    assert_eq!(decides(&standing, at(two), 10), Some(true));
    standing.admin = Admin::Down;
    assert_eq!(decides(&standing, at(one), 10), Some(false));
    standing.admin = Admin::Drain(ramp(10, 0));
    assert_eq!(decides(&standing, at(one), 10), Some(true));
    standing.clear_external(at(one));
    assert_eq!(decides(&standing, at(one), 10), Some(false));
    assert_eq!(decides(&standing, None, 10), Some(false));
    standing.clear_external(None);
    assert_eq!(decides(&standing, at(one), 10), None);
}

/// Four mirrors in one pool. The last is always in service, so that an answer never needs another.
const CONFIG: &str = r#"
[server]
listen = ["127.0.0.1"]
[kernel]
mode = "off"
[[zone]]
name = "example.org"
file = "zone"
[[mirror]]
id = "two"
addresses = ["192.0.2.1", "192.0.2.2", "2001:db8::1"]
check = { type = "tcp", port = 80 }
[[mirror]]
id = "four"
addresses = ["192.0.2.3"]
check = { type = "tcp", port = 80 }
[[mirror]]
id = "six"
addresses = ["2001:db8::3"]
[[mirror]]
id = "always"
addresses = ["192.0.2.4", "2001:db8::4"]
[[pool]]
id = "www"
mirrors = ["two", "four", "six", "always"]
policy = "all"
"#;

const ZONE: &str = "@ 60 SOA ns hostmaster 1 60 60 60 60\n@ 60 NS ns\nns 60 A 192.0.2.53\n";

/// Mirrors of which something is said and found.
const SPOKEN_OF: usize = 3;

fn world() -> (Config, Plan) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("geodns.toml");
    std::fs::write(&file, CONFIG).unwrap();
    std::fs::write(folder.path().join("zone"), ZONE).unwrap();
    let config = Config::load(&file).unwrap();
    let inputs = Inputs::with(config, folder.path(), None, &|_| None).unwrap();
    let world = inputs.compile(&inputs.layers(), 1, [1, 2]).unwrap();
    let plan = world.plan.into_inner().unwrap();
    (Config::clone(&inputs.config), plan)
}

/// Mirrors that some client gets.
fn answered(plan: &Plan) -> BTreeSet<usize> {
    let mut all = BTreeSet::new();
    for client in 0..=u16::MAX >> 6 {
        let [a, b] = client.to_be_bytes();
        for family in [Family::V4, Family::V6] {
            let selection = plan.select(0, family, [10, a, b, 1].into());
            all.extend(selection.mirrors.iter().map(|&mirror| usize::from(mirror)));
        }
    }
    all
}

fn admin() -> impl Strategy<Value = Admin> {
    // Some of them at their end, some on the way, some that begin later.
    let drain = (0..200u64, 0..200u64)
        .prop_map(|(ago, over)| Admin::Drain(ramp(NOW.saturating_sub(ago), over)));
    prop_oneof![Just(Admin::Auto), Just(Admin::Up), Just(Admin::Down), drain,]
}

fn weight() -> impl Strategy<Value = Weight> {
    (0..3u32, 0..3u32, 0..200u64, 0..200u64).prop_map(|(value, from, ago, over)| Weight {
        value,
        from,
        ramp: ramp(NOW - ago, over),
    })
}

/// A word on one of a mirror's addresses, or on the mirror, and whether it is still in force.
type Word = (Option<usize>, bool, bool);

fn word() -> impl Strategy<Value = Word> {
    (option::of(0..3usize), any::<bool>(), any::<bool>())
}

fn address_of(mirror: &Mirror, word: &Word) -> Option<IpAddr> {
    word.0.and_then(|at| mirror.addresses().nth(at))
}

fn standing_of(mirror: &Mirror, admin: Admin, weight: Option<Weight>, words: &[Word]) -> Standing {
    let mut standing = Standing {
        admin,
        weight,
        ..Standing::default()
    };
    for word in words {
        let verdict = External {
            up: word.1,
            address: address_of(mirror, word),
            until_unix_ms: (!word.2).then_some(NOW),
            reason: String::new(),
            since_unix_ms: NOW - 1,
        };
        standing.set_external(verdict).unwrap();
    }
    standing
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    // Invariant 11
    #[test]
    fn mirror_show_says_what_the_answers_do(
        said in vec((admin(), option::of(weight()), vec(word(), 0..4)), SPOKEN_OF),
        fed in vec((0..SPOKEN_OF, word()), 0..4),
        checked in vec(option::of(any::<bool>()), 4),
    ) {
        let (config, mut plan) = world();
        let mut standings = Standings::new();
        for (mirror, (admin, weight, words)) in config.mirrors.iter().zip(&said) {
            let standing = standing_of(mirror, *admin, *weight, words);
            standings.insert(mirror.id.clone(), standing);
        }
        let mut findings = Findings::default();
        let verdict = |(mirror, word): &(usize, Word)| Verdict {
            mirror: config.mirrors[*mirror].id.clone(),
            address: address_of(&config.mirrors[*mirror], word),
            up: word.1,
            reason: None,
            line: 1,
        };
        findings.feed(&fed.iter().map(verdict).collect::<Vec<_>>());
        for (target, up) in targets(&config).zip(checked) {
            if let Some(up) = up {
                findings.checked(&Event {
                    target: target.into(),
                    up,
                    changed: true,
                    until_change: Duration::from_secs(60),
                    reason: None,
                });
            }
        }
        put(&mut plan, &config, &standings, &findings, NOW);
        let answered = answered(&plan);
        let nothing = Standing::default();
        for (number, mirror) in config.mirrors.iter().enumerate() {
            let standing = standings.get(&mirror.id).unwrap_or(&nothing);
            let (shown, why) = in_service(mirror, standing, &findings, NOW);
            prop_assert_eq!(shown, answered.contains(&number), "{}: {}", mirror.id, why);
            let says_out = ["the operator says down", "drained", "weight 0", "a monitor says down", "found down"];
            let says_out = says_out.iter().any(|reason| why.starts_with(reason));
            prop_assert_eq!(shown, !says_out, "{}: {}", mirror.id, why);
        }
    }
}

//! Pools and mirrors: forms that they take, and the exact line for each that they refuse.

use std::path::{Path, PathBuf};

use ipnet::IpNet;

use super::super::{Config, Error, Errors, Matches, Overrides};
use super::rules::MAX_RULES;
use super::*;

/// Four mirrors with places, one without, two that are aliases. The cases put pools behind it: their
/// first line is 37.
const BASE: &str = r#"[server]
site = "fra"
[[zone]]
name = "example.org"
file = "example.org.zone"
[[mirror]]
id = "ams"
addresses = ["192.0.2.1"]
location = { lat = 52.4, lon = 4.9 }
weight = 50
bias = -10
[[mirror]]
id = "fra"
addresses = ["192.0.2.2"]
location = { lat = 50.1, lon = 8.7 }
[[mirror]]
id = "iad"
addresses = ["192.0.2.3", "2001:db8::3"]
location = { lat = 38.9, lon = -77 }
[[mirror]]
id = "sin"
addresses = ["192.0.2.4"]
[mirror.location]
lat = 1.35
lon = 103.8
[[mirror]]
id = "lost"
addresses = ["192.0.2.5"]
weight = 0
[[mirror]]
id = "cdn"
cname = "WWW.cdn.example.net."
[[mirror]]
id = "cdn2"
cname = "www2.cdn.example.net"
location = { lat = 0, lon = 180.0 }
"#;

/// Lines of [`BASE`].
const LINES: usize = 36;

fn read(text: &str) -> Result<Config, Errors> {
    Config::parse(
        Path::new("etc/g.toml"),
        text.as_bytes(),
        &Overrides::default(),
    )
}

fn pools(pools: &str) -> Config {
    read(&format!("{BASE}{pools}")).unwrap_or_else(|error| panic!("{error}\n{pools}"))
}

/// A pool, of all mirrors with a place unless it says otherwise.
fn pool(keys: &str) -> String {
    let members = if keys.contains("mirrors = [") && !keys.contains("{") || keys.contains("pools =")
    {
        ""
    } else {
        "mirrors = [\"ams\", \"fra\", \"iad\", \"sin\"]\n"
    };
    format!("[[pool]]\nid = \"p\"\n{members}{keys}\n")
}

/// The error of a text behind the base; its line counts from the text's first.
#[track_caller]
fn check_error(text: &str, expect: &str) {
    let Err(errors) = read(&format!("{BASE}{text}")) else {
        panic!("no error in {text}");
    };
    let one = |error: &Error| {
        assert_eq!(error.file, Path::new("etc/g.toml"));
        let line = error.line.unwrap_or_else(|| panic!("{error}: no line"));
        let line = i64::try_from(line).unwrap() - i64::try_from(LINES).unwrap();
        let key = error.key.clone().unwrap_or_default();
        format!("{line}: {key}: {}", error.message)
    };
    let said: Vec<String> = errors.iter().map(one).collect();
    assert_eq!(said.join("\n"), expect, "{text}");
}

/// Groups' numbers, as members.
const G0: u8 = Order::group(0);
const G1: u8 = Order::group(1);

#[test]
fn a_mirror_s_keys_are_read() {
    assert_eq!(BASE.lines().count(), LINES);
    let config = pools("");
    let [ams, fra, .., cdn, cdn2] = config.mirrors.as_slice() else {
        panic!();
    };
    assert_eq!((ams.weight, ams.bias), (50, -10));
    assert_eq!(
        ams.location,
        Some(Location {
            lat: 52.4,
            lon: 4.9
        })
    );
    assert_eq!((fra.weight, fra.bias), (100, 0));
    assert_eq!(
        (config.mirrors[4].weight, config.mirrors[4].location),
        (0, None)
    );
    assert_eq!(
        cdn.cname.as_ref().unwrap().to_string(),
        "www.cdn.example.net"
    );
    assert_eq!(cdn.addresses().count(), 0);
    assert_eq!(
        cdn2.location,
        Some(Location {
            lat: 0.0,
            lon: 180.0
        })
    );
    assert_eq!(config.server.site.as_deref(), Some("fra"));
    let text = format!("{BASE}[geoip]\ndatabases = [\"city.mmdb\", \"/geo/asn.mmdb\"]\n");
    let paths = ["etc/city.mmdb", "/geo/asn.mmdb"];
    assert_eq!(read(&text).unwrap().databases, paths.map(PathBuf::from));
}

#[test]
fn every_key_of_a_pool_is_read() {
    let config = pools(
        r#"[[pool]]
id = "p"
mirrors = ["sin", "ams", "fra"]
policy = "nearest"
default = ["fra", "sin"]
prefixes = "p.csv"
ttl = 120
ttl_min = 10
answers = 2
depth = 4
fail = "fallback"
fallback = "last"
panic = 0.25
[[pool]]
id = "last"
mirrors = ["iad"]
policy = "failover"
fail = "closed"
ttl = 5
panic = 1
"#,
    );
    let pool = &config.pools[0];
    assert_eq!(pool.mirrors, [3, 0, 1]);
    assert_eq!(
        (pool.policy, pool.default.as_slice()),
        (Policy::Nearest, &[2, 0, 1][..])
    );
    assert_eq!(pool.prefixes.as_deref(), Some(Path::new("etc/p.csv")));
    assert_eq!(
        (pool.ttl, pool.ttl_min, pool.answers, pool.depth),
        (120, 10, 2, 4)
    );
    assert_eq!((pool.fail, pool.panic), (Fail::Fallback(1), 0.25));
    assert!(pool.groups.is_empty() && pool.has_table() && !pool.is_alias(&config));
    assert_eq!(pool.members().collect::<Vec<_>>(), [0, 1, 2]);
    let last = &config.pools[1];
    assert_eq!(
        (last.ttl, last.ttl_min, last.answers, last.depth),
        (5, 2, 1, 3)
    );
    assert_eq!((last.fail, last.panic), (Fail::Closed, 1.0));
}

#[test]
fn rules_are_for_whom_they_say() {
    let keys = r#"policy = "geo"
default = "ams"
rules = [
  { continent = "na", mirrors = ["iad", "sin"] },
  { country = "nl", mirrors = ["ams"] },
  { country = "US", subdivision = "US-HI", mirrors = ["sin"] },
  { country = "US", subdivision = " New York ", mirrors = ["iad"] },
  { country = "US", subdivision = "NY", city = "Ithaca", mirrors = ["iad"] },
  { country = "FR", city = "Saint-Étienne", mirrors = ["fra"] },
  { asn = 4294967295, mirrors = ["sin"] },
  { prefix = "198.51.100.0/24", mirrors = ["sin", "ams"] },
  { prefix = "2001:db8::/32", mirrors = ["iad"] },
]"#;
    let config = pools(&pool(keys));
    let pool = &config.pools[0];
    let text = str::to_owned;
    let city = |country: &[u8; 2], subdivision: Option<&str>, city| Matches::City {
        country: *country,
        subdivision: subdivision.map(text),
        city: text(city),
    };
    let us = |subdivision| Matches::Subdivision {
        country: *b"US",
        subdivision: text(subdivision),
    };
    let prefixes: [IpNet; 2] = ["198.51.100.0/24", "2001:db8::/32"].map(|p| p.parse().unwrap());
    let expect: [(Matches, &[u8]); 9] = [
        (Matches::Continent(*b"NA"), &[2, 3]),
        (Matches::Country(*b"NL"), &[0]),
        (us("hi"), &[3]),
        (us("new york"), &[2]),
        (city(b"US", Some("ny"), "ithaca"), &[2]),
        (city(b"FR", None, "saint-étienne"), &[1]),
        (Matches::Asn(u32::MAX), &[3]),
        (Matches::Prefix(prefixes[0]), &[3, 0]),
        (Matches::Prefix(prefixes[1]), &[2]),
    ];
    let rules = pool.rules.iter().zip(expect).enumerate();
    for (number, (rule, (matches, members))) in rules {
        assert_eq!(
            (&rule.matches, rule.members.as_slice()),
            (&matches, members)
        );
        assert_eq!(rule.line, LINES + 7 + number);
    }
    assert_eq!(pool.rules.len(), 9);
    let by_prefix: Vec<_> = pool.prefix_rules().collect();
    assert_eq!(by_prefix, [(prefixes[0], &[3, 0][..]), (prefixes[1], &[2])]);
    assert_eq!(pool.default, [0, 1, 2, 3]);
}

#[test]
fn each_policy_has_its_default_order() {
    for (keys, expect) in [
        ("policy = \"nearest\"", &[0, 1, 2, 3][..]),
        ("policy = \"failover\"", &[0, 1, 2, 3]),
        ("policy = \"all\"", &[0, 1, 2, 3]),
        ("policy = \"weighted\"", &[G0]),
        // fra, then by the distance from it.
        ("policy = \"site\"", &[1, 0, 2, 3]),
        (
            "mirrors = [\"sin\", \"lost\", \"iad\", \"ams\", \"fra\"]\npolicy = \"site\"",
            &[4, 3, 2, 0, 1],
        ),
        // The site need not be one of the pool's.
        (
            "mirrors = [\"sin\", \"iad\", \"ams\"]\npolicy = \"site\"",
            &[2, 1, 0],
        ),
        ("policy = \"table\"\ndefault = \"iad\"", &[2, 0, 1, 3]),
        (
            "policy = \"table\"\ndefault = [\"sin\", \"iad\"]",
            &[3, 2, 0, 1],
        ),
        ("policy = \"nearest\"\ndefault = \"sin\"", &[3, 0, 1, 2]),
    ] {
        assert_eq!(pools(&pool(keys)).pools[0].default, expect, "{keys}");
    }
    // Without a place, the others are as they stand.
    let nowhere = BASE.replace("site = \"fra\"", "site = \"lost\"");
    let keys = pool("mirrors = [\"sin\", \"lost\", \"iad\"]\npolicy = \"site\"");
    let config = read(&(nowhere + &keys)).unwrap();
    assert_eq!(config.pools[0].default, [1, 0, 2]);
}

#[test]
fn a_weighted_pool_is_one_group() {
    let config = pools(&pool(
        "policy = \"weighted\"\nchoice = \"query\"\nanswers = 3",
    ));
    let pool = &config.pools[0];
    let group = Group {
        id: "p".to_owned(),
        mirrors: vec![0, 1, 2, 3],
        policy: Policy::Weighted,
        location: None,
    };
    assert_eq!(pool.groups, [group]);
    assert_eq!((pool.choice, pool.answers), (Choice::Query, 3));
    assert_eq!(pool.members().collect::<Vec<_>>(), [G0]);
    // By its own id nobody is sent to it: it is all of the pool.
    assert_eq!(config.mirror_in_pool(0, "p"), None);
    assert_eq!(config.mirror_in_pool(0, "iad"), Some(2));
}

#[test]
fn pools_stand_in_a_pool_with_their_mirrors() {
    let config = pools(
        r#"[[pool]]
id = "europe"
mirrors = ["fra", "ams"]
policy = "weighted"
[[pool]]
id = "outer"
pools = ["asia", "europe"]
policy = "nearest"
default = ["europe", "sin"]
rules = [{ country = "SG", mirrors = ["asia"] }, { country = "NL", mirrors = ["ams", "europe"] }]
choice = "query"
[[pool]]
id = "asia"
mirrors = ["lost", "sin"]
policy = "failover"
location = { lat = 10, lon = 100 }
"#,
    );
    let pool = &config.pools[1];
    assert_eq!(pool.mirrors, [4, 3, 1, 0]);
    let group = |id: &str, mirrors: [u8; 2], policy, (lat, lon)| Group {
        id: id.to_owned(),
        mirrors: mirrors.into(),
        policy,
        location: Some(Location { lat, lon }),
    };
    let asia = group("asia", [0, 1], Policy::Failover, (10.0, 100.0));
    // Where its first mirror is.
    let europe = group("europe", [2, 3], Policy::Weighted, (50.1, 8.7));
    assert_eq!(pool.groups, [asia, europe]);
    assert_eq!(pool.default, [G1, 1, G0]);
    let members: Vec<_> = pool.rules.iter().map(|rule| rule.members.clone()).collect();
    assert_eq!(members, [vec![G0], vec![3, G1]]);
    assert_eq!(pool.members().collect::<Vec<_>>(), [G0, G1]);
    assert_eq!(pool.mirrors_of(G1), [2, 3]);
    assert_eq!(pool.mirrors_of(1), [1]);
    assert_eq!(pool.choice, Choice::Query);
    for (id, member) in [("asia", G0), ("europe", G1), ("lost", 0), ("ams", 3)] {
        assert_eq!(config.mirror_in_pool(1, id), Some(member));
        assert_eq!(config.mirror_id(1, member), id);
    }
    // The site may be a pool, or a mirror within one.
    for (site, expect) in [("fra", &[2, G1, G0][..]), ("europe", &[G1, G0])] {
        let text = format!(
            "{BASE}[[pool]]\nid = \"p\"\npools = [\"asia\", \"europe\"]\npolicy = \"site\"\n\
             [[pool]]\nid = \"europe\"\nmirrors = [\"fra\"]\npolicy = \"all\"\n\
             [[pool]]\nid = \"asia\"\nmirrors = [\"sin\"]\npolicy = \"all\"\n"
        );
        let site = format!("site = \"{site}\"");
        let config = read(&text.replace("site = \"fra\"", &site)).unwrap();
        let default: Vec<u8> = expect.iter().map(|&m| if m == 2 { 1 } else { m }).collect();
        assert_eq!(config.pools[0].default, default);
    }
}

#[test]
fn aliases_are_chosen_among_as_mirrors_are() {
    let config = pools(&pool(
        "mirrors = [\"cdn\", \"cdn2\"]\npolicy = \"failover\"\ndepth = 1",
    ));
    let pool = &config.pools[0];
    assert!(pool.is_alias(&config));
    assert_eq!((pool.answers, pool.depth), (1, 1));
    let all = pools("[[pool]]\nid = \"p\"\nmirrors = [\"cdn\"]\npolicy = \"all\"\n");
    assert_eq!(all.pools[0].answers, 1);
}

#[test]
fn names_give_each_mirror_a_pool_and_a_steered_name() {
    let config = pools(
        "[[pool]]\nid = \"p\"\nmirrors = [\"iad\", \"ams\"]\npolicy = \"failover\"\nttl = 9\n\
         names = \"{mirror}.M-{mirror}.Example.org\"\n\
         [[pool]]\nid = \"q\"\nmirrors = [\"ams\"]\npolicy = \"all\"\n\
         [[steer]]\nname = \"www.example.org\"\npool = \"p\"\n",
    );
    let ids: Vec<_> = config.pools.iter().map(|pool| pool.id.as_str()).collect();
    assert_eq!(ids, ["p", "q", "p/iad", "p/ams"]);
    let steers: Vec<_> = config
        .steers
        .iter()
        .map(|steer| (steer.name.to_string(), steer.pool, steer.line))
        .collect();
    let name = |text: &str| text.to_owned();
    assert_eq!(
        steers,
        [
            (name("www.example.org"), 0, LINES + 12),
            (name("iad.m-iad.example.org"), 2, LINES + 6),
            (name("ams.m-ams.example.org"), 3, LINES + 6),
        ]
    );
    let iad = &config.pools[2];
    assert_eq!(
        (iad.mirrors.as_slice(), iad.of, iad.policy),
        (&[2][..], Some(0), Policy::All)
    );
    assert_eq!((iad.ttl, iad.ttl_min, iad.fail), (9, 9, Fail::Open));
    assert!(config.pools[..2].iter().all(|pool| pool.of.is_none()));
}

#[test]
fn each_wrong_mirror_is_one_clear_line() {
    for (from, to, expect) in [
        (
            "{ lat = 52.4, lon = 4.9 }",
            "[52.4, 4.9]",
            "9: mirror.location: not a table; write it as { lat = 52.4, lon = 4.9 }",
        ),
        (
            "{ lat = 52.4, lon = 4.9 }",
            "\"52.4 4.9\"",
            "9: mirror.location: not a table; write it as { lat = 52.4, lon = 4.9 }",
        ),
        (
            "{ lat = 52.4, lon = 4.9 }",
            "{ lat = 52.4 }",
            "9: mirror.location.lon: missing; add lon = ...",
        ),
        (
            "{ lat = 52.4, lon = 4.9 }",
            "{ lat = 52.4, lon = 4.9, alt = 1 }",
            "9: mirror.location.alt: unknown key; did you mean lat? known: lat, lon",
        ),
        (
            "lat = 52.4",
            "lat = \"52.4\"",
            "9: mirror.location.lat: a string; write a number without quotes, as 52.4",
        ),
        (
            "lat = 52.4",
            "lat = 90.1",
            "9: mirror.location.lat: 90.1 is out of range; write -90 to 90",
        ),
        (
            "lat = 52.4",
            "lat = nan",
            "9: mirror.location.lat: NaN is out of range; write -90 to 90",
        ),
        (
            "lon = -77",
            "lon = -181",
            "19: mirror.location.lon: -181 is out of range; write -180 to 180",
        ),
        (
            "lon = 103.8",
            "lon = inf",
            "25: mirror.location.lon: inf is out of range; write -180 to 180",
        ),
        (
            "lon = 103.8",
            "lon = 1e999",
            "25: mirror.location.lon: far out of range; write a smaller number",
        ),
        (
            "weight = 50",
            "weight = -1",
            "10: mirror.weight: -1 is out of range; write 0 to 1000000",
        ),
        (
            "weight = 50",
            "weight = 1000001",
            "10: mirror.weight: 1000001 is out of range; write 0 to 1000000",
        ),
        (
            "weight = 50",
            "weight = 0.5",
            "10: mirror.weight: a number with a fraction; write a whole number",
        ),
        (
            "bias = -10",
            "bias = -100",
            "11: mirror.bias: -100 is out of range; write -99 to 99",
        ),
        (
            "bias = -10",
            "bias = 100",
            "11: mirror.bias: 100 is out of range; write -99 to 99",
        ),
        (
            "addresses = [\"192.0.2.1\"]\n",
            "",
            "7: mirror.addresses: missing; mirror \"ams\" needs addresses, or a cname",
        ),
        (
            "cname = \"WWW",
            "addresses = [\"192.0.2.9\"]\ncname = \"WWW",
            "32: mirror.addresses: a mirror has addresses or a cname, not both; remove one",
        ),
        (
            "\"WWW.cdn.example.net.\"",
            "\"192.0.2.9:80\"",
            "32: mirror.cname: \"192.0.2.9:80\" is no host name; write one, as \"www.example.org\"",
        ),
        (
            "\"WWW.cdn.example.net.\"",
            "\".\"",
            "32: mirror.cname: \".\" is no host name; write one, as \"www.example.org\"",
        ),
        (
            "\"WWW.cdn.example.net.\"",
            "\"*.example.net\"",
            "32: mirror.cname: \"*.example.net\" is no host name; write one, as \"www.example.org\"",
        ),
        (
            "\"WWW.cdn.example.net.\"",
            "\"192.0.2.9\"",
            "32: mirror.cname: \"192.0.2.9\" is an address; write it in addresses, or a host name here",
        ),
        (
            "\"WWW.cdn.example.net.\"",
            "\"a..b\"",
            "32: mirror.cname: \"a..b\" is not a domain name (empty label); write one, as \"www.example.org\"",
        ),
        (
            "cname = \"WWW.cdn.example.net.\"",
            "cname = \"www.cdn.example.net\"\ncheck = { type = \"icmp\" }",
            "33: mirror.check: not used with a cname: only addresses are checked; remove it",
        ),
        (
            "\"fra\"",
            "\"par\"",
            "2: server.site: no mirror or pool \"par\"; there are \"ams\", \"fra\", \"iad\", \"sin\", \"lost\", \"cdn\", \"cdn2\"",
        ),
        (
            "\"fra\"",
            "1",
            "2: server.site: a whole number; write a string, in quotes, as \"1\"",
        ),
        (
            "[server]",
            "[geoip]\ndatabases = [\"a\", \"./b\", \"a\"]\n[server]",
            "2: geoip.databases: etc/a stands here twice; remove one",
        ),
        (
            "[server]",
            "[geoip]\ndatabases = [\"\"]\n[server]",
            "2: geoip.databases: \"\" is not a path; write one",
        ),
        (
            "[server]",
            "[geoip]\ndatabases = \"a\"\n[server]",
            "2: geoip.databases: a string; write a list, as [\"a\"]",
        ),
    ] {
        assert!(BASE.contains(from), "{from:?} is not in the base");
        let error = read(&BASE.replacen(from, to, 1)).unwrap_err();
        assert_eq!(error.without_columns(), format!("etc/g.toml:{expect}"));
    }
}

#[test]
fn each_wrong_key_of_a_pool_is_one_clear_line() {
    for (keys, expect) in [
        // What does not go with the policy.
        (
            "policy = \"weighted\"\ndefault = \"ams\"",
            "5: pool.default: not used with policy \"weighted\"; remove it, or set policy to \"table\"",
        ),
        (
            "policy = \"failover\"\ndefault = \"ams\"",
            "5: pool.default: not used with policy \"failover\"; remove it, or set policy to \"table\"",
        ),
        (
            "policy = \"site\"\ndefault = \"ams\"",
            "5: pool.default: not used with policy \"site\"; remove it, or set policy to \"table\"",
        ),
        (
            "policy = \"all\"\nprefixes = \"a\"",
            "5: pool.prefixes: not used with policy \"all\"; remove it, or set policy to \"table\"",
        ),
        (
            "policy = \"all\"\ndepth = 4",
            "5: pool.depth: not used with policy \"all\"; remove it",
        ),
        (
            "policy = \"nearest\"\nchoice = \"client\"",
            "5: pool.choice: not used with policy \"nearest\"; remove it, or set policy to \"weighted\"",
        ),
        (
            "policy = \"table\"\ndefault = \"ams\"\nrules = []",
            "6: pool.rules: not used with policy \"table\"; remove them, or set policy to \"geo\"",
        ),
        (
            "policy = \"weighted\"\nrules = []",
            "5: pool.rules: not used with policy \"weighted\"; remove them, or set policy to \"geo\"",
        ),
        (
            "policy = \"nearest\"\nlocation = { lat = 1, lon = 1 }",
            "5: pool.location: only for a pool that is part of another, and \"p\" is not; remove it",
        ),
        // What the policy needs.
        (
            "mirrors = [\"ams\", \"lost\"]\npolicy = \"nearest\"",
            "4: pool.policy: policy \"nearest\" needs to know where \"lost\" is; give it a location = { lat = ..., lon = ... }",
        ),
        (
            "policy = \"geo\"\nprefixes = \"a\"",
            "4: pool.default: missing; policy \"geo\" needs a mirror for clients that no rule is for; the pool has \"ams\", \"fra\", \"iad\", \"sin\"",
        ),
        (
            "policy = \"geo\"\ndefault = \"ams\"",
            "4: pool.rules: missing; policy \"geo\" needs some, as { country = \"NL\", mirrors = [\"ams\"] }",
        ),
        // Default.
        (
            "policy = \"nearest\"\ndefault = \"lost\"",
            "5: pool.default: no mirror \"lost\" in pool \"p\"; the pool has \"ams\", \"fra\", \"iad\", \"sin\"",
        ),
        (
            "policy = \"nearest\"\ndefault = [\"ams\", \"par\"]",
            "5: pool.default: no mirror \"par\" in pool \"p\"; the pool has \"ams\", \"fra\", \"iad\", \"sin\"",
        ),
        (
            "policy = \"nearest\"\ndefault = [\"ams\", \"ams\"]",
            "5: pool.default: \"ams\" stands here twice; remove one",
        ),
        (
            "policy = \"nearest\"\ndefault = []",
            "5: pool.default: neither an id nor a list of some; write \"a\" or [\"a\", \"b\"]",
        ),
        (
            "policy = \"nearest\"\ndefault = 1",
            "5: pool.default: a whole number; write a string, in quotes, or a list, as [\"a\", \"b\"]",
        ),
        (
            "policy = \"nearest\"\ndefault = [\"ams\", 1]",
            "5: pool.default: a whole number; write a string, in quotes, as \"1\"",
        ),
        // Numbers and words.
        (
            "policy = \"nearest\"\nanswers = 5",
            "5: pool.answers: 5 is out of range; write 1 to 4",
        ),
        (
            "mirrors = [\"cdn\", \"cdn2\"]\npolicy = \"failover\"\nanswers = 2",
            "5: pool.answers: 2 is out of range; write 1",
        ),
        (
            "policy = \"nearest\"\nanswers = 2\ndepth = 1",
            "6: pool.depth: 1 is out of range; write 2 to 8",
        ),
        (
            "policy = \"nearest\"\ndepth = 9",
            "5: pool.depth: 9 is out of range; write 1 to 8",
        ),
        (
            "policy = \"nearest\"\nttl_min = 61",
            "5: pool.ttl_min: 61 is out of range; write 0 to 60",
        ),
        (
            "policy = \"nearest\"\nttl = 10\nttl_min = 11",
            "6: pool.ttl_min: 11 is out of range; write 0 to 10",
        ),
        (
            "policy = \"weighted\"\nchoice = \"random\"",
            "5: pool.choice: no such word \"random\"; write \"client\" or \"query\"",
        ),
        (
            "policy = \"nearest\"\npanic = 1.1",
            "5: pool.panic: 1.1 is no share; write 0 to 1, as 0.5",
        ),
        (
            "policy = \"nearest\"\npanic = -0.1",
            "5: pool.panic: -0.1 is no share; write 0 to 1, as 0.5",
        ),
        (
            "policy = \"nearest\"\npanic = nan",
            "5: pool.panic: NaN is no share; write 0 to 1, as 0.5",
        ),
        (
            "policy = \"nearest\"\npanic = \"10%\"",
            "5: pool.panic: a string; write a number without quotes, as 10",
        ),
        (
            "policy = \"nearest\"\nfail = \"servfail\"",
            "5: pool.fail: no such word \"servfail\"; write \"open\" or \"closed\" or \"fallback\"",
        ),
        (
            "policy = \"nearest\"\nfail = \"fallback\"",
            "5: pool.fallback: missing; fail = \"fallback\" needs the pool to fall back to",
        ),
        (
            "policy = \"nearest\"\nfallback = \"p\"",
            "5: pool.fallback: only with fail = \"fallback\"; set it, or remove the key",
        ),
        (
            "policy = \"nearest\"\nfail = \"closed\"\nfallback = \"p\"",
            "6: pool.fallback: only with fail = \"fallback\"; set it, or remove the key",
        ),
        // Aliases.
        (
            "mirrors = [\"ams\", \"cdn\"]\npolicy = \"failover\"",
            "3: pool.mirrors: pool \"p\" mixes mirrors with addresses and with a cname; a name cannot have both, make it two pools",
        ),
        (
            "mirrors = [\"cdn\", \"cdn2\"]\npolicy = \"all\"",
            "4: pool.policy: a name can be an alias of one other only; choose another policy",
        ),
        // Names.
        (
            "policy = \"all\"\nnames = \"m.example.org\"",
            "5: pool.names: \"m.example.org\" would name every mirror alike; write {mirror} where its id is to stand",
        ),
        (
            "policy = \"all\"\nnames = \"{mirror}..example.org\"",
            "5: pool.names: \"ams..example.org\" is not a domain name (empty label); write one, as \"www.example.org\"",
        ),
        (
            "policy = \"all\"\nnames = \"{mirror}.*.example.org\"",
            "5: pool.names: \"ams.*.example.org\" has a * that is not its first label: *.example.org would answer for no other name; write * as the first label only",
        ),
        (
            "policy = \"all\"\nnames = \"{mirror}.example.org\"\n[[steer]]\nname = \"SIN.example.org\"\npool = \"p\"",
            "5: pool.names: sin.example.org is already steered by line 43; change the template",
        ),
        (
            "policy = \"all\"\nnames = \"{mirror}.example.org\"\n[[pool]]\nid = \"q\"\nmirrors = [\"iad\"]\npolicy = \"all\"\nnames = \"{mirror}.example.org\"",
            "10: pool.names: iad.example.org is already steered by line 41; change the template",
        ),
    ] {
        check_error(&pool(keys), expect);
    }
}

#[test]
fn each_wrong_rule_is_one_clear_line() {
    const FORM: &str = "{ country = \"NL\", mirrors = [\"ams\"] }";
    for (rules, expect) in [
        // Shape.
        ("{ country = \"NL\", mirrors = [\"ams\"] }", format!("pool.rules: not a list of tables; write each as [[pool.rules]], or [{FORM}]")),
        ("\"NL\"", format!("pool.rules: not a list of tables; write each as [[pool.rules]], or [{FORM}]")),
        ("[\"NL\"]", format!("pool.rules: not a table; write it as {FORM}")),
        ("[[\"EU\", \"NL\", \"x\", \"y\", 1, \"z\", [\"ams\"]]]", format!("pool.rules: not a table; write it as {FORM}")),
        ("[{ country = \"NL\" }]", "pool.rules.mirrors: missing; add mirrors = [...]".to_owned()),
        ("[{ country = \"NL\", mirrors = \"ams\" }]", "pool.rules.mirrors: a string; write a list, as [\"ams\"]".to_owned()),
        ("[{ land = \"NL\", mirrors = [\"ams\"] }]", "pool.rules.land: unknown key; known: asn, city, continent, country, mirrors, prefix, subdivision".to_owned()),
        ("[{ asn = \"AS64500\", mirrors = [\"ams\"] }]", "pool.rules.asn: a string; write a whole number without quotes, as 64500".to_owned()),
        // For whom.
        ("[{ mirrors = [\"ams\"] }]", "pool.rules: for nobody; add prefix, asn, continent or country (with subdivision, city, or both)".to_owned()),
        ("[{ asn = 1, country = \"NL\", mirrors = [\"ams\"] }]", "pool.rules: by asn and by country; make it two rules, or remove one".to_owned()),
        ("[{ prefix = \"::/0\", continent = \"EU\", mirrors = [\"ams\"] }]", "pool.rules: by prefix and by continent; make it two rules, or remove one".to_owned()),
        ("[{ city = \"Paris\", mirrors = [\"ams\"] }]", "pool.rules.city: a city needs its country; add country = \"..\"".to_owned()),
        ("[{ subdivision = \"HI\", mirrors = [\"ams\"] }]", "pool.rules.subdivision: a subdivision needs its country; add country = \"..\"".to_owned()),
        ("[{ continent = \"EU\", city = \"Paris\", mirrors = [\"ams\"] }]", "pool.rules.city: not used in a rule by continent; remove it".to_owned()),
        ("[{ country = \"FR\", city = \" \", mirrors = [\"ams\"] }]", "pool.rules.city: empty; write its name, or remove the key".to_owned()),
        ("[{ country = \"FR\", subdivision = \"\", mirrors = [\"ams\"] }]", "pool.rules.subdivision: empty; write its name, or remove the key".to_owned()),
        ("[{ country = \"USA\", mirrors = [\"ams\"] }]", "pool.rules.country: \"USA\" is no code of two letters; write its ISO 3166-1 code, as NL".to_owned()),
        ("[{ country = \"U1\", mirrors = [\"ams\"] }]", "pool.rules.country: \"U1\" is no code of two letters; write its ISO 3166-1 code, as NL".to_owned()),
        ("[{ continent = \"Europe\", mirrors = [\"ams\"] }]", "pool.rules.continent: \"Europe\" is no code of two letters; write one of AF, AN, AS, EU, NA, OC, SA".to_owned()),
        ("[{ continent = \"XX\", mirrors = [\"ams\"] }]", "pool.rules.continent: no continent \"XX\"; there are AF, AN, AS, EU, NA, OC, SA".to_owned()),
        ("[{ asn = 0, mirrors = [\"ams\"] }]", "pool.rules.asn: 0 is out of range; write 1 to 4294967295".to_owned()),
        ("[{ prefix = \"192.0.2\", mirrors = [\"ams\"] }]", "pool.rules.prefix: \"192.0.2\" is not an address prefix; write one, as 192.0.2.0/24 or 2001:db8::/32, or an address".to_owned()),
        ("[{ prefix = \"192.0.2.1/24\", mirrors = [\"ams\"] }]", "pool.rules.prefix: 192.0.2.1/24 has bits set past its length; write 192.0.2.0/24".to_owned()),
        ("[{ prefix = \"::ffff:192.0.2.0/120\", mirrors = [\"ams\"] }]", "pool.rules.prefix: ::ffff:192.0.2.0/120 is of IPv4 addresses, mapped; write 192.0.2.0/24".to_owned()),
        // To whom.
        ("[{ country = \"NL\", mirrors = [] }]", "pool.rules.mirrors: none; name some".to_owned()),
        ("[{ country = \"NL\", mirrors = [\"lost\"] }]", "pool.rules.mirrors: no mirror \"lost\" in pool \"p\"; the pool has \"ams\", \"fra\", \"iad\", \"sin\"".to_owned()),
        ("[{ country = \"NL\", mirrors = [\"ams\", \"ams\"] }]", "pool.rules.mirrors: \"ams\" stands here twice; remove one".to_owned()),
    ] {
        let keys = format!("policy = \"nearest\"\nrules = {rules}");
        let text = format!("[[pool]]\nid = \"p\"\nmirrors = [\"ams\", \"fra\", \"iad\", \"sin\"]\n{keys}\n");
        check_error(&text, &format!("5: {expect}"));
    }
}

#[test]
fn two_rules_for_the_same_clients_are_one_too_many() {
    let rule = |whom: &str| format!("[[pool.rules]]\n{whom}\nmirrors = [\"ams\"]\n");
    for (first, second) in [
        ("country = \"NL\"", "country = \"nl\""),
        (
            "country = \"US\"\nsubdivision = \"Hawaii\"",
            "country = \"us\"\nsubdivision = \"HAWAII \"",
        ),
        (
            "country = \"US\"\nsubdivision = \"US-HI\"",
            "country = \"us\"\nsubdivision = \"hi\"",
        ),
        (
            "country = \"FR\"\ncity = \"Paris\"",
            "country = \"FR\"\ncity = \"PARIS\"",
        ),
        ("asn = 1", "asn = 1"),
        ("continent = \"EU\"", "continent = \"eu\""),
        ("prefix = \"2001:db8::/32\"", "prefix = \"2001:DB8:0::/32\""),
    ] {
        let head = "[[pool]]\nid = \"p\"\nmirrors = [\"ams\"]\npolicy = \"nearest\"\n";
        let text = format!("{head}{}{}{}", rule(first), rule("asn = 9"), rule(second));
        let keys = first.lines().count();
        let (first, second) = (4 + keys + 2, 4 + 2 * keys + 2 + 3 + 2);
        let line = LINES + first;
        check_error(
            &text,
            &format!(
                "{second}: pool.rules: the rule of line {line} is for the same clients; keep one of the two"
            ),
        );
    }
    // A place within another is not the same.
    let text = [
        "country = \"US\"",
        "country = \"US\"\nsubdivision = \"NY\"",
        "country = \"US\"\nsubdivision = \"NY\"\ncity = \"Ithaca\"",
        "country = \"US\"\ncity = \"Ithaca\"",
        "continent = \"NA\"",
        "prefix = \"192.0.2.0/24\"",
        "prefix = \"192.0.2.0/25\"",
    ];
    let rules: String = text.iter().map(|whom| rule(whom)).collect();
    let config = pools(&format!(
        "[[pool]]\nid = \"p\"\nmirrors = [\"ams\"]\npolicy = \"nearest\"\n{rules}"
    ));
    assert_eq!(config.pools[0].rules.len(), text.len());
}

#[test]
fn there_are_bounds_to_rules() {
    let with = |rules: &[String]| {
        let rules = rules.join(", ");
        format!(
            "[[pool]]\nid = \"p\"\nmirrors = [\"ams\"]\npolicy = \"nearest\"\nrules = [{rules}]\n"
        )
    };
    // Those by prefix are not counted: they are part of the prefix list.
    let prefix = |n: usize| {
        let net = std::net::Ipv4Addr::from(0x0a00_0000 + ((n as u32) << 8));
        format!("{{ prefix = \"{net}/24\", mirrors = [\"ams\"] }}")
    };
    let prefixes: Vec<_> = (0..=MAX_RULES).map(prefix).collect();
    let pool = &pools(&with(&prefixes)).pools[0];
    assert_eq!(pool.prefix_rules().count(), MAX_RULES + 1);
    let asn = |n: usize| format!("{{ asn = {}, mirrors = [\"ams\"] }}", n + 1);
    let rules: Vec<_> = (0..=MAX_RULES).map(asn).collect();
    check_error(
        &with(&rules),
        "5: pool.rules: 10001 are too many; 10000 is the most",
    );
}

#[test]
fn each_wrong_part_of_a_pool_is_one_clear_line() {
    let inner = |keys: &str| format!("[[pool]]\nid = \"inner\"\n{keys}\n");
    let weighted = inner("mirrors = [\"ams\", \"fra\"]\npolicy = \"weighted\"");
    let others = "only pools of mirrors with policy \"weighted\", \"failover\" or \"all\" can";
    for (first, outer, expect) in [
        (
            weighted.as_str(),
            "mirrors = [\"ams\"]\npools = [\"inner\"]\npolicy = \"nearest\"",
            "8: pool.pools: a pool has mirrors or pools, not both; remove one",
        ),
        (
            &weighted,
            "policy = \"nearest\"",
            "6: pool.mirrors: missing; pool \"p\" needs mirrors, or pools",
        ),
        (
            &weighted,
            "pools = []\npolicy = \"nearest\"",
            "7: pool.pools: pool \"p\" has none; name some",
        ),
        (
            &weighted,
            "pools = [\"inner\", \"outer\"]\npolicy = \"nearest\"",
            "7: pool.pools: no pool \"outer\"; there are \"inner\", \"p\"",
        ),
        (
            &weighted,
            "pools = [\"inner\",\n\"inner\"]\npolicy = \"nearest\"",
            "8: pool.pools: \"inner\" stands here twice; remove one",
        ),
        (
            &weighted,
            "pools = [\"p\"]\npolicy = \"nearest\"",
            &format!("7: pool.pools: pool \"p\" cannot be a part of pool \"p\": {others}"),
        ),
        (
            &inner("mirrors = [\"ams\"]\npolicy = \"nearest\""),
            "pools = [\"inner\"]\npolicy = \"nearest\"",
            &format!("7: pool.pools: pool \"inner\" cannot be a part of pool \"p\": {others}"),
        ),
        // Nested in nested.
        (
            &inner(
                "pools = [\"in\"]\npolicy = \"failover\"\n[[pool]]\nid = \"in\"\nmirrors = [\"ams\"]\npolicy = \"all\"",
            ),
            "pools = [\"inner\"]\npolicy = \"nearest\"",
            &format!("11: pool.pools: pool \"inner\" cannot be a part of pool \"p\": {others}"),
        ),
        (
            &weighted,
            "pools = [\"inner\"]\npolicy = \"all\"",
            "8: pool.policy: policy \"all\" chooses among mirrors; write mirrors instead of pools",
        ),
        (
            &weighted,
            "pools = [\"inner\"]\npolicy = \"weighted\"",
            "8: pool.policy: policy \"weighted\" chooses among mirrors; write mirrors instead of pools",
        ),
        (
            &inner("mirrors = [\"lost\"]\npolicy = \"all\""),
            "pools = [\"inner\"]\npolicy = \"nearest\"",
            "8: pool.policy: policy \"nearest\" needs to know where \"inner\" is; give it a location = { lat = ..., lon = ... }",
        ),
        (
            &inner("mirrors = [\"ams\"]\npolicy = \"all\"\nlocation = { lat = 91, lon = 0 }"),
            "pools = [\"inner\"]\npolicy = \"nearest\"",
            "5: pool.location.lat: 91 is out of range; write -90 to 90",
        ),
        (
            &inner("mirrors = [\"ams\"]\npolicy = \"all\"\nlocation = [1, 2]"),
            "pools = [\"inner\"]\npolicy = \"nearest\"",
            "5: pool.location: not a table; write it as { lat = 52.4, lon = 4.9 }",
        ),
        (
            &inner(
                "mirrors = [\"cdn\"]\npolicy = \"all\"\n[[pool]]\nid = \"a\"\nmirrors = [\"ams\"]\npolicy = \"all\"",
            ),
            "pools = [\"inner\", \"a\"]\npolicy = \"failover\"",
            "11: pool.pools: pool \"p\" mixes mirrors with addresses and with a cname; a name cannot have both, make it two pools",
        ),
        (
            &inner(
                "mirrors = [\"ams\"]\npolicy = \"all\"\n[[pool]]\nid = \"a\"\nmirrors = [\"iad\", \"ams\"]\npolicy = \"all\"",
            ),
            "pools = [\"inner\", \"a\"]\npolicy = \"failover\"",
            "7: pool.mirrors: \"ams\" stands here twice; remove one",
        ),
        (
            &inner(
                "mirrors = [\"ams\"]\npolicy = \"all\"\n[[pool]]\nid = \"ams\"\nmirrors = [\"iad\"]\npolicy = \"all\"",
            ),
            "pools = [\"inner\", \"ams\"]\npolicy = \"failover\"",
            "11: pool.pools: \"ams\" is a mirror in it and a pool; where \"p\" names it, either could be meant: rename one",
        ),
    ] {
        check_error(&format!("{first}[[pool]]\nid = \"p\"\n{outer}\n"), expect);
    }
    // By the id of a pool that is no part of this one, no place is known.
    let text = format!("{BASE}{weighted}{}", pool("policy = \"site\""));
    let error = read(&text.replace("site = \"fra\"", "site = \"inner\"")).unwrap_err();
    let line = LINES + 8;
    assert_eq!(
        error.without_columns(),
        format!(
            "etc/g.toml:{line}: pool.policy: server.site \"inner\" is neither a mirror nor a part of this pool; the pool has \"ams\", \"fra\", \"iad\", \"sin\""
        )
    );
    let error = read(&text.replace("site = \"fra\"\n", "")).unwrap_err();
    let line = line - 1;
    assert_eq!(
        error.without_columns(),
        format!(
            "etc/g.toml:{line}: pool.policy: policy \"site\" needs server.site, the mirror that this node stands beside; set it, or choose another policy"
        )
    );
}

#[test]
fn fallbacks_lead_somewhere_else_to_the_same_kind() {
    let pool = |id: &str, mirror: &str, to: &str| {
        let fail = match to {
            "" => String::new(),
            to => format!("fail = \"fallback\"\nfallback = \"{to}\"\n"),
        };
        format!("[[pool]]\nid = \"{id}\"\nmirrors = [\"{mirror}\"]\npolicy = \"all\"\n{fail}")
    };
    for (pools, expect) in [
        (
            &[("a", "ams", "x"), ("b", "fra", "")][..],
            "6: pool.fallback: no pool \"x\"; there are \"a\", \"b\"",
        ),
        (
            &[("a", "ams", "a")],
            "6: pool.fallback: a leads back to a; let one fail open or closed",
        ),
        (
            &[("a", "ams", "b"), ("b", "fra", "a")],
            "6: pool.fallback: a to b leads back to a; let one fail open or closed",
        ),
        (
            &[("a", "ams", "b"), ("b", "fra", "c"), ("c", "iad", "b")],
            "6: pool.fallback: a to b to c leads back to b; let one fail open or closed",
        ),
        (
            &[("a", "ams", "b"), ("b", "cdn", "")],
            "6: pool.fallback: pool \"b\" has a cname where the other has addresses; a name cannot have both, name another pool",
        ),
        (
            &[("a", "cdn", "b"), ("b", "ams", "")],
            "6: pool.fallback: pool \"b\" has addresses where the other has a cname; a name cannot have both, name another pool",
        ),
    ] {
        let text: String = pools
            .iter()
            .map(|(id, mirror, to)| pool(id, mirror, to))
            .collect();
        check_error(&text, expect);
    }
    let config = pools(&(pool("a", "ams", "b") + &pool("b", "fra", "c") + &pool("c", "ams", "")));
    let fails: Vec<_> = config.pools.iter().map(|pool| pool.fail).collect();
    assert_eq!(fails, [Fail::Fallback(1), Fail::Fallback(2), Fail::Open]);
}

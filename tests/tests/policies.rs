//! Every policy, as the documented configuration promises it: two daemons, with the program and
//! without, are asked by clients from everywhere, and give the same octets.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, ensure};
use geodns_tests::daemon::{Setup, pool, request};
use geodns_tests::dns::{A, AAAA, ANY, CNAME, Query, Reply, TXT};
use geodns_tests::mmdb::Writer;
use geodns_tests::net::{ip, run};
use geodns_tests::twins::Twins;
use geodns_tests::{needs_root, world};
use ipnet::IpNet;
use serde_json::{Value as Json, json};

/// Mirrors, each with a place and a weight, and two of them with a bias: [`address`] has their addresses.
const WORLD: &str = "sixteen_mirrors";
const MIRRORS: [&str; 16] = [
    "ams", "iad", "sin", "w50", "w30", "w20", "w90", "w10", "eu1", "eu2", "us1", "us2", "old",
    "new", "wide", "narrow",
];
/// Pools of `policies.toml`, where the TTL of the first is [`FIRST_TTL`], of the next one more.
const POOLS: [&str; 21] = [
    "table",
    "failover",
    "weighted",
    "ninety",
    "random",
    "site",
    "elsewhere",
    "all",
    "some",
    "geo",
    "geo-one",
    "geo-two",
    "eu",
    "us",
    "nested",
    "nested-table",
    "two",
    "three",
    "failover-two",
    "weighted-table",
    "spare",
];
const FIRST_TTL: u32 = 61;

/// Address of a mirror.
fn address(id: &str, qtype: u16) -> String {
    let number = MIRRORS
        .iter()
        .position(|other| *other == id)
        .expect("a mirror");
    match qtype {
        A => format!("192.0.2.{}", 100 + number),
        _ => format!("2001:db8:{}::10", 100 + number),
    }
}

/// The mirrors, with a pool of each policy.
fn every_policy() -> Setup {
    setup().and(&world::text(WORLD, "policies.toml"))
}

/// The mirrors, at the site `iad`.
fn setup() -> Setup {
    let mut setup = Setup::world(WORLD, &[]);
    setup.server = "site = \"iad\"\n".to_owned();
    setup
}

/// Pools in the making, with a name and a wildcard for each.
#[derive(Default)]
struct Body {
    text: String,
}

impl Body {
    fn pool(&mut self, id: &str, rest: &str) {
        self.text.push_str(&pool(id, rest));
        self.text.push_str(&format!(
            "[[steer]]\nname = \"*.{id}.example.org\"\npool = {id:?}\n"
        ));
    }

    fn apex(&mut self, pool: &str) {
        self.text.push_str(&format!(
            "[[zone]]\nname = \"{pool}.example\"\nfile = \"apex.zone\"\n\
             [[steer]]\nname = \"{pool}.example\"\npool = {pool:?}\n"
        ));
    }

    fn setup(&self) -> Setup {
        setup().and(&self.text)
    }
}

/// The gist of an answer: its one TTL and its records, or NODATA, or the name of its RCODE.
fn gist(reply: &Reply) -> String {
    if reply.rcode != 0 {
        return reply.status();
    }
    if reply.answers.is_empty() {
        return "NODATA".into();
    }
    let mut ttls = BTreeSet::new();
    let mut words = Vec::new();
    for answer in &reply.answers {
        let (ttl, data) = answer.split_once(' ').expect("TTL TYPE RDATA");
        ttls.insert(ttl);
        words.push(
            data.strip_prefix("A ")
                .or(data.strip_prefix("AAAA "))
                .unwrap_or(data),
        );
    }
    let ttls: Vec<&str> = ttls.into_iter().collect();
    format!("{}: {}", ttls.join("!="), words.join(" "))
}

/// TTL and addresses of mirrors, as [`gist`] has them.
fn addresses(ttl: u32, mirrors: &[&str], qtype: u16) -> String {
    let of: Vec<String> = mirrors.iter().map(|id| address(id, qtype)).collect();
    format!("{ttl}: {}", of.join(" "))
}

/// The mirror of an answer of one address.
fn mirror(reply: &Reply) -> Result<&'static str> {
    let record = match (&reply.of("A")[..], &reply.of("AAAA")[..]) {
        ([one], []) | ([], [one]) => *one,
        _ => anyhow::bail!("not one address: {reply}"),
    };
    MIRRORS
        .into_iter()
        .find(|id| address(id, A) == record || address(id, AAAA) == record)
        .with_context(|| format!("nobody's address: {reply}"))
}

fn host(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

/// A resolver in a network that no list and no rule names, of each family.
fn resolver(v6: bool) -> IpAddr {
    ip(if v6 { "fd00::5" } else { "10.9.9.9" })
}

/// An address of a prefix: the first with number 0, the last with 1, then some between.
fn inside(net: IpNet, number: u32) -> IpAddr {
    // Spread over all bits, the same in each run.
    let spread =
        |number: u32| u128::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
    let bits = match number {
        0 => 0,
        1 => u128::MAX,
        _ => spread(number),
    };
    match net.trunc() {
        IpNet::V4(net) => {
            let host = u32::MAX.checked_shr(net.prefix_len().into()).unwrap_or(0);
            Ipv4Addr::from(net.addr().to_bits() | (bits >> 64) as u32 & host).into()
        }
        IpNet::V6(net) => {
            let host = u128::MAX.checked_shr(net.prefix_len().into()).unwrap_or(0);
            Ipv6Addr::from(net.addr().to_bits() | bits & host).into()
        }
    }
}

/// The prefix around a client that its answer is good for.
fn good_for(client: IpAddr, reply: &Reply) -> Result<IpNet> {
    let scope = reply
        .scope()
        .with_context(|| format!("no scope: {reply}"))?;
    let net = IpNet::new(client, scope).with_context(|| format!("scope {scope} for {client}"))?;
    Ok(net.trunc())
}

#[test]
fn each_policy_answers_as_it_promises() -> Result<()> {
    needs_root!();
    let mut twins = Twins::start(&every_policy())?;
    let v4 = "45.0.0.1";
    let world = [
        "20.1.0.1",
        "20.1.200.1",
        "20.2.0.1",
        "20.3.0.1",
        "21.0.0.1",
        v4,
    ];
    let world6 = ["2a02:0:9::1", "2a02:1::1", "2a02:1:1::1", "2a03::1"];
    // Pool, clients, their mirrors, the scopes.
    type Case<'a> = (&'a str, &'a [&'a str], &'a [&'a [&'a str]], &'a [u8]);
    let cases: &[Case<'_>] = &[
        (
            "table",
            &world,
            &[&["iad"], &["sin"], &["sin"], &["ams"], &["ams"], &["ams"]],
            &[17, 17, 16, 16, 8, 3],
        ),
        (
            "table",
            &world6,
            &[&["sin"], &["iad"], &["ams"], &["ams"]],
            &[32, 48, 48, 16],
        ),
        ("failover", &[v4, "20.1.0.1", "2a02::1"], &[&["sin"]], &[0]),
        ("site", &[v4, "20.1.0.1", "2a02::1"], &[&["iad"]], &[0]),
        ("elsewhere", &[v4, "20.1.0.1", "2a02::1"], &[&["ams"]], &[0]),
        (
            "all",
            &[v4, "20.1.0.1", "2a02::1"],
            &[&["ams", "iad", "sin"]],
            &[0],
        ),
        (
            "some",
            &[v4, "20.1.0.1", "2a02::1"],
            &[&["ams", "iad"]],
            &[0],
        ),
        (
            "geo",
            &world,
            &[&["iad"], &["iad"], &["sin"], &["ams"], &["ams"], &["ams"]],
            &[17, 17, 16, 16, 8, 3],
        ),
        (
            "geo",
            &["2a02::1", "2a02:1::1"],
            &[&["sin"], &["ams"]],
            &[32, 32],
        ),
        // With a depth of 1 the second choice makes no region of its own.
        ("geo-one", &["20.1.0.1", "20.1.200.1"], &[&["iad"]], &[16]),
        ("geo-two", &["20.1.0.1", "20.1.200.1"], &[&["iad"]], &[17]),
        ("geo-one", &["20.2.0.1"], &[&["sin"]], &[16]),
        (
            "two",
            &["20.1.0.1", "20.2.0.1", "20.3.0.1", "2a02::1"],
            &[
                &["iad", "sin"],
                &["sin", "ams"],
                &["sin", "ams"],
                &["sin", "ams"],
            ],
            &[17, 15, 15, 32],
        ),
        ("failover-two", &[v4, "2a02::1"], &[&["iad", "sin"]], &[0]),
        (
            "weighted-table",
            &["20.1.0.1", "2a02::1"],
            &[&["ams"]],
            &[24, 56],
        ),
        (
            "nested-table",
            &["20.2.0.1", "20.3.3.200"],
            &[&["us2"], &["eu1"]],
            &[24, 25],
        ),
        ("spare", &[v4, "20.1.0.1", "2a02::1"], &[&["iad"]], &[0]),
    ];
    let mut failures = Vec::new();
    for &(pool, clients, mirrors, scopes) in cases {
        let place = POOLS.iter().position(|id| *id == pool);
        let ttl = FIRST_TTL + place.context("a pool")? as u32;
        let names = [
            format!("{pool}.example.org"),
            format!("any.thing.{pool}.example.org"),
            format!("{pool}.example"),
        ];
        let mut asked = 0;
        for (place, client) in clients.iter().enumerate() {
            let client = ip(client);
            let mirrors = mirrors.get(place).or(mirrors.last()).context("mirrors")?;
            let scope = *scopes.get(place).or(scopes.last()).context("scopes")?;
            for name in &names {
                for qtype in [A, AAAA] {
                    let plain = Query::new(name, qtype);
                    let subnet = Query::new(name, qtype).subnet_of(client, host(client));
                    let want = addresses(ttl, mirrors, qtype);
                    for (from, query, scope) in [
                        (client, plain, None),
                        (resolver(false), subnet.clone(), Some(scope)),
                        (resolver(true), subnet.dnssec_ok(), Some(scope)),
                    ] {
                        asked += 1;
                        let reply = twins.ask(from, &query)?;
                        if gist(&reply) != want || reply.scope() != scope {
                            failures.push(format!(
                                "{name} {qtype} for {client}: want {want} {scope:?}, got {} {:?}",
                                gist(&reply),
                                reply.scope()
                            ));
                        }
                    }
                }
            }
        }
        // Two of some mirrors need more room in a frame than a veth's always has.
        if let Err(error) = twins.all_counted("answered", asked) {
            failures.push(format!("{pool}: {error:#}"));
        }
    }
    ensure!(failures.is_empty(), "{}", failures.join("\n"));
    // Each mirror under a name of its own.
    let reply = twins.ask(ip(v4), &Query::new("iad.mirrors.example.org", A))?;
    ensure!(gist(&reply) == addresses(81, &["iad"], A), "{reply}");
    let reply = twins.ask(ip(v4), &Query::new("sin.mirrors.example.org", A))?;
    ensure!(gist(&reply) == "NXDOMAIN", "{reply}");
    // Groups: a client's mirror is one of its group, and all of its members come up.
    let mut seen = BTreeMap::<&str, BTreeSet<&str>>::new();
    for number in 0..60 {
        let america = ip(&format!("20.1.{number}.1"));
        let europe = ip(&format!("45.1.{number}.1"));
        for (what, pool, client) in [
            ("nested", "nested", europe),
            ("america", "nested-table", america),
            ("europe", "nested-table", europe),
        ] {
            let name = format!("{pool}.example.org");
            let a = twins.ask(client, &Query::new(&name, A))?;
            let aaaa = twins.ask(client, &Query::new(&name, AAAA))?;
            ensure!(mirror(&a)? == mirror(&aaaa)?, "{client}: {a} but {aaaa}");
            seen.entry(what).or_default().insert(mirror(&a)?);
        }
    }
    let want = BTreeMap::from([
        ("nested", BTreeSet::from(["us1", "us2"])),
        ("america", BTreeSet::from(["us1", "us2"])),
        ("europe", BTreeSet::from(["eu1", "eu2"])),
    ]);
    ensure!(seen == want, "{seen:?}");
    // A weighted pool's other answers follow the drawn one.
    let mut orders = BTreeSet::new();
    for number in 0..60 {
        let client = ip(&format!("45.2.{number}.1"));
        let first = twins.ask(client, &Query::new("weighted.example.org", A))?;
        let three = twins.ask(client, &Query::new("three.example.org", A))?;
        ensure!(three.answers.len() == 3, "{three}");
        ensure!(three.of("A")[0] == first.of("A")[0], "{first}, {three}");
        ensure!(BTreeSet::from_iter(three.of("A")).len() == 3, "{three}");
        orders.insert(three.of("A").join(" "));
    }
    ensure!(orders.len() > 3, "few orders: {orders:?}");
    twins.stop()
}

#[test]
fn mirrors_of_one_family_are_passed_over_for_the_other() -> Result<()> {
    needs_root!();
    let mut body = Body::default();
    let policies = [
        ("table", "default = \"FIRST\"\nprefixes = \"PREFIXES\""),
        ("failover", ""),
        ("weighted", ""),
        ("site", ""),
        ("all", ""),
        (
            "geo",
            "default = [\"FIRST\"]\nrules = [{ prefix = \"20.1.0.0/16\", mirrors = [\"FIRST\"] }]",
        ),
    ];
    let kinds: [(&str, &[&str]); 3] = [
        ("v4", &["old"]),
        ("v6", &["new"]),
        ("both", &["old", "new"]),
    ];
    for (policy, rest) in policies {
        for (kind, mirrors) in kinds {
            let rest = rest.replace("FIRST", mirrors[0]);
            let rest = rest.replace("PREFIXES", &format!("{kind}.csv"));
            let id = format!("{kind}-{policy}");
            body.pool(
                &id,
                &format!("mirrors = {mirrors:?}\npolicy = {policy:?}\nttl = 50\n{rest}"),
            );
            body.apex(&id);
        }
    }
    let mut setup = body.setup();
    for (kind, mirrors) in kinds {
        let last = mirrors[mirrors.len() - 1];
        setup = setup.file(&format!("{kind}.csv"), &format!("20.1.0.0/16,{last}\n"));
    }
    let mut twins = Twins::start(&setup)?;
    for (policy, _) in policies {
        for (kind, _) in kinds {
            for (qtype, id, without) in [(A, "old", "v6"), (AAAA, "new", "v4")] {
                let nodata = kind == without;
                let want = match nodata {
                    true => "NODATA".to_owned(),
                    false => addresses(50, &[id], qtype),
                };
                let mut asked = 0;
                for name in [
                    format!("{kind}-{policy}.example.org"),
                    format!("x.{kind}-{policy}.example.org"),
                    format!("{kind}-{policy}.example"),
                ] {
                    for client in ["20.1.0.1", "20.2.0.1", "2a02::1"].map(ip) {
                        let plain = Query::new(&name, qtype).edns(1232);
                        let subnet = Query::new(&name, qtype).subnet_of(client, host(client));
                        let reply = twins.ask(client, &plain)?;
                        ensure!(gist(&reply) == want, "{name} {qtype}: want {want}: {reply}");
                        let reply = twins.ask(resolver(client.is_ipv4()), &subnet)?;
                        ensure!(gist(&reply) == want, "{name} {qtype}: want {want}: {reply}");
                        ensure!(
                            reply.scope().is_some_and(|scope| scope == 0 || !nodata),
                            "{reply}"
                        );
                        asked += 2;
                    }
                }
                twins.all_counted(if nodata { "nodata" } else { "answered" }, asked)?;
            }
        }
    }
    twins.stop()
}

#[test]
fn the_ttl_of_the_pool_is_in_every_record() -> Result<()> {
    needs_root!();
    let mut body = Body::default();
    // Every octet of it different, and the ends of the range.
    let ttls = [0x0102_0304, 0, 1, 0x7fff_ffff];
    for count in 1..=8 {
        let v4 = (0..count).map(|host| format!("198.51.100.{}", 10 * count + host));
        let v6 = (0..count.min(5)).map(|host| format!("2001:db8:{count}:1::{host:x}"));
        let addresses: Vec<String> = v4.chain(v6).collect();
        body.text.push_str(&format!(
            "[[mirror]]\nid = \"m{count}\"\naddresses = {addresses:?}\n"
        ));
        for (number, ttl) in ttls.into_iter().enumerate() {
            body.pool(
                &format!("p{count}-{number}"),
                &format!("mirrors = [\"m{count}\"]\npolicy = \"failover\"\nttl = {ttl}\n"),
            );
        }
    }
    let mut twins = Twins::start(&body.setup())?;
    for count in 1..=8 {
        for (number, ttl) in ttls.into_iter().enumerate() {
            for (qtype, records, most) in [(A, count, 7), (AAAA, count.min(5), 4)] {
                // What the fast path holds is 120 octets.
                let verdict = match records <= most {
                    true => "answered",
                    false => "pass_slow_pool",
                };
                for name in [
                    format!("p{count}-{number}.example.org"),
                    format!("X.p{count}-{number}.example.org"),
                ] {
                    // Padded, so that a veth's frame has the room.
                    let query = Query::new(&name, qtype).option(12, &[0; 150]);
                    let reply = twins.ask(ip("45.0.0.1"), &query)?;
                    twins.all_counted(verdict, 1)?;
                    let alike = reply
                        .answers
                        .iter()
                        .all(|answer| answer.starts_with(&format!("{ttl} ")));
                    ensure!(
                        reply.answers.len() == records && alike,
                        "{name} {qtype}: {reply}"
                    );
                }
            }
        }
    }
    twins.stop()
}

#[test]
fn an_alias_is_a_cname_whatever_is_asked_for() -> Result<()> {
    needs_root!();
    let mut body = Body::default();
    let long = format!(
        "{}.{}.{}.example.net",
        "a".repeat(60),
        "b".repeat(60),
        "c".repeat(40)
    );
    for (id, cname) in [
        ("cdn", "www.cdn.example.net"),
        ("other", "www.other.example"),
        ("near", "host.near.example.org"),
        ("long", &long),
        // 105 octets on the wire and 12 before them are 117 of 120; one label more are not.
        ("fits", &format!("{}.{}", "a".repeat(60), "b".repeat(42))),
        (
            "fits-not",
            &format!("{}.{}", "a".repeat(60), "b".repeat(46)),
        ),
    ] {
        body.text
            .push_str(&format!("[[mirror]]\nid = {id:?}\ncname = {cname:?}\n"));
    }
    for (id, rest) in [
        (
            "alias",
            "mirrors = [\"cdn\", \"other\"]\npolicy = \"table\"\ndefault = \"cdn\"\nprefixes = \"alias.csv\"\nttl = 44",
        ),
        (
            "plain-alias",
            "mirrors = [\"other\"]\npolicy = \"failover\"\nttl = 45",
        ),
        (
            "drawn-alias",
            "mirrors = [\"cdn\", \"other\"]\npolicy = \"weighted\"\nttl = 46",
        ),
        (
            "long",
            "mirrors = [\"long\"]\npolicy = \"failover\"\nttl = 47",
        ),
        (
            "near",
            "mirrors = [\"near\"]\npolicy = \"all\"\nttl = 50\nfail = \"fallback\"\nfallback = \"beside\"",
        ),
        (
            "beside",
            "mirrors = [\"near\", \"other\"]\npolicy = \"failover\"\nttl = 51",
        ),
        (
            "fits",
            "mirrors = [\"fits\"]\npolicy = \"failover\"\nttl = 48",
        ),
        (
            "fits-not",
            "mirrors = [\"fits-not\"]\npolicy = \"failover\"\nttl = 49",
        ),
        (
            "table",
            "mirrors = [\"ams\", \"iad\", \"sin\"]\npolicy = \"table\"\ndefault = \"ams\"\nprefixes = \"world.csv\"\nttl = 61",
        ),
        (
            "failover",
            "mirrors = [\"sin\", \"ams\"]\npolicy = \"failover\"\nttl = 62",
        ),
    ] {
        body.pool(id, rest);
    }
    let setup = body
        .setup()
        .file("alias.csv", "20.1.0.0/16,other\n2a02::/32,other\n");
    let mut twins = Twins::start(&setup)?;
    let cdn = "44: CNAME www.cdn.example.net.";
    let other = "44: CNAME www.other.example.";
    for (client, want, scope) in [
        ("20.1.0.1", other, 16),
        ("20.2.0.1", cdn, 15),
        ("2a02::1", other, 32),
        ("2a02:1::1", cdn, 32),
    ] {
        let client = ip(client);
        for name in ["alias.example.org", "x.alias.example.org"] {
            for (qtype, verdict) in [
                (A, "answered"),
                (AAAA, "answered"),
                (TXT, "answered"),
                (CNAME, "answered"),
                (65, "answered"),
            ] {
                let reply = twins.ask(client, &Query::new(name, qtype))?;
                ensure!(gist(&reply) == want, "{name} {qtype} for {client}: {reply}");
                let query = Query::new(name, qtype).subnet_of(client, host(client));
                let reply = twins.ask(resolver(false), &query)?;
                ensure!(
                    gist(&reply) == want && reply.scope() == Some(scope),
                    "{name} {qtype} for {client}: {reply}"
                );
                twins.all_counted(verdict, 2)?;
            }
            // RFC 8482 section 4.2.
            let reply = twins.ask(
                client,
                &Query::new(name, ANY).subnet_of(client, host(client)),
            )?;
            ensure!(
                reply.of("HINFO").len() == 1 && reply.answers.len() == 1,
                "{reply}"
            );
            ensure!(reply.scope() == Some(0), "{reply}");
            twins.all_counted("pass_qtype", 1)?;
        }
    }
    // Drawn: sticky, by its network.
    let mut drawn = BTreeSet::new();
    for number in 0..40 {
        let client = ip(&format!("45.0.{number}.1"));
        let reply = twins.ask(client, &Query::new("drawn-alias.example.org", A))?;
        for qtype in [A, AAAA, TXT] {
            let query = Query::new("drawn-alias.example.org", qtype).subnet_of(client, 24);
            let other = twins.ask(resolver(true), &query)?;
            ensure!(
                other.answers == reply.answers && other.scope() == Some(24),
                "{reply}, {other}"
            );
        }
        drawn.insert(gist(&reply));
    }
    ensure!(drawn.len() == 2, "{drawn:?}");
    twins.counted()?;
    // What the fast path has no room for comes from the slow path.
    for (name, verdict, ttl) in [
        ("long", "pass_slow_pool", 47),
        ("fits", "answered", 48),
        ("fits-not", "pass_slow_pool", 49),
    ] {
        for qtype in [A, AAAA] {
            let query = Query::new(&format!("{name}.example.org"), qtype).option(12, &[0; 200]);
            let reply = twins.ask(ip("45.0.0.1"), &query)?;
            ensure!(
                gist(&reply).starts_with(&format!("{ttl}: CNAME aaaa")),
                "{reply}"
            );
            twins.all_counted(verdict, 1)?;
        }
    }
    // A target that ends as the question does, to which upper-case letters are others; and in the answers of a pool
    // that another falls back to.
    let near = |twins: &mut Twins, names: &[&str], want: &str| -> Result<()> {
        for name in names {
            for qtype in [A, AAAA, TXT, CNAME] {
                let plain = Query::new(name, qtype);
                let with = plain.clone().subnet_of(ip("45.0.0.1"), 24);
                for query in [plain, with] {
                    let reply = twins.ask(ip("45.0.0.1"), &query)?;
                    ensure!(gist(&reply) == want, "{name} {qtype}: {reply}");
                }
            }
            twins.all_counted("answered", 8)?;
        }
        Ok(())
    };
    let names = [
        "near.example.org",
        "x.near.example.org",
        "a.b.host.near.example.org",
        "host.near.example.org",
        "x.Near.example.org",
        "NEAR.EXAMPLE.ORG",
    ];
    near(&mut twins, &names, "50: CNAME host.near.example.org.")?;
    let beside = ["beside.example.org", "x.beside.example.org"];
    near(&mut twins, &beside, "51: CNAME host.near.example.org.")?;
    for daemon in [&twins.fast, &twins.slow] {
        daemon.ok("mirror down near")?;
    }
    near(&mut twins, &names, "51: CNAME www.other.example.")?;
    for daemon in [&twins.fast, &twins.slow] {
        daemon.ok("mirror auto near")?;
    }
    // A chain to a pool: whole where everyone gets the same, and for a client that names no network;
    // the first CNAME alone where the rest is not for everyone (RFC 7871 section 7.2.1).
    for (name, qtype, subnet, want) in [
        (
            "to-alias",
            A,
            None,
            vec![
                "3600 CNAME alias.example.org.",
                "44 CNAME www.other.example.",
            ],
        ),
        (
            "to-alias",
            TXT,
            None,
            vec![
                "3600 CNAME alias.example.org.",
                "44 CNAME www.other.example.",
            ],
        ),
        (
            "to-alias",
            A,
            Some(24),
            vec!["3600 CNAME alias.example.org."],
        ),
        (
            "to-alias",
            A,
            Some(0),
            vec![
                "3600 CNAME alias.example.org.",
                "44 CNAME www.other.example.",
            ],
        ),
        (
            "to-plain",
            AAAA,
            Some(24),
            vec![
                "3600 CNAME plain-alias.example.org.",
                "45 CNAME www.other.example.",
            ],
        ),
        (
            "to-table",
            A,
            None,
            vec!["3600 CNAME table.example.org.", "61 A 192.0.2.101"],
        ),
        (
            "to-table",
            A,
            Some(24),
            vec!["3600 CNAME table.example.org."],
        ),
        (
            "to-failover",
            A,
            Some(24),
            vec!["3600 CNAME failover.example.org.", "62 A 192.0.2.102"],
        ),
    ] {
        let client = ip("20.1.0.1");
        let query = Query::new(&format!("{name}.example.org"), qtype);
        let query = match subnet {
            Some(len) => query.subnet_of(client, len),
            None => query,
        };
        let reply = twins.ask(client, &query)?;
        ensure!(reply.answers == want, "{name} {qtype} {subnet:?}: {reply}");
        ensure!(reply.scope().unwrap_or(0) == 0, "{reply}");
    }
    twins.stop()
}

/// A client's /24s (or /56s), spread over its networks.
fn networks(count: u32) -> impl Iterator<Item = (IpAddr, IpAddr)> {
    (0..count).map(|number| {
        let [.., b, c, d] = number.wrapping_mul(0x9e37_79b1).to_be_bytes();
        let v4 = Ipv4Addr::new([20, 21, 45][number as usize % 3], b, c, d);
        let high = u128::from(number.wrapping_mul(0x85eb_ca6b)) << 72;
        let v6 = Ipv6Addr::from(0x2a03 << 112 | high | 1);
        (v4.into(), v6.into())
    })
}

#[test]
fn a_client_stays_with_its_mirror_everywhere() -> Result<()> {
    needs_root!();
    const NETWORKS: u32 = 2000;
    let setup = every_policy();
    let mut twins = Twins::start(&setup)?;
    let pools: [(&str, &[(&str, f64)]); 2] = [
        ("ninety", &[("w90", 0.9), ("w10", 0.1)]),
        ("weighted", &[("w50", 0.5), ("w30", 0.3), ("w20", 0.2)]),
    ];
    // By name and network: who answered.
    let mut drawn = BTreeMap::new();
    for (pool, shares) in pools {
        let name = format!("{pool}.example.org");
        let mut clients = [BTreeMap::<&str, u32>::new(), BTreeMap::new()];
        let mut asked = 0;
        for (number, (v4, v6)) in networks(NETWORKS).enumerate() {
            // By its own address, and a /56 now and then: each takes a socket.
            let clients_of = if number % 4 == 0 {
                vec![v4, v6]
            } else {
                vec![v4]
            };
            for client in clients_of {
                let (len, other) = if client.is_ipv4() {
                    (24, A)
                } else {
                    (56, AAAA)
                };
                let reply = twins.ask(client, &Query::new(&name, other))?;
                let chosen = mirror(&reply)?;
                let query = |qtype, at, len| Query::new(&name, qtype).subnet_of(at, len);
                let net = IpNet::new(client, len)?;
                for (qtype, at, len) in [
                    (A, net.addr(), len),
                    (AAAA, net.addr(), len),
                    (A, inside(net, 1), host(client)),
                    (AAAA, inside(net, number as u32 + 2), host(client)),
                ] {
                    let reply = twins.ask(resolver(number % 2 == 0), &query(qtype, at, len))?;
                    ensure!(
                        mirror(&reply)? == chosen
                            && reply.scope() == Some(24).filter(|_| client.is_ipv4()).or(Some(56)),
                        "{client} has {chosen}, {at}/{len}: {reply}"
                    );
                }
                asked += 5;
                *clients[usize::from(client.is_ipv6())]
                    .entry(chosen)
                    .or_default() += 1;
                drawn.insert((pool, net.trunc()), chosen);
            }
        }
        twins.all_counted("answered", asked)?;
        for counts in clients {
            let all = f64::from(counts.values().sum::<u32>());
            for &(id, share) in shares {
                let got = f64::from(counts.get(id).copied().unwrap_or(0)) / all;
                // The slots are drawn, and the clients among them.
                let deviation = (share * (1.0 - share) * (1.0 / 1024.0 + 1.0 / all)).sqrt();
                ensure!(
                    (got - share).abs() < 4.5 * deviation,
                    "{pool}: {id} has {got} of the clients, not {share}"
                );
            }
        }
    }
    twins.stop()?;
    // Another node, which has never heard of the first.
    let mut setup = setup;
    setup.server = "site = \"sin\"\nidentity = \"another\"\n".to_owned();
    let mut another = Twins::start(&setup)?;
    for ((pool, net), chosen) in drawn.iter().step_by(7) {
        let query =
            Query::new(&format!("{pool}.example.org"), A).subnet_of(net.addr(), net.prefix_len());
        let reply = another.ask(resolver(false), &query)?;
        ensure!(
            mirror(&reply)? == *chosen,
            "{pool} {net}: {chosen} there, here {reply}"
        );
    }
    let site = another.ask(resolver(false), &Query::new("site.example.org", A))?;
    ensure!(mirror(&site)? == "sin", "{site}");
    another.stop()
}

#[test]
fn what_is_drawn_for_each_query_keeps_the_shares() -> Result<()> {
    needs_root!();
    const QUERIES: u32 = 1200;
    let mut twins = Twins::start(&every_policy())?;
    let mut counts = [BTreeMap::<&str, u32>::new(), BTreeMap::new()];
    for _ in 0..QUERIES {
        let query = Query::new("random.example.org", A).subnet_of(ip("20.1.0.1"), 24);
        let replies = twins.ask_each(ip("45.0.0.1"), &query)?;
        for (reply, counts) in replies.iter().zip(&mut counts) {
            let reply = Reply::parse(reply)?;
            ensure!(reply.scope() == Some(0), "{reply}");
            ensure!(gist(&reply).starts_with("65: "), "{reply}");
            *counts.entry(mirror(&reply)?).or_default() += 1;
        }
    }
    twins.all_counted("answered", QUERIES as usize)?;
    for counts in counts {
        for (id, share) in [("w50", 0.5), ("w30", 0.3), ("w20", 0.2)] {
            let got = f64::from(counts[id]) / f64::from(QUERIES);
            let deviation: f64 = share * (1.0 - share) * (1.0 / 1024.0 + 1.0 / f64::from(QUERIES));
            ensure!(
                (got - share).abs() < 4.5 * deviation.sqrt(),
                "{id} has {got}, not {share}"
            );
        }
    }
    twins.stop()
}

#[test]
fn what_is_drawn_within_a_region_keeps_the_regions_scope() -> Result<()> {
    needs_root!();
    const QUERIES: u32 = 400;
    // Whatever the inner pools say by themselves.
    let drawn = pool(
        "drawn",
        "pools = [\"ninety\", \"eu\"]\npolicy = \"table\"\ndefault = \"ninety\"\n\
         prefixes = \"drawn.csv\"\nchoice = \"query\"\nttl = 82",
    );
    let list = "20.1.0.0/16,eu\n20.2.0.0/16,eu2\n2a02::/32,eu\n";
    let mut twins = Twins::start(&every_policy().and(&drawn).file("drawn.csv", list))?;
    let ninety = [("w90", 0.9), ("w10", 0.1)];
    let eu = [("eu1", 0.5), ("eu2", 0.5)];
    // Client, its mirrors and their shares, the scope.
    type Case<'a> = (&'a str, &'a [(&'a str, f64)], u8);
    let cases: [Case<'_>; 6] = [
        ("45.0.0.1", &ninety, 3),
        ("20.3.0.1", &ninety, 16),
        ("20.1.0.1", &eu, 16),
        ("20.2.0.1", &[("eu2", 1.0)], 16),
        ("2a02::1", &eu, 32),
        ("2a03::1", &ninety, 16),
    ];
    for (client, shares, scope) in cases {
        let client = ip(client);
        let mut counts = [BTreeMap::<&str, u32>::new(), BTreeMap::new()];
        for number in 0..QUERIES {
            let qtype = if number % 2 == 0 { A } else { AAAA };
            let plain = Query::new("drawn.example.org", qtype);
            let (from, query, scope) = match number % 4 / 2 {
                0 => (client, plain, None),
                _ => (
                    resolver(false),
                    plain.subnet_of(client, host(client)),
                    Some(scope),
                ),
            };
            let replies = twins.ask_each(from, &query)?;
            for (reply, counts) in replies.iter().zip(&mut counts) {
                let reply = Reply::parse(reply)?;
                ensure!(reply.scope() == scope, "{client}: want {scope:?}: {reply}");
                ensure!(gist(&reply).starts_with("82: "), "{reply}");
                *counts.entry(mirror(&reply)?).or_default() += 1;
            }
        }
        twins.all_counted("answered", QUERIES as usize)?;
        for counts in counts {
            ensure!(
                counts
                    .keys()
                    .eq(shares.iter().map(|(id, _)| id).collect::<BTreeSet<_>>()),
                "{client}: {counts:?}"
            );
            for &(id, share) in shares {
                let got = f64::from(counts[id]) / f64::from(QUERIES);
                let variance = share * (1.0 - share) * (1.0 / 1024.0 + 1.0 / f64::from(QUERIES));
                ensure!(
                    (got - share).abs() <= 4.5 * variance.sqrt(),
                    "{client}: {id} has {got}, not {share}"
                );
            }
        }
    }
    twins.stop()
}

/// A record of a database in MaxMind's layout: continent, country, subdivision, city; a place.
fn record(names: [&str; 4], [lat, lon]: [f64; 2]) -> Json {
    let [continent, country, subdivision, city] = names;
    json!({
        "continent": {"code": continent},
        "country": {"iso_code": country},
        "subdivisions": [{"iso_code": subdivision}],
        "city": {"names": {"en": city}},
        "location": {"latitude": lat, "longitude": lon},
    })
}

/// The place of each network. No other network has a place.
fn places() -> Vec<(&'static str, Json)> {
    let new_york = record(["NA", "US", "NY", "New York"], [40.7, -74.0]);
    let honolulu = record(["NA", "US", "HI", "Honolulu"], [21.3, -157.9]);
    let boston = record(["NA", "US", "MA", "Boston"], [42.4, -71.1]);
    let toronto = record(["NA", "CA", "ON", "Toronto"], [43.7, -79.4]);
    let sao_paulo = record(["SA", "BR", "SP", "São Paulo"], [-23.5, -46.6]);
    let amsterdam = record(["EU", "NL", "NH", "Amsterdam"], [52.4, 4.9]);
    let tokyo = record(["AS", "JP", "13", "Tokyo"], [35.7, 139.7]);
    vec![
        ("20.16.0.0/12", new_york.clone()),
        ("20.17.0.0/16", honolulu.clone()),
        ("20.18.0.0/17", boston),
        ("20.32.0.0/12", sao_paulo),
        ("20.48.0.0/13", toronto),
        ("20.64.0.0/10", amsterdam.clone()),
        ("21.0.0.0/9", tokyo.clone()),
        ("2a02:100::/24", amsterdam),
        ("2a02:200::/24", new_york),
        ("2a02:201::/32", honolulu),
        ("2a03::/17", tokyo),
    ]
}

/// Rules of every kind, the least specific first: which counts is not a matter of their order.
const BY_PLACE: &str = r#"mirrors = ["ams", "iad", "sin"]
policy = "geo"
default = ["ams", "iad"]
depth = 1
ttl = 83
rules = [
  { continent = "NA", mirrors = ["sin"] },
  { continent = "SA", mirrors = ["iad"] },
  { continent = "AS", mirrors = ["sin"] },
  { country = "US", mirrors = ["iad"] },
  { country = "US", subdivision = "HI", mirrors = ["sin"] },
  { country = "US", city = "boston", mirrors = ["ams"] },
  { asn = 64500, mirrors = ["sin"] },
  { prefix = "20.96.128.0/17", mirrors = ["iad"] },
]"#;

#[test]
fn places_decide_by_rules_and_by_distance() -> Result<()> {
    needs_root!();
    let mut body = Body::default();
    // One database knows places, the other autonomous systems.
    body.text
        .insert_str(0, "[geoip]\ndatabases = [\"city.mmdb\", \"asn.mmdb\"]\n");
    body.pool("rules", BY_PLACE);
    let near = "mirrors = [\"ams\", \"iad\", \"sin\"]\npolicy = \"nearest\"\ndepth = 1\nttl = 84";
    body.pool("nearest", near);
    // The rule goes before distance, and the list before both.
    body.pool(
        "both",
        &format!(
            "{near}\nprefixes = \"tokyo.csv\"\n\
             rules = [{{ country = \"BR\", mirrors = [\"sin\"] }}, {{ asn = 64500, mirrors = [\"iad\"] }}]"
        ),
    );
    for (id, mirrors) in [("us", ["us1", "us2"]), ("eu", ["eu1", "eu2"])] {
        body.pool(id, &format!("mirrors = {mirrors:?}\npolicy = \"failover\""));
    }
    // A pool in it is where its first mirror is.
    body.pool(
        "nested",
        "pools = [\"us\", \"eu\"]\npolicy = \"nearest\"\nttl = 86",
    );
    let asn = [
        ("20.96.0.0/12", json!({"autonomous_system_number": 64500})),
        ("21.64.0.0/10", json!({"autonomous_system_number": 64501})),
        ("2a02:1ff::/32", json!({"autonomous_system_number": 64500})),
    ];
    let setup = body
        .setup()
        .file(
            "city.mmdb",
            &Writer::new(true, &places()).with_aliases().bytes(),
        )
        .file("asn.mmdb", &Writer::new(true, &asn).bytes())
        .file("tokyo.csv", "21.1.0.0/16,iad\n");
    let mut twins = Twins::start(&setup)?;
    // Client; its mirror by rules, by distance, and by both; and the scopes of these.
    type Case<'a> = (&'a str, [&'a str; 3], [u8; 3]);
    let cases: [Case<'_>; 18] = [
        ("20.16.0.1", ["iad", "iad", "iad"], [16, 12, 12]),
        ("20.17.0.1", ["sin", "iad", "iad"], [16, 12, 12]),
        ("20.18.0.1", ["ams", "iad", "iad"], [17, 12, 12]),
        ("20.18.200.1", ["iad", "iad", "iad"], [17, 12, 12]),
        ("20.33.0.1", ["iad", "iad", "sin"], [12, 12, 12]),
        ("20.49.0.1", ["sin", "iad", "iad"], [13, 13, 13]),
        ("20.65.0.1", ["ams", "ams", "ams"], [11, 10, 11]),
        ("20.97.0.1", ["sin", "ams", "iad"], [16, 10, 12]),
        ("20.96.200.1", ["iad", "ams", "iad"], [17, 10, 12]),
        ("21.0.0.1", ["sin", "sin", "sin"], [9, 9, 16]),
        ("21.1.0.1", ["sin", "sin", "iad"], [9, 9, 16]),
        ("21.64.0.1", ["sin", "sin", "sin"], [9, 9, 10]),
        ("21.200.0.1", ["ams", "ams", "ams"], [9, 9, 9]),
        ("2a02:100::1", ["ams", "ams", "ams"], [25, 23, 25]),
        ("2a02:1ff::1", ["sin", "ams", "iad"], [32, 23, 32]),
        ("2a02:200:5::1", ["iad", "iad", "iad"], [32, 24, 24]),
        ("2a02:201::1", ["sin", "iad", "iad"], [32, 24, 24]),
        ("2a03::1", ["sin", "sin", "sin"], [17, 17, 17]),
    ];
    let mut failures = Vec::new();
    for (client, mirrors, scopes) in cases {
        let client = ip(client);
        for ((pool, ttl), (id, scope)) in [("rules", 83), ("nearest", 84), ("both", 84)]
            .into_iter()
            .zip(mirrors.into_iter().zip(scopes))
        {
            for name in [
                format!("{pool}.example.org"),
                format!("some.{pool}.example.org"),
            ] {
                for qtype in [A, AAAA] {
                    let want = addresses(ttl, &[id], qtype);
                    let plain = Query::new(&name, qtype);
                    let subnet = plain.clone().subnet_of(client, host(client));
                    for (from, query, scope) in [
                        (client, plain, None),
                        (resolver(false), subnet.clone(), Some(scope)),
                        (resolver(true), subnet.dnssec_ok(), Some(scope)),
                    ] {
                        let reply = twins.ask(from, &query)?;
                        if gist(&reply) != want || reply.scope() != scope {
                            failures.push(format!(
                                "{name} {qtype} for {client}: want {want} {scope:?}: {reply}"
                            ));
                        }
                    }
                }
            }
        }
    }
    ensure!(failures.is_empty(), "{}", failures.join("\n"));
    twins.all_counted("answered", cases.len() * 3 * 12)?;
    for (client, id) in [
        ("20.16.0.1", "us1"),
        ("20.65.0.1", "eu1"),
        ("21.0.0.1", "eu1"),
        ("21.200.0.1", "us1"),
        ("2a02:100::1", "eu1"),
        ("2a02:201::1", "us1"),
    ] {
        let client = ip(client);
        let query = Query::new("nested.example.org", A).subnet_of(client, host(client));
        let reply = twins.ask(resolver(false), &query)?;
        let sticky = if client.is_ipv4() { 24 } else { 56 };
        ensure!(
            gist(&reply) == addresses(86, &[id], A) && reply.scope() == Some(sticky),
            "{client}: want {id}: {reply}"
        );
    }
    twins.all_counted("answered", 6)?;
    let mut clients: Vec<IpAddr> = cases.iter().map(|(client, ..)| ip(client)).collect();
    for (network, _) in places() {
        let network: IpNet = network.parse()?;
        clients.extend([inside(network, 0), inside(network, 1)]);
    }
    for pool in ["rules", "nearest", "both", "nested"] {
        scopes_hold(&mut twins, pool, &clients)?;
    }
    twins.stop()
}

#[test]
fn a_bias_moves_the_border_between_two_mirrors() -> Result<()> {
    needs_root!();
    const PLACES: u8 = 40;
    // Of places from Ashburn to Amsterdam, a network each: this far from the one, this far from the
    // other, in kilometres.
    let ends = [[38.9_f64, -77.4_f64], [52.4, 4.9]];
    let at = |number: u8| {
        let part = f64::from(number) / f64::from(PLACES - 1);
        [0, 1].map(|of| ends[0][of] + part * (ends[1][of] - ends[0][of]))
    };
    let kilometres = |[lat, lon]: [f64; 2], [to_lat, to_lon]: [f64; 2]| {
        let square = |degrees: f64| (degrees.to_radians() / 2.0).sin().powi(2);
        let cosines = lat.to_radians().cos() * to_lat.to_radians().cos();
        let haversine = square(to_lat - lat) + cosines * square(to_lon - lon);
        2.0 * 6371.0 * haversine.sqrt().asin()
    };
    let networks: Vec<String> = (0..PLACES)
        .map(|number| format!("45.{number}.0.0/16"))
        .collect();
    let records: Vec<(&str, Json)> = (0..PLACES)
        .map(|number| {
            let [lat, lon] = at(number);
            let record = json!({"latitude": lat, "longitude": lon});
            (networks[usize::from(number)].as_str(), record)
        })
        .collect();
    let mut body = Body::default();
    body.text
        .insert_str(0, "[geoip]\ndatabases = [\"city.mmdb\"]\n");
    // The first is as far as it is, the second nearer, the third farther.
    let pools = [
        ("iad", 1.0),
        ("wide", 1.0 - 0.3),
        ("narrow", 1.0 / (1.0 - 0.3)),
    ];
    for (id, _) in pools {
        body.pool(
            &format!("to-{id}"),
            &format!("mirrors = [{id:?}, \"ams\"]\npolicy = \"nearest\"\nttl = 85"),
        );
    }
    let database = Writer::new(true, &records).bytes();
    let mut twins = Twins::start(&body.setup().file("city.mmdb", &database))?;
    let mut taken = Vec::new();
    for (id, counts_as) in pools {
        let mut count = 0;
        for number in 0..PLACES {
            let [here, there] = ends.map(|end| kilometres(at(number), end));
            let want = if here * counts_as < there { id } else { "ams" };
            count += u32::from(want == id);
            let client = ip(&format!("45.{number}.7.1"));
            for qtype in [A, AAAA] {
                let plain = Query::new(&format!("to-{id}.example.org"), qtype);
                let subnet = plain.clone().subnet_of(client, 24);
                for (from, query) in [(client, plain), (resolver(false), subnet)] {
                    let reply = twins.ask(from, &query)?;
                    let want = addresses(85, &[want], qtype);
                    ensure!(gist(&reply) == want, "{client}: want {want}: {reply}");
                }
            }
        }
        taken.push(count);
    }
    twins.all_counted("answered", pools.len() * usize::from(PLACES) * 4)?;
    ensure!(
        taken[1] > taken[0] && taken[0] > taken[2],
        "the border stays: {taken:?}"
    );
    twins.stop()
}

/// Clients whose scopes are looked at: the ends of every prefix of the lists, and some more.
fn sample() -> Vec<IpAddr> {
    let mut clients = BTreeSet::new();
    let lists = ["world.csv", "nested.csv", "weighted.csv"];
    for line in lists.map(|list| world::text(WORLD, list)).concat().lines() {
        let Some(net) = line
            .split(',')
            .next()
            .and_then(|net| net.parse::<IpNet>().ok())
        else {
            continue;
        };
        clients.extend([inside(net, 0), inside(net, 1)]);
        // The neighbours.
        match net {
            IpNet::V4(net) => {
                clients.insert(Ipv4Addr::from(net.network().to_bits() - 1).into());
                clients.insert(Ipv4Addr::from(net.broadcast().to_bits() + 1).into());
            }
            IpNet::V6(net) => {
                clients.insert(Ipv6Addr::from(net.network().to_bits() - 1).into());
                clients.insert(Ipv6Addr::from(net.broadcast().to_bits() + 1).into());
            }
        }
    }
    clients.extend(["1.1.1.1", "8.8.8.8", "45.0.0.1", "223.255.255.254"].map(ip));
    clients.extend(["2600::1", "2a03::1", "2400:cb00::1"].map(ip));
    clients.into_iter().collect()
}

/// Checks a pool's answers: all clients of a scope get the same, and no client gets two different ones.
fn scopes_hold(twins: &mut Twins, pool: &str, clients: &[IpAddr]) -> Result<()> {
    let name = format!("{pool}.example.org");
    let mut told = BTreeMap::<IpNet, Vec<String>>::new();
    for &client in clients {
        let ask = |twins: &mut Twins, client: IpAddr| {
            let query = Query::new(&name, A).subnet_of(client, host(client));
            twins.ask(resolver(client.is_ipv4()), &query)
        };
        let reply = ask(twins, client)?;
        let net = good_for(client, &reply)?;
        if told.contains_key(&net) {
            ensure!(
                told[&net] == reply.answers,
                "{pool}: {net}: {:?}, {reply}",
                told[&net]
            );
            continue;
        }
        let special = ["0.0.0.0/8", "::/64", "224.0.0.0/3", "ff00::/8", "fc00::/6"];
        let is_special = |at: IpAddr| {
            special
                .iter()
                .any(|net| net.parse::<IpNet>().is_ok_and(|net| net.contains(&at)))
        };
        for number in 0..5 {
            let at = inside(net, number);
            if is_special(at) {
                // Nobody's place: answered as for the resolver.
                continue;
            }
            let other = ask(twins, at)?;
            let same = other.answers == reply.answers && other.scope() == reply.scope();
            ensure!(
                same,
                "{pool}: {client} {reply} is good for {net}, but {at} {other}"
            );
        }
        told.insert(net, reply.answers.clone());
    }
    for (net, answers) in &told {
        for (other, others) in &told {
            let apart = !net.contains(other) && !other.contains(net);
            ensure!(
                apart || answers == others,
                "{pool}: {net} {answers:?}, {other} {others:?}"
            );
        }
    }
    Ok(())
}

// Invariant 9
#[test]
fn every_address_of_a_scope_gets_the_same_answer() -> Result<()> {
    needs_root!();
    let mut twins = Twins::start(&every_policy())?;
    let clients = sample();
    let pools: Vec<&str> = POOLS.into_iter().filter(|id| *id != "random").collect();
    for pool in &pools {
        scopes_hold(&mut twins, pool, &clients)?;
    }
    let passed: u64 = twins
        .counted()?
        .iter()
        .filter(|(verdict, _)| *verdict != "answered")
        .map(|(_, count)| count)
        .sum();
    ensure!(passed < 100, "{passed} were not for the kernel");
    // Edits in every pool that takes any, and after each of them the scopes hold, for its neighbours
    // too.
    let edits = [
        ("20.1.64.0/18", "first"),
        ("20.1.64.0/25", "last"),
        ("20.3.3.200", "last"),
        ("2a02:0:8000::/33", "last"),
        ("2a02:2::/47", "first"),
        ("1.0.0.0/8", "last"),
    ];
    let mut near = Vec::new();
    for (net, _) in edits {
        let net: IpNet = match net.parse() {
            Ok(net) => net,
            Err(_) => IpNet::from(ip(net)),
        };
        near.extend([inside(net, 0), inside(net, 1)]);
        let around = net.supernet().context("not the whole")?;
        near.extend([inside(around, 0), inside(around, 1)]);
    }
    near.extend(["20.1.0.1", "20.2.0.1", "45.0.0.1", "2a03::1", "8.8.8.8"].map(ip));
    let table = |pool: &str| match pool {
        "table" | "two" | "geo" => Some(("iad", "sin")),
        "failover" => Some(("ams", "sin")),
        "site" => Some(("sin", "ams")),
        "weighted" | "three" => Some(("w20", "w30")),
        "weighted-table" => Some(("w20", "ams")),
        "nested" | "nested-table" => Some(("eu", "us2")),
        _ => None,
    };
    for set in [true, false] {
        for (net, which) in edits {
            for pool in &pools {
                let Some((first, last)) = table(pool) else {
                    continue;
                };
                let mirror = if which == "first" { first } else { last };
                let net = if net.contains('/') {
                    net.to_owned()
                } else {
                    format!("{net}/32")
                };
                twins.ok(&match set {
                    true => format!("map set {net} {mirror} --pool {pool}"),
                    false => format!("map del {net} --pool {pool}"),
                })?;
            }
        }
        for pool in pools.iter().filter(|pool| table(pool).is_some()) {
            scopes_hold(&mut twins, pool, &near)?;
        }
    }
    // Not where everyone gets everything.
    let (code, error) = twins.fast.fails("map set 20.1.0.0/24 ams --pool all")?;
    ensure!(code == 1 && error.lines().count() == 1, "{error}");
    twins.stop()
}

#[test]
fn a_scope_holds_while_overrides_come_and_go() -> Result<()> {
    needs_root!();
    let mut twins = Twins::start(&every_policy())?;
    let clients: Vec<IpAddr> = [
        "20.1.64.1",
        "20.1.0.1",
        "20.1.200.1",
        "20.3.0.1",
        "20.0.0.1",
    ]
    .map(ip)
    .into();
    let pools = ["table", "weighted-table", "nested-table", "failover"];
    let mirrors = ["sin", "w20", "us1", "ams"];
    let told = |twins: &mut Twins| -> Result<_> {
        let mut told = BTreeMap::<(IpAddr, &str), (Vec<String>, Option<u8>)>::new();
        for &client in &clients {
            for pool in pools {
                let query = Query::new(&format!("{pool}.example.org"), A).subnet_of(client, 32);
                let reply = twins.ask(resolver(false), &query)?;
                told.insert((client, pool), (reply.answers.clone(), reply.scope()));
            }
        }
        Ok(told)
    };
    let edit = |set: bool| -> Result<Vec<String>> {
        let edits = pools.iter().zip(mirrors);
        Ok(edits
            .map(|(pool, mirror)| match set {
                true => format!("map set 20.1.64.0/18 {mirror} --pool {pool}"),
                false => format!("map del 20.1.64.0/18 --pool {pool}"),
            })
            .collect())
    };
    let before = told(&mut twins)?;
    for words in edit(true)? {
        twins.ok(&words)?;
    }
    let after = told(&mut twins)?;
    ensure!(before != after, "an edit changes nothing");
    let done = AtomicBool::new(false);
    let socket = twins.fast.home.socket();
    std::thread::scope(|scope| {
        let editor = scope.spawn(|| {
            let edited = (0..30).try_for_each(|edit| {
                for (pool, mirror) in pools.iter().zip(mirrors) {
                    let (method, path, body) = match edit % 2 {
                        0 => (
                            "DELETE",
                            format!("/v1/map?prefix=20.1.64.0/18&pool={pool}"),
                            String::new(),
                        ),
                        _ => (
                            "PUT",
                            "/v1/map".to_owned(),
                            format!(
                                r#"{{"prefix":"20.1.64.0/18","mirror":"{mirror}","pool":"{pool}"}}"#
                            ),
                        ),
                    };
                    let (code, text) = request(&socket, method, &path, &body)?;
                    ensure!(code == 200, "{method} {path} {body}: {code}: {text}");
                }
                Ok(())
            });
            done.store(true, Ordering::Relaxed);
            edited
        });
        let mut ask = || -> Result<u32> {
            let mut asked = 0;
            while !done.load(Ordering::Relaxed) {
                for (&(client, pool), before) in &before {
                    let name = format!("{pool}.example.org");
                    let query = Query::new(&name, A).subnet_of(client, 32);
                    let [fast, _] = twins.ask_each(resolver(false), &query)?;
                    let reply = Reply::parse(&fast)?;
                    let got = (reply.answers.clone(), reply.scope());
                    ensure!(
                        got == *before || got == after[&(client, pool)],
                        "{pool} for {client}: neither before nor after: {reply}"
                    );
                    asked += 1;
                }
            }
            Ok(asked)
        };
        let asked = ask();
        editor.join().expect("no panic")?;
        let asked = asked?;
        ensure!(asked > 100, "only {asked} questions meanwhile");
        println!("{asked} questions during 120 edits");
        Ok(())
    })?;
    twins.stop()
}

#[test]
fn six_to_four_and_teredo_clients_are_where_their_ipv4_addresses_are() -> Result<()> {
    needs_root!();
    let mut twins = Twins::start(&every_policy())?;
    for pool in ["table", "geo", "geo-one", "two"] {
        let name = format!("{pool}.example.org");
        for v4 in ["20.1.0.1", "20.1.200.1", "20.2.0.1", "20.3.0.1", "45.7.7.7"] {
            let v4: Ipv4Addr = v4.parse()?;
            let bits = u128::from(v4.to_bits());
            let six_to_four = IpAddr::from(Ipv6Addr::from(0x2002 << 112 | bits << 80 | 7));
            let teredo = IpAddr::from(Ipv6Addr::from(
                0x2001_0000 << 96
                    | 0x4136_e378 << 64
                    | 0x8000_63bf << 32
                    | u128::from(!v4.to_bits()),
            ));
            for qtype in [A, AAAA] {
                let query = Query::new(&name, qtype).subnet_of(v4.into(), 32);
                let of_v4 = twins.ask(resolver(false), &query)?;
                let scope = of_v4.scope().context("a scope")?;
                twins.counted()?;
                for (client, source, offset) in [
                    (six_to_four, 48, 16),
                    (six_to_four, 128, 16),
                    (teredo, 128, 96),
                ] {
                    let query = Query::new(&name, qtype).subnet_of(client, source);
                    let reply = twins.ask(resolver(true), &query)?;
                    ensure!(
                        reply.answers == of_v4.answers && reply.scope() == Some(scope + offset),
                        "{pool}: {v4}: {of_v4}, but {client}/{source}: {reply}"
                    );
                    twins.all_counted("pass_edns_option", 1)?;
                }
                for client in [six_to_four, teredo] {
                    let reply = twins.ask(client, &Query::new(&name, qtype))?;
                    ensure!(reply.answers == of_v4.answers, "{client}: {reply}");
                    twins.all_counted("pass_no_region", 1)?;
                }
            }
        }
    }
    // Where nobody lists anything, they are IPv6 as any other.
    for client in ["2002:1401:1::7", "2001:0:4136:e378:8000:63bf:3fff:fdd2"].map(ip) {
        let reply = twins.ask(client, &Query::new("failover.example.org", A))?;
        ensure!(gist(&reply) == addresses(62, &["sin"], A), "{reply}");
        let reply = twins.ask(client, &Query::new("weighted.example.org", A))?;
        let query = Query::new("weighted.example.org", AAAA);
        ensure!(
            mirror(&reply)? == mirror(&twins.ask(client, &query)?)?,
            "{reply}"
        );
        twins.all_counted("answered", 3)?;
    }
    twins.stop()
}

#[test]
fn dig_is_answered_with_and_without_a_subnet() -> Result<()> {
    needs_root!();
    let twins = Twins::start(&every_policy())?;
    let dig = |server: &str, from: &str, words: &str| {
        run(twins
            .pair
            .client
            .command("dig")
            .args([&format!("@{server}"), "-b", from, "+tries=3", "+time=3"])
            .args(words.split_whitespace()))
    };
    let short = |text: &str| -> Vec<String> {
        text.lines()
            .filter(|line| !line.is_empty() && !line.starts_with(';'))
            .filter_map(|line| line.split_whitespace().nth(4).map(str::to_owned))
            .collect()
    };
    for (pool, from, subnet, mirrors, scope) in [
        ("table", "20.1.0.1", None, vec!["iad"], None),
        (
            "table",
            "45.0.0.1",
            Some("20.2.3.0/24"),
            vec!["sin"],
            Some("20.2.3.0/24/16"),
        ),
        (
            "table",
            "20.1.0.1",
            Some("2a02::/56"),
            vec!["sin"],
            Some("2a02::/56/32"),
        ),
        (
            "table",
            "20.1.0.1",
            Some("0/0"),
            vec!["iad"],
            Some("0.0.0.0/0/0"),
        ),
        (
            "table",
            "20.1.0.1",
            Some("0"),
            vec!["iad"],
            Some("0.0.0.0/0/0"),
        ),
        (
            "geo",
            "45.0.0.1",
            Some("20.1.0.0/24"),
            vec!["iad"],
            Some("20.1.0.0/24/17"),
        ),
        (
            "failover",
            "45.0.0.1",
            Some("20.1.0.0/24"),
            vec!["sin"],
            Some("20.1.0.0/24/0"),
        ),
        (
            "site",
            "45.0.0.1",
            Some("20.1.0.0/24"),
            vec!["iad"],
            Some("20.1.0.0/24/0"),
        ),
        (
            "all",
            "45.0.0.1",
            Some("20.1.0.0/24"),
            vec!["ams", "iad", "sin"],
            Some("20.1.0.0/24/0"),
        ),
        ("two", "20.1.0.1", None, vec!["iad", "sin"], None),
        (
            "weighted-table",
            "45.0.0.1",
            Some("20.1.0.0/24"),
            vec!["ams"],
            Some("20.1.0.0/24/24"),
        ),
        (
            "nested-table",
            "45.0.0.1",
            Some("20.2.0.0/24"),
            vec!["us2"],
            Some("20.2.0.0/24/24"),
        ),
        ("spare", "45.0.0.1", None, vec!["iad"], None),
    ] {
        for server in ["192.0.2.53", "192.0.2.54"] {
            for (rtype, qtype) in [("A", A), ("AAAA", AAAA)] {
                for transport in ["+notcp", "+tcp"] {
                    let subnet = subnet.map_or(String::new(), |subnet| format!("+subnet={subnet}"));
                    let words = format!("{pool}.example.org {rtype} {transport} {subnet}");
                    let text = dig(server, from, &words)?;
                    let want: Vec<String> = mirrors.iter().map(|id| address(id, qtype)).collect();
                    ensure!(short(&text) == want, "dig {words}: want {want:?}:\n{text}");
                    ensure!(
                        text.contains("status: NOERROR") && text.contains("flags: qr aa"),
                        "{text}"
                    );
                    let said = text
                        .lines()
                        .find_map(|line| line.strip_prefix("; CLIENT-SUBNET: "));
                    ensure!(said == scope, "dig {words}: want {scope:?}:\n{text}");
                    ensure!(
                        !text.contains("WARNING: ID") && !text.contains(";; Warning"),
                        "{text}"
                    );
                }
            }
        }
    }
    // A mirror that is drawn is the same with and without a subnet, in A and AAAA.
    for client in ["45.0.1.1", "45.0.2.1", "45.0.3.1", "45.0.4.1"] {
        let drawn = dig("192.0.2.53", client, "ninety.example.org A")?;
        let id = mirror_of(&short(&drawn))?;
        for words in [
            "",
            "+tcp",
            "+nocookie",
            "+noedns",
            &format!("+subnet={client}/24"),
        ] {
            let text = dig(
                "192.0.2.53",
                client,
                &format!("ninety.example.org AAAA {words}"),
            )?;
            ensure!(
                mirror_of(&short(&text))? == id,
                "{client} {words}: {id}:\n{text}"
            );
        }
    }
    twins.stop()
}

/// The one mirror with one of these addresses.
fn mirror_of(addresses: &[String]) -> Result<&'static str> {
    let [one] = addresses else {
        anyhow::bail!("not one address: {addresses:?}");
    };
    MIRRORS
        .into_iter()
        .find(|id| address(id, A) == *one || address(id, AAAA) == *one)
        .with_context(|| format!("nobody's address: {one}"))
}

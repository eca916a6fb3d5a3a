//! Mirrors that go out of service and come back, by an operator's word, other monitors' and our own
//! checks of real web servers; seen by clients that go on asking two daemons, with the program and
//! without.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use geodns_tests::daemon::{Setup, pool};
use geodns_tests::dns::{self, A, AAAA, Query, Reply, TXT};
use geodns_tests::needs_root;
use geodns_tests::net::{at, ip};
use geodns_tests::twins::Twins;
use geodns_tests::web::{GOOD, Manner, Web};

/// Mirrors that nobody checks: id, weight, addresses.
const MIRRORS: [(&str, u32, &[&str]); 12] = [
    ("ams", 100, &["192.0.2.10", "2001:db8:10::1"]),
    ("iad", 100, &["192.0.2.11", "2001:db8:11::1"]),
    ("sin", 100, &["192.0.2.12", "2001:db8:12::1"]),
    ("w50", 50, &["192.0.2.13", "2001:db8:13::1"]),
    ("w30", 30, &["192.0.2.14", "2001:db8:14::1"]),
    ("w20", 20, &["192.0.2.15", "2001:db8:15::1"]),
    ("p1", 100, &["192.0.2.16", "2001:db8:16::1"]),
    ("p2", 100, &["192.0.2.17", "2001:db8:17::1"]),
    ("p3", 100, &["192.0.2.18", "2001:db8:18::1"]),
    ("p4", 100, &["192.0.2.19", "2001:db8:19::1"]),
    (
        "rack",
        100,
        &[
            "192.0.2.20",
            "192.0.2.21",
            "2001:db8:20::1",
            "2001:db8:20::2",
        ],
    ),
    ("lone", 100, &["192.0.2.22", "2001:db8:22::1"]),
];

/// Pools: id, TTL, the rest.
const POOLS: [(&str, u32, &str); 13] = [
    (
        "failover",
        61,
        "mirrors = [\"sin\", \"ams\"]\npolicy = \"failover\"",
    ),
    (
        "table",
        62,
        "mirrors = [\"ams\", \"iad\", \"sin\"]\npolicy = \"table\"\ndefault = \"ams\"\nprefixes = \"world.csv\"",
    ),
    (
        "shallow",
        63,
        "mirrors = [\"ams\", \"iad\", \"sin\"]\npolicy = \"table\"\ndefault = [\"sin\", \"ams\"]\n\
         prefixes = \"world.csv\"\ndepth = 1",
    ),
    (
        "weighted",
        64,
        "mirrors = [\"w50\", \"w30\", \"w20\"]\npolicy = \"weighted\"",
    ),
    (
        "inner",
        65,
        "mirrors = [\"p1\", \"p2\"]\npolicy = \"weighted\"",
    ),
    ("outer", 66, "mirrors = [\"p3\"]\npolicy = \"failover\""),
    (
        "nested",
        67,
        "pools = [\"inner\", \"outer\"]\npolicy = \"failover\"",
    ),
    (
        "open",
        68,
        "mirrors = [\"lone\"]\npolicy = \"failover\"\nnames = \"{mirror}.of.example.org\"",
    ),
    (
        "closed",
        69,
        "mirrors = [\"lone\"]\npolicy = \"failover\"\nfail = \"closed\"",
    ),
    (
        "spare",
        70,
        "mirrors = [\"lone\"]\npolicy = \"failover\"\nfail = \"fallback\"\nfallback = \"failover\"",
    ),
    (
        "panic",
        71,
        "mirrors = [\"p1\", \"p2\", \"p3\", \"p4\"]\npolicy = \"failover\"\npanic = 0.5",
    ),
    (
        "rack",
        72,
        "mirrors = [\"rack\", \"ams\"]\npolicy = \"failover\"",
    ),
    (
        "all",
        73,
        "mirrors = [\"ams\", \"iad\", \"sin\"]\npolicy = \"all\"",
    ),
];

const ZONE: &str = "\
$ORIGIN example.org.
$TTL 3600
@ IN SOA ns1 hostmaster 2026010100 7200 900 1209600 300
@ IN NS ns1
ns1 IN A 192.0.2.53
to-closed IN CNAME closed
";

const AMERICA: &str = "20.1.0.1";
const ELSEWHERE: &str = "45.0.0.1";

fn setup(body: &str) -> Setup {
    let zone = "[[zone]]\nname = \"example.org\"\nfile = \"example.org.zone\"\n";
    Setup::new(&[])
        .body(&format!("{body}\n{zone}"))
        .file("example.org.zone", ZONE)
        .file("world.csv", "20.1.0.0/16,iad\n2a02::/32,iad\n")
}

/// [`MIRRORS`] and [`POOLS`]. TTLs stay, so that octets can be compared while something changes.
fn unchecked() -> Setup {
    let mut body = String::from("[health]\nfeed = \"health.csv\"\n");
    for (id, weight, addresses) in MIRRORS {
        body.push_str(&format!(
            "[[mirror]]\nid = {id:?}\nweight = {weight}\naddresses = {addresses:?}\n"
        ));
    }
    for id in ["one", "two"] {
        body.push_str(&format!(
            "[[mirror]]\nid = {id:?}\ncname = \"www.{id}.example\"\n"
        ));
    }
    let aliases = [
        (
            "alias",
            74,
            "mirrors = [\"one\", \"two\"]\npolicy = \"failover\"",
        ),
        (
            "only",
            75,
            "mirrors = [\"one\"]\npolicy = \"failover\"\nfail = \"closed\"",
        ),
    ];
    for (id, ttl, rest) in POOLS.into_iter().chain(aliases) {
        body.push_str(&pool(id, &format!("ttl = {ttl}\nttl_min = {ttl}\n{rest}")));
    }
    setup(&body)
}

/// The mirrors of an answer, or the name of its RCODE, or NODATA.
fn who(reply: &Reply) -> String {
    if reply.rcode != 0 {
        return reply.status();
    }
    let records = [reply.of("A"), reply.of("AAAA")].concat();
    if records.is_empty() {
        return "NODATA".into();
    }
    let mut mirrors: Vec<&str> = Vec::new();
    for record in records {
        let found = MIRRORS
            .iter()
            .find(|(.., addresses)| addresses.contains(&record));
        let id = found.map_or("nobody", |(id, ..)| id);
        if mirrors.last() != Some(&id) {
            mirrors.push(id);
        }
    }
    mirrors.join(" ")
}

/// That a pool answers a client with these mirrors, from now on: A and AAAA, with a subnet and without,
/// and in the kernel with this verdict.
fn now(twins: &mut Twins, pool: &str, client: &str, verdict: &str, want: &str) -> Result<()> {
    twins.counted()?;
    let client = ip(client);
    for qtype in [A, AAAA] {
        let plain = Query::new(&format!("{pool}.example.org"), qtype);
        for (from, query) in [
            (client, plain.clone()),
            (ip("10.9.9.9"), plain.subnet_of(client, 24)),
        ] {
            let reply = twins.ask(from, &query)?;
            ensure!(
                who(&reply) == want,
                "{pool} for {client}: want {want}: {reply}"
            );
        }
    }
    twins
        .all_counted(verdict, 4)
        .with_context(|| format!("{pool} for {client}"))
}

/// N clients, and what each gets of a pool, from the kernel.
fn clients_of(twins: &mut Twins, pool: &str, count: u8) -> Result<BTreeMap<IpAddr, String>> {
    let mut given = BTreeMap::new();
    for number in 0..count {
        let client = ip(&format!("45.{number}.{}.0", number.wrapping_mul(73)));
        let query = Query::new(&format!("{pool}.example.org"), A).subnet_of(client, 24);
        let [fast, _] = twins.ask_each(ip("10.9.9.9"), &query)?;
        given.insert(client, who(&Reply::parse(&fast)?));
    }
    Ok(given)
}

/// That each has moved only off one mirror, if at all; gives how many have.
fn moved(
    before: &BTreeMap<IpAddr, String>,
    after: &BTreeMap<IpAddr, String>,
    off: &str,
) -> Result<BTreeSet<IpAddr>> {
    let mut moved = BTreeSet::new();
    for (client, was) in before {
        let is = &after[client];
        if was != is {
            ensure!(
                was == off,
                "{client} moved from {was} to {is}, though only {off} changes"
            );
            moved.insert(*client);
        }
    }
    Ok(moved)
}

// Invariant 11
#[test]
fn what_an_operator_says_is_in_the_next_answer() -> Result<()> {
    needs_root!();
    let mut twins = Twins::start(&unchecked())?;
    let answered = "answered";
    now(&mut twins, "failover", ELSEWHERE, answered, "sin")?;
    now(&mut twins, "table", AMERICA, answered, "iad")?;
    now(&mut twins, "all", ELSEWHERE, answered, "ams iad sin")?;
    twins.ok("mirror down sin")?;
    now(&mut twins, "failover", ELSEWHERE, answered, "ams")?;
    now(&mut twins, "table", AMERICA, answered, "iad")?;
    now(&mut twins, "all", ELSEWHERE, answered, "ams iad")?;
    twins.ok("mirror down iad")?;
    now(&mut twins, "table", AMERICA, answered, "ams")?;
    // Beyond the depth of a region, the default follows.
    now(&mut twins, "shallow", AMERICA, answered, "ams")?;
    twins.ok("mirror auto sin")?;
    now(&mut twins, "failover", ELSEWHERE, answered, "sin")?;
    now(&mut twins, "shallow", AMERICA, answered, "sin")?;
    twins.ok("mirror up iad")?;
    now(&mut twins, "table", AMERICA, answered, "iad")?;
    // None left.
    for pool in ["open", "closed", "spare"] {
        now(&mut twins, pool, ELSEWHERE, answered, "lone")?;
    }
    let said = twins.ok("mirror down lone")?;
    ensure!(said.contains("lone"), "{said}");
    now(&mut twins, "open", ELSEWHERE, answered, "lone")?;
    now(&mut twins, "closed", ELSEWHERE, "servfail", "SERVFAIL")?;
    now(&mut twins, "spare", ELSEWHERE, answered, "sin")?;
    let reply = twins.ask(ip(ELSEWHERE), &Query::new("spare.example.org", A))?;
    ensure!(
        reply.answers == ["61 A 192.0.2.12"],
        "the fallback's own TTL: {reply}"
    );
    let reply = twins.ask(
        ip(ELSEWHERE),
        &Query::new("closed.example.org", A).edns(1232),
    )?;
    ensure!(
        reply.flags & (dns::AA | dns::TC) == 0,
        "nobody's authority: {reply}"
    );
    // What a chain has found is true all the same.
    let reply = twins.ask(ip(ELSEWHERE), &Query::new("to-closed.example.org", A))?;
    ensure!(
        reply.status() == "SERVFAIL" && reply.answers == ["3600 CNAME closed.example.org."],
        "{reply}"
    );
    // By its own name it answers, in service or not.
    let reply = twins.ask(ip(ELSEWHERE), &Query::new("lone.of.example.org", A))?;
    ensure!(who(&reply) == "lone", "{reply}");
    twins.ok("mirror down sin ams")?;
    now(&mut twins, "spare", ELSEWHERE, answered, "sin")?;
    now(&mut twins, "failover", ELSEWHERE, answered, "sin")?;
    twins.ok("mirror auto sin ams lone")?;
    now(&mut twins, "closed", ELSEWHERE, answered, "lone")?;
    now(&mut twins, "spare", ELSEWHERE, answered, "lone")?;
    // A weight of 0 is a drain in every policy that chooses.
    twins.ok("mirror weight sin 0")?;
    now(&mut twins, "failover", ELSEWHERE, answered, "ams")?;
    now(&mut twins, "all", ELSEWHERE, answered, "ams iad")?;
    twins.ok("mirror down ams")?;
    now(&mut twins, "failover", ELSEWHERE, answered, "sin")?;
    twins.ok("mirror auto ams")?;
    twins.ok("mirror weight sin --reset")?;
    now(&mut twins, "failover", ELSEWHERE, answered, "sin")?;
    // An alias, too, whatever is asked for.
    let alias = |twins: &mut Twins, want: &str| -> Result<()> {
        for qtype in [A, AAAA, TXT] {
            let reply = twins.ask(ip(ELSEWHERE), &Query::new("alias.example.org", qtype))?;
            let got = reply.of("CNAME").concat();
            ensure!(got == want, "{qtype}: want {want}: {reply}");
        }
        Ok(())
    };
    alias(&mut twins, "www.one.example.")?;
    twins.ok("mirror set-health one down")?;
    alias(&mut twins, "www.two.example.")?;
    twins.ok("mirror down two")?;
    alias(&mut twins, "www.one.example.")?;
    twins.ok("mirror set-health one --clear")?;
    twins.ok("mirror down one")?;
    let reply = twins.ask(ip(ELSEWHERE), &Query::new("only.example.org", TXT))?;
    ensure!(reply.status() == "SERVFAIL", "{reply}");
    twins.ok("mirror auto one two")?;
    alias(&mut twins, "www.one.example.")?;
    // A group, and the next one.
    let drawn = clients_of(&mut twins, "nested", 40)?;
    ensure!(
        drawn.values().collect::<BTreeSet<_>>().len() == 2,
        "{drawn:?}"
    );
    twins.ok("mirror down p1")?;
    let after = clients_of(&mut twins, "nested", 40)?;
    ensure!(after.values().all(|id| id == "p2"), "{after:?}");
    ensure!(!moved(&drawn, &after, "p1")?.is_empty());
    twins.ok("mirror down p2")?;
    now(&mut twins, "nested", ELSEWHERE, answered, "p3")?;
    twins.ok("mirror auto p1 p2")?;
    ensure!(clients_of(&mut twins, "nested", 40)? == drawn);
    // It is kept over a restart and a crash, from the first answer on.
    twins.ok("mirror down sin")?;
    twins.ok("mirror weight w50 0")?;
    for crash in [false, true] {
        twins.restart(crash)?;
        now(&mut twins, "failover", ELSEWHERE, answered, "ams")?;
        let given = clients_of(&mut twins, "weighted", 40)?;
        ensure!(given.values().all(|id| id != "w50"), "{given:?}");
    }
    // And over a reload.
    twins.ok("reload")?;
    now(&mut twins, "failover", ELSEWHERE, answered, "ams")?;
    // An edit that comes with it leaves it out, too.
    twins.ok("map set 45.0.0.0/16 sin --pool failover")?;
    now(&mut twins, "failover", ELSEWHERE, answered, "ams")?;
    twins.ok("mirror up sin")?;
    now(&mut twins, "failover", ELSEWHERE, answered, "sin")?;
    twins.stop()
}

#[test]
fn a_drain_and_a_weight_move_their_share_and_nobody_else() -> Result<()> {
    needs_root!();
    const CLIENTS: u8 = 200;
    let mut twins = Twins::start(&unchecked())?;
    let before = clients_of(&mut twins, "weighted", CLIENTS)?;
    let of = |given: &BTreeMap<IpAddr, String>, mirror: &str| {
        given.values().filter(|id| *id == mirror).count()
    };
    ensure!(of(&before, "w50") > 60, "{before:?}");
    // At once.
    twins.ok("mirror drain w50")?;
    let drained = clients_of(&mut twins, "weighted", CLIENTS)?;
    ensure!(moved(&before, &drained, "w50")?.len() == of(&before, "w50"));
    // Better than none.
    twins.ok("mirror down w30 w20")?;
    now(&mut twins, "weighted", ELSEWHERE, "answered", "w50")?;
    twins.ok("mirror auto w50 w30 w20")?;
    ensure!(clients_of(&mut twins, "weighted", CLIENTS)? == before);
    // Bit by bit: more and more, and never one back.
    twins.ok("mirror drain w50 --over 3s")?;
    let mut gone = BTreeSet::new();
    let mut steps = BTreeSet::new();
    let end = Instant::now() + Duration::from_secs(20);
    while gone.len() < of(&before, "w50") {
        let given = clients_of(&mut twins, "weighted", CLIENTS)?;
        let moved = moved(&before, &given, "w50")?;
        ensure!(moved.is_superset(&gone), "some came back to w50");
        steps.insert(moved.len());
        gone = moved;
        ensure!(
            Instant::now() < end,
            "{} of {} moved",
            gone.len(),
            of(&before, "w50")
        );
    }
    ensure!(steps.len() >= 4, "in a few steps only: {steps:?}");
    twins.until("both are drained", |twins| {
        let given = clients_of(twins, "weighted", CLIENTS)?;
        Ok(given == drained)
    })?;
    twins.ok("mirror auto w50")?;
    ensure!(clients_of(&mut twins, "weighted", CLIENTS)? == before);
    // Half way, in a pool that draws nothing: its scopes are those of the shares now, and hold.
    twins.ok("mirror drain sin --over 365d")?;
    now(&mut twins, "failover", ELSEWHERE, "answered", "sin")?;
    twins.ok("mirror auto sin")?;
    let query = |client, len| Query::new("failover.example.org", A).subnet_of(client, len);
    let reply = twins.ask(ip("10.9.9.9"), &query(ip(ELSEWHERE), 24))?;
    ensure!(reply.scope() == Some(0), "{reply}");
    twins.ok("mirror drain sin --over 20s")?;
    twins.until("some have moved", |twins| {
        let given = clients_of(twins, "failover", 40)?;
        Ok(of(&given, "ams") > 3)
    })?;
    for number in 0..20 {
        // Each asked by one address and another of its /24, between two steps of the ramp.
        let [one, other] = [1, 254].map(|host| ip(&format!("45.7.{number}.{host}")));
        twins.until("the whole /24 has one answer", |twins| {
            let [first, _] = twins.ask_each(ip("10.9.9.9"), &query(one, 32))?;
            let [second, _] = twins.ask_each(ip("10.9.9.9"), &query(other, 32))?;
            let (first, second) = (Reply::parse(&first)?, Reply::parse(&second)?);
            ensure!(
                first.scope() == Some(24) && second.scope() == Some(24),
                "{first}, {second}"
            );
            Ok(first.answers == second.answers)
        })?;
    }
    twins.ok("mirror auto sin")?;
    // Weights: what one gives, and what one takes.
    twins.ok("mirror weight w50 0")?;
    let none = clients_of(&mut twins, "weighted", CLIENTS)?;
    ensure!(none == drained, "a weight of 0 is as a drain");
    twins.ok("mirror weight w50 5")?;
    let few = clients_of(&mut twins, "weighted", CLIENTS)?;
    moved(&before, &few, "w50")?;
    ensure!(
        (1..of(&before, "w50")).contains(&of(&few, "w50")),
        "{few:?}"
    );
    twins.ok("mirror weight w50 --reset")?;
    ensure!(clients_of(&mut twins, "weighted", CLIENTS)? == before);
    twins.ok("mirror weight w20 200 --over 2s")?;
    let mut taken = of(&before, "w20");
    let most = Instant::now() + Duration::from_secs(20);
    loop {
        let given = clients_of(&mut twins, "weighted", CLIENTS)?;
        for (client, was) in &before {
            let is = &given[client];
            ensure!(
                was == is || is == "w20",
                "{client} moved from {was} to {is}"
            );
        }
        ensure!(of(&given, "w20") >= taken, "w20 has lost some");
        taken = of(&given, "w20");
        let shown = twins.fast.json("mirror show w20")?;
        if shown["weight"]["in_force"] == 200 {
            break;
        }
        ensure!(Instant::now() < most, "{shown}");
    }
    let given = clients_of(&mut twins, "weighted", CLIENTS)?;
    ensure!(of(&given, "w20") > of(&before, "w20") + 40, "{given:?}");
    twins.until("both say the same", |twins| {
        let query = Query::new("weighted.example.org", A);
        for number in 0..50 {
            let [fast, slow] = twins.ask_each(ip(&format!("45.9.{number}.1")), &query)?;
            if fast != slow {
                return Ok(false);
            }
        }
        Ok(true)
    })?;
    twins.stop()
}

// Invariant 11
#[test]
fn other_monitors_verdicts_are_heeded_while_they_hold() -> Result<()> {
    needs_root!();
    let mut twins = Twins::start(&unchecked())?;
    let answered = "answered";
    twins.ok("mirror set-health sin down --reason fire")?;
    now(&mut twins, "failover", ELSEWHERE, answered, "ams")?;
    twins.ok("mirror set-health sin --clear")?;
    now(&mut twins, "failover", ELSEWHERE, answered, "sin")?;
    // The operator's word stands above.
    twins.ok("mirror set-health sin down")?;
    twins.ok("mirror up sin")?;
    now(&mut twins, "failover", ELSEWHERE, answered, "sin")?;
    twins.ok("mirror auto sin")?;
    now(&mut twins, "failover", ELSEWHERE, answered, "ams")?;
    twins.ok("mirror set-health sin up")?;
    now(&mut twins, "failover", ELSEWHERE, answered, "sin")?;
    // It expires by itself.
    twins.ok("mirror set-health sin down --for 1s")?;
    now(&mut twins, "failover", ELSEWHERE, answered, "ams")?;
    twins.until("the verdict expires", |twins| {
        let [fast, slow] = twins.ask_each(ip(ELSEWHERE), &Query::new("failover.example.org", A))?;
        Ok(fast == slow && who(&Reply::parse(&fast)?) == "sin")
    })?;
    // Of two addresses one; then both, and the other family is in order still.
    let records = |twins: &mut Twins, qtype| -> Result<Vec<String>> {
        let reply = twins.ask(ip(ELSEWHERE), &Query::new("rack.example.org", qtype))?;
        Ok(reply.answers.clone())
    };
    ensure!(records(&mut twins, A)? == ["72 A 192.0.2.20", "72 A 192.0.2.21"]);
    twins.ok("mirror set-health rack down --address 192.0.2.20")?;
    ensure!(records(&mut twins, A)? == ["72 A 192.0.2.21"]);
    twins.ok("mirror set-health rack up --address 192.0.2.20")?;
    twins.ok("mirror set-health rack down --address 192.0.2.21")?;
    ensure!(records(&mut twins, A)? == ["72 A 192.0.2.20"]);
    ensure!(records(&mut twins, AAAA)? == ["72 AAAA 2001:db8:20::1", "72 AAAA 2001:db8:20::2"]);
    twins.ok("mirror set-health rack down --address 192.0.2.20")?;
    ensure!(records(&mut twins, A)? == ["72 A 192.0.2.10"]);
    ensure!(records(&mut twins, AAAA)?.len() == 2);
    twins.ok("mirror set-health rack --clear")?;
    ensure!(records(&mut twins, A)?.len() == 2);
    // Too few to believe it; one taken down by hand stays out.
    now(&mut twins, "panic", ELSEWHERE, answered, "p1")?;
    twins.ok("mirror set-health p1 down")?;
    now(&mut twins, "panic", ELSEWHERE, answered, "p2")?;
    twins.ok("mirror set-health p2 down")?;
    now(&mut twins, "panic", ELSEWHERE, answered, "p3")?;
    twins.ok("mirror set-health p3 down")?;
    now(&mut twins, "panic", ELSEWHERE, answered, "p1")?;
    twins.ok("mirror down p1")?;
    now(&mut twins, "panic", ELSEWHERE, answered, "p2")?;
    twins.ok("mirror auto p1")?;
    for mirror in ["p1", "p2", "p3"] {
        twins.ok(&format!("mirror set-health {mirror} --clear"))?;
    }
    now(&mut twins, "panic", ELSEWHERE, answered, "p1")?;
    // The file.
    let feed = |twins: &Twins, text: Option<&str>| -> Result<()> {
        for daemon in [&twins.fast, &twins.slow] {
            let path = daemon.home.folder.path().join("health.csv");
            let Some(text) = text else {
                std::fs::remove_file(path)?;
                continue;
            };
            let next = path.with_extension("next");
            std::fs::write(&next, text)?;
            std::fs::rename(next, path)?;
        }
        Ok(())
    };
    let comes_to = |twins: &mut Twins, pool: &str, want: &str| {
        twins.until(&format!("{pool} comes to {want}"), |twins| {
            let query = Query::new(&format!("{pool}.example.org"), A);
            let [fast, slow] = twins.ask_each(ip(ELSEWHERE), &query)?;
            Ok(fast == slow && who(&Reply::parse(&fast)?) == want)
        })
    };
    feed(
        &twins,
        Some("# from elsewhere\nsin,down,\"fire\"\nlone,down\nnobody,down\n"),
    )?;
    comes_to(&mut twins, "failover", "ams")?;
    comes_to(&mut twins, "closed", "SERVFAIL")?;
    twins.fast.logged("no mirror \"nobody\"")?;
    feed(&twins, Some("lone,up\n"))?;
    comes_to(&mut twins, "failover", "sin")?;
    comes_to(&mut twins, "closed", "lone")?;
    feed(&twins, Some("rack,192.0.2.20,down,cable\nsin,down\n"))?;
    comes_to(&mut twins, "failover", "ams")?;
    ensure!(records(&mut twins, A)? == ["72 A 192.0.2.21"]);
    // Broken, or gone: the last good one is in force.
    feed(&twins, Some("sin,up\nwhat is this\n"))?;
    twins.fast.logged("health.csv:2")?;
    now(&mut twins, "failover", ELSEWHERE, answered, "ams")?;
    feed(&twins, None)?;
    std::thread::sleep(Duration::from_millis(1500));
    now(&mut twins, "failover", ELSEWHERE, answered, "ams")?;
    // From the first answer on after a restart, too.
    feed(&twins, Some("sin,down\n"))?;
    for crash in [false, true] {
        let addresses = ["192.0.2.12", "192.0.2.10"];
        under_questions(&mut twins, "failover", addresses, |twins| {
            twins.restart(crash)
        })?;
    }
    // What is said of it here stands above the file.
    twins.ok("mirror set-health sin up")?;
    now(&mut twins, "failover", ELSEWHERE, answered, "sin")?;
    twins.stop()
}

// Invariant 10
#[test]
fn an_address_that_is_down_is_in_no_answer_even_for_a_moment() -> Result<()> {
    needs_root!();
    let twins = Twins::start(&unchecked())?;
    // Of two addresses one is down all the time.
    let say = |body: &str| -> Result<()> {
        for daemon in [&twins.fast, &twins.slow] {
            let (code, text) = daemon.request("PUT", "/v1/mirrors/rack/health", body)?;
            ensure!(code == 200, "{body}: {code}: {text}");
        }
        Ok(())
    };
    say(r#"{"up":false}"#)?;
    let mut questions = Vec::new();
    for server in ["192.0.2.53", "192.0.2.54"] {
        let socket = twins.pair.client.udp(ip(ELSEWHERE), at(server, 53)?)?;
        let known = ["192.0.2.20", "192.0.2.10"].map(str::to_owned);
        questions.push((socket, Query::new("rack.example.org", A), known));
    }
    let asked = Asking::run(questions, || {
        for round in 0..100 {
            let up = round % 2 == 0;
            say(&format!(r#"{{"up":{up},"address":"192.0.2.20"}}"#))?;
        }
        Ok(())
    })?;
    println!("{asked} questions during 100 changes");
    twins.stop()
}

/// Addresses of a mirror that is checked, by its number.
fn checked_at(number: usize) -> [String; 2] {
    [
        format!("10.5.0.{}", 1 + number),
        format!("fd05::{:x}", 1 + number),
    ]
}

/// Does something while clients go on asking for a pool whose first mirror is down: nobody is sent to
/// it, whichever path answers, and however early.
fn under_questions(
    twins: &mut Twins,
    pool: &str,
    [down, next]: [&str; 2],
    during: impl FnOnce(&mut Twins) -> Result<()>,
) -> Result<()> {
    let sockets = ["192.0.2.53", "192.0.2.54"]
        .iter()
        .map(|server| twins.pair.client.udp(ip(ELSEWHERE), at(server, 53)?))
        .collect::<Result<Vec<_>>>()?;
    let name = format!("{pool}.example.org");
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let asker = scope.spawn(|| -> Result<()> {
            while !done.load(Ordering::Relaxed) {
                for (socket, qtype) in [(&sockets[0], A), (&sockets[1], A), (&sockets[0], TXT)] {
                    let query = Query::new(&name, qtype).bytes();
                    // Nobody may be there.
                    if let Ok(Some(reply)) = dns::ask(socket, &query, Duration::from_millis(20)) {
                        let got = Reply::parse(&reply)?.addresses();
                        ensure!(got != down, "sent to {down}, which is down");
                        ensure!(qtype != A || got == next, "{got}, not {next}");
                    }
                }
            }
            Ok(())
        });
        let ended = during(twins);
        // Until the checks have begun, and some more.
        std::thread::sleep(Duration::from_millis(300));
        done.store(true, Ordering::Relaxed);
        let asked = asker.join().expect("no panic");
        ended?;
        asked
    })
}

/// Clients that go on asking a daemon for names and each time must get one of two answers.
struct Asking {
    done: AtomicBool,
}

impl Asking {
    /// Asks while `during` runs. Gives how many were asked.
    fn run(
        questions: Vec<(std::net::UdpSocket, Query, [String; 2])>,
        during: impl FnOnce() -> Result<()>,
    ) -> Result<u64> {
        let asking = Self {
            done: AtomicBool::new(false),
        };
        std::thread::scope(|scope| {
            let asker = scope.spawn(|| asking.ask(&questions));
            let ended = during();
            asking.done.store(true, Ordering::Relaxed);
            let asked = asker.join().expect("no panic");
            ended?;
            asked
        })
    }

    fn ask(&self, questions: &[(std::net::UdpSocket, Query, [String; 2])]) -> Result<u64> {
        let mut asked = 0;
        while !self.done.load(Ordering::Relaxed) {
            for (socket, query, known) in questions {
                let mut query = query.clone();
                query.id = rand::random();
                let reply = dns::ask(socket, &query.bytes(), Duration::from_secs(5))?
                    .with_context(|| format!("lost: {query:?}"))?;
                let got = Reply::parse(&reply)?.addresses();
                ensure!(
                    known.contains(&got),
                    "{got}, not one of {known:?}: {query:?}"
                );
                asked += 1;
            }
        }
        Ok(asked)
    }
}

#[test]
fn answers_follow_what_web_servers_do() -> Result<()> {
    needs_root!();
    const RISE: u32 = 2;
    const FALL: u32 = 3;
    const INTERVAL: Duration = Duration::from_millis(300);
    let place = Twins::place()?;
    // One mirror for each way to break, one that is stopped, and one that stays well.
    let count = Manner::BROKEN.len() + 2;
    let (stopped, good) = (count - 2, count - 1);
    let mut body = String::new();
    let mut webs = Vec::new();
    for number in 0..count {
        let addresses = checked_at(number);
        let web = |address: &String| Web::start(&place.client, at(address, 8080)?);
        webs.push(addresses.iter().map(web).collect::<Result<Vec<_>>>()?);
        body.push_str(&format!(
            "[[mirror]]\nid = \"m{number}\"\naddresses = {addresses:?}\n\
             check = {{ type = \"http\", port = 8080, body = {GOOD:?}, interval = \"300ms\", \
             timeout = \"250ms\", rise = {RISE}, fall = {FALL} }}\n"
        ));
        if number != good {
            body.push_str(&pool(
                &format!("p{number}"),
                &format!(
                    "mirrors = [\"m{number}\", \"m{good}\"]\npolicy = \"failover\"\nttl_min = 60"
                ),
            ));
        }
    }
    body.push_str(&pool(
        "closed",
        &format!(
            "mirrors = [\"m{stopped}\"]\npolicy = \"failover\"\nfail = \"closed\"\nttl_min = 60"
        ),
    ));
    let mut twins = Twins::start_in(place, &setup(&body))?;
    let mut questions = Vec::new();
    for number in 0..good {
        for (family, qtype) in [A, AAAA].into_iter().enumerate() {
            let known = [number, good].map(|mirror| checked_at(mirror)[family].clone());
            let query = Query::new(&format!("p{number}.example.org"), qtype);
            for server in ["192.0.2.53", "192.0.2.54"] {
                let socket = twins.pair.client.udp(ip(ELSEWHERE), at(server, 53)?)?;
                questions.push((socket, query.clone(), known.clone()));
            }
        }
    }
    // How long a mirror takes to be seen, at the most: as many checks as it takes and one that was
    // under way, each to its end; and much for a machine that is busy.
    let within = |results: u32| INTERVAL * (results + 2) + Duration::from_secs(30);
    let all_are = |twins: &mut Twins, away: bool| -> Result<bool> {
        for number in 0..good {
            for (family, qtype) in [A, AAAA].into_iter().enumerate() {
                let mirror = if away { good } else { number };
                let query = Query::new(&format!("p{number}.example.org"), qtype);
                let [fast, slow] = twins.ask_each(ip("45.0.0.2"), &query)?;
                if fast != slow || Reply::parse(&fast)?.addresses() != checked_at(mirror)[family] {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    };
    let asked = Asking::run(questions, || {
        twins.until("all are well", |twins| all_are(twins, false))?;
        for round in 0..2 {
            let started = Instant::now();
            for (webs, manner) in webs.iter().zip(Manner::BROKEN) {
                webs.iter().for_each(|web| web.set(manner));
            }
            webs[stopped].clear();
            twins.until("all are out", |twins| all_are(twins, true))?;
            ensure!(started.elapsed() < within(FALL), "{:?}", started.elapsed());
            for (number, manner) in Manner::BROKEN.into_iter().enumerate() {
                let shown = twins.fast.json(&format!("mirror show m{number}"))?;
                ensure!(shown["in_service"] == false, "{shown}");
                for check in shown["checks"].as_array().context("checks")? {
                    let said = check["reason"].as_str().context("a reason")?;
                    let known = manner.reasons();
                    ensure!(
                        known.iter().any(|reason| said.contains(reason)),
                        "{manner:?}: want one of {known:?}: {said}"
                    );
                }
            }
            twins.counted()?;
            let reply = twins.ask(ip("45.0.0.2"), &Query::new("closed.example.org", A))?;
            ensure!(reply.status() == "SERVFAIL", "{reply}");
            // An operator's word stands above what checks find.
            if round == 0 {
                twins.ok("mirror up m0")?;
                let reply = twins.ask(ip("45.0.0.2"), &Query::new("p0.example.org", A))?;
                ensure!(reply.of("A") == [&checked_at(0)[0]], "{reply}");
                twins.ok("mirror auto m0")?;
                let reply = twins.ask(ip("45.0.0.2"), &Query::new("p0.example.org", A))?;
                ensure!(reply.of("A") == [&checked_at(good)[0]], "{reply}");
            }
            let started = Instant::now();
            for webs in &webs {
                webs.iter().for_each(|web| web.set(Manner::Good));
            }
            for address in checked_at(stopped) {
                webs[stopped].push(Web::start(&twins.pair.client, at(&address, 8080)?)?);
            }
            twins.until("all are back", |twins| all_are(twins, false))?;
            ensure!(started.elapsed() < within(RISE), "{:?}", started.elapsed());
        }
        Ok(())
    })?;
    ensure!(asked > 500, "only {asked} questions meanwhile");
    println!("{asked} questions meanwhile, none lost");
    twins.stop()
}

#[test]
fn the_ttl_goes_down_while_failures_add_up() -> Result<()> {
    needs_root!();
    let place = Twins::place()?;
    let [v4, _] = checked_at(0);
    let web = Web::start(&place.client, at(&v4, 80)?)?;
    let mut body = format!(
        "[[mirror]]\nid = \"m\"\naddresses = [{v4:?}]\n\
         check = {{ type = \"http\", interval = \"200ms\", timeout = \"190ms\", fall = 30, rise = 3 }}\n\
         [[mirror]]\nid = \"spare\"\naddresses = [\"192.0.2.10\"]\n"
    );
    body.push_str(&pool(
        "www",
        "mirrors = [\"m\", \"spare\"]\npolicy = \"failover\"\nttl = 60\nttl_min = 1",
    ));
    body.push_str(&pool(
        "floor",
        "mirrors = [\"m\", \"spare\"]\npolicy = \"failover\"\nttl = 60\nttl_min = 4",
    ));
    let mut twins = Twins::start_in(place, &setup(&body))?;
    // The kernel's.
    let ttl = |twins: &mut Twins, name: &str| -> Result<(u32, String)> {
        let [fast, _] = twins.ask_each(ip(ELSEWHERE), &Query::new(name, A))?;
        let reply = Reply::parse(&fast)?;
        let (ttl, data) = reply.answers[0].split_once(' ').context("a record")?;
        Ok((ttl.parse()?, data.to_owned()))
    };
    let own = format!("A {v4}");
    // 30 checks of 200 ms, less the one that may be under way: 5 seconds and some.
    twins.until("the first result is in", |twins| {
        Ok(ttl(twins, "www.example.org")? == (5, own.clone()))
    })?;
    web.set(Manner::Error);
    let mut seen = vec![5];
    let end = Instant::now() + Duration::from_secs(20);
    loop {
        let (floor, _) = ttl(&mut twins, "floor.example.org")?;
        let (ttl, data) = ttl(&mut twins, "www.example.org")?;
        ensure!(floor >= 4 || data != own, "below ttl_min: {floor}");
        if data != own {
            break;
        }
        if seen.last() != Some(&ttl) {
            seen.push(ttl);
        }
        ensure!(Instant::now() < end, "still in service: {seen:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
    ensure!(seen.is_sorted_by(|a, b| a > b), "not down, down: {seen:?}");
    ensure!(seen.last() == Some(&1) && seen.len() >= 3, "{seen:?}");
    // Down, it can be up again in three checks.
    ensure!(ttl(&mut twins, "www.example.org")? == (1, "A 192.0.2.10".to_owned()));
    web.set(Manner::Good);
    twins.until("it is back", |twins| {
        Ok(ttl(twins, "www.example.org")? == (5, own.clone()))
    })?;
    twins.stop()
}

#[test]
fn a_mirror_loses_only_the_address_that_is_broken() -> Result<()> {
    needs_root!();
    let place = Twins::place()?;
    let addresses = ["10.5.1.1", "10.5.1.2", "fd05:1::1", "fd05:1::2"];
    let web = |address: &str, place: &geodns_tests::net::Pair| {
        Web::start(&place.client, at(address, 80)?)
    };
    let mut webs = Vec::new();
    for address in addresses {
        webs.push(Some(web(address, &place)?));
    }
    let mut body = format!(
        "[[mirror]]\nid = \"rack\"\naddresses = {addresses:?}\n\
         check = {{ type = \"http\", interval = \"200ms\", timeout = \"190ms\", fall = 3, rise = 2 }}\n\
         [[mirror]]\nid = \"spare\"\naddresses = [\"192.0.2.10\", \"2001:db8:10::1\"]\n"
    );
    for policy in ["failover", "weighted", "all"] {
        let rest = format!("mirrors = [\"rack\", \"spare\"]\npolicy = {policy:?}\nttl_min = 60");
        body.push_str(&pool(policy, &rest));
    }
    let mut twins = Twins::start_in(place, &setup(&body))?;
    let comes_to = |twins: &mut Twins, name: &str, qtype, want: &str| {
        twins.comes_to(ip(ELSEWHERE), &format!("{name}.example.org"), qtype, want)
    };
    comes_to(&mut twins, "failover", A, "10.5.1.1 10.5.1.2")?;
    webs[0] = None;
    comes_to(&mut twins, "failover", A, "10.5.1.2")?;
    comes_to(&mut twins, "all", A, "10.5.1.2 192.0.2.10")?;
    comes_to(&mut twins, "failover", AAAA, "fd05:1::1 fd05:1::2")?;
    webs[3] = None;
    comes_to(&mut twins, "failover", AAAA, "fd05:1::1")?;
    // Its last of a family: the next mirror takes that over, and the other family stays.
    webs[1] = None;
    comes_to(&mut twins, "failover", A, "192.0.2.10")?;
    comes_to(&mut twins, "weighted", A, "192.0.2.10")?;
    comes_to(&mut twins, "failover", AAAA, "fd05:1::1")?;
    // Over a restart, and a crash, from the first answer on.
    for crash in [false, true] {
        twins.restart(crash)?;
        let reply = twins.ask(ip(ELSEWHERE), &Query::new("failover.example.org", A))?;
        ensure!(reply.of("A") == ["192.0.2.10"], "{reply}");
        let reply = twins.ask(ip(ELSEWHERE), &Query::new("failover.example.org", AAAA))?;
        ensure!(reply.of("AAAA") == ["fd05:1::1"], "{reply}");
        twins.all_counted("answered", 2)?;
    }
    for (place, address) in [(0, addresses[0]), (3, addresses[3])] {
        webs[place] = Some(web(address, &twins.pair)?);
    }
    comes_to(&mut twins, "failover", A, "10.5.1.1")?;
    comes_to(&mut twins, "failover", AAAA, "fd05:1::1 fd05:1::2")?;
    twins.stop()
}

#[test]
fn a_mirror_that_was_down_stays_so_until_its_checks_say_otherwise() -> Result<()> {
    needs_root!();
    let place = Twins::place()?;
    let [v4, _] = checked_at(0);
    let web = Web::start(&place.client, at(&v4, 80)?)?;
    web.set(Manner::Error);
    let mut body = format!(
        "[[mirror]]\nid = \"m\"\naddresses = [{v4:?}]\n\
         check = {{ type = \"http\", interval = \"200ms\", timeout = \"190ms\", rise = 10 }}\n\
         [[mirror]]\nid = \"spare\"\naddresses = [\"192.0.2.10\"]\n"
    );
    body.push_str(&pool(
        "www",
        "mirrors = [\"m\", \"spare\"]\npolicy = \"failover\"\nttl_min = 60",
    ));
    let mut twins = Twins::start_in(place, &setup(&body))?;
    let query = || Query::new("www.example.org", A);
    let both_have = |twins: &mut Twins, want: &str| -> Result<bool> {
        let [fast, slow] = twins.ask_each(ip(ELSEWHERE), &query())?;
        Ok(Reply::parse(&fast)?.addresses() == want && Reply::parse(&slow)?.addresses() == want)
    };
    twins.until("it is down", |twins| both_have(twins, "192.0.2.10"))?;
    for crash in [false, true] {
        under_questions(&mut twins, "www", [&v4, "192.0.2.10"], |twins| {
            twins.restart(crash)
        })?;
        // Well again, but two seconds of it are wanted.
        web.set(Manner::Good);
        let (started, asked) = (Instant::now(), web.asked());
        twins.until("it is back", |twins| both_have(twins, &v4))?;
        // Both daemons ask.
        ensure!(
            web.asked() - asked >= 2 * 9,
            "after {} checks",
            web.asked() - asked
        );
        ensure!(
            started.elapsed() > Duration::from_millis(1500),
            "{:?}",
            started.elapsed()
        );
        web.set(Manner::Error);
        twins.until("it is down", |twins| both_have(twins, "192.0.2.10"))?;
    }
    // Nor does a reload bring it up, though it is checked another way from then on.
    under_questions(&mut twins, "www", [&v4, "192.0.2.10"], |twins| {
        for rise in (1..10).rev() {
            body = body.replace(&format!("rise = {}", rise + 1), &format!("rise = {rise}"));
            twins.change(&setup(&body))?;
        }
        body = body.replace("200ms", "400ms");
        twins.change(&setup(&body))
    })?;
    // Checked no more, it is in service.
    body = body.replace("check = ", "#");
    twins.change(&setup(&body))?;
    ensure!(both_have(&mut twins, &v4)?, "out of service for ever");
    twins.stop()
}

//! The fast path and the slow path are asked the same questions, and the bytes compared.
//!
//! Two daemons have the same configuration, one with the program in the driver and one with
//! `kernel.mode = "off"`. Each question says what it must get, and the verdict that the program
//! must count for it: a fast path that passes everything would fail here as surely as one that
//! answers wrongly.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use geodns_tests::daemon::Setup;
use geodns_tests::dns::{self, A, AAAA, AD, CD, COOKIE, ECS, NSID, PADDING, Query, RD, Reply};
use geodns_tests::needs_root;
use geodns_tests::net::ip;
use geodns_tests::twins::Twins;

/// Clients, and the mirror that `www` has for each.
const CLIENTS: [(&str, &str); 8] = [
    ("10.1.0.1", "iad"),
    ("10.2.3.4", "sin"),
    ("10.9.0.1", "ams"),
    ("10.1.128.1", "sin"),
    ("fd01::1", "iad"),
    ("fd02:0:0:ffff::1", "sin"),
    ("fd09::1", "ams"),
    ("fd03:0:0:2::1", "ams"),
];

const MIRRORS: [(&str, &str, &str); 3] = [
    ("ams", "192.0.2.10", "2001:db8:1::10"),
    ("iad", "198.51.100.10", "2001:db8:2::10"),
    ("sin", "203.0.113.10", "2001:db8:3::10"),
];

/// Names with 29 addresses: the answer is 512 octets, and one more.
const FULL: [&str; 2] = ["full-to-the-edge-x", "full-over-that-edge"];

const RRSIG: u16 = 46;
const NSEC3: u16 = 50;

/// Questions that both daemons are asked, and what was wrong with their answers.
struct Battery {
    twins: Twins,
    asked: usize,
    failures: Vec<String>,
}

impl Battery {
    fn new() -> Result<Self> {
        Ok(Self {
            twins: Twins::start(&Setup::world("pools_of_every_shape", &[]))?,
            asked: 0,
            failures: Vec::new(),
        })
    }

    /// Asks both from a client. `verdict` is what the program must count (`a|b`: either); `want` is
    /// what the answer must come to (see [`gist`]).
    fn ask(&mut self, client: &str, message: &[u8], verdict: &str, want: &str) -> Result<()> {
        self.asked += 1;
        // What must go unanswered is not waited for long; for the rest the machine may be busy.
        let patience = Duration::from_millis(if want == "SILENCE" { 60 } else { 3000 });
        let mut attempts = 0;
        let (fast, slow, counted) = loop {
            let [fast, slow] = self.twins.send(ip(client), message, patience)?;
            let counted = self.twins.counted()?;
            attempts += 1;
            if fast == slow || attempts == 3 {
                break (fast, slow, counted);
            }
            // A cookie has the second in it that it was made in, and the kernel's clock is some ticks late.
            std::thread::sleep(Duration::from_millis(20));
        };
        let mut wrong = Vec::new();
        if fast != slow {
            wrong.push(format!(
                "the paths differ:\n    fast {}\n    slow {}\n    fast {}\n    slow {}",
                gist(fast.as_deref()),
                gist(slow.as_deref()),
                hex(fast.as_deref()),
                hex(slow.as_deref()),
            ));
        }
        let got = gist(fast.as_deref());
        if got != want {
            wrong.push(format!("want {want}\n     got {got}"));
        }
        let fits = |verdict: &str| counted == BTreeMap::from([(verdict.to_owned(), 1)]);
        if !verdict.split('|').any(fits) {
            wrong.push(format!("must count as {verdict}, counted {counted:?}"));
        }
        if let Some(reply) = &fast
            && let Err(error) = header(message, reply)
        {
            wrong.push(format!("{error:#}"));
        }
        if !wrong.is_empty() {
            self.failures.push(format!(
                "from {client}: {}\n  {}",
                hex(Some(message)),
                wrong.join("\n  ")
            ));
        }
        Ok(())
    }

    /// Fails with every difference there was, and unless `least` questions were asked.
    fn finish(mut self, least: usize) -> Result<()> {
        let failures = self.failures.len();
        if failures > 0 {
            self.failures.truncate(20);
            anyhow::bail!(
                "{failures} of {} questions:\n{}\nlog:\n{}",
                self.asked,
                self.failures.join("\n"),
                self.twins.fast.log()
            );
        }
        ensure!(self.asked >= least, "{} questions are too few", self.asked);
        println!("{} questions, both paths alike", self.asked);
        self.twins.stop()
    }
}

/// A response in a word or a few: the addresses or records of its answer section, or NODATA,
/// NXDOMAIN, REFERRAL, TC, SILENCE, or the name of its RCODE.
fn gist(response: Option<&[u8]>) -> String {
    let Some(bytes) = response else {
        return "SILENCE".into();
    };
    let reply = match Reply::parse(bytes) {
        Ok(reply) => reply,
        Err(error) => return format!("UNREADABLE: {error:#}"),
    };
    if reply.rcode != 0 {
        return reply.status();
    }
    if reply.flags & dns::TC != 0 {
        return "TC".into();
    }
    if !reply.answers.is_empty() {
        return reply
            .answers
            .iter()
            .map(|answer| answer.split_once(' ').map_or("", |(_, data)| data))
            .map(|data| {
                data.strip_prefix("A ")
                    .or(data.strip_prefix("AAAA "))
                    .unwrap_or(data)
            })
            .collect::<Vec<_>>()
            .join(" ");
    }
    if reply.authority.iter().any(|line| line.contains(" SOA ")) {
        "NODATA".into()
    } else if reply.authority.iter().any(|line| line.contains(" NS ")) {
        "REFERRAL".into()
    } else {
        "EMPTY".into()
    }
}

/// Checks a response's header: id and RD are copied, QR is set, RA, Z, AD and CD are not.
fn header(message: &[u8], response: &[u8]) -> Result<()> {
    ensure!(response.len() >= 12, "shorter than a header");
    ensure!(response[..2] == message[..2], "another id");
    ensure!(response[2] & 0x80 != 0, "QR is not set");
    ensure!(response[3] & 0xf0 == 0, "RA, Z, AD or CD is set");
    if message.len() >= 12 {
        ensure!(response[2] & 1 == message[2] & 1, "RD is not copied");
    }
    Ok(())
}

fn hex(bytes: Option<&[u8]>) -> String {
    bytes.map_or("-".into(), |bytes| {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    })
}

/// Address of a mirror.
fn address(id: &str, qtype: u16) -> &'static str {
    let (_, v4, v6) = MIRRORS
        .into_iter()
        .find(|(other, _, _)| *other == id)
        .expect("a mirror");
    if qtype == A { v4 } else { v6 }
}

/// A name with every label as long as can be, `octets` in all on the wire.
fn long_name(octets: usize, below: &str) -> String {
    let mut left = octets - dns::wire_name(below).len();
    let mut name = String::new();
    while left > 0 {
        // Never leave one octet, which would be a label without letters.
        let label = if left == 65 { 32 } else { left.min(64) };
        name.push_str(&"x".repeat(label - 1));
        name.push('.');
        left -= label;
    }
    name + below
}

/// `labels` in all.
fn many_labels(labels: usize, below: &str) -> String {
    "l.".repeat(labels - below.split('.').count()) + below
}

/// Letters alternating, as 0x20 does it.
fn mixed_case(name: &str) -> String {
    name.char_indices()
        .map(|(at, letter)| {
            if at % 2 == 0 {
                letter.to_ascii_uppercase()
            } else {
                letter
            }
        })
        .collect()
}

/// Every way to ask a question that must make no difference to its verdict.
fn variants(name: &str, qtype: u16) -> Vec<Query> {
    let query = || Query::new(name, qtype);
    vec![
        query(),
        query().flags(RD),
        query().flags(AD | CD),
        query().flags(RD | AD | CD),
        query().edns(0),
        query().edns(512).flags(RD),
        query().edns(1232),
        query().edns(4096).dnssec_ok(),
        query().edns(65_535).flags(RD | AD),
        query().option(COOKIE, &[1, 2, 3, 4, 5, 6, 7, 8]),
        query()
            .option(COOKIE, &[7; 24])
            .option(65_001, b"unknown")
            .dnssec_ok(),
        query().option(COOKIE, &[7; 40]).option(NSID, &[]),
        query().option(NSID, &[]).dnssec_ok(),
        query().option(PADDING, &[0; 100]),
        query().option(65_001, &[]),
        {
            // Flags that nobody has defined yet.
            let mut query = query().edns(1400);
            query.edns.as_mut().expect("just set").flags = 0x7fff;
            query
        },
    ]
}

#[test]
fn where_nobody_is_told_who_we_are_neither_path_says_it() -> Result<()> {
    needs_root!();
    let mut setup = Setup::example(&[]);
    let mut twins = Twins::start(&setup)?;
    let from: IpAddr = "10.1.0.1".parse()?;
    for (server, nsid) in [
        ("nsid = false\n", None),
        ("identity = false\n", None),
        ("identity = false\nnsid = \"n1\"\n", Some("n1")),
    ] {
        setup.server = server.into();
        twins.change(&setup)?;
        twins.counted()?;
        let mut asked = 0;
        for (name, qtype) in [("www.example.org", A), ("mail.example.org", AAAA)] {
            for query in [
                Query::new(name, qtype).option(NSID, &[]),
                Query::new(name, qtype).option(NSID, &[]).dnssec_ok(),
            ] {
                let mut without = query.clone();
                without.edns.as_mut().context("an OPT")?.options.clear();
                let said = twins.ask(from, &query)?.length;
                let silent = twins.ask(from, &without)?.length;
                let option = nsid.map_or(0, |nsid| 4 + nsid.len());
                ensure!(
                    said == silent + option,
                    "{server}{query:?}: {said}, {silent}"
                );
                asked += 1;
            }
        }
        let counted = twins.counted()?;
        let passed = counted.get("pass_edns_option").copied().unwrap_or(0);
        ensure!(
            passed == if nsid.is_some() { 0 } else { asked },
            "{counted:?}"
        );
    }
    twins.stop()
}

// Invariant 1
#[test]
fn a_steered_name_is_answered_alike_in_kernel_and_userspace() -> Result<()> {
    needs_root!();
    let mut battery = Battery::new()?;
    // Every client, every name that `www`'s pool stands behind.
    let long = long_name(255, "cdn.example.org");
    let names = [
        "www.example.org",
        "WWW.EXAMPLE.ORG",
        "a.cdn.example.org",
        "leaf.empty.example.org",
        "geo.example",
        &many_labels(16, "cdn.example.org"),
        &long,
        &mixed_case(&long),
        "*.cdn.example.org",
        "_a-b.0.cDn.example.org",
    ];
    for (client, mirror) in CLIENTS {
        for name in names {
            for qtype in [A, AAAA] {
                let query = Query::new(name, qtype).edns(1232);
                battery.ask(client, &query.bytes(), "answered", address(mirror, qtype))?;
            }
        }
    }
    // Every variant, the clients in turn.
    let mut clients = CLIENTS.iter().cycle();
    for name in names {
        for qtype in [A, AAAA] {
            for query in variants(name, qtype) {
                let (client, mirror) = clients.next().context("endless")?;
                // The longest name and the padding together stay under 512 octets.
                battery.ask(client, &query.bytes(), "answered", address(mirror, qtype))?;
            }
        }
    }
    battery.finish(400)
}

// Invariant 1
#[test]
fn pools_of_every_shape_are_answered_alike() -> Result<()> {
    needs_root!();
    let mut battery = Battery::new()?;
    let rack4 = "192.0.2.71 192.0.2.72 192.0.2.73";
    let rack6 = "2001:db8:7::1 2001:db8:7::2";
    for name in [
        "old.example.org",
        "exact.cdn.example.org",
        "x.y.geo.example",
    ] {
        for query in variants(name, A) {
            battery.ask("10.1.0.1", &query.bytes(), "answered", "192.0.2.44")?;
        }
        for query in variants(name, AAAA) {
            battery.ask("fd01::1", &query.bytes(), "nodata", "NODATA")?;
        }
    }
    for query in variants("new.example.org", A) {
        battery.ask("10.2.3.4", &query.bytes(), "nodata", "NODATA")?;
    }
    for query in variants("nEw.example.org", AAAA) {
        battery.ask("10.2.3.4", &query.bytes(), "answered", "2001:db8:66::1")?;
    }
    for query in variants("rack.example.org", A) {
        battery.ask("fd02:0:0:ffff::1", &query.bytes(), "answered", rack4)?;
    }
    for query in variants("rack.example.org", AAAA) {
        battery.ask("10.9.0.1", &query.bytes(), "answered", rack6)?;
    }
    // Two mirrors in an answer: the client's, then the default's; the rest of the pool fills up.
    for (client, a, aaaa) in [
        (
            "10.1.0.1",
            "198.51.100.10 203.0.113.10",
            "2001:db8:2::10 2001:db8:3::10",
        ),
        (
            "10.2.3.4",
            "203.0.113.10 192.0.2.10",
            "2001:db8:3::10 2001:db8:1::10",
        ),
        (
            "fd09::1",
            "203.0.113.10 192.0.2.10",
            "2001:db8:3::10 2001:db8:1::10",
        ),
    ] {
        for (qtype, want) in [(A, a), (AAAA, aaaa)] {
            for query in variants("two.example.org", qtype) {
                battery.ask(client, &query.bytes(), "answered", want)?;
            }
        }
    }
    // Mirrors of one family only: a client's mirror without the family gives way to the next.
    for (client, a, aaaa) in [
        ("10.1.0.1", "192.0.2.44", "2001:db8:66::1"),
        ("10.2.3.4", "192.0.2.10", "2001:db8:1::10"),
        ("10.9.0.1", "192.0.2.44", "2001:db8:66::1"),
        ("fd01::1", "192.0.2.44", "2001:db8:66::1"),
    ] {
        for (qtype, want) in [(A, a), (AAAA, aaaa)] {
            let query = Query::new("mixed.example.org", qtype);
            battery.ask(client, &query.bytes(), "answered", want)?;
            battery.ask(client, &query.edns(1232).bytes(), "answered", want)?;
        }
    }
    // Mirrors that do not take every client.
    for (client, hosts) in [
        ("10.1.0.1", [81, 82]),
        ("10.1.200.9", [81, 83]),
        ("10.2.3.4", [83, 0]),
        ("10.9.0.1", [82, 83]),
        ("fd01::1", [81, 82]),
        ("fd09::1", [82, 83]),
    ] {
        for (qtype, before) in [(A, "192.0.2."), (AAAA, "2001:db8:8::")] {
            let hosts = hosts.iter().filter(|host| **host != 0);
            let want: Vec<_> = hosts.map(|host| format!("{before}{host}")).collect();
            for query in variants("limited.example.org", qtype) {
                battery.ask(client, &query.bytes(), "answered", &want.join(" "))?;
            }
        }
    }
    // A prefix longer than /64 is for the slow path to know.
    for qtype in [A, AAAA] {
        let query = Query::new("www.example.org", qtype);
        battery.ask(
            "fd03:0:0:1::1",
            &query.bytes(),
            "pass_no_region",
            address("iad", qtype),
        )?;
    }
    // Twelve mirrors of two addresses.
    let many = |qtype| {
        (0..12)
            .flat_map(|number| {
                if qtype == A {
                    [
                        format!("198.51.100.{}", 100 + number),
                        format!("198.51.100.{}", 200 + number),
                    ]
                } else {
                    [1, 2].map(|host| match number {
                        0 => format!("2001:db8:0:1::{host}"),
                        _ => format!("2001:db8:{number:x}:1::{host}"),
                    })
                }
            })
            .collect::<Vec<_>>()
            .join(" ")
    };
    for client in ["10.1.0.1", "fd01::1"] {
        let a = Query::new("many.example.org", A);
        let aaaa = Query::new("many.example.org", AAAA);
        battery.ask(client, &a.bytes(), "answered|pass_no_room", &many(A))?;
        let query = a.clone().edns(1232).option(PADDING, &[0; 200]);
        battery.ask(client, &query.bytes(), "answered", &many(A))?;
        battery.ask(client, &aaaa.bytes(), "pass_too_large", "TC")?;
        for size in [0, 512, 704] {
            let query = aaaa.clone().edns(size);
            battery.ask(client, &query.bytes(), "pass_too_large", "TC")?;
        }
        // 12 + 22 + 24 * 28 + 11 octets. A veth's frame has the room to grow so much only if the query
        // is long already: here by a padding that nobody looks at.
        for size in [717, 1232, 4096] {
            let query = aaaa.clone().edns(size);
            battery.ask(client, &query.bytes(), "answered|pass_no_room", &many(AAAA))?;
            let query = query.option(PADDING, &[0; 512 - 12 - 22 - 11 - 4]);
            battery.ask(client, &query.bytes(), "answered", &many(AAAA))?;
        }
        let query = aaaa.clone().edns(716);
        battery.ask(client, &query.bytes(), "pass_too_large", "TC")?;
        // Forty mirrors do not fit into the fast path, nor into a datagram.
        let slow = Query::new("slow.example.org", AAAA).edns(1232);
        battery.ask(client, &slow.bytes(), "pass_slow_pool", "TC")?;
    }
    battery.finish(200)
}

// Invariant 1
// Invariant 9
#[test]
fn client_subnets_are_answered_alike() -> Result<()> {
    needs_root!();
    let mut battery = Battery::new()?;
    for client in ["10.1.0.1", "fd01::1"] {
        for qtype in [A, AAAA] {
            let www = || Query::new("wWw.example.org", qtype).edns(1232);
            let [sin, ams, own] = ["sin", "ams", "iad"].map(|mirror| address(mirror, qtype));
            for (subnet, want) in [
                (www().subnet(1, 8, 0, &[20]), ams),
                (www().subnet(1, 15, 0, &[20, 2]), sin),
                (www().subnet(1, 16, 0, &[20, 2]), sin),
                (www().subnet(1, 24, 0, &[20, 2, 3]), sin),
                (www().subnet(1, 32, 0, &[20, 2, 128, 1]), sin),
                (www().subnet(1, 17, 0, &[20, 3, 128]), ams),
                (www().subnet(1, 1, 0, &[0x80]), ams),
                (www().subnet(2, 16, 0, &[0x2a, 0x02]), sin),
                (www().subnet(2, 23, 0, &[0x2a, 0x02, 0xfe]), sin),
                (www().subnet(2, 24, 0, &[0x2a, 0x03, 0]), ams),
                (www().subnet(2, 56, 0, &[0x2a, 0x02, 0, 0, 0, 0, 1]), sin),
                (
                    www().subnet(
                        2,
                        128,
                        0,
                        &[0x2a, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1],
                    ),
                    sin,
                ),
                // An opt-out: the client's own address counts.
                (www().subnet(1, 0, 0, &[]), own),
                (www().subnet(2, 0, 0, &[]), own),
                // Beside other options, before and behind.
                (
                    www()
                        .option(NSID, &[])
                        .subnet(1, 24, 0, &[20, 2, 3])
                        .option(COOKIE, &[7; 24]),
                    sin,
                ),
                (
                    www().option(COOKIE, &[7; 8]).subnet(1, 24, 0, &[20, 2, 3]),
                    sin,
                ),
                (
                    www().subnet(1, 24, 0, &[20, 2, 3]).option(PADDING, &[0; 9]),
                    sin,
                ),
            ] {
                battery.ask(client, &subnet.bytes(), "answered", want)?;
                let subnet = subnet.dnssec_ok().flags(RD);
                battery.ask(client, &subnet.bytes(), "answered", want)?;
            }
        }
        // Everyone gets all of it, so no subnet matters; and of what there is none, there is none for
        // all.
        let rack = "192.0.2.71 192.0.2.72 192.0.2.73";
        let query = Query::new("rack.example.org", A).subnet(1, 24, 0, &[20, 2, 3]);
        battery.ask(client, &query.bytes(), "answered", rack)?;
        let query = Query::new("old.example.org", AAAA).subnet(1, 24, 0, &[20, 2, 3]);
        battery.ask(client, &query.bytes(), "nodata", "NODATA")?;
        // A region that only the slow path knows.
        let deep = [0xfd, 3, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1];
        let query = Query::new("www.example.org", A).subnet(2, 128, 0, &deep);
        battery.ask(
            client,
            &query.bytes(),
            "pass_edns_option",
            address("iad", A),
        )?;
    }
    battery.finish(130)
}

// Invariant 1
#[test]
fn zone_files_are_answered_alike() -> Result<()> {
    needs_root!();
    let mut battery = Battery::new()?;
    for client in ["10.1.0.1", "fd01::1"] {
        for (name, rtype, verdict, want) in [
            // Every type.
            ("example.org", A, "nodata", "NODATA"),
            (
                "example.org",
                dns::SOA,
                "static",
                "SOA ns1.example.org. hostmaster.example.org. 2026010100 7200 900 1209600 300",
            ),
            (
                "example.org",
                dns::NS,
                "static",
                "NS ns1.example.org. NS ns2.example.org.",
            ),
            (
                "example.org",
                dns::MX,
                "static",
                "MX 10 mail.example.org. MX 20 backup.elsewhere.net.",
            ),
            // Names in data keep their case, whoever asks in another.
            (
                "case.example.org",
                dns::MX,
                "static",
                "MX 10 Mail.Example.ORG. MX 20 mail.example.org. MX 30 Mail.case.example.org.",
            ),
            (
                "CASE.example.ORG",
                dns::MX,
                "static",
                "MX 10 Mail.Example.ORG. MX 20 mail.example.org. MX 30 Mail.case.example.org.",
            ),
            (
                "x.Y.case.example.org",
                dns::MX,
                "static",
                "MX 10 a.mail.Case.example.org. MX 20 b.mail.case.example.org.",
            ),
            (
                "x.y.case.example.org",
                dns::MX,
                "static",
                "MX 10 a.mail.Case.example.org. MX 20 b.mail.case.example.org.",
            ),
            ("no.CASE.ns1.example.org", A, "nxdomain", "NXDOMAIN"),
            (
                "example.org",
                dns::TXT,
                "static",
                "TXT \"geodns\" \"two strings\"",
            ),
            ("ns1.example.org", A, "static", "192.0.2.53"),
            ("NS1.example.ORG", AAAA, "static", "2001:db8::53"),
            ("ns2.example.org", AAAA, "nodata", "NODATA"),
            ("ns2.example.org", 65280, "nodata", "NODATA"),
            ("mail.example.org", AAAA, "static", "2001:db8::25"),
            // Beside a pool.
            ("geo.example", dns::TXT, "static", "TXT \"a steered apex\""),
            ("geo.example", dns::NS, "static", "NS ns1.example.org."),
            ("geo.example", A, "answered", address("iad", A)),
            (
                "www.example.org",
                dns::TXT,
                "static",
                "TXT \"beside the steered addresses\"",
            ),
            ("www.example.org", dns::MX, "nodata", "NODATA"),
            ("www.example.org", dns::SRV, "nodata", "NODATA"),
            ("www.example.org", dns::HTTPS, "nodata", "NODATA"),
            ("a.cdn.example.org", dns::TXT, "nodata", "NODATA"),
            // CNAMEs: out of our zones, to one of them, followed, and into nothing.
            (
                "local.example.org",
                dns::CNAME,
                "static",
                "CNAME mail.example.org.",
            ),
            (
                "outside.example.org",
                A,
                "static",
                "CNAME www.elsewhere.net.",
            ),
            (
                "outside.example.org",
                dns::MX,
                "static",
                "CNAME www.elsewhere.net.",
            ),
            (
                "local.example.org",
                A,
                "pass_slow_records",
                "CNAME mail.example.org. 192.0.2.25",
            ),
            (
                "to-geo.example.org",
                dns::TXT,
                "pass_slow_records",
                "CNAME geo.example. TXT \"a steered apex\"",
            ),
            // Empty non-terminals.
            ("empty.example.org", A, "nodata", "NODATA"),
            ("empty.example.org", dns::TXT, "nodata", "NODATA"),
            ("cdn.example.org", AAAA, "nodata", "NODATA"),
            ("stop.cdn.example.org", A, "nodata", "NODATA"),
            ("b.stop.cdn.example.org", A, "nodata", "NODATA"),
            ("ent.wild.example.org", A, "nodata", "NODATA"),
            // What exists stops a wildcard (RFC 4592 section 2.2.1).
            ("c.stop.cdn.example.org", A, "nxdomain", "NXDOMAIN"),
            ("txt.cdn.example.org", A, "nodata", "NODATA"),
            ("below.txt.cdn.example.org", A, "nxdomain", "NXDOMAIN"),
            ("below.exact.cdn.example.org", A, "nxdomain", "NXDOMAIN"),
            ("x.ent.wild.example.org", A, "nxdomain", "NXDOMAIN"),
            // Who owns NSEC3 records alone is no name (RFC 5155 section 7.2.8).
            (
                "2t7b4g4vsa5smi47k61mv5bv1a22bojr.example.org",
                A,
                "nxdomain",
                "NXDOMAIN",
            ),
            (
                "2T7B4G4VSA5SMI47K61MV5BV1A22BOJR.example.org",
                NSEC3,
                "nxdomain",
                "NXDOMAIN",
            ),
            (
                "x.2t7b4g4vsa5smi47k61mv5bv1a22bojr.example.org",
                A,
                "nxdomain",
                "NXDOMAIN",
            ),
            (
                "35mthgpgcu1qg68fab165klnsnk3dpvl.example.org",
                A,
                "nodata",
                "NODATA",
            ),
            (
                "35mthgpgcu1qg68fab165klnsnk3dpvl.example.org",
                dns::TXT,
                "static",
                "TXT \"a name all the same\"",
            ),
            (
                "2t7b4g4vsa5smi47k61mv5bv1a22bojr.wildcard.test",
                dns::TXT,
                "static",
                "TXT \"this is a wildcard\"",
            ),
            // Signatures of two types, with two TTLs.
            (
                "signed.example.org",
                RRSIG,
                "static",
                "RRSIG A 8 3 60 1893456000 1577836800 1 example.org. AAEC RRSIG TXT 8 3 600 1893456000 1577836800 1 example.org. AAEC",
            ),
            // Wildcards of the zone file.
            ("any.wild.example.org", A, "static", "192.0.2.99"),
            (
                "a.b.wild.example.org",
                dns::TXT,
                "static",
                "TXT \"a wildcard of the zone file\"",
            ),
            ("a.b.wild.example.org", AAAA, "nodata", "NODATA"),
            ("*.wild.example.org", A, "static", "192.0.2.99"),
            // The example of RFC 4592, section 2.2.1.
            (
                "host3.wildcard.test",
                dns::MX,
                "static",
                "MX 10 host1.wildcard.test.",
            ),
            ("host3.wildcard.test", A, "nodata", "NODATA"),
            (
                "foo.bar.wildcard.test",
                dns::TXT,
                "static",
                "TXT \"this is a wildcard\"",
            ),
            ("host1.wildcard.test", dns::MX, "nodata", "NODATA"),
            ("sub.*.wildcard.test", dns::MX, "nodata", "NODATA"),
            (
                "_telnet._tcp.host1.wildcard.test",
                dns::SRV,
                "nxdomain",
                "NXDOMAIN",
            ),
            ("host.subdel.wildcard.test", A, "pass_slow_name", "REFERRAL"),
            ("ghost.*.wildcard.test", dns::MX, "nxdomain", "NXDOMAIN"),
            // Absent.
            ("absent.example.org", A, "nxdomain", "NXDOMAIN"),
            ("absent.example.org", dns::TXT, "nxdomain", "NXDOMAIN"),
            ("www.www.example.org", A, "nxdomain", "NXDOMAIN"),
            ("a.b.c.d.e.absent.example.org", A, "nxdomain", "NXDOMAIN"),
            // A zone in a zone: between their apexes the one above says what there is.
            (
                "inner.deeper.example.org",
                dns::TXT,
                "static",
                "TXT \"inside\"",
            ),
            ("deeper.example.org", A, "nxdomain", "NXDOMAIN"),
            ("x.deeper.example.org", A, "nxdomain", "NXDOMAIN"),
            ("x.inner.deeper.example.org", A, "nxdomain", "NXDOMAIN"),
        ] {
            for query in variants(name, rtype) {
                battery.ask(client, &query.bytes(), verdict, want)?;
            }
            // A client subnet does not matter.
            let query = Query::new(&mixed_case(name), rtype)
                .flags(RD)
                .subnet(1, 16, 0, &[10, 1]);
            if verdict != "answered" {
                battery.ask(client, &query.bytes(), "pass_edns_option", want)?;
                let query = Query::new(name, rtype).subnet(1, 16, 0, &[20, 2]);
                battery.ask(client, &query.bytes(), verdict, want)?;
            }
        }
        // On a veth there is no room for answers as large as these.
        let all: Vec<_> = (1..=29).map(|n| format!("198.51.100.{n}")).collect();
        let (full, large) = ("static|pass_no_room", "pass_too_large");
        for (name, plain) in FULL
            .into_iter()
            .zip([(full, &*all.join(" ")), (large, "TC")])
        {
            let query = Query::new(&format!("{name}.example.org"), A);
            battery.ask(client, &query.bytes(), plain.0, plain.1)?;
            let with = query.clone().edns(512);
            battery.ask(client, &with.bytes(), large, "TC")?;
            let with = query.edns(1232);
            battery.ask(client, &with.bytes(), full, &all.join(" "))?;
        }
    }
    battery.finish(500)
}

#[test]
fn what_is_not_for_the_fast_path_is_passed_for_its_reason() -> Result<()> {
    needs_root!();
    let mut battery = Battery::new()?;
    let unknown = "pass_unknown_name";
    let slow_name = "pass_slow_name";
    let qtype = "pass_qtype";
    for client in ["10.1.0.1", "fd01::1"] {
        for (name, rtype, verdict, want) in [
            // Below a zone cut.
            ("child.example.org", A, slow_name, "REFERRAL"),
            ("ns1.child.example.org", A, slow_name, "REFERRAL"),
            ("www.child.example.org", AAAA, slow_name, "REFERRAL"),
            // A DNAME.
            ("moved.example.org", A, slow_name, "NODATA"),
            (
                "ns1.moved.example.org",
                dns::CNAME,
                slow_name,
                "DNAME example.org. CNAME ns1.example.org.",
            ),
            // Types that are no data, and one that may be another zone's.
            ("www.example.org", 0, qtype, "NOTIMP"),
            ("www.example.org", dns::OPT, qtype, "FORMERR"),
            ("absent.example.org", 128, qtype, "FORMERR"),
            ("www.example.org", 252, qtype, "NOTAUTH"),
            ("absent.example.org", dns::ANY, qtype, "NXDOMAIN"),
            ("child.example.org", 43, qtype, "NODATA"),
            // Outside.
            ("wwwexample.org", A, unknown, "REFUSED"),
            ("example.com", A, unknown, "REFUSED"),
            ("org", A, unknown, "REFUSED"),
            ("", A, unknown, "REFUSED"),
            ("", dns::NS, unknown, "REFUSED"),
            ("example.org.www.example.net", AAAA, unknown, "REFUSED"),
        ] {
            battery.ask(client, &Query::new(name, rtype).bytes(), verdict, want)?;
            let query = Query::new(&mixed_case(name), rtype)
                .flags(RD)
                .edns(1232)
                .dnssec_ok();
            battery.ask(client, &query.bytes(), verdict, want)?;
        }
        let a = address("iad", A);
        let www = || Query::new("www.example.org", A);
        // Seventeen labels are more than the fast path walks.
        let query = Query::new(&many_labels(17, "cdn.example.org"), A);
        battery.ask(client, &query.bytes(), "pass_many_labels", a)?;
        let query = Query::new(&many_labels(120, "cdn.example.org"), A);
        battery.ask(client, &query.bytes(), "pass_many_labels", a)?;
        // Options that the slow path honours.
        let option = "pass_edns_option";
        for len in [1, 7, 9, 15, 41, 100] {
            let query = www().option(COOKIE, &vec![7; len]);
            battery.ask(client, &query.bytes(), option, "FORMERR")?;
        }
        for (subnet, verdict, want) in [
            // Malformed: FORMERR.
            (www().subnet(3, 24, 0, &[20, 2, 3]), option, "FORMERR"),
            (www().subnet(1, 24, 24, &[20, 2, 3]), option, "FORMERR"),
            (www().subnet(1, 33, 0, &[20, 2, 3, 4, 5]), option, "FORMERR"),
            (www().subnet(1, 24, 0, &[20, 2]), option, "FORMERR"),
            (www().subnet(1, 24, 0, &[20, 2, 3, 4]), option, "FORMERR"),
            (www().subnet(1, 20, 0, &[20, 2, 0xff]), option, "FORMERR"),
            (www().option(ECS, &[0, 1]), option, "FORMERR"),
            (
                www().subnet(1, 8, 0, &[20]).subnet(1, 8, 0, &[20]),
                option,
                "FORMERR",
            ),
            // Private and documentation networks say nothing: the resolver's own address counts.
            (www().subnet(1, 24, 0, &[10, 2, 3]), option, a),
            (
                www().subnet(2, 56, 0, &[0x20, 1, 0xd, 0xb8, 0, 0, 0]),
                option,
                a,
            ),
            // A network that begins with one of those is answered as its first address is: of 192.0.0.0/24, and
            // of Teredo (2001::/32) with a client's address that is none.
            (www().subnet(1, 16, 0, &[192, 0]), option, a),
            (www().subnet(2, 16, 0, &[0x20, 1]), option, a),
            // No address of that family at all.
            (www().subnet(0, 0, 0, &[]), option, a),
        ] {
            battery.ask(client, &subnet.bytes(), verdict, want)?;
        }
        // EDNS of another version.
        let mut query = www().edns(1232);
        query.edns.as_mut().context("set")?.version = 1;
        battery.ask(client, &query.bytes(), "pass_edns_version", "BADVERS")?;
        // Other classes.
        let mut query = www();
        query.class = 3;
        battery.ask(client, &query.bytes(), "pass_class", "REFUSED")?;
        query.class = 255;
        battery.ask(client, &query.bytes(), "pass_class", "REFUSED")?;
        let mut query = Query::new("version.bind", dns::TXT);
        query.class = 3;
        let want = concat!("TXT \"geodns ", env!("CARGO_PKG_VERSION"), "\"");
        battery.ask(client, &query.bytes(), "pass_class", want)?;
    }
    battery.finish(100)
}

#[test]
fn malformed_and_strange_messages_fare_alike() -> Result<()> {
    needs_root!();
    let mut battery = Battery::new()?;
    let www = || Query::new("www.example.org", A);
    let raw = |f: fn(&mut Query)| {
        let mut query = www();
        f(&mut query);
        query.bytes()
    };
    let cut = |octets: usize| www().bytes()[..octets].to_vec();
    let cases: Vec<(Vec<u8>, &str, &str)> = vec![
        // Responses are never answered.
        (www().flags(dns::QR).bytes(), "drop_response", "SILENCE"),
        (
            www().flags(dns::QR | dns::AA | 3).bytes(),
            "drop_response",
            "SILENCE",
        ),
        // Other opcodes.
        (www().flags(2 << 11).bytes(), "pass_header", "NOTIMP"),
        (www().flags(4 << 11).bytes(), "pass_header", "NOTAUTH"),
        (www().flags(5 << 11).bytes(), "pass_header", "NOTIMP"),
        (www().flags(15 << 11).bytes(), "pass_header", "NOTIMP"),
        // Counts (RFC 9619).
        (
            raw(|q| q.counts = Some([0, 0, 0, 0])),
            "pass_counts",
            "FORMERR",
        ),
        (
            raw(|q| q.counts = Some([2, 0, 0, 0])),
            "pass_counts",
            "FORMERR",
        ),
        (
            raw(|q| q.counts = Some([65_535; 4])),
            "pass_counts",
            "FORMERR",
        ),
        (
            raw(|q| q.counts = Some([1, 1, 0, 0])),
            "pass_counts",
            "FORMERR",
        ),
        (
            raw(|q| q.counts = Some([1, 0, 1, 0])),
            "pass_counts",
            "FORMERR",
        ),
        (
            raw(|q| q.counts = Some([1, 0, 0, 2])),
            "pass_counts",
            "FORMERR",
        ),
        // Fewer records than counted.
        (
            raw(|q| q.counts = Some([1, 0, 0, 1])),
            "pass_bad_opt",
            "FORMERR",
        ),
        // More than counted.
        (raw(|q| q.trailer = vec![0]), "pass_trailing", "FORMERR"),
        (raw(|q| q.trailer = vec![7; 30]), "pass_trailing", "FORMERR"),
        (
            raw(|q| {
                *q = q.clone().edns(1232);
                q.trailer = vec![1, 2, 3];
            }),
            "pass_trailing",
            "FORMERR",
        ),
        (
            raw(|q| {
                *q = q.clone().edns(1232);
                q.counts = Some([1, 0, 0, 0]);
            }),
            "pass_trailing",
            "FORMERR",
        ),
        // Names that are none.
        (
            raw(|q| q.name = vec![0xc0, 0x0c]),
            "pass_bad_name",
            "FORMERR",
        ),
        (
            raw(|q| q.name = b"\x03www\xc0\x0c".to_vec()),
            "pass_bad_name",
            "FORMERR",
        ),
        (
            raw(|q| q.name = b"@www\0".to_vec()),
            "pass_bad_name",
            "FORMERR",
        ),
        (
            raw(|q| q.name = b"\x80www\0".to_vec()),
            "pass_bad_name",
            "FORMERR",
        ),
        (
            raw(|q| q.name = b"?www.example.org\0".to_vec()),
            "pass_bad_name",
            "FORMERR",
        ),
        (
            raw(|q| q.name = dns::wire_name(&long_name(256, "cdn.example.org"))),
            "pass_bad_name",
            "FORMERR",
        ),
        (
            raw(|q| q.name = dns::wire_name(&long_name(400, "cdn.example.org"))),
            "pass_bad_name",
            "FORMERR",
        ),
        // Two OPTs, an OPT with a name, an OPT whose options do not add up.
        (
            raw(|q| {
                *q = q.clone().edns(1232);
                q.trailer = b"\0\0)\x04\xd0\0\0\0\0\0\0".to_vec();
                q.counts = Some([1, 0, 0, 2]);
            }),
            "pass_counts",
            "FORMERR",
        ),
        (
            raw(|q| {
                q.trailer = b"\x01a\0\0)\x04\xd0\0\0\0\0\0\0".to_vec();
                q.counts = Some([1, 0, 0, 1]);
            }),
            "pass_bad_opt",
            "FORMERR",
        ),
        (
            raw(|q| {
                q.trailer = b"\0\0)\x04\xd0\0\0\0\0\0\x05\0\x0a\0\x08\x01".to_vec();
                q.counts = Some([1, 0, 0, 1]);
            }),
            "pass_bad_opt",
            "FORMERR",
        ),
        (
            raw(|q| {
                q.trailer = b"\0\0)\x04\xd0\0\0\0\0\0\x09".to_vec();
                q.counts = Some([1, 0, 0, 1]);
            }),
            "pass_bad_opt",
            "FORMERR",
        ),
        // Not even a header: nothing to answer to.
        (cut(11), "pass_message_size", "SILENCE"),
        (cut(2), "pass_message_size", "SILENCE"),
        // A header, and less than a question.
        (cut(12), "pass_message_size", "FORMERR"),
        (cut(16), "pass_message_size", "FORMERR"),
        (cut(20), "pass_bad_name", "FORMERR"),
        (cut(31), "pass_bad_name", "FORMERR"),
    ];
    for client in ["10.2.3.4", "fd02:0:0:ffff::1"] {
        for (message, verdict, want) in &cases {
            battery.ask(client, message, verdict, want)?;
        }
        // Bits that a query does not set are no reason to refuse it.
        for flags in [dns::AA, dns::RA, dns::Z, 3] {
            battery.ask(
                client,
                &www().flags(flags).bytes(),
                "pass_header",
                address("sin", A),
            )?;
        }
        // A message over 512 octets.
        let large = www().option(PADDING, &[0; 600]).bytes();
        battery.ask(client, &large, "pass_message_size", address("sin", A))?;
        // More options than the fast path walks.
        let mut options = www();
        for code in 0..20 {
            options = options.option(65_001 + code, &[1]);
        }
        battery.ask(
            client,
            &options.bytes(),
            "pass_edns_option",
            address("sin", A),
        )?;
    }
    battery.finish(80)
}

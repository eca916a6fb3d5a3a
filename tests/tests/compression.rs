//! Names are compressed as other servers compress them: what is answered takes no more octets than Knot's, and a
//! transfer hardly more than Knot's or BIND's.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use domain::base::{Message, Ttl};
use domain::rdata::AllRecordData;
use geodns_tests::daemon::{Daemon, Setup, pool};
use geodns_tests::dns::{self, A, AXFR, CNAME, IXFR, MX, NS, Query, SOA, SRV, TXT};
use geodns_tests::needs_root;
use geodns_tests::net::{Pair, at, ip};
use geodns_tests::peers::{self, Kind, Peer};

const OURS: &str = "192.0.2.53";
const KNOTS: &str = "192.0.2.54";
const CLIENT: &str = "192.0.2.1";
const PTR: u16 = 12;
const MINFO: u16 = 14;
const RP: u16 = 17;

const ZONE: &str = "[[zone]]\nname = \"example.org\"\nfile = \"example.org.zone\"\n";

/// Aliases of pools, by their mirrors, and the same as a zone file has them.
const ALIASES: [(&str, &str); 3] = [
    ("far", "www.elsewhere.org"),
    ("near", "end.chain.example.org"),
    ("*.under", "end.under.example.org"),
];

/// The zone, with pools that make aliases.
fn body() -> String {
    let mut body = ZONE.to_owned();
    for (number, (owner, target)) in ALIASES.into_iter().enumerate() {
        body += &format!("[[mirror]]\nid = \"m{number}\"\ncname = {target:?}\n");
        body += &pool(
            &format!("p{number}"),
            &format!("mirrors = [\"m{number}\"]\npolicy = \"all\""),
        )
        .replace(
            &format!("\"p{number}.example.org\""),
            &format!("\"{owner}.example.org\""),
        );
    }
    body
}

/// A zone with names in the data of every type that is compressed, and of some that are not.
fn zone() -> String {
    let mut zone = String::from(
        "$ORIGIN example.org.\n$TTL 3600\n\
         @ IN SOA ns1 hostmaster 1 7200 900 1209600 300\n\
         @ IN NS ns1\n@ IN NS ns2.elsewhere.net.\n\
         ns1 IN A 192.0.2.1\n\
         few IN MX 10 mail\nfew IN MX 20 mail.few\nfew IN MX 30 mail.elsewhere.org.\nfew IN MX 40 .\n\
         self IN MX 10 self\n\
         *.wild IN MX 10 mail\n*.wild IN MX 20 mail.wild\n*.wild IN MX 30 a.mail.wild\n\
         *.away IN CNAME www.elsewhere.org.\n\
         away IN CNAME www.elsewhere.org.\n\
         to IN CNAME chain\nchain IN CNAME end.chain\nend.chain IN TXT here\n\
         four.reverse IN PTR one.example.org.\nfour.reverse IN PTR two.one.example.org.\n\
         box IN MINFO admin.example.org. errors.admin.example.org.\n\
         who IN RP admin.example.org. text.example.org.\n\
         _sip._tcp IN SRV 0 0 5060 sip.example.org.\n\
         moved IN DNAME elsewhere.example.org.\n",
    );
    for number in 0..20 {
        zone += &format!("many IN MX {number} mail{number}\n*.much IN MX {number} mail{number}\n");
    }
    for letter in 'a'..='m' {
        zone += &format!("sub IN NS {letter}.servers.elsewhere.net.\n");
        zone += &format!("here IN NS {letter}.ns.here\n{letter}.ns.here IN A 192.0.2.9\n");
    }
    zone
}

/// Octets up to the additional section, and the records before that.
fn read(message: &[u8]) -> Result<(usize, Vec<String>)> {
    let parsed = Message::from_octets(message).ok().context("no message")?;
    let mut records = Vec::new();
    let mut section = parsed.answer()?;
    for _ in 0..2 {
        for record in section.by_ref() {
            let record = record?.to_record::<AllRecordData<_, _>>()?;
            let mut record = record.context("no such data")?;
            // Knot gives the CNAME that follows from a DNAME no TTL of its own.
            record.set_ttl(Ttl::ZERO);
            records.push(record.to_string());
        }
        section = section.next_section()?.context("no next section")?;
    }
    Ok((section.pos(), records))
}

#[test]
fn answers_are_no_longer_than_those_of_knot() -> Result<()> {
    needs_root!();
    let pair = Pair::new(&[])?;
    let mut daemon = Daemon::start(
        &pair.server,
        &Setup::new(&[OURS])
            .mode("native")
            .body(&body())
            .file("example.org.zone", &zone()),
    )?;
    let aliases = ALIASES.map(|(owner, target)| format!("{owner} IN CNAME {target}.\n"));
    let knot = Peer::start(
        &pair.server,
        Kind::Knot,
        &peers::Setup {
            listen: vec![ip(KNOTS)],
            zones: vec![("example.org".to_owned(), zone() + &aliases.concat())],
            ..peers::Setup::default()
        },
    )?;
    let mut said = Vec::new();
    for (name, qtype) in [
        ("example.org", SOA),
        ("example.org", NS),
        ("no.such.example.org", A),
        ("ns1.example.org", TXT),
        ("few.example.org", MX),
        ("self.example.org", MX),
        ("many.example.org", MX),
        ("host.wild.example.org", MX),
        ("a.b.c.wild.example.org", MX),
        ("a.mail.wild.example.org", MX),
        ("host.wild.example.org", A),
        ("host.much.example.org", MX),
        ("www.away.example.org", A),
        ("away.example.org", CNAME),
        ("to.example.org", TXT),
        ("four.reverse.example.org", PTR),
        ("box.example.org", MINFO),
        ("who.example.org", RP),
        ("_sip._tcp.example.org", SRV),
        ("www.moved.example.org", A),
        ("www.sub.example.org", A),
        ("www.here.example.org", A),
        ("far.example.org", A),
        ("far.example.org", CNAME),
        ("near.example.org", CNAME),
        ("a.under.example.org", CNAME),
        ("a.b.c.under.example.org", CNAME),
    ] {
        for plain in [true, false] {
            let query = match plain {
                true => Query::new(name, qtype),
                false => Query::new(name, qtype).edns(1232),
            };
            let ask = |to| {
                let socket = pair.client.udp(ip(CLIENT), at(to, 53)?)?;
                let patience = Duration::from_secs(10);
                dns::ask(&socket, &query.bytes(), patience)?.context("no answer")
            };
            let (ours, theirs) = (ask(OURS)?, ask(KNOTS)?);
            let is_cut = |message: &[u8]| message[2] & 2 != 0;
            ensure!(
                !is_cut(&ours) || is_cut(&theirs),
                "{name}: TC, where Knot has all of it"
            );
            let ((our_len, our_records), (their_len, their_records)) =
                (read(&ours)?, read(&theirs)?);
            if is_cut(&theirs) {
                continue;
            }
            ensure!(
                our_records == their_records,
                "{name}: {our_records:#?}, not {their_records:#?}"
            );
            // The SOA of a negative answer is made once for its zone: its names point to the apex, and not to labels
            // before it that they happen to share with the question.
            let shared = if name == "ns1.example.org" { 4 } else { 0 };
            ensure!(
                our_len <= their_len + shared,
                "{name}: {our_len} octets, Knot {their_len}:\n{ours:02x?}\n{theirs:02x?}"
            );
            said.push(format!("{name}: {our_len} ({their_len})"));
        }
    }
    println!("{}", said.join("\n"));
    // Types that came later are written as they are (RFC 3597 section 4).
    let counters = daemon.counters()?;
    for verdict in ["static", "nodata", "nxdomain", "answered"] {
        ensure!(
            counters.get(verdict).is_some_and(|count| *count > 0),
            "{verdict}: {counters:?}"
        );
    }
    knot.stop()?;
    daemon.stop()
}

/// A zone with names of every kind that is transferred, each more than once.
fn large(serial: u32) -> String {
    let mut zone = format!(
        "$ORIGIN example.org.\n$TTL 3600\n@ IN SOA ns1 hostmaster {serial} 7200 900 1209600 300\n\
         @ IN NS ns1\n@ IN NS ns2.elsewhere.net.\nns1 IN A 192.0.2.1\n"
    );
    for number in 0..7 {
        zone += &format!("mail{number} IN A 192.0.2.{number}\n");
    }
    for number in 0..2000 {
        let mail = number % 7;
        zone += &format!("host{number} IN A 10.0.{}.{}\n", number / 256, number % 256);
        zone += &match number % 5 {
            0 => format!(
                "host{number} IN MX 10 mail{mail}\nhost{number} IN MX 20 mail.elsewhere.net.\n"
            ),
            1 => format!("alias{number} IN CNAME host{number}\n"),
            2 => format!(
                "part{number} IN NS ns1.part{number}\npart{number} IN NS ns2.elsewhere.net.\n\
                 ns1.part{number} IN A 192.0.2.53\n"
            ),
            3 => format!(
                "{number}.reverse IN PTR host{number}\n_x._tcp.host{number} IN SRV 0 0 1 host{number}\n"
            ),
            _ => format!("a.b.host{number} IN TXT \"text {number}\"\n"),
        };
    }
    if serial > 1 {
        zone += "gone IN CNAME mail3\n";
        for number in 0..100 {
            zone += &format!(
                "more{number} IN MX {number} mail4\nother{number} IN CNAME more{number}\n"
            );
        }
    }
    zone
}

/// Octets of a transfer, its messages' headers included, and its records but for the SOA records, which are so
/// many.
fn transfer(
    pair: &Pair,
    from: &str,
    query: &[u8],
    soas: usize,
) -> Result<(usize, BTreeSet<String>)> {
    let mut stream = pair.client.tcp(ip(CLIENT), at(from, 53)?)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    stream.write_all(&[&(query.len() as u16).to_be_bytes(), query].concat())?;
    let (mut octets, mut records, mut left) = (0, BTreeSet::new(), soas);
    while left > 0 {
        let mut len = [0; 2];
        stream.read_exact(&mut len)?;
        let mut message = vec![0; u16::from_be_bytes(len).into()];
        stream.read_exact(&mut message)?;
        octets += 2 + message.len();
        let parsed = Message::from_octets(&message).ok().context("no message")?;
        for record in parsed.answer()? {
            let record = record?.to_record::<AllRecordData<_, _>>()?;
            let record = record.context("no such data")?;
            match record.rtype().to_int() {
                SOA => left = left.checked_sub(1).context("too many SOA records")?,
                _ => drop(records.insert(record.to_string())),
            }
        }
    }
    Ok((octets, records))
}

/// Waits until a server has the second version.
fn has_second(pair: &Pair, at_address: &str) -> Result<()> {
    let end = Instant::now() + Duration::from_secs(30);
    let socket = pair.client.udp(ip(CLIENT), at(at_address, 53)?)?;
    let query = Query::new("example.org", SOA).bytes();
    loop {
        let answer = dns::ask(&socket, &query, Duration::from_secs(2))?;
        let (_, records) = read(&answer.context("no answer")?)?;
        if records.iter().any(|record| record.contains(" 2 7200 ")) {
            return Ok(());
        }
        ensure!(Instant::now() < end, "{at_address}: {records:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn transfers_are_hardly_longer_than_those_of_knot_and_bind() -> Result<()> {
    needs_root!();
    let pair = Pair::bare(&[])?;
    let body = format!("{ZONE}allow_transfer = [\"192.0.2.0/24\"]\n");
    let setup = |serial| {
        Setup::new(&[OURS])
            .mode("off")
            .body(&body)
            .file("example.org.zone", &large(serial))
    };
    let axfr = Query::new("example.org", AXFR).bytes();
    // With the SOA record of the version that there is (RFC 1995 section 3): its serial counts.
    let mut ixfr = Query::new("example.org", IXFR).bytes();
    ixfr[9] = 1;
    ixfr.extend(b"\xc0\x0c\0\x06\0\x01\0\0\0\0\0\x16\0\0\0\0\0\x01");
    ixfr.extend([0; 16]);
    let both = |from: &str, reload: &dyn Fn() -> Result<()>| -> Result<[_; 2]> {
        let whole = transfer(&pair, from, &axfr, 2)?;
        reload()?;
        has_second(&pair, from)?;
        Ok([whole, transfer(&pair, from, &ixfr, 4)?])
    };

    let mut daemon = Daemon::start(&pair.server, &setup(1))?;
    let ours = both(OURS, &|| {
        daemon.home.write(&setup(2))?;
        daemon.ok("reload example.org").map(drop)
    })?;
    daemon.stop()?;
    for kind in [Kind::Knot, Kind::Bind] {
        let (of_zone, rest) = match kind {
            Kind::Knot => (
                "    acl: ask\n    zonefile-load: difference\n",
                "acl:\n  - id: ask\n    address: 192.0.2.0/24\n    action: transfer\n",
            ),
            _ => (
                "  allow-transfer { any; };\n  ixfr-from-differences yes;\n",
                "",
            ),
        };
        let peer = Peer::start(
            &pair.server,
            kind,
            &peers::Setup {
                listen: vec![ip(KNOTS)],
                zones: vec![("example.org".to_owned(), large(1))],
                of_zone: of_zone.to_owned(),
                rest: rest.to_owned(),
                ..peers::Setup::default()
            },
        )?;
        let theirs = both(KNOTS, &|| {
            peer.write_zone("example.org", &large(2))?;
            peer.reload()
        })?;
        for (what, ours, theirs) in [
            ("AXFR", &ours[0], &theirs[0]),
            ("IXFR", &ours[1], &theirs[1]),
        ] {
            println!("{what}: {} octets, {kind:?} {}", ours.0, theirs.0);
            let differ: Vec<_> = ours.1.symmetric_difference(&theirs.1).take(10).collect();
            ensure!(differ.is_empty(), "{what}, {kind:?}: {differ:#?}");
            ensure!(
                ours.0 as f64 <= 1.02 * theirs.0 as f64,
                "{what}: {} octets, {kind:?} {}",
                ours.0,
                theirs.0
            );
        }
        peer.stop()?;
    }
    Ok(())
}

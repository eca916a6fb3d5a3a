//! Names are compressed as other servers compress them: what is answered takes no more octets than Knot's.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use domain::base::{Message, Ttl};
use domain::rdata::AllRecordData;
use geodns_tests::daemon::{Daemon, Setup, at, ip};
use geodns_tests::dns::{self, A, CNAME, MX, NS, Query, SOA, SRV, TXT};
use geodns_tests::needs_root;
use geodns_tests::peers::{self, Kind, Peer};
use geodns_tests::world::Pair;

const OURS: &str = "192.0.2.53";
const KNOTS: &str = "192.0.2.54";
const CLIENT: &str = "192.0.2.1";
const PTR: u16 = 12;
const MINFO: u16 = 14;
const RP: u16 = 17;

const BODY: &str = "[[zone]]\nname = \"example.org\"\nfile = \"example.org.zone\"\n";

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
            .body(BODY)
            .file("example.org.zone", &zone()),
    )?;
    let knot = Peer::start(
        &pair.server,
        Kind::Knot,
        &peers::Setup {
            listen: vec![ip(KNOTS)],
            zones: vec![("example.org".to_owned(), zone())],
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
    for verdict in ["static", "nodata", "nxdomain"] {
        ensure!(
            counters.get(verdict).is_some_and(|count| *count > 0),
            "{verdict}: {counters:?}"
        );
    }
    knot.stop()?;
    daemon.stop()
}

//! The RFCs' rules of answers, case by case: asked of the program in the driver, of the slow path over
//! UDP and over TCP, and of real Knot DNS, NSD and BIND on the same zones.
//!
//! Each case says what ours must answer. Where another server answers otherwise, [`EXPLAINED`] says why;
//! a difference that is not in it fails.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use domain::base::{Message, ParsedRecord, Rtype};
use domain::rdata::AllRecordData;
use geodns::serve::{Identity, Transport};
use geodns_common::respond::respond;
use geodns_common::scratch::Scratch;
use geodns_tests::cases::{case, run};
use geodns_tests::daemon::{Daemon, Setup};
use geodns_tests::dns::{self, A, AAAA, ANY, CNAME, HTTPS, MX, NS, NSID, Query, SOA, SRV, TXT};
use geodns_tests::net::{Pair, at, ip};
use geodns_tests::peers::{self, Kind, Peer};
use geodns_tests::{needs_root, world};

const IXFR: u16 = 251;
const AXFR: u16 = 252;
const DNAME: u16 = 39;
const DS: u16 = 43;

/// The world of all servers.
const WORLD: &str = "rfcs";

/// One question, and the gist of our answer.
struct Case {
    rfc: &'static str,
    query: Query,
    want: &'static str,
}

/// RFC and section, name, type, and the answer's gist.
const CASES: &[(&str, &str, u16, &str)] = &[
    // The answers that RFC 4592 gives itself.
    ("4592 2.2.1", "host3.example", MX, "10 host1.example."),
    ("4592 2.2.1", "host3.example", A, "NODATA"),
    (
        "4592 2.2.1",
        "foo.bar.example",
        TXT,
        "\"this is a wildcard\"",
    ),
    ("4592 2.2.1", "host1.example", MX, "NODATA"),
    ("4592 2.2.1", "sub.*.example", MX, "NODATA"),
    ("4592 2.2.1", "_telnet._tcp.host1.example", SRV, "NXDOMAIN"),
    ("4592 2.2.1", "host.subdel.example", A, "REFERRAL"),
    ("4592 2.2.1", "ghost.*.example", MX, "NXDOMAIN"),
    // And what follows from them.
    ("4592 2.1.3", "*.example", TXT, "\"this is a wildcard\""),
    ("4592 2.1.3", "*.example", A, "NODATA"),
    ("4592 2.2.2", "_tcp.host1.example", SRV, "NODATA"),
    ("4592 2.2.2", "host2.example", TXT, "NODATA"),
    ("4592 2.2.2", "x.host2.example", TXT, "NXDOMAIN"),
    ("4592 3.3.1", "a.b.c.wild.rfc.test", A, "192.0.2.99"),
    ("4592 3.3.1", "x.wild.rfc.test", A, "NODATA"),
    ("4592 3.3.1", "y.x.wild.rfc.test", A, "NXDOMAIN"),
    ("4592 3.3.1", "wild.rfc.test", A, "NODATA"),
    ("4592 3.3.1", "b.sub.wild2.rfc.test", A, "192.0.2.98"),
    ("4592 3.3.1", "b.wild2.rfc.test", A, "NXDOMAIN"),
    ("4592 4.5", "b.wild.rfc.test", SRV, "NODATA"),
    (
        "4592 4.4",
        "x.walias.rfc.test",
        A,
        "host.rfc.test. 192.0.2.7 192.0.2.8",
    ),
    ("4592 4.4", "x.walias.rfc.test", CNAME, "host.rfc.test."),
    // RFC 1034 section 4.3.2.
    ("1034 4.3.2", "host.rfc.test", A, "192.0.2.7 192.0.2.8"),
    ("1034 4.3.2", "host.rfc.test", TXT, "\"two\" \"strings\""),
    ("1034 4.3.2", "HoSt.RFC.test", AAAA, "2001:db8::7"),
    (
        "1034 4.3.2",
        "rfc.test",
        SOA,
        "ns1.rfc.test. hostmaster.rfc.test. 7 7200 900 1209600 300",
    ),
    ("1034 4.3.2", "rfc.test", NS, "ns.other.test. ns1.rfc.test."),
    ("1034 4.3.2", "rfc.test", MX, "10 mail.rfc.test."),
    ("1034 4.3.2", "child.rfc.test", A, "REFERRAL"),
    ("1034 4.3.2", "child.rfc.test", NS, "REFERRAL"),
    ("1034 4.3.2", "www.child.rfc.test", A, "REFERRAL"),
    ("1034 4.3.2", "ns1.child.rfc.test", A, "REFERRAL"),
    ("1034 4.3.2", "a.b.c.child.rfc.test", TXT, "REFERRAL"),
    ("1034 4.3.2", "below.rfc.test", A, "REFERRAL"),
    ("1034 4.3.2", "signed.rfc.test", A, "REFERRAL"),
    (
        "1034 3.6.2",
        "alias.rfc.test",
        A,
        "host.rfc.test. 192.0.2.7 192.0.2.8",
    ),
    ("1034 3.6.2", "alias.rfc.test", CNAME, "host.rfc.test."),
    ("1034 3.6.2", "alias.rfc.test", MX, "host.rfc.test."),
    (
        "1034 3.6.2",
        "deep.rfc.test",
        AAAA,
        "alias.rfc.test. host.rfc.test. 2001:db8::7",
    ),
    (
        "1034 3.6.2",
        "outside.rfc.test",
        A,
        "www.elsewhere.invalid.",
    ),
    (
        "1034 3.6.2",
        "outside.rfc.test",
        CNAME,
        "www.elsewhere.invalid.",
    ),
    ("1034 3.6.2", "far.rfc.test", A, "host1.example. 192.0.2.1"),
    ("1034 3.6.2", "tocut.rfc.test", A, "www.child.rfc.test."),
    (
        "1034 5.2.2",
        "loop1.rfc.test",
        A,
        "loop2.rfc.test. loop1.rfc.test.",
    ),
    ("1034 5.2.2", "self.rfc.test", A, "self.rfc.test."),
    // RFC 2308: the SOA, and what is beside a chain.
    ("2308 2.1", "missing.rfc.test", A, "NXDOMAIN"),
    ("2308 2.1", "a.b.c.missing.rfc.test", A, "NXDOMAIN"),
    ("2308 2.1", "nowhere.rfc.test", A, "NXDOMAIN"),
    ("2308 2.2", "host.rfc.test", MX, "NODATA"),
    ("2308 2.2", "ent.rfc.test", A, "NODATA"),
    ("2308 2.2", "b.ent.rfc.test", TXT, "NODATA"),
    ("8020 2", "x.ent.rfc.test", TXT, "NXDOMAIN"),
    // RFC 6672.
    (
        "6672 3.2",
        "a.dname.rfc.test",
        A,
        "target.rfc.test. a.target.rfc.test. 192.0.2.66",
    ),
    ("6672 3.2", "b.dname.rfc.test", A, "NXDOMAIN"),
    ("6672 3.2", "dname.rfc.test", DNAME, "target.rfc.test."),
    ("6672 2.3", "dname.rfc.test", A, "NODATA"),
    (
        "6672 3.1",
        "a.dname.rfc.test",
        CNAME,
        "target.rfc.test. a.target.rfc.test.",
    ),
    (
        "6672 3.2",
        "host1.dtofar.rfc.test",
        A,
        "example. host1.example. 192.0.2.1",
    ),
    (
        "6672 2.2",
        "a.dname.rfc.test",
        DNAME,
        "target.rfc.test. a.target.rfc.test.",
    ),
    (
        "6672 2.2",
        "ddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd.ddddddddddddddddddddd.dlong.rfc.test",
        A,
        "YXDOMAIN",
    ),
    // The parent has the DS, the child has the rest (RFC 4035 section 3.1.4.1).
    (
        "4035 3.1.4.1",
        "signed.rfc.test",
        DS,
        "12345 13 2 000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f",
    ),
    ("4035 3.1.4.1", "child.rfc.test", DS, "NODATA"),
    ("4035 3.1.4.1", "served.rfc.test", DS, "NODATA"),
    ("2181 6.1", "served.rfc.test", TXT, "\"below\""),
    ("2181 6.1", "served.rfc.test", NS, "ns.other.test."),
    ("2181 6.1", "ns.served.rfc.test", A, "192.0.2.88"),
    ("2181 6.1", "missing.served.rfc.test", A, "NXDOMAIN"),
    // Types known and unknown.
    ("3597 2", "unknown.rfc.test", 65280, "\\# 4 de ad be ef"),
    ("3597 2", "host.rfc.test", 65281, "NODATA"),
    (
        "9460 2",
        "svc.rfc.test",
        HTTPS,
        "1 . alpn=h2,h3 ipv4hint=192.0.2.7",
    ),
    ("2782", "srv.rfc.test", SRV, "1 2 53 host.rfc.test"),
    ("8659 4", "caa.rfc.test", 257, "0 issue \"ca.test\""),
    (
        "3403 4",
        "naptr.rfc.test",
        35,
        "100 10 \"s\" \"x\" \"\" _sip._udp.rfc.test.",
    ),
    // Sizes.
    ("1035 4.2.1", "large.rfc.test", A, "TC"),
    ("1035 4.2.1", "huge.rfc.test", AAAA, "TC"),
    ("9471 3.1", "x.crowd.rfc.test", A, "TC"),
    // Not ours.
    ("1034 4.3.2", "elsewhere.test", A, "REFUSED"),
    ("1034 4.3.2", ".", NS, "REFUSED"),
];

fn cases() -> Vec<Case> {
    let plain = CASES.iter().map(|&(rfc, name, qtype, want)| Case {
        rfc,
        query: Query::new(name, qtype),
        want,
    });
    let case = |rfc, query, want| Case { rfc, query, want };
    let opt = |size| Query::new("host.rfc.test", A).edns(size);
    let mut version = opt(1232);
    if let Some(edns) = &mut version.edns {
        edns.version = 1;
    }
    let mut two = opt(1232);
    two.trailer = two.bytes()[two.bytes().len() - 11..].to_vec();
    two.counts = Some([1, 0, 0, 2]);
    let mut none = Query::new("host.rfc.test", A);
    none.counts = Some([0, 0, 0, 0]);
    none.name.clear();
    let mut class = Query::new("host.rfc.test", A);
    class.class = 4;
    let opcode = |opcode: u16| Query::new("host.rfc.test", A).flags(opcode << 11);
    let extra = vec![
        case("6891 6.2.3", opt(0), "192.0.2.7 192.0.2.8"),
        case("6891 6.2.3", opt(512), "192.0.2.7 192.0.2.8"),
        case("6891 6.1.3", version, "BADVERS"),
        case("6891 6.1.1", two, "FORMERR"),
        case(
            "6891 6.1.2",
            opt(1232).option(65_001, b"x"),
            "192.0.2.7 192.0.2.8",
        ),
        case("6891 6.1.4", opt(1232).dnssec_ok(), "192.0.2.7 192.0.2.8"),
        case(
            "6891 6.2.3",
            Query::new("large.rfc.test", A).edns(1232),
            "LARGE",
        ),
        case(
            "6891 6.2.3",
            Query::new("huge.rfc.test", AAAA).edns(4096),
            "TC",
        ),
        case(
            "6891 7",
            Query::new("missing.rfc.test", A).edns(1232),
            "NXDOMAIN",
        ),
        case("5001 2", opt(1232).option(NSID, b""), "192.0.2.7 192.0.2.8"),
        case(
            "9471 3.1",
            Query::new("x.crowd.rfc.test", A).edns(1232),
            "REFERRAL",
        ),
        case(
            "8482 4",
            Query::new("host.rfc.test", ANY),
            "192.0.2.7 192.0.2.8",
        ),
        case("8482 4", Query::new("missing.rfc.test", ANY), "NXDOMAIN"),
        case("8482 4", Query::new("ent.rfc.test", ANY), "NODATA"),
        case("9619 3", none, "FORMERR"),
        case("1035 4.1.1", opcode(1), "NOTIMP"),
        case("1035 4.1.1", opcode(2), "NOTIMP"),
        case("1035 4.1.1", opcode(6), "NOTIMP"),
        case("6895 3.2", class, "REFUSED"),
        case("1995 2", Query::new("elsewhere.test", IXFR), "NOTAUTH"),
        case("5936 4.2", Query::new("rfc.test", AXFR), "NOTIMP"),
    ];
    plain.chain(extra).collect()
}

/// Where another server answers otherwise: which, what its case begins with (RFC, name and type), why.
const EXPLAINED: &[(&[Kind], &str, &str)] = &[
    (
        &[Kind::Knot, Kind::Bind],
        "1034 3.6.2 far.rfc.test. A",
        "it does not follow an alias into another of its zones; NSD and we do (RFC 1034 section 4.3.2)",
    ),
    (
        &[Kind::Knot, Kind::Bind],
        "6672 3.2 host1.dtofar.rfc.test. A",
        "it does not follow an alias into another of its zones; NSD and we do (RFC 1034 section 4.3.2)",
    ),
    (
        &[Kind::Bind],
        "1034 5.2.2 ",
        "it says that a loop is a failure; to us what the zone says is no failure of ours",
    ),
    (
        &[Kind::Bind],
        "1035 4.2.1 ",
        "it fills a truncated answer; nobody may use what is in it (RFC 2181 section 9)",
    ),
    (
        &[Kind::Knot],
        "9471 3.1 x.crowd.rfc.test. A",
        "it leaves the name servers in a truncated referral; ours is empty, as all truncated ones",
    ),
    (
        &[Kind::Nsd, Kind::Bind],
        "9471 3.1 x.crowd.rfc.test. A",
        "it leaves required glue out without saying so, as servers did before RFC 9471",
    ),
    (
        &[Kind::Knot, Kind::Nsd, Kind::Bind],
        "6891 6.1.1 ",
        "of a query with two OPT records it takes none; it had one, so our response has (RFC 6891 section 7)",
    ),
    (
        &[Kind::Bind],
        "8482 4 host.rfc.test. ANY",
        "it gives everything; we one RRset (RFC 8482 section 4.1)",
    ),
    (
        &[Kind::Knot],
        "9619 3 ",
        "it drops a query without a question",
    ),
    (
        &[Kind::Bind],
        "5936 4.2 rfc.test. AXFR",
        "an AXFR over UDP is not defined: FORMERR; we say NOTIMP, as the others do",
    ),
];

/// Why a section of additional data may differ: nobody has to send it, but for glue.
fn more_or_less(ours: &Answer, theirs: &Answer) -> Option<&'static str> {
    let rest = |answer: &Answer| {
        let [answers, authority, _] = answer.sections.clone();
        (
            answer.status.clone(),
            answer.authoritative,
            answer.truncated,
            answers,
            authority,
        )
    };
    if rest(ours) != rest(theirs) || ours.edns != theirs.edns {
        None
    } else if ours.sections[2].is_subset(&theirs.sections[2]) {
        Some(
            "it adds addresses of what the answer names, which nobody needs (RFC 2181 section 5.4.1)",
        )
    } else if theirs.sections[2].is_subset(&ours.sections[2]) {
        Some(
            "we add addresses of servers beside the cut, where there is room (RFC 9471 section 3.2)",
        )
    } else {
        None
    }
}

/// A response, so that it can be compared with another server's: RCODE, AA, TC and the sections, each
/// sorted, names in lower case.
#[derive(Debug, PartialEq, Eq)]
struct Answer {
    status: String,
    authoritative: bool,
    truncated: bool,
    edns: bool,
    sections: [BTreeSet<String>; 3],
    gist: String,
}

impl Answer {
    fn parse(bytes: &[u8]) -> Result<Self> {
        let reply = dns::Reply::parse(bytes)?;
        let message = Message::from_octets(bytes).map_err(|_| anyhow::anyhow!("too short"))?;
        let mut sections = [BTreeSet::new(), BTreeSet::new(), BTreeSet::new()];
        let mut gist = Vec::new();
        let mut section = message.answer()?;
        for (number, lines) in sections.iter_mut().enumerate() {
            for record in &mut section {
                let record = record?;
                if record.rtype() == Rtype::OPT {
                    continue;
                }
                let (line, data) = line(&record)?;
                lines.insert(line);
                if number == 0 {
                    gist.push(data);
                }
            }
            match section.next_section()? {
                Some(next) => section = next,
                None => break,
            }
        }
        let has = |rtype: &str| {
            let mut lines = sections[1].iter();
            lines.any(|line| line.split(' ').nth(2) == Some(rtype))
        };
        let truncated = reply.flags & dns::TC != 0;
        let gist = match reply.status() {
            // Which addresses these are, the other servers say.
            _ if sections[0].len() == 31 => "LARGE".to_owned(),
            status if reply.rcode == 6 => status.replace("RCODE6", "YXDOMAIN"),
            status if reply.rcode != 0 => status,
            _ if truncated => "TC".to_owned(),
            _ if !gist.is_empty() => gist.join(" "),
            _ if has("SOA") => "NODATA".to_owned(),
            _ if has("NS") => "REFERRAL".to_owned(),
            _ => "EMPTY".to_owned(),
        };
        Ok(Self {
            status: reply.status(),
            authoritative: reply.flags & dns::AA != 0,
            truncated,
            edns: reply.opt.is_some(),
            sections,
            gist,
        })
    }
}

impl std::fmt::Display for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let flag = |set, name| if set { name } else { "" };
        write!(
            f,
            "{}{}{}",
            self.status,
            flag(self.authoritative, " aa"),
            flag(self.truncated, " tc")
        )?;
        for (name, section) in ["answer", "authority", "additional"]
            .iter()
            .zip(&self.sections)
        {
            for line in section {
                write!(f, " | {name} {line}")?;
            }
        }
        write!(f, "{}", flag(self.edns, " | edns"))
    }
}

/// A record as `OWNER TTL TYPE RDATA` in lower case, and its RDATA.
fn line(record: &ParsedRecord<'_, &[u8]>) -> Result<(String, String)> {
    let data = record
        .to_record::<AllRecordData<_, _>>()?
        .context("no such record data")?;
    let data = data.data().to_string();
    let line = format!(
        "{} {} {} {}",
        record.owner().to_string().to_ascii_lowercase(),
        record.ttl().as_secs(),
        record.rtype(),
        data.to_ascii_lowercase()
    );
    Ok((line, data))
}

const PEERS: [(Kind, &str); 3] = [
    (Kind::Knot, "192.0.2.61"),
    (Kind::Nsd, "192.0.2.62"),
    (Kind::Bind, "192.0.2.63"),
];

/// Asks both paths on the host: the slow path's answer comes to what the case wants, and the fast path's, if it has
/// one, has the same octets.
fn answer_on_the_host(case: &Case) -> Result<()> {
    let world = world::compiled(WORLD)?;
    let identity = Identity {
        id: None,
        nsid: world.inputs.config.server.nsid(),
        version: None,
        cookies: None,
    };
    let (message, client) = (case.query.bytes(), ip("192.0.2.1"));
    let mut slow = Vec::new();
    let udp = Transport::Udp;
    ensure!(
        geodns::serve::answer(&world, &identity, &message, client, udp, &mut slow),
        "no answer"
    );
    let answer = Answer::parse(&slow)?;
    ensure!(
        answer.gist == case.want,
        "want {}\n    got {answer}",
        case.want
    );
    let mut scratch = Box::new(Scratch::new());
    ensure!(scratch.set_query(&message, client), "too long");
    let plan = world.plan.read().expect("not poisoned");
    if respond(&mut scratch, &*plan).is_answer() {
        let fast = scratch.message();
        ensure!(fast == slow, "the fast path has {}", Answer::parse(fast)?);
    }
    Ok(())
}

fn main() -> ExitCode {
    let name = "answers are what the rfcs and other servers say";
    let mut tests = vec![case(name, answers_are_what_the_rfcs_and_other_servers_say)];
    // Transfers need a server: the test above asks for them.
    let alone = cases()
        .into_iter()
        .filter(|row| !matches!(row.query.qtype, IXFR | AXFR));
    tests.extend(alone.map(|row| {
        let name = format!("as RFC {}", case_name(row.rfc, &row.query));
        case(&name, move || answer_on_the_host(&row))
    }));
    run(tests)
}

fn answers_are_what_the_rfcs_and_other_servers_say() -> Result<()> {
    needs_root!();
    let pair = Pair::new(&[])?;
    for (_, address) in PEERS {
        pair.server
            .ip(&format!("address add {address}/24 dev eth0"))?;
    }
    let zones = ["example", "rfc.test", "served.rfc.test"];
    let zones = zones.map(|zone| (zone.to_owned(), world::text(WORLD, &format!("{zone}.zone"))));
    let ours = |listen: &str, mode: &str| {
        Daemon::start(&pair.server, &Setup::world(WORLD, &[listen]).mode(mode))
    };
    let fast = ours("192.0.2.53", "native")?;
    let slow = ours("192.0.2.54", "off")?;
    let mut peers = Vec::new();
    for (kind, address) in PEERS {
        let setup = peers::Setup {
            listen: vec![address.parse()?],
            zones: zones.to_vec(),
            ..peers::Setup::default()
        };
        let peer = Peer::start(&pair.server, kind, &setup)?;
        println!("{kind:?}: {}", peer.version);
        peers.push((
            peer,
            pair.client.udp("192.0.2.1".parse()?, at(address, 53)?)?,
        ));
    }

    let from: IpAddr = "192.0.2.1".parse()?;
    let fast_udp = pair.client.udp(from, at("192.0.2.53", 53)?)?;
    let slow_udp = pair.client.udp(from, at("192.0.2.54", 53)?)?;
    let to: SocketAddr = at("192.0.2.54", 53)?;
    let mut slow_tcp = pair.client.tcp(from, to)?;
    let patience = Duration::from_secs(5);
    let mut wrong = Vec::new();
    let mut differ = Vec::new();
    let mut explained = Vec::new();
    let cases = cases();
    for Case { rfc, query, want } in &cases {
        let message = query.bytes();
        let name = case_name(rfc, query);
        let ask = |socket| -> Result<Vec<u8>> {
            dns::ask(socket, &message, patience)?.with_context(|| format!("{name}: no answer"))
        };
        let (kernel, slow) = (ask(&fast_udp)?, ask(&slow_udp)?);
        let answer = Answer::parse(&slow)?;
        if kernel != slow {
            wrong.push(format!(
                "{name}: the paths differ:\n    kernel {}\n    slow   {answer}",
                Answer::parse(&kernel)?
            ));
        }
        if answer.gist != *want {
            wrong.push(format!("{name}: want {want}\n    got {answer}"));
        }
        let tcp = dns::ask_tcp(&mut slow_tcp, &message);
        // An AXFR over TCP is another matter.
        if query.qtype != AXFR {
            let tcp = Answer::parse(&tcp?)?;
            if answer.truncated {
                if tcp.truncated || tcp.sections == answer.sections {
                    wrong.push(format!("{name}: truncated, and over TCP {tcp}"));
                }
            } else if tcp != answer && tcp.sections[..2] != answer.sections[..2] {
                wrong.push(format!("{name}: over UDP {answer}\n    over TCP {tcp}"));
            }
        } else {
            slow_tcp = pair.client.tcp(from, to)?;
        }
        for (peer, socket) in &peers {
            let reply = dns::ask(socket, &message, patience)?;
            let theirs = reply.as_deref().map(Answer::parse).transpose()?;
            if theirs.as_ref() == Some(&answer) {
                continue;
            }
            let said = EXPLAINED
                .iter()
                .find(|(kinds, case, _)| kinds.contains(&peer.kind) && name.starts_with(case));
            let why = match (said, &theirs) {
                (Some((_, _, why)), _) => Some(*why),
                (None, Some(theirs)) => more_or_less(&answer, theirs),
                (None, None) => None,
            };
            match why {
                Some(why) => explained.push((peer.kind, why, name.clone())),
                None => differ.push(format!(
                    "{name}:\n    ours   {answer}\n    {:<6} {}",
                    format!("{:?}", peer.kind),
                    theirs.map_or("no answer".to_owned(), |theirs| theirs.to_string())
                )),
            }
        }
    }
    explained.sort();
    for (kind, why, name) in &explained {
        println!("{kind:?}, {name}: {why}");
    }
    for (peer, _) in peers {
        peer.stop()?;
    }
    if !wrong.is_empty() || !differ.is_empty() {
        bail!(
            "{} wrong, {} unexplained of {} cases:\n{}\n{}\n{}",
            wrong.len(),
            differ.len(),
            cases.len(),
            wrong.join("\n"),
            differ.join("\n"),
            fast.log()
        );
    }
    ensure!(cases.len() > 80, "too few cases");
    let (mut fast, mut slow) = (fast, slow);
    fast.stop()?;
    slow.stop()
}

/// `RFC NAME TYPE`, and what else is special.
fn case_name(rfc: &str, query: &Query) -> String {
    let mut name = String::new();
    let mut at = 0;
    while let Some(&len) = query.name.get(at).filter(|&&len| len > 0) {
        let label = &query.name[at + 1..at + 1 + usize::from(len)];
        let _ = write!(name, "{}.", String::from_utf8_lossy(label));
        at += 1 + usize::from(len);
    }
    let qtype = Rtype::from_int(query.qtype);
    let mut text = format!("{rfc} {name} {qtype}");
    if let Some(edns) = &query.edns {
        let _ = write!(text, " edns {} size {}", edns.version, edns.size);
        for (code, _) in &edns.options {
            let _ = write!(text, " option {code}");
        }
    }
    if query.flags != 0 {
        let _ = write!(text, " flags {:#06x}", query.flags);
    }
    if query.class != 1 {
        let _ = write!(text, " class {}", query.class);
    }
    text
}

//! Manners of transfers: what becomes of each way in which a primary may send a zone, or what has changed in it,
//! here and at BIND, Knot DNS and NSD. `docs/transfers.md` has it as a table, which this compares with: a
//! difference of ours fails, and so does one of theirs. `GEODNS_BLESS=1` writes the table.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use domain::base::Message;
use domain::rdata::{Soa, Txt};
use geodns_tests::daemon::{Daemon, Setup};
use geodns_tests::dns::{A, AA, AXFR, IXFR, Query, SOA, wire_name};
use geodns_tests::needs_root;
use geodns_tests::net::{Pair, Space};
use geodns_tests::peers::{self, Kind, Peer};
use geodns_tests::primary::{Act, Asked, Primary};

use super::{axfr, ixfr};

/// How long all of them may take.
const PATIENCE: Duration = Duration::from_secs(40);
/// A zone that is not taken counts as such this long after the first request for it.
const QUIET: Duration = Duration::from_millis(1500);
/// The column of each server, with its address and that of its primary.
const SERVERS: [(&str, [u8; 4], [u8; 4]); 4] = [
    ("geodns", [192, 0, 2, 53], [192, 0, 2, 1]),
    ("BIND", [192, 0, 2, 54], [192, 0, 2, 2]),
    ("Knot DNS", [192, 0, 2, 55], [192, 0, 2, 3]),
    ("NSD", [192, 0, 2, 56], [192, 0, 2, 4]),
];

/// Manners of the answer for the serial, before an AXFR that is plain.
const SERIALS: &[axfr::Manner] = &[
    ("serial-over-tcp-only", |q| match q.tcp {
        true => vec![q.message(&[q.soa(1)]).send()],
        false => Vec::new(),
    }),
    ("serial-refused-over-udp", |q| {
        let code = if q.tcp { 0 } else { 5 };
        vec![q.message(&[q.soa(1)]).turned(code).send()]
    }),
    ("serial-not-implemented-over-udp", |q| {
        let code = if q.tcp { 0 } else { 4 };
        vec![
            q.message(&[]).turned(code).send(),
            q.message(&[q.soa(1)]).send(),
        ]
        .into_iter()
        .skip(usize::from(q.tcp))
        .take(1)
        .collect()
    }),
    ("serial-not-authoritative", |q| {
        vec![q.message(&[q.soa(1)]).turned(AA).send()]
    }),
    ("serial-not-said", |q| vec![q.message(&[]).send()]),
];

fn zones() -> Vec<String> {
    let of = |group: &'static str, names: Vec<&'static str>| {
        let names = names.into_iter();
        names.map(move |name| format!("{name}.{group}.test"))
    };
    let all = of("serial", SERIALS.iter().map(|(name, _)| *name).collect());
    let all = all.chain(of(
        "axfr",
        axfr::ALL.iter().map(|(name, _)| *name).collect(),
    ));
    all.chain(of(
        "ixfr",
        ixfr::ALL.iter().map(|(name, _)| *name).collect(),
    ))
    .collect()
}

/// The primary's script.
fn script(asked: &Asked, is_second: bool) -> Vec<Act> {
    let mut labels = asked.name.split('.');
    let (Some(manner), Some(group)) = (labels.next(), labels.next()) else {
        return Vec::new();
    };
    let find = |all: &[axfr::Manner]| {
        let mut all = all.iter();
        all.find(|(name, _)| *name == manner).map(|(_, play)| *play)
    };
    let plain = |records: &[Vec<u8>]| vec![asked.message(records).send()];
    let serial = if group == "ixfr" && is_second { 2 } else { 1 };
    let latest = match manner {
        // Their own last serials.
        "two-deltas" if serial == 2 => 3,
        "deltas-with-a-gap" if serial == 2 => 4,
        _ => serial,
    };
    match (asked.qtype, group) {
        (SOA, "serial") => find(SERIALS).map_or(Vec::new(), |play| play(asked)),
        (SOA, _) => plain(&[asked.soa(latest)]),
        (AXFR | IXFR, "axfr") => find(axfr::ALL).map_or(Vec::new(), |play| play(asked)),
        (IXFR, "ixfr") if is_second => find(ixfr::ALL).map_or(Vec::new(), |play| play(asked)),
        (AXFR, "ixfr") if is_second => {
            let mut records = ixfr::whole(asked, "axfr");
            let last = records.len() - 1;
            records[0] = asked.soa(latest);
            records[last] = asked.soa(latest);
            plain(&records)
        }
        (AXFR | IXFR, "ixfr") => {
            let old = asked.rr("old", A, &[192, 0, 2, 3]);
            plain(&[vec![asked.soa(1)], asked.body(), vec![old, asked.soa(1)]].concat())
        }
        (AXFR | IXFR, _) => plain(&[vec![asked.soa(1)], asked.body(), vec![asked.soa(1)]].concat()),
        _ => vec![asked.message(&[]).turned(5).send()],
    }
}

/// The records that a server has of a zone, as `owner/TYPE`; `None`: it has none to give.
fn records(space: &Space, at: IpAddr, zone: &str) -> Result<Option<BTreeSet<String>>> {
    let from = IpAddr::from([192, 0, 2, 1]);
    let mut stream = space.tcp(from, SocketAddr::new(at, 53))?;
    let query = Query::new(zone, AXFR).bytes();
    stream.write_all(&[&(query.len() as u16).to_be_bytes(), &*query].concat())?;
    let mut records = BTreeSet::new();
    let mut ends = 0;
    while ends < 2 {
        let mut len = [0; 2];
        if stream.read_exact(&mut len).is_err() {
            return Ok(None);
        }
        let mut message = vec![0; u16::from_be_bytes(len).into()];
        stream.read_exact(&mut message)?;
        let message = Message::from_octets(&*message).context("no message")?;
        if message.is_error() {
            return Ok(None);
        }
        for record in message.answer()? {
            let record = record?;
            let owner = record.owner().to_string().to_ascii_lowercase();
            let owner = owner.trim_end_matches('.');
            let owner = owner.strip_suffix(zone).map_or(owner, |below| match below {
                "" => "@",
                below => below.trim_end_matches('.'),
            });
            let owner = if owner.len() > 60 { "long" } else { owner };
            let mut text = format!("{owner}/{}", record.rtype());
            if let Some(soa) = record.to_record::<Soa<_>>()? {
                ends += 1;
                text += &format!("={}", soa.data().serial());
            } else if let Some(said) = record.to_record::<Txt<_>>()?
                && owner == "how"
            {
                let said: Vec<u8> = said.data().text();
                text += &format!("={}", String::from_utf8_lossy(&said));
            }
            let ttl = record.ttl().as_secs();
            if ttl != 60 {
                text += &format!("@{ttl}");
            }
            records.insert(text);
        }
    }
    Ok(Some(records))
}

/// The fate of a zone, in a few words.
fn outcome(zone: &str, records: Option<&BTreeSet<String>>) -> String {
    let Some(records) = records else {
        return "-".to_owned();
    };
    let of = |more: &[&str]| -> BTreeSet<String> {
        let base = ["@/NS", "ns/A", "www/A"].iter().chain(more);
        base.map(|record| (*record).to_owned()).collect()
    };
    let is_ixfr = zone.ends_with(".ixfr.test");
    let last = match zone {
        "two-deltas.ixfr.test" => "@/SOA=3",
        "deltas-with-a-gap.ixfr.test" => "@/SOA=4",
        _ => "@/SOA=2",
    };
    let forms = match is_ixfr {
        false => vec![("whole", of(&["@/SOA=1"]))],
        true => vec![
            ("old", of(&["@/SOA=1", "old/A"])),
            ("ixfr", of(&[last, "how/TXT=ixfr"])),
            ("axfr", of(&[last, "how/TXT=axfr"])),
        ],
    };
    // The form that it differs least from.
    let nearest = forms
        .iter()
        .min_by_key(|(_, form)| form.symmetric_difference(records).count());
    let Some((name, form)) = nearest else {
        return String::new();
    };
    let mut text = (*name).to_owned();
    for record in records.difference(form) {
        text += &format!(" +{record}");
    }
    for record in form.difference(records) {
        text += &format!(" -{record}");
    }
    text
}

/// All four as secondaries of all zones.
struct Secondaries {
    daemon: Daemon,
    others: Vec<Peer>,
}

fn start(pair: &Pair, zones: &[String]) -> Result<Secondaries> {
    let ip = |octets: [u8; 4]| IpAddr::from(octets);
    let (_, ours, primary) = SERVERS[0];
    let mut body = String::new();
    for zone in zones {
        body += &format!(
            "[[zone]]\nname = \"{zone}\"\nprimaries = [\"{}\"]\nallow_transfer = [\"192.0.2.1\"]\n",
            ip(primary)
        );
    }
    body += "[transfer]\nnotify_rate = 10000\nnotify_rate_all = 10000\n";
    let ours = ip(ours).to_string();
    let setup = Setup::new(&[&ours]).mode("off").body(&body);
    let daemon = Daemon::start(&pair.server, &setup)?;
    let mut others = Vec::new();
    for (&(_, at, from), kind) in SERVERS[1..].iter().zip([Kind::Bind, Kind::Knot, Kind::Nsd]) {
        let from = ip(from);
        let mut rest = String::new();
        let mut options = String::new();
        match kind {
            Kind::Bind => {
                options =
                    "  serial-query-rate 1000;\n  transfers-in 200;\n  transfers-per-ns 200;\n\
                           \x20 min-retry-time 60;\n  min-refresh-time 60;\n"
                        .to_owned();
                for (number, zone) in zones.iter().enumerate() {
                    rest += &format!(
                        "zone \"{zone}\" {{ type secondary; primaries {{ {from}; }}; file \"{number}\"; \
                         allow-transfer {{ any; }}; }};\n"
                    );
                }
            }
            Kind::Knot => {
                options = "  background-workers: 16\n  tcp-remote-io-timeout: 2000\n".to_owned();
                rest = format!(
                    "remote:\n  - id: from\n    address: {from}\n\
                     acl:\n  - id: told\n    address: {from}\n    action: notify\n\
                     \x20 - id: give\n    action: transfer\n\
                     template:\n  - id: default\n    master: from\n    acl: [told, give]\n    zonefile-sync: -1\n\
                     zone:\n"
                );
                for zone in zones {
                    rest += &format!("  - domain: {zone}\n");
                }
            }
            _ => {
                for (number, zone) in zones.iter().enumerate() {
                    rest += &format!(
                        "zone:\n  name: {zone}\n  zonefile: \"{number}\"\n  allow-notify: {from} NOKEY\n\
                         \x20 request-xfr: {from} NOKEY\n  provide-xfr: 0.0.0.0/0 NOKEY\n"
                    );
                }
            }
        }
        let setup = peers::Setup {
            listen: vec![ip(at)],
            options,
            rest,
            ..peers::Setup::default()
        };
        others.push(Peer::start(&pair.server, kind, &setup)?);
    }
    Ok(Secondaries { daemon, others })
}

/// The fate of each zone at each server.
type Table = BTreeMap<String, [String; 4]>;

/// Waits until every zone of a group is as it should be, or that is not to be expected any more.
fn wait(
    space: &Space,
    primary: &Primary,
    zones: &[&String],
    golden: &Table,
    bless: bool,
) -> Result<Table> {
    let started = Instant::now();
    loop {
        let mut table = Table::new();
        let counts = primary.counts();
        let mut is_settled = true;
        for &zone in zones {
            let mut row: [String; 4] = Default::default();
            for (at, (_, server, from)) in SERVERS.into_iter().enumerate() {
                let found = records(space, server.into(), zone)?;
                row[at] = outcome(zone, found.as_ref());
                // It has had its turn, and nothing comes of that.
                let asked = [(AXFR, true), (IXFR, true), (SOA, true), (SOA, false)];
                let asked = asked.into_iter().filter_map(|(qtype, tcp)| {
                    counts.get(&(from.into(), tcp, zone.clone(), qtype))
                });
                let is_over = asked.into_iter().any(|(_, first)| first.elapsed() > QUIET);
                let expected = golden.get(zone).map(|row| &row[at]);
                is_settled &= is_over && expected == Some(&row[at]);
            }
            table.insert(zone.clone(), row);
        }
        if (is_settled && !bless) || started.elapsed() > PATIENCE {
            return Ok(table);
        }
        std::thread::sleep(Duration::from_millis(300));
    }
}

/// Sends a NOTIFY for each of these zones to each server, from its primary.
fn notify(space: &Space, zones: &[&String]) -> Result<()> {
    for (_, server, from) in SERVERS {
        let socket = space.udp(from.into(), SocketAddr::new(server.into(), 53))?;
        for (number, zone) in zones.iter().enumerate() {
            let mut octets = Vec::new();
            // QUERY's place is NOTIFY's, with AA; one question, and nothing else.
            for word in [number as u16, 4 << 11 | AA, 1, 0, 0, 0] {
                octets.extend(word.to_be_bytes());
            }
            octets.extend(wire_name(zone));
            octets.extend([0, 6, 0, 1]);
            socket.send(&octets)?;
            std::thread::sleep(Duration::from_millis(2));
        }
    }
    Ok(())
}

const DOC: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/transfers.md");
const HEAD: &str = "| manner | geodns | BIND | Knot DNS | NSD |\n| --- | --- | --- | --- | --- |\n";
const GROUPS: [(&str, &str); 3] = [("serial", "Serials"), ("axfr", "AXFR"), ("ixfr", "IXFR")];

/// The table of a document.
fn read(text: &str) -> Table {
    let mut table = Table::new();
    let mut group = "";
    for line in text.lines() {
        for (name, title) in GROUPS {
            if line == format!("## {title}") {
                group = name;
            }
        }
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let &["", manner, a, b, c, d, ""] = &cells[..] else {
            continue;
        };
        if manner != "manner" && !manner.starts_with("---") {
            let zone = format!("{manner}.{group}.test");
            table.insert(zone, [a, b, c, d].map(|cell| cell.replace('`', "")));
        }
    }
    table
}

/// A document with another table in it.
fn written(text: &str, table: &Table) -> String {
    let mut new = String::new();
    let mut skips = false;
    for line in text.lines() {
        skips &= line.starts_with('|') || line.is_empty();
        if !skips {
            new += line;
            new += "\n";
        }
        for (group, title) in GROUPS {
            if line == format!("## {title}") {
                skips = true;
                new += "\n";
                new += HEAD;
                let zones = zones();
                let of = zones
                    .iter()
                    .filter(|zone| zone.ends_with(&format!(".{group}.test")));
                for zone in of {
                    let manner = zone.split('.').next().unwrap_or_default();
                    let row = table.get(zone).cloned().unwrap_or_default();
                    new += &format!("| {manner} | {} |\n", row.join(" | "));
                }
                new += "\n";
            }
        }
    }
    new.trim_end().to_owned() + "\n"
}

#[test]
fn every_manner_of_transfer_has_the_outcome_that_the_table_says() -> Result<()> {
    needs_root!();
    let bless = std::env::var_os("GEODNS_BLESS").is_some();
    let doc = std::fs::read_to_string(Path::new(DOC)).unwrap_or_default();
    let golden = read(&doc);
    let extra: Vec<String> = [2, 3, 4].map(|last| format!("192.0.2.{last}/32")).to_vec();
    let extra: Vec<&str> = extra.iter().map(String::as_str).collect();
    let pair = Pair::bare(&extra)?;
    for last in [55, 56] {
        let line = format!("address add 192.0.2.{last}/24 dev eth0");
        pair.server.ip(&line)?;
    }
    let is_second = Arc::new(AtomicBool::new(false));
    let primaries: Vec<IpAddr> = SERVERS.iter().map(|(_, _, from)| (*from).into()).collect();
    let primary = Primary::start(&pair.client, &primaries, {
        let is_second = Arc::clone(&is_second);
        move |asked| script(asked, is_second.load(Ordering::Relaxed))
    })?;
    let zones = zones();
    let secondaries = start(&pair, &zones)?;
    let ixfr: Vec<&String> = zones
        .iter()
        .filter(|zone| zone.ends_with(".ixfr.test"))
        .collect();
    let others: Vec<&String> = zones
        .iter()
        .filter(|zone| !zone.ends_with(".ixfr.test"))
        .collect();

    let first: Table = ixfr
        .iter()
        .map(|zone| ((*zone).clone(), ["old"; 4].map(str::to_owned)))
        .collect();
    let found = wait(&pair.client, &primary, &ixfr, &first, false)?;
    ensure!(
        found == first,
        "the old zones are not everywhere: {found:#?}"
    );
    is_second.store(true, Ordering::Relaxed);
    notify(&pair.client, &ixfr)?;
    let mut table = wait(&pair.client, &primary, &ixfr, &golden, bless)?;
    table.extend(wait(&pair.client, &primary, &others, &golden, false)?);
    if bless {
        std::fs::write(Path::new(DOC), written(&doc, &table))?;
    }
    let mut differ = String::new();
    for (zone, row) in &table {
        let expected = golden.get(zone).cloned().unwrap_or_default();
        for ((name, _, _), (found, expected)) in SERVERS.iter().zip(row.iter().zip(&expected)) {
            if found != expected {
                differ += &format!("{zone}: {name}: {found:?}, not {expected:?}\n");
            }
        }
    }
    ensure!(
        differ.is_empty() && table.len() == golden.len(),
        "{differ}{}",
        secondaries.daemon.log()
    );
    for other in secondaries.others {
        other.stop()?;
    }
    Ok(())
}

//! Zones transferred to and from Knot DNS, NSD and BIND: AXFR, IXFR, NOTIFY, with TSIG.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, bail, ensure};
use geodns_tests::daemon::{Daemon, Home, Setup};
use geodns_tests::dns::{self, AXFR, Query, Reply};
use geodns_tests::needs_root;
use geodns_tests::net::{Pair, Space, output};
use geodns_tests::peers::{self, Kind, Peer};

/// Ours.
const OURS: &str = "192.0.2.53";
/// The other's.
const OTHER: &str = "192.0.2.1";
const SECRET: &str = "c2hhcmVkIGJ5IHR3byBzZXJ2ZXJzLCBhbmQgYnkgbm8=";
const PATIENCE: Duration = Duration::from_secs(30);

const TSIG: &str = r#"
[[tsig]]
name = "xfr"
secret = "c2hhcmVkIGJ5IHR3byBzZXJ2ZXJzLCBhbmQgYnkgbm8="
"#;

/// A zone of many records and types; `changed` differs in some of them.
fn zone(serial: u32, expire: u32, changed: bool) -> String {
    let mut text = format!(
        "$ORIGIN example.org.\n$TTL 300\n@ SOA ns1 hostmaster {serial} 3600 2 {expire} 60\n@ NS ns1\n@ NS ns2\n\
         ns1 A 192.0.2.53\nns2 A 192.0.2.1\n@ MX 10 mail\nmail A 192.0.2.25\nmail AAAA 2001:db8::25\n\
         alias CNAME mail\n*.wild TXT \"wild\" \"card\"\nsub NS ns.sub\nns.sub A 203.0.113.1\n\
         _sip._tcp SRV 1 2 5060 mail\n@ CAA 0 issue \"ca.test\"\nodd TYPE65280 \\# 3 010203\n\
         Case.Mixed TXT \"MiXeD\"\n\\044dollar\\.dot TXT \"escapes\"\nold DNAME example.net.\n\
         @ NAPTR 1 2 \"u\" \"sip\" \"!^.*$!sip:x@example.org!\" .\n"
    );
    for number in 0..2000 {
        let last = if changed && number % 100 == 7 { 2 } else { 1 };
        text += &format!("h{number} A 10.{last}.{}.{}\n", number / 250, number % 250);
    }
    for number in 0..40 {
        text += &format!("big TXT \"{number:0200}\"\n");
    }
    if changed {
        text += "new A 192.0.2.77\n";
    } else {
        text += "gone A 192.0.2.78\n";
    }
    text
}

/// `dig AXFR` in a namespace, signed or not: a line for each record, sorted, without repeats.
fn axfr(space: &Space, at: &str, signed: bool) -> Result<BTreeSet<String>> {
    transfer(space, at, "AXFR", signed)
}

fn transfer(space: &Space, at: &str, kind: &str, signed: bool) -> Result<BTreeSet<String>> {
    let mut dig = space.command("dig");
    dig.arg(format!("@{at}")).args(["example.org", kind]);
    dig.args([
        "+noall",
        "+answer",
        "+comments",
        "+onesoa",
        "+time=5",
        "+tries=1",
        "+nosplit",
    ]);
    if signed {
        dig.args(["-y", &format!("hmac-sha256:xfr:{SECRET}")]);
    }
    let said = output(&mut dig)?;
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    ensure!(
        !said.contains("Transfer failed")
            && !said.contains("WARNING")
            && !said.contains("connection"),
        "{kind} from {at}: {said}"
    );
    let records = said
        .lines()
        .filter(|line| !line.starts_with(';') && !line.is_empty());
    let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    Ok(records
        .map(|line| words(line).to_ascii_lowercase())
        .collect())
}

/// Fails unless both servers have the same records.
fn same(space: &Space) -> Result<usize> {
    let (ours, theirs) = (axfr(space, OURS, true)?, axfr(space, OTHER, true)?);
    let only = |one: &BTreeSet<String>, other: &BTreeSet<String>| {
        let only = one.difference(other).take(10).cloned();
        only.collect::<Vec<_>>()
    };
    ensure!(
        ours == theirs && !ours.is_empty(),
        "only in ours: {:#?}\nonly in theirs: {:#?}",
        only(&ours, &theirs),
        only(&theirs, &ours)
    );
    Ok(ours.len())
}

fn dig(space: &Space, at: &str, words: &str) -> Result<String> {
    let mut dig = space.command("dig");
    dig.arg(format!("@{at}"))
        .args(["+time=1", "+tries=1"])
        .args(words.split_whitespace());
    Ok(String::from_utf8_lossy(&output(&mut dig)?.stdout).into_owned())
}

fn serial(space: &Space, at: &str) -> Result<Option<u32>> {
    let said = dig(space, at, "example.org SOA +short")?;
    let number = said.split_whitespace().nth(2);
    Ok(number.and_then(|number| number.parse().ok()))
}

/// Waits until a server has a serial.
fn until_serial(
    space: &Space,
    at: &str,
    wanted: u32,
    log: impl Fn() -> String,
) -> Result<Duration> {
    let started = Instant::now();
    while serial(space, at)? != Some(wanted) {
        if started.elapsed() > PATIENCE {
            bail!("{at} does not come to serial {wanted}:\n{}", log());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(started.elapsed())
}

/// A server of ours that is the primary.
fn primary() -> Setup {
    let body = format!(
        "{TSIG}\n[[zone]]\nname = \"example.org\"\nfile = \"example.org.zone\"\ntsig = \"xfr\"\n\
         allow_transfer = [\"xfr\"]\nnotify = [\"{OTHER}\"]\n\
         [[mirror]]\nid = \"ams\"\naddresses = [\"192.0.2.10\", \"2001:db8:1::10\"]\n\
         [[mirror]]\nid = \"iad\"\naddresses = [\"198.51.100.10\"]\n\
         [[pool]]\nid = \"www\"\nmirrors = [\"ams\", \"iad\"]\npolicy = \"table\"\ndefault = \"iad\"\n\
         [[steer]]\nname = \"www.example.org\"\npool = \"www\"\n"
    );
    Setup::new(&[OURS])
        .mode("off")
        .body(&body)
        .file("example.org.zone", &zone(1, 3600, false))
}

/// A server of ours that is a secondary.
fn secondary(port: u16) -> Setup {
    let body = format!(
        "{TSIG}\n[[zone]]\nname = \"example.org\"\ntsig = \"xfr\"\nallow_transfer = [\"xfr\"]\n\
         primaries = [{{ address = \"{OTHER}\", port = {port} }}]\n\
         [[mirror]]\nid = \"ams\"\naddresses = [\"192.0.2.10\"]\n\
         [[pool]]\nid = \"www\"\nmirrors = [\"ams\"]\npolicy = \"all\"\n\
         [[steer]]\nname = \"mail.example.org\"\npool = \"www\"\n"
    );
    Setup::new(&[OURS]).mode("off").body(&body)
}

fn as_secondary(kind: Kind) -> peers::Setup {
    let rest = match kind {
        Kind::Gdnsd | Kind::Pdns => unreachable!("they are only measured"),
        Kind::Knot => format!(
            "key:\n  - id: xfr\n    algorithm: hmac-sha256\n    secret: {SECRET}\n\
             remote:\n  - id: ours\n    address: {OURS}\n    key: xfr\n\
             acl:\n  - id: told\n    address: {OURS}\n    key: xfr\n    action: notify\n\
             \x20 - id: ask\n    key: xfr\n    action: transfer\n\
             zone:\n  - domain: example.org\n    master: ours\n    acl: [told, ask]\n    zonefile-sync: -1\n"
        ),
        Kind::Nsd => format!(
            "key:\n  name: xfr\n  algorithm: hmac-sha256\n  secret: \"{SECRET}\"\n\
             zone:\n  name: example.org\n  zonefile: example.org.zone\n  allow-notify: {OURS} xfr\n\
             \x20 request-xfr: {OURS} xfr\n  provide-xfr: 0.0.0.0/0 xfr\n"
        ),
        Kind::Bind => format!(
            "key xfr {{ algorithm hmac-sha256; secret \"{SECRET}\"; }};\n\
             zone example.org {{ type secondary; primaries {{ {OURS} key xfr; }}; file \"example.org.zone\"; \
             allow-transfer {{ key xfr; }}; allow-notify {{ key xfr; }}; masterfile-format text; }};\n"
        ),
    };
    peers::Setup {
        listen: vec![OTHER.parse().expect("an address")],
        rest,
        ..peers::Setup::default()
    }
}

fn as_primary(kind: Kind, zone: &str) -> peers::Setup {
    let (rest, of_zone) = match kind {
        Kind::Gdnsd | Kind::Pdns => unreachable!("they are only measured"),
        Kind::Knot => (
            format!(
                "key:\n  - id: xfr\n    algorithm: hmac-sha256\n    secret: {SECRET}\n\
                 remote:\n  - id: ours\n    address: {OURS}\n    key: xfr\n\
                 acl:\n  - id: ask\n    key: xfr\n    action: transfer\n"
            ),
            "    notify: ours\n    acl: ask\n    zonefile-load: difference\n".to_owned(),
        ),
        Kind::Nsd => (
            format!("key:\n  name: xfr\n  algorithm: hmac-sha256\n  secret: \"{SECRET}\"\n"),
            format!(
                "  notify: {OURS} xfr\n  provide-xfr: 0.0.0.0/0 xfr\n  store-ixfr: yes\n  create-ixfr: yes\n"
            ),
        ),
        Kind::Bind => (
            format!(
                "key xfr {{ algorithm hmac-sha256; secret \"{SECRET}\"; }};\n\
                 server {OURS} {{ keys {{ xfr; }}; }};\n"
            ),
            format!(
                "  notify explicit; also-notify {{ {OURS} key xfr; }}; allow-transfer {{ key xfr; }};\n\
                 \x20 ixfr-from-differences yes;\n"
            ),
        ),
    };
    peers::Setup {
        listen: vec![OTHER.parse().expect("an address")],
        zones: vec![("example.org".to_owned(), zone.to_owned())],
        of_zone,
        rest,
        ..peers::Setup::default()
    }
}

/// They follow us: AXFR, then NOTIFY and IXFR.
fn follows_us(kind: Kind) -> Result<()> {
    let pair = Pair::bare(&[])?;
    let setup = primary();
    let daemon = Daemon::start(&pair.server, &setup)?;
    let mut other = Peer::start(&pair.client, kind, &as_secondary(kind))?;
    let log = |other: &Peer| format!("{}\n{}", other.log(), daemon.log());
    other
        .wait_for(&pair.client, OTHER.parse()?, "example.org")
        .with_context(|| daemon.log())?;
    until_serial(&pair.client, OTHER, 1, || log(&other))?;
    let records = same(&pair.client)?;
    ensure!(records > 2050, "{records}");
    // What the pool answers where nothing is known, as records.
    let www = dig(&pair.client, OTHER, "www.example.org A +short")?;
    ensure!(www.trim() == "198.51.100.10", "www: {www}");
    let www = dig(&pair.client, OTHER, "www.example.org AAAA +short")?;
    ensure!(www.trim() == "2001:db8:1::10", "www: {www}");

    let file = daemon.home.folder.path().join("example.org.zone");
    std::fs::write(&file, zone(2, 3600, true))?;
    daemon.ok("reload example.org")?;
    let took = until_serial(&pair.client, OTHER, 2, || log(&other))?;
    println!("{kind:?} has serial 2 after {took:?}");
    same(&pair.client)?;
    daemon.logged("IXFR of serial 2 to 192.0.2.1")?;

    // A whole reload does it, too; a broken file does not.
    std::fs::write(&file, zone(3, 3600, false))?;
    daemon.ok("reload")?;
    until_serial(&pair.client, OTHER, 3, || log(&other))?;
    same(&pair.client)?;
    std::fs::write(&file, "nonsense")?;
    daemon.fails("reload example.org")?;
    ensure!(serial(&pair.client, OURS)? == Some(3));
    other.stop()
}

/// We follow them.
fn we_follow(kind: Kind) -> Result<()> {
    let pair = Pair::bare(&[])?;
    let other = Peer::start(&pair.client, kind, &as_primary(kind, &zone(1, 6, false)))?;
    let setup = secondary(53);
    let mut daemon = Daemon::start(&pair.server, &setup)?;
    until_serial(&pair.client, OURS, 1, || daemon.log())?;
    daemon.logged("AXFR, in")?;
    // What a pool answers here is not theirs.
    let here = |name: &str| dig(&pair.client, OURS, &format!("{name}.example.org A +short"));
    ensure!(here("mail")?.trim() == "192.0.2.10", "{}", here("mail")?);
    ensure!(here("h1")?.trim() == "10.1.0.1");
    ensure!(here("x.wild")?.is_empty());
    let differ = || -> Result<Vec<String>> {
        let (ours, theirs) = (
            axfr(&pair.client, OURS, true)?,
            axfr(&pair.client, OTHER, true)?,
        );
        Ok(ours.symmetric_difference(&theirs).cloned().collect())
    };
    let only_mail = |lines: &[String]| {
        lines
            .iter()
            .all(|line| line.starts_with("mail.example.org."))
    };
    let lines = differ()?;
    ensure!(only_mail(&lines) && !lines.is_empty(), "{lines:#?}");

    other.write_zone("example.org", &zone(2, 6, true))?;
    other.reload()?;
    let took = until_serial(&pair.client, OURS, 2, || {
        format!("{}\n{}", daemon.log(), other.log())
    })?;
    println!("we have serial 2 of {kind:?} after {took:?}");
    daemon.logged("IXFR of 1 deltas")?;
    let lines = differ()?;
    ensure!(only_mail(&lines), "{lines:#?}");
    ensure!(here("new")?.trim() == "192.0.2.77" && here("gone")?.is_empty());
    ensure!(here("h107")?.trim() == "10.2.0.107");

    // Without it: what is kept is served over a restart, until it expires.
    other.stop()?;
    daemon.stop()?;
    daemon.again(&pair.server, &setup)?;
    ensure!(serial(&pair.client, OURS)? == Some(2), "{}", daemon.log());
    ensure!(here("new")?.trim() == "192.0.2.77");
    daemon.logged("expired")?;
    let said = dig(&pair.client, OURS, "new.example.org A")?;
    ensure!(said.contains("SERVFAIL"), "{said}");
    daemon.stop()?;
    daemon.again(&pair.server, &setup)?;
    let said = dig(&pair.client, OURS, "mail.example.org A")?;
    ensure!(said.contains("SERVFAIL"), "{said}");
    // And back.
    let other = Peer::start(&pair.client, kind, &as_primary(kind, &zone(3, 3600, false)))?;
    until_serial(&pair.client, OURS, 3, || daemon.log())?;
    let lines = differ()?;
    ensure!(only_mail(&lines), "{lines:#?}");
    other.stop()
}

#[test]
fn knot_follows_us() -> Result<()> {
    needs_root!();
    follows_us(Kind::Knot)
}

#[test]
fn nsd_follows_us() -> Result<()> {
    needs_root!();
    follows_us(Kind::Nsd)
}

#[test]
fn bind_follows_us() -> Result<()> {
    needs_root!();
    follows_us(Kind::Bind)
}

#[test]
fn we_follow_knot() -> Result<()> {
    needs_root!();
    we_follow(Kind::Knot)
}

#[test]
fn we_follow_nsd() -> Result<()> {
    needs_root!();
    we_follow(Kind::Nsd)
}

#[test]
fn we_follow_bind() -> Result<()> {
    needs_root!();
    we_follow(Kind::Bind)
}

/// Only those who are allowed get the zone, and a bad signature is refused.
#[test]
fn only_those_who_may_have_the_zone() -> Result<()> {
    needs_root!();
    let pair = Pair::bare(&[])?;
    let daemon = Daemon::start(&pair.server, &primary())?;
    let ask = |words: &str| dig(&pair.client, OURS, words);
    let signed = |key: &str| format!("example.org AXFR -y hmac-sha256:{key}");
    ensure!(ask("example.org AXFR")?.contains("Transfer failed"));
    let wrong = "bm90IHRoZSBzZWNyZXQgdGhhdCB3ZSBoYXZlIGFncmVlZA==";
    let said = ask(&signed(&format!("xfr:{wrong}")))?;
    ensure!(
        said.contains("Transfer failed") || said.contains("BADSIG"),
        "{said}"
    );
    let said = ask(&format!("example.org SOA -y hmac-sha256:xfr:{wrong}"))?;
    ensure!(
        said.contains("NOTAUTH") && said.contains("BADSIG"),
        "{said}"
    );
    let said = ask(&format!("example.org SOA -y hmac-sha256:other:{SECRET}"))?;
    ensure!(
        said.contains("NOTAUTH") && said.contains("BADKEY"),
        "{said}"
    );
    let said = ask(&format!("example.org SOA -y hmac-sha512:xfr:{SECRET}"))?;
    ensure!(said.contains("BADKEY"), "{said}");
    // Ordinary queries are answered signed, truncated ones too; dig verifies that.
    let key = format!("-y hmac-sha256:xfr:{SECRET}");
    for query in [
        "example.org SOA",
        "www.example.org A",
        "nothing.example.org A",
        "sub.example.org A",
    ] {
        let said = ask(&format!("{query} {key}"))?;
        ensure!(
            said.contains("TSIG PSEUDOSECTION") && !said.contains("verify"),
            "{said}"
        );
        ensure!(
            said.contains("NOERROR") || said.contains("NXDOMAIN"),
            "{said}"
        );
    }
    let said = ask(&format!("big.example.org TXT {key} +ignore"))?;
    ensure!(said.contains(" tc") && !said.contains("verify"), "{said}");
    let said = ask(&format!("big.example.org TXT {key} +tcp"))?;
    ensure!(
        said.contains("ANSWER: 40") && !said.contains("verify"),
        "{said}"
    );
    // A clock that is wrong.
    let said = output(
        pair.client
            .command("dig")
            .args([
                &format!("@{OURS}"),
                "example.org",
                "SOA",
                "-y",
                &format!("hmac-sha256:xfr:{SECRET}"),
            ])
            .args(["+fuzztime=1000000000", "+time=2", "+tries=1"]),
    )?;
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    ensure!(
        said.contains("NOTAUTH") && said.contains("BADTIME"),
        "{said}"
    );
    // Not of others' zones, and not of a name in the zone.
    let said = ask(&format!("sub.example.org AXFR {key}"))?;
    ensure!(said.contains("Transfer failed"), "{said}");
    let said = ask(&format!("example.net AXFR {key}"))?;
    ensure!(said.contains("Transfer failed"), "{said}");
    // IXFR: up to date is one SOA record, over UDP as well.
    let said = ask(&format!("example.org IXFR=1 {key} +notcp +noall +answer"))?;
    ensure!(said.matches("SOA").count() == 1, "{said}");
    let file = daemon.home.folder.path().join("example.org.zone");
    std::fs::write(&file, zone(2, 3600, true))?;
    daemon.ok("reload example.org")?;
    // Over TCP what has changed, and all of it for a serial that nobody knows.
    let said = ask(&format!("example.org IXFR=1 {key} +tcp +noall +answer"))?;
    ensure!(said.matches("SOA").count() == 4, "{said}");
    ensure!(
        said.contains("new.example.org") && said.contains("gone.example.org"),
        "{said}"
    );
    ensure!(!said.contains("h1.example.org"), "{said}");
    let whole = transfer(&pair.client, OURS, "IXFR=0", true)?;
    ensure!(whole == axfr(&pair.client, OURS, true)?);
    Ok(())
}

/// Passes queries on to a primary; of what it transfers, N octets.
struct Relay {
    passes: Arc<AtomicUsize>,
}

impl Relay {
    fn start(space: &Space, port: u16) -> Result<Self> {
        let passes = Arc::new(AtomicUsize::new(usize::MAX));
        let (tcp, udp) = space.enter(|| {
            Ok((
                TcpListener::bind((OTHER, port))?,
                UdpSocket::bind((OTHER, port))?,
            ))
        })?;
        let onward = space.udp(OTHER.parse()?, format!("{OTHER}:53").parse()?)?;
        std::thread::spawn(move || -> std::io::Result<()> {
            let mut buffer = [0; 4096];
            loop {
                let (len, from) = udp.recv_from(&mut buffer)?;
                onward.send(&buffer[..len])?;
                let len = onward.recv(&mut buffer)?;
                udp.send_to(&buffer[..len], from)?;
            }
        });
        let limit = Arc::clone(&passes);
        space.enter(|| {
            std::thread::spawn(move || -> std::io::Result<()> {
                loop {
                    let (client, _) = tcp.accept()?;
                    let limit = limit.load(Ordering::Relaxed);
                    let server = TcpStream::connect((OTHER, 53))?;
                    let (mut up_from, mut up_to) = (client.try_clone()?, server.try_clone()?);
                    std::thread::spawn(move || std::io::copy(&mut up_from, &mut up_to));
                    std::thread::spawn(move || -> std::io::Result<()> {
                        let mut client = client;
                        std::io::copy(&mut (&server).take(limit as u64), &mut client)?;
                        client.flush()?;
                        client.shutdown(Shutdown::Both)?;
                        server.shutdown(Shutdown::Both)
                    });
                }
            });
            Ok(())
        })?;
        Ok(Self { passes })
    }
}

/// A transfer that ends after N octets leaves the zone that was there; one that is whole then comes in
/// this way.
fn cut(of_zone: &str, after: &[usize], whole: &str) -> Result<()> {
    let pair = Pair::bare(&[])?;
    let mut knot = as_primary(Kind::Knot, &zone(1, 3600, false));
    knot.of_zone = format!("    acl: ask\n{of_zone}");
    let other = Peer::start(&pair.client, Kind::Knot, &knot)?;
    let relay = Relay::start(&pair.client, 5300)?;
    let daemon = Daemon::start(&pair.server, &secondary(5300))?;
    until_serial(&pair.client, OURS, 1, || daemon.log())?;
    let before = axfr(&pair.client, OURS, true)?;
    other.write_zone("example.org", &zone(2, 3600, true))?;
    other.reload()?;
    until_serial(&pair.client, OTHER, 2, || other.log())?;
    for &octets in after {
        relay.passes.store(octets, Ordering::Relaxed);
        let marks = daemon.log().matches("no primary is of help").count();
        let end = Instant::now() + PATIENCE;
        daemon.ok("reload example.org")?;
        while daemon.log().matches("no primary is of help").count() == marks {
            ensure!(Instant::now() < end, "{octets}: {}", daemon.log());
            std::thread::sleep(Duration::from_millis(20));
        }
        ensure!(axfr(&pair.client, OURS, true)? == before, "{octets}");
    }
    relay.passes.store(usize::MAX, Ordering::Relaxed);
    daemon.ok("reload example.org")?;
    until_serial(&pair.client, OURS, 2, || daemon.log())?;
    daemon.logged(&format!("serial 2 from {OTHER} port 5300, {whole}, in"))?;
    other.stop()
}

/// Without deltas, each transfer is of the whole zone.
#[test]
fn a_cut_axfr_leaves_the_old_zone() -> Result<()> {
    needs_root!();
    let whole = "    zonefile-load: whole\n    journal-content: none\n";
    cut(whole, &[0, 1, 100, 20_000, 40_000], "AXFR")
}

/// A primary that disappears within its deltas; the AXFR that is tried then is cut as well.
#[test]
fn a_cut_ixfr_leaves_the_old_zone() -> Result<()> {
    needs_root!();
    let deltas = "    zonefile-load: difference\n";
    cut(deltas, &[0, 1, 100, 300, 700], "IXFR of 1 deltas")
}

/// A secondary with the program in the kernel: both paths answer the same, before, with and after data.
#[test]
fn the_kernel_follows_too() -> Result<()> {
    needs_root!();
    let pair = Pair::new(&["10.1.0.1"])?;
    let setup = secondary(53).mode("native");
    let home = Home::new()?;
    home.write(&setup)?;
    let daemon = Daemon::start_at(&pair.server, home, &setup)?;
    let ask = |words: &str| dig(&pair.client, OURS, words);
    ensure!(ask("example.org SOA")?.contains("SERVFAIL"));
    ensure!(ask("mail.example.org A")?.contains("SERVFAIL"));
    let other = Peer::start(
        &pair.client,
        Kind::Knot,
        &as_primary(Kind::Knot, &zone(1, 3600, false)),
    )?;
    daemon.ok("reload example.org")?;
    until_serial(&pair.client, OURS, 1, || daemon.log())?;
    ensure!(ask("gone.example.org A +short")?.trim() == "192.0.2.78");
    ensure!(ask("mail.example.org A +short")?.trim() == "192.0.2.10");
    other.write_zone("example.org", &zone(2, 3600, true))?;
    other.reload()?;
    until_serial(&pair.client, OURS, 2, || daemon.log())?;
    ensure!(ask("new.example.org A +short")?.trim() == "192.0.2.77");
    ensure!(ask("gone.example.org A")?.contains("NXDOMAIN"));
    ensure!(ask("mail.example.org A +short")?.trim() == "192.0.2.10");
    other.stop()
}

/// AXFR is for TCP alone (RFC 5936 section 4.2): NOTIMP over UDP, as of Knot DNS and NSD; BIND says FORMERR.
#[test]
fn axfr_over_udp_is_not_implemented() -> Result<()> {
    needs_root!();
    let query = Query::new("example.org", AXFR).bytes();
    let ask = |space: &Space, to: &str| -> Result<Reply> {
        let socket = space.udp(OTHER.parse()?, format!("{to}:53").parse()?)?;
        let answer = dns::ask(&socket, &query, PATIENCE)?;
        Reply::parse(&answer.context("no answer")?)
    };
    let pair = Pair::bare(&[])?;
    // From there it may have the zone, over TCP.
    let mut setup = primary();
    setup.body = setup.body.replace(
        "allow_transfer = [\"xfr\"]",
        &format!("allow_transfer = [\"{OTHER}\"]"),
    );
    let _daemon = Daemon::start(&pair.server, &setup)?;
    ensure!(axfr(&pair.client, OURS, false)?.len() > 2050);
    let reply = ask(&pair.client, OURS)?;
    ensure!(reply.rcode == 4 && reply.answers.is_empty(), "{reply:?}");
    for kind in [Kind::Knot, Kind::Nsd, Kind::Bind] {
        let mut setup = as_primary(kind, &zone(1, 3600, false));
        setup.rest = String::new();
        setup.of_zone = match kind {
            Kind::Gdnsd | Kind::Pdns => unreachable!("they are only measured"),
            Kind::Knot => "    acl: all\n".to_owned(),
            Kind::Nsd => format!("  provide-xfr: {OTHER} NOKEY\n"),
            Kind::Bind => format!("  allow-transfer {{ {OTHER}; }};\n"),
        };
        if kind == Kind::Knot {
            setup.rest = format!("acl:\n  - id: all\n    address: {OTHER}\n    action: transfer\n");
        }
        let other = Peer::start(&pair.client, kind, &setup)?;
        ensure!(axfr(&pair.client, OTHER, false)?.len() > 2050, "{kind:?}");
        let theirs = ask(&pair.client, OTHER)?;
        let expected = if kind == Kind::Bind { 1 } else { 4 };
        ensure!(
            theirs.rcode == expected && theirs.answers.is_empty(),
            "{kind:?}: {theirs:?}"
        );
        other.stop()?;
    }
    Ok(())
}

/// Only a primary is believed; what strangers say is refused, and starts nothing.
#[test]
fn a_notify_of_a_stranger_is_refused_and_starts_nothing() -> Result<()> {
    needs_root!();
    const STRANGER: &str = "198.51.100.1";
    let pair = Pair::bare(&["198.51.100.1/32"])?;
    // It tells nobody.
    let mut knot = as_primary(Kind::Knot, &zone(1, 3600, false));
    knot.of_zone = "    acl: ask\n".to_owned();
    let other = Peer::start(&pair.client, Kind::Knot, &knot)?;
    let daemon = Daemon::start(&pair.server, &secondary(53))?;
    until_serial(&pair.client, OURS, 1, || daemon.log())?;
    other.write_zone("example.org", &zone(2, 3600, true))?;
    other.reload()?;
    until_serial(&pair.client, OTHER, 2, || other.log())?;
    let notify = |from: &str, more: &str| {
        dig(
            &pair.client,
            OURS,
            &format!("-b {from} +opcode=notify +norec example.org SOA {more}"),
        )
    };
    let signed = format!("-y hmac-sha256:xfr:{SECRET}");
    for (from, more) in [(STRANGER, ""), (STRANGER, &*signed), (OTHER, "")] {
        let said = notify(from, more)?;
        ensure!(said.contains("status: REFUSED"), "{from} {more}: {said}");
    }
    daemon.logged(&format!("example.org: a NOTIFY from {STRANGER}"))?;
    std::thread::sleep(Duration::from_secs(1));
    ensure!(serial(&pair.client, OURS)? == Some(1), "{}", daemon.log());
    let said = notify(OTHER, &signed)?;
    ensure!(said.contains("status: NOERROR"), "{said}");
    until_serial(&pair.client, OURS, 2, || daemon.log())?;
    other.stop()
}

/// A zone of N names more than [`zone`] has.
fn large(serial: u32, changed: bool) -> String {
    let mut text = zone(serial, 3600, changed);
    for number in 0..LARGE {
        text += &format!(
            "large{number} A 10.3.{}.{}\n",
            number / 250 % 250,
            number % 250
        );
    }
    text
}

const LARGE: u32 = 100_000;

/// A hundred thousand names come in, are kept on disk no more often than they should be, and go out again.
#[test]
fn a_large_zone_comes_in() -> Result<()> {
    needs_root!();
    let pair = Pair::bare(&[])?;
    let other = Peer::start(
        &pair.client,
        Kind::Knot,
        &as_primary(Kind::Knot, &large(1, false)),
    )?;
    let mut daemon = Daemon::start(&pair.server, &secondary(53))?;
    until_serial(&pair.client, OURS, 1, || daemon.log())?;
    daemon.logged("AXFR, in")?;
    let kept = daemon.home.folder.path().join("zones/example.org.zone");
    let written = |after: Option<SystemTime>| -> Result<SystemTime> {
        let end = Instant::now() + PATIENCE;
        loop {
            let at = kept.metadata().and_then(|metadata| metadata.modified());
            if let Ok(at) = at
                && Some(at) > after
            {
                return Ok(at);
            }
            ensure!(Instant::now() < end, "not on disk: {}", daemon.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    let first = written(None)?;
    let octets = kept.metadata()?.len();

    other.write_zone("example.org", &large(2, true))?;
    other.reload()?;
    until_serial(&pair.client, OURS, 2, || daemon.log())?;
    daemon.logged("IXFR of 1 deltas")?;
    let (ours, theirs) = (
        axfr(&pair.client, OURS, true)?,
        axfr(&pair.client, OTHER, true)?,
    );
    let differ: Vec<_> = ours.symmetric_difference(&theirs).collect();
    ensure!(
        ours.len() > LARGE as usize && differ.len() < 5,
        "{differ:#?}"
    );
    // A second for each MiB lies between two times that it is written.
    let second = written(Some(first))?;
    let pause = second.duration_since(first)?;
    println!("{octets} octets, written again after {pause:?}");
    let zones = daemon.json("zones")?;
    ensure!(zones[0]["names"].as_u64() > Some(LARGE.into()), "{zones}");
    ensure!(zones[0]["role"] == "secondary", "{zones}");
    let at = |what: &str| zones[0][what].as_u64().context("no time");
    ensure!(
        at("expires_unix_ms")? == at("checked_unix_ms")? + 3_600_000,
        "{zones}"
    );
    let shown = daemon.ok("zones")?;
    ensure!(
        shown.contains("secondary") && shown.contains("s ago"),
        "{shown}"
    );
    ensure!(
        octets > 3 << 20 && pause > Duration::from_secs(2),
        "{octets} {pause:?}"
    );
    other.stop()?;
    daemon.crash()?;
    daemon.again(&pair.server, &secondary(53))?;
    ensure!(serial(&pair.client, OURS)? == Some(2), "{}", daemon.log());
    ensure!(axfr(&pair.client, OURS, true)? == ours);
    daemon.stop()
}

/// The same the other way.
#[test]
fn a_large_zone_goes_out() -> Result<()> {
    needs_root!();
    let pair = Pair::bare(&[])?;
    let setup = primary().file("example.org.zone", &large(1, false));
    let daemon = Daemon::start(&pair.server, &setup)?;
    let mut other = Peer::start(&pair.client, Kind::Knot, &as_secondary(Kind::Knot))?;
    other
        .wait_for(&pair.client, OTHER.parse()?, "example.org")
        .with_context(|| daemon.log())?;
    ensure!(same(&pair.client)? > LARGE as usize);
    let file = daemon.home.folder.path().join("example.org.zone");
    std::fs::write(&file, large(2, true))?;
    daemon.ok("reload example.org")?;
    until_serial(&pair.client, OTHER, 2, || {
        format!("{}\n{}", other.log(), daemon.log())
    })?;
    daemon.logged("IXFR of serial 2 to 192.0.2.1")?;
    ensure!(same(&pair.client)? > LARGE as usize);
    other.stop()
}

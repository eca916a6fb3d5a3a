//! Signed zones that come from Knot DNS and go on to it: what of DNSSEC is handed on as it came, and what is said and
//! refused as long as no signatures are in our answers.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use domain::base::Rtype;
use geodns::base::name::{Name, parse_name};
use geodns::zone;
use geodns_tests::daemon::{Daemon, Setup};
use geodns_tests::needs_root;
use geodns_tests::net::{Pair, Space, output};
use geodns_tests::peers::{self, Kind, Peer};

/// Ours.
const OURS: &str = "192.0.2.53";
/// The primary.
const FIRST: &str = "192.0.2.1";
/// The secondary that has it from us.
const LAST: &str = "192.0.2.2";
const PATIENCE: Duration = Duration::from_secs(30);

const POOL: &str = r#"
[[mirror]]
id = "ams"
addresses = ["192.0.2.10"]
[[pool]]
id = "www"
mirrors = ["ams"]
policy = "all"
[[steer]]
name = "www.example.org"
pool = "www"
"#;

fn zone(serial: u32, more: &str) -> String {
    format!(
        "$ORIGIN example.org.\n@ 3600 SOA ns hostmaster {serial} 3600 2 86400 60\n@ 7200 NS ns\nns 60 A 192.0.2.1\n\
         ns 900 AAAA 2001:db8::1\n@ 0 TXT \"no TTL\"\n@ 5 MX 10 ns\n*.wild 30 TXT \"wild\"\na.b 40 TXT \"deep\"\n\
         sub 86400 NS ns.sub\nns.sub 50 A 203.0.113.1\n{more}"
    )
}

/// Knot that has `example.org`, and tells us of it.
fn primary(text: &str, policy: &str, of_zone: &str) -> peers::Setup {
    peers::Setup {
        listen: vec![FIRST.parse().expect("an address")],
        zones: vec![("example.org".to_owned(), text.to_owned())],
        of_zone: format!("    notify: ours\n    acl: ask\n{of_zone}"),
        rest: format!(
            "remote:\n  - id: ours\n    address: {OURS}\nacl:\n  - id: ask\n    address: 192.0.2.0/24\n    action: transfer\n\
             {policy}"
        ),
        ..peers::Setup::default()
    }
}

fn secondary(more: &str) -> Setup {
    let body = format!(
        "[[zone]]\nname = \"example.org\"\nprimaries = [\"{FIRST}\"]\nallow_transfer = [\"192.0.2.0/24\"]\n\
         notify = [\"{LAST}\"]\n[[zone]]\nname = \"example.net\"\nfile = \"net.zone\"\n{more}"
    );
    Setup::new(&[OURS]).mode("off").body(&body).file(
        "net.zone",
        "$TTL 60\n@ SOA ns.x. host.x. 1 7200 3600 1209600 60\n@ NS ns.x.\n",
    )
}

fn dig(pair: &Pair, at: &str, words: &str) -> Result<String> {
    let mut dig = pair.client.command("dig");
    dig.arg(format!("@{at}")).args(["+time=5", "+tries=1"]);
    dig.args(words.split_whitespace());
    Ok(String::from_utf8_lossy(&output(&mut dig)?.stdout).into_owned())
}

/// All records, a line each with its TTL.
fn axfr(pair: &Pair, at: &str) -> Result<BTreeSet<String>> {
    let said = dig(pair, at, "example.org AXFR +noall +answer +onesoa +nosplit")?;
    let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    let records = said.lines().filter(|line| !line.starts_with(';'));
    Ok(records
        .map(|line| words(line).to_ascii_lowercase())
        .collect())
}

fn serial(pair: &Pair, at: &str) -> Result<Option<u32>> {
    let said = dig(pair, at, "example.org SOA +short")?;
    let number = said.split_whitespace().nth(2);
    Ok(number.and_then(|number| number.parse().ok()))
}

/// Waits until two servers have the same serial, later than one. Gives it.
fn in_step(
    pair: &Pair,
    [one, other]: [&str; 2],
    later: u32,
    log: impl Fn() -> String,
) -> Result<u32> {
    let started = Instant::now();
    loop {
        let serials = (serial(pair, one)?, serial(pair, other)?);
        match serials {
            (Some(here), Some(there)) if here == there && here > later => return Ok(here),
            _ => {}
        }
        ensure!(
            started.elapsed() < PATIENCE,
            "{serials:?}, not later than {later}:\n{}",
            log()
        );
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// A digest over all of a zone, with every TTL in it (RFC 8976 section 3.3), holds two hops on.
#[test]
fn a_zone_with_a_digest_verifies_where_it_goes_from_us() -> Result<()> {
    needs_root!();
    let pair = Pair::bare(&[LAST])?;
    let policy = "policy:\n  - id: p\n    nsec3: on\n    cds-cdnskey-publish: always\n";
    let sign = "    dnssec-signing: on\n    dnssec-policy: p\n    zonemd-generate: zonemd-sha512\n    \
                zonefile-load: difference\n    zonefile-sync: -1\n";
    let knot = Peer::start(
        &pair.client,
        Kind::Knot,
        &primary(&zone(1, ""), policy, sign),
    )?;
    let daemon = Daemon::start(&pair.server, &secondary(""))?;
    let log = || format!("{}\n{}", knot.log(), daemon.log());
    let first = in_step(&pair, [FIRST, OURS], 0, log)?;
    let last = Peer::start(
        &pair.client,
        Kind::Knot,
        &peers::Setup {
            listen: vec![LAST.parse()?],
            rest: format!(
                "remote:\n  - id: ours\n    address: {OURS}\nacl:\n  - id: told\n    address: {OURS}\n    action: notify\n\
                 zone:\n  - domain: example.org\n    master: ours\n    acl: told\n    zonefile-sync: -1\n    \
                 zonemd-verify: on\n"
            ),
            ..peers::Setup::default()
        },
    )?;
    let log = || format!("{}\n{}\n{}", knot.log(), daemon.log(), last.log());
    in_step(&pair, [OURS, LAST], 0, log)?;
    let same = || -> Result<BTreeSet<String>> {
        let (theirs, ours) = (axfr(&pair, FIRST)?, axfr(&pair, OURS)?);
        let differ: Vec<_> = theirs.symmetric_difference(&ours).collect();
        ensure!(differ.is_empty(), "{differ:#?}");
        Ok(ours)
    };
    let records = same()?;
    let of = |rtype: &str| {
        let is_it = |line: &&String| line.split(' ').nth(3) == Some(rtype);
        records.iter().filter(is_it).collect::<Vec<_>>()
    };
    ensure!(
        of("zonemd").len() == 1 && of("rrsig").len() > 10,
        "{records:#?}"
    );

    // All signatures of a name are asked for together, each with its TTL.
    let said = dig(&pair, OURS, "example.org RRSIG +tcp +noall +answer")?;
    let ttls: BTreeSet<_> = said
        .lines()
        .filter_map(|line| line.split_whitespace().nth(1))
        .collect();
    ensure!(ttls.len() > 3 && ttls.contains("0"), "{said}");

    // Who owns nothing but an NSEC3 is no name (RFC 5155 section 7.2.8).
    let denials = of("nsec3");
    ensure!(denials.len() > 5, "{records:#?}");
    for denial in denials {
        let owner = denial.split(' ').next().context("an owner")?;
        for words in [
            format!("{owner} A"),
            format!("{owner} NSEC3"),
            format!("x.{owner} TXT"),
        ] {
            let said = dig(&pair, OURS, &words)?;
            ensure!(said.contains("status: NXDOMAIN"), "{words}: {said}");
        }
    }

    // It is said that nobody gets signatures, and what a pool answered would have none.
    daemon.logged("example.org: the zone is signed, and is served without its signatures")?;
    let status = daemon.json("status")?;
    ensure!(
        status["signed_zones"] == serde_json::json!(["example.org."]),
        "{status}"
    );
    let status = daemon.ok("status")?;
    ensure!(
        status.contains("served without signatures: example.org."),
        "{status}"
    );
    daemon.home.write(&secondary(POOL))?;
    let (_, said) = daemon.fails("reload")?;
    ensure!(
        said.contains("steer.name: example.org is signed (it has a DNSKEY)"),
        "{said}"
    );
    ensure!(serial(&pair, OURS)? == Some(first));

    // The same by IXFR.
    knot.write_zone(
        "example.org",
        &zone(first + 10, "new 70 A 192.0.2.77\nns 60 A 192.0.2.2\n"),
    )?;
    knot.reload()?;
    in_step(&pair, [FIRST, OURS], first, log)?;
    in_step(&pair, [OURS, LAST], first, log)?;
    daemon.logged("IXFR of 1 deltas")?;
    ensure!(same()?.len() > records.len());
    ensure!(!last.log().contains("ZONEMD, failed"), "{}", last.log());
    last.stop()?;
    knot.stop()
}

const KEY: &str = "@ 60 DNSKEY 257 3 13 mdsswUyr3DPW132mOi8V9xESWE8jTo0dxCjjnopKl+GqJxpVXckHAeF+KkxLbxILfDLUT0rAK9iUzy1L53eKGQ==\n";

/// A zone that is signed from now on is not taken where names of it are steered: the last one goes on.
#[test]
fn a_zone_that_becomes_signed_is_refused_where_it_is_steered() -> Result<()> {
    needs_root!();
    let pair = Pair::bare(&[])?;
    let load = "    zonefile-load: difference\n";
    let knot = Peer::start(&pair.client, Kind::Knot, &primary(&zone(1, ""), "", load))?;
    let daemon = Daemon::start(&pair.server, &secondary(POOL))?;
    let log = || format!("{}\n{}", knot.log(), daemon.log());
    in_step(&pair, [FIRST, OURS], 0, log)?;
    knot.write_zone("example.org", &zone(2, KEY))?;
    knot.reload()?;
    daemon.logged("AXFR: ")?;
    daemon.logged("steer.name: example.org is signed (it has a DNSKEY)")?;
    ensure!(serial(&pair, OURS)? == Some(1), "{}", daemon.log());
    let www = dig(&pair, OURS, "www.example.org A +short")?;
    ensure!(www.trim() == "192.0.2.10", "{www}");
    knot.write_zone("example.org", &zone(3, ""))?;
    knot.reload()?;
    in_step(&pair, [FIRST, OURS], 2, log)?;
    knot.stop()
}

/// A kept zone that may no longer be steered under the new configuration does not prevent a start.
#[test]
fn a_start_goes_on_without_a_kept_zone_that_does_not_fit() -> Result<()> {
    needs_root!();
    let pair = Pair::bare(&[])?;
    let knot = Peer::start(&pair.client, Kind::Knot, &primary(&zone(1, KEY), "", ""))?;
    let mut daemon = Daemon::start(&pair.server, &secondary(""))?;
    in_step(&pair, [FIRST, OURS], 0, || daemon.log())?;
    daemon.stop()?;
    knot.stop()?;
    daemon.home.write(&secondary(POOL))?;
    daemon.again(&pair.server, &secondary(POOL))?;
    daemon.logged("example.org: what was kept of it is not served: ")?;
    let said = dig(&pair, OURS, "example.org SOA")?;
    ensure!(said.contains("status: SERVFAIL"), "{said}");
    let said = dig(&pair, OURS, "example.net SOA")?;
    ensure!(said.contains("status: NOERROR"), "{said}");
    daemon.stop()?;
    // Without the steered name it is what it was.
    daemon.home.write(&secondary(""))?;
    daemon.again(&pair.server, &secondary(""))?;
    ensure!(serial(&pair, OURS)? == Some(1));
    daemon.stop()
}

/// The zone of RFC 8976 appendix A.3, with its digests: of SHA-384 and SHA-512, of a private algorithm, and of a
/// private scheme.
const DIGESTS: &str = "\
example.      86400  IN  SOA     ns1 admin 2018031900 1800 900 604800 86400
example.      86400  IN  NS      ns1.example.
example.      86400  IN  NS      ns2.example.
example.      86400  IN  ZONEMD  2018031900 1 1 (
                                 62e6cf51b02e54b9b5f967d547ce43136792901f9f88e637
                                 493daaf401c92c279dd10f0edb1c56f8080211f8480ee306 )
example.      86400  IN  ZONEMD  2018031900 1 2 (
                                 08cfa1115c7b948c4163a901270395ea
                                 226a930cd2cbcf2fa9a5e6eb85f37c8a
                                 4e114d884e66f176eab121cb02db7d65
                                 2e0cc4827e7a3204f166b47e5613fd27 )
example.      86400  IN  ZONEMD  2018031900 1 240 (
                                 e2d523f654b9422a96c5a8f44607bbee )
example.      86400  IN  ZONEMD  2018031900 241 1 (
                                 e1846540e33a9e4189792d18d5d131f605fc283e )
ns1.example.  3600   IN  A       203.0.113.63
ns2.example.  86400  IN  TXT     \"This example has multiple digests\"
NS2.EXAMPLE.  3600   IN  AAAA    2001:db8::63
";

/// All four digests of the RFC's example are taken as they stand there; Knot DNS verifies it, each of the two digests
/// that are not private alone.
#[test]
fn digests_of_every_scheme_are_taken_as_they_are() -> Result<()> {
    needs_root!();
    let space = Space::new("digests")?;
    let knot = |text: String| {
        let setup = peers::Setup {
            listen: vec!["127.0.0.1".parse()?],
            zones: vec![("example".to_owned(), text)],
            of_zone: "    zonemd-verify: on\n".to_owned(),
            patience: Some(Duration::from_secs(3)),
            ..peers::Setup::default()
        };
        Peer::start(&space, Kind::Knot, &setup)?.stop()
    };
    for other in ["900 1 2 (", "900 1 1 ("] {
        // A digest of a private algorithm in the other's place.
        let one = DIGESTS.replace(other, "900 1 241 (");
        knot(one.clone()).context("Knot does not verify the example")?;
        let wrong = one.replace("203.0.113.63", "203.0.113.64");
        ensure!(
            knot(wrong).is_err(),
            "Knot does not verify digests: {other}"
        );
    }

    let apex: Name = parse_name("example").map_err(anyhow::Error::msg)?;
    let reading = zone::parse(&apex, Path::new("zone"), DIGESTS.as_bytes());
    let zone = reading
        .zone
        .with_context(|| format!("{:?}", reading.findings.errors))?;
    let digests = zone.top().rrset(Rtype::ZONEMD).context("no digests")?;
    let ours: Vec<String> = digests
        .rdata()
        .map(|rdata| rdata.iter().map(|byte| format!("{byte:02x}")).collect())
        .collect();
    let serial = "7848b91c";
    for (scheme, digest) in [
        (
            "0101",
            "62e6cf51b02e54b9b5f967d547ce43136792901f9f88e637493daaf401c92c279dd10f0edb1c56f8080211f8480ee306",
        ),
        (
            "0102",
            "08cfa1115c7b948c4163a901270395ea226a930cd2cbcf2fa9a5e6eb85f37c8a4e114d884e66f176eab121cb02db7d652e0cc4827e7a3204f166b47e5613fd27",
        ),
        ("01f0", "e2d523f654b9422a96c5a8f44607bbee"),
        ("f101", "e1846540e33a9e4189792d18d5d131f605fc283e"),
    ] {
        let rdata = format!("{serial}{scheme}{digest}");
        ensure!(ours.contains(&rdata), "no {rdata}: {ours:#?}");
    }
    ensure!(ours.len() == 4, "{ours:#?}");
    Ok(())
}

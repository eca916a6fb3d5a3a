//! Tokens of ACME challenges: in both paths at once, for as long as they are to be there, and at a secondary.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use geodns_tests::daemon::{Daemon, Setup};
use geodns_tests::needs_root;
use geodns_tests::peers::{self, Kind, Peer};
use geodns_tests::world::{Pair, Space, output};

/// Ours.
const OURS: &str = "192.0.2.53";
/// The secondary's.
const OTHER: &str = "192.0.2.1";
const PATIENCE: Duration = Duration::from_secs(30);

fn zone(serial: u32) -> String {
    format!(
        "$ORIGIN example.org.\n$TTL 300\n@ SOA ns1 hostmaster {serial} 3600 2 3600 60\n@ NS ns1\n\
         ns1 A 192.0.2.53\nsub NS ns.elsewhere.test.\n*.wild A 192.0.2.9\n"
    )
}

fn setup(mode: &str) -> Setup {
    let body = format!(
        "[[zone]]\nname = \"example.org\"\nfile = \"example.org.zone\"\n\
         allow_transfer = [\"{OTHER}\"]\nnotify = [\"{OTHER}\"]\n\
         [[mirror]]\nid = \"ams\"\naddresses = [\"192.0.2.10\"]\n\
         [[pool]]\nid = \"www\"\nmirrors = [\"ams\"]\npolicy = \"all\"\n\
         [[steer]]\nname = \"www.example.org\"\npool = \"www\"\n"
    );
    Setup::new(&[OURS])
        .mode(mode)
        .body(&body)
        .file("example.org.zone", &zone(10))
}

fn dig(space: &Space, at: &str, words: &str) -> Result<String> {
    let mut dig = space.command("dig");
    dig.arg(format!("@{at}"))
        .args(["+short", "+time=1", "+tries=1"])
        .args(words.split_whitespace());
    Ok(String::from_utf8_lossy(&output(&mut dig)?.stdout).into_owned())
}

/// Tokens at a name, of the fast path where there is one (UDP) and of the slow one (TCP), which must agree.
fn tokens(space: &Space, name: &str) -> Result<Vec<String>> {
    let ask = |how: &str| -> Result<Vec<String>> {
        let said = dig(space, OURS, &format!("{name} TXT {how}"))?;
        let mut lines: Vec<_> = said.lines().map(|l| l.trim_matches('"').into()).collect();
        lines.sort();
        Ok(lines)
    };
    let (udp, tcp) = (ask("+notcp")?, ask("+tcp")?);
    ensure!(udp == tcp, "{name}: UDP {udp:?}, TCP {tcp:?}");
    Ok(udp)
}

fn serial(space: &Space, at: &str) -> Result<Option<u32>> {
    let said = dig(space, at, "example.org SOA")?;
    let number = said.split_whitespace().nth(2);
    Ok(number.and_then(|number| number.parse().ok()))
}

const NAME: &str = "_acme-challenge.www.example.org";

#[test]
fn tokens_are_answered_by_both_paths_and_outlive_restarts_and_reloads() -> Result<()> {
    needs_root!();
    let pair = Pair::bare(&[])?;
    let (space, setup) = (&pair.client, setup("auto"));
    let mut daemon = Daemon::start(&pair.server, &setup)?;
    let has = |wanted: &[&str], at: u32| -> Result<()> {
        let found = tokens(space, NAME)?;
        ensure!(found == wanted, "{found:?}, not {wanted:?}");
        let found = serial(space, OURS)?;
        ensure!(found == Some(at), "serial {found:?}, not {at}");
        Ok(())
    };
    has(&[], 10)?;
    let before = daemon.counters()?;
    daemon.ok("acme set www.example.org -one")?;
    has(&["-one"], 11)?;
    let counted = geodns_tests::daemon::difference(&before, &daemon.counters()?);
    ensure!(
        counted.get("static").is_some_and(|&count| count >= 1),
        "not by the fast path: {counted:?}"
    );
    daemon.ok("acme set *.www.example.org two --ttl 5")?;
    has(&["-one", "two"], 12)?;
    // Again, for longer: no answer changes.
    daemon.ok("acme set _acme-challenge.www.example.org two --ttl 5 --for 2h")?;
    has(&["-one", "two"], 12)?;
    let list = daemon.json("acme list")?;
    ensure!(
        list.as_array().is_some_and(|list| list.len() == 2),
        "{list}"
    );

    let file = daemon.home.folder.path().join("example.org.zone");
    daemon.ok("reload")?;
    has(&["-one", "two"], 12)?;
    daemon.ok("reload example.org")?;
    has(&["-one", "two"], 12)?;
    daemon.crash()?;
    daemon.again(&pair.server, &setup)?;
    has(&["-one", "two"], 12)?;
    // A file that has changed is served with a serial of its own, and never an older one.
    std::fs::write(&file, zone(11))?;
    daemon.ok("reload example.org")?;
    has(&["-one", "two"], 13)?;
    std::fs::write(&file, zone(20))?;
    daemon.ok("reload")?;
    has(&["-one", "two"], 20)?;

    // A reload that fails takes no serial that another version gets.
    let config = std::fs::read_to_string(daemon.home.config())?;
    std::fs::write(daemon.home.config(), config.replace("eth0", "nope0"))?;
    std::fs::write(&file, zone(19))?;
    let (_, said) = daemon.fails("reload")?;
    ensure!(said.contains("nope0"), "{said}");
    std::fs::write(daemon.home.config(), config)?;
    has(&["-one", "two"], 20)?;
    daemon.ok("acme clear www.example.org -one")?;
    has(&["two"], 22)?;
    daemon.ok("reload")?;
    has(&["two"], 23)?;

    daemon.ok("acme clear www.example.org")?;
    has(&[], 24)?;
    daemon.stop()?;
    daemon.again(&pair.server, &setup)?;
    has(&[], 24)?;

    daemon.ok("acme set www.example.org short --for 3s")?;
    has(&["short"], 25)?;
    let end = Instant::now() + PATIENCE;
    // One path alone: it may go between two questions.
    while !dig(space, OURS, &format!("{NAME} TXT +notcp"))?.is_empty() {
        ensure!(
            Instant::now() < end,
            "a token does not go: {}",
            daemon.log()
        );
        std::thread::sleep(Duration::from_millis(50));
    }
    has(&[], 26)?;
    // One that expires while nobody serves it.
    daemon.ok("acme set www.example.org short --for 1s")?;
    daemon.crash()?;
    std::thread::sleep(Duration::from_millis(1100));
    daemon.again(&pair.server, &setup)?;
    has(&[], 28)?;

    for (words, why) in [
        ("set a.test x", "in no zone"),
        ("set a.sub.example.org x", "zone cut"),
        ("set x.wild.example.org x", "*.wild.example.org alone"),
        ("clear www.example.org", "has no token"),
    ] {
        let (_, said) = daemon.fails(&format!("acme {words}"))?;
        ensure!(said.contains(why), "{words}: {said}");
    }
    for number in 0..16 {
        daemon.ok(&format!("acme set www.example.org t{number}"))?;
    }
    let (_, said) = daemon.fails("acme set www.example.org t16")?;
    ensure!(said.contains("16 tokens"), "{said}");
    ensure!(tokens(space, NAME)?.len() == 16);
    Ok(())
}

#[test]
fn a_secondary_has_a_token_by_notify_and_ixfr() -> Result<()> {
    needs_root!();
    let pair = Pair::bare(&[])?;
    let daemon = Daemon::start(&pair.server, &setup("off"))?;
    let other = peers::Setup {
        listen: vec![OTHER.parse()?],
        rest: format!(
            "remote:\n  - id: ours\n    address: {OURS}\n\
             acl:\n  - id: told\n    address: {OURS}\n    action: notify\n\
             zone:\n  - domain: example.org\n    master: ours\n    acl: told\n    zonefile-sync: -1\n"
        ),
        ..peers::Setup::default()
    };
    let mut other = Peer::start(&pair.client, Kind::Knot, &other)?;
    other
        .wait_for(&pair.client, OTHER.parse()?, "example.org")
        .with_context(|| daemon.log())?;
    for (words, wanted, at) in [
        ("set www.example.org one", "\"one\"\n", 11),
        ("clear www.example.org", "", 12),
    ] {
        daemon.ok(&format!("acme {words}"))?;
        let end = Instant::now() + PATIENCE;
        while serial(&pair.client, OTHER)? != Some(at) {
            ensure!(Instant::now() < end, "{}\n{}", other.log(), daemon.log());
            std::thread::sleep(Duration::from_millis(50));
        }
        let said = dig(&pair.client, OTHER, &format!("{NAME} TXT"))?;
        ensure!(said == wanted, "{said}");
        daemon.logged(&format!("IXFR of serial {at} to {OTHER}"))?;
    }
    other.stop()
}

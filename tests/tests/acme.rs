//! Tokens of ACME challenges: in both paths at once, for as long as they are to be there, and at a secondary.

use std::collections::BTreeSet;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use geodns_tests::daemon::{Daemon, Setup};
use geodns_tests::needs_root;
use geodns_tests::net::{Pair, Space, output, run};
use geodns_tests::peers::{self, Kind, Peer};

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

/// Another server that follows us.
fn secondary(kind: Kind) -> peers::Setup {
    let rest = match kind {
        Kind::Gdnsd | Kind::Pdns => unreachable!("they are only measured"),
        Kind::Knot => format!(
            "remote:\n  - id: ours\n    address: {OURS}\n\
             acl:\n  - id: told\n    address: {OURS}\n    action: notify\n\
             zone:\n  - domain: example.org\n    master: ours\n    acl: told\n    zonefile-sync: -1\n"
        ),
        Kind::Nsd => format!(
            "zone:\n  name: example.org\n  zonefile: example.org.zone\n  allow-notify: {OURS} NOKEY\n\
             \x20 request-xfr: {OURS} NOKEY\n"
        ),
        Kind::Bind => format!(
            "zone example.org {{ type secondary; primaries {{ {OURS}; }}; file \"example.org.zone\"; }};\n"
        ),
    };
    peers::Setup {
        listen: vec![OTHER.parse().expect("an address")],
        rest,
        ..peers::Setup::default()
    }
}

fn has_a_token_by_notify_and_ixfr(kind: Kind) -> Result<()> {
    let pair = Pair::bare(&[])?;
    let daemon = Daemon::start(&pair.server, &setup("off"))?;
    let mut other = Peer::start(&pair.client, kind, &secondary(kind))?;
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

#[test]
fn knot_has_a_token_by_notify_and_ixfr() -> Result<()> {
    needs_root!();
    has_a_token_by_notify_and_ixfr(Kind::Knot)
}

#[test]
fn nsd_has_a_token_by_notify_and_ixfr() -> Result<()> {
    needs_root!();
    has_a_token_by_notify_and_ixfr(Kind::Nsd)
}

#[test]
fn bind_has_a_token_by_notify_and_ixfr() -> Result<()> {
    needs_root!();
    has_a_token_by_notify_and_ixfr(Kind::Bind)
}

/// Sets a token over the control socket: status, and what is said.
fn set(daemon: &Daemon, name: &str, token: &str) -> Result<(u16, String)> {
    let body = format!("{{\"name\": {name:?}, \"token\": {token:?}}}");
    daemon.request("PUT", "/v1/acme", &body)
}

#[test]
fn a_thousand_tokens_are_all_there_may_be() -> Result<()> {
    needs_root!();
    let pair = Pair::bare(&[])?;
    let mut daemon = Daemon::start(&pair.server, &setup("off"))?;
    for number in 0..1000 {
        let name = format!("h{}.example.org", number / 16);
        let (code, said) = set(&daemon, &name, &format!("t{number}"))?;
        ensure!(code == 200, "{number}: {code}: {said}");
    }
    let (code, said) = set(&daemon, "more.example.org", "t")?;
    ensure!(
        code == 422 && said.contains("1000 tokens"),
        "{code}: {said}"
    );
    ensure!(serial(&pair.client, OURS)? == Some(1010));
    // One that is there may hold for longer, and another may take the place of one that went.
    let (code, said) = set(&daemon, "h0.example.org", "t0")?;
    ensure!(code == 200, "{said}");
    daemon.ok("acme clear h0.example.org t0")?;
    let (code, said) = set(&daemon, "more.example.org", "t")?;
    ensure!(code == 200, "{said}");
    ensure!(tokens(&pair.client, "_acme-challenge.more.example.org")? == ["t"]);
    ensure!(tokens(&pair.client, "_acme-challenge.h0.example.org")?.len() == 15);
    daemon.stop()
}

/// Lets a daemon open N files more than it has.
fn may_open(daemon: &Daemon, more: usize) -> Result<()> {
    let pid = daemon.pid().context("not running")?.to_string();
    let open: BTreeSet<u32> = std::fs::read_dir(format!("/proc/{pid}/fd"))?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect();
    // The limit is of numbers, of which the lowest that is free is taken.
    let mut free = (0..).filter(|number| !open.contains(number));
    let limit = free.nth(more).context("no number is free")?;
    let soft = format!("--nofile={limit}:");
    run(Command::new("prlimit").args(["--pid", &pid, &soft]))?;
    Ok(())
}

/// A token that needs larger tables, for which the kernel has nothing left.
#[test]
fn a_token_that_cannot_be_put_in_force_is_taken_back() -> Result<()> {
    needs_root!();
    let pair = Pair::bare(&[])?;
    let setup = setup("auto");
    let mut daemon = Daemon::start(&pair.server, &setup)?;
    may_open(&daemon, 4)?;
    let mut kept = 0;
    let failed = loop {
        let (code, said) = set(&daemon, &format!("h{kept}.example.org"), "t")?;
        if code != 200 {
            ensure!(code == 500, "{code}: {said}");
            break format!("_acme-challenge.h{kept}.example.org");
        }
        kept += 1;
        ensure!(kept < 900, "the tables never grow");
    };
    println!("token {kept} needs larger tables");
    let unchanged = |daemon: &Daemon| -> Result<()> {
        ensure!(tokens(&pair.client, &failed)?.is_empty());
        ensure!(serial(&pair.client, OURS)? == Some(10 + kept));
        let list = daemon.json("acme list")?;
        let list = list.as_array().context("no list")?;
        ensure!(list.len() == kept as usize);
        ensure!(list.iter().all(|token| token["name"] != failed.as_str()));
        for number in [0, kept - 1] {
            let name = format!("_acme-challenge.h{number}.example.org");
            ensure!(tokens(&pair.client, &name)? == ["t"]);
        }
        Ok(())
    };
    unchanged(&daemon)?;
    // Nor does a restart know of it.
    daemon.crash()?;
    daemon.again(&pair.server, &setup)?;
    unchanged(&daemon)?;
    may_open(&daemon, 1000)?;
    daemon.ok(&format!("acme set {failed} t"))?;
    ensure!(tokens(&pair.client, &failed)? == ["t"]);
    daemon.stop()
}

//! The command line and the daemon's life: every command, starts that must fail, reloads, stops,
//! crashes; seen by clients that go on asking.

use std::net::{IpAddr, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use geodns::kernel::pins;
use geodns_tests::built::binary;
use geodns_tests::daemon::{
    Daemon, EXAMPLE, EXAMPLE_PREFIXES, EXAMPLE_ZONE, Home, Setup, difference,
};
use geodns_tests::dns::{self, A, AAAA, Query, Reply, TXT};
use geodns_tests::net::{Pair, at, output, run};
use geodns_tests::{needs_root, until};
use nix::sys::signal::Signal;
use serde_json::Value;

/// How long an answer may take, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);
const SERVER: &str = "192.0.2.53";
const AMS: &str = "192.0.2.10";
const IAD: &str = "198.51.100.10";
const SIN: &str = "203.0.113.10";

/// A server with the example on it, and a client of several networks.
struct Site {
    daemon: Daemon,
    setup: Setup,
    pair: Pair,
}

impl Site {
    fn new(setup: Setup) -> Result<Self> {
        let pair = Pair::new(&["10.1.0.1", "10.2.0.1", "10.9.0.1", "fd01::1", "fd09::1"])?;
        let daemon = Daemon::start(&pair.server, &setup)?;
        Ok(Self {
            daemon,
            setup,
            pair,
        })
    }

    fn example() -> Result<Self> {
        Self::new(Setup::example(&[SERVER, "2001:db8::53"]))
    }

    fn socket(&self, from: &str) -> Result<UdpSocket> {
        let from: IpAddr = from.parse()?;
        let to = if from.is_ipv4() {
            SERVER
        } else {
            "2001:db8::53"
        };
        self.pair.client.udp(from, at(to, 53)?)
    }

    fn ask(&self, from: &str, query: &Query) -> Result<Reply> {
        let bytes = dns::ask(&self.socket(from)?, &query.bytes(), PATIENCE)?
            .with_context(|| format!("no answer for {from}"))?;
        Reply::parse(&bytes)
    }

    /// The address that `www` has for a client, which the kernel must say.
    fn www(&self, from: &str) -> Result<String> {
        let before = self.daemon.counters()?;
        let reply = self.ask(from, &Query::new("www.example.org", A))?;
        let counted = difference(&before, &self.daemon.counters()?);
        ensure!(
            counted.get("answered") == Some(&1),
            "not by the kernel: {counted:?}"
        );
        Ok(reply.of("A").join(" "))
    }

    fn restart(&mut self) -> Result<()> {
        self.daemon.stop()?;
        self.daemon.again(&self.pair.server, &self.setup)
    }

    /// Writes the files anew.
    fn change(&mut self, setup: Setup) -> Result<()> {
        self.daemon.home.write(&setup)?;
        self.setup = setup;
        Ok(())
    }

    fn attached(&self) -> Result<bool> {
        attached(&self.pair)
    }

    /// Waits until something holds.
    fn until(&self, what: &str, holds: impl Fn(&Self) -> Result<bool>) -> Result<()> {
        until(what, || holds(self)).with_context(|| self.daemon.log())
    }
}

fn attached(pair: &Pair) -> Result<bool> {
    Ok(pair.server.ip("-d link show eth0")?.contains("xdp"))
}

#[test]
fn every_command_answers_people_and_programs() -> Result<()> {
    needs_root!();
    let site = Site::example()?;
    let daemon = &site.daemon;
    for (words, says) in [
        (
            "status",
            vec!["eth0 (native", "192.0.2.53", "www", "ams, iad, sin"],
        ),
        ("stats", vec!["FAST PATH", "SLOW PATH"]),
        (
            "stats --all",
            vec!["pass_other_address", "Answered with a pool's records."],
        ),
        ("mirrors", vec!["ams", "2001:db8:3::10"]),
        ("mirror list", vec!["ams", "in", "auto", "2001:db8:3::10"]),
        (
            "mirror show sin",
            vec!["sin: in service", "www", "2001:db8:3::10"],
        ),
        (
            "zones",
            vec!["example.org", "2026010100", "www.example.org", "primary"],
        ),
        ("map list", vec!["no overrides"]),
        ("map get 10.1.2.3", vec!["iad", "list 10.1.0.0/16", "/16"]),
        ("map get fd09::1", vec!["ams", "default"]),
        (
            "map export",
            vec!["prefix,mirror", "10.2.0.0/16,sin", "fd01::/32,iad"],
        ),
        (
            "explain www.example.org --client 10.2.0.1",
            vec!["203.0.113.10", "10.2.0.0/16", "the same 60 octets"],
        ),
        (
            "explain www.example.org --client 10.2.0.1 --type aaaa",
            vec!["2001:db8:3::10", "10.2.0.0/16", "the same 72 octets"],
        ),
        (
            "explain absent.example.org --client 10.2.0.1",
            vec!["NXDOMAIN"],
        ),
        ("explain example.com --client 10.2.0.1", vec!["REFUSED"]),
        ("reload", vec!["plan 2"]),
    ] {
        let text = daemon.ok(words)?;
        for part in says {
            ensure!(
                text.contains(part),
                "geodns {words} does not say {part}:\n{text}"
            );
        }
    }
    // Words of operators, but for those who ask for the others.
    for (words, inner) in [
        ("status", "atlases"),
        ("explain www.example.org --client 10.2.0.1", "atlas"),
    ] {
        let plain = daemon.ok(words)?;
        ensure!(!plain.contains(inner), "geodns {words}:\n{plain}");
        let verbose = daemon.ok(&format!("{words} --verbose"))?;
        ensure!(verbose.contains(inner), "geodns {words}:\n{verbose}");
    }
    let log = daemon.log();
    for part in [
        "ready: answers on 192.0.2.53, 2001:db8::53, port 53; ",
        "; try: dig @192.0.2.53 www.example.org",
    ] {
        ensure!(log.contains(part), "the log does not say {part}:\n{log}");
    }
    let status = daemon.json("status")?;
    ensure!(status["atlases"][0]["pools"][0] == "www", "{status}");
    ensure!(status["generation"] == 2, "{status}");
    ensure!(status["interfaces"][0]["pinned"] == true, "{status}");
    ensure!(status["pools"][0]["listed"] == 4, "{status}");
    let verified = status["verified_instructions"].as_u64().unwrap_or(0);
    ensure!((1..400_000).contains(&verified), "{status}");
    ensure!(daemon.json("stats")?["kernel"]["answered"].is_u64());
    let mirrors = daemon.json("mirrors")?;
    ensure!(mirrors[2]["addresses"][1] == "2001:db8:3::10", "{mirrors}");
    let zones = daemon.json("zones")?;
    ensure!(zones[0]["serial"] == 2026010100_u32, "{zones}");
    ensure!(zones[0]["role"] == "primary", "{zones}");
    ensure!(zones[0]["expires_unix_ms"].is_null(), "{zones}");
    let found = daemon.json("map get 10.1.2.3")?;
    ensure!(
        found[0]["mirrors"][0] == "iad" && found[0]["scope"] == 16,
        "{found}"
    );
    let explained = daemon.json("explain www.example.org --client 10.2.0.1")?;
    ensure!(
        explained["a"][0] == SIN && explained["ttl"] == 60,
        "{explained}"
    );
    ensure!(daemon.json("map list")? == Value::Array(Vec::new()));
    ensure!(daemon.json("reload")?["generation"] == 3);

    // What is wrong with a request is said in a line, and the exit status is 1.
    for (words, says) in [
        ("map set 10.0.0.0/8 nowhere", "nowhere"),
        ("map set 10.0.0.0/8 ams --pool nothing", "nothing"),
        ("map del 10.0.0.0/8", "10.0.0.0/8"),
        ("map get 10.0.0.1 --pool nothing", "nothing"),
        ("map import /nonexistent.csv", "/nonexistent.csv"),
        ("mirror show nowhere", "nowhere"),
        ("mirror down nowhere", "nowhere"),
        (
            "mirror set-health ams up --address 192.0.2.99",
            "192.0.2.99",
        ),
    ] {
        let (code, error) = daemon.fails(words)?;
        ensure!(
            code == 1 && error.lines().count() == 1 && error.contains(says),
            "geodns {words}: {code}: {error}"
        );
        // With --json too: standard output is for answers.
        ensure!(daemon.fails(&format!("--json {words}"))?.0 == 1);
    }
    for words in [
        "map set 10.0.0.1/8 ams",
        "map set",
        "nonsense",
        "map get nobody",
        "mirror",
        "mirror drain ams --over soon",
        "mirror weight ams",
    ] {
        ensure!(daemon.fails(words)?.0 == 2, "geodns {words} is wrong usage");
    }
    // Nobody there.
    let mut nobody = Command::new(binary()?);
    let nobody = output(nobody.args(["--socket", "/nonexistent.sock", "status"]))?;
    let error = String::from_utf8(nobody.stderr)?;
    ensure!(
        nobody.status.code() == Some(1) && error.lines().count() == 1,
        "{error}"
    );
    ensure!(error.contains("/nonexistent.sock"), "{error}");
    // By GEODNS_SOCKET, and by the configuration.
    let mut found = Command::new(binary()?);
    run(found
        .arg("status")
        .env("GEODNS_SOCKET", daemon.home.socket()))?;
    let mut found = Command::new(binary()?);
    run(found
        .arg("--config")
        .arg(daemon.home.config())
        .arg("status"))?;
    Ok(())
}

// Invariant 8
#[test]
fn a_map_set_is_in_the_kernels_answers_at_once_and_survives() -> Result<()> {
    needs_root!();
    let mut site = Site::example()?;
    ensure!(site.www("10.1.0.1")? == IAD);
    let said = site.daemon.ok("map set 10.1.0.0/24 sin")?;
    ensure!(said.contains("10.1.0.0/24 -> sin"), "{said}");
    // The very first question after it.
    ensure!(site.www("10.1.0.1")? == SIN);
    site.daemon.ok("map set 10.1.0.1 ams --pool www")?;
    ensure!(site.www("10.1.0.1")? == AMS);
    site.daemon.ok("map set fd09::/48 iad")?;
    let reply = site.ask("fd09::1", &Query::new("www.example.org", AAAA))?;
    ensure!(reply.of("AAAA") == ["2001:db8:2::10"], "{reply}");
    let list = site.daemon.json("map list")?;
    ensure!(list.as_array().map(Vec::len) == Some(3), "{list}");
    // A list puts its own below the single ones, and is replaced whole by the next.
    let folder = site.daemon.home.folder.path();
    let (first, second) = (folder.join("first.csv"), folder.join("second.csv"));
    std::fs::write(
        &first,
        "prefix,mirror\n10.9.0.0/16,sin,iad\n10.1.0.0/24,iad\n",
    )?;
    std::fs::write(&second, "10.2.0.0/24,ams\n")?;
    site.daemon.ok(&format!("map import {}", first.display()))?;
    ensure!(site.www("10.9.0.1")? == SIN);
    ensure!(site.www("10.1.0.1")? == AMS);
    site.restart()?;
    ensure!(site.www("10.9.0.1")? == SIN);
    ensure!(site.www("10.1.0.1")? == AMS);
    // The second of an order follows the first, over a restart too.
    site.daemon.ok("mirror down sin")?;
    ensure!(site.www("10.9.0.1")? == IAD);
    site.daemon.ok("mirror auto sin")?;
    let exported = site.daemon.ok("map export")?;
    ensure!(exported.contains("\n10.9.0.0/16,sin,iad\n"), "{exported}");
    let imported = site
        .daemon
        .json(&format!("map import {}", second.display()))?;
    ensure!(imported["prefixes"]["www"] == 1, "{imported}");
    ensure!(site.www("10.9.0.1")? == AMS);
    ensure!(site.www("10.2.0.1")? == AMS);
    let export = site.daemon.ok("map export")?;
    for line in [
        "10.1.0.1/32,ams",
        "10.1.0.0/24,sin",
        "10.2.0.0/24,ams",
        "10.2.0.0/16,sin",
    ] {
        ensure!(
            export.lines().any(|other| other == line),
            "no {line} in:\n{export}"
        );
    }
    // What was exported can be imported.
    let third = site.daemon.home.folder.path().join("third.csv");
    std::fs::write(&third, &export)?;
    site.daemon.ok(&format!("map import {}", third.display()))?;
    ensure!(site.daemon.ok("map export")? == export);
    // Nor does an empty one.
    std::fs::write(&third, "\n# nothing\n")?;
    let (code, error) = site
        .daemon
        .fails(&format!("map import {}", third.display()))?;
    ensure!(code == 1 && error.contains("empty"), "{error}");
    // A wrong list changes nothing.
    std::fs::write(&third, "10.2.0.0/24,iad\n10.3.0.0/24,nowhere\n")?;
    let (code, error) = site
        .daemon
        .fails(&format!("map import {}", third.display()))?;
    ensure!(
        code == 1 && error.contains("third.csv:2") && error.contains("nowhere"),
        "{error}"
    );
    ensure!(site.www("10.2.0.1")? == AMS);
    // Deleted one by one, each uncovers what was below.
    site.daemon.ok("map del 10.1.0.1/32")?;
    ensure!(site.www("10.1.0.1")? == SIN);
    site.restart()?;
    ensure!(site.www("10.1.0.1")? == SIN);
    site.daemon.ok("map del 10.1.0.0/24")?;
    // Both are in the third list still, from the export.
    ensure!(site.www("10.1.0.1")? == AMS);
    std::fs::write(&third, "prefix,mirror\n")?;
    site.daemon.ok(&format!("map import {}", third.display()))?;
    ensure!(site.www("10.1.0.1")? == IAD);
    site.daemon.stop()
}

#[test]
fn what_is_said_of_mirrors_survives_a_restart() -> Result<()> {
    needs_root!();
    let mut site = Site::example()?;
    for (words, says) in [
        (
            "mirror drain ams --over 1h",
            "ams: draining over 1h, 0 % drained; was auto\n",
        ),
        ("mirror up iad", "iad: up, whatever checks say; was auto\n"),
        (
            "mirror weight iad 50 --over 0s",
            "iad: weight 50 (configured 100); was 100\n",
        ),
        (
            "mirror set-health sin down --for 1h --reason unreachable",
            "sin: monitors say down for 1h 0m; out of service: a monitor says down: unreachable\n",
        ),
        (
            "mirror set-health sin up --address 203.0.113.10",
            "sin: monitors say down for 1h 0m, 203.0.113.10 up; in service: 1 of 2 addresses out: \
             a monitor says down: unreachable\n",
        ),
    ] {
        let said = site.daemon.ok(words)?;
        ensure!(said == says, "geodns {words}: {said}");
    }
    let drain = site.daemon.json("mirror show ams")?["admin"].take();
    ensure!(drain["over_ms"] == 3_600_000, "{drain}");
    site.daemon.crash()?;
    site.daemon.again(&site.pair.server, &site.setup)?;
    let mirrors = site.daemon.json("mirror list")?;
    let kept = &mirrors[0]["admin"];
    ensure!(kept["until_unix_ms"] == drain["until_unix_ms"], "{kept}");
    ensure!(kept["drained"].as_f64() > Some(0.0), "{kept}");
    ensure!(mirrors[1]["admin"]["state"] == "up", "{mirrors}");
    ensure!(mirrors[1]["weight"]["in_force"] == 50, "{mirrors}");
    ensure!(
        mirrors[2]["external"][0]["reason"] == "unreachable"
            && mirrors[2]["external"][1]["address"] == SIN,
        "{mirrors}"
    );
    // Taken back; a typing error changes nothing.
    let (code, error) = site.daemon.fails("mirror down iad nowhere sin")?;
    ensure!(code == 1 && error.contains("nowhere"), "{error}");
    let said = site.daemon.ok("mirror auto ams iad")?;
    ensure!(
        said.lines().count() == 2 && said.contains("was up"),
        "{said}"
    );
    site.daemon.ok("mirror weight iad --reset")?;
    site.daemon.ok("mirror set-health sin --clear")?;
    let (code, text) =
        site.daemon
            .request("PUT", "/v1/mirrors/sin/admin", r#"{"state":"drain"}"#)?;
    ensure!(
        code == 200 && text.contains(r#""in_service":false"#),
        "{text}"
    );
    // What the configuration has no mirror for is said, kept, and in force again with the mirror.
    let setup = site.setup.clone();
    let without = EXAMPLE
        .replace("\"sin\"]", "]")
        .replace("id = \"sin\"", "id = \"fra\"");
    site.change(
        setup
            .clone()
            .body(&without)
            .file("world.csv", "prefix,mirror\n"),
    )?;
    site.restart()?;
    site.daemon
        .logged("what was said of mirror sin (up, down, drain, weight, health) is not in force")?;
    ensure!(site.daemon.fails("mirror show sin")?.0 == 1);
    site.change(setup)?;
    site.daemon.ok("reload")?;
    let mirrors = site.daemon.json("mirrors")?;
    ensure!(mirrors[2]["admin"]["state"] == "drain", "{mirrors}");
    for mirror in [&mirrors[0], &mirrors[1]] {
        ensure!(mirror["admin"]["state"] == "auto", "{mirror}");
        ensure!(mirror["weight"]["wanted"].is_null(), "{mirror}");
    }
    ensure!(mirrors[2]["external"] == Value::Array(Vec::new()));
    site.daemon.stop()
}

// Invariant 4
#[test]
fn a_thousand_edits_under_questions_never_give_a_third_answer() -> Result<()> {
    needs_root!();
    let site = Site::example()?;
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let asker = scope.spawn(|| -> Result<u64> {
            let socket = site.socket("10.1.0.1")?;
            let mut asked = 0;
            while !done.load(Ordering::Relaxed) {
                let query = Query::new("www.example.org", A).bytes();
                let bytes = dns::ask(&socket, &query, PATIENCE)?.context("lost")?;
                let reply = Reply::parse(&bytes)?;
                ensure!(
                    matches!(reply.of("A")[..], [IAD] | [SIN]),
                    "neither before nor after: {reply}"
                );
                asked += 1;
            }
            Ok(asked)
        });
        let edit = || -> Result<()> {
            for number in 0..1000 {
                let mirror = if number % 2 == 0 { "sin" } else { "iad" };
                let body = format!(
                    r#"{{"prefix":"10.1.0.0/{}","mirror":"{mirror}"}}"#,
                    17 + number % 8
                );
                let (code, text) = site.daemon.request("PUT", "/v1/map", &body)?;
                ensure!(code == 200, "{code}: {text}");
            }
            Ok(())
        };
        let edited = edit();
        done.store(true, Ordering::Relaxed);
        let asked = asker.join().expect("no panic")?;
        edited?;
        ensure!(asked > 100, "only {asked} questions meanwhile");
        println!("{asked} questions during 1000 edits");
        Ok(())
    })?;
    ensure!(site.www("10.1.0.1")? == IAD);
    Ok(())
}

#[test]
fn the_socket_is_for_curl_and_its_owner_only() -> Result<()> {
    needs_root!();
    let site = Site::example()?;
    let socket = site.daemon.home.socket();
    let mode = std::fs::metadata(&socket)?.permissions().mode();
    ensure!(mode & 0o777 == 0o600, "{mode:o}");
    let curl = |arguments: &[&str]| {
        run(Command::new("curl")
            .args(["--silent", "--show-error", "--unix-socket"])
            .arg(&socket)
            .args(arguments))
    };
    let status: Value = serde_json::from_str(&curl(&["http://geodns/v1/status"])?)?;
    ensure!(status["pools"][0]["id"] == "www", "{status}");
    curl(&[
        "--fail",
        "-X",
        "PUT",
        "-H",
        "content-type: application/json",
        "-d",
        r#"{"prefix":"10.9.0.0/16","mirror":"sin"}"#,
        "http://geodns/v1/map",
    ])?;
    ensure!(site.www("10.9.0.1")? == SIN);
    let document: Value = serde_json::from_str(&curl(&["http://geodns/v1/openapi.json"])?)?;
    for path in [
        "/v1/status",
        "/v1/stats",
        "/v1/map",
        "/v1/mirrors",
        "/v1/mirrors/{id}/admin",
        "/v1/zones",
        "/v1/explain",
        "/v1/preview",
        "/v1/reload",
    ] {
        ensure!(
            document["paths"][path].is_object(),
            "{path} is not described"
        );
    }
    for (arguments, code) in [
        (vec!["http://geodns/v1/nothing"], "404"),
        (vec!["-X", "DELETE", "http://geodns/v1/status"], "405"),
        (vec!["-X", "PUT", "-d", "{", "http://geodns/v1/map"], "4"),
    ] {
        let mut all = vec!["-w", "\n%{http_code}"];
        all.extend(arguments);
        let text = curl(&all)?;
        let (body, got) = text.rsplit_once('\n').context("a code")?;
        ensure!(got.starts_with(code), "{text}");
        let problem: Value = serde_json::from_str(body)?;
        ensure!(problem["error"].is_string(), "{text}");
    }
    // Another user may not.
    std::fs::set_permissions(
        site.daemon.home.folder.path(),
        std::fs::Permissions::from_mode(0o755),
    )?;
    let copy = tempfile::Builder::new()
        .permissions(std::fs::Permissions::from_mode(0o755))
        .tempdir()?;
    let program = copy.path().join("geodns");
    std::fs::copy(binary()?, &program)?;
    let refused = output(
        Command::new(&program)
            .arg("--socket")
            .arg(&socket)
            .arg("status")
            .uid(65_534)
            .gid(65_534),
    )?;
    let error = String::from_utf8(refused.stderr)?;
    ensure!(
        refused.status.code() == Some(1) && error.to_lowercase().contains("permi"),
        "{error}"
    );
    Ok(())
}

// Invariant 7
#[test]
fn a_reload_is_whole_or_not_at_all() -> Result<()> {
    needs_root!();
    let mut site = Site::example()?;
    let good = site.setup.clone();
    // New zone data, a new steered name, a mirror that moved.
    let zone = format!("{EXAMPLE_ZONE}new IN TXT \"new\"\n").replace("2026010100", "2026010101");
    let body = EXAMPLE.replace("192.0.2.10", "192.0.2.11")
        + "[[steer]]\nname = \"too.example.org\"\npool = \"www\"\n";
    let better = good.clone().body(&body).file("example.org.zone", &zone);
    site.change(better.clone())?;
    site.daemon.ok("reload")?;
    ensure!(site.www("10.9.0.1")? == "192.0.2.11");
    let reply = site.ask("10.1.0.1", &Query::new("too.example.org", A))?;
    ensure!(reply.of("A") == [IAD], "{reply}");
    let reply = site.ask("10.1.0.1", &Query::new("new.example.org", TXT))?;
    ensure!(reply.of("TXT") == ["\"new\""], "{reply}");

    // Each of these is refused by both ways of asking, and what was in force stays.
    for (wrong, says) in [
        (better.clone().body("nonsense = 1\n"), "nonsense"),
        (
            better.clone().file("example.org.zone", "@ IN SOA broken\n"),
            "example.org.zone",
        ),
        (
            better.clone().file("world.csv", "10.0.0.0/8,nowhere\n"),
            "world.csv:1",
        ),
        (
            better
                .clone()
                .body(&body.replace("\"too.example.org\"", "\"too.example.net\"")),
            "too.example.net",
        ),
    ] {
        site.daemon.home.write(&wrong)?;
        let (code, error) = site.daemon.fails("reload")?;
        ensure!(
            code == 1 && error.contains(says) && error.lines().count() == 1,
            "{says}: {code}: {error}"
        );
        let status = site.daemon.json("status")?;
        ensure!(
            status["last_error"]
                .as_str()
                .is_some_and(|error| error.contains(says)),
            "{status}"
        );
        ensure!(site.www("10.9.0.1")? == "192.0.2.11");
        let reply = site.ask("10.1.0.1", &Query::new("new.example.org", TXT))?;
        ensure!(reply.of("TXT") == ["\"new\""], "{reply}");
    }
    let said = site.daemon.log().matches("too.example.net").count();
    site.daemon.signal(Signal::SIGHUP)?;
    site.until("SIGHUP says why it is refused", |site| {
        Ok(site.daemon.log().matches("too.example.net").count() > said)
    })?;
    ensure!(site.www("10.9.0.1")? == "192.0.2.11");

    // And back, by SIGHUP.
    site.change(good)?;
    site.daemon.signal(Signal::SIGHUP)?;
    site.until("SIGHUP reloads", |site| Ok(site.www("10.9.0.1")? == AMS))?;
    site.until("the name is gone", |site| {
        Ok(site
            .ask("10.1.0.1", &Query::new("new.example.org", TXT))?
            .rcode
            == 3)
    })?;
    site.until("the status forgets the error", |site| {
        Ok(site.daemon.json("status")?["last_error"].is_null())
    })?;
    site.daemon.stop()
}

#[test]
fn a_preview_says_what_would_move_and_moves_nothing() -> Result<()> {
    needs_root!();
    let site = Site::example()?;
    let daemon = &site.daemon;
    // One in 64 of those who are answered is kept. A private client subnet is for the slow path.
    let query = Query::new("www.example.org", A);
    site.ask("10.1.0.1", &query.edns(1232).subnet(1, 8, 0, &[10]))?;
    let path = daemon.home.folder.path().join("new.toml");
    let config = std::fs::read_to_string(daemon.home.config())?;
    let list = EXAMPLE_PREFIXES.replace("10.1.0.0/16,iad", "10.0.0.0/8,sin");
    std::fs::write(daemon.home.folder.path().join("new.csv"), list)?;
    let more = "[[pool]]\nid = \"more\"\nmirrors = [\"ams\"]\npolicy = \"all\"\n";
    let new = config.replace("world.csv", "new.csv") + more;
    std::fs::write(&path, &new)?;
    let words = format!("preview {}", path.display());
    let preview = daemon.json_exits(&words, &[4])?;
    let www = &preview["names"][0];
    ensure!(
        www["names"][0] == "www.example.org." && www["from_pool"] == "www",
        "{preview}"
    );
    ensure!(preview["new_pools"][0] == "more", "{preview}");
    let moves = www["moves"].as_array().context("moves")?;
    let sum = |of: &str| moves.iter().filter_map(|one| one[of].as_f64()).sum::<f64>();
    for of in ["v4", "v6", "queries"] {
        ensure!((sum(of) - 1.0).abs() < 1e-9, "{of}: {preview}");
    }
    let share = |from: &str, to: &str, of: &str| {
        let mut all = moves
            .iter()
            .filter(|one| one["from"] == from && one["to"] == to);
        all.next()
            .and_then(|one| one[of].as_f64())
            .unwrap_or_default()
    };
    let slash_16 = 1.0 / 65536.0;
    ensure!(
        (share("iad", "sin", "v4") - slash_16).abs() < 1e-12,
        "{preview}"
    );
    ensure!(
        (share("ams", "sin", "v4") - 254.0 * slash_16).abs() < 1e-12,
        "{preview}"
    );
    ensure!(share("iad", "sin", "queries") == 1.0, "{preview}");
    ensure!(
        www["queries_seen"].as_u64().is_some_and(|seen| seen > 0),
        "{preview}"
    );
    let text = daemon.exits(&words, &[4])?;
    for part in [
        "nothing is changed",
        "0.39 %",
        "100.00 % of",
        "new pools: more",
        "stays",
    ] {
        ensure!(text.contains(part), "{text}");
    }
    // Nothing has moved, and what is wrong is said in a line.
    ensure!(site.www("10.1.0.1")? == IAD);
    ensure!(daemon.json("status")?["generation"] == 1);
    std::fs::write(
        &path,
        new.replace("policy = \"table\"", "policy = \"tabel\""),
    )?;
    let (code, said) = daemon.fails(&words)?;
    ensure!(code == 1 && said.lines().count() == 1, "{said}");
    ensure!(
        said.contains("new.toml") && said.contains("tabel"),
        "{said}"
    );
    // What changes nothing exits with 0.
    let same = daemon.json(&format!("preview {}", daemon.home.config().display()))?;
    ensure!(
        same["names"][0]["moves"][0]["v4"].as_f64() <= Some(1.0),
        "{same}"
    );
    let (code, said) = daemon.fails("preview /nonexistent.toml")?;
    ensure!(code == 1 && said.contains("/nonexistent.toml"), "{said}");
    ensure!(daemon.json("status")?["last_error"].is_null());
    Ok(())
}

#[test]
fn sigterm_and_sigint_leave_nothing() -> Result<()> {
    needs_root!();
    let mut site = Site::example()?;
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        ensure!(site.attached()? && !site.daemon.home.pins.list().is_empty());
        ensure!(site.www("10.1.0.1")? == IAD);
        let status = site.daemon.end(signal)?;
        ensure!(
            status.success(),
            "{signal}: {status}:\n{}",
            site.daemon.log()
        );
        let left = site.daemon.home.pins.list();
        ensure!(left.is_empty(), "{signal} leaves {left:?}");
        ensure!(
            !site.daemon.home.pins.path().exists(),
            "the folder of the pins is left"
        );
        ensure!(!site.attached()?, "{signal} leaves the program attached");
        ensure!(
            !site.daemon.home.socket().exists(),
            "{signal} leaves the socket"
        );
        site.daemon.again(&site.pair.server, &site.setup)?;
    }
    site.daemon.stop()
}

/// Asks all the time while `meanwhile` runs: nothing may be lost, nothing wrong. Gives how many.
fn without_a_gap(site: &mut Site, meanwhile: impl FnOnce(&mut Site) -> Result<()>) -> Result<u64> {
    let done = AtomicBool::new(false);
    let socket = site.socket("10.1.0.1")?;
    std::thread::scope(|scope| {
        let asker = scope.spawn(|| -> Result<u64> {
            let mut asked = 0;
            while !done.load(Ordering::Relaxed) {
                let query = Query::new("www.example.org", A).bytes();
                let bytes = dns::ask(&socket, &query, PATIENCE)?
                    .with_context(|| format!("question {asked} was lost"))?;
                let reply = Reply::parse(&bytes)?;
                ensure!(reply.of("A") == [IAD], "question {asked}: {reply}");
                asked += 1;
                std::thread::sleep(Duration::from_micros(300));
            }
            Ok(asked)
        });
        let result = meanwhile(site);
        done.store(true, Ordering::Relaxed);
        let asked = asker.join().expect("no panic");
        result?;
        asked
    })
}

#[test]
fn a_stop_in_the_middle_of_a_reload_leaves_nothing() -> Result<()> {
    needs_root!();
    for delay in [5, 20, 35, 50, 80] {
        let mut site = Site::example()?;
        site.daemon.signal(Signal::SIGHUP)?;
        std::thread::sleep(Duration::from_millis(delay));
        site.daemon.stop()?;
        let left = site.daemon.home.pins.list();
        ensure!(left.is_empty(), "after {delay} ms: left {left:?}");
        ensure!(!site.attached()?, "after {delay} ms: left attached");
    }
    Ok(())
}

#[test]
fn a_start_that_fails_late_takes_nothing_from_the_daemon_before() -> Result<()> {
    needs_root!();
    let mut site = Site::example()?;
    let text = std::fs::read_to_string(site.daemon.home.config())?;
    let unusable = text.replace("control.sock", "world.csv");
    site.daemon.crash()?;
    std::fs::write(site.daemon.home.config(), &unusable)?;
    let done = Daemon::attempt(&site.pair.server, &site.daemon.home, &site.setup)?;
    ensure!(done.status.code() == Some(1));
    let reply = site.ask("10.1.0.1", &Query::new("www.example.org", A))?;
    ensure!(reply.of("A") == [IAD], "the hot answers have gone: {reply}");
    std::fs::write(site.daemon.home.config(), &text)?;
    site.daemon.again(&site.pair.server, &site.setup)?;
    ensure!(site.www("10.1.0.1")? == IAD);
    site.daemon.stop()?;
    // And `on_stop = "keep"` is for a stop, not for a start that fails.
    let keep = unusable.replace("on_stop = \"detach\"", "on_stop = \"keep\"");
    std::fs::write(site.daemon.home.config(), keep)?;
    let done = Daemon::attempt(&site.pair.server, &site.daemon.home, &site.setup)?;
    ensure!(done.status.code() == Some(1));
    let left = site.daemon.home.pins.list();
    ensure!(left.is_empty() && !site.attached()?, "left {left:?}");
    Ok(())
}

#[test]
fn a_link_that_somebody_takes_away_is_put_back() -> Result<()> {
    needs_root!();
    let mut site = Site::example()?;
    let link = pins::home(site.daemon.home.pins.path()).join("links/eth0");
    let mut bpftool = site.pair.server.command("bpftool");
    run(bpftool.args(["link", "detach", "pinned"]).arg(&link))?;
    ensure!(!site.attached()?, "bpftool has not detached it");
    site.daemon.ok("reload")?;
    ensure!(site.attached()?, "not put back");
    ensure!(site.www("10.1.0.1")? == IAD);
    ensure!(site.daemon.log().contains("attaching it again"));
    site.daemon.stop()?;
    ensure!(site.daemon.home.pins.list().is_empty() && !site.attached()?);
    Ok(())
}

#[test]
fn pins_that_somebody_removes_leave_the_fast_path_alive() -> Result<()> {
    needs_root!();
    let mut setup = Setup::example(&[SERVER, "2001:db8::53"]);
    // Short, so that a program that nobody feeds would be found out.
    setup.stale_after = "2s".into();
    let mut site = Site::new(setup)?;
    let pins = site.daemon.home.pins.list();
    let asked = without_a_gap(&mut site, |site| {
        std::fs::remove_dir_all(site.daemon.home.pins.path())?;
        std::thread::sleep(Duration::from_millis(200));
        site.daemon.ok("reload")?;
        std::thread::sleep(Duration::from_secs(3));
        let before = site.daemon.counters()?["answered"];
        std::thread::sleep(Duration::from_millis(100));
        ensure!(
            site.daemon.counters()?["answered"] > before,
            "the kernel is silent"
        );
        ensure!(
            site.daemon.home.pins.list() == pins,
            "not all is pinned again"
        );
        site.daemon.logged("pinned again")?;
        // And again, with a crash, which takes nothing that is pinned.
        std::fs::remove_dir_all(site.daemon.home.pins.path())?;
        site.daemon.ok("reload")?;
        site.daemon.crash()?;
        ensure!(site.attached()?, "a crash must leave the program");
        site.daemon.again(&site.pair.server, &site.setup)
    })?;
    println!("{asked} questions, none lost");
    site.daemon.stop()?;
    ensure!(site.daemon.home.pins.list().is_empty() && !site.attached()?);
    Ok(())
}

/// A small file system over a folder, for as long as it lives.
struct Small(std::path::PathBuf);

impl Small {
    fn over(folder: &std::path::Path) -> Result<Self> {
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=4m", "geodns-test"]);
        run(mount.arg(folder))?;
        Ok(Self(folder.to_owned()))
    }

    /// Takes the room that is left.
    fn fill(&self) -> Result<()> {
        let mut file = std::fs::File::create(self.0.join("filler"))?;
        while std::io::Write::write_all(&mut file, &[0; 4096]).is_ok() {}
        Ok(())
    }

    fn free(&self) -> Result<()> {
        Ok(std::fs::remove_file(self.0.join("filler"))?)
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = run(Command::new("umount").arg("--lazy").arg(&self.0));
        // The folder's owner has gone by now, and could not remove what was mounted on.
        let _ = std::fs::remove_dir(&self.0);
    }
}

#[test]
fn a_full_disk_spoils_neither_what_is_kept_nor_what_comes_after() -> Result<()> {
    needs_root!();
    let pair = Pair::new(&["10.1.0.1"])?;
    let setup = Setup::example(&[SERVER]);
    let home = Home::new()?;
    let small = Small::over(home.folder.path())?;
    home.write(&setup)?;
    // The first start of all.
    small.fill()?;
    let done = Daemon::attempt(&pair.server, &home, &setup)?;
    let text = String::from_utf8(done.stderr)?;
    ensure!(
        done.status.code() == Some(1) && text.contains("No space left"),
        "{text}"
    );
    small.free()?;
    let mut daemon = Daemon::start_at(&pair.server, home, &setup)?;
    daemon.ok("map set 10.7.0.0/16 sin")?;
    small.fill()?;
    // Small writes may find room in what the file has already.
    let mut refused = None;
    for number in 0..2000 {
        let done = daemon.cli([
            "map",
            "set",
            &format!("10.9.{}.{}/32", number / 250, number % 250),
            "iad",
        ])?;
        if !done.status.success() {
            refused = Some(String::from_utf8(done.stderr)?);
            break;
        }
    }
    let refused = refused.context("the disk was never full")?;
    ensure!(refused.contains("No space left"), "{refused}");
    small.free()?;
    daemon.ok("map set 10.8.0.0/16 iad")?;
    let before = daemon.json("map list")?;
    daemon.crash()?;
    daemon.again(&pair.server, &setup)?;
    ensure!(daemon.json("map list")? == before);
    for prefix in ["10.7.0.0/16", "10.8.0.0/16"] {
        ensure!(before.to_string().contains(prefix), "{before}");
    }
    daemon.stop()
}

#[test]
fn hot_answers_outlive_a_crash_and_a_new_start_loses_none() -> Result<()> {
    needs_root!();
    let mut site = Site::example()?;
    let asked = without_a_gap(&mut site, |site| {
        for _ in 0..3 {
            site.daemon.crash()?;
            ensure!(site.attached()?, "a crash must leave the program");
            std::thread::sleep(Duration::from_millis(200));
            site.daemon.again(&site.pair.server, &site.setup)?;
            std::thread::sleep(Duration::from_millis(200));
        }
        Ok(())
    })?;
    println!("{asked} questions during three crashes, none lost");
    // The counters are those of before, too.
    let answered = site.daemon.counters()?["answered"];
    ensure!(answered >= asked, "{answered} counted of {asked}");
    // What the crash left is taken over, not added to.
    let pins = site.daemon.home.pins.list();
    let links = pins.iter().filter(|pin| pin.contains("link")).count();
    ensure!(links <= 1, "{pins:?}");
    // The new one is not a copy: it takes edits.
    site.daemon.ok("map set 10.1.0.0/16 sin")?;
    ensure!(site.www("10.1.0.1")? == SIN);
    site.daemon.stop()?;
    ensure!(!site.attached()? && site.daemon.home.pins.list().is_empty());
    Ok(())
}

// Invariant 6
#[test]
fn a_reload_loses_none() -> Result<()> {
    needs_root!();
    let mut site = Site::example()?;
    let asked = without_a_gap(&mut site, |site| {
        for _ in 0..5 {
            site.daemon.ok("reload")?;
        }
        Ok(())
    })?;
    println!("{asked} questions during five reloads, none lost");
    Ok(())
}

#[test]
fn on_stop_keep_leaves_the_program_to_the_next_start() -> Result<()> {
    needs_root!();
    let mut setup = Setup::example(&[SERVER, "2001:db8::53"]);
    setup.on_stop = "keep".into();
    let mut site = Site::new(setup)?;
    let asked = without_a_gap(&mut site, |site| {
        site.daemon.stop()?;
        ensure!(
            site.attached()?,
            "on_stop = \"keep\" must leave the program"
        );
        std::thread::sleep(Duration::from_millis(200));
        site.daemon.again(&site.pair.server, &site.setup)
    })?;
    println!("{asked} questions during a stop and a start, none lost");
    let mut setup = site.setup.clone();
    setup.on_stop = "detach".into();
    site.change(setup)?;
    site.restart()?;
    site.daemon.stop()?;
    ensure!(!site.attached()? && site.daemon.home.pins.list().is_empty());
    Ok(())
}

#[test]
fn upgrades_and_downgrades_lose_none() -> Result<()> {
    needs_root!();
    let Some(release) = std::env::var_os("GEODNS_LAST_RELEASE") else {
        let why = "no build of the last release: cargo xtask test --upgrade";
        geodns_tests::skipped("upgrades_and_downgrades_lose_none", why);
        return Ok(());
    };
    let binaries = [geodns_tests::built::binary()?, release.into()];
    let mut setup = Setup::example(&[SERVER, "2001:db8::53"]);
    // The last release does not know the key.
    setup.required = false;
    setup.on_stop = "keep".into();
    let mut site = Site::new(setup)?;
    let asked = without_a_gap(&mut site, |site| {
        // This one, the last release, this one, ...: by a stop, then by crashes.
        for turn in 0..6 {
            if turn < 3 {
                site.daemon.stop()?;
            } else {
                site.daemon.crash()?;
            }
            ensure!(site.attached()?, "turn {turn}: nothing is attached");
            std::thread::sleep(Duration::from_millis(200));
            let next = &binaries[(turn + 1) % 2];
            site.daemon.set_binary(next.clone());
            site.daemon.again(&site.pair.server, &site.setup)?;
            std::thread::sleep(Duration::from_millis(200));
            // What is in force is what was started: it counts, and it takes edits.
            let before = site.daemon.counters()?["answered"];
            std::thread::sleep(Duration::from_millis(100));
            ensure!(
                site.daemon.counters()?["answered"] > before,
                "turn {turn}: the kernel does not answer"
            );
            site.daemon.ok("map set 10.2.0.0/16 ams")?;
            site.daemon.ok("map del 10.2.0.0/16")?;
        }
        Ok(())
    })?;
    println!("{asked} questions during three upgrades and three downgrades, none lost");
    site.daemon.set_binary(binaries[0].clone());
    let mut setup = site.setup.clone();
    setup.on_stop = "detach".into();
    site.change(setup)?;
    site.restart()?;
    site.daemon.stop()?;
    ensure!(!site.attached()? && site.daemon.home.pins.list().is_empty());
    Ok(())
}

// Invariant 12
#[test]
fn a_kernel_that_nobody_feeds_stops_answering() -> Result<()> {
    needs_root!();
    let mut setup = Setup::example(&[SERVER, "2001:db8::53"]);
    setup.stale_after = "5s".into();
    let mut site = Site::new(setup)?;
    // As long as it is fed it goes on.
    std::thread::sleep(Duration::from_millis(6000));
    ensure!(site.www("10.1.0.1")? == IAD);
    site.daemon.crash()?;
    let crashed = Instant::now();
    let socket = site.socket("10.1.0.1")?;
    let query = Query::new("www.example.org", A).bytes();
    let answered = || {
        matches!(
            dns::ask(&socket, &query, Duration::from_secs(1)),
            Ok(Some(_))
        )
    };
    ensure!(answered(), "it answers on after a crash");
    while answered() {
        ensure!(
            crashed.elapsed() < PATIENCE,
            "it answers for longer than stale_after"
        );
        std::thread::sleep(Duration::from_millis(50));
    }
    let after = crashed.elapsed();
    ensure!(
        after > Duration::from_millis(2500),
        "it stopped too early, after {after:?}"
    );
    println!("stopped {after:?} after the crash");
    // The next start answers again.
    site.daemon.again(&site.pair.server, &site.setup)?;
    ensure!(site.www("10.1.0.1")? == IAD);
    ensure!(site.daemon.counters()?["pass_stale"] > 0);
    site.daemon.stop()
}

#[test]
fn logs_say_where_it_is_attached_and_what_packets_came() -> Result<()> {
    needs_root!();
    let mut setup = Setup::example(&[SERVER]);
    setup.interfaces = vec!["none0".into()];
    setup.arguments = [
        "--iface",
        "eth0",
        "--log-packets",
        "1/1",
        "--log-format",
        "json",
    ]
    .map(Into::into)
    .into();
    let mut site = Site::new(setup)?;
    ensure!(site.www("10.1.0.1")? == IAD);
    site.daemon.logged("\"client\":\"10.1.0.1\"")?;
    let log = site.daemon.log();
    for line in log.lines() {
        serde_json::from_str::<Value>(line).with_context(|| format!("not JSON: {line}"))?;
    }
    let first: String = log.lines().take(5).collect();
    ensure!(first.contains("eth0") && first.contains("native"), "{log}");
    site.daemon.stop()
}

#[test]
fn auto_mode_answers_over_a_veth_whose_other_end_has_no_program() -> Result<()> {
    needs_root!();
    let pair = Pair::bare(&["10.1.0.1"])?;
    let mut daemon = Daemon::start(&pair.server, &Setup::example(&[SERVER]).mode("auto"))?;
    ensure!(daemon.json("status")?["interfaces"][0]["mode"] == "generic");
    daemon.logged("veth")?;
    let socket = pair.client.udp("10.1.0.1".parse()?, at(SERVER, 53)?)?;
    let query = Query::new("www.example.org", A).bytes();
    let reply = Reply::parse(&dns::ask(&socket, &query, PATIENCE)?.context("no answer")?)?;
    ensure!(reply.of("A") == [IAD], "{reply}");
    ensure!(daemon.counters()?["answered"] == 1);
    daemon.stop()
}

#[test]
fn systemd_is_told_of_start_reload_life_and_stop() -> Result<()> {
    needs_root!();
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("notify");
    let socket = UnixDatagram::bind(&path)?;
    socket.set_read_timeout(Some(Duration::from_secs(10)))?;
    let mut setup = Setup::example(&[SERVER]);
    setup.environment = vec![
        ("NOTIFY_SOCKET".into(), path.display().to_string()),
        ("WATCHDOG_USEC".into(), "200000".into()),
    ];
    let mut site = Site::new(setup)?;
    // The states come one to a line; those in between do not matter.
    let told = |state: &str| -> Result<()> {
        let mut buffer = [0; 4096];
        loop {
            let length = socket
                .recv(&mut buffer)
                .with_context(|| format!("systemd is not told {state}"))?;
            let text = str::from_utf8(&buffer[..length])?;
            if text.lines().any(|line| line == state) {
                return Ok(());
            }
        }
    };
    told("READY=1")?;
    told("WATCHDOG=1")?;
    site.daemon.signal(Signal::SIGHUP)?;
    told("RELOADING=1")?;
    told("READY=1")?;
    // A reload that fails is over as well: the old state serves.
    std::fs::write(site.daemon.home.config(), "nonsense")?;
    site.daemon.signal(Signal::SIGHUP)?;
    told("RELOADING=1")?;
    told("READY=1")?;
    ensure!(site.www("10.1.0.1")? == IAD);
    told("WATCHDOG=1")?;
    site.daemon.stop()?;
    told("STOPPING=1")
}

#[test]
fn check_says_what_run_would_say() -> Result<()> {
    needs_root!();
    let home = Home::new()?;
    let check = |setup: &Setup| -> Result<(Option<i32>, String)> {
        home.write(setup)?;
        let done = output(Command::new(binary()?).arg("check").arg(home.config()))?;
        let text = [done.stdout, done.stderr].concat();
        Ok((done.status.code(), String::from_utf8(text)?))
    };
    let good = Setup::example(&[SERVER]);
    let (code, text) = check(&good)?;
    ensure!(code == Some(0) && text.contains("ok"), "{code:?}: {text}");
    for (wrong, says) in wrong_files() {
        let (code, text) = check(&wrong)?;
        ensure!(
            code == Some(1) && text.lines().all(|line| line.starts_with("geodns: ")),
            "{says:?}: {code:?}: {text}"
        );
        for part in says {
            ensure!(text.contains(part), "does not say {part}: {text}");
        }
    }
    Ok(())
}

/// Configurations that are wrong in themselves, and what has to be said of each.
fn wrong_files() -> Vec<(Setup, Vec<&'static str>)> {
    let good = || Setup::example(&[SERVER]);
    let body = |from: &str, to: &str| {
        assert!(EXAMPLE.contains(from), "{from}");
        good().body(&EXAMPLE.replacen(from, to, 1))
    };
    vec![
        (good().body("what is this"), vec!["geodns.toml:15"]),
        (body("policy =", "polity ="), vec!["geodns.toml:", "polity"]),
        (
            Setup {
                listen: (0..513)
                    .map(|n| format!("10.0.{}.{}", n / 250, n % 250))
                    .collect(),
                ..good()
            },
            vec!["geodns.toml:2", "513", "512"],
        ),
        (body("[[zone]]", "[zones]"), vec!["geodns.toml:15", "zones"]),
        (
            body("example.org.zone", "absent.zone"),
            vec!["absent.zone", "geodns.toml:"],
        ),
        (body("world.csv", "absent.csv"), vec!["absent.csv"]),
        (
            body("default = \"ams\"", "default = \"xyz\""),
            vec!["geodns.toml:", "xyz"],
        ),
        (
            body("mirrors = [\"ams\"", "mirrors = [\"xyz\""),
            vec!["geodns.toml:", "xyz"],
        ),
        (
            body("id = \"iad\"", "id = \"ams\""),
            vec!["geodns.toml:", "ams"],
        ),
        (
            body("203.0.113.10", "203.0.113.300"),
            vec!["geodns.toml:", "203.0.113.300"],
        ),
        (body("ttl = 60", "ttl = -1"), vec!["geodns.toml:", "ttl"]),
        (
            body("www.example.org", "www.example.net"),
            vec!["geodns.toml:", "www.example.net"],
        ),
        (
            body("www.example.org", "alias.example.org"),
            vec!["alias.example.org", "CNAME"],
        ),
        (
            good().file(
                "example.org.zone",
                &format!("{EXAMPLE_ZONE}www IN A 192.0.2.1\n"),
            ),
            vec!["www.example.org"],
        ),
        (
            good().file(
                "example.org.zone",
                &format!("{EXAMPLE_ZONE}www IN NS ns1\n"),
            ),
            vec!["www.example.org"],
        ),
        (
            good().file(
                "example.org.zone",
                &format!("{EXAMPLE_ZONE}x IN A not.an.address\n"),
            ),
            vec!["example.org.zone:12"],
        ),
        (
            good().file("example.org.zone", "$TTL 60\n@ IN NS ns.example.net.\n"),
            vec!["example.org.zone", "SOA"],
        ),
        (
            good().file("world.csv", &format!("{EXAMPLE_PREFIXES}10.0.0.1/8,ams\n")),
            vec!["world.csv:6", "10.0.0.1/8"],
        ),
        (
            good().file("world.csv", &format!("{EXAMPLE_PREFIXES}10.0.0.0/8,xyz\n")),
            vec!["world.csv:6", "xyz"],
        ),
        (
            good().file("world.csv", &format!("{EXAMPLE_PREFIXES}10.1.0.0/16,ams\n")),
            vec!["world.csv:6", "10.1.0.0/16"],
        ),
        (
            good().file("world.csv", "prefix,mirror\nnonsense\n"),
            vec!["world.csv:2"],
        ),
    ]
}

#[test]
fn a_start_that_cannot_be_says_why_in_a_line_and_leaves_nothing() -> Result<()> {
    needs_root!();
    let pair = Pair::new(&[])?;
    pair.server.ip("link add br0 type bridge")?;
    let attempt = |home: &Home, setup: &Setup, says: &[&str]| -> Result<()> {
        let done = Daemon::attempt(&pair.server, home, setup)?;
        let text = String::from_utf8(done.stderr)?;
        let last = text.lines().last().unwrap_or_default();
        ensure!(
            done.status.code() == Some(1) && last.starts_with("geodns: "),
            "{says:?}: {}: {text}",
            done.status
        );
        ensure!(!text.contains("panicked"), "{text}");
        for part in says {
            ensure!(text.contains(part), "does not say {part}: {text}");
        }
        Ok(())
    };
    let nothing_left = |home: &Home| -> Result<()> {
        let left = home.pins.list();
        ensure!(left.is_empty(), "left {left:?}");
        ensure!(!attached(&pair)?, "left attached");
        ensure!(!home.socket().exists(), "left its socket");
        Ok(())
    };
    let good = || Setup::example(&[SERVER]);
    for (setup, says) in wrong_files() {
        let home = Home::new()?;
        home.write(&setup)?;
        attempt(&home, &setup, &says)?;
        nothing_left(&home)?;
    }
    // What only the machine can tell.
    let with = |change: &dyn Fn(&mut Setup)| {
        let mut setup = good();
        change(&mut setup);
        setup
    };
    for (setup, says) in [
        (
            with(&|setup| setup.interfaces = vec!["none0".into()]),
            vec!["none0"],
        ),
        (
            with(&|setup| setup.interfaces = vec!["eth0".into(), "none0".into()]),
            vec!["none0"],
        ),
        (with(&|setup| setup.interfaces.clear()), vec!["--iface"]),
        (
            with(&|setup| setup.interfaces = vec!["lo".into()]),
            vec!["lo", "loopback", "name the card"],
        ),
        (
            with(&|setup| setup.interfaces = vec!["br0".into()]),
            vec!["br0", "native"],
        ),
    ] {
        let home = Home::new()?;
        home.write(&setup)?;
        attempt(&home, &setup, &says)?;
        nothing_left(&home)?;
    }
    // No configuration.
    let home = Home::new()?;
    attempt(&home, &good(), &["geodns.toml"])?;
    // A pin path outside bpffs; a state and a socket where none can be.
    for (from, to, says) in [
        (
            "/sys/fs/bpf/",
            "/tmp/geodns-no-bpffs/",
            "/tmp/geodns-no-bpffs",
        ),
        ("state.redb", "world.csv/state.redb", "world.csv/state.redb"),
        (
            "control.sock",
            "world.csv/control.sock",
            "world.csv/control.sock",
        ),
    ] {
        let home = Home::new()?;
        home.write(&good())?;
        let text = std::fs::read_to_string(home.config())?;
        ensure!(text.contains(from));
        std::fs::write(home.config(), text.replace(from, to))?;
        attempt(&home, &good(), &[says])?;
        nothing_left(&home)?;
    }
    // The port is taken.
    let taken = pair.server.enter(|| Ok(UdpSocket::bind((SERVER, 53))?))?;
    let home = Home::new()?;
    home.write(&good())?;
    attempt(&home, &good(), &[SERVER, "53"])?;
    nothing_left(&home)?;
    drop(taken);
    // Another user.
    let home = Home::new()?;
    home.write(&good())?;
    std::fs::set_permissions(home.folder.path(), std::fs::Permissions::from_mode(0o777))?;
    let copy = tempfile::Builder::new()
        .permissions(std::fs::Permissions::from_mode(0o755))
        .tempdir()?;
    let program = copy.path().join("geodns");
    std::fs::copy(binary()?, &program)?;
    // The namespace is entered as root, before the user changes: hence `setpriv`.
    let mut setpriv = pair.server.command("setpriv");
    setpriv
        .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
        .arg(&program)
        .args(["run", "--config"])
        .arg(home.config());
    let done = output(&mut setpriv)?;
    let text = String::from_utf8(done.stderr)?;
    let last = text.lines().last().unwrap_or_default();
    ensure!(
        done.status.code() == Some(1) && last.starts_with("geodns: "),
        "as nobody: {}: {text}",
        done.status
    );
    ensure!(
        last.contains("root") || last.contains("CAP_"),
        "what to do about it is not said: {text}"
    );
    nothing_left(&home)?;
    Ok(())
}

#[test]
fn a_second_daemon_does_not_get_in_the_way_of_the_first() -> Result<()> {
    needs_root!();
    let mut site = Site::example()?;
    let refused = |home: &Home, says: &str| -> Result<()> {
        let done = Daemon::attempt(&site.pair.server, home, &site.setup)?;
        let text = String::from_utf8(done.stderr)?;
        let last = text.lines().last().unwrap_or_default();
        ensure!(
            done.status.code() == Some(1) && last.starts_with("geodns: ") && last.contains(says),
            "{says}: {text}"
        );
        // The first is as it was.
        ensure!(site.www("10.1.0.1")? == IAD);
        site.daemon.ok("status")?;
        Ok(())
    };
    // The same files: the state is in use.
    refused(&site.daemon.home, "state.redb")?;
    // Only the socket is the same.
    let home = Home::new()?;
    let mut other = Setup::example(&["192.0.2.54"]);
    other.interfaces = vec!["eth0".into()];
    other.mode = "off".into();
    home.write(&other)?;
    let text = std::fs::read_to_string(home.config())?;
    let ours = home.socket().display().to_string();
    let theirs = site.daemon.home.socket().display().to_string();
    std::fs::write(home.config(), text.replace(&ours, &theirs))?;
    refused(&home, "control.sock")?;
    // Only the interface is the same: its program is another's.
    let home = Home::new()?;
    home.write(&Setup::example(&["192.0.2.54"]))?;
    refused(&home, "eth0")?;
    site.daemon.stop()
}

#[test]
fn wrong_usage_exits_with_2() -> Result<()> {
    for words in [
        &["run", "--nonsense"][..],
        &[],
        &["map"],
        &["stats", "--watch=0"],
        &["run", "--log-packets", "7"],
    ] {
        let done = output(Command::new(binary()?).args(words))?;
        ensure!(
            done.status.code() == Some(2),
            "geodns {words:?}: {}",
            done.status
        );
    }
    for shell in ["bash", "zsh", "fish"] {
        let script = run(Command::new(binary()?).args(["completions", shell]))?;
        ensure!(script.contains("geodns"), "{shell}");
    }
    let help = run(Command::new(binary()?).arg("--help"))?;
    for command in [
        "run", "check", "zone", "map", "status", "stats", "explain", "preview", "reload",
    ] {
        ensure!(help.contains(command), "{command}: {help}");
    }
    Ok(())
}

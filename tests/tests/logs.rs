//! Log lines about mirrors and changes: objects are fields, and so is the author of a change.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use geodns_tests::built::binary;
use geodns_tests::daemon::{Daemon, EXAMPLE_ZONE, Home, Setup, pool, request};
use geodns_tests::needs_root;
use geodns_tests::net::Pair;
use nix::sys::signal::Signal;
use serde_json::{Value, json};

/// A mirror of the example.
const SIN: &str = "id = \"sin\"\naddresses = [\"203.0.113.10\", \"2001:db8:3::10\"]\n";
const SERVER: &str = "192.0.2.53";

/// Waits for a line that has these fields.
fn line(daemon: &Daemon, fields: &Value) -> Result<Value> {
    let end = Instant::now() + Duration::from_secs(10);
    loop {
        let log = daemon.log();
        let lines = log
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok());
        let has = |line: &Value| {
            let mut fields = fields.as_object().into_iter().flatten();
            fields.all(|(name, value)| line[name] == *value)
        };
        if let Some(line) = lines.into_iter().find(has) {
            return Ok(line);
        }
        ensure!(Instant::now() < end, "no line has {fields}:\n{log}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Runs a command; gives its process's number.
fn run(daemon: &Daemon, words: &str) -> Result<u32> {
    let child = Command::new(binary()?)
        .arg("--socket")
        .arg(daemon.home.socket())
        .args(words.split_whitespace())
        .current_dir(daemon.home.folder.path())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()?;
    let pid = child.id();
    let output = child.wait_with_output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{words}: {said}");
    Ok(pid)
}

#[test]
fn a_change_says_who_made_it() -> Result<()> {
    needs_root!();
    let pair = Pair::new(&[])?;
    let mut setup = Setup::example(&[SERVER]).file("other.csv", "prefix,mirror\n10.9.0.0/16,iad\n");
    setup.arguments = ["--log-format", "json"].map(Into::into).into();
    let mut daemon = Daemon::start(&pair.server, &setup)?;
    let cases = [
        (
            "mirror down iad",
            json!({"mirror": "iad", "pools": "www", "in_service": false}),
        ),
        ("mirror drain sin", json!({"mirror": "sin"})),
        ("mirror weight ams 5", json!({"mirror": "ams", "weight": 5})),
        (
            "mirror set-health ams down --reason test",
            json!({"mirror": "ams", "in_service": false}),
        ),
        (
            "map set 10.9.0.0/16 sin",
            json!({"pool": "www", "prefix": "10.9.0.0/16", "mirror": "sin"}),
        ),
        (
            "map set 10.9.0.0/16 ams",
            json!({"pool": "www", "mirror": "ams", "before": "sin"}),
        ),
        (
            "map del 10.9.0.0/16",
            json!({"pool": "www", "prefix": "10.9.0.0/16", "before": "ams"}),
        ),
        (
            "map import other.csv",
            json!({"pool": "www", "file": "other.csv", "prefixes": 1}),
        ),
        (
            "block add --below bad.example.org",
            json!({"rule": 1, "drops": "queries for bad.example.org and below it"}),
        ),
        ("block remove 1", json!({"rule": 1})),
        (
            "acme set _acme-challenge.example.org token",
            json!({"name": "_acme-challenge.example.org", "zone": "example.org", "tokens": 1}),
        ),
        (
            "acme clear _acme-challenge.example.org",
            json!({"zone": "example.org", "tokens": 0}),
        ),
        ("reload example.org", json!({"zone": "example.org"})),
        ("reload", json!({"level": "INFO"})),
    ];
    for (words, mut fields) in cases {
        let pid = run(&daemon, words)?;
        fields["pid"] = pid.into();
        fields["user"] = "root".into();
        fields["uid"] = 0.into();
        let line = line(&daemon, &fields).with_context(|| words.to_owned())?;
        let message = line["message"].as_str().context("no message")?;
        let by = format!("by root (pid {pid})");
        ensure!(message.ends_with(&by), "{words}: {message}");
    }
    daemon.signal(Signal::SIGHUP)?;
    line(&daemon, &json!({"by": "SIGHUP"}))?;
    daemon.stop()
}

/// A full disk, for whoever's log is a file there.
#[test]
fn a_log_that_cannot_be_written_ends_nobody() -> Result<()> {
    needs_root!();
    let pair = Pair::new(&[])?;
    let setup = Setup::example(&[SERVER]);
    let home = Home::new()?;
    home.write(&setup)?;
    let full = std::fs::File::options().write(true).open("/dev/full")?;
    let mut child = pair
        .server
        .command(binary()?)
        .arg("run")
        .arg("--config")
        .arg(home.config())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(full)
        .spawn()?;
    let end = Instant::now() + Duration::from_secs(30);
    let answered = loop {
        match request(&home.socket(), "GET", "/v1/status", "") {
            Ok((200, status)) => break status,
            _ if Instant::now() > end || child.try_wait()?.is_some() => break String::new(),
            _ => std::thread::sleep(Duration::from_millis(20)),
        }
    };
    let reloaded = request(&home.socket(), "POST", "/v1/reload", "");
    let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id())?);
    let _ = nix::sys::signal::kill(pid, Signal::SIGTERM);
    let status = child.wait()?;
    ensure!(answered.contains("\"restarted\":[]"), "{answered}");
    ensure!(reloaded?.0 == 200, "not reloaded");
    ensure!(status.success(), "{status}");
    Ok(())
}

#[test]
fn a_mirror_that_goes_down_is_named_with_its_pools_and_the_cause() -> Result<()> {
    needs_root!();
    let pair = Pair::new(&[])?;
    // Nothing listens on that port of the server's own.
    let check = "id = \"sin\"\naddresses = [\"192.0.2.53\"]\n\
                 check = { type = \"tcp\", port = 9, interval = \"200ms\" }\n";
    let one = pool("one", "mirrors = [\"sin\"]\npolicy = \"all\"\nttl = 60\n");
    let mut setup = Setup::example(&[SERVER]).but(SIN, check).and(&one);
    setup.arguments = ["--log-format", "json"].map(Into::into).into();
    let mut daemon = Daemon::start(&pair.server, &setup)?;
    let down = line(&daemon, &json!({"mirror": "sin", "state": "down"}))?;
    ensure!(down["pools"] == "www,one", "{down}");
    ensure!(down["address"] == "192.0.2.53", "{down}");
    let cause = down["cause"].as_str().unwrap_or_default();
    ensure!(cause.contains("refused"), "{down}");
    ensure!(down["level"] == "WARN", "{down}");
    line(&daemon, &json!({"pool": "one", "state": "unserved"}))?;
    daemon.ok("mirror up sin")?;
    line(&daemon, &json!({"pool": "one", "state": "served"}))?;
    daemon.stop()
}

/// A complaint about an input has its zone, pool, catalog or mirror in a field, and a sentence for people.
#[test]
fn a_complaint_names_what_it_is_of_in_fields() -> Result<()> {
    needs_root!();
    let pair = Pair::new(&[])?;
    let check = "id = \"sin\"\naddresses = [\"203.0.113.10\"]\n\
                 check = { type = \"exec\", command = [\"/nowhere/check\"], interval = \"2s\" }\n";
    let catalogs = ["broken", "greedy"].map(|name| {
        format!(
            "[[zone]]\nname = \"{name}.test\"\nfile = \"{name}.zone\"\ncatalog = \"consumer\"\n\
             [[zone.members]]\nprimaries = [\"192.0.2.1\"]\n"
        )
    });
    let country = "[[pool]]\nid = \"near\"\nmirrors = [\"ams\"]\npolicy = \"geo\"\ndefault = \"ams\"\n\
                   rules = [{ country = \"NL\", mirrors = [\"ams\"] }]\n";
    let catalog = |version: &str, member: &str| {
        format!(
            "$TTL 0\n@ SOA invalid. invalid. 1 3600 600 3600 0\n@ NS invalid.\n\
             version TXT \"{version}\"\na.zones PTR {member}.\n"
        )
    };
    let zone = format!("{EXAMPLE_ZONE}@ IN MX 20 gone\n");
    let mut setup = Setup::example(&[SERVER])
        .but(SIN, check)
        .and(&catalogs.concat())
        .and(country)
        .file("example.org.zone", &zone)
        .file("broken.zone", &catalog("1", "one.example"))
        .file("greedy.zone", &catalog("2", "example.org"));
    setup.arguments = ["--log-format", "json"].map(Into::into).into();
    let mut daemon = Daemon::start(&pair.server, &setup)?;
    let file = daemon.home.folder.path().join("example.org.zone");
    let config = daemon.home.config();
    let cases = [
        (
            json!({"zone": "example.org", "file": file, "line": 12, "key": "example.org MX"}),
            "gone.example.org does not exist",
        ),
        (
            json!({"pool": "near", "file": config}),
            "asks for a client's country",
        ),
        (json!({"catalog": "broken.test"}), "its version is \"1\""),
        (
            json!({"catalog": "greedy.test", "member": "example.org"}),
            "a zone of the configuration",
        ),
        (
            json!({"mirror": "sin", "address": "203.0.113.10"}),
            "cannot run \"/nowhere/check\"",
        ),
    ];
    for (fields, cause) in cases {
        let line = line(&daemon, &fields)?;
        let said = |field: &str| line[field].as_str().unwrap_or_default();
        ensure!(said("cause").contains(cause), "{line}");
        ensure!(said("message").contains(cause), "{line}");
        ensure!(line["level"] == "WARN", "{line}");
    }
    daemon.stop()?;
    // The same for people: a sentence, and no field that repeats it.
    setup.arguments.clear();
    daemon.again(&pair.server, &setup)?;
    daemon.logged(
        "catalog greedy.test: example.org is a zone of the configuration, and left alone\n",
    )?;
    daemon.logged("could not be made; exec /nowhere/check 203.0.113.10")?;
    daemon.stop()
}

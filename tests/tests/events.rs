//! Events: each fact is one, in order; kept over a crash, followed as they come.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use geodns_tests::daemon::{Daemon, Setup};
use geodns_tests::net::Pair;
use geodns_tests::{needs_root, until};
use nix::sys::signal::Signal;
use serde_json::Value;

const SERVER: &str = "192.0.2.53";

/// The example without a program: events are the daemon's.
fn setup() -> Setup {
    let mut setup = Setup::example(&[SERVER]).mode("off");
    setup.required = false;
    setup
}

fn events(daemon: &Daemon, query: &str) -> Result<Vec<Value>> {
    let (code, body) = daemon.request("GET", &format!("/v1/events?limit=1000{query}"), "")?;
    ensure!(code == 200, "{code}: {body}");
    Ok(serde_json::from_str(&body)?)
}

fn seq(event: &Value) -> u64 {
    event["seq"].as_u64().unwrap_or_default()
}

/// Kind and mirror of each.
fn said(events: &[Value]) -> Vec<String> {
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let one = |event: &Value| format!("{} {}", text(&event["kind"]), text(&event["mirror"]));
    events.iter().map(one).collect()
}

#[test]
fn each_fact_is_one_event_with_whoever_made_it() -> Result<()> {
    needs_root!();
    let pair = Pair::new(&[])?;
    let mut daemon = Daemon::start(
        &pair.server,
        &setup().file("other.csv", "prefix,mirror\n10.9.0.0/16,iad\n"),
    )?;
    let list = daemon.home.folder.path().join("other.csv");
    let commands: [(&str, &[&str]); 14] = [
        ("mirror down iad", &["mirror_out iad", "admin iad"]),
        // Nothing changes.
        ("mirror down iad", &[]),
        ("mirror up iad", &["mirror_in iad", "admin iad"]),
        ("mirror weight ams 5", &["admin ams"]),
        (
            "mirror set-health ams down --reason test",
            &["mirror_out ams", "monitor ams"],
        ),
        (
            "mirror set-health ams --clear",
            &["mirror_in ams", "monitor ams"],
        ),
        ("map set 10.9.0.0/16 sin", &["override sin"]),
        ("map del 10.9.0.0/16", &["override -"]),
        (&format!("map import {}", list.display()), &["import -"]),
        ("block add --below bad.example.org", &["block -"]),
        ("block remove 1", &["block -"]),
        ("acme set _acme-challenge.example.org token", &["acme -"]),
        ("reload example.org", &["reload -"]),
        ("reload", &["reload -"]),
    ];
    let mut last = seq(events(&daemon, "")?.last().context("no start")?);
    ensure!(said(&events(&daemon, "")?) == ["start -"]);
    for (words, expected) in commands {
        daemon.ok(words)?;
        let new = events(&daemon, &format!("&since={last}"))?;
        ensure!(said(&new) == expected, "{words}: {new:#?}");
        for (event, number) in new.iter().zip(last + 1..) {
            ensure!(seq(event) == number, "{words}: {new:#?}");
        }
        // The last one says who did it.
        if let Some(event) = new.last() {
            let by = event["by"].as_str().unwrap_or_default();
            ensure!(
                event["uid"] == 0 && by.starts_with("root (pid "),
                "{words}: {event}"
            );
            last = seq(event);
        }
    }
    let out = &events(&daemon, "&kind=mirror_out&mirror=ams")?[0];
    ensure!(
        out["cause"] == "a monitor says down: test" && out["pools"][0] == "www",
        "{out}"
    );
    // A reload that fails, of a signal; and a pool without mirrors.
    let config = daemon.home.config();
    let good = std::fs::read_to_string(&config)?;
    std::fs::write(&config, "[server")?;
    daemon.signal(Signal::SIGHUP)?;
    until("the reload fails", || {
        let reloads = events(&daemon, "&kind=reload")?;
        let failed = reloads.last().context("no reload")?;
        Ok(failed["level"] == "error" && failed["by"] == "SIGHUP")
    })?;
    std::fs::write(&config, good)?;
    daemon.ok("mirror down ams iad sin")?;
    let pools = events(&daemon, "&kind=pool_out,pool_in")?;
    ensure!(
        said(&pools) == ["pool_out -"] && pools[0]["pools"][0] == "www",
        "{pools:#?}"
    );
    daemon.ok("mirror auto sin")?;
    ensure!(said(&events(&daemon, "&kind=pool_out,pool_in")?) == ["pool_out -", "pool_in -"]);
    // For people: the command, and the mirror with its last ten.
    let text = daemon.ok("events --kind mirror_out --mirror ams --limit 1")?;
    ensure!(
        text.lines().count() == 1 && text.contains("mirror ams goes out of service"),
        "{text}"
    );
    let shown = daemon.ok("mirror show ams")?;
    ensure!(
        shown.contains("LATEST EVENTS") && shown.contains("monitor "),
        "{shown}"
    );
    ensure!(
        daemon
            .fails("events --since yesterday")?
            .1
            .contains("such as 1h")
    );
    ensure!(
        daemon
            .fails("events --kind mirror")?
            .1
            .contains("mirror_out")
    );
    daemon.stop()
}

#[test]
fn a_crash_loses_no_order_and_repeats_nothing() -> Result<()> {
    needs_root!();
    let pair = Pair::new(&[])?;
    let setup = setup();
    let mut daemon = Daemon::start(&pair.server, &setup)?;
    daemon.ok("mirror down ams iad sin")?;
    let before = events(&daemon, "")?;
    let last = seq(before.last().context("none")?);
    // On disk, sooner or later: a crash after that keeps them all.
    let at_once = Duration::from_millis(500);
    std::thread::sleep(at_once);
    until("they are kept", || {
        daemon.crash()?;
        daemon.again(&pair.server, &setup)?;
        let kept = events(&daemon, "")?;
        let kept = kept.iter().filter(|event| seq(event) <= last);
        let is_all = kept.count() == before.len();
        if !is_all {
            daemon.ok("mirror auto ams iad sin")?;
        }
        Ok(is_all)
    })?;
    // What was out is out: neither mirror nor pool goes out again.
    let after = events(&daemon, &format!("&since={last}"))?;
    ensure!(
        said(&after).iter().all(|said| said == "start -"),
        "{after:#?}"
    );
    daemon.ok("mirror auto ams")?;
    let after = events(
        &daemon,
        &format!("&since={}", seq(after.last().context("none")?)),
    )?;
    ensure!(
        said(&after) == ["mirror_in ams", "pool_in -", "admin ams"],
        "{after:#?}"
    );
    daemon.stop()?;
    daemon.again(&pair.server, &setup)?;
    let all = events(&daemon, "")?;
    ensure!(
        all.is_sorted_by(|one, other| seq(one) < seq(other)),
        "{all:#?}"
    );
    let ends: Vec<String> = said(&events(&daemon, "&kind=start,stop")?);
    ensure!(
        ends.ends_with(&["stop -".to_owned(), "start -".to_owned()]),
        "{ends:?}"
    );
    // In time, from now back.
    ensure!(!events(&daemon, "&since=1h")?.is_empty());
    ensure!(events(&daemon, "&since=2100-01-01T00:00:00Z")?.is_empty());
    daemon.stop()
}

/// Reads the next event of a stream: its id and itself.
fn next(stream: &mut impl BufRead) -> Result<(u64, Value)> {
    let mut id = None;
    loop {
        let mut line = String::new();
        ensure!(stream.read_line(&mut line)? > 0, "the stream has ended");
        if let Some(number) = line.strip_prefix("id: ") {
            id = Some(number.trim().parse()?);
        }
        if let Some(data) = line.strip_prefix("data: ") {
            return Ok((id.context("no id")?, serde_json::from_str(data)?));
        }
    }
}

fn follow(daemon: &Daemon, query: &str, header: &str) -> Result<BufReader<UnixStream>> {
    let mut stream = UnixStream::connect(daemon.home.socket())?;
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    write!(
        stream,
        "GET /v1/events?follow=true{query} HTTP/1.1\r\nHost: geodns\r\n{header}\r\n"
    )?;
    Ok(BufReader::new(stream))
}

#[test]
fn a_follower_gets_each_event_once_and_goes_on_where_it_was() -> Result<()> {
    needs_root!();
    let pair = Pair::new(&[])?;
    let setup = setup();
    let mut daemon = Daemon::start(&pair.server, &setup)?;
    let mut all = follow(&daemon, "&since=0", "")?;
    let mut of_ams = follow(&daemon, "&limit=0&kind=admin&mirror=ams", "")?;
    ensure!(next(&mut all)?.1["kind"] == "start");
    daemon.ok("mirror down iad")?;
    daemon.ok("mirror down ams")?;
    let (id, event) = next(&mut of_ams)?;
    ensure!(event["mirror"] == "ams" && seq(&event) == id, "{event}");
    let mut seen = Vec::new();
    while seen.last() != Some(&id) {
        seen.push(next(&mut all)?.0);
    }
    ensure!(seen.is_sorted() && seen.len() == 4, "{seen:?}");
    // Another one begins with what the first has not seen.
    let mut other = follow(
        &daemon,
        "&since=0",
        &format!("Last-Event-ID: {}\r\n", seen[1]),
    )?;
    ensure!(next(&mut other)?.0 == seen[2]);
    // There is a bound, and a place is free again when its follower has gone.
    let mut many = Vec::new();
    let refused = loop {
        let mut one = follow(&daemon, "", "")?;
        let mut head = String::new();
        one.read_line(&mut head)?;
        if !head.contains("200") {
            break head;
        }
        many.push(one);
        ensure!(many.len() < 100, "no bound");
    };
    ensure!(refused.contains("503"), "{refused}");
    drop(many);
    until("there is room again", || {
        let mut head = String::new();
        follow(&daemon, "", "")?.read_line(&mut head)?;
        Ok(head.contains("200"))
    })?;
    // A stop ends them, and tells them before.
    daemon.stop()?;
    let kinds: Result<Vec<_>> = std::iter::from_fn(|| next(&mut all).ok())
        .map(|(_, event)| Ok(event["kind"].as_str().context("no kind")?.to_owned()))
        .collect();
    ensure!(kinds?.last().is_some_and(|kind| kind == "stop"));
    Ok(())
}

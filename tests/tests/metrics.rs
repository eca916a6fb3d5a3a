//! Metrics, as Prometheus gets them: whether its own tools like them, whether they are right, and what strangers can do.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use geodns::metrics::Family;
use geodns_tests::daemon::{Daemon, Setup};
use geodns_tests::dns::{self, A, Query};
use geodns_tests::net::{Pair, Space, at, ip};
use geodns_tests::process::Process;
use geodns_tests::{needs_root, other_server, until};
use nix::sys::signal::Signal;
use serde_json::Value;

const SERVER: &str = "192.0.2.53";
const METRICS: &str = "[metrics]\nlisten = [\"192.0.2.53:9533\"]\n";

/// One of the files that are shipped for Prometheus and Grafana.
fn shipped(file: &str) -> String {
    format!("{}/../etc/{file}", env!("CARGO_MANIFEST_DIR"))
}

/// A daemon without the program, in a namespace of its own.
fn alone(metrics: &str) -> Result<(Space, Daemon)> {
    let space = Space::new("metrics")?;
    let mut setup = Setup::example(&["127.0.0.1"]).mode("off").and(metrics);
    setup.interfaces.clear();
    let daemon = Daemon::start(&space, &setup)?;
    Ok((space, daemon))
}

/// All series, each with its labels as they are written.
fn series(text: &str) -> BTreeMap<String, f64> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let parts = lines.filter_map(|line| line.rsplit_once(' '));
    parts
        .filter_map(|(name, value)| Some((name.to_owned(), value.parse().ok()?)))
        .collect()
}

fn over_control(daemon: &Daemon) -> Result<BTreeMap<String, f64>> {
    let (status, text) = daemon.request("GET", "/v1/metrics", "")?;
    ensure!(status == 200, "{status}: {text}");
    Ok(series(&text))
}

/// Answers of a path, by mirror, and their sum.
fn answers(daemon: &Daemon, path: &str) -> Result<(BTreeMap<String, u64>, u64)> {
    let start = format!("geodns_answers_total{{path=\"{path}\"");
    let all = over_control(daemon)?.into_iter();
    let of_path = all.filter(|(name, _)| name.starts_with(&start));
    let by_mirror: BTreeMap<_, _> = of_path.map(|(name, value)| (name, value as u64)).collect();
    let sum = by_mirror.values().sum();
    Ok((by_mirror, sum))
}

/// Asks the listener; gives the whole response.
fn get(space: &Space, from: &str, to: SocketAddr, request: &str) -> Result<String> {
    let mut stream = space.tcp(ip(from), to)?;
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    stream.write_all(request.as_bytes())?;
    let mut response = String::new();
    let _ = stream.read_to_string(&mut response);
    Ok(response)
}

fn request(method: &str, path: &str, headers: &str) -> String {
    format!("{method} {path} HTTP/1.1\r\nHost: metrics\r\nConnection: close\r\n{headers}\r\n")
}

#[test]
fn promtool_finds_nothing_wrong_with_metrics_and_rules() -> Result<()> {
    needs_root!();
    let promtool = other_server("promtool")?;
    let (_space, daemon) = alone("[metrics]\nby_zone = true\n")?;
    let (status, text) = daemon.request("GET", "/v1/metrics", "")?;
    ensure!(status == 200, "{status}: {text}");
    let mut check = Command::new(&promtool)
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    check
        .stdin
        .take()
        .context("no standard input")?
        .write_all(text.as_bytes())?;
    let output = check.wait_with_output()?;
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    ensure!(output.status.success() && said.is_empty(), "{said}");
    geodns_tests::net::run(Command::new(&promtool).args([
        "check",
        "rules",
        &shipped("prometheus/geodns.rules.yml"),
    ]))?;
    Ok(())
}

#[test]
fn rules_and_board_name_metrics_that_there_are() -> Result<()> {
    let known: Vec<String> = Family::ALL.iter().map(|of| of.sample()).collect();
    for file in ["prometheus/geodns.rules.yml", "grafana/geodns.json"] {
        let text = std::fs::read_to_string(shipped(file))?;
        if file.ends_with("json") {
            let _: Value = serde_json::from_str(&text)?;
        }
        let is_of_name = |octet: char| octet.is_ascii_alphanumeric() || octet == '_';
        let words = text.split(|octet| !is_of_name(octet));
        let named: Vec<&str> = words.filter(|word| word.starts_with("geodns_")).collect();
        ensure!(named.len() > 10, "{file}: {named:?}");
        for name in named {
            ensure!(
                known.iter().any(|of| of == name),
                "{file}: there is no {name}"
            );
        }
    }
    Ok(())
}

/// Asks from many prefixes, by the fast path; and by the slow path, over TCP.
fn ask_both(pair: &Pair, from: &[String]) -> Result<()> {
    let query = Query::new("www.example.org", A);
    for source in from {
        pair.ask(source, SERVER, &query)?;
    }
    let mut stream = pair.client.tcp(ip("192.0.2.1"), at(SERVER, 53)?)?;
    for _ in 0..7 {
        dns::ask_tcp(&mut stream, &query.bytes())?;
    }
    // Neither has a mirror.
    pair.ask("192.0.2.1", SERVER, &Query::new("none.example.org", A))?;
    dns::ask_tcp(
        &mut stream,
        &Query::new("www.example.org", dns::TXT).bytes(),
    )?;
    Ok(())
}

#[test]
fn sums_over_mirrors_are_what_was_answered_over_reload_import_and_restarts() -> Result<()> {
    needs_root!();
    let sources: Vec<String> = (1..=20u8)
        .map(|number| Ipv4Addr::new(10, number, 0, 1).to_string())
        .collect();
    let addresses: Vec<&str> = sources.iter().map(String::as_str).collect();
    let pair = Pair::new(&addresses)?;
    let mut setup = Setup::example(&[SERVER]).and(METRICS);
    setup.on_stop = "keep".into();
    let mut daemon = Daemon::start(&pair.server, &setup)?;
    let check = |daemon: &Daemon, kernel: u64, slow: u64| -> Result<()> {
        let (by_mirror, sum) = answers(daemon, "kernel")?;
        ensure!(sum == kernel, "kernel: {sum}, not {kernel}: {by_mirror:?}");
        let answered = daemon.counters()?["answered"];
        ensure!(answered == kernel, "answered: {answered}, not {kernel}");
        let (by_mirror, sum) = answers(daemon, "slow")?;
        ensure!(sum == slow, "slow: {sum}, not {slow}: {by_mirror:?}");
        Ok(())
    };
    ask_both(&pair, &sources)?;
    check(&daemon, 20, 7)?;

    daemon.ok("reload")?;
    check(&daemon, 20, 7)?;
    ask_both(&pair, &sources)?;
    check(&daemon, 40, 14)?;

    let list = daemon.home.folder.path().join("list.csv");
    std::fs::write(&list, "10.0.0.0/8,iad\n")?;
    daemon.ok(&format!("map import {}", list.display()))?;
    ask_both(&pair, &sources)?;
    check(&daemon, 60, 21)?;
    let (by_mirror, _) = answers(&daemon, "kernel")?;
    let iad = "geodns_answers_total{path=\"kernel\",pool=\"www\",mirror=\"iad\"}";
    ensure!(by_mirror[iad] >= 20, "{by_mirror:?}");

    // A stop that leaves the program, which goes on answering; a crash; both count what was answered meanwhile.
    daemon.stop()?;
    for source in &sources {
        pair.ask(source, SERVER, &Query::new("www.example.org", A))?;
    }
    daemon.again(&pair.server, &setup)?;
    check(&daemon, 80, 0)?;
    daemon.crash()?;
    for source in &sources {
        pair.ask(source, SERVER, &Query::new("www.example.org", A))?;
    }
    daemon.again(&pair.server, &setup)?;
    check(&daemon, 100, 0)?;
    ask_both(&pair, &sources)?;
    check(&daemon, 120, 7)?;

    // Without the section nothing is counted, and nothing is left.
    let mut off = setup.clone().but(METRICS, "");
    off.on_stop = "detach".into();
    daemon.home.write(&off)?;
    daemon.ok("reload")?;
    let (none, _) = answers(&daemon, "kernel")?;
    ensure!(none.is_empty(), "{none:?}");
    ensure!(
        !daemon
            .home
            .pins
            .list()
            .iter()
            .any(|pin| pin.contains("MIRRORS")),
        "{:?}",
        daemon.home.pins.list()
    );
    Ok(())
}

#[test]
fn a_real_prometheus_scrapes_and_answers_queries() -> Result<()> {
    needs_root!();
    let prometheus = other_server("prometheus")?;
    let pair = Pair::new(&[])?;
    let daemon = Daemon::start(&pair.server, &Setup::example(&[SERVER]).and(METRICS))?;
    let folder = tempfile::tempdir()?;
    let config = folder.path().join("prometheus.yml");
    std::fs::write(
        &config,
        format!(
            "global:\n  scrape_interval: 1s\nrule_files: [\"{}\"]\nscrape_configs:\n  \
             - job_name: geodns\n    static_configs:\n      - targets: [\"192.0.2.53:9533\"]\n",
            shipped("prometheus/geodns.rules.yml")
        ),
    )?;
    let mut command = pair.client.command(prometheus);
    command
        .arg(format!("--config.file={}", config.display()))
        .arg(format!(
            "--storage.tsdb.path={}",
            folder.path().join("data").display()
        ))
        .arg("--web.listen-address=192.0.2.1:9090");
    let running = Process::start(command, folder.path().join("log"))?;
    ask_both(&pair, &["192.0.2.1".to_owned()])?;
    let ask = |query: &str| -> Result<Option<f64>> {
        let path = format!("/api/v1/query?query={query}");
        let to = at("192.0.2.1", 9090)?;
        let Ok(response) = get(&pair.client, "192.0.2.1", to, &request("GET", &path, "")) else {
            return Ok(None);
        };
        let body = response.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        let Ok(answer) = serde_json::from_str::<Value>(body) else {
            return Ok(None);
        };
        let value = &answer["data"]["result"][0]["value"][1];
        Ok(value.as_str().and_then(|value| value.parse().ok()))
    };
    for (query, expected) in [
        ("sum(geodns_answers_total)", 8.0),
        ("sum(geodns_responses_total{rcode=\"NXDOMAIN\"})", 1.0),
        (
            "geodns_interface_attached{interface=\"eth0\",mode=\"native\"}",
            1.0,
        ),
        ("geodns_pool_mirrors_in_service{pool=\"www\"}", 3.0),
    ] {
        let escaped = query
            .replace('{', "%7B")
            .replace('}', "%7D")
            .replace('"', "%22");
        until(query, || Ok(ask(&escaped)? == Some(expected)))
            .with_context(|| format!("{}\n{}", running.log(), daemon.log()))?;
    }
    Ok(())
}

#[test]
fn a_reload_changes_the_addresses_and_one_that_cannot_be_bound_changes_nothing() -> Result<()> {
    needs_root!();
    let (space, daemon) = alone("[metrics]\nlisten = [\"127.0.0.1:9533\"]\n")?;
    let reads = |port| -> Result<bool> {
        let to = at("127.0.0.1", port)?;
        let response = get(&space, "127.0.0.1", to, &request("GET", "/metrics", ""));
        Ok(response.is_ok_and(|text| text.starts_with("HTTP/1.1 200 OK")))
    };
    ensure!(reads(9533)?);
    let config = daemon.home.config();
    let text = std::fs::read_to_string(&config)?;
    let taken = space.enter(|| Ok(std::net::TcpListener::bind("127.0.0.1:9534")?))?;
    std::fs::write(&config, text.replace("9533\"", "9534\""))?;
    let (_, complaint) = daemon.fails("reload")?;
    ensure!(complaint.contains("127.0.0.1:9534"), "{complaint}");
    ensure!(reads(9533)?);
    let failed = over_control(&daemon)?["geodns_config_last_reload_successful"];
    ensure!(failed == 0.0, "{failed}");
    drop(taken);
    daemon.ok("reload")?;
    ensure!(reads(9534)?);
    until("the old one is closed", || Ok(!reads(9533)?))?;
    let good = over_control(&daemon)?["geodns_config_last_reload_successful"];
    ensure!(good == 1.0, "{good}");
    Ok(())
}

#[test]
fn the_listener_has_one_path_and_two_forms() -> Result<()> {
    needs_root!();
    let (space, _daemon) = alone("[metrics]\nlisten = [\"127.0.0.1:9533\"]\n")?;
    let to = at("127.0.0.1", 9533)?;
    let ask = |method: &str, path: &str, headers: &str| {
        get(&space, "127.0.0.1", to, &request(method, path, headers))
    };
    let plain = ask("GET", "/metrics", "")?;
    ensure!(
        plain.contains("content-type: text/plain; version=0.0.4"),
        "{plain}"
    );
    ensure!(!plain.contains("# EOF"), "{plain}");
    let accept = "Accept: application/openmetrics-text;version=1.0.0\r\n";
    let open = ask("GET", "/metrics", accept)?;
    ensure!(
        open.contains("content-type: application/openmetrics-text"),
        "{open}"
    );
    ensure!(open.ends_with("# EOF\n"), "{open}");
    let head = ask("HEAD", "/metrics", "")?;
    ensure!(
        head.starts_with("HTTP/1.1 200") && head.ends_with("\r\n\r\n"),
        "{head}"
    );
    for (method, path, status) in [
        ("POST", "/metrics", "405"),
        ("GET", "/", "404"),
        ("GET", "/v1/status", "404"),
        ("PUT", "/v1/mirrors/ams/admin", "404"),
    ] {
        let refused = ask(method, path, "")?;
        ensure!(
            refused.starts_with(&format!("HTTP/1.1 {status}")),
            "{method} {path}: {refused}"
        );
    }
    Ok(())
}

#[test]
fn series_over_the_bound_are_left_out_and_zones_are_shown_if_wanted() -> Result<()> {
    needs_root!();
    let (_space, daemon) = alone("[metrics]\nby_zone = true\nmax_series = 2\n")?;
    let all = over_control(&daemon)?;
    let of = |family: &str| all.keys().filter(|name| name.starts_with(family)).count();
    ensure!(of("geodns_mirror_in_service{") == 2, "{all:?}");
    ensure!(
        all["geodns_zone_serial{zone=\"example.org.\"}"] > 0.0,
        "{all:?}"
    );
    let dropped = all["geodns_series_dropped"];
    ensure!(dropped > 0.0, "{all:?}");
    daemon.logged("raise metrics.max_series")?;
    let (_space, daemon) = alone("")?;
    let all = over_control(&daemon)?;
    ensure!(
        !all.keys()
            .any(|name| name.starts_with("geodns_zone_serial")),
        "{all:?}"
    );
    ensure!(all["geodns_series_dropped"] == 0.0, "{all:?}");
    Ok(())
}

#[test]
fn slow_and_hostile_clients_harm_neither_dns_nor_a_scrape() -> Result<()> {
    needs_root!();
    let pair = Pair::new(&[])?;
    let daemon = Daemon::start(&pair.server, &Setup::example(&[SERVER]).and(METRICS))?;
    let to = at(SERVER, 9533)?;
    let from: IpAddr = ip("192.0.2.1");
    let mut clients: Vec<TcpStream> = Vec::new();
    let huge = format!(
        "GET /metrics HTTP/1.1\r\nX: {}\r\n\r\n",
        "x".repeat(1 << 20)
    );
    for number in 0..300 {
        let Ok(mut stream) = pair.client.tcp(from, to) else {
            continue;
        };
        // They are cut off, perhaps while they write.
        let _ = match number % 3 {
            // Never says what it wants.
            0 => stream.write_all(b"GET /metrics HTTP/1.1\r\nX-Slow: "),
            // Says too much.
            1 => stream.write_all(huge.as_bytes()),
            // Asks, and does not read.
            _ => stream.write_all(request("GET", "/metrics", "").as_bytes()),
        };
        clients.push(stream);
    }
    ensure!(clients.len() > 100, "{}", clients.len());
    let query = Query::new("www.example.org", A);
    for _ in 0..20 {
        pair.ask("192.0.2.1", SERVER, &query)?;
        let mut stream = pair.client.tcp(from, at(SERVER, 53)?)?;
        dns::ask_tcp(&mut stream, &query.bytes())?;
    }
    until("a scrape succeeds", || {
        let scraped = get(
            &pair.client,
            "192.0.2.1",
            to,
            &request("GET", "/metrics", ""),
        );
        Ok(scraped.is_ok_and(|text| text.contains("geodns_build_info{")))
    })?;
    daemon.signal(Signal::SIGHUP)?;
    daemon.logged("reload")?;
    Ok(())
}

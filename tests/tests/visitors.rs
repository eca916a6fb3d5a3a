//! The pages for visitors and DNS: the same client gets the same first mirror.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, Ipv4Addr, TcpStream};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};
use geodns_tests::daemon::{Daemon, Setup, pool};
use geodns_tests::dns::{self, A, Query, Reply};
use geodns_tests::net::{Pair, Space, at, ip};
use geodns_tests::web::{Manner, Web};
use geodns_tests::{needs_root, until};
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(30);

/// Asks on a connection that stays open; gives the body.
fn get(stream: &mut BufReader<TcpStream>, path: &str, client: IpAddr) -> Result<String> {
    let request =
        format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nX-Forwarded-For: {client}\r\n\r\n");
    stream.get_mut().write_all(request.as_bytes())?;
    let (mut line, mut length) = (String::new(), 0);
    loop {
        line.clear();
        stream.read_line(&mut line)?;
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse()?;
        }
        if line == "\r\n" {
            break;
        }
        ensure!(!line.is_empty(), "closed");
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body)?;
    Ok(String::from_utf8(body)?)
}

#[test]
fn the_page_names_the_mirror_first_that_dns_gives() -> Result<()> {
    needs_root!();
    let space = Space::new("visitors")?;
    let mut setup = Setup::example(&["127.0.0.1"])
        .mode("off")
        .and("[public]\nlisten = [\"127.0.0.1:8080\"]\ntrusted_proxies = [\"127.0.0.1\"]\nrate = 0\npool = \"www\"\n");
    setup.interfaces.clear();
    let daemon = Daemon::start(&space, &setup)?;
    // Private prefixes are no client subnets that DNS heeds.
    daemon.ok("map set 20.1.0.0/16 iad")?;
    daemon.ok("map set 20.2.0.0/17 sin")?;
    let mirrors = daemon.json("mirrors")?;
    let id_of = |address: &str| {
        let mut mirrors = mirrors.as_array().into_iter().flatten();
        let of = mirrors.find(|mirror| {
            let mut addresses = mirror["addresses"].as_array().into_iter().flatten();
            addresses.any(|other| other == address)
        });
        of.and_then(|of| of["id"].as_str()).map(str::to_owned)
    };
    let udp = space.udp(ip("127.0.0.1"), at("127.0.0.1", 53)?)?;
    let stream = space.tcp(ip("127.0.0.1"), at("127.0.0.1", 8080)?)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut stream = BufReader::new(stream);
    let mut firsts = BTreeSet::new();
    for number in 0..10_000_u32 {
        // A /24 each, of several regions.
        let client = Ipv4Addr::from(0x1400_0000 + (number << 8) + number % 256);
        let query = Query::new("www.example.org", A).subnet_of(client.into(), 24);
        let reply = dns::ask(&udp, &query.bytes(), PATIENCE)?.context("no answer")?;
        let by_dns = id_of(
            Reply::parse(&reply)?
                .of("A")
                .first()
                .context("no address")?,
        );
        let network = Ipv4Addr::from(u32::from(client) & !0xff);
        let page: Value =
            serde_json::from_str(&get(&mut stream, "/mirrors.json", network.into())?)?;
        let by_page = page["mirrors"][0]["id"].as_str().map(str::to_owned);
        ensure!(
            by_dns == by_page,
            "{client}: {by_dns:?} by DNS, {by_page:?} by page"
        );
        firsts.insert(by_page);
    }
    ensure!(firsts.len() > 1, "all have {firsts:?}");
    // A visitor is no operator: there is nothing but the pages.
    let page = get(&mut stream, "/v1/mirrors", ip("192.0.2.1"))?;
    ensure!(page.is_empty(), "{page}");
    Ok(())
}

#[test]
fn a_mirror_whose_trace_stops_leaves_dns_and_page_and_comes_back() -> Result<()> {
    const SERVER: &str = "192.0.2.53";
    const NEAR: &str = "10.5.0.1";
    const CLIENT: &str = "10.1.0.1";
    needs_root!();
    let pair = Pair::new(&[CLIENT, NEAR])?;
    let mut setup = Setup::example(&[SERVER]).and(
        "[metrics]\nlisten = [\"192.0.2.53:9533\"]\n\
         [public]\nlisten = [\"192.0.2.53:8080\"]\nrate = 0\npool = \"checked\"\n",
    );
    setup.body += &format!(
        "[[mirror]]\nid = \"near\"\naddresses = [{NEAR:?}]\nurl = \"http://near.example.net/\"\n\
         check = {{ type = \"http\", port = 8080, path = \"/\", interval = \"1s\", timeout = \"900ms\", \
         rise = 1, fall = 2, fresh = {{ path = \"/TIME\", max_age = \"3s\" }} }}\n"
    );
    setup.body += &pool(
        "checked",
        "mirrors = [\"near\", \"ams\"]\npolicy = \"failover\"\nttl = 60\nttl_min = 60",
    );
    let now = || -> Result<u64> {
        Ok(SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)?
            .as_secs())
    };
    let web = Web::start(&pair.client, at(NEAR, 8080)?)?;
    // It is brought up to date for ten minutes, as far as anybody can see.
    web.set(Manner::Trace(now()? + 600));
    let daemon = Daemon::start(&pair.server, &setup)?;
    let query = Query::new("checked.example.org", A).bytes();
    let page = |path: &str, port: u16| -> Result<String> {
        let stream = pair.client.tcp(ip(CLIENT), at(SERVER, port)?)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        get(&mut BufReader::new(stream), path, ip(CLIENT))
    };
    // By the kernel, by the slow path, and by the page.
    let firsts = || -> Result<[String; 3]> {
        let socket = pair.client.udp(ip(CLIENT), at(SERVER, 53)?)?;
        let udp = dns::ask(&socket, &query, PATIENCE)?.context("no answer over UDP")?;
        let tcp = dns::ask_tcp(&mut pair.client.tcp(ip(CLIENT), at(SERVER, 53)?)?, &query)?;
        let list: Value = serde_json::from_str(&page("/mirrors.json", 8080)?)?;
        let first = list["mirrors"][0]["id"].as_str().unwrap_or_default();
        Ok([
            Reply::parse(&udp)?.addresses(),
            Reply::parse(&tcp)?.addresses(),
            first.to_owned(),
        ])
    };
    let all_have =
        |wanted: [&str; 3]| until(&format!("{wanted:?} are first"), || Ok(firsts()? == wanted));
    // There is none before the first check.
    let age_is = |what: &str, fits: fn(f64) -> bool| {
        until(&format!("the age is {what}"), || {
            let text = page("/metrics", 9533)?;
            let sample = "geodns_mirror_age_seconds{mirror=\"near\",address=\"10.5.0.1\"} ";
            let age = text.lines().find_map(|line| line.strip_prefix(sample));
            Ok(age.map(str::parse).transpose()?.is_some_and(fits))
        })
    };
    let (here, gone) = ([NEAR, NEAR, "near"], ["192.0.2.10", "192.0.2.10", "ams"]);
    all_have(here)?;
    age_is("0", |age| age == 0.0)?;
    web.set(Manner::Trace(now()?));
    all_have(gone)?;
    age_is("3 s or more", |age| age >= 3.0)?;
    until("near is out for its trace", || {
        let shown = daemon.json("mirror show near")?;
        let reason = shown["checks"][0]["reason"].as_str().unwrap_or_default();
        Ok(shown["in_service"] == false && reason.contains("trace"))
    })?;
    web.set(Manner::Trace(now()? + 600));
    all_have(here)
}

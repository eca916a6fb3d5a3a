//! DNS cookies (RFC 7873, RFC 9018): both paths give the same octets, servers that share a secret give the
//! same cookies, and a secret is rolled without a gap.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use geodns_tests::daemon::{Daemon, EXAMPLE_ZONE, Setup};
use geodns_tests::dns::{self, A, COOKIE, NSID, Query, SOA, TXT};
use geodns_tests::needs_root;
use geodns_tests::net::{Pair, Space, at, ip, run};
use geodns_tests::peers::{self, Kind, Peer};
use geodns_tests::twins::Twins;

const SERVER: &str = "192.0.2.53";
const CLIENT: &str = "192.0.2.1";
const SECRET: &str = "e5e973e5a6b2a43f48e7dc849e37bfcf";
const NEXT: &str = "445536bcd2513298075a5d379663c962";
const OTHER: &str = "dd3bdf9344b678b185a6f5cb60fca715";
/// A client's cookie.
const OURS: [u8; 8] = [0x24, 0x64, 0xc4, 0xab, 0xcf, 0x10, 0xc9, 0x57];

fn body(cookies: &str) -> String {
    format!(
        "[cookies]\n{cookies}\n[[zone]]\nname = \"example.org\"\nfile = \"example.org.zone\"\n\
         [[mirror]]\nid = \"ams\"\naddresses = [\"192.0.2.10\", \"2001:db8:1::10\"]\n\
         [[pool]]\nid = \"www\"\nmirrors = [\"ams\"]\npolicy = \"all\"\n\
         [[steer]]\nname = \"www.example.org\"\npool = \"www\"\n"
    )
}

fn setup(cookies: &str) -> Setup {
    Setup::new(&[SERVER])
        .body(&body(cookies))
        .file("example.org.zone", EXAMPLE_ZONE)
}

fn shared(secrets: &[&str]) -> Setup {
    setup(&format!("secrets = {secrets:?}"))
}

/// A question for an address, with a cookie.
fn query(cookie: &[u8]) -> Query {
    Query::new("www.example.org", A).option(COOKIE, cookie)
}

/// The cookie of a response, if its last option is one.
fn cookie_of(response: &[u8]) -> Option<[u8; 24]> {
    let option = response.last_chunk::<28>()?;
    option
        .starts_with(&[0, 10, 0, 24])
        .then(|| option.last_chunk().copied())?
}

/// Asks over UDP for the cookie that a server gives for one.
fn exchange(client: &Space, server: &str, cookie: &[u8]) -> Result<[u8; 24]> {
    let socket = client.udp(ip(CLIENT), at(server, 53)?)?;
    let message = query(cookie).bytes();
    let response = dns::ask(&socket, &message, Duration::from_secs(5))?;
    let response = response.with_context(|| format!("{server} is silent"))?;
    cookie_of(&response).with_context(|| format!("{server} gives no cookie: {response:02x?}"))
}

#[test]
fn both_paths_make_the_same_and_know_it_again() -> Result<()> {
    needs_root!();
    let mut twins = Twins::start(&shared(&[SECRET]))?;
    for client in ["20.1.2.3", "2a02::7"].map(ip) {
        for name in ["www", "mail", "none"] {
            let question = || Query::new(&format!("{name}.example.org"), A);
            // A cookie has the second in it that it was made in.
            let mut made = Vec::new();
            twins.until("both make a cookie within a second", |twins| {
                let [fast, slow] = twins.ask_each(client, &question().option(COOKIE, &OURS))?;
                made = cookie_of(&fast).context("no cookie")?.to_vec();
                Ok(fast == slow)
            })?;
            ensure!(made[..12] == [&OURS[..], &[1, 0, 0, 0]].concat());
            // Whoever shows it gets it back, whatever the time; with another option too.
            twins.counted()?;
            for query in [
                question().option(COOKIE, &made),
                question().option(COOKIE, &made).dnssec_ok(),
                question().option(65_001, &[]).option(COOKIE, &made),
                question().option(NSID, &[]).option(COOKIE, &made),
            ] {
                let [fast, slow] = twins.ask_each(client, &query)?;
                ensure!(fast == slow, "{fast:02x?}\n{slow:02x?}");
                ensure!(
                    cookie_of(&fast)
                        .as_ref()
                        .is_some_and(|cookie| cookie[..] == made)
                );
            }
            let counted = twins.counted()?;
            let passed = counted.keys().any(|verdict| verdict.starts_with("pass"));
            ensure!(!passed && counted.values().sum::<u64>() == 4, "{counted:?}");
            // One that somebody made up, or that is too old, is worth nothing, and no fault.
            for at in [12, 23] {
                let mut wrong = made.clone();
                wrong[at] ^= 0x80;
                let [fast, slow] = twins.ask_each(client, &question().option(COOKIE, &wrong))?;
                for response in [fast, slow] {
                    let cookie = cookie_of(&response).context("no cookie")?;
                    ensure!(cookie[..8] == OURS && cookie[..] != wrong[..]);
                    ensure!(response[3] & 15 == made_rcode(name), "{response:02x?}");
                }
            }
        }
    }
    twins.stop()
}

/// RCODE of the answer for a name.
fn made_rcode(name: &str) -> u8 {
    if name == "none" { 3 } else { 0 }
}

#[test]
fn a_query_may_be_about_nothing_but_cookies() -> Result<()> {
    needs_root!();
    let pair = Pair::new(&[])?;
    let mut daemon = Daemon::start(&pair.server, &shared(&[SECRET]))?;
    let socket = pair.client.udp(ip(CLIENT), at(SERVER, 53)?)?;
    let ask = |cookie: &[u8]| -> Result<Vec<u8>> {
        // Without its question: RFC 7873 section 5.4.
        let mut message = query(cookie).bytes();
        let question = 12 + dns::wire_name("www.example.org").len() + 4;
        message.drain(12..question);
        message[5] = 0;
        dns::ask(&socket, &message, Duration::from_secs(5))?.context("no answer")
    };
    let new = ask(&OURS)?;
    let cookie = cookie_of(&new).context("no cookie")?;
    let rcode = |response: &[u8]| {
        (response[response.len() - 28 - 6] as u16) << 4 | u16::from(response[3] & 15)
    };
    ensure!((rcode(&new), new[5], new[11]) == (0, 0, 1), "{new:02x?}");
    let again = ask(&cookie)?;
    ensure!(rcode(&again) == 0 && cookie_of(&again) == Some(cookie));
    // BADCOOKIE
    let bad = ask(&[7; 24])?;
    ensure!(rcode(&bad) == 23, "{bad:02x?}");
    // A cookie that breaks the rules of its format, and none at all.
    let broken = ask(&[7; 9])?;
    ensure!(
        broken[3] & 15 == 1 && cookie_of(&broken).is_none(),
        "{broken:02x?}"
    );
    daemon.stop()
}

#[test]
fn cookies_go_with_every_answer() -> Result<()> {
    needs_root!();
    let pair = Pair::new(&[])?;
    let mut daemon = Daemon::start(&pair.server, &shared(&[SECRET]))?;
    let made = exchange(&pair.client, SERVER, &OURS)?;
    let by_tcp = |message: &[u8]| -> Result<Vec<u8>> {
        let mut stream = pair.client.tcp(ip(CLIENT), at(SERVER, 53)?)?;
        dns::ask_tcp(&mut stream, message)
    };
    // Errors, and what only the slow path answers.
    for (question, rcode) in [
        (Query::new("www.example.org", A), 0),
        (Query::new("www.example.org", dns::ANY), 0),
        (Query::new("none.example.org", TXT), 3),
        (Query::new("www.example.com", A), 5),
    ] {
        let message = question.option(COOKIE, &made).bytes();
        let socket = pair.client.udp(ip(CLIENT), at(SERVER, 53)?)?;
        let by_udp = dns::ask(&socket, &message, Duration::from_secs(5))?.context("no answer")?;
        for response in [by_udp, by_tcp(&message)?] {
            ensure!(response[3] & 15 == rcode, "{response:02x?}");
            // An Extended DNS Error may come behind it.
            let has = |cookie: &[u8]| response.windows(24).any(|octets| octets == cookie);
            ensure!(has(&made), "{response:02x?}");
        }
    }
    // What dig makes of it.
    let dig = |cookie: &str| {
        run(pair.client.command("dig").args([
            &format!("@{SERVER}"),
            "+nsid",
            cookie,
            "www.example.org",
            "A",
        ]))
    };
    let hex: String = made.iter().map(|octet| format!("{octet:02x}")).collect();
    for (cookie, goes) in [("+cookie", ""), (&format!("+cookie={hex}"), hex.as_str())] {
        let said = dig(cookie)?;
        ensure!(
            said.contains(&format!("COOKIE: {goes}")) && said.contains("(good)"),
            "{said}"
        );
        ensure!(said.contains("; NSID: "), "{said}");
    }
    let before = daemon.counters()?;
    dig("+cookie")?;
    let answered = |counters: &std::collections::BTreeMap<String, u64>| counters["answered"];
    ensure!(
        answered(&daemon.counters()?) == answered(&before) + 1,
        "not answered in the kernel"
    );
    daemon.stop()
}

#[test]
fn servers_that_share_a_secret_make_the_same_cookies() -> Result<()> {
    needs_root!();
    let others = ["192.0.2.54", "192.0.2.55"];
    let pair = Pair::new(&[])?;
    pair.server
        .ip(&format!("address add {}/24 dev eth0", others[1]))?;
    let mut daemon = Daemon::start(&pair.server, &shared(&[SECRET]))?;
    let zone = |listen: &str| peers::Setup {
        listen: vec![ip(listen)],
        zones: vec![("example.org".to_owned(), EXAMPLE_ZONE.to_owned())],
        ..peers::Setup::default()
    };
    let knot = Peer::start(
        &pair.server,
        Kind::Knot,
        &peers::Setup {
            rest: format!(
                "mod-cookies:\n  - id: shared\n    secret: 0x{SECRET}\n\
             template:\n  - id: default\n    global-module: mod-cookies/shared\n"
            ),
            ..zone(others[0])
        },
    )?;
    let bind = Peer::start(
        &pair.server,
        Kind::Bind,
        &peers::Setup {
            options: format!("cookie-algorithm siphash24;\ncookie-secret \"{SECRET}\";\n"),
            ..zone(others[1])
        },
    )?;
    for other in others {
        // Made in the same second, they are the same octets.
        let mut same = false;
        for _ in 0..20 {
            let (theirs, ours) = (
                exchange(&pair.client, other, &OURS)?,
                exchange(&pair.client, SERVER, &OURS)?,
            );
            if theirs[..16] == ours[..16] {
                ensure!(theirs == ours, "{other}: {theirs:02x?}, not {ours:02x?}");
                same = true;
                break;
            }
        }
        ensure!(
            same,
            "{other} and we never made a cookie in the same second"
        );
        // Theirs is good here: it is sent back as it is.
        let theirs = exchange(&pair.client, other, &OURS)?;
        ensure!(exchange(&pair.client, SERVER, &theirs)? == theirs);
    }
    // Ours is good there: who shows one that is not is told so, where cookies are asked for.
    let ours = exchange(&pair.client, SERVER, &OURS)?;
    let socket = pair.client.udp(ip(CLIENT), at(others[1], 53)?)?;
    let message = Query::new("example.org", SOA).option(COOKIE, &ours).bytes();
    let response = dns::ask(&socket, &message, Duration::from_secs(5))?.context("no answer")?;
    ensure!(response[3] & 15 == 0, "{response:02x?}");
    knot.stop()?;
    bind.stop()?;
    daemon.stop()
}

#[test]
fn a_secret_is_rolled_without_a_gap() -> Result<()> {
    needs_root!();
    let pair = Pair::new(&[])?;
    let mut daemon = Daemon::start(&pair.server, &shared(&[SECRET]))?;
    let first = exchange(&pair.client, SERVER, &OURS)?;
    // RFC 9018 section 5: the new one is made known, makes cookies, the old one goes.
    let with = |daemon: &Daemon, secrets: &[&str]| {
        daemon.home.write(&shared(secrets))?;
        daemon.ok("reload")
    };
    with(&daemon, &[SECRET, NEXT])?;
    ensure!(exchange(&pair.client, SERVER, &first)? == first);
    with(&daemon, &[NEXT, SECRET])?;
    let second = exchange(&pair.client, SERVER, &first)?;
    ensure!(second != first, "the old secret makes cookies");
    // Only what was good is known by both.
    ensure!(exchange(&pair.client, SERVER, &second)? == second);
    with(&daemon, &[NEXT])?;
    ensure!(exchange(&pair.client, SERVER, &second)? == second);
    with(&daemon, &[OTHER])?;
    ensure!(exchange(&pair.client, SERVER, &second)?[16..] != second[16..]);

    // Of its own, it is the same after a crash; then there are none.
    daemon.home.write(&setup(""))?;
    daemon.ok("reload")?;
    let own = exchange(&pair.client, SERVER, &OURS)?;
    ensure!(exchange(&pair.client, SERVER, &own)? == own);
    daemon.crash()?;
    ensure!(
        exchange(&pair.client, SERVER, &own)? == own,
        "while nobody is there"
    );
    daemon.again(&pair.server, &setup(""))?;
    ensure!(exchange(&pair.client, SERVER, &own)? == own);
    daemon.home.write(&setup("enabled = false"))?;
    daemon.ok("reload")?;
    ensure!(
        exchange(&pair.client, SERVER, &own).is_err(),
        "a cookie still"
    );
    daemon.stop()
}

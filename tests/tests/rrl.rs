//! Response rate limiting: how much one prefix gets, by whatever way it asks and whoever answers, who is exempt, and
//! that resolvers get their answer all the same; how large an answer without a cookie is.

use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, UdpSocket};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use geodns_tests::daemon::{Daemon, EXAMPLE_ZONE, Setup, difference};
use geodns_tests::dns::{self, A, AAAA, ANY, COOKIE, NSID, PADDING, Query, Reply, TC, TXT};
use geodns_tests::net::{Pair, at, ip, run};
use geodns_tests::process::ends_with_us;
use geodns_tests::twins::Twins;
use geodns_tests::ways::{Asking, WAYS, Way};
use geodns_tests::{needs_root, other_server};
use nix::sys::signal::Signal;

const SERVER: &str = "192.0.2.53";
/// All of these are the client's. The first two are of one /24.
const CLIENTS: [&str; 4] = ["20.1.2.3", "20.1.2.200", "20.1.3.3", "2a02:0:0:100::1"];
/// Responses a second, and at once.
const RATE: u64 = 20;
const BURST: u64 = 40;

fn setup(rrl: &str) -> Setup {
    let body = format!(
        "[rrl]\n{rrl}\n[cookies]\nsecrets = [\"e5e973e5a6b2a43f48e7dc849e37bfcf\"]\n\
         [[zone]]\nname = \"example.org\"\nfile = \"example.org.zone\"\n\
         [[mirror]]\nid = \"ams\"\naddresses = [\"192.0.2.10\", \"2001:db8:1::10\"]\n\
         [[pool]]\nid = \"www\"\nmirrors = [\"ams\"]\npolicy = \"all\"\n\
         [[steer]]\nname = \"www.example.org\"\npool = \"www\"\n"
    );
    Setup::new(&[SERVER, "2001:db8::53"])
        .body(&body)
        .file("example.org.zone", EXAMPLE_ZONE)
}

fn limited(more: &str) -> Setup {
    setup(&format!("rate = {RATE}\nburst = {BURST}\n{more}"))
}

/// Where both are, and the clients' networks are the client's.
fn place() -> Result<Pair> {
    let pair = Pair::new(&[])?;
    pair.client.sysctl("net/ipv6/ip_nonlocal_bind", "1")?;
    pair.client
        .ip_batch("route add local 20.0.0.0/8 dev lo\nroute add local 2a02::/16 dev lo\n")?;
    Ok(pair)
}

/// The outcome of a number of queries.
#[derive(Debug, Default)]
struct Got {
    answers: u64,
    truncated: u64,
    badcookie: u64,
    silence: u64,
    /// Octets of messages.
    octets: u64,
    /// The last BADCOOKIE.
    cookie: Vec<u8>,
}

impl Got {
    /// Takes what comes until there is nothing for so long.
    fn take(&mut self, socket: &UdpSocket, patience: Duration) -> Result<()> {
        let mut buffer = [0; 2048];
        socket.set_read_timeout(Some(patience))?;
        while let Ok(len) = socket.recv(&mut buffer) {
            let reply = Reply::parse(&buffer[..len])?;
            self.octets += len as u64;
            let is_bare = reply.answers.is_empty() && reply.flags & dns::AA == 0;
            if reply.flags & TC != 0 {
                ensure!(is_bare, "{reply}");
                self.truncated += 1;
            } else if reply.status() == "BADCOOKIE" {
                ensure!(is_bare, "{reply}");
                self.cookie = buffer[len - 24..len].to_vec();
                self.badcookie += 1;
            } else {
                self.answers += 1;
            }
        }
        Ok(())
    }
}

/// Sends N queries from an address, some ten thousand a second. Gives what came, and how long it took.
fn flood(pair: &Pair, from: &str, query: &Query, queries: u64) -> Result<(Got, Duration)> {
    let server = if from.contains(':') {
        "2001:db8::53"
    } else {
        SERVER
    };
    let socket = pair.client.udp(ip(from), at(server, 53)?)?;
    let message = query.bytes();
    let start = Instant::now();
    let mut got = Got::default();
    for sent in 1..=queries {
        socket.send(&message)?;
        // The socket's buffer takes no more than some two hundred.
        if sent % 20 == 0 {
            got.take(&socket, Duration::from_millis(2))?;
        }
    }
    let time = start.elapsed();
    got.take(&socket, Duration::from_millis(300))?;
    got.silence = queries - got.answers - got.truncated - got.badcookie;
    Ok((got, time))
}

/// That a prefix got what the limit leaves of a flood that took so long.
fn is_limited(got: &Got, time: Duration) -> Result<()> {
    // A tick of the kernel's clock more.
    let most = BURST
        + (time + Duration::from_millis(20))
            .as_secs_f64()
            .mul_add(RATE as f64, 2.0) as u64;
    ensure!((BURST..=most).contains(&got.answers), "{got:?} in {time:?}");
    Ok(())
}

fn www() -> Query {
    Query::new("www.example.org", A)
}

/// The program's verdicts on questions to it.
fn counted(daemon: &Daemon, before: &BTreeMap<String, u64>) -> Result<BTreeMap<String, u64>> {
    let mut counted = difference(before, &daemon.counters()?);
    // The rest is neighbour discovery.
    counted.retain(|name, _| name == "answered" || name.starts_with("limited"));
    Ok(counted)
}

#[test]
fn a_prefix_gets_its_rate_and_others_theirs() -> Result<()> {
    needs_root!();
    let pair = place()?;
    let mut daemon = Daemon::start(&pair.server, &limited(""))?;
    let before = daemon.counters()?;
    let (got, time) = flood(&pair, CLIENTS[0], &www(), 400)?;
    is_limited(&got, time)?;
    let over = 400 - got.answers;
    ensure!(
        got.truncated.abs_diff(over / 2) <= 1,
        "every second one slips: {got:?}"
    );
    let counted = counted(&daemon, &before)?;
    let want = BTreeMap::from([
        ("answered".to_owned(), got.answers),
        ("limited_slip".to_owned(), got.truncated),
        ("limited_drop".to_owned(), got.silence),
    ]);
    ensure!(counted == want, "{counted:?}, not {want:?}");
    // Nor has another address of it any left, whatever it asks.
    for query in [
        www(),
        Query::new("mail.example.org", A),
        Query::new("none.example.org", A),
        Query::new("www.example.org", ANY),
    ] {
        let (got, _) = flood(&pair, CLIENTS[1], &query, 100)?;
        ensure!(got.answers <= BURST / 2, "{query:?}: {got:?}");
    }
    // Others have: the next /24, and IPv6.
    for client in &CLIENTS[2..] {
        let (got, _) = flood(&pair, client, &www(), 20)?;
        ensure!(got.answers == 20, "{client}: {got:?}");
    }
    // Over TCP there is no limit.
    for _ in 0..10 {
        let said = run(pair.client.command("dig").args([
            &format!("@{SERVER}"),
            "-b",
            CLIENTS[0],
            "+tcp",
            "+short",
            "www.example.org",
            "A",
        ]))?;
        ensure!(said.trim() == "192.0.2.10", "{said}");
    }
    // After a second there are some again.
    std::thread::sleep(Duration::from_millis(1_100));
    let (got, _) = flood(&pair, CLIENTS[0], &www(), 10)?;
    ensure!(got.answers == 10, "{got:?}");
    daemon.stop()
}

#[test]
fn who_has_shown_a_good_cookie_is_not_limited() -> Result<()> {
    needs_root!();
    let pair = place()?;
    let mut daemon = Daemon::start(&pair.server, &limited("slip = 1"))?;
    // A client whose cookie is not good is told so, and given one.
    let (got, time) = flood(&pair, CLIENTS[0], &www().option(COOKIE, &[7; 24]), 200)?;
    is_limited(&got, time)?;
    ensure!(got.badcookie == 200 - got.answers, "{got:?}");
    let cookie = got.cookie;
    ensure!(cookie.len() == 24 && cookie[..8] == [7; 8], "{cookie:02x?}");
    // With that, all are answered; at another address it is worth nothing.
    let (got, _) = flood(&pair, CLIENTS[0], &www().option(COOKIE, &cookie), 200)?;
    ensure!(got.answers == 200, "{got:?}");
    let (got, _) = flood(&pair, CLIENTS[1], &www().option(COOKIE, &cookie), 100)?;
    ensure!(
        got.answers <= BURST / 2 && got.badcookie == 100 - got.answers,
        "{got:?}"
    );
    // dig starts again by itself with the cookie that it is given.
    let said = run(pair.client.command("dig").args([
        &format!("@{SERVER}"),
        "-b",
        CLIENTS[0],
        "+cookie",
        "+ignore",
        "www.example.org",
        "A",
    ]))?;
    ensure!(
        said.contains("192.0.2.10") && said.contains("(good)"),
        "{said}"
    );
    daemon.stop()
}

#[test]
fn some_are_never_limited_and_a_dry_run_limits_nobody() -> Result<()> {
    needs_root!();
    let pair = place()?;
    let allow = "allow = [\"20.1.2.0/24\", \"2a02:0:0:100::/64\"]\nslip = 0";
    let mut daemon = Daemon::start(&pair.server, &limited(allow))?;
    for client in [CLIENTS[0], CLIENTS[1], CLIENTS[3]] {
        let (got, _) = flood(&pair, client, &www(), 200)?;
        ensure!(got.answers == 200, "{client}: {got:?}");
    }
    let (got, time) = flood(&pair, CLIENTS[2], &www(), 200)?;
    is_limited(&got, time)?;
    ensure!(got.truncated == 0, "{got:?}");
    // Malformed queries count as well, and come no further.
    let before = [daemon.counters()?, daemon.stats("slow")?];
    let mut query = www();
    query.flags |= dns::AA;
    let (got, _) = flood(&pair, CLIENTS[2], &query, 100)?;
    // While a token is there, the kernel passes them, and the slow path drops those that find none.
    let after = [daemon.counters()?, daemon.stats("slow")?];
    let dropped = [0, 1].map(|path| after[path]["limited_drop"] - before[path]["limited_drop"]);
    ensure!(
        got.answers <= BURST / 2 && dropped.iter().sum::<u64>() == got.silence,
        "{got:?}, {dropped:?}"
    );

    daemon.home.write(&limited("dry_run = true"))?;
    daemon.ok("reload")?;
    let before = daemon.counters()?;
    let (got, _) = flood(&pair, CLIENTS[2], &www(), 200)?;
    ensure!(got.answers == 200, "{got:?}");
    let counts = counted(&daemon, &before)?;
    ensure!(
        counts["limited_dry_run"] >= 150 && counts["answered"] == 200,
        "{counts:?}"
    );
    let said = daemon.ok("stats")?;
    ensure!(said.contains("limited_dry_run"), "{said}");
    daemon.stop()
}

#[test]
fn a_resolver_gets_its_answer_in_the_end() -> Result<()> {
    needs_root!();
    let pair = place()?;
    // No more than one answer in a second, and no cookie that would help.
    let setup = setup("rate = 1\nburst = 1\nslip = 1");
    let mut daemon = Daemon::start(&pair.server, &setup)?;
    let folder = tempfile::tempdir()?;
    let config = folder.path().join("unbound.conf");
    let at = folder.path().display();
    fs::write(
        &config,
        format!(
            "server:\n  directory: \"{at}\"\n  chroot: \"\"\n  username: \"\"\n  pidfile: \"\"\n  use-syslog: no\n\
         \x20 interface: 127.0.0.1\n  outgoing-interface: 20.1.2.3\n  do-not-query-localhost: no\n  num-threads: 1\n\
         \x20 do-ip6: no\n  module-config: \"iterator\"\n  local-zone: \"example.org.\" nodefault\n  verbosity: 1\n\
         remote-control:\n  control-enable: no\n\
         stub-zone:\n  name: \"example.org\"\n  stub-addr: {SERVER}\n"
        ),
    )?;
    let log = fs::File::create(folder.path().join("log"))?;
    let mut command = pair.client.command(other_server("unbound")?);
    ends_with_us(&mut command, Signal::SIGKILL);
    let mut unbound = command
        .args(["-d", "-c"])
        .arg(&config)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .context("cannot start unbound")?;
    let resolve = |name: &str| {
        run(pair.client.command("dig").args([
            "@127.0.0.1",
            "+short",
            "+tries=5",
            "+timeout=5",
            name,
            "A",
        ]))
    };
    let resolved = (|| -> Result<()> {
        let end = Instant::now() + Duration::from_secs(20);
        while resolve("mail.example.org").is_err() {
            ensure!(Instant::now() < end, "unbound does not answer");
        }
        let before = daemon.counters()?;
        for (name, want) in [
            ("www.example.org", "192.0.2.10"),
            ("mail.example.org", "192.0.2.25"),
            ("ns1.example.org", "192.0.2.53"),
            ("www.example.org", "192.0.2.10"),
        ] {
            let said = resolve(name)?;
            ensure!(said.trim() == want, "{name}: {said}");
        }
        // It did not get them for being below the limit.
        let counts = counted(&daemon, &before)?;
        ensure!(
            counts.get("limited_slip").is_some_and(|&slips| slips >= 1),
            "{counts:?}"
        );
        Ok(())
    })();
    unbound.kill()?;
    unbound.wait()?;
    let log = fs::read_to_string(folder.path().join("log"))?;
    resolved.context(log)?;
    daemon.stop()
}

/// Sends N queries by a way. Gives what came, how long it took, and the octets of packets that were sent.
fn flood_by(pair: &Pair, way: &Way, client: &str, queries: u64) -> Result<(Got, Duration, u64)> {
    let server = if way.is_v6 { "2001:db8::53" } else { SERVER };
    let mut asking = Asking::new(pair, way, ip(client), server)?;
    let (mut got, mut octets) = (Got::default(), 0);
    let start = Instant::now();
    for sent in 1..=queries {
        octets += asking.send(&www())?;
        if sent % 20 == 0 {
            got.take(&asking.socket, Duration::from_millis(2))?;
        }
    }
    let time = start.elapsed();
    got.take(&asking.socket, Duration::from_millis(300))?;
    got.silence = queries - got.answers - got.truncated - got.badcookie;
    Ok((got, time, octets))
}

/// A prefix has one bucket, in both paths, and for every way in which a query may come.
fn no_way_leads_around(mode: &str) -> Result<()> {
    const QUERIES: u64 = 400;
    let pair = place()?;
    let mut daemon = Daemon::start(&pair.server, &limited("").mode(mode))?;
    for (number, way) in WAYS.iter().enumerate() {
        let what = way.what;
        let [client, again] = [3, 4].map(|host| match way.is_v6 {
            true => format!("2a02:0:0:{:x}00::{host}", number + 1),
            false => format!("20.9.{number}.{host}"),
        });
        let (before, slow) = (daemon.counters()?, daemon.stats("slow")?);
        let (got, time, octets) = flood_by(&pair, way, &client, QUERIES)?;
        is_limited(&got, time).context(what)?;
        // What is over the limit slips every second time, or, where the fast path would not understand it, never.
        let over = QUERIES - got.answers;
        let slips = if way.filler > 0 { 0 } else { over / 2 };
        // Each thread counts for itself, and so does each CPU.
        ensure!(got.truncated.abs_diff(slips) <= 4, "{what}: {got:?}");
        let sent_back = got.octets + (42 + 20) * (got.answers + got.truncated);
        ensure!(
            sent_back < octets,
            "{what}: {sent_back} octets for {octets}"
        );
        println!("{mode}, {what}: {sent_back} octets for {octets}");
        // Each query was paid for once, where it was answered, and counted there.
        let kernel = difference(&before, &daemon.counters()?);
        let slow = difference(&slow, &daemon.stats("slow")?);
        let count = |counted: &BTreeMap<String, u64>, name: &str| {
            counted.get(name).copied().unwrap_or_default()
        };
        let by_kernel = way.verdict.is_empty() && mode != "off";
        let limiting = if by_kernel { &kernel } else { &slow };
        for (name, want) in [
            ("limited_slip", got.truncated),
            ("limited_drop", got.silence),
        ] {
            let counted = count(limiting, name);
            ensure!(counted == want, "{what}: {name} {counted}, not {want}");
        }
        if mode != "off" && !by_kernel {
            ensure!(count(&kernel, way.verdict) >= QUERIES, "{what}: {kernel:?}");
        }
        // Nor has another address of the prefix any left, by no way.
        for other in WAYS.iter().filter(|other| other.is_v6 == way.is_v6) {
            let (got, ..) = flood_by(&pair, other, &again, 20)?;
            let both = format!("{what}, then {}", other.what);
            ensure!(got.answers <= 15, "{both}: {got:?}");
        }
    }
    daemon.stop()
}

#[test]
fn no_way_leads_around_the_limit_past_the_kernel() -> Result<()> {
    needs_root!();
    no_way_leads_around("native")
}

#[test]
fn without_the_kernel_the_limit_is_the_same() -> Result<()> {
    needs_root!();
    no_way_leads_around("off")?;

    // Whoever is exempt, has a good cookie or asks over TCP is not limited here either; a dry run counts.
    let pair = place()?;
    let off = |more: &str| limited(more).mode("off");
    let mut daemon = Daemon::start(
        &pair.server,
        &off("slip = 1\nallow = [\"20.1.2.0/24\", \"20.1.2.0/25\"]"),
    )?;
    let (got, _) = flood(&pair, CLIENTS[0], &www(), 200)?;
    ensure!(got.answers == 200, "{got:?}");
    let (got, time) = flood(&pair, CLIENTS[2], &www().option(COOKIE, &[7; 24]), 200)?;
    is_limited(&got, time)?;
    ensure!(got.badcookie == 200 - got.answers, "{got:?}");
    let cookie = got.cookie;
    let (got, _) = flood(&pair, CLIENTS[2], &www().option(COOKIE, &cookie), 200)?;
    ensure!(got.answers == 200, "{got:?}");
    let (from, to) = (ip(CLIENTS[2]), at(SERVER, 53)?);
    let mut stream = pair.client.tcp(from, to)?;
    for _ in 0..100 {
        let reply = Reply::parse(&dns::ask_tcp(&mut stream, &www().bytes())?)?;
        ensure!(reply.of("A") == ["192.0.2.10"], "{reply}");
    }
    let (got, time) = flood(&pair, CLIENTS[3], &www(), 200)?;
    is_limited(&got, time)?;

    daemon.home.write(&off("dry_run = true"))?;
    daemon.ok("reload")?;
    let before = daemon.stats("slow")?;
    let (got, _) = flood(&pair, CLIENTS[2], &www(), 200)?;
    ensure!(got.answers == 200, "{got:?}");
    let counted = difference(&before, &daemon.stats("slow")?);
    ensure!(counted["limited_dry_run"] >= 150, "{counted:?}");
    daemon.home.write(&setup("rate = 0").mode("off"))?;
    daemon.ok("reload")?;
    let (got, _) = flood(&pair, CLIENTS[2], &www(), 200)?;
    ensure!(got.answers == 200, "{got:?}");
    daemon.stop()
}

#[test]
fn a_reload_gives_both_paths_the_buckets_of_the_new_plan() -> Result<()> {
    needs_root!();
    let pair = place()?;
    let mut daemon = Daemon::start(&pair.server, &limited(""))?;
    let [plain, options] = [&WAYS[0], &WAYS[2]];
    for _ in 0..3 {
        let (got, time, _) = flood_by(&pair, plain, CLIENTS[0], 100)?;
        is_limited(&got, time)?;
        // The slow path takes from the same.
        let (got, ..) = flood_by(&pair, options, CLIENTS[0], 20)?;
        ensure!(got.answers <= 15, "{got:?}");
        daemon.ok("reload")?;
        let (got, time, _) = flood_by(&pair, options, CLIENTS[0], 100)?;
        is_limited(&got, time)?;
        let (got, ..) = flood_by(&pair, plain, CLIENTS[0], 20)?;
        ensure!(got.answers <= 15, "{got:?}");
        daemon.ok("reload")?;
    }
    daemon.stop()
}

#[test]
fn what_is_passed_is_paid_for_once() -> Result<()> {
    needs_root!();
    let pair = place()?;
    // What the slow path answers: a type, and names that it follows.
    let mut daemon = Daemon::start(&pair.server, &limited("slip = 0"))?;
    for (number, query) in [
        Query::new("www.example.org", ANY),
        Query::new("www.example.com", A),
    ]
    .iter()
    .enumerate()
    {
        let client = format!("20.7.{number}.1");
        let (got, time) = flood(&pair, &client, query, 300)?;
        is_limited(&got, time).with_context(|| format!("{query:?}"))?;
    }
    daemon.stop()
}

#[test]
fn both_paths_say_the_same_to_who_is_over_the_limit() -> Result<()> {
    needs_root!();
    let mut twins = Twins::start(&setup("rate = 1\nburst = 1\nslip = 1"))?;
    let edns = || www().edns(1232);
    let understood = [
        www(),
        Query::new("WwW.example.ORG", AAAA).flags(dns::RD),
        Query::new("none.example.org", A).edns(4096),
        edns().dnssec_ok(),
        edns().option(NSID, &[]),
        edns().subnet(1, 24, 0, &[20, 3, 4]),
        edns().option(NSID, &[]).subnet(2, 32, 0, &[0x2a, 2, 0, 0]),
        edns().option(65_001, &[1, 2, 3]),
        // Cookies that are good for nobody: BADCOOKIE, and what goes back is made within a second.
        edns().option(COOKIE, &[9; 8]),
        edns().option(COOKIE, &[9; 24]),
        edns().option(COOKIE, &[9; 17]).option(NSID, &[]),
    ];
    for (number, query) in understood.iter().enumerate() {
        for client in [
            ip(&format!("20.3.{number}.1")),
            ip(&format!("2a02:0:{number:x}::1")),
        ] {
            twins.until(&format!("{query:?} is answered alike"), |twins| {
                // Nobody has a token left, for the most of a second.
                for _ in 0..2 {
                    twins.ask_each(client, &www())?;
                }
                let [fast, slow] = twins.ask_each(client, query)?;
                let reply = Reply::parse(&fast)?;
                let is_bare = reply.answers.is_empty() && reply.flags & dns::AA == 0;
                Ok(fast == slow && is_bare)
            })?;
        }
    }
    // What the fast path would not understand is not answered at all, by either.
    for (number, query) in [
        Query::new("www.example.org", ANY),
        Query::new("www.example.org", 43),
        www().flags(4 << 11),
        edns().option(COOKIE, &[9; 9]),
        edns().option(PADDING, &[0; 600]),
    ]
    .iter()
    .enumerate()
    {
        let client = ip(&format!("20.4.{number}.1"));
        for (daemon, server) in [(&twins.fast, SERVER), (&twins.slow, "192.0.2.54")] {
            let socket = twins.pair.client.udp(client, at(server, 53)?)?;
            let mut silent = 0;
            for _ in 0..3 {
                // The first token may be this one's.
                dns::ask(&socket, &www().bytes(), Duration::from_secs(3))?;
                let reply = dns::ask(&socket, &query.bytes(), Duration::from_millis(200))?;
                silent += u32::from(reply.is_none());
            }
            ensure!(silent >= 2, "{query:?} at {server}: {}", daemon.log());
        }
    }
    twins.stop()
}

/// A zone with RRsets of some 300, 500, 600 and 1,000 octets.
fn large(rrl: &str) -> Setup {
    let mut zone = EXAMPLE_ZONE.to_owned();
    for (name, strings) in [("t300", 1), ("t500", 2), ("t600", 3), ("t1000", 5)] {
        let text = format!(" \"{}\"", "x".repeat(200)).repeat(strings);
        zone.push_str(&format!("{name} IN TXT{text}\n"));
    }
    zone.extend((1..=40).map(|host| format!("many IN A 198.51.100.{host}\n")));
    setup(&format!("rate = 100000\n{rrl}")).file("example.org.zone", &zone)
}

/// Whether `explain` says that a client gets TC for its size, unless it has a good cookie.
fn says_tc(daemon: &Daemon, (name, qtype): (&str, u16), client: IpAddr) -> Result<bool> {
    let qtype = if qtype == A { "A" } else { "TXT" };
    let words = format!("explain {name}.example.org --client {client} --type {qtype}");
    let explained = daemon.json(&words)?;
    let mut steps = explained["steps"].as_array().into_iter().flatten();
    Ok(steps.any(|step| {
        let says = step["says"].as_str().unwrap_or_default();
        step["from"] == "rrl.nocookie_udp_size" && says.contains("without a good cookie")
    }))
}

#[test]
fn a_large_answer_over_udp_takes_a_good_cookie() -> Result<()> {
    needs_root!();
    let names = [
        ("t300", TXT),
        ("t500", TXT),
        ("t600", TXT),
        ("t1000", TXT),
        ("many", A),
    ];
    let of = |(name, qtype): (&str, u16)| Query::new(&format!("{name}.example.org"), qtype);
    let client = ip(CLIENTS[2]);
    let mut twins = Twins::start(&large("allow = [\"20.1.2.0/24\"]"))?;
    let truncated = |twins: &Twins| -> Result<[u64; 2]> {
        let count =
            |daemon: &Daemon| -> Result<u64> { Ok(daemon.stats("slow")?["truncated_nocookie"]) };
        Ok([count(&twins.fast)?, count(&twins.slow)?])
    };
    // A cookie that both know.
    let mut cookie = Vec::new();
    twins.until("both make the same cookie", |twins| {
        let query = www().option(COOKIE, &[5; 8]);
        let [fast, slow] = twins.ask_each(client, &query)?;
        cookie = fast[fast.len() - 24..].to_vec();
        Ok(fast == slow)
    })?;
    for of_name in names {
        let query = || of(of_name).edns(1232);
        let [whole, by_cookie] = [&CLIENTS[0], &CLIENTS[2]].map(|client| ip(client));
        let whole = twins.ask(whole, &query())?;
        ensure!(!whole.answers.is_empty(), "{of_name:?}: {whole}");
        let with_cookie = twins.ask(by_cookie, &query().option(COOKIE, &cookie))?;
        ensure!(with_cookie.answers == whole.answers, "{with_cookie}");
        // Without, what is larger than 512 octets is for TCP.
        let before = truncated(&twins)?;
        for sent in [query(), query().option(COOKIE, &[5; 24])] {
            let [fast, slow] = twins.ask_each(client, &sent)?;
            // A cookie has the second in it that it was made in.
            ensure!(fast.len() == slow.len() && fast[..12] == slow[..12]);
            ensure!(fast.len() <= 512, "{} octets", fast.len());
            let reply = Reply::parse(&fast)?;
            let is_whole = reply.flags & TC == 0;
            ensure!(
                is_whole == (of_name.0 == "t300" || of_name.0 == "t500"),
                "{reply}"
            );
            ensure!(!is_whole || reply.answers == whole.answers, "{reply}");
        }
        let is_large = !matches!(of_name.0, "t300" | "t500");
        ensure!(says_tc(&twins.fast, of_name, client)? == is_large);
        ensure!(says_tc(&twins.slow, of_name, client)? == is_large);
        ensure!(!says_tc(&twins.fast, of_name, ip(CLIENTS[0]))?);
        let want = before.map(|before| before + if is_large { 2 } else { 0 });
        ensure!(truncated(&twins)? == want, "{of_name:?}");
        let mut stream = twins.pair.client.tcp(client, at(SERVER, 53)?)?;
        let reply = Reply::parse(&dns::ask_tcp(&mut stream, &query().bytes())?)?;
        ensure!(reply.answers == whole.answers, "{reply}");
    }
    // Nobody is bounded by a dry run, by another size, or where there is no limit.
    for rrl in ["dry_run = true", "nocookie_udp_size = 1232", "rate = 0"] {
        let setup = match rrl {
            "rate = 0" => large("").body(&large("").body.replace("rate = 100000", rrl)),
            rrl => large(rrl),
        };
        twins.change(&setup)?;
        for of_name in names {
            let reply = twins.ask(client, &of(of_name).edns(1232))?;
            ensure!(!reply.answers.is_empty(), "{rrl}: {reply}");
            ensure!(!says_tc(&twins.fast, of_name, client)?, "{rrl}");
        }
    }
    twins.change(&large("nocookie_udp_size = 700"))?;
    for (name, is_whole) in [("t600", true), ("t1000", false)] {
        let reply = twins.ask(client, &of((name, TXT)).edns(1232))?;
        ensure!((reply.flags & TC == 0) == is_whole, "{reply}");
        ensure!(says_tc(&twins.fast, (name, TXT), client)? != is_whole);
    }
    twins.stop()
}

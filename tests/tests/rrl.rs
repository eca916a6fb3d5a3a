//! Response rate limiting in the kernel: how much one prefix gets, who is exempt, and that resolvers get their
//! answer all the same.

use std::collections::BTreeMap;
use std::fs;
use std::net::UdpSocket;
use std::os::unix::process::CommandExt;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use geodns_tests::daemon::{Daemon, EXAMPLE_ZONE, Setup, at, difference, ip};
use geodns_tests::dns::{self, A, ANY, COOKIE, Query, Reply, TC};
use geodns_tests::world::{Pair, run};
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

/// What came of a number of queries.
#[derive(Debug, Default)]
struct Got {
    answers: u64,
    truncated: u64,
    badcookie: u64,
    silence: u64,
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

/// Sends so many queries from an address, some ten thousand a second. Gives what came, and how long it took.
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

/// What the program has counted of questions to it.
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
    let before = daemon.counters()?;
    let mut query = www();
    query.flags |= dns::AA;
    flood(&pair, CLIENTS[2], &query, 100)?;
    let counts = counted(&daemon, &before)?;
    ensure!(counts["limited_drop"] >= 90, "{counts:?}");

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
    // A killed test leaves no server.
    // SAFETY: prctl is a bare system call; nothing is allocated between fork and exec.
    unsafe {
        command.pre_exec(|| Ok(nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?));
    }
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

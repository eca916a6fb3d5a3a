//! How queries come: UDP, TCP and TLS, from real clients, well-behaved and not.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use geodns_tests::crowd;
use geodns_tests::daemon::{Daemon, EXAMPLE, Home, Setup, difference};
use geodns_tests::dns::{self, A, Query, Reply, TXT};
use geodns_tests::needs_root;
use geodns_tests::net::{Pair, Space, at, ip, output, run};

const SERVER: &str = "192.0.2.53";
const CLIENT: &str = "192.0.2.1";
/// The server's name in its certificate.
const NAME: &str = "ns1.example.org";
const PATIENCE: Duration = Duration::from_secs(30);

/// The example without the program, so that every query is the slow path's.
fn slow() -> Setup {
    Setup::example(&[SERVER, "2001:db8::53"]).mode("off")
}

/// The example with DNS over TLS.
fn with_tls(setup: Setup) -> Result<Setup> {
    let (certificate, key) = certificate()?;
    Ok(setup
        .and("[tls]\ncertificate = \"tls.crt\"\nkey = \"tls.key\"\n")
        .file("tls.crt", &certificate)
        .file("tls.key", &key))
}

/// A certificate and its key, in PEM.
fn certificate() -> Result<(String, String)> {
    let made = rcgen::generate_simple_self_signed(vec![NAME.to_owned()])?;
    Ok((made.cert.pem(), made.signing_key.serialize_pem()))
}

/// Asks over TLS with `kdig`, which believes in this certificate and name only.
fn kdig(client: &Space, server: &str, authority: &Path, name: &str) -> Result<Output> {
    output(
        client
            .command("kdig")
            .arg(format!("@{server}"))
            .arg("+tls")
            .arg(format!("+tls-ca={}", authority.display()))
            .arg(format!("+tls-hostname={name}"))
            .args(["+timeout=5", "+retry=0", "+short", "mail.example.org", "A"]),
    )
}

fn answered(output: &Output) -> bool {
    String::from_utf8_lossy(&output.stdout).trim() == "192.0.2.25"
}

/// The figure behind a label of dnsperf's.
fn figure(text: &str, label: &str) -> Result<u64> {
    text.lines()
        .find_map(|line| line.trim().strip_prefix(label))
        .and_then(|rest| rest.split_whitespace().next()?.parse().ok())
        .with_context(|| format!("no {label} in:\n{text}"))
}

fn framed(query: &[u8]) -> Vec<u8> {
    [&(query.len() as u16).to_be_bytes(), query].concat()
}

fn read_message(stream: &mut impl Read) -> Result<Vec<u8>> {
    let mut length = [0; 2];
    stream.read_exact(&mut length)?;
    let mut message = vec![0; u16::from_be_bytes(length).into()];
    stream.read_exact(&mut message)?;
    Ok(message)
}

/// Whether the server has closed a connection, now or within the socket's timeout.
fn is_closed(stream: &mut TcpStream) -> bool {
    match stream.read(&mut [0; 512]) {
        Ok(len) => len == 0,
        Err(error) => error.kind() == ErrorKind::ConnectionReset,
    }
}

#[test]
fn dig_over_tcp_and_kdig_over_tls_with_the_program_attached() -> Result<()> {
    needs_root!();
    let pair = Pair::new(&[])?;
    let setup = with_tls(Setup::example(&[SERVER, "2001:db8::53"]))?;
    let mut daemon = Daemon::start(&pair.server, &setup)?;
    let authority = daemon.home.folder.path().join("tls.crt");
    for server in [SERVER, "2001:db8::53"] {
        let mut dig = pair.client.command("dig");
        dig.arg(format!("@{server}"))
            .args(["+tcp", "+keepopen", "+short", "+tries=1"])
            .args(["mail.example.org", "A", "www.example.org", "TXT"]);
        ensure!(run(&mut dig)? == "192.0.2.25\n\"steered by geodns\"\n");
        let good = kdig(&pair.client, server, &authority, NAME)?;
        ensure!(answered(&good), "{good:?}");
        let other = kdig(&pair.client, server, &authority, "ns2.example.org")?;
        ensure!(!answered(&other), "another name: {other:?}");
    }
    ensure!(daemon.json("status")?["tls_port"] == 853);
    let counted = daemon.stats("slow")?;
    ensure!(counted["tls_connections"] >= 2, "{counted:?}");
    ensure!(counted["queries_tcp"] >= 6, "{counted:?}");
    daemon.stop()
}

#[test]
fn what_is_asked_padded_over_tls_is_answered_in_blocks() -> Result<()> {
    needs_root!();
    let pair = Pair::bare(&[])?;
    let secret = "c2hhcmVkIGJ5IHR3byBzZXJ2ZXJzLCBhbmQgYnkgbm8=";
    let mut setup = with_tls(slow())?;
    setup.body += &format!("[[tsig]]\nname = \"key\"\nsecret = \"{secret}\"\n");
    let mut daemon = Daemon::start(&pair.server, &setup)?;
    let octets = |words: &str| -> Result<u64> {
        let text = run(pair
            .client
            .command("kdig")
            .arg(format!("@{SERVER}"))
            .args(words.split_whitespace()))?;
        ensure!(
            !text.contains("WARNING") && !text.contains(";; ERROR"),
            "{text}"
        );
        figure(&text, ";; Received ")
    };
    let signed = format!("-y hmac-sha256:key:{secret}");
    for question in [
        "mail.example.org A",
        "www.example.org TXT",
        "none.example.org A",
        "example.com A",
    ] {
        // kdig pads over TLS unless it is told otherwise.
        for more in ["", "+nsid", "+subnet=192.0.2.0/24", &signed] {
            let len = octets(&format!("+tls +padding {question} {more}"))?;
            ensure!(len == 468, "{question} {more}: {len}");
        }
        for plain in ["+tls +nopadding +edns", "+tcp +padding=100", "+padding=100"] {
            let len = octets(&format!("{plain} {question}"))?;
            ensure!(len < 200, "{question} {plain}: {len}");
        }
    }
    daemon.stop()
}

#[test]
fn dnsperf_loses_nothing_over_udp_tcp_and_tls() -> Result<()> {
    needs_root!();
    let pair = Pair::bare(&[])?;
    let mut daemon = Daemon::start(&pair.server, &with_tls(slow())?)?;
    let list = daemon.home.folder.path().join("questions");
    let questions =
        "mail.example.org A\nwww.example.org A\nwww.example.org TXT\nno.example.org A\n";
    std::fs::write(&list, questions.repeat(5000))?;
    for (mode, counter) in [
        ("udp", "queries_udp"),
        ("tcp", "queries_tcp"),
        ("dot", "queries_tcp"),
    ] {
        let before = daemon.stats("slow")?;
        let text = run(pair
            .client
            .command("dnsperf")
            .args([
                "-s", SERVER, "-m", mode, "-c", "10", "-q", "200", "-n", "1", "-t", "10", "-d",
            ])
            .arg(&list))?;
        ensure!(figure(&text, "Queries completed:")? == 20_000, "{text}");
        ensure!(figure(&text, "Queries lost:")? == 0, "{text}");
        ensure!(
            text.contains("NOERROR 15000 (75.00%), NXDOMAIN 5000 (25.00%)"),
            "{text}"
        );
        let counted = difference(&before, &daemon.stats("slow")?);
        ensure!(counted[counter] == 20_000, "{mode}: {counted:?}");
        ensure!(!counted.contains_key("udp_send_failed"), "{counted:?}");
    }
    daemon.stop()
}

#[test]
fn certificates_are_read_again_when_they_change_and_broken_ones_change_nothing() -> Result<()> {
    needs_root!();
    let pair = Pair::bare(&[])?;
    let setup = with_tls(slow())?;
    let mut daemon = Daemon::start(&pair.server, &setup)?;
    let file = |name: &str| daemon.home.folder.path().join(name);
    let first = file("first.crt");
    std::fs::copy(file("tls.crt"), &first)?;
    let answers = |authority: &Path| -> Result<bool> {
        Ok(answered(&kdig(&pair.client, SERVER, authority, NAME)?))
    };
    ensure!(answers(&first)?);

    // A key that is another certificate's.
    let (certificate, key) = certificate()?;
    std::fs::write(file("tls.key"), &key)?;
    daemon.logged("the certificate stays as it was: ")?;
    daemon.logged("tls.key: is not the key of ")?;
    let (_, status) = daemon.request("GET", "/v1/status", "")?;
    ensure!(status.contains("is not the key of"), "{status}");
    ensure!(answers(&first)?, "the old one is gone");
    let (code, said) = daemon.fails("reload")?;
    ensure!(
        code == 1 && said.contains("tls.key: is not the key of "),
        "{said}"
    );
    ensure!(answers(&first)?, "the old one is gone");

    // The certificate of it.
    std::fs::write(file("tls.crt"), &certificate)?;
    daemon.logged("read again: ")?;
    ensure!(answers(&file("tls.crt"))?);
    ensure!(!answers(&first)?, "the old one is shown still");
    let (_, status) = daemon.request("GET", "/v1/status", "")?;
    ensure!(!status.contains("is not the key of"), "{status}");

    // Without the section, nobody listens any more; plain DNS goes on.
    let plain = Setup {
        body: EXAMPLE.to_owned(),
        ..setup.clone()
    };
    std::fs::copy(file("tls.crt"), file("second.crt"))?;
    daemon.home.write(&plain)?;
    daemon.ok("reload")?;
    ensure!(pair.client.tcp(CLIENT.parse()?, at(SERVER, 853)?).is_err());
    let socket = pair.client.udp(CLIENT.parse()?, at(SERVER, 53)?)?;
    let query = Query::new("mail.example.org", A).bytes();
    ensure!(dns::ask(&socket, &query, PATIENCE)?.is_some());
    // And with it again.
    daemon.home.write(&setup)?;
    daemon.ok("reload")?;
    ensure!(answers(&first)?);
    daemon.stop()?;

    // A start with a broken one fails in one line.
    let home = Home::new()?;
    let broken = setup.file("tls.crt", "no certificate\n");
    home.write(&broken)?;
    let ended = Daemon::attempt(&pair.server, &home, &broken)?;
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    ensure!(!ended.status.success(), "{said}");
    ensure!(
        said.contains("tls.crt: there is no certificate in it; it must be PEM"),
        "{said}"
    );
    Ok(())
}

#[test]
fn thousands_of_queries_over_one_connection_are_answered_in_order() -> Result<()> {
    needs_root!();
    const QUERIES: u16 = 20_000;
    let pair = Pair::bare(&[])?;
    let mut daemon = Daemon::start(&pair.server, &slow())?;
    let mut stream = pair.client.tcp(CLIENT.parse()?, at(SERVER, 53)?)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut writer = stream.try_clone()?;
    let writing = std::thread::spawn(move || -> Result<()> {
        let mut all = Vec::new();
        for id in 0..QUERIES {
            let mut query = match id % 2 {
                0 => Query::new("mail.example.org", A),
                _ => Query::new("example.org", TXT),
            };
            query.id = id;
            all.extend(framed(&query.bytes()));
        }
        // Segments that are no messages.
        for piece in all.chunks(1399) {
            writer.write_all(piece)?;
        }
        Ok(())
    });
    for id in 0..QUERIES {
        let message = read_message(&mut stream).with_context(|| format!("answer {id}"))?;
        ensure!(message[..2] == id.to_be_bytes(), "not in order at {id}");
        let expected = ["3600 A 192.0.2.25", "3600 TXT \"geodns\""][usize::from(id % 2)];
        let reply = Reply::parse(&message)?;
        ensure!(reply.answers == [expected], "{reply:?}");
    }
    writing.join().expect("no panic")?;
    let counted = daemon.stats("slow")?;
    ensure!(counted["queries_tcp"] == u64::from(QUERIES), "{counted:?}");
    ensure!(counted["tcp_connections"] == 1, "{counted:?}");
    daemon.stop()
}

#[test]
fn floods_of_connections_and_slow_clients_do_not_keep_others_out() -> Result<()> {
    needs_root!();
    let pair = Pair::bare(&["198.51.100.1/32"])?;
    let setup = with_tls(slow())?;
    let mut daemon = Daemon::start(&pair.server, &setup)?;
    let query = framed(&Query::new("mail.example.org", A).bytes());
    let connect = |from: &str, port: u16| pair.client.tcp(from.parse()?, at(SERVER, port)?);
    let ask = |stream: &mut TcpStream| -> Result<()> {
        stream.write_all(&query)?;
        let reply = Reply::parse(&read_message(stream)?)?;
        ensure!(reply.answers == ["3600 A 192.0.2.25"], "{reply:?}");
        Ok(())
    };
    // Clients that stop in the middle: of a query, of an answer, of a handshake.
    let began = Instant::now();
    let mut half = connect(CLIENT, 53)?;
    half.write_all(&query[..query.len() - 1])?;
    let mut deaf = connect(CLIENT, 53)?;
    deaf.set_nonblocking(true)?;
    let many = query.repeat(1000);
    while match deaf.write(&many) {
        Ok(_) => true,
        Err(error) if error.kind() == ErrorKind::WouldBlock => false,
        Err(error) => bail!("writing queries: {error}"),
    } {}
    let mut silent = connect(CLIENT, 853)?;

    // More connections than there may be, and the last are served all the same.
    crowd::raise_file_limit()?;
    let mut flood = Vec::new();
    let end = Instant::now() + PATIENCE;
    while flood.len() % 64 > 0 || daemon.stats("slow")?.get("tcp_displaced") < Some(&100) {
        ensure!(
            Instant::now() < end,
            "{} are open, none is displaced",
            flood.len()
        );
        let mut stream = connect(CLIENT, 53)?;
        ask(&mut stream)?;
        flood.push(stream);
    }
    // Another network's client is served, over each; so is everybody over UDP.
    ask(&mut connect("198.51.100.1", 53)?)?;
    let mut dot = pair.client.command("kdig");
    dot.args([
        "@192.0.2.53",
        "+tls",
        "+short",
        "-b",
        "198.51.100.1",
        "mail.example.org",
        "A",
    ]);
    ensure!(run(&mut dot)?.trim() == "192.0.2.25");
    let socket = pair.client.udp(CLIENT.parse()?, at(SERVER, 53)?)?;
    let plain = &query[2..];
    ensure!(dns::ask(&socket, plain, PATIENCE)?.is_some());

    // The slow ones are cut in time, and so are those that say nothing more.
    for slow in [&mut half, &mut silent] {
        slow.set_read_timeout(Some(PATIENCE))?;
        ensure!(is_closed(slow), "a slow client is still there");
    }
    while daemon.stats("slow")?["tcp_open"] > 0 {
        ensure!(
            Instant::now() < end + PATIENCE,
            "{:?}",
            daemon.stats("slow")?
        );
        std::thread::sleep(Duration::from_millis(100));
    }
    // All but the two that were answered elsewhere either were too slow or made room.
    let counted = daemon.stats("slow")?;
    ensure!(
        counted["tcp_timeouts"] + counted["tcp_displaced"] >= 3 + flood.len() as u64,
        "{counted:?}"
    );
    ensure!(counted["tls_failed"] == 1, "{counted:?}");
    ensure!(began.elapsed() >= Duration::from_secs(2), "{counted:?}");
    daemon.stop()
}

#[test]
fn eight_prefixes_hold_all_connections_they_can_and_others_are_answered() -> Result<()> {
    needs_root!();
    const OTHERS: u8 = 40;
    crowd::raise_file_limit()?;
    let pair = Pair::bare(&["20.2.0.1/32"])?;
    let others = (0..OTHERS).map(|other| format!("address add 20.3.{other}.1/32 dev lo\n"));
    pair.client.ip_batch(&others.collect::<String>())?;
    crowd::settle(&pair.client)?;
    let mut daemon = Daemon::start(&pair.server, &with_tls(slow())?)?;
    let query = framed(&Query::new("mail.example.org", A).bytes());
    // 4,096 connections are what there may be, of TCP and TLS.
    let most = 640;
    let over = AtomicBool::new(false);
    let answered = std::thread::scope(|scope| -> Result<()> {
        let holders: Vec<_> = (0..crowd::PREFIXES)
            .map(|prefix| {
                let (space, query, over) = (&pair.client, &query, &over);
                scope.spawn(move || crowd::hold(space, (prefix, most), ip(SERVER), query, over))
            })
            .collect();
        let ask_all = || -> Result<()> {
            let end = Instant::now() + PATIENCE;
            while daemon.stats("slow")?.get("tcp_displaced") < Some(&200) {
                ensure!(Instant::now() < end, "{:?}", daemon.stats("slow")?);
                std::thread::sleep(Duration::from_millis(50));
            }
            // One that stays, and asks now and then, as a resolver does.
            let mut kept = pair.client.tcp("20.2.0.1".parse()?, at(SERVER, 53)?)?;
            kept.set_read_timeout(Some(PATIENCE))?;
            for other in 0..OTHERS {
                let from = format!("20.3.{other}.1");
                let mut stream = pair.client.tcp(from.parse()?, at(SERVER, 53)?)?;
                stream.set_read_timeout(Some(PATIENCE))?;
                for stream in [&mut stream, &mut kept] {
                    stream.write_all(&query)?;
                    let reply = Reply::parse(&read_message(stream)?).context(from.clone())?;
                    ensure!(reply.answers == ["3600 A 192.0.2.25"], "{reply:?}");
                }
                if other % 4 == 0 {
                    let mut dot = pair.client.command("kdig");
                    dot.arg(format!("@{SERVER}"));
                    dot.args(["+tls", "+short", "+timeout=20", "+retry=0", "-b", &from]);
                    let text = run(dot.args(["mail.example.org", "A"]))?;
                    ensure!(text.trim() == "192.0.2.25", "{from} over TLS: {text}");
                }
            }
            Ok(())
        };
        let asked = ask_all();
        over.store(true, Ordering::Relaxed);
        for holder in holders {
            holder.join().expect("no panic")?;
        }
        asked
    });
    let counted = daemon.stats("slow")?;
    answered.with_context(|| format!("{counted:?}"))?;
    ensure!(counted["tcp_connections"] > 4096, "{counted:?}");
    daemon.stop()
}

#[test]
fn addresses_come_and_go_and_the_others_lose_nothing() -> Result<()> {
    needs_root!();
    const COMING: usize = 40;
    let pair = Pair::bare(&[])?;
    let mut setup = slow();
    setup.listen.clear();
    let mut daemon = Daemon::start(&pair.server, &setup)?;
    let list = daemon.home.folder.path().join("questions");
    std::fs::write(
        &list,
        "mail.example.org A\nwww.example.org A\nno.example.org A\n".repeat(100),
    )?;
    let mut load = pair.client.command("dnsperf");
    load.args([
        "-s", SERVER, "-c", "20", "-Q", "3000", "-t", "5", "-l", "10", "-d",
    ])
    .arg(&list)
    .stdin(Stdio::null())
    .stdout(Stdio::piped())
    .stderr(Stdio::piped());
    let load = load.spawn().context("cannot run dnsperf")?;
    // One that stays, over TCP.
    let query = Query::new("mail.example.org", A).bytes();
    let mut kept = pair.client.tcp(CLIENT.parse()?, at(SERVER, 53)?)?;
    let end = Instant::now() + Duration::from_secs(9);
    let mut changes = 0;
    while Instant::now() < end {
        let address = format!("192.0.2.{}", 100 + changes % COMING);
        pair.server
            .ip(&format!("address add {address}/24 dev eth0"))?;
        let socket = pair.client.udp(CLIENT.parse()?, at(&address, 53)?)?;
        let asking = Instant::now();
        while !matches!(
            dns::ask(&socket, &query, Duration::from_millis(100)),
            Ok(Some(_))
        ) {
            ensure!(asking.elapsed() < PATIENCE, "{address} is not answered on");
        }
        kept.write_all(&framed(&query))?;
        read_message(&mut kept)?;
        if changes % 10 == 0 {
            daemon.ok("reload")?;
        }
        pair.server
            .ip(&format!("address del {address}/24 dev eth0"))?;
        changes += 1;
    }
    ensure!(changes >= 5, "{changes} changes");
    let ended = load.wait_with_output()?;
    let text = String::from_utf8_lossy(&ended.stdout).into_owned();
    ensure!(figure(&text, "Queries sent:")? >= 1000, "{text}");
    ensure!(figure(&text, "Queries lost:")? == 0, "{text}");
    // Nothing is left of those that went.
    let sockets = run(pair.server.command("ss").args(["-Hlun"]))?;
    daemon.logged("no longer answered on")?;
    let gone = Instant::now();
    while run(pair.server.command("ss").args(["-Hlun"]))?.contains("192.0.2.1") {
        ensure!(gone.elapsed() < PATIENCE, "{sockets}");
        std::thread::sleep(Duration::from_millis(50));
    }
    daemon.stop()
}

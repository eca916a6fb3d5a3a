//! Real load generators: every query answered, and every answer the right one.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};
use std::net::Ipv4Addr;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use geodns_tests::daemon::{Daemon, Setup, difference};
use geodns_tests::dns::{AA, Reply};
use geodns_tests::needs_root;
use geodns_tests::net::{Pair, run};
use geodns_tests::packet::checksum;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const QUERIES: u64 = 10_000;

/// Ten thousand questions for both types, in every letter case.
fn questions() -> String {
    (0..QUERIES)
        .map(|number| {
            let name: String = "www.example.org"
                .chars()
                .enumerate()
                .map(|(at, letter)| {
                    if number >> (at % 13) & 1 == 1 {
                        letter.to_ascii_uppercase()
                    } else {
                        letter
                    }
                })
                .collect();
            format!("{name} {}\n", if number % 2 == 0 { "A" } else { "AAAA" })
        })
        .collect()
}

/// The figure behind a label such as `Queries lost:`.
fn figure(text: &str, label: &str) -> Result<u64> {
    text.lines()
        .find_map(|line| line.trim().strip_prefix(label))
        .and_then(|rest| rest.split_whitespace().next()?.parse().ok())
        .with_context(|| format!("no {label} in:\n{text}"))
}

/// IPv4 packets of a capture of Ethernet frames, in pcap's classic form.
fn packets(capture: &[u8]) -> Result<Vec<&[u8]>> {
    let word = |at: usize| -> Result<u32> {
        let bytes = capture.get(at..at + 4).context("the capture is cut")?;
        Ok(u32::from_le_bytes(bytes.try_into()?))
    };
    ensure!(
        word(0)? == 0xa1b2_c3d4 && word(20)? == 1,
        "another form of capture"
    );
    let mut at = 24;
    let mut packets = Vec::new();
    while at < capture.len() {
        let length = word(at + 8)? as usize;
        ensure!(word(at + 12)? as usize == length, "a packet is not whole");
        let frame = capture.get(at + 16..at + 16 + length).context("cut")?;
        ensure!(frame[12..14] == [8, 0], "not IPv4");
        packets.push(&frame[14..]);
        at += 16 + length;
    }
    Ok(packets)
}

#[test]
fn dnsperf_loses_none_of_10_000_and_every_answer_is_right() -> Result<()> {
    needs_root!();
    // dnsperf asks from one address of each network.
    for (client, a, aaaa) in [
        ("10.1.0.1", "198.51.100.10", "2001:db8:2::10"),
        ("10.2.0.1", "203.0.113.10", "2001:db8:3::10"),
    ] {
        let pair = Pair::new(&[client])?;
        let mut daemon = Daemon::start(&pair.server, &Setup::example(&["192.0.2.53"]))?;
        let folder = daemon.home.folder.path();
        let list = folder.join("questions");
        std::fs::write(&list, questions())?;
        let file = folder.join("capture");
        let mut tcpdump = pair
            .client
            .command("tcpdump")
            .args(["-i", "eth0", "-n", "-U", "-Z", "root", "-B", "65536"])
            // Else the last block of the ring, not full yet, is lost when tcpdump ends.
            .args(["--immediate-mode", "-w"])
            .arg(&file)
            .args(["udp", "and", "src", "host", "192.0.2.53"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .context("cannot run tcpdump")?;
        let mut said = BufReader::new(tcpdump.stderr.take().context("piped")?);
        let mut line = String::new();
        while !line.contains("listening on") {
            line.clear();
            ensure!(said.read_line(&mut line)? > 0, "tcpdump ended");
        }

        let before = daemon.counters()?;
        let result = run(pair
            .client
            .command("dnsperf")
            .args(["-s", "192.0.2.53", "-a", client, "-n", "1", "-t", "5", "-d"])
            .arg(&list));
        // What is in the ring is on its way to the file, which takes as long as the machine likes.
        let end = Instant::now() + Duration::from_secs(20);
        let is_whole =
            |capture: &[u8]| packets(capture).is_ok_and(|packets| packets.len() as u64 >= QUERIES);
        while Instant::now() < end && !is_whole(&std::fs::read(&file)?) {
            std::thread::sleep(Duration::from_millis(50));
        }
        kill(Pid::from_raw(i32::try_from(tcpdump.id())?), Signal::SIGINT)?;
        tcpdump.wait()?;
        let mut end = String::new();
        said.read_to_string(&mut end)?;
        let text = result?;

        ensure!(figure(&text, "Queries sent:")? == QUERIES, "{text}");
        ensure!(figure(&text, "Queries completed:")? == QUERIES, "{text}");
        ensure!(figure(&text, "Queries lost:")? == 0, "{text}");
        ensure!(text.contains("NOERROR 10000 (100.00%)"), "{text}");
        let counted = difference(&before, &daemon.counters()?);
        ensure!(
            counted.get("answered") == Some(&QUERIES),
            "the kernel answered others than these: {counted:?}"
        );

        // What dnsperf got, as it came by.
        let capture = std::fs::read(&file)?;
        let mut answers = BTreeMap::new();
        for packet in packets(&capture)? {
            ensure!(packet[0] == 0x45, "IPv4 options");
            let length = usize::from(u16::from_be_bytes([packet[2], packet[3]]));
            let packet = packet.get(..length).context("shorter than it says")?;
            ensure!(checksum(&[&packet[..20]]) == 0, "IPv4 header checksum");
            let udp = &packet[20..];
            let pseudo = [&packet[12..20], &[0, 17], &udp[4..6]].concat();
            ensure!(udp[6..8] != [0, 0], "no UDP checksum");
            ensure!(checksum(&[&pseudo, udp]) == 0, "UDP checksum");
            let to = Ipv4Addr::from(<[u8; 4]>::try_from(&packet[16..20])?);
            ensure!(to.to_string() == client, "an answer to {to}");
            let reply = Reply::parse(&udp[8..])?;
            ensure!(reply.flags & AA != 0, "not authoritative: {reply}");
            *answers.entry(reply.answers.join(", ")).or_insert(0) += 1;
        }
        let expected = BTreeMap::from([
            (format!("60 A {a}"), QUERIES / 2),
            (format!("60 AAAA {aaaa}"), QUERIES / 2),
        ]);
        ensure!(answers == expected, "{answers:?}; tcpdump: {end}");
        daemon.stop()?;
    }
    Ok(())
}

#[test]
fn kxdpgun_has_every_query_answered() -> Result<()> {
    needs_root!();
    // It brings an XDP program of its own to the client's end.
    let pair = Pair::bare(&[])?;
    let mut daemon = Daemon::start(&pair.server, &Setup::example(&["192.0.2.53"]))?;
    let list = daemon.home.folder.path().join("questions");
    std::fs::write(&list, questions())?;
    // It has to find the neighbour known. No dig: without a program here no answer arrives yet.
    pair.client.ip(&format!(
        "neighbour replace 192.0.2.53 lladdr {} dev eth0",
        pair.server.mac("eth0")?
    ))?;
    let before = daemon.counters()?;
    let text = run(pair
        .client
        .command("kxdpgun")
        .args(["-t", "2", "-Q", "5000", "-b", "1", "-F", "0s0", "-i"])
        .arg(&list)
        .arg("192.0.2.53"))?;
    let counted = difference(&before, &daemon.counters()?);
    let queries = figure(&text, "total queries:")?;
    ensure!(queries >= 5000, "{text}");
    ensure!(
        counted.get("answered") == Some(&queries),
        "{counted:?}\n{text}"
    );
    ensure!(figure(&text, "total replies:")? == queries, "{text}");
    ensure!(figure(&text, "responded NOERROR:")? == queries, "{text}");
    daemon.stop()
}

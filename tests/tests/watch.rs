//! `geodns capture` and `geodns top`: what they show is what was asked and answered, and nobody pays for it when
//! nobody looks.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::net::UdpSocket;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use geodns_tests::built::binary;
use geodns_tests::daemon::{Daemon, Setup};
use geodns_tests::dns::{self, A, ANY, MX, Query, TXT};
use geodns_tests::net::{Pair, at, ip};
use geodns_tests::packet::Frame;
use geodns_tests::{needs_root, until};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pcap_file::pcap::PcapReader;
use serde_json::Value;

const SERVER: &str = "192.0.2.53";
const CLIENTS: [&str; 3] = ["10.1.0.1", "10.2.0.1", "10.9.0.1"];
const LONG: Duration = Duration::from_secs(20);

struct Site {
    pair: Pair,
    daemon: Daemon,
}

impl Site {
    fn new() -> Result<Self> {
        let pair = Pair::new(&CLIENTS)?;
        pair.client
            .ip_batch("route add local 20.0.0.0/8 dev lo\n")?;
        let daemon = Daemon::start(&pair.server, &Setup::example(&[SERVER]))?;
        Ok(Self { pair, daemon })
    }

    fn socket(&self, from: &str) -> Result<UdpSocket> {
        self.pair.client.udp(ip(from), at(SERVER, 53)?)
    }

    /// Asks once; gives what came, if anything did.
    fn ask(&self, from: &str, query: &Query) -> Result<Option<Vec<u8>>> {
        dns::ask(&self.socket(from)?, &query.bytes(), LONG)
    }

    fn command(&self, words: &str) -> Result<Command> {
        let mut command = Command::new(binary()?);
        command.arg("--socket").arg(self.daemon.home.socket());
        command.args(words.split_whitespace());
        Ok(command)
    }

    /// Starts to capture; it is under way when this returns.
    fn capture(&self, words: &str) -> Result<Capture> {
        let file = tempfile::NamedTempFile::new()?
            .into_temp_path()
            .to_path_buf();
        let mut command = self.command(&format!("capture {words} -w {}", file.display()))?;
        let child = command.stderr(Stdio::piped()).spawn()?;
        let capture = Capture { child, file };
        until("a file's header", || {
            Ok(std::fs::metadata(&capture.file).is_ok_and(|of| of.len() >= 24))
        })?;
        Ok(capture)
    }
}

struct Capture {
    child: Child,
    file: PathBuf,
}

impl Capture {
    /// Ends it when it has N packets, which must be all; gives those, and what it said.
    fn end(self, packets: usize) -> Result<(Vec<(Frame, Duration)>, String)> {
        let (all, said) = self.end_after(packets)?;
        ensure!(all.len() == packets, "{} packets, not {packets}", all.len());
        Ok((all, said))
    }

    /// Ends it when it has N packets; gives all, and what it said.
    fn end_after(mut self, packets: usize) -> Result<(Vec<(Frame, Duration)>, String)> {
        until("packets", || Ok(read(&self.file)?.len() >= packets))?;
        kill(Pid::from_raw(self.child.id() as i32), Signal::SIGINT)?;
        let mut said = String::new();
        if let Some(stderr) = self.child.stderr.take() {
            BufReader::new(stderr).read_line(&mut said)?;
        }
        ensure!(self.child.wait()?.success(), "{said}");
        Ok((read(&self.file)?, said))
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_file(&self.file);
    }
}

/// The frames of a file, and when they were.
fn read(file: &std::path::Path) -> Result<Vec<(Frame, Duration)>> {
    let mut reader = PcapReader::new(File::open(file)?)?;
    let mut frames = Vec::new();
    while let Some(packet) = reader.next_packet() {
        // The last may be under way.
        let Ok(packet) = packet else { break };
        ensure!(packet.data.len() == packet.orig_len as usize, "a cut frame");
        let frame = Frame::parse(&packet.data).context("a frame of no UDP")?;
        frames.push((frame, packet.timestamp));
    }
    Ok(frames)
}

#[test]
fn a_capture_has_queries_and_the_answers_of_the_program() -> Result<()> {
    needs_root!();
    let site = Site::new()?;
    let capture = site.capture("")?;
    let mut sent = Vec::new();
    for (from, query, in_kernel) in [
        (CLIENTS[0], Query::new("www.example.org", A), true),
        (
            CLIENTS[1],
            Query::new("WWW.example.org", A).edns(1232),
            true,
        ),
        (CLIENTS[0], Query::new("mail.example.org", A), true),
        (CLIENTS[0], Query::new("none.example.org", A), true),
        (CLIENTS[2], Query::new("www.example.org", ANY), false),
    ] {
        let answer = site.ask(from, &query)?.context("no answer")?;
        sent.push((from, query.bytes(), in_kernel.then_some(answer)));
    }
    // Dropped in the kernel.
    let mut response = Query::new("www.example.org", A).bytes();
    response[2] |= 0x80;
    site.socket(CLIENTS[0])?.send(&response)?;
    sent.push((CLIENTS[0], response, None));

    let (frames, said) = capture.end(10)?;
    ensure!(said == "10 packets captured, 0 lost\n", "{said}");
    let mut frames = frames.into_iter();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?;
    for (from, query, answer) in sent {
        let (frame, time) = frames.next().context("a query")?;
        ensure!(
            frame.message == query && frame.source == ip(from),
            "{frame:?}"
        );
        ensure!(now.abs_diff(time) < LONG, "{time:?}, and it is {now:?}");
        if let Some(answer) = answer {
            let (response, later) = frames.next().context("an answer")?;
            ensure!(response.message == answer, "{response:?}");
            ensure!(
                response.source == frame.destination
                    && response.destination == frame.source
                    && response.macs == [frame.macs[1], frame.macs[0]]
            );
            ensure!(later > time && later - time < LONG);
        }
    }
    ensure!(site.daemon.counters()?["watch_lost"] == 0);
    Ok(())
}

#[test]
fn a_capture_has_what_its_filter_says() -> Result<()> {
    needs_root!();
    let site = Site::new()?;
    let queries = [
        (CLIENTS[0], "www.example.org", A),
        (CLIENTS[1], "www.example.org", A),
        (CLIENTS[0], "mail.example.org", A),
        (CLIENTS[0], "example.org", MX),
        (CLIENTS[1], "a.b.none.example.org", TXT),
    ];
    for (words, packets) in [
        ("--name WWW.example.org", 4),
        ("--below example.org --type MX", 2),
        ("--below none.example.org", 2),
        ("--below org --type AAAA -c 1 --for 1s", 0),
        ("--from 10.1.0.0/16", 6),
        ("--from 10.1.0.1 --name www.example.org", 2),
        ("--verdict nxdomain", 2),
        ("--verdict static --verdict nxdomain", 6),
    ] {
        let capture = site.capture(words)?;
        for (from, name, qtype) in queries {
            site.ask(from, &Query::new(name, qtype))?
                .context("no answer")?;
        }
        if words.contains("--for") {
            // It ends by itself.
            let mut capture = capture;
            ensure!(capture.child.wait()?.success() && read(&capture.file)?.is_empty());
            continue;
        }
        let (_, said) = capture.end(packets).context(words)?;
        ensure!(
            said == format!("{packets} packets captured, 0 lost\n"),
            "{words}: {said}"
        );
    }
    // Each CPU counts for itself, and from where it was: one more or less on each.
    let capture = site.capture("--every 4")?;
    let www = Query::new("www.example.org", A);
    let socket = site.socket(CLIENTS[0])?;
    for _ in 0..400 {
        dns::ask(&socket, &www.bytes(), LONG)?.context("no answer")?;
    }
    let cpus = thread::available_parallelism()?.get();
    let (all, _) = capture.end_after(2 * (100 - cpus))?;
    ensure!(all.len() <= 2 * (100 + cpus), "{} packets", all.len());

    // N, and it ends.
    let mut capture = site.capture("-c 3")?;
    for (from, name, qtype) in queries {
        site.ask(from, &Query::new(name, qtype))?;
    }
    ensure!(capture.child.wait()?.success() && read(&capture.file)?.len() == 3);

    for (words, why) in [
        (
            "--every 3",
            "every: 3 is no power of two up to 1048576; write one, as 64",
        ),
        (
            "--verdict nope",
            "\"nope\" is no verdict; there are answered, static, ",
        ),
        ("--type x!", "\"x!\" is not a type"),
    ] {
        let (code, said) = site
            .daemon
            .fails(&format!("capture {words} -w /dev/null"))?;
        ensure!(
            code == 1 && said.contains(why) && said.lines().count() == 1,
            "{said}"
        );
    }
    Ok(())
}

#[test]
fn there_is_one_capture_at_a_time_and_it_goes_on_over_a_reload() -> Result<()> {
    needs_root!();
    let mut site = Site::new()?;
    let capture = site.capture("--name www.example.org")?;
    let (code, said) = site.daemon.fails("capture -w /dev/null")?;
    ensure!(
        code == 1 && said.contains("another capture is under way"),
        "{said}"
    );
    let www = Query::new("www.example.org", A);
    site.ask(CLIENTS[0], &www)?;
    site.daemon.ok("reload")?;
    site.ask(CLIENTS[0], &www)?;
    site.ask(CLIENTS[0], &Query::new("mail.example.org", A))?;
    capture.end(4)?;
    // When nobody looks any more, another one may, with another filter.
    until("the capture's end", || {
        let (_, said) = match site.daemon.fails("capture --for 1ms -w /dev/null") {
            Ok(failed) => failed,
            Err(_) => return Ok(true),
        };
        ensure!(said.contains("another capture"), "{said}");
        Ok(false)
    })?;
    let capture = site.capture("--name mail.example.org")?;
    site.ask(CLIENTS[0], &www)?;
    site.ask(CLIENTS[0], &Query::new("mail.example.org", A))?;
    capture.end(2)?;
    // A stop ends it at once.
    let mut capture = site.capture("")?;
    let start = Instant::now();
    site.daemon.stop()?;
    capture.child.wait()?;
    ensure!(
        start.elapsed() < Duration::from_secs(4),
        "{:?}",
        start.elapsed()
    );
    Ok(())
}

#[test]
fn without_the_program_there_is_nothing_to_see() -> Result<()> {
    needs_root!();
    let pair = Pair::new(&[])?;
    let daemon = Daemon::start(&pair.server, &Setup::example(&[SERVER]).mode("off"))?;
    for words in ["top --once", "capture -w /dev/null"] {
        let (code, said) = daemon.fails(words)?;
        ensure!(
            code == 1 && said.contains("kernel.mode is off"),
            "{words}: {said}"
        );
    }
    Ok(())
}

/// A flood: nine of ten queries ask for `www` from one network, and the others each for another name.
fn flood(site: &Site, over: &AtomicBool) -> Result<u64> {
    let heavy = site.socket("20.7.7.7")?;
    let others: Result<Vec<UdpSocket>> = (0..40)
        .map(|number| site.socket(&format!("20.9.{number}.1")))
        .collect();
    let others = others?;
    let www = Query::new("www.example.org", A).bytes();
    let none = Query::new("none.example.org", TXT).bytes();
    let mut sent = 0;
    let mut buffer = [0; 512];
    while !over.load(Ordering::Relaxed) {
        for turn in 0..10 {
            let (socket, message) = match turn {
                0 => (&others[sent as usize / 10 % others.len()], &none),
                _ => (&heavy, &www),
            };
            socket.send(message)?;
            sent += 1;
        }
        // Answers are not kept waiting, so that none is lost for want of room.
        heavy.set_read_timeout(Some(Duration::from_millis(1)))?;
        for _ in 0..9 {
            let _ = heavy.recv(&mut buffer);
        }
    }
    Ok(sent)
}

fn shares(top: &Value, list: &str) -> Result<Vec<(String, f64)>> {
    let all = top["queries"].as_f64().context("queries")?;
    let list = top[list].as_array().context("a list")?;
    list.iter()
        .map(|share| {
            let queries = share["queries"].as_f64().context("queries")?;
            let what = share["what"].as_str().context("what")?;
            Ok((what.to_owned(), queries / all))
        })
        .collect()
}

#[test]
fn top_shows_who_asks_what_and_gets_what() -> Result<()> {
    needs_root!();
    let site = Site::new()?;
    let over = AtomicBool::new(false);
    let (pictures, text, sent) = thread::scope(|scope| {
        let flooding = scope.spawn(|| flood(&site, &over));
        let watched = || -> Result<(Vec<Value>, String)> {
            let mut top = site.command("top --json")?.stdout(Stdio::piped()).spawn()?;
            let lines = BufReader::new(top.stdout.take().context("piped")?).lines();
            let pictures: Result<Vec<Value>> = lines
                .take(4)
                .map(|line| Ok(serde_json::from_str(&line?)?))
                .collect();
            let text = site.daemon.ok("top --once");
            kill(Pid::from_raw(top.id() as i32), Signal::SIGINT)?;
            ensure!(top.wait()?.success());
            Ok((pictures?, text?))
        };
        let watched = watched();
        over.store(true, Ordering::Relaxed);
        let sent = flooding.join().expect("no panic")?;
        let (pictures, text) = watched?;
        Ok::<_, anyhow::Error>((pictures, text, sent))
    })?;
    ensure!(sent > 1_000, "{sent} sent");
    // The first may have begun in the middle.
    let top = &pictures[3];
    let near = |share: f64, want: f64| (share - want).abs() < 0.05;
    let list = |name| shares(top, name);
    let first = |name, what: &str, want: f64| -> Result<()> {
        let list = list(name)?;
        let Some((found, share)) = list.first() else {
            bail!("no {name}: {top:#}");
        };
        ensure!(found == what && near(*share, want), "{name}: {list:?}");
        Ok(())
    };
    first("names", "www.example.org. A", 0.9)?;
    first("mirrors", "ams", 0.9)?;
    first("regions", "www: ams > iad > sin", 0.9)?;
    first("verdicts", "answered", 0.9)?;
    first("rcodes", "NOERROR", 0.9)?;
    first("prefixes", "20.7.7.0/24", 0.9)?;
    let names = list("names")?;
    ensure!(
        names[1].0 == "none.example.org. TXT" && near(names[1].1, 0.1),
        "{names:?}"
    );
    let prefixes = list("prefixes")?;
    ensure!(
        prefixes.len() == 41 && prefixes.iter().skip(1).all(|(_, share)| *share < 0.01),
        "{prefixes:?}"
    );
    ensure!(
        top["lost"] == 0 && top["sampled"].as_u64() > Some(100),
        "{top:#}"
    );
    let latency = &top["latency"];
    let quantiles = ["p50_ns", "p90_ns", "p99_ns", "most_ns"].map(|key| latency[key].as_u64());
    ensure!(quantiles.is_sorted() && quantiles[0] > Some(0), "{latency}");
    for heading in [
        "RCODE",
        "VERDICT",
        "NAME",
        "CLIENTS",
        "REGION",
        "MIRROR",
        "time in the program",
    ] {
        ensure!(text.contains(heading), "{text}");
    }
    ensure!(
        text.contains("www.example.org. A") && text.contains("20.7.7.0/24"),
        "{text}"
    );
    Ok(())
}

#[test]
fn nothing_is_told_when_nobody_looks() -> Result<()> {
    needs_root!();
    let site = Site::new()?;
    let told = || -> Result<u64> {
        // Where the ring buffer stands is in nobody's counters, so one who looks says what was there before.
        let top: Value = site.daemon.json("top --once")?;
        top["sampled"].as_u64().context("sampled")
    };
    told()?;
    thread::sleep(Duration::from_millis(100));
    for _ in 0..100 {
        site.ask(CLIENTS[0], &Query::new("www.example.org", A))?
            .context("no answer")?;
    }
    let sampled = told()?;
    ensure!(sampled == 0, "{sampled} were told while nobody looked");
    Ok(())
}

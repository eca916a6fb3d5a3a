//! dnstap: public readers read what both paths answered, and DNS waits for none of them.

use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use geodns_tests::daemon::{Daemon, Setup};
use geodns_tests::dns::{self, A, ANY, Query, TXT};
use geodns_tests::net::{Pair, at, ip, output};
use geodns_tests::{needs_root, other_server, until};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const SERVER: &str = "192.0.2.53";
const CLIENTS: [&str; 2] = ["10.1.0.1", "10.2.0.1"];
const LONG: Duration = Duration::from_secs(20);

struct Site {
    pair: Pair,
    daemon: Daemon,
    folder: tempfile::TempDir,
}

impl Site {
    /// A daemon with this `[dnstap]`, where FOLDER is a folder of the test.
    fn new(dnstap: &str) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let pair = Pair::new(&CLIENTS)?;
        let setup = Setup::example(&[SERVER]).and(&section(&folder, dnstap));
        let daemon = Daemon::start(&pair.server, &setup)?;
        Ok(Self {
            pair,
            daemon,
            folder,
        })
    }

    fn ask(&self, from: &str, query: &Query) -> Result<Option<Vec<u8>>> {
        let socket = self.pair.client.udp(ip(from), at(SERVER, 53)?)?;
        dns::ask(&socket, &query.bytes(), LONG)
    }

    fn ask_tcp(&self, from: &str, query: &Query) -> Result<Vec<u8>> {
        let mut stream: TcpStream = self.pair.client.tcp(ip(from), at(SERVER, 53)?)?;
        dns::ask_tcp(&mut stream, &query.bytes())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn counts(&self) -> Result<[u64; 2]> {
        let stats = self.daemon.json("stats --json")?;
        let count = |name: &str| stats["dnstap"][name].as_u64().context("no dnstap in stats");
        Ok([count("written")?, count("lost")?])
    }
}

fn section(folder: &tempfile::TempDir, dnstap: &str) -> String {
    dnstap.replace("FOLDER", &folder.path().display().to_string())
}

/// The lines of `dnstap-ldns -q`, without dates and times.
fn read(file: &Path) -> Result<Vec<String>> {
    let mut reader = Command::new(other_server("dnstap-ldns")?);
    reader.args(["-q", "-r"]).arg(file);
    let text = String::from_utf8(output(&mut reader)?.stdout)?;
    let line = |line: &str| line.splitn(3, ' ').nth(2).map(str::to_owned);
    Ok(text.lines().filter_map(line).collect())
}

/// A reader that listens on a socket and writes to a file.
struct Reader(Child);

impl Reader {
    fn start(socket: &Path, file: &Path) -> Result<Self> {
        let mut reader = Command::new(other_server("fstrm_capture")?);
        reader
            .args(["-t", "protobuf:dnstap.Dnstap", "-u"])
            .arg(socket);
        let child = reader.arg("-w").arg(file).stderr(Stdio::null()).spawn()?;
        Ok(Self(child))
    }

    fn end(mut self) -> Result<()> {
        kill(Pid::from_raw(self.0.id() as i32), Signal::SIGTERM)?;
        self.0.wait()?;
        Ok(())
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_file_has_the_queries_and_responses_of_both_paths() -> Result<()> {
    needs_root!();
    let mut site = Site::new("[dnstap]\nfile = \"FOLDER/tap\"\nidentity = \"here\"\n")?;
    let mut expected = Vec::new();
    let mut expect =
        |from: &str, transport: &str, query: &Query, answer: Option<&[u8]>, asks: &str| {
            let octets = query.bytes().len();
            expected.push(format!("AQ {from} {transport} {octets}b {asks}"));
            if let Some(answer) = answer {
                expected.push(format!("AR {from} {transport} {}b {asks}", answer.len()));
            }
        };
    // In the kernel: a pool's records, a zone file's, and none. By the slow path: ANY.
    for (from, name, qtype, asks) in [
        (
            CLIENTS[0],
            "www.example.org",
            A,
            "\"www.example.org.\" IN A",
        ),
        (
            CLIENTS[1],
            "mail.example.org",
            A,
            "\"mail.example.org.\" IN A",
        ),
        (
            CLIENTS[0],
            "none.example.org",
            TXT,
            "\"none.example.org.\" IN TXT",
        ),
        (
            CLIENTS[1],
            "www.example.org",
            ANY,
            "\"www.example.org.\" IN ANY",
        ),
    ] {
        let query = Query::new(name, qtype).edns(1232);
        let answer = site.ask(from, &query)?.context("no answer")?;
        expect(from, "UDP", &query, Some(&answer), asks);
    }
    let query = Query::new("www.example.org", A);
    let answer = site.ask_tcp(CLIENTS[0], &query)?;
    expect(
        CLIENTS[0],
        "TCP",
        &query,
        Some(&answer),
        "\"www.example.org.\" IN A",
    );
    // Dropped in the kernel, and by the slow path.
    site.daemon.ok("block add --below blocked.example.org")?;
    let query = Query::new("a.blocked.example.org", A);
    let socket = site.pair.client.udp(ip(CLIENTS[0]), at(SERVER, 53)?)?;
    socket.send(&query.bytes())?;
    expect(
        CLIENTS[0],
        "UDP",
        &query,
        None,
        "\"a.blocked.example.org.\" IN A",
    );
    let query = Query::new("b.blocked.example.org", A);
    let mut stream = site.pair.client.tcp(ip(CLIENTS[1]), at(SERVER, 53)?)?;
    dns::ask_tcp(&mut stream, &query.bytes()).unwrap_err();
    expect(
        CLIENTS[1],
        "TCP",
        &query,
        None,
        "\"b.blocked.example.org.\" IN A",
    );

    until("exchanges", || Ok(site.counts()? == [7, 0]))?;
    let counters = site.daemon.counters()?;
    ensure!(
        counters["answered"] == 1 && counters["static"] == 1 && counters["drop_blocked"] == 1,
        "the kernel has not answered: {counters:?}"
    );
    site.daemon.stop()?;
    let mut lines = read(&site.path("tap"))?;
    lines.sort_unstable();
    expected.sort_unstable();
    ensure!(lines == expected, "{lines:#?}, not {expected:#?}");

    let mut reader = Command::new(other_server("dnstap-ldns")?);
    let yaml = output(reader.args(["-y", "-r"]).arg(site.path("tap")))?.stdout;
    let yaml = String::from_utf8(yaml)?;
    for part in [
        "identity: \"here\"",
        "version: \"geodns ",
        "response_address: \"192.0.2.53\"",
        "response_port: 53",
    ] {
        ensure!(yaml.contains(part), "{part}: {yaml}");
    }
    Ok(())
}

#[test]
fn a_reader_may_come_late_go_and_come_again() -> Result<()> {
    needs_root!();
    let site = Site::new("[dnstap]\nsocket = \"FOLDER/socket\"\n")?;
    let query = Query::new("www.example.org", A);
    let ask = || site.ask(CLIENTS[0], &query)?.context("no answer");
    // Nobody is there.
    ask()?;
    until("a loss", || Ok(site.counts()? == [0, 1]))?;
    site.daemon
        .logged("queries are answered, and not told of until it works again")?;

    let socket = site.path("socket");
    let mut written = 0;
    for file in ["first", "second"] {
        let reader = Reader::start(&socket, &site.path(file))?;
        // It connects when it tries again.
        until("an exchange", || {
            ask()?;
            Ok(site.counts()?[0] > written)
        })?;
        written = site.counts()?[0];
        reader.end()?;
        let lines = read(&site.path(file))?;
        ensure!(
            lines
                .iter()
                .any(|line| line.starts_with("AR 10.1.0.1 UDP ")),
            "{lines:?}"
        );
        // Until the end is noticed, some may count as written.
        let lost = site.counts()?[1];
        until("another loss", || {
            ask()?;
            Ok(site.counts()?[1] > lost)
        })?;
        written = site.counts()?[0].max(written);
        let _ = std::fs::remove_file(&socket);
    }
    Ok(())
}

#[test]
fn a_reload_turns_it_on_and_off_and_a_capture_goes_on_beside_it() -> Result<()> {
    needs_root!();
    let site = Site::new("")?;
    let query = Query::new("www.example.org", A);
    site.ask(CLIENTS[0], &query)?.context("no answer")?;
    ensure!(site.daemon.json("stats --json")?["dnstap"].is_null());
    let setup = Setup::example(&[SERVER]);
    let with = setup
        .clone()
        .and(&section(&site.folder, "[dnstap]\nfile = \"FOLDER/tap\"\n"));
    site.daemon.home.write(&with)?;
    site.daemon.ok("reload")?;
    let capture = site.path("capture");
    let mut command = Command::new(geodns_tests::built::binary()?);
    command.arg("--socket").arg(site.daemon.home.socket());
    command.args(["capture", "-c", "4", "-w"]).arg(&capture);
    let mut capturing = command.stderr(Stdio::null()).spawn()?;
    until("a capture", || {
        Ok(std::fs::metadata(&capture).is_ok_and(|of| of.len() >= 24))
    })?;
    for _ in 0..2 {
        site.ask(CLIENTS[0], &query)?.context("no answer")?;
    }
    ensure!(
        capturing.wait()?.success(),
        "a capture beside dnstap failed"
    );
    until("exchanges", || Ok(site.counts()? == [2, 0]))?;
    site.daemon.home.write(&setup)?;
    site.daemon.ok("reload")?;
    site.ask(CLIENTS[0], &query)?.context("no answer")?;
    until("its end", || {
        Ok(read(&site.path("tap")).is_ok_and(|lines| lines.len() == 4))
    })?;
    ensure!(site.daemon.json("stats --json")?["dnstap"].is_null());
    Ok(())
}

#[test]
fn one_query_in_n_is_told_of() -> Result<()> {
    needs_root!();
    let site = Site::new("[dnstap]\nfile = \"FOLDER/tap\"\nevery = 8\n")?;
    for qtype in [A, ANY] {
        let before = site.counts()?[0];
        let socket = site.pair.client.udp(ip(CLIENTS[0]), at(SERVER, 53)?)?;
        for _ in 0..800 {
            let query = Query::new("www.example.org", qtype).bytes();
            dns::ask(&socket, &query, LONG)?.context("no answer")?;
        }
        // 100 are expected; beyond these bounds is one in a million.
        let told = || Ok::<_, anyhow::Error>(site.counts()?[0] - before);
        until("samples", || Ok(told()? >= 55))?;
        ensure!(told()? <= 150, "{} of 800, type {qtype}", told()?);
    }
    Ok(())
}

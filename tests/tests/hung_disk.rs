//! A disk of the state that does not answer: a real file system (bindfs) whose server is stopped. What is to be
//! kept there waits, and says so; nothing else does.

use std::net::IpAddr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use geodns_tests::built::binary;
use geodns_tests::daemon::{Daemon, Setup, pool};
use geodns_tests::dns::{self, A, Query, Reply, SOA};
use geodns_tests::needs_root;
use geodns_tests::net::{Pair, at};
use geodns_tests::primary::Primary;
use geodns_tests::process::ends_with_us;
use geodns_tests::web::Web;
use nix::mount::{MntFlags, umount2};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const SERVER: &str = "192.0.2.53";
/// A mirror that is checked, and one that is not.
const NEAR: &str = "10.5.0.1";
const SPARE: &str = "192.0.2.10";
/// The primary of a zone.
const PRIMARY: [u8; 4] = [192, 0, 2, 1];
const PATIENCE: Duration = Duration::from_secs(30);
/// An operation that takes less is not held up.
const AT_ONCE: Duration = Duration::from_secs(8);

/// A folder behind a file system of its own, which can be stopped.
struct Disk {
    server: Child,
    at: PathBuf,
}

impl Disk {
    fn new(folder: &Path) -> Result<Self> {
        let (real, at) = (folder.join("real"), folder.join("disk"));
        std::fs::create_dir(&real)?;
        std::fs::create_dir(&at)?;
        let below = std::fs::metadata(&at)?.dev();
        let mut command = Command::new("bindfs");
        command.arg("-f").arg(&real).arg(&at).stdin(Stdio::null());
        ends_with_us(&mut command, Signal::SIGKILL);
        let server = command.spawn().context("cannot start bindfs")?;
        let disk = Self { server, at };
        let end = Instant::now() + PATIENCE;
        while std::fs::metadata(&disk.at)?.dev() == below {
            ensure!(Instant::now() < end, "bindfs does not mount");
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(disk)
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        Ok(kill(Pid::from_raw(self.server.id().try_into()?), signal)?)
    }

    /// From now on nobody who reads or writes gets an answer.
    fn hang(&self) -> Result<()> {
        self.signal(Signal::SIGSTOP)
    }

    fn answer(&self) -> Result<()> {
        self.signal(Signal::SIGCONT)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Whoever still waits gets an error.
        let _ = umount2(&self.at, MntFlags::MNT_DETACH);
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

/// A command of the daemon's, under way.
struct Running(Option<Child>);

impl Running {
    fn of(daemon: &Daemon, words: &str) -> Result<Self> {
        let child = Command::new(binary()?)
            .arg("--socket")
            .arg(daemon.home.socket())
            .args(words.split_whitespace())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        Ok(Self(Some(child)))
    }

    /// Waits for its end.
    fn output(mut self) -> Result<Output> {
        let end = Instant::now() + PATIENCE;
        let child = self.0.as_mut().context("it runs")?;
        while child.try_wait()?.is_none() {
            ensure!(Instant::now() < end, "a command hangs");
            std::thread::sleep(Duration::from_millis(10));
        }
        let child = self.0.take().context("it ran")?;
        Ok(child.wait_with_output()?)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// A command that must fail, with one line that says this.
fn fails(output: &Output, says: &str) -> Result<()> {
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(!output.status.success(), "it succeeds: {said}");
    ensure!(said.lines().count() == 1, "{said}");
    ensure!(
        said.contains("state.redb: its disk has not answered for ") && said.contains(says),
        "no {says:?}: {said}"
    );
    Ok(())
}

fn addresses(pair: &Pair, name: &str, from: &str) -> Result<String> {
    let from: IpAddr = from.parse()?;
    let query = Query::new(&format!("{name}.example.org"), A).bytes();
    let socket = pair.client.udp(from, at(SERVER, 53)?)?;
    let udp = dns::ask(&socket, &query, AT_ONCE)?.context("no answer over UDP")?;
    let mut tcp = pair.client.tcp(from, at(SERVER, 53)?)?;
    let (mut udp, tcp) = (Reply::parse(&udp)?, dns::ask_tcp(&mut tcp, &query)?);
    let tcp = Reply::parse(&tcp)?;
    if udp.addresses() != tcp.addresses() {
        // A mirror may have gone or come in between.
        udp = Reply::parse(&dns::ask(&socket, &query, AT_ONCE)?.context("no answer over UDP")?)?;
    }
    ensure!(udp.addresses() == tcp.addresses(), "{udp}\n{tcp}");
    Ok(udp.addresses())
}

/// Waits until something is so, for as long as nothing may be held up.
fn soon(what: &str, mut is_so: impl FnMut() -> Result<bool>) -> Result<()> {
    let end = Instant::now() + AT_ONCE;
    while !is_so()? {
        ensure!(Instant::now() < end, "not: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

fn mirror_of(daemon: &Daemon, client: &str) -> Result<String> {
    let said = daemon.json(&format!("map get {client} --pool www"))?;
    let mirror = said[0]["mirrors"][0].as_str();
    Ok(mirror.with_context(|| said.to_string())?.to_owned())
}

/// Waits until a zone that comes from its primary has this serial, which it is asked for.
fn has_serial(daemon: &Daemon, serial: u32) -> Result<()> {
    daemon.ok("reload from.test")?;
    soon(&format!("from.test has serial {serial}"), || {
        let zones = daemon.json("zones")?;
        let mut zones = zones.as_array().into_iter().flatten();
        Ok(zones.any(|zone| zone["name"] == "from.test." && zone["serial"] == serial))
    })
    .with_context(|| daemon.log())
}

fn setup(disk: &Disk) -> Setup {
    let mut setup = Setup::example(&[SERVER]);
    setup.state = Some(disk.at.join("state.redb"));
    setup.body += &format!(
        "[[mirror]]\nid = \"near\"\naddresses = [{NEAR:?}]\n\
         check = {{ type = \"tcp\", port = 8080, interval = \"250ms\", timeout = \"240ms\", rise = 2, fall = 2 }}\n"
    );
    setup.body += "[[zone]]\nname = \"from.test\"\nprimaries = [\"192.0.2.1\"]\n";
    setup.body += &pool(
        "checked",
        "mirrors = [\"near\", \"ams\"]\npolicy = \"failover\"\nttl = 60\nttl_min = 60",
    );
    setup
}

#[test]
fn a_disk_that_does_not_answer_holds_up_edits_alone_and_they_say_so() -> Result<()> {
    needs_root!();
    let folder = tempfile::tempdir()?;
    let pair = Pair::new(&["10.1.0.1", "10.8.0.1", "10.9.0.1", NEAR])?;
    // It ends after the disk, which would hold it.
    let mut daemon: Daemon;
    let disk = Disk::new(folder.path())?;
    let setup = setup(&disk);
    let open = || Web::start(&pair.client, at(NEAR, 8080)?);
    let near = open()?;
    let serial = Arc::new(AtomicU32::new(1));
    let _primary = Primary::start(&pair.client, &[PRIMARY.into()], {
        let serial = Arc::clone(&serial);
        move |q| {
            let soa = q.soa(serial.load(Ordering::Relaxed));
            let records = match q.qtype {
                SOA => vec![soa],
                _ => [vec![soa.clone()], q.body(), vec![soa]].concat(),
            };
            vec![q.message(&records).send()]
        }
    })?;
    daemon = Daemon::start(&pair.server, &setup)?;
    let checked = |want: &str| {
        soon(&format!("checked is {want}"), || {
            Ok(addresses(&pair, "checked", "10.1.0.1")? == want)
        })
    };
    checked(NEAR)?;
    daemon.ok("map set 10.9.0.0/16 sin")?;
    daemon.ok("block add --name bad.example.org")?;

    has_serial(&daemon, 1)?;

    disk.hang()?;
    // From here on the state is being written.
    drop(near);
    checked(SPARE)?;
    let near = open()?;
    checked(NEAR)?;
    let list = Running::of(&daemon, "block list")?;
    std::thread::sleep(Duration::from_millis(300));
    // A zone is asked for and put in force, however long the last version of it is being written, and the state read.
    for number in 2..5 {
        serial.store(number, Ordering::Relaxed);
        has_serial(&daemon, number)?;
    }
    let hung = Instant::now();
    let edit = Running::of(&daemon, "map set 10.8.0.0/16 iad")?;
    std::thread::sleep(Duration::from_millis(500));
    let reload = Running::of(&daemon, "reload")?;
    std::thread::sleep(Duration::from_millis(500));

    // Health goes on, however often a mirror falls and rises: what is found is kept later.
    drop(near);
    checked(SPARE)?;
    let near = open()?;
    checked(NEAR)?;
    drop(near);
    checked(SPARE)?;
    for words in [
        "status",
        "stats",
        "mirrors",
        "mirror show iad",
        "zones",
        "map list",
        "map export --pool www",
        "map get 10.9.0.1",
        "explain www.example.org --client 10.9.0.1",
    ] {
        let started = Instant::now();
        let output = Running::of(&daemon, words)?.output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{words}: {said}");
        ensure!(started.elapsed() < AT_ONCE, "{words} is held up");
    }
    ensure!(addresses(&pair, "www", "10.9.0.1")? == "203.0.113.10");

    // Who is to be kept is told, each in its way.
    fails(&list.output()?, "ask again")?;
    fails(&edit.output()?, "will be if the disk answers after all")?;
    let took = hung.elapsed();
    ensure!(took < 2 * PATIENCE, "{took:?}");
    fails(&reload.output()?, "nothing has been reloaded")?;
    for (words, says) in [
        ("mirror down iad", "nothing has changed"),
        (
            "acme set _acme-challenge.example.org t",
            "nothing has changed",
        ),
        ("block list", "ask again"),
    ] {
        let started = Instant::now();
        fails(&Running::of(&daemon, words)?.output()?, says).context(words)?;
        ensure!(started.elapsed() < AT_ONCE, "{words} waits anew");
    }
    let status = daemon.json("status")?;
    let error = status["last_error"].as_str().unwrap_or_default();
    ensure!(error.contains("its disk has not answered"), "{status}");
    ensure!(mirror_of(&daemon, "10.8.0.1")? == "ams");
    ensure!(addresses(&pair, "www", "10.8.0.1")? == SPARE);

    // It answers after all: what had begun is done, and is durable.
    disk.answer()?;
    soon("the edit is in force", || {
        Ok(mirror_of(&daemon, "10.8.0.1")? == "iad")
    })?;
    ensure!(addresses(&pair, "www", "10.8.0.1")? == "198.51.100.10");
    daemon.logged("map, pool www: 10.8.0.0/16 is iad, was no override")?;
    daemon.logged("reloaded: plan ")?;
    let status = daemon.json("status")?;
    ensure!(status["last_error"].is_null(), "{status}");
    ensure!(daemon.json("mirror show iad")?["in_service"] == true);
    daemon.ok("mirror down iad")?;
    daemon.ok("mirror auto iad")?;
    daemon.crash()?;
    daemon.again(&pair.server, &setup)?;
    ensure!(mirror_of(&daemon, "10.8.0.1")? == "iad");
    ensure!(mirror_of(&daemon, "10.9.0.1")? == "sin");

    // The end, meanwhile: nobody is answered by a program without a daemon.
    disk.hang()?;
    let _edit = Running::of(&daemon, "map set 10.7.0.0/16 iad")?;
    std::thread::sleep(Duration::from_millis(500));
    let started = Instant::now();
    daemon.signal(Signal::SIGTERM)?;
    while pair
        .server
        .ip("-d link show dev eth0")?
        .contains("prog/xdp")
    {
        let took = started.elapsed();
        ensure!(took < 2 * PATIENCE, "still attached: {took:?}");
        std::thread::sleep(Duration::from_millis(100));
    }
    // The kernel does not let a process go that has an open file there.
    disk.answer()?;
    let status = daemon.end(Signal::SIGCONT)?;
    let took = started.elapsed();
    ensure!(took < 2 * PATIENCE, "{status}, {took:?}");
    Ok(())
}

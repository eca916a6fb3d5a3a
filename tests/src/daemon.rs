//! `geodns run` in a namespace, with a configuration, pins, socket and state of its own.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::built::binary;
use crate::net::{Pins, Space, output};
use crate::process::ends_with_us;
use crate::world;

/// How long a daemon may take to be ready, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// The configuration, files and arguments that a daemon starts with.
#[derive(Clone, Debug)]
pub struct Setup {
    /// `server.listen`; empty: left out.
    pub listen: Vec<String>,
    /// `server.port`
    pub port: u16,
    /// `kernel.interfaces`
    pub interfaces: Vec<String>,
    /// `kernel.mode`
    pub mode: String,
    /// `kernel.required`; `false`: left out.
    pub required: bool,
    /// `kernel.stale_after`
    pub stale_after: String,
    /// `kernel.on_stop`
    pub on_stop: String,
    /// More lines of `[server]`, each with its end.
    pub server: String,
    /// More lines of `[kernel]`, each with its end.
    pub kernel: String,
    /// The rest of the configuration: zones, mirrors, pools, steered names.
    pub body: String,
    /// Files beside the configuration: name, content.
    pub files: Vec<(String, Vec<u8>)>,
    /// Arguments after `geodns run --config FILE`.
    pub arguments: Vec<String>,
    /// Environment variables: name, value.
    pub environment: Vec<(String, String)>,
    /// `state.path`; `None`: beside the configuration.
    pub state: Option<PathBuf>,
}

impl Setup {
    /// Native mode on `eth0`, which must take the program, answering on these addresses.
    pub fn new(listen: &[&str]) -> Self {
        Self {
            listen: listen.iter().map(|&address| address.into()).collect(),
            port: 53,
            interfaces: vec!["eth0".into()],
            mode: "native".into(),
            required: true,
            stale_after: "5m".into(),
            on_stop: "detach".into(),
            server: String::new(),
            kernel: String::new(),
            body: String::new(),
            files: Vec::new(),
            arguments: Vec::new(),
            environment: Vec::new(),
            state: None,
        }
    }

    /// With this `kernel.mode`.
    pub fn mode(mut self, mode: &str) -> Self {
        self.mode = mode.into();
        self
    }

    /// With this rest of the configuration.
    pub fn body(mut self, body: &str) -> Self {
        self.body = body.into();
        self
    }

    /// With these sections, too.
    pub fn and(mut self, sections: &str) -> Self {
        self.body.push_str(sections);
        self
    }

    /// With another text in place of one that the configuration has.
    pub fn but(mut self, text: &str, other: &str) -> Self {
        assert!(
            self.body.contains(text),
            "{text:?} is not in the configuration"
        );
        self.body = self.body.replace(text, other);
        self
    }

    /// With a file beside the configuration.
    pub fn file(mut self, name: &str, content: &(impl AsRef<[u8]> + ?Sized)) -> Self {
        self.files.retain(|(other, _)| other != name);
        self.files.push((name.into(), content.as_ref().into()));
        self
    }

    /// The example that most tests use: `example.org`, three mirrors, `www` steered by a table.
    pub fn example(listen: &[&str]) -> Self {
        Self::world("three_mirrors", listen)
    }

    /// A named world (see [`world`]).
    pub fn world(name: &str, listen: &[&str]) -> Self {
        let mut setup = Self::new(listen).body(&world::text(name, "geodns.toml"));
        setup.files = world::files(name);
        setup
    }

    fn text(&self, home: &Home) -> String {
        let mut text = String::from("[server]\n");
        if !self.listen.is_empty() {
            text.push_str(&format!("listen = {:?}\n", self.listen));
        }
        text.push_str(&format!(
            "port = {}\n{}[kernel]\ninterfaces = {:?}\nmode = {:?}\npin = {:?}\nstale_after = {:?}\n\
             on_stop = {:?}\n{}{}[control]\nsocket = {:?}\n[state]\npath = {:?}\n",
            self.port,
            self.server,
            self.interfaces,
            self.mode,
            home.pins.path(),
            self.stale_after,
            self.on_stop,
            if self.required { "required = true\n" } else { "" },
            self.kernel,
            home.socket(),
            self.state
                .clone()
                .unwrap_or_else(|| home.folder.path().join("state.redb")),
        ));
        text.push_str(&self.body);
        text
    }
}

/// The configuration of the world `three_mirrors`.
pub const EXAMPLE: &str = include_str!("../worlds/three_mirrors/geodns.toml");
/// Its zone.
pub const EXAMPLE_ZONE: &str = include_str!("../worlds/three_mirrors/example.org.zone");
/// Its prefix list: America to iad, Asia to sin, the rest to the default.
pub const EXAMPLE_PREFIXES: &str = include_str!("../worlds/three_mirrors/world.csv");

/// A daemon's files on disk and pins in bpffs; removed when dropped.
#[derive(Debug)]
pub struct Home {
    /// Configuration, zones, state, socket, log.
    pub folder: tempfile::TempDir,
    /// `kernel.pin`
    pub pins: Pins,
}

impl Home {
    /// A new one.
    pub fn new() -> Result<Self> {
        Ok(Self {
            folder: tempfile::Builder::new().prefix("geodns-").tempdir()?,
            pins: Pins::new()?,
        })
    }

    /// `control.socket`
    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("control.sock")
    }

    /// The configuration's file.
    pub fn config(&self) -> PathBuf {
        self.folder.path().join("geodns.toml")
    }

    /// Writes a setup's files.
    pub fn write(&self, setup: &Setup) -> Result<()> {
        for (name, content) in &setup.files {
            std::fs::write(self.folder.path().join(name), content)?;
        }
        std::fs::write(self.config(), setup.text(self))?;
        Ok(())
    }
}

/// A running daemon. Dropping it kills it and removes what it left.
#[derive(Debug)]
pub struct Daemon {
    child: Option<Child>,
    /// Where its files are.
    pub home: Home,
    binary: PathBuf,
    log: PathBuf,
}

impl Daemon {
    /// Starts a daemon in a namespace and waits until it is ready.
    pub fn start(space: &Space, setup: &Setup) -> Result<Self> {
        let home = Home::new()?;
        home.write(setup)?;
        Self::start_at(space, home, setup)
    }

    /// Starts a daemon on files that are there already, and waits until it is ready.
    pub fn start_at(space: &Space, home: Home, setup: &Setup) -> Result<Self> {
        let log = home.folder.path().join("log");
        let mut daemon = Self {
            child: None,
            home,
            binary: binary()?,
            log,
        };
        daemon.again(space, setup)?;
        Ok(daemon)
    }

    /// Has another binary start the next time.
    pub fn set_binary(&mut self, binary: PathBuf) {
        self.binary = binary;
    }

    /// Starts it again after it ended, and waits until it is ready.
    pub fn again(&mut self, space: &Space, setup: &Setup) -> Result<()> {
        let child = self.spawn(space, setup)?;
        self.child = Some(child);
        self.ready()
    }

    /// Runs `geodns run` on these files to its end: for starts that must fail.
    pub fn attempt(space: &Space, home: &Home, setup: &Setup) -> Result<Output> {
        let mut child = space
            .command(binary()?)
            .arg("run")
            .arg("--config")
            .arg(home.config())
            .args(&setup.arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let end = Instant::now() + PATIENCE;
        while child.try_wait()?.is_none() {
            if Instant::now() > end {
                child.kill()?;
                let output = child.wait_with_output()?;
                bail!(
                    "geodns run went on where it should have failed: {}",
                    String::from_utf8_lossy(&output.stderr)
                );
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(child.wait_with_output()?)
    }

    fn spawn(&self, space: &Space, setup: &Setup) -> Result<Child> {
        let log = File::options().create(true).append(true).open(&self.log)?;
        let mut command = space.command(&self.binary);
        command
            .arg("run")
            .arg("--config")
            .arg(self.home.config())
            .args(&setup.arguments)
            .env_remove("NOTIFY_SOCKET")
            .envs(setup.environment.iter().cloned())
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        ends_with_us(&mut command, Signal::SIGKILL);
        command
            .spawn()
            .with_context(|| format!("cannot run {}", self.binary.display()))
    }

    fn ready(&mut self) -> Result<()> {
        let end = Instant::now() + PATIENCE;
        loop {
            if self
                .request("GET", "/v1/status", "")
                .is_ok_and(|(code, _)| code == 200)
            {
                return Ok(());
            }
            if let Some(status) = self.child.as_mut().context("not started")?.try_wait()? {
                self.child = None;
                bail!("geodns ended at its start, {status}:\n{}", self.log());
            }
            ensure!(
                Instant::now() < end,
                "geodns is not ready after {PATIENCE:?}:\n{}",
                self.log()
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Its process id.
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Its log.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Waits until its log has this text.
    pub fn logged(&self, text: &str) -> Result<()> {
        let end = Instant::now() + PATIENCE;
        while !self.log().contains(text) {
            ensure!(
                Instant::now() < end,
                "the log does not say {text:?}:\n{}",
                self.log()
            );
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let pid = self.pid().context("not running")?;
        kill(Pid::from_raw(i32::try_from(pid)?), signal)?;
        Ok(())
    }

    /// Sends it a signal that ends it, and waits for the end.
    pub fn end(&mut self, signal: Signal) -> Result<ExitStatus> {
        self.signal(signal)?;
        self.wait().with_context(|| format!("after {signal}"))
    }

    /// Waits for its end.
    pub fn wait(&mut self) -> Result<ExitStatus> {
        let mut child = self.child.take().context("not running")?;
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = child.try_wait()? {
                return Ok(status);
            }
            if Instant::now() > end {
                child.kill()?;
                child.wait()?;
                bail!("geodns did not end:\n{}", self.log());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Ends it with SIGTERM; anything but exit status 0 is an error.
    pub fn stop(&mut self) -> Result<()> {
        let status = self.end(Signal::SIGTERM)?;
        ensure!(status.success(), "SIGTERM: {status}:\n{}", self.log());
        Ok(())
    }

    /// Kills it, as a crash would.
    pub fn crash(&mut self) -> Result<()> {
        let status = self.end(Signal::SIGKILL)?;
        ensure!(status.signal() == Some(9), "SIGKILL: {status}");
        Ok(())
    }

    /// Runs `geodns --socket SOCKET ARGUMENTS...`.
    pub fn cli<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Result<Output> {
        output(
            Command::new(&self.binary)
                .arg("--socket")
                .arg(self.home.socket())
                .args(arguments),
        )
    }

    /// The same, the words in one string; failing is an error.
    pub fn ok(&self, words: &str) -> Result<String> {
        self.exits(words, &[0])
    }

    /// The same for what may exit with any of these.
    pub fn exits(&self, words: &str, codes: &[i32]) -> Result<String> {
        let output = self.cli(words.split_whitespace())?;
        ensure!(
            output
                .status
                .code()
                .is_some_and(|code| codes.contains(&code)),
            "geodns {words}: {}: {}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(String::from_utf8(output.stdout)?)
    }

    /// The same with `--json`, read.
    pub fn json(&self, words: &str) -> Result<Value> {
        self.json_exits(words, &[0])
    }

    /// The same for what may exit with any of these.
    pub fn json_exits(&self, words: &str, codes: &[i32]) -> Result<Value> {
        let text = self.exits(&format!("--json {words}"), codes)?;
        serde_json::from_str(&text).with_context(|| format!("geodns --json {words}: {text}"))
    }

    /// The same for what must fail: exit status and what it said.
    pub fn fails(&self, words: &str) -> Result<(i32, String)> {
        let output = self.cli(words.split_whitespace())?;
        ensure!(!output.status.success(), "geodns {words} should fail");
        Ok((
            output.status.code().context("ended by a signal")?,
            String::from_utf8_lossy(&output.stderr).into_owned(),
        ))
    }

    /// One HTTP request over the control socket: status and body.
    pub fn request(&self, method: &str, path: &str, body: &str) -> Result<(u16, String)> {
        request(&self.home.socket(), method, path, body)
    }

    /// Counters of the fast path, by verdict.
    pub fn counters(&self) -> Result<BTreeMap<String, u64>> {
        self.stats("kernel")
    }

    /// Counters: `kernel` or `slow`.
    pub fn stats(&self, part: &str) -> Result<BTreeMap<String, u64>> {
        let (code, body) = self.request("GET", "/v1/stats", "")?;
        ensure!(code == 200, "/v1/stats: {code}: {body}");
        let mut stats: Value = serde_json::from_str(&body)?;
        Ok(serde_json::from_value(stats[part].take())?)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            eprintln!("log of geodns:\n{}", self.log());
        }
    }
}

/// One HTTP request over a Unix socket: status and body.
pub fn request(socket: &Path, method: &str, path: &str, body: &str) -> Result<(u16, String)> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: geodns\r\nConnection: close\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )?;
    let mut response = String::new();
    stream.read_to_string(&mut response)?;
    let (head, body) = response
        .split_once("\r\n\r\n")
        .context("no end of the HTTP header")?;
    let code = head
        .split(' ')
        .nth(1)
        .and_then(|code| code.parse().ok())
        .context("no HTTP status")?;
    ensure!(
        !head
            .to_ascii_lowercase()
            .contains("transfer-encoding: chunked"),
        "a chunked response is not expected here"
    );
    Ok((code, body.to_owned()))
}

/// Difference of two readings of the counters, without those that stayed.
pub fn difference(
    before: &BTreeMap<String, u64>,
    after: &BTreeMap<String, u64>,
) -> BTreeMap<String, u64> {
    after
        .iter()
        .map(|(name, &value)| {
            (
                name.clone(),
                value - before.get(name).copied().unwrap_or_default(),
            )
        })
        .filter(|&(_, value)| value != 0)
        .collect()
}

/// A pool as the configuration has it, and its own name below `example.org`, steered to it.
pub fn pool(id: &str, rest: &str) -> String {
    format!(
        "[[pool]]\nid = {id:?}\n{rest}\n[[steer]]\nname = \"{id}.example.org\"\npool = {id:?}\n"
    )
}

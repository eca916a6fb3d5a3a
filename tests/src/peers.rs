//! Other name servers, in a namespace: Knot DNS, NSD, BIND, gdnsd and PowerDNS.

use std::fs;
use std::net::{IpAddr, UdpSocket};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::dns::{self, Query, SOA};
use crate::net::{Space, output};
use crate::other_server;
use crate::process::ends_with_us;

/// How long one may take to be ready, and to end, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// Which one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Knot DNS, `knotd`.
    Knot,
    /// NSD, `nsd`.
    Nsd,
    /// BIND, `named`.
    Bind,
    /// gdnsd.
    Gdnsd,
    /// PowerDNS, `pdns_server`.
    Pdns,
}

/// The configuration of one.
#[derive(Clone, Debug, Default)]
pub struct Setup {
    /// Addresses that it listens on, port 53.
    pub listen: Vec<IpAddr>,
    /// Zones of files: name, and the zone file's content. Of PowerDNS none: its backend has them.
    pub zones: Vec<(String, String)>,
    /// Files beside the configuration: name, and content. gdnsd looks
    /// for its nets in `geoip/`.
    pub files: Vec<(String, Vec<u8>)>,
    /// More lines of a zone's section (Knot), of `zone:` (NSD), of `zone { }` (BIND), for each of them.
    pub of_zone: String,
    /// More lines of `options { }` (BIND), of `server:` (Knot).
    pub options: String,
    /// The rest of the configuration; `{folder}` is where the files are.
    pub rest: String,
    /// How long it may take until it answers, where that is more than usual.
    pub patience: Option<Duration>,
}

/// A server that runs.
#[derive(Debug)]
pub struct Peer {
    /// Which one.
    pub kind: Kind,
    /// Its version, as it says it.
    pub version: String,
    /// Its configuration, zone files and log.
    pub folder: tempfile::TempDir,
    child: Child,
    patience: Duration,
}

impl Peer {
    /// Starts one and waits until it listens on all of its addresses, and answers for its first zone,
    /// if it has one.
    pub fn start(space: &Space, kind: Kind, setup: &Setup) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        // Where Knot has its journal, and gdnsd its zones and nets.
        for folder_of in ["db", "zones", "geoip"] {
            fs::create_dir(folder.path().join(folder_of))?;
        }
        for (zone, content) in &setup.zones {
            fs::write(folder.path().join(file(kind, zone)), content)?;
        }
        for (name, content) in &setup.files {
            fs::write(folder.path().join(name), content)?;
        }
        let config = folder.path().join(config_file(kind));
        fs::write(&config, text(kind, folder.path(), setup))?;
        let log = fs::File::create(folder.path().join("log"))?;
        let config = config.display();
        let (program, arguments) = match kind {
            Kind::Knot => ("knotd", format!("-c {config}")),
            Kind::Nsd => ("nsd", format!("-d -c {config}")),
            Kind::Bind => ("named", format!("-n 1 -g -c {config}")),
            Kind::Gdnsd => ("gdnsd", format!("-c {} start", folder.path().display())),
            Kind::Pdns => (
                "pdns_server",
                format!("--config-dir={}", folder.path().display()),
            ),
        };
        let program = other_server(program)?;
        let mut command = space.command(&program);
        ends_with_us(&mut command, Signal::SIGTERM);
        let child = command
            .args(arguments.split_whitespace())
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("cannot start {}", program.display()))?;
        let mut peer = Self {
            kind,
            version: version(kind, &program)?,
            folder,
            child,
            patience: setup.patience.unwrap_or(PATIENCE),
        };
        for &at in &setup.listen {
            peer.wait_for_tcp(space, at)?;
        }
        if let (Some(&at), Some((zone, _))) = (setup.listen.first(), setup.zones.first()) {
            peer.wait_for(space, at, zone)?;
        }
        Ok(peer)
    }

    /// Waits until it takes connections there: whoever starts one without a zone of its own has
    /// nothing else to ask it.
    fn wait_for_tcp(&mut self, space: &Space, at: IpAddr) -> Result<()> {
        let end = Instant::now() + self.patience;
        while let Err(error) = space.tcp(at, (at, 53).into()) {
            self.require_alive()?;
            if Instant::now() > end {
                let log = self.log();
                bail!("{:?} does not listen on {at}: {error:#}\n{log}", self.kind);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    fn require_alive(&mut self) -> Result<()> {
        if let Some(status) = self.child.try_wait()? {
            bail!("{:?} ended ({status}):\n{}", self.kind, self.log());
        }
        Ok(())
    }

    /// Waits until it answers for a zone with authority.
    pub fn wait_for(&mut self, space: &Space, at: IpAddr, zone: &str) -> Result<()> {
        let end = Instant::now() + self.patience;
        let socket: UdpSocket = space.udp(at, (at, 53).into())?;
        loop {
            // Nobody may listen there yet, which the socket hears of.
            let asked = dns::ask(
                &socket,
                &Query::new(zone, SOA).bytes(),
                Duration::from_millis(200),
            );
            if let Ok(Some(reply)) = asked
                && reply.len() > 12
                && reply[2] & 4 != 0
                && reply[3] & 15 == 0
            {
                return Ok(());
            }
            self.require_alive()?;
            if Instant::now() > end {
                bail!(
                    "{:?} does not answer for {zone}:\n{}",
                    self.kind,
                    self.log()
                );
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Its configuration.
    pub fn config(&self) -> Result<String> {
        let path = self.folder.path().join(config_file(self.kind));
        fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its log.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// Gives it another configuration and other zone files. The server reads them when it is told to
    /// ([`Peer::reload`]); NSD does not read its configuration again.
    pub fn configure(&self, setup: &Setup) -> Result<()> {
        for (zone, content) in &setup.zones {
            self.write_zone(zone, content)?;
        }
        let folder = self.folder.path();
        Ok(fs::write(
            folder.join(config_file(self.kind)),
            text(self.kind, folder, setup),
        )?)
    }

    /// Changes a zone's file. The server reads it when it is told to ([`Peer::reload`]).
    pub fn write_zone(&self, zone: &str, content: &str) -> Result<()> {
        Ok(fs::write(
            self.folder.path().join(file(self.kind, zone)),
            content,
        )?)
    }

    /// Has it read its zone files again (SIGHUP).
    pub fn reload(&self) -> Result<()> {
        self.signal(Signal::SIGHUP)
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        Ok(kill(Pid::from_raw(self.child.id() as i32), signal)?)
    }

    /// Ends it.
    pub fn stop(mut self) -> Result<()> {
        self.end()
    }

    fn end(&mut self) -> Result<()> {
        self.signal(Signal::SIGTERM)?;
        let end = Instant::now() + PATIENCE;
        while self.child.try_wait()?.is_none() {
            if Instant::now() > end {
                self.child.kill()?;
                self.child.wait()?;
                bail!("{:?} did not end:\n{}", self.kind, self.log());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // NSD has children that end with it, so it is asked first.
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = self.end();
        }
    }
}

fn version(kind: Kind, program: &Path) -> Result<String> {
    let option = match kind {
        Kind::Knot => "--version",
        Kind::Nsd | Kind::Bind => "-v",
        // It has no such option, and says its version when it does not know one.
        Kind::Gdnsd => "-V",
        Kind::Pdns => "--version",
    };
    let said = output(Command::new(program).arg(option))?;
    let text = [said.stdout, said.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    // Before it, some say the time, or that they know no such option.
    let line = text
        .lines()
        .find(|line| {
            ["BIND ", "version", "Server"]
                .iter()
                .any(|word| line.contains(word))
        })
        .unwrap_or_default();
    let from = line.find("PowerDNS").unwrap_or(0);
    let line = line.get(from..).unwrap_or_default();
    // What follows is whose it is, and how it was built.
    let end = line.find(" (C)").or_else(|| line.find(" <id:"));
    Ok(line
        .get(..end.unwrap_or(line.len()))
        .unwrap_or_default()
        .to_owned())
}

/// Name of the configuration's file.
fn config_file(kind: Kind) -> &'static str {
    match kind {
        Kind::Knot | Kind::Nsd | Kind::Bind => "server.conf",
        // They are told the folder.
        Kind::Gdnsd => "config",
        Kind::Pdns => "pdns.conf",
    }
}

/// Name of a zone's file.
fn file(kind: Kind, zone: &str) -> String {
    match (kind, zone) {
        (Kind::Gdnsd, zone) => format!("zones/{}", zone.trim_end_matches('.')),
        (_, ".") => "root.zone".to_owned(),
        (_, zone) => format!("{}.zone", zone.trim_end_matches('.')),
    }
}

fn text(kind: Kind, folder: &Path, setup: &Setup) -> String {
    let at = folder.display();
    let Setup {
        listen,
        zones,
        of_zone,
        options,
        rest,
        ..
    } = setup;
    let rest = rest.replace("{folder}", &at.to_string());
    let options = options.replace("{folder}", &at.to_string());
    let mut text = String::new();
    match kind {
        Kind::Knot => {
            text += &format!("server:\n  rundir: \"{at}\"\n");
            for address in listen {
                text += &format!("  listen: \"{address}@53\"\n");
            }
            let workers = match options.contains("background-workers") {
                true => "",
                false => "  background-workers: 1\n",
            };
            text += &format!(
                "  udp-workers: 1\n  tcp-workers: 1\n{workers}{options}\
                 database:\n  storage: \"{at}/db\"\n\
                 log:\n  - target: stderr\n    any: info\n{rest}\nzone:\n"
            );
            for (zone, _) in zones {
                text += &format!(
                    "  - domain: \"{zone}\"\n    storage: \"{at}\"\n    file: \"{}\"\n{of_zone}\n",
                    file(kind, zone)
                );
            }
        }
        Kind::Nsd => {
            text += &format!("server:\n  zonesdir: \"{at}\"\n  username: \"\"\n");
            for address in listen {
                text += &format!("  ip-address: {address}\n");
            }
            text += &format!(
                "  server-count: 1\n  minimal-responses: yes\n  pidfile: \"\"\n  database: \"\"\n\
                 \x20 xfrdfile: \"{at}/xfrd.state\"\n  zonelistfile: \"{at}/zone.list\"\n\
                 \x20 xfrdir: \"{at}\"\n  logfile: \"\"\n  verbosity: 1\n\
                 remote-control:\n  control-enable: no\n{rest}\n"
            );
            for (zone, _) in zones {
                text += &format!(
                    "zone:\n  name: \"{zone}\"\n  zonefile: \"{}\"\n{of_zone}\n",
                    file(kind, zone)
                );
            }
        }
        Kind::Bind => {
            let addresses = |v6: bool| {
                let of = listen.iter().filter(|address| address.is_ipv6() == v6);
                let list: Vec<String> = of.map(|address| format!("{address}; ")).collect();
                match list.is_empty() {
                    true => "none; ".to_owned(),
                    false => list.concat(),
                }
            };
            text += &format!(
                "options {{\n  directory \"{at}\";\n  pid-file none;\n  session-keyfile \"{at}/session.key\";\n\
                 \x20 managed-keys-directory \"{at}\";\n  lock-file none;\n  recursion no;\n\
                 \x20 dnssec-validation no;\n  notify no;\n  minimal-responses yes;\n  check-names primary ignore;\n\
                 \x20 listen-on port 53 {{ {}}};\n  listen-on-v6 port 53 {{ {}}};\n{options}}};\ncontrols {{ }};\n{rest}\n",
                addresses(false),
                addresses(true)
            );
            for (zone, _) in zones {
                text += &format!(
                    "zone \"{zone}\" {{\n  type primary;\n  file \"{}\";\n{of_zone}\n}};\n",
                    file(kind, zone)
                );
            }
        }
        Kind::Gdnsd => {
            text += &format!(
                "options => {{\n  listen => {listen:?}\n  udp_threads => 1\n  tcp_threads => 1\n\
                 \x20 run_dir => \"{at}/run\"\n  state_dir => \"{at}/state\"\n}}\n{rest}\n"
            );
        }
        Kind::Pdns => {
            let listen: Vec<String> = listen.iter().map(IpAddr::to_string).collect();
            text += &format!(
                "local-address={}\nreceiver-threads=1\ndistributor-threads=1\ndaemon=no\nguardian=no\n\
                 socket-dir={at}\nsecurity-poll-suffix=\nwebserver=no\n{rest}\n",
                listen.join(", ")
            );
        }
    }
    text
}

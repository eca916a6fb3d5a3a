//! BIRD and FRR in a namespace, and the configurations of routers and nodes.

use std::fmt::Write;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::Signal;

use super::{V4, V6, link_addresses};
use crate::net::{Space, run};
use crate::other_server;
use crate::process::Process;

/// How long a routing daemon may take to be ready, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// The way in which routers find out that a node is silent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detection {
    /// BFD, three times 100 ms.
    Bfd,
    /// BGP's hold time, 3 s.
    Hold,
    /// BIRD's own hold time, 240 s.
    Default,
}

impl Detection {
    /// Options of a BGP session. Routes of a neighbour that has gone are not kept until it may be back.
    fn options(self) -> &'static str {
        match self {
            Self::Bfd => {
                "bfd on; hold time 30; connect delay time 1; connect retry time 2; error wait time 1, 4; \
                 startup hold time 10; graceful restart off;"
            }
            Self::Hold => {
                "hold time 3; keepalive time 1; connect delay time 1; connect retry time 2; error wait time 1, 4; \
                 graceful restart off;"
            }
            Self::Default => {
                "connect delay time 1; connect retry time 2; error wait time 1, 4; graceful restart off;"
            }
        }
    }
}

const BFD: &str = "protocol bfd {\n  interface \"*\" { min rx interval 100 ms; min tx interval 100 ms; multiplier 3; \
                   idle tx interval 200 ms; };\n}\n";

/// BIRD's configuration of router I of N: takes the anycast routes from its node, and tells the other routers.
pub fn router(i: usize, count: usize, detection: Detection) -> String {
    let options = detection.options();
    let mut text = format!(
        "log stderr {{ warning, error, fatal, bug }};
router id 10.79.0.{i};
protocol device {{ scan time 5; }}
protocol direct {{ ipv4; ipv6; interface \"client\", \"site\"; }}
{BFD}protocol kernel {{ ipv4 {{ export all; import none; }}; merge paths off; }}
protocol kernel {{ ipv6 {{ export all; import none; }}; merge paths off; }}
# RFC 8326: a route with the community GRACEFUL_SHUTDOWN is the last choice.
function gshut() {{ if (65535, 0) ~ bgp_community then bgp_local_pref = 0; }}
filter from_site4 {{ if net != {V4}/32 then reject; gshut(); accept; }}
filter from_site6 {{ if net != {V6}/128 then reject; gshut(); accept; }}
filter from_peer {{ gshut(); accept; }}
template bgp peer4 {{ ipv4 {{ import filter from_peer; export all; }}; }}
template bgp peer6 {{ ipv6 {{ import filter from_peer; export all; }}; }}
protocol bgp site4 {{
  local 10.77.{i}.1 as 6500{i}; neighbor 10.77.{i}.2 as 65053; {options}
  ipv4 {{ import filter from_site4; export none; }};
}}
protocol bgp site6 {{
  local fd77:{i}::1 as 6500{i}; neighbor fd77:{i}::2 as 65053; {options}
  ipv6 {{ import filter from_site6; export none; }};
}}
"
    );
    for other in (1..=count).filter(|&other| other != i) {
        let (mine, its) = (link_addresses(i, other, i), link_addresses(i, other, other));
        for (family, (mine, its)) in ["4", "6"].iter().zip(mine.iter().zip(&its)) {
            let _ = writeln!(
                text,
                "protocol bgp r{other}v{family} from peer{family} {{ local {mine} as 6500{i}; neighbor {its} as \
                 6500{other}; {options} }}"
            );
        }
    }
    text
}

/// BIRD's configuration of node I. `announced` makes the routes, and a filter `announce` that exports them.
pub fn node(i: usize, detection: Detection, announced: &str) -> String {
    let options = detection.options();
    format!(
        "log stderr {{ warning, error, fatal, bug }};
router id 10.77.{i}.2;
protocol device {{ scan time 5; }}
{BFD}{announced}
protocol bgp up4 {{
  local 10.77.{i}.2 as 65053; neighbor 10.77.{i}.1 as 6500{i}; {options}
  ipv4 {{ import none; export filter announce; next hop self; }};
}}
protocol bgp up6 {{
  local fd77:{i}::2 as 65053; neighbor fd77:{i}::1 as 6500{i}; {options}
  ipv6 {{ import none; export filter announce; next hop self; }};
}}
"
    )
}

/// Learns the routes of the device `geodns0`. Their metric is the state: 100 up, 200 draining, 300 last resort.
pub const LEARNED: &str = "protocol kernel { learn; scan time 10; ipv4 { import where ifname = \"geodns0\"; export none; }; }
protocol kernel { learn; scan time 10; ipv6 { import where ifname = \"geodns0\"; export none; }; }
filter announce {
  if ifname != \"geodns0\" then reject;
  if krt_metric = 200 then bgp_community.add((65535, 0));
  if krt_metric = 300 then { bgp_path.prepend(65053); bgp_path.prepend(65053); bgp_path.prepend(65053); }
  accept;
}
";

/// FRR's configuration of node I, with the same meaning as [`LEARNED`], and BFD.
pub fn frr_node(i: usize) -> String {
    let mut text = format!(
        "frr defaults datacenter
ip prefix-list ANYCAST permit {V4}/32
ipv6 prefix-list ANYCAST permit {V6}/128
route-map NONE deny 10
"
    );
    for (family, ip) in [("4", "ip"), ("6", "ipv6")] {
        for (order, metric, set) in [
            (10, 100, ""),
            (20, 200, " set community graceful-shutdown\n"),
            (30, 300, " set as-path prepend 65053 65053 65053\n"),
        ] {
            let _ = write!(
                text,
                "route-map ANNOUNCE{family} permit {order}\n match {ip} address prefix-list ANYCAST\n match metric \
                 {metric}\n{set}"
            );
        }
    }
    let peers = [format!("10.77.{i}.1"), format!("fd77:{i}::1")];
    text.push_str(
        "bfd\n profile fast\n  receive-interval 100\n  transmit-interval 100\n  detect-multiplier 3\n",
    );
    let _ = write!(
        text,
        "router bgp 65053\n bgp router-id 10.77.{i}.2\n no bgp default ipv4-unicast\n"
    );
    for peer in &peers {
        let _ = write!(
            text,
            " neighbor {peer} remote-as 6500{i}\n neighbor {peer} bfd profile fast\n neighbor {peer} timers connect \
             2\n"
        );
    }
    for (family, peer) in ["4", "6"].iter().zip(&peers) {
        let _ = write!(
            text,
            " address-family ipv{family} unicast\n  redistribute kernel route-map ANNOUNCE{family}\n  neighbor {peer} \
             activate\n  neighbor {peer} route-map NONE in\n exit-address-family\n"
        );
    }
    text
}

/// The kind of a routing daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// BIRD
    Bird,
    /// FRR
    Frr,
}

/// The routing daemon of a node, running.
#[derive(Debug)]
pub enum Routing {
    /// BIRD
    Bird(Bird),
    /// FRR
    Frr(Frr),
}

impl Routing {
    /// Sends a signal to each of its processes.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        match self {
            Self::Bird(bird) => bird.signal(signal),
            Self::Frr(frr) => frr.signal(signal),
        }
    }

    /// Starts it again in place of the one that runs, which is killed.
    pub fn again(&mut self, space: &Space) -> Result<()> {
        match self {
            Self::Bird(bird) => bird.again(space),
            Self::Frr(frr) => frr.again(space),
        }
    }

    /// The socket that it answers questions on.
    pub fn socket(&self) -> PathBuf {
        match self {
            Self::Bird(bird) => bird.socket(),
            Self::Frr(frr) => frr.folder.path().join("bgpd.vty"),
        }
    }

    /// Has it run by another configuration: these words in the place of those.
    pub fn change(&mut self, space: &Space, words: &str, others: &str) -> Result<()> {
        let path = match self {
            Self::Bird(bird) => bird.config(),
            Self::Frr(frr) => frr.folder.path().join("bgpd.conf"),
        };
        let config = fs::read_to_string(&path)?;
        ensure!(config.contains(words), "{config}");
        let config = config.replace(words, others);
        match self {
            Self::Bird(bird) => bird.configure(&config),
            Self::Frr(frr) => {
                fs::write(&path, &config)?;
                frr.again(space)
            }
        }
    }

    /// Its log.
    pub fn log(&self) -> String {
        match self {
            Self::Bird(bird) => bird.log(),
            Self::Frr(frr) => frr.log(),
        }
    }
}

/// BIRD, running.
#[derive(Debug)]
pub struct Bird {
    folder: tempfile::TempDir,
    process: Process,
}

impl Bird {
    /// Starts BIRD in a namespace, and waits until it can be asked.
    pub fn start(space: &Space, config: &str) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("bird-").tempdir()?;
        fs::write(folder.path().join("bird.conf"), config)?;
        let process = Self::process(space, folder.path())?;
        let mut bird = Self { folder, process };
        bird.ready()?;
        Ok(bird)
    }

    fn process(space: &Space, folder: &Path) -> Result<Process> {
        let mut command = space.command(other_server("bird")?);
        command.arg("-f");
        for (option, file) in [("-c", "bird.conf"), ("-s", "bird.ctl"), ("-P", "bird.pid")] {
            command.arg(option).arg(folder.join(file));
        }
        Process::start(command, folder.join("log"))
    }

    fn ready(&mut self) -> Result<()> {
        let end = Instant::now() + PATIENCE;
        while let Err(error) = self.ask("show status") {
            self.process.require_alive()?;
            ensure!(
                Instant::now() < end,
                "BIRD is not ready: {error:#}\n{}",
                self.process.log()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        self.process.signal(signal)
    }

    /// Starts it again in place of the one that runs, which is killed.
    pub fn again(&mut self, space: &Space) -> Result<()> {
        self.process.end()?;
        self.process = Self::process(space, self.folder.path())?;
        self.ready()
    }

    /// Gives it another configuration, without a restart.
    pub fn configure(&self, config: &str) -> Result<()> {
        fs::write(self.folder.path().join("bird.conf"), config)?;
        let said = self.ask("configure")?;
        ensure!(said.contains("Reconfigur"), "BIRD refuses: {said}");
        Ok(())
    }

    /// Runs a command of `birdc`, and gives its output.
    pub fn ask(&self, words: &str) -> Result<String> {
        run(Command::new(other_server("birdc")?)
            .arg("-s")
            .arg(self.folder.path().join("bird.ctl"))
            .args(words.split_whitespace()))
    }

    /// The path of its control socket.
    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("bird.ctl")
    }

    /// The path of its configuration.
    pub fn config(&self) -> PathBuf {
        self.folder.path().join("bird.conf")
    }

    /// Its log.
    pub fn log(&self) -> String {
        self.process.log()
    }
}

/// FRR, running: zebra, bgpd and bfdd.
#[derive(Debug)]
pub struct Frr {
    folder: tempfile::TempDir,
    zebra: Process,
    bgpd: Process,
    bfdd: Process,
}

impl Frr {
    /// Starts FRR in a namespace.
    pub fn start(space: &Space, config: &str) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("frr-").tempdir()?;
        // FRR runs as a member of the group frrvty alone, which is there where the package is installed.
        let groups = fs::read_to_string("/etc/group")?;
        let groups: Vec<&str> = groups
            .lines()
            .filter(|line| !line.starts_with("frrvty:"))
            .collect();
        fs::write(
            folder.path().join("group"),
            groups.join("\n") + "\nfrrvty:x:65053:root\n",
        )?;
        let of = |name: &str, lines: &[&str]| fs::write(folder.path().join(name), lines.concat());
        // zebra has no word of BGP, and each of them refuses what it does not know.
        let cut = config.find("\nbfd\n").context("no bfd")? + 1;
        let bgp = config.find("\nrouter bgp").context("no router bgp")? + 1;
        of("zebra.conf", &[])?;
        of("bfdd.conf", &[&config[cut..bgp]])?;
        of("bgpd.conf", &[&config[..cut], &config[bgp..]])?;
        let [zebra, bgpd, bfdd] = Self::processes(space, folder.path())?;
        Ok(Self {
            zebra,
            bgpd,
            bfdd,
            folder,
        })
    }

    /// Starts it again in place of the one that runs, which is killed.
    pub fn again(&mut self, space: &Space) -> Result<()> {
        for process in [&mut self.bgpd, &mut self.bfdd, &mut self.zebra] {
            process.end()?;
        }
        for left in ["zserv.api", "bgpd.vty"] {
            fs::remove_file(self.folder.path().join(left))?;
        }
        [self.zebra, self.bgpd, self.bfdd] = Self::processes(space, self.folder.path())?;
        Ok(())
    }

    /// zebra, bgpd and bfdd, ready.
    fn processes(space: &Space, folder: &Path) -> Result<[Process; 3]> {
        let mut zebra = Self::process(space, folder, "zebra")?;
        Self::ready(&mut zebra, &folder.join("zserv.api"))?;
        let bfdd = Self::process(space, folder, "bfdd")?;
        let mut bgpd = Self::process(space, folder, "bgpd")?;
        Self::ready(&mut bgpd, &folder.join("bgpd.vty"))?;
        Ok([zebra, bgpd, bfdd])
    }

    /// Waits until a process has made its socket.
    fn ready(process: &mut Process, socket: &Path) -> Result<()> {
        let end = Instant::now() + PATIENCE;
        while !socket.exists() {
            process.require_alive()?;
            ensure!(Instant::now() < end, "FRR is not ready: {}", process.log());
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    fn process(space: &Space, folder: &Path, name: &str) -> Result<Process> {
        let program = other_server(name)?;
        // Its own library lies beside it where the package was only unpacked.
        let libraries = fs::canonicalize(&program)?;
        let libraries = libraries
            .parent()
            .map(|folder| folder.join("../x86_64-linux-gnu/frr"));
        let mut command = space.command(&program);
        let groups = folder.join("group");
        // SAFETY: bare system calls; nothing is allocated between fork and exec for paths that are so short.
        unsafe {
            command.pre_exec(move || {
                let none = None::<&str>;
                unshare(CloneFlags::CLONE_NEWNS)?;
                mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
                mount(Some(&groups), "/etc/group", none, MsFlags::MS_BIND, none)?;
                Ok(())
            });
        }
        if let Some(libraries) = libraries.filter(|folder| folder.is_dir()) {
            command.env("LD_LIBRARY_PATH", libraries);
        }
        command
            .args(["-u", "root", "-g", "root", "-P", "0", "--log", "stdout"])
            .arg("-f")
            .arg(folder.join(format!("{name}.conf")))
            .arg("-z")
            .arg(folder.join("zserv.api"))
            .arg("-i")
            .arg(folder.join(format!("{name}.pid")))
            .arg("--vty_socket")
            .arg(folder);
        if name == "bfdd" {
            command.arg("--bfdctl").arg(folder.join("bfdd.sock"));
        }
        Process::start(command, folder.join(format!("{name}.log")))
    }

    /// Sends a signal to zebra, bgpd and bfdd.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        for process in [&self.bgpd, &self.bfdd, &self.zebra] {
            process.signal(signal)?;
        }
        Ok(())
    }

    /// The logs of all three.
    pub fn log(&self) -> String {
        [&self.zebra, &self.bgpd, &self.bfdd]
            .map(Process::log)
            .concat()
    }
}

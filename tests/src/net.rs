//! Network namespaces, with veth pairs and VLANs, sockets and XDP programs inside them.

use std::ffi::OsStr;
use std::fs::File;
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use aya::programs::Xdp;
use aya::programs::xdp::XdpMode;
use nix::sched::{CloneFlags, setns};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::dns::{self, Query, Reply};

/// The beginning of all names made here.
const PREFIX: &str = "gdns";
/// Where `ip netns` keeps its namespaces.
const NETNS: &str = "/run/netns";
/// Where programs, links and maps are pinned.
const BPFFS: &str = "/sys/fs/bpf";

static COUNT: AtomicU32 = AtomicU32::new(0);

/// A name that nobody else has: `gdns<pid>-<number>-<what>`.
pub fn unique(what: &str) -> String {
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    format!("{PREFIX}{}-{number}-{what}", std::process::id())
}

/// An address that a test has written down.
pub fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

/// Address and port 53, or another.
pub fn at(address: &str, port: u16) -> Result<SocketAddr> {
    let address: IpAddr = address
        .parse()
        .with_context(|| format!("no address: {address}"))?;
    Ok((address, port).into())
}

/// A network namespace; deleted when dropped.
#[derive(Debug)]
pub struct Space {
    name: String,
    file: OwnedFd,
    /// Holds the programs attached through [`Space::attach`].
    programs: std::sync::Mutex<Vec<aya::Ebpf>>,
}

/// Has a command run in the namespace that is opened here.
pub fn runs_in(command: &mut Command, space: impl AsFd + Send + Sync + 'static) -> &mut Command {
    // SAFETY: setns is a bare system call; nothing is allocated between fork and exec.
    unsafe { command.pre_exec(move || Ok(setns(space.as_fd(), CloneFlags::CLONE_NEWNET)?)) }
}

impl Space {
    /// A new namespace, its loopback up, addresses usable at once.
    pub fn new(what: &str) -> Result<Self> {
        prepare()?;
        let name = unique(what);
        run(Command::new("ip").args(["netns", "add", &name]))?;
        let path = Path::new(NETNS).join(&name);
        let file = File::open(&path)
            .with_context(|| format!("cannot open {}", path.display()))?
            .into();
        let space = Self {
            name,
            file,
            programs: Default::default(),
        };
        space.ip("link set lo up")?;
        space.sysctl("net/ipv4/conf/all/rp_filter", "0")?;
        space.sysctl("net/ipv4/conf/default/rp_filter", "0")?;
        space.sysctl("net/ipv6/conf/all/disable_ipv6", "0")?;
        space.sysctl("net/ipv6/conf/default/disable_ipv6", "0")?;
        space.sysctl("net/ipv6/conf/default/accept_dad", "0")?;
        Ok(space)
    }

    /// Its name, as `ip netns` knows it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its path, as `nsenter --net=` takes it.
    pub fn path(&self) -> PathBuf {
        Path::new(NETNS).join(&self.name)
    }

    /// A command that will run in here. /sys stays the machine's own, so bpffs is there.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        let file = self
            .file
            .try_clone()
            .expect("a file descriptor can be copied");
        runs_in(&mut command, file);
        command
    }

    /// Runs a function on a thread of its own in here. Sockets made by it stay here.
    pub fn enter<T: Send>(&self, f: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        std::thread::scope(|scope| {
            scope
                .spawn(|| {
                    setns(self.file.as_fd(), CloneFlags::CLONE_NEWNET)
                        .with_context(|| format!("cannot enter {}", self.name))?;
                    f()
                })
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Runs `ip -n SPACE WORDS...`.
    pub fn ip(&self, words: &str) -> Result<String> {
        run(Command::new("ip")
            .args(["-n", &self.name])
            .args(words.split_whitespace()))
    }

    /// Runs many `ip` commands at once, one to a line.
    pub fn ip_batch(&self, lines: &str) -> Result<()> {
        let mut file = tempfile::NamedTempFile::new()?;
        std::io::Write::write_all(&mut file, lines.as_bytes())?;
        run(Command::new("ip")
            .args(["-n", &self.name, "-batch"])
            .arg(file.path()))
        .map(|_| ())
    }

    /// Processes that run in here.
    pub fn pids(&self) -> Result<Vec<i32>> {
        let shown = run(Command::new("ip").args(["netns", "pids", &self.name]))?;
        let pids = shown.split_whitespace().map(str::parse);
        Ok(pids.collect::<Result<_, _>>()?)
    }

    /// Sets a sysctl of this namespace, by its path below /proc/sys.
    pub fn sysctl(&self, path: &str, value: &str) -> Result<()> {
        self.enter(|| {
            std::fs::write(Path::new("/proc/sys").join(path), value)
                .with_context(|| format!("cannot set {path} to {value}"))
        })
    }

    /// An interface's MAC address, as `ip` takes it.
    pub fn mac(&self, interface: &str) -> Result<String> {
        let line = self.ip(&format!("-br link show dev {interface}"))?;
        let mac = line.split_whitespace().nth(2);
        mac.map(str::to_owned)
            .with_context(|| format!("no MAC address: {line}"))
    }

    /// Turns an interface's offloads off: `tx` so that checksums on the wire are real, the VLAN
    /// ones so that tags are in the packets.
    pub fn plain(&self, interface: &str) -> Result<()> {
        run(self
            .command("ethtool")
            .args(["-K", interface, "tx", "off", "txvlan", "off"])
            .args(["tx-vlan-stag-hw-insert", "off"])
            .args(["rxvlan", "off", "rx-vlan-stag-hw-parse", "off"]))
        .map(|_| ())
    }

    /// Attaches the rig's program of this name to an interface, natively, for as long as the
    /// namespace lives. What a driver sends back by XDP_TX arrives only where a program listens:
    /// `pass` will do.
    pub fn attach(&self, interface: &str, program: &str) -> Result<()> {
        let object = crate::built::rig_object()?;
        let mut rig = aya::Ebpf::load(&object).context("cannot load the rig's object")?;
        self.enter(|| {
            let xdp: &mut Xdp = rig
                .program_mut(program)
                .with_context(|| format!("the rig has no program {program}"))?
                .try_into()?;
            xdp.load()?;
            xdp.attach(interface, XdpMode::Driver)
                .with_context(|| format!("cannot attach {program} to {interface}"))?;
            Ok(())
        })?;
        self.programs.lock().expect("not poisoned").push(rig);
        Ok(())
    }

    /// A UDP socket bound to `from` (port 0: any) and connected to `to`.
    pub fn udp(&self, from: IpAddr, to: SocketAddr) -> Result<UdpSocket> {
        self.enter(|| {
            let socket = UdpSocket::bind((from, 0))
                .with_context(|| format!("cannot bind {from} in {}", self.name))?;
            socket
                .connect(to)
                .with_context(|| format!("cannot reach {to} from {from}"))?;
            Ok(socket)
        })
    }

    /// A TCP connection from `from` to `to`.
    pub fn tcp(&self, from: IpAddr, to: SocketAddr) -> Result<TcpStream> {
        self.enter(|| {
            let socket = socket2::Socket::new(
                socket2::Domain::for_address(to),
                socket2::Type::STREAM,
                None,
            )?;
            socket.bind(&SocketAddr::new(from, 0).into())?;
            socket
                .connect_timeout(&to.into(), Duration::from_secs(3))
                .with_context(|| format!("cannot connect from {from} to {to}"))?;
            let stream: TcpStream = socket.into();
            stream.set_read_timeout(Some(Duration::from_secs(3)))?;
            Ok(stream)
        })
    }
}

impl Drop for Space {
    fn drop(&mut self) {
        self.programs.get_mut().expect("not poisoned").clear();
        // Processes that were to outlive their parents: the holder of a device, when its daemon was killed.
        for pid in self.pids().unwrap_or_default() {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        let _ = run(Command::new("ip").args(["netns", "del", &self.name]));
    }
}

/// Joins two namespaces by a veth pair, both ends up, offloads off.
pub fn join(a: &Space, a_interface: &str, b: &Space, b_interface: &str) -> Result<()> {
    a.ip(&format!(
        "link add {a_interface} type veth peer name {b_interface} netns {}",
        b.name
    ))?;
    for (space, interface) in [(a, a_interface), (b, b_interface)] {
        space.plain(interface)?;
        space.ip(&format!("link set {interface} up"))?;
    }
    Ok(())
}

/// A server and its clients, joined by one wire: `eth0` on both ends. The client end has the
/// rig's `pass`, so that native XDP_TX arrives.
#[derive(Debug)]
pub struct Pair {
    /// 192.0.2.53/24, 192.0.2.54/24, 2001:db8::53/64 and 2001:db8::54/64; everything else is
    /// behind the client.
    pub server: Space,
    /// 192.0.2.1, 2001:db8::1, and what [`Pair::new`] was given.
    pub client: Space,
}

impl Pair {
    /// The two, with these addresses more on the client.
    pub fn new(addresses: &[&str]) -> Result<Self> {
        let pair = Self::bare(addresses)?;
        pair.client.attach("eth0", "pass")?;
        Ok(pair)
    }

    /// The same without a program at the client's end.
    pub fn bare(addresses: &[&str]) -> Result<Self> {
        let server = Space::new("server")?;
        let client = Space::new("client")?;
        join(&server, "eth0", &client, "eth0")?;
        server.ip_batch(
            "address add 192.0.2.53/24 dev eth0
             address add 192.0.2.54/24 dev eth0
             address add 2001:db8::53/64 dev eth0 nodad
             address add 2001:db8::54/64 dev eth0 nodad
             route add default via 192.0.2.1
             route add default via 2001:db8::1",
        )?;
        let mut lines = String::from(
            "address add 192.0.2.1/24 dev eth0
             address add 2001:db8::1/64 dev eth0 nodad\n",
        );
        for address in addresses {
            lines.push_str(&format!("address add {address} dev lo nodad\n"));
        }
        client.ip_batch(&lines)?;
        Ok(Self { server, client })
    }

    /// Asks the server's address `to` once, as the client that is `from`.
    pub fn ask(&self, from: &str, to: &str, query: &Query) -> Result<Reply> {
        let socket = self.client.udp(ip(from), at(to, 53)?)?;
        let bytes = dns::ask(&socket, &query.bytes(), Duration::from_secs(10))?;
        Reply::parse(&bytes.with_context(|| format!("no answer for {from}: {query:?}"))?)
    }
}

/// Runs a command to its end; failing is an error with what it said.
pub fn run(command: &mut Command) -> Result<String> {
    let output = output(command)?;
    if !output.status.success() {
        bail!(
            "{command:?}: {}: {}{}",
            output.status,
            String::from_utf8_lossy(&output.stderr),
            String::from_utf8_lossy(&output.stdout)
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Runs a command to its end, however it ends.
pub fn output(command: &mut Command) -> Result<Output> {
    command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot run {:?}", command.get_program()))
}

/// Once for each process: mounts bpffs where it is not, and sweeps what killed processes left.
fn prepare() -> Result<()> {
    static ONCE: std::sync::OnceLock<Result<(), String>> = std::sync::OnceLock::new();
    ONCE.get_or_init(|| prepare_once().map_err(|error| format!("{error:#}")))
        .clone()
        .map_err(anyhow::Error::msg)
}

fn prepare_once() -> Result<()> {
    ensure!(
        nix::unistd::geteuid().is_root(),
        "network namespaces and BPF need root"
    );
    // One at a time: two mounts would lie over each other.
    let lock = File::create(std::env::temp_dir().join("geodns-tests.lock"))?;
    lock.lock().context("cannot lock")?;
    let mounts = std::fs::read_to_string("/proc/self/mounts")?;
    if !mounts.lines().any(|line| line.contains(" /sys/fs/bpf ")) {
        run(Command::new("mount").args(["-t", "bpf", "bpf", BPFFS]))?;
    }
    for folder in [NETNS, BPFFS] {
        let Ok(entries) = std::fs::read_dir(folder) else {
            continue;
        };
        for entry in entries.flatten() {
            let name = entry.file_name();
            let Some(owner) = name.to_str().and_then(owner) else {
                continue;
            };
            if Path::new("/proc").join(owner).exists() {
                continue;
            }
            if folder == NETNS {
                let _ = run(Command::new("ip").args(["netns", "del"]).arg(&name));
            } else {
                let _ = std::fs::remove_dir_all(entry.path());
            }
        }
    }
    Ok(())
}

/// Process id in a [`unique`] name.
fn owner(name: &str) -> Option<&str> {
    let id = name.strip_prefix(PREFIX)?.split('-').next()?;
    (!id.is_empty() && id.bytes().all(|byte| byte.is_ascii_digit())).then_some(id)
}

/// A folder for pins that nobody else has; removed, with what is in it, when dropped.
#[derive(Debug)]
pub struct Pins(PathBuf);

impl Pins {
    /// Only the name: the daemon makes it.
    pub fn new() -> Result<Self> {
        prepare()?;
        Ok(Self(Path::new(BPFFS).join(unique("pin"))))
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Everything in it, as paths below it, sorted.
    pub fn list(&self) -> Vec<String> {
        fn walk(folder: &Path, root: &Path, found: &mut Vec<String>) {
            for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
                let path = entry.path();
                if path.is_dir() {
                    walk(&path, root, found);
                } else if let Ok(below) = path.strip_prefix(root) {
                    found.push(below.display().to_string());
                }
            }
        }
        let mut found = Vec::new();
        walk(&self.0, &self.0, &mut found);
        found.sort();
        found
    }
}

impl Drop for Pins {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

//! Real etcd: one member on the machine's loopback, or several, each in a namespace of its own.

use std::fs::{self, File};
use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use geodns::config::{Endpoint, Fleet, Identity};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::authority::Authority;
use crate::net::{self, Space, join, runs_in};
use crate::other_server;
use crate::process::ends_with_us;

/// Time that a member may take to be ready, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// The configuration of a fleet with these endpoints, and nothing else.
pub fn fleet(name: &str, etcd: Vec<Endpoint>) -> Fleet {
    Fleet {
        name: name.to_owned(),
        etcd,
        ca: None,
        identity: None,
        max_stale: None,
        trusted_keys: Vec::new(),
    }
}

/// The section of a configuration with the name and the endpoints of a fleet.
pub fn section(fleet: &Fleet) -> String {
    let endpoints = fleet.etcd.iter().map(|at| format!("{:?}", at.to_string()));
    let endpoints: Vec<String> = endpoints.collect();
    format!(
        "[fleet]\nname = {:?}\netcd = [{}]\n",
        fleet.name,
        endpoints.join(", ")
    )
}

/// Wishes for a cluster.
#[derive(Clone, Debug, Default)]
pub struct Setup {
    /// Whether clients and members show each other certificates.
    pub tls: bool,
    /// More flags of each member, such as `--quota-backend-bytes=16777216`.
    pub flags: Vec<String>,
}

/// A cluster. Dropping it ends its members and deletes their data.
pub struct Cluster {
    folder: tempfile::TempDir,
    setup: Setup,
    members: Vec<Member>,
    authority: Option<Authority>,
    /// Namespaces that were made for it.
    triangle: Option<Triangle>,
}

struct Member {
    address: IpAddr,
    /// The port for clients, and the one for other members.
    ports: [u16; 2],
    /// Path of its namespace; `None`: the machine's own.
    space: Option<PathBuf>,
    child: Option<Child>,
    /// Its data, anew after each restoring.
    data: PathBuf,
    /// Other members are told from an older cluster by it.
    token: String,
}

/// Three namespaces, each joined to a switch.
pub struct Triangle {
    /// The namespaces, with 10.77.0.1, 10.77.0.2 and 10.77.0.3.
    pub spaces: [Space; 3],
    switch: Space,
}

impl Triangle {
    /// Makes them.
    pub fn new() -> Result<Self> {
        let switch = Space::new("switch")?;
        switch.ip("link add br0 type bridge")?;
        switch.ip("link set br0 up")?;
        let spaces = [Space::new("one")?, Space::new("two")?, Space::new("three")?];
        for (number, space) in (1..).zip(&spaces) {
            attach(&switch, space, number)?;
        }
        Ok(Self { spaces, switch })
    }

    /// One more namespace at the switch, with the address of this number: 4 or more.
    pub fn another(&self, number: usize) -> Result<Space> {
        let space = Space::new("another")?;
        attach(&self.switch, &space, number)?;
        Ok(space)
    }

    /// The address of a namespace, from 1.
    pub fn address(number: u8) -> IpAddr {
        Ipv4Addr::new(10, 77, 0, number).into()
    }

    /// Cuts a namespace off the others, by its number, and leaves its link up: nobody is told.
    pub fn cut(&self, number: usize) -> Result<()> {
        self.switch.ip(&format!("link set p{number} nomaster"))?;
        Ok(())
    }

    /// Joins it again.
    pub fn heal(&self, number: usize) -> Result<()> {
        self.switch.ip(&format!("link set p{number} master br0"))?;
        Ok(())
    }
}

/// Joins a namespace to the switch of a triangle.
fn attach(switch: &Space, space: &Space, number: usize) -> Result<()> {
    let port = format!("p{number}");
    join(space, "eth0", switch, &port)?;
    switch.ip(&format!("link set {port} master br0"))?;
    let address = Triangle::address(u8::try_from(number)?);
    space.ip(&format!("address add {address}/24 dev eth0"))?;
    Ok(())
}

impl Cluster {
    /// One member on the loopback of the machine. Needs no root.
    pub fn one(setup: Setup) -> Result<Self> {
        let mut member = Member::new(Ipv4Addr::LOCALHOST.into(), None);
        // Both at once, so that they differ.
        let held = [
            TcpListener::bind("127.0.0.1:0")?,
            TcpListener::bind("127.0.0.1:0")?,
        ];
        for (port, held) in member.ports.iter_mut().zip(&held) {
            *port = held.local_addr()?.port();
        }
        drop(held);
        Self::start(setup, vec![member], None)
    }

    /// Three members, each in a namespace of its own. Needs root.
    pub fn three(setup: Setup) -> Result<Self> {
        let triangle = Triangle::new()?;
        let spaces = triangle.spaces.iter();
        let places: Vec<(&Space, IpAddr)> = (1..)
            .zip(spaces)
            .map(|(number, space)| (space, Triangle::address(number)))
            .collect();
        let members = Member::at(&places);
        Self::start(setup, members, Some(triangle))
    }

    /// A member in each of these namespaces, on an address that the namespace has.
    pub fn within(places: &[(&Space, IpAddr)], setup: Setup) -> Result<Self> {
        Self::start(setup, Member::at(places), None)
    }

    fn start(setup: Setup, members: Vec<Member>, triangle: Option<Triangle>) -> Result<Self> {
        // In memory: tests do not wait for a disk.
        let folder = tempfile::Builder::new()
            .prefix("geodns-etcd")
            .tempdir_in("/dev/shm")?;
        let mut cluster = Self {
            folder,
            authority: None,
            members,
            setup,
            triangle,
        };
        if cluster.setup.tls {
            let authority = Authority::new("authority of a test")?;
            fs::write(cluster.file("ca.crt"), authority.pem())?;
            cluster.authority = Some(authority);
            for number in 0..cluster.members.len() {
                let host = cluster.members[number].address.to_string();
                cluster.issue(&format!("member{number}"), &[&host])?;
            }
        }
        for number in 0..cluster.members.len() {
            let data = format!("data{number}-0");
            cluster.members[number].data = cluster.file(&data);
            cluster.spawn(number, "new")?;
        }
        cluster.ready()?;
        Ok(cluster)
    }

    /// Makes a certificate of the cluster's authority: `NAME.crt` and `NAME.key` in its folder. The name is the common
    /// name, too.
    pub fn issue(&self, name: &str, hosts: &[&str]) -> Result<Identity> {
        let authority = self.authority.as_ref().context("no TLS here")?;
        let (certificate, key) = authority.issue(name, hosts)?;
        let identity = Identity {
            certificate: self.file(&format!("{name}.crt")),
            key: self.file(&format!("{name}.key")),
        };
        fs::write(&identity.certificate, certificate)?;
        fs::write(&identity.key, key)?;
        Ok(identity)
    }

    /// A file in the cluster's folder.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Namespaces of [`Cluster::three`].
    pub fn triangle(&self) -> &Triangle {
        self.triangle.as_ref().expect("made by Cluster::three")
    }

    /// The configuration of a fleet that uses it, with no certificate of the node.
    pub fn fleet(&self, name: &str) -> Fleet {
        Fleet {
            ca: self.setup.tls.then(|| self.file("ca.crt")),
            ..fleet(name, self.endpoints())
        }
    }

    /// The section of a configuration that says the same.
    pub fn section(&self, name: &str) -> String {
        section(&self.fleet(name))
    }

    /// The fleet as a node beside this member has it: the member stands first.
    pub fn fleet_beside(&self, number: usize, name: &str) -> Fleet {
        let mut fleet = self.fleet(name);
        fleet.etcd.rotate_left(number);
        fleet
    }

    /// Endpoints for clients.
    pub fn endpoints(&self) -> Vec<Endpoint> {
        let of = |member: &Member| Endpoint {
            tls: self.setup.tls,
            host: member.address.to_string(),
            port: member.ports[0],
        };
        self.members.iter().map(of).collect()
    }

    fn spawn(&mut self, number: usize, state: &str) -> Result<()> {
        let scheme = if self.setup.tls { "https" } else { "http" };
        let url = |member: &Member, port: usize| {
            format!("{scheme}://{}:{}", member.address, member.ports[port])
        };
        let members = self.members.iter().enumerate();
        let all: Vec<String> = members
            .map(|(number, member)| format!("e{number}={}", url(member, 1)))
            .collect();
        let member = &self.members[number];
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.file(&format!("log{number}")))?;
        let mut command = Command::new(other_server("etcd")?);
        command
            .arg(format!("--name=e{number}"))
            .arg("--data-dir")
            .arg(&member.data)
            .args([
                format!("--listen-client-urls={}", url(member, 0)),
                format!("--advertise-client-urls={}", url(member, 0)),
                format!("--listen-peer-urls={}", url(member, 1)),
                format!("--initial-advertise-peer-urls={}", url(member, 1)),
                format!("--initial-cluster={}", all.join(",")),
                format!("--initial-cluster-token={}", member.token),
                format!("--initial-cluster-state={state}"),
                "--pre-vote".to_owned(),
                "--logger=zap".to_owned(),
                "--log-level=warn".to_owned(),
            ])
            .args(&self.setup.flags);
        if self.setup.tls {
            let files = |what: &str| {
                let of = |name: &str| self.file(name).display().to_string();
                [
                    format!("--{what}trusted-ca-file={}", of("ca.crt")),
                    format!("--{what}cert-file={}", of(&format!("member{number}.crt"))),
                    format!("--{what}key-file={}", of(&format!("member{number}.key"))),
                    format!("--{what}client-cert-auth"),
                ]
            };
            command.args(files("")).args(files("peer-"));
        }
        command
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        if let Some(path) = &member.space {
            runs_in(&mut command, File::open(path)?);
        }
        let child = ends_with_us(&mut command, Signal::SIGKILL).spawn();
        let child = child.context("cannot start etcd")?;
        self.members[number].child = Some(child);
        Ok(())
    }

    /// Waits until every member that runs says that it is healthy.
    pub fn ready(&self) -> Result<()> {
        let end = Instant::now() + PATIENCE;
        for (number, member) in self.members.iter().enumerate() {
            if member.child.is_none() {
                continue;
            }
            while let Err(error) = self.ctl_of(number, "endpoint health") {
                if Instant::now() > end {
                    bail!(
                        "etcd {number} is not ready: {error:#}\n{}",
                        self.log(number)
                    );
                }
                std::thread::sleep(Duration::from_millis(50));
            }
        }
        Ok(())
    }

    /// The log of a member.
    pub fn log(&self, number: usize) -> String {
        fs::read_to_string(self.file(&format!("log{number}"))).unwrap_or_default()
    }

    /// `etcdctl WORDS...` with the first member, as root where it has users.
    pub fn ctl(&self, words: &str) -> Result<String> {
        self.ctl_of(0, words)
    }

    /// The same with a member.
    pub fn ctl_of(&self, number: usize, words: &str) -> Result<String> {
        let member = &self.members[number];
        let mut command = Command::new(other_server("etcdctl")?);
        let endpoint = &self.endpoints()[number];
        command
            .env("ETCDCTL_API", "3")
            .arg(format!("--endpoints={endpoint}"))
            .arg("--command-timeout=5s");
        if self.setup.tls {
            for (flag, name) in [
                ("cacert", "ca.crt"),
                ("cert", "root.crt"),
                ("key", "root.key"),
            ] {
                let file = self.file(name);
                if !file.exists() {
                    self.issue("root", &[])?;
                }
                command.arg(format!("--{flag}={}", file.display()));
            }
        }
        command.args(words.split_whitespace());
        if let Some(path) = &member.space {
            runs_in(&mut command, File::open(path)?);
        }
        net::run(&mut command)
    }

    /// Sends a member a signal: SIGSTOP makes it silent, SIGCONT wakes it.
    pub fn signal(&self, number: usize, signal: Signal) -> Result<()> {
        let child = self.members[number].child.as_ref();
        let child = child.context("it does not run")?;
        kill(Pid::from_raw(child.id() as i32), signal)?;
        if signal == Signal::SIGSTOP {
            // Until each of its threads has heard of it.
            for thread in fs::read_dir(format!("/proc/{}/task", child.id()))? {
                let stat = thread?.path().join("stat");
                while !fs::read_to_string(&stat)?.contains(") T ") {
                    std::thread::sleep(Duration::from_millis(1));
                }
            }
        }
        Ok(())
    }

    /// Kills a member.
    pub fn kill(&mut self, number: usize) -> Result<()> {
        if let Some(mut child) = self.members[number].child.take() {
            child.kill()?;
            child.wait()?;
        }
        Ok(())
    }

    /// Starts a member that was killed, and waits until all are ready.
    pub fn again(&mut self, number: usize) -> Result<()> {
        self.begin_again(number)?;
        self.ready()
    }

    /// Starts a member that was killed, and waits for nothing.
    pub fn begin_again(&mut self, number: usize) -> Result<()> {
        self.spawn(number, "existing")
    }

    /// Writes a backup.
    pub fn save(&self, name: &str) -> Result<PathBuf> {
        let path = self.file(name);
        self.ctl(&format!("snapshot save {}", path.display()))?;
        Ok(path)
    }

    /// Ends all members, and starts them with the content of a backup. With a new token they are another cluster.
    pub fn restore(&mut self, backup: &Path, token: &str) -> Result<()> {
        let scheme = if self.setup.tls { "https" } else { "http" };
        let url = |member: &Member| format!("{scheme}://{}:{}", member.address, member.ports[1]);
        let members = self.members.iter().enumerate();
        let all: Vec<String> = members
            .map(|(number, member)| format!("e{number}={}", url(member)))
            .collect();
        for number in 0..self.members.len() {
            self.kill(number)?;
            let data = self.file(&format!("data{number}-{}", net::unique("r")));
            let member = &mut self.members[number];
            member.data = data;
            member.token = token.to_owned();
            let mut command = Command::new(other_server("etcdctl")?);
            command
                .env("ETCDCTL_API", "3")
                .args(["snapshot", "restore"])
                .arg(backup)
                .arg(format!("--name=e{number}"))
                .arg(format!("--initial-cluster={}", all.join(",")))
                .arg(format!("--initial-cluster-token={token}"))
                .arg(format!("--initial-advertise-peer-urls={}", url(member)))
                .arg("--data-dir")
                .arg(&member.data);
            net::run(&mut command)?;
        }
        for number in 0..self.members.len() {
            self.spawn(number, "existing")?;
        }
        self.ready()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for number in 0..self.members.len() {
            let _ = self.kill(number);
        }
    }
}

impl Member {
    fn new(address: IpAddr, space: Option<PathBuf>) -> Self {
        Self {
            address,
            ports: [2379, 2380],
            space,
            child: None,
            data: PathBuf::new(),
            token: "test".to_owned(),
        }
    }

    fn at(places: &[(&Space, IpAddr)]) -> Vec<Self> {
        let places = places.iter();
        places
            .map(|(space, address)| Self::new(*address, Some(space.path())))
            .collect()
    }
}

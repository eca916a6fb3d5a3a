//! Real daemons as one fleet, with no program in the kernel: three namespaces, each with a member of etcd and a third of
//! the daemons.

use std::fs;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use geodns_tests::daemon::{Daemon, Setup};
use geodns_tests::etcd::{self, Cluster, Triangle};
use geodns_tests::net::Space;

/// How long nodes may take until they know each other.
const PATIENCE: Duration = Duration::from_secs(120);
/// Name of the fleet.
pub const FLEET: &str = "bench";
/// Ticks of the times in /proc, a second.
const TICKS: f64 = 100.0;

/// The daemons, and the etcd that they share.
pub struct Nodes {
    pub daemons: Vec<Daemon>,
    pub cluster: Cluster,
}

impl Nodes {
    /// N daemons that have all joined. `setup` is the configuration of each, but for its addresses and its fleet;
    /// `fleet` stands in the section of the fleet.
    pub fn new(count: usize, setup: &Setup, fleet: &str) -> Result<Self> {
        let cluster = Cluster::three(etcd::Setup::default())?;
        let mut nodes = Self {
            daemons: Vec::new(),
            cluster,
        };
        for number in 0..count {
            let mut setup = setup.clone().mode("off");
            setup.listen = vec![address(number).to_string()];
            setup.server = format!("identity = \"{}\"\n", name(number));
            let beside = nodes.cluster.fleet_beside(number % 3, FLEET);
            let setup = setup.and(&etcd::section(&beside)).and(fleet);
            let daemon = Daemon::start(nodes.space(number), &setup)?;
            let (code, answer) = match number {
                0 => daemon.request("POST", "/v1/fleet/init", "")?,
                _ => daemon.request("POST", "/v1/fleet/join?yes=true", "")?,
            };
            ensure!(code == 200, "{} has not joined: {answer}", name(number));
            nodes.daemons.push(daemon);
        }
        let end = Instant::now() + PATIENCE;
        for daemon in &nodes.daemons {
            while daemon.json("fleet status")?["nodes"]
                .as_array()
                .map(Vec::len)
                < Some(count)
            {
                ensure!(Instant::now() < end, "not all know all: {}", daemon.log());
                std::thread::sleep(Duration::from_millis(100));
            }
        }
        Ok(nodes)
    }

    /// The namespace of a node.
    pub fn space(&self, number: usize) -> &Space {
        &self.cluster.triangle().spaces[number % 3]
    }

    /// A client of a node.
    pub fn client(&self, number: usize) -> Result<UdpSocket> {
        let address = address(number);
        self.space(number).udp(address, (address, 53).into())
    }

    /// What the fleet has cost so far.
    pub fn load(&self) -> Result<Load> {
        let mut load = Load::default();
        for pid in self.daemons.iter().filter_map(Daemon::pid) {
            load.daemons += cpu(pid)?;
        }
        for (number, endpoint) in (1..).zip(self.cluster.endpoints()) {
            let space = &self.cluster.triangle().spaces[usize::from(number) - 1];
            let at = (Triangle::address(number), endpoint.port).into();
            let page = space.enter(|| metrics(at))?;
            let sum = |of: &str| {
                let lines = page.lines().filter(|line| line.starts_with(of));
                let values = lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
                values.sum::<f64>()
            };
            // Each member has all commits.
            load.commits = sum("etcd_debugging_mvcc_current_revision ");
            load.requests += sum("grpc_server_msg_received_total{");
            load.etcd += sum("process_cpu_seconds_total ");
        }
        Ok(load)
    }
}

/// Sums since the start.
#[derive(Clone, Copy, Debug, Default)]
pub struct Load {
    /// Seconds of CPU of all daemons.
    pub daemons: f64,
    /// Seconds of CPU of all members of etcd.
    pub etcd: f64,
    /// Commits.
    pub commits: f64,
    /// Messages that members of etcd have taken.
    pub requests: f64,
}

/// The metrics of a member of etcd.
fn metrics(at: SocketAddr) -> Result<String> {
    let mut stream = TcpStream::connect(at)?;
    stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n")?;
    let mut page = String::new();
    stream.read_to_string(&mut page)?;
    Ok(page)
}

/// The name of a node.
pub fn name(number: usize) -> String {
    format!("n{number:03}")
}

/// The address of a node, in its namespace.
fn address(number: usize) -> IpAddr {
    IpAddr::from([127, 1, (number / 250) as u8, (number % 250 + 1) as u8])
}

/// Seconds of CPU that a process has used.
fn cpu(pid: u32) -> Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name before it may have anything in it.
    let (_, fields) = stat.rsplit_once(") ").context("no such process")?;
    let of = |place: usize| -> Result<f64> {
        let field = fields.split(' ').nth(place).context("a short stat")?;
        Ok(field.parse()?)
    };
    Ok((of(11)? + of(12)?) / TICKS)
}

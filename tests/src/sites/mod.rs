//! A little internet in namespaces: sites with one anycast address, a router for each, a client behind each router.
//!
//! - [`routing`]: BIRD and FRR, and their configurations
//! - [`asker`]: a client that asks at a steady pace, and knows who answered it when
//! - [`delay`]: a wire that takes its time
//!
//! ```text
//!  client 1 ── router 1 ─── switch ─── node 1        the routers are joined to each other, each to each
//!  client 2 ── router 2 ─── switch ─── node 2
//! ```
//!
//! A switch stands between each router and its node, so that a node can fall silent while its router keeps its
//! carrier. Node I has the addresses 10.77.I.2 and fd77:I::2, and the anycast addresses on `lo`. Everything is named by
//! numbers from 1.

pub mod asker;
pub mod delay;
pub mod routing;

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::unistd::Pid;

use self::delay::SlowWire;
use self::routing::{Bird, Detection};
use crate::daemon::Setup;
use crate::dns::{A, Query, Reply, ask};
use crate::net::{Space, join};

/// The anycast address, IPv4.
pub const V4: &str = "192.0.2.53";
/// The anycast address, IPv6.
pub const V6: &str = "2001:db8:53::53";
/// Names of the sites: the mirrors beside them have the same.
pub const NAMES: [&str; 5] = ["ams", "iad", "sin", "fra", "nrt"];
/// A name that every site answers with its own mirror, 198.51.100.I.
pub const NAME: &str = "www.example.org";

/// How long routes may take until they are everywhere, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A site: its node, its router, and a client.
#[derive(Debug)]
pub struct Site {
    /// Its number, from 1.
    pub number: usize,
    /// Where the server runs. `eth0` leads to the router.
    pub node: Space,
    /// `site` leads to the node, `client` to the client, `rN` to router N.
    pub router: Space,
    /// A client that this site is the nearest for.
    pub client: Space,
    /// The router's BIRD.
    pub bird: Option<Bird>,
}

impl Site {
    /// Delivers the anycast addresses by local routes in place of addresses on `lo`: FRR prefers those to any route.
    pub fn deliver_by_routes(&self) -> Result<()> {
        let ends = [format!("{V4}/32"), format!("{V6}/128")];
        let lines = ends
            .map(|prefix| format!("addr del {prefix} dev lo\nroute add local {prefix} dev lo\n"));
        self.node.ip_batch(&lines.concat())
    }

    /// The process that holds the device of the node's routes.
    pub fn holder(&self) -> Result<Pid> {
        let holds = |pid: &i32| {
            let line = std::fs::read(format!("/proc/{pid}/cmdline"));
            line.is_ok_and(|line| line.split(|octet| *octet == 0).nth(1) == Some(b"hold"))
        };
        let pid = self.node.pids()?.into_iter().find(holds);
        pid.map(Pid::from_raw).context("nobody holds the device")
    }
}

/// Sites that are joined by their routers.
#[derive(Debug)]
pub struct Sites {
    /// The sites, by number.
    pub sites: Vec<Site>,
    /// Its port `sI` leads to node I, its port `rI` to router I.
    pub switch: Space,
    detection: Detection,
    /// Held for as long as the world stands.
    wires: Vec<SlowWire>,
}

impl Sites {
    /// N sites, their routers running. Nothing is announced yet.
    pub fn new(count: usize, detection: Detection) -> Result<Self> {
        Self::apart(count, detection, |_, _| Duration::ZERO)
    }

    /// The same, with the time that a frame takes from one router to another.
    pub fn apart(
        count: usize,
        detection: Detection,
        delay: impl Fn(usize, usize) -> Duration,
    ) -> Result<Self> {
        let mut sites = Self {
            sites: Vec::new(),
            switch: Space::new("switch")?,
            detection,
            wires: Vec::new(),
        };
        for number in 1..=count {
            let site = sites.site(number)?;
            sites.sites.push(site);
        }
        for (one, other) in pairs(count) {
            let (a, b) = (&sites.sites[one - 1].router, &sites.sites[other - 1].router);
            let (a_end, b_end) = (format!("r{other}"), format!("r{one}"));
            let delay = delay(one, other);
            let wire = match delay.is_zero() {
                true => join(a, &a_end, b, &b_end).map(|()| None)?,
                false => Some(SlowWire::new((a, &a_end), (b, &b_end), delay)?),
            };
            for (router, end, number) in [(a, &a_end, one), (b, &b_end, other)] {
                let [v4, v6] = link_addresses(one, other, number);
                router.ip_batch(&addresses(end, &format!("{v4}/24"), &format!("{v6}/64")))?;
            }
            sites.wires.extend(wire);
        }
        for number in 1..=count {
            let text = routing::router(number, count, detection);
            let bird = Bird::start(&sites.sites[number - 1].router, &text)?;
            sites.sites[number - 1].bird = Some(bird);
        }
        Ok(sites)
    }

    fn site(&self, i: usize) -> Result<Site> {
        let [node, router, client] = ["node", "router", "client"].map(Space::new);
        let (node, router, client) = (node?, router?, client?);
        router.sysctl("net/ipv4/ip_forward", "1")?;
        router.sysctl("net/ipv6/conf/all/forwarding", "1")?;
        let switch = &self.switch;
        switch.ip_batch(&format!("link add br{i} type bridge\nlink set br{i} up\n"))?;
        join(switch, &format!("s{i}"), &node, "eth0")?;
        join(switch, &format!("r{i}"), &router, "site")?;
        switch.ip_batch(&format!(
            "link set s{i} master br{i}\nlink set r{i} master br{i}\n"
        ))?;
        // So that answers of the program arrive, which is attached natively.
        switch.attach(&format!("s{i}"), "pass")?;
        join(&router, "client", &client, "eth0")?;
        let of_site = |last| {
            (
                format!("10.77.{i}.{last}/24"),
                format!("fd77:{i}::{last}/64"),
            )
        };
        let of_client = |last| {
            (
                format!("10.78.{i}.{last}/24"),
                format!("fd78:{i}::{last}/64"),
            )
        };
        for (space, device, (v4, v6)) in [
            (&router, "site", of_site(1)),
            (&node, "eth0", of_site(2)),
            (&router, "client", of_client(1)),
            (&client, "eth0", of_client(2)),
        ] {
            space.ip_batch(&addresses(device, &v4, &v6))?;
        }
        node.ip_batch(&addresses("lo", &format!("{V4}/32"), &format!("{V6}/128")))?;
        for (space, net) in [(&node, 77), (&client, 78)] {
            space.ip_batch(&format!(
                "route add default via 10.{net}.{i}.1\nroute add default via fd{net}:{i}::1\n"
            ))?;
        }
        Ok(Site {
            number: i,
            node,
            router,
            client,
            bird: None,
        })
    }

    /// The way in which routers find out that a node is silent.
    pub fn detection(&self) -> Detection {
        self.detection
    }

    /// Cuts node I off. Its router keeps its carrier.
    pub fn silence(&self, number: usize) -> Result<()> {
        self.switch
            .ip(&format!("link set s{number} down"))
            .map(drop)
    }

    /// Joins node I again.
    pub fn join(&self, number: usize) -> Result<()> {
        self.switch.ip(&format!("link set s{number} up"))?;
        // A default route goes with its device.
        self.sites[number - 1].node.ip_batch(&format!(
            "route replace default via 10.77.{number}.1\nroute replace default via fd77:{number}::1\n"
        ))
    }

    /// The number of the site that answers a client now, at the address. `None`: nobody does.
    pub fn who(&self, client: usize, address: &str) -> Result<Option<usize>> {
        let space = &self.sites[client - 1].client;
        let to: IpAddr = address.parse()?;
        let any: IpAddr = if to.is_ipv4() {
            [0; 4].into()
        } else {
            [0; 16].into()
        };
        let Ok(socket) = space.udp(any, SocketAddr::new(to, 53)) else {
            return Ok(None);
        };
        let query = Query::new(NAME, A).bytes();
        // A port that is closed is an answer, too, and no one's.
        let Ok(Some(answer)) = ask(&socket, &query, Duration::from_millis(500)) else {
            return Ok(None);
        };
        let addresses = Reply::parse(&answer)?.addresses();
        let of = |site: &Site| addresses == format!("198.51.100.{}", site.number);
        Ok(self
            .sites
            .iter()
            .find(|site| of(site))
            .map(|site| site.number))
    }

    /// Waits until each client is answered by this site, over both families. `None`: by nobody.
    pub fn wait_for(&self, answered_by: &[Option<usize>]) -> Result<Duration> {
        self.wait_for_over(&[V4, V6], answered_by)
    }

    /// The same over these addresses.
    pub fn wait_for_over(
        &self,
        addresses: &[&str],
        answered_by: &[Option<usize>],
    ) -> Result<Duration> {
        let start = Instant::now();
        let mut seen = Vec::new();
        while start.elapsed() < PATIENCE {
            seen.clear();
            for client in 1..=answered_by.len() {
                let who = addresses.iter().map(|address| self.who(client, address));
                seen.push(who.collect::<Result<Vec<_>>>()?);
            }
            let is_so =
                |(seen, wanted): (&Vec<_>, &Option<usize>)| seen.iter().all(|by| by == wanted);
            if seen.iter().zip(answered_by).all(is_so) {
                return Ok(start.elapsed());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        bail!(
            "clients should be answered by {answered_by:?} at {addresses:?}, and are by {seen:?}\n{}",
            self.routes()?
        );
    }

    /// Waits until each client is answered by its own site.
    pub fn settle(&self) -> Result<Duration> {
        let own: Vec<_> = self.sites.iter().map(|site| Some(site.number)).collect();
        self.wait_for(&own)
    }

    /// Routes to the anycast addresses at each router.
    pub fn routes(&self) -> Result<String> {
        let mut text = String::new();
        for site in &self.sites {
            for family in ["-4", "-6"] {
                let address = if family == "-4" { V4 } else { V6 };
                let shown = site.router.ip(&format!("{family} route show {address}"))?;
                text.push_str(&format!("router {}: {}\n", site.number, shown.trim()));
            }
        }
        Ok(text)
    }
}

/// The configuration of node I: it answers on the anycast addresses and its own, by its own mirror.
pub fn setup(number: usize) -> Setup {
    let own = [format!("10.77.{number}.2"), format!("fd77:{number}::2")];
    let mut setup = Setup::world("sites", &[V4, V6, &own[0], &own[1]]);
    let name = NAMES[number - 1];
    setup.server = format!("site = {name:?}\nidentity = {name:?}\n");
    setup
}

/// The pairs of numbers up to `count`.
pub fn pairs(count: usize) -> impl Iterator<Item = (usize, usize)> {
    (1..=count).flat_map(move |one| (one + 1..=count).map(move |other| (one, other)))
}

/// Addresses of router `of` on the link between the routers `one` and `other`.
pub fn link_addresses(one: usize, other: usize, of: usize) -> [String; 2] {
    let link = one.min(other) * 10 + one.max(other);
    [format!("10.79.{link}.{of}"), format!("fd79:{link}::{of}")]
}

/// Lines for `ip -batch` that give a device two addresses.
fn addresses(device: &str, v4: &str, v6: &str) -> String {
    format!("addr add {v4} dev {device}\naddr add {v6} dev {device} nodad\n")
}

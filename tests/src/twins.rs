//! Two daemons of one configuration, one with the program in the driver and one without, and clients
//! of any address that ask both and get the same octets.

use std::collections::BTreeMap;
use std::net::{IpAddr, UdpSocket};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::daemon::{Daemon, Setup, at, difference};
use crate::dns::{self, Query, Reply};
use crate::world::Pair;

/// Where the daemon with the program answers, and where the other one does.
const SERVERS: [[&str; 2]; 2] = [
    ["192.0.2.53", "192.0.2.54"],
    ["2001:db8::53", "2001:db8::54"],
];

/// Networks whose every address is a client.
const CLIENTS: [&str; 9] = [
    "10.0.0.0/8",
    "20.0.0.0/8",
    "21.0.0.0/8",
    "45.0.0.0/8",
    "2001::/32",
    "2002::/16",
    "2a02::/16",
    "2a03::/16",
    "fd00::/8",
];

/// Verdicts of packets that are not questions to the daemon with the program: neighbour discovery,
/// and the questions to the other.
const NOISE: [&str; 6] = [
    "pass_not_ip",
    "pass_ip_options",
    "pass_not_udp",
    "pass_other_port",
    "pass_other_address",
    "pass_other_mac",
];

/// How long an answer may take, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(5);
/// Sockets that are kept.
const SOCKETS: usize = 100;

/// The two, and their clients.
#[derive(Debug)]
pub struct Twins {
    /// With the program in the driver.
    pub fast: Daemon,
    /// `kernel.mode = "off"`.
    pub slow: Daemon,
    /// Where both are.
    pub pair: Pair,
    sockets: BTreeMap<IpAddr, [UdpSocket; 2]>,
    counters: BTreeMap<String, u64>,
}

impl Twins {
    /// Starts both. Where they listen, and the mode, are set here.
    pub fn start(setup: &Setup) -> Result<Self> {
        Self::start_in(Pair::new(&[])?, setup)
    }

    /// The same in a pair that may have more in it already.
    pub fn start_in(pair: Pair, setup: &Setup) -> Result<Self> {
        pair.client.sysctl("net/ipv6/ip_nonlocal_bind", "1")?;
        let lines: String = CLIENTS
            .iter()
            .map(|network| format!("route add local {network} dev lo\n"))
            .collect();
        pair.client.ip_batch(&lines)?;
        let [fast, slow] = [0, 1].map(|which| {
            let mut setup = setup.clone();
            setup.listen = SERVERS.map(|servers| servers[which].to_owned()).into();
            setup.mode = ["native", "off"][which].to_owned();
            Daemon::start(&pair.server, &setup)
        });
        let (fast, slow) = (fast?, slow?);
        let counters = fast.counters()?;
        Ok(Self {
            fast,
            slow,
            pair,
            sockets: BTreeMap::new(),
            counters,
        })
    }

    /// Sockets to both from an address.
    fn sockets(&mut self, from: IpAddr) -> Result<&[UdpSocket; 2]> {
        if !self.sockets.contains_key(&from) {
            if self.sockets.len() >= SOCKETS {
                self.sockets.clear();
            }
            let [fast, slow] = SERVERS[usize::from(from.is_ipv6())];
            let sockets = [
                self.pair.client.udp(from, at(fast, 53)?)?,
                self.pair.client.udp(from, at(slow, 53)?)?,
            ];
            self.sockets.insert(from, sockets);
        }
        self.sockets.get(&from).context("just made")
    }

    /// Asks each, and compares nothing.
    pub fn ask_each(&mut self, from: IpAddr, query: &Query) -> Result<[Vec<u8>; 2]> {
        let [fast, slow] = self.sockets(from)?;
        let message = query.bytes();
        let ask = |socket| {
            dns::ask(socket, &message, PATIENCE)?
                .with_context(|| format!("no answer for {from}: {query:?}"))
        };
        Ok([ask(fast)?, ask(slow)?])
    }

    /// Asks both, which have to give the same octets.
    pub fn ask(&mut self, from: IpAddr, query: &Query) -> Result<Reply> {
        let [fast, slow] = self.ask_each(from, query)?;
        let reply = Reply::parse(&fast)?;
        if fast != slow {
            anyhow::bail!(
                "the paths differ for {from}: {query:?}:\n  fast {reply}\n  slow {}",
                Reply::parse(&slow)?
            );
        }
        Ok(reply)
    }

    /// What the program has counted since this was last asked: verdicts on questions to it.
    pub fn counted(&mut self) -> Result<BTreeMap<String, u64>> {
        let counters = self.fast.counters()?;
        let mut counted = difference(&self.counters, &counters);
        self.counters = counters;
        counted.retain(|name, _| !NOISE.contains(&name.as_str()));
        Ok(counted)
    }

    /// That so many questions and no others were counted with this verdict since this was last asked.
    pub fn all_counted(&mut self, verdict: &str, questions: usize) -> Result<()> {
        let counted = self.counted()?;
        let want = BTreeMap::from([(verdict.to_owned(), questions as u64)]);
        ensure!(counted == want, "must count {want:?}, counted {counted:?}");
        Ok(())
    }

    /// Runs a command of `geodns` on both; gives what the first says.
    pub fn ok(&self, words: &str) -> Result<String> {
        self.slow.ok(words)?;
        self.fast.ok(words)
    }

    /// Stops both.
    pub fn stop(mut self) -> Result<()> {
        self.fast.stop()?;
        self.slow.stop()
    }
}

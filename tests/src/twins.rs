//! Two daemons of one configuration, one with the program in the driver and one without, and clients
//! of any address that ask both and get the same octets.

use std::collections::BTreeMap;
use std::net::{IpAddr, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::daemon::{Daemon, Setup, difference};
use crate::dns::{self, Query, Reply};
use crate::net::{Pair, at};

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
const NOISE: [&str; 8] = [
    "pass_not_ip",
    "pass_ip_options",
    "pass_not_udp",
    "pass_other_port",
    "pass_other_address",
    "pass_other_mac",
    // No verdicts: counted beside them.
    "cookie_good",
    "cookie_made",
];

/// How long an answer may take, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long something may take to come about, on a busy machine.
const LONG: Duration = Duration::from_secs(60);
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
    setups: [Setup; 2],
    sockets: BTreeMap<IpAddr, [UdpSocket; 2]>,
    counters: BTreeMap<String, u64>,
}

impl Twins {
    /// Starts both. Where they listen, and the mode, are set here.
    pub fn start(setup: &Setup) -> Result<Self> {
        Self::start_in(Self::place()?, setup)
    }

    /// Where both will be, and every address of `CLIENTS` is the client's.
    pub fn place() -> Result<Pair> {
        let pair = Pair::new(&[])?;
        pair.client.sysctl("net/ipv6/ip_nonlocal_bind", "1")?;
        let lines: String = CLIENTS
            .iter()
            .map(|network| format!("route add local {network} dev lo\n"))
            .collect();
        pair.client.ip_batch(&lines)?;
        Ok(pair)
    }

    /// Starts both there.
    pub fn start_in(pair: Pair, setup: &Setup) -> Result<Self> {
        Self::start_each(pair, [setup; 2])
    }

    /// Starts each there in a way of its own.
    pub fn start_each(pair: Pair, setups: [&Setup; 2]) -> Result<Self> {
        let setups = [0, 1].map(|which| of(which, setups[which]));
        let fast = Daemon::start(&pair.server, &setups[0])?;
        let slow = Daemon::start(&pair.server, &setups[1])?;
        let counters = fast.counters()?;
        Ok(Self {
            fast,
            slow,
            pair,
            setups,
            sockets: BTreeMap::new(),
            counters,
        })
    }

    /// Gives both another configuration, and reloads it.
    pub fn change(&mut self, setup: &Setup) -> Result<()> {
        self.setups = [0, 1].map(|which| of(which, setup));
        self.fast.home.write(&self.setups[0])?;
        self.slow.home.write(&self.setups[1])?;
        self.ok("reload").map(|_| ())
    }

    /// Ends both, in an orderly way or as a crash would, and starts them again on their files.
    pub fn restart(&mut self, crash: bool) -> Result<()> {
        for (daemon, setup) in [&mut self.fast, &mut self.slow]
            .into_iter()
            .zip(&self.setups)
        {
            if crash {
                daemon.crash()?;
            } else {
                daemon.stop()?;
            }
            daemon.again(&self.pair.server, setup)?;
        }
        self.counters = self.fast.counters()?;
        Ok(())
    }

    /// Waits until something holds of both; `what` says what.
    pub fn until(
        &mut self,
        what: &str,
        mut holds: impl FnMut(&mut Self) -> Result<bool>,
    ) -> Result<()> {
        let end = Instant::now() + LONG;
        while !holds(self)? {
            ensure!(
                Instant::now() < end,
                "{what}: not within {LONG:?}:\n{}\n{}",
                self.fast.log(),
                self.slow.log()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Waits until both give a client the same octets with these addresses, or this RCODE (see
    /// [`Reply::addresses`]).
    pub fn comes_to(&mut self, from: IpAddr, name: &str, qtype: u16, want: &str) -> Result<()> {
        let query = Query::new(name, qtype);
        self.until(&format!("{name} {qtype} comes to {want}"), |twins| {
            let [fast, slow] = twins.ask_each(from, &query)?;
            Ok(fast == slow && Reply::parse(&fast)?.addresses() == want)
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

    /// Sends each a message, and compares nothing. `None`: no response in this time.
    pub fn send(
        &mut self,
        from: IpAddr,
        message: &[u8],
        patience: Duration,
    ) -> Result<[Option<Vec<u8>>; 2]> {
        let [fast, slow] = self.sockets(from)?;
        let fast = dns::ask(fast, message, patience)?;
        Ok([fast, dns::ask(slow, message, patience)?])
    }

    /// Asks each, and compares nothing.
    pub fn ask_each(&mut self, from: IpAddr, query: &Query) -> Result<[Vec<u8>; 2]> {
        let [fast, slow] = self.send(from, &query.bytes(), PATIENCE)?;
        let no_answer = || format!("no answer for {from}: {query:?}");
        Ok([fast.with_context(no_answer)?, slow.with_context(no_answer)?])
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

    /// The program's verdicts on questions to it, counted since the last call.
    pub fn counted(&mut self) -> Result<BTreeMap<String, u64>> {
        let counters = self.fast.counters()?;
        let mut counted = difference(&self.counters, &counters);
        self.counters = counters;
        counted.retain(|name, _| !NOISE.contains(&name.as_str()));
        Ok(counted)
    }

    /// Checks that N questions, all with this verdict, were counted since the last call.
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

/// A setup as it is for the first or the second of them.
fn of(which: usize, setup: &Setup) -> Setup {
    let mut setup = setup.clone();
    setup.listen = SERVERS.map(|servers| servers[which].to_owned()).into();
    setup.mode = ["native", "off"][which].to_owned();
    setup
}

//! The network cards of a guest that `cargo xtask test --guest` has booted, and clients on the wire that joins them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::daemon::{Daemon, difference};
use crate::dns::{self, A, AAAA, Query, Reply, TXT};
use crate::net::{Space, at, ip, output, run};
use crate::until;

/// The server's addresses, as in the worlds.
pub const SERVER: [&str; 2] = ["192.0.2.53", "2001:db8::53"];
/// Clients' addresses.
const CLIENT: [&str; 2] = ["192.0.2.1", "2001:db8::1"];
/// The port of the echo by which silence is measured.
const ECHO: u16 = 7;
/// The time for one answer: everything is emulated, and cards are reset under it.
const PATIENCE: Duration = Duration::from_secs(30);

/// Questions of one [`Site::ask`].
pub const QUESTIONS: u64 = 4;
/// The name of the card that asks.
const ASKS: &str = "client";

/// The cards' names, each with its MAC address; none: this is no guest with cards.
pub fn cards() -> BTreeMap<String, String> {
    let listed = std::env::var("GEODNS_CARDS").unwrap_or_default();
    let pairs = listed
        .split_whitespace()
        .filter_map(|card| card.split_once('='));
    pairs
        .map(|(name, mac)| (name.to_owned(), mac.to_owned()))
        .collect()
}

/// A server that has some of the cards, and a client on their wire.
#[derive(Debug)]
pub struct Site {
    /// Its interfaces are `eth0` and so on, in the order of the cards. They are up, and have no addresses.
    pub server: Space,
    /// The client, with its addresses on `eth0`.
    pub client: Space,
}

impl Site {
    /// The server with these cards and no addresses.
    pub fn bare(names: &[&str]) -> Result<Self> {
        let cards = cards();
        let (server, client) = (Space::new("server")?, Space::new("client")?);
        let take = |space: &Space, name: &str, interface: &str| -> Result<()> {
            let mac = cards.get(name).context("no such card")?;
            // What had it before gives it back in the background.
            until(&format!("{name} is free"), || {
                let Some(now) = interface_of(mac)? else {
                    return Ok(false);
                };
                let move_to = [
                    "link",
                    "set",
                    &now,
                    "netns",
                    space.name(),
                    "name",
                    interface,
                ];
                let down = ["link", "set", &now, "down"];
                run(std::process::Command::new("ip").args(down))?;
                run(std::process::Command::new("ip").args(move_to))?;
                Ok(true)
            })?;
            space.ip(&format!("link set {interface} up"))?;
            Ok(())
        };
        take(&client, ASKS, "eth0")?;
        for (number, name) in names.iter().enumerate() {
            take(&server, name, &format!("eth{number}"))?;
        }
        for address in CLIENT {
            client.ip(&format!("address add {}", on(address, "eth0")))?;
        }
        Ok(Self { server, client })
    }

    /// The same with the server's addresses on its first card.
    pub fn new(names: &[&str]) -> Result<Self> {
        let site = Self::bare(names)?;
        site.give("eth0")?;
        Ok(site)
    }

    /// Gives an interface the server's addresses, and waits until the client hears of it.
    pub fn give(&self, interface: &str) -> Result<()> {
        for address in SERVER {
            self.server
                .ip(&format!("address add {}", on(address, interface)))?;
        }
        self.heard()
    }

    /// Moves the addresses of both from one interface to another.
    pub fn move_addresses(&self, from: [&str; 2], to: [&str; 2]) -> Result<()> {
        for (end, (from, to)) in from.into_iter().zip(to).enumerate() {
            let (space, addresses) = match end {
                0 => (&self.server, SERVER),
                _ => (&self.client, CLIENT),
            };
            space.ip(&format!("address flush dev {from}"))?;
            for address in addresses {
                space.ip(&format!("address add {}", on(address, to)))?;
            }
        }
        self.heard()
    }

    /// Waits until the client hears of the server.
    pub fn heard(&self) -> Result<()> {
        let _ = self.client.ip("neigh flush all");
        let echo = Echo::new(&self.server)?;
        let heard = until("the server is heard of", || {
            let socket = self.client.udp(ip(CLIENT[0]), at(SERVER[0], ECHO)?)?;
            // An unreachable server is an error.
            Ok(dns::ask(&socket, b"hello", Duration::from_millis(500))
                .is_ok_and(|reply| reply.is_some()))
        });
        drop(echo);
        heard
    }

    /// Asks [`QUESTIONS`] questions that the program has the answers of, and gives how many of them it answered.
    pub fn ask(&self, daemon: &Daemon) -> Result<u64> {
        let before = daemon.counters()?;
        let [v4, v6] = [0, 1];
        let mut repeated = 0;
        for (name, qtype, family, rcode, count) in [
            ("www.example.org", A, v4, 0, 1),
            ("www.example.org", TXT, v4, 0, 1),
            ("none.example.org", A, v4, 3, 0),
            ("www.example.org", AAAA, v6, 0, 1),
        ] {
            let socket = self
                .client
                .udp(ip(CLIENT[family]), at(SERVER[family], 53)?)?;
            let query = Query::new(name, qtype);
            let (reply, tries) = ask_again(&socket, &query)?;
            let reply = reply.with_context(|| format!("no answer: {name} {qtype}"))?;
            let reply = Reply::parse(&reply)?;
            repeated += tries - 1;
            ensure!(
                reply.rcode == rcode && reply.answers.len() == count,
                "{name} {qtype}: {reply}"
            );
        }
        let counted = difference(&before, &daemon.counters()?);
        let of = |name: &str| counted.get(name).copied().unwrap_or(0);
        let answered = ["answered", "static", "nodata", "nxdomain"].map(of);
        let answered: u64 = answered.iter().sum();
        ensure!(
            answered <= QUESTIONS + repeated,
            "{answered} answers to {QUESTIONS} questions, {repeated} repeated"
        );
        Ok(answered.min(QUESTIONS))
    }

    /// Does something while the client is answered a hundred times a second, by an echo that has nothing to do with the
    /// daemon. Gives the longest time without an answer.
    pub fn silence<T>(&self, act: impl FnOnce() -> Result<T>) -> Result<(T, Duration)> {
        let echo = Echo::new(&self.server)?;
        let pulse = Pulse::new(&self.client, ECHO, |number| number.to_be_bytes().into())?;
        pulse.beats(20)?;
        let done = act()?;
        pulse.beats(20)?;
        let (_, _, longest) = pulse.end()?;
        drop(echo);
        Ok((done, longest))
    }

    /// Does something while a hundred queries a second are asked. Gives how many were lost.
    pub fn lost<T>(&self, act: impl FnOnce() -> Result<T>) -> Result<(T, usize)> {
        let pulse = Pulse::new(&self.client, 53, |number| {
            let mut query = Query::new("www.example.org", A).bytes();
            query[..2].copy_from_slice(&number.to_be_bytes());
            query
        })?;
        pulse.beats(50)?;
        let done = act()?;
        pulse.beats(50)?;
        let (sent, answered, _) = pulse.end()?;
        Ok((done, sent - answered))
    }

    /// Runs ethtool on an interface of the server: `false` if the driver refuses.
    pub fn ethtool(&self, words: &str) -> Result<bool> {
        let mut ethtool = self.server.command("ethtool");
        Ok(output(ethtool.args(words.split_whitespace()))?
            .status
            .success())
    }

    /// The value that ethtool shows as an interface's present one: of its channels (`-l`), of its rings (`-g`).
    pub fn present(&self, shown_by: &str, name: &str) -> Result<Option<u32>> {
        let mut ethtool = self.server.command("ethtool");
        let told = output(ethtool.args([shown_by, "eth0"]))?.stdout;
        let told = String::from_utf8_lossy(&told).into_owned();
        let present = told.split("Current hardware settings:").nth(1);
        let value = present.unwrap_or_default().lines().find_map(|line| {
            let (of, value) = line.split_once(':')?;
            (of.trim() == name).then(|| value.trim().parse().ok())?
        });
        Ok(value)
    }

    /// How often the carrier of the server's `eth0` came or went.
    pub fn carrier_changes(&self) -> Result<u64> {
        let changes = &self.shown()?["stats64"]["tx"]["carrier_changes"];
        changes.as_u64().context("no count of carrier changes")
    }

    /// The MTU of the server's `eth0`.
    pub fn mtu(&self) -> Result<u64> {
        self.shown()?["mtu"].as_u64().context("no MTU")
    }

    /// The server's `eth0`, as `ip` shows it.
    fn shown(&self) -> Result<serde_json::Value> {
        let shown = self.server.ip("-s -s -d -j link show dev eth0")?;
        let mut shown: serde_json::Value = serde_json::from_str(&shown)?;
        Ok(shown[0].take())
    }

    /// The driver of an interface of the server.
    pub fn driver(&self, interface: &str) -> Result<String> {
        let told = run(self.server.command("ethtool").args(["-i", interface]))?;
        let driver = told.lines().find_map(|line| line.strip_prefix("driver: "));
        Ok(driver.context("ethtool names no driver")?.to_owned())
    }
}

/// Asks for as long as it takes: a card that is reset loses queries. Gives how often, too.
fn ask_again(socket: &UdpSocket, query: &Query) -> Result<(Option<Vec<u8>>, u64)> {
    let end = Instant::now() + PATIENCE;
    let mut tries = 0;
    while Instant::now() < end {
        tries += 1;
        if let Ok(Some(reply)) = dns::ask(socket, &query.bytes(), Duration::from_secs(2)) {
            return Ok((Some(reply), tries));
        }
    }
    Ok((None, tries))
}

/// An address on an interface, as `ip address add` takes it.
fn on(address: &str, interface: &str) -> String {
    match address.contains(':') {
        true => format!("{address}/64 dev {interface} nodad"),
        false => format!("{address}/24 dev {interface}"),
    }
}

/// The interface of this namespace that has a MAC address for good.
fn interface_of(mac: &str) -> Result<Option<String>> {
    for entry in std::fs::read_dir("/sys/class/net")?.flatten() {
        let address = std::fs::read_to_string(entry.path().join("address")).unwrap_or_default();
        if address.trim() == mac {
            return Ok(entry.file_name().to_str().map(str::to_owned));
        }
    }
    Ok(None)
}

/// Sends back what it gets, until it is dropped.
struct Echo(Arc<AtomicBool>, Option<JoinHandle<()>>);

impl Echo {
    fn new(space: &Space) -> Result<Self> {
        let socket = space.enter(|| Ok(UdpSocket::bind(("::", ECHO))?))?;
        socket.set_read_timeout(Some(Duration::from_millis(100)))?;
        let over = Arc::new(AtomicBool::new(false));
        let until = over.clone();
        let thread = std::thread::spawn(move || {
            let mut buffer = [0; 64];
            while !until.load(Ordering::Relaxed) {
                if let Ok((length, from)) = socket.recv_from(&mut buffer) {
                    let _ = socket.send_to(&buffer[..length], from);
                }
            }
        });
        Ok(Self(over, Some(thread)))
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
        if let Some(thread) = self.1.take() {
            let _ = thread.join();
        }
    }
}

/// Messages that a client sends a hundred times a second, each beginning with a number that its answer repeats.
struct Pulse {
    over: Arc<AtomicBool>,
    heard: Arc<std::sync::Mutex<Heard>>,
    thread: Option<JoinHandle<Result<()>>>,
}

#[derive(Default)]
struct Heard {
    sent: BTreeSet<u16>,
    answered: BTreeSet<u16>,
    last: Option<Instant>,
    longest: Duration,
}

impl Pulse {
    fn new(
        client: &Space,
        port: u16,
        message: impl Fn(u16) -> Vec<u8> + Send + 'static,
    ) -> Result<Self> {
        let socket = client.udp(ip(CLIENT[0]), at(SERVER[0], port)?)?;
        let (over, heard) = (Arc::new(AtomicBool::new(false)), Arc::default());
        let (until, hearing): (_, Arc<std::sync::Mutex<Heard>>) =
            (over.clone(), Arc::clone(&heard));
        let thread = std::thread::spawn(move || {
            let mut buffer = [0; 1500];
            let mut number = 0u16;
            let mut due = Instant::now();
            // When it is over, only the last answers are waited for.
            let mut end = None;
            let is_waited_for = |end: Instant| {
                let heard = hearing.lock().expect("not poisoned");
                Instant::now() < end && !heard.sent.is_subset(&heard.answered)
            };
            while end.is_none_or(is_waited_for) {
                if until.load(Ordering::Relaxed) && end.is_none() {
                    end = Some(Instant::now() + Duration::from_secs(2));
                }
                if end.is_none() && Instant::now() >= due {
                    number += 1;
                    due += Duration::from_millis(10);
                    hearing.lock().expect("not poisoned").sent.insert(number);
                    // A link that is down is silence, too.
                    let _ = socket.send(&message(number));
                }
                let wait = due.saturating_duration_since(Instant::now());
                socket.set_read_timeout(Some(wait.max(Duration::from_millis(1))))?;
                if let Ok(2..) = socket.recv(&mut buffer) {
                    let now = Instant::now();
                    let mut heard = hearing.lock().expect("not poisoned");
                    heard
                        .answered
                        .insert(u16::from_be_bytes([buffer[0], buffer[1]]));
                    if let Some(last) = heard.last {
                        heard.longest = heard.longest.max(now - last);
                    }
                    heard.last = Some(now);
                }
            }
            Ok(())
        });
        Ok(Self {
            over,
            heard,
            thread: Some(thread),
        })
    }

    /// Waits until this many more are answered.
    fn beats(&self, count: usize) -> Result<()> {
        let answered = || self.heard.lock().expect("not poisoned").answered.len();
        let goal = answered() + count;
        until("the client is answered", || Ok(answered() >= goal))
    }

    /// How many were sent, how many of them answered, and the longest time between two answers.
    fn end(mut self) -> Result<(usize, usize, Duration)> {
        self.over.store(true, Ordering::Relaxed);
        let thread = self.thread.take().context("ended")?;
        thread.join().expect("no panic")?;
        let heard = self.heard.lock().expect("not poisoned");
        let answered = heard.answered.intersection(&heard.sent).count();
        Ok((heard.sent.len(), answered, heard.longest))
    }
}

impl Drop for Pulse {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        // Its socket keeps the client's namespace.
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

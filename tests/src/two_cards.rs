//! A server with two interfaces, on both of which the program answers, for tests of the stubs.

use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use aya::programs::Xdp;

use crate::built::rig_object;
use crate::daemon::{Daemon, Setup, difference};
use crate::dns::{self, A, Query, Reply};
use crate::net::{Pair, at, ip, join, unique};

/// The address on `eth0`.
pub const SERVER: &str = "192.0.2.53";
/// The address on `eth1`.
pub const OTHER: &str = "192.0.3.53";
/// The address that `www.example.org` has.
pub const AMS: &str = "192.0.2.10";
/// The time that an answer may take on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// The server and its clients, which take answers of `eth1` by this program of the rig.
pub fn pair(program: &str) -> Result<Pair> {
    let pair = Pair::new(&[])?;
    join(&pair.server, "eth1", &pair.client, "eth1")?;
    pair.server.ip("address add 192.0.3.53/24 dev eth1")?;
    pair.client.ip("address add 192.0.3.1/24 dev eth1")?;
    pair.client.attach("eth1", program)?;
    Ok(pair)
}

/// The configuration of its daemon.
pub fn setup(on_stop: &str) -> Setup {
    let mut setup = Setup::example(&[SERVER, OTHER]);
    setup.interfaces = vec!["eth0".into(), "eth1".into()];
    setup.on_stop = on_stop.into();
    setup
}

/// A socket of the client that is beside an address of the server.
pub fn socket(pair: &Pair, server: &str, port: u16) -> Result<UdpSocket> {
    let from = match server {
        SERVER => "192.0.2.1",
        _ => "192.0.3.1",
    };
    pair.client.udp(ip(from), at(server, port)?)
}

/// Asks for `www.example.org`, and wants its address.
pub fn ask(socket: &UdpSocket) -> Result<()> {
    let query = Query::new("www.example.org", A).bytes();
    let bytes = dns::ask(socket, &query, PATIENCE)?.context("a question was lost")?;
    let reply = Reply::parse(&bytes)?;
    ensure!(reply.of("A") == [AMS], "{reply}");
    Ok(())
}

/// Both interfaces are answered on, by the kernel.
pub fn is_answered(pair: &Pair, daemon: &Daemon) -> Result<()> {
    let before = daemon.counters()?;
    for server in [SERVER, OTHER] {
        ask(&socket(pair, server, 53)?)?;
    }
    let counted = difference(&before, &daemon.counters()?);
    ensure!(counted.get("answered") == Some(&2), "{counted:?}");
    Ok(())
}

/// The lines of `ip` about the programs on both interfaces.
pub fn attached(pair: &Pair) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for interface in ["eth0", "eth1"] {
        let shown = pair.server.ip(&format!("-d link show {interface}"))?;
        let line = shown.lines().find(|line| line.contains("prog/xdp"));
        found.extend(line.map(|line| line.trim().to_owned()));
    }
    Ok(found)
}

/// Asks on both interfaces, again and again, while N reloads are made. Each question must be answered.
pub fn lose_none_during(reloads: u32, pair: &Pair, daemon: &Daemon) -> Result<()> {
    let done = AtomicBool::new(false);
    let asked = std::thread::scope(|scope| {
        let askers = [SERVER, OTHER].map(|server| {
            let done = &done;
            scope.spawn(move || -> Result<u64> {
                let socket = socket(pair, server, 53)?;
                let mut asked = 0;
                while !done.load(Ordering::Relaxed) {
                    ask(&socket).with_context(|| format!("question {asked} to {server}"))?;
                    asked += 1;
                    std::thread::sleep(Duration::from_millis(10));
                }
                Ok(asked)
            })
        });
        let changed = (0..reloads).try_for_each(|_| daemon.ok("reload").map(drop));
        done.store(true, Ordering::Relaxed);
        let asked = askers.map(|asker| asker.join().map_err(|_| anyhow!("an asker panicked"))?);
        changed?;
        let [one, other] = asked;
        anyhow::Ok([one?, other?])
    })?;
    println!("{asked:?} questions during {reloads} reloads, none lost");
    Ok(())
}

/// A program of the rig, pinned beside a daemon's pins.
pub struct Pinned(pub PathBuf);

impl Pinned {
    /// Loads and pins it.
    pub fn new(name: &str) -> Result<Self> {
        let path = Path::new("/sys/fs/bpf").join(unique("next"));
        let mut rig = aya::Ebpf::load(&rig_object()?)?;
        let program: &mut Xdp = rig.program_mut(name).context("none")?.try_into()?;
        program.load()?;
        program.pin(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

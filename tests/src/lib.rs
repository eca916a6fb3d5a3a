//! The library of tests, demo and benches: network namespaces, daemons in them, and questions byte by byte.
//!
//! - [`net`]: namespaces, veth pairs, VLANs, sockets and programs inside them
//! - [`world`]: configurations by name; [`real`]: those with the real prefix list and the real city databases
//! - [`built`]: the daemon and the eBPF objects that cargo has built
//! - [`daemon`]: `geodns run` with a configuration, a pin path and a socket of its own
//! - [`dns`]: queries, well-formed and not, and what came back
//! - [`packet`]: the same in Ethernet frames
//! - [`terminal`]: a program on a pseudo terminal, and what is to be seen there
//! - [`tap`]: frames sent and seen on an interface; [`ways`]: those that a query may come in
//! - [`rig`]: the loaded programs, without a daemon
//! - [`peers`]: other name servers; [`process`]: processes that end with us
//! - [`etcd`]: real etcd; [`fleet`]: daemons that share it; [`bundles`]: signed bundles
//! - [`conforms`]: rules that every store of shared state keeps; [`history`]: whether an order explains what callers saw
//! - [`sites`]: sites with one anycast address, their routers, and clients
//! - [`cards`]: the network cards of a guest
//! - [`primary`]: a primary that says whatever it is told to
//! - [`mmdb`]: small GeoIP databases
//! - [`web`]: mirrors' web servers, good and broken; [`authority`]: their certificates
//! - [`cases`]: tables in which each case is a test
//! - [`crowd`]: clients that hold all the connections they can
//! - [`mutate`]: queries with something wrong, by the million
//! - [`twins`]: a daemon with the program and one without, asked the same
//! - [`two_cards`]: a server that answers on two interfaces
//!
//! Everything made here is named after the process that made it and goes when it is dropped; what
//! a killed process left behind is swept by the next.

pub mod authority;
pub mod built;
pub mod bundles;
pub mod cards;
pub mod cases;
pub mod conforms;
pub mod crowd;
pub mod daemon;
pub mod dns;
pub mod etcd;
pub mod fleet;
pub mod history;
pub mod mmdb;
pub mod mutate;
pub mod net;
pub mod packet;
pub mod peers;
pub mod primary;
pub mod process;
pub mod real;
pub mod rig;
pub mod sites;
pub mod tap;
pub mod terminal;
pub mod twins;
pub mod two_cards;
pub mod ways;
pub mod web;
pub mod world;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

/// How long anything that must come may take, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until something holds that must come.
pub fn until(what: &str, mut holds: impl FnMut() -> Result<bool>) -> Result<()> {
    let end = Instant::now() + PATIENCE;
    while !holds()? {
        ensure!(Instant::now() < end, "not within {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// The real prefix list that `cargo xtask data` derives, if it is in the cache.
pub fn real_prefixes() -> Option<PathBuf> {
    let list = cache()?.join("data/prefixes-v4.csv");
    list.is_file().then_some(list)
}

/// The real city databases that `cargo xtask data` fetches, IPv4 and IPv6, if they are in the cache.
pub fn real_databases() -> Option<[PathBuf; 2]> {
    let folder = cache()?.join("data/dbip-city-mmdb");
    let files = ["ipv4", "ipv6"].map(|family| folder.join(format!("dbip-city-{family}.mmdb")));
    files.iter().all(|file| file.is_file()).then_some(files)
}

/// All databases that `cargo xtask data` fetches, each of which says countries, if they are in the cache.
pub fn real_country_databases() -> Option<Vec<PathBuf>> {
    const PACKAGES: [&str; 3] = ["dbip-city", "geo-whois-asn-country", "iptoasn-country"];
    let data = cache()?.join("data");
    let files = PACKAGES.iter().flat_map(|package| {
        let folder = data.join(format!("{package}-mmdb"));
        ["ipv4", "ipv6"].map(|family| folder.join(format!("{package}-{family}.mmdb")))
    });
    let files: Vec<PathBuf> = files.collect();
    files.iter().all(|file| file.is_file()).then_some(files)
}

/// A program of another server, which `cargo xtask test` puts in the cache (`knotd`, `nsd`,
/// `named`, `named-checkzone`, `kzonecheck`); else the one that is installed.
pub fn other_server(program: &str) -> Result<PathBuf> {
    let ours = cache().map(|cache| cache.join("servers").join(program));
    let installed = ["/usr/sbin", "/usr/bin"].map(|folder| PathBuf::from(folder).join(program));
    let mut places = ours.into_iter().chain(installed);
    places
        .find(|path| path.is_file())
        .with_context(|| format!("there is no {program}: run `cargo xtask test`, which fetches it"))
}

/// A Python program that `cargo xtask test` installs in the cache.
pub fn python_program(program: &str) -> Result<PathBuf> {
    python("python", program, "cargo xtask test")
}

/// A Python program that `cargo xtask bench` installs in the cache, to measure it beside ours.
pub fn python_peer(program: &str) -> Result<PathBuf> {
    python("python-peers", program, "cargo xtask bench fleet")
}

fn python(environment: &str, program: &str, installed_by: &str) -> Result<PathBuf> {
    let path = cache().map(|cache| cache.join(environment).join("bin").join(program));
    path.filter(|path| path.is_file())
        .with_context(|| format!("there is no {program}: run `{installed_by}`, which installs it"))
}

/// Whether the tests of a fleet may take minutes: `cargo xtask test --fleet`. A test that is too long otherwise says so:
/// `skipped(test, "cargo xtask test --fleet")`.
pub fn fleet_takes_minutes() -> bool {
    std::env::var_os("GEODNS_FLEET").is_some()
}

fn cache() -> Option<PathBuf> {
    let folder = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    folder("GEODNS_CACHE")
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(folder("XDG_CACHE_HOME")?).join("geodns")))
        .or_else(|| Some(PathBuf::from(folder("HOME")?).join(".cache/geodns")))
}

/// Whether a test that needs root may run. Without root it says so, and in CI it fails.
pub fn privileged(test: &str) -> bool {
    if nix::unistd::geteuid().is_root() {
        return true;
    }
    assert!(
        std::env::var_os("CI").is_none(),
        "{test} needs root, and nothing is skipped in CI"
    );
    skipped(test, "needs root");
    false
}

/// Says that a test was skipped, and why.
pub fn skipped(test: &str, why: &str) {
    eprintln!("SKIPPED, {why}: {test}");
    // The output of a test that passes is not shown: `cargo xtask test` reads this.
    if let Some(skips) = std::env::var_os("GEODNS_SKIPS") {
        std::fs::OpenOptions::new()
            .append(true)
            .create(true)
            .open(skips)
            .and_then(|mut file| {
                std::io::Write::write_all(&mut file, format!("{test}: {why}\n").as_bytes())
            })
            .expect("a skip is noted");
    }
}

/// Returns from a test that needs root when there is none, saying which it was.
#[macro_export]
macro_rules! needs_root {
    () => {
        if !$crate::privileged(&format!(
            "{} ({}:{})",
            std::thread::current().name().unwrap_or("?"),
            file!(),
            line!()
        )) {
            return Ok(());
        }
    };
}

//! Signed bundles, rolled out over three daemons through a real etcd.

use std::io::Cursor;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use geodns_tests::daemon::{Daemon, Setup};
use geodns_tests::dns::{Query, Reply, TXT};
use geodns_tests::etcd::{Cluster, Setup as EtcdSetup, Triangle};
use geodns_tests::needs_root;
use geodns_tests::net::{at, run};
use minisign::KeyPair;
use nix::sys::signal::Signal;

const PATIENCE: Duration = Duration::from_secs(60);

struct Fleet {
    cluster: Cluster,
    daemons: Vec<Daemon>,
    setups: Vec<Setup>,
    pair: KeyPair,
    folder: tempfile::TempDir,
}

impl Fleet {
    fn new() -> Result<Self> {
        let cluster = Cluster::three(EtcdSetup::default())?;
        let pair = KeyPair::generate_unencrypted_keypair()?;
        let section = cluster.section("test");
        let mut fleet = Self {
            cluster,
            daemons: Vec::new(),
            setups: Vec::new(),
            folder: tempfile::tempdir()?,
            pair,
        };
        for number in 1..=3 {
            let address = Triangle::address(number).to_string();
            let mut setup = Setup::example(&[&address]).mode("off");
            setup.server = format!("identity = \"n{number}\"\n");
            let keys = format!("trusted_keys = [{:?}]\n", fleet.pair.pk.to_base64());
            let setup = setup.and(&format!("\n{section}\n{keys}"));
            let space = &fleet.cluster.triangle().spaces[usize::from(number) - 1];
            let daemon = Daemon::start(space, &setup)?;
            daemon.ok(match number {
                1 => "fleet init",
                _ => "fleet join --yes",
            })?;
            fleet.daemons.push(daemon);
            fleet.setups.push(setup);
        }
        let nodes = |daemon: &Daemon| {
            Ok(daemon.json("fleet status")?["nodes"]
                .as_array()
                .map(Vec::len)
                == Some(3))
        };
        for daemon in &fleet.daemons {
            until("three nodes", || nodes(daemon))?;
        }
        Ok(fleet)
    }

    /// A signed bundle whose zone has a text.
    fn bundle(&self, serial: u64, text: &str) -> Result<PathBuf> {
        self.bundle_with(serial, |zone| {
            format!("{zone}\nbundle 60 IN TXT {text:?}\n")
        })
    }

    fn bundle_with(&self, serial: u64, change: impl Fn(String) -> String) -> Result<PathBuf> {
        let folder = self.folder.path().join(serial.to_string());
        std::fs::create_dir_all(&folder)?;
        let setup = Setup::example(&["10.77.0.9"]);
        for (name, content) in &setup.files {
            std::fs::write(folder.join(name), content)?;
        }
        let zone = folder.join("example.org.zone");
        let content = change(std::fs::read_to_string(&zone)?);
        std::fs::write(&zone, content)?;
        let configuration = format!("[kernel]\nmode = \"off\"\n{}", setup.body);
        std::fs::write(folder.join("geodns.toml"), configuration)?;
        let file = folder.join("a.bundle");
        let mut pack = std::process::Command::new(geodns_tests::built::binary()?);
        pack.args([
            "fleet",
            "bundle",
            "pack",
            "--serial",
            &serial.to_string(),
            "-o",
        ]);
        run(pack
            .arg(&file)
            .arg("--config")
            .arg(folder.join("geodns.toml")))?;
        let octets = std::fs::read(&file)?;
        let signature = minisign::sign(None, &self.pair.sk, Cursor::new(octets), None, None)?;
        std::fs::write(folder.join("a.bundle.minisig"), signature.into_string())?;
        Ok(file)
    }

    /// The text that a node answers with.
    fn text(&self, node: usize) -> Result<String> {
        let space = &self.cluster.triangle().spaces[node];
        let address = Triangle::address(node as u8 + 1);
        let socket = space.udp(address, at(&address.to_string(), 53)?)?;
        let query = Query::new("bundle.example.org", TXT).bytes();
        let reply = geodns_tests::dns::ask(&socket, &query, Duration::from_secs(5))?;
        let reply = Reply::parse(&reply.context("no answer")?)?;
        Ok(format!("{:?}", reply.answers))
    }

    fn all_say(&self, text: &str) -> Result<()> {
        for node in 0..3 {
            until("the text", || Ok(self.text(node)?.contains(text)))
                .with_context(|| format!("n{}: {}", node + 1, self.daemons[node].log()))?;
        }
        Ok(())
    }
}

fn until(what: &str, mut is: impl FnMut() -> Result<bool>) -> Result<()> {
    let end = Instant::now() + PATIENCE;
    while !is()? {
        ensure!(Instant::now() < end, "not within {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

#[test]
fn a_bundle_reaches_all_and_rolls_back_and_a_bad_one_reaches_nobody() -> Result<()> {
    needs_root!();
    let mut fleet = Fleet::new()?;
    let first = fleet.bundle(1, "first")?;
    let second = fleet.bundle(2, "second")?;
    let apply = |fleet: &Fleet, file: &PathBuf, options: &str| {
        let file = file.display();
        let words = format!("fleet apply {file} {options}");
        fleet.daemons[0].cli(words.split_whitespace())
    };
    let started = Instant::now();
    let done = apply(&fleet, &first, "--wait 1s")?;
    ensure!(
        done.status.success(),
        "{done:?}\n{}",
        fleet.daemons[0].log()
    );
    println!("applied within {:?}", started.elapsed());
    fleet.all_say("first")?;
    let done = apply(&fleet, &second, "--wait 1s")?;
    ensure!(done.status.success(), "{done:?}");
    fleet.all_say("second")?;

    // An older one, a damaged one, and one of a stranger.
    let refused = |output: std::process::Output, why: &str| {
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(!output.status.success() && said.contains(why), "{said}");
        Ok(())
    };
    refused(
        apply(&fleet, &first, "")?,
        "the bundle has serial 1, and bundle 2 is in force",
    )?;
    let damaged = fleet.bundle(3, "third")?;
    let mut octets = std::fs::read(&damaged)?;
    octets[600] ^= 1;
    std::fs::write(&damaged, octets)?;
    refused(
        apply(&fleet, &damaged, "")?,
        "the signature is not one of this bundle",
    )?;
    let own = std::mem::replace(&mut fleet.pair, KeyPair::generate_unencrypted_keypair()?);
    let strange = fleet.bundle(4, "fourth")?;
    refused(
        apply(&fleet, &strange, "")?,
        "is signed by a key that is not in fleet.trusted_keys",
    )?;
    fleet.pair = own;

    // One that no node can read, and one that moves too many.
    let bad = fleet.bundle_with(5, |_| "nonsense\n".to_owned())?;
    refused(apply(&fleet, &bad, "")?, "refused")?;
    fleet.all_say("second")?;

    // A node that was away takes the newest when it is back.
    fleet.daemons[2].end(Signal::SIGKILL)?;
    let third = fleet.bundle(7, "third")?;
    until("n3 is gone", || {
        let nodes = fleet.daemons[0].json("fleet status")?;
        Ok(nodes["nodes"].as_array().map(Vec::len) == Some(2))
    })?;
    let done = apply(&fleet, &third, "--wait 1s")?;
    ensure!(done.status.success(), "{done:?}");
    let space = &fleet.cluster.triangle().spaces[2];
    fleet.daemons[2].again(space, &fleet.setups[2])?;
    fleet.all_say("third")?;

    let started = Instant::now();
    fleet.daemons[1].ok("fleet rollback")?;
    println!("rolled back within {:?}", started.elapsed());
    fleet.all_say("second")?;
    let history = fleet.daemons[2].json("fleet history")?;
    let count = history["history"].as_array().map_or(0, Vec::len);
    ensure!(count == 5, "{history}");
    // It is what runs after a restart, too.
    fleet.daemons[1].stop()?;
    let space = &fleet.cluster.triangle().spaces[1];
    fleet.daemons[1].again(space, &fleet.setups[1])?;
    fleet.all_say("second")?;
    Ok(())
}

//! Signed bundles, rolled out over three daemons through a real etcd: good ones, bad ones, and whatever happens meanwhile.

use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use geodns::base::sha256::sha256;
use geodns_tests::bundles::Bundles;
use geodns_tests::daemon::{Daemon, Setup};
use geodns_tests::dns::{self, Query, Reply, TXT};
use geodns_tests::etcd::{Cluster, Setup as EtcdSetup, Triangle};
use geodns_tests::mmdb::Writer;
use geodns_tests::net::{at, run};
use geodns_tests::{needs_root, until};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

/// A rollout that begins goes on until it is taken back.
const ENDLESS: &str = "--wait 10m --within 10m";

struct Fleet {
    cluster: Cluster,
    daemons: Vec<Daemon>,
    setups: Vec<Setup>,
    bundles: Bundles,
}

impl Fleet {
    /// Three nodes. Those that run a first bundle say "first".
    fn new() -> Result<Self> {
        let cluster = Cluster::three(EtcdSetup::default())?;
        let bundles = Bundles::new()?;
        let section = cluster.section("test");
        let keys = bundles.trusted_keys();
        let mut fleet = Self {
            cluster,
            daemons: Vec::new(),
            setups: Vec::new(),
            bundles,
        };
        for number in 1..=3 {
            let address = Triangle::address(number).to_string();
            let mut setup = Setup::example(&[&address]).mode("off");
            setup.server = format!("identity = \"n{number}\"\n");
            let mut setup = setup.and(&format!("\n{section}\n{keys}"));
            let faults = fleet.cluster.file(&format!("faults{number}"));
            let faults = ("GEODNS_FAULTS".to_owned(), faults.display().to_string());
            setup.environment.push(faults);
            let space = &fleet.cluster.triangle().spaces[usize::from(number) - 1];
            let daemon = Daemon::start(space, &setup)?;
            daemon.ok(match number {
                1 => "fleet init",
                _ => "fleet join --yes",
            })?;
            fleet.daemons.push(daemon);
            fleet.setups.push(setup);
        }
        for daemon in &fleet.daemons {
            until("three nodes", || Ok(nodes(daemon)? == 3))?;
        }
        Ok(fleet)
    }

    /// Three nodes that run a first bundle.
    fn with_first() -> Result<Self> {
        let fleet = Self::new()?;
        let first = fleet.bundle(1, "first")?;
        fleet.applied(&first)?;
        fleet.all_say("first")?;
        Ok(fleet)
    }

    /// A signed bundle whose zone has a text.
    fn bundle(&self, serial: u64, text: &str) -> Result<PathBuf> {
        self.bundle_with(serial, |zone| {
            format!("{zone}\nbundle 60 IN TXT {text:?}\n")
        })
    }

    fn bundle_with(&self, serial: u64, change: impl Fn(String) -> String) -> Result<PathBuf> {
        let mut setup = Setup::example(&[]);
        for (name, content) in &mut setup.files {
            if name == "example.org.zone" {
                *content = change(String::from_utf8(std::mem::take(content))?).into_bytes();
            }
        }
        self.bundles.make(serial, &setup)
    }

    /// `geodns fleet apply` at a node.
    fn apply(&self, node: usize, file: &Path, options: &str) -> Result<Output> {
        let words = format!("fleet apply {} {options}", file.display());
        self.daemons[node].cli(words.split_whitespace())
    }

    /// Applies a bundle, which must reach all.
    fn applied(&self, file: &Path) -> Result<()> {
        let done = self.apply(0, file, "--wait 0s")?;
        let log = || self.daemons[0].log();
        ensure!(done.status.success(), "{done:?}\n{}", log());
        Ok(())
    }

    /// Applies a bundle, which must be refused with this line.
    fn refused(&self, file: &Path, options: &str, why: &str) -> Result<()> {
        let output = self.apply(0, file, options)?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        println!("{said}");
        ensure!(!output.status.success() && said.contains(why), "{said}");
        Ok(())
    }

    /// Begins an endless rollout, and waits until the canary, which is the first node, runs the bundle.
    fn begin(&self, file: &Path) -> Result<()> {
        let begun = self.apply(0, file, &format!("{ENDLESS} --detach"))?;
        ensure!(begun.status.success(), "{begun:?}");
        until("the canary runs it", || self.canary_runs())
    }

    fn canary_runs(&self) -> Result<bool> {
        let rollout = self.daemons[1].ok("fleet rollout")?;
        let mut canary = rollout.lines().filter(|line| line.starts_with("n1 "));
        Ok(canary.any(|line| line.contains("runs it")))
    }

    /// Waits for the end of the last rollout, as the second node sees it. Why it was taken back.
    fn taken_back(&self) -> Result<String> {
        let mut why = String::new();
        until("the rollout is taken back", || {
            let rollouts = self.daemons[1].json("fleet rollout")?;
            let current = &rollouts["current"];
            current["why"]
                .as_str()
                .unwrap_or_default()
                .clone_into(&mut why);
            Ok(current["stage"] == "back")
        })
        .with_context(|| self.daemons[1].ok("fleet rollout").unwrap_or_default())?;
        Ok(why)
    }

    /// A socket to a node, in its namespace.
    fn socket(&self, node: usize) -> Result<UdpSocket> {
        let space = &self.cluster.triangle().spaces[node];
        let address = Triangle::address(node as u8 + 1);
        space.udp(address, at(&address.to_string(), 53)?)
    }

    /// The text that a node answers with.
    fn text(&self, node: usize) -> Result<String> {
        let query = Query::new("bundle.example.org", TXT).bytes();
        let reply = dns::ask(&self.socket(node)?, &query, Duration::from_secs(30))?;
        let reply = Reply::parse(&reply.context("no answer")?)?;
        Ok(format!("{:?}", reply.answers))
    }

    fn says(&self, node: usize, text: &str) -> Result<()> {
        until(text, || Ok(self.text(node)?.contains(text)))
            .with_context(|| format!("n{}: {}", node + 1, self.daemons[node].log()))
    }

    fn all_say(&self, text: &str) -> Result<()> {
        (0..3).try_for_each(|node| self.says(node, text))
    }

    /// How often a node has begun to run a bundle.
    fn runs(&self, node: usize, file: &Path) -> Result<usize> {
        let id = &sha256(&std::fs::read(file)?)[..16];
        let line = format!("this node runs {id}");
        Ok(self.daemons[node].log().matches(&line).count())
    }

    /// No node but the canary has ever run a bundle.
    fn only_the_canary_ran(&self, file: &Path) -> Result<()> {
        for node in 1..3 {
            let log = || self.daemons[node].log();
            ensure!(self.runs(node, file)? == 0, "n{}: {}", node + 1, log());
            ensure!(self.text(node)?.contains("first"));
        }
        Ok(())
    }

    fn again(&mut self, node: usize) -> Result<()> {
        let space = &self.cluster.triangle().spaces[node];
        self.daemons[node].again(space, &self.setups[node])
    }
}

/// Nodes that live, as one of them sees it.
fn nodes(daemon: &Daemon) -> Result<usize> {
    let nodes = &daemon.json("fleet status")?["nodes"];
    Ok(nodes.as_array().map_or(0, Vec::len))
}

fn follows(daemon: &Daemon) -> Result<bool> {
    Ok(daemon.json("fleet status")?["state"] == "following")
}

#[test]
fn a_bundle_reaches_all_and_rolls_back_and_a_bad_one_reaches_nobody() -> Result<()> {
    needs_root!();
    let mut fleet = Fleet::new()?;
    let first = fleet.bundle(1, "first")?;
    let second = fleet.bundle(2, "second")?;
    fleet.applied(&first)?;
    fleet.all_say("first")?;
    let done = fleet.apply(0, &second, "--wait 1s")?;
    ensure!(done.status.success(), "{done:?}");
    fleet.all_say("second")?;

    // An older one, and one that no node can read.
    fleet.refused(
        &first,
        "",
        "the bundle has serial 1, and bundle 2 is in force",
    )?;
    let bad = fleet.bundle_with(5, |_| "nonsense\n".to_owned())?;
    fleet.refused(&bad, "", "refused")?;
    fleet.all_say("second")?;

    // A node that was away takes the newest when it is back.
    fleet.daemons[2].end(Signal::SIGKILL)?;
    let third = fleet.bundle(7, "third")?;
    until("n3 is gone", || Ok(nodes(&fleet.daemons[0])? == 2))?;
    fleet.applied(&third)?;
    fleet.again(2)?;
    fleet.all_say("third")?;

    // One that the preview refuses takes nothing away that a rollback needs.
    let moves = Setup::example(&[]).but("default = \"ams\"", "default = \"iad\"");
    let moves = fleet.bundles.make(9, &moves)?;
    fleet.refused(&moves, "--max-change 1%", "max-change")?;
    fleet.daemons[1].ok("fleet rollback")?;
    fleet.all_say("second")?;
    let history = fleet.daemons[2].json("fleet history")?;
    let count = history["history"].as_array().map_or(0, Vec::len);
    ensure!(count == 6, "{history}");
    // It is what runs after a restart, too.
    fleet.daemons[1].stop()?;
    fleet.again(1)?;
    fleet.all_say("second")
}

/// Whatever is wrong with a bundle is said in one line, and nothing changes.
#[test]
fn what_is_no_good_bundle_is_refused_in_a_line() -> Result<()> {
    needs_root!();
    let fleet = Fleet::with_first()?;
    let damaged = fleet.bundle(2, "damaged")?;
    let mut octets = std::fs::read(&damaged)?;
    octets[600] ^= 1;
    std::fs::write(&damaged, octets)?;
    fleet.refused(&damaged, "", "the signature is not one of this bundle")?;

    let strange = fleet.bundle(3, "strange")?;
    Bundles::new()?.sign(&strange)?;
    let stranger = "is signed by a key that is not in fleet.trusted_keys";
    fleet.refused(&strange, "", stranger)?;
    std::fs::remove_file(strange.with_extension("minisig"))?;
    fleet.refused(&strange, "", "minisig: cannot read")?;
    fleet.refused(Path::new("/nowhere"), "", "/nowhere: cannot read")?;

    let large = fleet.bundle(4, "large")?;
    std::fs::File::options()
        .write(true)
        .open(&large)?
        .set_len((64 << 20) + 1)?;
    fleet.refused(
        &large,
        "",
        "67108864 is the most: large zones come by transfers",
    )?;

    // Signed by somebody whom the fleet trusts, and made by hand.
    let config = "[server]\nlisten = [\"192.0.2.1\"]\n[kernel]\nmode = \"off\"\n[[zone]]\nname = \"example.org\"\n\
                  file = \"zone\"\n";
    let outside = by_hand(&fleet, "outside", &[("geodns.toml", config), ("../x", "x")])?;
    fleet.refused(&outside, "", "\"../x\" is no path of a file in a bundle")?;
    let lacking = by_hand(&fleet, "lacking", &[("geodns.toml", config)])?;
    fleet.refused(&lacking, "", "geodns.toml:6: zone.file: cannot read")?;

    let moving = fleet.bundle(100, "moving")?;
    fleet.refused(
        &moving,
        "--canary ams",
        "no node that lives is in canary \"ams\"",
    )?;
    fleet.all_say("first")?;
    Ok(())
}

#[test]
fn a_node_with_another_geoip_database_than_the_bundles_says_so() -> Result<()> {
    needs_root!();
    let fleet = Fleet::with_first()?;
    let path = fleet.cluster.file("city.mmdb");
    let database = |country: &str| -> Result<()> {
        let record = json!({ "country_code": country });
        let writer = Writer::new(true, &[("11.1.0.0/16", record)]);
        Ok(std::fs::write(&path, writer.bytes())?)
    };
    database("NL")?;
    let databases = format!("[geoip]\ndatabases = [{:?}]\n", path.display());
    let setup = Setup::example(&[]).and(&databases);
    let bundle = fleet.bundles.make(2, &setup)?;
    // It is renewed after that.
    database("DE")?;
    let done = fleet.apply(0, &bundle, "--wait 0s")?;
    let said = String::from_utf8_lossy(&done.stdout);
    let line = format!("{} is not the bundle's", path.display());
    ensure!(done.status.success() && said.contains(&line), "{done:?}");
    let diff = fleet.daemons[0].ok(&format!("fleet diff {}", bundle.display()))?;
    ensure!(diff == format!("! {}\n", path.display()), "{diff}");
    Ok(())
}

/// A signed archive of these files with a manifest that fits.
fn by_hand(fleet: &Fleet, name: &str, files: &[(&str, &str)]) -> Result<PathBuf> {
    let folder = fleet.cluster.file(name).join("below");
    std::fs::create_dir_all(&folder)?;
    let mut hashes = serde_json::Map::new();
    for (path, content) in files {
        std::fs::write(folder.join(path), content)?;
        hashes.insert((*path).to_owned(), sha256(content.as_bytes()).into());
    }
    let manifest = json!({ "version": 1, "serial": 99, "files": hashes });
    std::fs::write(folder.join("manifest.json"), manifest.to_string())?;
    let bundle = fleet.cluster.file(name).join("bundle");
    let mut tar = Command::new("tar");
    tar.arg("-C").arg(&folder).arg("-P").arg("-cf").arg(&bundle);
    run(tar
        .arg("manifest.json")
        .args(files.iter().map(|(path, _)| path)))?;
    fleet.bundles.sign(&bundle)?;
    Ok(bundle)
}

#[test]
fn a_canary_that_dies_of_a_bundle_goes_back_and_nobody_else_runs_it() -> Result<()> {
    needs_root!();
    let mut fleet = Fleet::with_first()?;
    // Somebody kills it.
    let second = fleet.bundle(2, "second")?;
    fleet.begin(&second)?;
    fleet.says(0, "second")?;
    fleet.daemons[0].crash()?;
    fleet.again(0)?;
    fleet.daemons[0].logged("was on trial: this node runs")?;
    fleet.says(0, "first")?;
    let why = fleet.taken_back()?;
    ensure!(
        why.contains("n1: the daemon ended")
            || why.contains("gone since it was told to run it: n1"),
        "{why}"
    );
    fleet.only_the_canary_ran(&second)?;

    // The bundle itself does.
    until("all follow", || Ok(nodes(&fleet.daemons[1])? == 3))?;
    let third = fleet.bundle(3, "third")?;
    std::fs::write(
        fleet.cluster.file("faults1"),
        "kill 1 fleet: a bundle in force",
    )?;
    let begun = fleet.apply(1, &third, &format!("{ENDLESS} --detach"))?;
    ensure!(begun.status.success(), "{begun:?}");
    fleet.daemons[0].wait()?;
    fleet.again(0)?;
    fleet.says(0, "first")?;
    let why = fleet.taken_back()?;
    ensure!(why.contains("n1"), "{why}");
    fleet.only_the_canary_ran(&third)?;
    let rollout = fleet.daemons[2].ok("fleet rollout")?;
    ensure!(
        rollout.contains("back: ") && rollout.contains("n1"),
        "{rollout}"
    );
    Ok(())
}

#[test]
fn a_trial_that_nobody_confirms_ends_by_itself() -> Result<()> {
    needs_root!();
    let fleet = Fleet::with_first()?;
    // The trial lasts for the wait and twice the time to run it. On a busy machine the canary may be accepted, or not be
    // there in time, before it is cut off.
    let mut serials = 2..8;
    let tried = loop {
        let serial = serials
            .next()
            .context("the canary was never cut off in time")?;
        let bundle = fleet.bundle(serial, &format!("trial {serial}"))?;
        let begun = fleet.apply(1, &bundle, "--wait 6s --within 4s --detach")?;
        ensure!(begun.status.success(), "{begun:?}");
        let is_over = || {
            let rollouts = fleet.daemons[1].json("fleet rollout")?;
            Ok(rollouts["current"]["is_over"] == true)
        };
        until("the canary runs it", || {
            Ok(fleet.canary_runs()? || is_over()?)
        })?;
        fleet.cluster.triangle().cut(1)?;
        until("its end", is_over)?;
        if fleet.runs(0, &bundle)? > 0 && fleet.runs(1, &bundle)? == 0 {
            break bundle;
        }
        fleet.cluster.triangle().heal(1)?;
        until("it follows", || follows(&fleet.daemons[0]))?;
        fleet.applied(&fleet.bundle(serial + 100, "first")?)?;
    };
    fleet.daemons[0].logged("no word of the fleet on the bundle on trial")?;
    fleet.says(0, "first")?;
    // It hears nothing still, and does not try the bundle again.
    std::thread::sleep(Duration::from_secs(2));
    ensure!(fleet.text(0)?.contains("first"));
    ensure!(fleet.runs(0, &tried)? == 1);
    let why = fleet.taken_back()?;
    ensure!(
        why.contains("gone since it was told to run it: n1"),
        "{why}"
    );
    fleet.cluster.triangle().heal(1)?;
    until("it follows", || follows(&fleet.daemons[0]))?;
    fleet.only_the_canary_ran(&tried)?;
    fleet.says(0, "first")?;
    ensure!(fleet.runs(0, &tried)? == 1);
    Ok(())
}

#[test]
fn a_bundle_that_answers_worse_is_taken_back() -> Result<()> {
    needs_root!();
    let fleet = Fleet::with_first()?;
    let ask = || -> Result<()> {
        let socket = fleet.socket(0)?;
        let query = Query::new("bundle.example.org", TXT).bytes();
        for _ in 0..150 {
            dns::ask(&socket, &query, Duration::from_secs(30))?.context("no answer")?;
        }
        Ok(())
    };
    ask()?;
    // The zone is gone, and with it every client of its names.
    let mut setup = Setup::example(&[]);
    setup.body = "[[zone]]\nname = \"example.net\"\nfile = \"example.net.zone\"\n".to_owned();
    let zone = "$ORIGIN example.net.\n@ 60 IN SOA ns admin 1 2 3 4 5\n@ 60 IN NS ns\nns 60 IN A 192.0.2.1\n";
    setup.files = vec![("example.net.zone".to_owned(), zone.into())];
    let second = fleet.bundles.make(2, &setup)?;
    fleet.refused(
        &second,
        "",
        "it moves 100.0 % of the clients of www.example.org.",
    )?;
    let begun = fleet.apply(0, &second, &format!("{ENDLESS} --max-change 100% --detach"))?;
    ensure!(begun.status.success(), "{begun:?}");
    until("the canary runs it", || fleet.canary_runs())?;
    ask()?;
    let why = fleet.taken_back()?;
    ensure!(
        why.contains("answers are SERVFAIL or REFUSED, and before it were 0.0 %"),
        "{why}"
    );
    fleet.all_say("first")?;
    fleet.only_the_canary_ran(&second)
}

#[test]
fn a_node_that_was_cut_off_takes_the_newest_and_none_of_those_between() -> Result<()> {
    needs_root!();
    let fleet = Fleet::with_first()?;
    fleet.cluster.triangle().cut(3)?;
    until("n3 is gone", || Ok(nodes(&fleet.daemons[0])? == 2))?;
    let second = fleet.bundle(2, "second")?;
    let third = fleet.bundle(3, "third")?;
    fleet.applied(&second)?;
    fleet.applied(&third)?;
    ensure!(fleet.text(2)?.contains("first"));
    fleet.cluster.triangle().heal(3)?;
    fleet.all_say("third")?;
    ensure!((fleet.runs(2, &second)?, fleet.runs(2, &third)?) == (0, 1));
    Ok(())
}

#[test]
fn of_two_operators_one_is_first_and_a_command_that_is_interrupted_stops_nothing() -> Result<()> {
    needs_root!();
    let fleet = Fleet::with_first()?;
    let bundles = [fleet.bundle(2, "second")?, fleet.bundle(3, "third")?];
    let outputs = std::thread::scope(|scope| {
        let apply = |node: usize| {
            let (fleet, file) = (&fleet, &bundles[node]);
            scope.spawn(move || fleet.apply(node, file, &format!("{ENDLESS} --detach")))
        };
        let both = [apply(0), apply(1)];
        both.map(|thread| thread.join().expect("no panic"))
    });
    let [one, other] = outputs;
    let (one, other) = (one?, other?);
    ensure!(
        one.status.success() != other.status.success(),
        "{one:?}\n{other:?}"
    );
    let late = if one.status.success() { other } else { one };
    let said = String::from_utf8_lossy(&late.stderr);
    println!("{said}");
    ensure!(
        said.contains("nothing has changed: another rollout came first")
            || said
                .contains("rollout 2 is under way: wait for its end, or `geodns fleet rollback`"),
        "{said}"
    );
    fleet.daemons[2].ok("fleet rollback")?;
    fleet.all_say("first")?;

    // Ctrl-C.
    let fourth = fleet.bundle(4, "fourth")?;
    let mut apply = Command::new(geodns_tests::built::binary()?);
    apply.arg("--socket").arg(fleet.daemons[0].home.socket());
    apply.args(["fleet", "apply"]).arg(&fourth);
    let apply = apply
        .args(ENDLESS.split_whitespace())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    until("the canary runs it", || fleet.canary_runs())?;
    kill(Pid::from_raw(i32::try_from(apply.id())?), Signal::SIGINT)?;
    let output = apply.wait_with_output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    println!("{said}");
    ensure!(
        !output.status.success() && said.contains("rollout 3 goes on without this command"),
        "{output:?}"
    );
    let rollout = fleet.daemons[1].ok("fleet rollout")?;
    println!("{rollout}");
    ensure!(rollout.contains("wave 1 of "), "{rollout}");
    fleet.says(0, "fourth")?;
    fleet.daemons[0].ok("fleet rollback")?;
    fleet.all_say("first")
}

//! Daemons that share what operators say through a real etcd: edits, partitions, crashes, and those who come and go.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use geodns_tests::daemon::{Daemon, Setup};
use geodns_tests::dns::{A, Query, Reply};
use geodns_tests::etcd::{Cluster, Setup as EtcdSetup, Triangle};
use geodns_tests::net::at;
use geodns_tests::{needs_root, until};
use nix::sys::signal::Signal;

const PREFIX: &str = "10.77.0.0/16";

/// Three sites, each with a member of etcd and a daemon.
struct Fleet {
    cluster: Cluster,
    daemons: Vec<Daemon>,
    setups: Vec<Setup>,
}

impl Fleet {
    /// Nobody has made the fleet yet.
    fn alone() -> Result<Self> {
        let cluster = Cluster::three(EtcdSetup::default())?;
        let mut fleet = Self {
            cluster,
            daemons: Vec::new(),
            setups: Vec::new(),
        };
        for number in 1..=3 {
            let setup = fleet.setup(number, &format!("n{number}"));
            let space = &fleet.cluster.triangle().spaces[usize::from(number) - 1];
            fleet.daemons.push(Daemon::start(space, &setup)?);
            fleet.setups.push(setup);
        }
        Ok(fleet)
    }

    fn joined() -> Result<Self> {
        let fleet = Self::alone()?;
        fleet.daemons[0].ok("fleet init")?;
        for daemon in &fleet.daemons[1..] {
            daemon.ok("fleet join --yes")?;
        }
        fleet.settled()?;
        Ok(fleet)
    }

    fn setup(&self, number: u8, name: &str) -> Setup {
        let address = Triangle::address(number).to_string();
        let mut setup = Setup::example(&[&address]).mode("off");
        setup.server = format!("identity = {name:?}\n");
        setup.and(&format!("\n{}", self.cluster.section("test")))
    }

    /// Waits until each node follows, and all of them have one plan.
    fn settled(&self) -> Result<()> {
        for daemon in &self.daemons {
            until("one plan everywhere", || {
                let fleet = daemon.json("fleet status")?;
                let nodes = fleet["nodes"].as_array().context("no nodes")?;
                let same = nodes.windows(2).all(|two| two[0]["plan"] == two[1]["plan"]);
                Ok(fleet["state"] == "following" && nodes.len() == 3 && same)
            })
            .with_context(|| self.shown())?;
        }
        Ok(())
    }

    /// All nodes, as they see the fleet, and their logs: for a test that fails.
    fn shown(&self) -> String {
        let daemons = self.daemons.iter();
        let shown = daemons.map(|daemon| {
            let status = daemon.ok("fleet status").unwrap_or_default();
            format!("{status}\n{}\n", daemon.log())
        });
        shown.collect()
    }

    /// The mirror that a node sends a client of the triangle to.
    fn answer(&self, number: usize) -> Result<String> {
        let space = &self.cluster.triangle().spaces[number];
        let address = Triangle::address(number as u8 + 1);
        let socket = space.udp(address, at(&address.to_string(), 53)?)?;
        let query = Query::new("www.example.org", A).bytes();
        let reply = geodns_tests::dns::ask(&socket, &query, Duration::from_secs(1))?;
        let reply = Reply::parse(&reply.context("no answer")?)?;
        Ok(reply.addresses())
    }

    fn again(&mut self, number: usize) -> Result<()> {
        let space = &self.cluster.triangle().spaces[number];
        self.daemons[number].again(space, &self.setups[number])
    }
}

fn overrides(daemon: &Daemon) -> Result<String> {
    daemon.ok("map list --json")
}

// Invariant 8
#[test]
fn an_edit_of_one_node_is_answered_by_all() -> Result<()> {
    needs_root!();
    let fleet = Fleet::joined()?;
    let [one, two, three] = &fleet.daemons[..] else {
        unreachable!()
    };
    for (mirror, daemon) in [("iad", one), ("sin", two), ("ams", three), ("iad", two)] {
        daemon.ok(&format!("map set {PREFIX} {mirror} --wait all"))?;
        let answers: Vec<String> = (0..3)
            .map(|number| fleet.answer(number))
            .collect::<Result<_>>()?;
        ensure!(
            answers.iter().all(|answer| *answer == answers[0]),
            "{answers:?}"
        );
        let list = overrides(one)?;
        ensure!(list.contains(mirror), "{list}");
    }
    // Every kind of thing.
    two.ok("mirror down sin --wait all")?;
    three.ok("block add --name evil.test --wait all")?;
    one.ok("acme set www.example.org token --wait all")?;
    for daemon in &fleet.daemons {
        let mirrors = daemon.json("mirror list")?;
        let mirrors = mirrors.as_array().context("no mirrors")?;
        let down = mirrors
            .iter()
            .filter(|mirror| mirror["in_service"] == false);
        ensure!(down.count() == 1, "{mirrors:?}");
        ensure!(daemon.ok("block list")?.contains("evil.test"));
        ensure!(daemon.ok("acme list")?.contains("token"));
    }
    let import = fleet.cluster.file("import.csv");
    std::fs::write(&import, "prefix,mirror\n203.0.113.0/24,iad\n")?;
    three.ok(&format!("map import {} --wait all", import.display()))?;
    for daemon in &fleet.daemons {
        let export = daemon.ok("map export")?;
        ensure!(export.contains("203.0.113.0/24,iad"), "{export}");
    }
    one.ok("acme clear www.example.org --wait all")?;
    two.ok("mirror auto sin --wait all")?;
    fleet.settled()?;
    let status = one.ok("fleet status")?;
    ensure!(!status.contains('!'), "{status}");
    let line = one.ok("status")?;
    ensure!(
        line.contains("test, 3 nodes: this one has all changes"),
        "{line}"
    );
    Ok(())
}

#[test]
fn without_a_majority_answers_go_on_and_edits_are_refused_at_once() -> Result<()> {
    needs_root!();
    let fleet = Fleet::joined()?;
    fleet.daemons[0].ok(&format!("map set {PREFIX} iad --wait all"))?;
    let before = fleet.answer(2)?;
    fleet.cluster.triangle().cut(3)?;
    until("the node knows that it is cut off", || {
        Ok(fleet.daemons[2].json("fleet status")?["state"] == "disconnected")
    })?;
    let started = Instant::now();
    let (_, why) = fleet.daemons[2].fails(&format!("map set {PREFIX} sin"))?;
    ensure!(
        started.elapsed() < Duration::from_secs(2),
        "{:?}",
        started.elapsed()
    );
    ensure!(
        why.contains("nothing has changed: the fleet's store is of no use for"),
        "{why}"
    );
    ensure!(fleet.answer(2)? == before);
    // This node alone, for an emergency.
    let prefix = "192.0.2.0/24";
    fleet.daemons[2].ok(&format!("map set {PREFIX} sin --local"))?;
    fleet.daemons[2].ok(&format!("map set {prefix} sin --local"))?;
    ensure!(fleet.answer(2)? != before);
    ensure!(
        fleet.daemons[2]
            .ok("fleet status")?
            .contains("override/www/10.77.0.0%2F16")
    );
    ensure!(fleet.daemons[2].ok("map list")?.contains("this node"));
    // The others go on.
    fleet.daemons[0].ok(&format!("map set {PREFIX} ams"))?;
    fleet.daemons[1].ok("mirror down sin")?;
    fleet.cluster.triangle().heal(3)?;
    until("the node has all changes", || {
        Ok(fleet.daemons[2].json("fleet status")?["state"] == "following")
    })?;
    until("the node has the change of a mirror", || {
        Ok(fleet.daemons[2].ok("mirror list")?.contains("down"))
    })?;
    // The local changes stand until they are merged or dropped.
    ensure!(overrides(&fleet.daemons[2])?.contains("sin"));
    fleet.daemons[2].ok("fleet merge --wait all")?;
    fleet.settled()?;
    for daemon in &fleet.daemons {
        let list = overrides(daemon)?;
        ensure!(list.contains(prefix) && !list.contains("ams"), "{list}");
    }
    // And taken back.
    fleet.daemons[1].ok(&format!("map set {PREFIX} iad --local"))?;
    fleet.daemons[1].ok("fleet drop")?;
    fleet.settled()
}

/// Whatever dies when, an edit that was acknowledged is there afterwards.
#[test]
fn acknowledged_edits_outlive_daemons_and_members() -> Result<()> {
    needs_root!();
    let mut fleet = Fleet::joined()?;
    let mut acknowledged = Vec::new();
    for round in 0..12_u8 {
        let prefix = format!("198.51.{round}.0/24");
        let at = usize::from(round) % 3;
        if fleet.daemons[at]
            .ok(&format!("map set {prefix} iad"))
            .is_ok()
        {
            acknowledged.push(prefix);
        }
        match round % 4 {
            0 => {
                fleet.daemons[at].crash()?;
                fleet.again(at)?;
            }
            1 => fleet.cluster.kill(at)?,
            2 => fleet.cluster.again(usize::from(round - 1) % 3)?,
            _ => {}
        }
        fleet.cluster.ready()?;
        until("the next node follows", || {
            let next = (at + 1) % 3;
            Ok(fleet.daemons[next].json("fleet status")?["state"] == "following")
        })?;
    }
    fleet.settled()?;
    ensure!(acknowledged.len() >= 8, "{acknowledged:?}");
    for daemon in &fleet.daemons {
        let list = overrides(daemon)?;
        for prefix in &acknowledged {
            ensure!(list.contains(prefix), "{prefix} is lost: {list}");
        }
    }
    Ok(())
}

/// A fault at each step of an edit, on the node that makes it: whatever the caller is told, all nodes are alike afterwards,
/// and what was acknowledged is there.
#[test]
fn a_fault_at_any_step_of_an_edit_leaves_all_nodes_alike() -> Result<()> {
    needs_root!();
    let mut fleet = Fleet::joined()?;
    let faults = fleet.cluster.file("faults");
    let orders = faults.display().to_string();
    fleet.setups[0]
        .environment
        .push(("GEODNS_FAULTS".to_owned(), orders));
    fleet.daemons[0].stop()?;
    fleet.again(0)?;
    fleet.settled()?;
    // The node's own entry is committed meanwhile, too, so steps are told by their names.
    let steps = [
        "fleet: before the commit",
        "fleet: after the commit",
        "state",
    ];
    let turns = (1..=3).flat_map(|turn| steps.map(|step| (turn, step)));
    let mut hit = Vec::new();
    for (number, (turn, step)) in turns.enumerate() {
        let prefix = format!("198.51.{number}.0/24");
        std::fs::write(&faults, format!("fail {turn} {step}\n"))?;
        let words = format!("map set {prefix} iad");
        let told = fleet.daemons[0].cli(words.split_whitespace())?;
        hit.push(std::fs::read_to_string(&faults)?.trim().to_owned());
        std::fs::write(&faults, "")?;
        fleet.settled().with_context(|| format!("after {hit:?}"))?;
        let there = overrides(&fleet.daemons[0])?.contains(&prefix);
        let said = String::from_utf8_lossy(&told.stderr);
        ensure!(there || !told.status.success(), "{hit:?}: {said}");
        if said.contains("nothing has changed") {
            ensure!(!there, "{hit:?}: {said}");
        }
    }
    for step in steps {
        let step = format!("failed {step}");
        ensure!(hit.contains(&step), "no fault at {step}: {hit:?}");
    }
    Ok(())
}

#[test]
fn a_node_whose_state_is_too_old_answers_nobody() -> Result<()> {
    needs_root!();
    let mut fleet = Fleet::joined()?;
    fleet.setups[2].body.push_str("max_stale = \"2s\"\n");
    fleet.daemons[2].stop()?;
    fleet.daemons[2].home.write(&fleet.setups[2])?;
    fleet.again(2)?;
    fleet.settled()?;
    let before = fleet.answer(2)?;
    fleet.cluster.triangle().cut(3)?;
    until("it is silent", || Ok(fleet.answer(2).is_err()))?;
    fleet.daemons[2].logged("longer than fleet.max_stale")?;
    fleet.cluster.triangle().heal(3)?;
    until("it answers again", || {
        Ok(fleet.answer(2).is_ok_and(|answer| answer == before))
    })
}

#[test]
fn a_daemon_starts_without_etcd_and_serves_what_it_had() -> Result<()> {
    needs_root!();
    let mut fleet = Fleet::joined()?;
    fleet.daemons[0].ok(&format!("map set {PREFIX} iad --wait all"))?;
    let before = fleet.answer(1)?;
    for number in 0..2 {
        fleet.cluster.kill(number)?;
    }
    fleet.daemons[1].stop()?;
    fleet.again(1)?;
    ensure!(fleet.answer(1)? == before);
    let (_, why) = fleet.daemons[1].fails(&format!("map set {PREFIX} sin"))?;
    ensure!(why.contains("nothing has changed"), "{why}");
    for number in 0..2 {
        fleet.cluster.again(number)?;
    }
    fleet.settled()?;
    fleet.daemons[1].ok(&format!("map set {PREFIX} sin --wait all"))?;
    Ok(())
}

#[test]
fn a_node_that_was_away_during_a_compaction_takes_the_difference() -> Result<()> {
    needs_root!();
    let mut fleet = Fleet::joined()?;
    fleet.daemons[0].ok(&format!("map set {PREFIX} iad --wait all"))?;
    fleet.daemons[2].stop()?;
    fleet.daemons[0].ok(&format!("map set {PREFIX} sin"))?;
    fleet.daemons[0].ok("map set 192.0.2.0/24 sin")?;
    let revision = fleet.daemons[0].json("fleet status")?["revision"].clone();
    fleet.cluster.ctl(&format!("compact {revision}"))?;
    fleet.again(2)?;
    fleet.settled()?;
    ensure!(overrides(&fleet.daemons[2])?.contains("192.0.2.0/24"));
    Ok(())
}

#[test]
fn a_store_that_was_restored_is_followed_only_when_the_operator_says_so() -> Result<()> {
    needs_root!();
    let mut fleet = Fleet::joined()?;
    let backup = fleet.cluster.save("backup")?;
    fleet.daemons[0].ok(&format!("map set {PREFIX} iad --wait all"))?;
    let before = fleet.answer(1)?;
    fleet.cluster.restore(&backup, "restored")?;
    fleet.cluster.ready()?;
    until("the node sees it", || {
        Ok(fleet.daemons[1].json("fleet status")?["state"] == "stopped")
    })?;
    let status = fleet.daemons[1].ok("status")?;
    ensure!(status.contains("restored from a backup"), "{status}");
    ensure!(fleet.answer(1)? == before);
    let (_, why) = fleet.daemons[1].fails(&format!("map set {PREFIX} sin"))?;
    ensure!(why.contains("geodns fleet join"), "{why}");
    // What would be lost is shown.
    let (_, why) = fleet.daemons[1].fails("fleet join")?;
    ensure!(
        why.contains("override/www/10.77.0.0%2F16") && why.contains("--yes"),
        "{why}"
    );
    for daemon in &fleet.daemons {
        daemon.ok("fleet join --yes")?;
    }
    fleet.settled()?;
    ensure!(!overrides(&fleet.daemons[1])?.contains(PREFIX));
    Ok(())
}

#[test]
fn nodes_join_and_leave_and_two_with_one_name_are_told() -> Result<()> {
    needs_root!();
    let mut fleet = Fleet::alone()?;
    let (_, why) = fleet.daemons[1].fails("fleet join --yes")?;
    ensure!(why.contains("geodns fleet init"), "{why}");
    let (_, why) = fleet.daemons[1].fails(&format!("map set {PREFIX} iad"))?;
    ensure!(why.contains("in no fleet yet"), "{why}");
    fleet.daemons[1].ok(&format!("map set {PREFIX} iad --local"))?;
    fleet.daemons[0].ok("fleet init")?;
    let (_, why) = fleet.daemons[2].fails("fleet init")?;
    ensure!(why.contains("there already"), "{why}");
    let joined = fleet.daemons[1].json("fleet join --yes")?;
    // The override, and the secrets of its cookies.
    ensure!(joined["changes"] == 2, "{joined}");
    let copy = joined["copy"].as_str().context("no copy")?;
    ensure!(std::fs::metadata(copy)?.len() > 0);
    ensure!(!overrides(&fleet.daemons[1])?.contains(PREFIX));
    fleet.daemons[2].ok("fleet join --yes")?;
    fleet.settled()?;
    fleet.daemons[0].ok(&format!("map set {PREFIX} iad --wait all"))?;
    // One leaves, and keeps what it has.
    fleet.daemons[2].ok("fleet leave")?;
    ensure!(overrides(&fleet.daemons[2])?.contains(PREFIX));
    until("the others know", || {
        let nodes = &fleet.daemons[0].json("fleet status")?["nodes"];
        Ok(nodes.as_array().is_some_and(|nodes| nodes.len() == 2))
    })?;
    // It comes again under the name of another.
    fleet.daemons[2].stop()?;
    fleet.setups[2] = fleet.setup(3, "n1");
    fleet.daemons[2].home.write(&fleet.setups[2])?;
    fleet.again(2)?;
    fleet.daemons[2].ok("fleet join --yes")?;
    until("it knows", || {
        Ok(fleet.daemons[2].json("fleet status")?["state"] == "stopped")
    })?;
    let status = fleet.daemons[2].ok("fleet status")?;
    ensure!(status.contains("is named n1, too"), "{status}");
    fleet.daemons[0].ok(&format!("map set {PREFIX} sin --wait all"))?;
    // The first one dies, and its entry with it.
    fleet.daemons[0].end(Signal::SIGKILL)?;
    until("the other takes part", || {
        Ok(fleet.daemons[2].json("fleet status")?["state"] == "following")
    })?;
    ensure!(overrides(&fleet.daemons[2])?.contains("sin"));
    Ok(())
}

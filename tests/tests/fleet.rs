//! Daemons that share what operators say through a real etcd: edits, partitions and crashes at each step of them, those
//! who come and go, and all that they share: cookies, labels of catalogs, leave to stop being announced.

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use geodns::shared::etcd::Etcd;
use geodns::shared::{Shared, Write};
use geodns::state::{CookieSecrets, Item};
use geodns_tests::daemon::Daemon;
use geodns_tests::dns::{A, COOKIE, Query};
use geodns_tests::etcd::Setup as EtcdSetup;
use geodns_tests::fleet::Fleet;
use geodns_tests::net::output;
use geodns_tests::{needs_root, until};
use nix::sys::signal::Signal;

const PREFIX: &str = "10.77.0.0/16";

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
        started.elapsed() < Duration::from_secs(20),
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
    // The others go on, once they have a leader: it may have been at the site that is cut off.
    for (number, words) in [
        (0, format!("map set {PREFIX} ams")),
        (1, "mirror down sin".to_owned()),
    ] {
        until(&words, || {
            let output = fleet.daemons[number].cli(words.split_whitespace())?;
            Ok(output.status.success())
        })?;
    }
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
    fleet.settled()?;
    Ok(())
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
    fleet.heed_faults(0, &faults)?;
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
    // A restart makes it no younger.
    fleet.daemons[2].stop()?;
    fleet.again(2)?;
    until("it has tried", || Ok(fleet.state(2)? == "disconnected"))?;
    ensure!(fleet.answer(2).is_err(), "{}", fleet.daemons[2].log());
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
    until("it follows nothing", || {
        Ok(fleet.daemons[2].json("fleet status")?["state"] == "not-joined")
    })?;
    ensure!(overrides(&fleet.daemons[2])?.contains(PREFIX));
    until("the others know", || {
        let nodes = &fleet.daemons[0].json("fleet status")?["nodes"];
        Ok(nodes.as_array().is_some_and(|nodes| nodes.len() == 2))
    })?;
    // It comes again under the name of another.
    fleet.daemons[2].stop()?;
    fleet.setups[2] = fleet.setup(2, "n1");
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

/// Orders a fault, and waits until it is carried out.
struct Faults<'a>(&'a Path);

impl Faults<'_> {
    fn order(&self, order: &str) -> Result<()> {
        Ok(std::fs::write(self.0, order)?)
    }

    fn until(&self, done: &str) -> Result<()> {
        until(done, || Ok(std::fs::read_to_string(self.0)?.trim() == done))
    }
}

/// The node that makes an edit is cut off, or its etcd is silent, at each step of it.
#[test]
fn an_edit_that_is_cut_off_at_any_step_is_made_everywhere_or_nowhere() -> Result<()> {
    needs_root!();
    let mut fleet = Fleet::joined()?;
    let file = fleet.cluster.file("faults");
    fleet.heed_faults(0, &file)?;
    let faults = Faults(&file);
    let triangle = fleet.cluster.triangle();
    let [one, others @ ..] = &fleet.daemons[..] else {
        unreachable!()
    };
    let others_have = |prefix: &str| {
        until("the others have it", || {
            let mut lists = others.iter().map(overrides);
            lists.try_fold(true, |all, list| Ok(all && list?.contains(prefix)))
        })
    };
    let everywhere = |prefix: &str, is: bool| -> Result<()> {
        fleet.settled()?;
        for daemon in &fleet.daemons {
            ensure!(
                overrides(daemon)?.contains(prefix) == is,
                "{prefix} should be there: {is}: {}",
                fleet.shown()
            );
        }
        Ok(())
    };

    // Before the commit is sent.
    let prefix = "198.51.1.0/24";
    triangle.cut(1)?;
    let (_, why) = one.fails(&format!("map set {prefix} iad"))?;
    triangle.heal(1)?;
    match why.contains("nothing has changed") {
        true => everywhere(prefix, false)?,
        false => fleet.settled()?,
    }

    // It is sent, and no answer comes: it is asked again until one does.
    let prefix = "198.51.2.0/24";
    let silent = |signal| (0..3).try_for_each(|number| fleet.cluster.signal(number, signal));
    silent(Signal::SIGSTOP)?;
    let told = thread::scope(|scope| {
        let words = format!("map set {prefix} iad");
        let edit = scope.spawn(move || one.cli(words.split_whitespace()));
        thread::sleep(Duration::from_millis(2500));
        silent(Signal::SIGCONT)?;
        edit.join().expect("no panic")
    })?;
    let said = String::from_utf8_lossy(&told.stderr);
    fleet.settled()?;
    let is_there = overrides(one)?.contains(prefix);
    ensure!(is_there || !told.status.success(), "{said}");
    ensure!(!is_there || !said.contains("nothing has changed"), "{said}");
    everywhere(prefix, is_there)?;

    // It is committed, and the node that made it does not have it yet, or has it on disk alone.
    for (number, step) in (3..).zip(["fleet: a commit has come", "fleet: a commit is kept"]) {
        let prefix = format!("198.51.{number}.0/24");
        faults.order(&format!("hold 1 {step}"))?;
        let told = thread::scope(|scope| {
            let words = format!("map set {prefix} iad");
            let edit = scope.spawn(move || one.cli(words.split_whitespace()));
            faults.until(&format!("held {step}"))?;
            triangle.cut(1)?;
            others_have(&prefix)?;
            faults.order("")?;
            edit.join().expect("no panic")
        })?;
        let said = String::from_utf8_lossy(&told.stderr);
        ensure!(told.status.success(), "{step}: {said}");
        triangle.heal(1)?;
        everywhere(&prefix, true)?;
    }
    Ok(())
}

/// A kill -9 while a commit comes in force leaves it to the next run of the daemon.
#[test]
fn a_daemon_that_is_killed_within_a_commit_has_it_in_force_once_it_runs_again() -> Result<()> {
    needs_root!();
    let mut fleet = Fleet::joined()?;
    let file = fleet.cluster.file("faults");
    fleet.heed_faults(1, &file)?;
    let before = fleet.answer(1)?;
    for (step, mirror) in [
        ("fleet: a commit has come", "iad"),
        ("fleet: a commit is kept", "sin"),
    ] {
        Faults(&file).order(&format!("kill 1 {step}"))?;
        fleet.daemons[0].ok(&format!("map set {PREFIX} {mirror}"))?;
        fleet.daemons[1].wait()?;
        Faults(&file).until(&format!("killed {step}"))?;
        fleet.again(1)?;
        fleet.settled()?;
        let answer = fleet.answer(1)?;
        ensure!(
            answer != before && answer == fleet.answer(0)?,
            "{step}: {answer}"
        );
    }
    Ok(())
}

#[test]
fn an_edit_at_one_node_changes_the_answers_of_another_ones_program() -> Result<()> {
    needs_root!();
    let fleet = Fleet::joined_of(3, EtcdSetup::default(), |site, setup| match site {
        1 => setup.mode("generic"),
        _ => setup,
    })?;
    let query = || Query::new("www.example.org", A);
    let answered = || -> Result<u64> {
        let counters = fleet.daemons[1].counters()?;
        Ok(counters.get("answered").copied().unwrap_or(0))
    };
    let before = answered()?;
    for (count, (mirror, address)) in (1..).zip([
        ("iad", "198.51.100.10"),
        ("sin", "203.0.113.10"),
        ("ams", "192.0.2.10"),
    ]) {
        fleet.daemons[0].ok(&format!("map set {PREFIX} {mirror} --wait all"))?;
        ensure!(fleet.answer_to(1, 0, &query())? == address);
        ensure!(answered()? == before + count, "not by the program");
    }
    Ok(())
}

/// The state of a node's announcement, and why.
fn announced(daemon: &Daemon) -> Result<(String, String)> {
    let shown = daemon.json("announce")?;
    let text = |key: &str| shown[key].as_str().unwrap_or_default().to_owned();
    Ok((text("state"), text("why")))
}

#[test]
fn of_three_nodes_that_leave_at_once_one_stays() -> Result<()> {
    needs_root!();
    const ANYCAST: &str = "192.0.2.53";
    let mut fleet = Fleet::joined_of(3, EtcdSetup::default(), |_, mut setup| {
        setup.listen.push(ANYCAST.to_owned());
        setup.and(&format!(
            "[announce]\nprefixes = [{ANYCAST:?}]\ndrain = \"0s\"\nrise = \"0s\"\nhold_down = \"0s..0s\"\n"
        ))
    })?;
    for site in 0..3 {
        let lo = format!("address add {ANYCAST}/32 dev lo");
        fleet.space(site).ip(&lo)?;
    }
    let each = |fleet: &Fleet, what: &str, is: &dyn Fn(&[String]) -> bool| {
        until(what, || {
            let nodes = fleet.daemons[0].json("fleet status")?;
            let nodes = nodes["nodes"].as_array().context("no nodes")?;
            let known = nodes.iter().all(|node| node["announce"] == "up");
            let states = fleet.daemons.iter().map(announced);
            let states: Vec<_> = states.collect::<Result<_>>()?;
            let mut states: Vec<String> = states.into_iter().map(|(state, _)| state).collect();
            states.sort_unstable();
            Ok(is(&states) && (known || states[0] != "up"))
        })
        .with_context(|| fleet.shown())
    };
    each(&fleet, "all are up, and all know", &|states| {
        states.iter().all(|state| state == "up")
    })?;
    thread::scope(|scope| {
        let words = fleet
            .daemons
            .iter()
            .map(|daemon| scope.spawn(|| daemon.ok("announce withdraw")));
        let words: Vec<_> = words.collect();
        words
            .into_iter()
            .try_for_each(|word| word.join().expect("no panic").map(drop))
    })?;
    each(&fleet, "one is held", &|states| {
        states == ["held", "withdrawn", "withdrawn"]
    })?;
    let mut held = None;
    for (site, daemon) in fleet.daemons.iter().enumerate() {
        let (state, why) = announced(daemon)?;
        if state == "held" {
            ensure!(
                why.contains("of the other nodes 0 are up, and announce.keep demands 1"),
                "{why}"
            );
            held = Some(site);
        }
    }
    let held = held.context("nobody is held")?;
    // It leaves once another one is there.
    let back = (held + 1) % 3;
    fleet.daemons[back].ok("announce up")?;
    until("the held one has left", || {
        Ok(announced(&fleet.daemons[held])?.0 == "withdrawn")
    })?;
    // Without a registry a node that fails stays the last resort.
    for member in (0..3).filter(|member| *member != back) {
        fleet.cluster.kill(member)?;
    }
    until("nothing has been heard for 5 s", || {
        let fleet = fleet.daemons[back].json("fleet status")?;
        Ok(fleet["stale_ms"].as_u64().is_some_and(|stale| stale > 5000))
    })?;
    let lo = format!("address del {ANYCAST}/32 dev lo");
    fleet.space(back).ip(&lo)?;
    until("it is the last resort", || {
        Ok(announced(&fleet.daemons[back])?.0 == "last-resort")
    })
    .with_context(|| fleet.shown())
}

/// A cookie that a node gives the fourth site for one.
fn cookie(fleet: &Fleet, site: usize, cookie: &[u8]) -> Result<Vec<u8>> {
    let query = Query::new("www.example.org", A).option(COOKIE, cookie);
    let reply = fleet.reply_to(site, 3, &query)?;
    let opt = reply.opt.context("no OPT")?;
    let mut options = opt.options.into_iter();
    let found = options.find(|(code, _)| *code == COOKIE);
    Ok(found.context("no cookie")?.1)
}

/// Whether a cookie is good at a node, as its program counts them.
fn is_good(fleet: &Fleet, site: usize, given: &[u8]) -> Result<bool> {
    let good = || -> Result<u64> {
        let counters = fleet.daemons[site].counters()?;
        Ok(counters.get("cookie_good").copied().unwrap_or(0))
    };
    let before = good()?;
    cookie(fleet, site, given)?;
    Ok(good()? > before)
}

/// Changes the secrets of cookies as a node does that rolls them. Waits for no node, and gives the revision.
fn roll(fleet: &Fleet, change: fn(CookieSecrets) -> CookieSecrets) -> Result<u64> {
    let store = fleet.cluster.fleet("test");
    fleet.space(0).enter(|| {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        runtime.enable_all().build()?.block_on(async {
            let etcd = Etcd::new(&store);
            let snapshot = etcd.snapshot().await?;
            let mut entries = snapshot.entries.iter();
            let entry = entries.find(|entry| entry.key == "cookie/secrets");
            let entry = entry.context("no secrets")?;
            let item = Item::parse(&entry.key, Some(&entry.value));
            let Ok(Some(Item::Cookies { secrets: Some(now) })) = item else {
                anyhow::bail!("{item:?}");
            };
            let next = Item::Cookies {
                secrets: Some(change(now)),
            };
            let value = next.value().context("no value")?;
            let write = Write::new().put(next.key(), value);
            Ok(etcd.commit(&write).await?.0)
        })
    })
}

#[test]
fn a_cookie_of_one_node_is_good_at_all_also_while_the_secrets_roll() -> Result<()> {
    needs_root!();
    const OURS: [u8; 8] = [0x24, 0x64, 0xc4, 0xab, 0xcf, 0x10, 0xc9, 0x57];
    const NEXT: [u8; 16] = [7; 16];
    let fleet = Fleet::joined_of(4, EtcdSetup::default(), |site, setup| match site {
        3 => setup,
        _ => setup.mode("generic"),
    })?;
    let each_knows = |when: &str| -> Result<()> {
        for giver in 0..3 {
            let given = cookie(&fleet, giver, &OURS)?;
            ensure!(given.len() == 24, "{when}: {given:02x?}");
            for taker in 0..3 {
                ensure!(
                    is_good(&fleet, taker, &given)?,
                    "{when}: n{}, n{}",
                    giver + 1,
                    taker + 1
                );
            }
        }
        Ok(())
    };
    each_knows("at first")?;
    let old = cookie(&fleet, 0, &OURS)?;
    let mut made_up = old.clone();
    made_up[23] ^= 1;
    ensure!(!is_good(&fleet, 1, &made_up)?);

    // Nodes learn of each step one after the other: at no moment does one refuse what another has given.
    let revision = roll(&fleet, |now| CookieSecrets {
        next: Some(NEXT),
        ..now
    })?;
    each_knows("while the next one comes")?;
    until("all know the next one", || {
        let shown = fleet.daemons[0].json("fleet status")?;
        let nodes = shown["nodes"].as_array().context("no nodes")?;
        Ok(nodes
            .iter()
            .all(|node| node["revision"].as_u64() >= Some(revision)))
    })?;
    roll(&fleet, |now| CookieSecrets {
        current: NEXT,
        previous: Some(now.current),
        next: None,
        ..now
    })?;
    each_knows("while it is rolled")?;
    until("all make cookies with it", || {
        let made = (0..3).map(|site| cookie(&fleet, site, &old));
        let made: Vec<_> = made.collect::<Result<_>>()?;
        Ok(made.iter().all(|made| *made != old))
    })?;
    for site in 0..3 {
        ensure!(is_good(&fleet, site, &old)?, "of the secret before");
    }
    each_knows("afterwards")
}

#[test]
fn a_zone_has_one_label_in_the_catalogs_of_all_nodes() -> Result<()> {
    needs_root!();
    const SECRET: &str = "c2hhcmVkIGJ5IHR3byBzZXJ2ZXJzLCBhbmQgYnkgbm8=";
    let catalog = format!(
        "[[tsig]]\nname = \"xfr\"\nsecret = {SECRET:?}\n[[zone]]\nname = \"catalog.test\"\n\
         catalog = \"producer\"\nallow_transfer = [\"xfr\"]\n"
    );
    let zone = |name: &str| {
        format!(
            "[[zone]]\nname = {name:?}\nfile = \"{name}.zone\"\nin_catalog = \"catalog.test\"\n"
        )
    };
    let content = |name: &str| {
        format!(
            "$ORIGIN {name}.\n$TTL 300\n@ SOA ns hm 1 3600 2 3600 60\n@ NS ns\nns A 192.0.2.1\n"
        )
    };
    let mut fleet = Fleet::joined_of(3, EtcdSetup::default(), |_, setup| {
        setup
            .and(&catalog)
            .and(&zone("one.test"))
            .file("one.test.zone", &content("one.test"))
    })?;
    let labels = |fleet: &Fleet, site: usize| -> Result<Vec<String>> {
        let mut dig = fleet.space(site).command("dig");
        dig.arg(format!("@10.77.0.{}", site + 1)).args([
            "catalog.test",
            "AXFR",
            "+noall",
            "+answer",
            "-y",
            &format!("hmac-sha256:xfr:{SECRET}"),
        ]);
        let said = output(&mut dig)?;
        let said = String::from_utf8_lossy(&said.stdout).into_owned();
        let lines = said.lines().filter(|line| line.contains("PTR"));
        let mut labels: Vec<String> = lines.map(str::to_owned).collect();
        labels.sort_unstable();
        Ok(labels)
    };
    let alike = |fleet: &Fleet, count: usize| -> Result<Vec<String>> {
        let mut found = Vec::new();
        until("one catalog everywhere", || {
            found = (0..3)
                .map(|site| labels(fleet, site))
                .collect::<Result<_>>()?;
            Ok(found
                .iter()
                .all(|labels| labels.len() == count && *labels == found[0]))
        })
        .with_context(|| format!("{found:#?}"))?;
        Ok(found.remove(0))
    };
    let first = alike(&fleet, 1)?;
    // A zone more, which each node hears of at another time.
    for site in 0..3 {
        fleet.setups[site] = fleet.setups[site]
            .clone()
            .and(&zone("two.test"))
            .file("two.test.zone", &content("two.test"));
        fleet.daemons[site].home.write(&fleet.setups[site])?;
        fleet.daemons[site].ok("reload")?;
    }
    let both = alike(&fleet, 2)?;
    ensure!(both.contains(&first[0]), "{first:?} {both:?}");
    // A node that begins anew learns the labels when it joins.
    fleet.daemons[2].ok("fleet leave")?;
    fleet.daemons[2].stop()?;
    std::fs::remove_file(fleet.daemons[2].home.folder.path().join("state.redb"))?;
    fleet.again(2)?;
    fleet.daemons[2].ok("fleet join --yes")?;
    fleet.settled()?;
    ensure!(alike(&fleet, 2)? == both);
    Ok(())
}

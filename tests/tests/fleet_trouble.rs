//! Daemons whose etcd is of no use: slow, full, no etcd at all, without rights for them, or that of another fleet. Each
//! has its line in `geodns fleet status`, edits are refused with it, and answers go on.

use std::io::Write as _;
use std::net::{IpAddr, TcpListener};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use geodns::shared::etcd::Etcd;
use geodns::shared::{Kind, Refused, Shared, Write};
use geodns_tests::daemon::{Daemon, Setup};
use geodns_tests::dns::{A, Query, Reply, ask};
use geodns_tests::etcd::{Cluster, Setup as EtcdSetup};
use geodns_tests::fleet::Fleet;
use geodns_tests::net::{Space, at};
use geodns_tests::sites::delay::SlowWire;
use geodns_tests::{needs_root, until};

const PREFIX: &str = "10.77.0.0/16";

/// Waits until a node's link is in a state, for a reason that has these words, in one line, in `fleet status` and in
/// the answer to an edit.
fn says(daemon: &Daemon, state: &str, words: &[&str]) -> Result<()> {
    let mut last = String::new();
    until(state, || {
        let fleet = daemon.json("fleet status")?;
        last = fleet["why"].as_str().unwrap_or_default().to_owned();
        Ok(fleet["state"] == state && words.iter().all(|word| last.contains(word)))
    })
    .with_context(|| format!("{words:?}: {last}\n{}", daemon.log()))?;
    ensure!(!last.contains('\n'), "{last:?}");
    let (_, why) = daemon.fails(&format!("map set {PREFIX} sin"))?;
    for word in [words, &["nothing has changed"]].concat() {
        ensure!(why.contains(word), "{word}: {why}");
    }
    for shown in [daemon.ok("status")?, daemon.log()] {
        ensure!(words.iter().all(|word| shown.contains(word)), "{shown}");
    }
    Ok(())
}

/// The addresses that a daemon answers with, which listens on this address.
fn answer(space: &Space, address: IpAddr) -> Result<String> {
    let socket = space.udp(address, at(&address.to_string(), 53)?)?;
    let query = Query::new("www.example.org", A).bytes();
    let reply = ask(&socket, &query, Duration::from_secs(5))?;
    Ok(Reply::parse(&reply.context("no answer")?)?.addresses())
}

/// A daemon that has this etcd, and nobody else.
fn lonely(space: &Space, address: &str, section: &str) -> Result<Daemon> {
    let mut setup = Setup::example(&[address]).mode("off");
    setup.server = "identity = \"n1\"\n".to_owned();
    Daemon::start(space, &setup.and(&format!("\n{section}")))
}

#[test]
fn an_etcd_that_takes_seconds_is_told_and_answers_go_on() -> Result<()> {
    needs_root!();
    let [here, there] = [Space::new("here")?, Space::new("there")?];
    let ends = ((&here, "eth0"), (&there, "eth0"));
    let _wire = SlowWire::new(ends.0, ends.1, Duration::from_millis(1500))?;
    here.ip("address add 10.77.0.1/24 dev eth0")?;
    there.ip("address add 10.77.0.2/24 dev eth0")?;
    let of: IpAddr = "10.77.0.2".parse()?;
    let cluster = Cluster::within(&[(&there, of)], EtcdSetup::default())?;
    let daemon = lonely(&here, "10.77.0.1", &cluster.section("test"))?;
    let words = ["10.77.0.2:2379 has not answered within 1s", "fleet.etcd"];
    says(&daemon, "disconnected", &words)?;
    let before = answer(&here, "10.77.0.1".parse()?)?;
    daemon.ok(&format!("map set {PREFIX} sin --local"))?;
    ensure!(answer(&here, "10.77.0.1".parse()?)? != before);
    Ok(())
}

#[test]
fn a_server_that_is_no_etcd_is_told() -> Result<()> {
    needs_root!();
    let space = Space::new("web")?;
    space.ip("address add 10.77.0.1/24 dev lo")?;
    let listener = space.enter(|| Ok(TcpListener::bind("10.77.0.1:80")?))?;
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n");
        }
    });
    let section = "[fleet]\nname = \"test\"\netcd = [\"http://10.77.0.1:80\"]\n";
    let daemon = lonely(&space, "10.77.0.1", section)?;
    says(
        &daemon,
        "disconnected",
        &["http://10.77.0.1:80", "fleet.etcd"],
    )?;
    ensure!(!answer(&space, "10.77.0.1".parse()?)?.is_empty());
    Ok(())
}

#[test]
fn a_full_etcd_refuses_edits_and_nothing_else() -> Result<()> {
    needs_root!();
    let etcd = EtcdSetup {
        flags: vec!["--quota-backend-bytes=8388608".to_owned()],
        ..EtcdSetup::default()
    };
    let fleet = Fleet::joined_of(3, etcd, |_, setup| setup)?;
    fleet.daemons[0].ok(&format!("map set {PREFIX} iad --wait all"))?;
    let before = fleet.answer(1)?;
    let other = fleet.cluster.fleet("other");
    let last = fleet.space(0).enter(|| {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        runtime.enable_all().build()?.block_on(async {
            let etcd = Etcd::new(&other);
            for number in 0..1000 {
                // etcd looks at the size of its file, which grows ten times a second.
                tokio::time::sleep(Duration::from_millis(20)).await;
                let write = Write::new().put("large", vec![number as u8; 400_000]);
                match etcd.commit(&write).await {
                    Err(Refused::Unavailable(trouble)) if trouble.kind == Kind::Full => {
                        return Ok(etcd.snapshot().await?.position.revision);
                    }
                    Ok(_) | Err(_) => {}
                }
            }
            anyhow::bail!("never full")
        })
    })?;
    let words = ["is full", "--quota-backend-bytes", "etcdctl alarm disarm"];
    for daemon in &fleet.daemons {
        let (_, why) = daemon.fails(&format!("map set {PREFIX} sin"))?;
        for word in words.iter().chain(&["nothing has changed"]) {
            ensure!(why.contains(word), "{word}: {why}");
        }
        until("the status says so", || {
            let shown = [daemon.ok("fleet status")?, daemon.ok("status")?];
            Ok(shown.iter().all(|shown| shown.contains(words[0])))
        })
        .with_context(|| fleet.shown())?;
    }
    ensure!(fleet.answer(1)? == before);
    // As the line says.
    fleet.cluster.ctl(&format!("compact {last}"))?;
    for member in 0..3 {
        fleet.cluster.ctl_of(member, "defrag")?;
    }
    fleet.cluster.ctl("alarm disarm")?;
    until("edits are made again", || {
        let words = format!("map set {PREFIX} sin --wait all");
        Ok(fleet.daemons[2]
            .cli(words.split_whitespace())?
            .status
            .success())
    })?;
    fleet.settled()?;
    ensure!(!fleet.daemons[0].ok("fleet status")?.contains("is full"));
    Ok(())
}

#[test]
fn a_node_without_rights_is_told_which_it_needs() -> Result<()> {
    needs_root!();
    let etcd = EtcdSetup {
        tls: true,
        ..EtcdSetup::default()
    };
    let mut fleet = Fleet::of(0, etcd, |_, setup| setup)?;
    for site in 0..3 {
        let name = format!("n{}", site + 1);
        let identity = fleet.cluster.issue(&name, &[])?;
        let keys = format!(
            "ca = {:?}\ncertificate = {:?}\nkey = {:?}\n",
            fleet.cluster.file("ca.crt"),
            identity.certificate,
            identity.key
        );
        let setup = fleet.setup(site, &name).and(&keys);
        fleet
            .daemons
            .push(Daemon::start(fleet.space(site), &setup)?);
        fleet.setups.push(setup);
    }
    fleet.daemons[0].ok("fleet init")?;
    fleet.daemons[1].ok("fleet join --yes")?;
    fleet.daemons[2].ok("fleet join --yes")?;
    fleet.settled()?;
    let before = fleet.answer(2)?;
    for words in [
        "user add root --no-password",
        "role add root",
        "user grant-role root root",
        "role add fleet",
        "role grant-permission --prefix=true fleet readwrite /geodns/test/",
        "user add n1 --no-password",
        "user add n2 --no-password",
        "user add n3 --no-password",
        "user grant-role n1 fleet",
        "user grant-role n2 fleet",
        "auth enable",
    ] {
        fleet.cluster.ctl(words).with_context(|| words.to_owned())?;
    }
    let words = [
        "forbids us this",
        "readwrite on the fleet's prefix",
        "fleet.certificate",
    ];
    says(&fleet.daemons[2], "disconnected", &words)?;
    ensure!(fleet.answer(2)? == before);
    until("the others go on", || {
        let words = format!("map set {PREFIX} iad");
        Ok(fleet.daemons[0]
            .cli(words.split_whitespace())?
            .status
            .success())
    })
    .with_context(|| fleet.shown())?;
    fleet.cluster.ctl("user grant-role n3 fleet")?;
    fleet.settled()?;
    ensure!(fleet.answer(2)? != before);
    Ok(())
}

#[test]
fn another_fleet_under_the_same_name_is_told() -> Result<()> {
    needs_root!();
    let fleet = Fleet::alone()?;
    let [one, two, _] = &fleet.daemons[..] else {
        unreachable!()
    };
    one.ok("fleet init")?;
    fleet.is(0, "following")?;
    one.ok(&format!("map set {PREFIX} iad"))?;
    let before = fleet.answer(0)?;
    fleet.cluster.ctl("del --prefix /geodns/test/")?;
    says(one, "stopped", &["and the store has none"])?;
    two.ok("fleet init")?;
    let words = ["two fleets under one name?", "geodns fleet join"];
    says(one, "stopped", &words)?;
    ensure!(fleet.answer(0)? == before);
    fleet.is(1, "following")
}

#[test]
fn a_node_whose_clock_is_apart_is_told() -> Result<()> {
    needs_root!();
    let fleet = Fleet::joined()?;
    ensure!(!fleet.daemons[0].ok("fleet status")?.contains("clock"));
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis();
    for (name, at) in [("n8", now + 60_000), ("n9", now - 3_600_000)] {
        let entry = format!("{{\"id\":{name:?},\"at_unix_ms\":{at}}}");
        fleet
            .cluster
            .ctl(&format!("put /geodns/test/node/{name} {entry}"))?;
    }
    for daemon in &fleet.daemons {
        until("clocks are compared", || {
            let status = daemon.ok("fleet status")?;
            Ok(status.contains("the clock of n9 is 36"))
        })?;
        let status = daemon.ok("fleet status")?;
        println!("{status}");
        ensure!(status.contains("s ahead of this node's"), "{status}");
        ensure!(!status.contains("clock of n1"), "{status}");
        daemon.logged("the clock of n9 is")?;
    }
    Ok(())
}

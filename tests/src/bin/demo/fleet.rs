//! Three sites with one anycast address, BIRD routers, and an etcd that their nodes share.
//!
//! A site falls silent, one is drained, a daemon is killed, an operator edits, and a bundle is rolled out and back: a
//! client asks all the while, and a table says who answered whom, how soon, and what was lost.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use geodns_tests::bundles::Bundles;
use geodns_tests::daemon::{Daemon, Setup};
use geodns_tests::etcd::{self, Cluster};
use geodns_tests::net::{Space, output};
use geodns_tests::sites::asker::{Asker, Course};
use geodns_tests::sites::routing::{Bird, Detection, LEARNED, node};
use geodns_tests::sites::{self, NAME, NAMES, Sites, V4, V6};

use crate::step;

/// Queries a second of the client that asks while something happens.
const RATE: u32 = 2_000;
/// How long anything may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// Shows it all.
pub fn demo() -> Result<()> {
    let start = Instant::now();
    println!(
        "Three sites, {}: in each a router (BIRD), a node (geodns, BIRD, a member of etcd) and a client.\n\
         All nodes have the addresses {V4} and {V6}. BGP joins the routers, BFD watches the nodes.",
        NAMES[..3].join(", ")
    );
    let sites = Sites::new(3, Detection::Bfd)?;
    step()?;
    let places: Vec<IpAddr> = (1..=3).map(|i| IpAddr::from([10, 77, i, 2])).collect();
    let places: Vec<(&Space, IpAddr)> = sites
        .sites
        .iter()
        .map(|site| &site.node)
        .zip(places)
        .collect();
    // The members of etcd find each other once the routers have each other's routes.
    let etcd = Cluster::within(&places, etcd::Setup::default())?;
    step()?;
    let bundles = Bundles::new()?;
    let setup = |number| setup(number, &etcd, &bundles);
    let (mut daemons, mut birds) = (Vec::new(), Vec::new());
    for site in &sites.sites {
        let setup = setup(site.number);
        birds.push(Bird::start(
            &site.node,
            &node(site.number, Detection::Bfd, LEARNED),
        )?);
        daemons.push(Daemon::start(&site.node, &setup)?);
    }
    println!(
        "\n$ geodns fleet init                         # at {}",
        NAMES[0]
    );
    print!("{}", daemons[0].ok("fleet init")?);
    for number in [2, 3] {
        println!(
            "$ geodns fleet join --yes                   # at {}",
            NAMES[number - 1]
        );
        daemons[number - 1].ok("fleet join --yes")?;
    }
    sites.settle()?;
    println!(
        "\nUp {:.1} s after the start. Each client is answered by the site beside it:\n",
        start.elapsed().as_secs_f64()
    );
    row(&["CLIENT", "QUESTION", "ANSWER", "FROM SITE"]);
    who(&sites)?;
    shown(&daemons[0], "fleet status")?;

    println!("\nThe node of {} falls silent: its cable is cut.", NAMES[0]);
    let course = during(&sites, |_| sites.silence(1))?;
    tell(&course);
    who(&sites)?;
    sites.join(1)?;
    sites.settle()?;
    println!("The cable is back, and so are the clients.");

    println!("\nAn operator takes the node of {} out:", NAMES[0]);
    let course = during(&sites, |_| shown(&daemons[0], "announce drain"))?;
    tell(&course);
    daemons[0].ok("announce up")?;
    sites.settle()?;

    println!(
        "\nThe daemon of {} is killed (-9). Its kernel goes on answering; the clients move.",
        NAMES[0]
    );
    let course = during(&sites, |at| {
        daemons[0].crash()?;
        *at = Instant::now();
        Ok(())
    })?;
    tell(&course);
    daemons[0].again(&sites.sites[0].node, &setup(1))?;
    println!(
        "It starts again, and holds back for a while: it is the last resort until it has proved itself."
    );
    daemons[0].ok("announce up")?;
    sites.settle()?;

    println!("\nAn edit at one node is in force on all:");
    let edit = format!("mirror down {}", NAMES[2]);
    println!(
        "$ geodns {edit} --wait all                 # at {}",
        NAMES[0]
    );
    let at = Instant::now();
    daemons[0].ok(&format!("{edit} --wait all"))?;
    println!(
        "On the disks of a majority, and in every kernel, {:.0} ms later. The clients of {} get another mirror:",
        at.elapsed().as_secs_f64() * 1e3,
        NAMES[2]
    );
    for site in &sites.sites {
        let (answer, from) = ask(&site.client)?;
        row(&[NAMES[site.number - 1], NAME, &answer, &from]);
    }
    daemons[1].ok(&format!("mirror auto {} --wait all", NAMES[2]))?;
    step()?;

    println!(
        "\nA signed bundle of configuration and zones is rolled out: every node previews it, one runs it, then all:"
    );
    let first = bundle(&bundles, 1, |body| {
        body.replace("policy = \"site\"", "policy = \"site\"\nttl = 60")
    })?;
    daemons[0].ok(&format!("fleet apply {} --wait 1s", first.display()))?;
    let second = bundle(&bundles, 2, |body| {
        body.replace("policy = \"site\"", "policy = \"site\"\nttl = 10")
    })?;
    shown_as(&daemons[0], "fleet apply second.bundle --wait 1s", &second)?;
    println!("The answers have its TTL: {}", ttls(&sites)?);
    println!("\nA bundle that moves too many clients is refused before anybody runs it:");
    let bad = bundle(&bundles, 3, |body| {
        let all = format!("mirrors = {NAMES:?}");
        body.replace(&all, &format!("mirrors = {:?}", &NAMES[1..]))
    })?;
    println!("\n$ geodns fleet apply third.bundle");
    let (_, refused) = daemons[0].fails(&format!("fleet apply {}", bad.display()))?;
    print!("{refused}");
    let at = Instant::now();
    daemons[1].ok("fleet rollback")?;
    println!(
        "\n$ geodns fleet rollback\nBack on all nodes {:.1} s later: {}",
        at.elapsed().as_secs_f64(),
        ttls(&sites)?
    );

    for daemon in &mut daemons {
        daemon.stop()?;
        let left = daemon.home.pins.list();
        ensure!(left.is_empty(), "left pinned: {left:?}");
    }
    drop((daemons, birds, etcd, sites));
    println!(
        "\nAll taken down, nothing attached or pinned. {:.0} s in all.",
        start.elapsed().as_secs_f64()
    );
    Ok(())
}

fn setup(number: usize, etcd: &Cluster, bundles: &Bundles) -> Setup {
    let fleet = etcd.section("demo");
    let keys = bundles.trusted_keys();
    sites::setup(number).and(&format!(
        "[announce]\nrise = \"1s\"\ndrain = \"1s\"\n{fleet}{keys}"
    ))
}

/// The configuration of all sites with a change, as a signed bundle.
fn bundle(bundles: &Bundles, serial: u64, change: impl Fn(&str) -> String) -> Result<PathBuf> {
    let mut setup = sites::setup(1);
    let body = change(&setup.body);
    ensure!(body != setup.body, "the bundle changes nothing");
    setup.body = body;
    bundles.make(serial, &setup)
}

/// TTL of the answers at each site.
fn ttls(sites: &Sites) -> Result<String> {
    let mut text = Vec::new();
    for site in &sites.sites {
        let answer = dig(&site.client, &["+noall", "+answer", NAME, "A"])?;
        let ttl = answer.split_whitespace().nth(1).context("no TTL")?;
        text.push(format!("{} {ttl} s", NAMES[site.number - 1]));
    }
    Ok(text.join(", "))
}

/// Runs dig against the address of all sites.
fn dig(client: &Space, words: &[&str]) -> Result<String> {
    step()?;
    let said = output(
        client
            .command("dig")
            .args(["+tries=1", "+time=2", "+norecurse", &format!("@{V4}")])
            .args(words),
    )?;
    ensure!(said.status.success(), "dig {words:?}: no answer");
    Ok(String::from_utf8_lossy(&said.stdout).trim().to_owned())
}

/// A client of site 1 asks while something happens there.
fn during(
    sites: &Sites,
    happen: impl FnOnce(&mut Instant) -> Result<()>,
) -> Result<(Course, Instant)> {
    step()?;
    let asker = Asker::start(&sites.sites[0].client, V4, RATE)?;
    std::thread::sleep(Duration::from_millis(500));
    let mut at = Instant::now();
    happen(&mut at)?;
    std::thread::sleep(Duration::from_secs(2));
    Ok((asker.finish()?, at))
}

/// Says what a client has seen.
fn tell((course, at): &(Course, Instant)) {
    let moved = course.moved_from(1, *at);
    let moved = moved.map_or("nobody moved".to_owned(), |moved| {
        format!(
            "another site answers after {:.0} ms",
            moved.as_secs_f64() * 1e3
        )
    });
    println!(
        "  {} clients' queries, {RATE} a second: {moved}; {} lost.",
        course.0.len(),
        course.lost() + course.errors()
    );
}

/// Shows who answers whom.
fn who(sites: &Sites) -> Result<()> {
    for site in &sites.sites {
        let end = Instant::now() + PATIENCE;
        let (answer, from) = loop {
            match ask(&site.client) {
                Err(error) if Instant::now() > end => return Err(error),
                Err(_) => std::thread::sleep(Duration::from_millis(50)),
                Ok(answer) => break answer,
            }
        };
        row(&[NAMES[site.number - 1], NAME, &answer, &from]);
    }
    Ok(())
}

/// Asks with dig: the answer, and the site that gave it (RFC 4892).
fn ask(client: &Space) -> Result<(String, String)> {
    let answer = dig(client, &["+short", NAME, "A"])?;
    let from = dig(client, &["+short", "id.server", "CH", "TXT"])?;
    Ok((answer, from.trim_matches('"').to_owned()))
}

/// Runs a command of geodns, and shows both.
fn shown(daemon: &Daemon, words: &str) -> Result<()> {
    step()?;
    println!("\n$ geodns {words}");
    print!("{}", daemon.ok(words).context("the command failed")?);
    Ok(())
}

/// The same for a command whose last word but the options is a file, which is shown under another name.
fn shown_as(daemon: &Daemon, words: &str, file: &Path) -> Result<()> {
    step()?;
    println!("\n$ geodns {words}");
    let words = words.split_whitespace();
    let words = words.map(|word| match word.ends_with(".bundle") {
        true => file.display().to_string(),
        false => word.to_owned(),
    });
    let words: Vec<String> = words.collect();
    print!("{}", daemon.ok(&words.join(" "))?);
    Ok(())
}

fn row(cells: &[&str; 4]) {
    let [client, question, answer, from] = cells;
    println!("  {client:<8} {question:<18} {answer:<16} {from}");
}

//! Three sites with one anycast address, BIRD routers, and an etcd that their nodes share.
//!
//! A site falls silent, one is drained, a daemon is killed, and an operator edits: a client asks all the while, and a
//! table says who answered whom, how soon, and what was lost.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use geodns_tests::daemon::Daemon;
use geodns_tests::etcd::{self, Cluster};
use geodns_tests::net::Space;
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
    let (mut daemons, mut birds) = (Vec::new(), Vec::new());
    for site in &sites.sites {
        let setup = setup(site.number, &etcd);
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
    daemons[0].again(&sites.sites[0].node, &setup(1, &etcd))?;
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

fn setup(number: usize, etcd: &Cluster) -> geodns_tests::daemon::Setup {
    let fleet = etcd.section("demo");
    sites::setup(number).and(&format!(
        "[announce]\nrise = \"1s\"\ndrain = \"1s\"\n{fleet}"
    ))
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
    step()?;
    let dig = |words: &str| -> Result<String> {
        let said = geodns_tests::net::output(
            client
                .command("dig")
                .args([
                    "+tries=1",
                    "+time=2",
                    "+norecurse",
                    "+short",
                    &format!("@{V4}"),
                ])
                .args(words.split_whitespace()),
        )?;
        ensure!(said.status.success(), "dig {words}: no answer");
        Ok(String::from_utf8_lossy(&said.stdout).trim().to_owned())
    };
    let answer = dig(&format!("{NAME} A"))?;
    let from = dig("id.server CH TXT")?;
    Ok((answer, from.trim_matches('"').to_owned()))
}

/// Runs a command of geodns, and shows both.
fn shown(daemon: &Daemon, words: &str) -> Result<()> {
    step()?;
    println!("\n$ geodns {words}");
    print!("{}", daemon.ok(words).context("the command failed")?);
    Ok(())
}

fn row(cells: &[&str; 4]) {
    let [client, question, answer, from] = cells;
    println!("  {client:<8} {question:<18} {answer:<16} {from}");
}

//! The world of sites itself: each client is answered by its own site, and by another one when that withdraws or falls
//! silent, whether BIRD or FRR announces it.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use geodns_tests::daemon::Daemon;
use geodns_tests::needs_root;
use geodns_tests::sites::asker::Asker;
use geodns_tests::sites::routing::{Bird, Detection, Frr, LEARNED, frr_node, node};
use geodns_tests::sites::{self, Site, Sites, V4, V6};

/// Gives a node the routes that say how it stands.
fn announce(site: &Site, metric: u32) -> Result<()> {
    site.node.ip_batch(&format!(
        "route add {V4}/32 dev geodns0 metric {metric} proto 53\nroute add {V6}/128 dev geodns0 metric {metric} proto \
         53\n"
    ))
}

fn withdraw(site: &Site, metric: u32) -> Result<()> {
    site.node.ip_batch(&format!(
        "route del {V4}/32 dev geodns0 metric {metric}\nroute del {V6}/128 dev geodns0 metric {metric}\n"
    ))
}

/// A daemon at each site, and a device for its routes.
fn daemons(world: &Sites) -> Result<Vec<Daemon>> {
    let start = |site: &Site| {
        site.node
            .ip_batch("tuntap add dev geodns0 mode tun\nlink set geodns0 up\n")?;
        Daemon::start(&site.node, &sites::setup(site.number))
    };
    world.sites.iter().map(start).collect()
}

/// Waits until the client of a site is answered by another one.
fn moved(world: &Sites, site: usize) -> Result<()> {
    let start = Instant::now();
    while [V4, V6].iter().any(|address| {
        let who = world.who(site, address);
        !who.is_ok_and(|who| who.is_some_and(|who| who != site))
    }) {
        ensure!(
            start.elapsed() < Duration::from_secs(60),
            "{}",
            world.routes()?
        );
    }
    // An asker beside this asks some more meanwhile.
    std::thread::sleep(Duration::from_millis(500));
    Ok(())
}

#[test]
fn clients_move_as_routes_say() -> Result<()> {
    needs_root!();
    let world = Sites::new(3, Detection::Bfd)?;
    let _daemons = daemons(&world)?;
    let birds: Result<Vec<Bird>> = world
        .sites
        .iter()
        .map(|site| Bird::start(&site.node, &node(site.number, Detection::Bfd, LEARNED)))
        .collect();
    let _birds = birds?;
    for site in &world.sites {
        announce(site, 100)?;
    }
    world.settle()?;
    let first = &world.sites[0];

    for metric in [200, 300] {
        let asker = Asker::start(&first.client, V4, 1000)?;
        std::thread::sleep(Duration::from_millis(200));
        let event = Instant::now();
        announce(first, metric)?;
        withdraw(first, 100)?;
        moved(&world, 1)?;
        let course = asker.finish()?;
        course.moved_from(1, event).context("nobody moved")?;
        ensure!(course.lost() == 0, "{} are lost", course.lost());
        announce(first, 100)?;
        withdraw(first, metric)?;
        world.settle()?;
    }

    let asker = Asker::start(&first.client, V6, 1000)?;
    std::thread::sleep(Duration::from_millis(200));
    let event = Instant::now();
    world.silence(1)?;
    moved(&world, 1)?;
    let course = asker.finish()?;
    let moved = course.moved_from(1, event).context("nobody moved")?;
    // BFD gives up after 300 ms.
    ensure!(moved > Duration::from_millis(150), "moved after {moved:?}");
    ensure!(course.lost() > 0 && course.longest_gap() >= Duration::from_millis(150));
    world.join(1)?;
    world.settle()?;

    // The last site is the last resort, and answers all.
    for site in &world.sites {
        announce(site, 300)?;
        withdraw(site, 100)?;
    }
    world.settle()?;
    for site in &world.sites[..2] {
        withdraw(site, 300)?;
    }
    world.wait_for(&[Some(3); 3])?;
    Ok(())
}

#[test]
fn frr_announces_as_bird_does() -> Result<()> {
    needs_root!();
    let world = Sites::new(2, Detection::Bfd)?;
    for site in &world.sites {
        site.deliver_by_routes()?;
    }
    let _daemons = daemons(&world)?;
    let frrs: Result<Vec<Frr>> = world
        .sites
        .iter()
        .map(|site| Frr::start(&site.node, &frr_node(site.number)))
        .collect();
    let frrs = frrs?;
    for site in &world.sites {
        announce(site, 100)?;
    }
    world.settle().with_context(|| frrs[0].log())?;
    let first = &world.sites[0];
    for metric in [200, 300] {
        announce(first, metric)?;
        withdraw(first, 100)?;
        world.wait_for(&[Some(2), Some(2)])?;
        announce(first, 100)?;
        withdraw(first, metric)?;
        world.settle()?;
    }
    withdraw(first, 100)?;
    world.wait_for(&[Some(2), Some(2)])?;
    Ok(())
}

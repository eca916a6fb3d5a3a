//! The real prefix list, all of it: every client gets the mirror of its prefix, and every answer the
//! largest scope that is all one region.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use geodns::plan::Plan;
use geodns_common::abi::Family;
use geodns_common::verdict::Verdict;
use geodns_tests::dns::{A, Query, Reply};
use geodns_tests::needs_root;
use geodns_tests::packet::{Frame, SERVER_MAC};
use geodns_tests::real::{self, MIRRORS, NAME};
use geodns_tests::rig::{Action, Responder};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

/// The list, if it is here; a test that wants it says so if not.
fn list(test: &str) -> Option<PathBuf> {
    let list = geodns_tests::real_prefixes();
    if list.is_none() {
        geodns_tests::skipped(test, "no data; run `cargo xtask data`");
    }
    list
}

/// Runs of addresses by their last one: the mirror, the default where no prefix is.
fn runs(list: &Path) -> Result<BTreeMap<u32, usize>> {
    let default = 0;
    let mut runs: BTreeMap<u32, usize> = BTreeMap::new();
    let mut end: u64 = 0;
    let mut put = |last: u64, mirror: usize| {
        let last = u32::try_from(last).expect("an address");
        match runs.last_entry() {
            Some(before) if *before.get() == mirror => {
                before.remove();
                runs.insert(last, mirror);
            }
            _ => {
                runs.insert(last, mirror);
            }
        }
    };
    for line in std::fs::read_to_string(list)?.lines() {
        let (prefix, id) = line.split_once(',').context("prefix,mirror")?;
        let prefix: ipnet::Ipv4Net = prefix.parse()?;
        let first = u64::from(prefix.network().to_bits());
        let mirror = MIRRORS.iter().position(|(mirror, _)| *mirror == id);
        ensure!(first >= end, "the list is sorted and disjoint: {line}");
        if first > end {
            put(first - 1, default);
        }
        put(
            prefix.broadcast().to_bits().into(),
            mirror.context("known")?,
        );
        end = u64::from(prefix.broadcast().to_bits()) + 1;
    }
    if end <= u64::from(u32::MAX) {
        put(u32::MAX.into(), default);
    }
    Ok(runs)
}

/// Whether all of a prefix is in one run.
fn is_one(runs: &BTreeMap<u32, usize>, first: u32, len: u8) -> bool {
    let last = first | u32::MAX.checked_shr(len.into()).unwrap_or(0);
    runs.range(first..)
        .next()
        .is_some_and(|(&end, _)| end >= last)
}

fn masked(address: u32, len: u8) -> u32 {
    address & u32::MAX.checked_shl(u32::from(32 - len)).unwrap_or(0)
}

#[test]
fn scopes_tile_the_whole_space_and_are_as_large_as_can_be() -> Result<()> {
    let Some(list) = list("scopes_tile_the_whole_space_and_are_as_large_as_can_be") else {
        return Ok(());
    };
    let runs = runs(&list)?;
    let world = real::compiled(Some(&list))?;
    let plan = world.plan.read().expect("not poisoned");
    let select = |plan: &Plan, address: u32| {
        let selection = plan.select(0, Family::V4, IpAddr::V4(Ipv4Addr::from(address)));
        (usize::from(selection.mirrors[0]), selection.scope)
    };
    let mut random = SmallRng::seed_from_u64(1);
    let mut at: u64 = 0;
    let mut blocks = 0_u64;
    while at <= u64::from(u32::MAX) {
        let first = at as u32;
        let what = || Ipv4Addr::from(first);
        let (mirror, scope) = select(&plan, first);
        let wanted = runs.range(first..).next().map(|(_, mirror)| *mirror);
        ensure!(
            Some(mirror) == wanted,
            "{}: mirror {mirror}, not {wanted:?}",
            what()
        );
        ensure!(masked(first, scope) == first, "{}/{scope} overlaps", what());
        ensure!(
            is_one(&runs, first, scope),
            "{}/{scope} is not all one",
            what()
        );
        if scope > 0 {
            let around = masked(first, scope - 1);
            ensure!(
                !is_one(&runs, around, scope - 1),
                "{}/{scope} could be larger",
                what()
            );
        }
        // Whoever asks from inside hears the same.
        let size = 1_u64 << (32 - scope);
        for inside in [size - 1, random.random_range(0..size)] {
            let address = (at + inside) as u32;
            ensure!(
                select(&plan, address) == (mirror, scope),
                "{}: not as {}/{scope} around it",
                Ipv4Addr::from(address),
                what()
            );
        }
        at += size;
        blocks += 1;
    }
    ensure!(blocks > 500_000, "{blocks} scopes only");
    println!("{blocks} scopes");
    Ok(())
}

#[test]
fn the_kernel_sends_every_client_where_the_list_says() -> Result<()> {
    needs_root!();
    let Some(list) = list("the_kernel_sends_every_client_where_the_list_says") else {
        return Ok(());
    };
    let runs = runs(&list)?;
    let world = real::compiled(Some(&list))?;
    let plan = world.plan.read().expect("not poisoned");
    let mut responder = Responder::load(&*plan, plan.capacity())?;
    responder.listen(&[("192.0.2.53".parse()?, 1, SERVER_MAC)])?;
    let mut random = SmallRng::seed_from_u64(2);
    let mut seen = BTreeMap::new();
    for _ in 0..20_000 {
        let client = loop {
            let client: u32 = random.random();
            let first = client >> 24;
            if first != 0 && first != 127 && first < 224 {
                break client;
            }
        };
        let message = Query::new(NAME, A).bytes();
        let frame = Frame::new(&Ipv4Addr::from(client).to_string(), "192.0.2.53", message);
        let outcome = responder.run(&frame.bytes())?;
        ensure!((outcome.action, outcome.verdict) == (Action::Tx, Verdict::Answered));
        let reply = Reply::parse(frame.response(&outcome.frame)?)?;
        let mirror = *runs.range(client..).next().context("a run")?.1;
        let wanted = format!("192.0.2.{}", MIRRORS[mirror].1);
        ensure!(
            reply.of("A") == [wanted.as_str()],
            "{}: {reply}",
            Ipv4Addr::from(client)
        );
        *seen.entry(mirror).or_insert(0) += 1;
    }
    ensure!(seen.len() == MIRRORS.len(), "{seen:?}");
    Ok(())
}

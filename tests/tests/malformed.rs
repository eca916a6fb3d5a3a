//! Ten million queries, most of them with something wrong, at the responder on the host: whatever
//! it answers, the slow path answers with the same octets.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::thread;

use anyhow::{Result, ensure};
use geodns::serve::{Identity, Transport, answer};
use geodns::world::World;
use geodns_common::respond::respond;
use geodns_common::scratch::Scratch;
use geodns_common::verdict::Verdict;
use geodns_tests::mutate::Mutator;
use geodns_tests::world;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

const QUERIES: u64 = 10_000_000;
const THREADS: u64 = 2;

const NAMES: &[&str] = &[
    "www.example.org",
    "example.org",
    "v4.example.org",
    "x.cdn.example.org",
    "a.b.c.cdn.example.org",
    "a.b.c.d.e.f.g.h.i.j.k.l.m.n.cdn.example.org",
    "stop.cdn.example.org",
    "x.stop.cdn.example.org",
    "ent.example.org",
    "ns1.example.org",
    "none.example.org",
    "sub.example.org",
    "alias.example.org",
    "away.example.org",
    "other.net",
];

const CLIENTS: &[&str] = &[
    "10.1.2.3",
    "10.200.1.9",
    "10.200.2.9",
    "198.51.100.1",
    "2001:db8::8001",
    "2001:db8:8000::1",
];

/// Addresses near which client subnets lie: edges of the table, and blocks that say nothing.
const SUBNETS: &[&str] = &[
    "20.127.255.255",
    "20.200.1.77",
    "8.8.8.8",
    "10.1.2.3",
    "198.51.100.1",
    "2a00::",
    "2a00:0:0:1::",
    "2a00::8001",
    "2600::1",
    "2001:db8::1",
    "::ffff:1.2.3.4",
];

/// Throws queries at the responder. Gives how often each verdict was.
fn throw(world: &World, seed: u64, queries: u64) -> Result<Vec<u64>> {
    let identity = Identity {
        id: world.inputs.config.server.id(),
        nsid: world.inputs.config.server.nsid(),
        version: Some("test".into()),
        cookies: None,
    };
    let clients = CLIENTS
        .iter()
        .map(|client| client.parse())
        .collect::<Result<Vec<IpAddr>, _>>()?;
    let plan = world.plan.read().expect("not poisoned");
    let mutator = Mutator::new(NAMES, SUBNETS);
    let mut rng = SmallRng::seed_from_u64(seed);
    let mut scratch = Box::new(Scratch::new());
    let mut verdicts = vec![0; Verdict::ALL.len()];
    let (mut query, mut slow) = (Vec::new(), Vec::new());
    for _ in 0..queries {
        mutator.next(&mut rng, &mut query);
        let client = clients[rng.random_range(0..clients.len())];
        ensure!(
            scratch.set_query(&query, client),
            "the query is longer than a frame"
        );
        let verdict = respond(&mut scratch, &*plan);
        verdicts[verdict as usize] += 1;
        if verdict.is_answer() {
            let answered = answer(world, &identity, &query, client, Transport::Udp, &mut slow);
            ensure!(
                answered && slow == scratch.message(),
                "seed {seed}: {client} asks {query:02x?}\nfast {:02x?}\nslow {slow:02x?}",
                scratch.message()
            );
        }
    }
    Ok(verdicts)
}

#[test]
fn never_a_wrong_answer() -> Result<()> {
    let world = world::compiled("steered_apex")?;
    let seed: u64 = rand::random();
    println!("seeds {seed} and following");
    let counts = thread::scope(|scope| -> Result<_> {
        let threads: Vec<_> = (0..THREADS)
            .map(|thread| {
                let (world, seed) = (&world, seed.wrapping_add(thread));
                scope.spawn(move || throw(world, seed, QUERIES / THREADS))
            })
            .collect();
        let mut counts = BTreeMap::new();
        for thread in threads {
            for (verdict, count) in Verdict::ALL.iter().zip(thread.join().expect("no panic")?) {
                *counts.entry(verdict.name()).or_insert(0) += count;
            }
        }
        Ok(counts)
    })?;
    println!("{counts:#?}");
    ensure!(
        counts.values().sum::<u64>() == QUERIES,
        "a query without a verdict"
    );
    // The test would prove nothing if hardly anything were answered, or a reason never came up.
    for name in ["answered", "static", "nodata", "nxdomain"] {
        ensure!(
            counts[name] > QUERIES / 1000,
            "only {} {name}",
            counts[name]
        );
    }
    for name in [
        "pass_message_size",
        "drop_response",
        "pass_header",
        "pass_counts",
        "pass_bad_name",
        "pass_many_labels",
        "pass_class",
        "pass_qtype",
        "pass_trailing",
        "pass_bad_opt",
        "pass_edns_version",
        "pass_edns_option",
        "pass_unknown_name",
        "pass_slow_name",
        "pass_slow_records",
        "pass_no_region",
    ] {
        ensure!(counts[name] > 0, "{name} never came up");
    }
    ensure!(
        counts["pass_internal"] == 0,
        "an invariant of the tables did not hold"
    );
    Ok(())
}

//! Any octets at the fast path: whatever it answers, the slow path answers with the same octets.
//! The first four octets are the client's address.

#![no_main]

use std::net::{IpAddr, Ipv4Addr};
use std::sync::LazyLock;

use geodns::serve::{Identity, Transport, answer};
use geodns::world::World;
use geodns_common::respond::{Scratch, respond};
use libfuzzer_sys::fuzz_target;

static WORLD: LazyLock<(World, Identity)> =
    LazyLock::new(|| (geodns_fuzz::world(), geodns_fuzz::identity()));

fuzz_target!(|data: &[u8]| {
    let Some((client, query)) = data.split_first_chunk::<4>() else {
        return;
    };
    let client = IpAddr::V4(Ipv4Addr::from(*client));
    let mut scratch = Scratch::new();
    if !scratch.set_query(query, client) {
        return;
    }
    let (world, identity) = &*WORLD;
    let plan = world.plan.read().unwrap();
    if respond(&mut scratch, &*plan).is_answer() {
        let mut slow = Vec::new();
        assert!(answer(
            world,
            identity,
            query,
            client,
            Transport::Udp,
            &mut slow
        ));
        assert_eq!(scratch.message(), slow);
    }
});

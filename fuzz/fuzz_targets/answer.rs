//! Any octets at the slow path: no panic, and a response that gives the id back and says it is one.

#![no_main]

use std::net::IpAddr;
use std::sync::LazyLock;

use geodns::serve::{Identity, Transport, answer};
use geodns::world::World;
use libfuzzer_sys::fuzz_target;

static WORLD: LazyLock<(World, Identity)> =
    LazyLock::new(|| (geodns_fuzz::world(), geodns_fuzz::identity()));

fuzz_target!(|query: &[u8]| {
    let (world, identity) = &*WORLD;
    let client: IpAddr = "192.0.2.7".parse().unwrap();
    let mut response = Vec::new();
    for (transport, limit) in [(Transport::Udp, 1232), (Transport::Tcp, 65535)] {
        if answer(world, identity, query, client, transport, &mut response) {
            assert!(response.len() >= 12 && response.len() <= limit);
            assert_eq!(response[..2], query[..2]);
            assert!(response[2] & 0x80 != 0);
        }
    }
});

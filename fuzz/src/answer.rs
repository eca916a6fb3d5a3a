//! Any octets at the fast path. The first octet is who asks; of 4 and more, four octets that follow are.

use std::net::Ipv4Addr;

use geodns::serve::{Transport, answer as slow};
use geodns_common::respond::respond;
use geodns_common::scratch::Scratch;

use crate::message::check;
use crate::world::{self, IDENTITY, WORLD};

/// No panic; and whatever is answered, the slow path answers with the same octets.
pub fn answer(data: &[u8]) {
    let (client, query) = match data {
        [how @ 0..4, query @ ..] => (world::client(*how), query),
        [_, a, b, c, d, query @ ..] => (Ipv4Addr::new(*a, *b, *c, *d).into(), query),
        _ => return,
    };
    let mut scratch = Scratch::new();
    if !scratch.set_query(query, client) {
        return;
    }
    let verdict = {
        let plan = WORLD.plan.read().expect("nobody writes");
        respond(&mut scratch, &*plan)
    };
    if !verdict.is_answer() {
        return;
    }
    let told = scratch.message();
    check(query, told, Transport::Udp);
    assert_eq!(told[2] & 2, 0, "what does not fit is passed");
    let mut other = Vec::new();
    let answered = slow(&WORLD, &IDENTITY, query, client, Transport::Udp, &mut other);
    assert!(answered);
    assert_eq!(told, other);
}

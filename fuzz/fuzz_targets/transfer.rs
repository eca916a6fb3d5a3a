//! Any octets as the messages of a transfer, each behind its length: no panic, and a zone only from one that
//! is whole.

#![no_main]

use bytes::Bytes;
use domain::base::Message;
use geodns::transfer::receive::{Received, Receiver};
use geodns::zone::parse_name;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|octets: &[u8]| {
    let mut receiver = Receiver::new(parse_name("example.org").unwrap());
    let mut rest = octets;
    while let Some((&[high, low], after)) = rest.split_first_chunk() {
        let Some((message, after)) = after.split_at_checked(u16::from_be_bytes([high, low]).into())
        else {
            break;
        };
        rest = after;
        let Ok(message) = Message::from_octets(Bytes::copy_from_slice(message)) else {
            return;
        };
        match receiver.take(message) {
            Ok(true) => break,
            Ok(false) => {}
            Err(_) => return,
        }
    }
    if let Ok(Received::Zone(zone)) = receiver.finish() {
        assert!(!zone.is_empty());
    }
});

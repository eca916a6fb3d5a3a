//! See `geodns_fuzz::respond`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| geodns_fuzz::respond::respond(data));

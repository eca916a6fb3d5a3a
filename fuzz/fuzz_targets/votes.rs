//! See `geodns_fuzz::votes`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| geodns_fuzz::votes::votes(data));

//! See `geodns_fuzz::transfer`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| geodns_fuzz::transfer::transfer(data));

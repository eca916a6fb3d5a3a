//! See `geodns_fuzz::config`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| geodns_fuzz::config::config(data));

//! See `geodns_fuzz::zone_file`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| geodns_fuzz::zone_file::zone_file(data));

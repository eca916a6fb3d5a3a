//! See `geodns_fuzz::answer`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| geodns_fuzz::answer::answer(data));

//! Any octets as a zone file: no panic; either a zone whose records are canonical and sorted, or errors,
//! each one line that names a line of the file. Begin with the seeds: `cargo +nightly fuzz run zone_file
//! fuzz/corpus/zone_file fuzz/seeds/zone_file`.

#![no_main]

use std::path::Path;

use geodns::zone::{parse, parse_name};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|content: &[u8]| {
    // Files of this machine are no part of the input.
    if content
        .windows(8)
        .any(|word| word.eq_ignore_ascii_case(b"$include"))
    {
        return;
    }
    let apex = parse_name("example.org").unwrap();
    let reading = parse(&apex, Path::new("zone"), content);
    let found = &reading.findings;
    assert_eq!(reading.zone.is_some(), found.errors.is_empty());
    let lines = 1 + content.iter().filter(|&&byte| byte == b'\n').count();
    for finding in found.errors.iter().chain(&found.warnings) {
        assert_eq!(finding.to_string().lines().count(), 1);
        assert!(finding.line.is_none_or(|line| line <= lines));
    }
    for node in reading.zone.iter().flat_map(|zone| zone.nodes()) {
        assert!(node.name().ends_with(&apex));
        for rrset in node.rrsets() {
            assert!(rrset.rdata().is_sorted() && rrset.rdata().next().is_some());
        }
    }
});

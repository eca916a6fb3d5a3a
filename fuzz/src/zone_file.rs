//! Any octets as a zone file, and as those that it includes: `=` and a digit at the beginning of a line begin
//! a file of that name.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use geodns::base::name::parse_name;
use geodns::zone::{self, Run, Zone, parse, take};

/// Octets of a zone, at the most, for each octet of its file, if that generates nothing.
const OCTETS: usize = 1024;

/// No panic; either a zone, or errors, each one line that names a line of a file. The zone's records are
/// canonical and sorted, it takes no more memory than its files allow, and a secondary may have it.
pub fn zone_file(content: &[u8]) {
    if is_abroad(content) || makes_many(content) {
        return;
    }
    let (file, others) = files(content);
    let apex = parse_name("example.org").expect("a name");
    let reading = if !has(content, b"$include") {
        parse(&apex, Path::new("zone"), file)
    } else {
        let folder = tempfile::tempdir().expect("a folder");
        for (name, content) in &others {
            fs::write(folder.path().join(name.to_string()), content).expect("there is room");
        }
        parse(&apex, &folder.path().join("zone"), file)
    };
    let found = &reading.findings;
    assert_eq!(reading.zone.is_some(), found.errors.is_empty());
    let lines = 1 + content.iter().filter(|&&byte| byte == b'\n').count();
    for finding in found.errors.iter().chain(&found.warnings) {
        assert_eq!(finding.to_string().lines().count(), 1);
        assert!(finding.line.is_none_or(|line| line <= lines));
    }
    let Some(zone) = reading.zone else { return };
    for node in zone.nodes() {
        assert!(node.name().ends_with(&apex));
        for rrset in node.rrsets() {
            let order = |one: &&[u8], next: &&[u8]| zone::compare(rrset.rtype, one, next).is_lt();
            assert!(rrset.rdata().is_sorted_by(order) && rrset.rdata().next().is_some());
        }
    }
    if !has(content, b"$generate") && others.is_empty() {
        assert!(zone.memory() <= OCTETS * (content.len() + 64));
    }
    transferred(&zone);
}

/// A secondary takes the zone that its primary took.
fn transferred(zone: &Zone) {
    let records = Run::from(zone);
    let taken = take::from_run(&zone.apex, &records).expect("it follows the rules");
    assert!(Run::from(&taken) == records || taken.differences(zone).is_empty());
}

fn has(content: &[u8], word: &[u8]) -> bool {
    let mut windows = content.windows(word.len());
    windows.any(|window| window.eq_ignore_ascii_case(word))
}

/// Files of this machine are no part of the input.
fn is_abroad(content: &[u8]) -> bool {
    has(content, b"$include") && content.iter().any(|byte| b"/\\".contains(byte))
}

/// A million records by `$GENERATE` take a second, and the fuzzer's next inputs would all do that.
fn makes_many(content: &[u8]) -> bool {
    let is_long = |digits: &[u8]| digits.iter().all(u8::is_ascii_digit);
    has(content, b"$generate") && content.windows(4).any(is_long)
}

/// The zone file, and those beside it by their names; of two with one name, the later counts.
fn files(content: &[u8]) -> (&[u8], BTreeMap<char, &[u8]>) {
    let mut others = BTreeMap::new();
    if !has(content, b"$include") {
        return (content, others);
    }
    let is_mark = |three: &[u8]| three.starts_with(b"\n=") && three[2].is_ascii_digit();
    let marks = content.windows(3).enumerate();
    let marks: Vec<_> = marks.filter(|(_, three)| is_mark(three)).collect();
    let mut end = content.len();
    for &(at, three) in marks.iter().rev() {
        let file = &content[at + 3..end];
        others.entry(char::from(three[2])).or_insert(file);
        end = at + 1;
    }
    (&content[..end], others)
}

//! Zone files and steered names: those that are taken, and the exact line for each that is refused.

use std::fs;
use std::path::{Path, PathBuf};

use domain::base::Rtype;
use proptest::prelude::*;

use super::*;
use crate::base::name::parse_name;

/// The least zone; its text is put before each case's.
const HEAD: &str = "$TTL 300\n@ SOA ns host 1 2 3 4 60\n@ NS ns.example.net.\n";

fn name(text: &str) -> Name {
    parse_name(text).unwrap()
}

/// The zone, or the first error.
fn parse(text: impl AsRef<[u8]>) -> Result<Zone, Error> {
    zone_of(super::parse(
        &name("example.org"),
        Path::new("z"),
        text.as_ref(),
    ))
}

fn zone_of(reading: Reading) -> Result<Zone, Error> {
    let Findings { errors, .. } = reading.findings;
    match (reading.zone, errors.into_iter().next()) {
        (Some(zone), None) => Ok(zone),
        (None, Some(error)) => Err(error),
        both => panic!("either a zone or errors, not {both:?}"),
    }
}

/// TTL and RDATA of an RRset.
fn rrset<'a>(zone: &'a Zone, owner: &str, rtype: Rtype) -> (u32, Vec<&'a [u8]>) {
    let node = zone.node(name(owner).for_slice()).unwrap();
    let rrset = node.rrset(rtype).unwrap();
    (rrset.ttl, rrset.rdata().collect())
}

#[test]
fn records_are_canonical_sorted_and_single() {
    let zone = parse(
        "$TTL 1h\n\
         EXAMPLE.org. IN SOA Ns.Example.ORG. host.sub 7 2h 15m 1w 1m\n\
         \tNS Ns.Net.\n\
         \t60 IN NS ns.other.net.\n\
         $ORIGIN Example.Org.\n\
         A.b IN 1m A 192.0.2.9\n\
         \x20   60 A 192.0.2.10\n\
         a.B 60 A 192.0.2.9\n\
         a.b 60 A \\# 4 C0000209\n\
         $ORIGIN x\n\
         y MX 10 @\n\
         \x20 MX 5 MAIL\n\
         @ TXT \"a;(\" b ( c ; d\n\
         e )\n\
         @ TYPE65280 \\# 2 abcd\n",
    )
    .unwrap();
    // Names in data are as they are written.
    let soa = b"\x02Ns\x07Example\x03ORG\0\x04host\x03sub\x07example\x03org\0\
        \0\0\0\x07\0\0\x1c\x20\0\0\x03\x84\0\x09\x3a\x80\0\0\0\x3c";
    assert_eq!(
        rrset(&zone, "example.org", Rtype::SOA),
        (3600, vec![&soa[..]])
    );
    assert_eq!(zone.soa().first(), &soa[..]);
    assert_eq!(zone.serial(), 7);
    assert_eq!(zone.negative_ttl(), 60);
    // The least TTL of an RRset; RDATA by its octets.
    let (ttl, ns) = rrset(&zone, "example.org", Rtype::NS);
    assert_eq!(ttl, 60);
    assert_eq!(ns, [&b"\x02Ns\x03Net\0"[..], b"\x02ns\x05other\x03net\0"]);
    let a: Vec<&[u8]> = vec![&[192, 0, 2, 9], &[192, 0, 2, 10]];
    assert_eq!(rrset(&zone, "a.b.example.org", Rtype::A), (60, a));
    let mx: Vec<&[u8]> = vec![
        b"\0\x05\x04MAIL\x01x\x07Example\x03Org\0",
        b"\0\x0a\x01x\x07Example\x03Org\0",
    ];
    assert_eq!(rrset(&zone, "y.x.example.org", Rtype::MX), (3600, mx));
    let txt: Vec<&[u8]> = vec![b"\x03a;(\x01b\x01c\x01e"];
    assert_eq!(rrset(&zone, "x.example.org", Rtype::TXT), (3600, txt));
    let unknown: Vec<&[u8]> = vec![b"\xab\xcd"];
    assert_eq!(
        rrset(&zone, "x.example.org", Rtype::from_int(65280)),
        (3600, unknown)
    );
    // Empty non-terminals are there, and nothing else is.
    let node = zone.node(name("b.example.org").for_slice());
    assert!(node.unwrap().is_empty());
    let mut names: Vec<String> = zone.nodes().map(|node| node.name().to_string()).collect();
    names.sort();
    assert_eq!(
        names,
        [
            "a.b.example.org",
            "b.example.org",
            "example.org",
            "x.example.org",
            "y.x.example.org"
        ]
    );
}

#[test]
fn negative_answers_live_as_long_as_the_shorter_of_soa_ttl_and_minimum() {
    let zone = parse("@ 30 SOA a b 1 2 3 4 60\n@ NS ns.example.net.\n").unwrap();
    assert_eq!(zone.negative_ttl(), 30);
}

#[test]
fn a_file_may_end_without_a_newline_and_have_windows_line_ends() {
    let zone = parse(HEAD.replace('\n', "\r\n") + "\r\na A 192.0.2.1").unwrap();
    assert_eq!(rrset(&zone, "a.example.org", Rtype::A).1, [[192, 0, 2, 1]]);
}

#[test]
fn what_signs_may_stand_beside_a_cname() {
    let zone = parse(format!(
        "{HEAD}a CNAME b\na NSEC b CNAME\nb NS ns\n*.c A 192.0.2.1\n"
    ))
    .unwrap();
    assert!(zone.is_cut(name("b.example.org").for_slice()));
    assert!(!zone.is_cut(name("example.org").for_slice()));
    assert!(!zone.is_cut(name("a.example.org").for_slice()));
    assert!(zone.node(name("c.example.org").for_slice()).is_some());
}

#[test]
fn each_wrong_record_is_one_clear_line() {
    for (text, expect) in [
        // What the scanner refuses. The head has three lines.
        (
            "a A 192.0.2.256\n",
            "z:4: a.example.org A: \"192.0.2.256\" is not an IPv4 address; write one, as 192.0.2.1",
        ),
        (
            "\n; x\na\n",
            "z:6: the type is missing; write OWNER [TTL] [CLASS] TYPE DATA",
        ),
        (
            "a A 192.0.2.1 x\n",
            "z:4: a.example.org A: \"x\" is more than the type takes; quote strings with spaces",
        ),
        (
            "a (\nTXT x\n) y )\n",
            "z:6: a ')' that nothing opens; remove it, or open it before",
        ),
        (
            "a TXT (\nx\n",
            "z:4: the ( of this entry is not closed; close it",
        ),
        (
            "a IN 1x A 192.0.2.1\n",
            "z:4: \"1x\" is not a time; write seconds, or numbers with the units s, m, h, d and w, as 1h30m",
        ),
        (
            "a CH TXT x\n",
            "z:4: the class \"CH\"; zones are of class IN, remove it",
        ),
        (
            "a FOO x\n",
            "z:4: \"FOO\" is no type; write OWNER [TTL] [CLASS] TYPE DATA, and an unknown type as TYPE65280",
        ),
        (
            "a IN 60 IN A 192.0.2.1\n",
            "z:4: \"IN\" is no type; write OWNER [TTL] [CLASS] TYPE DATA, and an unknown type as TYPE65280",
        ),
        (
            "a 4294967296 A 192.0.2.1\n",
            "z:4: the TTL \"4294967296\" is out of range; write 0 to 2147483647",
        ),
        (
            "$TTL 3551w\n",
            "z:4: the TTL \"3551w\" is out of range; write 0 to 2147483647",
        ),
        ("$TTL\n", "z:4: $TTL: a time belongs here; write that"),
        (
            "$FOO a\n",
            "z:4: no directive \"$FOO\"; there are $ORIGIN, $TTL, $INCLUDE and $GENERATE",
        ),
        (
            "$GENERATE 9-1 a A 192.0.2.$\n",
            "z:4: $GENERATE: \"9-1\" is not a range; write START-STOP or START-STOP/STEP, as 1-254",
        ),
        (
            "\n$GENERATE 254-257 a$ A 192.0.2.$\n",
            "z:5: $GENERATE: a256.example.org A: \"192.0.2.256\" is not an IPv4 address; write one, as 192.0.2.1",
        ),
        (
            "$GENERATE 1-2 a${-2} A 192.0.2.$\n",
            "z:4: $GENERATE: an offset makes 1 negative; correct it",
        ),
        (
            "$GENERATE 0-1048575 a A 192.0.2.1\n$GENERATE 1-1 a A 192.0.2.1\n",
            "z:5: $GENERATE: more than 1048576 records by $GENERATE in one zone; make fewer",
        ),
        (
            "a TYPE65280 x\n",
            "z:4: a.example.org TYPE65280: data of TYPE65280 records has no other form than \\# LENGTH HEX (RFC 3597); write that",
        ),
        (
            "a TXT \u{1}\n",
            "z:4: a.example.org TXT: the octet 1 is not printable; write it as \\001",
        ),
        (
            "\u{e4} TXT a\n",
            "z:4: \"\\u{e4}\" has letters outside ASCII; write its labels in their \"xn--\" form",
        ),
        (
            "a..b A 192.0.2.1\n",
            "z:4: \"a..b\" has an empty label; remove a dot",
        ),
        (
            "a NS b..c\n",
            "z:4: a.example.org NS: \"b..c\" has an empty label; remove a dot",
        ),
        (
            "\"a\" A 192.0.2.1\n",
            "z:4: a name in quotes; write it without",
        ),
        (
            "a TXT \"x\n\n",
            "z:4: the \" of this line is not closed; close it, and write a newline as \\010",
        ),
        (
            "$ORIGIN b..c\na A 192.0.2.1\n",
            "z:4: \"b..c\" has an empty label; remove a dot",
        ),
        (
            "$INCLUDE\n",
            "z:4: $INCLUDE: a file and, if need be, an origin belong here; write those",
        ),
        (
            "$INCLUDE \"\" b\n",
            "z:4: $INCLUDE: \"\" is not a path; write one",
        ),
        (
            "$INCLUD\\E f\n",
            "z:4: no directive \"$INCLUD\\\\E\"; there are $ORIGIN, $TTL, $INCLUDE and $GENERATE",
        ),
        (
            "$INCLUDE f ..\n",
            "z:4: \"..\" has an empty label; remove a dot",
        ),
        // What may not be in a zone.
        (
            "a.example.net. A 192.0.2.1\n",
            "z:4: a.example.net A: outside the zone example.org; move it to its own zone, or end its name as this one's",
        ),
        (
            "notexample.org. A 192.0.2.1\n",
            "z:4: notexample.org A: outside the zone example.org; move it to its own zone, or end its name as this one's",
        ),
        (
            "a SOA b c 1 2 3 4 5\n",
            "z:4: a.example.org SOA: a SOA stands at the apex only; move it to example.org",
        ),
        (
            "\n@ SOA ns host 2 (\n2 3 4 60 )\n",
            "z:5: example.org SOA: a second SOA; a name has one, remove one",
        ),
        (
            "@ CNAME b\n",
            "z:4: example.org CNAME: a CNAME may not stand at the apex, beside SOA and NS; write addresses, or steer the name",
        ),
        (
            "a CNAME b\na CNAME c\n",
            "z:5: a.example.org CNAME: a second CNAME; a name has one, remove one",
        ),
        (
            "a CNAME b\na TXT c\n",
            "z:5: a.example.org TXT: stands beside CNAME; nothing may stand beside a CNAME (RFC 2181 section 10.1), remove one",
        ),
        (
            "a TXT c\nA CNAME b\n",
            "z:5: a.example.org CNAME: stands beside TXT; nothing may stand beside a CNAME (RFC 2181 section 10.1), remove one",
        ),
        (
            "a DNAME b\na DNAME c\n",
            "z:5: a.example.org DNAME: a second DNAME; a name has one, remove one",
        ),
        (
            "x.y.a TXT c\n\na DNAME b\n",
            "z:6: x.y.a.example.org stands below this DNAME; nothing may (RFC 6672 section 2.4), remove one",
        ),
        (
            "a 2147483648 A 192.0.2.1\n",
            "z:4: the TTL \"2147483648\" is out of range; write 0 to 2147483647",
        ),
        (
            "a TYPE41 \\# 0\n",
            "z:4: a.example.org OPT: a type for messages, not for zones; remove it",
        ),
        (
            "a TYPE255 \\# 0\n",
            "z:4: a.example.org ANY: a type for messages, not for zones; remove it",
        ),
        // A known type in the form of an unknown one.
        (
            "a A \\# 3 c00002\n",
            "z:4: a.example.org A: its data is not that of a A record; correct it",
        ),
        (
            "a A \\# 5 c000020101\n",
            "z:4: a.example.org A: its data is not that of a A record; correct it",
        ),
        (
            "a CNAME \\# 2 c000\n",
            "z:4: a.example.org CNAME: its data is not that of a CNAME record; correct it",
        ),
        (
            "a MX \\# 6 000a0161c002\n",
            "z:4: a.example.org MX: its data is not that of a MX record; correct it",
        ),
    ] {
        let error = parse(format!("{HEAD}{text}")).expect_err(text);
        assert_eq!(error.to_string(), expect, "{text:?}");
    }
}

#[test]
fn a_zone_that_is_not_whole_is_refused() {
    for (text, expect) in [
        (
            "",
            "z: example.org SOA: the zone has no SOA record at its apex; add one",
        ),
        (
            "@ 60 NS a.\n",
            "z: example.org SOA: the zone has no SOA record at its apex; add one",
        ),
        (
            "@ NS a.\n",
            "z:1: example.org NS: no TTL; write $TTL before the first record",
        ),
        (
            "@ SOA a b 1 2 3 4 5\n",
            "z: example.org NS: the zone has no NS record at its apex; add one",
        ),
        (
            " A 192.0.2.1\n",
            "z:1: the first record needs an owner name, at the line's beginning",
        ),
    ] {
        assert_eq!(parse(text).unwrap_err().to_string(), expect, "{text:?}");
    }
}

#[test]
fn octets_above_ascii_are_kept_in_strings_whatever_the_encoding() {
    let zone = parse([HEAD.as_bytes(), b"; \xff\na TXT \xe4 \"\xc3\xa4\"\n"].concat()).unwrap();
    let texts = rrset(&zone, "a.example.org", Rtype::TXT).1;
    assert_eq!(texts, [b"\x01\xe4\x02\xc3\xa4"]);
}

/// All that is said of a zone: errors, then warnings.
fn said(text: &str) -> (Vec<String>, Vec<String>) {
    let Findings {
        errors, warnings, ..
    } = super::parse(&name("example.org"), Path::new("z"), text.as_bytes()).findings;
    let lines = |found: Vec<Error>| found.iter().map(Error::to_string).collect();
    (lines(errors), lines(warnings))
}

#[test]
fn all_errors_are_found_at_once_and_lead_to_no_others() {
    let (errors, warnings) = said(
        "$TTL 1h\n\
         @ SOA ns host 1 2h 15m x 1m\n\
         \tNS ns\n\
         \tNS ns2\n\
         \tMX 10 mail\n\
         ns A 192.0.2.256\n\
         $TTL 1x\n\
         b..d A 192.0.2.1\n\
         \tTXT below a wrong owner\n\
         mail A \"x\n\
         c TXT x\n\
         c CNAME d\n\
         d TXT y\n",
    );
    assert_eq!(
        errors,
        [
            "z:2: example.org SOA: \"x\" is not a time; write seconds, or numbers with the units s, m, h, d and w, as 1h30m",
            "z:4: example.org NS: ns2.example.org does not exist; add an A or AAAA record, or end the name with a dot if it is another zone's",
            "z:6: ns.example.org A: \"192.0.2.256\" is not an IPv4 address; write one, as 192.0.2.1",
            "z:7: \"1x\" is not a time; write seconds, or numbers with the units s, m, h, d and w, as 1h30m",
            "z:8: \"b..d\" has an empty label; remove a dot",
            "z:10: the \" of this line is not closed; close it, and write a newline as \\010",
            "z:12: c.example.org CNAME: stands beside TXT; nothing may stand beside a CNAME (RFC 2181 section 10.1), remove one",
        ]
    );
    assert_eq!(warnings, [""; 0]);
}

#[test]
fn what_is_legal_and_hardly_meant_is_a_warning_with_its_line() {
    let (errors, warnings) = said(&format!(
        "{HEAD}a 60 A 192.0.2.1\na 30 A 192.0.2.2\na A 192.0.2.1\n\
         @ MX 1 nothere\n@ MX 2 alias\nalias CNAME a\n\
         sub NS ns.sub\nx.sub TXT hidden\n\
         one CNAME two\ntwo CNAME one\n\
         host_1 AAAA 2001:db8::1\n"
    ));
    assert_eq!(errors, [""; 0]);
    assert_eq!(
        warnings,
        [
            "z:2: example.org SOA: retry (3 s) is longer than refresh (2 s): a failure is tried again later than a success",
            "z:2: example.org SOA: expire (4 s) is no longer than refresh and retry (2 s and 3 s): secondaries give the zone up after one failure",
            "z:5: a.example.org A: TTL 30 beside 60 in one RRset; taking 30",
            "z:6: a.example.org A: TTL 300 beside 60 in one RRset; taking 30",
            "z:6: a.example.org A: the same record stands in line 4 already; remove one",
            "z:7: example.org MX: nothere.example.org does not exist; add an A or AAAA record, or end the name with a dot if it is another zone's",
            "z:8: example.org MX: alias.example.org is an alias, which it must not be (RFC 2181 section 10.3); name the server itself",
            "z:10: sub.example.org NS: ns.sub.example.org is below a zone cut and has no address here: nobody can ask it; add glue",
            "z:11: x.sub.example.org TXT: is below the zone cut sub.example.org: nobody gets it; move it to that zone",
            "z:12: one.example.org CNAME: the aliases go round in a circle: nobody gets an answer; let one name what it stands for",
            "z:13: two.example.org CNAME: the aliases go round in a circle: nobody gets an answer; let one name what it stands for",
            "z:14: host_1.example.org AAAA: its owner is not a host's name, which has letters, digits and hyphens (RFC 1123)",
        ]
    );
}

#[test]
fn an_rrset_fits_into_a_message() {
    let texts = |count: usize| {
        let text = format!("a TXT {}", "x".repeat(250));
        let lines: String = (0..count).map(|n| format!("{text}{n:03}\n")).collect();
        said(&format!("{HEAD}{lines}")).0
    };
    // Of 65535 octets the header, the longest question, OPT, TSIG and 12 for each record's head are no data.
    assert_eq!(texts(243), [""; 0]);
    assert_eq!(
        texts(244),
        [
            "z:4: a.example.org TXT: the RRset takes 64904 octets of a message, which has room for 64705; remove some"
        ]
    );
    // One that stands alone, of whatever type, and all signatures together.
    let long = |octets: usize| format!("a TYPE65280 \\# {octets} {}\n", "00".repeat(octets));
    assert_eq!(said(&format!("{HEAD}{}", long(64_693))).0, [""; 0]);
    assert_eq!(
        said(&format!("{HEAD}{}", long(64_694))).0,
        [
            "z:4: a.example.org TYPE65280: the RRset takes 64706 octets of a message, which has room for 64705; remove some"
        ]
    );
    let key = "A".repeat(40_000);
    let signatures = ["A", "AAAA", "MX"]
        .map(|rtype| format!("a RRSIG {rtype} 8 3 300 20300101000000 20200101000000 1 @ {key}\n"));
    let found = said(&format!("{HEAD}{}", signatures.concat())).0;
    assert!(
        found.len() == 1 && found[0].contains("a.example.org RRSIG: the RRset takes 90129"),
        "{found:?}"
    );
    // A record that stands there twice counts once.
    let twice = "a TXT x\n".repeat(10_000);
    assert_eq!(said(&format!("{HEAD}{twice}")).0, [""; 0]);
}

#[test]
fn only_so_many_problems_are_kept_and_the_first_tells_how_many_there_are() {
    let text = format!("{HEAD}{}", "a A x\n".repeat(1500));
    let found = super::parse(&name("example.org"), Path::new("z"), text.as_bytes()).findings;
    assert_eq!((found.errors.len(), found.more_errors), (1000, 500));
    let refusal = found.refusal().unwrap();
    assert_eq!(refusal.line, Some(4));
    assert!(
        refusal
            .message
            .ends_with("(and 1499 more problems; geodns check shows all)"),
        "{refusal}"
    );
    assert_eq!(Findings::default().refusal(), None);
}

#[test]
fn a_generated_record_is_a_record() {
    let zone = parse(format!(
        "{HEAD}$ORIGIN 2.0.192.in-addr.arpa.example.org.\n\
         $GENERATE 1-254 $ PTR host-${{0,3}}.example.org.\n\
         $GENERATE 0-4/2 n${{16,3,n}} 60 IN TXT \"$$ \\$ ${{1}}\"\n"
    ))
    .unwrap();
    let ptr = rrset(&zone, "7.2.0.192.in-addr.arpa.example.org", Rtype::PTR);
    assert_eq!(ptr, (300, vec![&b"\x08host-007\x07example\x03org\0"[..]]));
    let texts = rrset(&zone, "n2.1.2.0.192.in-addr.arpa.example.org", Rtype::TXT);
    assert_eq!(texts, (60, vec![&b"\x01$\x01$\x013"[..]]));
    // The apex, the names down to the origin, and those made: the "1" above each n* is one of them.
    assert_eq!(zone.len(), 1 + 5 + 254 + 3);
}

/// A folder with files in it.
fn folder(files: &[(&str, &str)]) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    let path = folder.path().to_owned();
    (folder, path)
}

#[test]
fn an_included_file_reads_on_and_leaves_nothing_behind_but_its_ttls() {
    let head = format!(
        "{HEAD}$ORIGIN a\nx A 192.0.2.1\n$INCLUDE in/b.zone b\n TXT \"still x.a\"\ny TXT y\n"
    );
    let (_guard, path) = folder(&[
        ("z.zone", &head),
        // TTL and origin come in from outside; the path is relative to this file.
        ("in/b.zone", "@ TXT b\n$ORIGIN c\n$TTL 5\n$INCLUDE c.zone\n"),
        ("in/c.zone", "@ TXT c\nbad BAD\n"),
    ]);
    let read = || parsed(&path.join("z.zone"));
    assert_eq!(
        read().unwrap_err().to_string(),
        format!(
            "{}:2: \"BAD\" is no type; write OWNER [TTL] [CLASS] TYPE DATA, and an unknown type as TYPE65280",
            path.join("in/c.zone").display()
        )
    );
    fs::write(path.join("in/c.zone"), "@ TXT c\n").unwrap();
    let zone = read().unwrap();
    for (owner, ttl) in [
        ("b.a.example.org", 300),
        ("c.b.a.example.org", 5),
        // As BIND and NSD have it.
        ("x.a.example.org", 5),
        ("y.a.example.org", 5),
    ] {
        assert_eq!(rrset(&zone, owner, Rtype::TXT).0, ttl, "{owner}");
    }
    // Lines are still those of the including file.
    fs::write(path.join("z.zone"), format!("{head}y BAD\n")).unwrap();
    assert_eq!(read().unwrap_err().line, Some(9));
}

/// A file, as the zone example.org.
fn parsed(file: &Path) -> Result<Zone, Error> {
    zone_of(super::read(&name("example.org"), file)?)
}

#[test]
fn includes_end() {
    let (_guard, path) = folder(&[
        ("z.zone", &format!("{HEAD}$INCLUDE a/b.zone\n")),
        ("a/b.zone", "\n$INCLUDE ../a/../z.zone\n"),
        ("none.zone", &format!("{HEAD}$INCLUDE none/b.zone\n")),
        ("deep.zone", &format!("{HEAD}$INCLUDE 0\n")),
    ]);
    for depth in 0..20 {
        let text = format!("$INCLUDE {}\n", depth + 1);
        fs::write(path.join(depth.to_string()), text).unwrap();
    }
    let error = |file: &str| {
        let error = parsed(&path.join(file)).unwrap_err();
        let folder = format!("{}/", path.display());
        error.to_string().replace(&folder, "")
    };
    assert_eq!(
        error("z.zone"),
        "a/b.zone:2: $INCLUDE: \"../a/../z.zone\" includes itself; remove this line"
    );
    assert_eq!(
        error("none.zone"),
        "none.zone:4: $INCLUDE: cannot read \"none/b.zone\": No such file or directory (os error 2); check the path and its permissions"
    );
    assert_eq!(
        error("deep.zone"),
        "14:1: $INCLUDE: more than 16 files deep; include fewer"
    );
}

/// A configuration over these zones, with these names steered.
fn config(path: &Path, zones: &[&str], steers: &[&str]) -> Config {
    let mut text = String::new();
    for zone in zones {
        text += &format!("[[zone]]\nname = {zone:?}\nfile = \"{zone}.zone\"\n");
    }
    text += "[[mirror]]\nid = \"a\"\naddresses = [\"192.0.2.1\"]\n\
             [[pool]]\nid = \"p\"\nmirrors = [\"a\"]\npolicy = \"all\"\n";
    for steer in steers {
        text += &format!("[[steer]]\nname = {steer:?}\npool = \"p\"\n");
    }
    let file = path.join("g.toml");
    fs::write(&file, text).unwrap();
    Config::load(&file).unwrap()
}

#[test]
fn aliases_stand_alone_and_at_no_apex() {
    let (_guard, path) = folder(&[(
        "example.org.zone",
        &format!("{HEAD}www TXT x\nold DNAME new\nlab NS ns.lab\na.b A 192.0.2.1\n"),
    )]);
    let load = |steer: &str, keys: &str| {
        let text = format!(
            "[[zone]]\nname = \"example.org\"\nfile = \"example.org.zone\"\n\
             [[mirror]]\nid = \"cdn\"\ncname = \"www.example.net\"\n\
             [[mirror]]\nid = \"far\"\ncname = \"www.example.com\"\n\
             [[pool]]\nid = \"p\"\nmirrors = [\"cdn\", \"far\"]\npolicy = \"failover\"\n{keys}\
             [[steer]]\nname = {steer:?}\npool = \"p\"\n"
        );
        let file = path.join("g.toml");
        fs::write(&file, text).unwrap();
        super::load(&Config::load(&file).unwrap(), &|_| None).map_err(|error| {
            let text = error.to_string();
            text.replace(&format!("{}:", file.display()), "")
        })
    };
    for (steer, expect) in [
        (
            "example.org",
            "15: steer.name: example.org is the apex of its zone, which cannot be an alias; steer it to a pool of mirrors with addresses",
        ),
        (
            "www.example.org",
            "15: steer.name: www.example.org has TXT records in the zone file, and its pool makes it an alias, which nothing may stand beside; remove one",
        ),
        (
            "old.example.org",
            "15: steer.name: old.example.org has DNAME records in the zone file, and its pool makes it an alias, which nothing may stand beside; remove one",
        ),
        (
            "lab.example.org",
            "15: steer.name: lab.example.org is a zone cut of example.org; remove its NS records, or steer it where it is served",
        ),
    ] {
        assert_eq!(load(steer, "").unwrap_err(), expect);
    }
    // Names below an alias are no matter, and there may be nothing at it but them.
    for steer in ["cdn.example.org", "*.example.org", "b.example.org"] {
        let zones = load(steer, "").unwrap();
        let node = zones[0].node(name(steer).for_slice()).unwrap();
        assert_eq!(node.steer(), Some(0), "{steer}");
    }
    // Generated names are told by the key that they come from.
    for (template, expect) in [
        (
            "{mirror}.example.net",
            "14: pool.names: cdn.example.net is outside every zone; add a [[zone]] that holds it",
        ),
        (
            "{mirror}.lab.example.org",
            "14: pool.names: cdn.lab.example.org is below the zone cut lab.example.org; steer it where lab.example.org is served",
        ),
    ] {
        let names = format!("names = {template:?}\n");
        assert_eq!(load("cdn.example.org", &names).unwrap_err(), expect);
    }
    let zones = load("cdn.example.org", "names = \"{mirror}.m.example.org\"\n").unwrap();
    for (number, at) in ["cdn", "cdn.m", "far.m"].into_iter().enumerate() {
        let at = name(&format!("{at}.example.org"));
        let node = zones[0].node(at.for_slice()).unwrap();
        assert_eq!(node.steer(), Some(number), "{at}");
    }
}

#[test]
fn steered_names_stand_where_addresses_may() {
    let (_guard, path) = folder(&[
        (
            "example.org.zone",
            &format!(
                "{HEAD}alias CNAME a\nlab NS ns.lab\nns.lab A 192.0.2.1\nhost A 192.0.2.1\n\
                 host6 AAAA 2001:db8::1\nold DNAME new\nwww TXT x\n"
            ),
        ),
        ("sub.example.org.zone", HEAD),
    ]);
    let zones = ["example.org", "sub.example.org"];
    for (steer, expect) in [
        (
            "www.example.net",
            "is outside every zone; add a [[zone]] that holds it",
        ),
        ("org", "is outside every zone; add a [[zone]] that holds it"),
        (
            "alias.example.org",
            "has CNAME records in the zone file of example.org; nothing may stand beside a CNAME, remove one",
        ),
        (
            "lab.example.org",
            "is a zone cut of example.org; remove its NS records, or steer it where it is served",
        ),
        (
            "a.b.lab.example.org",
            "is below the zone cut lab.example.org; steer it where lab.example.org is served",
        ),
        (
            "ns.lab.example.org",
            "is below the zone cut lab.example.org; steer it where lab.example.org is served",
        ),
        (
            "*.lab.example.org",
            "is below the zone cut lab.example.org; steer it where lab.example.org is served",
        ),
        (
            "x.old.example.org",
            "is below the DNAME at old.example.org; remove one",
        ),
        (
            "HOST.example.org",
            "has A records in the zone file of example.org; its addresses come from the pool, remove one",
        ),
        (
            "host6.example.org",
            "has AAAA records in the zone file of example.org; its addresses come from the pool, remove one",
        ),
    ] {
        let error = load(&config(&path, &zones, &["www.example.org", steer]), &|_| {
            None
        })
        .unwrap_err();
        assert_eq!(
            error.to_string(),
            format!(
                "{}:18: steer.name: {} {expect}",
                path.join("g.toml").display(),
                steer.to_ascii_lowercase()
            )
        );
    }

    let steers = [
        "www.example.org",
        "example.org",
        "*.a.cdn.example.org",
        "x.sub.example.org",
        "old.example.org",
    ];
    let zones = load(&config(&path, &zones, &steers), &|_| None).unwrap();
    let node = |zone: usize, at: &str| zones[zone].node(name(at).for_slice());
    for at in [
        "www.example.org",
        "example.org",
        "*.a.cdn.example.org",
        "old.example.org",
    ] {
        assert_eq!(node(0, at).unwrap().steer(), Some(0), "{at}");
    }
    assert!(node(0, "www.example.org").unwrap().has(Rtype::TXT));
    for at in ["a.cdn.example.org", "cdn.example.org"] {
        let node = node(0, at).unwrap();
        assert!(node.steer().is_none() && node.is_empty(), "{at}");
    }
    // The zone with the longest apex has it.
    assert_eq!(node(1, "x.sub.example.org").unwrap().steer(), Some(0));
    assert!(node(0, "x.sub.example.org").is_none());
}

#[test]
fn no_name_of_a_signed_zone_is_steered_and_that_one_is_signed_is_said_once() {
    let key = "@ DNSKEY 257 3 13 AAEC\n@ DNSKEY 256 3 13 AAEC\n";
    let (_guard, path) = folder(&[
        ("example.org.zone", &format!("{HEAD}{key}a.b A 192.0.2.1\n")),
        ("in.example.org.zone", HEAD),
    ]);
    let config = |steers: &[&str]| config(&path, &["example.org", "in.example.org"], steers);
    let load = |steers: &[&str]| load(&config(steers), &|_| None);
    for steer in ["www.example.org", "example.org", "*.b.example.org"] {
        let error = load(&[steer]).unwrap_err();
        assert_eq!(error.key.as_deref(), Some("steer.name"));
        assert!(
            error
                .message
                .starts_with("example.org is signed (it has a DNSKEY)"),
            "{error}"
        );
    }
    // One of its own is not signed.
    assert!(load(&["in.example.org", "www.in.example.org"]).is_ok());
    let readings = read_all(&config(&[]));
    let warnings = readings[0].findings.warnings.iter();
    let signed = warnings.filter(|warning| warning.message == SIGNED);
    assert_eq!(
        signed.map(|warning| warning.line).collect::<Vec<_>>(),
        [Some(4)]
    );

    // The same where what there is of it comes from elsewhere, kept from before.
    let signed = Arc::new(parse(format!("{HEAD}{key}")).unwrap());
    let plain = Arc::new(parse(format!("{HEAD}www A 192.0.2.1\n")).unwrap());
    let with = config(&["www.example.org", "www.in.example.org"]);
    assert!(may_be_put(&with, &signed).is_err() && may_be_put(&config(&[]), &signed).is_ok());
    let text = fs::read_to_string(path.join("g.toml")).unwrap();
    assert!(text.contains("file"));
    // Addresses at a name that a pool answers are left out of what comes from elsewhere, and no reason to refuse it.
    let elsewhere = text.replace(
        "name = \"example.org\"\nfile = \"example.org.zone\"",
        "name = \"example.org\"\nprimaries = [\"192.0.2.9\"]",
    ) + "[[steer]]\nname = \"www.example.org\"\npool = \"p\"\n";
    fs::write(path.join("g.toml"), elsewhere).unwrap();
    let config = Config::load(&path.join("g.toml")).unwrap();
    assert!(may_be_put(&config, &signed).is_err() && may_be_put(&config, &plain).is_ok());
}

#[test]
fn steered_names_are_servers_with_addresses() {
    let text = format!("{HEAD}@ NS www\n@ MX 1 a.w\nx CNAME www\n");
    let (_guard, path) = folder(&[("example.org.zone", &text)]);
    let found = |steers: &[&str]| {
        let readings = read_all(&config(&path, &["example.org"], steers));
        let Findings {
            errors, warnings, ..
        } = readings.into_iter().next().unwrap().findings;
        let missing = |found: &[Error]| {
            let all = found.iter().map(|found| &found.message);
            all.filter(|message| message.contains("does not exist"))
                .count()
        };
        (missing(&errors), missing(&warnings))
    };
    assert_eq!(found(&[]), (1, 2));
    assert_eq!(found(&["www.example.org"]), (0, 1));
    assert_eq!(found(&["www.example.org", "*.w.example.org"]), (0, 0));
}

#[test]
fn many_zones_are_read_in_their_order_and_all_that_is_wrong_is_told() {
    let zones: Vec<String> = (0..200).map(|n| format!("z{n}.example")).collect();
    let files: Vec<(String, String)> = zones
        .iter()
        .enumerate()
        .map(|(n, zone)| {
            let wrong = if n % 100 == 99 { "a A x\n" } else { "" };
            (format!("{zone}.zone"), format!("{HEAD}{wrong}"))
        })
        .collect();
    let files: Vec<(&str, &str)> = files
        .iter()
        .map(|(name, text)| (&name[..], &text[..]))
        .collect();
    let (_guard, path) = folder(&files);
    let names: Vec<&str> = zones.iter().map(String::as_str).collect();
    let config = config(&path, &names, &[]);
    for (zone, reading) in zones.iter().zip(read_all(&config)) {
        let apex = reading.zone.map(|zone| zone.apex.to_string());
        match reading.findings.errors.is_empty() {
            true => assert_eq!(apex.as_ref(), Some(zone)),
            false => assert!(zone.ends_with("99.example") && apex.is_none(), "{zone}"),
        }
    }
    let error = load(&config, &|_| None).unwrap_err().to_string();
    assert!(
        error.contains("z99.example.zone:4: a.z99.example A:")
            && error.ends_with("(and 1 more problem; geodns check shows all)"),
        "{error}"
    );
}

#[test]
fn a_name_is_found_in_the_zone_with_the_longest_apex() {
    let zone = |apex: &str| Zone::empty(name(apex));
    let zones = Zones::from(vec![
        zone("example.org"),
        zone("b.example.org"),
        zone("net"),
    ]);
    for (query, expect) in [
        ("example.org", Some(0)),
        ("a.example.org", Some(0)),
        ("b.example.org", Some(1)),
        ("x.y.b.example.org", Some(1)),
        ("xb.example.org", Some(0)),
        ("org", None),
        (".", None),
        ("example.net", Some(2)),
        ("notexample.org", None),
    ] {
        let query: Name = query.parse().unwrap();
        assert_eq!(
            zones.find(query.for_slice()).map(|(at, _)| at),
            expect,
            "{query}"
        );
    }
    let root = Zones::from(vec![zone(".")]);
    assert_eq!(
        root.find(name("a.b").for_slice()).map(|(at, _)| at),
        Some(0)
    );
    assert!(Zones::default().find(name("a.b").for_slice()).is_none());
}

/// A piece of a zone file, right or wrong.
fn piece() -> impl Strategy<Value = String> {
    const WORDS: &[&str] = &[
        "@",
        "a",
        "b.c",
        "*.w",
        "example.org.",
        ".",
        "..",
        "\\046",
        "\\",
        "\"",
        "\"x y\"",
        "(",
        ")",
        ";",
        "\n",
        "\n",
        "\n",
        "\n",
        " ",
        "\t",
        "\r\n",
        "IN",
        "CH",
        "60",
        "1h",
        "99999999999",
        "$TTL",
        "$ORIGIN",
        "$INCLUDE",
        "$GENERATE",
        "1-3",
        "1-9/4",
        "a$",
        "${0,3,n}",
        "${-2",
        "$INCLUD\\E",
        "\\$TTL",
        "CLASS1",
        "LOC",
        "APL",
        "HIP",
        "AMTRELAY",
        "IPSECKEY",
        "URI",
        "NAPTR",
        "EUI48",
        "L64",
        "CERT",
        "N",
        "E",
        "-1.5m",
        "1:192.0.2.0/24",
        "00-00-5e-00-53-2a",
        "1:2:3:4",
        "$",
        "A",
        "AAAA",
        "NS",
        "SOA",
        "CNAME",
        "DNAME",
        "MX",
        "TXT",
        "SRV",
        "CAA",
        "SVCB",
        "HTTPS",
        "NAPTR",
        "DS",
        "DNSKEY",
        "RRSIG",
        "NSEC",
        "NSEC3",
        "TLSA",
        "SSHFP",
        "TYPE1",
        "TYPE65280",
        "\\#",
        "4",
        "c0000201",
        "192.0.2.1",
        "2001:db8::1",
        "alpn=h2",
        "key1=\"q\"",
        "0",
        "20260101000000",
        "AwEAAQ==",
        "\u{e4}",
        "\u{1}",
        "\0",
    ];
    prop_oneof![
        12 => proptest::sample::select(WORDS).prop_map(|word| format!("{word} ")),
        4 => proptest::sample::select(WORDS).prop_map(str::to_owned),
        1 => ".{0,4}",
        1 => "[a-z]{60,70}",
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = parse(&bytes);
    }

    #[test]
    fn no_text_panics_and_every_error_is_one_line(
        pieces in proptest::collection::vec(piece(), 0..60),
        head in any::<bool>(),
    ) {
        let text = if head { HEAD } else { "" }.to_owned() + &pieces.concat();
        match parse(&text) {
            Ok(zone) => {
                for node in zone.nodes() {
                    prop_assert!(node.name().ends_with(&zone.apex));
                    for rrset in node.rrsets() {
                        prop_assert!(rrset.rdata().is_sorted());
                        prop_assert!(rrset.rdata().next().is_some());
                    }
                }
            }
            Err(error) => {
                prop_assert_eq!(error.to_string().lines().count(), 1);
                prop_assert!(error.line.is_none_or(|line| line <= text.lines().count().max(1)));
            }
        }
    }
}

//! Question in, response out. Tables: question, expected.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv6Addr};

use domain::base::iana::OptRcode;
use domain::base::{Message, ParsedName, Rtype};
use domain::rdata::AllRecordData;
use geodns_common::respond::respond;
use geodns_common::scratch::Scratch;
use proptest::prelude::*;

use super::*;
use crate::base::lock::read;

/// A response in lines: response code and flags; records, each with its section; EDNS.
pub(super) fn show(response: &[u8]) -> Vec<String> {
    let message = Message::from_octets(response).unwrap();
    let header = message.header();
    assert_eq!(header.id(), 0xabcd);
    assert!(header.qr() && !header.ra() && !header.z() && !header.ad() && !header.cd());
    let opt = message.opt();
    let rcode = opt
        .as_ref()
        .map_or(OptRcode::from_rcode(header.rcode()), |opt| {
            opt.rcode(header)
        });
    let mut first = rcode.to_string();
    for (flag, name) in [
        (header.aa(), "aa"),
        (header.tc(), "tc"),
        (header.rd(), "rd"),
    ] {
        if flag {
            first += " ";
            first += name;
        }
    }
    let mut lines = vec![first];
    let (_, answer, authority, additional) = message.sections().unwrap();
    for (name, section) in [("an", answer), ("ns", authority), ("ar", additional)] {
        for record in section {
            let record = record.unwrap();
            if record.rtype() == Rtype::OPT {
                continue;
            }
            let record = record
                .into_record::<AllRecordData<_, ParsedName<_>>>()
                .unwrap()
                .unwrap();
            lines.push(format!(
                "{name} {} {} {} {}",
                record.owner(),
                record.ttl().as_secs(),
                record.rtype(),
                record.data()
            ));
        }
    }
    if let Some(opt) = opt {
        assert_eq!((opt.udp_payload_size(), opt.version()), (1232, 0));
        let mut edns = "edns".to_owned();
        if opt.dnssec_ok() {
            edns += " do";
        }
        for option in opt.opt().iter::<domain::base::opt::UnknownOptData<_>>() {
            let option = option.unwrap();
            let _ = write!(edns, " {}:", option.code().to_int());
            for octet in *option.data() {
                let _ = write!(edns, "{octet:02x}");
            }
        }
        lines.push(edns);
    }
    lines
}

#[track_caller]
fn check(ask: &Ask, expected: &[&str]) {
    let response = bytes_of(ask);
    assert_eq!(show(&response), expected);
    if ask.counts[0] == 1 {
        let question = &ask.wire()[12..12 + ask.name.len() + 4];
        assert_eq!(
            &response[12..12 + question.len()],
            question,
            "the question is given back as it came"
        );
    }
}

#[track_caller]
fn check_all(table: &[(&str, &[&str])]) {
    for (question, expected) in table {
        println!("{question}");
        check(&ask(question), expected);
    }
}

const SOA: &str =
    "ns example.org 60 SOA ns1.example.org. hostmaster.example.org. 7 3600 900 604800 60";
const CHILD_SOA: &str = "ns child.example.org 7200 SOA ns.child.example.org. hostmaster.child.example.org. 9 3600 900 604800 10800";

#[test]
fn rfc_1034_plain_data() {
    check_all(&[
        (
            "mail.example.org A",
            &["NOERROR aa", "an mail.example.org 3600 A 192.0.2.25"],
        ),
        (
            "example.org MX",
            &["NOERROR aa", "an example.org 3600 MX 10 mail.example.org."],
        ),
        (
            "example.org NS",
            &["NOERROR aa", "an example.org 3600 NS ns1.example.org."],
        ),
        (
            "example.org SOA",
            &[
                "NOERROR aa",
                "an example.org 3600 SOA ns1.example.org. hostmaster.example.org. 7 3600 900 604800 60",
            ],
        ),
        ("mail.example.org TXT", &["NOERROR aa", SOA]),
        ("example.org A", &["NOERROR aa", SOA]),
        ("nothing.example.org A", &["NXDOMAIN aa", SOA]),
        ("a.b.c.nothing.example.org A", &["NXDOMAIN aa", SOA]),
        ("below.mail.example.org A", &["NXDOMAIN aa", SOA]),
        ("example.net A", &["REFUSED"]),
        ("org A", &["REFUSED"]),
        (". NS", &["REFUSED"]),
        ("notexample.org A", &["REFUSED"]),
        // Transfers and types that are no data.
        ("example.org AXFR", &["REFUSED"]),
        ("example.org IXFR", &["REFUSED"]),
        ("example.org OPT", &["FORMERR"]),
        ("example.org TYPE128", &["FORMERR"]),
        ("example.org TYPE0", &["NOTIMP"]),
        ("example.org MAILB", &["NOTIMP"]),
        ("example.org TYPE65280", &["NOERROR aa", SOA]),
    ]);
}

#[test]
fn rfc_4592_wildcards_and_empty_non_terminals() {
    check_all(&[
        ("ent.example.org TXT", &["NOERROR aa", SOA]),
        ("b.ent.example.org A", &["NOERROR aa", SOA]),
        ("c.ent.example.org TXT", &["NXDOMAIN aa", SOA]),
        (
            "A.b.ENT.example.org TXT",
            &["NOERROR aa", "an A.b.ENT.example.org 3600 TXT \"deep\""],
        ),
        (
            "any.wild.example.org TXT",
            &["NOERROR aa", "an any.wild.example.org 3600 TXT \"wild\""],
        ),
        (
            "a.b.c.wild.example.org TXT",
            &["NOERROR aa", "an a.b.c.wild.example.org 3600 TXT \"wild\""],
        ),
        (
            "*.wild.example.org TXT",
            &["NOERROR aa", "an *.wild.example.org 3600 TXT \"wild\""],
        ),
        ("any.wild.example.org A", &["NOERROR aa", SOA]),
        ("wild.example.org TXT", &["NOERROR aa", SOA]),
        // What exists below a wildcard's parent stops it there.
        ("sub.wild.example.org TXT", &["NOERROR aa", SOA]),
        ("y.sub.wild.example.org TXT", &["NXDOMAIN aa", SOA]),
        (
            "any.alias.example.org A",
            &[
                "NOERROR aa",
                "an any.alias.example.org 3600 CNAME mail.example.org.",
                "an mail.example.org 3600 A 192.0.2.25",
            ],
        ),
    ]);
}

#[test]
fn cnames_are_followed_within_bounds() {
    check_all(&[
        (
            "one.example.org AAAA",
            &[
                "NOERROR aa",
                "an one.example.org 3600 CNAME two.example.org.",
                "an two.example.org 3600 CNAME mail.example.org.",
                "an mail.example.org 3600 AAAA 2001:db8::25",
            ],
        ),
        (
            "one.example.org MX",
            &[
                "NOERROR aa",
                "an one.example.org 3600 CNAME two.example.org.",
                "an two.example.org 3600 CNAME mail.example.org.",
                SOA,
            ],
        ),
        (
            "one.example.org CNAME",
            &[
                "NOERROR aa",
                "an one.example.org 3600 CNAME two.example.org.",
            ],
        ),
        (
            "loop1.example.org A",
            &[
                "NOERROR aa",
                "an loop1.example.org 3600 CNAME loop2.example.org.",
                "an loop2.example.org 3600 CNAME loop1.example.org.",
            ],
        ),
        (
            "self.example.org A",
            &[
                "NOERROR aa",
                "an self.example.org 3600 CNAME self.example.org.",
            ],
        ),
        (
            "out.example.org A",
            &[
                "NOERROR aa",
                "an out.example.org 3600 CNAME elsewhere.test.",
            ],
        ),
        (
            "dangling.example.org A",
            &[
                "NXDOMAIN aa",
                "an dangling.example.org 3600 CNAME nothing.example.org.",
                SOA,
            ],
        ),
        (
            "tochild.example.org TXT",
            &[
                "NOERROR aa",
                "an tochild.example.org 3600 CNAME child.example.org.",
                CHILD_SOA,
            ],
        ),
        (
            "todelegated.example.org A",
            &[
                "NOERROR aa",
                "an todelegated.example.org 3600 CNAME host.lab.example.org.",
                "ns lab.example.org 3600 NS ns.lab.example.org.",
                "ns lab.example.org 3600 NS ns.other.example.org.",
                "ns lab.example.org 3600 NS ns1.example.org.",
                "ar ns.lab.example.org 3600 A 203.0.113.53",
                "ar ns.lab.example.org 3600 AAAA 2001:db8::53",
                "ar ns.other.example.org 3600 A 203.0.113.54",
                "ar ns1.example.org 3600 A 192.0.2.53",
            ],
        ),
    ]);
}

#[test]
fn rfc_6672_dname() {
    check_all(&[
        (
            "a.old.example.org A",
            &[
                "NXDOMAIN aa",
                "an old.example.org 3600 DNAME mail.example.org.",
                "an a.old.example.org 3600 CNAME a.mail.example.org.",
                SOA,
            ],
        ),
        ("old.example.org A", &["NOERROR aa", SOA]),
        (
            "x.old.example.org CNAME",
            &[
                "NOERROR aa",
                "an old.example.org 3600 DNAME mail.example.org.",
                "an x.old.example.org 3600 CNAME x.mail.example.org.",
            ],
        ),
        (
            "old.example.org DNAME",
            &[
                "NOERROR aa",
                "an old.example.org 3600 DNAME mail.example.org.",
            ],
        ),
    ]);
    let long = "b23456789012345678901234567890123456789012345678901234567890123";
    let response = bytes_of(&ask(&format!("{long}.{long}.older.example.org A")));
    assert_eq!(show(&response)[0], "YXDOMAIN aa");
}

#[test]
fn zone_cuts_are_referred_and_ds_is_the_parents() {
    let referral: &[&str] = &[
        "NOERROR",
        "ns lab.example.org 3600 NS ns.lab.example.org.",
        "ns lab.example.org 3600 NS ns.other.example.org.",
        "ns lab.example.org 3600 NS ns1.example.org.",
        "ar ns.lab.example.org 3600 A 203.0.113.53",
        "ar ns.lab.example.org 3600 AAAA 2001:db8::53",
        "ar ns.other.example.org 3600 A 203.0.113.54",
        "ar ns1.example.org 3600 A 192.0.2.53",
    ];
    check_all(&[
        ("lab.example.org NS", referral),
        ("lab.example.org A", referral),
        ("a.b.lab.example.org TXT", referral),
        ("ns.lab.example.org A", referral),
        ("x.lab.example.org DS", referral),
    ]);
    let response = show(&bytes_of(&ask("lab.example.org DS")));
    assert_eq!(response[0], "NOERROR aa");
    assert!(response[1].starts_with("an lab.example.org 3600 DS 12345 "));
    // Of both zones at a cut that we have, the parent has the DS.
    let response = show(&bytes_of(&ask("child.example.org DS")));
    assert_eq!(response[0], "NOERROR aa");
    assert!(response[1].starts_with("an child.example.org 3600 DS 54321 "));
    check_all(&[
        ("other.example.org DS", &["NOERROR aa", SOA]),
        ("example.org DS", &["NOERROR aa", SOA]),
        (
            "ns.child.example.org A",
            &["NOERROR aa", "an ns.child.example.org 7200 A 203.0.113.55"],
        ),
    ]);
}

#[test]
fn rfc_9471_glue_that_does_not_fit_is_truncation() {
    check(&ask("x.glue.example.org A"), &["NOERROR tc"]);
    let whole = show(&bytes_of(&ask("x.glue.example.org A").opt(1232, 0, 0, &[])));
    assert_eq!(whole.len(), 1 + 10 + 20 + 1);
}

#[test]
fn rfc_8482_any_is_minimal() {
    check_all(&[
        (
            "example.org ANY",
            &["NOERROR aa", "an example.org 3600 CAA 0 issue \"ca.test\""],
        ),
        (
            "mail.example.org ANY",
            &["NOERROR aa", "an mail.example.org 3600 A 192.0.2.25"],
        ),
        (
            "www.example.org ANY",
            &["NOERROR aa", "an www.example.org 3600 TXT \"steered\""],
        ),
        (
            "all.example.org ANY",
            &[
                "NOERROR aa",
                "an all.example.org 3600 HINFO \"RFC8482\" \"\"",
            ],
        ),
        (
            "one.example.org ANY",
            &[
                "NOERROR aa",
                "an one.example.org 3600 CNAME two.example.org.",
            ],
        ),
        ("ent.example.org ANY", &["NOERROR aa", SOA]),
        ("nothing.example.org ANY", &["NXDOMAIN aa", SOA]),
    ]);
}

#[test]
fn a_pool_answers_at_its_names() {
    check_all(&[
        (
            "www.example.org A",
            &["NOERROR aa", "an www.example.org 60 A 192.0.2.10"],
        ),
        (
            "wWw.eXample.oRg AAAA",
            &["NOERROR aa", "an wWw.eXample.oRg 60 AAAA 2001:db8:1::10"],
        ),
        (
            "www.example.org TXT",
            &["NOERROR aa", "an www.example.org 3600 TXT \"steered\""],
        ),
        ("www.example.org MX", &["NOERROR aa", SOA]),
        (
            "x.y.cdn.example.org A",
            &["NOERROR aa", "an x.y.cdn.example.org 60 A 192.0.2.10"],
        ),
        ("cdn.example.org A", &["NOERROR aa", SOA]),
        ("x.y.cdn.example.org MX", &["NOERROR aa", SOA]),
        (
            "all.example.org A",
            &[
                "NOERROR aa",
                "an all.example.org 30 A 192.0.2.10",
                "an all.example.org 30 A 198.51.100.10",
                "an all.example.org 30 A 198.51.100.11",
                "an all.example.org 30 A 203.0.113.10",
            ],
        ),
        (
            "v4.example.org A",
            &[
                "NOERROR aa",
                "an v4.example.org 60 A 198.51.100.10",
                "an v4.example.org 60 A 198.51.100.11",
            ],
        ),
        ("v4.example.org AAAA", &["NOERROR aa", SOA]),
        ("below.www.example.org A", &["NXDOMAIN aa", SOA]),
        // At an apex.
        (
            "child.example.org AAAA",
            &[
                "NOERROR aa",
                "an child.example.org 30 AAAA 2001:db8:1::10",
                "an child.example.org 30 AAAA 2001:db8:3::10",
            ],
        ),
        // At the end of a CNAME.
        (
            "alias.example.org A",
            &[
                "NOERROR aa",
                "an alias.example.org 3600 CNAME www.example.org.",
                "an www.example.org 60 A 192.0.2.10",
            ],
        ),
        (
            "alias-all.example.org AAAA",
            &[
                "NOERROR aa",
                "an alias-all.example.org 3600 CNAME all.example.org.",
                "an all.example.org 30 AAAA 2001:db8:1::10",
                "an all.example.org 30 AAAA 2001:db8:3::10",
            ],
        ),
    ]);
    check(
        &ask("www.example.org A").from("8.1.2.3"),
        &[
            "NOERROR aa",
            "an www.example.org 60 A 198.51.100.10",
            "an www.example.org 60 A 198.51.100.11",
        ],
    );
    check(
        &ask("www.example.org A").from("2600::1"),
        &["NOERROR aa", "an www.example.org 60 A 203.0.113.10"],
    );
    // A mirror without IPv6 is passed over for AAAA.
    check(
        &ask("www.example.org AAAA").from("8.1.2.3"),
        &["NOERROR aa", "an www.example.org 60 AAAA 2001:db8:1::10"],
    );
}

#[test]
fn owners_are_pointers_into_the_question() {
    let response = bytes_of(&ask("WWW.example.org A"));
    assert_eq!(&response[12 + 17 + 4..][..2], [0xc0, 0x0c]);
    // The apex of a SOA that says no: 4 octets into the name.
    let response = bytes_of(&ask("www.example.org MX"));
    assert_eq!(&response[12 + 17 + 4..][..2], [0xc0, 0x10]);
}

#[test]
fn header_and_question() {
    let www = ask("www.example.org A");
    let answered = "an www.example.org 60 A 192.0.2.10";
    let flags = |flags| Ask {
        flags,
        ..www.clone()
    };
    check(&flags(0x0100), &["NOERROR aa rd", answered]);
    // AD, CD, RA, Z, AA, TC and RCODE of a query mean nothing.
    check(&flags(0x06ff), &["NOERROR aa", answered]);
    for opcode in [1, 2, 4, 5, 6, 15] {
        let response = bytes_of(&flags(opcode << 11 | 0x0100));
        assert_eq!(show(&response), ["NOTIMP rd"]);
        assert_eq!(response[2] >> 3 & 15, opcode as u8);
    }
    // A response, or no header: silence.
    assert_eq!(send(&flags(0x8000).wire(), RESOLVER, Transport::Udp), None);
    assert_eq!(send(&www.wire()[..11], RESOLVER, Transport::Udp), None);
    assert_eq!(send(&[], RESOLVER, Transport::Tcp), None);
    // Nothing but a header.
    let mut header = www.wire();
    header.truncate(12);
    let response = send(&header, RESOLVER, Transport::Udp).unwrap();
    assert_eq!(show(&response), ["FORMERR"]);
    assert_eq!(response.len(), 12);
    for count in [0, 2, 0xffff] {
        let mut wire = www.wire();
        wire[4..6].copy_from_slice(&u16::to_be_bytes(count));
        let response = send(&wire, RESOLVER, Transport::Udp).unwrap();
        assert_eq!(show(&response), ["FORMERR"]);
        assert_eq!(response[4..6], [0, 0]);
    }
    // RFC 6891: an OPT there is answered by one, if it can be found.
    let no_question = Ask {
        counts: [0, 0, 0, 0],
        ..www.clone()
    };
    check(&no_question.opt(1232, 0, 0, &[]), &["FORMERR", "edns"]);
    check(
        &Ask {
            qclass: 4,
            ..www.clone()
        },
        &["REFUSED"],
    );
    check(
        &Ask {
            qclass: 255,
            ..www.clone()
        },
        &["REFUSED"],
    );
}

#[test]
fn malformed_messages_are_formerr() {
    let www = ask("www.example.org A");
    let formerr = |wire: &[u8]| {
        let response = send(wire, RESOLVER, Transport::Udp).unwrap();
        assert_eq!(show(&response)[0], "FORMERR", "{wire:02x?}");
    };
    // Octets after the last record; a message that ends early, anywhere.
    formerr(&[www.wire(), vec![0]].concat());
    let whole = www.clone().subnet("8.8.8.0/24").wire();
    for len in 12..whole.len() {
        formerr(&whole[..len]);
    }
    // A name that is compressed, has an extended label, is too long.
    let with_name = |name: &[u8]| Ask {
        name: name.to_vec(),
        ..www.clone()
    };
    formerr(&with_name(b"\xc0\x0c").wire());
    formerr(&with_name(b"\x03www\xc0\x04").wire());
    formerr(&with_name(b"\x41\x01\0").wire());
    formerr(&with_name(b"\x80\0").wire());
    let mut longest = [&[63; 64][..]; 3].concat();
    longest.extend_from_slice(&[61; 62]);
    longest.push(0);
    assert_eq!(longest.len(), 255);
    check(&with_name(&longest), &["REFUSED"]);
    let mut longer = longest.clone();
    longer[192] = 62;
    longer.insert(193, 0x61);
    formerr(&with_name(&longer).wire());
    // Records that a query does not have are read over.
    let stray = b"\xc0\x0c\x00\x01\x00\x01\0\0\0\0\0\x04\x01\x02\x03\x04";
    let answered = ["NOERROR aa", "an www.example.org 60 A 192.0.2.10"];
    for section in 1..4 {
        let mut stray_in = www.clone();
        stray_in.records = stray.to_vec();
        stray_in.counts[section] = 1;
        check(&stray_in, &answered);
    }
}

#[test]
fn over_tls_responses_are_padded_to_blocks_if_queries_are_padded() {
    const PADDING: u16 = 12;
    for question in [
        "www.example.org A",
        "big.example.org TXT",
        "glue.example.org A",
        "nothing.example.org A",
        "example.com A",
        "example.org ANY",
    ] {
        let [plain, padded] = [3, PADDING].map(|code| ask(question).option(code, &[]));
        let nsid = 4 + "test1".len();
        let len = |ask: &Ask| bytes_of(ask).len();
        // What anybody can read is not padded (RFC 7830 section 6), nor is what is not asked for.
        assert_eq!(len(&padded), len(&plain) - nsid, "{question}");
        assert_eq!(len(&padded.clone().tcp()), len(&plain.clone().tcp()) - nsid);
        assert_eq!(len(&plain.clone().tls()), len(&plain.clone().tcp()));
        let response = bytes_of(&padded.clone().tls());
        assert_eq!(response.len() % 468, 0, "{question}");
        assert!(response.len() - len(&padded.clone().tcp()) < 468 + 4);
        let message = Message::from_octets(&response[..]).unwrap();
        let opt = message.opt().unwrap();
        let mut options = opt.opt().iter::<domain::base::opt::UnknownOptData<_>>();
        let padding = options.find_map(|option| {
            let option = option.unwrap();
            (option.code().to_int() == PADDING).then(|| option.data().to_vec())
        });
        assert!(padding.unwrap().iter().all(|&octet| octet == 0));
    }
    // Errors, too; and nothing where the option is not, or EDNS is another version.
    let padding = [0, 12, 0, 0];
    let notimp = Ask {
        flags: 0x1000,
        ..ask("example.org A")
    };
    assert_eq!(bytes_of(&notimp.opt(1232, 0, 0, &padding).tls()).len(), 468);
    let other = ask("example.org A").opt(1232, 1, 0, &padding).tls();
    assert!(bytes_of(&other).len() < 100);
}

#[test]
fn rfc_6891_edns() {
    let www = ask("www.example.org A");
    let answered = "an www.example.org 60 A 192.0.2.10";
    check(
        &www.clone().opt(1232, 0, 0, &[]),
        &["NOERROR aa", answered, "edns"],
    );
    check(
        &www.clone().opt(0, 0, 0x8000, &[]),
        &["NOERROR aa", answered, "edns do"],
    );
    // Z bits are ignored and not echoed; so are unknown options and cookies.
    check(
        &www.clone().opt(4096, 0, 0x7fff, &[]),
        &["NOERROR aa", answered, "edns"],
    );
    check(
        &www.clone().option(10, b"12345678"),
        &["NOERROR aa", answered, "edns"],
    );
    check(
        &www.clone().option(65001, &[]),
        &["NOERROR aa", answered, "edns"],
    );
    check(&www.clone().opt(1232, 1, 0, &[]), &["BADVERS", "edns"]);
    // Another version's options are not ours to judge.
    check(
        &www.clone().opt(1232, 255, 0x8000, b"nonsense!"),
        &["BADVERS", "edns do"],
    );
    check(
        &www.clone().opt(1232, 0, 0, &[]).opt(1232, 0, 0, &[]),
        &["FORMERR", "edns"],
    );
    check(
        &www.clone()
            .additional(b"\x01a\0\x00\x29\x04\xd0\0\0\0\0\0\0"),
        &["FORMERR"],
    );
    check(
        &www.clone().opt(1232, 0, 0, b"\0\x0a\0\x09short"),
        &["FORMERR", "edns"],
    );
    check(
        &www.clone().opt(1232, 0, 0, b"\0\x0a\0"),
        &["FORMERR", "edns"],
    );
    let mut in_answer = www.clone().opt(1232, 0, 0, &[]);
    in_answer.counts = [1, 1, 0, 0];
    check(&in_answer, &["FORMERR"]);
    // RFC 5001: what a client sends with NSID is ignored.
    check(
        &www.clone().option(3, b""),
        &["NOERROR aa", answered, "edns 3:7465737431"],
    );
    check(
        &ask("example.net A").option(3, b"me?"),
        &["REFUSED", "edns 3:7465737431 15:0014"],
    );
}

#[test]
fn truncation_leaves_question_and_opt() {
    // Sixteen A records fit 512 octets.
    let vast = show(&bytes_of(&ask("vast.example.org A")));
    assert_eq!(vast.len(), 1 + 16);
    for (payload, expected) in [
        (0, 512),
        (512, 512),
        (1231, 1231),
        (1232, 1232),
        (65535, 1232),
    ] {
        check(
            &ask("big.example.org TXT").opt(payload, 0, 0x8000, &[]),
            &["NOERROR aa tc", "edns do"],
        );
        check(&ask("big.example.org TXT"), &["NOERROR aa tc"]);
        // 32 AAAA records: 12 + 22 + 32 * 28 = 930 octets, and 11 for the OPT.
        let query = ask("vast.example.org AAAA").opt(payload, 0, 0, &[]);
        let response = bytes_of(&query);
        assert!(response.len() <= expected);
        assert_eq!(show(&response)[0] == "NOERROR aa", expected >= 941);
    }
    for (payload, fits) in [(940, false), (941, true)] {
        let query = ask("vast.example.org AAAA").opt(payload, 0, 0, &[]);
        assert_eq!(show(&bytes_of(&query))[0] == "NOERROR aa", fits);
    }
    let over_tcp = show(&bytes_of(&ask("big.example.org TXT").tcp()));
    assert_eq!((over_tcp[0].as_str(), over_tcp.len()), ("NOERROR aa", 21));
}

#[test]
fn over_tcp_what_fits_alone_is_answered_whatever_stands_around_it() {
    use std::fmt::Write as _;

    let folder = tempfile::tempdir().unwrap();
    let config = "[server]\nlisten = [\"127.0.0.1\"]\n[kernel]\nmode = \"off\"\n[[zone]]\nname = \"t\"\nfile = \"t\"\n";
    let mut zone = "$TTL 60\n@ SOA ns.x. host.x. 1 7200 3600 1209600 60\n@ NS ns.x.\n".to_owned();
    // The largest RRset that a zone may have, at a wildcard and behind aliases.
    let most = format!("TYPE65280 \\# 64693 {}", "00".repeat(64_693));
    // Names that have nothing to share.
    let label = |alias: u8| format!("{0}.{0}", char::from(b'a' + alias).to_string().repeat(60));
    let _ = writeln!(zone, "*.w {most}\nbig {most}");
    for alias in 0..12 {
        let (one, next) = (
            format!("a{alias}.{}", label(alias)),
            format!("a{}.{}", alias + 1, label(alias + 1)),
        );
        let _ = writeln!(
            zone,
            "{one} CNAME {}",
            if alias == 11 { "big" } else { &next }
        );
    }
    // Servers that fit, with more addresses than do.
    for server in 0..1500 {
        let _ = writeln!(
            zone,
            "cut NS n{server}.cut\nn{server}.cut A 192.0.2.1\nn{server}.cut AAAA 2001:db8::1"
        );
    }
    std::fs::write(folder.path().join("t"), zone).unwrap();
    std::fs::write(folder.path().join("geodns.toml"), config).unwrap();
    let inputs = Inputs::read(&folder.path().join("geodns.toml")).unwrap();
    let world = inputs.compile(&[], 1, [17, 4]).unwrap();
    let lines = |ask: Ask| {
        let mut response = Vec::new();
        let ask = ask.tcp();
        assert!(answer(
            &world,
            &identity(),
            &ask.wire(),
            ask.client,
            ask.transport,
            &mut response
        ));
        show(&response)
    };
    // NSID and a client subnet beside it.
    let options = b"\0\x03\0\0\0\x08\0\x14\0\x02\x80\0\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01";
    let longest = format!(
        "{}{}.w.t",
        format!("{}.", "y".repeat(62)).repeat(3),
        "z".repeat(60)
    );
    let asked = ask(&format!("{longest} TYPE65280"));
    assert_eq!(asked.name.len(), 255);
    let whole = lines(asked.opt(1232, 0, 0, options));
    assert_eq!((whole[0].as_str(), whole.len()), ("NOERROR aa", 3));
    // The aliases, and not SERVFAIL.
    let chain = lines(ask(&format!("a0.{}.t TYPE65280", label(0))));
    assert_eq!((chain[0].as_str(), chain.len()), ("NOERROR aa", 13));
    let referral = lines(ask("x.cut.t A"));
    let glue = referral
        .iter()
        .filter(|line| line.starts_with("ar "))
        .count();
    assert_eq!(referral[0], "NOERROR");
    assert!(
        glue > 100 && referral.len() == 1 + 1500 + glue,
        "{glue} of {}",
        referral.len()
    );
}

/// Scope of the answer for a subnet, and the answer.
fn scoped(question: &str, net: &str, client: &str) -> (u8, Vec<String>) {
    let query = ask(question).subnet(net).from(client);
    let mut lines = show(&bytes_of(&query));
    let edns = lines.pop().unwrap();
    // REFUSED has an Extended DNS Error behind it.
    let edns = edns.trim_end_matches(" 15:0014");
    let echoed = edns.strip_prefix("edns 8:").expect("a client subnet");
    let net: ipnet::IpNet = net.parse().unwrap();
    assert_eq!(
        echoed[..4],
        *if net.addr().is_ipv4() { "0001" } else { "0002" }
    );
    assert_eq!(u8::from_str_radix(&echoed[4..6], 16), Ok(net.prefix_len()));
    let octets = match net.addr() {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    };
    let mut hex = String::new();
    for octet in &octets[..usize::from(net.prefix_len()).div_ceil(8)] {
        let _ = write!(hex, "{octet:02x}");
    }
    assert_eq!(echoed[8..], hex, "the address is echoed");
    (u8::from_str_radix(&echoed[6..8], 16).unwrap(), lines)
}

#[test]
fn rfc_7871_client_subnet() {
    let ams = "an www.example.org 60 A 192.0.2.10";
    let sin = "an www.example.org 60 A 203.0.113.10";
    let (scope, lines) = scoped("www.example.org A", "8.8.8.0/24", "1.2.3.4");
    assert_eq!(scope, 8);
    assert_eq!(lines[1], "an www.example.org 60 A 198.51.100.10");
    // Longer than the source.
    let (scope, lines) = scoped("www.example.org A", "9.9.9.0/16", "1.2.3.4");
    assert!(scope > 16 && lines[1] == ams, "{scope}");
    let (scope, lines) = scoped("www.example.org A", "9.9.9.9/32", "1.2.3.4");
    assert_eq!((scope, lines[1].as_str()), (24, sin));
    let (scope, lines) = scoped("www.example.org A", "2600::/48", "1.2.3.4");
    assert_eq!((scope, lines[1].as_str()), (12, sin));
    // A default answer has a scope as well.
    let (scope, lines) = scoped("www.example.org A", "1.1.1.0/24", "8.8.8.8");
    assert!(scope > 0 && lines[1] == ams, "{scope}");
    // An opt-out: the resolver's address, for everyone behind it.
    let (scope, lines) = scoped("www.example.org A", "0.0.0.0/0", "9.9.9.9");
    assert_eq!((scope, lines[1].as_str()), (0, sin));
    let (scope, lines) = scoped("www.example.org A", "::/0", "9.9.9.9");
    assert_eq!((scope, lines[1].as_str()), (0, sin));
    check(
        &ask("www.example.org A").option(8, &[0, 0, 0, 0]),
        &["NOERROR aa", ams, "edns 8:00000000"],
    );
    // Nobody's place: the resolver's address, for the whole block.
    for (net, block) in [
        ("10.1.2.0/24", 8),
        ("192.168.0.0/16", 16),
        ("203.0.113.7/32", 24),
        ("127.0.0.1/32", 8),
        ("fc00:1::/48", 7),
        ("2001:db8::/32", 32),
        ("::1/128", 128),
    ] {
        let (scope, lines) = scoped("www.example.org A", net, "9.9.9.9");
        assert_eq!((scope, lines[1].as_str()), (block, sin), "{net}");
        let (scope, _) = scoped("all.example.org A", net, "9.9.9.9");
        assert_eq!(scope, 0, "{net}");
    }
    // The client did not matter.
    for question in [
        "all.example.org A",
        "v4.example.org AAAA",
        "www.example.org TXT",
        "www.example.org MX",
        "nothing.example.org A",
        "lab.example.org A",
        "example.net A",
        "one.example.org A",
        "alias.example.org TXT",
    ] {
        let (scope, _) = scoped(question, "8.8.8.0/24", "1.2.3.4");
        assert_eq!(scope, 0, "{question}");
    }
    // Section 7.2.1: what a CNAME for everyone leads to is not for everyone.
    let (scope, lines) = scoped("alias.example.org A", "8.8.8.0/24", "1.2.3.4");
    assert_eq!(scope, 0);
    assert_eq!(
        lines,
        [
            "NOERROR aa",
            "an alias.example.org 3600 CNAME www.example.org."
        ]
    );
    let (scope, lines) = scoped("alias-all.example.org AAAA", "8.8.8.0/24", "1.2.3.4");
    assert_eq!((scope, lines.len()), (0, 4));
    // Errors and truncated answers echo it too.
    let mut notify = ask("www.example.org A").subnet("8.8.8.0/24");
    notify.flags = 4 << 11;
    assert_eq!(
        show(&bytes_of(&notify)),
        ["NOTIMP", "edns 8:00011800080808"]
    );
    check(
        &ask("big.example.org TXT").subnet("8.8.8.0/24"),
        &["NOERROR aa tc", "edns 8:00011800080808"],
    );
}

#[test]
fn malformed_client_subnets_are_formerr() {
    for data in [
        &[][..],
        &[0, 1, 24],
        &[0, 3, 0, 0],
        &[0, 3, 24, 0, 8, 8, 8],
        &[0, 0, 8, 0, 8],
        &[0, 0, 0, 0, 8],
        &[0, 1, 33, 0, 8, 8, 8, 8, 0],
        &[
            0, 2, 129, 0, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 0,
        ],
        &[0, 1, 24, 24, 8, 8, 8],
        &[0, 1, 0, 1],
        &[0, 1, 24, 0, 8, 8],
        &[0, 1, 24, 0, 8, 8, 8, 0],
        &[0, 1, 20, 0, 8, 8, 8],
        &[0, 1, 0, 0, 0],
    ] {
        check(
            &ask("www.example.org A").option(8, data),
            &["FORMERR", "edns"],
        );
    }
    let twice = b"\0\x08\0\x05\0\x01\x08\0\x08\0\x08\0\x05\0\x01\x08\0\x08";
    let response = bytes_of(&ask("www.example.org A").opt(1232, 0, 0, twice));
    assert_eq!(show(&response)[0], "FORMERR");
}

#[test]
fn the_answer_is_the_same_whatever_edns_says() {
    for client in ["1.2.3.4", "8.8.8.8", "9.9.9.9", "2600::1", "10.1.2.3"] {
        let plain = show(&bytes_of(&ask("www.example.org A").from(client)));
        for with in [
            ask("www.example.org A").opt(1232, 0, 0x8000, &[]),
            ask("www.example.org A").option(10, b"12345678"),
            ask("www.example.org A").option(3, b""),
            ask("www.example.org A").subnet("0.0.0.0/0"),
            ask("www.example.org A").subnet("192.168.1.0/24"),
        ] {
            let mut lines = show(&bytes_of(&with.from(client)));
            lines.pop();
            assert_eq!(lines, plain, "{client}");
        }
    }
}

#[test]
fn class_ch_says_who_we_are() {
    let chaos = |question: &str| Ask {
        qclass: 3,
        ..ask(question)
    };
    for (question, text) in [
        ("version.bind TXT", "geodns test"),
        ("VERSION.server TXT", "geodns test"),
        ("id.server TXT", "test1"),
        ("hostname.bind TXT", "test1"),
    ] {
        let name = question.split(' ').next().unwrap();
        check(
            &chaos(question),
            &["NOERROR aa", &format!("an {name} 0 TXT \"{text}\"")],
        );
    }
    for question in ["version.bind A", "authors.bind TXT", "www.example.org A"] {
        check(&chaos(question), &["REFUSED"]);
    }
}

#[test]
fn what_is_told_to_nobody_is_refused_and_an_nsid_is_left_out() {
    let silent = Identity {
        id: None,
        nsid: None,
        version: None,
        cookies: None,
    };
    let partly = Identity {
        nsid: Some("n1".into()),
        version: Some("DNS".into()),
        ..silent.clone()
    };
    let told = |identity: &Identity, query: &[u8]| {
        let mut response = Vec::new();
        let client = [192, 0, 2, 1].into();
        assert!(answer(
            &WORLD,
            identity,
            query,
            client,
            Transport::Udp,
            &mut response
        ));
        response
    };
    for (name, says_partly) in [
        ("version.bind", true),
        ("version.server", true),
        ("id.server", false),
        ("hostname.bind", false),
    ] {
        let mut query = ask(&format!("{name} TXT"));
        query.qclass = 3;
        let query = query.wire();
        let refused = told(&silent, &query);
        assert_eq!((refused[3] & 15, refused[7]), (5, 0), "{name}");
        let answers = told(&partly, &query)[7];
        assert_eq!(answers, u8::from(says_partly), "{name}");
    }
    let nsid = ask("www.example.org A")
        .opt(1232, 0, 0, &[0, 3, 0, 0])
        .wire();
    let without = ask("www.example.org A").opt(1232, 0, 0, &[]).wire();
    assert_eq!(told(&silent, &nsid), told(&silent, &without));
    let with = told(&partly, &nsid);
    assert!(with.ends_with(&[0, 6, 0, 3, 0, 2, b'n', b'1']), "{with:?}");
}

/// The fast path's answer to a message, if it gives one.
fn fast(wire: &[u8], client: IpAddr) -> Option<Vec<u8>> {
    let plan = read(&WORLD.plan);
    let mut scratch = Scratch::new();
    if !scratch.set_query(wire, client) {
        return None;
    }
    respond(&mut scratch, &*plan)
        .is_answer()
        .then(|| scratch.message().to_vec())
}

#[test]
fn both_paths_give_the_same_bytes() {
    let mut answered = 0;
    for name in [
        "www.example.org",
        "WwW.eXaMpLe.ORG",
        "a.cdn.example.org",
        "A.b.C.cdn.example.org",
        "all.example.org",
        "v4.example.org",
        "vast.example.org",
        "child.example.org",
        "cdn.example.org",
        "mail.example.org",
        "example.org",
        "nothing.example.org",
    ] {
        for qtype in ["A", "AAAA", "TXT"] {
            for client in [
                "1.2.3.4", "8.8.8.8", "9.9.9.9", "10.9.9.9", "2600::1", "2a00::1",
            ] {
                for flags in [0, 0x0100, 0x0110, 0x0120] {
                    let mut plain = ask(&format!("{name} {qtype}")).from(client);
                    plain.flags = flags;
                    for query in [
                        plain.clone(),
                        plain.clone().opt(4096, 0, 0x8000, &[]),
                        plain.clone().opt(512, 0, 0, &[]),
                        plain.clone().option(10, b"12345678"),
                    ] {
                        if let Some(fast) = fast(&query.wire(), query.client) {
                            assert_eq!(bytes_of(&query), fast, "{name} {qtype} {client}");
                            answered += 1;
                        }
                    }
                }
            }
        }
    }
    // Steered A and AAAA, less those of the pool that is too large.
    assert!(answered > 1000, "the fast path answered {answered}");
}

/// Octets that look like a query often enough to get somewhere.
fn messages() -> impl Strategy<Value = Vec<u8>> {
    let names = prop::sample::select(vec![
        "www.example.org",
        "x.cdn.example.org",
        "alias.example.org",
        "vast.example.org",
        "big.example.org",
        "x.lab.example.org",
        "x.glue.example.org",
        "a.old.example.org",
        "nothing.example.org",
        "example.net",
    ]);
    let types = prop::sample::select(vec!["A", "AAAA", "TXT", "ANY", "DS", "MX"]);
    let edns = prop::option::of((
        any::<u16>(),
        any::<u16>(),
        prop::collection::vec(any::<u8>(), 0..24),
    ));
    let nets = prop::option::of((any::<u32>(), 0..=32u8));
    let edits = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4);
    let like_queries =
        (names, types, edns, nets, edits).prop_map(|(name, qtype, edns, net, edits)| {
            let mut query = ask(&format!("{name} {qtype}"));
            if let Some((payload, flags, options)) = edns {
                query = query.opt(payload, 0, flags, &options);
            } else if let Some((address, len)) = net {
                let net = ipnet::Ipv4Net::new(address.into(), len).unwrap().trunc();
                query = query.subnet(&net.to_string());
            }
            let mut wire = query.wire();
            for (at, octet) in edits {
                let at = at.index(wire.len());
                wire[at] = octet;
            }
            wire
        });
    prop_oneof![
        3 => like_queries,
        1 => prop::collection::vec(any::<u8>(), 0..600),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn whatever_comes_is_answered_within_bounds(wire in messages(), v6: bool) {
        let client = if v6 { IpAddr::V6(Ipv6Addr::LOCALHOST) } else { RESOLVER };
        for transport in [Transport::Udp, Transport::Tcp, Transport::Tls] {
            let is_query = wire.len() >= 12 && wire[2] & 0x80 == 0;
            let Some(response) = send(&wire, client, transport) else {
                prop_assert!(!is_query);
                continue;
            };
            prop_assert!(is_query);
            prop_assert_eq!(&response[..2], &wire[..2]);
            // QR, opcode and RD; RA, Z, AD and CD are zero.
            prop_assert_eq!(response[2] & 0xf9, wire[2] & 0x79 | 0x80);
            prop_assert_eq!(response[3] & 0xf0, 0);
            let limit = if transport == Transport::Udp { 1232 } else { 65535 };
            prop_assert!(response.len() <= limit);
            let message = Message::from_octets(&response[..]).unwrap();
            let (question, answer, authority, additional) = message.sections().unwrap();
            prop_assert!(question.count() <= 1);
            for section in [answer, authority, additional] {
                for record in section {
                    let record = record.unwrap();
                    let record = record.into_record::<AllRecordData<_, ParsedName<_>>>();
                    prop_assert!(matches!(record, Ok(Some(_))));
                }
            }
            if message.opt().is_none() && transport == Transport::Udp {
                prop_assert!(response.len() <= 512);
            }
        }
    }

    #[test]
    fn what_the_fast_path_answers_the_slow_path_answers_alike(
        wire in messages(),
        address: u32,
    ) {
        let client = IpAddr::V4(address.into());
        if let Some(fast) = fast(&wire, client) {
            prop_assert_eq!(send(&wire, client, Transport::Udp), Some(fast));
        }
    }
}

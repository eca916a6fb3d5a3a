//! RDATA of every type: what other servers make of it, and what they refuse.

use domain::base::Rtype;
use domain::utils::base16;
use proptest::prelude::*;

use super::super::text::{Entries, Wrong};

const ORIGIN: &[u8] = b"\x07example\x03org\0";

/// RDATA of `TYPE DATA`, beneath example.org.
fn scan(text: &str) -> Result<(Rtype, Vec<u8>), Wrong> {
    let mut tokens = Vec::new();
    let entry = Entries::new(text.as_bytes(), 1).next(&mut tokens);
    if let Some(wrong) = entry.and_then(|entry| entry.wrong) {
        return Err(wrong);
    }
    let rtype = super::rtype(&tokens[0]).unwrap();
    let mut out = Vec::new();
    super::scan(rtype, &tokens[1..], 1, ORIGIN, &mut out)?;
    Ok((rtype, out))
}

/// Each with its octets as named-rrchecker of BIND 9.18 writes them, which leaves names as they are; CLA
/// and IPN, which it does not know, by hand.
const RIGHT: &[(&str, &str)] = &[
    (
        "LOC 42 21 54.5 N 71 06 18 W -24m 30m",
        "0033161389172fc470be15f000988d20",
    ),
    ("LOC 52 N 4 E 0m", "001216138b28720080dbba0000989680"),
    (
        "LOC 52 14 05.123 N 00 08 50.001 E 10.25m 1m 10000m 10m",
        "001216138b3557438008165100989a81",
    ),
    (
        "URI 10 1 \"https://example.org/a b\"",
        "000a000168747470733a2f2f6578616d706c652e6f72672f612062",
    ),
    ("SPF \"v=spf1 -all\"", "0b763d73706631202d616c6c"),
    (
        "AFSDB 1 Ns.Example.ORG.",
        "0001024e73074578616d706c65034f524700",
    ),
    ("RT 10 Relay", "000a0552656c6179076578616d706c65036f726700"),
    ("KX 10 Kx", "000a024b78076578616d706c65036f726700"),
    (
        "PX 10 Map822 MapX400",
        "000a064d6170383232076578616d706c65036f726700074d617058343030076578616d706c65036f726700",
    ),
    ("X25 311061700956", "0c333131303631373030393536"),
    ("ISDN 150862028003217", "0f313530383632303238303033323137"),
    (
        "ISDN 150862028003217 004",
        "0f31353038363230323830303332313703303034",
    ),
    (
        "GPOS -32.6882 116.8652 10.0",
        "082d33322e36383832083131362e383635320431302e30",
    ),
    (
        "NAPTR 100 50 \"s\" \"z3950+I2L+I2C\" \"\" _z3950._tcp.Gatech",
        "0064003201730d7a333935302b49324c2b49324300065f7a33393530045f74637006476174656368076578616d706c65036f726700",
    ),
    (
        "SVCB 1 svc alpn=h2,h3 port=8443 ipv4hint=192.0.2.1",
        "000103737663076578616d706c65036f726700000100060268320268330003000220fb00040004c0000201",
    ),
    ("HTTPS 1 . alpn=\"h2\"", "00010000010003026832"),
    (
        "HIP 2 200100107B1A74DF365639CC39F1D578 AwEAAbdxyhNuSutc5EMzxTs9LBPCIkOFH8cIvM4p9+LrV4e19WzK00+CI6zBCQTdtWsuxKbWIy87UOoJTwkUs7lBu+Upr1gsNrut79ryra+bSRGQb1slImA8YVJyuIDsj7kwzG7jnERNqnWxZ48AWkskmdHaVDP4BcelrTI3rMXdXF5D Rvs.Example.com.",
        "10020084200100107b1a74df365639cc39f1d57803010001b771ca136e4aeb5ce44333c53b3d2c13c22243851fc708bcce29f7e2eb5787b5f56ccad34f8223acc10904ddb56b2ec4a6d6232f3b50ea094f0914b3b941bbe529af582c36bbadefdaf2adaf9b4911906f5b2522603c615272b880ec8fb930cc6ee39c444daa75b1678f005a4b2499d1da5433f805c7a5ad3237acc5dd5c5e4303527673074578616d706c6503636f6d00",
    ),
    ("EUI48 00-00-5e-00-53-2a", "00005e00532a"),
    ("EUI64 00-00-5e-ef-10-00-00-2a", "00005eef1000002a"),
    ("NID 10 0014:4fff:ff20:ee64", "000a00144fffff20ee64"),
    ("L64 10 2001:0DB8:1140:1000", "000a20010db811401000"),
    (
        "LP 10 L64-Subnet1",
        "000a0b4c36342d5375626e657431076578616d706c65036f726700",
    ),
    (
        "SMIMEA 3 1 1 d2abde240d7cd3ee6b4b28c54df034b97983a1d16e8a410e4561cb106618e971",
        "030101d2abde240d7cd3ee6b4b28c54df034b97983a1d16e8a410e4561cb106618e971",
    ),
    ("OPENPGPKEY AAECAwQ=", "0001020304"),
    ("CSYNC 66 3 A NS AAAA", "000000420003000460000008"),
    (
        "ZONEMD 2018031500 1 1 FEBE3D4CE2EC2FFA4BA99D46CD69D6D29711E55217057BEE7EB1A7B641A47BA7FED2DD5B97AE499FAFA4F22C6BD647DE",
        "7848b78c0101febe3d4ce2ec2ffa4ba99d46cd69d6d29711e55217057bee7eb1a7b641a47ba7fed2dd5b97ae499fafa4f22c6bd647de",
    ),
    ("CERT PKIX 1 RSASHA256 AAECAwQ=", "00010001080001020304"),
    ("CERT 65534 65535 254 AAECAwQ=", "fffefffffe0001020304"),
    (
        "APL 1:192.168.32.0/21 !1:192.168.38.0/28 2:2001:db8::/32",
        "00011503c0a82000011c83c0a8260002200420010db8",
    ),
    ("APL", ""),
    (
        "DHCID AAIBY2/AuCccgoJbsaxcQc9TUapptP69lOjxfNuVAA2kjEA=",
        "000201636fc0b8271c82825bb1ac5c41cf5351aa69b4febd94e8f17cdb95000da48c40",
    ),
    (
        "TALINK h0 h2",
        "026830076578616d706c65036f726700026832076578616d706c65036f726700",
    ),
    ("AMTRELAY 10 0 1 203.0.113.15", "0a01cb00710f"),
    (
        "AMTRELAY 10 0 2 2001:db8::15",
        "0a0220010db8000000000000000000000015",
    ),
    (
        "AMTRELAY 128 1 3 Amtrelays.example.com.",
        "808309416d7472656c617973076578616d706c6503636f6d00",
    ),
    ("AMTRELAY 10 0 0 .", "0a00"),
    (
        "RESINFO qnamemin exterr=15-17",
        "08716e616d656d696e0c6578746572723d31352d3137",
    ),
    ("WALLET \"BTC\" \"abc\"", "0342544303616263"),
    ("NINFO \"abc\"", "03616263"),
    ("RKEY 0 3 1 AAECAwQ=", "000003010001020304"),
    ("AVC \"a\"", "0161"),
    (
        "DOA 1 2 3 \"text/plain\" AAEC",
        "0000000100000002030a746578742f706c61696e000102",
    ),
    (
        "DLV 12345 8 2 d2abde240d7cd3ee6b4b28c54df034b97983a1d16e8a410e4561cb106618e971",
        "30390802d2abde240d7cd3ee6b4b28c54df034b97983a1d16e8a410e4561cb106618e971",
    ),
    (
        "NSAP 0x47.0005.80.005a00.0000.0001.e133.ffffff000161.00",
        "47000580005a0000000001e133ffffff00016100",
    ),
    ("NSAP-PTR foo", "03666f6f076578616d706c65036f726700"),
    ("KEY 256 3 8 AwEAAQ==", "0100030803010001"),
    (
        "SIG A 8 2 3600 20300101000000 20200101000000 12345 Example.org. AAEC",
        "0001080200000e1070dbd8805e0be1003039074578616d706c65036f726700000102",
    ),
    ("NXT a A NS", "0161076578616d706c65036f72670060"),
    ("NULL \\# 3 abcdef", "abcdef"),
    ("WKS 192.0.2.1 17 53", "c00002011100000000000004"),
    (
        "A6 64 ::1 Prefix",
        "40000000000000000106507265666978076578616d706c65036f726700",
    ),
    ("UID \\# 1 00", "00"),
    ("EID 12ab", "12ab"),
    ("NIMLOC 12ab", "12ab"),
    ("HINFO \"PC\" Linux", "025043054c696e7578"),
    (
        "MINFO A B",
        "0141076578616d706c65036f7267000142076578616d706c65036f726700",
    ),
    (
        "RP A B",
        "0141076578616d706c65036f7267000142076578616d706c65036f726700",
    ),
    ("MB A", "0141076578616d706c65036f726700"),
    (
        "IPSECKEY 10 1 2 192.0.2.38 AQNRU3mG7TVTO2BkR47usntb102uFJtugbo6BSGvgqt4AQ==",
        "0a0102c0000226010351537986ed35533b6064478eeeb27b5bd74dae149b6e81ba3a0521af82ab7801",
    ),
    (
        "CAA 0 issue \"ca.example.net; policy=ev\"",
        "0005697373756563612e6578616d706c652e6e65743b20706f6c6963793d6576",
    ),
    (
        "TLSA 3 1 1 d2abde240d7cd3ee6b4b28c54df034b97983a1d16e8a410e4561cb106618e971",
        "030101d2abde240d7cd3ee6b4b28c54df034b97983a1d16e8a410e4561cb106618e971",
    ),
    (
        "SSHFP 4 2 d2abde240d7cd3ee6b4b28c54df034b97983a1d16e8a410e4561cb106618e971",
        "0402d2abde240d7cd3ee6b4b28c54df034b97983a1d16e8a410e4561cb106618e971",
    ),
    (
        "DS 12345 8 2 d2abde240d7cd3ee6b4b28c54df034b97983a1d16e8a410e4561cb106618e971",
        "30390802d2abde240d7cd3ee6b4b28c54df034b97983a1d16e8a410e4561cb106618e971",
    ),
    ("CDS 0 0 0 00", "0000000000"),
    ("CDNSKEY 0 3 0 AA==", "0000030000"),
    ("DNSKEY 256 3 RSASHA256 AwEAAQ==", "0100030803010001"),
    (
        "NSEC B A NS TYPE65280",
        "0142076578616d706c65036f726700000160ff0180",
    ),
    (
        "RRSIG A 8 2 3600 20300101000000 1577836800 12345 Example.org. AAEC",
        "0001080200000e1070dbd8805e0be1003039074578616d706c65036f726700000102",
    ),
    ("NSEC3PARAM 1 0 10 aabb", "0100000a02aabb"),
    (
        "NSEC3 1 1 12 aabbccdd 2vptu5timamqttgl4luu9kg21e0aor3s A RRSIG",
        "0101000c04aabbccdd1417f3df17b2b2adaef615257de4d2020b80ac6c7c0006400000000002",
    ),
    (
        "DSYNC CDS NOTIFY 5300 foo",
        "003b0114b403666f6f076578616d706c65036f726700",
    ),
    (
        "SVCB 0 Alias.Example.",
        "000005416c696173074578616d706c6500",
    ),
    (
        "HTTPS 1 . port=53 ech=AEj+DQBEAQAgACAdd+scUi0IYFsXnUIU7ko2Nd9+F8M26pAGZVpz/KrWPgAEAAEAAWQVZWNoLXNpdGVzLmV4YW1wbGUubmV0AAA=",
        "0001000003000200350005004a0048fe0d004401002000201d77eb1c522d08605b179d4214ee4a3635df7e17c336ea9006655a73fcaad63e00040001000164156563682d73697465732e6578616d706c652e6e65740000",
    ),
    (
        "TXT \"a;(\" b \"c\\\"\\\\\\009\" ( d ) \\; \\065",
        "03613b2801620463225c090164013b0141",
    ),
    ("TXT \"\" x", "000178"),
    ("CAA 128 tbs \"Unknown\"", "8003746273556e6b6e6f776e"),
    ("CAA 0 issue \";\"", "000569737375653b"),
    (
        "NAPTR 0 0 \"\" \"\" \"!^.*$!sip:a\\\\@b!\" .",
        "0000000000000f215e2e2a24217369703a615c40622100",
    ),
    ("URI 0 0 \"a\"", "0000000061"),
    ("CSYNC 1 0", "000000010000"),
    (
        "NSEC * A TYPE256 TYPE65535 CAA",
        "012a076578616d706c65036f7267000001400101c0ff200000000000000000000000000000000000000000000000000000000000000001",
    ),
    (
        "DS 1 RSASHA256 1 0123456789 abcdef0123456789 ABCDEF01234567",
        "000108010123456789abcdef0123456789abcdef01234567",
    ),
    (
        "APL 1:10.0.0.0/8 2:::/0 1:0.0.0.0/0 !2:2001:db8:0:1::/64",
        "000108010a00020000000100000002408820010db800000001",
    ),
    (
        "LOC 0 S 0 W -100000m 0m 0.05 90000000m",
        "00005099800000008000000000000000",
    ),
    (
        "LOC 90 N 180 E 42849672.95m",
        "00121613934fd900a69fb200ffffffff",
    ),
    (
        "LOC 1 2 3.4 N 5 6 7.89 W 12.3m 1.5m 22.25m 1234567m",
        "001223188038d0887ee7ba6e00989b4e",
    ),
    ("A6 0 2001:db8::1", "0020010db8000000000000000000000001"),
    (
        "A6 128 Prefix",
        "8006507265666978076578616d706c65036f726700",
    ),
    (
        "A6 61 ::ffff:ffff:ffff:ffff x",
        "3d00ffffffffffffffff0178076578616d706c65036f726700",
    ),
    ("HIP 1 00 AA==", "010100010000"),
    ("AMTRELAY 255 1 0 .", "ff80"),
    ("EUI48 FF-ff-00-00-53-2A", "ffff0000532a"),
    ("NID 65535 0:0:0:0", "ffff0000000000000000"),
    ("NID 0 F:ff:FfF:1234", "0000000f00ff0fff1234"),
    ("L32 0 0.0.0.0", "000000000000"),
    ("X25 \"1234\"", "0431323334"),
    ("GPOS \"-1\" +2 3.", "022d31022b3202332e"),
    ("CERT OID 0 0 AA==", "00fe00000000"),
    ("DOA 0 1 2 \"\" -", "00000000000000010200"),
    (
        "ZONEMD 1 2 240 000102030405060708090a0b",
        "0000000102f0000102030405060708090a0b",
    ),
    // The digests of RFC 8976 appendix A.3 that are not of the scheme SIMPLE, or of a private algorithm; BIND
    // has a length for SHA-384 and SHA-512 under every scheme, and refuses the second.
    (
        "ZONEMD 2018031900 1 240 e2d523f654b9422a96c5a8f44607bbee",
        "7848b91c01f0e2d523f654b9422a96c5a8f44607bbee",
    ),
    (
        "ZONEMD 2018031900 241 1 e1846540e33a9e4189792d18d5d131f605fc283e",
        "7848b91cf101e1846540e33a9e4189792d18d5d131f605fc283e",
    ),
    ("ISDN \"\" \"\"", "0000"),
    ("HINFO \"\" \"\"", "0000"),
    ("NSAP 0x4700", "4700"),
    (
        "DNSKEY 257 3 ED25519 l02Woi0iS8Aa25FQkUd9RMzZHJpBoRQwAQEX1SxZJA4=",
        "0101030f974d96a22d224bc01adb915091477d44ccd91c9a41a11430010117d52c59240e",
    ),
    (
        "NSEC3 1 0 0 - 2vptu5timamqttgl4luu9kg21e0aor3s",
        "01000000001417f3df17b2b2adaef615257de4d2020b80ac6c7c",
    ),
    ("NSEC3PARAM 1 0 0 -", "0100000000"),
    ("IPSECKEY 10 0 0 . AA==", "0a000000"),
    (
        "IPSECKEY 10 3 2 Mygateway.example.com. AQNRU3mG7TVTO2BkR47usntb102uFJtugbo6BSGvgqt4AQ==",
        "0a0302094d7967617465776179076578616d706c6503636f6d00010351537986ed35533b6064478eeeb27b5bd74dae149b6e81ba3a0521af82ab7801",
    ),
    ("MINFO . .", "0000"),
    ("TLSA 0 0 0 AB", "000000ab"),
    ("SINK 1 2 3 AAEC", "010203000102"),
    ("CLA \"TVR-x\"", "055456522d78"),
    ("IPN 4294967298", "0000000100000002"),
    ("KEY 49408 3 5", "c1000305"),
];

#[test]
fn each_type_is_read_as_other_servers_read_it() {
    for (text, expect) in RIGHT {
        let (rtype, found) = scan(text).unwrap_or_else(|wrong| panic!("{text}: {}", wrong.message));
        let expect: Vec<u8> = base16::decode(expect).unwrap();
        assert!(
            found.eq_ignore_ascii_case(&expect),
            "{text}: {}",
            base16::encode_string(&found)
        );
        // The same from octets, and in canonical form whichever way it came in.
        let mut again = Vec::new();
        super::canonical(rtype, &expect, &mut again)
            .unwrap_or_else(|wrong| panic!("{text}: {wrong}"));
        assert_eq!(again, found, "{text}");
        let hex = base16::encode_string(&expect);
        let unknown = format!("{rtype} \\# {} ( {hex} )", expect.len());
        let unknown = unknown.replace("NSAPPTR", "NSAP-PTR");
        assert_eq!(scan(&unknown).unwrap().1, found, "{unknown}");
    }
}

/// Texts that named-rrchecker refuses, too, but for three: it takes the first 6 octets of a longer EUI48 and
/// single digits, and any strings for a GPOS.
const WRONG: &[&str] = &[
    "A 192.0.2",
    "A 192.0.2.1.1",
    "A 01.2.3.4",
    "A ::1",
    "A",
    "AAAA 2001:db8::g",
    "AAAA 192.0.2.1",
    "NS",
    "NS a b",
    "NS a..b",
    "MX a",
    "MX 65536 a",
    "MX -1 a",
    "MX 1",
    "TXT",
    "TXT \\256",
    "SOA ns host 1 2 3 4",
    "SOA ns host 1 2 3 4 5 6",
    "SOA ns host x 2 3 4 5",
    "SOA ns host 4294967296 2 3 4 5",
    "SRV 0 0 65536 a",
    "SRV 0 0 0",
    "NAPTR 1 1 \"\" \"\" \"\"",
    "CAA 256 issue \"a\"",
    "CAA 0 is-sue \"a\"",
    "CAA 0 \"\" \"a\"",
    "LOC 91 N 1 E 0",
    "LOC 90 0 0.001 N 1 E 0",
    "LOC 1 60 N 1 E 0",
    "LOC 1 2 60 N 1 E 0",
    "LOC 1 N 181 E 0",
    "LOC 1 N 1 E 0.001",
    "LOC 1 N 1 E -100000.01",
    "LOC 1 N 1 E 42849673",
    "LOC 1 N 1 E 0 90000001",
    "LOC 1 X 1 E 0",
    "LOC 1 N 1 E",
    "LOC 1 2 3.4567 N 1 E 0",
    "URI 1 1",
    "URI 1 x \"a\"",
    "EUI48 00-00-5e-00-53",
    "EUI48 00-00-5e-00-53-2a-00",
    "EUI48 00:00:5e:00:53:2a",
    "EUI48 0-0-5e-00-53-2a",
    "EUI64 00-00-5e-ef-10-00-00",
    "NID 1 1:2:3",
    "NID 1 1:2:3:4:5",
    "NID 1 1:2:3:12345",
    "NID 1 1::4",
    "L32 1 1.2.3",
    "L64 1 ::1",
    "LP 1",
    "DS 1 8 2 00",
    "DS 1 8 1 00",
    "DS 1 FOO 3 00",
    "DS 1 8 3 0",
    "DS 1 8 3",
    "TLSA 1 1 256 00",
    "TLSA 1 1 1 0g",
    "SSHFP 1 2 00",
    "DNSKEY 256 3 8 !!!",
    "DNSKEY 256 3 8",
    "RRSIG A 8 2 3600 20301301000000 20200101000000 1 a AAEC",
    "RRSIG A 8 2 3600 20300101240000 20200101000000 1 a AAEC",
    "RRSIG A 8 2 3600 20230229000000 20200101000000 1 a AAEC",
    "RRSIG FOO 8 2 3600 20300101000000 20200101000000 1 a AAEC",
    "NSEC a FOO",
    "NSEC",
    "NSEC3 1 0 0 - zzzz A",
    "CSYNC 1 x A",
    "ZONEMD 1 1 1 00",
    "ZONEMD 1 1 2 00",
    "CERT FOO 1 1 AAEC",
    "CERT 1 1 1",
    "HIP 2 200100107B1A74DF365639CC39F1D57 AAEC",
    "HIP 2 2001",
    "AMTRELAY 1 2 1 192.0.2.1",
    "AMTRELAY 1 0 1 ::1",
    "AMTRELAY 1 0 2 192.0.2.1",
    "AMTRELAY 1 0 0 a.",
    "APL 1:192.0.2.0",
    "APL 1:192.0.2.0/33",
    "APL 2:192.0.2.0/24",
    "APL 3:192.0.2.0/24",
    "APL 192.0.2.0/24",
    "X25 123",
    "X25 123a",
    "GPOS a b c",
    "ISDN",
    "A6 129",
    "A6 64 ::1",
    "DHCID =",
    "OPENPGPKEY",
    "SMIMEA 1 1 1",
    "HINFO a",
    "SVCB 1",
    "SVCB 1 . alpn=h2 alpn=h3",
    "HTTPS x .",
    "NSAP 47",
    "DOA 1 1 1 \"a\"",
    "NXT a TYPE200",
    "TYPE65280 \\# 2 abcdef",
    "TYPE65280 \\# 65536 00",
    "TYPE65280 \\# x 00",
    "TYPE65280 \\# 1 0g",
    "TYPE65280 ab",
    "A \\# 3 c00002",
    "MX \\# 6 000a0161c002",
    "TXT \\# 0",
    "NSEC \\# 4 00000000",
    "LOC \\# 3 000000",
];

#[test]
fn what_is_no_data_of_its_type_is_refused() {
    for text in WRONG {
        let found = scan(text).map(|(_, octets)| base16::encode_string(&octets));
        let wrong = found.expect_err(text);
        assert!(!wrong.message.is_empty() && wrong.line == 1, "{text}");
    }
}

#[test]
fn names_keep_their_case_and_are_the_same_in_another_where_the_canonical_form_says_so() {
    let same = |text: &str| {
        let (rtype, upper) = scan(text).unwrap();
        let (_, lower) = scan(&text.replace("A.B.", "a.b.")).unwrap();
        super::compare(rtype, &upper, &lower).is_eq()
    };
    // RFC 4034 section 6.2, without NSEC (RFC 6840 section 5.1).
    for text in [
        "NS A.B.",
        "CNAME A.B.",
        "SOA A.B. A.B. 1 2 3 4 5",
        "PTR A.B.",
        "MX 1 A.B.",
        "RP A.B. A.B.",
        "AFSDB 1 A.B.",
        "RT 1 A.B.",
        "PX 1 A.B. A.B.",
        "KX 1 A.B.",
        "SRV 1 1 1 A.B.",
        "DNAME A.B.",
        "MINFO A.B. A.B.",
        "NAPTR 1 1 \"\" \"\" \"\" A.B.",
        "NXT A.B. A",
        "MB A.B.",
    ] {
        let (_, octets) = scan(text).unwrap();
        let kept = octets.windows(4).any(|part| part == b"\x01A\x01B");
        assert!(kept && same(text), "{text}");
    }
    for text in [
        "A6 128 A.B.",
        "RRSIG A 1 1 1 1 1 1 A.B. AAEC",
        "SIG A 1 1 1 1 1 1 A.B. AAEC",
    ] {
        let (_, octets) = scan(text).unwrap();
        let upper = octets.windows(4).any(|part| part == b"\x01A\x01B");
        let lower = octets.windows(4).any(|part| part == b"\x01a\x01b");
        assert!(lower && !upper, "{text}");
    }
    for text in [
        "NSEC A.B. A",
        "LP 1 A.B.",
        "TALINK A.B. A.B.",
        "HIP 1 00 AA== A.B.",
        "AMTRELAY 1 0 3 A.B.",
        "SVCB 1 A.B.",
        "HTTPS 1 A.B.",
        "IPSECKEY 1 3 1 A.B. AAEC",
        "NSAP-PTR A.B.",
        "DSYNC A 1 1 A.B.",
        "TXT \\001A\\001B",
        "URI 1 1 \\001A\\001B",
    ] {
        let (_, octets) = scan(text).unwrap();
        let kept = octets.windows(4).any(|part| part == b"\x01A\x01B");
        assert!(kept, "{text}");
        if !text.contains("\\001") {
            assert!(!same(text), "{text}");
        }
    }
}

#[test]
fn a_missing_and_a_surplus_field_are_told_by_their_lines() {
    let wrong = |text: &str| {
        let Wrong { line, message } = scan(text).unwrap_err();
        format!("{line}: {message}")
    };
    assert_eq!(
        wrong("MX ( 1\n\n)"),
        "1: data is missing at the end of the entry; write all of it"
    );
    assert_eq!(
        wrong("MX ( 1\n\na b\n)"),
        "3: \"b\" is more than the type takes; quote strings with spaces"
    );
    assert_eq!(
        wrong("MX (\nx\na )"),
        "2: \"x\" is not a number; write 0 to 65535"
    );
    assert_eq!(
        wrong("HTTPS 1 . alpn"),
        "1: alpn without a value; write one"
    );
}

proptest! {
    #[test]
    fn octets_of_any_type_are_refused_or_canonical(
        number in prop_oneof![0u16..70, 99u16..110, 256u16..265, 32768u16..32770],
        octets in proptest::collection::vec(prop_oneof![0u8..4, any::<u8>()], 0..60),
    ) {
        let rtype = Rtype::from_int(number);
        let mut out = Vec::new();
        if super::canonical(rtype, &octets, &mut out).is_ok() {
            prop_assert!(out.eq_ignore_ascii_case(&octets));
            let mut again = Vec::new();
            super::canonical(rtype, &out, &mut again).unwrap();
            prop_assert_eq!(again, out);
        }
    }
}

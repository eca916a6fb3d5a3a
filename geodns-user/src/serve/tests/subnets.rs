//! Client subnets of every length: what their answers may be kept for never contradicts what others are told.

use std::collections::BTreeMap;

use ipnet::IpNet;

use super::answers::show;
use super::*;

const CONFIG: &str = r#"
[server]
listen = ["127.0.0.1"]
[kernel]
mode = "off"
[[zone]]
name = "example.org"
file = "example.org.zone"
[[mirror]]
id = "ams"
addresses = ["192.0.2.10"]
[[mirror]]
id = "iad"
addresses = ["192.0.2.11"]
[[mirror]]
id = "sin"
addresses = ["192.0.2.12"]
[[pool]]
id = "both"
mirrors = ["ams", "iad", "sin"]
policy = "table"
default = "ams"
prefixes = "both.csv"
[[pool]]
id = "v6"
mirrors = ["ams", "iad", "sin"]
policy = "table"
default = "ams"
prefixes = "v6.csv"
[[pool]]
id = "v4"
mirrors = ["ams", "iad", "sin"]
policy = "table"
default = "ams"
prefixes = "v4.csv"
[[pool]]
id = "drawn"
mirrors = ["ams", "iad", "sin"]
policy = "weighted"
[[steer]]
name = "both.example.org"
pool = "both"
[[steer]]
name = "v6.example.org"
pool = "v6"
[[steer]]
name = "v4.example.org"
pool = "v4"
[[steer]]
name = "drawn.example.org"
pool = "drawn"
"#;

const POOLS: [&str; 4] = ["both", "v6", "v4", "drawn"];

const V4: &str = "\
0.0.0.0/6,iad
9.0.0.0/8,sin
20.1.0.0/16,iad
20.1.64.0/18,sin
128.0.0.0/1,iad
255.255.0.0/16,sin
";

const V6: &str = "\
2000::/5,iad
2001:200::/23,sin
2001:db9::/32,sin
2001:4860::/32,ams
2002::/15,sin
2003::/19,iad
2a00::/12,sin
";

const ZONE: &str = "\
$TTL 1h
@ IN SOA ns1 hostmaster 7 1h 15m 1w 1m
@ IN NS ns1.elsewhere.test.
";

fn world() -> World {
    let folder = tempfile::tempdir().unwrap();
    let write = |file: &str, text: &str| std::fs::write(folder.path().join(file), text).unwrap();
    write("geodns.toml", CONFIG);
    write("example.org.zone", ZONE);
    write("v4.csv", &format!("prefix,mirror\n{V4}"));
    write("v6.csv", &format!("prefix,mirror\n{V6}"));
    write("both.csv", &format!("prefix,mirror\n{V4}{V6}"));
    let inputs = Inputs::read(&folder.path().join("geodns.toml")).unwrap();
    inputs
        .compile(&inputs.layers(), 1, [3, 4])
        .unwrap_or_else(|error| panic!("{error}"))
}

/// Addresses in blocks that mean something, and beside them.
const ADDRESSES: [&str; 36] = [
    "0.0.0.0",
    "1.2.3.4",
    "8.8.8.8",
    "9.9.9.9",
    "10.1.2.3",
    "20.1.64.9",
    "20.1.1.1",
    "100.64.1.1",
    "127.0.0.1",
    "192.0.2.77",
    "192.88.99.1",
    "223.255.255.255",
    "224.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::ffff:20.1.64.9",
    "64:ff9b:1::1",
    "100::1",
    // Teredo: of no IPv4 address, of a place, of none.
    "2001::",
    "2001:0:4136:e378:8000:63bf:ebfe:bff6",
    "2001:0:4136:e378:8000:63bf:f5fe:fdfc",
    "2001:0:ffff::1",
    "2001:1::1",
    "2001:2::1",
    "2001:1ff::1",
    "2001:200::1",
    "2001:db8::1",
    "2001:4860::8888",
    // 6to4: of none, of places.
    "2002::",
    "2002:a01:203::1",
    "2002:1401:4009::1",
    "2002:1401:101::1",
    "2003::1",
    "2a00::1",
    "fd00::1",
];

/// An answer to a client of a resolver, and the prefix for which it may be kept.
fn told(world: &World, pool: &str, subnet: IpNet, resolver: &str) -> (IpNet, Vec<String>) {
    let query = super::ask(&format!("{pool}.example.org A")).subnet(&subnet.to_string());
    let query = query.from(resolver);
    let mut response = Vec::new();
    assert!(answer(
        world,
        &identity(),
        &query.wire(),
        query.client,
        Transport::Udp,
        &mut response
    ));
    let mut lines = show(&response);
    let edns = lines.pop().unwrap();
    let scope = &edns["edns 8:".len()..]["00012000".len() - 2..][..2];
    let scope = u8::from_str_radix(scope, 16).unwrap();
    (IpNet::new(subnet.network(), scope).unwrap().trunc(), lines)
}

#[test]
fn sources_of_every_length_are_told_what_holds_for_all_of_their_scope() {
    let world = world();
    // What is a place, and what is none.
    let is_place = |net: &IpNet| subnet::place(IpNet::from(net.network())).is_some();
    for resolver in ["1.1.1.1", "9.9.9.9", "20.1.64.1", "2a00::53", "2003::53"] {
        for pool in POOLS {
            let mut all: BTreeMap<IpNet, (Vec<String>, IpNet)> = BTreeMap::new();
            for address in ADDRESSES {
                let address: IpAddr = address.parse().unwrap();
                let whole = IpNet::from(address);
                for len in 1..=whole.prefix_len() {
                    let subnet = IpNet::new(address, len).unwrap().trunc();
                    let first = IpNet::from(subnet.network());
                    let (net, lines) = told(&world, pool, subnet, resolver);
                    // As its first address alone.
                    assert_eq!(
                        told(&world, pool, first, resolver),
                        (net, lines.clone()),
                        "{pool}, {resolver}: {subnet}"
                    );
                    let before = all.insert(net, (lines.clone(), subnet));
                    if let Some((before, other)) = before {
                        assert_eq!(
                            before, lines,
                            "{pool}, {resolver}: {net} of {subnet}, {other}"
                        );
                    }
                }
            }
            for (net, (lines, subnet)) in &all {
                for (other, (others, inner)) in &all {
                    // What is nobody's place lies in larger ones, and may be told what they are.
                    let within = net.contains(other) && (is_place(inner) || !is_place(subnet));
                    assert!(
                        !within || lines == others,
                        "{pool}, {resolver}: {net} {lines:?} of {subnet}, {other} {others:?} of {inner}"
                    );
                }
            }
            if pool != "v4" {
                assert!(all.len() > 20, "{pool}: {}", all.len());
            }
        }
    }
}

#[test]
fn a_block_that_is_nobodys_place_ends_where_a_place_begins() {
    for (subnet, block) in [
        ("10.0.0.0/7", Some("10.0.0.0/8")),
        ("8.0.0.0/6", None),
        ("2000::/15", None),
        // Teredo with an address of class E.
        ("2001::/16", Some("2001::/100")),
        ("2001::/22", Some("2001::/100")),
        ("2001::/23", Some("2001::/100")),
        ("2001:0:4136:e378::/64", Some("2001:0:4136:e378::/100")),
        ("2001:1::/32", Some("2001:1::/32")),
        ("2001:2::/48", Some("2001:2::/31")),
        ("2001:100::/24", Some("2001:100::/24")),
        ("2001:200::/23", None),
        ("2002::/16", Some("2002::/24")),
        ("2002:a01:203::/48", Some("2002:a00::/24")),
        ("2002:c000:204::/48", Some("2002:c000:200::/40")),
        ("2002:1401::/32", None),
        ("::/1", Some("::/128")),
        ("::ffff:0:0/95", None),
        ("::ffff:0:0/96", Some("::ffff:0:0/96")),
        ("fc00::/6", Some("fc00::/7")),
    ] {
        let subnet: IpNet = subnet.parse().unwrap();
        let block = block.map(|block| block.parse().unwrap());
        assert_eq!(subnet::special_purpose(subnet.trunc()), block, "{subnet}");
    }
}

//! The zone, the steered name and the real list of prefixes to six mirrors that every server serves, each in its own
//! form.

use std::collections::HashMap;
use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use anyhow::{Context, Result, ensure};
use geodns_tests::mmdb;
use geodns_tests::real::MIRRORS;
use geodns_tests::rig::CLIENTS;
use ipnet::{IpNet, Ipv4Net};
use rand::SeedableRng;
use rand::seq::IndexedRandom;
use serde_json::{Value, json};

/// Where all of them answer.
pub use crate::flood::{SERVER as SERVER_V4, SERVER_V6};
/// The hosts of the zone; zeros are any digits.
pub const HOST: &str = "h000.example.org";
/// A name that is not in it; zeros are any digits.
pub const ABSENT: &str = "x00000000.example.org";
/// The zone.
pub const ZONE: &str = "example.org";
/// Hosts of the zone.
const HOSTS: usize = 1_000;

/// For each mirror a country, for the servers that steer by country: the list, told as countries.
const COUNTRIES: [&str; MIRRORS.len()] = ["US", "CA", "NL", "DE", "SG", "JP"];

/// Records of the zone without its SOA: owner below the zone, type, data with names below the zone.
fn records() -> Vec<(String, &'static str, String)> {
    let mut records = vec![
        (String::new(), "NS", "ns1".to_owned()),
        (String::new(), "MX", "10 mail".to_owned()),
        (String::new(), "TXT", "geodns".to_owned()),
        ("ns1".to_owned(), "A", SERVER_V4.to_owned()),
        ("ns1".to_owned(), "AAAA", SERVER_V6.to_owned()),
        ("mail".to_owned(), "A", "192.0.2.25".to_owned()),
    ];
    for host in 0..HOSTS {
        let (high, low) = (host / 250, host % 250);
        let name = format!("h{host:03}");
        records.push((name.clone(), "A", format!("198.18.{high}.{low}")));
        records.push((name, "AAAA", format!("2001:db8:100::{host:x}")));
    }
    records
}

/// SOA, without what names the zone.
const SOA: &str = "2026010100 7200 900 1209600 300";

/// The zone's file, with these lines of the steered name.
pub fn zone_file(steered: &str) -> String {
    let mut text = format!("$ORIGIN {ZONE}.\n$TTL 3600\n@ SOA ns1 hostmaster {SOA}\n");
    for (owner, rtype, data) in records() {
        let owner = if owner.is_empty() { "@" } else { &owner };
        let _ = writeln!(text, "{owner} {rtype} {data}");
    }
    text + steered
}

/// Addresses of a mirror.
fn addresses(octet: u8) -> [String; 2] {
    [format!("192.0.2.{octet}"), format!("2001:db8::{octet}")]
}

/// The steered name as ordinary records, with the addresses of one mirror.
pub fn as_records(mirror: usize) -> String {
    let [v4, v6] = addresses(MIRRORS[mirror].1);
    format!("www 60 A {v4}\nwww 60 AAAA {v6}\n")
}

/// The real list.
pub struct List {
    /// Its prefixes, and each one's mirror by number.
    prefixes: Vec<(Ipv4Net, usize)>,
}

impl List {
    /// Reads it.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("cannot read {}", path.display()))?;
        let numbers: HashMap<&str, usize> = MIRRORS.iter().map(|(id, _)| *id).zip(0..).collect();
        let mut prefixes = Vec::new();
        for line in text.lines().skip_while(|line| line.starts_with("prefix")) {
            let (prefix, mirror) = line.split_once(',').context("no comma in the list")?;
            let number = numbers.get(mirror).context("a mirror that is none")?;
            prefixes.push((prefix.parse()?, *number));
        }
        ensure!(prefixes.len() >= CLIENTS, "the list is too short");
        Ok(Self { prefixes })
    }

    /// N of its prefixes, drawn at random and each time the same, as a file of geodns' own.
    pub fn part(&self, count: usize) -> String {
        let mut random = rand::rngs::StdRng::seed_from_u64(1);
        let mut text = String::new();
        for (net, mirror) in self.prefixes.choose_multiple(&mut random, count) {
            let _ = writeln!(text, "{net},{}", MIRRORS[*mirror].0);
        }
        text
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.prefixes.len()
    }

    /// Addresses in prefixes of it, drawn at random and each time the same.
    pub fn clients(&self) -> Vec<IpAddr> {
        let mut random = rand::rngs::StdRng::seed_from_u64(1);
        let drawn = self.prefixes.choose_multiple(&mut random, CLIENTS);
        let first = |net: Ipv4Net| Ipv4Addr::from_bits(net.network().to_bits() | 1);
        drawn.map(|(net, _)| first(*net).into()).collect()
    }

    /// Networks of IPv6 that nobody is known of.
    pub fn clients_v6(&self) -> Vec<IpAddr> {
        let network = |number: u128| (0x2a00_u128 << 112 | number << 80 | 1).into();
        (0..CLIENTS as u128)
            .map(|number| IpAddr::V6(network(number)))
            .collect()
    }

    /// The mirror's number that an address belongs to; whom nobody knows is the first's.
    pub fn mirror_of(&self, address: IpAddr) -> usize {
        self.entry_of(address).map_or(0, |(_, mirror)| *mirror)
    }

    /// Whether all of an address' network of 24 bits has one mirror.
    pub fn is_whole(&self, address: IpAddr) -> bool {
        self.entry_of(address)
            .is_none_or(|(net, _)| net.prefix_len() <= 24)
    }

    fn entry_of(&self, address: IpAddr) -> Option<&(Ipv4Net, usize)> {
        let IpAddr::V4(address) = address else {
            return None;
        };
        let after = self
            .prefixes
            .partition_point(|(net, _)| net.network() <= address);
        let entry = self.prefixes.get(after.checked_sub(1)?)?;
        entry.0.contains(&address).then_some(entry)
    }

    /// For Knot DNS, `mode: subnet`.
    pub fn for_knot(&self) -> String {
        let mut text = format!("www.{ZONE}:\n");
        for (net, mirror) in &self.prefixes {
            let [v4, v6] = addresses(MIRRORS[*mirror].1);
            let _ = writeln!(text, "  - net: {net}\n    A: {v4}\n    AAAA: {v6}");
        }
        text
    }

    /// For gdnsd, `nets`.
    pub fn for_gdnsd(&self) -> String {
        let mut text = String::new();
        for (net, mirror) in &self.prefixes {
            let _ = writeln!(text, "{net} => {}", MIRRORS[*mirror].0);
        }
        text
    }

    /// As a database of countries, in MaxMind's layout.
    pub fn as_database(&self) -> Vec<u8> {
        let records: Vec<Value> = COUNTRIES
            .iter()
            .map(|code| json!({"country": {"iso_code": code}}))
            .collect();
        let networks = self.prefixes.iter();
        let writer = mmdb::Writer {
            kind: "GeoLite2-Country",
            networks: networks
                .map(|(net, mirror)| (IpNet::V4(*net), records[*mirror].clone()))
                .collect(),
            ..mmdb::Writer::new(true, &[])
        };
        writer.bytes()
    }
}

/// The mirror's number whose address this is.
pub fn mirror_at(address: IpAddr) -> Option<usize> {
    MIRRORS.iter().position(|(_, octet)| {
        let [v4, v6] = addresses(*octet);
        [v4.parse(), v6.parse()].contains(&Ok(address))
    })
}

/// gdnsd's plugin, with the list in the file `world`.
pub fn gdnsd_plugin() -> String {
    let ids = MIRRORS.map(|(id, _)| id).join(", ");
    let mut places = String::new();
    for (id, octet) in MIRRORS {
        let [v4, v6] = addresses(octet);
        let _ = writeln!(
            places,
            "      {id} => {{ addrs_v4 => [ {v4} ], addrs_v6 => [ {v6} ] }}"
        );
    }
    format!(
        "plugins => {{ geoip => {{\n  maps => {{ world => {{ datacenters => [ {ids} ], nets => world }} }}\n\
         \x20 resources => {{ www => {{ map => world, service_types => up, dcmap => {{\n{places}  }} }} }}\n}} }}\n"
    )
}

/// BIND's views, one for each mirror's country and one for everybody else, and the zone files they name.
pub fn bind_views() -> (String, Vec<(String, Vec<u8>)>) {
    let mut text = String::new();
    let mut files = Vec::new();
    let countries = (0..).zip(COUNTRIES).map(|(mirror, country)| {
        let clients = format!("geoip country {country};");
        (mirror, country, clients)
    });
    for (mirror, name, clients) in countries.chain([(0, "rest", "any;".to_owned())]) {
        let file = format!("{name}.zone");
        let _ = writeln!(
            text,
            "view {name} {{ match-clients {{ {clients} }};\n  \
             zone \"{ZONE}\" {{ type primary; file \"{{folder}}/{file}\"; }}; }};"
        );
        files.push((file, zone_file(&as_records(mirror)).into_bytes()));
    }
    (text, files)
}

/// The zone and its steered name for PowerDNS' geoip backend.
pub fn for_pdns() -> String {
    let mut owners: Vec<(String, Vec<String>)> = vec![(
        ZONE.to_owned(),
        vec![format!("soa: ns1.{ZONE} hostmaster.{ZONE} {SOA}")],
    )];
    let mut add = |owner: String, record: String| match owners.iter_mut().find(|(o, _)| *o == owner)
    {
        Some((_, records)) => records.push(record),
        None => owners.push((owner, vec![record])),
    };
    for (owner, rtype, data) in records() {
        let owner = match owner.is_empty() {
            true => ZONE.to_owned(),
            false => format!("{owner}.{ZONE}"),
        };
        let data = match rtype {
            "NS" | "MX" => format!("{data}.{ZONE}"),
            "TXT" => format!("'\"{data}\"'"),
            _ => format!("'{data}'"),
        };
        add(owner, format!("{}: {data}", rtype.to_lowercase()));
    }
    let places = (0..)
        .zip(COUNTRIES)
        .map(|(m, country)| (m, country.to_lowercase()));
    for (mirror, country) in places.chain([(0_usize, "unknown".to_owned())]) {
        let [v4, v6] = addresses(MIRRORS[mirror].1);
        for record in [format!("a: {v4}"), format!("aaaa: '{v6}'")] {
            add(format!("{country}.www.{ZONE}"), record);
        }
    }
    let mut text = format!("domains:\n- domain: {ZONE}\n  ttl: 60\n  records:\n");
    for (owner, records) in owners {
        let _ = writeln!(text, "    {owner}:");
        for record in records {
            let _ = writeln!(text, "    - {record}");
        }
    }
    let _ = writeln!(
        text,
        "  services:\n    www.{ZONE}: ['%cc.www.{ZONE}', 'unknown.www.{ZONE}']"
    );
    text
}

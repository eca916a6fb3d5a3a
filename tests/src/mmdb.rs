//! Writes small GeoIP databases (MMDB). Right ones, and such as no writer makes. The unit tests of
//! `geodns-user` include this file.

use std::collections::HashMap;

use ipnet::IpNet;
use serde_json::{Value as Json, json};

/// A database to be written.
#[derive(Clone, Debug)]
pub struct Writer {
    /// Its database type.
    pub kind: &'static str,
    /// Whether the tree is of IPv6 addresses, with IPv4 below ::/96.
    pub is_v6: bool,
    /// Networks that lead to where IPv4 is.
    pub aliases: Vec<IpNet>,
    /// Bits of a record of the tree: 24, 28 or 32.
    pub record_bits: u16,
    /// Whether numbers with a fraction are written as `f32`.
    pub single: bool,
    /// Format version that the metadata claim.
    pub version: u16,
    /// Nodes that the metadata claim.
    pub claimed_nodes: Option<u32>,
    /// Networks; of two that an address is in, the longer one counts.
    pub networks: Vec<(IpNet, Json)>,
}

#[derive(Clone, Copy, PartialEq)]
enum Record {
    Nothing,
    Node(usize),
    Data(usize),
}

impl Writer {
    /// A database of these networks.
    pub fn new(is_v6: bool, networks: &[(&str, Json)]) -> Self {
        let networks = networks.iter();
        Self {
            kind: "Test-City",
            is_v6,
            aliases: Vec::new(),
            record_bits: 24,
            single: false,
            version: 2,
            claimed_nodes: None,
            networks: networks
                .map(|(network, record)| (network.parse().unwrap(), record.clone()))
                .collect(),
        }
    }

    /// With the aliases that MaxMind's databases have.
    pub fn with_aliases(self) -> Self {
        let aliases = ["::ffff:0:0/96", "2002::/16", "2001::/32"];
        Self {
            aliases: aliases.map(|alias| alias.parse().unwrap()).into(),
            ..self
        }
    }

    /// The file.
    pub fn bytes(&self) -> Vec<u8> {
        let mut data = Vec::new();
        let mut nodes = vec![[Record::Nothing; 2]];
        let mut written: HashMap<String, usize> = HashMap::new();
        let mut networks = self.networks.clone();
        networks.sort_by_key(|(network, _)| self.key(*network).1);
        for (network, record) in &networks {
            let offset = *written.entry(record.to_string()).or_insert_with(|| {
                let offset = data.len();
                self.encode(record, &mut data);
                offset
            });
            let (first, len) = self.key(*network);
            insert(&mut nodes, first, len, Record::Data(offset));
        }
        let v4 = at(&nodes, 0, 96);
        for alias in &self.aliases {
            let (first, len) = self.key(*alias);
            insert(&mut nodes, first, len, v4);
        }
        let mut bytes = Vec::new();
        for node in &nodes {
            let records = node.map(|record| match record {
                Record::Nothing => nodes.len(),
                Record::Node(node) => node,
                Record::Data(offset) => nodes.len() + 16 + offset,
            });
            let [left, right] = records.map(|record| u32::try_from(record).unwrap());
            match self.record_bits {
                28 => {
                    bytes.extend(&left.to_be_bytes()[1..]);
                    bytes.push((left >> 24 << 4 | right >> 24) as u8);
                    bytes.extend(&right.to_be_bytes()[1..]);
                }
                32 => [left, right]
                    .iter()
                    .for_each(|r| bytes.extend(r.to_be_bytes())),
                _ => [left, right]
                    .iter()
                    .for_each(|r| bytes.extend(&r.to_be_bytes()[1..])),
            }
        }
        bytes.extend([0; 16]);
        bytes.extend(data);
        bytes.extend(b"\xab\xcd\xefMaxMind.com");
        let metadata = json!({
            "binary_format_major_version": self.version,
            "binary_format_minor_version": 0,
            "build_epoch": 1_780_000_000,
            "database_type": self.kind,
            "description": {"en": "made by a test"},
            "ip_version": if self.is_v6 { 6 } else { 4 },
            "languages": ["en"],
            "node_count": self.claimed_nodes.unwrap_or(nodes.len() as u32),
            "record_size": self.record_bits,
        });
        self.encode(&metadata, &mut bytes);
        bytes
    }

    /// Where a network stands in the tree, from the top of the `u128`.
    pub fn key(&self, network: IpNet) -> (u128, u8) {
        match network {
            IpNet::V4(net) if self.is_v6 => (net.network().to_bits().into(), 96 + net.prefix_len()),
            IpNet::V4(net) => (u128::from(net.network().to_bits()) << 96, net.prefix_len()),
            IpNet::V6(net) => (net.network().to_bits(), net.prefix_len()),
        }
    }

    fn encode(&self, value: &Json, out: &mut Vec<u8>) {
        match value {
            Json::Null => panic!("there is no such value"),
            Json::Bool(value) => out.extend([u8::from(*value), 14 - 7]),
            Json::Number(number) => match number.as_u64() {
                Some(number @ ..0x1_0000) => unsigned(5, number, out),
                Some(number) => unsigned(6, number, out),
                None if self.single => {
                    out.extend([4, 15 - 7]);
                    out.extend((number.as_f64().unwrap() as f32).to_be_bytes());
                }
                None => {
                    out.push(3 << 5 | 8);
                    out.extend(number.as_f64().unwrap().to_be_bytes());
                }
            },
            Json::String(text) => {
                match text.len() {
                    len @ ..29 => out.push(2 << 5 | len as u8),
                    len @ ..285 => out.extend([2 << 5 | 29, (len - 29) as u8]),
                    len => {
                        out.push(2 << 5 | 30);
                        out.extend(((len - 285) as u16).to_be_bytes());
                    }
                }
                out.extend(text.as_bytes());
            }
            Json::Array(values) => {
                out.extend([values.len() as u8, 11 - 7]);
                values.iter().for_each(|value| self.encode(value, out));
            }
            Json::Object(entries) => {
                out.push(7 << 5 | entries.len() as u8);
                for (key, value) in entries {
                    self.encode(&key.as_str().into(), out);
                    match (key.as_str(), value.as_u64()) {
                        ("node_count", Some(number)) => unsigned(6, number, out),
                        ("build_epoch", Some(number)) => unsigned(9, number, out),
                        _ => self.encode(value, out),
                    }
                }
            }
        }
    }
}

/// A number without a sign, of a type of 16, 32 or 64 bits.
fn unsigned(kind: u8, number: u64, out: &mut Vec<u8>) {
    let bytes = number.to_be_bytes();
    let bytes = &bytes[number.leading_zeros() as usize / 8..];
    match kind {
        ..=7 => out.push(kind << 5 | bytes.len() as u8),
        _ => out.extend([bytes.len() as u8, kind - 7]),
    }
    out.extend(bytes);
}

/// Makes a prefix lead to a record. A longer prefix goes into a shorter one, not the other way round.
fn insert(nodes: &mut Vec<[Record; 2]>, first: u128, len: u8, record: Record) {
    if len == 0 {
        nodes[0] = [record; 2];
        return;
    }
    let bit = |depth: u8| (first >> (127 - depth) & 1) as usize;
    let mut node = 0;
    for depth in 0..len - 1 {
        node = match nodes[node][bit(depth)] {
            Record::Node(next) => next,
            split => {
                nodes.push([split; 2]);
                let next = nodes.len() - 1;
                nodes[node][bit(depth)] = Record::Node(next);
                next
            }
        };
    }
    nodes[node][bit(len - 1)] = record;
}

/// The record that a prefix leads to.
fn at(nodes: &[[Record; 2]], first: u128, len: u8) -> Record {
    let mut record = Record::Node(0);
    for depth in 0..len {
        let Record::Node(node) = record else { break };
        record = nodes[node][(first >> (127 - depth) & 1) as usize];
    }
    record
}

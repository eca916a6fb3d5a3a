//! Queries, mutilated: what strangers and broken software send.

use std::net::IpAddr;

use rand::Rng;
use rand::seq::IndexedRandom;

use crate::dns::{self, Query};

/// Octets of a query, at the most: what Ethernet carries over IPv4 and UDP.
const LONGEST: usize = 1472;

/// Makes queries around a set of names: good ones, and good ones with something wrong.
pub struct Mutator {
    seeds: Vec<Vec<u8>>,
    /// Seeds without EDNS, to which a client subnet can be added.
    plain: Vec<Query>,
    subnets: Vec<IpAddr>,
}

impl Mutator {
    /// Every name with A, AAAA and another type, with and without EDNS and its options, and with client
    /// subnets around these addresses.
    pub fn new(names: &[&str], subnets: &[&str]) -> Self {
        let (mut seeds, mut plain) = (Vec::new(), Vec::new());
        for name in names {
            for qtype in [1, 1, 28, 28, 16] {
                let query = Query::new(name, qtype).flags(dns::RD);
                seeds.push(query.bytes());
                seeds.push(query.clone().edns(1232).bytes());
                seeds.push(
                    query
                        .clone()
                        .edns(512)
                        .dnssec_ok()
                        .option(dns::COOKIE, &[7; 8])
                        .bytes(),
                );
                plain.push(query.clone());
                seeds.push(query.edns(4096).subnet(1, 24, 0, &[192, 0, 2]).bytes());
            }
        }
        let subnets = subnets
            .iter()
            .map(|subnet| subnet.parse().expect("an address"))
            .collect();
        Self {
            seeds,
            plain,
            subnets,
        }
    }

    /// Puts the next one into `query`.
    pub fn next(&self, rng: &mut impl Rng, query: &mut Vec<u8>) {
        query.clear();
        match self.subnets.choose(rng) {
            Some(&near) if rng.random_ratio(1, 4) => {
                let plain = self.plain.choose(rng).expect("there are seeds").clone();
                let (family, source, octets) = subnet(rng, near);
                let with = plain.edns(rng.random_range(0..2000));
                let with = if rng.random_ratio(1, 8) {
                    with.option(dns::COOKIE, &[7; 8])
                } else {
                    with
                };
                query.extend(with.subnet(family, source, 0, &octets).bytes());
            }
            _ => query.extend_from_slice(self.seeds.choose(rng).expect("there are seeds")),
        }
        let id: u16 = rng.random();
        query[..2].copy_from_slice(&id.to_be_bytes());
        if rng.random_ratio(1, 3) {
            flip_case(rng, query);
        }
        for _ in 0..[0, 1, 1, 1, 2, 2, 3, 6][rng.random_range(0..8)] {
            self.mutate(rng, query);
        }
    }

    fn mutate(&self, rng: &mut impl Rng, query: &mut Vec<u8>) {
        if query.is_empty() {
            query.push(rng.random());
            return;
        }
        let at = rng.random_range(0..query.len());
        match rng.random_range(0..10) {
            0 => query[at] ^= 1 << rng.random_range(0..8),
            1 => query[at] = rng.random(),
            2 => {
                query[at] =
                    [0, 1, 4, 8, 11, 28, 41, 63, 64, 0x80, 0xc0, 0xff][rng.random_range(0..12)]
            }
            3 => query.truncate(at),
            4 => query.extend((0..rng.random_range(1..20)).map(|_| rng.random::<u8>())),
            5 => query.insert(at, rng.random()),
            6 => drop(query.remove(at)),
            7 => {
                let other = self.seeds.choose(rng).expect("there are seeds");
                query.truncate(at);
                query.extend_from_slice(&other[at.min(other.len())..]);
            }
            8 => {
                let header = query.len().min(12);
                query[rng.random_range(0..header)] = rng.random_range(0..3);
            }
            _ => {
                let piece = query[at..].to_vec();
                query.extend_from_slice(&piece);
                query.truncate(LONGEST);
            }
        }
    }
}

/// A well-formed client subnet that has its first bits, or most of them, from an address: FAMILY, SOURCE,
/// ADDRESS.
fn subnet(rng: &mut impl Rng, near: IpAddr) -> (u16, u8, Vec<u8>) {
    let (family, bits, high) = match near {
        IpAddr::V4(near) => (1, 32, u128::from(near.to_bits()) << 96),
        IpAddr::V6(near) => (2, 128, near.to_bits()),
    };
    let source: u32 = rng.random_range(0..=bits);
    let noise = rng.random::<u128>() >> rng.random_range(0..bits);
    let mask = u128::MAX.checked_shl(128 - source).unwrap_or(0);
    let address = ((high ^ noise) & mask).to_be_bytes();
    let octets = source.div_ceil(8) as usize;
    (family, source as u8, address[..octets].to_vec())
}

/// Random case for every letter after the header (0x20).
fn flip_case(rng: &mut impl Rng, query: &mut [u8]) {
    for octet in &mut query[12..] {
        if octet.is_ascii_alphabetic() && rng.random() {
            *octet ^= 0x20;
        }
    }
}

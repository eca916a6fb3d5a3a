//! Queries, mutilated: what strangers and broken software send.

use rand::Rng;
use rand::seq::IndexedRandom;

use crate::dns::{self, Query};

/// Makes queries around a set of names: good ones, and good ones with something wrong.
pub struct Mutator {
    seeds: Vec<Vec<u8>>,
}

impl Mutator {
    /// Every name with A, AAAA and another type, with and without EDNS and its options.
    pub fn new(names: &[&str]) -> Self {
        let mut seeds = Vec::new();
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
                seeds.push(query.edns(4096).subnet(1, 24, 0, &[192, 0, 2]).bytes());
            }
        }
        Self { seeds }
    }

    /// Puts the next one into `query`.
    pub fn next(&self, rng: &mut impl Rng, query: &mut Vec<u8>) {
        query.clear();
        query.extend_from_slice(self.seeds.choose(rng).expect("there are seeds"));
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
            }
        }
    }
}

/// Random case for every letter after the header (0x20).
fn flip_case(rng: &mut impl Rng, query: &mut [u8]) {
    for octet in &mut query[12..] {
        if octet.is_ascii_alphabetic() && rng.random() {
            *octet ^= 0x20;
        }
    }
}

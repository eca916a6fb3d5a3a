//! Zone rows, pool rows and answers.

use std::ops::Range;

use geodns_common::abi::{
    ANSWER_WORDS, Answer, Family, MAX_ANSWER_MIRRORS, MAX_MIRRORS, NO_ATLAS, Pool, Row, SOA_WORDS,
    Zone,
};

use super::CompileError;
use crate::config::{Config, Policy};
use crate::{steering, zone};

const TYPE_A: u16 = 1;
const TYPE_SOA: u16 = 6;
const TYPE_AAAA: u16 = 28;
const CLASS_IN: u16 = 1;

/// The rows of the zones.
pub fn zones(zones: &[zone::Zone], generation: u64) -> Vec<Zone> {
    let render = |zone: &zone::Zone| {
        let mut record = Vec::new();
        let ttl = zone.negative_ttl();
        put_record(&mut record, TYPE_SOA, ttl, &zone.soa().rdata[0]);
        let mut soa = [0; SOA_WORDS];
        let soa_len = put_words(&mut soa, &record);
        Zone {
            row: Row::new(generation << 8 | Zone::COMPLETE),
            apex_len: zone.apex.len() as u16,
            soa_len,
            _pad: 0,
            soa,
        }
    };
    zones.iter().map(render).collect()
}

/// Pools and answers of a plan.
#[derive(Debug, Default)]
pub struct Rows {
    /// The rows of the pools, without their atlases.
    pub pools: Vec<Pool>,
    /// The answers of all pools.
    pub answers: Vec<Answer>,
    /// The same records, of any length.
    heap: Vec<u8>,
    /// Where each answer's records are in the heap.
    places: Vec<Range<usize>>,
}

impl Rows {
    /// Renders the pools of a configuration.
    pub fn compile(config: &Config) -> Result<Self, CompileError> {
        let mut rows = Self::default();
        for pool in &config.pools {
            if pool.mirrors.len() > MAX_MIRRORS {
                return Err(CompileError::TooMany(format!(
                    "pool \"{}\" has {} mirrors; {MAX_MIRRORS} is the most",
                    pool.id,
                    pool.mirrors.len()
                )));
            }
            let families = [Family::V4, Family::V6];
            let has = families.map(|family| steering::having(pool, &config.mirrors, family));
            let most = has.map(u64::count_ones).into_iter().max().unwrap_or(0);
            let mut flags = 0;
            if pool.policy == Policy::All {
                flags |= Pool::ALL;
            }
            if u32::from(pool.answers).min(most) > MAX_ANSWER_MIRRORS {
                flags |= Pool::SLOW;
            }
            let fallback =
                families.map(|family| steering::fallback(pool, &config.mirrors, family).0);
            rows.pools.push(Pool {
                in_service: Row::new(steering::everyone(pool)),
                atlas: Row::new(NO_ATLAS.into()),
                has,
                fallback,
                answers: rows.answers.len() as u32,
                count: pool.answers,
                flags,
            });
            for &mirror in &pool.mirrors {
                let mirror = &config.mirrors[mirror];
                rows.put(TYPE_A, pool.ttl, mirror.v4.iter().map(|a| a.octets()));
                rows.put(TYPE_AAAA, pool.ttl, mirror.v6.iter().map(|a| a.octets()));
            }
        }
        Ok(rows)
    }

    /// Renders the records of one mirror and type.
    fn put<const N: usize>(&mut self, rtype: u16, ttl: u32, rdata: impl Iterator<Item = [u8; N]>) {
        let start = self.heap.len();
        let mut records = 0;
        for rdata in rdata {
            // The owner: a pointer to the question.
            self.heap.extend_from_slice(&[0xc0, 0x0c]);
            put_record(&mut self.heap, rtype, ttl, &rdata);
            records += 1;
        }
        let mut answer = Answer {
            records,
            ..Answer::default()
        };
        let words: &mut [u64; ANSWER_WORDS] = &mut answer.words;
        answer.len = put_words(words, &self.heap[start..]);
        self.answers.push(answer);
        self.places.push(start..self.heap.len());
    }

    /// Number of a mirror's answer.
    fn answer(&self, pool: usize, mirror: u8, family: Family) -> usize {
        self.pools[pool].answers as usize + 2 * usize::from(mirror) + family.index()
    }

    /// Whether a mirror's records are in the kernel's answer.
    pub fn fits(&self, pool: usize, mirror: u8, family: Family) -> bool {
        self.answers[self.answer(pool, mirror, family)].len > 0
    }

    /// Records of a mirror, and how many.
    pub fn records(&self, pool: usize, mirror: u8, family: Family) -> (&[u8], u16) {
        let at = self.answer(pool, mirror, family);
        (
            &self.heap[self.places[at].clone()],
            self.answers[at].records,
        )
    }
}

/// A record after its owner name (RFC 1035 section 3.2.1).
fn put_record(bytes: &mut Vec<u8>, rtype: u16, ttl: u32, rdata: &[u8]) {
    bytes.extend_from_slice(&rtype.to_be_bytes());
    bytes.extend_from_slice(&CLASS_IN.to_be_bytes());
    bytes.extend_from_slice(&ttl.to_be_bytes());
    bytes.extend_from_slice(&(rdata.len() as u16).to_be_bytes());
    bytes.extend_from_slice(rdata);
}

/// Copies octets into words, in memory order. Gives their number: 0 if they do not fit.
fn put_words(words: &mut [u64], octets: &[u8]) -> u16 {
    match bytemuck::cast_slice_mut::<u64, u8>(words).get_mut(..octets.len()) {
        Some(there) => {
            there.copy_from_slice(octets);
            octets.len() as u16
        }
        None => 0,
    }
}

//! Zone rows, pool rows, answers and the slots of groups.

use std::sync::Arc;

use geodns_common::abi::{
    ANSWER_WORDS, Answer, Family, MAX_ANSWER_MIRRORS, MAX_MIRRORS, NO_ATLAS, Pool, Row, SHARES,
    SLOTS, SOA_WORDS, Soa, Zone,
};
use geodns_common::wire::{CLASS_IN, TYPE_A, TYPE_AAAA, TYPE_CNAME, TYPE_SOA};

use super::{CompileError, alias};
use crate::compress::{POINTER_TO_QUESTION, Rendering};
use crate::config::{self, Choice, Config, Mirror, Policy};
use crate::{steering, zone};

/// The rows of the zones, of which some are in the name table whole.
pub fn zones(zones: &[Arc<zone::Zone>], complete: &[bool], generation: u64) -> Vec<Zone> {
    let render = |(of, &complete): (&Arc<zone::Zone>, &bool)| Zone {
        row: Row::new(zone_row(generation, complete)),
        ..zone(of)
    };
    zones.iter().zip(complete).map(render).collect()
}

/// The row of a zone.
pub fn zone_row(epoch: u64, complete: bool) -> u64 {
    epoch << 8 | if complete { Zone::COMPLETE } else { 0 }
}

/// A zone with its SOA, without its row.
pub fn zone(of: &zone::Zone) -> Zone {
    let apex = of.apex.as_slice();
    Zone {
        row: Row::new(0),
        apex_len: apex.len() as u16,
        _pad: [0; 3],
        soa: [Rendering::behind(apex), Rendering::apart_from(apex)].map(|mut rendering| {
            rendering.put(TYPE_SOA, of.negative_ttl(), of.soa().first());
            rendering.detach();
            soa(&rendering, apex.len() as u16)
        }),
    }
}

/// A SOA record that is rendered.
fn soa(rendering: &Rendering, apex_len: u16) -> Soa {
    let mut words = [0; SOA_WORDS];
    // Behind its owner, which is a pointer.
    let len = put_words(&mut words, rendering.octets().get(2..).unwrap_or(&[]));
    let mut soa = Soa {
        len,
        pointers_at: [0; 2],
        pointers: [POINTER_TO_QUESTION.wrapping_sub(apex_len); 2],
        _pad: [0; 3],
        words,
    };
    for (number, (at, pointer)) in rendering.pointers().take(2).enumerate() {
        (soa.pointers_at[number], soa.pointers[number]) = (at, pointer);
    }
    soa
}

/// Pools, answers and slots of a plan.
#[derive(Clone, Debug, Default)]
pub struct Rows {
    /// The rows of the pools, without their atlases.
    pub pools: Vec<Pool>,
    /// The answers of all pools: see [`Pool::answer`].
    pub answers: Vec<Answer>,
    /// The same records, of any length, and with names written out.
    records: Vec<Box<[u8]>>,
    /// Octets, from the end of a question's name, that the aliases of each pool may point to.
    shared: Vec<usize>,
    /// The slots of all groups.
    pub slots: Vec<u64>,
}

impl Rows {
    /// Renders the pools of a configuration: every mirror in service.
    pub fn compile(config: &Config) -> Result<Self, CompileError> {
        let mut rows = Self::default();
        let ends = alias::ends(config);
        for (number, pool) in config.pools.iter().enumerate() {
            if pool.mirrors.len() > MAX_MIRRORS {
                return Err(CompileError::TooMany(format!(
                    "pool \"{}\" has {} mirrors; {MAX_MIRRORS} is the most",
                    pool.id,
                    pool.mirrors.len()
                )));
            }
            let too_many = |what: &str| {
                CompileError::TooMany(format!("too many {what} in all pools; make fewer pools"))
            };
            let answers = u32::try_from(rows.answers.len()).map_err(|_| too_many("mirrors"))?;
            let groups = u32::try_from(rows.slots.len()).map_err(|_| too_many("groups"))?;
            let families = [Family::V4, Family::V6];
            let has = families.map(|family| steering::having(pool, &config.mirrors, family));
            let everyone = steering::everyone(pool);
            rows.pools.push(Pool {
                atlas: Row::new(NO_ATLAS.into()),
                ttl: Row::new(pool.ttl.into()),
                answered_by: Row::new(number as u64 | (number as u64) << 32),
                second: [Row::new(0), Row::new(0)],
                spare: [Row::new(0), Row::new(0)],
                limited: pool.limited,
                has,
                fallback: families
                    .map(|family| steering::fallback(pool, &config.mirrors, family).0),
                answers,
                groups,
                count: pool.answers,
                flags: flags(config, pool, has),
                _pad: 0,
                in_service: std::array::from_fn(|_| {
                    std::array::from_fn::<_, SHARES, _>(|_| Row::new(everyone))
                }),
            });
            let end = ends[number];
            rows.shared.push(end.map_or(0, <[u8]>::len));
            for &mirror in &pool.mirrors {
                let mirror = &config.mirrors[mirror];
                for family in families {
                    let (mut answer, records) = render(mirror, family, |_| true);
                    if let (Some(target), Some(end)) = (&mirror.cname, end) {
                        alias::point(&mut answer, target.as_slice(), end);
                    }
                    rows.push((answer, records));
                    rows.push((Answer::default(), Box::default()));
                }
            }
            let weights = steering::weights(config, number);
            rows.slots.extend(slots(config, number, &weights));
        }
        Ok(rows)
    }

    /// Number of mirrors of all pools; one that is in several counts as often.
    pub fn mirrors(&self) -> u32 {
        self.answers.len() as u32 / Pool::ANSWERS_OF_MIRROR
    }

    fn push(&mut self, (answer, records): (Answer, Box<[u8]>)) {
        self.answers.push(answer);
        self.records.push(records);
    }

    /// Puts other records in an answer's place.
    pub fn set(&mut self, number: u32, (answer, records): (Answer, Box<[u8]>)) {
        self.answers[number as usize] = answer;
        self.records[number as usize] = records;
    }

    /// Number of a mirror's answer in force.
    pub fn answer(&self, pool: usize, mirror: u8, family: Family) -> u32 {
        self.pools[pool].answer(mirror.into(), family)
    }

    /// Octets, from the end of a question's name, that a pool's alias may point to.
    pub fn shared(&self, pool: usize) -> usize {
        self.shared[pool]
    }

    /// Records of a mirror, and how many. Their TTLs are 0.
    pub fn records(&self, pool: usize, mirror: u8, family: Family) -> (&[u8], u16) {
        let at = self.answer(pool, mirror, family) as usize;
        (&self.records[at], self.answers[at].records)
    }
}

fn flags(config: &Config, pool: &config::Pool, has: [u64; 2]) -> u16 {
    let most = has.map(u64::count_ones).into_iter().max().unwrap_or(0);
    let mut flags = 0;
    if pool.policy == Policy::All {
        flags |= Pool::ALL;
    }
    if u32::from(pool.answers).min(most) > MAX_ANSWER_MIRRORS {
        flags |= Pool::SLOW;
    }
    if !pool.groups.is_empty() {
        flags |= Pool::GROUPS;
    }
    if pool.choice == Choice::Query {
        flags |= Pool::RANDOM;
    }
    if pool.is_alias(config) {
        flags |= Pool::ALIAS;
    }
    flags
}

/// The slots of a pool's groups, one group after the other.
pub fn slots(config: &Config, pool: usize, weights: &[u32]) -> Vec<u64> {
    let pool = &config.pools[pool];
    let ids: Vec<&str> = pool
        .mirrors
        .iter()
        .map(|&m| config.mirrors[m].id.as_str())
        .collect();
    let mut slots = Vec::with_capacity(pool.groups.len() * SLOTS as usize);
    for group in &pool.groups {
        slots.extend(steering::slots(group, weights, &ids));
    }
    slots
}

/// The records of a mirror for a family: those of its addresses that are wanted, by their place, or
/// its alias.
pub fn render(
    mirror: &Mirror,
    family: Family,
    wanted: impl Fn(usize) -> bool,
) -> (Answer, Box<[u8]>) {
    fn addresses<const N: usize>(
        rtype: u16,
        rdata: impl Iterator<Item = [u8; N]>,
        wanted: impl Fn(usize) -> bool,
    ) -> (Vec<u8>, u16) {
        let mut octets = Vec::new();
        let mut records = 0;
        for (_, rdata) in rdata.enumerate().filter(|(place, _)| wanted(*place)) {
            put_owned(&mut octets, rtype, 0, &rdata);
            records += 1;
        }
        (octets, records)
    }
    let (octets, records) = match (&mirror.cname, family) {
        (Some(target), _) => {
            let mut octets = Vec::new();
            put_owned(&mut octets, TYPE_CNAME, 0, target.as_slice());
            (octets, 1)
        }
        (None, Family::V4) => addresses(TYPE_A, mirror.v4.iter().map(|a| a.octets()), wanted),
        (None, Family::V6) => addresses(TYPE_AAAA, mirror.v6.iter().map(|a| a.octets()), wanted),
    };
    let several = match family {
        _ if records < 2 => 0,
        Family::V4 => Answer::SEVERAL_A,
        Family::V6 => Answer::SEVERAL_AAAA,
    };
    let mut answer = Answer {
        records,
        several,
        ..Answer::default()
    };
    let words: &mut [u64; ANSWER_WORDS] = &mut answer.words;
    answer.len = put_words(words, &octets);
    (answer, octets.into())
}

/// A record owned by a pointer to the question.
pub fn put_owned(octets: &mut Vec<u8>, rtype: u16, ttl: u32, rdata: &[u8]) {
    octets.extend_from_slice(&POINTER_TO_QUESTION.to_be_bytes());
    put_record(octets, rtype, ttl, rdata);
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

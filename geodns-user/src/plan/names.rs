//! The name table: what stands at each name of each zone, and at its wildcard child.

use std::collections::HashMap;

use geodns_common::abi::{NAME_PROBES, Name as Slot, Row, Target};
use geodns_common::wire;

use super::CompileError;
use crate::zone::Zones;

const MIN_SLOTS: usize = 16;
const MAX_SLOTS: usize = 1 << 26;

/// The name table of a plan.
#[derive(Clone, Debug)]
pub struct Names {
    /// The slots, a power of two.
    pub slots: Vec<Slot>,
    /// Whether any wildcard is steered.
    pub wildcards: bool,
}

/// Targets of a name and of its wildcard child.
#[derive(Clone, Copy)]
struct Targets {
    exact: Target,
    wildcard: Target,
}

impl Names {
    /// Compiles the table: every name of every zone, empty non-terminals and zone cuts too, so that
    /// the closest encloser of any name is found in it (RFC 4592 section 3.3.1).
    pub fn compile(zones: &Zones, key: [u64; 2]) -> Result<Self, CompileError> {
        if zones.len() > usize::from(u16::MAX) {
            return Err(CompileError::TooMany(format!(
                "{} zones; {} is the most",
                zones.len(),
                u16::MAX
            )));
        }
        let mut names: HashMap<[u64; 2], Targets> = HashMap::new();
        let mut wildcards = false;
        for (number, zone) in zones.iter().enumerate() {
            for node in zone.nodes() {
                let name = node.name();
                // What lies in a zone of its own, such as glue below a cut to it, is that zone's.
                if zones.find(name).is_none_or(|(owner, _)| owner != number) {
                    continue;
                }
                let occluded = zone.is_occluded(name);
                let target = match node.steer() {
                    Some(pool) if !occluded && !zone.is_cut(name) => Target::Steered {
                        zone: number as u16,
                        pool: pool as u32,
                    },
                    _ => Target::Pass,
                };
                entry(&mut names, key, name.as_slice()).exact = target;
                // Below a cut no wildcard answers.
                if let Some(parent) = name.as_slice().strip_prefix(b"\x01*")
                    && !occluded
                {
                    entry(&mut names, key, parent).wildcard = target;
                    wildcards |= matches!(target, Target::Steered { .. });
                }
            }
        }
        Ok(Self {
            slots: place(&names)?,
            wildcards,
        })
    }
}

/// The targets of a name; one that is not known yet exists, but that is all.
fn entry<'a>(
    names: &'a mut HashMap<[u64; 2], Targets>,
    key: [u64; 2],
    wire_name: &[u8],
) -> &'a mut Targets {
    let hash = wire::hash_name(key, &wire_name.to_ascii_lowercase());
    names.entry(hash).or_insert(Targets {
        exact: Target::Pass,
        wildcard: Target::None,
    })
}

/// Places the names at half load or less, each within the probes that a lookup makes.
fn place(names: &HashMap<[u64; 2], Targets>) -> Result<Vec<Slot>, CompileError> {
    let mut slots = (2 * names.len()).next_power_of_two().max(MIN_SLOTS);
    while slots <= MAX_SLOTS {
        if let Some(placed) = try_place(names, slots) {
            return Ok(placed);
        }
        slots *= 2;
    }
    Err(CompileError::TooMany(format!(
        "{} names are more than the name table can hold; serve fewer zones",
        names.len()
    )))
}

/// Robin Hood: of two names that want a slot, the one that is farther from its own stays. It evens
/// out the distances, and a lookup may still stop at an empty slot.
fn try_place(names: &HashMap<[u64; 2], Targets>, len: usize) -> Option<Vec<Slot>> {
    let mask = len - 1;
    let mut slots = vec![Slot::default(); len];
    for (&hash, targets) in names {
        let mut name = Slot {
            hash,
            exact: Row::new(targets.exact.pack()),
            wildcard: Row::new(targets.wildcard.pack()),
        };
        let mut probe = 0;
        while name.hash != [0, 0] {
            if probe >= NAME_PROBES as usize {
                return None;
            }
            let home = name.hash[0] as u32 as usize;
            let at = home.wrapping_add(probe) & mask;
            let there = &mut slots[at];
            let its_probe = at.wrapping_sub(there.hash[0] as u32 as usize) & mask;
            if there.hash == [0, 0] || its_probe < probe {
                std::mem::swap(there, &mut name);
                probe = its_probe;
            }
            probe += 1;
        }
    }
    Some(slots)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_within_the_probes_of_a_lookup() {
        for count in [0u64, 1, 7, 8, 9, 1000, 20_000] {
            let names: HashMap<_, _> = (1..=count)
                .map(|n| {
                    let hash = wire::hash_name([1, 2], &n.to_le_bytes());
                    let targets = Targets {
                        exact: Target::Steered {
                            zone: 0,
                            pool: n as u32,
                        },
                        wildcard: Target::None,
                    };
                    (hash, targets)
                })
                .collect();
            let slots = place(&names).unwrap();
            assert!(slots.len().is_power_of_two() && slots.len() >= 2 * names.len());
            let mask = slots.len() - 1;
            for (hash, targets) in &names {
                let found = (0..NAME_PROBES as usize)
                    .map(|probe| &slots[(hash[0] as u32 as usize).wrapping_add(probe) & mask])
                    .take_while(|slot| slot.hash != [0, 0])
                    .find(|slot| slot.hash == *hash);
                let found = found.expect("a name is found before an empty slot");
                assert_eq!(found.exact.load(), targets.exact.pack());
            }
        }
    }

    #[test]
    fn names_that_want_one_slot_grow_the_table_and_never_hang_it() {
        let crowd = |n: u64| {
            let targets = Targets {
                exact: Target::Pass,
                wildcard: Target::None,
            };
            // Alike in the low 8 bits: apart once there are more than 256 slots.
            ([n << 8, 1], targets)
        };
        let names: HashMap<_, _> = (1..=9).map(crowd).collect();
        assert_eq!(place(&names).unwrap().len(), 512);
    }
}

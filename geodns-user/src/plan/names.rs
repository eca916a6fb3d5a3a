//! The name table: what stands at each name of each zone, and at its wildcard child.

use std::collections::HashSet;

use domain::base::{Name, Rtype};
use geodns_common::abi::{NAME_PROBES, Name as Slot, Row, Target};
use geodns_common::wire::{self, HashKey};

use super::sets::{self, Shelves};
use super::{CompileError, heat};
use crate::base::name::ancestors;
use crate::zone::{Node, Zone, Zones};

const MIN_SLOTS: usize = 16;
const MAX_SLOTS: usize = 1 << 26;

/// The name table of a plan.
#[derive(Clone, Debug)]
pub struct Names {
    /// Key of the hash over names.
    pub key: HashKey,
    /// The slots, a power of two.
    pub slots: Vec<Slot>,
    /// The records of the zone files.
    pub shelves: Shelves,
    /// Whether every name of a zone is in the table, by zone: never for a zone without data, or a catalog.
    pub complete: Vec<bool>,
    /// How many names of a zone are in the table, by zone.
    pub counts: Vec<usize>,
    /// Names in the table, at the most.
    pub max_names: usize,
    /// Names that there was room left for, to be promoted.
    pub room: usize,
}

impl Names {
    /// Compiles the table: every name of every zone, empty non-terminals and zone cuts too, so that
    /// the closest encloser of any name is found in it (RFC 4592 section 3.3.1). Where that is more
    /// than `max_names`, only what is steered, the apexes, and what stands between; then zone after
    /// zone as they fit.
    pub fn compile(zones: &Zones, seed: [u64; 2], max_names: u32) -> Result<Self, CompileError> {
        if zones.len() > usize::from(u16::MAX) {
            return Err(CompileError::TooMany(format!(
                "{} zones; {} is the most",
                zones.len(),
                u16::MAX
            )));
        }
        let key = HashKey::new(seed);
        let max_names = max_names as usize;
        let chosen = Chosen::of(zones, max_names)?;
        let mut compiled = Vec::new();
        let mut shelves = Shelves::default();
        let mut counts = Vec::with_capacity(zones.len());
        for (number, zone) in zones.iter().enumerate() {
            let before = compiled.len();
            let complete = chosen.complete[number];
            let view = View::new(zones, number, complete);
            let is_public = zones.is_public(number);
            let apex = (!is_public).then_some(zone.apex.for_slice());
            let nodes = is_public.then(|| zone.nodes().map(Node::name));
            let names = nodes.into_iter().flatten().chain(apex);
            for name in names.filter(|name| chosen.has(number, name)) {
                let Some([exact, wildcard]) = view.content(name) else {
                    continue;
                };
                let mut put = |content| -> Result<Row, CompileError> {
                    let target = match content {
                        Content::Row(target) => target,
                        Content::Set(set) => view.put(shelves.put(&set).ok_or_else(no_shelf)?),
                    };
                    Ok(Row::new(target.pack()))
                };
                compiled.push(Slot {
                    hash: wire::hash_name(&key, name.as_slice()),
                    exact: put(exact)?,
                    wildcard: put(wildcard)?,
                });
            }
            counts.push(compiled.len() - before);
        }
        let room = chosen.room(zones, compiled.len(), max_names);
        Ok(Self {
            key,
            slots: place(&compiled, room)?,
            room,
            shelves,
            complete: chosen.complete,
            counts,
            max_names,
        })
    }
}

fn no_shelf() -> CompileError {
    CompileError::TooMany(
        "the records of all zones are more than the kernel's tables can hold; lower kernel.max_names"
            .to_owned(),
    )
}

/// Which names are in the table.
struct Chosen<'a> {
    /// By zone: all of its names.
    complete: Vec<bool>,
    /// The names of the other zones that are held.
    needed: HashSet<(usize, &'a Name<[u8]>)>,
}

impl<'a> Chosen<'a> {
    fn of(zones: &'a Zones, max_names: usize) -> Result<Self, CompileError> {
        if zones.names() <= max_names {
            return Ok(Self {
                complete: (0..zones.len())
                    .map(|number| zones.is_public(number))
                    .collect(),
                needed: HashSet::new(),
            });
        }
        let mut needed = HashSet::new();
        let mut needed_of = vec![0; zones.len()];
        for (number, zone) in zones.iter().enumerate() {
            let steered = zone.nodes().filter(|node| node.steer().is_some());
            for name in steered.map(Node::name).chain([zone.apex.for_slice()]) {
                let names = std::iter::once(name).chain(ancestors(name, &zone.apex));
                needed_of[number] += names.filter(|name| needed.insert((number, *name))).count();
            }
        }
        let mut room = max_names.checked_sub(needed.len()).ok_or_else(|| {
            CompileError::TooMany(format!(
                "{} names are steered, apexes, or between those, and kernel.max_names is {max_names}; \
                 raise it",
                needed.len()
            ))
        })?;
        let complete = zones
            .iter()
            .zip(needed_of)
            .enumerate()
            .map(|(number, (zone, needed))| {
                // Its apex is there all the same.
                if !zones.is_public(number) {
                    return false;
                }
                let rest = zone.names().saturating_sub(needed);
                let fits = rest <= room;
                if fits {
                    room -= rest;
                }
                fits
            })
            .collect();
        Ok(Self { complete, needed })
    }

    /// How many of the other names may be promoted, when N are in the table.
    fn room(&self, zones: &Zones, compiled: usize, max_names: usize) -> usize {
        let partial =
            (0..zones.len()).filter(|&number| zones.is_public(number) && !self.complete[number]);
        let names: usize = partial.map(|number| zones[number].names()).sum();
        names
            .min(max_names.saturating_sub(compiled))
            .min(heat::PLACES)
    }

    fn has(&self, zone: usize, name: &Name<[u8]>) -> bool {
        self.complete[zone] || self.needed.is_empty() || self.needed.contains(&(zone, name))
    }
}

/// Content of a name's row.
pub enum Content {
    /// A target that needs nothing else.
    Row(Target),
    /// A set, which is not on a shelf yet.
    Set(Vec<u64>),
}

impl Content {
    /// The slow path answers.
    const PASS: Self = Self::Row(Target::Pass);
}

/// A zone, as its names are compiled.
pub struct View<'a> {
    zones: &'a Zones,
    zone: &'a Zone,
    number: usize,
    complete: bool,
}

impl<'a> View<'a> {
    /// The zone of a number, of which all names are in the table, or not.
    pub fn new(zones: &'a Zones, number: usize, complete: bool) -> Self {
        Self {
            zones,
            zone: &zones[number],
            number,
            complete,
        }
    }

    /// The content of a name's rows: its own, and that of its wildcard child. `None`: it is not in the zone,
    /// or in a zone of its own, as glue below a cut to that may be.
    pub fn content(&self, name: &Name<[u8]>) -> Option<[Content; 2]> {
        if !self.zones.is_public(self.number) {
            // Nothing is known of what is in it, or to be known: not even that a name is not there.
            let is_apex = name.as_slice() == self.zone.apex.as_slice();
            return is_apex.then_some([Content::PASS, Content::PASS]);
        }
        if !self.owns(name) {
            return None;
        }
        let node = self.zone.named(name)?;
        // Below a cut or a DNAME nothing answers, no wildcard either.
        if redirects(self.zone, node) || self.zone.is_occluded(name) {
            return Some([Content::PASS, Content::Row(Target::None)]);
        }
        Some([self.target(node), self.wildcard(name)])
    }

    /// The target of a set of the zone.
    pub fn put(&self, set: u32) -> Target {
        Target::Static {
            zone: self.number as u16,
            set,
        }
    }

    /// Whether a name is of this zone, and not of one below it.
    pub fn owns(&self, name: &Name<[u8]>) -> bool {
        let owner = self.zones.find(name);
        owner.is_some_and(|(owner, _)| owner == self.number)
    }

    /// The content of a name that is no zone cut and no DNAME, and below none.
    fn target(&self, node: Node<'_>) -> Content {
        if let Some(pool) = node.steer()
            && node.is_empty()
        {
            return Content::Row(Target::Steered {
                zone: self.number as u16,
                pool: pool as u32,
            });
        }
        let is_ours = |target: &[u8]| {
            // Lengths of labels are below letters. What is no name is for the slow path.
            let target = target.to_ascii_lowercase();
            Name::from_slice(&target).map_or(true, |target| self.zones.find(target).is_some())
        };
        Content::Set(sets::render(node, is_ours))
    }

    /// Target of absent names below a name.
    fn wildcard(&self, name: &Name<[u8]>) -> Content {
        let child = [b"\x01*", name.as_slice()].concat();
        let child = Name::from_slice(&child).ok();
        let Some(node) = child.and_then(|child| self.zone.named(child)) else {
            return Content::Row(Target::None);
        };
        // Of a zone that is not all here, an absent name may exist.
        if !self.complete || !self.owns(node.name()) || redirects(self.zone, node) {
            return Content::PASS;
        }
        self.target(node)
    }
}

/// Whether a name is a zone cut or a DNAME.
pub fn redirects(zone: &Zone, node: Node<'_>) -> bool {
    let is_apex = || node.name().as_slice() == zone.apex.as_slice();
    node.has(Rtype::DNAME) || node.has(Rtype::NS) && !is_apex()
}

/// Places the names at half load or less, with N more to come, each within the probes that a lookup makes.
fn place(names: &[Slot], room: usize) -> Result<Vec<Slot>, CompileError> {
    let all = names.len() + room;
    let mut slots = (2 * all).next_power_of_two().max(MIN_SLOTS);
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
/// out the distances, and a lookup may still stop at an empty slot. In the order of their coming, more names
/// would be in their own slot, but as many slots be looked at in all (half full: 1.25 lines of the cache for a
/// name), and some names be 30 slots away.
fn try_place(names: &[Slot], len: usize) -> Option<Vec<Slot>> {
    let mask = len - 1;
    let mut slots = vec![Slot::default(); len];
    for name in names {
        let mut name = name.clone();
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

    fn name(hash: [u64; 2], pool: u32) -> Slot {
        Slot {
            hash,
            exact: Row::new(Target::Steered { zone: 0, pool }.pack()),
            wildcard: Row::new(Target::None.pack()),
        }
    }

    #[test]
    fn every_name_is_within_the_probes_of_a_lookup() {
        for count in [0u64, 1, 7, 8, 9, 1000, 20_000] {
            let names: Vec<_> = (1..=count)
                .map(|n| {
                    name(
                        wire::hash_name(&HashKey::new([1, 2]), &n.to_le_bytes()),
                        n as u32,
                    )
                })
                .collect();
            let slots = place(&names, 0).unwrap();
            assert!(slots.len().is_power_of_two() && slots.len() >= 2 * names.len());
            let mask = slots.len() - 1;
            for name in &names {
                let home = name.hash[0] as u32 as usize;
                let found = (0..NAME_PROBES as usize)
                    .map(|probe| &slots[home.wrapping_add(probe) & mask])
                    .take_while(|slot| slot.hash != [0, 0])
                    .find(|slot| slot.hash == name.hash);
                let found = found.expect("a name is found before an empty slot");
                assert_eq!(found.exact.load(), name.exact.load());
            }
        }
    }

    #[test]
    fn names_that_want_one_slot_grow_the_table_and_never_hang_it() {
        // Alike in the low 8 bits: apart once there are more than 256 slots.
        let names: Vec<_> = (1..=17).map(|n| name([n << 8, 1], 0)).collect();
        assert_eq!(place(&names, 0).unwrap().len(), 512);
    }
}

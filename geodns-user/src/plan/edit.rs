//! Edits of the name table in force: changes of a zone, and names that come and go in zones that are not there
//! whole.
//!
//! A zone is edited while its row says that everything of it passes, from a grace period after that row was stored.
//! Then no reader follows a target of the zone, so its slots and sets may be overwritten. Readers of other zones may
//! still meet these slots, and so each word changes at once: a used slot becomes empty only when nothing can lie
//! behind it, a name of another zone never moves, and an apex is always there.
//!
//! Names are added to an open zone that is not there whole ([`add`]), and removed from it ([`remove`]). The places
//! of removed names are free a grace period later.

use std::collections::HashSet;

use domain::base::{Name, Rtype};
use geodns_common::abi::{NAME_PROBES, Name as Slot, Target};
use geodns_common::wire;

use super::names::{Content, Names, View, redirects};
use super::{NameWord, Store, sets};
use crate::base::name::ancestors;
use crate::zone::{Zone, Zones};

/// There is no room in the tables.
#[derive(Clone, Copy, Debug)]
pub struct Full;

/// Load of the name table that no edit goes beyond, in percent: few names would find a slot then.
const MAX_LOAD: usize = 70;

/// An edit in the making: the table is as it will be, the stores bring a copy of it there.
struct Edit<'a> {
    names: &'a mut Names,
    number: usize,
    /// Hash of the zone's apex, which does not move.
    apex: [u64; 2],
    stores: Vec<Store>,
    /// How it was, the latest change last.
    before: Vec<Before>,
    /// Sets that are wanted no more: place and words.
    unwanted: Vec<(u32, usize)>,
    /// Slots whose names are gone.
    buried: Vec<u32>,
    /// Names added, less those removed.
    added: isize,
}

/// An entry of the undo list, for when there is no room.
enum Before {
    /// A slot.
    Slot(u32, Slot),
    /// The words of a set that was written over.
    Set(u32, Box<[u64]>),
    /// Nothing was at a place, for N words.
    Free(u32, usize),
}

/// Brings the table from one version of a zone to the next. On an error nothing has changed.
///
/// `walks`: the program looks for the closest encloser of absent names.
pub fn edit(
    names: &mut Names,
    before: &Zones,
    after: &Zones,
    number: usize,
    walks: bool,
) -> Result<Vec<Store>, Full> {
    let (old, new) = (&*before[number], &*after[number]);
    let was_complete = names.complete[number];
    let others: usize = names.counts.iter().sum::<usize>() - names.counts[number];
    let fits = others + new.len().max(1) <= names.max_names;
    let complete = fits && !new.is_empty();
    // What then has to be in the table, or go, is for a compile to choose.
    if complete && !walks || !fits && (was_complete || old.is_empty()) {
        return Err(Full);
    }
    if (others + new.len()) * 100 > names.slots.len() * MAX_LOAD && complete {
        return Err(Full);
    }
    let touched = touched(old, new, complete && !was_complete);
    let view = View::new(after, number, complete);
    let mut edit = Edit::new(names, number, new);
    let Err(Full) = edit.all(&view, &touched, complete) else {
        let (stores, unwanted) = edit.finish();
        names.free(unwanted);
        names.complete[number] = complete;
        return Ok(stores);
    };
    edit.undo();
    Err(Full)
}

/// Sets that a name has left behind, which a reader may still be at.
#[derive(Debug, Default)]
#[must_use]
pub struct Unwanted(Vec<(u32, usize)>);

impl Unwanted {
    /// Joins others to them.
    pub fn extend(&mut self, others: Self) {
        self.0.extend(others.0);
    }
}

/// Adds a name to a zone that is not there whole, and is open. `None`: it has nothing there that the fast path
/// could answer for a question of this type, or is there already. On an error nothing has changed.
pub fn add(
    names: &mut Names,
    zones: &Zones,
    name: &Name<[u8]>,
    qtype: Rtype,
) -> Result<Option<Vec<Store>>, Full> {
    let Some((number, zone)) = zones.find(name) else {
        return Ok(None);
    };
    let hash = wire::hash_name(&names.key, name.as_slice());
    if names.complete[number] || names.slot(hash).is_some() {
        return Ok(None);
    }
    let view = View::new(zones, number, false);
    let content = match view.content(name) {
        Some([Content::Set(set), wildcard]) if sets::answers(&set, qtype) => {
            [Content::Set(set), wildcard]
        }
        _ => return Ok(None),
    };
    if names.is_full(1) {
        return Err(Full);
    }
    // No name moves, so there is a slot or there is none.
    let slot = names.free_slot(hash).ok_or(Full)?;
    let mut edit = Edit::new(names, number, zone);
    match edit.add_at(&view, slot, hash, content) {
        Ok(()) => Ok(Some(edit.finish().0)),
        Err(Full) => {
            edit.undo();
            Err(Full)
        }
    }
}

/// Takes a name out of a zone that is not there whole, and is open; one that is not there, or whose zone is
/// there whole by now, is let be. What is unwanted then, and the name's slot, must not be used before a grace
/// period has passed since the stores were applied.
pub fn remove(names: &mut Names, zones: &Zones, name: &Name<[u8]>) -> (Vec<Store>, Unwanted) {
    let hash = wire::hash_name(&names.key, name.as_slice());
    match (zones.find(name), names.slot(hash)) {
        (Some((number, zone)), Some(slot)) if !names.complete[number] => {
            let mut edit = Edit::new(names, number, zone);
            edit.remove(slot);
            edit.finish()
        }
        _ => Default::default(),
    }
}

/// The names whose rows may change: what is different, the names above wildcards, and what is below a zone cut
/// or a DNAME that has come or gone. `every`: all of them.
fn touched<'a>(old: &'a Zone, new: &'a Zone, every: bool) -> Vec<&'a Name<[u8]>> {
    let mut touched = new.differences(old);
    let redirecting = |zone: &Zone, name: &Name<[u8]>| {
        let node = zone.node(name);
        node.is_some_and(|node| redirects(zone, node))
    };
    let moved: HashSet<_> = touched
        .iter()
        .filter(|name| redirecting(old, name) != redirecting(new, name))
        .map(|name| name.as_slice())
        .collect();
    for at in 0..touched.len() {
        if touched[at].as_slice().starts_with(b"\x01*")
            && let Some(above) = ancestors(touched[at], &new.apex).next()
        {
            touched.push(above);
        }
    }
    let is_below = |name: &Name<[u8]>| {
        let mut above = ancestors(name, &new.apex);
        above.any(|above| moved.contains(above.as_slice()))
    };
    if every || !moved.is_empty() {
        let names = new.nodes().map(|node| node.name());
        touched.extend(names.filter(|name| every || is_below(name)));
    }
    touched.sort_unstable_by_key(|name| name.as_slice());
    touched.dedup();
    touched
}

impl<'a> Edit<'a> {
    fn new(names: &'a mut Names, number: usize, zone: &Zone) -> Self {
        Self {
            apex: wire::hash_name(&names.key, zone.apex.as_slice()),
            names,
            number,
            stores: Vec::new(),
            before: Vec::new(),
            unwanted: Vec::new(),
            buried: Vec::new(),
            added: 0,
        }
    }

    fn all(
        &mut self,
        view: &View<'_>,
        touched: &[&Name<[u8]>],
        complete: bool,
    ) -> Result<(), Full> {
        let mut absent = Vec::new();
        // What goes makes room for what comes.
        for name in touched {
            let hash = wire::hash_name(&self.names.key, name.as_slice());
            let there = self.names.slot(hash);
            match (there, view.content(name)) {
                (Some(slot), Some(content)) => self.rewrite(view, slot, content)?,
                (Some(slot), None) if view.owns(name) => self.remove(slot),
                // Of a zone that is not all here, only what is in the table already.
                (None, Some(content)) if complete => absent.push((hash, content)),
                _ => {}
            }
        }
        for (hash, content) in absent {
            self.add(view, hash, content)?;
        }
        Ok(())
    }

    /// Puts other rows to a name that stays.
    fn rewrite(&mut self, view: &View<'_>, slot: u32, content: [Content; 2]) -> Result<(), Full> {
        for (word, content) in [NameWord::Exact, NameWord::Wildcard]
            .into_iter()
            .zip(content)
        {
            let row = word.get(&self.names.slots[slot as usize]);
            let value = self.put(view, content, row)?;
            if value != row {
                self.keep(slot);
                self.store(slot, word, value);
            }
        }
        Ok(())
    }

    /// Adds a name: its rows first, the last word of its hash last.
    fn add(&mut self, view: &View<'_>, hash: [u64; 2], content: [Content; 2]) -> Result<(), Full> {
        let free = self.names.free_slot(hash);
        let slot = free.or_else(|| self.make_room(hash)).ok_or(Full)?;
        self.add_at(view, slot, hash, content)
    }

    /// Adds a name in a free slot.
    fn add_at(
        &mut self,
        view: &View<'_>,
        slot: u32,
        hash: [u64; 2],
        content: [Content; 2],
    ) -> Result<(), Full> {
        let [exact, wildcard] = content;
        let exact = self.put(view, exact, 0)?;
        let wildcard = self.put(view, wildcard, 0)?;
        self.write(slot, hash, exact, wildcard);
        self.added += 1;
        Ok(())
    }

    fn write(&mut self, slot: u32, hash: [u64; 2], exact: u64, wildcard: u64) {
        self.keep(slot);
        self.store(slot, NameWord::Exact, exact);
        self.store(slot, NameWord::Wildcard, wildcard);
        self.store(slot, NameWord::Hash0, hash[0]);
        self.store(slot, NameWord::Hash1, hash[1]);
    }

    /// Moves a name of this zone to a slot further on, where that makes one of a hash's slots free.
    fn make_room(&mut self, hash: [u64; 2]) -> Option<u32> {
        let slots: Vec<u32> = self.names.probes(hash).collect();
        for slot in slots {
            let there = self.names.slots[slot as usize].clone();
            let is_ours = match Target::unpack(there.exact.load()) {
                Target::Steered { zone, .. } | Target::Static { zone, .. } => {
                    usize::from(zone) == self.number
                }
                Target::None | Target::Pass => false,
            };
            if !is_ours || there.hash == self.apex {
                continue;
            }
            if let Some(to) = self.names.free_slot(there.hash) {
                self.write(to, there.hash, there.exact.load(), there.wildcard.load());
                self.bury(slot);
                return Some(slot);
            }
        }
        None
    }

    /// Removes a name, and its sets.
    fn remove(&mut self, slot: u32) {
        for word in [NameWord::Exact, NameWord::Wildcard] {
            let row = word.get(&self.names.slots[slot as usize]);
            self.unwant(row);
        }
        self.bury(slot);
        self.added -= 1;
    }

    /// Takes a slot's name away. It is not an empty slot, at which a lookup of another name would end.
    fn bury(&mut self, slot: u32) {
        self.keep(slot);
        self.buried.push(slot);
        self.store(slot, NameWord::Hash1, Slot::DELETED[1]);
        self.store(slot, NameWord::Hash0, Slot::DELETED[0]);
        self.store(slot, NameWord::Exact, 0);
        self.store(slot, NameWord::Wildcard, 0);
    }

    /// The value of a row that is to say this, where it says `row` now.
    fn put(&mut self, view: &View<'_>, content: Content, row: u64) -> Result<u64, Full> {
        let set = match content {
            Content::Row(target) => {
                let value = target.pack();
                if value != row {
                    self.unwant(row);
                }
                return Ok(value);
            }
            Content::Set(set) => set,
        };
        if let Target::Static { set: place, .. } = Target::unpack(row) {
            let there = self.names.shelves.get(place);
            if *there == *set {
                return Ok(row);
            }
            if there.len() == set.len() && place != sets::EMPTY {
                self.before.push(Before::Set(place, there.into()));
                self.names.shelves.write(place, &set);
                self.stores.push(Store::Set {
                    place,
                    words: set.into(),
                });
                return Ok(row);
            }
        }
        self.unwant(row);
        let place = self.names.shelves.put(&set).ok_or(Full)?;
        if place != sets::EMPTY {
            self.before.push(Before::Free(place, set.len()));
            self.stores.push(Store::Set {
                place,
                words: set.into(),
            });
        }
        Ok(view.put(place).pack())
    }

    fn unwant(&mut self, row: u64) {
        if let Target::Static { set, .. } = Target::unpack(row) {
            let len = self.names.shelves.get(set).len();
            self.unwanted.push((set, len));
        }
    }

    /// Remembers a slot as it is.
    fn keep(&mut self, slot: u32) {
        let there = self.names.slots[slot as usize].clone();
        self.before.push(Before::Slot(slot, there));
    }

    fn store(&mut self, slot: u32, word: NameWord, value: u64) {
        word.set(&mut self.names.slots[slot as usize], value);
        self.stores.push(Store::Name { slot, word, value });
    }

    /// Empties the slots of names that are gone, where the slot behind is empty: no name lies beyond that
    /// whose lookup comes by. So names that come and go leave no trail.
    fn sweep(&mut self) {
        let mask = self.names.slots.len() as u32 - 1;
        for mut slot in std::mem::take(&mut self.buried) {
            let behind = slot.wrapping_add(1) & mask;
            if self.names.slots[behind as usize].hash != [0, 0] {
                continue;
            }
            while self.names.slots[slot as usize].hash == Slot::DELETED {
                self.store(slot, NameWord::Hash1, 0);
                slot = slot.wrapping_sub(1) & mask;
            }
        }
    }

    fn finish(mut self) -> (Vec<Store>, Unwanted) {
        self.sweep();
        let count = &mut self.names.counts[self.number];
        *count = count.saturating_add_signed(self.added);
        (self.stores, Unwanted(self.unwanted))
    }

    fn undo(self) {
        for before in self.before.into_iter().rev() {
            match before {
                Before::Slot(slot, there) => self.names.slots[slot as usize] = there,
                Before::Set(place, words) => self.names.shelves.write(place, &words),
                Before::Free(place, len) => self.names.shelves.free(place, len),
            }
        }
    }
}

impl Names {
    /// Frees sets for others: a grace period has passed, or their zone is closed.
    pub fn free(&mut self, Unwanted(sets): Unwanted) {
        for (place, len) in sets {
            self.shelves.free(place, len);
        }
    }

    /// Names in the table.
    pub fn len(&self) -> usize {
        self.counts.iter().sum()
    }

    /// Whether N names more would be too many, for `kernel.max_names` or for the table.
    fn is_full(&self, more: usize) -> bool {
        let len = self.len() + more;
        len > self.max_names || len * 100 > self.slots.len() * MAX_LOAD
    }

    /// The slot of a name.
    pub fn slot_of(&self, name: &Name<[u8]>) -> Option<u32> {
        self.slot(wire::hash_name(&self.key, name.as_slice()))
    }

    /// Where a lookup of a hash looks.
    fn probes(&self, hash: [u64; 2]) -> impl Iterator<Item = u32> + use<> {
        let mask = self.slots.len() as u32 - 1;
        (0..NAME_PROBES).map(move |probe| (hash[0] as u32).wrapping_add(probe) & mask)
    }

    /// The slot of a name's hash.
    fn slot(&self, hash: [u64; 2]) -> Option<u32> {
        let in_use = |slot: &u32| self.slots[*slot as usize].hash != [0, 0];
        let mut slots = self.probes(hash).take_while(in_use);
        slots.find(|&slot| self.slots[slot as usize].hash == hash)
    }

    /// The first slot that a name can have.
    fn free_slot(&self, hash: [u64; 2]) -> Option<u32> {
        let is_free = |&slot: &u32| self.slots[slot as usize].hash[0] == 0;
        self.probes(hash).find(is_free)
    }
}

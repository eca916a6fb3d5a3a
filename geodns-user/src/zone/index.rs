//! Where each node of a zone is, by the hash of its name: one flat table, in which a lookup touches one line
//! of the cache, or seldom two.
//!
//! ```text
//! line: 8 hashes (u32), then the 8 places that go with them (u32)
//! ```
//!
//! A hash's home is one line; where that is full, it stands in the next that is not. So:
//! - *packed*: in a line, what is vacant comes last;
//! - *no gaps*: between a hash's home and the line where it stands, every line is full.
//!
//! The whole hash is kept, and says where its home is: nothing else is read when the table grows.

use std::hash::BuildHasher;

use super::memory;

/// Hashes of a line of 64 octets.
const SLOTS: usize = 8;
/// Hashes of a line on the average, at the most: with more, many a line would be full.
const MAX_LOAD: usize = 7;
/// Hashes of a line on the average, when it is known how many there are: of names that are there, 95 in 100
/// stand at home.
const LOAD: usize = 6;
/// In place of a place: none. No node begins there, as all end before.
const VACANT: u32 = u32::MAX;

/// Hash of a name, as good in its high bits as in its low ones.
pub fn hash_of(hasher: &impl BuildHasher, name: &[u8]) -> u32 {
    let hash = hasher.hash_one(name);
    (hash >> 32) as u32 ^ hash as u32
}

/// A table of places, each of which stands for a name.
#[derive(Debug, Default)]
pub struct Index {
    lines: Vec<Line>,
    len: usize,
}

/// A line of the cache.
#[derive(Clone, Debug)]
#[repr(C, align(64))]
struct Line {
    hashes: [u32; SLOTS],
    places: [u32; SLOTS],
}

impl Line {
    const EMPTY: Self = Self {
        hashes: [0; SLOTS],
        places: [VACANT; SLOTS],
    };

    /// Which slots have a hash, an octet each that is 1 or 0: all are compared at once, without a branch. Some
    /// may be vacant.
    #[inline]
    fn with(&self, hash: u32) -> u64 {
        u64::from_le_bytes(self.hashes.map(|of| u8::from(of == hash)))
    }

    #[inline]
    fn is_full(&self) -> bool {
        self.places[SLOTS - 1] != VACANT
    }

    /// Slots in use.
    fn len(&self) -> usize {
        let used = |&place: &u32| place != VACANT;
        self.places.iter().copied().take_while(used).count()
    }
}

impl Clone for Index {
    fn clone(&self) -> Self {
        Self {
            lines: memory::copy(&self.lines, 0),
            len: self.len,
        }
    }
}

impl Index {
    /// Places in it.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes of memory that it takes.
    pub fn memory(&self) -> usize {
        size_of_val(&*self.lines)
    }

    /// The first place of a hash that is the one which is looked for.
    #[inline]
    pub fn find(&self, hash: u32, mut is_it: impl FnMut(u32) -> bool) -> Option<u32> {
        let home = self.home(hash);
        let mut at = home;
        while let Some(line) = self.lines.get(at) {
            let mut with_hash = line.with(hash);
            while with_hash != 0 {
                let place = line.places[with_hash.trailing_zeros() as usize / 8 % SLOTS];
                if place != VACANT && is_it(place) {
                    return Some(place);
                }
                with_hash &= with_hash - 1;
            }
            at = if at + 1 == self.lines.len() {
                0
            } else {
                at + 1
            };
            if !line.is_full() || at == home {
                return None;
            }
        }
        None
    }

    /// Asks for the line in which a hash most likely stands.
    pub fn prefetch(&self, hash: u32) {
        if let Some(line) = self.lines.get(self.home(hash)) {
            memory::prefetch(line);
        }
    }

    /// Makes room for N places.
    pub fn reserve(&mut self, places: usize) {
        let lines = places.div_ceil(LOAD);
        if lines > self.lines.len() {
            self.rebuild(lines);
        }
    }

    /// Gives back the memory that was reserved in vain.
    pub fn shrink(&mut self) {
        let lines = self.len.div_ceil(LOAD);
        if lines < self.lines.len() {
            self.rebuild(lines);
        }
        memory::in_large_pages(&self.lines);
    }

    /// Adds a place, which is not there yet.
    pub fn insert(&mut self, hash: u32, place: u32) {
        if self.len >= self.lines.len() * MAX_LOAD {
            self.rebuild((2 * self.lines.len()).max(1));
        }
        self.put(hash, place);
        self.len += 1;
    }

    /// Puts a place in the place of another.
    pub fn replace(&mut self, hash: u32, before: u32, after: u32) {
        if let Some((line, slot)) = self.slot(hash, before) {
            self.lines[line].places[slot] = after;
        }
    }

    /// Removes a place.
    pub fn remove(&mut self, hash: u32, place: u32) {
        let Some((mut line, mut slot)) = self.slot(hash, place) else {
            return;
        };
        self.len -= 1;
        // What stands further on, because this line was full, moves here; and so on from there.
        while let Some((from, at)) = self.displaced(line) {
            let (hash, place) = (self.lines[from].hashes[at], self.lines[from].places[at]);
            self.lines[line].hashes[slot] = hash;
            self.lines[line].places[slot] = place;
            (line, slot) = (from, at);
        }
        let line = &mut self.lines[line];
        let last = line.len() - 1;
        line.hashes.swap(slot, last);
        line.places.swap(slot, last);
        line.places[last] = VACANT;
    }

    /// The line that a hash stands in if there is room: the higher the hash, the further on.
    fn home(&self, hash: u32) -> usize {
        ((hash as u64 * self.lines.len() as u64) >> u32::BITS) as usize
    }

    /// All lines, from a hash's home on.
    fn lines_from(&self, hash: u32) -> impl Iterator<Item = usize> + use<> {
        let home = self.home(hash);
        (home..self.lines.len()).chain(0..home)
    }

    /// Where a place stands.
    fn slot(&self, hash: u32, place: u32) -> Option<(usize, usize)> {
        for at in self.lines_from(hash) {
            let line = &self.lines[at];
            if let Some(slot) = line.places.iter().position(|&there| there == place) {
                return Some((at, slot));
            }
            if !line.is_full() {
                return None;
            }
        }
        None
    }

    /// A slot after a line that is full, of a hash that could stand in that line too.
    fn displaced(&self, hole: usize) -> Option<(usize, usize)> {
        let lines = self.lines.len();
        let steps = |from: usize, to: usize| (to + lines - from) % lines;
        let mut at = hole;
        while self.lines[at].is_full() {
            at = (at + 1) % lines;
            if at == hole {
                return None;
            }
            let line = &self.lines[at];
            let far = |&slot: &usize| steps(self.home(line.hashes[slot]), at) >= steps(hole, at);
            if let Some(slot) = (0..line.len()).find(far) {
                return Some((at, slot));
            }
        }
        None
    }

    fn put(&mut self, hash: u32, place: u32) {
        for at in self.lines_from(hash) {
            let line = &mut self.lines[at];
            if !line.is_full() {
                let slot = line.len();
                line.hashes[slot] = hash;
                line.places[slot] = place;
                return;
            }
        }
    }

    /// Puts everything into N new lines.
    fn rebuild(&mut self, lines: usize) {
        let before = std::mem::replace(&mut self.lines, vec![Line::EMPTY; lines]);
        for line in &before {
            for (&hash, &place) in line.hashes.iter().zip(&line.places).take(line.len()) {
                self.put(hash, place);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use hashbrown::DefaultHashBuilder;
    use proptest::prelude::*;

    use super::*;

    impl Index {
        /// Checks what must hold of every line.
        fn check(&self) {
            let mut len = 0;
            for (at, line) in self.lines.iter().enumerate() {
                let used = line.len();
                assert!(line.places[used..].iter().all(|&place| place == VACANT));
                len += used;
                for &hash in &line.hashes[..used] {
                    let between = self.lines_from(hash).take_while(|&line| line != at);
                    assert!(between.into_iter().all(|line| self.lines[line].is_full()));
                }
            }
            assert_eq!(len, self.len);
        }

        /// Share of the places that stand in the first line that is looked at.
        fn at_home(&self) -> f64 {
            let lines = self.lines.iter().enumerate();
            let home = lines.map(|(at, line)| {
                let hashes = line.hashes[..line.len()].iter();
                hashes.filter(|&&hash| self.home(hash) == at).count()
            });
            home.sum::<usize>() as f64 / self.len as f64
        }
    }

    proptest! {
        #[test]
        fn it_holds_what_was_put_and_not_removed(
            // Few hashes, at both ends: lines overflow, and the last into the first.
            changes in prop::collection::vec((0..12u32, 0..40u32, prop::bool::weighted(0.6)), 1..400),
        ) {
            let mut index = Index::default();
            let mut model = BTreeMap::new();
            for (hash, place, put) in changes {
                let hash = hash.wrapping_sub(6).wrapping_mul(0x0800_0000);
                match model.get(&place) {
                    None if put => {
                        index.insert(hash, place);
                        model.insert(place, hash);
                    }
                    Some(&of) if !put => {
                        index.remove(of, place);
                        model.remove(&place);
                    }
                    Some(&of) => {
                        index.replace(of, place, place + 1000);
                        prop_assert_eq!(index.find(of, |at| at == place), None);
                        index.replace(of, place + 1000, place);
                    }
                    None => prop_assert_eq!(index.find(hash, |at| at == place), None),
                }
                index.check();
                for (&place, &hash) in &model {
                    prop_assert_eq!(index.find(hash, |at| at == place), Some(place));
                }
            }
            index.shrink();
            index.check();
            prop_assert_eq!(index.len(), model.len());
        }
    }

    #[test]
    fn nearly_every_name_stands_in_the_first_line() {
        let mut index = Index::default();
        let names = 100_000;
        let hasher = DefaultHashBuilder::default();
        for place in 0..names {
            index.insert(hash_of(&hasher, format!("h{place}").as_bytes()), place);
        }
        index.shrink();
        index.check();
        assert!(index.at_home() > 0.9, "{}", index.at_home());
        assert!(index.memory() < 11 * names as usize);
    }

    #[test]
    fn an_empty_one_is_looked_up_in_too() {
        let mut index = Index::default();
        index.remove(7, 1);
        index.prefetch(7);
        index.shrink();
        assert_eq!((index.find(7, |_| true), index.memory()), (None, 0));
    }
}

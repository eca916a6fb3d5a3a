//! The blocks of the prefix tables: never changed once linked, shared by content, counted.
//!
//! A block that nothing points to any more may still be in a reader's hands, and stays as it is
//! until [`Blocks::reclaim`]. If it is wanted again before that, it is simply linked again.

use std::hash::BuildHasher;

use geodns_common::abi::{Block, Entry};
use hashbrown::{DefaultHashBuilder, HashTable};

/// No room for another block, region or root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

/// All blocks below the roots.
#[derive(Clone, Debug)]
pub struct Blocks {
    blocks: Vec<Block>,
    meta: Vec<Meta>,
    /// Numbers by content.
    index: HashTable<u32>,
    hasher: DefaultHashBuilder,
    /// Numbers that nobody can see.
    free: Vec<u32>,
    /// Numbers that had lost their last link; some may have a new one.
    limbo: Vec<u32>,
    /// Numbers made since the last commit, children before parents.
    fresh: Vec<u32>,
    capacity: u32,
}

#[derive(Clone, Copy, Debug)]
struct Meta {
    hash: u64,
    /// Entries of roots and of linked blocks that point here.
    links: u32,
    in_limbo: bool,
}

impl Blocks {
    /// None yet, and room for N.
    pub fn new(capacity: u32) -> Self {
        Self {
            blocks: Vec::new(),
            meta: Vec::new(),
            index: HashTable::new(),
            hasher: DefaultHashBuilder::default(),
            free: Vec::new(),
            limbo: Vec::new(),
            fresh: Vec::new(),
            capacity,
        }
    }

    /// Every block by its number; free ones hold what was there last.
    pub fn as_slice(&self) -> &[Block] {
        &self.blocks
    }

    /// How many there may be.
    pub fn capacity(&self) -> u32 {
        self.capacity
    }

    /// How many there are, those not reclaimed yet among them.
    pub fn used(&self) -> u32 {
        (self.blocks.len() - self.free.len()) as u32
    }

    /// Changes how many there may be.
    pub fn set_capacity(&mut self, capacity: u32) {
        self.capacity = capacity;
        self.blocks.shrink_to(capacity as usize);
    }

    /// The block with these entries: an old one that is alike, or a fresh one.
    pub fn intern(&mut self, entries: &Block) -> Result<u32, Full> {
        let hash = self.hasher.hash_one(bytemuck::bytes_of(entries));
        let alike = |&number: &u32| self.blocks[number as usize] == *entries;
        if let Some(&number) = self.index.find(hash, alike) {
            return Ok(number);
        }
        let meta = Meta {
            hash,
            links: 0,
            in_limbo: false,
        };
        let number = match self.free.pop() {
            Some(number) => {
                self.blocks[number as usize] = *entries;
                self.meta[number as usize] = meta;
                number
            }
            None if (self.blocks.len() as u64) < u64::from(self.capacity) => {
                self.blocks.push(*entries);
                self.meta.push(meta);
                (self.blocks.len() - 1) as u32
            }
            None => return Err(Full),
        };
        let meta = &self.meta;
        self.index
            .insert_unique(hash, number, |&number| meta[number as usize].hash);
        self.fresh.push(number);
        for entry in entries {
            self.link(*entry);
        }
        Ok(number)
    }

    /// Counts a link made by an entry.
    pub fn link(&mut self, entry: Entry) {
        if let Some(child) = child(entry) {
            self.meta[child as usize].links += 1;
        }
    }

    /// Counts a link off that an entry made.
    pub fn unlink(&mut self, entry: Entry) {
        if let Some(child) = child(entry) {
            let meta = &mut self.meta[child as usize];
            meta.links -= 1;
            if meta.links == 0 && !meta.in_limbo {
                meta.in_limbo = true;
                self.limbo.push(child);
            }
        }
    }

    /// Keeps the fresh blocks, and gives their numbers, children before parents.
    pub fn commit(&mut self) -> Vec<u32> {
        std::mem::take(&mut self.fresh)
    }

    /// Takes the fresh blocks back; nothing outside them may point to one.
    pub fn rollback(&mut self) {
        for number in std::mem::take(&mut self.fresh).into_iter().rev() {
            debug_assert_eq!(self.meta[number as usize].links, 0);
            self.forget(number);
            for entry in self.blocks[number as usize] {
                if let Some(child) = child(entry) {
                    self.meta[child as usize].links -= 1;
                }
            }
        }
    }

    /// Frees what nothing points to: no reader holds it any more.
    pub fn reclaim(&mut self) {
        while let Some(number) = self.limbo.pop() {
            let meta = &mut self.meta[number as usize];
            meta.in_limbo = false;
            if meta.links > 0 {
                continue;
            }
            self.forget(number);
            // What only a freed block pointed to has been out of reach for just as long.
            for entry in self.blocks[number as usize] {
                self.unlink(entry);
            }
        }
    }

    fn forget(&mut self, number: u32) {
        let hash = self.meta[number as usize].hash;
        if let Ok(found) = self.index.find_entry(hash, |&other| other == number) {
            found.remove();
        }
        self.free.push(number);
    }

    /// Entry for an address below an entry for its first 16 bits.
    pub fn resolve(&self, mut entry: Entry, address: u128) -> Entry {
        let mut shift = 108;
        while let Some(number) = child(entry) {
            entry = self.blocks[number as usize][(address >> shift) as usize % 16];
            shift -= 4;
        }
        entry
    }

    /// A copy of the block that an entry stands for; a leaf is a block of itself.
    pub fn expand(&self, entry: Entry) -> Block {
        match child(entry) {
            Some(number) => self.blocks[number as usize],
            None => [entry; 16],
        }
    }
}

/// The block that an entry points to.
fn child(entry: Entry) -> Option<u32> {
    entry.as_block().filter(|_| entry != Entry::DEEPER)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaf_block(region: u32) -> Block {
        [Entry::leaf(region, 24); 16]
    }

    fn parent_of(child: u32) -> Block {
        let mut block = leaf_block(9);
        block[7] = Entry::block(child);
        block
    }

    #[test]
    fn alike_blocks_are_one() {
        let mut blocks = Blocks::new(10);
        let one = blocks.intern(&leaf_block(1)).unwrap();
        assert_eq!(blocks.intern(&leaf_block(1)), Ok(one));
        assert_ne!(blocks.intern(&leaf_block(2)), Ok(one));
        assert_eq!(blocks.commit().len(), 2);
    }

    #[test]
    fn a_block_is_free_only_after_reclaim_and_its_children_with_it() {
        let mut blocks = Blocks::new(2);
        let child = blocks.intern(&leaf_block(1)).unwrap();
        let parent = blocks.intern(&parent_of(child)).unwrap();
        blocks.link(Entry::block(parent));
        blocks.commit();
        blocks.unlink(Entry::block(parent));
        assert_eq!(blocks.used(), 2);
        assert_eq!(blocks.intern(&leaf_block(3)), Err(Full));
        blocks.reclaim();
        assert_eq!(blocks.used(), 0);
        assert!(blocks.intern(&leaf_block(3)).is_ok());
    }

    #[test]
    fn a_block_linked_again_before_reclaim_lives_on() {
        let mut blocks = Blocks::new(4);
        let child = blocks.intern(&leaf_block(1)).unwrap();
        let parent = blocks.intern(&parent_of(child)).unwrap();
        blocks.link(Entry::block(parent));
        blocks.commit();
        blocks.unlink(Entry::block(parent));
        assert_eq!(blocks.intern(&parent_of(child)), Ok(parent));
        blocks.link(Entry::block(parent));
        blocks.reclaim();
        assert_eq!(blocks.used(), 2);
        blocks.unlink(Entry::block(parent));
        blocks.reclaim();
        assert_eq!(blocks.used(), 0);
    }

    #[test]
    fn a_rollback_frees_what_was_fresh_and_nothing_else() {
        let mut blocks = Blocks::new(4);
        let old = blocks.intern(&leaf_block(1)).unwrap();
        blocks.link(Entry::block(old));
        blocks.commit();
        blocks.unlink(Entry::block(old));
        let fresh = blocks.intern(&leaf_block(2)).unwrap();
        let over_fresh = blocks.intern(&parent_of(fresh)).unwrap();
        blocks.intern(&parent_of(old)).unwrap();
        assert_ne!(fresh, over_fresh);
        blocks.rollback();
        assert_eq!(blocks.used(), 1);
        assert_eq!(blocks.intern(&leaf_block(1)), Ok(old));
        blocks.reclaim();
        assert_eq!(blocks.used(), 0);
    }
}

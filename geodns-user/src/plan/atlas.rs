//! Atlases: builds a prefix table from layers, and works out what an edit changes in it.

use std::ops::Range;

use geodns_common::abi::{Block, Entry, Family, Order};
use hashbrown::HashMap;

use super::blocks::{Blocks, Full};
use super::runs::{EMBEDDED, Pieces, Source, one_order};
use crate::geo::Prefix;

/// Entries of a root: one for each value of an address's first 16 bits.
pub const ROOT_ENTRIES: usize = 1 << ROOT_LEN;
const ROOT_LEN: u8 = 16;

/// Bits of an address that a block is indexed by.
const BLOCK_LEN: u8 = 4;

/// Longest prefix that an entry stands for.
const fn deepest(family: Family) -> u8 {
    match family {
        Family::V4 => 32,
        Family::V6 => 64,
    }
}

/// The regions of all atlases: orders, numbered as they come.
#[derive(Clone, Debug)]
pub struct Regions {
    orders: Vec<u64>,
    numbers: HashMap<u64, u32>,
    capacity: u32,
}

impl Regions {
    /// None yet, and room for N.
    pub fn new(capacity: u32) -> Self {
        Self {
            orders: Vec::new(),
            numbers: HashMap::new(),
            capacity,
        }
    }

    /// Their orders, by number.
    pub fn as_slice(&self) -> &[u64] {
        &self.orders
    }

    /// How many there may be.
    pub fn capacity(&self) -> u32 {
        self.capacity
    }

    /// Changes how many there may be.
    pub fn set_capacity(&mut self, capacity: u32) {
        self.capacity = capacity;
    }

    /// Forgets those that came last.
    pub fn truncate(&mut self, len: usize) {
        for order in self.orders.drain(len..) {
            self.numbers.remove(&order);
        }
    }

    fn order(&self, region: u32) -> Order {
        Order(self.orders[region as usize])
    }

    fn intern(&mut self, order: Order) -> Result<u32, Full> {
        if let Some(&number) = self.numbers.get(&order.0) {
            return Ok(number);
        }
        let number = self.orders.len() as u32;
        if number >= self.capacity {
            return Err(Full);
        }
        self.orders.push(order.0);
        self.numbers.insert(order.0, number);
        Ok(number)
    }
}

/// Regions and blocks, which all atlases share.
pub struct SharedTables<'a> {
    /// Blocks below the roots.
    pub blocks: &'a mut Blocks,
    /// Regions.
    pub regions: &'a mut Regions,
}

/// Fills a root of a family anew. Its links are not counted yet.
pub fn build(
    shared: SharedTables<'_>,
    source: Source<'_>,
    family: Family,
    root: &mut [Entry],
) -> Result<(), Full> {
    let everything = Prefix::everything(family);
    Builder::new(shared, source, everything).fill(root, 0, ROOT_LEN)
}

/// Changes of an edit in a root: places and new entries, in the order to write them.
pub type Changes = Vec<(usize, Entry)>;

/// Works out what to change in a root after the layers have changed within `edited`.
///
/// Looks at no more of the layers than the largest prefix around `edited` that was one region
/// before, or is now: no scope outside it can have moved.
pub fn edit(
    shared: SharedTables<'_>,
    source: Source<'_>,
    edited: Prefix,
    root: &[Entry],
) -> Result<Changes, Full> {
    let SharedTables { blocks, regions } = shared;
    let now = one_order(source, edited);
    if now == Some(EMBEDDED) {
        // Looked up as IPv4, whatever is said of them here.
        return Ok(Changes::new());
    }
    let before = resolve(blocks, root, edited);
    let was_one = before != Entry::DEEPER && before.scope() <= edited.len;
    if was_one && now == Some(regions.order(before.region())) {
        return Ok(Changes::new());
    }
    // The two cannot both reach past `edited`: its sibling, which has not changed, would have to be
    // of the region before and of the region now.
    let narrowing = was_one && before.scope() < edited.len;
    let window = if narrowing {
        edited.around(before.scope())
    } else if let Some(order) = now {
        widest(blocks, regions, source, edited, root, order)
    } else {
        edited
    };
    if window.len > deepest(edited.family) {
        return Ok(Changes::new());
    }
    let shared = SharedTables { blocks, regions };
    let mut builder = Builder::new(shared, source, window);
    let mut changes = Changes::new();
    let places = places(window);
    if window.len <= ROOT_LEN {
        let mut entries = vec![Entry(0); places.len()];
        builder.fill(&mut entries, window.first, ROOT_LEN)?;
        changes.extend(
            places
                .zip(entries)
                .filter(|&(place, entry)| root[place] != entry),
        );
    } else {
        let place = places.start;
        changes.push((place, builder.within(root[place], ROOT_LEN, window)?));
    }
    // A resolver may keep what it is told for a whole scope. So no scope may cover addresses of
    // another region, not for a moment: narrow the neighbours before the edit is seen, and widen
    // them after.
    let own = self::places(edited);
    changes.sort_by_key(|(place, _)| own.contains(place) == narrowing);
    Ok(changes)
}

/// The places in a root that a prefix touches.
fn places(prefix: Prefix) -> Range<usize> {
    let place = |address: u128| (address >> (128 - ROOT_LEN as u32)) as usize;
    place(prefix.first)..place(prefix.last()) + 1
}

/// Entry for the first address of a prefix.
fn resolve(blocks: &Blocks, root: &[Entry], prefix: Prefix) -> Entry {
    blocks.resolve(root[places(prefix).start], prefix.first)
}

/// The largest prefix around `edited` that is all of `order` now, as `edited` is. All but `edited`
/// is in the table as it was before.
fn widest(
    blocks: &Blocks,
    regions: &Regions,
    source: Source<'_>,
    edited: Prefix,
    root: &[Entry],
    order: Order,
) -> Prefix {
    let mut widest = edited;
    while widest.len > 0 {
        let sibling = widest.sibling();
        let same = if sibling.len > deepest(edited.family) {
            one_order(source, sibling) == Some(order)
        } else {
            let entry = resolve(blocks, root, sibling);
            entry != Entry::DEEPER
                && entry.scope() <= sibling.len
                && regions.order(entry.region()) == order
        };
        if !same {
            break;
        }
        widest = widest.around(widest.len - 1);
    }
    widest
}

/// Makes entries from the pieces of a window, in the order of addresses.
struct Builder<'a> {
    blocks: &'a mut Blocks,
    regions: &'a mut Regions,
    pieces: Pieces<'a>,
    /// The piece that the next entry begins in, and its region once known.
    piece: Option<(Prefix, Order)>,
    region: Option<(Order, u32)>,
    deepest: u8,
}

impl<'a> Builder<'a> {
    fn new(shared: SharedTables<'a>, source: Source<'a>, window: Prefix) -> Self {
        Self {
            blocks: shared.blocks,
            regions: shared.regions,
            pieces: Pieces::new(source, window),
            piece: None,
            region: None,
            deepest: deepest(window.family),
        }
    }

    /// Fills entries that stand for prefixes of length `len`, one after the other, from `first` on.
    fn fill(&mut self, entries: &mut [Entry], first: u128, len: u8) -> Result<(), Full> {
        let shift = 128 - u32::from(len);
        let mut at = 0;
        while at < entries.len() {
            let here = first + ((at as u128) << shift);
            let (piece, order) = self.piece_at(here);
            if piece.len <= len {
                let to_its_end = ((piece.last() - here) >> shift) as usize + 1;
                let end = entries.len().min(at.saturating_add(to_its_end));
                let entry = match order {
                    EMBEDDED => Entry::DEEPER,
                    order => Entry::leaf(self.region(order)?, piece.len),
                };
                entries[at..end].fill(entry);
                at = end;
            } else {
                entries[at] = if len == self.deepest {
                    Entry::DEEPER
                } else {
                    let mut block = [Entry(0); 16];
                    self.fill(&mut block, here, len + BLOCK_LEN)?;
                    Entry::block(self.blocks.intern(&block)?)
                };
                at += 1;
            }
        }
        Ok(())
    }

    /// The entry in place of one for a prefix of length `len`, of which the window is a part.
    fn within(&mut self, entry: Entry, len: u8, window: Prefix) -> Result<Entry, Full> {
        let mut block: Block = self.blocks.expand(entry);
        let len = len + BLOCK_LEN;
        let at = (window.first >> (128 - u32::from(len))) as usize % block.len();
        if window.len > len {
            block[at] = self.within(block[at], len, window)?;
        } else {
            let end = at + (1 << (len - window.len));
            self.fill(&mut block[at..end], window.first, len)?;
        }
        Ok(Entry::block(self.blocks.intern(&block)?))
    }

    /// The piece that an address is in; addresses are asked for in order.
    fn piece_at(&mut self, address: u128) -> (Prefix, Order) {
        loop {
            match self.piece {
                Some((piece, order)) if piece.last() >= address => return (piece, order),
                _ => self.piece = Some(self.pieces.next().expect("pieces fill their window")),
            }
        }
    }

    fn region(&mut self, order: Order) -> Result<u32, Full> {
        match self.region {
            Some((known, region)) if known == order => Ok(region),
            _ => {
                let region = self.regions.intern(order)?;
                self.region = Some((order, region));
                Ok(region)
            }
        }
    }
}

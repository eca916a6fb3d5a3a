//! The search tree of a database, read straight from its bytes: bits of the address, from the first,
//! lead from node to node until a record is no node. (MaxMind DB file format 2.0, "Binary Search Tree
//! Section".)

use geodns_common::abi::Family;

/// Bytes between tree and data.
const SEPARATOR: u32 = 16;

/// A tree: a node is two records of 24, 28 or 32 bits. A record below `count` is a node; `count` says
/// that nothing is known; more is an offset into the data, plus `count`, plus 16.
#[derive(Clone, Copy, Debug)]
pub struct Tree<'a> {
    nodes: &'a [u8],
    shape: Shape,
}

/// The shape of a tree by its metadata, and where IPv4 is in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    count: u32,
    /// Bytes of a node: 6, 7 or 8.
    node_bytes: usize,
    /// Whether the tree is of IPv6 addresses. IPv4 is below ::/96 then.
    is_v6: bool,
    /// The record where the first bit of an IPv4 address counts.
    v4: u32,
}

impl Shape {
    /// That of a tree; `nodes` are its bytes.
    pub fn new(nodes: &[u8], count: u32, record_bits: u16, is_v6: bool) -> Self {
        let mut shape = Self {
            count,
            node_bytes: usize::from(record_bits) / 4,
            is_v6,
            v4: 0,
        };
        if is_v6 {
            let tree = Tree { nodes, shape };
            let mut depth = 0;
            while depth < 96 && shape.v4 < count {
                shape.v4 = tree.record(shape.v4, false);
                depth += 1;
            }
        }
        shape
    }
}

impl<'a> Tree<'a> {
    /// A tree of that shape.
    pub fn new(nodes: &'a [u8], shape: Shape) -> Self {
        Self { nodes, shape }
    }

    /// A node's record for a bit of the address. (Past the end: nothing is known.)
    #[inline(always)]
    fn record(&self, node: u32, bit: bool) -> u32 {
        let start = node as usize * self.shape.node_bytes;
        let bytes = |at: usize| -> Option<u32> {
            let bytes = self.nodes.get(start + at..)?.first_chunk::<4>()?;
            Some(u32::from_be_bytes(*bytes))
        };
        let record = match (self.shape.node_bytes, bit) {
            (6, false) => bytes(0).map(|four| four >> 8),
            (6, true) => bytes(2).map(|four| four & 0x00ff_ffff),
            (7, false) => bytes(0).map(|four| four >> 8 | (four & 0xf0) << 20),
            (7, true) => bytes(3).map(|four| four & 0x0fff_ffff),
            (_, false) => bytes(0),
            (_, true) => bytes(4),
        };
        record.unwrap_or(self.shape.count)
    }

    /// The record that a node of IPv6 must not lead to, as it has all of IPv4 below it: such a node is
    /// ::/96 or an alias of it (::ffff:0:0/96, 2002::/16, 2001::/32). In IPv4 it would be a loop.
    fn alias(&self) -> Option<u32> {
        (self.shape.is_v6 && self.shape.v4 < self.shape.count).then_some(self.shape.v4)
    }

    /// Offset into the data of a record; `None` for one of which nothing is known.
    pub fn offset(&self, record: u32) -> Option<u32> {
        record.checked_sub(self.shape.count)?.checked_sub(SEPARATOR)
    }

    /// Checks every record: it must lead to the data or to a node that nothing else leads to. Then no
    /// walk is longer than the tree.
    pub fn check(&self, data_bytes: usize) -> Result<(), String> {
        let count = self.shape.count;
        let alias = self.alias();
        let mut seen = vec![0_u64; count as usize / 64 + 1];
        seen[0] = 1;
        for node in 0..count {
            for record in [self.record(node, false), self.record(node, true)] {
                if record < count {
                    let word = &mut seen[record as usize / 64];
                    let bit = 1 << (record % 64);
                    if *word & bit != 0 && Some(record) != alias {
                        return Err(format!("node {node} leads back to node {record}"));
                    }
                    *word |= bit;
                } else if record > count {
                    let offset = self.offset(record);
                    if offset.is_none_or(|offset| offset as usize >= data_bytes) {
                        return Err(format!("node {node} leads past the data"));
                    }
                }
            }
        }
        Ok(())
    }

    /// A way through the addresses of a family; `None` if the tree has none of them.
    pub fn steps(&self, family: Family) -> Option<Steps<'a>> {
        let (bits, root) = match family {
            Family::V4 => (32, self.shape.v4),
            Family::V6 if self.shape.is_v6 => (128, 0),
            Family::V6 => return None,
        };
        Some(Steps {
            tree: *self,
            bits,
            alias: self.alias().unwrap_or(u32::MAX),
            path: [root; 128],
            address: 0,
            depth: 1,
        })
    }
}

/// A way through a tree. What an address shares with the last one is not walked again.
pub struct Steps<'a> {
    tree: Tree<'a>,
    /// Length of an address.
    bits: u32,
    /// See [`Tree::alias`].
    alias: u32,
    /// Nodes on the way to the last address, the root first.
    path: [u32; 128],
    address: u128,
    /// Nodes of `path` that count.
    depth: u32,
}

impl Steps<'_> {
    /// Goes to an address. Gives the record there, and the length of the prefix that it is for.
    pub fn seek(&mut self, address: u128) -> (u32, u8) {
        let count = self.tree.shape.count;
        if self.path[0] >= count {
            return (self.path[0], 0);
        }
        let shared = (self.address ^ address).leading_zeros();
        let mut depth = shared.min(self.depth - 1);
        self.address = address;
        let mut node = self.path[depth as usize];
        loop {
            let bit = address << depth >> 127 != 0;
            let record = self.tree.record(node, bit);
            depth += 1;
            // Deeper than an address is long there can be no node, nor anything to be known.
            let is_bad = record < count && (depth == self.bits || record == self.alias);
            if record >= count || is_bad {
                self.depth = depth;
                return (if is_bad { count } else { record }, depth as u8);
            }
            node = record;
            self.path[depth as usize] = node;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_of_each_size_are_read_as_the_format_says() {
        let bytes = [0x23, 0x45, 0x67, 0x18, 0x9a, 0xbc, 0xde, 0xf0];
        for (record_bits, expected) in [
            (24, [0x0023_4567, 0x0018_9abc]),
            (28, [0x0123_4567, 0x089a_bcde]),
            (32, [0x2345_6718, 0x9abc_def0]),
        ] {
            let nodes = &bytes[..record_bits as usize / 4];
            let tree = Tree::new(nodes, Shape::new(nodes, 1, record_bits, false));
            let records = [tree.record(0, false), tree.record(0, true)];
            assert_eq!(records, expected, "{record_bits}");
            // Past the end: as many nodes as there are, which says that nothing is known.
            assert_eq!(tree.record(1, true), 1, "{record_bits}");
        }
    }

    #[test]
    fn a_tree_deeper_than_an_address_knows_nothing_there() {
        let count = 200_u32;
        let to = |node: u32| node.to_be_bytes();
        let nodes: Vec<u8> = (0..count)
            .flat_map(|node| [to(node + 1), to(count)])
            .flatten()
            .collect();
        for (is_v6, family, len) in [(false, Family::V4, 32), (true, Family::V6, 128)] {
            let mut tree = Tree::new(&nodes, Shape::new(&nodes, count, 32, is_v6));
            assert_eq!(tree.check(0), Ok(()));
            if is_v6 {
                // Without IPv4, whose place would end the way at ::/96.
                tree.shape.v4 = count;
            }
            let mut steps = tree.steps(family).unwrap();
            assert_eq!(steps.seek(0), (count, len));
            assert_eq!(steps.seek(1 << (128 - u32::from(len))), (count, len));
            assert_eq!(steps.seek(1 << 127), (count, 1));
        }
    }
}

//! The way of an address through the tables, for `explain`.

use std::net::IpAddr;

use geodns_common::abi::{self, Entry, NO_ATLAS};

use super::{ChosenBy, Plan};
use crate::geo::{self, Prefix};

/// By which entries an address is looked up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Path {
    /// Number of the atlas.
    pub atlas: u32,
    /// Page in the table of roots, and place in it.
    pub root: (u32, u8),
    /// Numbers of the blocks below it, and the place in each.
    pub blocks: Vec<(u32, u8)>,
    /// Its entry: a leaf, or [`Entry::DEEPER`].
    pub entry: Entry,
}

impl Plan {
    /// The address that a client of a pool is looked up by: the IPv4 one that a 6to4 or Teredo
    /// address stands for, where the pool's atlas heeds that.
    pub fn counted(&self, pool: usize, client: IpAddr) -> IpAddr {
        let heeded = match self.pools[pool] {
            ChosenBy::Atlas(number) => self.atlases.get(number).embedded,
            ChosenBy::All(_) => false,
        };
        match geo::embedded(client.into()) {
            Some(v4) if heeded => v4.addr().into(),
            _ => client,
        }
    }

    /// The way to an address's entry; none where every client of the pool is alike.
    pub fn path(&self, pool: usize, client: IpAddr) -> Option<Path> {
        let atlas = self.rows.pools[pool].atlas.load() as u32;
        if atlas == NO_ATLAS {
            return None;
        }
        let host = Prefix::host(client);
        let [first, second, rest @ ..] = host.address();
        let root = abi::root(atlas, host.family) + u32::from(first);
        let mut path = Path {
            atlas,
            root: (root, second),
            blocks: Vec::new(),
            entry: self.roots()[root as usize][usize::from(second)],
        };
        // Four bits of the address at a time.
        for at in rest.into_iter().flat_map(|octet| [octet >> 4, octet & 0xf]) {
            let number = path.entry.as_block();
            let Some(number) = number.filter(|_| path.entry != Entry::DEEPER) else {
                break;
            };
            path.blocks.push((number, at));
            path.entry = self.blocks()[number as usize][usize::from(at)];
        }
        Some(path)
    }
}

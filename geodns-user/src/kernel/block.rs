//! Block rules in the form that an instance of the program reads ([`geodns_common::block`]).
//!
//! A row that is no longer in force may be for a tick of the kernel's clock on each CPU, so a list that it names
//! is not written before.

use std::collections::HashMap;
use std::io;
use std::mem::{offset_of, size_of};
use std::os::fd::BorrowedFd;
use std::time::Duration;

use aya::Ebpf;
use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::{MapData, PerCpuArray, PerCpuValues};
use aya::util::nr_cpus;
use geodns_common::block::{self, BlockRule};
use geodns_common::wire::{self, HashKey};

use super::mmap::Mapping;
use super::{Error, chain};
use crate::base::prefix::trie_key;
use crate::block::{Blocks, InForce, Pattern};

/// Two ticks of the slowest clock.
pub const TICKS: Duration = Duration::from_millis(20);

/// A prefix as the trie has it.
type Prefix = ([u32; 4], u32);

/// The rules of an instance.
#[derive(Debug)]
pub struct BlockMaps {
    map: Mapping,
    /// Prefixes in the trie, with their counters.
    prefixes: HashMap<Prefix, u32>,
}

impl BlockMaps {
    /// Maps them.
    pub fn new(map: BorrowedFd<'_>) -> io::Result<Self> {
        Ok(Self {
            map: Mapping::new(map, size_of::<block::BlockTable>(), 1)?,
            prefixes: HashMap::new(),
        })
    }

    /// Drops what these say, and nothing else. Packets that run meet that within [`TICKS`], and until then it may
    /// not be set again.
    pub fn set(&mut self, ebpf: &mut Ebpf, key: &HashKey, blocks: &Blocks) -> Result<(), Error> {
        let before = self.map.load_u64(0, offset_of!(block::BlockTable, row));
        let second = before >> 16 & 1 == 0;
        for (place, of) in blocks.named().iter().enumerate() {
            self.put(second, place, &compile(key, of));
        }
        let wanted: HashMap<Prefix, u32> = blocks
            .prefixes()
            .map(|(from, of)| (trie_key(&from), of.counter))
            .collect();
        let mut trie = trie(ebpf)?;
        for (&(address, len), &counter) in &wanted {
            if self.prefixes.get(&(address, len)) != Some(&counter) {
                let inserted = trie.insert(&Key::new(len, address), counter, 0);
                inserted.map_err(|error| failed("DENIED", &error))?;
                self.prefixes.insert((address, len), counter);
            }
        }
        let named = blocks.named().len() as u32;
        let row = block::BlockTable::row(second, named, !wanted.is_empty());
        // A list that is empty is as good as another: what is off costs nothing.
        let row = if blocks.is_empty() { 0 } else { row };
        self.map
            .store_u64(0, offset_of!(block::BlockTable, row), row);
        let gone: Vec<Prefix> = self.prefixes.keys().copied().collect();
        for (address, len) in gone.into_iter().filter(|key| !wanted.contains_key(key)) {
            let removed = trie.remove(&Key::new(len, address));
            removed.map_err(|error| failed("DENIED", &error))?;
            self.prefixes.remove(&(address, len));
        }
        Ok(())
    }

    fn put(&self, second: bool, place: usize, rule: &BlockRule) {
        let list =
            offset_of!(block::BlockTable, lists) + usize::from(second) * size_of::<block::List>();
        let at = list + place * size_of::<BlockRule>();
        let words: [u64; size_of::<BlockRule>() / 8] = bytemuck::cast(*rule);
        for (word, value) in words.into_iter().enumerate() {
            self.map.store_u64(0, at + 8 * word, value);
        }
    }
}

/// A rule as the program has it, whose names are hashed by this key.
pub fn compile(key: &HashKey, of: &InForce) -> BlockRule {
    let mut rule = BlockRule {
        counter: of.counter,
        qtype: of.rule.qtype.map_or(0, |qtype| qtype.to_int().into()),
        ..BlockRule::default()
    };
    if let Some(Pattern { name, below }) = &of.rule.name {
        rule.flags = BlockRule::NAME | if *below { BlockRule::BELOW } else { 0 };
        // The root is no label here.
        rule.labels = name.label_count() as u32 - 1;
        rule.hash = wire::hash_name(key, name.as_slice());
    }
    if let Some(from) = &of.rule.from {
        let (address, len) = trie_key(from);
        (rule.address, rule.mask) = (address, block::mask(len));
    }
    rule
}

fn trie(ebpf: &mut Ebpf) -> Result<LpmTrie<&mut MapData, [u32; 4], u32>, Error> {
    let map = ebpf
        .map_mut("DENIED")
        .ok_or_else(|| Error::Object("it has no map DENIED".to_owned()))?;
    LpmTrie::try_from(map).map_err(|error| failed("DENIED", &error))
}

fn failed(map: &'static str, error: &aya::maps::MapError) -> Error {
    Error::Map {
        map,
        reason: chain(error),
    }
}

/// Counters of block rules, shared by all instances.
pub struct BlockCounters(PerCpuArray<MapData, u64>);

impl BlockCounters {
    /// These counters.
    pub fn new(map: PerCpuArray<MapData, u64>) -> Self {
        Self(map)
    }

    /// Packets that a rule dropped, by its counter.
    pub fn read(&self, counter: u32) -> Result<u64, Error> {
        let of_cpus = self.0.get(&counter, 0);
        let of_cpus = of_cpus.map_err(|error| failed("DROPPED", &error))?;
        Ok(of_cpus.iter().fold(0, |sum, of| sum.wrapping_add(*of)))
    }

    /// Starts a counter anew.
    pub fn clear(&mut self, counter: u32) -> Result<(), Error> {
        let cpus = nr_cpus().map_err(|(what, error)| Error::Map {
            map: "DROPPED",
            reason: format!("{what}: {error}"),
        })?;
        let zeros = PerCpuValues::try_from(vec![0; cpus]).map_err(|error| Error::Map {
            map: "DROPPED",
            reason: error.to_string(),
        })?;
        let set = self.0.set(counter, zeros, 0);
        set.map_err(|error| failed("DROPPED", &error))
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

    use domain::base::Rtype;
    use geodns_common::abi;
    use geodns_common::scratch::Scratch;
    use geodns_common::tables::Tables;
    use proptest::prelude::*;

    use super::*;
    use crate::block::{Counters, RuleText};

    /// No tables, but a key.
    struct Key(abi::Settings);

    impl Tables for Key {
        fn settings(&self) -> &abi::Settings {
            &self.0
        }
        fn name(&self, _: u32) -> Option<&abi::Name> {
            None
        }
        fn zone(&self, _: u32) -> Option<&abi::Zone> {
            None
        }
        fn pool(&self, _: u32) -> Option<&abi::Pool> {
            None
        }
        fn answer(&self, _: u32) -> Option<&abi::Answer> {
            None
        }
        fn shelf(&self, _: u32) -> Option<&abi::Shelf> {
            None
        }
        fn region(&self, _: u32) -> Option<u64> {
            None
        }
        fn slot(&self, _: u32) -> Option<u64> {
            None
        }
        fn random(&self) -> u32 {
            0
        }
        fn root(&self, _: u32) -> Option<&abi::Page> {
            None
        }
        fn block(&self, _: u32) -> Option<&abi::Block> {
            None
        }
    }

    fn name() -> impl Strategy<Value = String> {
        let label = prop::sample::select(vec!["a", "B", "ab", "example", "org"]);
        prop::collection::vec(label, 0..5).prop_map(|labels| format!("{}.", labels.join(".")))
    }

    fn address() -> impl Strategy<Value = IpAddr> {
        let v4 = (0..4_u8, 0..4_u8).prop_map(|(a, b)| Ipv4Addr::new(20, a, 0, b).into());
        let v6 = (0..4_u16, 0..4_u16)
            .prop_map(|(a, b)| Ipv6Addr::new(0x2a02, a, 0, 0, 0, 0, 0, b).into());
        prop_oneof![v4, v6]
    }

    fn prefix() -> impl Strategy<Value = ipnet::IpNet> {
        (address(), 0..=128_u8).prop_map(|(address, len)| {
            let most = if address.is_ipv4() { 32 } else { 128 };
            ipnet::IpNet::new(address, len.min(most)).unwrap().trunc()
        })
    }

    fn said() -> impl Strategy<Value = RuleText> {
        let types = prop::sample::select(vec!["A", "TXT", "ANY"]);
        let of = |name: Option<(String, bool)>, wanted: bool| {
            name.filter(|(_, below)| *below == wanted)
                .map(|(name, _)| name)
        };
        (
            prop::option::of((name(), any::<bool>())),
            prop::option::of(types),
            prop::option::of(prefix()),
        )
            .prop_map(move |(name, qtype, from)| RuleText {
                name: of(name.clone(), false),
                below: of(name, true),
                qtype: qtype.map(str::to_owned),
                from,
            })
    }

    proptest! {
        /// The program finds the rules whose words match.
        #[test]
        fn both_paths_match_alike(
            rules in prop::collection::vec(said(), 0..20),
            queries in prop::collection::vec((name(), 0..3_usize, address()), 1..20),
            seed: [u64; 2],
        ) {
            let mut rules: Vec<_> = rules.iter().filter_map(|said| crate::block::Rule::new(said).ok()).collect();
            rules.retain(crate::block::Rule::is_named);
            let blocks = Blocks::new(Counters::default().assign(&rules).0).unwrap();
            let tables = Key(abi::Settings {
                hash_key: HashKey::new(seed),
                ..abi::Settings::default()
            });
            let mut list = [BlockRule::default(); block::MAX];
            for (to, of) in list.iter_mut().zip(blocks.named()) {
                *to = compile(&tables.0.hash_key, of);
            }
            for (name, qtype, client) in queries {
                let qtype = [Rtype::A, Rtype::TXT, Rtype::ANY][qtype];
                let wire: domain::base::Name<Vec<u8>> = name.parse().unwrap();
                let mut message = vec![0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0];
                message.extend_from_slice(wire.as_slice());
                message.extend(qtype.to_int().to_be_bytes());
                message.extend([0, 1]);
                let mut scratch = Scratch::new();
                prop_assert!(scratch.set_query(&message, client));
                scratch.read_question();
                let found = block::find(&mut scratch, &tables, &list, blocks.named().len() as u32);
                let drops = blocks.drops(client, Some((wire.as_slice(), qtype)));
                prop_assert_eq!(found.is_some(), drops, "{} {} {}", name, qtype, client);
            }
        }
    }
}

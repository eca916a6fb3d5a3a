//! Prefix lists: which mirror an address prefix belongs to. GeoIP databases: where it is.
//!
//! - [`Layer`]: one list, parsed, looked up and packed here
//! - [`Layers`]: the lists of a pool, one over the other
//! - [`Walk`]: the layers of a part of the address space, flattened to runs
//! - [`Geography`]: GeoIP databases: where addresses are ([`Place`])

use std::collections::{BTreeMap, HashMap};
use std::hash::Hasher;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use geodns_common::abi::Family;
use geodns_common::limit;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use siphasher::sip::SipHasher13;

use crate::config::{Config, Error, FIRST_PREFIX_RULE};

mod country;
pub mod mmdb;
mod parse;
mod place;
mod prefix;
mod walk;

pub use country::Code;
pub use mmdb::{Geography, PlaceId};
pub use place::{Location, MAX_SUBDIVISIONS, Place, Subdivision, Wanted};
pub use prefix::Prefix;
pub use walk::{Run, Walk};

/// One list of prefixes, each with the number of a pool's mirror; sorted by address, then length,
/// without repeats, host bits zero.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Layer {
    /// IPv4: address in host order, prefix length, mirror.
    pub v4: Vec<(u32, u8, u8)>,
    /// IPv6: the same.
    pub v6: Vec<(u128, u8, u8)>,
}

impl Layer {
    /// Parses a `prefix,mirror` list. `mirror` gives the number for an id (`None`: leave such lines
    /// out), or says what is wrong with it; it is asked once for each id. Blank lines and `#`
    /// comments are skipped; a first line `prefix,mirror` is a header. Host bits set, a repeated
    /// prefix, anything unparsable: an error with the line.
    pub fn parse(
        text: &str,
        file: &Path,
        mirror: impl FnMut(&str) -> Result<Option<u8>, String>,
    ) -> Result<Self, Error> {
        parse::parse(text, mirror).map_err(|wrong| Error {
            file: file.to_owned(),
            line: Some(wrong.line),
            key: None,
            message: wrong.message,
        })
    }

    /// Adds prefixes, or puts them in the place of the same ones.
    fn insert_all(&mut self, prefixes: impl Iterator<Item = (IpNet, u8)>) {
        fn insert<A: Copy + Ord>(list: &mut Vec<(A, u8, u8)>, (first, len, mirror): (A, u8, u8)) {
            match list.binary_search_by_key(&(first, len), |&(first, len, _)| (first, len)) {
                Ok(at) => list[at].2 = mirror,
                Err(at) => list.insert(at, (first, len, mirror)),
            }
        }
        for (net, mirror) in prefixes {
            let len = net.prefix_len();
            match net.addr() {
                IpAddr::V4(first) => insert(&mut self.v4, (first.to_bits(), len, mirror)),
                IpAddr::V6(first) => insert(&mut self.v6, (first.to_bits(), len, mirror)),
            }
        }
    }

    /// Prefixes in the list.
    pub fn len(&self) -> usize {
        self.v4.len() + self.v6.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The longest prefix that an address is in.
    pub fn lookup(&self, address: IpAddr) -> Option<(IpNet, u8)> {
        self.covering(Prefix::host(address))
    }

    /// The longest prefix that covers another one whole.
    fn covering(&self, prefix: Prefix) -> Option<(IpNet, u8)> {
        let (found, mirror) = prefix.longest(|key| self.at_most(key))?;
        Some((found.net(), mirror))
    }

    /// The greatest prefix that does not sort after another one.
    fn at_most(&self, key: Prefix) -> Option<(Prefix, u8)> {
        let Prefix { family, first, len } = key;
        let (first, len, mirror) = match family {
            Family::V4 => {
                let key = ((first >> 96) as u32, len);
                let after = self.v4.partition_point(|&(a, l, _)| (a, l) <= key);
                let (first, len, mirror) = self.v4[after.checked_sub(1)?];
                ((first as u128) << 96, len, mirror)
            }
            Family::V6 => {
                let key = (first, len);
                let after = self.v6.partition_point(|&(a, l, _)| (a, l) <= key);
                self.v6[after.checked_sub(1)?]
            }
        };
        Some((Prefix { family, first, len }, mirror))
    }

    /// All of them, in order.
    pub fn iter(&self) -> impl Iterator<Item = (IpNet, u8)> {
        let v4 = self.v4.iter().map(|&(first, len, mirror)| {
            let net = Ipv4Net::new_assert(first.into(), len);
            (IpNet::V4(net), mirror)
        });
        let v6 = self.v6.iter().map(|&(first, len, mirror)| {
            let net = Ipv6Net::new_assert(first.into(), len);
            (IpNet::V6(net), mirror)
        });
        v4.chain(v6)
    }

    /// Packed for keeping: magic, counts, prefixes, SipHash-1-3 of all that; little-endian.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(20 + self.v4.len() * 6 + self.v6.len() * 18);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&(self.v4.len() as u32).to_le_bytes());
        bytes.extend_from_slice(&(self.v6.len() as u32).to_le_bytes());
        for &(address, len, mirror) in &self.v4 {
            bytes.extend_from_slice(&address.to_le_bytes());
            bytes.extend_from_slice(&[len, mirror]);
        }
        for &(address, len, mirror) in &self.v6 {
            bytes.extend_from_slice(&address.to_le_bytes());
            bytes.extend_from_slice(&[len, mirror]);
        }
        let sum = checksum(&bytes);
        bytes.extend_from_slice(&sum.to_le_bytes());
        bytes
    }

    /// What [`Layer::to_bytes`] packed; `None` if it is damaged.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (body, sum) = bytes.split_last_chunk::<8>()?;
        if checksum(body) != u64::from_le_bytes(*sum) {
            return None;
        }
        let rest = body.strip_prefix(MAGIC)?;
        let (count_v4, rest) = rest.split_first_chunk::<4>()?;
        let (count_v6, rest) = rest.split_first_chunk::<4>()?;
        let count_v4 = u32::from_le_bytes(*count_v4) as usize;
        let count_v6 = u32::from_le_bytes(*count_v6) as usize;
        let (v4, v6) = rest.split_at_checked(count_v4.checked_mul(6)?)?;
        if v6.len() != count_v6.checked_mul(18)? {
            return None;
        }
        let layer = Self {
            v4: v4
                .as_chunks::<6>()
                .0
                .iter()
                .map(|&[a, b, c, d, len, mirror]| (u32::from_le_bytes([a, b, c, d]), len, mirror))
                .collect(),
            v6: v6
                .as_chunks::<18>()
                .0
                .iter()
                .map(|chunk| {
                    let (address, rest) = chunk.split_first_chunk().expect("18 > 16");
                    (u128::from_le_bytes(*address), rest[0], rest[1])
                })
                .collect(),
        };
        layer.is_valid().then_some(layer)
    }

    /// Whether the promises of the type hold.
    fn is_valid(&self) -> bool {
        fn good<A: Copy + Ord>(list: &[(A, u8, u8)], whole: impl Fn(A, u8) -> bool) -> bool {
            list.is_sorted_by(|a, b| (a.0, a.1) < (b.0, b.1))
                && list
                    .iter()
                    .all(|&(a, len, mirror)| whole(a, len) && mirror < FIRST_PREFIX_RULE)
        }
        good(&self.v4, |a, len| {
            len <= 32 && a & u32::MAX.checked_shr(len.into()).unwrap_or(0) == 0
        }) && good(&self.v6, |a, len| {
            len <= 128 && a & u128::MAX.checked_shr(len.into()).unwrap_or(0) == 0
        })
    }
}

const MAGIC: &[u8; 4] = b"gdl1";

fn checksum(bytes: &[u8]) -> u64 {
    let mut hasher = SipHasher13::new();
    hasher.write(bytes);
    hasher.finish()
}

/// What says which mirror a pool's clients get, lowest first.
///
/// A higher layer hides the lower ones wherever it has a prefix, however long theirs are. Within a
/// layer the longest prefix counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Layers {
    /// The configuration's own list.
    pub base: Arc<Layer>,
    /// The last `map import`.
    pub imported: Arc<Layer>,
    /// Each `map set`.
    pub overrides: BTreeMap<IpNet, u8>,
}

impl Layers {
    /// The longest override that an address is in.
    pub fn overriding(&self, address: IpAddr) -> Option<(IpNet, u8)> {
        self.overriding_all(Prefix::host(address))
    }

    /// The longest override that covers a prefix whole.
    fn overriding_all(&self, prefix: Prefix) -> Option<(IpNet, u8)> {
        let (found, mirror) = prefix.longest(|key| {
            let (net, &mirror) = self.overrides.range(..=key.net()).next_back()?;
            let found = Prefix::of(*net);
            (found.family == key.family).then_some((found, mirror))
        })?;
        Some((found.net(), mirror))
    }

    /// The longest listed prefix that an address is in, and whether it is from the import.
    pub fn listed(&self, address: IpAddr) -> Option<(IpNet, u8, bool)> {
        let imported = self.imported.lookup(address).map(|(net, m)| (net, m, true));
        imported.or_else(|| self.base.lookup(address).map(|(net, m)| (net, m, false)))
    }

    /// One list that says the same as all the layers: what a higher layer hides is left out.
    pub fn in_force(&self) -> Vec<(IpNet, u8)> {
        let overridden = |net| self.overriding_all(Prefix::of(net)).is_some();
        let reimported = |net| self.imported.covering(Prefix::of(net)).is_some();
        let imported = self.imported.iter().filter(|&(net, _)| !overridden(net));
        let base = self.base.iter();
        let base = base.filter(|&(net, _)| !overridden(net) && !reimported(net));
        let mut all: Vec<_> = imported.chain(base).collect();
        all.extend(self.overrides.iter().map(|(&net, &mirror)| (net, mirror)));
        all.sort_unstable();
        all
    }
}

/// The IPv4 addresses that those of an IPv6 prefix stand for: mapped ones, 6to4 (RFC 3056 section 2),
/// or a Teredo client (RFC 4380 section 4), whose own address is in the last bits, all inverted.
pub fn embedded(net: IpNet) -> Option<Ipv4Net> {
    let IpNet::V6(v6) = net else { return None };
    let bits = v6.addr().to_bits();
    let of = |bits: u128| {
        let len = net.prefix_len() - embedded_at(net);
        let net = Ipv4Net::new((bits as u32).into(), len.min(32)).ok()?;
        Some(net.trunc())
    };
    if SIX_TO_FOUR.contains(&v6) {
        of(bits >> 80)
    } else if TEREDO.contains(&v6) && v6.prefix_len() == 128 {
        of(!bits)
    } else {
        mapped(net)
    }
}

/// Bits before the IPv4 address in those of [`embedded`].
pub fn embedded_at(net: IpNet) -> u8 {
    match net {
        IpNet::V6(net) if SIX_TO_FOUR.contains(&net) => 16,
        _ => 96,
    }
}

/// Addresses of 6to4.
pub const SIX_TO_FOUR: Ipv6Net = Ipv6Net::new_assert(Ipv6Addr::from_bits(0x2002 << 112), 16);
/// Addresses of Teredo.
pub const TEREDO: Ipv6Net = Ipv6Net::new_assert(Ipv6Addr::from_bits(0x2001 << 112), 32);

/// What is wrong with a prefix that somebody wrote, if anything.
pub fn check_prefix(prefix: IpNet) -> Result<(), String> {
    if let Some(mapped) = mapped(prefix) {
        return Err(format!(
            "{prefix} is of IPv4 addresses, mapped; did you mean {mapped}?"
        ));
    }
    if prefix == prefix.trunc() {
        return Ok(());
    }
    Err(format!(
        "{prefix}: bits are set past the prefix length; did you mean {}?",
        prefix.trunc()
    ))
}

/// The same, of a prefix for one of the kernel's tries, which have both families in one space ([`trie_key`]).
pub fn check_trie_prefix(prefix: IpNet) -> Result<(), String> {
    const MAPPED: Ipv6Addr = Ipv4Addr::UNSPECIFIED.to_ipv6_mapped();
    check_prefix(prefix)?;
    match prefix {
        IpNet::V6(net) if net.contains(&MAPPED) => Err(format!(
            "{prefix} has all IPv4 addresses in it, mapped; write a longer one, as 2000::/3"
        )),
        _ => Ok(()),
    }
}

/// A prefix as the kernel's tries are indexed ([`limit::trie_key`]): its address, IPv4 mapped, and length.
///
/// [`limit::trie_key`]: geodns_common::limit::trie_key
pub fn trie_key(prefix: &IpNet) -> ([u32; 4], u32) {
    match prefix {
        IpNet::V4(net) => {
            let mapped = net.network().to_ipv6_mapped();
            let len = 96 + u32::from(net.prefix_len());
            (limit::trie_words(mapped.octets()), len)
        }
        IpNet::V6(net) => {
            let words = limit::trie_words(net.network().octets());
            (words, net.prefix_len().into())
        }
    }
}

/// The IPv4 prefix that an IPv6 one of mapped addresses (`::ffff:a.b.c.d`) stands for. No query comes
/// from one.
pub fn mapped(net: IpNet) -> Option<Ipv4Net> {
    let IpNet::V6(net) = net else { return None };
    let len = net.prefix_len().checked_sub(96)?;
    Ipv4Net::new(net.addr().to_ipv4_mapped()?, len).ok()
}

/// Reads the prefix lists of a configuration's pools (empty for those that have none), and adds their
/// rules by prefix: where a list has the same prefix, the rule counts.
pub fn load(config: &Config) -> Result<Vec<Arc<Layer>>, Error> {
    // Pools with the same members often name the same list: one copy is enough.
    type Key<'a> = (&'a PathBuf, &'a [usize], Vec<&'a str>);
    let mut read: HashMap<Key<'_>, Arc<Layer>> = HashMap::new();
    let mut lists = Vec::with_capacity(config.pools.len());
    for (number, pool) in config.pools.iter().enumerate() {
        let mut layer = Arc::default();
        if let Some(path) = &pool.prefixes {
            let groups = pool.groups.iter().map(|group| group.id.as_str());
            let key = (path, pool.mirrors.as_slice(), groups.collect());
            layer = match read.get(&key) {
                Some(layer) => Arc::clone(layer),
                None => Arc::clone(read.entry(key).or_insert(load_list(config, number, path)?)),
            };
        }
        if pool.prefix_rules().next().is_some() {
            Arc::make_mut(&mut layer).insert_all(pool.prefix_rules());
        }
        lists.push(layer);
    }
    Ok(lists)
}

fn load_list(config: &Config, number: usize, path: &Path) -> Result<Arc<Layer>, Error> {
    let pool = &config.pools[number];
    let text = std::fs::read_to_string(path).map_err(|error| Error {
        file: config.path.clone(),
        line: Some(pool.line),
        key: Some("pool.prefixes".into()),
        message: format!(
            "cannot read {}: {error}; check the path and its permissions",
            path.display()
        ),
    })?;
    let layer = Layer::parse(&text, path, |id| match config.mirror_in_pool(number, id) {
        Some(mirror) => Ok(Some(mirror)),
        None => Err(format!(
            "no mirror \"{id}\" in pool \"{}\"; it has {}",
            pool.id,
            ids(config, number)
        )),
    })?;
    Ok(Arc::new(layer))
}

fn ids(config: &Config, pool: usize) -> String {
    let mirrors = config.pools[pool].mirrors.iter();
    let ids: Vec<_> = mirrors.map(|&m| config.mirrors[m].id.as_str()).collect();
    ids.join(", ")
}

#[cfg(test)]
mod tests;

//! Prefix lists: which mirror an address prefix belongs to. GeoIP databases: where it is.
//!
//! - here: [`Layers`], the lists of a pool, one over the other
//! - `layer`: one list, looked up and packed; `parse`: its file
//! - `prefix`: a prefix as the tables see it
//! - `walk`: the layers of a part of the address space, flattened to runs
//! - [`grid`]: a sample of the addresses of each part of the globe
//! - [`mmdb`]: GeoIP databases: where addresses are (`place`)

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::base::complaint::{Error, Errors};
use crate::base::prefix::mapped;
use crate::config::Config;
use crate::files;

pub mod grid;
mod layer;
pub mod mmdb;
mod parse;
mod place;
mod prefix;
mod walk;

pub use layer::{Layer, MAX_ORDERS, TooMany, members};
pub use mmdb::{Geography, PlaceId};
pub use place::{Location, MAX_SUBDIVISIONS, Place, Subdivision, Wanted};
pub use prefix::Prefix;
pub use walk::{Run, Walk};

/// The value that a prefix list has for a client: a number of the list ([`Layer::members`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Listed {
    /// In the configuration's own list.
    Base(u16),
    /// In the last `map import`.
    Imported(u16),
}

/// The prefix lists and overrides that choose a pool's mirrors, lowest first.
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

    /// The longest listed prefix that an address is in.
    pub fn listed(&self, address: IpAddr) -> Option<(IpNet, Listed)> {
        let imported = self.imported.lookup(address);
        let imported = imported.map(|(net, number)| (net, Listed::Imported(number)));
        imported.or_else(|| {
            let (net, number) = self.base.lookup(address)?;
            Some((net, Listed::Base(number)))
        })
    }

    /// The members that a listed prefix has, best first.
    pub fn members(&self, listed: Listed) -> &[u8] {
        match listed {
            Listed::Base(number) => self.base.members(number),
            Listed::Imported(number) => self.imported.members(number),
        }
    }

    /// One list that says the same as all the layers, with the members of each prefix: what a higher layer
    /// hides is left out.
    pub fn in_force(&self) -> Vec<(IpNet, &[u8])> {
        let overridden = |net| self.overriding_all(Prefix::of(net)).is_some();
        let reimported = |net| self.imported.covering(Prefix::of(net)).is_some();
        let imported = self.imported.iter().filter(|&(net, _)| !overridden(net));
        let imported = imported.map(|(net, number)| (net, self.imported.members(number)));
        let base = self.base.iter();
        let base = base.filter(|&(net, _)| !overridden(net) && !reimported(net));
        let base = base.map(|(net, number)| (net, self.base.members(number)));
        let mut all: Vec<_> = imported.chain(base).collect();
        let overrides = self.overrides.iter();
        all.extend(overrides.map(|(&net, &mirror)| (net, members(mirror))));
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

/// Reads the prefix lists of a configuration's pools (empty for those that have none), and adds their
/// rules by prefix: where a list has the same prefix, the rule counts.
pub fn load(config: &Config) -> Result<Vec<Arc<Layer>>, Errors> {
    // Pools with the same members often name the same list: one copy is enough.
    type Key<'a> = (&'a PathBuf, &'a [usize], Vec<&'a str>);
    let mut read: HashMap<Key<'_>, Arc<Layer>> = HashMap::new();
    let mut lists = Vec::with_capacity(config.pools.len());
    let mut errors = Vec::new();
    let mut more = 0;
    for (number, pool) in config.pools.iter().enumerate() {
        let mut layer = Arc::default();
        if let Some(path) = &pool.prefixes {
            let groups = pool.groups.iter().map(|group| group.id.as_str());
            let key = (path, pool.mirrors.as_slice(), groups.collect());
            layer = match read.get(&key) {
                Some(layer) => Arc::clone(layer),
                None => {
                    let list = load_list(config, number, path);
                    let list = list.unwrap_or_else(|wrong| {
                        errors.extend(wrong.iter().cloned());
                        more += wrong.more();
                        Arc::default()
                    });
                    Arc::clone(read.entry(key).or_insert(list))
                }
            };
        }
        if pool.prefix_rules().next().is_some()
            && let Err(error) = Arc::make_mut(&mut layer).insert_all(pool.prefix_rules())
        {
            errors.push(Error {
                file: config.path.clone(),
                line: Some(pool.line),
                column: None,
                key: Some("pool.rules".into()),
                message: error.to_string(),
            });
        }
        lists.push(layer);
    }
    match errors.is_empty() {
        true => Ok(lists),
        false => Err(Errors::new(errors, more)),
    }
}

fn load_list(config: &Config, number: usize, path: &Path) -> Result<Arc<Layer>, Errors> {
    const KEY: &str = "pool.prefixes";
    let pool = &config.pools[number];
    let text = files::read_to_string(path).map_err(|error| Error {
        file: config.path.clone(),
        line: Some(pool.line),
        column: None,
        key: Some(KEY.into()),
        message: format!(
            "cannot read {}: {error}; check the path and its permissions",
            path.display()
        ),
    })?;
    let mirror = |id: &str| match config.mirror_in_pool(number, id) {
        Some(mirror) => Ok(Some(mirror)),
        None => Err(format!(
            "no mirror \"{id}\" in pool \"{}\"; it has {}",
            pool.id,
            ids(config, number)
        )),
    };
    Layer::parse(&text, path, Some(KEY), mirror).map(Arc::new)
}

fn ids(config: &Config, pool: usize) -> String {
    let mirrors = config.pools[pool].mirrors.iter();
    let ids: Vec<_> = mirrors.map(|&m| config.mirrors[m].id.as_str()).collect();
    ids.join(", ")
}

#[cfg(test)]
mod tests;

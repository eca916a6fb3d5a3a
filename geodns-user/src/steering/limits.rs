//! The clients that a pool's mirrors take: `only` and `never`, compiled to masks.

use std::collections::{BTreeSet, HashMap};
use std::hash::Hash;
use std::net::IpAddr;

use ipnet::IpNet;

use super::Client;
use crate::config::{self, Clients, Mirror, Pool};
use crate::geo::{Layer, Wanted};

/// Masks of the mirrors whose limits name a client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Named {
    only: u64,
    never: u64,
}

impl Named {
    fn with(self, other: Self) -> Self {
        Self {
            only: self.only | other.only,
            never: self.never | other.never,
        }
    }
}

/// The limits of a pool's mirrors.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Limits {
    /// Mirrors that have `only`.
    only: u64,
    countries: HashMap<[u8; 2], Named>,
    continents: HashMap<[u8; 2], Named>,
    asns: HashMap<u32, Named>,
    /// The longest prefix of an address has the mirrors of shorter ones, too: each by its number.
    prefixes: Vec<Named>,
    /// Prefixes, with these numbers.
    list: Layer,
}

impl Limits {
    /// Those of a pool.
    pub fn of(pool: &Pool, mirrors: &[Mirror]) -> Self {
        let mut limits = Self::default();
        let mut named: HashMap<IpNet, Named> = HashMap::new();
        for (number, &mirror) in pool.mirrors.iter().enumerate() {
            if pool.limited >> number & 1 == 0 {
                continue;
            }
            let of = &mirrors[mirror].limits;
            let bit = 1 << number;
            if let Some(only) = &of.only {
                limits.only |= bit;
                limits.add(
                    only,
                    &mut named,
                    Named {
                        only: bit,
                        never: 0,
                    },
                );
            }
            if let Some(never) = &of.never {
                limits.add(
                    never,
                    &mut named,
                    Named {
                        only: 0,
                        never: bit,
                    },
                );
            }
        }
        limits.number(&named);
        limits
    }

    fn add(&mut self, clients: &Clients, prefixes: &mut HashMap<IpNet, Named>, named: Named) {
        fn put<K: Eq + Hash + Copy>(map: &mut HashMap<K, Named>, keys: &[K], named: Named) {
            for &key in keys {
                let of = map.entry(key).or_default();
                *of = of.with(named);
            }
        }
        put(&mut self.countries, &clients.countries, named);
        put(&mut self.continents, &clients.continents, named);
        put(&mut self.asns, &clients.asns, named);
        put(prefixes, &clients.prefixes, named);
    }

    /// Gives the prefixes their numbers.
    fn number(&mut self, prefixes: &HashMap<IpNet, Named>) {
        let nets: BTreeSet<IpNet> = prefixes.keys().map(IpNet::trunc).collect();
        for net in nets {
            let around = (0..=net.prefix_len()).filter_map(|len| {
                let around = IpNet::new(net.addr(), len).ok()?;
                prefixes.get(&around.trunc())
            });
            let named = around.fold(Named::default(), |all, &one| all.with(one));
            // The configuration bounds them.
            let number = self.prefixes.len() as u16;
            self.prefixes.push(named);
            match net {
                IpNet::V4(net) => {
                    let first = net.addr().to_bits();
                    self.list.v4.push((first, net.prefix_len(), number));
                }
                IpNet::V6(net) => {
                    let first = net.addr().to_bits();
                    self.list.v6.push((first, net.prefix_len(), number));
                }
            }
        }
    }

    /// Whether every client is taken by each mirror.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The prefixes that they name. A value is for [`Client::limits`].
    pub fn list(&self) -> &Layer {
        &self.list
    }

    /// Items of a client's place that they ask for.
    pub fn wanted(&self) -> Wanted {
        let mut wanted = Wanted::NOTHING;
        if !self.countries.is_empty() {
            wanted |= Wanted::COUNTRY;
        }
        if !self.continents.is_empty() {
            wanted |= Wanted::CONTINENT;
        }
        if !self.asns.is_empty() {
            wanted |= Wanted::ASN;
        }
        wanted
    }

    /// Mask of the mirrors that do not take a client.
    pub fn refusing(&self, client: &Client<'_>) -> u64 {
        if self.is_empty() {
            return 0;
        }
        let by = [
            client.country.and_then(|code| self.countries.get(&code)),
            client.continent.and_then(|code| self.continents.get(&code)),
            client.asn.and_then(|number| self.asns.get(&number)),
            client
                .limits
                .and_then(|number| self.prefixes.get(usize::from(number))),
        ];
        let named = by.into_iter().flatten();
        let named = named.fold(Named::default(), |all, &one| all.with(one));
        self.only & !named.only | named.never
    }
}

/// Whether a mirror takes a client at an address.
pub fn takes(limits: &config::Limits, client: &Client<'_>, address: IpAddr) -> bool {
    let meets = |clients: &Clients| {
        let is_there =
            |code: Option<[u8; 2]>, list: &[[u8; 2]]| code.is_some_and(|code| list.contains(&code));
        is_there(client.country, &clients.countries)
            || is_there(client.continent, &clients.continents)
            || client
                .asn
                .is_some_and(|number| clients.asns.contains(&number))
            || clients.prefixes.iter().any(|net| net.contains(&address))
    };
    limits.only.as_ref().is_none_or(meets) && !limits.never.as_ref().is_some_and(meets)
}

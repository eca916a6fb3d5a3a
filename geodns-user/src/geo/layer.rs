//! One prefix list in memory: prefixes, and the orders of members that they have.
//!
//! A prefix has a number: below [`FIRST_ORDER`] it is a member's, from there on it stands for an order of
//! several. Lists of a million prefixes have a few orders, and each is kept once.

use std::hash::Hasher;
use std::net::IpAddr;

use geodns_common::abi::{Family, MAX_GROUPS, MAX_MIRRORS};
use hashbrown::HashMap;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use siphasher::sip::SipHasher13;

use super::Prefix;

/// Below it a number is a member's.
const FIRST_ORDER: u16 = (MAX_MIRRORS + MAX_GROUPS) as u16;

/// Orders of several members in one list, at the most.
pub const MAX_ORDERS: usize = (u16::MAX - FIRST_ORDER) as usize + 1;

/// One list of prefixes, each with the number of a pool's member or of an order of several; sorted by
/// address, then length, without repeats, host bits zero.
#[derive(Clone, Debug, Default)]
pub struct Layer {
    /// IPv4: address in host order, prefix length, number.
    pub v4: Vec<(u32, u8, u16)>,
    /// IPv6: the same.
    pub v6: Vec<(u128, u8, u16)>,
    /// The orders that the numbers from [`FIRST_ORDER`] on stand for: two members or more, none twice.
    orders: Vec<Box<[u8]>>,
    numbers: HashMap<Box<[u8]>, u16>,
}

/// Numbers follow from what is in the list, so the index of orders says nothing new.
impl PartialEq for Layer {
    fn eq(&self, other: &Self) -> bool {
        (&self.v4, &self.v6, &self.orders) == (&other.v4, &other.v6, &other.orders)
    }
}

impl Eq for Layer {}

/// A list has more orders than there are numbers for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the prefixes have more than {MAX_ORDERS} different orders of mirrors; name fewer mirrors for each, so that \
     more are alike"
)]
pub struct TooMany;

/// A member alone, as an order.
pub fn members(member: u8) -> &'static [u8] {
    static ALL: [u8; FIRST_ORDER as usize] = {
        let mut all = [0; FIRST_ORDER as usize];
        let mut at = 0;
        while at < all.len() {
            all[at] = at as u8;
            at += 1;
        }
        all
    };
    let at = usize::from(member);
    ALL.get(at..=at).unwrap_or_default()
}

impl Layer {
    /// The number of an order, which may be new; `None`: it is empty.
    pub(super) fn number(&mut self, order: &[u8]) -> Result<Option<u16>, TooMany> {
        match *order {
            [] => return Ok(None),
            [member] => return Ok(Some(member.into())),
            _ => (),
        }
        if let Some(&known) = self.numbers.get(order) {
            return Ok(Some(known));
        }
        if self.orders.len() == MAX_ORDERS {
            return Err(TooMany);
        }
        let number = FIRST_ORDER + self.orders.len() as u16;
        self.orders.push(order.into());
        self.numbers.insert(order.into(), number);
        Ok(Some(number))
    }

    /// The members that a number stands for, best first.
    pub fn members(&self, number: u16) -> &[u8] {
        match number.checked_sub(FIRST_ORDER) {
            Some(order) => self
                .orders
                .get(usize::from(order))
                .map_or(&[], |order| order),
            None => members(number as u8),
        }
    }

    /// Adds prefixes, or puts them in the place of the same ones.
    pub fn insert_all<'a>(
        &mut self,
        prefixes: impl Iterator<Item = (IpNet, &'a [u8])>,
    ) -> Result<(), TooMany> {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for (net, order) in prefixes {
            let Some(number) = self.number(order)? else {
                continue;
            };
            match net.addr() {
                IpAddr::V4(first) => v4.push((first.to_bits(), net.prefix_len(), number)),
                IpAddr::V6(first) => v6.push((first.to_bits(), net.prefix_len(), number)),
            }
        }
        insert(&mut self.v4, v4);
        insert(&mut self.v6, v6);
        Ok(())
    }

    /// Gives members other numbers. Those that are gone (`None`) are left out of the orders, and prefixes
    /// that have none left out of the list.
    pub fn renumber(self, member: impl Fn(u8) -> Option<u8>) -> Self {
        let mut layer = Self::default();
        let mut known: HashMap<u16, Option<u16>> = HashMap::new();
        let mut number = |old: u16| {
            *known.entry(old).or_insert_with(|| {
                let order: Vec<u8> = self
                    .members(old)
                    .iter()
                    .filter_map(|&m| member(m))
                    .collect();
                // There are no more of them than there were.
                layer.number(&order).unwrap_or_default()
            })
        };
        let v4 = self.v4.iter();
        let v4 = v4.filter_map(|&(first, len, old)| Some((first, len, number(old)?)));
        let v4 = v4.collect();
        let v6 = self.v6.iter();
        let v6 = v6.filter_map(|&(first, len, old)| Some((first, len, number(old)?)));
        let v6 = v6.collect();
        Self { v4, v6, ..layer }
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
    pub fn lookup(&self, address: IpAddr) -> Option<(IpNet, u16)> {
        self.covering(Prefix::host(address))
    }

    /// The longest prefix that covers another one whole.
    pub(super) fn covering(&self, prefix: Prefix) -> Option<(IpNet, u16)> {
        let (found, number) = prefix.longest(|key| self.at_most(key))?;
        Some((found.net(), number))
    }

    /// The greatest prefix that does not sort after another one.
    fn at_most(&self, key: Prefix) -> Option<(Prefix, u16)> {
        let Prefix { family, first, len } = key;
        let (first, len, number) = match family {
            Family::V4 => {
                let key = ((first >> 96) as u32, len);
                let after = self.v4.partition_point(|&(a, l, _)| (a, l) <= key);
                let (first, len, number) = self.v4[after.checked_sub(1)?];
                ((first as u128) << 96, len, number)
            }
            Family::V6 => {
                let key = (first, len);
                let after = self.v6.partition_point(|&(a, l, _)| (a, l) <= key);
                self.v6[after.checked_sub(1)?]
            }
        };
        Some((Prefix { family, first, len }, number))
    }

    /// All of them, in order.
    pub fn iter(&self) -> impl Iterator<Item = (IpNet, u16)> {
        let v4 = self.v4.iter().map(|&(first, len, number)| {
            let net = Ipv4Net::new_assert(first.into(), len);
            (IpNet::V4(net), number)
        });
        let v6 = self.v6.iter().map(|&(first, len, number)| {
            let net = Ipv6Net::new_assert(first.into(), len);
            (IpNet::V6(net), number)
        });
        v4.chain(v6)
    }

    /// Packed for keeping: magic, counts, orders, prefixes, SipHash-1-3 of all that; little-endian. A list
    /// without orders is packed as before there were any, so that older versions can read it.
    pub fn to_bytes(&self) -> Vec<u8> {
        let plain = self.orders.is_empty();
        let number = |number: u16| {
            let octets = number.to_le_bytes();
            (octets, if plain { 1 } else { 2 })
        };
        let mut bytes = Vec::with_capacity(24 + self.v4.len() * 7 + self.v6.len() * 19);
        bytes.extend_from_slice(if plain { PLAIN } else { ORDERED });
        bytes.extend_from_slice(&(self.v4.len() as u32).to_le_bytes());
        bytes.extend_from_slice(&(self.v6.len() as u32).to_le_bytes());
        if !plain {
            bytes.extend_from_slice(&(self.orders.len() as u32).to_le_bytes());
            for order in &self.orders {
                bytes.push(order.len() as u8);
                bytes.extend_from_slice(order);
            }
        }
        for &(address, len, of) in &self.v4 {
            bytes.extend_from_slice(&address.to_le_bytes());
            bytes.push(len);
            let (octets, count) = number(of);
            bytes.extend_from_slice(&octets[..count]);
        }
        for &(address, len, of) in &self.v6 {
            bytes.extend_from_slice(&address.to_le_bytes());
            bytes.push(len);
            let (octets, count) = number(of);
            bytes.extend_from_slice(&octets[..count]);
        }
        let sum = checksum(&bytes);
        bytes.extend_from_slice(&sum.to_le_bytes());
        bytes
    }

    /// Unpacks the bytes of [`Layer::to_bytes`]; `None` if they are damaged.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (body, sum) = bytes.split_last_chunk::<8>()?;
        if checksum(body) != u64::from_le_bytes(*sum) {
            return None;
        }
        let (magic, mut rest) = body.split_first_chunk::<4>()?;
        let plain = magic == PLAIN;
        if !plain && magic != ORDERED {
            return None;
        }
        let mut layer = Self::default();
        let count_v4 = u32::from_le_bytes(*take(&mut rest)?) as usize;
        let count_v6 = u32::from_le_bytes(*take(&mut rest)?) as usize;
        if !plain {
            for place in 0..u32::from_le_bytes(*take(&mut rest)?) {
                let [len] = *take::<1>(&mut rest)?;
                let (order, after) = rest.split_at_checked(len.into())?;
                rest = after;
                let expected = u16::try_from(u32::from(FIRST_ORDER) + place).ok()?;
                let alike = |&(at, member): &(usize, &u8)| order[..at].contains(member);
                if order.iter().enumerate().any(|each| alike(&each))
                    || layer.number(order) != Ok(Some(expected))
                {
                    return None;
                }
            }
        }
        let number = if plain { 1 } else { 2 };
        let (v4, v6) = rest.split_at_checked(count_v4.checked_mul(5 + number)?)?;
        if v6.len() != count_v6.checked_mul(17 + number)? {
            return None;
        }
        let entry = |chunk: &[u8]| match *chunk {
            [len, member] => Some((len, member.into())),
            [len, low, high] => Some((len, u16::from_le_bytes([low, high]))),
            _ => None,
        };
        for chunk in v4.chunks_exact(5 + number) {
            let (address, rest) = chunk.split_first_chunk()?;
            let (len, number) = entry(rest)?;
            layer.v4.push((u32::from_le_bytes(*address), len, number));
        }
        for chunk in v6.chunks_exact(17 + number) {
            let (address, rest) = chunk.split_first_chunk()?;
            let (len, number) = entry(rest)?;
            layer.v6.push((u128::from_le_bytes(*address), len, number));
        }
        layer.is_valid().then_some(layer)
    }

    /// Whether the promises of the type hold.
    fn is_valid(&self) -> bool {
        fn good<A: Copy + Ord>(
            list: &[(A, u8, u16)],
            known: impl Fn(u16) -> bool,
            whole: impl Fn(A, u8) -> bool,
        ) -> bool {
            list.is_sorted_by(|a, b| (a.0, a.1) < (b.0, b.1))
                && list
                    .iter()
                    .all(|&(a, len, number)| whole(a, len) && known(number))
        }
        let known = |number| !self.members(number).is_empty();
        let members = self.orders.iter().flatten();
        members
            .copied()
            .all(|member| u16::from(member) < FIRST_ORDER)
            && good(&self.v4, known, |a, len| {
                len <= 32 && a & u32::MAX.checked_shr(len.into()).unwrap_or(0) == 0
            })
            && good(&self.v6, known, |a, len| {
                len <= 128 && a & u128::MAX.checked_shr(len.into()).unwrap_or(0) == 0
            })
    }
}

/// Puts prefixes among those of a sorted list, in the place of the same ones.
fn insert<A: Copy + Ord>(list: &mut Vec<(A, u8, u16)>, new: Vec<(A, u8, u16)>) {
    // The sort is stable: of those that are the same the last one counts.
    list.extend(new);
    list.sort_by_key(|&(first, len, _)| (first, len));
    list.dedup_by(|later, kept| {
        let same = (later.0, later.1) == (kept.0, kept.1);
        if same {
            kept.2 = later.2;
        }
        same
    });
}

/// The first octets of what is left.
fn take<'a, const LEN: usize>(rest: &mut &'a [u8]) -> Option<&'a [u8; LEN]> {
    let (first, after) = rest.split_first_chunk()?;
    *rest = after;
    Some(first)
}

/// Begins a list in which each prefix has one member: an octet.
const PLAIN: &[u8; 4] = b"gdl1";
/// Begins a list with orders: numbers of two octets.
const ORDERED: &[u8; 4] = b"gdl2";

fn checksum(bytes: &[u8]) -> u64 {
    let mut hasher = SipHasher13::new();
    hasher.write(bytes);
    hasher.finish()
}

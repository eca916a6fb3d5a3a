//! An address prefix as the tables see it: bits from the top of a `u128`, whatever the family.

use std::net::IpAddr;

use geodns_common::abi::Family;
use geodns_common::address::Address;
use ipnet::IpNet;

/// An address prefix. IPv4 stands in the top 32 bits, so that both families count prefix lengths
/// from the same end and share all code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prefix {
    /// Family.
    pub family: Family,
    /// First address.
    pub first: u128,
    /// Prefix length.
    pub len: u8,
}

impl Prefix {
    /// All addresses of a family.
    pub const fn everything(family: Family) -> Self {
        Self {
            family,
            first: 0,
            len: 0,
        }
    }

    /// One address.
    pub fn host(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(address) => Self {
                family: Family::V4,
                first: u128::from(address.to_bits()) << 96,
                len: 32,
            },
            IpAddr::V6(address) => Self {
                family: Family::V6,
                first: address.to_bits(),
                len: 128,
            },
        }
    }

    /// The prefix of a network; host bits are cleared.
    pub fn of(net: IpNet) -> Self {
        Self {
            len: net.prefix_len(),
            ..Self::host(net.network())
        }
    }

    /// As a network.
    pub fn net(&self) -> IpNet {
        let address = match self.family {
            Family::V4 => IpAddr::V4(((self.first >> 96) as u32).into()),
            Family::V6 => IpAddr::V6(self.first.into()),
        };
        IpNet::new_assert(address, self.len)
    }

    /// Last address; past an IPv4 address all bits are set.
    pub const fn last(&self) -> u128 {
        self.first | host_bits(self.len)
    }

    /// The last address alone.
    pub const fn end(&self) -> Self {
        let bits = match self.family {
            Family::V4 => 32,
            Family::V6 => 128,
        };
        Self {
            family: self.family,
            first: self.last() & !host_bits(bits),
            len: bits,
        }
    }

    /// The first address, as the tables are indexed.
    pub const fn address(&self) -> Address {
        self.first.to_be_bytes()
    }

    /// The prefix of this length around this one's first address.
    pub const fn around(&self, len: u8) -> Self {
        Self {
            family: self.family,
            first: self.first & !host_bits(len),
            len,
        }
    }

    /// The other half of the prefix one bit shorter; this must not be of length 0.
    pub const fn sibling(&self) -> Self {
        Self {
            family: self.family,
            first: self.first ^ 1 << (128 - self.len as u32),
            len: self.len,
        }
    }

    /// Whether the other one lies in this one.
    pub const fn covers(&self, other: &Self) -> bool {
        self.len <= other.len && (self.first ^ other.first) & !host_bits(self.len) == 0
    }

    /// The longest prefix that covers this one, among those of a sorted list; `at_most` gives the
    /// greatest of the list that does not sort after its argument.
    pub fn longest<T>(self, at_most: impl Fn(Self) -> Option<(Self, T)>) -> Option<(Self, T)> {
        let mut key = self;
        loop {
            let (found, mirror) = at_most(key)?;
            if found.covers(&self) {
                return Some((found, mirror));
            }
            // Whatever covers us sorts before `found`, so it covers `found` too (prefixes nest or
            // are apart): it is no longer than what the two have in common, which falls each time.
            let common = (found.first ^ self.first).leading_zeros() as u8;
            key = self.around(common);
        }
    }
}

/// The bits past a prefix length.
const fn host_bits(len: u8) -> u128 {
    match u128::MAX.checked_shr(len as u32) {
        Some(bits) => bits,
        None => 0,
    }
}

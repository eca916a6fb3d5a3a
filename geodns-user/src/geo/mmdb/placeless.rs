//! Addresses that are nowhere, whatever a database says.

use std::sync::LazyLock;

use geodns_common::abi::Family;
use geodns_common::subnet::{SPECIAL_V4, SPECIAL_V6};

/// IPv6 prefixes whose last 32 bits are an IPv4 address, which is what has a place. (6to4 and Teredo
/// are special-purpose blocks.)
const OF_V4: [(u128, u8); 3] = [
    (0, 96),                      // ::/96, IPv4-compatible: where databases keep IPv4
    (0xffff << 32, 96),           // ::ffff:0:0/96, IPv4-mapped
    (0x0064_ff9b_u128 << 96, 96), // 64:ff9b::/96, NAT64
];

/// First and last addresses, from the top of the `u128`; sorted.
pub type Ranges = [(u128, u128)];

/// The ranges of a family.
pub fn ranges(family: Family) -> &'static Ranges {
    static V4: LazyLock<Vec<(u128, u128)>> = LazyLock::new(|| {
        let all = SPECIAL_V4.iter();
        sorted(all.map(|&(network, len)| (u128::from(network) << 96, len)))
    });
    static V6: LazyLock<Vec<(u128, u128)>> = LazyLock::new(|| {
        let all = SPECIAL_V6.iter();
        sorted(
            all.map(|&(network, len)| (u128::from(network) << 64, len))
                .chain(OF_V4),
        )
    });
    match family {
        Family::V4 => &V4,
        Family::V6 => &V6,
    }
}

fn sorted(prefixes: impl Iterator<Item = (u128, u8)>) -> Vec<(u128, u128)> {
    let mut ranges: Vec<_> = prefixes
        .map(|(first, len)| (first, first | u128::MAX >> len))
        .collect();
    ranges.sort_unstable();
    ranges
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_in_order_and_apart() {
        for family in [Family::V4, Family::V6] {
            let ranges = ranges(family);
            assert!(ranges.iter().all(|(first, last)| first <= last));
            assert!(ranges.is_sorted_by(|a, b| a.1 < b.0));
        }
    }
}

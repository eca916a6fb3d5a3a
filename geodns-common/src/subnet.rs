//! Client subnets (RFC 7871), as far as both paths share them: which say nothing about where a client
//! is.

/// A prefix of an IPv4 address: network and length.
pub type V4 = (u32, u8);
/// A prefix of the first 64 bits of an IPv6 address.
pub type V6 = (u64, u8);

/// Blocks that are nobody's place on the Internet: the special-purpose registry of RFC 6890, and
/// multicast.
pub const SPECIAL_V4: [V4; 15] = [
    (0x0000_0000, 8),  // this network
    (0x0a00_0000, 8),  // 10/8, private
    (0x6440_0000, 10), // 100.64/10, shared
    (0x7f00_0000, 8),  // loopback
    (0xa9fe_0000, 16), // 169.254/16, link-local
    (0xac10_0000, 12), // 172.16/12, private
    (0xc000_0000, 24), // 192.0.0/24, protocol assignments
    (0xc000_0200, 24), // 192.0.2/24, documentation
    (0xc058_6300, 24), // 192.88.99/24, 6to4 relays
    (0xc0a8_0000, 16), // 192.168/16, private
    (0xc612_0000, 15), // 198.18/15, benchmarking
    (0xc633_6400, 24), // 198.51.100/24, documentation
    (0xcb00_7100, 24), // 203.0.113/24, documentation
    (0xe000_0000, 4),  // multicast
    (0xf000_0000, 4),  // reserved
];

/// The same of IPv6, but for what stands below ::/64: see [`is_special_v6`].
pub const SPECIAL_V6: [V6; 10] = [
    (0x0064_ff9b_0001_0000, 48), // local translation
    (0x0100_0000_0000_0000, 64), // discard
    (0x2001_0000_0000_0000, 23), // protocol assignments, Teredo among them
    (0x2001_0db8_0000_0000, 32), // documentation
    (0x2002_0000_0000_0000, 16), // 6to4
    (0x3fff_0000_0000_0000, 20), // documentation
    (0x5f00_0000_0000_0000, 16), // segment routing
    (0xfc00_0000_0000_0000, 7),  // unique local
    (0xfe80_0000_0000_0000, 10), // link-local
    (0xff00_0000_0000_0000, 8),  // multicast
];

/// Whether an address is in a special-purpose block.
#[inline(always)]
pub const fn is_special_v4(address: u32) -> bool {
    let mut special = false;
    let mut at = 0;
    while at < SPECIAL_V4.len() {
        let (network, len) = SPECIAL_V4[at];
        special |= (address ^ network) >> (32 - len as u32) == 0;
        at += 1;
    }
    special
}

/// Whether the first 64 bits of an address are of a special-purpose block, or such that the others
/// decide: ::, ::1 and ::ffff:0:0/96 are special, the rest of ::/64 is not.
#[inline(always)]
pub const fn is_special_v6(high: u64) -> bool {
    let mut special = high == 0;
    let mut at = 0;
    while at < SPECIAL_V6.len() {
        let (network, len) = SPECIAL_V6[at];
        special |= (high ^ network) >> (64 - len as u32) == 0;
        at += 1;
    }
    special
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_end_where_they_end() {
        for (network, len) in SPECIAL_V4 {
            let last = network | u32::MAX >> len;
            assert!(
                is_special_v4(network) && is_special_v4(last),
                "{network:08x}"
            );
        }
        for (address, special) in [
            (0x0900_0000_u32, false),
            (0x0b00_0000, false),
            (0x643f_ffff, false),
            (0x6480_0000, false),
            (0xac0f_ffff, false),
            (0xac20_0000, false),
            (0xc000_0100, false),
            (0xc614_0000, false),
            (0xdfff_ffff, false),
            (0xffff_ffff, true),
        ] {
            assert_eq!(is_special_v4(address), special, "{address:08x}");
        }
        for (high, special) in [
            (0_u64, true),
            (1, false),
            (0x2001_01ff_ffff_ffff, true),
            (0x2001_0200_0000_0000, false),
            (0x2001_0db8_ffff_ffff, true),
            (0x2001_0db9_0000_0000, false),
            (0x2a00_0000_0000_0000, false),
            (0xfdff_ffff_ffff_ffff, true),
            (0xfec0_0000_0000_0000, false),
        ] {
            assert_eq!(is_special_v6(high), special, "{high:016x}");
        }
    }
}

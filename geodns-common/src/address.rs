//! Addresses as numbers: as the prefix table, the tries and the buckets are indexed.

/// A client's address, as the prefix table is indexed: network byte order, IPv4 in the first four.
pub type Address = [u8; 16];

/// In a prefix: it is one of IPv6.
pub const V6: u64 = 1 << 63;

/// The /24 or /56 of an address, in memory order, as a number.
#[inline(always)]
pub fn prefix(address: [u64; 2], is_v6: bool) -> u64 {
    let first = u64::from_be(address[0]);
    if is_v6 { V6 | first >> 8 } else { first >> 40 }
}

/// An address as tries of prefixes are indexed: IPv4 mapped (`::ffff:a.b.c.d`), in memory order.
#[inline(always)]
pub fn trie_key(address: [u64; 2], is_v6: bool) -> [u32; 4] {
    let [first, second] = [u64::from_be(address[0]), u64::from_be(address[1])];
    let halves = |word: u64| [((word >> 32) as u32).to_be(), (word as u32).to_be()];
    if is_v6 {
        let [[a, b], [c, d]] = [halves(first), halves(second)];
        [a, b, c, d]
    } else {
        [0, 0, 0xffff_u32.to_be(), halves(first)[0]]
    }
}

/// An IPv6 address, or one that is mapped, as [`trie_key`] gives it.
pub fn trie_words(octets: [u8; 16]) -> [u32; 4] {
    bytemuck::cast(octets)
}

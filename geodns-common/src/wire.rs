//! DNS wire format, as far as both paths share it: constants, names, the hash over names,
//! checksums.

use bytemuck::{Pod, Zeroable};

/// Octets of a message header (RFC 1035 section 4.1.1).
pub const HEADER_LEN: u32 = 12;
/// Octets of a name on the wire, root label included (RFC 1035 section 2.3.4).
pub const MAX_NAME: u32 = 255;
/// Octets of a label.
pub const MAX_LABEL: u8 = 63;
/// Mark of a compression pointer; the offset is in the other 14 bits.
pub const POINTER: u16 = 0xc000;

/// QR, in the third octet of a header.
pub const QR: u8 = 0x80;
/// AA, in the third octet.
pub const AA: u8 = 0x04;
/// TC, in the third octet.
pub const TC: u8 = 0x02;
/// RD, in the third octet.
pub const RD: u8 = 0x01;
/// AD, in the fourth octet.
pub const AD: u8 = 0x20;
/// CD, in the fourth octet.
pub const CD: u8 = 0x10;

/// Opcodes, in bits 3 to 6 of the third octet.
pub mod opcode {
    /// A standard query (RFC 1035).
    pub const QUERY: u8 = 0;
    /// A zone has changed (RFC 1996).
    pub const NOTIFY: u8 = 4;
}

/// Response codes. The lower 4 bits are in the header's fourth octet, the upper 8 in an OPT (RFC 6891 section 6.1.3).
pub mod rcode {
    /// No error.
    pub const NOERROR: u16 = 0;
    /// The message breaks a rule of its format.
    pub const FORMERR: u16 = 1;
    /// The server cannot answer now.
    pub const SERVFAIL: u16 = 2;
    /// The name does not exist.
    pub const NXDOMAIN: u16 = 3;
    /// The server does not do this.
    pub const NOTIMP: u16 = 4;
    /// The server does not do this for this client, or for this name.
    pub const REFUSED: u16 = 5;
    /// A name that a DNAME makes is too long (RFC 6672 section 2.2).
    pub const YXDOMAIN: u16 = 6;
    /// The server has no authority for the zone (RFC 2136), or the signature is not good (RFC 8945).
    pub const NOTAUTH: u16 = 9;
    /// The server does not know the version of EDNS (RFC 6891).
    pub const BADVERS: u16 = 16;
    /// The signature is wrong (RFC 8945): in the error field of a TSIG record.
    pub const BADSIG: u16 = 16;
    /// The server's cookie is wrong or missing (RFC 7873).
    pub const BADCOOKIE: u16 = 23;
}

/// Class IN.
pub const CLASS_IN: u16 = 1;
/// Class CH.
pub const CLASS_CH: u16 = 3;

/// Type A.
pub const TYPE_A: u16 = 1;
/// Type CNAME.
pub const TYPE_CNAME: u16 = 5;
/// Type SOA.
pub const TYPE_SOA: u16 = 6;
/// Type AAAA.
pub const TYPE_AAAA: u16 = 28;
/// Type OPT (RFC 6891).
pub const TYPE_OPT: u16 = 41;
/// Type DS (RFC 4034), which is the parent's at a zone cut.
pub const TYPE_DS: u16 = 43;
/// Type TSIG (RFC 8945).
pub const TYPE_TSIG: u16 = 250;
/// Type IXFR (RFC 1995).
pub const TYPE_IXFR: u16 = 251;
/// Type AXFR (RFC 5936).
pub const TYPE_AXFR: u16 = 252;
/// The types from here to 255 ask for other than data of their own (RFC 6895 section 3.1).
pub const FIRST_META_TYPE: u16 = 128;

/// Whether records of this type are data of a zone: not the reserved type 0, not OPT, and not one that asks for
/// other than data of its own.
pub const fn is_data_type(rtype: u16) -> bool {
    !matches!(rtype, 0 | TYPE_OPT | FIRST_META_TYPE..=255)
}

/// EDNS option NSID (RFC 5001).
pub const OPTION_NSID: u16 = 3;
/// EDNS option client subnet (RFC 7871).
pub const OPTION_ECS: u16 = 8;
/// EDNS option COOKIE (RFC 7873).
pub const OPTION_COOKIE: u16 = 10;
/// EDNS option Padding (RFC 7830).
pub const OPTION_PADDING: u16 = 12;
/// EDNS option Extended DNS Error (RFC 8914).
pub const OPTION_EXTENDED_ERROR: u16 = 15;
/// DO, in an OPT's flags.
pub const DO: u16 = 0x8000;
/// Octets of an OPT without options, owner name included.
pub const OPT_LEN: u32 = 11;
/// Octets that every client takes over UDP (RFC 1035 section 4.2.1), also one that advertises less (RFC 6891 section
/// 6.2.3).
pub const MIN_UDP_SIZE: u32 = 512;
/// Octets of a response over UDP, at the most, and the size that we advertise: a packet of them fits the smallest
/// IPv6 MTU (DNS flag day 2020).
pub const MAX_UDP_SIZE: u32 = 1232;

/// Lowercases the ASCII letters among eight octets. Octets of a wire name can all be given: a
/// label's length is at most 63, and letters start at 65.
#[inline(always)]
pub const fn lowercase(word: u64) -> u64 {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x8080_8080_8080_8080;
    let low = word & !HIGH;
    let from_a = low + ONES * (0x80 - b'A' as u64);
    let past_z = low + ONES * (0x7f - b'Z' as u64);
    // The high bit of each octet: ASCII, at least `A`, not past `Z`.
    let upper = !word & HIGH & (from_a ^ past_z);
    word | upper >> 2
}

/// 8-byte words that hold a name, and as many again, so that an index can be masked.
pub const NAME_WORDS: usize = 64;

/// A lowercased wire name in words, first octet lowest; octets past its end do not matter.
pub type NameWords = [u64; NAME_WORDS];

/// Octets `at..at + 8` of a name.
#[inline(always)]
fn word_at(name: &NameWords, at: u32) -> u64 {
    let word = (at / 8) as usize;
    let bits = at % 8 * 8;
    let low = name[word & (NAME_WORDS - 1)] >> bits;
    let high = name[(word + 1) & (NAME_WORDS - 1)] << 1 << (63 - bits);
    low | high
}

/// 8-byte words of a [`HashKey`]: one more than a name has.
pub const HASH_KEY_WORDS: usize = NAME_WORDS / 2 + 1;

/// Key of the hash over names.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct HashKey(pub [u64; HASH_KEY_WORDS]);

impl HashKey {
    /// Draws a key from a seed, which is random and as secret as the key.
    pub fn new(seed: [u64; 2]) -> Self {
        Self(core::array::from_fn(|word| {
            siphash(seed, &[word as u64], 0, 8)
        }))
    }
}

impl Default for HashKey {
    fn default() -> Self {
        Self::zeroed()
    }
}

/// The hash over names: NH, the universal hash of UMAC (RFC 4418 section 5.2), twice, with keys a word
/// apart, which makes 128 bits.
///
/// Two different names have the same hash with a chance of 1 in 2^62, and nobody who does not know the key can find
/// such a pair more often. A name ends at its root label, so it is no prefix of another one, and
/// the octets behind it may count as zeros.
#[derive(Clone, Copy, Debug, Default)]
pub struct NameHash([u64; 2]);

impl NameHash {
    /// Adds a word of the name, which is the first of its words, and so on, from 0.
    #[inline(always)]
    pub fn feed(&mut self, key: &HashKey, number: usize, word: u64) {
        let number = number & (NAME_WORDS / 2 - 1);
        self.0[0] = self.0[0].wrapping_add(multiplied(word, key.0[number]));
        self.0[1] = self.0[1].wrapping_add(multiplied(word, key.0[number + 1]));
    }

    /// The hash. Its first word is spread well over all of its bits, and never 0, which empty and deleted
    /// slots have.
    #[inline(always)]
    pub fn finish(self) -> [u64; 2] {
        let [first, second] = self.0;
        // The finalizer of MurmurHash3.
        let mut spread = first.wrapping_add(second.rotate_left(32));
        spread = (spread ^ spread >> 33).wrapping_mul(0xff51_afd7_ed55_8ccd);
        spread = (spread ^ spread >> 33).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
        spread ^= spread >> 33;
        [spread | (spread == 0) as u64, second]
    }
}

/// The halves of a word, with those of a key added, multiplied.
#[inline(always)]
pub(crate) const fn multiplied(word: u64, key: u64) -> u64 {
    let low = (word as u32).wrapping_add(key as u32);
    let high = ((word >> 32) as u32).wrapping_add((key >> 32) as u32);
    low as u64 * high as u64
}

/// The first N octets of a word, at most 7.
#[inline(always)]
pub const fn first_octets(word: u64, octets: u32) -> u64 {
    word & ((1 << (octets % 8 * 8)) - 1)
}

/// The hash ([`NameHash`]) of octets `from..len` of a name.
#[inline(always)]
pub fn hash(key: &HashKey, name: &NameWords, from: u32, len: u32) -> [u64; 2] {
    let octets = len.wrapping_sub(from) & 0xff;
    let mut hash = NameHash::default();
    let mut word = 0;
    while word < NAME_WORDS as u32 / 2 {
        if word >= octets / 8 {
            break;
        }
        hash.feed(key, word as usize, word_at(name, from + 8 * word));
        word += 1;
    }
    if !octets.is_multiple_of(8) {
        let rest = first_octets(word_at(name, from + octets / 8 * 8), octets);
        hash.feed(key, octets as usize / 8, rest);
    }
    hash.finish()
}

/// Hash of a whole lowercased wire name, as [`hash`] makes it. Octets past [`MAX_NAME`] are left
/// out.
pub fn hash_name(key: &HashKey, lowercased: &[u8]) -> [u64; 2] {
    let mut words = [0; NAME_WORDS];
    let octets = &lowercased[..lowercased.len().min(MAX_NAME as usize)];
    for (word, octets) in words.iter_mut().zip(octets.chunks(8)) {
        let mut bytes = [0; 8];
        bytes[..octets.len()].copy_from_slice(octets);
        *word = u64::from_le_bytes(bytes);
    }
    hash(key, &words, 0, octets.len() as u32)
}

/// SipHash-2-4 of whole words, first octet lowest, and of up to 7 octets more, the first of `rest`;
/// `octets` is how many all are.
#[inline(always)]
pub fn siphash(key: [u64; 2], words: &[u64], rest: u64, octets: u8) -> u64 {
    let mut state = [
        key[0] ^ 0x736f_6d65_7073_6575,
        key[1] ^ 0x646f_7261_6e64_6f6d,
        key[0] ^ 0x6c79_6765_6e65_7261,
        key[1] ^ 0x7465_6462_7974_6573,
    ];
    for &word in words {
        sip_feed(&mut state, word);
    }
    sip_feed(&mut state, rest | (octets as u64) << 56);
    state[2] ^= 0xff;
    sip_round(&mut state);
    sip_round(&mut state);
    sip_round(&mut state);
    sip_round(&mut state);
    state[0] ^ state[1] ^ state[2] ^ state[3]
}

#[inline(always)]
fn sip_feed(state: &mut [u64; 4], word: u64) {
    state[3] ^= word;
    sip_round(state);
    sip_round(state);
    state[0] ^= word;
}

#[inline(always)]
fn sip_round(state: &mut [u64; 4]) {
    let [mut v0, mut v1, mut v2, mut v3] = *state;
    v0 = v0.wrapping_add(v1);
    v2 = v2.wrapping_add(v3);
    v1 = v1.rotate_left(13) ^ v0;
    v3 = v3.rotate_left(16) ^ v2;
    v0 = v0.rotate_left(32);
    v2 = v2.wrapping_add(v1);
    v0 = v0.wrapping_add(v3);
    v1 = v1.rotate_left(17) ^ v2;
    v3 = v3.rotate_left(21) ^ v0;
    v2 = v2.rotate_left(32);
    *state = [v0, v1, v2, v3];
}

/// Folds a sum of 16-bit words (of any multiple of 16 bits at a time) into an Internet checksum
/// (RFC 1071), in the byte order that the words were summed in.
#[inline(always)]
pub const fn fold(mut sum: u64) -> u16 {
    sum = (sum >> 32) + (sum & 0xffff_ffff);
    sum = (sum >> 16) + (sum & 0xffff);
    sum = (sum >> 16) + (sum & 0xffff);
    sum = (sum >> 16) + (sum & 0xffff);
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    extern crate std;

    use core::hash::Hasher;
    use std::collections::HashSet;
    use std::{format, vec};

    use proptest::prelude::*;
    use siphasher::sip::SipHasher24;

    use super::*;

    /// NH as RFC 4418 has it, but for which halves are paired.
    fn reference(key: &HashKey, octets: &[u8]) -> [u64; 2] {
        let mut padded = octets.to_vec();
        padded.resize(octets.len().next_multiple_of(8), 0);
        let half = |octets: &[u8]| u32::from_le_bytes(octets.try_into().unwrap());
        let halves = |word: u64| [word as u32, (word >> 32) as u32];
        let sum = |from: usize| -> u64 {
            let words = padded.chunks(8).zip(&key.0[from..]);
            words.fold(0, |sum: u64, (octets, &key)| {
                let low = half(&octets[..4]).wrapping_add(halves(key)[0]);
                let high = half(&octets[4..]).wrapping_add(halves(key)[1]);
                sum.wrapping_add(u64::from(low) * u64::from(high))
            })
        };
        NameHash([sum(0), sum(1)]).finish()
    }

    proptest! {
        #[test]
        fn lowercases_like_ascii(octets: [u8; 8]) {
            let mut expected = octets;
            expected.make_ascii_lowercase();
            prop_assert_eq!(lowercase(u64::from_le_bytes(octets)).to_le_bytes(), expected);
        }

        #[test]
        fn hashes_like_siphash(key: [u64; 2], words in prop::collection::vec(any::<u64>(), 0..5), rest: u64, more in 0..8u32) {
            let rest = first_octets(rest, more);
            let mut hasher = SipHasher24::new_with_keys(key[0], key[1]);
            for word in &words {
                hasher.write(&word.to_le_bytes());
            }
            hasher.write(&rest.to_le_bytes()[..more as usize]);
            let octets = 8 * words.len() as u8 + more as u8;
            prop_assert_eq!(siphash(key, &words, rest, octets), hasher.finish());
        }

        #[test]
        fn hashes_like_nh(seed: [u64; 2], octets in prop::collection::vec(any::<u8>(), 1..=255)) {
            let key = HashKey::new(seed);
            prop_assert_eq!(hash_name(&key, &octets), reference(&key, &octets));
        }

        #[test]
        fn hashes_every_suffix(octets in prop::collection::vec(any::<u8>(), 1..=255), from in 0usize..255) {
            let from = from % octets.len();
            let mut words = [u64::MAX; NAME_WORDS];
            for (word, octets) in words.iter_mut().zip(octets.chunks(8)) {
                let mut bytes = [0xaa; 8];
                bytes[..octets.len()].copy_from_slice(octets);
                *word = u64::from_le_bytes(bytes);
            }
            let key = HashKey::new([1, 2]);
            prop_assert_eq!(
                hash(&key, &words, from as u32, octets.len() as u32),
                reference(&key, &octets[from..])
            );
        }

        #[test]
        fn folds_like_rfc_1071(words in prop::collection::vec(any::<u16>(), 0..700)) {
            let mut expected = 0u32;
            for &word in &words {
                expected += word as u32;
                expected = (expected & 0xffff) + (expected >> 16);
            }
            prop_assert_eq!(fold(words.iter().map(|&word| word as u64).sum()), !(expected as u16));
        }
    }

    #[test]
    fn names_that_are_much_alike_are_spread_evenly() {
        for seed in 0..8 {
            let key = HashKey::new([seed, 1]);
            let mut slots = vec![0_u32; 1 << 14];
            let mut firsts = HashSet::new();
            for number in 0..1 << 14 {
                let name = format!("\x08h{number:07}\x07example\x03org\0");
                let hash = hash_name(&key, name.as_bytes());
                slots[hash[0] as usize & ((1 << 14) - 1)] += 1;
                firsts.insert(hash[0]);
            }
            assert_eq!(firsts.len(), 1 << 14);
            // As many balls as urns: e^-1 of the urns stay empty, 6,027; none has more than a dozen.
            let empty = slots.iter().filter(|&&names| names == 0).count();
            assert!((5_800..6_250).contains(&empty), "{empty} slots are empty");
            assert!(slots.iter().max() < Some(&12));
        }
    }
}

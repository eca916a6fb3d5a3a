//! DNS wire format, as far as both paths share it: constants, names, the hash over names,
//! checksums.

/// Octets of a message header (RFC 1035 section 4.1.1).
pub const HEADER_LEN: u32 = 12;
/// Octets of a name on the wire, root label included (RFC 1035 section 2.3.4).
pub const MAX_NAME: u32 = 255;
/// Octets of a label.
pub const MAX_LABEL: u8 = 63;
/// Pointer to the name of the question, which always starts right after the header.
pub const QUESTION_POINTER: u16 = POINTER | HEADER_LEN as u16;
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
/// RA, in the fourth octet.
pub const RA: u8 = 0x80;
/// AD, in the fourth octet.
pub const AD: u8 = 0x20;
/// CD, in the fourth octet.
pub const CD: u8 = 0x10;

/// Response code SERVFAIL, in the fourth octet.
pub const SERVFAIL: u8 = 2;
/// Response code NXDOMAIN, in the fourth octet.
pub const NXDOMAIN: u8 = 3;

/// Class IN.
pub const CLASS_IN: u16 = 1;
/// Type A.
pub const TYPE_A: u16 = 1;
/// Type SOA.
pub const TYPE_SOA: u16 = 6;
/// Type AAAA.
pub const TYPE_AAAA: u16 = 28;
/// Type OPT (RFC 6891).
pub const TYPE_OPT: u16 = 41;
/// Type DS (RFC 4034), which is the parent's at a zone cut.
pub const TYPE_DS: u16 = 43;
/// The types from here to 255 ask for other than data of their own (RFC 6895 section 3.1).
pub const FIRST_META_TYPE: u16 = 128;

/// EDNS option NSID (RFC 5001).
pub const OPTION_NSID: u16 = 3;
/// EDNS option client subnet (RFC 7871).
pub const OPTION_ECS: u16 = 8;
/// DO, in an OPT's flags.
pub const DO: u16 = 0x8000;
/// Octets of an OPT without options, owner name included.
pub const OPT_LEN: u32 = 11;
/// Response size when the client says nothing, or less (RFC 6891 section 6.2.3).
pub const MIN_UDP_SIZE: u32 = 512;
/// Response size that we advertise, and never exceed over UDP.
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

/// SipHash-1-3 with 128 bits, over octets `from..len` of a name: the key of the name table.
/// Its first word is never 0, which empty and deleted slots have.
#[inline(always)]
pub fn hash(key: [u64; 2], name: &NameWords, from: u32, len: u32) -> [u64; 2] {
    let octets = len.wrapping_sub(from) & 0xff;
    let mut state = Sip::new(key);
    let mut word = 0;
    while word < NAME_WORDS as u32 / 2 {
        if word >= octets / 8 {
            break;
        }
        state.feed(word_at(name, from + 8 * word));
        word += 1;
    }
    let rest = word_at(name, from + octets / 8 * 8) & ((1 << (octets % 8 * 8)) - 1);
    state.feed(rest | (octets as u64) << 56);
    let hash = state.finish();
    [hash[0] | (hash[0] == 0) as u64, hash[1]]
}

/// Hash of a whole lowercased wire name, as [`hash`] makes it. Octets past [`MAX_NAME`] are left
/// out.
pub fn hash_name(key: [u64; 2], lowercased: &[u8]) -> [u64; 2] {
    let mut words = [0; NAME_WORDS];
    let octets = &lowercased[..lowercased.len().min(MAX_NAME as usize)];
    for (word, octets) in words.iter_mut().zip(octets.chunks(8)) {
        let mut bytes = [0; 8];
        bytes[..octets.len()].copy_from_slice(octets);
        *word = u64::from_le_bytes(bytes);
    }
    hash(key, &words, 0, octets.len() as u32)
}

/// The state of SipHash-1-3.
struct Sip([u64; 4]);

impl Sip {
    #[inline(always)]
    fn new(key: [u64; 2]) -> Self {
        Self([
            key[0] ^ 0x736f_6d65_7073_6575,
            key[1] ^ 0x646f_7261_6e64_6f6d ^ 0xee,
            key[0] ^ 0x6c79_6765_6e65_7261,
            key[1] ^ 0x7465_6462_7974_6573,
        ])
    }

    #[inline(always)]
    fn round(&mut self) {
        let [mut v0, mut v1, mut v2, mut v3] = self.0;
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
        self.0 = [v0, v1, v2, v3];
    }

    #[inline(always)]
    fn feed(&mut self, word: u64) {
        self.0[3] ^= word;
        self.round();
        self.0[0] ^= word;
    }

    #[inline(always)]
    fn finish(mut self) -> [u64; 2] {
        self.0[2] ^= 0xee;
        let first = self.three_rounds();
        self.0[1] ^= 0xdd;
        [first, self.three_rounds()]
    }

    #[inline(always)]
    fn three_rounds(&mut self) -> u64 {
        self.round();
        self.round();
        self.round();
        self.0[0] ^ self.0[1] ^ self.0[2] ^ self.0[3]
    }
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
    use core::hash::Hasher;

    use proptest::prelude::*;
    use siphasher::sip128::{Hasher128, SipHasher13};

    use super::*;

    fn reference(key: [u64; 2], octets: &[u8]) -> [u64; 2] {
        let mut hasher = SipHasher13::new_with_keys(key[0], key[1]);
        hasher.write(octets);
        let hash = hasher.finish128();
        [hash.h1, hash.h2]
    }

    proptest! {
        #[test]
        fn lowercases_like_ascii(octets: [u8; 8]) {
            let mut expected = octets;
            expected.make_ascii_lowercase();
            prop_assert_eq!(lowercase(u64::from_le_bytes(octets)).to_le_bytes(), expected);
        }

        #[test]
        fn hashes_like_siphash(key: [u64; 2], octets in prop::collection::vec(any::<u8>(), 1..=255)) {
            prop_assert_eq!(hash_name(key, &octets), reference(key, &octets));
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
            let key = [1, 2];
            prop_assert_eq!(
                hash(key, &words, from as u32, octets.len() as u32),
                reference(key, &octets[from..])
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
}

//! DNS cookies (RFC 7873), as all servers that share a secret make them (RFC 9018): the same in both paths.
//!
//! A server cookie is a version, three reserved octets and the time, and a hash over the client's cookie,
//! these eight octets and the client's address. All words here are in memory order.
//!
//! All instances of the program share the secrets, as they share the listen addresses. So neither a new plan nor a new
//! daemon makes a good cookie bad. Time of day is the monotonic clock of the heartbeat plus an offset that the daemon
//! stores.

use crate::wire;

/// Octets of a client's cookie.
pub const CLIENT_LEN: u32 = 8;
/// Octets of both cookies, as we make them.
pub const LEN: u32 = CLIENT_LEN + 16;
/// Octets of both cookies, at the most.
pub const MAX_LEN: u32 = 40;
/// Octets of the option that is sent back, code and length included.
pub const OPTION_LEN: u32 = 4 + LEN;

/// The key of the hash.
pub type Secret = [u64; 2];

/// Seconds for which a cookie is good (RFC 9018 section 4.3).
const GOOD_FOR: i32 = 3600;
/// Seconds by which the clock that made it may be ahead of ours.
const AHEAD: i32 = 300;
/// Seconds after which it is made anew.
const RENEWED_AFTER: i32 = 1800;

/// Whether an option of N octets is well-formed (RFC 7873 section 5.2.2).
#[inline(always)]
pub const fn is_well_formed(len: u32) -> bool {
    len == CLIENT_LEN || len >= 16 && len <= MAX_LEN
}

/// The server's part of the cookie that goes back, behind the client's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Served {
    /// Version, reserved octets and time.
    pub head: u64,
    /// The hash.
    pub hash: u64,
    /// The client has shown a good one: it is where it says.
    pub is_good: bool,
}

/// Looks at a server cookie, its head and hash, and gives it back or makes a new one. `hash` gives the hash
/// for a head: by the first secret, which makes cookies, or by the second, which is as good for old ones.
#[inline(always)]
pub fn serve(theirs: Option<[u64; 2]>, now: u32, mut hash: impl FnMut(bool, u64) -> u64) -> Served {
    let mut is_good = false;
    if let Some([head, their_hash]) = theirs {
        let read = u64::from_be(head);
        let age = now.wrapping_sub(read as u32) as i32;
        if read >> 56 == 1 && (-AHEAD..=GOOD_FOR).contains(&age) {
            let is_first = hash(true, head) == their_hash;
            is_good = is_first || hash(false, head) == their_hash;
            if is_first && age <= RENEWED_AFTER {
                return Served {
                    head,
                    hash: their_hash,
                    is_good,
                };
            }
        }
    }
    let head = (1 << 56 | now as u64).to_be();
    Served {
        head,
        hash: hash(true, head),
        is_good,
    }
}

/// The hash (RFC 9018 section 4.4). An IPv4 address is the first four octets of `address`.
#[inline(always)]
pub fn hash(secret: Secret, client: u64, head: u64, address: [u64; 2], is_v6: bool) -> u64 {
    let [key, [client, head], [first, second]] =
        [secret, [client, head], address].map(|pair| pair.map(u64::from_le));
    let hash = if is_v6 {
        wire::siphash(key, &[client, head, first, second], 0, 32)
    } else {
        wire::siphash(key, &[client, head], wire::first_octets(first, 4), 20)
    };
    hash.to_le()
}

#[cfg(test)]
mod tests {
    extern crate std;

    use core::net::IpAddr;
    use std::vec::Vec;

    use super::*;

    fn words<const N: usize>(hex: &str) -> [u64; N] {
        let octets: Vec<u8> = (0..hex.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap())
            .collect();
        core::array::from_fn(|word| {
            u64::from_ne_bytes(octets[8 * word..8 * word + 8].try_into().unwrap())
        })
    }

    fn address(text: &str) -> ([u64; 2], bool) {
        let mut octets = [0; 16];
        let address: IpAddr = text.parse().unwrap();
        match address {
            IpAddr::V4(v4) => octets[..4].copy_from_slice(&v4.octets()),
            IpAddr::V6(v6) => octets = v6.octets(),
        }
        let word = |at: usize| u64::from_ne_bytes(octets[at..at + 8].try_into().unwrap());
        ([word(0), word(8)], address.is_ipv6())
    }

    /// Appendix A of RFC 9018: secret, address, both cookies that came, seconds, and the server's cookie that
    /// goes back.
    #[test]
    fn cookies_are_those_of_the_rfc() {
        let first: Secret = words("e5e973e5a6b2a43f48e7dc849e37bfcf");
        let second: Secret = words("dd3bdf9344b678b185a6f5cb60fca715");
        let third: Secret = words("445536bcd2513298075a5d379663c962");
        let cases = [
            // A first query, a later one, and one that is to be made anew.
            (
                [first, first],
                "198.51.100.100",
                "2464c4abcf10c957",
                1_559_731_985,
                "010000005cf79f111f8130c3eee29480",
                false,
            ),
            (
                [first, first],
                "198.51.100.100",
                "2464c4abcf10c957010000005cf79f111f8130c3eee29480",
                1_559_734_385,
                "010000005cf7a871d4a564a1442aca77",
                true,
            ),
            // Too old. Reserved octets are hashed as they came.
            (
                [first, first],
                "203.0.113.203",
                "fc93fc62807ddb8601abcdef5cf78f71a314227b6679ebf5",
                1_559_734_700,
                "010000005cf7a9acf73a7810aca2381e",
                false,
            ),
            // An IPv6 client, with a cookie of the secret before.
            (
                [third, second],
                "2001:db8:220:1:59de:d0f4:8769:82b8",
                "22681ab97d52c298010000005cf7c57926556bd0934c72f8",
                1_559_741_961,
                "010000005cf7c609a6bb79d16625507a",
                true,
            ),
        ];
        for (secrets, client, came, now, goes, is_good) in cases {
            let (address, is_v6) = address(client);
            let [client] = words(came);
            let theirs = (came.len() == 48)
                .then(|| words::<3>(came))
                .map(|[_, a, b]| [a, b]);
            let served = serve(theirs, now, |is_first, head| {
                let secret = secrets[usize::from(!is_first)];
                hash(secret, client, head, address, is_v6)
            });
            let [head, hash] = words(goes);
            assert_eq!((served.head, served.hash), (head, hash), "{came}");
            assert_eq!(served.is_good, is_good, "{came}");
            // Theirs were made as we make them, whatever the time.
            if let Some([head, their_hash]) = theirs {
                let made = |secret| super::hash(secret, client, head, address, is_v6);
                assert!(secrets.map(made).contains(&their_hash), "{came}");
            }
        }
    }

    #[test]
    fn a_cookie_is_good_for_an_hour_and_renewed_after_half_of_it() {
        let made = 0xffff_fff0_u32;
        let hash = |_, head: u64| head ^ 7;
        let head = (1 << 56 | u64::from(made)).to_be();
        let theirs = Some([head, head ^ 7]);
        for (age, is_good, is_same) in [
            (0, true, true),
            // Past the year 2106.
            (1800, true, true),
            (1801, true, false),
            (3600, true, false),
            (3601, false, false),
            (-300, true, true),
            (-301, false, false),
        ] {
            let served = serve(theirs, made.wrapping_add_signed(age), hash);
            assert_eq!(
                (served.is_good, served.head == head),
                (is_good, is_same),
                "{age}"
            );
        }
        let other_version = Some([head ^ 3_u64.to_ne_bytes()[0] as u64, 7]);
        assert!(!serve(other_version, made, hash).is_good);
        assert!(!serve(Some([head, 1]), made, hash).is_good);
    }

    #[test]
    fn options_have_a_clients_cookie_and_perhaps_a_servers() {
        let good: Vec<u32> = (0..50).filter(|&len| is_well_formed(len)).collect();
        assert_eq!(good[0], 8);
        assert_eq!(good[1..], (16..=40).collect::<Vec<_>>());
    }
}

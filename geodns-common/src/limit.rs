//! Response rate limiting: a bucket of tokens for each /24 and each /56 that packets come from.
//!
//! A bucket is one word, the time at which it will be full again (the generic cell rate algorithm of ATM). There
//! is a fixed number of them, found by a keyed hash of the prefix: whoever forges sources at random takes a little
//! of each bucket, and pushes nobody out of the table. Two prefixes may share one, which nobody can bring about
//! who does not know the key.
//!
//! There are 2^19 buckets, and a token is one load, one comparison and one store. A query takes its token before it is
//! looked at any further, unless it has a good cookie. If it is passed, the token is put back. The slow path takes its
//! own token from the same table, which it has mapped (without a fast path it has one in its memory), and runs the same
//! code: both drop and slip alike. So each query is paid for once, by the path that answers it. The clock of both is
//! CLOCK_MONOTONIC_COARSE. Buckets belong to an instance: a new plan begins with full ones. The prefixes that are never
//! limited stand in an LPM trie, which is looked at only when there is no token left.

use crate::abi::{Rate, Row};
use crate::address::prefix;
use crate::wire;

/// log2 of the number of buckets.
pub const CELLS_BITS: u32 = 19;
/// Buckets of a page of the table.
pub const CELLS_OF_PAGE: usize = 512;
/// Pages of the table.
pub const PAGES: u32 = (1 << CELLS_BITS) / CELLS_OF_PAGE as u32;
/// A page of buckets.
pub type Page = [Row; CELLS_OF_PAGE];

/// The number of the bucket for an address, in memory order.
#[inline(always)]
pub fn cell(key: u64, address: [u64; 2], is_v6: bool) -> u32 {
    place(prefix(address, is_v6), key, CELLS_BITS)
}

/// Which of `1 << bits` places a prefix has. Of two prefixes, 1 in 2^32 keys makes the same of them, as of
/// names (NH, see [`wire`]).
#[inline(always)]
pub fn place(prefix: u64, key: u64, bits: u32) -> u32 {
    const ODD: u64 = 0x9e37_79b9_7f4a_7c15;
    (wire::multiplied(prefix, key).wrapping_mul(ODD) >> (64 - bits)) as u32
}

/// Takes a token. `false`: there is none. CPUs that take one at once may both take the last.
#[inline(always)]
pub fn take(cell: &Row, limit: &Rate, now: u64) -> bool {
    let full = cell.load();
    let full = if full > now { full } else { now };
    if full - now > limit.burst {
        return false;
    }
    cell.store(full + limit.interval);
    true
}

/// Puts a token back that [`take`] gave for a query which somebody else answers, and pays for.
#[inline(always)]
pub fn put_back(cell: &Row, limit: &Rate) {
    cell.store(cell.load().saturating_sub(limit.interval));
}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::vec;

    use super::*;

    #[test]
    fn a_bucket_gives_its_burst_and_then_its_rate() {
        // 100 tokens a tick of 4 ms, and 1,000 at once.
        let tick = 4_000_000;
        let limit = Rate {
            interval: tick / 100,
            burst: 10 * tick,
        };
        let cell = Row::new(0);
        let taken = |number: u64| {
            (0..5_000)
                .filter(|_| take(&cell, &limit, number * tick))
                .count()
        };
        assert!((1_000..1_010).contains(&taken(500)));
        for number in 501..510 {
            assert!((99..=102).contains(&taken(number)), "tick {number}");
        }
        // A token that was put back is there again.
        assert!((199..=202).contains(&{
            taken(510);
            (0..100).for_each(|_| put_back(&cell, &limit));
            taken(511)
        }));
        // Half full after half as long as it takes, and no fuller than full after longer.
        assert!((499..510).contains(&taken(516)));
        assert!((1_000..1_010).contains(&taken(9_000)));
    }

    #[test]
    fn prefixes_have_buckets_of_their_own() {
        let v4 = |address: u32| [u64::from(address.to_be()), 0];
        let v4 = |address| match cfg!(target_endian = "big") {
            true => v4(address).map(|word| word << 32),
            false => v4(address),
        };
        let key = 0x1234_5678_9abc_def0;
        let first = cell(key, v4(0x1401_0203), false);
        assert_eq!(first, cell(key, v4(0x1401_02ff), false));
        assert_ne!(first, cell(key, v4(0x1401_0303), false));
        let v6 = |bits: u64| [bits.to_be(), 7];
        let first = cell(key, v6(0x2001_0db8_0001_0200), true);
        assert_eq!(first, cell(key, v6(0x2001_0db8_0001_02ff), true));
        assert_ne!(first, cell(key, v6(0x2001_0db8_0001_0300), true));
        assert_ne!(cell(key, v6(0x1400), true), cell(key, v4(0x14), false));

        // Neighbouring prefixes are spread as chance would: e^-1 of the buckets stay empty, with one each.
        let mut used = vec![0_u8; 1 << CELLS_BITS];
        for prefix in 0..1_u32 << CELLS_BITS {
            used[cell(key, v4(prefix << 8), false) as usize] += 1;
        }
        let most = used.iter().max().copied().unwrap_or_default();
        assert!(most <= 16, "{most} prefixes share a bucket");
    }
}

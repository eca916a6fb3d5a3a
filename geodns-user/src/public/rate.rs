//! Requests a second of each /24 and /56. The table has a fixed size: prefixes that fall together share a bucket.

use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::Mutex;
use std::time::Instant;

use crate::base::lock::lock;

/// Buckets.
const BUCKETS: usize = 1 << 14;

/// Buckets of tokens. The hash over prefixes is of this process alone: nobody can choose whom to share one with.
pub struct Rates {
    hasher: RandomState,
    begun: Instant,
    buckets: Mutex<Vec<Bucket>>,
}

/// Tokens, and the time at which they were counted last.
#[derive(Clone, Copy, Default)]
struct Bucket {
    spent: f32,
    at_ms: u32,
}

impl Default for Rates {
    fn default() -> Self {
        Self {
            hasher: RandomState::new(),
            begun: Instant::now(),
            buckets: Mutex::default(),
        }
    }
}

impl Rates {
    /// Takes a token for a client, of N a second and twice as many at once. `false`: there is none. 0: no limit.
    pub fn take(&self, client: IpAddr, rate: u32, now: Instant) -> bool {
        if rate == 0 {
            return true;
        }
        let network = match client {
            IpAddr::V4(address) => u128::from(address.to_bits() >> 8),
            IpAddr::V6(address) => address.to_bits() >> 72 | 1 << 127,
        };
        let number = self.hasher.hash_one(network) as usize % BUCKETS;
        let now = now.saturating_duration_since(self.begun).as_millis() as u32;
        let mut buckets = lock(&self.buckets);
        if buckets.is_empty() {
            buckets.resize(BUCKETS, Bucket::default());
        }
        let Some(bucket) = buckets.get_mut(number) else {
            return true;
        };
        let regained = now.wrapping_sub(bucket.at_ms) as f32 / 1000.0 * rate as f32;
        bucket.spent = (bucket.spent - regained).max(0.0);
        bucket.at_ms = now;
        if bucket.spent + 1.0 > 2.0 * rate as f32 {
            return false;
        }
        bucket.spent += 1.0;
        true
    }
}

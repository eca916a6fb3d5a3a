//! The time of day, as a number.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Now, in milliseconds since 1970.
pub fn now_unix_ms() -> u64 {
    unix_ms(SystemTime::now())
}

/// A time, in milliseconds since 1970; 0 for all that was before.
pub fn unix_ms(time: SystemTime) -> u64 {
    u64::try_from(since_1970(time).as_millis()).unwrap_or(u64::MAX)
}

/// Now, in seconds since 1970, of which the lowest 32 bits are left: as DNS counts them (RFC 1982).
pub fn now_unix_s() -> u32 {
    since_1970(SystemTime::now()).as_secs() as u32
}

fn since_1970(time: SystemTime) -> Duration {
    time.duration_since(UNIX_EPOCH).unwrap_or_default()
}

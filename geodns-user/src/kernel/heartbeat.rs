//! How the program knows that somebody still feeds it.
//!
//! One shared word holds the moment (in nanoseconds of CLOCK_MONOTONIC, the clock of
//! `bpf_ktime_get_coarse_ns`) from which on the program passes everything. A living daemon keeps
//! pushing it ahead; a dead one cannot.

use std::io;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

use super::mmap::Mapping;

/// The shared word.
#[derive(Debug)]
pub struct Heartbeat {
    map: Mapping,
    stale_after: Duration,
}

impl Heartbeat {
    /// Maps it.
    pub fn new(map: BorrowedFd<'_>, stale_after: Duration) -> io::Result<Self> {
        Ok(Self {
            map: Mapping::new(map, 8, 1)?,
            stale_after,
        })
    }

    /// How often to [`beat`](Self::beat).
    pub fn interval(&self) -> Duration {
        (self.stale_after / 10).min(Duration::from_secs(1))
    }

    /// Lets the program answer for `stale_after` from now on.
    pub fn beat(&self) {
        let deadline = now().saturating_add(self.stale_after);
        let nanoseconds = u64::try_from(deadline.as_nanos()).unwrap_or(u64::MAX);
        self.map.store_u64(0, 0, nanoseconds);
    }

    /// How much longer the program would answer without another beat.
    pub fn remaining(&self) -> Duration {
        Duration::from_nanos(self.map.load_u64(0, 0)).saturating_sub(now())
    }
}

fn now() -> Duration {
    clock_gettime(ClockId::CLOCK_MONOTONIC)
        .expect("the monotonic clock can be read")
        .into()
}

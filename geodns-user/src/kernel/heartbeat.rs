//! How the program knows that somebody still feeds it.
//!
//! A shared word holds the moment (in nanoseconds of CLOCK_MONOTONIC, the clock of
//! `bpf_ktime_get_coarse_ns`) from which on the program passes everything. A living daemon keeps
//! pushing it ahead; a dead one cannot. Another one says how far the time of day is ahead of that clock, for
//! cookies: BPF programs cannot ask for it.

use std::io;
use std::mem::offset_of;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use geodns_common::layout;
use nix::time::{ClockId, clock_gettime};

use super::mmap::Mapping;

/// The shared words.
#[derive(Debug)]
pub struct Heartbeat {
    map: Mapping,
    stale_after: Duration,
}

impl Heartbeat {
    /// Maps it.
    pub fn new(map: BorrowedFd<'_>, stale_after: Duration) -> io::Result<Self> {
        Ok(Self {
            map: Mapping::new(map, size_of::<layout::Heartbeat>(), 1)?,
            stale_after,
        })
    }

    /// How often to [`beat`](Self::beat).
    pub fn interval(&self) -> Duration {
        (self.stale_after / 10).min(Duration::from_secs(1))
    }

    /// Lets the program answer for `stale_after` from now on.
    pub fn beat(&self) {
        let now = now(ClockId::CLOCK_MONOTONIC);
        let epoch = self::now(ClockId::CLOCK_REALTIME).saturating_sub(now);
        self.put(offset_of!(layout::Heartbeat, epoch), epoch);
        let deadline = now.saturating_add(self.stale_after);
        self.put(offset_of!(layout::Heartbeat, deadline), deadline);
    }

    fn put(&self, offset: usize, time: Duration) {
        let nanoseconds = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.map.store_u64(0, offset, nanoseconds);
    }

    /// How much longer the program would answer without another beat.
    pub fn remaining(&self) -> Duration {
        let deadline = self
            .map
            .load_u64(0, offset_of!(layout::Heartbeat, deadline));
        Duration::from_nanos(deadline).saturating_sub(now(ClockId::CLOCK_MONOTONIC))
    }
}

fn now(clock: ClockId) -> Duration {
    clock_gettime(clock)
        .expect("the clocks that every kernel has can be read")
        .into()
}

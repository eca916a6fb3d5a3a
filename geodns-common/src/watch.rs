//! Looking on: samples of what is asked and answered, and the prefixes that ask most.
//!
//! tcpdump sees nothing of what XDP sends, so the program itself tells, while somebody asks it to: a
//! [`Sighting`] of one in N queries goes into a ring buffer, and each query into a [`Sketch`].
//!
//! The daemon sets the row of the instance in force, which passes to the next instance on a reload. It reads one ring
//! buffer of 2 MiB that all instances share, as they share the sketches. A sample is a head of 336 octets: the name, the
//! verdict, the order of the client's region, and the time that the answer took. A capture has both frames, too. A
//! sample that finds the ring full is counted (`watch_lost`). The daemon samples one query in N, where N leaves some
//! thousands a second, and scales by the exact counters. A tap has both frames of one in N queries, too, but only of
//! those that do not reach the slow path: dnstap has all others from there.
//!
//! The sketch counts every query: two rows of 1,024 places on each CPU, by majority vote (MV-Sketch). Forged sources
//! may win places, but cannot push out a prefix that asks more than all others which share its place. The daemon has the
//! program write one sketch while it reads and clears the other.
//!
//! [`Sighting`]: crate::layout::Sighting
//! [`Sketch`]: crate::layout::Sketch

use crate::abi::Row;
use crate::block::BlockRule;

/// The packets that an instance of the program is to report.
#[repr(C)]
#[derive(Clone, Debug, Default)]
pub struct Watch {
    /// [`Watch::row`]. What else there is may be written while it has no [`Watch::CAPTURE`], and has had none
    /// for a tick of the kernel's clock.
    pub row: Row,
    /// Verdicts that are captured: a bit for each, by its counter.
    pub verdicts: u64,
    /// Queries that are captured.
    pub rule: BlockRule,
}

impl Watch {
    /// In a row and in [`Sighting::kinds`](crate::layout::Sighting::kinds): samples, and the sketch.
    pub const SAMPLE: u32 = 1;
    /// In a row and in [`Sighting::kinds`](crate::layout::Sighting::kinds): frames of what matches the rule.
    pub const CAPTURE: u32 = 2;
    /// In a row: the second sketch is written, not the first.
    pub const SECOND: u32 = 4;
    /// In a row and in [`Sighting::kinds`](crate::layout::Sighting::kinds): frames of what is answered or dropped.
    pub const TAP: u32 = 8;
    /// The kinds that have frames.
    pub const FRAMES: u32 = Self::CAPTURE | Self::TAP;
    /// log2 of the most queries for a sample.
    pub const MAX_SHIFT: u32 = 20;

    /// A row. One in `1 << samples` queries is sampled, one in `1 << captures` of those that match is captured, and one
    /// in `1 << taps` is tapped.
    pub const fn row(
        samples: Option<u32>,
        captures: Option<u32>,
        taps: Option<u32>,
        second: bool,
    ) -> u64 {
        let mut row = 0;
        if let Some(shift) = samples {
            row |= Self::SAMPLE | shift << 8;
        }
        if let Some(shift) = captures {
            row |= Self::CAPTURE | shift << 16;
        }
        if let Some(shift) = taps {
            row |= Self::TAP | shift << 24;
        }
        if second {
            row |= Self::SECOND;
        }
        row as u64
    }

    /// Whether a query is a sample, by a row and a random number: queries may come in a pattern of their own.
    #[inline(always)]
    pub const fn is_sample(row: u64, random: u32) -> bool {
        Self::is_turn(row as u32 >> 8 & 0x1f, random)
    }

    /// Whether the `turn`th query that matches is captured, by a row.
    #[inline(always)]
    pub const fn is_capture(row: u64, turn: u32) -> bool {
        Self::is_turn(row as u32 >> 16 & 0x1f, turn)
    }

    /// Whether a query is tapped, by a row and a random number.
    #[inline(always)]
    pub const fn is_tap(row: u64, random: u32) -> bool {
        Self::is_turn(row as u32 >> 24 & 0x1f, random)
    }

    #[inline(always)]
    const fn is_turn(shift: u32, turn: u32) -> bool {
        turn & ((1 << shift) - 1) == 0
    }
}

const _: () = assert!(size_of::<Watch>() == 80);

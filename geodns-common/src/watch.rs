//! Looking on: samples of what is asked and answered, and the prefixes that ask most.
//!
//! tcpdump sees nothing of what XDP sends, so the program itself tells, while somebody asks it to: a
//! [`Sighting`] of one in N queries goes into a ring buffer, and each query into a [`Sketch`].
//!
//! The daemon sets the row of the instance in force, which passes to the next instance on a reload. It reads one ring
//! buffer of 2 MiB that all instances share, as they share the sketches. A sample is a head of 336 octets: the name, the
//! verdict, the order of the client's region, and the time that the answer took. A capture has both frames, too. A
//! sample that finds the ring full is counted (`watch_lost`). The daemon samples one query in N, where N leaves some
//! thousands a second, and scales by the exact counters.
//!
//! The sketch counts every query: two rows of 1,024 places on each CPU, by majority vote (MV-Sketch). Forged sources
//! may win places, but cannot push out a prefix that asks more than all others which share its place. The daemon has the
//! program write one sketch while it reads and clears the other.

use bytemuck::{Pod, Zeroable};

use crate::abi::Row;
use crate::rules::Rule;

/// What an instance of the program is asked to tell.
#[repr(C)]
#[derive(Clone, Debug, Default)]
pub struct Watch {
    /// [`Watch::row`]. What else there is may be written while it has no [`Watch::CAPTURE`], and has had none
    /// for a tick of the kernel's clock.
    pub row: Row,
    /// Verdicts that are captured: a bit for each, by its counter.
    pub verdicts: u64,
    /// Queries that are captured.
    pub rule: Rule,
}

impl Watch {
    /// In a row and in [`Sighting::kinds`]: samples, and the sketch.
    pub const SAMPLE: u32 = 1;
    /// In a row and in [`Sighting::kinds`]: frames of what matches the rule.
    pub const CAPTURE: u32 = 2;
    /// In a row: the second sketch is written, not the first.
    pub const SECOND: u32 = 4;
    /// log2 of the most queries for a sample.
    pub const MAX_SHIFT: u32 = 20;

    /// A row. One in `1 << samples` queries is sampled, one in `1 << captures` of those that match is captured.
    pub const fn row(samples: Option<u32>, captures: Option<u32>, second: bool) -> u64 {
        let mut row = 0;
        if let Some(shift) = samples {
            row |= Self::SAMPLE | shift << 8;
        }
        if let Some(shift) = captures {
            row |= Self::CAPTURE | shift << 16;
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

    #[inline(always)]
    const fn is_turn(shift: u32, turn: u32) -> bool {
        turn & ((1 << shift) - 1) == 0
    }
}

/// Octets of a query's frame that are kept: the longest that is answered.
pub const QUERY: usize = 640;
/// Octets of an answer's frame that are kept: all of the longest.
pub const ANSWER: usize = 1312;
/// 8-byte words of a name.
pub const NAME_WORDS: usize = 32;

/// A query, and what became of it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Sighting {
    /// When it came: nanoseconds of CLOCK_MONOTONIC.
    pub at: u64,
    /// [`Order`](crate::abi::Order) of mirrors of the client's region, with
    /// [`Answered`](crate::verdict::Verdict::Answered).
    pub order: u64,
    /// Where it came from, in memory order, IPv4 in the first four octets.
    pub source: [u64; 2],
    /// 1 if that is IPv6.
    pub is_v6: u32,
    /// Nanoseconds from then until there was a verdict.
    pub took: u32,
    /// The verdict, by its counter.
    pub verdict: u32,
    /// What it was taken for: [`Watch::SAMPLE`], [`Watch::CAPTURE`]. Frames are there with the latter.
    pub kinds: u32,
    /// Interface index.
    pub ifindex: u32,
    /// The pool that was asked, with [`Answered`](crate::verdict::Verdict::Answered) and
    /// [`Servfail`](crate::verdict::Verdict::Servfail).
    pub pool: u32,
    /// The first mirror of the answer, with [`Answered`](crate::verdict::Verdict::Answered).
    pub mirror: u32,
    /// Type.
    pub qtype: u32,
    /// Octets of the name; 0: no name could be read.
    pub name_len: u32,
    /// Octets of the query's frame, of which [`QUERY`] are kept.
    pub query_len: u32,
    /// Octets of the answer's frame; 0: the program gave none.
    pub answer_len: u32,
    /// Zero.
    pub _pad: u32,
    /// The name, lowercased, first octet lowest; what is behind it does not matter.
    pub name: [u64; NAME_WORDS],
    /// The query's frame.
    pub query: [u8; QUERY],
    /// The answer's.
    pub answer: [u8; ANSWER],
}

impl Sighting {
    /// Octets of one without frames, which is all that is told of a sample.
    pub const HEAD: usize = size_of::<Self>() - QUERY - ANSWER;
}

/// Octets of the ring buffer that sightings go into.
pub const SIGHTINGS_OCTETS: u32 = 2 << 20;

/// Rows of a sketch.
pub const SKETCH_ROWS: u32 = 2;
/// log2 of the places in a row.
pub const SKETCH_BITS: u32 = 10;

/// A row of a sketch of who asks most (MV-Sketch: Tang, Huang, Lee 2019): for each place, how often a prefix
/// that has it asked, and a candidate for the one that did so most, by majority vote. Each CPU has its own.
pub type Sketch = [Place; 1 << SKETCH_BITS];

/// A place of a [`Sketch`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Place {
    /// Candidate, as [`address::prefix`](crate::address::prefix) has it.
    pub prefix: u64,
    /// Queries.
    pub total: u64,
    /// By how much the candidate is ahead of all others.
    pub lead: u64,
}

impl Place {
    /// Counts a query.
    #[inline(always)]
    pub fn count(&mut self, prefix: u64) {
        self.total += 1;
        if self.prefix == prefix {
            self.lead += 1;
        } else if self.lead == 0 {
            self.prefix = prefix;
            self.lead = 1;
        } else {
            self.lead -= 1;
        }
    }

    /// How many queries a prefix that has this place sent: about N, and seldom fewer.
    pub const fn estimate(&self, prefix: u64) -> u64 {
        if self.prefix == prefix {
            (self.total + self.lead) / 2
        } else {
            (self.total - self.lead) / 2
        }
    }
}

const _: () = {
    assert!(Sighting::HEAD == 336);
    assert!(size_of::<Sighting>().is_multiple_of(8));
    assert!(size_of::<Watch>() == 80);
    // The most that a value of each CPU's own may take.
    assert!(size_of::<Sketch>() <= 32 << 10);
};

//! The maps that are pinned and that all instances of the program share. Daemons of different versions may meet them.
//!
//! All else belongs to an instance, and goes with the binary that made it.
//!
//! | map | entry | layout |
//! | --- | --- | --- |
//! | COUNTERS | [`Counters`] | packets by verdict, those over a budget, and tallies; on each CPU |
//! | TRAFFIC | [`Traffic`] | packets by fate, in the slot of the interface that they came by; on each CPU |
//! | HEARTBEAT | [`Heartbeat`] | how long the program goes on answering |
//! | LISTEN | [`Listen`] | open-addressed, [`Listen::PROBES`] slots; a slot's key changes only while the slot is empty and after a grace period |
//! | COOKIES | [`Cookies`] | secrets, and a row with the number of the secret that makes cookies and of the other good one |
//! | DROPPED | `u64` | packets that each rule dropped; on each CPU |
//! | SIGHTINGS | [`Sighting`] | a ring buffer of samples |
//! | SKETCHES | [`Sketch`] | two sketches of who asks most; on each CPU |
//!
//! An instance that counts answers by mirror has a map of its own for that, MIRRORS, which is pinned, too: the next
//! daemon goes on counting where this one was. Its pages are [`MirrorPage`]s.
//!
//! VLANs of an interface stand among the listen addresses, with their tags in place of an address. So the program
//! answers a tagged frame only in a VLAN that exists, as the stack would. A priority tag without a VLAN counts as none.

use bytemuck::{Pod, Zeroable};

use crate::abi::Row;
use crate::cookie::Secret;
use crate::verdict::{COUNTERS, Fate};

/// Version of the layout of what is pinned; shared maps are pinned under it.
pub const VERSION: u32 = 5 + LAYOUTS.len() as u32;

/// Fingerprints of layouts, from that of version 6 on. Those of releases stay; another layout is appended. A test
/// says which.
pub const LAYOUTS: &[u64] = &[0x9f9b_a62e_9aff_135b, 0xcbdd_1132_9852_cf62];

/// The maps that are pinned, and shared by all instances of the program.
pub const MAPS: [&str; 8] = [
    "COUNTERS",
    "TRAFFIC",
    "HEARTBEAT",
    "LISTEN",
    "COOKIES",
    "DROPPED",
    "SIGHTINGS",
    "SKETCHES",
];

/// The programs that the stub calls: indices of its array PROGRAMS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Callee {
    /// The program that answers.
    Answers,
    /// The program of somebody else (`kernel.next`), for packets that are passed.
    Next,
}

/// Entries of the stub's array.
pub const CALLEES: u32 = 2;

/// A value of COUNTERS: packets by verdict, and tallies.
pub type Counters = [u64; COUNTERS];

/// Slots of TRAFFIC. Reading one is a system call, so only those of attached interfaces are read.
pub const TRAFFIC_SLOTS: u32 = 64;

/// A value of TRAFFIC: packets by [`Fate`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Traffic {
    /// Packets.
    pub by_fate: [u64; Fate::COUNT],
}

impl Traffic {
    /// The slot of an interface. Interfaces may share one.
    #[inline(always)]
    pub const fn slot(ifindex: u32) -> u32 {
        ifindex & (TRAFFIC_SLOTS - 1)
    }
}

/// A page of MIRRORS: answers by the mirror that is first in them, one word for each mirror of each pool.
///
/// Of N pages that all mirrors take together, the map has N with the mirrors' ids, hashed by the daemon, then N with
/// the answers that earlier instances counted, then N for each CPU.
pub type MirrorPage = [u64; MIRROR_PAGE as usize];

/// Words of a [`MirrorPage`], a power of two.
pub const MIRROR_PAGE: u32 = 512;

/// Times that MIRRORS has the pages of all mirrors beside those of CPUs.
pub const MIRROR_PARTS: u32 = 2;

/// The page of a CPU that a mirror is counted in, by its number among all pools' (`Pool::counter`).
#[inline(always)]
pub const fn mirror_page(pages: u32, cpu: u32, counter: u32) -> u32 {
    (MIRROR_PARTS + cpu) * pages + counter / MIRROR_PAGE
}

/// Rules of all kinds, at the most: each has a counter in DROPPED.
pub const BLOCK_COUNTERS: u32 = 16_384;

/// A row of the table of listen addresses: an address that we answer on, and the interface that a
/// packet to it comes in by; or a VLAN upon an interface.
///
/// Open-addressed: a row is in one of [`Listen::PROBES`] slots from its home on. A BPF hash map would
/// cost a packet as much as all of its parsing.
#[repr(C)]
#[derive(Clone, Debug, Default)]
pub struct Listen {
    /// The address, in memory order; IPv4 is mapped (`::ffff:a.b.c.d`). Or [`Listen::VLAN`] and a VLAN.
    pub address: [u64; 2],
    /// Interface index.
    pub ifindex: u32,
    /// Zero.
    pub _pad: u32,
    /// [`Listen::IN_USE`], [`Listen::GENERIC`] and the MAC address that packets are to have, in the low 48 bits, first
    /// octet highest. 0: an empty slot; address and interface change only while it is.
    pub mac: Row,
}

impl Listen {
    /// Slots of the table.
    pub const SLOTS: u32 = 16_384;
    /// Slots that a row may be in.
    pub const PROBES: u32 = 8;
    /// There is a row.
    pub const IN_USE: u64 = 1 << 63;
    /// Packets come by the network stack: the program is attached in generic mode.
    pub const GENERIC: u64 = 1 << 62;
    /// First word of the row of a VLAN, in place of an address: no packet is to be answered that is sent to one
    /// that begins so. The second word is [`Listen::vlan`]'s.
    pub const VLAN: u64 = u64::MAX;

    /// A tag as [`Listen::vlan`] takes it. 0: it has no VLAN, but a priority.
    #[inline(always)]
    pub const fn tag(is_8021ad: bool, tci: u16) -> u32 {
        let id = tci as u32 & 0xfff;
        if id == 0 {
            return 0;
        }
        id | (is_8021ad as u32) << 12
    }

    /// The VLAN that a frame with these tags, the outer one first, is in; 0: in none. A tag without a VLAN counts
    /// for nothing.
    #[inline(always)]
    pub const fn vlan(outer: u32, inner: u32) -> u64 {
        if outer != 0 && inner != 0 {
            return (outer as u64) << 16 | inner as u64;
        }
        (outer | inner) as u64
    }

    /// First slot that a row may be in. Whoever chooses the addresses is no stranger, so a hash that
    /// only spreads well will do.
    #[inline(always)]
    pub const fn home(address: [u64; 2], ifindex: u32) -> u32 {
        const ODD: u64 = 0x9e37_79b9_7f4a_7c15;
        let mixed = address[0] ^ address[1].rotate_left(29) ^ (ifindex as u64) << 47;
        (mixed.wrapping_mul(ODD) >> 50) as u32
    }
}

/// The sign of life that a daemon gives again and again.
#[repr(C)]
#[derive(Clone, Debug, Default)]
pub struct Heartbeat {
    /// When the program stops answering unless it is put off: nanoseconds of CLOCK_MONOTONIC.
    pub deadline: Row,
    /// Nanoseconds that CLOCK_REALTIME is ahead of CLOCK_MONOTONIC.
    pub epoch: Row,
}

/// The secrets of cookies, shared by all instances of the program.
#[repr(C)]
#[derive(Clone, Debug, Default)]
pub struct Cookies {
    /// 0: none are. Else [`Cookies::ON`], the place of the secret that makes them in bits 8..16, and of the
    /// one that is good as well in 16..24.
    pub row: Row,
    /// Secrets, in memory order. One that no row names may be written.
    pub secrets: [Secret; Cookies::SECRETS],
}

impl Cookies {
    /// In `row`: there are cookies.
    pub const ON: u64 = 1;
    /// Places of secrets, a power of two: those of two rows.
    pub const SECRETS: usize = 4;

    /// A row.
    pub const fn row(first: usize, second: usize) -> u64 {
        Self::ON | (first as u64) << 8 | (second as u64) << 16
    }

    /// The secret that a row names: the one that makes cookies, or the other.
    #[inline(always)]
    pub fn secret(&self, row: u64, is_first: bool) -> Secret {
        let place = if is_first { row >> 8 } else { row >> 16 };
        self.secrets[place as usize & (Self::SECRETS - 1)]
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
    /// The reasons for which it was taken: [`Watch::SAMPLE`](crate::watch::Watch::SAMPLE),
    /// [`Watch::CAPTURE`](crate::watch::Watch::CAPTURE), [`Watch::TAP`](crate::watch::Watch::TAP). Frames are there
    /// with those of [`Watch::FRAMES`](crate::watch::Watch::FRAMES).
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
    assert!(size_of::<Cookies>() == 72);
    assert!(size_of::<Listen>() == 32);
    assert!(Listen::SLOTS == 1 << (64 - 50));
    assert!(Sighting::HEAD == 336);
    assert!(size_of::<Sighting>().is_multiple_of(8));
    // The most that a value of each CPU's own may take.
    assert!(size_of::<Sketch>() <= 32 << 10);
};

#[cfg(test)]
mod tests {
    extern crate std;

    use core::mem::offset_of;
    use std::collections::BTreeSet;

    use super::*;
    use crate::address;
    use crate::verdict::{Fate, Tally, Verdict};
    use crate::watch::Watch;

    /// FNV-1a, of 64 bits.
    struct Fingerprint(u64);

    impl Fingerprint {
        fn text(&mut self, text: &str) {
            for octet in text.bytes().chain([0]) {
                self.0 = (self.0 ^ u64::from(octet)).wrapping_mul(0x0100_0000_01b3);
            }
        }

        fn number(&mut self, name: &str, number: u64) {
            self.text(name);
            self.text(&std::format!("{number}"));
        }
    }

    /// Size of what a field of a type is.
    fn size<T, F>(_: impl Fn(&T) -> &F) -> u64 {
        size_of::<F>() as u64
    }

    /// Takes a type's name, and each field's name, place and size. Does not build if a field is left out.
    macro_rules! take {
        ($into:ident: $type:ident { $($field:ident),+ $(,)? }) => {
            let _ = |of: $type| {
                let $type { $($field: _),+ } = of;
            };
            $into.number(stringify!($type), size_of::<$type>() as u64);
            $(
                $into.number(stringify!($field), offset_of!($type, $field) as u64);
                $into.number("size", size::<$type, _>(|of| &of.$field));
            )+
        };
    }

    fn fingerprint() -> u64 {
        let mut all = Fingerprint(0xcbf2_9ce4_8422_2325);
        for map in MAPS {
            all.text(map);
        }
        all.number("counters", COUNTERS as u64);
        for (at, verdict) in Verdict::ALL.iter().enumerate() {
            all.number(verdict.name(), at as u64);
        }
        all.number("over budget", u64::from(Verdict::OVER_BUDGET));
        for tally in Tally::ALL {
            all.number(tally.name(), u64::from(tally.index()));
        }
        take!(all: Traffic { by_fate });
        all.number("slots of traffic", u64::from(TRAFFIC_SLOTS));
        for fate in Fate::ALL {
            all.number(fate.name(), *fate as u64);
        }
        all.number("rules", u64::from(BLOCK_COUNTERS));

        take!(all: Heartbeat { deadline, epoch });

        take!(all: Cookies { row, secrets });
        all.number("secrets", Cookies::SECRETS as u64);
        all.number("cookies", Cookies::row(1, 2));

        take!(all: Listen { address, ifindex, _pad, mac });
        all.number("slots", Listen::SLOTS.into());
        all.number("probes", Listen::PROBES.into());
        all.number("in use", Listen::IN_USE);
        all.number("generic", Listen::GENERIC);
        all.number("home", Listen::home([1, 2], 3).into());

        take!(all: Sighting {
            at, order, source, is_v6, took, verdict, kinds, ifindex, pool, mirror, qtype, name_len, query_len,
            answer_len, _pad, name, query, answer,
        });
        all.number("octets", SIGHTINGS_OCTETS.into());
        all.number("sample", Watch::SAMPLE.into());
        all.number("capture", Watch::CAPTURE.into());

        take!(all: Place { prefix, total, lead });
        all.number("mirrors of a page", MIRROR_PAGE.into());
        all.number("page of a mirror", mirror_page(3, 5, 1000).into());

        all.number("sketch", size_of::<Sketch>() as u64);
        all.number("rows", SKETCH_ROWS.into());
        all.number("bits", SKETCH_BITS.into());
        all.number("prefix", address::prefix([u64::MAX, 2], true));
        all.0
    }

    #[test]
    fn a_change_of_what_is_pinned_is_a_new_version() {
        let (now, last) = (fingerprint(), LAYOUTS.last().copied().unwrap_or_default());
        assert!(
            now == last,
            "what is pinned has changed since layout {VERSION}. If that layout has been released, append {now:#x} \
             to LAYOUTS, which raises VERSION; else put it in the place of {last:#x}"
        );
        let different: BTreeSet<&u64> = LAYOUTS.iter().collect();
        assert_eq!(
            different.len(),
            LAYOUTS.len(),
            "each layout has a version of its own"
        );
    }
}

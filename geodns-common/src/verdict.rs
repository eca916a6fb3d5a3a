//! Decisions of the fast path on a packet, and the counter of each.

use crate::opaque::opaque;

macro_rules! counted {
    ($(#[doc = $about:literal])+ $kind:ident: $($(#[doc = $doc:literal])+ $variant:ident = $name:literal,)+) => {
        $(#[doc = $about])+
        #[repr(u32)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $kind {
            $($(#[doc = $doc])+ $variant,)+
        }

        impl $kind {
            /// All of them, in the order of their counters.
            pub const ALL: &[Self] = &[$(Self::$variant,)+];

            /// Name in statistics.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }

            /// The meaning of its counter, in a line.
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$variant => concat!($($doc),+),)+ }
            }
        }
    };
}

counted! {
    /// The decision of the fast path on one packet. Each has a counter.
    Verdict:
    /// Answered with a pool's records.
    Answered = "answered",
    /// Answered with the records of a zone file.
    Static = "static",
    /// Answered with no data and the zone's SOA.
    Nodata = "nodata",
    /// Answered with NXDOMAIN: the zone has no such name.
    Nxdomain = "nxdomain",
    /// Answered with SERVFAIL: no mirror of the pool is in service, and it fails closed.
    Servfail = "servfail",
    /// Answered with nothing but TC or a cookie: the client's prefix is over the limit of responses.
    Slipped = "limited_slip",
    /// Dropped: the client's prefix is over the limit of responses.
    Limited = "limited_drop",
    /// Dropped: a DNS response. Two servers must never talk to each other.
    Response = "drop_response",
    /// Dropped: by a rule of `geodns block`, or of the configuration's `[[block]]`.
    Blocked = "drop_blocked",
    /// The frame could neither be answered nor given back as it came.
    Aborted = "aborted",
    /// Passed: neither IPv4 nor IPv6, more than two VLAN tags, or headers that are not in the packet's first buffer.
    NotIp = "pass_not_ip",
    /// Passed: not UDP.
    NotUdp = "pass_not_udp",
    /// Passed: UDP to another port.
    OtherPort = "pass_other_port",
    /// Passed: to an address that we do not serve, or in a VLAN that the interface does not have.
    OtherAddress = "pass_other_address",
    /// Passed: to another machine's MAC address, or to many.
    OtherMac = "pass_other_mac",
    /// Passed: a source that nobody can be asked back at (martian), or source port 0.
    Martian = "pass_martian",
    /// Passed: UDP over IPv6 without a checksum (RFC 8200 section 8.1).
    NoChecksum = "pass_no_checksum",
    /// Passed: shorter than its headers say.
    Truncated = "pass_truncated",
    /// Passed: the daemon has not been heard for kernel.stale_after.
    Stale = "pass_stale",
    /// Passed: UDP to an address that we serve, with IPv4 options or an IPv6 extension header, to our port or one that cannot be seen.
    IpOptions = "pass_ip_options",
    /// Passed: a fragment of UDP to an address that we serve, to our port or one that cannot be seen.
    Fragment = "pass_fragment",
    /// Passed: a UDP checksum that is wrong, in generic mode: the network stack drops it, if it does not know better.
    Checksum = "pass_checksum",
    /// Passed: a DNS message too short or too long for the fast path.
    MessageSize = "pass_message_size",
    /// Passed: another opcode than QUERY, or header bits that a query does not set.
    Header = "pass_header",
    /// Passed: other than one question, or records beside it and an OPT.
    Counts = "pass_counts",
    /// Passed: a question name that is malformed or compressed.
    BadName = "pass_bad_name",
    /// Passed: a question name of more labels than the fast path walks.
    ManyLabels = "pass_many_labels",
    /// Passed: another class than IN.
    Class = "pass_class",
    /// Passed: a type for the slow path (ANY and others that are no data; DS).
    Qtype = "pass_qtype",
    /// Passed: bytes after the last record.
    Trailing = "pass_trailing",
    /// Passed: an EDNS OPT that is malformed, or another record in its place.
    BadOpt = "pass_bad_opt",
    /// Passed: another EDNS version than 0.
    EdnsVersion = "pass_edns_version",
    /// Passed: an EDNS option for the slow path (a client subnet that is malformed or special, a malformed cookie), or more than eight.
    EdnsOption = "pass_edns_option",
    /// Passed: a name in no zone, or an absent one in a zone that the name table does not hold whole.
    UnknownName = "pass_unknown_name",
    /// Passed: a zone cut, a DNAME, a name below one, or another name that the slow path answers for.
    SlowName = "pass_slow_name",
    /// Passed: records of a zone file that the fast path does not hold, or a CNAME to be followed.
    SlowRecords = "pass_slow_records",
    /// Passed: the zone is being changed.
    ZonePass = "pass_zone",
    /// Passed: the prefix table has no region for the client, or a longer prefix than /64.
    NoRegion = "pass_no_region",
    /// Passed: the records of the pool, or the zone's SOA, are more than the fast path holds.
    SlowPool = "pass_slow_pool",
    /// Passed: the answer is larger than the client takes over UDP.
    TooLarge = "pass_too_large",
    /// Passed: the frame has no room to grow, or has several buffers.
    NoRoom = "pass_no_room",
    /// Passed: an invariant of the tables did not hold.
    Internal = "pass_internal",
}

counted! {
    /// A fact that is counted beside a verdict.
    Tally:
    /// Clients that have shown a good cookie.
    CookieGood = "cookie_good",
    /// Cookies that were made: for clients that have shown none, or one that was not good or old.
    CookieMade = "cookie_made",
    /// Queries over the limit of responses that were answered all the same, with rrl.dry_run.
    OverLimit = "limited_dry_run",
    /// Samples for `geodns top` or `geodns capture` that found the ring buffer full.
    WatchLost = "watch_lost",
}

counted! {
    /// The fate of a packet, coarser than its verdict: counted for each interface.
    Fate:
    /// Answered.
    Answered = "answered",
    /// Dropped: by a rule or a limit, over a budget, a DNS response, or aborted.
    Dropped = "dropped",
    /// Passed: neither IPv4 nor IPv6.
    NotIp = "not_ip",
    /// Passed: not UDP.
    NotUdp = "not_udp",
    /// Passed: UDP to another port.
    OtherPort = "other_port",
    /// Passed: to an address that we do not serve, or in a VLAN that the interface does not have.
    OtherAddress = "other_address",
    /// Passed: to another machine's MAC address.
    OtherMac = "other_mac",
    /// Passed: a query to us that is for the slow path.
    Passed = "passed",
}

impl Fate {
    /// Fates, a power of two, so that an index can be masked.
    pub const COUNT: usize = 8;
    /// Whether the program has not looked whether the packet is a query to us, or found it to be none.
    pub const fn is_unread(self) -> bool {
        self as u32 >= Self::NotIp as u32 && self as u32 <= Self::OtherMac as u32
    }

    /// Verdicts between [`Verdict::NotIp`] and [`Verdict::OtherMac`] are fates as well, and stand so far behind them.
    const BEHIND: u32 = Verdict::NotIp as u32 - Self::NotIp as u32;
}

const _: () = {
    assert!(Fate::ALL.len() == Fate::COUNT);
    assert!(Verdict::OtherMac as u32 - Fate::OtherMac as u32 == Fate::BEHIND);
    assert!(Fate::Passed as u32 == Fate::OtherMac as u32 + 1);
};

/// Counters, a power of two, so that an index can be masked: those of verdicts; from the half on those of what
/// was over the budget of each; the last ones are tallies'.
pub const COUNTERS: usize = 128;

const _: () = assert!(Verdict::ALL.len() <= (Tally::FIRST - Verdict::OVER_BUDGET) as usize);

impl Tally {
    /// Counter of the first one: they are the last counters.
    const FIRST: u32 = COUNTERS as u32 - Self::ALL.len() as u32;

    /// Its counter.
    pub const fn index(self) -> u32 {
        Self::FIRST + self as u32
    }

    /// The tally with this counter.
    pub const fn from_index(index: u32) -> Option<Self> {
        if index >= Self::FIRST && index < COUNTERS as u32 {
            Some(Self::ALL[(index - Self::FIRST) as usize])
        } else {
            None
        }
    }
}

impl Verdict {
    /// Whether the packet was answered.
    pub const fn is_answer(self) -> bool {
        self as u32 <= Self::Slipped as u32
    }

    /// Whether the packet goes no further.
    pub const fn is_drop(self) -> bool {
        self as u32 >= Self::Limited as u32 && self as u32 <= Self::Blocked as u32
    }

    /// The number of the packet's [`Fate`], if the packet is not over a budget.
    #[inline(always)]
    pub const fn fate(self) -> u32 {
        if self.is_answer() {
            Fate::Answered as u32
        } else if (self as u32) < Self::NotIp as u32 {
            Fate::Dropped as u32
        } else if self as u32 > Self::OtherMac as u32 {
            Fate::Passed as u32
        } else {
            self as u32 - Fate::BEHIND
        }
    }

    /// How far the counter of packets that were dropped, since too many had been passed for the same reason, is
    /// from that of the verdict.
    pub const OVER_BUDGET: u32 = COUNTERS as u32 / 2;

    /// Whether the packet is for the slow path, of which each reason has a budget.
    #[inline(always)]
    pub const fn has_budget(self) -> bool {
        self as u32 >= Self::IpOptions as u32 && self as u32 <= Self::NoRoom as u32
    }

    /// The verdict with this counter.
    #[inline(always)]
    pub fn from_index(index: u32) -> Option<Self> {
        Self::ALL.get(opaque(index as usize)).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_verdict_has_the_fate_that_its_name_says() {
        for verdict in Verdict::ALL {
            let fate = Fate::ALL[verdict.fate() as usize];
            let expected = match verdict.name().strip_prefix("pass_") {
                None if verdict.is_answer() => "answered",
                None => "dropped",
                Some(
                    name @ ("not_ip" | "not_udp" | "other_port" | "other_address" | "other_mac"),
                ) => name,
                Some(_) => "passed",
            };
            assert_eq!(fate.name(), expected, "{verdict:?}");
        }
    }
}

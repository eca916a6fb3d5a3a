//! The scratch: a frame, and what becomes known of the query in it.
//!
//! It is a per-CPU map value in the kernel and plain memory on the host. Every index is masked: the verifier sees that
//! nothing is outside, and nothing can panic.

use crate::abi::{Family, MAX_ANSWER_MIRRORS, SOA_WORDS};
use crate::address::{self, Address};
use crate::cookie;
use crate::opaque::opaque;
use crate::verdict::Verdict;
use crate::wire::{self, HEADER_LEN, NameWords};

/// Octets of a frame that the scratch holds, a power of two.
pub const FRAME: usize = 2048;
/// Octets behind the frame, so that the most words that are written at once, from the last index on, are
/// inside.
const SLACK: usize = 8 * SOA_WORDS;
/// Where the DNS message starts in the frame. Before it is room for the longest headers that are
/// answered (Ethernet, two tags, IPv6, UDP: 70 octets); the name, 12 octets on, is aligned.
pub const MESSAGE: u32 = 76;
/// Octets of a query, at the most.
pub const MAX_QUERY: u32 = 512;
/// Octets of a query, at the least: a header, the root, a type and a class.
pub const MIN_QUERY: u32 = HEADER_LEN + 5;
/// Labels of a name, at the most.
pub const MAX_LABELS: usize = 16;

/// Where the UDP header is in the frame.
const UDP: u32 = MESSAGE - 8;
/// Where the name of the question starts.
pub(crate) const NAME: u32 = MESSAGE + HEADER_LEN;

/// A frame and what is known about it.
#[repr(C, align(8))]
pub struct Scratch {
    /// The frame, and behind it as much as is written at once, from any index on.
    pub frame: [u8; FRAME + SLACK],
    /// The question's name, lowercased.
    pub name: NameWords,
    /// Hash of the last name (or suffix) looked up.
    pub hash: [u64; 2],
    /// Where each label of the name starts, from the name's start.
    pub(crate) labels: [u32; MAX_LABELS],
    /// The client subnet option as it came, code and length included, and what follows it.
    pub(crate) ecs: [u64; 3],
    /// Where it stands in the frame.
    pub(crate) ecs_at: u32,
    /// Octets of it; 0: there is none.
    pub(crate) ecs_len: u32,
    /// Scope prefix length to give back with it.
    pub(crate) scope: u32,
    /// Where the cookie option stands in the frame.
    pub(crate) cookie_at: u32,
    /// Octets of the option's data; 0: there is none, or none goes back.
    pub(crate) cookie_len: u32,
    /// The cookie that goes back: the client's part, and ours ([`Served`](cookie::Served)).
    pub(crate) cookie: [u64; 3],
    /// Octets of the NSID option that goes back; 0: none.
    pub(crate) nsid_len: u32,
    /// Queries that were over the limit.
    pub(crate) over_limit: u32,
    /// The limit's decision on this query: 0, or [`Scratch::TOKEN_TAKEN`], or [`Scratch::LET_PASS`]. Its reader
    /// sets it to 0.
    pub limited: u32,
    /// 1: the client has shown a good cookie.
    pub(crate) cookie_is_good: u32,
    /// Seconds since 1970, when `heard_at` was.
    pub now: u32,
    /// Nanoseconds of CLOCK_MONOTONIC_COARSE then: the clock of the buckets.
    pub clock: u64,
    /// 1 if the packet came over IPv6.
    pub(crate) source_is_v6: u32,
    /// Where the packet came from, in memory order, IPv4 in the first four octets.
    pub(crate) source: [u64; 2],
    /// TTL of the answer.
    pub(crate) ttl: u32,
    /// Where the records end.
    pub(crate) end: u32,
    /// How many they are.
    pub(crate) records: u32,
    /// Mirrors of the answer.
    pub(crate) chosen: [u32; MAX_ANSWER_MIRRORS as usize],
    /// Tick of the kernel's clock at which the daemon was last known to be there.
    pub heard_at: u64,
    /// The row of [`BlockTable`](crate::block::BlockTable), at that tick.
    pub block_rules: u64,
    /// The row of [`Watch`](crate::watch::Watch), at that tick.
    pub watch: u64,
    /// The reasons to report this packet: [`Watch::SAMPLE`](crate::watch::Watch::SAMPLE) and the other. Only the
    /// program does.
    pub watched: u32,
    /// Queries that were captured, or not.
    pub captured: u32,
    /// 1: the program runs in the network stack, not in a driver.
    pub generic: u32,
    /// 1: the response is to have an unfinished checksum, where the query has its own.
    pub partial: u32,
    /// Where the IP header of a packet starts that is looked at again, and [`Scratch::IS_V6`].
    pub ip_at: u32,
    /// Order of the client's region.
    pub order: u64,
    /// The labels that the name was last hashed without, for a rule.
    pub(crate) hashed: u32,
    /// The pool that was asked last.
    pub pool: u32,
    /// The counter of the mirror that is first in the answer, where answers are counted by mirror.
    pub counter: u32,
    /// The slot of the name that was found last.
    pub(crate) slot: u32,
    /// Octets of the message: the query's, and after an answer the response's.
    pub message_len: u32,
    /// Octets of the name.
    pub name_len: u32,
    /// The client's address family: 1 for IPv6.
    pub client_is_v6: u32,
    /// See [`Scratch::forget`].
    kept: u32,
    /// See [`Scratch::forget64`].
    kept64: u64,
    pub(crate) query: Query,
    /// The client's address; that of its subnet, once one was read.
    pub client: Address,
}

impl Scratch {
    /// All zeros.
    pub const fn new() -> Self {
        Self {
            frame: [0; FRAME + SLACK],
            name: [0; wire::NAME_WORDS],
            hash: [0; 2],
            labels: [0; MAX_LABELS],
            ecs: [0; 3],
            ecs_at: 0,
            ecs_len: 0,
            scope: 0,
            cookie_at: 0,
            cookie_len: 0,
            cookie: [0; 3],
            nsid_len: 0,
            over_limit: 0,
            limited: 0,
            cookie_is_good: 0,
            now: 0,
            clock: 0,
            source_is_v6: 0,
            source: [0; 2],
            ttl: 0,
            end: 0,
            records: 0,
            chosen: [0; MAX_ANSWER_MIRRORS as usize],
            heard_at: 0,
            block_rules: 0,
            watch: 0,
            watched: 0,
            captured: 0,
            generic: 0,
            partial: 0,
            ip_at: 0,
            order: 0,
            hashed: 0,
            pool: 0,
            counter: 0,
            slot: 0,
            message_len: 0,
            name_len: 0,
            client_is_v6: 0,
            kept: 0,
            kept64: 0,
            query: Query {
                name_len: 0,
                labels: 0,
                qtype: 0,
                is_aaaa: 0,
                rd: 0,
                limit: 0,
                edns: 0,
                flags: 0,
            },
            client: [0; 16],
        }
    }

    /// Puts a query in. `false`: it is longer than the frame.
    pub fn set_query(&mut self, query: &[u8], client: core::net::IpAddr) -> bool {
        let start = MESSAGE as usize;
        let Some(place) = self.frame.get_mut(start..start + query.len()) else {
            return false;
        };
        place.copy_from_slice(query);
        self.message_len = query.len() as u32;
        match client {
            core::net::IpAddr::V4(address) => {
                self.set_source_v4(u32::from_ne_bytes(address.octets()));
            }
            core::net::IpAddr::V6(address) => {
                let bits = address.to_bits();
                self.set_source_v6([(bits >> 64) as u64, bits as u64].map(u64::to_be));
            }
        }
        true
    }

    /// Sets where the packet came from, and the client: an IPv4 address, in memory order.
    #[inline(always)]
    pub fn set_source_v4(&mut self, address: u32) {
        let first = u64::from(address);
        let first = if cfg!(target_endian = "big") {
            first << 32
        } else {
            first
        };
        (self.source_is_v6, self.client_is_v6) = (0, 0);
        self.source = [first, 0];
        self.set_client([first, 0]);
    }

    /// The same, an IPv6 address.
    #[inline(always)]
    pub fn set_source_v6(&mut self, address: [u64; 2]) {
        (self.source_is_v6, self.client_is_v6) = (1, 1);
        self.source = address;
        self.set_client(address);
    }

    /// Hashes the first two words of `cookie` into the third ([`cookie::hash`]).
    #[inline(always)]
    pub fn hash_cookie(&mut self, secret: cookie::Secret) {
        let [client, head, _] = self.cookie;
        let is_v6 = self.source_is_v6 != 0;
        self.cookie[2] = cookie::hash(secret, client, head, self.source, is_v6);
    }

    /// Sets the client's address, in memory order: word by word, where octet by octet is what LLVM might
    /// make of it.
    #[inline(always)]
    pub(crate) fn set_client(&mut self, words: [u64; 2]) {
        // SAFETY: two words are as long as an address.
        unsafe {
            (&raw mut self.client)
                .cast::<[u64; 2]>()
                .write_unaligned(words)
        }
    }

    /// In `ip_at`: the header is one of IPv6.
    pub const IS_V6: u32 = 1 << 7;

    /// In `limited`: a token was taken.
    pub const TOKEN_TAKEN: u32 = 1;
    /// In `limited`: there was no token, and nothing came of it ([`Limit::dry_run`]).
    ///
    /// [`Limit::dry_run`]: crate::abi::Limit::dry_run
    pub const LET_PASS: u32 = 2;

    /// Where the packet came from, as tries of prefixes are indexed.
    #[inline(always)]
    pub fn source_key(&self) -> [u32; 4] {
        address::trie_key(self.source, self.source_is_v6 != 0)
    }

    /// The /24 or /56 that the packet came from.
    #[inline(always)]
    pub fn source_prefix(&self) -> u64 {
        address::prefix(self.source, self.source_is_v6 != 0)
    }

    /// Where the packet came from, in memory order, IPv4 in the first four octets, and whether that is IPv6.
    #[inline(always)]
    pub fn source(&self) -> ([u64; 2], bool) {
        (self.source, self.source_is_v6 != 0)
    }

    /// Reads the first question of any message, whether the fast path would answer it or not: name,
    /// lowercased, and type. If there is none, the name has no octets.
    #[inline(always)]
    pub fn read_question(&mut self) {
        self.query.name_len = 0;
        let message_len = self.message_len;
        if !(MIN_QUERY..=MAX_QUERY).contains(&message_len) || self.get16(MESSAGE + 4) == 0 {
            return;
        }
        let end = MESSAGE + message_len;
        let Ok(labels) = walk_name(self, end) else {
            return;
        };
        let labels = self.forget(labels);
        let name_len = self.forget(self.name_len);
        let at = NAME + name_len;
        if at + 4 > end {
            return;
        }
        self.query.labels = labels;
        self.query.qtype = self.get16(at) as u32;
        self.hashed = u32::MAX;
        let mut word = 0;
        while word < wire::NAME_WORDS / 2 {
            if 8 * word as u32 >= name_len {
                break;
            }
            lowercase(self, word);
            word += 1;
        }
        self.query.name_len = name_len;
    }

    /// Octets and labels of the question's name, and its type. No octets: there is none.
    #[inline(always)]
    pub fn question(&self) -> (u32, u32, u32) {
        (self.query.name_len, self.query.labels, self.query.qtype)
    }

    /// The mirror that is first in the answer.
    #[inline(always)]
    pub fn first_mirror(&self) -> u32 {
        self.chosen[0]
    }

    /// The message.
    pub fn message(&self) -> &[u8] {
        let start = MESSAGE as usize;
        self.frame
            .get(start..start + self.message_len as usize)
            .unwrap_or(&[])
    }

    /// The type that was asked for, of a query that was understood.
    pub fn qtype(&self) -> u16 {
        self.query.qtype as u16
    }

    /// The octet at an index of the frame.
    #[inline(always)]
    pub fn get8(&self, at: u32) -> u8 {
        self.frame[at as usize & (FRAME - 1)]
    }

    /// Two octets in network order.
    #[inline(always)]
    pub fn get16(&self, at: u32) -> u16 {
        // SAFETY: the masked index and 8 octets from it are inside the frame.
        u16::from_be(unsafe { self.at(at).cast::<u16>().read_unaligned() })
    }

    /// Eight octets, in memory order.
    #[inline(always)]
    pub(crate) fn get64(&self, at: u32) -> u64 {
        // SAFETY: the masked index and 8 octets from it are inside the frame.
        unsafe { self.at(at).cast::<u64>().read_unaligned() }
    }

    /// Checks the UDP checksum of a query that the network stack has (RFC 768; RFC 8200 section 8.1), and keeps in
    /// `partial` whether the response is to have one that is as unfinished. `false`: it is wrong.
    ///
    /// A sender on this machine leaves the checksum to its card: it is that of the pseudo-header alone. The stack knows
    /// this of such a packet, and the card that sends it finishes it, at the place where it was. So the response needs
    /// an unfinished one at the same place. (A driver that runs the program forgets it, and the response needs a whole
    /// one.)
    #[inline(always)]
    pub fn check_sum(&mut self) -> bool {
        let sum = self.get16(UDP + 6).to_be();
        if sum == 0 {
            return true;
        }
        let message_len = self.message_len;
        let words = if self.source_is_v6 != 0 { 8 } else { 2 };
        // The rest of the pseudo-header is the protocol, and the length.
        let len = u64::from((8 + message_len as u16).to_be());
        let mut pseudo = len + u64::from(17_u16.to_be());
        let mut word = 0;
        while word < 8 {
            if word >= words {
                break;
            }
            word += 1;
            pseudo += self.get_aligned32(UDP - 4 * word);
        }
        let octets = (4 + message_len) & 0x3ff;
        let mut whole = pseudo + self.get_aligned32(UDP);
        let mut at = 0;
        while at < 4 + MAX_QUERY {
            if at + 8 > octets {
                break;
            }
            let next = self.get_aligned64(UDP + 4 + at);
            whole += (next >> 32) + (next & 0xffff_ffff);
            at += 8;
        }
        let last = u64::from_le(self.get_aligned64(UDP + 4 + (octets & !7)));
        let last = wire::first_octets(last, octets).to_le();
        whole += (last >> 32) + (last & 0xffff_ffff);
        let (is_whole, is_partial) = (wire::fold(whole) == 0, wire::fold(pseudo) == !sum);
        self.partial = u32::from(is_partial);
        // One that may be both is left to who knows.
        is_whole != is_partial
    }

    /// Four octets, in memory order, at a multiple of four.
    #[inline(always)]
    fn get_aligned32(&self, at: u32) -> u64 {
        // SAFETY: the masked index and 4 octets from it are inside the frame, which is aligned.
        u64::from(unsafe { self.at(at & !3).cast::<u32>().read() })
    }

    /// Eight octets, in memory order, at a multiple of eight.
    #[inline(always)]
    fn get_aligned64(&self, at: u32) -> u64 {
        // SAFETY: the masked index and 8 octets from it are inside the frame, which is aligned.
        unsafe { self.at(at & !7).cast::<u64>().read() }
    }

    /// Sets an octet.
    #[inline(always)]
    pub fn put8(&mut self, at: u32, value: u8) {
        self.frame[at as usize & (FRAME - 1)] = value;
    }

    /// Sets two octets, in network order.
    #[inline(always)]
    pub fn put16(&mut self, at: u32, value: u16) {
        // SAFETY: the masked index and 8 octets from it are inside the frame.
        unsafe { self.at_mut(at).cast::<u16>().write_unaligned(value.to_be()) }
    }

    /// Sets four octets, in network order.
    #[inline(always)]
    pub(crate) fn put32(&mut self, at: u32, value: u32) {
        // SAFETY: the masked index and 8 octets from it are inside the frame.
        unsafe { self.at_mut(at).cast::<u32>().write_unaligned(value.to_be()) }
    }

    /// Sets eight octets, in memory order.
    #[inline(always)]
    pub fn put64(&mut self, at: u32, value: u64) {
        // SAFETY: the masked index and 8 octets from it are inside the frame.
        unsafe { self.at_mut(at).cast::<u64>().write_unaligned(value) }
    }

    /// Gives back the number, of which the verifier knows nothing any more: paths that differ in
    /// it alone are one path from here on, and are walked once. LLVM knows as little, so that it
    /// leaves the checks in that the verifier needs.
    #[inline(always)]
    pub fn forget(&mut self, number: u32) -> u32 {
        let kept = &raw mut self.kept;
        // SAFETY: a field of ours.
        unsafe {
            kept.write_volatile(number);
            kept.read_volatile()
        }
    }

    /// Whether the question's name has an upper-case letter, eight octets at a time: names in records, which keep
    /// their case, do not point to it then.
    #[inline(always)]
    pub fn has_upper(&self) -> bool {
        let name_len = self.query.name_len;
        let mut differs = 0;
        let mut at = 0;
        while at < wire::MAX_NAME + 1 {
            if at >= name_len {
                break;
            }
            // In the last word, what follows the name is not of it.
            let octets = (name_len - at).min(8);
            let name = u64::from_le(self.get64(NAME + at));
            let lower = self.name[(at as usize / 8) & (wire::NAME_WORDS / 2 - 1)];
            differs |= (name ^ lower) << (64 - 8 * octets);
            at += 8;
        }
        differs != 0
    }

    /// As [`Scratch::forget`].
    #[inline(always)]
    pub fn forget64(&mut self, number: u64) -> u64 {
        let kept = &raw mut self.kept64;
        // SAFETY: a field of ours.
        unsafe {
            kept.write_volatile(number);
            kept.read_volatile()
        }
    }

    /// Puts the query where it is read from when it is wanted, as after [`Scratch::forget`]: the stack
    /// has no room for it.
    #[inline(always)]
    pub(crate) fn set_parsed(&mut self, query: Query) {
        let kept = &raw mut self.query;
        // SAFETY: a field of ours.
        unsafe { kept.write_volatile(query) }
    }

    #[inline(always)]
    fn at(&self, at: u32) -> *const u8 {
        // SAFETY: the index is masked to the frame.
        unsafe { self.frame.as_ptr().add(at as usize & (FRAME - 1)) }
    }

    /// An index of the frame, from which [`SLACK`] octets are inside.
    #[inline(always)]
    fn at_mut(&mut self, at: u32) -> *mut u8 {
        // SAFETY: the index is masked to the frame.
        unsafe { self.frame.as_mut_ptr().add(at as usize & (FRAME - 1)) }
    }

    /// Sets words, in memory order, from an index on.
    #[inline(always)]
    pub(crate) fn put_words<const N: usize>(&mut self, at: u32, words: impl Fn(usize) -> u64) {
        const { assert!(8 * N <= SLACK) };
        let to = self.at_mut(at).cast::<u64>();
        let mut word = 0;
        while word < N {
            // SAFETY: so many words are inside, as is asserted.
            unsafe { to.add(word).write_unaligned(words(word)) };
            word += 1;
        }
    }
}

/// An index of the frame, bounded where the verifier sees it: LLVM, which knows more of where it
/// came from, would leave the mask out.
#[inline(always)]
pub(crate) fn bounded(at: u32) -> u32 {
    (opaque(at as usize) & (FRAME - 1)) as u32
}

impl Default for Scratch {
    fn default() -> Self {
        Self::new()
    }
}

/// A query that the fast path understands.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Query {
    /// Octets of the name.
    pub(crate) name_len: u32,
    /// Labels of the name, the root not counted.
    pub(crate) labels: u32,
    /// Type.
    pub(crate) qtype: u32,
    /// AAAA.
    pub(crate) is_aaaa: u32,
    /// RD, as it stands in the header.
    pub(crate) rd: u32,
    /// Octets of a response, at the most.
    pub(crate) limit: u32,
    /// 1 if there was an OPT.
    pub(crate) edns: u32,
    /// The OPT's flags to give back.
    pub(crate) flags: u32,
}

impl Query {
    /// Where the records start.
    #[inline(always)]
    pub(crate) fn end(self) -> u32 {
        MESSAGE + HEADER_LEN + self.name_len + 4
    }

    /// Whether it asks for addresses.
    #[inline(always)]
    pub(crate) fn is_for_addresses(self) -> bool {
        self.qtype == wire::TYPE_A as u32 || self.is_aaaa != 0
    }

    #[inline(always)]
    pub(crate) fn family(self) -> Family {
        if self.is_aaaa != 0 {
            Family::V6
        } else {
            Family::V4
        }
    }
}

/// Notes where the labels start, and the length of the name. Gives the number of labels.
#[inline(always)]
pub(crate) fn walk_name(scratch: &mut Scratch, end: u32) -> Result<u32, Verdict> {
    let mut at = 0;
    let mut labels = 0;
    while labels <= MAX_LABELS as u32 {
        if NAME + at >= end {
            return Err(Verdict::BadName);
        }
        let len = scratch.get8(NAME + at);
        if len == 0 {
            scratch.name_len = at + 1;
            return Ok(labels);
        }
        if len > wire::MAX_LABEL {
            return Err(Verdict::BadName);
        }
        if labels == MAX_LABELS as u32 {
            return Err(Verdict::ManyLabels);
        }
        scratch.labels[labels as usize & (MAX_LABELS - 1)] = at;
        labels += 1;
        at += len as u32 + 1;
        if at >= wire::MAX_NAME {
            return Err(Verdict::BadName);
        }
    }
    Err(Verdict::ManyLabels)
}

/// Lowercases a word of the name.
#[inline(always)]
pub(crate) fn lowercase(scratch: &mut Scratch, word: usize) -> u64 {
    let word = word & (wire::NAME_WORDS / 2 - 1);
    let at = NAME as usize + 8 * word;
    // SAFETY: 88 and 32 words more are inside the frame; the frame is aligned, and 88 too.
    let octets = unsafe { scratch.frame.as_ptr().add(at).cast::<u64>().read() };
    let lowercased = wire::lowercase(u64::from_le(octets));
    scratch.name[word] = lowercased;
    lowercased
}

#[cfg(test)]
mod tests {
    extern crate std;

    use core::net::IpAddr;
    use std::vec::Vec;

    use proptest::prelude::*;

    use super::*;

    /// A checksum to send.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    enum Sum {
        None,
        Whole,
        Unfinished,
        Other(u16),
    }

    fn folded(octets: &[u8]) -> u16 {
        let words = octets.chunks(2).map(|pair| {
            let low = pair.get(1).copied().unwrap_or(0);
            u32::from(u16::from_be_bytes([pair[0], low]))
        });
        let sum: u32 = words.sum();
        let sum = (sum & 0xffff) + (sum >> 16);
        ((sum & 0xffff) + (sum >> 16)) as u16
    }

    /// Puts a datagram where the program loads it, and gives what the checksum became.
    fn put(scratch: &mut Scratch, ends: (IpAddr, IpAddr), message: &[u8], sum: Sum) -> u16 {
        let octets = |address| match address {
            IpAddr::V4(address) => Vec::from(core::net::Ipv4Addr::octets(&address)),
            IpAddr::V6(address) => Vec::from(core::net::Ipv6Addr::octets(&address)),
        };
        let len = (8 + message.len()) as u16;
        let addresses = [octets(ends.0), octets(ends.1)].concat();
        let pseudo = [&addresses[..], &[0, 17], &len.to_be_bytes()].concat();
        let mut udp = [
            &[0xd4, 0x31, 0, 53],
            &len.to_be_bytes()[..],
            &[0, 0],
            message,
        ]
        .concat();
        let check = match sum {
            Sum::None => 0,
            Sum::Whole => match !folded(&[&pseudo[..], &udp].concat()) {
                0 => 0xffff,
                sum => sum,
            },
            Sum::Unfinished => folded(&pseudo),
            Sum::Other(sum) => sum,
        };
        udp[6..8].copy_from_slice(&check.to_be_bytes());
        assert!(scratch.set_query(message, ends.0));
        let udp_at = UDP as usize;
        scratch.frame[udp_at - addresses.len()..udp_at].copy_from_slice(&addresses);
        scratch.frame[udp_at..udp_at + udp.len()].copy_from_slice(&udp);
        // What is left of another packet.
        scratch.frame[udp_at + udp.len()..].fill(0xa5);
        check
    }

    proptest! {
        #[test]
        fn a_checksum_is_right_or_unfinished_or_wrong(
            v4 in any::<([u8; 4], [u8; 4])>(),
            v6 in any::<([u8; 16], [u8; 16])>(),
            is_v6: bool,
            message in prop::collection::vec(any::<u8>(), MIN_QUERY as usize..=MAX_QUERY as usize),
            sum in prop_oneof![
                Just(Sum::None),
                Just(Sum::Whole),
                Just(Sum::Unfinished),
                any::<u16>().prop_map(Sum::Other),
            ],
        ) {
            let ends: (IpAddr, IpAddr) = match is_v6 {
                false => (v4.0.into(), v4.1.into()),
                true => (v6.0.into(), v6.1.into()),
            };
            let mut scratch = std::boxed::Box::new(Scratch::new());
            let whole = put(&mut scratch, ends, &message, Sum::Whole);
            let unfinished = put(&mut scratch, ends, &message, Sum::Unfinished);
            let check = put(&mut scratch, ends, &message, sum);
            // 0 and 0xffff are the same number.
            let is = |other: u16| check % 0xffff == other % 0xffff;
            let is_right = check == 0 || is(whole) != is(unfinished);
            prop_assert_eq!(scratch.check_sum(), is_right);
            let is_partial = check != 0 && is(unfinished);
            prop_assert_eq!(scratch.partial != 0, is_partial);
        }
    }
}

//! The fast path itself: a DNS query in, a DNS response out, or the reason to leave it alone.
//!
//! It works on a [`Scratch`], which is a per-CPU map value in the kernel and plain memory on the
//! host, and knows no packets. The query's message lies at [`MESSAGE`]; a response is built in its
//! place, so that the question stays byte for byte as it came. Every index is masked: the
//! verifier sees that nothing is outside, and nothing can panic.

use crate::abi::{
    ANSWER_WORDS, Answer, Family, MAX_ANSWER_MIRRORS, NSID_WORDS, Order, Pool, Row, SHELF_WORDS,
    SOA_WORDS, Set, SetType, Shelf, Stage, Target, Zone,
};
use crate::cookie;
use crate::limit;
use crate::opaque::opaque;
use crate::subnet;
use crate::tables::{self, Address, Found, Tables, find_name, find_order};
use crate::verdict::{Tally, Verdict};
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
/// EDNS options that are walked; a query with more is passed.
const MAX_OPTIONS: u32 = 8;

/// Where the name of the question starts.
const NAME: u32 = MESSAGE + HEADER_LEN;

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
    labels: [u32; MAX_LABELS],
    /// The client subnet option as it came, code and length included, and what follows it.
    ecs: [u64; 3],
    /// Where it stands in the frame.
    ecs_at: u32,
    /// Octets of it; 0: there is none.
    ecs_len: u32,
    /// Scope prefix length to give back with it.
    scope: u32,
    /// Where the cookie option stands in the frame.
    cookie_at: u32,
    /// Octets of the option's data; 0: there is none, or none goes back.
    cookie_len: u32,
    /// What goes back: the client's cookie, and ours ([`Served`](cookie::Served)).
    cookie: [u64; 3],
    /// Octets of the NSID option that goes back; 0: none.
    nsid_len: u32,
    /// Queries that were over the limit.
    over_limit: u32,
    /// What the limit has done with this query: 0, or [`Scratch::TOKEN_TAKEN`], or [`Scratch::LET_PASS`]. Whoever
    /// reads it sets it to 0.
    pub limited: u32,
    /// 1: the client has shown a good cookie.
    cookie_is_good: u32,
    /// Seconds since 1970, when `heard_at` was.
    pub now: u32,
    /// Nanoseconds of CLOCK_MONOTONIC_COARSE then: the clock of the buckets.
    pub clock: u64,
    /// 1 if the packet came over IPv6.
    source_is_v6: u32,
    /// Where the packet came from, in memory order, IPv4 in the first four octets.
    source: [u64; 2],
    /// TTL of the answer.
    ttl: u32,
    /// Where the records end.
    end: u32,
    /// How many they are.
    records: u32,
    /// Mirrors of the answer.
    chosen: [u32; MAX_ANSWER_MIRRORS as usize],
    /// Tick of the kernel's clock at which the daemon was last known to be there.
    pub heard_at: u64,
    /// The row of [`Rules`](crate::rules::Rules), at that tick.
    pub rules: u64,
    /// The row of [`Watch`](crate::watch::Watch), at that tick.
    pub watch: u64,
    /// What this packet is looked at for: [`Watch::SAMPLE`](crate::watch::Watch::SAMPLE) and the other. Only the
    /// program does.
    pub watched: u32,
    /// Queries that were captured, or not.
    pub captured: u32,
    /// Where the IP header of a packet starts that is looked at again, and [`Scratch::IS_V6`].
    pub ip_at: u32,
    /// Order of the client's region.
    pub order: u64,
    /// The labels that the name was last hashed without, for a rule.
    hashed: u32,
    /// The pool that was asked last.
    pub pool: u32,
    /// The slot of the name that was found last.
    slot: u32,
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
    query: Query,
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
            rules: 0,
            watch: 0,
            watched: 0,
            captured: 0,
            ip_at: 0,
            order: 0,
            hashed: 0,
            pool: 0,
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
    fn set_client(&mut self, words: [u64; 2]) {
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

    /// Whether so much has been answered to where the packet came from that this is too much. If not, a token
    /// is taken.
    #[inline(always)]
    pub fn is_over_limit<T: Tables>(&mut self, tables: &T) -> bool {
        let limit = &tables.settings().limit;
        let Some(cell) = self.cell(tables) else {
            return false;
        };
        if limit::take(cell, &limit.rate, self.clock) {
            self.limited = Self::TOKEN_TAKEN;
            return false;
        }
        limit.has_exempt == 0 || !tables.is_exempt(self.source, self.source_is_v6 != 0)
    }

    /// Puts the token back that [`Scratch::is_over_limit`] took.
    #[inline(always)]
    pub fn put_back<T: Tables>(&self, tables: &T) {
        if let Some(cell) = self.cell(tables) {
            limit::put_back(cell, &tables.settings().limit.rate);
        }
    }

    /// The bucket of where the packet came from.
    #[inline(always)]
    fn cell<'a, T: Tables>(&self, tables: &'a T) -> Option<&'a Row> {
        let key = tables.settings().limit.key;
        let number = limit::cell(key, self.source, self.source_is_v6 != 0);
        let page = tables.cells(number / limit::CELLS_OF_PAGE as u32)?;
        Some(&page[number as usize & (limit::CELLS_OF_PAGE - 1)])
    }

    /// Where the packet came from, as tries of prefixes are indexed.
    #[inline(always)]
    pub fn source_key(&self) -> [u32; 4] {
        limit::trie_key(self.source, self.source_is_v6 != 0)
    }

    /// The /24 or /56 that the packet came from.
    #[inline(always)]
    pub fn source_prefix(&self) -> u64 {
        limit::prefix(self.source, self.source_is_v6 != 0)
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

    /// Hashes the question's name without its first N labels, unless that was hashed last.
    #[inline(always)]
    pub fn hash_suffix<T: Tables>(&mut self, tables: &T, labels: u32) {
        if self.hashed == labels {
            return;
        }
        self.hashed = labels;
        let from = if labels >= self.query.labels {
            self.name_len.wrapping_sub(1)
        } else {
            self.labels[labels as usize & (MAX_LABELS - 1)]
        };
        tables.hash(self, from);
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
    fn get64(&self, at: u32) -> u64 {
        // SAFETY: the masked index and 8 octets from it are inside the frame.
        unsafe { self.at(at).cast::<u64>().read_unaligned() }
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
    fn put32(&mut self, at: u32, value: u32) {
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

    /// Adds the octets of the question's name to the pointers of records that start at `end`: where they stand is
    /// said at a place on the shelves.
    #[inline(always)]
    pub fn put_pointers<T: Tables>(&mut self, tables: &T, end: u32, listed: u32, pointers: u32) {
        let Some(shelf) = tables.shelf(listed / SHELF_WORDS as u32) else {
            return;
        };
        let name_len = self.query.name_len as u16;
        let mut at = 0;
        while at < SetType::MAX_POINTERS {
            if at >= pointers {
                break;
            }
            let four = word(shelf, listed + at / 4);
            let place = end + (four >> (16 * (at & 3))) as u16 as u32;
            let pointer = self.get16(place).wrapping_add(name_len);
            self.put16(place, pointer);
            at += 1;
        }
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
    fn set_parsed(&mut self, query: Query) {
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
    fn put_words<const N: usize>(&mut self, at: u32, words: impl Fn(usize) -> u64) {
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
fn bounded(at: u32) -> u32 {
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
struct Query {
    /// Octets of the name.
    name_len: u32,
    /// Labels of the name, the root not counted.
    labels: u32,
    /// Type.
    qtype: u32,
    /// AAAA.
    is_aaaa: u32,
    /// RD, as it stands in the header.
    rd: u32,
    /// Octets of a response, at the most.
    limit: u32,
    /// 1 if there was an OPT.
    edns: u32,
    /// The OPT's flags to give back.
    flags: u32,
}

impl Query {
    /// Where the records start.
    #[inline(always)]
    fn end(self) -> u32 {
        MESSAGE + HEADER_LEN + self.name_len + 4
    }

    /// Whether it asks for addresses.
    #[inline(always)]
    fn is_for_addresses(self) -> bool {
        self.qtype == wire::TYPE_A as u32 || self.is_aaaa != 0
    }

    #[inline(always)]
    fn family(self) -> Family {
        if self.is_aaaa != 0 {
            Family::V6
        } else {
            Family::V4
        }
    }
}

/// Answers the query in the scratch, or says why not. When it is answered,
/// [`Scratch::message_len`] is the response's; otherwise the scratch is of no further use.
#[inline(always)]
pub fn respond<T: Tables>(scratch: &mut Scratch, tables: &T) -> Verdict {
    match try_respond(scratch, tables) {
        Ok(verdict) | Err(verdict) => verdict,
    }
}

#[inline(always)]
fn try_respond<T: Tables>(scratch: &mut Scratch, tables: &T) -> Result<Verdict, Verdict> {
    if let Some(verdict) = admit(scratch, tables)? {
        return Ok(verdict);
    }
    if tables.settings().stops_after(Stage::Question) {
        return Err(Verdict::Internal);
    }
    let target = find(scratch, tables)?;
    let target = scratch.forget64(target);
    if tables.settings().stops_after(Stage::Name) {
        return Err(Verdict::Internal);
    }
    let zone = tables
        .zone((target >> 16) as u32 & 0xffff)
        .ok_or(Verdict::Internal)?;
    let state = zone.row.load();
    if state & Zone::PASS != 0 {
        return Err(Verdict::ZonePass);
    }
    let verdict = if target & ABSENT == 0 {
        let found = put_found(scratch, tables, target)?;
        if state & Zone::COMPLETE == 0 {
            tables.count_asked(scratch.slot);
        }
        found
    } else if state & Zone::COMPLETE != 0 {
        Verdict::Nxdomain
    } else {
        return Err(Verdict::UnknownName);
    };
    let verdict = scratch.forget(verdict as u32);
    if verdict == Verdict::Nodata as u32 || verdict == Verdict::Nxdomain as u32 {
        let end = put_soa(scratch, tables, zone)?;
        finish(scratch, tables, end, 0, 1)?;
        if verdict == Verdict::Nodata as u32 {
            return Ok(Verdict::Nodata);
        }
        scratch.put8(MESSAGE + 3, wire::NXDOMAIN);
        return Ok(Verdict::Nxdomain);
    }
    let (end, records) = (scratch.end, scratch.records);
    finish(scratch, tables, end, records as u16, 0)?;
    if verdict == Verdict::Answered as u32 {
        return Ok(Verdict::Answered);
    }
    if verdict == Verdict::Static as u32 {
        return Ok(Verdict::Static);
    }
    fail(scratch);
    Ok(Verdict::Servfail)
}

/// Reads the query, and keeps the limit of responses. Gives a verdict if the query is over the limit, and the
/// scratch holds what it is answered with. So does the slow path with a query that it is to answer, of which an
/// error other than [`Verdict::Limited`] says nothing to it.
#[inline(always)]
pub fn admit<T: Tables>(scratch: &mut Scratch, tables: &T) -> Result<Option<Verdict>, Verdict> {
    let read = read(scratch, tables);
    if tables.settings().limit.rate.interval == 0 {
        return read.map(|()| None);
    }
    let refused = read.err().map_or(UNDERSTOOD, |refused| refused as u32);
    let refused = scratch.forget(refused);
    if let Some(verdict) = limit(scratch, tables, refused)? {
        return Ok(Some(verdict));
    }
    if refused != UNDERSTOOD {
        return Err(Verdict::from_index(refused).unwrap_or(Verdict::Internal));
    }
    Ok(None)
}

/// No verdict: the query was understood.
const UNDERSTOOD: u32 = u32::MAX;

/// Reads the query, and makes ready the options that go back.
#[inline(always)]
fn read<T: Tables>(scratch: &mut Scratch, tables: &T) -> Result<(), Verdict> {
    let query = parse(scratch)?;
    scratch.set_parsed(query);
    if query.edns != 0 {
        serve_options(scratch, tables)?;
        let payload = tables.settings().limit.payload;
        if payload != 0 && scratch.cookie_is_good == 0 {
            scratch.query.limit = scratch.query.limit.min(payload);
        }
    }
    Ok(())
}

/// Takes a token for the client's prefix, which is put back if the query is passed: whoever answers it takes one.
/// If there is none: a verdict instead of an answer. A client that has shown a good cookie needs none; one that has shown another gets a good one back now and then, with
/// BADCOOKIE (RFC 7873 section 5.2.3), and who has none TC, so that it may come back over TCP.
#[inline(always)]
fn limit<T: Tables>(
    scratch: &mut Scratch,
    tables: &T,
    refused: u32,
) -> Result<Option<Verdict>, Verdict> {
    let limit = &tables.settings().limit;
    if refused == Verdict::Response as u32
        || refused == UNDERSTOOD && scratch.cookie_is_good != 0
        || !tables.is_over_limit(scratch)
    {
        return Ok(None);
    }
    if limit.dry_run != 0 {
        scratch.limited = Scratch::LET_PASS;
        return Ok(None);
    }
    scratch.over_limit = scratch.over_limit.wrapping_add(1);
    let slips = limit.slip != 0 && scratch.over_limit.is_multiple_of(limit.slip);
    if refused != UNDERSTOOD || !slips {
        return Err(Verdict::Limited);
    }
    let end = scratch.query.end();
    finish(scratch, tables, end, 0, 0)?;
    let flags = scratch.get8(MESSAGE + 2) & !wire::AA;
    if scratch.cookie_len == 0 {
        scratch.put8(MESSAGE + 2, flags | wire::TC);
    } else {
        let [high, low] = [wire::BADCOOKIE >> 4, wire::BADCOOKIE & 15];
        scratch.put8(MESSAGE + 2, flags);
        scratch.put8(MESSAGE + 3, low as u8);
        // EXTENDED-RCODE, in the OPT.
        scratch.put8(end + 5, high as u8);
    }
    Ok(Some(Verdict::Slipped))
}

/// Appends what the target of an existing name has for the question, if anything.
#[inline(always)]
fn put_found<T: Tables>(
    scratch: &mut Scratch,
    tables: &T,
    target: u64,
) -> Result<Verdict, Verdict> {
    let mut number = (target >> 32) as u32;
    if target & KIND == Target::STATIC {
        let records = set_from(scratch, tables, number)?;
        if records == 0 {
            return Ok(Verdict::Nodata);
        }
        if records != FROM_POOL {
            scratch.records = records;
            return Ok(Verdict::Static);
        }
        number = scratch.pool;
    }
    scratch.pool = number;
    let pool = tables.pool(number).ok_or(Verdict::Internal)?;
    let query = scratch.query;
    let family = query.family();
    let has = query.is_for_addresses() || pool.flags & Pool::ALIAS != 0;
    if !has || pool.has[family.index()] == 0 {
        return Ok(Verdict::Nodata);
    }
    // Nearly always itself: a guess of the CPU's then, not a wait.
    let answered_by = tables::answered_by(pool, family);
    let pool = match answered_by == number {
        true => pool,
        false => tables.pool(answered_by).ok_or(Verdict::Internal)?,
    };
    let records = answer_from(scratch, tables, pool)?;
    scratch.records = records;
    if records == 0 {
        return Ok(Verdict::Servfail);
    }
    Ok(Verdict::Answered)
}

/// Header, question and OPT (RFC 1035 section 4.1, RFC 6891 section 6.1).
#[inline(always)]
fn parse(scratch: &mut Scratch) -> Result<Query, Verdict> {
    let message_len = scratch.message_len;
    if !(MIN_QUERY..=MAX_QUERY).contains(&message_len) {
        return Err(Verdict::MessageSize);
    }
    let additional = scratch.get16(MESSAGE + 10);
    if scratch.get64(MESSAGE + 2) & !ANY_QUERY != ONE_QUESTION || additional > 1 {
        return Err(refuse_header(scratch));
    }
    let flags = scratch.get8(MESSAGE + 2);
    scratch.ecs_len = 0;
    scratch.scope = 0;
    scratch.cookie_len = 0;
    scratch.cookie_is_good = 0;
    scratch.nsid_len = 0;

    let end = MESSAGE + message_len;
    let labels = walk_name(scratch, end)?;
    let labels = scratch.forget(labels);
    let name_len = scratch.forget(scratch.name_len);
    let at = NAME + name_len;
    if at + 4 > end {
        return Err(Verdict::BadName);
    }
    let qtype = scratch.get16(at);
    if scratch.get16(at + 2) != wire::CLASS_IN {
        return Err(Verdict::Class);
    }
    if is_slow(qtype) {
        return Err(Verdict::Qtype);
    }
    let mut query = Query {
        name_len,
        labels,
        qtype: qtype as u32,
        is_aaaa: (qtype == wire::TYPE_AAAA) as u32,
        rd: (flags & wire::RD) as u32,
        limit: wire::MIN_UDP_SIZE,
        edns: 0,
        flags: 0,
    };
    if additional == 0 {
        return if at + 4 == end {
            Ok(query)
        } else {
            Err(Verdict::Trailing)
        };
    }
    query.edns = 1;
    (query.flags, query.limit) = parse_opt(scratch, at + 4, end)?;
    Ok(query)
}

/// From the flags to NSCOUNT: a query of one question. Opcode, AA and TC are zero; so are RA, Z and RCODE.
const ONE_QUESTION: u64 = u64::from_ne_bytes([0, 0, 0, 1, 0, 0, 0, 0]);
/// The flags that are let be.
const ANY_QUERY: u64 = u64::from_ne_bytes([wire::RD, wire::AD | wire::CD, 0, 0, 0, 0, 0, 0]);

/// What is wrong with a header.
#[inline(always)]
fn refuse_header(scratch: &Scratch) -> Verdict {
    let [first, second] = [scratch.get8(MESSAGE + 2), scratch.get8(MESSAGE + 3)];
    if first & wire::QR != 0 {
        Verdict::Response
    } else if first & !wire::RD != 0 || second & !(wire::AD | wire::CD) != 0 {
        Verdict::Header
    } else {
        Verdict::Counts
    }
}

/// Whether a type is for the slow path, whatever the name: the reserved 0, OPT, ANY and the others that
/// are no data (RFC 6895 section 3.1), and DS, which may be that of another zone.
#[inline(always)]
const fn is_slow(qtype: u16) -> bool {
    qtype == 0
        || qtype == wire::TYPE_OPT
        || qtype == wire::TYPE_DS
        || (qtype >= wire::FIRST_META_TYPE && qtype <= 255)
}

/// Notes where the labels start, and the length of the name. Gives the number of labels.
#[inline(always)]
fn walk_name(scratch: &mut Scratch, end: u32) -> Result<u32, Verdict> {
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

/// Copies the name, lowercased, to [`Scratch::name`], what follows it in its last word too, and hashes it:
/// eight octets at a time.
#[inline(always)]
fn hash_name(scratch: &mut Scratch, key: &wire::HashKey) {
    let name_len = scratch.query.name_len;
    let mut hash = wire::NameHash::default();
    let mut word = 0;
    while word < wire::NAME_WORDS / 2 {
        if 8 * word as u32 + 8 > name_len {
            break;
        }
        let lowercased = lowercase(scratch, word);
        hash.feed(key, word, lowercased);
        word += 1;
    }
    let rest = name_len & 7;
    if rest != 0 {
        let lowercased = lowercase(scratch, word);
        hash.feed(key, word, wire::first_octets(lowercased, rest));
    }
    scratch.hash = hash.finish();
}

/// Lowercases a word of the name.
#[inline(always)]
fn lowercase(scratch: &mut Scratch, word: usize) -> u64 {
    let word = word & (wire::NAME_WORDS / 2 - 1);
    let at = NAME as usize + 8 * word;
    // SAFETY: 88 and 32 words more are inside the frame; the frame is aligned, and 88 too.
    let octets = unsafe { scratch.frame.as_ptr().add(at).cast::<u64>().read() };
    let lowercased = wire::lowercase(u64::from_le(octets));
    scratch.name[word] = lowercased;
    lowercased
}

/// The OPT at `at`, which has to be the last record: its flags to give back, and the response's
/// limit.
#[inline(always)]
fn parse_opt(scratch: &mut Scratch, at: u32, end: u32) -> Result<(u32, u32), Verdict> {
    if at + wire::OPT_LEN > end {
        return Err(Verdict::BadOpt);
    }
    if scratch.get8(at) != 0 || scratch.get16(at + 1) != wire::TYPE_OPT {
        return Err(Verdict::BadOpt);
    }
    if scratch.get8(at + 6) != 0 {
        return Err(Verdict::EdnsVersion);
    }
    let options_end = at + wire::OPT_LEN + scratch.get16(at + 9) as u32;
    if options_end > end {
        return Err(Verdict::BadOpt);
    }
    if options_end < end {
        return Err(Verdict::Trailing);
    }
    let mut option = at + wire::OPT_LEN;
    let mut options = 0;
    while option < end {
        if options == MAX_OPTIONS {
            return Err(Verdict::EdnsOption);
        }
        if option + 4 > end {
            return Err(Verdict::BadOpt);
        }
        let code = scratch.get16(option);
        let option_len = scratch.get16(option + 2) as u32;
        if code == wire::OPTION_ECS {
            if scratch.ecs_len != 0 {
                return Err(Verdict::EdnsOption);
            }
            scratch.ecs_at = option;
            scratch.ecs_len = 4 + option_len;
        }
        if code == wire::OPTION_COOKIE && scratch.cookie_len == 0 {
            // The first one counts (RFC 7873 section 5.2).
            if !cookie::is_well_formed(option_len) {
                return Err(Verdict::EdnsOption);
            }
            scratch.cookie_at = option;
            scratch.cookie_len = option_len;
        }
        if code == wire::OPTION_NSID {
            scratch.nsid_len = 1;
        }
        option = scratch.forget(option + 4 + option_len);
        options += 1;
    }
    if option != end {
        return Err(Verdict::BadOpt);
    }
    if scratch.ecs_len != 0 {
        parse_ecs(scratch)?;
    }
    let size = scratch.get16(at + 3) as u32;
    Ok((
        (scratch.get16(at + 7) & wire::DO) as u32,
        size.clamp(wire::MIN_UDP_SIZE, wire::MAX_UDP_SIZE),
    ))
}

/// Makes ready the options that go back: NSID, and the cookie.
#[inline(always)]
fn serve_options<T: Tables>(scratch: &mut Scratch, tables: &T) -> Result<(), Verdict> {
    if scratch.nsid_len != 0 {
        scratch.nsid_len = tables.settings().nsid_len;
        if scratch.nsid_len == 0 {
            return Err(Verdict::EdnsOption);
        }
    }
    if scratch.cookie_len == 0 {
        return Ok(());
    }
    let row = tables.cookies().map_or(0, |cookies| cookies.row.load());
    if row == 0 {
        // An unknown option.
        scratch.cookie_len = 0;
        return Ok(());
    }
    let at = bounded(scratch.cookie_at);
    let [client, head, hash] = [4, 12, 20].map(|octets| scratch.get64(at + octets));
    scratch.cookie = [client, head, hash];
    let is_ours = scratch.cookie_len == cookie::LEN;
    let theirs = if is_ours { Some([head, hash]) } else { None };
    let now = tables.now(scratch);
    let served = cookie::serve(theirs, now, |is_first, head| {
        scratch.cookie[1] = head;
        tables.hash_cookie(scratch, row, is_first);
        scratch.cookie[2]
    });
    scratch.cookie = [client, served.head, served.hash];
    scratch.cookie_is_good = served.is_good as u32;
    if served.is_good {
        tables.tally(Tally::CookieGood);
    }
    if served.head != head {
        tables.tally(Tally::CookieMade);
    }
    Ok(())
}

/// The client subnet (RFC 7871 section 6): its address becomes the client's. One that is malformed, or
/// says nothing about where the client is, is for the slow path.
#[inline(always)]
fn parse_ecs(scratch: &mut Scratch) -> Result<(), Verdict> {
    let option = scratch.ecs_at;
    let data = option + 4;
    let family = scratch.get16(data);
    let source = scratch.get8(data + 2) as u32;
    let octets = source.div_ceil(8);
    let bits = match family {
        1 => 32,
        2 => 128,
        _ => return Err(Verdict::EdnsOption),
    };
    if scratch.get8(data + 3) != 0 || source > bits || scratch.ecs_len != 8 + octets {
        return Err(Verdict::EdnsOption);
    }
    // No bits past SOURCE; the octet before the address is SCOPE, which is 0.
    if scratch.get8(data + 3 + octets) as u32 & (0xff >> (source & 7)) != 0 && source & 7 != 0 {
        return Err(Verdict::EdnsOption);
    }
    scratch.ecs = [
        scratch.get64(option),
        scratch.get64(option + 8),
        scratch.get64(option + 16),
    ];
    if source == 0 {
        // An opt-out: the client's own address counts.
        return Ok(());
    }
    // What follows the address is not of it.
    let past = 8 * octets;
    let [first, second] = [scratch.ecs[1], scratch.ecs[2]].map(u64::from_le);
    let (first, second) = if past < 64 {
        (first & ((1 << past) - 1), 0)
    } else if past < 128 {
        (first, second & ((1 << (past - 64)) - 1))
    } else {
        (first, second)
    };
    // Even if the network is wider than the block, which the slow path sees: more comparisons are more
    // than the verifier can follow.
    let special = if family == 1 {
        subnet::is_special_v4((first as u32).swap_bytes())
    } else {
        subnet::is_special_v6(first.swap_bytes())
    };
    if special {
        return Err(Verdict::EdnsOption);
    }
    scratch.client_is_v6 = (family == 2) as u32;
    scratch.set_client([first, second].map(u64::to_le));
    Ok(())
}

/// In a target that [`find`] gives: the name itself does not exist.
const ABSENT: u64 = 1 << 8;
/// Kind of a target, packed.
const KIND: u64 = 0xff;

/// What answers for the name, as a packed [`Target`] with records: what stands at it, or at the
/// wildcard of its closest encloser (RFC 4592 section 3.3.1). Where there is neither, what stands at
/// the encloser, marked [`ABSENT`].
#[inline(always)]
fn find<T: Tables>(scratch: &mut Scratch, tables: &T) -> Result<u64, Verdict> {
    let settings = tables.settings();
    hash_name(scratch, &settings.hash_key);
    let target = match find_hashed(scratch, tables, settings.name_mask) {
        Some(found) => found.exact,
        None if settings.walk == 0 => return Err(Verdict::UnknownName),
        None => {
            let mut label = 1;
            loop {
                if label >= scratch.query.labels || label >= MAX_LABELS as u32 {
                    return Err(Verdict::UnknownName);
                }
                let from = scratch.labels[label as usize & (MAX_LABELS - 1)];
                tables.hash(scratch, from);
                if let Some(encloser) = find_hashed(scratch, tables, settings.name_mask) {
                    if encloser.wildcard == 0 {
                        break encloser.exact | ABSENT;
                    }
                    break encloser.wildcard;
                }
                label += 1;
            }
        }
    };
    match target & KIND {
        Target::STEERED | Target::STATIC => Ok(target),
        _ => Err(Verdict::SlowName),
    }
}

/// Looks up what was hashed last.
#[inline(always)]
fn find_hashed<T: Tables>(scratch: &mut Scratch, tables: &T, name_mask: u32) -> Option<Found> {
    let found = find_name(tables, name_mask, scratch.hash)?;
    scratch.slot = found.slot;
    Some(found)
}

/// What [`set_from`] gives where a pool has the records: [`Scratch::pool`].
const FROM_POOL: u32 = 0xffff;

/// Appends the records of a set to the question. Gives how many: 0 if it has none of the type.
#[inline(always)]
fn set_from<T: Tables>(scratch: &mut Scratch, tables: &T, set: u32) -> Result<u32, Verdict> {
    let query = scratch.query;
    let shelf = tables
        .shelf(set / SHELF_WORDS as u32)
        .ok_or(Verdict::Internal)?;
    let head = Set(word(shelf, set));
    if head.0 & Set::POOL != 0 && query.is_for_addresses() {
        scratch.pool = head.pool();
        return Ok(FROM_POOL);
    }
    let mut found = 0;
    let mut at = 0;
    while at < Set::MAX_TYPES {
        if at >= head.types() {
            break;
        }
        let listed = SetType(word(shelf, set + 1 + at));
        if listed.rtype() as u32 == query.qtype {
            found = listed.0;
            break;
        }
        at += 1;
    }
    let mut found = scratch.forget64(found);
    if found == 0 {
        if head.0 & Set::MORE != 0 {
            return Err(Verdict::SlowRecords);
        }
        if head.0 & Set::CNAME == 0 {
            return Ok(0);
        }
        found = word(shelf, set + 1);
    }
    let mut found = SetType(found);
    if found.has_other() && tables.has_upper(scratch) {
        let other = word(shelf, set + found.start() + found.words());
        found = SetType(scratch.forget64(other));
    }
    let (octets, end) = (found.octets(), query.end());
    if octets == 0 || octets > SetType::MAX_OCTETS {
        return Err(Verdict::SlowRecords);
    }
    if end + octets > MESSAGE + query.limit {
        return Err(Verdict::TooLarge);
    }
    let mut at = 0;
    while at < SetType::MAX_OCTETS {
        if at >= octets {
            break;
        }
        scratch.put64(end + at, word(shelf, set + found.start() + at / 8));
        at += 8;
    }
    let pointers = found.pointers();
    if pointers != 0 {
        let listed = set + found.start() + octets.div_ceil(8);
        tables.put_pointers(scratch, end, listed, pointers);
    }
    scratch.end = end + octets;
    Ok(found.records())
}

/// A word of a page, by its place on all shelves.
#[inline(always)]
fn word(shelf: &Shelf, place: u32) -> u64 {
    shelf[place as usize & (SHELF_WORDS - 1)]
}

/// Appends a pool's records to the question. Gives how many: 0 if no mirror is in service.
#[inline(always)]
fn answer_from<T: Tables>(scratch: &mut Scratch, tables: &T, pool: &Pool) -> Result<u32, Verdict> {
    if pool.flags & Pool::SLOW != 0 {
        return Err(Verdict::SlowPool);
    }
    let query = scratch.query;
    let end = query.end();
    let chosen = pick(scratch, tables, pool, query.family())?;
    let chosen = scratch.forget(chosen);
    if chosen == 0 {
        scratch.scope = 0;
    }
    put_answers(scratch, tables, pool, query, chosen, end)
}

/// Picks the mirrors of a pool's answer. Gives how many: 0 if none is in service.
#[inline(always)]
fn pick<T: Tables>(
    scratch: &mut Scratch,
    tables: &T,
    pool: &Pool,
    family: Family,
) -> Result<u32, Verdict> {
    let client = if scratch.client_is_v6 != 0 {
        Family::V6
    } else {
        Family::V4
    };
    let (order, region) = if pool.flags & Pool::ALL != 0 {
        (Order::EMPTY, 0)
    } else {
        find_order(tables, pool, family, client, &scratch.client).ok_or(Verdict::NoRegion)?
    };
    scratch.order = order.0;
    let ttl = pool.ttl.load();
    scratch.ttl = ttl as u32;
    let drawn = tables::is_drawn(pool, ttl);
    // An opt-out has an option, and no client that the answer depends on.
    if scratch.ecs_len > 8 {
        scratch.scope = tables::scope(pool, drawn, client, region) as u32;
    }
    // Where nothing is drawn, all draws are alike.
    let draw = match drawn {
        true => tables::draw(tables, pool, client, &scratch.client),
        false => 0,
    };
    let draw = scratch.forget(draw);
    tables::choose(tables, pool, family, order, draw, &mut scratch.chosen).ok_or(Verdict::Internal)
}

/// Appends the records of the chosen mirrors. Gives the number of records.
#[inline(always)]
fn put_answers<T: Tables>(
    scratch: &mut Scratch,
    tables: &T,
    pool: &Pool,
    query: Query,
    chosen: u32,
    mut end: u32,
) -> Result<u32, Verdict> {
    let mut records = 0;
    let mut at = 0;
    while at < MAX_ANSWER_MIRRORS {
        if at >= chosen {
            break;
        }
        let mirror = scratch.chosen[at as usize & (MAX_ANSWER_MIRRORS as usize - 1)];
        let index = pool.answer(mirror, query.family());
        let answer = tables.answer(index).ok_or(Verdict::Internal)?;
        let (len, count) = (answer.len, answer.records);
        if len == 0 || len as usize > 8 * ANSWER_WORDS {
            if len & Answer::POINTS != 0 {
                return put_alias(scratch, tables, answer, end);
            }
            return Err(Verdict::SlowPool);
        }
        if end + len as u32 > MESSAGE + query.limit {
            return Err(Verdict::TooLarge);
        }
        put_answer(scratch, answer, end, len as u32);
        end = scratch.forget(end + len as u32);
        records = scratch.forget(records + count as u32);
        at += 1;
    }
    scratch.end = end;
    Ok(records)
}

/// Puts an answer, with its TTLs, where it belongs if it starts at `end`: 32 octets of it, which hold an A
/// or an AAAA, or else all. A loop over the length would be as many paths for the verifier.
#[inline(always)]
fn put_answer(scratch: &mut Scratch, answer: &Answer, end: u32, len: u32) {
    const SHORT: usize = 4;
    let ttl = Ttl::new(scratch.ttl);
    let part = |word: usize| answer.words[word] | ttl.part(word, answer.several);
    scratch.put_words::<SHORT>(end, part);
    if len > 8 * SHORT as u32 {
        scratch.put_words::<{ ANSWER_WORDS - SHORT }>(end + 8 * SHORT as u32, |word| {
            part(SHORT + word)
        });
    }
}

/// Appends an alias whose target ends as the question's name does: behind a question without upper-case letters
/// a pointer stands in that end's place. Gives the number of records.
#[inline(always)]
fn put_alias<T: Tables>(
    scratch: &mut Scratch,
    tables: &T,
    answer: &Answer,
    end: u32,
) -> Result<u32, Verdict> {
    /// Where RDLENGTH stands in a record, and RDATA.
    const RDLENGTH: u32 = 10;
    const RDATA: u32 = 12;
    let query = scratch.query;
    let mut len = (answer.len & !Answer::POINTS) as u32;
    if end + len > MESSAGE + query.limit {
        return Err(Verdict::TooLarge);
    }
    put_answer(scratch, answer, end, len);
    if !tables.has_upper(scratch) {
        let (before, shared) = (answer.before as u32, answer.shared as u32);
        let place = HEADER_LEN + query.name_len - shared;
        scratch.put16(end + before, wire::POINTER | place as u16);
        len = before + 2;
        scratch.put16(end + RDLENGTH, (len - RDATA) as u16);
    }
    scratch.end = scratch.forget(end + len);
    Ok(1)
}

/// A TTL as it lies in the words of an answer, which has zeros in its place: across the end of a word,
/// or inside one. Arithmetic, since the verifier would follow every branch on the kind of record.
#[derive(Clone, Copy)]
struct Ttl {
    high: u64,
    low: u64,
    inside: u64,
}

impl Ttl {
    #[inline(always)]
    const fn new(ttl: u32) -> Self {
        let [a, b, c, d] = ttl.to_be_bytes();
        Self {
            high: u64::from_ne_bytes([0, 0, 0, 0, 0, 0, a, b]),
            low: u64::from_ne_bytes([c, d, 0, 0, 0, 0, 0, 0]),
            inside: u64::from_ne_bytes([0, 0, a, b, c, d, 0, 0]),
        }
    }

    /// What is in a word of it: octets 6 to 9 of each record, which are 16 (A) or 28 (AAAA) apart if
    /// they are several.
    #[inline(always)]
    const fn part(self, word: usize, several: u16) -> u64 {
        let a = 0u64.wrapping_sub((several & Answer::SEVERAL_A) as u64);
        let aaaa = 0u64.wrapping_sub((several >> 1 & Answer::SEVERAL_AAAA >> 1) as u64);
        let of_a = if word.is_multiple_of(2) {
            self.high
        } else {
            self.low
        };
        let of_aaaa = match word {
            4 | 11 => self.inside,
            7 => self.high,
            8 => self.low,
            _ => 0,
        };
        match word {
            0 => self.high,
            1 => self.low,
            _ => of_a & a | of_aaaa & aaaa,
        }
    }
}

/// Appends the zone's SOA, owned by a pointer to the apex, which is the end of the question's name.
#[inline(always)]
fn put_soa<T: Tables>(scratch: &mut Scratch, tables: &T, zone: &Zone) -> Result<u32, Verdict> {
    let query = scratch.query;
    let end = query.end();
    let soa = match tables.has_upper(scratch) {
        false => &zone.soa[0],
        true => &zone.soa[1],
    };
    let (apex_len, soa_len) = (zone.apex_len as u32, soa.len as u32);
    if soa_len == 0 || soa_len as usize > 8 * SOA_WORDS {
        return Err(Verdict::SlowPool);
    }
    if apex_len > query.name_len {
        return Err(Verdict::Internal);
    }
    if end + 2 + soa_len > MESSAGE + query.limit {
        return Err(Verdict::TooLarge);
    }
    scratch.put16(
        end,
        wire::POINTER | (HEADER_LEN + query.name_len - apex_len) as u16,
    );
    scratch.put_words::<SOA_WORDS>(end + 2, |word| soa.words[word]);
    // Those that there are not are the owner once more.
    let name_len = query.name_len as u16;
    for number in 0..2 {
        let pointer = soa.pointers[number].wrapping_add(name_len);
        scratch.put16(end + soa.pointers_at[number] as u32, pointer);
    }
    Ok(end + 2 + soa_len)
}

/// The first octets of an OPT: owner, type, class (the size that we take), extended RCODE and version; its
/// flags and length go over the last.
const OPT: u64 = {
    let [a, b] = wire::TYPE_OPT.to_be_bytes();
    let [c, d] = (wire::MAX_UDP_SIZE as u16).to_be_bytes();
    u64::from_ne_bytes([0, a, b, c, d, 0, 0, 0])
};

/// Appends the OPT and writes the header.
#[inline(always)]
fn finish<T: Tables>(
    scratch: &mut Scratch,
    tables: &T,
    end: u32,
    answers: u16,
    authority: u16,
) -> Result<(), Verdict> {
    let query = scratch.query;
    let mut end = bounded(end);
    if query.edns != 0 {
        let (nsid_len, ecs_len) = (scratch.nsid_len, scratch.ecs_len);
        let cookie_len = if scratch.cookie_len != 0 {
            cookie::OPTION_LEN
        } else {
            0
        };
        let options_len = nsid_len + ecs_len + cookie_len;
        if end + wire::OPT_LEN + options_len > MESSAGE + query.limit {
            return Err(Verdict::TooLarge);
        }
        let flags_and_len = query.flags << 16 | options_len;
        scratch.put_words::<1>(end, |_| OPT);
        scratch.put32(end + 7, flags_and_len);
        end += wire::OPT_LEN;
        if nsid_len != 0 {
            let settings = tables.settings();
            scratch.put_words::<NSID_WORDS>(end, |word| settings.nsid[word]);
            end = scratch.forget(end + nsid_len);
        }
        if ecs_len != 0 {
            let ecs = scratch.ecs;
            scratch.put_words::<3>(end, |word| ecs[word]);
            // Code, length, FAMILY and SOURCE stand before it.
            let scope = scratch.scope as u8;
            scratch.put8(end + 7, scope);
            end = scratch.forget(end + ecs_len);
        }
        if cookie_len != 0 {
            let cookie = scratch.cookie;
            scratch.put32(end, (wire::OPTION_COOKIE as u32) << 16 | cookie::LEN);
            scratch.put_words::<3>(end + 4, |word| cookie[word]);
            end += cookie_len;
        }
    }
    scratch.put8(MESSAGE + 2, wire::QR | wire::AA | query.rd as u8);
    scratch.put8(MESSAGE + 3, 0);
    scratch.put32(MESSAGE + 6, (answers as u32) << 16 | authority as u32);
    // QDCOUNT and ARCOUNT stay: one question, and an OPT if and only if there was one.
    scratch.message_len = end - MESSAGE;
    Ok(())
}

/// Makes a finished response one of SERVFAIL, which is nobody's authority.
#[inline(always)]
fn fail(scratch: &mut Scratch) {
    let flags = scratch.get8(MESSAGE + 2);
    scratch.put8(MESSAGE + 2, flags & !wire::AA);
    scratch.put8(MESSAGE + 3, wire::SERVFAIL);
}

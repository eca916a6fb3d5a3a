//! The programs that tests and benches put around the real one. No part of the daemon.
//!
//! - `pass`, `pass_frags`: let everything through; a veth needs a program on both ends for native XDP_TX
//! - `discard`: drops everything: what generating alone costs
//! - `reflect`: turns UDP around and does nothing else: what `geodns` is measured against
//! - `generate`: floods, run by `BPF_PROG_TEST_RUN` with live frames
//! - `sink`: stands on the generator's end, looks at what comes back, counts and drops it
//! - `draw`, `draw_table`, `draw_trie`: draw addresses; look each up in a prefix table; in an LPM trie
//! - `grow`: how much a packet can grow by at the head and at the tail
//! - `restore`: puts the query back into the packet and tail-calls the program to be timed

#![no_std]
#![no_main]

use core::ops::Range;

use aya_ebpf::bindings::xdp_action::{XDP_ABORTED, XDP_DROP, XDP_PASS, XDP_TX};
use aya_ebpf::helpers::{
    bpf_get_prandom_u32, bpf_ktime_get_ns, bpf_xdp_adjust_head, bpf_xdp_adjust_tail,
    bpf_xdp_load_bytes, bpf_xdp_store_bytes,
};
use aya_ebpf::macros::{map, xdp};
use aya_ebpf::maps::lpm_trie::{Key, LpmTrie};
use aya_ebpf::maps::{Array, PerCpuArray, ProgramArray};
use aya_ebpf::programs::XdpContext;
use geodns_common::abi::{self, Block, Family, Page};
use geodns_common::subnet;
use geodns_common::tables::{self, Tables};

/// Octets of the frame that [`generate`] and [`restore`] write, at the most.
const FRAME: usize = 256;
/// Ethernet header.
const ETHERNET: usize = 14;
/// Ethernet and IPv4 headers, no options.
const UDP_V4: usize = ETHERNET + 20;
/// Ethernet and IPv6 headers.
const UDP_V6: usize = ETHERNET + 40;
/// Ethernet, IPv4 and UDP headers.
const DNS_V4: usize = UDP_V4 + 8;
/// Ethernet, IPv6 and UDP headers.
const DNS_V6: usize = UDP_V6 + 8;

/// Random digits in a name, at the most.
const DIGITS: u32 = 8;
/// Queries that [`generate`] makes in turn, at the most.
const TEMPLATES: u32 = 64;
/// Addresses in [`CLIENTS`].
const CLIENTS_LEN: u32 = 10_000;
/// Octets of a client subnet's address, at the most.
const SUBNET: u32 = 8;

/// A query of [`generate`] and, the first, of [`restore`].
#[repr(C)]
struct Template {
    /// Octets of the frame.
    len: u32,
    /// 4 or 6: of which IP version it is.
    version: u32,
    /// The source address: that of the frame, or as [`OF_TABLE`] and [`RANDOM`] say.
    source: u32,
    /// The client subnet's address, as `source`.
    subnet: u32,
    /// Where the client subnet's address is, in octets from the frame's start.
    subnet_at: u32,
    /// How many octets it has, at most [`SUBNET`].
    subnet_len: u32,
    /// Where [`generate`] writes random decimal digits, in octets from the frame's start.
    digits_at: u32,
    /// How many, at most [`DIGITS`].
    digits: u32,
    /// 0: every number of N digits is as likely as the next. Else how many numbers there are, which are
    /// drawn by a Zipf law of exponent 1.
    names: u32,
    /// log2 of `names`, in 65,536ths.
    log2_names: u32,
    /// The sum of all words that the UDP checksum is over, without what [`generate`] writes.
    sum: u32,
    /// The frame: Ethernet, IPv4 without options or IPv6 without extension headers, UDP, DNS. For [`generate`], the
    /// source address, the checksums of IPv4's header and of UDP, the DNS id, digits and client subnet are written
    /// over.
    frame: [u8; FRAME],
}

/// The address is one of [`CLIENTS`].
const OF_TABLE: u32 = 1;
/// It is any.
const RANDOM: u32 = 2;

/// Where [`generate`] is.
#[repr(C)]
struct Turn {
    /// Queries made so far on this CPU: the low 16 bits are the DNS message id.
    made: u32,
    /// How many templates take turns, from 1 to [`TEMPLATES`].
    templates: u32,
    /// Nanoseconds from one query to the next, at the least; 0: as fast as may be.
    pace: u64,
    /// When the next is due, if there is a pace.
    due: u64,
}

/// A further task of [`sink`] besides counting.
const TIME: u32 = 1;
/// As [`TIME`].
const KEEP: u32 = 2;

/// A frame that [`sink`] kept.
#[repr(C)]
struct Kept {
    /// Octets of it; 0: none has come.
    len: u32,
    /// The first of them.
    frame: [u8; KEPT],
}

/// Octets of a frame that are kept, at the most.
const KEPT: usize = 512;

/// Buckets of times: see [`bucket`].
const BUCKETS: u32 = 256;

/// The frames that [`sink`] saw, by kind.
#[repr(C)]
struct Seen {
    /// DNS responses with QR, AA, NOERROR and at least one answer.
    answers: u64,
    /// DNS responses with QR, AA, NOERROR, no answer and one record of authority.
    nodata: u64,
    /// DNS responses with QR, AA, NXDOMAIN and one record of authority.
    nxdomain: u64,
    /// DNS queries, as the reflector sends them back.
    queries: u64,
    /// Everything else.
    other: u64,
}

#[map]
static TEMPLATE: PerCpuArray<Template> = PerCpuArray::with_max_entries(TEMPLATES, 0);

#[map]
static TURN: PerCpuArray<Turn> = PerCpuArray::with_max_entries(1, 0);

/// Addresses to ask from; of IPv4 the first four octets.
#[map]
static CLIENTS: Array<[u8; 16]> = Array::with_max_entries(CLIENTS_LEN, 0);

/// The further task of [`sink`] and [`generate`]: 0, [`TIME`] or [`KEEP`].
#[map]
static BESIDES: Array<u32> = Array::with_max_entries(1, 0);

/// When the query of each DNS id was sent, by the monotonic clock in nanoseconds; 0: it was answered.
#[map]
static SENT: Array<u64> = Array::with_max_entries(1 << 16, MMAPABLE);

/// How many answers took how long, by [`bucket`].
#[map]
static TIMES: PerCpuArray<[u64; BUCKETS as usize]> = PerCpuArray::with_max_entries(1, 0);

#[map]
static LAST: Array<Kept> = Array::with_max_entries(1, 0);

#[map]
static SEEN: PerCpuArray<Seen> = PerCpuArray::with_max_entries(1, 0);

/// The program that `restore` calls.
#[map]
static TARGET: ProgramArray = ProgramArray::with_max_entries(1, 0);

/// `BPF_F_NO_PREALLOC`, without which the kernel makes no trie.
const NO_PREALLOC: u32 = 1;

/// `BPF_F_MMAPABLE`
const MMAPABLE: u32 = 1 << 10;

/// The trie that the prefix table is compared to.
#[map]
static TRIE: LpmTrie<u32, u32> = LpmTrie::with_max_entries(1, NO_PREALLOC);

/// A prefix table: the roots of one atlas, and the blocks below.
#[map]
static ROOTS: Array<Page> = Array::with_max_entries(1, MMAPABLE);
#[map]
static BLOCKS: Array<Block> = Array::with_max_entries(1, MMAPABLE);

/// The seed of the last address, and the sum of all that was found.
#[map]
static DRAWN: PerCpuArray<[u64; 2]> = PerCpuArray::with_max_entries(1, 0);

/// Octets that the last packet for [`grow`] could grow by: at the head, at the tail.
#[map]
static ROOM: Array<[u32; 2]> = Array::with_max_entries(1, 0);

/// Lets everything through.
#[xdp]
fn pass(_ctx: XdpContext) -> u32 {
    XDP_PASS
}

/// The same, for an interface at a large MTU.
#[xdp(frags)]
fn pass_frags(_ctx: XdpContext) -> u32 {
    XDP_PASS
}

/// Drops everything.
#[xdp]
fn discard(_ctx: XdpContext) -> u32 {
    XDP_DROP
}

/// A pointer to a `T` at an offset of the packet, if it is all there.
#[inline(always)]
fn at<T>(ctx: &XdpContext, offset: usize) -> Option<*mut T> {
    let start = ctx.data() + offset;
    if start + size_of::<T>() > ctx.data_end() {
        return None;
    }
    Some(start as *mut T)
}

/// Sends UDP over IPv4 or IPv6 back to where it came from.
#[xdp]
fn reflect(ctx: XdpContext) -> u32 {
    turn_around(&ctx).unwrap_or(XDP_PASS)
}

#[inline(always)]
fn turn_around(ctx: &XdpContext) -> Option<u32> {
    let ethernet: *mut [[u8; 6]; 2] = at(ctx, 0)?;
    let ethertype: *mut [u8; 2] = at(ctx, 12)?;
    // SAFETY: `at` checked that the packet holds these bytes, here and below.
    match unsafe { *ethertype } {
        [0x08, 0x00] => {
            let version: *mut u8 = at(ctx, ETHERNET)?;
            let protocol: *mut u8 = at(ctx, ETHERNET + 9)?;
            // SAFETY: as above.
            if unsafe { *version != 0x45 || *protocol != 17 } {
                return None;
            }
            swap(at::<[[u8; 2]; 2]>(ctx, UDP_V4)?);
            swap(at::<[[u8; 4]; 2]>(ctx, ETHERNET + 12)?);
        }
        [0x86, 0xdd] => {
            let next: *mut u8 = at(ctx, ETHERNET + 6)?;
            // SAFETY: as above.
            if unsafe { *next != 17 } {
                return None;
            }
            swap(at::<[[u8; 2]; 2]>(ctx, UDP_V6)?);
            swap(at::<[[u8; 16]; 2]>(ctx, ETHERNET + 8)?);
        }
        _ => return None,
    }
    swap(ethernet);
    Some(XDP_TX)
}

/// Swaps two fields that stand side by side in the packet.
#[inline(always)]
fn swap<T: Copy>(pair: *mut [T; 2]) {
    // SAFETY: only called with what `at` gave; T is bytes and needs no alignment.
    unsafe {
        let [first, second] = *pair;
        *pair = [second, first];
    }
}

/// Measures how much a UDP packet to port 9 over IPv4 can grow by, and lets it through as it came.
#[xdp]
fn grow(ctx: XdpContext) -> u32 {
    measure_room(&ctx);
    XDP_PASS
}

#[inline(always)]
fn measure_room(ctx: &XdpContext) -> Option<()> {
    let ethertype: *mut [u8; 2] = at(ctx, 12)?;
    let protocol: *mut u8 = at(ctx, ETHERNET + 9)?;
    let port: *mut [u8; 2] = at(ctx, UDP_V4 + 2)?;
    // SAFETY: `at` checked that the packet holds these bytes.
    if unsafe { *ethertype != [0x08, 0x00] || *protocol != 17 || *port != [0, DISCARD] } {
        return None;
    }
    let room: *mut u32 = ROOM.get_ptr_mut(0)?.cast();
    // SAFETY: the map's value has two numbers.
    let (head, tail) = unsafe { (room, room.add(1)) };
    let mut step = MAX_ROOM;
    set(head, 0);
    while step > 0 {
        // SAFETY: ctx is valid; the kernel checks the bounds. The packet is not looked at afterwards.
        if unsafe { bpf_xdp_adjust_head(ctx.ctx, -step) } == 0 {
            set(head, get(head) + step);
        }
        step >>= 1;
    }
    // SAFETY: as above.
    unsafe { bpf_xdp_adjust_head(ctx.ctx, get(head)) };
    step = MAX_ROOM;
    set(tail, 0);
    while step > 0 {
        // SAFETY: as above.
        if unsafe { bpf_xdp_adjust_tail(ctx.ctx, step) } == 0 {
            set(tail, get(tail) + step);
        }
        step >>= 1;
    }
    // SAFETY: as above.
    unsafe { bpf_xdp_adjust_tail(ctx.ctx, -get(tail)) };
    Some(())
}

/// Reads a sum that is in a map: to the verifier, all sums are alike, and so are the ways through a loop.
#[inline(always)]
fn get(sum: *mut u32) -> i32 {
    // SAFETY: only called with a map's value.
    unsafe { sum.read_volatile() as i32 }
}

#[inline(always)]
fn set(sum: *mut u32, to: i32) {
    // SAFETY: as above.
    unsafe { sum.write_volatile(to as u32) }
}

/// The UDP port whose packets [`grow`] measures.
const DISCARD: u8 = 9;
/// Octets that are tried first; half of them next, and so on. Less than a packet can grow by in 64 KiB.
const MAX_ROOM: i32 = 1 << 14;

/// Makes one query and sends it out of the interface it is run on.
///
/// The frame given to the test run is one octet longer than the longest query: cutting it to length makes
/// the kernel take length and bounds anew for every frame. Frames are recycled, and without this a
/// query would be as long as the answer that the frame carried last.
#[xdp]
fn generate(ctx: XdpContext) -> u32 {
    make_query(&ctx).unwrap_or(XDP_DROP)
}

#[inline(always)]
fn make_query(ctx: &XdpContext) -> Option<u32> {
    let turn = TURN.get_ptr_mut(0)?;
    // SAFETY: this CPU's own value; XDP programs are not preempted by one another on a CPU.
    let turn = unsafe { &mut *turn };
    if turn.pace != 0 {
        turn.due = wait(turn.due) + turn.pace;
    }
    turn.made = turn.made.wrapping_add(1);
    let id = turn.made as u16;
    let which = match turn.templates {
        0 | 1 => 0,
        templates => turn.made % templates,
    };
    let template = TEMPLATE.get_ptr_mut(which)?;
    // SAFETY: as above.
    let template = unsafe { &mut *template };

    let frame = &mut template.frame;
    let mut sum = template.sum;
    if template.digits > 0 {
        let mut random = match template.names {
            0 => random(),
            names => zipf(random(), names, template.log2_names),
        };
        let mut digit = 0;
        while digit < DIGITS {
            if digit >= template.digits {
                break;
            }
            let octet = b'0' + (random % 10) as u8;
            sum += put(frame, template.digits_at.wrapping_add(digit), octet);
            random /= 10;
            digit += 1;
        }
    }
    if template.subnet_len > 0 {
        let address = match template.version {
            4 => draw_v4(template.subnet)?.map(u32::to_be_bytes).map(low),
            _ => draw_v6(template.subnet)?,
        };
        // Else it is in the frame and in the sum.
        if let Some(address) = address {
            let mut at = 0;
            while at < SUBNET {
                if at >= template.subnet_len {
                    break;
                }
                sum += put(
                    frame,
                    template.subnet_at.wrapping_add(at),
                    address[at as usize & 7],
                );
                at += 1;
            }
        }
    }
    sum += id as u32;
    if template.version == 4 {
        if let Some(source) = draw_v4(template.source)? {
            frame[ETHERNET + 12..ETHERNET + 16].copy_from_slice(&source.to_be_bytes());
        }
        frame[DNS_V4..DNS_V4 + 2].copy_from_slice(&id.to_be_bytes());
        sum_v4(frame);
        sum += words(frame, ETHERNET + 12..ETHERNET + 16);
        frame[UDP_V4 + 6..UDP_V4 + 8].copy_from_slice(&checksum(sum).to_be_bytes());
    } else {
        frame[DNS_V6..DNS_V6 + 2].copy_from_slice(&id.to_be_bytes());
        if let Some(source) = draw_v6(template.source)? {
            frame[ETHERNET + 8..ETHERNET + 16].copy_from_slice(&source);
        }
        sum += words(frame, ETHERNET + 8..ETHERNET + 24);
        frame[UDP_V6 + 6..UDP_V6 + 8].copy_from_slice(&checksum(sum).to_be_bytes());
    }
    if besides() == TIME {
        // SAFETY: no arguments, no memory.
        let now = unsafe { bpf_ktime_get_ns() };
        // SAFETY: a map's value; nobody else writes it meanwhile.
        unsafe { *SENT.get_ptr_mut(id as u32)? = now };
    }

    let len = bounded(template.len)?;
    let change = len as i32 - frame_len(ctx) as i32;
    // SAFETY: ctx is valid; the packet's bounds are checked by the kernel.
    if unsafe { bpf_xdp_adjust_tail(ctx.ctx, change) } != 0 {
        return None;
    }
    // SAFETY: `len` is at most the length of `frame`.
    if unsafe { bpf_xdp_store_bytes(ctx.ctx, 0, frame.as_mut_ptr().cast(), len) } != 0 {
        return None;
    }
    Some(XDP_TX)
}

/// Looks at the clock, some 40 microseconds at the most, until it is time. Gives when it was, or what the time is if
/// that is long ago.
#[inline(always)]
fn wait(due: u64) -> u64 {
    let mut looks = 0;
    while looks < MAX_LOOKS {
        // SAFETY: no arguments, no memory.
        let now = unsafe { bpf_ktime_get_ns() };
        if now >= due {
            return due.max(now.saturating_sub(CATCH_UP));
        }
        looks += 1;
    }
    due
}

/// Looks at the clock while a query waits.
const MAX_LOOKS: u32 = 1_000;
/// Nanoseconds by which queries may be late and are still made up for.
const CATCH_UP: u64 = 20_000;

/// Writes an octet into a frame, and gives what that adds to a sum of 16-bit words.
#[inline(always)]
fn put(frame: &mut [u8; FRAME], at: u32, octet: u8) -> u32 {
    frame[at as usize & (FRAME - 1)] = octet;
    match at & 1 {
        0 => (octet as u32) << 8,
        _ => octet as u32,
    }
}

/// Draws an IPv4 address: `None` for the one that is there.
#[inline(always)]
fn draw_v4(of: u32) -> Option<Option<u32>> {
    let drawn = match of {
        OF_TABLE => {
            let &[a, b, c, d, ..] = CLIENTS.get(random() % CLIENTS_LEN)?;
            u32::from_be_bytes([a, b, c, d])
        }
        RANDOM => routable(random()),
        _ => return Some(None),
    };
    Some(Some(drawn))
}

/// Draws the network of an IPv6 address, of 64 bits: `None` for the one that is there.
#[inline(always)]
fn draw_v6(of: u32) -> Option<Option<[u8; 8]>> {
    let drawn = match of {
        OF_TABLE => {
            let &[a, b, c, d, e, f, g, h, ..] = CLIENTS.get(random() % CLIENTS_LEN)?;
            [a, b, c, d, e, f, g, h]
        }
        RANDOM => {
            // 2000::/3 is what is given out.
            let high = 0x2000_0000 | random() & 0x1fff_ffff;
            let drawn = (high as u64) << 32 | random() as u64;
            if subnet::is_special_v6(drawn) {
                return Some(Some(SOMEBODY_V6.to_be_bytes()));
            }
            drawn.to_be_bytes()
        }
        _ => return Some(None),
    };
    Some(Some(drawn))
}

/// A random number.
#[inline(always)]
fn random() -> u32 {
    // SAFETY: no arguments, no memory.
    unsafe { bpf_get_prandom_u32() }
}

/// The octets of an IPv4 address where those of an IPv6 network have their place.
#[inline(always)]
fn low([a, b, c, d]: [u8; 4]) -> [u8; 8] {
    [a, b, c, d, 0, 0, 0, 0]
}

/// Computes the checksum of a frame's IPv4 header.
#[inline(always)]
fn sum_v4(frame: &mut [u8; FRAME]) {
    frame[ETHERNET + 10] = 0;
    frame[ETHERNET + 11] = 0;
    let mut sum = 0u32;
    let mut word = 0;
    while word < 10 {
        let place = ETHERNET + 2 * word;
        sum += u16::from_be_bytes([frame[place], frame[place + 1]]) as u32;
        word += 1;
    }
    frame[ETHERNET + 10..ETHERNET + 12].copy_from_slice(&(!folded(sum)).to_be_bytes());
}

/// The sum of the 16-bit words of a part of a frame.
#[inline(always)]
fn words(frame: &[u8; FRAME], part: Range<usize>) -> u32 {
    let mut sum = 0;
    let mut at = part.start;
    while at < part.end {
        sum += u16::from_be_bytes([frame[at], frame[at + 1]]) as u32;
        at += 2;
    }
    sum
}

/// The UDP checksum of what has this sum.
#[inline(always)]
fn checksum(sum: u32) -> u16 {
    match !folded(sum) {
        0 => 0xffff,
        checksum => checksum,
    }
}

/// A sum of words as one word (RFC 1071).
#[inline(always)]
fn folded(sum: u32) -> u16 {
    let sum = (sum & 0xffff) + (sum >> 16);
    ((sum & 0xffff) + (sum >> 16)) as u16
}

/// The further task.
#[inline(always)]
fn besides() -> u32 {
    BESIDES.get(0).copied().unwrap_or(0)
}

/// Draws one of N names, the one of rank `k` with a share of `1 / (k * ln(names))`: a random power of
/// `names`. Names of neighbouring ranks are far from each other.
#[inline(always)]
fn zipf(random: u32, names: u32, log2_names: u32) -> u32 {
    // Its log2, and 2 to the power of its fraction, to 3 in 1,000; 32 bits behind the point.
    let power = (random as u64 * log2_names as u64) >> 16;
    let fraction = power & 0xffff_ffff;
    // 2^x - 1 = x * (0.6564 + 0.3436 * x)
    let factor = 0xa80a_0000 + ((fraction * 0x57f6_0000) >> 32);
    let mantissa = (1 << 32) + ((fraction * factor) >> 32);
    let rank = (mantissa << ((power >> 32) & 31)) >> 32;
    // A power of 3, which shares no factor with a power of 10.
    (rank.wrapping_mul(387_420_489) % names as u64) as u32
}

/// Makes an address of the unicast space of a random number, of none that is nobody's place on the Internet.
#[inline(always)]
fn routable(random: u32) -> u32 {
    let low = random & 0x00ff_ffff;
    // 1 to 223, each as likely as the next.
    let first = 1 + (((random >> 24) * 223) >> 8);
    let drawn = first << 24 | low;
    if subnet::is_special_v4(drawn) {
        SOMEBODY << 24 | low
    } else {
        drawn
    }
}

/// First octet of what is drawn in place of a special address.
const SOMEBODY: u32 = 20;
/// The network that is drawn in place of a special one.
const SOMEBODY_V6: u64 = 0x2a00_1450_4001_0000;

/// A frame's length, so that the verifier knows it too: that of Linux 6.1 learns nothing from a
/// comparison to 0.
#[inline(always)]
fn bounded(len: u32) -> Option<u32> {
    let last = core::hint::black_box(len.wrapping_sub(1));
    if last < FRAME as u32 {
        Some(last + 1)
    } else {
        None
    }
}

/// How long the packet's frame is. LLVM is not to know that it is a difference of pointers: it would
/// rewrite what is done with it as arithmetic of pointers, which the verifier refuses.
#[inline(always)]
fn frame_len(ctx: &XdpContext) -> u32 {
    core::hint::black_box(ctx.data_end() - ctx.data()) as u32
}

/// Counts what comes back, and drops it; but for what is not UDP, which may be somebody else's.
#[xdp]
fn sink(ctx: XdpContext) -> u32 {
    let Some(seen) = SEEN.get_ptr_mut(0) else {
        return XDP_PASS;
    };
    // SAFETY: this CPU's own value, as in `make_query`.
    let seen = unsafe { &mut *seen };
    let mut head = [0; HEAD];
    let is_dns = load_head(&ctx, &mut head).is_some();
    match if is_dns { kind(&head) } else { None } {
        Some(Kind::Answer) => seen.answers += 1,
        Some(Kind::Nodata) => seen.nodata += 1,
        Some(Kind::Nxdomain) => seen.nxdomain += 1,
        Some(Kind::Query) => seen.queries += 1,
        None => seen.other += 1,
    }
    match besides() {
        TIME if is_dns => time(u16::from_be_bytes([head[DNS_V4], head[DNS_V4 + 1]])),
        KEEP if is_dns => keep(&ctx),
        _ => Some(()),
    };
    if is_dns { XDP_DROP } else { XDP_PASS }
}

enum Kind {
    Answer,
    Nodata,
    Nxdomain,
    Query,
}

/// Octets of a frame up to where the DNS header ends, over IPv4.
const HEAD: usize = DNS_V4 + 12;

/// Loads the head of a UDP frame over IPv4 or IPv6: the DNS header is at [`DNS_V4`] in both.
#[inline(always)]
fn load_head(ctx: &XdpContext, head: &mut [u8; HEAD]) -> Option<()> {
    load(ctx, 0, head)?;
    match (head[12], head[13]) {
        (0x08, 0x00) if head[ETHERNET] == 0x45 && head[ETHERNET + 9] == 17 => Some(()),
        (0x86, 0xdd) if head[ETHERNET + 6] == 17 => load(ctx, DNS_V6 as u32, &mut head[DNS_V4..]),
        _ => None,
    }
}

/// Loads octets of the packet.
#[inline(always)]
fn load(ctx: &XdpContext, from: u32, to: &mut [u8]) -> Option<()> {
    // SAFETY: `to` is as long as is asked for.
    let loaded =
        unsafe { bpf_xdp_load_bytes(ctx.ctx, from, to.as_mut_ptr().cast(), to.len() as u32) };
    if loaded == 0 { Some(()) } else { None }
}

/// The kind of DNS message that has this head.
#[inline(always)]
fn kind(head: &[u8; HEAD]) -> Option<Kind> {
    let answers = u16::from_be_bytes([head[DNS_V4 + 6], head[DNS_V4 + 7]]);
    let authority = u16::from_be_bytes([head[DNS_V4 + 8], head[DNS_V4 + 9]]);
    // QR, opcode QUERY, AA, not TC; RD as the client likes. Then RA, Z, AD, CD and RCODE all 0.
    match (head[DNS_V4 + 2] & 0xfe, head[DNS_V4 + 3]) {
        (0x84, 0) if answers > 0 => Some(Kind::Answer),
        (0x84, 0) if authority == 1 => Some(Kind::Nodata),
        (0x84, 3) if authority == 1 => Some(Kind::Nxdomain),
        (0x00, _) => Some(Kind::Query),
        _ => None,
    }
}

/// Counts how long the answer with this id took.
#[inline(always)]
fn time(id: u16) -> Option<()> {
    // SAFETY: no arguments, no memory.
    let now = unsafe { bpf_ktime_get_ns() };
    let sent = SENT.get_ptr_mut(id as u32)?;
    let times = TIMES.get_ptr_mut(0)?;
    // SAFETY: maps' values; nobody else writes them meanwhile.
    unsafe {
        if *sent != 0 {
            let at = bucket(now.saturating_sub(*sent)) as usize & (BUCKETS as usize - 1);
            (*times)[at] += 1;
            *sent = 0;
        }
    }
    Some(())
}

/// In which bucket a time in nanoseconds belongs: eight to each power of two.
#[inline(always)]
fn bucket(nanoseconds: u64) -> u32 {
    // 17 seconds and more are one.
    let mut left = nanoseconds.min((1 << 34) - 1);
    let mut doublings = 0;
    while doublings < 30 {
        if left < 16 {
            break;
        }
        left >>= 1;
        doublings += 1;
    }
    8 * doublings + left as u32
}

/// Keeps the frame for the caller to see.
#[inline(always)]
fn keep(ctx: &XdpContext) -> Option<()> {
    let kept = LAST.get_ptr_mut(0)?;
    // As in `bounded`.
    let last = core::hint::black_box(frame_len(ctx).wrapping_sub(1));
    if last >= KEPT as u32 {
        return None;
    }
    // SAFETY: a map's value; nobody else writes it meanwhile. Its frame is as long as is asked for.
    unsafe {
        let frame = &raw mut (*kept).frame;
        if bpf_xdp_load_bytes(ctx.ctx, 0, frame.cast(), last + 1) == 0 {
            (*kept).len = last + 1;
        }
    }
    Some(())
}

/// Puts the query of [`TEMPLATE`] back into the packet and calls [`TARGET`], so that a test run
/// with `repeat` times the answering of a query each time and not of the answer before.
#[xdp]
fn restore(ctx: XdpContext) -> u32 {
    if put_back(&ctx).is_some() {
        // SAFETY: the map holds XDP programs only; nothing here needs to be dropped.
        unsafe { TARGET.tail_call(&ctx, 0) };
    }
    XDP_ABORTED
}

#[inline(always)]
fn put_back(ctx: &XdpContext) -> Option<()> {
    let template = TEMPLATE.get_ptr_mut(0)?;
    // SAFETY: this CPU's own value, as in `make_query`.
    let template = unsafe { &mut *template };
    let len = bounded(template.len)?;
    let change = len as i32 - frame_len(ctx) as i32;
    // SAFETY: ctx is valid; the packet's bounds are checked by the kernel.
    if change != 0 && unsafe { bpf_xdp_adjust_tail(ctx.ctx, change) } != 0 {
        return None;
    }
    let frame = template.frame.as_mut_ptr().cast();
    // SAFETY: `len` is at most the length of `frame`.
    if unsafe { bpf_xdp_store_bytes(ctx.ctx, 0, frame, len) } != 0 {
        return None;
    }
    Some(())
}

/// Addresses that one run of `draw` and its like draws.
const DRAWS: u32 = 16;

/// Draws IPv4 addresses evenly, does something with each, and adds up what that gives. What was found
/// goes into the next draw, as a packet's lookup ends before the next packet's begins.
#[inline(always)]
fn draw_each(look_up: impl Fn(u32) -> Option<u32>) -> u32 {
    let Some(drawn) = DRAWN.get_ptr_mut(0) else {
        return XDP_ABORTED;
    };
    // SAFETY: this CPU's own value, as in `make_query`.
    let [seed, sum] = unsafe { &mut *drawn };
    let mut draws = 0;
    while draws < DRAWS {
        // Knuth's MMIX generator; its upper half is random enough.
        let next = seed.wrapping_mul(6_364_136_223_846_793_005);
        let next = next.wrapping_add(1_442_695_040_888_963_407);
        let Some(found) = look_up((next >> 32) as u32) else {
            return XDP_ABORTED;
        };
        *seed = next.wrapping_add(found as u64);
        *sum = sum.wrapping_add(found as u64);
        draws += 1;
    }
    XDP_DROP
}

/// The drawing alone.
#[xdp]
fn draw(_ctx: XdpContext) -> u32 {
    draw_each(|address| Some(address & 1))
}

/// Looks each up in the prefix table, as the responder does.
#[xdp]
fn draw_table(_ctx: XdpContext) -> u32 {
    draw_each(|address| {
        let mut key = [0; 16];
        key[..4].copy_from_slice(&address.to_be_bytes());
        let entry = tables::find_entry(&PrefixTable, 0, Family::V4, &key)?;
        Some(entry.region())
    })
}

/// Looks each up in the LPM trie.
#[xdp]
fn draw_trie(_ctx: XdpContext) -> u32 {
    draw_each(|address| TRIE.get(Key::new(32, address.to_be())).copied())
}

/// A prefix table alone.
struct PrefixTable;

static NO_SETTINGS: abi::Settings = abi::Settings::new();

impl Tables for PrefixTable {
    #[inline(always)]
    fn root(&self, index: u32) -> Option<&Page> {
        ROOTS.get(index)
    }
    #[inline(always)]
    fn block(&self, number: u32) -> Option<&Block> {
        BLOCKS.get(number)
    }
    fn settings(&self) -> &abi::Settings {
        &NO_SETTINGS
    }
    fn name(&self, _slot: u32) -> Option<&abi::Name> {
        None
    }
    fn zone(&self, _index: u32) -> Option<&abi::Zone> {
        None
    }
    fn pool(&self, _index: u32) -> Option<&abi::Pool> {
        None
    }
    fn answer(&self, _index: u32) -> Option<&abi::Answer> {
        None
    }
    fn shelf(&self, _index: u32) -> Option<&abi::Shelf> {
        None
    }
    fn region(&self, _index: u32) -> Option<u64> {
        None
    }
    fn slot(&self, _index: u32) -> Option<u64> {
        None
    }
    fn random(&self) -> u32 {
        0
    }
}

#[cfg(not(test))]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

//! The programs that tests and benches put around the real one. No part of the daemon.
//!
//! - `pass`: lets everything through; a veth needs a program on both ends for native XDP_TX
//! - `reflect`: turns UDP around and does nothing else: what `geodns` is measured against
//! - `generate`: floods, run by `BPF_PROG_TEST_RUN` with live frames
//! - `sink`: stands on the generator's end, looks at what comes back, counts and drops it
//! - `draw`, `draw_table`, `draw_trie`: draw addresses; look each up in a prefix table; in an LPM trie
//! - `restore`: puts the query back into the packet and tail-calls the program to be timed

#![no_std]
#![no_main]

use aya_ebpf::bindings::xdp_action::{XDP_ABORTED, XDP_DROP, XDP_PASS, XDP_TX};
use aya_ebpf::helpers::{
    bpf_get_prandom_u32, bpf_xdp_adjust_tail, bpf_xdp_load_bytes, bpf_xdp_store_bytes,
};
use aya_ebpf::macros::{map, xdp};
use aya_ebpf::maps::lpm_trie::{Key, LpmTrie};
use aya_ebpf::maps::{Array, PerCpuArray, ProgramArray};
use aya_ebpf::programs::XdpContext;
use geodns_common::abi::{self, Block, Family, Page};
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

/// Random digits in a name, at the most.
const DIGITS: u32 = 8;

/// The query of [`generate`] and [`restore`].
#[repr(C)]
struct Template {
    /// Octets of the frame.
    len: u32,
    /// Queries made so far on this CPU: the low 16 bits are the DNS message id.
    made: u32,
    /// Where [`generate`] writes random decimal digits, in octets from the frame's start.
    digits_at: u32,
    /// How many, at most [`DIGITS`].
    digits: u32,
    /// 0: every number of so many digits is as likely as the next. Else how many numbers there are, which are
    /// drawn by a Zipf law of exponent 1.
    names: u32,
    /// log2 of `names`, in 65,536ths.
    log2_names: u32,
    /// The frame: Ethernet, IPv4 without options, UDP with checksum 0, DNS. For [`generate`], the
    /// IPv4 source address and header checksum and the DNS id are written over.
    frame: [u8; FRAME],
}

/// What [`sink`] saw, by kind of frame.
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
static TEMPLATE: PerCpuArray<Template> = PerCpuArray::with_max_entries(1, 0);

#[map]
static SEEN: PerCpuArray<Seen> = PerCpuArray::with_max_entries(1, 0);

/// The program that `restore` calls.
#[map]
static TARGET: ProgramArray = ProgramArray::with_max_entries(1, 0);

/// `BPF_F_NO_PREALLOC`, without which the kernel makes no trie.
const NO_PREALLOC: u32 = 1;

/// `BPF_F_MMAPABLE`
const MMAPABLE: u32 = 1 << 10;

/// What the prefix table is compared to.
#[map]
static TRIE: LpmTrie<u32, u32> = LpmTrie::with_max_entries(1, NO_PREALLOC);

/// A prefix table: the roots of one atlas, and the blocks below.
#[map]
static ROOTS: Array<Page> = Array::with_max_entries(1, MMAPABLE);
#[map]
static BLOCKS: Array<Block> = Array::with_max_entries(1, MMAPABLE);

/// What the last address was drawn from, and all that was found added up.
#[map]
static DRAWN: PerCpuArray<[u64; 2]> = PerCpuArray::with_max_entries(1, 0);

/// Lets everything through.
#[xdp]
fn pass(_ctx: XdpContext) -> u32 {
    XDP_PASS
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

/// Makes one query from a random address and sends it out of the interface it is run on.
///
/// The frame given to the test run is one octet longer than the query: cutting it off makes the
/// kernel take length and bounds anew for every frame. Frames are recycled, and without this a
/// query would be as long as the answer that the frame carried last.
#[xdp]
fn generate(ctx: XdpContext) -> u32 {
    make_query(&ctx).unwrap_or(XDP_DROP)
}

#[inline(always)]
fn make_query(ctx: &XdpContext) -> Option<u32> {
    let template = TEMPLATE.get_ptr_mut(0)?;
    // SAFETY: this CPU's own value; XDP programs are not preempted by one another on a CPU.
    let template = unsafe { &mut *template };

    // SAFETY: no arguments, no memory.
    let random = unsafe { bpf_get_prandom_u32() };
    let source = routable(random);
    template.made = template.made.wrapping_add(1);
    let id = template.made as u16;

    let frame = &mut template.frame;
    frame[ETHERNET + 12..ETHERNET + 16].copy_from_slice(&source.to_be_bytes());
    frame[ETHERNET + 10] = 0;
    frame[ETHERNET + 11] = 0;
    let mut sum = 0u32;
    let mut word = 0;
    while word < 10 {
        let place = ETHERNET + 2 * word;
        sum += u16::from_be_bytes([frame[place], frame[place + 1]]) as u32;
        word += 1;
    }
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    frame[ETHERNET + 10..ETHERNET + 12].copy_from_slice(&(!(sum as u16)).to_be_bytes());
    frame[DNS_V4..DNS_V4 + 2].copy_from_slice(&id.to_be_bytes());

    if template.digits > 0 {
        // SAFETY: no arguments, no memory.
        let random = unsafe { bpf_get_prandom_u32() };
        let mut random = match template.names {
            0 => random,
            names => zipf(random, names, template.log2_names),
        };
        let mut digit = 0;
        while digit < DIGITS {
            if digit >= template.digits {
                break;
            }
            let at = template.digits_at.wrapping_add(digit) as usize & (FRAME - 1);
            frame[at] = b'0' + (random % 10) as u8;
            random /= 10;
            digit += 1;
        }
    }

    let len = bounded(template.len)?;
    // SAFETY: ctx is valid; the packet's bounds are checked by the kernel.
    if unsafe { bpf_xdp_adjust_tail(ctx.ctx, -1) } != 0 {
        return None;
    }
    // SAFETY: `len` is at most the length of `frame`.
    if unsafe { bpf_xdp_store_bytes(ctx.ctx, 0, frame.as_mut_ptr().cast(), len) } != 0 {
        return None;
    }
    Some(XDP_TX)
}

/// Draws one of so many names, the one of rank `k` with a share of `1 / (k * ln(names))`: a random power of
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

/// Makes an address of the unicast space of a random number: nobody asks from 0/8, 127/8, 224/3.
#[inline(always)]
fn routable(random: u32) -> u32 {
    let low = random & 0x00ff_ffff;
    // 1 to 223, each as likely as the next.
    let first = 1 + (((random >> 24) * 223) >> 8);
    let first = if first == 127 { 126 } else { first };
    first << 24 | low
}

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

/// Counts what comes back, and drops it.
#[xdp]
fn sink(ctx: XdpContext) -> u32 {
    let Some(seen) = SEEN.get_ptr_mut(0) else {
        return XDP_PASS;
    };
    // SAFETY: this CPU's own value, as in `make_query`.
    let seen = unsafe { &mut *seen };
    match kind(&ctx) {
        Some(Kind::Answer) => seen.answers += 1,
        Some(Kind::Nodata) => seen.nodata += 1,
        Some(Kind::Nxdomain) => seen.nxdomain += 1,
        Some(Kind::Query) => seen.queries += 1,
        None => seen.other += 1,
    }
    XDP_DROP
}

enum Kind {
    Answer,
    Nodata,
    Nxdomain,
    Query,
}

/// What kind of DNS message an IPv4 frame carries.
#[inline(always)]
fn kind(ctx: &XdpContext) -> Option<Kind> {
    let mut head = [0u8; DNS_V4 + 12];
    // SAFETY: `head` is as long as is asked for.
    let loaded =
        unsafe { bpf_xdp_load_bytes(ctx.ctx, 0, head.as_mut_ptr().cast(), head.len() as u32) };
    if loaded != 0 || head[12] != 8 || head[13] != 0 || head[ETHERNET] != 0x45 {
        return None;
    }
    if head[ETHERNET + 9] != 17 {
        return None;
    }
    let flags = [head[DNS_V4 + 2], head[DNS_V4 + 3]];
    let answers = u16::from_be_bytes([head[DNS_V4 + 6], head[DNS_V4 + 7]]);
    let authority = u16::from_be_bytes([head[DNS_V4 + 8], head[DNS_V4 + 9]]);
    // QR, opcode QUERY, AA, not TC; RD as the client likes. Then RA, Z, AD, CD and RCODE all 0.
    match (flags[0] & 0xfe, flags[1]) {
        (0x84, 0) if answers > 0 => Some(Kind::Answer),
        (0x84, 0) if authority == 1 => Some(Kind::Nodata),
        (0x84, 3) if authority == 1 => Some(Kind::Nxdomain),
        (0x00, _) => Some(Kind::Query),
        _ => None,
    }
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
    let change = len as i32 - (ctx.data_end() - ctx.data()) as i32;
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

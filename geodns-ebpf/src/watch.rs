//! Queries that are dropped by a rule, or looked at: apart from the rest, which pays one branch for it.

use aya_ebpf::EbpfContext;
use aya_ebpf::helpers::bpf_ktime_get_ns;
use aya_ebpf::helpers::generated::{bpf_ringbuf_output, bpf_xdp_load_bytes};
use aya_ebpf::programs::XdpContext;
use geodns_common::block;
use geodns_common::layout::{NAME_WORDS, SKETCH_BITS, SKETCH_ROWS, Sighting};
use geodns_common::limit;
use geodns_common::scratch::Scratch;
use geodns_common::tables::Tables;
use geodns_common::verdict::{Tally, Verdict};
use geodns_common::watch::Watch;

use crate::maps::{self, Maps};
use crate::packet::Packet;

/// Looks at a query, which nobody has written to yet. Gives whether it is to be dropped.
#[inline(always)]
pub fn inspect(ctx: &XdpContext, packet: &Packet) -> bool {
    let found = geodns_inspect(packet.frame_len, ctx.ingress_ifindex() as u32);
    if found & CAPTURED != 0
        && let Some(sighting) = maps::SIGHTING.get_ptr_mut(0)
    {
        // SAFETY: this CPU's copy is not used by another.
        keep(ctx, packet.frame_len, unsafe { &mut (*sighting).query });
    }
    found & BLOCKED != 0
}

/// Result of [`geodns_inspect`]: the packet is to be dropped.
const BLOCKED: u32 = 1;
/// The same: its frame is to be kept.
const CAPTURED: u32 = 2;

/// Keeps a frame, or as much of it as there is room for.
#[inline(always)]
fn keep<const N: usize>(ctx: &XdpContext, frame_len: u32, to: &mut [u8; N]) {
    // That there is one at the least, Linux 6.1 would not learn from a comparison to 0.
    let last = core::hint::black_box(frame_len.min(N as u32).wrapping_sub(1));
    if last < N as u32 {
        // SAFETY: the helper checks both; so many octets are there.
        unsafe { bpf_xdp_load_bytes(ctx.as_ptr().cast(), 0, to.as_mut_ptr().cast(), last + 1) };
    }
}

/// [`inspect`], over this CPU's scratch. A function of its own, that the verifier checks once.
#[inline(never)]
#[unsafe(no_mangle)]
pub extern "C" fn geodns_inspect(frame_len: u32, ifindex: u32) -> u32 {
    let Some(scratch) = maps::scratch() else {
        return 0;
    };
    scratch.read_question();
    let row = scratch.watch;
    if row != 0 {
        watch(scratch, row, frame_len, ifindex);
    }
    let captured = if scratch.watched & Watch::FRAMES != 0 {
        CAPTURED
    } else {
        0
    };
    if is_blocked(scratch) {
        captured | BLOCKED
    } else {
        captured
    }
}

#[inline(always)]
fn is_blocked(scratch: &mut Scratch) -> bool {
    let row = scratch.block_rules;
    let mut found = None;
    if row & block::BlockTable::PREFIXES != 0 {
        found = maps::find_prefix(&maps::BLOCK_PREFIXES, scratch.source_key());
    }
    if found.is_none()
        && let Some(all) = maps::BLOCK_RULES.get(0)
    {
        let (list, rules) = all.list(row);
        found = block::find(scratch, &Maps, list, rules);
    }
    let Some(counter) = found else {
        return false;
    };
    if let Some(dropped) = maps::BLOCK_COUNTERS.get_ptr_mut(counter) {
        // SAFETY: this CPU's copy is not written by another.
        unsafe { *dropped += 1 };
    }
    true
}

/// Counts the client in the sketch, and decides whether more is told of the packet.
#[inline(always)]
fn watch(scratch: &mut Scratch, row: u64, frame_len: u32, ifindex: u32) {
    let mut kinds = 0;
    if row as u32 & Watch::SAMPLE != 0 {
        sketch(scratch, row);
        if Watch::is_sample(row, Maps.random()) {
            kinds |= Watch::SAMPLE;
        }
    }
    if row as u32 & Watch::CAPTURE != 0
        && let Some(watch) = maps::WATCH.get(0)
    {
        let from = scratch.source_key();
        if block::matches(scratch, &Maps, &watch.rule, from) {
            scratch.captured = scratch.captured.wrapping_add(1);
            if Watch::is_capture(row, scratch.captured) {
                kinds |= Watch::CAPTURE;
            }
        }
    }
    if row as u32 & Watch::TAP != 0 && Watch::is_tap(row, Maps.random()) {
        kinds |= Watch::TAP;
    }
    scratch.watched = kinds;
    if kinds == 0 {
        return;
    }
    let Some(sighting) = maps::SIGHTING.get_ptr_mut(0) else {
        return;
    };
    // SAFETY: this CPU's copy is not used by another.
    let sighting = unsafe { &mut *sighting };
    let (source, is_v6) = scratch.source();
    let (name_len, _, qtype) = scratch.question();
    // Not at once, for which LLVM would call memmove.
    (sighting.source[0], sighting.source[1]) = (source[0], source[1]);
    sighting.is_v6 = is_v6 as u32;
    sighting.ifindex = ifindex;
    sighting.qtype = qtype;
    sighting.name_len = name_len;
    sighting.query_len = frame_len;
    let mut word = 0;
    while word < NAME_WORDS {
        sighting.name[word] = scratch.name[word];
        word += 1;
    }
    // SAFETY: the helper takes nothing.
    sighting.at = unsafe { bpf_ktime_get_ns() };
}

/// Counts the client's prefix in both rows.
#[inline(always)]
fn sketch(scratch: &Scratch, row: u64) {
    let prefix = scratch.source_prefix();
    let first = if row as u32 & Watch::SECOND != 0 {
        SKETCH_ROWS
    } else {
        0
    };
    let key = &maps::settings().hash_key.0;
    let mut at = 0;
    while at < SKETCH_ROWS {
        if let Some(sketch) = maps::SKETCHES.get_ptr_mut(first + at) {
            let place = limit::place(prefix, key[at as usize], SKETCH_BITS) as usize;
            // SAFETY: the index is masked; this CPU's copy is not written by another.
            unsafe { (*sketch)[place & ((1 << SKETCH_BITS) - 1)].count(prefix) };
        }
        at += 1;
    }
}

/// Tells of a packet that is watched: what became of it, and its answer.
#[inline(always)]
pub fn report(ctx: &XdpContext, verdict: Verdict) {
    let Some(scratch) = maps::scratch() else {
        return;
    };
    if scratch.watched == 0 {
        return;
    }
    let mut answer_len = 0;
    if verdict.is_answer() {
        answer_len = (ctx.data_end() - ctx.data()) as u32;
        if scratch.watched & Watch::FRAMES != 0
            && let Some(sighting) = maps::SIGHTING.get_ptr_mut(0)
        {
            // SAFETY: this CPU's copy is not used by another.
            keep(ctx, answer_len, unsafe { &mut (*sighting).answer });
        }
    }
    geodns_report(verdict as u32, answer_len);
}

/// The rest of [`report`]. A function of its own, that the verifier checks once.
#[inline(never)]
#[unsafe(no_mangle)]
pub extern "C" fn geodns_report(verdict: u32, answer_len: u32) -> u32 {
    let (Some(scratch), Some(sighting)) = (maps::scratch(), maps::SIGHTING.get_ptr_mut(0)) else {
        return 0;
    };
    // SAFETY: this CPU's copy is not used by another.
    let sighting = unsafe { &mut *sighting };
    let mut kinds = scratch.watched;
    scratch.watched = 0;
    // SAFETY: the helper takes nothing.
    sighting.took = unsafe { bpf_ktime_get_ns() }.wrapping_sub(sighting.at) as u32;
    let is_wanted = maps::WATCH
        .get(0)
        .is_some_and(|watch| watch.verdicts >> (verdict & 63) & 1 != 0);
    if !is_wanted {
        kinds &= !Watch::CAPTURE;
    }
    // The slow path has the others.
    if verdict > Verdict::Blocked as u32 {
        kinds &= !Watch::TAP;
    }
    if kinds == 0 {
        return 0;
    }
    sighting.kinds = kinds;
    sighting.verdict = verdict;
    sighting.answer_len = answer_len;
    sighting.order = scratch.order;
    sighting.pool = scratch.pool;
    sighting.mirror = scratch.first_mirror();
    let octets = if kinds & Watch::FRAMES != 0 {
        size_of::<Sighting>()
    } else {
        Sighting::HEAD
    };
    // SAFETY: so many octets are there.
    let told = unsafe {
        let ring = (&raw const maps::SIGHTINGS).cast_mut().cast();
        bpf_ringbuf_output(ring, (&raw mut *sighting).cast(), octets as u64, 0)
    };
    if told != 0 {
        Maps.tally(Tally::WatchLost);
    }
    0
}

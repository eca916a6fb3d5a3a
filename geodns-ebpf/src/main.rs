//! The XDP program: finds the DNS message in a packet, lets [`respond`] answer it, and turns the
//! packet around. No DNS logic of its own.
//!
//! Everything is parsed before the first write: a packet that is passed is as it came.
//!
//! Program and stub are built twice, without the frags mark and with it (`FRAGS`): drivers that may spread a packet over
//! several buffers, at a large MTU, take only a program with the mark. It sees the first buffer of a packet.
//!
//! - `packet`: headers in; `turn`: headers out
//! - `maps`: the maps, and the tables over them
//! - `stub`: the program that is attached, and calls the one that answers
//! - `watch`: block rules, and samples of queries
//!
//! [`respond`]: geodns_common::respond

#![no_std]
#![no_main]
// `#[xdp]` drops the comment of its function.
#![allow(missing_docs)]

mod maps;
mod packet;
mod stub;
mod turn;
mod watch;

use aya_ebpf::bindings::xdp_action::{XDP_ABORTED, XDP_DROP, XDP_PASS, XDP_TX};
use aya_ebpf::helpers::generated::bpf_jiffies64;
use aya_ebpf::macros::xdp;
use aya_ebpf::programs::XdpContext;
use geodns_common::abi::{Seen, Stage};
use geodns_common::layout::{self, Callee, Traffic};
use geodns_common::limit;
use geodns_common::opaque::opaque;
use geodns_common::respond::respond;
use geodns_common::scratch::Scratch;
use geodns_common::tables::Tables;
use geodns_common::verdict::{COUNTERS, Fate, Tally, Verdict};

use crate::maps::Maps;

/// Answers what it can (XDP_TX) and passes the rest.
#[xdp]
#[inline(always)]
pub fn geodns(ctx: XdpContext) -> u32 {
    run::<false>(ctx)
}

/// The same with the frags mark: drivers attach it where a packet may take several buffers.
#[xdp(frags)]
#[inline(always)]
pub fn geodns_frags(ctx: XdpContext) -> u32 {
    run::<true>(ctx)
}

/// Both builds of the program.
#[inline(always)]
fn run<const FRAGS: bool>(ctx: XdpContext) -> u32 {
    forget_packet();
    let verdict = match answer::<FRAGS>(&ctx) {
        Ok(verdict) | Err(verdict) => verdict,
    };
    let verdict = forgotten(verdict);
    settle(verdict);
    let is_over_budget = verdict.has_budget() && is_over_budget(verdict);
    let counted = count(verdict, is_over_budget);
    count_traffic(&ctx, verdict, is_over_budget);
    count_mirror(verdict);
    sample(verdict, counted);
    watch::report(&ctx, verdict);
    log(&ctx, verdict);
    match verdict {
        _ if is_over_budget => XDP_DROP,
        verdict if verdict.is_answer() => XDP_TX,
        verdict if verdict.is_drop() => XDP_DROP,
        Verdict::Aborted => XDP_ABORTED,
        _ => pass::<FRAGS>(&ctx),
    }
}

/// Passes a packet, by way of the next program if there is one.
#[inline(always)]
fn pass<const FRAGS: bool>(ctx: &XdpContext) -> u32 {
    if maps::settings().has_next != 0 {
        stub::call::<FRAGS>(ctx, Callee::Next);
    }
    XDP_PASS
}

#[inline(always)]
fn answer<const FRAGS: bool>(ctx: &XdpContext) -> Result<Verdict, Verdict> {
    let scratch = maps::scratch().ok_or(Verdict::Internal)?;
    let packet = match packet::parse::<FRAGS>(ctx, scratch) {
        Ok(packet) => packet,
        Err(verdict @ (Verdict::IpOptions | Verdict::Fragment)) => {
            return Err(packet::look_again(ctx.ctx, scratch.ip_at, verdict));
        }
        Err(verdict) => return Err(verdict),
    };
    stop(Stage::Headers)?;
    let loaded = packet::load(ctx, scratch, &packet);
    if scratch.block_rules | scratch.watch != 0 && watch::inspect(ctx, &packet) {
        return Err(Verdict::Blocked);
    }
    loaded?;
    stop(Stage::Load)?;
    // Headers of all kinds are one path from here on.
    let packet = packet.forgotten(scratch);
    // In a driver it would take an eighth of the time of an answer.
    scratch.partial = 0;
    if scratch.generic != 0 && maps::geodns_check_sum() == 0 {
        return Err(Verdict::Checksum);
    }
    let verdict = respond(scratch, &Maps);
    if !verdict.is_answer() {
        return Err(verdict);
    }
    stop(Stage::Answer)?;
    turn::send::<FRAGS>(ctx, scratch, &packet)?;
    Ok(verdict)
}

/// Gives a packet up after a stage, if a bench asks for that.
#[inline(always)]
fn stop(stage: Stage) -> Result<(), Verdict> {
    match maps::settings().stops_after(stage) {
        true => Err(Verdict::Internal),
        false => Ok(()),
    }
}

/// The same verdict, as after [`Scratch::forget`], where each of them would lead through the log for itself.
///
/// [`Scratch::forget`]: geodns_common::scratch::Scratch::forget
#[inline(always)]
fn forgotten(verdict: Verdict) -> Verdict {
    match maps::scratch() {
        Some(scratch) if maps::settings().log_every != 0 => {
            // SAFETY: the number is that of a verdict.
            unsafe { core::mem::transmute::<u32, Verdict>(scratch.forget(verdict as u32)) }
        }
        _ => verdict,
    }
}

/// Settles the limit of responses: a query that is not answered here has taken no token, so that whoever answers it
/// takes one.
#[inline(always)]
fn settle(verdict: Verdict) {
    if maps::settings().limit.rate.interval == 0 {
        return;
    }
    let Some(scratch) = maps::scratch() else {
        return;
    };
    let limited = scratch.limited;
    if limited == 0 {
        return;
    }
    scratch.limited = 0;
    if limited == Scratch::LET_PASS {
        if verdict.is_answer() {
            Maps.tally(Tally::OverLimit);
        }
    } else if !verdict.is_answer() {
        maps::geodns_put_back();
    }
}

/// Whether this packet is dropped because this CPU has passed too many for the same reason.
#[inline(always)]
fn is_over_budget(verdict: Verdict) -> bool {
    let settings = maps::settings();
    if settings.budget.interval == 0 {
        return false;
    }
    let Some(budgets) = maps::BUDGETS.get_ptr_mut(0) else {
        return false;
    };
    let index = opaque(verdict as usize) & (COUNTERS / 2 - 1);
    // SAFETY: the helper takes nothing; the index is masked.
    unsafe {
        let now = bpf_jiffies64().wrapping_mul(settings.tick);
        !limit::take(&(*budgets)[index], &settings.budget, now)
    }
}

/// Counts a verdict on this CPU. Gives how many there are now.
#[inline(always)]
fn count(verdict: Verdict, is_over_budget: bool) -> u64 {
    let Some(counters) = maps::COUNTERS.get_ptr_mut(0) else {
        return 0;
    };
    let index = verdict as u32 + is_over_budget as u32 * Verdict::OVER_BUDGET;
    // LLVM would drop the mask, which the verifier needs.
    let index = opaque(index as usize) & (COUNTERS - 1);
    // SAFETY: the index is masked; this CPU's copy is not written by another.
    unsafe {
        let counter = &raw mut (*counters)[index];
        *counter += 1;
        *counter
    }
}

/// Counts a packet's fate on this CPU, for the interface that the packet came by.
#[inline(always)]
fn count_traffic(ctx: &XdpContext, verdict: Verdict, is_over_budget: bool) {
    let slot = Traffic::slot(ctx.ingress_ifindex() as u32);
    let Some(traffic) = maps::TRAFFIC.get_ptr_mut(slot) else {
        return;
    };
    let fate = match is_over_budget {
        true => Fate::Dropped as u32,
        false => verdict.fate(),
    };
    // LLVM would drop the mask, which the verifier needs.
    let fate = opaque(fate as usize) & (Fate::COUNT - 1);
    // SAFETY: the index is masked; this CPU's copy is not written by another.
    unsafe { (*traffic).by_fate[fate] += 1 };
}

/// Counts an answer of a pool on this CPU, for the mirror that is first in it. Without `[metrics]` the verifier removes
/// this.
#[inline(always)]
fn count_mirror(verdict: Verdict) {
    let pages = maps::settings().mirror_pages;
    if pages == 0 || !matches!(verdict, Verdict::Answered) {
        return;
    }
    let Some(scratch) = maps::scratch() else {
        return;
    };
    let counter = scratch.counter;
    // SAFETY: the helper takes nothing.
    let cpu = unsafe { aya_ebpf::helpers::bpf_get_smp_processor_id() };
    let page = layout::mirror_page(pages, cpu, counter);
    if let Some(page) = maps::MIRRORS.get_ptr_mut(page) {
        // LLVM would drop the mask, which the verifier needs.
        let word = opaque(counter as usize) & (layout::MIRROR_PAGE as usize - 1);
        // SAFETY: the index is masked; this CPU's page is not written by another.
        unsafe { (*page)[word] += 1 };
    }
}

/// Keeps one in [`Seen::EVERY`] clients that were answered.
#[inline(always)]
fn sample(verdict: Verdict, counted: u64) {
    let counted = counted as u32;
    if !matches!(verdict, Verdict::Answered) || counted & (Seen::EVERY - 1) != 0 {
        return;
    }
    let Some(scratch) = maps::scratch() else {
        return;
    };
    // SAFETY: the helper takes nothing.
    let cpu = unsafe { aya_ebpf::helpers::bpf_get_smp_processor_id() };
    if let Some(seen) = maps::SEEN.get_ptr_mut(Seen::slot(counted, cpu)) {
        let version = if scratch.client_is_v6 != 0 { 6 } else { 4 };
        // SAFETY: an element of the map; that others write it at once matters to nobody.
        unsafe {
            let client = (&raw const scratch.client).cast::<[u64; 2]>();
            let [first, second] = client.read_unaligned();
            let kept = (&raw mut (*seen).client).cast::<u64>();
            kept.write_unaligned(first);
            kept.add(1).write_unaligned(second);
            (*seen).pool = scratch.pool;
            (*seen).version = version;
        }
    }
}

/// Reports one packet in `log_every`: the verdict's number, octets of the message, 0 if the packet was not found
/// to be for us, and the client: whether its address is an IPv6 one, and the address, IPv4 in the first four
/// octets. With 0, which the verifier knows, there is no code for it.
#[inline(always)]
fn log(ctx: &XdpContext, verdict: Verdict) {
    let every = maps::settings().log_every;
    // SAFETY: the helper takes nothing.
    if every == 0 || unsafe { aya_ebpf::helpers::bpf_get_prandom_u32() } % every != 0 {
        return;
    }
    let Some(scratch) = maps::scratch() else {
        return;
    };
    let (octets, is_v6) = (scratch.message_len, scratch.client_is_v6);
    aya_log_ebpf::info!(
        ctx,
        "{} {} {} {:i}",
        verdict as u32,
        octets,
        is_v6,
        scratch.client
    );
}

/// Clears the fields of the scratch that are logged: those of the packet before this one.
#[inline(always)]
fn forget_packet() {
    if maps::settings().log_every != 0
        && let Some(scratch) = maps::scratch()
    {
        scratch.message_len = 0;
    }
}

#[cfg(target_arch = "bpf")]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

/// The functions that the kernel marks so are for GPL programs; the source is MIT OR Apache-2.0.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

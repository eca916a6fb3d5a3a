//! The stub: what is attached to interfaces.
//!
//! It calls the program in its array. While there is none, it calls the next one, or passes the packet. So userspace changes the program of
//! all interfaces with one store, and no driver notices.

use aya_ebpf::bindings::xdp_action::XDP_PASS;
use aya_ebpf::macros::xdp;
use aya_ebpf::programs::XdpContext;
use geodns_common::layout::Callee;

use crate::maps::PROGRAMS;

/// Calls the program that answers.
#[xdp]
pub fn geodns_stub(ctx: XdpContext) -> u32 {
    call(&ctx, Callee::Answers);
    call(&ctx, Callee::Next);
    XDP_PASS
}

/// Goes on with another program; comes back if there is none. The index is a constant, so the kernel patches a jump to
/// that program into the code of this one.
#[inline(always)]
pub fn call(ctx: &XdpContext, callee: Callee) {
    // SAFETY: the array holds XDP programs only; callers have nothing that needs to be dropped.
    unsafe { PROGRAMS.tail_call(ctx, callee as u32) };
}

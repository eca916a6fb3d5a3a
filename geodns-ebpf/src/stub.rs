//! The stub: what is attached to interfaces.
//!
//! It calls the program in its array, and passes the packet while there is none. So userspace changes the program of
//! all interfaces with one store, and no driver notices.

use aya_ebpf::bindings::xdp_action::XDP_PASS;
use aya_ebpf::macros::xdp;
use aya_ebpf::programs::XdpContext;
use geodns_common::layout::Callee;

use crate::maps::PROGRAMS;

/// Calls the program that answers.
#[xdp]
pub fn geodns_stub(ctx: XdpContext) -> u32 {
    // The index is a constant, so the kernel patches a jump to the program into this one's code.
    // SAFETY: the array holds XDP programs only; nothing here needs to be dropped.
    unsafe { PROGRAMS.tail_call(&ctx, Callee::Answers as u32) };
    XDP_PASS
}

//! The stub: what is attached to interfaces.
//!
//! It calls the program in its array. While there is none, it calls the next one, or passes the packet. So userspace
//! changes the program of all interfaces with one store, and no driver notices.
//!
//! The kernel has programs with the frags mark call only others with it, so that there are two stubs, each with an array
//! of its own.

use aya_ebpf::bindings::xdp_action::XDP_PASS;
use aya_ebpf::macros::xdp;
use aya_ebpf::programs::XdpContext;
use geodns_common::layout::Callee;

use crate::maps::{FRAGS_PROGRAMS, PROGRAMS};

/// Calls the program that answers.
#[xdp]
pub fn geodns_stub(ctx: XdpContext) -> u32 {
    run::<false>(&ctx)
}

/// The same with the frags mark.
#[xdp(frags)]
pub fn geodns_frags_stub(ctx: XdpContext) -> u32 {
    run::<true>(&ctx)
}

/// Both builds of the stub.
#[inline(always)]
fn run<const FRAGS: bool>(ctx: &XdpContext) -> u32 {
    call::<FRAGS>(ctx, Callee::Answers);
    call::<FRAGS>(ctx, Callee::Next);
    XDP_PASS
}

/// Goes on with another program; comes back if there is none. The index is a constant, so the kernel patches a jump to
/// that program into the code of this one.
#[inline(always)]
pub fn call<const FRAGS: bool>(ctx: &XdpContext, callee: Callee) {
    // SAFETY: the arrays hold XDP programs only; callers have nothing that needs to be dropped.
    unsafe {
        match FRAGS {
            false => PROGRAMS.tail_call(ctx, callee as u32),
            true => FRAGS_PROGRAMS.tail_call(ctx, callee as u32),
        }
    };
}

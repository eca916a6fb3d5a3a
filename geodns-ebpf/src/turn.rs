//! Turns an answered packet around and writes it back.

use aya_ebpf::EbpfContext;
use aya_ebpf::helpers::generated::{bpf_xdp_adjust_head, bpf_xdp_adjust_tail, bpf_xdp_store_bytes};
use aya_ebpf::programs::XdpContext;
use geodns_common::respond::{MESSAGE, Scratch};
use geodns_common::verdict::Verdict;
use geodns_common::wire::{self, MAX_UDP_SIZE};
use network_types::ip::{Ipv4Hdr, Ipv6Hdr};
use network_types::udp::UdpHdr;

use crate::maps;
use crate::packet::{Packet, length};

const UDP: u32 = MESSAGE - UdpHdr::LEN as u32;
const IPV4: u32 = UDP - Ipv4Hdr::LEN as u32;
const IPV6: u32 = UDP - Ipv6Hdr::LEN as u32;
/// TTL and hop limit of what we send.
const HOP_LIMIT: u8 = 64;
const PROTO_UDP: u64 = 17;

/// Makes the packet the response that the scratch holds.
///
/// On an error the packet is as it came, but for [`Verdict::Aborted`].
#[inline(always)]
pub fn send(ctx: &XdpContext, packet: &Packet) -> Result<(), Verdict> {
    let scratch = maps::scratch().ok_or(Verdict::Internal)?;
    if scratch.message_len > MAX_UDP_SIZE {
        return Err(Verdict::Internal);
    }
    // LLVM would leave out masks for the bound it has just seen. The verifier of Linux 6.1 does not
    // know it: what was spilled before a comparison learns nothing from that.
    let message_len = core::hint::black_box(scratch.message_len);
    turn(scratch, packet, message_len);

    let len = packet.headers_len + message_len;
    let grow = len as i32 - packet.frame_len as i32;
    let grown = if grow > 0 {
        Some(make_room(ctx, grow)?)
    } else {
        None
    };
    let start = core::hint::black_box(MESSAGE - packet.headers_len) & 0x7f;
    let len = length::<0x7ff>(len);
    if len > MESSAGE + MAX_UDP_SIZE {
        return Err(Verdict::Aborted);
    }
    // SAFETY: 127 octets in, 76 and 1,232 octets are inside the frame.
    let stored = unsafe {
        let from = scratch.frame.as_mut_ptr().add(start as usize);
        bpf_xdp_store_bytes(ctx.as_ptr().cast(), 0, from.cast(), len)
    };
    if stored != 0 {
        return Err(match grown {
            None => Verdict::Internal,
            Some(end) if end.take_back(ctx, grow) => Verdict::Internal,
            Some(_) => Verdict::Aborted,
        });
    }
    // Shrinking loses octets, so it comes after what can still be given up.
    // SAFETY: the helper checks the context and the length.
    if grow < 0 && unsafe { bpf_xdp_adjust_tail(ctx.as_ptr().cast(), grow) } != 0 {
        return Err(Verdict::Aborted);
    }
    Ok(())
}

/// Where a packet was made longer.
#[derive(Clone, Copy)]
enum Grown {
    Tail,
    Head,
}

/// Makes the packet longer at its tail, else at its head. What is in it does not matter: it is
/// written whole.
#[inline(always)]
fn make_room(ctx: &XdpContext, by: i32) -> Result<Grown, Verdict> {
    // SAFETY: the helpers check the context and the length.
    unsafe {
        if bpf_xdp_adjust_tail(ctx.as_ptr().cast(), by) == 0 {
            Ok(Grown::Tail)
        } else if bpf_xdp_adjust_head(ctx.as_ptr().cast(), -by) == 0 {
            Ok(Grown::Head)
        } else {
            Err(Verdict::NoRoom)
        }
    }
}

impl Grown {
    #[inline(always)]
    fn take_back(self, ctx: &XdpContext, by: i32) -> bool {
        // SAFETY: the helpers check the context and the length.
        unsafe {
            match self {
                Self::Tail => bpf_xdp_adjust_tail(ctx.as_ptr().cast(), -by) == 0,
                Self::Head => bpf_xdp_adjust_head(ctx.as_ptr().cast(), by) == 0,
            }
        }
    }
}

/// Swaps addresses and ports, sets lengths, hop limit and checksums.
#[inline(always)]
fn turn(scratch: &mut Scratch, packet: &Packet, message_len: u32) {
    let udp_len = UdpHdr::LEN as u32 + message_len;
    swap_macs(scratch, MESSAGE - packet.headers_len);

    let source = scratch.get16(UDP);
    let destination = scratch.get16(UDP + 2);
    scratch.put16(UDP, destination);
    scratch.put16(UDP + 2, source);
    scratch.put16(UDP + 4, udp_len as u16);
    scratch.put16(UDP + 6, 0);

    let addresses = if packet.is_v6 {
        turn_v6(scratch, udp_len)
    } else {
        turn_v4(scratch, udp_len)
    };
    let pseudo = addresses + ((udp_len as u16).to_be() as u64) + (PROTO_UDP as u16).to_be() as u64;
    let checksum = wire::fold(pseudo + sum_udp(scratch, udp_len));
    // 0 would mean that there is none (RFC 768).
    let checksum = if checksum == 0 { 0xffff } else { checksum };
    scratch.put16(UDP + 6, u16::from_be(checksum));
}

#[inline(always)]
fn swap_macs(scratch: &mut Scratch, at: u32) {
    let mut word = 0;
    while word < 6 {
        let destination = scratch.get16(at + word);
        let source = scratch.get16(at + 6 + word);
        scratch.put16(at + word, source);
        scratch.put16(at + 6 + word, destination);
        word += 2;
    }
}

/// Reads 4 aligned octets, in memory order.
#[inline(always)]
fn get32(scratch: &Scratch, at: u32) -> u32 {
    // SAFETY: the masked index and 4 octets from it are inside the frame; callers align it.
    unsafe {
        scratch
            .frame
            .as_ptr()
            .add(at as usize & 0x7fc)
            .cast::<u32>()
            .read()
    }
}

/// Writes 4 aligned octets, in memory order.
#[inline(always)]
fn put32(scratch: &mut Scratch, at: u32, value: u32) {
    // SAFETY: the masked index and 4 octets from it are inside the frame; callers align it.
    unsafe {
        scratch
            .frame
            .as_mut_ptr()
            .add(at as usize & 0x7fc)
            .cast::<u32>()
            .write(value)
    }
}

/// Gives the sum of the addresses, for the pseudo-header.
#[inline(always)]
fn turn_v4(scratch: &mut Scratch, udp_len: u32) -> u64 {
    let source = get32(scratch, IPV4 + 12);
    let destination = get32(scratch, IPV4 + 16);
    scratch.put8(IPV4 + 1, 0);
    scratch.put16(IPV4 + 2, (Ipv4Hdr::LEN as u32 + udp_len) as u16);
    scratch.put16(IPV4 + 4, 0);
    // DF: routers on the way say so instead of fragmenting (RFC 9715).
    scratch.put16(IPV4 + 6, 0x4000);
    scratch.put8(IPV4 + 8, HOP_LIMIT);
    scratch.put16(IPV4 + 10, 0);
    put32(scratch, IPV4 + 12, destination);
    put32(scratch, IPV4 + 16, source);
    let mut sum = 0;
    let mut at = IPV4;
    while at < UDP {
        sum += get32(scratch, at) as u64;
        at += 4;
    }
    scratch.put16(IPV4 + 10, u16::from_be(wire::fold(sum)));
    source as u64 + destination as u64
}

/// Gives the sum of the addresses, for the pseudo-header.
#[inline(always)]
fn turn_v6(scratch: &mut Scratch, udp_len: u32) -> u64 {
    // Version 6; traffic class and flow label 0.
    put32(scratch, IPV6, 0x6000_0000_u32.to_be());
    scratch.put16(IPV6 + 4, udp_len as u16);
    scratch.put8(IPV6 + 7, HOP_LIMIT);
    let mut sum = 0;
    let mut at = 0;
    while at < 16 {
        let source = get32(scratch, IPV6 + 8 + at);
        let destination = get32(scratch, IPV6 + 24 + at);
        put32(scratch, IPV6 + 8 + at, destination);
        put32(scratch, IPV6 + 24 + at, source);
        sum += source as u64 + destination as u64;
        at += 4;
    }
    sum
}

/// Sums the UDP header and the message, 8 octets at a time; what follows the message is set to zero as
/// far as it is summed.
#[inline(always)]
fn sum_udp(scratch: &mut Scratch, udp_len: u32) -> u64 {
    let end = UDP + udp_len;
    scratch.put64(end, 0);
    // The first four, after which the frame is aligned to 8.
    let mut sum = get32(scratch, UDP) as u64;
    let mut at = UDP + 4;
    while at < MESSAGE + MAX_UDP_SIZE {
        if at >= end {
            break;
        }
        // SAFETY: the masked index and 8 octets from it are inside the frame, and aligned.
        let word = unsafe {
            scratch
                .frame
                .as_ptr()
                .add(at as usize & 0x7f8)
                .cast::<u64>()
                .read()
        };
        sum += (word & 0xffff_ffff) + (word >> 32);
        at += 8;
    }
    sum
}

const _: () = assert!((UDP + 4).is_multiple_of(8));

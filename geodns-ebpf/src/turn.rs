//! Turns an answered packet around: the message is written back behind new headers.
//!
//! Nothing is written before everything is known, and what is written is never read again here: a load that
//! spans several stores waits until all of them have left the core.

use aya_ebpf::EbpfContext;
use aya_ebpf::helpers::generated::{
    bpf_xdp_adjust_head, bpf_xdp_adjust_tail, bpf_xdp_get_buff_len,
};
use aya_ebpf::programs::XdpContext;
use geodns_common::abi::Stage;
use geodns_common::opaque::opaque;
use geodns_common::scratch::{MESSAGE, Scratch};
use geodns_common::verdict::Verdict;
use geodns_common::wire::{self, MAX_UDP_SIZE};
use network_types::eth::EthHdr;
use network_types::ip::{Ipv4Hdr, Ipv6Hdr};
use network_types::udp::UdpHdr;

use crate::maps;
use crate::packet::{self, CHUNK, Packet, room};

/// Where the headers are in the frame.
const UDP: u32 = MESSAGE - UdpHdr::LEN as u32;
const IPV4: u32 = UDP - Ipv4Hdr::LEN as u32;
const IPV6: u32 = UDP - Ipv6Hdr::LEN as u32;
/// TTL and hop limit of what we send.
const HOP_LIMIT: u8 = 64;
const PROTO_UDP: u8 = 17;
/// DF: routers on the way say so instead of fragmenting (RFC 9715).
const DONT_FRAGMENT: [u8; 2] = [0x40, 0];

/// Makes the packet the response that the scratch holds.
///
/// On an error the packet is as it came, but for [`Verdict::Aborted`].
#[inline(always)]
pub fn send<const FRAGS: bool>(
    ctx: &XdpContext,
    scratch: &mut Scratch,
    packet: &Packet,
) -> Result<(), Verdict> {
    // The tail would be that of the last buffer, and the message in the first. Nobody sends such a query in earnest.
    if FRAGS && buffers_len(ctx) != u64::from(packet.frame_len) {
        return Err(Verdict::NoRoom);
    }
    if scratch.message_len > MAX_UDP_SIZE {
        return Err(Verdict::Internal);
    }
    // LLVM would leave out masks for the bound it has just seen. The verifier of Linux 6.1 does not
    // know it: what was spilled before a comparison learns nothing from that.
    let message_len = opaque(scratch.message_len as usize) as u32 & 0x7ff;
    let headers_len = opaque(packet.headers_len as usize) as u32 & 0x7f;
    let grow = (headers_len + message_len) as i32 - packet.frame_len as i32;
    if grow > 0 {
        make_room(ctx, scratch, headers_len, grow)?;
    }
    if maps::settings().stops_after(Stage::Grow) {
        return Err(Verdict::Aborted);
    }
    let message = put_message(ctx, scratch, headers_len, message_len)?;
    put_macs(ctx, scratch, headers_len)?;
    let udp_len = UdpHdr::LEN as u32 + message_len;
    let addresses = if packet.is_v6 != 0 {
        put_v6(ctx, scratch, headers_len, udp_len)?
    } else {
        put_v4(ctx, scratch, headers_len, udp_len)?
    };
    put_udp(ctx, scratch, headers_len, udp_len, addresses, message)?;
    // Shrinking loses octets, so it comes after what can still be given up.
    if grow < 0 && !grow_tail(ctx, grow) {
        return Err(Verdict::Aborted);
    }
    Ok(())
}

/// Octets of a packet in all of its buffers.
#[inline(always)]
fn buffers_len(ctx: &XdpContext) -> u64 {
    // SAFETY: the helper reads the context.
    unsafe { bpf_xdp_get_buff_len(ctx.as_ptr().cast()) }
}

/// Octets that are tried first at the head where neither end alone has the room; half of them next, and so on.
const STEP: u32 = 128;
/// The last step: fewer octets are not worth a try.
const LAST_STEP: u32 = 8;

/// Makes the packet longer at its head, where the headers go then, else at its tail: that takes longer, since the
/// kernel fills it with zeros. Where neither has the room, the head gives what it has, and the tail the rest. A checksum
/// that is to be finished later keeps its place.
#[inline(always)]
fn make_room(
    ctx: &XdpContext,
    scratch: &mut Scratch,
    headers_len: u32,
    by: i32,
) -> Result<(), Verdict> {
    if scratch.partial == 0 && grow_head(ctx, by) {
        return put_link_header(ctx, scratch, headers_len);
    }
    if grow_tail(ctx, by) {
        return Ok(());
    }
    if scratch.partial != 0 {
        return Err(Verdict::NoRoom);
    }
    let mut at_head = 0;
    let mut step = STEP;
    while step >= LAST_STEP {
        if grow_head(ctx, step as i32) {
            at_head += step;
        }
        at_head = scratch.forget(at_head);
        step /= 2;
    }
    if grow_tail(ctx, by - at_head as i32) {
        return put_link_header(ctx, scratch, headers_len);
    }
    match grow_head(ctx, -(at_head as i32)) {
        true => Err(Verdict::NoRoom),
        false => Err(Verdict::Aborted),
    }
}

#[inline(always)]
fn grow_head(ctx: &XdpContext, by: i32) -> bool {
    // SAFETY: the helper checks the context and the length.
    unsafe { bpf_xdp_adjust_head(ctx.as_ptr().cast(), -by) == 0 }
}

#[inline(always)]
fn grow_tail(ctx: &XdpContext, by: i32) -> bool {
    // SAFETY: the helper checks the context and the length.
    unsafe { bpf_xdp_adjust_tail(ctx.as_ptr().cast(), by) == 0 }
}

/// Writes what is before the IP header, tags included, as it came: no more than a chunk. What comes behind it is
/// written over.
#[inline(always)]
fn put_link_header(ctx: &XdpContext, scratch: &Scratch, headers_len: u32) -> Result<(), Verdict> {
    let to = room::<CHUNK>(ctx, 0).ok_or(Verdict::Aborted)?;
    // SAFETY: `room` has looked; 127 octets in, a chunk is inside the frame.
    unsafe {
        let from = scratch.frame.as_ptr().add(start(headers_len));
        packet::copy(from.cast(), to.cast());
    }
    Ok(())
}

/// Where the headers start in the frame.
#[inline(always)]
fn start(headers_len: u32) -> usize {
    MESSAGE.wrapping_sub(headers_len) as usize & 0x7f
}

/// Reads 4 octets of the frame, in memory order, aligned to as many.
#[inline(always)]
fn get32(scratch: &Scratch, at: u32) -> u32 {
    // SAFETY: the masked index and 4 octets from it are inside the frame; callers align it.
    unsafe {
        let from = scratch.frame.as_ptr().add(at as usize & 0x7fc);
        from.cast::<u32>().read()
    }
}

/// Writes the message. Gives the sum of its 32-bit words, in the byte order that they lie in.
#[inline(always)]
fn put_message(
    ctx: &XdpContext,
    scratch: &mut Scratch,
    headers_len: u32,
    message_len: u32,
) -> Result<u64, Verdict> {
    let mut sum = 0;
    let mut at = 0;
    while at < MAX_UDP_SIZE {
        if at + CHUNK as u32 > message_len {
            break;
        }
        let to = room::<CHUNK>(ctx, headers_len + at).ok_or(Verdict::Aborted)?;
        let mut word = 0;
        while word < CHUNK as u32 {
            sum += put32(scratch, to, at, word);
            word += 4;
        }
        at += CHUNK as u32;
    }
    let mut at = scratch.forget(at) & 0x7ff;
    let mut sum = scratch.forget64(sum);
    let mut words = 0;
    while words < CHUNK / 4 {
        if at + 4 > message_len {
            break;
        }
        let to = room::<4>(ctx, headers_len + at).ok_or(Verdict::Aborted)?;
        sum += put32(scratch, to, at, 0);
        at += 4;
        words += 1;
    }
    let sum = scratch.forget64(sum);
    // The last octets, the ones before them once more: no message is as short as a word.
    let last = opaque(message_len.wrapping_sub(4) as usize) as u32 & 0x7ff;
    let to = room::<4>(ctx, headers_len + last).ok_or(Verdict::Aborted)?;
    // SAFETY: `room` has looked; 76 + 1,236 octets in, a word is inside the frame.
    unsafe {
        let from = scratch.frame.as_ptr().add((MESSAGE + last) as usize);
        let word = from.cast::<u32>().read_unaligned();
        to.cast::<u32>().write_unaligned(word);
    }
    let rest = wire::first_octets(
        u64::from_le(get32(scratch, MESSAGE + at).into()),
        message_len & 3,
    );
    Ok(sum + u64::from((rest as u32).to_le()))
}

/// Writes a word of the message to `to`, which is for the octets from `at` on. Gives the word.
#[inline(always)]
fn put32(scratch: &Scratch, to: *mut u8, at: u32, word: u32) -> u64 {
    // SAFETY: the masked index, and a chunk from it, are inside the frame, and aligned; callers have looked
    // that `to` is inside the packet.
    unsafe {
        let from = scratch.frame.as_ptr().add((MESSAGE + at) as usize & 0x7fc);
        let value = from.add(word as usize).cast::<u32>().read();
        to.add(word as usize).cast::<u32>().write_unaligned(value);
        u64::from(value)
    }
}

/// Copies a MAC address.
///
/// # Safety
///
/// There are 6 octets at both.
#[inline(always)]
unsafe fn copy_mac(from: *const u8, to: *mut u8) {
    // SAFETY: as the caller says.
    unsafe {
        let (first, last) = (from.cast::<u32>(), from.add(4).cast::<u16>());
        to.cast::<u32>().write_unaligned(first.read_unaligned());
        to.add(4)
            .cast::<u16>()
            .write_unaligned(last.read_unaligned());
    }
}

/// Sends it back to the MAC address that it came from.
#[inline(always)]
fn put_macs(ctx: &XdpContext, scratch: &Scratch, headers_len: u32) -> Result<(), Verdict> {
    let to = room::<{ EthHdr::LEN }>(ctx, 0).ok_or(Verdict::Aborted)?;
    // SAFETY: `room` has looked; 127 octets in, two addresses are inside the frame.
    unsafe {
        let from = scratch.frame.as_ptr().add(start(headers_len));
        copy_mac(from.add(6), to);
        copy_mac(from, to.add(6));
    }
    Ok(())
}

/// Writes an IPv4 header. Gives the sum of the addresses.
#[inline(always)]
fn put_v4(
    ctx: &XdpContext,
    scratch: &Scratch,
    headers_len: u32,
    udp_len: u32,
) -> Result<u64, Verdict> {
    const LEN: usize = Ipv4Hdr::LEN + UdpHdr::LEN;
    let at = headers_len.wrapping_sub(LEN as u32) & 0x7f;
    let to = room::<LEN>(ctx, at).ok_or(Verdict::Aborted)?;
    let source = get32(scratch, IPV4 + 12);
    let destination = get32(scratch, IPV4 + 16);
    let total_len = Ipv4Hdr::LEN as u32 + udp_len;
    let [first, second] = DONT_FRAGMENT;
    let words = [
        (0x4500_0000 | total_len).to_be(),
        u32::from_ne_bytes([0, 0, first, second]),
        u32::from_ne_bytes([HOP_LIMIT, PROTO_UDP, 0, 0]),
        destination,
        source,
    ];
    let mut sum = 0;
    let mut word = 0;
    while word < words.len() {
        sum += u64::from(words[word]);
        // SAFETY: `room` has looked.
        unsafe { to.cast::<u32>().add(word).write_unaligned(words[word]) };
        word += 1;
    }
    // SAFETY: as above.
    unsafe { to.add(10).cast::<u16>().write_unaligned(wire::fold(sum)) };
    Ok(u64::from(source) + u64::from(destination))
}

/// Writes an IPv6 header: no traffic class, no flow label. Gives the sum of the addresses.
#[inline(always)]
fn put_v6(
    ctx: &XdpContext,
    scratch: &Scratch,
    headers_len: u32,
    udp_len: u32,
) -> Result<u64, Verdict> {
    const LEN: usize = Ipv6Hdr::LEN + UdpHdr::LEN;
    let at = headers_len.wrapping_sub(LEN as u32) & 0x7f;
    let to = room::<LEN>(ctx, at).ok_or(Verdict::Aborted)?;
    let of_packet = u32::from_ne_bytes([0, 0, PROTO_UDP, HOP_LIMIT]);
    let words = [0x6000_0000_u32.to_be(), (udp_len << 16).to_be() | of_packet];
    // SAFETY: `room` has looked.
    unsafe {
        to.cast::<[u32; 2]>().write_unaligned(words);
    }
    let mut sum = 0;
    let mut word = 0;
    while word < 16 {
        let source = get32(scratch, IPV6 + 8 + word);
        let destination = get32(scratch, IPV6 + 24 + word);
        sum += u64::from(source) + u64::from(destination);
        // SAFETY: as above.
        unsafe {
            let to = to.add(8 + word as usize);
            to.cast::<u32>().write_unaligned(destination);
            to.add(16).cast::<u32>().write_unaligned(source);
        }
        word += 4;
    }
    Ok(sum)
}

/// Writes the UDP header, whose checksum is over these sums. An unfinished one is not over ports and message, and has
/// no complement.
#[inline(always)]
fn put_udp(
    ctx: &XdpContext,
    scratch: &Scratch,
    headers_len: u32,
    udp_len: u32,
    addresses: u64,
    message: u64,
) -> Result<(), Verdict> {
    let at = headers_len.wrapping_sub(UdpHdr::LEN as u32) & 0x7f;
    let to = room::<{ UdpHdr::LEN }>(ctx, at).ok_or(Verdict::Aborted)?;
    let ports = get32(scratch, UDP).rotate_left(16);
    let len = (udp_len as u16).to_be();
    // The length is in the pseudo-header too (RFC 768).
    let pseudo = u64::from(len) + u64::from(u16::from_be_bytes([0, PROTO_UDP]).to_be());
    let whole = message + u64::from(ports) + u64::from(len);
    let checksum = match scratch.partial {
        0 => wire::fold(addresses + pseudo + whole),
        _ => !wire::fold(addresses + pseudo),
    };
    // 0 would mean that there is none.
    let checksum = if checksum == 0 { 0xffff } else { checksum };
    // SAFETY: `room` has looked.
    unsafe {
        to.cast::<u32>().write_unaligned(ports);
        to.add(4).cast::<u16>().write_unaligned(len);
        to.add(6).cast::<u16>().write_unaligned(checksum);
    }
    Ok(())
}

//! Finds a DNS query to us in a packet: Ethernet, up to two tags, IPv4 or IPv6, UDP.

use aya_ebpf::bindings::xdp_md;
use aya_ebpf::helpers::generated::{bpf_jiffies64, bpf_ktime_get_coarse_ns};
use aya_ebpf::programs::XdpContext;
use geodns_common::address::Address;
use geodns_common::layout::Listen;
use geodns_common::opaque::opaque;
use geodns_common::scratch::{MAX_QUERY, MESSAGE, MIN_QUERY, Scratch};
use geodns_common::verdict::Verdict;
use network_types::eth::{EthHdr, EtherType};
use network_types::ip::{IpProto, Ipv4Hdr, Ipv6Hdr};
use network_types::udp::UdpHdr;
use network_types::vlan::VlanHdr;

use crate::maps;

const ETHERTYPE_IPV4: u16 = EtherType::Ipv4 as u16;
const ETHERTYPE_IPV6: u16 = EtherType::Ipv6 as u16;
const ETHERTYPE_8021Q: u16 = EtherType::Ieee8021q as u16;
const ETHERTYPE_8021AD: u16 = EtherType::Ieee8021ad as u16;

/// Where things are in a packet.
#[derive(Clone, Copy)]
pub struct Packet {
    /// 1 if it is IPv6.
    pub is_v6: u32,
    /// Octets before the DNS message.
    pub headers_len: u32,
    /// Octets of the DNS message, as the UDP header has it.
    pub message_len: u32,
    /// Octets of the whole frame, padding included: of those in its first buffer.
    pub frame_len: u32,
}

impl Packet {
    /// The same, as after [`Scratch::forget`].
    #[inline(always)]
    pub fn forgotten(self, scratch: &mut Scratch) -> Self {
        Self {
            is_v6: scratch.forget(self.is_v6),
            headers_len: scratch.forget(self.headers_len),
            message_len: scratch.forget(self.message_len),
            frame_len: scratch.forget(self.frame_len),
        }
    }
}

/// The header at an offset, if the packet is that long.
#[inline(always)]
fn header<T>(ctx: &XdpContext, at: usize) -> Result<&T, Verdict> {
    let start = ctx.data() + at;
    if start + size_of::<T>() > ctx.data_end() {
        return Err(Verdict::Truncated);
    }
    // SAFETY: inside the packet, as was just checked; the header types are made of octets or may
    // be read unaligned on every machine that runs this.
    Ok(unsafe { &*(start as *const T) })
}

/// Parses the headers, and decides whether the packet is for us. Leaves the client's address in
/// the scratch.
#[inline(always)]
pub fn parse<const FRAGS: bool>(
    ctx: &XdpContext,
    scratch: &mut Scratch,
) -> Result<Packet, Verdict> {
    let frame_len = (ctx.data_end() - ctx.data()) as u32;
    let eth: &EthHdr = match header(ctx, 0) {
        // The first buffer is empty: some drivers put all of a packet into others.
        Err(_) if FRAGS => return Err(Verdict::NotIp),
        found => found?,
    };
    let mac = mac(&eth.dst_addr);
    match eth.ether_type {
        ETHERTYPE_IPV4 => parse_v4(ctx, scratch, EthHdr::LEN, mac, frame_len),
        ETHERTYPE_IPV6 => parse_v6(ctx, scratch, EthHdr::LEN, mac, frame_len),
        ETHERTYPE_8021Q | ETHERTYPE_8021AD => {
            let tag: &VlanHdr = header(ctx, EthHdr::LEN)?;
            let at = EthHdr::LEN + VlanHdr::LEN;
            let outer = Listen::tag(eth.ether_type == ETHERTYPE_8021AD, tci(tag));
            match tag.ether_type {
                ETHERTYPE_IPV4 => {
                    let mac = check_vlan(ctx, mac, outer, 0)?;
                    parse_v4(ctx, scratch, at, mac, frame_len)
                }
                ETHERTYPE_IPV6 => {
                    let mac = check_vlan(ctx, mac, outer, 0)?;
                    parse_v6(ctx, scratch, at, mac, frame_len)
                }
                ETHERTYPE_8021Q => {
                    let tag: &VlanHdr = header(ctx, at)?;
                    let at = at + VlanHdr::LEN;
                    let inner = Listen::tag(false, tci(tag));
                    match tag.ether_type {
                        ETHERTYPE_IPV4 => {
                            let mac = check_vlan(ctx, mac, outer, inner)?;
                            parse_v4(ctx, scratch, at, mac, frame_len)
                        }
                        ETHERTYPE_IPV6 => {
                            let mac = check_vlan(ctx, mac, outer, inner)?;
                            parse_v6(ctx, scratch, at, mac, frame_len)
                        }
                        _ => Err(Verdict::NotIp),
                    }
                }
                _ => Err(Verdict::NotIp),
            }
        }
        _ => Err(Verdict::NotIp),
    }
}

/// A tag's priority and VLAN.
#[inline(always)]
fn tci(tag: &VlanHdr) -> u16 {
    u16::from_be_bytes(tag.tci)
}

/// The destination MAC address of a frame whose VLAN has been found, and that for it.
const ANY_MAC: u64 = u64::MAX;

/// Whether the interface has the VLAN of a frame: its stack drops a frame of another. Gives the MAC address that
/// is left to be compared.
#[inline(always)]
fn check_vlan(ctx: &XdpContext, mac: u64, outer: u32, inner: u32) -> Result<u64, Verdict> {
    let vlan = Listen::vlan(outer, inner);
    if vlan == 0 {
        return Ok(mac);
    }
    let ours = geodns_listen(Listen::VLAN, vlan, ctx.ingress_ifindex() as u32);
    if ours == 0 {
        return Err(Verdict::OtherAddress);
    }
    if ours & !Listen::GENERIC != Listen::IN_USE | mac {
        return Err(Verdict::OtherMac);
    }
    Ok(ANY_MAC)
}

/// A MAC address as a number, first octet highest.
#[inline(always)]
fn mac(octets: &[u8; 6]) -> u64 {
    let first = octets.first_chunk().map_or(0, |of| u32::from_be_bytes(*of));
    let last = octets.last_chunk().map_or(0, |of| u16::from_be_bytes(*of));
    u64::from(first) << 16 | u64::from(last)
}

/// An IPv6 address in two words, in memory order.
#[inline(always)]
fn words(address: &Address) -> [u64; 2] {
    let first = address
        .first_chunk()
        .map_or(0, |of| u64::from_ne_bytes(*of));
    let second = address.last_chunk().map_or(0, |of| u64::from_ne_bytes(*of));
    [first, second]
}

/// An IPv4 address, mapped (`::ffff:a.b.c.d`), as [`words`].
#[inline(always)]
fn mapped(address: u32) -> [u64; 2] {
    let (mark, address) = (u64::from(0xffff_u32.to_be()), u64::from(address));
    let second = if cfg!(target_endian = "big") {
        mark << 32 | address
    } else {
        address << 32 | mark
    };
    [0, second]
}

#[inline(always)]
fn parse_v4(
    ctx: &XdpContext,
    scratch: &mut Scratch,
    at: usize,
    mac: u64,
    frame_len: u32,
) -> Result<Packet, Verdict> {
    let ip: &Ipv4Hdr = header(ctx, at)?;
    let destination = mapped(u32::from_ne_bytes(ip.dst_addr));
    if ip.vihl != 0x45 {
        scratch.ip_at = at as u32;
        return Err(Verdict::IpOptions);
    }
    // More fragments, or an offset; DF is let be.
    if u16::from_be_bytes(ip.frags) & 0x3fff != 0 {
        scratch.ip_at = at as u32;
        return Err(Verdict::Fragment);
    }
    if ip.proto != IpProto::Udp as u8 {
        return Err(Verdict::NotUdp);
    }
    let total_len = u16::from_be_bytes(ip.tot_len) as u32;
    if at as u32 + total_len > frame_len || total_len < Ipv4Hdr::LEN as u32 {
        return Err(Verdict::Truncated);
    }
    let source = u32::from_ne_bytes(ip.src_addr);
    let payload_len = total_len - Ipv4Hdr::LEN as u32;
    let message_len = parse_udp(ctx, at + Ipv4Hdr::LEN, payload_len)?;

    check_destination(ctx, scratch, destination, mac)?;
    // "This network", loopback, multicast, reserved and broadcast (RFC 6890); and ourselves.
    let first = u32::from_be(source) >> 24;
    if first == 0 || first == 127 || first >= 224 || mapped(source) == destination {
        return Err(Verdict::Martian);
    }
    scratch.set_source_v4(source);
    scratch.message_len = message_len;
    let headers_len = (at + Ipv4Hdr::LEN + UdpHdr::LEN) as u32;
    Ok(Packet {
        is_v6: 0,
        headers_len,
        message_len,
        frame_len,
    })
}

#[inline(always)]
fn parse_v6(
    ctx: &XdpContext,
    scratch: &mut Scratch,
    at: usize,
    mac: u64,
    frame_len: u32,
) -> Result<Packet, Verdict> {
    let ip: &Ipv6Hdr = header(ctx, at)?;
    if ip.vcf[0] >> 4 != 6 {
        return Err(Verdict::NotIp);
    }
    if ip.next_hdr != IpProto::Udp as u8 {
        let verdict = match ip.next_hdr {
            HOP_BY_HOP | ROUTING | DESTINATION => Verdict::IpOptions,
            FRAGMENT => Verdict::Fragment,
            _ => return Err(Verdict::NotUdp),
        };
        scratch.ip_at = at as u32 | Scratch::IS_V6;
        return Err(verdict);
    }
    let payload_len = u16::from_be_bytes(ip.payload_len) as u32;
    if (at + Ipv6Hdr::LEN) as u32 + payload_len > frame_len {
        return Err(Verdict::Truncated);
    }
    let (source, destination) = (words(&ip.src_addr), words(&ip.dst_addr));
    let message_len = parse_udp(ctx, at + Ipv6Hdr::LEN, payload_len)?;
    let udp: &UdpHdr = header(ctx, at + Ipv6Hdr::LEN)?;
    if udp.check == [0; 2] {
        return Err(Verdict::NoChecksum);
    }

    // IPv4 addresses are mapped in the table: no IPv6 packet may find one.
    if is_martian_v6(destination) {
        return Err(Verdict::OtherAddress);
    }
    check_destination(ctx, scratch, destination, mac)?;
    if is_martian_v6(source) || source == destination {
        return Err(Verdict::Martian);
    }
    scratch.set_source_v6(source);
    scratch.message_len = message_len;
    let headers_len = (at + Ipv6Hdr::LEN + UdpHdr::LEN) as u32;
    Ok(Packet {
        is_v6: 1,
        headers_len,
        message_len,
        frame_len,
    })
}

/// The unspecified address, loopback, IPv4-mapped addresses and multicast.
#[inline(always)]
fn is_martian_v6(address: [u64; 2]) -> bool {
    let [high, low] = address.map(u64::from_be);
    high >> 56 == 0xff || high == 0 && (low <= 1 || low >> 32 == 0xffff)
}

/// Gives the octets of the message.
#[inline(always)]
fn parse_udp(ctx: &XdpContext, at: usize, payload_len: u32) -> Result<u32, Verdict> {
    let udp: &UdpHdr = header(ctx, at)?;
    if u16::from_be_bytes(udp.dst) != maps::settings().port {
        return Err(Verdict::OtherPort);
    }
    if u16::from_be_bytes(udp.src) == 0 {
        return Err(Verdict::Martian);
    }
    let len = u16::from_be_bytes(udp.len) as u32;
    if len < UdpHdr::LEN as u32 || len > payload_len {
        return Err(Verdict::Truncated);
    }
    Ok(len - UdpHdr::LEN as u32)
}

/// Extension headers of IPv6 behind which UDP may stand.
const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const DESTINATION: u8 = 60;
/// Extension headers that are walked.
const MAX_EXTENSIONS: u32 = 6;
/// Octets in front of the last of them, at the most.
const EXTENSIONS: u32 = 0x3fff;

/// The verdict on a packet with IP options or extension headers, or on a fragment: the given one, if it may be a query
/// to us. A packet that the daemon cannot want has no budget, and so is never dropped for being over one. Not a
/// part of [`parse`], which all packets pay for.
#[inline(never)]
pub fn look_again(ctx: *mut xdp_md, ip_at: u32, verdict: Verdict) -> Verdict {
    let ctx = &XdpContext::new(ctx);
    let at = ip_at & 0x1f;
    let found = if ip_at & Scratch::IS_V6 == 0 {
        may_be_query_v4(ctx, at)
    } else {
        may_be_query_v6(ctx, at)
    };
    match found {
        Ok([high, low]) if geodns_listen(high, low, ctx.ingress_ifindex() as u32) != 0 => verdict,
        Ok(_) => Verdict::OtherAddress,
        Err(other) => other,
    }
}

/// Gives the destination of what may be a query, by what can be seen of it.
#[inline(always)]
fn may_be_query_v4(ctx: &XdpContext, at: u32) -> Result<[u64; 2], Verdict> {
    let ip = octets::<{ Ipv4Hdr::LEN }>(ctx, at)?;
    let words = u32::from(ip[0] & 15);
    if ip[0] >> 4 != 4 {
        return Err(Verdict::NotIp);
    }
    if words < 5 {
        return Err(Verdict::Truncated);
    }
    if ip[9] != IpProto::Udp as u8 {
        return Err(Verdict::NotUdp);
    }
    // Only the first fragment says which port it is for.
    if u16::from_be_bytes([ip[6], ip[7]]) & 0x1fff == 0 {
        check_port(ctx, at + 4 * words)?;
    }
    Ok(mapped(u32::from_ne_bytes([ip[16], ip[17], ip[18], ip[19]])))
}

/// The same of IPv6.
#[inline(always)]
fn may_be_query_v6(ctx: &XdpContext, at: u32) -> Result<[u64; 2], Verdict> {
    let ip = octets::<{ Ipv6Hdr::LEN }>(ctx, at)?;
    let mut to = [0; 16];
    let mut octet = 0;
    while octet < 16 {
        to[octet] = ip[24 + octet];
        octet += 1;
    }
    let destination = words(&to);
    let (mut next, mut at) = (ip[6], at + Ipv6Hdr::LEN as u32);
    let mut walked = 0;
    while walked < MAX_EXTENSIONS {
        if next == IpProto::Udp as u8 {
            return check_port(ctx, at).map(|()| destination);
        }
        if !is_extension(next) {
            return Err(Verdict::NotUdp);
        }
        let header = octets::<8>(ctx, at)?;
        let this = next;
        next = header[0];
        let mut len = 8 * (u32::from(header[1]) + 1);
        if this == FRAGMENT {
            len = 8;
            // Only the first fragment has what stands behind it.
            if u16::from_be_bytes([header[2], header[3]]) & 0xfff8 != 0 {
                return match next == IpProto::Udp as u8 || is_extension(next) {
                    true => Ok(destination),
                    false => Err(Verdict::NotUdp),
                };
            }
        }
        at = (at + len) & EXTENSIONS;
        walked += 1;
    }
    Ok(destination)
}

#[inline(always)]
fn is_extension(next: u8) -> bool {
    next == HOP_BY_HOP || next == ROUTING || next == FRAGMENT || next == DESTINATION
}

/// That a UDP header is for our port.
#[inline(always)]
fn check_port(ctx: &XdpContext, at: u32) -> Result<(), Verdict> {
    let udp = octets::<{ UdpHdr::LEN }>(ctx, at)?;
    match u16::from_be_bytes([udp[2], udp[3]]) == maps::settings().port {
        true => Ok(()),
        false => Err(Verdict::OtherPort),
    }
}

/// N octets at an offset that is not known.
#[inline(always)]
fn octets<const OCTETS: usize>(ctx: &XdpContext, at: u32) -> Result<&[u8; OCTETS], Verdict> {
    let octets = room::<OCTETS>(ctx, at).ok_or(Verdict::Truncated)?;
    // SAFETY: `room` has looked.
    Ok(unsafe { &*octets.cast::<[u8; OCTETS]>() })
}

/// [`find_listen`] for what few packets ask; 0: there is no row. A function of its own, that the verifier checks
/// once.
#[inline(never)]
#[unsafe(no_mangle)]
pub extern "C" fn geodns_listen(high: u64, low: u64, ifindex: u32) -> u64 {
    find_listen([high, low], ifindex).unwrap_or(0)
}

/// Whether the packet is to us, and whether we may answer.
#[inline(always)]
fn check_destination(
    ctx: &XdpContext,
    scratch: &mut Scratch,
    address: [u64; 2],
    mac: u64,
) -> Result<(), Verdict> {
    let ifindex = ctx.ingress_ifindex() as u32;
    let ours = find_listen(address, ifindex).ok_or(Verdict::OtherAddress)?;
    if ours & !Listen::GENERIC != Listen::IN_USE | mac && mac != ANY_MAC {
        return Err(Verdict::OtherMac);
    }
    scratch.generic = (ours & Listen::GENERIC != 0) as u32;
    check_heartbeat(scratch)
}

/// The row of an address and interface.
#[inline(always)]
fn find_listen(address: [u64; 2], ifindex: u32) -> Option<u64> {
    let home = Listen::home(address, ifindex);
    let mut probe = 0;
    while probe < Listen::PROBES {
        let row = maps::LISTEN.get(home.wrapping_add(probe) & (Listen::SLOTS - 1))?;
        if row.address[0] == address[0] && row.address[1] == address[1] && row.ifindex == ifindex {
            let mac = row.mac.load();
            if mac != 0 {
                return Some(mac);
            }
        }
        probe += 1;
    }
    None
}

/// Whether the daemon has been heard of lately. The clock is asked once a tick: that costs more than
/// all the rest of this.
#[inline(always)]
fn check_heartbeat(scratch: &mut Scratch) -> Result<(), Verdict> {
    // SAFETY: the helper takes nothing.
    let tick = unsafe { bpf_jiffies64() };
    if tick == scratch.heard_at {
        return Ok(());
    }
    let heartbeat = maps::HEARTBEAT.get(0).ok_or(Verdict::Internal)?;
    // SAFETY: the helper takes nothing.
    let now = unsafe { bpf_ktime_get_coarse_ns() };
    if now > heartbeat.deadline.load() {
        return Err(Verdict::Stale);
    }
    scratch.heard_at = tick;
    scratch.block_rules = maps::BLOCK_RULES
        .get(0)
        .map_or(0, |blocks| blocks.row.load());
    scratch.watch = maps::WATCH.get(0).map_or(0, |watch| watch.row.load());
    scratch.clock = now;
    scratch.now = (now.wrapping_add(heartbeat.epoch.load()) / 1_000_000_000) as u32;
    Ok(())
}

/// Octets that are copied at once, out of the packet and into it.
pub const CHUNK: usize = 32;
/// Chunks of the longest query that is answered, headers included.
const QUERY_CHUNKS: u32 = (MESSAGE + MAX_QUERY).div_ceil(CHUNK as u32);

/// N octets at an offset, if the packet has them. The offset is hidden from LLVM, which would make of a
/// comparison with the packet's end one of lengths, from which the verifier learns nothing.
#[inline(always)]
pub fn room<const OCTETS: usize>(ctx: &XdpContext, at: u32) -> Option<*mut u8> {
    let start = (ctx.data() + opaque(at as usize)) as *mut u8;
    if start as usize + OCTETS > ctx.data_end() {
        return None;
    }
    Some(start)
}

/// Copies a chunk, word by word.
///
/// # Safety
///
/// There is a chunk at both.
#[inline(always)]
pub unsafe fn copy(from: *const u64, to: *mut u64) {
    let mut word = 0;
    while word < CHUNK / 8 {
        // SAFETY: as the caller says.
        unsafe {
            to.add(word)
                .write_unaligned(from.add(word).read_unaligned())
        };
        word += 1;
    }
}

/// Copies headers and message to the scratch, the message to [`MESSAGE`]; what follows them in the packet may
/// come too. It is done here, word by word: a call of the helper costs more than all of it.
#[inline(always)]
pub fn load(ctx: &XdpContext, scratch: &mut Scratch, packet: &Packet) -> Result<(), Verdict> {
    if packet.message_len < MIN_QUERY || packet.message_len > MAX_QUERY {
        return Err(Verdict::MessageSize);
    }
    let start = opaque((MESSAGE - packet.headers_len) as usize) & 0x7f;
    // SAFETY: 127 octets in, 1,024 octets are inside the frame.
    let frame = unsafe { scratch.frame.as_mut_ptr().add(start) };
    let mut copied = 0;
    while copied < QUERY_CHUNKS {
        let at = copied * CHUNK as u32;
        let Some(from) = room::<CHUNK>(ctx, at) else {
            break;
        };
        // SAFETY: `room` has looked; 127 + 608 octets in, a chunk is inside the frame.
        unsafe { copy(from.cast(), frame.add(at as usize).cast()) };
        copied += 1;
    }
    if copied < QUERY_CHUNKS {
        // The end of the packet, some of it a second time: none that comes so far is shorter than a chunk.
        let at = opaque((packet.frame_len - CHUNK as u32) as usize) as u32 & 0x3ff;
        let from = room::<CHUNK>(ctx, at).ok_or(Verdict::Truncated)?;
        // SAFETY: as above; 127 + 1,023 octets in, a chunk is inside the frame.
        unsafe { copy(from.cast(), frame.add(at as usize).cast()) };
    }
    Ok(())
}

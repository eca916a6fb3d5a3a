//! Finds a DNS query to us in a packet: Ethernet, up to two tags, IPv4 or IPv6, UDP.

use aya_ebpf::EbpfContext;
use aya_ebpf::helpers::generated::{bpf_jiffies64, bpf_ktime_get_coarse_ns, bpf_xdp_load_bytes};
use aya_ebpf::programs::XdpContext;
use geodns_common::abi::Listen;
use geodns_common::respond::{MAX_QUERY, MESSAGE, MIN_QUERY};
use geodns_common::tables::Address;
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
    /// Whether it is IPv6.
    pub is_v6: bool,
    /// Octets before the DNS message.
    pub headers_len: u32,
    /// Octets of the DNS message, as the UDP header has it.
    pub message_len: u32,
    /// Octets of the whole frame, padding included.
    pub frame_len: u32,
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
pub fn parse(ctx: &XdpContext) -> Result<Packet, Verdict> {
    let frame_len = (ctx.data_end() - ctx.data()) as u32;
    let eth: &EthHdr = header(ctx, 0)?;
    let mac = mac(&eth.dst_addr);
    match eth.ether_type {
        ETHERTYPE_IPV4 => parse_v4(ctx, EthHdr::LEN, mac, frame_len),
        ETHERTYPE_IPV6 => parse_v6(ctx, EthHdr::LEN, mac, frame_len),
        ETHERTYPE_8021Q | ETHERTYPE_8021AD => {
            let tag: &VlanHdr = header(ctx, EthHdr::LEN)?;
            match tag.ether_type {
                ETHERTYPE_IPV4 => parse_v4(ctx, EthHdr::LEN + VlanHdr::LEN, mac, frame_len),
                ETHERTYPE_IPV6 => parse_v6(ctx, EthHdr::LEN + VlanHdr::LEN, mac, frame_len),
                ETHERTYPE_8021Q => {
                    let inner: &VlanHdr = header(ctx, EthHdr::LEN + VlanHdr::LEN)?;
                    match inner.ether_type {
                        ETHERTYPE_IPV4 => {
                            parse_v4(ctx, EthHdr::LEN + 2 * VlanHdr::LEN, mac, frame_len)
                        }
                        ETHERTYPE_IPV6 => {
                            parse_v6(ctx, EthHdr::LEN + 2 * VlanHdr::LEN, mac, frame_len)
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

/// A MAC address as a number, first octet highest.
#[inline(always)]
fn mac(octets: &[u8; 6]) -> u64 {
    let [a, b, c, d, e, f] = *octets;
    u64::from_be_bytes([0, 0, a, b, c, d, e, f])
}

#[inline(always)]
fn parse_v4(ctx: &XdpContext, at: usize, mac: u64, frame_len: u32) -> Result<Packet, Verdict> {
    let ip: &Ipv4Hdr = header(ctx, at)?;
    if ip.vihl != 0x45 {
        return Err(Verdict::IpOptions);
    }
    // More fragments, or an offset; DF is let be.
    if u16::from_be_bytes(ip.frags) & 0x3fff != 0 {
        return Err(Verdict::Fragment);
    }
    if ip.proto != IpProto::Udp as u8 {
        return Err(Verdict::NotUdp);
    }
    let total_len = u16::from_be_bytes(ip.tot_len) as u32;
    if at as u32 + total_len > frame_len || total_len < Ipv4Hdr::LEN as u32 {
        return Err(Verdict::Truncated);
    }
    let (source, destination) = (ip.src_addr, ip.dst_addr);
    let payload_len = total_len - Ipv4Hdr::LEN as u32;
    let message_len = parse_udp(ctx, at + Ipv4Hdr::LEN, payload_len)?;

    let [a, b, c, d] = destination;
    let address = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a, b, c, d];
    check_destination(ctx, address, mac)?;
    // "This network", loopback, multicast, reserved and broadcast (RFC 6890); and ourselves.
    if source[0] == 0 || source[0] == 127 || source[0] >= 224 || source == destination {
        return Err(Verdict::Martian);
    }
    let scratch = maps::scratch().ok_or(Verdict::Internal)?;
    let [a, b, c, d] = source;
    scratch.client = [a, b, c, d, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    scratch.client_is_v6 = 0;
    scratch.message_len = message_len;
    let headers_len = (at + Ipv4Hdr::LEN + UdpHdr::LEN) as u32;
    Ok(Packet {
        is_v6: false,
        headers_len,
        message_len,
        frame_len,
    })
}

#[inline(always)]
fn parse_v6(ctx: &XdpContext, at: usize, mac: u64, frame_len: u32) -> Result<Packet, Verdict> {
    let ip: &Ipv6Hdr = header(ctx, at)?;
    if ip.vcf[0] >> 4 != 6 {
        return Err(Verdict::NotIp);
    }
    if ip.next_hdr != IpProto::Udp as u8 {
        return Err(match ip.next_hdr {
            // Hop-by-hop, routing, fragment, destination options.
            0 | 43 | 60 => Verdict::IpOptions,
            44 => Verdict::Fragment,
            _ => Verdict::NotUdp,
        });
    }
    let payload_len = u16::from_be_bytes(ip.payload_len) as u32;
    if (at + Ipv6Hdr::LEN) as u32 + payload_len > frame_len {
        return Err(Verdict::Truncated);
    }
    let (source, destination) = (ip.src_addr, ip.dst_addr);
    let message_len = parse_udp(ctx, at + Ipv6Hdr::LEN, payload_len)?;
    let udp: &UdpHdr = header(ctx, at + Ipv6Hdr::LEN)?;
    if udp.check == [0; 2] {
        return Err(Verdict::NoChecksum);
    }

    // IPv4 addresses are mapped in the table: no IPv6 packet may find one.
    if is_martian_v6(&destination) {
        return Err(Verdict::OtherAddress);
    }
    check_destination(ctx, destination, mac)?;
    if is_martian_v6(&source) || source == destination {
        return Err(Verdict::Martian);
    }
    let scratch = maps::scratch().ok_or(Verdict::Internal)?;
    scratch.client = source;
    scratch.client_is_v6 = 1;
    scratch.message_len = message_len;
    let headers_len = (at + Ipv6Hdr::LEN + UdpHdr::LEN) as u32;
    Ok(Packet {
        is_v6: true,
        headers_len,
        message_len,
        frame_len,
    })
}

/// The unspecified address, loopback, IPv4-mapped addresses and multicast.
#[inline(always)]
fn is_martian_v6(address: &Address) -> bool {
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = *address;
    let high = u64::from_be_bytes([a, b, c, d, e, f, g, h]);
    let low = u64::from_be_bytes([i, j, k, l, m, n, o, p]);
    a == 0xff || high == 0 && (low <= 1 || low >> 32 == 0xffff)
}

/// Gives the octets of the message.
#[inline(always)]
fn parse_udp(ctx: &XdpContext, at: usize, payload_len: u32) -> Result<u32, Verdict> {
    let udp: &UdpHdr = header(ctx, at)?;
    if u16::from_be_bytes(udp.dst) != maps::SETTINGS.load().port {
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

/// Whether the packet is to us, and whether we may answer.
#[inline(always)]
fn check_destination(ctx: &XdpContext, address: Address, mac: u64) -> Result<(), Verdict> {
    let ifindex = ctx.ingress_ifindex() as u32;
    let ours = find_listen(address, ifindex).ok_or(Verdict::OtherAddress)?;
    if ours != Listen::IN_USE | mac {
        return Err(Verdict::OtherMac);
    }
    check_heartbeat()
}

/// The row of an address and interface.
#[inline(always)]
fn find_listen(address: Address, ifindex: u32) -> Option<u64> {
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = address;
    let address = [
        u64::from_ne_bytes([a, b, c, d, e, f, g, h]),
        u64::from_ne_bytes([i, j, k, l, m, n, o, p]),
    ];
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
fn check_heartbeat() -> Result<(), Verdict> {
    let scratch = maps::scratch().ok_or(Verdict::Internal)?;
    // SAFETY: the helper takes nothing.
    let tick = unsafe { bpf_jiffies64() };
    if tick == scratch.heard_at {
        return Ok(());
    }
    let deadline = maps::HEARTBEAT.get_ptr(0).ok_or(Verdict::Internal)?;
    // SAFETY: an aligned u64, read once; the helper takes nothing.
    if unsafe { bpf_ktime_get_coarse_ns() > deadline.read_volatile() } {
        return Err(Verdict::Stale);
    }
    scratch.heard_at = tick;
    Ok(())
}

/// Copies headers and message to the scratch, the message to [`MESSAGE`].
#[inline(always)]
pub fn load(ctx: &XdpContext, packet: &Packet) -> Result<(), Verdict> {
    if packet.message_len < MIN_QUERY || packet.message_len > MAX_QUERY {
        return Err(Verdict::MessageSize);
    }
    let scratch = maps::scratch().ok_or(Verdict::Internal)?;
    let start = core::hint::black_box(MESSAGE - packet.headers_len) & 0x7f;
    let len = length::<0x3ff>(packet.headers_len + packet.message_len);
    // SAFETY: 127 octets in, 1,024 octets are inside the frame.
    let loaded = unsafe {
        let to = scratch.frame.as_mut_ptr().add(start as usize);
        bpf_xdp_load_bytes(ctx.as_ptr().cast(), 0, to.cast(), len)
    };
    if loaded == 0 {
        Ok(())
    } else {
        Err(Verdict::Truncated)
    }
}

/// A length, where the verifier sees that it is 1 to `MASK + 1`: that of Linux 6.1 learns nothing from
/// a comparison to 0.
#[inline(always)]
pub fn length<const MASK: u32>(len: u32) -> u32 {
    (core::hint::black_box(len.wrapping_sub(1)) & MASK) + 1
}

//! Frames, byte by byte: what a client sends, and whether what came back is what it must be.

use std::net::IpAddr;

use anyhow::{Context, Result, ensure};

/// The server's MAC address, where a test has no interface.
pub const SERVER_MAC: [u8; 6] = [0x02, 0, 0, 0, 0, 0x53];
/// The client's.
pub const CLIENT_MAC: [u8; 6] = [0x02, 0, 0, 0, 0, 0x01];

/// A UDP checksum to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checksum {
    /// The right one.
    Right,
    /// None: 0.
    None,
    /// The sum of the pseudo-header alone, as a local sender with offload leaves it.
    Partial,
    /// A wrong one.
    Wrong,
}

/// A UDP packet in an Ethernet frame.
#[derive(Clone, Debug)]
pub struct Frame {
    /// Destination and source MAC addresses.
    pub macs: [[u8; 6]; 2],
    /// VLAN tags, outermost first: TPID and TCI.
    pub tags: Vec<(u16, u16)>,
    /// Source.
    pub source: IpAddr,
    /// Destination, of the same family.
    pub destination: IpAddr,
    /// Source and destination ports.
    pub ports: [u16; 2],
    /// UDP checksum.
    pub checksum: Checksum,
    /// The DNS message.
    pub message: Vec<u8>,
    /// Octets after the packet, as Ethernet pads short ones.
    pub padding: usize,
}

impl Frame {
    /// A query from one address to the other's port 53.
    pub fn new(source: &str, destination: &str, message: Vec<u8>) -> Self {
        let parse = |text: &str| text.parse().expect("an address");
        Self {
            macs: [SERVER_MAC, CLIENT_MAC],
            tags: Vec::new(),
            source: parse(source),
            destination: parse(destination),
            ports: [40_000, 53],
            checksum: Checksum::Right,
            message,
            padding: 0,
        }
    }

    /// Octets before the IP header.
    pub fn ip(&self) -> usize {
        14 + 4 * self.tags.len()
    }

    /// Octets before the UDP header.
    pub fn udp(&self) -> usize {
        self.ip() + if self.source.is_ipv4() { 20 } else { 40 }
    }

    /// Octets before the DNS message.
    pub fn dns(&self) -> usize {
        self.udp() + 8
    }

    /// On the wire.
    pub fn bytes(&self) -> Vec<u8> {
        let mut frame = self.macs.concat();
        for (tpid, tci) in &self.tags {
            frame.extend(tpid.to_be_bytes());
            frame.extend(tci.to_be_bytes());
        }
        let udp_len = u16::try_from(8 + self.message.len()).expect("fits a packet");
        match (self.source, self.destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                let mut ip = vec![0x45, 0];
                ip.extend((20 + udp_len).to_be_bytes());
                ip.extend([0x12, 0x34, 0, 0, 57, 17, 0, 0]);
                ip.extend(source.octets());
                ip.extend(destination.octets());
                let sum = checksum(&[&ip]);
                ip[10..12].copy_from_slice(&sum.to_be_bytes());
                frame.extend(0x0800_u16.to_be_bytes());
                frame.extend(ip);
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                frame.extend(0x86dd_u16.to_be_bytes());
                // A traffic class and a flow label, which are not to come back.
                frame.extend([0x6b, 0x81, 0x23, 0x45]);
                frame.extend(udp_len.to_be_bytes());
                frame.extend([17, 57]);
                frame.extend(source.octets());
                frame.extend(destination.octets());
            }
            _ => panic!("addresses of two families"),
        }
        let mut udp = Vec::new();
        for word in [self.ports[0], self.ports[1], udp_len, 0] {
            udp.extend(word.to_be_bytes());
        }
        udp.extend(&self.message);
        let pseudo = pseudo_header(self.source, self.destination, udp_len);
        let right = match checksum(&[&pseudo, &udp]) {
            0 => 0xffff,
            sum => sum,
        };
        let sum = match self.checksum {
            Checksum::Right => right,
            Checksum::None => 0,
            Checksum::Partial => !checksum(&[&pseudo]),
            Checksum::Wrong => right ^ 0x1234,
        };
        udp[6..8].copy_from_slice(&sum.to_be_bytes());
        frame.extend(udp);
        frame.extend(std::iter::repeat_n(0xa5, self.padding));
        frame
    }

    /// On the wire, with N words of IPv4 options, which do nothing.
    pub fn with_options(&self, words: u8) -> Vec<u8> {
        let (mut frame, ip) = (self.bytes(), self.ip());
        let octets = 4 * usize::from(words);
        frame[ip] += words;
        frame.splice(ip + 20..ip + 20, vec![1; octets]);
        lengthen(&mut frame, ip + 2, octets);
        head(&mut frame[ip..], 20 + octets);
        frame
    }

    /// On the wire, with an IPv6 extension header of this number, which does nothing: hop-by-hop (0) or destination
    /// (60) options.
    pub fn with_extension(&self, number: u8) -> Vec<u8> {
        // Padding.
        self.extended(number, &[UDP, 0, 1, 4, 0, 0, 0, 0])
    }

    /// On the wire in two fragments, the first with N octets of UDP, a multiple of 8. Those of a packet have a
    /// number of their own.
    pub fn fragments(&self, octets: usize, number: u16) -> [Vec<u8>; 2] {
        let (whole, udp) = (self.bytes(), self.udp());
        let end = whole.len() - self.padding;
        let cut = udp + octets;
        [(0, udp..cut, 1), (octets, cut..end, 0)].map(|(offset, part, more)| {
            let mut frame = whole[..udp].to_vec();
            frame.extend(&whole[part.clone()]);
            let ip = self.ip();
            if self.source.is_ipv4() {
                frame[ip + 4..ip + 6].copy_from_slice(&number.to_be_bytes());
                let word = (offset / 8) as u16 | more << 13;
                frame[ip + 6..ip + 8].copy_from_slice(&word.to_be_bytes());
                let len = (20 + part.len()) as u16;
                frame[ip + 2..ip + 4].copy_from_slice(&len.to_be_bytes());
                head(&mut frame[ip..], 20);
                return frame;
            }
            let [high, low] = (offset as u16 | more).to_be_bytes();
            let [a, b] = number.to_be_bytes();
            frame[ip + 6] = FRAGMENT;
            frame.splice(udp..udp, [UDP, 0, high, low, 0, 0, a, b]);
            let len = (8 + part.len()) as u16;
            frame[ip + 4..ip + 6].copy_from_slice(&len.to_be_bytes());
            frame
        })
    }

    /// On the wire over IPv6, with these octets of extension headers, of which the first has this number.
    pub fn extended(&self, number: u8, headers: &[u8]) -> Vec<u8> {
        let (mut frame, ip) = (self.bytes(), self.ip());
        frame[ip + 6] = number;
        frame.splice(ip + 40..ip + 40, headers.iter().copied());
        lengthen(&mut frame, ip + 4, headers.len());
        frame
    }

    /// Reads a frame that carries whole UDP over IPv4 without options, or over IPv6 without
    /// extension headers; `None` for any other.
    pub fn parse(frame: &[u8]) -> Option<Self> {
        let word = |at: usize| Some(u16::from_be_bytes([*frame.get(at)?, *frame.get(at + 1)?]));
        let macs = [
            frame.get(..6)?.try_into().ok()?,
            frame.get(6..12)?.try_into().ok()?,
        ];
        let (mut tags, mut at) = (Vec::new(), 12);
        while matches!(word(at)?, 0x8100 | 0x88a8) {
            tags.push((word(at)?, word(at + 2)?));
            at += 4;
        }
        let ip = at + 2;
        let (source, destination, udp, end): (IpAddr, IpAddr, _, _) = match word(at)? {
            0x0800 => {
                let header = frame.get(ip..ip + 20)?;
                if header[0] != 0x45 || header[9] != 17 || word(ip + 6)? & 0x3fff != 0 {
                    return None;
                }
                let octets = |at: usize| <[u8; 4]>::try_from(&header[at..at + 4]).ok();
                (
                    octets(12)?.into(),
                    octets(16)?.into(),
                    ip + 20,
                    ip + usize::from(word(ip + 2)?),
                )
            }
            0x86dd => {
                let header = frame.get(ip..ip + 40)?;
                if header[0] >> 4 != 6 || header[6] != 17 {
                    return None;
                }
                let octets = |at: usize| <[u8; 16]>::try_from(&header[at..at + 16]).ok();
                (
                    octets(8)?.into(),
                    octets(24)?.into(),
                    ip + 40,
                    ip + 40 + usize::from(word(ip + 4)?),
                )
            }
            _ => return None,
        };
        let message_end = udp + usize::from(word(udp + 4)?);
        if message_end > end || end > frame.len() {
            return None;
        }
        Some(Self {
            macs,
            tags,
            source,
            destination,
            ports: [word(udp)?, word(udp + 2)?],
            checksum: Checksum::Right,
            message: frame.get(udp + 8..message_end)?.to_vec(),
            padding: frame.len() - message_end,
        })
    }

    /// Checks everything of a frame that is to be the response to this one, but for the DNS
    /// message, and gives that.
    pub fn response<'a>(&self, frame: &'a [u8]) -> Result<&'a [u8]> {
        self.response_with(frame, |pseudo, udp, message| {
            checksum(&[pseudo, udp, message]) == 0
        })
    }

    /// The same of one whose UDP checksum is unfinished: it is that of the pseudo-header.
    pub fn unfinished_response<'a>(&self, frame: &'a [u8]) -> Result<&'a [u8]> {
        self.response_with(frame, |pseudo, udp, _| {
            u16::from_be_bytes([udp[6], udp[7]]) == !checksum(&[pseudo])
        })
    }

    fn response_with<'a>(
        &self,
        frame: &'a [u8],
        is_right: impl Fn(&[u8], &[u8], &[u8]) -> bool,
    ) -> Result<&'a [u8]> {
        ensure!(frame.len() >= self.dns(), "{} octets only", frame.len());
        let (headers, message) = frame.split_at(self.dns());
        let (link, rest) = headers.split_at(self.ip());
        let (ip, udp) = rest.split_at(self.udp() - self.ip());
        let sent = self.bytes();

        ensure!(
            link[..6] == self.macs[1],
            "destination MAC {:?}",
            &link[..6]
        );
        ensure!(link[6..12] == self.macs[0], "source MAC {:?}", &link[6..12]);
        ensure!(link[12..] == sent[12..self.ip()], "tags {:?}", &link[12..]);

        let udp_len = u16::try_from(8 + message.len())?;
        let word = |octets: &[u8], at: usize| u16::from_be_bytes([octets[at], octets[at + 1]]);
        match (self.source, self.destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                ensure!(
                    ip[0] == 0x45 && ip[1] == 0,
                    "version, IHL, TOS: {:?}",
                    &ip[..2]
                );
                ensure!(word(ip, 2) == 20 + udp_len, "total length {}", word(ip, 2));
                ensure!(word(ip, 6) == 0x4000, "DF alone: {:#x}", word(ip, 6));
                ensure!(ip[8] == 64, "TTL {}", ip[8]);
                ensure!(ip[9] == 17, "protocol {}", ip[9]);
                ensure!(checksum(&[ip]) == 0, "header checksum {:#x}", word(ip, 10));
                ensure!(ip[12..16] == destination.octets(), "source address");
                ensure!(ip[16..20] == source.octets(), "destination address");
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                ensure!(ip[..4] == [0x60, 0, 0, 0], "class, label: {:?}", &ip[..4]);
                ensure!(word(ip, 4) == udp_len, "payload length {}", word(ip, 4));
                ensure!(ip[6] == 17, "next header {}", ip[6]);
                ensure!(ip[7] == 64, "hop limit {}", ip[7]);
                ensure!(ip[8..24] == destination.octets(), "source address");
                ensure!(ip[24..40] == source.octets(), "destination address");
            }
            _ => unreachable!("`bytes` has refused it"),
        }
        ensure!(
            word(udp, 0) == self.ports[1],
            "source port {}",
            word(udp, 0)
        );
        ensure!(
            word(udp, 2) == self.ports[0],
            "destination port {}",
            word(udp, 2)
        );
        ensure!(word(udp, 4) == udp_len, "UDP length {}", word(udp, 4));
        ensure!(word(udp, 6) != 0, "no UDP checksum");
        let pseudo = pseudo_header(self.source, self.destination, udp_len);
        ensure!(
            is_right(&pseudo, udp, message),
            "UDP checksum {:#x}",
            word(udp, 6)
        );
        Ok(message)
    }
}

/// Protocols and next headers.
const UDP: u8 = 17;
const FRAGMENT: u8 = 44;

/// Adds octets to a length.
fn lengthen(frame: &mut [u8], at: usize, octets: usize) {
    let len = u16::from_be_bytes([frame[at], frame[at + 1]]) + octets as u16;
    frame[at..at + 2].copy_from_slice(&len.to_be_bytes());
}

/// Puts the right checksum in an IPv4 header of N octets.
fn head(ip: &mut [u8], octets: usize) {
    ip[10..12].fill(0);
    let sum = checksum(&[&ip[..octets]]);
    ip[10..12].copy_from_slice(&sum.to_be_bytes());
}

fn pseudo_header(source: IpAddr, destination: IpAddr, udp_len: u16) -> Vec<u8> {
    let mut octets = Vec::new();
    for address in [source, destination] {
        match address {
            IpAddr::V4(address) => octets.extend(address.octets()),
            IpAddr::V6(address) => octets.extend(address.octets()),
        }
    }
    octets.extend(17_u16.to_be_bytes());
    octets.extend(udp_len.to_be_bytes());
    octets
}

/// The Internet checksum (RFC 1071) over parts, all but the last of even length: 0 if they carry a
/// right one.
pub fn checksum(parts: &[&[u8]]) -> u16 {
    let mut sum = 0_u32;
    for part in parts {
        for pair in part.chunks(2) {
            sum += u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
        }
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// A MAC address, as /sys/class/net has it.
pub fn parse_mac(text: &str) -> Result<[u8; 6]> {
    let mut mac = [0; 6];
    let mut parts = text.trim().split(':');
    for octet in &mut mac {
        let part = parts
            .next()
            .context("a MAC address of fewer than 6 octets")?;
        *octet = u8::from_str_radix(part, 16)?;
    }
    ensure!(
        parts.next().is_none(),
        "a MAC address of more than 6 octets"
    );
    Ok(mac)
}

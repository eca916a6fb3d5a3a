//! Runs of the attached program on a packet that nobody sent (BPF_PROG_TEST_RUN): whether it answers as it should.
//!
//! It is the stub that runs, so what answers is what the stub calls.

use std::net::IpAddr;
use std::os::fd::AsFd;

use geodns_common::layout::Callee;
use geodns_common::wire;

use super::link::Attachment;
use super::netdev::Mac;
use super::{Error, Kernel, listen, sys};

/// XDP_TX
const TX: u32 = 3;
/// XDP_DROP
const DROP: u32 = 1;
/// XDP_PASS
const PASS: u32 = 2;
/// Octets of the frame that comes back, at the most.
const MAX_FRAME: usize = 2048;
/// Octets of an Ethernet header.
const ETHERNET: usize = 14;
/// Octets of a UDP header.
const UDP: usize = 8;
/// UDP in an IP header.
const PROTOCOL_UDP: u8 = 17;
/// Hops that the query has left.
const HOPS: u8 = 64;

/// A query to run the program on.
#[derive(Clone, Copy, Debug)]
pub struct Query<'a> {
    /// The client.
    pub source: IpAddr,
    /// The address of ours that it asks, of the same family.
    pub destination: IpAddr,
    /// The port there.
    pub port: u16,
    /// The DNS message.
    pub message: &'a [u8],
}

/// What the program did with a query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It sent this DNS message back.
    Answered(Vec<u8>),
    /// It left the query to the network stack.
    Passed,
    /// It dropped the query.
    Dropped,
    /// It gave up: XDP_ABORTED, or a packet that is no answer.
    Broken,
}

impl Kernel {
    /// Runs the program on a query as if it had come in by an interface. `None`: the interface does not take queries to
    /// this address. The packet counts as any other.
    pub fn try_out(&mut self, place: usize, query: &Query<'_>) -> Result<Option<Outcome>, Error> {
        let Some(attachment) = self.attached.get(place) else {
            return Ok(None);
        };
        let ifindex = attachment.ifindex;
        let key = listen::key(query.destination, ifindex);
        let Some(mac) = self.listening.mac(&key) else {
            return Ok(None);
        };
        let frame = frame(query, mac);
        let mut out = vec![0; MAX_FRAME];
        // xdp_md: where the packet begins and ends, and the interface.
        let context = [0, frame.len() as u32, 0, ifindex, 0, 0];
        let Some(stub) = self.stubs.get(attachment.build) else {
            return Ok(None);
        };
        let run = sys::test_run(stub.as_fd(), &frame, &context, &mut out);
        let action = run.map_err(Error::Trial)?;
        let headers = frame.len() - query.message.len();
        Ok(Some(match action {
            PASS => Outcome::Passed,
            DROP => Outcome::Dropped,
            // Back to the client's MAC address.
            TX if out.get(..6) == frame.get(6..12) => match out.get(headers..) {
                Some(message) => Outcome::Answered(message.to_vec()),
                None => Outcome::Broken,
            },
            _ => Outcome::Broken,
        }))
    }

    /// Complains of an interface that the program in force is not on.
    pub fn fault_of(&mut self, place: usize) -> Result<Option<String>, Error> {
        let Some(attachment) = self.attached.get(place) else {
            return Ok(None);
        };
        let Attachment {
            name, link, build, ..
        } = attachment;
        let Some(stub) = self.stubs.get(*build) else {
            return Ok(None);
        };
        let ours = self.instance.program_id(*build)?;
        let called = stub.callee(Callee::Answers)?;
        Ok(match (link.ifindex(), link.program()) {
            (None, _) => Some(format!("{name}: the program is not attached any more")),
            (Some(_), program) if program != Some(stub.id()) => {
                Some(format!("{name}: another program is in the link"))
            }
            _ if called != Some(ours) => Some(format!(
                "{name}: the attached program does not call the one in force"
            )),
            _ => None,
        })
    }
}

/// The query in an Ethernet frame to a MAC address.
fn frame(query: &Query<'_>, mac: Mac) -> Vec<u8> {
    let mut frame = mac.to_be_bytes()[2..].to_vec();
    // Locally administered.
    frame.extend([2, 0, 0, 0, 0, 1]);
    debug_assert_eq!(frame.len() + 2, ETHERNET);
    let length = (UDP + query.message.len()) as u16;
    let pseudo = match (query.source, query.destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            frame.extend(0x0800_u16.to_be_bytes());
            let mut ip = vec![0x45, 0];
            ip.extend((20 + length).to_be_bytes());
            ip.extend([0, 0, 0, 0, HOPS, PROTOCOL_UDP, 0, 0]);
            ip.extend(source.octets());
            ip.extend(destination.octets());
            let sum = checksum(&ip);
            ip[10..12].copy_from_slice(&sum);
            frame.extend(&ip);
            ip.split_off(12)
        }
        (source, destination) => {
            let [source, destination] = [source, destination].map(|address| match address {
                IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
                IpAddr::V6(address) => address.octets(),
            });
            frame.extend(0x86dd_u16.to_be_bytes());
            frame.extend([0x60, 0, 0, 0]);
            frame.extend(length.to_be_bytes());
            frame.extend([PROTOCOL_UDP, HOPS]);
            frame.extend(source);
            frame.extend(destination);
            [source, destination].concat()
        }
    };
    let mut udp = Vec::new();
    // Any port of a client's.
    for word in [40_000, query.port, length, 0] {
        udp.extend(word.to_be_bytes());
    }
    udp.extend(query.message);
    let mut summed = pseudo;
    summed.extend([0, PROTOCOL_UDP]);
    summed.extend(length.to_be_bytes());
    summed.extend(&udp);
    let sum = match checksum(&summed) {
        // 0 is no checksum.
        [0, 0] => [0xff; 2],
        sum => sum,
    };
    udp[6..8].copy_from_slice(&sum);
    frame.extend(udp);
    frame
}

/// The Internet checksum (RFC 1071) of these octets, in network order.
fn checksum(octets: &[u8]) -> [u8; 2] {
    let words = octets.chunks(2).map(|word| {
        let low = word.get(1).copied().unwrap_or(0);
        u64::from(u16::from_be_bytes([word[0], low]))
    });
    wire::fold(words.sum()).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checksum_is_over_network_order_and_an_odd_end() {
        // RFC 1071 section 3.
        let octets = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
        assert_eq!(checksum(&octets), (!0xddf2_u16).to_be_bytes());
        assert_eq!(checksum(&[0x12]), (!0x1200_u16).to_be_bytes());
    }

    #[test]
    fn a_frame_is_one_that_the_stack_would_take() {
        for (source, destination, headers) in [
            ("198.18.0.1", "192.0.2.53", 42),
            ("2001:2::1", "2001:db8::53", 62),
        ] {
            let query = Query {
                source: source.parse().unwrap(),
                destination: destination.parse().unwrap(),
                port: 53,
                message: &[7; 13],
            };
            let frame = frame(&query, 0x0200_0000_0053);
            assert_eq!(frame.len(), headers + 13);
            assert_eq!(frame[..6], [2, 0, 0, 0, 0, 0x53]);
            assert_eq!(frame[headers - 6..headers - 4], [0, 53]);
            if query.source.is_ipv4() {
                // Over a header with its checksum the sum is 0.
                assert_eq!(checksum(&frame[14..34]), [0, 0]);
            }
        }
    }
}

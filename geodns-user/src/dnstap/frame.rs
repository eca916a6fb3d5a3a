//! An exchange, out of the frames that the program tells of.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, SystemTime};

use etherparse::{LaxNetSlice, LaxSlicedPacket, TransportSlice};
use geodns_common::layout::Sighting;

use super::{Exchange, Protocol};

/// An exchange of the fast path; `None`: its frame is not one that the program answers. `epoch` is how far the clock of the day
/// is ahead of the kernel's.
pub fn exchange(sighting: &Sighting, epoch: Duration) -> Option<Exchange> {
    let asked = SystemTime::UNIX_EPOCH + epoch + Duration::from_nanos(sighting.at);
    let kept = |frame: &[u8], len: u32| {
        frame
            .get(..(len as usize).min(frame.len()))
            .map(<[u8]>::to_vec)
    };
    let query = kept(&sighting.query, sighting.query_len)?;
    let (client, server, query) = datagram(&query)?;
    let response = match sighting.answer_len {
        0 => None,
        len => Some(datagram(&kept(&sighting.answer, len)?)?.2.to_vec()),
    };
    Some(Exchange {
        asked,
        answered: asked + Duration::from_nanos(sighting.took.into()),
        client,
        server,
        protocol: Protocol::Udp,
        query: query.to_vec(),
        response,
    })
}

/// Source, destination and payload of a frame, which may be cut.
fn datagram(frame: &[u8]) -> Option<(SocketAddr, SocketAddr, &[u8])> {
    let packet = LaxSlicedPacket::from_ethernet(frame).ok()?;
    let (source, destination): (IpAddr, IpAddr) = match packet.net? {
        LaxNetSlice::Ipv4(ip) => (
            ip.header().source_addr().into(),
            ip.header().destination_addr().into(),
        ),
        LaxNetSlice::Ipv6(ip) => (
            ip.header().source_addr().into(),
            ip.header().destination_addr().into(),
        ),
        LaxNetSlice::Arp(_) => return None,
    };
    let TransportSlice::Udp(udp) = packet.transport? else {
        return None;
    };
    Some((
        SocketAddr::new(source, udp.source_port()),
        SocketAddr::new(destination, udp.destination_port()),
        udp.payload(),
    ))
}

#[cfg(test)]
mod tests {
    use bytemuck::Zeroable;
    use etherparse::{PacketBuilder, VlanId};

    use super::*;

    /// A frame, with N VLAN tags.
    fn frame(tags: usize, v6: bool, [source, destination]: [u16; 2], payload: &[u8]) -> Vec<u8> {
        let tag = |id| VlanId::try_new(id).unwrap();
        let ethernet = PacketBuilder::ethernet2([2; 6], [4; 6]);
        let mut octets = Vec::new();
        macro_rules! write {
            ($below:expr) => {
                match v6 {
                    false => $below.ipv4([192, 0, 2, 1], [192, 0, 2, 53], 64),
                    true => $below.ipv6([1; 16], [2; 16], 64),
                }
                .udp(source, destination)
                .write(&mut octets, payload)
                .unwrap()
            };
        }
        match tags {
            0 => write!(ethernet),
            1 => write!(ethernet.single_vlan(tag(5))),
            _ => write!(ethernet.double_vlan(tag(5), tag(6))),
        }
        octets
    }

    #[test]
    fn each_frame_that_is_answered_is_read() {
        for (tags, v6) in [
            (0, false),
            (1, false),
            (2, false),
            (0, true),
            (1, true),
            (2, true),
        ] {
            let mut sighting: Box<Sighting> = Box::new(Sighting::zeroed());
            let query = frame(tags, v6, [4000, 53], b"a query");
            let answer = frame(tags, v6, [53, 4000], b"an answer");
            sighting.query[..query.len()].copy_from_slice(&query);
            sighting.query_len = query.len() as u32;
            sighting.answer[..answer.len()].copy_from_slice(&answer);
            sighting.answer_len = answer.len() as u32;
            (sighting.at, sighting.took) = (5, 7);
            let found = exchange(&sighting, Duration::from_secs(1)).unwrap();
            assert_eq!(found.client.is_ipv6(), v6);
            assert_eq!((found.client.port(), found.server.port()), (4000, 53));
            assert_eq!(found.query, b"a query");
            assert_eq!(found.response.as_deref(), Some(&b"an answer"[..]));
            assert_eq!(
                found
                    .answered
                    .duration_since(SystemTime::UNIX_EPOCH)
                    .unwrap(),
                Duration::new(1, 12)
            );
            // Cut anywhere: an exchange with less, or none.
            for len in 0..query.len() {
                sighting.query_len = len as u32;
                let _ = exchange(&sighting, Duration::ZERO);
            }
        }
    }
}

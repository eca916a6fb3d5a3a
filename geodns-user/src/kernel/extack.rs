//! The driver's own words on a program that it refused.
//!
//! A link (`bpf_link`) is refused with a number alone. Netlink has a text beside it, so what was refused is asked for
//! once more by netlink, which fails in the same way.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};

use rtnetlink::packet_core::{NLM_F_ACK, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::link::{LinkAttribute, LinkMessage, LinkXdp};
use rtnetlink::sys::protocols::NETLINK_ROUTE;
use rtnetlink::sys::{Socket, SocketAddr};

const XDP_FLAGS_UPDATE_IF_NOEXIST: u32 = 1;
const XDP_FLAGS_SKB_MODE: u32 = 1 << 1;
const XDP_FLAGS_DRV_MODE: u32 = 1 << 2;

const NLMSG_ERROR: u16 = 2;
/// The request that is quoted in the answer is its header alone.
const NLM_F_CAPPED: u16 = 0x100;
const NLM_F_ACK_TLVS: u16 = 0x200;
const NLMSGERR_ATTR_MSG: u16 = 1;
/// Octets of a message's header, and of an attribute's.
const HEADER: usize = 16;
const ATTRIBUTE: usize = 4;

/// Asks why an interface does not take a program. `None`: there is no text.
pub fn reason(program: BorrowedFd<'_>, ifindex: u32, generic: bool) -> Option<String> {
    let mode = match generic {
        true => XDP_FLAGS_SKB_MODE,
        false => XDP_FLAGS_DRV_MODE,
    };
    let flags = mode | XDP_FLAGS_UPDATE_IF_NOEXIST;
    let (error, text) = set(ifindex, program.as_raw_fd(), flags).ok()?;
    if error == 0 {
        // It changed its mind. The caller has been told that nothing is attached.
        let _ = set(ifindex, -1, mode);
        return None;
    }
    text
}

/// Sets the program of an interface; the kernel's error number, and its text.
fn set(ifindex: u32, program: RawFd, flags: u32) -> io::Result<(i32, Option<String>)> {
    let mut link = LinkMessage::default();
    link.header.index = ifindex;
    link.attributes = vec![LinkAttribute::Xdp(vec![
        LinkXdp::Fd(program),
        LinkXdp::Flags(flags),
    ])];
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST | NLM_F_ACK;
    let mut request = NetlinkMessage::new(header, RouteNetlinkMessage::SetLink(link).into());
    request.finalize();
    let mut octets = vec![0; request.buffer_len()];
    request.serialize(&mut octets);

    let socket = Socket::new(NETLINK_ROUTE)?;
    socket.set_ext_ack(true)?;
    socket.set_cap_ack(true)?;
    socket.connect(&SocketAddr::new(0, 0))?;
    socket.send(&octets, 0)?;
    let (answer, _) = socket.recv_from_full()?;
    acknowledged(&answer).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// The error number (0: none) and the text of an acknowledgement.
fn acknowledged(answer: &[u8]) -> Option<(i32, Option<String>)> {
    let short = |at: usize| Some(u16::from_ne_bytes(*answer.get(at..)?.first_chunk()?));
    let word = |at: usize| Some(u32::from_ne_bytes(*answer.get(at..)?.first_chunk()?));
    let (kind, flags) = (short(4)?, short(6)?);
    if kind != NLMSG_ERROR {
        return None;
    }
    let error = (word(HEADER)? as i32).wrapping_neg();
    if flags & NLM_F_ACK_TLVS == 0 {
        return Some((error, None));
    }
    let quoted = match flags & NLM_F_CAPPED {
        0 => word(HEADER + 4)? as usize,
        _ => HEADER,
    };
    let mut at = (HEADER + 4 + quoted).next_multiple_of(ATTRIBUTE);
    let mut text = None;
    while let (Some(length), Some(kind)) = (short(at), short(at + 2)) {
        let length = usize::from(length).max(ATTRIBUTE);
        if kind == NLMSGERR_ATTR_MSG {
            let octets = answer.get(at + ATTRIBUTE..at + length)?;
            let octets = octets.strip_suffix(&[0]).unwrap_or(octets);
            text = Some(String::from_utf8_lossy(octets).trim().to_owned());
        }
        at += length.next_multiple_of(ATTRIBUTE);
    }
    Some((error, text.filter(|text| !text.is_empty())))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An answer to a request of 52 octets, which is quoted whole or by its header.
    fn answer(capped: bool, attributes: &[u8]) -> Vec<u8> {
        let mut octets = vec![0; HEADER];
        octets[4..6].copy_from_slice(&NLMSG_ERROR.to_ne_bytes());
        let flags = NLM_F_ACK_TLVS | if capped { NLM_F_CAPPED } else { 0 };
        octets[6..8].copy_from_slice(&flags.to_ne_bytes());
        octets.extend((-libc::EINVAL).to_ne_bytes());
        octets.extend(52_u32.to_ne_bytes());
        octets.extend(vec![0; if capped { 12 } else { 48 }]);
        octets.extend(attributes);
        octets
    }

    #[test]
    fn the_text_of_an_acknowledgement_is_found() {
        // Another attribute of five octets comes first, and three octets fill it up.
        let mut attributes = [9_u16.to_ne_bytes(), 2_u16.to_ne_bytes()].concat();
        attributes.extend([1, 2, 3, 4, 5, 0, 0, 0]);
        attributes.extend([12_u16.to_ne_bytes(), 1_u16.to_ne_bytes()].concat());
        attributes.extend(b"too big\0");
        for capped in [true, false] {
            let octets = answer(capped, &attributes);
            let expected = Some((libc::EINVAL, Some("too big".to_owned())));
            assert_eq!(acknowledged(&octets), expected);
            // Whatever the kernel says, nothing is read beyond its end.
            for length in 0..octets.len() {
                acknowledged(&octets[..length]);
            }
        }
        assert_eq!(acknowledged(&answer(true, &[])), Some((libc::EINVAL, None)));
    }
}

//! Frames on an interface, as they are on the wire: to send what no socket would, and to see what
//! comes back.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::net::Space;

/// A packet socket on one interface.
#[derive(Debug)]
pub struct Tap {
    socket: OwnedFd,
}

/// All protocols, in network order.
const EVERYTHING: u16 = (libc::ETH_P_ALL as u16).to_be();

fn checked(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(result)
}

impl Tap {
    /// On an interface of a namespace.
    pub fn new(space: &Space, interface: &str) -> Result<Self> {
        space.enter(|| Ok(Self::here(interface)?))
    }

    fn here(interface: &str) -> io::Result<Self> {
        let index = nix::net::if_::if_nametoindex(interface)?;
        // SAFETY: a new socket; nobody else has its descriptor.
        let socket = unsafe {
            let socket = checked(libc::socket(
                libc::AF_PACKET,
                libc::SOCK_RAW | libc::SOCK_CLOEXEC,
                EVERYTHING.into(),
            ))?;
            OwnedFd::from_raw_fd(socket)
        };
        let on: libc::c_int = 1;
        // SAFETY: zeros are a valid address; the option and the address outlive the calls, and are of
        // the sizes given.
        unsafe {
            let mut address: libc::sockaddr_ll = std::mem::zeroed();
            address.sll_family = libc::AF_PACKET as u16;
            address.sll_protocol = EVERYTHING;
            address.sll_ifindex = index as i32;
            checked(libc::setsockopt(
                socket.as_raw_fd(),
                libc::SOL_PACKET,
                libc::PACKET_AUXDATA,
                (&raw const on).cast(),
                size_of_val(&on) as libc::socklen_t,
            ))?;
            checked(libc::bind(
                socket.as_raw_fd(),
                (&raw const address).cast(),
                size_of_val(&address) as libc::socklen_t,
            ))?;
        }
        Ok(Self { socket })
    }

    /// Sends a frame as it is.
    pub fn send(&self, frame: &[u8]) -> Result<()> {
        nix::unistd::write(&self.socket, frame).context("cannot send a frame")?;
        Ok(())
    }

    /// The next frame that came in and that this accepts; `None` after so long.
    pub fn receive(
        &self,
        patience: Duration,
        accept: impl Fn(&[u8]) -> bool,
    ) -> Result<Option<Vec<u8>>> {
        let end = Instant::now() + patience;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let mut poll = libc::pollfd {
                fd: self.socket.as_raw_fd(),
                events: libc::POLLIN,
                revents: 0,
            };
            // SAFETY: one descriptor, open as long as `self`.
            if checked(unsafe { libc::poll(&raw mut poll, 1, left.as_millis() as i32) })? == 0 {
                return Ok(None);
            }
            if let Some(frame) = self.take()?
                && accept(&frame)
            {
                return Ok(Some(frame));
            }
        }
    }

    /// One frame; `None` if we sent it ourselves.
    fn take(&self) -> io::Result<Option<Vec<u8>>> {
        let mut frame = vec![0; 4096];
        let mut control = [0_u64; 16];
        let mut part = libc::iovec {
            iov_base: frame.as_mut_ptr().cast(),
            iov_len: frame.len(),
        };
        // SAFETY: zeros are a valid address and message; what the message points to outlives the call,
        // and the control messages are read as far as the kernel says that it wrote them.
        let (len, outgoing, tag) = unsafe {
            let mut from: libc::sockaddr_ll = std::mem::zeroed();
            let mut message: libc::msghdr = std::mem::zeroed();
            message.msg_name = (&raw mut from).cast();
            message.msg_namelen = size_of_val(&from) as libc::socklen_t;
            message.msg_iov = &raw mut part;
            message.msg_iovlen = 1;
            message.msg_control = control.as_mut_ptr().cast();
            message.msg_controllen = size_of_val(&control);
            let len = libc::recvmsg(self.socket.as_raw_fd(), &raw mut message, 0);
            if len < 0 {
                return Err(io::Error::last_os_error());
            }
            let mut tag = None;
            let mut at = libc::CMSG_FIRSTHDR(&raw const message);
            while !at.is_null() {
                if ((*at).cmsg_level, (*at).cmsg_type) == (libc::SOL_PACKET, libc::PACKET_AUXDATA) {
                    let data: libc::tpacket_auxdata =
                        std::ptr::read_unaligned(libc::CMSG_DATA(at).cast());
                    if data.tp_status & libc::TP_STATUS_VLAN_VALID != 0 {
                        tag = Some([data.tp_vlan_tpid, data.tp_vlan_tci]);
                    }
                }
                at = libc::CMSG_NXTHDR(&raw const message, at);
            }
            let outgoing = from.sll_pkttype == libc::PACKET_OUTGOING;
            (len as usize, outgoing, tag)
        };
        if outgoing {
            return Ok(None);
        }
        frame.truncate(len);
        // The stack takes the outer tag off before it shows us the frame.
        if let Some(tag) = tag {
            let octets = tag.map(u16::to_be_bytes).concat();
            frame.splice(12..12, octets);
        }
        Ok(Some(frame))
    }
}

//! Many datagrams by one system call: `recvmmsg` and `sendmmsg`.

use std::io;
use std::mem::zeroed;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::ptr;

use geodns_common::wire::MAX_UDP_SIZE;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{setsockopt, sockopt};

/// Datagrams of a batch, at the most.
pub const BATCH: usize = 32;
/// Octets of a query over UDP. A longer one is cut, and so malformed.
const QUERY_MAX: usize = 4096;
/// Octets of a response over UDP, usually.
const RESPONSE: usize = MAX_UDP_SIZE as usize;
/// 8-byte words of what the system tells beside a query: the interface and the address, of either family.
const CONTROL: usize = 8;
/// How long to wait for room in a socket's buffer, in milliseconds; then answers are lost, so that
/// an interface that sends nothing does not stop the others.
const ROOM_MS: u16 = 10;

/// Queries received together, and their responses.
pub struct Batch {
    received: usize,
    queries: Box<[[u8; QUERY_MAX]]>,
    clients: Box<[libc::sockaddr_storage]>,
    /// Octets of each query, and of its sender's address.
    lengths: [(usize, libc::socklen_t); BATCH],
    /// Index of the interface that each came by; 0: nobody tells.
    interfaces: [u32; BATCH],
    responses: Box<[Vec<u8>]>,
}

impl Batch {
    /// An empty one.
    pub fn new() -> Self {
        // SAFETY: a sockaddr_storage is plain integers, for which zeros are values.
        let nobody: libc::sockaddr_storage = unsafe { zeroed() };
        Self {
            received: 0,
            queries: vec![[0; QUERY_MAX]; BATCH].into(),
            clients: vec![nobody; BATCH].into(),
            lengths: [(0, 0); BATCH],
            interfaces: [0; BATCH],
            responses: (0..BATCH).map(|_| Vec::with_capacity(RESPONSE)).collect(),
        }
    }

    /// Receives what has come, without waiting, in place of what was here before. Gives how many.
    pub fn receive(&mut self, socket: BorrowedFd<'_>) -> io::Result<usize> {
        self.received = 0;
        // SAFETY: iovec and mmsghdr are integers and pointers, for which zeros are values.
        let mut vectors: [libc::iovec; BATCH] = unsafe { zeroed() };
        // SAFETY: as above.
        let mut headers: [libc::mmsghdr; BATCH] = unsafe { zeroed() };
        let mut controls = [[0_u64; CONTROL]; BATCH];
        let places = self.queries.iter_mut().zip(&mut self.clients);
        let slots = vectors.iter_mut().zip(&mut headers).zip(&mut controls);
        for ((query, client), ((vector, header), control)) in places.zip(slots) {
            vector.iov_base = query.as_mut_ptr().cast();
            vector.iov_len = query.len();
            let header = &mut header.msg_hdr;
            header.msg_name = ptr::from_mut(client).cast();
            header.msg_namelen = size_of_val(client) as libc::socklen_t;
            header.msg_iov = vector;
            header.msg_iovlen = 1;
            header.msg_control = control.as_mut_ptr().cast();
            header.msg_controllen = size_of_val(control) as _;
        }
        // SAFETY: there are BATCH headers; each points to memory of a query, an address and a control message, of the
        // lengths it says, which live until after the call and which nothing else refers to.
        let received = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                headers.as_mut_ptr(),
                BATCH as libc::c_uint,
                libc::MSG_DONTWAIT,
                ptr::null_mut(),
            )
        };
        let received = usize::try_from(received).map_err(|_| io::Error::last_os_error())?;
        let places = self.lengths.iter_mut().zip(&mut self.interfaces);
        for ((length, ifindex), header) in places.zip(&headers[..received]) {
            let octets = (header.msg_len as usize).min(QUERY_MAX);
            *length = (octets, header.msg_hdr.msg_namelen);
            *ifindex = interface(&header.msg_hdr);
        }
        self.received = received;
        Ok(received)
    }

    /// The queries, in the order in which they came.
    pub fn queries(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        let queries = self.queries.iter().zip(&self.lengths);
        queries
            .take(self.received)
            .map(|(query, &(len, _))| &query[..len])
    }

    /// Senders, and the interfaces that their queries came by, of those queries whose socket tells.
    pub fn arrivals(&self) -> impl Iterator<Item = (IpAddr, u32)> {
        let places = self.clients.iter().zip(self.interfaces);
        places
            .take(self.received)
            .filter(|(_, ifindex)| *ifindex != 0)
            .filter_map(|(client, ifindex)| Some((address(client)?.ip(), ifindex)))
    }

    /// Answers each query into its response, which is empty before; what stays empty is not sent.
    pub fn answer(&mut self, mut answer: impl FnMut(&[u8], SocketAddr, &mut Vec<u8>)) {
        let places = self.queries.iter().zip(&self.clients).zip(&self.lengths);
        let places = places.zip(&mut self.responses).take(self.received);
        for (((query, client), &(len, _)), response) in places {
            response.clear();
            if let Some(client) = address(client) {
                answer(&query[..len], client, response);
            }
        }
    }

    /// Sends the responses to where the queries came from. Gives how many could not be sent.
    pub fn send(&mut self, socket: BorrowedFd<'_>) -> usize {
        // SAFETY: iovec and mmsghdr are integers and pointers, for which zeros are values.
        let mut vectors: [libc::iovec; BATCH] = unsafe { zeroed() };
        // SAFETY: as above.
        let mut headers: [libc::mmsghdr; BATCH] = unsafe { zeroed() };
        let mut filled = 0;
        let responses = self.responses.iter_mut().take(self.received);
        let places = responses.zip(&mut self.clients).zip(&self.lengths);
        for ((response, client), &(_, client_len)) in places {
            if response.is_empty() {
                continue;
            }
            let vector = &mut vectors[filled];
            vector.iov_base = response.as_mut_ptr().cast();
            vector.iov_len = response.len();
            let header = &mut headers[filled].msg_hdr;
            header.msg_name = ptr::from_mut(client).cast();
            header.msg_namelen = client_len;
            header.msg_iov = vector;
            header.msg_iovlen = 1;
            filled += 1;
        }
        let mut rest = &mut headers[..filled];
        let mut failed = 0;
        let mut waited = false;
        while !rest.is_empty() {
            // SAFETY: there are as many headers as `rest` is long; each points to a response and an
            // address of the length it says, which live until after the call.
            let sent = unsafe {
                libc::sendmmsg(
                    socket.as_raw_fd(),
                    rest.as_mut_ptr(),
                    rest.len() as libc::c_uint,
                    libc::MSG_DONTWAIT,
                )
            };
            if let Ok(sent @ 1..) = usize::try_from(sent) {
                rest = &mut rest[sent..];
                continue;
            }
            match Errno::last() {
                Errno::EINTR => {}
                Errno::EAGAIN if !waited => {
                    waited = true;
                    let mut room = [PollFd::new(socket, PollFlags::POLLOUT)];
                    // Whether there is room then is what the next call says.
                    let _ = poll(&mut room, PollTimeout::from(ROOM_MS));
                }
                Errno::EAGAIN => return failed + rest.len(),
                // The first of them only: a client that cannot be reached.
                _ => {
                    failed += 1;
                    rest = &mut rest[1..];
                }
            }
        }
        failed
    }
}

/// The address that the system wrote, if it is of a family that we listen on.
fn address(raw: &libc::sockaddr_storage) -> Option<SocketAddr> {
    match libc::c_int::from(raw.ss_family) {
        libc::AF_INET => {
            // SAFETY: the family says that it is a sockaddr_in, which a sockaddr_storage has room and
            // alignment for.
            let raw = unsafe { &*ptr::from_ref(raw).cast::<libc::sockaddr_in>() };
            let ip = Ipv4Addr::from(u32::from_be(raw.sin_addr.s_addr));
            Some((IpAddr::V4(ip), u16::from_be(raw.sin_port)).into())
        }
        libc::AF_INET6 => {
            // SAFETY: as above, of a sockaddr_in6.
            let raw = unsafe { &*ptr::from_ref(raw).cast::<libc::sockaddr_in6>() };
            let ip = Ipv6Addr::from(raw.sin6_addr.s6_addr);
            Some((IpAddr::V6(ip), u16::from_be(raw.sin6_port)).into())
        }
        _ => None,
    }
}

/// Has the system tell the interface of each query that comes to a socket.
pub fn tell_interface(socket: &impl AsFd, address: IpAddr) -> io::Result<()> {
    match address {
        IpAddr::V4(_) => setsockopt(socket, sockopt::Ipv4PacketInfo, &true)?,
        IpAddr::V6(_) => setsockopt(socket, sockopt::Ipv6RecvPacketInfo, &true)?,
    }
    Ok(())
}

/// The index of the interface that a message came by, if the system has told; else 0.
fn interface(header: &libc::msghdr) -> u32 {
    // SAFETY: the system has written control messages where the header says, or says that there are none.
    let Some(control) = (unsafe { libc::CMSG_FIRSTHDR(header).as_ref() }) else {
        return 0;
    };
    // SAFETY: the data of a control message stands behind its header.
    let data = unsafe { libc::CMSG_DATA(control) };
    match (control.cmsg_level, control.cmsg_type) {
        (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
            // SAFETY: the type says what the data is.
            let info: libc::in_pktinfo =
                unsafe { data.cast::<libc::in_pktinfo>().read_unaligned() };
            info.ipi_ifindex as u32
        }
        (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
            // SAFETY: as above.
            let info: libc::in6_pktinfo =
                unsafe { data.cast::<libc::in6_pktinfo>().read_unaligned() };
            info.ipi6_ifindex
        }
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::*;

    #[test]
    fn a_batch_is_received_and_answered_to_each_sender() {
        for any in ["127.0.0.1:0", "[::1]:0"] {
            let server = UdpSocket::bind(any).unwrap();
            let at = server.local_addr().unwrap();
            let clients: Vec<_> = (0..BATCH + 3)
                .map(|_| UdpSocket::bind(any).unwrap())
                .collect();
            for (number, client) in clients.iter().enumerate() {
                client.connect(at).unwrap();
                client.send(&vec![number as u8; number]).unwrap();
            }
            let mut batch = Batch::new();
            let mut answered = 0;
            for expected in [BATCH, 3] {
                assert_eq!(batch.receive(server.as_fd()).unwrap(), expected);
                batch.answer(|query, from, response| {
                    assert_eq!(query, vec![answered as u8; answered]);
                    assert_eq!(from, clients[answered].local_addr().unwrap());
                    // Every third is not answered.
                    if answered % 3 != 0 {
                        response.extend_from_slice(&[answered as u8; 1000]);
                    }
                    answered += 1;
                });
                assert_eq!(batch.send(server.as_fd()), 0);
            }
            let nothing = batch.receive(server.as_fd()).unwrap_err();
            assert_eq!(nothing.kind(), io::ErrorKind::WouldBlock);
            let mut response = [0; 2000];
            for (number, client) in clients.iter().enumerate() {
                if number % 3 != 0 {
                    assert_eq!(client.recv(&mut response).unwrap(), 1000);
                    assert_eq!(response[..1000], [number as u8; 1000]);
                }
                client.set_nonblocking(true).unwrap();
                assert!(client.recv(&mut response).is_err());
            }
        }
    }

    #[test]
    fn a_socket_tells_the_interface_if_it_is_asked_to() {
        for (any, tells) in [
            ("127.0.0.1:0", true),
            ("[::1]:0", true),
            ("127.0.0.1:0", false),
        ] {
            let server = UdpSocket::bind(any).unwrap();
            let at = server.local_addr().unwrap();
            if tells {
                tell_interface(&server, at.ip()).unwrap();
            }
            let client = UdpSocket::bind(any).unwrap();
            client.send_to(&[7], at).unwrap();
            let mut batch = Batch::new();
            assert_eq!(batch.receive(server.as_fd()).unwrap(), 1);
            let lo = nix::net::if_::if_nametoindex("lo").unwrap();
            let expected = tells.then_some((at.ip(), lo));
            assert_eq!(batch.arrivals().collect::<Vec<_>>(), expected.as_slice());
        }
    }

    #[test]
    fn what_cannot_be_sent_is_counted_and_the_rest_is_sent() {
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        client.connect(server.local_addr().unwrap()).unwrap();
        for number in 0..3 {
            client.send(&[number]).unwrap();
        }
        let mut batch = Batch::new();
        assert_eq!(batch.receive(server.as_fd()).unwrap(), 3);
        batch.answer(|query, _, response| {
            // More than a datagram takes.
            response.resize(if query == [1] { 70_000 } else { 100 }, query[0]);
        });
        assert_eq!(batch.send(server.as_fd()), 1);
        let mut response = [0; 200];
        for number in [0, 2] {
            assert_eq!(client.recv(&mut response).unwrap(), 100);
            assert_eq!(response[0], number);
        }
    }

    #[test]
    fn a_longer_query_is_cut() {
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        let at = server.local_addr().unwrap();
        client.send_to(&[7; QUERY_MAX + 1], at).unwrap();
        let mut batch = Batch::new();
        assert_eq!(batch.receive(server.as_fd()).unwrap(), 1);
        batch.answer(|query, _, _| assert_eq!(query, [7; QUERY_MAX]));
    }
}

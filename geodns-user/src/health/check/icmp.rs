//! ICMP echo (RFC 792, RFC 4443 section 4): one socket of each family for all targets, opened when
//! the first check needs it.
//!
//! A datagram socket where `net.ipv4.ping_group_range` lets us have one, else a raw one, which takes
//! CAP_NET_RAW. A reply is known by its sender, identifier (with datagram sockets the kernel's, which
//! hands out replies by it), sequence number, and a random number that the request carried.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use socket2::{Domain, Protocol, SockFilter, Socket, Type};
use tokio::net::UdpSocket;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::{Bad, plain};
use crate::base::lock::lock;
use crate::supervise::{Never, forever};

/// ICMP header, then the random number.
const LEN: usize = 16;
/// Error when there is no socket.
const FORBIDDEN: &str = "icmp: not permitted; give the daemon CAP_NET_RAW, or its group a place in \
                         the sysctl net.ipv4.ping_group_range";

/// Both families' sockets.
#[derive(Default)]
pub struct Icmp {
    v4: Mutex<Option<Arc<Pinger>>>,
    v6: Mutex<Option<Arc<Pinger>>>,
}

impl Icmp {
    /// Sends an echo request and waits for its reply, for ever.
    pub async fn echo(&self, address: IpAddr) -> Result<(), Bad> {
        let slot = if address.is_ipv4() {
            &self.v4
        } else {
            &self.v6
        };
        let pinger = {
            let mut slot = lock(slot);
            match &*slot {
                Some(pinger) => pinger.clone(),
                None => {
                    let pinger = Arc::new(Pinger::open(address.is_ipv4())?);
                    slot.insert(pinger).clone()
                }
            }
        };
        pinger.echo(address).await
    }
}

/// One family's socket.
struct Pinger {
    /// Not UDP: tokio's calls are those that a datagram or raw socket of any protocol takes.
    socket: Arc<UdpSocket>,
    v4: bool,
    id: u16,
    sequence: AtomicU16,
    waiting: Arc<Waiting>,
    reader: JoinHandle<Never>,
}

/// Requests under way, by their random numbers.
type Waiting = Mutex<HashMap<u64, Request>>;

struct Request {
    address: IpAddr,
    sequence: u16,
    answered: oneshot::Sender<()>,
}

impl Pinger {
    fn open(v4: bool) -> Result<Self, Bad> {
        let id: u16 = rand::random();
        let (socket, raw) = socket(v4, id)?;
        let opened = socket
            .set_nonblocking(true)
            .and_then(|()| UdpSocket::from_std(socket.into()))
            .map_err(|error| Bad::impossible(format!("icmp: {}", plain(&error))))?;
        let socket = Arc::new(opened);
        let waiting = Arc::new(Waiting::default());
        let format = Format { v4, raw, id };
        let reader = {
            let (socket, waiting) = (socket.clone(), waiting.clone());
            let work = move || read(socket.clone(), format, waiting.clone());
            tokio::spawn(forever("replies to pings", work))
        };
        Ok(Self {
            socket,
            v4,
            id,
            sequence: AtomicU16::new(0),
            waiting,
            reader,
        })
    }

    async fn echo(&self, address: IpAddr) -> Result<(), Bad> {
        let sequence = self.sequence.fetch_add(1, Ordering::Relaxed);
        let nonce: u64 = rand::random();
        let (answered, answer) = oneshot::channel();
        let request = Request {
            address,
            sequence,
            answered,
        };
        lock(&self.waiting).insert(nonce, request);
        // Also when the time is up and this future is dropped.
        let _forget = Forget(&self.waiting, nonce);
        let packet = request_of(self.v4, self.id, sequence, nonce);
        self.socket
            .send_to(&packet, SocketAddr::new(address, 0))
            .await
            .map_err(|error| Bad::io("send", &error))?;
        let answer = answer.await;
        answer.map_err(|_| Bad::impossible("icmp: the socket is closed"))
    }
}

impl Drop for Pinger {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

struct Forget<'a>(&'a Waiting, u64);

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        lock(self.0).remove(&self.1);
    }
}

/// A socket, and whether it is a raw one.
fn socket(v4: bool, id: u16) -> Result<(Socket, bool), Bad> {
    let (domain, protocol) = if v4 {
        (Domain::IPV4, Protocol::ICMPV4)
    } else {
        (Domain::IPV6, Protocol::ICMPV6)
    };
    if let Ok(socket) = Socket::new(domain, Type::DGRAM, Some(protocol)) {
        return Ok((socket, false));
    }
    let socket = Socket::new(domain, Type::RAW, Some(protocol)).map_err(|error| {
        let forbidden = error.kind() == io::ErrorKind::PermissionDenied;
        Bad::impossible(if forbidden {
            FORBIDDEN.to_owned()
        } else {
            format!("icmp: {}", plain(&error))
        })
    })?;
    // Without it every ICMP packet of the host would wake us. If it is refused, they do.
    if let Err(error) = socket.attach_filter(&filter(v4, id)) {
        tracing::debug!("icmp: no filter: {error}");
    }
    Ok((socket, true))
}

/// A filter (classic BPF) that keeps our own replies.
fn filter(v4: bool, id: u16) -> [SockFilter; 7] {
    let (ldx_header_len, ldx_imm) = (0xb1, 0x01);
    let (ldb_ind, ldh_ind, jump_equal, ret) = (0x50, 0x48, 0x15, 0x06);
    // A raw IPv4 socket's packets begin with their IP header.
    let (start, reply) = if v4 {
        (ldx_header_len, 0)
    } else {
        (ldx_imm, u32::from(V6_REPLY))
    };
    [
        SockFilter::new(start, 0, 0, 0),
        SockFilter::new(ldb_ind, 0, 0, 0),
        SockFilter::new(jump_equal, 0, 3, reply),
        SockFilter::new(ldh_ind, 0, 0, 4),
        SockFilter::new(jump_equal, 0, 1, id.into()),
        SockFilter::new(ret, 0, 0, u32::MAX),
        SockFilter::new(ret, 0, 0, 0),
    ]
}

/// Hands replies to those who wait for them, for ever.
async fn read(socket: Arc<UdpSocket>, format: Format, waiting: Arc<Waiting>) -> Never {
    let mut packet = [0; 128];
    loop {
        match socket.recv_from(&mut packet).await {
            Ok((len, from)) => {
                if let Some((sequence, nonce)) = format.reply(&packet[..len]) {
                    answered(&waiting, from.ip(), sequence, nonce);
                }
            }
            Err(error) => {
                tracing::debug!("icmp: {error}");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

fn answered(waiting: &Waiting, from: IpAddr, sequence: u16, nonce: u64) {
    let mut waiting = lock(waiting);
    let asked = waiting.get(&nonce);
    if asked.is_some_and(|request| request.address == from && request.sequence == sequence)
        && let Some(request) = waiting.remove(&nonce)
    {
        // Nobody waits any more: that is fine.
        let _ = request.answered.send(());
    }
}

const V4_REQUEST: u8 = 8;
const V4_REPLY: u8 = 0;
const V6_REQUEST: u8 = 128;
const V6_REPLY: u8 = 129;

fn request_of(v4: bool, id: u16, sequence: u16, nonce: u64) -> [u8; LEN] {
    let mut packet = [0; LEN];
    packet[0] = if v4 { V4_REQUEST } else { V6_REQUEST };
    packet[4..6].copy_from_slice(&id.to_be_bytes());
    packet[6..8].copy_from_slice(&sequence.to_be_bytes());
    packet[8..].copy_from_slice(&nonce.to_be_bytes());
    if v4 {
        // The kernel fills in ICMPv6's, which covers the addresses.
        let sum = checksum(&packet).to_be_bytes();
        packet[2..4].copy_from_slice(&sum);
    }
    packet
}

/// RFC 1071.
fn checksum(packet: &[u8; LEN]) -> u16 {
    let words = packet.as_chunks::<2>().0.iter();
    let sum: u32 = words.map(|&word| u32::from(u16::from_be_bytes(word))).sum();
    let folded = (sum & 0xFFFF) + (sum >> 16);
    !((folded & 0xFFFF) + (folded >> 16)) as u16
}

/// How what is received looks.
#[derive(Clone, Copy)]
struct Format {
    v4: bool,
    raw: bool,
    id: u16,
}

impl Format {
    /// Sequence number and random number of a reply to one of our requests.
    fn reply(self, packet: &[u8]) -> Option<(u16, u64)> {
        let header = match packet.first() {
            Some(first) if self.v4 && self.raw => usize::from(first & 0xF) * 4,
            _ => 0,
        };
        let packet: &[u8; LEN] = packet.get(header..)?.first_chunk()?;
        let [kind, code, _, _, id0, id1, seq0, seq1, nonce @ ..] = *packet;
        let reply = if self.v4 { V4_REPLY } else { V6_REPLY };
        let ours = !self.raw || u16::from_be_bytes([id0, id1]) == self.id;
        (kind == reply && code == 0 && ours).then(|| {
            let sequence = u16::from_be_bytes([seq0, seq1]);
            (sequence, u64::from_be_bytes(nonce))
        })
    }
}

/// Whether this process may check over ICMP, for IPv4 and IPv6; if not, a line that says what to do.
#[cfg(test)]
pub fn permitted() -> Result<(), String> {
    for v4 in [true, false] {
        if let Err(Bad::Impossible(reason) | Bad::Failed(reason)) = socket(v4, 0) {
            return Err(reason);
        }
    }
    Ok(())
}

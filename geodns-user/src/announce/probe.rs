//! Asks the node itself, through its sockets, over UDP and over TCP: a slow path that is dead or hangs does not answer,
//! although the program in the kernel still does.
//!
//! A question to an address of this machine goes through `lo`, where no program is attached.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use domain::base::iana::Rcode;
use futures_util::future::join_all;
use geodns_common::wire;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, UdpSocket};
use tokio::time::timeout;

use super::links;

/// Octets of an answer over UDP, at the most.
const MAX_ANSWER: usize = 4096;

/// How a question is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// In a datagram.
    Udp,
    /// Over a connection.
    Tcp,
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Udp => "UDP",
            Self::Tcp => "TCP",
        })
    }
}

/// A place to ask: an address of this machine, and the VRF that it is in.
#[derive(Clone, Debug)]
pub struct Place {
    /// Address and port.
    pub address: SocketAddr,
    /// Name of the VRF.
    pub vrf: Option<String>,
}

impl From<SocketAddr> for Place {
    /// In no VRF.
    fn from(address: SocketAddr) -> Self {
        Self { address, vrf: None }
    }
}

/// The outcome of a question.
#[derive(Clone, Debug)]
pub struct Asked {
    /// How it was sent.
    pub transport: Transport,
    /// The address that was asked.
    pub address: IpAddr,
    /// The fault; `None`: the answer is good.
    pub fault: Option<Fault>,
}

/// The fault of an answer. Displays as a clause.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// There is none.
    #[error("no answer within {} ms", .0.as_millis())]
    Late(Duration),
    /// No interface of this machine has the address.
    #[error("no interface has this address: add it to lo")]
    NoAddress,
    /// The question could not be sent, or the answer is wrong.
    #[error("{0}")]
    Wrong(String),
}

impl fmt::Display for Asked {
    /// `UDP 192.0.2.53: no answer within 200 ms`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: ", self.transport, self.address)?;
        match &self.fault {
            None => f.write_str("good"),
            Some(fault) => fault.fmt(f),
        }
    }
}

/// Asks each place over UDP and over TCP, all at once, and waits `patience` for the answers. Where `may_fail`, an
/// answer with an error is good, too.
///
/// A question comes from the address that it goes to. By that the server knows that it asks itself.
pub async fn ask(places: &[Place], query: &[u8], may_fail: bool, patience: Duration) -> Vec<Asked> {
    let transports = [Transport::Udp, Transport::Tcp].into_iter();
    let questions = transports.flat_map(|transport| {
        places.iter().map(move |place| async move {
            let asked = match socket(transport, place) {
                Ok(socket) => timeout(patience, ask_one(transport, socket, place, query)).await,
                Err(error) => Ok(Err(error)),
            };
            let fault = match asked {
                Ok(Ok(answer)) => fault(query, &answer, may_fail).map(Fault::Wrong),
                Ok(Err(error)) if error.kind() == io::ErrorKind::AddrNotAvailable => {
                    Some(Fault::NoAddress)
                }
                Ok(Err(error)) => Some(Fault::Wrong(error.to_string())),
                Err(_) => Some(Fault::Late(patience)),
            };
            Asked {
                transport,
                address: place.address.ip(),
                fault,
            }
        })
    });
    join_all(questions).await
}

async fn ask_one(
    transport: Transport,
    socket: Socket,
    place: &Place,
    query: &[u8],
) -> io::Result<Vec<u8>> {
    match transport {
        Transport::Udp => {
            let socket = UdpSocket::from_std(socket.into())?;
            socket.connect(place.address).await?;
            socket.send(query).await?;
            let mut answer = vec![0; MAX_ANSWER];
            let length = socket.recv(&mut answer).await?;
            answer.truncate(length);
            Ok(answer)
        }
        Transport::Tcp => {
            // Reset at its end: four a second would all be in TIME-WAIT for a minute.
            socket.set_linger(Some(Duration::ZERO))?;
            let socket = TcpSocket::from_std_stream(socket.into());
            let mut stream = socket.connect(place.address).await?;
            let length = u16::try_from(query.len()).map_err(io::Error::other)?;
            let mut framed = length.to_be_bytes().to_vec();
            framed.extend_from_slice(query);
            stream.write_all(&framed).await?;
            let length = stream.read_u16().await?;
            let mut answer = vec![0; usize::from(length)];
            stream.read_exact(&mut answer).await?;
            Ok(answer)
        }
    }
}

/// A socket that is bound to the address that it is to ask.
fn socket(transport: Transport, place: &Place) -> io::Result<Socket> {
    let (kind, protocol) = match transport {
        Transport::Udp => (Type::DGRAM, Protocol::UDP),
        Transport::Tcp => (Type::STREAM, Protocol::TCP),
    };
    let socket = Socket::new(Domain::for_address(place.address), kind, Some(protocol))?;
    socket.set_nonblocking(true)?;
    if let Some(vrf) = &place.vrf {
        socket.bind_device(Some(vrf.as_bytes()))?;
    }
    // IPv4 lets a socket have each address that a local route delivers; IPv6 asks for an interface that has it.
    if let IpAddr::V6(address) = place.address.ip()
        && links::is_delivered_v6(address)
    {
        socket.set_freebind_v6(true)?;
    }
    socket.bind(&SocketAddr::new(place.address.ip(), 0).into())?;
    Ok(socket)
}

/// The fault of an answer; `None`: it has none.
fn fault(query: &[u8], answer: &[u8], may_fail: bool) -> Option<String> {
    // Id, and question: names of ours have no other case than what was asked.
    let question = wire::HEADER_LEN as usize..query.len();
    let is_ours = answer.len() >= query.len()
        && answer.get(..2) == query.get(..2)
        && answer.get(question.clone()) == query.get(question);
    if !is_ours {
        return Some("the answer is to another question".to_owned());
    }
    let (high, low) = match answer {
        [_, _, high, low, ..] => (*high, *low),
        _ => (0, 0),
    };
    if high & 0x80 == 0 {
        return Some("the answer is a query".to_owned());
    }
    let rcode = Rcode::masked_from_int(low);
    (rcode != Rcode::NOERROR && !may_fail).then(|| format!("the answer is {rcode}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `. SOA`
    const QUERY: [u8; 17] = [0x12, 0x34, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 6, 0, 1];

    fn answer(change: impl FnOnce(&mut [u8; 17])) -> [u8; 17] {
        let mut answer = QUERY;
        answer[2] = 0x80;
        change(&mut answer);
        answer
    }

    #[test]
    fn an_answer_is_to_the_question_and_has_no_error() {
        assert_eq!(fault(&QUERY, &answer(|_| ()), false), None);
        for (answer, why) in [
            (answer(|answer| answer[0] = 1), "another question"),
            (answer(|answer| answer[14] = 1), "another question"),
            (answer(|answer| answer[2] = 0), "a query"),
            (answer(|answer| answer[3] = 2), "SERVFAIL"),
            (answer(|answer| answer[3] = 5), "REFUSED"),
            (answer(|answer| answer[3] = 3), "NXDOMAIN"),
        ] {
            let said = fault(&QUERY, &answer, false).unwrap();
            assert!(said.contains(why), "{said}");
        }
        let refused = answer(|answer| answer[3] = 5);
        assert_eq!(fault(&QUERY, &refused, true), None);
        assert!(fault(&QUERY, &[], false).is_some());
        assert!(fault(&QUERY, &QUERY[..12], false).is_some());
    }
}

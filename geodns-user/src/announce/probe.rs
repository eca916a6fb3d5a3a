//! Asks the node itself, through its sockets, over UDP and over TCP: a slow path that is dead or hangs does not answer,
//! although the program in the kernel still does.
//!
//! A question to an address of this machine goes through `lo`, where no program is attached.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use domain::base::iana::Rcode;
use futures_util::future::join_all;
use geodns_common::wire;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

/// Octets of an answer over UDP, at the most.
const MAX_ANSWER: usize = 4096;

/// How a question is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Transport {
    Udp,
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

/// Asks each address over UDP and over TCP, all at once, and waits `patience` for the answers. The node must have an
/// answer to the question: one without an error. The first address that fails is named, with the reason.
pub async fn ask(addresses: &[SocketAddr], query: &[u8], patience: Duration) -> Result<(), String> {
    let transports = [Transport::Udp, Transport::Tcp].into_iter();
    let questions = transports.flat_map(|transport| {
        addresses.iter().map(move |&address| async move {
            let asked = timeout(patience, ask_one(transport, address, query)).await;
            let why = match asked {
                Ok(Ok(answer)) => match fault(query, &answer) {
                    None => return Ok(()),
                    Some(fault) => fault,
                },
                Ok(Err(error)) => error.to_string(),
                Err(_) => format!("no answer within {} ms", patience.as_millis()),
            };
            Err(format!("{transport} {}: {why}", address.ip()))
        })
    });
    join_all(questions).await.into_iter().collect()
}

async fn ask_one(transport: Transport, address: SocketAddr, query: &[u8]) -> io::Result<Vec<u8>> {
    match transport {
        Transport::Udp => {
            let any: IpAddr = match address {
                SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
                SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
            };
            let socket = UdpSocket::bind((any, 0)).await?;
            socket.connect(address).await?;
            socket.send(query).await?;
            let mut answer = vec![0; MAX_ANSWER];
            let length = socket.recv(&mut answer).await?;
            answer.truncate(length);
            Ok(answer)
        }
        Transport::Tcp => {
            let mut stream = TcpStream::connect(address).await?;
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

/// The fault of an answer; `None`: it has none.
fn fault(query: &[u8], answer: &[u8]) -> Option<String> {
    // Id, and question: names of ours have no other case than what was asked.
    let question = wire::HEADER_LEN as usize..query.len();
    let is_ours = answer.len() >= query.len()
        && answer.get(..2) == query.get(..2)
        && answer.get(question.clone()) == query.get(question);
    if !is_ours {
        return Some("the answer is to another question".to_owned());
    }
    let [high, low] = [answer[2], answer[3]];
    if high & 0x80 == 0 {
        return Some("the answer is a query".to_owned());
    }
    let rcode = Rcode::masked_from_int(low);
    (rcode != Rcode::NOERROR).then(|| format!("the answer is {rcode}"))
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
        assert_eq!(fault(&QUERY, &answer(|_| ())), None);
        for (answer, why) in [
            (answer(|answer| answer[0] = 1), "another question"),
            (answer(|answer| answer[14] = 1), "another question"),
            (answer(|answer| answer[2] = 0), "a query"),
            (answer(|answer| answer[3] = 2), "SERVFAIL"),
            (answer(|answer| answer[3] = 5), "REFUSED"),
            (answer(|answer| answer[3] = 3), "NXDOMAIN"),
        ] {
            let said = fault(&QUERY, &answer).unwrap();
            assert!(said.contains(why), "{said}");
        }
        assert!(fault(&QUERY, &[]).is_some());
        assert!(fault(&QUERY, &QUERY[..12]).is_some());
    }
}

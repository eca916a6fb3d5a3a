//! What is asked of other servers: a zone's serial, the zone, and that they hear of a change.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use domain::base::iana::{Opcode, Rcode};
use domain::base::message_builder::AdditionalBuilder;
use domain::base::{Message, MessageBuilder, Rtype, Serial, Ttl};
use domain::rdata::Soa;
use domain::rdata::tsig::Time48;
use domain::tsig::{ClientSequence, ClientTransaction, Key};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::{Instant, timeout};

use super::receive::{Broken, Received, Receiver};
use crate::config::Peer;
use crate::zone::{Name, Zone};

/// How long an answer in one message may take.
const ANSWER: Duration = Duration::from_secs(4);
/// How long the next octets of a transfer may take.
const IDLE: Duration = Duration::from_secs(15);
/// How long a whole transfer may take.
const WHOLE: Duration = Duration::from_secs(3600);

/// Why a server was of no help. Displays as the middle of a sentence.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The network, or a server that closes.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// Nothing came in time.
    #[error("no answer in time")]
    Silent,
    /// It says no.
    #[error("it answers {0}")]
    Refused(Rcode),
    /// Its signature is missing or wrong, or it says that ours is.
    #[error("signature: {0}")]
    Signature(String),
    /// The answer is none.
    #[error("its answer is malformed")]
    Malformed,
    /// It has no authority over the zone.
    #[error("it is not authoritative for the zone")]
    Lame,
    /// What it transfers is of no use.
    #[error("{0}")]
    Broken(#[from] Broken),
}

impl Failure {
    /// Whether another way of transfer may do.
    pub fn is_of_content(&self) -> bool {
        matches!(self, Self::Refused(_) | Self::Broken(_) | Self::Malformed)
    }
}

/// A query in the making.
type Builder = AdditionalBuilder<Vec<u8>>;

fn query(
    apex: &Name,
    qtype: Rtype,
    soa: Option<&Zone>,
    opcode: Opcode,
) -> Result<Builder, Failure> {
    let mut message = MessageBuilder::new_vec();
    message.header_mut().set_id(rand::random());
    message.header_mut().set_opcode(opcode);
    message.header_mut().set_aa(opcode == Opcode::NOTIFY);
    let mut message = message.question();
    message
        .push((apex, qtype))
        .map_err(|_| Failure::Malformed)?;
    let record = soa.and_then(soa_record);
    // NOTIFY has it in the answer section (RFC 1996 section 3.7), IXFR in the authority section.
    let mut message = message.answer();
    if let Some(record) = record.as_ref().filter(|_| opcode == Opcode::NOTIFY) {
        message.push(record).map_err(|_| Failure::Malformed)?;
    }
    let mut message = message.authority();
    if let Some(record) = record.as_ref().filter(|_| opcode != Opcode::NOTIFY) {
        message.push(record).map_err(|_| Failure::Malformed)?;
    }
    Ok(message.additional())
}

type SoaRecord = (Name, Ttl, Soa<Name>);

/// A zone's SOA record, as messages have it.
fn soa_record(zone: &Zone) -> Option<SoaRecord> {
    let mut names = zone.soa().first();
    let mut name = || {
        let len = names.split_at_checked(crate::zone::wire_len(names))?;
        names = len.1;
        Name::from_octets(len.0.to_vec().into()).ok()
    };
    let (mname, rname) = (name()?, name()?);
    let number = |place| Ttl::from_secs(zone.soa_number(place));
    let soa = Soa::new(
        mname,
        rname,
        Serial(zone.serial()),
        number(1),
        number(2),
        number(3),
        number(4),
    );
    Some((zone.apex.clone(), Ttl::from_secs(zone.soa().ttl), soa))
}

/// Signs a query, if there is a key.
fn sign(
    peer: &Peer,
    message: &mut Builder,
) -> Result<Option<ClientTransaction<Arc<Key>>>, Failure> {
    let key = peer.key.as_ref().map(|key| Arc::clone(&key.key));
    key.map(|key| ClientTransaction::request(key, message, Time48::now()))
        .transpose()
        .map_err(|error| Failure::Signature(error.to_string()))
}

/// The serial that a zone has at a server.
pub async fn serial(peer: &Peer, apex: &Name) -> Result<u32, Failure> {
    let build = || query(apex, Rtype::SOA, None, Opcode::QUERY);
    let answer = match exchange(peer, build, 2).await {
        Ok(answer) if answer.header().rcode() != Rcode::REFUSED => answer,
        // Knot DNS has catalogs over TCP alone, and says REFUSED without a signature.
        Ok(_) | Err(Failure::Signature(_)) => over_tcp(peer, build()?).await?,
        Err(failure) => return Err(failure),
    };
    check(&answer)?;
    if !answer.header().aa() {
        return Err(Failure::Lame);
    }
    let records = answer.answer().map_err(|_| Failure::Malformed)?;
    for record in records.limit_to_in::<Soa<_>>() {
        let record = record.map_err(|_| Failure::Malformed)?;
        if record.owner() == apex {
            return Ok(record.data().serial().into_int());
        }
    }
    Err(Failure::Lame)
}

/// Tells a server that a zone has changed (RFC 1996): once, and waits for its answer.
pub async fn notify(peer: &Peer, zone: &Zone) -> Result<(), Failure> {
    let build = || query(&zone.apex, Rtype::SOA, Some(zone), Opcode::NOTIFY);
    let answer = exchange(peer, build, 1).await?;
    check(&answer)
}

fn check(answer: &Message<Vec<u8>>) -> Result<(), Failure> {
    match answer.header().rcode() {
        Rcode::NOERROR => Ok(()),
        rcode => Err(Failure::Refused(rcode)),
    }
}

/// Asks over UDP, so many times, and over TCP what is truncated.
async fn exchange(
    peer: &Peer,
    build: impl Fn() -> Result<Builder, Failure>,
    times: usize,
) -> Result<Message<Vec<u8>>, Failure> {
    let at = SocketAddr::new(peer.address, peer.port);
    let any: SocketAddr = match at {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let mut last = Failure::Silent;
    for _ in 0..times {
        let mut message = build()?;
        let transaction = sign(peer, &mut message)?;
        let message = message.finish();
        let socket = UdpSocket::bind(any).await?;
        socket.connect(at).await?;
        socket.send(&message).await?;
        match timeout(ANSWER, receive(&socket, &message, transaction)).await {
            Ok(Ok(answer)) if answer.header().tc() => return over_tcp(peer, build()?).await,
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(failure)) => last = failure,
            Err(_) => last = Failure::Silent,
        }
    }
    Err(last)
}

/// Waits for the answer to a query; what is none is passed over.
async fn receive(
    socket: &UdpSocket,
    query: &[u8],
    transaction: Option<ClientTransaction<Arc<Key>>>,
) -> Result<Message<Vec<u8>>, Failure> {
    let mut buffer = vec![0; usize::from(u16::MAX)];
    loop {
        let len = socket.recv(&mut buffer).await?;
        let Ok(mut answer) = Message::from_octets(buffer[..len].to_vec()) else {
            continue;
        };
        if !is_answer(&answer, query) {
            continue;
        }
        if let Some(transaction) = transaction {
            let verified = transaction.answer(&mut answer, Time48::now());
            verified.map_err(|error| Failure::Signature(error.to_string()))?;
        }
        return Ok(answer);
    }
}

/// Whether a message answers a query: id, opcode, QR, and the question, where there is one.
fn is_answer(answer: &Message<Vec<u8>>, query: &[u8]) -> bool {
    let Ok(query) = Message::from_octets(query) else {
        return false;
    };
    let (header, asked) = (answer.header(), query.header());
    let same = match (answer.first_question(), query.first_question()) {
        (Some(one), Some(other)) => one == other,
        // An error may come without.
        (None, _) => answer.header_counts().qdcount() == 0,
        _ => false,
    };
    header.id() == asked.id() && header.qr() && header.opcode() == asked.opcode() && same
}

async fn over_tcp(peer: &Peer, mut message: Builder) -> Result<Message<Vec<u8>>, Failure> {
    let exchange = async {
        let transaction = sign(peer, &mut message)?;
        let message = message.finish();
        let mut stream = connect(peer).await?;
        send(&mut stream, &message).await?;
        let mut answer =
            Message::from_octets(read(&mut stream).await?).map_err(|_| Failure::Malformed)?;
        if !is_answer(&answer, &message) {
            return Err(Failure::Malformed);
        }
        if let Some(transaction) = transaction {
            let verified = transaction.answer(&mut answer, Time48::now());
            verified.map_err(|error| Failure::Signature(error.to_string()))?;
        }
        Ok(answer)
    };
    timeout(ANSWER, exchange)
        .await
        .unwrap_or(Err(Failure::Silent))
}

async fn connect(peer: &Peer) -> Result<TcpStream, Failure> {
    let at = SocketAddr::new(peer.address, peer.port);
    let connecting = timeout(ANSWER, TcpStream::connect(at)).await;
    Ok(connecting.unwrap_or(Err(io::ErrorKind::TimedOut.into()))?)
}

async fn send(stream: &mut TcpStream, message: &[u8]) -> Result<(), Failure> {
    let len = u16::try_from(message.len()).map_err(|_| Failure::Malformed)?;
    stream
        .write_all(&[&len.to_be_bytes(), message].concat())
        .await?;
    Ok(())
}

/// One message.
async fn read(stream: &mut TcpStream) -> Result<Vec<u8>, Failure> {
    let reading = async {
        let len = stream.read_u16().await?;
        let mut message = vec![0; len.into()];
        stream.read_exact(&mut message).await?;
        Ok::<_, io::Error>(message)
    };
    match timeout(IDLE, reading).await {
        Ok(Ok(message)) => Ok(message),
        Ok(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => {
            Err(Failure::Broken(Broken::Cut))
        }
        Ok(Err(error)) => Err(error.into()),
        Err(_) => Err(Failure::Silent),
    }
}

/// Transfers a zone: what has changed since a version of it, or all.
pub async fn transfer(peer: &Peer, apex: &Name, since: Option<&Zone>) -> Result<Received, Failure> {
    let qtype = match since {
        Some(_) => Rtype::IXFR,
        None => Rtype::AXFR,
    };
    let mut message = query(apex, qtype, since, Opcode::QUERY)?;
    let key = peer.key.as_ref().map(|key| Arc::clone(&key.key));
    let mut sequence = key
        .map(|key| ClientSequence::request(key, &mut message, Time48::now()))
        .transpose()
        .map_err(|error| Failure::Signature(error.to_string()))?;
    let message = message.finish();
    let mut stream = connect(peer).await?;
    send(&mut stream, &message).await?;
    let mut receiver = Receiver::new(apex.clone());
    let started = Instant::now();
    loop {
        let answer = read(&mut stream).await?;
        if started.elapsed() > WHOLE {
            return Err(Failure::Silent);
        }
        let mut answer = Message::from_octets(answer).map_err(|_| Failure::Malformed)?;
        if !is_answer(&answer, &message) {
            return Err(Failure::Malformed);
        }
        if let Some(sequence) = &mut sequence {
            let verified = sequence.answer(&mut answer, Time48::now());
            verified.map_err(|error| Failure::Signature(error.to_string()))?;
        }
        check(&answer)?;
        let answer = Message::from_octets(Bytes::from(answer.into_octets()))
            .map_err(|_| Failure::Malformed)?;
        // Parsing and sorting a record at a time: other tasks go on between two messages.
        if receiver.take(answer)? {
            break;
        }
    }
    if let Some(sequence) = sequence {
        let verified = sequence.done();
        verified.map_err(|error| Failure::Signature(error.to_string()))?;
    }
    Ok(receiver.finish()?)
}

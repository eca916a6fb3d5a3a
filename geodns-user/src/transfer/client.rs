//! Queries to other servers: for a zone's serial, for the zone, and to tell them of a change.

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

use super::budget::{Limits, Share};
use super::receive::{Arrived, Broken, Receiver};
use crate::base::name::Name;
use crate::config::Peer;
use crate::zone::{Zone, memory};

/// How long an answer in one message may take, over TCP and to a NOTIFY.
const ANSWER: Duration = Duration::from_secs(4);
/// How long the answer to a first and to a second query over UDP may take.
const TRIES: [Duration; 2] = [Duration::from_secs(2), Duration::from_secs(3)];
/// How long the rest of an IXFR may take behind its first SOA record.
const MORE: Duration = Duration::from_secs(3);
/// How long the next octets of a transfer may take.
const IDLE: Duration = Duration::from_secs(15);
/// How long a whole transfer may take.
const WHOLE: Duration = Duration::from_secs(3600);

/// A reason why a server was of no help. Displays as the middle of a sentence.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The network, or a server that closes.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// No answer came in time.
    #[error("no answer in time")]
    Silent,
    /// Its answer has an error code.
    #[error("it answers {0}")]
    Refused(Rcode),
    /// Its signature is missing or wrong, or it says that ours is.
    #[error("signature: {0}")]
    Signature(String),
    /// The message is no answer to the query.
    #[error("its answer is malformed")]
    Malformed,
    /// It has no authority over the zone.
    #[error("it is not authoritative for the zone")]
    Lame,
    /// It cannot be reached over UDP, and not over TCP either.
    #[error("{0} over UDP, and over TCP: {1}")]
    Neither(Box<Failure>, Box<Failure>),
    /// Its transfer is of no use.
    #[error("{0}")]
    Broken(#[from] Broken),
}

impl Failure {
    /// Whether another manner of transfer may do.
    pub fn is_of_content(&self) -> bool {
        matches!(self, Self::Refused(_) | Self::Broken(_) | Self::Malformed)
    }

    /// Whether nothing has come, for which the network may be to blame.
    fn is_of_network(&self) -> bool {
        matches!(self, Self::Io(_) | Self::Silent)
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

/// The serial that a zone has at a server. `tcp` says whether to ask over TCP first, and afterwards whether only TCP
/// did.
pub async fn serial(peer: &Peer, apex: &Name, tcp: &mut bool) -> Result<u32, Failure> {
    let build = || query(apex, Rtype::SOA, None, Opcode::QUERY);
    if std::mem::take(tcp)
        && let Ok(answer) = over_tcp(peer, build()?).await
    {
        *tcp = true;
        return serial_in(&answer, apex);
    }
    let failed = match exchange(peer, build, &TRIES).await {
        Ok(answer) if answer.header().rcode() == Rcode::NOERROR => return serial_in(&answer, apex),
        Ok(answer) => Failure::Refused(answer.header().rcode()),
        Err(failure) => failure,
    };
    // Some have TCP only, behind a firewall (RFC 7766 section 5). Knot DNS has catalogs over TCP alone, and
    // says REFUSED without a signature.
    match over_tcp(peer, build()?).await {
        Ok(answer) => {
            *tcp = failed.is_of_network();
            serial_in(&answer, apex)
        }
        Err(failure) if failed.is_of_network() => {
            Err(Failure::Neither(Box::new(failed), Box::new(failure)))
        }
        Err(_) => Err(failed),
    }
}

/// The serial that an answer says.
fn serial_in(answer: &Message<Vec<u8>>, apex: &Name) -> Result<u32, Failure> {
    check(answer)?;
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

/// Tells a server that a zone has changed (RFC 1996): once over UDP, and if nothing comes, over TCP (section
/// 3.4). Waits for its answer.
pub async fn notify(peer: &Peer, zone: &Zone) -> Result<(), Failure> {
    let build = || query(&zone.apex, Rtype::SOA, Some(zone), Opcode::NOTIFY);
    let answer = match exchange(peer, build, &[ANSWER]).await {
        Err(failed) if failed.is_of_network() => over_tcp(peer, build()?)
            .await
            .map_err(|failure| Failure::Neither(Box::new(failed), Box::new(failure)))?,
        answer => answer?,
    };
    check(&answer)
}

fn check(answer: &Message<Vec<u8>>) -> Result<(), Failure> {
    match answer.header().rcode() {
        Rcode::NOERROR => Ok(()),
        rcode => Err(Failure::Refused(rcode)),
    }
}

/// Asks over UDP, once for each of these times. A truncated answer is asked for again over TCP.
async fn exchange(
    peer: &Peer,
    build: impl Fn() -> Result<Builder, Failure>,
    tries: &[Duration],
) -> Result<Message<Vec<u8>>, Failure> {
    let at = SocketAddr::new(peer.address, peer.port);
    let any: SocketAddr = match at {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let mut last = Failure::Silent;
    for &patience in tries {
        let mut message = build()?;
        let transaction = sign(peer, &mut message)?;
        let message = message.finish();
        let socket = UdpSocket::bind(any).await?;
        socket.connect(at).await?;
        if let Err(error) = socket.send(&message).await {
            last = error.into();
            continue;
        }
        match timeout(patience, receive(&socket, &message, transaction)).await {
            Ok(Ok(answer)) if answer.header().tc() => return over_tcp(peer, build()?).await,
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(failure)) => last = failure,
            Err(_) => last = Failure::Silent,
        }
    }
    Err(last)
}

/// Waits for the answer to a query. Messages that are none are passed over.
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
            Message::from_octets(read(&mut stream, IDLE).await?).map_err(|_| Failure::Malformed)?;
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
async fn read(stream: &mut TcpStream, patience: Duration) -> Result<Vec<u8>, Failure> {
    let reading = async {
        let len = stream.read_u16().await?;
        let mut message = vec![0; len.into()];
        stream.read_exact(&mut message).await?;
        Ok::<_, io::Error>(message)
    };
    match timeout(patience, reading).await {
        Ok(Ok(message)) => Ok(message),
        Ok(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => {
            Err(Failure::Broken(Broken::Cut))
        }
        Ok(Err(error)) => Err(error.into()),
        Err(_) => Err(Failure::Silent),
    }
}

/// Transfers a zone: the changes since a version of it, or all. Its memory is taken from a share, within limits.
pub async fn transfer(
    peer: &Peer,
    apex: &Name,
    since: Option<&Zone>,
    share: Share,
    limits: Limits,
) -> Result<Arrived, Failure> {
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
    let mut receiver = Receiver::new(apex.clone(), since.map(Zone::serial), share, limits);
    if let Err(failure) = receive_all(&mut stream, &message, &mut sequence, &mut receiver).await {
        finish(receiver, |_| ()).await?;
        return Err(failure);
    }
    if let Some(sequence) = sequence {
        let verified = sequence.done();
        verified.map_err(|error| Failure::Signature(error.to_string()))?;
    }
    Ok(finish(receiver, Receiver::finish).await??)
}

/// Finishes a receiver. A large zone takes its time: it is sorted, or its memory is given back.
async fn finish<T: Send + 'static>(
    receiver: Receiver,
    end: impl FnOnce(Receiver) -> T + Send + 'static,
) -> io::Result<T> {
    let ended = tokio::task::spawn_blocking(|| {
        let is_large = receiver.is_large();
        let ended = end(receiver);
        if is_large {
            memory::give_back();
        }
        ended
    });
    ended.await.map_err(io::Error::other)
}

/// Takes message after message, to the last.
async fn receive_all(
    stream: &mut TcpStream,
    query: &[u8],
    sequence: &mut Option<ClientSequence<Arc<Key>>>,
    receiver: &mut Receiver,
) -> Result<(), Failure> {
    let started = Instant::now();
    loop {
        let patience = if receiver.may_be_all() { MORE } else { IDLE };
        let answer = match read(stream, patience).await {
            Err(Failure::Silent) if receiver.may_be_all() => return Ok(()),
            answer => answer?,
        };
        if started.elapsed() > WHOLE {
            return Err(Failure::Silent);
        }
        let mut answer = Message::from_octets(answer).map_err(|_| Failure::Malformed)?;
        // Others take it for a response whatever its bit says, over a connection that they have opened.
        answer.header_mut().set_qr(true);
        if !is_answer(&answer, query) {
            return Err(Failure::Malformed);
        }
        if let Some(sequence) = sequence {
            let verified = sequence.answer(&mut answer, Time48::now());
            verified.map_err(|error| Failure::Signature(error.to_string()))?;
        }
        check(&answer)?;
        let answer = Message::from_octets(Bytes::from(answer.into_octets()))
            .map_err(|_| Failure::Malformed)?;
        // Parsing a record at a time: other tasks go on between two messages.
        if receiver.take(&answer)? {
            return Ok(());
        }
    }
}

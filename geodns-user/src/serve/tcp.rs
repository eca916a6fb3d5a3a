//! TCP (RFC 7766), and TLS over it (RFC 7858): many queries a connection, answered as they come, within bounds.
//!
//! An answer of one message is given at once. A task of its own writes an answer of many (a zone transfer), message
//! by message, while the queries behind it are answered.

use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use bytes::{Buf, BytesMut};
use futures_util::{FutureExt, StreamExt};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Mutex;
use tokio::task::JoinSet;
use tokio::time::{Instant, Sleep, sleep, sleep_until, timeout};
use tokio_rustls::TlsAcceptor;

use super::connections::{Answering, Seat};
use super::guard::Panicked;
use super::message::Transport;
use super::request::{Answer, Messages, Request};
use super::seen::Turn;
use super::shared::Shared;
use super::stats::{Counter, Tally};
use crate::dnstap::{Exchange, Protocol};
use crate::supervise::Never;

/// Octets that are read at once.
const READ: usize = 4096;
/// Octets of answers that are gathered before they are written.
const FLUSH: usize = 16 * 1024;
/// Octets of answers after which it is the others' turn.
const MANY: usize = 2048;
/// Octets of a buffer that is kept for the next answers.
const KEEP: usize = 2 * FLUSH;
/// Stands for an address that the system does not tell.
const UNKNOWN: SocketAddr = SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), 0);
/// How exactly it is known since when a connection is idle.
const TICK: Duration = Duration::from_millis(10);
/// Answers of many messages that a connection's client is sent at the same time. With one more, what
/// comes behind it waits.
const STREAMS: usize = 4;

/// Accepts connections, for ever. Ends them when it is dropped.
///
/// With `tls`, each begins with a handshake (RFC 7858), which takes no longer than a query may. A connection ends
/// when it loses its seat to another one.
pub async fn work(listener: Arc<TcpListener>, shared: Arc<Shared>, tls: bool) -> Never {
    let mut connections = JoinSet::new();
    let mut number = 0u32;
    loop {
        let accepted = listener.accept().await;
        while connections.try_join_next().is_some() {}
        let (stream, client) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // A client that has gone again, or no files or memory: wait for some.
                tracing::debug!(%error, "accepting over TCP");
                sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let own = stream.local_addr().unwrap_or(UNKNOWN);
        let is_own = shared.is_own(client.ip(), own.ip());
        if !is_own {
            shared.stats.add(Counter::TcpConnections);
        }
        let from = Client {
            at: client,
            server: own,
            is_own,
        };
        let seat = Arc::new(Seat::take(&shared.connections, client.ip(), tls));
        number = number.wrapping_add(1);
        let turn = Turn::of_connection(number);
        let shared = Arc::clone(&shared);
        connections.spawn(async move {
            let serving = async {
                if tls {
                    speak_tls(stream, from, &shared, &seat, turn).await
                } else {
                    speak(stream, from, &shared, &seat, turn).await
                }
            };
            let served = tokio::select! {
                served = serving => served,
                () = seat.lost() => Ok(()),
            };
            if served.is_err_and(|error| error.kind() == io::ErrorKind::TimedOut) {
                shared.stats.add(Counter::TcpTimeouts);
            }
        });
    }
}

/// The other end of a connection.
#[derive(Clone, Copy)]
struct Client {
    at: SocketAddr,
    /// The address that it is connected to.
    server: SocketAddr,
    /// Whether this server asks itself.
    is_own: bool,
}

async fn speak(
    stream: TcpStream,
    client: Client,
    shared: &Shared,
    seat: &Arc<Seat>,
    turn: Turn,
) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let (reader, writer) = stream.into_split();
    serve(reader, writer, (client, Transport::Tcp), shared, seat, turn).await
}

async fn speak_tls(
    stream: TcpStream,
    client: Client,
    shared: &Shared,
    seat: &Arc<Seat>,
    turn: Turn,
) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let Some(certificate) = shared.certificate.load_full() else {
        return Ok(());
    };
    let acceptor = TlsAcceptor::from(certificate.server_config());
    let shaken = timeout(seat.patience(), acceptor.accept(stream)).await;
    let shaken = shaken.unwrap_or_else(|late| Err(late.into()));
    shared.stats.add(match shaken {
        Ok(_) => Counter::TlsConnections,
        Err(_) => Counter::TlsFailed,
    });
    let (reader, writer) = tokio::io::split(shaken?);
    serve(reader, writer, (client, Transport::Tls), shared, seat, turn).await
}

/// Answers one connection's queries until the client closes it or is too slow.
async fn serve<R, W>(
    mut reader: R,
    writer: W,
    (client, transport): (Client, Transport),
    shared: &Shared,
    seat: &Arc<Seat>,
    turn: Turn,
) -> io::Result<()>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin + Send + 'static,
{
    let writer = Arc::new(Writer {
        half: Mutex::new(writer),
        seat: Arc::clone(seat),
    });
    let mut streams = JoinSet::new();
    let mut input = BytesMut::new();
    let mut desk = Desk {
        client,
        transport,
        output: Vec::new(),
        response: Vec::new(),
        tally: Tally::default(),
        turn,
    };
    let mut deadline = Deadline::after(seat.patience());
    let mut asked = Instant::now();
    loop {
        // A whole query has to come by then; a few octets now and then do not help.
        deadline.set(seat.patience());
        while whole(&input).is_none() {
            input.reserve(READ);
            tokio::select! {
                // What has come in time is not late.
                biased;
                read = reader.read_buf(&mut input) => if read? == 0 {
                    // The client says that it is done; what it asked for, it may be waiting for.
                    while let Some(ended) = streams.join_next().await {
                        ended??;
                    }
                    return writer.close().await;
                },
                Some(ended) = streams.join_next(), if !streams.is_empty() => {
                    ended??;
                    deadline.set(seat.patience());
                }
                () = deadline.reached() => {
                    // A stream has a deadline for each write.
                    if streams.is_empty() || !input.is_empty() {
                        return Err(io::ErrorKind::TimedOut.into());
                    }
                    deadline.set(seat.patience());
                }
            }
        }
        let now = Instant::now();
        if now - asked >= TICK {
            asked = now;
            seat.asked();
        }
        let next = desk.answer(&mut input, shared);
        if !desk.output.is_empty() {
            writer.write(&desk.output).await?;
            // Who asks much at once waits for those who ask little: else many of them would have all the CPUs.
            if desk.output.len() >= MANY {
                tokio::task::yield_now().await;
            }
            desk.output.clear();
            desk.output.shrink_to(KEEP);
            desk.response.shrink_to(KEEP);
        }
        match next {
            Next::Query => {}
            Next::Stream(messages) => {
                while streams.len() >= STREAMS
                    && let Some(ended) = streams.join_next().await
                {
                    ended??;
                }
                let answering = Answering::begin(seat);
                let writer = Arc::clone(&writer);
                streams.spawn(async move {
                    let _answering = answering;
                    stream(messages, writer).await
                });
            }
            Next::Close => return Ok(()),
        }
    }
}

/// Writes an answer of many messages.
async fn stream<W: AsyncWrite + Unpin>(
    mut messages: Messages,
    writer: Arc<Writer<W>>,
) -> io::Result<()> {
    let mut output = Vec::new();
    loop {
        // As many as are there.
        let message = match messages.next().now_or_never() {
            Some(message) => message,
            None => {
                writer.write(&output).await?;
                output.clear();
                messages.next().await
            }
        };
        match message {
            Some(message) => frame(&message?, &mut output)?,
            None => return writer.write(&output).await,
        }
        if output.len() >= FLUSH {
            writer.write(&output).await?;
            output.clear();
        }
    }
}

/// Puts a message behind others, with its length before it.
fn frame(message: &[u8], output: &mut Vec<u8>) -> io::Result<()> {
    let len = u16::try_from(message.len()).map_err(|_| io::ErrorKind::InvalidData)?;
    output.extend_from_slice(&len.to_be_bytes());
    output.extend_from_slice(message);
    Ok(())
}

/// Length of the message that the input begins with, if all of it is there.
fn whole(input: &[u8]) -> Option<usize> {
    let (length, rest) = input.split_first_chunk()?;
    let len = usize::from(u16::from_be_bytes(*length));
    (rest.len() >= len).then_some(len)
}

/// The way to the client, for whole messages at a time. Whoever fails to write has to close the
/// connection: half of a message may be on its way.
struct Writer<W> {
    half: Mutex<W>,
    seat: Arc<Seat>,
}

impl<W: AsyncWrite + Unpin> Writer<W> {
    /// Writes whole messages, when those before are written.
    async fn write(&self, messages: &[u8]) -> io::Result<()> {
        let write = async {
            let mut half = self.half.lock().await;
            half.write_all(messages).await?;
            half.flush().await
        };
        let mut write = pin!(write);
        if let Some(written) = write.as_mut().now_or_never() {
            return written;
        }
        let _answering = Answering::begin(&self.seat);
        timeout(self.seat.patience(), write).await?
    }

    /// Says that nothing more comes.
    async fn close(&self) -> io::Result<()> {
        let close = async { self.half.lock().await.shutdown().await };
        timeout(self.seat.patience(), close).await?
    }
}

/// The next step after some answers.
enum Next {
    /// More queries.
    Query,
    /// An answer of many messages, and then more queries.
    Stream(Messages),
    /// Nothing: who sends what no client sends is none.
    Close,
}

/// The buffers and counters of a connection.
struct Desk {
    client: Client,
    transport: Transport,
    /// Answers, each with its length before it.
    output: Vec<u8>,
    response: Vec<u8>,
    tally: Tally,
    turn: Turn,
}

impl Desk {
    /// Answers the whole queries of the input, as far as their answers are to be gathered.
    fn answer(&mut self, input: &mut BytesMut, shared: &Shared) -> Next {
        let world = shared.world.load();
        let identity = shared.identity.load();
        let blocks = shared.blocks.load();
        let is_silent = shared.is_silent.load(Ordering::Relaxed);
        let tap = shared.tap.load();
        let tap = tap.as_ref().filter(|_| !self.client.is_own);
        let mut next = Next::Query;
        while let Some(len) = whole(input)
            && self.output.len() < FLUSH
            && matches!(next, Next::Query)
        {
            let tap = tap.filter(|tap| tap.is_turn());
            let asked = tap.map(|_| SystemTime::now());
            let request = Request {
                world: &world,
                notices: &shared.notices,
                identity: &identity,
                message: &input[2..2 + len],
                client: self.client.at.ip(),
                transport: self.transport,
                bound: None,
            };
            let answer = match !self.client.is_own && request.is_blocked(&blocks) {
                _ if is_silent => Ok(Answer::Nothing),
                true => {
                    self.tally.add(Counter::Blocked);
                    Ok(Answer::Nothing)
                }
                false => shared.handler.answer(&request, &mut self.response),
            };
            let outcome = match answer {
                Ok(Answer::Message(outcome)) => Some(outcome),
                Ok(Answer::Stream(outcome, messages)) => {
                    next = Next::Stream(messages);
                    self.response.clear();
                    Some(outcome)
                }
                Ok(Answer::Nothing) => None,
                Err(Panicked) => {
                    self.tally.add(Counter::Panics);
                    Some(Panicked::OUTCOME)
                }
            };
            if self.client.is_own {
                self.tally.add(Counter::OwnChecks);
            } else {
                self.tally.message(self.transport, outcome.as_ref());
                shared.seen.take(&mut self.turn, outcome.as_ref());
                if let Some(outcome) = &outcome {
                    outcome.count_mirror(&world, 0);
                }
            }
            if let (Some(tap), Some(asked)) = (tap, asked) {
                let is_whole = outcome.is_some() && matches!(next, Next::Query);
                tap.take(Exchange {
                    asked,
                    answered: SystemTime::now(),
                    client: self.client.at,
                    server: self.client.server,
                    protocol: match self.transport {
                        Transport::Tls => Protocol::Tls,
                        Transport::Tcp | Transport::Udp => Protocol::Tcp,
                    },
                    query: input[2..2 + len].to_vec(),
                    response: is_whole.then(|| self.response.clone()),
                });
            }
            input.advance(2 + len);
            if matches!(next, Next::Query)
                && (outcome.is_none() || frame(&self.response, &mut self.output).is_err())
            {
                next = Next::Close;
            }
        }
        shared.stats.merge(None, &mut self.tally);
        next
    }
}

/// A moment that is put off often and reached rarely. Putting it off costs nothing: the timer is looked
/// at when it would have been reached.
struct Deadline {
    at: Instant,
    timer: Pin<Box<Sleep>>,
}

impl Deadline {
    fn after(time: Duration) -> Self {
        let at = Instant::now() + time;
        Self {
            at,
            timer: Box::pin(sleep_until(at)),
        }
    }

    fn set(&mut self, time: Duration) {
        self.at = Instant::now() + time;
        // There are more connections now, and less patience.
        if self.at < self.timer.deadline() {
            self.timer.as_mut().reset(self.at);
        }
    }

    async fn reached(&mut self) {
        loop {
            self.timer.as_mut().await;
            if Instant::now() >= self.at {
                return;
            }
            self.timer.as_mut().reset(self.at);
        }
    }
}

//! gRPC over one HTTP/2 connection: calls that have one answer, and calls that have many.
//!
//! We send no HTTP/2 pings: etcd closes connections that ping more often than its operator has allowed. Whoever reads
//! many answers makes a small call now and then instead.

use std::convert::Infallible;
use std::error::Error;
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming};
use hyper::client::conn::http2::{self, SendRequest};
use hyper::header::HeaderMap;
use hyper::{Request, StatusCode, Uri};
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{oneshot, watch};
use tokio::task::AbortHandle;
use tokio::time::timeout;

/// Octets of an answer, at the most.
const LONGEST: usize = 256 << 20;
/// Octets that the other side may send before we have read them.
const WINDOW: u32 = 1 << 20;

/// The driver of a connection that has ended says why within this time.
const SOON: Duration = Duration::from_millis(100);

/// A reason why a call has no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The request has not been sent.
    NotSent(String),
    /// The connection broke after the request was sent.
    Broken(String),
    /// There was no answer within this time.
    Late(Duration),
    /// The other side says so.
    Status {
        /// The number of gRPC's status.
        code: u32,
        /// Its words.
        message: String,
    },
    /// The other side does not speak gRPC.
    Stranger(String),
}

/// gRPC's status numbers that mean something to us.
pub mod code {
    pub const OK: u32 = 0;
    pub const INVALID_ARGUMENT: u32 = 3;
    pub const FAILED_PRECONDITION: u32 = 9;
    pub const PERMISSION_DENIED: u32 = 7;
    pub const RESOURCE_EXHAUSTED: u32 = 8;
    pub const OUT_OF_RANGE: u32 = 11;
    pub const UNIMPLEMENTED: u32 = 12;
    pub const UNAUTHENTICATED: u32 = 16;
}

/// A connection. Dropping it ends it.
#[derive(Debug)]
pub struct Connection {
    send: SendRequest<Outgoing>,
    driver: AbortHandle,
    /// The reason why it has ended.
    ended: watch::Receiver<Option<String>>,
    base: Uri,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Connection {
    /// Speaks HTTP/2 over a transport to `base`, which has scheme and authority.
    pub async fn over<T>(transport: T, base: Uri) -> Result<Self, Failure>
    where
        T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder.initial_stream_window_size(WINDOW);
        builder.initial_connection_window_size(4 * WINDOW);
        let made = builder.handshake(TokioIo::new(transport)).await;
        let (send, driver) = made.map_err(|error| Failure::NotSent(causes(&error)))?;
        let (tell, ended) = watch::channel(None);
        let driver = tokio::spawn(async move {
            let ended = driver.await;
            tell.send_replace(ended.err().map(|error| causes(&error)));
        });
        Ok(Self {
            send,
            driver: driver.abort_handle(),
            ended,
            base,
        })
    }

    /// Whether no call can be made any more.
    pub fn is_closed(&self) -> bool {
        self.send.is_closed()
    }

    /// Makes a call that has one answer, within a time.
    pub async fn call<A: Message + Default>(
        &self,
        path: &str,
        question: &impl Message,
        time: Duration,
    ) -> Result<A, Failure> {
        let one = async {
            let mut answers = self.begin(path, question, None).await?;
            let answer = answers.next().await?;
            // The status stands behind it.
            match answers.end().await {
                Ok(()) => Ok(answer),
                Err(failure) => Err(failure),
            }
        };
        timeout(time, one).await.unwrap_or(Err(Failure::Late(time)))
    }

    /// Makes a call that has many answers, and asks nothing more.
    pub async fn stream<A: Message + Default>(
        &self,
        path: &str,
        question: &impl Message,
        time: Duration,
    ) -> Result<Answers<A>, Failure> {
        let (open, until) = oneshot::channel();
        let begun = timeout(time, self.begin(path, question, Some(until)));
        let mut answers = begun.await.unwrap_or(Err(Failure::Late(time)))?;
        answers.open = Some(open);
        Ok(answers)
    }

    /// The reason for an error: that of the connection, if it has ended just now.
    async fn reason(&self, error: &hyper::Error) -> String {
        let mut ended = self.ended.clone();
        let told = timeout(SOON, ended.wait_for(Option::is_some)).await;
        match told {
            Ok(Ok(reason)) => reason.clone().unwrap_or_default(),
            _ => causes(error),
        }
    }

    async fn begin<A: Message + Default>(
        &self,
        path: &str,
        question: &impl Message,
        until: Option<oneshot::Receiver<()>>,
    ) -> Result<Answers<A>, Failure> {
        let request = Request::post(format!(
            "{}{path}",
            self.base.to_string().trim_end_matches('/')
        ))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        // etcd answers at once then, if it has no leader.
        .header("hasleader", "true")
        .body(Outgoing {
            message: Some(framed(question)),
            until,
        })
        .map_err(|error| Failure::NotSent(error.to_string()))?;
        let mut send = self.send.clone();
        if let Err(error) = send.ready().await {
            return Err(Failure::NotSent(self.reason(&error).await));
        }
        let response = match send.try_send_request(request).await {
            Ok(response) => response,
            Err(mut error) => {
                let unsent = error.take_message().is_some();
                let reason = self.reason(error.error()).await;
                return Err(match unsent {
                    true => Failure::NotSent(reason),
                    false => Failure::Broken(reason),
                });
            }
        };
        if response.status() != StatusCode::OK {
            return Err(Failure::Stranger(format!("HTTP {}", response.status())));
        }
        // An error alone has its status here.
        status(response.headers()).unwrap_or(Ok(()))?;
        Ok(Answers {
            body: response.into_body(),
            unread: BytesMut::new(),
            open: None,
            of: PhantomData,
        })
    }
}

/// The answers of a call. Dropping them ends it.
#[derive(Debug)]
pub struct Answers<A> {
    body: Incoming,
    unread: BytesMut,
    /// As long as it is there, we might ask more.
    open: Option<oneshot::Sender<()>>,
    of: PhantomData<fn() -> A>,
}

impl<A: Message + Default> Answers<A> {
    /// Waits for the next answer. Giving up the wait loses nothing. That there are no more is a failure.
    pub async fn next(&mut self) -> Result<A, Failure> {
        loop {
            if let Some(message) = self.take()? {
                let answer = A::decode(message);
                return answer.map_err(|error| Failure::Stranger(error.to_string()));
            }
            self.read().await?;
        }
    }

    /// Reads the status, when there are no more answers.
    async fn end(&mut self) -> Result<(), Failure> {
        match self.read().await {
            Err(Failure::Status { code: code::OK, .. }) => Ok(()),
            Ok(()) => Err(Failure::Stranger("two answers for one".to_owned())),
            Err(failure) => Err(failure),
        }
    }

    /// The first message that is there, whole.
    fn take(&mut self) -> Result<Option<Bytes>, Failure> {
        let Some((&[compressed, a, b, c, d], _)) = self.unread.split_first_chunk() else {
            return Ok(None);
        };
        let length = u32::from_be_bytes([a, b, c, d]) as usize;
        if compressed != 0 || length > LONGEST {
            let message = format!("a message of {length} octets, compression {compressed}");
            return Err(Failure::Stranger(message));
        }
        if self.unread.len() < 5 + length {
            return Ok(None);
        }
        self.unread.advance(5);
        Ok(Some(self.unread.split_to(length).freeze()))
    }

    /// Reads on: octets of messages, or the status, which is no success.
    async fn read(&mut self) -> Result<(), Failure> {
        loop {
            let frame = match self.body.frame().await {
                Some(Ok(frame)) => frame,
                Some(Err(error)) => return Err(Failure::Broken(causes(&error))),
                None => return Err(Failure::Broken("the answer was cut off".to_owned())),
            };
            match frame.into_data() {
                Ok(data) if data.is_empty() => {}
                Ok(data) => {
                    self.unread.put(data);
                    return Ok(());
                }
                Err(frame) => {
                    let trailers = frame.into_trailers().unwrap_or_default();
                    status(&trailers).unwrap_or(Ok(()))?;
                    let message = String::new();
                    return Err(Failure::Status {
                        code: code::OK,
                        message,
                    });
                }
            }
        }
    }
}

/// The status in headers or trailers, if it is there.
fn status(headers: &HeaderMap) -> Option<Result<(), Failure>> {
    let text = |name| {
        let value = headers.get(name)?;
        Some(String::from_utf8_lossy(value.as_bytes()).into_owned())
    };
    let code = text("grpc-status")?.parse().unwrap_or(u32::MAX);
    let message = text("grpc-message").unwrap_or_default();
    Some(match code {
        code::OK => Ok(()),
        code => Err(Failure::Status { code, message }),
    })
}

/// A message behind its length.
fn framed(message: &impl Message) -> Bytes {
    let length = message.encoded_len();
    let mut octets = BytesMut::with_capacity(5 + length);
    octets.put_u8(0);
    octets.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
    octets.put(message.encode_to_vec().as_slice());
    octets.freeze()
}

/// An error with its causes, in one line.
fn causes(error: &(dyn Error + 'static)) -> String {
    let mut words = vec![error.to_string()];
    let mut next = error.source();
    while let Some(cause) = next {
        words.push(cause.to_string());
        next = cause.source();
    }
    words.dedup();
    words.join(": ")
}

/// The question of a call. It ends behind the message, or when nobody reads the answers any more.
#[derive(Debug)]
struct Outgoing {
    message: Option<Bytes>,
    until: Option<oneshot::Receiver<()>>,
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if let Some(message) = self.message.take() {
            return Poll::Ready(Some(Ok(Frame::data(message))));
        }
        if let Some(until) = &mut self.until {
            let _ = ready!(Pin::new(until).poll(context));
            self.until = None;
        }
        Poll::Ready(None)
    }

    fn is_end_stream(&self) -> bool {
        self.message.is_none() && self.until.is_none()
    }
}

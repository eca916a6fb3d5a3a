//! Asks a daemon over its control socket. Each feature has its calls in its own file.

use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::http::request::Builder;
use hyper::{Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;
use tokio::task::JoinHandle;

use super::problem::Problem;
use super::reach::{HEADER, Reach};

/// Why there is no answer. Displays as one line.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nothing listens.
    #[error("no daemon at {}: is it running? (start it with `geodns run`)", .0.display())]
    NoDaemon(PathBuf),
    /// The socket is not ours to use.
    #[error("{}: permission denied: only root and the user that runs the daemon may (try sudo), and members of control.group read", .0.display())]
    Permission(PathBuf),
    /// Something else is wrong with the connection.
    #[error("{}: {error}", socket.display())]
    Connection {
        /// The socket.
        socket: PathBuf,
        /// The error.
        error: String,
    },
    /// The daemon refused the request; its own words.
    #[error("{0}")]
    Refused(String),
}

/// A daemon's control socket.
#[derive(Clone, Debug)]
pub struct Client {
    socket: PathBuf,
    reach: Reach,
}

/// An answer of the daemon.
#[derive(Clone, Debug)]
pub struct Reply {
    /// The body, as it came.
    pub body: Bytes,
    socket: PathBuf,
}

impl Reply {
    /// The body, understood.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, Error> {
        serde_json::from_slice(&self.body).map_err(|error| Error::Connection {
            socket: self.socket.clone(),
            error: format!("not an answer of this version of geodns: {error}"),
        })
    }
}

/// An answer that comes bit by bit.
#[derive(Debug)]
pub struct Chunks {
    body: Incoming,
    connection: JoinHandle<Result<(), hyper::Error>>,
    client: Client,
}

impl Chunks {
    /// The next bit; `None`: that was all.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        loop {
            match self.body.frame().await {
                None => return Ok(None),
                Some(Err(error)) => return Err(self.client.broken(&error)),
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        return Ok(Some(data));
                    }
                }
            }
        }
    }

    /// All that is left.
    async fn all(&mut self) -> Result<Bytes, Error> {
        let mut whole = Vec::new();
        while let Some(chunk) = self.next().await? {
            whole.extend_from_slice(&chunk);
        }
        Ok(whole.into())
    }
}

impl Drop for Chunks {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

/// Media type of JSON.
pub(super) const JSON: &str = "application/json";

/// The body of a request.
type Body = UnsyncBoxBody<Bytes, io::Error>;

/// No body.
pub(super) fn empty() -> Body {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

fn json(value: &impl Serialize) -> Body {
    let body = serde_json::to_vec(value).expect("plain data");
    let body = Full::new(Bytes::from(body)).map_err(|never| match never {});
    body.boxed_unsync()
}

/// A path with a query, if that is not empty.
pub(super) fn query(path: &str, query: &impl Serialize) -> String {
    let query = serde_urlencoded::to_string(query).expect("queries are flat structs");
    if query.is_empty() {
        path.to_owned()
    } else {
        format!("{path}?{query}")
    }
}

impl Client {
    /// For the daemon at a socket; connects with each request.
    pub fn new(socket: &Path) -> Self {
        Self {
            socket: socket.to_owned(),
            reach: Reach::default(),
        }
    }

    /// The same daemon, asked for changes that reach this far.
    pub fn reaching(self, reach: Reach) -> Self {
        Self { reach, ..self }
    }

    pub(super) async fn get(&self, path: &str) -> Result<Reply, Error> {
        self.send(Request::get(path), empty()).await
    }

    pub(super) async fn put(&self, path: &str, body: &impl Serialize) -> Result<Reply, Error> {
        let request = Request::put(path).header(header::CONTENT_TYPE, JSON);
        self.send(request, json(body)).await
    }

    pub(super) async fn post(&self, path: &str, body: &impl Serialize) -> Result<Reply, Error> {
        let request = Request::post(path).header(header::CONTENT_TYPE, JSON);
        self.send(request, json(body)).await
    }

    pub(super) async fn delete(&self, path: &str) -> Result<Reply, Error> {
        self.send(Request::delete(path), empty()).await
    }

    /// Sends a request, and waits for the whole answer.
    pub(super) async fn send(&self, request: Builder, body: Body) -> Result<Reply, Error> {
        let mut chunks = self.begin(request, body).await?;
        Ok(Reply {
            body: chunks.all().await?,
            socket: self.socket.clone(),
        })
    }

    pub(super) async fn stream(&self, path: &str) -> Result<Chunks, Error> {
        self.begin(Request::get(path), empty()).await
    }

    /// One request, and what comes of it.
    async fn begin(&self, request: Builder, body: Body) -> Result<Chunks, Error> {
        let stream = UnixStream::connect(&self.socket)
            .await
            .map_err(|error| self.no_connection(error))?;
        let exchanged = self.exchange(stream, request, body).await;
        let (status, mut chunks) = exchanged.map_err(|error| self.broken(&error))?;
        if status.is_success() {
            return Ok(chunks);
        }
        Err(
            match serde_json::from_slice::<Problem>(&chunks.all().await?) {
                Ok(problem) => Error::Refused(problem.error),
                Err(_) => Error::Connection {
                    socket: self.socket.clone(),
                    error: format!("HTTP status {status}: is that geodns's control socket?"),
                },
            },
        )
    }

    async fn exchange(
        &self,
        stream: UnixStream,
        request: Builder,
        body: Body,
    ) -> Result<(StatusCode, Chunks), hyper::Error> {
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let connection = tokio::spawn(connection);
        let request = request
            .header(header::HOST, "geodns")
            .header(HEADER, self.reach.word())
            .body(body)
            .expect("paths and headers are our own");
        let response = sender.send_request(request).await?;
        let status = response.status();
        let chunks = Chunks {
            body: response.into_body(),
            connection,
            client: self.clone(),
        };
        Ok((status, chunks))
    }

    fn no_connection(&self, error: io::Error) -> Error {
        let socket = self.socket.clone();
        match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => Error::NoDaemon(socket),
            io::ErrorKind::PermissionDenied => Error::Permission(socket),
            _ => Error::Connection {
                socket,
                error: error.to_string(),
            },
        }
    }

    fn broken(&self, error: &hyper::Error) -> Error {
        // hyper says "error from user's Body stream" of a list that cannot be read.
        let cause = std::error::Error::source(error);
        let what = if error.is_user() {
            "cannot read the list"
        } else {
            "the daemon hung up"
        };
        Error::Connection {
            socket: self.socket.clone(),
            error: match cause {
                Some(cause) => format!("{what}: {cause}"),
                None => format!("{what}: {error}"),
            },
        }
    }
}

//! Asks a daemon over its control socket.

use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use futures_util::stream;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::client::conn::http1;
use hyper::http::request::Builder;
use hyper::{Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::net::UnixStream;
use tokio::task::JoinHandle;

use super::api::{
    AcmeClear, AcmeSet, BlockAdd, BlockRemove, CaptureQuery, ExplainQuery, ImportQuery,
    LookupQuery, MapDel, MapSet, OfAddress, OfPool, OfZone, Problem, Proposal, SetAdmin, SetHealth,
    SetWeight,
};
use crate::config::is_id;

/// Octets read from an imported file at a time.
const CHUNK: usize = 256 << 10;

/// Why there is no answer. Displays as one line.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nothing listens.
    #[error("no daemon at {}: is it running? (start it with `geodns run`)", .0.display())]
    NoDaemon(PathBuf),
    /// The socket is not ours to use.
    #[error("{}: permission denied: only root and the user that runs the daemon may (try sudo)", .0.display())]
    Permission(PathBuf),
    /// Something else is wrong with the connection.
    #[error("{}: {error}", socket.display())]
    Connection {
        /// The socket.
        socket: PathBuf,
        /// What is wrong.
        error: String,
    },
    /// What the daemon said is wrong.
    #[error("{0}")]
    Refused(String),
}

/// A daemon's control socket.
#[derive(Clone, Debug)]
pub struct Client {
    socket: PathBuf,
}

/// What the daemon answered.
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

/// What comes bit by bit.
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

/// How far an upload is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Octets sent.
    Sent(u64),
    /// All of them are; the daemon works.
    Waiting,
}

const JSON: &str = "application/json";

type Body = UnsyncBoxBody<Bytes, io::Error>;

fn empty() -> Body {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

fn json(value: &impl Serialize) -> Body {
    let body = serde_json::to_vec(value).expect("plain data");
    let body = Full::new(Bytes::from(body)).map_err(|never| match never {});
    body.boxed_unsync()
}

fn put(path: &str, content: &str) -> Builder {
    Request::put(path).header(header::CONTENT_TYPE, content)
}

/// Path of a mirror, or of what is below it. An id has no characters that mean something in a path.
fn mirror(id: &str, below: &str) -> Result<String, Error> {
    if is_id(id) {
        return Ok(format!("/v1/mirrors/{id}{below}"));
    }
    Err(Error::Refused(format!("{id:?} is not a mirror's id")))
}

fn query(path: &str, query: &impl Serialize) -> String {
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
        }
    }

    /// `GET /v1/status`
    pub async fn status(&self) -> Result<Reply, Error> {
        self.get("/v1/status").await
    }

    /// `GET /v1/stats`
    pub async fn stats(&self) -> Result<Reply, Error> {
        self.get("/v1/stats").await
    }

    /// `GET /v1/mirrors`
    pub async fn mirrors(&self) -> Result<Reply, Error> {
        self.get("/v1/mirrors").await
    }

    /// `GET /v1/mirrors/{id}`
    pub async fn mirror(&self, id: &str) -> Result<Reply, Error> {
        self.get(&mirror(id, "")?).await
    }

    /// `PUT /v1/mirrors/{id}/admin`
    pub async fn mirror_admin(&self, id: &str, change: &SetAdmin) -> Result<Reply, Error> {
        let request = put(&mirror(id, "/admin")?, JSON);
        self.send(request, json(change)).await
    }

    /// `PUT /v1/mirrors/{id}/weight`
    pub async fn mirror_weight(&self, id: &str, change: &SetWeight) -> Result<Reply, Error> {
        let request = put(&mirror(id, "/weight")?, JSON);
        self.send(request, json(change)).await
    }

    /// `DELETE /v1/mirrors/{id}/weight`
    pub async fn mirror_weight_reset(&self, id: &str) -> Result<Reply, Error> {
        let request = Request::delete(mirror(id, "/weight")?);
        self.send(request, empty()).await
    }

    /// `PUT /v1/mirrors/{id}/health`
    pub async fn mirror_health(&self, id: &str, change: &SetHealth) -> Result<Reply, Error> {
        let request = put(&mirror(id, "/health")?, JSON);
        self.send(request, json(change)).await
    }

    /// `DELETE /v1/mirrors/{id}/health`
    pub async fn mirror_health_clear(&self, id: &str, of: &OfAddress) -> Result<Reply, Error> {
        let request = Request::delete(query(&mirror(id, "/health")?, of));
        self.send(request, empty()).await
    }

    /// `GET /v1/zones`
    pub async fn zones(&self) -> Result<Reply, Error> {
        self.get("/v1/zones").await
    }

    /// `GET /v1/acme`
    pub async fn acme_list(&self) -> Result<Reply, Error> {
        self.get("/v1/acme").await
    }

    /// `PUT /v1/acme`
    pub async fn acme_set(&self, set: &AcmeSet) -> Result<Reply, Error> {
        self.send(put("/v1/acme", JSON), json(set)).await
    }

    /// `DELETE /v1/acme`
    pub async fn acme_clear(&self, clear: &AcmeClear) -> Result<Reply, Error> {
        let request = Request::delete(query("/v1/acme", clear));
        self.send(request, empty()).await
    }

    /// `GET /v1/top`
    pub async fn top(&self) -> Result<Chunks, Error> {
        self.stream("/v1/top").await
    }

    /// `GET /v1/capture`
    pub async fn capture(&self, of: &CaptureQuery) -> Result<Chunks, Error> {
        self.stream(&query("/v1/capture", of)).await
    }

    /// `GET /v1/blocks`
    pub async fn block_list(&self) -> Result<Reply, Error> {
        self.get("/v1/blocks").await
    }

    /// `PUT /v1/blocks`
    pub async fn block_add(&self, add: &BlockAdd) -> Result<Reply, Error> {
        self.send(put("/v1/blocks", JSON), json(add)).await
    }

    /// `DELETE /v1/blocks`
    pub async fn block_remove(&self, remove: &BlockRemove) -> Result<Reply, Error> {
        let request = Request::delete(query("/v1/blocks", remove));
        self.send(request, empty()).await
    }

    /// `GET /v1/map`
    pub async fn map_list(&self, of: &OfPool) -> Result<Reply, Error> {
        self.get(&query("/v1/map", of)).await
    }

    /// `PUT /v1/map`
    pub async fn map_set(&self, change: &MapSet) -> Result<Reply, Error> {
        self.send(put("/v1/map", JSON), json(change)).await
    }

    /// `DELETE /v1/map`
    pub async fn map_del(&self, change: &MapDel) -> Result<Reply, Error> {
        let request = Request::delete(query("/v1/map", change));
        self.send(request, empty()).await
    }

    /// `GET /v1/map/lookup`
    pub async fn map_get(&self, lookup: &LookupQuery) -> Result<Reply, Error> {
        self.get(&query("/v1/map/lookup", lookup)).await
    }

    /// `GET /v1/map/export`, as CSV or JSON.
    pub async fn map_export(&self, of: &OfPool, json: bool) -> Result<Reply, Error> {
        let accept = if json { JSON } else { "text/csv" };
        let request = Request::get(query("/v1/map/export", of)).header(header::ACCEPT, accept);
        self.send(request, empty()).await
    }

    /// `PUT /v1/map/import`: streams `list`, telling `progress`.
    pub async fn map_import(
        &self,
        list: impl AsyncRead + Send + Unpin + 'static,
        import: &ImportQuery,
        progress: impl FnMut(Progress) + Send + 'static,
    ) -> Result<Reply, Error> {
        let body = StreamBody::new(stream::try_unfold(
            (list, progress, 0),
            |(mut list, mut progress, sent)| async move {
                let mut chunk = Vec::with_capacity(CHUNK);
                let read = list.read_buf(&mut chunk).await?;
                if read == 0 {
                    progress(Progress::Waiting);
                    return Ok(None);
                }
                let sent = sent + read as u64;
                progress(Progress::Sent(sent));
                let frame = Frame::data(Bytes::from(chunk));
                Ok(Some((frame, (list, progress, sent))))
            },
        ));
        let request = put(&query("/v1/map/import", import), "text/csv");
        self.send(request, BodyExt::boxed_unsync(body)).await
    }

    /// `GET /v1/explain`
    pub async fn explain(&self, question: &ExplainQuery) -> Result<Reply, Error> {
        self.get(&query("/v1/explain", question)).await
    }

    /// `POST /v1/preview`
    pub async fn preview(&self, proposal: &Proposal) -> Result<Reply, Error> {
        let request = Request::post("/v1/preview").header(header::CONTENT_TYPE, JSON);
        self.send(request, json(proposal)).await
    }

    /// `POST /v1/reload`
    pub async fn reload(&self, of: &OfZone) -> Result<Reply, Error> {
        self.send(Request::post(query("/v1/reload", of)), empty())
            .await
    }

    async fn get(&self, path: &str) -> Result<Reply, Error> {
        self.send(Request::get(path), empty()).await
    }

    async fn send(&self, request: Builder, body: Body) -> Result<Reply, Error> {
        let mut chunks = self.begin(request, body).await?;
        Ok(Reply {
            body: chunks.all().await?,
            socket: self.socket.clone(),
        })
    }

    async fn stream(&self, path: &str) -> Result<Chunks, Error> {
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

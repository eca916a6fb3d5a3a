//! A GET request over HTTP/1.1 (RFC 9112), on a connection of its own, in TLS or not.
//!
//! A redirect is not followed: its status is judged as any other, and so a loop of them cannot hang. At most 16 KiB of
//! headers and 64 KiB of body are read. The body is read only if something must be in it.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::body::{Body, Incoming};
use hyper::client::conn::http1;
use hyper::{Request, Response, header};
use hyper_util::rt::TokioIo;
use memchr::memmem;
use tokio::io::{AsyncRead, AsyncWrite};

use super::tls::{Roots, Tls};
use super::{Bad, Stage, connect};
use crate::config::{self, Fresh, HttpCheck, TraceFormat};
use crate::health::{target, trace};

/// The most octets of headers that are read.
const MAX_HEADERS: usize = 16 * 1024;
/// The most octets of a body that are read.
const MAX_BODY: usize = 64 * 1024;
/// The most octets of a trace that are read: its first line is enough.
const MAX_TRACE: usize = 1024;
/// As a server's log shows us.
const USER_AGENT: &str = concat!("geodns/", env!("CARGO_PKG_VERSION"), " (health check)");

/// A request, and which answers are good.
pub struct Http {
    check: HttpCheck,
    socket: SocketAddr,
    /// The `Host` header (RFC 9110 section 7.2).
    host: String,
    tls: Option<Tls>,
}

impl Http {
    pub fn new(check: &HttpCheck, socket: SocketAddr, roots: Arc<Roots>) -> Self {
        let tls = match check.tls {
            config::Tls::Off => None,
            config::Tls::Verified => Some(Tls::verified(check.host.as_deref(), socket, roots)),
            config::Tls::Unverified => Some(Tls::unverified(check.host.as_deref(), socket)),
        };
        Self {
            host: host(check, socket),
            check: check.clone(),
            socket,
            tls,
        }
    }

    /// The trace that must not be too old.
    pub fn fresh(&self) -> Option<&Fresh> {
        self.check.fresh.as_ref()
    }

    pub async fn run(&self, stage: &Stage) -> Result<(), Bad> {
        let judge = async |response| self.judge(response, stage).await;
        self.request(&self.check.path, stage, judge).await
    }

    /// Reads the time that a trace names.
    pub async fn trace(&self, fresh: &Fresh, stage: &Stage) -> Result<SystemTime, Bad> {
        let read = async |response| read_trace(response, fresh.format, stage).await;
        self.request(&fresh.path, stage, read).await
    }

    /// One request on a connection of its own.
    async fn request<T>(
        &self,
        path: &str,
        stage: &Stage,
        judge: impl AsyncFnOnce(Response<Incoming>) -> Result<T, Bad>,
    ) -> Result<T, Bad> {
        let stream = connect(self.socket).await?;
        let Some(tls) = &self.tls else {
            return self.ask(stream, path, stage, judge).await;
        };
        stage.set(Stage::TLS);
        let stream = tls.connect(stream).await?;
        self.ask(stream, path, stage, judge).await
    }

    /// One request and its answer.
    async fn ask<T>(
        &self,
        stream: impl AsyncRead + AsyncWrite + Send + Unpin,
        path: &str,
        stage: &Stage,
        judge: impl AsyncFnOnce(Response<Incoming>) -> Result<T, Bad>,
    ) -> Result<T, Bad> {
        stage.set(Stage::ANSWER);
        let request = Request::get(path)
            .header(header::HOST, &self.host)
            .header(header::USER_AGENT, USER_AGENT)
            .header(header::ACCEPT, "*/*")
            .header(header::CONNECTION, "close")
            .body(Empty::<Bytes>::new())
            .map_err(|error| Bad::impossible(format!("request: {error}")))?;
        let (mut sender, connection) = http1::Builder::new()
            .max_buf_size(MAX_HEADERS)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|error| explain(&error))?;
        let mut answer = pin!(async {
            let response = sender.send_request(request).await;
            judge(response.map_err(|error| explain(&error))?).await
        });
        let mut connection = Box::pin(connection);
        tokio::select! {
            biased;
            done = &mut answer => return done,
            // What went wrong, if anything did, the answer is told.
            _ = &mut connection => {}
        }
        // Lets go of the answer.
        drop(connection);
        answer.await
    }

    async fn judge(&self, response: Response<Incoming>, stage: &Stage) -> Result<(), Bad> {
        let code = response.status().as_u16();
        if !self.check.status.iter().any(|status| status.contains(code)) {
            let expected = target::list(&self.check.status);
            return Err(Bad::failed(format!("status {code}, expected {expected}")));
        }
        let Some(text) = &self.check.body else {
            return Ok(());
        };
        stage.set(Stage::BODY);
        contains(response.into_body(), text).await
    }
}

/// The time that a trace names.
async fn read_trace(
    response: Response<Incoming>,
    format: TraceFormat,
    stage: &Stage,
) -> Result<SystemTime, Bad> {
    let status = response.status();
    if !status.is_success() {
        return Err(Bad::failed(format!("status {}", status.as_u16())));
    }
    let header = response.headers().get(header::LAST_MODIFIED);
    let last_modified = header.and_then(|value| Some(value.to_str().ok()?.to_owned()));
    let mut read: Vec<u8> = Vec::new();
    if format != TraceFormat::LastModified {
        stage.set(Stage::BODY);
        let mut body = response.into_body();
        while read.len() < MAX_TRACE && !read.contains(&b'\n') {
            let Some(frame) = body.frame().await else {
                break;
            };
            let frame = frame.map_err(|error| explain(&error))?;
            if let Some(data) = frame.data_ref() {
                read.extend_from_slice(&data[..data.len().min(MAX_TRACE - read.len())]);
            }
        }
    }
    trace::parse(format, last_modified.as_deref(), &read).map_err(Bad::failed)
}

/// Whether a text is in the first 64 KiB of a body.
async fn contains(mut body: Incoming, text: &str) -> Result<(), Bad> {
    let finder = memmem::Finder::new(text);
    let mut read: Vec<u8> = Vec::new();
    while !body.is_end_stream() && read.len() < MAX_BODY {
        let Some(frame) = body.frame().await else {
            break;
        };
        let frame = frame.map_err(|error| explain(&error))?;
        let Some(data) = frame.data_ref() else {
            continue;
        };
        // It may stand across what came before and what comes now.
        let from = read.len().saturating_sub(text.len().saturating_sub(1));
        read.extend_from_slice(&data[..data.len().min(MAX_BODY - read.len())]);
        if finder.find(&read[from..]).is_some() {
            return Ok(());
        }
    }
    let whole = if read.len() < MAX_BODY { "" } else { "first " };
    Err(Bad::failed(format!(
        "body: no {text:?} in its {whole}{} octets",
        read.len()
    )))
}

/// Host and, if it is not the scheme's own, port.
fn host(check: &HttpCheck, socket: SocketAddr) -> String {
    let name = match &check.host {
        Some(name) => name.parse().map_or_else(|_| name.clone(), literal),
        None => literal(socket.ip()),
    };
    match (check.tls, check.port) {
        (config::Tls::Off, 80) => name,
        (config::Tls::Verified | config::Tls::Unverified, 443) => name,
        (_, port) => format!("{name}:{port}"),
    }
}

/// An address as it stands in a URL (RFC 3986 section 3.2.2).
fn literal(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("[{address}]"),
    }
}

/// hyper's error, in one line.
fn explain(error: &hyper::Error) -> Bad {
    use std::error::Error;
    if error.is_parse_too_large() {
        return Bad::failed("headers: more than 16 KiB, or more than 100");
    }
    if error.is_parse() {
        return Bad::failed(format!("not HTTP/1.1: {error}"));
    }
    let cause = error.source();
    // A request that was taken back says why in its cause.
    if let Some(inner) = cause.and_then(|cause| cause.downcast_ref::<hyper::Error>()) {
        return explain(inner);
    }
    let io = cause.and_then(|cause| cause.downcast_ref::<io::Error>());
    let early = io.is_some_and(|io| io.kind() == io::ErrorKind::UnexpectedEof);
    if error.is_incomplete_message() || early {
        return Bad::failed("closed before the answer was complete");
    }
    if let Some(io) = io {
        return match super::tls::explain(io) {
            Some(bad) => bad,
            None => Bad::io("answer", io),
        };
    }
    match cause {
        Some(cause) => Bad::failed(format!("answer: {cause}")),
        None => Bad::failed(format!("answer: {error}")),
    }
}

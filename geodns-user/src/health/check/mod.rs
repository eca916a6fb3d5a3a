//! One check of each kind. Whatever the other side does, a check ends in time and takes little
//! memory; and a fault on this side is never held against a mirror.
//!
//! - here: a TCP connection
//! - `http`: a GET request, over TLS (`tls`) or not
//! - `icmp`: an echo
//! - `exec`: a program of the operator's

mod exec;
mod http;
mod icmp;
mod tls;

pub use tls::{Roots, Tls};

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant, SystemTime};

use nix::errno::Errno;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::target::Target;
use super::trace::Traces;
use crate::config::CheckKind;

/// Result of a check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All is well.
    Passed,
    /// Something is wrong: the reason in one line.
    Failed(String),
    /// The check could not be made: the reason in one line. It is this side's fault, says nothing about the other, and
    /// so does not count.
    Impossible(String),
}

/// A reason why a check did not pass.
#[derive(Debug)]
pub enum Bad {
    /// Something is wrong.
    Failed(String),
    /// The check could not be made.
    Impossible(String),
}

impl std::fmt::Display for Bad {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (Self::Failed(reason) | Self::Impossible(reason)) = self;
        f.write_str(reason)
    }
}

impl Bad {
    fn failed(reason: impl Into<String>) -> Self {
        Self::Failed(reason.into())
    }

    fn impossible(reason: impl Into<String>) -> Self {
        Self::Impossible(reason.into())
    }

    /// A system call's error, and what it was for.
    fn io(what: &str, error: &io::Error) -> Self {
        let text = format!("{what}: {}", plain(error));
        // Out of files, memory or ports, or dropped by this machine's own firewall. Not EACCES: that
        // is what a firewall on the way says over IPv6 (RFC 4443 section 3.1, code 1).
        match error.raw_os_error().map(Errno::from_raw) {
            Some(
                Errno::EMFILE
                | Errno::ENFILE
                | Errno::ENOBUFS
                | Errno::ENOMEM
                | Errno::EAGAIN
                | Errno::EADDRNOTAVAIL
                | Errno::EPERM,
            ) => Self::Impossible(text),
            _ => Self::Failed(text),
        }
    }
}

/// An error in plain words, without its number.
fn plain(error: &io::Error) -> String {
    let text = match error.raw_os_error() {
        Some(code) => Errno::from_raw(code).desc().to_owned(),
        None => error.to_string(),
    };
    let mut letters = text.chars();
    match letters.next() {
        // "No route to host", but "TLS" stays.
        Some(first) if !letters.as_str().starts_with(char::is_uppercase) => {
            first.to_lowercase().chain(letters).collect()
        }
        _ => text,
    }
}

/// How far a check is, for what is said when its time is up.
struct Stage(AtomicU8);

impl Stage {
    const CONNECT: u8 = 0;
    const TLS: u8 = 1;
    const ANSWER: u8 = 2;
    const BODY: u8 = 3;
    const PROGRAM: u8 = 4;

    fn set(&self, stage: u8) {
        self.0.store(stage, Ordering::Relaxed);
    }

    fn out_of_time(&self, limit: Duration) -> String {
        match self.0.load(Ordering::Relaxed) {
            Self::CONNECT => format!("connect: no answer in {limit:?}"),
            Self::TLS => format!("TLS: no answer in {limit:?}"),
            Self::BODY => format!("body: not all there in {limit:?}"),
            Self::PROGRAM => format!("still running after {limit:?}, killed"),
            _ => format!("no answer in {limit:?}"),
        }
    }
}

/// Parts that the checks of all targets share.
#[derive(Default)]
pub(super) struct Shared {
    icmp: Arc<icmp::Icmp>,
    roots: Arc<tls::Roots>,
    /// Latest traces, by [`Target::key`].
    pub traces: Arc<Traces>,
}

impl Shared {
    /// Keeps the sockets and the traces, and has the system's root certificates read again.
    pub fn renewed(&self) -> Self {
        Self {
            icmp: self.icmp.clone(),
            roots: Arc::default(),
            traces: self.traces.clone(),
        }
    }
}

/// A target's check, made ready once to be run many times.
pub(super) struct Probe {
    kind: Kind,
    timeout: Duration,
    /// [`Target::key`], and the traces.
    key: String,
    traces: Arc<Traces>,
}

enum Kind {
    Http(Box<http::Http>),
    Tcp(SocketAddr),
    Icmp(std::net::IpAddr, Arc<icmp::Icmp>),
    Exec(Vec<String>),
}

impl Probe {
    pub fn new(target: &Target, shared: &Shared) -> Self {
        let kind = match &target.check.kind {
            CheckKind::Http(http) => {
                let socket = target.socket(http.port);
                Kind::Http(Box::new(http::Http::new(
                    http,
                    socket,
                    shared.roots.clone(),
                )))
            }
            CheckKind::Tcp { port } => Kind::Tcp(target.socket(*port)),
            CheckKind::Icmp => Kind::Icmp(target.address, shared.icmp.clone()),
            CheckKind::Exec { command } => Kind::Exec(exec::filled(command, target.address)),
        };
        let timeout = target.check.timeout;
        Self {
            kind,
            timeout,
            key: target.key(),
            traces: shared.traces.clone(),
        }
    }

    /// Makes one check, which is over within the timeout.
    pub async fn run(&self) -> Outcome {
        let begun = Instant::now();
        let stage = Stage(AtomicU8::new(Stage::CONNECT));
        match timeout(self.timeout, self.kind.run(&stage)).await {
            Ok(Ok(())) => self.trace(begun).await,
            Ok(Err(Bad::Failed(reason))) => Outcome::Failed(reason),
            Ok(Err(Bad::Impossible(reason))) => Outcome::Impossible(reason),
            Err(_) => Outcome::Failed(stage.out_of_time(self.timeout)),
        }
    }

    /// Reads the trace of a mirror that works, if there is one to read, in the time that is left.
    async fn trace(&self, begun: Instant) -> Outcome {
        let Kind::Http(http) = &self.kind else {
            return Outcome::Passed;
        };
        let Some(fresh) = http.fresh() else {
            return Outcome::Passed;
        };
        let left = self.timeout.saturating_sub(begun.elapsed());
        let stage = Stage(AtomicU8::new(Stage::CONNECT));
        let read = match timeout(left, http.trace(fresh, &stage)).await {
            Ok(Ok(named)) => Ok(named),
            Ok(Err(Bad::Failed(reason))) => Err(reason),
            Ok(Err(Bad::Impossible(reason))) => return Outcome::Impossible(reason),
            Err(_) => Err(stage.out_of_time(left)),
        };
        let now = (Instant::now(), SystemTime::now());
        match self.traces.judge(&self.key, fresh, read, now) {
            Ok(()) => Outcome::Passed,
            Err(reason) => Outcome::Failed(reason),
        }
    }
}

impl Kind {
    async fn run(&self, stage: &Stage) -> Result<(), Bad> {
        match self {
            Self::Http(http) => http.run(stage).await,
            Self::Tcp(socket) => connect(*socket).await.map(drop),
            Self::Icmp(address, icmp) => {
                stage.set(Stage::ANSWER);
                icmp.echo(*address).await
            }
            Self::Exec(command) => {
                stage.set(Stage::PROGRAM);
                exec::run(command).await
            }
        }
    }
}

async fn connect(socket: SocketAddr) -> Result<TcpStream, Bad> {
    TcpStream::connect(socket)
        .await
        .map_err(|error| Bad::io("connect", &error))
}

#[cfg(test)]
pub(super) use icmp::permitted as icmp_permitted;

#[cfg(test)]
mod tests;

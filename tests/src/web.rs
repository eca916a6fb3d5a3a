//! Web servers of mirrors: good ones, and such as break in every way a check may meet.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio_rustls::rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::net::Space;

/// Text in the body of a good answer.
pub const GOOD: &str = "all is well";
/// The longest that a connection is kept busy.
const BUSY: Duration = Duration::from_secs(1);

/// How a server answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// 200, and [`GOOD`].
    Good,
    /// 500.
    Error,
    /// 200, and another text.
    Wrong,
    /// Octets that are no HTTP.
    Garbage,
    /// 200, and a body that goes on.
    Endless,
    /// 200, and header lines that go on.
    Drip,
    /// 302 to itself.
    Redirect,
    /// Good, but a second late.
    Slow,
    /// The connection is closed unanswered.
    HangUp,
    /// The connection is kept, and not a word is said.
    Silent,
    /// 200, and a trace: seconds since 1970.
    Trace(u64),
}

impl Manner {
    /// All that are not good.
    pub const BROKEN: [Self; 9] = [
        Self::Error,
        Self::Wrong,
        Self::Garbage,
        Self::Endless,
        Self::Drip,
        Self::Redirect,
        Self::Slow,
        Self::HangUp,
        Self::Silent,
    ];

    /// Words of which one at least is in the reason that a check for [`GOOD`] gives: which of them, may
    /// depend on who is faster.
    pub fn reasons(self) -> &'static [&'static str] {
        match self {
            Self::Good | Self::Trace(_) => &[],
            Self::Error => &["status 500"],
            Self::Wrong => &["body: no \"all is well\""],
            Self::Garbage => &["not HTTP"],
            Self::Endless => &["first 65536 octets", "body: not all there"],
            Self::Drip => &["headers: more than 16 KiB", "no answer in"],
            Self::Redirect => &["status 302"],
            Self::Slow | Self::Silent => &["no answer in"],
            Self::HangUp => &["closed before the answer", "reset"],
        }
    }
}

/// A server on one address, over TLS or not; dropping it closes its port.
#[derive(Debug)]
pub struct Web {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    manner: Mutex<Manner>,
    asked: AtomicU64,
    stop: AtomicBool,
}

impl Web {
    /// Listens in a namespace.
    pub fn start(space: &Space, at: SocketAddr) -> Result<Self> {
        Self::start_with(space, at, None)
    }

    /// The same over TLS: see [`Authority::serve`](crate::authority::Authority::serve).
    pub fn start_tls(space: &Space, at: SocketAddr, tls: Arc<ServerConfig>) -> Result<Self> {
        Self::start_with(space, at, Some(tls))
    }

    fn start_with(space: &Space, at: SocketAddr, tls: Option<Arc<ServerConfig>>) -> Result<Self> {
        let listener = space
            .enter(|| TcpListener::bind(at).with_context(|| format!("cannot listen on {at}")))?;
        listener.set_nonblocking(true)?;
        let shared = Arc::new(Shared {
            manner: Mutex::new(Manner::Good),
            asked: AtomicU64::new(0),
            stop: AtomicBool::new(false),
        });
        let of = Arc::clone(&shared);
        Ok(Self {
            shared,
            thread: Some(std::thread::spawn(move || {
                serve(&listener, tls.as_ref(), &of)
            })),
        })
    }

    /// From now on it answers so.
    pub fn set(&self, manner: Manner) {
        *self.shared.manner.lock().expect("not poisoned") = manner;
    }

    /// How often it was asked.
    pub fn asked(&self) -> u64 {
        self.shared.asked.load(Ordering::Relaxed)
    }
}

impl Drop for Web {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn serve(listener: &TcpListener, tls: Option<&Arc<ServerConfig>>, shared: &Arc<Shared>) {
    while !shared.stop.load(Ordering::Relaxed) {
        let Ok((stream, _)) = listener.accept() else {
            std::thread::sleep(Duration::from_millis(3));
            continue;
        };
        shared.asked.fetch_add(1, Ordering::Relaxed);
        let manner = *shared.manner.lock().expect("not poisoned");
        let shared = Arc::clone(shared);
        let tls = tls.cloned();
        // Whether the client stays for the whole of it is the client's business.
        std::thread::spawn(move || meet(stream, tls, manner, &shared.stop));
    }
}

fn meet(
    stream: TcpStream,
    tls: Option<Arc<ServerConfig>>,
    manner: Manner,
    stop: &AtomicBool,
) -> std::io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(BUSY))?;
    stream.set_write_timeout(Some(BUSY))?;
    match manner {
        Manner::HangUp => return Ok(()),
        Manner::Silent => {
            std::thread::sleep(BUSY);
            return Ok(());
        }
        _ => {}
    }
    match tls {
        None => answer(stream, manner, stop),
        Some(tls) => {
            let session = ServerConnection::new(tls).map_err(std::io::Error::other)?;
            answer(StreamOwned::new(session, stream), manner, stop)
        }
    }
}

fn answer(mut stream: impl Read + Write, manner: Manner, stop: &AtomicBool) -> std::io::Result<()> {
    let mut head = Vec::new();
    let mut octets = [0; 1024];
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        match stream.read(&mut octets)? {
            0 => return Ok(()),
            read => head.extend_from_slice(&octets[..read]),
        }
    }
    let with = |status: &str, more: &str, body: &str| {
        let length = body.len();
        format!(
            "HTTP/1.1 {status}\r\nContent-Length: {length}\r\n{more}Connection: close\r\n\r\n{body}"
        )
    };
    let (first, again) = match manner {
        Manner::Good => (with("200 OK", "", GOOD), ""),
        Manner::Trace(seconds) => (with("200 OK", "", &format!("{seconds}\n")), ""),
        Manner::Error => (with("500 Internal Server Error", "", GOOD), ""),
        Manner::Wrong => (with("200 OK", "", "it works!"), ""),
        Manner::Garbage => ("\u{1}\u{0}not HTTP at all\r\n\r\n".repeat(20), ""),
        Manner::Endless => (
            "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n".to_owned(),
            "and so on, ",
        ),
        Manner::Drip => ("HTTP/1.1 200 OK\r\n".to_owned(), "X-More: and more\r\n"),
        Manner::Redirect => (with("302 Found", "Location: /\r\n", GOOD), ""),
        Manner::Slow => {
            std::thread::sleep(BUSY);
            (with("200 OK", "", GOOD), "")
        }
        Manner::HangUp | Manner::Silent => return Ok(()),
    };
    stream.write_all(first.as_bytes())?;
    stream.flush()?;
    let again = again.repeat(100);
    let end = std::time::Instant::now() + BUSY;
    while !again.is_empty() && !stop.load(Ordering::Relaxed) && std::time::Instant::now() < end {
        stream.write_all(again.as_bytes())?;
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

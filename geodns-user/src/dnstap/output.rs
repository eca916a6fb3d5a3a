//! Writes to a socket or a file.
//!
//! Whatever is wrong with it is said once, and tried again: DNS does not wait for it.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::fs::{self, File, OpenOptions};
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;
use tokio::sync::mpsc::Receiver;
use tokio::time::{Instant, timeout, timeout_at};

use super::message::messages;
use super::{Counts, Exchange, streams};
use crate::config::TapTo;

/// Octets that are written at once, or little more.
const AT_ONCE: usize = 64 << 10;
/// The longest time that an exchange waits for others to be written with.
const GATHER: Duration = Duration::from_millis(200);
/// The time that a write may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// The first pause after an error, and the longest.
const PAUSES: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(30)];
/// Exchanges that are taken at once.
const BATCH: usize = 256;

/// The version that readers see.
const VERSION: &str = concat!("geodns ", env!("CARGO_PKG_VERSION"));

/// An open output.
enum Output {
    Socket(UnixStream),
    File(Box<Rotated>),
}

/// A file, which is another one when it is full.
struct Rotated {
    file: File,
    path: PathBuf,
    octets: u64,
    most: u64,
}

impl Output {
    async fn open(to: &TapTo) -> io::Result<Self> {
        match to {
            TapTo::Socket(path) => {
                let connect = async {
                    let mut socket = UnixStream::connect(path).await?;
                    streams::open(&mut socket).await?;
                    Ok(Self::Socket(socket))
                };
                timeout(PATIENCE, connect).await?
            }
            TapTo::File { path, max_size } => {
                let file = Rotated::open(path, *max_size).await?;
                Ok(Self::File(Box::new(file)))
            }
        }
    }

    async fn write(&mut self, frames: &[u8]) -> io::Result<()> {
        match self {
            Self::Socket(socket) => timeout(PATIENCE, socket.write_all(frames)).await?,
            Self::File(file) => file.write(frames).await,
        }
    }

    async fn close(self) -> io::Result<()> {
        match self {
            Self::Socket(mut socket) => timeout(PATIENCE, streams::close(&mut socket)).await?,
            Self::File(mut file) => file.close().await,
        }
    }
}

impl Rotated {
    /// Begins a file. The one that was there gets another name.
    async fn open(path: &Path, most: u64) -> io::Result<Self> {
        match fs::symlink_metadata(path).await {
            Ok(there) if !there.is_file() => {
                return Err(io::Error::other("it is there and no regular file"));
            }
            Ok(there) if there.len() > 0 => fs::rename(path, older(path)).await?,
            Ok(_) => fs::remove_file(path).await?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        let mut options = OpenOptions::new();
        let mut file = options
            .write(true)
            .create_new(true)
            .mode(0o640)
            .open(path)
            .await?;
        file.write_all(&streams::start()).await?;
        file.flush().await?;
        Ok(Self {
            file,
            path: path.to_owned(),
            octets: 0,
            most,
        })
    }

    async fn write(&mut self, frames: &[u8]) -> io::Result<()> {
        if self.octets > 0 && self.octets + frames.len() as u64 > self.most {
            self.close().await?;
            *self = Self::open(&self.path, self.most).await?;
        }
        self.octets += frames.len() as u64;
        self.file.write_all(frames).await?;
        self.file.flush().await
    }

    async fn close(&mut self) -> io::Result<()> {
        self.file.write_all(&streams::stop()).await?;
        self.file.flush().await
    }
}

/// The name that a full file gets.
fn older(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".1");
    name.into()
}

/// Writes exchanges until there can be no more.
pub(super) async fn write(
    to: TapTo,
    identity: Vec<u8>,
    mut exchanges: Receiver<Exchange>,
    counts: Arc<Counts>,
) {
    let mut output: Option<Output> = None;
    let mut failing: Option<String> = None;
    let mut pause = PAUSES[0];
    let mut again = Instant::now();
    let mut taken = Vec::with_capacity(BATCH);
    let mut frames = Vec::new();
    loop {
        // A reader may wait for us before anybody asks.
        if output.is_none() && Instant::now() >= again {
            match Output::open(&to).await {
                Ok(opened) => {
                    tracing::info!("dnstap goes to {to}");
                    (output, failing, pause) = (Some(opened), None, PAUSES[0]);
                }
                Err(error) => fail(&to, &error, &mut failing, &mut pause, &mut again),
            }
        }
        let received = match output {
            Some(_) => exchanges.recv_many(&mut taken, BATCH).await,
            None => match timeout_at(again, exchanges.recv_many(&mut taken, BATCH)).await {
                Ok(received) => received,
                Err(_) => continue,
            },
        };
        if received == 0 {
            break;
        }
        if output.is_some() {
            gather(&mut exchanges, &mut taken).await;
        }
        let mut count = 0;
        for exchange in taken.drain(..) {
            counts
                .waiting
                .fetch_sub(exchange.octets(), Ordering::Relaxed);
            count += 1;
            if output.is_some() {
                for message in messages(exchange, &identity, VERSION.as_bytes()) {
                    streams::put(&message, &mut frames);
                }
            }
        }
        let written = match &mut output {
            Some(output) => output.write(&frames).await,
            None => Err(io::ErrorKind::NotConnected.into()),
        };
        frames.clear();
        frames.shrink_to(AT_ONCE);
        match written {
            Ok(()) => counts.written.fetch_add(count, Ordering::Relaxed),
            Err(error) => {
                if output.take().is_some() {
                    fail(&to, &error, &mut failing, &mut pause, &mut again);
                }
                counts.lost.fetch_add(count, Ordering::Relaxed)
            }
        };
    }
    if let Some(output) = output
        && let Err(error) = output.close().await
    {
        tracing::debug!(%error, "closing dnstap to {to}");
    }
}

/// Waits a moment for others: many small writes cost the reader more than us.
async fn gather(exchanges: &mut Receiver<Exchange>, taken: &mut Vec<Exchange>) {
    let until = Instant::now() + GATHER;
    while taken.len() < BATCH && taken.iter().map(Exchange::octets).sum::<usize>() < AT_ONCE {
        let more = BATCH - taken.len();
        match timeout_at(until, exchanges.recv_many(taken, more)).await {
            Ok(1..) => {}
            Ok(0) | Err(_) => break,
        }
    }
}

/// Says what is wrong, once, and when it is tried again.
fn fail(
    to: &TapTo,
    error: &io::Error,
    failing: &mut Option<String>,
    pause: &mut Duration,
    again: &mut Instant,
) {
    let why = error.to_string();
    if failing.as_ref() != Some(&why) {
        tracing::warn!(
            "dnstap: {to}: {why}; queries are answered, and not told of until it works again"
        );
        *failing = Some(why);
    }
    *again = Instant::now() + *pause;
    *pause = (*pause * 2).min(PAUSES[1]);
}

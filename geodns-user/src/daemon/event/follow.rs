//! Whoever follows events gets them as server-sent events, from a task of its own. One that does not read for long is
//! let go.

use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::time::timeout;

use super::FOLLOWERS;
use crate::control::event::{Asked, From};
use crate::control::problem::Failure;
use crate::control::watch::Stream;
use crate::daemon::Daemon;
use crate::event::{Event, Wanted};

/// Chunks that wait for a follower.
const WAITING: usize = 64;
/// How long a follower may leave them waiting.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often a follower hears something at least: so it is noticed when it has gone.
const ALIVE: Duration = Duration::from_secs(15);

/// A task that sends events to one follower.
struct Sender {
    daemon: Arc<Daemon>,
    wanted: Wanted,
    /// Number of the last event that was looked at.
    position: u64,
    chunks: mpsc::Sender<Bytes>,
    _place: OwnedSemaphorePermit,
}

/// The end of a follower.
enum End {
    /// It has gone, or the daemon stops.
    Gone,
    /// It does not read.
    Slow,
    /// The disk does not answer.
    Unread(Failure),
}

impl Daemon {
    /// `events -f`
    pub async fn follow_events(self: &Arc<Self>, of: Asked) -> Result<Stream, Failure> {
        let place = Arc::clone(&self.events.followers).try_acquire_owned();
        let place = place.map_err(|_| {
            Failure::Unavailable(format!(
                "{FOLLOWERS} already follow the events: end one of them first"
            ))
        })?;
        let (first, position) = match of.from {
            From::After(seq) => (Vec::new(), seq),
            From::Latest => {
                let now = self.events.journal.last();
                let last = self.last_events(&of.wanted, of.limit).await?;
                let position = last.last().map_or(now, |last| last.seq.max(now));
                (last, position)
            }
            From::Time(unix_ms) => (Vec::new(), self.event_before(unix_ms).await?),
        };
        let (chunks, receiver) = mpsc::channel(WAITING);
        let sender = Sender {
            daemon: Arc::clone(self),
            wanted: of.wanted,
            position,
            chunks,
            _place: place,
        };
        tokio::spawn(sender.run(first));
        let next = |mut receiver: mpsc::Receiver<Bytes>| async move {
            let chunk = receiver.recv().await?;
            Some((chunk, receiver))
        };
        Ok(stream::unfold(receiver, next).boxed())
    }
}

impl Sender {
    /// Sends events until the follower goes, or is let go.
    async fn run(mut self, first: Vec<Event>) {
        let daemon = Arc::clone(&self.daemon);
        let mut closed = daemon.events.closed.subscribe();
        let Err(end) = tokio::select! {
            end = self.send_all(first) => end,
            _ = closed.wait_for(|is_closed| *is_closed) => Err(End::Gone),
        };
        match end {
            End::Gone => {}
            End::Slow => tracing::warn!(
                "a follower of the events has not read for {} s: it is let go",
                PATIENCE.as_secs()
            ),
            End::Unread(failure) => {
                tracing::warn!(cause = %failure, "a follower of the events is let go: {failure}");
            }
        }
    }

    async fn send_all(&mut self, first: Vec<Event>) -> Result<std::convert::Infallible, End> {
        // The head of the answer goes out with the first chunk.
        self.send(":\n\n".to_owned()).await?;
        for event in first {
            self.send(chunk(&event)).await?;
        }
        let journal = Arc::clone(&self.daemon.events.journal);
        loop {
            let next = self.daemon.next_events(&mut self.position).await;
            let next = next.map_err(End::Unread)?;
            for event in next.iter().filter(|event| self.wanted.has(event)) {
                self.send(chunk(event)).await?;
            }
            if !next.is_empty() {
                continue;
            }
            let gone = self.chunks.clone();
            tokio::select! {
                () = journal.wait(self.position) => {}
                () = gone.closed() => return Err(End::Gone),
                () = tokio::time::sleep(ALIVE) => self.send(":\n\n".to_owned()).await?,
            }
        }
    }

    async fn send(&self, chunk: String) -> Result<(), End> {
        match timeout(PATIENCE, self.chunks.send(chunk.into())).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(End::Gone),
            Err(_) => Err(End::Slow),
        }
    }
}

/// A server-sent event.
fn chunk(event: &Event) -> String {
    let json = serde_json::to_string(event).expect("plain data");
    let mut chunk = String::with_capacity(json.len() + 32);
    let _ = write!(chunk, "id: {}\ndata: {json}\n\n", event.seq);
    chunk
}

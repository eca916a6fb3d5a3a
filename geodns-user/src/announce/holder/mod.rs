//! The process that holds the device and outlives the daemon.
//!
//! - [`message`]: words between the two
//! - [`switch`]: the metric that is announced while the daemon is silent or gone; pure
//! - [`client`]: the daemon's end
//!
//! The holder takes one daemon at a time: a new one takes the place of the one before. It makes routes as the daemon says,
//! and restores routes that somebody else deletes. A daemon that finds a holder of another version or device, or one that
//! hangs, ends it and starts one of its own.

pub mod client;
pub mod message;
pub mod switch;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use caps::Capability;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};

use super::route::{Route, Routes};
use crate::base::capability;
use crate::base::socket::{Socket, may_connect};
use crate::observe::logs;
use message::{Answer, Word};
use switch::Switch;

/// Between looks at routes that somebody else may have deleted.
const RESTORE: Duration = Duration::from_secs(1);
/// How long the holder waits for its first daemon.
const FIRST: Duration = Duration::from_secs(30);

/// The socket and the device of a holder.
#[derive(Clone, Debug)]
pub struct Options {
    /// The socket that the daemon connects to.
    pub socket: PathBuf,
    /// The device's name.
    pub device: String,
}

/// Holds the device until the daemon ends, or has been dead for `kernel.stale_after`.
pub fn run(options: &Options) -> anyhow::Result<()> {
    // It was started as /proc/self/exe.
    let _ = nix::sys::prctl::set_name(c"geodns-hold");
    logs::start(logs::Format::Human, None).map_err(anyhow::Error::msg)?;
    // Devices and routes take no other.
    capability::keep_only(&[Capability::CAP_NET_ADMIN])?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start")?;
    runtime.block_on(hold(options))
}

async fn hold(options: &Options) -> anyhow::Result<()> {
    let (connection, netlink, _) = rtnetlink::new_connection().context("netlink")?;
    tokio::spawn(connection);
    // First: a second holder of the device ends here, and leaves the socket of the first alone.
    let routes = Routes::on(&options.device, netlink).await;
    let routes = routes.map_err(anyhow::Error::msg)?;
    let listener = Socket::bind(&options.socket)?;
    let mut holder = Holder {
        device: options.device.clone(),
        routes,
        switch: Switch::new(Instant::now()),
        restored: Ok(()),
        daemon: None,
    };
    tracing::info!(device = options.device, "holding device {}", options.device);
    holder.serve(&listener.listener).await
}

struct Holder {
    device: String,
    routes: Routes,
    switch: Switch,
    /// The last look at routes that somebody may have deleted, for the daemon to tell.
    restored: Result<(), String>,
    daemon: Option<Daemon>,
}

/// The connection of a daemon.
struct Daemon {
    lines: Lines<BufReader<OwnedReadHalf>>,
    answers: OwnedWriteHalf,
}

impl Holder {
    async fn serve(&mut self, listener: &UnixListener) -> anyhow::Result<()> {
        let started = Instant::now();
        let mut look = tokio::time::interval(RESTORE);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let now = Instant::now();
            if self.switch.is_over(now) {
                tracing::warn!("the daemon has been gone for too long: withdrawn");
                return Ok(());
            }
            if self.daemon.is_none() && self.switch.word().is_none() && started.elapsed() > FIRST {
                bail!("no daemon has come within {} s", FIRST.as_secs());
            }
            let changes_in = self.switch.changes_in(now).unwrap_or(FIRST);
            tokio::select! {
                accepted = listener.accept() => {
                    if let Ok((stream, _)) = accepted {
                        self.take(stream);
                    }
                }
                line = next_line(&mut self.daemon) => match line {
                    Some(line) => if self.heed(&line).await {
                        return Ok(());
                    },
                    None => {
                        self.daemon = None;
                        self.switch.lose();
                        self.follow_switch().await;
                    }
                },
                () = tokio::time::sleep(changes_in) => self.follow_switch().await,
                _ = look.tick() => {
                    let restored = self.routes.restore().await;
                    if restored == Ok(true) {
                        tracing::warn!("somebody had deleted a route: it is there again");
                    }
                    self.restored = restored.map(drop);
                }
            }
        }
    }

    /// Takes a new daemon in the place of the one before. Only root and the user of this process may be one.
    fn take(&mut self, stream: UnixStream) {
        let peer = stream.peer_cred().map(|peer| peer.uid());
        if may_connect(peer.ok()) {
            let (lines, answers) = stream.into_split();
            let lines = BufReader::new(lines).lines();
            self.daemon = Some(Daemon { lines, answers });
        }
    }

    /// Does as the daemon says, and answers. Says whether that was its end.
    async fn heed(&mut self, line: &str) -> bool {
        let (answer, is_end) = match serde_json::from_str(line) {
            Ok(Word::Hello(hello)) => (hello.refusal(&self.device), false),
            Ok(Word::Announce(announcement)) => {
                self.switch.hear(announcement, Instant::now());
                let set = self.set().await;
                (set.and_then(|()| self.restored.clone()), false)
            }
            Ok(Word::End) => (self.routes.set(&BTreeSet::new()).await, true),
            Err(error) => (Err(error.to_string()), false),
        };
        let answer = answer.map_or_else(Answer::Failed, |()| Answer::Done);
        if let (Some(daemon), Ok(mut line)) = (&mut self.daemon, serde_json::to_vec(&answer)) {
            line.push(b'\n');
            // A daemon that is gone is noticed when its next line is read.
            let _ = daemon.answers.write_all(&line).await;
        }
        is_end
    }

    async fn follow_switch(&mut self) {
        if let Err(error) = self.set().await {
            tracing::error!("{error}");
        }
    }

    async fn set(&mut self) -> Result<(), String> {
        let metric = self.switch.metric(Instant::now());
        let routes = self.switch.word().zip(metric).map(|(word, metric)| {
            let route = |prefix| Route {
                prefix,
                table: word.table,
                metric,
            };
            word.prefixes.iter().copied().map(route).collect()
        });
        self.routes.set(&routes.unwrap_or_default()).await
    }
}

/// The next line of the daemon; `None`: it is gone. Without a daemon, never.
async fn next_line(daemon: &mut Option<Daemon>) -> Option<String> {
    match daemon {
        Some(daemon) => daemon.lines.next_line().await.ok().flatten(),
        None => std::future::pending().await,
    }
}

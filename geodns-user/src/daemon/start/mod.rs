//! Up, until a signal; then down.
//!
//! - `load`: everything is read and compiled
//! - `attach`: sockets are opened, the program is attached, and the daemon answers
//! - `tasks`: tasks that go on for as long as the daemon lives

mod attach;
mod load;
mod tasks;

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use futures_util::future::BoxFuture;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{Interval, interval};

use super::report::systemd;
use super::stop::{self, StopBy};
use super::{Daemon, Options};
use crate::control::by::By;
use crate::event::Journal;
use crate::heap;
use crate::observe::logs;
use crate::supervise;

/// Serves until SIGTERM or SIGINT.
///
/// Errors display as one line: what is wrong, where, and what to do about it.
pub fn run(options: Options) -> anyhow::Result<()> {
    let format = match options.json_logs {
        true => logs::Format::Json,
        false => logs::Format::Human,
    };
    let journal = Arc::new(Journal::default());
    logs::start(format, Some(Arc::clone(&journal))).map_err(anyhow::Error::msg)?;
    supervise::log_panics();
    heap::set_up();

    let loaded = load::load(&options, journal)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start threads")?;
    let result = runtime.block_on(async {
        let signals = Signals::start()?;
        let attached = attach::attach(options, loaded).await?;
        let (daemon, parts) = tasks::start(attached).await?;
        let by = until_end(&daemon, signals).await;
        stop::stop(daemon, parts, by).await
    });
    runtime.shutdown_timeout(Duration::from_secs(1));
    result
}

/// Signals that the daemon heeds.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    fn start() -> anyhow::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }
}

/// Reloads on SIGHUP, and tells systemd that the daemon is alive, until SIGTERM or SIGINT. A node that is announced is
/// drained and withdrawn then; a second signal ends that. Gives the first.
async fn until_end(daemon: &Arc<Daemon>, mut signals: Signals) -> StopBy {
    let limit = systemd::alive_limit();
    let mut watchdog = limit.map(|limit| interval(limit / 2));
    let mut leaving = Leaving::default();
    let mut first = None;
    loop {
        tokio::select! {
            _ = signals.terminate.recv() => {
                first.get_or_insert(StopBy::Service);
                if leaving.begin(daemon) { break }
            }
            _ = signals.interrupt.recv() => {
                first.get_or_insert(StopBy::Hand);
                if leaving.begin(daemon) { break }
            }
            () = leaving.over() => break,
            _ = signals.hangup.recv() => {
                let daemon = Arc::clone(daemon);
                // The outcome is in the log.
                tokio::spawn(async move { daemon.reload_all(&By::Signal("SIGHUP")).await });
            }
            () = tick(&mut watchdog) => daemon.report.pulse.tell(limit),
        }
    }
    first.unwrap_or(StopBy::Service)
}

/// The drain of a node that is announced, before the daemon stops.
#[derive(Default)]
struct Leaving(Option<BoxFuture<'static, ()>>);

impl Leaving {
    /// Begins it; begun, it is to end at once. Says whether there is nothing to wait for.
    fn begin(&mut self, daemon: &Arc<Daemon>) -> bool {
        let config = daemon.world.load().inputs.config.announce.clone();
        let Some((announcing, config)) = daemon.announcing.as_ref().zip(config) else {
            return true;
        };
        announcing.end();
        if self.0.is_none() {
            tracing::info!("draining before the stop; a second signal ends that");
            systemd::stopping();
            let daemon = Arc::clone(daemon);
            self.0 = Some(Box::pin(async move {
                let extended = systemd::extend_while_stopping();
                tokio::select! {
                    () = daemon.ended(&config) => {}
                    never = extended => match never {},
                }
            }));
        }
        false
    }

    /// Waits for its end; for ever, if it has not begun.
    async fn over(&mut self) {
        match &mut self.0 {
            Some(over) => over.await,
            None => std::future::pending().await,
        }
    }
}

/// Waits for the next tick; for ever, if there are none.
async fn tick(interval: &mut Option<Interval>) {
    match interval {
        Some(interval) => {
            interval.tick().await;
        }
        None => std::future::pending().await,
    }
}

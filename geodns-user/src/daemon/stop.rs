//! The daemon stops: in order, and in time whatever hangs.
//!
//! A file system that does not answer holds its readers, perhaps for ever. So each step has a bound, after which the
//! next one comes; and the process ends even if a step cannot.
//!
//! A node that is announced has drained before. The process ends after 25 s at the latest.

use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::timeout;

use super::Daemon;
use super::force::News;
use super::report::systemd;
use crate::config::OnStop;
use crate::event::Kind;
use crate::supervise::Never;

/// The time that a step may take.
const STEP: Duration = Duration::from_secs(3);
/// The time that a change under way may take.
const EDITS: Duration = Duration::from_secs(5);
/// The time that the whole stop may take, after a drain. systemd waits longer, as `etc/geodns.service` says.
const ALL: Duration = Duration::from_secs(25);

/// The hand that stops the daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopBy {
    /// A service manager, by SIGTERM: it may start another daemon at once.
    Service,
    /// A person at a terminal, by SIGINT (Ctrl-C): no stub is to stay.
    Hand,
}

/// Parts that end before the daemon does.
pub struct Parts {
    pub tasks: JoinSet<Never>,
    /// The thread that heeds news of health.
    pub heeding: JoinHandle<()>,
    /// The thread that announces this node.
    pub announcing: Option<JoinHandle<()>>,
    /// Tells the control socket to close.
    pub closing: Arc<Notify>,
    pub control: tokio::task::JoinHandle<std::io::Result<()>>,
}

/// Stops the daemon: the program first, so that its queries reach open sockets.
pub async fn stop(daemon: Arc<Daemon>, parts: Parts, by: StopBy) -> anyhow::Result<()> {
    tracing::info!(event = Kind::Stop.name(), "stopping");
    systemd::stopping();
    exit_after(ALL);
    let Parts {
        mut tasks,
        heeding,
        announcing,
        closing,
        control,
    } = parts;
    if let Some(announcing) = announcing {
        let last = Arc::clone(&daemon);
        let ended = spawn_blocking(move || {
            let _ = announcing.join();
            last.keep_end();
        });
        within(STEP, "the announcement", ended).await;
    }
    within(STEP, "background tasks", tasks.shutdown()).await;
    daemon.in_service.tell(News::Stop);
    let heeded = spawn_blocking(move || heeding.join());
    within(STEP, "the thread of health", heeded).await;
    let last = Arc::clone(&daemon);
    let kept = spawn_blocking(move || {
        last.keep_found();
        last.save_trends();
    });
    within(STEP, "keeping what the checks found", kept).await;
    // Nobody may be changing anything any more.
    let edits = within(EDITS, "a change", daemon.changes.alone()).await;
    daemon.close_dnstap().await;
    let mut detached = detach(&daemon, by).await;
    within(STEP, "sockets", daemon.server.close()).await;
    if detached.is_err() {
        // It may have been for want of a file; now there are some.
        detached = detach(&daemon, by).await;
    }
    daemon.close_lookers();
    daemon.events.close();
    closing.notify_one();
    // It has a bound of its own.
    control.await??;
    let last = Arc::clone(&daemon);
    let kept = spawn_blocking(move || last.keep_some_events(true));
    within(STEP, "keeping events", kept).await;
    daemon.notify_no_more();
    drop(edits);
    detached
}

/// Takes the program away, or leaves it, as `kernel.on_stop` says.
async fn detach(daemon: &Arc<Daemon>, by: StopBy) -> anyhow::Result<()> {
    let daemon = Arc::clone(daemon);
    let detached = spawn_blocking(move || daemon.detach(by));
    match timeout(EDITS, detached).await {
        Ok(detached) => detached?,
        Err(_) => anyhow::bail!("the program is still attached: somebody holds it and hangs"),
    }
}

/// Waits for a step, but no longer than this.
async fn within<T>(time: Duration, what: &str, step: impl Future<Output = T>) -> Option<T> {
    let done = timeout(time, step).await.ok();
    if done.is_none() {
        tracing::warn!(
            "stopping: {what} did not end within {} s, which a file system that does not answer may be the \
             reason of; going on without",
            time.as_secs()
        );
    }
    done
}

/// Ends the process after this time, if it has not ended by then.
fn exit_after(time: Duration) {
    let end = move || {
        thread::sleep(time);
        tracing::error!("stopping took longer than {} s: giving up", time.as_secs());
        std::process::exit(1);
    };
    if let Err(error) = thread::Builder::new().name("stop".to_owned()).spawn(end) {
        tracing::warn!("nobody sees to it that stopping ends in time: {error}");
    }
}

impl Daemon {
    /// Takes the program away, or leaves it, as `kernel.on_stop` says. The kernel is not used after that.
    fn detach(&self, by: StopBy) -> anyhow::Result<()> {
        let on_stop = match self.world.load().inputs.config.kernel.on_stop {
            OnStop::Stub if by == StopBy::Hand => OnStop::Detach,
            on_stop => on_stop,
        };
        if let Some(mut kernel) = self.lock_kernel() {
            kernel.stop(on_stop)?;
        }
        Ok(())
    }
}

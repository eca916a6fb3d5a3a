//! Tasks that go on for as long as the daemon lives. One that panics begins anew.

use std::sync::{Arc, Mutex};

use anyhow::Context;
use futures_util::future::BoxFuture;
use nix::unistd::Gid;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::interval;

use super::attach::Attached;
use crate::control::{calls, server};
use crate::daemon::Daemon;
use crate::daemon::control::Control;
use crate::daemon::listen;
use crate::daemon::report::systemd;
use crate::daemon::stop::Parts;
use crate::event::Kind;
use crate::kernel::follow::Follow;
use crate::service::Which;
use crate::supervise::{Never, forever};

/// Starts all tasks, and says that the daemon is ready.
pub async fn start(attached: Attached) -> anyhow::Result<(Arc<Daemon>, Parts)> {
    let Attached {
        daemon,
        socket,
        follow,
        news,
        feed,
        listeners,
    } = attached;
    let daemon = Arc::new(daemon);
    daemon.start_metrics();
    daemon.start_visitors();
    let closing = Arc::new(Notify::new());
    let control = tokio::spawn(server::serve(
        socket,
        calls(&Arc::new(Control(Arc::clone(&daemon)))),
        daemon.world.load().inputs.config.readers().map(Gid::as_raw),
        Arc::clone(&closing).notified_owned(),
    ));
    let mut tasks = JoinSet::new();
    daemon.start_tasks(&mut tasks, follow);
    daemon.notify_from(
        &daemon.world.load().inputs.config,
        daemon.events.journal.first() - 1,
    );
    let heeding = daemon.heed_news(news).context("cannot start a thread")?;
    daemon.heed(&Which::All).map_err(anyhow::Error::msg)?;
    if let Some(feed) = feed {
        daemon.warn_of_strangers(feed.verdicts());
        let (daemon, feed) = (Arc::clone(&daemon), Arc::new(Mutex::new(feed)));
        tasks.spawn(forever("feed", move || {
            Arc::clone(&daemon).follow_feed(Arc::clone(&feed))
        }));
    }
    daemon.open_listeners(listeners);
    daemon.follow_zones(None);
    daemon.set_dnstap(&daemon.world.load().inputs.config);
    let announcing = daemon.start_announcing().context("cannot start a thread")?;
    let listening = listen::addresses(&daemon.listening.lock().await.endpoints);
    tracing::info!(
        event = Kind::Start.name(),
        "ready: {}",
        daemon.announcement(&listening)
    );
    let parts = Parts {
        tasks,
        heeding,
        announcing,
        closing,
        control,
    };
    Ok((daemon, parts))
}

impl Daemon {
    fn start_tasks(self: &Arc<Self>, tasks: &mut JoinSet<Never>, follow: Follow) {
        let mut start = |name: &'static str, work: fn(Arc<Self>) -> BoxFuture<'static, Never>| {
            let daemon = Arc::clone(self);
            tasks.spawn(forever(name, move || work(Arc::clone(&daemon))));
        };
        start("heartbeat", |daemon| Box::pin(daemon.beat()));
        start("tidying", |daemon| Box::pin(daemon.tidy()));
        start("cookies", |daemon| Box::pin(daemon.roll_cookies()));
        start("databases", |daemon| Box::pin(daemon.follow_databases()));
        start("certificate", |daemon| {
            Box::pin(daemon.follow_certificates())
        });
        start("history", |daemon| Box::pin(daemon.keep_history()));
        start("findings", |daemon| Box::pin(daemon.keep_findings()));
        start("tokens", |daemon| Box::pin(daemon.follow_tokens()));
        start("trends", |daemon| Box::pin(daemon.keep_trends()));
        start("catalogs", |daemon| Box::pin(daemon.follow_catalogs()));
        if self.fleet.is_some() {
            start("fleet", |daemon| Box::pin(daemon.follow_fleet()));
            if self.announcing.is_some() {
                start("leave", |daemon| Box::pin(daemon.follow_wishes()));
            }
            start("staleness", |daemon| Box::pin(daemon.keep_fresh()));
            start("registry", |daemon| Box::pin(daemon.register()));
            start("votes", |daemon| Box::pin(daemon.vote()));
            start("rollout", |daemon| Box::pin(daemon.roll_out()));
        }
        if self.has_kernel() {
            start("promotion", |daemon| Box::pin(daemon.promote()));
            start("sight", |daemon| Box::pin(daemon.look_for_blindness()));
        }
        let follow = Arc::new(tokio::sync::Mutex::new(follow));
        let daemon = Arc::clone(self);
        tasks.spawn(forever("interfaces", move || {
            Arc::clone(&daemon).follow_changes(Arc::clone(&follow))
        }));
        if let Some(notices) = self.server.notices() {
            let notices = Arc::new(tokio::sync::Mutex::new(notices));
            let daemon = Arc::clone(self);
            tasks.spawn(forever("notices", move || {
                Arc::clone(&daemon).heed_notices(Arc::clone(&notices))
            }));
        }
    }

    /// Lets the program answer, for ever.
    async fn beat(self: Arc<Self>) -> Never {
        let heartbeat = self.lock_kernel().map(|kernel| kernel.heartbeat());
        let every = heartbeat
            .as_ref()
            .map_or(systemd::PULSE, |beat| beat.interval());
        let mut beat = interval(every.min(systemd::PULSE));
        loop {
            beat.tick().await;
            let is_silent = self.heed_staleness();
            if let Some(heartbeat) = &heartbeat
                && !is_silent
            {
                heartbeat.beat();
            }
            self.report.pulse.beat();
        }
    }
}

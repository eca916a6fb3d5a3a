//! Up, until a signal; then down.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use anyhow::Context;
use arc_swap::ArcSwap;
use futures_util::future::BoxFuture;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;
use tokio::task::JoinSet;

use super::answer::Control;
use super::block::Ledger;
use super::cookies::identity;
use super::force::{InService, News, limits};
use super::inputs::{load, read, warn_of};
use super::listen::{self, Listening};
use super::mirrors::{self, Unsaved};
use super::report::Complaints;
use super::report::systemd::{self, Pulse};
use super::watch::Lookers;
use super::zones::{self, Announcements, Catalogs, Secondaries, acme, catalogs};
use super::{Daemon, Options, cookies, overrides, privileges, stop};
use crate::base::clock::now_unix_ms;
use crate::base::lock::{self, write};
use crate::block::Blocks;
use crate::config::{Config, Mode, Secrets, ZoneFile};
use crate::control::by::By;
use crate::control::server;
use crate::health::{self, Feed, Monitor, Told, Verdict};
use crate::heap;
use crate::kernel::follow::Follow;
use crate::kernel::netdev::Netdevs;
use crate::kernel::{self, Kernel, bpffs};
use crate::observe::logs;
use crate::serve::{self, Endpoint, Server};
use crate::service::{self, Findings, Standings, Which, targets};
use crate::state::State;
use crate::supervise::{self, Never, forever};
use crate::transfer::keep::Keep;
use crate::world::{Warning, World};
use crate::zone::Zones;

/// Serves until SIGTERM or SIGINT.
///
/// Errors display as one line: what is wrong, where, and what to do about it.
pub fn run(options: Options) -> anyhow::Result<()> {
    let format = if options.json_logs {
        logs::Format::Json
    } else {
        logs::Format::Human
    };
    logs::start(format).map_err(anyhow::Error::msg)?;
    supervise::log_panics();
    heap::set_up();

    let config = load(&options.config, &options)?;
    let state = State::open(&config.state)?;
    let keep = Keep::beside(&config.state);
    let members = state.members()?;
    let of = config.clone();
    let kept = |zone: &ZoneFile| zones::kept_for(&of, &keep, zone);
    let mut inputs = read(config, &members, None, &kept)?;
    warn_of(&inputs);
    let config = Arc::clone(&inputs.config);
    keep.sweep(config.zones.iter().map(|zone| &zone.name));
    let zones = Arc::make_mut(&mut inputs.zones);
    acme::put_over_all(&config, &state, zones)?;
    catalogs::keep(&state, &catalogs::produce(&config, &state, zones)?)?;
    zones.make_offers(&config, &Zones::default(), None);
    let layers = overrides::layers(&inputs, &state)?;
    let standings = mirrors::load(&config, &state)?;
    let world = inputs.compile(&layers, 1, rand::random())?;
    inputs.unmatched().iter().for_each(Warning::log);
    if config.kernel.mode != Mode::Off {
        kernel::object()?;
        privileges::require_for_program()?;
        bpffs::ensure(&config.kernel.pin)?;
    }
    // Before there are handlers of signals: on some file systems it may take for ever.
    let feed = config.health_feed.as_deref().map(|path| {
        let mut feed = Feed::new(path);
        feed.look();
        feed
    });
    privileges::raise_file_limit();
    privileges::drop_all_but_needed()?;

    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start threads")?;
    let begun = Begun {
        state,
        standings,
        world,
        feed,
    };
    let result = runtime.block_on(serve(options, &config, begun));
    runtime.shutdown_timeout(Duration::from_secs(1));
    result
}

/// What there is before anybody is answered.
struct Begun {
    state: State,
    standings: Standings,
    world: World,
    feed: Option<Feed>,
}

async fn serve(options: Options, config: &Config, begun: Begun) -> anyhow::Result<()> {
    let Begun {
        state,
        standings,
        world,
        feed,
    } = begun;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;

    let follow = Follow::start().context("cannot ask for interfaces (netlink)")?;
    let netdevs = Netdevs::read(&follow.netlink())
        .await
        .context("cannot ask for interfaces (netlink)")?;
    let endpoints = listen::endpoints(config, &netdevs);
    let addresses = listen::addresses(&endpoints);
    // Nobody is sent to a mirror that was down before: all of this comes before the first answer.
    let (news, heeded) = mpsc::channel();
    let monitor = start_monitor(config, &state, news.clone())?;
    let mut found = Findings::default();
    found.take(monitor.snapshot());
    if let Some(feed) = &feed {
        found.feed(feed.verdicts());
    }
    {
        let mut plan = write(&world.plan);
        service::put(&mut plan, config, &standings, &found, now_unix_ms());
    }

    let world = Arc::new(ArcSwap::from_pointee(world));
    let cookies = cookies::secrets(config, &state)?;
    let ledger = Ledger::default();
    let rules = ledger.compile(config, &state).map_err(anyhow::Error::msg)?;
    let blocks = Arc::clone(&rules.blocks);
    ledger.put(rules);
    let server = Server::new(
        serve::Options {
            port: config.server.port,
            freebind: true,
            ..serve::Options::default()
        },
        Arc::clone(&world),
        identity(config, cookies),
    );
    server.set_blocks(Arc::clone(&blocks));
    server.set_limiter(limits::of(&world.load(), None));
    server.set_tls(config.tls.as_ref().map(|tls| tls.port));
    server.set_certificate(world.load().inputs.certificate.clone());
    let list: Vec<Endpoint> = endpoints.iter().cloned().collect();
    if let Some(error) = server.set_listen(&list).await.into_iter().next() {
        return Err(anyhow::Error::msg(error.to_string()));
    }

    // Before the program: nothing that comes after it may fail, since it may have taken over what a
    // daemon before us left attached.
    let socket_path = options.socket.as_ref().unwrap_or(&config.socket);
    let control_socket = server::Socket::bind(socket_path)?;
    let beside = Beside { cookies, blocks };
    let kernel = attach(&options, config, &world, &addresses, &netdevs, beside)?;
    if let Some(kernel) = &kernel {
        server.set_limiter(limits::of(&world.load(), Some(kernel.instance())));
    }
    let nowhere = listen::nowhere(config, &netdevs, &endpoints);
    if let Some(complaint) = &nowhere {
        tracing::warn!("{complaint}");
    }
    let daemon = Arc::new(Daemon {
        started: Instant::now(),
        counters: kernel.as_ref().map(Kernel::counters),
        kernel: kernel.map(Mutex::new),
        world,
        state,
        in_service: InService::new(standings, found, news),
        monitor,
        server,
        edits: Arc::default(),
        reading: tokio::sync::Mutex::default(),
        out_of_step: AtomicBool::new(false),
        pulse: Pulse::default(),
        keep: Keep::beside(&config.state),
        secondaries: Secondaries::default(),
        announcements: Announcements::default(),
        promotion: Mutex::default(),
        ledger,
        unsaved: Unsaved::default(),
        lookers: Lookers::default(),
        catalogs: Catalogs::default(),
        edited: AtomicU64::new(0),
        expiring: Notify::new(),
        untidy: Notify::new(),
        follow: tokio::sync::Mutex::new(Listening {
            netlink: follow.netlink(),
            endpoints,
        }),
        complaints: Complaints::new(nowhere),
        last_error: Mutex::default(),
        options: options.clone(),
    });
    tracing::info!("control socket {}", socket_path.display());
    let closing = Arc::new(Notify::new());
    let control = tokio::spawn(server::serve(
        control_socket,
        Arc::new(Control(Arc::clone(&daemon))),
        Arc::clone(&closing).notified_owned(),
    ));
    let mut tasks = JoinSet::new();
    daemon.start_tasks(&mut tasks, follow);
    let heeding = daemon.heed_news(heeded).context("cannot start a thread")?;
    daemon.heed(&Which::All).map_err(anyhow::Error::msg)?;
    if let Some(feed) = feed {
        daemon.warn_of_strangers(feed.verdicts());
        daemon.follow_feed(&mut tasks, feed);
    }
    daemon.follow_zones(None);
    let listening = listen::addresses(&daemon.follow.lock().await.endpoints);
    tracing::info!("ready: {}", daemon.announcement(&listening));
    let limit = systemd::alive_limit();
    let mut watchdog = limit.map(|limit| tokio::time::interval(limit / 2));
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = hangup.recv() => {
                let daemon = Arc::clone(&daemon);
                // The outcome is in the log.
                tokio::spawn(async move { daemon.reload_all(&By::Signal("SIGHUP")).await });
            }
            () = tick(&mut watchdog) => daemon.pulse.tell(limit),
        }
    }
    let parts = stop::Parts {
        tasks,
        heeding,
        closing,
        control,
    };
    stop::stop(daemon, parts).await
}

/// Starts the checks, from where they were before a restart.
fn start_monitor(
    config: &Config,
    state: &State,
    news: mpsc::Sender<News>,
) -> anyhow::Result<Monitor> {
    let saved = state.health()?.into_iter().map(|(key, saved)| {
        let saved = health::Saved {
            up: saved.up,
            since_unix_ms: saved.since_unix_ms,
        };
        (key, saved)
    });
    let options = health::Options {
        saved: saved.collect(),
        ..health::Options::default()
    };
    let monitor = Monitor::start(options, move |told| {
        let _ = news.send(match told {
            Told::Result(event) => News::Checked(event),
            Told::Trouble(trouble) => News::Troubled(trouble),
        });
    });
    monitor.set_targets(targets(config));
    Ok(monitor)
}

/// The next tick, if there are any.
async fn tick(interval: &mut Option<tokio::time::Interval>) {
    match interval {
        Some(interval) => {
            interval.tick().await;
        }
        None => std::future::pending().await,
    }
}

/// What the program has beside its tables.
struct Beside {
    cookies: Option<Secrets>,
    blocks: Arc<Blocks>,
}

fn attach(
    options: &Options,
    config: &Config,
    world: &ArcSwap<World>,
    addresses: &BTreeSet<IpAddr>,
    netdevs: &Netdevs,
    beside: Beside,
) -> anyhow::Result<Option<Kernel>> {
    if config.kernel.mode == Mode::Off {
        tracing::info!("kernel.mode is off: the slow path answers everything");
        return Ok(None);
    }
    let settings = kernel::Settings {
        interfaces: config.kernel.interfaces.clone(),
        mode: config.kernel.mode,
        pin: config.kernel.pin.clone(),
        stale_after: config.kernel.stale_after,
        log_every: options.log_packets,
        cookies: beside.cookies,
        blocks: beside.blocks,
    };
    let world = world.load();
    let plan = lock::read(&world.plan);
    let kernel = tokio::task::block_in_place(|| {
        Kernel::start(
            settings,
            kernel::object()?,
            &*plan,
            plan.capacity(),
            addresses,
            netdevs,
        )
    })?;
    Ok(Some(kernel))
}

impl Daemon {
    /// Starts what goes on for as long as the daemon lives.
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
            Box::pin(daemon.follow_certificate())
        });
        start("findings", |daemon| Box::pin(daemon.keep_findings()));
        start("tokens", |daemon| Box::pin(daemon.follow_tokens()));
        start("catalogs", |daemon| Box::pin(daemon.follow_catalogs()));
        if self.kernel.is_some() {
            start("promotion", |daemon| Box::pin(daemon.promote()));
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

    /// Heeds what other monitors' file says, for as long as the daemon lives.
    fn follow_feed(self: &Arc<Self>, tasks: &mut JoinSet<Never>, feed: Feed) {
        let feed = Arc::new(Mutex::new(feed));
        let daemon = Arc::clone(self);
        tasks.spawn(forever("feed", move || {
            let daemon = Arc::clone(&daemon);
            let tell = move |verdicts: &[Verdict]| {
                daemon.in_service.tell(News::Feed(verdicts.to_vec()));
            };
            Feed::watch(Arc::clone(&feed), tell)
        }));
    }

    /// Lets the program answer, for ever.
    async fn beat(self: Arc<Self>) -> Never {
        let heartbeat = self.lock_kernel().map(|kernel| kernel.heartbeat());
        let every = heartbeat
            .as_ref()
            .map_or(systemd::PULSE, |beat| beat.interval());
        let mut beat = tokio::time::interval(every.min(systemd::PULSE));
        loop {
            beat.tick().await;
            if let Some(heartbeat) = &heartbeat {
                heartbeat.beat();
            }
            self.pulse.beat();
        }
    }
}

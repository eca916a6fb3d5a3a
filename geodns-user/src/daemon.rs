//! The daemon: the one that knows everybody.
//!
//! - [`run`]: up, until a signal; then down
//! - `change`: what changes the world: edits, imports, reloads
//! - `geography`, `certificates`: GeoIP databases and certificates that change
//! - `durably`: on disk, then in force, else taken back; `disk`: a disk that does not answer
//! - `answer`: what the control socket asks; `edits`: who changed what, for the log
//! - `explain`: the way of a question to its answer, and what the kernel says; `reasons`: what decides for a client
//! - `preview`: what another configuration would move
//! - `standing`: what an operator and other monitors say of mirrors
//! - `judge`: who is in service, of that and of what the checks find
//! - `acme`: tokens of ACME challenges
//! - `blocks`: queries that are dropped; `limits`: how much is answered to one prefix; `cookies`: secrets of cookies
//! - `watch`: who looks on; `top`: what there is to see
//! - `zones`: one zone put in the place of another; `secondary`: zones from other servers; `notices`: they say that they have changed; `announce`: others
//!   are told of changes
//! - `promote`: names that are asked often, into the kernel's table
//! - `catalogs`: zones that come and go as catalogs list them, and catalogs of ours
//! - `listen`: which addresses are listened on
//! - `summary`: what the daemon says of itself in one line
//! - `privileges`, `notify`: what the process may do, what systemd is told
//! - `stop`: the end, within its time whatever hangs
//!
//! Up: logs, configuration, state (whose lock makes sure that we are alone), the compiled world,
//! sockets, the program, the control socket. Whatever fails on the way is undone by being dropped.
//! Down: the program first, so that what it would have answered reaches sockets that are open.

mod acme;
mod announce;
mod answer;
mod blocks;
mod catalogs;
mod certificates;
mod change;
mod cookies;
mod disk;
mod durably;
mod edits;
mod explain;
mod geography;
mod judge;
mod limits;
mod listen;
mod notices;
mod notify;
mod preview;
mod privileges;
mod promote;
mod reasons;
mod secondary;
mod standing;
mod stop;
mod summary;
mod top;
mod watch;
mod zones;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex, MutexGuard, mpsc};
use std::time::{Duration, Instant};

use anyhow::Context;
use arc_swap::ArcSwap;
use futures_util::future::BoxFuture;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;
use tokio::task::JoinSet;

use announce::Announcements;
use answer::Control;
use blocks::Ledger;
use catalogs::Catalogs;
use disk::Findings;
use judge::{Judge, News, Which};
use listen::{Complaints, Listening};
use notify::Pulse;
use promote::Promotion;
use secondary::Secondaries;
use standing::Standings;
use watch::Lookers;

use crate::base::clock::now_unix_ms;
use crate::base::complaint::Errors;
use crate::base::lock::{self, lock, write};
use crate::block::Blocks;
use crate::config::{Config, Member, Mode, Overrides, Secrets, ZoneFile};
use crate::control::by::By;
use crate::control::server;
use crate::geo::Geography;
use crate::health::{self, Feed, Monitor, Told, Verdict};
use crate::heap;
use crate::kernel::follow::Follow;
use crate::kernel::netdev::Netdevs;
use crate::kernel::shared::Counters;
use crate::kernel::{self, Kernel, bpffs};
use crate::observe::logs;
use crate::serve::{self, Endpoint, Identity, Server};
use crate::state::State;
use crate::supervise::{self, Never, forever};
use crate::transfer::keep::Keep;
use crate::world::{Inputs, Warning, World};
use crate::zone::{self, Zones};

/// How often to look after the links when no change is reported.
const LOOK_AGAIN: Duration = Duration::from_secs(30);

/// What the command line asks of the daemon.
#[derive(Clone, Debug)]
pub struct Options {
    /// Configuration file.
    pub config: PathBuf,
    /// Interfaces to attach to, instead of the configuration's; empty: the configuration's.
    pub interfaces: Vec<String>,
    /// Control socket, instead of the configuration's.
    pub socket: Option<PathBuf>,
    /// Logs in JSON.
    pub json_logs: bool,
    /// Log one packet in this many; 0: none.
    pub log_packets: u32,
}

/// Everything that a running daemon has.
struct Daemon {
    options: Options,
    started: Instant,
    /// What every query is answered from.
    world: Arc<ArcSwap<World>>,
    state: State,
    /// What is said of mirrors, as `state` has it.
    standings: Mutex<Standings>,
    /// Who is in service, and why.
    judge: Mutex<Judge>,
    monitor: Monitor,
    /// To whom heeds it.
    news: mpsc::Sender<News>,
    /// `None` with `kernel.mode = "off"`.
    kernel: Option<Mutex<Kernel>>,
    counters: Option<Arc<Counters>>,
    server: Server,
    /// Held by whoever changes the world. Nobody who has it waits for a file that somebody has named.
    edits: Arc<tokio::sync::Mutex<()>>,
    /// Held by whoever reads files that are to be put in force; before `edits`.
    reading: tokio::sync::Mutex<()>,
    /// The kernel's tables may be other than the plan: a new one is due.
    out_of_step: AtomicBool,
    pulse: Pulse,
    /// Transferred zones on disk.
    keep: Keep,
    secondaries: Secondaries,
    announcements: Announcements,
    /// Held for as long as a turn of it takes.
    promotion: Mutex<Promotion>,
    ledger: Ledger,
    findings: Findings,
    lookers: Lookers,
    catalogs: Catalogs,
    /// Edits so far: the tables are tidied when it stands still.
    edited: AtomicU64,
    /// A token was set, which expires.
    expiring: Notify,
    untidy: Notify,
    /// Interfaces and their changes; held by whoever sets what is listened on.
    follow: tokio::sync::Mutex<Listening>,
    complaints: Complaints,
    last_error: Mutex<Option<String>>,
}

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
    let layers = change::layers(&inputs, &state)?;
    let standings = standing::load(&config, &state)?;
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

/// Reads a configuration, under what the command line says.
fn load(file: &Path, options: &Options) -> Result<Config, Errors> {
    let overrides = Overrides {
        interfaces: options.interfaces.clone(),
    };
    let config = Config::load_with(file, &overrides)?;
    config.require_interfaces()?;
    Ok(config)
}

/// Reads every file that a configuration names, with these members of its catalogs; of zones that come from
/// elsewhere, `kept` has what there is.
///
/// GeoIP databases of `previous` whose files have not changed are not read again.
fn read(
    mut config: Config,
    members: &[Member],
    previous: Option<&Geography>,
    kept: zone::Kept<'_>,
) -> Result<Inputs, Errors> {
    config.set_members(members);
    let folder = geography::folder(&config);
    Inputs::with(config, &folder, previous, kept)
}

/// Logs what is legal and yet hardly meant.
fn warn_of(inputs: &Inputs) {
    inputs.warnings().iter().for_each(Warning::log);
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
    let mut judge = Judge::default();
    judge.take(monitor.snapshot());
    if let Some(feed) = &feed {
        judge.feed(feed.verdicts());
    }
    {
        let mut plan = write(&world.plan);
        judge.put(&mut plan, config, &standings, now_unix_ms());
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
        standings: Mutex::new(standings),
        judge: Mutex::new(judge),
        monitor,
        news,
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
        findings: Findings::default(),
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
    tracing::info!("ready: {}", daemon.announcement().await);
    let limit = notify::alive_limit();
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
    monitor.set_targets(judge::targets(config));
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

fn identity(config: &Config, cookies: Option<Secrets>) -> Identity {
    Identity {
        id: config.server.id(),
        nsid: config.server.nsid(),
        version: config.server.version(),
        cookies,
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
    fn follow_feed(&self, tasks: &mut JoinSet<Never>, feed: Feed) {
        let feed = Arc::new(Mutex::new(feed));
        let news = self.news.clone();
        tasks.spawn(forever("feed", move || {
            let news = news.clone();
            let tell = move |verdicts: &[Verdict]| {
                let _ = news.send(News::Feed(verdicts.to_vec()));
            };
            Feed::watch(Arc::clone(&feed), tell)
        }));
    }

    /// Lets the program answer, for ever.
    async fn beat(self: Arc<Self>) -> Never {
        let heartbeat = self.lock_kernel().map(|kernel| kernel.heartbeat());
        let every = heartbeat
            .as_ref()
            .map_or(notify::PULSE, |beat| beat.interval());
        let mut beat = tokio::time::interval(every.min(notify::PULSE));
        loop {
            beat.tick().await;
            if let Some(heartbeat) = &heartbeat {
                heartbeat.beat();
            }
            self.pulse.beat();
        }
    }

    /// Follows interfaces and their addresses, for ever.
    async fn follow_changes(self: Arc<Self>, follow: Arc<tokio::sync::Mutex<Follow>>) -> Never {
        let mut follow = follow.lock().await;
        loop {
            // Whoever detaches our program or removes its pin tells nobody.
            let _ = tokio::time::timeout(LOOK_AGAIN, follow.changed()).await;
            self.follow.lock().await.netlink = follow.netlink();
            if let Err(error) = self.follow_interfaces().await {
                tracing::warn!("{error:#}");
            }
        }
    }

    fn lock_kernel(&self) -> Option<MutexGuard<'_, Kernel>> {
        self.kernel.as_ref().map(lock)
    }

    /// Takes the program away, or leaves it, as `kernel.on_stop` says. Nothing comes after it.
    fn detach(&self) -> anyhow::Result<()> {
        let on_stop = self.world.load().inputs.config.kernel.on_stop;
        if let Some(mut kernel) = self.lock_kernel() {
            kernel.stop(on_stop)?;
        }
        Ok(())
    }
}

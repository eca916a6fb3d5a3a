//! Sockets, then the control socket, then the program: nothing that comes after the program may fail.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use anyhow::{Context, anyhow};
use arc_swap::ArcSwap;

use super::load::Loaded;
use crate::base::clock::now_unix_ms;
use crate::base::lock::{read, write};
use crate::base::socket::Socket;
use crate::block::Blocks;
use crate::config::{Config, Mode, Secrets};
use crate::daemon::announce::Announcing;
use crate::daemon::block::BlockRules;
use crate::daemon::cookies::{self, identity};
use crate::daemon::dnstap::Tapping;
use crate::daemon::fleet;
use crate::daemon::force::{Changes, InService, News, Upkeep, limits};
use crate::daemon::listen::{self, Listening};
use crate::daemon::listeners::{self, Listeners};
use crate::daemon::metrics::Metrics;
use crate::daemon::mirrors::{Mirrors, start_monitor};
use crate::daemon::report::{NotListening, Report};
use crate::daemon::sight::Sight;
use crate::daemon::visitors::Visitors;
use crate::daemon::watch::Lookers;
use crate::daemon::web::Web;
use crate::daemon::zones::ChangingZones;
use crate::daemon::{Daemon, Options};
use crate::health::Feed;
use crate::kernel::follow::Follow;
use crate::kernel::netdev::Netdevs;
use crate::kernel::{self, Kernel};
use crate::serve::{self, Endpoint, Server};
use crate::service::{self, Findings};
use crate::world::World;

/// A daemon that answers, and the parts that its tasks begin with.
pub struct Attached {
    pub daemon: Daemon,
    pub socket: Socket,
    pub follow: Follow,
    pub news: Receiver<News>,
    pub feed: Option<Feed>,
    pub listeners: listeners::Ready,
}

/// Opens the sockets and attaches the program.
pub async fn attach(options: Options, loaded: Loaded) -> anyhow::Result<Attached> {
    let Loaded {
        config,
        state,
        events,
        out,
        kept,
        standings,
        world,
        feed,
        not_loaded,
    } = loaded;
    let config = &*config;
    let follow = Follow::start().context("cannot ask for interfaces (netlink)")?;
    let netdevs = Netdevs::read(&follow.netlink())
        .await
        .context("cannot ask for interfaces (netlink)")?;
    let endpoints = listen::endpoints(config, &netdevs);
    let addresses = listen::addresses(&endpoints);
    // Nobody is sent to a mirror that was down before: all of this comes before the first answer.
    let (tell, news) = mpsc::channel();
    let monitor = start_monitor(config, &state, tell.clone())?;
    let mut findings = Findings::default();
    findings.take(monitor.snapshot());
    if let Some(feed) = &feed {
        findings.feed(feed.verdicts());
    }
    {
        let mut plan = write(&world.plan);
        service::put(&mut plan, config, &standings, &findings, now_unix_ms());
    }

    let world = Arc::new(ArcSwap::from_pointee(world));
    let cookies = cookies::secrets(config, &state)?;
    let block_rules = BlockRules::default();
    let rules = block_rules
        .compile(config, &state)
        .map_err(anyhow::Error::msg)?;
    let blocks = Arc::clone(&rules.blocks);
    block_rules.put(rules);
    let server = Server::new(
        serve::Options {
            port: config.server.port,
            freebind: true,
            by_interface: config.kernel.mode != Mode::Off,
            ..serve::Options::default()
        },
        Arc::clone(&world),
        identity(config, cookies),
    );
    server.set_own_addresses(netdevs.own_addresses());
    server.set_blocks(Arc::clone(&blocks));
    server.set_limiter(limits::of(&world.load(), None));
    server.set_tls(config.tls.as_ref().map(|tls| tls.port));
    server.set_certificate(world.load().inputs.certificate.clone());
    let list: Vec<Endpoint> = endpoints.iter().cloned().collect();
    if let Some(error) = server.set_listen(&list).await.into_iter().next() {
        return Err(anyhow::Error::msg(error.to_string()));
    }

    let listeners = Listeners::default();
    let ready = listeners.prepare(config).map_err(anyhow::Error::msg)?;
    // Before the program, which may take over what a daemon before us left attached.
    let socket_path = options.socket.as_ref().unwrap_or(&config.socket);
    let socket = Socket::bind(socket_path).map_err(|error| anyhow!("control.socket {error}"))?;
    share(&socket, config);
    let beside = Beside { cookies, blocks };
    let started = match not_loaded {
        Some(error) => Err(error),
        None => start_kernel(&options, config, &world, &addresses, &netdevs, beside),
    };
    let (kernel, not_loaded) = match started {
        Ok(kernel) => (kernel, None),
        Err(error) if must_end(&error, config) => return Err(error),
        Err(error) => {
            tracing::error!("{error:#}; the slow path answers everything until a restart");
            (None, Some(format!("{error:#}")))
        }
    };
    if let Some(kernel) = &kernel {
        server.set_limiter(limits::of(&world.load(), Some(kernel.instance())));
    }
    let sight = kernel.as_ref().and_then(|kernel| {
        Sight::new(kernel, &netdevs)
            .inspect_err(|error| tracing::warn!("interfaces have no counters: {error}"))
            .ok()
    });
    let nowhere = listen::nowhere(config, &netdevs, &endpoints);
    if let Some(complaint) = &nowhere {
        tracing::warn!("{complaint}");
    }
    tracing::info!("control socket {}", socket_path.display());
    let announcing = Announcing::load(config, &state)?;
    let fleet = fleet::link(config, &state)?;
    server.set_asks_itself(announcing.is_some());
    let daemon = Daemon {
        started: Instant::now(),
        world,
        state,
        events,
        server,
        counters: kernel.as_ref().map(Kernel::counters),
        sight,
        kernel: kernel.map(Mutex::new),
        changes: Changes::default(),
        fleet,
        upkeep: Upkeep::default(),
        in_service: InService::new(standings, findings, out, tell),
        report: Report {
            not_listening: NotListening::new(nowhere),
            not_loaded,
            ..Report::default()
        },
        block_rules,
        mirrors: Mirrors::new(monitor),
        zones: ChangingZones::new(kept),
        listening: Listening::new(follow.netlink(), endpoints),
        lookers: Lookers::default(),
        visitors: Visitors::new(),
        metrics: Metrics::new(),
        tapping: Tapping::default(),
        announcing,
        web: Web::default(),
        listeners,
        options,
    };
    daemon.metrics.answers.follow(&daemon.world.load());
    Ok(Attached {
        daemon,
        socket,
        follow,
        news,
        feed,
        listeners: ready,
    })
}

/// Gives the control socket to the group that may read. If it cannot have it, the socket stays its owner's.
fn share(socket: &Socket, config: &Config) {
    let Some(name) = &config.group else { return };
    let shared = match config.readers() {
        Some(readers) => socket.share(readers).map_err(|error| error.to_string()),
        None => Err(format!("there is no group {name}")),
    };
    if let Err(cause) = shared {
        tracing::warn!(cause, "control.group: {cause}; its members cannot read");
    }
}

/// Whether the daemon may not go on without the program: that is asked for, or it is another daemon's.
fn must_end(error: &anyhow::Error, config: &Config) -> bool {
    let error = error.downcast_ref();
    config.kernel.required || matches!(error, Some(kernel::Error::InUse { .. }))
}

/// Settings of the program beside its tables.
struct Beside {
    cookies: Option<Secrets>,
    blocks: Arc<Blocks>,
}

fn start_kernel(
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
        required: config.kernel.required,
        pin: config.kernel.pin.clone(),
        stale_after: config.kernel.stale_after,
        log_every: options.log_packets,
        cookies: beside.cookies,
        blocks: beside.blocks,
        next: config.kernel.next.clone(),
    };
    let world = world.load();
    let plan = read(&world.plan);
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

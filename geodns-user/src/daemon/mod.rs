//! The daemon: starts, changes and stops everything.
//!
//! Each module uses only those that stand before it here:
//!
//! - `force`: the ground floor: a change is made, and comes in force
//! - `privileges`: capabilities of the process
//! - `audit`: the log of changes; `ids`: mirrors and pools by their ids
//! - `control`: changes and reads that calls of the API ask for
//! - `event`: events are kept, read and followed
//! - `report`: failures, addresses and a summary, for the log, the status and systemd
//! - `follow`: certificates and GeoIP databases that change
//! - `inputs`: reads a configuration and every file that it names
//! - `block`: block rules; `cookies`: secrets of cookies
//! - `mirrors`: words of operators and other monitors on mirrors, and checks
//! - `reasons`: the reasons for the mirrors of a client
//! - `overrides`: overrides and imports
//! - `zones`: zones that change on their own
//! - `in_force`: a change comes in force, each thing of it by its feature
//! - `fleet`: the fleet that this node is in
//! - `sight`: whether the program sees the queries of the interfaces that it is attached to
//! - `listen`: addresses that the server listens on
//! - `reload`: everything is read again
//! - `watch`: `top` and `capture`; `dnstap`
//! - `visitors`: the mirrors that a visitor is shown
//! - `explain`: the way of a question to its answer; `preview`: clients that another configuration would move
//! - `announce`: this node of an anycast set is announced as it stands
//! - `metrics`: numbers for Prometheus
//! - `status`: state and counters of the daemon, as the API shows them
//! - `web`: the dashboard
//! - `listeners`: the HTTP listeners of dashboard, metrics and pages for visitors
//! - `stop`: the end, within its time whatever hangs
//! - `start`: up, until a signal; then down
//!
//! Up: logs, configuration, state (whose lock keeps a second daemon out), the compiled world, sockets, the control
//! socket, the program. A start that fails undoes its steps by dropping them. Down: the program first, so that its
//! queries reach open sockets.

mod announce;
mod audit;
mod block;
mod control;
mod cookies;
mod dnstap;
mod event;
mod explain;
mod fleet;
mod follow;
mod force;
mod ids;
mod in_force;
mod inputs;
mod listen;
mod listeners;
mod metrics;
mod mirrors;
mod overrides;
mod preview;
mod privileges;
mod reasons;
mod reload;
mod report;
mod sight;
mod start;
mod status;
mod stop;
mod visitors;
mod watch;
mod web;
mod zones;

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use arc_swap::ArcSwap;

pub use start::run;

use announce::Announcing;
use block::BlockRules;
use dnstap::Tapping;
use event::Events;
use fleet::Link;
use force::{Changes, InService, Upkeep};
use listen::Listening;
use listeners::Listeners;
use metrics::Metrics;
use mirrors::Mirrors;
use report::Report;
use sight::Sight;
use visitors::Visitors;
use watch::Lookers;
use web::Web;
use zones::ChangingZones;

use crate::kernel::Kernel;
use crate::kernel::shared::Counters;
use crate::serve::Server;
use crate::state::State;
use crate::world::World;

/// Options of the command line.
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
    /// Log one packet in N; 0: none.
    pub log_packets: u32,
}

/// Everything that a running daemon has. Each feature has its own state in one field.
struct Daemon {
    options: Options,
    started: Instant,
    /// The configuration in force, with its zones and its plan: every query is answered from it.
    world: Arc<ArcSwap<World>>,
    /// Everything that survives a restart.
    state: State,
    events: Events,
    /// The slow path.
    server: Server,
    /// `None` with `kernel.mode = "off"`.
    kernel: Option<Mutex<Kernel>>,
    counters: Option<Arc<Counters>>,
    /// `None` with `kernel.mode = "off"`.
    sight: Option<Sight>,
    changes: Changes,
    /// `None`: the configuration names no fleet.
    fleet: Option<Arc<Link>>,
    upkeep: Upkeep,
    in_service: InService,
    report: Report,
    block_rules: BlockRules,
    mirrors: Mirrors,
    zones: ChangingZones,
    listening: Listening,
    lookers: Lookers,
    visitors: Visitors,
    metrics: Metrics,
    tapping: Tapping,
    /// `None` without `[announce]`.
    announcing: Option<Announcing>,
    web: Web,
    listeners: Listeners,
}

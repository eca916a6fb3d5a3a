//! The daemon: starts, changes and stops everything.
//!
//! Each module uses only those that stand before it here:
//!
//! - `force`: the ground floor: how a change is made, and comes in force
//! - `privileges`: what the process may do
//! - `audit`: who changed what, for the log; `ids`: mirrors and pools by their ids
//! - `control`: how each feature answers its calls of the API
//! - `report`: what the daemon says of itself, in the log, in the status and to systemd
//! - `follow`: certificates and GeoIP databases that change
//! - `inputs`: reads a configuration and every file that it names
//! - `block`: rules of queries that are dropped; `cookies`: secrets of cookies
//! - `mirrors`: what an operator, other monitors and our checks say of mirrors
//! - `reasons`: what decides for a client
//! - `overrides`: which prefixes get which mirror: overrides and imports
//! - `zones`: zones that change on their own
//! - `listen`: which addresses are listened on
//! - `reload`: everything read again
//! - `watch`: `top` and `capture`
//! - `explain`: the way of a question to its answer; `preview`: the clients that another
//!   configuration would move
//! - `status`: state of the daemon, and its counters, as the control socket shows them
//! - `stop`: the end, within its time whatever hangs
//! - `start`: up, until a signal; then down
//!
//! Up: logs, configuration, state (whose lock makes sure that we are alone), the compiled world,
//! sockets, the program, the control socket. Whatever fails on the way is undone by being dropped.
//! Down: the program first, so that what it would have answered reaches sockets that are open.

mod audit;
mod block;
mod control;
mod cookies;
mod explain;
mod follow;
mod force;
mod ids;
mod inputs;
mod listen;
mod mirrors;
mod overrides;
mod preview;
mod privileges;
mod reasons;
mod reload;
mod report;
mod start;
mod status;
mod stop;
mod watch;
mod zones;

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use arc_swap::ArcSwap;

pub use start::run;

use block::BlockRules;
use force::{Changes, InService, Upkeep};
use listen::Listening;
use mirrors::Mirrors;
use report::Report;
use watch::Lookers;
use zones::ChangingZones;

use crate::kernel::Kernel;
use crate::kernel::shared::Counters;
use crate::serve::Server;
use crate::state::State;
use crate::world::World;

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

/// Everything that a running daemon has. Each feature has its own state in one field.
struct Daemon {
    options: Options,
    started: Instant,
    /// What every query is answered from.
    world: Arc<ArcSwap<World>>,
    /// What survives a restart.
    state: State,
    /// The slow path.
    server: Server,
    /// `None` with `kernel.mode = "off"`.
    kernel: Option<Mutex<Kernel>>,
    counters: Option<Arc<Counters>>,
    changes: Changes,
    upkeep: Upkeep,
    in_service: InService,
    report: Report,
    block_rules: BlockRules,
    mirrors: Mirrors,
    zones: ChangingZones,
    listening: Listening,
    lookers: Lookers,
}

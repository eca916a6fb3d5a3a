//! What pages show beside the calls of the API.

use std::sync::Arc;

use async_trait::async_trait;
use serde::Serialize;
use tokio::sync::watch;

use crate::control::mirror::{AdminState, Mirror};
use crate::control::preview::Preview;
use crate::control::problem::Failure;
use crate::geo::grid::Cell;
use crate::observe::trends::{Rates, Trends};

/// Answers what pages ask. The daemon implements it.
#[async_trait]
pub trait Service: Send + Sync + 'static {
    /// The world by the mirror that each place gets from a pool; without one, from the first.
    async fn map(&self, pool: Option<String>) -> Result<Arc<Map>, Failure>;
    /// The trends so far.
    fn trends(&self) -> Arc<Trends>;
    /// The last preview, and its time in milliseconds since 1970.
    fn last_preview(&self) -> Option<(u64, Arc<Preview>)>;
    /// The numbers of each second.
    fn live(&self) -> watch::Receiver<Arc<Live>>;
}

/// Numbers of a second.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Live {
    /// Time, in milliseconds since 1970.
    pub at_unix_ms: u64,
    /// Messages a second.
    #[serde(flatten)]
    pub rates: Rates,
    /// Share of the answers that the program gave, 0 to 1, since the daemon started.
    pub kernel_share: Option<f64>,
    /// Mirrors in service.
    pub in_service: usize,
    /// All mirrors.
    pub mirrors: usize,
    /// Messages answered since the counters started, by both paths.
    pub answered: u64,
}

/// The world by mirrors.
#[derive(Clone, Debug, Default)]
pub struct Map {
    /// All pools.
    pub pools: Vec<String>,
    /// The pool that the map is of.
    pub pool: String,
    /// Mirrors that clients of the pool get, its own first. Their numbers are their places here.
    pub mirrors: Vec<Marker>,
    /// Places, each with the mirror that most of its addresses get.
    pub cells: Vec<Place>,
    /// Where clients of the last answers are, the share of each cell.
    pub clients: Vec<(Cell, f64)>,
    /// Number of clients that this is a sample of.
    pub seen: usize,
    /// Why there are no places.
    pub lacks: Option<Lack>,
}

/// Why a map has no places.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lack {
    /// Databases are being read.
    Time,
    /// No database has locations.
    Locations,
    /// There is no pool.
    Pool,
}

/// A mirror on the map.
#[derive(Clone, Debug)]
pub struct Marker {
    /// Its id.
    pub id: String,
    /// Whether and why new clients are sent to it.
    pub state: State,
    /// Degrees north and east, if the configuration has them.
    pub at: Option<(f64, f64)>,
}

/// State of a mirror.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// In service.
    In,
    /// Drained, in part or wholly, by an operator.
    Drained,
    /// Out of service.
    Out,
}

impl State {
    /// The state of a mirror.
    pub fn of(mirror: &Mirror) -> Self {
        match (mirror.admin.state, mirror.in_service) {
            (AdminState::Drain, _) => Self::Drained,
            (_, true) => Self::In,
            (_, false) => Self::Out,
        }
    }

    /// Its name, for people and for styles.
    pub fn name(self) -> &'static str {
        match self {
            Self::In => "in service",
            Self::Drained => "drained",
            Self::Out => "down",
        }
    }

    /// Its class.
    pub fn class(self) -> &'static str {
        match self {
            Self::In => "in",
            Self::Drained => "drained",
            Self::Out => "out",
        }
    }
}

/// A cell of the map.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// The cell.
    pub cell: Cell,
    /// Number of the mirror; `None`: no answer (SERVFAIL).
    pub mirror: Option<usize>,
    /// An address of it that gets this.
    pub client: std::net::IpAddr,
}

//! Metrics: what there is, read into a snapshot each time that somebody asks.
//!
//! - `paths`: packets, queries and responses of both paths
//! - `answers`: answers by mirror
//! - `mirrors`: mirrors, checks and pools
//! - `zones`: zones, the certificate and GeoIP databases
//! - `machine`: interfaces, and the process
//! - here: the daemon itself, its fleet, how it is announced, and the call of the API

mod answers;
mod machine;
mod mirrors;
mod paths;
mod zones;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use async_trait::async_trait;
use axum::Router;

use super::Daemon;
use super::control::Control;
use crate::announce::State;
use crate::base::clock::now_unix_ms;
use crate::control::fleet::FleetState;
use crate::control::metrics::Service;
use crate::control::problem::Failure;
use crate::metrics::exporter::Exporter;
use crate::metrics::text::Format;
use crate::metrics::{Family, Snapshot};
use crate::supervise;

pub use answers::SlowAnswers;

/// Series of a family, at the most, without a section `[metrics]`: the API gives metrics all the same.
const MAX_SERIES: usize = 10_000;

/// The state of metrics.
pub struct Metrics {
    /// Answers of the slow path by mirror.
    pub answers: SlowAnswers,
    exporter: Arc<Exporter>,
    /// The daemon, once it runs.
    daemon: Arc<OnceLock<Weak<Daemon>>>,
    reload: LastReload,
    /// Whether the log knows that series are dropped.
    has_dropped: AtomicBool,
}

/// The last reload.
struct LastReload {
    failed: AtomicBool,
    /// Unix milliseconds of the last one that succeeded.
    succeeded_at: AtomicU64,
}

impl Metrics {
    /// The state of a start.
    pub fn new() -> Self {
        let daemon: Arc<OnceLock<Weak<Daemon>>> = Arc::default();
        let of = Arc::clone(&daemon);
        let read = move || match of.get().and_then(Weak::upgrade) {
            Some(daemon) => daemon.snapshot(),
            None => Snapshot::new(0),
        };
        let exporter = Arc::new(Exporter::new(Arc::new(read)));
        Self {
            answers: SlowAnswers::default(),
            exporter,
            daemon,
            reload: LastReload {
                failed: AtomicBool::new(false),
                succeeded_at: AtomicU64::new(now_unix_ms()),
            },
            has_dropped: AtomicBool::new(false),
        }
    }

    /// The router for Prometheus.
    pub fn router(&self) -> Router {
        Arc::clone(&self.exporter).router()
    }

    /// Takes note of a reload.
    pub fn reloaded(&self, is_ok: bool) {
        self.reload.failed.store(!is_ok, Ordering::Relaxed);
        if is_ok {
            self.reload
                .succeeded_at
                .store(now_unix_ms(), Ordering::Relaxed);
        }
    }
}

impl Daemon {
    /// Begins to give metrics.
    pub fn start_metrics(self: &Arc<Self>) {
        let _ = self.metrics.daemon.set(Arc::downgrade(self));
    }

    /// The values of all metrics.
    fn snapshot(&self) -> Snapshot {
        let world = self.world.load_full();
        let config = &world.inputs.config;
        let of = config.metrics.as_ref();
        let mut snapshot = Snapshot::new(of.map_or(MAX_SERIES, |of| of.max_series));
        self.add_itself(&mut snapshot, world.generation);
        self.add_paths(&mut snapshot);
        self.add_answers(&mut snapshot, &world);
        self.add_mirrors(&mut snapshot, &world);
        self.add_zones(&mut snapshot, &world, of.is_some_and(|of| of.by_zone));
        self.add_interfaces(&mut snapshot, config);
        self.add_fleet(&mut snapshot);
        machine::add_process(&mut snapshot);
        let dropped = snapshot.dropped();
        snapshot.put(Family::SeriesDropped, dropped);
        let has_dropped = &self.metrics.has_dropped;
        if has_dropped.swap(dropped > 0, Ordering::Relaxed) != (dropped > 0) && dropped > 0 {
            tracing::warn!(
                "{dropped} series are left out of the metrics: raise metrics.max_series"
            );
        }
        snapshot
    }

    /// The daemon itself.
    fn add_itself(&self, snapshot: &mut Snapshot, generation: u64) {
        snapshot.put_words(Family::BuildInfo, [env!("CARGO_PKG_VERSION")], 1);
        snapshot.put(Family::PlanGeneration, generation);
        let reload = &self.metrics.reload;
        let failed = reload.failed.load(Ordering::Relaxed);
        snapshot.put(Family::ReloadSuccessful, !failed);
        let succeeded_at = reload.succeeded_at.load(Ordering::Relaxed);
        snapshot.put(Family::ReloadTime, succeeded_at as f64 / 1000.0);
        let restarts = supervise::restarted()
            .iter()
            .map(|task| task.times)
            .sum::<u64>();
        snapshot.put(Family::TaskRestarts, restarts);
    }

    /// The fleet, and how this node is announced.
    fn add_fleet(&self, snapshot: &mut Snapshot) {
        if let Some((link, line)) = self.fleet.as_ref().zip(self.fleet_line()) {
            let connected = line.state == FleetState::Following;
            snapshot.put(Family::FleetConnected, connected);
            let revision = link.view().in_force.revision.0;
            snapshot.put(Family::FleetRevision, revision);
            snapshot.put(Family::FleetNodes, line.nodes);
            let stale_ms = line.stale_ms.unwrap_or(0);
            snapshot.put(Family::FleetStale, stale_ms as f64 / 1000.0);
        }
        if let Some(announcement) = self.announcement_shown() {
            for state in State::ALL {
                let is_it = state.name() == announcement.state;
                snapshot.put_words(Family::AnnounceState, [state.name()], is_it);
            }
        }
    }
}

#[async_trait]
impl Service for Control {
    async fn metrics(&self, format: Format) -> Result<String, Failure> {
        let text = self.0.metrics.exporter.text(format).await;
        text.map_err(Failure::Internal)
    }
}

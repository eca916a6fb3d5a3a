//! Numbers for Prometheus: every metric, and how they are written and fetched.
//!
//! The room knows no daemon: `daemon/metrics` reads what there is into a [`Snapshot`] each time that somebody asks.
//!
//! - [`family`]: all metrics: name, type, labels, meaning
//! - [`snapshot`]: their values at one moment
//! - [`text`]: writes them as OpenMetrics, or as Prometheus' older text
//! - [`exporter`]: gives them to whoever asks over HTTP, and nothing else

pub mod exporter;
pub mod family;
pub mod snapshot;
pub mod text;

pub use family::Family;
pub use snapshot::Snapshot;

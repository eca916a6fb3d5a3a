//! State of the daemon, and its counters: `/v1/status`, `/v1/stats`.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use async_trait::async_trait;
use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::announce::Announcement;
use super::client::{Client, Error, Reply};
use super::fleet::FleetState;
use super::problem::{Answer, Failure, Problem};
use super::values::Address;

/// Answers these calls. The daemon implements it.
#[async_trait]
pub trait Service: Send + Sync + 'static {
    /// `GET /v1/status`
    async fn status(&self) -> Result<Status, Failure>;
    /// `GET /v1/stats`
    async fn stats(&self) -> Result<Stats, Failure>;
}

/// The calls.
pub fn routes(service: Arc<dyn Service>) -> OpenApiRouter {
    OpenApiRouter::new()
        .routes(routes!(status))
        .routes(routes!(stats))
        .with_state(service)
}

/// Shows what the daemon serves, where, and since when.
#[utoipa::path(get, path = "/v1/status", responses(
    (status = 200, body = Status), (status = "default", body = Problem)))]
async fn status(State(service): State<Arc<dyn Service>>) -> Answer<Status> {
    Ok(Json(service.status().await?))
}

/// Shows the counters of the fast and the slow path.
#[utoipa::path(get, path = "/v1/stats", responses(
    (status = 200, body = Stats), (status = "default", body = Problem)))]
async fn stats(State(service): State<Arc<dyn Service>>) -> Answer<Stats> {
    Ok(Json(service.stats().await?))
}

impl Client {
    /// `GET /v1/status`
    pub async fn status(&self) -> Result<Reply, Error> {
        self.get("/v1/status").await
    }

    /// `GET /v1/stats`
    pub async fn stats(&self) -> Result<Reply, Error> {
        self.get("/v1/stats").await
    }
}

/// `GET /v1/status`
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct Status {
    /// Version of the daemon.
    pub version: String,
    /// Configuration file.
    pub config: String,
    /// Seconds since the start.
    pub uptime_seconds: u64,
    /// Number of the plan in force.
    pub generation: u64,
    /// Addresses answered on.
    #[schema(value_type = Vec<Address>)]
    pub listen: Vec<IpAddr>,
    /// Complaints about listening: an address that cannot be bound, or none at all.
    #[serde(default)]
    pub not_listening: Vec<String>,
    /// UDP and TCP port.
    pub port: u16,
    /// Port of DNS over TLS; none: it is off.
    #[serde(default)]
    pub tls_port: Option<u16>,
    /// Interfaces that the program is attached to; empty with `kernel.mode = "off"`.
    pub interfaces: Vec<Interface>,
    /// Names of `waiting_interfaces`.
    #[serde(default)]
    pub missing_interfaces: Vec<String>,
    /// Interfaces that it should be attached to and is not. It is attached as soon as they take it.
    #[serde(default)]
    pub waiting_interfaces: Vec<WaitingInterface>,
    /// Why the program is not loaded, though `kernel.mode` is not off. The slow path answers everything.
    #[serde(default)]
    pub not_loaded: Option<String>,
    /// Interfaces that it is attached to, and whose queries it does not see.
    #[serde(default)]
    pub blind: Vec<Blind>,
    /// Settings of interfaces that are not what they were when the program was attached.
    #[serde(default)]
    pub changed_settings: Vec<ChangedSetting>,
    /// Counts of what is in the plan.
    pub zones: u64,
    /// Zones that are there because a catalog lists them (RFC 9432).
    #[serde(default)]
    pub members: u64,
    /// Signed zones: they are served without their signatures.
    #[serde(default)]
    pub signed_zones: Vec<String>,
    /// Steered names.
    pub steered_names: u64,
    /// The kernel's table of names.
    #[serde(default)]
    pub names: NamesStatus,
    /// Pools.
    pub pools: Vec<PoolStatus>,
    /// Instructions that the verifier walked for the program in force; 0 with mode off.
    pub verified_instructions: u64,
    /// The prefix tables: pools that are alike share one.
    #[serde(default)]
    pub atlases: Vec<AtlasStatus>,
    /// Regions of all of them.
    #[serde(default)]
    pub regions: u64,
    /// Bytes of the atlases' roots, of their blocks, and of the regions, without what is spare.
    #[serde(default)]
    pub atlas_bytes: u64,
    /// Bytes of kernel memory that the program's maps take; 0 with mode off.
    pub kernel_memory_bytes: u64,
    /// Targets of notifications.
    #[serde(default)]
    pub notify: Vec<NotifyStatus>,
    /// Number of events that came too fast for the disk, and are not in the history.
    #[serde(default)]
    pub events_lost: u64,
    /// Background tasks that ended unexpectedly and were restarted; normally empty.
    #[serde(default)]
    pub restarted: Vec<Restarted>,
    /// How this node is announced, as `/v1/announce` shows it; none: it is not, there is no section `[announce]`.
    #[serde(default)]
    pub announcement: Option<Announcement>,
    /// Error of the last reload or GeoIP update, if it failed. The plan before it stays in force.
    pub last_error: Option<String>,
    /// The fleet, in a node whose configuration names one.
    pub fleet: Option<FleetLine>,
}

/// A target of notifications.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NotifyStatus {
    /// Host and port.
    pub target: String,
    /// Number of events that it has taken.
    pub told: u64,
    /// Number of events that it refused, or was too slow for.
    pub lost: u64,
    /// Why the last attempt has failed; none if it has not.
    pub trouble: Option<String>,
}

/// A background task that ended unexpectedly and was restarted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Restarted {
    /// Its name.
    pub name: String,
    /// Number of restarts.
    pub times: u64,
    /// Reason of the last one.
    pub cause: String,
    /// Time of the last one, in milliseconds since 1970.
    pub at_unix_ms: u64,
}

/// The kernel's table of names. All 0 with mode off.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NamesStatus {
    /// Names of all zones.
    pub served: u64,
    /// Names in the table.
    pub in_kernel: u64,
    /// Largest number of names in it: `kernel.max_names`.
    pub most: u64,
    /// Names in it that were promoted: often-asked names of zones that are not there whole.
    pub promoted: u64,
    /// Promotions since the start.
    pub promotions: u64,
    /// Names that have lost their place since the start.
    pub demotions: u64,
}

/// An interface that the program is attached to.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Interface {
    /// Name.
    pub name: String,
    /// `native` or `generic`.
    pub mode: String,
    /// True if it is the build with the frags mark, which drivers take at a large MTU.
    #[serde(default)]
    pub frags: bool,
    /// Why it is generic, and what to do about it; none: it is native.
    #[serde(default)]
    pub reason: Option<String>,
    /// True if the link is pinned, and so outlives the daemon.
    pub pinned: bool,
}

/// An interface that the program should be attached to, and is not.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct WaitingInterface {
    /// Name.
    pub name: String,
    /// `waiting`: it is not there. `refused`: it does not take the program.
    pub state: String,
    /// Why it is not attached, and what to do.
    pub reason: String,
}

/// Queries that the slow path got by an interface, and that the program there did not see.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Blind {
    /// Name; several names, where queries of one may come by another.
    pub interfaces: Vec<String>,
    /// The counter of the interface that grew in place of `passed`; `not_run`: none did.
    pub cause: String,
    /// Queries that were missing when some were missing last, in 10 s.
    pub missing: u64,
    /// What it means, and what to do about it.
    pub message: String,
}

/// A setting of an interface that somebody has changed since the program was attached: MTU, LRO, number of channels.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ChangedSetting {
    /// Name of the interface.
    pub interface: String,
    /// Whether it may keep the program from answering.
    pub harmful: bool,
    /// The setting, as it is and as it was, and the command that takes the change back where it is harmful.
    pub message: String,
}

/// A prefix table.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct AtlasStatus {
    /// Its number.
    pub number: u32,
    /// The pools that share it.
    pub pools: Vec<String>,
}

/// A pool, in numbers.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct PoolStatus {
    /// Its id.
    pub id: String,
    /// Its policy, as the configuration writes it.
    pub policy: String,
    /// Its mirrors.
    pub mirrors: Vec<String>,
    /// Prefixes in the configuration's list.
    pub listed: u64,
    /// Prefixes of the last import.
    pub imported: u64,
    /// Single overrides.
    pub overrides: u64,
}

/// `GET /v1/stats`: counters since the maps were made.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct Stats {
    /// Fast path, by verdict (see `geodns_common::verdict`), summed over CPUs.
    pub kernel: BTreeMap<String, u64>,
    /// Slow path, by name.
    pub slow: BTreeMap<String, u64>,
    /// Interfaces that the program is attached to.
    #[serde(default)]
    pub interfaces: Vec<InterfaceStats>,
    /// dnstap, if it is on.
    #[serde(default)]
    pub dnstap: Option<DnstapStats>,
}

/// Exchanges (a query, with the response if there is one) since the start.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct DnstapStats {
    /// Those that the reader or the file has.
    pub written: u64,
    /// Those that were lost: there was no reader, or it was too slow.
    pub lost: u64,
}

/// Counters of an interface that the program is attached to.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct InterfaceStats {
    /// Name; several names, where they share counters.
    pub interfaces: Vec<String>,
    /// Packets that the program saw, by what became of them: `answered`, `dropped`, `passed` (queries for the slow
    /// path), and those that it passed unread.
    pub kernel: BTreeMap<String, u64>,
    /// Queries over UDP that came to the slow path by it, or by an interface above it.
    pub slow: u64,
    /// Answers that the program sent and the driver dropped; none: the driver does not tell.
    #[serde(default)]
    pub dropped_by_driver: Option<u64>,
    /// Whether the program does not see its queries: `/v1/status` has the cause.
    pub blind: bool,
}

/// How a node follows the store of its fleet, in short.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FleetLine {
    /// Name of the fleet.
    pub name: String,
    /// How the node follows the store.
    pub state: FleetState,
    /// Why it does not follow it.
    pub why: Option<String>,
    /// Time since it had all commits, milliseconds; none while it has them.
    pub stale_ms: Option<u64>,
    /// Nodes that live.
    pub nodes: u64,
    /// The first commit that is not in force here yet, and why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::super::tests::Memory;
    use super::*;

    #[async_trait]
    impl Service for Memory {
        async fn status(&self) -> Result<Status, Failure> {
            Ok(Status {
                version: "1.2.3".into(),
                config: "geodns.toml".into(),
                uptime_seconds: 5,
                generation: 1,
                listen: vec!["192.0.2.53".parse().unwrap()],
                not_listening: Vec::new(),
                port: 53,
                tls_port: None,
                interfaces: Vec::new(),
                missing_interfaces: Vec::new(),
                waiting_interfaces: Vec::new(),
                not_loaded: None,
                blind: Vec::new(),
                changed_settings: Vec::new(),
                zones: 1,
                members: 0,
                signed_zones: Vec::new(),
                steered_names: 1,
                names: NamesStatus::default(),
                pools: Vec::new(),
                verified_instructions: 0,
                atlases: Vec::new(),
                regions: 0,
                atlas_bytes: 0,
                kernel_memory_bytes: 0,
                notify: Vec::new(),
                events_lost: 0,
                restarted: Vec::new(),
                announcement: None,
                last_error: None,
                fleet: None,
            })
        }

        async fn stats(&self) -> Result<Stats, Failure> {
            Ok(Stats::default())
        }
    }
}

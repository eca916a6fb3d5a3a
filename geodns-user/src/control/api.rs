//! What goes over the control socket: JSON shapes, and [`Service`], which answers them.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::BoxStream;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::document::{Address, Id, Name, Prefix, RecordType};
use crate::base::prefix;

/// Answers the API. The daemon implements it.
pub trait Service: Send + Sync + 'static {
    /// `GET /v1/status`
    fn status(&self) -> impl Future<Output = Result<Status, Failure>> + Send;
    /// `GET /v1/stats`
    fn stats(&self) -> impl Future<Output = Result<Stats, Failure>> + Send;
    /// `GET /v1/mirrors`
    fn mirrors(&self) -> impl Future<Output = Result<Vec<Mirror>, Failure>> + Send;
    /// `GET /v1/mirrors/{id}`
    fn mirror(&self, id: String) -> impl Future<Output = Result<Mirror, Failure>> + Send;
    /// `PUT /v1/mirrors/{id}/admin`: what the operator says; durable and in force on return.
    fn mirror_admin(
        &self,
        id: String,
        change: SetAdmin,
    ) -> impl Future<Output = Result<MirrorChanged, Failure>> + Send;
    /// `PUT /v1/mirrors/{id}/weight`: a weight instead of the configuration's.
    fn mirror_weight(
        &self,
        id: String,
        change: SetWeight,
    ) -> impl Future<Output = Result<MirrorChanged, Failure>> + Send;
    /// `DELETE /v1/mirrors/{id}/weight`: back to the configuration's; no matter if it is already.
    fn mirror_weight_reset(
        &self,
        id: String,
    ) -> impl Future<Output = Result<MirrorChanged, Failure>> + Send;
    /// `PUT /v1/mirrors/{id}/health`: another monitor's verdict, in the place of its last one.
    fn mirror_health(
        &self,
        id: String,
        change: SetHealth,
    ) -> impl Future<Output = Result<MirrorChanged, Failure>> + Send;
    /// `DELETE /v1/mirrors/{id}/health`: takes verdicts back; no matter if there is none.
    fn mirror_health_clear(
        &self,
        id: String,
        address: Option<IpAddr>,
    ) -> impl Future<Output = Result<MirrorChanged, Failure>> + Send;
    /// `GET /v1/zones`
    fn zones(&self) -> impl Future<Output = Result<Vec<Zone>, Failure>> + Send;
    /// `GET /v1/acme`: tokens of ACME challenges.
    fn acme_list(&self) -> impl Future<Output = Result<Vec<AcmeToken>, Failure>> + Send;
    /// `PUT /v1/acme`: sets a token; durable and in every answer on return.
    fn acme_set(&self, set: AcmeSet) -> impl Future<Output = Result<AcmeChanged, Failure>> + Send;
    /// `DELETE /v1/acme`: takes a name's tokens away, or one of them.
    fn acme_clear(
        &self,
        clear: AcmeClear,
    ) -> impl Future<Output = Result<AcmeChanged, Failure>> + Send;
    /// `GET /v1/blocks`: rules of what is dropped, those of the configuration first.
    fn block_list(&self) -> impl Future<Output = Result<Vec<BlockRule>, Failure>> + Send;
    /// `PUT /v1/blocks`: adds rules; durable and in force in both paths on return.
    fn block_add(
        &self,
        add: BlockAdd,
    ) -> impl Future<Output = Result<BlockChanged, Failure>> + Send;
    /// `DELETE /v1/blocks`: takes rules away.
    fn block_remove(
        &self,
        remove: BlockRemove,
    ) -> impl Future<Output = Result<BlockChanged, Failure>> + Send;
    /// `GET /v1/top`: a [`Top`] each second, as a line.
    fn top(&self) -> impl Future<Output = Result<Stream, Failure>> + Send;
    /// `GET /v1/capture`: a file for tcpdump, as it comes.
    fn capture(&self, query: CaptureQuery) -> impl Future<Output = Result<Stream, Failure>> + Send;
    /// `GET /v1/map`: the overrides (`map list`), of one pool or all.
    fn map_list(
        &self,
        pool: Option<String>,
    ) -> impl Future<Output = Result<Vec<Mapping>, Failure>> + Send;
    /// `PUT /v1/map`: sets an override; durable and in the kernel's answers on return.
    fn map_set(&self, change: MapSet) -> impl Future<Output = Result<MapChanged, Failure>> + Send;
    /// `DELETE /v1/map`: deletes an override.
    fn map_del(&self, change: MapDel) -> impl Future<Output = Result<MapChanged, Failure>> + Send;
    /// `GET /v1/map/lookup`: what a client gets (`map get`), in each pool or one.
    fn map_get(
        &self,
        address: IpAddr,
        pool: Option<String>,
    ) -> impl Future<Output = Result<Vec<Lookup>, Failure>> + Send;
    /// `GET /v1/map/export`: every prefix in force (list, import, overrides merged by precedence;
    /// an equal prefix of a higher layer hides the lower), as CSV `prefix,mirror,...`.
    fn map_export(
        &self,
        pool: Option<String>,
    ) -> impl Future<Output = Result<String, Failure>> + Send;
    /// `PUT /v1/map/import`: replaces the imported layer; `name` is for messages. One transaction.
    fn map_import(
        &self,
        csv: String,
        name: String,
        pool: Option<String>,
    ) -> impl Future<Output = Result<Imported, Failure>> + Send;
    /// `GET /v1/explain`
    fn explain(
        &self,
        question: ExplainQuery,
    ) -> impl Future<Output = Result<Explanation, Failure>> + Send;
    /// `POST /v1/preview`: what a configuration would move; nothing is put in force.
    fn preview(&self, proposal: Proposal) -> impl Future<Output = Result<Preview, Failure>> + Send;
    /// `POST /v1/reload`: all of it, or one zone.
    fn reload(
        &self,
        zone: Option<String>,
    ) -> impl Future<Output = Result<Reloaded, Failure>> + Send;
}

/// Why a request failed: HTTP status and one line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// 404: no such pool, mirror, prefix, name.
    #[error("{0}")]
    NotFound(String),
    /// 422: the input is wrong.
    #[error("{0}")]
    Invalid(String),
    /// 500: what should work did not.
    #[error("{0}")]
    Internal(String),
}

/// `GET /v1/status`
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
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
    /// Interfaces that it should be attached to and is not: gone, or the log says why.
    #[serde(default)]
    pub missing_interfaces: Vec<String>,
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
    /// Background tasks that ended unexpectedly and were restarted; normally empty.
    #[serde(default)]
    pub restarted: Vec<Restarted>,
    /// Error of the last reload or GeoIP update, if it failed. The plan before it stays in force.
    pub last_error: Option<String>,
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
    /// True if the link is pinned, and so outlives the daemon.
    pub pinned: bool,
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
}

/// A mirror: what is said of it, what checks found, and what comes of both.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Mirror {
    /// Its id.
    pub id: String,
    /// Its addresses.
    #[schema(value_type = Vec<Address>)]
    pub addresses: Vec<IpAddr>,
    /// Pools that contain it.
    pub pools: Vec<String>,
    /// True if new clients are sent to it.
    pub in_service: bool,
    /// Reason, in one line.
    pub why: String,
    /// The operator's word.
    pub admin: MirrorAdmin,
    /// Its weight.
    pub weight: MirrorWeight,
    /// Results of our own checks, by address.
    pub checks: Vec<MirrorCheck>,
    /// Other monitors' verdicts in force.
    pub external: Vec<Verdict>,
    /// The daemon's clock at this answer.
    pub now_unix_ms: u64,
}

/// The operator's word on a mirror, which overrides all checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum AdminState {
    /// The checks decide.
    Auto,
    /// In service, whatever checks say.
    Up,
    /// Out of service.
    Down,
    /// No new clients, at once or gradually.
    Drain,
}

/// The operator's word on a mirror, with its time.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct MirrorAdmin {
    /// The word.
    pub state: AdminState,
    /// Its time; none with `auto`.
    pub since_unix_ms: Option<u64>,
    /// Share of new clients kept away by a drain now, 0 to 1.
    pub drained: f64,
    /// Length of a drain; none without one.
    pub over_ms: Option<u64>,
    /// End of a drain.
    pub until_unix_ms: Option<u64>,
}

/// A mirror's weight among the others of its pools.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MirrorWeight {
    /// The configuration's.
    pub configured: u32,
    /// The one in force now, before any drain.
    pub in_force: u32,
    /// The operator's weight in place of the configuration's, if any.
    pub wanted: Option<u32>,
    /// Time of the last change.
    pub since_unix_ms: Option<u64>,
    /// Length of the change to that weight.
    pub over_ms: Option<u64>,
    /// End of the change.
    pub until_unix_ms: Option<u64>,
}

/// Result of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum CheckState {
    /// The mirror works.
    Up,
    /// The mirror does not work.
    Down,
    /// Not checked, or not yet.
    Unknown,
}

/// Result of our own checks of an address.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct MirrorCheck {
    /// The address.
    #[schema(value_type = Address)]
    pub address: IpAddr,
    /// The result.
    pub state: CheckState,
    /// Time of the last change.
    pub since_unix_ms: Option<u64>,
    /// Message of the last check.
    pub reason: Option<String>,
    /// Time that it took.
    pub latency_ms: Option<f64>,
}

/// Another monitor's verdict on a mirror.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Verdict {
    /// True if the monitor found that the mirror works.
    pub up: bool,
    /// The address; none: all that have no verdict of their own.
    #[schema(value_type = Option<Address>)]
    pub address: Option<IpAddr>,
    /// Time of the last change.
    pub since_unix_ms: u64,
    /// Its expiry; none: never.
    pub until_unix_ms: Option<u64>,
    /// Reason, in one line; may be empty.
    pub reason: String,
}

/// `PUT /v1/mirrors/{id}/admin`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SetAdmin {
    /// The operator's word.
    pub state: AdminState,
    /// Length of an even drain, in milliseconds; without it, the drain is complete at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 0, maximum = 31_536_000_000_u64)]
    pub over_ms: Option<u64>,
}

/// `PUT /v1/mirrors/{id}/weight`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SetWeight {
    /// The weight; 0: no new clients.
    #[schema(maximum = 1_000_000)]
    pub value: u32,
    /// Length of an even change from the weight in force, in milliseconds; without it, the change is at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 0, maximum = 31_536_000_000_u64)]
    pub over_ms: Option<u64>,
}

/// `PUT /v1/mirrors/{id}/health`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SetHealth {
    /// True if the mirror works.
    pub up: bool,
    /// An address of it; without one, all that have no verdict of their own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Address>)]
    pub address: Option<IpAddr>,
    /// Milliseconds until the verdict expires; without it, never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 31_536_000_000_u64)]
    pub for_ms: Option<u64>,
    /// Reason, in one line.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schema(max_length = 200, pattern = r"^[^\x00-\x1f\x7f-\x9f]*$")]
    pub reason: String,
}

/// `DELETE /v1/mirrors/{id}/health?...`
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct OfAddress {
    /// Address whose verdict is taken back; without one, every verdict on the mirror.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<Address>)]
    pub address: Option<IpAddr>,
}

/// A mirror before and after a change.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct MirrorChanged {
    /// Before.
    pub before: Mirror,
    /// Now.
    pub after: Mirror,
    /// Warnings, such as a pool without a mirror in service.
    pub warnings: Vec<String>,
}

/// A zone.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Zone {
    /// Apex.
    pub name: String,
    /// Serial number of its SOA.
    pub serial: u32,
    /// Names in it.
    pub names: u64,
    /// Steered names of it, each with its pool's id.
    pub steered: BTreeMap<String, String>,
    /// Kind of catalog (RFC 9432), if it is one.
    pub catalog: Option<Catalog>,
    /// The catalog that lists it.
    pub member_of: Option<String>,
    /// Its source.
    #[serde(default)]
    pub role: ZoneRole,
    /// True if it is signed. It is served without its signatures.
    #[serde(default)]
    pub signed: bool,
    /// Time of a secondary's last successful check of a primary; none: never.
    #[serde(default)]
    pub checked_unix_ms: Option<u64>,
    /// Expiry of a secondary's data, unless a primary is checked successfully before.
    #[serde(default)]
    pub expires_unix_ms: Option<u64>,
    /// The daemon's clock at this answer.
    #[serde(default)]
    pub now_unix_ms: u64,
}

/// Source of a zone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum ZoneRole {
    /// This server.
    #[default]
    Primary,
    /// Its primaries.
    Secondary,
}

/// Kind of a catalog.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Catalog {
    /// This server serves the zones that it lists.
    Consumer,
    /// It lists zones of this server.
    Producer,
}

/// A token of an ACME DNS-01 challenge (RFC 8555 section 8.4): a TXT record over a zone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AcmeToken {
    /// Owner of the TXT record.
    pub name: String,
    /// Its text.
    pub token: String,
    /// TTL, seconds.
    pub ttl: u32,
    /// Its expiry.
    pub until_unix_ms: u64,
    /// Its zone; none: the configuration has no zone for it.
    pub zone: Option<String>,
    /// The daemon's clock at this answer.
    pub now_unix_ms: u64,
}

/// `PUT /v1/acme`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AcmeSet {
    /// Name that is proved, with the label `_acme-challenge` or without; of a wildcard, the name that it is
    /// below.
    #[schema(value_type = Name)]
    pub name: String,
    /// Printable ASCII.
    #[schema(min_length = 1, max_length = 255, pattern = "^[ -~]*$")]
    pub token: String,
    /// TTL, seconds.
    #[serde(default = "acme_ttl")]
    #[schema(minimum = 1, maximum = 86_400)]
    pub ttl: u32,
    /// After how many milliseconds it goes; without it, an hour.
    #[serde(default = "acme_for_ms")]
    #[schema(minimum = 1, maximum = 31_536_000_000_u64)]
    pub for_ms: u64,
}

fn acme_ttl() -> u32 {
    60
}

fn acme_for_ms() -> u64 {
    3_600_000
}

/// `DELETE /v1/acme?...`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct AcmeClear {
    /// Name, as it was set.
    #[param(value_type = Name)]
    pub name: String,
    /// Token; without it, all of the name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
}

/// Tokens of a name after a change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AcmeChanged {
    /// Owner of the TXT records.
    pub name: String,
    /// Its zone; none: the configuration no longer has one.
    pub zone: Option<String>,
    /// New serial of the zone; none: its answers have not changed.
    pub serial: Option<u32>,
    /// Tokens that are there now.
    pub tokens: Vec<AcmeToken>,
}

/// A stream that ends when the client goes.
pub type Stream = BoxStream<'static, Bytes>;

/// Queries and answers of a second, or little more.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Top {
    /// Its length.
    pub seconds: f64,
    /// Messages to us that the program saw.
    pub queries: u64,
    /// Those that it answered.
    pub answered: u64,
    /// Those that it passed to the slow path.
    pub passed: u64,
    /// Those that it dropped.
    pub dropped: u64,
    /// Messages that the slow path answered.
    pub answered_in_userspace: u64,
    /// Number of samples behind names, regions, mirrors and times, which are scaled to all queries.
    pub sampled: u64,
    /// Samples and captured packets that found no room.
    pub lost: u64,
    /// Response codes of both paths, exact.
    pub rcodes: Vec<Share>,
    /// Verdicts, exact.
    pub verdicts: Vec<Share>,
    /// Names and types.
    pub names: Vec<Share>,
    /// Regions: a pool, and its mirrors in the order of preference there.
    pub regions: Vec<Share>,
    /// Mirrors that were first in an answer.
    pub mirrors: Vec<Share>,
    /// The /24 and /56 that asked most; estimated, of all queries.
    pub prefixes: Vec<Share>,
    /// Time in the program.
    pub latency: Latency,
}

/// Queries that are alike.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Share {
    /// Their name, type, verdict...
    pub what: String,
    /// Their number.
    pub queries: u64,
}

/// Time in the program of the samples, from the headers of a packet for us to its verdict, in nanoseconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Latency {
    /// Median.
    pub p50_ns: u32,
    /// 90th percentile.
    pub p90_ns: u32,
    /// 99th percentile.
    pub p99_ns: u32,
    /// The longest.
    pub most_ns: u32,
    /// Number of samples below this time, and not below half of it.
    pub below_ns: BTreeMap<u32, u64>,
}

/// `GET /v1/capture?...`: queries that match all of these.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct CaptureQuery {
    /// Name in the question.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<Name>)]
    pub name: Option<String>,
    /// Name in the question, or one above it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<Name>)]
    pub below: Option<String>,
    /// Type in the question.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<RecordType>)]
    pub qtype: Option<String>,
    /// Source prefix of the query.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<Prefix>)]
    pub from: Option<IpNet>,
    /// Verdicts, as `/v1/stats` names them, with commas between them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verdicts: Option<String>,
    /// One in N, a power of two.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[param(minimum = 1)]
    pub every: Option<u32>,
}

/// A drop rule: queries that match all of these are dropped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BlockRule {
    /// Its number; none for a rule of the configuration.
    pub number: Option<u32>,
    /// Name in the question.
    pub name: Option<String>,
    /// Name in the question, or one above it.
    pub below: Option<String>,
    /// Type in the question.
    #[serde(rename = "type")]
    pub qtype: Option<String>,
    /// Source prefix of the query.
    #[schema(value_type = Option<Prefix>)]
    pub from: Option<IpNet>,
    /// Reason.
    pub note: String,
    /// Queries that it has dropped since it came into force.
    pub dropped: u64,
}

/// `PUT /v1/blocks`: a rule for each prefix, or one for anywhere.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BlockAdd {
    /// Name in the question.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Name>)]
    pub name: Option<String>,
    /// Name in the question, or one above it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Name>)]
    pub below: Option<String>,
    /// Type in the question.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<RecordType>)]
    pub qtype: Option<String>,
    /// Source prefixes of the queries; empty: any.
    #[serde(default, deserialize_with = "prefix::deserialize_all")]
    #[schema(value_type = Vec<Prefix>)]
    pub from: Vec<IpNet>,
    /// Reason.
    #[serde(default)]
    #[schema(max_length = 255, pattern = r"^[^\x00-\x1f\x7f-\x9f]*$")]
    pub note: String,
}

/// `DELETE /v1/blocks?...`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct BlockRemove {
    /// Numbers, with commas between them; without it, all that have one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[param(pattern = "^[0-9]+(,[0-9]+)*$")]
    pub numbers: Option<String>,
}

/// Result of a change of rules.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BlockChanged {
    /// Rules that were added or removed.
    pub rules: Vec<BlockRule>,
    /// Number of rules to add that were there already.
    pub before: u64,
    /// Number of rules in force now.
    pub all: u64,
}

/// A prefix and its mirror in a pool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Mapping {
    /// Address prefix.
    #[schema(value_type = Prefix)]
    pub prefix: IpNet,
    /// Mirror's id.
    pub mirror: String,
    /// Pool's id.
    pub pool: String,
}

/// `PUT /v1/map`
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MapSet {
    /// Address prefix, host bits zero.
    #[serde(deserialize_with = "prefix::deserialize")]
    #[schema(value_type = Prefix)]
    pub prefix: IpNet,
    /// Mirror's id.
    #[schema(value_type = Id)]
    pub mirror: String,
    /// Pool's id; without it, every pool that holds the mirror, but those of policy "all".
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Id>)]
    pub pool: Option<String>,
}

/// `DELETE /v1/map?...`
#[derive(Clone, Debug, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct MapDel {
    /// Address prefix, host bits zero.
    #[serde(deserialize_with = "prefix::deserialize")]
    #[param(value_type = Prefix)]
    pub prefix: IpNet,
    /// Pool's id; without it, every pool that has such an override.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<Id>)]
    pub pool: Option<String>,
}

/// Result of a `map set` or `map del`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MapChanged {
    /// The prefix.
    #[schema(value_type = Prefix)]
    pub prefix: IpNet,
    /// The change in each pool that it applies to.
    pub changes: Vec<Change>,
}

/// An override of one pool, before and after.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Change {
    /// Pool's id.
    pub pool: String,
    /// Mirror that the override named before; none: there was no override.
    pub before: Option<String>,
    /// Mirror that it names now; none: it is deleted.
    pub after: Option<String>,
}

/// Mirrors of a client in a pool, and the reason.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Lookup {
    /// Pool's id.
    pub pool: String,
    /// Mirrors of the IPv4 answer, in order.
    pub mirrors: Vec<String>,
    /// Mirrors of the IPv6 answer, in order.
    pub mirrors_v6: Vec<String>,
    /// ECS scope prefix length of the answer.
    pub scope: u8,
    /// Prefix that decided, if one did.
    #[schema(value_type = Option<Prefix>)]
    pub prefix: Option<IpNet>,
    /// Reason for the first mirror: `override`, `import`, `list`, `rule`, `nearest`, `weight`, `default`, `all`.
    pub source: String,
}

/// Result of a `map import`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Imported {
    /// Prefixes in force from it, by pool.
    pub prefixes: BTreeMap<String, u64>,
    /// Milliseconds to parse it.
    pub parse_ms: u64,
    /// Milliseconds to compile the plan.
    pub compile_ms: u64,
    /// Milliseconds to make it durable.
    pub store_ms: u64,
    /// Milliseconds to load and swap the program.
    pub publish_ms: u64,
    /// Bytes of kernel memory that the program's maps take.
    pub kernel_memory_bytes: u64,
}

/// A query's way to its answer, and the answer of the kernel's maps.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Explanation {
    /// Name of the query.
    pub name: String,
    /// Type of the query.
    #[serde(rename = "type")]
    pub qtype: String,
    /// Source address of the query.
    #[schema(value_type = Address)]
    pub client: IpAddr,
    /// Client subnet of the query, if it has one.
    #[schema(value_type = Option<Prefix>)]
    pub ecs: Option<IpNet>,
    /// Zone that the name is in.
    pub zone: Option<String>,
    /// The steered name that matches, if any; it may be a wildcard.
    pub steered: Option<String>,
    /// The answering pool's mirrors for the client that counts.
    pub lookup: Option<Lookup>,
    /// Addresses of the answer to A, in order.
    #[schema(value_type = Vec<Address>)]
    pub a: Vec<IpAddr>,
    /// Addresses of the answer to AAAA, in order.
    #[schema(value_type = Vec<Address>)]
    pub aaaa: Vec<IpAddr>,
    /// TTL of the pool's records.
    pub ttl: Option<u32>,
    /// From the question to the answer, in order.
    pub steps: Vec<Step>,
    /// The mirrors of the client's order, best first; empty where no pool answers.
    pub mirrors: Vec<Candidate>,
    /// The right answer, which the slow path gives.
    pub response: Response,
    /// Answer of the kernel's maps; none with mode off.
    pub kernel: Option<InKernel>,
    /// True if the kernel gives the right answer, or rightly leaves it to the slow path.
    pub agrees: bool,
    /// Summary of the query's fate, in one line.
    pub summary: String,
}

/// A step from a question to its answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Step {
    /// Kind of step: `zone`, `name`, `pool`, `client`, `override`, `database`...
    pub step: String,
    /// Finding of this step.
    pub says: String,
    /// Source of it, such as a file and line; may be empty.
    pub from: String,
    /// Its place in the kernel's tables; may be empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub detail: String,
}

/// A mirror of a client's order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Candidate {
    /// Its id.
    pub mirror: String,
    /// The nested pool that it was drawn from.
    pub group: Option<String>,
    /// Reason of its place in the order.
    pub because: String,
    /// True if it has records of the type.
    pub has_records: bool,
    /// True if the tables have it in service for this client.
    pub in_row: bool,
    /// True if it is in the answer.
    pub chosen: bool,
    /// True if new clients are sent to it.
    pub in_service: bool,
    /// Reason, in one line.
    pub why: String,
    /// The operator's word.
    pub admin: AdminState,
    /// Its weight in force.
    pub weight: u32,
}

/// A DNS response.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Response {
    /// Response code, by name.
    pub rcode: String,
    /// Answer records: type and data, in order.
    pub records: Vec<String>,
    /// TTL of the first of them.
    pub ttl: Option<u32>,
    /// Scope prefix length, where the query had a client subnet.
    pub scope: Option<u8>,
    /// TC is set: too large for UDP.
    pub truncated: bool,
    /// All of it, in hexadecimal.
    pub octets: String,
}

/// Answer of the kernel's maps.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct InKernel {
    /// Number of the plan in the kernel.
    pub generation: u64,
    /// Verdict of the fast path: see `GET /v1/stats`.
    pub verdict: String,
    /// Meaning of the verdict.
    pub meaning: String,
    /// The response; none if it passes the query to the slow path.
    pub response: Option<Response>,
    /// True if it was compared, which is impossible where each query draws a mirror.
    pub compared: bool,
    /// Difference from the right answer.
    pub difference: Option<String>,
}

/// `POST /v1/preview`
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Proposal {
    /// Absolute path of a configuration file, which the daemon reads.
    #[schema(pattern = "^/")]
    pub config: String,
}

/// Clients that another configuration would move, with today's overrides, imports and mirrors in service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Preview {
    /// The file.
    pub config: String,
    /// Moves, by steered names that move alike.
    pub names: Vec<NameMoves>,
    /// Names that would be steered.
    pub new_names: Vec<String>,
    /// Names that would not be any more.
    pub gone_names: Vec<String>,
    /// Pools that would be there.
    pub new_pools: Vec<String>,
    /// Pools that would not be any more.
    pub gone_pools: Vec<String>,
    /// Milliseconds to read and compile it.
    pub compile_ms: u64,
    /// Milliseconds to compare it.
    pub compare_ms: u64,
}

/// Moves of the clients of some names.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct NameMoves {
    /// The names.
    pub names: Vec<String>,
    /// Their pool now.
    pub from_pool: String,
    /// Pool that answers in its place now: itself, or its fallback.
    pub from_answered_by: String,
    /// Their pool in the other configuration.
    pub to_pool: String,
    /// Pool that would answer in its place.
    pub to_answered_by: String,
    /// Queries of the pool that were seen lately.
    pub queries_seen: u64,
    /// From which mirror to which; those who stay among them. Each share adds up to 1.
    pub moves: Vec<Move>,
}

/// Clients by the first mirror of their answers, now and then: of A records, or of AAAA where the pool
/// has none.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Move {
    /// Mirror of their answers now; none: no answer (SERVFAIL).
    pub from: Option<String>,
    /// Mirror that they would get; none: no answer (SERVFAIL).
    pub to: Option<String>,
    /// Share of the IPv4 address space, 0 to 1.
    pub v4: f64,
    /// Share of the IPv6 addresses that are assigned (2000::/3), 0 to 1.
    pub v6: f64,
    /// Share of the queries that were seen lately, if any were.
    pub queries: Option<f64>,
}

/// Result of a reload.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Reloaded {
    /// Number of the plan now in force.
    pub generation: u64,
    /// Warning about an interface or address that cannot be served, although the reload is in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warning: Option<String>,
}

/// `?pool=`
#[derive(Clone, Debug, Default, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct OfPool {
    /// Pool's id; without it, all of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<Id>)]
    pub pool: Option<String>,
}

/// `?zone=`
#[derive(Clone, Debug, Default, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct OfZone {
    /// Apex of a zone: its file alone is read again, or its primaries are asked. Without it, the
    /// configuration and everything that it names.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<Name>)]
    pub zone: Option<String>,
}

/// `GET /v1/map/lookup?...`
#[derive(Clone, Debug, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct LookupQuery {
    /// Address of the client.
    #[param(value_type = Address)]
    pub address: IpAddr,
    /// Pool's id; without it, all of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<Id>)]
    pub pool: Option<String>,
}

/// `PUT /v1/map/import?...`
#[derive(Clone, Debug, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ImportQuery {
    /// What messages call the list, such as the file's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Pool's id; without it, every pool that has a table.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<Id>)]
    pub pool: Option<String>,
}

/// `GET /v1/explain?...`
#[derive(Clone, Debug, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ExplainQuery {
    /// Name that is asked about.
    #[param(value_type = Name)]
    pub name: String,
    /// Address that the query comes from: the resolver's.
    #[param(value_type = Address)]
    pub client: IpAddr,
    /// Client subnet (RFC 7871) in the query, host bits zero; without it, the query has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<Prefix>)]
    pub ecs: Option<IpNet>,
    /// Type that is asked for; without it, A.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<RecordType>)]
    pub qtype: Option<String>,
}

/// A line of `GET /v1/map/export`, when JSON is asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Exported {
    /// Address prefix.
    pub prefix: String,
    /// Mirror's id; of several, the best first, with commas between them.
    pub mirror: String,
}

/// Body of every failed request.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// The error and its remedy, in one line.
    pub error: String,
}

/// The longest time that a drain or a weight may take, or a verdict may hold.
pub const MAX_TIME: Duration = Duration::from_secs(365 * 24 * 3600);
/// The greatest weight.
pub const MAX_WEIGHT: u32 = 1_000_000;

/// The longest TTL of a token, seconds.
pub const MAX_ACME_TTL: u32 = 86_400;

impl AcmeSet {
    /// What is wrong with it, if anything. Whether the name may have a token is judged where it is kept.
    pub fn check(&self) -> Result<(), String> {
        check_token(&self.token)?;
        if !(1..=MAX_ACME_TTL).contains(&self.ttl) {
            return Err(format!(
                "ttl: {} is out of range; write 1 to {MAX_ACME_TTL}, in seconds",
                self.ttl
            ));
        }
        check_time("for_ms", Some(self.for_ms), 1)
    }
}

/// What is wrong with a token, if anything.
pub fn check_token(token: &str) -> Result<(), String> {
    let is_printable = |octet: u8| (b' '..=b'~').contains(&octet);
    if (1..=255).contains(&token.len()) && token.bytes().all(is_printable) {
        return Ok(());
    }
    Err("token: write 1 to 255 characters of printable ASCII".to_owned())
}

impl SetAdmin {
    /// What is wrong with it, if anything.
    pub fn check(&self) -> Result<(), String> {
        if self.over_ms.is_some() && self.state != AdminState::Drain {
            return Err("over_ms goes with the state drain only: leave it out".to_owned());
        }
        check_time("over_ms", self.over_ms, 0)
    }
}

impl SetWeight {
    /// What is wrong with it, if anything.
    pub fn check(&self) -> Result<(), String> {
        if self.value > MAX_WEIGHT {
            return Err(format!(
                "value: {} is out of range; write 0 to {MAX_WEIGHT}",
                self.value
            ));
        }
        check_time("over_ms", self.over_ms, 0)
    }
}

impl SetHealth {
    /// What is wrong with it, if anything. How long a reason may be is judged where it is kept.
    pub fn check(&self) -> Result<(), String> {
        check_time("for_ms", self.for_ms, 1)
    }
}

fn check_time(key: &str, millis: Option<u64>, least: u64) -> Result<(), String> {
    let most = MAX_TIME.as_millis() as u64;
    match millis {
        Some(millis) if !(least..=most).contains(&millis) => Err(format!(
            "{key}: {millis} is out of range; write {least} to {most}, in milliseconds"
        )),
        _ => Ok(()),
    }
}

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
use crate::geo::network;

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
    /// What is not answered on, and why: an address that cannot be bound, or that there is none.
    #[serde(default)]
    pub not_listening: Vec<String>,
    /// UDP and TCP port.
    pub port: u16,
    /// Port of DNS over TLS; none: nobody listens there.
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
    /// Background tasks that have ended unexpectedly and were begun anew; empty as it should be.
    #[serde(default)]
    pub restarted: Vec<Restarted>,
    /// When the last reload, or reading changed GeoIP databases, failed: why. The plan before it is in
    /// force.
    pub last_error: Option<String>,
}

/// A background task that has ended unexpectedly, and was begun anew.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Restarted {
    /// Its name.
    pub name: String,
    /// How often.
    pub times: u64,
    /// Why it ended the last time.
    pub cause: String,
    /// When that was, in milliseconds since 1970.
    pub at_unix_ms: u64,
}

/// The kernel's table of names. All 0 with mode off.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NamesStatus {
    /// Names of all zones.
    pub served: u64,
    /// Names in the table.
    pub in_kernel: u64,
    /// Names in it at the most: `kernel.max_names`.
    pub most: u64,
    /// Of those in it, names of zones that are not there whole, which are there because they are asked often.
    pub promoted: u64,
    /// Names that have been promoted, since the start.
    pub promotions: u64,
    /// Names that have given their place up, since the start.
    pub demotions: u64,
}

/// An interface that the program is attached to.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Interface {
    /// Name.
    pub name: String,
    /// `native` or `generic`.
    pub mode: String,
    /// Whether the link is pinned, and so outlives the daemon.
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
    /// The pools it is in.
    pub pools: Vec<String>,
    /// Whether new clients are sent to it.
    pub in_service: bool,
    /// Why, in a line.
    pub why: String,
    /// What the operator says.
    pub admin: MirrorAdmin,
    /// Its weight.
    pub weight: MirrorWeight,
    /// What our own checks found, by address.
    pub checks: Vec<MirrorCheck>,
    /// Other monitors' verdicts in force.
    pub external: Vec<Verdict>,
    /// The daemon's clock when it said this.
    pub now_unix_ms: u64,
}

/// What the operator says of a mirror, over everything that checks say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum AdminState {
    /// Checks decide.
    Auto,
    /// In service, whatever checks say.
    Up,
    /// Out of service.
    Down,
    /// No new clients, at once or bit by bit.
    Drain,
}

/// What the operator says of a mirror, and since when.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct MirrorAdmin {
    /// What is said.
    pub state: AdminState,
    /// Since when; none with `auto`.
    pub since_unix_ms: Option<u64>,
    /// Share of new clients kept away by a drain now, 0 to 1.
    pub drained: f64,
    /// How long a drain takes in all; none without one.
    pub over_ms: Option<u64>,
    /// When a drain is at its end, or was.
    pub until_unix_ms: Option<u64>,
}

/// A mirror's weight among the others of its pools.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MirrorWeight {
    /// The configuration's.
    pub configured: u32,
    /// The one in force now, before any drain.
    pub in_force: u32,
    /// What the operator wants instead of the configuration's; none: nothing else.
    pub wanted: Option<u32>,
    /// Since when.
    pub since_unix_ms: Option<u64>,
    /// How long it takes from the weight before to the one wanted.
    pub over_ms: Option<u64>,
    /// When it is there, or was.
    pub until_unix_ms: Option<u64>,
}

/// What a check found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum CheckState {
    /// In order.
    Up,
    /// Not in order.
    Down,
    /// Not checked, or not yet.
    Unknown,
}

/// What our own checks found at an address.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct MirrorCheck {
    /// The address.
    #[schema(value_type = Address)]
    pub address: IpAddr,
    /// What was found.
    pub state: CheckState,
    /// Since when.
    pub since_unix_ms: Option<u64>,
    /// What the last check said.
    pub reason: Option<String>,
    /// How long it took.
    pub latency_ms: Option<f64>,
}

/// Another monitor's verdict on a mirror.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Verdict {
    /// Whether it found the mirror in order.
    pub up: bool,
    /// The address; none: all that have no verdict of their own.
    #[schema(value_type = Option<Address>)]
    pub address: Option<IpAddr>,
    /// Since when.
    pub since_unix_ms: u64,
    /// When it expires; none: never.
    pub until_unix_ms: Option<u64>,
    /// Why, in a line; may be empty.
    pub reason: String,
}

/// `PUT /v1/mirrors/{id}/admin`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SetAdmin {
    /// What the operator says.
    pub state: AdminState,
    /// How long a drain takes, in milliseconds, evenly; without it, it is complete at once.
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
    /// How long it takes from the weight in force, in milliseconds, evenly; without it, at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 0, maximum = 31_536_000_000_u64)]
    pub over_ms: Option<u64>,
}

/// `PUT /v1/mirrors/{id}/health`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SetHealth {
    /// Whether the mirror is in order.
    pub up: bool,
    /// An address of it; without one, all that have no verdict of their own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Address>)]
    pub address: Option<IpAddr>,
    /// After how many milliseconds the verdict expires; without it, never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 31_536_000_000_u64)]
    pub for_ms: Option<u64>,
    /// Why, in a line.
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
    /// What the operator should know of: such as a pool without a mirror in service.
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
    /// Whether it is a catalog (RFC 9432), and which kind.
    pub catalog: Option<Catalog>,
    /// The catalog that lists it.
    pub member_of: Option<String>,
    /// Where it comes from.
    #[serde(default)]
    pub role: ZoneRole,
    /// Whether it is signed. It is served without its signatures.
    #[serde(default)]
    pub signed: bool,
    /// Of a secondary: when a primary last had nothing newer. None: never.
    #[serde(default)]
    pub checked_unix_ms: Option<u64>,
    /// Of a secondary that has data: when it expires, if no primary is of help until then.
    #[serde(default)]
    pub expires_unix_ms: Option<u64>,
    /// The daemon's clock when it said this.
    #[serde(default)]
    pub now_unix_ms: u64,
}

/// Where a zone comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum ZoneRole {
    /// This server.
    #[default]
    Primary,
    /// Its primaries.
    Secondary,
}

/// What a catalog does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Catalog {
    /// The zones that it lists are served here.
    Consumer,
    /// It lists zones of this server.
    Producer,
}

/// A token of an ACME DNS-01 challenge (RFC 8555 section 8.4): a TXT record over a zone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AcmeToken {
    /// Owner of the TXT record.
    pub name: String,
    /// What it says.
    pub token: String,
    /// TTL, seconds.
    pub ttl: u32,
    /// When it goes.
    pub until_unix_ms: u64,
    /// Zone that it is put over; none: the configuration has none for it.
    pub zone: Option<String>,
    /// The daemon's clock when it said this.
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

/// What tokens a name has after a change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AcmeChanged {
    /// Owner of the TXT records.
    pub name: String,
    /// Its zone; none: the configuration has none any more.
    pub zone: Option<String>,
    /// Serial that the zone has come to; none: its answers are as they were.
    pub serial: Option<u32>,
    /// Tokens that are there now.
    pub tokens: Vec<AcmeToken>,
}

/// What comes bit by bit, until whoever asked goes.
pub type Stream = BoxStream<'static, Bytes>;

/// What was asked and answered in a second, or little more.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Top {
    /// How long it was.
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
    /// How many samples names, regions, mirrors and times are of; they are scaled to all queries.
    pub sampled: u64,
    /// Samples, and packets that are captured, for which there was no room.
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
    /// Networks, of 24 bits or 56, that asked most; estimated, of all queries.
    pub prefixes: Vec<Share>,
    /// How long the program took.
    pub latency: Latency,
}

/// Queries that are alike.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Share {
    /// In what.
    pub what: String,
    /// How many.
    pub queries: u64,
}

/// How long the program took for samples, from when a packet was known to be for us until there was a verdict, in
/// nanoseconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Latency {
    /// Median.
    pub p50_ns: u32,
    /// 90 of 100 took no longer.
    pub p90_ns: u32,
    /// 99 of 100.
    pub p99_ns: u32,
    /// The longest.
    pub most_ns: u32,
    /// How many took less than this, and no less than the half of it.
    pub below_ns: BTreeMap<u32, u64>,
}

/// `GET /v1/capture?...`: queries that are all that is said.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct CaptureQuery {
    /// The name that is asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<Name>)]
    pub name: Option<String>,
    /// The name, or one below it, that is asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<Name>)]
    pub below: Option<String>,
    /// The type that is asked for.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<RecordType>)]
    pub qtype: Option<String>,
    /// Where the query comes from.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<Prefix>)]
    pub from: Option<IpNet>,
    /// Verdicts, as `/v1/stats` names them, with commas between them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verdicts: Option<String>,
    /// One in so many, a power of two.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[param(minimum = 1)]
    pub every: Option<u32>,
}

/// A rule of what is dropped: queries that are all that it says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BlockRule {
    /// Its number; none: the configuration has it.
    pub number: Option<u32>,
    /// The name that is asked for.
    pub name: Option<String>,
    /// The name, or one below it, that is asked for.
    pub below: Option<String>,
    /// The type that is asked for.
    #[serde(rename = "type")]
    pub qtype: Option<String>,
    /// Where the query comes from.
    #[schema(value_type = Option<Prefix>)]
    pub from: Option<IpNet>,
    /// Why.
    pub note: String,
    /// Queries that it dropped since it is in force.
    pub dropped: u64,
}

/// `PUT /v1/blocks`: a rule for each prefix, or one for anywhere.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BlockAdd {
    /// The name that is asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Name>)]
    pub name: Option<String>,
    /// The name, or one below it, that is asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Name>)]
    pub below: Option<String>,
    /// The type that is asked for.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<RecordType>)]
    pub qtype: Option<String>,
    /// Where queries come from; empty: anywhere.
    #[serde(default, deserialize_with = "network::deserialize_all")]
    #[schema(value_type = Vec<Prefix>)]
    pub from: Vec<IpNet>,
    /// Why.
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

/// What came of a change of rules.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BlockChanged {
    /// Those that are new, or gone.
    pub rules: Vec<BlockRule>,
    /// How many of those to be added were there already.
    pub before: u64,
    /// How many are in force now.
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
    #[serde(deserialize_with = "network::deserialize")]
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
    #[serde(deserialize_with = "network::deserialize")]
    #[param(value_type = Prefix)]
    pub prefix: IpNet,
    /// Pool's id; without it, every pool that has such an override.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<Id>)]
    pub pool: Option<String>,
}

/// What a `map set` or `map del` changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MapChanged {
    /// The prefix.
    #[schema(value_type = Prefix)]
    pub prefix: IpNet,
    /// What it says now, in each pool that it applies to.
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

/// What a client gets from a pool, and what decided.
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
    /// What decided for the first mirror: `override`, `import`, `list`, `rule`, `nearest`, `weight`, `default`,
    /// `all`.
    pub source: String,
}

/// What a `map import` did.
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

/// What a query gets, and why; and what the maps in the kernel really answer.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Explanation {
    /// The name asked about.
    pub name: String,
    /// The type asked for.
    #[serde(rename = "type")]
    pub qtype: String,
    /// Who asks: the address that the query comes from.
    #[schema(value_type = Address)]
    pub client: IpAddr,
    /// Client subnet of the query, if it has one.
    #[schema(value_type = Option<Prefix>)]
    pub ecs: Option<IpNet>,
    /// Zone that the name is in.
    pub zone: Option<String>,
    /// The steered name that matches (a wildcard, maybe), if any.
    pub steered: Option<String>,
    /// What the pool that answers gives the client that counts.
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
    /// What ought to be answered: what the slow path does answer.
    pub response: Response,
    /// What the maps in the kernel answer; none with mode off.
    pub kernel: Option<InKernel>,
    /// Whether the kernel answers just so, or leaves it to the slow path where it should.
    pub agrees: bool,
    /// One line: what happens to such a query.
    pub summary: String,
}

/// A step from a question to its answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Step {
    /// What is found out: `zone`, `name`, `pool`, `client`, `override`, `database`...
    pub step: String,
    /// What is found.
    pub says: String,
    /// Where that stands, such as a file and line; may be empty.
    pub from: String,
    /// Where the kernel's tables have it, for those who know them; may be empty.
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
    /// What put it there.
    pub because: String,
    /// Whether it has records of the type.
    pub has_records: bool,
    /// Whether the tables have it in service for this client.
    pub in_row: bool,
    /// Whether it is in the answer.
    pub chosen: bool,
    /// Whether new clients are sent to it.
    pub in_service: bool,
    /// Why, in a line.
    pub why: String,
    /// What the operator says.
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

/// What the maps in the kernel answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct InKernel {
    /// Number of the plan in the kernel.
    pub generation: u64,
    /// What the fast path decides: see `GET /v1/stats`.
    pub verdict: String,
    /// What that means.
    pub meaning: String,
    /// The response; none if it passes the query up to the slow path.
    pub response: Option<Response>,
    /// Whether it was compared: where a mirror is drawn for each query anew it cannot be.
    pub compared: bool,
    /// How it differs from what ought to be.
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

/// What another configuration would move, with the overrides, imports and mirrors in service of now.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Preview {
    /// The file.
    pub config: String,
    /// What moves, by steered names that are alike in it.
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

/// What moves of the clients of some names.
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

/// What a reload did.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Reloaded {
    /// Number of the plan now in force.
    pub generation: u64,
    /// What went wrong after it came in force: an interface or an address that could not be served.
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
    /// What is wrong and what to do, in a line.
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

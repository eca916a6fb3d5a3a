//! What goes over the control socket: JSON shapes, and [`Service`], which answers them.
//!
//! - here: [`Service`], and how it fails
//! - `acme`: tokens of ACME challenges
//! - `block`: block rules
//! - `explain`: the way of a question to its answer
//! - `map`: prefixes, and the mirrors that they have
//! - `mirror`: mirrors, and what is said of them
//! - `preview`: what another configuration would move
//! - `status`: how the daemon is, and what it counted
//! - `watch`: who asks what: `top` and `capture`
//! - `zone`: zones

mod acme;
mod block;
mod explain;
mod map;
mod mirror;
mod preview;
mod status;
mod watch;
mod zone;

use std::net::IpAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

pub use acme::{AcmeChanged, AcmeClear, AcmeSet, AcmeToken, MAX_ACME_TTL, check_token};
pub use block::{BlockAdd, BlockChanged, BlockRemove, BlockRule};
pub use explain::{Candidate, ExplainQuery, Explanation, InKernel, Response, Step};
pub use map::{
    Change, Exported, ImportQuery, Imported, Lookup, LookupQuery, MapChanged, MapDel, MapSet,
    Mapping, OfPool,
};
pub use mirror::{
    AdminState, CheckState, MAX_WEIGHT, Mirror, MirrorAdmin, MirrorChanged, MirrorCheck,
    MirrorWeight, OfAddress, SetAdmin, SetHealth, SetWeight, Verdict,
};
pub use preview::{Move, NameMoves, Preview, Proposal};
pub use status::{AtlasStatus, Interface, NamesStatus, PoolStatus, Restarted, Stats, Status};
pub use watch::{CaptureQuery, Latency, Share, Stream, Top};
pub use zone::{Catalog, OfZone, Zone, ZoneRole};

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
    /// `GET /v1/blocks`: block rules, those of the configuration first.
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

/// Result of a reload.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Reloaded {
    /// Number of the plan now in force.
    pub generation: u64,
    /// Warning about an interface or address that cannot be served, although the reload is in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warning: Option<String>,
}

/// Body of every failed request.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// The error and its remedy, in one line.
    pub error: String,
}

/// The longest time that a drain or a weight may take, or a verdict may hold.
pub const MAX_TIME: Duration = Duration::from_secs(365 * 24 * 3600);

fn check_time(key: &str, millis: Option<u64>, least: u64) -> Result<(), String> {
    let most = MAX_TIME.as_millis() as u64;
    match millis {
        Some(millis) if !(least..=most).contains(&millis) => Err(format!(
            "{key}: {millis} is out of range; write {least} to {most}, in milliseconds"
        )),
        _ => Ok(()),
    }
}

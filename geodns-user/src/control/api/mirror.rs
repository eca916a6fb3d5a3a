//! Mirrors, and what is said of them.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::super::document::Address;
use super::check_time;

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

/// The greatest weight.
pub const MAX_WEIGHT: u32 = 1_000_000;

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

//! Zones.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::super::document::Name;

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

//! Prefixes, and the mirrors that they have.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::super::document::{Address, Id, Prefix};
use crate::base::prefix;

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

/// A line of `GET /v1/map/export`, when JSON is asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Exported {
    /// Address prefix.
    pub prefix: String,
    /// Mirror's id; of several, the best first, with commas between them.
    pub mirror: String,
}

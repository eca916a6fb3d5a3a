//! Block rules: which queries are dropped.

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::super::document::{Name, Prefix, RecordType};
use crate::base::prefix;

/// A block rule: queries that match all of these are dropped.
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

//! Who asks what: `top` and `capture`.

use std::collections::BTreeMap;

use bytes::Bytes;
use futures_util::stream::BoxStream;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::super::document::{Name, Prefix, RecordType};

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

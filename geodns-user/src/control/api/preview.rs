//! What another configuration would move.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

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

//! The clients that another configuration would move: `/v1/preview`.

use std::sync::Arc;

use async_trait::async_trait;
use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::client::{Client, Error, Reply};
use super::problem::{Answer, Body, Failure, Problem};

/// Answers these calls. The daemon implements it.
#[async_trait]
pub trait Service: Send + Sync + 'static {
    /// `POST /v1/preview`: what a configuration would move; nothing is put in force.
    async fn preview(&self, proposal: Proposal) -> Result<Preview, Failure>;
}

/// The calls.
pub fn routes(service: Arc<dyn Service>) -> OpenApiRouter {
    OpenApiRouter::new()
        .routes(routes!(preview))
        .with_state(service)
}

/// Reads and compiles another configuration, and lists the clients that it would move. Nothing is put in force.
#[utoipa::path(post, path = "/v1/preview", request_body = Proposal, responses(
    (status = 200, body = Preview), (status = "default", body = Problem)))]
async fn preview(
    State(service): State<Arc<dyn Service>>,
    Body(proposal): Body<Proposal>,
) -> Answer<Preview> {
    Ok(Json(service.preview(proposal).await?))
}

impl Client {
    /// `POST /v1/preview`
    pub async fn preview(&self, proposal: &Proposal) -> Result<Reply, Error> {
        self.post("/v1/preview", proposal).await
    }
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

#[cfg(test)]
mod tests {
    use super::super::tests::Memory;
    use super::*;

    #[async_trait]
    impl Service for Memory {
        async fn preview(&self, proposal: Proposal) -> Result<Preview, Failure> {
            Err(Failure::Invalid(format!(
                "{}: cannot read",
                proposal.config
            )))
        }
    }
}

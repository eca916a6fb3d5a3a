//! The fleet that the daemon is in: `/v1/fleet`.

use std::sync::Arc;

use async_trait::async_trait;
use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::client::{Client, Error, Reply, query};
use super::problem::{Answer, Failure, Problem, Query};

/// Answers these calls. The daemon implements it.
#[async_trait]
pub trait Service: Send + Sync + 'static {
    /// `GET /v1/fleet`: the nodes, and how this one follows the shared store.
    async fn fleet(&self) -> Result<Fleet, Failure>;
    /// `POST /v1/fleet/init`: makes the fleet, with what this node has.
    async fn fleet_init(&self) -> Result<Fleet, Failure>;
    /// `POST /v1/fleet/join`: joins the fleet, or shows what that would change.
    async fn fleet_join(&self, join: FleetJoin) -> Result<FleetJoined, Failure>;
    /// `POST /v1/fleet/leave`: leaves the fleet. What is in force stays.
    async fn fleet_leave(&self) -> Result<Fleet, Failure>;
    /// `POST /v1/fleet/merge`: gives the fleet what this node alone has changed.
    async fn fleet_merge(&self) -> Result<Fleet, Failure>;
    /// `POST /v1/fleet/drop`: takes back what this node alone has changed.
    async fn fleet_drop(&self) -> Result<Fleet, Failure>;
}

/// The calls.
pub fn routes(service: Arc<dyn Service>) -> OpenApiRouter {
    OpenApiRouter::new()
        .routes(routes!(fleet))
        .routes(routes!(fleet_init))
        .routes(routes!(fleet_join))
        .routes(routes!(fleet_leave))
        .routes(routes!(fleet_merge))
        .routes(routes!(fleet_drop))
        .with_state(service)
}

/// Shows the nodes of the fleet, and how this one follows the shared store.
#[utoipa::path(get, path = "/v1/fleet", responses(
    (status = 200, body = Fleet), (status = "default", body = Problem)))]
async fn fleet(State(service): State<Arc<dyn Service>>) -> Answer<Fleet> {
    Ok(Json(service.fleet().await?))
}

/// Makes the fleet in the store, with everything that this node has. The store must not have one yet.
#[utoipa::path(post, path = "/v1/fleet/init", responses(
    (status = 200, body = Fleet), (status = "default", body = Problem)))]
async fn fleet_init(State(service): State<Arc<dyn Service>>) -> Answer<Fleet> {
    Ok(Json(service.fleet_init().await?))
}

/// Joins the fleet in the store: everything that this node has is replaced. Without `yes`, shows what that would change.
#[utoipa::path(post, path = "/v1/fleet/join", params(FleetJoin), responses(
    (status = 200, body = FleetJoined), (status = "default", body = Problem)))]
async fn fleet_join(
    State(service): State<Arc<dyn Service>>,
    Query(join): Query<FleetJoin>,
) -> Answer<FleetJoined> {
    Ok(Json(service.fleet_join(join).await?))
}

/// Leaves the fleet. Everything that is in force here stays.
#[utoipa::path(post, path = "/v1/fleet/leave", responses(
    (status = 200, body = Fleet), (status = "default", body = Problem)))]
async fn fleet_leave(State(service): State<Arc<dyn Service>>) -> Answer<Fleet> {
    Ok(Json(service.fleet_leave().await?))
}

/// Gives the fleet everything that this node alone has changed.
#[utoipa::path(post, path = "/v1/fleet/merge", responses(
    (status = 200, body = Fleet), (status = "default", body = Problem)))]
async fn fleet_merge(State(service): State<Arc<dyn Service>>) -> Answer<Fleet> {
    Ok(Json(service.fleet_merge().await?))
}

/// Takes back everything that this node alone has changed.
#[utoipa::path(post, path = "/v1/fleet/drop", responses(
    (status = 200, body = Fleet), (status = "default", body = Problem)))]
async fn fleet_drop(State(service): State<Arc<dyn Service>>) -> Answer<Fleet> {
    Ok(Json(service.fleet_drop().await?))
}

impl Client {
    /// `GET /v1/fleet`
    pub async fn fleet(&self) -> Result<Reply, Error> {
        self.get("/v1/fleet").await
    }

    /// `POST /v1/fleet/init`
    pub async fn fleet_init(&self) -> Result<Reply, Error> {
        self.post("/v1/fleet/init", &()).await
    }

    /// `POST /v1/fleet/join`
    pub async fn fleet_join(&self, join: &FleetJoin) -> Result<Reply, Error> {
        self.post(&query("/v1/fleet/join", join), &()).await
    }

    /// `POST /v1/fleet/leave`
    pub async fn fleet_leave(&self) -> Result<Reply, Error> {
        self.post("/v1/fleet/leave", &()).await
    }

    /// `POST /v1/fleet/merge`
    pub async fn fleet_merge(&self) -> Result<Reply, Error> {
        self.post("/v1/fleet/merge", &()).await
    }

    /// `POST /v1/fleet/drop`
    pub async fn fleet_drop(&self) -> Result<Reply, Error> {
        self.post("/v1/fleet/drop", &()).await
    }
}

/// How a node follows the store of its fleet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum FleetState {
    /// It has all commits.
    Following,
    /// It reads what it has missed.
    Connecting,
    /// It is in no fleet yet.
    NotJoined,
    /// The store is of no use. Answers go on, edits are refused.
    Disconnected,
    /// An operator has to look at it. Answers go on, edits are refused.
    Stopped,
}

/// A fleet, as one of its nodes sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Fleet {
    /// Name of the fleet.
    pub name: String,
    /// Name of this node.
    pub node: String,
    /// How this node follows the store.
    pub state: FleetState,
    /// Why it does not follow it.
    pub why: Option<String>,
    /// Time since this node had all commits, milliseconds; none while it has them.
    pub stale_ms: Option<u64>,
    /// The last commit that is in force here.
    pub revision: u64,
    /// The first commit that is not in force here yet, and why.
    pub failed: Option<String>,
    /// Changes of this node alone.
    pub local: Vec<FleetChange>,
    /// Nodes that live, by name.
    pub nodes: Vec<FleetNode>,
}

/// A node of a fleet, as it says itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FleetNode {
    /// Its name.
    pub name: String,
    /// Whether it is the node that answers this.
    pub is_this: bool,
    /// The site that it is at.
    pub site: Option<String>,
    /// Version of geodns.
    pub version: String,
    /// The last commit of shared state that is in force there.
    pub revision: u64,
    /// Hash over its configuration, but for what is its own.
    pub config: String,
    /// Whether most nodes have another configuration.
    pub config_is_odd: bool,
    /// Hash over all that decides its answers.
    pub plan: String,
    /// Whether most nodes have another plan.
    pub plan_is_odd: bool,
    /// Number of changes that it alone has.
    pub local: u64,
    /// How it is announced.
    pub announce: Option<String>,
    /// Queries per second, rounded.
    pub queries_per_second: u64,
    /// When it said so, milliseconds since 1970 by its own clock.
    pub at_unix_ms: u64,
    /// Milliseconds that its clock was ahead of this node's then; negative: behind; none: not known.
    pub clock_ahead_ms: Option<i64>,
}

/// A thing that is, or would be, other than it was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FleetChange {
    /// Its key in the store.
    pub key: String,
    /// Its value in the fleet; none: it is not there.
    pub fleet: Option<String>,
    /// Its value on this node; none: it is not there.
    pub here: Option<String>,
}

/// `POST /v1/fleet/join`
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct FleetJoin {
    /// Joins. Otherwise nothing changes.
    pub yes: bool,
}

/// Outcome of `POST /v1/fleet/join`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FleetJoined {
    /// Whether this node has joined.
    pub joined: bool,
    /// Number of things that change.
    pub changes: u64,
    /// The first of them, 1,000 at the most.
    pub first: Vec<FleetChange>,
    /// Where the state of before is kept.
    pub copy: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::super::tests::Memory;
    use super::*;

    fn alone() -> Failure {
        Failure::Invalid("the configuration names no fleet".to_owned())
    }

    #[async_trait]
    impl Service for Memory {
        async fn fleet(&self) -> Result<Fleet, Failure> {
            Err(alone())
        }
        async fn fleet_init(&self) -> Result<Fleet, Failure> {
            Err(alone())
        }
        async fn fleet_join(&self, _: FleetJoin) -> Result<FleetJoined, Failure> {
            Err(alone())
        }
        async fn fleet_leave(&self) -> Result<Fleet, Failure> {
            Err(alone())
        }
        async fn fleet_merge(&self) -> Result<Fleet, Failure> {
            Err(alone())
        }
        async fn fleet_drop(&self) -> Result<Fleet, Failure> {
            Err(alone())
        }
    }
}

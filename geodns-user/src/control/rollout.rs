//! Rollouts of bundles: `/v1/fleet/rollout`.

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
    /// `GET /v1/fleet/rollout`: the rollout under way, or the last one, and those before.
    async fn rollout(&self) -> Result<Rollouts, Failure>;
    /// `POST /v1/fleet/rollout`: begins one.
    async fn apply(&self, apply: Apply) -> Result<Rollouts, Failure>;
    /// `POST /v1/fleet/rollback`: ends the one under way, or goes back to the bundle before.
    async fn rollback(&self) -> Result<Rollouts, Failure>;
    /// `POST /v1/fleet/diff`: files of a bundle that differ from what this node runs.
    async fn diff(&self, bundle: BundleFile) -> Result<BundleDiff, Failure>;
}

/// The calls.
pub fn routes(service: Arc<dyn Service>) -> OpenApiRouter {
    OpenApiRouter::new()
        .routes(routes!(rollout, apply))
        .routes(routes!(rollback))
        .routes(routes!(diff))
        .with_state(service)
}

/// Shows the rollout under way, or the last one, and those before.
#[utoipa::path(get, path = "/v1/fleet/rollout", responses(
    (status = 200, body = Rollouts), (status = "default", body = Problem)))]
async fn rollout(State(service): State<Arc<dyn Service>>) -> Answer<Rollouts> {
    Ok(Json(service.rollout().await?))
}

/// Begins to roll out a signed bundle. The answer comes at once, and the rollout goes on.
#[utoipa::path(post, path = "/v1/fleet/rollout", request_body = Apply, responses(
    (status = 200, body = Rollouts), (status = "default", body = Problem)))]
async fn apply(
    State(service): State<Arc<dyn Service>>,
    Body(apply): Body<Apply>,
) -> Answer<Rollouts> {
    Ok(Json(service.apply(apply).await?))
}

/// Takes the rollout under way back, or goes back to the bundle before the last one.
#[utoipa::path(post, path = "/v1/fleet/rollback", responses(
    (status = 200, body = Rollouts), (status = "default", body = Problem)))]
async fn rollback(State(service): State<Arc<dyn Service>>) -> Answer<Rollouts> {
    Ok(Json(service.rollback().await?))
}

/// Lists files of a bundle that differ from those that this node runs.
#[utoipa::path(post, path = "/v1/fleet/diff", request_body = BundleFile, responses(
    (status = 200, body = BundleDiff), (status = "default", body = Problem)))]
async fn diff(
    State(service): State<Arc<dyn Service>>,
    Body(bundle): Body<BundleFile>,
) -> Answer<BundleDiff> {
    Ok(Json(service.diff(bundle).await?))
}

impl Client {
    /// `GET /v1/fleet/rollout`
    pub async fn rollout(&self) -> Result<Reply, Error> {
        self.get("/v1/fleet/rollout").await
    }

    /// `POST /v1/fleet/rollout`
    pub async fn apply(&self, apply: &Apply) -> Result<Reply, Error> {
        self.post("/v1/fleet/rollout", apply).await
    }

    /// `POST /v1/fleet/rollback`
    pub async fn rollback(&self) -> Result<Reply, Error> {
        self.post("/v1/fleet/rollback", &()).await
    }

    /// `POST /v1/fleet/diff`
    pub async fn diff(&self, bundle: &BundleFile) -> Result<Reply, Error> {
        self.post("/v1/fleet/diff", bundle).await
    }
}

/// `POST /v1/fleet/rollout`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Apply {
    /// Absolute path of the bundle, which the daemon reads; its signature is in the file of that name with `.minisig`.
    #[schema(pattern = "^/")]
    pub file: String,
    /// Number of nodes that begin, or the name of the site whose nodes do.
    pub canary: String,
    /// Milliseconds that the canary is watched.
    pub wait_ms: u64,
    /// Milliseconds in which all nodes must have previewed the bundle, and those of a wave must run it.
    pub within_ms: u64,
    /// Share of the clients that may get another mirror, 0 to 1.
    #[schema(minimum = 0, maximum = 1)]
    pub max_change: f64,
    /// Shares of all nodes, after the canary.
    pub waves: Vec<f64>,
    /// Whether an older bundle, and one that moves more clients, is taken too.
    pub force: bool,
}

/// Rollouts of a fleet.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Rollouts {
    /// The bundle that this node runs; none: its own file.
    pub running: Option<String>,
    /// The rollout under way, or the last one.
    pub current: Option<Rollout>,
    /// Rollouts that are over, the last one first.
    pub history: Vec<Rollout>,
}

/// A rollout.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Rollout {
    /// Its number.
    pub number: u64,
    /// Id of the bundle.
    pub bundle: String,
    /// Serial of the bundle.
    pub serial: u64,
    /// Where it is: preview, wave 1 of 3, done, refused, back.
    pub stage: String,
    /// Why it was refused or taken back.
    pub why: Option<String>,
    /// Whether it has come to an end.
    pub is_over: bool,
    /// Whether all nodes run the bundle.
    pub is_done: bool,
    /// Nodes of the fleet, and what each of them says.
    pub nodes: Vec<RolloutNode>,
}

/// A node in a rollout.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RolloutNode {
    /// Its name.
    pub node: String,
    /// Its wave, from 1; none: it takes the bundle at the end.
    pub wave: Option<u64>,
    /// What it says.
    pub says: String,
}

/// `POST /v1/fleet/diff`
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BundleFile {
    /// Absolute path of the bundle, which the daemon reads.
    #[schema(pattern = "^/")]
    pub file: String,
}

/// Files of a bundle that differ from those that a node runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BundleDiff {
    /// The bundle that this node runs; none: its own file.
    pub running: Option<String>,
    /// Files that the bundle adds.
    pub added: Vec<String>,
    /// Files that it has no more.
    pub removed: Vec<String>,
    /// Files with another content.
    pub changed: Vec<String>,
    /// GeoIP databases that have another content on this node than when the bundle was made.
    pub databases: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::super::tests::Memory;
    use super::*;

    #[async_trait]
    impl Service for Memory {
        async fn rollout(&self) -> Result<Rollouts, Failure> {
            Ok(Rollouts::default())
        }

        async fn apply(&self, apply: Apply) -> Result<Rollouts, Failure> {
            Err(Failure::Invalid(format!("{}: cannot read", apply.file)))
        }

        async fn rollback(&self) -> Result<Rollouts, Failure> {
            Err(Failure::Invalid("no bundle".to_owned()))
        }

        async fn diff(&self, bundle: BundleFile) -> Result<BundleDiff, Failure> {
            Err(Failure::Invalid(format!("{}: cannot read", bundle.file)))
        }
    }
}

//! Reading the configuration, or a zone, again: `/v1/reload`.

use std::sync::Arc;

use async_trait::async_trait;
use axum::Json;
use axum::extract::State;
use hyper::Request;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::client::{Client, Error, Reply, empty, query};
use super::problem::{Answer, Failure, Problem, Query};
use super::values::Name;

/// Answers these calls. The daemon implements it.
#[async_trait]
pub trait Service: Send + Sync + 'static {
    /// `POST /v1/reload`: all of it, or one zone.
    async fn reload(&self, zone: Option<String>) -> Result<Reloaded, Failure>;
}

/// The calls.
pub fn routes(service: Arc<dyn Service>) -> OpenApiRouter {
    OpenApiRouter::new()
        .routes(routes!(reload))
        .with_state(service)
}

/// Reads the configuration and its files again. On any error nothing changes.
#[utoipa::path(post, path = "/v1/reload", params(OfZone), responses(
    (status = 200, body = Reloaded), (status = "default", body = Problem)))]
async fn reload(
    State(service): State<Arc<dyn Service>>,
    Query(of): Query<OfZone>,
) -> Answer<Reloaded> {
    Ok(Json(service.reload(of.zone).await?))
}

impl Client {
    /// `POST /v1/reload`
    pub async fn reload(&self, of: &OfZone) -> Result<Reply, Error> {
        let request = Request::post(query("/v1/reload", of));
        self.send(request, empty()).await
    }
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

/// `POST /v1/reload?...`
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

#[cfg(test)]
mod tests {
    use super::super::tests::Memory;
    use super::*;

    #[async_trait]
    impl Service for Memory {
        async fn reload(&self, _: Option<String>) -> Result<Reloaded, Failure> {
            Err(Failure::Internal("the disk is on fire".into()))
        }
    }
}

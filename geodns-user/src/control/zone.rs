//! Zones: `/v1/zones`.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::client::{Client, Error, Reply};
use super::problem::{Answer, Failure, Problem};

/// Answers these calls. The daemon implements it.
#[async_trait]
pub trait Service: Send + Sync + 'static {
    /// `GET /v1/zones`
    async fn zones(&self) -> Result<Vec<Zone>, Failure>;
}

/// The calls.
pub fn routes(service: Arc<dyn Service>) -> OpenApiRouter {
    OpenApiRouter::new()
        .routes(routes!(zones))
        .with_state(service)
}

/// Lists zones and their steered names.
#[utoipa::path(get, path = "/v1/zones", responses(
    (status = 200, body = Vec<Zone>), (status = "default", body = Problem)))]
async fn zones(State(service): State<Arc<dyn Service>>) -> Answer<Vec<Zone>> {
    Ok(Json(service.zones().await?))
}

impl Client {
    /// `GET /v1/zones`
    pub async fn zones(&self) -> Result<Reply, Error> {
        self.get("/v1/zones").await
    }
}

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

#[cfg(test)]
mod tests {
    use super::super::tests::Memory;
    use super::*;

    #[async_trait]
    impl Service for Memory {
        async fn zones(&self) -> Result<Vec<Zone>, Failure> {
            Ok(Vec::new())
        }
    }
}

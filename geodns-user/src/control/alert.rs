//! Alerts of other monitors, as they send them: `/v1/alerts/alertmanager`.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use axum::Json;
use axum::extract::{DefaultBodyLimit, State};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::problem::{Answer, Body, Failure, Problem, Query, Refusal};
use super::values::check_time;

/// Octets of a request, at the most.
const BODY_LIMIT: usize = 1 << 20;
/// Alerts of a request, at the most.
const MAX_ALERTS: usize = 1000;
/// How long an alert holds that says nothing of its end: longer than Alertmanager's `repeat_interval` is by default.
const HOLDS_MS: u64 = 6 * 3600 * 1000;

/// Answers these calls. The daemon implements it.
#[async_trait]
pub trait Service: Send + Sync + 'static {
    /// `POST /v1/alerts/alertmanager`: each alert is a verdict on its mirror, for this time if it says nothing of its end.
    async fn alerts(&self, alerts: Vec<Alert>, holds_ms: u64) -> Result<AlertsTaken, Failure>;
}

/// The calls.
pub fn routes(service: Arc<dyn Service>) -> OpenApiRouter {
    OpenApiRouter::new()
        .routes(routes!(alertmanager))
        .layer(DefaultBodyLimit::max(BODY_LIMIT))
        .with_state(service)
}

/// Takes alerts of Alertmanager, as its webhook sends them (version 4). One that fires, with a label `mirror` and
/// perhaps `address`, says that the mirror is down until it ends; one that is resolved takes that back.
#[utoipa::path(post, path = "/v1/alerts/alertmanager", params(AlertsQuery), request_body = Alerts, responses(
    (status = 200, body = AlertsTaken), (status = "default", body = Problem)))]
async fn alertmanager(
    State(service): State<Arc<dyn Service>>,
    Query(of): Query<AlertsQuery>,
    Body(alerts): Body<Alerts>,
) -> Answer<AlertsTaken> {
    check_time("for_ms", of.for_ms, 1).map_err(Refusal::invalid)?;
    if alerts.alerts.len() > MAX_ALERTS {
        return Err(Refusal::invalid(format!(
            "{} alerts; {MAX_ALERTS} is the most: set max_alerts in Alertmanager",
            alerts.alerts.len()
        )));
    }
    let holds_ms = of.for_ms.unwrap_or(HOLDS_MS);
    Ok(Json(service.alerts(alerts.alerts, holds_ms).await?))
}

/// `POST /v1/alerts/alertmanager?...`
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct AlertsQuery {
    /// Milliseconds that an alert holds which says nothing of its end. Default: 6 hours.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[param(minimum = 1, maximum = 31_536_000_000_u64)]
    pub for_ms: Option<u64>,
}

/// What Alertmanager sends; other fields do not matter.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Alerts {
    /// The alerts.
    pub alerts: Vec<Alert>,
}

/// An alert.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Alert {
    /// Whether it fires.
    pub status: AlertStatus,
    /// Labels; `mirror` and `address` matter, `alertname` becomes part of the reason.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Annotations; `summary` becomes part of the reason.
    #[serde(default)]
    pub annotations: BTreeMap<String, String>,
    /// Its end (RFC 3339), if that is known.
    #[serde(default, rename = "endsAt", skip_serializing_if = "Option::is_none")]
    pub ends_at: Option<String>,
}

/// Whether an alert fires.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum AlertStatus {
    /// Something is wrong.
    Firing,
    /// Not any more.
    Resolved,
}

/// The outcome of alerts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AlertsTaken {
    /// Number of verdicts that were set.
    pub set: u64,
    /// Number of verdicts that were taken back.
    pub cleared: u64,
    /// Number of alerts that are about no mirror, or geodns's own.
    pub ignored: u64,
    /// Labels `mirror` that no mirror has as its id.
    pub unknown: Vec<String>,
    /// Errors of the others, a line each.
    pub failed: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::super::tests::Memory;
    use super::*;

    #[async_trait]
    impl Service for Memory {
        async fn alerts(&self, alerts: Vec<Alert>, _: u64) -> Result<AlertsTaken, Failure> {
            Ok(AlertsTaken {
                set: alerts.len() as u64,
                ..AlertsTaken::default()
            })
        }
    }
}

//! Numbers for Prometheus: `/v1/metrics`.

use std::sync::Arc;

use async_trait::async_trait;
use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::problem::{Failure, Problem, Refusal};
use crate::metrics::text::Format;

/// Answers these calls. The daemon implements it.
#[async_trait]
pub trait Service: Send + Sync + 'static {
    /// `GET /v1/metrics`
    async fn metrics(&self, format: Format) -> Result<String, Failure>;
}

/// The calls.
pub fn routes(service: Arc<dyn Service>) -> OpenApiRouter {
    OpenApiRouter::new()
        .routes(routes!(metrics))
        .with_state(service)
}

/// Shows all metrics as text for Prometheus: in the older form, or as OpenMetrics if the header Accept asks for that.
#[utoipa::path(get, path = "/v1/metrics", responses(
    (status = 200, content(
        (String = "text/plain"),
        (String = "application/openmetrics-text"),
    )),
    (status = "default", body = Problem)))]
async fn metrics(
    State(service): State<Arc<dyn Service>>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let accept = headers.get(header::ACCEPT);
    let format = Format::of(accept.and_then(|accept| accept.to_str().ok()));
    let text = service.metrics(format).await?;
    Ok(([(header::CONTENT_TYPE, format.content_type())], text).into_response())
}

#[cfg(test)]
mod tests {
    use super::super::tests::Memory;
    use super::*;

    #[async_trait]
    impl Service for Memory {
        async fn metrics(&self, format: Format) -> Result<String, Failure> {
            Ok(format!("{format:?}"))
        }
    }
}

//! Metrics for whoever asks: the text, and a router that has `GET /metrics` and nothing else.
//!
//! Strangers may reach the router ([`http`](crate::http) bounds what they can do). One text is made at a time, so that
//! those who ask without end take no more than one core from others.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::sync::Mutex;
use tokio::task::spawn_blocking;

use super::snapshot::Snapshot;
use super::text::{self, Format};

/// Reads the values of all metrics.
pub type Read = Arc<dyn Fn() -> Snapshot + Send + Sync>;

/// Makes the text of all metrics.
pub struct Exporter {
    read: Read,
    writing: Mutex<()>,
}

impl Exporter {
    /// One that writes what `read` gives.
    pub fn new(read: Read) -> Self {
        Self {
            read,
            writing: Mutex::default(),
        }
    }

    /// All metrics as text. It reads and writes on a thread that may block.
    pub async fn text(&self, format: Format) -> Result<String, String> {
        let _alone = self.writing.lock().await;
        let read = Arc::clone(&self.read);
        let written = spawn_blocking(move || text::write(read(), format));
        let written = written.await.map_err(|error| error.to_string())?;
        written.map_err(|error| error.to_string())
    }

    /// The router for Prometheus.
    pub fn router(self: Arc<Self>) -> Router {
        Router::new()
            .route("/metrics", get(metrics))
            .with_state(self)
    }
}

async fn metrics(State(exporter): State<Arc<Exporter>>, headers: HeaderMap) -> Response {
    let accept = headers.get(header::ACCEPT);
    let format = Format::of(accept.and_then(|accept| accept.to_str().ok()));
    match exporter.text(format).await {
        Ok(text) => ([(header::CONTENT_TYPE, format.content_type())], text).into_response(),
        Err(error) => {
            tracing::warn!("metrics cannot be written: {error}");
            (
                StatusCode::INTERNAL_SERVER_ERROR,
                "the log has the reason\n",
            )
                .into_response()
        }
    }
}

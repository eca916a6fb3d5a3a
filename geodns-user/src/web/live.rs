//! Numbers that a browser gets each second, as server-sent events. All streams share one reading of the counters.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::LazyLock;

use axum::body::Body;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream;
use tokio::sync::Semaphore;

use super::Shared;

/// Streams at a time, at the most. More browsers are told to come back: their numbers stay as the page had them.
const STREAMS: usize = 64;

static FREE: LazyLock<Arc<Semaphore>> = LazyLock::new(|| Arc::new(Semaphore::new(STREAMS)));

/// `GET /live`
pub async fn stream(State(service): State<Shared>) -> Response {
    let Ok(permit) = Arc::clone(&FREE).try_acquire_owned() else {
        let wait = [(header::RETRY_AFTER, "30")];
        return (
            StatusCode::SERVICE_UNAVAILABLE,
            wait,
            "too many dashboards\n",
        )
            .into_response();
    };
    let mut numbers = service.live();
    numbers.mark_changed();
    let events = stream::unfold((numbers, permit), |(mut numbers, permit)| async move {
        numbers.changed().await.ok()?;
        let live = Arc::clone(&numbers.borrow_and_update());
        let json = serde_json::to_string(&*live).unwrap_or_default();
        let event = Bytes::from(format!("data: {json}\n\n"));
        Some((Ok::<_, Infallible>(event), (numbers, permit)))
    });
    let kind = [(header::CONTENT_TYPE, "text/event-stream")];
    (kind, Body::from_stream(events)).into_response()
}

//! The points of a plot.

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};

use super::Shared;
use crate::control::problem::{Answer, Query};
use crate::observe::trends::Span;

/// The query of a plot.
#[derive(Debug, Default, Deserialize)]
pub struct PlotQuery {
    #[serde(default)]
    span: Span,
}

/// Columns of a plot: seconds since 1970, and messages a second.
#[derive(Debug, Default, Serialize)]
pub struct Points {
    seconds: u64,
    at: Vec<u64>,
    kernel: Vec<f64>,
    slow: Vec<f64>,
    dropped: Vec<f64>,
}

/// `GET /trends.json`
pub async fn points(
    State(service): State<Shared>,
    Query(query): Query<PlotQuery>,
) -> Answer<Points> {
    let mut points = Points {
        seconds: query.span.points().0,
        ..Points::default()
    };
    let tenths = |rate: f64| (rate * 10.0).round() / 10.0;
    for (at, rates) in service.trends().rates(query.span) {
        points.at.push(at);
        points.kernel.push(tenths(rates.kernel));
        points.slow.push(tenths(rates.slow));
        points.dropped.push(tenths(rates.dropped));
    }
    Ok(Json(points))
}

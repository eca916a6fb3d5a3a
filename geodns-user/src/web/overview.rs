//! The first page: the world by mirrors, totals, plots, the server.

use askama::Template;
use axum::extract::State;
use serde::Deserialize;

use super::Shared;
use super::events::{Line, last};
use super::map::Picture;
use super::page::{Frame, Note, Page, notes, render};
use super::text::{clock, count, duration, percent, rate};
use super::view::{Lack, Live, Map};
use crate::control::problem::Query;
use crate::control::status::Status;
use crate::observe::trends::Span;

/// Rows of the table that stands in for a plot, at the most.
const ROWS: usize = 12;

/// The query of the page.
#[derive(Debug, Default, Deserialize)]
pub struct Asked {
    pool: Option<String>,
    #[serde(default)]
    span: Span,
}

#[derive(Template)]
#[template(path = "overview.html")]
struct Overview<'a> {
    frame: Frame,
    notes: Vec<Note>,
    totals: Totals,
    map: &'a Map,
    picture: Picture<'a>,
    described: String,
    lack: Option<&'static str>,
    span: &'static str,
    spans: [(&'static str, bool); 3],
    rows: Vec<Row>,
    events: Vec<Line>,
    status: &'a Status,
    listen: String,
    up: String,
    zones: String,
}

/// Numbers of the last second, which the browser replaces each second.
struct Totals {
    kernel: String,
    slow: String,
    dropped: String,
    share: String,
    in_service: usize,
    mirrors: usize,
    answered: String,
}

impl Totals {
    fn of(live: &Live) -> Self {
        Self {
            kernel: rate(live.rates.kernel),
            slow: rate(live.rates.slow),
            dropped: rate(live.rates.dropped),
            share: live.kernel_share.map_or_else(|| "–".to_owned(), percent),
            in_service: live.in_service,
            mirrors: live.mirrors,
            answered: count(live.answered),
        }
    }
}

/// A row of the table of values.
struct Row {
    at: String,
    kernel: String,
    slow: String,
    dropped: String,
}

impl Picture<'_> {
    /// Whether some places get no answer.
    fn has_no_answer(&self) -> bool {
        self.areas.iter().any(|area| area.class == "none")
    }
}

/// `GET /`
pub async fn page(State(service): State<Shared>, Query(asked): Query<Asked>) -> Page {
    let status = service.status().await?;
    let map = service.map(asked.pool).await?;
    let live = service.live().borrow().clone();
    let trends = service.trends();
    let rates = trends.rates(asked.span).rev().take(ROWS);
    let rows = rates.map(|(at, rates)| Row {
        at: clock(at),
        kernel: rate(rates.kernel),
        slow: rate(rates.slow),
        dropped: rate(rates.dropped),
    });
    let picture = Picture::of(&map);
    let counted = picture.mirrors.iter().filter(|mirror| mirror.cells > 0);
    let counted: Vec<_> = counted
        .map(|mirror| format!("{} {}", mirror.marker.id, mirror.cells))
        .collect();
    render(&Overview {
        frame: Frame::of("/"),
        notes: notes(&status),
        totals: Totals::of(&live),
        zones: match status.names.in_kernel {
            0 => count(status.zones),
            in_kernel => format!(
                "{}, {} names, {} in the kernel",
                count(status.zones),
                count(status.names.served),
                count(in_kernel)
            ),
        },
        described: format!("Cells of two degrees by their mirror: {}.", counted.join(", ")),
        lack: map.lacks.map(|lack| match lack {
            Lack::Time => "The places of addresses are being read from the databases; come back in a moment.",
            Lack::Locations => {
                "No GeoIP database has locations, so the map shows no clients: geoip.databases names some."
            }
            Lack::Pool => "There is no pool.",
        }),
        picture,
        map: &map,
        span: asked.span.name(),
        spans: Span::ALL.map(|span| (span.name(), span == asked.span)),
        rows: rows.collect(),
        events: last(&service, None).await,
        listen: listen(&status),
        up: duration(status.uptime_seconds * 1000),
        status: &status,
    })
}

fn listen(status: &Status) -> String {
    let addresses: Vec<_> = status.listen.iter().map(ToString::to_string).collect();
    match &*addresses {
        [] => "nothing".to_owned(),
        addresses => format!("{}, port {}", addresses.join(", "), status.port),
    }
}

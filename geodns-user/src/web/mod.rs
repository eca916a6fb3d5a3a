//! The dashboard: pages over HTTP that show the server and change nothing.
//!
//! It stands on the traits of [`control`](crate::control), and mounts routes of its own, all of them GET: no route that
//! changes anything is compiled into it. Pages are whole without JavaScript, but for plots and live numbers. Everything
//! that they need is in the binary, and the Content-Security-Policy lets a browser load nothing else.
//!
//! - [`view`]: what pages show beside the calls of the API; the daemon implements it
//! - `access`: the token of visitors
//! - `asset`: files that pages load
//! - `text`: numbers and times as people read them
//! - `events`: the last events, as a list
//! - `map`: the map of the world as SVG; `timeline`: a mirror's time in service as SVG
//! - `page`: parts that all pages have
//! - `overview`, `mirrors`, `zones`, `explain`, `preview`, `interfaces`: the pages
//! - `live`: numbers that a browser gets each second; `plot`: the points of a plot

mod access;
mod asset;
mod events;
mod explain;
mod interfaces;
mod live;
mod map;
mod mirrors;
mod overview;
mod page;
mod plot;
mod preview;
mod text;
mod timeline;
pub mod view;
mod zones;

use std::io::Write;
use std::sync::Arc;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::routing::get;
use flate2::Compression;
use flate2::write::GzEncoder;

use crate::config::Token;
use crate::control::{event, explain as explained, mirror, status, zone};

/// Octets of a page, at the most: more is sent as it is.
const MOST: usize = 16 << 20;

/// Everything that pages ask for. The daemon implements it.
pub trait Service:
    status::Service
    + mirror::Service
    + zone::Service
    + event::Service
    + explained::Service
    + view::Service
{
}

impl<T> Service for T where
    T: status::Service
        + mirror::Service
        + zone::Service
        + event::Service
        + explained::Service
        + view::Service
{
}

/// The service as handlers have it.
type Shared = Arc<dyn Service>;

/// Headers of every response. Pages load from this server alone, and no other page shows them in a frame.
const HEADERS: [(HeaderName, &str); 5] = [
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    ),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "no-referrer"),
    (
        HeaderName::from_static("cross-origin-resource-policy"),
        "same-origin",
    ),
];

/// All pages, for visitors with this token if there is one.
pub fn pages(service: Arc<dyn Service>, token: Option<Token>) -> Router {
    let router = Router::new()
        .route("/", get(overview::page))
        .route("/map.json", get(map::json))
        .route("/mirrors", get(mirrors::list))
        .route("/mirrors/{id}", get(mirrors::page))
        .route("/zones", get(zones::page))
        .route("/explain", get(explain::page))
        .route("/preview", get(preview::page))
        .route("/interfaces", get(interfaces::page))
        .route("/live", get(live::stream))
        .route("/trends.json", get(plot::points))
        .route("/assets/{name}", get(asset::file))
        .fallback(page::no_page)
        .with_state(service);
    let router = match token {
        Some(token) => router.layer(middleware::from_fn_with_state(
            Arc::new(access::Door::new(token)),
            access::check,
        )),
        None => router,
    };
    router.layer(middleware::from_fn(finish))
}

/// Compresses a page, and adds the headers of every response.
async fn finish(request: Request, next: Next) -> Response {
    let takes_gzip = takes_gzip(request.headers());
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    for (name, value) in HEADERS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    if !headers.contains_key(header::CACHE_CONTROL) {
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
    let kind = headers.get(header::CONTENT_TYPE);
    let is_text = kind.is_some_and(|kind| {
        let kind = kind.as_bytes();
        kind.starts_with(b"text/html") || kind.starts_with(b"application/json")
    });
    let is_plain = !headers.contains_key(header::CONTENT_ENCODING);
    if !takes_gzip || !is_text || !is_plain {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    let Ok(text) = to_bytes(body, MOST).await else {
        return Response::from_parts(parts, Body::empty());
    };
    let headers = &mut parts.headers;
    headers.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
    headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    headers.remove(header::CONTENT_LENGTH);
    Response::from_parts(parts, Body::from(gzip(&text, Compression::fast())))
}

fn takes_gzip(headers: &HeaderMap) -> bool {
    let accepted = headers.get(header::ACCEPT_ENCODING);
    let accepted = accepted.and_then(|accepted| accepted.to_str().ok());
    let accepted = accepted.unwrap_or_default();
    accepted.split(',').any(|coding| {
        let mut parts = coding.split(';').map(str::trim);
        parts.next() == Some("gzip") && !parts.any(|part| matches!(part, "q=0" | "q=0.0"))
    })
}

fn gzip(octets: &[u8], level: Compression) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), level);
    // Writing to memory does not fail.
    let _ = encoder.write_all(octets);
    encoder.finish().unwrap_or_default()
}

//! The visitor's own pages: the mirrors of a pool, sorted for whoever asks by the decision that DNS gives.
//!
//! - here: the routes, who the visitor is, and what is refused
//! - `visit`: the mirrors for one visitor
//! - `forms`: lists in the forms of pacman, dnf and apt, metalinks, JSON
//! - `page`: the page for people
//! - `rate`: requests a second by prefix
//!
//! The [`Listener`](crate::http::Listener) has no route that changes anything, and knows nothing of the API. Everything that a
//! visitor says is bounded, and escaped where it is shown.

mod forms;
mod page;
mod rate;
mod visit;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::extract::rejection::QueryRejection;
use axum::extract::{ConnectInfo, Query, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use ipnet::IpNet;
use serde::Deserialize;

use self::forms::Form;
use self::rate::Rates;
use self::visit::Filter;
pub use self::visit::{Listed, Visit};

/// The longest path of a file, in octets.
const MAX_PATH: usize = 1024;
/// Mirrors in the `Link` headers of a redirect, at the most.
const MAX_LINKS: usize = 10;
/// No script, no frame, and nothing from elsewhere.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Where the pages have the mirrors from, and their settings.
pub trait Source: Send + Sync {
    /// Settings in force; `None`: there are no pages.
    fn settings(&self) -> Option<Settings>;
    /// The mirrors for a visitor; `None`: there are no pages.
    fn visit(&self, client: IpAddr) -> Option<Visit>;
}

/// Settings that a reload may change.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Proxies whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Arc<[IpNet]>,
    /// Requests a second of each /24 and /56; 0: no limit.
    pub rate: u32,
}

struct Pages {
    source: Arc<dyn Source>,
    rates: Rates,
}

/// The visitor whom a request is from.
#[derive(Clone, Copy)]
struct Visitor(IpAddr);

/// The routes.
pub fn router(source: Arc<dyn Source>) -> Router {
    let pages = Arc::new(Pages {
        source,
        rates: Rates::default(),
    });
    Router::new()
        .route("/", get(index))
        .route("/mirrors.json", get(json))
        .route("/mirrorlist", get(list))
        .route("/metalink", get(metalink))
        .route("/to/{*path}", get(redirect))
        .layer(middleware::from_fn_with_state(Arc::clone(&pages), admit))
        .with_state(pages)
}

/// Finds out who the visitor is, keeps the limit, and adds the headers that every answer has.
async fn admit(State(pages): State<Arc<Pages>>, mut request: Request, next: Next) -> Response {
    let Some(settings) = pages.source.settings() else {
        return NO_PAGES.into_response();
    };
    let peer = request.extensions().get::<ConnectInfo<SocketAddr>>();
    let Some(peer) = peer.map(|ConnectInfo(peer)| peer.ip().to_canonical()) else {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    let visitor = visitor(peer, request.headers(), &settings.trusted_proxies);
    if !pages.rates.take(visitor, settings.rate, Instant::now()) {
        let mut refused = (StatusCode::TOO_MANY_REQUESTS, "too many requests\n").into_response();
        let later = HeaderValue::from_static("1");
        refused.headers_mut().insert(header::RETRY_AFTER, later);
        return refused;
    }
    request.extensions_mut().insert(Visitor(visitor));
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "no-referrer"),
        // Each visitor has an answer of his own.
        (header::CACHE_CONTROL, "private, max-age=30"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

/// The visitor: who is connected, or the last address of `X-Forwarded-For` that is no trusted proxy, if one of these is
/// connected. What stands before it may be anything.
fn visitor(peer: IpAddr, headers: &HeaderMap, trusted: &[IpNet]) -> IpAddr {
    let is_trusted = |address: &IpAddr| trusted.iter().any(|net| net.contains(address));
    if !is_trusted(&peer) {
        return peer;
    }
    let mut visitor = peer;
    let values: Vec<&HeaderValue> = headers.get_all("x-forwarded-for").iter().collect();
    for value in values.into_iter().rev() {
        let Ok(value) = value.to_str() else {
            return visitor;
        };
        for hop in value.rsplit(',') {
            let Ok(hop) = hop.trim().parse::<IpAddr>() else {
                return visitor;
            };
            visitor = hop.to_canonical();
            if !is_trusted(&visitor) {
                return visitor;
            }
        }
    }
    visitor
}

/// Why a request has no answer.
type Refusal = (StatusCode, &'static str);

const NO_PAGES: Refusal = (StatusCode::NOT_FOUND, "no pages here\n");
const NO_MIRROR: Refusal = (StatusCode::NOT_FOUND, "no mirror in service matches\n");
const BAD_QUERY: Refusal = (
    StatusCode::BAD_REQUEST,
    "the query may have for, path, country and not\n",
);
const BAD_PATH: Refusal = (
    StatusCode::BAD_REQUEST,
    "path: write letters, digits and what a URL's path may have, without \"..\"\n",
);

type FromPages = State<Arc<Pages>>;
type FromVisitor = axum::Extension<Visitor>;
type FromQuery = Result<Query<Wanted>, QueryRejection>;

impl Pages {
    fn visit(&self, Visitor(client): Visitor) -> Result<Visit, Refusal> {
        self.source.visit(client).ok_or(NO_PAGES)
    }
}

/// A body, and what it is.
fn of_type(kind: &'static str, body: String) -> Response {
    let kind = HeaderValue::from_static(kind);
    ([(header::CONTENT_TYPE, kind)], body).into_response()
}

/// A template that fails, which none does.
fn not_made(error: askama::Error) -> Refusal {
    tracing::error!("a page for a visitor cannot be made: {error}");
    (
        StatusCode::INTERNAL_SERVER_ERROR,
        "the page cannot be made\n",
    )
}

/// `GET /`
async fn index(
    State(pages): FromPages,
    axum::Extension(from): FromVisitor,
) -> Result<Response, Refusal> {
    let page = page::page(&pages.visit(from)?).map_err(not_made)?;
    Ok(of_type("text/html; charset=utf-8", page))
}

/// `GET /mirrors.json`
async fn json(
    State(pages): FromPages,
    axum::Extension(from): FromVisitor,
) -> Result<Response, Refusal> {
    let json = forms::json(&pages.visit(from)?);
    Ok(of_type("application/json", json))
}

/// The query of a list.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    /// Form: `plain`, `pacman`, `dnf` or `apt`; of a metalink, `dnf` or nothing.
    #[serde(rename = "for")]
    form: Option<String>,
    /// Path of the file below each mirror's URL.
    path: Option<String>,
    /// Countries of mirrors, with commas between.
    country: Option<String>,
    /// Ids of mirrors that are left out, with commas between.
    not: Option<String>,
}

impl Wanted {
    fn filter(&self) -> Filter<'_> {
        Filter {
            countries: self.country.as_deref(),
            not: self.not.as_deref(),
        }
    }

    /// The path, as it is to stand behind a mirror's URL.
    fn path(&self) -> Result<Option<&str>, Refusal> {
        let path = self
            .path
            .as_deref()
            .map(|path| path.trim_start_matches('/'));
        match path {
            Some(path) if !is_path(path) => Err(BAD_PATH),
            path => Ok(path),
        }
    }
}

/// Whether a text can be the path of a file below a mirror's URL, and leads nowhere else.
fn is_path(path: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_graphic() && !b"?#\"'<>\\^`{|}".contains(&byte);
    let decoded = path.to_ascii_lowercase();
    let decoded = decoded
        .replace("%2e", ".")
        .replace("%2f", "/")
        .replace("%5c", "/");
    let mut parts = decoded.split('/');
    path.len() <= MAX_PATH
        && path.bytes().all(plain)
        && !parts.any(|part| part == "." || part == "..")
}

/// `GET /mirrorlist?for=&path=&country=&not=`
async fn list(
    State(pages): FromPages,
    axum::Extension(from): FromVisitor,
    wanted: FromQuery,
) -> Result<Response, Refusal> {
    const BAD_FORM: Refusal = (
        StatusCode::BAD_REQUEST,
        "for: write plain, pacman, dnf or apt\n",
    );
    let Query(wanted) = wanted.map_err(|_| BAD_QUERY)?;
    let form = Form::named(wanted.form.as_deref().unwrap_or("plain")).ok_or(BAD_FORM)?;
    let path = wanted.path()?;
    let text = forms::list(&pages.visit(from)?, form, path, wanted.filter());
    if text.is_empty() {
        return Err(NO_MIRROR);
    }
    Ok(of_type("text/plain; charset=utf-8", text))
}

/// `GET /metalink?path=&for=`
async fn metalink(
    State(pages): FromPages,
    axum::Extension(from): FromVisitor,
    wanted: FromQuery,
) -> Result<Response, Refusal> {
    const BAD_FORM: Refusal = (StatusCode::BAD_REQUEST, "for: write dnf, or leave it out\n");
    const NO_FILE: Refusal = (StatusCode::BAD_REQUEST, "path: name the file\n");
    let Query(wanted) = wanted.map_err(|_| BAD_QUERY)?;
    let (for_dnf, kind) = match wanted.form.as_deref() {
        None => (false, "application/metalink4+xml"),
        Some("dnf") => (true, "application/metalink+xml"),
        Some(_) => return Err(BAD_FORM),
    };
    let is_file = |path: &&str| !path.is_empty() && !path.ends_with('/');
    let path = wanted.path()?.filter(is_file).ok_or(NO_FILE)?;
    let visit = pages.visit(from)?;
    let text = forms::metalink(&visit, path, wanted.filter(), for_dnf).map_err(not_made)?;
    Ok(of_type(kind, text.ok_or(NO_MIRROR)?))
}

/// `GET /to/PATH`
async fn redirect(
    State(pages): FromPages,
    axum::Extension(from): FromVisitor,
    uri: Uri,
) -> Result<Response, Refusal> {
    // As it was written: the visitor's escapes are the mirror's.
    let path = uri.path().strip_prefix("/to/").unwrap_or_default();
    if !is_path(path) {
        return Err(BAD_PATH);
    }
    let visit = pages.visit(from)?;
    let usable = visit.usable(Filter::default()).take(MAX_LINKS);
    let links = usable.enumerate().map(|(place, (mirror, url))| {
        let geo = mirror.country.as_deref().map(str::to_lowercase);
        let geo = geo.map_or(String::new(), |geo| format!("; geo={geo}"));
        format!("<{url}{path}>; rel=duplicate; pri={}{geo}", place + 1)
    });
    let links: Vec<String> = links.collect();
    let (_, url) = visit.usable(Filter::default()).next().ok_or(NO_MIRROR)?;
    let mut response = StatusCode::FOUND.into_response();
    let headers = response.headers_mut();
    let bad = |_| BAD_PATH;
    let location = HeaderValue::try_from(format!("{url}{path}")).map_err(bad)?;
    headers.insert(header::LOCATION, location);
    let links = HeaderValue::try_from(links.join(", ")).map_err(bad)?;
    headers.insert(header::LINK, links);
    Ok(response)
}

#[cfg(test)]
mod tests;

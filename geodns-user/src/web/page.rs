//! Parts that all pages have.

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::{Shared, asset, text};
use crate::base::clock::now_unix_ms;
use crate::control::problem::Failure;
use crate::control::status::Status;

use askama::Template;

/// The pages in the navigation.
const PAGES: [(&str, &str); 6] = [
    ("/", "World"),
    ("/mirrors", "Mirrors"),
    ("/zones", "Zones"),
    ("/explain", "Explain"),
    ("/preview", "Preview"),
    ("/interfaces", "Interfaces"),
];

/// The frame around a page.
pub struct Frame {
    /// Address of the page in the navigation.
    path: &'static str,
    /// Name of this node.
    pub node: String,
    /// Version of the server.
    pub release: &'static str,
    /// Version of the files that the page loads.
    pub version: &'static str,
}

impl Frame {
    /// The frame of a page.
    pub fn of(path: &'static str) -> Self {
        let name = nix::sys::utsname::uname();
        let node = name.map(|name| name.nodename().to_string_lossy().into_owned());
        Self {
            path,
            node: node.unwrap_or_default(),
            release: env!("CARGO_PKG_VERSION"),
            version: asset::version(),
        }
    }

    /// The pages: address and name.
    pub fn pages(&self) -> &'static [(&'static str, &'static str)] {
        &PAGES
    }

    /// Whether this is the page of an address.
    pub fn is_at(&self, path: &str) -> bool {
        self.path == path
    }

    /// The time of day (UTC).
    pub fn clock(&self) -> String {
        text::clock(now_unix_ms() / 1000)
    }
}

/// A page, or why there is none.
pub type Page = Result<Response, Refused>;

/// Renders a page.
pub fn render(page: &impl Template) -> Page {
    render_as(StatusCode::OK, page)
}

/// Renders a page with a status.
pub fn render_as(status: StatusCode, page: &impl Template) -> Page {
    match page.render() {
        Ok(html) => Ok((
            status,
            [(header::CONTENT_TYPE, "text/html; charset=utf-8")],
            html,
        )
            .into_response()),
        Err(error) => Err(Refused(Failure::Internal(error.to_string()))),
    }
}

/// A failure as a page.
#[derive(Debug)]
pub struct Refused(pub Failure);

impl From<Failure> for Refused {
    fn from(failure: Failure) -> Self {
        Self(failure)
    }
}

#[derive(Template)]
#[template(path = "error.html")]
struct ErrorPage {
    frame: Frame,
    title: &'static str,
    text: String,
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let (status, title) = status_of(&self.0);
        let page = ErrorPage {
            frame: Frame::of(""),
            title,
            text: self.0.to_string(),
        };
        match render_as(status, &page) {
            Ok(response) => response,
            Err(Self(failure)) => (status, failure.to_string()).into_response(),
        }
    }
}

/// Status and title of a failure.
pub fn status_of(failure: &Failure) -> (StatusCode, &'static str) {
    match failure {
        Failure::NotFound(_) => (StatusCode::NOT_FOUND, "Not found"),
        Failure::Invalid(_) => (StatusCode::UNPROCESSABLE_ENTITY, "Not possible"),
        Failure::Unavailable(_) => (StatusCode::SERVICE_UNAVAILABLE, "Not now"),
        Failure::Internal(_) => (StatusCode::INTERNAL_SERVER_ERROR, "It failed"),
    }
}

/// The page of an address that has none.
pub async fn no_page(State(_): State<Shared>) -> Refused {
    Refused(Failure::NotFound(
        "there is no page at this address".to_owned(),
    ))
}

/// A line about something that an operator should know.
pub struct Note {
    /// `bad`, or `warn`.
    pub class: &'static str,
    /// A word or two.
    pub title: String,
    /// The line.
    pub text: String,
}

impl Note {
    fn new(class: &'static str, title: impl Into<String>, text: impl Into<String>) -> Self {
        Self {
            class,
            title: title.into(),
            text: text.into(),
        }
    }
}

/// Lines about interfaces and the program.
pub fn interface_notes(status: &Status) -> Vec<Note> {
    let not_loaded = status.not_loaded.iter();
    let not_loaded = not_loaded.map(|why| Note::new("bad", "Program not loaded", why));
    let waiting = status.waiting_interfaces.iter();
    let waiting =
        waiting.map(|at| Note::new("warn", format!("{} {}", at.name, at.state), &*at.reason));
    let blind = status.blind.iter();
    let blind = blind.map(|at| {
        Note::new(
            "bad",
            format!("{} blind", at.interfaces.join(", ")),
            &*at.message,
        )
    });
    not_loaded.chain(waiting).chain(blind).collect()
}

/// All lines.
pub fn notes(status: &Status) -> Vec<Note> {
    let error = status.last_error.iter();
    let mut notes: Vec<_> = error
        .map(|line| Note::new("bad", "Last error", line))
        .collect();
    let addresses = status.not_listening.iter();
    notes.extend(addresses.map(|line| Note::new("bad", "Not listening", line)));
    notes.extend(interface_notes(status));
    let fleet = status
        .fleet
        .as_ref()
        .and_then(|fleet| fleet.failed.as_ref());
    notes.extend(fleet.map(|line| Note::new("bad", "Fleet", line)));
    let restarted = status.restarted.iter();
    notes.extend(restarted.map(|task| {
        let times = match task.times {
            1 => "restarted".to_owned(),
            times => format!("restarted {times} times"),
        };
        Note::new(
            "warn",
            format!("Task {}", task.name),
            format!("{times}: {}", task.cause),
        )
    }));
    notes
}

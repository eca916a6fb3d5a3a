//! `[[notify]]`: judged.

use std::fmt;
use std::sync::Arc;

use hyper::Uri;

use super::file::{self, Spanned};
use super::reader::{Judged, Reader, all};
use crate::event::Kind;

/// Targets, at the most.
const MAX_TARGETS: usize = 16;
/// Octets of a secret, at the least and at the most.
const SECRET: std::ops::RangeInclusive<usize> = 16..=4096;

/// `[[notify]]`: a web server that is told of events.
#[derive(Clone, PartialEq, Eq)]
pub struct Notify {
    /// Whether it takes TLS alone.
    pub tls: bool,
    /// Host name or address.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Path and query, which may be a secret of their own.
    pub path: String,
    /// The secret that notifications are signed with.
    pub secret: Option<Arc<[u8]>>,
    /// Kinds of events.
    pub on: Vec<Kind>,
    /// Form of the notifications.
    pub format: Format,
}

/// Form of a notification.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// The event as the API has it, and the node.
    Json,
    /// A message for Slack, and whoever takes the same.
    Slack,
    /// An alert for Alertmanager (`/api/v2/alerts`).
    Alertmanager,
}

impl Notify {
    /// The value of a `Host` header, and its name in the log.
    pub fn authority(&self) -> String {
        let host = match self.host.contains(':') {
            true => format!("[{}]", self.host),
            false => self.host.clone(),
        };
        match (self.tls, self.port) {
            (true, 443) | (false, 80) => host,
            (_, port) => format!("{host}:{port}"),
        }
    }

    /// Reads a URL: `https://HOST/PATH`.
    fn of_url(text: &str) -> Option<(bool, String, u16, String)> {
        let uri: Uri = text.parse().ok()?;
        let (tls, usual) = match uri.scheme_str()? {
            "https" => (true, 443),
            "http" => (false, 80),
            _ => return None,
        };
        let host = uri.host().filter(|host| !host.is_empty())?;
        // What stands before an @ is a user, and no user is taken from here.
        let port = match uri.authority()?.as_str().strip_prefix(host)? {
            "" => usual,
            port => port
                .strip_prefix(':')?
                .parse()
                .ok()
                .filter(|&port| port > 0)?,
        };
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        Some((tls, host.to_owned(), port, path.to_owned()))
    }
}

impl fmt::Debug for Notify {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Neither path nor secret is anybody's business.
        let Self { on, format, .. } = self;
        write!(f, "{} {format:?} {on:?}", self.authority())
    }
}

impl Reader<'_> {
    pub(super) fn notify(&self, file: Vec<Spanned<file::Notify>>) -> Judged<Vec<Notify>> {
        if file.len() > MAX_TARGETS {
            let message = format!("{} targets; {MAX_TARGETS} is the most", file.len());
            return Err(self.miscounted("notify", message));
        }
        all(file
            .into_iter()
            .map(|target| self.target(target.into_inner())))
    }

    fn target(&self, file: file::Notify) -> Judged<Notify> {
        let url = Notify::of_url(file.url.get_ref()).ok_or(());
        let url = url.or_else(|()| {
            let message = "not a URL; write it like https://hooks.example.org/path";
            self.error(file.url.span(), "notify.url", message)
        });
        let format = match file
            .format
            .as_ref()
            .map(|format| (format, format.get_ref().as_str()))
        {
            None | Some((_, "json")) => Ok(Format::Json),
            Some((_, "slack")) => Ok(Format::Slack),
            Some((_, "alertmanager")) => Ok(Format::Alertmanager),
            Some((format, other)) => {
                let message = format!("{other:?} is no format; write json, slack or alertmanager");
                self.error(format.span(), "notify.format", message)
            }
        };
        let secret = file.secret_file.map(|secret| self.notify_secret(secret));
        let on = self.kinds(file.on.as_ref(), format.unwrap_or(Format::Json));
        let ((tls, host, port, path), secret) = (url?, secret.transpose()?);
        Ok(Notify {
            tls,
            host,
            port,
            path,
            secret,
            on: on?,
            format: format?,
        })
    }

    fn notify_secret(&self, file: Spanned<String>) -> Judged<Arc<[u8]>> {
        const KEY: &str = "notify.secret_file";
        let (text, span) = self.text_of(file, KEY)?;
        let secret = text.trim().as_bytes();
        if SECRET.contains(&secret.len()) {
            return Ok(secret.into());
        }
        let message = format!(
            "{} octets; put {} to {} there, such as `openssl rand -base64 32` gives",
            secret.len(),
            SECRET.start(),
            SECRET.end()
        );
        self.error(span, KEY, message)
    }

    /// The kinds of a target; without a list, all that its format has a form for.
    fn kinds(
        &self,
        on: Option<&Spanned<Vec<Spanned<String>>>>,
        format: Format,
    ) -> Judged<Vec<Kind>> {
        const KEY: &str = "notify.on";
        let fits = |kind: Kind| format != Format::Alertmanager || kind.alert().is_some();
        let Some(on) = on else {
            return Ok(Kind::ALL
                .iter()
                .copied()
                .filter(|&kind| fits(kind))
                .collect());
        };
        if on.get_ref().is_empty() {
            let message = "empty; name a kind, or leave the key out to be told of all";
            return self.error(on.span(), KEY, message);
        }
        let one = |name: &Spanned<String>| match Kind::parse(name.get_ref()) {
            Some(kind) if fits(kind) => Ok(kind),
            Some(kind) => {
                let alerts = Kind::ALL.iter().filter(|kind| kind.alert().is_some());
                let alerts: Vec<&str> = alerts.map(|kind| kind.name()).collect();
                let message = format!(
                    "{} is no alert, which begins and ends; write one of {}",
                    kind.name(),
                    alerts.join(", ")
                );
                self.error(name.span(), KEY, message)
            }
            None => {
                let message = format!(
                    "{:?} is no kind of event; write one of {}",
                    name.get_ref(),
                    Kind::names()
                );
                self.error(name.span(), KEY, message)
            }
        };
        all(on.get_ref().iter().map(one))
    }
}

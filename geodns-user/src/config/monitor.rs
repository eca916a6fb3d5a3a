//! `mirror.check`: how a mirror is checked, from the file's shape to a [`Check`].
//!
//! The room [`health`](crate::health) runs it.

use std::fmt;
use std::net::IpAddr;
use std::ops::{Range, RangeInclusive};
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use super::reader::{Judged, Reader, all};
use super::spanned::Spanned;
use super::time::{TIME, duration};

/// `interval` from and to. Below the least, checks are an attack.
const INTERVAL: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(3600);
/// The least `timeout`.
const MIN_TIMEOUT: Duration = Duration::from_millis(10);
/// The most that `jitter` can be: checks half an interval late are spread well enough.
const MAX_JITTER: f64 = 0.5;
/// `fresh.max_age` from and to.
const MAX_AGE: RangeInclusive<Duration> =
    Duration::from_secs(1)..=Duration::from_secs(365 * 24 * 3600);
/// `fresh.grace`, unless the file says otherwise.
const GRACE: Duration = Duration::from_secs(24 * 3600);
/// The longest `path` and `body`, in octets.
const MAX_TEXT: usize = 1024;

/// How a mirror is checked, and how many results make a verdict.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Check {
    /// The probe: HTTP, TCP, ICMP or a program.
    pub kind: CheckKind,
    /// From the turn of one check to the turn of the next.
    pub interval: Duration,
    /// The longest that a check may take, all in all; less than the interval.
    pub timeout: Duration,
    /// Successes in a row that bring a mirror up.
    pub rise: u16,
    /// Failures that bring a mirror down, with no `ok` successes in a row between them.
    pub fall: u16,
    /// Successes in a row that clear the failures of a mirror that is up.
    pub ok: u16,
    /// A check starts at most this long after its turn, drawn anew each time.
    pub jitter: Duration,
}

/// The probe of a check.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum CheckKind {
    /// A GET request over HTTP/1.1, in TLS or not.
    Http(HttpCheck),
    /// A TCP connection.
    Tcp {
        /// Port.
        port: u16,
    },
    /// An ICMP echo (RFC 792, RFC 4443).
    Icmp,
    /// A program of the operator's; exit status 0 is a success.
    Exec {
        /// The program and its arguments; `{address}` in them stands for the address. Not empty.
        command: Vec<String>,
    },
}

/// A request over HTTP, and the answers that are good.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HttpCheck {
    /// Whether there is TLS below.
    pub tls: Tls,
    /// Port.
    pub port: u16,
    /// Path and query of the request.
    pub path: String,
    /// Name for the `Host` header, and for SNI and the certificate; `None`: the address.
    pub host: Option<String>,
    /// Status codes that are a success. Not empty.
    pub status: Vec<Status>,
    /// Text that must be in the first 64 KiB of the body.
    pub body: Option<String>,
    /// A trace of the mirror's content, which must not be too old.
    pub fresh: Option<Fresh>,
}

/// A trace: a file in which a mirror says when its content was last brought up to date.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Fresh {
    /// Path and query of the request.
    pub path: String,
    /// How the trace names its time.
    pub format: TraceFormat,
    /// Age up to which the check passes.
    pub max_age: Duration,
    /// Time that the check passes without a trace that can be read.
    pub grace: Duration,
}

/// How a trace names its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TraceFormat {
    /// Seconds since 1970, as the first line.
    Epoch,
    /// A date of HTTP (RFC 9110 section 5.6.7), as the first line.
    HttpDate,
    /// The header `Last-Modified`.
    LastModified,
    /// A trace of Debian's ftpsync: the output of `date -u`, as the first line.
    DebianTrace,
}

impl TraceFormat {
    /// All of them, by name.
    pub const NAMES: [(&'static str, Self); 4] = [
        ("epoch", Self::Epoch),
        ("http-date", Self::HttpDate),
        ("last-modified", Self::LastModified),
        ("debian-trace", Self::DebianTrace),
    ];

    /// Its name in the configuration.
    pub fn name(self) -> &'static str {
        let mut names = Self::NAMES.iter();
        names
            .find(|(_, format)| *format == self)
            .map_or("", |(name, _)| name)
    }
}

/// TLS below a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Tls {
    /// None.
    Off,
    /// With a certificate that the system's roots vouch for.
    Verified,
    /// With any certificate.
    Unverified,
}

/// A status code that is a success, or a class of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Status {
    /// All of a hundred: 2 is 200 to 299.
    Class(u8),
    /// One.
    Code(u16),
}

impl Status {
    /// Whether a status code is meant.
    pub fn contains(self, code: u16) -> bool {
        match self {
            Self::Class(class) => code / 100 == u16::from(class),
            Self::Code(this) => code == this,
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Class(class) => write!(f, "{class}xx"),
            Self::Code(code) => write!(f, "{code}"),
        }
    }
}

/// How each address of a mirror is checked.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Check", extend("x-toml" = r#"{ type = "tcp", port = 80 }"#))]
pub(super) struct File {
    /// Kind of the check.
    #[serde(rename = "type")]
    #[schemars(extend("enum" = ["http", "https", "tcp", "icmp", "exec"]))]
    kind: Spanned<String>,
    /// Default: 80 with "http", 443 with "https".
    #[schemars(extend("minimum" = 1, "maximum" = 65535))]
    port: Option<Spanned<i64>>,
    /// Path of the request. Default: "/".
    path: Option<Spanned<String>>,
    /// Name for the Host header, SNI and the certificate.
    host: Option<Spanned<String>>,
    /// Status codes that are good, and classes of them. Default: ["2xx"].
    #[schemars(with = "Option<Vec<StatusSchema>>")]
    status: Option<Spanned<Vec<Spanned<toml::Value>>>>,
    /// Text that must be in the body.
    body: Option<Spanned<String>>,
    /// Trace that must not be too old.
    fresh: Option<Spanned<FreshFile>>,
    /// Whether the certificate must be good. Default: true.
    verify: Option<Spanned<bool>>,
    /// Program and arguments.
    command: Option<Spanned<Vec<Spanned<String>>>>,
    /// From one check to the next. Default: "10s".
    #[schemars(extend("pattern" = TIME))]
    interval: Option<Spanned<String>>,
    /// The longest that a check may take. Default: half of the interval.
    #[schemars(extend("pattern" = TIME))]
    timeout: Option<Spanned<String>>,
    /// Successes in a row that bring a mirror up. Default: 2.
    #[schemars(extend("minimum" = 1, "maximum" = 65535))]
    rise: Option<Spanned<i64>>,
    /// Failures that bring a mirror down. Default: 3.
    #[schemars(extend("minimum" = 1, "maximum" = 65535))]
    fall: Option<Spanned<i64>>,
    /// Successes in a row that clear failures. Default: as rise.
    #[schemars(extend("minimum" = 1, "maximum" = 65535))]
    ok: Option<Spanned<i64>>,
    /// How much later than its turn a check may start, as a share of the interval. Default: 0.1.
    #[schemars(extend("minimum" = 0, "maximum" = 0.5))]
    jitter: Option<Spanned<f64>>,
}

/// A trace of the mirror's content.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(
    rename = "Fresh",
    extend("x-toml" = r#"{ path = "/TIME", max_age = "6h" }"#)
)]
struct FreshFile {
    /// Path of the request.
    path: Spanned<String>,
    /// How the trace names its time. Default: "epoch".
    #[schemars(extend("enum" = TraceFormat::NAMES.map(|(name, _)| name)))]
    format: Option<Spanned<String>>,
    /// Age up to which the mirror is up.
    #[schemars(extend("pattern" = TIME))]
    max_age: Spanned<String>,
    /// Time that a mirror without a readable trace stays up. Default: "24h".
    #[schemars(extend("pattern" = TIME))]
    grace: Option<Spanned<String>>,
}

/// A status code or a class of them, as the schema has it: it is read by hand.
#[derive(JsonSchema)]
#[schemars(untagged, inline)]
#[expect(dead_code, reason = "only its schema is used")]
enum StatusSchema {
    /// As 200.
    Code(i64),
    /// As "2xx".
    Class(String),
}

impl File {
    /// Where it stands.
    pub(super) fn place(&self) -> Range<usize> {
        self.kind.span()
    }
}

/// Reads a check.
pub(super) fn check(reader: &Reader<'_>, mut file: File) -> Judged<Check> {
    const INTERVAL_DEFAULT: Duration = Duration::from_secs(10);
    let check = CheckReader { reader };
    let place = file.place();
    let interval = check.time(file.interval.take(), "interval", INTERVAL);
    let longest = match interval {
        Ok(Some(interval)) => interval,
        Ok(None) if !reader.has_hole("mirror", &place) => INTERVAL_DEFAULT,
        _ => *INTERVAL.end(),
    };
    let below = longest.saturating_sub(Duration::from_millis(1));
    let timeout = check.time(file.timeout.take(), "timeout", MIN_TIMEOUT..=below);
    let rise = check.count(file.rise.take(), "rise");
    let fall = check.count(file.fall.take(), "fall");
    let ok = check.count(file.ok.take(), "ok");
    let jitter = check.jitter(file.jitter.take());
    let kind = check.kind(file);
    let interval = interval?.unwrap_or(INTERVAL_DEFAULT);
    let rise = rise?.unwrap_or(2);
    Ok(Check {
        kind: kind?,
        interval,
        timeout: timeout?.unwrap_or(interval / 2),
        rise,
        fall: fall?.unwrap_or(3),
        ok: ok?.unwrap_or(rise),
        jitter: interval.mul_f64(jitter?.unwrap_or(0.1)),
    })
}

/// Reads the keys of a check: errors name `mirror.check`.
struct CheckReader<'a> {
    reader: &'a Reader<'a>,
}

impl CheckReader<'_> {
    fn error<T>(&self, span: Range<usize>, key: &str, message: impl Into<String>) -> Judged<T> {
        let key = format!("mirror.check.{key}");
        self.reader.error(span, &key, message)
    }

    /// A key that does not go with the others, or is missing.
    fn misfit<T>(&self, span: Range<usize>, key: &str, message: impl Into<String>) -> Judged<T> {
        let key = format!("mirror.check.{key}");
        Err(self.reader.misfit(span, &key, message))
    }

    fn kind(&self, mut file: File) -> Judged<CheckKind> {
        let kind = match file.kind.get_ref().as_str() {
            "http" => self.http(&mut file, false).map(CheckKind::Http),
            "https" => self.http(&mut file, true).map(CheckKind::Http),
            "tcp" => match file.port.take() {
                Some(port) => self.port(port).map(|port| CheckKind::Tcp { port }),
                None => {
                    let message = "missing; type \"tcp\" needs a port to connect to";
                    self.misfit(file.kind.span(), "port", message)
                }
            },
            "icmp" => Ok(CheckKind::Icmp),
            "exec" => {
                let command = self.command(&mut file);
                command.map(|command| CheckKind::Exec { command })
            }
            other => {
                let message = format!(
                    "no such word {other:?}; write \"http\", \"https\", \"tcp\", \"icmp\" or \"exec\""
                );
                return self.error(file.kind.span(), "type", message);
            }
        };
        self.nothing_left(&file).and(kind)
    }

    /// Whether each key that is there belongs to the type: its own have been taken.
    fn nothing_left(&self, file: &File) -> Judged<()> {
        let web = "\"http\" and \"https\"";
        let left = [
            (
                "port",
                file.port.as_ref().map(Spanned::span),
                "\"http\", \"https\" and \"tcp\"",
            ),
            ("path", file.path.as_ref().map(Spanned::span), web),
            ("host", file.host.as_ref().map(Spanned::span), web),
            ("status", file.status.as_ref().map(Spanned::span), web),
            ("body", file.body.as_ref().map(Spanned::span), web),
            ("fresh", file.fresh.as_ref().map(Spanned::span), web),
            (
                "verify",
                file.verify.as_ref().map(Spanned::span),
                "\"https\"",
            ),
            (
                "command",
                file.command.as_ref().map(Spanned::span),
                "\"exec\"",
            ),
        ];
        let mut judged = Ok(());
        for (key, span, of) in left {
            if let Some(span) = span {
                let message = format!(
                    "not used with type {:?}, only with {of}; remove it, or change the type",
                    file.kind.get_ref()
                );
                judged = self.error(span, key, message);
            }
        }
        judged
    }

    fn http(&self, file: &mut File, secure: bool) -> Judged<HttpCheck> {
        // Without TLS `verify` is left where it is, and so an error.
        let verify = if secure { file.verify.take() } else { None };
        let tls = match verify.map(Spanned::into_inner) {
            _ if !secure => Tls::Off,
            Some(false) => Tls::Unverified,
            _ => Tls::Verified,
        };
        let port = match file.port.take() {
            Some(port) => self.port(port),
            None if secure => Ok(443),
            None => Ok(80),
        };
        let host = file.host.take().map(|host| self.host(host)).transpose();
        let host = if tls == Tls::Verified && matches!(host, Ok(None)) {
            let message = "missing; type \"https\" checks the certificate, which is for a name: \
                           add host = \"www.example.org\", or verify = false to take any";
            self.misfit(file.kind.span(), "host", message)
        } else {
            host
        };
        let path = file.path.take();
        let path = path.map_or(Ok("/".to_owned()), |path| self.path(path, "path"));
        let status = file.status.take();
        let status = status.map_or(Ok(vec![Status::Class(2)]), |status| self.status(status));
        let body = file.body.take().map(|body| self.body(body)).transpose();
        let fresh = file.fresh.take().map(Spanned::into_inner);
        let fresh = fresh.map(|fresh| self.fresh(fresh)).transpose();
        Ok(HttpCheck {
            tls,
            port: port?,
            path: path?,
            host: host?,
            status: status?,
            body: body?,
            fresh: fresh?,
        })
    }

    fn fresh(&self, file: FreshFile) -> Judged<Fresh> {
        let path = self.path(file.path, "fresh.path");
        let format = self.reader.one_of(
            file.format,
            "mirror.check.fresh.format",
            TraceFormat::Epoch,
            &TraceFormat::NAMES,
        );
        let max_age = self.time(Some(file.max_age), "fresh.max_age", MAX_AGE);
        let grace = self.time(file.grace, "fresh.grace", Duration::ZERO..=*MAX_AGE.end());
        Ok(Fresh {
            path: path?,
            format: format?,
            max_age: max_age?.unwrap_or_default(),
            grace: grace?.unwrap_or(GRACE),
        })
    }

    fn port(&self, port: Spanned<i64>) -> Judged<u16> {
        match u16::try_from(*port.get_ref()) {
            Ok(port) if port > 0 => Ok(port),
            _ => {
                let message = format!("{} is out of range; write 1 to 65535", port.get_ref());
                self.error(port.span(), "port", message)
            }
        }
    }

    /// The path and query of a request (RFC 9112 section 3.2.1): it stands in a line of its own.
    fn path(&self, path: Spanned<String>, key: &str) -> Judged<String> {
        let text = path.get_ref();
        let plain = |byte: u8| byte.is_ascii_graphic() && !b"#\"<>\\^`{|}".contains(&byte);
        if !text.starts_with('/') || text.len() > MAX_TEXT || !text.bytes().all(plain) {
            let message = format!(
                "{text:?} is not a path; write 1 to {MAX_TEXT} characters that begin with '/', \
                 others than letters and digits as %20"
            );
            return self.error(path.span(), key, message);
        }
        Ok(path.into_inner())
    }

    /// A host's name or address, without a port: `port` says that.
    fn host(&self, host: Spanned<String>) -> Judged<String> {
        let text = host.get_ref();
        let label = |label: &str| {
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
            (1..=63).contains(&label.len())
                && label.bytes().all(plain)
                && !label.starts_with('-')
                && !label.ends_with('-')
        };
        let is_name = text.len() <= 253
            && text.split('.').all(label)
            // A name that ends in digits is a mistyped address (RFC 1123 section 2.1).
            && !text.ends_with(|last: char| last.is_ascii_digit());
        if !is_name && text.parse::<IpAddr>().is_err() {
            let message =
                format!("{text:?} is not a host's name; write one, as \"www.example.org\"");
            return self.error(host.span(), "host", message);
        }
        Ok(text.to_ascii_lowercase())
    }

    fn status(&self, list: Spanned<Vec<Spanned<toml::Value>>>) -> Judged<Vec<Status>> {
        if list.get_ref().is_empty() {
            let message = "empty; name a status, or leave the key out for 2xx";
            return self.error(list.span(), "status", message);
        }
        let mut all = all(list.get_ref().iter().map(|item| {
            let status = match item.get_ref() {
                toml::Value::Integer(code @ 100..=599) => Some(Status::Code(*code as u16)),
                toml::Value::String(class) => match class.as_bytes() {
                    [class @ b'1'..=b'5', b'x', b'x'] => Some(Status::Class(class - b'0')),
                    _ => None,
                },
                _ => None,
            };
            status.map_or_else(
                || {
                    let message = format!(
                        "{} is not a status; write a code of 100 to 599, as 200, or a class, as \"2xx\"",
                        item.get_ref()
                    );
                    self.error(item.span(), "status", message)
                },
                Ok,
            )
        }))?;
        // In order, so that lists that say the same are the same check.
        all.sort_unstable();
        all.dedup();
        Ok(all)
    }

    fn body(&self, body: Spanned<String>) -> Judged<String> {
        let len = body.get_ref().len();
        if !(1..=MAX_TEXT).contains(&len) {
            let message = format!("{len} octets; write 1 to {MAX_TEXT} that the body must contain");
            return self.error(body.span(), "body", message);
        }
        Ok(body.into_inner())
    }

    fn command(&self, file: &mut File) -> Judged<Vec<String>> {
        let example =
            "write the program and its arguments, as [\"/usr/local/bin/check\", \"{address}\"]";
        let Some(list) = file.command.take() else {
            let message = format!("missing; type \"exec\" needs one: {example}");
            return self.misfit(file.kind.span(), "command", message);
        };
        let span = list.span();
        let command = all(list.into_inner().into_iter().map(|part| {
            if part.get_ref().contains('\0') {
                let message = "a NUL character; no program can be given one, remove it";
                return self.error(part.span(), "command", message);
            }
            Ok(part.into_inner())
        }))?;
        if command.first().is_none_or(String::is_empty) {
            return self.error(span, "command", format!("names no program; {example}"));
        }
        Ok(command)
    }

    /// A time in a range.
    fn time(
        &self,
        text: Option<Spanned<String>>,
        key: &str,
        range: RangeInclusive<Duration>,
    ) -> Judged<Option<Duration>> {
        let Some(text) = text else { return Ok(None) };
        let (least, most) = (short(*range.start()), short(*range.end()));
        let message = match duration(text.get_ref()) {
            Some(time) if range.contains(&time) => return Ok(Some(time)),
            Some(_) if key == "timeout" => format!(
                "{:?} is out of range; write \"{least}\" to \"{most}\", less than the interval",
                text.get_ref()
            ),
            Some(_) => format!(
                "{:?} is out of range; write \"{least}\" to \"{most}\"",
                text.get_ref()
            ),
            None => format!(
                "{:?} is not a time; write a number and ms, s, m, h or d, as \"5s\"",
                text.get_ref()
            ),
        };
        self.error(text.span(), key, message)
    }

    fn count(&self, count: Option<Spanned<i64>>, key: &str) -> Judged<Option<u16>> {
        let Some(count) = count else { return Ok(None) };
        match u16::try_from(*count.get_ref()) {
            Ok(number) if number > 0 => Ok(Some(number)),
            _ => {
                let message = format!("{} is out of range; write 1 to 65535", count.get_ref());
                self.error(count.span(), key, message)
            }
        }
    }

    fn jitter(&self, jitter: Option<Spanned<f64>>) -> Judged<Option<f64>> {
        let Some(jitter) = jitter else {
            return Ok(None);
        };
        if !(0.0..=MAX_JITTER).contains(jitter.get_ref()) {
            let message = format!(
                "{} is out of range; write a share of the interval, 0 to {MAX_JITTER}",
                jitter.get_ref()
            );
            return self.error(jitter.span(), "jitter", message);
        }
        Ok(Some(jitter.into_inner()))
    }
}

/// A time as one would write it.
fn short(time: Duration) -> String {
    match time.as_millis() {
        millis if millis % 3_600_000 == 0 => format!("{}h", millis / 3_600_000),
        millis if millis % 1000 == 0 => format!("{}s", millis / 1000),
        millis => format!("{millis}ms"),
    }
}

#[cfg(test)]
mod tests;

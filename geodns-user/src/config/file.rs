//! The shape of `geodns.toml` as it is written: what serde reads, each value with its place.
//!
//! Nothing is judged here but the shape: unknown keys, missing keys, wrong types. What the values
//! mean is judged in [`check`](super::check).

use std::fmt;
use std::ops::Range;
use std::path::Path;

use serde::de::Visitor;
use serde::{Deserialize, Deserializer};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::{Error, monitor};

/// The whole file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    #[serde(default)]
    pub server: Server,
    #[serde(default)]
    pub tls: Tls,
    #[serde(default)]
    pub kernel: Kernel,
    #[serde(default)]
    pub cookies: Cookies,
    #[serde(default)]
    pub rrl: Rrl,
    #[serde(default)]
    pub block: Vec<Spanned<Block>>,
    #[serde(default)]
    pub control: Control,
    #[serde(default)]
    pub state: State,
    #[serde(default)]
    pub geoip: Geoip,
    #[serde(default)]
    pub health: Health,
    #[serde(default)]
    pub transfer: Transfer,
    #[serde(default)]
    pub tsig: Vec<Tsig>,
    #[serde(default)]
    pub zone: Vec<Zone>,
    #[serde(default)]
    pub mirror: Vec<Mirror>,
    #[serde(default)]
    pub pool: Vec<Pool>,
    #[serde(default)]
    pub steer: Vec<Steer>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Server {
    pub listen: Option<Spanned<Vec<Spanned<String>>>>,
    pub port: Option<Spanned<i64>>,
    pub identity: Option<Spanned<Told>>,
    pub nsid: Option<Spanned<Told>>,
    pub version: Option<Spanned<Told>>,
    pub site: Option<Spanned<String>>,
}

/// What is told to those who ask: a text, or, with `false`, nothing.
#[derive(Debug)]
pub(super) enum Told {
    Text(String),
    Is(bool),
}

impl<'de> Deserialize<'de> for Told {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextOrFalse;
        impl Visitor<'_> for TextOrFalse {
            type Value = Told;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text in quotes, or false")
            }

            fn visit_str<E>(self, text: &str) -> Result<Told, E> {
                Ok(Told::Text(text.to_owned()))
            }

            fn visit_bool<E>(self, is: bool) -> Result<Told, E> {
                Ok(Told::Is(is))
            }
        }
        deserializer.deserialize_any(TextOrFalse)
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Tls {
    pub certificate: Option<Spanned<String>>,
    pub key: Option<Spanned<String>>,
    pub port: Option<Spanned<i64>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Kernel {
    #[serde(default)]
    pub interfaces: Vec<Spanned<String>>,
    pub mode: Option<Spanned<String>>,
    pub pin: Option<Spanned<String>>,
    pub stale_after: Option<Spanned<String>>,
    pub on_stop: Option<Spanned<String>>,
    pub max_names: Option<Spanned<i64>>,
    pub pass_limit: Option<Spanned<i64>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Cookies {
    pub enabled: Option<bool>,
    pub secrets: Option<Spanned<Vec<Spanned<String>>>>,
    pub secrets_file: Option<Spanned<String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Rrl {
    pub rate: Option<Spanned<i64>>,
    pub burst: Option<Spanned<i64>>,
    pub slip: Option<Spanned<i64>>,
    pub nocookie_udp_size: Option<Spanned<i64>>,
    pub allow: Option<Spanned<Vec<Spanned<String>>>>,
    pub dry_run: Option<bool>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Block {
    pub name: Option<String>,
    pub below: Option<String>,
    #[serde(rename = "type")]
    pub qtype: Option<String>,
    pub from: Option<Vec<Spanned<String>>>,
    pub note: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Control {
    pub socket: Option<Spanned<String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct State {
    pub path: Option<Spanned<String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Geoip {
    pub databases: Option<Spanned<Vec<Spanned<String>>>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Health {
    pub feed: Option<Spanned<String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Transfer {
    pub max_zone: Option<Spanned<String>>,
    pub max_all: Option<Spanned<String>>,
    pub notify_rate: Option<Spanned<i64>>,
    pub notify_rate_all: Option<Spanned<i64>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Tsig {
    pub name: Spanned<String>,
    pub algorithm: Option<Spanned<String>>,
    pub secret: Option<Spanned<String>>,
    pub secret_file: Option<Spanned<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Zone {
    pub name: Spanned<String>,
    pub file: Option<Spanned<String>>,
    pub primaries: Option<Spanned<Vec<Spanned<toml::Value>>>>,
    pub allow_transfer: Option<Spanned<Vec<Spanned<String>>>>,
    pub notify: Option<Spanned<Vec<Spanned<toml::Value>>>>,
    pub tsig: Option<Spanned<String>>,
    pub transfer_steered: Option<Spanned<String>>,
    pub catalog: Option<Spanned<String>>,
    pub members: Option<Spanned<Vec<Members>>>,
    pub in_catalog: Option<Spanned<String>>,
    pub catalog_group: Option<Spanned<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Members {
    pub group: Option<Spanned<String>>,
    pub primaries: Option<Spanned<Vec<Spanned<toml::Value>>>>,
    pub allow_transfer: Option<Spanned<Vec<Spanned<String>>>>,
    pub notify: Option<Spanned<Vec<Spanned<toml::Value>>>>,
    pub tsig: Option<Spanned<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Mirror {
    pub id: Spanned<String>,
    pub addresses: Option<Spanned<Vec<Spanned<String>>>>,
    pub cname: Option<Spanned<String>>,
    pub location: Option<Location>,
    pub weight: Option<Spanned<i64>>,
    pub bias: Option<Spanned<i64>>,
    pub check: Option<monitor::File>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Location {
    pub lat: Spanned<f64>,
    pub lon: Spanned<f64>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Pool {
    pub id: Spanned<String>,
    pub mirrors: Option<Spanned<Vec<Spanned<String>>>>,
    pub pools: Option<Spanned<Vec<Spanned<String>>>>,
    pub policy: Spanned<String>,
    pub default: Option<Spanned<toml::Value>>,
    pub prefixes: Option<Spanned<String>>,
    pub rules: Option<Spanned<Vec<Rule>>>,
    pub ttl: Option<Spanned<i64>>,
    pub ttl_min: Option<Spanned<i64>>,
    pub answers: Option<Spanned<i64>>,
    pub depth: Option<Spanned<i64>>,
    pub choice: Option<Spanned<String>>,
    pub fail: Option<Spanned<String>>,
    pub fallback: Option<Spanned<String>>,
    pub panic: Option<Spanned<f64>>,
    pub location: Option<Location>,
    pub names: Option<Spanned<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Rule {
    pub continent: Option<Spanned<String>>,
    pub country: Option<Spanned<String>>,
    pub subdivision: Option<Spanned<String>>,
    pub city: Option<Spanned<String>>,
    pub asn: Option<Spanned<i64>>,
    pub prefix: Option<Spanned<String>>,
    pub mirrors: Spanned<Vec<Spanned<String>>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Steer {
    pub name: Spanned<String>,
    pub pool: Spanned<String>,
}

/// A file's text, for turning places into lines.
pub(super) struct Source<'a> {
    pub path: &'a Path,
    text: &'a str,
    /// Where each line ends.
    ends: Vec<usize>,
}

impl<'a> Source<'a> {
    /// A file's text.
    pub fn new(path: &'a Path, text: &'a str) -> Self {
        let ends = text.match_indices('\n').map(|(at, _)| at).collect();
        Self { path, text, ends }
    }

    /// Line of a place, from 1.
    pub fn line(&self, at: usize) -> usize {
        1 + self.ends.partition_point(|&end| end < at)
    }

    /// An error at a place.
    pub fn error(&self, span: Range<usize>, key: &str, message: impl Into<String>) -> Error {
        Error {
            file: self.path.to_owned(),
            line: Some(self.line(span.start)),
            key: Some(key.to_owned()),
            message: message.into(),
        }
    }

    /// Reads the file's shape.
    pub fn parse(&self) -> Result<File, Error> {
        let document = DeTable::parse(self.text).map_err(|error| {
            let message = format!("not TOML: {}", one_line(error.message()));
            self.found(error.span(), None, message)
        })?;
        self.tables(document.get_ref())?;
        File::deserialize(toml::Deserializer::from(document.clone()))
            .map_err(|error| self.explain(document.get_ref(), &error))
    }

    /// Whether each table stands as a table: serde would take a list of values in its place.
    fn tables(&self, document: &DeTable<'_>) -> Result<(), Error> {
        for (key, value) in document {
            let is_table = |value: &DeValue<'_>| matches!(value, DeValue::Table(_));
            let (stands, header) = match key.get_ref().as_ref() {
                name @ ("server" | "kernel" | "control" | "state" | "geoip" | "health") => {
                    (is_table(value.get_ref()), format!("[{name}]"))
                }
                name @ ("tsig" | "zone" | "mirror" | "pool" | "steer") => {
                    let list = value.get_ref().as_array();
                    let stands =
                        list.is_some_and(|list| list.iter().all(|item| is_table(item.get_ref())));
                    (stands, format!("[[{name}]]"))
                }
                _ => continue,
            };
            if !stands {
                let message = format!("not a table; write it as {header}");
                return Err(self.error(key.span(), key.get_ref(), message));
            }
        }
        self.inner_tables(document)
    }

    /// Whether what must be a table within a zone, a mirror or a pool is one.
    fn inner_tables(&self, document: &DeTable<'_>) -> Result<(), Error> {
        const LOCATION: &str = "{ lat = 52.4, lon = 4.9 }";
        const RULE: &str = "{ country = \"NL\", mirrors = [\"ams\"] }";
        const MEMBERS: &str = "{ primaries = [\"192.0.2.1\"] }";
        for (header, key, form) in [
            ("mirror", "check", "{ type = \"tcp\", port = 80 }"),
            ("mirror", "location", LOCATION),
            ("pool", "location", LOCATION),
            ("pool", "rules", RULE),
            ("zone", "members", MEMBERS),
        ] {
            let is_list = [RULE, MEMBERS].contains(&form);
            let list = document
                .get(header)
                .and_then(|list| list.get_ref().as_array());
            let tables = list.into_iter().flatten();
            let values = tables.filter_map(|table| table.get_ref().as_table()?.get(key));
            for value in values {
                let key = format!("{header}.{key}");
                let is_table = |value: &DeValue<'_>| matches!(value, DeValue::Table(_));
                let wrong = match value.get_ref() {
                    DeValue::Array(items) if is_list => {
                        items.iter().find(|item| !is_table(item.get_ref()))
                    }
                    _ if is_list => {
                        let message =
                            format!("not a list of tables; write each as [[{key}]], or [{form}]");
                        return Err(self.error(value.span(), &key, message));
                    }
                    table => (!is_table(table)).then_some(value),
                };
                if let Some(wrong) = wrong {
                    let message = format!("not a table; write it as {form}");
                    return Err(self.error(wrong.span(), &key, message));
                }
            }
        }
        Ok(())
    }

    fn found(&self, span: Option<Range<usize>>, key: Option<String>, message: String) -> Error {
        Error {
            file: self.path.to_owned(),
            line: span.map(|span| self.line(span.start)),
            key,
            message,
        }
    }

    /// One line out of what serde says.
    fn explain(&self, document: &DeTable<'_>, error: &toml::de::Error) -> Error {
        let span = error.span();
        let place = span
            .as_ref()
            .and_then(|span| find(document, span.start, ""));
        let message = one_line(error.message());
        let (key, value) = place.unzip();
        if let Some(rest) = message.strip_prefix("unknown field `") {
            // "prot`, expected one of `listen`, `port`", or "expected `x`", or "`x` or `y`".
            let known: Vec<&str> = rest.split('`').skip(2).step_by(2).collect();
            return self.found(
                span,
                key,
                format!("unknown key; known: {}", known.join(", ")),
            );
        }
        if let Some(rest) = message.strip_prefix("missing field `") {
            let field = rest.trim_end_matches('`');
            let key = key.map_or_else(|| field.to_owned(), |key| format!("{key}.{field}"));
            return self.found(span, Some(key), "missing; add it".to_owned());
        }
        if message == "floating-point number overflowed" {
            let message = "far out of range; write a smaller number".to_owned();
            return self.found(span, key, message);
        }
        let expected = message.rsplit_once(", expected ");
        let (Some(value), Some((_, expected))) = (value, expected) else {
            return self.found(span, key, message);
        };
        let message = match (value, expected) {
            (DeValue::Integer(_), "i64") => "far out of range; write a smaller number".to_owned(),
            (value, "i64") => format!("{}; write a whole number", a_type(value)),
            (value, "a sequence") => format!("{}; write a list, as [\"a\", \"b\"]", a_type(value)),
            (value, "f64") => format!("{}; write a number, as 0.1", a_type(value)),
            (value, "a boolean") => format!("{}; write true or false", a_type(value)),
            (value, "a string") => format!("{}; write a string, in quotes", a_type(value)),
            (value, expected) => format!("{}; write {expected}", a_type(value)),
        };
        self.found(span, key, message)
    }
}

/// What a value is, in TOML's words.
fn a_type(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a number with a fraction",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date or time",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

fn one_line(message: &str) -> String {
    message.replace('\n', " ")
}

/// The innermost key whose name or value covers a place, as `table.key`, and the value there.
fn find<'t, 'i>(
    table: &'t DeTable<'i>,
    at: usize,
    above: &str,
) -> Option<(String, &'t DeValue<'i>)> {
    table.iter().find_map(|(key, value)| {
        let path = if above.is_empty() {
            key.get_ref().to_string()
        } else {
            format!("{above}.{}", key.get_ref())
        };
        find_in(value, at, &path)
            .or_else(|| key.span().contains(&at).then(|| (path, value.get_ref())))
    })
}

fn find_in<'t, 'i>(
    value: &'t Spanned<DeValue<'i>>,
    at: usize,
    path: &str,
) -> Option<(String, &'t DeValue<'i>)> {
    let inner = match value.get_ref() {
        DeValue::Table(table) => find(table, at, path),
        DeValue::Array(items) => items.iter().find_map(|item| find_in(item, at, path)),
        _ => None,
    };
    let covers = value.span().contains(&at);
    inner.or_else(|| covers.then(|| (path.to_owned(), value.get_ref())))
}

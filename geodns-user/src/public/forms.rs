//! A visitor's mirrors in the forms that programs read.

use std::fmt::Write;

use askama::Template;
use serde_json::json;

use super::visit::{Filter, Visit};

/// The form of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// A URL on each line.
    Plain,
    /// As in pacman's `mirrorlist`.
    Pacman,
    /// As for `mirrorlist=` of dnf: a URL on each line.
    Dnf,
    /// As for apt's method `mirror`.
    Apt,
}

impl Form {
    /// That of a name.
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "plain" => Some(Self::Plain),
            "pacman" => Some(Self::Pacman),
            "dnf" => Some(Self::Dnf),
            "apt" => Some(Self::Apt),
            _ => None,
        }
    }
}

/// A list of URLs. Empty if no mirror matches.
pub fn list(visit: &Visit, form: Form, path: Option<&str>, filter: Filter<'_>) -> String {
    let mut text = String::new();
    for (place, (_, url)) in visit.usable(filter).enumerate() {
        let _ = match form {
            Form::Plain | Form::Dnf => writeln!(text, "{url}{}", path.unwrap_or_default()),
            Form::Pacman => {
                let path = path.unwrap_or("$repo/os/$arch");
                writeln!(text, "Server = {url}{path}")
            }
            Form::Apt => {
                let path = path.unwrap_or_default();
                writeln!(text, "{url}{path}\tpriority:{}", place + 1)
            }
        };
    }
    text
}

/// A URL of a file in a metalink.
struct Url<'a> {
    file: String,
    country: Option<&'a str>,
}

impl Url<'_> {
    fn scheme(&self) -> &str {
        self.file.split(':').next().unwrap_or_default()
    }

    /// The older form's preference, the best of which is 100.
    fn preference(&self, place: usize) -> usize {
        100_usize.saturating_sub(place).max(1)
    }
}

/// A metalink as RFC 5854 has it.
#[derive(Template)]
#[template(path = "metalink4.xml")]
struct Metalink4<'a> {
    name: &'a str,
    urls: &'a [Url<'a>],
}

/// The older metalink, which dnf reads.
#[derive(Template)]
#[template(path = "metalink3.xml")]
struct Metalink3<'a> {
    name: &'a str,
    urls: &'a [Url<'a>],
}

/// A metalink of a file: that of RFC 5854, or the older one that dnf reads. `None` if no mirror matches.
pub fn metalink(
    visit: &Visit,
    path: &str,
    filter: Filter<'_>,
    for_dnf: bool,
) -> askama::Result<Option<String>> {
    let name = path.rsplit('/').next().unwrap_or(path);
    let urls = visit.usable(filter).map(|(mirror, url)| Url {
        file: format!("{url}{path}"),
        country: mirror.country.as_deref(),
    });
    let urls: &[Url<'_>] = &urls.collect::<Vec<_>>();
    if urls.is_empty() {
        return Ok(None);
    }
    let text = match for_dnf {
        true => Metalink3 { name, urls }.render(),
        false => Metalink4 { name, urls }.render(),
    };
    text.map(Some)
}

/// All mirrors, for programs. Fields are added now and then, and neither renamed nor removed.
pub fn json(visit: &Visit) -> String {
    let now = visit.now_unix_ms;
    let mirrors = visit.mirrors.iter().map(|mirror| {
        json!({
            "id": mirror.id,
            "name": mirror.name,
            "url": mirror.url,
            "sponsor": mirror.sponsor,
            "country": mirror.country,
            "bandwidth": mirror.bandwidth,
            "in_service": mirror.in_service,
            "takes_visitor": mirror.takes_visitor,
            "distance_km": mirror.distance_km.map(f64::round),
            "age_s": mirror.age_s(now),
        })
    });
    let mirrors: Vec<_> = mirrors.collect();
    let all = json!({
        "version": 1,
        "visitor": visit.client.to_string(),
        "country": visit.country,
        "pool": visit.pool,
        "now_unix_ms": now,
        "mirrors": mirrors,
    });
    format!("{all}\n")
}

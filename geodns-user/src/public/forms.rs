//! A visitor's mirrors in the forms that programs read.

use std::fmt::Write;

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

/// A metalink of a file: that of RFC 5854, or the older one that dnf reads. `None` if no mirror matches.
pub fn metalink(visit: &Visit, path: &str, filter: Filter<'_>, for_dnf: bool) -> Option<String> {
    let name = escaped(path.rsplit('/').next().unwrap_or(path));
    let mut urls = String::new();
    for (place, (mirror, url)) in visit.usable(filter).enumerate() {
        let country = mirror.country.as_deref().unwrap_or_default();
        let file = escaped(&format!("{url}{path}"));
        let _ = match for_dnf {
            true => {
                let scheme = url.split(':').next().unwrap_or_default();
                let location = match country {
                    "" => String::new(),
                    country => format!(" location=\"{}\"", escaped(country)),
                };
                let preference = 100_usize.saturating_sub(place).max(1);
                writeln!(
                    urls,
                    "   <url protocol=\"{scheme}\" type=\"{scheme}\"{location} preference=\"{preference}\">{file}</url>"
                )
            }
            false => {
                let location = match country {
                    "" => String::new(),
                    country => format!(" location=\"{}\"", escaped(&country.to_lowercase())),
                };
                writeln!(
                    urls,
                    "  <url{location} priority=\"{}\">{file}</url>",
                    place + 1
                )
            }
        };
    }
    if urls.is_empty() {
        return None;
    }
    let head = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n";
    Some(match for_dnf {
        true => format!(
            "{head}<metalink version=\"3.0\" xmlns=\"http://www.metalinker.org/\" type=\"dynamic\">\n <files>\n  \
             <file name=\"{name}\"><resources>\n{urls}  </resources></file>\n </files>\n</metalink>\n"
        ),
        false => format!(
            "{head}<metalink xmlns=\"urn:ietf:params:xml:ns:metalink\">\n <file name=\"{name}\">\n{urls} </file>\n\
             </metalink>\n"
        ),
    })
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

/// Text in HTML and XML, between tags or in an attribute.
pub fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            letter => safe.push(letter),
        }
    }
    safe
}

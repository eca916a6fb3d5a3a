//! `mirror.only` and `mirror.never`: the clients that a mirror takes.

use std::fmt;

use ipnet::IpNet;
use schemars::JsonSchema;
use serde::Deserialize;

use super::reader::{Judged, Reader, all};
use super::spanned::Spanned;
use crate::base::prefix;

/// Entries of one list, at the most: a pool's lists together are numbered with 16 bits.
const MOST: usize = 500;

/// The clients that a mirror takes: those that meet `only`, and none that meets `never`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// `only`; `None`: every client.
    pub only: Option<Clients>,
    /// `never`; `None`: no client.
    pub never: Option<Clients>,
}

impl Limits {
    /// Whether every client is taken.
    pub fn are_none(&self) -> bool {
        self.only.is_none() && self.never.is_none()
    }
}

/// As they are written in the configuration.
impl fmt::Display for Limits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let limits = [("only", &self.only), ("never", &self.never)];
        let limits = limits.iter();
        let limits = limits.filter_map(|(key, of)| Some(format!("{key} {}", of.as_ref()?)));
        f.write_str(&limits.collect::<Vec<_>>().join(", "))
    }
}

/// Clients, by where they are. A client that meets any of the lists is one of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Clients {
    /// ISO 3166-1 alpha-2, upper case.
    pub countries: Vec<[u8; 2]>,
    /// AF, AN, AS, EU, NA, OC or SA.
    pub continents: Vec<[u8; 2]>,
    /// Numbers of autonomous systems.
    pub asns: Vec<u32>,
    /// Prefixes of their addresses.
    pub prefixes: Vec<IpNet>,
}

/// The lists that are not empty, as they are written in the configuration.
impl fmt::Display for Clients {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fn list<T>(key: &str, all: &[T], text: impl Fn(&T) -> String) -> Option<String> {
            let all: Vec<_> = all.iter().map(text).collect();
            (!all.is_empty()).then(|| format!("{key} = [{}]", all.join(", ")))
        }
        let code = |code: &[u8; 2]| format!("\"{}\"", String::from_utf8_lossy(code));
        let lists = [
            list("countries", &self.countries, code),
            list("continents", &self.continents, code),
            list("asns", &self.asns, u32::to_string),
            list("prefixes", &self.prefixes, |net| format!("\"{net}\"")),
        ];
        let lists: Vec<_> = lists.into_iter().flatten().collect();
        write!(f, "{{ {} }}", lists.join(", "))
    }
}

/// Clients, by where they are: those that meet any of the lists.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(
    rename = "Clients",
    extend("x-toml" = r#"{ countries = ["NL"], asns = [64496] }"#)
)]
pub(super) struct File {
    /// ISO 3166-1, two letters.
    countries: Option<Spanned<Vec<Spanned<String>>>>,
    /// AF, AN, AS, EU, NA, OC or SA.
    continents: Option<Spanned<Vec<Spanned<String>>>>,
    /// Numbers of autonomous systems.
    asns: Option<Spanned<Vec<Spanned<i64>>>>,
    /// Prefixes or addresses.
    prefixes: Option<Spanned<Vec<Spanned<String>>>>,
}

/// Reads the clients of a key, `mirror.only` or `mirror.never`.
pub(super) fn clients(reader: &Reader<'_>, key: &str, file: Spanned<File>) -> Judged<Clients> {
    let span = file.span();
    let file = file.into_inner();
    let (countries, continents, asns, prefixes) = (
        format!("{key}.countries"),
        format!("{key}.continents"),
        format!("{key}.asns"),
        format!("{key}.prefixes"),
    );
    let is_empty = file.countries.is_none()
        && file.continents.is_none()
        && file.asns.is_none()
        && file.prefixes.is_none();
    let countries = list(reader, &countries, file.countries, |text| {
        reader.country(&text, &countries)
    });
    let continents = list(reader, &continents, file.continents, |text| {
        reader.continent(&text, &continents)
    });
    let asns = list(reader, &asns, file.asns, |number| {
        reader.number(number, &asns, 1, u32::MAX)
    });
    let prefixes = list(reader, &prefixes, file.prefixes, |text| {
        prefix::parse(text.get_ref())
            .or_else(|message| reader.error(text.span(), &prefixes, message))
    });
    if is_empty {
        let message =
            "no client meets it; add countries, continents, asns or prefixes, or remove it";
        return Err(reader.misfit(span, key, message));
    }
    Ok(Clients {
        countries: countries?,
        continents: continents?,
        asns: asns?,
        prefixes: prefixes?,
    })
}

/// Reads a list, which is neither empty nor too long.
fn list<T, V: Ord>(
    reader: &Reader<'_>,
    key: &str,
    list: Option<Spanned<Vec<Spanned<T>>>>,
    read: impl Fn(Spanned<T>) -> Judged<V>,
) -> Judged<Vec<V>> {
    let Some(list) = list else {
        return Ok(Vec::new());
    };
    let span = list.span();
    let len = list.get_ref().len();
    if len == 0 {
        return reader.error(span, key, "empty; name some, or remove the key");
    }
    if len > MOST {
        let message = format!("{len} entries; {MOST} is the most");
        return reader.error(span, key, message);
    }
    let mut values = all(list.into_inner().into_iter().map(read))?;
    // Lists that say the same are the same limits.
    values.sort_unstable();
    values.dedup();
    Ok(values)
}

#[cfg(test)]
mod tests;

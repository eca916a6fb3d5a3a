//! The mirrors for one visitor.

use std::net::IpAddr;

/// The mirrors of a pool, for one visitor.
#[derive(Clone, Debug, PartialEq)]
pub struct Visit {
    /// The visitor.
    pub client: IpAddr,
    /// Country of the visitor, ISO 3166-1 alpha-2.
    pub country: Option<String>,
    /// The pool whose mirrors these are.
    pub pool: String,
    /// Milliseconds since 1970.
    pub now_unix_ms: u64,
    /// The mirrors, best first: those of DNS's answer, the others of the order, then by distance; those that are out of
    /// service, or do not take the visitor, last.
    pub mirrors: Vec<Listed>,
}

/// A mirror, for one visitor.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Listed {
    /// Its id.
    pub id: String,
    /// Name that leads to it alone.
    pub name: Option<String>,
    /// Where it serves the site; ends with a slash.
    pub url: Option<String>,
    /// Who pays for it.
    pub sponsor: Option<String>,
    /// Its country, ISO 3166-1 alpha-2.
    pub country: Option<String>,
    /// Bits a second.
    pub bandwidth: Option<u64>,
    /// Whether visitors are sent to it.
    pub in_service: bool,
    /// Whether its limits let it take the visitor.
    pub takes_visitor: bool,
    /// Kilometres from the visitor.
    pub distance_km: Option<f64>,
    /// Time that the trace of its content names.
    pub trace_unix_ms: Option<u64>,
}

impl Listed {
    /// Seconds since its content was brought up to date.
    pub fn age_s(&self, now_unix_ms: u64) -> Option<u64> {
        Some(now_unix_ms.saturating_sub(self.trace_unix_ms?) / 1000)
    }
}

impl Visit {
    /// The mirrors that can serve the visitor, best first, each with its URL.
    pub(super) fn usable(&self, filter: Filter<'_>) -> impl Iterator<Item = (&Listed, &str)> {
        let usable = self.mirrors.iter();
        let usable = usable.filter(|mirror| mirror.in_service && mirror.takes_visitor);
        let usable = usable.filter(move |mirror| filter.lets_pass(mirror));
        usable.filter_map(|mirror| Some((mirror, mirror.url.as_deref()?)))
    }
}

/// The mirrors that a visitor wants.
#[derive(Clone, Copy, Debug, Default)]
pub struct Filter<'a> {
    /// Countries, with commas between; `None`: all.
    pub countries: Option<&'a str>,
    /// Ids of those that are left out, with commas between.
    pub not: Option<&'a str>,
}

impl Filter<'_> {
    /// Whether a mirror is wanted.
    pub fn lets_pass(&self, mirror: &Listed) -> bool {
        let names = |list: &str, name: &str| {
            let mut names = list.split(',').map(str::trim);
            names.any(|other| other.eq_ignore_ascii_case(name))
        };
        let country = mirror.country.as_deref();
        let is_there = |list: &str| country.is_some_and(|country| names(list, country));
        self.countries.is_none_or(is_there) && !self.not.is_some_and(|list| names(list, &mirror.id))
    }
}

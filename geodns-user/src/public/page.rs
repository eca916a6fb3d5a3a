//! The page for people: the mirrors as a table, without a script.

use askama::Template;

use super::visit::{Listed, Visit};
use crate::base::bandwidth;

#[derive(Template)]
#[template(path = "visit.html")]
struct Page<'a> {
    visit: &'a Visit,
    rows: Vec<Row<'a>>,
}

struct Row<'a> {
    class: &'static str,
    id: &'a str,
    url: Option<&'a str>,
    name: Option<&'a str>,
    state: &'static str,
    country: &'a str,
    distance: String,
    age: String,
    bandwidth: String,
    sponsor: &'a str,
}

const DASH: &str = "\u{2013}";

/// The page of a visit.
pub fn page(visit: &Visit) -> askama::Result<String> {
    let now = visit.now_unix_ms;
    let rows = visit.mirrors.iter().enumerate();
    let rows = rows.map(|(place, mirror)| row(mirror, place == 0, now));
    Page {
        visit,
        rows: rows.collect(),
    }
    .render()
}

fn row(mirror: &Listed, is_first: bool, now: u64) -> Row<'_> {
    let (class, state) = match (mirror.in_service, mirror.takes_visitor) {
        (true, true) if is_first => ("best", "in service"),
        (true, true) => ("", "in service"),
        (true, false) => ("out", "not for your network"),
        (false, _) => ("out", "out of service"),
    };
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| DASH.to_owned());
    Row {
        class,
        id: &mirror.id,
        url: mirror.url.as_deref(),
        name: mirror.name.as_deref(),
        state,
        country: mirror.country.as_deref().unwrap_or(DASH),
        distance: or_dash(mirror.distance_km.map(|km| format!("{km:.0} km"))),
        age: or_dash(mirror.age_s(now).map(age)),
        bandwidth: or_dash(mirror.bandwidth.map(bandwidth::shown)),
        sponsor: mirror.sponsor.as_deref().unwrap_or(DASH),
    }
}

/// An age in its largest unit.
fn age(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        7200..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} d", seconds / 86_400),
    }
}

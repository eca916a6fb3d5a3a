//! The page for people: the mirrors as a table, without a script.

use std::fmt::Write;

use super::forms::escaped;
use super::visit::{Listed, Visit};
use crate::base::bandwidth;

const STYLE: &str = "\
:root{color-scheme:light dark;--line:#8884;--dim:#767676}\
@media(prefers-color-scheme:dark){:root{--dim:#9a9a9a}}\
body{font:16px/1.5 system-ui,sans-serif;margin:0 auto;max-width:64rem;padding:1.5rem 1rem}\
h1{font-size:1.5rem;margin:0}p{margin:.5rem 0}\
table{border-collapse:collapse;width:100%;margin:1rem 0}\
th,td{text-align:left;padding:.5rem .75rem .5rem 0;border-bottom:1px solid var(--line);vertical-align:top}\
th{font-weight:600}td.n,th.n{text-align:right;font-variant-numeric:tabular-nums}\
tr.out td{color:var(--dim)}.dim{color:var(--dim);font-size:.875rem}\
tr.best td:first-child{font-weight:600}a{overflow-wrap:anywhere}\
@media(max-width:40rem){.wide{display:none}}";

/// The page of a visit.
pub fn page(visit: &Visit) -> String {
    let now = visit.now_unix_ms;
    let from = match &visit.country {
        Some(country) => format!("{} ({})", visit.client, escaped(country)),
        None => visit.client.to_string(),
    };
    let mut rows = String::new();
    for (place, mirror) in visit.mirrors.iter().enumerate() {
        row(&mut rows, mirror, place == 0, now);
    }
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>Mirrors</title>\n\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\"><style>{STYLE}</style></head>\n\
         <body><main><h1>Mirrors</h1>\n\
         <p>Sorted for you at {from}, as DNS sorts them: the first is the one that you get.</p>\n\
         <table><thead><tr><th scope=\"col\">Mirror</th><th scope=\"col\">State</th>\
         <th scope=\"col\">Country</th><th scope=\"col\" class=\"n\">Distance</th>\
         <th scope=\"col\" class=\"n\">Age</th><th scope=\"col\" class=\"n wide\">Bandwidth</th>\
         <th scope=\"col\" class=\"wide\">Sponsor</th></tr></thead>\n<tbody>\n{rows}</tbody></table>\n\
         <p class=\"dim\">For programs: <a href=\"/mirrors.json\">mirrors.json</a>, \
         <a href=\"/mirrorlist?for=plain\">a plain list</a>, <a href=\"/mirrorlist?for=pacman\">pacman</a>, \
         <a href=\"/mirrorlist?for=dnf\">dnf</a>, <a href=\"/mirrorlist?for=apt\">apt</a>.</p>\n\
         </main></body></html>\n"
    )
}

fn row(rows: &mut String, mirror: &Listed, is_first: bool, now: u64) {
    let id = escaped(&mirror.id);
    let link = match &mirror.url {
        Some(url) => format!("<a href=\"{}\">{id}</a>", escaped(url)),
        None => id,
    };
    let name = mirror.name.as_deref().map(escaped);
    let name = name.map_or(String::new(), |name| {
        format!("<br><span class=\"dim\">{name}</span>")
    });
    let (class, state) = match (mirror.in_service, mirror.takes_visitor) {
        (true, true) if is_first => (" class=\"best\"", "in service"),
        (true, true) => ("", "in service"),
        (true, false) => (" class=\"out\"", "not for your network"),
        (false, _) => (" class=\"out\"", "out of service"),
    };
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "\u{2013}".to_owned());
    let _ = writeln!(
        rows,
        "<tr{class}><td>{link}{name}</td><td>{state}</td><td>{}</td><td class=\"n\">{}</td>\
         <td class=\"n\">{}</td><td class=\"n wide\">{}</td><td class=\"wide\">{}</td></tr>",
        or_dash(mirror.country.as_deref().map(escaped)),
        or_dash(mirror.distance_km.map(|km| format!("{km:.0} km"))),
        or_dash(mirror.age_s(now).map(age)),
        or_dash(mirror.bandwidth.map(bandwidth::shown)),
        or_dash(mirror.sponsor.as_deref().map(escaped)),
    );
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

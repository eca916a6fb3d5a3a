//! Answers as text for people: tables without lines, numbers to the right.

use std::borrow::Cow;
use std::fmt::Write;
use std::io::{self, IsTerminal};
use std::time::Duration;

use comfy_table::{CellAlignment, ColumnConstraint, ContentArrangement, Table, presets};

use super::check::Summary;
use crate::control::map::{Change, Imported, Lookup, MapChanged, Mapping};
use crate::control::reload::Reloaded;
use crate::control::status::{PoolStatus, Restarted, Stats, Status};
use crate::control::zone::{Catalog, Zone, ZoneRole};
use crate::observe;
use crate::printable;
use crate::serve;

/// Columns of a table: heading, and whether they hold numbers.
type Columns<'a> = &'a [(&'a str, bool)];
pub const TEXT: bool = false;
pub const NUMBER: bool = true;

pub fn table<const N: usize>(
    columns: &[(&str, bool); N],
    rows: impl IntoIterator<Item = [String; N]>,
) -> String {
    render(columns, rows.into_iter().map(Vec::from), None)
}

/// A table; if it must fit a width, text of the last column is folded.
fn render(
    columns: Columns<'_>,
    rows: impl Iterator<Item = Vec<String>>,
    width: Option<u16>,
) -> String {
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_header(columns.iter().map(|(heading, _)| *heading))
        .add_rows(rows.map(|row| row.into_iter().map(one_line)));
    for (index, (_, number)) in columns.iter().enumerate() {
        let column = table.column_mut(index).expect("the header has made it");
        column.set_padding((0, 2));
        if *number {
            column.set_cell_alignment(CellAlignment::Right);
        }
        if index + 1 < columns.len() {
            column.set_constraint(ColumnConstraint::ContentWidth);
        }
    }
    if let Some(width) = width {
        table
            .set_content_arrangement(ContentArrangement::Dynamic)
            .set_width(width);
    }
    table.trim_fmt() + "\n"
}

/// A cell, made safe before the table is measured: it stays one line, and as wide as it is shown.
fn one_line(cell: String) -> String {
    match printable::line(&cell) {
        Cow::Borrowed(_) => cell,
        Cow::Owned(safe) => safe,
    }
}

/// `key  value` lines.
pub fn pairs(pairs: &[(&str, String)]) -> String {
    let width = pairs.iter().map(|(key, _)| key.len()).max().unwrap_or(0);
    let mut text = String::new();
    for (key, value) in pairs {
        let _ = writeln!(text, "{key:width$}  {}", printable::line(value));
    }
    text
}

/// `972,275`, for sentences.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn memory(octets: u64) -> String {
    match octets {
        0..1024 => format!("{octets} B"),
        1024..0x10_0000 => format!("{:.1} KiB", octets as f64 / 1024.0),
        _ => format!("{:.1} MiB", octets as f64 / 1_048_576.0),
    }
}

pub fn uptime(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{minutes}m {}s", seconds % 60),
        3600..86_400 => format!("{hours}h {minutes}m"),
        _ => format!("{days}d {hours}h"),
    }
}

fn plural(number: u64, noun: &str) -> String {
    let s = if number == 1 { "" } else { "s" };
    match noun.strip_suffix('x') {
        // prefix, prefixes
        Some(_) if number != 1 => format!("{} {noun}es", grouped(number)),
        _ => format!("{} {noun}{s}", grouped(number)),
    }
}

pub fn joined<T: ToString>(items: &[T]) -> String {
    if items.is_empty() {
        return "-".to_owned();
    }
    let items: Vec<_> = items.iter().map(T::to_string).collect();
    items.join(", ")
}

/// `geodns status`; with the prefix tables and who shares them, if that is wanted.
pub fn status(status: Status, verbose: bool) -> String {
    let attached: Vec<_> = status
        .interfaces
        .iter()
        .map(|interface| {
            let pinned = if interface.pinned { "" } else { ", not pinned" };
            format!("{} ({}{pinned})", interface.name, interface.mode)
        })
        .collect();
    let mut lines = vec![
        ("geodns", status.version),
        ("config", status.config),
        ("up", uptime(status.uptime_seconds)),
        ("plan", status.generation.to_string()),
        ("listen", joined(&status.listen)),
        ("port", status.port.to_string()),
    ];
    lines.extend(
        status
            .not_listening
            .into_iter()
            .map(|line| ("not listening", line)),
    );
    if let Some(port) = status.tls_port {
        lines.push(("TLS port", port.to_string()));
    }
    if attached.is_empty() && status.missing_interfaces.is_empty() {
        lines.push(("kernel", "off: the slow path answers everything".to_owned()));
    } else {
        let missing = status.missing_interfaces.iter();
        let missing = missing.map(|name| format!("{name} (not attached: gone, or see the log)"));
        let interfaces: Vec<_> = attached.into_iter().chain(missing).collect();
        lines.push(("interfaces", interfaces.join(", ")));
        lines.push((
            "kernel",
            format!(
                "{} of tables, {} verified",
                memory(status.kernel_memory_bytes),
                plural(status.verified_instructions, "instruction")
            ),
        ));
    }
    if verbose && !status.atlases.is_empty() {
        lines.push((
            "atlases",
            format!(
                "{}, {}, {}",
                grouped(status.atlases.len() as u64),
                plural(status.regions, "region"),
                memory(status.atlas_bytes)
            ),
        ));
        for atlas in &status.atlases {
            lines.push(("", format!("{}: {}", atlas.number, few(&atlas.pools))));
        }
    }
    lines.push((
        "serves",
        format!(
            "{}{}, {}, {}",
            plural(status.zones, "zone"),
            match status.members {
                0 => String::new(),
                members => format!(" ({} of catalogs)", grouped(members)),
            },
            plural(status.steered_names, "steered name"),
            plural(status.pools.len() as u64, "pool")
        ),
    ));
    if !status.signed_zones.is_empty() {
        let zones = few(&status.signed_zones);
        lines.push((
            "warning",
            format!("signed, and served without signatures: {zones}"),
        ));
    }
    let names = status.names;
    if names.most > 0 {
        let mut text = format!(
            "{} of {} in the kernel",
            grouped(names.in_kernel),
            plural(names.served, "name")
        );
        if names.in_kernel < names.served {
            text.push_str(&format!(
                " ({} promoted, kernel.max_names is {})",
                grouped(names.promoted),
                grouped(names.most)
            ));
        }
        lines.push(("names", text));
    }
    for Restarted {
        name, times, cause, ..
    } in &status.restarted
    {
        lines.push((
            "restarted",
            format!("{name}, {}: {cause}", plural(*times, "time")),
        ));
    }
    if let Some(error) = status.last_error {
        lines.push(("last error", error));
    }
    format!("{}\n{}", pairs(&lines), pools(status.pools))
}

fn pools(pools: Vec<PoolStatus>) -> String {
    table(
        &[
            ("POOL", TEXT),
            ("POLICY", TEXT),
            ("LISTED", NUMBER),
            ("IMPORTED", NUMBER),
            ("OVERRIDES", NUMBER),
            ("MIRRORS", TEXT),
        ],
        pools.into_iter().map(|pool| {
            [
                pool.id,
                pool.policy,
                pool.listed.to_string(),
                pool.imported.to_string(),
                pool.overrides.to_string(),
                joined(&pool.mirrors),
            ]
        }),
    )
}

/// Columns of the terminal; none where the output is none.
pub fn terminal_width() -> Option<u16> {
    let is_terminal = io::stdout().is_terminal();
    let size = is_terminal.then(crossterm::terminal::size);
    size.and_then(Result::ok).map(|(columns, _)| columns)
}

/// `geodns stats`; with rates since an earlier picture, and folded to a width.
pub fn stats(
    now: &Stats,
    before: Option<(&Stats, Duration)>,
    all: bool,
    width: Option<u16>,
) -> String {
    let of_kernel: Vec<(String, String)> = observe::counters::meanings().collect();
    let fast = counters(
        "FAST PATH",
        of_kernel
            .iter()
            .map(|(name, meaning)| (&**name, &**meaning)),
        &now.kernel,
        before.map(|(stats, since)| (&stats.kernel, since)),
        all,
        width,
    );
    let slow = counters(
        "SLOW PATH",
        serve::Stats::MEANINGS.iter().copied(),
        &now.slow,
        before.map(|(stats, since)| (&stats.slow, since)),
        all,
        width,
    );
    format!("{fast}\n{slow}")
}

type Counts = std::collections::BTreeMap<String, u64>;

fn counters<'a>(
    heading: &str,
    meanings: impl Iterator<Item = (&'a str, &'a str)>,
    now: &Counts,
    before: Option<(&Counts, Duration)>,
    all: bool,
    width: Option<u16>,
) -> String {
    let meanings: Vec<_> = meanings.collect();
    // A daemon of another version may know more counters than we do.
    let unknown = now
        .keys()
        .map(String::as_str)
        .filter(|name| meanings.iter().all(|(known, _)| known != name))
        .map(|name| (name, ""));
    let mut rows: Vec<_> = meanings
        .iter()
        .copied()
        .chain(unknown)
        .map(|(name, meaning)| (name, meaning, now.get(name).copied().unwrap_or(0)))
        .filter(|(_, _, count)| all || *count != 0)
        .collect();
    rows.sort_by_key(|(_, _, count)| *count == 0);
    let rate = |name: &str, count: u64| {
        before.map(|(before, since)| {
            // Counters that started anew have counted all of it since.
            let delta = match before.get(name) {
                Some(&earlier) => count.checked_sub(earlier).unwrap_or(count),
                None => count,
            };
            format!(
                "{:.0}",
                delta as f64 / since.as_secs_f64().max(f64::EPSILON)
            )
        })
    };
    let mut columns = vec![(heading, TEXT), ("COUNT", NUMBER)];
    if before.is_some() {
        columns.push(("PER SECOND", NUMBER));
    }
    columns.push(("MEANING", TEXT));
    if rows.is_empty() {
        return format!("{heading}: nothing counted yet\n");
    }
    render(
        &columns,
        rows.into_iter().map(|(name, meaning, count)| {
            let mut row = vec![name.to_owned(), count.to_string()];
            row.extend(rate(name, count));
            row.push(meaning.trim().to_owned());
            row
        }),
        width,
    )
}

/// `geodns zones`
pub fn zones(zones: Vec<Zone>) -> String {
    let in_catalogs = zones
        .iter()
        .any(|zone| zone.catalog.is_some() || zone.member_of.is_some());
    let mut columns = vec![
        ("ZONE", TEXT),
        ("SERIAL", NUMBER),
        ("NAMES", NUMBER),
        ("STEERED", NUMBER),
        ("ROLE", TEXT),
        ("CHECKED", TEXT),
        ("EXPIRES IN", TEXT),
    ];
    if in_catalogs {
        columns.push(("CATALOG", TEXT));
    }
    let list = render(
        &columns,
        zones.iter().map(|zone| {
            let [checked, expires] = times(zone);
            let mut row = vec![
                zone.name.clone(),
                zone.serial.to_string(),
                zone.names.to_string(),
                zone.steered.len().to_string(),
                role(zone.role).to_owned(),
                checked,
                expires,
            ];
            if in_catalogs {
                row.push(match (zone.catalog, &zone.member_of) {
                    (Some(Catalog::Consumer), _) => "consumer".to_owned(),
                    (Some(Catalog::Producer), _) => "producer".to_owned(),
                    (None, Some(catalog)) => format!("in {catalog}"),
                    (None, None) => String::new(),
                });
            }
            row
        }),
        None,
    );
    let steered: Vec<_> = zones
        .into_iter()
        .flat_map(|zone| zone.steered)
        .map(|(name, pool)| [name, pool])
        .collect();
    if steered.is_empty() {
        return list;
    }
    let steered = table(&[("STEERED NAME", TEXT), ("POOL", TEXT)], steered);
    format!("{list}\n{steered}")
}

fn role(role: ZoneRole) -> &'static str {
    match role {
        ZoneRole::Primary => "primary",
        ZoneRole::Secondary => "secondary",
    }
}

/// When a primary last had nothing newer, and in what time a zone expires.
fn times(zone: &Zone) -> [String; 2] {
    let between = |earlier: u64, later: u64| uptime(later.saturating_sub(earlier) / 1000);
    let none = || "-".to_owned();
    let now = zone.now_unix_ms;
    let checked = match (zone.role, zone.checked_unix_ms) {
        (ZoneRole::Primary, _) => none(),
        (ZoneRole::Secondary, None) => "never".to_owned(),
        (ZoneRole::Secondary, Some(at)) => format!("{} ago", between(at, now)),
    };
    let expires = zone.expires_unix_ms;
    [checked, expires.map_or_else(none, |at| between(now, at))]
}

/// `geodns map list`
pub fn mappings(mappings: Vec<Mapping>) -> String {
    if mappings.is_empty() {
        return "no overrides (set one with `geodns map set PREFIX MIRROR`)\n".to_owned();
    }
    table(
        &[("PREFIX", TEXT), ("MIRROR", TEXT), ("POOL", TEXT)],
        mappings
            .into_iter()
            .map(|mapping| [mapping.prefix.to_string(), mapping.mirror, mapping.pool]),
    )
}

/// `geodns map set` and `geodns map del`
pub fn changed(changed: MapChanged) -> String {
    let prefix = changed.prefix;
    let mut text = String::new();
    for Change {
        pool,
        before,
        after,
    } in changed.changes
    {
        let _ = match (before, after) {
            (None, Some(after)) => writeln!(text, "{pool}: {prefix} -> {after}"),
            (Some(before), Some(after)) if before == after => {
                writeln!(text, "{pool}: {prefix} -> {after} (as before)")
            }
            (Some(before), Some(after)) => {
                writeln!(text, "{pool}: {prefix} -> {after} (was {before})")
            }
            (Some(before), None) => writeln!(text, "{pool}: {prefix} deleted (was {before})"),
            (None, None) => writeln!(text, "{pool}: {prefix} had no override"),
        };
    }
    text
}

/// The reason: `override 192.0.2.0/24`, `default`.
fn decided_by(lookup: &Lookup) -> String {
    match lookup.prefix {
        Some(prefix) => format!("{} {prefix}", lookup.source),
        None => lookup.source.clone(),
    }
}

/// `geodns map get`
pub fn lookups(lookups: Vec<Lookup>) -> String {
    table(
        &[
            ("POOL", TEXT),
            ("A", TEXT),
            ("AAAA", TEXT),
            ("SCOPE", NUMBER),
            ("DECIDED BY", TEXT),
        ],
        lookups.into_iter().map(|lookup| {
            [
                lookup.pool.clone(),
                joined(&lookup.mirrors),
                joined(&lookup.mirrors_v6),
                format!("/{}", lookup.scope),
                decided_by(&lookup),
            ]
        }),
    )
}

/// `geodns map import`
pub fn imported(imported: Imported) -> String {
    let seconds = |ms: u64| format!("{:.2} s", ms as f64 / 1000.0);
    let mut text = String::new();
    for (pool, &prefixes) in &imported.prefixes {
        let _ = writeln!(text, "{pool}: {} in force", plural(prefixes, "prefix"));
    }
    let Imported {
        parse_ms,
        compile_ms,
        store_ms,
        publish_ms,
        ..
    } = imported;
    let _ = writeln!(
        text,
        "in {}: read {}, compiled {}, on disk {}, published {}",
        seconds(parse_ms + compile_ms + store_ms + publish_ms),
        seconds(parse_ms),
        seconds(compile_ms),
        seconds(store_ms),
        seconds(publish_ms),
    );
    if imported.kernel_memory_bytes > 0 {
        let _ = writeln!(
            text,
            "kernel memory of the tables: {}",
            memory(imported.kernel_memory_bytes)
        );
    }
    text
}

/// The first of some ids, and how many more there are.
fn few(ids: &[String]) -> String {
    const MOST: usize = 6;
    let first = ids[..ids.len().min(MOST)].join(", ");
    match ids.len().saturating_sub(MOST) {
        0 => first,
        more => format!("{first} and {more} more"),
    }
}

/// `geodns reload`
pub fn reloaded(reloaded: Reloaded) -> String {
    let warning = reloaded
        .warning
        .map(|warning| format!("but: {warning}\n"))
        .unwrap_or_default();
    format!(
        "reloaded: plan {} is in force\n{warning}",
        reloaded.generation
    )
}

/// `geodns check`
pub fn summary(summary: &Summary) -> String {
    let count = |number: usize| grouped(number as u64);
    let warnings = summary.warnings.iter();
    let warnings: String = warnings.map(|line| format!("warning: {line}\n")).collect();
    format!(
        "{warnings}{}: ok\n{}",
        summary.config,
        pairs(&[
            ("zones", count(summary.zones)),
            ("names", count(summary.names)),
            ("steered", count(summary.steered_names)),
            ("mirrors", count(summary.mirrors)),
            ("pools", count(summary.pools)),
            ("prefixes", count(summary.prefixes)),
            (
                "kernel",
                format!(
                    "{} of tables ({} blocks of the prefix table)",
                    memory(summary.kernel_memory_bytes),
                    grouped(summary.blocks.into())
                )
            ),
        ])
    )
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn counters_fit_the_terminal() {
        let named = observe::counters::meanings().map(|(name, _)| (name, 1_234_567_890));
        let slow = serve::Stats::MEANINGS
            .iter()
            .map(|(name, _)| ((*name).to_owned(), 7));
        let now = Stats {
            kernel: named.collect(),
            slow: slow.collect(),
        };
        let whole = stats(&now, None, true, None);
        for width in [80, 100, 200] {
            let before = Some((&now, Duration::from_secs(1)));
            let text = stats(&now, before, true, Some(width));
            for line in text.lines() {
                assert!(
                    line.chars().count() <= usize::from(width),
                    "{width}: {line}"
                );
            }
            // Nothing is lost on the way: each word of each meaning is there.
            for word in whole.split_whitespace() {
                assert!(text.contains(word), "{width}: {word}");
            }
        }
    }

    #[test]
    fn a_zone_has_a_role_and_a_secondary_its_times() {
        let zone = |name: &str, role, checked_unix_ms, expires_unix_ms| Zone {
            name: name.into(),
            serial: 7,
            names: 3,
            steered: BTreeMap::new(),
            catalog: None,
            member_of: None,
            role,
            signed: false,
            checked_unix_ms,
            expires_unix_ms,
            now_unix_ms: 100_000,
        };
        let list = vec![
            zone("a.test.", ZoneRole::Primary, None, None),
            zone("b.test.", ZoneRole::Secondary, Some(88_000), Some(688_000)),
            zone("c.test.", ZoneRole::Secondary, None, None),
        ];
        assert_eq!(
            zones(list),
            "\
ZONE     SERIAL  NAMES  STEERED  ROLE       CHECKED  EXPIRES IN
a.test.       7      3        0  primary    -        -
b.test.       7      3        0  secondary  12s ago  9m 48s
c.test.       7      3        0  secondary  never    -
"
        );
    }
}

//! `geodns zones`: the daemon's zones; `geodns zone check`: one zone file, without a daemon.

use std::path::{Path, PathBuf};

use clap::{Subcommand, ValueHint};
use serde::Serialize;

use super::output::{NUMBER, TEXT, print, render, table, uptime};
use crate::base::complaint::Error;
use crate::base::name::{Name, parse_name};
use crate::control::zone::{Catalog, Zone, ZoneRole};
use crate::zone::{self, Findings};

/// `geodns zone`
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Report every error in a zone file, and warn about likely mistakes
    ///
    /// This command does not know which names are steered; `geodns check` does.
    Check {
        /// Zone file
        #[arg(value_hint = ValueHint::FilePath)]
        file: PathBuf,
        /// Apex of the zone
        #[arg(long, value_name = "NAME", value_parser = zone_name)]
        origin: Name,
    },
}

fn zone_name(text: &str) -> Result<Name, String> {
    parse_name(text)
}

/// A zone file has errors, which have been printed.
#[derive(Debug, thiserror::Error)]
#[error("the zone file has errors")]
pub struct Broken;

/// Checks a zone file, and prints what is found; an error if it cannot be served.
pub fn run(command: Command, json: bool) -> anyhow::Result<()> {
    let Command::Check { file, origin } = command;
    let (text, is_good) = check(&file, &origin, json)?;
    print(&text)?;
    match is_good {
        true => Ok(()),
        false => Err(Broken.into()),
    }
}

/// Content of a zone file.
#[derive(Clone, Debug, Serialize)]
struct Checked {
    zone: String,
    file: String,
    /// Without errors.
    ok: bool,
    serial: Option<u32>,
    names: Option<usize>,
    errors: Vec<String>,
    warnings: Vec<String>,
}

/// Checks a zone file: the text to print, and whether the zone can be served.
fn check(file: &Path, origin: &Name, json: bool) -> anyhow::Result<(String, bool)> {
    let reading = zone::read(origin, file)?;
    let checked = Checked {
        zone: origin.to_string(),
        file: file.display().to_string(),
        ok: reading.zone.is_some(),
        serial: reading.zone.as_ref().map(zone::Zone::serial),
        names: reading.zone.as_ref().map(zone::Zone::len),
        errors: errors(&reading.findings).collect(),
        warnings: warnings(&reading.findings).collect(),
    };
    let text = match json {
        true => serde_json::to_string(&checked)? + "\n",
        false => text(&checked, &reading.findings),
    };
    Ok((text, checked.ok))
}

/// Errors, then warnings, each in the order of the file, then what it comes to.
fn text(checked: &Checked, found: &Findings) -> String {
    let mut text = String::new();
    for line in &checked.errors {
        text += &format!("{line}\n");
    }
    for line in &checked.warnings {
        text += &format!("warning: {line}\n");
    }
    let counted = |number: usize, what: &str| match number {
        1 => format!("1 {what}"),
        number => format!("{number} {what}s"),
    };
    let errors = counted(found.errors.len() + found.more_errors, "error");
    let warnings = counted(found.warnings.len() + found.more_warnings, "warning");
    text += &match (checked.serial, checked.names) {
        (Some(serial), Some(names)) => format!(
            "{}: ok, serial {serial}, {}, {warnings}\n",
            checked.zone,
            counted(names, "name")
        ),
        _ => format!("{}: {errors}, {warnings}\n", checked.zone),
    };
    text
}

/// Errors, a line each.
fn errors(found: &Findings) -> impl Iterator<Item = String> {
    lines(&found.errors, found.more_errors, "errors")
}

/// Warnings, a line each.
pub fn warnings(found: &Findings) -> impl Iterator<Item = String> {
    lines(&found.warnings, found.more_warnings, "warnings")
}

fn lines(found: &[Error], more: usize, what: &str) -> impl Iterator<Item = String> {
    let last = found.last().filter(|_| more > 0);
    let more = last.map(|last| format!("{}: {more} more {what}", last.file.display()));
    found.iter().map(Error::to_string).chain(more)
}

/// `geodns zones`
pub fn list(zones: Vec<Zone>) -> String {
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

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
            super::list(list),
            "\
ZONE     SERIAL  NAMES  STEERED  ROLE       CHECKED  EXPIRES IN
a.test.       7      3        0  primary    -        -
b.test.       7      3        0  secondary  12s ago  9m 48s
c.test.       7      3        0  secondary  never    -
"
        );
    }
}

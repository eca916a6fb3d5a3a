//! `geodns check`: reads and compiles everything, as the daemon would; `geodns zone check`: reads one
//! zone file. They change nothing.

use std::path::Path;

use geodns_common::tables::Tables;
use nix::net::if_::if_nametoindex;
use serde::Serialize;

use super::show;
use crate::base::complaint::{Error, Errors};
use crate::base::name::Name;
use crate::config::{self, Config, Mode};
use crate::health::Feed;
use crate::kernel::memory;
use crate::world::Inputs;
use crate::zone::{self, Findings, Zone, Zones};

/// Summary of a configuration.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    /// The file.
    pub config: String,
    /// Zones.
    pub zones: usize,
    /// Names in them.
    pub names: usize,
    /// Names that a pool answers.
    pub steered_names: usize,
    /// Mirrors.
    pub mirrors: usize,
    /// Pools.
    pub pools: usize,
    /// Prefixes in the pools' lists.
    pub prefixes: usize,
    /// Blocks of the prefix table, a quarter to grow included.
    pub blocks: u32,
    /// Octets of kernel memory that the program's maps take.
    pub kernel_memory_bytes: u64,
    /// Warnings: legal, but likely mistakes.
    pub warnings: Vec<String>,
}

/// A zone file has errors, which have been printed.
#[derive(Debug, thiserror::Error)]
#[error("the zone file has errors")]
pub struct Broken;

/// Checks `file`; the text to print. What is wrong with it or any file that it names is all in the error.
pub fn check(file: &Path, json: bool) -> anyhow::Result<String> {
    let config = Config::load(file)?;
    let readings = zone::read_all(&config);
    let all = || readings.iter().map(|reading| &reading.findings);
    let mut wrong: Vec<Error> = all().flat_map(|found| found.errors.clone()).collect();
    let more = all().map(|found| found.more_errors).sum();
    let mut warnings = interfaces(&config);
    warnings.extend(feed(&config));
    warnings.extend(all().flat_map(self::warnings));
    let mut zones = Zones::default();
    if wrong.is_empty() {
        match zone::steered(&config, readings, &|_| None) {
            Ok(steered) => zones = steered,
            Err(error) => wrong.push(error),
        }
    }
    let inputs = match Inputs::with_zones(config, zones, &std::env::temp_dir(), None) {
        Ok(inputs) if wrong.is_empty() => inputs,
        Ok(_) => return Err(Errors::new(wrong, more).into()),
        Err(errors) => {
            wrong.extend(errors.iter().cloned());
            return Err(Errors::new(wrong, more + errors.more()).into());
        }
    };
    warnings.extend(inputs.warnings().iter().map(ToString::to_string));
    // The key only spreads names over slots; any will do.
    let world = inputs.compile(&inputs.layers(), 1, rand::random())?;
    warnings.extend(inputs.unmatched().iter().map(ToString::to_string));
    let plan = world.plan.read().expect("nobody else has it");
    let capacity = plan.capacity();
    let zones = || inputs.zones.iter();
    let summary = Summary {
        config: file.display().to_string(),
        zones: zones().count(),
        names: zones().map(|zone| zone.names()).sum(),
        steered_names: inputs.config.steers.len(),
        mirrors: inputs.config.mirrors.len(),
        pools: inputs.config.pools.len(),
        prefixes: inputs.lists.iter().map(|list| list.len()).sum(),
        blocks: capacity.blocks,
        kernel_memory_bytes: memory::bytes(&capacity, plan.settings(), plan.exempt().len()),
        warnings,
    };
    if json {
        return Ok(serde_json::to_string(&summary)? + "\n");
    }
    Ok(show::summary(&summary))
}

/// Interfaces that are not there. They may be on the machine that the file is for.
fn interfaces(config: &Config) -> Vec<String> {
    let interfaces = config.kernel.interfaces.iter();
    let missing = interfaces
        .filter(|name| config.kernel.mode != Mode::Off && if_nametoindex(name.as_str()).is_err());
    let line = config::line_of(&config.path, "kernel", "interfaces");
    let warning = |name: &String| Error {
        file: config.path.clone(),
        line,
        column: None,
        key: Some("kernel.interfaces".to_owned()),
        message: format!(
            "no interface {name:?} on this machine; correct the name, unless it is there where this file is for"
        ),
    };
    missing.map(|name| warning(name).to_string()).collect()
}

/// A file of other monitors that is not there, which they may not have written yet, or that does not read.
fn feed(config: &Config) -> Option<String> {
    let feed = config.health_feed.as_ref()?;
    if feed.exists() {
        return Feed::read(feed).err().map(|error| error.to_string());
    }
    let error = Error {
        file: config.path.clone(),
        line: config::line_of(&config.path, "health", "feed"),
        column: None,
        key: Some("health.feed".to_owned()),
        message: format!(
            "no file {}; correct the path, unless a monitor is yet to write it",
            feed.display()
        ),
    };
    Some(error.to_string())
}

/// Errors, a line each.
fn errors(found: &Findings) -> impl Iterator<Item = String> {
    lines(&found.errors, found.more_errors, "errors")
}

/// Warnings, a line each.
fn warnings(found: &Findings) -> impl Iterator<Item = String> {
    lines(&found.warnings, found.more_warnings, "warnings")
}

fn lines(found: &[Error], more: usize, what: &str) -> impl Iterator<Item = String> {
    let last = found.last().filter(|_| more > 0);
    let more = last.map(|last| format!("{}: {more} more {what}", last.file.display()));
    found.iter().map(Error::to_string).chain(more)
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
pub fn zone(file: &Path, origin: &Name, json: bool) -> anyhow::Result<(String, bool)> {
    let reading = zone::read(origin, file)?;
    let checked = Checked {
        zone: origin.to_string(),
        file: file.display().to_string(),
        ok: reading.zone.is_some(),
        serial: reading.zone.as_ref().map(Zone::serial),
        names: reading.zone.as_ref().map(Zone::len),
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

//! `geodns check`: reads and compiles everything, as the daemon would; changes nothing.

use std::path::Path;

use geodns_common::tables::Tables;
use serde::Serialize;

use super::output::{grouped, memory, pairs};
use super::zone::warnings as warnings_of;
use crate::announce::machine;
use crate::base::complaint::{Error, Errors};
use crate::config::{self, Config, Mode};
use crate::health::Feed;
use crate::kernel;
use crate::kernel::netdev::Netdevs;
use crate::world::Inputs;
use crate::zone::{self, Zones};

/// Summary of a configuration.
#[derive(Clone, Debug, Serialize)]
struct Summary {
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

/// A warning of a group that this machine does not have.
fn readers(config: &Config) -> Option<String> {
    let name = config
        .group
        .as_ref()
        .filter(|_| config.readers().is_none())?;
    let file = config.path.display();
    Some(format!(
        "{file}: control.group: there is no group {name} on this machine; make it (groupadd --system {name})"
    ))
}

/// Checks `file`; the text to print. What is wrong with it or any file that it names is all in the error.
pub fn check(file: &Path, json: bool) -> anyhow::Result<String> {
    let config = Config::load(file)?;
    let readings = zone::read_all(&config);
    let all = || readings.iter().map(|reading| &reading.findings);
    let mut wrong: Vec<Error> = all().flat_map(|found| found.errors.clone()).collect();
    let more = all().map(|found| found.more_errors).sum();
    let mut warnings = interfaces(&config);
    warnings.extend(feed(&config));
    warnings.extend(readers(&config));
    warnings.extend(machine::warnings(&config).iter().map(ToString::to_string));
    warnings.extend(all().flat_map(warnings_of));
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
        kernel_memory_bytes: kernel::memory::bytes(&capacity, plan.settings(), plan.exempt().len()),
        warnings,
    };
    if json {
        return Ok(serde_json::to_string(&summary)? + "\n");
    }
    Ok(text(&summary))
}

/// Interfaces that are not there, or that the program does not answer on. They may be other ones on the machine that the
/// file is for.
fn interfaces(config: &Config) -> Vec<String> {
    let names = &config.kernel.interfaces;
    let netdevs = match Netdevs::read_now() {
        Ok(netdevs) if config.kernel.mode != Mode::Off => netdevs,
        _ => return Vec::new(),
    };
    let wrong = names.iter().filter_map(|name| match netdevs.named(name) {
        None => Some(format!(
            "no interface {name:?} on this machine; correct the name, unless it is there where this file is for"
        )),
        Some(netdev) => {
            let instead = netdevs.instead_of(netdev)?;
            Some(format!("{name}: {instead}"))
        }
    });
    let line = config::line_of(&config.path, "kernel", "interfaces");
    let warning = |message| Error {
        file: config.path.clone(),
        line,
        column: None,
        key: Some("kernel.interfaces".to_owned()),
        message,
    };
    let wrong = wrong.chain(netdevs.needless(names));
    wrong.map(|message| warning(message).to_string()).collect()
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

/// `geodns check`
fn text(summary: &Summary) -> String {
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

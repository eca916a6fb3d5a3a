//! `geodns check`: reads and compiles everything, as the daemon would; changes nothing.

use std::path::Path;

use geodns_common::abi;
use serde::Serialize;

use super::show;
use crate::plan::Capacity;
use crate::world::Inputs;

/// What a configuration comes to.
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
    /// Octets of kernel memory that the tables take.
    pub kernel_memory_bytes: u64,
    /// What is legal and yet hardly meant.
    pub warnings: Vec<String>,
}

/// Checks `file`; the text to print.
pub fn check(file: &Path, json: bool) -> anyhow::Result<String> {
    let inputs = Inputs::read(file)?;
    // The key only spreads names over slots; any will do.
    let world = inputs.compile(&inputs.layers(), 1, rand::random())?;
    let capacity = world.plan.read().expect("nobody else has it").capacity();
    let zones = || inputs.zones.iter();
    let summary = Summary {
        config: file.display().to_string(),
        zones: zones().count(),
        names: zones().map(|zone| zone.len()).sum(),
        steered_names: inputs.config.steers.len(),
        mirrors: inputs.config.mirrors.len(),
        pools: inputs.config.pools.len(),
        prefixes: inputs.lists.iter().map(|list| list.len()).sum(),
        blocks: capacity.blocks,
        kernel_memory_bytes: kernel_memory(&capacity),
        warnings: inputs.warnings(),
    };
    if json {
        return Ok(serde_json::to_string(&summary)? + "\n");
    }
    Ok(show::summary(&summary))
}

/// Octets that array maps of this many entries take.
fn kernel_memory(capacity: &Capacity) -> u64 {
    const PAGE: u64 = 4096;
    [
        (capacity.names, size_of::<abi::Name>()),
        (capacity.zones, size_of::<abi::Zone>()),
        (capacity.pools, size_of::<abi::Pool>()),
        (capacity.answers, size_of::<abi::Answer>()),
        (capacity.regions, size_of::<u64>()),
        (capacity.roots, size_of::<abi::Page>()),
        (capacity.blocks, size_of::<abi::Block>()),
    ]
    .into_iter()
    .map(|(entries, size)| (u64::from(entries) * size as u64).next_multiple_of(PAGE))
    .sum()
}

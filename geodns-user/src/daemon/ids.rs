//! Mirrors and pools are found by their ids. An error says which there are.

use crate::config::Config;
use crate::control::problem::Failure;

/// A pool by its id, if it has a table.
pub fn table_pool(config: &Config, id: &str) -> Option<usize> {
    config
        .pools
        .iter()
        .position(|pool| pool.id == id && pool.has_table())
}

/// A pool by its id, which must have a table.
pub fn require_table(config: &Config, id: &str) -> Result<usize, Failure> {
    if let Some(pool) = table_pool(config, id) {
        return Ok(pool);
    }
    if config.pools.iter().any(|pool| pool.id == id) {
        return Err(Failure::Invalid(format!(
            "pool {id} has policy \"all\": everyone gets every mirror of it, and no prefix matters"
        )));
    }
    let pools: Vec<_> = config.pools.iter().map(|pool| pool.id.as_str()).collect();
    Err(Failure::NotFound(format!(
        "no pool {id}; there are {}",
        pools.join(", ")
    )))
}

/// A mirror by its id.
pub fn require_mirror(config: &Config, id: &str) -> Result<usize, Failure> {
    let mirrors = config.mirrors.iter();
    let ids: Vec<_> = mirrors.map(|mirror| mirror.id.as_str()).collect();
    ids.iter()
        .position(|other| *other == id)
        .ok_or_else(|| Failure::NotFound(format!("no mirror {id}; there are {}", ids.join(", "))))
}

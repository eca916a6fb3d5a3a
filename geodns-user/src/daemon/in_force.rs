//! A change of what the state keeps comes in force, each thing of it by the feature that it belongs to, whoever has made
//! the change.

use super::Daemon;
use super::force::Ready;
use crate::control::problem::Failure;
use crate::state::{Change, Item};

impl Daemon {
    /// Puts a change in force that the state has. Each feature puts all of its things in force, or none. `ready` is the
    /// part of it that is done.
    ///
    /// Only under `edits`.
    pub fn in_force(&self, change: &Change, ready: Ready) -> Result<(), Failure> {
        let (mut overrides, mut lists, mut standings) = (Vec::new(), Vec::new(), Vec::new());
        let (mut tokens, mut serials, mut secrets) = (Vec::new(), Vec::new(), None);
        let (mut has_blocks, mut ledgers) = (false, Vec::new());
        for item in &change.0 {
            match item {
                Item::Override {
                    pool,
                    prefix,
                    mirror,
                } => overrides.push((pool.as_str(), *prefix, mirror.as_deref())),
                Item::Import { pool, import } => lists.push((pool.as_str(), import.as_ref())),
                Item::Standing { mirror, standing } => {
                    standings.push((mirror.as_str(), standing.as_ref()));
                }
                Item::Block { .. } => has_blocks = true,
                Item::Token { owner, text, .. } => tokens.push((owner.as_str(), text.as_str())),
                Item::Serials { apex, serials: of } => serials.push((apex.as_str(), of.as_ref())),
                Item::Cookies { secrets: of } => secrets = Some(of.as_ref()),
                Item::Ledger { catalog, ledger } => {
                    ledgers.push((catalog.as_str(), ledger.as_ref()));
                }
            }
        }
        if !standings.is_empty() {
            self.put_standings(&standings)?;
        }
        self.put_ledgers(&ledgers)?;
        if has_blocks {
            self.put_blocks()?;
        }
        if let Some(secrets) = secrets {
            self.put_cookies(secrets);
        }
        let (of_map, of_zone) = match ready {
            Ready::Zone(_) => (Ready::Nothing, ready),
            _ => (ready, Ready::Nothing),
        };
        if !overrides.is_empty() || !lists.is_empty() {
            self.put_overrides(&overrides, &lists, of_map)?;
        }
        if !tokens.is_empty() {
            self.put_tokens(&tokens, &serials, of_zone)?;
        }
        Ok(())
    }
}

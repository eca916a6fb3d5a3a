//! Which mirrors are in service: decided from the configuration, from [`Standings`] and from [`Findings`]; pure.
//!
//! - `findings`: results of our checks, the fleet's votes, and verdicts of other monitors' file
//! - `condition`: one mirror at one moment: the operator stands above monitors, and monitors above checks
//! - `roster`: the mirrors in service in one plan, and the stores that a change of them takes
//!
//! There is one order of precedence, [`decide`]. Both the answers and `geodns mirror show` follow it. Times are
//! milliseconds since 1970, and come as arguments.

mod condition;
mod findings;
mod roster;

#[cfg(test)]
mod tests;

use std::collections::HashMap;

pub use condition::{Condition, Decision, Source, decide, in_service};
pub use findings::{Findings, Voted, Votes, targets};
pub use roster::{Roster, Which, put};

use crate::steering::standing::Standing;

/// Operators' and other monitors' words, by the mirror's id. A mirror without an entry has none.
pub type Standings = HashMap<String, Standing>;

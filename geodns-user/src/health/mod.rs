//! Checks of mirrors: which of their addresses are up.
//!
//! - [`target`]: what is checked; one check for however many mirrors and pools use it
//! - [`state`]: from results to a verdict that does not flap; pure
//! - [`check`]: one check of each kind
//! - [`monitor`]: all checks, each at its turn
//! - [`feed`]: the file in which other monitors say what they found
//!
//! Stands behind `config` alone: it knows no pools, no plan and no kernel. Verdicts go out as
//! [`Event`]s; what they mean for answers is the daemon's business.

pub mod check;
pub mod feed;
pub mod monitor;
pub mod state;
pub mod target;

pub use check::Outcome;
pub use feed::{Feed, Verdict};
pub use monitor::{Event, Last, Monitor, Options, Saved, Status};
pub use target::Target;

#[cfg(test)]
mod cost;

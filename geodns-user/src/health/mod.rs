//! Checks of mirrors: which of their addresses are up.
//!
//! - [`target`]: what is checked; one check for however many mirrors and pools use it
//! - [`state`]: from results to a verdict that does not flap; pure
//! - `trace`: how old a mirror's content is
//! - [`check`]: one check of each kind
//! - [`monitor`]: all checks, each at its turn
//! - [`feed`]: the file in which other monitors say what they found
//!
//! Stands behind `config` alone: it knows no pools, no plan and no kernel. Verdicts go out as
//! [`Event`]s; what they mean for answers is the daemon's business.
//!
//! There is one check for each distinct target: an address, and how it is asked. With each result goes the shortest
//! time until the verdict can change. Turns are fixed places in the interval, spread evenly. A check starts at its turn
//! or a little later by chance, never earlier, so that time is a bound.
//!
//! A fault on this side (no file descriptors, ports or permission; a program that cannot be started) is logged and
//! counts for nothing. As many checks may be in flight as there would be if no target answered, at least 256 and at most
//! 4,096. If more targets hang, the checks of others come late, which is logged.

pub mod check;
pub mod feed;
pub mod monitor;
pub mod state;
pub mod target;
mod trace;

pub use check::{Outcome, Roots, Tls};
pub use feed::{Feed, Verdict};
pub use monitor::{Event, Last, Monitor, Options, Saved, Status, Told, Trouble};
pub use target::Target;

#[cfg(test)]
mod cost;

//! What the nodes of a fleet tell each other, and what follows from it. Pure.
//!
//! - [`bundle`]: a configuration and its files, signed, as all nodes take it
//! - [`votes`]: the verdicts of a node's own checks, as it puts them into the shared store

pub mod bundle;
pub mod votes;

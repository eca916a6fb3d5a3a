//! What the nodes of a fleet tell each other, and what follows from it. Pure.
//!
//! - [`votes`]: the verdicts of a node's own checks, as it puts them into the shared store

pub mod votes;

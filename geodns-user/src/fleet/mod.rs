//! What the nodes of a fleet tell each other, and what follows from it. Pure, but for `kept`.
//!
//! - [`bundle`]: a configuration and its files, signed, as all nodes take it
//! - [`kept`]: bundles on this node's disk
//! - [`node`]: what a node says of itself
//! - [`polls`]: a node's part in the votes
//! - [`rollout`]: the course of a rollout: which node runs which bundle, and when
//! - [`votes`]: the verdicts of a node's own checks, as it puts them into the shared store

pub mod bundle;
pub mod kept;
pub mod node;
pub mod polls;
pub mod rollout;
pub mod votes;

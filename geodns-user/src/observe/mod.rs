//! Counters and logs.
//!
//! - [`counters`]: the fast path's, by name
//! - [`logs`]: by `tracing`, to standard error

pub mod counters;
pub mod logs;

//! What the daemon says of itself: what is not in force, where it does not listen, its state in a line.
//!
//! - `failure`: what is not in force, and why
//! - `listening`: what is not listened on
//! - `summary`: the state in a line
//! - `systemd`: what systemd is told

mod failure;
mod listening;
mod summary;
pub mod systemd;

pub use failure::LastFailure;
pub use listening::NotListening;

/// What `geodns status` and systemd are told.
#[derive(Default)]
pub struct Report {
    /// What is not in force, and why.
    pub failure: LastFailure,
    /// What is not listened on.
    pub not_listening: NotListening,
    /// That the heartbeat goes on.
    pub pulse: systemd::Pulse,
}

//! The API on the control socket, and its client.
//!
//! - [`api`]: what goes over the socket, and the trait that the daemon implements
//! - [`by`]: who asks, for the log
//! - [`server`]: HTTP over the Unix socket
//! - [`document`]: the OpenAPI document of it
//! - [`client`]: what the command line uses

pub mod api;
pub mod by;
pub mod client;
pub mod document;
pub mod server;

#[cfg(test)]
mod tests;

//! The API on the control socket, and its client.
//!
//! Each feature has a file: the trait that answers its calls, which the daemon implements; the calls, with method, path
//! and description; their part of the client; and the JSON that goes over the socket.
//!
//! - [`acme`], [`alert`], [`announce`], [`block`], [`event`], [`explain`], [`fleet`], [`map`], [`metrics`], [`mirror`], [`preview`], [`reload`], [`rollout`], [`status`], [`watch`], [`zone`]: the
//!   features
//!
//! They stand on:
//!
//! - [`by`]: who asks, for the log
//! - [`reach`]: how far a change is to reach
//! - [`values`]: values that several calls take
//! - [`problem`]: how a request fails
//! - [`client`]: what the command line asks with
//! - [`document`]: the OpenAPI document of all calls
//! - [`server`]: HTTP over the Unix socket

pub mod acme;
pub mod alert;
pub mod announce;
pub mod block;
pub mod by;
pub mod client;
pub mod document;
pub mod event;
pub mod explain;
pub mod fleet;
pub mod map;
pub mod metrics;
pub mod mirror;
pub mod preview;
pub mod problem;
pub mod reach;
pub mod reload;
pub mod rollout;
pub mod server;
pub mod status;
pub mod values;
pub mod watch;
pub mod zone;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use utoipa_axum::router::OpenApiRouter;

/// All calls of the API, answered by `service`.
pub fn calls<S>(service: &Arc<S>) -> OpenApiRouter
where
    S: acme::Service
        + alert::Service
        + announce::Service
        + block::Service
        + event::Service
        + explain::Service
        + fleet::Service
        + map::Service
        + metrics::Service
        + mirror::Service
        + preview::Service
        + reload::Service
        + rollout::Service
        + status::Service
        + watch::Service
        + zone::Service,
{
    let service = || Arc::clone(service);
    OpenApiRouter::new()
        .merge(acme::routes(service()))
        .merge(alert::routes(service()))
        .merge(announce::routes(service()))
        .merge(block::routes(service()))
        .merge(event::routes(service()))
        .merge(explain::routes(service()))
        .merge(fleet::routes(service()))
        .merge(map::routes(service()))
        .merge(metrics::routes(service()))
        .merge(mirror::routes(service()))
        .merge(preview::routes(service()))
        .merge(reload::routes(service()))
        .merge(rollout::routes(service()))
        .merge(status::routes(service()))
        .merge(watch::routes(service()))
        .merge(zone::routes(service()))
}

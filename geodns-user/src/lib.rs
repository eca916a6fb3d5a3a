//! geodns: an authoritative GeoDNS server whose hot answers are given in XDP.
//!
//! Data flows one way, and a room uses only rooms that stand before it here, which `cargo xtask check` makes sure of:
//!
//! - [`base`]: words that every room shares: names, prefixes, complaints, clock, locks, capabilities, Unix sockets
//! - [`printable`]: text that is safe to show
//! - [`fault`]: faults that tests order
//! - [`supervise`]: tasks and threads that begin anew when they panic
//! - [`files`]: files that somebody names: regular ones only
//! - [`http`]: HTTP listeners that strangers may reach, within limits
//! - [`heap`]: what has been freed goes back to the system
//! - [`event`]: events: lines of the log that are kept, shown and sent
//! - [`block`]: which queries are dropped
//! - [`config`]: `geodns.toml`, parsed and validated
//! - [`certificate`]: certificate and key of DNS over TLS
//! - [`geo`]: prefix lists: client address to mirror
//! - [`zone`]: zone files, and which names are steered
//! - [`compress`]: names in messages, as both paths write them
//! - [`steering`]: which mirrors, in which order; pure
//! - [`plan`]: everything the kernel needs, compiled; edits as ordered stores; pure
//! - [`world`]: one consistent configuration in force: config, zones, plan
//! - [`publish`]: writes a plan and its edits to a backend
//! - [`kernel`]: the backend that is the XDP program and its maps
//! - [`doctor`]: whether the program can be loaded, attached and fed with packets on a machine
//! - [`dnstap`]: queries and responses, for other programs to read
//! - [`serve`]: the slow path: UDP, TCP and TLS in userspace
//! - [`transfer`]: zones taken from other servers, and others told of changes
//! - [`health`]: checks of mirrors, and what other monitors found
//! - [`service`]: which mirrors are in service; pure
//! - [`shared`]: the state that the nodes of a fleet share: one store, and how a node follows it
//! - [`state`]: what must survive a restart
//! - [`fleet`]: what the nodes of a fleet tell each other; pure
//! - [`observe`]: counters, logs
//! - [`metrics`]: numbers for Prometheus
//! - [`public`]: pages for visitors: the mirrors, as DNS sorts them
//! - [`announce`]: this node's place in an anycast set: routes that say how it stands
//! - [`control`]: the API on the control socket, and its client
//! - [`web`]: the dashboard: pages that show the server and change nothing
//! - [`daemon`]: the one that knows everybody
//! - [`cli`]: the command line

pub mod announce;
pub mod base;
pub mod block;
pub mod certificate;
pub mod cli;
pub mod compress;
pub mod config;
pub mod control;
pub mod daemon;
pub mod dnstap;
pub mod doctor;
pub mod event;
pub mod fault;
pub mod files;
pub mod fleet;
pub mod geo;
pub mod health;
pub mod heap;
pub mod http;
pub mod kernel;
pub mod metrics;
pub mod observe;
pub mod plan;
pub mod printable;
pub mod public;
pub mod publish;
pub mod serve;
pub mod service;
pub mod shared;
pub mod state;
pub mod steering;
pub mod supervise;
pub mod transfer;
pub mod web;
pub mod world;
pub mod zone;

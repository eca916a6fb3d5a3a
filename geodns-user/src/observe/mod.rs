//! Counters, trends, logs, and frames for tcpdump.
//!
//! - [`blindness`]: whether the program sees the queries of the interfaces that it is attached to
//! - [`counters`]: the fast path's, by name
//! - [`trends`]: traffic and mirrors over a week
//! - [`logs`]: by `tracing`, to standard error
//! - [`pcap`]: frames that the program tells of

pub mod blindness;
pub mod counters;
pub mod logs;
pub mod pcap;
pub mod trends;

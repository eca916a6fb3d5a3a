//! Counters, logs, and frames for tcpdump.
//!
//! - [`counters`]: the fast path's, by name
//! - [`logs`]: by `tracing`, to standard error
//! - [`pcap`]: frames that the program tells of

pub mod counters;
pub mod logs;
pub mod pcap;

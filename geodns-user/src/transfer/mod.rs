//! Incoming transfers, and NOTIFY to others. Outgoing transfers are in [`crate::serve`].
//!
//! - [`client`]: queries sent and answers received, signed where there is a key
//! - [`receive`]: from the messages of a transfer to a zone or to deltas; pure
//! - [`budget`]: the memory that zones may take
//! - [`turns`]: transfers that may be under way
//! - [`pace`]: queries that NOTIFYs may cause
//! - [`kept`]: zones on disk, over a restart

pub mod budget;
pub mod client;
pub mod kept;
pub mod pace;
pub mod receive;
pub mod turns;

//! Zones taken from other servers, and others told that ours have changed. What we give away is in
//! [`crate::serve`].
//!
//! - [`client`]: queries sent and answers received, signed where there is a key
//! - [`receive`]: from the messages of a transfer to a zone or to deltas; pure
//! - [`keep`]: zones on disk, over a restart

pub mod client;
pub mod keep;
pub mod receive;

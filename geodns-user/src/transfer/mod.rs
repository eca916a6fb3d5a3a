//! Zones taken from other servers, and others told that ours have changed. What we give away is in
//! [`crate::serve`].
//!
//! - [`client`]: queries sent and answers received, signed where there is a key
//! - [`receive`]: from the messages of a transfer to a zone or to deltas; pure
//! - [`budget`]: how much memory they may take
//! - [`turns`]: how many are under way
//! - [`pace`]: how many queries NOTIFYs may cause
//! - [`kept`]: zones on disk, over a restart

pub mod budget;
pub mod client;
pub mod kept;
pub mod pace;
pub mod receive;
pub mod turns;

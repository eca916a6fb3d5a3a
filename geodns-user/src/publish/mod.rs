//! Writes a plan's edits to where packets are answered from: [`Backend`].
//!
//! - `twin`: one in memory, for tests

use std::io;

use crate::plan::Store;

#[cfg(test)]
mod twin;

#[cfg(test)]
pub use twin::Twin;

/// Tables that packets are answered from.
pub trait Backend {
    /// Makes the writes, in order, each visible before the next.
    fn apply(&mut self, stores: &[Store]) -> io::Result<()>;

    /// Waits until no reader can hold anything that was unlinked before.
    fn grace(&mut self) -> io::Result<()>;
}

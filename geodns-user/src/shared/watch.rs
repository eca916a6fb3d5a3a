//! The commits of a store, one by one.

use std::fmt;
use std::pin::Pin;

use futures_util::{Stream, StreamExt};

use super::{Batch, Kind, Lost, Trouble};

type Batches = Pin<Box<dyn Stream<Item = Result<Batch, Lost>> + Send>>;

/// A view of a store that follows its commits. Dropping it ends it.
pub struct Watch(Batches);

impl Watch {
    /// A watch of the batches that a backend gives, until it gives an error.
    pub fn new(batches: impl Stream<Item = Result<Batch, Lost>> + Send + 'static) -> Self {
        Self(Box::pin(batches))
    }

    /// Waits for the next commit. After an error there are no more: begin another watch. Giving up the wait loses
    /// nothing.
    pub async fn next(&mut self) -> Result<Batch, Lost> {
        let ended = || Lost::Disconnected(Trouble::new(Kind::Other, "the watch has ended"));
        self.0.next().await.unwrap_or_else(|| Err(ended()))
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Watch")
    }
}

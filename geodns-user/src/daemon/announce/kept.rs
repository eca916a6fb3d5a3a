//! What the announcement keeps over restarts, on this node alone: the operator's word, failures, and whether a daemon
//! has ended without saying so.

use serde::{Deserialize, Serialize};

use crate::announce::course::Word;
use crate::state::{Error, State};

/// Name of the value in the state.
const NAME: &str = "announce";

/// Kept over restarts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// The operator's word.
    pub word: Word,
    /// Failures, in milliseconds since 1970.
    pub failures: Vec<u64>,
    /// A daemon announces this node, or did and has crashed.
    pub runs: bool,
}

impl Kept {
    /// Reads it.
    pub fn load(state: &State) -> Result<Self, Error> {
        Ok(state.own(NAME)?.unwrap_or_default())
    }

    /// Keeps it.
    pub fn save(&self, state: &State) -> Result<(), Error> {
        state.keep_own(NAME, self)
    }
}

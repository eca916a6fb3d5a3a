//! `[quorum]`: judged.

use super::file::{self, Spanned};
use super::reader::{Judged, Reader};

/// Nodes that `least` can ask for, at most.
const MAX_LEAST: u32 = 1000;

/// `[quorum]`: how the nodes of a fleet decide together whether a mirror is up.
#[derive(Clone, Debug, PartialEq)]
pub struct Quorum {
    /// Voters that it takes, at least.
    pub least: usize,
    /// Share of a pool that votes take down within a minute, at most.
    pub max_down: f64,
    /// Treatment of a mirror that the fleet has up and this node cannot reach.
    pub local: Local,
}

/// Treatment of a mirror that the fleet has up and this node cannot reach.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Local {
    /// It is as any other.
    #[default]
    Ignore,
    /// It goes last for this node's clients.
    Avoid,
}

impl Default for Quorum {
    fn default() -> Self {
        Self {
            least: 3,
            max_down: 0.5,
            local: Local::Ignore,
        }
    }
}

impl Reader<'_> {
    pub(super) fn quorum(&self, file: file::Quorum) -> Judged<Quorum> {
        let default = Quorum::default();
        let least = match file.least {
            Some(least) => self.number(least, "quorum.least", 2, MAX_LEAST),
            None => Ok(default.least as u32),
        };
        let max_down = match file.max_down {
            Some(share) => self.max_down(&share),
            None => Ok(default.max_down),
        };
        let local = match file.local {
            Some(word) => self.local(&word),
            None => Ok(default.local),
        };
        Ok(Quorum {
            least: least? as usize,
            max_down: max_down?,
            local: local?,
        })
    }

    fn max_down(&self, share: &Spanned<f64>) -> Judged<f64> {
        match *share.get_ref() {
            value if value > 0.0 && value <= 1.0 => Ok(value),
            value => {
                let message = format!("{value} is out of range; write 0.01 to 1");
                self.error(share.span(), "quorum.max_down", message)
            }
        }
    }

    fn local(&self, word: &Spanned<String>) -> Judged<Local> {
        match word.get_ref().as_str() {
            "ignore" => Ok(Local::Ignore),
            "avoid" => Ok(Local::Avoid),
            other => {
                let message = format!("no such word {other:?}; write \"ignore\" or \"avoid\"");
                self.error(word.span(), "quorum.local", message)
            }
        }
    }
}

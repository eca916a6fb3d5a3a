//! Events: facts about this node that an operator looks up later, or is told of.
//!
//! A line of the log with a field `event`, which names a [`Kind`], is an event. So log, history, API and notifications
//! say the same, and whoever logs a line needs nothing else to make an event of it:
//!
//! ```
//! use geodns::event::Kind;
//!
//! tracing::warn!(event = Kind::ZoneExpired.name(), zone = "example.org", "example.org: expired");
//! ```
//!
//! - [`kind`]: kinds of events
//! - [`journal`]: the latest events in memory, each with its number
//! - [`line`](mod@line): a line of the log becomes an event
//! - [`message`]: notifications of events

pub mod journal;
pub mod kind;
pub mod line;
pub mod message;

pub use journal::Journal;
pub use kind::Kind;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A fact about this node, with its time, its objects, its cause, and who made it one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Event {
    /// Its number. Numbers rise, also over restarts; a crash may leave out some.
    pub seq: u64,
    /// Its time.
    pub time_unix_ms: u64,
    /// Its kind.
    pub kind: Kind,
    /// Its weight.
    pub level: Level,
    /// The mirror.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mirror: Option<String>,
    /// The address of the mirror.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// The pool, or all pools of the mirror.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pools: Vec<String>,
    /// The prefix of an override.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix: Option<String>,
    /// The zone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// The interface.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interface: Option<String>,
    /// The new state of the object, in a word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// The cause, in one line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
    /// The user and process that asked for it, or the signal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// Number of that user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<u32>,
    /// All of it in a sentence, as the log has it.
    pub text: String,
}

/// Events that somebody wants.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Of these kinds; empty: of all.
    pub kinds: Vec<Kind>,
    /// Of this mirror; `None`: of all, and of none.
    pub mirror: Option<String>,
}

impl Wanted {
    /// Whether an event is one of them.
    pub fn has(&self, event: &Event) -> bool {
        (self.kinds.is_empty() || self.kinds.contains(&event.kind))
            && (self.mirror.is_none() || self.mirror == event.mirror)
    }
}

/// Weight of an event, as the log has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// All is well.
    Info,
    /// Something is not as it should be.
    Warn,
    /// Something has failed.
    Error,
}

#[cfg(test)]
impl Event {
    /// An event of a test.
    pub fn of(seq: u64, kind: Kind, mirror: Option<&str>) -> Self {
        Self {
            seq,
            time_unix_ms: 1000 * seq,
            kind,
            level: Level::Info,
            mirror: mirror.map(str::to_owned),
            address: None,
            pools: Vec::new(),
            prefix: None,
            zone: None,
            interface: None,
            state: None,
            cause: None,
            by: None,
            uid: None,
            text: format!("{} {seq}", kind.name()),
        }
    }
}

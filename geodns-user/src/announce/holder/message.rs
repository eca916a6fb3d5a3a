//! Words between the daemon and the holder: a line of JSON each.

use std::time::Duration;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// A word of the daemon.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Word {
    /// Announce this. The daemon says it again in every round.
    Announce(Announcement),
    /// The daemon ends on purpose: the holder withdraws, and ends too.
    End,
}

/// Routes, and how long they outlive the daemon.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Announcement {
    /// Prefixes that are announced.
    pub prefixes: Vec<IpNet>,
    /// Routing table.
    pub table: u32,
    /// Metric of the routes; `None`: no routes.
    pub metric: Option<u32>,
    /// A daemon that has said nothing for this many milliseconds is taken for dead: last resort.
    pub silence_ms: u64,
    /// One that has been dead for this many milliseconds is withdrawn.
    pub stale_after_ms: u64,
}

impl Announcement {
    pub(super) fn silence(&self) -> Duration {
        Duration::from_millis(self.silence_ms)
    }

    pub(super) fn stale_after(&self) -> Duration {
        Duration::from_millis(self.stale_after_ms)
    }
}

/// The holder's answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// It is as the daemon said.
    Done,
    /// Why it is not. It is as it was before.
    Failed(String),
}

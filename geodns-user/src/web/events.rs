//! The last events, as a list.

use super::{Shared, text};
use crate::base::clock::now_unix_ms;
use crate::control::event::{Asked, From};
use crate::event::{Level, Wanted};

/// Events of a list, at the most.
const MOST: usize = 10;

/// An event in a list.
pub struct Line {
    /// How long ago it was.
    pub ago: String,
    /// Class of its weight.
    pub class: &'static str,
    /// Its kind.
    pub kind: &'static str,
    /// All of it in a sentence.
    pub text: String,
    /// The user and process that asked for it.
    pub by: Option<String>,
}

/// The last events, the latest first: those of a mirror, or all. A list that cannot be read is empty, and the page is
/// there all the same.
pub async fn last(service: &Shared, mirror: Option<&str>) -> Vec<Line> {
    let asked = Asked {
        from: From::Latest,
        wanted: Wanted {
            mirror: mirror.map(str::to_owned),
            ..Wanted::default()
        },
        limit: MOST,
    };
    let events = service.events(asked).await.unwrap_or_default();
    let now = now_unix_ms();
    let lines = events.into_iter().rev().map(|event| Line {
        ago: text::ago(now, event.time_unix_ms),
        class: match event.level {
            Level::Info => "info",
            Level::Warn => "drained",
            Level::Error => "out",
        },
        kind: event.kind.name(),
        text: event.text,
        by: event.by,
    });
    lines.collect()
}

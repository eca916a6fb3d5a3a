//! A fleet: how long clients wait, and what they lose, until another site answers them; and how soon edits, votes and
//! bundles are everywhere.
//!
//! - `world`: three sites that announce themselves
//! - `nodes`: many daemons that share an etcd
//! - `edits`: an edit at one node, until all answer by it
//! - `events`: a site falls silent, dies, hangs, drains, stops; all do
//! - `peers`: the same for Knot DNS, with anycast-healthchecker and with ExaBGP's healthcheck beside it
//! - `rollout`: bundles over a hundred nodes, good and bad ones
//! - `votes`: a hundred nodes vote on a thousand mirrors

pub mod edits;
pub mod events;
mod nodes;
pub mod peers;
pub mod rollout;
pub mod votes;
mod world;

use std::time::Duration;

use crate::figure::{Figure, Goal};

/// Queries a second of a client.
const RATE: u32 = 10_000;
/// How long a client asks before an event.
const BEFORE: Duration = Duration::from_millis(500);

/// An event as a client sees it, over all rounds.
struct Course {
    moved: Figure,
    lost: Figure,
}

impl Course {
    fn new(event: &str) -> Self {
        let figure =
            |what: &str, unit| Figure::new("fleet", format!("{event}: {what}"), unit, Vec::new());
        Self {
            moved: figure("clients moved after", "ms"),
            lost: figure("lost", "queries"),
        }
    }

    /// With the most milliseconds that clients may take to move.
    fn within(mut self, milliseconds: f64) -> Self {
        self.moved.goal = Some(Goal::Below(milliseconds));
        self
    }

    /// Without a lost query.
    fn lossless(mut self) -> Self {
        self.lost.goal = Some(Goal::Below(1.0));
        self
    }

    fn figures(self) -> Vec<Figure> {
        let figures = [self.moved, self.lost].into_iter();
        figures.filter(|figure| !figure.rounds.is_empty()).collect()
    }
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

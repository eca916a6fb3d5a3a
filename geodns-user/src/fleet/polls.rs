//! A node's part in the votes of its fleet: its own votes to put into the shared store, and the decisions that follow
//! from all of them. Pure: the store's changes and the time come as arguments.

use std::collections::HashMap;
use std::time::Duration;

use super::node;
use super::votes::{AllVotes, Targets, Unreadable, Votes, targets_key, votes_key};
use crate::config::Quorum as Rules;
use crate::service::Voted;
use crate::shared::Put;
use crate::steering::quorum::{Bound, By, Outcome, Quorum, Seen};

/// Votes are put this often, at most.
pub const EVERY: Duration = Duration::from_millis(100);

/// A node among the voters.
#[derive(Debug)]
pub struct Polls {
    node: String,
    targets: Targets,
    bounds: Vec<Bound>,
    own: HashMap<u64, bool>,
    all: AllVotes,
    quorum: Quorum,
    heard: Option<u64>,
    outcome: Outcome,
    /// Something has changed since the last decision.
    is_stale: bool,
    /// The moment at which another decision may follow from the same votes, in milliseconds.
    look_at: Option<u64>,
}

/// The targets of this node's checks, as the votes name them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Checked {
    /// The number of each.
    pub targets: Vec<u64>,
    /// Those of each pool and family, by their numbers.
    pub bounds: Vec<(String, Vec<u64>)>,
}

impl Polls {
    /// A node that has heard of nobody.
    pub fn new(node: String, rules: Rules) -> Self {
        Self {
            node,
            targets: Targets::default(),
            bounds: Vec::new(),
            own: HashMap::new(),
            all: AllVotes::default(),
            quorum: Quorum::new(rules),
            heard: None,
            outcome: Outcome::default(),
            is_stale: true,
            look_at: None,
        }
    }

    /// Takes other rules and targets, after a reload.
    pub fn set(&mut self, rules: Rules, checked: Checked) {
        self.quorum.set_rules(rules);
        self.targets = Targets::new(checked.targets);
        let place = |number: &u64| self.targets.place(*number);
        self.bounds = checked
            .bounds
            .into_iter()
            .map(|(pool, targets)| Bound {
                pool,
                targets: targets.iter().filter_map(place).collect(),
            })
            .collect();
        self.own
            .retain(|number, _| self.targets.place(*number).is_some());
        self.is_stale = true;
    }

    /// Takes a verdict of this node's own checks.
    pub fn found(&mut self, target: u64, up: bool) {
        if self.targets.place(target).is_some() && self.own.insert(target, up) != Some(up) {
            self.is_stale = true;
        }
    }

    /// Takes a value of the store; `None`: it was deleted. Gives whether it is about votes.
    pub fn take(&mut self, key: &str, value: Option<&[u8]>) -> Result<bool, Unreadable> {
        let taken = self.all.take(key, value);
        self.is_stale |= taken != Ok(false);
        taken
    }

    /// Forgets all votes: a snapshot of the store follows.
    pub fn forget(&mut self) {
        self.all = AllVotes::default();
        self.is_stale = true;
    }

    /// Notes that the store is followed at this moment.
    pub fn heard(&mut self, now: u64) {
        let was_silent = self.outcome.careful.is_some();
        self.is_stale |= was_silent;
        self.heard = Some(now);
    }

    /// The values that the store lacks of this node: its targets and its votes.
    pub fn missing(&self) -> Vec<Put> {
        let own = self.own_votes();
        let (targets, votes) = self.all.of(&self.node);
        let mut puts = Vec::new();
        if targets != Some(&self.targets) {
            puts.push(Put::new(targets_key(&self.node), self.targets.to_octets()));
        }
        if votes != Some(&own) {
            puts.push(Put::new(votes_key(&self.node), own.to_octets()));
        }
        let lease = node::LEASE;
        puts.into_iter().map(|put| put.leased(lease)).collect()
    }

    fn own_votes(&self) -> Votes {
        self.targets.votes(|number| self.own.get(&number).copied())
    }

    /// Decides, if anything has changed. Gives whether it has.
    pub fn decide(&mut self, now: u64) -> bool {
        if !self.is_stale && self.look_at.is_some_and(|at| now < at) {
            return false;
        }
        let own = self.own_votes().votes;
        let ballots = self.all.ballots(&self.targets);
        let outcome = self.quorum.decide(&Seen {
            now,
            heard: self.heard,
            node: &self.node,
            targets: self.targets.numbers(),
            own: &own,
            ballots: &ballots,
            bounds: &self.bounds,
        });
        self.is_stale = false;
        // Silence is noticed within a second.
        let soon = Duration::from_secs(1);
        let more = self.quorum.until_more(now, &outcome).unwrap_or(soon);
        self.look_at = Some(now + more.min(soon).as_millis() as u64);
        let has_changed = outcome != self.outcome;
        self.outcome = outcome;
        has_changed
    }

    /// The last decisions.
    pub fn outcome(&self) -> &Outcome {
        &self.outcome
    }

    /// The decision that votes have made about each target, with its reason. Those of own checks are left out.
    pub fn voted(&self) -> impl Iterator<Item = (u64, Voted)> {
        let numbers = self.targets.numbers().iter();
        let decisions = numbers.zip(&self.outcome.decisions).enumerate();
        decisions
            .filter(|(_, (_, decision))| decision.by != By::Own)
            .filter_map(|(place, (&number, decision))| {
                let voted = Voted {
                    up: decision.up?,
                    reason: self.outcome.reason(place, &self.bounds),
                    avoid: decision.avoid,
                    unanimous: decision.down == 0 || decision.down == decision.voters,
                };
                Some((number, voted))
            })
    }
}

#[cfg(test)]
mod tests;

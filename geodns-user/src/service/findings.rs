//! Results of our own checks, the fleet's votes, and verdicts of other monitors' file.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use crate::config::{Config, Mirror};
use crate::health::target::number;
use crate::health::{Event, Status, Target, Verdict};

/// Results of our checks, the fleet's votes, and verdicts of other monitors' file.
#[derive(Debug, Default)]
pub struct Findings {
    /// Results of our checks, by target.
    checks: HashMap<Target, Finding>,
    /// Verdicts of other monitors' file, by mirror and address, each with its reason.
    feed: HashMap<(String, Option<IpAddr>), (bool, String)>,
    /// What the nodes of the fleet have decided together.
    votes: Votes,
    avoids_any: bool,
}

/// Decisions of a fleet about targets. Own checks decide about all others.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Votes {
    /// By [`number`] of the target's key.
    pub voted: HashMap<u64, Voted>,
    /// Why own checks decide about all targets, if there is a fleet and they do.
    pub careful: Option<String>,
}

/// A decision of a fleet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Voted {
    /// Whether the target is up.
    pub up: bool,
    /// Why, in a line.
    pub reason: String,
    /// Whether its mirror goes last for this node's clients.
    pub avoid: bool,
    /// Whether all nodes say the same.
    pub unanimous: bool,
}

/// The result of a check.
#[derive(Clone, Debug)]
struct Finding {
    up: bool,
    reason: String,
    /// The least time from any moment before the next result until the state could change.
    until_change: Duration,
}

/// Targets of all checks.
pub fn targets(config: &Config) -> impl Iterator<Item = Target> {
    config.mirrors.iter().flat_map(Target::of)
}

impl Findings {
    /// Takes over a monitor's targets, whose results are from before a restart or from before a change of intervals.
    /// Forgets all other targets.
    pub fn take(&mut self, status: Vec<Status>) {
        let mut before = std::mem::take(&mut self.checks);
        for status in status {
            let found = before.remove(&*status.target).or_else(|| {
                Some(Finding {
                    up: status.up?,
                    reason: "not checked again yet".to_owned(),
                    until_change: Duration::ZERO,
                })
            });
            if let Some(found) = found {
                self.checks.insert(Target::clone(&status.target), found);
            }
        }
    }

    /// Adds targets of a configuration whose checks ask the same as known ones, at other intervals. They are needed
    /// from the moment a plan is compiled until the monitor takes the configuration over.
    pub fn foresee(&mut self, config: &Config) {
        let foreseen = self.foreseen(config);
        self.checks.extend(foreseen);
    }

    /// The findings as they would be with a configuration in force: see [`Findings::foresee`].
    pub fn foreseeing(&self, config: &Config) -> Self {
        let mut checks = self.checks.clone();
        checks.extend(self.foreseen(config));
        Self {
            checks,
            feed: self.feed.clone(),
            votes: self.votes.clone(),
            avoids_any: self.avoids_any,
        }
    }

    fn foreseen(&self, config: &Config) -> Vec<(Target, Finding)> {
        let by_key = self.checks.iter();
        let by_key: HashMap<String, &Finding> = by_key
            .map(|(target, found)| (target.key(), found))
            .collect();
        targets(config)
            .filter(|target| !self.checks.contains_key(target))
            .filter_map(|target| {
                let found = Finding {
                    until_change: Duration::ZERO,
                    ..Finding::clone(by_key.get(&target.key())?)
                };
                Some((target, found))
            })
            .collect()
    }

    /// Takes the verdicts of other monitors' file, in the place of those before.
    pub fn feed(&mut self, verdicts: &[Verdict]) {
        let entry = |verdict: &Verdict| {
            let reason = verdict.reason.clone().unwrap_or_default();
            let of = (verdict.mirror.clone(), verdict.address);
            (of, (verdict.up, reason))
        };
        self.feed = verdicts.iter().map(entry).collect();
    }

    /// Takes the decisions of the fleet, in the place of those before.
    pub fn vote(&mut self, votes: Votes) {
        self.avoids_any = votes.voted.values().any(|voted| voted.avoid);
        self.votes = votes;
    }

    /// Whether own checks decide although there is a fleet: then less is believed.
    pub fn careful(&self) -> bool {
        self.votes.careful.is_some()
    }

    fn voted(&self, target: &Target) -> Option<&Voted> {
        // Where there is no fleet, no key is made.
        (!self.votes.voted.is_empty()).then(|| self.votes.voted.get(&number(&target.key())))?
    }

    /// Takes the result of a check. Gives whether it may change an answer.
    pub fn checked(&mut self, event: &Event) -> bool {
        // The next result is an interval away, and until then nothing is worked out anew.
        let until_change = event
            .until_change
            .saturating_sub(event.target.check.interval);
        let found = Finding {
            up: event.up,
            reason: event.reason.clone().unwrap_or_default(),
            until_change,
        };
        let seconds = |found: &Finding| (found.up, found.until_change.as_secs());
        let now = seconds(&found);
        let target = Target::clone(&event.target);
        let before = self.checks.insert(target, found);
        before.as_ref().map(seconds) != Some(now)
    }

    /// Whether an address of a mirror (`None`: its host name) was found up, and why. Other monitors' file stands above
    /// our checks, and in it an address above the mirror as a whole. The fleet's votes stand where our checks do.
    pub fn of(&self, mirror: &Mirror, address: Option<IpAddr>) -> Option<(bool, &str)> {
        let feed = |address| self.feed.get(&(mirror.id.clone(), address));
        let fed = address
            .and_then(|address| feed(Some(address)))
            .or_else(|| feed(None));
        if let Some((up, reason)) = fed {
            return Some((*up, reason));
        }
        let target = Target {
            check: mirror.check.clone()?,
            address: address?,
        };
        if let Some(voted) = self.voted(&target) {
            return Some((voted.up, &voted.reason));
        }
        let found = self.checks.get(&target)?;
        Some((found.up, &found.reason))
    }

    /// Whether any target goes last for this node's clients.
    pub(super) fn avoids_any(&self) -> bool {
        self.avoids_any
    }

    /// Whether a target that is up goes last for this node's clients.
    pub(super) fn avoids(&self, target: &Target) -> bool {
        self.voted(target).is_some_and(|voted| voted.avoid)
    }

    /// The least time until the state of a target could change.
    pub(super) fn until_change(&self, target: &Target) -> Duration {
        if self.voted(target).is_some_and(|voted| !voted.unanimous) {
            return Duration::ZERO;
        }
        // The first result may say anything.
        let found = self.checks.get(target);
        found.map_or(Duration::ZERO, |found| found.until_change)
    }
}

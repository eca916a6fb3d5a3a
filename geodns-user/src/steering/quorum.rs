//! Health by quorum: the nodes of a fleet vote whether a target of checks is up. Pure: times come as arguments.
//!
//! A node's votes are the verdicts of its own checks, so `rise` and `fall` have been at work before. Every node decides
//! for itself, from the same votes, in this order:
//!
//! 1. A node whose own view is broken abstains: it sees more than half of all its targets down that most of the other
//!    nodes see up. All nodes are judged by what all nodes say, before anybody is left out. So the order of nodes does
//!    not matter, and broken nodes cannot have sane ones left out: a sane node sees those targets up.
//! 2. A target is down when more than half of its voters say so, and up when more than half say that. At a tie it stays
//!    as it was.
//! 3. A target with fewer than [`least`](Rules::least) voters is as this node's own check finds it. So are all targets when
//!    nothing has been heard of the fleet for 10 s. The decision is then a [careful](Outcome::careful)
//!    one.
//! 4. Within a minute, votes take down at most [`max_down`](Rules::max_down) of a pool's targets, and at least one. The others stay
//!    up until the minute is over. A target that is down by this node's own check already does not count.

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use crate::config::{Local, Quorum as Rules};

/// The time in which votes take down at most [`max_down`](Rules::max_down) of a pool.
const WINDOW: Duration = Duration::from_secs(60);

/// Time without a word of the fleet after which own checks decide.
const PATIENCE: Duration = Duration::from_secs(10);
/// A pool believes a careful decision only while this share of it is up.
pub const CAREFUL_PANIC: f64 = 0.5;

/// The votes of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ballot {
    /// Id of the node.
    pub node: String,
    /// Whether each target is up, in the order of [`Seen::targets`]; `None`: the node does not know.
    pub votes: Vec<Option<bool>>,
}

/// The targets of one pool, in one family, of which votes take down only a part within a minute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bound {
    /// Id of the pool.
    pub pool: String,
    /// Places in [`Seen::targets`].
    pub targets: Vec<usize>,
}

/// All that a decision is made from.
#[derive(Clone, Debug)]
pub struct Seen<'a> {
    /// Now, in milliseconds, by a clock that does not jump.
    pub now: u64,
    /// The moment at which the fleet was last heard of; `None`: never.
    pub heard: Option<u64>,
    /// Id of this node.
    pub node: &'a str,
    /// The targets of this node, each by a number that stays the same over reloads.
    pub targets: &'a [u64],
    /// Verdicts of this node's own checks, in the same order; `None`: there is none yet.
    pub own: &'a [Option<bool>],
    /// Ballots of all nodes that are alive, this one included. No two are of one node.
    pub ballots: &'a [Ballot],
    /// Targets that must not be taken down all together.
    pub bounds: &'a [Bound],
}

/// Who decided that a target is up or down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// The fleet.
    Votes,
    /// The fleet would have it down, but too much of this pool went down within a minute, by its place in
    /// [`Seen::bounds`].
    Bound(usize),
    /// This node's own check.
    Own,
}

/// The decision about a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Whether it is up; `None`: nobody knows yet.
    pub up: Option<bool>,
    /// Who decided.
    pub by: By,
    /// Nodes that say that it is down, without those that abstain.
    pub down: usize,
    /// Nodes that say anything about it, without those that abstain.
    pub voters: usize,
    /// Whether its mirror goes last for this node's clients.
    pub avoid: bool,
}

/// A node without a vote.
#[derive(Clone, Debug, PartialEq)]
pub struct Abstention {
    /// Id of the node.
    pub node: String,
    /// Share of its targets that it sees down.
    pub down: f64,
}

/// The decisions about all targets.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outcome {
    /// One for each of [`Seen::targets`].
    pub decisions: Vec<Decision>,
    /// Nodes without a vote, by their ids.
    pub abstained: Vec<Abstention>,
    /// Why own checks decide, if they do: then a pool believes them only while at least half of it is up.
    pub careful: Option<String>,
}

/// What is remembered of a target.
#[derive(Clone, Copy, Debug)]
struct Memory {
    up: bool,
    /// When votes took it down, in milliseconds.
    fell: Option<u64>,
}

/// The decisions so far.
#[derive(Debug)]
pub struct Quorum {
    rules: Rules,
    memory: HashMap<u64, Memory>,
}

impl Quorum {
    /// Nothing is decided yet.
    pub fn new(rules: Rules) -> Self {
        Self {
            rules,
            memory: HashMap::new(),
        }
    }

    /// Takes other rules, after a reload.
    pub fn set_rules(&mut self, rules: Rules) {
        self.rules = rules;
    }

    /// Decides about all targets.
    pub fn decide(&mut self, seen: &Seen<'_>) -> Outcome {
        let tally = Tally::of(seen);
        let silence = self.silence(seen);
        let mut outcome = Outcome {
            decisions: Vec::with_capacity(seen.targets.len()),
            careful: silence.clone(),
            abstained: tally.abstained(seen),
        };
        let sane = seen.ballots.len() - outcome.abstained.len();
        if silence.is_none() && sane < self.rules.least {
            outcome.careful = Some(format!(
                "{sane} of {} nodes have a vote, and the quorum takes {}",
                seen.ballots.len(),
                self.rules.least
            ));
        }
        for place in 0..seen.targets.len() {
            let decision = self.by_votes(seen, &tally, place, silence.is_some());
            outcome.decisions.push(decision);
        }
        self.bound(seen, &mut outcome.decisions);
        let is_sane = tally.is_sane(seen.node);
        for (place, decision) in outcome.decisions.iter_mut().enumerate() {
            let unreachable = own(seen, place) == Some(false);
            decision.avoid = self.rules.local == Local::Avoid
                && is_sane
                && unreachable
                && decision.by != By::Own
                && decision.up == Some(true);
        }
        self.remember(seen, &outcome.decisions);
        outcome
    }

    /// Why the fleet's votes are too old, if they are.
    fn silence(&self, seen: &Seen<'_>) -> Option<String> {
        let Some(heard) = seen.heard else {
            return Some("nothing has been heard of the fleet yet".to_owned());
        };
        let silent = Duration::from_millis(seen.now.saturating_sub(heard));
        (silent >= PATIENCE).then(|| {
            let seconds = silent.as_secs();
            format!("nothing has been heard of the fleet for {seconds} s")
        })
    }

    fn by_votes(&self, seen: &Seen<'_>, tally: &Tally, place: usize, silent: bool) -> Decision {
        let Count { down, voters } = tally.sane.get(place).copied().unwrap_or_default();
        let own = own(seen, place);
        let decision = |up, by| Decision {
            up,
            by,
            down,
            voters,
            avoid: false,
        };
        // An empty ballot box decides nothing, whatever `least` is.
        if silent || voters < self.rules.least.max(1) {
            return decision(own, By::Own);
        }
        if 2 * down > voters {
            return decision(Some(false), By::Votes);
        }
        if 2 * down < voters {
            return decision(Some(true), By::Votes);
        }
        let before = self.before(seen, place).unwrap_or(true);
        decision(Some(before), By::Votes)
    }

    /// Whether a target was up until now: by the last decision, or else by this node's own check.
    fn before(&self, seen: &Seen<'_>, place: usize) -> Option<bool> {
        let memory = seen.targets.get(place).and_then(|id| self.memory.get(id));
        memory.map(|memory| memory.up).or_else(|| own(seen, place))
    }

    /// Keeps those up that would be too many of a pool within a minute.
    fn bound(&self, seen: &Seen<'_>, decisions: &mut [Decision]) {
        let window = millis(WINDOW);
        let fell_of_late = |id: &u64| {
            let fell = self.memory.get(id).and_then(|memory| memory.fell);
            fell.is_some_and(|fell| seen.now.saturating_sub(fell) < window)
        };
        let mut falling = vec![false; decisions.len()];
        for (place, decision) in decisions.iter().enumerate() {
            falling[place] = decision.up == Some(false)
                && decision.by == By::Votes
                && self.before(seen, place) != Some(false);
        }
        if !falling.contains(&true) {
            return;
        }
        let mut bounds_of: Vec<Vec<usize>> = vec![Vec::new(); decisions.len()];
        // How many more of each bound may fall now.
        let mut left = Vec::with_capacity(seen.bounds.len());
        for (number, bound) in seen.bounds.iter().enumerate() {
            let mut fallen = 0;
            for &place in &bound.targets {
                let (Some(id), Some(decision)) = (seen.targets.get(place), decisions.get(place))
                else {
                    continue;
                };
                bounds_of[place].push(number);
                fallen += usize::from(decision.up == Some(false) && fell_of_late(id));
            }
            let most = (bound.targets.len() as f64 * self.rules.max_down) as usize;
            left.push(most.max(1).saturating_sub(fallen));
        }
        for place in (0..decisions.len()).filter(|&place| falling[place]) {
            let mut bounds = bounds_of[place].iter();
            match bounds.find(|&&bound| left[bound] == 0) {
                Some(&full) => {
                    decisions[place].up = Some(true);
                    decisions[place].by = By::Bound(full);
                }
                None => bounds_of[place].iter().for_each(|&bound| left[bound] -= 1),
            }
        }
    }

    fn remember(&mut self, seen: &Seen<'_>, decisions: &[Decision]) {
        let mut memory = HashMap::with_capacity(decisions.len());
        for (place, (&id, decision)) in seen.targets.iter().zip(decisions).enumerate() {
            let Some(up) = decision.up else {
                continue;
            };
            let before = self.before(seen, place);
            let fell = match up {
                true => None,
                // By votes, just now.
                false if decision.by == By::Votes && before != Some(false) => Some(seen.now),
                false => self.memory.get(&id).and_then(|memory| memory.fell),
            };
            memory.insert(id, Memory { up, fell });
        }
        self.memory = memory;
    }

    /// The time from now on until votes may take down what a bound holds up; `None`: nothing is held up.
    pub fn until_more(&self, now: u64, outcome: &Outcome) -> Option<Duration> {
        let is_held = |decision: &Decision| matches!(decision.by, By::Bound(_));
        outcome
            .decisions
            .iter()
            .find(|decision| is_held(decision))?;
        let fell = self.memory.values().filter_map(|memory| memory.fell);
        let ends = fell
            .map(|fell| fell + millis(WINDOW))
            .filter(|&end| end > now);
        ends.min().map(|end| Duration::from_millis(end - now))
    }
}

impl Outcome {
    /// Why a target is as it is: `4 of 5 nodes say down; abstained: n7 (sees 80 % down)`.
    pub fn reason(&self, place: usize, bounds: &[Bound]) -> String {
        let Some(decision) = self.decisions.get(place) else {
            return String::new();
        };
        let Decision { down, voters, .. } = decision;
        let mut reason = format!("{down} of {voters} nodes say down");
        match decision.by {
            By::Votes => {}
            By::Bound(bound) => {
                let pool = bounds.get(bound).map_or("", |bound| bound.pool.as_str());
                reason += &format!(
                    ", but votes have taken down as much of pool {pool} as they may within a minute"
                );
            }
            By::Own => {
                let why = self.careful.as_deref();
                let why = why.map(str::to_owned);
                let why = why.unwrap_or_else(|| format!("only {voters} nodes check it"));
                reason = format!("this node's own check ({why})");
            }
        }
        if decision.avoid {
            reason += "; this node cannot reach it, so it goes last here";
        }
        if !self.abstained.is_empty() {
            const SHOWN: usize = 3;
            let shown = self.abstained.iter().take(SHOWN);
            let shown: Vec<String> = shown.map(Abstention::to_string).collect();
            reason += &format!("; abstained: {}", shown.join(", "));
            if let more @ 1.. = self.abstained.len().saturating_sub(SHOWN) {
                reason += &format!(" and {more} more");
            }
        }
        reason
    }
}

/// `n7 (sees 80 % down)`
impl fmt::Display for Abstention {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { node, down } = self;
        write!(f, "{node} (sees {:.0} % down)", down * 100.0)
    }
}

/// Votes on one target.
#[derive(Clone, Copy, Debug, Default)]
struct Count {
    down: usize,
    voters: usize,
}

impl Count {
    fn add(&mut self, up: bool) {
        self.voters += 1;
        self.down += usize::from(!up);
    }
}

/// The counted votes.
struct Tally {
    /// Of sane nodes, by target.
    sane: Vec<Count>,
    /// Ids of the nodes that abstain.
    insane: Vec<String>,
}

impl Tally {
    fn of(seen: &Seen<'_>) -> Self {
        let mut all = vec![Count::default(); seen.targets.len()];
        for ballot in seen.ballots {
            count(&mut all, ballot);
        }
        let (sane, insane): (Vec<&Ballot>, Vec<&Ballot>) = seen
            .ballots
            .iter()
            .partition(|ballot| is_sane(ballot, &all));
        let mut counts = vec![Count::default(); seen.targets.len()];
        for ballot in sane {
            count(&mut counts, ballot);
        }
        Self {
            sane: counts,
            insane: insane.iter().map(|ballot| ballot.node.clone()).collect(),
        }
    }

    fn is_sane(&self, node: &str) -> bool {
        !self.insane.iter().any(|insane| insane == node)
    }

    fn abstained(&self, seen: &Seen<'_>) -> Vec<Abstention> {
        let insane = seen.ballots.iter();
        let insane = insane.filter(|ballot| !self.is_sane(&ballot.node));
        let mut abstained: Vec<Abstention> = insane
            .map(|ballot| {
                let votes = ballot.votes.iter().flatten();
                let known = votes.clone().count().max(1) as f64;
                Abstention {
                    node: ballot.node.clone(),
                    down: votes.filter(|&&up| !up).count() as f64 / known,
                }
            })
            .collect();
        abstained.sort_by(|a, b| a.node.cmp(&b.node));
        abstained
    }
}

fn count(counts: &mut [Count], ballot: &Ballot) {
    for (count, vote) in counts.iter_mut().zip(&ballot.votes) {
        vote.iter().for_each(|&up| count.add(up));
    }
}

/// Whether a node sees no more than half of its targets down that most of the other nodes see up.
fn is_sane(ballot: &Ballot, all: &[Count]) -> bool {
    let mut known = 0;
    let mut alone = 0;
    for (count, vote) in all.iter().zip(&ballot.votes) {
        let Some(up) = vote else {
            continue;
        };
        known += 1;
        if !up {
            let others = count.voters - 1;
            let down = count.down - 1;
            alone += usize::from(2 * (others - down) > others);
        }
    }
    2 * alone <= known
}

fn own(seen: &Seen<'_>, place: usize) -> Option<bool> {
    seen.own.get(place).copied().flatten()
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;

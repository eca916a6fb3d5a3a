//! Decides how the node is announced. Pure: no clock, no sockets, no routes.
//!
//! A node never leaves for these: mirrors that are down, a primary or etcd that is out of reach, or more queries than
//! it can answer. Only the operator, the end of the daemon, and a node that does not answer itself do.
//!
//! A node that fails becomes the last resort at once. That is safe without asking anybody: if every node does it, no
//! client moves. It leaves altogether only with the permission of the fleet, which sees that others are up.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::State;
use super::hold_down::HoldDown;

/// Without a query for this long, a node that drains is quiet.
const QUIET: u64 = 5_000;
/// A drain that waits for quiet takes this long at the most.
const DRAIN_MOST: u64 = 120_000;

/// Limits and times, from the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Rounds of checks in a row that fail before the node has failed.
    pub fall: u32,
    /// How long all rounds must have been good before a node that has failed is well.
    pub rise: Duration,
    /// How long a node drains before it leaves; `None`: until it is quiet, 2 minutes at the most.
    pub drain: Option<Duration>,
}

/// The operator's word: durable, until another one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Word {
    /// Announced as the checks say.
    #[default]
    Auto,
    /// Draining, until another word or a time in milliseconds since 1970.
    Drain(Option<u64>),
    /// Withdrawn, after a drain.
    Withdraw {
        /// Even if no other node is up.
        force: bool,
    },
}

/// The fleet's answer to this node's wish to leave.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Permission {
    /// There is no fleet, or it cannot be asked.
    #[default]
    Nobody,
    /// The fleet has not answered yet.
    Pending,
    /// Enough others are up.
    Granted,
    /// Too few others are up, and this says so.
    Refused(String),
}

/// All that is known of the node in a round.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Milliseconds since 1970, by a clock that does not jump.
    pub now: u64,
    /// Whether the node could be announced at all; else the thing that is missing, such as the device.
    pub ready: Result<(), String>,
    /// Whether all its checks of itself were good in this round, or the first that was not.
    pub answers: Result<(), String>,
    /// Queries of others so far, in both paths.
    pub queries: u64,
    /// The operator's word.
    pub word: Word,
    /// The daemon is about to end.
    pub ends: bool,
    /// The fleet's answer to [`Decision::asks`].
    pub permission: Permission,
}

/// How the node is to be announced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The state.
    pub state: State,
    /// Why, in a clause; empty if all is as it should be.
    pub why: String,
    /// Whether the node would leave, if it may.
    pub asks: bool,
    /// A drain before the end of the daemon is over: nothing is announced.
    pub done: bool,
}

/// Whether the node answers, after `fall` and `rise`.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Finding {
    Unknown(String),
    Well,
    Failed(String),
}

/// A node on its way through the states.
#[derive(Debug)]
pub struct Course {
    rules: Rules,
    hold_down: HoldDown,
    state: State,
    finding: Finding,
    /// Rounds in a row that were bad.
    bad: u32,
    /// When the rounds began that were all good.
    good_since: Option<u64>,
    /// When the drain began.
    draining_since: Option<u64>,
    /// When the number of queries was last seen to grow, and that number.
    last_query: (u64, u64),
}

impl Course {
    /// A node that is not announced yet.
    pub fn new(rules: Rules, hold_down: HoldDown) -> Self {
        Self {
            rules,
            hold_down,
            state: State::Waiting,
            finding: Finding::Unknown("its checks of itself have not ended yet".to_owned()),
            bad: 0,
            good_since: None,
            draining_since: None,
            last_query: (0, 0),
        }
    }

    /// Other rules, after a reload.
    pub fn set_rules(&mut self, rules: Rules) {
        self.rules = rules;
    }

    /// Failures so far, and how long they hold the node down.
    pub fn hold_down(&mut self) -> &mut HoldDown {
        &mut self.hold_down
    }

    /// The decision of a round.
    pub fn decide(&mut self, seen: &Seen) -> Decision {
        self.heed_answers(seen);
        self.heed_queries(seen);
        let decision = self.decided(seen);
        let announced = |state: State| state.metric().is_some();
        if self.state == State::Up
            && matches!(self.finding, Finding::Failed(_))
            && decision.state != State::Up
        {
            self.hold_down.note(seen.now);
        }
        if !announced(decision.state) || !self.is_leaving(seen) {
            self.draining_since = None;
        }
        self.state = decision.state;
        decision
    }

    fn is_leaving(&self, seen: &Seen) -> bool {
        seen.ends || self.word(seen) != Word::Auto
    }

    /// The operator's word, unless its time is over.
    fn word(&self, seen: &Seen) -> Word {
        match seen.word {
            Word::Drain(Some(until)) if until <= seen.now => Word::Auto,
            word => word,
        }
    }

    fn decided(&mut self, seen: &Seen) -> Decision {
        let word = self.word(seen);
        if let Word::Drain(_) = word
            && !seen.ends
        {
            return self.in_drain(seen, "the operator said so");
        }
        if seen.ends {
            return self.leave(seen, "the daemon stops", true);
        }
        if let Word::Withdraw { force } = word {
            return self.leave(seen, "the operator said so", force);
        }
        if let Err(why) = &seen.ready {
            return is(State::Waiting, why);
        }
        match &self.finding {
            Finding::Unknown(why) => is(State::Waiting, why),
            Finding::Failed(why) => {
                let why = why.clone();
                match &seen.permission {
                    Permission::Nobody | Permission::Pending => asking(State::LastResort, &why),
                    Permission::Granted => asking(State::Withdrawn, &why),
                    Permission::Refused(refusal) => {
                        asking(State::Held, &format!("{why}; {refusal}"))
                    }
                }
            }
            Finding::Well => match self.hold_down.until(seen.now) {
                Some(until) => {
                    let seconds = (until - seen.now).div_ceil(1000);
                    let times = self.hold_down.failures().len();
                    let why =
                        format!("held down for {seconds} s: failures in the last hour: {times}");
                    is(State::LastResort, &why)
                }
                None => is(State::Up, ""),
            },
        }
    }

    /// Drains, if it is announced; a node that has failed stays the last resort.
    fn in_drain(&self, seen: &Seen, why: &str) -> Decision {
        if let Err(why) = &seen.ready {
            return is(State::Waiting, why);
        }
        match &self.finding {
            Finding::Unknown(why) => is(State::Waiting, why),
            Finding::Failed(failure) => is(State::LastResort, &format!("{why}; {failure}")),
            Finding::Well => is(State::Draining, why),
        }
    }

    /// Drains first, then leaves. Unless forced, it asks the fleet at once, and goes on draining until that has answered.
    fn leave(&mut self, seen: &Seen, why: &str, force: bool) -> Decision {
        if let Permission::Refused(refusal) = &seen.permission
            && !force
        {
            return asking(State::Held, &format!("{why}; {refusal}"));
        }
        let waits = seen.permission == Permission::Pending && !force;
        if self.state == State::Held {
            if waits {
                return asking(State::Held, why);
            }
        } else if self.state.metric().is_some() {
            let since = *self.draining_since.get_or_insert(seen.now);
            if waits || !self.is_drained(since, seen.now) {
                return Decision {
                    asks: !force,
                    ..self.in_drain(seen, why)
                };
            }
        }
        // A single node does as its operator says.
        Decision {
            done: seen.ends,
            ..asking(State::Withdrawn, why)
        }
    }

    fn is_drained(&self, since: u64, now: u64) -> bool {
        let drained = now.saturating_sub(since);
        match self.rules.drain {
            Some(time) => u128::from(drained) >= time.as_millis(),
            None => {
                let quiet_since = self.last_query.0.max(since);
                drained >= DRAIN_MOST || now.saturating_sub(quiet_since) >= QUIET
            }
        }
    }

    fn heed_queries(&mut self, seen: &Seen) {
        if seen.queries != self.last_query.1 {
            self.last_query = (seen.now, seen.queries);
        }
    }

    fn heed_answers(&mut self, seen: &Seen) {
        match &seen.answers {
            Ok(()) => {
                self.bad = 0;
                let since = *self.good_since.get_or_insert(seen.now);
                let good_for = seen.now.saturating_sub(since);
                let is_over = u128::from(good_for) >= self.rules.rise.as_millis();
                if is_over || matches!(self.finding, Finding::Unknown(_)) {
                    self.finding = Finding::Well;
                }
            }
            Err(why) => {
                self.good_since = None;
                self.bad = self.bad.saturating_add(1);
                if self.bad >= self.rules.fall {
                    self.finding = match self.finding {
                        // It has never answered since the start: there is nothing to take back.
                        Finding::Unknown(_) => Finding::Unknown(why.clone()),
                        Finding::Well | Finding::Failed(_) => Finding::Failed(why.clone()),
                    };
                }
            }
        }
    }
}

fn is(state: State, why: &str) -> Decision {
    Decision {
        state,
        why: why.to_owned(),
        asks: false,
        done: false,
    }
}

fn asking(state: State, why: &str) -> Decision {
    Decision {
        asks: true,
        ..is(state, why)
    }
}

#[cfg(test)]
mod tests;

//! The course of a rollout: which node runs which bundle, and when. Pure: times come as arguments.
//!
//! A [`Rollout`] stands in the shared store. The nodes look at it in turns, and whoever sees that its next step is due
//! commits that step, guarded by the last one: no node leads. Times are counted by each node from the moment when it saw
//! the stage begin, since clocks differ.
//!
//! 1. [`Stage::Preview`]: every node says how many clients the bundle would move. Too many: refused.
//! 2. [`Stage::Wave`] 0, the canary: it runs the bundle, and goes on to be watched for [`Rules::wait_ms`].
//! 3. The other waves, one after the other. The last one is everybody.
//! 4. [`Stage::Done`]: also nodes that were away take it. Or [`Stage::Back`]: all run what they ran before.
//!
//! Until the fleet has accepted its wave, a node has the bundle on [trial](Trial): if it ends, or if the fleet's word
//! does not come in time, it goes back by itself.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Keys of rollouts in the store begin with this.
pub const ROLLOUT: &str = "rollout/";
/// Keys of nodes' reports begin with this.
pub const REPORT: &str = "report/";
/// Keys of bundles begin with this.
pub const BUNDLE: &str = "bundle/";
/// Time for all nodes to preview a bundle, and for those of a wave to run it, unless the operator gives another.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// Share of SERVFAIL and REFUSED among a node's answers that a bundle may add.
const MOST_BAD: f64 = 0.01;
/// Answers that a share is worth something from.
const LEAST_ANSWERS: u64 = 100;
/// Standard errors of the share that are left to chance.
const ERRORS: f64 = 3.0;
/// Share of a later wave that may be away.
const MOST_AWAY: f64 = 0.25;
/// Trials of a bundle that the fleet has accepted, on a node where they end badly.
const MOST_TRIALS: u32 = 3;

/// Limits of a rollout.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rules {
    /// Milliseconds that the canary is watched.
    pub wait_ms: u64,
    /// Milliseconds in which all nodes must have previewed the bundle, and those of a wave must run it.
    pub within_ms: u64,
    /// Share of the clients that may get another mirror, 0 to 1.
    pub max_change: f64,
}

/// A rollout, as it stands in the shared store.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rollout {
    /// Its number: a later rollout has a greater one.
    pub number: u64,
    /// Id of the bundle.
    pub bundle: String,
    /// Serial of the bundle.
    pub serial: u64,
    /// Id of the bundle that all have run before; `None`: each node's own file.
    pub before: Option<String>,
    /// Whether it goes back to an older bundle.
    pub back: bool,
    /// Nodes of each wave, the canary first. Others take the bundle at the end.
    pub waves: Vec<BTreeSet<String>>,
    /// Limits.
    pub rules: Rules,
    /// Where it is.
    pub stage: Stage,
}

/// Where a rollout is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// Nodes preview the bundle.
    Preview,
    /// Nodes of the waves up to this one run the bundle.
    Wave(usize),
    /// All nodes run the bundle.
    Done,
    /// No node has run it, for a reason.
    Refused(String),
    /// All nodes run what they ran before, for a reason.
    Back(String),
}

/// A node's word on a rollout.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Report {
    /// Number of the rollout.
    pub rollout: u64,
    /// The node's progress.
    pub progress: Progress,
    /// GeoIP databases of the node that have another content than the bundle's: it answers from its own.
    #[serde(default)]
    pub databases: Vec<String>,
}

/// How far a node is in a rollout.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Progress {
    /// The bundle would move this share of the clients of a name, more than of any other.
    Previewed {
        /// Share, 0 to 1.
        share: f64,
        /// The name.
        name: String,
    },
    /// It runs the bundle, and answers.
    Runs(Answers),
    /// It cannot read or run the bundle, and why.
    Failed(String),
}

/// A node's answers before and since it has run a bundle.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Answers {
    /// Share of SERVFAIL and REFUSED before, 0 to 1.
    pub bad_before: f64,
    /// Share of SERVFAIL and REFUSED since.
    pub bad: f64,
    /// Answers since.
    pub count: u64,
    /// Milliseconds since, up to the time that a canary is watched.
    pub for_ms: u64,
}

/// All that the next step depends on.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a> {
    /// Nodes that are alive.
    pub alive: &'a BTreeSet<String>,
    /// The last word of each node.
    pub reports: &'a BTreeMap<String, Report>,
    /// Time since this node has seen the rollout in its stage.
    pub in_stage: Duration,
}

impl Rollout {
    /// Whether it has come to an end.
    pub fn is_over(&self) -> bool {
        matches!(self.stage, Stage::Done | Stage::Refused(_) | Stage::Back(_))
    }

    /// The bundle that all nodes run in the end, as far as it is known now.
    pub fn good(&self) -> Option<&str> {
        match self.stage {
            Stage::Done => Some(&self.bundle),
            _ => self.before.as_deref(),
        }
    }

    /// The bundle that a node is to run now.
    pub fn target(&self, node: &str) -> Option<&str> {
        match self.stage {
            Stage::Wave(last) if self.is_in_first(last + 1, node) => Some(&self.bundle),
            _ => self.good(),
        }
    }

    /// Whether the fleet has accepted the bundle on a node: its trial is over.
    pub fn has_accepted(&self, node: &str) -> bool {
        match self.stage {
            Stage::Wave(last) => self.is_in_first(last, node),
            Stage::Done => true,
            _ => false,
        }
    }

    fn is_in_first(&self, count: usize, node: &str) -> bool {
        self.waves
            .iter()
            .take(count)
            .any(|wave| wave.contains(node))
    }

    /// The rollout after the step that is due; `None`: there is none.
    pub fn next(&self, seen: &Seen<'_>) -> Option<Self> {
        let stage = match self.stage {
            Stage::Preview => self.after_preview(seen),
            Stage::Wave(wave) => self.after_wave(wave, seen),
            Stage::Done | Stage::Refused(_) | Stage::Back(_) => None,
        };
        let stage = stage?;
        Some(Self {
            stage,
            ..self.clone()
        })
    }

    /// The progress of a node in this rollout.
    fn progress<'a>(&self, seen: &Seen<'a>, node: &str) -> Option<&'a Progress> {
        let report = seen.reports.get(node)?;
        (report.rollout == self.number).then_some(&report.progress)
    }

    fn after_preview(&self, seen: &Seen<'_>) -> Option<Stage> {
        let mut missing = Vec::new();
        let mut worst: Option<(f64, &str, &str)> = None;
        for node in seen.alive {
            match self.progress(seen, node) {
                Some(Progress::Failed(why)) => {
                    return Some(Stage::Refused(format!("{node}: {why}")));
                }
                Some(Progress::Previewed { share, name }) => {
                    if worst.is_none_or(|(most, ..)| *share > most) {
                        worst = Some((*share, node, name));
                    }
                }
                Some(Progress::Runs(_)) => {}
                None => missing.push(node.as_str()),
            }
        }
        if !missing.is_empty() || seen.alive.is_empty() {
            return (seen.in_stage >= self.rules.within()).then(|| {
                let missing = missing.join(", ");
                let seconds = self.rules.within().as_secs();
                Stage::Refused(format!("no preview within {seconds} s from: {missing}"))
            });
        }
        let (most, node, name) = worst.unwrap_or_default();
        if most > self.rules.max_change {
            return Some(Stage::Refused(format!(
                "it moves {:.1} % of the clients of {name} ({node}), and max-change is {:.1} %",
                most * 100.0,
                self.rules.max_change * 100.0
            )));
        }
        Some(Stage::Wave(0))
    }

    fn after_wave(&self, wave: usize, seen: &Seen<'_>) -> Option<Stage> {
        // Those of the waves before stay under watch.
        for node in self.waves.iter().take(wave + 1).flatten() {
            if let Some(why) = self.fault(seen, node) {
                return Some(Stage::Back(format!("{node}: {why}")));
            }
        }
        for (number, nodes) in self.waves.iter().enumerate().take(wave + 1) {
            let away = nodes.iter().filter(|node| !seen.alive.contains(*node));
            let away: Vec<&str> = away.map(String::as_str).collect();
            let most_away = match number {
                0 => 0.0,
                _ => (nodes.len() as f64 * MOST_AWAY).max(1.0),
            };
            if away.len() as f64 > most_away {
                let away = away.join(", ");
                return Some(Stage::Back(format!(
                    "gone since it was told to run it: {away}"
                )));
            }
        }
        let nodes = self.waves.get(wave)?;
        let alive = || nodes.iter().filter(|node| seen.alive.contains(*node));
        let runs = |node: &&String| matches!(self.progress(seen, node), Some(Progress::Runs(_)));
        let late: Vec<&str> = alive()
            .filter(|node| !runs(node))
            .map(String::as_str)
            .collect();
        if !late.is_empty() {
            return (seen.in_stage >= self.rules.within()).then(|| {
                let seconds = self.rules.within().as_secs();
                Stage::Back(format!(
                    "not run within {seconds} s by: {}",
                    late.join(", ")
                ))
            });
        }
        // The canary itself says how long it has run the bundle: a dead one has said less.
        let is_watched = |node: &String| {
            let progress = self.progress(seen, node);
            progress.is_some_and(|progress| self.is_watched(progress))
        };
        if wave == 0 && !alive().all(is_watched) {
            return None;
        }
        Some(match wave + 1 < self.waves.len() {
            true => Stage::Wave(wave + 1),
            false => Stage::Done,
        })
    }

    /// Whether a node has run the bundle for as long as a canary is watched.
    pub fn is_watched(&self, progress: &Progress) -> bool {
        let wait_ms = if self.back { 0 } else { self.rules.wait_ms };
        matches!(progress, Progress::Runs(answers) if answers.for_ms >= wait_ms)
    }

    /// What is wrong with a node that runs the bundle.
    fn fault(&self, seen: &Seen<'_>, node: &str) -> Option<String> {
        match self.progress(seen, node)? {
            Progress::Failed(why) => Some(why.clone()),
            Progress::Runs(answers) if answers.are_worse() => Some(format!(
                "{:.1} % of {} answers are SERVFAIL or REFUSED, and before it were {:.1} %",
                answers.bad * 100.0,
                answers.count,
                answers.bad_before * 100.0
            )),
            Progress::Runs(_) | Progress::Previewed { .. } => None,
        }
    }
}

impl Rules {
    fn within(&self) -> Duration {
        Duration::from_millis(self.within_ms)
    }
}

impl Answers {
    /// Whether the share of bad ones has grown by more than it may, and by more than chance explains: a share of few
    /// answers has an error of its own.
    fn are_worse(&self) -> bool {
        let variance = self.bad_before * (1.0 - self.bad_before) / self.count as f64;
        let chance = ERRORS * variance.max(0.0).sqrt();
        self.count >= LEAST_ANSWERS && self.bad - self.bad_before > MOST_BAD + chance
    }
}

/// Nodes that a rollout begins with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Canary {
    /// This many.
    Count(usize),
    /// Those of a site.
    Site(String),
}

/// Sorts nodes (each with its site) into waves: the canary, then by these shares of all nodes, which ascend to 1. A
/// wave has nodes of as many sites as it can. `None`: there are no nodes for the canary.
pub fn waves(
    nodes: &BTreeMap<String, String>,
    canary: &Canary,
    shares: &[f64],
) -> Option<Vec<BTreeSet<String>>> {
    // In turns, one of each site.
    let mut of_site: BTreeMap<&str, usize> = BTreeMap::new();
    let mut turns: Vec<(usize, &str, &str)> = nodes
        .iter()
        .map(|(node, site)| {
            let turn = of_site.entry(site).or_default();
            *turn += 1;
            (*turn, site.as_str(), node.as_str())
        })
        .collect();
    turns.sort_unstable();
    let is_canary = |at: usize, site: &str| match canary {
        Canary::Count(count) => at < *count,
        Canary::Site(of) => of == site,
    };
    let numbered = turns.iter().enumerate();
    let (first, others): (Vec<_>, Vec<_>) =
        numbered.partition(|(at, (_, site, _))| is_canary(*at, site));
    if first.is_empty() {
        return None;
    }
    let name = |(_, (.., node)): &(usize, &(usize, &str, &str))| (*node).to_owned();
    let mut waves = vec![first.iter().map(name).collect::<BTreeSet<String>>()];
    let mut others = others.iter().map(name);
    for share in shares.iter().copied().chain([1.0]) {
        let so_far: usize = waves.iter().map(BTreeSet::len).sum();
        let up_to = (nodes.len() as f64 * share.clamp(0.0, 1.0)).ceil() as usize;
        let wave: BTreeSet<String> = others.by_ref().take(up_to.saturating_sub(so_far)).collect();
        if !wave.is_empty() {
            waves.push(wave);
        }
    }
    Some(waves)
}

/// What a node has kept of bundles.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Local {
    /// Id of the bundle that it runs; `None`: its own file.
    pub running: Option<String>,
    /// The trial that is under way.
    pub trial: Option<Trial>,
    /// Number of the last rollout whose bundle did not work here, and how often.
    pub failed: Option<(u64, u32)>,
}

/// A bundle that the fleet has not accepted on this node yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Trial {
    /// Number of the rollout.
    pub rollout: u64,
    /// Id of the bundle that the node ran before; `None`: its own file.
    pub before: Option<String>,
    /// Milliseconds that the trial lasts, at the most.
    pub limit_ms: u64,
}

/// What a node does next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    /// Preview the bundle, and report.
    Preview,
    /// Run this bundle (`None`: its own file), and report.
    Run(Option<String>),
    /// The trial is over: keep the bundle.
    Keep,
    /// The trial has failed: run what it ran before. It may be tried again.
    GoBack,
}

impl Local {
    /// What a node does next. `tried_for`: how long its trial has lasted. `has_reported`: it has reported on this
    /// rollout.
    pub fn act(
        &self,
        rollout: Option<&Rollout>,
        node: &str,
        tried_for: Duration,
        has_reported: bool,
    ) -> Option<Act> {
        let target = rollout.map(|rollout| rollout.target(node));
        if let Some(trial) = &self.trial {
            let is_wanted = target.is_none_or(|target| target == self.running.as_deref());
            let is_accepted =
                rollout.is_some_and(|rollout| match rollout.number == trial.rollout {
                    true => rollout.has_accepted(node),
                    // A later one goes on from it.
                    false => is_wanted,
                });
            if is_accepted {
                return Some(Act::Keep);
            }
            let in_time = tried_for < Duration::from_millis(trial.limit_ms);
            return match (is_wanted, in_time) {
                (true, true) => None,
                (true, false) => Some(Act::GoBack),
                (false, _) => Some(Act::Run(target.flatten().map(str::to_owned))),
            };
        }
        let rollout = rollout?;
        if rollout.stage == Stage::Preview && !has_reported {
            return Some(Act::Preview);
        }
        let target = rollout.target(node);
        if target == self.running.as_deref() {
            return None;
        }
        let failures = self.failed.filter(|(number, _)| *number == rollout.number);
        let failures = failures.map_or(0, |(_, times)| times);
        let may = match target == Some(&rollout.bundle) {
            true if rollout.stage == Stage::Done => failures < MOST_TRIALS,
            true => failures == 0,
            false => true,
        };
        may.then(|| Act::Run(target.map(str::to_owned)))
    }

    /// Runs a bundle from now on: the rollout's on trial, and any other for good.
    pub fn run(&mut self, rollout: &Rollout, bundle: Option<String>) {
        // A bundle on trial is nothing to go back to.
        let before = match self.trial.take() {
            Some(trial) => trial.before,
            None => self.running.take(),
        };
        let is_new = bundle.as_deref() == Some(&rollout.bundle) && bundle != before;
        self.trial = is_new.then(|| Trial {
            rollout: rollout.number,
            before,
            limit_ms: rollout.rules.wait_ms + 2 * rollout.rules.within_ms,
        });
        self.running = bundle;
    }

    /// Keeps the bundle on trial.
    pub fn keep(&mut self) {
        self.trial = None;
    }

    /// Goes back to what ran before the trial. `is_bad`: the bundle did not work here.
    pub fn go_back(&mut self, is_bad: bool) {
        let Some(trial) = self.trial.take() else {
            return;
        };
        self.running = trial.before;
        if is_bad {
            let before = self.failed.filter(|(number, _)| *number == trial.rollout);
            let times = before.map_or(0, |(_, times)| times);
            self.failed = Some((trial.rollout, times + 1));
        }
    }
}

#[cfg(test)]
mod tests;

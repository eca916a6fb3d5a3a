//! The votes of this node go to the store of the fleet, and what all votes decide comes in force.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use geodns_common::abi::Family;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval};

use super::link::{Condition, Link};
use crate::config::Config;
use crate::daemon::Daemon;
use crate::daemon::force::News;
use crate::fleet::polls::{Checked, EVERY, Polls};
use crate::fleet::votes::{TARGETS, VOTES};
use crate::health::Target;
use crate::health::target::number;
use crate::service::{Votes, targets};
use crate::shared::{Put, Revision};
use crate::supervise::Never;

/// A put that has not come back is repeated after this time.
const REPEAT: Duration = Duration::from_secs(1);

/// This node at the polls.
struct Booth {
    polls: Polls,
    start: Instant,
    /// Generation of the world that the targets are of.
    generation: u64,
    /// Number of changed verdicts that the votes have.
    changes: u64,
    /// Commits of the votes that are known.
    known: BTreeMap<String, Revision>,
    /// The put that is under way or done, and when it began.
    put: Option<(Vec<Put>, Instant, JoinHandle<()>)>,
    /// Targets in words, by their number.
    names: HashMap<u64, String>,
    /// Decisions in force.
    votes: Votes,
}

impl Daemon {
    /// Takes part in the votes of the fleet, for ever; where there is a fleet.
    pub async fn vote(self: Arc<Self>) -> Never {
        let Some(link) = self.fleet.clone() else {
            return std::future::pending().await;
        };
        let rules = self.world.load().inputs.config.quorum.clone();
        let mut booth = Booth {
            polls: Polls::new(link.node.clone(), rules),
            start: Instant::now(),
            generation: 0,
            changes: 0,
            known: BTreeMap::new(),
            put: None,
            names: HashMap::new(),
            votes: Votes::default(),
        };
        let mut ticks = interval(EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.look_at_checks(&mut booth);
            self.count_votes(&mut booth, &link);
        }
    }

    /// Looks at this node's own checks.
    fn look_at_checks(&self, booth: &mut Booth) {
        let world = self.world.load_full();
        let config = &world.inputs.config;
        let is_new = booth.generation != world.generation;
        if is_new {
            booth.generation = world.generation;
            booth.polls.set(config.quorum.clone(), checked(config));
            let names = targets(config).map(|target| (number(&target.key()), target.to_string()));
            booth.names = names.collect();
        }
        let changes = self.mirrors.verdicts.load(Ordering::Acquire);
        if is_new || booth.changes != changes {
            booth.changes = changes;
            for status in self.mirrors.monitor.snapshot() {
                if let Some(up) = status.up {
                    booth.polls.found(number(&status.target.key()), up);
                }
            }
        }
    }

    /// Takes the votes of all nodes, puts this node's own, and has what they decide put in force.
    fn count_votes(self: &Arc<Self>, booth: &mut Booth, link: &Arc<Link>) {
        let now = booth.start.elapsed().as_millis() as u64 + 1;
        for prefix in [TARGETS, VOTES] {
            for (key, value) in link.changes_below(prefix, &mut booth.known) {
                if let Err(why) = booth.polls.take(&key, value.as_deref()) {
                    tracing::warn!(key, "fleet: the votes in {key} do not count: {why}");
                }
            }
        }
        if link.view().condition == Condition::Following {
            booth.polls.heard(now);
            self.put_votes(booth, link);
        }
        if !booth.polls.decide(now) {
            return;
        }
        let votes = Votes {
            voted: booth.polls.voted().collect(),
            careful: booth.polls.outcome().careful.clone(),
        };
        booth.log(&votes);
        if votes != booth.votes {
            booth.votes.clone_from(&votes);
            self.in_service.tell(News::Voted(votes));
        }
    }

    fn put_votes(self: &Arc<Self>, booth: &mut Booth, link: &Arc<Link>) {
        let puts = booth.polls.missing();
        if puts.is_empty() {
            return;
        }
        if let Some((before, at, task)) = &booth.put
            && (!task.is_finished() || *before == puts && at.elapsed() < REPEAT)
        {
            return;
        }
        let (daemon, link) = (Arc::clone(self), Arc::clone(link));
        let wanted = puts.clone();
        let task = tokio::spawn(async move {
            let write = tokio::task::block_in_place(|| daemon.write_of_member());
            let Ok(write) = write else {
                return;
            };
            let write = wanted.into_iter().fold(write, |write, put| write.with(put));
            if let Err(why) = link.commit(&write).await {
                tracing::debug!("fleet: this node's votes are not put: {why:?}");
            }
        });
        booth.put = Some((puts, Instant::now(), task));
    }
}

impl Booth {
    /// Logs targets that are up or down now by votes, and whether own checks decide.
    fn log(&self, votes: &Votes) {
        if votes.careful != self.votes.careful {
            match &votes.careful {
                Some(why) => tracing::warn!(
                    cause = why,
                    "fleet: each node goes by its own checks of mirrors: {why}"
                ),
                None => tracing::info!("fleet: nodes vote on mirrors"),
            }
        }
        for (number, voted) in &votes.voted {
            let before = self.votes.voted.get(number).map(|before| before.up);
            let Some(name) = self.names.get(number) else {
                continue;
            };
            let why = &voted.reason;
            match (before, voted.up) {
                (Some(true) | None, false) => {
                    tracing::warn!(check = name, cause = why, "fleet: {name} is down: {why}");
                }
                (Some(false), true) => {
                    tracing::info!(check = name, cause = why, "fleet: {name} is up: {why}");
                }
                (Some(true) | None, true) | (Some(false), false) => {}
            }
        }
    }
}

/// The targets of a configuration, and those of each of its pools.
fn checked(config: &Config) -> Checked {
    let pools = config.pools.iter().filter(|pool| pool.of.is_none());
    let bounds = pools.flat_map(|pool| {
        [Family::V4, Family::V6].map(|family| {
            let of_family = |target: &Target| target.address.is_ipv4() == (family == Family::V4);
            let mirrors = pool.mirrors.iter();
            let targets = mirrors.flat_map(|&mirror| Target::of(&config.mirrors[mirror]));
            let targets = targets.filter(of_family);
            let targets: Vec<u64> = targets.map(|target| number(&target.key())).collect();
            (pool.id.clone(), targets)
        })
    });
    Checked {
        targets: targets(config)
            .map(|target| number(&target.key()))
            .collect(),
        bounds: bounds.filter(|(_, targets)| !targets.is_empty()).collect(),
    }
}

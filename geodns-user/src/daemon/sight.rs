//! Notices when the program does not see the queries of an interface that it is attached to, and when somebody changes
//! a card under it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use geodns_common::verdict::Fate;
use tokio::time::{MissedTickBehavior, interval};

use super::Daemon;
use crate::base::lock::lock;
use crate::control::status::{Blind, ChangedSetting, InterfaceStats};
use crate::event::Kind;
use crate::kernel::drift::Drift;
use crate::kernel::drivers::Facts;
use crate::kernel::ethtool;
use crate::kernel::intake::{Intake, intakes};
use crate::kernel::netdev::Netdevs;
use crate::kernel::shared::Traffic;
use crate::kernel::stub::Build;
use crate::kernel::{self, Kernel};
use crate::observe::blindness::{self, Cause, Counts, Looks, News};
use crate::supervise::Never;

/// How often the settings of cards are read when the kernel tells of no change: it does not tell when somebody changes
/// the number of channels.
const LOOK_AT_CARDS: Duration = Duration::from_secs(300);

/// How often the program is attached anew, at the most, where the driver does not run it: some cards take their link down
/// for that.
const ATTACH_ANEW: Duration = Duration::from_secs(3600);

/// The counters of interfaces, and what looks at them have found.
pub struct Sight {
    traffic: Traffic,
    intakes: ArcSwap<Vec<Intake>>,
    looks: Mutex<Looks>,
    drift: Mutex<Drift>,
    /// When the settings of cards were read; `None`: they are to be read.
    looked_at: Mutex<Option<Instant>>,
}

impl Sight {
    /// Sight of what a program is attached to.
    pub fn new(kernel: &Kernel, netdevs: &Netdevs) -> Result<Self, kernel::Error> {
        let sight = Self {
            traffic: kernel.traffic()?,
            intakes: ArcSwap::default(),
            looks: Mutex::default(),
            drift: Mutex::default(),
            looked_at: Mutex::default(),
        };
        sight.follow(kernel, netdevs);
        Ok(sight)
    }

    /// Follows what the program is attached to, and what stands above that.
    pub fn follow(&self, kernel: &Kernel, netdevs: &Netdevs) {
        let attached = kernel.attached().iter();
        let attached = attached.map(|at| (&*at.name, at.ifindex, at.generic));
        self.intakes.store(Arc::new(intakes(attached, netdevs)));
        let native = kernel.attached().iter().filter(|at| !at.generic);
        let cards = || {
            let cards = native.clone();
            cards.flat_map(|at| netdevs.runs_on(at.ifindex, false))
        };
        let mut drift = lock(&self.drift);
        let mut looked_at = lock(&self.looked_at);
        let is_due = looked_at.is_none_or(|at| at.elapsed() >= LOOK_AT_CARDS);
        if !is_due && drift.knows(cards().map(|card| card.ifindex)) {
            return;
        }
        *looked_at = Some(Instant::now());
        let facts = native.flat_map(|at| {
            let cards = netdevs.runs_on(at.ifindex, false);
            cards.map(|card| {
                let facts = Facts {
                    has_frags: at.build == Build::Frags,
                    ..Facts::read(card, netdevs)
                };
                (card.ifindex, facts)
            })
        });
        for change in drift.follow(facts.collect()) {
            let (interface, line) = (&change.interface, &change.line);
            match change.is_harmful {
                true => tracing::warn!(interface, "{line}"),
                false => tracing::info!(interface, "{line}"),
            }
        }
    }

    /// Has the next [`follow`](Self::follow) read the settings of cards.
    pub fn look_at_cards(&self) {
        *lock(&self.looked_at) = None;
    }
}

impl Daemon {
    /// Compares the counts of both paths again and again.
    pub async fn look_for_blindness(self: Arc<Self>) -> Never {
        let mut tick = interval(blindness::EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut anew: BTreeMap<Vec<String>, Instant> = BTreeMap::new();
        loop {
            tick.tick().await;
            let Some(sight) = &self.sight else {
                continue;
            };
            let mut not_run = Vec::new();
            let counts = match self.intake_counts(sight) {
                Ok(counts) => counts,
                Err(error) => {
                    tracing::warn!("{error}");
                    continue;
                }
            };
            for news in lock(&sight.looks).look(counts) {
                match news {
                    News::Blind(blind) => {
                        let (interface, cause) = (blind.interfaces.join(", "), blind.cause.name());
                        let event = Kind::InterfaceBlind.name();
                        tracing::warn!(event, interface, cause, "{blind}");
                        if blind.cause == Cause::NotRun {
                            not_run.push(blind.interfaces);
                        }
                    }
                    News::Sees(interfaces) => {
                        let interface = interfaces.join(", ");
                        tracing::info!(
                            event = Kind::InterfaceSees.name(),
                            interface,
                            "{interface}: the program sees its queries again"
                        );
                    }
                }
            }
            for interfaces in not_run {
                let last = anew.get(&interfaces);
                if last.is_none_or(|at| at.elapsed() >= ATTACH_ANEW) {
                    anew.insert(interfaces.clone(), Instant::now());
                    if let Err(error) = self.attach_anew(interfaces).await {
                        tracing::warn!("{error:#}");
                    }
                }
            }
        }
    }

    /// Takes the program off interfaces and attaches it again. Some drivers forget it when their rings change, or refuse
    /// it by now, so that generic mode is taken.
    async fn attach_anew(self: &Arc<Self>, interfaces: Vec<String>) -> anyhow::Result<()> {
        let daemon = Arc::clone(self);
        let detached = tokio::task::spawn_blocking(move || {
            let interface = interfaces.join(", ");
            tracing::info!(interface, "{interface}: attaching the program anew");
            let kernel = daemon.lock_kernel();
            kernel.map_or(Ok(()), |mut kernel| kernel.detach(&interfaces))
        });
        detached.await??;
        self.follow_interfaces().await
    }

    fn intake_counts(&self, sight: &Sight) -> Result<Vec<(Intake, Counts)>, kernel::Error> {
        // Before the program's counts, which are of earlier: what the slow path got, the program has counted by now.
        let by_interface = self.server.by_interface();
        let got = |interfaces: &BTreeSet<u32>| {
            let counts = interfaces.iter().filter_map(|at| by_interface.get(at));
            counts.sum()
        };
        let counts = |intake: &Intake| {
            let mut counts = Counts {
                own: got(&intake.own),
                mixed: got(&intake.mixed),
                ..Counts::default()
            };
            for &slot in &intake.slots {
                let read = sight.traffic.read(slot)?;
                for (sum, count) in counts.by_fate.iter_mut().zip(read) {
                    *sum += count;
                }
            }
            Ok((intake.clone(), counts))
        };
        sight.intakes.load().iter().map(counts).collect()
    }

    /// The interfaces that the program is blind on.
    pub fn blind(&self) -> Vec<Blind> {
        let Some(sight) = &self.sight else {
            return Vec::new();
        };
        let looks = lock(&sight.looks);
        let blind = looks.blind().map(|blind| Blind {
            interfaces: blind.interfaces.clone(),
            cause: blind.cause.name().to_owned(),
            missing: blind.missing,
            message: blind.to_string(),
        });
        blind.collect()
    }

    /// The settings of cards that are not what they were when the program was attached.
    pub fn changed_settings(&self) -> Vec<ChangedSetting> {
        let Some(sight) = &self.sight else {
            return Vec::new();
        };
        let changes = lock(&sight.drift).standing().into_iter();
        let changes = changes.map(|change| ChangedSetting {
            interface: change.interface,
            harmful: change.is_harmful,
            message: change.line,
        });
        changes.collect()
    }

    /// Counters of the interfaces that the program is attached to.
    pub fn interface_stats(&self) -> Result<Vec<InterfaceStats>, kernel::Error> {
        let Some(sight) = &self.sight else {
            return Ok(Vec::new());
        };
        let counts = self.intake_counts(sight)?;
        let looks = lock(&sight.looks);
        let stats = counts.into_iter().map(|(intake, counts)| InterfaceStats {
            kernel: Fate::ALL
                .iter()
                .map(|fate| (fate.name().to_owned(), counts.of(*fate)))
                .collect::<BTreeMap<_, _>>(),
            dropped_by_driver: dropped_by_drivers(&intake.runs_on),
            slow: counts.own + counts.mixed,
            blind: looks
                .blind()
                .any(|blind| blind.interfaces == intake.interfaces),
            interfaces: intake.interfaces,
        });
        Ok(stats.collect())
    }
}

/// Answers of the program that drivers have dropped. `None`: none of them tells.
fn dropped_by_drivers(interfaces: &BTreeSet<u32>) -> Option<u64> {
    let told = interfaces
        .iter()
        .filter_map(|&ifindex| ethtool::dropped_answers(ifindex));
    told.reduce(|sum, count| sum + count)
}

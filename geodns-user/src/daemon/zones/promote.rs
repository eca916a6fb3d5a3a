//! The kernel as a cache of hot names: where it does not hold a whole zone, the daemon puts the names that are asked
//! most into its table, and takes those out again that cool.

use std::mem::take;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use domain::base::Name;
use tokio::time::{Instant, MissedTickBehavior, interval_at};
use tracing::{debug, error};

use crate::base::lock::{lock, read};
use crate::control::problem::Failure;
use crate::control::status::NamesStatus;
use crate::daemon::Daemon;
use crate::daemon::force::internal;
use crate::kernel;
use crate::plan::heat::{Heat, Moves};
use crate::plan::{EditError, Unwanted};
use crate::supervise::Never;
use crate::world::World;

/// How long a turn of the heat takes.
const TURN: Duration = Duration::from_secs(1);

/// Promoted names. Locked for as long as a turn takes.
#[derive(Debug, Default)]
pub struct Promotion(Mutex<Promoted>);

#[derive(Debug, Default)]
struct Promoted {
    heat: Heat,
    /// The number of the plan that they are promoted in.
    generation: u64,
    /// Counts of names since the start.
    promotions: u64,
    demotions: u64,
}

impl Daemon {
    /// Promotes names, for ever.
    pub async fn promote(self: Arc<Self>) -> Never {
        let mut turns = interval_at(Instant::now() + TURN, TURN);
        turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            turns.tick().await;
            if !self.has_partial_zones() {
                continue;
            }
            let turn = self.change(|daemon| daemon.promotion().turn(daemon)).await;
            if let Err(failure) = turn {
                error!(cause = %failure, "names that are asked often do not come into the kernel: {failure}");
            }
        }
    }

    fn promotion(&self) -> MutexGuard<'_, Promoted> {
        lock(&self.zones.promotion.0)
    }

    fn has_partial_zones(&self) -> bool {
        let world = self.world.load();
        let plan = read(&world.plan);
        (0..plan.zones().len()).any(|zone| plan.is_partial(zone))
    }

    /// The table of names, in numbers.
    pub fn names_status(&self, world: &World) -> NamesStatus {
        if !self.has_kernel() {
            return NamesStatus::default();
        }
        // Whoever has the promotion locks the plan, not the other way round.
        let (promoted, promotions, demotions) = {
            let promotion = self.promotion();
            // In a new plan none has been, yet.
            let promoted = match promotion.generation == world.generation {
                true => promotion.heat.promoted() as u64,
                false => 0,
            };
            (promoted, promotion.promotions, promotion.demotions)
        };
        let served = world.zones.load().names();
        let plan = read(&world.plan);
        let [in_kernel, most] = plan.names_of();
        NamesStatus {
            served: served as u64,
            in_kernel: in_kernel as u64,
            most: most as u64,
            promoted,
            promotions,
            demotions,
        }
    }
}

impl Promoted {
    /// Takes a turn. Only under `edits`.
    fn turn(&mut self, daemon: &Daemon) -> Result<(), Failure> {
        let asked = daemon.server.asked();
        let world = daemon.world.load_full();
        if self.generation != world.generation {
            self.heat.forget_places();
            self.generation = world.generation;
        }
        let moves = {
            // The kernel's lock first, as everywhere.
            let kernel = daemon.lock_kernel();
            let plan = read(&world.plan);
            let answered = |name: &Name<[u8]>| {
                let slot = plan.slot_of(name)?;
                let kernel = kernel.as_ref()?;
                Some(u32::from(kernel.instance().take_asked(slot)))
            };
            let [names, most] = plan.names_of();
            self.heat.turn(asked, answered, most.saturating_sub(names))
        };
        if moves != Moves::default() {
            debug!(
                "{} names into the kernel's table, {} out of it",
                moves.promote.len(),
                moves.demote.len()
            );
        }
        self.demote(daemon, &world, &moves)?;
        self.promote(daemon, &world, &moves)
    }

    fn demote(&mut self, daemon: &Daemon, world: &World, moves: &Moves) -> Result<(), Failure> {
        if moves.demote.is_empty() {
            return Ok(());
        }
        let zones = world.zones.load_full();
        let mut unwanted = Unwanted::default();
        daemon.edit_kernel(world, |plan| {
            let mut stores = Vec::new();
            for name in names(&moves.demote) {
                let (removed, left) = plan.demote(&zones, name);
                stores.extend(removed);
                unwanted.extend(left);
            }
            Ok(stores)
        })?;
        for name in &moves.demote {
            self.heat.forget(name);
            self.demotions += 1;
        }
        kernel::grace().map_err(internal)?;
        daemon.edit_kernel(world, |plan| {
            plan.free(take(&mut unwanted));
            Ok(Vec::new())
        })
    }

    fn promote(&mut self, daemon: &Daemon, world: &World, moves: &Moves) -> Result<(), Failure> {
        if moves.promote.is_empty() {
            return Ok(());
        }
        let zones = world.zones.load_full();
        let (mut taken, mut refused) = (Vec::new(), Vec::new());
        daemon.edit_kernel(world, |plan| {
            let mut stores = Vec::new();
            for (name, qtype) in &moves.promote {
                let Ok(parsed) = Name::from_slice(name) else {
                    continue;
                };
                match plan.promote(&zones, parsed, *qtype) {
                    Ok(Some(added)) => {
                        stores.extend(added);
                        taken.push(name);
                    }
                    Ok(None) | Err(EditError::Outgrown) => refused.push(name),
                }
            }
            Ok(stores)
        })?;
        for name in taken {
            self.heat.take_place(name);
            self.promotions += 1;
        }
        for name in refused {
            self.heat.forget(name);
        }
        Ok(())
    }
}

fn names(names: &[Box<[u8]>]) -> impl Iterator<Item = &Name<[u8]>> {
    names.iter().filter_map(|name| Name::from_slice(name).ok())
}

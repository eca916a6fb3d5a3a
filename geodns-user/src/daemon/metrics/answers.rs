//! Answers by mirror of both paths. They go on over another plan.
//!
//! The program's counters are in the kernel's maps, which go on over another daemon, too (`kernel::mirrors`).

use std::mem;
use std::sync::{Arc, Mutex};

use hashbrown::HashMap;

use crate::base::lock::lock;
use crate::daemon::Daemon;
use crate::metrics::snapshot::Label;
use crate::metrics::{Family, Snapshot};
use crate::world::World;
use crate::world::by_mirror::ByMirror;

/// Answers of the slow path by mirror, since the start.
#[derive(Default)]
pub struct SlowAnswers(Mutex<Counted>);

#[derive(Default)]
struct Counted {
    /// Those of worlds that nobody answers from any more, by the mirror's id.
    before: HashMap<u64, u64>,
    /// Counters that somebody may still add to.
    live: Vec<Arc<ByMirror>>,
}

impl SlowAnswers {
    /// Follows a world, before somebody answers from it.
    pub fn follow(&self, world: &World) {
        let mut counted = lock(&self.0);
        counted.fold();
        counted.live.extend(world.by_mirror.clone());
    }

    /// All answers so far, by the mirror's id.
    fn by_id(&self) -> HashMap<u64, u64> {
        let mut counted = lock(&self.0);
        counted.fold();
        let mut by_id = counted.before.clone();
        counted.live.iter().for_each(|live| live.add_to(&mut by_id));
        by_id
    }
}

impl Counted {
    /// Puts counters that nobody adds to any more with those before.
    fn fold(&mut self) {
        for mut counters in mem::take(&mut self.live) {
            match Arc::get_mut(&mut counters) {
                Some(last) => last.add_to(&mut self.before),
                None => self.live.push(counters),
            }
        }
    }
}

impl Daemon {
    /// Answers by path, pool and mirror.
    pub(super) fn add_answers(&self, snapshot: &mut Snapshot, world: &World) {
        let Some(by_mirror) = &world.by_mirror else {
            return;
        };
        let config = &world.inputs.config;
        // Read without the lock: an instance that is replaced meanwhile has at least what was read before.
        let kernel = self
            .lock_kernel()
            .and_then(|kernel| kernel.instance().mirrors().cloned());
        let kernel = kernel.map(|mirrors| mirrors.by_id());
        let slow = self.metrics.answers.by_id();
        let labels: Vec<Label> = config
            .mirrors
            .iter()
            .map(|of| Label::from(&*of.id))
            .collect();
        for (path, counts) in [("kernel", kernel), ("slow", Some(slow))] {
            let Some(counts) = counts else { continue };
            let path = Label::from(path);
            let mut ids = by_mirror.ids().iter();
            for pool in &config.pools {
                let id = Label::from(&*pool.id);
                for (&mirror, of) in pool.mirrors.iter().zip(ids.by_ref()) {
                    let answers = counts.get(of).copied().unwrap_or(0);
                    let labels = [&path, &id, &labels[mirror]];
                    snapshot.put_with(Family::Answers, labels, answers);
                }
            }
        }
    }
}

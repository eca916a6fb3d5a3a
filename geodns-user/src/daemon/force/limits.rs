//! Rate limits of the slow path: from the buckets of the program in force, if there is one.

use geodns_common::tables::Tables;

use crate::base::lock::read;
use crate::kernel::instance::Instance;
use crate::serve::limiter::{Limiter, Own};
use crate::world::World;

/// The rate limit of a world that is to be in force, with this program; `None`: there is no limit.
pub fn of(world: &World, instance: Option<&Instance>) -> Option<Limiter> {
    let plan = read(&world.plan);
    let allow = &world.inputs.config.rrl.allow;
    let buckets = instance.and_then(Instance::buckets);
    Limiter::new(plan.settings(), allow, || match buckets {
        Some(buckets) => Box::new(buckets),
        None => Box::new(Own::default()),
    })
}

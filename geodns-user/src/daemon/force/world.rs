//! One world in the place of another: compiled, loaded and committed.

use std::sync::Arc;

use super::{internal, limits};
use crate::base::lock::read;
use crate::block::Blocks;
use crate::control::problem::Failure;
use crate::daemon::Daemon;
use crate::geo::Layers;
use crate::kernel::instance::Instance;
use crate::world::{Inputs, World};

impl Daemon {
    /// Puts a whole new plan in force, compiled with the zones as they are now.
    pub fn put_anew(&self, world: &World) -> Result<(), Failure> {
        let next = self.compile(&world.inputs_now(), &world.layers(), world.generation + 1)?;
        let instance = self.prepare(&next)?;
        self.commit(next, instance)
    }

    /// Compiles a world, and puts mirrors in and out of service in it.
    pub fn compile(
        &self,
        inputs: &Inputs,
        layers: &[Layers],
        generation: u64,
    ) -> Result<World, Failure> {
        let world = inputs
            .compile(layers, generation, rand::random())
            .map_err(|error| Failure::Invalid(error.to_string()))?;
        self.put_service(&world);
        Ok(world)
    }

    /// Loads a world's program; nothing is in force yet.
    pub fn prepare(&self, next: &World) -> Result<Option<Instance>, Failure> {
        // Not the kernel's lock for so long: what the checks find must not wait.
        let program = next.inputs.config.kernel.next.as_deref();
        let Some(loader) = self.lock_kernel().map(|kernel| kernel.loader(program)) else {
            return Ok(None);
        };
        let loader = loader.map_err(internal)?;
        let plan = read(&next.plan);
        loader
            .load(&*plan, plan.capacity())
            .map(Some)
            .map_err(internal)
    }

    /// Puts a world in force, in the kernel and in the slow path. On an error nothing has changed.
    pub fn commit(&self, next: World, instance: Option<Instance>) -> Result<(), Failure> {
        self.commit_with(next, instance, None)
    }

    /// Puts a world in force together with block rules. The numbers are those of the kernel's counters that start anew.
    pub fn commit_with(
        &self,
        next: World,
        instance: Option<Instance>,
        rules: Option<(Arc<Blocks>, &[u32])>,
    ) -> Result<(), Failure> {
        let limiter = limits::of(&next, instance.as_ref());
        if let (Some(mut kernel), Some(instance)) = (self.lock_kernel(), instance) {
            let rules = rules.as_ref();
            let rules = rules.map(|(blocks, fresh)| (Arc::clone(blocks), *fresh));
            kernel.commit_with(instance, rules).map_err(internal)?;
        }
        // From here on nothing can fail.
        if let Some((blocks, _)) = rules {
            self.server.set_blocks(blocks);
        }
        // A packet that was passed by the program before has put its token back there.
        self.server.set_limiter(limiter);
        self.metrics.answers.follow(&next);
        self.world.store(Arc::new(next));
        self.upkeep.replaced();
        // What has changed since it was compiled.
        self.heed_or_again();
        Ok(())
    }
}

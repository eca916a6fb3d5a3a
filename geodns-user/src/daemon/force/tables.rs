//! The kernel's tables: edited as the plan is, and made anew where they may be other than it.

use std::sync::MutexGuard;

use super::internal;
use crate::base::lock::{lock, write};
use crate::control::problem::Failure;
use crate::daemon::Daemon;
use crate::kernel::Kernel;
use crate::plan::{EditError, Plan, Store};
use crate::publish::Backend;
use crate::world::World;

impl Daemon {
    /// The kernel, locked; `None` with `kernel.mode = "off"`, or if the program could not be loaded.
    pub fn lock_kernel(&self) -> Option<MutexGuard<'_, Kernel>> {
        self.kernel.as_ref().map(lock)
    }

    /// Whether the program is loaded.
    pub fn has_kernel(&self) -> bool {
        self.kernel.is_some()
    }

    /// Edits the plan, and then the kernel's tables in the same way. What the plan refuses is
    /// [`Failure::Invalid`], and nothing has changed.
    pub fn edit_kernel(
        &self,
        world: &World,
        edit: impl FnOnce(&mut Plan) -> Result<Vec<Store>, EditError>,
    ) -> Result<(), Failure> {
        // The kernel's lock first, as everywhere.
        let mut kernel = self.lock_kernel();
        let mut plan = write(&world.plan);
        let stores = edit(&mut plan).map_err(|error| Failure::Invalid(error.to_string()))?;
        self.apply(kernel.as_deref_mut(), &stores)
    }

    /// Stores in the kernel's tables what the plan has by now. Where that fails they are other than the plan, and
    /// are made anew soon.
    pub fn apply(&self, kernel: Option<&mut Kernel>, stores: &[Store]) -> Result<(), Failure> {
        let applied = kernel.map_or(Ok(()), |kernel| kernel.apply(stores));
        applied.map_err(|error| {
            self.upkeep.mend();
            internal(error)
        })
    }

    /// Frees what edits have let go, once no packet can be looking at it.
    pub fn reclaim(&self, world: &World) -> Result<(), Failure> {
        if let Some(mut kernel) = self.lock_kernel() {
            kernel.grace().map_err(internal)?;
        }
        write(&world.plan).reclaim();
        Ok(())
    }
}

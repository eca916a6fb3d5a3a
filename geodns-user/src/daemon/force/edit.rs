//! An edit of what the state keeps: prepared, kept on disk, put in force, and told, in this order. If a step fails,
//! nothing has changed.
//!
//! Each feature prepares its edits. [`Daemon::in_force`](crate::daemon::Daemon::in_force) puts them in force.

use std::sync::Arc;
use std::time::Instant;

use super::{durably, internal, milliseconds};
use crate::control::problem::Failure;
use crate::daemon::Daemon;
use crate::kernel::instance::Instance;
use crate::state::{Change, Item};
use crate::world::World;
use crate::zone::Zone;

/// Tells the outcome of an edit that is in force.
type Tell<T> = Box<dyn FnOnce(&Daemon, Took) -> T + Send>;

/// An edit that was found right.
pub struct Edit<T> {
    /// The object of the edit, for the log.
    what: String,
    change: Change,
    ready: Ready,
    tell: Tell<T>,
}

/// The part of putting a change in force that was done before the change was kept, since it may fail.
pub enum Ready {
    /// None of it.
    Nothing,
    /// A world was compiled, and its program loaded.
    World(Box<(World, Option<Instance>)>),
    /// A zone was changed.
    Zone(Zone),
}

/// How long an edit took, in milliseconds.
#[derive(Clone, Copy, Default)]
pub struct Took {
    /// To be on disk.
    pub store_ms: u64,
    /// To be in force.
    pub publish_ms: u64,
}

impl<T> Edit<T> {
    /// An edit of these things.
    pub fn new(
        what: impl Into<String>,
        items: Vec<Item>,
        tell: impl FnOnce(&Daemon, Took) -> T + Send + 'static,
    ) -> Self {
        Self {
            what: what.into(),
            change: Change(items),
            ready: Ready::Nothing,
            tell: Box::new(tell),
        }
    }

    /// The same edit, a part of which is done.
    pub fn with(self, ready: Ready) -> Self {
        Self { ready, ..self }
    }
}

impl Daemon {
    /// Makes an edit as [`Daemon::change`] makes a change. `told` hears of the outcome, with no other edit between.
    pub async fn edit<T: Send + 'static>(
        self: &Arc<Self>,
        prepare: impl Fn(&Self) -> Result<Edit<T>, Failure> + Send + 'static,
        told: impl FnOnce(&Result<T, Failure>) + Send + 'static,
    ) -> Result<T, Failure> {
        self.change(move |daemon| daemon.make(prepare, told)).await
    }

    /// Makes an edit as [`Daemon::edit`] does. The caller waits for the outcome only as long as the disk answers.
    pub async fn edit_for<T: Send + 'static>(
        self: &Arc<Self>,
        prepare: impl Fn(&Self) -> Result<Edit<T>, Failure> + Send + 'static,
        told: impl FnOnce(&Result<T, Failure>) + Send + 'static,
    ) -> Result<T, Failure> {
        self.change_for(move |daemon| daemon.make(prepare, told))
            .await
    }

    fn make<T>(
        &self,
        prepare: impl Fn(&Self) -> Result<Edit<T>, Failure>,
        told: impl FnOnce(&Result<T, Failure>),
    ) -> Result<T, Failure> {
        let made = prepare(self).and_then(|edit| self.keep_and_put(edit));
        told(&made);
        made
    }

    fn keep_and_put<T>(&self, edit: Edit<T>) -> Result<T, Failure> {
        let Edit {
            what,
            change,
            ready,
            tell,
        } = edit;
        let started = Instant::now();
        let keep = |change: &Change| self.state.keep(change).map_err(internal);
        let took = durably(
            &what,
            || keep(&change).map(|back| (back, milliseconds(started))),
            |(_, store_ms)| {
                let started = Instant::now();
                self.in_force(&change, ready)?;
                Ok(Took {
                    store_ms: *store_ms,
                    publish_ms: milliseconds(started),
                })
            },
            |(back, _)| keep(&back).map(drop),
        )?;
        Ok(tell(self, took))
    }
}

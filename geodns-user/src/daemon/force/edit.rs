//! An edit of what the state keeps: prepared, kept on disk, put in force, and told, in this order. If a step fails,
//! nothing has changed.
//!
//! Each feature prepares its edits. [`Daemon::in_force`](crate::daemon::Daemon::in_force) puts them in force.

use std::sync::Arc;
use std::time::Instant;

use super::{durably, internal, milliseconds};
use crate::control::problem::Failure;
use crate::control::reach::Reach;
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

    /// The same edit, with another outcome.
    pub fn map<U>(self, map: impl FnOnce(T) -> U + Send + 'static) -> Edit<U>
    where
        T: 'static,
    {
        let tell = self.tell;
        Edit {
            what: self.what,
            change: self.change,
            ready: self.ready,
            tell: Box::new(move |daemon, took| map(tell(daemon, took))),
        }
    }

    /// What changes.
    pub fn change(&self) -> &Change {
        &self.change
    }

    /// Tells the outcome, now that the change is in force.
    pub fn tell(self, daemon: &Daemon, took: Took) -> T {
        (self.tell)(daemon, took)
    }
}

impl Daemon {
    /// Makes an edit as [`Daemon::change`] makes a change, by the fleet if this node is in one. `prepare` is called again
    /// if another node was faster. `told` hears of the outcome; without a fleet, with no other edit between.
    pub async fn edit<T: Send + 'static>(
        self: &Arc<Self>,
        prepare: impl Fn(&Self) -> Result<Edit<T>, Failure> + Send + Sync + 'static,
        told: impl FnOnce(&Result<T, Failure>) + Send + 'static,
    ) -> Result<T, Failure> {
        match &self.fleet {
            Some(_) => self.edit_of_all(prepare, told, Reach::Here).await,
            None => {
                let edit = move |daemon: &Self| daemon.make(prepare, told, false);
                self.change(edit).await
            }
        }
    }

    /// Makes an edit as [`Daemon::edit`] does, for the caller of an API call, who says how far it reaches. The caller
    /// waits for the outcome only as long as the disk answers.
    pub async fn edit_for<T: Send + 'static>(
        self: &Arc<Self>,
        prepare: impl Fn(&Self) -> Result<Edit<T>, Failure> + Send + Sync + 'static,
        told: impl FnOnce(&Result<T, Failure>) + Send + 'static,
    ) -> Result<T, Failure> {
        let reach = Reach::current();
        let is_local = reach == Reach::Local;
        if self.fleet.is_some() && !is_local {
            return self.edit_of_all(prepare, told, reach).await;
        }
        let over_fleet = self.fleet.is_some() && is_local;
        let edit = move |daemon: &Self| daemon.make(prepare, told, over_fleet);
        self.change_for(edit).await
    }

    /// Makes an edit by the fleet; to its end, even if nobody waits for it any more.
    async fn edit_of_all<T: Send + 'static>(
        self: &Arc<Self>,
        prepare: impl Fn(&Self) -> Result<Edit<T>, Failure> + Send + Sync + 'static,
        told: impl FnOnce(&Result<T, Failure>) + Send + 'static,
        reach: Reach,
    ) -> Result<T, Failure> {
        let daemon = Arc::clone(self);
        let edit = tokio::spawn(async move {
            let made = daemon.commit_edit(prepare, reach).await;
            tokio::task::block_in_place(|| told(&made));
            made
        });
        edit.await.map_err(internal)?
    }

    fn make<T>(
        &self,
        prepare: impl Fn(&Self) -> Result<Edit<T>, Failure>,
        told: impl FnOnce(&Result<T, Failure>),
        over_fleet: bool,
    ) -> Result<T, Failure> {
        let made = prepare(self).and_then(|edit| self.keep_and_put(edit, over_fleet));
        told(&made);
        made
    }

    /// Keeps an edit and puts it in force here. `over_fleet`: it stands over what the fleet's store has.
    fn keep_and_put<T>(&self, edit: Edit<T>, over_fleet: bool) -> Result<T, Failure> {
        let Edit {
            what,
            change,
            ready,
            tell,
        } = edit;
        let started = Instant::now();
        let keep = |change: &Change| {
            let kept = match over_fleet {
                true => self.state.keep_local(change),
                false => self.state.keep(change),
            };
            kept.map_err(internal)
        };
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
        if over_fleet {
            self.know_local()?;
        }
        Ok(tell(self, took))
    }
}

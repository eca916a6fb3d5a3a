//! The fleet that this node is in: commits of its shared store come in force here, and edits of here are commits there.
//!
//! - `link`: the store is followed, and commits are made
//! - `edit`: an edit of this node is a commit, and is in force once the commit has come back
//! - `rollout`: the node runs bundles as a rollout says
//! - `votes`: the node votes on mirrors, and what all votes decide comes in force
//! - `registry`: the node says what it is, and which plan it has
//! - `leave`: a node stops being announced only if enough others are
//! - `join`: a fleet is made, joined and left
//! - `api`: the calls
//!
//! Commits come in force in their order, and nothing else changes shared things while the node is in a fleet. The state
//! has each commit together with its number, so a node that starts again goes on where it was. Without the store answers
//! go on, and edits are refused, but for those of this node alone (`--local`).

mod api;
mod edit;
mod join;
mod leave;
mod link;
mod registry;
mod rollout;
mod votes;

use std::collections::BTreeSet;
use std::sync::Arc;

use async_trait::async_trait;

pub use link::Link;

use super::Daemon;
use super::force::{Ready, internal};
use crate::base::lock::lock;
use crate::config::Config;
use crate::control::problem::Failure;
use crate::shared::etcd::Etcd;
use crate::shared::{Position, Revision};
use crate::state::{Change, Item, Membership};
use crate::supervise::Never;
use link::Home;

/// The link of a node whose configuration names a fleet.
pub fn link(config: &Config) -> Option<Arc<Link>> {
    let fleet = config.fleet.as_ref()?;
    let store = Arc::new(Etcd::new(fleet));
    let node = config.server.id().unwrap_or_else(|| "unnamed".to_owned());
    Some(Arc::new(Link::new(store, node)))
}

/// A daemon, as its link sees it.
struct Here(Arc<Daemon>);

#[async_trait]
impl Home for Here {
    async fn known(&self) -> Result<(Option<Membership>, Position), String> {
        let read = |daemon: &Daemon| {
            daemon.know_local()?;
            let membership = daemon.state.membership().map_err(internal)?;
            Ok((membership, daemon.state.position().map_err(internal)?))
        };
        said(self.0.change(read).await)
    }

    async fn take(&self, change: Change, position: Position) -> Result<(), String> {
        let take = move |daemon: &Daemon| {
            let here = daemon.state.follow(&change, position).map_err(internal)?;
            if !daemon.local_keys().is_empty() {
                daemon.know_local()?;
            }
            daemon.in_force(&here, Ready::Nothing)
        };
        said(self.0.change(take).await)
    }

    async fn adopt(
        &self,
        entries: Vec<(Item, Revision)>,
        position: Position,
    ) -> Result<(), String> {
        let adopt = move |daemon: &Daemon| {
            let here = daemon.state.adopt(&entries, position, None);
            daemon.in_force(&here.map_err(internal)?, Ready::Nothing)
        };
        said(self.0.change(adopt).await)
    }
}

fn said<T>(outcome: Result<T, Failure>) -> Result<T, String> {
    outcome.map_err(|failure| failure.to_string())
}

impl Daemon {
    /// Answers nobody while what this node has is older than `fleet.max_stale` allows. Gives whether it is. Without the
    /// heartbeat the program goes quiet, too.
    pub fn heed_staleness(&self) -> bool {
        let Some(link) = &self.fleet else {
            return false;
        };
        let most = self
            .world
            .load()
            .inputs
            .config
            .fleet
            .as_ref()
            .and_then(|fleet| fleet.max_stale);
        let is_silent = most.is_some_and(|most| link.stale_for().is_some_and(|stale| stale > most));
        if self.server.set_silent(is_silent) != is_silent {
            match is_silent {
                true => tracing::error!(
                    "fleet: this node has had no store for longer than fleet.max_stale: it answers nobody until it has"
                ),
                false => tracing::info!("fleet: this node answers again"),
            }
        }
        is_silent
    }

    /// Keys of things that this node alone has changed.
    pub fn local_keys(&self) -> Arc<BTreeSet<String>> {
        let link = self.fleet.as_ref();
        link.map_or_else(Arc::default, |link| Arc::clone(&lock(&link.local)))
    }

    /// Reads the keys of things that this node alone has changed.
    pub fn know_local(&self) -> Result<(), Failure> {
        if let Some(link) = &self.fleet {
            *lock(&link.local) = Arc::new(self.state.local_keys().map_err(internal)?);
        }
        Ok(())
    }

    /// Follows the store of the fleet, for ever; where there is a fleet.
    pub async fn follow_fleet(self: Arc<Self>) -> Never {
        match self.fleet.clone() {
            Some(link) => link.follow(&Here(self)).await,
            None => std::future::pending().await,
        }
    }
}

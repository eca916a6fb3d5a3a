//! The fleet that this node is in: commits of its shared store come in force here, and edits of here are commits there.
//!
//! - `link`: the store is followed, and commits are made
//! - `edit`: an edit of this node is a commit, and is in force once the commit has come back
//! - `rollout`: the node runs bundles as a rollout says
//! - `votes`: the node votes on mirrors, and what all votes decide comes in force
//! - `registry`: the node says what it is, and which plan it has
//! - `stale`: how old is what the node has, and `fleet.max_stale`
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
mod stale;
mod votes;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

pub use link::Link;

use super::Daemon;
use super::force::{Ready, internal};
use crate::base::lock::lock;
use crate::config::Config;
use crate::control::problem::Failure;
use crate::fault;
use crate::shared::etcd::Etcd;
use crate::shared::{Position, Revision};
use crate::state::{Change, Error, Item, Membership, State};
use crate::supervise::Never;
use link::{Home, NotTaken};

/// The link of a node whose configuration names a fleet.
pub fn link(config: &Config, state: &State) -> Result<Option<Arc<Link>>, Error> {
    let Some(fleet) = &config.fleet else {
        return Ok(None);
    };
    let store = Arc::new(Etcd::new(fleet));
    let node = config.server.id().unwrap_or_else(|| "unnamed".to_owned());
    let stale = match fleet.max_stale {
        Some(_) => stale::kept(state)?,
        None => Duration::ZERO,
    };
    Ok(Some(Arc::new(Link::new(store, node, stale))))
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

    async fn take(&self, change: Change, position: Position) -> Result<(), NotTaken> {
        let take = move |daemon: &Daemon| {
            fault::point("fleet: a commit has come").map_err(internal)?;
            let here = daemon.state.follow(&change, position).map_err(internal)?;
            let kept = fault::point("fleet: a commit is kept").map_err(internal);
            Ok(kept
                .map_err(|failure| (here.keys(), failure))
                .and_then(|()| daemon.put_kept(&here)))
        };
        not_taken(self.0.change(take).await)
    }

    async fn adopt(
        &self,
        entries: Vec<(Item, Revision)>,
        position: Position,
    ) -> Result<(), NotTaken> {
        let adopt = move |daemon: &Daemon| {
            let here = daemon.state.adopt(&entries, position, None);
            Ok(daemon.put_kept(&here.map_err(internal)?))
        };
        not_taken(self.0.change(adopt).await)
    }

    async fn put_again(&self, keys: Vec<String>) -> Result<(), String> {
        let put = move |daemon: &Daemon| {
            let change = daemon.state.as_kept(&keys).map_err(internal)?;
            daemon.put_kept(&change).map_err(|(_, failure)| failure)
        };
        said(self.0.change(put).await)
    }
}

/// The outcome of a change whose outer error is one of the disk.
fn not_taken(outcome: Result<Result<(), (Vec<String>, Failure)>, Failure>) -> Result<(), NotTaken> {
    match outcome {
        Ok(Ok(())) => Ok(()),
        Ok(Err((keys, failure))) => Err(NotTaken::NotInForce(keys, failure.to_string())),
        Err(failure) => Err(NotTaken::NotKept(failure.to_string())),
    }
}

fn said<T>(outcome: Result<T, Failure>) -> Result<T, String> {
    outcome.map_err(|failure| failure.to_string())
}

impl Daemon {
    /// Keys of things that this node alone has changed.
    pub fn local_keys(&self) -> Arc<BTreeSet<String>> {
        let link = self.fleet.as_ref();
        link.map_or_else(Arc::default, |link| Arc::clone(&lock(&link.local)))
    }

    /// Puts a commit in force that the state has. An error names what is not in force.
    fn put_kept(&self, change: &Change) -> Result<(), (Vec<String>, Failure)> {
        let known = match self.local_keys().is_empty() {
            true => Ok(()),
            false => self.know_local(),
        };
        known
            .and_then(|()| self.in_force(change, Ready::Nothing))
            .map_err(|failure| (change.keys(), failure))
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

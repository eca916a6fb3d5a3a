//! A fleet is made, joined and left, and changes of this node alone are merged into it or dropped.

use std::path::PathBuf;
use std::sync::Arc;

use super::link::{self, Condition, Link};
use crate::base::clock::now_unix_s;
use crate::control::problem::Failure;
use crate::daemon::Daemon;
use crate::daemon::force::{Edit, Ready, internal};
use crate::fleet::node;
use crate::shared::{MOST_KEYS, Refused, Revision, Shared, Snapshot, Write};
use crate::state::{Change, Item, Membership};

/// Octets of the values that one write of an `init` has, unless a single one has more.
const OCTETS: usize = 512 << 10;

/// What joining the fleet changes, and what came of it.
pub struct Joined {
    /// The changes.
    pub change: Change,
    /// What was there before, thing by thing.
    pub before: Vec<Item>,
    /// The copy of the state before.
    pub copy: Option<PathBuf>,
}

fn unavailable(error: impl std::fmt::Display) -> Failure {
    Failure::Unavailable(format!("nothing has changed: {error}"))
}

impl Daemon {
    /// The link, in a daemon whose configuration names a fleet.
    pub fn require_fleet(&self) -> Result<&Arc<Link>, Failure> {
        self.fleet.as_ref().ok_or_else(|| {
            let config = self.world.load().inputs.config.path.display().to_string();
            Failure::Invalid(format!(
                "{config}: it names no fleet: write fleet.name and fleet.etcd, and start the daemon again"
            ))
        })
    }

    /// `fleet init`: everything that this node has goes into the store, and then the guard key, which makes it a fleet.
    pub async fn fleet_init(self: &Arc<Self>) -> Result<(), Failure> {
        let link = self.require_fleet()?;
        let store = link.store();
        let snapshot = store.snapshot().await.map_err(unavailable)?;
        if let Some(entry) = guard(&snapshot) {
            return Err(Failure::Invalid(format!(
                "the fleet is there already, with id {}: `geodns fleet join` joins it",
                String::from_utf8_lossy(&entry.0).escape_debug()
            )));
        }
        let alone = self.changes.alone().await;
        let read = |daemon: &Self| daemon.state.items().map_err(internal);
        let items = self.change_alone(alone, read).await?;
        // What an init that did not end has left.
        let left = snapshot.entries.iter().map(|entry| entry.key.clone());
        for keys in left.collect::<Vec<_>>().chunks(MOST_KEYS) {
            let write = Write::new().guard(link::GUARD, None);
            let write = keys.iter().fold(write, |write, key| write.delete(key));
            commit(&**store, &write).await?;
        }
        let mut write = Write::new().guard(link::GUARD, None);
        let mut octets = 0;
        for item in &items {
            let value = item.value().unwrap_or_default();
            octets += value.len();
            if !write.puts.is_empty() && (octets > OCTETS || write.puts.len() == MOST_KEYS) {
                commit(&**store, &std::mem::take(&mut write)).await?;
                write = Write::new().guard(link::GUARD, None);
                octets = value.len();
            }
            write = write.put(item.key(), value);
        }
        if !write.puts.is_empty() {
            commit(&**store, &write).await?;
        }
        let id = link::random_id();
        let write = Write::new()
            .guard(link::GUARD, None)
            .put(link::GUARD, id.as_str());
        commit(&**store, &write).await?;
        tracing::info!(id, things = items.len(), "fleet: made, with id {id}");
        self.fleet_join(true).await.map(drop)
    }

    /// `fleet join`: what is in the store takes the place of what is here. Without `yes`, nothing changes.
    pub async fn fleet_join(self: &Arc<Self>, yes: bool) -> Result<Joined, Failure> {
        let link = Arc::clone(self.require_fleet()?);
        let snapshot = link.store().snapshot().await.map_err(unavailable)?;
        let Some((id, revision)) = guard(&snapshot) else {
            return Err(Failure::NotFound(
                "there is no such fleet yet: `geodns fleet init` on one node makes it".to_owned(),
            ));
        };
        let position = snapshot.position;
        let things = link::things(&snapshot);
        let join = move |daemon: &Self| {
            let state = &daemon.state;
            let change = state
                .difference(things.iter().map(|(item, _)| item))
                .map_err(internal)?;
            let known = state.items().map_err(internal)?;
            let known: std::collections::HashMap<_, _> =
                known.into_iter().map(|item| (item.key(), item)).collect();
            let before = change.0.iter().map(|item| {
                let known = known.get(&item.key()).cloned();
                known.unwrap_or_else(|| item.clone().gone())
            });
            let before = before.collect();
            if !yes {
                return Ok(Joined {
                    change,
                    before,
                    copy: None,
                });
            }
            let copy = state
                .copy(&format!("before-join-{}", now_unix_s()))
                .map_err(internal)?;
            let node = match state.membership().map_err(internal)? {
                Some(membership) => membership.node,
                None => link::random_id(),
            };
            let fleet = String::from_utf8_lossy(&id).into_owned();
            let membership = Membership {
                fleet,
                guard: revision,
                node,
            };
            let here = state
                .adopt(&things, position, Some(&membership))
                .map_err(internal)?;
            daemon.in_force(&here, Ready::Nothing)?;
            tracing::info!(
                fleet = membership.fleet,
                "fleet: joined {}",
                membership.fleet
            );
            Ok(Joined {
                change,
                before,
                copy: Some(copy),
            })
        };
        let joined = self.change(join).await?;
        if yes {
            let read = |daemon: &Self| daemon.state.membership().map_err(internal);
            let membership = self.change(read).await?;
            link.begin_anew();
            // The next edit is made in the fleet.
            link.until(|view| {
                view.condition == Condition::Following && view.membership == membership
            })
            .await;
        }
        Ok(joined)
    }

    /// `fleet leave`: this node is alone from here on, with what is in force.
    pub async fn fleet_leave(self: &Arc<Self>) -> Result<(), Failure> {
        let link = Arc::clone(self.require_fleet()?);
        let read = |daemon: &Self| daemon.state.membership().map_err(internal);
        let Some(membership) = self.change(read).await? else {
            return Err(Failure::Invalid("this node is in no fleet".to_owned()));
        };
        let leave = |daemon: &Self| daemon.state.leave().map_err(internal);
        self.change(leave).await?;
        // Without it, the entry of this node goes with its lease.
        let ours = link
            .nodes()
            .get(&link.node)
            .is_some_and(|node| node.id == membership.node);
        if ours {
            let write = Write::new().guard(link::GUARD, Some(membership.guard));
            let write = write.delete(node::key(&link.node));
            let _ = link.store().commit(&write).await;
        }
        link.begin_anew();
        link.until(|view| view.condition == Condition::NotJoined)
            .await;
        tracing::info!(fleet = membership.fleet, "fleet: left {}", membership.fleet);
        Ok(())
    }

    /// Prepares that the fleet gets what this node alone has changed.
    pub fn merge_local(&self) -> Result<Edit<usize>, Failure> {
        let local = self.state.local().map_err(internal)?;
        let count = local.len();
        let items = local.into_iter().map(|local| local.here).collect();
        Ok(Edit::new(
            "changes of this node alone",
            items,
            move |_, _| count,
        ))
    }

    /// Prepares that what this node alone has changed is as the fleet has it.
    pub fn drop_local(&self) -> Result<Edit<usize>, Failure> {
        let local = self.state.local().map_err(internal)?;
        let count = local.len();
        let items = local.into_iter().map(|local| local.beneath).collect();
        Ok(Edit::new(
            "changes of this node alone",
            items,
            move |_, _| count,
        ))
    }
}

/// The id of the fleet in a store, and the commit that put it.
fn guard(snapshot: &Snapshot) -> Option<(Vec<u8>, Revision)> {
    let entry = snapshot
        .entries
        .iter()
        .find(|entry| entry.key == link::GUARD)?;
    Some((entry.value.clone(), entry.changed))
}

/// Does a write, repeating it until its outcome is known.
async fn commit(store: &dyn Shared, write: &Write) -> Result<(), Failure> {
    let mut tries = 0;
    loop {
        tries += 1;
        match store.commit(write).await {
            Ok(_) => return Ok(()),
            Err(Refused::Unknown(_)) if tries < 5 => {}
            Err(Refused::Conflict(_)) => {
                let why = "another node has made the fleet meanwhile: `geodns fleet join` joins it";
                return Err(Failure::Invalid(why.to_owned()));
            }
            Err(refused) => {
                return Err(Failure::Unavailable(format!(
                    "the fleet is not made: {refused}; run `geodns fleet init` again"
                )));
            }
        }
    }
}

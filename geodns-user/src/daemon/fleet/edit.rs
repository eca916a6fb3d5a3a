//! An edit of a node in a fleet: prepared and guarded under `edits`, committed to the store, in force once the commit has
//! come back, then told.

use std::sync::Arc;
use std::time::Duration;

use super::link::{Failed, Link};
use crate::control::problem::Failure;
use crate::control::reach::Reach;
use crate::daemon::Daemon;
use crate::daemon::force::{Edit, Ready, Took, internal};
use crate::shared::{Revision, Write};
use crate::state::Change;

/// How often an edit is prepared again, since others came first.
const TRIES: usize = 10;
/// How long an edit waits for all nodes.
const ALL: Duration = Duration::from_secs(10);

impl Daemon {
    /// Makes an edit by a commit to the store of the fleet.
    pub async fn commit_edit<T: Send + 'static>(
        self: &Arc<Self>,
        prepare: impl Fn(&Self) -> Result<Edit<T>, Failure> + Send + Sync + 'static,
        reach: Reach,
    ) -> Result<T, Failure> {
        let alone = || Failure::Unavailable("this node is in no fleet".to_owned());
        let link = self.fleet.as_ref().ok_or_else(alone)?;
        let prepare = Arc::new(prepare);
        let mut tries = 0;
        let (edit, revision) = loop {
            tries += 1;
            if let Some(refusal) = link.refusal() {
                return Err(Failure::Unavailable(refusal));
            }
            let prepare = Arc::clone(&prepare);
            let prepared = self.change_for(move |daemon| {
                // Others put it in force as we do: by the commit alone.
                let edit = prepare(daemon)?.with(Ready::Nothing);
                let write = daemon.guarded(edit.change())?;
                Ok((edit, write))
            });
            let (edit, write) = prepared.await?;
            let Some(write) = write else {
                break (edit, None);
            };
            match link.commit(&write).await {
                Ok(revision) => break (edit, Some(revision)),
                Err(Failed::Conflict(revision)) if tries < TRIES => {
                    link.in_force(revision).await.map_err(|why| {
                        Failure::Unavailable(format!(
                            "nothing has changed: another change came first, with revision {revision} of the fleet's \
                             store, and {why}"
                        ))
                    })?;
                }
                Err(Failed::Conflict(_)) => {
                    return Err(Failure::Unavailable(format!(
                        "nothing has changed: other nodes have changed the same {TRIES} times meanwhile"
                    )));
                }
                Err(Failed::Refused(why)) => return Err(Failure::Unavailable(why)),
                Err(Failed::Invalid(why)) => return Err(Failure::Invalid(why)),
            }
        };
        if let Some(revision) = revision {
            comes_in_force(link, revision).await?;
            if reach == Reach::All {
                everywhere(link, revision).await?;
            }
        }
        let daemon = Arc::clone(self);
        let told = tokio::task::spawn_blocking(move || edit.tell(&daemon, Took::default()));
        told.await.map_err(internal)
    }

    /// The write of a change, which demands that nobody has changed the same meanwhile; `None`: it changes nothing.
    fn guarded(&self, change: &Change) -> Result<Option<Write>, Failure> {
        if change.0.is_empty() {
            return Ok(None);
        }
        let keys = change.keys();
        let known = self.state.revisions(&keys).map_err(internal)?;
        let mut write = self.write_of_member()?;
        for (item, (key, revision)) in change.0.iter().zip(keys.into_iter().zip(known)) {
            write = write.guard(key.clone(), revision);
            write = match item.value() {
                Some(value) => write.put(key, value),
                None => write.delete(key),
            };
        }
        Ok(Some(write))
    }

    /// A write that demands that the store is that of our fleet.
    pub fn write_of_member(&self) -> Result<Write, Failure> {
        let membership = self.state.membership().map_err(internal)?;
        let membership = membership.ok_or_else(|| {
            Failure::Unavailable("nothing has changed: this node is in no fleet".to_owned())
        })?;
        Ok(Write::new().guard(super::link::GUARD, Some(membership.guard)))
    }
}

/// Waits until a commit of this node is in force here.
pub async fn comes_in_force(link: &Link, revision: Revision) -> Result<(), Failure> {
    link.in_force(revision).await.map_err(|why| {
        Failure::Unavailable(format!(
            "the change is made, with revision {revision} of the fleet's store, and {why}"
        ))
    })
}

/// Waits until all nodes that live have a commit in force.
async fn everywhere(link: &Link, revision: Revision) -> Result<(), Failure> {
    let mut news = link.news();
    let behind = || {
        let nodes = link.nodes().into_iter();
        let behind = nodes.filter(|(_, node)| node.revision < revision);
        behind.map(|(name, _)| name).collect::<Vec<_>>()
    };
    let all = news.wait_for(|_| behind().is_empty());
    match tokio::time::timeout(ALL, all).await {
        Ok(_) => Ok(()),
        Err(_) => Err(Failure::Unavailable(format!(
            "the change is made and in force here, but not yet on {}",
            behind().join(", ")
        ))),
    }
}

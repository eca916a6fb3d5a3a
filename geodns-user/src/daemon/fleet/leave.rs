//! Leave to stop being announced: a fleet keeps some of its nodes announced, whatever happens (`announce.keep`).
//!
//! A node that wants to leave counts the others that are up. If they are enough, it says that it leaves, under
//! `announce/leaves/NAME`, by a commit that puts `announce/turn` too. So of two that want to leave at the same time, one counts
//! again. The entry is deleted when the node is announced again.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use super::link::{Failed, LEAVING, Link};
use crate::announce::course::Permission;
use crate::base::lock::lock;
use crate::config::Keep;
use crate::daemon::Daemon;
use crate::fleet::node;
use crate::shared::Put;
use crate::supervise::Never;

/// The key that each node puts which leaves.
const TURN: &str = "announce/turn";
/// The registry must not be older than this.
const FRESH: Duration = Duration::from_secs(5);
/// How often a node that may not leave counts again.
const AGAIN: Duration = Duration::from_secs(1);

impl Daemon {
    /// Says whether this node wants to stop being announced.
    pub fn ask_to_leave(&self, wants: bool) {
        let Some(link) = &self.fleet else { return };
        let mut wish = lock(&link.wish);
        if wish.is_there != wants {
            wish.is_there = wants;
            wish.answer = Permission::Pending;
            link.wished.notify_one();
        }
    }

    /// The answer of the fleet to the wish of this node.
    pub fn permission(&self) -> Permission {
        match &self.fleet {
            Some(link) if link.stale_for().is_none_or(|stale| stale < FRESH) => {
                let wish = lock(&link.wish);
                match wish.is_there {
                    true => wish.answer.clone(),
                    false => Permission::Pending,
                }
            }
            _ => Permission::Nobody,
        }
    }

    /// Asks the fleet for leave whenever this node wants it, for ever.
    pub async fn follow_wishes(self: Arc<Self>) -> Never {
        let Some(link) = self.fleet.clone() else {
            return std::future::pending().await;
        };
        loop {
            let is_there = lock(&link.wish).is_there;
            let has_left = link.changed(&leaving(&link)).is_some();
            let answer = match (is_there, has_left) {
                (true, true) => Permission::Granted,
                (true, false) => self.ask_for_leave(&link).await,
                (false, true) => {
                    let _ = self.say_leaving(&link, false).await;
                    Permission::Pending
                }
                (false, false) => Permission::Pending,
            };
            let is_settled = match is_there {
                true => answer == Permission::Granted,
                false => !has_left,
            };
            {
                let mut wish = lock(&link.wish);
                // Another wish has another answer.
                if wish.is_there == is_there {
                    wish.answer = answer;
                }
            }
            match is_settled {
                true => link.wished.notified().await,
                false => drop(timeout(AGAIN, link.wished.notified()).await),
            }
        }
    }

    async fn ask_for_leave(&self, link: &Link) -> Permission {
        let nodes = link.nodes();
        let leaving = link.below(LEAVING);
        let gone = |name: &str| leaving.iter().any(|(other, _)| other == name);
        let announced = nodes
            .values()
            .filter(|node| node.announce.is_some())
            .count();
        let up = nodes.iter().filter(|(name, node)| {
            **name != link.node && node.announce.as_deref() == Some("up") && !gone(name)
        });
        let keep = self.announce_config().keep;
        if let Err(why) = may_leave(announced, up.count(), keep) {
            return Permission::Refused(why);
        }
        match self.say_leaving(link, true).await {
            Ok(()) => Permission::Granted,
            Err(Failed::Conflict(revision)) => {
                let _ = link.in_force(revision).await;
                Permission::Pending
            }
            // A store that stays out of reach is noticed elsewhere.
            Err(Failed::Refused(_) | Failed::Invalid(_)) => Permission::Pending,
        }
    }

    /// Says that this node leaves, or that it is there again.
    async fn say_leaving(&self, link: &Link, leaves: bool) -> Result<(), Failed> {
        let write = tokio::task::block_in_place(|| self.write_of_member());
        let write = write.map_err(|failure| Failed::Refused(failure.to_string()))?;
        let write = match leaves {
            true => {
                let write = write.guard(TURN, link.changed(TURN));
                let write = write.put(TURN, link.node.as_str());
                write.with(Put::new(leaving(link), "leaves").leased(node::LEASE))
            }
            false => write.delete(leaving(link)),
        };
        let revision = link.commit(&write).await?;
        link.in_force(revision).await.map_err(Failed::Refused)
    }
}

fn leaving(link: &Link) -> String {
    format!("{LEAVING}{}", link.node)
}

/// Whether a node may leave, of which some others are up, and of all that are announced.
fn may_leave(announced: usize, up: usize, keep: Keep) -> Result<(), String> {
    let least = match keep {
        Keep::Nodes(number) => number as usize,
        Keep::Percent(percent) => (announced * percent as usize).div_ceil(100),
    };
    if up >= least {
        return Ok(());
    }
    Err(format!(
        "of the other nodes {up} are up, and announce.keep demands {least}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_leaves_only_if_enough_others_are_up() {
        assert!(may_leave(3, 1, Keep::Nodes(1)).is_ok());
        let why = may_leave(3, 0, Keep::Nodes(1)).unwrap_err();
        assert_eq!(
            why,
            "of the other nodes 0 are up, and announce.keep demands 1"
        );
        assert!(may_leave(3, 2, Keep::Percent(50)).is_ok());
        assert!(may_leave(3, 1, Keep::Percent(50)).is_err());
        assert!(may_leave(3, 0, Keep::Nodes(0)).is_ok());
    }
}

//! `geodns fleet`, and the line of `geodns status`.

use async_trait::async_trait;

use super::link::{Condition, Link};
use crate::control::fleet::{
    Fleet, FleetChange, FleetJoin, FleetJoined, FleetNode, FleetState, Service,
};
use crate::control::problem::Failure;
use crate::control::reach::Reach;
use crate::control::status::FleetLine;
use crate::daemon::Daemon;
use crate::daemon::control::Control;
use crate::daemon::force::internal;
use crate::fleet::node;
use crate::state::Item;

/// Changes that are shown, at the most.
const SHOWN: usize = 1000;

/// Time since the node had all commits, milliseconds; `None`: it has them.
fn stale_ms(link: &Link) -> Option<u64> {
    let stale = link.stale_for()?.as_millis();
    Some(u64::try_from(stale).unwrap_or(u64::MAX))
}

/// A change, as the API shows it.
fn shown(fleet: &Item, here: &Item) -> FleetChange {
    let value = |item: &Item| {
        let value = item.value()?;
        Some(match item {
            Item::Import { import, .. } => {
                format!(
                    "a list of {} octets",
                    import.as_ref().map_or(0, |import| import.layer.len())
                )
            }
            // Nobody's business.
            Item::Cookies { .. } => "secrets".to_owned(),
            _ => String::from_utf8_lossy(&value).into_owned(),
        })
    };
    FleetChange {
        key: fleet.key(),
        fleet: value(fleet),
        here: value(here),
    }
}

impl Link {
    /// The state of the link, and why it is no better one.
    pub fn said(&self) -> (FleetState, Option<String>) {
        let view = self.view();
        match view.condition {
            Condition::Following => {
                let refused = view.refused.map(|trouble| trouble.to_string());
                (FleetState::Following, refused)
            }
            Condition::Connecting => (FleetState::Connecting, None),
            Condition::NotJoined => (FleetState::NotJoined, None),
            Condition::Broken(trouble) => (FleetState::Disconnected, Some(trouble.to_string())),
            Condition::Stopped(why) => (FleetState::Stopped, Some(why)),
        }
    }

    /// The first commit that is not in force here, and why; of several, how many.
    fn failure(&self) -> Option<String> {
        let failed = self.view().failed;
        let (revision, why) = failed.values().min()?;
        let more = match failed.len() {
            1 => String::new(),
            all => format!(" (and {} more things)", all - 1),
        };
        Some(format!(
            "revision {revision}: {why}{more}; it is tried again"
        ))
    }

    fn nodes_shown(&self) -> Vec<FleetNode> {
        let nodes = self.nodes();
        let config = node::common(nodes.values().map(|node| node.config.as_str()));
        let plan = node::common(nodes.values().map(|node| node.plan.as_str()));
        let nodes = nodes.iter().map(|(name, node)| FleetNode {
            name: name.clone(),
            is_this: *name == self.node,
            site: node.site.clone(),
            version: node.version.clone(),
            revision: node.revision.0,
            config: node.config.clone(),
            config_is_odd: config.is_some_and(|common| common != node.config),
            plan: node.plan.clone(),
            plan_is_odd: plan.is_some_and(|common| common != node.plan),
            local: node.local,
            announce: node.announce.clone(),
            queries_per_second: node.queries_per_second,
            at_unix_ms: node.at_unix_ms,
            clock_ahead_ms: self.ahead_ms(name),
        });
        nodes.collect()
    }
}

impl Daemon {
    /// The fleet in short, for `geodns status`.
    pub fn fleet_line(&self) -> Option<FleetLine> {
        let link = self.fleet.as_ref()?;
        let (state, why) = link.said();
        let config = &self.world.load().inputs.config;
        Some(FleetLine {
            name: config.fleet.as_ref()?.name.clone(),
            state,
            why,
            stale_ms: stale_ms(link),
            nodes: link.nodes().len() as u64,
            failed: link.failure(),
        })
    }

    fn fleet_shown(&self) -> Result<Fleet, Failure> {
        let link = self.require_fleet()?;
        let revision = link.view().in_force.revision.0;
        let (state, why) = link.said();
        let local = self.state.local().map_err(internal)?;
        let config = &self.world.load().inputs.config;
        Ok(Fleet {
            name: config
                .fleet
                .as_ref()
                .map_or_else(String::new, |fleet| fleet.name.clone()),
            node: link.node.clone(),
            state,
            why,
            stale_ms: stale_ms(link),
            revision,
            failed: link.failure(),
            local: local
                .iter()
                .map(|local| shown(&local.beneath, &local.here))
                .collect(),
            nodes: link.nodes_shown(),
        })
    }
}

#[async_trait]
impl Service for Control {
    async fn fleet(&self) -> Result<Fleet, Failure> {
        self.read_state(Daemon::fleet_shown).await
    }

    async fn fleet_init(&self) -> Result<Fleet, Failure> {
        self.0.fleet_init().await?;
        self.fleet().await
    }

    async fn fleet_join(&self, join: FleetJoin) -> Result<FleetJoined, Failure> {
        let joined = self.0.fleet_join(join.yes).await?;
        let changes = joined.change.0.iter().zip(&joined.before);
        Ok(FleetJoined {
            joined: join.yes,
            changes: joined.change.0.len() as u64,
            first: changes
                .take(SHOWN)
                .map(|(fleet, here)| shown(fleet, here))
                .collect(),
            copy: joined.copy.map(|path| path.display().to_string()),
        })
    }

    async fn fleet_leave(&self) -> Result<Fleet, Failure> {
        self.0.fleet_leave().await?;
        self.fleet().await
    }

    async fn fleet_merge(&self) -> Result<Fleet, Failure> {
        self.0.require_fleet()?;
        self.edit("fleet merge", Daemon::merge_local, |_, _| ())
            .await?;
        self.fleet().await
    }

    async fn fleet_drop(&self) -> Result<Fleet, Failure> {
        self.0.require_fleet()?;
        let dropped = self.edit("fleet drop", Daemon::drop_local, |_, _| ());
        Reach::Local.scope(dropped).await?;
        self.fleet().await
    }
}

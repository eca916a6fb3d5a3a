//! How old is what this node has, and `fleet.max_stale`, which lets it answer only while that is young enough. The age
//! counts over restarts.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;

use super::link::{Condition, Link};
use crate::base::clock::now_unix_ms;
use crate::daemon::Daemon;
use crate::event::Kind;
use crate::state::{Error, State};
use crate::supervise::Never;

/// Name of the value in the state: the last moment that the node had all commits, milliseconds since 1970.
const NAME: &str = "fresh";
/// How often it is looked at.
const LOOK: Duration = Duration::from_secs(1);
/// The moment is kept after this part of `fleet.max_stale`, within these bounds.
const PART: u32 = 10;
const BOUNDS: [Duration; 2] = [Duration::from_secs(10), Duration::from_secs(600)];

/// How old is what the node has, as it was kept; by the clock of the node.
pub fn kept(state: &State) -> Result<Duration, Error> {
    let fresh: Option<u64> = state.own(NAME)?;
    let age = fresh.map_or(0, |fresh| now_unix_ms().saturating_sub(fresh));
    Ok(Duration::from_millis(age))
}

/// The last moment that a node had all commits, milliseconds since 1970.
fn fresh_unix_ms(link: &Link) -> u64 {
    let stale = link.stale_for().unwrap_or_default().as_millis();
    now_unix_ms().saturating_sub(u64::try_from(stale).unwrap_or(u64::MAX))
}

impl Daemon {
    fn max_stale(&self) -> Option<Duration> {
        let world = self.world.load();
        world.inputs.config.fleet.as_ref()?.max_stale
    }

    /// Answers nobody while what this node has is older than `fleet.max_stale` allows. Gives whether it is. Without the
    /// heartbeat the program goes quiet, too.
    pub fn heed_staleness(&self) -> bool {
        let Some(link) = &self.fleet else {
            return false;
        };
        let most = self.max_stale();
        let is_silent = most.is_some_and(|most| link.stale_for().is_some_and(|stale| stale > most));
        if self.server.set_silent(is_silent) != is_silent {
            match is_silent {
                true => tracing::error!(
                    event = Kind::Fleet.name(),
                    "fleet: this node has had no store for longer than fleet.max_stale: it answers nobody until it has"
                ),
                false => {
                    tracing::info!(event = Kind::Fleet.name(), "fleet: this node answers again")
                }
            }
        }
        is_silent
    }

    /// Keeps the last moment that this node had all commits, now and then, for ever; where `fleet.max_stale` is set.
    pub async fn keep_fresh(self: Arc<Self>) -> Never {
        let Some(link) = self.fleet.clone() else {
            return std::future::pending().await;
        };
        let mut kept = None;
        loop {
            sleep(LOOK).await;
            let Some(most) = self.max_stale() else {
                continue;
            };
            let fresh = fresh_unix_ms(&link);
            let newer = kept.map(|kept| Duration::from_millis(fresh.saturating_sub(kept)));
            let is_due = match link.view().condition {
                Condition::Following => {
                    newer.is_none_or(|newer| newer > (most / PART).clamp(BOUNDS[0], BOUNDS[1]))
                }
                // It has just been lost: the moment stands still from here on.
                _ => newer.is_some_and(|newer| newer > LOOK),
            };
            if !is_due {
                continue;
            }
            let keep = move |daemon: &Self| daemon.state.keep_own(NAME, &fresh);
            let daemon = Arc::clone(&self);
            match tokio::task::spawn_blocking(move || keep(&daemon)).await {
                Ok(Ok(())) => kept = Some(fresh),
                Ok(Err(error)) => tracing::debug!("fleet: the moment is not kept: {error}"),
                Err(error) => tracing::debug!("fleet: the moment is not kept: {error}"),
            }
        }
    }
}

//! Cookies are made with secrets of the configuration, or with this server's own, which are rolled once a day. The
//! secret before stays good for another day, which is longer than any cookie.
//!
//! The nodes of a fleet have the same. One node announces the next secret, an hour before; when all nodes that live know
//! it, one node rolls. So each node takes the cookies of all others at any moment.

use std::sync::Arc;
use std::time::Duration;

use super::Daemon;
use super::force::{Edit, internal};
use crate::base::clock::now_unix_ms;
use crate::config::{Config, Cookies, Secrets};
use crate::control::problem::Failure;
use crate::serve::Identity;
use crate::state::{self, Change, CookieSecrets, Item, State};
use crate::supervise::Never;

/// How long a secret makes cookies.
const ROLLED_AFTER: Duration = Duration::from_secs(24 * 3600);
/// How long before the nodes of a fleet know the next secret.
const ANNOUNCED: Duration = Duration::from_secs(3600);
/// How often the age of the secret is looked at.
const LOOK_AGAIN: Duration = Duration::from_secs(600);

/// The secrets to use from here on; `None`: there are no cookies. Our own are rolled if it is time, unless they are a
/// fleet's.
pub fn secrets(config: &Config, state: &State) -> Result<Option<Secrets>, state::Error> {
    match config.cookies {
        Cookies::Off => Ok(None),
        Cookies::Shared(secrets) => Ok(Some(secrets)),
        Cookies::Generated => {
            let known = state.cookie_secrets()?;
            let stays = config.fleet.is_some() && known.is_some();
            let due = due(known).filter(|_| !stays);
            if let Some(secrets) = due {
                let items = vec![Item::Cookies { secrets: due }];
                state.keep(&Change(items))?;
                return Ok(Some(used(&secrets)));
            }
            Ok(known.as_ref().map(used))
        }
    }
}

/// Whether secrets are so old at a moment.
fn is_older(known: CookieSecrets, than: Duration, now: u64) -> bool {
    // Also after the clock was set back: a secret of the future would never be due.
    let age = now.checked_sub(known.since_unix_ms);
    age.is_none_or(|age| u128::from(age) >= than.as_millis())
}

/// The secrets that are due in the place of these; `None`: these go on.
fn due(known: Option<CookieSecrets>) -> Option<CookieSecrets> {
    let now = now_unix_ms();
    let is_due = known.is_none_or(|known| is_older(known, ROLLED_AFTER, now));
    is_due.then(|| rolled(known, now))
}

fn rolled(known: Option<CookieSecrets>, now: u64) -> CookieSecrets {
    let next = known.and_then(|known| known.next);
    CookieSecrets {
        current: next.unwrap_or_else(rand::random),
        since_unix_ms: now,
        previous: known.map(|known| known.current),
        next: None,
    }
}

/// The secrets that are due in a fleet in the place of these; `None`: these go on. `all_know`: all nodes that live know
/// these.
fn due_in_fleet(known: Option<CookieSecrets>, all_know: bool, now: u64) -> Option<CookieSecrets> {
    let Some(of) = known else {
        return Some(rolled(None, now));
    };
    if of.next.is_none() {
        let is_near = is_older(of, ROLLED_AFTER - ANNOUNCED, now);
        return is_near.then(|| CookieSecrets {
            next: Some(rand::random()),
            ..of
        });
    }
    (all_know && is_older(of, ROLLED_AFTER, now)).then(|| rolled(known, now))
}

fn used(secrets: &CookieSecrets) -> Secrets {
    // Cookies of the one before are longer gone than the next one is known.
    Secrets::new(secrets.current, secrets.next.or(secrets.previous))
}

impl Daemon {
    /// Uses these secrets in both paths.
    pub fn set_cookies(&self, config: &Config, secrets: Option<Secrets>) {
        if let Some(kernel) = self.lock_kernel() {
            kernel.set_cookies(secrets.as_ref());
        }
        self.server.set_identity(identity(config, secrets));
    }

    /// Puts our own secrets in force, where the configuration has none.
    pub fn put_cookies(&self, secrets: Option<&CookieSecrets>) {
        let world = self.world.load();
        let config = &world.inputs.config;
        if matches!(config.cookies, Cookies::Generated) {
            self.set_cookies(config, secrets.map(used));
        }
    }

    /// Prepares a roll of our own secrets; it changes nothing if it is not time.
    fn roll(&self) -> Result<Edit<()>, Failure> {
        let mut items = Vec::new();
        if matches!(self.world.load().inputs.config.cookies, Cookies::Generated) {
            let known = self.state.cookie_secrets().map_err(internal)?;
            let due = match &self.fleet {
                None => due(known),
                Some(link) => {
                    let item = Item::Cookies { secrets: known };
                    let changed = self.state.revisions(&[item.key()]).map_err(internal)?;
                    let nodes = link.nodes();
                    let mut nodes = nodes.values();
                    let all_know = nodes.all(|node| Some(node.revision) >= changed[0]);
                    due_in_fleet(known, all_know, now_unix_ms())
                }
            };
            if due.is_some() {
                items.push(Item::Cookies { secrets: due });
            }
        }
        Ok(Edit::new("secrets of cookies", items, |_, _| ()))
    }

    /// Rolls our own secrets, as long as the daemon lives.
    pub async fn roll_cookies(self: Arc<Self>) -> Never {
        loop {
            tokio::time::sleep(LOOK_AGAIN).await;
            if let Err(error) = self.edit(Self::roll, |_| ()).await {
                tracing::warn!("the secret of cookies is not rolled: {error}");
            }
        }
    }
}

/// The identity that the slow path tells, with the secrets of its cookies.
pub fn identity(config: &Config, cookies: Option<Secrets>) -> Identity {
    Identity {
        id: config.server.id(),
        nsid: config.server.nsid(),
        version: config.server.version(),
        cookies,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn in_a_fleet_a_secret_is_known_before_it_is_used() {
        let hour = 3_600_000;
        let first = due_in_fleet(None, true, hour).unwrap();
        assert_eq!(due_in_fleet(Some(first), true, 23 * hour), None);
        let announced = due_in_fleet(Some(first), true, 24 * hour).unwrap();
        assert_eq!(
            (announced.current, announced.since_unix_ms),
            (first.current, hour)
        );
        let next = announced.next.unwrap();
        // Not before it is time, nor before all know.
        assert_eq!(due_in_fleet(Some(announced), true, 24 * hour), None);
        assert_eq!(due_in_fleet(Some(announced), false, 26 * hour), None);
        let rolled = due_in_fleet(Some(announced), true, 25 * hour).unwrap();
        assert_eq!(
            (rolled.current, rolled.previous, rolled.next),
            (next, Some(first.current), None)
        );
        // Each takes the cookies of the other.
        let [before, after] = [used(&announced), used(&rolled)];
        assert_eq!([before.0[0], before.0[1]], [after.0[1], after.0[0]]);
    }
}

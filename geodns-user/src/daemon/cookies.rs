//! Cookies are made with secrets of the configuration, or with this server's own, which are rolled once a day. The
//! secret before stays good for another day, which is longer than any cookie.

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
/// How often the age of the secret is looked at.
const LOOK_AGAIN: Duration = Duration::from_secs(600);

/// The secrets to use from here on; `None`: there are no cookies. Our own are rolled if it is time.
pub fn secrets(config: &Config, state: &State) -> Result<Option<Secrets>, state::Error> {
    match config.cookies {
        Cookies::Off => Ok(None),
        Cookies::Shared(secrets) => Ok(Some(secrets)),
        Cookies::Generated => {
            let known = state.cookie_secrets()?;
            let due = due(known);
            if let Some(secrets) = due {
                let items = vec![Item::Cookies { secrets: due }];
                state.keep(&Change(items))?;
                return Ok(Some(used(&secrets)));
            }
            Ok(known.as_ref().map(used))
        }
    }
}

/// The secrets that are due in the place of these; `None`: these go on.
fn due(known: Option<CookieSecrets>) -> Option<CookieSecrets> {
    let now = now_unix_ms();
    let is_due = |known: CookieSecrets| {
        // Also after the clock was set back: a secret of the future would never be due.
        let age = now.checked_sub(known.since_unix_ms);
        age.is_none_or(|age| u128::from(age) >= ROLLED_AFTER.as_millis())
    };
    known.is_none_or(is_due).then(|| CookieSecrets {
        current: rand::random(),
        since_unix_ms: now,
        previous: known.map(|known| known.current),
    })
}

fn used(secrets: &CookieSecrets) -> Secrets {
    Secrets::new(secrets.current, secrets.previous)
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
        if matches!(self.world.load().inputs.config.cookies, Cookies::Generated)
            && let secrets @ Some(_) = due(self.state.cookie_secrets().map_err(internal)?)
        {
            items.push(Item::Cookies { secrets });
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

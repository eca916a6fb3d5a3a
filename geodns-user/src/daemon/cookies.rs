//! Cookies are made with secrets of the configuration, or with this server's own, which are rolled once a day. The
//! secret before stays good for another day, which is longer than any cookie.

use std::sync::Arc;
use std::time::Duration;

use super::Daemon;
use crate::base::clock::now_unix_ms;
use crate::config::{Config, Cookies, Secrets};
use crate::serve::Identity;
use crate::state::{self, CookieSecrets, State};
use crate::supervise::Never;

/// How long a secret makes cookies.
const ROLLED_AFTER: Duration = Duration::from_secs(24 * 3600);
/// How often the age of the secret is looked at.
const LOOK_AGAIN: Duration = Duration::from_secs(600);

/// The secrets to use from here on; `None`: there are no cookies.
pub fn secrets(config: &Config, state: &State) -> Result<Option<Secrets>, state::Error> {
    match config.cookies {
        Cookies::Off => Ok(None),
        Cookies::Shared(secrets) => Ok(Some(secrets)),
        Cookies::Generated => generated(state).map(Some),
    }
}

/// Our own secrets, rolled if it is time.
fn generated(state: &State) -> Result<Secrets, state::Error> {
    let now = now_unix_ms();
    let known = state.cookie_secrets()?;
    let is_due = |known: &CookieSecrets| {
        // Also after the clock was set back: a secret of the future would never be due.
        let age = now.checked_sub(known.since_unix_ms);
        age.is_none_or(|age| u128::from(age) >= ROLLED_AFTER.as_millis())
    };
    let secrets = match known {
        Some(known) if !is_due(&known) => known,
        known => {
            let next = CookieSecrets {
                current: rand::random(),
                since_unix_ms: now,
                previous: known.map(|known| known.current),
            };
            state.save_cookie_secrets(&next)?;
            next
        }
    };
    Ok(Secrets::new(secrets.current, secrets.previous))
}

impl Daemon {
    /// Uses these secrets in both paths.
    pub fn set_cookies(&self, config: &Config, secrets: Option<Secrets>) {
        if let Some(kernel) = self.lock_kernel() {
            kernel.set_cookies(secrets.as_ref());
        }
        self.server.set_identity(identity(config, secrets));
    }

    /// Rolls our own secrets, as long as the daemon lives.
    pub async fn roll_cookies(self: Arc<Self>) -> Never {
        loop {
            tokio::time::sleep(LOOK_AGAIN).await;
            // No reload is to put other secrets in force meanwhile.
            let _alone = self.changes.alone().await;
            let world = self.world.load_full();
            let config = Arc::clone(&world.inputs.config);
            let rolled = tokio::task::block_in_place(|| secrets(&config, &self.state));
            match rolled {
                Ok(secrets) => self.set_cookies(&config, secrets),
                Err(error) => tracing::warn!("the secret of cookies is not rolled: {error}"),
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

//! What systemd is told (sd_notify(3)). Without systemd, nothing happens.

use std::time::Duration;

use sd_notify::NotifyState;

fn say(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!("cannot tell systemd: {error}");
    }
}

/// Up, or up again after a reload.
pub fn ready(status: &str) {
    say(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// The state of things has changed.
pub fn status(status: &str) {
    say(&[NotifyState::Status(status)]);
}

/// Reloading; [`ready`] must follow.
pub fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => say(&[NotifyState::Reloading, now]),
        Err(error) => tracing::warn!("cannot tell systemd: {error}"),
    }
}

/// Going down.
pub fn stopping() {
    say(&[NotifyState::Stopping]);
}

/// Alive.
pub fn alive() {
    say(&[NotifyState::Watchdog]);
}

/// How often to say [`alive`], if at all: twice as often as systemd wants to hear it.
pub fn alive_every() -> Option<Duration> {
    sd_notify::watchdog_enabled().map(|limit| limit / 2)
}

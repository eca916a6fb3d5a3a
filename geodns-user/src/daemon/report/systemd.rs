//! Messages to systemd (sd_notify(3)). Without systemd, nothing happens.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use sd_notify::NotifyState;

use crate::supervise::Never;

/// How often the heartbeat beats, at least.
pub const PULSE: Duration = Duration::from_secs(1);
/// Time that a stop asks for while it drains: enough for the steps that follow.
const MORE: Duration = Duration::from_secs(30);

fn say(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!("cannot tell systemd: {error}");
    }
}

/// Says that the daemon is up, or up again after a reload.
pub fn ready(status: &str) {
    say(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// Changes the status that systemd shows.
pub fn status(status: &str) {
    say(&[NotifyState::Status(status)]);
}

/// Says that a reload begins; [`ready`] must follow.
pub fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => say(&[NotifyState::Reloading, now]),
        Err(error) => tracing::warn!("cannot tell systemd: {error}"),
    }
}

/// Says that the daemon stops.
pub fn stopping() {
    say(&[NotifyState::Stopping]);
}

/// Asks for more time to stop, again and again.
pub async fn extend_while_stopping() -> Never {
    loop {
        say(&[NotifyState::ExtendTimeoutUsec(MORE.as_micros() as u32)]);
        tokio::time::sleep(MORE / 3).await;
    }
}

/// How long systemd waits to hear that we are alive, if it does.
pub fn alive_limit() -> Option<Duration> {
    sd_notify::watchdog_enabled()
}

/// The last beat of the heartbeat.
pub struct Pulse {
    started: Instant,
    /// Milliseconds from then to the last beat.
    last: AtomicU64,
}

impl Default for Pulse {
    fn default() -> Self {
        Self {
            started: Instant::now(),
            last: AtomicU64::new(0),
        }
    }
}

impl Pulse {
    /// Notes a beat.
    pub fn beat(&self) {
        self.last.store(self.now(), Ordering::Relaxed);
    }

    fn now(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// How long ago the last beat was.
    fn age(&self) -> Duration {
        Duration::from_millis(self.now().saturating_sub(self.last.load(Ordering::Relaxed)))
    }

    /// Says that we are alive, if the heartbeat beats. Without it the program soon passes everything, and systemd shall
    /// start us anew.
    pub fn tell(&self, limit: Option<Duration>) {
        let age = self.age();
        if age <= (limit.unwrap_or_default() / 2).max(3 * PULSE) {
            say(&[NotifyState::Watchdog]);
        } else {
            tracing::error!(
                "the heartbeat has stopped {} s ago: systemd is not told that we are alive",
                age.as_secs()
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pulse_grows_old_until_it_beats() {
        let pulse = Pulse {
            started: Instant::now() - Duration::from_secs(100),
            last: AtomicU64::new(0),
        };
        assert!(pulse.age() >= Duration::from_secs(100));
        pulse.beat();
        assert!(pulse.age() < Duration::from_secs(50));
    }
}

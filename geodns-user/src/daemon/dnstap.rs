//! `[dnstap]`: the tap that both paths offer exchanges to, as the configuration has it.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::Daemon;
use crate::base::lock::lock;
use crate::config::{self, Config};
use crate::control::status::DnstapStats;
use crate::dnstap::{Counts, Tap};

/// The time that the last exchanges have to be written.
const LAST: Duration = Duration::from_secs(2);

/// The tap, if one is open, and its counters.
#[derive(Debug, Default)]
pub struct Tapping {
    open: Mutex<Option<Open>>,
    counts: Arc<Counts>,
}

#[derive(Debug)]
struct Open {
    /// Its configuration, and the name of this server.
    of: (config::Dnstap, String),
    writer: JoinHandle<()>,
}

impl Daemon {
    /// Opens the tap that a configuration asks for, in place of the one before. Must run inside the tokio runtime.
    pub fn set_dnstap(self: &Arc<Self>, config: &Config) {
        let identity = config.server.id().unwrap_or_default();
        let wanted = config.dnstap.clone().map(|dnstap| (dnstap, identity));
        let is_same = {
            let open = lock(&self.tapping.open);
            open.as_ref().map(|open| &open.of) == wanted.as_ref()
        };
        if is_same {
            return;
        }
        self.offer_to(None);
        let open = wanted.map(|of| {
            let (tap, writer) = Tap::open(&of.0, &of.1, Arc::clone(&self.tapping.counts));
            self.offer_to(Some(Arc::new(tap)));
            Open { of, writer }
        });
        *lock(&self.tapping.open) = open;
    }

    /// Has both paths offer exchanges to this tap; `None`: to nobody.
    fn offer_to(self: &Arc<Self>, tap: Option<Arc<Tap>>) {
        self.server.set_tap(tap.clone());
        if let Err(failure) = self.tap_program(tap) {
            tracing::warn!("dnstap has nothing of what the kernel answers: {failure}");
        }
    }

    /// Its counters; `None`: it is off.
    pub fn dnstap_stats(&self) -> Option<DnstapStats> {
        let counts = &self.tapping.counts;
        lock(&self.tapping.open).as_ref().map(|_| DnstapStats {
            written: counts.written(),
            lost: counts.lost(),
        })
    }

    /// Ends it, when the last exchanges are written.
    pub async fn close_dnstap(self: &Arc<Self>) {
        let Some(open) = lock(&self.tapping.open).take() else {
            return;
        };
        let daemon = Arc::clone(self);
        // It waits for the kernel's clock.
        let _ = tokio::task::spawn_blocking(move || daemon.offer_to(None)).await;
        let _ = timeout(LAST, open.writer).await;
    }
}

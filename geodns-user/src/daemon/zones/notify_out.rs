//! NOTIFY to secondaries: a zone has changed (RFC 1996).

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::task::AbortHandle;
use tracing::{debug, info, warn};

use crate::base::lock::lock;
use crate::base::name::Name;
use crate::config::Peer;
use crate::daemon::Daemon;
use crate::transfer::client;
use crate::zone::Zone;

/// Pauses before each attempt: a server that is starting hears of the change soon.
const PAUSES: [Duration; 6] = [
    Duration::ZERO,
    Duration::from_secs(1),
    Duration::from_secs(4),
    Duration::from_secs(15),
    Duration::from_secs(60),
    Duration::from_secs(240),
];
/// Servers that are being told at the same time, at the most.
const AT_ONCE: usize = 64;

/// NOTIFYs under way, by zone and by the server that is told.
#[derive(Debug)]
pub struct Notifications {
    under_way: Mutex<HashMap<(Name, SocketAddr), AbortHandle>>,
    turns: Arc<Semaphore>,
}

impl Default for Notifications {
    fn default() -> Self {
        Self {
            under_way: Mutex::default(),
            turns: Arc::new(Semaphore::new(AT_ONCE)),
        }
    }
}

impl Daemon {
    /// Tells a zone's secondaries that it has changed. A server that is still being told of an earlier change is told
    /// of this one instead. Needs a tokio runtime.
    pub fn notify_secondaries(&self, apex: &Name) {
        let world = self.world.load_full();
        let config = &world.inputs.config;
        let Some(number) = world.zone_number(apex) else {
            return;
        };
        let all = world.zones.load();
        let zone = match all.offer(number) {
            Some(offer) => Arc::clone(&offer.zone),
            None => Arc::clone(&all[number]),
        };
        if zone.is_empty() {
            return;
        }
        let mut under_way = lock(&self.zones.notifications.under_way);
        under_way.retain(|_, task| !task.is_finished());
        for peer in &config.zones[number].notify {
            let turns = Arc::clone(&self.zones.notifications.turns);
            let tell = tell(peer.clone(), Arc::clone(&zone), turns);
            let task = Handle::current().spawn(tell).abort_handle();
            let at = SocketAddr::new(peer.address, peer.port);
            if let Some(earlier) = under_way.insert((apex.clone(), at), task) {
                earlier.abort();
            }
        }
    }
}

async fn tell(peer: Peer, zone: Arc<Zone>, turns: Arc<Semaphore>) {
    let (apex, serial) = (&zone.apex, zone.serial());
    for pause in PAUSES {
        tokio::time::sleep(pause).await;
        let Ok(_turn) = turns.acquire().await else {
            return;
        };
        match client::notify(&peer, &zone).await {
            Ok(()) => {
                info!(zone = %apex, %peer, serial, "{apex}: {peer} knows of serial {serial}");
                return;
            }
            Err(failure) if failure.is_of_content() => {
                warn!(zone = %apex, %peer, serial, cause = %failure, "{apex}: NOTIFY to {peer}: {failure}");
                return;
            }
            Err(failure) => debug!("{apex}: NOTIFY to {peer}: {failure}"),
        }
    }
    warn!(zone = %apex, %peer, serial, "{apex}: {peer} could not be told of serial {serial}: it does not answer a NOTIFY");
}

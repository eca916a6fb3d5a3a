//! The configuration in force, and the counters: shared by the workers of all transports.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::{ArcSwap, ArcSwapOption};

use super::arrivals::Arrivals;
use super::asked::Asked;
use super::connections::Connections;
use super::guard::Guarded;
use super::limiter::Limiter;
use super::message::Identity;
use super::notices::Notices;
use super::seen::Seen;
use super::stats::Stats;
use crate::block::Blocks;
use crate::certificate::Certificate;
use crate::dnstap::Tap;
use crate::world::World;

/// The state that all workers of a `Server` share.
#[derive(Debug)]
pub(super) struct Shared {
    pub world: Arc<ArcSwap<World>>,
    pub identity: ArcSwap<Identity>,
    pub blocks: ArcSwap<Blocks>,
    pub limiter: ArcSwapOption<Limiter>,
    pub stats: Arc<Stats>,
    /// Whether this server asks itself from the address that it asks ([`Shared::is_own`]).
    pub asks_itself: AtomicBool,
    /// Whether nobody is answered, this server itself included.
    pub is_silent: AtomicBool,
    pub seen: Seen,
    pub asked: Asked,
    pub arrivals: Arrivals,
    pub connections: Arc<Connections>,
    pub handler: Guarded,
    pub certificate: ArcSwapOption<Certificate>,
    /// Where exchanges are offered for dnstap.
    pub tap: ArcSwapOption<Tap>,
    /// UDP and TCP port.
    pub port: u16,
    /// The queue for NOTIFYs.
    pub notices: Notices,
}

impl Shared {
    /// Whether a question is this server's own: it comes from the address that it goes to.
    pub fn is_own(&self, client: IpAddr, address: IpAddr) -> bool {
        client == address && self.asks_itself.load(Ordering::Relaxed)
    }
}

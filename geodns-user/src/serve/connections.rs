//! How many TCP connections there may be, in all and from one network.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::server::Shared;
use super::stats::Counter;
use super::{Options, Stats};

/// How many connections there are, and of whom.
#[derive(Debug)]
pub struct Connections {
    total: usize,
    per_network: usize,
    idle: Duration,
    stats: Arc<Stats>,
    open: Mutex<HashMap<IpAddr, usize>>,
}

impl Connections {
    /// None yet.
    pub fn new(options: &Options, stats: Arc<Stats>) -> Self {
        Self {
            total: options.tcp_connections,
            per_network: options.tcp_connections_per_network,
            idle: options.tcp_idle,
            stats,
            open: Mutex::default(),
        }
    }

    /// How long to wait for a client: less when there are many.
    pub fn patience(&self) -> Duration {
        let open = self.stats.added(Counter::TcpOpen);
        if usize::try_from(open).is_ok_and(|open| open > self.total / 2) {
            self.idle / 5
        } else {
            self.idle
        }
    }
}

/// A place among the connections; given back on drop.
pub struct Place {
    /// What all workers share.
    pub shared: Arc<Shared>,
    network: IpAddr,
}

impl Place {
    /// Takes a place, if there is one for this client.
    pub fn take(shared: &Arc<Shared>, client: IpAddr) -> Option<Self> {
        let connections = &shared.connections;
        let network = network(client);
        let mut open = connections
            .open
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        // Under the lock, the gauge is the sum of the map.
        if connections.stats.added(Counter::TcpOpen) >= connections.total as u64 {
            return None;
        }
        let of_network = open.entry(network).or_default();
        if *of_network >= connections.per_network {
            return None;
        }
        *of_network += 1;
        connections.stats.add(Counter::TcpOpen);
        drop(open);
        Some(Self {
            shared: Arc::clone(shared),
            network,
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let connections = &self.shared.connections;
        let mut open = connections
            .open
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        connections.stats.subtract(Counter::TcpOpen);
        if let Some(of_network) = open.get_mut(&self.network) {
            *of_network -= 1;
            if *of_network == 0 {
                open.remove(&self.network);
            }
        }
    }
}

/// The network whose connections are counted together: /24 or /56.
fn network(client: IpAddr) -> IpAddr {
    match client {
        IpAddr::V4(address) => IpAddr::V4((u32::from(address) & !0xff).into()),
        IpAddr::V6(address) => {
            let mask = u128::MAX << (128 - 56);
            IpAddr::V6(Ipv6Addr::from(u128::from(address) & mask))
        }
    }
}

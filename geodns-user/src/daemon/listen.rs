//! The server listens on the configuration's addresses or those of the interfaces, in their VRFs, as they come and go.
//! An address that cannot be listened on is logged once, and in the status for as long as it lasts.
//!
//! Link-local addresses are left out. An address is bound in the VRF that its interface is in (SO_BINDTODEVICE), since
//! the stack hands packets of that VRF to no other socket. An address that no interface has yet is bound in the VRFs of
//! all interfaces.

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio::sync::{Mutex, MutexGuard};

use super::Daemon;
use super::report::systemd;
use crate::config::Config;
use crate::kernel::follow::Follow;
use crate::kernel::netdev::Netdevs;
use crate::serve::Endpoint;
use crate::supervise::Never;

/// How often to look after the links when no change is reported: an event may get lost.
const LOOK_AGAIN: Duration = Duration::from_secs(30);
/// The same while an interface refuses the program.
const LOOK_FOR_REFUSED: Duration = Duration::from_secs(10);

/// The server's endpoints. Locked by whoever changes them.
pub struct Listening(Mutex<Endpoints>);

/// Endpoints, and the socket that tells of interfaces.
pub struct Endpoints {
    /// Asks for interfaces and their addresses.
    pub netlink: rtnetlink::Handle,
    /// Endpoints that the server listens on.
    pub endpoints: BTreeSet<Endpoint>,
}

impl Listening {
    /// The endpoints of a start.
    pub fn new(netlink: rtnetlink::Handle, endpoints: BTreeSet<Endpoint>) -> Self {
        Self(Mutex::new(Endpoints { netlink, endpoints }))
    }

    /// Keeps everybody else from changing the endpoints.
    pub async fn lock(&self) -> MutexGuard<'_, Endpoints> {
        self.0.lock().await
    }

    /// The interfaces as they are now.
    pub async fn netdevs(&self) -> io::Result<Netdevs> {
        self.lock().await.netdevs().await
    }
}

impl Endpoints {
    /// The interfaces as they are now. A netlink socket makes one list at a time, and is busy for whoever else asks: so
    /// ask it under the lock.
    async fn netdevs(&self) -> io::Result<Netdevs> {
        Netdevs::read(&self.netlink).await
    }
}

/// The endpoints that the server is to listen on.
pub fn endpoints(config: &Config, netdevs: &Netdevs) -> BTreeSet<Endpoint> {
    let interfaces = &config.kernel.interfaces;
    let addresses = match &config.server.listen {
        Some(listen) => listen.iter().copied().collect(),
        None => netdevs.addresses(interfaces),
    };
    let of = |address| {
        let vrfs = netdevs.vrfs(address, interfaces).into_iter();
        vrfs.map(move |vrf| Endpoint { address, vrf })
    };
    addresses.into_iter().flat_map(of).collect()
}

/// The addresses of endpoints.
pub fn addresses(endpoints: &BTreeSet<Endpoint>) -> BTreeSet<IpAddr> {
    endpoints.iter().map(|at| at.address).collect()
}

/// A complaint, if there is no address to listen on.
pub fn nowhere(
    config: &Config,
    netdevs: &Netdevs,
    endpoints: &BTreeSet<Endpoint>,
) -> Option<String> {
    if !endpoints.is_empty() {
        return None;
    }
    let of = |name: &String| match netdevs.named(name) {
        None => format!("{name} is not there"),
        Some(netdev) if netdev.link_local.is_empty() => format!("{name} has none"),
        Some(_) => format!("{name} has only link-local ones, which nobody is told to ask"),
    };
    let interfaces: Vec<String> = config.kernel.interfaces.iter().map(of).collect();
    Some(format!(
        "no address to listen on: {}; nobody is answered until an address is added to an interface (ip address add), \
         or named in server.listen",
        interfaces.join(", ")
    ))
}

impl Daemon {
    /// Listens on the addresses of the configuration, or on those that the interfaces have now.
    pub async fn follow_interfaces(self: &Arc<Self>) -> anyhow::Result<()> {
        let mut follow = self.listening.lock().await;
        let netdevs = follow
            .netdevs()
            .await
            .context("cannot ask for interfaces (netlink)")?;
        let config = Arc::clone(&self.world.load().inputs.config);
        let wanted = endpoints(&config, &netdevs);
        let list: Vec<Endpoint> = wanted.iter().cloned().collect();
        let failed = self.server.set_listen(&list).await;
        for at in wanted.difference(&follow.endpoints) {
            tracing::info!(address = %at, "{at}: answered on from now on");
        }
        for at in follow.endpoints.difference(&wanted) {
            tracing::info!(address = %at, "{at}: no longer answered on");
        }
        if self
            .report
            .not_listening
            .put(nowhere(&config, &netdevs, &wanted), &failed)
        {
            systemd::status(&self.summary());
        }
        let addresses = addresses(&wanted);
        follow.endpoints = wanted;
        let before = self.not_attached();
        let daemon = Arc::clone(self);
        self.server.set_own_addresses(netdevs.own_addresses());
        tokio::task::spawn_blocking(move || {
            let Some(mut kernel) = daemon.lock_kernel() else {
                return Ok(());
            };
            let followed = kernel.follow(&addresses, &netdevs);
            if let Some(sight) = &daemon.sight {
                sight.follow(&kernel, &netdevs);
            }
            followed
        })
        .await??;
        if self.not_attached() != before {
            systemd::status(&self.summary());
        }
        Ok(())
    }
}

impl Daemon {
    /// Follows interfaces and their addresses, for ever.
    pub async fn follow_changes(self: Arc<Self>, follow: Arc<Mutex<Follow>>) -> Never {
        let mut follow = follow.lock().await;
        loop {
            // Whoever detaches our program or removes its pin tells nobody.
            let kernel = self.lock_kernel();
            let is_refused = kernel.is_some_and(|kernel| kernel.waiting().is_refused());
            let look_again = match is_refused {
                true => LOOK_FOR_REFUSED,
                false => LOOK_AGAIN,
            };
            if follow.changed(look_again).await
                && let Some(sight) = &self.sight
            {
                sight.look_at_cards();
            }
            self.listening.lock().await.netlink = follow.netlink();
            if let Err(error) = self.follow_interfaces().await {
                tracing::warn!("{error:#}");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn many_may_ask_for_interfaces_at_once() {
        let (connection, netlink, _) = rtnetlink::new_connection().unwrap();
        tokio::spawn(connection);
        let listening = Listening::new(netlink, BTreeSet::new());
        let asked = (0..50).map(|_| listening.netdevs());
        for netdevs in futures_util::future::join_all(asked).await {
            assert!(netdevs.unwrap().named("lo").is_some());
        }
    }
}

//! The device, and the routes on it.
//!
//! The device is a TUN device that nobody reads from. It lives as long as the process that holds it, and its routes live
//! as long as the device: whatever ends that process withdraws them.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::AsRawFd;
use std::path::Path;

use ipnet::IpNet;
use rtnetlink::packet_route::link::{AfSpecInet6, AfSpecUnspec, In6AddrGenMode, LinkAttribute};
use rtnetlink::packet_route::route::{RouteMessage, RouteProtocol, RouteScope};
use rtnetlink::{Error, Handle, LinkUnspec, RouteMessageBuilder};

/// Protocol number of our routes, as `ip route` shows it (`proto 53`). FRR takes 186 for its own BGP.
pub const PROTOCOL: u8 = 53;
/// The main routing table.
pub const MAIN_TABLE: u32 = 254;
/// Where devices are made.
const TUN: &str = "/dev/net/tun";
/// Packets that wait in the device. Nobody reads them.
const QUEUE: u32 = 1;

/// A route to a prefix by the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Route {
    /// The prefix.
    pub prefix: IpNet,
    /// Routing table.
    pub table: u32,
    /// Metric: it says the node's state.
    pub metric: u32,
}

/// A device that exists as long as this does, and its routes.
#[derive(Debug)]
pub struct Routes {
    netlink: Handle,
    device: String,
    index: u32,
    in_force: BTreeSet<Route>,
    _tun: File,
}

impl Routes {
    /// Makes a device of this name. Errors name it.
    pub async fn on(device: &str, netlink: Handle) -> Result<Self, String> {
        let tun = make(device).map_err(|error| match error.raw_os_error() {
            _ if !Path::new(TUN).exists() => format!(
                "{TUN}: not there: load the module tun, or give the container or unit the device"
            ),
            Some(libc::EBUSY) => format!(
                "device {device}: another program holds it: end that, or set announce.device"
            ),
            Some(libc::EPERM) => format!("device {device}: {error}: it takes CAP_NET_ADMIN"),
            _ => format!("device {device}: {error}"),
        })?;
        let index = nix::net::if_::if_nametoindex(device)
            .map_err(|error| format!("device {device}: {error}"))?;
        let routes = Self {
            netlink,
            device: device.to_owned(),
            index,
            in_force: BTreeSet::new(),
            _tun: tun,
        };
        let set_up = routes.set_up().await;
        set_up.map_err(|error| format!("device {device}: {}", plain(&error)))?;
        Ok(routes)
    }

    /// Routes in force.
    pub fn in_force(&self) -> &BTreeSet<Route> {
        &self.in_force
    }

    /// Puts these routes in force in the place of all others: new ones first, so that a prefix is never without one.
    /// On an error it is as it was.
    pub async fn set(&mut self, routes: &BTreeSet<Route>) -> Result<(), String> {
        let new: Vec<Route> = routes.difference(&self.in_force).copied().collect();
        let mut added = Vec::new();
        for route in new {
            if let Err(error) = self.add(route).await {
                for route in added {
                    let _ = self.delete(route).await;
                }
                return Err(self.refusal(route, &error));
            }
            added.push(route);
        }
        let old: Vec<Route> = self.in_force.difference(routes).copied().collect();
        self.in_force.clone_from(routes);
        for route in old {
            match self.delete(route).await {
                Ok(()) => {}
                // Somebody else has deleted it.
                Err(error) if errno(&error) == Some(libc::ESRCH) => {}
                Err(error) => return Err(format!("route {}: {}", route.prefix, plain(&error))),
            }
        }
        Ok(())
    }

    /// Makes routes anew that somebody has deleted, and sets the device up again. Says whether it had to.
    pub async fn restore(&self) -> Result<bool, String> {
        let mut had_to = false;
        let mut is_up = true;
        for &route in &self.in_force {
            let mut added = self.add(route).await;
            if let Err(error) = &added
                && errno(error) == Some(libc::ENETDOWN)
                && is_up
            {
                is_up = false;
                self.set_up().await.map_err(|error| plain(&error))?;
                added = self.add(route).await;
            }
            match added {
                Ok(()) => had_to = true,
                Err(error) if errno(&error) == Some(libc::EEXIST) => {}
                Err(error) => return Err(self.refusal(route, &error)),
            }
        }
        Ok(had_to)
    }

    /// Why a route cannot be made.
    fn refusal(&self, route: Route, error: &Error) -> String {
        let Route {
            prefix,
            table,
            metric,
        } = route;
        match errno(error) {
            Some(libc::EEXIST) => {
                format!(
                    "route {prefix} metric {metric} in table {table}: another program has made it"
                )
            }
            Some(libc::EACCES) if prefix.addr().is_ipv6() => format!(
                "route {prefix}: IPv6 is off for device {0}: set net.ipv6.conf.{0}.disable_ipv6 to 0",
                self.device
            ),
            _ => format!("route {prefix} in table {table}: {}", plain(error)),
        }
    }

    async fn set_up(&self) -> Result<(), Error> {
        // No link-local address: the device has no link.
        let no_addresses =
            LinkAttribute::AfSpecUnspec(vec![AfSpecUnspec::Inet6(vec![AfSpecInet6::AddrGenMode(
                In6AddrGenMode::None,
            )])]);
        let link = || LinkUnspec::new_with_index(self.index);
        let message = link().append_extra_attribute(no_addresses).build();
        // A kernel without IPv6 refuses it, and needs none.
        let _ = self.netlink.link().set(message).execute().await;
        // New devices may be without IPv6 by default, while those that serve have it.
        let disabled = format!("/proc/sys/net/ipv6/conf/{}/disable_ipv6", self.device);
        let _ = fs::write(disabled, "0");
        let message = link().txqueuelen(QUEUE).up().build();
        self.netlink.link().set(message).execute().await
    }

    async fn add(&self, route: Route) -> Result<(), Error> {
        let message = self.message(route);
        self.netlink.route().add(message).execute().await
    }

    async fn delete(&self, route: Route) -> Result<(), Error> {
        let message = self.message(route);
        self.netlink.route().del(message).execute().await
    }

    fn message(&self, route: Route) -> RouteMessage {
        let length = route.prefix.prefix_len();
        match route.prefix.network() {
            IpAddr::V4(network) => RouteMessageBuilder::<Ipv4Addr>::new()
                .destination_prefix(network, length)
                .scope(RouteScope::Link)
                .output_interface(self.index)
                .protocol(RouteProtocol::from(PROTOCOL))
                .priority(route.metric)
                .table_id(route.table)
                .build(),
            IpAddr::V6(network) => RouteMessageBuilder::<Ipv6Addr>::new()
                .destination_prefix(network, length)
                .output_interface(self.index)
                .protocol(RouteProtocol::from(PROTOCOL))
                .priority(route.metric)
                .table_id(route.table)
                .build(),
        }
    }
}

/// The device, which lasts until the file is closed.
fn make(name: &str) -> io::Result<File> {
    let tun = OpenOptions::new().read(true).write(true).open(TUN)?;
    if name.is_empty() || name.len() >= libc::IFNAMSIZ {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // SAFETY: ifreq is plain data, for which zeros are a value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, octet) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = octet.cast_signed();
    }
    request.ifr_ifru.ifru_flags =
        (libc::IFF_TUN | libc::IFF_NO_PI | libc::IFF_TUN_EXCL) as libc::c_short;
    // SAFETY: TUNSETIFF takes an ifreq, which outlives the call.
    let done = unsafe { libc::ioctl(tun.as_raw_fd(), libc::TUNSETIFF, &raw mut request) };
    if done < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(tun)
}

fn errno(error: &Error) -> Option<i32> {
    match error {
        Error::NetlinkError(message) => Some(message.raw_code().abs()),
        _ => None,
    }
}

/// An error without the bytes of the message that it answers.
fn plain(error: &Error) -> String {
    match error {
        Error::NetlinkError(message) => message.to_io().to_string(),
        other => other.to_string(),
    }
}

//! Interfaces of this machine as getifaddrs(3) shows them, at one moment.

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;

use nix::ifaddrs::getifaddrs;
use nix::net::if_::InterfaceFlags;
use nix::sys::socket::SockaddrStorage;

/// Interfaces with a carrier, and the addresses of `lo`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Links {
    /// Names of interfaces that are up and have a carrier.
    pub running: BTreeSet<String>,
    /// Addresses of `lo` that others may be told of: none of 127.0.0.0/8, and not ::1.
    pub lo: BTreeSet<IpAddr>,
    /// All addresses of this machine.
    pub addresses: BTreeSet<IpAddr>,
}

impl Links {
    /// Asks the kernel.
    pub fn read() -> io::Result<Self> {
        let mut links = Self::default();
        for link in getifaddrs()? {
            if link
                .flags
                .contains(InterfaceFlags::IFF_UP | InterfaceFlags::IFF_RUNNING)
            {
                links.running.insert(link.interface_name.clone());
            }
            let Some(address) = link.address.as_ref().and_then(ip) else {
                continue;
            };
            links.addresses.insert(address);
            if link.interface_name == "lo" && !address.is_loopback() {
                links.lo.insert(address);
            }
        }
        Ok(links)
    }
}

fn ip(address: &SockaddrStorage) -> Option<IpAddr> {
    let v4 = address.as_sockaddr_in().map(|v4| v4.ip().into());
    v4.or_else(|| address.as_sockaddr_in6().map(|v6| v6.ip().into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_has_a_loopback_that_is_not_announced() {
        let links = Links::read().unwrap();
        assert!(links.running.contains("lo"));
        assert!(links.addresses.contains(&"127.0.0.1".parse().unwrap()));
        assert!(links.lo.iter().all(|address| !address.is_loopback()));
    }
}

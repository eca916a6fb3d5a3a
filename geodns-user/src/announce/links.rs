//! Interfaces of this machine as getifaddrs(3) shows them, at one moment.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv6Addr, UdpSocket};
use std::{fs, io};

use ipnet::Ipv6Net;
use nix::ifaddrs::getifaddrs;
use nix::net::if_::{InterfaceFlags, if_indextoname, if_nametoindex};
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

    /// Whether an interface is up and has a carrier, by its name or by an alternative one.
    pub fn runs(&self, name: &str) -> bool {
        let own = || if_indextoname(if_nametoindex(name).ok()?).ok();
        self.running.contains(name)
            || own().is_some_and(|own| self.running.contains(&*own.to_string_lossy()))
    }
}

/// Whether this machine takes packets to an address: an interface has it, or a route of the table `local` delivers it.
pub fn is_delivered(address: IpAddr) -> bool {
    match address {
        // Such an address can be bound without IP_FREEBIND.
        IpAddr::V4(_) => UdpSocket::bind((address, 0)).is_ok(),
        IpAddr::V6(address) => is_delivered_v6(address),
    }
}

/// The same of an IPv6 address.
pub fn is_delivered_v6(address: Ipv6Addr) -> bool {
    let routes = fs::read_to_string("/proc/thread-self/net/ipv6_route");
    routes.is_ok_and(|routes| routes.lines().any(|line| delivers(line, address)))
}

/// Whether a line of `/proc/net/ipv6_route` is a local route to an address.
fn delivers(line: &str, address: Ipv6Addr) -> bool {
    /// RTF_LOCAL
    const LOCAL: u32 = 0x8000_0000;
    let mut words = line.split_whitespace();
    let mut hex = |at: usize| u128::from_str_radix(words.nth(at)?, 16).ok();
    let (Some(prefix), Some(length), Some(flags)) = (hex(0), hex(0), hex(6)) else {
        return false;
    };
    let net = u8::try_from(length).ok().and_then(|length| {
        let prefix = Ipv6Addr::from_bits(prefix);
        Ipv6Net::new(prefix, length).ok()
    });
    flags & u128::from(LOCAL) != 0 && net.is_some_and(|net| net.contains(&address))
}

fn ip(address: &SockaddrStorage) -> Option<IpAddr> {
    let v4 = address.as_sockaddr_in().map(|v4| v4.ip().into());
    v4.or_else(|| address.as_sockaddr_in6().map(|v6| v6.ip().into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn local_routes_deliver_and_others_do_not() {
        let line = |flags: &str| {
            format!(
                "20010db8005300000000000000000053 80 00000000000000000000000000000000 00 \
                 00000000000000000000000000000000 00000400 00000001 00000000 {flags}       lo"
            )
        };
        let [ours, other] =
            ["2001:db8:53::53", "2001:db8:53::54"].map(|text| text.parse().unwrap());
        assert!(delivers(&line("80200001"), ours));
        assert!(!delivers(&line("80200001"), other));
        assert!(!delivers(&line("00200001"), ours));
        assert!(!delivers("", ours));
        assert!(is_delivered("127.0.0.1".parse().unwrap()));
        assert!(!is_delivered("192.0.2.53".parse().unwrap()));
    }

    #[test]
    fn this_machine_has_a_loopback_that_is_not_announced() {
        let links = Links::read().unwrap();
        assert!(links.running.contains("lo"));
        assert!(links.addresses.contains(&"127.0.0.1".parse().unwrap()));
        assert!(links.lo.iter().all(|address| !address.is_loopback()));
    }
}

//! The network interfaces, as rtnetlink and ethtool tell.

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;
use std::os::fd::AsRawFd;

use futures_util::TryStreamExt;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
use rtnetlink::Handle;
use rtnetlink::packet_route::address::{AddressAttribute, AddressFlags, AddressHeaderFlags};
use rtnetlink::packet_route::link::{
    InfoKind, LinkAttribute, LinkInfo, LinkMessage, LinkXdp, XdpAttached,
};

/// A MAC address as the program compares it: the first octet highest of the low 48 bits.
pub type Mac = u64;

/// An XDP program on an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Xdp {
    /// Its id, if there is only one.
    pub program: Option<u32>,
    /// Whether it runs in the stack's receive path, not in the driver.
    pub generic: bool,
}

/// An interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Netdev {
    /// Index.
    pub ifindex: u32,
    /// Name.
    pub name: String,
    /// MAC address; 0 where it has none.
    pub mac: Mac,
    /// The interface that this one is a VLAN of.
    pub vlan_of: Option<u32>,
    /// Whether it is one end of a veth pair.
    pub is_veth: bool,
    /// Program attached.
    pub xdp: Option<Xdp>,
    /// Its addresses that can be served: no link-local ones, none that another host has too.
    pub addresses: BTreeSet<IpAddr>,
}

/// All interfaces of the network namespace at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Netdevs(Vec<Netdev>);

impl From<Vec<Netdev>> for Netdevs {
    fn from(netdevs: Vec<Netdev>) -> Self {
        Self(netdevs)
    }
}

impl Netdevs {
    /// Asks the kernel.
    pub async fn read(netlink: &Handle) -> io::Result<Self> {
        let mut netdevs = Vec::new();
        let mut links = netlink.link().get().execute();
        while let Some(link) = links.try_next().await.map_err(io::Error::other)? {
            netdevs.push(netdev(&link));
        }
        let mut addresses = netlink.address().get().execute();
        while let Some(message) = addresses.try_next().await.map_err(io::Error::other)? {
            let mut flags = AddressFlags::empty();
            let (mut local, mut address) = (None, None);
            for attribute in &message.attributes {
                match attribute {
                    AddressAttribute::Flags(all) => flags |= *all,
                    AddressAttribute::Local(ip) => local = Some(*ip),
                    AddressAttribute::Address(ip) => address = Some(*ip),
                    _ => {}
                }
            }
            if flags.contains(AddressFlags::Dadfailed)
                || message.header.flags.contains(AddressHeaderFlags::Dadfailed)
            {
                continue;
            }
            // On point-to-point interfaces IFA_ADDRESS is the peer's.
            let Some(ip) = local.or(address) else {
                continue;
            };
            let servable = match ip {
                IpAddr::V4(ip) => !ip.is_link_local(),
                IpAddr::V6(ip) => !ip.is_unicast_link_local(),
            };
            if servable
                && let Some(netdev) = netdevs
                    .iter_mut()
                    .find(|netdev| netdev.ifindex == message.header.index)
            {
                netdev.addresses.insert(ip);
            }
        }
        Ok(Self(netdevs))
    }

    /// The interface with a name.
    pub fn named(&self, name: &str) -> Option<&Netdev> {
        self.0.iter().find(|netdev| netdev.name == name)
    }

    /// The interface with an index.
    pub fn at(&self, ifindex: u32) -> Option<&Netdev> {
        self.0.iter().find(|netdev| netdev.ifindex == ifindex)
    }

    /// The names, for messages.
    pub fn names(&self) -> String {
        let names: Vec<_> = self.0.iter().map(|netdev| netdev.name.as_str()).collect();
        names.join(", ")
    }

    /// An interface and the VLANs upon it, whose packets come in through it.
    pub fn with_vlans(&self, ifindex: u32) -> impl Iterator<Item = &Netdev> {
        self.0.iter().filter(move |netdev| {
            // At most QinQ: two tags.
            let mut at = *netdev;
            for _ in 0..3 {
                if at.ifindex == ifindex {
                    return true;
                }
                let parent = at.vlan_of;
                let Some(parent) = self.0.iter().find(|other| Some(other.ifindex) == parent) else {
                    return false;
                };
                at = parent;
            }
            false
        })
    }

    /// Own addresses of interfaces and of the VLANs upon them.
    pub fn addresses(&self, names: &[String]) -> BTreeSet<IpAddr> {
        names
            .iter()
            .filter_map(|name| self.named(name))
            .flat_map(|netdev| self.with_vlans(netdev.ifindex))
            .flat_map(|netdev| netdev.addresses.iter().copied())
            .collect()
    }
}

fn netdev(link: &LinkMessage) -> Netdev {
    let mut netdev = Netdev {
        ifindex: link.header.index,
        name: String::new(),
        mac: 0,
        vlan_of: None,
        is_veth: false,
        xdp: None,
        addresses: BTreeSet::new(),
    };
    let (mut lower, mut vlan) = (None, false);
    for attribute in &link.attributes {
        match attribute {
            LinkAttribute::IfName(name) => netdev.name.clone_from(name),
            LinkAttribute::Address(mac) if mac.len() == 6 => {
                netdev.mac = mac
                    .iter()
                    .fold(0, |mac, &octet| mac << 8 | u64::from(octet));
            }
            LinkAttribute::Link(index) => lower = Some(*index),
            LinkAttribute::LinkInfo(infos) => {
                for info in infos {
                    vlan |= matches!(info, LinkInfo::Kind(InfoKind::Vlan));
                    netdev.is_veth |= matches!(info, LinkInfo::Kind(InfoKind::Veth));
                }
            }
            LinkAttribute::Xdp(attributes) => netdev.xdp = xdp(attributes),
            _ => {}
        }
    }
    if vlan {
        netdev.vlan_of = lower;
    }
    netdev
}

fn xdp(attributes: &[LinkXdp]) -> Option<Xdp> {
    let mut program = None;
    let mut generic = None;
    for attribute in attributes {
        match attribute {
            LinkXdp::Attached(XdpAttached::None) => return None,
            LinkXdp::Attached(attached) => {
                generic = Some(*attached == XdpAttached::SocketBuffer);
            }
            LinkXdp::ProgId(id) => program = Some(*id),
            _ => {}
        }
    }
    Some(Xdp {
        program,
        generic: generic?,
    })
}

const ETHTOOL_GFLAGS: u32 = 0x25;
const ETHTOOL_SFLAGS: u32 = 0x26;
const ETH_FLAG_RXVLAN: u32 = 1 << 8;

/// Whether the interface takes VLAN tags off before XDP sees the packet.
pub fn rxvlan(name: &str) -> io::Result<bool> {
    Ok(ethtool(name, ETHTOOL_GFLAGS, 0)? & ETH_FLAG_RXVLAN != 0)
}

/// Turns that on or off.
pub fn set_rxvlan(name: &str, on: bool) -> io::Result<()> {
    let flags = ethtool(name, ETHTOOL_GFLAGS, 0)? & !ETH_FLAG_RXVLAN;
    let wanted = if on { flags | ETH_FLAG_RXVLAN } else { flags };
    ethtool(name, ETHTOOL_SFLAGS, wanted)?;
    // A driver may take the call and keep what it has.
    if rxvlan(name)? == on {
        Ok(())
    } else {
        Err(io::Error::from_raw_os_error(libc::EOPNOTSUPP))
    }
}

/// `struct ethtool_value`
#[repr(C)]
struct EthtoolValue {
    command: u32,
    data: u32,
}

fn ethtool(name: &str, command: u32, data: u32) -> io::Result<u32> {
    let any = socket(
        AddressFamily::Inet,
        SockType::Datagram,
        SockFlag::SOCK_CLOEXEC,
        None,
    )?;
    let mut value = EthtoolValue { command, data };
    // SAFETY: integers, arrays and a pointer: all zeros is a value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    if name.len() >= libc::IFNAMSIZ {
        return Err(io::Error::from_raw_os_error(libc::ENODEV));
    }
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from as libc::c_char;
    }
    request.ifr_ifru.ifru_data = (&raw mut value).cast();
    // SAFETY: `request` and the value that it points to outlive the call.
    match unsafe { libc::ioctl(any.as_raw_fd(), libc::SIOCETHTOOL, &raw mut request) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(value.data),
    }
}

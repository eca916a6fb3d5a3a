//! The network interfaces, as rtnetlink tells of them.

use std::collections::BTreeSet;
use std::io;
use std::iter;
use std::net::IpAddr;

use futures_util::TryStreamExt;
use geodns_common::layout::Listen;
use rtnetlink::Handle;
use rtnetlink::packet_route::address::{AddressAttribute, AddressFlags, AddressHeaderFlags};
use rtnetlink::packet_route::link::{
    InfoData, InfoKind, InfoVlan, LinkAttribute, LinkInfo, LinkLayerType, LinkMessage, LinkXdp,
    Prop, VlanProtocol, XdpAttached,
};

/// A MAC address as the program compares it: the first octet highest of the low 48 bits.
pub type Mac = u64;

/// Interfaces that stand one upon the other, at the most, counted from a card: port, bond, bridge, two VLANs.
const UPPERS: u32 = 5;

/// An XDP program on an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Xdp {
    /// Its id, if there is only one.
    pub program: Option<u32>,
    /// Whether it runs in the stack's receive path, not in the driver.
    pub generic: bool,
}

/// The kinds of interfaces that matter to whoever attaches a program to them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    /// A card.
    #[default]
    Card,
    /// An interface that software makes and frames come in by, of a kind that is not below.
    Virtual,
    /// This host itself.
    Loopback,
    /// An interface that nothing comes in by.
    Dummy,
    /// An interface whose packets have no Ethernet header, such as a tunnel.
    Tunnel,
    /// One end of a veth pair.
    Veth,
    /// A VLAN of another interface.
    Vlan,
    /// Another address of another interface, with a MAC address of its own.
    Macvlan,
    /// Several interfaces that act as one.
    Bond,
    /// A switch, of which its ports are parts.
    Bridge,
    /// A routing table of its own.
    Vrf,
}

impl Kind {
    /// Whether its frames come in by its lower interface.
    fn stands_on_another(self) -> bool {
        matches!(self, Self::Vlan | Self::Macvlan)
    }

    /// Whether its frames come in by its parts.
    fn has_parts(self) -> bool {
        matches!(self, Self::Bond | Self::Bridge)
    }
}

/// An interface.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Netdev {
    /// Index.
    pub ifindex: u32,
    /// Name.
    pub name: String,
    /// Its other names, which stay when somebody changes that one.
    pub altnames: Vec<String>,
    /// Octets of a packet, at the most, its Ethernet header not counted.
    pub mtu: u32,
    /// MAC address; 0 where it has none.
    pub mac: Mac,
    /// What it is.
    pub kind: Kind,
    /// The interface of this namespace that this one stands on: of a VLAN, or a macvlan.
    pub lower: Option<u32>,
    /// The VLAN's tag, as [`Listen::tag`] has it.
    pub tag: u32,
    /// The interface that this one belongs to: a bridge, a bond, a VRF.
    pub master: Option<u32>,
    /// Program attached.
    pub xdp: Option<Xdp>,
    /// Its addresses that can be served: no link-local ones, none that another host has too.
    pub addresses: BTreeSet<IpAddr>,
    /// Its link-local addresses.
    pub link_local: BTreeSet<IpAddr>,
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
    /// Asks the kernel, where there is no runtime.
    pub fn read_now() -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        runtime.block_on(async {
            let (connection, netlink, _) = rtnetlink::new_connection()?;
            tokio::spawn(connection);
            Self::read(&netlink).await
        })
    }

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
            let is_link_local = match ip {
                IpAddr::V4(ip) => ip.is_link_local(),
                IpAddr::V6(ip) => ip.is_unicast_link_local(),
            };
            let mut netdevs = netdevs.iter_mut();
            if let Some(netdev) = netdevs.find(|netdev| netdev.ifindex == message.header.index) {
                match is_link_local {
                    true => netdev.link_local.insert(ip),
                    false => netdev.addresses.insert(ip),
                };
            }
        }
        Ok(Self(netdevs))
    }

    /// The interface with a name, or with an alternative one.
    pub fn named(&self, name: &str) -> Option<&Netdev> {
        self.0.iter().find(|netdev| netdev.is_named(name))
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Netdev> {
        self.0.iter()
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

    /// An interface, and all whose frames come in through it: VLANs and macvlans upon it, bonds and bridges that it is
    /// a part of, and what is upon these.
    pub fn with_uppers(&self, ifindex: u32) -> impl Iterator<Item = &Netdev> {
        self.0
            .iter()
            .filter(move |netdev| self.comes_in_by(netdev, ifindex, UPPERS))
    }

    fn comes_in_by(&self, netdev: &Netdev, ifindex: u32, uppers: u32) -> bool {
        if netdev.ifindex == ifindex {
            return true;
        }
        if uppers == 0 {
            return false;
        }
        let mut lowers = self.0.iter().filter(|lower| netdev.is_upon(lower));
        lowers.any(|lower| self.comes_in_by(lower, ifindex, uppers - 1))
    }

    /// The interfaces that the frames of one come in by: the one that it stands on, or its parts.
    pub fn lowers(&self, ifindex: u32) -> impl Iterator<Item = &Netdev> {
        let upper = self.at(ifindex);
        self.0
            .iter()
            .filter(move |lower| upper.is_some_and(|upper| upper.is_upon(lower)))
    }

    /// Complaints about named interfaces that are named in vain, since their frames come in by others that are named.
    pub fn needless(&self, names: &[String]) -> Vec<String> {
        let named = || names.iter().filter_map(|name| self.named(name));
        let mut complaints = Vec::new();
        for upper in named() {
            let is_lower = |lower: &&Netdev| {
                lower.ifindex != upper.ifindex && self.comes_in_by(upper, lower.ifindex, UPPERS)
            };
            let lowers: Vec<&str> = named()
                .filter(is_lower)
                .map(|of| of.name.as_str())
                .collect();
            if lowers.is_empty() {
                continue;
            }
            let (upper_name, lowers) = (&upper.name, lowers.join(", "));
            complaints.push(match upper.kind {
                Kind::Bond => format!(
                    "{lowers}: a part of {upper_name}, which has the program on all of its parts and is in \
                     kernel.interfaces too: leave {lowers} out"
                ),
                _ => format!(
                    "{upper_name}: its frames come in by {lowers}, which is in kernel.interfaces too and answers for \
                     {upper_name}: leave {upper_name} out"
                ),
            });
        }
        complaints
    }

    /// Why no query that XDP could answer comes in by an interface, and what to name instead of it. `None`: some may.
    pub fn instead_of(&self, netdev: &Netdev) -> Option<String> {
        let cards = self.0.iter();
        let cards = cards.filter(|of| matches!(of.kind, Kind::Card | Kind::Bond));
        let cards: Vec<&str> = cards.map(|of| of.name.as_str()).collect();
        let cards = match cards.is_empty() {
            true => String::new(),
            false => format!(" ({})", cards.join(", ")),
        };
        let whose = "its addresses are answered on there too, if server.listen has them";
        match netdev.kind {
            Kind::Loopback => Some(format!(
                "no query from the network comes in by loopback; name the card that they come in by{cards}: {whose}"
            )),
            Kind::Dummy => Some(format!(
                "this is a dummy, which no packet comes in by; name the card that they come in by{cards}: {whose}"
            )),
            Kind::Tunnel => Some(format!(
                "its packets have no Ethernet header (it is a tunnel without one, or a card of another kind), and the \
                 XDP program needs one: leave it out of kernel.interfaces, or use a tunnel with Ethernet, such as \
                 gretap{}",
                match cards.as_str() {
                    "" => String::new(),
                    cards => format!(
                        "; the slow path answers what comes by it, beside the cards that you name{cards}"
                    ),
                }
            )),
            _ => None,
        }
    }

    /// These interfaces, each after those that its frames come in by. The kernel takes no program on a card below an
    /// interface that has one.
    pub fn lowers_first<'a>(&self, names: &'a [String]) -> Vec<&'a str> {
        let is_below = |lower: &str, upper: &str| {
            let lower = self.named(lower).map(|netdev| netdev.ifindex);
            let mut uppers = lower
                .into_iter()
                .flat_map(|ifindex| self.with_uppers(ifindex));
            uppers.any(|netdev| netdev.is_named(upper))
        };
        let mut sorted: Vec<&str> = names.iter().map(String::as_str).collect();
        sorted.sort_by_key(|&upper| names.iter().filter(|lower| is_below(lower, upper)).count());
        sorted
    }

    /// The interfaces that a program runs for that is attached to one: to this one, and where its driver passes the
    /// program on, to its parts. These are the ports of a bond, and the virtual function beside a synthetic card.
    pub fn runs_on(&self, ifindex: u32, generic: bool) -> impl Iterator<Item = &Netdev> {
        let kind = self.at(ifindex).map(|netdev| netdev.kind);
        let passes_on = !generic && matches!(kind, Some(Kind::Bond | Kind::Card));
        let of = self.0.iter();
        of.filter(move |netdev| {
            netdev.ifindex == ifindex || passes_on && netdev.master == Some(ifindex)
        })
    }

    /// The parts of a bond or a bridge.
    pub fn parts(&self, master: u32) -> impl Iterator<Item = &Netdev> {
        let all = self.0.iter();
        all.filter(move |netdev| netdev.master == Some(master))
    }

    /// All addresses of this host.
    pub fn own_addresses(&self) -> BTreeSet<IpAddr> {
        let of = |netdev: &Netdev| {
            let addresses = netdev.addresses.iter().chain(&netdev.link_local);
            addresses.copied().collect::<Vec<_>>()
        };
        self.0.iter().flat_map(of).collect()
    }

    /// The MAC address of frames that come in through an interface, and are for this host. Frames for the parts of a
    /// bridge have the bridge's.
    pub fn mac(&self, ifindex: u32) -> Option<Mac> {
        let netdev = self.at(ifindex)?;
        let masters = iter::successors(Some(netdev), |netdev| self.at(netdev.master?));
        let bridge = masters
            .take(UPPERS as usize)
            .find(|of| of.kind == Kind::Bridge);
        Some(bridge.unwrap_or(netdev).mac)
    }

    /// The VLANs whose frames come in through an interface, as [`Listen::vlan`] has them, each with the MAC address
    /// that they are for: those upon it, and upon a bond or bridge that it is a part of.
    pub fn vlans(&self, ifindex: u32) -> Vec<(u64, Mac)> {
        let of = |index: u32| self.0.iter().find(|netdev| netdev.ifindex == index);
        // A bond may be a part of a bridge.
        let masters = iter::successors(of(ifindex), |netdev| of(netdev.master?)).take(3);
        let masters: Vec<u32> = masters.map(|netdev| netdev.ifindex).collect();
        let vlan = |netdev: &Netdev| {
            let parent = netdev.vlan_of()?;
            if masters.contains(&parent) {
                return Some(Listen::vlan(netdev.tag, 0));
            }
            let parent = of(parent)?;
            let is_below = parent.vlan_of().is_some_and(|of| masters.contains(&of));
            is_below.then(|| Listen::vlan(parent.tag, netdev.tag))
        };
        let vlans = self.0.iter();
        vlans
            .filter_map(|netdev| Some((vlan(netdev)?, netdev.mac)))
            .filter(|(vlan, _)| *vlan != 0)
            .collect()
    }

    /// Addresses of interfaces, and of all whose frames come in through them.
    pub fn addresses(&self, names: &[String]) -> BTreeSet<IpAddr> {
        names
            .iter()
            .filter_map(|name| self.named(name))
            .flat_map(|netdev| self.with_uppers(netdev.ifindex))
            .flat_map(|netdev| netdev.addresses.iter().copied())
            .collect()
    }

    /// The VRFs that an address is to be listened on in; `None` is outside of all. Where one of these interfaces has
    /// it, else where any has it, else where these interfaces are, on which it may come.
    pub fn vrfs(&self, address: IpAddr, names: &[String]) -> BTreeSet<Option<String>> {
        let ours = || {
            let ours = names.iter().filter_map(|name| self.named(name));
            ours.flat_map(|netdev| self.with_uppers(netdev.ifindex))
        };
        let has = |netdev: &&Netdev| netdev.addresses.contains(&address);
        let mut vrfs: BTreeSet<_> = ours().filter(has).map(|netdev| self.vrf(netdev)).collect();
        if vrfs.is_empty() {
            vrfs = self.0.iter().filter(has).map(|of| self.vrf(of)).collect();
        }
        if vrfs.is_empty() {
            vrfs = ours().map(|netdev| self.vrf(netdev)).collect();
        }
        if vrfs.is_empty() {
            vrfs.insert(None);
        }
        vrfs
    }

    /// The name of the VRF that an interface is in, or is.
    fn vrf(&self, netdev: &Netdev) -> Option<String> {
        if netdev.kind == Kind::Vrf {
            return Some(netdev.name.clone());
        }
        let master = netdev.master?;
        let mut netdevs = self.0.iter();
        let master = netdevs.find(|other| other.ifindex == master && other.kind == Kind::Vrf)?;
        Some(master.name.clone())
    }
}

impl Netdev {
    /// Whether this is its name, or an alternative one.
    pub fn is_named(&self, name: &str) -> bool {
        self.name == name || self.altnames.iter().any(|other| other == name)
    }

    /// Whether its frames come in by another one, directly.
    fn is_upon(&self, lower: &Self) -> bool {
        self.kind.stands_on_another() && self.lower == Some(lower.ifindex)
            || self.kind.has_parts() && lower.master == Some(self.ifindex)
    }

    /// The interface that this one is a VLAN of.
    pub fn vlan_of(&self) -> Option<u32> {
        self.lower.filter(|_| self.kind == Kind::Vlan)
    }
}

fn netdev(link: &LinkMessage) -> Netdev {
    let mut netdev = Netdev {
        ifindex: link.header.index,
        kind: match link.header.link_layer_type {
            LinkLayerType::Ether => Kind::Card,
            LinkLayerType::Loopback => Kind::Loopback,
            _ => Kind::Tunnel,
        },
        ..Netdev::default()
    };
    let (mut lower, mut is_elsewhere) = (None, false);
    let (mut is_8021ad, mut id) = (false, 0);
    for attribute in &link.attributes {
        match attribute {
            LinkAttribute::IfName(name) => netdev.name.clone_from(name),
            LinkAttribute::Address(mac) if mac.len() == 6 => {
                netdev.mac = mac
                    .iter()
                    .fold(0, |mac, &octet| mac << 8 | u64::from(octet));
            }
            LinkAttribute::Mtu(octets) => netdev.mtu = *octets,
            LinkAttribute::PropList(properties) => {
                let names = properties.iter().filter_map(|property| match property {
                    Prop::AltIfName(name) => Some(name.clone()),
                    _ => None,
                });
                netdev.altnames.extend(names);
            }
            LinkAttribute::Link(index) => lower = Some(*index),
            LinkAttribute::LinkNetNsId(_) => is_elsewhere = true,
            LinkAttribute::Controller(index) => netdev.master = Some(*index),
            LinkAttribute::LinkInfo(infos) => {
                for info in infos {
                    if let (LinkInfo::Kind(of), Kind::Card) = (info, netdev.kind) {
                        netdev.kind = kind(of);
                    }
                    let LinkInfo::Data(InfoData::Vlan(data)) = info else {
                        continue;
                    };
                    for of in data {
                        match of {
                            InfoVlan::Id(number) => id = *number,
                            InfoVlan::Protocol(of) => is_8021ad = *of == VlanProtocol::Ieee8021Ad,
                            _ => {}
                        }
                    }
                }
            }
            LinkAttribute::Xdp(attributes) => netdev.xdp = xdp(attributes),
            _ => {}
        }
    }
    if netdev.kind.stands_on_another() && !is_elsewhere {
        netdev.lower = lower;
    }
    if netdev.kind == Kind::Vlan {
        netdev.tag = Listen::tag(is_8021ad, id);
    }
    netdev
}

fn kind(of: &InfoKind) -> Kind {
    match of {
        InfoKind::Veth => Kind::Veth,
        InfoKind::Vlan => Kind::Vlan,
        InfoKind::MacVlan | InfoKind::IpVlan => Kind::Macvlan,
        InfoKind::Bond => Kind::Bond,
        InfoKind::Bridge => Kind::Bridge,
        InfoKind::Vrf => Kind::Vrf,
        InfoKind::Dummy => Kind::Dummy,
        _ => Kind::Virtual,
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn netdev(ifindex: u32, name: &str, addresses: &[&str]) -> Netdev {
        Netdev {
            ifindex,
            name: name.to_owned(),
            addresses: addresses.iter().map(|text| text.parse().unwrap()).collect(),
            ..Netdev::default()
        }
    }

    #[test]
    fn an_interface_comes_after_those_below_it() {
        let vlan = |ifindex, name, lower| Netdev {
            kind: Kind::Vlan,
            lower: Some(lower),
            ..netdev(ifindex, name, &[])
        };
        let netdevs = Netdevs(vec![
            vlan(1, "eth0.5.6", 2),
            vlan(2, "eth0.5", 3),
            netdev(3, "eth0", &[]),
            netdev(4, "eth1", &[]),
        ]);
        let names = ["eth0.5.6", "eth1", "gone", "eth0.5", "eth0"].map(str::to_owned);
        let mut found = netdevs.lowers_first(&names);
        found.retain(|name| name.starts_with("eth0"));
        assert_eq!(found, ["eth0", "eth0.5", "eth0.5.6"]);
    }

    #[test]
    fn an_interface_is_found_by_any_of_its_names() {
        let netdevs = Netdevs(vec![Netdev {
            altnames: vec!["enp1s0".to_owned(), "uplink".to_owned()],
            ..netdev(3, "eth0", &["192.0.2.1"])
        }]);
        for name in ["eth0", "enp1s0", "uplink"] {
            assert_eq!(netdevs.named(name).map(|of| of.ifindex), Some(3), "{name}");
            let addresses = netdevs.addresses(&[name.to_owned()]);
            assert_eq!(addresses.len(), 1, "{name}");
        }
        assert!(netdevs.named("eth1").is_none());
    }

    #[test]
    fn interfaces_that_no_query_comes_in_by_say_what_to_name_instead() {
        let of = |ifindex, name, kind| Netdev {
            kind,
            ..netdev(ifindex, name, &[])
        };
        let netdevs = Netdevs(vec![
            of(1, "lo", Kind::Loopback),
            of(2, "eth0", Kind::Card),
            of(3, "dummy0", Kind::Dummy),
            of(4, "gre1", Kind::Tunnel),
            of(5, "br0", Kind::Bridge),
        ]);
        let instead = |name| netdevs.instead_of(netdevs.named(name).unwrap());
        assert!(
            instead("lo")
                .unwrap()
                .contains("name the card that they come in by (eth0)")
        );
        assert!(instead("dummy0").unwrap().starts_with("this is a dummy"));
        assert!(instead("gre1").unwrap().contains("no Ethernet header"));
        assert_eq!(instead("eth0"), None);
        assert_eq!(instead("br0"), None);
    }

    #[test]
    fn an_interface_and_its_upper_one_named_together_are_one_too_many() {
        let of = |ifindex, name, kind, lower| Netdev {
            kind,
            lower,
            ..netdev(ifindex, name, &[])
        };
        let port = |ifindex, name, master| Netdev {
            master: Some(master),
            ..netdev(ifindex, name, &[])
        };
        let netdevs = Netdevs(vec![
            netdev(1, "eth0", &[]),
            of(2, "eth0.5", Kind::Vlan, Some(1)),
            of(3, "bond0", Kind::Bond, None),
            port(4, "eth1", 3),
            port(5, "eth2", 3),
            of(6, "br0", Kind::Bridge, None),
            port(7, "eth3", 6),
        ]);
        let complaints = |names: &[&str]| {
            let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
            netdevs.needless(&names)
        };
        assert!(complaints(&["eth0", "bond0", "br0"]).is_empty());
        let found = complaints(&["eth0.5", "eth0"]);
        assert!(
            found.len() == 1 && found[0].ends_with("leave eth0.5 out"),
            "{found:?}"
        );
        let found = complaints(&["eth1", "bond0", "eth2"]);
        assert!(
            found.len() == 1 && found[0].ends_with("leave eth1, eth2 out"),
            "{found:?}"
        );
        let found = complaints(&["br0", "eth3"]);
        assert!(
            found.len() == 1 && found[0].ends_with("leave br0 out"),
            "{found:?}"
        );
    }

    #[test]
    fn an_address_is_listened_on_in_the_vrfs_that_it_may_be_asked_in() {
        let netdevs = Netdevs(vec![
            netdev(1, "lo", &["127.0.0.1", "198.51.100.2"]),
            Netdev {
                kind: Kind::Vrf,
                ..netdev(2, "blue", &["198.51.100.1"])
            },
            Netdev {
                master: Some(2),
                ..netdev(3, "eth0", &["192.0.2.1"])
            },
            Netdev {
                kind: Kind::Vlan,
                lower: Some(3),
                ..netdev(4, "eth0.5", &["192.0.2.2"])
            },
            // A bridge is no VRF.
            Netdev {
                kind: Kind::Bridge,
                ..netdev(5, "br0", &["192.0.2.3"])
            },
            Netdev {
                master: Some(5),
                ..netdev(6, "eth1", &["192.0.2.4", "192.0.2.1"])
            },
        ]);
        let blue = Some("blue");
        for (address, names, expected) in [
            ("192.0.2.1", &["eth0"][..], &[blue][..]),
            ("192.0.2.1", &["eth1"], &[None]),
            ("192.0.2.1", &["eth0", "eth1"], &[None, blue]),
            // A VLAN may be outside of the VRF that its interface is in.
            ("192.0.2.2", &["eth0"], &[None]),
            // Addresses of a VRF or of loopback, that belong to no interface of ours.
            ("198.51.100.1", &["eth0"], &[blue]),
            ("198.51.100.2", &["eth0"], &[None]),
            // One that is to come.
            ("203.0.113.1", &["eth1"], &[None]),
            ("203.0.113.1", &["eth0", "eth1"], &[None, blue]),
            ("203.0.113.1", &[], &[None]),
        ] {
            let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
            let vrfs = netdevs.vrfs(address.parse().unwrap(), &names);
            let expected = expected.iter().map(|vrf| vrf.map(str::to_owned));
            assert_eq!(vrfs, expected.collect(), "{address} {names:?}");
        }
    }
}

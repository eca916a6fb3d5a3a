//! The table of addresses that are answered on.

use std::collections::{BTreeMap, BTreeSet};
use std::mem::offset_of;
use std::net::IpAddr;
use std::os::fd::BorrowedFd;

use geodns_common::layout::Listen;

use super::mmap::{Mapping, Value};
use super::netdev::{Kind, Mac, Netdev, Netdevs};
use super::{Error, sys};

// SAFETY: two u64, two u32 and a u64: 32 bytes, as abi asserts.
unsafe impl Value for Listen {}

/// An address, IPv4 mapped, or a VLAN, and the index of the interface that a packet to it comes in by.
pub type Key = ([u8; 16], u32);

/// The MAC address of a row, and [`Listen::GENERIC`].
pub type Owner = u64;

/// The table, and what is in it.
#[derive(Debug)]
pub struct Listening {
    table: Mapping,
    /// Slot and owner of each row.
    rows: BTreeMap<Key, (u32, Owner)>,
}

/// The rows for addresses on attached interfaces, generic or not. A packet to an address may come in by any of them,
/// addressed to the interface, or to one whose frames come in through it.
pub fn rows(
    addresses: &BTreeSet<IpAddr>,
    attached: impl Iterator<Item = (u32, bool)>,
    netdevs: &Netdevs,
) -> BTreeMap<Key, Owner> {
    let mut rows = BTreeMap::new();
    for (ifindex, generic) in attached {
        for through in netdevs.runs_on(ifindex, generic) {
            add_rows(&mut rows, addresses, through, generic, netdevs);
        }
    }
    rows
}

fn add_rows(
    rows: &mut BTreeMap<Key, Owner>,
    addresses: &BTreeSet<IpAddr>,
    through: &Netdev,
    generic: bool,
    netdevs: &Netdevs,
) {
    let ifindex = through.ifindex;
    let mode = if generic { Listen::GENERIC } else { 0 };
    let default = netdevs.mac(ifindex).unwrap_or(through.mac);
    for &address in addresses {
        let mut uppers = netdevs.with_uppers(ifindex);
        let owner = uppers.find(|netdev| netdev.addresses.contains(&address));
        let mac = match owner {
            // Frames for a bond have the MAC address of the port.
            Some(owner) if owner.kind != Kind::Bond => owner.mac,
            _ => default,
        };
        rows.insert(key(address, ifindex), mac | mode);
    }
    for (vlan, mac) in netdevs.vlans(ifindex) {
        rows.insert(vlan_key(vlan, ifindex), mac | mode);
    }
}

/// The key of an address on an interface.
pub fn key(address: IpAddr, ifindex: u32) -> Key {
    let address = match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => address.octets(),
    };
    (address, ifindex)
}

/// The key of a VLAN upon an interface.
pub fn vlan_key(vlan: u64, ifindex: u32) -> Key {
    (bytemuck::cast([Listen::VLAN, vlan]), ifindex)
}

/// The slots that a row may be in.
fn slots(key: &Key) -> impl Iterator<Item = u32> {
    let home = Listen::home(bytemuck::cast(key.0), key.1);
    (0..Listen::PROBES).map(move |probe| home.wrapping_add(probe) & (Listen::SLOTS - 1))
}

impl Listening {
    /// Takes the table as it is, whoever filled it.
    pub fn new(map: BorrowedFd<'_>) -> std::io::Result<Self> {
        let table = Mapping::new(map, size_of::<Listen>(), Listen::SLOTS)?;
        let mut rows = BTreeMap::new();
        for slot in 0..Listen::SLOTS {
            let mac = table.load_u64(slot, offset_of!(Listen, mac));
            if mac & Listen::IN_USE != 0 {
                let word = |at: usize| table.load_u64(slot, at);
                let address: [u8; 16] = bytemuck::cast([word(0), word(8)]);
                // Index and padding, of which the first four octets are the index.
                let [ifindex, _]: [u32; 2] = bytemuck::cast(word(offset_of!(Listen, ifindex)));
                rows.insert((address, ifindex), (slot, mac & !Listen::IN_USE));
            }
        }
        Ok(Self { table, rows })
    }

    /// Makes the table hold these rows. On an error it holds what it held.
    pub fn sync(&mut self, wanted: BTreeMap<Key, Owner>) -> Result<(), Error> {
        let gone: Vec<Key> = self
            .rows
            .keys()
            .filter(|key| !wanted.contains_key(*key))
            .copied()
            .collect();
        let placed = self.place(&wanted, &gone)?;
        for key in &gone {
            if let Some((slot, _)) = self.rows.remove(key) {
                self.table.store_u64(slot, offset_of!(Listen, mac), 0);
            }
        }
        // A program may just have found a row that is gone by now: its slot is not for another one
        // before it is done. Nor may it see a row before all of its key is there.
        let wait = || {
            sys::grace().map_err(|error| Error::Map {
                map: "LISTEN",
                reason: error.to_string(),
            })
        };
        if !placed.is_empty() {
            wait()?;
            for (key, slot) in &placed {
                let row = Listen {
                    address: bytemuck::cast(key.0),
                    ifindex: key.1,
                    ..Listen::default()
                };
                self.table.write(*slot, &row);
            }
            wait()?;
        }
        for (key, mac) in wanted {
            let known = self.rows.get(&key).copied();
            let Some(slot) = placed.get(&key).copied().or(known.map(|(slot, _)| slot)) else {
                continue;
            };
            if known != Some((slot, mac)) {
                self.table
                    .store_u64(slot, offset_of!(Listen, mac), Listen::IN_USE | mac);
                self.rows.insert(key, (slot, mac));
            }
        }
        Ok(())
    }

    /// Slots for what is new, among those that are empty once what is gone has left.
    fn place(
        &self,
        wanted: &BTreeMap<Key, Owner>,
        gone: &[Key],
    ) -> Result<BTreeMap<Key, u32>, Error> {
        let stays =
            |(key, (slot, _)): (&Key, &(u32, Owner))| (!gone.contains(key)).then_some(*slot);
        let mut taken: BTreeSet<u32> = self.rows.iter().filter_map(stays).collect();
        let mut placed = BTreeMap::new();
        for key in wanted.keys().filter(|key| !self.rows.contains_key(*key)) {
            let slot = slots(key)
                .find(|slot| !taken.contains(slot))
                .ok_or(Error::TooManyAddresses { rows: wanted.len() })?;
            taken.insert(slot);
            placed.insert(*key, slot);
        }
        Ok(placed)
    }

    /// The MAC address of a row.
    pub fn mac(&self, key: &Key) -> Option<Mac> {
        self.rows
            .get(key)
            .map(|(_, owner)| owner & !Listen::GENERIC)
    }

    /// The rows: keys and owners.
    pub fn rows(&self) -> BTreeMap<Key, Owner> {
        let rows = self.rows.iter();
        rows.map(|(key, (_, owner))| (*key, *owner)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::netdev::Netdev;

    fn netdev(ifindex: u32, name: &str, vlan: Option<(u32, u32)>, addresses: &[&str]) -> Netdev {
        Netdev {
            ifindex,
            name: name.to_owned(),
            mac: u64::from(ifindex) << 8,
            kind: vlan.map_or(Kind::Card, |_| Kind::Vlan),
            lower: vlan.map(|(of, _)| of),
            tag: vlan.map_or(0, |(_, tag)| tag),
            addresses: addresses.iter().map(|text| text.parse().unwrap()).collect(),
            ..Netdev::default()
        }
    }

    fn check(attached: &[u32], addresses: &[&str], expected: &[(&str, u32, Mac)]) {
        let netdevs = Netdevs::from(vec![
            netdev(1, "eth0", None, &["192.0.2.1"]),
            netdev(2, "eth0.5", Some((1, 5)), &["192.0.2.2"]),
            netdev(3, "eth0.5.6", Some((2, 6)), &["192.0.2.3", "2001:db8::3"]),
            netdev(4, "eth1", None, &["192.0.2.4"]),
        ]);
        let addresses = addresses.iter().map(|text| text.parse().unwrap()).collect();
        let mut rows = rows(
            &addresses,
            attached.iter().map(|&ifindex| (ifindex, false)),
            &netdevs,
        );
        let vlans = [(Listen::vlan(5, 0), 0x200), (Listen::vlan(5, 6), 0x300)];
        for (vlan, mac) in vlans {
            let found = rows.remove(&vlan_key(vlan, 1));
            assert_eq!(found, attached.contains(&1).then_some(mac));
        }
        let expected = expected
            .iter()
            .map(|&(address, ifindex, mac)| (key(address.parse().unwrap(), ifindex), mac))
            .collect();
        assert_eq!(rows, expected);
    }

    #[test]
    fn vlans_of_a_bond_come_in_through_its_parts() {
        let of = |parts: &[Netdev]| Netdevs::from(parts.to_vec());
        let part = |ifindex, master| Netdev {
            master,
            ..netdev(ifindex, "eth", None, &[])
        };
        let netdevs = of(&[
            part(1, Some(3)),
            part(2, None),
            part(3, Some(4)),
            part(4, None),
            netdev(5, "bond0.7", Some((3, 7)), &[]),
            netdev(6, "br0.8", Some((4, Listen::tag(true, 8))), &[]),
            netdev(7, "br0.8.9", Some((6, 9)), &[]),
            netdev(8, "br0.0", Some((4, 0)), &[]),
        ]);
        let outer = Listen::tag(true, 8);
        let want = [
            (Listen::vlan(7, 0), 0x500),
            (Listen::vlan(outer, 0), 0x600),
            (Listen::vlan(outer, 9), 0x700),
        ];
        assert_eq!(netdevs.vlans(1), want);
        assert_eq!(netdevs.vlans(2), []);
        assert_eq!(netdevs.vlans(3), want);
        assert_eq!(netdevs.vlans(4), want[1..]);
    }

    /// An interface: index, kind, lower interface, master, addresses.
    type Part<'a> = (u32, Kind, Option<u32>, Option<u32>, &'a [&'a str]);

    /// The rows of what is attached, in a world of interfaces.
    fn world(
        netdevs: &[Part<'_>],
        attached: (u32, bool),
        addresses: &[&str],
    ) -> Vec<(String, u32, Owner)> {
        let netdevs = netdevs
            .iter()
            .map(|&(index, kind, lower, master, addresses)| Netdev {
                kind,
                lower,
                master,
                ..netdev(index, "", None, addresses)
            });
        let netdevs = Netdevs::from(netdevs.collect::<Vec<_>>());
        let addresses = addresses.iter().map(|text| text.parse().unwrap()).collect();
        let rows = rows(&addresses, [attached].into_iter(), &netdevs);
        let shown = |((address, ifindex), owner): (Key, Owner)| {
            let address = std::net::Ipv6Addr::from(address).to_canonical();
            (address.to_string(), ifindex, owner)
        };
        rows.into_iter().map(shown).collect()
    }

    fn row(address: &str, ifindex: u32, owner: Owner) -> (String, u32, Owner) {
        (address.to_owned(), ifindex, owner)
    }

    #[test]
    fn a_driver_runs_the_program_of_a_bond_for_its_ports() {
        let bond = [
            (1, Kind::Card, None, Some(3), &[][..]),
            (2, Kind::Card, None, Some(3), &[]),
            (3, Kind::Bond, None, None, &["192.0.2.1"]),
            (4, Kind::Macvlan, Some(3), None, &["192.0.2.2"]),
        ];
        let addresses = &["192.0.2.1", "192.0.2.2", "198.51.100.1"];
        let mut want = Vec::new();
        for (address, owner) in [
            ("192.0.2.1", None),
            ("192.0.2.2", Some(0x400)),
            ("198.51.100.1", None),
        ] {
            for ifindex in 1..=3 {
                let own = u64::from(ifindex) << 8;
                want.push(row(address, ifindex, owner.unwrap_or(own)));
            }
        }
        assert_eq!(world(&bond, (3, false), addresses), want);
        let generic = |row: &(String, u32, Owner)| (row.0.clone(), row.1, row.2 | Listen::GENERIC);
        let want: Vec<_> = want.iter().filter(|row| row.1 == 3).map(generic).collect();
        assert_eq!(world(&bond, (3, true), addresses), want);
    }

    #[test]
    fn a_virtual_function_runs_the_program_of_the_synthetic_card() {
        let azure = [
            (1, Kind::Card, None, None, &["192.0.2.1"][..]),
            (2, Kind::Card, None, Some(1), &[]),
        ];
        let want = [row("192.0.2.1", 1, 0x100), row("192.0.2.1", 2, 0x200)];
        assert_eq!(world(&azure, (1, false), &["192.0.2.1"]), want);
    }

    #[test]
    fn frames_for_a_bridge_or_a_macvlan_have_its_mac_address() {
        let host = [
            (1, Kind::Card, None, Some(2), &[][..]),
            (2, Kind::Bridge, None, None, &["192.0.2.1"]),
            (3, Kind::Card, None, None, &["192.0.2.2"]),
            (4, Kind::Macvlan, Some(3), None, &["192.0.2.3"]),
            (5, Kind::Vrf, None, None, &[]),
            (6, Kind::Card, None, Some(5), &["192.0.2.4"]),
        ];
        let anycast = "198.51.100.1";
        let want = [row("192.0.2.1", 1, 0x200), row(anycast, 1, 0x200)];
        assert_eq!(world(&host, (1, false), &["192.0.2.1", anycast]), want);
        let want = [
            row("192.0.2.2", 3, 0x300),
            row("192.0.2.3", 3, 0x400),
            row(anycast, 3, 0x300),
        ];
        let addresses = &["192.0.2.2", "192.0.2.3", anycast];
        assert_eq!(world(&host, (3, false), addresses), want);
        assert_eq!(
            world(&host, (6, false), &["192.0.2.4"]),
            [row("192.0.2.4", 6, 0x600)]
        );
        // A program on the bridge itself has frames that its ports have passed on.
        assert_eq!(
            world(&host, (2, false), &["192.0.2.1"]),
            [row("192.0.2.1", 2, 0x200)]
        );
    }

    #[test]
    fn packets_for_a_vlan_come_in_through_what_it_stands_on() {
        check(&[1], &["192.0.2.1"], &[("192.0.2.1", 1, 0x100)]);
        check(&[1], &["192.0.2.2"], &[("192.0.2.2", 1, 0x200)]);
        check(&[1], &["192.0.2.3"], &[("192.0.2.3", 1, 0x300)]);
        check(&[1], &["2001:db8::3"], &[("2001:db8::3", 1, 0x300)]);
    }

    #[test]
    fn an_anycast_address_is_answered_on_every_interface() {
        check(
            &[1, 4],
            &["198.51.100.53"],
            &[("198.51.100.53", 1, 0x100), ("198.51.100.53", 4, 0x400)],
        );
    }

    #[test]
    fn nothing_is_answered_where_nothing_is_attached() {
        check(&[], &["192.0.2.1"], &[]);
        check(&[9], &["192.0.2.1"], &[]);
    }

    #[test]
    fn ipv4_addresses_are_mapped() {
        let (address, ifindex) = key("192.0.2.1".parse().unwrap(), 7);
        assert_eq!(
            address,
            [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 192, 0, 2, 1]
        );
        assert_eq!(ifindex, 7);
    }

    #[test]
    fn homes_are_spread() {
        // Addresses of one network on a few interfaces: what a server has.
        let mut slots = BTreeSet::new();
        for ifindex in 1..=4 {
            for host in 0..=255 {
                let (address, _) = key(IpAddr::from([192, 0, 2, host]), ifindex);
                slots.insert(Listen::home(bytemuck::cast(address), ifindex));
            }
        }
        // 1,024 in 16,384 slots at random would be some 990 different ones.
        assert!(slots.len() > 950, "{}", slots.len());
    }
}

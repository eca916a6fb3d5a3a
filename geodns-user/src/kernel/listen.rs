//! The table of addresses that are answered on.

use std::collections::{BTreeMap, BTreeSet};
use std::mem::offset_of;
use std::net::IpAddr;
use std::os::fd::BorrowedFd;

use geodns_common::layout::Listen;

use super::mmap::{Mapping, Value};
use super::netdev::{Mac, Netdevs};
use super::{Error, sys};

// SAFETY: two u64, two u32 and a u64: 32 bytes, as abi asserts.
unsafe impl Value for Listen {}

/// An address, IPv4 mapped, or a VLAN, and the index of the interface that a packet to it comes in by.
pub type Key = ([u8; 16], u32);

/// The table, and what is in it.
#[derive(Debug)]
pub struct Listening {
    table: Mapping,
    /// Slot and MAC address of each row.
    rows: BTreeMap<Key, (u32, Mac)>,
}

/// The rows for addresses on attached interfaces, and for the VLANs of these. A packet to an address may come in
/// by any of them, addressed to the interface or to a VLAN upon it.
pub fn rows(
    addresses: &BTreeSet<IpAddr>,
    attached: impl Iterator<Item = u32>,
    netdevs: &Netdevs,
) -> BTreeMap<Key, Mac> {
    let mut rows = BTreeMap::new();
    for ifindex in attached {
        for &address in addresses {
            let mut mac = None;
            for netdev in netdevs.with_vlans(ifindex) {
                if netdev.ifindex == ifindex || netdev.addresses.contains(&address) {
                    mac = Some(netdev.mac);
                }
                if netdev.addresses.contains(&address) {
                    break;
                }
            }
            if let Some(mac) = mac {
                rows.insert(key(address, ifindex), mac);
            }
        }
        for (vlan, mac) in netdevs.vlans(ifindex) {
            rows.insert(vlan_key(vlan, ifindex), mac);
        }
    }
    rows
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
    pub fn sync(&mut self, wanted: BTreeMap<Key, Mac>) -> Result<(), Error> {
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
        wanted: &BTreeMap<Key, Mac>,
        gone: &[Key],
    ) -> Result<BTreeMap<Key, u32>, Error> {
        let stays = |(key, (slot, _)): (&Key, &(u32, Mac))| (!gone.contains(key)).then_some(*slot);
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
        self.rows.get(key).map(|(_, mac)| *mac)
    }

    /// The rows: keys and MAC addresses.
    pub fn rows(&self) -> BTreeMap<Key, Mac> {
        self.rows
            .iter()
            .map(|(key, (_, mac))| (*key, *mac))
            .collect()
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
            vlan_of: vlan.map(|(of, _)| of),
            tag: vlan.map_or(0, |(_, tag)| tag),
            master: None,
            is_vrf: false,
            is_veth: false,
            xdp: None,
            addresses: addresses.iter().map(|text| text.parse().unwrap()).collect(),
            link_local: BTreeSet::new(),
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
        let mut rows = rows(&addresses, attached.iter().copied(), &netdevs);
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

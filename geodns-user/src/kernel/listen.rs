//! The map of addresses that are answered on.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use aya::maps::{HashMap, MapData, MapError};
use geodns_common::abi::Listen;

use super::Error;
use super::netdev::{Mac, Netdevs};

/// [`Listen`], as aya takes it.
pub type Key = [u8; size_of::<Listen>()];

/// The map, and what is in it.
#[derive(Debug)]
pub struct Listening {
    map: HashMap<MapData, Key, u64>,
    rows: BTreeMap<Key, Mac>,
}

/// The rows for addresses on attached interfaces. A packet to an address may come in by any of
/// them, addressed to the interface or to a VLAN upon it.
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
    }
    rows
}

fn key(address: IpAddr, ifindex: u32) -> Key {
    let address = match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => address.octets(),
    };
    bytemuck::cast(Listen { address, ifindex })
}

impl Listening {
    /// Takes the map as it is, whoever filled it.
    pub fn new(map: HashMap<MapData, Key, u64>) -> Result<Self, Error> {
        let rows = map
            .iter()
            .collect::<Result<_, _>>()
            .map_err(Error::listen)?;
        Ok(Self { map, rows })
    }

    /// Makes the map hold these rows: first what is new, then away with what is not wanted.
    pub fn sync(&mut self, wanted: BTreeMap<Key, Mac>) -> Result<(), Error> {
        for (key, mac) in &wanted {
            if self.rows.get(key) != Some(mac) {
                self.map.insert(key, mac, 0).map_err(|error| match error {
                    MapError::SyscallError(ref call)
                        if call.io_error.raw_os_error() == Some(libc::E2BIG) =>
                    {
                        Error::TooManyAddresses { rows: wanted.len() }
                    }
                    other => Error::listen(other),
                })?;
                self.rows.insert(*key, *mac);
            }
        }
        let gone: Vec<Key> = self
            .rows
            .keys()
            .filter(|key| !wanted.contains_key(*key))
            .copied()
            .collect();
        for key in gone {
            match self.map.remove(&key) {
                Ok(()) | Err(MapError::KeyNotFound | MapError::ElementNotFound) => {}
                Err(error) => return Err(Error::listen(error)),
            }
            self.rows.remove(&key);
        }
        Ok(())
    }

    /// Rows in the map.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::netdev::Netdev;

    fn netdev(ifindex: u32, name: &str, vlan_of: Option<u32>, addresses: &[&str]) -> Netdev {
        Netdev {
            ifindex,
            name: name.to_owned(),
            mac: u64::from(ifindex) << 8,
            vlan_of,
            xdp: None,
            addresses: addresses.iter().map(|text| text.parse().unwrap()).collect(),
        }
    }

    fn check(attached: &[u32], addresses: &[&str], expected: &[(&str, u32, Mac)]) {
        let netdevs = Netdevs::from(vec![
            netdev(1, "eth0", None, &["192.0.2.1"]),
            netdev(2, "eth0.5", Some(1), &["192.0.2.2"]),
            netdev(3, "eth0.5.6", Some(2), &["192.0.2.3", "2001:db8::3"]),
            netdev(4, "eth1", None, &["192.0.2.4"]),
        ]);
        let addresses = addresses.iter().map(|text| text.parse().unwrap()).collect();
        let expected = expected
            .iter()
            .map(|&(address, ifindex, mac)| (key(address.parse().unwrap(), ifindex), mac))
            .collect();
        assert_eq!(
            rows(&addresses, attached.iter().copied(), &netdevs),
            expected
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
        let key: Listen = bytemuck::pod_read_unaligned(&key("192.0.2.1".parse().unwrap(), 7));
        assert_eq!(
            key.address,
            [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 192, 0, 2, 1]
        );
        assert_eq!(key.ifindex, 7);
    }
}

//! The network cards of a guest, and the wires at their other ends.
//!
//! Each card is joined to a bridge on this machine, in a network namespace that is made for it. So is one card more, by
//! which the guest's tests ask: who asks and who answers are both in the guest, and everything goes over a wire that has
//! all the offloads of a hypervisor's.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::Result;

use super::qemu::Emulator;
use crate::cmd::{self, say};

/// Drivers of the cards, and what stands upon them in tests.
pub const MODULES: [&str; 12] = [
    "virtio_net",
    "igb",
    "e1000e",
    "e1000",
    "vmxnet3",
    "8139cp",
    "bonding",
    "macvlan",
    "ip_gre",
    "wireguard",
    "dummy",
    "tun",
];

/// The device that the fewest versions of qemu have.
pub const RAREST: &str = "igb";

/// A network card.
struct Card {
    /// Its name in the tests.
    name: &'static str,
    /// qemu's device.
    device: &'static str,
    /// Properties of the device.
    properties: &'static str,
    queues: usize,
}

const fn card(name: &'static str, device: &'static str, properties: &'static str) -> Card {
    Card {
        name,
        device,
        properties,
        queues: 1,
    }
}

/// The first is the one that asks.
const CARDS: [Card; 11] = [
    card("client", "virtio-net-pci", ""),
    // Two for each CPU, as the driver wants them for XDP.
    Card {
        queues: 4,
        ..card("virtio-queues", "virtio-net-pci", ",mq=on,vectors=10")
    },
    card("virtio-single", "virtio-net-pci", ""),
    card("virtio-big-buffers", "virtio-net-pci", ",mrg_rxbuf=off"),
    card(
        "virtio-fixed-offloads",
        "virtio-net-pci",
        ",ctrl_guest_offloads=off",
    ),
    card("virtio-jumbo", "virtio-net-pci", ",host_mtu=9000"),
    card("igb", "igb", ""),
    card("e1000e", "e1000e", ""),
    card("e1000", "e1000", ""),
    card("vmxnet3", "vmxnet3", ""),
    card("rtl8139", "rtl8139", ""),
];

/// Begins the names of the namespaces; the rest is the process that made it.
const PREFIX: &str = "geodns-guest-";

/// A network namespace with a bridge and, for each card, a tap on it; removed when dropped.
pub struct Wires {
    space: String,
    /// Those that the emulator has, with their numbers.
    cards: Vec<(usize, &'static Card)>,
}

impl Wires {
    /// Of all cards that an emulator has; says which it has not.
    pub fn new(emulator: &Emulator) -> Result<Self> {
        sweep()?;
        let cards: Vec<_> = CARDS.iter().enumerate().collect();
        let (cards, missing): (Vec<_>, Vec<_>) = cards
            .into_iter()
            .partition(|(_, card)| emulator.has(card.device));
        for (_, card) in missing {
            say(format!(
                "left out: {}: this qemu has no such card",
                card.name
            ));
        }
        let space = format!("{PREFIX}{}", std::process::id());
        cmd::output(Command::new("ip").args(["netns", "add", &space]))?;
        let wires = Self { space, cards };
        wires.ip("link add wire type bridge stp_state 0 forward_delay 0 mcast_snooping 0")?;
        wires.ip("link set wire up")?;
        for (number, card) in &wires.cards {
            let queues = match card.queues {
                1 => "",
                _ => " multi_queue",
            };
            wires.ip(&format!("tuntap add mode tap{queues} name tap{number}"))?;
            wires.ip(&format!("link set tap{number} master wire up"))?;
        }
        Ok(wires)
    }

    fn ip(&self, words: &str) -> Result<String> {
        let mut ip = Command::new("ip");
        ip.args(["-n", &self.space]).args(words.split_whitespace());
        cmd::output(&mut ip)
    }

    /// The namespace's name.
    pub fn space(&self) -> &str {
        &self.space
    }

    /// The cards by name, each with its MAC address, as the tests read them.
    pub fn names(&self) -> String {
        let name = |(number, card): &(usize, &Card)| format!("{}={}", card.name, mac(*number));
        self.cards.iter().map(name).collect::<Vec<_>>().join(" ")
    }

    /// qemu's arguments for the cards.
    pub fn devices(&self) -> Vec<String> {
        let mut devices = Vec::new();
        for (number, card) in &self.cards {
            let queues = match card.queues {
                1 => String::new(),
                queues => format!(",queues={queues}"),
            };
            let Card {
                device, properties, ..
            } = card;
            let mac = mac(*number);
            devices.extend([
                "-netdev".to_owned(),
                format!(
                    "tap,id=net{number},ifname=tap{number},script=no,downscript=no,vhost=off{queues}"
                ),
                "-device".to_owned(),
                format!("{device},netdev=net{number},mac={mac},romfile={properties}"),
            ]);
        }
        devices
    }
}

impl Drop for Wires {
    fn drop(&mut self) {
        let _ = cmd::output(Command::new("ip").args(["netns", "del", &self.space]));
    }
}

fn mac(number: usize) -> String {
    format!("52:54:00:67:64:{number:02x}")
}

/// Removes what killed processes have left.
fn sweep() -> Result<()> {
    for entry in fs::read_dir("/run/netns").into_iter().flatten().flatten() {
        let name = entry.file_name();
        let owner = name.to_str().and_then(|name| name.strip_prefix(PREFIX));
        if owner.is_some_and(|owner| !Path::new("/proc").join(owner).exists()) {
            cmd::output(Command::new("ip").args(["netns", "del"]).arg(&name))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_card_has_a_tap_and_an_address_of_its_own() {
        let wires = Wires {
            space: "none-such".into(),
            cards: CARDS.iter().enumerate().take(2).collect(),
        };
        assert_eq!(
            wires.names(),
            "client=52:54:00:67:64:00 virtio-queues=52:54:00:67:64:01"
        );
        let devices = wires.devices();
        assert_eq!(
            devices[2..],
            [
                "-device",
                "virtio-net-pci,netdev=net0,mac=52:54:00:67:64:00,romfile=",
                "-netdev",
                "tap,id=net1,ifname=tap1,script=no,downscript=no,vhost=off,queues=4",
                "-device",
                "virtio-net-pci,netdev=net1,mac=52:54:00:67:64:01,romfile=,mq=on,vectors=10",
            ]
        );
    }
}

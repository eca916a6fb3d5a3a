//! Offloads of cards that are otherwise while the program is attached, and are given back.
//!
//! - rxvlan: the program would not see the VLAN tags that a card takes off, nor send them back. It is off on the
//!   interface that the program is attached to natively, and on every interface that the program runs on, such as the
//!   ports of a bond, while VLANs are upon it.
//! - LRO: some drivers, and generic mode, turn it off for a program and leave it off afterwards.
//!
//! The pins have a note of each that is off, for the next daemon.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use super::link::Attachment;
use super::netdev::{Netdev, Netdevs};
use super::pins::Pins;
use super::{Error, ethtool};

/// An offload that may be otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Offload {
    /// The card takes VLAN tags off.
    Rxvlan,
    /// The card joins packets of a connection.
    Lro,
}

impl Offload {
    const ALL: [Self; 2] = [Self::Rxvlan, Self::Lro];

    /// Its name to `ethtool -K`, and that of the folder of its notes.
    fn name(self) -> &'static str {
        match self {
            Self::Rxvlan => "rxvlan",
            Self::Lro => "lro",
        }
    }

    /// Whether it is on. An interface without ethtool has none.
    fn is_on(self, ifindex: u32) -> bool {
        let on = match self {
            Self::Rxvlan => ethtool::rxvlan(ifindex),
            Self::Lro => ethtool::lro(ifindex),
        };
        on.unwrap_or(false)
    }

    fn set(self, ifindex: u32, on: bool) -> io::Result<()> {
        match self {
            Self::Rxvlan => ethtool::set_rxvlan(ifindex, on),
            Self::Lro => ethtool::set_lro(ifindex, on),
        }
    }
}

/// Offloads that are off and were on.
#[derive(Clone, Debug, Default)]
pub struct Offloads {
    /// By interface, each with the name that its note has.
    off: BTreeMap<(Offload, u32), String>,
    /// Interfaces whose rxvlan cannot be turned off: said once.
    stuck: BTreeSet<u32>,
}

impl Offloads {
    /// The ones that the pins have notes of. Notes of interfaces that have gone are removed.
    pub fn noted(pins: &Pins, netdevs: &Netdevs) -> Result<Self, Error> {
        let mut noted = Self::default();
        for offload in Offload::ALL {
            for name in pins.noted(offload.name())? {
                match netdevs.named(&name) {
                    Some(netdev) => {
                        noted.off.insert((offload, netdev.ifindex), name);
                    }
                    None => pins.remove_note(offload.name(), &name),
                }
            }
        }
        Ok(noted)
    }

    /// Attaches the program to an interface, with VLAN tags left in its packets. On an error the program is not
    /// attached, and [`follow`](Self::follow) gives back what is off.
    pub fn attach<T>(
        &mut self,
        pins: &Pins,
        netdev: &Netdev,
        netdevs: &Netdevs,
        generic: bool,
        attach: impl FnOnce() -> Result<T, Error>,
    ) -> Result<T, Error> {
        let runs_on: Vec<&Netdev> = netdevs.runs_on(netdev.ifindex, generic).collect();
        let mut had_lro = runs_on.clone();
        had_lro.retain(|of| Offload::Lro.is_on(of.ifindex));
        let link = attach()?;
        for of in had_lro {
            if !Offload::Lro.is_on(of.ifindex) {
                self.note(pins, Offload::Lro, of);
            }
        }
        // Not before: an interface that refuses the program is tried again and again, and some cards take their link
        // down for a change of this. No address is answered on yet.
        for of in runs_on {
            let has_vlans = !netdevs.vlans(of.ifindex).is_empty();
            // In generic mode the tag travels beside the packet, and comes back with it.
            if !has_vlans && (generic || of.ifindex != netdev.ifindex) {
                continue;
            }
            let interface = of.name.as_str();
            match self.keep_vlan_tags(pins, of) {
                Ok(()) => {}
                Err(_) if generic => {}
                Err(error) if !has_vlans => tracing::info!(
                    interface,
                    cause = %error,
                    "{interface}: it takes VLAN tags off, and that cannot be changed: VLANs upon it need \
                     kernel.mode = \"generic\""
                ),
                Err(source) => {
                    return Err(Error::VlanStripped {
                        interface: interface.to_owned(),
                        source,
                    });
                }
            }
        }
        Ok(link)
    }

    /// Turns off what has to be off where the program is attached now, and gives all else back.
    pub fn follow(&mut self, pins: &Pins, attached: &[Attachment], netdevs: &Netdevs) {
        let mut wanted = BTreeSet::new();
        for at in attached {
            if !at.generic {
                wanted.insert((Offload::Rxvlan, at.ifindex));
            }
            for netdev in netdevs.runs_on(at.ifindex, at.generic) {
                wanted.insert((Offload::Lro, netdev.ifindex));
                if netdevs.vlans(netdev.ifindex).is_empty() {
                    continue;
                }
                wanted.insert((Offload::Rxvlan, netdev.ifindex));
                if let Err(error) = self.keep_vlan_tags(pins, netdev)
                    && !at.generic
                    && self.stuck.insert(netdev.ifindex)
                {
                    let interface = netdev.name.as_str();
                    tracing::warn!(
                        interface,
                        cause = %error,
                        "{interface}: it takes VLAN tags off, and that cannot be changed ({error}): VLANs upon it need \
                         kernel.mode = \"generic\""
                    );
                }
            }
        }
        let unwanted: Vec<_> = self.off.keys().copied().collect();
        for of in unwanted {
            if !wanted.contains(&of) {
                self.give_back(pins, of);
            }
        }
        self.rename(pins, netdevs);
    }

    /// Has a card leave VLAN tags in the packet, if it takes them off.
    fn keep_vlan_tags(&mut self, pins: &Pins, netdev: &Netdev) -> io::Result<()> {
        if Offload::Rxvlan.is_on(netdev.ifindex) {
            Offload::Rxvlan.set(netdev.ifindex, false)?;
            let interface = netdev.name.as_str();
            tracing::info!(
                interface,
                "{interface}: rxvlan is off while the program is attached"
            );
            self.note(pins, Offload::Rxvlan, netdev);
        }
        Ok(())
    }

    fn note(&mut self, pins: &Pins, offload: Offload, netdev: &Netdev) {
        let interface = netdev.name.as_str();
        if let Err(error) = pins.put_note(offload.name(), interface) {
            tracing::warn!(
                interface,
                "{interface}: {} stays off after a crash: {error}",
                offload.name()
            );
        }
        let of = (offload, netdev.ifindex);
        self.off.insert(of, interface.to_owned());
    }

    /// Puts notes where the interfaces' names of now are looked for.
    fn rename(&mut self, pins: &Pins, netdevs: &Netdevs) {
        let renamed = self.off.iter().filter_map(|(&(offload, ifindex), noted)| {
            let netdev = netdevs.at(ifindex)?;
            (netdev.name != *noted).then(|| (offload, netdev, noted.clone()))
        });
        for (offload, netdev, noted) in renamed.collect::<Vec<_>>() {
            pins.remove_note(offload.name(), &noted);
            self.note(pins, offload, netdev);
        }
    }

    /// Sees to it that there is a note of each that is off.
    pub fn put_notes(&self, pins: &Pins) -> Result<(), Error> {
        let mut off = self.off.iter();
        off.try_for_each(|((offload, _), name)| pins.put_note(offload.name(), name))
    }

    /// Gives back all that is off and was not yet at a time before.
    pub fn give_back_since(&mut self, pins: &Pins, before: &Self) {
        let mut since: Vec<_> = self.off.keys().copied().collect();
        since.retain(|of| !before.off.contains_key(of));
        for of in since {
            self.give_back(pins, of);
        }
    }

    /// Gives all back; the interfaces that have each again.
    pub fn give_all_back(&mut self, pins: &Pins) -> BTreeSet<(Offload, u32)> {
        let mut all: BTreeSet<_> = self.off.keys().copied().collect();
        all.retain(|&of| self.give_back(pins, of));
        all
    }

    /// Whether it is on again.
    fn give_back(&mut self, pins: &Pins, of: (Offload, u32)) -> bool {
        let Some(interface) = self.off.remove(&of) else {
            return false;
        };
        let (offload, ifindex) = of;
        let name = offload.name();
        pins.remove_note(name, &interface);
        match offload.set(ifindex, true) {
            Ok(()) => {
                tracing::info!(interface, "{interface}: {name} is on again");
                return true;
            }
            // The interface has gone.
            Err(error) if matches!(error.raw_os_error(), Some(libc::ENODEV | libc::ENXIO)) => {}
            Err(error) => {
                tracing::warn!(interface, cause = %error, "{interface}: {name} stays off: {error}");
            }
        }
        false
    }
}

//! Offloads of cards that are otherwise while the program is attached, and are given back.
//!
//! What is changed is noted in the pins, for the next daemon. The interface that the program is attached to natively has
//! a note of its own for rxvlan ([`Attachment::had_rxvlan`]). All else is here:
//!
//! - rxvlan of every interface that the program runs on, such as the ports of a bond, while VLANs are upon it: the
//!   program would not see the tags that a card takes off
//! - LRO, which some drivers, and generic mode, turn off for a program and leave off afterwards

use std::collections::BTreeSet;
use std::io;

use nix::net::if_::if_nametoindex;

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

/// Offloads that are off and were on, each with the interface's name.
#[derive(Clone, Debug, Default)]
pub struct Offloads {
    off: BTreeSet<(Offload, String)>,
    /// Interfaces whose rxvlan cannot be turned off: said once.
    stuck: BTreeSet<u32>,
}

impl Offloads {
    /// The ones that the pins have notes of.
    pub fn noted(pins: &Pins) -> Result<Self, Error> {
        let mut off = BTreeSet::new();
        for offload in Offload::ALL {
            let names = pins.noted(offload.name())?.into_iter();
            off.extend(names.map(|name| (offload, name)));
        }
        Ok(Self {
            off,
            ..Self::default()
        })
    }

    /// Attaches the program to an interface, and notes if its driver turns LRO off for that.
    pub fn attach(
        &mut self,
        pins: &Pins,
        netdev: &Netdev,
        attach: impl FnOnce() -> Result<Attachment, Error>,
    ) -> Result<Attachment, Error> {
        let had_lro = Offload::Lro.is_on(netdev.ifindex);
        let attachment = attach()?;
        if had_lro && !Offload::Lro.is_on(netdev.ifindex) {
            self.note(pins, Offload::Lro, netdev);
        }
        Ok(attachment)
    }

    /// Turns off what has to be off where the program is attached now, and gives all else back.
    pub fn follow<'a>(
        &mut self,
        pins: &Pins,
        attached: impl Iterator<Item = &'a Attachment> + Clone,
        netdevs: &Netdevs,
    ) {
        let is_own = |(offload, name): &(Offload, String)| {
            let mut own = attached.clone().filter(|at| at.had_rxvlan);
            *offload == Offload::Rxvlan && own.any(|at| at.name == *name)
        };
        self.off.retain(|of| !is_own(of));
        let mut wanted = BTreeSet::new();
        for at in attached.clone() {
            if let Some(netdev) = netdevs.at(at.ifindex) {
                wanted.insert((Offload::Lro, netdev.name.clone()));
            }
            for netdev in netdevs.runs_on(at.ifindex, at.generic) {
                if !netdevs.vlans(netdev.ifindex).is_empty() {
                    self.keep_vlan_tags(pins, netdev, at.generic);
                    wanted.insert((Offload::Rxvlan, netdev.name.clone()));
                }
            }
        }
        let unwanted: Vec<_> = self.off.difference(&wanted).cloned().collect();
        for (offload, name) in unwanted {
            self.give_back(pins, offload, &name);
        }
    }

    fn keep_vlan_tags(&mut self, pins: &Pins, netdev: &Netdev, generic: bool) {
        if !Offload::Rxvlan.is_on(netdev.ifindex) {
            return;
        }
        let interface = netdev.name.as_str();
        match Offload::Rxvlan.set(netdev.ifindex, false) {
            Ok(()) => {
                tracing::info!(
                    interface,
                    "{interface}: rxvlan is off while the program answers for VLANs upon it"
                );
                self.note(pins, Offload::Rxvlan, netdev);
            }
            // There the tag travels beside the packet, and comes back with it.
            Err(_) if generic => {}
            Err(error) => {
                if self.stuck.insert(netdev.ifindex) {
                    tracing::warn!(
                        interface,
                        cause = %error,
                        "{interface}: it takes VLAN tags off, and that cannot be changed ({error}): VLANs upon it need \
                         kernel.mode = \"generic\""
                    );
                }
            }
        }
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
        self.off.insert((offload, interface.to_owned()));
    }

    /// Gives back all that is off and was not yet at a time before.
    pub fn give_back_since(&mut self, pins: &Pins, before: &Self) {
        let since: Vec<_> = self.off.difference(&before.off).cloned().collect();
        for (offload, name) in since {
            self.give_back(pins, offload, &name);
        }
    }

    /// Gives all back.
    pub fn give_all_back(&mut self, pins: &Pins) {
        self.give_back_since(pins, &Self::default());
    }

    fn give_back(&mut self, pins: &Pins, offload: Offload, interface: &str) {
        self.off.remove(&(offload, interface.to_owned()));
        pins.remove_note(offload.name(), interface);
        // The interface may have gone.
        let Ok(ifindex) = if_nametoindex(interface) else {
            return;
        };
        let name = offload.name();
        match offload.set(ifindex, true) {
            Ok(()) => tracing::info!(interface, "{interface}: {name} is on again"),
            Err(error) => {
                tracing::warn!(interface, cause = %error, "{interface}: {name} stays off: {error}");
            }
        }
    }
}

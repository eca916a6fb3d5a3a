//! Cards, as ethtool's calls tell of them and change them.
//!
//! An interface is named by its index, which stays when somebody gives it another name.

use std::collections::BTreeMap;
use std::io;
use std::iter;
use std::os::fd::AsRawFd;

use nix::net::if_::if_indextoname;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

const GDRVINFO: u32 = 0x03;
const GSTRINGS: u32 = 0x1b;
const GSTATS: u32 = 0x1d;
const GFLAGS: u32 = 0x25;
const SFLAGS: u32 = 0x26;
const GRXFH: u32 = 0x29;
const GSSET_INFO: u32 = 0x37;
const GFEATURES: u32 = 0x3a;
const GCHANNELS: u32 = 0x3c;

/// Sets of names.
const SS_STATS: u32 = 1;
const SS_FEATURES: u32 = 4;
/// Octets of a name, zeros at its end included.
const NAME: usize = 32;

const FLAG_RXVLAN: u32 = 1 << 8;
const FLAG_LRO: u32 = 1 << 15;

const UDP_V4_FLOW: u32 = 0x02;
const UDP_V6_FLOW: u32 = 0x06;
/// Both octets of the source port, and both of the destination's.
const HASH_PORTS: u32 = 0b11 << 6;

/// A driver, and where the card is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Driver {
    /// The driver's name, such as `virtio_net`.
    pub name: String,
    /// Its version; the kernel's, where it has none of its own.
    pub version: String,
    /// The card's address on its bus, such as `0000:00:03.0`; empty for what is no card.
    pub bus: String,
}

/// Channels (queues with their interrupts), as they are and at the most.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Channels {
    /// Channels that only receive.
    pub rx: u32,
    /// Channels that only send.
    pub tx: u32,
    /// Channels that do both.
    pub combined: u32,
    /// The most of `rx`.
    pub max_rx: u32,
    /// The most of `tx`.
    pub max_tx: u32,
    /// The most of `combined`.
    pub max_combined: u32,
}

/// An offload of a card.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Feature {
    /// Whether it is on.
    pub on: bool,
    /// Whether nobody can change that.
    pub fixed: bool,
}

/// The driver of an interface.
pub fn driver(ifindex: u32) -> io::Result<Driver> {
    let answer = call(ifindex, &[GDRVINFO], 196)?;
    let text = |place: usize| text(answer.get(4 + place * NAME..).unwrap_or_default());
    Ok(Driver {
        name: text(0),
        version: text(1),
        bus: text(3),
    })
}

/// The channels of an interface.
pub fn channels(ifindex: u32) -> io::Result<Channels> {
    let answer = call(ifindex, &[GCHANNELS], 36)?;
    Ok(Channels {
        max_rx: word(&answer, 1),
        max_tx: word(&answer, 2),
        max_combined: word(&answer, 4),
        rx: word(&answer, 5),
        tx: word(&answer, 6),
        combined: word(&answer, 8),
    })
}

/// The offloads of an interface, by the names that the kernel has for them, such as `rx-lro`.
pub fn features(ifindex: u32) -> io::Result<BTreeMap<String, Feature>> {
    let names = names(ifindex, SS_FEATURES)?;
    let blocks = names.len().div_ceil(32);
    let answer = call(ifindex, &[GFEATURES, blocks as u32], 8 + 16 * blocks)?;
    let feature = |number: usize| {
        // available, requested, active, never changed
        let bit = |of: usize| word(&answer, 2 + 4 * (number / 32) + of) >> (number % 32) & 1 != 0;
        Feature {
            on: bit(2),
            fixed: !bit(0) || bit(3),
        }
    };
    let features = names.into_iter().enumerate();
    Ok(features
        .map(|(number, name)| (name, feature(number)))
        .collect())
}

/// The counters of an interface's driver, as `ethtool -S` shows them. They are not counted where other counters are:
/// each driver has names of its own.
pub fn statistics(ifindex: u32) -> io::Result<Vec<(String, u64)>> {
    let names = names(ifindex, SS_STATS)?;
    let answer = call(ifindex, &[GSTATS, names.len() as u32], 8 + 8 * names.len())?;
    let values = answer.get(8..).unwrap_or_default().chunks_exact(8);
    let values = values.map(|octets| u64::from_ne_bytes(octets.try_into().unwrap_or_default()));
    Ok(names.into_iter().zip(values).collect())
}

/// Answers of XDP programs (XDP_TX) that the driver has dropped. `None`: it does not tell.
pub fn dropped_answers(ifindex: u32) -> Option<u64> {
    dropped_of(&statistics(ifindex).ok()?)
}

/// The same, by the driver's counters. Some drivers have a counter for each queue and one of them all.
fn dropped_of(counters: &[(String, u64)]) -> Option<u64> {
    let sum = |of_queues: bool| {
        let counters = counters.iter().filter(|(name, _)| {
            counts_dropped_answers(name)
                && name.contains(|of: char| of.is_ascii_digit()) == of_queues
        });
        counters.map(|(_, count)| *count).reduce(u64::wrapping_add)
    };
    sum(false).or_else(|| sum(true))
}

/// Whether a counter of a driver counts answers of XDP programs that it has dropped.
pub fn counts_dropped_answers(name: &str) -> bool {
    let kinds = ["drop", "full", "err"];
    name.contains("xdp_tx") && kinds.iter().any(|kind| name.contains(kind))
}

/// Whether the card spreads UDP over its queues by ports too, not by addresses alone; of IPv6, or of IPv4.
pub fn hashes_udp_ports(ifindex: u32, ipv6: bool) -> io::Result<bool> {
    let flow = if ipv6 { UDP_V6_FLOW } else { UDP_V4_FLOW };
    let answer = call(ifindex, &[GRXFH, flow], 192)?;
    let fields = answer.get(8..16).unwrap_or_default();
    let fields = u64::from_ne_bytes(fields.try_into().unwrap_or_default());
    Ok(fields as u32 & HASH_PORTS == HASH_PORTS)
}

/// Whether the interface takes VLAN tags off before XDP sees the packet.
pub fn rxvlan(ifindex: u32) -> io::Result<bool> {
    flag(ifindex, FLAG_RXVLAN)
}

/// Turns that on or off.
pub fn set_rxvlan(ifindex: u32, on: bool) -> io::Result<()> {
    set_flag(ifindex, FLAG_RXVLAN, on)
}

/// Whether the interface joins packets of a connection to large ones (LRO).
pub fn lro(ifindex: u32) -> io::Result<bool> {
    flag(ifindex, FLAG_LRO)
}

/// Turns that on or off.
pub fn set_lro(ifindex: u32, on: bool) -> io::Result<()> {
    set_flag(ifindex, FLAG_LRO, on)
}

fn flag(ifindex: u32, flag: u32) -> io::Result<bool> {
    Ok(word(&call(ifindex, &[GFLAGS], 8)?, 1) & flag != 0)
}

fn set_flag(ifindex: u32, which: u32, on: bool) -> io::Result<()> {
    let flags = word(&call(ifindex, &[GFLAGS], 8)?, 1) & !which;
    let wanted = if on { flags | which } else { flags };
    call(ifindex, &[SFLAGS, wanted], 8)?;
    // A driver may take the call and keep what it has.
    if flag(ifindex, which)? == on {
        Ok(())
    } else {
        Err(io::Error::from_raw_os_error(libc::EOPNOTSUPP))
    }
}

/// The names of a set, in their order.
fn names(ifindex: u32, set: u32) -> io::Result<Vec<String>> {
    // command, reserved, mask (two words), number
    let mask = 1 << set;
    let (low, high) = match cfg!(target_endian = "little") {
        true => (mask, 0),
        false => (0, mask),
    };
    let answer = call(ifindex, &[GSSET_INFO, 0, low, high], 20)?;
    let has_it = word(&answer, 2) | word(&answer, 3) != 0;
    let number = if has_it { word(&answer, 4) } else { 0 };
    let answer = call(ifindex, &[GSTRINGS, set], 12 + NAME * number as usize)?;
    let names = answer.get(12..).unwrap_or_default().chunks_exact(NAME);
    Ok(names.take(word(&answer, 2) as usize).map(text).collect())
}

/// Text up to its zero.
fn text(octets: &[u8]) -> String {
    let octets = octets.get(..NAME).unwrap_or(octets);
    let text = octets.split(|&octet| octet == 0).next();
    String::from_utf8_lossy(text.unwrap_or_default()).into_owned()
}

fn word(octets: &[u8], place: usize) -> u32 {
    let word = octets.get(4 * place..4 * place + 4).unwrap_or_default();
    word.try_into().map_or(0, u32::from_ne_bytes)
}

/// A call of ethtool with a request that begins with these words; the answer, which has `length` octets.
fn call(ifindex: u32, request: &[u32], length: usize) -> io::Result<Vec<u8>> {
    /// The kernel writes as many names and counters as there are, which may be more than there were a moment before.
    const MORE: usize = 64 * 1024;
    let mut octets: Vec<u8> = request.iter().flat_map(|word| word.to_ne_bytes()).collect();
    octets.extend(iter::repeat_n(
        0,
        length.saturating_sub(octets.len()) + MORE,
    ));
    let name = if_indextoname(ifindex)?;
    let any = socket(
        AddressFamily::Inet,
        SockType::Datagram,
        SockFlag::SOCK_CLOEXEC,
        None,
    )?;
    // SAFETY: integers, arrays and a pointer: all zeros is a value.
    let mut ifreq: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in ifreq.ifr_name.iter_mut().zip(name.to_bytes()) {
        *to = *from as libc::c_char;
    }
    ifreq.ifr_ifru.ifru_data = octets.as_mut_ptr().cast();
    // SAFETY: `ifreq` and the octets that it points to outlive the call, and are as many as the command's answer has.
    match unsafe { libc::ioctl(any.as_raw_fd(), libc::SIOCETHTOOL, &raw mut ifreq) } {
        -1 => Err(io::Error::last_os_error()),
        _ => {
            octets.truncate(length);
            Ok(octets)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every Linux has a loopback interface, which has offloads and no channels.
    #[test]
    fn loopback_tells_of_itself() {
        let Ok(lo) = nix::net::if_::if_nametoindex("lo") else {
            return;
        };
        let features = features(lo).unwrap();
        assert!(features["loopback"].on && features["loopback"].fixed);
        assert!(features.contains_key("rx-lro") && features.contains_key("rx-gro-hw"));
        assert!(channels(lo).is_err());
        assert!(!rxvlan(lo).unwrap());
    }

    #[test]
    fn answers_that_a_driver_drops_are_summed_up_once() {
        let sum = |counters: &[(&str, u64)]| {
            let counters = counters
                .iter()
                .map(|&(name, count)| (name.to_owned(), count));
            dropped_of(&counters.collect::<Vec<_>>())
        };
        for (driver, counters, expected) in [
            (
                "virtio_net",
                &[
                    ("rx0_xdp_tx", 9),
                    ("rx0_xdp_drops", 9),
                    ("tx0_xdp_tx_drops", 1),
                    ("tx1_xdp_tx_drops", 2),
                ][..],
                Some(3),
            ),
            (
                "mlx5",
                &[
                    ("rx_xdp_tx_full", 3),
                    ("rx_xdp_tx_err", 1),
                    ("rx0_xdp_tx_full", 2),
                    ("rx1_xdp_tx_full", 1),
                ],
                Some(4),
            ),
            (
                "gve",
                &[
                    ("rx_xdp_tx_errors[0]", 2),
                    ("rx_xdp_tx_errors[1]", 0),
                    ("tx_xdp_xmit_errors[0]", 7),
                ],
                Some(2),
            ),
            (
                "veth",
                &[
                    ("rx_queue_0_xdp_tx", 5),
                    ("rx_queue_0_xdp_tx_errors", 0),
                    ("tx_queue_0_xdp_xmit_errors", 4),
                ],
                Some(0),
            ),
            ("igb", &[("rx_packets", 5), ("tx_errors", 2)], None),
        ] {
            assert_eq!(sum(counters), expected, "{driver}");
        }
    }
}

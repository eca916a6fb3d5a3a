//! Drivers: which of them take a program in native mode, on which conditions, and what attaching does to them.
//!
//! A refusal by a driver is a number, and often no text. This table has the reason, and the command that mends it.
//! [`Facts`] are read from an interface; all else is pure.

use std::collections::BTreeMap;
use std::fmt::{self, Display};
use std::fs;
use std::path::Path;
use std::thread;

use Rule::{
    ChannelForEachCpu, Combined, GuestOffloads, HalfOfChannels, Mtu, MtuWithoutFrags, NoBigBuffers,
    NoFunctions, NoGroHw, NoLro,
};
use serde::Serialize;

use super::ethtool::{self, Channels, Feature};
use super::netdev::{Kind, Netdev, Netdevs};

/// The MTU up to which no driver needs the frags mark.
pub const MTU_OF_ALL: u32 = 3000;

/// Major and minor number of a kernel.
pub type Version = (u32, u32);

/// An interface, as far as native mode depends on it.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// The interface's name.
    pub name: String,
    /// Its kind.
    pub kind: Kind,
    /// Its driver, such as `virtio_net`; empty where none is told.
    pub driver: String,
    /// The kernel's version.
    pub kernel: Version,
    /// Octets of a packet, at the most.
    pub mtu: u32,
    /// Whether our program is attached with the frags mark.
    pub has_frags: bool,
    /// Its channels; `None`: none are told.
    pub channels: Option<Channels>,
    /// Its offloads by the kernel's names.
    pub features: BTreeMap<String, Feature>,
    /// Virtual functions that are on (SR-IOV).
    pub functions: u32,
    /// Whether a virtual card receives into chains of pages: packets of any size, and no list of buffers that it merges.
    pub has_big_buffers: bool,
    /// CPUs of this machine.
    pub cpus: u32,
    /// The interfaces that its frames come in by: what it stands on, or its parts.
    pub lowers: Vec<String>,
    /// Whether VLANs stand upon it.
    pub has_vlans: bool,
    /// Whether the kernel panics where it would warn.
    pub panics: bool,
}

/// How much a finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// All is well.
    Ok,
    /// Worth knowing.
    Note,
    /// It keeps the program from being attached, or from answering.
    Problem,
}

/// One finding, with the command that mends it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How much it matters.
    pub level: Level,
    /// The finding, in words.
    pub text: String,
    /// The command, if there is one.
    pub command: Option<String>,
}

impl Finding {
    /// A good one.
    pub fn ok(text: impl Into<String>) -> Self {
        Self::new(Level::Ok, text)
    }

    /// One that is worth knowing.
    pub fn note(text: impl Into<String>) -> Self {
        Self::new(Level::Note, text)
    }

    /// One that must be mended.
    pub fn problem(text: impl Into<String>) -> Self {
        Self::new(Level::Problem, text)
    }

    fn new(level: Level, text: impl Into<String>) -> Self {
        Self {
            level,
            text: text.into(),
            command: None,
        }
    }

    /// The same, with the command that mends it.
    #[must_use]
    pub fn mend(mut self, command: impl Into<String>) -> Self {
        self.command = Some(command.into());
        self
    }
}

impl Display for Finding {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.command {
            None => write!(to, "{}", self.text),
            Some(command) => write!(to, "{}: {command}", self.text),
        }
    }
}

/// A condition of a driver's native mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rule {
    /// A packet has at most this many octets.
    Mtu(u32),
    /// The same below a kernel. From it on the bound is another one, and that of the build without the frags mark alone.
    MtuWithoutFrags(u32, Version, u32),
    /// At most half of the channels are in use: the others send what the program answers.
    HalfOfChannels,
    /// All channels are combined ones.
    Combined,
    /// LRO is off.
    NoLro,
    /// Its hardware joins no packets (`rx-gro-hw`).
    NoGroHw,
    /// No virtual function is on.
    NoFunctions,
    /// Offloads of the guest can be turned off.
    GuestOffloads,
    /// A virtual card does not receive into chains of pages: the driver takes the program then, and does not run it.
    NoBigBuffers,
    /// There is a channel for each CPU to send by, beside those in use; else two CPUs share one.
    ChannelForEachCpu,
}

/// What a driver does to its interface when a program comes or goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Silence {
    /// Next to nothing is lost.
    None,
    /// The card is reset: up to some seconds without packets, longer where its link is negotiated anew.
    Reset,
}

/// A row of the table.
struct Driver {
    /// Its names as ethtool tells them.
    names: &'static [&'static str],
    /// The first kernel whose driver takes programs; `None`: none does.
    since: Option<Version>,
    /// The conditions.
    rules: &'static [Rule],
    /// What attaching does.
    silence: Silence,
}

const fn driver(
    names: &'static [&'static str],
    since: Version,
    rules: &'static [Rule],
    silence: Silence,
) -> Driver {
    Driver {
        names,
        since: Some(since),
        rules,
        silence,
    }
}

const fn generic_only(names: &'static [&'static str]) -> Driver {
    Driver {
        names,
        since: None,
        rules: &[],
        silence: Silence::None,
    }
}

/// The drivers, as Linux 6.1 and 6.12 have them. Bounds of MTU are those of a program without the frags mark, with pages
/// of 4 KiB.
const DRIVERS: &[Driver] = &[
    driver(
        &["virtio_net"],
        (4, 10),
        &[
            GuestOffloads,
            NoBigBuffers,
            MtuWithoutFrags(4064, (6, 3), 3506),
            ChannelForEachCpu,
        ],
        Silence::None,
    ),
    driver(
        &["ena"],
        (5, 6),
        &[Mtu(3498), HalfOfChannels],
        Silence::Reset,
    ),
    driver(
        &["gve", "gvnic"],
        (6, 4),
        &[NoLro, Mtu(2032), HalfOfChannels],
        Silence::Reset,
    ),
    driver(&["hv_netvsc"], (5, 6), &[NoLro, Mtu(3506)], Silence::None),
    driver(&["mana"], (5, 17), &[Mtu(3506)], Silence::None),
    driver(
        &["mlx5_core"],
        (4, 9),
        &[NoLro, NoGroHw, MtuWithoutFrags(3498, (5, 18), 3498)],
        Silence::Reset,
    ),
    driver(&["mlx4_en"], (4, 8), &[Mtu(3498)], Silence::Reset),
    driver(
        &["ice"],
        (5, 5),
        &[MtuWithoutFrags(3046, (6, 3), 3046)],
        Silence::Reset,
    ),
    driver(
        &["i40e"],
        (4, 13),
        &[MtuWithoutFrags(3046, (6, 4), 3046)],
        Silence::Reset,
    ),
    driver(
        &["ixgbe"],
        (4, 12),
        &[NoFunctions, NoLro, Mtu(3050)],
        Silence::Reset,
    ),
    driver(&["ixgbevf"], (4, 17), &[Mtu(3050)], Silence::Reset),
    driver(&["igb"], (5, 10), &[Mtu(3050)], Silence::Reset),
    driver(&["igc"], (5, 13), &[Mtu(1500)], Silence::Reset),
    driver(
        &["bnxt_en"],
        (4, 11),
        &[Combined, MtuWithoutFrags(3502, (5, 19), 3502)],
        Silence::Reset,
    ),
    driver(&["qede"], (4, 10), &[], Silence::Reset),
    driver(&["vmxnet3"], (6, 6), &[Mtu(3400)], Silence::None),
    // xen-netfront
    driver(&["vif"], (5, 9), &[Mtu(3840)], Silence::Reset),
    driver(
        &["veth"],
        (4, 19),
        &[MtuWithoutFrags(3506, (5, 18), u32::MAX)],
        Silence::None,
    ),
    driver(&["tun"], (4, 14), &[], Silence::None),
    driver(&["atlantic"], (5, 19), &[], Silence::Reset),
    driver(&["sfc"], (5, 5), &[], Silence::Reset),
    driver(&["nfp"], (4, 10), &[], Silence::Reset),
    driver(&["st_gmac", "stmmac"], (5, 13), &[], Silence::Reset),
    driver(&["mvneta"], (5, 5), &[], Silence::Reset),
    driver(&["mvpp2"], (5, 9), &[], Silence::Reset),
    driver(&["fsl_dpaa2_eth"], (5, 0), &[], Silence::Reset),
    driver(&["fsl_enetc"], (5, 13), &[], Silence::Reset),
    driver(&["funeth"], (5, 18), &[], Silence::Reset),
    driver(&["ionic"], (6, 9), &[], Silence::Reset),
    driver(&["fec"], (6, 2), &[], Silence::Reset),
    driver(&["am65-cpsw-nuss"], (6, 10), &[], Silence::Reset),
    generic_only(&["r8169"]),
    generic_only(&["e1000"]),
    generic_only(&["e1000e"]),
    generic_only(&["igbvf"]),
    generic_only(&["iavf"]),
    generic_only(&["tg3"]),
    generic_only(&["be2net"]),
    generic_only(&["8139cp"]),
    generic_only(&["8139too"]),
    generic_only(&["pcnet32"]),
];

impl Facts {
    /// Asks the kernel.
    pub fn read(netdev: &Netdev, netdevs: &Netdevs) -> Self {
        let index = netdev.ifindex;
        let driver = ethtool::driver(index).unwrap_or_default();
        let device = Path::new("/sys/bus/pci/devices").join(&driver.bus);
        let number =
            |path: &Path| -> Option<u32> { fs::read_to_string(path).ok()?.trim().parse().ok() };
        Self {
            name: netdev.name.clone(),
            kind: netdev.kind,
            driver: driver.name,
            kernel: kernel_version(),
            mtu: netdev.mtu,
            has_frags: false,
            channels: ethtool::channels(index).ok(),
            features: ethtool::features(index).unwrap_or_default(),
            functions: number(&device.join("sriov_numvfs")).unwrap_or(0),
            has_big_buffers: virtio_features(&device).is_some_and(|of| has_big_buffers(&of)),
            cpus: thread::available_parallelism().map_or(1, |of| of.get() as u32),
            lowers: netdevs.lowers(index).map(|of| of.name.clone()).collect(),
            has_vlans: !netdevs.vlans(index).is_empty(),
            panics: number(Path::new("/proc/sys/kernel/panic_on_warn")) == Some(1),
        }
    }

    /// Whether an offload is on.
    pub fn is_on(&self, feature: &str) -> bool {
        self.features.get(feature).is_some_and(|of| of.on)
    }

    /// Whether an offload is on and cannot be turned off.
    pub fn is_fixed_on(&self, feature: &str) -> bool {
        let of = self.features.get(feature);
        of.is_some_and(|of| of.on && of.fixed)
    }

    /// The most channels that may be in use while a program is attached, if the driver bounds them.
    pub fn most_channels(&self) -> Option<u32> {
        let channels = self.channels?;
        let halves = self.row()?.rules.contains(&HalfOfChannels);
        halves.then_some(match channels.max_combined {
            0 => channels.max_tx / 2,
            most => most / 2,
        })
    }

    fn row(&self) -> Option<&'static Driver> {
        let mut drivers = DRIVERS.iter();
        drivers.find(|row| row.names.contains(&self.driver.as_str()))
    }

    /// What stands in the way of native mode, and what is worth knowing of it. Empty: nothing that is known of.
    pub fn native(&self) -> Vec<Finding> {
        if let Some(finding) = self.by_kind() {
            return vec![finding];
        }
        let mut findings = Vec::new();
        if let Some(row) = self.row() {
            let (driver, (major, minor)) = (&self.driver, self.kernel);
            match row.since {
                None => {
                    findings.push(Finding::note(format!(
                        "{driver} has no native mode in any kernel: generic mode is all there is"
                    )));
                }
                Some(since) if self.kernel < since => findings.push(Finding::problem(format!(
                    "{driver} has native mode from Linux {}.{} on, and this is {major}.{minor}",
                    since.0, since.1
                ))),
                Some(_) => findings.extend(row.rules.iter().filter_map(|rule| self.broken(*rule))),
            }
        }
        if self.has_vlans && self.is_fixed_on("rx-vlan-hw-parse") {
            let text = "the card takes VLAN tags off (rxvlan), which is fixed, and VLANs are upon it: native mode \
                        would not see the tags";
            findings.push(Finding::problem(text));
        }
        findings
    }

    /// Whether only the build with the frags mark sees all packets at this MTU.
    pub fn needs_frags(&self) -> bool {
        let mut rules = self.row().into_iter().flat_map(|row| row.rules);
        rules.any(|rule| match *rule {
            MtuWithoutFrags(_, since, most) => self.kernel >= since && self.mtu > most,
            _ => false,
        })
    }

    /// Why the driver would take the program and not run it.
    pub fn in_vain(&self) -> Option<Finding> {
        let rules = self.row()?.rules;
        let is_wanted = rules.contains(&NoBigBuffers);
        is_wanted.then(|| self.broken(NoBigBuffers))?
    }

    /// What may be said of an interface that is no card.
    fn by_kind(&self) -> Option<Finding> {
        let name = &self.name;
        let lowers = self.lowers.join(", ");
        let text = match self.kind {
            Kind::Vlan if !lowers.is_empty() => format!(
                "{name} is a VLAN of {lowers}: name {lowers} instead, and it answers for its VLANs too"
            ),
            Kind::Macvlan if !lowers.is_empty() => format!(
                "{name} stands upon {lowers}: name {lowers} instead, and it answers for {name} too"
            ),
            Kind::Bridge if !lowers.is_empty() => format!(
                "{name} is a bridge: name its ports ({lowers}) instead, and they answer for it"
            ),
            Kind::Vlan | Kind::Macvlan | Kind::Bridge => {
                format!("{name} is made by software, which has no native mode")
            }
            _ => return None,
        };
        Some(Finding::note(text))
    }

    /// A finding, if a rule is broken.
    fn broken(&self, rule: Rule) -> Option<Finding> {
        let name = &self.name;
        let channels = self.channels.unwrap_or_default();
        let mtu = |most: u32| {
            (self.mtu > most).then(|| {
                let text = format!("MTU {}, at most {most} with XDP", self.mtu);
                let text = match self.kind {
                    Kind::Veth => format!("{text}, at its other end too"),
                    _ => text,
                };
                Finding::problem(text).mend(format!("ip link set dev {name} mtu {most}"))
            })
        };
        match rule {
            Mtu(most) => mtu(most),
            MtuWithoutFrags(most, since, _) if self.kernel < since => mtu(most),
            MtuWithoutFrags(..) => None,
            HalfOfChannels => {
                let Channels {
                    combined,
                    max_combined,
                    ..
                } = channels;
                // gve has as many for receiving as for sending, and none that is combined.
                let (now, all, what) = match max_combined {
                    0 => (channels.rx.max(channels.tx), channels.max_tx, None),
                    all => (combined, all, Some(())),
                };
                let most = all / 2;
                let unequal = what.is_none() && channels.rx != channels.tx;
                if now <= most && !unequal || all == 0 {
                    return None;
                }
                let set = now.min(most);
                let set = match what {
                    Some(()) => format!("combined {set}"),
                    None => format!("rx {set} tx {set}"),
                };
                Some(
                    Finding::problem(format!(
                        "{now} channels of {all}, at most {most} with XDP{}",
                        if unequal { ", as many for receiving as for sending" } else { "" }
                    ))
                    .mend(format!("ethtool -L {name} {set}")),
                )
            }
            Combined => {
                let separate = channels.rx.max(channels.tx);
                (separate > 0).then(|| {
                    let set = separate.min(channels.max_combined.max(1));
                    Finding::problem("its channels are not combined ones")
                        .mend(format!("ethtool -L {name} combined {set} rx 0 tx 0"))
                })
            }
            NoLro => self.is_on("rx-lro").then(|| {
                Finding::problem("LRO is on").mend(format!("ethtool -K {name} lro off"))
            }),
            NoGroHw => self.is_on("rx-gro-hw").then(|| {
                Finding::problem("rx-gro-hw is on").mend(format!("ethtool -K {name} rx-gro-hw off"))
            }),
            NoFunctions => (self.functions > 0).then(|| {
                let text = format!("{} virtual functions are on (SR-IOV)", self.functions);
                Finding::problem(text)
                    .mend(format!("echo 0 > /sys/class/net/{name}/device/sriov_numvfs"))
            }),
            GuestOffloads => self.is_fixed_on("rx-gro-hw").then(|| {
                Finding::problem(
                    "its offloads are fixed: the hypervisor is to offer ctrl_guest_offloads, or to turn guest_tso4, \
                     guest_tso6, guest_ecn, guest_ufo and guest_csum off",
                )
            }),
            NoBigBuffers => self.has_big_buffers.then(|| {
                Finding::problem(
                    "the driver would take the program and not run it: the hypervisor is to offer mrg_rxbuf, or \
                     kernel.mode is to be \"generic\"",
                )
            }),
            ChannelForEachCpu => {
                let needed = channels.combined + self.cpus;
                (channels.max_combined > 0 && channels.max_combined < needed).then(|| {
                    Finding::note(format!(
                        "channels: {}, and {needed} are best with XDP, else CPUs share one for sending: give the \
                         virtual machine two queues for each CPU",
                        channels.max_combined
                    ))
                })
            }
        }
    }

    /// What attaching and detaching does to the interface; `None`: the driver is not known.
    pub fn silence(&self) -> Option<Silence> {
        match self.kind {
            Kind::Card | Kind::Virtual | Kind::Veth => self.row().map(|row| row.silence),
            _ => Some(Silence::None),
        }
    }

    /// Why generic mode is not to be taken: the kernel warns there, with a stack trace, or panics.
    pub fn generic(&self) -> Option<Finding> {
        if !self.is_fixed_on("rx-gro-hw") {
            return None;
        }
        Some(match self.panics {
            true => Finding::problem(
                "generic mode has the kernel turn rx-gro-hw off, which is fixed: it warns then, and \
                 kernel.panic_on_warn makes that a panic",
            )
            .mend("sysctl -w kernel.panic_on_warn=0"),
            false => Finding::note(
                "generic mode has the kernel turn rx-gro-hw off, which is fixed: it logs a warning with a stack \
                 trace (\"failed to disable GRO_HW\"), which is harmless",
            ),
        })
    }
}

/// The features that a virtual card and its driver have agreed upon: an octet each, `0` or `1`.
fn virtio_features(device: &Path) -> Option<Vec<u8>> {
    let mut parts = fs::read_dir(device).ok()?.flatten();
    let part = parts.find(|of| of.file_name().to_string_lossy().starts_with("virtio"))?;
    fs::read(part.path().join("features")).ok()
}

/// Whether a card with these features receives into chains of pages. It has to take packets that the host has joined,
/// and cannot take them in parts.
fn has_big_buffers(features: &[u8]) -> bool {
    const GUEST_TSO4: usize = 7;
    const GUEST_UFO: usize = 10;
    const MRG_RXBUF: usize = 15;
    let has = |feature: usize| features.get(feature) == Some(&b'1');
    !has(MRG_RXBUF) && (GUEST_TSO4..=GUEST_UFO).any(has)
}

/// The running kernel's version.
pub fn kernel_version() -> Version {
    let release = nix::sys::utsname::uname()
        .map(|name| name.release().to_string_lossy().into_owned())
        .unwrap_or_default();
    version(&release)
}

/// The version in a release such as `6.1.0-57-amd64`.
fn version(release: &str) -> Version {
    let mut numbers = release
        .split(|at: char| !at.is_ascii_digit())
        .map(|number| number.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn card(driver: &str, kernel: Version) -> Facts {
        Facts {
            name: "eth0".to_owned(),
            driver: driver.to_owned(),
            kernel,
            mtu: 1500,
            cpus: 2,
            ..Facts::default()
        }
    }

    fn lines(facts: &Facts) -> Vec<String> {
        let line = |finding: Finding| format!("{:?} {finding}", finding.level);
        facts.native().into_iter().map(line).collect()
    }

    fn on(feature: &str, fixed: bool) -> BTreeMap<String, Feature> {
        [(feature.to_owned(), Feature { on: true, fixed })].into()
    }

    #[test]
    fn a_card_as_its_driver_wants_it_has_no_problem() {
        for row in DRIVERS {
            for name in row.names {
                let found = lines(&card(name, (6, 12)));
                match row.since {
                    Some(_) => assert!(found.is_empty(), "{name}: {found:?}"),
                    None => assert!(found[0].starts_with("Note"), "{name}: {found:?}"),
                }
            }
        }
    }

    #[test]
    fn a_driver_is_in_the_table_once() {
        let mut names: Vec<_> = DRIVERS.iter().flat_map(|row| row.names).collect();
        let all = names.len();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), all);
    }

    #[test]
    fn an_old_kernel_is_named_with_the_one_that_has_the_mode() {
        for row in DRIVERS {
            let Some(since) = row.since else { continue };
            let found = lines(&card(row.names[0], (4, 4)));
            assert_eq!(found.len(), 1, "{found:?}");
            let says = format!("from Linux {}.{} on, and this is 4.4", since.0, since.1);
            assert!(found[0].contains(&says), "{found:?}");
        }
    }

    #[test]
    fn an_mtu_over_the_drivers_bound_has_the_command() {
        for (driver, kernel, most) in [
            ("ena", (6, 1), 3498),
            ("virtio_net", (6, 1), 4064),
            ("igc", (6, 1), 1500),
            ("gve", (6, 12), 2032),
            ("hv_netvsc", (6, 1), 3506),
            ("mana", (6, 1), 3506),
            ("mlx5_core", (5, 17), 3498),
            ("mlx4_en", (6, 1), 3498),
            ("ice", (6, 1), 3046),
            ("i40e", (6, 1), 3046),
            ("ixgbe", (6, 1), 3050),
            ("ixgbevf", (6, 1), 3050),
            ("igb", (6, 1), 3050),
            ("bnxt_en", (5, 18), 3502),
            ("vmxnet3", (6, 12), 3400),
            ("vif", (6, 1), 3840),
            ("veth", (5, 17), 3506),
        ] {
            let at = |mtu| Facts {
                mtu,
                ..card(driver, kernel)
            };
            assert!(lines(&at(most)).is_empty(), "{driver}");
            let expected = format!(
                "Problem MTU 9001, at most {most} with XDP: ip link set dev eth0 mtu {most}"
            );
            assert_eq!(lines(&at(9001)), [expected], "{driver}");
        }
    }

    #[test]
    fn a_driver_that_takes_the_frags_mark_has_no_bound() {
        for (driver, since, most) in [
            ("virtio_net", (6, 3), 3506),
            ("mlx5_core", (5, 18), 3498),
            ("ice", (6, 3), 3046),
            ("i40e", (6, 4), 3046),
            ("bnxt_en", (5, 19), 3502),
            // It is the other end whose MTU matters.
            ("veth", (5, 18), u32::MAX),
        ] {
            let at = |mtu| Facts {
                mtu,
                ..card(driver, since)
            };
            assert!(lines(&at(9001)).is_empty(), "{driver}");
            assert_eq!(at(9001).needs_frags(), most < 9001, "{driver}");
            assert!(!at(most).needs_frags() && most > MTU_OF_ALL, "{driver}");
            let (major, minor) = since;
            let before = Facts {
                kernel: (major, minor - 1),
                ..at(9001)
            };
            assert!(!before.needs_frags() && !lines(&before).is_empty());
        }
        let jumbo = Facts {
            mtu: 9001,
            ..card("ena", (6, 12))
        };
        assert!(!jumbo.needs_frags());
    }

    #[test]
    fn half_of_the_channels_are_for_sending() {
        let at = |driver, channels| Facts {
            channels: Some(channels),
            ..card(driver, (6, 12))
        };
        let combined = |combined| Channels {
            combined,
            max_combined: 8,
            ..Channels::default()
        };
        assert_eq!(
            lines(&at("ena", combined(8))),
            ["Problem 8 channels of 8, at most 4 with XDP: ethtool -L eth0 combined 4"]
        );
        assert!(lines(&at("ena", combined(4))).is_empty());
        let separate = |rx, tx| Channels {
            rx,
            tx,
            max_rx: 16,
            max_tx: 16,
            ..Channels::default()
        };
        assert_eq!(
            lines(&at("gve", separate(16, 16))),
            ["Problem 16 channels of 16, at most 8 with XDP: ethtool -L eth0 rx 8 tx 8"]
        );
        assert!(lines(&at("gve", separate(8, 8))).is_empty());
        let found = lines(&at("gve", separate(4, 8)));
        assert!(found[0].contains("as many for receiving"), "{found:?}");
        // bnxt wants combined ones.
        let separate = Channels {
            rx: 4,
            tx: 4,
            max_combined: 8,
            ..Channels::default()
        };
        assert_eq!(
            lines(&at("bnxt_en", separate)),
            ["Problem its channels are not combined ones: ethtool -L eth0 combined 4 rx 0 tx 0"]
        );
        assert!(lines(&at("bnxt_en", combined(8))).is_empty());
        // virtio shares a queue, which is worth a note.
        let single = Channels {
            combined: 1,
            max_combined: 1,
            ..Channels::default()
        };
        let found = lines(&at("virtio_net", single));
        assert!(
            found[0].starts_with("Note channels: 1, and 3 are best"),
            "{found:?}"
        );
    }

    #[test]
    fn offloads_that_join_packets_are_turned_off() {
        for (driver, feature, command) in [
            ("gve", "rx-lro", "ethtool -K eth0 lro off"),
            ("hv_netvsc", "rx-lro", "ethtool -K eth0 lro off"),
            ("mlx5_core", "rx-lro", "ethtool -K eth0 lro off"),
            ("mlx5_core", "rx-gro-hw", "ethtool -K eth0 rx-gro-hw off"),
            ("ixgbe", "rx-lro", "ethtool -K eth0 lro off"),
        ] {
            let facts = Facts {
                features: on(feature, false),
                ..card(driver, (6, 12))
            };
            let found = lines(&facts);
            assert!(found.len() == 1 && found[0].ends_with(command), "{found:?}");
        }
        // What is no matter to a driver is none.
        let facts = Facts {
            features: on("rx-lro", false),
            ..card("vmxnet3", (6, 12))
        };
        assert!(lines(&facts).is_empty());
    }

    #[test]
    fn fixed_offloads_of_a_virtual_machine_are_the_hypervisors() {
        let mut facts = Facts {
            features: on("rx-gro-hw", true),
            ..card("virtio_net", (6, 12))
        };
        assert!(lines(&facts)[0].contains("ctrl_guest_offloads"));
        assert_eq!(facts.generic().unwrap().level, Level::Note);
        facts.panics = true;
        assert_eq!(facts.generic().unwrap().level, Level::Problem);
        facts.features = on("rx-gro-hw", false);
        assert!(lines(&facts).is_empty() && facts.generic().is_none());
    }

    #[test]
    fn a_driver_that_would_not_run_the_program_is_told_before() {
        let features = |on: &[usize]| {
            let mut features = vec![b'0'; 64];
            on.iter().for_each(|&bit| features[bit] = b'1');
            features
        };
        assert!(!has_big_buffers(&features(&[5, 7, 8, 15])));
        assert!(!has_big_buffers(&features(&[5])));
        assert!(has_big_buffers(&features(&[5, 8])));
        assert!(!has_big_buffers(b""));
        let facts = Facts {
            has_big_buffers: true,
            ..card("virtio_net", (6, 12))
        };
        assert!(lines(&facts)[0].contains("mrg_rxbuf"));
        assert!(facts.in_vain().is_some());
        assert!(card("virtio_net", (6, 12)).in_vain().is_none());
    }

    #[test]
    fn virtual_functions_keep_ixgbe_from_it() {
        let facts = Facts {
            functions: 4,
            ..card("ixgbe", (6, 12))
        };
        let command = "echo 0 > /sys/class/net/eth0/device/sriov_numvfs";
        assert!(lines(&facts)[0].ends_with(command));
        let facts = Facts {
            functions: 4,
            ..card("i40e", (6, 12))
        };
        assert!(lines(&facts).is_empty());
    }

    #[test]
    fn an_interface_upon_another_names_that() {
        for (kind, says) in [
            (Kind::Vlan, "eth0 is a VLAN of port0: name port0 instead"),
            (Kind::Macvlan, "eth0 stands upon port0: name port0 instead"),
            (Kind::Bridge, "name its ports (port0) instead"),
        ] {
            let facts = Facts {
                kind,
                lowers: vec!["port0".to_owned()],
                ..card("", (6, 12))
            };
            assert!(lines(&facts)[0].contains(says), "{:?}", lines(&facts));
        }
    }

    #[test]
    fn fixed_tags_matter_where_vlans_are() {
        let mut facts = Facts {
            features: on("rx-vlan-hw-parse", true),
            ..card("mana", (6, 12))
        };
        assert!(lines(&facts).is_empty());
        facts.has_vlans = true;
        assert!(lines(&facts)[0].starts_with("Problem the card takes VLAN tags off"));
    }

    #[test]
    fn releases_have_versions() {
        for (release, expected) in [
            ("6.1.0-57-amd64", (6, 1)),
            ("5.14.0-570.el9", (5, 14)),
            ("6.18", (6, 18)),
            ("", (0, 0)),
        ] {
            assert_eq!(version(release), expected, "{release}");
        }
    }
}

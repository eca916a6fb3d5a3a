//! An interface: its driver, offloads and queues, and programs that others have attached.

use std::fs;
use std::slice;

use crate::kernel::drivers::{self, Finding, Level, Silence};
use crate::kernel::ethtool::{self, Driver};
use crate::kernel::netdev::{Kind, Netdev, Netdevs, Xdp};
use crate::kernel::{link, pins};

/// An interface, as far as geodns depends on it.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// Its driver, MTU, channels and offloads.
    pub card: drivers::Facts,
    /// The driver with its version.
    pub driver: Driver,
    /// What to name instead of it, if no query comes in by it.
    pub instead: Option<String>,
    /// The interface that it belongs to, and that one's kind.
    pub master: Option<(String, Kind)>,
    /// The interfaces whose frames come in by it.
    pub uppers: Vec<String>,
    /// The program attached to it.
    pub program: Option<Xdp>,
    /// Whose program that is, and how to take it off.
    pub owner: Option<String>,
    /// Whether it spreads UDP by ports too, over IPv4 and over IPv6; `None`: that is not told.
    pub spreads_ports: [Option<bool>; 2],
    /// The interrupts of its queues, each with the CPUs that it comes to.
    pub interrupts: Vec<(u32, String)>,
    /// Counters of the driver that have counted answers which it dropped.
    pub drops: Vec<(String, u64)>,
    /// Whether it has an address that can be served.
    pub has_addresses: bool,
}

impl Facts {
    /// Asks the kernel.
    pub fn read(netdev: &Netdev, netdevs: &Netdevs) -> Self {
        let index = netdev.ifindex;
        let master = netdev.master.and_then(|index| netdevs.at(index));
        let uppers = netdevs.with_uppers(index);
        let uppers = uppers.filter(|of| of.ifindex != index);
        let spreads = |ipv6| ethtool::hashes_udp_ports(index, ipv6).ok();
        let drops = ethtool::statistics(index).unwrap_or_default().into_iter();
        let program = netdev.xdp.and_then(|xdp| xdp.program);
        let driver = ethtool::driver(index).unwrap_or_default();
        Self {
            card: drivers::Facts::read(netdev, netdevs),
            interrupts: interrupts(&driver.bus),
            driver,
            instead: netdevs.instead_of(netdev),
            master: master.map(|of| (of.name.clone(), of.kind)),
            uppers: uppers.map(|of| of.name.clone()).collect(),
            program: netdev.xdp,
            owner: program.and_then(|program| {
                pins::whose(program, index)
                    .or_else(|| Some(format!("{} holds its link", link::holder(program)?)))
            }),
            spreads_ports: [spreads(false), spreads(true)],
            drops: drops
                .filter(|(name, count)| *count > 0 && ethtool::counts_dropped_answers(name))
                .collect(),
            has_addresses: !netdevs.addresses(slice::from_ref(&netdev.name)).is_empty(),
        }
    }

    /// What attaching costs, in words.
    pub fn cost(&self) -> &'static str {
        match self.card.silence() {
            Some(Silence::None) => "next to no packet is lost",
            Some(Silence::Reset) => {
                "the card is reset, up to some seconds without packets; with kernel.on_stop = \"stub\" a restart does \
                 not do it again"
            }
            None => "the card may be reset, up to some seconds without packets",
        }
    }
}

/// The interrupts of a device of the PCI bus, each with the CPUs that it comes to. Those that no queue has, such as for a
/// change of the configuration, are left out where their names say so.
fn interrupts(device: &str) -> Vec<(u32, String)> {
    let folder = format!("/sys/bus/pci/devices/{device}/msi_irqs");
    let files = fs::read_dir(folder).into_iter().flatten().flatten();
    let numbers = files.filter_map(|file| file.file_name().to_str()?.parse().ok());
    let cpus = |number: u32| {
        let folder = format!("/proc/irq/{number}");
        let mut users = fs::read_dir(&folder).ok()?.flatten();
        users.find(|of| {
            let name = of.file_name().to_string_lossy().into_owned();
            of.path().is_dir() && !name.contains("config")
        })?;
        let cpus = ["effective_affinity_list", "smp_affinity_list"];
        let mut cpus = cpus
            .map(|of| fs::read_to_string(format!("{folder}/{of}")))
            .into_iter();
        let cpus = cpus.find_map(Result::ok)?;
        Some((number, cpus.trim().to_owned()))
    };
    let mut interrupts: Vec<_> = numbers.filter_map(cpus).collect();
    interrupts.sort_unstable();
    interrupts
}

/// The findings.
pub fn findings(facts: &Facts) -> Vec<Finding> {
    if let Some(instead) = &facts.instead {
        return vec![Finding::problem(instead.clone())];
    }
    let card = &facts.card;
    let name = &card.name;
    let mut findings = Vec::new();
    let native = card.native();
    let is_refused = native.iter().any(|of| of.level == Level::Problem);
    if native.is_empty() {
        findings.push(Finding::ok(match card.driver.as_str() {
            "" => "its driver is not told: whether it has native mode shows when the program is attached".to_owned(),
            driver => format!("nothing is known that keeps {driver} from native mode"),
        }));
    }
    findings.extend(native);
    if is_refused {
        findings.extend(card.generic());
    }
    findings.extend(program(facts));
    match &facts.master {
        Some((master, Kind::Bond | Kind::Card)) => findings.push(Finding::note(format!(
            "{name} is a part of {master}: name {master}, and the program is on all of its parts"
        ))),
        Some((master, _)) => findings.push(Finding::ok(format!("it belongs to {master}"))),
        None => {}
    }
    if !facts.uppers.is_empty() {
        let text = format!("{} upon it: answered for too", facts.uppers.join(", "));
        findings.push(Finding::ok(text));
    }
    if !facts.has_addresses {
        findings.push(Finding::note(
            "it has no address to serve: add one, or name those that come by it in server.listen",
        ));
    }
    if card.kind == Kind::Veth {
        findings.push(Finding::note(
            "native answers of a veth arrive only if its other end has an XDP program too; kernel.mode = \"auto\" \
             takes generic mode",
        ));
    }
    findings.extend(queues(facts));
    if !card.has_vlans && card.is_fixed_on("rx-vlan-hw-parse") {
        findings.push(Finding::note(
            "it takes VLAN tags off (rxvlan), and that is fixed: VLANs upon it would need kernel.mode = \"generic\"",
        ));
    }
    let cost = format!("attaching: {}", facts.cost());
    findings.push(match card.silence() {
        Some(Silence::None) => Finding::ok(cost),
        _ => Finding::note(cost),
    });
    findings.extend(facts.drops.iter().map(|(counter, count)| {
        Finding::note(format!(
            "{counter} is {count}: answers that a program sent and the driver dropped"
        ))
    }));
    findings
}

/// The program that is on the interface.
fn program(facts: &Facts) -> Option<Finding> {
    let program = facts.program?;
    let name = &facts.card.name;
    let (mode, off) = match program.generic {
        true => ("generic", "xdpgeneric"),
        false => ("native", "xdpdrv"),
    };
    let id = match program.program {
        Some(id) => format!(" (id {id})"),
        None => String::new(),
    };
    let text = format!("an XDP program{id} is attached in {mode} mode");
    Some(match &facts.owner {
        Some(owner) if owner.contains("geodns") => Finding::note(format!("{text}: {owner}")),
        Some(owner) => Finding::problem(format!("{text}: {owner}")),
        None => Finding::problem(text).mend(format!("ip link set dev {name} {off} off")),
    })
}

/// Queues beside CPUs, and how UDP is spread over them.
fn queues(facts: &Facts) -> Vec<Finding> {
    let card = &facts.card;
    let (name, cpus) = (&card.name, card.cpus);
    let mut findings = Vec::new();
    let Some(channels) = card.channels else {
        return findings;
    };
    let (now, most) = match channels.max_combined {
        0 => (channels.rx, channels.max_rx),
        most => (channels.combined + channels.rx, most),
    };
    // Some drivers keep half of them for sending.
    let most = most.min(card.most_channels().unwrap_or(most));
    let wanted = cpus.min(most);
    if now < wanted && channels.max_combined > 0 {
        let text =
            format!("channels for {now} of {cpus} CPUs: the others answer nothing in the kernel");
        findings.push(Finding::note(text).mend(format!("ethtool -L {name} combined {wanted}")));
    } else if now > 0 {
        findings.push(Finding::ok(format!("channels: {now}; CPUs: {cpus}")));
    }
    if now > 1 {
        findings.extend(crowded(facts));
        for (flow, spreads) in [
            ("udp4", facts.spreads_ports[0]),
            ("udp6", facts.spreads_ports[1]),
        ] {
            if spreads == Some(false) {
                let text = format!(
                    "{flow} is spread over queues by addresses alone: one big resolver is one CPU's work"
                );
                let command = format!("ethtool -N {name} rx-flow-hash {flow} sdfn");
                findings.push(Finding::note(text).mend(command));
            }
        }
    }
    findings
}

/// All interrupts of a card come to one CPU.
fn crowded(facts: &Facts) -> Option<Finding> {
    let ((_, cpu), others) = facts.interrupts.split_first()?;
    let is_one = cpu.parse::<u32>().is_ok();
    let is_crowded = is_one && others.iter().all(|(_, other)| other == cpu);
    if !is_crowded || others.is_empty() || facts.card.cpus < 2 {
        return None;
    }
    let text =
        format!("all its interrupts come to CPU {cpu}, which does the work of all its queues");
    let spread = facts.interrupts.iter().zip((0..facts.card.cpus).cycle());
    let spread = spread
        .map(|((number, _), cpu)| format!("echo {cpu} > /proc/irq/{number}/smp_affinity_list"));
    Some(Finding::note(text).mend(spread.collect::<Vec<_>>().join("; ")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::ethtool::{Channels, Feature};

    fn good() -> Facts {
        Facts {
            card: drivers::Facts {
                name: "eth0".to_owned(),
                driver: "virtio_net".to_owned(),
                kernel: (6, 12),
                mtu: 1500,
                cpus: 2,
                channels: Some(Channels {
                    combined: 2,
                    max_combined: 4,
                    ..Channels::default()
                }),
                ..drivers::Facts::default()
            },
            has_addresses: true,
            spreads_ports: [Some(true); 2],
            ..Facts::default()
        }
    }

    /// The findings that are not good ones, after a change.
    fn bad(change: impl Fn(&mut Facts)) -> Vec<String> {
        let mut facts = good();
        change(&mut facts);
        let findings = findings(&facts).into_iter();
        let bad = findings.filter(|finding| finding.level != Level::Ok);
        bad.map(|of| format!("{:?} {of}", of.level)).collect()
    }

    type Change<'a> = &'a dyn Fn(&mut Facts);

    #[test]
    fn a_good_card_has_good_findings() {
        assert_eq!(bad(|_| {}), [""; 0]);
    }

    #[test]
    fn whatever_is_amiss_has_its_line() {
        let offload = |fixed| [("rx-vlan-hw-parse".to_owned(), Feature { on: true, fixed })];
        let program = Some(Xdp {
            program: Some(7),
            generic: true,
        });
        let cases: &[(Change<'_>, &str)] = &[
            (
                &|of| (of.card.driver, of.card.mtu) = ("ena".into(), 9000),
                "Problem MTU 9000, at most 3498 with XDP: ip link set dev eth0 mtu 3498",
            ),
            (&|of| of.has_addresses = false, "Note it has no address"),
            (
                &|of| of.instead = Some("this is a dummy".into()),
                "Problem this is a dummy",
            ),
            (
                &|of| of.card.features = offload(true).into(),
                "Note it takes VLAN tags off",
            ),
            (
                &|of| of.program = program,
                "Problem an XDP program (id 7) is attached in generic mode: ip link set dev eth0 xdpgeneric off",
            ),
            (
                &|of| {
                    of.program = program;
                    of.owner = Some("process 9 (other) holds its link".into());
                },
                "Problem an XDP program (id 7) is attached in generic mode: process 9 (other)",
            ),
            (
                &|of| {
                    of.program = program;
                    of.owner = Some("a geodns that runs uses it".into());
                },
                "Note an XDP program (id 7)",
            ),
            (
                &|of| of.master = Some(("bond0".into(), Kind::Bond)),
                "Note eth0 is a part of bond0: name bond0",
            ),
            (
                &|of| of.spreads_ports[0] = Some(false),
                "Note udp4 is spread over queues by addresses alone: one big resolver is one CPU's work: ethtool -N \
                 eth0 rx-flow-hash udp4 sdfn",
            ),
            (
                &|of| of.interrupts = [24, 25, 26].map(|irq| (irq, "1".to_owned())).into(),
                "Note all its interrupts come to CPU 1, which does the work of all its queues: \
                 echo 0 > /proc/irq/24/smp_affinity_list; echo 1 > /proc/irq/25/smp_affinity_list; \
                 echo 0 > /proc/irq/26/smp_affinity_list",
            ),
            (
                &|of| of.card.has_big_buffers = true,
                "Problem the driver would take the program and not run it",
            ),
            (
                &|of| of.card.driver = "igb".into(),
                "Note attaching: the card is reset",
            ),
            (
                &|of| of.drops = vec![("rx_queue_0_xdp_tx_drops".into(), 3)],
                "Note rx_queue_0_xdp_tx_drops is 3",
            ),
            (
                &|of| {
                    of.card.driver = "ice".into();
                    of.card.channels = Some(Channels {
                        combined: 1,
                        max_combined: 4,
                        ..Channels::default()
                    });
                },
                "Note channels for 1 of 2 CPUs: the others answer nothing in the kernel: ethtool -L eth0 combined 2",
            ),
        ];
        for (change, says) in cases {
            let found = bad(change);
            assert!(
                found.iter().any(|line| line.starts_with(says)),
                "{says}: {found:?}"
            );
        }
        for interrupts in [
            vec![(24, "1")],
            vec![(24, "0"), (25, "1")],
            vec![(24, "0-1"), (25, "0-1")],
        ] {
            let interrupts = interrupts.into_iter();
            let interrupts: Vec<_> = interrupts
                .map(|(irq, cpus)| (irq, cpus.to_owned()))
                .collect();
            assert_eq!(bad(|of| of.interrupts = interrupts.clone()), [""; 0]);
        }
        // What can be changed is.
        assert_eq!(bad(|of| of.card.features = offload(false).into()), [""; 0]);
    }

    /// Fewer channels than CPUs are no fault where the driver wants the others for sending.
    #[test]
    fn a_driver_that_keeps_channels_for_sending_gets_no_contrary_advice() {
        let found = bad(|of| {
            of.card.driver = "ena".into();
            of.card.cpus = 8;
            of.card.channels = Some(Channels {
                combined: 4,
                max_combined: 8,
                ..Channels::default()
            });
        });
        assert!(
            !found.iter().any(|line| line.contains("ethtool -L")),
            "{found:?}"
        );
    }
}

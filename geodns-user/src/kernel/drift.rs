//! Settings of interfaces that somebody changes while the program is attached: a driver may take the change, and then
//! not run the program any more, or drop packets.

use std::collections::{BTreeMap, BTreeSet};
use std::mem;

use super::drivers::{Facts, Finding, Level};

/// The settings of the interfaces that the program is attached to in native mode, by index.
#[derive(Debug, Default)]
pub struct Drift(BTreeMap<u32, Known>);

/// An interface as it was when the program was attached, and as it was when somebody last looked.
#[derive(Debug)]
struct Known {
    attached: Facts,
    last: Facts,
}

/// A change of one setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The interface's name.
    pub interface: String,
    /// The change, what it does, and the command that takes it back.
    pub line: String,
    /// Whether it may keep the program from answering.
    pub is_harmful: bool,
}

impl Drift {
    /// Whether these are the interfaces that are followed.
    pub fn knows(&self, interfaces: impl Iterator<Item = u32>) -> bool {
        let interfaces: BTreeSet<u32> = interfaces.collect();
        self.0.keys().eq(&interfaces)
    }

    /// The settings that are not what they were when the program was attached.
    pub fn standing(&self) -> Vec<Change> {
        let all = self.0.values();
        all.flat_map(|of| changes(&of.attached, &of.attached, &of.last))
            .collect()
    }

    /// Compares the interfaces with what they were. One that is new, or not there any more, has not changed.
    pub fn follow(&mut self, now: BTreeMap<u32, Facts>) -> Vec<Change> {
        let mut before = mem::take(&mut self.0);
        let mut all = Vec::new();
        for (ifindex, now) in now {
            let attached = match before.remove(&ifindex) {
                Some(known) => {
                    all.extend(changes(&known.attached, &known.last, &now));
                    known.attached
                }
                None => now.clone(),
            };
            self.0.insert(
                ifindex,
                Known {
                    attached,
                    last: now,
                },
            );
        }
        all
    }
}

/// A setting: its name, its value, whether it is more than another value, and the command that sets it.
struct Setting {
    name: &'static str,
    value: String,
    /// More of it may be too much for a driver.
    size: u32,
    command: String,
}

fn settings(of: &Facts) -> [Setting; 3] {
    let name = &of.name;
    let lro = of.is_on("rx-lro");
    let lro_value = if lro { "on" } else { "off" };
    let channels = of.channels.unwrap_or_default();
    let kinds = [
        ("combined", channels.combined),
        ("rx", channels.rx),
        ("tx", channels.tx),
    ];
    let kinds = kinds.into_iter().filter(|(_, number)| *number > 0);
    let kinds: Vec<_> = kinds
        .map(|(kind, number)| format!("{kind} {number}"))
        .collect();
    let kinds = kinds.join(" ");
    [
        Setting {
            name: "MTU",
            value: of.mtu.to_string(),
            // With the frags mark a packet may take several buffers.
            size: if of.has_frags { 0 } else { of.mtu },
            command: format!("ip link set dev {name} mtu {}", of.mtu),
        },
        Setting {
            name: "LRO",
            value: lro_value.to_owned(),
            size: u32::from(lro),
            command: format!("ethtool -K {name} lro {lro_value}"),
        },
        Setting {
            name: "number of channels",
            command: format!("ethtool -L {name} {kinds}"),
            value: kinds,
            // A driver refuses what it has no room for.
            size: 0,
        },
    ]
}

fn changes(attached: &Facts, last: &Facts, now: &Facts) -> Vec<Change> {
    let problems = |facts: &Facts| -> Vec<Finding> {
        let findings = facts.native().into_iter();
        findings
            .filter(|finding| finding.level == Level::Problem)
            .collect()
    };
    let (before, problems) = (problems(last), problems(now));
    // What a change has brought is told with the first of the settings that are changed at once.
    let mut new: Vec<_> = problems
        .into_iter()
        .filter(|problem| !before.contains(problem))
        .collect();
    let all = settings(attached)
        .into_iter()
        .zip(settings(last))
        .zip(settings(now));
    let mut changes = Vec::new();
    for ((attached, last), setting) in all {
        if setting.value == last.value {
            continue;
        }
        let (interface, name, value) = (&now.name, setting.name, &setting.value);
        let new: Vec<_> = mem::take(&mut new).iter().map(Finding::to_string).collect();
        let is_harmful = !new.is_empty() || setting.size > attached.size;
        let line = if setting.value == attached.value {
            format!("{interface}: its {name} is {value} again")
        } else {
            let was = format!(
                "{interface}: its {name} is {value}, and was {} when the program was attached",
                attached.value
            );
            match (new.is_empty(), is_harmful) {
                (false, _) => format!("{was}: {}", new.join("; ")),
                (true, true) => format!(
                    "{was}: the driver may drop packets, or not run the program any more: {}",
                    attached.command
                ),
                (true, false) => was,
            }
        };
        changes.push(Change {
            interface: interface.clone(),
            line,
            is_harmful,
        });
    }
    changes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::ethtool::{Channels, Feature};

    fn card(driver: &str) -> Facts {
        Facts {
            name: "eth0".to_owned(),
            driver: driver.to_owned(),
            kernel: (6, 12),
            mtu: 1500,
            channels: Some(Channels {
                combined: 4,
                max_combined: 8,
                ..Channels::default()
            }),
            ..Facts::default()
        }
    }

    /// The lines of a change, and of the way back.
    fn there_and_back(driver: &str, change: impl Fn(&mut Facts)) -> Vec<(bool, String)> {
        let mut drift = Drift::default();
        let mut look = |facts: Facts| (drift.follow([(3, facts)].into()), drift.standing());
        let mut changed = card(driver);
        change(&mut changed);
        assert_eq!(look(card(driver)).0, []);
        assert_eq!(look(card(driver)), (vec![], vec![]));
        let (mut all, standing) = look(changed.clone());
        assert_eq!(standing, all);
        assert_eq!(look(changed), (vec![], standing));
        let (back, standing) = look(card(driver));
        assert_eq!(standing, []);
        all.extend(back);
        all.into_iter()
            .map(|change| (change.is_harmful, change.line))
            .collect()
    }

    fn lro(facts: &mut Facts, on: bool) {
        let feature = Feature { on, fixed: false };
        facts.features.insert("rx-lro".to_owned(), feature);
    }

    #[test]
    fn each_change_has_a_line_with_the_command_that_takes_it_back() {
        let back = |line: &str| (false, line.to_owned());
        assert_eq!(
            there_and_back("unknown", |of| of.mtu = 9000),
            [
                (
                    true,
                    "eth0: its MTU is 9000, and was 1500 when the program was attached: the driver may drop packets, \
                     or not run the program any more: ip link set dev eth0 mtu 1500"
                        .to_owned()
                ),
                back("eth0: its MTU is 1500 again")
            ]
        );
        assert_eq!(
            there_and_back("unknown", |of| lro(of, true)),
            [
                (
                    true,
                    "eth0: its LRO is on, and was off when the program was attached: the driver may drop packets, or \
                     not run the program any more: ethtool -K eth0 lro off"
                        .to_owned()
                ),
                back("eth0: its LRO is off again")
            ]
        );
        // Less of it does no harm.
        assert_eq!(
            there_and_back("unknown", |of| of.mtu = 1280),
            [
                back("eth0: its MTU is 1280, and was 1500 when the program was attached"),
                back("eth0: its MTU is 1500 again")
            ]
        );
    }

    #[test]
    fn the_table_of_drivers_says_what_is_too_much() {
        let [(harmful, line), _] = &there_and_back("ena", |of| of.mtu = 9000)[..] else {
            panic!("two lines");
        };
        assert!(
            *harmful && line.ends_with("ip link set dev eth0 mtu 3498"),
            "{line}"
        );
        // The program with the frags mark has come in the place of the other.
        let jumbo = there_and_back("virtio_net", |of| (of.mtu, of.has_frags) = (9000, true));
        assert!(!jumbo[0].0, "{jumbo:?}");
        let jumbo = there_and_back("virtio_net", |of| of.mtu = 9000);
        assert!(jumbo[0].0, "{jumbo:?}");
        let [(harmful, line), _] = &there_and_back("ena", |of| {
            of.channels.as_mut().unwrap().combined = 8;
        })[..] else {
            panic!("two lines");
        };
        assert!(
            *harmful && line.ends_with("ethtool -L eth0 combined 4"),
            "{line}"
        );
        // Problems that were there before are no news.
        let mut drift = Drift::default();
        let mut look = |mtu| {
            drift.follow(
                [(
                    3,
                    Facts {
                        mtu,
                        ..card("virtio_net")
                    },
                )]
                .into(),
            )
        };
        assert_eq!(look(9000), []);
        let changes = look(1500);
        assert!(!changes[0].is_harmful, "{changes:?}");
    }

    #[test]
    fn an_interface_that_comes_anew_has_not_changed() {
        let mut drift = Drift::default();
        assert_eq!(drift.follow([(3, card("veth"))].into()), []);
        assert!(drift.knows([3].into_iter()) && !drift.knows([3, 4].into_iter()));
        assert_eq!(drift.follow(BTreeMap::new()), []);
        let other = Facts {
            mtu: 9000,
            ..card("veth")
        };
        assert_eq!(drift.follow([(3, other)].into()), []);
    }
}

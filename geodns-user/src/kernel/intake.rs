//! The interfaces by which packets reach the program, and by which queries reach the slow path, that belong together.
//!
//! A query that the program passes comes to the slow path by the interface that has the address, as the network stack
//! sees it. That may be the attached one, or one above it: a VLAN, a bond or a bridge, a macvlan.

use std::collections::{BTreeMap, BTreeSet};

use geodns_common::layout::Traffic;

use super::netdev::{Kind, Netdev, Netdevs};

/// An attached interface with the interfaces above it; several, where they have a slot or an upper interface in common.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Intake {
    /// Names of the attached interfaces.
    pub interfaces: Vec<String>,
    /// The interfaces that the program runs for.
    pub runs_on: BTreeSet<u32>,
    /// Their slots.
    pub slots: BTreeSet<u32>,
    /// Interfaces by which the slow path gets no query that could have come another way.
    pub own: BTreeSet<u32>,
    /// Interfaces by which it gets others too: bridges with more ports, macvlans.
    pub mixed: BTreeSet<u32>,
}

/// The intakes of attached interfaces: name, index, and whether in generic mode.
pub fn intakes<'a>(
    attached: impl IntoIterator<Item = (&'a str, u32, bool)>,
    netdevs: &Netdevs,
) -> Vec<Intake> {
    /// Attached interfaces, the indices that the program runs for, and all above these.
    #[derive(Default)]
    struct Group {
        names: Vec<String>,
        slots: BTreeSet<u32>,
        runs_on: BTreeSet<u32>,
        above: BTreeMap<u32, Netdev>,
    }
    let mut groups: Vec<Group> = Vec::new();
    for (name, ifindex, generic) in attached {
        let mut group = Group {
            names: vec![name.to_owned()],
            ..Group::default()
        };
        for netdev in netdevs.runs_on(ifindex, generic) {
            group.slots.insert(Traffic::slot(netdev.ifindex));
            group.runs_on.insert(netdev.ifindex);
            let above = netdevs.with_uppers(netdev.ifindex);
            group
                .above
                .extend(above.map(|upper| (upper.ifindex, upper.clone())));
        }
        let (joined, apart) = groups.into_iter().partition(|other: &Group| {
            let has = |upper| other.above.contains_key(upper);
            !other.slots.is_disjoint(&group.slots) || group.above.keys().any(has)
        });
        groups = apart;
        let mut joined: Vec<Group> = joined;
        joined.push(group);
        let mut whole = Group::default();
        for group in joined {
            whole.names.extend(group.names);
            whole.slots.extend(group.slots);
            whole.runs_on.extend(group.runs_on);
            whole.above.extend(group.above);
        }
        groups.push(whole);
    }
    let intake = |group: Group| {
        let mut own = group.runs_on.clone();
        // An interface is among them once all that it stands on is.
        while let Some(upper) = group
            .above
            .values()
            .find(|upper| !own.contains(&upper.ifindex) && is_all_of(upper, &own, netdevs))
        {
            own.insert(upper.ifindex);
        }
        Intake {
            interfaces: group.names,
            runs_on: group.runs_on,
            slots: group.slots,
            mixed: group
                .above
                .into_keys()
                .filter(|upper| !own.contains(upper))
                .collect(),
            own,
        }
    };
    groups.into_iter().map(intake).collect()
}

/// Whether all that comes by an upper interface comes by these.
fn is_all_of(upper: &Netdev, own: &BTreeSet<u32>, netdevs: &Netdevs) -> bool {
    match upper.kind {
        Kind::Vlan => upper.lower.is_some_and(|lower| own.contains(&lower)),
        Kind::Bond | Kind::Bridge => {
            let mut parts = netdevs.parts(upper.ifindex);
            parts.all(|part| own.contains(&part.ifindex))
        }
        // Macvlans of one interface reach each other without it.
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An interface: index, kind, lower interface, master.
    type Part = (u32, Kind, Option<u32>, Option<u32>);

    /// An intake: names, slots, own and mixed interfaces.
    type Shown = (String, Vec<u32>, Vec<u32>, Vec<u32>);

    fn found(parts: &[Part], attached: &[(&str, u32, bool)]) -> Vec<Shown> {
        let netdev = |&(ifindex, kind, lower, master): &Part| Netdev {
            ifindex,
            kind,
            lower,
            master,
            ..Netdev::default()
        };
        let netdevs = Netdevs::from(parts.iter().map(netdev).collect::<Vec<_>>());
        let shown = |of: Intake| {
            let list = |set: BTreeSet<u32>| set.into_iter().collect();
            (
                of.interfaces.join(" "),
                list(of.slots),
                list(of.own),
                list(of.mixed),
            )
        };
        intakes(attached.iter().copied(), &netdevs)
            .into_iter()
            .map(shown)
            .collect()
    }

    fn intake(names: &str, slots: &[u32], own: &[u32], mixed: &[u32]) -> Shown {
        (
            names.to_owned(),
            slots.to_vec(),
            own.to_vec(),
            mixed.to_vec(),
        )
    }

    #[test]
    fn queries_come_by_vlans_and_macvlans_of_a_card() {
        let host = [
            (1, Kind::Card, None, None),
            (2, Kind::Vlan, Some(1), None),
            (3, Kind::Macvlan, Some(1), None),
            (4, Kind::Vlan, Some(3), None),
            (5, Kind::Card, None, None),
        ];
        assert_eq!(
            found(&host, &[("eth0", 1, false), ("eth1", 5, true)]),
            [
                intake("eth0", &[1], &[1, 2], &[3, 4]),
                intake("eth1", &[5], &[5], &[])
            ]
        );
    }

    #[test]
    fn a_bond_has_the_slots_of_its_ports_where_its_driver_runs_the_program() {
        let bond = [
            (1, Kind::Card, None, Some(3)),
            (2, Kind::Card, None, Some(3)),
            (3, Kind::Bond, None, None),
            (4, Kind::Vlan, Some(3), None),
        ];
        assert_eq!(
            found(&bond, &[("bond0", 3, false)]),
            [intake("bond0", &[1, 2, 3], &[1, 2, 3, 4], &[])]
        );
        assert_eq!(
            found(&bond, &[("bond0", 3, true)]),
            [intake("bond0", &[3], &[3, 4], &[])]
        );
        // One port does not see what comes by the other; both see all.
        assert_eq!(
            found(&bond, &[("eth0", 1, false)]),
            [intake("eth0", &[1], &[1], &[3, 4])]
        );
        assert_eq!(
            found(&bond, &[("eth0", 1, false), ("eth1", 2, false)]),
            [intake("eth0 eth1", &[1, 2], &[1, 2, 3, 4], &[])]
        );
    }

    #[test]
    fn a_bridge_may_have_ports_that_the_program_is_not_on() {
        let bridge = [
            (1, Kind::Card, None, Some(3)),
            (2, Kind::Veth, None, Some(3)),
            (3, Kind::Bridge, None, None),
        ];
        assert_eq!(
            found(&bridge, &[("eth0", 1, false)]),
            [intake("eth0", &[1], &[1], &[3])]
        );
        assert_eq!(
            found(&bridge, &[("br0", 3, true)]),
            [intake("br0", &[3], &[3], &[])]
        );
    }

    #[test]
    fn interfaces_that_share_a_slot_are_one_intake() {
        let host = [
            (2, Kind::Card, None, None),
            (66, Kind::Card, None, None),
            (3, Kind::Card, None, None),
        ];
        assert_eq!(
            found(
                &host,
                &[("eth0", 2, false), ("eth1", 3, false), ("eth2", 66, false)]
            ),
            [
                intake("eth1", &[3], &[3], &[]),
                intake("eth0 eth2", &[2], &[2, 66], &[])
            ]
        );
    }
}

//! Differences between two versions of a zone, for servers that have the first and want the second
//! (RFC 1995).

use std::collections::BTreeMap;

use domain::base::{Name as DomainName, Rtype};

use super::rdata;
use super::run::{Record, Run};
use super::store::{Node, TooLarge, Zone};

impl From<&Zone> for Run {
    /// Every record of a zone, the SOA record first.
    fn from(zone: &Zone) -> Self {
        let mut run = Self::default();
        let apex = zone.apex.for_slice();
        zone.soa().records().for_each(|soa| run.push(apex, soa));
        for node in zone.nodes() {
            for record in node.records().filter(|record| record.rtype != Rtype::SOA) {
                run.push(node.name(), record);
            }
        }
        run
    }
}

/// The change from one version of a zone to the next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delta {
    /// SOA record of the first, its owner the apex.
    pub old_soa: Run,
    /// SOA record of the second.
    pub new_soa: Run,
    /// Records that the first has and the second has not, SOA apart.
    pub removed: Run,
    /// Records that the second has and the first has not, SOA apart.
    pub added: Run,
}

/// A delta is not one of this zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Misfit {
    /// A record that it removes is not there.
    #[error("it removes a record that is not in the zone")]
    Missing,
    /// The zone is too large with it.
    #[error("{0}")]
    TooLarge(#[from] TooLarge),
}

impl Delta {
    /// Compares two versions of a zone.
    pub fn between(old: &Zone, new: &Zone) -> Self {
        let soa = |zone: &Zone| {
            let mut run = Run::default();
            let records = zone.soa().records();
            records.for_each(|soa| run.push(zone.apex.for_slice(), soa));
            run
        };
        let (mut removed, mut added) = (Run::default(), Run::default());
        for node in new.nodes() {
            match old.node(node.name()) {
                Some(before) if before.has_same_records(node) => {}
                Some(before) => {
                    left_out(before, node, &mut removed);
                    left_out(node, before, &mut added);
                }
                None => data(node).for_each(|record| added.push(node.name(), record)),
            }
        }
        for node in old.nodes().filter(|node| new.node(node.name()).is_none()) {
            data(node).for_each(|record| removed.push(node.name(), record));
        }
        Self {
            old_soa: soa(old),
            new_soa: soa(new),
            removed,
            added,
        }
    }

    /// Whether nothing is different, but for the SOA record.
    pub fn is_empty(&self) -> bool {
        self.removed.is_empty() && self.added.is_empty()
    }

    /// Serial of the first version.
    pub fn from_serial(&self) -> u32 {
        serial(&self.old_soa)
    }

    /// Serial of the second version.
    pub fn to_serial(&self) -> u32 {
        serial(&self.new_soa)
    }

    /// Octets of all its records.
    pub fn size(&self) -> usize {
        let runs = [&self.old_soa, &self.new_soa, &self.removed, &self.added];
        runs.iter().map(|run| run.size()).sum()
    }

    /// Turns the first version into the second. `stays`: what is passed over, by owner and type.
    ///
    /// On an error the zone may be half changed: throw it away.
    pub fn apply(
        &self,
        zone: &mut Zone,
        stays: impl Fn(&DomainName<[u8]>, Rtype) -> bool,
    ) -> Result<(), Misfit> {
        // By owner: what goes, and what comes.
        let mut changes: BTreeMap<&DomainName<[u8]>, [Vec<Record<'_>>; 2]> = BTreeMap::new();
        for (which, runs) in [
            (0, [&self.old_soa, &self.removed]),
            (1, [&self.new_soa, &self.added]),
        ] {
            for (owner, record) in runs.into_iter().flat_map(Run::iter) {
                if !stays(owner, record.rtype) {
                    changes.entry(owner).or_default()[which].push(record);
                }
            }
        }
        for (owner, [removed, added]) in changes {
            let mut kept = Run::default();
            let mut found = 0;
            for record in zone.node(owner).into_iter().flat_map(Node::records) {
                match removed.iter().find(|gone| gone.is(&record)) {
                    Some(_) => found += 1,
                    None => kept.push(owner, record),
                }
            }
            if found < removed.len() {
                return Err(Misfit::Missing);
            }
            let kept = kept.iter().map(|(_, record)| record);
            let mut records: Vec<_> = kept.chain(added).collect();
            zone.set(owner, &mut records)?;
        }
        Ok(())
    }
}

/// Serial in a SOA record.
fn serial(soa: &Run) -> u32 {
    let soa = soa.iter().next();
    let numbers = soa.and_then(|(_, soa)| soa.rdata.last_chunk::<20>().copied());
    numbers.map_or(0, |[a, b, c, d, ..]| u32::from_be_bytes([a, b, c, d]))
}

/// Records of a node, SOA apart.
fn data(node: Node<'_>) -> impl Iterator<Item = Record<'_>> {
    node.records().filter(|record| record.rtype != Rtype::SOA)
}

/// Records of a node that another one has not.
fn left_out(node: Node<'_>, other: Node<'_>, run: &mut Run) {
    for rrset in node.rrsets().filter(|rrset| rrset.rtype != Rtype::SOA) {
        let other = other.counterpart(rrset);
        if other == Some(rrset) {
            continue;
        }
        let other = other.filter(|other| other.ttl == rrset.ttl);
        // Both are sorted. A name in another case is different here: who follows is to have it too.
        let mut others = other.into_iter().flat_map(|other| other.rdata()).peekable();
        for record in rrset.records() {
            let before = |other: &&[u8]| rdata::compare(rrset.rtype, other, record.rdata).is_lt();
            while others.next_if(before).is_some() {}
            if others.next_if(|other| *other == record.rdata).is_none() {
                run.push(node.name(), record);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::base::name::parse_name;

    /// Records of a small zone: owner, type, TTL, RDATA.
    fn records() -> impl Strategy<Value = Vec<(String, u16, u32, Vec<u8>)>> {
        let labels = prop::collection::vec(prop::sample::select(vec!["a", "b", "*"]), 0..3);
        let record = (
            labels,
            prop::sample::select(vec![1u16, 2, 16, 28, 46]),
            1..3u32,
            prop::collection::vec(0..3u8, 0..4),
        );
        prop::collection::vec(record, 0..30).prop_map(|records| {
            let named = records.into_iter().map(|(labels, rtype, ttl, rdata)| {
                let labels = labels.into_iter().chain(["example", "org"]);
                (labels.collect::<Vec<_>>().join("."), rtype, ttl, rdata)
            });
            named.collect()
        })
    }

    fn zone(serial: u32, records: &[(String, u16, u32, Vec<u8>)]) -> Zone {
        let apex = parse_name("example.org").unwrap();
        let mut zone = Zone::empty(apex.clone());
        let mut soa = b"\0\0".to_vec();
        soa.extend_from_slice(&serial.to_be_bytes());
        soa.extend_from_slice(&[0; 16]);
        let mut all: BTreeMap<&str, Vec<Record<'_>>> = BTreeMap::new();
        all.entry("example.org").or_default().push(Record {
            rtype: Rtype::SOA,
            ttl: 1,
            rdata: &soa,
        });
        for (owner, rtype, ttl, rdata) in records {
            all.entry(owner).or_default().push(Record {
                rtype: Rtype::from_int(*rtype),
                ttl: *ttl,
                rdata,
            });
        }
        for (owner, mut records) in all {
            let owner = parse_name(owner).unwrap();
            zone.set(owner.for_slice(), &mut records).unwrap();
        }
        zone
    }

    fn sorted(zone: &Zone) -> Vec<(String, u16, u32, Vec<u8>)> {
        let run = Run::from(zone);
        let plain = run.iter().map(|(owner, record)| {
            let Record { rtype, ttl, rdata } = record;
            (owner.to_string(), rtype.to_int(), ttl, rdata.to_vec())
        });
        let mut all: Vec<_> = plain.collect();
        all.sort();
        all
    }

    #[test]
    fn a_record_is_removed_whatever_the_case_of_its_names() {
        let ns = |rdata: &[u8]| ("example.org".to_owned(), 2, 1, rdata.to_vec());
        let old = zone(7, &[ns(b"\x02Ns\x01a\0"), ns(b"\x02ns\x01b\0")]);
        let new = zone(8, &[ns(b"\x02nS\x01A\0"), ns(b"\x02ns\x01b\0")]);
        // Who follows is to have the other case too.
        let delta = Delta::between(&old, &new);
        assert_eq!(
            (delta.removed.iter().count(), delta.added.iter().count()),
            (1, 1)
        );
        let mut other = zone(7, &[ns(b"\x02NS\x01A\0"), ns(b"\x02ns\x01B\0")]);
        delta.apply(&mut other, |_, _| false).unwrap();
        let names: Vec<_> = other
            .top()
            .rrset(Rtype::NS)
            .unwrap()
            .rdata()
            .map(<[u8]>::to_vec)
            .collect();
        assert_eq!(names, [&b"\x02nS\x01A\0"[..], b"\x02ns\x01B\0"]);
    }

    proptest! {
        #[test]
        fn the_delta_of_two_zones_turns_the_first_into_the_second(
            old in records(),
            new in records(),
        ) {
            let (old, new) = (zone(7, &old), zone(8, &new));
            let delta = Delta::between(&old, &new);
            prop_assert_eq!((delta.from_serial(), delta.to_serial()), (7, 8));
            let mut applied = old.clone();
            delta.apply(&mut applied, |_, _| false).unwrap();
            prop_assert_eq!(sorted(&applied), sorted(&new));
            prop_assert_eq!(applied.len(), new.len());
            // No more than what is different, and nothing twice.
            let (before, after) = (sorted(&old), sorted(&new));
            for (_, record) in delta.removed.iter() {
                prop_assert!(record.rtype != Rtype::SOA);
            }
            let is_in = |all: &[(String, u16, u32, Vec<u8>)], owner: &DomainName<[u8]>, r: Record<'_>| {
                all.contains(&(owner.to_string(), r.rtype.to_int(), r.ttl, r.rdata.to_vec()))
            };
            prop_assert!(delta.removed.iter().all(|(o, r)| is_in(&before, o, r) && !is_in(&after, o, r)));
            prop_assert!(delta.added.iter().all(|(o, r)| is_in(&after, o, r) && !is_in(&before, o, r)));
            // What is gone cannot be removed again.
            if !delta.removed.is_empty() {
                let again = delta.apply(&mut applied, |_, _| false);
                prop_assert_eq!(again, Err(Misfit::Missing));
            }
        }

        #[test]
        fn octets_that_are_no_records_are_refused(octets in prop::collection::vec(any::<u8>(), 0..60)) {
            if let Some(run) = Run::from_octets(octets.clone()) {
                prop_assert_eq!(run.as_octets(), &octets[..]);
                let mut again = Run::default();
                run.iter().for_each(|(owner, record)| again.push(owner, record));
                prop_assert_eq!(again, run);
            }
        }
    }
}

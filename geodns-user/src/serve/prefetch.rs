//! Brings the parts of a large zone that a batch of queries needs into the caches, for all queries together.
//!
//! A name of a zone that is larger than the caches costs two waits for memory, one after the other: for the place of
//! its node, and for the node. Here several queries wait together, before the first is answered. Nothing else
//! depends on it: a message that is odd is passed over, and the answer says what is wrong.

use super::batch::BATCH;
use super::lookup::LowerName;
use super::query::Question;
use crate::world::World;
use crate::zone::{NameHash, Zone, Zones};

/// Prefetches the names that messages ask for, of the first of them as many as a batch has.
pub fn prefetch<'a>(world: &World, messages: impl Iterator<Item = &'a [u8]>) {
    let zones = &**world.zones.load();
    if !zones.any_is_large() {
        return;
    }
    let mut names = [const { None }; BATCH];
    let mut last = None;
    for (name, message) in names.iter_mut().zip(messages) {
        *name = prefetch_index(zones, last, message);
        last = name.map(|(zone, _)| zone).or(last);
    }
    for (zone, name) in names.into_iter().flatten() {
        zone.prefetch_node(name);
    }
}

/// Prefetches what says where the name is that a message asks for, if it is in a large zone: most likely in the
/// one that the message before was about.
fn prefetch_index<'a>(
    zones: &'a Zones,
    last: Option<&'a Zone>,
    message: &[u8],
) -> Option<(&'a Zone, NameHash)> {
    let question = Question::first(message)?;
    let name = LowerName::of(&[question.name])?;
    let name = name.name();
    let last = last.filter(|zone| name.as_slice().ends_with(zone.apex.as_slice()));
    let zone = last.or_else(|| zones.find(name).map(|(_, zone)| &**zone))?;
    zone.is_large().then(|| (zone, zone.prefetch_index(name)))
}

#[cfg(test)]
mod tests {
    use domain::base::Rtype;
    use proptest::prelude::*;

    use super::*;
    use crate::base::name::parse_name;
    use crate::zone::Record;

    /// A large zone and a small one.
    fn zones() -> Zones {
        let zones = [("large.example", 50_000), ("small.example", 20)].map(|(apex, names)| {
            let mut zone = Zone::empty(parse_name(apex).unwrap());
            for number in 0..names {
                let name = parse_name(&format!("h{number}.{apex}")).unwrap();
                let mut a = [Record {
                    rtype: Rtype::A,
                    ttl: 60,
                    rdata: &[192, 0, 2, 1],
                }];
                zone.set(name.for_slice(), &mut a).unwrap();
            }
            zone
        });
        Zones::from(Vec::from(zones))
    }

    fn query(name: &str) -> Vec<u8> {
        let mut query = vec![0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        for label in name.split('.') {
            query.push(label.len() as u8);
            query.extend_from_slice(label.as_bytes());
        }
        query.extend_from_slice(&[0, 0, 1, 0, 1]);
        query
    }

    #[test]
    fn names_of_large_zones_are_found_whatever_their_case() {
        let zones = zones();
        assert!(zones.any_is_large());
        let asked = |message: &[u8]| prefetch_index(&zones, None, message).map(|(_, name)| name);
        let lower = asked(&query("h7.large.example"));
        assert!(lower.is_some());
        assert_eq!(lower, asked(&query("H7.LARGE.eXample")));
        assert_ne!(lower, asked(&query("h8.large.example")));
        assert!(asked(&query("absent.large.example")).is_some());
        assert_eq!(asked(&query("h7.small.example")), None);
        assert_eq!(asked(&query("h7.elsewhere.example")), None);
    }

    #[test]
    fn what_is_odd_is_passed_over() {
        let zones = zones();
        let good = query("h7.large.example");
        for len in 0..good.len() {
            assert!(
                prefetch_index(&zones, None, &good[..len]).is_none(),
                "{len}"
            );
        }
        // A response; no question; two; a label too long; a pointer.
        for (at, octet) in [(2, 0x81), (5, 0), (5, 2), (12, 64), (12, 0xc0)] {
            let mut odd = good.clone();
            odd[at] = octet;
            assert!(
                prefetch_index(&zones, None, &odd).is_none(),
                "{octet} at {at}"
            );
        }
    }

    proptest! {
        #[test]
        fn nothing_panics(
            changes in prop::collection::vec((0..40usize, any::<u8>()), 0..6),
            len in 0..40usize,
        ) {
            let mut message = query("h7.large.example");
            for (at, octet) in changes {
                if let Some(there) = message.get_mut(at) {
                    *there = octet;
                }
            }
            message.truncate(len);
            for zones in [zones_once(), &Zones::default()] {
                if let Some((zone, name)) = prefetch_index(zones, None, &message) {
                    zone.prefetch_node(name);
                }
            }
        }
    }

    fn zones_once() -> &'static Zones {
        static ZONES: std::sync::OnceLock<Zones> = std::sync::OnceLock::new();
        ZONES.get_or_init(zones)
    }
}

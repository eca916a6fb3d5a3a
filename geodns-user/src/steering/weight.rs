//! The slots of a group: which of its mirrors a client's prefix draws.

use std::hash::Hasher;

use geodns_common::abi::{Order, SLOTS};
use siphasher::sip::SipHasher13;

use crate::config::{Group, Policy};

/// The order of a group's mirrors in each of its slots.
///
/// By weight: weighted rendezvous hashing. For each slot a mirror draws `-ln(u) / weight`, where u is
/// uniform and of that slot and mirror alone, and the lowest is first. So a mirror is first in its
/// share of the slots; when it goes, its slots fall to the others by their weights, and no other
/// slot changes; and so does what is taken when a weight changes. The same on every node, since
/// nothing but ids is hashed. Mirrors of weight 0 are in no slot.
///
/// `weights` and `ids` are by the mirror's number in the pool.
pub fn slots(group: &Group, weights: &[u32], ids: &[&str]) -> Vec<u64> {
    if group.policy != Policy::Weighted {
        // In turn: the same for everyone.
        return vec![Order::pack(group.mirrors.iter().copied()).0; SLOTS as usize];
    }
    let drawing: Vec<(u8, f64)> = group
        .mirrors
        .iter()
        .map(|&mirror| (mirror, f64::from(weights[usize::from(mirror)])))
        .filter(|&(_, weight)| weight > 0.0)
        .collect();
    let mut drawn: Vec<(f64, u8)> = Vec::with_capacity(drawing.len());
    (0..SLOTS)
        .map(|slot| {
            drawn.clear();
            drawn.extend(drawing.iter().map(|&(mirror, weight)| {
                (
                    -uniform(ids[usize::from(mirror)], slot).ln() / weight,
                    mirror,
                )
            }));
            drawn.sort_by(|a, b| a.0.total_cmp(&b.0));
            Order::pack(drawn.iter().map(|&(_, mirror)| mirror)).0
        })
        .collect()
}

/// A number above 0 and below 1 that a mirror has in a slot.
fn uniform(id: &str, slot: u32) -> f64 {
    let mut hasher = SipHasher13::new();
    hasher.write(id.as_bytes());
    hasher.write(&slot.to_le_bytes());
    // 52 bits, and half of one.
    ((hasher.finish() >> 12) as f64 + 0.5) / (1u64 << 52) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(mirrors: u8) -> Group {
        Group {
            id: "g".into(),
            mirrors: (0..mirrors).collect(),
            policy: Policy::Weighted,
            location: None,
        }
    }

    const IDS: [&str; 5] = ["ams", "fra", "iad", "sjc", "sin"];

    fn first(slots: &[u64]) -> Vec<u8> {
        slots.iter().map(|&order| Order(order).get(0)).collect()
    }

    #[test]
    fn each_is_first_in_its_share() {
        let weights = [100, 50, 25, 25, 0];
        let first = first(&slots(&group(5), &weights, &IDS));
        for (mirror, weight) in weights.into_iter().enumerate() {
            let got = first.iter().filter(|&&m| usize::from(m) == mirror).count();
            let expected = f64::from(weight) / 200.0 * f64::from(SLOTS);
            let deviation = (expected * (1.0 - expected / f64::from(SLOTS))).sqrt();
            assert!(
                (got as f64 - expected).abs() <= 3.5 * deviation,
                "{mirror}: {got} of {expected}"
            );
        }
    }

    #[test]
    fn a_weight_moves_only_what_it_takes_or_gives() {
        let before = first(&slots(&group(4), &[100, 100, 100, 100], &IDS));
        let less = first(&slots(&group(4), &[100, 40, 100, 100], &IDS));
        let none = first(&slots(&group(4), &[100, 0, 100, 100], &IDS));
        for ((before, less), none) in before.iter().zip(less).zip(none) {
            if *before != 1 {
                assert_eq!((*before, *before), (less, none));
            } else {
                assert!(less == 1 || less == none);
            }
        }
    }

    #[test]
    fn the_rest_of_a_slot_is_who_takes_over() {
        let all = slots(&group(4), &[70, 100, 30, 100], &IDS);
        let without = slots(&group(4), &[70, 0, 30, 100], &IDS);
        for (all, without) in all.into_iter().zip(without) {
            let mut left: Vec<u8> = Order(all).iter().collect();
            left.retain(|&mirror| mirror != 1);
            assert_eq!(left, Order(without).iter().collect::<Vec<_>>());
        }
    }

    #[test]
    fn in_turn_is_the_same_for_everyone() {
        let group = Group {
            policy: Policy::Failover,
            ..group(3)
        };
        let slots = slots(&group, &[1, 0, 5], &IDS);
        assert_eq!(slots.len(), SLOTS as usize);
        assert!(slots.iter().all(|&slot| slot == Order::pack([0, 1, 2]).0));
    }
}

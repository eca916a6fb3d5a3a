//! Which mirrors answer, and in which order: pure functions of policy and client.

use geodns_common::abi::{Family, MAX_MIRRORS, Order};

use crate::config::{Mirror, Policy, Pool};

/// Order for a client whose prefix has these mirrors: the override first, then the prefix list's,
/// the default, and the rest of the pool; at most [`Order::LEN`].
///
/// Numbers that the pool does not have are left out.
pub fn order(pool: &Pool, listed: Option<u8>, overriding: Option<u8>) -> Order {
    let default = match pool.policy {
        Policy::All => None,
        Policy::Table { default, .. } => Some(default),
    };
    let preferred = [overriding, listed, default];
    Order::pack(
        preferred
            .into_iter()
            .flatten()
            .filter(|&mirror| (mirror as usize) < pool.mirrors.len())
            .chain(numbers(pool)),
    )
}

/// Order where a region's own mirrors cannot answer: those that have addresses of a family, the
/// default first.
///
/// An order is eight mirrors at the most, so a region of a large pool may name none that has the
/// family.
pub fn fallback(pool: &Pool, mirrors: &[Mirror], family: Family) -> Order {
    let has = having(pool, mirrors, family);
    let default = match pool.policy {
        Policy::All => None,
        Policy::Table { default, .. } => Some(default),
    };
    Order::pack(
        default
            .into_iter()
            .chain(numbers(pool))
            .filter(|&mirror| has.checked_shr(mirror.into()).unwrap_or(0) & 1 != 0),
    )
}

/// Mask of the pool's mirrors that have addresses of a family.
pub fn having(pool: &Pool, mirrors: &[Mirror], family: Family) -> u64 {
    numbers(pool)
        .filter(|&number| {
            let mirror = &mirrors[pool.mirrors[number as usize]];
            match family {
                Family::V4 => !mirror.v4.is_empty(),
                Family::V6 => !mirror.v6.is_empty(),
            }
        })
        .fold(0, |mask, number| mask | 1 << number)
}

/// Mask of all mirrors of a pool.
pub fn everyone(pool: &Pool) -> u64 {
    numbers(pool).fold(0, |mask, number| mask | 1 << number)
}

fn numbers(pool: &Pool) -> impl Iterator<Item = u8> {
    0..pool.mirrors.len().min(MAX_MIRRORS) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(mirrors: usize, default: u8) -> Pool {
        Pool {
            id: "www".into(),
            mirrors: (0..mirrors).collect(),
            policy: Policy::Table {
                default,
                prefixes: None,
            },
            ttl: 60,
            answers: 1,
            line: 1,
        }
    }

    fn numbers(order: Order) -> Vec<u8> {
        order.iter().collect()
    }

    #[test]
    fn the_override_stands_before_the_list_and_the_list_before_the_default() {
        let pool = pool(4, 2);
        for (listed, overriding, expected) in [
            (None, None, [2, 0, 1, 3]),
            (Some(1), None, [1, 2, 0, 3]),
            (None, Some(3), [3, 2, 0, 1]),
            (Some(1), Some(3), [3, 1, 2, 0]),
            (Some(3), Some(3), [3, 2, 0, 1]),
        ] {
            assert_eq!(numbers(order(&pool, listed, overriding)), expected);
        }
    }

    #[test]
    fn a_mirror_that_the_pool_has_not_is_left_out() {
        assert_eq!(numbers(order(&pool(2, 0), Some(7), Some(200))), [0, 1]);
    }

    #[test]
    fn an_order_ends_at_eight() {
        let order = order(&pool(12, 11), Some(10), None);
        assert_eq!(numbers(order), [10, 11, 0, 1, 2, 3, 4, 5]);
    }

    #[test]
    fn the_fallback_names_only_mirrors_of_the_family() {
        let mirrors: Vec<_> = (0..12u8)
            .map(|n| Mirror {
                id: format!("m{n}"),
                v4: vec![[192, 0, 2, n].into()],
                v6: if n >= 10 {
                    vec!["2001:db8::1".parse().unwrap()]
                } else {
                    Vec::new()
                },
            })
            .collect();
        let pool = pool(12, 3);
        assert_eq!(numbers(fallback(&pool, &mirrors, Family::V6)), [10, 11]);
        assert_eq!(
            numbers(fallback(&pool, &mirrors, Family::V4)),
            [3, 0, 1, 2, 4, 5, 6, 7]
        );
        assert_eq!(having(&pool, &mirrors, Family::V6), 0b1100_0000_0000);
        assert_eq!(everyone(&pool), 0xfff);
    }
}

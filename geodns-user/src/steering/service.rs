//! Which mirrors are in service, for which share of the clients.

use std::time::Duration;

use geodns_common::abi::{self, Family, SHARES};

use super::quorum::CAREFUL_PANIC;
use crate::config::{Fail, Pool};

/// How a mirror is, at some moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Health {
    /// Whether it works, by [`Family::index`].
    pub up: [bool; 2],
    /// Whether it goes last for this node's clients, by [`Family::index`].
    pub avoid: [bool; 2],
    /// Taken out of service by the operator.
    pub down: bool,
    /// Share of the clients that it takes no more, 0 to [`SHARES`].
    pub drained: usize,
    /// Its weight; 0 is as drained.
    pub weight: u32,
    /// The least time until any of this could change by itself.
    pub until_change: Option<Duration>,
}

impl Health {
    /// That of a mirror that nobody looks after.
    pub const fn good(weight: u32) -> Self {
        Self {
            up: [true; 2],
            avoid: [false; 2],
            down: false,
            drained: 0,
            weight,
            until_change: None,
        }
    }
}

/// Content of a pool's rows about the mirrors that answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Masks of the mirrors in service, by [`Family::index`] and share of the clients. None: the pool
    /// cannot answer.
    pub in_service: [[u64; SHARES]; 2],
    /// Masks of the mirrors that answer clients whom no mirror in service takes, by [`Family::index`]. Empty
    /// where no mirror is limited.
    pub spare: [u64; 2],
    /// TTL of its records, and [`abi::Pool::SPLIT`].
    pub ttl: u64,
    /// Whether so few are up that the checks are not believed, by [`Family::index`].
    pub panic: [bool; 2],
}

impl Service {
    /// Whether the pool can answer with records of a family.
    pub fn answers(&self, family: Family) -> bool {
        self.in_service[family.index()] != [0; SHARES]
    }
}

/// Works out a pool's rows. `health` is by the mirror's number in the pool, `has` as in
/// [`abi::Pool::has`]. With `careful`, checks are not believed while less than half of the pool is up.
///
/// With limited mirrors, clients whom none in service takes get a mirror that takes everybody: one that is up, or else
/// what `fail` says. The whole pool falls back as soon as none that takes everybody is up.
///
/// Those count that are up, not taken down, not drained and not to be avoided, in that share of the clients; where there
/// are none, those to be avoided; then the drained ones; where none is up, what `fail` says: nothing, or else those that
/// were not taken down, or else all.
pub fn service(pool: &Pool, has: [u64; 2], health: &[Health], careful: bool) -> Service {
    let mut service = Service {
        in_service: [[0; SHARES]; 2],
        spare: [0; 2],
        ttl: ttl(pool, health).into(),
        panic: [false; 2],
    };
    let mask = |good: &dyn Fn(&Health) -> bool| {
        let numbered = health.iter().enumerate();
        numbered.fold(0u64, |mask, (mirror, health)| {
            mask | u64::from(good(health)) << mirror
        })
    };
    let allowed = mask(&|health| !health.down);
    let panic = match careful {
        true => pool.panic.max(CAREFUL_PANIC),
        false => pool.panic,
    };
    for family in [Family::V4, Family::V6] {
        let index = family.index();
        let candidates = allowed & has[index];
        let mut up = mask(&|health| health.up[index]) & candidates;
        service.panic[index] =
            f64::from(up.count_ones()) < panic * f64::from(candidates.count_ones());
        if service.panic[index] {
            up = candidates;
        }
        if pool.limited != 0 && matches!(pool.fail, Fail::Fallback(_)) && up & !pool.limited == 0 {
            continue;
        }
        let near = mask(&|health| !health.avoid[index]);
        let last_resort = |among: u64| match pool.fail {
            Fail::Open if candidates & among != 0 => candidates & among,
            Fail::Open => has[index] & among,
            Fail::Closed | Fail::Fallback(_) => 0,
        };
        if pool.limited != 0 {
            let among = !pool.limited;
            service.spare[index] = match up & among {
                0 => last_resort(among),
                up => up,
            };
        }
        for (share, in_service) in service.in_service[index].iter_mut().enumerate() {
            let takes = mask(&|health| health.weight > 0 && share >= health.drained);
            *in_service = [up & takes & near, up & takes, up, last_resort(u64::MAX)]
                .into_iter()
                .find(|&mask| mask != 0)
                .unwrap_or(0);
        }
        let shares = &service.in_service[index];
        if shares.iter().any(|mask| *mask != shares[0]) {
            service.ttl |= abi::Pool::SPLIT;
        }
    }
    service
}

/// TTL of a pool's records: no longer than until something could change, within its bounds.
fn ttl(pool: &Pool, health: &[Health]) -> u32 {
    let soonest = health.iter().filter_map(|health| health.until_change).min();
    soonest.map_or(pool.ttl, |soonest| {
        let seconds = u32::try_from(soonest.as_secs()).unwrap_or(u32::MAX);
        seconds.clamp(pool.ttl_min, pool.ttl)
    })
}

/// The pool that answers in each pool's place, as [`abi::Pool::answered_by`] has it: the first of its
/// fallbacks that can answer; itself where none can.
pub fn answered_by(pools: &[Pool], has: &[[u64; 2]], services: &[Service]) -> Vec<u64> {
    let of_family = |number: usize, family: Family| {
        let mut at = number;
        // Fallbacks do not lead back: see config.
        while !services[at].answers(family) || has[at][family.index()] == 0 {
            let Fail::Fallback(next) = pools[at].fail else {
                return number;
            };
            at = next;
        }
        at
    };
    (0..pools.len())
        .map(|number| {
            let [v4, v6] = [Family::V4, Family::V6].map(|family| of_family(number, family) as u64);
            v4 | v6 << 32
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::steering::tests::pool;

    const BOTH: [u64; 2] = [0b111, 0b011];

    fn good() -> Vec<Health> {
        vec![Health::good(100); 3]
    }

    #[test]
    fn all_serve_while_all_is_well() {
        let service = service(&pool(3), BOTH, &good(), false);
        assert_eq!(service.in_service, [[0b111; SHARES], [0b011; SHARES]]);
        assert_eq!(service.ttl, 60);
    }

    #[test]
    fn what_is_down_is_out_by_family() {
        let mut health = good();
        health[0].up = [false, true];
        health[1].down = true;
        let service = service(&pool(3), BOTH, &health, false);
        assert_eq!(service.in_service, [[0b100; SHARES], [0b001; SHARES]]);
    }

    #[test]
    fn a_drain_goes_share_by_share() {
        let mut health = good();
        health[2].drained = 8;
        let service = service(&pool(3), BOTH, &health, false);
        assert_eq!(service.in_service[0][..8], [0b011; 8]);
        assert_eq!(service.in_service[0][8..], [0b111; SHARES - 8]);
        assert_eq!(service.ttl, 60 | abi::Pool::SPLIT);
        health[2].drained = SHARES;
        let service = super::service(&pool(3), BOTH, &health, false);
        assert_eq!(service.in_service[0], [0b011; SHARES]);
        assert_eq!(service.ttl, 60);
    }

    #[test]
    fn drained_mirrors_are_better_than_none() {
        let mut health = good();
        health[0].weight = 0;
        health[1].up = [false; 2];
        health[2].up = [false; 2];
        let service = service(&pool(3), BOTH, &health, false);
        assert_eq!(service.in_service, [[0b001; SHARES]; 2]);
    }

    #[test]
    fn with_none_up_the_pool_fails_as_it_is_told() {
        let mut health = good();
        for health in &mut health {
            health.up = [false; 2];
        }
        health[1].down = true;
        let mut pool = pool(3);
        for (fail, expected) in [
            (Fail::Open, [0b101, 0b001]),
            (Fail::Closed, [0, 0]),
            (Fail::Fallback(1), [0, 0]),
        ] {
            pool.fail = fail;
            let service = service(&pool, BOTH, &health, false);
            assert_eq!(service.in_service, expected.map(|mask| [mask; SHARES]));
        }
        for health in &mut health {
            health.down = true;
        }
        pool.fail = Fail::Open;
        assert_eq!(service(&pool, BOTH, &health, false).in_service[0][0], 0b111);
    }

    #[test]
    fn too_few_up_are_too_few_to_believe_it() {
        let mut health = good();
        health[0].up = [false; 2];
        health[1].up = [false; 2];
        let mut pool = pool(3);
        pool.panic = 0.5;
        let panicking = service(&pool, BOTH, &health, false);
        assert_eq!(panicking.panic, [true, true]);
        assert_eq!(panicking.in_service[0][0], 0b111);
        pool.panic = 0.3;
        let calm = service(&pool, [0b111; 2], &health, false);
        assert_eq!((calm.panic, calm.in_service[0][0]), ([false; 2], 0b100));
    }

    #[test]
    fn own_checks_alone_are_believed_while_half_of_a_pool_is_up() {
        let mut health = good();
        health[0].up = [false; 2];
        let careful = |health: &[Health]| service(&pool(3), [0b111; 2], health, true);
        assert_eq!(careful(&health).in_service[0][0], 0b110);
        health[1].up = [false; 2];
        assert_eq!(careful(&health).in_service[0][0], 0b111);
        assert_eq!(careful(&health).panic, [true; 2]);
    }

    #[test]
    fn a_mirror_to_be_avoided_comes_last() {
        let mut health = good();
        health[0].avoid = [true, false];
        let of = |health: &[Health]| service(&pool(3), [0b111; 2], health, false).in_service;
        assert_eq!(of(&health), [[0b110; SHARES], [0b111; SHARES]]);
        health[1].up = [false; 2];
        health[2].drained = SHARES;
        // A drained one is worse.
        assert_eq!(of(&health)[0][0], 0b001);
        health[0].up = [false; 2];
        assert_eq!(of(&health)[0][0], 0b100);
    }

    #[test]
    fn the_ttl_ends_where_a_state_could() {
        let mut health = good();
        let pool = pool(3);
        for (seconds, ttl) in [(10, 30), (30, 30), (44, 44), (60, 60), (600, 60)] {
            health[1].until_change = Some(Duration::from_secs(seconds));
            assert_eq!(service(&pool, BOTH, &health, false).ttl, ttl);
        }
    }

    #[test]
    fn clients_of_no_limited_mirror_get_what_fail_says() {
        let mut pool = pool(3);
        pool.limited = 0b011;
        let mut health = good();
        let of = |pool: &Pool, health: &[Health]| {
            let service = service(pool, [0b111; 2], health, false);
            (service.in_service[0][0], service.spare[0])
        };
        assert_eq!(of(&pool, &health), (0b111, 0b100));
        health[2].drained = SHARES;
        assert_eq!(of(&pool, &health), (0b011, 0b100));
        health[2].up = [false; 2];
        for (fail, expected) in [
            (Fail::Open, (0b011, 0b100)),
            (Fail::Closed, (0b011, 0)),
            (Fail::Fallback(1), (0, 0)),
        ] {
            pool.fail = fail;
            assert_eq!(of(&pool, &health), expected);
        }
        pool.fail = Fail::Open;
        health[0].down = true;
        health[1].down = true;
        health[2].down = true;
        assert_eq!(of(&pool, &health), (0b111, 0b100));
    }

    #[test]
    fn another_pool_answers_when_one_cannot() {
        let with = |fail| {
            let mut pool = pool(3);
            pool.fail = fail;
            pool
        };
        let pools = [
            with(Fail::Fallback(1)),
            with(Fail::Fallback(2)),
            with(Fail::Closed),
        ];
        let mut down = good();
        for health in &mut down {
            health.up = [false, true];
        }
        let has = [BOTH, [0b111, 0], BOTH];
        let of = |health: [&Vec<Health>; 3]| {
            let services: Vec<_> = (0..3)
                .map(|number| service(&pools[number], has[number], health[number], false))
                .collect();
            answered_by(&pools, &has, &services)
        };
        let well = good();
        let pack = |v4: u64, v6: u64| v4 | v6 << 32;
        assert_eq!(
            of([&well, &well, &well]),
            [pack(0, 0), pack(1, 2), pack(2, 2)]
        );
        assert_eq!(
            of([&down, &well, &well]),
            [pack(1, 0), pack(1, 2), pack(2, 2)]
        );
        assert_eq!(
            of([&down, &down, &well]),
            [pack(2, 0), pack(2, 2), pack(2, 2)]
        );
        assert_eq!(
            of([&down, &down, &down]),
            [pack(0, 0), pack(1, 2), pack(2, 2)]
        );
    }
}

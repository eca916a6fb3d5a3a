//! Standing of a mirror: an operator's and other monitors' words, which override our own checks.
//!
//! The operator's word ([`Admin`]) stands above monitors' verdicts ([`External`]), and these above our
//! checks. A [`Weight`] and a drain may come in force bit by bit, along a [`Ramp`].
//!
//! Times are milliseconds since 1970, and come as arguments. The clock may be set back: a ramp then
//! waits at its start, and what expires does so later.

use std::mem::discriminant;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// Octets of a verdict's reason, at the most.
pub const MAX_REASON: usize = 200;
/// Verdicts on one mirror, at the most: one for each address that it may have, and one for all.
pub const MAX_EXTERNALS: usize = 65;

/// All that is said of one mirror.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Standing {
    /// The operator's word.
    pub admin: Admin,
    /// Since when; `None` with [`Admin::Auto`].
    pub admin_since_unix_ms: Option<u64>,
    /// Weight instead of the configuration's.
    pub weight: Option<Weight>,
    /// Monitors' verdicts: at most one for each address, and one for all.
    pub external: Vec<External>,
}

/// The operator's word on a mirror, which overrides all checks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Admin {
    /// Checks decide.
    #[default]
    Auto,
    /// In service.
    Up,
    /// Out of service.
    Down,
    /// No new clients, in the end.
    Drain(Ramp),
}

/// From nothing to all, evenly over a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ramp {
    /// When it started.
    pub since_unix_ms: u64,
    /// How long it takes; 0: it is at its end at once.
    pub over_ms: u64,
}

/// A weight instead of the configuration's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Weight {
    /// Weight at the end of the ramp.
    pub value: u32,
    /// Weight at its start.
    pub from: u32,
    /// From the one to the other.
    pub ramp: Ramp,
}

/// Another monitor's verdict.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct External {
    /// Whether it found the address in order.
    pub up: bool,
    /// Address of the mirror; `None`: all that have no verdict of their own.
    pub address: Option<IpAddr>,
    /// When the verdict expires; `None`: never.
    pub until_unix_ms: Option<u64>,
    /// Why, in a line; may be empty.
    pub reason: String,
    /// When it was given.
    pub since_unix_ms: u64,
}

/// Why a verdict is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The reason is too long, or not a line.
    #[error("the reason is not one line of {MAX_REASON} octets at the most: shorten it")]
    Reason,
    /// There are [`MAX_EXTERNALS`] of other addresses.
    #[error("there are {MAX_EXTERNALS} verdicts on this mirror already: clear those out of date")]
    Full,
}

impl Standing {
    /// Whether nothing is said.
    pub fn is_empty(&self) -> bool {
        self.admin == Admin::Auto && self.weight.is_none() && self.external.is_empty()
    }

    /// Sets what the operator says. A drain goes on from what is drained already, so that a second
    /// one never brings clients back; a mirror that was out of service starts at its end.
    pub fn set_admin(&mut self, state: Admin, now_unix_ms: u64) {
        let drained = match self.admin {
            Admin::Down => 1.0,
            _ => self.drained(now_unix_ms),
        };
        let admin = match state {
            Admin::Drain(ramp) => Admin::Drain(ramp.further(drained)),
            other => other,
        };
        if admin == Admin::Auto {
            self.admin_since_unix_ms = None;
        } else if discriminant(&admin) != discriminant(&self.admin) {
            self.admin_since_unix_ms = Some(now_unix_ms);
        }
        self.admin = admin;
    }

    /// Share of new clients that are kept away by a drain, 0 to 1.
    pub fn drained(&self, now_unix_ms: u64) -> f64 {
        match self.admin {
            Admin::Drain(ramp) => ramp.share(now_unix_ms),
            _ => 0.0,
        }
    }

    /// Weight in force, before any drain, of a mirror that has this one in the configuration.
    pub fn weight(&self, configured: u32, now_unix_ms: u64) -> u32 {
        self.weight
            .map_or(configured, |weight| weight.at(now_unix_ms))
    }

    /// Takes a verdict, in the place of an earlier one on the same address. Forgets those expired.
    pub fn set_external(&mut self, verdict: External) -> Result<(), Refused> {
        if verdict.reason.len() > MAX_REASON || verdict.reason.contains(char::is_control) {
            return Err(Refused::Reason);
        }
        let now = verdict.since_unix_ms;
        self.external
            .retain(|other| other.address != verdict.address && other.in_force(now));
        if self.external.len() >= MAX_EXTERNALS {
            return Err(Refused::Full);
        }
        self.external.push(verdict);
        Ok(())
    }

    /// Takes back the verdict on one address; with `None`, all of them.
    pub fn clear_external(&mut self, address: Option<IpAddr>) {
        self.external
            .retain(|verdict| address.is_some() && verdict.address != address);
    }

    /// The verdict on an address, its own before the one for all, if one is in force; with `None` (the
    /// mirror is a host name), the one for all.
    pub fn external(&self, address: Option<IpAddr>, now_unix_ms: u64) -> Option<&External> {
        let on = |address| {
            self.external
                .iter()
                .find(|verdict| verdict.address == address && verdict.in_force(now_unix_ms))
        };
        on(address).or_else(|| on(None))
    }

    /// When it says something else next by itself, with ramps seen in N steps; `None`: never.
    pub fn next_change(&self, now_unix_ms: u64, steps: u32) -> Option<u64> {
        let drain = match self.admin {
            Admin::Drain(ramp) => ramp.next_step(now_unix_ms, steps),
            _ => None,
        };
        let weight = self
            .weight
            .and_then(|weight| weight.ramp.next_step(now_unix_ms, steps));
        let expiries = self.external.iter().filter_map(|v| v.until_unix_ms);
        expiries
            .filter(|&until| until > now_unix_ms)
            .chain(drain)
            .chain(weight)
            .min()
    }
}

impl Ramp {
    /// How far it is, 0 to 1.
    pub fn share(&self, now_unix_ms: u64) -> f64 {
        let elapsed = now_unix_ms.saturating_sub(self.since_unix_ms);
        if elapsed >= self.over_ms {
            return 1.0;
        }
        elapsed as f64 / self.over_ms as f64
    }

    /// When it next comes to a multiple of 1/`steps`; `None`: it is at its end.
    pub fn next_step(&self, now_unix_ms: u64, steps: u32) -> Option<u64> {
        let elapsed = now_unix_ms.saturating_sub(self.since_unix_ms);
        if elapsed >= self.over_ms {
            return None;
        }
        let (elapsed, over) = (u128::from(elapsed), u128::from(self.over_ms));
        let steps = u128::from(steps.max(1));
        let step = elapsed * steps / over + 1;
        let after = u64::try_from((step * over).div_ceil(steps)).ok()?;
        self.since_unix_ms.checked_add(after)
    }

    /// When it is at its end.
    pub fn end_unix_ms(&self) -> u64 {
        self.since_unix_ms.saturating_add(self.over_ms)
    }

    /// This ramp, as if it had begun earlier: at its start it is as far as `share`.
    fn further(self, share: f64) -> Self {
        let head_start = self.over_ms as f64 * share.clamp(0.0, 1.0);
        Self {
            since_unix_ms: self.since_unix_ms.saturating_sub(head_start.ceil() as u64),
            ..self
        }
    }
}

impl Weight {
    /// Weight at a time.
    pub fn at(&self, now_unix_ms: u64) -> u32 {
        let (from, value) = (f64::from(self.from), f64::from(self.value));
        // Between two numbers that fit, so it does.
        (from + (value - from) * self.ramp.share(now_unix_ms)).round() as u32
    }
}

impl External {
    /// Whether it has not expired.
    pub fn in_force(&self, now_unix_ms: u64) -> bool {
        self.until_unix_ms.is_none_or(|until| now_unix_ms < until)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ramp(since_unix_ms: u64, over_ms: u64) -> Ramp {
        Ramp {
            since_unix_ms,
            over_ms,
        }
    }

    fn verdict(address: Option<&str>, up: bool, since: u64, until: Option<u64>) -> External {
        External {
            up,
            address: address.map(|address| address.parse().unwrap()),
            until_unix_ms: until,
            reason: "because".into(),
            since_unix_ms: since,
        }
    }

    #[test]
    fn a_ramp_is_even_and_waits_when_the_clock_is_set_back() {
        let drain = ramp(1000, 400);
        for (now, share, next) in [
            (0, 0.0, Some(1100)),
            (1000, 0.0, Some(1100)),
            (1099, 0.2475, Some(1100)),
            (1100, 0.25, Some(1200)),
            (1399, 0.9975, Some(1400)),
            (1400, 1.0, None),
            (u64::MAX, 1.0, None),
        ] {
            assert_eq!(drain.share(now), share, "{now}");
            assert_eq!(drain.next_step(now, 4), next, "{now}");
        }
        assert_eq!(ramp(1000, 0).share(0), 1.0);
        assert_eq!(ramp(1000, 0).next_step(0, 4), None);
    }

    #[test]
    fn a_drain_never_brings_clients_back() {
        let mut standing = Standing::default();
        standing.set_admin(Admin::Drain(ramp(1000, 100)), 1000);
        assert_eq!(standing.drained(1050), 0.5);
        standing.set_admin(Admin::Drain(ramp(1050, 1000)), 1050);
        assert_eq!(standing.drained(1050), 0.5);
        assert_eq!(standing.drained(1550), 1.0);
        assert_eq!(standing.admin_since_unix_ms, Some(1000));
        standing.set_admin(Admin::Down, 2000);
        assert_eq!(standing.admin_since_unix_ms, Some(2000));
        standing.set_admin(Admin::Drain(ramp(2000, 1000)), 2000);
        assert_eq!(standing.drained(2000), 1.0);
        standing.set_admin(Admin::Auto, 2001);
        assert_eq!(standing, Standing::default());
        assert!(standing.is_empty());
        standing.set_admin(Admin::Drain(ramp(2002, 1000)), 2002);
        assert_eq!(standing.drained(2002), 0.0);
    }

    #[test]
    fn a_weight_goes_from_one_to_the_other() {
        let standing = |value, from| Standing {
            weight: Some(Weight {
                value,
                from,
                ramp: ramp(1000, 100),
            }),
            ..Standing::default()
        };
        assert_eq!(Standing::default().weight(100, 1000), 100);
        for (value, from, now, weight) in [
            (50, 100, 0, 100),
            (50, 100, 1050, 75),
            (50, 100, 1100, 50),
            (100, 0, 1050, 50),
            (u32::MAX, 0, 1100, u32::MAX),
            (0, u32::MAX, 1000, u32::MAX),
        ] {
            assert_eq!(standing(value, from).weight(7, now), weight);
        }
    }

    #[test]
    fn verdicts_replace_each_other_and_are_bounded() {
        let mut standing = Standing::default();
        let address = |n: usize| format!("192.0.2.{n}");
        for n in 0..MAX_EXTERNALS {
            let expiring = verdict(Some(&address(n)), true, 1, Some(5));
            standing.set_external(expiring).unwrap();
        }
        let more = |since| verdict(None, false, since, None);
        assert_eq!(standing.set_external(more(4)), Err(Refused::Full));
        let again = verdict(Some(&address(7)), false, 4, None);
        standing.set_external(again.clone()).unwrap();
        assert_eq!(standing.external.len(), MAX_EXTERNALS);
        // The others have expired.
        standing.set_external(more(5)).unwrap();
        assert_eq!(standing.external, [again, more(5)]);
        for reason in ["x".repeat(MAX_REASON + 1), "two\nlines".into()] {
            let long = External { reason, ..more(6) };
            assert_eq!(standing.set_external(long), Err(Refused::Reason));
        }
    }

    #[test]
    fn the_next_change_is_the_first_of_them() {
        let mut standing = Standing::default();
        assert_eq!(standing.next_change(0, 4), None);
        standing.set_admin(Admin::Drain(ramp(1000, 400)), 1000);
        standing.weight = Some(Weight {
            value: 0,
            from: 100,
            ramp: ramp(1050, 400),
        });
        let expiring = verdict(None, true, 1000, Some(1120));
        standing.set_external(expiring).unwrap();
        for (now, next) in [
            (1000, Some(1100)),
            (1100, Some(1120)),
            (1120, Some(1150)),
            (1400, Some(1450)),
            (1450, None),
        ] {
            assert_eq!(standing.next_change(now, 4), next, "{now}");
        }
    }

    proptest! {
        #[test]
        fn no_clock_breaks_a_ramp(
            since: u64, over: u64, now: u64, later: u64, steps: u32,
            value: u32, from: u32, share in 0.0..=1.0f64,
        ) {
            let ramp = ramp(since, over);
            let (now, later) = (now.min(later), now.max(later));
            prop_assert!((0.0..=1.0).contains(&ramp.share(now)));
            prop_assert!(ramp.share(now) <= ramp.share(later));
            let further = ramp.further(share);
            prop_assert!((0.0..=1.0).contains(&further.share(now)));
            let weight = Weight { value, from, ramp }.at(now);
            prop_assert!((value.min(from)..=value.max(from)).contains(&weight));
            if let Some(next) = ramp.next_step(now, steps) {
                prop_assert!(next > now);
                prop_assert!(next <= ramp.end_unix_ms());
            }
        }

        #[test]
        fn every_step_is_seen(since in 0..1u64 << 50, over in 0..1u64 << 40, steps in 1..200u32) {
            let ramp = ramp(since, over);
            let (mut now, mut seen) = (since, 0);
            while let Some(next) = ramp.next_step(now, steps) {
                prop_assert!(next > now);
                now = next;
                seen += 1;
            }
            prop_assert!(seen <= steps);
            prop_assert_eq!(ramp.share(now), 1.0);
        }
    }
}

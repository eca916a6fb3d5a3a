//! Zones from elsewhere take memory within bounds: each of them, and all together, those in force and those that are on
//! their way.
//!
//! Octets of names and data count, and [`PER_RECORD`] for each record. That is about as much as a zone takes when it is
//! in force.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::config::size::spelled;

/// Octets that a record takes beside its name and data.
pub const PER_RECORD: usize = 32;

/// Octets, at the most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Octets of one zone (`transfer.max_zone`).
    pub zone: usize,
    /// Octets of all of them (`transfer.max_all`).
    pub all: usize,
}

/// A zone takes too much. Displays as the middle of a sentence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TooLarge {
    /// On its own.
    #[error("it is larger than {} (transfer.max_zone)", spelled(*.0))]
    Zone(usize),
    /// With all others.
    #[error("all transferred zones together are larger than {} with it (transfer.max_all)", spelled(*.0))]
    All(usize),
}

/// Octets that all zones from elsewhere take.
#[derive(Clone, Debug, Default)]
pub struct Budget(Arc<AtomicUsize>);

impl Budget {
    /// The share of a zone that takes nothing yet.
    pub fn share(&self) -> Share {
        Share {
            of: self.clone(),
            octets: 0,
        }
    }

    /// Octets that are taken in all.
    pub fn taken(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

/// Octets that one zone takes. Dropping it gives them back.
#[derive(Debug)]
pub struct Share {
    of: Budget,
    octets: usize,
}

impl Share {
    /// Takes more octets, if the limits let it.
    pub fn grow(&mut self, octets: usize, limits: Limits) -> Result<(), TooLarge> {
        if self.octets.saturating_add(octets) > limits.zone {
            return Err(TooLarge::Zone(limits.zone));
        }
        let before = self.of.0.fetch_add(octets, Ordering::Relaxed);
        self.octets += octets;
        match before.saturating_add(octets) > limits.all {
            true => Err(TooLarge::All(limits.all)),
            false => Ok(()),
        }
    }

    /// Takes as many octets as a zone that is in force, even over the limits.
    pub fn set(&mut self, octets: usize) {
        self.of.0.fetch_add(octets, Ordering::Relaxed);
        self.of.0.fetch_sub(self.octets, Ordering::Relaxed);
        self.octets = octets;
    }

    /// Octets of it.
    pub fn octets(&self) -> usize {
        self.octets
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.of.0.fetch_sub(self.octets, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_refused_and_what_is_dropped_is_given_back() {
        let limits = Limits { zone: 60, all: 100 };
        let budget = Budget::default();
        let (mut one, mut other) = (budget.share(), budget.share());
        assert_eq!(one.grow(60, limits), Ok(()));
        assert_eq!(one.grow(1, limits), Err(TooLarge::Zone(60)));
        assert_eq!(one.grow(usize::MAX, limits), Err(TooLarge::Zone(60)));
        assert_eq!((one.octets(), budget.taken()), (60, 60));
        assert_eq!(other.grow(40, limits), Ok(()));
        assert_eq!(other.grow(1, limits), Err(TooLarge::All(100)));
        drop(other);
        assert_eq!(budget.taken(), 60);
        // A zone that is in force is there, however large.
        one.set(1000);
        assert_eq!(budget.taken(), 1000);
        assert_eq!(budget.share().grow(1, limits), Err(TooLarge::All(100)));
        drop(one);
        assert_eq!(budget.taken(), 0);
    }
}

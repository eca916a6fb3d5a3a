//! The clients that pools answered lately, as far as the slow path answers: a sample.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};

use geodns_common::abi;

use super::respond::Outcome;

/// A client that was answered from a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// Number of the plan.
    pub generation: u64,
    /// Number of the pool in it that was asked.
    pub pool: usize,
    /// The address that counted.
    pub client: IpAddr,
}

/// One in [`abi::Seen::EVERY`] of them, as many as the kernel keeps; the latest in the place of the
/// first.
#[derive(Debug, Default)]
pub(super) struct Seen {
    answers: AtomicU32,
    samples: Mutex<Vec<Sample>>,
}

impl Seen {
    /// Takes note of an answer.
    pub fn take(&self, outcome: Option<Outcome>) {
        let Some(sample) = outcome.and_then(|outcome| outcome.sample) else {
            return;
        };
        let answer = self.answers.fetch_add(1, Ordering::Relaxed);
        if !answer.is_multiple_of(abi::Seen::EVERY) {
            return;
        }
        let place = (answer / abi::Seen::EVERY % abi::Seen::SLOTS) as usize;
        let mut samples = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
        match samples.get_mut(place) {
            Some(there) => *there = sample,
            None => samples.push(sample),
        }
    }

    /// What was kept.
    pub fn samples(&self) -> Vec<Sample> {
        let samples = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
        samples.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_in_many_is_kept_and_the_latest_replace_the_first() {
        let seen = Seen::default();
        let outcome = |pool: u32| Outcome {
            rcode: 0,
            steered: true,
            truncated: false,
            ecs: false,
            sample: Some(Sample {
                generation: 1,
                pool: pool as usize,
                client: "192.0.2.1".parse().unwrap(),
            }),
        };
        let (every, slots) = (abi::Seen::EVERY, abi::Seen::SLOTS);
        for answer in 0..every * (slots + 2) {
            seen.take(Some(outcome(answer)));
        }
        seen.take(None);
        let samples = seen.samples();
        assert_eq!(samples.len(), slots as usize);
        let pools = |place: usize| samples[place].pool as u32;
        assert_eq!(
            [pools(0), pools(1), pools(2)],
            [slots * every, (slots + 1) * every, 2 * every]
        );
    }
}

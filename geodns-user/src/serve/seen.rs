//! The clients that pools answered lately, as far as the slow path answers: a sample.

use std::sync::Mutex;

use geodns_common::abi;

use super::message::{Outcome, Sample};
use crate::base::lock::lock;

/// One in [`abi::Seen::EVERY`] of them, as many as the kernel keeps; the latest in the place of the
/// first.
#[derive(Debug, Default)]
pub(super) struct Seen {
    samples: Mutex<Samples>,
}

#[derive(Debug, Default)]
struct Samples {
    kept: Vec<Sample>,
    /// Where the next goes.
    place: usize,
}

/// A worker's count of its answers, which says which of them is kept.
#[derive(Debug, Default)]
pub(super) struct Turn(u32);

impl Turn {
    /// That of the connection of this number. The first answer of one in many of them is kept, as of
    /// one in many answers.
    pub fn of_connection(number: u32) -> Self {
        Self(number)
    }
}

impl Seen {
    /// Takes note of an answer.
    pub fn take(&self, turn: &mut Turn, outcome: Option<&Outcome>) {
        let Some(sample) = outcome.and_then(|outcome| outcome.sample) else {
            return;
        };
        let Turn(answer) = *turn;
        turn.0 = answer.wrapping_add(1);
        if !answer.is_multiple_of(abi::Seen::EVERY) {
            return;
        }
        let mut samples = lock(&self.samples);
        let Samples { kept, place } = &mut *samples;
        match kept.get_mut(*place) {
            Some(there) => *there = sample,
            None => kept.push(sample),
        }
        *place = (*place + 1) % abi::Seen::SLOTS as usize;
    }

    /// The samples that were kept.
    pub fn samples(&self) -> Vec<Sample> {
        let samples = lock(&self.samples);
        samples.kept.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_in_many_is_kept_and_the_latest_replace_the_first() {
        let seen = Seen::default();
        let mut turn = Turn::default();
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
            counter: None,
            wants_cookie: false,
        };
        let (every, slots) = (abi::Seen::EVERY, abi::Seen::SLOTS);
        for answer in 0..every * (slots + 2) {
            seen.take(&mut turn, Some(&outcome(answer)));
        }
        seen.take(&mut turn, None);
        let samples = seen.samples();
        assert_eq!(samples.len(), slots as usize);
        let pools = |place: usize| samples[place].pool as u32;
        assert_eq!(
            [pools(0), pools(1), pools(2)],
            [slots * every, (slots + 1) * every, 2 * every]
        );
    }
}

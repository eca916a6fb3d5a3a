//! A mirror's time in service over the last day, as SVG.

use crate::observe::trends::{Span, Trends};

/// A stretch of the day.
pub struct Stretch {
    /// Minutes from its beginning.
    pub from: usize,
    /// Its length in minutes.
    pub length: usize,
    /// Class: `in`, `out`, or `partly`.
    pub class: &'static str,
}

/// A day of a mirror.
pub struct Timeline {
    /// Stretches that are known.
    pub stretches: Vec<Stretch>,
    /// Share of the known time that the mirror was in service.
    pub share: Option<f64>,
}

impl Timeline {
    /// The last day of a mirror.
    pub fn of(trends: &Trends, mirror: &str, unix_seconds: u64) -> Self {
        let shares = trends.in_service(mirror, Span::Day, unix_seconds);
        let class = |share: Option<f64>| match share {
            None => None,
            Some(0.0) => Some("out"),
            Some(1.0) => Some("in"),
            Some(_) => Some("partly"),
        };
        let mut from = 0;
        let mut stretches = Vec::new();
        for run in shares.chunk_by(|a, b| class(*a) == class(*b)) {
            if let Some(class) = class(run[0]) {
                stretches.push(Stretch {
                    from,
                    length: run.len(),
                    class,
                });
            }
            from += run.len();
        }
        let known: Vec<f64> = shares.into_iter().flatten().collect();
        let share = known.iter().sum::<f64>() / known.len() as f64;
        Self {
            stretches,
            share: (!known.is_empty()).then_some(share),
        }
    }
}

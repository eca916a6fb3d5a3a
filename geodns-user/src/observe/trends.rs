//! Trends of the server's traffic and of its mirrors: an hour, a day and a week, each in points of its own length.
//! Pure: the clock and the disk are the caller's.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

/// A span of time that is shown as one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Span {
    /// The last hour, in points of 10 s.
    #[default]
    Hour,
    /// The last day, in points of a minute.
    Day,
    /// The last week, in points of 10 minutes.
    Week,
}

impl Span {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Hour, Self::Day, Self::Week];

    /// Seconds of a point, and number of points.
    pub const fn points(self) -> (u64, usize) {
        match self {
            Self::Hour => (10, 360),
            Self::Day => (60, 1440),
            Self::Week => (600, 1008),
        }
    }

    /// Its name, as in a query.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Hour => "hour",
            Self::Day => "day",
            Self::Week => "week",
        }
    }
}

/// Messages a second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Rates {
    /// Answered by the program.
    pub kernel: f64,
    /// Answered by the slow path.
    pub slow: f64,
    /// Dropped by the program.
    pub dropped: f64,
}

impl Rates {
    /// Share of the answers that the program gave, 0 to 1; `None`: there were none.
    pub fn share(&self) -> Option<f64> {
        let answers = self.kernel + self.slow;
        (answers > 0.0).then(|| self.kernel / answers)
    }
}

/// Mirrors whose trends are kept, at the most: the first of the configuration.
pub const MAX_MIRRORS: usize = 256;
/// In place of a share: nothing is known.
const UNKNOWN: u8 = u8::MAX;

/// Traffic and mirrors over time.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Trends {
    /// Ids of mirrors, by their place in a point's shares.
    mirrors: Vec<String>,
    rings: [VecDeque<Point>; 3],
}

/// The mean of some seconds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Point {
    /// Seconds since 1970, in lengths of a point.
    #[serde(rename = "n")]
    number: u64,
    #[serde(rename = "r")]
    rates: [f32; 3],
    /// Percent of the time that each mirror was in service, a run of alike ones at a time.
    #[serde(rename = "s", with = "runs")]
    shares: Vec<u8>,
    /// Samples that this is the mean of.
    #[serde(rename = "c")]
    count: u32,
}

impl Trends {
    /// Takes a sample: rates, and whether mirrors are in service.
    pub fn take<'a>(
        &mut self,
        unix_seconds: u64,
        rates: Rates,
        mirrors: impl Iterator<Item = (&'a str, bool)>,
    ) {
        if self.mirrors.len() > MAX_MIRRORS {
            self.forget_unknown();
        }
        let mut shares = vec![UNKNOWN; self.mirrors.len()];
        for (id, is_in_service) in mirrors.take(MAX_MIRRORS) {
            let share = if is_in_service { 100 } else { 0 };
            match self.mirrors.iter().position(|known| known == id) {
                Some(place) => shares[place] = share,
                None if self.mirrors.len() < 2 * MAX_MIRRORS => {
                    self.mirrors.push(id.to_owned());
                    shares.push(share);
                }
                None => {}
            }
        }
        let rates = [rates.kernel, rates.slow, rates.dropped].map(|rate| rate as f32);
        for (span, ring) in Span::ALL.into_iter().zip(&mut self.rings) {
            let (seconds, points) = span.points();
            let number = unix_seconds / seconds;
            let sample = Point {
                number,
                rates,
                shares: shares.clone(),
                count: 1,
            };
            match ring.back_mut() {
                Some(last) if last.number == number => last.add(&sample),
                // A clock that was set back: what comes after is not known.
                Some(last) if last.number > number => {
                    ring.retain(|point| point.number < number);
                    ring.push_back(sample);
                }
                _ => ring.push_back(sample),
            }
            while ring
                .front()
                .is_some_and(|first| first.number + points as u64 <= number)
            {
                ring.pop_front();
            }
        }
    }

    /// Forgets mirrors that no point knows.
    fn forget_unknown(&mut self) {
        let mut is_known = vec![false; self.mirrors.len()];
        for point in self.rings.iter().flatten() {
            for (known, share) in is_known.iter_mut().zip(&point.shares) {
                *known |= *share != UNKNOWN;
            }
        }
        for point in self.rings.iter_mut().flatten() {
            let kept = point.shares.iter().zip(&is_known);
            point.shares = kept
                .filter(|(_, known)| **known)
                .map(|(share, _)| *share)
                .collect();
        }
        let mut known = is_known.iter();
        self.mirrors.retain(|_| *known.next().unwrap_or(&false));
    }

    /// The rates of a span: seconds since 1970, and the mean from then on. The last point may not be over.
    pub fn rates(&self, span: Span) -> impl DoubleEndedIterator<Item = (u64, Rates)> {
        let (seconds, _) = span.points();
        self.rings[span as usize].iter().map(move |point| {
            let [kernel, slow, dropped] = point.rates.map(f64::from);
            let rates = Rates {
                kernel,
                slow,
                dropped,
            };
            (point.number * seconds, rates)
        })
    }

    /// Share of the time that a mirror was in service, 0 to 1, by the points of a span up to now; `None`: not known.
    pub fn in_service(&self, mirror: &str, span: Span, unix_seconds: u64) -> Vec<Option<f64>> {
        let (seconds, points) = span.points();
        let first = (unix_seconds / seconds + 1).saturating_sub(points as u64);
        let mut shares = vec![None; points];
        let Some(place) = self.mirrors.iter().position(|known| known == mirror) else {
            return shares;
        };
        for point in &self.rings[span as usize] {
            let at = point.number.checked_sub(first).map(|at| at as usize);
            if let Some(shown) = at.and_then(|at| shares.get_mut(at)) {
                let share = point.share(place);
                *shown = (share != UNKNOWN).then(|| f64::from(share) / 100.0);
            }
        }
        shares
    }
}

impl Point {
    fn share(&self, place: usize) -> u8 {
        self.shares.get(place).copied().unwrap_or(UNKNOWN)
    }

    /// Adds a sample to the mean.
    fn add(&mut self, sample: &Self) {
        let count = self.count as f32;
        for (mean, rate) in self.rates.iter_mut().zip(sample.rates) {
            *mean += (rate - *mean) / (count + 1.0);
        }
        self.shares.resize(sample.shares.len(), UNKNOWN);
        for (mean, &share) in self.shares.iter_mut().zip(&sample.shares) {
            *mean = match (*mean, share) {
                (UNKNOWN, share) => share,
                (mean, UNKNOWN) => mean,
                (mean, share) if mean == share => mean,
                // Never quite all or nothing: some of the time it was otherwise.
                (mean, share) => {
                    let sum = f32::from(mean) * count + f32::from(share);
                    (sum / (count + 1.0)).round().clamp(1.0, 99.0) as u8
                }
            };
        }
        self.count += 1;
    }
}

/// Shares in JSON: pairs of a share and how many in a row have it.
mod runs {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::MAX_MIRRORS;

    pub fn serialize<S: Serializer>(shares: &[u8], to: S) -> Result<S::Ok, S::Error> {
        let runs = shares.chunk_by(|a, b| a == b);
        let runs: Vec<(u8, usize)> = runs.map(|run| (run[0], run.len())).collect();
        runs.serialize(to)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
        let runs: Vec<(u8, usize)> = Vec::deserialize(from)?;
        let shares = runs
            .into_iter()
            .flat_map(|(share, count)| std::iter::repeat_n(share, count));
        Ok(shares.take(2 * MAX_MIRRORS).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rates(kernel: f64) -> Rates {
        Rates {
            kernel,
            ..Rates::default()
        }
    }

    #[test]
    fn points_are_means_and_each_span_ends() {
        let mut trends = Trends::default();
        for second in 0..2 * 604_800 / 10 {
            let now = 1_000_000 + 10 * second;
            trends.take(now, rates((second % 6) as f64), [("ams", true)].into_iter());
        }
        for span in Span::ALL {
            let (seconds, points) = span.points();
            assert_eq!(trends.rates(span).count(), points);
            let (at, _) = trends.rates(span).next_back().unwrap();
            assert_eq!(at % seconds, 0);
        }
        let (_, mean) = trends.rates(Span::Week).nth_back(1).unwrap();
        assert!((mean.kernel - 2.5).abs() < 0.01, "{mean:?}");
    }

    #[test]
    fn a_mirror_that_was_out_for_a_moment_was_not_in_all_the_time() {
        let mut trends = Trends::default();
        let now = 6_000_000;
        for second in 0..60 {
            let is_in = second != 30;
            trends.take(now + second * 10, rates(1.0), [("ams", is_in)].into_iter());
        }
        let week = trends.in_service("ams", Span::Week, now);
        assert_eq!(week.len(), 1008);
        assert!(week[..1007].iter().all(Option::is_none));
        let share = week[1007].unwrap();
        assert!((0.9..1.0).contains(&share), "{share}");
        let hour = trends.in_service("ams", Span::Hour, now + 590);
        let known: Vec<f64> = hour.iter().copied().flatten().collect();
        assert_eq!(known.iter().filter(|share| **share == 0.0).count(), 1);
        assert_eq!(known.len(), 60);
        assert!(
            trends
                .in_service("nobody", Span::Hour, now)
                .iter()
                .all(Option::is_none)
        );
    }

    #[test]
    fn it_survives_json_and_stays_small() {
        let mut trends = Trends::default();
        let ids: Vec<String> = (0..1000).map(|number| format!("m{number}")).collect();
        for second in 0..100_000 / 10 {
            let mirrors = ids.iter().map(|id| (id.as_str(), second % 1000 != 7));
            trends.take(10 * second, rates(123_456.7), mirrors);
        }
        let json = serde_json::to_vec(&trends).unwrap();
        assert!(json.len() < 400_000, "{}", json.len());
        assert_eq!(serde_json::from_slice::<Trends>(&json).unwrap(), trends);
    }

    #[test]
    fn mirrors_come_and_go_within_bounds() {
        let mut trends = Trends::default();
        for second in 0..1100_u64 {
            let id = format!("m{second}");
            trends.take(600 * second, rates(1.0), [(id.as_str(), true)].into_iter());
        }
        assert!(trends.mirrors.len() <= 2 * MAX_MIRRORS);
    }

    #[test]
    fn a_clock_that_is_set_back_leaves_no_future() {
        let mut trends = Trends::default();
        trends.take(10_000, rates(1.0), std::iter::empty());
        trends.take(5_000, rates(2.0), std::iter::empty());
        let kept: Vec<_> = trends.rates(Span::Hour).map(|(at, _)| at).collect();
        assert_eq!(kept, [5_000]);
    }
}

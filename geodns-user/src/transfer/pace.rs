//! The pace of SOA queries that NOTIFYs cause: anybody can forge one over UDP.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use tokio::time::Instant;

/// Queries that may go at once after a pause: those of a second.
const BURST: Duration = Duration::from_secs(1);
/// Primaries that are remembered, before those that have not been asked for long are forgotten.
const MANY: usize = 256;

/// Queries a second, at the most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rates {
    /// To one primary (`transfer.notify_rate`).
    pub primary: u32,
    /// In all (`transfer.notify_rate_all`).
    pub all: u32,
}

/// The moments of the next query, to each primary and in all.
#[derive(Debug, Default)]
pub struct Pace {
    all: Bucket,
    primaries: HashMap<IpAddr, Bucket>,
}

/// A bucket of tokens, as the time at which it is full again.
#[derive(Clone, Copy, Debug, Default)]
struct Bucket(Option<Instant>);

impl Bucket {
    /// When there is a token.
    fn at(self, now: Instant) -> Instant {
        let at = self.0.and_then(|full| full.checked_sub(BURST));
        at.map_or(now, |at| at.max(now))
    }

    fn take(&mut self, now: Instant, rate: u32) {
        let full = self.0.map_or(now, |full| full.max(now));
        self.0 = Some(full + BURST / rate.max(1));
    }
}

impl Pace {
    /// When a query to a primary may go.
    pub fn at(&self, primary: IpAddr, now: Instant) -> Instant {
        let its = self.primaries.get(&primary).copied().unwrap_or_default();
        its.at(now).max(self.all.at(now))
    }

    /// When a query to any primary may go.
    pub fn at_all(&self, now: Instant) -> Instant {
        self.all.at(now)
    }

    /// Takes leave for a query to a primary. Gives whether it may go now.
    pub fn take(&mut self, primary: IpAddr, rates: Rates, now: Instant) -> bool {
        if self.at(primary, now) > now {
            return false;
        }
        if self.primaries.len() >= MANY {
            let is_full = |bucket: &Bucket| bucket.0.is_none_or(|full| full <= now);
            self.primaries.retain(|_, bucket| !is_full(bucket));
        }
        self.all.take(now, rates.all);
        let its = self.primaries.entry(primary).or_default();
        its.take(now, rates.primary);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_than_so_many_a_second_go_to_a_primary_and_in_all() {
        let rates = Rates {
            primary: 10,
            all: 25,
        };
        let mut pace = Pace::default();
        let start = Instant::now();
        let primaries: Vec<IpAddr> = (1..=4).map(|last| [192, 0, 2, last].into()).collect();
        let mut sent = [0; 4];
        for milli in 0..10_000 {
            let now = start + Duration::from_millis(milli);
            for (primary, sent) in primaries.iter().zip(&mut sent) {
                for _ in 0..3 {
                    let may = pace.at(*primary, now) <= now;
                    assert_eq!(pace.take(*primary, rates, now), may);
                    *sent += u32::from(may);
                }
            }
        }
        // A second's worth at once, then N a second.
        let all: u32 = sent.iter().sum();
        assert!((270..=276).contains(&all), "{sent:?}");
        assert!(sent.iter().all(|&sent| sent <= 111), "{sent:?}");
        // One alone has its own rate, after a pause too.
        let mut one = 0;
        for milli in 20_000..22_000 {
            let now = start + Duration::from_millis(milli);
            one += u32::from(pace.take(primaries[0], rates, now));
        }
        assert!((29..=31).contains(&one), "{one}");
    }
}

//! NOTIFYs of primaries (RFC 1996), heeded at a pace: anybody can forge one over UDP, and each is a reason to
//! ask a primary.
//!
//! A notice waits for its turn, once for each zone and primary. So what waits is bounded by the configuration,
//! and a flood for one zone delays others by one query.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;

use domain::base::Serial;
use tokio::sync::{Mutex, mpsc};
use tokio::time::Instant;
use tracing::debug;

use super::secondary::at;
use crate::base::name::Name;
use crate::daemon::Daemon;
use crate::serve::Notice;
use crate::supervise::Never;
use crate::transfer::pace::Pace;

/// Notices that wait for their turn.
#[derive(Debug, Default)]
struct Waiting {
    /// Primaries with notices that wait, in the order of their turns.
    turns: VecDeque<IpAddr>,
    /// Zones of each primary, in the order in which their notices came.
    zones: HashMap<IpAddr, VecDeque<Name>>,
    /// Each zone and primary that waits, and the serial of its last notice.
    said: HashMap<(Name, IpAddr), Option<u32>>,
}

impl Waiting {
    /// Has a notice wait. Gives `false` if one for the same zone and primary waits already: they are merged.
    fn put(&mut self, notice: Notice) -> bool {
        let Notice { apex, from, serial } = notice;
        if self.said.insert((apex.clone(), from), serial).is_some() {
            return false;
        }
        let zones = self.zones.entry(from).or_default();
        if zones.is_empty() {
            self.turns.push_back(from);
        }
        zones.push_back(apex);
        true
    }

    /// Takes the next notice whose primary may be asked now, or gives when one may be asked.
    fn next(&mut self, pace: &Pace, now: Instant) -> Result<Notice, Option<Instant>> {
        let soonest = pace.at_all(now);
        if soonest > now {
            return Err((!self.turns.is_empty()).then_some(soonest));
        }
        let may = self.turns.iter().position(|&of| pace.at(of, now) <= now);
        let Some(from) = may.and_then(|at| self.turns.remove(at)) else {
            return Err(self.turns.iter().map(|&of| pace.at(of, now)).min());
        };
        let zones = self.zones.entry(from).or_default();
        let apex = zones.pop_front();
        match zones.is_empty() {
            true => drop(self.zones.remove(&from)),
            false => self.turns.push_back(from),
        }
        let Some(apex) = apex else { return Err(None) };
        let serial = self.said.remove(&(apex.clone(), from)).flatten();
        Ok(Notice { apex, from, serial })
    }
}

impl Daemon {
    /// Heeds NOTIFYs of primaries, for ever.
    pub async fn heed_notices(
        self: Arc<Self>,
        notices: Arc<Mutex<mpsc::Receiver<Notice>>>,
    ) -> Never {
        let mut notices = notices.lock().await;
        let mut waiting = Waiting::default();
        let mut until = None;
        loop {
            tokio::select! {
                notice = notices.recv() => {
                    let Some(notice) = notice else {
                        // The server that hears them has ended.
                        return std::future::pending().await;
                    };
                    if self.is_news(&notice) && !waiting.put(notice) {
                        self.server.stats().count_notify_merged();
                    }
                }
                () = at(until) => {}
            }
            until = loop {
                let next = waiting.next(&self.zones.secondaries.pace(), Instant::now());
                match next {
                    Ok(notice) if self.is_news(&notice) => {
                        if !self.ask_for(&notice) {
                            waiting.put(notice);
                        }
                    }
                    Ok(_) => {}
                    Err(until) => break until,
                }
            };
        }
    }

    /// Whether there may be a newer version of a zone than the one in force.
    fn is_news(&self, notice: &Notice) -> bool {
        let world = self.world.load();
        let Some(number) = world.zone_number(&notice.apex) else {
            return false;
        };
        let zones = world.zones.load();
        let ours = Serial(zones[number].serial());
        match notice.serial {
            Some(theirs) if !zones[number].is_empty() && ours >= Serial(theirs) => {
                debug!(
                    "{}: {} says serial {theirs}, and we have {ours}",
                    notice.apex, notice.from
                );
                false
            }
            _ => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::base::name::parse_name;
    use crate::transfer::pace::Rates;

    fn notice(zone: &str, primary: u8, serial: Option<u32>) -> Notice {
        Notice {
            apex: parse_name(zone).unwrap(),
            from: [192, 0, 2, primary].into(),
            serial,
        }
    }

    #[test]
    fn one_of_each_zone_and_primary_waits_and_primaries_take_turns() {
        let mut waiting = Waiting::default();
        for number in 0..100 {
            let is_first = number == 0;
            assert_eq!(waiting.put(notice("a.test", 1, Some(number))), is_first);
            assert_eq!(waiting.put(notice("b.test", 1, None)), is_first);
            assert_eq!(waiting.put(notice("a.test", 2, None)), is_first);
        }
        let rates = Rates { primary: 1, all: 2 };
        let mut pace = Pace::default();
        let mut now = Instant::now();
        let start = now;
        // A second's worth goes at once; somebody has taken it.
        for _ in 0..3 {
            let busy = Rates {
                primary: 9,
                ..rates
            };
            assert!(pace.take([192, 0, 2, 9].into(), busy, now));
        }
        let mut order = Vec::new();
        loop {
            match waiting.next(&pace, now) {
                Ok(notice) => {
                    assert!(pace.take(notice.from, rates, now));
                    let at = now.duration_since(start).as_millis();
                    order.push((
                        notice.apex.to_string(),
                        notice.from.to_string(),
                        notice.serial,
                        at,
                    ));
                }
                Err(Some(until)) => {
                    assert!(until > now);
                    now = until;
                }
                Err(None) => break,
            }
        }
        let said: Vec<_> = order
            .iter()
            .map(|(zone, from, serial, _)| (&**zone, &**from, *serial))
            .collect();
        let expected = [
            ("a.test", "192.0.2.1", Some(99)),
            ("a.test", "192.0.2.2", None),
            ("b.test", "192.0.2.1", None),
        ];
        assert_eq!(said, expected);
        assert!(
            order[2].3 >= Duration::from_millis(500).as_millis(),
            "{order:?}"
        );
        assert!(waiting.said.is_empty() && waiting.zones.is_empty() && waiting.turns.is_empty());
    }
}

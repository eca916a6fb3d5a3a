//! Alerts of Alertmanager as verdicts of another monitor: firing is down, resolved takes that back.

use std::collections::BTreeMap;
use std::net::IpAddr;

use async_trait::async_trait;

use crate::base::clock::{now_unix_ms, parse_utc};
use crate::control::alert::{Alert, AlertStatus, AlertsTaken, Service};
use crate::control::mirror::{Service as _, SetHealth};
use crate::control::problem::Failure;
use crate::control::values::MAX_TIME;
use crate::daemon::control::Control;
use crate::event::message::SOURCE;
use crate::printable;

/// Characters of a reason, at the most.
const MAX_REASON: usize = 200;

/// A mirror, and one of its addresses; `None`: all that have no verdict of their own.
type Place = (String, Option<IpAddr>);

/// Alerts, sorted.
#[derive(Debug, Default)]
struct Sorted {
    /// By place: the verdict; `None`: it is taken back.
    verdicts: BTreeMap<Place, Option<SetHealth>>,
    taken: AlertsTaken,
}

/// Sorts alerts. A place that any alert of them fires for is down.
fn sort(
    alerts: &[Alert],
    holds_ms: u64,
    now_unix_ms: u64,
    is_known: impl Fn(&str) -> bool,
) -> Sorted {
    let mut sorted = Sorted::default();
    let taken = &mut sorted.taken;
    for alert in alerts {
        let is_own = alert
            .labels
            .get(SOURCE.0)
            .is_some_and(|source| source == SOURCE.1);
        let Some(mirror) = alert.labels.get("mirror").filter(|_| !is_own) else {
            taken.ignored += 1;
            continue;
        };
        if !is_known(mirror) {
            let mirror = printable::line(mirror).chars().take(64).collect();
            if !taken.unknown.contains(&mirror) {
                taken.unknown.push(mirror);
            }
            continue;
        }
        let address = alert
            .labels
            .get("address")
            .filter(|address| !address.is_empty());
        let address = match address.map(|address| address.parse()).transpose() {
            Ok(address) => address,
            Err(_) => {
                taken
                    .failed
                    .push(format!("mirror {mirror}: label address: not an address"));
                continue;
            }
        };
        let verdict = sorted
            .verdicts
            .entry((mirror.clone(), address))
            .or_default();
        if alert.status == AlertStatus::Firing && verdict.is_none() {
            let end = alert.ends_at.as_deref().and_then(parse_utc);
            let rest = end
                .map(|end| end.saturating_sub(now_unix_ms))
                .filter(|&rest| rest > 0);
            *verdict = Some(SetHealth {
                up: false,
                address,
                for_ms: Some(rest.unwrap_or(holds_ms).min(MAX_TIME.as_millis() as u64)),
                reason: reason(alert),
            });
        }
    }
    sorted
}

/// `alertmanager: MirrorSlow: more than 2 s`
fn reason(alert: &Alert) -> String {
    let name = alert
        .labels
        .get("alertname")
        .map_or("an alert", String::as_str);
    let mut reason = format!("alertmanager: {name}");
    if let Some(summary) = alert.annotations.get("summary") {
        reason += &format!(": {summary}");
    }
    let plain = reason.chars().map(|letter| {
        if printable::is_obeyed(letter) {
            ' '
        } else {
            letter
        }
    });
    plain.take(MAX_REASON).collect()
}

#[async_trait]
impl Service for Control {
    async fn alerts(&self, alerts: Vec<Alert>, holds_ms: u64) -> Result<AlertsTaken, Failure> {
        let sorted = {
            let world = self.0.world.load_full();
            let mirrors = &world.inputs.config.mirrors;
            let is_known = |id: &str| mirrors.iter().any(|mirror| mirror.id == id);
            sort(&alerts, holds_ms, now_unix_ms(), is_known)
        };
        let Sorted {
            verdicts,
            mut taken,
        } = sorted;
        // What ends comes first: it may be about all addresses of a mirror that one of which is down.
        let (down, over): (Vec<_>, Vec<_>) = verdicts
            .into_iter()
            .partition(|(_, verdict)| verdict.is_some());
        for ((mirror, address), verdict) in over.into_iter().chain(down) {
            let (count, done) = match verdict {
                Some(verdict) => (&mut taken.set, self.mirror_health(mirror, verdict).await),
                None => (
                    &mut taken.cleared,
                    self.mirror_health_clear(mirror, address).await,
                ),
            };
            match done {
                Ok(_) => *count += 1,
                // Alertmanager tries again.
                Err(failure @ (Failure::Internal(_) | Failure::Unavailable(_))) => {
                    return Err(failure);
                }
                Err(failure) => taken.failed.push(failure.to_string()),
            }
        }
        Ok(taken)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn sorted(alerts: serde_json::Value) -> Sorted {
        let alerts: Vec<Alert> = serde_json::from_value(alerts).unwrap();
        sort(&alerts, 5000, 1000, |mirror| {
            mirror == "ams" || mirror == "iad"
        })
    }

    #[test]
    fn a_place_is_down_while_any_alert_fires_for_it() {
        let found = sorted(json!([
            { "status": "firing", "labels": { "alertname": "Slow", "mirror": "ams" },
              "annotations": { "summary": "2 s\u{1b}\n" }, "endsAt": "0001-01-01T00:00:00Z" },
            { "status": "resolved", "labels": { "mirror": "ams" } },
            { "status": "resolved", "labels": { "mirror": "iad", "address": "192.0.2.1" } },
            { "status": "firing", "labels": { "mirror": "iad" }, "endsAt": "1970-01-01T00:00:03.5Z" },
        ]));
        let verdict = |mirror: &str, address: Option<&str>| {
            let address = address.map(|address| address.parse().unwrap());
            found.verdicts[&(mirror.to_owned(), address)].clone()
        };
        let ams = verdict("ams", None).unwrap();
        assert_eq!((ams.up, ams.for_ms), (false, Some(5000)));
        assert_eq!(ams.reason, "alertmanager: Slow: 2 s  ");
        assert_eq!(verdict("iad", Some("192.0.2.1")), None);
        assert_eq!(verdict("iad", None).unwrap().for_ms, Some(2500));
    }

    #[test]
    fn others_do_not_matter_and_are_told() {
        let found = sorted(json!([
            { "status": "firing", "labels": { "mirror": "gone" } },
            { "status": "firing", "labels": { "mirror": "gone" } },
            { "status": "firing", "labels": { "instance": "x" } },
            { "status": "firing", "labels": { "mirror": "ams", "source": "geodns" } },
            { "status": "firing", "labels": { "mirror": "ams", "address": "here" } },
        ]));
        assert!(found.verdicts.is_empty());
        assert_eq!(found.taken.unknown, ["gone"]);
        assert_eq!(found.taken.ignored, 2);
        assert!(found.taken.failed[0].contains("not an address"));
    }
}

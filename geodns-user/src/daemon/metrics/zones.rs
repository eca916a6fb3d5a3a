//! Zones, the certificate, and GeoIP databases.

use std::time::UNIX_EPOCH;

use crate::daemon::Daemon;
use crate::metrics::snapshot::Label;
use crate::metrics::{Family, Snapshot};
use crate::world::World;

impl Daemon {
    /// Zones, each of them if that is wanted, and the files that have an end or an age.
    pub(super) fn add_zones(&self, snapshot: &mut Snapshot, world: &World, by_zone: bool) {
        let zones = world.zones.load();
        snapshot.put(Family::Zones, zones.len() as u64);
        let (mut expired, mut next) = (0u64, None::<u64>);
        for (zone, of) in zones.iter().zip(&world.inputs.config.zones) {
            let id = by_zone.then(|| Label::from(zone.apex.fmt_with_dot().to_string()));
            if let Some(id) = &id {
                snapshot.put_with(Family::ZoneSerial, [id], u64::from(zone.serial()));
                snapshot.put_with(Family::ZoneNames, [id], zone.names() as u64);
            }
            if of.primaries.is_empty() {
                continue;
            }
            if zone.is_empty() {
                expired += 1;
            } else if let Some(checked_ms) = self.checked_unix_ms(&zone.apex) {
                let expires = checked_ms / 1000 + zone.expire().as_secs();
                next = Some(next.map_or(expires, |next| next.min(expires)));
                if let Some(id) = &id {
                    snapshot.put_with(Family::ZoneExpiry, [id], expires);
                }
            }
        }
        snapshot.put(Family::ZonesExpired, expired);
        if let Some(next) = next {
            snapshot.put(Family::NextExpiry, next);
        }
        let certificate = self.server.certificate();
        if let Some(not_after) = certificate.and_then(|of| of.not_after()) {
            snapshot.put(Family::CertificateEnd, not_after as f64);
        }
        for database in world.inputs.geography.databases() {
            let built = database.built();
            let since = built.and_then(|built| built.duration_since(UNIX_EPOCH).ok());
            if let Some(since) = since {
                let file = database.path().display().to_string();
                snapshot.put_words(Family::DatabaseBuilt, [&*file], since.as_secs());
            }
        }
    }
}

//! Zones that change on their own: one place through which each is replaced.
//!
//! `Daemon::put_zone` is that place, under the lock `edits`. It serves `reload ZONE`, a transfer, a change of ACME
//! tokens, and an empty zone in place of one that has expired. A secondary without data is an empty zone, too: every
//! name in it is answered SERVFAIL, and its apex is in the kernel's table as one that passes. With a kernel, each
//! replacement closes the zone there, edits its names in place and opens it again (`plan`). When the tables have no
//! room, or a step fails, the daemon compiles a whole new plan.

use std::sync::Arc;
use std::time::SystemTime;

use tokio::sync::Notify;
use tracing::{error, warn};

use crate::config::{Config, ZoneFile};
use crate::control::problem::Failure;
use crate::daemon::Daemon;
use crate::daemon::force::internal;
use crate::event::Kind;
use crate::kernel;
use crate::transfer::kept::KeptZones;
use crate::world::World;
use crate::zone::{self, Zone, Zones};

/// The transferred zone that is on disk, unless it has expired.
pub fn kept(on_disk: &KeptZones, zone: &ZoneFile) -> Option<Arc<Zone>> {
    let kept = match on_disk.read(&zone.name, zone.label()) {
        Ok(kept) => kept?,
        Err(line) => {
            error!(zone = %zone.name, cause = line, "{line}");
            return None;
        }
    };
    let expires = kept.checked + kept.zone.expire();
    if expires <= SystemTime::now() {
        let apex = &zone.name;
        let event = Kind::ZoneExpired.name();
        warn!(event, zone = %apex, "{apex}: what was kept of it has expired: SERVFAIL until it is transferred");
        return None;
    }
    Some(Arc::new(kept.zone))
}

/// The transferred zone that is on disk, if it may be put in force. A configuration that steers names of it may have
/// changed since; other zones are served all the same.
pub fn kept_for(config: &Config, on_disk: &KeptZones, zone: &ZoneFile) -> Option<Arc<Zone>> {
    let kept = kept(on_disk, zone)?;
    match zone::may_be_put(config, &kept) {
        Ok(()) => Some(kept),
        Err(why) => {
            let apex = &zone.name;
            error!(
                zone = %apex,
                cause = %why,
                "{apex}: what was kept of it is not served: {why}; SERVFAIL until it is transferred"
            );
            None
        }
    }
}

/// Tells whoever follows catalogs that one may say something else than what is in force.
#[derive(Debug, Default)]
pub struct CatalogSignal(Notify);

impl CatalogSignal {
    /// A catalog has changed.
    pub fn have_changed(&self) {
        self.0.notify_one();
    }

    /// Waits until one has.
    pub async fn changed(&self) {
        self.0.notified().await;
    }
}

impl Daemon {
    /// The data of a zone that comes from elsewhere, for a configuration that is read: the zone in force, else the one
    /// on disk.
    pub fn kept_zone(&self, zone: &ZoneFile) -> Option<Arc<Zone>> {
        let world = self.world.load();
        let number = world.zone_number(&zone.name);
        // A member's label is another one where its zone is another.
        let is_it = |of: &ZoneFile| of.file.is_none() && of.label() == zone.label();
        let there = number.filter(|&at| is_it(&world.inputs.config.zones[at]));
        match there {
            Some(number) => {
                let there = Arc::clone(&world.zones.load()[number]);
                (!there.is_empty()).then_some(there)
            }
            None => kept(&self.zones.kept, zone),
        }
    }

    /// Puts a zone in force, in the place of the one with its apex. Steered names are marked on it. A zone that would
    /// be refused as a zone file is refused here, too: then nothing changes.
    ///
    /// Only under `edits`.
    pub fn put_zone(&self, zone: Zone) -> Result<(), Failure> {
        let world = self.world.load_full();
        let config = &world.inputs.config;
        let apex = zone.apex.clone();
        let Some(number) = world.zone_number(&apex) else {
            return Err(Failure::NotFound(format!("no zone {apex} any more")));
        };
        let before = world.zones.load_full();
        let mut zones = Zones::clone(&before);
        zone::put(config, &mut zones, number, zone)
            .map_err(|error| Failure::Invalid(error.to_string()))?;
        zones.make_offers(config, &before, Some(number));
        let changed = before[number].serial() != zones[number].serial();
        if zones[number].is_signed() && !before[number].is_signed() {
            warn!(zone = %apex, cause = zone::SIGNED, "{apex}: {}", zone::SIGNED);
        }
        self.put_zones(&world, zones, number)?;
        if changed {
            self.notify_secondaries(&apex);
        }
        if config.zones[number].is_consumer() {
            self.zones.catalogs.have_changed();
        }
        Ok(())
    }

    /// Puts a changed zone in force. With a kernel, the zone is closed there while its names are edited:
    /// the slow path answers for it meanwhile, first from the one version and then from the other. When
    /// the tables have no room, a whole new plan is compiled.
    fn put_zones(&self, world: &World, zones: Zones, number: usize) -> Result<(), Failure> {
        let before = world.zones.load_full();
        let after = Arc::new(zones);
        // The kernel knows no more of a catalog than that it is one.
        if !self.has_kernel() || after.is_catalog(number) {
            world.zones.store(after);
            return Ok(());
        }
        let edit = || {
            self.edit_kernel(world, |plan| Ok(vec![plan.close_zone(number)]))?;
            kernel::grace().map_err(internal)?;
            world.zones.store(Arc::clone(&after));
            self.edit_kernel(world, |plan| plan.edit_zone(&before, &after, number))?;
            kernel::grace().map_err(internal)?;
            self.edit_kernel(world, |plan| Ok(vec![plan.open_zone(number)]))
        };
        // There is no room, or the kernel refused something: a whole new plan needs neither.
        if let Err(why) = edit() {
            world.zones.store(Arc::clone(&after));
            if let Err(failure) = self.put_anew(world) {
                world.zones.store(before);
                error!(
                    zone = %after[number].apex,
                    "{}: its tables in the kernel could not be edited ({why}), nor made anew; the slow path \
                     answers for it until they are",
                    after[number].apex
                );
                // What the plan has of the zone may be the new version.
                self.upkeep.mend();
                return Err(failure);
            }
        }
        Ok(())
    }
}

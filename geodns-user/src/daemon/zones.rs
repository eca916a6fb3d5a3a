//! Zones that change on their own: one place through which each is replaced.
//!
//! `Daemon::put_zone` is that place, under the lock `edits`. It serves `reload ZONE`, a transfer, a change of ACME
//! tokens, and an empty zone in place of one that has expired. A secondary without data is an empty zone, too: every
//! name in it is answered SERVFAIL, and its apex is in the kernel's table as one that passes. With a kernel, each
//! replacement closes the zone there, edits its names in place and opens it again (`plan`). When the tables have no
//! room, or a step fails, the daemon compiles a whole new plan.

use std::sync::Arc;
use std::time::SystemTime;

use tracing::{error, warn};

use super::change::internal;
use super::edits::{self, Who};
use super::{Daemon, acme, notify};
use crate::base::lock::write;
use crate::base::name::{Name, parse_name};
use crate::config::{Config, ZoneFile};
use crate::control::api::{Failure, Reloaded};
use crate::control::by::By;
use crate::kernel;
use crate::plan::{EditError, Plan, Store};
use crate::transfer::keep::Keep;
use crate::world::World;
use crate::zone::{self, Zone, Zones};

/// What is kept of a transferred zone, as long as it has not expired.
pub(super) fn kept(keep: &Keep, zone: &ZoneFile) -> Option<Arc<Zone>> {
    let kept = match keep.read(&zone.name, zone.label()) {
        Ok(kept) => kept?,
        Err(line) => {
            error!(zone = %zone.name, cause = line, "{line}");
            return None;
        }
    };
    let expires = kept.checked + kept.zone.expire();
    if expires <= SystemTime::now() {
        let apex = &zone.name;
        warn!(zone = %apex, "{apex}: what was kept of it has expired: SERVFAIL until it is transferred");
        return None;
    }
    Some(Arc::new(kept.zone))
}

/// The same, if it may be put in force: a configuration that steers names of it may have changed since, and the
/// others are served all the same.
pub(super) fn kept_for(config: &Config, keep: &Keep, zone: &ZoneFile) -> Option<Arc<Zone>> {
    let kept = kept(keep, zone)?;
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

/// Number of a zone of the configuration in force.
pub(super) fn number(world: &World, apex: &Name) -> Option<usize> {
    world.zones.load().number(apex.for_slice())
}

impl Daemon {
    /// What there is of a zone that comes from elsewhere, for a configuration that is read: what is in
    /// force, else what is on disk.
    pub(super) fn kept_zone(&self, zone: &ZoneFile) -> Option<Arc<Zone>> {
        let world = self.world.load();
        let number = number(&world, &zone.name);
        // A member's label is another one where its zone is another.
        let is_it = |of: &ZoneFile| of.file.is_none() && of.label() == zone.label();
        let there = number.filter(|&at| is_it(&world.inputs.config.zones[at]));
        match there {
            Some(number) => {
                let there = Arc::clone(&world.zones.load()[number]);
                (!there.is_empty()).then_some(there)
            }
            None => kept(&self.keep, zone),
        }
    }

    /// Puts a zone in force, in the place of the one with its apex. Steered names are marked on it, and
    /// what would not do in a zone file is refused: then nothing changes.
    ///
    /// Only under `edits`.
    pub(super) fn put_zone(&self, zone: Zone) -> Result<(), Failure> {
        let world = self.world.load_full();
        let config = &world.inputs.config;
        let apex = zone.apex.clone();
        let Some(number) = number(&world, &apex) else {
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
            self.announce(&apex);
        }
        if config.zones[number].is_consumer() {
            self.catalogs.have_changed();
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
        if self.kernel.is_none() || after.is_catalog(number) {
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
                self.mend();
                return Err(failure);
            }
        }
        Ok(())
    }

    /// Edits the plan, and then the kernel's tables in the same way. What the plan refuses is
    /// [`Failure::Invalid`], and nothing has changed.
    pub(super) fn edit_kernel(
        &self,
        world: &World,
        edit: impl FnOnce(&mut Plan) -> Result<Vec<Store>, EditError>,
    ) -> Result<(), Failure> {
        // The kernel's lock first, as everywhere.
        let mut kernel = self.lock_kernel();
        let mut plan = write(&world.plan);
        let stores = edit(&mut plan).map_err(|error| Failure::Invalid(error.to_string()))?;
        self.apply(kernel.as_deref_mut(), &stores)
    }

    /// Puts a whole new plan in force, compiled with the zones as they are now.
    pub(super) fn put_anew(&self, world: &World) -> Result<(), Failure> {
        let next = self.compile(&world.inputs_now(), &world.layers(), world.generation + 1)?;
        let instance = self.prepare(&next)?;
        self.commit(next, instance)
    }

    /// `reload ZONE`: reads its file again, or asks its primaries. On an error nothing changes.
    pub(super) async fn reload_zone(
        self: &Arc<Self>,
        name: &str,
        by: &By,
    ) -> Result<Reloaded, Failure> {
        let apex = parse_name(name).map_err(Failure::Invalid)?;
        let world = self.world.load_full();
        let config = Arc::clone(&world.inputs.config);
        let Some(number) = number(&world, &apex) else {
            let names: Vec<_> = config
                .zones
                .iter()
                .map(|zone| zone.name.to_string())
                .collect();
            let message = format!("no zone {apex}; there are {}", names.join(", "));
            return Err(Failure::NotFound(message));
        };
        if config.zones[number].is_producer() {
            return Err(Failure::Invalid(format!(
                "{apex} is made of what the configuration says: reload that, without naming a zone"
            )));
        }
        if config.zones[number].file.is_none() {
            self.refresh(&apex);
            return Ok(Reloaded {
                generation: world.generation,
                warning: Some(format!(
                    "{apex} comes from its primaries: they are being asked"
                )),
            });
        };
        drop(world);
        // Reading it is none of the others' business.
        let _alone = self.read_alone().await?;
        let read = {
            let config = Arc::clone(&config);
            move || zone::read_file(&config, &config.zones[number])
        };
        let zone = tokio::task::spawn_blocking(read).await;
        let zone = zone
            .map_err(internal)?
            .map_err(|error| Failure::Invalid(error.to_string()));
        let put = match zone {
            Ok(mut zone) => {
                let put = move |daemon: &Self| {
                    acme::put_over(&daemon.world.load().inputs.config, &daemon.state, &mut zone)?;
                    daemon.put_zone(zone)
                };
                self.change(put).await
            }
            Err(failure) => Err(failure),
        };
        edits::reload_zone(&Who::of(by), &apex, &put);
        put.map(|()| Reloaded {
            generation: self.world.load().generation,
            warning: None,
        })
    }

    /// After a new configuration is in force: who gives and takes which zones now, and who is told.
    pub(super) fn follow_zones(self: &Arc<Self>, before: Option<&Zones>) {
        let world = self.world.load_full();
        let zones = world.zones.load_full();
        self.follow_primaries();
        self.catalogs.have_changed();
        for zone in zones.iter().filter(|zone| !zone.is_empty()) {
            let before = before.and_then(|before| before.find(zone.apex.for_slice()));
            let before = before.filter(|(_, before)| before.apex == zone.apex);
            if before.is_none_or(|(_, before)| before.serial() != zone.serial()) {
                self.announce(&zone.apex);
            }
        }
        notify::ready(&self.summary());
    }
}

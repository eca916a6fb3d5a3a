//! Catalog zones (RFC 9432): zones that come and go as catalogs list them, and catalogs of our own zones.
//!
//! The state has the members that there are: a catalog that is broken, expires, or is away at a start
//! changes nothing. What a catalog says anew is put in force as a reload is, with a plan of its own, and
//! written to the state before; what is kept of members that have gone is removed after that.
//!
//! - **Members**: the configuration in force is the file's zones followed by the members that the state has. When a
//!   catalog or the file has changed, the daemon merges all catalogs with the members before. If the result differs, it
//!   compiles a new world with the same zones (new ones empty), writes the state, and commits as a reload does. It
//!   collects changes for 200 ms, and waits four times as long as the change before took.
//! - **Owners of names** (`config/claims`): the file comes first, then whichever catalog claimed a name first,
//!   with all names above and below its zones. The configuration leaves out members of the state that stand against
//!   that, so no reload or restart puts them in force. A new member, or one under another label, has no data; what a
//!   transfer under way brings for it is refused. Steered names stand in zones of the file, so removing a member breaks
//!   none of them.
//! - **Catalogs are private.** A client that may not transfer one gets REFUSED, and chains end before it. The kernel has
//!   only its apex, as a name that passes, and is not touched when it changes.
//! - **Our own catalogs** are written by each start and reload, from a ledger in the state: zones that are and were
//!   listed, how often each has come back (its label is a hash of its name and that number), and the serial.
//! - **Files**: the file of a member says at which label its catalog had it, and is ignored for another label. The file
//!   of a removed member is deleted after the state has let the member go, or by the next start.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tracing::{error, info, warn};

use crate::base::clock::now_unix_s;
use crate::base::name::{Name, parse_name};
use crate::config::{Config, Listing, Member};
use crate::control::problem::Failure;
use crate::daemon::Daemon;
use crate::daemon::force::{Edit, durably, internal};
use crate::state::{Change, Item, State};
use crate::supervise::Never;
use crate::world::Inputs;
use crate::zone::catalog::{self, Complaint, Ledger, Merged, Said};
use crate::zone::{self, Zone, Zones};

/// How long changes are collected.
const PAUSE: Duration = Duration::from_millis(200);
/// The pause after a change is N times as long as the change took: a catalog that changes all the time takes a fifth of
/// a core.
const SHARE: u32 = 4;
/// After a change that failed.
const AGAIN: Duration = Duration::from_secs(10);
/// Complaints that are logged at once, at the most.
const MAX_LOGGED: usize = 20;

/// Makes the catalogs that list our own zones. Gives their ledgers, to be saved before they are in force.
pub fn produce(
    config: &Config,
    state: &State,
    zones: &mut Zones,
) -> Result<Vec<(Name, Ledger)>, Failure> {
    let mut ledgers = Vec::new();
    for (number, producer) in config.zones.iter().enumerate() {
        if !producer.is_producer() {
            continue;
        }
        let listed = config.zones.iter().filter_map(|zone| {
            let Listing { catalog, group } = zone.listing.as_ref()?;
            (*catalog == producer.name).then(|| (zone.name.to_string(), group.clone()))
        });
        let listed: BTreeMap<_, _> = listed.collect();
        let before = state.ledger(&producer.name.to_string()).map_err(internal)?;
        let mut ledger = before.clone().unwrap_or_default();
        // Serials are 32 bits of an endless time (RFC 1982).
        ledger.list(&listed, now_unix_s());
        let zone = catalog::write(&producer.name, ledger.serial, &ledger.entries());
        zones.replace(number, Arc::new(zone.map_err(internal)?));
        if before.as_ref() != Some(&ledger) {
            ledgers.push((producer.name.clone(), ledger));
        }
    }
    Ok(ledgers)
}

/// Saves the ledgers that [`produce`] has made.
pub fn save(state: &State, ledgers: &[(Name, Ledger)]) -> Result<(), Failure> {
    if ledgers.is_empty() {
        return Ok(());
    }
    let items = ledgers.iter().map(|(catalog, ledger)| Item::Ledger {
        catalog: catalog.to_string(),
        ledger: Some(ledger.clone()),
    });
    let change = Change(items.collect());
    state.keep(&change).map(drop).map_err(internal)
}

impl Daemon {
    /// Prepares that the ledgers of our catalogs list the zones of the configuration: for a fleet, all of whose nodes have
    /// the same.
    fn list_zones(&self) -> Result<Edit<()>, Failure> {
        let world = self.world.load_full();
        let mut zones = Zones::clone(&world.zones.load());
        let ledgers = produce(&world.inputs.config, &self.state, &mut zones)?;
        let items = ledgers.into_iter().map(|(catalog, ledger)| Item::Ledger {
            catalog: catalog.to_string(),
            ledger: Some(ledger),
        });
        Ok(Edit::new("catalogs", items.collect(), |_, _| ()))
    }

    /// Gives the fleet the ledgers of our catalogs, if they are others after a reload.
    pub async fn share_ledgers(self: &Arc<Self>) {
        let producers = |daemon: &Self| {
            let world = daemon.world.load();
            let mut zones = world.inputs.config.zones.iter();
            zones.any(|zone| zone.is_producer())
        };
        if self.fleet.is_some()
            && producers(self)
            && let Err(failure) = self.edit(Self::list_zones, |_| ()).await
        {
            warn!(cause = %failure, "catalogs: their lists are not shared: {failure}");
        }
    }

    /// Puts catalogs of ours in force, as their ledgers are.
    pub fn put_ledgers(&self, ledgers: &[(&str, Option<&Ledger>)]) -> Result<(), Failure> {
        let world = self.world.load_full();
        for &(catalog, ledger) in ledgers {
            let name = parse_name(catalog).map_err(internal)?;
            let mut zones = world.inputs.config.zones.iter();
            let is_ours = zones.any(|zone| zone.name == name && zone.is_producer());
            if let Some(ledger) = ledger.filter(|_| is_ours) {
                let zone = catalog::write(&name, ledger.serial, &ledger.entries());
                self.put_zone(zone.map_err(internal)?)?;
            }
        }
        Ok(())
    }
}

/// Reads all catalogs. Gives their entries, and complaints about those that are broken.
fn said(config: &Config, zones: &Zones) -> (Vec<Said>, Vec<Complaint>) {
    let mut complaints = Vec::new();
    let mut all = Vec::new();
    for (of, zone) in config.zones.iter().zip(zones.iter()) {
        if !of.is_consumer() {
            continue;
        }
        let entries = match catalog::read(zone) {
            _ if zone.is_empty() => None,
            Ok(entries) => Some(entries),
            Err(broken) => {
                complaints.push(Complaint {
                    catalog: Some(zone.apex.clone()),
                    member: None,
                    cause: broken.to_string(),
                });
                None
            }
        };
        all.push(Said {
            catalog: zone.apex.clone(),
            entries,
        });
    }
    (all, complaints)
}

/// The outcome of a look at the catalogs.
struct Outcome {
    /// How many members there were, and how many there are now; `None`: they are the same.
    changed: Option<[usize; 2]>,
    complaints: Vec<Complaint>,
}

impl Daemon {
    /// Heeds what catalogs say, for ever.
    pub async fn follow_catalogs(self: Arc<Self>) -> Never {
        let mut complaints = Vec::new();
        // What the status says of it.
        let mut shown = None;
        let mut failed = false;
        loop {
            let changed = self.zones.catalogs.changed();
            match failed {
                true => drop(tokio::time::timeout(AGAIN, changed).await),
                false => changed.await,
            }
            tokio::time::sleep(PAUSE).await;
            let started = Instant::now();
            let before = self.world.load().zones.load_full();
            let outcome = self.take_members().await;
            failed = outcome.is_err();
            let line = match outcome {
                Ok(outcome) => {
                    if let Some([before, now]) = outcome.changed {
                        let took = started.elapsed().as_millis();
                        info!(
                            members = now,
                            before,
                            "catalogs: {now} members, {before} before; in force after {took} ms"
                        );
                    }
                    if outcome.complaints != complaints {
                        log(&outcome.complaints);
                        complaints = outcome.complaints;
                    }
                    if outcome.changed.is_some() {
                        self.follow_zones(Some(&before));
                    }
                    complaints.first().map(ToString::to_string)
                }
                Err(failure) => {
                    let line = format!("catalogs: the members stay as they were: {failure}");
                    error!(cause = %failure, "{line}");
                    Some(line)
                }
            };
            self.report.failure.forgive(&mut shown);
            if let Some(line) = line {
                self.report.failure.complain(&mut shown, line);
            }
            tokio::time::sleep(started.elapsed() * SHARE).await;
        }
    }

    /// Puts those members in force that catalogs list, and no others.
    async fn take_members(self: &Arc<Self>) -> Result<Outcome, Failure> {
        // Nobody else changes them.
        let read = |daemon: &Self| daemon.state.members().map_err(internal);
        let kept = self.blocking(read).await?;
        self.change(move |daemon| daemon.put_members(&kept)).await
    }

    /// Puts those members in force that catalogs list, and no others. `before`: those that the state has.
    fn put_members(&self, before: &[Member]) -> Result<Outcome, Failure> {
        let world = self.world.load_full();
        let config = &world.inputs.config;
        let zones = world.zones.load_full();
        let (said, mut complaints) = said(config, &zones);
        let room = config.room_for_members();
        let merged = catalog::merge(&said, before, config.claims(), room);
        complaints.extend(merged.complaints.iter().cloned());
        if merged.members == before && merged.members.iter().eq(config.members()) {
            return Ok(Outcome {
                changed: None,
                complaints,
            });
        }
        let inputs = with_members(&world.inputs_now(), &merged)?;
        let next = self.compile(&inputs, &world.layers(), world.generation + 1)?;
        let instance = self.prepare(&next)?;
        let keep = |members: &[Member]| self.state.save_members(members).map_err(internal);
        durably(
            "members of catalogs",
            || keep(&merged.members),
            |()| self.commit(next, instance),
            |()| keep(before),
        )?;
        self.forget(config, before, &merged);
        Ok(Outcome {
            changed: Some([before.len(), merged.members.len()]),
            complaints,
        })
    }
}

impl Daemon {
    /// Removes the files of members that have gone, or are others now. The state knows of it already.
    fn forget(&self, config: &Config, before: &[Member], merged: &Merged) {
        let own = config.zones.iter().filter(|zone| zone.member.is_none());
        let own: HashSet<&Name> = own.map(|zone| &zone.name).collect();
        let now: HashSet<&Name> = merged.members.iter().map(|member| &member.name).collect();
        for gone in before.iter().filter(|member| !now.contains(&member.name)) {
            match own.contains(&gone.name) {
                true => self.zones.kept.remove_member(&gone.name, &gone.id),
                false => self.zones.kept.remove(&gone.name),
            }
        }
        merged
            .fresh
            .iter()
            .for_each(|name| self.zones.kept.remove(name));
    }
}

/// The same inputs with other members. Fresh members have no data yet; all others keep theirs.
fn with_members(now: &Inputs, merged: &Merged) -> Result<Inputs, Failure> {
    let mut config = Config::clone(&now.config);
    config.set_members(&merged.members);
    let zone = |name: &Name| {
        let there = now.zones.number(name.for_slice());
        let there = there.filter(|_| !merged.fresh.contains(name));
        there.map_or_else(
            || Arc::new(Zone::empty(name.clone())),
            |number| Arc::clone(&now.zones[number]),
        )
    };
    let zones = config.zones.iter().map(|of| zone(&of.name)).collect();
    let mut zones =
        zone::arranged(&config, zones).map_err(|error| Failure::Invalid(error.to_string()))?;
    zones.make_offers(&config, &now.zones, None);
    Ok(Inputs {
        config: Arc::new(config),
        zones: Arc::new(zones),
        ..now.clone()
    })
}

fn log(complaints: &[Complaint]) {
    for complaint in complaints.iter().take(MAX_LOGGED) {
        let Complaint {
            catalog,
            member,
            cause,
        } = complaint;
        warn!(
            catalog = catalog.as_ref().map(display),
            member = member.as_ref().map(display),
            cause,
            "{complaint}"
        );
    }
    let more = complaints.len().saturating_sub(MAX_LOGGED);
    if more > 0 {
        warn!(more, "catalogs: {more} more of the kind");
    }
}

//! Zones: read from zone files, with the names that a pool answers marked on them.
//!
//! - `run`: records one after the other
//! - `store`: a [`Zone`] in memory; `index`: where its nodes are, by their names; `memory`: what the machine is
//!   asked to do about it
//! - [`acme`]: tokens of ACME challenges, put over a zone
//! - [`catalog`]: catalog zones, read and written
//! - `text`: a zone file as entries of tokens, each with its line
//! - `rdata`: a record's data, from tokens to its canonical form
//! - `generate`: `$GENERATE`
//! - `read`, `draft`: entries to a [`Zone`]: what may stand where (RFC 1034, 2181)
//! - `integrity`: whether what a zone says fits together
//! - `size`: whether its records fit into messages
//! - `problems`: what was found on the way
//! - `steer`: the configuration's steered names put on the zones
//! - `delta`: what is different between two versions of a zone
//! - [`take`]: records from elsewhere to a [`Zone`]
//! - `offer`: a zone as others may have it, and how it came to be
//!
//! # How a zone file is read
//!
//! `text` cuts the file into entries of tokens, each with its line. `read` handles directives, owner, TTL and class.
//! `rdata` has a table with the fields of each type. By that table it reads records in presentation format and checks
//! them in wire format, in a transfer, too. Records wait in a `draft`, with their lines, until all are there. Then the
//! records of each name are sorted and compared, the `store` is filled, and `integrity` checks how they fit together.
//! Reading goes on after an error, so all errors are shown at once. An owner with an unreadable record is doubtful, and
//! nothing is reported missing there.
//!
//! Signatures of a name form one RRset for each type that they cover (RFC 4034 section 3); a query gets them together.
//! The owner of NSEC3 records alone is no name (RFC 5155 section 7.2.8): `Zone::named` does not find it, and the
//! kernel's table does not have it. A digest (ZONEMD) is removed where something is put over its zone. A zone with a
//! DNSKEY is served without its signatures, of which `check`, log and `status` warn, and none of its names can be
//! steered.

pub mod acme;
pub mod catalog;
mod delta;
mod draft;
mod generate;
mod index;
mod integrity;
pub mod memory;
mod offer;
mod problems;
mod rdata;
mod read;
mod run;
mod size;
mod steer;
mod store;
pub mod take;
mod text;

use std::num::NonZero;
use std::ops::Deref;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use bytes::Bytes;
pub use delta::{Delta, Misfit};
use domain::base::Rtype;
use hashbrown::{HashMap, HashSet};
pub use integrity::SIGNED;
pub use offer::Offer;
pub use problems::Findings;
pub use rdata::{compare, name_len};
pub use run::{Record, Run, name_len as wire_len};
pub use store::{NameHash, Node, RrSet, TooLarge, Zone};
use tracing::warn;

use crate::base::complaint::Error;
use crate::base::lock::lock;
use crate::base::name::Name;
use crate::config::{Config, ZoneFile};

/// Warnings of a zone that are logged, at the most.
const MAX_LOGGED: usize = 20;

/// Zones found by name.
#[derive(Clone, Debug, Default)]
pub struct Zones {
    zones: Vec<Arc<Zone>>,
    /// Offers of the zones that somebody may have; one for each zone, or none yet.
    offers: Vec<Option<Arc<Offer>>>,
    by_apex: HashMap<Bytes, usize>,
    /// Whether each zone is a catalog; one for each zone, or none.
    catalogs: Vec<bool>,
    /// Labels of an apex, at the most; the root has none.
    depth: usize,
    /// Whether one of them is large.
    any_is_large: bool,
}

impl Zones {
    /// The zone that a name, in lower case, belongs to: the one with the longest apex.
    pub fn find(&self, name: &domain::base::Name<[u8]>) -> Option<(usize, &Arc<Zone>)> {
        let wire = name.as_slice();
        // No apex has more labels than `depth`.
        let mut skip = labels(wire).saturating_sub(self.depth);
        let mut at = 0;
        loop {
            let label = usize::from(wire[at]);
            if skip > 0 {
                skip -= 1;
            } else if let Some(&zone) = self.by_apex.get(&wire[at..]) {
                return Some((zone, &self.zones[zone]));
            } else if label == 0 {
                return None;
            }
            at += 1 + label;
        }
    }

    /// Number of the zone with an apex, in lower case.
    pub fn number(&self, apex: &domain::base::Name<[u8]>) -> Option<usize> {
        self.by_apex.get(apex.as_slice()).copied()
    }

    /// Whether a zone is a catalog, which is none of the public's business (RFC 9432 section 7).
    pub fn is_catalog(&self, number: usize) -> bool {
        self.catalogs.get(number).is_some_and(|&catalog| catalog)
    }

    /// Whether everyone is answered from a zone: it is no catalog, and there is something in it.
    pub fn is_public(&self, number: usize) -> bool {
        !self.is_catalog(number) && !self.zones[number].is_empty()
    }

    /// Names of the zones that everyone is answered from, together.
    pub fn names(&self) -> usize {
        let public = (0..self.zones.len()).filter(|&number| self.is_public(number));
        public.map(|number| self.zones[number].names()).sum()
    }

    /// Puts a zone in the place of the one of this number, which has the same apex.
    pub fn replace(&mut self, number: usize, zone: Arc<Zone>) {
        self.any_is_large |= zone.is_large();
        self.zones[number] = zone;
    }

    /// Whether there is a zone that is more than the caches hold, or was one ([`Zone::is_large`]).
    pub fn any_is_large(&self) -> bool {
        self.any_is_large
    }

    /// A zone as others may have it.
    pub fn offer(&self, number: usize) -> Option<&Arc<Offer>> {
        self.offers.get(number)?.as_ref()
    }

    /// Makes the offers of zones that somebody may have, each from the one that was in force before.
    /// `only`: of this zone alone.
    pub fn make_offers(&mut self, config: &Config, before: &Self, only: Option<usize>) {
        let make = |number: usize| {
            let zone = &self.zones[number];
            let previous = before.find(zone.apex.for_slice());
            let previous = previous.filter(|(_, before)| before.apex == zone.apex);
            let previous = previous.and_then(|(number, _)| before.offer(number));
            Offer::make(config, number, self, previous)
        };
        match only {
            Some(number) if self.offers.len() == self.zones.len() => {
                self.offers[number] = make(number);
            }
            _ => self.offers = (0..self.zones.len()).map(make).collect(),
        }
    }
}

/// Labels of a name, the root not counted.
fn labels(wire: &[u8]) -> usize {
    let mut at = 0;
    let mut labels = 0;
    while wire[at] != 0 {
        at += 1 + usize::from(wire[at]);
        labels += 1;
    }
    labels
}

impl Deref for Zones {
    type Target = [Arc<Zone>];

    fn deref(&self) -> &[Arc<Zone>] {
        &self.zones
    }
}

impl From<Vec<Zone>> for Zones {
    fn from(zones: Vec<Zone>) -> Self {
        zones.into_iter().map(Arc::new).collect::<Vec<_>>().into()
    }
}

impl From<Vec<Arc<Zone>>> for Zones {
    /// If two zones have one apex, the later is found.
    fn from(zones: Vec<Arc<Zone>>) -> Self {
        let apexes = zones.iter().enumerate();
        let by_apex = apexes
            .map(|(at, zone)| (zone.apex.as_octets().clone(), at))
            .collect();
        let depths = zones.iter().map(|zone| labels(zone.apex.as_slice()));
        Self {
            depth: depths.max().unwrap_or(0),
            any_is_large: zones.iter().any(|zone| zone.is_large()),
            by_apex,
            zones,
            catalogs: Vec::new(),
            offers: Vec::new(),
        }
    }
}

/// Names in wire format, in lower case.
type Names = HashSet<Bytes>;

/// A zone file that has been read.
#[derive(Debug)]
pub struct Reading {
    /// The zone, unless there are errors.
    pub zone: Option<Zone>,
    /// Everything that was found in it.
    pub findings: Findings,
}

/// Reads one zone file by itself. That a pool answers some of its names is not known here.
pub fn read(apex: &Name, file: &Path) -> Result<Reading, Error> {
    let read = read::file(apex, file, &Names::new());
    let (zone, findings) = read.map_err(|error| Error::cannot_read(file, &error))?;
    Ok(Reading { zone, findings })
}

/// Reads a zone file's content; `file` is for errors and for paths of `$INCLUDE`.
pub fn parse(apex: &Name, file: &Path, content: &[u8]) -> Reading {
    let (zone, findings) = read::content(apex, file, content, &Names::new());
    Reading { zone, findings }
}

/// Reads every zone of a configuration, in its order, on all cores.
pub fn read_all(config: &Config) -> Vec<Reading> {
    let steered = integrity::names(config.steers.iter().map(|steer| &steer.name));
    let next = AtomicUsize::new(0);
    let readings = Mutex::new(Vec::with_capacity(config.zones.len()));
    let work = || {
        while let at = next.fetch_add(1, Ordering::Relaxed)
            && let Some(zone) = config.zones.get(at)
        {
            let reading = read_one(config, zone, &steered);
            let mut readings = lock(&readings);
            readings.push((at, reading));
        }
    };
    let cores = thread::available_parallelism().map_or(1, NonZero::get);
    thread::scope(|scope| {
        for _ in 1..cores.min(config.zones.len()) {
            scope.spawn(work);
        }
        work();
    });
    let mut readings = std::mem::take(&mut *lock(&readings));
    readings.sort_unstable_by_key(|(at, _)| *at);
    readings.into_iter().map(|(_, reading)| reading).collect()
}

fn read_one(config: &Config, zone: &ZoneFile, steered: &Names) -> Reading {
    let Some(file) = &zone.file else {
        return Reading {
            zone: None,
            findings: Findings::default(),
        };
    };
    match read::file(&zone.name, file, steered) {
        Ok((zone, findings)) => Reading { zone, findings },
        Err(error) => Reading {
            zone: None,
            findings: Findings::of(Error {
                file: config.path.clone(),
                line: Some(zone.line),
                column: None,
                key: Some("zone.file".to_owned()),
                message: format!(
                    "cannot read {}: {error}; check the path and its permissions",
                    file.display()
                ),
            }),
        },
    }
}

/// Gives the data that are kept of a zone that is transferred from elsewhere.
pub type Kept<'a> = &'a dyn Fn(&ZoneFile) -> Option<Arc<Zone>>;

/// Reads every zone of a configuration and marks its steered names on them. Of those that are transferred
/// from elsewhere, takes what `kept` has of them; without, the zone is empty. Warnings are logged.
pub fn load(config: &Config, kept: Kept<'_>) -> Result<Zones, Error> {
    let readings = read_all(config);
    for (zone, reading) in config.zones.iter().zip(&readings) {
        log(&zone.name, reading);
    }
    steered(config, readings, kept)
}

/// Logs the warnings of a zone.
fn log(zone: &Name, reading: &Reading) {
    let Findings {
        warnings,
        more_warnings,
        ..
    } = &reading.findings;
    for warning in warnings.iter().take(MAX_LOGGED) {
        warn!(
            %zone,
            file = %warning.file.display(),
            line = warning.line,
            key = warning.key.as_deref(),
            cause = warning.message,
            "{warning}"
        );
    }
    let more = warnings.len().saturating_sub(MAX_LOGGED) + more_warnings;
    if more > 0 {
        let file = warnings[0].file.display();
        warn!(%zone, %file, more, "{file}: {more} more warnings; geodns check shows them");
    }
}

/// The zones that have been read, with the configuration's steered names marked on them.
pub fn steered(config: &Config, readings: Vec<Reading>, kept: Kept<'_>) -> Result<Zones, Error> {
    let mut findings = Findings::default();
    let mut zones = Vec::with_capacity(readings.len());
    for (file, reading) in config.zones.iter().zip(readings) {
        let Reading {
            zone,
            findings: found,
        } = reading;
        let elsewhere = || kept(file).unwrap_or_else(|| Arc::new(Zone::empty(file.name.clone())));
        zones.push(zone.map_or_else(elsewhere, Arc::new));
        findings.errors.extend(found.errors);
        findings.more_errors += found.more_errors;
    }
    if let Some(refusal) = findings.refusal() {
        return Err(refusal);
    }
    arranged(config, zones)
}

/// Whether what is kept of a zone that comes from elsewhere may be put in force under a configuration, or why not.
pub fn may_be_put(config: &Config, zone: &Arc<Zone>) -> Result<(), Error> {
    let mut steered = config.steers.iter();
    if !steered.any(|steer| steer.name.ends_with(&zone.apex)) {
        return Ok(());
    }
    let alone = config.zones.iter().map(|of| match of.name == zone.apex {
        true => Arc::clone(zone),
        false => Arc::new(Zone::empty(of.name.clone())),
    });
    arranged(config, alone.collect()).map(drop)
}

/// Zones that are there already, one for each of the configuration's, in its order, with its steered names
/// marked on them.
pub fn arranged(config: &Config, zones: Vec<Arc<Zone>>) -> Result<Zones, Error> {
    let mut zones = Zones::from(zones);
    let catalogs = config.zones.iter().map(|zone| zone.catalog.is_some());
    zones.catalogs = catalogs.collect();
    make_room(config, &mut zones, None)?;
    steer::steer(config, &mut zones, None)?;
    Ok(zones)
}

/// Reads one zone's file. Warnings are logged.
pub fn read_file(config: &Config, zone: &ZoneFile) -> Result<Zone, Error> {
    let steered = integrity::names(config.steers.iter().map(|steer| &steer.name));
    let reading = read_one(config, zone, &steered);
    log(&zone.name, &reading);
    match (reading.zone, reading.findings.refusal()) {
        (Some(zone), None) => Ok(zone),
        (_, Some(refusal)) => Err(refusal),
        (None, None) => Ok(Zone::empty(zone.name.clone())),
    }
}

/// Puts a zone in the place of the one of this number, with the configuration's steered names marked on it.
pub fn put(config: &Config, zones: &mut Zones, number: usize, zone: Zone) -> Result<(), Error> {
    zones.replace(number, Arc::new(zone));
    make_room(config, zones, Some(number))?;
    steer::steer(config, zones, Some(number))
}

fn too_large(config: &Config, number: usize, error: TooLarge) -> Error {
    Error {
        file: config.path.clone(),
        line: Some(config.zones[number].line),
        column: None,
        key: Some("zone".to_owned()),
        message: error.to_string(),
    }
}

/// Makes zones that come from elsewhere, one of them or all, ready for steered names: marks of another
/// configuration go, and so do the addresses that a primary has at names which a pool answers here.
fn make_room(config: &Config, zones: &mut Zones, only: Option<usize>) -> Result<(), Error> {
    let is_it = |number: usize| {
        only.is_none_or(|only| only == number) && config.zones[number].file.is_none()
    };
    let numbers = only.map_or(0..zones.len(), |only| only..only + 1);
    for number in numbers.filter(|&number| is_it(number)) {
        if zones[number].nodes().any(|node| node.steer().is_some()) {
            Arc::make_mut(&mut zones.zones[number]).clear_pools();
        }
    }
    for steer in &config.steers {
        let name = steer.name.for_slice();
        let Some((number, zone)) = zones.find(name) else {
            continue;
        };
        let node = is_it(number).then(|| zone.node(name)).flatten();
        if !node.is_some_and(|node| node.has(Rtype::A) || node.has(Rtype::AAAA)) {
            continue;
        }
        let zone = Arc::make_mut(&mut zones.zones[number]);
        let mut others = Run::default();
        for record in zone.node(name).into_iter().flat_map(Node::records) {
            if !matches!(record.rtype, Rtype::A | Rtype::AAAA) {
                others.push(name, record);
            }
        }
        let mut others: Vec<_> = others.iter().map(|(_, record)| record).collect();
        let set = zone.set(name, &mut others);
        set.map_err(|error| too_large(config, number, error))?;
    }
    Ok(())
}

/// Whether the records of a name fit into messages, or why not.
pub fn fits(zone: &Zone, name: &Name) -> Result<(), String> {
    let node = zone.node(name.for_slice());
    let fits = node.map_or(Ok(()), size::check_node);
    fits.map_err(|(rtype, message)| format!("{name} {rtype}: {message}"))
}

#[cfg(test)]
mod tests;

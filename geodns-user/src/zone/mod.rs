//! Zones: read from zone files, with the names that a pool answers marked on them.
//!
//! - `store`: a [`Zone`] in memory
//! - `text`: a zone file as entries of tokens, each with its line
//! - `rdata`: a record's data, from tokens to its canonical form
//! - `generate`: `$GENERATE`
//! - `read`, `draft`: entries to a [`Zone`]: what may stand where (RFC 1034, 2181)
//! - `integrity`: whether what a zone says fits together
//! - `problems`: what was found on the way
//! - `steer`: the configuration's steered names put on the zones

mod draft;
mod generate;
mod integrity;
mod problems;
mod rdata;
mod read;
mod steer;
mod store;
mod text;

use std::num::NonZero;
use std::ops::Deref;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use bytes::Bytes;
use hashbrown::{HashMap, HashSet};
pub use problems::Findings;
pub use store::{Node, Record, RrSet, TooLarge, Zone};
use tracing::warn;

use crate::config::{Config, Error, ZoneFile};

/// Warnings of a zone that are logged, at the most.
const MAX_LOGGED: usize = 20;

/// A domain name.
pub type Name = domain::base::Name<Bytes>;

/// Zones found by name.
#[derive(Clone, Debug, Default)]
pub struct Zones {
    zones: Vec<Arc<Zone>>,
    by_apex: HashMap<Bytes, usize>,
    /// Labels of an apex, at the most; the root has none.
    depth: usize,
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

    /// Puts a zone in the place of the one of this number, which has the same apex.
    pub fn replace(&mut self, number: usize, zone: Arc<Zone>) {
        self.zones[number] = zone;
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
    /// Of two zones with one apex, the later is found.
    fn from(zones: Vec<Zone>) -> Self {
        let apexes = zones.iter().enumerate();
        let by_apex = apexes
            .map(|(at, zone)| (zone.apex.as_octets().clone(), at))
            .collect();
        let depths = zones.iter().map(|zone| labels(zone.apex.as_slice()));
        Self {
            depth: depths.max().unwrap_or(0),
            by_apex,
            zones: zones.into_iter().map(Arc::new).collect(),
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
    /// What was found in it.
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
            let mut readings = readings.lock().unwrap_or_else(PoisonError::into_inner);
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
    let mut readings = readings
        .into_inner()
        .unwrap_or_else(PoisonError::into_inner);
    readings.sort_unstable_by_key(|(at, _)| *at);
    readings.into_iter().map(|(_, reading)| reading).collect()
}

fn read_one(config: &Config, zone: &ZoneFile, steered: &Names) -> Reading {
    match read::file(&zone.name, &zone.file, steered) {
        Ok((zone, findings)) => Reading { zone, findings },
        Err(error) => Reading {
            zone: None,
            findings: Findings::of(Error {
                file: config.path.clone(),
                line: Some(zone.line),
                key: Some("zone.file".to_owned()),
                message: format!(
                    "cannot read {}: {error}; check the path and its permissions",
                    zone.file.display()
                ),
            }),
        },
    }
}

/// Reads every zone of a configuration and marks its steered names on them. Warnings are logged.
pub fn load(config: &Config) -> Result<Zones, Error> {
    let readings = read_all(config);
    for reading in &readings {
        let Findings {
            warnings,
            more_warnings,
            ..
        } = &reading.findings;
        for warning in warnings.iter().take(MAX_LOGGED) {
            warn!("{warning}");
        }
        let more = warnings.len().saturating_sub(MAX_LOGGED) + more_warnings;
        if more > 0 {
            let file = warnings[0].file.display();
            warn!("{file}: {more} more warnings; geodns check shows them");
        }
    }
    steered(config, readings)
}

/// The zones that have been read, with the configuration's steered names marked on them.
pub fn steered(config: &Config, readings: Vec<Reading>) -> Result<Zones, Error> {
    let mut findings = Findings::default();
    let mut zones = Vec::with_capacity(readings.len());
    for Reading {
        zone,
        findings: found,
    } in readings
    {
        zones.extend(zone);
        findings.errors.extend(found.errors);
        findings.more_errors += found.more_errors;
    }
    if let Some(refusal) = findings.refusal() {
        return Err(refusal);
    }
    let mut zones = Zones::from(zones);
    steer::steer(config, &mut zones)?;
    Ok(zones)
}

/// A name in presentation format, absolute with or without its last dot; in lower case. Or what is
/// wrong with it.
pub fn parse_name(text: &str) -> Result<Name, String> {
    if text.is_empty() {
        return Err("an empty name; write one, as \"www.example.org\"".to_owned());
    }
    if !text.is_ascii() {
        return Err(format!(
            "{text:?} has letters outside ASCII; write its labels in their \"xn--\" form"
        ));
    }
    // Labels hold 63 octets, names 255.
    let mut name: domain::base::Name<Vec<u8>> = text.parse().map_err(|error| {
        format!("{text:?} is not a domain name ({error}); write one, as \"www.example.org\"")
    })?;
    name.make_canonical();
    Name::from_octets(name.into_octets().into())
        .map_err(|_| format!("{text:?} is not a domain name; correct it"))
}

/// The octets of each name above `name`, nearest first, down to and with `apex`.
pub fn ancestors<'a>(
    name: &'a domain::base::Name<[u8]>,
    apex: &Name,
) -> impl Iterator<Item = &'a domain::base::Name<[u8]>> + use<'a> {
    let apex_len = apex.len();
    let mut at = 0;
    std::iter::from_fn(move || {
        if name.len() - at <= apex_len {
            return None;
        }
        at += 1 + usize::from(name.as_slice()[at]);
        Some(name.slice_from(at))
    })
}

#[cfg(test)]
mod tests;

//! Zones: read from zone files, with the names that a pool answers marked on them.
//!
//! - `store`: a [`Zone`] in memory
//! - `text`: a zone file as entries, each with its line, in the form that `domain` scans
//! - `read`, `draft`: entries to a [`Zone`]: what may stand where (RFC 1034, 2181, 6672)
//! - `steer`: the configuration's steered names put on the zones

mod draft;
mod read;
mod steer;
mod store;
mod text;

use std::ops::Deref;
use std::sync::Arc;

use bytes::Bytes;
use hashbrown::HashMap;
pub use store::{Node, Record, RrSet, TooLarge, Zone};

use crate::config::{Config, Error};

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

/// Reads every zone of a configuration and marks its steered names on them.
pub fn load(config: &Config) -> Result<Zones, Error> {
    let zones: Result<Vec<Zone>, Error> = config
        .zones
        .iter()
        .map(|zone| {
            let bytes = std::fs::read(&zone.file).map_err(|error| Error {
                file: config.path.clone(),
                line: Some(zone.line),
                key: Some("zone.file".to_owned()),
                message: format!(
                    "cannot read {}: {error}; check the path and its permissions",
                    zone.file.display()
                ),
            })?;
            read::parse(&zone.name, &zone.file, &bytes)
        })
        .collect();
    let mut zones = Zones::from(zones?);
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
    let name: domain::base::Name<Vec<u8>> = text.parse().map_err(|error| {
        format!("{text:?} is not a domain name ({error}); write one, as \"www.example.org\"")
    })?;
    lower(name).ok_or_else(|| format!("{text:?} is not a domain name; correct it"))
}

/// A name in lower case; `None` if it is not one.
fn lower(mut name: domain::base::Name<Vec<u8>>) -> Option<Name> {
    name.make_canonical();
    Name::from_octets(name.into_octets().into()).ok()
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

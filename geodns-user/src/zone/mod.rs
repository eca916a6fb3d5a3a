//! Zones: read from zone files, with the names that a pool answers marked on them.
//!
//! - `text`: a zone file as entries, each with its line, in the form that `domain` scans
//! - `read`: entries to a [`Zone`]: what may stand where (RFC 1034, 2181, 6672)
//! - `steer`: the configuration's steered names put on the zones

mod read;
mod steer;
mod text;

use std::collections::{BTreeMap, HashMap};
use std::ops::Deref;

use bytes::Bytes;
use domain::base::Rtype;

use crate::config::{Config, Error};

/// A domain name; compares and hashes without regard to case.
pub type Name = domain::base::Name<Bytes>;

/// Records of one owner and type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RrSet {
    /// One TTL for all of them.
    pub ttl: u32,
    /// RDATA of each in canonical form (RFC 4034 section 6.2: names uncompressed and in lower
    /// case); sorted, without repeats.
    pub rdata: Vec<Bytes>,
}

/// What stands at a name: records, a pool, or nothing but names below it (an empty non-terminal).
#[derive(Clone, Debug, Default)]
pub struct Node {
    /// RRsets by type.
    pub rrsets: BTreeMap<Rtype, RrSet>,
    /// A and AAAA come from this pool (index into [`Config::pools`]).
    pub steer: Option<usize>,
}

/// One zone. It has one SOA and at least one NS record at its apex, nothing out of zone, nothing
/// beside a CNAME, nothing below a DNAME.
#[derive(Clone, Debug)]
pub struct Zone {
    /// Apex, in lower case.
    pub apex: Name,
    /// Every name of the zone, empty non-terminals included; in lower case.
    pub nodes: HashMap<Name, Node>,
}

impl Zone {
    /// The SOA record.
    pub fn soa(&self) -> &RrSet {
        &self.nodes[&self.apex].rrsets[&Rtype::SOA]
    }

    /// Its serial number.
    pub fn serial(&self) -> u32 {
        self.soa_number(0)
    }

    /// TTL of negative answers: min(SOA TTL, SOA MINIMUM) (RFC 2308 section 3).
    pub fn negative_ttl(&self) -> u32 {
        self.soa().ttl.min(self.soa_number(4))
    }

    /// One of the five numbers that a SOA's RDATA ends in: serial, refresh, retry, expire, minimum.
    fn soa_number(&self, place: usize) -> u32 {
        let rdata = &self.soa().rdata[0];
        let mut number = [0; 4];
        let at = rdata.len() - 20 + 4 * place;
        number.copy_from_slice(&rdata[at..at + 4]);
        u32::from_be_bytes(number)
    }

    /// Whether a name below the apex is delegated.
    pub fn is_cut(&self, name: &Name) -> bool {
        name != &self.apex
            && self
                .nodes
                .get(name)
                .is_some_and(|node| node.rrsets.contains_key(&Rtype::NS))
    }
}

/// Every zone of a configuration, in its order, found by name.
#[derive(Clone, Debug, Default)]
pub struct Zones {
    zones: Vec<Zone>,
    by_apex: HashMap<Name, usize>,
}

impl Zones {
    /// The zone that a name belongs to: the one with the longest apex.
    pub fn find(&self, name: &Name) -> Option<(usize, &Zone)> {
        let mut at = 0;
        loop {
            if let Some(&zone) = self.by_apex.get(name.slice_from(at)) {
                return Some((zone, &self.zones[zone]));
            }
            match name.as_octets()[at] {
                0 => return None,
                label => at += 1 + usize::from(label),
            }
        }
    }
}

impl Deref for Zones {
    type Target = [Zone];

    fn deref(&self) -> &[Zone] {
        &self.zones
    }
}

impl From<Vec<Zone>> for Zones {
    /// Of two zones with one apex, the later is found.
    fn from(zones: Vec<Zone>) -> Self {
        let apexes = zones.iter().enumerate();
        let by_apex = apexes.map(|(at, zone)| (zone.apex.clone(), at)).collect();
        Self { zones, by_apex }
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
fn ancestors<'a>(
    name: &'a Name,
    apex: &Name,
) -> impl Iterator<Item = &'a domain::base::Name<[u8]>> + use<'a> {
    let apex_len = apex.len();
    let mut at = 0;
    std::iter::from_fn(move || {
        if name.len() - at <= apex_len {
            return None;
        }
        at += 1 + usize::from(name.as_octets()[at]);
        Some(name.slice_from(at))
    })
}

#[cfg(test)]
mod tests;

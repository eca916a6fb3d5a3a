//! Finds what a zone has for a name (RFC 1034 section 4.3.2, RFC 4592, RFC 6672). Names are in lower
//! case.

use std::sync::Arc;

use domain::base::{Name, Rtype};

use crate::zone::{Node, RrSet, Zone, Zones};

/// The result of looking a name up in a zone.
#[derive(Clone, Copy, Debug)]
pub enum Found<'a> {
    /// The name exists, or matches a wildcard: its node.
    Node(Node<'a>),
    /// The name is at or below a zone cut.
    Cut {
        /// Where the cut is.
        owner: &'a Name<[u8]>,
        /// The name servers below it.
        ns: RrSet<'a>,
    },
    /// The name is below one that is redirected whole.
    Dname {
        /// Where the redirection is.
        owner: &'a Name<[u8]>,
        /// The DNAME record.
        dname: RrSet<'a>,
    },
    /// The name does not exist.
    Missing,
}

/// Looks a name up in the zone that it is in.
pub fn lookup<'a>(zone: &'a Zone, name: &Name<[u8]>, qtype: Rtype) -> Found<'a> {
    let wire = name.as_slice();
    // Where each label above the first begins, from the first on; a name has 127 at the most.
    let mut labels = [0u8; 128];
    let mut count = 0;
    let mut at = 0;
    let apex_at = wire.len().saturating_sub(zone.apex.len());
    while at <= apex_at && count < labels.len() {
        labels[count] = at as u8;
        count += 1;
        at += 1 + usize::from(wire[at]);
    }
    let mut encloser = apex_at;
    for at in labels[..count].iter().rev().map(|&at| usize::from(at)) {
        let node = if at == apex_at {
            zone.apex_node()
        } else {
            zone.named(name.slice_from(at))
        };
        let Some(node) = node else { break };
        let whole = at == 0;
        if at != apex_at
            && let Some(ns) = node.rrset(Rtype::NS)
            // The parent has the DS (RFC 4035 section 3.1.4.1).
            && !(whole && qtype == Rtype::DS)
        {
            let owner = node.name();
            return Found::Cut { owner, ns };
        }
        if whole {
            return Found::Node(node);
        }
        if let Some(dname) = node.rrset(Rtype::DNAME) {
            let owner = node.name();
            return Found::Dname { owner, dname };
        }
        encloser = at;
    }
    // The closest encloser's wildcard, if it has one. A label of one octet fits in place of the
    // one or more that are missing.
    let mut wildcard = [0; 256];
    wildcard[..2].copy_from_slice(b"\x01*");
    let rest = &wire[encloser..];
    wildcard[2..2 + rest.len()].copy_from_slice(rest);
    Name::from_slice(&wildcard[..2 + rest.len()])
        .ok()
        .and_then(|wildcard| zone.named(wildcard))
        .map_or(Found::Missing, Found::Node)
}

/// The zone whose apex is this name, in whatever case, and its number.
pub fn apex<'a>(zones: &'a Zones, name: &[u8]) -> Option<(usize, &'a Arc<Zone>)> {
    let name = LowerName::of(&[name])?;
    let (number, zone) = zones.find(name.name())?;
    (zone.apex.as_slice() == name.name().as_slice()).then_some((number, zone))
}

/// The zone that answers for a name and type, and its number: DS at an apex is the parent's, where we have it.
pub fn zone<'a>(zones: &'a Zones, name: &Name<[u8]>, qtype: Rtype) -> Option<(usize, &'a Zone)> {
    let (number, zone) = zones.find(name)?;
    if qtype == Rtype::DS
        && name.as_slice() == zone.apex.as_slice()
        && !name.is_root()
        && let above = name.slice_from(1 + usize::from(name.as_slice()[0]))
        && let Some((number, parent)) = zones.find(above)
    {
        return Some((number, parent));
    }
    Some((number, zone))
}

/// A name in lower case, in place: nothing is allocated for a query.
#[derive(Clone, PartialEq)]
pub struct LowerName {
    octets: [u8; Name::MAX_LEN],
    len: u8,
}

impl LowerName {
    /// The name that these make together. `None`: it would be too long, or is none.
    pub fn of(parts: &[&[u8]]) -> Option<Self> {
        let mut octets = [0; Name::MAX_LEN];
        let mut len = 0;
        for part in parts {
            octets.get_mut(len..len + part.len())?.copy_from_slice(part);
            len += part.len();
        }
        // Length octets are below 64 and no letters.
        octets[..len].make_ascii_lowercase();
        Name::from_slice(&octets[..len]).ok()?;
        Some(Self {
            octets,
            len: len as u8,
        })
    }

    /// The name.
    pub fn name(&self) -> &Name<[u8]> {
        let name = Name::from_slice(&self.octets[..self.len.into()]);
        name.unwrap_or(Name::root_slice())
    }
}

//! Finds what a zone has for a name (RFC 1034 section 4.3.2, RFC 4592, RFC 6672).

use domain::base::{Name as DomainName, Rtype};

use crate::zone::{Name, Node, RrSet, Zone, Zones};

/// What a zone has for a name.
#[derive(Debug)]
pub enum Found<'a> {
    /// What stands at the name, or at the wildcard that it matches.
    Node(&'a Node),
    /// The name is at or below a zone cut.
    Cut {
        /// Where the cut is.
        owner: &'a Name,
        /// The name servers below it.
        ns: &'a RrSet,
    },
    /// The name is below one that is redirected whole.
    Dname {
        /// Where the redirection is.
        owner: &'a Name,
        /// The DNAME record.
        dname: &'a RrSet,
    },
    /// The name does not exist.
    Missing,
}

/// Looks a name up in the zone that it is in.
pub fn lookup<'a>(zone: &'a Zone, name: &Name, qtype: Rtype) -> Found<'a> {
    let wire = name.as_slice();
    let mut labels = Vec::new();
    let mut at = 0;
    while wire[at] != 0 {
        labels.push(at);
        at += 1 + usize::from(wire[at]);
    }
    labels.push(at);
    let apex_at = wire.len() - zone.apex.len();
    let mut encloser = apex_at;
    for at in labels.into_iter().rev().filter(|&at| at <= apex_at) {
        let Some((owner, node)) = zone.nodes.get_key_value(name.slice_from(at)) else {
            break;
        };
        let whole = at == 0;
        if at != apex_at
            && let Some(ns) = node.rrsets.get(&Rtype::NS)
            // The parent has the DS (RFC 4035 section 3.1.4.1).
            && !(whole && qtype == Rtype::DS)
        {
            return Found::Cut { owner, ns };
        }
        if whole {
            return Found::Node(node);
        }
        if let Some(dname) = node.rrsets.get(&Rtype::DNAME) {
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
    DomainName::from_slice(&wildcard[..2 + rest.len()])
        .ok()
        .and_then(|wildcard| zone.nodes.get(wildcard))
        .map_or(Found::Missing, Found::Node)
}

/// The zone that answers for a name and type: DS at an apex is the parent's, where we have it.
pub fn zone<'a>(zones: &'a Zones, name: &Name, qtype: Rtype) -> Option<&'a Zone> {
    let (_, zone) = zones.find(name)?;
    if qtype == Rtype::DS
        && *name == zone.apex
        && let Some(parent) = name.parent()
        && let Some((_, parent)) = zones.find(&parent)
    {
        return Some(parent);
    }
    Some(zone)
}

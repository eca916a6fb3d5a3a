//! Puts the configuration's steered names on the zones.
//!
//! Mistakes here are mistakes of the configuration: errors name its file and line.

use std::sync::Arc;

use domain::base::Rtype;

use super::{RrSet, Zone, Zones};
use crate::base::complaint::Error;
use crate::base::name::ancestors;
use crate::config::{Config, Steer, ZoneFile};

/// Marks every steered name, of one zone or of all. There is nothing to mark in a zone without data.
pub(super) fn steer(config: &Config, zones: &mut Zones, only: Option<usize>) -> Result<(), Error> {
    for steer in &config.steers {
        let generated = config.pools[steer.pool].of.is_some();
        let error = |message: String| {
            Err(Error {
                file: config.path.clone(),
                line: Some(steer.line),
                column: None,
                key: Some(
                    if generated {
                        "pool.names"
                    } else {
                        "steer.name"
                    }
                    .to_owned(),
                ),
                message,
            })
        };
        let found = zones.find(steer.name.for_slice());
        // Members of catalogs come and go, and the file must be good with them and without.
        let Some((at, zone)) = found.filter(|&(at, _)| {
            let is_of_file = |zone: &ZoneFile| zone.member.is_none();
            is_of_file(&config.zones[at]) || {
                let mut of_file = config.zones.iter().filter(|zone| is_of_file(zone));
                of_file.any(|zone| steer.name.ends_with(&zone.name))
            }
        }) else {
            let message = format!(
                "{} is outside every zone; add a [[zone]] that holds it",
                steer.name
            );
            return error(message);
        };
        if zones.is_catalog(at) {
            let message = format!(
                "{} is in the catalog {}, which the public is not answered from; steer another name",
                steer.name, zone.apex
            );
            return error(message);
        }
        if zone.is_empty() || only.is_some_and(|only| only != at) {
            continue;
        }
        let is_alias = config.pools[steer.pool].is_alias(config);
        if let Err(message) = may_stand(zone, steer).and_then(|()| match is_alias {
            true => may_be_alias(zone, steer),
            false => Ok(()),
        }) {
            return error(message);
        }
        let node = zone.node(steer.name.for_slice());
        if node.is_some_and(|node| node.steer() == Some(steer.pool)) {
            continue;
        }
        // Nobody else has it yet, but for one that is in force elsewhere.
        let zone = Arc::make_mut(&mut zones.zones[at]);
        if let Err(too_large) = zone.set_pool(steer.name.for_slice(), steer.pool) {
            return error(too_large.to_string());
        }
    }
    Ok(())
}

/// Whether a name may have a CNAME alone, or why not (RFC 1034 section 3.6.2).
fn may_be_alias(zone: &Zone, steer: &Steer) -> Result<(), String> {
    let name = &steer.name;
    if *name == zone.apex {
        return Err(format!(
            "{name} is the apex of its zone, which cannot be an alias; steer it to a pool of mirrors \
             with addresses"
        ));
    }
    let rrset = zone.node(name.for_slice());
    match rrset.and_then(|node| node.rrsets().next()) {
        Some(RrSet { rtype, .. }) => Err(format!(
            "{name} has {rtype} records in the zone file, and its pool makes it an alias, which \
             nothing may stand beside; remove one"
        )),
        None => Ok(()),
    }
}

/// Whether a steered name may stand in its zone, or why not.
fn may_stand(zone: &Zone, steer: &Steer) -> Result<(), String> {
    let name = &steer.name;
    let apex = &zone.apex;
    if zone.is_signed() {
        return Err(format!(
            "{apex} is signed (it has a DNSKEY), and what a pool answers for {name} would not be: resolvers that \
             validate take it for forged; steer names of an unsigned zone, if need be one of its own for {name}"
        ));
    }
    let has = |name: &domain::base::Name<[u8]>, rtype| {
        zone.node(name).is_some_and(|node| node.has(rtype))
    };
    for above in ancestors(name.for_slice(), apex) {
        if above != apex.for_slice() && has(above, Rtype::NS) {
            return Err(format!(
                "{name} is below the zone cut {above}; steer it where {above} is served"
            ));
        }
        if has(above, Rtype::DNAME) {
            return Err(format!("{name} is below the DNAME at {above}; remove one"));
        }
    }
    if zone.is_cut(name.for_slice()) {
        return Err(format!(
            "{name} is a zone cut of {apex}; remove its NS records, or steer it where it is served"
        ));
    }
    for (rtype, why) in [
        (Rtype::CNAME, "nothing may stand beside a CNAME"),
        (Rtype::A, "its addresses come from the pool"),
        (Rtype::AAAA, "its addresses come from the pool"),
    ] {
        if has(name.for_slice(), rtype) {
            return Err(format!(
                "{name} has {rtype} records in the zone file of {apex}; {why}, remove one"
            ));
        }
    }
    Ok(())
}

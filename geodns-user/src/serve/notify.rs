//! Answers a NOTIFY (RFC 1996): a primary says that a zone has changed.

use domain::base::Rtype;
use geodns_common::wire::rcode;

use super::lookup::apex;
use super::message::Outcome;
use super::notices::Notice;
use super::query::{Question, first_soa};
use super::request::Verified;
use super::seldom::REFUSALS;
use super::write::{Outline, code};

/// Answers a NOTIFY, and passes it on if it comes from a primary of the zone.
pub fn answer(verified: &Verified<'_>, question: &Question<'_>, response: &mut Vec<u8>) -> Outcome {
    let Verified { request, query, .. } = verified;
    let mut outline = Outline {
        rcode: rcode::NOERROR,
        authoritative: true,
        ..Outline::default()
    };
    let zones = request.world.zones.load();
    let Some((number, zone)) = apex(&zones, question.name) else {
        outline.rcode = rcode::NOTAUTH;
        outline.authoritative = false;
        return code(query, outline, response);
    };
    if question.qtype != Rtype::SOA.to_int() {
        outline.rcode = rcode::NOTIMP;
        return code(query, outline, response);
    }
    let config = &request.world.inputs.config;
    let primaries = config
        .zones
        .get(number)
        .map_or(&[][..], |zone| &zone.primaries);
    let is_known = primaries.iter().any(|primary| {
        let signed = primary
            .key
            .as_ref()
            .is_none_or(|key| verified.key() == Some(&key.name));
        primary.address == request.client.to_canonical() && signed
    });
    if !is_known {
        if let Some(omitted) = REFUSALS.turn() {
            tracing::info!(
                omitted,
                zone = %zone.apex,
                client = %request.client,
                "{}: a NOTIFY from {} refused, which is none of its primaries, or did not sign it with their key",
                zone.apex,
                request.client
            );
        }
        outline.rcode = rcode::REFUSED;
        return code(query, outline, response);
    }
    request.notices.tell(Notice {
        apex: zone.apex.clone(),
        from: request.client.to_canonical(),
        serial: first_soa(request.message).map(|soa| soa.serial),
    });
    code(query, outline, response)
}

//! Decides who gets a zone by AXFR (RFC 5936) or IXFR (RFC 1995), and whether all of it or what has changed.

use geodns_common::wire::{TYPE_IXFR, rcode};

use super::lookup::apex;
use super::message::{Outcome, Transport};
use super::query::{Question, first_soa};
use super::request::{Unsigned, Verified};
use super::seldom::REFUSALS;
use super::stream::{Script, Transfer};
use super::write::{Outline, code};

/// Answers a query for a zone.
pub fn answer(
    verified: &Verified<'_>,
    question: &Question<'_>,
    response: &mut Vec<u8>,
) -> Unsigned {
    let Verified { request, query, .. } = verified;
    let no = |rcode: u16, response: &mut Vec<u8>| {
        let outline = Outline {
            rcode,
            ..Outline::default()
        };
        Unsigned::Message(code(query, outline, response))
    };
    let zones = request.world.zones.load();
    let Some((number, zone)) = apex(&zones, question.name) else {
        return no(rcode::NOTAUTH, response);
    };
    let client = request.client.to_canonical();
    let incremental = question.qtype == TYPE_IXFR;
    let kind = if incremental { "IXFR" } else { "AXFR" };
    if request.transport == Transport::Udp && !incremental {
        // AXFR is for TCP alone (RFC 5936 section 4.2).
        return no(rcode::NOTIMP, response);
    }
    let config = &request.world.inputs.config;
    let from = config.zones.get(number);
    if !from.is_some_and(|zone| zone.is_given_to(client, verified.key())) {
        if let Some(omitted) = REFUSALS.turn() {
            tracing::info!(omitted, zone = %zone.apex, %client, "{}: {kind} refused to {client}", zone.apex);
        }
        return no(rcode::REFUSED, response);
    }
    let Some(offer) = zones.offer(number) else {
        return no(rcode::SERVFAIL, response);
    };
    let script = if incremental {
        match first_soa(request.message) {
            Some(soa) => Script::since(offer, soa.serial),
            None => return no(rcode::FORMERR, response),
        }
    } else {
        Script::whole(offer)
    };
    let transfer = Transfer::new(query, question, &zone.apex, script);
    let outcome = Outcome::of(rcode::NOERROR);
    if request.transport == Transport::Udp {
        // All of it in one datagram, or the SOA record alone, for the client to come back over TCP (RFC 1995
        // section 4).
        let soa = transfer.with(Script::soa(&offer.zone));
        let limit = verified.room(false);
        return match transfer.in_one(limit).or_else(|| soa.in_one(limit)) {
            Some(message) => {
                *response = message;
                Unsigned::Message(outcome)
            }
            None => Unsigned::Nothing,
        };
    }
    tracing::info!(
        zone = %zone.apex,
        serial = offer.zone.serial(),
        %client,
        "{}: {kind} of serial {} to {client}",
        zone.apex,
        offer.zone.serial()
    );
    Unsigned::Transfer(outcome, Box::new(transfer))
}

//! Zones given away: AXFR (RFC 5936) and IXFR (RFC 1995).
//!
//! A transfer is of one version of the zone, however long it takes and whatever changes meanwhile. Its
//! messages are made one by one, as the client takes them.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;

use domain::base::iana::Class;
use domain::base::message_builder::AnswerBuilder;
use domain::base::serial::Serial;
use domain::base::{MessageBuilder, Name, Rtype};
use futures_util::StreamExt;
use futures_util::stream;

use super::Transport;
use super::composer::{Compressed, Data};
use super::handler::{Answer, Request, code};
use super::query::{Query, Question, first_soa};
use super::respond::{LowerName, Outcome, rcode, room};
use super::seldom::REFUSALS;
use super::signed::Signature;
use super::write::{OPT_FIXED, Outline, PAYLOAD};
use crate::config::Allowed;
use crate::world::World;
use crate::zone::{Delta, Offer, Record, Run, Zone};

/// AXFR.
pub const AXFR: u16 = 252;
/// IXFR.
pub const IXFR: u16 = 251;

/// Octets of a message, if no record of it is longer: as far as compression reaches.
const MESSAGE: usize = 16 * 1024;

/// Answers a query for a zone.
pub fn answer(
    request: &Request<'_>,
    query: &Query<'_>,
    question: &Question<'_>,
    signature: Option<Signature>,
    response: &mut Vec<u8>,
) -> Answer {
    let no = |rcode: u16, response: &mut Vec<u8>| {
        let outline = Outline {
            rcode,
            ..Outline::default()
        };
        code(query, outline, response)
    };
    let zones = request.world.zones.load();
    let name = LowerName::of(&[question.name]);
    let zone = name.as_ref().and_then(|name| {
        let (number, zone) = zones.find(name.name())?;
        (zone.apex.as_slice() == name.name().as_slice()).then_some((number, zone))
    });
    let Some((number, zone)) = zone else {
        return no(rcode::NOTAUTH, response);
    };
    let client = request.client.to_canonical();
    let may = may_have(request.world, number, client, signature.as_ref());
    let incremental = question.qtype == IXFR;
    let kind = if incremental { "IXFR" } else { "AXFR" };
    if request.transport == Transport::Udp && !incremental {
        // AXFR is for TCP alone (RFC 5936 section 4.2).
        return no(rcode::NOTIMP, response);
    }
    if !may {
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
    let messages = Messages {
        id: query.id,
        rd: query.rd,
        name: crate::base::name::Name::from_octets(question.name.to_vec().into())
            .unwrap_or_else(|_| zone.apex.clone()),
        qtype: Rtype::from_int(question.qtype),
        parts: script.0,
        opt: query.edns.as_ref().map(|edns| edns.dnssec_ok),
        signature,
    };
    if request.transport == Transport::Udp {
        let limit = room(query, Transport::Udp, false);
        return datagram(messages, offer, limit, response);
    }
    tracing::info!(
        zone = %zone.apex,
        serial = offer.zone.serial(),
        %client,
        "{}: {kind} of serial {} to {client}",
        zone.apex,
        offer.zone.serial()
    );
    let messages = stream::iter(messages.map(Ok)).boxed();
    Answer::Stream(Outcome::of(rcode::NOERROR), messages)
}

/// Whether a zone is given to this client, by its address or what it has signed with.
pub fn may_have(
    world: &World,
    number: usize,
    client: IpAddr,
    signature: Option<&Signature>,
) -> bool {
    let zone = world.inputs.config.zones.get(number);
    let allowed = zone.map_or(&[][..], |zone| &zone.allow_transfer);
    let client = client.to_canonical();
    allowed.iter().any(|allowed| match allowed {
        Allowed::From(prefix) => prefix.contains(&client),
        Allowed::Signed(key) => signature.is_some_and(|by| by.key() == key),
    })
}

/// Answers in one datagram: all of it, or the SOA record alone, for the client to come back over TCP (RFC
/// 1995 section 4).
fn datagram(mut messages: Messages, offer: &Offer, limit: usize, response: &mut Vec<u8>) -> Answer {
    let mut alone = Messages {
        parts: [Part::soa(&offer.zone)].into(),
        signature: None,
        ..messages.clone()
    };
    let signature = messages.signature.take();
    let limit = limit - signature.map_or(0, |signature| signature.len());
    let whole = messages
        .message(limit)
        .filter(|_| messages.parts.is_empty());
    match whole.or_else(|| alone.message(limit)) {
        Some(message) => *response = message,
        None => return Answer::Nothing,
    }
    Answer::Message(Outcome::of(rcode::NOERROR))
}

/// What a transfer consists of, in order.
struct Script(VecDeque<Part>);

impl Script {
    /// All of a zone.
    fn whole(offer: &Offer) -> Self {
        let zone = Arc::clone(&offer.zone);
        let records = Part::Zone {
            zone,
            at: 0,
            done: 0,
        };
        Self([Part::soa(&offer.zone), records, Part::soa(&offer.zone)].into())
    }

    /// What has changed since a serial; all of it, if that is not known.
    fn since(offer: &Offer, serial: u32) -> Self {
        let now = Serial(offer.zone.serial());
        if Serial(serial) >= now {
            // Nothing newer.
            return Self([Part::soa(&offer.zone)].into());
        }
        let Some(deltas) = offer.since(serial) else {
            return Self::whole(offer);
        };
        let mut parts = VecDeque::from([Part::soa(&offer.zone)]);
        for delta in deltas {
            let part = |run: fn(&Delta) -> &Run| Part::Run {
                delta: Arc::clone(&delta),
                run,
                at: 0,
            };
            parts.extend([
                part(|delta| &delta.old_soa),
                part(|delta| &delta.removed),
                part(|delta| &delta.new_soa),
                part(|delta| &delta.added),
            ]);
        }
        parts.push_back(Part::soa(&offer.zone));
        Self(parts)
    }
}

/// A part of a transfer, and how far it is sent.
#[derive(Clone)]
enum Part {
    /// The SOA record.
    Soa(Arc<Zone>),
    /// The zone but for it.
    Zone {
        zone: Arc<Zone>,
        /// Where the next node is.
        at: usize,
        /// Records of it that are sent.
        done: usize,
    },
    /// Records of a delta.
    Run {
        delta: Arc<Delta>,
        run: fn(&Delta) -> &Run,
        /// Where the next record is.
        at: usize,
    },
}

/// A message in the making.
type Answers = AnswerBuilder<Compressed>;

impl Part {
    fn soa(zone: &Arc<Zone>) -> Self {
        Self::Soa(Arc::clone(zone))
    }

    /// Writes as much of the part as fits. `true`: all of it.
    fn write(&mut self, message: &mut Answers) -> bool {
        match self {
            Self::Soa(zone) => {
                let mut soa = zone.soa().records();
                soa.all(|soa| put(message, zone.apex.for_slice(), soa))
            }
            Self::Zone { zone, at, done } => {
                let mut next = *at;
                while let Some(node) = zone.walk(&mut next) {
                    let records = node.records().filter(|one| one.rtype != Rtype::SOA);
                    for record in records.skip(*done) {
                        if !put(message, node.name(), record) {
                            return false;
                        }
                        *done += 1;
                    }
                    (*at, *done) = (next, 0);
                }
                true
            }
            Self::Run { delta, run, at } => {
                let run = run(delta);
                let mut next = *at;
                while let Some((owner, record)) = run.read(&mut next) {
                    if !put(message, owner, record) {
                        return false;
                    }
                    *at = next;
                }
                true
            }
        }
    }
}

/// Writes a record. `false`: it does not fit.
fn put(message: &mut Answers, owner: &Name<[u8]>, record: Record<'_>) -> bool {
    // RDATA is no longer than its length can say.
    if record.rdata.len() > usize::from(u16::MAX) {
        return true;
    }
    let ttl = record.ttl;
    message.push((owner, Class::IN, ttl, Data(record))).is_ok()
}

/// The messages of a transfer.
#[derive(Clone)]
struct Messages {
    id: u16,
    rd: bool,
    /// The zone's name, as it came.
    name: crate::base::name::Name,
    qtype: Rtype,
    parts: VecDeque<Part>,
    /// DO of the OPT that the first message has, if the query has one (RFC 5936 section 2.2.5).
    opt: Option<bool>,
    signature: Option<Signature>,
}

impl Messages {
    /// The next message, with room for its OPT and signature. `None`: not a single record fits.
    fn message(&mut self, limit: usize) -> Option<Vec<u8>> {
        let Ok(mut message) = MessageBuilder::from_target(Compressed::new());
        let header = message.header_mut();
        header.set_id(self.id);
        header.set_qr(true);
        header.set_aa(true);
        header.set_rd(self.rd);
        message.set_push_limit(limit.saturating_sub(self.opt.map_or(0, |_| OPT_FIXED)));
        let mut message = message.question();
        message.push((&self.name, self.qtype)).ok()?;
        let mut message = message.answer();
        while let Some(part) = self.parts.front_mut()
            && part.write(&mut message)
        {
            self.parts.pop_front();
        }
        if message.counts().ancount() == 0 {
            return None;
        }
        let mut message = message.additional();
        message.clear_push_limit();
        if let Some(dnssec_ok) = self.opt.take() {
            let put = message.opt(|opt| {
                opt.set_udp_payload_size(PAYLOAD);
                opt.set_dnssec_ok(dnssec_ok);
                Ok(())
            });
            put.ok()?;
        }
        if let Some(signature) = &mut self.signature {
            signature.sign(&mut message).ok()?;
        }
        Some(message.finish().into_octets())
    }
}

impl Iterator for Messages {
    type Item = Vec<u8>;

    fn next(&mut self) -> Option<Vec<u8>> {
        if self.parts.is_empty() {
            return None;
        }
        let signature = self.signature.as_ref().map_or(0, Signature::len);
        let most = usize::from(u16::MAX) - signature;
        // A record that is longer has a message of its own.
        self.message(MESSAGE).or_else(|| self.message(most))
    }
}

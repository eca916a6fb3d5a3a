//! The messages of a zone transfer (AXFR, RFC 5936; IXFR, RFC 1995).
//!
//! A transfer is of one version of the zone, however long it takes and whatever changes meanwhile. Its
//! messages are made one by one, as the client takes them.

use std::collections::VecDeque;
use std::sync::Arc;

use domain::base::iana::Class;
use domain::base::message_builder::AnswerBuilder;
use domain::base::serial::Serial;
use domain::base::{MessageBuilder, Name, Rtype};
use geodns_common::wire::{MAX_UDP_SIZE, OPT_LEN};

use super::composer::{Compressed, Data};
use super::query::{Query, Question};
use super::tsig::Signer;
use crate::base::name::Name as Apex;
use crate::zone::{Delta, Offer, Record, Run, Zone};

/// Octets of a message, if no record of it is longer: as far as compression reaches.
const MESSAGE: usize = 16 * 1024;

/// The parts of a transfer, in order.
pub struct Script(VecDeque<Part>);

impl Script {
    /// The SOA record alone.
    pub fn soa(zone: &Arc<Zone>) -> Self {
        Self([Part::soa(zone)].into())
    }

    /// All of a zone.
    pub fn whole(offer: &Offer) -> Self {
        let zone = Arc::clone(&offer.zone);
        let records = Part::Zone {
            zone,
            at: 0,
            done: 0,
        };
        Self([Part::soa(&offer.zone), records, Part::soa(&offer.zone)].into())
    }

    /// The changes of a zone since a serial; all of it, if that serial is not known.
    pub fn since(offer: &Offer, serial: u32) -> Self {
        let now = Serial(offer.zone.serial());
        if Serial(serial) >= now {
            // Nothing newer.
            return Self::soa(&offer.zone);
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

/// The messages of a transfer, made one by one.
#[derive(Clone)]
pub struct Transfer {
    id: u16,
    rd: bool,
    /// The zone's name, as it came.
    name: Apex,
    qtype: Rtype,
    parts: VecDeque<Part>,
    /// DO of the OPT that the first message has, if the query has one (RFC 5936 section 2.2.5).
    opt: Option<bool>,
    signer: Option<Box<Signer>>,
}

impl Transfer {
    /// The answer to a query for a zone; not signed.
    pub fn new(query: &Query<'_>, question: &Question<'_>, apex: &Apex, script: Script) -> Self {
        let name = Apex::from_octets(question.name.to_vec().into());
        Self {
            id: query.id,
            rd: query.rd,
            name: name.unwrap_or_else(|_| apex.clone()),
            qtype: Rtype::from_int(question.qtype),
            parts: script.0,
            opt: query.edns.as_ref().map(|edns| edns.dnssec_ok),
            signer: None,
        }
    }

    /// The same with each message signed.
    pub fn signed_by(self, signer: Option<Box<Signer>>) -> Self {
        Self { signer, ..self }
    }

    /// The same with other parts.
    pub fn with(&self, script: Script) -> Self {
        Self {
            parts: script.0,
            ..self.clone()
        }
    }

    /// All of it in one message of this size. `None`: it does not fit.
    pub fn in_one(mut self, limit: usize) -> Option<Vec<u8>> {
        let message = self.message(limit)?;
        self.parts.is_empty().then_some(message)
    }

    /// The next message, with room for its OPT and signature. `None`: not a single record fits.
    fn message(&mut self, limit: usize) -> Option<Vec<u8>> {
        let Ok(mut message) = MessageBuilder::from_target(Compressed::new());
        let header = message.header_mut();
        header.set_id(self.id);
        header.set_qr(true);
        header.set_aa(true);
        header.set_rd(self.rd);
        message.set_push_limit(limit.saturating_sub(self.opt.map_or(0, |_| OPT_LEN as usize)));
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
                opt.set_udp_payload_size(MAX_UDP_SIZE as u16);
                opt.set_dnssec_ok(dnssec_ok);
                Ok(())
            });
            put.ok()?;
        }
        if let Some(signer) = &mut self.signer {
            signer.sign(&mut message).ok()?;
        }
        Some(message.finish().into_octets())
    }
}

impl Iterator for Transfer {
    type Item = Vec<u8>;

    fn next(&mut self) -> Option<Vec<u8>> {
        if self.parts.is_empty() {
            return None;
        }
        let signature = self.signer.as_ref().map_or(0, |signer| signer.len());
        let most = usize::from(u16::MAX) - signature;
        // A record that is longer has a message of its own.
        self.message(MESSAGE).or_else(|| self.message(most))
    }
}

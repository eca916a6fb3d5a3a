//! NOTIFY (RFC 1996): a primary says that a zone has changed.

use std::net::IpAddr;
use std::sync::Arc;

use domain::base::Rtype;
use tokio::sync::mpsc;

use super::handler::{Answer, Request, code};
use super::query::{Query, Question, first_soa};
use super::respond::{LowerName, rcode};
use super::seldom::REFUSALS;
use super::signed::Signature;
use super::stats::{Counter, Stats};
use super::write::Outline;
use crate::base::name::Name;

/// NOTIFY.
pub const OPCODE: u8 = 4;
/// Notices that nobody has looked at yet, at the most. More are dropped: they come again.
const WAITING: usize = 256;

/// A zone has changed at its primary, as that says.
#[derive(Clone, Debug)]
pub struct Notice {
    /// Apex.
    pub apex: Name,
    /// Who says so.
    pub from: IpAddr,
    /// The serial that it has now, if it says so.
    pub serial: Option<u32>,
}

/// Where it is told that a zone has changed elsewhere. Nobody listens to the default.
#[derive(Debug, Default)]
pub struct Notices(Option<(mpsc::Sender<Notice>, Arc<Stats>)>);

impl Notices {
    /// Those that are heard of here, and counted there.
    pub(super) fn new(stats: Arc<Stats>) -> (Self, mpsc::Receiver<Notice>) {
        let (tell, heard) = mpsc::channel(WAITING);
        (Self(Some((tell, stats))), heard)
    }

    fn tell(&self, notice: Notice) {
        let Some((tell, stats)) = &self.0 else { return };
        stats.add(Counter::NotifyHeard);
        if tell.try_send(notice).is_err() {
            stats.add(Counter::NotifyMerged);
        }
    }
}

/// Answers a NOTIFY, and passes it on if it comes from a primary of the zone.
pub fn hear(
    request: &Request<'_>,
    query: &Query<'_>,
    question: &Question<'_>,
    signature: Option<&Signature>,
    response: &mut Vec<u8>,
) -> Answer {
    let mut outline = Outline {
        rcode: rcode::NOERROR,
        authoritative: true,
        ..Outline::default()
    };
    let zones = request.world.zones.load();
    let name = LowerName::of(&[question.name]);
    let zone = name.as_ref().and_then(|name| {
        let (number, zone) = zones.find(name.name())?;
        (zone.apex.as_slice() == name.name().as_slice()).then_some((number, zone))
    });
    let Some((number, zone)) = zone else {
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
            .is_none_or(|key| signature.is_some_and(|signature| *signature.key() == key.name));
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

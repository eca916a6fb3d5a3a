//! A decision of the fast path, over the kernel's maps or over the plan; and a response for people and programs.

use std::net::IpAddr;

use domain::base::iana::OptRcode;
use domain::base::opt::ClientSubnet;
use domain::base::{Message, ParsedName, Rtype};
use domain::rdata::AllRecordData;
use geodns_common::respond;
use geodns_common::scratch::Scratch;
use geodns_common::tables::Tables;
use geodns_common::verdict::Verdict;

use crate::control::explain::Response;
use crate::control::problem::Failure;

/// A decision of the fast path.
pub struct Decided {
    pub verdict: Verdict,
    pub response: Option<Vec<u8>>,
}

impl Decided {
    /// The decision over some tables.
    pub fn of(tables: &impl Tables, message: &[u8], client: IpAddr) -> Self {
        let mut scratch = Box::new(Scratch::new());
        let verdict = match scratch.set_query(message, client) {
            true => respond::respond(&mut scratch, tables),
            false => Verdict::MessageSize,
        };
        Self {
            verdict,
            response: verdict.is_answer().then(|| scratch.message().to_vec()),
        }
    }

    /// The difference from the decision over the plan that the tables are a copy of, or from the slow path's answer.
    pub fn difference(&self, copied: &Self, ought: &[u8]) -> Option<String> {
        if self.verdict != copied.verdict {
            return Some(format!(
                "the kernel decides {}, its plan {}",
                self.verdict.name(),
                copied.verdict.name()
            ));
        }
        let octets = self.response.as_deref()?;
        if octets == ought {
            return None;
        }
        let same = octets.iter().zip(ought).take_while(|(a, b)| a == b);
        Some(format!(
            "from octet {} on: {} octets of the kernel, {} of the slow path",
            same.count(),
            octets.len(),
            ought.len()
        ))
    }
}

/// A response, for people and programs.
pub fn response(octets: &[u8]) -> Result<Response, Failure> {
    let not_dns = |error: &dyn std::error::Error| {
        Failure::Internal(format!("a response that cannot be read: {error}"))
    };
    let message = Message::from_octets(octets).map_err(|error| not_dns(&error))?;
    let answer = message.answer().map_err(|error| not_dns(&error))?;
    let mut records = Vec::new();
    let mut ttl = None;
    for record in answer.limit_to::<AllRecordData<_, ParsedName<_>>>() {
        let record = record.map_err(|error| not_dns(&error))?;
        ttl = ttl.or(Some(record.ttl().as_secs()));
        records.push(match record.rtype() {
            Rtype::A | Rtype::AAAA => record.data().to_string(),
            rtype => format!("{rtype} {}", record.data()),
        });
    }
    let opt = message.opt();
    let subnet = opt.and_then(|opt| opt.opt().first::<ClientSubnet>());
    let rcode: OptRcode = message.opt_rcode();
    Ok(Response {
        rcode: rcode.to_string(),
        records,
        ttl,
        scope: subnet.map(|subnet| subnet.scope_prefix_len()),
        truncated: message.header().tc(),
        octets: octets.iter().map(|octet| format!("{octet:02x}")).collect(),
    })
}

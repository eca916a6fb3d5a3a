//! Answers one message in three steps: verify its signature, answer, sign. Every transport and every kind of message
//! goes through them.

use futures_util::{StreamExt, stream};
use geodns_common::wire::{CLASS_IN, TYPE_AXFR, TYPE_IXFR, opcode};

use super::message::Outcome;
use super::query::Query;
use super::request::{Answer, Request, Unsigned, Verified};
use super::tsig::{Checked, NoRoom, Signer};
use super::{notify, respond, transfer, tsig};

/// Answers from the zones and the plan; gives zones away, and hears that others have changed.
pub fn authority(request: &Request<'_>, response: &mut Vec<u8>) -> Answer {
    let mut stripped = Vec::new();
    let verified = match verify(request, &mut stripped, response) {
        Ok(verified) => verified,
        Err(refusal) => return refusal,
    };
    let unsigned = answer(&verified, response);
    sign(verified.signer, unsigned, response)
}

/// Reads the message and verifies its signature, if it has one (RFC 8945). `stripped` takes the message without it.
/// `Err`: the answer to a message that cannot be read, or whose signature is not good.
fn verify<'a>(
    request: &Request<'a>,
    stripped: &'a mut Vec<u8>,
    response: &mut Vec<u8>,
) -> Result<Verified<'a>, Answer> {
    let read = |message: &'a [u8], signer: Option<Box<Signer>>| {
        let mut query = Query::parse(message, request.transport)?;
        query.spare = signer.as_ref().map_or(0, |signer| signer.len());
        Some(Verified {
            request: Request {
                message,
                ..*request
            },
            query,
            signer,
        })
    };
    let plain = read(request.message, None).ok_or(Answer::Nothing)?;
    let Some(len) = plain.query.signed else {
        return Ok(plain);
    };
    let keys = &request.world.inputs.config.keys;
    match tsig::check(keys, request.message, len, request.client) {
        Checked::Unsigned => Ok(plain),
        Checked::Good(signer, message) => {
            *stripped = message;
            read(stripped, Some(signer)).ok_or(Answer::Nothing)
        }
        Checked::Bad(refusal) => {
            *response = refusal;
            let rcode = response.get(3).map_or(0, |flags| flags & 15);
            Err(Answer::Message(Outcome::of(rcode.into())))
        }
        Checked::Unanswerable => Err(Answer::Nothing),
    }
}

/// Answers a verified request. The response is not signed yet; there is room for that.
fn answer(verified: &Verified<'_>, response: &mut Vec<u8>) -> Unsigned {
    let query = &verified.query;
    let question = query.question.as_ref().filter(|question| {
        !query.malformed
            && question.qclass == CLASS_IN
            && query.edns.as_ref().is_none_or(|e| e.version == 0)
    });
    match (query.opcode, question) {
        (opcode::NOTIFY, Some(question)) => {
            Unsigned::Message(notify::answer(verified, question, response))
        }
        (opcode::QUERY, Some(question)) if matches!(question.qtype, TYPE_AXFR | TYPE_IXFR) => {
            transfer::answer(verified, question, response)
        }
        _ => Unsigned::Message(respond::answer(verified, response)),
    }
}

/// Signs the answer with the key that signed the query, if there is one. The messages of a transfer are signed as
/// they are made.
fn sign(signer: Option<Box<Signer>>, unsigned: Unsigned, response: &mut Vec<u8>) -> Answer {
    match unsigned {
        Unsigned::Nothing => Answer::Nothing,
        Unsigned::Message(outcome) => match signer.map(|mut signer| signer.sign_whole(response)) {
            Some(Err(NoRoom)) => Answer::Nothing,
            Some(Ok(())) | None => Answer::Message(outcome),
        },
        Unsigned::Transfer(outcome, transfer) => {
            let messages = transfer.signed_by(signer).map(Ok);
            Answer::Stream(outcome, stream::iter(messages).boxed())
        }
    }
}

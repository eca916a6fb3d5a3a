//! Queries with a signature (RFC 8945): verified, and their answers signed.

use std::convert::Infallible;

use domain::base::iana::TsigRcode;
use domain::base::message_builder::AdditionalBuilder;
use domain::base::wire::Composer;
use domain::base::{Message, MessageBuilder};
use domain::dep::octseq::{OctetsBuilder, Truncate};
use domain::rdata::tsig::Time48;
use domain::tsig::{Key, ServerError, ServerSequence};
use std::sync::Arc;

use super::handler::{self, Answer, Request};
use super::query::Query;
use super::respond::Outcome;
use crate::base::name::Name;
use crate::config::Config;

/// NOTAUTH.
const NOTAUTH: u16 = 9;
/// BADSIG, an error in a TSIG record.
const BADSIG: [u8; 2] = 16u16.to_be_bytes();

/// A good signature of a query, and what its answers are signed with, one after the other.
#[derive(Clone)]
pub struct Signature {
    sequence: ServerSequence<Arc<Key>>,
    name: Name,
}

impl Signature {
    /// Name of the key.
    pub fn key(&self) -> &Name {
        &self.name
    }

    /// Octets that it adds to a message.
    pub fn len(&self) -> usize {
        self.sequence.key().compose_len().into()
    }

    /// Signs a message that is being built, for whose signature there is room.
    pub fn sign<T: Composer>(&mut self, message: &mut AdditionalBuilder<T>) -> Result<(), NoRoom> {
        self.sequence
            .answer(message, Time48::now())
            .map_err(|_| NoRoom)
    }

    fn sign_whole(&mut self, message: &mut Vec<u8>) -> Result<(), NoRoom> {
        let whole = Whole {
            octets: std::mem::take(message),
            begun: false,
        };
        let Ok(builder) = MessageBuilder::from_target(whole);
        let mut builder = builder.additional();
        let signed = self.sign(&mut builder);
        *message = builder.finish().octets;
        signed
    }
}

/// A signature does not fit.
#[derive(Debug)]
pub struct NoRoom;

/// Answers a query that has a signature, of N octets.
pub fn answer(
    request: &Request<'_>,
    query: &Query<'_>,
    len: usize,
    response: &mut Vec<u8>,
) -> Answer {
    let Ok(mut message) = Message::from_octets(request.message.to_vec()) else {
        return Answer::Nothing;
    };
    let config: &Config = &request.world.inputs.config;
    let sequence = match ServerSequence::request(&&config.keys, &mut message, Time48::now()) {
        Ok(Some(sequence)) => sequence,
        Ok(None) => return handler::answer(request, query, None, response),
        Err(error) => return refuse(request, error, response),
    };
    let Some(name) = lower(sequence.key()) else {
        return Answer::Nothing;
    };
    let mut signature = Signature { sequence, name };
    // It is not counted any more, and a good one was the last record.
    let mut message = message.into_octets();
    message.truncate(message.len() - len.min(message.len()));
    let request = Request {
        message: &message,
        ..*request
    };
    let Some(mut query) = Query::parse(&message, request.transport) else {
        return Answer::Nothing;
    };
    query.spare = signature.len();
    query.bound = request.bound;
    let answer = handler::answer(&request, &query, Some(signature.clone()), response);
    if matches!(answer, Answer::Message(_)) && signature.sign_whole(response).is_err() {
        return Answer::Nothing;
    }
    answer
}

/// Answers a query whose signature is not good (RFC 8945 section 5.2).
fn refuse(request: &Request<'_>, error: ServerError<Arc<Key>>, response: &mut Vec<u8>) -> Answer {
    let Ok(message) = Message::from_octets(request.message) else {
        return Answer::Nothing;
    };
    let code = error.error();
    tracing::debug!(
        "a query from {} with a bad signature: {code}",
        request.client
    );
    let Ok(builder) = error.build_message(&message, MessageBuilder::new_vec()) else {
        return Answer::Nothing;
    };
    *response = builder.finish();
    let rcode = u16::from(response.get(3).map_or(0, |flags| flags & 15));
    // A wrong MAC comes as FORMERR in the error field, which is BADSIG's place. That record, without MAC
    // and other data, ends in original id, error and a length of 0.
    if rcode == NOTAUTH
        && code == TsigRcode::FORMERR
        && let Some([_, _, error @ .., _, _]) = response.last_chunk_mut::<6>()
    {
        error.copy_from_slice(&BADSIG);
    }
    Answer::Message(Outcome::of(rcode))
}

fn lower(key: &Key) -> Option<Name> {
    let mut name = domain::base::Name::from_octets(key.name().as_slice().to_vec()).ok()?;
    name.make_canonical();
    Name::from_octets(name.into_octets().into()).ok()
}

/// A message that is finished, for a builder that begins one: the header that it would write is there.
struct Whole {
    octets: Vec<u8>,
    begun: bool,
}

impl OctetsBuilder for Whole {
    type AppendError = Infallible;

    fn append_slice(&mut self, slice: &[u8]) -> Result<(), Infallible> {
        if std::mem::replace(&mut self.begun, true) {
            self.octets.extend_from_slice(slice);
        }
        Ok(())
    }
}

impl Truncate for Whole {
    fn truncate(&mut self, len: usize) {
        if self.begun {
            self.octets.truncate(len);
        }
    }
}

impl AsRef<[u8]> for Whole {
    fn as_ref(&self) -> &[u8] {
        &self.octets
    }
}

impl AsMut<[u8]> for Whole {
    fn as_mut(&mut self) -> &mut [u8] {
        &mut self.octets
    }
}

impl Composer for Whole {}

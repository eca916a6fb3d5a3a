//! TSIG (RFC 8945): verifies the signature of a query, and signs the answers.

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;

use domain::base::iana::TsigRcode;
use domain::base::message_builder::AdditionalBuilder;
use domain::base::wire::Composer;
use domain::base::{Message, MessageBuilder};
use domain::dep::octseq::{OctetsBuilder, Truncate};
use domain::rdata::tsig::Time48;
use domain::tsig::{Key, ServerError, ServerSequence};
use geodns_common::wire::rcode;

use crate::base::name::Name;
use crate::config::Keys;

/// The key that signed a query, and signs its answers, one after the other.
#[derive(Clone)]
pub struct Signer {
    sequence: ServerSequence<Arc<Key>>,
    name: Name,
}

impl Signer {
    /// Name of the key.
    pub fn key(&self) -> &Name {
        &self.name
    }

    /// Octets that a signature adds to a message.
    pub fn len(&self) -> usize {
        self.sequence.key().compose_len().into()
    }

    /// Signs a message that is being built, for whose signature there is room.
    pub fn sign<T: Composer>(&mut self, message: &mut AdditionalBuilder<T>) -> Result<(), NoRoom> {
        self.sequence
            .answer(message, Time48::now())
            .map_err(|_| NoRoom)
    }

    /// Signs a message that is finished.
    pub fn sign_whole(&mut self, message: &mut Vec<u8>) -> Result<(), NoRoom> {
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

/// The result of checking a message's signature.
pub enum Checked {
    /// There is none after all: its record is not where it has to be.
    Unsigned,
    /// Good. The message is without it.
    Good(Box<Signer>, Vec<u8>),
    /// Not good; this is the response that says so (RFC 8945 section 5.2).
    Bad(Vec<u8>),
    /// Nothing can be said of it.
    Unanswerable,
}

/// Checks the signature of a message, which begins N octets before its end.
pub fn check(keys: &Keys, message: &[u8], len: usize, client: IpAddr) -> Checked {
    let Ok(mut unsigned) = Message::from_octets(message.to_vec()) else {
        return Checked::Unanswerable;
    };
    let sequence = match ServerSequence::request(&keys, &mut unsigned, Time48::now()) {
        Ok(Some(sequence)) => sequence,
        Ok(None) => return Checked::Unsigned,
        Err(error) => {
            let code = error.error();
            tracing::debug!("a query from {client} with a bad signature: {code}");
            return refusal(message, error).map_or(Checked::Unanswerable, Checked::Bad);
        }
    };
    let Some(name) = lower(sequence.key()) else {
        return Checked::Unanswerable;
    };
    // It is not counted any more, and a good one was the last record.
    let mut unsigned = unsigned.into_octets();
    unsigned.truncate(unsigned.len() - len.min(unsigned.len()));
    Checked::Good(Box::new(Signer { sequence, name }), unsigned)
}

/// The response to a message whose signature is not good.
fn refusal(message: &[u8], error: ServerError<Arc<Key>>) -> Option<Vec<u8>> {
    let message = Message::from_octets(message).ok()?;
    let code = error.error();
    let response = error.build_message(&message, MessageBuilder::new_vec());
    let mut response = response.ok()?.finish();
    let rcode = u16::from(response.get(3)? & 15);
    // A wrong MAC comes as FORMERR in the error field, which is BADSIG's place. That record, without MAC
    // and other data, ends in original id, error and a length of 0.
    if rcode == rcode::NOTAUTH
        && code == TsigRcode::FORMERR
        && let Some([_, _, error @ .., _, _]) = response.last_chunk_mut::<6>()
    {
        error.copy_from_slice(&rcode::BADSIG.to_be_bytes());
    }
    Some(response)
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

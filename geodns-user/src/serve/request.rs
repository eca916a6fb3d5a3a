//! A message on its way through the server: [`Request`], then [`Verified`], then [`Unsigned`], then [`Answer`].
//!
//! Each step of `authority` takes one of these and gives the next, so that none can be left out.

use std::io;
use std::net::IpAddr;

use domain::base::Rtype;
use futures_util::stream::BoxStream;
use geodns_common::wire;

use super::message::{Identity, Outcome, Transport};
use super::notices::Notices;
use super::query::{Query, Question};
use super::stream::Transfer;
use super::tsig::Signer;
use crate::base::name::Name;
use crate::block::Blocks;
use crate::world::World;

/// A message, and what it is answered from.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    /// The configuration in force.
    pub world: &'a World,
    /// The queue for NOTIFYs.
    pub notices: &'a Notices,
    /// The names of this server, and the secrets of its cookies.
    pub identity: &'a Identity,
    /// The message, without the length that TCP puts before it.
    pub message: &'a [u8],
    /// Address of the sender.
    pub client: IpAddr,
    /// How it came.
    pub transport: Transport,
    /// Octets of the response, at the most, if the client shows no good cookie; `None`: there is no such bound.
    pub bound: Option<u16>,
}

impl Request<'_> {
    /// Whether a block rule drops the message, whatever it is, as in the kernel.
    pub fn is_blocked(&self, blocks: &Blocks) -> bool {
        if blocks.is_empty() {
            return false;
        }
        let question = Question::leading(self.message);
        let question = question.map(|of| (of.name, Rtype::from_int(of.qtype)));
        blocks.drops(self.client, question)
    }
}

/// A request whose signature, if it has one, is good.
pub struct Verified<'a> {
    /// The request. Its message is without the signature.
    pub request: Request<'a>,
    /// The message, read.
    pub query: Query<'a>,
    /// The key that signed the query and will sign the answer; `None`: the query is not signed.
    pub signer: Option<Box<Signer>>,
}

impl Verified<'_> {
    /// Name of the key that signed the query.
    pub fn key(&self) -> Option<&Name> {
        self.signer.as_ref().map(|signer| signer.key())
    }

    /// Octets that the response may have before it is signed, to a client that has shown a good cookie or not.
    pub fn room(&self, cookie_is_good: bool) -> usize {
        const PLAIN: u16 = wire::MIN_UDP_SIZE as u16;
        const MOST: u16 = wire::MAX_UDP_SIZE as u16;
        let whole = if self.request.transport == Transport::Udp {
            let edns = self.query.edns.as_ref();
            let payload = edns.map_or(PLAIN, |edns| edns.payload.clamp(PLAIN, MOST));
            match self.request.bound {
                Some(bound) if !cookie_is_good => payload.min(bound),
                _ => payload,
            }
        } else {
            u16::MAX
        };
        usize::from(whole).saturating_sub(self.query.spare)
    }
}

/// The answer to a request, before it is signed.
pub enum Unsigned {
    /// Nothing.
    Nothing,
    /// The message in the response.
    Message(Outcome),
    /// A zone transfer, over TCP only.
    Transfer(Outcome, Box<Transfer>),
}

/// The answer to a message.
pub enum Answer {
    /// Nothing.
    Nothing,
    /// The message in the response.
    Message(Outcome),
    /// These messages, one after the other; over TCP only. The connection's other queries are answered
    /// meanwhile. An error closes it: the client has seen a part, and no more will come.
    Stream(Outcome, Messages),
}

/// Messages that are made as they are sent, each of 65,535 octets at the most. Dropped if the client goes.
pub type Messages = BoxStream<'static, io::Result<Vec<u8>>>;

/// Answers a message into an empty response.
pub type Handler = fn(&Request<'_>, &mut Vec<u8>) -> Answer;

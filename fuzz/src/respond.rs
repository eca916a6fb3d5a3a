//! Any octets at the slow path. The first octet is who asks, and whether what follows is signed.

use std::net::IpAddr;

use domain::base::iana::Opcode;
use domain::base::{Message, MessageBuilder, Rtype, Serial, Ttl};
use domain::rdata::Soa;
use domain::rdata::tsig::Time48;
use domain::tsig::ClientTransaction;
use futures_util::{FutureExt, StreamExt};
use geodns::serve::{Answer, Notices, Request, Transport, authority};

use crate::message::{Parts, check};
use crate::world::{self, IDENTITY, KEY, WORLD};

/// No panic; what [`check`] says; over UDP and TCP the same, if it fits; and of transfers only whole messages.
pub fn respond(data: &[u8]) {
    let Some((&how, query)) = data.split_first() else {
        return;
    };
    let client = world::client(how);
    let [udp, tcp] =
        [Transport::Udp, Transport::Tcp].map(|transport| ask(client, transport, query));
    if let ([udp], [tcp]) = (&udp[..], &tcp[..])
        && udp[2] & 2 == 0
        && udp[6..8] != [0, 0]
    {
        assert_eq!(udp, tcp);
    }
    ask(client, Transport::Tls, query);
    if how & 4 != 0
        && let Some(signed) = signed(query, how)
    {
        ask(client, Transport::Udp, &signed);
        ask(client, Transport::Tls, &signed);
    }
}

/// Asks. Gives the messages of the answer.
fn ask(client: IpAddr, transport: Transport, query: &[u8]) -> Vec<Vec<u8>> {
    let notices = Notices::default();
    let request = Request {
        world: &WORLD,
        notices: &notices,
        identity: &IDENTITY,
        message: query,
        client,
        transport,
        bound: None,
    };
    let mut response = Vec::new();
    match authority(&request, &mut response) {
        Answer::Nothing => Vec::new(),
        Answer::Message(_) => {
            check(query, &response, transport);
            vec![response]
        }
        Answer::Stream(_, mut messages) => {
            assert_ne!(transport, Transport::Udp);
            let mut all = Vec::new();
            // They are made when they are asked for.
            while let Some(message) = messages.next().now_or_never().expect("at once") {
                let message = message.expect("nothing fails");
                assert!(message.len() <= usize::from(u16::MAX));
                assert!(Parts::of(&message).whole);
                assert_eq!(message[..2], query[..2]);
                all.push(message);
            }
            let [asked, told] = [query, &all[0]].map(Parts::of);
            // RFC 5936 section 2.2.5. A signature is in the way of what counts.
            assert!(asked.is_signed() || told.opts().count() == asked.opts().count());
            all
        }
    }
}

/// The question, signed with a key that is known; with a SOA record, as IXFR and NOTIFY have it.
fn signed(query: &[u8], how: u8) -> Option<Vec<u8>> {
    let query = Message::from_octets(query).ok()?;
    let question = query.first_question()?;
    let mut message = MessageBuilder::new_vec();
    message.header_mut().set_id(query.header().id());
    message.header_mut().set_opcode(query.header().opcode());
    let mut message = message.question();
    message.push(&question).ok()?;
    let mut message = message.authority();
    if question.qtype() == Rtype::IXFR || query.header().opcode() == Opcode::NOTIFY {
        let (name, serial) = (question.qname(), Serial(u32::from(how >> 3)));
        let zero = Ttl::ZERO;
        let soa = Soa::new(name, name, serial, zero, zero, zero, zero);
        message.push((name, zero, soa)).ok()?;
    }
    let mut message = message.additional();
    ClientTransaction::request(KEY.clone(), &mut message, Time48::now()).ok()?;
    Some(message.finish())
}

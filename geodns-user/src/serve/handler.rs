//! Who answers, as the transports see it: one message in; none, one or many out.
//!
//! A panic while answering ends nobody: it is logged with the query, counted, and answered SERVFAIL.

use std::cell::{Cell, RefCell};
use std::fmt::Write;
use std::io;
use std::net::IpAddr;
use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind, set_hook, take_hook};
use std::sync::Once;

use domain::base::Rtype;
use futures_util::stream::BoxStream;

use super::notices::{self, Notices};
use super::prefetch::prefetch;
use super::query::{Query, Question};
use super::respond::{Outcome, respond_to};
use super::seldom::Seldom;
use super::signed::{self, Signature};
use super::transfer;
use super::write::{IN, Options, Outline, PLAIN_PAYLOAD, Writer};
use super::{Identity, Transport};
use crate::block::Blocks;
use crate::world::World;

/// A message, and what it is answered from.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    /// The configuration in force.
    pub world: &'a World,
    /// Where to tell that a zone has changed elsewhere.
    pub notices: &'a Notices,
    /// Who we are.
    pub identity: &'a Identity,
    /// The message, without the length that TCP puts before it.
    pub message: &'a [u8],
    /// Who sent it.
    pub client: IpAddr,
    /// How it came.
    pub transport: Transport,
    /// Octets of the response, at the most, if the client shows no good cookie; `None`: there is no such bound.
    pub bound: Option<u16>,
}

/// What a message is answered with.
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

/// Whether a message is dropped by a rule, whatever it is, as in the kernel.
pub fn is_blocked(blocks: &Blocks, client: IpAddr, message: &[u8]) -> bool {
    if blocks.is_empty() {
        return false;
    }
    let question = Question::leading(message);
    let question = question.map(|of| (of.name, Rtype::from_int(of.qtype)));
    blocks.drops(client, question)
}

/// Answers from the zones and the plan; gives zones away, and hears that others have changed.
pub fn authority(request: &Request<'_>, response: &mut Vec<u8>) -> Answer {
    let Some(mut query) = Query::parse(request.message, request.transport) else {
        return Answer::Nothing;
    };
    query.bound = request.bound;
    if let Some(len) = query.signed {
        return signed::answer(request, &query, len, response);
    }
    answer(request, &query, None, response)
}

/// Answers a query, which is signed with a key, or with none. What is answered in one message is not signed
/// yet; there is room for that.
pub fn answer(
    request: &Request<'_>,
    query: &Query<'_>,
    signature: Option<Signature>,
    response: &mut Vec<u8>,
) -> Answer {
    let question = query.question.as_ref().filter(|question| {
        !query.malformed
            && question.qclass == IN
            && query.edns.as_ref().is_none_or(|e| e.version == 0)
    });
    match (query.opcode, question) {
        (notices::OPCODE, Some(question)) => {
            notices::hear(request, query, question, signature.as_ref(), response)
        }
        (0, Some(question)) if matches!(question.qtype, transfer::AXFR | transfer::IXFR) => {
            transfer::answer(request, query, question, signature, response)
        }
        _ => Answer::Message(respond_to(
            request.world,
            request.identity,
            query,
            request.client,
            request.transport,
            signature.as_ref(),
            response,
        )),
    }
}

/// Answers with nothing but a response code.
pub fn code(query: &Query<'_>, outline: Outline, response: &mut Vec<u8>) -> Answer {
    let options = Options::without_us(query);
    let writer = Writer::new(response, query, &options, usize::from(PLAIN_PAYLOAD));
    let rcode = outline.rcode;
    writer.finish(query, &options, outline, false);
    Answer::Message(Outcome::of(rcode))
}

/// A handler whose panics end nobody.
#[derive(Debug)]
pub struct Guarded {
    handler: Handler,
    panics: Seldom,
}

impl Guarded {
    /// Guards a handler.
    pub fn new(handler: Handler) -> Self {
        static HOOK: Once = Once::new();
        HOOK.call_once(|| {
            let others = take_hook();
            set_hook(Box::new(move |info| {
                if ANSWERING.get() {
                    note(info);
                } else {
                    others(info);
                }
            }));
        });
        Self {
            handler,
            panics: Seldom::new(),
        }
    }

    /// Makes ready for the answers to several messages; to one it would be in vain. Whatever happens, they are
    /// answered as they would be without.
    pub fn prefetch<'a>(&self, world: &World, messages: impl ExactSizeIterator<Item = &'a [u8]>) {
        if messages.len() > 1 {
            // Whoever would panic here does so in the answer too, which says so.
            let _ = guarded(|| prefetch(world, messages));
        }
    }

    /// Answers a message into `response` (cleared first). `Err`: it panicked, and the response says
    /// SERVFAIL.
    pub fn answer(
        &self,
        request: &Request<'_>,
        response: &mut Vec<u8>,
    ) -> Result<Answer, Panicked> {
        response.clear();
        let answered = guarded(|| (self.handler)(request, response));
        answered.map_err(|_| {
            self.log(request);
            servfail(request, response);
            Panicked
        })
    }

    fn log(&self, request: &Request<'_>) {
        let said = SAID.take().unwrap_or_default();
        let Some(omitted) = self.panics.turn() else {
            return;
        };
        let mut hex = String::new();
        for octet in request.message {
            let _ = write!(hex, "{octet:02x}");
        }
        tracing::error!(
            client = %request.client,
            transport = ?request.transport,
            query = hex,
            omitted,
            "a query made us panic, and was answered SERVFAIL; please report it: {said}"
        );
    }
}

/// The handler panicked.
#[derive(Debug)]
pub struct Panicked;

impl Panicked {
    /// What was answered instead.
    pub const OUTCOME: Outcome = Outcome {
        rcode: 2,
        steered: false,
        truncated: false,
        ecs: false,
        sample: None,
        wants_cookie: false,
    };
}

thread_local! {
    /// Whether this thread is in a handler.
    static ANSWERING: Cell<bool> = const { Cell::new(false) };
    /// What its panic said, and where.
    static SAID: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Runs what may panic. What a panic leaves half done is the response, which is written anew, and no lock that
/// it held is one for writing.
pub fn guarded<T>(run: impl FnOnce() -> T) -> std::thread::Result<T> {
    ANSWERING.set(true);
    let done = catch_unwind(AssertUnwindSafe(run));
    ANSWERING.set(false);
    done
}

/// Keeps what a panic says, for the log.
fn note(info: &PanicHookInfo<'_>) {
    let what = info.payload_as_str().unwrap_or("no message");
    let said = match info.location() {
        Some(at) => format!("{what} ({at})"),
        None => what.to_owned(),
    };
    SAID.set(Some(said));
}

/// SERVFAIL with the question, or without if it cannot be read.
fn servfail(request: &Request<'_>, response: &mut Vec<u8>) {
    let message = request.message;
    let written = catch_unwind(AssertUnwindSafe(|| {
        let query = Query::parse(message, request.transport)?;
        let outline = Outline {
            rcode: Panicked::OUTCOME.rcode,
            ..Outline::default()
        };
        let options = Options::without_us(&query);
        let size = message.len().max(512);
        Writer::new(response, &query, &options, size).finish(&query, &options, outline, false);
        Some(())
    }));
    if matches!(written, Ok(Some(()))) {
        return;
    }
    response.clear();
    if let Some(&[high, low, flags, ..]) = message.first_chunk::<12>() {
        // QR, and OPCODE and RD as they came.
        response.extend_from_slice(&[high, low, 0x80 | flags & 0x79, 2]);
        response.resize(12, 0);
    }
}

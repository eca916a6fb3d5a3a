//! Guards a handler: a panic while answering ends nobody. It is logged with the query, counted, and answered SERVFAIL.

use std::cell::{Cell, RefCell};
use std::fmt::Write;
use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind, set_hook, take_hook};
use std::sync::Once;

use geodns_common::wire::{QR, rcode};

use super::message::Outcome;
use super::prefetch::prefetch;
use super::query::{HEADER, Query};
use super::request::{Answer, Handler, Request};
use super::seldom::Seldom;
use super::write::{Outline, code};
use crate::world::World;

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
    /// The outcome of the answer that was given instead.
    pub const OUTCOME: Outcome = Outcome::of(rcode::SERVFAIL);
}

thread_local! {
    /// Whether this thread is in a handler.
    static ANSWERING: Cell<bool> = const { Cell::new(false) };
    /// The panic's message and place.
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
        Some(code(&query, outline, response))
    }));
    if matches!(written, Ok(Some(_))) {
        return;
    }
    response.clear();
    if let Some(&[high, low, flags, ..]) = message.first_chunk::<HEADER>() {
        // QR, and OPCODE and RD as they came.
        response.extend_from_slice(&[high, low, QR | flags & 0x79, rcode::SERVFAIL as u8]);
        response.resize(HEADER, 0);
    }
}

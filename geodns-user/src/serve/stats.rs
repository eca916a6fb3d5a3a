//! What the slow path counted.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use super::Transport;
use super::respond::Outcome;

macro_rules! counters {
    ($($(#[doc = $doc:literal])+ $name:ident,)+) => {
        /// Counters since the start. Each is on its own; together they are no moment's picture.
        #[derive(Debug, Default)]
        pub struct Stats {
            $($(#[doc = $doc])+ pub $name: AtomicU64,)+
        }

        impl Stats {
            /// Name of each and what it means, in a line.
            pub const MEANINGS: &[(&str, &str)] = &[$((stringify!($name), concat!($($doc),+)),)+];

            /// All of them, by name.
            pub fn snapshot(&self) -> BTreeMap<String, u64> {
                BTreeMap::from([
                    $((stringify!($name).to_owned(), self.$name.load(Ordering::Relaxed)),)+
                ])
            }
        }
    };
}

counters! {
    /// Messages over UDP.
    queries_udp,
    /// Messages over TCP.
    queries_tcp,
    /// Not answered: too short, a response, or from port 0.
    dropped,
    /// Answered from a pool.
    steered,
    /// Answered with TC.
    truncated,
    /// Queries with a client subnet.
    client_subnet,
    /// Answered NOERROR.
    rcode_noerror,
    /// Answered FORMERR.
    rcode_formerr,
    /// Answered SERVFAIL.
    rcode_servfail,
    /// Answered NXDOMAIN.
    rcode_nxdomain,
    /// Answered NOTIMP.
    rcode_notimp,
    /// Answered REFUSED.
    rcode_refused,
    /// Answered BADVERS.
    rcode_badvers,
    /// Answered with another response code.
    rcode_other,
    /// Datagrams that could not be sent.
    udp_send_failed,
    /// TCP connections accepted.
    tcp_connections,
    /// TCP connections open now.
    tcp_open,
    /// TCP connections closed at once, for there were too many, or too many of the client's network.
    tcp_refused,
    /// TCP connections closed because the client sent or read too little for too long.
    tcp_timeouts,
}

impl Stats {
    /// Counts one more.
    pub(super) fn add(&self, counter: impl FnOnce(&Self) -> &AtomicU64) {
        counter(self).fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a message and what became of it.
    pub(super) fn message(&self, transport: Transport, outcome: Option<Outcome>) {
        self.add(|stats| match transport {
            Transport::Udp => &stats.queries_udp,
            Transport::Tcp => &stats.queries_tcp,
        });
        let Some(outcome) = outcome else {
            self.add(|stats| &stats.dropped);
            return;
        };
        self.add(|stats| match outcome.rcode {
            0 => &stats.rcode_noerror,
            1 => &stats.rcode_formerr,
            2 => &stats.rcode_servfail,
            3 => &stats.rcode_nxdomain,
            4 => &stats.rcode_notimp,
            5 => &stats.rcode_refused,
            16 => &stats.rcode_badvers,
            _ => &stats.rcode_other,
        });
        if outcome.steered {
            self.add(|stats| &stats.steered);
        }
        if outcome.truncated {
            self.add(|stats| &stats.truncated);
        }
        if outcome.ecs {
            self.add(|stats| &stats.client_subnet);
        }
    }
}

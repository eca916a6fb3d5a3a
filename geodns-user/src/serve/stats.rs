//! The counters of the slow path.
//!
//! Workers count into a [`Tally`] of their own, and add it to the [`Stats`] once a batch: each UDP
//! worker to a set that no other writes to.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use geodns_common::wire::rcode;

use super::message::{Outcome, Transport};

macro_rules! counters {
    ($($(#[doc = $doc:literal])+ $counter:ident = $name:literal,)+) => {
        /// The counters.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(super) enum Counter {
            $($(#[doc = $doc])+ $counter,)+
        }

        impl Stats {
            /// Name of each counter and what it means, in a line.
            pub const MEANINGS: &[(&str, &str)] = &[$(($name, concat!($($doc),+)),)+];
        }
    };
}

counters! {
    /// Messages over UDP.
    QueriesUdp = "queries_udp",
    /// Messages over TCP, TLS or not.
    QueriesTcp = "queries_tcp",
    /// Questions of this server to itself (`[announce]`), over UDP and TCP; counted nowhere else.
    OwnChecks = "own_checks",
    /// Not answered: too short, a response, from port 0, or blocked.
    Dropped = "dropped",
    /// Not answered by a rule of `geodns block`, or of the configuration's `[[block]]`; counted in `dropped` too.
    Blocked = "dropped_blocked",
    /// Not answered: the client's prefix is over the limit of responses; counted in `dropped` too.
    LimitedDrop = "limited_drop",
    /// Answered with nothing but TC or a cookie: the client's prefix is over the limit of responses.
    LimitedSlip = "limited_slip",
    /// Over the limit of responses and answered all the same, with rrl.dry_run.
    LimitedDryRun = "limited_dry_run",
    /// Answered with TC for more than rrl.nocookie_udp_size: the client has shown no good cookie.
    TruncatedNoCookie = "truncated_nocookie",
    /// Answered from a pool.
    Steered = "steered",
    /// Answered with TC.
    Truncated = "truncated",
    /// Queries with a client subnet.
    ClientSubnet = "client_subnet",
    /// Answered NOERROR.
    Noerror = "rcode_noerror",
    /// Answered FORMERR.
    Formerr = "rcode_formerr",
    /// Answered SERVFAIL.
    Servfail = "rcode_servfail",
    /// Answered NXDOMAIN.
    Nxdomain = "rcode_nxdomain",
    /// Answered NOTIMP.
    Notimp = "rcode_notimp",
    /// Answered REFUSED.
    Refused = "rcode_refused",
    /// Answered BADVERS.
    Badvers = "rcode_badvers",
    /// Answered with another response code.
    OtherRcode = "rcode_other",
    /// Answered SERVFAIL after a fault of ours: the log has the query.
    Panics = "panics",
    /// NOTIFYs of primaries that were heard.
    NotifyHeard = "notify_heard",
    /// NOTIFYs that found another one of the zone and primary waiting for its turn, or too many waiting.
    NotifyMerged = "notify_merged",
    /// SOA queries that NOTIFYs were the reason for.
    NotifyAsked = "notify_asked",
    /// Datagrams that could not be sent.
    UdpSendFailed = "udp_send_failed",
    /// TCP connections accepted.
    TcpConnections = "tcp_connections",
    /// TCP connections open now.
    TcpOpen = "tcp_open",
    /// TCP connections closed to make room for others: the longest idle ones of the networks that held most.
    TcpDisplaced = "tcp_displaced",
    /// TCP connections closed because the client sent or read too little for too long.
    TcpTimeouts = "tcp_timeouts",
    /// TCP connections that speak TLS: handshakes done.
    TlsConnections = "tls_connections",
    /// TLS handshakes that failed.
    TlsFailed = "tls_failed",
}

const COUNTERS: usize = Stats::MEANINGS.len();

/// Counters since the start. Each is on its own; together they are no moment's picture.
#[derive(Debug)]
pub struct Stats {
    sets: Box<[Set]>,
}

/// The counters of one writer, on cache lines of its own (two: x86 fetches them in pairs).
#[derive(Debug)]
#[repr(align(128))]
struct Set([AtomicU64; COUNTERS]);

impl Stats {
    /// All zero, for N UDP workers.
    pub(super) fn new(workers: usize) -> Self {
        let set = |_| Set(std::array::from_fn(|_| AtomicU64::new(0)));
        Self {
            sets: (0..=workers).map(set).collect(),
        }
    }

    /// All of them, by name.
    pub fn snapshot(&self) -> BTreeMap<String, u64> {
        let names = Self::MEANINGS.iter().enumerate();
        names
            .map(|(at, (name, _))| ((*name).to_owned(), self.sum(at)))
            .collect()
    }

    /// Messages of others over UDP, and over TCP and TLS.
    pub fn queries(&self) -> [u64; 2] {
        [Counter::QueriesUdp, Counter::QueriesTcp].map(|counter| self.sum(counter as usize))
    }

    fn sum(&self, at: usize) -> u64 {
        self.sets
            .iter()
            .map(|set| set.0[at].load(Ordering::Relaxed))
            .fold(0, u64::wrapping_add)
    }

    /// Adds what a UDP worker counted, by its number; what `None` counted is everybody else's.
    pub(super) fn merge(&self, worker: Option<usize>, tally: &mut Tally) {
        let Set(set) = &self.sets[worker.map_or(0, |worker| worker + 1)];
        for (count, counted) in set.iter().zip(&mut tally.0) {
            if *counted != 0 {
                count.fetch_add(u64::from(*counted), Ordering::Relaxed);
                *counted = 0;
            }
        }
    }

    /// Counts a NOTIFY that was merged with another one.
    pub fn count_notify_merged(&self) {
        self.add(Counter::NotifyMerged);
    }

    /// Counts a query that a NOTIFY was the reason for.
    pub fn count_notify_asked(&self) {
        self.add(Counter::NotifyAsked);
    }

    /// Counts one more of what is rare.
    pub(super) fn add(&self, counter: Counter) {
        self.sets[0].0[counter as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Takes one back that [`Stats::add`] counted.
    pub(super) fn subtract(&self, counter: Counter) {
        self.sets[0].0[counter as usize].fetch_sub(1, Ordering::Relaxed);
    }
}

/// Counts of one worker, since it last added them to the [`Stats`].
#[derive(Debug, Default)]
pub(super) struct Tally([u32; COUNTERS]);

impl Tally {
    /// Counts one more.
    pub fn add(&mut self, counter: Counter) {
        let count = &mut self.0[counter as usize];
        *count = count.wrapping_add(1);
    }

    /// Counts a message and what became of it.
    pub fn message(&mut self, transport: Transport, outcome: Option<&Outcome>) {
        self.add(match transport {
            Transport::Udp => Counter::QueriesUdp,
            Transport::Tcp | Transport::Tls => Counter::QueriesTcp,
        });
        let Some(outcome) = outcome else {
            self.add(Counter::Dropped);
            return;
        };
        self.add(match outcome.rcode {
            rcode::NOERROR => Counter::Noerror,
            rcode::FORMERR => Counter::Formerr,
            rcode::SERVFAIL => Counter::Servfail,
            rcode::NXDOMAIN => Counter::Nxdomain,
            rcode::NOTIMP => Counter::Notimp,
            rcode::REFUSED => Counter::Refused,
            rcode::BADVERS => Counter::Badvers,
            _ => Counter::OtherRcode,
        });
        for (is, counter) in [
            (outcome.steered, Counter::Steered),
            (outcome.truncated, Counter::Truncated),
            (outcome.wants_cookie, Counter::TruncatedNoCookie),
            (outcome.ecs, Counter::ClientSubnet),
        ] {
            if is {
                self.add(counter);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_workers_count_is_summed_up_and_counted_once() {
        let stats = Stats::new(2);
        let mut tally = Tally::default();
        for worker in [None, Some(0), Some(1), Some(1)] {
            tally.message(Transport::Udp, None);
            stats.merge(worker, &mut tally);
            stats.merge(worker, &mut tally);
        }
        stats.add(Counter::TcpOpen);
        stats.add(Counter::TcpOpen);
        stats.subtract(Counter::TcpOpen);
        let snapshot = stats.snapshot();
        assert_eq!(snapshot.len(), COUNTERS);
        let counted: Vec<_> = snapshot.iter().filter(|(_, count)| **count > 0).collect();
        let expected = [("dropped", 4), ("queries_udp", 4), ("tcp_open", 1)];
        let expected = expected.map(|(name, count)| (name.to_owned(), count));
        let expected: Vec<_> = expected.iter().map(|(name, count)| (name, count)).collect();
        assert_eq!(counted, expected);
        assert_eq!(align_of::<Set>(), 128);
    }
}

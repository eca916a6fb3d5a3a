//! Packets, queries and responses of both paths.

use std::collections::BTreeMap;

use geodns_common::verdict::{COUNTERS, Tally, Verdict};

use crate::daemon::Daemon;
use crate::metrics::{Family, Snapshot};
use crate::observe::counters;

impl Daemon {
    /// The counters of both paths.
    pub(super) fn add_paths(&self, snapshot: &mut Snapshot) {
        let counts = self.counters.as_ref().map(|counters| counters.read());
        match counts {
            Some(Ok(counts)) => add_kernel(snapshot, &counts, self.lookers.lost()),
            Some(Err(error)) => tracing::debug!(%error, "metrics of the kernel"),
            None => {}
        }
        add_slow(snapshot, &self.server.stats().snapshot());
    }
}

fn add_kernel(snapshot: &mut Snapshot, counts: &[u64; COUNTERS], lost: u64) {
    let tallies: Vec<&str> = Tally::ALL.iter().map(|tally| tally.name()).collect();
    let mut answered_or_dropped = 0;
    for (name, count) in counters::by_name(counts) {
        if let Some(tally) = tallies.iter().find(|tally| **tally == name) {
            // What was told and whoever captures was too slow for.
            let lost = if *tally == Tally::WatchLost.name() {
                lost
            } else {
                0
            };
            snapshot.put_words(Family::XdpTallies, [tally], count + lost);
        } else {
            snapshot.put_words(Family::XdpPackets, [&*name], count);
        }
    }
    for verdict in Verdict::ALL {
        let is_query = verdict.is_answer() || verdict.is_drop() && *verdict != Verdict::Response;
        if is_query {
            answered_or_dropped += counts[*verdict as usize];
        }
        if verdict.has_budget() {
            answered_or_dropped += counters::over_budget(counts, *verdict);
        }
    }
    snapshot.put_words(Family::Queries, ["kernel", "udp"], answered_or_dropped);
    for (rcode, count) in counters::rcodes(counts) {
        snapshot.put_words(Family::Responses, ["kernel", rcode], count);
    }
    for (action, count) in [
        ("dropped", counts[Verdict::Limited as usize]),
        ("slipped", counts[Verdict::Slipped as usize]),
        ("dry_run", counts[Tally::OverLimit.index() as usize]),
    ] {
        snapshot.put_words(Family::RateLimited, ["kernel", action], count);
    }
}

fn add_slow(snapshot: &mut Snapshot, stats: &BTreeMap<String, u64>) {
    let of = |name: &str| stats.get(name).copied().unwrap_or(0);
    for (transport, name) in [("udp", "queries_udp"), ("tcp", "queries_tcp")] {
        snapshot.put_words(Family::Queries, ["slow", transport], of(name));
    }
    for (name, count) in stats {
        if let Some(rcode) = name.strip_prefix("rcode_") {
            let rcode = rcode.to_ascii_uppercase();
            snapshot.put_words(Family::Responses, ["slow", &*rcode], *count);
        }
    }
    for (action, name) in [
        ("dropped", "limited_drop"),
        ("slipped", "limited_slip"),
        ("dry_run", "limited_dry_run"),
    ] {
        snapshot.put_words(Family::RateLimited, ["slow", action], of(name));
    }
    let (blocked, limited) = (of("dropped_blocked"), of("limited_drop"));
    let others = of("dropped").saturating_sub(blocked + limited);
    for (reason, count) in [
        ("blocked", blocked),
        ("limited", limited),
        ("malformed", others),
    ] {
        snapshot.put_words(Family::SlowDropped, [reason], count);
    }
    for (family, name) in [
        (Family::Truncated, "truncated"),
        (Family::ClientSubnets, "client_subnet"),
        (Family::OwnChecks, "own_checks"),
        (Family::Panics, "panics"),
        (Family::UdpSendErrors, "udp_send_failed"),
        (Family::TcpConnections, "tcp_connections"),
        (Family::TcpOpen, "tcp_open"),
    ] {
        snapshot.put(family, of(name));
    }
    for (family, label, name) in [
        (Family::TcpClosed, "displaced", "tcp_displaced"),
        (Family::TcpClosed, "timeout", "tcp_timeouts"),
        (Family::TlsHandshakes, "done", "tls_connections"),
        (Family::TlsHandshakes, "failed", "tls_failed"),
        (Family::Notifies, "heard", "notify_heard"),
        (Family::Notifies, "merged", "notify_merged"),
        (Family::Notifies, "asked", "notify_asked"),
    ] {
        snapshot.put_words(family, [label], of(name));
    }
}

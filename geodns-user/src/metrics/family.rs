//! All metrics.
//!
//! A new one is a line here, its values in a file of `daemon/metrics`, and a row of docs/metrics.md. Names are those of
//! Prometheus' rules: the unit is a base unit and stands at the end. A label takes words of ours and ids of the
//! configuration: no name of a query, no client, no text that somebody else writes.

/// The type of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It only grows; its samples' names end in `_total`.
    Counter,
    /// It goes up and down.
    Gauge,
}

/// The definition of a metric.
#[derive(Clone, Copy, Debug)]
pub struct About {
    /// Name, without the `_total` of a counter.
    pub name: &'static str,
    /// Type.
    pub kind: Kind,
    /// Names of its labels.
    pub labels: &'static [&'static str],
    /// Meaning, as the comment has it.
    help: &'static str,
}

impl About {
    /// Meaning, in a line.
    pub fn help(&self) -> &'static str {
        self.help.trim()
    }
}

macro_rules! families {
    ($(#[doc = $doc:literal] $family:ident: $kind:ident $name:literal [$($label:literal),*],)+) => {
        /// A metric.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Family {
            $(#[doc = $doc] $family,)+
        }

        impl Family {
            /// All of them, in the order in which they are written.
            pub const ALL: &[Self] = &[$(Self::$family),+];

            const ABOUT: &[About] = &[$(About {
                name: $name,
                kind: Kind::$kind,
                labels: &[$($label),*],
                help: $doc,
            }),+];
        }
    };
}

families! {
    /// Version of the daemon; always 1.
    BuildInfo: Gauge "geodns_build_info" ["version"],
    /// Number of the plan in force, counted up by each new one.
    PlanGeneration: Gauge "geodns_plan_generation" [],
    /// Whether the last reload succeeded.
    ReloadSuccessful: Gauge "geodns_config_last_reload_successful" [],
    /// Time of the last reload that succeeded, or of the start.
    ReloadTime: Gauge "geodns_config_last_reload_success_timestamp_seconds" [],
    /// Background tasks that ended unexpectedly and were restarted.
    TaskRestarts: Counter "geodns_task_restarts" [],
    /// Queries that made the slow path panic and were answered SERVFAIL.
    Panics: Counter "geodns_panics" [],
    /// Series that are left out since their family has more than metrics.max_series.
    SeriesDropped: Gauge "geodns_series_dropped" [],

    /// Packets that the XDP program saw, each once, by verdict.
    XdpPackets: Counter "geodns_xdp_packets" ["verdict"],
    /// Things that the XDP program counts beside the verdict of a packet.
    XdpTallies: Counter "geodns_xdp_tallies" ["tally"],
    /// Queries, each once, by the path that answered or dropped them.
    Queries: Counter "geodns_queries" ["path", "transport"],
    /// Responses, by path and response code.
    Responses: Counter "geodns_responses" ["path", "rcode"],
    /// Answers of a pool, by the mirror that is first in them. Nothing is counted without the section `metrics`.
    Answers: Counter "geodns_answers" ["path", "pool", "mirror"],
    /// Queries over the limit of responses, by what became of them.
    RateLimited: Counter "geodns_rate_limited" ["path", "action"],
    /// Queries that the slow path did not answer, by reason.
    SlowDropped: Counter "geodns_slow_dropped" ["reason"],
    /// Responses of the slow path with TC.
    Truncated: Counter "geodns_slow_truncated" [],
    /// Queries with a client subnet that the slow path got.
    ClientSubnets: Counter "geodns_slow_client_subnets" [],
    /// Questions of this server to itself, which are counted nowhere else.
    OwnChecks: Counter "geodns_own_checks" [],
    /// Datagrams that could not be sent.
    UdpSendErrors: Counter "geodns_udp_send_errors" [],
    /// TCP connections accepted.
    TcpConnections: Counter "geodns_tcp_connections" [],
    /// TCP connections open now.
    TcpOpen: Gauge "geodns_tcp_open_connections" [],
    /// TCP connections that the server closed, by reason.
    TcpClosed: Counter "geodns_tcp_closed" ["reason"],
    /// TLS handshakes, by outcome.
    TlsHandshakes: Counter "geodns_tls_handshakes" ["outcome"],
    /// NOTIFYs that were heard or merged, and queries that they led to.
    Notifies: Counter "geodns_notifies" ["event"],

    /// Whether new clients are sent to a mirror.
    MirrorInService: Gauge "geodns_mirror_in_service" ["mirror"],
    /// The operator's word on a mirror: 1 for the state that it is in.
    MirrorAdmin: Gauge "geodns_mirror_admin" ["mirror", "state"],
    /// Share of new clients that a drain keeps away from a mirror.
    MirrorDrained: Gauge "geodns_mirror_drained_ratio" ["mirror"],
    /// Weight of a mirror that is in force.
    MirrorWeight: Gauge "geodns_mirror_weight" ["mirror"],
    /// Whether the checks find an address of a mirror up; no series: not checked, or not yet.
    CheckUp: Gauge "geodns_check_up" ["mirror", "address"],
    /// Duration of the last check of an address.
    CheckDuration: Gauge "geodns_check_duration_seconds" ["mirror", "address"],
    /// Age of the content of a mirror, by the trace that its check read last (`fresh`).
    MirrorAge: Gauge "geodns_mirror_age_seconds" ["mirror", "address"],
    /// Mirrors of a pool.
    PoolMirrors: Gauge "geodns_pool_mirrors" ["pool"],
    /// Mirrors of a pool that new clients are sent to.
    PoolInService: Gauge "geodns_pool_mirrors_in_service" ["pool"],
    /// Whether a pool answers as if all mirrors were in service, since none is.
    PoolFailedOpen: Gauge "geodns_pool_failed_open" ["pool"],

    /// Zones that are served.
    Zones: Gauge "geodns_zones" [],
    /// Secondary zones that have expired, or were never transferred.
    ZonesExpired: Gauge "geodns_zones_expired" [],
    /// Time at which the first secondary zone expires unless its primaries answer.
    NextExpiry: Gauge "geodns_zones_next_expiry_timestamp_seconds" [],
    /// Serial of a zone; with metrics.by_zone.
    ZoneSerial: Gauge "geodns_zone_serial" ["zone"],
    /// Names of a zone; with metrics.by_zone.
    ZoneNames: Gauge "geodns_zone_names" ["zone"],
    /// Time at which a secondary zone expires unless its primaries answer; with metrics.by_zone.
    ZoneExpiry: Gauge "geodns_zone_expires_timestamp_seconds" ["zone"],
    /// End of the validity of the certificate of DNS over TLS.
    CertificateEnd: Gauge "geodns_certificate_not_after_timestamp_seconds" [],
    /// Time at which a GeoIP database was built.
    DatabaseBuilt: Gauge "geodns_database_build_timestamp_seconds" ["file"],

    /// Whether the XDP program is attached to an interface of the configuration, and in which mode.
    InterfaceAttached: Gauge "geodns_interface_attached" ["interface", "mode"],
    /// Whether the XDP program does not see the queries of an interface that it is attached to.
    InterfaceBlind: Gauge "geodns_interface_blind" ["interface"],
    /// Packets that the XDP program saw on an interface, by fate.
    InterfacePackets: Counter "geodns_interface_packets" ["interface", "fate"],
    /// Queries over UDP that the slow path got by an interface.
    InterfaceSlow: Counter "geodns_interface_slow_queries" ["interface"],
    /// Answers of the XDP program that the driver of an interface dropped.
    DriverDrops: Counter "geodns_interface_driver_drops" ["interface"],
    /// Kernel memory that the maps of the XDP program take.
    KernelMemory: Gauge "geodns_kernel_memory_bytes" [],

    /// Whether this node follows the store of its fleet.
    FleetConnected: Gauge "geodns_fleet_connected" [],
    /// Number of the last commit of the fleet's store that is in force here.
    FleetRevision: Gauge "geodns_fleet_revision" [],
    /// Nodes of the fleet that live.
    FleetNodes: Gauge "geodns_fleet_nodes" [],
    /// Time since this node had all commits of the fleet's store; 0 while it has them.
    FleetStale: Gauge "geodns_fleet_stale_seconds" [],
    /// How this node is announced: 1 for the state that it is in.
    AnnounceState: Gauge "geodns_announce_state" ["state"],

    /// CPU time of the daemon in user and system mode.
    ProcessCpu: Counter "process_cpu_seconds" [],
    /// Resident memory of the daemon.
    ProcessResident: Gauge "process_resident_memory_bytes" [],
    /// Virtual memory of the daemon.
    ProcessVirtual: Gauge "process_virtual_memory_bytes" [],
    /// File descriptors that the daemon has open.
    ProcessFds: Gauge "process_open_fds" [],
    /// File descriptors that the daemon may have open.
    ProcessMaxFds: Gauge "process_max_fds" [],
    /// Threads of the daemon.
    ProcessThreads: Gauge "process_threads" [],
    /// Start of the daemon.
    ProcessStart: Gauge "process_start_time_seconds" [],
}

impl Family {
    /// Its definition.
    pub const fn about(self) -> &'static About {
        &Self::ABOUT[self as usize]
    }

    /// The name of its samples.
    pub fn sample(self) -> String {
        let About { name, kind, .. } = self.about();
        match kind {
            Kind::Counter => format!("{name}_total"),
            Kind::Gauge => (*name).to_owned(),
        }
    }

    /// Whether the configuration can make its series many, so that `metrics.max_series` bounds them.
    pub fn is_bounded(self) -> bool {
        let labels = self.about().labels;
        ["mirror", "pool", "zone"]
            .iter()
            .any(|label| labels.contains(label))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_page_has_every_metric_and_no_other() {
        let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/metrics.md");
        let page = std::fs::read_to_string(page).unwrap();
        let rows = page.lines().filter(|line| line.starts_with("| `"));
        let rows: BTreeSet<String> = rows.map(str::to_owned).collect();
        let row = |family: &Family| {
            let about = family.about();
            let labels = about.labels.iter().map(|label| format!("`{label}`"));
            let labels: Vec<String> = labels.collect();
            let kind = match about.kind {
                Kind::Counter => "counter",
                Kind::Gauge => "gauge",
            };
            format!(
                "| `{}` | {kind} | {} | {} |",
                family.sample(),
                if labels.is_empty() {
                    "–".to_owned()
                } else {
                    labels.join(" ")
                },
                about.help()
            )
        };
        let expected: BTreeSet<String> = Family::ALL.iter().map(row).collect();
        let missing: Vec<_> = expected.difference(&rows).collect();
        let unknown: Vec<_> = rows.difference(&expected).collect();
        assert!(
            missing.is_empty() && unknown.is_empty(),
            "docs/metrics.md lacks {missing:#?} and has {unknown:#?}"
        );
    }

    #[test]
    fn names_keep_the_rules_of_prometheus_and_are_different() {
        let names: BTreeSet<_> = Family::ALL.iter().map(|of| of.about().name).collect();
        assert_eq!(names.len(), Family::ALL.len());
        for family in Family::ALL {
            let (name, help) = (family.about().name, family.about().help());
            assert!(
                name.starts_with("geodns_") || name.starts_with("process_"),
                "{name}"
            );
            assert!(!name.ends_with("_total"), "{name}: the type says so");
            assert!(
                help.ends_with('.') && !help.contains('\n'),
                "{name}: {help}"
            );
        }
    }
}

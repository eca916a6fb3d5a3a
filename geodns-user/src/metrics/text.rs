//! Metrics as text: OpenMetrics, or what Prometheus read before there was that.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeLabel, EncodeLabelSet, LabelSetEncoder, NoLabelSet, text,
};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

use super::family::Kind;
use super::snapshot::{Label, Series, Snapshot, Value};

/// A form of the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// OpenMetrics 1.0.
    OpenMetrics,
    /// Prometheus' text format 0.0.4.
    Plain,
}

impl Format {
    /// The form that a client asks for by its header Accept.
    pub fn of(accept: Option<&str>) -> Self {
        match accept {
            Some(accept) if accept.contains("application/openmetrics-text") => Self::OpenMetrics,
            _ => Self::Plain,
        }
    }

    /// Its media type.
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Plain => "text/plain; version=0.0.4; charset=utf-8",
        }
    }
}

/// Writes a snapshot.
pub fn write(snapshot: Snapshot, format: Format) -> Result<String, fmt::Error> {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Scrape(snapshot)));
    let mut text = String::new();
    text::encode(&mut text, &registry)?;
    Ok(match format {
        Format::OpenMetrics => text,
        Format::Plain => plain(&text),
    })
}

/// A snapshot, as the encoder takes it.
#[derive(Debug)]
struct Scrape(Snapshot);

impl Collector for Scrape {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        for (family, all) in self.0.families() {
            let about = family.about();
            let kind = match about.kind {
                Kind::Counter => MetricType::Counter,
                Kind::Gauge => MetricType::Gauge,
            };
            let mut metric = encoder.encode_descriptor(about.name, about.help(), None, kind)?;
            for Series { labels, value } in all {
                let labels = Labels(about.labels, labels);
                let mut series = metric.encode_family(&labels)?;
                match (about.kind, value) {
                    (Kind::Counter, Value::Whole(value)) => {
                        series.encode_counter::<NoLabelSet, _, u64>(value, None)?;
                    }
                    (Kind::Counter, Value::Real(value)) => {
                        series.encode_counter::<NoLabelSet, _, u64>(value, None)?;
                    }
                    (Kind::Gauge, Value::Whole(value)) => series.encode_gauge(value)?,
                    (Kind::Gauge, Value::Real(value)) => series.encode_gauge(value)?,
                }
            }
        }
        Ok(())
    }
}

/// Labels: their names and values.
#[derive(Debug)]
struct Labels<'a>(&'a [&'static str], &'a [Label]);

impl EncodeLabelSet for Labels<'_> {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> fmt::Result {
        let Self(names, values) = self;
        names
            .iter()
            .zip(*values)
            .try_for_each(|(name, value)| (*name, &**value).encode(encoder.encode_label()))
    }
}

/// OpenMetrics as the older text: a counter is described by the name of its samples, and nothing marks the end.
fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut help = None;
    for line in text.split_inclusive('\n') {
        if let Some(described) = line.strip_prefix("# HELP ") {
            help = described.split_once(' ');
        } else if let Some(typed) = line.strip_prefix("# TYPE ") {
            let (name, kind) = typed.split_once(' ').unwrap_or((typed, "\n"));
            let suffix = match kind {
                "counter\n" => "_total",
                _ => "",
            };
            if let Some((_, help)) = help.take() {
                plain.extend(["# HELP ", name, suffix, " ", help]);
            }
            plain.extend(["# TYPE ", name, suffix, " ", kind]);
        } else if line != "# EOF\n" {
            plain.push_str(line);
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::super::family::Family;
    use super::*;

    fn snapshot() -> Snapshot {
        let mut snapshot = Snapshot::new(10);
        snapshot.put(Family::PlanGeneration, 7);
        snapshot.put(Family::ProcessCpu, 1.5);
        snapshot.put_words(Family::XdpPackets, ["answered"], u64::MAX);
        snapshot.put_words(Family::DatabaseBuilt, ["a \"b\"\\\n"], 1);
        snapshot
    }

    #[test]
    fn both_forms_are_as_their_readers_want_them() {
        let open = write(snapshot(), Format::OpenMetrics).unwrap();
        assert_eq!(
            open,
            "# HELP geodns_plan_generation Number of the plan in force, counted up by each new one.\n\
             # TYPE geodns_plan_generation gauge\n\
             geodns_plan_generation 7\n\
             # HELP geodns_xdp_packets Packets that the XDP program saw, each once, by verdict.\n\
             # TYPE geodns_xdp_packets counter\n\
             geodns_xdp_packets_total{verdict=\"answered\"} 18446744073709551615\n\
             # HELP geodns_database_build_timestamp_seconds Time at which a GeoIP database was built.\n\
             # TYPE geodns_database_build_timestamp_seconds gauge\n\
             geodns_database_build_timestamp_seconds{file=\"a \\\"b\\\"\\\\\\n\"} 1\n\
             # HELP process_cpu_seconds CPU time of the daemon in user and system mode.\n\
             # TYPE process_cpu_seconds counter\n\
             process_cpu_seconds_total 1.5\n\
             # EOF\n"
        );
        let plain = write(snapshot(), Format::Plain).unwrap();
        let expected = open
            .replace("HELP geodns_xdp_packets ", "HELP geodns_xdp_packets_total ")
            .replace("TYPE geodns_xdp_packets ", "TYPE geodns_xdp_packets_total ")
            .replace(
                "HELP process_cpu_seconds ",
                "HELP process_cpu_seconds_total ",
            )
            .replace(
                "TYPE process_cpu_seconds ",
                "TYPE process_cpu_seconds_total ",
            )
            .replace("# EOF\n", "");
        assert_eq!(plain, expected);
    }

    #[test]
    fn the_header_accept_chooses() {
        let modern = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.2";
        assert_eq!(Format::of(Some(modern)), Format::OpenMetrics);
        for other in [None, Some("*/*"), Some("text/plain")] {
            assert_eq!(Format::of(other), Format::Plain);
        }
    }
}

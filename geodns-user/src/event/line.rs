//! A line of the log becomes an event, if it has a field `event`.
//!
//! Whatever it quotes is escaped and cut short: an event is safe to show, and its size has a bound.

use std::fmt;
use std::sync::Arc;

use tracing::field::{Field, Visit};
use tracing::{Metadata, Subscriber, metadata::LevelFilter};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::{FilterExt, filter_fn};
use tracing_subscriber::layer::Context;

use super::{Event, Journal, Kind, Level};
use crate::base::clock::now_unix_ms;
use crate::printable;

/// Field that names the kind.
pub const FIELD: &str = "event";
/// Characters of a sentence, at the most.
const MAX_TEXT: usize = 400;
/// Characters of every other field, at the most.
const MAX_FIELD: usize = 255;

/// Has the journal take events from the log, whatever lines the log itself shows.
pub fn layer<S>(journal: Arc<Journal>) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'a> tracing_subscriber::registry::LookupSpan<'a>,
{
    let may_be = filter_fn(may_be_event).and(LevelFilter::INFO);
    Box::new(Lines(journal).with_filter(may_be))
}

fn may_be_event(line: &Metadata<'_>) -> bool {
    line.target().starts_with("geodns") && line.fields().field(FIELD).is_some()
}

struct Lines(Arc<Journal>);

impl<S: Subscriber> Layer<S> for Lines {
    fn on_event(&self, line: &tracing::Event<'_>, _: Context<'_, S>) {
        let mut fields = Fields::default();
        line.record(&mut fields);
        let Some(kind) = fields.kind else { return };
        let level = match *line.metadata().level() {
            tracing::Level::ERROR => Level::Error,
            tracing::Level::WARN => Level::Warn,
            _ => Level::Info,
        };
        self.0.add(Event {
            seq: 0,
            time_unix_ms: now_unix_ms(),
            kind,
            level,
            mirror: fields.mirror,
            address: fields.address,
            pools: fields.pools,
            prefix: fields.prefix,
            zone: fields.zone,
            interface: fields.interface,
            state: fields.state,
            cause: fields.cause,
            by: fields.by,
            uid: fields.uid,
            text: fields.text,
        });
    }
}

/// Fields of a line that an event has, too.
#[derive(Default)]
struct Fields {
    kind: Option<Kind>,
    mirror: Option<String>,
    address: Option<String>,
    pools: Vec<String>,
    prefix: Option<String>,
    zone: Option<String>,
    interface: Option<String>,
    state: Option<String>,
    cause: Option<String>,
    by: Option<String>,
    uid: Option<u32>,
    text: String,
}

/// Text that is safe to show, cut short.
fn bounded(text: &str, most: usize) -> String {
    let cut = text.char_indices().nth(most).map(|(at, _)| &text[..at]);
    let mut short = printable::line(cut.unwrap_or(text)).into_owned();
    if cut.is_some() {
        short.push('…');
    }
    short
}

impl Fields {
    fn put(&mut self, name: &str, value: &str) {
        let field = match name {
            FIELD => {
                self.kind = Kind::parse(value);
                return;
            }
            "message" => {
                self.text = bounded(value, MAX_TEXT);
                return;
            }
            "pool" | "pools" => {
                let ids = value.split(',').filter(|id| !id.is_empty());
                self.pools.extend(ids.map(|id| bounded(id, MAX_FIELD)));
                self.pools.truncate(64);
                return;
            }
            "mirror" => &mut self.mirror,
            "address" => &mut self.address,
            "prefix" => &mut self.prefix,
            "zone" => &mut self.zone,
            "interface" => &mut self.interface,
            "state" => &mut self.state,
            "cause" => &mut self.cause,
            "by" => &mut self.by,
            _ => return,
        };
        *field = Some(bounded(value, MAX_FIELD)).filter(|value| !value.is_empty());
    }
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field.name(), value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        if field.name() == "uid" {
            self.uid = u32::try_from(value).ok();
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field.name(), &format!("{value:?}"));
    }
}

#[cfg(test)]
mod tests {
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    fn logged(log: impl FnOnce()) -> Vec<Event> {
        let journal = Arc::new(Journal::default());
        let subscriber = tracing_subscriber::registry().with(layer(Arc::clone(&journal)));
        tracing::subscriber::with_default(subscriber, log);
        let events = journal.after(0, usize::MAX).events;
        events.iter().map(|event| (**event).clone()).collect()
    }

    #[test]
    fn a_line_with_the_field_is_an_event_with_its_fields() {
        let events = logged(|| {
            tracing::info!(mirror = "ams", "no event");
            tracing::warn!(
                event = Kind::MirrorOut.name(),
                mirror = "ams",
                pools = "www,cdn",
                address = %"192.0.2.1",
                state = ?1,
                before = None::<&str>,
                user = Some("root"),
                uid = Some(1000_u32),
                cause = "status 503\u{1b}[2J",
                "mirror {}: out of service\n",
                "ams"
            );
            tracing::error!(event = None::<&str>, "none this time");
            tracing::error!(event = "unheard_of", "none at all");
            tracing::debug!(event = Kind::MirrorOut.name(), "none that the log may show");
        });
        let [event] = &events[..] else {
            panic!("{events:?}");
        };
        assert_eq!(event.kind, Kind::MirrorOut);
        assert_eq!((event.seq, event.level), (1, Level::Warn));
        assert_eq!(event.mirror.as_deref(), Some("ams"));
        assert_eq!(event.address.as_deref(), Some("192.0.2.1"));
        assert_eq!(event.state.as_deref(), Some("1"));
        assert_eq!(event.pools, ["www", "cdn"]);
        assert_eq!(event.uid, Some(1000));
        assert_eq!(event.cause.as_deref(), Some("status 503\\u001b[2J"));
        assert_eq!(event.text, "mirror ams: out of service\\u000a");
    }

    #[test]
    fn whatever_a_stranger_says_an_event_is_bounded() {
        let long = "\u{1b}é".repeat(10_000);
        let events = logged(|| {
            tracing::info!(
                event = Kind::Monitor.name(),
                mirror = long,
                pools = ",a,".repeat(1000),
                "{long}"
            );
        });
        let json = serde_json::to_string(&events[0]).unwrap();
        assert!(json.len() < 8 << 10, "{}", json.len());
        assert!(events[0].text.ends_with('…'));
    }
}

//! Logs: to standard error, in words for people or in JSON for programs.
//!
//! `GEODNS_LOG` says which lines are logged, else `RUST_LOG` (`debug`, `info,geodns::serve=debug`); else `info`
//! and above are. Where systemd's journal listens, lines carry no time of their own.
//!
//! An event is one line, whatever it quotes: `Printable` lets no character through that a terminal obeys.

use std::env::{self, VarError};
use std::fmt;
use std::io::{self, IsTerminal};
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;

use tracing::field::{Field, Visit};
use tracing_subscriber::field::RecordFields;
use tracing_subscriber::fmt::format::{JsonFields, Writer};
use tracing_subscriber::fmt::{FormatFields, MakeWriter};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry, registry};

use crate::event::{Journal, line};
use crate::printable;

/// Form of a line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// For people; coloured on a terminal.
    #[default]
    Human,
    /// One JSON object a line.
    Json,
}

/// Starts logging, and gives a journal its events. The error is one line.
pub fn start(format: Format, journal: Option<Arc<Journal>>) -> Result<(), String> {
    let style = Style {
        format,
        colour: io::stderr().is_terminal(),
        journal: journal_listens(),
    };
    let lines = lines(style, filter(|name| env::var(name))?, io::stderr);
    let subscriber = registry().with(lines).with(journal.map(line::layer));
    // Takes in what aya says through `log`, too: the fast path's sampled packets come that way.
    subscriber.try_init().map_err(|error| error.to_string())
}

#[derive(Clone, Copy, Debug)]
struct Style {
    format: Format,
    colour: bool,
    journal: bool,
}

fn filter(variable: impl Fn(&str) -> Result<String, VarError>) -> Result<EnvFilter, String> {
    for name in ["GEODNS_LOG", "RUST_LOG"] {
        let directives = match variable(name) {
            Ok(directives) if directives.is_empty() => continue,
            Ok(directives) => directives,
            Err(VarError::NotPresent) => continue,
            Err(VarError::NotUnicode(_)) => return Err(format!("{name} is not UTF-8")),
        };
        return EnvFilter::try_new(&directives).map_err(|error| {
            format!("{name}={directives:?}: {error}; write it like info,geodns::serve=debug")
        });
    }
    // The netlink client warns of what it drops at a stop.
    Ok(EnvFilter::new("info,netlink_proto=error"))
}

/// `JOURNAL_STREAM` names the device and inode of the stream to the journal. It is inherited by
/// children whose standard error may be another's, so both are compared.
fn journal_listens() -> bool {
    let Ok(stream) = env::var("JOURNAL_STREAM") else {
        return false;
    };
    std::fs::metadata("/proc/self/fd/2")
        .is_ok_and(|error| stream == format!("{}:{}", error.dev(), error.ino()))
}

/// Writes those lines that the filter lets through.
fn lines<W>(style: Style, filter: EnvFilter, writer: W) -> Box<dyn Layer<Registry> + Send + Sync>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let colour = style.colour && style.format == Format::Human;
    let lines = tracing_subscriber::fmt::layer()
        .with_ansi(colour)
        // Else it says on standard error that there is no writing to standard error, and panics when that fails.
        .log_internal_errors(false)
        .with_writer(Printable { writer, colour });
    match (style.format, style.journal) {
        (Format::Json, _) => {
            let lines = lines
                .json()
                .flatten_event(true)
                .fmt_fields(JsonFields::new());
            Box::new(lines.with_filter(filter))
        }
        (Format::Human, false) => {
            let lines = lines.compact().fmt_fields(Sentence).with_target(false);
            Box::new(lines.with_filter(filter))
        }
        (Format::Human, true) => {
            let lines = lines.compact().fmt_fields(Sentence).with_target(false);
            Box::new(lines.without_time().with_filter(filter))
        }
    }
}

/// Fields of a line for people: the sentence, and behind it what it does not say.
struct Sentence;

impl<'writer> FormatFields<'writer> for Sentence {
    fn format_fields<R: RecordFields>(&self, mut to: Writer<'writer>, from: R) -> fmt::Result {
        let mut fields = Fields::default();
        from.record(&mut fields);
        let Fields { message, others } = fields;
        write!(to, "{message}")?;
        let mut space = if message.is_empty() { "" } else { " " };
        for (name, value) in others {
            if says(&message, &value) {
                continue;
            }
            write!(to, "{space}")?;
            space = " ";
            match to.has_ansi_escapes() {
                true => write!(to, "\x1b[3m{name}\x1b[0m\x1b[2m=\x1b[0m{value}")?,
                false => write!(to, "{name}={value}")?,
            }
        }
        Ok(())
    }
}

/// Whether a sentence has a value in it, as words of its own.
fn says(message: &str, value: &str) -> bool {
    let value = value.trim_matches('"');
    let is_apart = |edge: Option<char>| edge.is_none_or(|edge| !edge.is_alphanumeric());
    message.match_indices(value).any(|(at, _)| {
        is_apart(message[..at].chars().next_back())
            && is_apart(message[at + value.len()..].chars().next())
    })
}

/// Parts of a line.
#[derive(Default)]
struct Fields {
    message: String,
    others: Vec<(&'static str, String)>,
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let value = printable::line(&format!("{value:?}")).into_owned();
        match field.name() {
            "message" => self.message = value,
            // Its kind, which the sentence says in other words.
            line::FIELD => {}
            name => self.others.push((name, value)),
        }
    }
}

/// Writes events as [`printable`] has them.
struct Printable<W> {
    writer: W,
    /// The formatter colours.
    colour: bool,
}

impl<'a, W: MakeWriter<'a>> MakeWriter<'a> for Printable<W> {
    type Writer = Printable<W::Writer>;

    fn make_writer(&'a self) -> Self::Writer {
        Printable {
            writer: self.writer.make_writer(),
            colour: self.colour,
        }
    }
}

impl<W: io::Write> io::Write for Printable<W> {
    /// Takes a whole event, as the formatter writes it: one line and its line feed.
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(event);
        let (text, end) = match text.strip_suffix('\n') {
            Some(text) => (text, "\n"),
            None => (&*text, ""),
        };
        let mut line = match self.colour {
            true => printable::coloured_line(text),
            false => printable::line(text).into_owned(),
        };
        line.push_str(end);
        self.writer.write_all(line.as_bytes())?;
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.writer.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    fn line(style: Style) -> String {
        logged(style, || {
            tracing::info!(interface = "eth0", "attached");
            tracing::debug!("hidden");
        })
    }

    fn logged(style: Style, log: impl FnOnce()) -> String {
        let written = Arc::new(Mutex::new(Vec::new()));
        let writer = {
            let written = written.clone();
            move || Writer(written.clone())
        };
        let filter = filter(|_| Err(VarError::NotPresent)).unwrap();
        let subscriber = registry().with(lines(style, filter, writer));
        tracing::subscriber::with_default(subscriber, log);
        let written = written.lock().unwrap();
        String::from_utf8(written.clone()).unwrap()
    }

    struct Writer(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Writer {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lines_suit_their_reader() {
        let style = |format, journal| Style {
            format,
            colour: false,
            journal,
        };
        assert_eq!(
            line(style(Format::Human, true)),
            " INFO attached interface=\"eth0\"\n"
        );
        let human = line(style(Format::Human, false));
        assert!(
            human.starts_with("20") && human.ends_with("Z  INFO attached interface=\"eth0\"\n"),
            "{human}"
        );
        let json: serde_json::Value =
            serde_json::from_str(&line(style(Format::Json, false))).unwrap();
        assert_eq!(json["level"], "INFO");
        assert_eq!(json["message"], "attached");
        assert_eq!(json["interface"], "eth0");
    }

    /// Each way in which an event can quote a stranger, in each form of line.
    #[test]
    fn an_event_is_one_line_that_no_terminal_obeys() {
        let evil = "\u{1b}[2J\u{9b}31m\u{7}\r\nforged\u{202e}\u{2028}\u{0}";
        for (format, journal, colour) in [
            (Format::Human, false, false),
            (Format::Human, true, false),
            (Format::Human, false, true),
            (Format::Json, false, false),
        ] {
            let style = Style {
                format,
                colour,
                journal,
            };
            let text = logged(style, || {
                tracing::warn!(reason = evil, shown = %evil, debugged = ?evil, "down: {evil}");
                tracing::warn!("{evil}");
            });
            assert_eq!(text.matches('\n').count(), 2, "{style:?}: {text:?}");
            let is_colour = |part: &str| {
                let digits = part.trim_start_matches(|c: char| c.is_ascii_digit() || c == ';');
                part.starts_with(|c: char| c.is_ascii_digit()) && digits.starts_with('m')
            };
            for line in text.lines() {
                let plain = match colour {
                    true => {
                        let parts = line.split("\u{1b}[");
                        assert!(parts.clone().skip(1).all(is_colour), "{line:?}");
                        parts.collect::<String>()
                    }
                    false => line.to_owned(),
                };
                assert!(
                    !plain.contains(printable::is_obeyed),
                    "{style:?}: {plain:?}"
                );
                assert!(plain.contains("forged"), "{plain:?}");
                if format == Format::Json {
                    let event: serde_json::Value = serde_json::from_str(line).unwrap();
                    assert!(event["message"].as_str().unwrap().ends_with(evil));
                }
            }
        }
    }

    #[test]
    fn people_read_a_sentence_and_what_it_does_not_say_and_programs_all_fields() {
        let say = || {
            tracing::warn!(
                mirror = "ams",
                address = %"192.0.2.10",
                cause = "timeout",
                pid = 9,
                user = None::<&str>,
                "mirror ams: 192.0.2.10 is down: timeout, pid 99\u{1b}[2J"
            );
        };
        let style = |format| Style {
            format,
            colour: false,
            journal: true,
        };
        assert_eq!(
            logged(style(Format::Human), say),
            " WARN mirror ams: 192.0.2.10 is down: timeout, pid 99\\u001b[2J pid=9\n"
        );
        let json: serde_json::Value =
            serde_json::from_str(&logged(style(Format::Json), say)).unwrap();
        assert_eq!(json["mirror"], "ams");
        assert_eq!(json["address"], "192.0.2.10");
        assert_eq!(json["cause"], "timeout");
        assert_eq!(json["pid"], 9);
        assert_eq!(json["user"], serde_json::Value::Null);
    }

    #[test]
    fn geodns_log_goes_before_rust_log() {
        let both = |name: &str| match name {
            "GEODNS_LOG" => Ok("debug".to_owned()),
            _ => Ok("error".to_owned()),
        };
        assert_eq!(filter(both).unwrap().to_string(), "debug");
        let rust = |name: &str| match name {
            "GEODNS_LOG" => Ok(String::new()),
            _ => Ok("error".to_owned()),
        };
        assert_eq!(filter(rust).unwrap().to_string(), "error");
        let wrong = filter(|_| Ok("geodns=loud".to_owned())).unwrap_err();
        assert!(wrong.starts_with("GEODNS_LOG=\"geodns=loud\": "), "{wrong}");
        assert_eq!(wrong.lines().count(), 1);
    }
}

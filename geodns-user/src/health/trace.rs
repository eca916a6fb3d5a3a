//! Traces: when a mirror's content was last brought up to date, and whether that is too long ago.
//!
//! A mirror that writes a trace each time it has copied its source says how old its content is. Too old counts as a
//! failed check. A trace that cannot be read says nothing of the content: it counts as failed only after a grace, since
//! the trace was last read, or since the daemon first asked for it.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::{Duration, Instant, SystemTime};

use crate::base::lock::lock;
use crate::config::{Fresh, TraceFormat};

/// A trace that is ahead of this clock by more is wrong: it would look fresh for too long.
const AHEAD: Duration = Duration::from_secs(3600);

/// The latest trace of each target, by its key.
#[derive(Debug, Default)]
pub struct Traces(Mutex<HashMap<String, Trace>>);

#[derive(Clone, Copy, Debug)]
struct Trace {
    /// Time that it named when it was last read.
    names: Option<SystemTime>,
    /// Time at which it was last read, or first asked for.
    read: Instant,
}

impl Traces {
    /// Time that the trace of a target named when it was last read.
    pub fn get(&self, key: &str) -> Option<SystemTime> {
        lock(&self.0).get(key)?.names
    }

    /// Forgets all traces but those of these targets.
    pub fn retain(&self, is_kept: impl Fn(&str) -> bool) {
        lock(&self.0).retain(|key, _| is_kept(key));
    }

    /// Takes what was read of a trace. Gives the reason why the check fails, if it does.
    pub fn judge(
        &self,
        key: &str,
        fresh: &Fresh,
        read: Result<SystemTime, String>,
        (now, clock): (Instant, SystemTime),
    ) -> Result<(), String> {
        let mut traces = lock(&self.0);
        let first = Trace {
            names: None,
            read: now,
        };
        let trace = traces.entry(key.to_owned()).or_insert(first);
        let named = read.and_then(|named| match named.duration_since(clock) {
            Ok(ahead) if ahead > AHEAD => Err(format!("{} ahead of this clock", words(ahead))),
            _ => Ok(named),
        });
        match named {
            Ok(named) => {
                *trace = Trace {
                    names: Some(named),
                    read: now,
                };
                let age = clock.duration_since(named).unwrap_or_default();
                if age <= fresh.max_age {
                    return Ok(());
                }
                Err(format!(
                    "trace: {} old, at most {}",
                    words(age),
                    words(fresh.max_age)
                ))
            }
            Err(reason) => {
                let unread = now.duration_since(trace.read);
                if unread < fresh.grace {
                    return Ok(());
                }
                Err(format!(
                    "trace: {reason}; not read for {}, at most {}",
                    words(unread),
                    words(fresh.grace)
                ))
            }
        }
    }
}

/// The time that a trace names: of its header `Last-Modified`, or of the start of its body.
pub fn parse(
    format: TraceFormat,
    last_modified: Option<&str>,
    body: &[u8],
) -> Result<SystemTime, String> {
    let line = || {
        let line = body.split(|&octet| octet == b'\n').next();
        line.and_then(|line| str::from_utf8(line).ok())
            .map_or("", str::trim)
    };
    let named = match format {
        TraceFormat::Epoch => {
            let seconds = line().parse().ok();
            seconds.and_then(|seconds| {
                SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds))
            })
        }
        TraceFormat::HttpDate => httpdate::parse_http_date(line()).ok(),
        TraceFormat::LastModified => {
            let Some(header) = last_modified else {
                return Err("no header Last-Modified".to_owned());
            };
            httpdate::parse_http_date(header).ok()
        }
        TraceFormat::DebianTrace => date_utc(line()),
    };
    named.ok_or_else(|| match format {
        TraceFormat::Epoch => "its first line is no number of seconds since 1970".to_owned(),
        TraceFormat::HttpDate => "its first line is no date of HTTP".to_owned(),
        TraceFormat::LastModified => "Last-Modified is no date of HTTP".to_owned(),
        TraceFormat::DebianTrace => "its first line is no output of date -u".to_owned(),
    })
}

/// `Thu Nov 26 08:19:12 UTC 2026`
fn date_utc(line: &str) -> Option<SystemTime> {
    let words: Vec<&str> = line.split_ascii_whitespace().collect();
    let [weekday, month, day, time, "UTC", year] = words[..] else {
        return None;
    };
    // That of asctime(), which HTTP knows, without the zone.
    httpdate::parse_http_date(&format!("{weekday} {month} {day:>2} {time} {year}")).ok()
}

/// A time in its largest unit: `7 h`.
fn words(time: Duration) -> String {
    match time.as_secs() {
        seconds if seconds >= 48 * 3600 => format!("{} d", seconds / (24 * 3600)),
        seconds if seconds >= 2 * 3600 => format!("{} h", seconds / 3600),
        seconds if seconds >= 120 => format!("{} min", seconds / 60),
        seconds => format!("{seconds} s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    #[test]
    fn each_format_names_its_time() {
        let at = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        for (format, last_modified, body) in [
            (TraceFormat::Epoch, None, "784111777\n"),
            (TraceFormat::Epoch, None, " 784111777\r\nmore\n\u{fc}"),
            (
                TraceFormat::HttpDate,
                None,
                "Sun, 06 Nov 1994 08:49:37 GMT\n",
            ),
            (
                TraceFormat::LastModified,
                Some("Sun, 06 Nov 1994 08:49:37 GMT"),
                "",
            ),
            (
                TraceFormat::DebianTrace,
                None,
                "Sun Nov  6 08:49:37 UTC 1994\nDate: Sun, 06 Nov 1994 09:00:00 +0000\n",
            ),
        ] {
            assert_eq!(
                parse(format, last_modified, body.as_bytes()),
                Ok(at),
                "{body}"
            );
        }
        for (format, last_modified, body, reason) in [
            (
                TraceFormat::Epoch,
                None,
                "-1",
                "its first line is no number of seconds since 1970",
            ),
            (
                TraceFormat::Epoch,
                None,
                "18446744073709551615",
                "its first line is no number of seconds since 1970",
            ),
            (
                TraceFormat::HttpDate,
                None,
                "",
                "its first line is no date of HTTP",
            ),
            (
                TraceFormat::LastModified,
                None,
                "1",
                "no header Last-Modified",
            ),
            (
                TraceFormat::LastModified,
                Some("yesterday"),
                "1",
                "Last-Modified is no date of HTTP",
            ),
            (
                TraceFormat::DebianTrace,
                None,
                "Sun Nov  6 08:49:37 CET 1994",
                "its first line is no output of date -u",
            ),
        ] {
            let parsed = parse(format, last_modified, body.as_bytes());
            assert_eq!(parsed, Err(reason.to_owned()), "{body}");
        }
    }

    #[test]
    fn a_trace_may_be_old_only_so_far_and_unread_only_so_long() {
        let (start, epoch) = (Instant::now(), SystemTime::UNIX_EPOCH + 1000 * HOUR);
        let fresh = Fresh {
            path: "/TIME".to_owned(),
            format: TraceFormat::Epoch,
            max_age: 6 * HOUR,
            grace: 24 * HOUR,
        };
        let traces = Traces::default();
        let at = |hours: u32| (start + hours * HOUR, epoch + hours * HOUR);
        let unread = || Err("status 404".to_owned());
        let judge = |hours, read| traces.judge("a", &fresh, read, at(hours));
        // Never read: kept for the grace.
        assert_eq!(judge(0, unread()), Ok(()));
        assert_eq!(judge(23, unread()), Ok(()));
        assert_eq!(traces.get("a"), None);
        let gone = "trace: status 404; not read for 24 h, at most 24 h";
        assert_eq!(judge(24, unread()), Err(gone.to_owned()));
        // Read: its age alone counts, at once.
        assert_eq!(judge(30, Ok(epoch + 24 * HOUR)), Ok(()));
        assert_eq!(traces.get("a"), Some(epoch + 24 * HOUR));
        let old = "trace: 7 h old, at most 6 h";
        assert_eq!(judge(31, Ok(epoch + 24 * HOUR)), Err(old.to_owned()));
        assert_eq!(judge(54, unread()), Ok(()));
        // A clock that is a little behind is none of the mirror's faults.
        assert_eq!(judge(60, Ok(epoch + 61 * HOUR)), Ok(()));
        assert_eq!(judge(61, Ok(epoch + 90 * HOUR)), Ok(()));
        assert_eq!(traces.get("a"), Some(epoch + 61 * HOUR));
        let ahead = "trace: 5 h ahead of this clock; not read for 25 h, at most 24 h";
        assert_eq!(judge(85, Ok(epoch + 90 * HOUR)), Err(ahead.to_owned()));
        traces.retain(|key| key != "a");
        assert_eq!(traces.get("a"), None);
    }
}

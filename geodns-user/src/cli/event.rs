//! `geodns events`: what has happened, and what happens.

use std::fmt::Write as _;

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};

use super::output::{print, print_json, show};
use crate::base::clock::utc;
use crate::control::client::{Chunks, Client};
use crate::control::event::EventsQuery;
use crate::event::{Event, Kind, Level};

/// Events before those that come, unless `--since` says where to begin.
const BEFORE: u32 = 10;

/// `geodns events`
#[derive(Args, Debug)]
pub struct Arguments {
    /// Go on with events as they come
    #[arg(short, long)]
    pub follow: bool,
    /// Events after this one: a number, a time such as 2026-11-30T20:15:00Z, or how long ago, such as 1h
    #[arg(long, value_name = "EVENT")]
    pub since: Option<String>,
    /// Only of these kinds
    #[arg(long, value_delimiter = ',', value_parser = kind)]
    pub kind: Vec<Kind>,
    /// Only of this mirror
    #[arg(long, value_name = "MIRROR")]
    pub mirror: Option<String>,
    /// Number of events, at the most [default: 100; with --follow: 10 and those that come]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub limit: Option<u32>,
}

fn kind(text: &str) -> Result<Kind, String> {
    Kind::parse(text).ok_or_else(|| format!("write one of {}", Kind::names()))
}

/// Prints events, and follows them if that is asked for.
pub async fn ask(of: Arguments, client: &Client, json: bool) -> anyhow::Result<()> {
    let kinds: Vec<&str> = of.kind.iter().map(|kind| kind.name()).collect();
    let query = EventsQuery {
        since: of.since,
        kind: (!kinds.is_empty()).then(|| kinds.join(",")),
        mirror: of.mirror,
        limit: of.limit.or(of.follow.then_some(BEFORE)),
        follow: of.follow,
    };
    if of.follow {
        return follow(client.follow_events(&query).await?, json).await;
    }
    print(&show(client.events(&query).await?, json, lines)?)
}

async fn follow(mut stream: Chunks, json: bool) -> anyhow::Result<()> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut waiting = Vec::new();
    loop {
        let chunk = tokio::select! {
            chunk = stream.next() => chunk?,
            _ = interrupt.recv() => return Ok(()),
            _ = terminate.recv() => return Ok(()),
        };
        let Some(chunk) = chunk else {
            anyhow::bail!("the daemon has ended the events: see its log");
        };
        waiting.extend_from_slice(&chunk);
        while let Some(end) = waiting.iter().position(|octet| *octet == b'\n') {
            let line: Vec<u8> = waiting.drain(..=end).collect();
            // Of a server-sent event; its number is in there, too.
            let Some(data) = line.strip_prefix(b"data: ") else {
                continue;
            };
            match json {
                true => print_json(data)?,
                false => print(&self::line(&serde_json::from_slice(data)?))?,
            }
        }
    }
}

fn lines(events: Vec<Event>) -> String {
    events.iter().map(line).collect()
}

/// `2026-11-30T20:15:00.250Z  warn   mirror_out  mirror ams goes out of service: ...`
pub fn line(event: &Event) -> String {
    let mut line = String::new();
    let level = match event.level {
        Level::Info => "info",
        Level::Warn => "warn",
        Level::Error => "error",
    };
    let (time, kind) = (utc(event.time_unix_ms), event.kind.name());
    let _ = writeln!(line, "{time}  {level:5}  {kind:15}  {}", event.text);
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_a_line() {
        let event = Event::of(7, Kind::MirrorOut, Some("ams"));
        assert_eq!(
            line(&event),
            "1970-01-01T00:00:07.000Z  info   mirror_out       mirror_out 7\n"
        );
        assert!(kind("mirror").unwrap_err().contains("mirror_out"));
    }
}

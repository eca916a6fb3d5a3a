//! `geodns stats`: the counters, once, or again and again with rates.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal};
use std::time::{Duration, Instant};

use clap::Args;
use crossterm::terminal::size;
use geodns_common::verdict::Fate;
use tokio::time::{MissedTickBehavior, interval};

use super::output::{NUMBER, TEXT, print, print_json, print_raw, render, show, terminal_width};
use crate::control::client::Client;
use crate::control::status::{InterfaceStats, Stats};
use crate::observe;
use crate::serve;

/// `geodns stats`
#[derive(Args, Debug)]
pub struct Arguments {
    /// Also show counters that are zero
    #[arg(long)]
    pub all: bool,
    /// Show them with rates, again every SECONDS [default: 1]
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "1", value_parser = seconds)]
    pub watch: Option<Duration>,
}

/// Asks the daemon, once or until it cannot, and prints what it says.
pub async fn ask(of: Arguments, client: &Client, json: bool) -> anyhow::Result<()> {
    if let Some(every) = of.watch {
        return watch(client, every, of.all, json).await;
    }
    let text = |now: Stats| stats(&now, None, of.all, terminal_width());
    print(&show(client.stats().await?, json, text)?)
}

/// Clears the screen and goes to its first line.
const CLEAR: &[u8] = b"\x1b[2J\x1b[H";

/// Shows the counters every `every`, until it cannot. On a terminal each picture takes the place of
/// the one before; elsewhere an empty line stands between them.
async fn watch(client: &Client, every: Duration, all: bool, json: bool) -> anyhow::Result<()> {
    let terminal = io::stdout().is_terminal();
    let mut before: Option<(Instant, Stats)> = None;
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let reply = client.stats().await?;
        let at = Instant::now();
        if json {
            print_json(&reply.body)?;
            continue;
        }
        let now: Stats = reply.json()?;
        let since = before.as_ref().map(|(then, stats)| (stats, at - *then));
        let mut text = stats(&now, since, all, terminal_width());
        match (terminal, &before) {
            (true, _) => {
                print_raw(CLEAR)?;
                text = fitting(&text, size().map_or(usize::MAX, |(_, rows)| rows.into()));
            }
            (false, None) => {}
            (false, Some(_)) => print("\n")?,
        }
        print(&text)?;
        before = Some((at, now));
    }
}

/// As many lines as a screen has; the last says how many there is no room for.
fn fitting(text: &str, rows: usize) -> String {
    let lines: Vec<&str> = text.lines().collect();
    if lines.len() < rows {
        return text.to_owned();
    }
    let shown = rows.saturating_sub(2);
    let mut text: String = lines[..shown]
        .iter()
        .flat_map(|line| [line, "\n"])
        .collect();
    text += &format!(
        "({} more lines: make the terminal taller)",
        lines.len() - shown
    );
    text
}

/// `geodns stats`; with rates since an earlier picture, and folded to a width.
fn stats(now: &Stats, before: Option<(&Stats, Duration)>, all: bool, width: Option<u16>) -> String {
    let of_kernel: Vec<(String, String)> = observe::counters::meanings().collect();
    let fast = counters(
        "FAST PATH",
        of_kernel
            .iter()
            .map(|(name, meaning)| (&**name, &**meaning)),
        &now.kernel,
        before.map(|(stats, since)| (&stats.kernel, since)),
        all,
        width,
    );
    let slow = counters(
        "SLOW PATH",
        serve::Stats::MEANINGS.iter().copied(),
        &now.slow,
        before.map(|(stats, since)| (&stats.slow, since)),
        all,
        width,
    );
    let interfaces = interfaces(&now.interfaces, all, width);
    let dnstap = now.dnstap.as_ref().map_or_else(String::new, |dnstap| {
        format!(
            "\ndnstap: {} exchanges written, {} lost\n",
            dnstap.written, dnstap.lost
        )
    });
    format!("{fast}\n{slow}{interfaces}{dnstap}")
}

/// What became of packets, by interface; one interface alone has nothing to be compared with.
fn interfaces(now: &[InterfaceStats], all: bool, width: Option<u16>) -> String {
    let is_worth_it = |of: &InterfaceStats| of.blind || of.dropped_by_driver.unwrap_or(0) > 0;
    if now.len() < 2 && !all && !now.iter().any(is_worth_it) {
        return String::new();
    }
    let columns = [
        ("INTERFACE", TEXT),
        ("ANSWERED", NUMBER),
        ("LOST BY DRIVER", NUMBER),
        ("DROPPED", NUMBER),
        ("PASSED", NUMBER),
        ("SLOW PATH GOT", NUMBER),
        ("PASSED UNREAD", TEXT),
    ];
    let rows = now.iter().map(|of| {
        let count = |fate: Fate| of.kernel.get(fate.name()).copied().unwrap_or(0);
        let unread = Fate::ALL
            .iter()
            .filter(|fate| fate.is_unread() && count(**fate) > 0);
        let mut unread: Vec<String> = unread
            .map(|fate| format!("{} {}", fate.name(), count(*fate)))
            .collect();
        if of.blind {
            unread.push("blind: see geodns status".to_owned());
        }
        let mut row = vec![of.interfaces.join(", ")];
        let lost = of
            .dropped_by_driver
            .map_or("not told".to_owned(), |count| count.to_string());
        row.extend([count(Fate::Answered).to_string(), lost]);
        row.extend([Fate::Dropped, Fate::Passed].map(|fate| count(fate).to_string()));
        row.extend([of.slow.to_string(), unread.join(", ")]);
        row
    });
    format!("\n{}", render(&columns, rows, width))
}

type Counts = BTreeMap<String, u64>;

fn counters<'a>(
    heading: &str,
    meanings: impl Iterator<Item = (&'a str, &'a str)>,
    now: &Counts,
    before: Option<(&Counts, Duration)>,
    all: bool,
    width: Option<u16>,
) -> String {
    let meanings: Vec<_> = meanings.collect();
    // A daemon of another version may know more counters than we do.
    let unknown = now
        .keys()
        .map(String::as_str)
        .filter(|name| meanings.iter().all(|(known, _)| known != name))
        .map(|name| (name, ""));
    let mut rows: Vec<_> = meanings
        .iter()
        .copied()
        .chain(unknown)
        .map(|(name, meaning)| (name, meaning, now.get(name).copied().unwrap_or(0)))
        .filter(|(_, _, count)| all || *count != 0)
        .collect();
    rows.sort_by_key(|(_, _, count)| *count == 0);
    let rate = |name: &str, count: u64| {
        before.map(|(before, since)| {
            // Counters that started anew have counted all of it since.
            let delta = match before.get(name) {
                Some(&earlier) => count.checked_sub(earlier).unwrap_or(count),
                None => count,
            };
            format!(
                "{:.0}",
                delta as f64 / since.as_secs_f64().max(f64::EPSILON)
            )
        })
    };
    let mut columns = vec![(heading, TEXT), ("COUNT", NUMBER)];
    if before.is_some() {
        columns.push(("PER SECOND", NUMBER));
    }
    columns.push(("MEANING", TEXT));
    if rows.is_empty() {
        return format!("{heading}: nothing counted yet\n");
    }
    render(
        &columns,
        rows.into_iter().map(|(name, meaning, count)| {
            let mut row = vec![name.to_owned(), count.to_string()];
            row.extend(rate(name, count));
            row.push(meaning.trim().to_owned());
            row
        }),
        width,
    )
}

fn seconds(text: &str) -> Result<Duration, String> {
    text.parse()
        .ok()
        .filter(|seconds| (0.1..=86_400.0).contains(seconds))
        .map(Duration::from_secs_f64)
        .ok_or_else(|| "from 0.1 to 86400 seconds".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::args::Command;
    use crate::cli::args::tests::{parse, usage};

    #[test]
    fn watch_has_an_interval() {
        let watch = |line: &str| match parse(line).unwrap().command {
            Command::Stats(stats) => stats.watch,
            other => panic!("{other:?}"),
        };
        assert_eq!(watch("geodns stats"), None);
        assert_eq!(watch("geodns stats --watch"), Some(Duration::from_secs(1)));
        assert_eq!(
            watch("geodns stats --watch --all"),
            Some(Duration::from_secs(1))
        );
        assert_eq!(
            watch("geodns stats --watch 2.5"),
            Some(Duration::from_millis(2500))
        );
        for wrong in ["0", "-1", "nan", "1e9", "soon"] {
            usage(&format!("geodns stats --watch={wrong}"));
        }
    }

    #[test]
    fn counters_fit_the_terminal() {
        let named = observe::counters::meanings().map(|(name, _)| (name, 1_234_567_890));
        let slow = serve::Stats::MEANINGS
            .iter()
            .map(|(name, _)| ((*name).to_owned(), 7));
        let now = Stats {
            kernel: named.collect(),
            slow: slow.collect(),
            ..Stats::default()
        };
        let whole = stats(&now, None, true, None);
        for width in [80, 100, 200] {
            let before = Some((&now, Duration::from_secs(1)));
            let text = stats(&now, before, true, Some(width));
            for line in text.lines() {
                assert!(
                    line.chars().count() <= usize::from(width),
                    "{width}: {line}"
                );
            }
            // Nothing is lost on the way: each word of each meaning is there.
            for word in whole.split_whitespace() {
                assert!(text.contains(word), "{width}: {word}");
            }
        }
    }

    #[test]
    fn the_first_line_stays_on_the_screen() {
        assert_eq!(fitting("a\nb\n", 3), "a\nb\n");
        let cut = fitting("a\nb\nc\nd\n", 4);
        assert_eq!(cut, "a\nb\n(2 more lines: make the terminal taller)");
        assert_eq!(
            fitting("a\nb\n", 0),
            "(2 more lines: make the terminal taller)"
        );
    }
}

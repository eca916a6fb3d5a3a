//! `geodns stats --watch`: the counters again and again, with rates.

use std::io::{self, IsTerminal};
use std::time::{Duration, Instant};

use crossterm::terminal::size;
use tokio::time::{MissedTickBehavior, interval};

use super::{print, print_json, print_raw, show};
use crate::control::client::Client;
use crate::control::status::Stats;

/// Clears the screen and goes to its first line.
const CLEAR: &[u8] = b"\x1b[2J\x1b[H";

/// Shows the counters every `every`, until it cannot. On a terminal each picture takes the place of
/// the one before; elsewhere an empty line stands between them.
pub async fn watch(client: &Client, every: Duration, all: bool, json: bool) -> anyhow::Result<()> {
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
        let mut text = show::stats(&now, since, all, show::terminal_width());
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

#[cfg(test)]
mod tests {
    use super::*;

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

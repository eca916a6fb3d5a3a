//! `geodns stats --watch`: the counters again and again, with rates.

use std::io::{self, IsTerminal};
use std::time::{Duration, Instant};

use tokio::time::{MissedTickBehavior, interval};

use super::{print, print_bytes, show, with_newline};
use crate::control::api::Stats;
use crate::control::client::Client;

/// Clears the screen and goes to its first line.
const CLEAR: &str = "\x1b[2J\x1b[H";

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
            print_bytes(&with_newline(&reply.body))?;
            continue;
        }
        let now: Stats = reply.json()?;
        let since = before.as_ref().map(|(then, stats)| (stats, at - *then));
        let text = show::stats(&now, since, all);
        match (terminal, &before) {
            (true, _) => print(&format!("{CLEAR}{text}"))?,
            (false, None) => print(&text)?,
            (false, Some(_)) => print(&format!("\n{text}"))?,
        }
        before = Some((at, now));
    }
}

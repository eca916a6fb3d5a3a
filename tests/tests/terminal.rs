//! The command line on real terminals of several sizes, and what strangers say shown on them.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use geodns_tests::built::binary;
use geodns_tests::daemon::{Daemon, Setup};
use geodns_tests::dns::{self, A, Query};
use geodns_tests::needs_root;
use geodns_tests::net::{Pair, at, ip};
use geodns_tests::terminal::Terminal;

const SERVER: &str = "192.0.2.53";
const CLIENT: &str = "10.1.0.1";
const LONG: Duration = Duration::from_secs(20);

fn command(daemon: &Daemon, words: &str) -> Result<Command> {
    let mut command = Command::new(binary()?);
    command.arg("--socket").arg(daemon.home.socket());
    command.args(words.split_whitespace());
    Ok(command)
}

/// Asks for a while, so that there is something to see.
fn ask(pair: &Pair) -> Result<()> {
    let socket = pair.client.udp(ip(CLIENT), at(SERVER, 53)?)?;
    for name in ["www.example.org", "nowhere.example.org"] {
        for _ in 0..100 {
            dns::ask(
                &socket,
                &Query::new(name, A).bytes(),
                Duration::from_millis(500),
            )?;
        }
    }
    Ok(())
}

#[test]
fn top_fits_every_terminal_and_takes_keys() -> Result<()> {
    needs_root!();
    let pair = Pair::new(&[CLIENT])?;
    let daemon = Daemon::start(&pair.server, &Setup::example(&[SERVER]))?;
    let mut terminal = Terminal::start(command(&daemon, "top")?, 24, 80)?;
    terminal.until("the beginning", |rows| rows[0].contains("first second"))?;
    let has_name = |rows: &[String]| rows.iter().any(|row| row.contains("www.example.org"));
    let end = Instant::now() + LONG;
    let mut seen = false;
    while !seen && Instant::now() < end {
        ask(&pair)?;
        seen = has_name(&terminal.rows());
    }
    ensure!(seen, "{}", terminal.rows().join("\n"));
    // Nothing moves while somebody looks.
    terminal.type_in("p")?;
    let rows = terminal.until("a pause", |rows| rows[23].contains("p:GO ON"))?;
    ensure!(rows[0].starts_with("queries/s"), "{}", rows.join("\n"));
    ensure!(has_name(&rows), "{}", rows.join("\n"));

    for (height, width) in [(15, 60), (50, 200), (24, 80)] {
        terminal.resize(height, width)?;
        let last = usize::from(height) - 1;
        let rows = terminal.until("totals above, keys below", |rows| {
            let is_whole = rows.len() == last + 1 && rows[last].starts_with("q:quit");
            is_whole && rows[0].starts_with("queries/s") && has_name(rows)
        })?;
        ensure!(!terminal.is_wrapped(), "{}", rows.join("\n"));
    }

    terminal.type_in("/nowhere\r")?;
    terminal.until("names that match alone", |rows| {
        let all = rows.join("\n");
        all.contains("nowhere.example") && !has_name(rows)
    })?;
    terminal.type_in("\u{1b}")?;
    terminal.until("all names again", has_name)?;
    terminal.type_in("z2")?;
    terminal.until("one list alone", |rows| {
        rows.join("\n").contains("CLIENTS") && !rows.join("\n").contains("VERDICT")
    })?;
    terminal.type_in("q")?;
    let status = terminal.ended()?;
    ensure!(status.success(), "{status}");
    // The terminal is as it was before.
    terminal.until("the terminal as before", |rows| {
        !rows[0].starts_with("queries/s")
    })?;
    Ok(())
}

#[test]
fn stats_fit_the_terminal() -> Result<()> {
    needs_root!();
    let pair = Pair::new(&[CLIENT])?;
    let daemon = Daemon::start(&pair.server, &Setup::example(&[SERVER]))?;
    ask(&pair)?;
    for width in [80, 132] {
        let mut terminal = Terminal::start(command(&daemon, "stats --all")?, 300, width)?;
        ensure!(terminal.ended()?.success());
        let rows = terminal.until("counters", |rows| rows.join("\n").contains("SLOW PATH"))?;
        ensure!(!terminal.is_wrapped(), "{}", rows.join("\n"));
    }
    let terminal = Terminal::start(command(&daemon, "stats --all --watch")?, 20, 80)?;
    let rows = terminal.until("the last row", |rows| rows[18].contains("more lines"))?;
    ensure!(rows[0].starts_with("FAST PATH"), "{}", rows.join("\n"));
    Ok(())
}

#[test]
fn a_terminal_obeys_nothing_that_a_stranger_says() -> Result<()> {
    needs_root!();
    let pair = Pair::new(&[CLIENT])?;
    let mut setup = Setup::example(&[SERVER]).mode("off");
    setup.interfaces.clear();
    setup.body += "[health]\nfeed = \"feed.csv\"\n";
    let evil = "\u{1b}]0;owned\u{7}\u{1b}[2J\u{9b}31m\u{202e}gone";
    let setup = setup.file("feed.csv", &format!("ams,down,{evil}\nnobody{evil},up\n"));
    let daemon = Daemon::start(&pair.server, &setup)?;
    daemon.logged("gone")?;
    // In 24 rows and 80 columns, what a terminal makes of it; and in a pipe, what is there.
    for words in [
        "mirror list",
        "mirror show ams",
        "--json mirror show ams",
        "mirrors",
    ] {
        let text = daemon.ok(words)?;
        let obeyed = |c: char| c != '\n' && geodns::printable::is_obeyed(c);
        ensure!(text.contains("gone"), "{words}: {text:?}");
        ensure!(!text.contains(obeyed), "{words}: {text:?}");
    }
    let log = daemon.log();
    ensure!(log.contains("nobody") && log.contains("gone"), "{log:?}");
    ensure!(
        !log.contains(|c: char| c != '\n' && geodns::printable::is_obeyed(c)),
        "{log:?}"
    );
    Ok(())
}

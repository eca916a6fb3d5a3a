//! `geodns fleet apply`, `rollback`, `rollout`, `history` and `diff`: bundles rolled out over a fleet.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Subcommand;
use tokio::time::sleep;

use super::output::{NUMBER, TEXT, show, table};
use super::values::{Wait, over};
use crate::control::client::Client;
use crate::control::rollout::{Apply, BundleDiff, BundleFile, Rollout, Rollouts};

/// How long a canary is watched.
const WAIT: Duration = Duration::from_secs(300);
/// How often a rollout is asked for.
const EVERY: Duration = Duration::from_millis(250);

/// Commands of `geodns fleet` about rollouts.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Roll out a signed bundle: every node previews it, the canary runs it, then the others; FILE.minisig is its
    /// signature
    ///
    /// `--wait TIME` is the time that the canary is watched: 5m, if it is not given.
    Apply {
        /// The bundle
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// Number of nodes that begin, or the site whose nodes do
        #[arg(long, value_name = "N|SITE", default_value = "1")]
        canary: String,
        /// Refuse a bundle that gives more of the clients of a name another mirror
        #[arg(long, value_name = "SHARE", value_parser = share, default_value = "10%")]
        max_change: f64,
        /// Shares of all nodes that follow the canary, one after the other
        #[arg(long, value_name = "SHARES", value_parser = share, value_delimiter = ',', default_value = "25%,100%")]
        waves: Vec<f64>,
        /// Time in which all nodes must have previewed it, and those of a wave must run it
        #[arg(long, value_name = "TIME", value_parser = over, default_value = "60s")]
        within: Duration,
        /// Take an older bundle too, and one that moves more clients
        #[arg(long)]
        force: bool,
        /// Do not wait for the end
        #[arg(long)]
        detach: bool,
    },
    /// Take the rollout under way back; if there is none, go back to the bundle before the last one
    Rollback,
    /// Show the rollout under way, or the last one, and what each node says of it
    Rollout,
    /// List the rollouts that are over
    History,
    /// List the files of a bundle that differ from the bundle that this node runs
    ///
    /// The marks: + it has the file alone; - it has it no more; ~ it has another content; ! a GeoIP database, which has another
    /// content on this node than where the bundle was made.
    Diff {
        /// The bundle
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
}

/// Asks the daemon; the text to print.
pub async fn ask(
    command: Command,
    wait: Option<Wait>,
    client: &Client,
    json: bool,
) -> anyhow::Result<String> {
    match command {
        Command::Apply {
            file,
            canary,
            max_change,
            waves,
            within,
            force,
            detach,
        } => {
            let wait = match wait {
                None => WAIT,
                Some(Wait::For(time)) => time,
                Some(Wait::Here | Wait::All) => bail!(
                    "--wait: write the time that the canary is watched, such as 5m: a rollout reaches all nodes"
                ),
            };
            let apply = Apply {
                file: absolute(&file)?,
                canary,
                wait_ms: u64::try_from(wait.as_millis())?,
                within_ms: u64::try_from(within.as_millis())?,
                max_change,
                waves,
                force,
            };
            let begun: Rollouts = client.apply(&apply).await?.json()?;
            let number = begun.current.context("the daemon shows no rollout")?.number;
            match detach {
                true => show(client.rollout().await?, json, current),
                false => until_end_or_interrupt(client, number, json).await,
            }
        }
        Command::Rollback => {
            let begun: Rollouts = client.rollback().await?.json()?;
            let number = begun.current.context("the daemon shows no rollout")?.number;
            match until_end_or_interrupt(client, number, json).await {
                // Taken back, as was wanted.
                Err(error) if error.to_string().contains("the operator said so") => {
                    show(client.rollout().await?, json, current)
                }
                end => end,
            }
        }
        Command::Rollout => show(client.rollout().await?, json, current),
        Command::History => show(client.rollout().await?, json, history),
        Command::Diff { file } => {
            let file = absolute(&file)?;
            show(client.diff(&BundleFile { file }).await?, json, difference)
        }
    }
}

/// Waits for the end of a rollout, which goes on without the command if that is interrupted.
async fn until_end_or_interrupt(
    client: &Client,
    number: u64,
    json: bool,
) -> anyhow::Result<String> {
    tokio::select! {
        end = until_end(client, number, json) => end,
        _ = tokio::signal::ctrl_c() => bail!(
            "rollout {number} goes on without this command: `geodns fleet rollout` shows it, `geodns fleet rollback` \
             takes it back"
        ),
    }
}

/// Waits for the end of a rollout. One that has not come to all nodes is an error.
async fn until_end(client: &Client, number: u64, json: bool) -> anyhow::Result<String> {
    let mut stage = String::new();
    loop {
        let reply = client.rollout().await?;
        let rollouts: Rollouts = reply.json()?;
        let rollout = rollouts.current.context("the daemon shows no rollout")?;
        if rollout.number != number {
            bail!(
                "rollout {number} is over, and rollout {} has begun",
                rollout.number
            );
        }
        if rollout.stage != stage {
            stage.clone_from(&rollout.stage);
            if !json {
                eprintln!("{stage}");
            }
        }
        if rollout.is_done {
            return show(client.rollout().await?, json, current);
        }
        if rollout.is_over {
            let why = rollout.why.clone().unwrap_or_default();
            eprint!("{}", nodes(&rollout));
            bail!("rollout {number}: {stage}: {why}");
        }
        sleep(EVERY).await;
    }
}

fn current(rollouts: Rollouts) -> String {
    let running = rollouts.running.as_deref().unwrap_or("its own file");
    let Some(rollout) = rollouts.current else {
        return format!("there has been no rollout; this node runs {running}\n");
    };
    let why = rollout.why.as_ref();
    let why = why.map_or_else(String::new, |why| format!(": {why}"));
    format!(
        "rollout {} of bundle {} (serial {}): {}{why}\nthis node runs {running}\n{}",
        rollout.number,
        rollout.bundle,
        rollout.serial,
        rollout.stage,
        nodes(&rollout)
    )
}

fn nodes(rollout: &Rollout) -> String {
    let rows = rollout.nodes.iter().map(|node| {
        let wave = node
            .wave
            .map_or_else(|| "last".to_owned(), |wave| wave.to_string());
        [node.node.clone(), wave, node.says.clone()]
    });
    table(&[("NODE", TEXT), ("WAVE", NUMBER), ("SAYS", TEXT)], rows)
}

fn history(rollouts: Rollouts) -> String {
    let rows = rollouts.history.into_iter().map(|rollout| {
        [
            rollout.number.to_string(),
            rollout.bundle,
            rollout.serial.to_string(),
            rollout.stage,
            rollout.why.unwrap_or_default(),
        ]
    });
    let columns = [
        ("ROLLOUT", NUMBER),
        ("BUNDLE", TEXT),
        ("SERIAL", NUMBER),
        ("END", TEXT),
        ("WHY", TEXT),
    ];
    table(&columns, rows)
}

fn difference(difference: BundleDiff) -> String {
    let own = match difference.running {
        Some(_) => "",
        None => "this node runs its own file, and no bundle yet:\n",
    };
    let marked = |mark: char, files: Vec<String>| -> String {
        files
            .iter()
            .map(|file| format!("{mark} {file}\n"))
            .collect()
    };
    let text = marked('+', difference.added)
        + &marked('-', difference.removed)
        + &marked('~', difference.changed)
        + &marked('!', difference.databases);
    match text.is_empty() {
        true => "no file differs\n".to_owned(),
        false => format!("{own}{text}"),
    }
}

fn absolute(file: &Path) -> anyhow::Result<String> {
    let path = std::path::absolute(file)?;
    let path = path.to_str().context("the path is not UTF-8")?;
    Ok(path.to_owned())
}

/// `10%`, or `0.1`.
fn share(text: &str) -> Result<f64, String> {
    let share = match text.strip_suffix('%') {
        Some(per_cent) => per_cent.trim().parse().map(|number: f64| number / 100.0),
        None => text.parse(),
    };
    let share = share.ok().filter(|share| (0.0..=1.0).contains(share));
    share.ok_or_else(|| "write it like 10%, up to 100%".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::args::Command as Top;
    use crate::cli::args::tests::{parse, usage};
    use crate::cli::fleet;

    #[test]
    fn a_rollout_is_careful_unless_it_is_told_otherwise() {
        let of = |line: &str| match parse(line).unwrap().command {
            Top::Fleet(fleet::Command::Rollout(command)) => command,
            other => panic!("{other:?}"),
        };
        let Command::Apply {
            canary,
            max_change,
            waves,
            force,
            ..
        } = of("geodns fleet apply a.bundle")
        else {
            panic!();
        };
        assert_eq!(canary, "1");
        let watched = parse("geodns fleet apply a.bundle --wait 90s").unwrap();
        let time = Duration::from_secs(90);
        assert_eq!(watched.global.wait, Some(Wait::For(time)));
        assert_eq!((max_change, waves, force), (0.1, vec![0.25, 1.0], false));
        let Command::Apply { canary, waves, .. } =
            of("geodns fleet apply a --canary ams --waves 10%,0.5,100%")
        else {
            panic!();
        };
        assert_eq!((canary.as_str(), waves), ("ams", vec![0.1, 0.5, 1.0]));
        let message = usage("geodns fleet apply a --max-change 200%");
        assert!(message.contains("write it like 10%"), "{message}");
        assert!(matches!(of("geodns fleet rollback"), Command::Rollback));
    }
}

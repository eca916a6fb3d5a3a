//! `geodns fleet`: the fleet that the daemon is in, asked and changed, and as text for people.

use std::io::{IsTerminal, Write};

use anyhow::bail;
use clap::Subcommand;

use super::output::{NUMBER, TEXT, grouped, pairs, plural, show, table, uptime};
use super::values::Wait;
use super::{bundle, rollout};
use crate::control::client::Client;
use crate::control::fleet::{Fleet, FleetChange, FleetJoin, FleetJoined, FleetNode, FleetState};
use crate::fleet::node;

/// Changes that are shown before a join, at the most.
const SHOWN: usize = 20;

/// `geodns fleet`
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make the fleet in its store, with everything that this node has: overrides, imports, words on mirrors, rules,
    /// tokens
    Init,
    /// Join the fleet: everything that this node has is replaced by what the fleet has
    ///
    /// Shows the changes, and asks. A copy of the state before stays beside it.
    Join {
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
    /// Leave the fleet; everything that is in force here stays
    Leave,
    /// Show the nodes of the fleet, and how this one follows its store
    Status,
    /// Give the fleet everything that this node alone has changed with --local
    Merge,
    /// Take back everything that this node alone has changed with --local
    Drop,
    /// Bundles, rolled out.
    #[command(flatten)]
    Rollout(rollout::Command),
    /// Make a signed bundle of the configuration, and look into bundles; ask no daemon
    #[command(subcommand)]
    Bundle(bundle::Command),
}

/// Asks the daemon; the text to print.
pub async fn ask(
    command: Command,
    wait: Option<Wait>,
    client: &Client,
    json: bool,
) -> anyhow::Result<String> {
    match command {
        Command::Rollout(command) => rollout::ask(command, wait, client, json).await,
        // Asked of nobody: see `Arguments::run`.
        Command::Bundle(_) => Ok(String::new()),
        Command::Init => show(client.fleet_init().await?, json, made),
        Command::Join { yes } => join(yes, client, json).await,
        Command::Leave => show(client.fleet_leave().await?, json, |_: Fleet| {
            "this node is alone from here on: remove [fleet] from its configuration, and start it again\n".to_owned()
        }),
        Command::Status => show(client.fleet().await?, json, status),
        Command::Merge => show(client.fleet_merge().await?, json, |fleet: Fleet| {
            let left = plural(fleet.local.len() as u64, "change");
            format!("the fleet has what this node alone had; {left} of this node alone left\n")
        }),
        Command::Drop => show(client.fleet_drop().await?, json, |fleet: Fleet| {
            let left = plural(fleet.local.len() as u64, "change");
            format!("this node is as the fleet is; {left} of this node alone left\n")
        }),
    }
}

async fn join(yes: bool, client: &Client, json: bool) -> anyhow::Result<String> {
    if !yes {
        let reply = client.fleet_join(&FleetJoin { yes: false }).await?;
        let joined: FleetJoined = reply.json()?;
        if joined.changes > 0 {
            eprint!("{}", changes(&joined));
            if !std::io::stdin().is_terminal() {
                bail!("nothing has changed: say --yes to join");
            }
            eprint!("Join, and change this? [y/N] ");
            std::io::stderr().flush()?;
            let mut answer = String::new();
            std::io::stdin().read_line(&mut answer)?;
            if !matches!(answer.trim(), "y" | "Y" | "yes") {
                bail!("nothing has changed");
            }
        }
    }
    show(
        client.fleet_join(&FleetJoin { yes: true }).await?,
        json,
        joined,
    )
}

/// What a join changes.
fn changes(joined: &FleetJoined) -> String {
    let value = |value: &Option<String>| value.clone().unwrap_or_else(|| "-".to_owned());
    let rows = joined.first.iter().take(SHOWN);
    let rows = rows.map(|change| {
        [
            change.key.clone(),
            value(&change.here),
            value(&change.fleet),
        ]
    });
    let mut text = table(&[("KEY", TEXT), ("HERE", TEXT), ("FLEET", TEXT)], rows);
    let more = joined
        .changes
        .saturating_sub(SHOWN.min(joined.first.len()) as u64);
    if more > 0 {
        text += &format!("and {} more\n", grouped(more));
    }
    text
}

fn joined(joined: FleetJoined) -> String {
    let copy = joined.copy.map_or_else(String::new, |copy| {
        format!("; the state before is kept in {copy}")
    });
    let changes = plural(joined.changes, "change");
    format!("joined, with {changes} here{copy}\n")
}

fn made(fleet: Fleet) -> String {
    format!(
        "fleet {} is made, with what node {} has; on the others: geodns fleet join\n",
        fleet.name, fleet.node
    )
}

/// How a node follows the store, in words.
pub fn state(state: FleetState, stale_ms: Option<u64>, why: Option<&str>) -> String {
    let since = stale_ms.map_or_else(String::new, |time| format!(", for {}", uptime(time / 1000)));
    let why = why.map_or_else(String::new, |why| format!(": {why}"));
    match state {
        FleetState::Following if why.is_empty() => "has all changes".to_owned(),
        FleetState::Following => format!("has all changes; edits are refused{why}"),
        FleetState::Connecting => format!("reads what it has missed{since}"),
        FleetState::NotJoined => "is in no fleet yet: geodns fleet init, or join".to_owned(),
        FleetState::Disconnected => {
            format!("has no store{since}; answers go on, edits are refused{why}")
        }
        FleetState::Stopped => {
            format!("follows nothing{since}; answers go on, edits are refused{why}")
        }
    }
}

fn status(fleet: Fleet) -> String {
    let how = state(fleet.state, fleet.stale_ms, fleet.why.as_deref());
    let mut lines = vec![
        ("fleet", fleet.name.clone()),
        ("this node", format!("{} {how}", fleet.node)),
        ("revision", fleet.revision.to_string()),
    ];
    if let Some(failed) = &fleet.failed {
        lines.push(("not in force", failed.clone()));
    }
    for node in &fleet.nodes {
        let apart = node.clock_ahead_ms;
        if let Some(how) = apart.and_then(|ahead| node::clock_apart(&node.name, ahead)) {
            lines.push(("clocks", how));
        }
    }
    let mut text = pairs(&lines);
    text.push('\n');
    text += &nodes(&fleet.nodes);
    if !fleet.local.is_empty() {
        text += "\nChanges of this node alone (geodns fleet merge, or drop):\n";
        text += &local(&fleet.local);
    }
    text
}

fn nodes(nodes: &[FleetNode]) -> String {
    let newest = nodes.iter().max_by_key(|node| node.revision);
    let same = newest.map(|node| node.plan.as_str());
    let newest = newest.map_or(0, |node| node.revision);
    let odd = |text: &str, is_odd: bool| {
        if is_odd {
            format!("{text} !")
        } else {
            text.to_owned()
        }
    };
    let rows = nodes.iter().map(|node| {
        let name = if node.is_this {
            format!("{} *", node.name)
        } else {
            node.name.clone()
        };
        // A node that has taken everything over names a later revision than those that were there.
        let behind = match same.is_some_and(|plan| plan == node.plan) {
            true => 0,
            false => newest - node.revision,
        };
        [
            name,
            node.site.clone().unwrap_or_else(|| "-".to_owned()),
            node.announce.clone().unwrap_or_else(|| "-".to_owned()),
            node.version.clone(),
            behind.to_string(),
            odd(short(&node.config), node.config_is_odd),
            odd(short(&node.plan), node.plan_is_odd),
            node.local.to_string(),
            grouped(node.queries_per_second),
        ]
    });
    table(
        &[
            ("NODE", TEXT),
            ("SITE", TEXT),
            ("ANNOUNCED", TEXT),
            ("VERSION", TEXT),
            ("BEHIND", NUMBER),
            ("CONFIG", TEXT),
            ("PLAN", TEXT),
            ("LOCAL", NUMBER),
            ("QUERIES/S", NUMBER),
        ],
        rows,
    )
}

fn short(hash: &str) -> &str {
    hash.get(..8).unwrap_or(hash)
}

fn local(changes: &[FleetChange]) -> String {
    let value = |value: &Option<String>| value.clone().unwrap_or_else(|| "-".to_owned());
    let rows = changes.iter();
    let rows = rows.map(|change| {
        [
            change.key.clone(),
            value(&change.here),
            value(&change.fleet),
        ]
    });
    table(&[("KEY", TEXT), ("HERE", TEXT), ("FLEET", TEXT)], rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str, plan: &str, is_odd: bool) -> FleetNode {
        FleetNode {
            name: name.to_owned(),
            is_this: name == "a",
            site: Some("ams".to_owned()),
            version: "0.1.0".to_owned(),
            revision: if is_odd { 5 } else { 7 },
            config: "0011223344556677".to_owned(),
            config_is_odd: false,
            plan: plan.to_owned(),
            plan_is_odd: is_odd,
            local: u64::from(is_odd),
            announce: None,
            queries_per_second: 12_000,
            at_unix_ms: 0,
            clock_ahead_ms: Some(if is_odd { -60_000 } else { 3 }),
        }
    }

    #[test]
    fn the_odd_ones_out_are_marked_and_the_reason_of_a_stop_is_said() {
        let fleet = Fleet {
            name: "example".to_owned(),
            node: "a".to_owned(),
            state: FleetState::Disconnected,
            why: Some("no quorum".to_owned()),
            stale_ms: Some(12_000),
            revision: 7,
            failed: None,
            local: vec![FleetChange {
                key: "override/www/192.0.2.0%2F24".to_owned(),
                fleet: None,
                here: Some("\"ams\"".to_owned()),
            }],
            nodes: vec![
                node("a", "aaaaaaaaaaaaaaaa", false),
                node("b", "bbbbbbbbbbbbbbbb", true),
            ],
        };
        let text = status(fleet);
        assert!(
            text.contains("a has no store, for 12s; answers go on, edits are refused: no quorum"),
            "{text}"
        );
        assert!(
            text.contains("a *") && text.contains("bbbbbbbb !") && !text.contains("aaaaaaaa !"),
            "{text}"
        );
        assert!(
            text.contains("the clock of b is 60 s behind this node's")
                && !text.contains("clock of a"),
            "{text}"
        );
        assert!(
            text.contains("override/www/192.0.2.0%2F24  \"ams\"  -"),
            "{text}"
        );
    }
}

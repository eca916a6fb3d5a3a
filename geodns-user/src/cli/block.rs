//! `geodns block`: block rules, asked and changed, and as text for people.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::{Subcommand, ValueHint};
use ipnet::IpNet;

use super::output::{NUMBER, TEXT, show, table};
use super::values::prefix;
use crate::control::block::{BlockAdd, BlockChanged, BlockRemove, BlockRule};
use crate::control::client::Client;

/// `geodns block`
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Drop queries that match every option given. Saved, and in force in both paths, when the command returns
    ///
    /// Over UDP a dropped query gets no answer; over TCP its connection is closed. Rules of the configuration
    /// stay in force.
    Add {
        /// Queries for this name
        #[arg(long, value_name = "NAME", conflicts_with = "below")]
        name: Option<String>,
        /// Queries for this name, or one below it
        #[arg(long, value_name = "NAME")]
        below: Option<String>,
        /// Queries for this type, such as ANY or TYPE65280
        #[arg(long = "type", value_name = "TYPE")]
        qtype: Option<String>,
        /// Queries from this prefix, such as 192.0.2.0/24; several prefixes make several rules
        #[arg(long, value_name = "PREFIX", value_parser = prefix)]
        from: Vec<IpNet>,
        /// File of such prefixes, one on each line; `-` is standard input
        #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
        from_file: Option<PathBuf>,
        /// Reason, for readers of the list
        #[arg(long, value_name = "TEXT", default_value = "")]
        note: String,
    },
    /// Remove rules
    Remove {
        /// Numbers of the rules, as `block list` shows them
        #[arg(required = true)]
        numbers: Vec<u32>,
    },
    /// Remove every rule that `block add` added
    Clear,
    /// List the rules, with the queries that each has dropped
    List,
}

/// Asks the daemon; the text to print.
pub async fn ask(command: Command, client: &Client, json: bool) -> anyhow::Result<String> {
    match command {
        Command::Add {
            name,
            below,
            qtype,
            mut from,
            from_file,
            note,
        } => {
            if let Some(file) = from_file {
                from.extend(prefixes(&file)?);
            }
            let add = BlockAdd {
                name,
                below,
                qtype,
                from,
                note,
            };
            show(client.block_add(&add).await?, json, added)
        }
        Command::Remove { numbers } => {
            let numbers: Vec<String> = numbers.iter().map(u32::to_string).collect();
            let remove = BlockRemove {
                numbers: Some(numbers.join(",")),
            };
            show(client.block_remove(&remove).await?, json, removed)
        }
        Command::Clear => {
            let remove = BlockRemove { numbers: None };
            show(client.block_remove(&remove).await?, json, removed)
        }
        Command::List => show(client.block_list().await?, json, list),
    }
}

/// Prefixes of a file, one on each line; what follows `#` or `;` is none of it.
fn prefixes(file: &Path) -> anyhow::Result<Vec<IpNet>> {
    let mut text = String::new();
    let read = match file.as_os_str() == "-" {
        true => std::io::stdin().read_to_string(&mut text).map(drop),
        false => fs::read_to_string(file).map(|read| text = read),
    };
    read.with_context(|| format!("cannot read {}", file.display()))?;
    let mut prefixes = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.split(['#', ';']).next().unwrap_or_default().trim();
        if line.is_empty() {
            continue;
        }
        match prefix(line) {
            Ok(prefix) => prefixes.push(prefix),
            Err(why) => bail!("{}:{}: {why}", file.display(), number + 1),
        }
    }
    Ok(prefixes)
}

/// The queries of a rule, in words.
fn words(rule: &BlockRule) -> String {
    let mut words = Vec::new();
    for (what, value) in [
        ("name", &rule.name),
        ("below", &rule.below),
        ("type", &rule.qtype),
    ] {
        words.extend(value.as_ref().map(|value| format!("{what} {value}")));
    }
    words.extend(rule.from.map(|from| format!("from {from}")));
    words.join(" ")
}

fn added(changed: BlockChanged) -> String {
    said("dropped from here on", changed)
}

fn removed(changed: BlockChanged) -> String {
    said("no longer dropped", changed)
}

fn said(what: &str, changed: BlockChanged) -> String {
    let mut text = match changed.rules.as_slice() {
        [rule] => format!("{what}: {}", words(rule)),
        rules => format!("{what}: {} rules", rules.len()),
    };
    if changed.before > 0 {
        text += &format!("; {} were there before", changed.before);
    }
    text + &format!("; {} in all\n", changed.all)
}

/// `block list`
fn list(rules: Vec<BlockRule>) -> String {
    if rules.is_empty() {
        return "no rules\n".to_owned();
    }
    table(
        &[
            ("NUMBER", NUMBER),
            ("DROPS", TEXT),
            ("DROPPED", NUMBER),
            ("NOTE", TEXT),
        ],
        rules.into_iter().map(|rule| {
            let number = rule.number.map(|number| number.to_string());
            [
                number.unwrap_or_else(|| "file".to_owned()),
                words(&rule),
                rule.dropped.to_string(),
                rule.note,
            ]
        }),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(number: Option<u32>, below: &str, from: Option<&str>) -> BlockRule {
        BlockRule {
            number,
            name: None,
            below: Some(below.to_owned()),
            qtype: Some("ANY".to_owned()),
            from: from.map(|from| from.parse().unwrap()),
            note: "ticket 7".to_owned(),
            dropped: 12,
        }
    }

    #[test]
    fn a_line_for_a_change_and_one_for_each_rule() {
        let of = |rules: Vec<BlockRule>, before| BlockChanged {
            all: 5,
            rules,
            before,
        };
        assert_eq!(
            added(of(vec![rule(Some(3), "evil.test", None)], 0)),
            "dropped from here on: below evil.test type ANY; 5 in all\n"
        );
        assert_eq!(
            removed(of(Vec::new(), 0)),
            "no longer dropped: 0 rules; 5 in all\n"
        );
        assert_eq!(
            added(of(
                vec![rule(Some(3), "a", None), rule(Some(4), "b", None)],
                2
            )),
            "dropped from here on: 2 rules; 2 were there before; 5 in all\n"
        );
        assert_eq!(
            list(vec![
                rule(None, "evil.test", None),
                rule(Some(3), "b.test", Some("192.0.2.0/24"))
            ]),
            "\
NUMBER  DROPS                                    DROPPED  NOTE
  file  below evil.test type ANY                      12  ticket 7
     3  below b.test type ANY from 192.0.2.0/24       12  ticket 7
"
        );
        assert_eq!(list(Vec::new()), "no rules\n");
    }

    #[test]
    fn a_list_of_prefixes_is_read_as_they_are_published() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(
            file.path(),
            "; a list\n192.0.2.0/24 ; SBL1\n\n2001:db8::1 # one\n",
        )
        .unwrap();
        let read = prefixes(file.path()).unwrap();
        let wanted = ["192.0.2.0/24", "2001:db8::1/128"];
        assert_eq!(read, wanted.map(|text| text.parse::<IpNet>().unwrap()));
        fs::write(file.path(), "192.0.2.0/24\nwww\n").unwrap();
        let wrong = prefixes(file.path()).unwrap_err().to_string();
        assert!(wrong.contains(":2: "), "{wrong}");
    }
}

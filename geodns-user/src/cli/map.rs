//! `geodns map`: prefixes and their mirrors.

use std::fmt::Write;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use clap::{Subcommand, ValueHint};
use indicatif::{ProgressBar, ProgressStyle};
use ipnet::IpNet;
use tokio::fs::File;
use tokio::io::{self, AsyncRead};

use super::output::{NUMBER, TEXT, joined, memory, plural, show, table, with_newline};
use super::values::{address, prefix};
use crate::control::client::{Client, Reply};
use crate::control::map::{
    Change, ImportQuery, Imported, Lookup, LookupQuery, MapChanged, MapDel, MapSet, Mapping,
    OfPool, Progress,
};

/// `geodns map`
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Send clients of a prefix to a mirror. Saved, and in every answer, when the command returns
    Set {
        /// Address prefix, such as 192.0.2.0/24
        #[arg(value_parser = prefix)]
        prefix: IpNet,
        /// Mirror's id
        mirror: String,
        /// Pool [default: every pool that holds the mirror, but those of policy "all"]
        #[arg(long)]
        pool: Option<String>,
    },
    /// Remove the override of a prefix
    Del {
        /// Address prefix
        #[arg(value_parser = prefix)]
        prefix: IpNet,
        /// Pool [default: every pool that has such an override]
        #[arg(long)]
        pool: Option<String>,
    },
    /// Show the mirrors of a client, and why
    Get {
        /// Address of the client
        #[arg(value_parser = address)]
        address: IpAddr,
        /// Pool [default: each]
        #[arg(long)]
        pool: Option<String>,
    },
    /// List the overrides in force
    List {
        /// Pool [default: all]
        #[arg(long)]
        pool: Option<String>,
    },
    /// Replace the imported list with one of `prefix,mirror,...` lines, in one transaction
    Import {
        /// The list; `-` is standard input
        #[arg(value_hint = ValueHint::FilePath)]
        file: PathBuf,
        /// Pool [default: every pool, but those of policy "all"]
        #[arg(long)]
        pool: Option<String>,
    },
    /// Print every prefix in force, as `prefix,mirror,...` lines
    Export {
        /// Pool [default: all]
        #[arg(long)]
        pool: Option<String>,
    },
}

/// Asks the daemon; the text to print.
pub async fn ask(command: Command, client: &Client, json: bool) -> anyhow::Result<String> {
    match command {
        Command::Set {
            prefix,
            mirror,
            pool,
        } => {
            let change = MapSet {
                prefix,
                mirror,
                pool,
            };
            show(client.map_set(&change).await?, json, changed)
        }
        Command::Del { prefix, pool } => {
            let change = MapDel { prefix, pool };
            show(client.map_del(&change).await?, json, changed)
        }
        Command::Get { address, pool } => {
            let lookup = LookupQuery { address, pool };
            show(client.map_get(&lookup).await?, json, lookups)
        }
        Command::List { pool } => show(client.map_list(&OfPool { pool }).await?, json, mappings),
        Command::Import { file, pool } => {
            let reply = import(client, &file, pool).await?;
            show(reply, json, imported)
        }
        Command::Export { pool } => {
            let reply = client.map_export(&OfPool { pool }, json).await?;
            Ok(String::from_utf8_lossy(&with_newline(&reply.body)).into_owned())
        }
    }
}

/// Sends `file` (`-`: standard input). Progress goes to standard error, if that is a terminal.
async fn import(client: &Client, file: &Path, pool: Option<String>) -> anyhow::Result<Reply> {
    let (list, name, length): (Box<dyn AsyncRead + Send + Unpin>, _, _) = if file == Path::new("-")
    {
        (Box::new(io::stdin()), "standard input".to_owned(), None)
    } else {
        let name = file.display().to_string();
        let list = File::open(file)
            .await
            .with_context(|| format!("cannot read {name}"))?;
        let metadata = list.metadata().await?;
        anyhow::ensure!(
            !metadata.is_dir(),
            "cannot read {name}: it is a folder; name a file of prefix,mirror lines"
        );
        let length = metadata.is_file().then_some(metadata.len());
        (Box::new(list), name, length)
    };
    let bar = bar(length);
    let import = ImportQuery {
        name: Some(name),
        pool,
    };
    let progress = {
        let bar = bar.clone();
        move |progress| match progress {
            Progress::Sent(octets) => bar.set_position(octets),
            Progress::Waiting => bar.set_style(style("{spinner} compiling, {elapsed}")),
        }
    };
    let reply = client.map_import(list, &import, progress).await;
    bar.finish_and_clear();
    Ok(reply?)
}

fn bar(length: Option<u64>) -> ProgressBar {
    let (bar, template) = match length {
        Some(length) => (
            ProgressBar::new(length),
            "{spinner} reading [{wide_bar}] {bytes} of {total_bytes}",
        ),
        None => (ProgressBar::new_spinner(), "{spinner} reading, {bytes}"),
    };
    bar.set_style(style(template));
    bar.enable_steady_tick(Duration::from_millis(100));
    bar
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template)
        .expect("templates are constants")
        .progress_chars("=> ")
}

/// `geodns map list`
fn mappings(mappings: Vec<Mapping>) -> String {
    if mappings.is_empty() {
        return "no overrides (set one with `geodns map set PREFIX MIRROR`)\n".to_owned();
    }
    table(
        &[("PREFIX", TEXT), ("MIRROR", TEXT), ("POOL", TEXT)],
        mappings.into_iter().map(|mapping| {
            let of = if mapping.local {
                " (this node alone)"
            } else {
                ""
            };
            let mirror = format!("{}{of}", mapping.mirror);
            [mapping.prefix.to_string(), mirror, mapping.pool]
        }),
    )
}

/// `geodns map set` and `geodns map del`
fn changed(changed: MapChanged) -> String {
    let prefix = changed.prefix;
    let mut text = String::new();
    for Change {
        pool,
        before,
        after,
    } in changed.changes
    {
        let _ = match (before, after) {
            (None, Some(after)) => writeln!(text, "{pool}: {prefix} -> {after}"),
            (Some(before), Some(after)) if before == after => {
                writeln!(text, "{pool}: {prefix} -> {after} (as before)")
            }
            (Some(before), Some(after)) => {
                writeln!(text, "{pool}: {prefix} -> {after} (was {before})")
            }
            (Some(before), None) => writeln!(text, "{pool}: {prefix} deleted (was {before})"),
            (None, None) => writeln!(text, "{pool}: {prefix} had no override"),
        };
    }
    for warning in &changed.warnings {
        let _ = writeln!(text, "warning: {warning}");
    }
    text
}

/// The reason: `override 192.0.2.0/24`, `default`.
fn decided_by(lookup: &Lookup) -> String {
    match lookup.prefix {
        Some(prefix) => format!("{} {prefix}", lookup.source),
        None => lookup.source.clone(),
    }
}

/// `geodns map get`
fn lookups(lookups: Vec<Lookup>) -> String {
    table(
        &[
            ("POOL", TEXT),
            ("A", TEXT),
            ("AAAA", TEXT),
            ("SCOPE", NUMBER),
            ("DECIDED BY", TEXT),
        ],
        lookups.into_iter().map(|lookup| {
            [
                lookup.pool.clone(),
                joined(&lookup.mirrors),
                joined(&lookup.mirrors_v6),
                format!("/{}", lookup.scope),
                decided_by(&lookup),
            ]
        }),
    )
}

/// `geodns map import`
fn imported(imported: Imported) -> String {
    let seconds = |ms: u64| format!("{:.2} s", ms as f64 / 1000.0);
    let mut text = String::new();
    for (pool, &prefixes) in &imported.prefixes {
        let _ = writeln!(text, "{pool}: {} in force", plural(prefixes, "prefix"));
    }
    let Imported {
        parse_ms,
        compile_ms,
        store_ms,
        publish_ms,
        ..
    } = imported;
    let _ = writeln!(
        text,
        "in {}: read {}, compiled {}, on disk {}, published {}",
        seconds(parse_ms + compile_ms + store_ms + publish_ms),
        seconds(parse_ms),
        seconds(compile_ms),
        seconds(store_ms),
        seconds(publish_ms),
    );
    if imported.kernel_memory_bytes > 0 {
        let _ = writeln!(
            text,
            "kernel memory of the tables: {}",
            memory(imported.kernel_memory_bytes)
        );
    }
    text
}

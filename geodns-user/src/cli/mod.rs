//! The command line.
//!
//! - [`args`]: what it takes
//! - `show`: answers as text for people
//! - `explain`: `geodns explain`
//! - `preview`: `geodns preview`
//! - `check`: `geodns check`, `geodns zone check`
//! - `watch`: `geodns stats --watch`
//! - `import`: `geodns map import`, with its progress
//! - `mirror`: `geodns mirror`
//! - `acme`: `geodns acme`; `block`: `geodns block`; `capture`, `top`: the live ones
//!
//! Exit codes: 0; 1 for a failure, with one line on standard error (`check`: a line for each error; `zone
//! check`: on standard output, as the warnings), or with `--json` as JSON on standard output; 2 for wrong
//! usage; 3 if `explain` finds that the kernel answers otherwise than it should; 4 if `preview` finds that
//! clients would move.

mod acme;
pub mod args;
mod block;
mod capture;
mod check;
mod explain;
mod import;
mod mirror;
mod preview;
mod show;
mod top;
mod watch;

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{CommandFactory, Parser};
use serde::de::DeserializeOwned;

use crate::base::complaint::{Error, Errors};
use crate::config::DEFAULT_SOCKET;
use crate::control::client::{Client, Reply};
use crate::control::map::{LookupQuery, MapDel, MapSet, OfPool};
use crate::control::preview::Proposal;
use crate::control::reload::OfZone;
use crate::daemon;
use crate::files;
use crate::printable;
use args::{Arguments, Command, Global, Map};

/// Configuration file, unless `--config` names one.
const DEFAULT_CONFIG: &str = "/etc/geodns/geodns.toml";

/// Runs the command line.
pub fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help and version are no errors, and go to standard output.
            let _ = error.print();
            return ExitCode::from(error.exit_code() as u8);
        }
    };
    // Logs of the daemon have their own format.
    let json = arguments.global.json && !matches!(arguments.command, Command::Run(_));
    match dispatch(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever read our output has read enough.
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        // Which has been said on standard output.
        Err(error) if error.is::<check::Broken>() => ExitCode::FAILURE,
        Err(error) if error.is::<preview::Moves>() => ExitCode::from(preview::MOVES),
        Err(error) => {
            // Beside an explanation, which is on standard output, a disagreement is said for people.
            if json && !error.is::<explain::Disagreement>() {
                let _ = print(&format!("{}\n", failure(&error)));
            } else {
                for line in format!("{error:#}").lines() {
                    let _ = writeln!(io::stderr(), "geodns: {}", printable::line(line));
                }
            }
            match error.is::<explain::Disagreement>() {
                true => ExitCode::from(explain::DISAGREEMENT),
                false => ExitCode::FAILURE,
            }
        }
    }
}

/// A failure, for programs.
fn failure(error: &anyhow::Error) -> serde_json::Value {
    let one = |error: &Error| {
        serde_json::json!({
            "file": error.file.display().to_string(),
            "line": error.line,
            "column": error.column,
            "key": error.key,
            "message": error.message,
        })
    };
    let (errors, more): (Vec<_>, _) = match error.downcast_ref::<Errors>() {
        Some(errors) => (errors.iter().map(one).collect(), errors.more()),
        None => match error.downcast_ref::<Error>() {
            Some(error) => (vec![one(error)], 0),
            None => (
                vec![serde_json::json!({ "message": format!("{error:#}") })],
                0,
            ),
        },
    };
    serde_json::json!({ "errors": errors, "more": more })
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .downcast_ref::<io::Error>()
        .is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

fn dispatch(arguments: Arguments) -> anyhow::Result<()> {
    let Arguments { command, global } = arguments;
    match command {
        Command::Run(run) => daemon::run(daemon::Options {
            config: global.config.unwrap_or_else(|| DEFAULT_CONFIG.into()),
            interfaces: run.interfaces,
            socket: global.socket.filter(|path| !path.as_os_str().is_empty()),
            json_logs: global.json || run.log_format == args::LogFormat::Json,
            log_packets: run.log_packets,
        }),
        Command::Check { file } => {
            let file = file.or(global.config);
            let file = file.unwrap_or_else(|| DEFAULT_CONFIG.into());
            print(&check::check(&file, global.json)?)
        }
        Command::Config(args::Config::Schema) => print(&format!("{:#}\n", crate::config::schema())),
        Command::Zone(args::Zone::Check { file, origin }) => {
            let (text, ok) = check::zone(&file, &origin, global.json)?;
            print(&text)?;
            match ok {
                true => Ok(()),
                false => Err(check::Broken.into()),
            }
        }
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Arguments::command(), "geodns", &mut script);
            print_raw(&script)
        }
        command => {
            let client = Client::new(&socket(&global)?);
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            let result = runtime.block_on(ask(command, &client, &global));
            // A read of standard input may still wait: nothing here does.
            runtime.shutdown_background();
            result
        }
    }
}

/// A command that the daemon answers.
async fn ask(command: Command, client: &Client, global: &Global) -> anyhow::Result<()> {
    let &Global { json, verbose, .. } = global;
    let answer = match command {
        Command::Status => show(client.status().await?, json, |status| {
            show::status(status, verbose)
        })?,
        Command::Mirrors => mirror::ask(args::Mirror::List, client, json).await?,
        Command::Mirror(command) => mirror::ask(command, client, json).await?,
        Command::Acme(command) => acme::ask(command, client, json).await?,
        Command::Block(command) => block::ask(command, client, json).await?,
        Command::Capture(of) => return capture::capture(of, client).await,
        Command::Top(of) => return top::top(of, client, json).await,
        Command::Zones => show(client.zones().await?, json, show::zones)?,
        Command::Reload { zone } => {
            show(client.reload(&OfZone { zone }).await?, json, show::reloaded)?
        }
        Command::Explain(question) => return explain::ask(question, client, json, verbose).await,
        Command::Preview { file } => {
            let config = std::path::absolute(&file)?.display().to_string();
            let reply = client.preview(&Proposal { config }).await?;
            let moves: crate::control::preview::Preview = reply.json()?;
            print(&show(reply, json, |moves| preview::text(&moves))?)?;
            return match preview::moves_anybody(&moves) {
                true => Err(preview::Moves.into()),
                false => Ok(()),
            };
        }
        Command::Stats(stats) => match stats.watch {
            Some(interval) => return watch::watch(client, interval, stats.all, json).await,
            None => show(
                client.stats().await?,
                json,
                |now: crate::control::status::Stats| {
                    show::stats(&now, None, stats.all, show::terminal_width())
                },
            )?,
        },
        Command::Map(Map::Set {
            prefix,
            mirror,
            pool,
        }) => {
            let change = MapSet {
                prefix,
                mirror,
                pool,
            };
            show(client.map_set(&change).await?, json, show::changed)?
        }
        Command::Map(Map::Del { prefix, pool }) => {
            let change = MapDel { prefix, pool };
            show(client.map_del(&change).await?, json, show::changed)?
        }
        Command::Map(Map::Get { address, pool }) => {
            let lookup = LookupQuery { address, pool };
            show(client.map_get(&lookup).await?, json, show::lookups)?
        }
        Command::Map(Map::List { pool }) => show(
            client.map_list(&OfPool { pool }).await?,
            json,
            show::mappings,
        )?,
        Command::Map(Map::Import { file, pool }) => {
            let reply = import::import(client, &file, pool).await?;
            show(reply, json, show::imported)?
        }
        Command::Map(Map::Export { pool }) => {
            let reply = client.map_export(&OfPool { pool }, json).await?;
            return print_json(&reply.body);
        }
        Command::Run(_)
        | Command::Check { .. }
        | Command::Config(_)
        | Command::Zone(_)
        | Command::Completions { .. } => {
            unreachable!("needs no daemon")
        }
    };
    print(&answer)
}

/// The API's own JSON, or what a person reads.
fn show<T: DeserializeOwned>(
    reply: Reply,
    json: bool,
    text: impl FnOnce(T) -> String,
) -> anyhow::Result<String> {
    if json {
        let body = with_newline(&reply.body);
        return Ok(String::from_utf8(body)?);
    }
    Ok(text(reply.json()?))
}

fn with_newline(body: &[u8]) -> Vec<u8> {
    let mut body = body.to_vec();
    if !body.is_empty() && body.last() != Some(&b'\n') {
        body.push(b'\n');
    }
    body
}

/// Prints text that may quote strangers: a terminal obeys none of it.
fn print(text: &str) -> anyhow::Result<()> {
    print_raw(printable::lines(text).as_bytes())
}

/// Prints an answer of the API as it is, but for characters that a terminal obeys.
fn print_json(body: &[u8]) -> anyhow::Result<()> {
    print(&String::from_utf8_lossy(&with_newline(body)))
}

/// Not `println!`, which panics when nobody reads any more.
fn print_raw(bytes: &[u8]) -> anyhow::Result<()> {
    let mut output = io::stdout().lock();
    output.write_all(bytes)?;
    output.flush()?;
    Ok(())
}

/// `--socket`, else `GEODNS_SOCKET` (clap has seen to both), else the configuration's.
fn socket(global: &Global) -> anyhow::Result<PathBuf> {
    if let Some(socket) = global.socket.as_ref().filter(|p| !p.as_os_str().is_empty()) {
        return Ok(socket.clone());
    }
    let config = match &global.config {
        Some(config) => config.as_path(),
        None if Path::new(DEFAULT_CONFIG).exists() => Path::new(DEFAULT_CONFIG),
        None => return Ok(DEFAULT_SOCKET.into()),
    };
    socket_in(config)
}

/// `control.socket` of a configuration that may be wrong elsewhere: a daemon that refused to reload
/// it must still be reachable.
fn socket_in(config: &Path) -> anyhow::Result<PathBuf> {
    let text = files::read_to_string(config).map_err(|error| {
        anyhow::anyhow!(
            "cannot read {} to find the control socket: {error} (or name the socket with --socket)",
            config.display()
        )
    })?;
    let table: toml::Table = text.parse().map_err(|error: toml::de::Error| {
        let line = error
            .span()
            .map_or(1, |span| 1 + text[..span.start].matches('\n').count());
        anyhow::anyhow!(
            "{}:{line}: {} (or name the socket with --socket)",
            config.display(),
            error.message()
        )
    })?;
    let socket = table
        .get("control")
        .and_then(|control| control.get("socket"))
        .and_then(toml::Value::as_str)
        .unwrap_or(DEFAULT_SOCKET);
    Ok(config.parent().unwrap_or(Path::new("")).join(socket))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_socket_is_found_in_a_configuration_even_in_a_wrong_one() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("geodns.toml");
        let find = |text: &str| {
            std::fs::write(&file, text).unwrap();
            socket_in(&file).map_err(|error| error.to_string())
        };
        assert_eq!(find("").unwrap(), Path::new(DEFAULT_SOCKET));
        assert_eq!(
            find("nonsense = 1\n[control]\nsocket = \"/x/y\"\n").unwrap(),
            Path::new("/x/y")
        );
        assert_eq!(
            find("[control]\nsocket = \"run/control.sock\"\n").unwrap(),
            folder.path().join("run/control.sock")
        );
        let error = find("[control]\nsocket = = \n").unwrap_err();
        assert!(
            error.starts_with(&format!("{}:2: ", file.display())),
            "{error}"
        );
        assert_eq!(error.lines().count(), 1, "{error}");
        let error = socket_in(Path::new("/nonexistent.toml")).unwrap_err();
        assert!(error.to_string().contains("--socket"), "{error}");
    }

    #[test]
    fn the_option_goes_before_the_configuration() {
        let global = Global {
            config: Some("/nonexistent.toml".into()),
            socket: Some("/s".into()),
            json: false,
            verbose: false,
        };
        assert_eq!(socket(&global).unwrap(), Path::new("/s"));
    }
}

//! The top level of the command line: the commands, the options of all of them, and the module that runs each.
//!
//! A command's own arguments stand in its module.

use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueHint};
use clap_complete::Shell;

use super::output::{print, print_raw, show};
use super::values::{Wait, waiting};
use super::{
    acme, announce, block, bundle, capture, check, detach, doctor, event, explain, fleet, map,
    mirror, preview, run, stats, status, top, zone,
};
use crate::announce::holder;
use crate::config::{self, DEFAULT_PIN, DEFAULT_SOCKET};
use crate::control::client::Client;
use crate::control::reach::Reach;
use crate::control::reload::OfZone;
use crate::files;

/// Configuration file, unless `--config` names one.
const DEFAULT_CONFIG: &str = "/etc/geodns/geodns.toml";

/// An authoritative GeoDNS server: sends each client to the mirror that is best for it, from the kernel
#[derive(Debug, Parser)]
#[command(name = "geodns", version, max_term_width = 100)]
pub struct Arguments {
    /// The command.
    #[command(subcommand)]
    pub command: Command,
    /// Options of every command.
    #[command(flatten)]
    pub global: Global,
}

/// Options of every command.
#[derive(Args, Debug)]
#[command(next_help_heading = "Options of every command")]
pub struct Global {
    /// Configuration file [default: /etc/geodns/geodns.toml]
    #[arg(long, global = true, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub config: Option<PathBuf>,
    /// Control socket of the daemon [default: the configuration's]
    #[arg(long, global = true, value_name = "PATH", value_hint = ValueHint::FilePath)]
    #[arg(env = "GEODNS_SOCKET", hide_env_values = true)]
    pub socket: Option<PathBuf>,
    /// Print JSON, for programs
    #[arg(long, global = true)]
    pub json: bool,
    /// Also show internals: tables, rows and draws
    #[arg(short, long, global = true)]
    pub verbose: bool,
    /// Nodes of the fleet that a change waits for: `here` or `all` that live [default: here]. With `fleet apply`, a time
    #[arg(long, global = true, value_name = "NODES", conflicts_with = "local", value_parser = waiting)]
    pub wait: Option<Wait>,
    /// Change this node alone, whatever the fleet has: for emergencies (see `geodns fleet merge`)
    #[arg(long, global = true)]
    pub local: bool,
}

impl Global {
    fn reach(&self) -> Reach {
        match (self.local, self.wait) {
            (true, _) => Reach::Local,
            (false, Some(Wait::All)) => Reach::All,
            (false, _) => Reach::Here,
        }
    }
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the daemon
    Run(run::Arguments),
    /// Read and compile a configuration and every file that it names, and report all errors; change nothing
    Check {
        /// Configuration file [default: that of --config]
        #[arg(value_hint = ValueHint::FilePath)]
        file: Option<PathBuf>,
    },
    /// Examine this machine and its interfaces: whether the program can be loaded and attached, and what to change
    ///
    /// Nothing is attached without --try, and no daemon is needed. Exits with 1 if there are problems.
    Doctor(doctor::Arguments),
    /// Describe the configuration
    #[command(subcommand, arg_required_else_help = true)]
    Config(Config),
    /// Check zone files
    #[command(subcommand, arg_required_else_help = true)]
    Zone(zone::Command),
    /// Set and clear temporary TXT records for ACME DNS-01 challenges
    #[command(subcommand, arg_required_else_help = true)]
    Acme(acme::Command),
    /// Show how this node of an anycast set is announced; drain it, withdraw it, or have it back
    Announce {
        /// The command [default: list]
        #[command(subcommand)]
        command: Option<announce::Command>,
    },
    /// Drop unwanted queries, in the kernel and in the slow path
    #[command(subcommand, arg_required_else_help = true)]
    Block(block::Command),
    /// Show, make, join and leave the fleet, whose nodes share what operators say
    #[command(subcommand, arg_required_else_help = true)]
    Fleet(fleet::Command),
    /// Set, import and list prefixes and their mirrors
    #[command(subcommand, arg_required_else_help = true)]
    Map(map::Command),
    /// Show what the daemon serves, where, and since when
    Status {
        /// Say in one line whether all is well, for monitoring: the exit code is 0 (OK), 1 (WARNING) or 2 (CRITICAL)
        #[arg(long)]
        check: bool,
    },
    /// Show the counters of the fast path, by verdict, and of the slow path
    Stats(stats::Arguments),
    /// Show what has happened: mirrors that went out or came back, changes and who made them, reloads, interfaces
    Events(event::Arguments),
    /// Show queries and answers as they come: by name, region, mirror, client and verdict, with their times
    Top(top::Arguments),
    /// Record queries and the program's answers, for tcpdump and Wireshark
    ///
    /// tcpdump does not see queries that the kernel answers. A query that is passed to the slow path is recorded
    /// without its answer, which tcpdump sees. One capture runs at a time. It costs nothing while none does.
    Capture(capture::Arguments),
    /// Show mirrors, and take them out of service or put them back
    #[command(subcommand, arg_required_else_help = true)]
    Mirror(mirror::Command),
    /// List mirrors, whether they are in service, and why: as `mirror list`
    Mirrors,
    /// List zones and their steered names
    Zones,
    /// Follow a client's query to its answer, step by step, and compare with the kernel's answer
    ///
    /// Exits with 3 if the kernel would answer otherwise than it should.
    Explain(explain::Arguments),
    /// List the clients that another configuration would move; change nothing
    ///
    /// Exits with 4 if clients would be sent to another mirror, or a steered name would be gone.
    Preview {
        /// The other configuration file
        #[arg(value_hint = ValueHint::FilePath)]
        file: PathBuf,
    },
    /// Read the configuration and its files again; on any error nothing changes
    Reload {
        /// Only this zone: read its file again, or ask its primaries [default: everything]
        zone: Option<String>,
    },
    /// Take off the interfaces what a stopped daemon has left on them
    Detach {
        /// Folder of the pins [default: the configuration's kernel.pin]
        #[arg(long, value_name = "PATH", value_hint = ValueHint::DirPath)]
        pin: Option<PathBuf>,
    },
    /// Hold the device of announced routes; the daemon starts this
    #[command(hide = true)]
    Hold {
        /// Name of the device
        #[arg(long)]
        device: String,
    },
    /// Write a completion script for a shell
    Completions {
        /// Shell
        shell: Shell,
    },
}

/// `geodns config`
#[derive(Debug, Subcommand)]
pub enum Config {
    /// Print the JSON Schema of the configuration, for editors that complete and check TOML
    Schema,
}

/// Line under the help of each command.
const GLOBAL: &str = "Options of every command: --config, --socket, --json, --verbose, --wait, --local (see `geodns --help`)";

/// The command line. The help of a command names the options of every command in a line, and does not explain them.
fn command_line() -> clap::Command {
    let mut all = Arguments::command();
    // Gives each command the options of every command.
    all.build();
    all.mut_subcommands(short)
}

fn short(command: clap::Command) -> clap::Command {
    let hide = |option: clap::Arg| {
        let is_global = option.is_global_set();
        option.hide(is_global)
    };
    let command = command.mut_args(hide).mut_subcommands(short);
    match command.get_name() {
        "help" => command,
        _ => command.after_help(GLOBAL),
    }
}

impl Arguments {
    /// Understands the command line of this process.
    pub fn of_process() -> Result<Self, clap::Error> {
        let matches = command_line().try_get_matches()?;
        Self::from_arg_matches(&matches).map_err(|error| error.format(&mut command_line()))
    }

    /// Runs the command.
    pub fn run(self) -> anyhow::Result<()> {
        let Self { command, global } = self;
        let json = global.json;
        let config = || {
            global
                .config
                .clone()
                .unwrap_or_else(|| DEFAULT_CONFIG.into())
        };
        match command {
            Command::Run(of) => {
                let socket = global
                    .socket
                    .clone()
                    .filter(|path| !path.as_os_str().is_empty());
                run::run(of, config(), socket, json)
            }
            Command::Check { file } => print(&check::check(&file.unwrap_or_else(config), json)?),
            Command::Doctor(of) => {
                let usual = || Some(DEFAULT_CONFIG.into()).filter(|path: &PathBuf| path.exists());
                let config = global.config.clone().or_else(usual);
                doctor::run(of, config.as_deref(), json)
            }
            Command::Config(Config::Schema) => print(&format!("{:#}\n", config::schema())),
            Command::Zone(command) => zone::run(command, json),
            Command::Detach { pin } => {
                let pin = pin.map_or_else(|| PINS.of(&global), Ok)?;
                print(&detach::run(&pin, json)?)
            }
            Command::Hold { device } => holder::run(&holder::Options {
                socket: global.socket.context("hold: --socket is missing")?,
                device,
            }),
            Command::Fleet(fleet::Command::Bundle(command)) => {
                print(&bundle::run(command, &config(), json)?)
            }
            Command::Announce {
                command:
                    Some(announce::Command::Config {
                        daemon,
                        asn,
                        neighbour,
                    }),
            } => print(&announce::snippet(&config(), daemon, asn, neighbour)?),
            Command::Completions { shell } => {
                let mut script = Vec::new();
                clap_complete::generate(shell, &mut Self::command(), "geodns", &mut script);
                print_raw(&script)
            }
            command => {
                let client = Client::new(&socket(&global)?).reaching(global.reach());
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
}

/// Runs a command that the daemon answers.
async fn ask(command: Command, client: &Client, global: &Global) -> anyhow::Result<()> {
    let &Global { json, verbose, .. } = global;
    let is_rollout = matches!(command, Command::Fleet(fleet::Command::Rollout(_)));
    if let (Some(Wait::For(_)), false) = (global.wait, is_rollout) {
        anyhow::bail!("--wait: write here or all; a time is for `geodns fleet apply`");
    }
    let answer = match command {
        Command::Acme(command) => acme::ask(command, client, json).await?,
        Command::Announce { command } => {
            let command = command.unwrap_or(announce::Command::List);
            announce::ask(command, client, json).await?
        }
        Command::Block(command) => block::ask(command, client, json).await?,
        Command::Capture(of) => return capture::capture(of, client).await,
        Command::Events(of) => return event::ask(of, client, json).await,
        Command::Explain(of) => return explain::ask(of, client, json, verbose).await,
        Command::Fleet(command) => fleet::ask(command, global.wait, client, json).await?,
        Command::Map(command) => map::ask(command, client, json).await?,
        Command::Mirror(command) => mirror::ask(command, client, json).await?,
        // The plural lists, as `zones` does.
        Command::Mirrors => mirror::ask(mirror::Command::List, client, json).await?,
        Command::Preview { file } => return preview::ask(&file, client, json).await,
        Command::Reload { zone } => {
            let reply = client.reload(&OfZone { zone }).await?;
            show(reply, json, status::reloaded)?
        }
        Command::Stats(of) => return stats::ask(of, client, json).await,
        Command::Status { check: true } => return status::check(client, json).await,
        Command::Status { check: false } => {
            let reply = client.status().await?;
            show(reply, json, |status| status::text(status, verbose))?
        }
        Command::Top(of) => return top::top(of, client, json).await,
        Command::Zones => show(client.zones().await?, json, zone::list)?,
        Command::Run(_)
        | Command::Check { .. }
        | Command::Doctor(_)
        | Command::Config(_)
        | Command::Zone(_)
        | Command::Detach { .. }
        | Command::Hold { .. }
        | Command::Completions { .. } => {
            unreachable!("needs no daemon")
        }
    };
    print(&answer)
}

/// `--socket`, else `GEODNS_SOCKET` (clap has seen to both), else the configuration's.
fn socket(global: &Global) -> anyhow::Result<PathBuf> {
    if let Some(socket) = global.socket.as_ref().filter(|p| !p.as_os_str().is_empty()) {
        return Ok(socket.clone());
    }
    SOCKET.of(global)
}

const SOCKET: Sought = Sought {
    key: ("control", "socket"),
    default: DEFAULT_SOCKET,
    what: "the control socket",
    hint: "name the socket with --socket",
};
const PINS: Sought = Sought {
    key: ("kernel", "pin"),
    default: DEFAULT_PIN,
    what: "kernel.pin",
    hint: "name the folder with --pin",
};

/// A path that a command needs of the configuration, which may be wrong elsewhere: a daemon that refused to reload it
/// must still be reachable.
struct Sought {
    /// Section and key.
    key: (&'static str, &'static str),
    default: &'static str,
    /// The path, in words.
    what: &'static str,
    /// The way to do without the configuration.
    hint: &'static str,
}

impl Sought {
    fn of(&self, global: &Global) -> anyhow::Result<PathBuf> {
        match &global.config {
            Some(config) => self.read(config),
            None if Path::new(DEFAULT_CONFIG).exists() => self.read(Path::new(DEFAULT_CONFIG)),
            None => Ok(self.default.into()),
        }
    }

    fn read(&self, config: &Path) -> anyhow::Result<PathBuf> {
        let Self {
            key: (section, key),
            default,
            what,
            hint,
        } = self;
        let text = files::read_to_string(config).map_err(|error| {
            anyhow::anyhow!(
                "cannot read {} to find {what}: {error} (or {hint})",
                config.display()
            )
        })?;
        let table: toml::Table = text.parse().map_err(|error: toml::de::Error| {
            let line = error
                .span()
                .map_or(1, |span| 1 + text[..span.start].matches('\n').count());
            anyhow::anyhow!(
                "{}:{line}: {} (or {hint})",
                config.display(),
                error.message()
            )
        })?;
        let path = table
            .get(*section)
            .and_then(|section| section.get(*key))
            .and_then(toml::Value::as_str)
            .unwrap_or(default);
        Ok(config.parent().unwrap_or(Path::new("")).join(path))
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub fn parse(line: &str) -> Result<Arguments, clap::Error> {
        Arguments::try_parse_from(line.split_whitespace())
    }

    pub fn usage(line: &str) -> String {
        let error = parse(line).unwrap_err();
        assert_eq!(error.exit_code(), 2, "{line}");
        error.to_string()
    }

    #[test]
    fn the_definition_is_sound() {
        Arguments::command().debug_assert();
    }

    /// The line under each command's help names all of them.
    #[test]
    fn options_of_every_command_are_explained_once() {
        let all = command_line();
        let global = |option: &&clap::Arg| option.is_global_set();
        for option in all.get_arguments().filter(global) {
            let long = option.get_long().unwrap();
            assert!(
                !option.is_hide_set() && GLOBAL.contains(&format!("--{long}")),
                "{long}"
            );
        }
        let map = all.find_subcommand("map").unwrap();
        let mut set = map.find_subcommand("set").unwrap().clone();
        let help = set.render_long_help().to_string();
        assert!(
            help.contains(GLOBAL) && !help.contains("GEODNS_SOCKET"),
            "{help}"
        );
    }

    /// Commands say what they do, and options what they stand for: neither begins with a clause for a subject.
    #[test]
    fn help_begins_with_a_verb_or_a_noun() {
        fn look(command: &clap::Command) {
            let of = command.get_name();
            let abouts = command.get_about().into_iter();
            let options = command.get_arguments().filter_map(clap::Arg::get_help);
            for help in abouts.chain(options).map(ToString::to_string) {
                for begin in [
                    "What ", "Who ", "Which ", "Where ", "How ", "So ", "Of ", "For so",
                ] {
                    assert!(!help.starts_with(begin), "{of}: {help}");
                }
                assert!(!help.contains("so many"), "{of}: {help}");
            }
            command.get_subcommands().for_each(look);
        }
        look(&Arguments::command());
    }

    #[test]
    fn options_of_every_command_go_before_or_after_it() {
        for line in [
            "geodns --socket /s --json map list",
            "geodns map --json list --socket /s",
            "geodns map list --socket=/s --json",
        ] {
            let arguments = parse(line).unwrap();
            assert_eq!(arguments.global.socket, Some("/s".into()), "{line}");
            assert!(arguments.global.json, "{line}");
            assert!(matches!(
                arguments.command,
                Command::Map(map::Command::List { pool: None })
            ));
        }
    }

    #[test]
    fn the_socket_is_found_in_a_configuration_even_in_a_wrong_one() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("geodns.toml");
        let find = |text: &str| {
            std::fs::write(&file, text).unwrap();
            SOCKET.read(&file).map_err(|error| error.to_string())
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
        let error = SOCKET.read(Path::new("/nonexistent.toml")).unwrap_err();
        assert!(error.to_string().contains("--socket"), "{error}");
    }

    #[test]
    fn the_option_goes_before_the_configuration() {
        let global = Global {
            config: Some("/nonexistent.toml".into()),
            socket: Some("/s".into()),
            json: false,
            verbose: false,
            wait: None,
            local: false,
        };
        assert_eq!(socket(&global).unwrap(), Path::new("/s"));
    }
}

//! What the command line takes.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum, ValueHint};
use clap_complete::Shell;
use ipnet::IpNet;

use crate::base::name::{Name, parse_name};
use crate::base::prefix;
use crate::config::{is_id, time};
use crate::control::acme::{MAX_ACME_TTL, check_token};
use crate::control::mirror::MAX_WEIGHT;
use crate::control::values::MAX_TIME;
use crate::observe::logs;

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
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the daemon
    Run(Run),
    /// Read and compile a configuration and every file that it names, and report all errors; change nothing
    Check {
        /// Configuration file [default: that of --config]
        #[arg(value_hint = ValueHint::FilePath)]
        file: Option<PathBuf>,
    },
    /// Describe the configuration
    #[command(subcommand, arg_required_else_help = true)]
    Config(Config),
    /// Check zone files
    #[command(subcommand, arg_required_else_help = true)]
    Zone(Zone),
    /// Set and clear temporary TXT records for ACME DNS-01 challenges
    #[command(subcommand, arg_required_else_help = true)]
    Acme(Acme),
    /// Drop unwanted queries, in the kernel and in the slow path
    #[command(subcommand, arg_required_else_help = true)]
    Block(Block),
    /// Set, import and list prefixes and their mirrors
    #[command(subcommand, arg_required_else_help = true)]
    Map(Map),
    /// Show what the daemon serves, where, and since when
    Status,
    /// Show the counters of the fast path, by verdict, and of the slow path
    Stats(Stats),
    /// Show queries and answers as they come: by name, region, mirror, client and verdict, with their times
    Top(Top),
    /// Record queries and the program's answers, for tcpdump and Wireshark
    ///
    /// tcpdump does not see queries that the kernel answers. A query that is passed to the slow path is recorded
    /// without its answer, which tcpdump sees. One capture runs at a time. It costs nothing while none does.
    Capture(Capture),
    /// Show mirrors, and take them out of service or put them back
    #[command(subcommand, arg_required_else_help = true)]
    Mirror(Mirror),
    /// List mirrors, whether they are in service, and why: as `mirror list`
    Mirrors,
    /// List zones and their steered names
    Zones,
    /// Follow a client's query to its answer, step by step, and compare with the kernel's answer
    ///
    /// Exits with 3 if the kernel would answer otherwise than it should.
    Explain(Explain),
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
    /// Write a completion script for a shell
    Completions {
        /// Shell
        shell: Shell,
    },
}

/// `geodns explain`
#[derive(Args, Debug)]
pub struct Explain {
    /// Name of the query
    pub name: String,
    /// Source address of the query
    #[arg(long, value_name = "ADDRESS", value_parser = address)]
    pub client: IpAddr,
    /// Client subnet in the query, such as 192.0.2.0/24 [default: none]
    #[arg(long, value_name = "PREFIX", value_parser = subnet)]
    pub ecs: Option<IpNet>,
    /// Type of the query
    #[arg(long = "type", value_name = "TYPE", default_value = "A")]
    pub qtype: String,
}

/// `geodns run`
#[derive(Args, Debug)]
pub struct Run {
    /// Interface to attach to, instead of the configuration's; may be given several times
    #[arg(long = "iface", value_name = "IFACE")]
    pub interfaces: Vec<String>,
    /// Log one in N packets of the fast path, such as 1/1000 [default: none]
    #[arg(long, value_name = "1/N", value_parser = one_in, default_value = "0", hide_default_value = true)]
    pub log_packets: u32,
    /// Format of the log
    #[arg(long, value_name = "FORMAT", default_value = "human")]
    pub log_format: LogFormat,
}

/// `--log-format`
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// Lines for people
    Human,
    /// One JSON object a line
    Json,
}

impl From<LogFormat> for logs::Format {
    fn from(format: LogFormat) -> Self {
        match format {
            LogFormat::Human => Self::Human,
            LogFormat::Json => Self::Json,
        }
    }
}

/// `geodns zone`
#[derive(Debug, Subcommand)]
pub enum Zone {
    /// Report every error in a zone file, and warn about likely mistakes
    ///
    /// This command does not know which names are steered; `geodns check` does.
    Check {
        /// Zone file
        #[arg(value_hint = ValueHint::FilePath)]
        file: PathBuf,
        /// Apex of the zone
        #[arg(long, value_name = "NAME", value_parser = zone_name)]
        origin: Name,
    },
}

/// `geodns config`
#[derive(Debug, Subcommand)]
pub enum Config {
    /// Print the JSON Schema of the configuration, for editors that complete and check TOML
    Schema,
}

/// `geodns acme`
#[derive(Debug, Subcommand)]
pub enum Acme {
    /// Add a token to a name. Saved, and in every answer, when the command returns
    Set {
        /// Name to prove, with or without _acme-challenge; *.NAME is proved at NAME
        name: String,
        /// Text of the TXT record: 1 to 255 characters
        #[arg(value_parser = token, allow_hyphen_values = true)]
        token: String,
        /// TTL in seconds
        #[arg(long, value_name = "SECONDS", default_value = "60", value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_ACME_TTL)))]
        ttl: u32,
        /// Time until the token expires, such as 10m
        #[arg(long = "for", value_name = "TIME", default_value = "1h", value_parser = holding)]
        time: Duration,
    },
    /// Remove all tokens of a name, or one of them
    Clear {
        /// Name, as it was set
        name: String,
        /// The token [default: all of the name]
        #[arg(value_parser = token, allow_hyphen_values = true)]
        token: Option<String>,
    },
    /// List tokens, and when they expire
    List,
}

/// `geodns top`
#[derive(Args, Debug)]
pub struct Top {
    /// Print one snapshot and exit
    #[arg(long)]
    pub once: bool,
}

/// `geodns capture`
#[derive(Args, Debug)]
pub struct Capture {
    /// Queries for this name
    #[arg(long, value_name = "NAME", conflicts_with = "below")]
    pub name: Option<String>,
    /// Queries for this name, or one below it
    #[arg(long, value_name = "NAME")]
    pub below: Option<String>,
    /// Queries for this type, such as ANY or TYPE65280
    #[arg(long = "type", value_name = "TYPE")]
    pub qtype: Option<String>,
    /// Queries from this prefix, such as 192.0.2.0/24
    #[arg(long, value_name = "PREFIX", value_parser = prefix)]
    pub from: Option<IpNet>,
    /// Queries with this verdict, as `geodns stats` names it; may be given several times
    #[arg(long, value_name = "VERDICT")]
    pub verdict: Vec<String>,
    /// Record one in N, a power of two [default: all]
    #[arg(long, value_name = "NUMBER")]
    pub every: Option<u32>,
    /// Stop after N packets
    #[arg(short = 'c', long, value_name = "NUMBER", value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,
    /// Stop after this time, such as 10s
    #[arg(long = "for", value_name = "TIME", value_parser = holding)]
    pub seconds: Option<Duration>,
    /// File to write; `-` is standard output
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub write: PathBuf,
}

/// `geodns block`
#[derive(Debug, Subcommand)]
pub enum Block {
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

/// `geodns map`
#[derive(Debug, Subcommand)]
pub enum Map {
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

/// `geodns mirror`
#[derive(Debug, Subcommand)]
pub enum Mirror {
    /// List mirrors, whether they are in service, and why
    List,
    /// Show everything about a mirror
    Show {
        /// Mirror's id
        #[arg(value_parser = mirror)]
        mirror: String,
    },
    /// Put into service, whatever checks say
    Up(Mirrors),
    /// Take out of service
    Down(Mirrors),
    /// Stop sending new clients
    Drain {
        /// The mirrors.
        #[command(flatten)]
        mirrors: Mirrors,
        /// Gradually over this time, such as 10m [default: at once]
        #[arg(long, value_name = "TIME", value_parser = over)]
        over: Option<Duration>,
    },
    /// Let the checks decide again, after up, down or drain
    Auto(Mirrors),
    /// Change the weight of a mirror
    Weight(Weight),
    /// Report another monitor's verdict: overrides our checks, is overridden by up, down and drain
    SetHealth(SetHealth),
}

/// One mirror or several.
#[derive(Args, Debug)]
pub struct Mirrors {
    /// Mirrors' ids
    #[arg(required = true, value_name = "MIRROR", value_parser = mirror)]
    pub mirrors: Vec<String>,
}

/// `geodns mirror weight`
#[derive(Args, Debug)]
pub struct Weight {
    /// Mirror's id
    #[arg(value_parser = mirror)]
    pub mirror: String,
    /// The weight; 0: no new clients
    #[arg(required_unless_present = "reset", value_parser = clap::value_parser!(u32).range(..=i64::from(MAX_WEIGHT)))]
    pub weight: Option<u32>,
    /// Gradually over this time, such as 10m [default: at once]
    #[arg(long, value_name = "TIME", value_parser = over)]
    pub over: Option<Duration>,
    /// Restore the configuration's weight
    #[arg(long, conflicts_with_all = ["weight", "over"])]
    pub reset: bool,
}

/// `geodns mirror set-health`
#[derive(Args, Debug)]
pub struct SetHealth {
    /// Mirror's id
    #[arg(value_parser = mirror)]
    pub mirror: String,
    /// The monitor's verdict
    #[arg(required_unless_present = "clear")]
    pub health: Option<Health>,
    /// Address of the mirror [default: all that have no verdict of their own]
    #[arg(long, value_parser = address)]
    pub address: Option<IpAddr>,
    /// Time that the verdict holds, such as 10m [default: until it is cleared]
    #[arg(long = "for", value_name = "TIME", value_parser = holding)]
    pub time: Option<Duration>,
    /// Reason, in one line
    #[arg(
        long,
        value_name = "TEXT",
        default_value = "",
        hide_default_value = true
    )]
    pub reason: String,
    /// Remove the verdict; without --address, every verdict on the mirror
    #[arg(long, conflicts_with_all = ["health", "time", "reason"])]
    pub clear: bool,
}

/// Another monitor's verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Health {
    /// The mirror works
    Up,
    /// The mirror does not work
    Down,
}

/// `geodns stats`
#[derive(Args, Debug)]
pub struct Stats {
    /// Also show counters that are zero
    #[arg(long)]
    pub all: bool,
    /// Show them with rates, again every SECONDS [default: 1]
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "1", value_parser = seconds)]
    pub watch: Option<Duration>,
}

fn zone_name(text: &str) -> Result<Name, String> {
    parse_name(text)
}

/// A prefix; an address alone is the prefix of just that address.
pub fn prefix(text: &str) -> Result<IpNet, String> {
    prefix::parse(text)
}

/// A client subnet, which may have mapped addresses.
fn subnet(text: &str) -> Result<IpNet, String> {
    match prefix::spelled(text) {
        Some(subnet) => prefix::check_host_bits(subnet),
        None => prefix::parse(text),
    }
}

fn address(text: &str) -> Result<IpAddr, String> {
    text.parse()
        .map_err(|_| "not an address: write it like 192.0.2.7 or 2001:db8::7".to_owned())
}

fn mirror(text: &str) -> Result<String, String> {
    if is_id(text) {
        return Ok(text.to_owned());
    }
    Err("not a mirror's id: `geodns mirror list` shows them".to_owned())
}

fn over(text: &str) -> Result<Duration, String> {
    time::duration(text)
        .filter(|time| *time <= MAX_TIME)
        .ok_or_else(|| {
            "write a number and ms, s, m, h or d, such as 10m; 365d at the most".to_owned()
        })
}

fn holding(text: &str) -> Result<Duration, String> {
    let time = over(text)?;
    if time.is_zero() {
        return Err("it would never hold: write a time such as 10m".to_owned());
    }
    Ok(time)
}

fn token(text: &str) -> Result<String, String> {
    check_token(text).map(|()| text.to_owned())
}

fn one_in(text: &str) -> Result<u32, String> {
    if text == "0" {
        return Ok(0);
    }
    text.strip_prefix("1/")
        .and_then(|number| number.parse().ok())
        .filter(|&number| number > 0)
        .ok_or_else(|| "write it like 1/1000, for one packet in a thousand".to_owned())
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
    use clap::CommandFactory;

    use super::*;

    fn parse(line: &str) -> Result<Arguments, clap::Error> {
        Arguments::try_parse_from(line.split_whitespace())
    }

    fn usage(line: &str) -> String {
        let error = parse(line).unwrap_err();
        assert_eq!(error.exit_code(), 2, "{line}");
        error.to_string()
    }

    #[test]
    fn the_definition_is_sound() {
        Arguments::command().debug_assert();
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
                Command::Map(Map::List { pool: None })
            ));
        }
    }

    #[test]
    fn run_takes_interfaces_and_logs() {
        let line = "geodns run --config c.toml --iface eth0 --iface eth1 --log-packets 1/1000 --log-format json";
        let arguments = parse(line).unwrap();
        assert_eq!(arguments.global.config, Some("c.toml".into()));
        let Command::Run(run) = arguments.command else {
            panic!("{arguments:?}");
        };
        assert_eq!(run.interfaces, ["eth0", "eth1"]);
        assert_eq!(run.log_packets, 1000);
        assert_eq!(run.log_format, LogFormat::Json);
        let Command::Run(run) = parse("geodns run").unwrap().command else {
            panic!();
        };
        assert_eq!((run.log_packets, run.log_format), (0, LogFormat::Human));
        for wrong in ["1000", "2/3", "1/0", "1/x"] {
            let message = usage(&format!("geodns run --log-packets {wrong}"));
            assert!(message.contains("write it like 1/1000"), "{message}");
        }
    }

    #[test]
    fn prefixes_are_checked_before_anybody_is_asked() {
        for (text, parsed) in [
            ("192.0.2.0/24", "192.0.2.0/24"),
            ("0.0.0.0/0", "0.0.0.0/0"),
            ("192.0.2.7", "192.0.2.7/32"),
            ("2001:DB8::/32", "2001:db8::/32"),
        ] {
            assert_eq!(prefix(text).unwrap().to_string(), parsed);
        }
        let message = usage("geodns map set 192.0.2.1/24 ams");
        assert!(
            message.contains("192.0.2.1/24 has bits set past its length; write 192.0.2.0/24"),
            "{message}"
        );
        for wrong in ["192.0.2.0/33", "192.0.2/24", "::/129", "ams", "/8"] {
            let message = usage(&format!("geodns map set {wrong} ams"));
            assert!(message.contains("not an address prefix"), "{message}");
        }
        usage("geodns map get 192.0.2.0/24");
        usage("geodns map");
        usage("geodns explain www.example.org");
    }

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

    fn changed(line: &str) -> Mirror {
        match parse(line).unwrap().command {
            Command::Mirror(mirror) => mirror,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn mirrors_are_set_one_by_one_or_several_at_once() {
        assert!(matches!(
            changed("geodns mirror down ams fra"),
            Mirror::Down(Mirrors { mirrors }) if mirrors == ["ams", "fra"]
        ));
        for line in [
            "geodns mirror drain ams fra --over 10m",
            "geodns mirror drain --over 10m ams fra",
        ] {
            let Mirror::Drain { mirrors, over } = changed(line) else {
                panic!("{line}");
            };
            assert_eq!(mirrors.mirrors, ["ams", "fra"], "{line}");
            assert_eq!(over, Some(Duration::from_secs(600)), "{line}");
        }
        assert!(matches!(
            changed("geodns mirror drain ams"),
            Mirror::Drain { over: None, .. }
        ));
        for wrong in [
            "mirror",
            "mirror up",
            "mirror up ams/fra",
            "mirror up ams --over 10m",
            "mirror drain ams --over 10",
            "mirror drain ams --over 366d",
            "mirror show",
            "mirror show ams fra",
        ] {
            usage(&format!("geodns {wrong}"));
        }
    }

    #[test]
    fn a_weight_is_given_or_reset() {
        let weight = |line: &str| match changed(line) {
            Mirror::Weight(weight) => (weight.weight, weight.over, weight.reset),
            other => panic!("{other:?}"),
        };
        let minute = Some(Duration::from_secs(60));
        assert_eq!(
            weight("geodns mirror weight ams 50"),
            (Some(50), None, false)
        );
        assert_eq!(
            weight("geodns mirror weight ams 0 --over 1m"),
            (Some(0), minute, false)
        );
        assert_eq!(
            weight("geodns mirror weight ams --reset"),
            (None, None, true)
        );
        for wrong in ["", "1000001", "-1", "x", "50 --reset", "--reset --over 1m"] {
            usage(&format!("geodns mirror weight ams {wrong}"));
        }
    }

    #[test]
    fn a_token_has_a_name_a_ttl_and_an_end() {
        let acme = |line: &str| match parse(&format!("geodns acme {line}")).unwrap().command {
            Command::Acme(acme) => acme,
            other => panic!("{other:?}"),
        };
        for (line, wanted) in [
            ("set *.example.org abc", ("abc", 60, 3600)),
            ("set x.test -a_b --ttl 5 --for 10m", ("-a_b", 5, 600)),
            ("set --ttl 5 --for 10m x.test --ab", ("--ab", 5, 600)),
        ] {
            let Acme::Set {
                token, ttl, time, ..
            } = acme(line)
            else {
                panic!("{line}");
            };
            assert_eq!((token.as_str(), ttl, time.as_secs()), wanted, "{line}");
        }
        assert!(matches!(
            acme("clear x.test"),
            Acme::Clear { token: None, .. }
        ));
        assert!(matches!(
            acme("clear x.test -x"),
            Acme::Clear { token: Some(token), .. } if token == "-x"
        ));
        assert!(matches!(acme("list"), Acme::List));
        for wrong in [
            "",
            "set",
            "set x.test",
            "set x.test a --ttl 0",
            "set x.test a --for 0s",
            "clear",
        ] {
            usage(&format!("geodns acme {wrong}"));
        }
    }

    #[test]
    fn a_verdict_is_given_or_cleared() {
        let line = "geodns mirror set-health ams down --address 2001:db8::1 --for 90s --reason x";
        let Mirror::SetHealth(said) = changed(line) else {
            panic!();
        };
        assert_eq!(said.health, Some(Health::Down));
        assert_eq!(said.address, Some("2001:db8::1".parse().unwrap()));
        assert_eq!(said.time, Some(Duration::from_secs(90)));
        assert_eq!((said.reason.as_str(), said.clear), ("x", false));
        for line in ["--clear", "--clear --address 192.0.2.1", "up"] {
            changed(&format!("geodns mirror set-health ams {line}"));
        }
        for wrong in [
            "",
            "sideways",
            "up --for 0s",
            "up --address ams",
            "up --clear",
            "--clear --for 1m",
            "--clear --reason x",
        ] {
            usage(&format!("geodns mirror set-health ams {wrong}"));
        }
    }
}

//! `geodns run`: the daemon.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use crate::daemon;
use crate::observe::logs;

/// `geodns run`
#[derive(Args, Debug)]
pub struct Arguments {
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

/// Runs the daemon until it is told to stop.
pub fn run(
    of: Arguments,
    config: PathBuf,
    socket: Option<PathBuf>,
    json: bool,
) -> anyhow::Result<()> {
    daemon::run(daemon::Options {
        config,
        interfaces: of.interfaces,
        socket,
        json_logs: json || of.log_format == LogFormat::Json,
        log_packets: of.log_packets,
    })
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::args::Command;
    use crate::cli::args::tests::{parse, usage};

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
}

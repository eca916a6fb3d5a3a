//! `geodns doctor`: whether the program can be loaded, attached and fed with packets here. Needs no daemon.

use std::io::{self, Write};
use std::path::Path;

use anyhow::Context;
use clap::Args;

use super::output::print;
use crate::config::{Config, DEFAULT_PIN};
use crate::doctor::{self, Options, Report};
use crate::kernel::drivers::{Finding, Level};
use crate::kernel::netdev::Netdevs;

/// `geodns doctor`
#[derive(Args, Debug)]
pub struct Arguments {
    /// Interface to examine; may be given several times [default: the configuration's, else every card]
    #[arg(long = "iface", value_name = "IFACE")]
    pub interfaces: Vec<String>,
    /// Attach the program for two seconds, and take it off: some cards are without packets for seconds
    #[arg(long = "try")]
    pub attach: bool,
}

/// There are problems, which have been printed.
#[derive(Debug, thiserror::Error)]
#[error("there are problems")]
pub struct Problems;

/// Examines, and prints what is found; an error if there are problems. `config`: the configuration, if there is one.
pub fn run(of: Arguments, config: Option<&Path>, json: bool) -> anyhow::Result<()> {
    let netdevs = Netdevs::read_now().context("cannot ask for interfaces (netlink)")?;
    let mut options = Options {
        interfaces: of.interfaces,
        listen: Some(Vec::new()),
        pin: DEFAULT_PIN.into(),
        attach: of.attach,
    };
    let mut wrong = None;
    match config.map(Config::load) {
        Some(Ok(config)) => {
            if options.interfaces.is_empty() {
                options.interfaces.clone_from(&config.kernel.interfaces);
            }
            options.pin.clone_from(&config.kernel.pin);
            options.listen.clone_from(&config.server.listen);
        }
        Some(Err(_)) => wrong = config,
        None => {}
    }
    let mut report = doctor::examine(&options, &netdevs, |what| {
        let _ = writeln!(io::stderr(), "geodns: {what}");
    });
    if let Some(config) = wrong {
        let text = format!("{} has errors, and is not looked at", config.display());
        let command = format!("geodns check {}", config.display());
        report.machine.push(Finding::problem(text).mend(command));
    }
    match json {
        true => print(&(serde_json::to_string(&report)? + "\n"))?,
        false => print(&text(&report))?,
    }
    match report.has_problems() {
        true => Err(Problems.into()),
        false => Ok(()),
    }
}

/// `geodns doctor`
fn text(report: &Report) -> String {
    let mut text = section("this machine", &report.machine);
    for of in &report.interfaces {
        let title = match of.driver.as_str() {
            "" => of.name.clone(),
            driver => format!("{} ({driver})", of.name),
        };
        text.push_str(&section(&title, &of.findings));
    }
    text
}

fn section(title: &str, findings: &[Finding]) -> String {
    let line = |finding: &Finding| {
        let level = match finding.level {
            Level::Ok => "ok",
            Level::Note => "note",
            Level::Problem => "problem",
        };
        format!("  {level:<7}  {finding}\n")
    };
    let lines: String = findings.iter().map(line).collect();
    format!("{title}\n{lines}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::args::Command;
    use crate::cli::args::tests::parse;
    use crate::doctor::Examined;

    #[test]
    fn doctor_takes_interfaces() {
        let line = "geodns doctor --iface eth0 --iface eth1 --try --json";
        let Command::Doctor(of) = parse(line).unwrap().command else {
            panic!();
        };
        assert_eq!(of.interfaces, ["eth0", "eth1"]);
        assert!(of.attach);
    }

    #[test]
    fn each_finding_is_a_line_with_its_command() {
        let report = Report {
            machine: vec![Finding::ok("Linux 6.1 loads the program")],
            interfaces: vec![Examined {
                name: "ens5".to_owned(),
                driver: "ena".to_owned(),
                findings: vec![
                    Finding::problem("MTU 9001, at most 3498 with XDP")
                        .mend("ip link set dev ens5 mtu 3498"),
                    Finding::note("attaching: the card is reset"),
                ],
            }],
        };
        assert!(report.has_problems());
        assert_eq!(
            text(&report),
            "this machine\n  ok       Linux 6.1 loads the program\n\
             ens5 (ena)\n  problem  MTU 9001, at most 3498 with XDP: ip link set dev ens5 mtu 3498\n  \
             note     attaching: the card is reset\n"
        );
    }
}

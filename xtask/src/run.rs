//! `cargo xtask run`, `demo` and `bench`: build, then become the program.

use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use crate::cmd::{self, say};
use crate::{build, data, debian, place, python};

#[derive(clap::Args)]
pub struct Args {
    /// The interface to serve on
    #[arg(long, value_name = "IFACE")]
    iface: String,
    /// The configuration [default: etc/geodns.toml, a small world that works as it stands]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// More arguments for `geodns run`
    #[arg(
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "ARGS"
    )]
    more: Vec<String>,
}

#[derive(clap::Args)]
pub struct Rest {
    /// Arguments for the program
    #[arg(
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "ARGS"
    )]
    rest: Vec<String>,
}

pub fn run(args: &Args) -> Result<()> {
    build::release()?;
    let mut command = as_root("geodns");
    let config = args
        .config
        .clone()
        .unwrap_or_else(|| place::root().join("etc/geodns.toml"));
    command
        .arg("run")
        .arg("--iface")
        .arg(&args.iface)
        .arg("--config")
        .arg(config)
        .args(&args.more);
    become_it(command)
}

/// The benches, which measure beside another name server; with `--peers`, beside all of them, with real data.
pub fn bench(args: &Rest) -> Result<()> {
    let peers = args.rest.iter().any(|word| word == "--peers");
    if peers {
        data::data()?;
    }
    match place::is_root() {
        true if peers => debian::peers("the bench beside other servers")?,
        true => {
            debian::servers("the benches")?;
            python::ready(&python::PEERS, "the benches")?;
        }
        false => {}
    }
    become_it(built("geodns-bench", "bench", args)?)
}

/// The demo, which is told where the city databases are; that of a fleet has none.
pub fn demo(args: &Rest) -> Result<()> {
    if args.rest.iter().any(|word| word == "--fleet") {
        if place::is_root() {
            debian::servers("the demo of a fleet")?;
        }
        return become_it(built("geodns-tests", "demo", args)?);
    }
    let cities = data::cities()?;
    let mut command = built("geodns-tests", "demo", &Rest { rest: Vec::new() })?;
    command.arg(cities).args(&args.rest);
    become_it(command)
}

/// Builds a binary of a package, and the daemon that it starts.
fn built(package: &str, name: &str, args: &Rest) -> Result<Command> {
    if place::is_root() {
        debian::clients(&format!("the {name}"))?;
    }
    build::objects()?;
    build::release()?;
    say(format!("building the {name} (release)"));
    cmd::run(cmd::cargo().args([
        "build",
        "--release",
        "--locked",
        "--package",
        package,
        "--bin",
        name,
    ]))?;
    let mut command = as_root(name);
    command.args(&args.rest);
    Ok(command)
}

/// A release binary, under sudo where needed.
fn as_root(name: &str) -> Command {
    let binary = place::target().join("release").join(name);
    if place::is_root() {
        return Command::new(binary);
    }
    say("this needs root: asking sudo");
    let mut sudo = Command::new("sudo");
    sudo.arg(binary);
    sudo
}

/// The program takes this process over, so Ctrl-C, SIGTERM and the exit status are its own.
fn become_it(mut command: Command) -> Result<()> {
    Err(command.exec()).with_context(|| format!("could not start `{}`", cmd::shown(&command)))
}

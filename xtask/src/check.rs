//! `cargo xtask check`: what a reader should never have to point out.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Result, bail};

use crate::cmd::{self, say};
use crate::{build, place, tidy, toolchain};

/// `cargo deny`: licences, bans, sources, advisories.
const DENY: (&str, &str) = ("cargo-deny", "0.20.2");
/// `cargo machete`: dependencies that nothing uses.
const MACHETE: (&str, &str) = ("cargo-machete", "0.9.2");
/// Where `cargo deny` gets the advisories from.
const ADVISORIES: &str = "https://github.com/RustSec/advisory-db";

type Check = fn() -> Result<()>;

pub fn check() -> Result<()> {
    let checks: [(&str, Check); 8] = [
        ("order", tidy::check),
        ("format", format),
        ("clippy", clippy),
        ("clippy of the eBPF program", clippy_ebpf),
        ("documentation", docs),
        ("licences, bans, sources", deny),
        ("advisories", advisories),
        ("unused dependencies", machete),
    ];
    // All of them, also after the first complaint: one run shows everything there is to mend.
    let mut failed = Vec::new();
    for (name, check) in checks {
        say(format!("checking {name}"));
        if let Err(err) = check() {
            say(format!("{err:#}"));
            failed.push(name);
        }
    }
    if !failed.is_empty() {
        bail!("not clean: {}", failed.join("; "));
    }
    say("all clean");
    Ok(())
}

fn format() -> Result<()> {
    component("rustfmt", "fmt")?;
    cmd::run(cmd::cargo().args(["fmt", "--all", "--check"]))?;
    let fuzz = place::root().join("fuzz/Cargo.toml");
    if fuzz.is_file() {
        cmd::run(
            cmd::cargo()
                .args(["fmt", "--check", "--manifest-path"])
                .arg(fuzz),
        )?;
    }
    Ok(())
}

fn clippy() -> Result<()> {
    component("clippy", "clippy")?;
    let mut clippy = cmd::cargo();
    clippy.args(["clippy", "--locked"]).args(build::HOST).args([
        "--all-targets",
        "--",
        "-D",
        "warnings",
    ]);
    cmd::run(&mut clippy)
}

/// With the compiler that builds it, for the target it is built for.
fn clippy_ebpf() -> Result<()> {
    let toolchain = toolchain::ready()?;
    toolchain.install_clippy()?;
    cmd::run(build::ebpf_cargo(&toolchain, "clippy").args(["--bins", "--", "-D", "warnings"]))
}

fn docs() -> Result<()> {
    let mut doc = cmd::cargo();
    doc.args(["doc", "--locked", "--no-deps"])
        .args(build::HOST)
        .env("RUSTDOCFLAGS", "-D warnings");
    cmd::run(&mut doc)
}

fn deny() -> Result<()> {
    let deny = tool(DENY)?;
    cmd::run(deny_command(&deny).args(["licenses", "bans", "sources"]))
}

fn advisories() -> Result<()> {
    let mut reach = Command::new("timeout");
    reach
        .args(["10", "git", "ls-remote", "--quiet", ADVISORIES, "HEAD"])
        .env("GIT_TERMINAL_PROMPT", "0");
    reach
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    if !reach.status().is_ok_and(|status| status.success()) {
        say("not checked: the database of advisories can't be reached from here");
        return Ok(());
    }
    cmd::run(deny_command(&tool(DENY)?).arg("advisories"))
}

fn deny_command(deny: &PathBuf) -> Command {
    let mut command = Command::new(deny);
    command.current_dir(place::root()).args([
        "--log-level",
        "warn",
        "--locked",
        "check",
        "--show-stats",
    ]);
    command
}

fn machete() -> Result<()> {
    let mut machete = Command::new(tool(MACHETE)?);
    // By folder: `fuzz` is a workspace of its own, and its lock file is not kept.
    machete.arg("--with-metadata").args(members()?);
    // It reports on its standard output, clean or not.
    let out = machete.current_dir(place::root()).output()?;
    if !out.status.success() {
        bail!("{}", String::from_utf8_lossy(&out.stdout).trim());
    }
    Ok(())
}

/// The folders of the workspace's packages.
fn members() -> Result<Vec<PathBuf>> {
    let metadata = cmd::output(cmd::cargo().args(["metadata", "--no-deps", "--format-version=1"]))?;
    let metadata: serde_json::Value = serde_json::from_str(&metadata)?;
    let packages = metadata["packages"].as_array().into_iter().flatten();
    let manifests = packages.filter_map(|package| package["manifest_path"].as_str());
    Ok(manifests
        .filter_map(|manifest| Some(Path::new(manifest).parent()?.to_owned()))
        .collect())
}

/// Makes a component of the running toolchain available: rustup's minimal profile has neither.
fn component(name: &str, subcommand: &str) -> Result<()> {
    if cmd::output(cmd::cargo().args([subcommand, "--version"])).is_ok() {
        return Ok(());
    }
    match std::env::var("RUSTUP_TOOLCHAIN") {
        Ok(toolchain) => toolchain::rustup_component(&toolchain, name),
        Err(_) => bail!("`cargo {subcommand}` is missing: install {name} for this toolchain"),
    }
}

/// A tool that had to be compiled: once, into the cache, without optimisation, which takes far longer
/// than it would ever save.
fn tool((name, version): (&str, &str)) -> Result<PathBuf> {
    let home = place::tools()?.join(format!("{name}-{version}"));
    let binary = home.join("bin").join(name);
    if !binary.is_file() {
        say(format!("compiling {name} {version} (once, about a minute)"));
        let mut install = cmd::cargo();
        install
            .args([
                "install",
                name,
                "--version",
                version,
                "--locked",
                "--debug",
                "--root",
            ])
            .arg(&home);
        cmd::run(&mut install)?;
    }
    Ok(binary)
}

//! `cargo xtask test`: every test there is.

use std::process::Command;
use std::{fs, slice};

use anyhow::{Result, bail};

use crate::cmd::{self, say};
use crate::{build, debian, guest, place, python, release};

#[derive(clap::Args)]
pub struct Args {
    /// Boot Debian's kernel of this version (6.1) in qemu, and run the tests that need a kernel there
    #[arg(long, value_name = "VERSION")]
    kernel: Option<String>,
    /// Boot Debian's kernels 6.1 and 6.12, or the one of this version, in qemu with ten network cards, and try each
    #[arg(
        long,
        value_name = "VERSION",
        num_args = 0..=1,
        default_missing_value = "",
        conflicts_with = "kernel"
    )]
    guest: Option<String>,
    /// Build the last release from the repository's history, once, and test upgrades from it and back
    #[arg(long)]
    upgrade: bool,
    /// Run the tests of a fleet for minutes, and those that are too long for every run
    #[arg(long)]
    fleet: bool,
    /// Filter for the test runner (a part of the name; -E 'expression' with nextest)
    #[arg(
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "FILTER"
    )]
    filter: Vec<String>,
}

pub fn test(args: &Args) -> Result<()> {
    if let Some(version) = &args.kernel {
        return guest::test(version, &args.filter);
    }
    if let Some(version) = &args.guest {
        // A word that is no version is the filter's.
        let (version, filter) = match version.starts_with(|c: char| c.is_ascii_digit()) {
            true => (Some(version.as_str()), args.filter.clone()),
            false => (None, [slice::from_ref(version), &args.filter].concat()),
        };
        let filter: Vec<String> = filter.into_iter().filter(|word| !word.is_empty()).collect();
        return guest::test_cards(version, &filter);
    }
    if place::is_root() {
        debian::clients("the network tests")?;
        debian::servers("the network tests")?;
        python::ready(&python::TESTS, "the tests of the API")?;
    } else {
        say(
            "not root: tests that load programs or make network namespaces will be skipped; each is listed at the end",
        );
    }
    build::objects()?;

    if args.upgrade {
        release::build()?;
    }

    // Tests that skip say so here, since a passed test's output is not shown.
    let skips = place::target().join("skipped-tests");
    fs::create_dir_all(place::target())?;
    fs::write(&skips, "")?;
    let last_release = release::built()?;
    let cargo = || {
        let mut cargo = cmd::cargo();
        cargo.env("GEODNS_SKIPS", &skips);
        if let Some(binary) = &last_release {
            cargo.env("GEODNS_LAST_RELEASE", binary);
        }
        if args.fleet {
            cargo.env("GEODNS_FLEET", "1");
        }
        cargo
    };

    say("building the tests");
    build::daemon()?;
    let with_nextest = Command::new("cargo-nextest")
        .arg("--version")
        .output()
        .is_ok_and(|out| out.status.success());
    let mut tests = cargo();
    tests.args(if with_nextest {
        &["nextest", "run"][..]
    } else {
        &["test", "--tests", "--no-fail-fast"][..]
    });
    tests.arg("--locked").args(build::HOST).args(&args.filter);
    cmd::run(&mut tests)?;
    if args.filter.is_empty() {
        let mut examples = cargo();
        examples.args(["test", "--locked"]).args(build::HOST);
        cmd::run(examples.args(["--doc", "--quiet"]))?;
    }
    report_skips(&fs::read_to_string(&skips)?, place::is_root())
}

/// Reasons to skip a test even with root. Real data is fetched, the last release built, and a fleet tested for long, only
/// on request. Not every kernel has VLAN interfaces (tagged frames are tested without them, too) or VRFs; those of
/// `--kernel` have both.
const EXCUSES: [&str; 5] = [
    "cargo xtask data",
    "cargo xtask test --fleet",
    "cargo xtask test --upgrade",
    "this kernel has no VLAN interfaces",
    "this kernel has no VRFs",
];

/// Lists what was skipped. As root a skip is a failure unless it is one of [`EXCUSES`].
fn report_skips(skips: &str, as_root: bool) -> Result<()> {
    let mut skips: Vec<&str> = skips.lines().filter(|line| !line.is_empty()).collect();
    skips.sort_unstable();
    if skips.is_empty() {
        return Ok(());
    }
    say(format!("{} tests were skipped:", skips.len()));
    for skip in &skips {
        eprintln!("    {skip}");
    }
    let excused = |skip: &str| EXCUSES.iter().any(|excuse| skip.contains(excuse));
    let unexpected: Vec<&&str> = skips.iter().filter(|skip| !excused(skip)).collect();
    if as_root && !unexpected.is_empty() {
        bail!("{} of them should not have been", unexpected.len());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_has_few_excuses() {
        let data = "million_prefixes: no data; run `cargo xtask data`\n";
        let root = "dig_is_answered: needs root\n";
        assert!(report_skips("", true).is_ok());
        assert!(report_skips(data, true).is_ok());
        assert!(report_skips(&format!("{data}{root}"), true).is_err());
        assert!(report_skips(&format!("{data}{root}"), false).is_ok());
    }
}

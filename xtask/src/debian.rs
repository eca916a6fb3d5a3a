//! Debian packages: which are missing, and installing them after saying so.

use std::process::{Command, Stdio};

use anyhow::{Result, bail};

use crate::cmd::{self, say};
use crate::place;

/// Is apt here?
pub fn is_here() -> bool {
    place::which("apt-get").is_some() && place::which("dpkg-query").is_some()
}

/// Those of `packages` that are not installed.
pub fn missing<'a>(packages: &[&'a str]) -> Vec<&'a str> {
    let mut query = Command::new("dpkg-query");
    query
        .args(["--show", "--showformat=${db:Status-Abbrev} ${Package}\n"])
        .args(packages);
    // It fails when any is unknown, and still lists the others.
    let listed = match query.stderr(Stdio::null()).output() {
        Ok(out) => String::from_utf8_lossy(&out.stdout).into_owned(),
        Err(_) => String::new(),
    };
    not_installed(packages, &listed)
}

fn not_installed<'a>(packages: &[&'a str], listed: &str) -> Vec<&'a str> {
    let installed: Vec<&str> = listed
        .lines()
        .filter_map(|line| line.strip_prefix("ii "))
        .map(str::trim)
        .collect();
    packages
        .iter()
        .copied()
        .filter(|package| !installed.contains(package))
        .collect()
}

/// Installs what is missing of `packages`; `why` completes "… for WHY".
///
/// As root, after saying so. Otherwise the error holds the commands to type.
pub fn install(packages: &[&str], why: &str) -> Result<()> {
    let missing = missing(packages);
    if missing.is_empty() {
        return Ok(());
    }
    let list = missing.join(" ");
    if !is_here() {
        bail!(
            "{why} needs {list} (Debian's names), and this is no Debian system: install them by its own means"
        );
    }
    if !place::is_root() {
        bail!(
            "{why} needs Debian packages that are not installed. Run this, then try again:\n    sudo apt-get update\n    sudo apt-get install -y --no-install-recommends {list}"
        );
    }
    say(format!("installing Debian packages for {why}: {list}"));
    if cmd::output(&mut apt(&missing)).is_err() {
        // The package lists may be old or absent.
        cmd::output(Command::new("apt-get").args(["update", "--quiet=2"]))?;
        cmd::output(&mut apt(&missing))?;
    }
    Ok(())
}

fn apt(packages: &[&str]) -> Command {
    let mut command = Command::new("apt-get");
    command.args([
        "install",
        "-y",
        "--no-install-recommends",
        "--quiet=2",
        "-o",
        "DPkg::Lock::Timeout=300",
    ]);
    command
        .args(packages)
        .env("DEBIAN_FRONTEND", "noninteractive");
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_packages_that_are_fully_installed_count() {
        let listed = "ii  curl\nrc  dnsperf\nun  ethtool\n";
        assert_eq!(
            not_installed(&["curl", "dnsperf", "ethtool", "tcpdump"], listed),
            ["dnsperf", "ethtool", "tcpdump"]
        );
    }
}

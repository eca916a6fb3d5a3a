//! The systemd unit, as systemd itself reads it.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use geodns_tests::built::binary;

#[test]
fn systemd_finds_nothing_wrong_with_the_units() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let etc = Path::new(env!("CARGO_MANIFEST_DIR")).join("../etc");
    let binary = binary()?;
    let mut units = Vec::new();
    for entry in fs::read_dir(&etc)? {
        let path = entry?.path();
        if path
            .extension()
            .is_none_or(|extension| extension != "service")
        {
            continue;
        }
        // It also looks for the program.
        let text = fs::read_to_string(&path)?;
        let text = text.replace("/usr/local/bin/geodns", &binary.display().to_string());
        let unit = folder.path().join(path.file_name().context("no name")?);
        fs::write(&unit, text)?;
        units.push(unit);
    }
    ensure!(!units.is_empty());
    let verified = Command::new("systemd-analyze")
        .args(["verify", "--man=no"])
        .args(&units)
        .output()
        .context("systemd-analyze, which `cargo xtask test` installs")?;
    let said = String::from_utf8_lossy(&verified.stderr);
    // Units of the machine may have faults of their own.
    let ours: Vec<&str> = said
        .lines()
        .filter(|line| line.contains("geodns"))
        .collect();
    ensure!(verified.status.success() && ours.is_empty(), "{said}");
    Ok(())
}

#[test]
fn the_holder_of_the_routes_has_its_device_and_outlives_the_daemon() -> Result<()> {
    let unit = Path::new(env!("CARGO_MANIFEST_DIR")).join("../etc/geodns.service");
    let unit = fs::read_to_string(unit)?;
    for line in [
        "KillMode=process",
        "RuntimeDirectoryPreserve=restart",
        "DevicePolicy=closed",
        "DeviceAllow=/dev/net/tun rw",
    ] {
        ensure!(unit.lines().any(|other| other == line), "{line}");
    }
    ensure!(!unit.contains("\nPrivateDevices=yes"));
    Ok(())
}

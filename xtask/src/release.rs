//! The last release, built from the repository's history: the tests of upgrades start it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::build::{self, TARGET};
use crate::cmd::{self, say};
use crate::{place, toolchain};

/// Its commit. No release has a tag yet.
const COMMIT: &str = "8103e67";

/// Where its binary is, once it has been built: in the cache.
fn place() -> Result<PathBuf> {
    Ok(place::cache()?.join("releases").join(COMMIT))
}

/// Its binary, if it has been built.
pub fn built() -> Result<Option<PathBuf>> {
    let binary = place()?.join("geodns");
    Ok(binary.is_file().then_some(binary))
}

/// Builds it, unless that has been done. Fails where the history has no such commit, as in a shallow clone.
///
/// It shares its dependencies with the tests of today, so it shares their target folder, and is built before the daemon
/// of today takes its place there.
pub fn build() -> Result<()> {
    if built()?.is_some() {
        return Ok(());
    }
    say(format!("building the last release ({COMMIT})"));
    let place = place()?;
    let source = place.join("source");
    fs::create_dir_all(&source).with_context(|| format!("could not make {}", source.display()))?;
    let archive = place.join("source.tar");
    let root = place::root();
    let mut git = Command::new("git");
    cmd::run(
        git.arg("-C")
            .arg(&root)
            .args(["archive", "--output"])
            .arg(&archive)
            .arg(COMMIT),
    )?;
    cmd::run(
        Command::new("tar")
            .arg("--extract")
            .arg("--file")
            .arg(&archive)
            .arg("--directory")
            .arg(&source),
    )?;
    let object = object(&source, &place.join("ebpf"))?;
    cmd::run(
        cmd::cargo()
            .current_dir(&source)
            .env("GEODNS_EBPF_OBJECT", object)
            .args(["build", "--locked", "--package", "geodns-user"])
            .args(["--bin", "geodns", "--target-dir"])
            .arg(place::target()),
    )?;
    // Whole, or not at all.
    let half = place.join("half");
    fs::copy(place::target().join("debug/geodns"), &half)
        .and_then(|_| fs::rename(&half, place.join("geodns")))
        .and_then(|()| fs::remove_dir_all(&source))
        .and_then(|()| fs::remove_dir_all(place.join("ebpf")))
        .and_then(|()| fs::remove_file(&archive))
        .with_context(|| format!("could not write {}", place.display()))
}

/// Builds its eBPF object.
fn object(source: &Path, target: &Path) -> Result<PathBuf> {
    let mut cargo = build::ebpf_cargo_of(source, target, &toolchain::ready()?, "build");
    cmd::run(cargo.args(["--bin", "geodns-ebpf"]))?;
    Ok(target.join(TARGET).join("release/geodns-ebpf"))
}

//! Building: the eBPF objects first, then the daemon that carries them.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use crate::cmd::{self, say};
use crate::place;
use crate::toolchain::{self, Toolchain};

/// The binary of package `geodns-ebpf` that the daemon carries.
const PROGRAM: &str = "geodns-ebpf";
/// The one that tests and benches load: their generators of packets.
const RIG: &str = "rig";
/// The target that they are built for.
pub const TARGET: &str = "bpfel-unknown-none";

/// Arguments that name the workspace without the crate that is no program of the host.
pub const HOST: [&str; 3] = ["--workspace", "--exclude", "geodns-ebpf"];

/// Cargo for the eBPF package. It has a target directory of its own, so that neither compiler sees the
/// other's work; the lock file is the host's and never changes here.
pub fn ebpf_cargo(toolchain: &Toolchain, subcommand: &str) -> Command {
    let root = place::root();
    ebpf_cargo_of(&root, &root.join("target/ebpf"), toolchain, subcommand)
}

/// The same for other sources, with a target directory for them.
pub fn ebpf_cargo_of(
    source: &Path,
    target: &Path,
    toolchain: &Toolchain,
    subcommand: &str,
) -> Command {
    let mut cargo = toolchain.cargo();
    cargo.current_dir(source).args([
        subcommand,
        "--package",
        "geodns-ebpf",
        "--release",
        "--locked",
    ]);
    cargo.args(["-Zbuild-std=core", "--target", TARGET, "--target-dir"]);
    cargo.arg(target);
    // BTF names the types of maps, and lets the verifier check global functions once each. Loads and stores
    // need not be aligned: x86-64 and arm64 can do that, and the verifier takes it there. The linker
    // is told, which makes the code; rustc, which does not know the feature, would warn of it. The release
    // profile strips the daemon; here that would take the BTF away.
    cargo.env(
        "RUSTFLAGS",
        "-Cdebuginfo=2 -Cstrip=none -Clink-arg=--btf \
         -Clink-arg=--cpu-features=+allows-misaligned-mem-access",
    );
    cargo
}

/// Builds the eBPF objects into `target/bpf/`: the program, and what tests and benches load.
pub fn objects() -> Result<()> {
    object(PROGRAM)?;
    object(RIG)
}

fn object(name: &str) -> Result<()> {
    let toolchain = toolchain::ready()?;
    say(format!("building the eBPF object {name}"));
    cmd::run(ebpf_cargo(&toolchain, "build").args(["--bin", name]))?;
    put(name)
}

/// Copies a built object to where the daemon's build script and the tests look for it.
fn put(name: &str) -> Result<()> {
    let built = place::root()
        .join("target/ebpf")
        .join(TARGET)
        .join("release")
        .join(name);
    let placed = place::objects().join(name);
    let bytes = fs::read(&built).with_context(|| format!("could not read {}", built.display()))?;
    // A new time on an old object would rebuild the daemon.
    if fs::read(&placed).is_ok_and(|old| old == bytes) {
        return Ok(());
    }
    fs::create_dir_all(place::objects())?;
    // By way of another name: a build that runs beside us never sees half an object.
    let half = place::objects().join(format!(".{name}.{}", std::process::id()));
    fs::write(&half, bytes)
        .and_then(|()| fs::rename(&half, &placed))
        .with_context(|| format!("could not write {}", placed.display()))
}

/// Builds the daemon that network tests start, with the features that the tests build it with.
pub fn daemon() -> Result<()> {
    cmd::run(
        cmd::cargo()
            .args(["build", "--locked"])
            .args(HOST)
            .args(["--bin", "geodns"]),
    )
}

/// Builds everything an operator needs: `target/release/geodns`.
pub fn release() -> Result<()> {
    object(PROGRAM)?;
    say("building geodns (release)");
    // The daemon's build script finds the object where it was just put.
    cmd::run(cmd::cargo().args(["build", "--release", "--locked", "--package", "geodns-user"]))?;
    say(format!(
        "built {}",
        place::target().join("release/geodns").display()
    ));
    Ok(())
}

//! The daemon and the eBPF objects that `cargo xtask build` and `cargo xtask test` have built.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// The daemon's binary: `GEODNS_BIN`, else the one that was built beside this program.
pub fn binary() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("GEODNS_BIN") {
        return Ok(path.into());
    }
    let here = std::env::current_exe()?;
    // Tests stand in a folder `deps` below the binaries.
    here.ancestors()
        .skip(1)
        .take(2)
        .map(|folder| folder.join("geodns"))
        .find(|path| path.is_file())
        .with_context(|| {
            format!(
                "there is no geodns beside {}: run `cargo xtask test`, which builds it",
                here.display()
            )
        })
}

/// The object of the responder: `GEODNS_EBPF_OBJECT`, else where `cargo xtask build` puts it.
pub fn responder_object() -> Result<Vec<u8>> {
    object("GEODNS_EBPF_OBJECT", "geodns-ebpf")
}

/// The object of the rig: `GEODNS_RIG_OBJECT`, else where `cargo xtask build` puts it.
pub fn rig_object() -> Result<Vec<u8>> {
    object("GEODNS_RIG_OBJECT", "rig")
}

fn object(variable: &str, name: &str) -> Result<Vec<u8>> {
    // The repository's own folder, whatever CARGO_TARGET_DIR says of what cargo builds.
    let built = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/bpf");
    let path = std::env::var_os(variable).map_or_else(|| built.join(name), PathBuf::from);
    std::fs::read(&path)
        .with_context(|| format!("cannot read {}: run `cargo xtask build`", path.display()))
}

//! Where things are: the repository, and a cache outside it that survives `cargo clean`.

use std::env;
use std::path::PathBuf;

use anyhow::{Context, Result};

/// The repository.
pub fn root() -> PathBuf {
    // Set by `cargo run`; the other is for a binary started by hand.
    let xtask = env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    match xtask.parent() {
        Some(root) => root.to_path_buf(),
        None => xtask,
    }
}

/// The host's target directory. The eBPF objects stay under the repository's own.
pub fn target() -> PathBuf {
    match env::var_os("CARGO_TARGET_DIR") {
        Some(dir) => root().join(dir),
        None => root().join("target"),
    }
}

/// Where the eBPF objects lie; `geodns-user/build.rs` looks here.
pub fn objects() -> PathBuf {
    root().join("target/bpf")
}

/// `$GEODNS_CACHE`, else `geodns` in the user's XDG cache.
pub fn cache() -> Result<PathBuf> {
    if let Some(dir) = env::var_os("GEODNS_CACHE").filter(|dir| !dir.is_empty()) {
        return Ok(dir.into());
    }
    if let Some(dir) = env::var_os("XDG_CACHE_HOME").filter(|dir| !dir.is_empty()) {
        return Ok(PathBuf::from(dir).join("geodns"));
    }
    let home = env::var_os("HOME")
        .context("neither GEODNS_CACHE, XDG_CACHE_HOME nor HOME is set: no place for a cache")?;
    Ok(PathBuf::from(home).join(".cache/geodns"))
}

/// Tools that had to be compiled.
pub fn tools() -> Result<PathBuf> {
    Ok(cache()?.join("tools"))
}

/// Is this root?
pub fn is_root() -> bool {
    // The owner of our own entry in /proc is our effective user.
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata("/proc/self").is_ok_and(|meta| meta.uid() == 0)
}

/// A program's full path, looked for along `PATH`.
pub fn which(program: &str) -> Option<PathBuf> {
    env::split_paths(&env::var_os("PATH")?)
        .map(|dir| dir.join(program))
        .find(|path| path.is_file())
}

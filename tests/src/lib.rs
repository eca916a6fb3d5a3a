//! What the batteries, the demo and the benches share: little worlds of network namespaces, a
//! daemon in one of them, and questions byte by byte.
//!
//! - [`world`]: namespaces, veth pairs, VLANs, sockets and programs inside them
//! - [`daemon`]: `geodns run` with a configuration, a pin path and a socket of its own
//! - [`dns`]: queries, well-formed and not, and what came back
//! - [`packet`]: the same in Ethernet frames
//! - [`rig`]: the loaded programs, without a daemon
//! - [`mutate`]: queries with something wrong, by the million
//!
//! Everything made here is named after the process that made it and goes when it is dropped; what
//! a killed process left behind is swept by the next.

pub mod bench;
pub mod daemon;
pub mod dns;
pub mod mutate;
pub mod packet;
pub mod rig;
pub mod world;

use std::path::PathBuf;

/// Folder that `cargo xtask build` puts everything in.
pub fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(
        || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../target")),
        PathBuf::from,
    )
}

/// Whether a test that needs root may run. Without root it says so, and in CI it fails.
pub fn privileged(test: &str) -> bool {
    if nix::unistd::geteuid().is_root() {
        return true;
    }
    assert!(
        std::env::var_os("CI").is_none(),
        "{test} needs root, and nothing is skipped in CI"
    );
    eprintln!("SKIPPED, needs root: {test}");
    // The output of a test that passes is not shown: `cargo xtask test` reads this.
    if let Some(skips) = std::env::var_os("GEODNS_SKIPS") {
        std::fs::OpenOptions::new()
            .append(true)
            .create(true)
            .open(skips)
            .and_then(|mut file| {
                std::io::Write::write_all(&mut file, format!("{test}: needs root\n").as_bytes())
            })
            .expect("a skip is noted");
    }
    false
}

/// Returns from a test that needs root when there is none, saying which it was.
#[macro_export]
macro_rules! needs_root {
    () => {
        if !$crate::privileged(&format!(
            "{} ({}:{})",
            std::thread::current().name().unwrap_or("?"),
            file!(),
            line!()
        )) {
            return Ok(());
        }
    };
}

//! Finds the eBPF object that the daemon carries.
//!
//! `GEODNS_EBPF_OBJECT` names it, else it is where `cargo xtask build` puts it. Without one the
//! crate still builds, so that checks and unit tests need no eBPF toolchain; the daemon then says
//! so at start.

use std::env;
use std::path::{Path, PathBuf};

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=GEODNS_EBPF_OBJECT");
    println!("cargo::rustc-check-cfg=cfg(ebpf_object)");

    let object = match env::var_os("GEODNS_EBPF_OBJECT") {
        Some(path) => {
            let path = PathBuf::from(path);
            assert!(
                path.is_absolute() && path.is_file(),
                "GEODNS_EBPF_OBJECT={}: must be the absolute path of a file",
                path.display()
            );
            path
        }
        None => {
            let folder = Path::new(&env::var("CARGO_MANIFEST_DIR").unwrap()).join("../target/bpf");
            let object = folder.join("geodns-ebpf");
            if !object.is_file() {
                // Its folder is watched: a path that is not there would rebuild the crate every time.
                let _ = std::fs::create_dir_all(&folder);
                println!("cargo::rerun-if-changed={}", folder.display());
            }
            object
        }
    };
    if object.is_file() {
        println!("cargo::rerun-if-changed={}", object.display());
        println!("cargo::rustc-env=GEODNS_EBPF_OBJECT={}", object.display());
        println!("cargo::rustc-cfg=ebpf_object");
    }
}

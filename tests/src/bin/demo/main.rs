//! `cargo xtask demo`: little worlds in network namespaces, to see geodns at work.
//!
//! - `cities`: one server, mirrors, and clients of six cities
//! - `forward`, with `--keep`: the dashboard of that server, for a browser
//! - `fleet`, with `--fleet`: three sites with one anycast address, which share one state
//!
//! Nothing leaves the namespaces, and nothing is left of them at the end, nor after Ctrl-C.

mod cities;
mod fleet;
mod forward;

use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::{SigHandler, Signal, signal};

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

extern "C" fn interrupted(_: std::ffi::c_int) {
    INTERRUPTED.store(true, Ordering::Relaxed);
}

fn main() -> ExitCode {
    // Everything goes when it is dropped; so a signal only stops the next step.
    for name in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        // SAFETY: the handler stores to an atomic and does nothing else.
        if let Err(error) = unsafe { signal(name, SigHandler::Handler(interrupted)) } {
            eprintln!("demo: cannot handle {name}: {error}");
            return ExitCode::FAILURE;
        }
    }
    match demo() {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) if INTERRUPTED.load(Ordering::Relaxed) => {
            eprintln!("\ndemo: interrupted; everything is taken down");
            ExitCode::from(130)
        }
        Err(error) => {
            eprintln!("demo: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn step() -> Result<()> {
    ensure!(!INTERRUPTED.load(Ordering::Relaxed), "interrupted");
    Ok(())
}

fn demo() -> Result<()> {
    ensure!(
        nix::unistd::geteuid().is_root(),
        "network namespaces and XDP need root: run `sudo cargo xtask demo`"
    );
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let mut words = arguments.iter().map(String::as_str);
    match (words.next(), words.next()) {
        (Some("--fleet"), None) => fleet::demo(),
        (Some(folder), keep @ (None | Some("--keep"))) if !folder.starts_with('-') => {
            cities::demo(Path::new(folder), keep.is_some())
        }
        (Some(_), _) => bail!("the only arguments are --fleet and --keep"),
        (None, _) => {
            None.context("where the city databases are is not said: run `cargo xtask demo`")
        }
    }
}

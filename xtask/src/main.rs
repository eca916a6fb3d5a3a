//! `cargo xtask`: every chore of this repository, one command each.
//!
//! ```text
//! build      the eBPF objects, then the daemon that carries them
//! run        build, then serve on an interface
//! test       every test; --kernel boots another kernel in qemu, --guest one with network cards
//! check      format, lints, docs, licences, unused dependencies
//! map        the land of the dashboard's map
//! data       real GeoIP data into a cache outside git
//! demo       the binary of package geodns-tests
//! bench      the binary of package geodns-bench
//! ```
//!
//! All commands do their own set-up: each names a missing package, with the reason,
//! before it installs it.
//!
//! - `build`, `run`, `test`, `check`, `data`, `map`: a command each
//! - `tidy`: order that the compiler does not keep, a part of `check`
//! - `toolchain`: what builds the eBPF program; `release`: the last release; `debian`, `python`: what tests drive
//! - `kernel`, `guest`: another kernel; the machine that qemu emulates, and the tests in it
//! - `cmd`: other programs, run; `place`: where things are

mod build;
mod check;
mod cmd;
mod data;
mod debian;
mod guest;
mod kernel;
mod map;
mod place;
mod python;
mod release;
mod run;
mod test;
mod tidy;
mod toolchain;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Build, run, test and check geodns")]
struct Args {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Build the eBPF objects and target/release/geodns
    Build,
    /// Build, then serve on an interface (Ctrl-C ends it)
    Run(run::Args),
    /// Check format, lints, documentation, licences and dependencies
    Check,
    /// Fetch real GeoIP data into the cache and derive the list of prefixes that tests and benches use
    Data,
    /// Draw the land of the dashboard's map from land-110m.json of the npm package world-atlas
    Map(map::Args),
    /// Show a little world: a server and clients in network namespaces, and the mirror that each client gets
    Demo(run::Rest),
    /// Measure: answers a second, import, time to a changed answer, the verifier's count
    Bench(run::Rest),
    /// Run every test: unit, property, kernel, network, documentation
    Test(test::Args),
}

fn main() -> ExitCode {
    let args = Args::parse();
    let done = match args.task {
        Task::Build => build::release(),
        Task::Run(args) => run::run(&args),
        Task::Check => check::check(),
        Task::Data => data::data(),
        Task::Map(args) => map::map(&args),
        Task::Demo(args) => run::demo(&args),
        Task::Bench(args) => run::bench(&args),
        Task::Test(args) => test::test(&args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(err) => {
            eprintln!("xtask: {err:#}");
            ExitCode::FAILURE
        }
    }
}

//! The `geodns` binary: daemon and command line.

fn main() -> std::process::ExitCode {
    geodns::cli::main()
}

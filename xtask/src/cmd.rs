//! Running other programs.

use std::env;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// Says what is being done.
pub fn say(line: impl AsRef<str>) {
    eprintln!("xtask: {}", line.as_ref());
}

/// The command as a person would type it.
pub fn shown(command: &Command) -> String {
    let mut line = quoted(&command.get_program().to_string_lossy());
    for arg in command.get_args() {
        line.push(' ');
        line.push_str(&quoted(&arg.to_string_lossy()));
    }
    line
}

/// A word as a shell takes it.
pub fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_=./:,+@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

/// Runs it; anything but success is an error that names the command.
pub fn run(command: &mut Command) -> Result<()> {
    let line = shown(command);
    let status = command
        .status()
        .with_context(|| format!("could not start `{line}`"))?;
    if !status.success() {
        bail!("`{line}` failed ({status})");
    }
    Ok(())
}

/// Runs it and gives what it printed; its complaints are part of the error.
pub fn output(command: &mut Command) -> Result<String> {
    Ok(String::from_utf8_lossy(&bytes(command)?).into_owned())
}

/// The same, as it comes.
pub fn bytes(command: &mut Command) -> Result<Vec<u8>> {
    let line = shown(command);
    let out = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("could not start `{line}`"))?;
    if !out.status.success() {
        let complaint = String::from_utf8_lossy(&out.stderr);
        bail!("`{line}` failed ({}): {}", out.status, complaint.trim());
    }
    Ok(out.stdout)
}

/// Cargo for the host workspace, with the toolchain that runs this very program.
///
/// `cargo run` tells its child about the package it runs. Passed on, that would look like a changed
/// environment to build scripts, and every switch between `cargo test` and `cargo xtask test` would rebuild.
pub fn cargo() -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    for (name, _) in env::vars_os() {
        let lossy = name.to_string_lossy();
        if lossy.starts_with("CARGO_PKG_") || lossy.starts_with("CARGO_MANIFEST_") {
            command.env_remove(&name);
        }
    }
    command.current_dir(crate::place::root());
    command
}

/// Cargo of another toolchain: nothing of this one's choices may reach it.
pub fn foreign_cargo(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new(program);
    for (name, _) in env::vars_os() {
        if is_of_this_toolchain(&name.to_string_lossy()) {
            command.env_remove(&name);
        }
    }
    command.current_dir(crate::place::root());
    command
}

fn is_of_this_toolchain(name: &str) -> bool {
    const NAMES: &[&str] = &[
        "CARGO",
        "CARGO_INCREMENTAL",
        "CARGO_MAKEFLAGS",
        "LD_LIBRARY_PATH",
        "RUSTUP_TOOLCHAIN",
    ];
    const PREFIXES: &[&str] = &[
        "CARGO_BIN_",
        "CARGO_BUILD_",
        "CARGO_ENCODED_",
        "CARGO_MANIFEST_",
        "CARGO_PKG_",
        "CARGO_PROFILE_",
        "CARGO_TARGET_",
        "RUSTC",
        "RUSTDOC",
        "RUSTFLAGS",
    ];
    NAMES.contains(&name) || PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_toolchains_choices_are_known_and_the_users_net_settings_are_left() {
        for name in [
            "CARGO",
            "RUSTC",
            "RUSTC_WRAPPER",
            "RUSTFLAGS",
            "RUSTUP_TOOLCHAIN",
            "CARGO_BUILD_TARGET",
        ] {
            assert!(is_of_this_toolchain(name), "{name}");
        }
        for name in [
            "CARGO_HOME",
            "RUSTUP_HOME",
            "CARGO_HTTP_PROXY",
            "CARGO_REGISTRIES_X_INDEX",
            "PATH",
            "CARGO_NET_OFFLINE",
        ] {
            assert!(!is_of_this_toolchain(name), "{name}");
        }
    }

    #[test]
    fn a_command_is_shown_as_one_would_type_it() {
        let mut command = Command::new("apt-get");
        command.args(["install", "a b", "it's", ""]);
        assert_eq!(shown(&command), r"apt-get install 'a b' 'it'\''s' ''");
    }
}

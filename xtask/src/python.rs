//! Python programs that tests drive, in an environment of their own in the cache.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result};

use crate::cmd::{self, say};
use crate::{debian, place};

/// PyPI's packages in an environment of their own.
pub struct Environment {
    /// Its folder in the cache.
    folder: &'static str,
    packages: &'static [&'static str],
}

/// A validator of OpenAPI documents, and a fuzzer that reads them.
pub const TESTS: Environment = Environment {
    folder: "python",
    packages: &["openapi-spec-validator==0.9.0", "schemathesis==4.32.5"],
};

/// Other ways to announce a node: `cargo xtask bench fleet` measures them beside ours.
pub const PEERS: Environment = Environment {
    folder: "python-peers",
    packages: &["anycast-healthchecker==0.9.10", "exabgp==5.0.15"],
};

/// Makes an environment, if it is not there with just these packages; `why` completes "… for WHY".
pub fn ready(environment: &Environment, why: &str) -> Result<()> {
    let home = place::cache()?.join(environment.folder);
    let mark = home.join("packages");
    let wanted = environment.packages.join("\n");
    if fs::read_to_string(&mark).is_ok_and(|packages| packages == wanted) {
        return Ok(());
    }
    say(format!(
        "installing Python packages for {why}, into the cache: {}",
        environment.packages.join(" ")
    ));
    if home.exists() {
        fs::remove_dir_all(&home).with_context(|| format!("cannot remove {}", home.display()))?;
    }
    let mut venv = Command::new("python3");
    venv.args(["-m", "venv"]).arg(&home);
    if cmd::output(&mut venv).is_err() {
        debian::install(&["python3", "python3-venv"], why)?;
        cmd::output(&mut venv)?;
    }
    let mut pip = Command::new(home.join("bin/pip"));
    pip.args(["install", "--quiet", "--disable-pip-version-check"]);
    cmd::output(pip.args(environment.packages))?;
    // Written last: what was interrupted is made anew.
    fs::write(&mark, wanted).with_context(|| format!("cannot write {}", mark.display()))
}

//! The toolchain of the eBPF program: a compiler of LLVM 22 that has the sources of `core`, and a `bpf-linker` of the
//! same LLVM.
//!
//! Two ways are known to work:
//! - a rustup toolchain with the component `rust-src`; its linker borrows rustc's own LLVM;
//! - Debian's `rustc-web`, `cargo-web`, `rust-web-src` and `llvm-22-dev`.
//!
//! One that is here already is used. Otherwise rustup fetches the missing parts, or, where it cannot, Debian's packages
//! are installed. A stamp in the cache remembers the outcome for as long as the files that it names stay as they were.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::UNIX_EPOCH;

use anyhow::{Context, Result, bail};

use crate::cmd::{self, say};
use crate::{debian, place};

/// The LLVM that compiler and linker must share.
const LLVM: &str = "22";
/// Fetched when rustup has no toolchain of that LLVM.
const RUSTUP_FALLBACK: &str = "1.96.0";
/// Links with rustc's own LLVM, so it needs no system LLVM. Later versions dropped that.
const LINKER_FOR_RUSTUP: &str = "0.10.3";
/// Links with Debian's LLVM.
const LINKER_FOR_DEBIAN: &str = "0.13.0";
/// Debian's compiler, its sources, and what `bpf-linker` is built with.
const DEBIAN: &[&str] = &[
    "rustc-web",
    "cargo-web",
    "rust-web-src",
    "llvm-22-dev",
    "libzstd-dev",
    "zlib1g-dev",
    "g++",
];

/// A compiler for the eBPF program that is ready to use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Toolchain {
    /// rustup's, or Debian's.
    kind: Kind,
    /// Its compiler.
    rustc: PathBuf,
    /// The folder that holds its `bpf-linker`.
    linker: PathBuf,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    /// A rustup toolchain, by name.
    Rustup(String),
    /// Debian's packages.
    Debian,
}

impl Toolchain {
    /// Cargo of this toolchain, ready for `-Zbuild-std`, with nothing of the host's toolchain in its environment.
    pub fn cargo(&self) -> Command {
        let mut cargo = match &self.kind {
            Kind::Rustup(name) => {
                let mut cargo = cmd::foreign_cargo("cargo");
                cargo.env("RUSTUP_TOOLCHAIN", name);
                cargo
            }
            Kind::Debian => {
                let mut cargo = cmd::foreign_cargo("/usr/bin/cargo");
                cargo.env("RUSTC", &self.rustc);
                cargo
            }
        };
        let mut path = vec![self.linker.clone()];
        if self.kind == Kind::Debian {
            path.push("/usr/bin".into());
        }
        path.extend(std::env::split_paths(
            &std::env::var_os("PATH").unwrap_or_default(),
        ));
        if let Ok(path) = std::env::join_paths(path) {
            cargo.env("PATH", path);
        }
        // `-Zbuild-std` is unstable, and these are release compilers.
        cargo.env("RUSTC_BOOTSTRAP", "1");
        cargo
    }

    /// Makes its clippy available.
    pub fn install_clippy(&self) -> Result<()> {
        match &self.kind {
            Kind::Debian => debian::install(&["rust-web-clippy"], "linting the eBPF program"),
            Kind::Rustup(name) => rustup_component(name, "clippy"),
        }
    }

    /// One line for people.
    pub fn describe(&self) -> String {
        let linker = self.linker.join("bpf-linker");
        match &self.kind {
            Kind::Debian => format!("Debian's rustc-web and {}", linker.display()),
            Kind::Rustup(name) => format!("rustup's {name} and {}", linker.display()),
        }
    }

    /// The stamp: a line for each of kind, compiler and linker, the files with size and time.
    fn stamp(&self) -> Option<String> {
        let kind = match &self.kind {
            Kind::Debian => "debian",
            Kind::Rustup(name) => name.as_str(),
        };
        let rustc = identity(&self.rustc)?;
        let linker = identity(&self.linker.join("bpf-linker"))?;
        Some(format!("{kind}\n{rustc}\n{linker}\n"))
    }

    /// Reads a stamp, if it is still true.
    fn from_stamp(stamp: &str) -> Option<Self> {
        let mut lines = stamp.lines();
        let kind = match lines.next()? {
            "debian" => Kind::Debian,
            name => Kind::Rustup(name.to_owned()),
        };
        let mut file = || lines.next()?.split('\t').next().map(PathBuf::from);
        let (rustc, linker) = (file()?, file()?);
        let toolchain = Self {
            kind,
            rustc,
            linker: linker.parent()?.to_path_buf(),
        };
        (toolchain.stamp()? == stamp).then_some(toolchain)
    }
}

/// A file's path, size and time of change.
fn identity(path: &Path) -> Option<String> {
    let meta = fs::metadata(path).ok()?;
    let changed = meta
        .modified()
        .ok()?
        .duration_since(UNIX_EPOCH)
        .ok()?
        .as_secs();
    Some(format!("{}\t{}\t{changed}", path.display(), meta.len()))
}

/// The toolchain for the eBPF program; installs it where it is missing.
pub fn ready() -> Result<Toolchain> {
    let stamp = place::cache()?.join("toolchain");
    if let Some(toolchain) = fs::read_to_string(&stamp)
        .ok()
        .as_deref()
        .and_then(Toolchain::from_stamp)
    {
        return Ok(toolchain);
    }
    let toolchain = find_or_install()?;
    say(format!(
        "the eBPF program is built by {}",
        toolchain.describe()
    ));
    if let Some(text) = toolchain.stamp() {
        fs::create_dir_all(place::cache()?)?;
        fs::write(&stamp, text).with_context(|| format!("could not write {}", stamp.display()))?;
    }
    Ok(toolchain)
}

fn find_or_install() -> Result<Toolchain> {
    if let Some((name, rustc)) = rustup_toolchains()
        .into_iter()
        .find(|(_, rustc)| has_sources(rustc))
    {
        return with_rustup(name, rustc);
    }
    if debian_is_ready() {
        return with_debian();
    }
    say(format!(
        "the eBPF program needs a Rust compiler of LLVM {LLVM} with the sources of `core`: none here has both"
    ));
    let refused = match fetch_with_rustup() {
        Ok((name, rustc)) => return with_rustup(name, rustc),
        Err(err) => err,
    };
    say(format!("rustup can't provide it: {}", first_line(&refused)));
    if !debian::is_here() {
        bail!(
            "no compiler for the eBPF program. With rustup and network, run this, then try again:\n    \
             rustup toolchain install {RUSTUP_FALLBACK} --profile minimal --component rust-src"
        );
    }
    debian::install(DEBIAN, "compiling the eBPF program")?;
    if !debian_is_ready() {
        bail!(
            "Debian's rustc-web is not of LLVM {LLVM}: {}. Its security archive has the right one; \
             see that bookworm-security is among the apt sources, then `apt-get update && apt-get install rustc-web`",
            llvm_of(Path::new("/usr/bin/rustc"))
                .map_or_else(|| "no LLVM version".into(), |v| format!("LLVM {v}"))
        );
    }
    with_debian()
}

fn first_line(err: &anyhow::Error) -> String {
    let text = format!("{err:#}");
    text.lines().next().unwrap_or_default().to_owned()
}

/// Installed rustup toolchains of the right LLVM, the one in use first.
fn rustup_toolchains() -> Vec<(String, PathBuf)> {
    let Ok(list) = cmd::output(Command::new("rustup").args(["toolchain", "list", "--verbose"]))
    else {
        return Vec::new();
    };
    let mut found: Vec<(String, PathBuf)> = toolchain_list(&list)
        .into_iter()
        .map(|(name, home)| (name, home.join("bin/rustc")))
        .filter(|(_, rustc)| llvm_of(rustc).as_deref() == Some(LLVM))
        .collect();
    let in_use = std::env::var("RUSTUP_TOOLCHAIN").unwrap_or_default();
    found.sort_by_key(|(name, _)| *name != in_use);
    found
}

/// Reads `rustup toolchain list --verbose`: name, notes in brackets, folder.
fn toolchain_list(list: &str) -> Vec<(String, PathBuf)> {
    list.lines()
        .filter_map(|line| {
            let name = line.split_whitespace().next()?;
            let home = line.find(" /").or_else(|| line.find("\t/"))?;
            Some((name.to_owned(), PathBuf::from(line[home..].trim())))
        })
        .collect()
}

/// The major version of a compiler's LLVM.
fn llvm_of(rustc: &Path) -> Option<String> {
    let mut version = cmd::foreign_cargo(rustc);
    let text = cmd::output(version.arg("-vV")).ok()?;
    let version = text
        .lines()
        .find_map(|line| line.strip_prefix("LLVM version: "))?;
    version.split('.').next().map(str::to_owned)
}

/// Has the compiler the sources of `core` beside it?
fn has_sources(rustc: &Path) -> bool {
    let mut sysroot = cmd::foreign_cargo(rustc);
    cmd::output(sysroot.args(["--print", "sysroot"])).is_ok_and(|root| {
        Path::new(root.trim())
            .join("lib/rustlib/src/rust/library/core/Cargo.toml")
            .is_file()
    })
}

fn debian_is_ready() -> bool {
    let rustc = Path::new("/usr/bin/rustc");
    debian::is_here()
        && debian::missing(DEBIAN).is_empty()
        && llvm_of(rustc).as_deref() == Some(LLVM)
        && has_sources(rustc)
}

/// Adds `rust-src` to a toolchain that is here, else fetches one that has it.
fn fetch_with_rustup() -> Result<(String, PathBuf)> {
    if place::which("rustup").is_none() {
        bail!("it is not installed");
    }
    if let Some((name, rustc)) = rustup_toolchains().into_iter().next() {
        rustup_component(&name, "rust-src")?;
        return Ok((name, rustc));
    }
    say(format!("fetching Rust {RUSTUP_FALLBACK} with rustup"));
    let args = [
        "toolchain",
        "install",
        RUSTUP_FALLBACK,
        "--profile",
        "minimal",
        "--component",
        "rust-src",
        "--no-self-update",
    ];
    cmd::output(Command::new("rustup").args(args))?;
    rustup_toolchains()
        .into_iter()
        .find(|(_, rustc)| has_sources(rustc))
        .with_context(|| format!("Rust {RUSTUP_FALLBACK} is not of LLVM {LLVM}"))
}

/// Adds a component to a rustup toolchain that lacks it.
pub fn rustup_component(toolchain: &str, component: &str) -> Result<()> {
    let list = cmd::output(Command::new("rustup").args([
        "component",
        "list",
        "--installed",
        "--toolchain",
        toolchain,
    ]))?;
    if list.lines().any(|line| line.starts_with(component)) {
        return Ok(());
    }
    say(format!("adding {component} to {toolchain} with rustup"));
    cmd::output(Command::new("rustup").args([
        "component",
        "add",
        component,
        "--toolchain",
        toolchain,
    ]))
    .map(drop)
}

fn with_rustup(name: String, rustc: PathBuf) -> Result<Toolchain> {
    let home = place::tools()?.join("rustup");
    if !home.join("bin/bpf-linker").is_file() {
        say(format!(
            "compiling bpf-linker {LINKER_FOR_RUSTUP} (once, about a minute)"
        ));
        let mut install = cmd::foreign_cargo("cargo");
        install.env("RUSTUP_TOOLCHAIN", &name);
        install.args([
            "install",
            "bpf-linker",
            "--version",
            LINKER_FOR_RUSTUP,
            "--locked",
        ]);
        install
            .args([
                "--no-default-features",
                "--features",
                "rust-llvm-22",
                "--root",
            ])
            .arg(&home);
        cmd::run(&mut install)?;
    }
    Ok(Toolchain {
        kind: Kind::Rustup(name),
        rustc,
        linker: home.join("bin"),
    })
}

fn with_debian() -> Result<Toolchain> {
    let home = place::tools()?;
    if !home.join("bin/bpf-linker").is_file() {
        say(format!(
            "compiling bpf-linker {LINKER_FOR_DEBIAN} (once, about a minute)"
        ));
        // With the Rust that runs us: Debian's has the same LLVM but need not compile it.
        let mut install = cmd::cargo();
        install.args([
            "install",
            "bpf-linker",
            "--version",
            LINKER_FOR_DEBIAN,
            "--locked",
        ]);
        install
            .args(["--no-default-features", "--features", "llvm-22", "--root"])
            .arg(&home);
        install
            .env("LLVM_PREFIX", "/usr/lib/llvm-22")
            .env_remove("RUSTFLAGS");
        cmd::run(&mut install)?;
    }
    Ok(Toolchain {
        kind: Kind::Debian,
        rustc: "/usr/bin/rustc".into(),
        linker: home.join("bin"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rustups_list_is_read_with_its_notes() {
        let list = "stable-x86_64-unknown-linux-gnu (active, default) /root/.rustup/toolchains/stable\n\
                    nightly-x86_64-unknown-linux-gnu\t/root/.rustup/toolchains/nightly\n";
        assert_eq!(
            toolchain_list(list),
            [
                (
                    "stable-x86_64-unknown-linux-gnu".to_owned(),
                    PathBuf::from("/root/.rustup/toolchains/stable")
                ),
                (
                    "nightly-x86_64-unknown-linux-gnu".to_owned(),
                    PathBuf::from("/root/.rustup/toolchains/nightly")
                ),
            ]
        );
        assert!(toolchain_list("no installed toolchains\n").is_empty());
    }

    #[test]
    fn a_stamp_holds_until_a_file_it_names_changes() {
        let dir = std::env::temp_dir().join(format!("geodns-xtask-stamp-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let rustc = dir.join("rustc");
        fs::write(&rustc, "a").unwrap();
        fs::write(dir.join("bpf-linker"), "b").unwrap();
        let toolchain = Toolchain {
            kind: Kind::Rustup("nightly".into()),
            rustc: rustc.clone(),
            linker: dir.clone(),
        };
        let stamp = toolchain.stamp().unwrap();
        assert_eq!(Toolchain::from_stamp(&stamp), Some(toolchain));
        fs::write(&rustc, "another compiler").unwrap();
        assert_eq!(Toolchain::from_stamp(&stamp), None);
        fs::remove_dir_all(&dir).unwrap();
        assert_eq!(Toolchain::from_stamp(&stamp), None);
        assert_eq!(Toolchain::from_stamp(""), None);
    }
}

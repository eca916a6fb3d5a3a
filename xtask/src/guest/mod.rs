//! Guests: another kernel, booted in qemu by software emulation, so that it works where no virtualization is.
//!
//! - `cargo xtask test --kernel VERSION`: the tests that load the eBPF programs, under another kernel
//! - `cargo xtask test --guest`: the program on network cards that qemu emulates, and on interfaces upon them
//!
//! The kernels are Debian's. The guest sees this machine's root folder, read-only and with a layer of memory over it: the
//! tests run as they were built here, where they were built, and write nothing here.
//!
//! - [`cards`]: the network cards of a guest
//! - [`qemu`]: the emulator; `archive`: the guest's first files; [`report`]: its console

mod archive;
mod cards;
mod qemu;
mod report;

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::cmd::{self, say};
use crate::kernel::{self, Kernel};
use crate::{build, debian, place};
use archive::Cpio;
use cards::Wires;
use qemu::Emulator;
use report::{MARK, Report};

/// Batteries of package geodns-tests: those about programs in the kernel.
const TESTS: [&str; 5] = ["kernel", "daemon_kernel", "vlan", "battery", "listen"];
/// The battery about network cards.
const CARDS: [&str; 1] = ["cards"];
/// Modules for the guest's files and the tests' networks; nothing there loads modules on demand.
const MODULES: [&str; 8] = [
    "virtio_pci",
    "9pnet_virtio",
    "9p",
    "overlay",
    "veth",
    "8021q",
    "bridge",
    "vrf",
];
/// Debian's kernels that the cards are tried under.
const KERNELS: [&str; 2] = ["6.1", "6.12"];
/// The guest's first process.
const INIT: &str = include_str!("init.sh");

/// Boots Debian's kernel of this version and runs the tests there that the filter names.
pub fn test(version: &str, filter: &[String]) -> Result<()> {
    let guest = Guest {
        kernel: Kernel::fetch(version)?,
        emulator: Emulator::installed()?,
        tests: &TESTS,
        wires: None,
    };
    guest.build()?;
    guest.run(filter)?.judge_kernel()
}

/// Boots Debian's kernel of this version, or each of [`KERNELS`], with network cards, and runs the tests of those cards
/// that the filter names.
pub fn test_cards(version: Option<&str>, filter: &[String]) -> Result<()> {
    if !place::is_root() {
        bail!("--guest joins the cards of a guest in a network namespace, which takes root");
    }
    let versions = match version {
        Some(version) => vec![version],
        None => KERNELS.to_vec(),
    };
    let mut failed = Vec::new();
    for version in versions {
        let emulator = Emulator::with_device(cards::RAREST)?;
        let guest = Guest {
            kernel: Kernel::fetch(version)?,
            wires: Some(Wires::new(&emulator)?),
            emulator,
            tests: &CARDS,
        };
        guest.build()?;
        if let Err(err) = guest.run(filter) {
            failed.push(format!("{err:#}"));
        }
    }
    if !failed.is_empty() {
        bail!("{}", failed.join("; "));
    }
    Ok(())
}

/// A machine to boot, and what it is to test.
struct Guest {
    kernel: Kernel,
    emulator: Emulator,
    tests: &'static [&'static str],
    /// Of its network cards, if it has any.
    wires: Option<Wires>,
}

impl Guest {
    fn build(&self) -> Result<()> {
        debian::clients("the network tests")?;
        build::objects()?;
        say("building the tests");
        build::daemon()
    }

    /// Boots it and runs the tests; they must pass.
    fn run(&self, filter: &[String]) -> Result<Report> {
        let mut script = String::new();
        let mut modules = MODULES.to_vec();
        let mut devices = Vec::new();
        if let Some(wires) = &self.wires {
            modules.extend(cards::MODULES);
            devices = wires.devices();
            script.push_str(&format!(
                "export GEODNS_CARDS={}\n",
                cmd::quoted(&wires.names())
            ));
        }
        script.push_str(&self.script(&binaries(self.tests)?, filter)?);
        let initramfs = place::target().join("guest.cpio");
        let archive = archive(
            &fs::read(kernel::busybox()?)?,
            &self.kernel.modules(&modules)?,
            &script,
        )?;
        fs::write(&initramfs, archive)
            .with_context(|| format!("could not write {}", initramfs.display()))?;

        say(format!(
            "booting Linux {} in qemu; this takes minutes, all is emulated",
            self.kernel.release
        ));
        let start = Instant::now();
        let space = self.wires.as_ref().map(Wires::space);
        let image = self.kernel.image();
        let report = self.emulator.boot(&image, &initramfs, space, &devices)?;
        say(format!(
            "Linux {}, {} s:",
            report.release.as_deref().unwrap_or("did not start"),
            start.elapsed().as_secs()
        ));
        for line in report.summary() {
            eprintln!("    {line}");
        }
        report.judge(&self.kernel.release, self.tests)?;
        Ok(report)
    }

    /// The script that the guest's shell runs among this machine's files.
    fn script(&self, binaries: &BTreeMap<String, PathBuf>, filter: &[String]) -> Result<String> {
        let mut script = format!("cd {}\n", cmd::quoted(&place::root().to_string_lossy()));
        for &name in self.tests {
            let file = binaries
                .get(name)
                .with_context(|| format!("cargo built no test {name}"))?;
            script.push_str(&format!("echo '{MARK}begin {name}'\n"));
            // Not all test binaries take several filters.
            let filters = filter.iter().map(Some);
            let all = filter.is_empty().then_some(None);
            for filter in filters.chain(all) {
                let mut run = Command::new(file);
                // One at a time: the guest is slow enough. What a passed test printed is shown.
                run.args(["--test-threads=1", "--show-output"]).args(filter);
                let run = cmd::shown(&run);
                script.push_str(&format!("{run} 2>&1\necho \"{MARK}end $?\"\n"));
            }
        }
        Ok(script)
    }
}

/// Builds the tests, as `cargo xtask test` does; gives their files by name.
fn binaries(tests: &[&str]) -> Result<BTreeMap<String, PathBuf>> {
    let mut cargo = cmd::cargo();
    cargo
        .args(["test", "--no-run", "--locked"])
        .args(build::HOST);
    cargo.arg("--message-format=json-render-diagnostics");
    for name in tests {
        cargo.args(["--test", name]);
    }
    let messages = cmd::output(cargo.stderr(Stdio::inherit()))?;
    Ok(built_tests(&messages))
}

/// Reads cargo's messages: test binaries by name.
fn built_tests(messages: &str) -> BTreeMap<String, PathBuf> {
    messages
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter(|message| message["target"]["kind"][0] == "test")
        .filter_map(|message| {
            let name = message["target"]["name"].as_str()?;
            let file = message["executable"].as_str()?;
            Some((name.to_owned(), file.into()))
        })
        .collect()
}

/// The guest's first files, in the form that the kernel unpacks at its start.
fn archive(busybox: &[u8], modules: &[PathBuf], script: &str) -> Result<Vec<u8>> {
    let mut cpio = Cpio::default();
    for folder in [
        "bin", "dev", "host", "modules", "over", "proc", "root", "sys",
    ] {
        cpio.folder(folder);
    }
    // The kernel opens it for the first process, before that can mount /dev.
    cpio.device("dev/console", 5, 1);
    cpio.file("bin/busybox", 0o755, busybox);
    cpio.file("init", 0o755, INIT.as_bytes());
    cpio.file("tests.sh", 0o644, script.as_bytes());
    for (number, module) in modules.iter().enumerate() {
        let name = module.file_name().unwrap_or_default().to_string_lossy();
        let bytes = match name.strip_suffix(".xz") {
            // The kernel takes none that is packed, and says so.
            Some(_) => cmd::bytes(Command::new("xz").arg("-dc").arg(module))?,
            None => {
                fs::read(module).with_context(|| format!("could not read {}", module.display()))?
            }
        };
        let name = name.trim_end_matches(".xz");
        // Numbers keep the order.
        cpio.file(&format!("modules/{number:02}-{name}"), 0o644, &bytes);
    }
    Ok(cpio.end())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_binaries_are_read_from_cargos_messages() {
        let messages = r#"
{"reason":"compiler-artifact","target":{"kind":["lib"],"name":"geodns_tests"},"executable":null}
{"reason":"compiler-artifact","target":{"kind":["bin"],"name":"demo"},"executable":"/t/demo"}
{"reason":"compiler-artifact","target":{"kind":["test"],"name":"vlan"},"executable":"/t/deps/vlan-1"}
{"reason":"build-finished","success":true}
"#;
        assert_eq!(
            built_tests(messages),
            BTreeMap::from([("vlan".to_owned(), "/t/deps/vlan-1".into())])
        );
    }
}

//! `cargo xtask test --kernel VERSION`: the tests that load the eBPF programs, under another kernel.
//!
//! The kernel is Debian's, booted in qemu by software emulation, so that it works where no
//! virtualization is. The guest sees this machine's root folder, read-only and with a layer of memory
//! over it: the tests run as they were built here, where they were built, and write nothing here.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::cmd::{self, say};
use crate::kernel::{self, Kernel};
use crate::{build, debian, place};

/// Batteries of package geodns-tests: those about programs in the kernel.
const TESTS: [&str; 5] = ["kernel", "daemon_kernel", "vlan", "battery", "listen"];
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
/// The guest's first process.
const INIT: &str = include_str!("guest.sh");
/// Begins the lines that are for us.
const MARK: &str = "guest: ";
/// All the tests take minutes; a guest that is not done after this never will be.
const PATIENCE: Duration = Duration::from_secs(30 * 60);

/// Boots Debian's kernel of this version and runs the tests there that the filter names.
pub fn test(version: &str, filter: &[String]) -> Result<()> {
    let kernel = Kernel::fetch(version)?;
    debian::clients("the network tests")?;
    debian::install(&["qemu-system-x86"], "booting another kernel")?;
    build::objects()?;
    say("building the tests");
    build::daemon()?;
    let script = script(&binaries()?, filter)?;

    let initramfs = place::target().join("guest.cpio");
    let archive = archive(
        &fs::read(kernel::busybox()?)?,
        &kernel.modules(&MODULES)?,
        &script,
    )?;
    fs::write(&initramfs, archive)
        .with_context(|| format!("could not write {}", initramfs.display()))?;

    say(format!(
        "booting Linux {} in qemu; this takes minutes, all is emulated",
        kernel.release
    ));
    let start = Instant::now();
    let report = boot(&kernel.image(), &initramfs)?;
    say(format!(
        "Linux {}, {} s:",
        report.release.as_deref().unwrap_or("did not start"),
        start.elapsed().as_secs()
    ));
    for line in report.summary() {
        eprintln!("    {line}");
    }
    report.judge(&kernel.release)
}

/// Builds the tests, as `cargo xtask test` does; gives their files by name.
fn binaries() -> Result<BTreeMap<String, PathBuf>> {
    let mut cargo = cmd::cargo();
    cargo
        .args(["test", "--no-run", "--locked"])
        .args(build::HOST);
    cargo.arg("--message-format=json-render-diagnostics");
    for name in TESTS {
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

/// The script that the guest's shell runs among this machine's files.
fn script(binaries: &BTreeMap<String, PathBuf>, filter: &[String]) -> Result<String> {
    let mut script = format!("cd {}\n", cmd::quoted(&place::root().to_string_lossy()));
    for name in TESTS {
        let file = binaries
            .get(name)
            .with_context(|| format!("cargo built no test {name}"))?;
        let mut run = Command::new(file);
        // One at a time: the guest is slow enough. What a passed test printed is shown.
        run.args(["--test-threads=1", "--show-output"]).args(filter);
        script.push_str(&format!(
            "echo '{MARK}begin {name}'\n{} 2>&1\necho \"{MARK}end $?\"\n",
            cmd::shown(&run)
        ));
    }
    Ok(script)
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
        let bytes =
            fs::read(module).with_context(|| format!("could not read {}", module.display()))?;
        let name = module.file_name().unwrap_or_default().to_string_lossy();
        // Numbers keep the order.
        cpio.file(&format!("modules/{number:02}-{name}"), 0o644, &bytes);
    }
    Ok(cpio.end())
}

/// An archive of the format `newc`: for each file a header in hexadecimal, its name and its bytes, all
/// padded to four.
#[derive(Default)]
struct Cpio {
    bytes: Vec<u8>,
    count: u32,
}

impl Cpio {
    fn folder(&mut self, name: &str) {
        self.entry(name, 0o040_755, (0, 0), &[]);
    }

    fn device(&mut self, name: &str, major: u32, minor: u32) {
        self.entry(name, 0o020_600, (major, minor), &[]);
    }

    fn file(&mut self, name: &str, mode: u32, bytes: &[u8]) {
        self.entry(name, 0o100_000 | mode, (0, 0), bytes);
    }

    fn entry(&mut self, name: &str, mode: u32, (major, minor): (u32, u32), bytes: &[u8]) {
        self.count += 1;
        let fields = [
            self.count, // inode
            mode,
            0, // user
            0, // group
            1, // links
            0, // time
            bytes.len() as u32,
            0, // device that it is on
            0,
            major, // device that it is
            minor,
            name.len() as u32 + 1,
            0, // checksum, in another format
        ];
        self.bytes.extend_from_slice(b"070701");
        for field in fields {
            self.bytes
                .extend_from_slice(format!("{field:08x}").as_bytes());
        }
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(bytes);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    fn end(mut self) -> Vec<u8> {
        self.entry("TRAILER!!!", 0, (0, 0), &[]);
        self.bytes
    }
}

/// qemu; ended when dropped.
struct Machine(Child);

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Boots, shows what the guest prints, and reads the report out of it.
fn boot(image: &Path, initramfs: &Path) -> Result<Report> {
    let mut qemu = Command::new("qemu-system-x86_64");
    qemu.args(["-nodefaults", "-no-user-config", "-display", "none"]);
    qemu.args(["-machine", "q35", "-accel", "tcg,thread=multi"]);
    qemu.args(["-cpu", "max", "-smp", "2", "-m", "3G"]);
    qemu.args(["-serial", "stdio", "-no-reboot", "-kernel"]);
    qemu.arg(image).arg("-initrd").arg(initramfs);
    // A panic is a reboot, which is the end.
    qemu.args(["-append", "console=ttyS0 quiet panic=-1 oops=panic"]);
    qemu.args([
        "-virtfs",
        "local,path=/,mount_tag=root,security_model=none,readonly=on,multidevs=remap",
    ]);
    let line = cmd::shown(&qemu);
    let mut machine = Machine(
        qemu.stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("could not start `{line}`"))?,
    );
    let console = machine.0.stdout.take().context("qemu has no console")?;
    let (sender, lines) = mpsc::channel();
    // Ends with qemu.
    std::thread::spawn(move || {
        let mut console = BufReader::new(console);
        let mut line = Vec::new();
        while console
            .read_until(b'\n', &mut line)
            .is_ok_and(|read| read > 0)
        {
            let text = String::from_utf8_lossy(&line).trim_end().to_owned();
            if sender.send(text).is_err() {
                break;
            }
            line.clear();
        }
    });
    let end = Instant::now() + PATIENCE;
    let mut report = Report::default();
    loop {
        match lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
            Ok(line) => {
                println!("{line}");
                report.read(&line);
            }
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => {
                bail!("the guest is not done after {} s", PATIENCE.as_secs())
            }
        }
    }
    let status = machine.0.wait()?;
    if !status.success() {
        bail!("`{line}` failed ({status})");
    }
    Ok(report)
}

/// The lines of the guest's console.
#[derive(Debug, Default)]
struct Report {
    release: Option<String>,
    batteries: Vec<Battery>,
    /// The lines on how many instructions the verifier walked.
    verified: Vec<String>,
    /// Tests that were skipped, and why.
    skipped: Vec<String>,
    /// The kernel warned, or worse.
    complained: bool,
    /// It came to its end.
    done: bool,
}

#[derive(Debug, Default)]
struct Battery {
    name: String,
    /// As the test runner counts; `None`: it never got there.
    passed: Option<u32>,
    failed: u32,
    /// Exit status.
    status: Option<i32>,
}

impl Report {
    fn read(&mut self, line: &str) {
        if let Some(mark) = line.strip_prefix(MARK) {
            match mark.split_once(' ') {
                Some(("release", release)) => self.release = Some(release.to_owned()),
                Some(("skipped", test)) => self.skipped.push(test.to_owned()),
                Some(("begin", name)) => self.batteries.push(Battery {
                    name: name.to_owned(),
                    ..Battery::default()
                }),
                Some(("end", status)) => {
                    if let Some(battery) = self.batteries.last_mut() {
                        battery.status = status.parse().ok();
                    }
                }
                _ => {
                    self.complained |= mark == "complained";
                    self.done |= mark == "done";
                }
            }
        } else if let Some(counts) = line.strip_prefix("test result: ") {
            let count = |what: &str| -> Option<u32> {
                let (number, _) = counts.split_once(what)?;
                number.split_whitespace().last()?.parse().ok()
            };
            if let Some(battery) = self.batteries.last_mut() {
                battery.passed = count(" passed");
                battery.failed = count(" failed").unwrap_or(0);
            }
        } else if line.ends_with(" instructions verified") {
            self.verified.push(line.to_owned());
        }
    }

    fn summary(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for battery in &self.batteries {
            let counts = match (battery.passed, battery.failed) {
                (None, _) => "did not come to its end".to_owned(),
                (Some(passed), 0) => format!("{passed} passed"),
                (Some(passed), failed) => format!("{passed} passed, {failed} FAILED"),
            };
            lines.push(format!("{:14} {counts}", battery.name));
        }
        lines.extend(self.verified.iter().cloned());
        lines
    }

    /// Fails unless everything went as it should on a kernel of this release.
    fn judge(&self, release: &str) -> Result<()> {
        if self.release.as_deref() != Some(release) {
            bail!("the guest did not come up");
        }
        if !self.done {
            bail!("the guest ended before it was done");
        }
        if self.complained {
            bail!("the kernel complained: see above");
        }
        for battery in &self.batteries {
            if battery.status != Some(0) || battery.passed.is_none() || battery.failed != 0 {
                bail!("tests failed under Linux {release}: {}", battery.name);
            }
        }
        if let Some(test) = self.skipped.first() {
            bail!("nothing is skipped here, and yet was {test}");
        }
        if self.batteries.len() != TESTS.len() {
            bail!("not all tests were run");
        }
        if self
            .batteries
            .iter()
            .all(|battery| battery.passed == Some(0))
        {
            bail!("no test has such a name");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_has_headers_names_and_bytes_each_padded_to_four() {
        let mut cpio = Cpio::default();
        cpio.file("init", 0o755, b"hello");
        cpio.device("dev/console", 5, 1);
        let bytes = cpio.end();
        let file = "070701\
            00000001000081ed00000000000000000000000100000000\
            000000050000000000000000000000000000000000000005\
            00000000init\0\0hello\0\0\0";
        let device = "070701\
            000000020000218000000000000000000000000100000000\
            00000000000000000000000000000005000000010000000c\
            00000000dev/console\0\0\0";
        let text = String::from_utf8(bytes).unwrap();
        assert!(
            text.starts_with(&format!("{file}{device}070701")),
            "{text:?}"
        );
        assert!(text.trim_end_matches('\0').ends_with("TRAILER!!!"));
        assert_eq!(text.len() % 4, 0);
    }

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

    const RELEASE: &str = "6.1.0-56-amd64";

    fn report(console: &str) -> Report {
        let mut report = Report::default();
        console.lines().for_each(|line| report.read(line));
        report
    }

    fn console() -> String {
        let mut console = format!("guest: release {RELEASE}\n");
        for name in TESTS {
            console.push_str(&format!(
                "guest: begin {name}\nrig: pass: 2 instructions verified\ntest result: ok. 3 passed; \
                 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 1.00s\nguest: end 0\n"
            ));
        }
        console + "guest: done\n"
    }

    #[test]
    fn a_report_has_what_each_battery_passed_and_what_was_verified() {
        let report = report(&console());
        report.judge(RELEASE).unwrap();
        let summary = report.summary();
        assert_eq!(summary[0], "kernel         3 passed");
        assert_eq!(summary[TESTS.len()], "rig: pass: 2 instructions verified");
    }

    #[test]
    fn nothing_but_a_whole_and_good_report_passes() {
        let good = console();
        for (from, to) in [
            (RELEASE, "6.1.0-9-amd64"),
            ("guest: done", "Kernel panic - not syncing"),
            ("guest: done", "guest: complained\nguest: done"),
            ("guest: done", "guest: skipped dig: no dig\nguest: done"),
            ("end 0", "end 101"),
            ("0 failed", "1 failed"),
            ("test result", "Segmentation fault"),
            ("3 passed", "0 passed"),
            ("begin vlan", "vlan"),
        ] {
            let bad = good.replace(from, to);
            assert_ne!(good, bad);
            assert!(report(&bad).judge(RELEASE).is_err(), "{from} -> {to}");
        }
    }
}

//! qemu, and the machine that it emulates.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::report::Report;
use crate::cmd::{self, say};
use crate::debian;

/// All the tests take minutes; a guest that is not done after this never will be.
const PATIENCE: Duration = Duration::from_secs(30 * 60);

/// A qemu that emulates a PC.
pub struct Emulator {
    program: PathBuf,
    /// Folders of its firmware; empty: it knows.
    firmware: Vec<PathBuf>,
    /// The folder of its own modules, where that is another than the installed one's.
    modules: Option<PathBuf>,
}

impl Emulator {
    /// The one that is installed.
    pub fn installed() -> Result<Self> {
        debian::install(&["qemu-system-x86"], "booting another kernel")?;
        Ok(Self {
            program: "qemu-system-x86_64".into(),
            firmware: Vec::new(),
            modules: None,
        })
    }

    /// One that has a device: the installed one, or else that of the backports. If neither has it, the installed one.
    pub fn with_device(device: &str) -> Result<Self> {
        let installed = Self::installed()?;
        if installed.has(device) {
            return Ok(installed);
        }
        match Self::backported() {
            Ok(backported) if backported.has(device) => return Ok(backported),
            Ok(_) => say(format!("the qemu of the backports has no {device}, either")),
            Err(err) => say(format!("no newer qemu, which would have {device}: {err:#}")),
        }
        Ok(installed)
    }

    /// That of the backports, unpacked. The libraries that it needs come with the installed one.
    fn backported() -> Result<Self> {
        let packages = ["qemu-system-x86", "qemu-system-data", "seabios"];
        let folders = debian::backported(&packages, "emulating more network cards")?;
        let [system, data, bios] = folders.as_slice() else {
            bail!("of {packages:?} some are missing");
        };
        Ok(Self {
            program: system.join("usr/bin/qemu-system-x86_64"),
            firmware: vec![data.join("usr/share/qemu"), bios.join("usr/share/seabios")],
            modules: Some(system.join("usr/lib/x86_64-linux-gnu/qemu")),
        })
    }

    /// Does it emulate this device?
    pub fn has(&self, device: &str) -> bool {
        let mut help = Command::new(&self.program);
        self.set_up(&mut help);
        // It succeeds for an unknown one, too.
        help.args(["-device", &format!("{device},help")]);
        let title = format!("{device} options:");
        cmd::output(&mut help).is_ok_and(|told| told.contains(&title))
    }

    fn set_up(&self, command: &mut Command) {
        for folder in &self.firmware {
            command.arg("-L").arg(folder);
        }
        if let Some(folder) = &self.modules {
            command.env("QEMU_MODULE_DIR", folder);
        }
    }

    /// Boots a kernel, shows what the guest prints, and reads the report out of it. The machine has `devices`, which
    /// are qemu's arguments; their other ends are in the network namespace `space`.
    pub fn boot(
        &self,
        image: &Path,
        initramfs: &Path,
        space: Option<&str>,
        devices: &[String],
    ) -> Result<Report> {
        let mut qemu = match space {
            Some(space) => {
                let mut nsenter = Command::new("nsenter");
                nsenter.arg(format!("--net=/run/netns/{space}"));
                nsenter.arg(&self.program);
                nsenter
            }
            None => Command::new(&self.program),
        };
        self.set_up(&mut qemu);
        qemu.args(["-nodefaults", "-no-user-config", "-display", "none"]);
        qemu.args(["-machine", "q35", "-accel", "tcg,thread=multi"]);
        qemu.args(["-cpu", "max", "-smp", "2", "-m", "3G"]);
        qemu.args(["-serial", "stdio", "-no-reboot", "-kernel"]);
        qemu.arg(image).arg("-initrd").arg(initramfs);
        // A panic is a reboot, which is the end.
        // What mitigates speculation is slow where all is emulated, and of no use.
        let words = "console=ttyS0 quiet panic=-1 oops=panic mitigations=off";
        qemu.args(["-append", words]);
        qemu.args([
            "-virtfs",
            "local,path=/,mount_tag=root,security_model=none,readonly=on,multidevs=remap",
        ]);
        qemu.args(devices);
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
        let start = Instant::now();
        let end = start + PATIENCE;
        let mut report = Report::default();
        loop {
            match lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(line) => {
                    println!("{:6.1} {line}", start.elapsed().as_secs_f64());
                    report.read(&line);
                    // To take the machine down would be of no use.
                    if report.is_done() {
                        return Ok(report);
                    }
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
}

/// qemu; ended when dropped.
struct Machine(Child);

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

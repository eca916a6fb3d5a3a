//! Processes that end with the one that has started them: a killed test leaves none.

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Has a process that will be started get a signal when this one ends.
pub fn ends_with_us(command: &mut Command, signal: Signal) -> &mut Command {
    // SAFETY: prctl is a bare system call; nothing is allocated between fork and exec.
    unsafe { command.pre_exec(move || Ok(nix::sys::prctl::set_pdeathsig(signal)?)) }
}

/// A process that writes a log. Dropping it kills it.
#[derive(Debug)]
pub struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts it. What it says goes behind what the log has already.
    pub fn start(mut command: Command, log: PathBuf) -> Result<Self> {
        let file = File::options().create(true).append(true).open(&log)?;
        let child = ends_with_us(&mut command, Signal::SIGKILL)
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .spawn()
            .with_context(|| format!("cannot start {:?}", command.get_program()))?;
        Ok(Self { child, log })
    }

    /// Its log.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// An error with its log if it has ended.
    pub fn require_alive(&mut self) -> Result<()> {
        if let Some(status) = self.child.try_wait()? {
            bail!("a process ended ({status}):\n{}", self.log());
        }
        Ok(())
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        Ok(kill(
            Pid::from_raw(i32::try_from(self.child.id())?),
            signal,
        )?)
    }

    /// Kills it, and waits for its end.
    pub fn end(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.end();
    }
}

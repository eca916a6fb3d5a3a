//! A program of the operator's. No shell, no input, no output, and of the environment only PATH. It
//! leads a process group of its own, which is killed whole when its time is up.

use std::net::IpAddr;
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitStatus, Stdio};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::process::{Child, Command};

use super::{Bad, plain};

/// Where programs are found if nobody says.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A command with the address put in.
pub fn filled(command: &[String], address: IpAddr) -> Vec<String> {
    let address = address.to_string();
    let parts = command.iter();
    parts
        .map(|part| part.replace("{address}", &address))
        .collect()
}

pub async fn run(command: &[String]) -> Result<(), Bad> {
    let name = command.first().cloned().unwrap_or_default();
    let command = command.to_owned();
    // Starting a program reads it from the disk, which may take its time.
    let started = tokio::task::spawn_blocking(move || Group::start(&command)).await;
    let started = started.map_err(|error| Bad::impossible(error.to_string()))?;
    let mut group = started
        .map_err(|error| Bad::impossible(format!("cannot run {name:?}: {}", plain(&error))))?;
    let status = group.wait().await;
    let status =
        status.map_err(|error| Bad::impossible(format!("cannot wait for {name:?}: {error}")))?;
    if status.success() {
        return Ok(());
    }
    Err(Bad::Failed(explain(status)))
}

fn explain(status: ExitStatus) -> String {
    let signal = status.signal();
    let name = signal.and_then(|signal| Signal::try_from(signal).ok());
    match (status.code(), name, signal) {
        (Some(code), ..) => format!("exit status {code}"),
        (_, Some(name), _) => format!("killed by {name}"),
        (_, _, Some(signal)) => format!("killed by signal {signal}"),
        _ => status.to_string(),
    }
}

/// A program that runs, and all that it started. Killed when this is dropped.
struct Group {
    child: Child,
    /// Until the leader has been waited for: from then on the number may be another's.
    leader: Option<Pid>,
}

impl Group {
    fn start(command: &[String]) -> std::io::Result<Self> {
        let (program, arguments) = command.split_first().ok_or(std::io::ErrorKind::NotFound)?;
        let path = std::env::var_os("PATH").unwrap_or_else(|| PATH.into());
        let child = Command::new(program)
            .args(arguments)
            .env_clear()
            .env("PATH", path)
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()?;
        let leader = child.id().map(|id| Pid::from_raw(id.cast_signed()));
        Ok(Self { child, leader })
    }

    async fn wait(&mut self) -> std::io::Result<ExitStatus> {
        let status = self.child.wait().await?;
        self.leader = None;
        Ok(status)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(leader) = self.leader {
            // Gone already is as good.
            let _ = killpg(leader, Signal::SIGKILL);
        }
    }
}

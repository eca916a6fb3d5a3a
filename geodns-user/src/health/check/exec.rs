//! A program of the operator's. No shell, no input, no output, of the environment only PATH, and none
//! of our capabilities. It leads a process group of its own, which is killed whole when its time is up.

use std::net::IpAddr;
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitStatus, Stdio};

use caps::CapSet;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::process::{Child, Command};
use tokio::runtime::Handle;
use tokio::sync::oneshot;

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
    let started = start(command).await;
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

/// Starts a program from a thread of its own: reading it from the disk may take its time, and what a
/// thread gives up its children never have. Giving it up between fork and exec would do too, but a
/// fork of a process with large tables is far slower than the spawn that is used here.
async fn start(command: Vec<String>) -> std::io::Result<Group> {
    let runtime = Handle::current();
    let (done, started) = oneshot::channel();
    let thread = std::thread::Builder::new().name("geodns-exec".to_owned());
    thread.spawn(move || {
        // For the child's end to be heard of.
        let _runtime = runtime.enter();
        // Nobody waits any more: then it is killed as it is dropped.
        let _ = done.send(give_up_capabilities().and_then(|()| Group::start(&command)));
    })?;
    started.await.map_err(std::io::Error::other)?
}

/// For this thread and those that it starts. Without no_new_privs, user 0 would get them back when a
/// program is executed.
fn give_up_capabilities() -> std::io::Result<()> {
    nix::sys::prctl::set_no_new_privs()?;
    for set in [
        CapSet::Ambient,
        CapSet::Effective,
        CapSet::Permitted,
        CapSet::Inheritable,
    ] {
        caps::clear(None, set).map_err(std::io::Error::other)?;
    }
    Ok(())
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

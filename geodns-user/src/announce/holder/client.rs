//! The daemon's end of the line to the holder.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use caps::{CapSet, Capability};
use nix::sys::signal::{Signal, kill};
use nix::sys::socket::getsockopt;
use nix::sys::socket::sockopt::PeerCredentials;
use nix::unistd::Pid;

use super::Options;
use super::message::{Answer, Hello, Word};
use crate::base::socket::may_connect;

/// How long the holder may take to answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long a new holder may take to listen.
const START: Duration = Duration::from_secs(5);

/// A connection to the holder.
#[derive(Debug)]
pub struct Client {
    stream: BufReader<UnixStream>,
    /// The holder, if this daemon has started it.
    child: Option<Child>,
}

impl Client {
    /// Connects to the holder that a daemon before has left; else starts one, by this program. A holder that refuses this
    /// daemon, or does not answer, is ended first: the node is withdrawn until the new one has routes.
    pub fn connect(program: &Path, options: &Options) -> Result<Self, String> {
        if let Ok(mut client) = Self::at(&options.socket) {
            match client.greet(options) {
                Ok(()) => return Ok(client),
                Err(trouble) => {
                    tracing::warn!(
                        cause = %trouble,
                        "the holder of the routes is replaced, and they with it: {trouble}"
                    );
                    client.dismiss();
                }
            }
        }
        let mut child = start(program, options)
            .map_err(|error| format!("cannot start {}: {error}", program.display()))?;
        let started = Instant::now();
        loop {
            match Self::at(&options.socket) {
                Ok(mut client) => {
                    client.child = Some(child);
                    let greeted = client.greet(options);
                    return greeted.map(|()| client).map_err(|why| why.to_string());
                }
                Err(error) if started.elapsed() > START => {
                    let _ = child.kill();
                    let _ = child.wait();
                    return Err(format!("{}: {error}", options.socket.display()));
                }
                Err(_) => {}
            }
            if let Ok(Some(status)) = child.try_wait() {
                return Err(format!(
                    "the holder of device {} has ended ({status}): its line in the log says why",
                    options.device
                ));
            }
            thread::sleep(Duration::from_millis(10));
        }
    }

    fn at(path: &Path) -> io::Result<Self> {
        let stream = UnixStream::connect(path)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Self {
            stream: BufReader::new(stream),
            child: None,
        })
    }

    fn greet(&mut self, options: &Options) -> Result<(), Trouble> {
        self.say(&Word::Hello(Hello::new(&options.device)))
    }

    /// Ends the holder, by its own hand if it heeds that. Its device and its routes go with it.
    fn dismiss(&mut self) {
        let _ = self.say(&Word::End);
        if self.is_gone() {
            return;
        }
        let holder = getsockopt(self.stream.get_ref(), PeerCredentials);
        if let Ok(holder) = holder
            && holder.pid() > 0
            && may_connect(Some(holder.uid()))
        {
            let _ = kill(Pid::from_raw(holder.pid()), Signal::SIGKILL);
            self.is_gone();
        }
    }

    /// Waits until the holder has closed the connection; says whether it has.
    fn is_gone(&mut self) -> bool {
        let mut rest = Vec::new();
        // A connection that is reset is closed, too.
        !matches!(self.stream.read_to_end(&mut rest), Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }

    /// Says a word, and waits until it is done. After an error of the connection ([`Trouble::Lost`]) connect anew.
    pub fn say(&mut self, word: &Word) -> Result<(), Trouble> {
        let mut line = serde_json::to_vec(word).map_err(io::Error::from)?;
        line.push(b'\n');
        self.stream.get_mut().write_all(&line)?;
        let mut answer = String::new();
        if self.stream.read_line(&mut answer)? == 0 {
            return Err(Trouble::Lost(io::ErrorKind::UnexpectedEof.into()));
        }
        match serde_json::from_str(&answer).map_err(io::Error::from)? {
            Answer::Done => Ok(()),
            Answer::Failed(why) => Err(Trouble::Refused(why)),
        }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // A holder that has ended leaves no zombie behind; one that lives goes on.
        if let Some(child) = &mut self.child {
            let _ = child.try_wait();
        }
    }
}

/// Why a word was not heeded.
#[derive(Debug, thiserror::Error)]
pub enum Trouble {
    /// The holder could not, and says why.
    #[error("{0}")]
    Refused(String),
    /// The holder cannot be talked to.
    #[error("the holder of the device does not answer: {0}")]
    Lost(#[from] io::Error),
}

/// Starts a holder in a process group of its own: Ctrl-C in the daemon's terminal is not for it.
///
/// Capabilities are a thread's own. So a thread that ends right after gives the child the one that it needs.
fn start(program: &Path, options: &Options) -> io::Result<Child> {
    let mut command = Command::new(program);
    command
        .arg0("geodns")
        .arg("hold")
        .arg("--device")
        .arg(&options.device)
        .arg("--socket")
        .arg(&options.socket)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .process_group(0);
    thread::scope(|scope| {
        let starting = scope.spawn(|| {
            // Without the right to hand it on, the child says that it lacks it.
            let _ = caps::raise(None, CapSet::Inheritable, Capability::CAP_NET_ADMIN);
            let _ = caps::raise(None, CapSet::Ambient, Capability::CAP_NET_ADMIN);
            command.spawn()
        });
        let failed = |_| Err(io::Error::other("the starting thread panicked"));
        starting.join().unwrap_or_else(failed)
    })
}

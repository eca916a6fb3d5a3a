//! The daemon's end of the line to the holder.

use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use caps::{CapSet, Capability};

use super::Options;
use super::message::{Answer, Word};

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
    /// Connects to the holder that a daemon before has left; else starts one, by this program.
    pub fn connect(program: &Path, options: &Options) -> Result<Self, String> {
        if let Ok(stream) = connect(&options.socket) {
            return Ok(Self {
                stream,
                child: None,
            });
        }
        let mut child = start(program, options)
            .map_err(|error| format!("cannot start {}: {error}", program.display()))?;
        let started = Instant::now();
        loop {
            match connect(&options.socket) {
                Ok(stream) => {
                    let child = Some(child);
                    return Ok(Self { stream, child });
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

fn connect(path: &Path) -> io::Result<BufReader<UnixStream>> {
    let stream = UnixStream::connect(path)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(BufReader::new(stream))
}

/// Starts a holder in a process group of its own: Ctrl-C in the daemon's terminal is not for it.
///
/// Capabilities are a thread's own. So a thread that ends right after gives the child the one that it needs.
fn start(program: &Path, options: &Options) -> io::Result<Child> {
    let mut command = Command::new(program);
    command
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

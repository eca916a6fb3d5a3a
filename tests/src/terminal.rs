//! A program on a real terminal: a pseudo terminal of any size, and what is to be seen on it.

use std::fs::File;
use std::io::{Read, Write};
use std::num::NonZero;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::pty::{Winsize, openpty};
use vt100::Parser;

/// The longest that something may take to be seen.
const PATIENCE: Duration = Duration::from_secs(20);

/// A program, its terminal, and the screen. The program ends when this is dropped.
pub struct Terminal {
    child: Child,
    master: File,
    screen: Arc<Mutex<Parser>>,
}

impl Terminal {
    /// Starts a program on a terminal of N rows and columns.
    pub fn start(mut command: Command, rows: u16, columns: u16) -> Result<Self> {
        let screen = Parser::new(cells(rows)?, cells(columns)?, 0);
        let pty = openpty(&size(rows, columns), None)?;
        let slave = |slave: &OwnedFd| slave.try_clone();
        command
            .env("TERM", "xterm-256color")
            .stdin(slave(&pty.slave)?)
            .stdout(slave(&pty.slave)?)
            .stderr(slave(&pty.slave)?);
        // SAFETY: setsid and ioctl are bare system calls; nothing is allocated between fork and exec.
        unsafe {
            command.pre_exec(|| {
                nix::unistd::setsid()?;
                match libc::ioctl(0, libc::TIOCSCTTY, 0) {
                    0 => Ok(()),
                    _ => Err(std::io::Error::last_os_error()),
                }
            });
        }
        let child = command.spawn()?;
        // The command has copies of the slave, which would keep the terminal open.
        drop(command);
        drop(pty.slave);
        let master = File::from(pty.master);
        let screen = Arc::new(Mutex::new(screen));
        let (mut output, seen) = (master.try_clone()?, Arc::clone(&screen));
        thread::spawn(move || {
            let mut octets = [0; 4096];
            while let Ok(count @ 1..) = output.read(&mut octets) {
                let mut screen = seen.lock().unwrap_or_else(PoisonError::into_inner);
                screen.process(&octets[..count]);
            }
        });
        Ok(Self {
            child,
            master,
            screen,
        })
    }

    /// Types.
    pub fn type_in(&mut self, keys: &str) -> Result<()> {
        self.master.write_all(keys.as_bytes())?;
        Ok(())
    }

    /// Gives the terminal another size, and tells the program (SIGWINCH).
    pub fn resize(&self, rows: u16, columns: u16) -> Result<()> {
        let mut screen = self.screen.lock().unwrap_or_else(PoisonError::into_inner);
        screen.screen_mut().set_size(cells(rows)?, cells(columns)?);
        // SAFETY: TIOCSWINSZ reads one `winsize`.
        let done = unsafe {
            libc::ioctl(
                self.master.as_raw_fd(),
                libc::TIOCSWINSZ,
                &size(rows, columns),
            )
        };
        match done {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error().into()),
        }
    }

    /// The text on the screen, row by row.
    pub fn rows(&self) -> Vec<String> {
        let screen = self.screen.lock().unwrap_or_else(PoisonError::into_inner);
        let screen = screen.screen();
        let (_, columns) = screen.size();
        screen.rows(0, columns.get()).collect()
    }

    /// Whether a row goes on in the next one.
    pub fn is_wrapped(&self) -> bool {
        let screen = self.screen.lock().unwrap_or_else(PoisonError::into_inner);
        let screen = screen.screen();
        (0..screen.size().0.get()).any(|row| screen.row_wrapped(row))
    }

    /// Waits until what is to be seen is as wanted.
    pub fn until(&self, what: &str, wanted: impl Fn(&[String]) -> bool) -> Result<Vec<String>> {
        let end = Instant::now() + PATIENCE;
        loop {
            let rows = self.rows();
            if wanted(&rows) {
                return Ok(rows);
            }
            if Instant::now() > end {
                bail!("not seen: {what}\n{}", rows.join("\n"));
            }
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits until the program has ended.
    pub fn ended(&mut self) -> Result<ExitStatus> {
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().context("waiting for the program")? {
                return Ok(status);
            }
            if Instant::now() > end {
                bail!("still running\n{}", self.rows().join("\n"));
            }
            thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// How many rows or columns there are, which is at least one.
fn cells(count: u16) -> Result<NonZero<u16>> {
    NonZero::new(count).context("a terminal without rows or columns")
}

fn size(rows: u16, columns: u16) -> Winsize {
    Winsize {
        ws_row: rows,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    }
}

//! `geodns.toml`: parsed, validated, with errors that name file, line and key.
//!
//! - `file`: the file's shape, by serde
//! - `check`: what its values mean, and whether they fit together

mod check;
mod file;

use std::fmt;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::zone::Name;

/// What is wrong with an input file, where, and what to do about it. Displays as one line:
/// `etc/geodns.toml:12: pool.default: no mirror "xyz"; the pool has ams, iad`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Error {
    /// The file.
    pub file: PathBuf,
    /// Line in it, from 1.
    pub line: Option<usize>,
    /// Key, as `table.key`.
    pub key: Option<String>,
    /// What is wrong and what to do.
    pub message: String,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        if let Some(key) = &self.key {
            write!(f, ": {key}")?;
        }
        write!(f, ": {}", self.message)
    }
}

impl Error {
    /// A file that cannot be read.
    pub fn cannot_read(file: &Path, error: &std::io::Error) -> Self {
        Self {
            file: file.to_owned(),
            line: None,
            key: None,
            message: format!("cannot read: {error}; check the path and its permissions"),
        }
    }
}

/// A whole, valid configuration. Paths are resolved against the file's folder.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where it was read from.
    pub path: PathBuf,
    /// `[server]`
    pub server: Server,
    /// `[kernel]`
    pub kernel: Kernel,
    /// `control.socket`
    pub socket: PathBuf,
    /// `state.path`
    pub state: PathBuf,
    /// `[[zone]]`
    pub zones: Vec<ZoneFile>,
    /// `[[mirror]]`
    pub mirrors: Vec<Mirror>,
    /// `[[pool]]`
    pub pools: Vec<Pool>,
    /// `[[steer]]`
    pub steers: Vec<Steer>,
}

/// `[server]`
#[derive(Clone, Debug)]
pub struct Server {
    /// Addresses to answer on; `None`: those of the interfaces, followed as they change.
    pub listen: Option<Vec<IpAddr>>,
    /// UDP and TCP port.
    pub port: u16,
    /// NSID (RFC 5001) and `id.server`; `None`: the host name.
    pub identity: Option<String>,
}

/// `[kernel]`
#[derive(Clone, Debug)]
pub struct Kernel {
    /// Interfaces to attach to.
    pub interfaces: Vec<String>,
    /// How to attach.
    pub mode: Mode,
    /// Folder in a bpffs.
    pub pin: PathBuf,
    /// How long the program goes on answering when the daemon is not heard.
    pub stale_after: Duration,
    /// What an orderly stop leaves behind.
    pub on_stop: OnStop,
}

/// `kernel.mode`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Native where the driver has it, else generic.
    Auto,
    /// In the driver, or not at all.
    Native,
    /// In the network stack's receive path.
    Generic,
    /// No XDP: the slow path answers everything.
    Off,
}

/// `kernel.on_stop`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnStop {
    /// Leave nothing attached or pinned.
    Detach,
    /// Leave the pinned program answering for the next start to take over.
    Keep,
}

/// `[[zone]]`
#[derive(Clone, Debug)]
pub struct ZoneFile {
    /// Apex.
    pub name: Name,
    /// Zone file.
    pub file: PathBuf,
    /// Line in the configuration.
    pub line: usize,
}

/// `[[mirror]]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mirror {
    /// Name, unique.
    pub id: String,
    /// IPv4 addresses, sorted.
    pub v4: Vec<Ipv4Addr>,
    /// IPv6 addresses, sorted.
    pub v6: Vec<Ipv6Addr>,
}

impl Mirror {
    /// All its addresses, IPv4 first.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        let v4 = self.v4.iter().copied().map(IpAddr::V4);
        v4.chain(self.v6.iter().copied().map(IpAddr::V6))
    }
}

/// `[[pool]]`
#[derive(Clone, Debug)]
pub struct Pool {
    /// Name, unique.
    pub id: String,
    /// Its mirrors, as indices into [`Config::mirrors`]. A pool's own mirror number is the place here.
    pub mirrors: Vec<usize>,
    /// How it chooses.
    pub policy: Policy,
    /// TTL of its records.
    pub ttl: u32,
    /// Mirrors in one answer, at the most (`answers`; default: 1 for `table`, all for `all`).
    pub answers: u16,
    /// Line in the configuration.
    pub line: usize,
}

/// `pool.policy`
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Policy {
    /// Every mirror, to everyone.
    All,
    /// By a list of prefixes.
    Table {
        /// Mirror (number in the pool) where no prefix matches.
        default: u8,
        /// `prefix,mirror` list, if any.
        prefixes: Option<PathBuf>,
    },
}

/// `[[steer]]`
#[derive(Clone, Debug)]
pub struct Steer {
    /// Owner name; may be a wildcard or an apex.
    pub name: Name,
    /// Index into [`Config::pools`].
    pub pool: usize,
    /// Line in the configuration.
    pub line: usize,
}

/// `control.socket`, when left out.
pub const DEFAULT_SOCKET: &str = "/run/geodns/control.sock";

/// What the command line says above the file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overrides {
    /// `--iface`: interfaces instead of `kernel.interfaces`; empty: the file's.
    pub interfaces: Vec<String>,
}

impl Config {
    /// Reads and validates a file.
    pub fn load(path: &Path) -> Result<Self, Error> {
        Self::load_with(path, &Overrides::default())
    }

    /// Reads and validates a file, under what the command line says.
    pub fn load_with(path: &Path, overrides: &Overrides) -> Result<Self, Error> {
        let bytes = fs::read(path).map_err(|error| Error::cannot_read(path, &error))?;
        Self::parse(path, &bytes, overrides)
    }

    /// Validates a file's content; `path` is for errors and relative paths.
    fn parse(path: &Path, bytes: &[u8], overrides: &Overrides) -> Result<Self, Error> {
        let text = str::from_utf8(bytes).map_err(|error| {
            let before = &bytes[..error.valid_up_to()];
            Error {
                file: path.to_owned(),
                line: Some(1 + before.iter().filter(|&&byte| byte == b'\n').count()),
                key: None,
                message: "not UTF-8; save the file as UTF-8".to_owned(),
            }
        })?;
        let source = file::Source::new(path, text);
        check::check(&source, source.parse()?, overrides)
    }

    /// An error unless there is an interface to attach to or, with `mode = "off"`, an address to
    /// answer on. Not part of loading: `geodns check` is content with a file that leaves the
    /// interfaces to `--iface`.
    pub fn require_interfaces(&self) -> Result<(), Error> {
        let message = match self.kernel.mode {
            _ if !self.kernel.interfaces.is_empty() => return Ok(()),
            Mode::Off if self.server.listen.is_some() => return Ok(()),
            Mode::Off => "none, and no server.listen; name either, or give --iface",
            _ => "none to attach to; name one, give --iface, or set kernel.mode to \"off\"",
        };
        Err(Error {
            file: self.path.clone(),
            line: None,
            key: Some("kernel.interfaces".to_owned()),
            message: message.to_owned(),
        })
    }

    /// Number of a mirror, by its id, in a pool.
    pub fn mirror_in_pool(&self, pool: usize, id: &str) -> Option<u8> {
        let place = self.pools[pool]
            .mirrors
            .iter()
            .position(|&m| self.mirrors[m].id == id)?;
        u8::try_from(place).ok()
    }

    /// Id of a pool's mirror.
    pub fn mirror_id(&self, pool: usize, mirror: u8) -> &str {
        &self.mirrors[self.pools[pool].mirrors[mirror as usize]].id
    }
}

#[cfg(test)]
mod tests;

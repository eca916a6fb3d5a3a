//! `[dnstap]`: judged.

use std::fmt;
use std::path::PathBuf;

use geodns_common::watch::Watch;

use super::file::{self, Spanned};
use super::reader::{Judged, Reader};
use super::size::size;

/// The size at which another file is begun, and its bounds.
const MAX_SIZE: u64 = 1 << 30;
const MAX_SIZES: [u64; 2] = [1 << 20, 1 << 40];
/// Octets of an identity, at the most.
const MAX_IDENTITY: usize = 255;

/// `[dnstap]`: queries and responses, for other programs to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dnstap {
    /// Where they go.
    pub to: TapTo,
    /// One query in N is told of, a power of two.
    pub every: u32,
    /// Name of this server; `None`: as `server.identity`.
    pub identity: Option<String>,
}

/// Where dnstap goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TapTo {
    /// A Unix socket that a reader listens on.
    Socket(PathBuf),
    /// A file.
    File {
        /// Its path.
        path: PathBuf,
        /// Octets at which it is renamed and another one begun.
        max_size: u64,
    },
}

impl fmt::Display for TapTo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Socket(path) => write!(f, "socket {}", path.display()),
            Self::File { path, .. } => write!(f, "file {}", path.display()),
        }
    }
}

impl Reader<'_> {
    pub(super) fn dnstap(&self, file: Spanned<file::Dnstap>) -> Judged<Dnstap> {
        let section = file.span();
        let file = file.into_inner();
        if let (Some(max_size), None) = (&file.max_size, &file.file) {
            let message = "not used without file; remove it, or name a file";
            self.misfit(max_size.span(), "dnstap.max_size", message);
        }
        let max_size = self.max_size(file.max_size);
        let to = match (file.socket, file.file) {
            (Some(_), Some(path)) => {
                let message = "a socket or a file, not both; remove one";
                return self.error(path.span(), "dnstap.file", message);
            }
            (Some(socket), None) => self
                .path(Some(socket), "dnstap.socket", "")
                .map(|(path, _)| TapTo::Socket(path)),
            (None, Some(path)) => self
                .path(Some(path), "dnstap.file", "")
                .and_then(|(path, _)| max_size.map(|max_size| TapTo::File { path, max_size })),
            (None, None) => {
                let message = "missing; name the socket that a reader listens on, or a file";
                Err(self.misfit(section, "dnstap.socket", message))
            }
        };
        let every = match file.every {
            None => Ok(1),
            Some(every) => match u32::try_from(*every.get_ref()) {
                Ok(n) if n.is_power_of_two() && n <= 1 << Watch::MAX_SHIFT => Ok(n),
                _ => {
                    let message = format!(
                        "{} is no power of two from 1 to {}; write one, such as 64",
                        every.get_ref(),
                        1 << Watch::MAX_SHIFT
                    );
                    self.error(every.span(), "dnstap.every", message)
                }
            },
        };
        let identity = match file.identity {
            Some(identity) if identity.get_ref().len() > MAX_IDENTITY => {
                let message = format!("longer than {MAX_IDENTITY} octets; write a shorter one");
                self.error(identity.span(), "dnstap.identity", message)
            }
            identity => Ok(identity.map(Spanned::into_inner)),
        };
        Ok(Dnstap {
            to: to?,
            every: every?,
            identity: identity?,
        })
    }

    fn max_size(&self, text: Option<Spanned<String>>) -> Judged<u64> {
        let Some(text) = text else {
            return Ok(MAX_SIZE);
        };
        let [least, most] = MAX_SIZES;
        match size(text.get_ref()).map(|octets| octets as u64) {
            Some(octets) if (least..=most).contains(&octets) => Ok(octets),
            _ => {
                let message = format!(
                    "{:?} is no size from 1MiB to 1024GiB; write one, such as \"256MiB\"",
                    text.get_ref()
                );
                self.error(text.span(), "dnstap.max_size", message)
            }
        }
    }
}

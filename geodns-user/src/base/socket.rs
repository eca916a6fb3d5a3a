//! Unix sockets that only their owner and root may use.

use std::fs::{self, DirBuilder, File, Permissions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use tokio::net::UnixListener;

/// A bound socket. Dropping `file` removes its file.
#[derive(Debug)]
pub struct Socket {
    /// Accepts connections.
    pub listener: UnixListener,
    /// The socket's file.
    pub file: SocketFile,
}

/// Why a socket cannot be bound. Displays as one line that names it.
#[derive(Debug, thiserror::Error)]
#[error("{}: {problem}", path.display())]
pub struct BindError {
    path: PathBuf,
    problem: String,
}

impl Socket {
    /// Binds, owner-only from the first moment. Makes the folder if there is none; takes the place
    /// of a socket that nobody listens on, and of nothing else. Needs a tokio runtime.
    pub fn bind(path: &Path) -> Result<Self, BindError> {
        Self::try_bind(path).map_err(|problem| BindError {
            path: path.to_owned(),
            problem,
        })
    }

    fn try_bind(path: &Path) -> Result<Self, String> {
        let why = |error: io::Error| error.to_string();
        if let Some(folder) = path.parent().filter(|p| !p.as_os_str().is_empty()) {
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(folder)
                .map_err(why)?;
        }
        remove_stale(path)?;
        let address = socket2::SockAddr::unix(path)
            .map_err(|_| "the path is too long for a socket (107 bytes at the most)".to_owned())?;
        let socket = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None)
            .map_err(why)?;
        // The file gets the mode that the socket has when it is bound: never a moment for others.
        let socket = File::from(OwnedFd::from(socket));
        socket
            .set_permissions(Permissions::from_mode(0o600))
            .map_err(why)?;
        let socket = socket2::Socket::from(OwnedFd::from(socket));
        socket.bind(&address).map_err(why)?;
        let file = SocketFile::at(path).map_err(why)?;
        socket.listen(128).map_err(why)?;
        socket.set_nonblocking(true).map_err(why)?;
        let listener = UnixListener::from_std(OwnedFd::from(socket).into()).map_err(why)?;
        Ok(Self { listener, file })
    }
}

/// Removes a socket that nobody listens on.
fn remove_stale(path: &Path) -> Result<(), String> {
    let metadata = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error.to_string()),
    };
    if !metadata.file_type().is_socket() {
        return Err(
            "there is something that is not a socket: move it away, or set another path".into(),
        );
    }
    match UnixStream::connect(path) {
        Ok(_) => {
            Err("another geodns listens there: stop that one first, or set another path".into())
        }
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path)
            .map_err(|error| format!("left by a dead daemon, cannot be removed: {error}")),
        Err(error) => Err(error.to_string()),
    }
}

/// The socket's file, removed on drop if it is still the one that was bound.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl SocketFile {
    fn at(path: &Path) -> io::Result<Self> {
        let metadata = fs::symlink_metadata(path)?;
        Ok(Self {
            path: path.to_owned(),
            device: metadata.dev(),
            inode: metadata.ino(),
        })
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let ours = fs::symlink_metadata(&self.path)
            .is_ok_and(|m| m.dev() == self.device && m.ino() == self.inode);
        if ours {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Whether a user may talk to this process: root may, and the user that runs it. It is a second lock behind the file's
/// mode, which an operator may have widened.
pub fn may_connect(uid: Option<u32>) -> bool {
    may(uid, nix::unistd::geteuid().as_raw())
}

fn may(peer: Option<u32>, own: u32) -> bool {
    peer.is_some_and(|uid| uid == 0 || uid == own)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_and_the_own_user_may_connect() {
        assert!(may(Some(0), 1000));
        assert!(may(Some(1000), 1000));
        assert!(may(Some(0), 0));
        assert!(!may(Some(1000), 0));
        assert!(!may(Some(1001), 1000));
        assert!(!may(None, 0));
    }
}

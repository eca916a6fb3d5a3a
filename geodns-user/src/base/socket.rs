//! Unix sockets that only their owner and root may use, or a group besides.

use std::fs::{self, DirBuilder, File, Permissions};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::unistd::{Gid, chown};
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
        let mut has_made = None;
        if let Some(folder) = path.parent().filter(|p| !p.as_os_str().is_empty()) {
            has_made = (!folder.exists()).then(|| folder.to_owned());
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
        let file = SocketFile::at(path, has_made).map_err(why)?;
        socket.listen(128).map_err(why)?;
        socket.set_nonblocking(true).map_err(why)?;
        let listener = UnixListener::from_std(OwnedFd::from(socket).into()).map_err(why)?;
        Ok(Self { listener, file })
    }

    /// Lets the members of a group connect, too. A folder that was made for the socket lets them through; of any other, the
    /// error says what to do.
    pub fn share(&self, group: Gid) -> Result<(), BindError> {
        let path = &self.file.path;
        let fails = |problem: String| BindError {
            path: path.clone(),
            problem,
        };
        chown(path, None, Some(group)).map_err(|error| {
            fails(format!(
                "it cannot be given to group {group} ({}): have the daemon be in that group (systemd: \
                 SupplementaryGroups=)",
                error.desc()
            ))
        })?;
        let open = fs::set_permissions(path, Permissions::from_mode(0o660));
        open.map_err(|error| fails(error.to_string()))?;
        if let Some(folder) = &self.file.has_made {
            let opened = chown(folder, None, Some(group)).map_err(io::Error::from);
            let opened =
                opened.and_then(|()| fs::set_permissions(folder, Permissions::from_mode(0o750)));
            opened.map_err(|error| fails(error.to_string()))?;
        }
        let folder = path.parent().unwrap_or(Path::new("/"));
        let folder_is = fs::metadata(folder).map_err(|error| fails(error.to_string()))?;
        let bit = match folder_is.gid() == group.as_raw() {
            true => 0o010,
            false => 0o001,
        };
        match folder_is.mode() & bit {
            0 => Err(fails(format!(
                "group {group} may use it, and cannot reach it: chgrp {group} {0} && chmod g+x {0} (systemd: \
                 RuntimeDirectoryMode=0750 and Group=)",
                folder.display()
            ))),
            _ => Ok(()),
        }
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
    /// The folder, if it was not there before.
    has_made: Option<PathBuf>,
}

impl SocketFile {
    fn at(path: &Path, has_made: Option<PathBuf>) -> io::Result<Self> {
        let metadata = fs::symlink_metadata(path)?;
        Ok(Self {
            path: path.to_owned(),
            device: metadata.dev(),
            inode: metadata.ino(),
            has_made,
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

/// Groups of the process at the other end when it connected, by the kernel's word (SO_PEERGROUPS), but for its primary one.
/// None, if they cannot be told.
pub fn peer_groups(stream: &impl AsRawFd) -> Vec<u32> {
    let mut groups: Vec<libc::gid_t> = vec![0; 64];
    loop {
        let room = size_of_val(&groups[..]);
        let mut length = libc::socklen_t::try_from(room).unwrap_or(0);
        // SAFETY: the kernel writes at most `length` octets to `groups`, which has as many, and says how many it needs.
        let failed = unsafe {
            libc::getsockopt(
                stream.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_PEERGROUPS,
                groups.as_mut_ptr().cast(),
                &raw mut length,
            )
        };
        let known = length as usize / size_of::<libc::gid_t>();
        match Errno::result(failed) {
            Ok(_) => {
                groups.truncate(known);
                return groups;
            }
            Err(Errno::ERANGE) if known > groups.len() => groups.resize(known, 0),
            Err(_) => return Vec::new(),
        }
    }
}

fn may(peer: Option<u32>, own: u32) -> bool {
    peer.is_some_and(|uid| uid == 0 || uid == own)
}

#[cfg(test)]
mod tests {
    use nix::unistd::getgroups;

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

    #[test]
    fn the_kernel_tells_the_groups_of_the_other_end() {
        let (one, _other) = UnixStream::pair().unwrap();
        let own = getgroups().unwrap();
        let own: Vec<u32> = own.iter().map(|group| group.as_raw()).collect();
        assert_eq!(peer_groups(&one), own);
    }

    #[tokio::test]
    async fn a_group_reaches_a_socket_in_a_folder_made_for_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run/control.sock");
        let socket = Socket::bind(&path).unwrap();
        socket.share(Gid::current()).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o777;
        assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o660, 0o750));
        // A folder that was there stays as it is.
        fs::set_permissions(folder.path(), Permissions::from_mode(0o700)).unwrap();
        let socket = Socket::bind(&folder.path().join("control.sock")).unwrap();
        let error = socket.share(Gid::current()).unwrap_err().to_string();
        assert!(error.contains("cannot reach it: chgrp"), "{error}");
        assert_eq!(mode(folder.path()), 0o700);
    }
}

//! The file system that pins live in.

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use nix::mount::{MsFlags, mount};
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};

use super::Error;

/// Where bpffs is by custom, and where it is mounted if it is not.
pub const USUAL: &str = "/sys/fs/bpf";

/// Sees to it that a folder (which need not exist yet) is in a bpffs; mounts one at its usual
/// place if that is where it should be. Needs CAP_SYS_ADMIN only to mount.
pub fn ensure(pin: &Path) -> Result<(), Error> {
    if is_bpffs(pin)? {
        return Ok(());
    }
    if !pin.starts_with(USUAL) {
        return Err(Error::NotBpffs {
            path: pin.to_path_buf(),
        });
    }
    mount(
        Some("bpf"),
        USUAL,
        Some("bpf"),
        MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC,
        Some("mode=0700"),
    )
    .map_err(|error| Error::Mount {
        path: PathBuf::from(USUAL),
        source: error.into(),
    })?;
    tracing::info!("mounted bpffs at {USUAL}");
    Ok(())
}

/// Whether a path, or the folder that it would be made in, is in a bpffs.
pub fn is_bpffs(path: &Path) -> Result<bool, Error> {
    let existing = path
        .ancestors()
        .find(|folder| folder.exists())
        .unwrap_or(Path::new("/"));
    let found = statfs(existing).map_err(|error| Error::Pin {
        what: "examine",
        path: existing.to_path_buf(),
        source: error.into(),
    })?;
    Ok(found.filesystem_type() == BPF_FS_MAGIC)
}

/// Makes a folder and those above it, for us alone.
pub fn create_dir(path: &Path) -> Result<(), Error> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|source| Error::Pin {
            what: "create the folder",
            path: path.to_path_buf(),
            source,
        })
}

/// Names in a folder; none if it does not exist.
pub fn list(folder: &Path) -> io::Result<Vec<String>> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    entries
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect()
}

/// Everything below the folders that a bpffs is mounted on, as far as it can be read, up to a bound.
pub fn all() -> Vec<PathBuf> {
    const MOST: usize = 10_000;
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let mut folders: Vec<PathBuf> = mounts
        .lines()
        .filter_map(|line| {
            let mut fields = line.split(' ').skip(1);
            let folder = fields.next()?;
            (fields.next() == Some("bpf")).then(|| PathBuf::from(folder))
        })
        .collect();
    let mut found = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            if found.len() >= MOST {
                return found;
            }
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                folders.push(entry.path());
            }
            found.push(entry.path());
        }
    }
    found
}

/// Removes a folder and all that is in it, if it is there.
pub fn remove_all(folder: &Path) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Removes a folder if there is nothing in it.
pub fn remove_empty(folder: &Path) -> io::Result<()> {
    match fs::remove_dir(folder) {
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound
                    | io::ErrorKind::DirectoryNotEmpty
                    // A bpffs is mounted on it.
                    | io::ErrorKind::ResourceBusy
            ) =>
        {
            Ok(())
        }
        other => other,
    }
}

/// Removes a pin, if it is there.
pub fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

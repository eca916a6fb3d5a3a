//! A database's file, copied: the operator may overwrite or truncate his own at any time, and a mapping
//! of that would then be changed under us, or kill us (SIGBUS).

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use memmap2::{Mmap, UncheckedAdvice};

use super::error;
use crate::base::complaint::Error;
use crate::files;

/// Which version of which file: another one has another fingerprint, whether it was renamed there or
/// written in place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fingerprint {
    /// Where the file is.
    pub path: PathBuf,
    device: u64,
    inode: u64,
    /// Seconds and nanoseconds of the last change.
    modified: (i64, i64),
    size: u64,
}

impl Fingerprint {
    /// The fingerprint of the file that is there now.
    pub fn now(path: &Path) -> io::Result<Self> {
        Ok(Self::of(path, &fs::metadata(path)?))
    }

    fn of(path: &Path, metadata: &fs::Metadata) -> Self {
        Self {
            path: path.to_owned(),
            device: metadata.dev(),
            inode: metadata.ino(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            size: metadata.size(),
        }
    }
}

/// The bytes of a file, as they were when they were read. They are in a file without a name, mapped:
/// memory holds no more of them than is in use.
#[derive(Clone, Debug)]
pub struct Bytes(Arc<Mmap>);

impl Bytes {
    /// Copies a file into a folder.
    pub fn copy(path: &Path, folder: &Path) -> Result<(Self, Fingerprint), Error> {
        let cannot_read = |problem: io::Error| Error::cannot_read(path, &problem);
        let mut source = files::open(path).map_err(cannot_read)?;
        let before = Fingerprint::of(path, &source.metadata().map_err(cannot_read)?);
        let cannot_copy = |problem: io::Error| {
            let folder = folder.display();
            let help = "check its permissions and the free space";
            error(
                path,
                format!("cannot copy into {folder}: {problem}; {help}"),
            )
        };
        let mut copy = tempfile::tempfile_in(folder).map_err(cannot_copy)?;
        let copied = io::copy(&mut source, &mut copy).map_err(cannot_copy)?;
        let after = Fingerprint::of(path, &source.metadata().map_err(cannot_read)?);
        if before != after || copied != before.size {
            let message = "is being written to; read it again when it is complete";
            return Err(error(path, message));
        }
        // SAFETY: the file has no name and its only handle ends here: nobody writes to it or truncates
        // it as long as it is mapped.
        let map = unsafe { Mmap::map(&copy) }.map_err(cannot_copy)?;
        Ok((Self(Arc::new(map)), before))
    }

    /// Gives the memory back. What is needed again is read from the disk.
    pub fn relax(&self) {
        // SAFETY: a read-only mapping of a file: its pages come back with the same bytes.
        let done = unsafe { self.0.unchecked_advise(UncheckedAdvice::DontNeed) };
        if let Err(problem) = done {
            tracing::debug!("cannot give back the memory of a GeoIP database: {problem}");
        }
    }
}

impl AsRef<[u8]> for Bytes {
    #[inline]
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

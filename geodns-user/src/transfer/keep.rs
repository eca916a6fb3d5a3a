//! Transferred zones on disk: one file each, in a folder beside the state, for its owner only. A file is
//! whole or not there; it was last known to be good when it was last modified.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::zone::{Name, Run, Zone, take};

/// What a file begins with.
const HEAD: &[u8] = b"geodns zone 1\n";

/// A zone from the disk.
#[derive(Debug)]
pub struct Kept {
    /// The zone.
    pub zone: Zone,
    /// When a primary last had no newer one.
    pub checked: SystemTime,
}

/// Zones on disk.
#[derive(Clone, Debug)]
pub struct Keep {
    folder: PathBuf,
}

impl Keep {
    /// Those beside a state.
    pub fn beside(state: &Path) -> Self {
        let folder = state.parent().unwrap_or(Path::new(""));
        Self {
            folder: folder.join("zones"),
        }
    }

    fn path(&self, apex: &Name) -> PathBuf {
        let mut name = String::new();
        for byte in apex.to_string().bytes() {
            match byte {
                b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' => name.push(byte.into()),
                _ => name.push_str(&format!("%{byte:02x}")),
            }
        }
        // File names have 255 octets.
        if name.len() > 200 {
            use std::hash::Hasher;
            let mut hasher = siphasher::sip::SipHasher13::new();
            hasher.write(name.as_bytes());
            name.truncate(180);
            name.push_str(&format!("%{:016x}", hasher.finish()));
        }
        self.folder.join(name + ".zone")
    }

    /// Reads a zone. `Ok(None)`: there is none. Errors display as one line with the path.
    pub fn read(&self, apex: &Name) -> Result<Option<Kept>, String> {
        let path = self.path(apex);
        let wrong = |what: String| format!("{}: {what}", path.display());
        let (octets, checked) = match fs::read(&path) {
            Ok(octets) => {
                let checked = fs::metadata(&path).and_then(|metadata| metadata.modified());
                (octets, checked.map_err(|error| wrong(error.to_string()))?)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(wrong(error.to_string())),
        };
        let damaged = || wrong("damaged: the zone will be transferred anew".to_owned());
        let records = octets.strip_prefix(HEAD).ok_or_else(damaged)?;
        let run = Run::from_octets(records.to_vec()).ok_or_else(damaged)?;
        let zone =
            take::from_run(apex, &run).map_err(|error| wrong(format!("damaged: {error}")))?;
        Ok(Some(Kept { zone, checked }))
    }

    /// Writes a zone, in the place of what was kept of it.
    pub fn write(&self, zone: &Zone) -> io::Result<()> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.folder)?;
        let mut file = tempfile::Builder::new()
            .prefix(".")
            .tempfile_in(&self.folder)?;
        file.write_all(HEAD)?;
        file.write_all(Run::from(zone).as_octets())?;
        file.as_file().sync_all()?;
        file.persist(self.path(&zone.apex))?;
        File::open(&self.folder)?.sync_all()
    }

    /// Notes that a primary has no newer zone.
    pub fn touch(&self, apex: &Name, at: SystemTime) -> io::Result<()> {
        File::options()
            .write(true)
            .open(self.path(apex))?
            .set_modified(at)
    }

    /// Forgets a zone; no matter if there is none.
    pub fn remove(&self, apex: &Name) {
        let _ = fs::remove_file(self.path(apex));
    }
}

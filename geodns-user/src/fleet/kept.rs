//! Bundles on this node's disk, in the folder `bundles` beside the state: each unpacked in a folder of its own, and
//! which of them the node runs.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::bundle::{Bundle, CONFIG, Manifest, is_id, is_path};
use super::rollout::Local;

/// The name of the file that says which bundle runs.
const LOCAL: &str = "running.json";

/// The folder of bundles.
#[derive(Clone, Debug)]
pub struct KeptBundles(PathBuf);

impl KeptBundles {
    /// The folder beside the state, from `/` on.
    pub fn beside(state: &Path) -> Self {
        let folder = state.with_file_name("bundles");
        Self(std::path::absolute(&folder).unwrap_or(folder))
    }

    /// The configuration of a bundle.
    pub fn config(&self, id: &str) -> PathBuf {
        self.0.join(id).join(CONFIG)
    }

    /// Whether a bundle is here.
    pub fn has(&self, id: &str) -> bool {
        is_id(id) && self.config(id).is_file()
    }

    /// Unpacks a bundle. It is there whole, or not at all.
    pub fn unpack(&self, id: &str, bundle: &Bundle) -> io::Result<()> {
        if !is_id(id) {
            return Err(io::Error::other(format!("{id:?} is no bundle's id")));
        }
        let staged = self.0.join(format!("new-{id}"));
        let _ = fs::remove_dir_all(&staged);
        fs::create_dir_all(&staged)?;
        for (path, content) in &bundle.files {
            if !is_path(path) {
                return Err(io::Error::other(format!("{path:?} leads elsewhere")));
            }
            let path = staged.join(path);
            if let Some(folder) = path.parent() {
                fs::create_dir_all(folder)?;
            }
            write(&path, content)?;
        }
        let manifest = bundle.manifest().to_octets().map_err(io::Error::other)?;
        write(&staged.join(Manifest::NAME), &manifest)?;
        let place = self.0.join(id);
        let _ = fs::remove_dir_all(&place);
        fs::rename(&staged, &place)?;
        File::open(&self.0)?.sync_all()
    }

    /// The list of what is in a bundle.
    pub fn manifest(&self, id: &str) -> io::Result<Manifest> {
        let content = fs::read(self.0.join(id).join(Manifest::NAME))?;
        Manifest::parse(&content).map_err(io::Error::other)
    }

    /// The bundle that this node runs. Without any, it runs its own file.
    pub fn local(&self) -> io::Result<Local> {
        match fs::read(self.0.join(LOCAL)) {
            Ok(content) => serde_json::from_slice(&content).map_err(io::Error::from),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Local::default()),
            Err(error) => Err(error),
        }
    }

    /// Keeps which bundle this node runs.
    pub fn save(&self, local: &Local) -> io::Result<()> {
        fs::create_dir_all(&self.0)?;
        let staged = self.0.join(format!("{LOCAL}.new"));
        write(&staged, &serde_json::to_vec_pretty(local)?)?;
        fs::rename(&staged, self.0.join(LOCAL))?;
        File::open(&self.0)?.sync_all()
    }

    /// Removes all bundles but these.
    pub fn sweep(&self, keep: &[&str]) {
        let Ok(entries) = fs::read_dir(&self.0) else {
            return;
        };
        for entry in entries.flatten() {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            let id = name.strip_prefix("new-").unwrap_or(&name);
            if is_id(id) && !keep.contains(&&*name) {
                let _ = fs::remove_dir_all(entry.path());
            }
        }
    }
}

fn write(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(content)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn bundles_are_unpacked_whole_and_swept() {
        let folder = tempfile::tempdir().unwrap();
        let kept = KeptBundles::beside(&folder.path().join("state.redb"));
        assert_eq!(kept.local().unwrap(), Local::default());
        let here = KeptBundles::beside(Path::new("state.redb"));
        assert!(here.config("0123456789abcdef").is_absolute());
        let bundle = |text: &str| Bundle {
            serial: 1,
            files: BTreeMap::from([
                (CONFIG.to_owned(), text.as_bytes().to_vec()),
                ("zones/a.zone".to_owned(), b"a".to_vec()),
            ]),
            databases: BTreeMap::new(),
        };
        let (one, two) = ("0123456789abcdef", "fedcba9876543210");
        kept.unpack(one, &bundle("one")).unwrap();
        kept.unpack(two, &bundle("two")).unwrap();
        kept.unpack(two, &bundle("again")).unwrap();
        assert_eq!(fs::read(kept.config(two)).unwrap(), b"again");
        assert_eq!(kept.manifest(two).unwrap(), bundle("again").manifest());
        assert!(kept.has(one) && kept.has(two) && !kept.has("../etc"));
        assert!(kept.unpack("../etc", &bundle("x")).is_err());
        let mut outside = bundle("x");
        outside.files.insert("../x".to_owned(), Vec::new());
        assert!(kept.unpack(one, &outside).is_err());
        assert_eq!(fs::read(kept.config(one)).unwrap(), b"one");

        let local = Local {
            running: Some(one.to_owned()),
            ..Local::default()
        };
        kept.save(&local).unwrap();
        assert_eq!(kept.local().unwrap(), local);
        kept.sweep(&[one]);
        assert!(kept.has(one) && !kept.has(two));
        let left = fs::read_dir(folder.path().join("bundles")).unwrap().count();
        assert_eq!(left, 2);
    }
}

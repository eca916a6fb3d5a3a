//! Transferred zones on disk: one file each, in a folder beside the state, for its owner only. A file is
//! whole or not there; it was last known to be good when it was last modified.
//!
//! A file of a catalog's member says which member it is of, and is not there for any other zone of that name.
//! So it does not matter when the file of a member that has gone is removed.

use std::collections::HashSet;
use std::fs::{self, DirBuilder, File};
use std::hash::Hasher;
use std::io::{self, Read, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use siphasher::sip::SipHasher13;

use crate::base::name::Name;
use crate::files;
use crate::zone::{Run, Zone, take};

/// The first octets of a file. Behind them come the records, and a [`digest`] of all.
const HEAD: &[u8] = b"geodns zone 3\n";
/// The first octets of a file of a catalog's member. The length of its label in the catalog follows, and the label.
const HEAD_OF_MEMBER: &[u8] = b"geodns zone 4\n";

/// Digest of octets: it shows that a file was cut short, or is damaged.
fn digest(parts: &[&[u8]]) -> [u8; 8] {
    let mut hasher = SipHasher13::new();
    parts.iter().for_each(|part| hasher.write(part));
    hasher.finish().to_le_bytes()
}

/// A zone from the disk.
#[derive(Debug)]
pub struct KeptZone {
    /// The zone.
    pub zone: Zone,
    /// When a primary last had no newer one.
    pub checked: SystemTime,
}

/// Zones on disk.
#[derive(Clone, Debug)]
pub struct KeptZones {
    folder: PathBuf,
}

impl KeptZones {
    /// The zones in the folder beside a state.
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
            let digest = u64::from_le_bytes(digest(&[name.as_bytes()]));
            name.truncate(180);
            name.push_str(&format!("%{digest:016x}"));
        }
        self.folder.join(name + ".zone")
    }

    /// Reads a zone, of the member with this label in its catalog, or of the configuration. `Ok(None)`: there
    /// is none. Errors display as one line with the path.
    pub fn read(&self, apex: &Name, member: Option<&[u8]>) -> Result<Option<KeptZone>, String> {
        let path = self.path(apex);
        let wrong = |what: String| format!("{}: {what}", path.display());
        let (octets, checked) = match files::read(&path) {
            Ok(octets) => {
                let checked = fs::metadata(&path).and_then(|metadata| metadata.modified());
                (octets, checked.map_err(|error| wrong(error.to_string()))?)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(wrong(error.to_string())),
        };
        let damaged = |why: &str| {
            wrong(format!(
                "damaged ({why}): the zone will be transferred anew"
            ))
        };
        let whole = octets.split_last_chunk();
        let whole =
            whole.and_then(|(octets, known)| (digest(&[octets]) == *known).then_some(octets));
        let (of, records) = whole
            .and_then(split)
            .ok_or_else(|| damaged("not as it was written"))?;
        if !is_of(of, member) {
            return Ok(None);
        }
        let run = Run::from_octets(records.to_vec()).ok_or_else(|| damaged("no records"))?;
        let zone = take::from_run(apex, &run).map_err(|error| damaged(&error.to_string()))?;
        Ok(Some(KeptZone { zone, checked }))
    }

    /// When a primary last had no newer zone than the one that [`KeptZones::read`] gives.
    pub fn checked(&self, apex: &Name, member: Option<&[u8]>) -> Option<SystemTime> {
        let path = self.path(apex);
        let of = whose(&path)?;
        let modified = fs::metadata(&path).and_then(|metadata| metadata.modified());
        modified.ok().filter(|_| is_of(of.as_deref(), member))
    }

    /// Writes a zone, in the place of the one with its name.
    pub fn write(&self, zone: &Zone, member: Option<&[u8]>) -> io::Result<()> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.folder)?;
        let mut file = tempfile::Builder::new()
            .prefix(".")
            .tempfile_in(&self.folder)?;
        let head = match member {
            None => HEAD.to_vec(),
            Some(label) => {
                let len = u8::try_from(label.len()).map_err(io::Error::other)?;
                [HEAD_OF_MEMBER, &[len], label].concat()
            }
        };
        let run = Run::from(zone);
        let parts = [&*head, run.as_octets()];
        for part in [&parts[..], &[&digest(&parts)]].concat() {
            file.write_all(part)?;
        }
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

    /// Forgets a member of a catalog whose name is another zone's now, unless that zone has been written already.
    pub fn remove_member(&self, apex: &Name, label: &[u8]) {
        let path = self.path(apex);
        if whose(&path).flatten().as_deref() == Some(label) {
            let _ = fs::remove_file(path);
        }
    }

    /// Forgets members of catalogs that are none any more. `zones` has all that there are.
    pub fn sweep<'a>(&self, zones: impl Iterator<Item = &'a Name>) {
        let Ok(files) = fs::read_dir(&self.folder) else {
            return;
        };
        let there: HashSet<PathBuf> = zones.map(|apex| self.path(apex)).collect();
        let files = files.flatten().map(|file| file.path());
        for path in files.filter(|path| !there.contains(path)) {
            if whose(&path).flatten().is_some() {
                let _ = fs::remove_file(path);
            }
        }
    }
}

/// Splits a file into the label of the member that it is of, if it is of one, and its records. `None`: it is damaged.
fn split(octets: &[u8]) -> Option<(Option<&[u8]>, &[u8])> {
    if let Some(records) = octets.strip_prefix(HEAD) {
        return Some((None, records));
    }
    let (&len, rest) = octets.strip_prefix(HEAD_OF_MEMBER)?.split_first()?;
    let (label, records) = rest.split_at_checked(len.into())?;
    Some((Some(label), records))
}

/// The label of the member that a file is of, as [`split`] gives it.
fn whose(path: &Path) -> Option<Option<Vec<u8>>> {
    let mut head = Vec::new();
    // A label has 63 octets.
    let file = File::open(path).ok()?;
    file.take(HEAD.len() as u64 + 64)
        .read_to_end(&mut head)
        .ok()?;
    let (of, _) = split(&head)?;
    Some(of.map(<[u8]>::to_vec))
}

/// Whether a file is of that zone. A member that an earlier version has kept says nothing of its label.
fn is_of(of: Option<&[u8]>, member: Option<&[u8]>) -> bool {
    of.is_none() || of == member
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::name::parse_name;
    use crate::zone::parse;

    #[test]
    fn a_file_is_there_for_the_member_that_it_is_of() {
        let folder = tempfile::tempdir().unwrap();
        let keep = KeptZones::beside(&folder.path().join("state.redb"));
        let apex = parse_name("a.example").unwrap();
        let text = b"$TTL 9\n@ SOA a b 1 2 3 4 5\n@ NS a.test.\n";
        let zone = parse(&apex, Path::new("zone"), text).zone.unwrap();
        let is_there = |member: Option<&[u8]>| {
            let read = keep.read(&apex, member).unwrap().is_some();
            assert_eq!(keep.checked(&apex, member).is_some(), read);
            read
        };
        assert!(!is_there(None) && !is_there(Some(b"x")));
        keep.write(&zone, Some(b"x")).unwrap();
        assert!(is_there(Some(b"x")) && !is_there(Some(b"y")) && !is_there(None));
        // Gone, with another zone in its place that has or has not been written yet.
        keep.remove_member(&apex, b"y");
        assert!(is_there(Some(b"x")));
        keep.remove_member(&apex, b"x");
        assert!(!is_there(Some(b"x")));
        keep.write(&zone, None).unwrap();
        keep.remove_member(&apex, b"x");
        assert!(is_there(None));
        // A member whose removal was cut short goes at the next start; zones of the configuration stay.
        keep.sweep(std::iter::empty());
        assert!(is_there(None));
        keep.write(&zone, Some(b"x")).unwrap();
        keep.sweep([&apex].into_iter());
        assert!(is_there(Some(b"x")));
        keep.sweep(std::iter::empty());
        assert!(!is_there(Some(b"x")));
        // Damage is said.
        fs::write(keep.path(&apex), [HEAD_OF_MEMBER, b"\x05x"].concat()).unwrap();
        assert!(keep.read(&apex, Some(b"x")).is_err());
    }

    #[test]
    fn what_was_cut_short_anywhere_or_is_another_is_damage() {
        let folder = tempfile::tempdir().unwrap();
        let keep = KeptZones::beside(&folder.path().join("state.redb"));
        let apex = parse_name("example.org").unwrap();
        let text = "@ 60 IN SOA ns1 host 7 2 3 4 5\n@ 60 IN NS ns1\nns1 60 IN A 192.0.2.1\n\
                    a 60 IN TXT one\nb 60 IN TXT two\n";
        let zone = parse(&apex, Path::new("zone"), text.as_bytes())
            .zone
            .unwrap();
        assert!(keep.read(&apex, None).unwrap().is_none());
        keep.write(&zone, None).unwrap();
        let path = keep.path(&apex);
        let whole = fs::read(&path).unwrap();
        let kept = keep.read(&apex, None).unwrap().unwrap();
        assert_eq!((kept.zone.serial(), kept.zone.len()), (7, zone.len()));
        for length in 0..whole.len() {
            fs::write(&path, &whole[..length]).unwrap();
            let line = keep.read(&apex, None).unwrap_err();
            assert!(line.contains("zone: damaged ("), "{length}: {line}");
        }
        for at in 0..whole.len() {
            let mut other = whole.clone();
            other[at] ^= 1;
            fs::write(&path, other).unwrap();
            assert!(keep.read(&apex, None).is_err(), "octet {at}");
        }
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        assert!(
            keep.read(&apex, None)
                .unwrap_err()
                .contains("it is a folder")
        );
    }
}

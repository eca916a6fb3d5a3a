//! Bundles: a configuration and the files that it names, as one signed file that every node of a fleet takes.
//!
//! A bundle is a tar archive of regular files. Its first one is `manifest.json`: a serial number, which counts up from
//! bundle to bundle, and the SHA-256 of each file. GeoIP databases stay outside, and the manifest has their hashes. The
//! same files make the same octets. A signature in minisign's form stands beside it (Ed25519 over BLAKE2b, with a trusted
//! comment).
//!
//! A bundle comes from outside: nothing of it is used before a trusted key has signed all of it, and its paths stay
//! below its folder.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Component, Path};

use minisign_verify::{PublicKey, Signature};
use serde::{Deserialize, Serialize};
use tar::{Archive, Builder, EntryType, Header};

use crate::base::sha256::{sha256, short};
use crate::printable::line;

/// Octets of a bundle, at the most.
pub const MOST_OCTETS: usize = 64 << 20;
/// Files in it, at the most.
pub const MOST_FILES: usize = 10_000;
/// Octets of a path, at the most.
const LONGEST_PATH: usize = 200;
/// Octets of a signature, at the most.
const MOST_SIGNATURE: usize = 4096;
/// The version of the manifest.
const VERSION: u32 = 1;
/// The name of the configuration.
pub const CONFIG: &str = "geodns.toml";

/// A configuration, and the files that it names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bundle {
    /// Its number: a later bundle has a greater one.
    pub serial: u64,
    /// Content of each file, by its path below the bundle's folder.
    pub files: BTreeMap<String, Vec<u8>>,
    /// SHA-256 of GeoIP databases that stay outside, by their path in the configuration.
    pub databases: BTreeMap<String, String>,
}

/// The list of what is in a bundle.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Version of this format.
    pub version: u32,
    /// Number of the bundle.
    pub serial: u64,
    /// SHA-256 of each file, in hexadecimal digits.
    pub files: BTreeMap<String, String>,
    /// SHA-256 of GeoIP databases that stay outside.
    #[serde(default)]
    pub databases: BTreeMap<String, String>,
}

/// Why a bundle is not taken. Displays as one line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The file is not as it was when it was made.
    #[error("the bundle is damaged: {0}; make it anew, or copy it again")]
    Damaged(String),
    /// The signature is none, or is of other octets.
    #[error("the signature is not one of this bundle: {0}; sign the bundle again with minisign")]
    Signature(String),
    /// Somebody else has signed it.
    #[error("the bundle is signed by a key that is not in fleet.trusted_keys")]
    Stranger,
    /// No key is trusted.
    #[error("fleet.trusted_keys has no key: nobody may sign bundles")]
    NoKeys,
    /// The bundle is older than the one in force, or as old.
    #[error(
        "the bundle has serial {serial}, and bundle {running} is in force: pack it again, or go back with fleet rollback"
    )]
    Old {
        /// Its number.
        serial: u64,
        /// The number of the bundle in force.
        running: u64,
    },
    /// A path that leads elsewhere, or cannot be a file's.
    #[error("{0:?} is no path of a file in a bundle: write names below the folder of geodns.toml")]
    Path(String),
    /// Something that is no regular file.
    #[error("{0} is no regular file: a bundle has no links, folders or devices")]
    Kind(String),
    /// Too much.
    #[error("{0}")]
    TooLarge(String),
    /// Another version of geodns has made it.
    #[error("the bundle is of version {0}, which this geodns does not know: upgrade it")]
    Version(u32),
}

/// A trusted key's word on a bundle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signed {
    /// The key, in base64.
    pub key: String,
    /// The comment that it has signed, safe to show.
    pub comment: String,
}

/// The name of a bundle: the first 16 digits of its SHA-256.
pub fn id(octets: &[u8]) -> String {
    short(octets)
}

/// Whether a text could be the name of a bundle.
pub fn is_id(text: &str) -> bool {
    text.len() == 16
        && text
            .bytes()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

impl Bundle {
    /// The list of what is in it.
    pub fn manifest(&self) -> Manifest {
        let files = self.files.iter();
        Manifest {
            version: VERSION,
            serial: self.serial,
            files: files
                .map(|(path, content)| (path.clone(), sha256(content)))
                .collect(),
            databases: self.databases.clone(),
        }
    }

    /// As a file. The same bundle gives the same octets.
    pub fn to_octets(&self) -> Result<Vec<u8>, Refused> {
        if self.files.len() > MOST_FILES {
            let count = self.files.len();
            let message = format!("the bundle has {count} files; {MOST_FILES} is the most");
            return Err(Refused::TooLarge(message));
        }
        if !self.files.contains_key(CONFIG) {
            return Err(Refused::Damaged(format!("it has no {CONFIG}")));
        }
        require_paths(self.files.keys())?;
        let damaged = |error: &dyn std::fmt::Display| Refused::Damaged(error.to_string());
        let manifest = self.manifest().to_octets()?;
        let mut archive = Builder::new(Vec::new());
        let files = self.files.iter();
        let files = files.map(|(path, content)| (path.as_str(), content.as_slice()));
        for (path, content) in [(Manifest::NAME, manifest.as_slice())]
            .into_iter()
            .chain(files)
        {
            let mut header = Header::new_gnu();
            header.set_size(content.len() as u64);
            header.set_mode(0o644);
            header.set_mtime(0);
            header.set_entry_type(EntryType::Regular);
            let appended = archive.append_data(&mut header, path, content);
            appended.map_err(|error| damaged(&error))?;
        }
        let octets = archive.into_inner().map_err(|error| damaged(&error))?;
        within(octets.len())?;
        Ok(octets)
    }

    /// From a file. Who has signed it is another question: see [`open`].
    pub fn parse(octets: &[u8]) -> Result<Self, Refused> {
        within(octets.len())?;
        let damaged =
            |error: &dyn std::fmt::Display| Refused::Damaged(line(&error.to_string()).into_owned());
        let mut files = BTreeMap::new();
        let mut manifest = None;
        let mut archive = Archive::new(octets);
        let entries = archive.entries().map_err(|error| damaged(&error))?;
        for entry in entries {
            let mut entry = entry.map_err(|error| damaged(&error))?;
            let path = entry.path_bytes().into_owned();
            let path = String::from_utf8(path).map_err(|error| damaged(&error))?;
            if entry.header().entry_type() != EntryType::Regular {
                return Err(Refused::Kind(line(&path).into_owned()));
            }
            if files.len() >= MOST_FILES {
                let message = format!("the bundle has more than {MOST_FILES} files");
                return Err(Refused::TooLarge(message));
            }
            // The archive is in memory: an entry cannot have more than is left of it.
            let mut content = Vec::new();
            let read = entry.read_to_end(&mut content);
            read.map_err(|error| damaged(&error))?;
            if manifest.is_none() {
                if path != Manifest::NAME {
                    return Err(Refused::Damaged(format!(
                        "it does not begin with {}",
                        Manifest::NAME
                    )));
                }
                manifest = Some(content);
            } else if files.insert(path.clone(), content).is_some() {
                let path = line(&path);
                return Err(Refused::Damaged(format!("{path} is in it twice")));
            }
        }
        let manifest = manifest.ok_or_else(|| Refused::Damaged("it is empty".to_owned()))?;
        let manifest = Manifest::parse(&manifest)?;
        require_paths(files.keys())?;
        let bundle = Self {
            serial: manifest.serial,
            files,
            databases: manifest.databases.clone(),
        };
        let found = bundle.manifest();
        if let Some(path) = first_difference(&found.files, &manifest.files) {
            let path = line(path);
            let message = format!("{path} is not as the manifest has it");
            return Err(Refused::Damaged(message));
        }
        if !bundle.files.contains_key(CONFIG) {
            return Err(Refused::Damaged(format!("it has no {CONFIG}")));
        }
        Ok(bundle)
    }

    /// Refuses a bundle that is not newer than the one in force.
    pub fn require_newer(&self, running: Option<u64>) -> Result<(), Refused> {
        match running {
            Some(running) if self.serial <= running => Err(Refused::Old {
                serial: self.serial,
                running,
            }),
            _ => Ok(()),
        }
    }
}

impl Manifest {
    /// The name of a manifest, in a bundle and where one is unpacked.
    pub const NAME: &str = "manifest.json";

    /// Reads a manifest.
    pub fn parse(content: &[u8]) -> Result<Self, Refused> {
        #[derive(Deserialize)]
        struct Version {
            version: u32,
        }
        let name = Self::NAME;
        let damaged = |error: serde_json::Error| Refused::Damaged(format!("{name}: {error}"));
        let Version { version } = serde_json::from_slice(content).map_err(damaged)?;
        if version != VERSION {
            return Err(Refused::Version(version));
        }
        serde_json::from_slice(content).map_err(damaged)
    }

    /// The manifest as a file.
    pub fn to_octets(&self) -> Result<Vec<u8>, Refused> {
        let octets = serde_json::to_vec_pretty(self);
        octets.map_err(|error| Refused::Damaged(error.to_string()))
    }

    /// Paths that differ in another bundle: `+` it has the file alone, `-` this one has, `~` it has another content.
    pub fn difference(&self, other: &Self) -> Vec<(char, String)> {
        let (here, there) = (&self.files, &other.files);
        let mut paths: Vec<&String> = here.keys().chain(there.keys()).collect();
        paths.sort_unstable();
        paths.dedup();
        let mark = |path: &String| match (here.get(path), there.get(path)) {
            (None, Some(_)) => Some('+'),
            (Some(_), None) => Some('-'),
            (one, two) => (one != two).then_some('~'),
        };
        let marked = paths.into_iter();
        marked
            .filter_map(|path| Some((mark(path)?, path.clone())))
            .collect()
    }
}

/// Reads a bundle that one of these keys has signed.
pub fn open(octets: &[u8], signature: &str, keys: &[String]) -> Result<(Bundle, Signed), Refused> {
    let signed = verify(octets, signature, keys)?;
    Ok((Bundle::parse(octets)?, signed))
}

/// Demands that one of these keys, in base64, has signed these octets.
pub fn verify(octets: &[u8], signature: &str, keys: &[String]) -> Result<Signed, Refused> {
    within(octets.len())?;
    if keys.is_empty() {
        return Err(Refused::NoKeys);
    }
    if signature.len() > MOST_SIGNATURE {
        return Err(Refused::Signature("it is too long".to_owned()));
    }
    let bad = |error: minisign_verify::Error| Refused::Signature(error.to_string());
    let signature = Signature::decode(signature).map_err(bad)?;
    for text in keys {
        let Ok(key) = PublicKey::from_base64(text) else {
            continue;
        };
        match key.verify(octets, &signature, true) {
            Ok(()) => {
                return Ok(Signed {
                    key: text.clone(),
                    comment: line(&signature.trusted_comment().replace('\t', " ")).into_owned(),
                });
            }
            Err(minisign_verify::Error::UnexpectedKeyId) => {}
            Err(error) => return Err(bad(error)),
        }
    }
    Err(Refused::Stranger)
}

/// Whether a text is a public key of minisign, in base64.
pub fn is_key(text: &str) -> bool {
    PublicKey::from_base64(text).is_ok()
}

/// Whether a path can be a file's in a bundle: names below the folder, none of them hidden.
pub fn is_path(path: &str) -> bool {
    let components = Path::new(path).components();
    let mut names = components.clone();
    !path.is_empty()
        && path.len() <= LONGEST_PATH
        && path != Manifest::NAME
        && !path.chars().any(char::is_control)
        && names.all(|name| {
            matches!(name, Component::Normal(name) if !name.as_encoded_bytes().starts_with(b"."))
        })
        && components.as_path() == Path::new(path)
        && components.count() == path.split('/').count()
}

/// Refuses paths that lead elsewhere, and a file that would be a folder, too.
fn require_paths<'a>(paths: impl Iterator<Item = &'a String> + Clone) -> Result<(), Refused> {
    let all: std::collections::BTreeSet<&str> = paths.clone().map(String::as_str).collect();
    for path in paths {
        let mut folders = path.match_indices('/').map(|(at, _)| &path[..at]);
        if !is_path(path) || folders.any(|folder| all.contains(folder)) {
            return Err(Refused::Path(path.clone()));
        }
    }
    Ok(())
}

fn first_difference<'a>(
    one: &'a BTreeMap<String, String>,
    two: &'a BTreeMap<String, String>,
) -> Option<&'a str> {
    let differs = |path: &&String| one.get(*path) != two.get(*path);
    one.keys()
        .chain(two.keys())
        .find(differs)
        .map(String::as_str)
}

/// Demands that a bundle has no more octets than it may have.
pub fn within(octets: usize) -> Result<(), Refused> {
    if octets > MOST_OCTETS {
        let message = format!(
            "the bundle has {octets} octets; {MOST_OCTETS} is the most: large zones come by transfers, see \
             docs/transfers.md"
        );
        return Err(Refused::TooLarge(message));
    }
    Ok(())
}

#[cfg(test)]
mod tests;

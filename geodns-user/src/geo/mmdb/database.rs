//! One database: its copy, checked, and what it says of an address.

use std::net::IpAddr;
use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use geodns_common::abi::Family;
use maxminddb::{MaxMindDbError, Reader};

use super::error;
use super::file::{Bytes, Fingerprint};
use super::record::{KEYS, Value};
use super::tree::{Shape, Tree};
use crate::base::complaint::Error;
use crate::base::sha256::sha256;
use crate::geo::{Place, Prefix, Wanted};

/// The marker that stands before the metadata, at the end of the file.
const MARKER: &[u8] = b"\xab\xcd\xefMaxMind.com";
/// The marker is no further from the end.
const MAX_METADATA: usize = 128 * 1024;
/// Bytes between tree and data.
const SEPARATOR: usize = 16;
/// Networks that must decode, and among which one must say something, for the file to be accepted.
const SAMPLE: usize = 10_000;

/// A GeoIP database that has been opened.
#[derive(Debug)]
pub struct Database {
    fingerprint: Fingerprint,
    bytes: Bytes,
    reader: Reader<Bytes>,
    shape: Shape,
    has: Wanted,
    damaged: AtomicU64,
    sha256: OnceLock<String>,
}

impl Database {
    /// Copies a file into a folder, and checks it.
    pub(super) fn open(path: &Path, folder: &Path) -> Result<Self, Error> {
        let database = Self::read(path, folder)?;
        database.check_sample()?;
        Ok(database)
    }

    /// Copies a file into a folder, and checks all but its records.
    pub(super) fn read(path: &Path, folder: &Path) -> Result<Self, Error> {
        let (bytes, fingerprint) = Bytes::copy(path, folder)?;
        let data_end = find_marker(path, bytes.as_ref())?;
        let reader = Reader::from_source(bytes.clone()).map_err(|problem| {
            let help = "get it again, or in format 2 of MaxMind DB";
            error(
                path,
                format!("cannot be used: {}; {help}", reason(&problem)),
            )
        })?;
        let metadata = reader.metadata();
        let record_bits = metadata.record_size;
        let (nodes, rest) = bytes.as_ref()[..data_end].split_at(tree_bytes(&reader));
        let data = &rest[SEPARATOR..];
        let is_v6 = metadata.ip_version == 6;
        let shape = Shape::new(nodes, metadata.node_count, record_bits, is_v6);
        Tree::new(nodes, shape)
            .check(data.len())
            .map_err(|problem| {
                error(
                    path,
                    format!("its search tree is damaged: {problem}; get the file again"),
                )
            })?;
        Ok(Self {
            has: attributes(data),
            fingerprint,
            shape,
            damaged: AtomicU64::new(0),
            sha256: OnceLock::new(),
            reader,
            bytes,
        })
    }

    /// Its file.
    pub fn path(&self) -> &Path {
        &self.fingerprint.path
    }

    /// Which version of the file was read.
    pub fn fingerprint(&self) -> &Fingerprint {
        &self.fingerprint
    }

    /// SHA-256 of its content, in hexadecimal digits. The first call reads all of it.
    pub fn sha256(&self) -> &str {
        self.sha256.get_or_init(|| {
            let digits = sha256(self.bytes.as_ref());
            self.relax();
            digits
        })
    }

    /// The database's name of its kind, such as `GeoLite2-City`.
    pub fn kind(&self) -> &str {
        &self.reader.metadata().database_type
    }

    /// When it was built.
    pub fn built(&self) -> Option<SystemTime> {
        self.reader.metadata().build_time().ok()
    }

    /// Nodes of its search tree: about as many as it has networks.
    pub fn nodes(&self) -> u32 {
        self.reader.metadata().node_count
    }

    /// The attributes that it may have.
    pub fn has(&self) -> Wanted {
        self.has
    }

    /// How often a record was met that does not decode. Such a record says nothing.
    pub fn damaged(&self) -> u64 {
        self.damaged.load(Ordering::Relaxed)
    }

    pub(super) fn relax(&self) {
        self.bytes.relax();
    }

    pub(super) fn tree(&self) -> Tree<'_> {
        Tree::new(&self.bytes.as_ref()[..tree_bytes(&self.reader)], self.shape)
    }

    /// The network that an address is in, and its place; `None` if the database is of the other family.
    pub(super) fn find(&self, address: IpAddr) -> Option<(Prefix, Place)> {
        let host = Prefix::host(address);
        let tree = self.tree();
        let (record, len) = tree.steps(host.family)?.seek(host.first);
        let place = match tree.offset(record) {
            Some(_) => self.place(address, Wanted::EVERYTHING),
            None => Place::default(),
        };
        Some((host.around(len), place))
    }

    /// The place that the record of an address gives.
    pub(super) fn place(&self, address: IpAddr, wanted: Wanted) -> Place {
        match self.decode(address) {
            Ok(value) => value.place(wanted),
            Err(problem) => {
                if self.damaged.fetch_add(1, Ordering::Relaxed) == 0 {
                    let file = self.path().display();
                    tracing::warn!(
                        %file,
                        %address,
                        cause = %problem,
                        "{file}: the record of {address} does not decode: {problem}; it says nothing, nor does \
                         any like it; get the file again",
                    );
                }
                Place::default()
            }
        }
    }

    fn decode(&self, address: IpAddr) -> Result<Value<'_>, MaxMindDbError> {
        let found = self.reader.lookup(address)?;
        Ok(found.decode()?.unwrap_or_default())
    }

    /// Whether the first records decode, and one says something.
    fn check_sample(&self) -> Result<(), Error> {
        let mut known = Wanted::NOTHING;
        let mut left = SAMPLE;
        for family in [Family::V4, Family::V6] {
            let Some(mut steps) = self.tree().steps(family) else {
                continue;
            };
            let mut decoded = None;
            let mut next = Some(0);
            while let Some(first) = next
                && left > 0
            {
                left -= 1;
                let (record, len) = steps.seek(first);
                let network = Prefix { family, first, len };
                if self.tree().offset(record).is_some() && decoded != Some(record) {
                    decoded = Some(record);
                    known |= self.check_record(network.net().addr())?;
                }
                next = network.last().checked_add(1);
            }
        }
        if known.is_empty() {
            let message = format!(
                "a database of type \"{}\" does not say where an address is; use one of cities, \
                 countries or autonomous systems",
                self.kind().escape_debug()
            );
            return Err(error(self.path(), message));
        }
        Ok(())
    }

    /// The place of an address, whose record must decode.
    fn check_record(&self, address: IpAddr) -> Result<Wanted, Error> {
        let value = self.decode(address).map_err(|problem| {
            let message = format!(
                "the record of {address} does not decode: {}; get the file again",
                reason(&problem)
            );
            error(self.path(), message)
        })?;
        Ok(value.place(Wanted::EVERYTHING).known())
    }
}

/// Where the marker of the metadata stands, which is the end of the data.
fn find_marker(path: &Path, bytes: &[u8]) -> Result<usize, Error> {
    let tail = bytes.len().saturating_sub(MAX_METADATA);
    if let Some(at) = memchr::memmem::rfind(&bytes[tail..], MARKER) {
        return Ok(tail + at);
    }
    let message = match bytes {
        [] => "is empty; get the file again",
        [0x1f, 0x8b, ..] => "is compressed; unpack it",
        [b'P', b'K', ..] => "is an archive; unpack it",
        _ => "is no MMDB file, or is cut short: it does not end in metadata; get the file again",
    };
    Err(error(path, message))
}

fn tree_bytes(reader: &Reader<Bytes>) -> usize {
    let metadata = reader.metadata();
    metadata.node_count as usize * usize::from(metadata.record_size) / 4
}

/// The attributes whose keys are in the data. Every key is there in full once at least.
fn attributes(data: &[u8]) -> Wanted {
    let mut has = Wanted::NOTHING;
    for (attribute, keys) in KEYS {
        if keys.iter().any(|key| has_key(data, key)) {
            has |= attribute;
        }
    }
    has
}

/// Whether a key is in the data, with a value. What only looks like it, as in the middle of a name, is
/// mostly followed by a small letter or more of one: 0x68 alone begins a value (a double) among those.
fn has_key(data: &[u8], key: &str) -> bool {
    let key = encoded(key);
    memchr::memmem::find_iter(data, &key).any(|at| {
        let value = data.get(at + key.len());
        value.is_some_and(|byte| !matches!(byte, 0x60..=0x67 | 0x69..=0x9f))
    })
}

/// A string of less than 285 octets as it stands in a database.
fn encoded(text: &str) -> Vec<u8> {
    let mut bytes = match text.len() {
        len @ ..29 => vec![0x40 | len as u8],
        len => vec![0x40 | 29, (len - 29) as u8],
    };
    bytes.extend_from_slice(text.as_bytes());
    bytes
}

/// The library's message without what the line says already.
fn reason(problem: &MaxMindDbError) -> String {
    let text = problem.to_string();
    let text = text.strip_prefix("invalid database: ").unwrap_or(&text);
    text.replace(['\n', '\r'], " ")
}

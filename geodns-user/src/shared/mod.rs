//! The state that the nodes of a fleet share: keys and values in one store, which counts its commits.
//!
//! - [`watch`]: the commits of a store, one by one
//! - [`etcd`]: the store that is etcd
//! - [`twin`]: the store in memory, with faults that a test orders
//!
//! A node reads a [`Snapshot`], then follows the store from there by a [`Watch`]. It commits a [`Write`], whose guards
//! name the revisions that the write was prepared upon, and learns of its own commit by the watch as all others do. So
//! every node sees the same commits in the same order.

pub mod etcd;
pub mod twin;
pub mod watch;

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

pub use watch::Watch;

/// Keys that one write puts and deletes, at the most: etcd has 128 operations in a transaction by default.
pub const MOST_KEYS: usize = 100;
/// Octets of one write's values, at the most.
pub const MOST_OCTETS: usize = 64 << 20;
/// Octets of a key, at the most.
pub const LONGEST_KEY: usize = 1024;
/// A write may be repeated for so long: afterwards the store may have forgotten that it was done.
pub const REPEATABLE: Duration = Duration::from_secs(600);

/// The number of a commit: each commit has a greater one than those before it. 0 stands before the first.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Revision(pub u64);

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A place in the history of one store. Two stores, or a store and its restored backup, differ in [`Position::store`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Position {
    /// The store: etcd's cluster id.
    pub store: u64,
    /// The last commit that is known.
    pub revision: Revision,
}

/// The name of a write. Repeating the write under the same name does it once.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct RequestId([u8; 16]);

impl RequestId {
    /// A new name.
    pub fn random() -> Self {
        Self(rand::random())
    }
}

impl From<[u8; 16]> for RequestId {
    fn from(octets: [u8; 16]) -> Self {
        Self(octets)
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|octet| write!(f, "{octet:02x}"))
    }
}

impl fmt::Debug for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A key, its value, and the commit that put it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Key.
    pub key: String,
    /// Value.
    pub value: Vec<u8>,
    /// The last commit that put it.
    pub changed: Revision,
}

/// Everything in the store at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// The moment. A watch goes on from here.
    pub position: Position,
    /// All entries, by key.
    pub entries: Vec<Entry>,
}

/// A condition of a write: the key is as the writer knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Guard {
    /// Key.
    pub key: String,
    /// The last commit that put it. `None`: the key is not there.
    pub changed: Option<Revision>,
}

/// Time that an entry stays without being put again. An entry without a lease stays until it is deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lease {
    /// This long; whole seconds, two at the least.
    For(Duration),
    /// As long as the client that put it lives and reaches the store, and this long afterwards. The store may forget
    /// it during a partition: the client sees the deletion in its watch, and puts it again.
    WhileAlive(Duration),
}

/// An entry that a write puts, in the place of the one that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Put {
    /// Key.
    pub key: String,
    /// Value.
    pub value: Vec<u8>,
    /// Time that it stays; `None`: for ever.
    pub lease: Option<Lease>,
}

impl Put {
    /// Puts an entry that stays.
    pub fn new(key: impl Into<String>, value: impl Into<Vec<u8>>) -> Self {
        Self {
            key: key.into(),
            value: value.into(),
            lease: None,
        }
    }

    /// The same with a lease.
    pub fn leased(self, lease: Lease) -> Self {
        Self {
            lease: Some(lease),
            ..self
        }
    }
}

/// A change of several keys, done whole or not at all, and only if all guards hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    /// Its name.
    pub id: RequestId,
    /// Conditions.
    pub guards: Vec<Guard>,
    /// Entries that it puts.
    pub puts: Vec<Put>,
    /// Keys that it deletes. A key that is not there is no fault.
    pub deletes: Vec<String>,
}

impl Write {
    /// A write that changes nothing, under a new name.
    pub fn new() -> Self {
        Self {
            id: RequestId::random(),
            guards: Vec::new(),
            puts: Vec::new(),
            deletes: Vec::new(),
        }
    }

    /// Demands that a key is as the writer knows it.
    pub fn guard(mut self, key: impl Into<String>, changed: Option<Revision>) -> Self {
        let key = key.into();
        self.guards.push(Guard { key, changed });
        self
    }

    /// Puts an entry that stays.
    pub fn put(self, key: impl Into<String>, value: impl Into<Vec<u8>>) -> Self {
        self.with(Put::new(key, value))
    }

    /// Puts an entry.
    pub fn with(mut self, put: Put) -> Self {
        self.puts.push(put);
        self
    }

    /// Deletes a key.
    pub fn delete(mut self, key: impl Into<String>) -> Self {
        self.deletes.push(key.into());
        self
    }

    /// Checks that any store would take it: good keys, each changed once, and not too much.
    pub fn check(&self) -> Result<(), Refused> {
        let too_large = |problem: String| Err(Refused::TooLarge(problem));
        let count = self.puts.len() + self.deletes.len();
        if count > MOST_KEYS || self.guards.len() > MOST_KEYS {
            return too_large(format!(
                "the write changes {count} keys and has {} guards; {MOST_KEYS} of each is the most",
                self.guards.len()
            ));
        }
        // A large value takes more of a transaction, which has room for 128 changes.
        let octets: usize = self.puts.iter().map(|put| put.value.len()).sum();
        let mib = octets >> 20;
        if mib > 0 && count + mib > MOST_KEYS {
            return too_large(format!(
                "the write changes {count} keys with {mib} MiB; {MOST_KEYS} of both together is the most"
            ));
        }
        if octets > MOST_OCTETS {
            return too_large(format!(
                "the write has {octets} octets; {MOST_OCTETS} is the most"
            ));
        }
        let mut keys: Vec<&str> = self.puts.iter().map(|put| put.key.as_str()).collect();
        keys.extend(self.deletes.iter().map(String::as_str));
        keys.sort_unstable();
        if let Some(twice) = keys.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(Refused::Invalid(format!(
                "the write changes {} twice",
                twice[0]
            )));
        }
        let guarded = self.guards.iter().map(|guard| guard.key.as_str());
        match keys.into_iter().chain(guarded).find(|key| !is_key(key)) {
            Some(key) => Err(Refused::Invalid(format!("{key:?} cannot be a key"))),
            None => Ok(()),
        }
    }
}

impl Default for Write {
    fn default() -> Self {
        Self::new()
    }
}

/// Whether a text can be a key. Keys that begin with a tilde are the store's own.
pub fn is_key(text: &str) -> bool {
    (1..=LONGEST_KEY).contains(&text.len()) && text.as_bytes()[0] < b'~'
}

/// A key that a commit put or deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Key.
    pub key: String,
    /// Its new value. `None`: it was deleted.
    pub value: Option<Vec<u8>>,
}

/// Everything that one commit changed: perhaps nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// The commit.
    pub revision: Revision,
    /// Changes, each of another key.
    pub changes: Vec<Change>,
}

/// Kinds of [`Trouble`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// No endpoint can be reached.
    Unreachable,
    /// An endpoint can be reached, and has no majority of its cluster.
    NoQuorum,
    /// An endpoint has not answered in time.
    Slow,
    /// The store does not take our certificate, or we do not take its own.
    Certificate,
    /// The store's user that we are may not do this.
    Forbidden,
    /// The store is too old.
    Version,
    /// The store has no room.
    Full,
    /// Something else.
    Other,
}

impl Kind {
    /// Its name, as status and metrics have it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unreachable => "unreachable",
            Self::NoQuorum => "no-quorum",
            Self::Slow => "slow",
            Self::Certificate => "certificate",
            Self::Forbidden => "forbidden",
            Self::Version => "version",
            Self::Full => "full",
            Self::Other => "other",
        }
    }
}

/// A reason why the store is of no use now. Displays as one line that says what is wrong, where, and the remedy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{line}")]
pub struct Trouble {
    /// Kind.
    pub kind: Kind,
    /// The line.
    pub line: String,
}

impl Trouble {
    /// Trouble of a kind.
    pub fn new(kind: Kind, line: impl Into<String>) -> Self {
        let line = line.into();
        Self { kind, line }
    }
}

/// A reason why a write was not acknowledged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// A guard does not hold: somebody else was faster. The watch gives all that led to it once it has given this
    /// revision, or a later one.
    #[error("another change came first, with revision {0}")]
    Conflict(Revision),
    /// The write has not been done by this commit. If an earlier one of the same write was [`Refused::Unknown`], that
    /// is as open as before.
    #[error("{0}")]
    Unavailable(Trouble),
    /// The write may have been done, or may yet be. Committing it again, within [`REPEATABLE`], finds out.
    #[error("the change may have been made, or not: {0}")]
    Unknown(Trouble),
    /// The write has too many keys, or too many octets.
    #[error("{0}")]
    TooLarge(String),
    /// The write makes no sense.
    #[error("{0}")]
    Invalid(String),
}

/// A reason why a store cannot be read or followed any more.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Lost {
    /// The store has forgotten commits that the reader does not know yet: take a snapshot.
    #[error("the store has compacted revisions that this node does not have yet")]
    Compacted,
    /// The store is another one, or does not know of commits that the reader has: it was restored from a backup.
    #[error(
        "the store is at revision {} of {:016x}, and this node knows revision {} of {:016x}: \
         it was restored from a backup, or is another one",
        found.revision, found.store, known.revision, known.store
    )]
    WentBack {
        /// Where the reader is.
        known: Position,
        /// Where the store is.
        found: Position,
    },
    /// The store cannot be reached or used now.
    #[error("{0}")]
    Disconnected(Trouble),
}

/// A store, as one node sees it. The store has one value for each key, and makes one commit after the other.
///
/// Each call ends within a few seconds, whatever the store does. A snapshot contains each commit that was acknowledged
/// before the call.
#[async_trait]
pub trait Shared: Send + Sync {
    /// Everything that is in the store now.
    async fn snapshot(&self) -> Result<Snapshot, Lost>;

    /// Everything that is in the store now, of keys that begin with a prefix.
    async fn below(&self, prefix: &str) -> Result<Snapshot, Lost> {
        let mut snapshot = self.snapshot().await?;
        snapshot
            .entries
            .retain(|entry| entry.key.starts_with(prefix));
        Ok(snapshot)
    }

    /// Does a write, and gives the number of its commit. A watch gives a batch of that number, even if the write
    /// changed nothing. The same write may be committed again until [`REPEATABLE`] has passed: it is done once, and
    /// its commit keeps its number.
    async fn commit(&self, write: &Write) -> Result<Revision, Refused>;

    /// Follows the store: every commit after a position, in order, each whole.
    async fn watch(&self, after: Position) -> Result<Watch, Lost>;
}

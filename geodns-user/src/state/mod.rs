//! Everything that survives a restart, in one redb file: overrides, imported lists, words on mirrors, last results of
//! checks, tokens of ACME challenges, block rules, members of catalogs, and the history of events.
//!
//! The file knows pools and mirrors by their ids, never by number, so an edit of the configuration that moves or
//! renames one does not make an entry mean another. An entry for a pool or a mirror that the configuration lacks stays
//! in the file until it is deleted: the daemon warns of it, and it is in force again when the pool or the mirror is.
//!
//! Every write is on disk when the call returns, whole or not at all. All calls block on the disk:
//! call them from `spawn_blocking`.
//!
//! - `kinds`: things that it keeps
//! - `change`: a change of things that the nodes of a fleet share, with keys and values in text
//! - `keep`: such a change is written
//! - `alone`: the state as a store of its own, which a node alone has
//! - `fleet`: how far this node has followed the store of its fleet, and edits of this node alone
//! - `own`: values of this node that no other one of a fleet has
//! - `events`: the history of events

mod alone;
mod change;
mod events;
mod fleet;
mod keep;
mod kinds;
mod own;

pub use change::{Change, Item};
pub use events::{Kept, Out};
pub use fleet::{Local, Membership};
pub use kinds::{CookieSecrets, Import, KeptBlock, Override, Serials, Token};

use std::collections::{HashMap, HashSet};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use ipnet::IpNet;
use redb::backends::FileBackend;
use redb::{
    Builder, Database, DatabaseError, ReadableDatabase, ReadableTable, StorageError,
    TableDefinition, TableError, WriteTransaction,
};

use crate::base::lock::lock;
use crate::base::name::parse_name;
use crate::config::Member;
use crate::fault;
use crate::files;
use crate::health::Saved;
use crate::steering::standing::Standing;
use crate::zone::catalog::Ledger;

/// Version of the tables below, under `layout` in [`META`]. A table more is no other layout: it is made
/// in a file that lacks it, and a version that does not know it leaves it alone.
const LAYOUT: u64 = 1;

const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");

/// Pool, 4 or 6, address, prefix length -> mirror.
type PrefixKey<'a> = (&'a str, u8, u128, u8);
const OVERRIDES: TableDefinition<'_, PrefixKey<'_>, &str> = TableDefinition::new("overrides");

/// Pool -> ids of the mirrors by their number in the list, and the list, packed.
const IMPORTS: TableDefinition<'_, &str, (Vec<&str>, &[u8])> = TableDefinition::new("imports");

/// Mirror -> the words on it: a [`Standing`] in JSON.
const STANDINGS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("standings");

/// Target of a check -> whether it was up, and since when.
const HEALTH: TableDefinition<'_, &str, (bool, u64)> = TableDefinition::new("health");

/// Owner and token of an ACME challenge -> TTL in seconds, and until when, in milliseconds since 1970.
const ACME: TableDefinition<'_, (&str, &str), (u32, u64)> = TableDefinition::new("acme");

/// Apex of a zone that tokens are or were put over -> serial of its file, and the one served.
const SERIALS: TableDefinition<'_, &str, (Option<u32>, u32)> = TableDefinition::new("serials");

/// Catalog, label there, groups.
type MemberRow<'a> = (&'a str, &'a [u8], Vec<&'a [u8]>);
/// Name of a member of a catalog -> the catalog, the label that it stands at, and its groups.
const MEMBERS: TableDefinition<'_, &str, MemberRow<'_>> = TableDefinition::new("members");

/// Name of a catalog of ours -> what it has listed: a [`Ledger`] in JSON.
const LEDGERS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("ledgers");

/// 0 -> the secret that cookies are made with, and since when, in milliseconds since 1970; 1 -> the one before; 2 -> the
/// one after.
const COOKIES: TableDefinition<'_, u8, ([u8; 16], u64)> = TableDefinition::new("cookies");

/// Number of a block rule -> the queries that it drops, and why: a [`Blocked`] in JSON.
const BLOCKS: TableDefinition<'_, u32, &[u8]> = TableDefinition::new("blocks");

/// Key of a thing -> the revision of the fleet's store that it was last changed with.
const REVISIONS: TableDefinition<'_, &str, u64> = TableDefinition::new("revisions");

/// Key of a thing that this node alone has changed -> its value in the fleet's store.
const BENEATH: TableDefinition<'_, &str, Option<&[u8]>> = TableDefinition::new("beneath");

/// Key of an entry that is no thing of the state -> its value, in a store of a node alone.
const OTHERS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("others");

/// 0 -> the fleet that this node is in: a [`Membership`] in JSON.
const FLEET: TableDefinition<'_, u8, &[u8]> = TableDefinition::new("fleet");

/// redb's own default is 1 GiB. Everything here is read once, at the start.
const CACHE_BYTES: usize = 8 << 20;

/// The state file, open. No other process can open it at the same time.
#[derive(Debug)]
pub struct State {
    path: PathBuf,
    /// `None` after a write that failed, until the next use opens it again.
    database: Mutex<Option<Database>>,
    /// Since when somebody uses it.
    used: Mutex<Option<Instant>>,
    /// Commits, for watches.
    history: alone::History,
}

/// A use of the file, until it is dropped.
struct Use<'a>(&'a State);

impl<'a> Use<'a> {
    fn of(state: &'a State) -> Self {
        *state.used() = Some(Instant::now());
        Self(state)
    }
}

impl Drop for Use<'_> {
    fn drop(&mut self) {
        *self.0.used() = None;
    }
}

/// A reason why the state cannot be read or kept. Displays as one line that names the file.
#[derive(Debug, thiserror::Error)]
#[error("state {}: {problem}", path.display())]
pub struct Error {
    path: PathBuf,
    problem: Problem,
}

#[derive(Debug, thiserror::Error)]
enum Problem {
    #[error("in use by another geodns: stop that one first, or set state.path")]
    InUse,
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("damaged ({0}): restore it from a backup, or move it away to start without overrides")]
    Damaged(String),
    #[error("it is {0}, and must be a regular file: move it away, or set state.path")]
    NotAFile(&'static str),
    #[error(
        "written by another version of geodns (layout {found}, this one reads {LAYOUT}): use that version, or move the file away"
    )]
    Layout { found: u64 },
}

impl State {
    /// Opens the file; makes it, and its folder, if there is none (owner-only). Checks the whole
    /// file, so that damage is found here and not at an unlucky moment later.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let state = Self {
            path: path.to_owned(),
            database: Mutex::new(None),
            used: Mutex::new(None),
            history: alone::History::default(),
        };
        state.with(|_| Ok(()))?;
        Ok(state)
    }

    /// The path of the file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// How long the use of the file has taken that is under way: a disk that does not answer holds it up. `None`:
    /// nobody uses it.
    pub fn silent_for(&self) -> Option<Duration> {
        self.used().map(|since| since.elapsed())
    }

    fn used(&self) -> MutexGuard<'_, Option<Instant>> {
        lock(&self.used)
    }

    /// Uses the database. One that a write has failed in (the disk was full) refuses everything from
    /// then on, and is as it was before that write once it is opened again.
    fn with<T>(&self, work: impl Fn(&Database) -> Result<T, Problem>) -> Result<T, Error> {
        self.using(|| fault::point("state"), work)
    }

    /// Uses the database as [`State::with`] does, if `first` succeeds.
    fn using<T>(
        &self,
        first: impl Fn() -> io::Result<()>,
        work: impl Fn(&Database) -> Result<T, Problem>,
    ) -> Result<T, Error> {
        let mut open = lock(&self.database);
        let _use = Use::of(self);
        let mut attempt = || -> Result<T, Problem> {
            first()?;
            let database = match open.take() {
                Some(database) => database,
                None => open_or_make(&self.path)?,
            };
            let done = work(&database);
            if !matches!(done, Err(Problem::Io(_))) {
                *open = Some(database);
            }
            done
        };
        attempt().map_err(|problem| Error {
            path: self.path.clone(),
            problem,
        })
    }

    /// Every override, by pool, then prefix.
    pub fn overrides(&self) -> Result<Vec<Override>, Error> {
        self.with(|database| {
            let read = database.begin_read()?;
            let table = read.open_table(OVERRIDES)?;
            table
                .iter()?
                .map(|row| {
                    let (key, mirror) = row?;
                    let (pool, family, address, length) = key.value();
                    Ok(Override {
                        pool: pool.to_owned(),
                        prefix: unpack(family, address, length).ok_or_else(|| {
                            Problem::Damaged(format!("an override of pool {pool} has no prefix"))
                        })?,
                        mirror: mirror.value().to_owned(),
                    })
                })
                .collect()
        })
    }

    /// The last import of each pool that has one.
    pub fn imports(&self) -> Result<Vec<Import>, Error> {
        self.with(|database| {
            let read = database.begin_read()?;
            let table = read.open_table(IMPORTS)?;
            table
                .iter()?
                .map(|row| {
                    let (pool, import) = row?;
                    Ok(keep::import_of(pool.value(), import.value()))
                })
                .collect()
        })
    }

    /// Standing of each mirror that has one.
    pub fn standings(&self) -> Result<HashMap<String, Standing>, Error> {
        self.with(|database| {
            let read = database.begin_read()?;
            let table = read.open_table(STANDINGS)?;
            table
                .iter()?
                .map(|row| {
                    let (mirror, standing) = row?;
                    let mirror = mirror.value().to_owned();
                    let standing = keep::standing(&mirror, standing.value())?;
                    Ok((mirror, standing))
                })
                .collect()
        })
    }

    /// Last results of checks, by target.
    pub fn health(&self) -> Result<HashMap<String, Saved>, Error> {
        self.with(|database| {
            let read = database.begin_read()?;
            let table = read.open_table(HEALTH)?;
            table
                .iter()?
                .map(|row| {
                    let (target, saved) = row?;
                    let (up, since_unix_ms) = saved.value();
                    Ok((target.value().to_owned(), Saved { up, since_unix_ms }))
                })
                .collect()
        })
    }

    /// Keeps the last results of these targets: all of them or none.
    pub fn save_health(&self, found: &[(String, Saved)]) -> Result<(), Error> {
        self.write(|transaction| {
            let mut table = transaction.open_table(HEALTH)?;
            for (target, saved) in found {
                table.insert(target.as_str(), (saved.up, saved.since_unix_ms))?;
            }
            Ok(())
        })
    }

    /// Forgets the last results of all targets but these.
    pub fn retain_health(&self, targets: &HashSet<String>) -> Result<(), Error> {
        let known = self.health()?;
        if known.keys().all(|target| targets.contains(target)) {
            return Ok(());
        }
        self.write(|transaction| {
            let mut table = transaction.open_table(HEALTH)?;
            table.retain(|target, _| targets.contains(target))?;
            Ok(())
        })
    }

    /// Every token of an ACME challenge, by owner.
    pub fn tokens(&self) -> Result<Vec<Token>, Error> {
        self.with(|database| {
            let read = database.begin_read()?;
            let table = read.open_table(ACME)?;
            table
                .iter()?
                .map(|row| {
                    let (key, value) = row?;
                    let (owner, text) = key.value();
                    let (ttl, until_unix_ms) = value.value();
                    Ok(Token {
                        owner: owner.to_owned(),
                        text: text.to_owned(),
                        ttl,
                        until_unix_ms,
                    })
                })
                .collect()
        })
    }

    /// Serials of a zone.
    pub fn serials(&self, apex: &str) -> Result<Option<Serials>, Error> {
        self.with(|database| {
            let read = database.begin_read()?;
            let table = read.open_table(SERIALS)?;
            let found = table.get(apex)?.map(|found| found.value());
            Ok(found.map(|(file, served)| Serials { file, served }))
        })
    }

    /// Rules of `geodns block`, by number.
    pub fn blocks(&self) -> Result<Vec<KeptBlock>, Error> {
        self.with(|database| {
            let read = database.begin_read()?;
            let table = read.open_table(BLOCKS)?;
            table
                .iter()?
                .map(|row| {
                    let (number, blocked) = row?;
                    let number = number.value();
                    keep::block(number, blocked.value())
                })
                .collect()
        })
    }

    /// The secrets that cookies are made with, if there were any.
    pub fn cookie_secrets(&self) -> Result<Option<CookieSecrets>, Error> {
        self.with(|database| {
            let read = database.begin_read()?;
            let table = read.open_table(COOKIES)?;
            keep::cookies(&table)
        })
    }

    /// The zones that are here because a catalog lists them, by name.
    pub fn members(&self) -> Result<Vec<Member>, Error> {
        let name = |text: &str| {
            parse_name(text)
                .map_err(|message| Problem::Damaged(format!("member of a catalog: {message}")))
        };
        self.with(|database| {
            let read = database.begin_read()?;
            let table = read.open_table(MEMBERS)?;
            let members = table.iter()?.map(|row| {
                let (key, value) = row?;
                let (catalog, id, groups) = value.value();
                Ok(Member {
                    name: name(key.value())?,
                    catalog: name(catalog)?,
                    id: id.to_vec(),
                    groups: groups.into_iter().map(<[u8]>::to_vec).collect(),
                })
            });
            let mut members = members.collect::<Result<Vec<_>, Problem>>()?;
            members.sort_unstable_by(|one, other| one.name.cmp(&other.name));
            Ok(members)
        })
    }

    /// Keeps these members of catalogs, and no others.
    pub fn save_members(&self, members: &[Member]) -> Result<(), Error> {
        let members: HashMap<String, &Member> = members
            .iter()
            .map(|member| (member.name.to_string(), member))
            .collect();
        self.write(|transaction| {
            let mut table = transaction.open_table(MEMBERS)?;
            table.retain(|name, _| members.contains_key(name))?;
            for (name, member) in &members {
                let catalog = member.catalog.to_string();
                let groups: Vec<&[u8]> = member.groups.iter().map(Vec::as_slice).collect();
                table.insert(name.as_str(), (catalog.as_str(), &*member.id, groups))?;
            }
            Ok(())
        })
    }

    /// Zones that a catalog of ours has listed so far.
    pub fn ledger(&self, catalog: &str) -> Result<Option<Ledger>, Error> {
        self.with(|database| {
            let read = database.begin_read()?;
            let table = read.open_table(LEDGERS)?;
            let Some(found) = table.get(catalog)? else {
                return Ok(None);
            };
            Ok(Some(keep::ledger(catalog, found.value())?))
        })
    }

    fn write<T>(
        &self,
        change: impl Fn(&WriteTransaction) -> Result<T, Problem>,
    ) -> Result<T, Error> {
        self.with(|database| {
            // redb's default durability is `Immediate`: on disk when `commit` returns.
            let transaction = database.begin_write()?;
            let done = change(&transaction)?;
            transaction.commit()?;
            Ok(done)
        })
    }
}

/// Opens the file, or makes it, and its folder, if there is none: whole or not at all.
fn open_or_make(path: &Path) -> Result<Database, Problem> {
    let there = match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            make(path)?;
            fs::metadata(path)?
        }
        there => there?,
    };
    if let Some(kind) = files::kind(&there) {
        return Err(Problem::NotAFile(kind));
    }
    // redb takes an empty file for a new one. We never leave one: it has lost what was in it.
    if there.len() == 0 {
        return Err(Problem::Damaged("it is empty".to_owned()));
    }
    let file = OpenOptions::new().read(true).write(true).open(path)?;
    let database = database(file)?;
    is_ours(&database)?;
    make_tables(&database)?;
    Ok(database)
}

/// The folder of a state file, made where it is missing.
pub fn folder(path: &Path) -> io::Result<PathBuf> {
    let Some(folder) = path.parent().filter(|p| !p.as_os_str().is_empty()) else {
        return Ok(PathBuf::from("."));
    };
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)?;
    Ok(folder.to_owned())
}

/// Makes a file with empty tables, under another name first: a file that is cut short in the making would be taken for
/// a damaged one.
fn make(path: &Path) -> Result<(), Problem> {
    folder(path)?;
    let mut half = path.as_os_str().to_owned();
    half.push(format!(".{}", std::process::id()));
    let half = PathBuf::from(half);
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&half)?;
    let made = database(file).and_then(|database| make_tables(&database));
    let linked = made.and_then(|()| match fs::hard_link(&half, path) {
        // Another daemon was faster: the one of us that opens it first has it.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        linked => Ok(linked?),
    });
    fs::remove_file(&half)?;
    linked
}

fn database(file: File) -> Result<Database, Problem> {
    let database = Builder::new()
        .set_cache_size(CACHE_BYTES)
        .set_check_integrity_on_open(true)
        .create_with_backend(FileBackend::new(file)?)?;
    Ok(database)
}

/// Whether a file is of our layout: looked at before anything is written to it.
fn is_ours(database: &Database) -> Result<(), Problem> {
    let others = || Problem::Damaged("the redb file of another program".to_owned());
    let read = database.begin_read()?;
    let meta = match read.open_table(META) {
        Err(TableError::TableDoesNotExist(_) | TableError::TableTypeMismatch { .. }) => {
            return Err(others());
        }
        meta => meta?,
    };
    match meta.get("layout")?.map(|value| value.value()) {
        Some(LAYOUT) => Ok(()),
        Some(found) => Err(Problem::Layout { found }),
        None => Err(others()),
    }
}

/// Makes the tables that the file lacks.
fn make_tables(database: &Database) -> Result<(), Problem> {
    let transaction = database.begin_write()?;
    {
        let mut meta = transaction.open_table(META)?;
        meta.insert("layout", LAYOUT)?;
        transaction.open_table(OVERRIDES)?;
        transaction.open_table(IMPORTS)?;
        transaction.open_table(STANDINGS)?;
        transaction.open_table(HEALTH)?;
        transaction.open_table(ACME)?;
        transaction.open_table(SERIALS)?;
        transaction.open_table(MEMBERS)?;
        transaction.open_table(LEDGERS)?;
        transaction.open_table(COOKIES)?;
        transaction.open_table(BLOCKS)?;
        transaction.open_table(REVISIONS)?;
        transaction.open_table(BENEATH)?;
        transaction.open_table(FLEET)?;
        transaction.open_table(OTHERS)?;
        transaction.open_table(own::OWN)?;
        transaction.open_table(events::EVENTS)?;
        transaction.open_table(events::OUT)?;
    }
    transaction.commit()?;
    Ok(())
}

fn pack(pool: &str, prefix: IpNet) -> PrefixKey<'_> {
    let (family, address) = match prefix.addr() {
        IpAddr::V4(address) => (4, u128::from(address.to_bits())),
        IpAddr::V6(address) => (6, address.to_bits()),
    };
    (pool, family, address, prefix.prefix_len())
}

fn unpack(family: u8, address: u128, length: u8) -> Option<IpNet> {
    let address = match family {
        4 => IpAddr::V4(Ipv4Addr::from_bits(u32::try_from(address).ok()?)),
        6 => IpAddr::V6(Ipv6Addr::from_bits(address)),
        _ => return None,
    };
    let prefix = IpNet::new(address, length).ok()?;
    (prefix.trunc() == prefix).then_some(prefix)
}

impl From<DatabaseError> for Problem {
    fn from(error: DatabaseError) -> Self {
        match error {
            DatabaseError::DatabaseAlreadyOpen | DatabaseError::LockProtocolMismatch => Self::InUse,
            DatabaseError::Storage(error) => error.into(),
            other => Self::Damaged(other.to_string()),
        }
    }
}

impl From<StorageError> for Problem {
    fn from(error: StorageError) -> Self {
        match error {
            // redb says so of a file that is not one of its own.
            StorageError::Io(error) if error.kind() == io::ErrorKind::InvalidData => {
                Self::Damaged("not a redb file".to_owned())
            }
            StorageError::Io(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                Self::Damaged("cut short".to_owned())
            }
            StorageError::Io(error) => Self::Io(error),
            StorageError::PreviousIo => {
                Self::Io(io::Error::other("an earlier write to it has failed"))
            }
            other => Self::Damaged(other.to_string()),
        }
    }
}

macro_rules! through_redb_error {
    ($($error:ty),+) => {
        $(impl From<$error> for Problem {
            fn from(error: $error) -> Self {
                match redb::Error::from(error) {
                    redb::Error::Io(error) => Self::Io(error),
                    redb::Error::PreviousIo => {
                        Self::Io(io::Error::other("an earlier write to it has failed"))
                    }
                    other => Self::Damaged(other.to_string()),
                }
            }
        })+
    };
}
through_redb_error!(redb::TransactionError, TableError, redb::CommitError);

#[cfg(test)]
mod tests;

//! What must survive a restart: overrides, imported lists, what is said of mirrors and what checks last
//! found, tokens of ACME challenges, rules of what is dropped, and who is in which catalog, in one redb file.
//!
//! The file knows pools and mirrors by their ids, never by number, so an edit of the configuration
//! that moves or renames one does not make an entry mean another. What names a pool or a mirror that
//! the configuration lacks stays in the file until it is deleted: the daemon warns of it, and it is
//! in force again when the pool or the mirror is.
//!
//! Every write is on disk when the call returns, whole or not at all. All calls block on the disk:
//! call them from `spawn_blocking`.

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

use serde::{Deserialize, Serialize};

use crate::base::lock::lock;
use crate::base::name::parse_name;
use crate::block::Said;
use crate::config::Member;
use crate::fault;
use crate::files;
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

/// Mirror -> what is said of it: a [`Standing`] in JSON.
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

/// 0 -> the secret that cookies are made with, and since when, in milliseconds since 1970; 1 -> the one before.
const COOKIES: TableDefinition<'_, u8, ([u8; 16], u64)> = TableDefinition::new("cookies");

/// Number of a rule of `geodns block` -> what it drops, and why: a [`Blocked`] in JSON.
const BLOCKS: TableDefinition<'_, u32, &[u8]> = TableDefinition::new("blocks");

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

/// Secrets of cookies.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct CookieSecrets {
    /// The secret that makes them.
    pub current: [u8; 16],
    /// Since when, in milliseconds since 1970.
    pub since_unix_ms: u64,
    /// The one before.
    pub previous: Option<[u8; 16]>,
}

/// A rule of `geodns block`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptBlock {
    /// Its number.
    pub number: u32,
    /// Queries that it drops.
    pub said: Said,
    /// Why.
    pub note: String,
}

/// The row of a [`KeptBlock`].
#[derive(Serialize, Deserialize)]
struct Blocked {
    #[serde(flatten)]
    said: Said,
    note: String,
}

/// One `map set`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Override {
    /// Id of the pool.
    pub pool: String,
    /// Address prefix.
    pub prefix: IpNet,
    /// Id of the mirror.
    pub mirror: String,
}

/// The last `map import` of one pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Import {
    /// Id of the pool.
    pub pool: String,
    /// Ids of the mirrors, by their number in the list.
    pub mirrors: Vec<String>,
    /// The list, from [`Layer::to_bytes`](crate::geo::Layer::to_bytes).
    pub layer: Vec<u8>,
}

/// Last result of a target's checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Saved {
    /// Whether it was up.
    pub up: bool,
    /// Since when, in milliseconds since 1970.
    pub since_unix_ms: u64,
}

/// A token of an ACME challenge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// Where its TXT record stands.
    pub owner: String,
    /// Its text.
    pub text: String,
    /// TTL, seconds.
    pub ttl: u32,
    /// When it expires, in milliseconds since 1970.
    pub until_unix_ms: u64,
}

/// Serials of a zone that tokens are or were put over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Serials {
    /// The one of the file that `served` has the content of. `None`: not known.
    pub file: Option<u32>,
    /// The last that was served.
    pub served: u32,
}

/// A change of tokens, kept whole or not at all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AcmeChange {
    /// Tokens that are set, in the place of their equals.
    pub set: Vec<Token>,
    /// Tokens that are gone.
    pub gone: Vec<Token>,
    /// Serials of zones; `None`: nothing is known of them any more.
    pub serials: Vec<(String, Option<Serials>)>,
}

/// Why the state cannot be read or kept. Displays as one line that names the file.
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
        };
        state.with(|_| Ok(()))?;
        Ok(state)
    }

    /// Where the file is.
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
        let mut open = lock(&self.database);
        let _use = Use::of(self);
        let mut attempt = || -> Result<T, Problem> {
            fault::point("state")?;
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

    /// Sets the override of a prefix in each of these pools: all of them or none.
    pub fn set(&self, pools: &[&str], prefix: IpNet, mirror: &str) -> Result<(), Error> {
        self.write(|transaction| {
            let mut table = transaction.open_table(OVERRIDES)?;
            for pool in pools {
                table.insert(pack(pool, prefix), mirror)?;
            }
            Ok(())
        })
    }

    /// Deletes the override of a prefix in each of these pools; no matter if there is none.
    pub fn del(&self, pools: &[&str], prefix: IpNet) -> Result<(), Error> {
        self.write(|transaction| {
            let mut table = transaction.open_table(OVERRIDES)?;
            for pool in pools {
                table.remove(pack(pool, prefix))?;
            }
            Ok(())
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
                    let (mirrors, layer) = import.value();
                    Ok(Import {
                        pool: pool.value().to_owned(),
                        mirrors: mirrors.into_iter().map(str::to_owned).collect(),
                        layer: layer.to_vec(),
                    })
                })
                .collect()
        })
    }

    /// Puts each of these in the place of its pool's last import: all of them or none.
    pub fn import(&self, imports: &[Import]) -> Result<(), Error> {
        self.write(|transaction| {
            let mut table = transaction.open_table(IMPORTS)?;
            for import in imports {
                let mirrors = import.mirrors.iter().map(String::as_str).collect();
                table.insert(import.pool.as_str(), (mirrors, import.layer.as_slice()))?;
            }
            Ok(())
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
                    let standing = serde_json::from_slice(standing.value()).map_err(|error| {
                        Problem::Damaged(format!("what is said of mirror {mirror}: {error}"))
                    })?;
                    Ok((mirror, standing))
                })
                .collect()
        })
    }

    /// Puts this in the place of what was said of a mirror; nothing is left of an empty one.
    pub fn save_standing(&self, mirror: &str, standing: &Standing) -> Result<(), Error> {
        let json = serde_json::to_vec(standing).expect("plain data");
        self.write(|transaction| {
            let mut table = transaction.open_table(STANDINGS)?;
            if standing.is_empty() {
                table.remove(mirror)?;
            } else {
                table.insert(mirror, json.as_slice())?;
            }
            Ok(())
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

    /// Keeps what checks have found of these targets: all of them or none.
    pub fn save_health(&self, found: &[(String, Saved)]) -> Result<(), Error> {
        self.write(|transaction| {
            let mut table = transaction.open_table(HEALTH)?;
            for (target, saved) in found {
                table.insert(target.as_str(), (saved.up, saved.since_unix_ms))?;
            }
            Ok(())
        })
    }

    /// Forgets what checks found of all targets but these.
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

    /// Keeps a change of tokens: all of it or nothing.
    pub fn save_acme(&self, change: &AcmeChange) -> Result<(), Error> {
        self.write(|transaction| {
            let mut tokens = transaction.open_table(ACME)?;
            for token in &change.gone {
                tokens.remove((token.owner.as_str(), token.text.as_str()))?;
            }
            for token in &change.set {
                let key = (token.owner.as_str(), token.text.as_str());
                tokens.insert(key, (token.ttl, token.until_unix_ms))?;
            }
            let mut serials = transaction.open_table(SERIALS)?;
            for (apex, known) in &change.serials {
                match known {
                    Some(known) => serials.insert(apex.as_str(), (known.file, known.served))?,
                    None => serials.remove(apex.as_str())?,
                };
            }
            Ok(())
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
                    let blocked: Blocked =
                        serde_json::from_slice(blocked.value()).map_err(|error| {
                            Problem::Damaged(format!("rule {number} of what is dropped: {error}"))
                        })?;
                    Ok(KeptBlock {
                        number,
                        said: blocked.said,
                        note: blocked.note,
                    })
                })
                .collect()
        })
    }

    /// Keeps rules of `geodns block`, and no longer those of these numbers: all of it or nothing.
    pub fn save_blocks(&self, new: &[KeptBlock], gone: &[u32]) -> Result<(), Error> {
        self.write(|transaction| {
            let mut table = transaction.open_table(BLOCKS)?;
            for number in gone {
                table.remove(number)?;
            }
            for block in new {
                let blocked = Blocked {
                    said: block.said.clone(),
                    note: block.note.clone(),
                };
                let json = serde_json::to_vec(&blocked).expect("plain data");
                table.insert(block.number, json.as_slice())?;
            }
            Ok(())
        })
    }

    /// The secrets that cookies are made with, if there were any.
    pub fn cookie_secrets(&self) -> Result<Option<CookieSecrets>, Error> {
        self.with(|database| {
            let read = database.begin_read()?;
            let table = read.open_table(COOKIES)?;
            let get = |place: u8| Ok::<_, Problem>(table.get(place)?.map(|row| row.value()));
            let previous = get(1)?.map(|(secret, _)| secret);
            Ok(get(0)?.map(|(current, since_unix_ms)| CookieSecrets {
                current,
                since_unix_ms,
                previous,
            }))
        })
    }

    /// Keeps the secrets that cookies are made with.
    pub fn save_cookie_secrets(&self, secrets: &CookieSecrets) -> Result<(), Error> {
        self.write(|transaction| {
            let mut table = transaction.open_table(COOKIES)?;
            table.insert(0, (secrets.current, secrets.since_unix_ms))?;
            match secrets.previous {
                Some(previous) => table.insert(1, (previous, 0))?,
                None => table.remove(1)?,
            };
            Ok(())
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
            let ledger = serde_json::from_slice(found.value()).map_err(|error| {
                Problem::Damaged(format!("what catalog {catalog} lists: {error}"))
            })?;
            Ok(Some(ledger))
        })
    }

    /// Keeps what a catalog of ours lists.
    pub fn save_ledger(&self, catalog: &str, ledger: &Ledger) -> Result<(), Error> {
        let json = serde_json::to_vec(ledger).expect("plain data");
        self.write(|transaction| {
            let mut table = transaction.open_table(LEDGERS)?;
            table.insert(catalog, json.as_slice())?;
            Ok(())
        })
    }

    fn write(
        &self,
        change: impl Fn(&WriteTransaction) -> Result<(), Problem>,
    ) -> Result<(), Error> {
        self.with(|database| {
            // redb's default durability is `Immediate`: on disk when `commit` returns.
            let transaction = database.begin_write()?;
            change(&transaction)?;
            transaction.commit()?;
            Ok(())
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

/// Makes a file with empty tables, under another name first: what is cut short in the making would be
/// taken for a damaged one.
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
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::steering::standing::{Admin, External, Ramp, Weight};

    fn net(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    fn file() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/er/state.redb");
        (folder, path)
    }

    #[test]
    fn what_was_written_is_there_after_a_restart() {
        let (_folder, path) = file();
        let import = Import {
            pool: "www".into(),
            mirrors: vec!["ams".into(), "iad".into()],
            layer: (0..200_000u32).flat_map(u32::to_le_bytes).collect(),
        };
        {
            let state = State::open(&path).unwrap();
            assert_eq!(state.overrides().unwrap(), []);
            assert_eq!(state.imports().unwrap(), []);
            state
                .set(&["www", "cdn"], net("192.0.2.0/24"), "iad")
                .unwrap();
            state.set(&["www"], net("2001:db8::/32"), "ams").unwrap();
            state.set(&["www"], net("0.0.0.0/0"), "ams").unwrap();
            state.set(&["www"], net("192.0.2.0/24"), "ams").unwrap();
            state.set(&["www"], net("198.51.100.7/32"), "ams").unwrap();
            state.del(&["www", "cdn"], net("198.51.100.7/32")).unwrap();
            state.import(std::slice::from_ref(&import)).unwrap();
        }
        let state = State::open(&path).unwrap();
        let overrides: Vec<_> = state
            .overrides()
            .unwrap()
            .into_iter()
            .map(|o| (o.pool, o.prefix.to_string(), o.mirror))
            .collect();
        let row = |pool: &str, prefix: &str, mirror: &str| {
            (pool.to_owned(), prefix.to_owned(), mirror.to_owned())
        };
        assert_eq!(
            overrides,
            [
                row("cdn", "192.0.2.0/24", "iad"),
                row("www", "0.0.0.0/0", "ams"),
                row("www", "192.0.2.0/24", "ams"),
                row("www", "2001:db8::/32", "ams"),
            ]
        );
        assert_eq!(state.imports().unwrap(), [import]);
    }

    #[test]
    fn an_import_replaces_the_one_before() {
        let (_folder, path) = file();
        let state = State::open(&path).unwrap();
        let import = |pool: &str, layer: &[u8]| Import {
            pool: pool.into(),
            mirrors: vec!["ams".into()],
            layer: layer.into(),
        };
        state
            .import(&[import("a", b"one"), import("b", b"two")])
            .unwrap();
        state.import(&[import("b", b"three")]).unwrap();
        assert_eq!(
            state.imports().unwrap(),
            [import("a", b"one"), import("b", b"three")]
        );
    }

    fn standing() -> Standing {
        let ramp = Ramp {
            since_unix_ms: 1_767_225_600_000,
            over_ms: 600_000,
        };
        let verdict = External {
            up: false,
            address: Some("2001:db8::1".parse().unwrap()),
            until_unix_ms: Some(u64::MAX),
            reason: "a \"quoted\" reason, größer".into(),
            since_unix_ms: 1_767_225_600_001,
        };
        Standing {
            admin: Admin::Drain(ramp),
            admin_since_unix_ms: Some(ramp.since_unix_ms),
            weight: Some(Weight {
                value: 50,
                from: 100,
                ramp,
            }),
            external: vec![
                verdict.clone(),
                External {
                    up: true,
                    address: None,
                    until_unix_ms: None,
                    ..verdict
                },
            ],
        }
    }

    #[test]
    fn what_is_said_and_found_of_mirrors_is_there_after_a_restart() {
        let (_folder, path) = file();
        let saved = |up, since_unix_ms| Saved { up, since_unix_ms };
        {
            let state = State::open(&path).unwrap();
            assert!(state.standings().unwrap().is_empty());
            assert!(state.health().unwrap().is_empty());
            state.save_standing("ams", &standing()).unwrap();
            for admin in [Admin::Up, Admin::Down] {
                let standing = Standing {
                    admin,
                    ..Standing::default()
                };
                state.save_standing("iad", &standing).unwrap();
            }
            state.save_standing("sin", &standing()).unwrap();
            state.save_standing("sin", &Standing::default()).unwrap();
            let found = |key: &str, up, since| (key.to_owned(), saved(up, since));
            state
                .save_health(&[found("a", true, 1), found("b", false, u64::MAX)])
                .unwrap();
            state.save_health(&[found("a", false, 2)]).unwrap();
        }
        let state = State::open(&path).unwrap();
        let standings = state.standings().unwrap();
        assert_eq!(standings.len(), 2);
        assert_eq!(standings["ams"], standing());
        assert_eq!(standings["iad"].admin, Admin::Down);
        assert_eq!(
            state.health().unwrap(),
            HashMap::from([
                ("a".to_owned(), saved(false, 2)),
                ("b".to_owned(), saved(false, u64::MAX))
            ])
        );
        let keys = |keys: &[&str]| keys.iter().map(|key| key.to_string()).collect();
        state.retain_health(&keys(&["a", "b", "c"])).unwrap();
        assert_eq!(state.health().unwrap().len(), 2);
        state.retain_health(&keys(&["a"])).unwrap();
        assert_eq!(state.health().unwrap().len(), 1);
        assert!(state.health().unwrap().contains_key("a"));
    }

    #[test]
    fn tokens_and_serials_are_there_after_a_restart() {
        let (_folder, path) = file();
        let token = |text: &str, ttl| Token {
            owner: "_acme-challenge.example.org".into(),
            text: text.into(),
            ttl,
            until_unix_ms: u64::MAX,
        };
        let serials = |file, served| Some(Serials { file, served });
        {
            let state = State::open(&path).unwrap();
            let change = AcmeChange {
                set: vec![token("a", 1), token("b", 1), token("a", 2)],
                gone: Vec::new(),
                serials: vec![
                    ("example.org".into(), serials(Some(u32::MAX), 0)),
                    ("example.net".into(), serials(None, 7)),
                ],
            };
            state.save_acme(&change).unwrap();
            let change = AcmeChange {
                gone: vec![token("b", 9)],
                serials: vec![("example.net".into(), None)],
                ..AcmeChange::default()
            };
            state.save_acme(&change).unwrap();
        }
        let state = State::open(&path).unwrap();
        assert_eq!(state.tokens().unwrap(), [token("a", 2)]);
        let known = state.serials("example.org").unwrap();
        assert_eq!(known, serials(Some(u32::MAX), 0));
        assert_eq!(state.serials("example.net").unwrap(), None);
    }

    /// As it was written before there was anything to say of mirrors.
    #[test]
    fn members_and_ledgers_of_catalogs_are_there_after_a_restart() {
        let (_folder, path) = file();
        let member = |name: &str, id: &[u8]| Member {
            name: parse_name(name).unwrap(),
            catalog: parse_name("cat\\.alog.test").unwrap(),
            id: id.to_vec(),
            groups: vec![b"g".to_vec(), vec![0, 255]],
        };
        let [a, b] = [
            member("a.example", b"1"),
            member("b\\032b.example", &[0, 200]),
        ];
        let state = State::open(&path).unwrap();
        state.save_members(&[a.clone(), b.clone()]).unwrap();
        let mut ledger = Ledger::default();
        ledger.list(&[("a.example".to_owned(), Some("g".to_owned()))].into(), 7);
        state.save_ledger("cat.test", &ledger).unwrap();
        drop(state);
        let state = State::open(&path).unwrap();
        assert_eq!(state.members().unwrap(), [a, b.clone()]);
        assert_eq!(state.ledger("cat.test").unwrap(), Some(ledger));
        assert_eq!(state.ledger("other.test").unwrap(), None);
        state.save_members(std::slice::from_ref(&b)).unwrap();
        drop(state);
        assert_eq!(State::open(&path).unwrap().members().unwrap(), [b]);
    }

    #[test]
    fn a_file_without_the_newer_tables_opens_with_what_it_has() {
        let (_folder, path) = file();
        let state = State::open(&path).unwrap();
        state.set(&["www"], net("192.0.2.0/24"), "ams").unwrap();
        let database = state.database.lock().unwrap().take().unwrap();
        let write = database.begin_write().unwrap();
        assert!(write.delete_table(STANDINGS).unwrap());
        assert!(write.delete_table(HEALTH).unwrap());
        assert!(write.delete_table(ACME).unwrap());
        assert!(write.delete_table(SERIALS).unwrap());
        assert!(write.delete_table(MEMBERS).unwrap());
        assert!(write.delete_table(LEDGERS).unwrap());
        write.commit().unwrap();
        drop((database, state));
        let state = State::open(&path).unwrap();
        assert_eq!(state.overrides().unwrap().len(), 1);
        assert!(state.standings().unwrap().is_empty());
        assert!(state.health().unwrap().is_empty());
        assert!(state.tokens().unwrap().is_empty());
        assert_eq!(state.serials("example.org").unwrap(), None);
        assert!(state.members().unwrap().is_empty());
        assert_eq!(state.ledger("cat.test").unwrap(), None);
        state.save_standing("ams", &standing()).unwrap();
        assert_eq!(state.standings().unwrap()["ams"], standing());
    }

    #[test]
    fn a_standing_that_cannot_be_read_is_named() {
        let (_folder, path) = file();
        let state = State::open(&path).unwrap();
        let put = |json: &str| {
            let write = |transaction: &WriteTransaction| {
                let mut table = transaction.open_table(STANDINGS)?;
                table.insert("ams", json.as_bytes())?;
                Ok(())
            };
            state.write(write).unwrap();
        };
        put(r#"{"admin":"sideways"}"#);
        let error = state.standings().unwrap_err().to_string();
        assert!(error.contains("what is said of mirror ams"), "{error}");
        assert_eq!(error.lines().count(), 1);
        // What a later version says besides is no damage.
        put(r#"{"admin":"down","colour":"blue"}"#);
        assert_eq!(state.standings().unwrap()["ams"].admin, Admin::Down);
    }

    #[test]
    fn only_the_owner_can_read_it() {
        let (_folder, path) = file();
        let _state = State::open(&path).unwrap();
        let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&path), 0o600);
        assert_eq!(mode(path.parent().unwrap()), 0o700);
    }

    #[test]
    fn a_second_daemon_is_refused() {
        let (_folder, path) = file();
        let state = State::open(&path).unwrap();
        let error = State::open(&path).unwrap_err().to_string();
        assert_eq!(
            error,
            format!(
                "state {}: in use by another geodns: stop that one first, or set state.path",
                path.display()
            )
        );
        drop(state);
        State::open(&path).unwrap();
    }

    #[test]
    fn a_file_of_another_kind_is_named_and_left_alone() {
        let (_folder, path) = file();
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let text = "prefix,mirror\n".repeat(1000);
        std::fs::write(&path, &text).unwrap();
        let error = State::open(&path).unwrap_err().to_string();
        assert!(error.contains("damaged (not a redb file)"), "{error}");
        assert_eq!(error.lines().count(), 1);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
    }

    #[test]
    fn an_empty_file_is_damage_and_left_alone() {
        let (_folder, path) = file();
        State::open(&path).unwrap();
        fs::write(&path, "").unwrap();
        let error = State::open(&path).unwrap_err().to_string();
        assert!(error.contains("damaged (it is empty): restore"), "{error}");
        assert_eq!(path.metadata().unwrap().len(), 0);
    }

    #[test]
    fn what_is_no_file_of_ours_is_named_and_left_alone() {
        let (_folder, path) = file();
        fs::create_dir_all(&path).unwrap();
        let error = State::open(&path).unwrap_err().to_string();
        assert!(error.contains("it is a folder, and must be"), "{error}");
        assert_eq!(error.lines().count(), 1);
        fs::remove_dir(&path).unwrap();

        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let error = State::open(&path).unwrap_err().to_string();
        assert!(error.contains("it is a pipe, and must be"), "{error}");
        fs::remove_file(&path).unwrap();

        drop(Database::create(&path).unwrap());
        let error = State::open(&path).unwrap_err().to_string();
        assert!(error.contains("of another program"), "{error}");
        let other = Database::open(&path).unwrap();
        let tables = other.begin_read().unwrap().list_tables().unwrap().count();
        assert_eq!(tables, 0);
    }

    #[test]
    fn another_layout_is_refused() {
        let (_folder, path) = file();
        let state = State::open(&path).unwrap();
        let database = state.database.lock().unwrap().take().unwrap();
        let write = database.begin_write().unwrap();
        write.open_table(META).unwrap().insert("layout", 9).unwrap();
        write.commit().unwrap();
        drop((database, state));
        let error = State::open(&path).unwrap_err().to_string();
        assert!(error.contains("(layout 9, this one reads 1)"), "{error}");
    }

    /// Damage at any place: an error in one line, or the entries as they were.
    #[test]
    fn damage_is_an_error_never_a_panic_or_another_answer() {
        let (_folder, path) = file();
        let before = {
            let state = State::open(&path).unwrap();
            let pools: Vec<_> = (0..300).map(|i| format!("pool-{i}")).collect();
            let pools: Vec<_> = pools.iter().map(String::as_str).collect();
            state.set(&pools, net("192.0.2.0/24"), "ams").unwrap();
            state.save_standing("ams", &standing()).unwrap();
            (state.overrides().unwrap(), state.standings().unwrap())
        };
        let whole = std::fs::read(&path).unwrap();
        let mut refused = 0;
        let check = |bytes: &[u8]| {
            std::fs::write(&path, bytes).unwrap();
            let read = |state: State| Ok((state.overrides()?, state.standings()?));
            match State::open(&path).and_then(read) {
                Ok(read) => {
                    assert_eq!(read, before);
                    0
                }
                Err(error) => {
                    assert_eq!(error.to_string().lines().count(), 1);
                    1
                }
            }
        };
        // The first pages in turn, and places in the header.
        for at in (0..whole.len()).step_by(4096).take(40) {
            let mut bytes = whole.clone();
            bytes[at..][..16].fill(0xa5);
            refused += check(&bytes);
        }
        for at in (0..320).step_by(5) {
            let mut bytes = whole.clone();
            bytes[at] ^= 0xff;
            refused += check(&bytes);
        }
        assert!(refused > 10, "{refused}");
        // Cut short anywhere, it is never taken for a new one.
        let cuts = [0, 1, 9, 100, 320, 4095, 4096, 4097, whole.len() / 2];
        for length in cuts.into_iter().chain([whole.len() - 1]) {
            assert_eq!(check(&whole[..length]), 1, "cut after {length} octets");
        }
    }
}

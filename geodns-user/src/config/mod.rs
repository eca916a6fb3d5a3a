//! `geodns.toml`: parsed, validated, with errors that name file, line and key.
//!
//! From the text to the configuration:
//!
//! - `merge`: the fleet's file, with the node's own sections
//! - `source`: the text, its lines and columns; `spanned`: a value with its place
//! - `file`: the file's shape, by serde; [`schema`]: the same as a JSON Schema
//! - `syntax`: errors of TOML, in plain words; `shape`: whether a file has its shape; `found`: what is wrong with it
//! - `reader`: reads values, and keeps what is wrong with them
//! - `validate`: all of a file, and the sections without a file of their own
//!
//! Sections:
//!
//! - `pool`: pools and their rules; `monitor`: a mirror's check; `limits`: the clients that it takes; `public`:
//!   what visitors are told
//! - `web`: the dashboard
//! - `announce`: routes of an anycast node; `cookies`: secrets of DNS cookies; `dnstap`; `rrl`: response rate limiting; `blocks`: drop rules
//! - `metrics`: numbers for Prometheus
//! - `transfer`: zones, and the servers that give and take them; `inward`: bounds of incoming transfers
//! - `notify`: web servers that are told of events
//! - `fleet`: the state that several nodes share; `quorum`: how they decide together whether a mirror is up
//! - `catalog`: catalog zones and their members; `claims`: which names these may not have
//! - [`time`], [`size`]: times and amounts of memory as people write them

mod announce;
mod blocks;
mod catalog;
mod claims;
mod cookies;
mod dnstap;
mod file;
mod fleet;
mod found;
mod inward;
mod limits;
mod merge;
mod metrics;
mod monitor;
mod notify;
mod pool;
mod public;
mod quorum;
mod reader;
mod rrl;
mod schema;
mod shape;
pub mod size;
mod source;
mod spanned;
mod syntax;
pub mod time;
mod transfer;
mod validate;
mod web;

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use announce::{Announce, Keep};
pub use blocks::{Block, check_note};
pub use catalog::{Catalog, Listing, MAX_PRODUCER, Member, Template};
pub use claims::Claims;
pub use cookies::{Cookies, Secrets};
pub use dnstap::{Dnstap, TapTo};
pub use fleet::{Endpoint, Fleet, Identity};
use geodns_common::abi;
pub use inward::Inward;
use ipnet::IpNet;
pub use limits::{Clients, Limits};
pub use merge::OF_NODE;
pub use metrics::Metrics;
pub use monitor::{Check, CheckKind, Fresh, HttpCheck, Status, Tls, TraceFormat};
use nix::unistd::{self, Gid};
pub use notify::{Format, Notify};
pub use public::{Profile, Public};
pub use quorum::{Local, Quorum};
pub use rrl::Rrl;
pub use schema::schema;
pub use transfer::{Allowed, Key, Keys, MAX_ZONES, Peer, Steered};
pub use web::{Token, Web};

use crate::base::complaint::{Error, Errors};
use crate::base::name::Name;
use crate::files;

/// The text of a file.
fn utf8<'a>(path: &Path, bytes: &'a [u8]) -> Result<&'a str, Error> {
    str::from_utf8(bytes).map_err(|error| {
        let before = &bytes[..error.valid_up_to()];
        Error {
            file: path.to_owned(),
            line: Some(1 + before.iter().filter(|&&byte| byte == b'\n').count()),
            column: None,
            key: None,
            message: "not UTF-8; save the file as UTF-8".to_owned(),
        }
    })
}

/// The line in which a section of a file has a key.
pub fn line_of(file: &Path, section: &str, key: &str) -> Option<usize> {
    let text = files::read_to_string(file).ok()?;
    let document = toml::de::DeTable::parse(&text).ok()?;
    let table = document.get_ref().get(section)?.get_ref().as_table()?;
    let (key, _) = table.get_key_value(key)?;
    Some(source::Source::new(file, &text).line(key.span().start))
}

/// A whole, valid configuration. Paths are resolved against the file's folder.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where it was read from.
    pub path: PathBuf,
    /// Digest of all sections but those about the machine: nodes of a fleet have the same.
    pub shared_digest: String,
    /// `[server]`
    pub server: Server,
    /// `[tls]`; `None`: no DNS over TLS.
    pub tls: Option<DnsOverTls>,
    /// `[web]`
    pub web: Web,
    /// `[kernel]`
    pub kernel: Kernel,
    /// `[cookies]`
    pub cookies: Cookies,
    /// `[rrl]`
    pub rrl: Rrl,
    /// `[[block]]`
    pub blocks: Vec<Block>,
    /// `control.socket`
    pub socket: PathBuf,
    /// `[metrics]`; `None`: answers are not counted by mirror, and nobody listens.
    pub metrics: Option<Metrics>,
    /// `control.group`: whose members may read over the socket.
    pub group: Option<String>,
    /// `state.path`
    pub state: PathBuf,
    /// `geoip.databases`
    pub databases: Vec<PathBuf>,
    /// `health.feed`: file of other monitors' verdicts.
    pub health_feed: Option<PathBuf>,
    /// `[[notify]]`
    pub notify: Vec<Notify>,
    /// `[fleet]`; `None`: this node is alone.
    pub fleet: Option<Fleet>,
    /// `[quorum]`
    pub quorum: Quorum,
    /// `[transfer]`
    pub transfer: Inward,
    /// `[announce]`; `None`: nothing is announced.
    pub announce: Option<Announce>,
    /// `[dnstap]`; `None`: nobody is told.
    pub dnstap: Option<Dnstap>,
    /// `[public]`; `None`: no pages for visitors.
    pub public: Option<Public>,
    /// `[[tsig]]`
    pub keys: Keys,
    /// `[[zone]]`
    pub zones: Vec<ZoneFile>,
    /// `[[mirror]]`
    pub mirrors: Vec<Mirror>,
    /// `[[pool]]`
    pub pools: Vec<Pool>,
    /// `[[steer]]`
    pub steers: Vec<Steer>,
}

impl Config {
    /// The group whose members may read over the control socket; `None`, if there is none on this machine, too.
    pub fn readers(&self) -> Option<Gid> {
        let group = unistd::Group::from_name(self.group.as_deref()?);
        group.ok().flatten().map(|group| group.gid)
    }
}

/// `[server]`
#[derive(Clone, Debug)]
pub struct Server {
    /// Addresses to answer on; `None`: those of the interfaces, followed as they change.
    pub listen: Option<Vec<IpAddr>>,
    /// UDP and TCP port.
    pub port: u16,
    /// `id.server` and `hostname.bind`; of itself the host name.
    pub identity: Told,
    /// NSID (RFC 5001); of itself as `identity`.
    pub nsid: Told,
    /// `version.bind` and `version.server`; of itself name and version of the program.
    pub version: Told,
    /// Mirror or nested pool that this node stands beside.
    pub site: Option<String>,
}

/// An answer about this server itself (`id.server`, `version.bind`, NSID).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Told {
    /// The host name, or the version.
    #[default]
    Default,
    /// This text.
    Text(String),
    /// Nothing.
    Nothing,
}

impl Told {
    fn or(&self, default: impl FnOnce() -> Option<String>) -> Option<String> {
        match self {
            Self::Default => default(),
            Self::Text(text) => Some(text.clone()),
            Self::Nothing => None,
        }
    }
}

impl Server {
    /// Name of this server in answers; `None`: such queries are refused.
    pub fn id(&self) -> Option<String> {
        let host_name = || {
            let name = nix::sys::utsname::uname();
            let name = name.map(|name| name.nodename().to_string_lossy().into_owned());
            name.ok().filter(|name| !name.is_empty())
        };
        self.identity.or(host_name)
    }

    /// NSID; `None`: nobody is told.
    pub fn nsid(&self) -> Option<String> {
        self.nsid.or(|| self.id())
    }

    /// Version in answers; `None`: such queries are refused.
    pub fn version(&self) -> Option<String> {
        let version = format!("geodns {}", env!("CARGO_PKG_VERSION"));
        self.version.or(|| Some(version))
    }
}

/// `[tls]`: DNS over TLS (RFC 7858).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DnsOverTls {
    /// The server's certificate.
    pub files: CertificateFiles,
    /// TCP port.
    pub port: u16,
}

/// A certificate and its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFiles {
    /// PEM file: the server's certificate, then those between it and the root.
    pub certificate: PathBuf,
    /// PEM file: its private key.
    pub key: PathBuf,
}

/// `[kernel]`
#[derive(Clone, Debug)]
pub struct Kernel {
    /// Interfaces to attach to.
    pub interfaces: Vec<String>,
    /// How to attach.
    pub mode: Mode,
    /// Whether a start or reload fails where the program cannot be attached.
    pub required: bool,
    /// Folder in a bpffs.
    pub pin: PathBuf,
    /// Time that the program goes on answering without hearing from the daemon.
    pub stale_after: Duration,
    /// Effect of an orderly stop on the program.
    pub on_stop: OnStop,
    /// Names in the program's name table, at the most.
    pub max_names: u32,
    /// Packets a second that a CPU passes to the slow path for any one reason, at the most; 0: no limit.
    pub pass_limit: u32,
    /// Where a program is pinned that gets the packets that are passed.
    pub next: Option<PathBuf>,
}

/// `kernel.mode`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Native where the driver has it, else generic.
    Auto,
    /// In the driver, or not at all.
    Native,
    /// In the network stack's receive path.
    Generic,
    /// No XDP: the slow path answers everything.
    Off,
}

/// `kernel.on_stop`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnStop {
    /// Leave nothing attached or pinned.
    Detach,
    /// Leave the pinned program answering for the next start to take over.
    Keep,
    /// Leave the stub attached, which passes every packet, for the next start to take over.
    Stub,
}

/// `[[zone]]`
#[derive(Clone, Debug)]
pub struct ZoneFile {
    /// Apex.
    pub name: Name,
    /// Zone file; `None`: it comes from `primaries`, or is generated.
    pub file: Option<PathBuf>,
    /// Servers that it is transferred from, in the order in which they are asked.
    pub primaries: Vec<Peer>,
    /// Clients that may transfer it.
    pub allow_transfer: Vec<Allowed>,
    /// Servers that are told when it changes.
    pub notify: Vec<Peer>,
    /// Form of its steered names in a transfer.
    pub steered: Steered,
    /// It lists other zones.
    pub catalog: Option<Catalog>,
    /// It is listed by a catalog of ours.
    pub listing: Option<Listing>,
    /// It is here because a catalog lists it.
    pub member: Option<Member>,
    /// Line in the configuration; of a member, its catalog's.
    pub line: usize,
}

impl ZoneFile {
    /// Whether the zone is given to this client, by its address or by the key that it has signed with.
    pub fn is_given_to(&self, client: IpAddr, key: Option<&Name>) -> bool {
        let client = client.to_canonical();
        self.allow_transfer.iter().any(|allowed| match allowed {
            Allowed::From(prefix) => prefix.contains(&client),
            Allowed::Signed(name) => key == Some(name),
        })
    }

    /// Whether geodns generates it, as a catalog of the configuration's zones.
    pub fn is_producer(&self) -> bool {
        matches!(self.catalog, Some(Catalog::Producer))
    }

    /// Label of a member in its catalog.
    pub fn label(&self) -> Option<&[u8]> {
        self.member.as_ref().map(|member| &*member.id)
    }

    /// Whether its content decides what zones there are.
    pub fn is_consumer(&self) -> bool {
        matches!(self.catalog, Some(Catalog::Consumer(_)))
    }
}

/// `[[mirror]]`
#[derive(Clone, Debug, PartialEq)]
pub struct Mirror {
    /// Name, unique.
    pub id: String,
    /// IPv4 addresses, sorted.
    pub v4: Vec<Ipv4Addr>,
    /// IPv6 addresses, sorted.
    pub v6: Vec<Ipv6Addr>,
    /// The name that the answer is an alias for, instead of addresses.
    pub cname: Option<Name>,
    /// Where it stands.
    pub location: Option<Location>,
    /// Its share among the mirrors that are chosen by weight; 0: drained.
    pub weight: u32,
    /// How much nearer (or, negative, farther) it counts than it is, -99 to 99.
    pub bias: i8,
    /// The clients that it takes.
    pub limits: Limits,
    /// What visitors are told.
    pub profile: Profile,
    /// How each of its addresses is checked; `None`: not at all, it is up.
    pub check: Option<Check>,
}

/// A place on the earth, in degrees.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Location {
    /// Latitude, north positive, -90 to 90.
    pub lat: f64,
    /// Longitude, east positive, -180 to 180.
    pub lon: f64,
}

impl Mirror {
    /// All its addresses, IPv4 first.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        let v4 = self.v4.iter().copied().map(IpAddr::V4);
        v4.chain(self.v6.iter().copied().map(IpAddr::V6))
    }
}

impl Location {
    /// Along the great circle, in kilometres on a sphere of the earth's mean radius.
    pub fn distance(self, other: Self) -> f64 {
        const RADIUS: f64 = 6371.0;
        let [a, b] = [self, other].map(|at| (at.lat.to_radians(), at.lon.to_radians()));
        let half = |from: f64, to: f64| ((to - from) / 2.0).sin().powi(2);
        let chord = half(a.0, b.0) + a.0.cos() * b.0.cos() * half(a.1, b.1);
        2.0 * RADIUS * chord.clamp(0.0, 1.0).sqrt().asin()
    }
}

/// `[[pool]]`
///
/// Its mirrors are numbered from 0 on. What is chosen among are *members*: its mirrors, or where it
/// is made of other pools, these; a member's number is a mirror's, or what
/// [`Order::group`](geodns_common::abi::Order::group) makes of a group's.
#[derive(Clone, Debug)]
pub struct Pool {
    /// Name, unique.
    pub id: String,
    /// Its mirrors, those of nested pools too, as indices into [`Config::mirrors`]. A pool's own
    /// mirror number is the place here.
    pub mirrors: Vec<usize>,
    /// Mask of its mirrors that do not take every client; none where they are limited and the policy does not ask.
    pub limited: u64,
    /// Mirrors that are chosen among by weight: those of each nested pool, or with
    /// [`Policy::Weighted`] all.
    pub groups: Vec<Group>,
    /// How it chooses.
    pub policy: Policy,
    /// Members where nothing is known of the client, best first (`default`).
    pub default: Vec<u8>,
    /// `prefix,mirror` list, if any.
    pub prefixes: Option<PathBuf>,
    /// `rules`
    pub rules: Vec<Rule>,
    /// TTL of its records.
    pub ttl: u32,
    /// The least that a change to come may shorten it to.
    pub ttl_min: u32,
    /// Mirrors in one answer, at the most (`answers`; default: all with [`Policy::All`], else 1).
    pub answers: u16,
    /// Members that are remembered of a region.
    pub depth: u8,
    /// The draw of a mirror from a group: by the client, or anew for each query.
    pub choice: Choice,
    /// Answer when no mirror is in service.
    pub fail: Fail,
    /// Share of the mirrors below which the checks are no longer believed, 0 to 1.
    pub panic: f64,
    /// Generated for one mirror, by `names` of this pool: everyone gets it, in service or not.
    pub of: Option<usize>,
    /// Line in the configuration.
    pub line: usize,
}

impl Pool {
    /// All members, in the order of the configuration.
    pub fn members(&self) -> impl Iterator<Item = u8> {
        let nested = !self.groups.is_empty();
        let groups = (0..self.groups.len() as u8).map(abi::Order::group);
        let mirrors = 0..if nested { 0 } else { self.mirrors.len() as u8 };
        groups.chain(mirrors)
    }

    /// Prefixes of the rules, with their members.
    pub fn prefix_rules(&self) -> impl Iterator<Item = (IpNet, &[u8])> {
        self.rules.iter().filter_map(|rule| match rule.matches {
            Matches::Prefix(prefix) => Some((prefix, &rule.members[..])),
            _ => None,
        })
    }

    /// Whether its mirrors are aliases, not addresses: all are alike in this.
    pub fn is_alias(&self, config: &Config) -> bool {
        let mut mirrors = self.mirrors.iter();
        mirrors.any(|&mirror| config.mirrors[mirror].cname.is_some())
    }

    /// Whether it matters where a client is.
    pub fn has_table(&self) -> bool {
        self.policy != Policy::All
    }

    /// Mirrors of a member.
    pub fn mirrors_of(&self, member: u8) -> &[u8] {
        const ALL: [u8; abi::MAX_MIRRORS] = {
            let mut all = [0; abi::MAX_MIRRORS];
            let mut at = 0;
            while at < all.len() {
                all[at] = at as u8;
                at += 1;
            }
            all
        };
        match usize::from(member).checked_sub(abi::MAX_MIRRORS) {
            Some(group) => self.groups.get(group).map_or(&[], |group| &group.mirrors),
            None => ALL
                .get(usize::from(member)..=usize::from(member))
                .unwrap_or(&[]),
        }
    }
}

/// Mirrors of a pool that are chosen among by weight, or in turn.
#[derive(Clone, Debug, PartialEq)]
pub struct Group {
    /// Id of the nested pool; of the pool itself with [`Policy::Weighted`].
    pub id: String,
    /// Its mirrors, by their numbers in the pool.
    pub mirrors: Vec<u8>,
    /// [`Policy::Weighted`], [`Policy::Failover`] or [`Policy::All`].
    pub policy: Policy,
    /// Where it stands.
    pub location: Option<Location>,
}

/// `pool.policy`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// Every mirror, to everyone.
    All,
    /// By a list of prefixes.
    Table,
    /// By rules about where the client is.
    Geo,
    /// By distance.
    Nearest,
    /// By weight.
    Weighted,
    /// The first that is in service.
    Failover,
    /// This node's own first.
    Site,
}

impl Policy {
    /// All of them, by name.
    pub const NAMES: [(&'static str, Self); 7] = [
        ("nearest", Self::Nearest),
        ("geo", Self::Geo),
        ("table", Self::Table),
        ("weighted", Self::Weighted),
        ("failover", Self::Failover),
        ("site", Self::Site),
        ("all", Self::All),
    ];

    /// Its name in the configuration.
    pub fn name(self) -> &'static str {
        let mut names = Self::NAMES.iter();
        names
            .find(|(_, policy)| *policy == self)
            .map_or("", |(name, _)| name)
    }
}

/// One of `pool.rules`: which members clients of some place get first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// For whom.
    pub matches: Matches,
    /// Members, best first.
    pub members: Vec<u8>,
    /// Line in the configuration.
    pub line: usize,
}

/// For whom a rule is. The most specific that matches counts: they stand here in that order.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Matches {
    /// Addresses of a prefix; the longest counts.
    Prefix(IpNet),
    /// An autonomous system.
    Asn(u32),
    /// A city, by its English name in lower case.
    City {
        /// ISO 3166-1 alpha-2, upper case.
        country: [u8; 2],
        /// As in [`Matches::Subdivision`].
        subdivision: Option<String>,
        /// Its name.
        city: String,
    },
    /// A part of a country, by its ISO 3166-2 code (after the country's) or English name, in lower
    /// case.
    Subdivision {
        /// ISO 3166-1 alpha-2, upper case.
        country: [u8; 2],
        /// Code or name.
        subdivision: String,
    },
    /// A country, ISO 3166-1 alpha-2, upper case.
    Country([u8; 2]),
    /// A continent: AF, AN, AS, EU, NA, OC or SA.
    Continent([u8; 2]),
}

/// As it is written in a rule.
impl fmt::Display for Matches {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let code = |code: &[u8; 2]| String::from_utf8_lossy(code).into_owned();
        match self {
            Self::Prefix(prefix) => write!(f, "prefix = \"{prefix}\""),
            Self::Asn(number) => write!(f, "asn = {number}"),
            Self::City {
                country,
                subdivision,
                city,
            } => {
                write!(f, "country = {:?}, ", code(country))?;
                if let Some(subdivision) = subdivision {
                    write!(f, "subdivision = {subdivision:?}, ")?;
                }
                write!(f, "city = {city:?}")
            }
            Self::Subdivision {
                country,
                subdivision,
            } => write!(
                f,
                "country = {:?}, subdivision = {subdivision:?}",
                code(country)
            ),
            Self::Country(country) => write!(f, "country = {:?}", code(country)),
            Self::Continent(continent) => write!(f, "continent = {:?}", code(continent)),
        }
    }
}

/// `pool.choice`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// The client's /24 or /56.
    Client,
    /// Chance, for each query anew.
    Query,
}

/// `pool.fail`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fail {
    /// As if all were in service.
    Open,
    /// SERVFAIL.
    Closed,
    /// Another pool answers, by its index into [`Config::pools`].
    Fallback(usize),
}

/// `[[steer]]`
#[derive(Clone, Debug)]
pub struct Steer {
    /// Owner name; may be a wildcard or an apex.
    pub name: Name,
    /// Index into [`Config::pools`].
    pub pool: usize,
    /// Line in the configuration.
    pub line: usize,
}

/// Whether this can be a mirror's or pool's id: it stands in CSV files, on command lines and in URLs.
pub fn is_id(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    (1..=63).contains(&text.len()) && text.bytes().all(plain)
}

/// `kernel.pin`, when left out.
pub const DEFAULT_PIN: &str = "/sys/fs/bpf/geodns";
/// `control.socket`, when left out.
pub const DEFAULT_SOCKET: &str = "/run/geodns/control.sock";

/// Options of the command line, which override the file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overrides {
    /// `--iface`: interfaces instead of `kernel.interfaces`; empty: the file's.
    pub interfaces: Vec<String>,
    /// The node's own file, whose sections about the machine count: the other one is the fleet's.
    pub node: Option<PathBuf>,
}

impl Config {
    /// Reads and validates a file.
    pub fn load(path: &Path) -> Result<Self, Errors> {
        Self::load_with(path, &Overrides::default())
    }

    /// Reads and validates a file, under what the command line says.
    pub fn load_with(path: &Path, overrides: &Overrides) -> Result<Self, Errors> {
        let read =
            |path: &Path| files::read(path).map_err(|error| Error::cannot_read(path, &error));
        let bytes = read(path)?;
        let Some(node) = &overrides.node else {
            return Self::parse(path, &bytes, overrides);
        };
        let own = read(node)?;
        let merged = merge::merge(utf8(path, &bytes)?, (node, utf8(node, &own)?))?;
        let config = Self::parse_text(path, &merged.text, overrides, merged.from);
        config.map_err(|errors| {
            let of_node = |mut error: Error| {
                if let Some(line) = error.line.filter(|&line| line > merged.lines) {
                    error.file.clone_from(node);
                    error.line = Some(line - merged.lines);
                }
                error
            };
            Errors::new(errors.iter().cloned().map(of_node).collect(), errors.more())
        })
    }

    /// Validates a file's content; `path` is for errors and relative paths.
    fn parse(path: &Path, bytes: &[u8], overrides: &Overrides) -> Result<Self, Errors> {
        let text = utf8(path, bytes)?;
        Self::parse_text(path, text, overrides, text.len())
    }

    /// Validates a text. From an octet on, it is the node's own file.
    fn parse_text(
        path: &Path,
        text: &str,
        overrides: &Overrides,
        own_from: usize,
    ) -> Result<Self, Errors> {
        let source = source::Source::new(path, text);
        let (file, found) = shape::read(&source);
        let checked =
            file.map(|file| validate::validate(&source, &found, file, overrides, own_from));
        let more = match checked {
            Some(Ok(config)) if found.errors.is_empty() => return Ok(config),
            Some(Err(errors)) => errors,
            _ => Vec::new(),
        };
        Err(Errors::new(
            found.errors.into_iter().chain(more).collect(),
            0,
        ))
    }

    /// An error unless there is an interface to attach to or, with `mode = "off"`, an address to
    /// answer on. Not part of loading: `geodns check` is content with a file that leaves the
    /// interfaces to `--iface`.
    pub fn require_interfaces(&self) -> Result<(), Error> {
        let message = match self.kernel.mode {
            _ if !self.kernel.interfaces.is_empty() => return Ok(()),
            Mode::Off if self.server.listen.is_some() => return Ok(()),
            Mode::Off => "none, and no server.listen; name either, or give --iface",
            _ => "none to attach to; name one, give --iface, or set kernel.mode to \"off\"",
        };
        Err(Error {
            file: self.path.clone(),
            line: None,
            column: None,
            key: Some("kernel.interfaces".to_owned()),
            message: message.to_owned(),
        })
    }

    /// Number of a mirror, or of a nested pool, by its id, in a pool.
    pub fn mirror_in_pool(&self, pool: usize, id: &str) -> Option<u8> {
        let pool = &self.pools[pool];
        let group = || {
            let nested = pool.groups.iter().filter(|group| group.id != pool.id);
            let place = nested.into_iter().position(|group| group.id == id)?;
            Some(abi::Order::group(u8::try_from(place).ok()?))
        };
        let mirror = pool.mirrors.iter().position(|&m| self.mirrors[m].id == id);
        mirror.map_or_else(group, |place| u8::try_from(place).ok())
    }

    /// Id of a pool's mirror, or of a pool nested in it.
    pub fn mirror_id(&self, pool: usize, member: u8) -> &str {
        let pool = &self.pools[pool];
        match usize::from(member).checked_sub(abi::MAX_MIRRORS) {
            Some(group) => &pool.groups[group].id,
            None => &self.mirrors[pool.mirrors[usize::from(member)]].id,
        }
    }
}

#[cfg(test)]
impl Mirror {
    /// One with nothing but an id, for tests of other rooms.
    pub fn sample(id: &str) -> Self {
        Self {
            id: id.to_owned(),
            v4: Vec::new(),
            v6: Vec::new(),
            cname: None,
            location: None,
            weight: 100,
            bias: 0,
            limits: Limits::default(),
            profile: Profile::default(),
            check: None,
        }
    }
}

#[cfg(test)]
impl Pool {
    /// A `table` pool of the first N mirrors, for tests of other rooms.
    pub fn sample(mirrors: usize, default: u8) -> Self {
        let rest = (0..mirrors as u8).filter(|&mirror| mirror != default);
        Self {
            id: "www".to_owned(),
            mirrors: (0..mirrors).collect(),
            limited: 0,
            groups: Vec::new(),
            policy: Policy::Table,
            default: std::iter::once(default).chain(rest).collect(),
            prefixes: None,
            rules: Vec::new(),
            ttl: 60,
            ttl_min: 30,
            answers: 1,
            depth: 3,
            choice: Choice::Client,
            fail: Fail::Open,
            panic: 0.0,
            of: None,
            line: 1,
        }
    }
}

#[cfg(test)]
mod tests;

//! The shape of `geodns.toml` as it is written: what serde reads, each value with its place, and the schema
//! that editors and [`shape`](super::shape) go by. What the values mean is judged in [`validate`](super::validate).

use schemars::JsonSchema;
use serde::Deserialize;

pub(super) use super::spanned::Spanned;
use super::time::TIME;
use super::{Policy, limits, monitor};

/// A configuration of geodns, an authoritative GeoDNS server. `docs/geodns.toml` explains every key.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "geodns.toml")]
pub(super) struct File {
    #[serde(default)]
    pub server: Server,
    #[serde(default)]
    pub tls: Tls,
    #[serde(default)]
    pub web: Web,
    #[serde(default)]
    pub kernel: Kernel,
    #[serde(default)]
    pub cookies: Cookies,
    #[serde(default)]
    pub rrl: Rrl,
    #[serde(default)]
    pub block: Vec<Spanned<Block>>,
    #[serde(default)]
    pub control: Control,
    pub metrics: Option<Metrics>,
    pub public: Option<Spanned<Public>>,
    #[serde(default)]
    pub state: State,
    #[serde(default)]
    pub geoip: Geoip,
    #[serde(default)]
    pub health: Health,
    #[serde(default)]
    pub notify: Vec<Spanned<Notify>>,
    #[serde(default)]
    pub fleet: Fleet,
    #[serde(default)]
    pub quorum: Quorum,
    #[serde(default)]
    pub transfer: Transfer,
    pub announce: Option<Spanned<Announce>>,
    pub dnstap: Option<Spanned<Dnstap>>,
    #[serde(default)]
    pub tsig: Vec<Tsig>,
    #[serde(default)]
    pub zone: Vec<Zone>,
    #[serde(default)]
    pub mirror: Vec<Mirror>,
    #[serde(default)]
    pub pool: Vec<Pool>,
    #[serde(default)]
    pub steer: Vec<Steer>,
}

/// The server: its addresses, port and identity.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Server {
    /// Addresses to answer on. Default: the interfaces' own.
    pub listen: Option<Spanned<Vec<Spanned<String>>>>,
    /// UDP and TCP port. Default: 53.
    #[schemars(extend("minimum" = 1, "maximum" = 65535))]
    pub port: Option<Spanned<i64>>,
    /// Answer to id.server. Default: the host name.
    pub identity: Option<Spanned<Told>>,
    /// NSID. Default: as identity.
    pub nsid: Option<Spanned<Told>>,
    /// Answer to version.bind and version.server.
    pub version: Option<Spanned<Told>>,
    /// Mirror (or nested pool) beside this node, for policy "site".
    pub site: Option<Spanned<String>>,
}

/// A text to answer with, or `false` for no answer.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
#[schemars(inline, extend("x-toml" = "a text in quotes, or false"))]
pub(super) enum Told {
    /// The text.
    Text(String),
    /// No answer, if false.
    Is(bool),
}

/// DNS over TLS, if both files are named.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Tls {
    /// Certificate chain, PEM.
    pub certificate: Option<Spanned<String>>,
    /// Private key, PEM.
    pub key: Option<Spanned<String>>,
    /// TCP port. Default: 853.
    #[schemars(extend("minimum" = 1, "maximum" = 65535))]
    pub port: Option<Spanned<i64>>,
}

/// The dashboard: pages over HTTP that change nothing.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Web {
    /// Addresses with a port, as "127.0.0.1:8053". Default: none, and no dashboard.
    pub listen: Option<Spanned<Vec<Spanned<String>>>>,
    /// Names that visitors ask for, besides addresses and localhost.
    pub host: Option<Spanned<Vec<Spanned<String>>>>,
    /// File with the token that visitors must have. Default: none.
    pub token_file: Option<Spanned<String>>,
    /// Certificate chain for HTTPS, PEM.
    pub certificate: Option<Spanned<String>>,
    /// Private key, PEM.
    pub key: Option<Spanned<String>>,
    /// Whether a proxy in front of it speaks HTTPS. Default: false.
    pub behind_proxy: Option<bool>,
}

/// The fast path.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Kernel {
    /// Interfaces that the XDP program is attached to.
    #[serde(default)]
    pub interfaces: Vec<Spanned<String>>,
    /// Way to attach. Default: "auto".
    #[schemars(extend("enum" = ["auto", "native", "generic", "off"]))]
    pub mode: Option<Spanned<String>>,
    /// Whether a start or reload fails if an interface is not there or does not take the program. Default: false.
    pub required: Option<bool>,
    /// Folder in a BPF file system. Default: /sys/fs/bpf/geodns.
    pub pin: Option<Spanned<String>>,
    /// Time that the kernel answers without the daemon. Default: "5m".
    #[schemars(extend("pattern" = TIME))]
    pub stale_after: Option<Spanned<String>>,
    /// Whether an orderly stop detaches the program, keeps it, or keeps a stub that passes everything. Default: "detach".
    #[schemars(extend("enum" = ["detach", "keep", "stub"]))]
    pub on_stop: Option<Spanned<String>>,
    /// Names in the kernel's table, at the most. Default: 2000000.
    #[schemars(extend("minimum" = 1, "maximum" = 32000000))]
    pub max_names: Option<Spanned<i64>>,
    /// Packets a second that each CPU passes to the slow path for one reason; 0: no limit. Default: 50000.
    #[schemars(extend("minimum" = 0, "maximum" = 10000000))]
    pub pass_limit: Option<Spanned<i64>>,
    /// Pinned XDP program that gets the packets that geodns passes. Default: none.
    pub next: Option<Spanned<String>>,
}

/// dnstap: queries and responses, for other programs to read.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Dnstap {
    /// Unix socket that a reader listens on.
    pub socket: Option<Spanned<String>>,
    /// File to write.
    pub file: Option<Spanned<String>>,
    /// Size at which the file is renamed and another one begun. Default: "1GiB".
    pub max_size: Option<Spanned<String>>,
    /// One query in N is told of, a power of two. Default: 1.
    #[schemars(extend("minimum" = 1, "maximum" = 1048576))]
    pub every: Option<Spanned<i64>>,
    /// Name of this server. Default: as server.identity.
    pub identity: Option<Spanned<String>>,
}

/// DNS cookies.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Cookies {
    /// Default: true.
    pub enabled: Option<bool>,
    /// One secret or two, 32 hexadecimal digits each. Default: one of this server's own.
    pub secrets: Option<Spanned<Vec<Spanned<String>>>>,
    /// File with the secrets, one on each line.
    pub secrets_file: Option<Spanned<String>>,
}

/// State that several nodes share, in etcd, if there are endpoints.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Fleet {
    /// Name of the fleet. All keys in etcd are below /geodns/NAME/.
    pub name: Option<Spanned<String>>,
    /// Endpoints of etcd, as "https://192.0.2.10:2379"; the one of this site first.
    pub etcd: Option<Spanned<Vec<Spanned<String>>>>,
    /// Certificates, PEM, that vouch for etcd. Default: the system's.
    pub ca: Option<Spanned<String>>,
    /// This node's certificate, PEM.
    pub certificate: Option<Spanned<String>>,
    /// Private key of it, PEM.
    pub key: Option<Spanned<String>>,
    /// Time that a node without etcd goes on answering; 0s: for ever. Default: "0s".
    #[schemars(extend("pattern" = TIME))]
    pub max_stale: Option<Spanned<String>>,
    /// Public keys of minisign, in base64: they sign bundles.
    pub trusted_keys: Option<Spanned<Vec<Spanned<String>>>>,
}

/// Response rate limiting.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Rrl {
    /// Responses a second to each /24 and /56; 0: no limit. Default: 0.
    #[schemars(extend("minimum" = 0, "maximum" = 1000000))]
    pub rate: Option<Spanned<i64>>,
    /// Responses at once after a pause. Default: the rate.
    #[schemars(extend("minimum" = 1, "maximum" = 10000000))]
    pub burst: Option<Spanned<i64>>,
    /// One in N queries over the limit is still answered; 0: none. Default: 2.
    #[schemars(extend("minimum" = 0, "maximum" = 100))]
    pub slip: Option<Spanned<i64>>,
    /// Octets of a UDP response without a good cookie, at the most. Default: 512.
    #[schemars(extend("minimum" = 512, "maximum" = 1232))]
    pub nocookie_udp_size: Option<Spanned<i64>>,
    /// Addresses and prefixes that are never limited.
    pub allow: Option<Spanned<Vec<Spanned<String>>>>,
    /// Only count. Default: false.
    pub dry_run: Option<bool>,
}

/// A block rule: queries that match all of its keys are dropped.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Block {
    /// Name in the question.
    pub name: Option<Spanned<String>>,
    /// Name in the question, or one above it.
    pub below: Option<Spanned<String>>,
    /// Type in the question, as "ANY".
    #[serde(rename = "type")]
    pub qtype: Option<Spanned<String>>,
    /// Source addresses or prefixes of the queries.
    pub from: Option<Vec<Spanned<String>>>,
    /// Reason.
    pub note: Option<Spanned<String>>,
}

/// The API's socket.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Control {
    /// Path of the Unix socket. Default: /run/geodns/control.sock.
    pub socket: Option<Spanned<String>>,
    /// Group whose members may read over the socket. Default: none.
    pub group: Option<Spanned<String>>,
}

/// A web server that is told of events.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Notify {
    /// http:// or https:// URL that events are posted to.
    pub url: Spanned<String>,
    /// File with the secret that notifications are signed with.
    pub secret_file: Option<Spanned<String>>,
    /// Kinds of events. Default: all that the format has a form for.
    pub on: Option<Spanned<Vec<Spanned<String>>>>,
    /// Form of the notifications. Default: "json".
    #[schemars(extend("enum" = ["json", "slack", "alertmanager"]))]
    pub format: Option<Spanned<String>>,
}

/// Pages for visitors: the mirrors of a pool.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Public {
    /// Addresses with ports of the pages, as "[::]:80". Default: none.
    pub listen: Option<Spanned<Vec<Spanned<String>>>>,
    /// Certificate chain for HTTPS, PEM. Default: none, and HTTP.
    pub certificate: Option<Spanned<String>>,
    /// Private key, PEM.
    pub key: Option<Spanned<String>>,
    /// Name of the pages. Default: any.
    pub host: Option<Spanned<String>>,
    /// Proxies whose X-Forwarded-For is believed. Default: none.
    pub trusted_proxies: Option<Spanned<Vec<Spanned<String>>>>,
    /// Pool whose mirrors are shown. Default: the only one that a name is steered to.
    pub pool: Option<Spanned<String>>,
    /// Requests a second of each /24 and /56; 0: no limit. Default: 20.
    #[schemars(extend("minimum" = 0, "maximum" = 1000000))]
    pub rate: Option<Spanned<i64>>,
}

/// Numbers for Prometheus.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Metrics {
    /// Addresses with ports that Prometheus asks, as "127.0.0.1:9533". Default: none.
    pub listen: Option<Spanned<Vec<Spanned<String>>>>,
    /// Certificate chain for HTTPS, PEM. Default: none, and HTTP.
    pub certificate: Option<Spanned<String>>,
    /// Private key, PEM.
    pub key: Option<Spanned<String>>,
    /// Series of each zone. Default: false.
    pub by_zone: Option<bool>,
    /// Series of a family by zone, or by pool and mirror, at the most. Default: 10000.
    #[schemars(extend("minimum" = 1, "maximum" = 1000000))]
    pub max_series: Option<Spanned<i64>>,
}

/// Everything that survives a restart.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct State {
    /// Its file. Default: /var/lib/geodns/state.redb.
    pub path: Option<Spanned<String>>,
}

/// Places of clients.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Geoip {
    /// MMDB files; the first that knows an address counts.
    pub databases: Option<Spanned<Vec<Spanned<String>>>>,
}

/// Routes that say how this node of an anycast set stands. With the section, even an empty one, they are made.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Announce {
    /// Prefixes of the routes. Default: a /32 or /128 of each address in server.listen that is on lo.
    pub prefixes: Option<Spanned<Vec<Spanned<String>>>>,
    /// Name of the TUN device that the routes lead to. Default: "geodns0".
    pub device: Option<Spanned<String>>,
    /// Routing table: "main", or a number. Default: "main".
    pub table: Option<Spanned<Table>>,
    /// Time between two rounds of checks. Default: "250ms".
    #[schemars(extend("pattern" = TIME))]
    pub interval: Option<Spanned<String>>,
    /// Rounds in a row that must fail before the node has failed. Default: 3.
    #[schemars(extend("minimum" = 1, "maximum" = 100))]
    pub fall: Option<Spanned<i64>>,
    /// Time without a failed round after which the node is well again. Default: "10s".
    #[schemars(extend("pattern" = TIME))]
    pub rise: Option<Spanned<String>>,
    /// Time that a drain takes; "auto": until no query comes. Default: "auto".
    pub drain: Option<Spanned<String>>,
    /// Shortest and longest time that a node which has failed stays the last resort. Default: "30s..15m".
    pub hold_down: Option<Spanned<String>>,
    /// Nodes of the fleet that stay announced: a number, or a share. Default: 1.
    pub keep: Option<Spanned<Keep>>,
    /// Sockets of BIRD and of FRR's bgpd, which geodns asks whether neighbours are told of the routes.
    pub routing: Option<Spanned<Vec<Spanned<String>>>>,
}

/// A routing table: a number, or a name.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
#[schemars(inline)]
pub(super) enum Table {
    /// Its number.
    Number(#[schemars(extend("minimum" = 1, "maximum" = 4294967295_i64))] i64),
    /// Its name: only `main` has one.
    Name(#[schemars(extend("enum" = ["main"]))] String),
}

/// Nodes that stay announced: a number, or a share of all.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
#[schemars(inline)]
pub(super) enum Keep {
    /// A number.
    Nodes(#[schemars(extend("minimum" = 0, "maximum" = 10000))] i64),
    /// A share in percent.
    Share(#[schemars(extend("pattern" = "^[0-9]+%$"))] String),
}

/// Verdicts of other monitors.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Health {
    /// Their file.
    pub feed: Option<Spanned<String>>,
}

/// Decisions of a fleet's nodes whether a mirror is up.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Quorum {
    /// Nodes with a vote that it takes. Default: 3.
    #[schemars(extend("minimum" = 2, "maximum" = 1000))]
    pub least: Option<Spanned<i64>>,
    /// Share of a pool that votes take down within a minute, at most. Default: 0.5.
    #[schemars(extend("exclusiveMinimum" = 0, "maximum" = 1))]
    pub max_down: Option<Spanned<f64>>,
    /// Treatment of a mirror that the fleet has up and this node cannot reach. Default: "ignore".
    #[schemars(extend("enum" = ["ignore", "avoid"]))]
    pub local: Option<Spanned<String>>,
}

/// Bounds of incoming zone transfers.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Transfer {
    /// Octets of one zone, at the most.
    pub max_zone: Option<Spanned<String>>,
    /// Octets of all of them.
    pub max_all: Option<Spanned<String>>,
    /// SOA queries a second to one primary after NOTIFY.
    pub notify_rate: Option<Spanned<i64>>,
    /// The same to all primaries.
    pub notify_rate_all: Option<Spanned<i64>>,
}

/// A key for zone transfers.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Tsig {
    /// A domain name.
    pub name: Spanned<String>,
    /// Default: "hmac-sha256".
    #[schemars(extend("enum" = ["hmac-sha1", "hmac-sha256", "hmac-sha384", "hmac-sha512"]))]
    pub algorithm: Option<Spanned<String>>,
    /// The secret in base64.
    pub secret: Option<Spanned<String>>,
    /// File with the secret.
    pub secret_file: Option<Spanned<String>>,
}

/// A zone.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Zone {
    /// Apex.
    pub name: Spanned<String>,
    /// Zone file.
    pub file: Option<Spanned<String>>,
    /// Servers to transfer it from, in place of a file.
    #[schemars(with = "Option<Vec<Peer>>")]
    pub primaries: Option<Spanned<Vec<Spanned<toml::Value>>>>,
    /// Addresses, prefixes and keys that may transfer it.
    pub allow_transfer: Option<Spanned<Vec<Spanned<String>>>>,
    /// Servers that get a NOTIFY when it changes.
    #[schemars(with = "Option<Vec<Peer>>")]
    pub notify: Option<Spanned<Vec<Spanned<toml::Value>>>>,
    /// Key for primaries and notify.
    pub tsig: Option<Spanned<String>>,
    /// Steered names in a transfer. Default: "flatten".
    #[schemars(extend("enum" = ["flatten", "leave-out"]))]
    pub transfer_steered: Option<Spanned<String>>,
    /// It lists other zones.
    #[schemars(extend("enum" = ["consumer", "producer"]))]
    pub catalog: Option<Spanned<String>>,
    /// Keys of the catalog's members.
    pub members: Option<Spanned<Vec<Members>>>,
    /// Catalog that lists it.
    pub in_catalog: Option<Spanned<String>>,
    /// Its group there.
    pub catalog_group: Option<Spanned<String>>,
}

/// Keys of a catalog's members.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("x-toml" = r#"{ primaries = ["192.0.2.1"] }"#))]
pub(super) struct Members {
    /// Group of these members; default: all others.
    pub group: Option<Spanned<String>>,
    /// Servers to transfer them from.
    #[schemars(with = "Option<Vec<Peer>>")]
    pub primaries: Option<Spanned<Vec<Spanned<toml::Value>>>>,
    /// Addresses, prefixes and keys that may transfer them.
    pub allow_transfer: Option<Spanned<Vec<Spanned<String>>>>,
    /// Servers that get a NOTIFY when they change.
    #[schemars(with = "Option<Vec<Peer>>")]
    pub notify: Option<Spanned<Vec<Spanned<toml::Value>>>>,
    /// Key for primaries and notify.
    pub tsig: Option<Spanned<String>>,
}

/// Another server, as the schema has it: it is read by hand.
#[derive(JsonSchema)]
#[schemars(untagged, inline)]
#[expect(dead_code, reason = "only its schema is used")]
enum Peer {
    /// Its address.
    Address(String),
    /// Its address, with a port or key.
    Table(PeerTable),
}

/// A server with a port or a key of its own.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields, inline)]
#[schemars(extend("x-toml" = r#"{ address = "192.0.2.1", port = 53, tsig = "key" }"#))]
#[expect(dead_code, reason = "only its schema is used")]
struct PeerTable {
    /// Its address.
    address: String,
    /// Default: 53.
    #[schemars(extend("minimum" = 1, "maximum" = 65535))]
    port: Option<i64>,
    /// Key.
    tsig: Option<String>,
}

/// A place that serves the site.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Mirror {
    /// Its name here.
    pub id: Spanned<String>,
    /// Its addresses.
    pub addresses: Option<Spanned<Vec<Spanned<String>>>>,
    /// Host name for a CNAME, in place of addresses.
    pub cname: Option<Spanned<String>>,
    /// Its location.
    pub location: Option<Location>,
    /// Its share where a pool chooses by weight. Default: 100.
    #[schemars(extend("minimum" = 0, "maximum" = 1000000))]
    pub weight: Option<Spanned<i64>>,
    /// Per cent that it counts as nearer (or farther, below 0). Default: 0.
    #[schemars(extend("minimum" = -99, "maximum" = 99))]
    pub bias: Option<Spanned<i64>>,
    /// Where it serves the site. Default: none.
    pub url: Option<Spanned<String>>,
    /// Who pays for it. Default: none.
    pub sponsor: Option<Spanned<String>>,
    /// ISO 3166-1, two letters. Default: none.
    pub country: Option<Spanned<String>>,
    /// Bits a second, as "10G". Default: none.
    pub bandwidth: Option<Spanned<String>>,
    /// Clients that it takes. Default: all.
    pub only: Option<Spanned<limits::File>>,
    /// Clients that it does not take. Default: none.
    pub never: Option<Spanned<limits::File>>,
    /// Check of each of its addresses. Default: none.
    pub check: Option<monitor::File>,
}

/// A place on the earth, in degrees.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("x-toml" = "{ lat = 52.4, lon = 4.9 }"))]
pub(super) struct Location {
    /// North of the equator.
    #[schemars(extend("minimum" = -90, "maximum" = 90))]
    pub lat: Spanned<f64>,
    /// East of Greenwich.
    #[schemars(extend("minimum" = -180, "maximum" = 180))]
    pub lon: Spanned<f64>,
}

/// A set of mirrors, and the policy that chooses among them.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Pool {
    /// Its name here.
    pub id: Spanned<String>,
    /// Its mirrors, by id.
    pub mirrors: Option<Spanned<Vec<Spanned<String>>>>,
    /// Or the pools that it is made of.
    pub pools: Option<Spanned<Vec<Spanned<String>>>>,
    /// Its policy.
    #[schemars(extend("enum" = Policy::NAMES.map(|(name, _)| name)))]
    pub policy: Spanned<String>,
    /// Mirror for clients at an unknown place, or several in order.
    #[schemars(with = "Option<OneOrMore>")]
    pub default: Option<Spanned<toml::Value>>,
    /// List of prefixes and their mirrors.
    pub prefixes: Option<Spanned<String>>,
    /// Rules: places of clients, and the mirrors that come first there.
    pub rules: Option<Spanned<Vec<Rule>>>,
    /// TTL of its records. Default: 60 seconds.
    pub ttl: Option<Spanned<Ttl>>,
    /// The TTL while a check could soon change the answer. Default: half of the TTL.
    pub ttl_min: Option<Spanned<Ttl>>,
    /// Mirrors in one answer. Default: 1.
    #[schemars(extend("minimum" = 1, "maximum" = 64))]
    pub answers: Option<Spanned<i64>>,
    /// Mirrors that make a region. Default: 3, or answers if that is more.
    #[schemars(extend("minimum" = 1, "maximum" = 8))]
    pub depth: Option<Spanned<i64>>,
    /// Draw by the client's prefix, or for each query. Default: "client".
    #[schemars(extend("enum" = ["client", "query"]))]
    pub choice: Option<Spanned<String>>,
    /// Answer when no mirror is in service. Default: "open".
    #[schemars(extend("enum" = ["open", "closed", "fallback"]))]
    pub fail: Option<Spanned<String>>,
    /// The pool that answers then, with fail = "fallback".
    pub fallback: Option<Spanned<String>>,
    /// Share of the mirrors in service below which checks are ignored. Default: 0.
    #[schemars(extend("minimum" = 0, "maximum" = 1))]
    pub panic: Option<Spanned<f64>>,
    /// Its location, when it is part of another pool.
    pub location: Option<Location>,
    /// Name of each mirror, with {mirror} for its id.
    #[schemars(extend("pattern" = r"\{mirror\}"))]
    pub names: Option<Spanned<String>>,
}

/// An id, or several, as the schema has it: it is read by hand.
#[derive(JsonSchema)]
#[schemars(untagged, inline)]
#[expect(dead_code, reason = "only its schema is used")]
enum OneOrMore {
    /// One.
    One(String),
    /// In order of preference.
    More(Vec<String>),
}

/// Rules: places of clients, and the mirrors that come first there.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("x-toml" = r#"{ country = "NL", mirrors = ["ams"] }"#))]
pub(super) struct Rule {
    /// AF, AN, AS, EU, NA, OC or SA.
    pub continent: Option<Spanned<String>>,
    /// ISO 3166-1, two letters.
    pub country: Option<Spanned<String>>,
    /// With a country: its ISO 3166-2 code or English name.
    pub subdivision: Option<Spanned<String>>,
    /// With a country: its English name.
    pub city: Option<Spanned<String>>,
    /// Number of an autonomous system.
    #[schemars(extend("minimum" = 1, "maximum" = 4294967295u32))]
    pub asn: Option<Spanned<i64>>,
    /// Prefix or address.
    pub prefix: Option<Spanned<String>>,
    /// Mirrors, the best first.
    pub mirrors: Spanned<Vec<Spanned<String>>>,
}

/// A name whose A and AAAA records come from a pool.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Steer {
    /// Owner name, in one of the zones.
    pub name: Spanned<String>,
    /// The pool.
    pub pool: Spanned<String>,
}

/// A TTL: seconds, or a time.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
#[schemars(inline)]
pub(super) enum Ttl {
    /// In seconds.
    Seconds(#[schemars(extend("minimum" = 0, "maximum" = 2147483647))] i64),
    /// A number and s, m, h or d.
    Time(#[schemars(extend("pattern" = TIME))] String),
}

impl Zone {
    /// Whether it is a catalog that lists our own zones.
    pub fn is_producer(&self) -> bool {
        let catalog = self.catalog.as_ref();
        catalog.is_some_and(|catalog| catalog.get_ref() == "producer")
    }
}

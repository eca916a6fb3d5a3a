//! The servers: ours and others', each in a namespace of its own with a generator at the wire's other end,
//! all on the machine's last CPU, all with the same zone and the same list of prefixes.

use std::fs;
use std::net::IpAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use geodns_tests::daemon::{self, Daemon};
use geodns_tests::dns::{self, COOKIE, Reply};
use geodns_tests::net::Space;
use geodns_tests::other_server;
use geodns_tests::packet::Frame;
use geodns_tests::peers::{self, Kind, Peer};
use geodns_tests::real::{MIRRORS, NAME, body};
use geodns_tests::rig::{Pattern, Seen};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;

use super::scenarios::{Question, SCENARIOS, SECRET, Scenario};
use super::world::{self, List, SERVER_V4, SERVER_V6, ZONE};
use crate::cpu::on_cpu;
use crate::cpu::{first, last_cpu};
use crate::flood::{By, Flood};

/// Responses a second to each prefix, where they are limited: more than the flood of 10,000 sources asks for, even
/// if some of them share a prefix.
const RATE: u32 = 100_000;
/// The same, of ours.
const LIMIT: &str = "[rrl]\nrate = 100000\n";
/// How long a server may take to read the list.
const PATIENCE: Duration = Duration::from_secs(120);
/// Addresses that the servers are asked from before they are measured.
const CHECKED: usize = 20;

/// The part that a server has in the race.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It does nothing but turn frames around: what is the most that can be.
    Reflector,
    /// It drops everything: what the generator costs.
    Discard,
    /// Ours.
    Ours,
    /// Ours, all in userspace.
    OursSlow,
    /// Another name server.
    Peer,
}

impl Role {
    /// The frames that count, of those that came back.
    pub fn counted(self, seen: Seen) -> u64 {
        match self {
            Self::Reflector => seen.queries,
            _ => seen.answers + seen.nodata + seen.nxdomain,
        }
    }
}

/// One that can be put under load.
pub struct Server {
    /// Its name in tables and plots.
    pub name: &'static str,
    /// Its part in the race.
    pub role: Role,
    /// Its version, as it says it.
    pub version: String,
    /// A remark for the report.
    pub note: &'static str,
    /// Whether it chooses by the list.
    pub steers: bool,
    /// Whether it has cookies.
    pub has_cookies: bool,
    /// Whether it limits its responses.
    pub limits: bool,
    /// How long it took from its start to its first answer.
    pub start: Duration,
    /// Memory of its process then, in octets.
    pub memory: u64,
    /// The price of counting each of its answers, if that was measured.
    pub counting: Option<Counting>,
    /// Its configuration's name and text.
    pub config: Option<(String, String)>,
    /// The queries that it gets.
    pub patterns: Vec<Pattern>,
    /// The wire to it.
    pub flood: Flood,
    process: Process,
}

/// The price of counting an answer of a server in userspace.
#[derive(Clone, Copy, Debug)]
pub struct Counting {
    /// Nanoseconds of the core.
    pub nanoseconds: f64,
    /// Percent of all that the answer takes.
    pub percent: f64,
}

enum Process {
    None,
    Ours(Daemon),
    Peer(Peer),
}

/// A peer, and what it is started with.
struct Entry {
    name: &'static str,
    note: &'static str,
    kind: Kind,
    steers: bool,
    has_cookies: bool,
    limits: bool,
    setup: peers::Setup,
}

/// A server that could not take part, and the reason.
pub type Missing = (&'static str, String);

/// Starts all of them; those that cannot be started are said, with the reason.
pub fn start(list: &Path, read: &List) -> Result<(Vec<Server>, Vec<Missing>)> {
    let mut servers = vec![
        bare("reflector", Role::Reflector, "reflect")?,
        bare("discard", Role::Discard, "discard")?,
        ours("geodns", Role::Ours, "", list)?,
        ours("geodns, userspace", Role::OursSlow, "", list)?,
        ours("geodns", Role::Ours, LIMIT, list)?,
    ];
    let mut missing = Vec::new();
    for entry in entries(read)? {
        let name = entry.name;
        eprintln!("bench: peers: {name} starts");
        match peer(entry) {
            Ok(server) => servers.push(server),
            Err(error) => {
                eprintln!("bench: peers: {name} is left out: {error:#}");
                missing.push((name, format!("{error:#}")));
            }
        }
    }
    Ok((servers, missing))
}

fn entries(list: &List) -> Result<Vec<Entry>> {
    let base = peers::Setup {
        listen: vec![SERVER_V4.parse()?, SERVER_V6.parse()?],
        patience: Some(PATIENCE),
        ..peers::Setup::default()
    };
    let with_zone = |steered: &str| peers::Setup {
        zones: vec![(ZONE.to_owned(), world::zone_file(steered))],
        ..base.clone()
    };
    let knot = |more: &str, limits: bool| -> Result<peers::Setup> {
        let module = other_server("geoip.so")?;
        // It refuses who has no good cookie, so it has them only where all have one, or no OPT at all.
        let modules = match limits {
            true => format!(
                "mod-cookies:\n  - id: shared\n    secret: 0x{SECRET}\n\
                 mod-rrl:\n  - id: high\n    rate-limit: {RATE}\n\
                 template:\n  - id: default\n    global-module: [mod-cookies/shared, mod-rrl/high]\n"
            ),
            false => String::new(),
        };
        Ok(peers::Setup {
            files: vec![("world.yaml".to_owned(), list.for_knot().into_bytes())],
            rest: format!(
                "server:\n  edns-client-subnet: on\n{more}module:\n  - id: mod-geoip\n    file: \"{}\"\n\
                 mod-geoip:\n  - id: world\n    config-file: \"{{folder}}/world.yaml\"\n    ttl: 60\n    \
                 mode: subnet\n{modules}",
                module.display()
            ),
            of_zone: "    module: mod-geoip/world\n".to_owned(),
            ..with_zone(&world::as_records(0))
        })
    };
    let nsd = |rate: u32| {
        format!(
            "server:\n  answer-cookie: yes\n  cookie-secret: {SECRET}\n  \
             rrl-ratelimit: {rate}\n  rrl-whitelist-ratelimit: {rate}\n"
        )
    };
    let bind = |more: &str| {
        format!(
            "  geoip-directory \"{{folder}}\";\n  cookie-algorithm siphash24;\n  \
             cookie-secret \"{SECRET}\";\n{more}"
        )
    };
    let (views, files) = world::bind_views();
    let database = list.as_database();
    let mut bind_files = files;
    bind_files.push(("GeoLite2-Country.mmdb".to_owned(), database.clone()));
    let backend = other_server("libgeoipbackend.so")?.canonicalize()?;
    let backend = backend.parent().context("a folder of modules")?;
    Ok(vec![
        Entry {
            name: "Knot DNS, AF_XDP",
            note: "mod-geoip, `mode: subnet`, with the list; no cookies: mod-cookies refuses who has no good one; an XDP \
                   socket on the interface",
            kind: Kind::Knot,
            steers: true,
            has_cookies: false,
            limits: false,
            setup: knot("xdp:\n  listen: eth0@53\n", false)?,
        },
        Entry {
            name: "Knot DNS, UDP",
            note: "mod-geoip, `mode: subnet`, with the list; no cookies",
            kind: Kind::Knot,
            steers: true,
            has_cookies: false,
            limits: false,
            setup: knot("", false)?,
        },
        Entry {
            name: "NSD",
            note: "knows no geography: everybody gets the same mirror",
            kind: Kind::Nsd,
            steers: false,
            has_cookies: true,
            limits: false,
            setup: peers::Setup {
                rest: nsd(0),
                ..with_zone(&world::as_records(0))
            },
        },
        Entry {
            name: "gdnsd",
            note: "plugin geoip, the list as `nets`; its cookies are of its own kind; it has no limit of responses",
            kind: Kind::Gdnsd,
            steers: true,
            has_cookies: true,
            limits: false,
            setup: peers::Setup {
                files: vec![("geoip/world".to_owned(), list.for_gdnsd().into_bytes())],
                rest: world::gdnsd_plugin(),
                ..with_zone("www 60 DYNA geoip!www\n")
            },
        },
        Entry {
            name: "BIND",
            note: "a view for each mirror, `match-clients { geoip country }`, the list told as countries in an \
                   MMDB; knows no client subnets",
            kind: Kind::Bind,
            steers: true,
            has_cookies: true,
            limits: false,
            setup: peers::Setup {
                files: bind_files.clone(),
                options: bind(""),
                rest: views.clone(),
                ..base.clone()
            },
        },
        Entry {
            name: "PowerDNS",
            note: "backend geoip, `services` by country, the list told as countries in an MMDB; no cookies: it \
                   refuses who has no good one; it has no limit of responses",
            kind: Kind::Pdns,
            steers: true,
            has_cookies: false,
            limits: false,
            setup: peers::Setup {
                files: vec![
                    ("world.mmdb".to_owned(), database),
                    ("world.yaml".to_owned(), world::for_pdns().into_bytes()),
                ],
                rest: format!(
                    "module-dir={}\nlaunch=geoip\ngeoip-zones-file={{folder}}/world.yaml\n\
                     geoip-database-files={{folder}}/world.mmdb\nedns-subnet-processing=yes\n",
                    backend.display()
                ),
                ..base.clone()
            },
        },
        Entry {
            name: "Knot DNS, AF_XDP",
            note: "the same, mod-rrl and mod-cookies",
            kind: Kind::Knot,
            steers: true,
            has_cookies: true,
            limits: true,
            setup: knot("xdp:\n  listen: eth0@53\n", true)?,
        },
        Entry {
            name: "NSD",
            note: "the same, and rrl-ratelimit",
            kind: Kind::Nsd,
            steers: false,
            has_cookies: true,
            limits: true,
            setup: peers::Setup {
                rest: nsd(RATE),
                ..with_zone(&world::as_records(0))
            },
        },
        Entry {
            name: "BIND",
            note: "the same, and rate-limit",
            kind: Kind::Bind,
            steers: true,
            has_cookies: true,
            limits: true,
            setup: peers::Setup {
                files: bind_files,
                // 1,000 is its most.
                options: bind("  rate-limit { responses-per-second 1000; };\n"),
                rest: views,
                ..base.clone()
            },
        },
    ])
}

/// The wire: addresses on the server's end, and everything behind the generator.
fn wire() -> Result<Flood> {
    let flood = Flood::new(NAME)?;
    flood.address_server()?;
    Ok(flood)
}

/// A program of the rig alone.
fn bare(name: &'static str, role: Role, program: &str) -> Result<Server> {
    let flood = wire()?;
    flood.server().attach("eth0", program)?;
    Ok(Server {
        name,
        role,
        version: String::new(),
        note: "",
        steers: false,
        has_cookies: false,
        limits: false,
        start: Duration::ZERO,
        memory: 0,
        counting: None,
        config: None,
        patterns: Vec::new(),
        flood,
        process: Process::None,
    })
}

fn ours(name: &'static str, role: Role, limit: &str, list: &Path) -> Result<Server> {
    let flood = wire()?;
    let mode = match role {
        Role::Ours => "native",
        _ => "off",
    };
    let cookies = format!("[cookies]\nsecrets = [{SECRET:?}]\n{limit}");
    let body = (cookies + &body(Some(list)))
        .replace("default = \"iad\"", "default = \"iad\"\nttl = 60")
        .replace(
            "[[steer]]\nname = \"*.cdn.example.org\"\npool = \"www\"\n",
            "",
        );
    let setup = daemon::Setup::new(&[SERVER_V4, SERVER_V6])
        .mode(mode)
        .body(&body)
        .file("example.org.zone", &world::zone_file(""));
    let start = Instant::now();
    let daemon = on_cpu(last_cpu()?, || {
        first(1, || Daemon::start(flood.server(), &setup))
    })?;
    let start = start.elapsed();
    let note = match role {
        Role::Ours if limit.is_empty() => "policy `table` with the list; native XDP",
        Role::Ours => "the same with `[rrl]`",
        _ => "the same with `kernel.mode = \"off\"`",
    };
    Ok(Server {
        name,
        role,
        version: format!("geodns {}", env!("CARGO_PKG_VERSION")),
        note,
        steers: true,
        has_cookies: true,
        limits: !limit.is_empty(),
        start,
        memory: memory(daemon.pid().context("it runs")?)?,
        counting: None,
        config: Some((
            format!("{}.toml", file_name(name, !limit.is_empty())),
            fs::read_to_string(daemon.home.config())?,
        )),
        patterns: Vec::new(),
        flood,
        process: Process::Ours(daemon),
    })
}

fn peer(entry: Entry) -> Result<Server> {
    let flood = wire()?;
    let space: &Space = flood.server();
    let start = Instant::now();
    let started = || first(1, || Peer::start(space, entry.kind, &entry.setup));
    let mut peer = on_cpu(last_cpu()?, started)?;
    let at = entry.setup.listen.first().context("it listens")?;
    peer.wait_for(space, *at, ZONE)?;
    let start = start.elapsed();
    keep_on_last_cpu(peer.pid())?;
    let config = peer.config()?;
    Ok(Server {
        name: entry.name,
        role: Role::Peer,
        version: peer.version.clone(),
        note: entry.note,
        steers: entry.steers,
        has_cookies: entry.has_cookies,
        limits: entry.limits,
        start,
        memory: memory(peer.pid())?,
        counting: None,
        config: Some((
            format!("{}.conf", file_name(entry.name, entry.limits)),
            config,
        )),
        patterns: Vec::new(),
        flood,
        process: Process::Peer(peer),
    })
}

/// A server's name as that of a file.
fn file_name(name: &str, limits: bool) -> String {
    let words = name.split(|c: char| !c.is_ascii_alphanumeric());
    let words = words.filter(|word| !word.is_empty());
    let words: Vec<_> = words.chain(limits.then_some("limits")).collect();
    words.join("-").to_lowercase()
}

/// Keeps all threads of a process on the last CPU: Knot DNS has put them where it likes.
fn keep_on_last_cpu(pid: u32) -> Result<()> {
    let mut set = CpuSet::new();
    set.set(last_cpu()?)?;
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        let name = task?.file_name();
        let id = name.to_str().and_then(|name| name.parse().ok());
        sched_setaffinity(Pid::from_raw(id.context("a thread's id")?), &set)?;
    }
    Ok(())
}

/// Octets of a process that are in memory.
fn memory(pid: u32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|rest| rest.trim().strip_suffix(" kB"));
    Ok(kib.context("no VmRSS")?.parse::<u64>()? * 1024)
}

impl Server {
    /// Whether it is asked in a scenario: where responses are limited, those that limit them.
    pub fn takes_part(&self, scenario: &Scenario) -> bool {
        match self.role {
            Role::Reflector | Role::Discard => true,
            _ => self.limits == scenario.limits,
        }
    }

    /// Whether it answers in the kernel, before anything else of the core.
    pub fn is_in_kernel(&self) -> bool {
        matches!(self.role, Role::Reflector | Role::Discard | Role::Ours)
    }

    /// By what its paced load is sent.
    pub fn by(&self) -> By {
        match self.is_in_kernel() {
            true => By::Generator,
            false => By::Socket,
        }
    }

    /// The frames that count, of those that came back.
    pub fn counted(&self, seen: Seen) -> u64 {
        self.role.counted(seen)
    }

    /// Sets what it is asked.
    pub fn prepare(&mut self, scenario: &Scenario, list: &List) -> Result<()> {
        let clients = match scenario.is_v6 {
            true => list.clients_v6(),
            false => list.clients(),
        };
        self.flood.rig().set_clients(&clients)?;
        self.patterns = scenario.patterns()?;
        self.flood.ask(&self.patterns)
    }

    /// Ends it.
    pub fn stop(self) -> Result<()> {
        match self.process {
            Process::None => Ok(()),
            Process::Ours(mut daemon) => daemon.stop(),
            Process::Peer(peer) => peer.stop(),
        }
    }
}

/// Asks all servers the same, from several clients, and compares: who answers something else does
/// something else. Whom the list steers must get its mirror.
pub fn check(servers: &mut [Server], list: &List) -> Result<()> {
    for server in servers
        .iter_mut()
        .filter(|server| !matches!(server.role, Role::Reflector | Role::Discard))
    {
        let limits = server.limits;
        for scenario in SCENARIOS.iter().filter(|of| of.limits == limits) {
            let clients = match scenario.is_v6 {
                true => list.clients_v6(),
                false => list.clients(),
            };
            let clients = clients.into_iter();
            // Of others a client subnet does not say who it is.
            for client in clients.filter(|one| list.is_whole(*one)).take(CHECKED) {
                for (question, pattern) in scenario.singles(client) {
                    check_one(server, &question, &pattern, list.mirror_of(client)).with_context(
                        || format!("{}: {}: from {client}", server.name, scenario.what),
                    )?;
                }
            }
        }
    }
    Ok(())
}

fn check_one(
    server: &mut Server,
    question: &Question,
    pattern: &Pattern,
    mirror: usize,
) -> Result<()> {
    let frame = server.flood.ask_once(pattern, Duration::from_secs(2))?;
    let frame = Frame::parse(&frame.context("no answer")?).context("a frame of no UDP")?;
    let reply = Reply::parse(&frame.message)?;
    if question.has_cookie() && server.has_cookies {
        let options = reply.opt.iter().flat_map(|opt| &opt.options);
        let mut cookies = options.filter(|(code, _)| *code == COOKIE);
        ensure!(
            // The client's and the server's (RFC 7873 section 4).
            cookies.any(|(_, cookie)| (16..=40).contains(&cookie.len())),
            "no cookie: {reply}"
        );
    }
    if !question.is_steered() {
        ensure!(reply.flags & dns::AA != 0, "no authority: {reply}");
        return Ok(());
    }
    let of = [reply.of("A"), reply.of("AAAA")].concat();
    let [address] = of.as_slice() else {
        bail!("one address is expected: {reply}");
    };
    let address: IpAddr = address.parse()?;
    // Who knows no geography gives the first to everybody.
    let expected = if server.steers { mirror } else { 0 };
    ensure!(
        world::mirror_at(address) == Some(expected),
        "{} is expected: {reply}",
        MIRRORS[expected].0
    );
    Ok(())
}

//! From the file's shape to a [`Config`]: every value judged, every reference resolved.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use geodns_common::abi;
use ipnet::IpNet;

use super::file::{self, Spanned};
use super::found::Found;
use super::merge::shared_digest;
use super::reader::{Judged, Reader, Said};
use super::source::Source;
use super::time::duration;
use super::{
    CertificateFiles, Config, DnsOverTls, Error, Kernel, Limits, Location, Mirror, Mode, OnStop,
    Overrides, Pool, Server, Steer, Told, is_id, limits, monitor,
};
use crate::base::name::{Name, parse_name, parse_owner};
use crate::files;

/// TTLs are below 2^31 (RFC 2181 section 8).
pub(super) const MAX_TTL: u32 = i32::MAX as u32;
/// Addresses of one mirror and family, at the most: 64 mirrors of these are an answer of 57,344
/// octets, which a message can still carry.
const MAX_ADDRESSES: usize = 32;
/// Weight of a mirror, at the most.
const MAX_WEIGHT: u32 = 1_000_000;
/// Addresses listened on, at the most: each is several sockets, and a row of the program's table for
/// every interface.
const MAX_LISTEN: usize = 512;
/// `sun_path` has 108 octets, the last of them zero.
const MAX_SOCKET_PATH: usize = 107;
/// IFNAMSIZ has 16 octets, the last of them zero.
const MAX_INTERFACE: usize = 15;
/// The longest `stale_after`, and `max_stale`.
pub(super) const MAX_STALE: Duration = Duration::from_secs(365 * 24 * 3600);

/// Names in the program's name table, unless the file says otherwise: a table of 128 MiB.
const DEFAULT_NAMES: u32 = 2_000_000;
/// Names in the program's name table, at the most.
const MAX_NAMES: u32 = 32_000_000;
/// Packets a second that are passed to the slow path for a reason.
const DEFAULT_PASS_LIMIT: u32 = 50_000;
/// The most of them: more is no limit.
const MAX_PASS_LIMIT: u32 = 10_000_000;

/// Validates a file of the right shape.
pub(super) fn validate<'a>(
    source: &'a Source<'a>,
    found: &'a Found,
    file: file::File,
    overrides: &'a Overrides,
    own_from: usize,
) -> Result<Config, Vec<Error>> {
    let of = |path: &'a Path| path.parent().unwrap_or(Path::new(""));
    let folder = of(source.path);
    let own = overrides.node.as_deref().map_or(folder, of);
    let reader = Reader {
        source,
        found,
        folder,
        own: (own_from, own),
        errors: RefCell::default(),
    };
    let site = file.server.site.clone();
    let server = reader.server(file.server);
    let tls = reader.tls(file.tls, server.port).unwrap_or(None);
    let web = reader.web(file.web).ok();
    let kernel = reader.kernel(file.kernel, overrides);
    let cookies = reader.cookies(file.cookies).ok();
    let rrl = reader.rrl(file.rrl).ok();
    let blocks = reader.blocks(file.block).ok();
    let socket = reader.socket(file.control.socket).unwrap_or_default();
    let metrics = file.metrics.map(|metrics| reader.metrics(metrics));
    let metrics = metrics.transpose().ok();
    let group = file.control.group.map(|group| reader.readers(&group));
    let group = group.transpose().ok();
    let state = reader.path(file.state.path, "state.path", "/var/lib/geodns/state.redb");
    let state = state.unwrap_or_default();
    let health_feed = file.health.feed.and_then(|feed| {
        let feed = reader.path(Some(feed), "health.feed", "");
        feed.ok().map(|(feed, _)| feed)
    });
    let notify = reader.notify(file.notify).ok();
    let fleet = reader.fleet(file.fleet).ok();
    let quorum = reader.quorum(file.quorum).ok();
    let transfer = reader.inward(file.transfer).ok();
    let announce = file
        .announce
        .map(|announce| reader.announce(announce, server.listen.as_deref()));
    let announce = announce.transpose().ok();
    let dnstap = file.dnstap.map(|dnstap| reader.dnstap(dnstap));
    let dnstap = dnstap.transpose().ok();
    let keys = reader.keys(file.tsig);
    let zones = reader.zones(file.zone, &keys).ok();
    let (mirrors, by_id) = reader.mirrors(file.mirror);
    let databases = reader.databases(file.geoip);
    let (mut pools, pool_by_id) = reader.pools(&file.pool, &mirrors, &by_id, site.as_ref());
    let mut steers = reader.steers(file.steer, &pools, &pool_by_id);
    let public = file.public;
    let public = public.map(|public| reader.public(public, &pools, &pool_by_id, &steers));
    let public = public.transpose().ok();
    reader.names(&file.pool, &mirrors, &mut pools, &mut steers);
    let errors = reader.errors.into_inner();
    if !errors.is_empty() {
        return Err(errors);
    }
    let config = || {
        Some(Config {
            path: source.path.to_owned(),
            shared_digest: shared_digest(source.text),
            server,
            tls,
            web: web?,
            kernel,
            cookies: cookies?,
            rrl: rrl?,
            blocks: blocks?,
            socket,
            metrics: metrics?,
            group: group?,
            public: public?,
            state: state.0,
            databases,
            health_feed,
            notify: notify?,
            fleet: fleet?,
            quorum: quorum?,
            transfer: transfer?,
            announce: announce?,
            dnstap: dnstap?,
            keys,
            zones: zones?,
            mirrors,
            pools,
            steers,
        })
    };
    // What is not there has said why.
    config().ok_or_else(Vec::new)
}

impl Reader<'_> {
    fn socket(&self, socket: Option<Spanned<String>>) -> Judged<PathBuf> {
        const KEY: &str = "control.socket";
        let (path, span) = self.path(socket, KEY, super::DEFAULT_SOCKET)?;
        if path.as_os_str().len() <= MAX_SOCKET_PATH {
            return Ok(path);
        }
        let message = format!(
            "{} is longer than {MAX_SOCKET_PATH} octets; a Unix socket needs a shorter path",
            path.display()
        );
        self.error(span, KEY, message)
    }

    fn readers(&self, group: &Spanned<String>) -> Judged<String> {
        let name = group.get_ref();
        let is_name = |letter: char| letter.is_ascii_alphanumeric() || "_.-".contains(letter);
        if (1..=32).contains(&name.len()) && name.chars().all(is_name) {
            return Ok(name.clone());
        }
        let message = format!("{name:?} is no name of a group; write one, such as \"geodns-ro\"");
        self.error(group.span(), "control.group", message)
    }

    fn server(&self, file: file::Server) -> Server {
        let listen = match file.listen {
            None => None,
            Some(list) if list.get_ref().is_empty() => {
                let message = "empty; name an address, or leave the key out to answer on the \
                               interfaces' own addresses";
                self.complain(list.span(), "server.listen", message);
                None
            }
            Some(list) if list.get_ref().len() > MAX_LISTEN => {
                let message = format!(
                    "{} addresses; {MAX_LISTEN} is the most",
                    list.get_ref().len()
                );
                self.complain(list.span(), "server.listen", message);
                None
            }
            Some(list) => Some(self.addresses(list.get_ref(), "server.listen")),
        };
        let port = match file.port {
            None => 53,
            Some(port) => self
                .number(port, "server.port", 1, u16::MAX.into())
                .unwrap_or(53) as u16,
        };
        Server {
            listen,
            port,
            // A character-string of `id.server` (RFC 4892) holds 255 octets.
            identity: self.told(file.identity, "server.identity", 255),
            nsid: self.told(file.nsid, "server.nsid", abi::NSID_MAX),
            version: self.told(file.version, "server.version", 255),
            // Judged with the pools.
            site: file.site.map(Spanned::into_inner),
        }
    }

    /// Reads an identity: text of `most` octets at the most, or false.
    fn told(&self, told: Option<Spanned<file::Told>>, key: &str, most: usize) -> Told {
        let Some(told) = told else {
            return Told::Default;
        };
        let span = told.span();
        let message = match told.into_inner() {
            file::Told::Is(false) => return Told::Nothing,
            file::Told::Text(text) if (1..=most).contains(&text.len()) => {
                return Told::Text(text);
            }
            file::Told::Text(text) => format!(
                "{} octets; write 1 to {most}, or false to tell nobody, or leave the key out",
                text.len()
            ),
            file::Told::Is(true) => {
                "true; write a text in quotes, or false to tell nobody, or leave the key out"
                    .to_owned()
            }
        };
        self.complain(span, key, message);
        Told::Default
    }

    fn tls(&self, file: file::Tls, plain: u16) -> Judged<Option<DnsOverTls>> {
        let port_span = file.port.as_ref().map(Spanned::span);
        let port = match file.port {
            None => 853,
            Some(port) => self
                .number(port, "tls.port", 1, u16::MAX.into())
                .unwrap_or(853) as u16,
        };
        let is_on = file.certificate.is_some() && file.key.is_some();
        if is_on && port == plain {
            let message = format!("{port} is server.port; write another, as 853");
            let certificate = file.certificate.as_ref().map(Spanned::span);
            let place = port_span.or(certificate).unwrap_or_default();
            self.complain(place, "tls.port", message);
        }
        let files = self.certificate_files(file.certificate, file.key, "tls")?;
        Ok(files.map(|files| DnsOverTls { files, port }))
    }

    /// The files of a section's certificate, if it names them.
    pub(super) fn certificate_files(
        &self,
        certificate: Option<Spanned<String>>,
        key: Option<Spanned<String>>,
        section: &str,
    ) -> Judged<Option<CertificateFiles>> {
        let keys = [format!("{section}.certificate"), format!("{section}.key")];
        let (certificate, key) = match (certificate, key) {
            (None, None) => return Ok(None),
            (Some(certificate), Some(key)) => (certificate, key),
            (Some(alone), None) => {
                let message = "missing; name the certificate's private key";
                return Err(self.misfit(alone.span(), &keys[1], message));
            }
            (None, Some(alone)) => {
                let message = "missing; name the key's certificate";
                return Err(self.misfit(alone.span(), &keys[0], message));
            }
        };
        let certificate = self.path(Some(certificate), &keys[0], "");
        let key = self.path(Some(key), &keys[1], "");
        Ok(Some(CertificateFiles {
            certificate: certificate?.0,
            key: key?.0,
        }))
    }

    fn databases(&self, file: file::Geoip) -> Vec<PathBuf> {
        let mut databases = Vec::new();
        for path in file.databases.map(Spanned::into_inner).unwrap_or_default() {
            let span = path.span();
            let path = self.path(Some(path), "geoip.databases", "");
            let Ok((path, _)) = path else {
                continue;
            };
            if databases.contains(&path) {
                let message = format!("{} stands here twice; remove one", path.display());
                self.complain(span, "geoip.databases", message);
            }
            databases.push(path);
        }
        databases
    }

    fn kernel(&self, file: file::Kernel, overrides: &Overrides) -> Kernel {
        let mut interfaces: Vec<String> = Vec::new();
        for interface in file.interfaces {
            let (span, name) = (interface.span(), interface.into_inner());
            match interface_name(&name, &interfaces) {
                Ok(()) => interfaces.push(name),
                Err(message) => {
                    self.complain(span, "kernel.interfaces", message);
                }
            }
        }
        if !overrides.interfaces.is_empty() {
            interfaces.clear();
            for name in &overrides.interfaces {
                let good = interface_name(name, &interfaces).map_err(|message| Error {
                    file: self.source.path.to_owned(),
                    line: None,
                    column: None,
                    key: Some("--iface".to_owned()),
                    message,
                });
                if let Err(error) = good {
                    self.say(error);
                }
                interfaces.push(name.clone());
            }
        }
        let mode = self.one_of(
            file.mode,
            "kernel.mode",
            Mode::Auto,
            &[
                ("auto", Mode::Auto),
                ("native", Mode::Native),
                ("generic", Mode::Generic),
                ("off", Mode::Off),
            ],
        );
        let mode = mode.unwrap_or(Mode::Auto);
        let on_stop = self.one_of(
            file.on_stop,
            "kernel.on_stop",
            OnStop::Detach,
            &[
                ("detach", OnStop::Detach),
                ("keep", OnStop::Keep),
                ("stub", OnStop::Stub),
            ],
        );
        let on_stop = on_stop.unwrap_or(OnStop::Detach);
        let default = Duration::from_secs(300);
        let stale_after = match file.stale_after {
            None => default,
            Some(text) => self.stale_after(&text).unwrap_or(default),
        };
        let max_names = match file.max_names {
            None => DEFAULT_NAMES,
            Some(number) => self
                .number(number, "kernel.max_names", 1, MAX_NAMES)
                .unwrap_or(1),
        };
        let pass_limit = match file.pass_limit {
            None => DEFAULT_PASS_LIMIT,
            Some(number) => self
                .number(number, "kernel.pass_limit", 0, MAX_PASS_LIMIT)
                .unwrap_or(0),
        };
        let next = file.next;
        let next = next.map(|path| self.path(Some(path), "kernel.next", ""));
        let pin = self.pin(file.pin);
        Kernel {
            interfaces,
            mode,
            required: file.required.unwrap_or(false),
            pin: pin.unwrap_or_default(),
            stale_after,
            on_stop,
            max_names,
            pass_limit,
            next: next.and_then(Result::ok).map(|(path, _)| path),
        }
    }

    /// The folder of pins. The kernel takes no dot in the name of a folder that it makes in a bpffs.
    fn pin(&self, value: Option<Spanned<String>>) -> Judged<PathBuf> {
        const KEY: &str = "kernel.pin";
        let (path, span) = self.path(value, KEY, super::DEFAULT_PIN)?;
        // Folders above the bpffs may have one.
        let below = path.strip_prefix("/sys/fs/bpf").ok();
        let made = below.or(path.file_name().map(Path::new));
        if made.is_some_and(|made| made.to_string_lossy().contains('.')) {
            let message = format!(
                "{:?} has a dot, which no name in a bpffs may have; write another name",
                path.display()
            );
            return self.error(span, KEY, message);
        }
        Ok(path)
    }

    fn stale_after(&self, text: &Spanned<String>) -> Judged<Duration> {
        const KEY: &str = "kernel.stale_after";
        let message = match duration(text.get_ref()) {
            Some(time) if (Duration::from_secs(1)..=MAX_STALE).contains(&time) => return Ok(time),
            Some(_) => format!(
                "{:?} is out of range; write \"1s\" to \"365d\"",
                text.get_ref()
            ),
            None => not_a_time(text.get_ref()),
        };
        self.error(text.span(), KEY, message)
    }

    /// All mirrors, and their indices by id. Those of which something is wrong are there too, for those who
    /// name them.
    fn mirrors(&self, file: Vec<file::Mirror>) -> (Vec<Mirror>, HashMap<String, usize>) {
        let mut mirrors = Vec::new();
        let mut by_id: HashMap<String, usize> = HashMap::new();
        let mut lines: Vec<usize> = Vec::new();
        for mirror in file {
            let id = self.id(&mirror.id, "mirror.id");
            let id = id.unwrap_or_else(|Said| mirror.id.get_ref().clone());
            if let Some(&first) = by_id.get(&id) {
                let message = format!(
                    "{id:?} is already the mirror of line {}; rename one",
                    lines[first]
                );
                self.complain(mirror.id.span(), "mirror.id", message);
            } else {
                by_id.insert(id.clone(), mirrors.len());
            }
            lines.push(self.source.line(mirror.id.span().start));
            let (v4, v6) = self.mirror_addresses(&id, &mirror).unwrap_or_default();
            // With addresses too it has been complained of.
            let cname = self.mirror_cname(&mirror).unwrap_or(None);
            let cname = cname.filter(|_| mirror.addresses.is_none());
            let location = mirror.location.as_ref();
            let location = location.map(|location| self.location(location, "mirror.location"));
            let profile = self.profile(&mirror);
            let weight = mirror.weight.map(|weight| {
                self.number(weight, "mirror.weight", 0, MAX_WEIGHT)
                    .unwrap_or(0)
            });
            let bias = match &mirror.bias {
                Some(bias) if (-99..=99).contains(bias.get_ref()) => *bias.get_ref() as i8,
                Some(bias) => {
                    let message = format!("{} is out of range; write -99 to 99", bias.get_ref());
                    self.complain(bias.span(), "mirror.bias", message);
                    0
                }
                None => 0,
            };
            let clients = |key: &str, of: Option<Spanned<limits::File>>| {
                of.map(|of| limits::clients(self, key, of).unwrap_or_default())
            };
            let limits = Limits {
                only: clients("mirror.only", mirror.only),
                never: clients("mirror.never", mirror.never),
            };
            if let (Some(check), Some(_)) = (&mirror.check, &mirror.cname) {
                let message = "not used with a cname: only addresses are checked; remove it";
                self.complain(check.place(), "mirror.check", message);
            }
            let check = mirror.check.map(|check| monitor::check(self, check));
            mirrors.push(Mirror {
                id,
                v4,
                v6,
                check: check.and_then(Result::ok),
                cname,
                location,
                weight: weight.unwrap_or(100),
                bias,
                limits,
                profile,
            });
        }
        (mirrors, by_id)
    }

    /// A mirror's addresses by family, sorted; none if it has a `cname`.
    fn mirror_addresses(
        &self,
        id: &str,
        mirror: &file::Mirror,
    ) -> Judged<(Vec<Ipv4Addr>, Vec<Ipv6Addr>)> {
        const KEY: &str = "mirror.addresses";
        let Some(list) = &mirror.addresses else {
            return match mirror.cname {
                Some(_) => Ok((Vec::new(), Vec::new())),
                None => {
                    let message = format!("missing; mirror {id:?} needs addresses, or a cname");
                    Err(self.misfit(mirror.id.span(), KEY, message))
                }
            };
        };
        if mirror.cname.is_some() {
            let message = "a mirror has addresses or a cname, not both; remove one".to_owned();
            return self.error(list.span(), KEY, message);
        }
        if list.get_ref().is_empty() {
            let message = format!("mirror {id:?} has none; give it an IPv4 or IPv6 address");
            return self.error(list.span(), KEY, message);
        }
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for address in self.addresses(list.get_ref(), KEY) {
            match address {
                IpAddr::V4(address) => v4.push(address),
                IpAddr::V6(address) => v6.push(address),
            }
        }
        if v4.len().max(v6.len()) > MAX_ADDRESSES {
            let message = format!(
                "mirror {id:?} has more than {MAX_ADDRESSES} of one family; make it several mirrors"
            );
            return self.error(list.span(), KEY, message);
        }
        v4.sort_unstable();
        v6.sort_unstable();
        Ok((v4, v6))
    }

    fn mirror_cname(&self, mirror: &file::Mirror) -> Judged<Option<Name>> {
        let Some(text) = &mirror.cname else {
            return Ok(None);
        };
        const KEY: &str = "mirror.cname";
        if text.get_ref().parse::<IpAddr>().is_ok() {
            let message = format!(
                "{:?} is an address; write it in addresses, or a host name here",
                text.get_ref()
            );
            return self.error(text.span(), KEY, message);
        }
        let name = self.name(text, KEY)?;
        // Letters, digits and hyphens (RFC 1123 section 2.1), and the underscore that some have.
        let plain = |&byte: &u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
        if name.is_root() || !name.iter().all(|label| label.as_slice().iter().all(plain)) {
            let message = format!(
                "{:?} is no host name; write one, as \"www.example.org\"",
                text.get_ref()
            );
            return self.error(text.span(), KEY, message);
        }
        Ok(Some(name))
    }

    /// A place on the earth.
    pub(super) fn location(&self, location: &file::Location, key: &str) -> Location {
        let degrees = |value: &Spanned<f64>, key: String, most: f64| {
            if value.get_ref().abs() <= most {
                return Ok(*value.get_ref());
            }
            let message = format!(
                "{} is out of range; write -{most} to {most}",
                value.get_ref()
            );
            self.error(value.span(), &key, message)
        };
        let degrees = |value: &Spanned<f64>, of: &str, most| {
            degrees(value, format!("{key}.{of}"), most).unwrap_or(0.0)
        };
        Location {
            lat: degrees(&location.lat, "lat", 90.0),
            lon: degrees(&location.lon, "lon", 180.0),
        }
    }

    fn steers(
        &self,
        file: Vec<file::Steer>,
        pools: &[Pool],
        pool_by_id: &HashMap<String, usize>,
    ) -> Vec<Steer> {
        let mut steers: Vec<Steer> = Vec::new();
        let mut lines: HashMap<Name, usize> = HashMap::new();
        for steer in file {
            let line = self.source.line(steer.name.span().start);
            let name = parse_owner(steer.name.get_ref())
                .or_else(|message| self.error(steer.name.span(), "steer.name", message));
            if let Ok(name) = &name
                && let Some(first) = lines.insert(name.clone(), line)
            {
                let message = format!("{name} is already steered by line {first}; remove one");
                self.complain(steer.name.span(), "steer.name", message);
            }
            let pool = pool_by_id.get(steer.pool.get_ref()).ok_or_else(|| {
                let message = format!(
                    "no pool {:?}; {}",
                    steer.pool.get_ref(),
                    there_are(pools.iter().map(|pool| &pool.id), "[[pool]]")
                );
                self.unknown(steer.pool.span(), "steer.pool", &["pool"], message)
            });
            if let (Ok(name), Ok(&pool)) = (name, pool) {
                steers.push(Steer { name, pool, line });
            }
        }
        steers
    }

    /// A path, resolved against the file's folder, and where it stands.
    pub(super) fn path(
        &self,
        value: Option<Spanned<String>>,
        key: &str,
        default: &str,
    ) -> Judged<(PathBuf, Range<usize>)> {
        let Some(value) = value else {
            return Ok((default.into(), 0..0));
        };
        if value.get_ref().is_empty() || value.get_ref().chars().any(char::is_control) {
            let message = format!("{:?} is not a path; write one", value.get_ref());
            return self.error(value.span(), key, message);
        }
        let (from, own) = self.own;
        let folder = if value.span().start < from {
            self.folder
        } else {
            own
        };
        let path = folder.join(value.get_ref());
        if key != "kernel.pin" && path.is_dir() {
            let message = format!(
                "{}: it is a folder, and must be a regular file",
                path.display()
            );
            return self.error(value.span(), key, message);
        }
        Ok((path, value.span()))
    }

    /// Reads the file that a key names: its text, and the place of the key.
    pub(super) fn text_of(
        &self,
        file: Spanned<String>,
        key: &str,
    ) -> Judged<(String, Range<usize>)> {
        let (path, span) = self.path(Some(file), key, "")?;
        match files::read_to_string(&path) {
            Ok(text) => Ok((text, span)),
            Err(error) => {
                let message = format!(
                    "cannot read {}: {error}; check the path and its permissions",
                    path.display()
                );
                self.error(span, key, message)
            }
        }
    }

    /// A number in a range.
    pub(super) fn number(
        &self,
        value: Spanned<i64>,
        key: &str,
        least: u32,
        most: u32,
    ) -> Judged<u32> {
        u32::try_from(*value.get_ref())
            .ok()
            .filter(|number| (least..=most).contains(number))
            .map_or_else(
                || {
                    let range = match least == most {
                        true => least.to_string(),
                        false => format!("{least} to {most}"),
                    };
                    let message = format!("{} is out of range; write {range}", value.get_ref());
                    self.error(value.span(), key, message)
                },
                Ok,
            )
    }

    /// A TTL, as seconds or a time.
    pub(super) fn ttl(&self, value: &Spanned<file::Ttl>, key: &str, most: u32) -> Judged<u32> {
        let span = value.span();
        let text = match value.get_ref() {
            file::Ttl::Seconds(seconds) => {
                return self.number(Spanned::new(span, *seconds), key, 0, most);
            }
            file::Ttl::Time(text) => text,
        };
        let message = match duration(text) {
            None => not_a_time(text),
            Some(time) if time.subsec_millis() > 0 => {
                format!("{text:?} is no whole number of seconds; write one, as \"1s\"")
            }
            Some(time) => match u32::try_from(time.as_secs()) {
                Ok(seconds) if seconds <= most => return Ok(seconds),
                _ => format!("{text:?} is out of range; write 0 to {most} seconds"),
            },
        };
        self.error(span, key, message)
    }

    /// One of some words.
    pub(super) fn one_of<T: Copy>(
        &self,
        value: Option<Spanned<String>>,
        key: &str,
        default: T,
        words: &[(&str, T)],
    ) -> Judged<T> {
        let Some(value) = value else {
            return Ok(default);
        };
        match words.iter().find(|(word, _)| word == value.get_ref()) {
            Some(&(_, meaning)) => Ok(meaning),
            None => {
                let words: Vec<String> =
                    words.iter().map(|(word, _)| format!("{word:?}")).collect();
                let message = format!(
                    "no such word {:?}; write {}",
                    value.get_ref(),
                    words.join(" or ")
                );
                self.error(value.span(), key, message)
            }
        }
    }

    /// Addresses that can be answered on, or handed out: each a host's own, none twice.
    fn addresses(&self, list: &[Spanned<String>], key: &str) -> Vec<IpAddr> {
        let mut addresses = Vec::new();
        for text in list {
            match address(text.get_ref()) {
                Ok(address) if addresses.contains(&address) => {
                    let message = format!("{address} stands here twice; remove one");
                    self.complain(text.span(), key, message);
                }
                Ok(address) => addresses.push(address),
                Err(message) => {
                    self.complain(text.span(), key, message);
                }
            }
        }
        addresses
    }

    /// A mirror's or pool's id: it stands in CSV files, on command lines and in URLs.
    pub(super) fn id(&self, id: &Spanned<String>, key: &str) -> Judged<String> {
        let text = id.get_ref();
        if !is_id(text) {
            let message =
                format!("{text:?} is not an id; write 1 to 63 letters, digits, '-', '_' or '.'");
            return self.error(id.span(), key, message);
        }
        Ok(text.clone())
    }

    /// A domain name.
    pub(super) fn name(&self, text: &Spanned<String>, key: &str) -> Judged<Name> {
        if text.get_ref().contains(char::is_whitespace) {
            let message = format!(
                "{:?} has a blank in it; write the name without",
                text.get_ref()
            );
            return self.error(text.span(), key, message);
        }
        parse_name(text.get_ref()).or_else(|message| self.error(text.span(), key, message))
    }
}

pub(super) fn not_a_time(text: &str) -> String {
    format!("{text:?} is not a time; write a number and ms, s, m, h or d, as \"5m\"")
}

/// `there are "a", "b"`, or what to add where there is nothing.
pub(super) fn there_are<'a>(ids: impl Iterator<Item = &'a String>, table: &str) -> String {
    let mut ids: Vec<String> = ids.map(|id| format!("{id:?}")).collect();
    ids.dedup();
    if ids.is_empty() {
        format!("there is none; add a {table}")
    } else {
        format!("there are {}", ids.join(", "))
    }
}

pub(super) fn the_pool_has<'a>(ids: impl Iterator<Item = &'a String>) -> String {
    let ids: Vec<String> = ids.map(|id| format!("{id:?}")).collect();
    format!("the pool has {}", ids.join(", "))
}

/// Whether this can be an interface's name, and is not among those before it.
pub(super) fn interface_name(name: &str, before: &[String]) -> Result<(), String> {
    // As the kernel's dev_valid_name().
    let valid = !name.is_empty()
        && name.len() <= MAX_INTERFACE
        && !matches!(name, "." | "..")
        && !name
            .bytes()
            .any(|byte| matches!(byte, b'/' | b':' | 0) || byte.is_ascii_whitespace());
    if !valid {
        return Err(format!(
            "{name:?} is not an interface name; write 1 to {MAX_INTERFACE} characters, as \"eth0\""
        ));
    }
    if before.iter().any(|other| other == name) {
        return Err(format!("{name:?} stands here twice; remove one"));
    }
    Ok(())
}

/// An address of one host.
pub(super) fn address(text: &str) -> Result<IpAddr, String> {
    let address: IpAddr = text.parse().map_err(|_| {
        let alone = text.parse::<SocketAddr>().map(|socket| socket.ip());
        match alone.or(text.parse::<IpNet>().map(|prefix| prefix.addr())) {
            Ok(alone) => format!("{text:?} is more than an address; write \"{alone}\""),
            Err(_) => {
                format!("{text:?} is not an address; write one as \"192.0.2.1\" or \"2001:db8::1\"")
            }
        }
    })?;
    let wrong = match address {
        address if address.is_unspecified() => "is the unspecified address",
        address if address.is_multicast() => "is a multicast address",
        IpAddr::V4(Ipv4Addr::BROADCAST) => "is the broadcast address",
        IpAddr::V6(address) if address.to_ipv4_mapped().is_some() => {
            "is an IPv4 address in IPv6 form"
        }
        IpAddr::V6(address) if address.is_unicast_link_local() => {
            "is link-local, good on one link only"
        }
        _ => return Ok(address),
    };
    Err(format!("{address} {wrong}; write a host's own address"))
}

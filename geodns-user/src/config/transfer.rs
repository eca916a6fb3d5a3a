//! `[[tsig]]`, and who gives and takes the zones: judged.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::sync::Arc;

use domain::base::name::ToName;
use domain::tsig::{self, Algorithm, KeyStore};
use domain::utils::base64;
use ipnet::IpNet;

use super::ZoneFile;
use super::file::{self, Spanned};
use super::reader::{Judged, Reader, Said, all};
use super::validate::{address, there_are};
use crate::base::name::Name;
use crate::base::prefix;

/// Zones that there may be, at the most: their numbers have 16 bits.
pub const MAX_ZONES: usize = u16::MAX as usize;

/// Servers of a list, at the most.
const MAX_PEERS: usize = 64;
/// Octets of a secret: fewer can be guessed, more than a block of SHA-512 are hashed down to 64.
const SECRET: std::ops::RangeInclusive<usize> = 8..=1024;

/// `[[tsig]]`: a secret that two servers share (RFC 8945).
#[derive(Clone)]
pub struct Key {
    /// Its name, which both know it by.
    pub name: Name,
    /// Algorithm and secret.
    pub key: Arc<tsig::Key>,
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The secret is nobody's business.
        write!(f, "{} {}", self.name, self.key.algorithm())
    }
}

/// All keys, found by name.
#[derive(Clone, Debug, Default)]
pub struct Keys(HashMap<Name, Key>);

impl Keys {
    /// A key by its name, in lower case.
    pub fn get(&self, name: &Name) -> Option<&Key> {
        self.0.get(name)
    }
}

impl KeyStore for &Keys {
    type Key = Arc<tsig::Key>;

    fn get_key<N: ToName>(&self, name: &N, algorithm: Algorithm) -> Option<Arc<tsig::Key>> {
        let mut name: domain::base::Name<Vec<u8>> = name.to_name();
        name.make_canonical();
        let name = Name::from_octets(name.into_octets().into()).ok()?;
        let key = &self.get(&name)?.key;
        (key.algorithm() == algorithm).then(|| Arc::clone(key))
    }
}

/// A server that zones are transferred from, or that is told of changes.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Address.
    pub address: IpAddr,
    /// Port, UDP and TCP.
    pub port: u16,
    /// Key that signs messages to it, and must sign its own.
    pub key: Option<Key>,
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            53 => write!(f, "{}", self.address),
            port => write!(f, "{} port {port}", self.address),
        }
    }
}

/// Clients that a zone is given to: one of `zone.allow_transfer`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Allowed {
    /// Clients with an address in this prefix.
    From(IpNet),
    /// Clients that sign with this key.
    Signed(Name),
}

/// `zone.transfer_steered`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Steered {
    /// The addresses that a client gets of whom nothing is known, whatever is in service.
    Flatten,
    /// Nothing.
    LeaveOut,
}

impl Reader<'_> {
    /// All keys. One of which something is wrong is there too, for those who name it, with a secret of no use.
    pub(super) fn keys(&self, file: Vec<file::Tsig>) -> Keys {
        let mut keys = HashMap::new();
        for tsig in file {
            let name = self.name(&tsig.name, "tsig.name");
            let algorithm = self.algorithm(&tsig).unwrap_or(Algorithm::Sha256);
            let secret = self.secret(&tsig);
            let secret = secret.unwrap_or_else(|Said| vec![0; *SECRET.start()]);
            let Ok(name) = name else { continue };
            let Ok(key_name) = name.try_to_name::<domain::dep::octseq::Array<255>>() else {
                let message = "no domain name; write one";
                self.complain(tsig.name.span(), "tsig.name", message);
                continue;
            };
            let key = match tsig::Key::new(algorithm, &secret, key_name, None, None) {
                Ok(key) => Arc::new(key),
                Err(error) => {
                    self.complain(tsig.name.span(), "tsig", error.to_string());
                    continue;
                }
            };
            let key = Key {
                name: name.clone(),
                key,
            };
            if keys.insert(name, key).is_some() {
                let message = format!("a second key {}; remove one", tsig.name.get_ref());
                self.complain(tsig.name.span(), "tsig.name", message);
            }
        }
        Keys(keys)
    }

    fn algorithm(&self, tsig: &file::Tsig) -> Judged<Algorithm> {
        let Some(text) = &tsig.algorithm else {
            return Ok(Algorithm::Sha256);
        };
        Algorithm::from_str(text.get_ref()).or_else(|_| {
            let message = format!(
                "no such algorithm {:?}; write \"hmac-sha256\", \"hmac-sha384\", \
                 \"hmac-sha512\" or \"hmac-sha1\"",
                text.get_ref()
            );
            self.error(text.span(), "tsig.algorithm", message)
        })
    }

    /// A key's octets.
    fn secret(&self, tsig: &file::Tsig) -> Judged<Vec<u8>> {
        let (text, span, key) = match (&tsig.secret, &tsig.secret_file) {
            (Some(secret), None) => (secret.get_ref().clone(), secret.span(), "tsig.secret"),
            (None, Some(file)) => {
                const KEY: &str = "tsig.secret_file";
                let (text, span) = self.text_of(file.clone(), KEY)?;
                (text, span, KEY)
            }
            (Some(_), Some(file)) => {
                let message = "a secret or a file with one, not both; remove one";
                return self.error(file.span(), "tsig.secret_file", message);
            }
            (None, None) => {
                let message = "missing; write the secret in base64, or name a secret_file";
                return Err(self.misfit(tsig.name.span(), "tsig.secret", message));
            }
        };
        match base64::decode::<Vec<u8>>(text.trim()) {
            Ok(secret) if SECRET.contains(&secret.len()) => Ok(secret),
            Ok(secret) => {
                let message = format!(
                    "{} octets; write {} to {}, in base64",
                    secret.len(),
                    SECRET.start(),
                    SECRET.end()
                );
                self.error(span, key, message)
            }
            Err(_) => {
                let message = "not base64; write what `openssl rand -base64 32` gives";
                self.error(span, key, message)
            }
        }
    }

    pub(super) fn zones(&self, file: Vec<file::Zone>, keys: &Keys) -> Judged<Vec<ZoneFile>> {
        if file.is_empty() {
            let message = "there is none to serve; add a [[zone]] with name and file";
            return Err(self.miscounted("zone", message));
        }
        if file.len() > MAX_ZONES {
            let message = format!("{} zones; {MAX_ZONES} is the most", file.len());
            return Err(self.miscounted("zone", message));
        }
        let mut zones: Vec<ZoneFile> = Vec::new();
        let mut lines: HashMap<Name, usize> = HashMap::new();
        let producers = self.producers(&file);
        for zone in file {
            let line = self.source.line(zone.name.span().start);
            let name = self.name(&zone.name, "zone.name");
            if let Ok(name) = &name
                && let Some(first) = lines.insert(name.clone(), line)
            {
                let message = format!("{name} is already the zone of line {first}; remove one");
                self.complain(zone.name.span(), "zone.name", message);
            }
            zones.extend(self.zone(zone, name, line, keys, &producers));
        }
        Ok(zones)
    }

    fn zone(
        &self,
        zone: file::Zone,
        name: Judged<Name>,
        line: usize,
        keys: &Keys,
        producers: &HashSet<Name>,
    ) -> Judged<ZoneFile> {
        let key = self.optional_key(zone.tsig.as_ref(), "zone.tsig", keys);
        // Without the key that is wrong.
        let signed = key.clone().unwrap_or(None);
        let primaries = self.peers(zone.primaries.as_ref(), "zone.primaries", &signed, keys);
        let has_primaries = zone.primaries.is_some();
        let listing = self.listing(&zone, producers);
        let catalog = self.catalog(&zone, &name, &primaries, &signed, keys);
        let is_producer = zone.is_producer();
        let file = match zone.file {
            Some(file) if has_primaries => {
                let message = "a zone has a file or primaries, not both; remove one";
                self.error(file.span(), "zone.file", message)
            }
            Some(file) => {
                let file = self.path(Some(file), "zone.file", "");
                file.map(|(file, _)| Some(file))
            }
            None if !has_primaries && !is_producer => {
                let message = "missing; name the zone file, or primaries to transfer the zone from";
                Err(self.misfit(zone.name.span(), "zone.file", message))
            }
            None => Ok(None),
        };
        let allow_transfer = self.allowed(zone.allow_transfer, "zone.allow_transfer", keys);
        let notify = self.peers(zone.notify.as_ref(), "zone.notify", &signed, keys);
        let steered = self.one_of(
            zone.transfer_steered,
            "zone.transfer_steered",
            Steered::Flatten,
            &[
                ("flatten", Steered::Flatten),
                ("leave-out", Steered::LeaveOut),
            ],
        );
        key?;
        Ok(ZoneFile {
            name: name?,
            file: file?,
            primaries: primaries?,
            allow_transfer: allow_transfer?,
            notify: notify?,
            steered: steered?,
            catalog: catalog?,
            listing: listing?,
            member: None,
            line,
        })
    }

    /// A key by its name, if there is one.
    pub(super) fn optional_key(
        &self,
        text: Option<&Spanned<String>>,
        place: &str,
        keys: &Keys,
    ) -> Judged<Option<Key>> {
        text.map(|text| self.key(text, place, keys)).transpose()
    }

    /// A key by its name.
    fn key(&self, text: &Spanned<String>, place: &str, keys: &Keys) -> Judged<Key> {
        let name = self.name(text, place)?;
        match keys.get(&name) {
            Some(key) => Ok(key.clone()),
            None => {
                let message = format!("no key {:?}; {}", text.get_ref(), keys.there_are());
                Err(self.unknown(text.span(), place, &["tsig"], message))
            }
        }
    }

    pub(super) fn peers(
        &self,
        list: Option<&Spanned<Vec<Spanned<toml::Value>>>>,
        place: &str,
        key: &Option<Key>,
        keys: &Keys,
    ) -> Judged<Vec<Peer>> {
        let Some(list) = list else {
            return Ok(Vec::new());
        };
        if list.get_ref().is_empty() || list.get_ref().len() > MAX_PEERS {
            let message = format!(
                "{} servers; name 1 to {MAX_PEERS}, or leave the key out",
                list.get_ref().len()
            );
            return self.error(list.span(), place, message);
        }
        let peers = list.get_ref().iter();
        all(peers.map(|peer| self.peer(peer, place, key, keys)))
    }

    /// `"192.0.2.1"`, or `{ address = "192.0.2.1", port = 5353, tsig = "key" }`.
    fn peer(
        &self,
        value: &Spanned<toml::Value>,
        place: &str,
        key: &Option<Key>,
        keys: &Keys,
    ) -> Judged<Peer> {
        let span = value.span();
        let wrong = |message: String| self.complain(span.clone(), place, message);
        let parsed = |text: &str| address(text).map_err(&wrong);
        let table = match value.get_ref() {
            toml::Value::String(text) => {
                return Ok(Peer {
                    address: parsed(text)?,
                    port: 53,
                    key: key.clone(),
                });
            }
            toml::Value::Table(table) => table,
            _ => {
                let message = "not a server; write \"192.0.2.1\", or { address = \"192.0.2.1\", \
                               port = 53, tsig = \"key\" }";
                return self.error(span, place, message);
            }
        };
        let mut at = None;
        let mut port = Ok(53);
        let mut own = None;
        let mut others = Ok(());
        for (name, value) in table {
            match (name.as_str(), value) {
                ("address", toml::Value::String(text)) => at = Some(parsed(text)),
                ("port", toml::Value::Integer(number)) => {
                    let judged = u16::try_from(*number).ok().filter(|&port| port > 0);
                    port = judged.ok_or_else(|| {
                        wrong(format!("port {number} is out of range; write 1 to 65535"))
                    });
                }
                ("tsig", toml::Value::String(text)) => {
                    let text = Spanned::new(span.clone(), text.clone());
                    own = Some(self.key(&text, place, keys));
                }
                ("address" | "tsig", _) => {
                    others = Err(wrong(format!("{name} is not a string; write it in quotes")));
                }
                ("port", _) => {
                    others = Err(wrong("port is not a whole number; write one".to_owned()));
                }
                _ => {
                    others = Err(wrong(format!(
                        "unknown key {name:?} of a server; known: address, port, tsig"
                    )));
                }
            }
        }
        if !table.contains_key("address") {
            others = Err(self.misfit(span.clone(), place, "a server without address; add one"));
        }
        others?;
        Ok(Peer {
            address: at.unwrap_or(Err(Said))?,
            port: port?,
            key: own.transpose()?.or_else(|| key.clone()),
        })
    }

    /// An address or a prefix; `None`: it is neither.
    pub(super) fn network(&self, text: &Spanned<String>, place: &str) -> Judged<Option<IpNet>> {
        match prefix::spelled(text.get_ref()).map(prefix::check) {
            Some(Err(message)) => self.error(text.span(), place, message),
            prefix => Ok(prefix.and_then(Result::ok)),
        }
    }

    pub(super) fn allowed(
        &self,
        list: Option<Spanned<Vec<Spanned<String>>>>,
        place: &str,
        keys: &Keys,
    ) -> Judged<Vec<Allowed>> {
        let list = list.map(Spanned::into_inner).unwrap_or_default();
        let one = |text: &Spanned<String>| {
            if let Some(prefix) = self.network(text, place)? {
                return Ok(Allowed::From(prefix));
            }
            let name = self.name(text, place)?;
            if ["any", "all"].contains(&text.get_ref().as_str()) {
                let message = format!(
                    "{:?} is no key; to let everyone, write \"0.0.0.0/0\", \"::/0\"",
                    text.get_ref()
                );
                return self.error(text.span(), place, message);
            }
            if keys.get(&name).is_none() {
                let message = format!(
                    "{:?} is neither an address, nor a prefix, nor a key; {}",
                    text.get_ref(),
                    keys.there_are()
                );
                return Err(self.unknown(text.span(), place, &["tsig"], message));
            }
            Ok(Allowed::Signed(name))
        };
        all(list.iter().map(one))
    }
}

impl Keys {
    fn there_are(&self) -> String {
        let mut names: Vec<String> = self.0.keys().map(ToString::to_string).collect();
        names.sort_unstable();
        there_are(names.iter(), "[[tsig]]")
    }
}

//! `[[tsig]]`, and who gives and takes the zones: judged.

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::sync::Arc;

use domain::base::name::ToName;
use domain::tsig::{self, Algorithm, KeyStore};
use domain::utils::base64;
use ipnet::IpNet;

use super::catalog::{Catalog, MAX_ZONES};
use super::check::{Check, address, there_are};
use super::file::{self, Spanned};
use super::{Error, ZoneFile};
use crate::geo::network;
use crate::zone::Name;

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
    /// What messages to it are signed with; theirs must be, then.
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

/// Whom a zone is given to: one of `zone.allow_transfer`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Allowed {
    /// Who asks from there.
    From(IpNet),
    /// Who signs with this key.
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

impl Check<'_> {
    pub(super) fn keys(&self, file: Vec<file::Tsig>) -> Result<Keys, Error> {
        let mut keys = HashMap::new();
        for tsig in file {
            let name = self.name(&tsig.name, "tsig.name")?;
            let algorithm = match &tsig.algorithm {
                None => Algorithm::Sha256,
                Some(text) => match Algorithm::from_str(text.get_ref()) {
                    Ok(algorithm) => algorithm,
                    Err(_) => {
                        let message = format!(
                            "no such algorithm {:?}; write \"hmac-sha256\", \"hmac-sha384\", \
                             \"hmac-sha512\" or \"hmac-sha1\"",
                            text.get_ref()
                        );
                        return self.error(text.span(), "tsig.algorithm", message);
                    }
                },
            };
            let secret = self.secret(&tsig)?;
            let Ok(key_name) = name.try_to_name::<domain::dep::octseq::Array<255>>() else {
                let message = "no domain name; write one".to_owned();
                return self.error(tsig.name.span(), "tsig.name", message);
            };
            let key = match tsig::Key::new(algorithm, &secret, key_name, None, None) {
                Ok(key) => Arc::new(key),
                Err(error) => return self.error(tsig.name.span(), "tsig", error.to_string()),
            };
            let key = Key {
                name: name.clone(),
                key,
            };
            if keys.insert(name, key).is_some() {
                let message = format!("a second key {}; remove one", tsig.name.get_ref());
                return self.error(tsig.name.span(), "tsig.name", message);
            }
        }
        Ok(Keys(keys))
    }

    /// A key's octets.
    fn secret(&self, tsig: &file::Tsig) -> Result<Vec<u8>, Error> {
        let (text, span, key) = match (&tsig.secret, &tsig.secret_file) {
            (Some(secret), None) => (secret.get_ref().clone(), secret.span(), "tsig.secret"),
            (None, Some(file)) => {
                const KEY: &str = "tsig.secret_file";
                let (text, span) = self.text_of(file.clone(), KEY)?;
                (text, span, KEY)
            }
            (Some(_), Some(file)) => {
                let message = "a secret or a file with one, not both; remove one";
                return self.error(file.span(), "tsig.secret_file", message.to_owned());
            }
            (None, None) => {
                let message = "missing; write the secret in base64, or name a secret_file";
                return self.error(tsig.name.span(), "tsig.secret", message.to_owned());
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
                self.error(span, key, message.to_owned())
            }
        }
    }

    pub(super) fn zones(&self, file: Vec<file::Zone>, keys: &Keys) -> Result<Vec<ZoneFile>, Error> {
        if file.is_empty() {
            return Err(Error {
                file: self.source.path.to_owned(),
                line: None,
                key: Some("zone".to_owned()),
                message: "there is none to serve; add a [[zone]] with name and file".to_owned(),
            });
        }
        if file.len() > MAX_ZONES {
            return Err(Error {
                file: self.source.path.to_owned(),
                line: None,
                key: Some("zone".to_owned()),
                message: format!("{} zones; {MAX_ZONES} is the most", file.len()),
            });
        }
        let mut zones: Vec<ZoneFile> = Vec::new();
        let mut lines: HashMap<Name, usize> = HashMap::new();
        for zone in file {
            let line = self.source.line(zone.name.span().start);
            let Some(name) = self.keep(self.name(&zone.name, "zone.name")) else {
                continue;
            };
            if let Some(first) = lines.insert(name.clone(), line) {
                let message = format!("{name} is already the zone of line {first}; remove one");
                self.complain(zone.name.span(), "zone.name", message);
                continue;
            }
            zones.extend(self.keep(self.zone(zone, name, line, keys)));
        }
        self.listings(&zones)?;
        Ok(zones)
    }

    fn zone(
        &self,
        zone: file::Zone,
        name: Name,
        line: usize,
        keys: &Keys,
    ) -> Result<ZoneFile, Error> {
        let key = self.optional_key(zone.tsig.as_ref(), "zone.tsig", keys)?;
        let primaries = self.peers(zone.primaries.as_ref(), "zone.primaries", &key, keys)?;
        let listing = self.listing(&zone)?;
        let catalog = self.catalog(&zone, &name, &primaries, &key, keys)?;
        let is_producer = matches!(catalog, Some(Catalog::Producer));
        let file = match zone.file {
            Some(file) if !primaries.is_empty() => {
                let message = "a zone has a file or primaries, not both; remove one";
                return self.error(file.span(), "zone.file", message.to_owned());
            }
            Some(file) => Some(self.path(Some(file), "zone.file", "")?.0),
            None if primaries.is_empty() && !is_producer => {
                let message = "missing; name the zone file, or primaries to transfer the zone from";
                return self.error(zone.name.span(), "zone.file", message.to_owned());
            }
            None => None,
        };
        Ok(ZoneFile {
            name,
            file,
            primaries,
            allow_transfer: self.allowed(zone.allow_transfer, "zone.allow_transfer", keys)?,
            notify: self.peers(zone.notify.as_ref(), "zone.notify", &key, keys)?,
            steered: self.one_of(
                zone.transfer_steered,
                "zone.transfer_steered",
                Steered::Flatten,
                &[
                    ("flatten", Steered::Flatten),
                    ("leave-out", Steered::LeaveOut),
                ],
            )?,
            catalog,
            listing,
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
    ) -> Result<Option<Key>, Error> {
        text.map(|text| self.key(text, place, keys)).transpose()
    }

    /// A key by its name.
    fn key(&self, text: &Spanned<String>, place: &str, keys: &Keys) -> Result<Key, Error> {
        let name = self.name(text, place)?;
        match keys.get(&name) {
            Some(key) => Ok(key.clone()),
            None => {
                let message = format!("no key {:?}; {}", text.get_ref(), keys.there_are());
                self.error(text.span(), place, message)
            }
        }
    }

    pub(super) fn peers(
        &self,
        list: Option<&Spanned<Vec<Spanned<toml::Value>>>>,
        place: &str,
        key: &Option<Key>,
        keys: &Keys,
    ) -> Result<Vec<Peer>, Error> {
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
        peers
            .map(|peer| self.peer(peer, place, key, keys))
            .collect()
    }

    /// `"192.0.2.1"`, or `{ address = "192.0.2.1", port = 5353, tsig = "key" }`.
    fn peer(
        &self,
        value: &Spanned<toml::Value>,
        place: &str,
        key: &Option<Key>,
        keys: &Keys,
    ) -> Result<Peer, Error> {
        let span = value.span();
        let wrong = |message: String| self.error(span.clone(), place, message);
        let parsed =
            |text: &str| address(text).or_else(|message| self.error(span.clone(), place, message));
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
                return wrong(
                    "not a server; write \"192.0.2.1\", or { address = \"192.0.2.1\", port = 53, \
                     tsig = \"key\" }"
                        .to_owned(),
                );
            }
        };
        let mut peer = Peer {
            address: IpAddr::from([0, 0, 0, 0]),
            port: 53,
            key: key.clone(),
        };
        for (name, value) in table {
            match (name.as_str(), value) {
                ("address", toml::Value::String(text)) => peer.address = parsed(text)?,
                ("port", toml::Value::Integer(port)) => match u16::try_from(*port) {
                    Ok(port) if port > 0 => peer.port = port,
                    _ => return wrong(format!("port {port} is out of range; write 1 to 65535")),
                },
                ("tsig", toml::Value::String(text)) => {
                    let text = Spanned::new(span.clone(), text.clone());
                    peer.key = Some(self.key(&text, place, keys)?);
                }
                ("address" | "tsig", _) => {
                    return wrong(format!("{name} is not a string; write it in quotes"));
                }
                ("port", _) => return wrong("port is not a whole number; write one".to_owned()),
                _ => {
                    return wrong(format!(
                        "unknown key {name:?} of a server; known: address, port, tsig"
                    ));
                }
            }
        }
        match peer.address.is_unspecified() {
            true => wrong("a server without address; add one".to_owned()),
            false => Ok(peer),
        }
    }

    /// An address or a prefix; `None`: it is neither.
    pub(super) fn network(
        &self,
        text: &Spanned<String>,
        place: &str,
    ) -> Result<Option<IpNet>, Error> {
        match network::spelled(text.get_ref()).map(network::check) {
            Some(Err(message)) => self.error(text.span(), place, message),
            prefix => Ok(prefix.and_then(Result::ok)),
        }
    }

    pub(super) fn allowed(
        &self,
        list: Option<Spanned<Vec<Spanned<String>>>>,
        place: &str,
        keys: &Keys,
    ) -> Result<Vec<Allowed>, Error> {
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
                return self.error(text.span(), place, message);
            }
            Ok(Allowed::Signed(name))
        };
        list.iter().map(one).collect()
    }
}

impl Keys {
    fn there_are(&self) -> String {
        let mut names: Vec<String> = self.0.keys().map(ToString::to_string).collect();
        names.sort_unstable();
        there_are(names.iter(), "[[tsig]]")
    }
}

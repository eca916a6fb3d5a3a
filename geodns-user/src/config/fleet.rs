//! `[fleet]`: judged.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use hyper::Uri;
use minisign_verify::PublicKey;

use super::file::{self, Spanned};
use super::is_id;
use super::reader::{Judged, Reader, all};
use super::time::duration;
use super::validate::{MAX_STALE, not_a_time};

/// Endpoints of etcd, at the most.
const MAX_ENDPOINTS: usize = 9;
/// Keys that may sign bundles, at the most.
const MAX_KEYS: usize = 16;
/// Port of an endpoint that names none.
const PORT: u16 = 2379;

/// `[fleet]`: where the state is that several nodes share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fleet {
    /// Its name.
    pub name: String,
    /// Endpoints of etcd, that of this site first.
    pub etcd: Vec<Endpoint>,
    /// Certificates that vouch for etcd's. `None`: those of the system.
    pub ca: Option<PathBuf>,
    /// Files that show etcd who this node is.
    pub identity: Option<Identity>,
    /// A node without etcd goes on answering for this time. `None`: for ever.
    pub max_stale: Option<Duration>,
    /// Public keys of minisign, in base64, whose bundles this node takes.
    pub trusted_keys: Vec<String>,
}

/// One member of etcd, as a node reaches it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Endpoint {
    /// Whether it takes TLS alone.
    pub tls: bool,
    /// Host name or address.
    pub host: String,
    /// Port.
    pub port: u16,
}

impl Endpoint {
    /// Reads an endpoint: `https://HOST:PORT` or `http://HOST:PORT`.
    pub fn parse(text: &str) -> Option<Self> {
        let uri: Uri = text.parse().ok()?;
        let tls = match uri.scheme_str()? {
            "https" => true,
            "http" => false,
            _ => return None,
        };
        let authority = uri.authority()?;
        let plain = uri.path().len() <= 1 && uri.query().is_none();
        let host = uri.host().filter(|host| !host.is_empty())?;
        // What stands before an @ is a user, and no user is taken from here.
        let port = match authority.as_str().strip_prefix(host)? {
            "" => PORT,
            port => port.strip_prefix(':')?.parse().ok()?,
        };
        let host = host.trim_start_matches('[').trim_end_matches(']');
        (plain && port > 0).then(|| Self {
            tls,
            host: host.to_owned(),
            port,
        })
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "https" } else { "http" };
        match self.host.contains(':') {
            true => write!(f, "{scheme}://[{}]:{}", self.host, self.port),
            false => write!(f, "{scheme}://{}:{}", self.host, self.port),
        }
    }
}

/// A certificate and its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Certificate chain, PEM.
    pub certificate: PathBuf,
    /// Private key, PEM.
    pub key: PathBuf,
}

impl Reader<'_> {
    pub(super) fn fleet(&self, file: file::Fleet) -> Judged<Option<Fleet>> {
        let max_stale = match &file.max_stale {
            None => Ok(None),
            Some(text) => self.max_stale(text),
        };
        let trusted_keys = match &file.trusted_keys {
            None => Ok(Vec::new()),
            Some(list) => self.trusted_keys(list),
        };
        let path = |path: Option<Spanned<String>>, key| match path {
            None => Ok(None),
            Some(path) => self.path(Some(path), key, "").map(|(path, _)| Some(path)),
        };
        let ca_span = file.ca.as_ref().map(Spanned::span);
        let ca = path(file.ca, "fleet.ca");
        let identity_span = file.certificate.as_ref().or(file.key.as_ref());
        let identity_span = identity_span.map(Spanned::span);
        let certificate = path(file.certificate, "fleet.certificate");
        let key = path(file.key, "fleet.key");
        let (name, etcd) = match (file.name, file.etcd) {
            (Some(name), Some(etcd)) => (name, etcd),
            (Some(alone), None) => {
                let message = "missing; name the endpoints, as [\"https://192.0.2.10:2379\"]";
                return Err(self.misfit(alone.span(), "fleet.etcd", message));
            }
            (None, Some(alone)) => {
                let message = "missing; give the fleet a name, the same on all nodes";
                return Err(self.misfit(alone.span(), "fleet.name", message));
            }
            (None, None) => {
                if let Some(span) = ca_span.or(identity_span) {
                    let message = "missing; there is no fleet without name and etcd";
                    return Err(self.misfit(span, "fleet.etcd", message));
                }
                return Ok(None);
            }
        };
        let name = match name.get_ref() {
            text if is_id(text) => Ok(text.clone()),
            text => {
                let message =
                    format!("{text:?} is no name; write 1 to 63 letters, digits, '-', '_' or '.'");
                self.error(name.span(), "fleet.name", message)
            }
        };
        let etcd_span = etcd.span();
        let etcd = self.endpoints(&etcd);
        let (certificate, key) = (certificate?, key?);
        let identity = match (certificate, key) {
            (Some(certificate), Some(key)) => Some(Identity { certificate, key }),
            (None, None) => None,
            (certificate, _) => {
                let (missing, message) = match certificate {
                    Some(_) => ("fleet.key", "missing; name the certificate's private key"),
                    None => ("fleet.certificate", "missing; name the key's certificate"),
                };
                let span = identity_span.unwrap_or(etcd_span);
                return Err(self.misfit(span, missing, message));
            }
        };
        Ok(Some(Fleet {
            name: name?,
            etcd: etcd?,
            ca: ca?,
            identity,
            max_stale: max_stale?,
            trusted_keys: trusted_keys?,
        }))
    }

    fn endpoints(&self, list: &Spanned<Vec<Spanned<String>>>) -> Judged<Vec<Endpoint>> {
        const KEY: &str = "fleet.etcd";
        let count = list.get_ref().len();
        if !(1..=MAX_ENDPOINTS).contains(&count) {
            let message = format!("{count} endpoints; write 1 to {MAX_ENDPOINTS}");
            return self.error(list.span(), KEY, message);
        }
        let mut before: Vec<Endpoint> = Vec::new();
        all(list.get_ref().iter().map(|text| {
            let message = match Endpoint::parse(text.get_ref()) {
                Some(endpoint) if before.contains(&endpoint) => {
                    format!("{endpoint} stands here twice; remove one")
                }
                Some(endpoint) => {
                    before.push(endpoint.clone());
                    return Ok(endpoint);
                }
                None => format!(
                    "{:?} is no endpoint; write one as \"https://192.0.2.10:2379\"",
                    text.get_ref()
                ),
            };
            self.error(text.span(), KEY, message)
        }))
    }

    fn trusted_keys(&self, list: &Spanned<Vec<Spanned<String>>>) -> Judged<Vec<String>> {
        const KEY: &str = "fleet.trusted_keys";
        let count = list.get_ref().len();
        if count > MAX_KEYS {
            let message = format!("{count} keys; {MAX_KEYS} is the most");
            return self.error(list.span(), KEY, message);
        }
        all(list.get_ref().iter().map(|text| {
            if PublicKey::from_base64(text.get_ref()).is_ok() {
                return Ok(text.get_ref().clone());
            }
            let message = format!(
                "{:?} is no public key; write the second line of minisign's minisign.pub",
                text.get_ref()
            );
            self.error(text.span(), KEY, message)
        }))
    }

    fn max_stale(&self, text: &Spanned<String>) -> Judged<Option<Duration>> {
        let message = match duration(text.get_ref()) {
            Some(Duration::ZERO) => return Ok(None),
            Some(time) if (Duration::from_secs(1)..=MAX_STALE).contains(&time) => {
                return Ok(Some(time));
            }
            Some(_) => format!(
                "{:?} is out of range; write \"1s\" to \"365d\", or \"0s\" for ever",
                text.get_ref()
            ),
            None => not_a_time(text.get_ref()),
        };
        self.error(text.span(), "fleet.max_stale", message)
    }
}

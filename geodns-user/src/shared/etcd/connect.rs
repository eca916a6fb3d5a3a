//! From an endpoint to a connection that is good: TCP, TLS, and a member of etcd that is new enough.

use std::io::{self, ErrorKind};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use hyper::Uri;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::TcpStream;
use tokio::task::spawn_blocking;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{self, ClientConfig, RootCertStore};

use super::failed;
use super::grpc::Connection;
use super::message::{StatusRequest, StatusResponse};
use crate::config::{Endpoint, Fleet};
use crate::files;
use crate::shared::{Kind, Trouble};

/// Time until a connection is there.
const CONNECT: Duration = Duration::from_secs(1);
/// Time that we wait for the first octets of a server.
const FIRST: Duration = Duration::from_millis(300);
/// The oldest version that has all that we use.
const LEAST: (u32, u32) = (3, 4);
/// Octets of a PEM file, at the most.
const FILE_MAX: u64 = 1 << 20;

/// A member of etcd that can be asked.
#[derive(Debug)]
pub struct Member {
    /// Its endpoint.
    pub endpoint: Endpoint,
    /// The connection to it.
    pub connection: Connection,
    /// Its cluster.
    pub cluster: u64,
}

/// Connects to an endpoint. The files are read anew each time.
pub async fn connect(fleet: &Fleet, endpoint: &Endpoint) -> Result<Member, Trouble> {
    let made = timeout(CONNECT, made(fleet, endpoint)).await;
    let late = || {
        let line = format!(
            "etcd at {endpoint} has not answered within {CONNECT:?}: is it up, does the network lead there, and does \
             fleet.etcd name it?"
        );
        Err(Trouble::new(Kind::Unreachable, line))
    };
    made.unwrap_or_else(|_| late())
}

async fn made(fleet: &Fleet, endpoint: &Endpoint) -> Result<Member, Trouble> {
    let unreachable = |error: io::Error| {
        let line = format!(
            "etcd at {endpoint} cannot be reached: {error}: start it, or correct fleet.etcd"
        );
        Trouble::new(Kind::Unreachable, line)
    };
    let stream = TcpStream::connect((endpoint.host.as_str(), endpoint.port)).await;
    let stream = stream.map_err(unreachable)?;
    stream.set_nodelay(true).map_err(unreachable)?;
    let base = endpoint.to_string().parse::<Uri>();
    let base = base.map_err(|error| Trouble::new(Kind::Other, format!("{endpoint}: {error}")))?;
    let of_call = |failure| failed::first_trouble(endpoint, failure);
    let connection = match endpoint.tls {
        false => Connection::over(stream, base).await,
        true => {
            let name = ServerName::try_from(endpoint.host.clone());
            let name = name.map_err(|_| {
                let line = format!("etcd at {endpoint}: no certificate can have that name");
                Trouble::new(Kind::Certificate, line)
            })?;
            let connector = TlsConnector::from(config(fleet).await?);
            let stream = connector.connect(name, stream).await;
            // In TLS 1.3 a server refuses a certificate after the client's handshake, and then our first write may fail
            // before we have read why. So we read first: an HTTP/2 server speaks unasked.
            let mut stream = BufReader::new(stream.map_err(|error| refused(endpoint, &error))?);
            if let Ok(Err(error)) = timeout(FIRST, stream.fill_buf()).await {
                return Err(refused(endpoint, &error));
            }
            Connection::over(stream, base).await
        }
    };
    let connection = connection.map_err(of_call)?;
    let status: Result<StatusResponse, _> = connection
        .call(
            "/etcdserverpb.Maintenance/Status",
            &StatusRequest {},
            2 * CONNECT,
        )
        .await;
    let status = status.map_err(of_call)?;
    if !is_new_enough(&status.version) {
        let (major, minor) = LEAST;
        let line = format!(
            "etcd at {endpoint} is version {:?}, and geodns needs {major}.{minor} or later: upgrade it",
            status.version
        );
        return Err(Trouble::new(Kind::Version, line));
    }
    Ok(Member {
        endpoint: endpoint.clone(),
        connection,
        cluster: status.header.unwrap_or_default().cluster_id,
    })
}

fn is_new_enough(version: &str) -> bool {
    let mut numbers = version.split('.').map(str::parse);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => (major, minor) >= LEAST,
        _ => false,
    }
}

/// A handshake that failed.
fn refused(endpoint: &Endpoint, error: &io::Error) -> Trouble {
    let cause = error.get_ref().and_then(|error| error.downcast_ref());
    let no_tls = || {
        format!(
            "etcd at {endpoint} does not speak TLS: write http:// in fleet.etcd, or give it a certificate"
        )
    };
    let line = match cause {
        Some(rustls::Error::InvalidCertificate(problem)) => format!(
            "etcd at {endpoint} has a certificate that we do not take ({problem}): fleet.ca must hold who signed it, \
             and it must be for {}",
            endpoint.host
        ),
        Some(rustls::Error::AlertReceived(alert)) => failed::alert(endpoint, &format!("{alert:?}")),
        Some(rustls::Error::InvalidMessage(_)) => no_tls(),
        _ if matches!(
            error.kind(),
            ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset | ErrorKind::BrokenPipe
        ) =>
        {
            no_tls()
        }
        _ => format!("etcd at {endpoint}: no TLS: {error}"),
    };
    Trouble::new(Kind::Certificate, line.replace('\n', " "))
}

/// TLS as the configuration has it.
async fn config(fleet: &Fleet) -> Result<Arc<ClientConfig>, Trouble> {
    let fleet = fleet.clone();
    let read = spawn_blocking(move || read(&fleet)).await;
    let read = read.unwrap_or_else(|error| Err(error.to_string()));
    read.map_err(|line| Trouble::new(Kind::Certificate, line.replace('\n', " ")))
}

fn read(fleet: &Fleet) -> Result<Arc<ClientConfig>, String> {
    let mut roots = RootCertStore::empty();
    match &fleet.ca {
        Some(path) => {
            for certificate in certificates(path, "fleet.ca")? {
                let added = roots.add(certificate);
                added.map_err(|error| format!("fleet.ca: {}: {error}", path.display()))?;
            }
        }
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    if roots.is_empty() {
        return Err("no root certificates on this system; name etcd's in fleet.ca".to_owned());
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots);
    let mut config = match &fleet.identity {
        None => builder.with_no_client_auth(),
        Some(identity) => {
            let chain = certificates(&identity.certificate, "fleet.certificate")?;
            let named = || format!("fleet.key: {}", identity.key.display());
            let key = files::read_at_most(&identity.key, FILE_MAX);
            let key = key.map_err(|error| format!("{}: {error}", named()))?;
            let key = PrivateKeyDer::from_pem_slice(&key).map_err(|error| {
                format!(
                    "{}: {error}; it must be a private key in PEM, without a passphrase",
                    named()
                )
            })?;
            let config = builder.with_client_auth_cert(chain, key);
            config.map_err(|error| {
                let certificate = identity.certificate.display();
                format!("{}: it does not go with {certificate}: {error}", named())
            })?
        }
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(Arc::new(config))
}

fn certificates(path: &Path, key: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let named = |problem: String| {
        let path = path.display();
        format!("{key}: {path}: {problem}; it must be certificates in PEM")
    };
    let text = files::read_at_most(path, FILE_MAX);
    let text = text.map_err(|error| format!("{key}: {}: {error}", path.display()))?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    match found {
        Ok(found) if found.is_empty() => Err(named("there is none in it".to_owned())),
        found => found.map_err(|error| named(error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_versions_are_known() {
        for (version, good) in [
            ("3.4.23", true),
            ("3.10.0", true),
            ("4.0.0", true),
            ("3.3.27", false),
            ("2.3.8", false),
            ("", false),
            ("new", false),
        ] {
            assert_eq!(is_new_enough(version), good, "{version}");
        }
    }
}

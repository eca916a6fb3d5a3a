//! TLS below a check.
//!
//! Sessions are resumed, which saves us a quarter of a check's time and the server its signature. A
//! resumed session does not look at the certificate again, so each target starts anew once a minute:
//! a certificate that expires is noticed then.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::sync::OnceCell;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::client::danger::{
    HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier,
};
use tokio_rustls::rustls::client::{
    ClientSessionStore, Resumption, Tls12ClientSessionValue, Tls13ClientSessionValue,
    WebPkiServerVerifier,
};
use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, NamedGroup, RootCertStore,
    SignatureScheme,
};

use super::Bad;
use crate::base::lock::lock;

/// How long sessions are resumed before the certificate is looked at again.
const RESUMED: Duration = Duration::from_secs(60);

/// TLS to one target.
pub struct Tls {
    name: Option<ServerName<'static>>,
    roots: Option<Arc<Roots>>,
    session: Mutex<Option<(Instant, TlsConnector)>>,
}

impl Tls {
    /// With a certificate for `host`, or for the address, that the system's roots vouch for.
    pub fn verified(host: Option<&str>, socket: SocketAddr, roots: Arc<Roots>) -> Self {
        Self::new(host, socket, Some(roots))
    }

    /// With any certificate.
    pub fn unverified(host: Option<&str>, socket: SocketAddr) -> Self {
        Self::new(host, socket, None)
    }

    fn new(host: Option<&str>, socket: SocketAddr, roots: Option<Arc<Roots>>) -> Self {
        let name = match host {
            Some(host) => ServerName::try_from(host.to_owned()).ok(),
            // Without SNI: an address is no name (RFC 6066 section 3).
            None => Some(ServerName::IpAddress(socket.ip().into())),
        };
        Self {
            name,
            roots,
            session: Mutex::new(None),
        }
    }

    /// Makes a connection secure.
    pub async fn connect(&self, stream: TcpStream) -> Result<TlsStream<TcpStream>, Bad> {
        let Some(name) = self.name.clone() else {
            return Err(Bad::impossible(
                "TLS: the host is no name for a certificate",
            ));
        };
        let connector = self.connector().await?;
        let connected = connector.connect(name, stream).await;
        connected.map_err(|error| explain(&error).unwrap_or_else(|| Bad::io("TLS", &error)))
    }

    /// Memory of this target's TLS session.
    async fn connector(&self) -> Result<TlsConnector, Bad> {
        let now = Instant::now();
        let session = || lock(&self.session);
        if let Some((since, connector)) = &*session()
            && now.duration_since(*since) < RESUMED
        {
            return Ok(connector.clone());
        }
        let verifier = match &self.roots {
            Some(roots) => roots.verifier().await?,
            None => Arc::new(Anyone(Arc::new(ring::default_provider()))),
        };
        let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| Bad::impossible(format!("TLS: {error}")))?
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        config.resumption = Resumption::store(Arc::new(Session::default()));
        let connector = TlsConnector::from(Arc::new(config));
        *session() = Some((now, connector.clone()));
        Ok(connector)
    }
}

/// The system's root certificates, read when the first check needs them.
#[derive(Default)]
pub struct Roots(OnceCell<Result<Arc<dyn ServerCertVerifier>, String>>);

impl Roots {
    /// What vouches for certificates by them.
    pub async fn verifier(&self) -> Result<Arc<dyn ServerCertVerifier>, Bad> {
        let read = self.0.get_or_init(async || {
            tokio::task::spawn_blocking(system_roots)
                .await
                .unwrap_or_else(|error| Err(error.to_string()))
        });
        let verifier = read.await.clone();
        verifier.map_err(|error| Bad::impossible(format!("TLS: {error}")))
    }

    /// Roots of a test.
    #[cfg(test)]
    pub fn of(roots: RootCertStore) -> Self {
        Self(OnceCell::new_with(Some(verifier(roots))))
    }
}

fn system_roots() -> Result<Arc<dyn ServerCertVerifier>, String> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    // One that cannot be read, or understood, is one less.
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        let why = found.errors.first();
        let why = why.map_or_else(String::new, |error| format!(" ({error})"));
        return Err(format!(
            "no root certificates on this system{why}; install ca-certificates, or set verify = false"
        ));
    }
    verifier(roots)
}

fn verifier(roots: RootCertStore) -> Result<Arc<dyn ServerCertVerifier>, String> {
    let provider = Arc::new(ring::default_provider());
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build();
    match verifier {
        Ok(verifier) => Ok(verifier),
        Err(error) => Err(error.to_string()),
    }
}

/// rustls's error, in one line; `None` if the error is another's.
pub fn explain(error: &io::Error) -> Option<Bad> {
    let error = error.get_ref()?.downcast_ref::<Error>()?;
    let reason = match error {
        Error::InvalidCertificate(certificate) => match certificate {
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                "certificate: expired".to_owned()
            }
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                "certificate: not valid yet".to_owned()
            }
            CertificateError::BadSignature => {
                "certificate: forged, its signature is wrong".to_owned()
            }
            CertificateError::UnknownIssuer => {
                "certificate: not from an authority that this system trusts".to_owned()
            }
            other => format!("certificate: {other}"),
        },
        Error::AlertReceived(alert) => format!("TLS: refused with the alert {alert:?}"),
        Error::InvalidMessage(_) => "TLS: the answer is not TLS".to_owned(),
        other => format!("TLS: {other}"),
    };
    Some(Bad::Failed(reason.replace('\n', " ")))
}

/// Takes any certificate.
#[derive(Debug)]
struct Anyone(Arc<CryptoProvider>);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// The latest session with one target. rustls's own store keeps up to eight tickets for each name,
/// of kilobytes each, and mixes up targets that have the same name.
#[derive(Debug, Default)]
struct Session(Mutex<Latest>);

#[derive(Debug, Default)]
struct Latest {
    group: Option<NamedGroup>,
    tls12: Option<Tls12ClientSessionValue>,
    tls13: Option<Tls13ClientSessionValue>,
}

impl Session {
    fn latest(&self) -> std::sync::MutexGuard<'_, Latest> {
        lock(&self.0)
    }
}

impl ClientSessionStore for Session {
    fn set_kx_hint(&self, _: ServerName<'static>, group: NamedGroup) {
        self.latest().group = Some(group);
    }

    fn kx_hint(&self, _: &ServerName<'_>) -> Option<NamedGroup> {
        self.latest().group
    }

    fn set_tls12_session(&self, _: ServerName<'static>, value: Tls12ClientSessionValue) {
        self.latest().tls12 = Some(value);
    }

    fn tls12_session(&self, _: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        self.latest().tls12.clone()
    }

    fn remove_tls12_session(&self, _: &ServerName<'static>) {
        self.latest().tls12 = None;
    }

    fn insert_tls13_ticket(&self, _: ServerName<'static>, value: Tls13ClientSessionValue) {
        self.latest().tls13 = Some(value);
    }

    fn take_tls13_ticket(&self, _: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.latest().tls13.take()
    }
}

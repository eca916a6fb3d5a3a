//! A certificate and its key, for DNS over TLS (RFC 7858) and HTTPS: from PEM files to what a handshake needs.
//!
//! - `validity`: the end of a certificate's validity

mod validity;

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::{self, PemObject};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{self, ServerConfig};

use crate::base::complaint::Error;
use crate::config::CertificateFiles;
use crate::files;

/// Octets of a file, at the most. A chain takes some thousands.
const FILE_MAX: u64 = 1 << 20;

/// Content of the two files.
#[derive(Clone, PartialEq, Eq)]
pub struct Contents {
    certificate: Vec<u8>,
    key: Vec<u8>,
}

impl Contents {
    /// Reads both files.
    pub fn read(files: &CertificateFiles) -> Result<Self, Error> {
        Ok(Self {
            certificate: read(&files.certificate)?,
            key: read(&files.key)?,
        })
    }
}

impl fmt::Debug for Contents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The key is nobody's business.
        f.debug_struct("Contents").finish_non_exhaustive()
    }
}

/// A certificate whose key we have, ready for handshakes.
#[derive(Debug)]
pub struct Certificate {
    contents: Contents,
    config: Arc<ServerConfig>,
    not_after: Option<i64>,
}

impl Certificate {
    /// Reads and checks both files.
    pub fn read(files: &CertificateFiles) -> Result<Self, Error> {
        Self::check(files, Contents::read(files)?)
    }

    /// Checks what was read of both files.
    pub fn check(files: &CertificateFiles, contents: Contents) -> Result<Self, Error> {
        let no_certificate = |problem: String| {
            error(
                &files.certificate,
                format!(
                    "{problem}; it must be PEM, the server's certificate first, then those between it \
                     and the root"
                ),
            )
        };
        let chain: Vec<_> = CertificateDer::pem_slice_iter(&contents.certificate)
            .collect::<Result<_, _>>()
            .map_err(|problem| no_certificate(problem.to_string()))?;
        if chain.is_empty() {
            return Err(no_certificate("there is no certificate in it".to_owned()));
        }
        let not_after = chain.first().and_then(|own| validity::not_after(own));
        let key = PrivateKeyDer::from_pem_slice(&contents.key).map_err(|problem| {
            let problem = match problem {
                pem::Error::NoItemsFound => "there is no private key in it".to_owned(),
                problem => problem.to_string(),
            };
            let help = "it must be PEM, not encrypted by a passphrase";
            error(&files.key, format!("{problem}; {help}"))
        })?;
        let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .and_then(|builder| {
                let builder = builder.with_no_client_auth();
                builder.with_single_cert(chain, key)
            });
        let mut config = builder.map_err(|problem| match problem {
            rustls::Error::InconsistentKeys(_) => {
                let message = format!(
                    "is not the key of {}; name two that belong together",
                    files.certificate.display()
                );
                error(&files.key, message)
            }
            rustls::Error::InvalidCertificate(_) => no_certificate(problem.to_string()),
            problem => {
                let help = "keys may be ECDSA (P-256, P-384), Ed25519 or RSA";
                error(&files.key, format!("{problem}; {help}"))
            }
        })?;
        config.alpn_protocols = vec![b"dot".to_vec()];
        // Clients come back without a handshake of both keys; we keep nothing for them.
        config.ticketer = ring::Ticketer::new()
            .map_err(|problem| error(&files.key, format!("no random numbers: {problem}")))?;
        Ok(Self {
            contents,
            config: Arc::new(config),
            not_after,
        })
    }

    /// Whether it is what these files hold.
    pub fn is_of(&self, contents: &Contents) -> bool {
        self.contents == *contents
    }

    /// The end of its validity, in seconds since 1970; `None`: it cannot be read.
    pub fn not_after(&self) -> Option<i64> {
        self.not_after
    }

    /// Parts of it that a handshake needs.
    pub fn server_config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.config)
    }
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    files::read_at_most(path, FILE_MAX).map_err(|problem| Error::cannot_read(path, &problem))
}

fn error(file: &Path, message: String) -> Error {
    Error {
        file: file.to_owned(),
        line: None,
        column: None,
        key: None,
        message,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// Certificate and key, in PEM.
    fn made() -> (String, String) {
        let made = rcgen::generate_simple_self_signed(vec!["ns1.example.org".to_owned()]).unwrap();
        (made.cert.pem(), made.signing_key.serialize_pem())
    }

    #[test]
    fn a_good_pair_is_read_and_each_broken_one_is_one_clear_line() {
        let folder = tempfile::tempdir().unwrap();
        let files = CertificateFiles {
            certificate: folder.path().join("cert.pem"),
            key: folder.path().join("key.pem"),
        };
        let (certificate, key) = made();
        let (_, other_key) = made();
        let read = |certificate: &str, key: &str| {
            fs::write(&files.certificate, certificate).unwrap();
            fs::write(&files.key, key).unwrap();
            Certificate::read(&files).map_err(|error| {
                let line = error.to_string();
                line.replace(&format!("{}/", folder.path().display()), "")
            })
        };
        let good = read(&certificate, &key).unwrap();
        assert!(good.is_of(&Contents::read(&files).unwrap()));
        assert!(!format!("{good:?}").contains("PRIVATE"));
        // The key may stand in the certificate's file, and the other way round.
        let both = format!("{certificate}{key}");
        assert!(read(&both, &both).is_ok());
        let cut = &certificate[..certificate.len() / 2];
        let garbled = certificate.replace("MII", "!!!");
        let no_certificate = "cert.pem: there is no certificate in it; it must be PEM, the server's \
                              certificate first, then those between it and the root";
        for (certificate, key, expected) in [
            ("", &*key, no_certificate),
            (&*key, &*key, no_certificate),
            (
                &*certificate,
                "",
                "key.pem: there is no private key in it; it must be PEM, not encrypted by a passphrase",
            ),
            (
                &*certificate,
                &*other_key,
                "key.pem: is not the key of cert.pem; name two that belong together",
            ),
        ] {
            assert_eq!(read(certificate, key).unwrap_err(), expected);
        }
        for broken in [cut, &*garbled] {
            let line = read(broken, &key).unwrap_err();
            assert!(line.starts_with("cert.pem: "), "{line}");
            assert!(line.contains("it must be PEM"), "{line}");
            assert!(!line.contains('\n'), "{line}");
        }
        assert!(!good.is_of(&Contents::read(&files).unwrap()));
        let large = "#".repeat(FILE_MAX as usize + 1);
        let line = read(&large, &key).unwrap_err();
        assert!(
            line.starts_with("cert.pem: cannot read: it is larger"),
            "{line}"
        );
        fs::remove_file(&files.key).unwrap();
        let line = Certificate::read(&files).unwrap_err().to_string();
        assert!(
            line.contains("cert.pem: cannot read: it is larger"),
            "{line}"
        );
        fs::write(&files.certificate, &certificate).unwrap();
        let line = Certificate::read(&files).unwrap_err().to_string();
        assert!(
            line.contains("key.pem: cannot read: No such file"),
            "{line}"
        );
        fs::create_dir(&files.key).unwrap();
        let line = Certificate::read(&files).unwrap_err().to_string();
        assert!(
            line.contains("key.pem: cannot read: it is a folder, and must be a regular file"),
            "{line}"
        );
    }
}

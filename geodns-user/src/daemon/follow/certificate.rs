//! Certificates are read again when their files change: that of DNS over TLS, and those of the HTTP listeners.

use std::sync::Arc;

use super::{Watched, looks};
use crate::base::complaint::Error;
use crate::certificate::{Certificate, Contents};
use crate::config::{CertificateFiles, Config};
use crate::daemon::Daemon;
use crate::event::Kind;
use crate::supervise::Never;

/// A listener that presents a certificate.
struct Presenter {
    /// The files that the configuration names.
    files: fn(&Config) -> Option<&CertificateFiles>,
    in_force: fn(&Daemon) -> Option<Arc<Certificate>>,
    put: fn(&Daemon, Arc<Certificate>),
}

const PRESENTERS: [Presenter; 4] = [
    Presenter {
        files: |config| config.tls.as_ref().map(|tls| &tls.files),
        in_force: |daemon| daemon.server.certificate(),
        put: |daemon, certificate| daemon.server.set_certificate(Some(certificate)),
    },
    Presenter {
        files: |config| config.web.tls.as_ref(),
        in_force: |daemon| daemon.listeners.web.certificate(),
        put: |daemon, certificate| daemon.listeners.web.set_certificate(Some(certificate)),
    },
    Presenter {
        files: |config| config.metrics.as_ref()?.tls.as_ref(),
        in_force: |daemon| daemon.listeners.metrics.certificate(),
        put: |daemon, certificate| daemon.listeners.metrics.set_certificate(Some(certificate)),
    },
    Presenter {
        files: |config| config.public.as_ref()?.tls.as_ref(),
        in_force: |daemon| daemon.listeners.public.certificate(),
        put: |daemon, certificate| daemon.listeners.public.set_certificate(Some(certificate)),
    },
];

/// The files of a certificate, and their content or the reason that there is none.
type Seen = (CertificateFiles, Result<Contents, Error>);

impl Daemon {
    /// Reads each certificate again whenever it changes, for ever.
    pub async fn follow_certificates(self: Arc<Self>) -> Never {
        let mut looks = looks();
        let mut watched: [Watched<Seen>; PRESENTERS.len()] = Default::default();
        loop {
            looks.tick().await;
            for (presenter, watched) in PRESENTERS.iter().zip(&mut watched) {
                self.follow_certificate(presenter, watched).await;
            }
        }
    }

    async fn follow_certificate(&self, presenter: &Presenter, watched: &mut Watched<Seen>) {
        let failure = &self.report.failure;
        let config = Arc::clone(&self.world.load().inputs.config);
        let Some(files) = (presenter.files)(&config).cloned() else {
            watched.due(None, failure);
            return;
        };
        // Two small files, on whatever file system.
        let read = tokio::task::spawn_blocking(move || (Contents::read(&files), files)).await;
        let Ok((read, files)) = read else { return };
        // A reload may have named others meanwhile.
        if (presenter.files)(&self.world.load().inputs.config) != Some(&files) {
            return;
        }
        let in_force = (presenter.in_force)(self);
        let is_in_force = in_force
            .zip(read.as_ref().ok())
            .is_some_and(|(in_force, contents)| in_force.is_of(contents));
        let changed = (!is_in_force).then_some((files, read));
        if let Some(seen) = watched.due(changed, failure) {
            watched.done(self.put_certificate(presenter, seen), failure);
        }
    }

    /// Puts a certificate in force, if it is good. Else gives what is wrong with it.
    fn put_certificate(&self, presenter: &Presenter, (files, read): Seen) -> Result<(), String> {
        match read.and_then(|contents| Certificate::check(&files, contents)) {
            Ok(certificate) => {
                (presenter.put)(self, Arc::new(certificate));
                let file = files.certificate.display();
                tracing::info!(event = Kind::Reload.name(), %file, "read again: {file}");
                Ok(())
            }
            Err(error) => {
                let line = error.to_string();
                let event = Kind::Reload.name();
                tracing::error!(
                    event,
                    cause = line,
                    "the certificate stays as it was: {line}"
                );
                Err(line)
            }
        }
    }
}

//! Certificates are read again when their files change: that of DNS over TLS, and those of the HTTP listeners.

use std::sync::Arc;

use super::{Watched, looks};
use crate::base::complaint::Error;
use crate::certificate::{Certificate, Contents};
use crate::config::CertificateFiles;
use crate::daemon::Daemon;
use crate::daemon::listeners::{Listeners, Secured};
use crate::event::Kind;
use crate::supervise::Never;

/// A listener that presents a certificate.
enum Presenter {
    DnsOverTls,
    Http(fn(&Listeners) -> &Secured),
}

const PRESENTERS: [Presenter; 4] = [
    Presenter::DnsOverTls,
    Presenter::Http(|all| &all.web),
    Presenter::Http(|all| &all.metrics),
    Presenter::Http(|all| &all.public),
];

impl Presenter {
    /// The files that the configuration in force names.
    fn files(&self, daemon: &Daemon) -> Option<CertificateFiles> {
        let config = &daemon.world.load().inputs.config;
        match self {
            Self::DnsOverTls => config.tls.as_ref().map(|tls| tls.files.clone()),
            Self::Http(of) => of(&daemon.listeners).files(config).cloned(),
        }
    }

    fn in_force(&self, daemon: &Daemon) -> Option<Arc<Certificate>> {
        match self {
            Self::DnsOverTls => daemon.server.certificate(),
            Self::Http(of) => of(&daemon.listeners).certificate(),
        }
    }

    fn put(&self, daemon: &Daemon, certificate: Arc<Certificate>) {
        match self {
            Self::DnsOverTls => daemon.server.set_certificate(Some(certificate)),
            Self::Http(of) => of(&daemon.listeners).set_certificate(Some(certificate)),
        }
    }
}

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
        let Some(files) = presenter.files(self) else {
            watched.due(None, failure);
            return;
        };
        // Two small files, on whatever file system.
        let read = tokio::task::spawn_blocking(move || (Contents::read(&files), files)).await;
        let Ok((read, files)) = read else { return };
        // A reload may have named others meanwhile.
        if presenter.files(self).as_ref() != Some(&files) {
            return;
        }
        let in_force = presenter.in_force(self);
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
                presenter.put(self, Arc::new(certificate));
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

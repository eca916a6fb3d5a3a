//! The certificate of DNS over TLS is read again when its files change.

use std::sync::Arc;

use super::{Watched, looks};
use crate::base::complaint::Error;
use crate::certificate::{Certificate, Contents};
use crate::config::CertificateFiles;
use crate::daemon::Daemon;
use crate::event::Kind;
use crate::supervise::Never;

impl Daemon {
    /// Reads the certificate again whenever it changes, for ever.
    pub async fn follow_certificate(self: Arc<Self>) -> Never {
        let failure = &self.report.failure;
        let mut looks = looks();
        let mut watched = Watched::default();
        loop {
            looks.tick().await;
            let tls = self.world.load().inputs.config.tls.clone();
            let Some(named) = tls.map(|tls| tls.files) else {
                watched.due(None, failure);
                continue;
            };
            // Two small files, on whatever file system.
            let files = named.clone();
            let read = tokio::task::spawn_blocking(move || Contents::read(&files)).await;
            let Ok(read) = read else { continue };
            let changed = Some(read).filter(|read| !self.is_in_force(read));
            if let Some(read) = watched.due(changed, failure) {
                watched.done(self.put_certificate(&named, read), failure);
            }
        }
    }

    fn is_in_force(&self, read: &Result<Contents, Error>) -> bool {
        let in_force = self.server.certificate();
        let contents = read.as_ref();
        in_force.is_some_and(|in_force| contents.is_ok_and(|contents| in_force.is_of(contents)))
    }

    /// Puts a certificate in force, if it is good. Else gives what is wrong with it.
    fn put_certificate(
        &self,
        files: &CertificateFiles,
        read: Result<Contents, Error>,
    ) -> Result<(), String> {
        match read.and_then(|contents| Certificate::check(files, contents)) {
            Ok(certificate) => {
                self.server.set_certificate(Some(Arc::new(certificate)));
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

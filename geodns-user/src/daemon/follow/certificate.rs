//! The certificate of DNS over TLS: read again when its files change. A broken one changes nothing.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::MissedTickBehavior;

use crate::base::complaint::Error;
use crate::certificate::{Certificate, Contents};
use crate::config::DnsOverTls;
use crate::daemon::Daemon;
use crate::supervise::Never;

/// How often the files are looked at; when both are the same for so long they are taken for complete.
const LOOK: Duration = Duration::from_secs(1);

/// What was seen of files that are not in force.
#[derive(Default)]
struct Watch {
    /// At the last look.
    seen: Option<Result<Contents, Error>>,
    /// What could not be put in force, and what was said of it.
    failed: Option<(Result<Contents, Error>, String)>,
}

impl Daemon {
    /// Reads the certificate again whenever it changes, for ever.
    pub async fn follow_certificate(self: Arc<Self>) -> Never {
        let mut look = tokio::time::interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut watch = Watch::default();
        loop {
            look.tick().await;
            let tls = self.world.load().inputs.config.tls.clone();
            let Some(tls) = tls else {
                self.forgive(&mut watch.failed);
                continue;
            };
            // Two small files, on whatever file system.
            let files = tls.clone();
            let read = tokio::task::spawn_blocking(move || Contents::read(&files)).await;
            let Ok(read) = read else { continue };
            self.look_at_certificate(&mut watch, &tls, read);
        }
    }

    fn look_at_certificate(
        &self,
        watch: &mut Watch,
        tls: &DnsOverTls,
        read: Result<Contents, Error>,
    ) {
        let in_force = self.server.certificate();
        if let (Some(in_force), Ok(contents)) = (in_force, &read)
            && in_force.is_of(contents)
        {
            watch.seen = None;
            self.forgive(&mut watch.failed);
            return;
        }
        let rested = watch.seen.as_ref() == Some(&read);
        let failed = watch.failed.as_ref().is_some_and(|(at, _)| *at == read);
        watch.seen = Some(read.clone());
        if !rested || failed {
            return;
        }
        match read
            .clone()
            .and_then(|contents| Certificate::check(tls, contents))
        {
            Ok(certificate) => {
                self.server.set_certificate(Some(Arc::new(certificate)));
                let file = tls.certificate.display();
                tracing::info!(%file, "read again: {file}");
                self.forgive(&mut watch.failed);
            }
            Err(error) => {
                let line = error.to_string();
                tracing::error!(cause = line, "the certificate stays as it was: {line}");
                self.complain(&line);
                watch.failed = Some((read, line));
            }
        }
    }
}

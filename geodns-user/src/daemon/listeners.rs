//! The HTTP listeners: of the dashboard, of metrics, and of the pages for visitors. A reload changes their addresses,
//! certificates and pages together, or nothing of them.

use std::net::SocketAddr;
use std::sync::Arc;

use arc_swap::ArcSwapOption;

use super::Daemon;
use super::control::Control;
use crate::certificate::Certificate;
use crate::config::{CertificateFiles, Config};
use crate::http::{Bound, Listener, Settings};
use crate::web::pages;

/// All HTTP listeners, each by its section. One without addresses is closed.
pub struct Listeners {
    /// `[web]`: the dashboard.
    pub web: Secured,
    /// `[metrics]`: numbers for Prometheus.
    pub metrics: Secured,
    /// `[public]`: pages for visitors.
    pub public: Secured,
}

/// A listener, over HTTPS if it has a certificate.
pub struct Secured {
    section: &'static str,
    wanted: Wanted,
    listener: Listener,
    certificate: ArcSwapOption<Certificate>,
}

/// Everything of a section that can fail, done.
struct Prepared {
    bound: Bound,
    certificate: Option<Arc<Certificate>>,
}

/// Everything of a configuration that can fail for the listeners, done.
pub struct Ready {
    web: Prepared,
    metrics: Prepared,
    public: Prepared,
}

/// The addresses of a section, and the files of its certificate.
type Wanted = fn(&Config) -> (&[SocketAddr], Option<&CertificateFiles>);

impl Default for Listeners {
    fn default() -> Self {
        Self {
            web: Secured::new("web", |config| {
                (&config.web.listen, config.web.tls.as_ref())
            }),
            metrics: Secured::new("metrics", |config| match &config.metrics {
                Some(of) => (&of.listen, of.tls.as_ref()),
                None => (&[], None),
            }),
            public: Secured::new("public", |config| match &config.public {
                Some(of) => (&of.listen, of.tls.as_ref()),
                None => (&[], None),
            }),
        }
    }
}

impl Listeners {
    /// Binds the addresses of a configuration, and reads its certificates.
    pub fn prepare(&self, config: &Config) -> Result<Ready, String> {
        Ok(Ready {
            web: self.web.prepare(config)?,
            metrics: self.metrics.prepare(config)?,
            public: self.public.prepare(config)?,
        })
    }
}

impl Secured {
    fn new(section: &'static str, wanted: Wanted) -> Self {
        Self {
            section,
            wanted,
            listener: Listener::new(section),
            certificate: ArcSwapOption::empty(),
        }
    }

    fn prepare(&self, config: &Config) -> Result<Prepared, String> {
        let (listen, files) = (self.wanted)(config);
        let certificate = files.map(Certificate::read).transpose();
        Ok(Prepared {
            certificate: certificate
                .map_err(|error| error.to_string())?
                .map(Arc::new),
            bound: self.listener.bind(listen)?,
        })
    }

    /// The files of the certificate that a configuration names.
    pub fn files<'a>(&self, config: &'a Config) -> Option<&'a CertificateFiles> {
        (self.wanted)(config).1
    }

    fn open(&self, prepared: Prepared, settings: Settings) {
        let before = self.listener.listening();
        self.set_certificate(prepared.certificate);
        self.listener.listen(prepared.bound, settings);
        let (section, now) = (self.section, self.listener.listening());
        for at in now.iter().filter(|at| !before.contains(at)) {
            tracing::info!(address = %at, "[{section}] is on {at} from now on");
        }
        for at in before.iter().filter(|at| !now.contains(at)) {
            tracing::info!(address = %at, "[{section}] is no longer on {at}");
        }
    }

    /// Whether anybody can reach it.
    pub fn is_open(&self) -> bool {
        !self.listener.listening().is_empty()
    }

    /// The certificate that is in force.
    pub fn certificate(&self) -> Option<Arc<Certificate>> {
        self.certificate.load_full()
    }

    /// Presents another certificate, on connections from now on.
    pub fn set_certificate(&self, certificate: Option<Arc<Certificate>>) {
        self.listener
            .set_tls(certificate.as_ref().map(|certificate| {
                let mut tls = (*certificate.server_config()).clone();
                tls.alpn_protocols = vec![b"http/1.1".to_vec()];
                Arc::new(tls)
            }));
        self.certificate.store(certificate);
    }
}

impl Daemon {
    /// Opens, moves and closes the HTTP listeners, as the configuration in force wants it.
    pub fn open_listeners(self: &Arc<Self>, ready: Ready) {
        let config = &self.world.load_full().inputs.config;
        let service = Arc::new(Control(Arc::clone(self)));
        let dashboard = Settings {
            router: pages(service, config.web.token.clone()),
            hosts: Some(config.web.hosts.clone()),
        };
        self.listeners.web.open(ready.web, dashboard);
        self.web.open();
        let metrics = Settings {
            router: self.metrics.router(),
            hosts: None,
        };
        self.listeners.metrics.open(ready.metrics, metrics);
        let host = config.public.as_ref().and_then(|of| of.host.clone());
        let visitors = Settings {
            router: self.visitors.router(),
            hosts: host.map(|host| vec![host]),
        };
        self.listeners.public.open(ready.public, visitors);
    }
}

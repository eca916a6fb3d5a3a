//! The dashboard's side of the daemon: its listener, and what pages show beside the calls of the API.
//!
//! - `live`: numbers of each second, and the trends, for as long as somebody may look
//! - `map`: the world by mirrors, looked up in the plan that answers

mod live;
mod map;

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use tokio::sync::{Notify, watch};

use super::Daemon;
use super::control::Control;
use crate::base::clock::now_unix_ms;
use crate::base::lock::lock;
use crate::certificate::Certificate;
use crate::config::Config;
use crate::control::preview::Preview;
use crate::control::problem::Failure;
use crate::http::{Bound, Settings, Site};
use crate::observe::trends::Trends;
use crate::web::pages;
use crate::web::view::{self, Live, Map};

/// State of the dashboard.
pub struct Web {
    site: Site,
    /// Tells that there may be visitors from now on.
    opened: Notify,
    live: watch::Sender<Arc<Live>>,
    trends: Mutex<Arc<Trends>>,
    preview: Mutex<Option<(u64, Arc<Preview>)>>,
    maps: Mutex<map::Maps>,
}

impl Default for Web {
    fn default() -> Self {
        Self {
            site: Site::new("web"),
            opened: Notify::default(),
            live: watch::Sender::default(),
            trends: Mutex::default(),
            preview: Mutex::default(),
            maps: Mutex::default(),
        }
    }
}

/// Everything of the section `[web]` that can fail, done.
pub struct Ready {
    bound: Bound,
    settings: Settings,
}

impl Web {
    /// Binds the addresses of a configuration, and reads its certificate.
    pub fn prepare(&self, config: &Config) -> Result<Ready, String> {
        let web = &config.web;
        let tls = web.tls.as_ref().map(Certificate::read).transpose();
        let tls = tls.map_err(|error| error.to_string())?.map(|read| {
            let mut tls = (*read.server_config()).clone();
            tls.alpn_protocols = vec![b"http/1.1".to_vec()];
            Arc::new(tls)
        });
        Ok(Ready {
            bound: self.site.bind(&web.listen)?,
            settings: Settings {
                hosts: Some(web.hosts.clone()),
                tls,
                ..Settings::default()
            },
        })
    }

    /// Whether there may be visitors.
    fn is_open(&self) -> bool {
        !self.site.listening().is_empty()
    }

    /// Takes note of a preview that somebody has asked for.
    pub fn previewed(&self, preview: &Preview) {
        *lock(&self.preview) = Some((now_unix_ms(), Arc::new(preview.clone())));
    }
}

impl Daemon {
    /// Shows the dashboard as a configuration wants it.
    pub fn open_web(self: &Arc<Self>, ready: Ready, config: &Config) {
        let Ready { bound, settings } = ready;
        let service = Arc::new(Control(Arc::clone(self)));
        let before = self.web.site.listening();
        let settings = Settings {
            router: pages(service, config.web.token.clone()),
            ..settings
        };
        self.web.site.listen(bound, settings);
        let now = self.web.site.listening();
        for at in now.iter().filter(|at| !before.contains(at)) {
            tracing::info!(address = %at, "dashboard on {at}");
        }
        for at in before.iter().filter(|at| !now.contains(at)) {
            tracing::info!(address = %at, "no dashboard on {at} any more");
        }
        self.web.opened.notify_one();
    }
}

#[async_trait]
impl view::Service for Control {
    async fn map(&self, pool: Option<String>) -> Result<Arc<Map>, Failure> {
        self.0.map_of(pool).await
    }

    fn trends(&self) -> Arc<Trends> {
        Arc::clone(&lock(&self.0.web.trends))
    }

    fn last_preview(&self) -> Option<(u64, Arc<Preview>)> {
        lock(&self.0.web.preview).clone()
    }

    fn live(&self) -> watch::Receiver<Arc<Live>> {
        self.0.web.live.subscribe()
    }
}

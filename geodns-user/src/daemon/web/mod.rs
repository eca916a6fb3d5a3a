//! The dashboard's side of the daemon: what pages show beside the calls of the API.
//!
//! - `live`: numbers of each second, and the trends, for as long as somebody may look
//! - `map`: the world by mirrors, looked up in the plan that answers

mod live;
mod map;

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use tokio::sync::{Notify, watch};

use super::control::Control;
use crate::base::clock::now_unix_ms;
use crate::base::lock::lock;
use crate::control::preview::Preview;
use crate::control::problem::Failure;
use crate::observe::trends::Trends;
use crate::web::view::{self, Live, Map};

/// State of the dashboard.
#[derive(Default)]
pub struct Web {
    /// Tells that there may be visitors from now on.
    opened: Notify,
    live: watch::Sender<Arc<Live>>,
    trends: Mutex<Arc<Trends>>,
    preview: Mutex<Option<(u64, Arc<Preview>)>>,
    maps: Mutex<map::Maps>,
}

impl Web {
    /// Tells that there may be visitors from now on.
    pub fn open(&self) {
        self.opened.notify_one();
    }

    /// Takes note of a preview that somebody has asked for.
    pub fn previewed(&self, preview: &Preview) {
        *lock(&self.preview) = Some((now_unix_ms(), Arc::new(preview.clone())));
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

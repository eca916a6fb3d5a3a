//! GeoIP databases that change: read again beside the running world, and put in force when they are
//! good. A broken one changes nothing.
//!
//! A database is copied into the folder of the state. What a compile does not need afterwards is given back, and an edit
//! reads it again from the copy. A file that changes is read once it has rested for a second, beside the running world.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::MissedTickBehavior;

use crate::config::Config;
use crate::control::api::Failure;
use crate::daemon::Daemon;
use crate::daemon::force::internal;
use crate::geo::Geography;
use crate::geo::mmdb::Fingerprint;
use crate::state;
use crate::supervise::Never;
use crate::world::Warning;

/// How often the files are looked at; one that is the same for so long is taken for complete.
const LOOK: Duration = Duration::from_secs(1);

/// Where databases are copied to: beside the state.
pub fn folder(config: &Config) -> PathBuf {
    // One that cannot be made cannot be copied into either, and that error says more.
    let made = state::folder(&config.state);
    made.unwrap_or_else(|_| config.state.clone())
}

/// What was seen of files that are not in force.
#[derive(Default)]
struct Watch {
    /// Those of the last look.
    seen: Vec<Fingerprint>,
    /// Those that could not be put in force, and why.
    failed: Option<(Vec<Fingerprint>, String)>,
}

impl Watch {
    /// Notes what has changed; whether it has rested and is to be read.
    fn is_due(&mut self, changed: Vec<Fingerprint>) -> bool {
        let failed = self.failed.as_ref().is_some_and(|(at, _)| *at == changed);
        let rested = self.seen == changed;
        self.seen = changed;
        rested && !failed && !self.seen.is_empty()
    }
}

impl Daemon {
    /// Reads databases again whenever they change, for ever.
    pub async fn follow_databases(self: Arc<Self>) -> Never {
        let mut look = tokio::time::interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut watch = Watch::default();
        loop {
            look.tick().await;
            let world = self.world.load_full();
            // A few calls of stat, on whatever file system.
            let changed = tokio::task::spawn_blocking(move || changed(&world.inputs.geography));
            let changed = changed.await.unwrap_or_default();
            if changed.is_empty() {
                self.forgive(&mut watch.failed);
            }
            if watch.is_due(changed) {
                self.read_databases(&mut watch).await;
            }
        }
    }

    /// Reads databases that have changed. The outcome is in the log, a failure in the status too.
    async fn read_databases(self: &Arc<Self>, watch: &mut Watch) {
        match self.try_read_databases().await {
            Ok(generation) => {
                let files = watch.seen.iter().map(|one| one.path.display().to_string());
                let files: Vec<_> = files.collect();
                let files = files.join(", ");
                tracing::info!(
                    files,
                    plan = generation,
                    "read again: {files}; plan {generation}"
                );
                self.forgive(&mut watch.failed);
            }
            Err(failure) => {
                let line = failure.to_string();
                tracing::error!(
                    cause = line,
                    "the GeoIP databases stay as they were: {line}"
                );
                self.complain(&line);
                watch.failed = Some((watch.seen.clone(), line));
            }
        }
    }

    async fn try_read_databases(self: &Arc<Self>) -> Result<u64, Failure> {
        let _alone = self.read_alone().await?;
        let world = self.world.load_full();
        let open = move || {
            let config = &world.inputs.config;
            let previous = Some(&*world.inputs.geography);
            Geography::open(&config.databases, &folder(config), previous)
                .map_err(|error| Failure::Invalid(error.to_string()))
        };
        let geography = tokio::task::spawn_blocking(open)
            .await
            .map_err(internal)??;
        self.change(move |daemon| daemon.regeo(geography)).await
    }

    /// Compiles a world with these databases, and puts it in force. Gives its number.
    fn regeo(&self, geography: Geography) -> Result<u64, Failure> {
        let world = self.world.load_full();
        let mut inputs = world.inputs_now();
        inputs.geography = Arc::new(geography);
        let generation = world.generation + 1;
        let next = self.compile(&inputs, &world.layers(), generation)?;
        let instance = self.prepare(&next)?;
        self.commit(next, instance)?;
        inputs.warnings().iter().for_each(Warning::log);
        Ok(generation)
    }
}

/// What is there now of the files that have changed.
fn changed(geography: &Geography) -> Vec<Fingerprint> {
    let changed = geography.changed();
    let now = changed.iter().map(|path| Fingerprint::now(path));
    now.filter_map(Result::ok).collect()
}

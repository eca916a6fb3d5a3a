//! GeoIP databases are read again when they change, beside the running world, and put in force when they are good.
//!
//! A database is copied into the folder of the state. Memory that a compile does not need afterwards is given back, and
//! an edit reads it again from the copy.

use std::path::PathBuf;
use std::sync::Arc;

use super::{Watched, looks};
use crate::config::Config;
use crate::control::problem::Failure;
use crate::daemon::Daemon;
use crate::daemon::force::internal;
use crate::event::Kind;
use crate::geo::Geography;
use crate::geo::mmdb::Fingerprint;
use crate::state;
use crate::supervise::Never;
use crate::world::Warning;

/// The folder that databases are copied to, beside the state.
pub fn folder(config: &Config) -> PathBuf {
    // One that cannot be made cannot be copied into either, and that error says more.
    let made = state::folder(&config.state);
    made.unwrap_or_else(|_| config.state.clone())
}

impl Daemon {
    /// Reads databases again whenever they change, for ever.
    pub async fn follow_databases(self: Arc<Self>) -> Never {
        let failure = &self.report.failure;
        let mut looks = looks();
        let mut watched = Watched::default();
        loop {
            looks.tick().await;
            let world = self.world.load_full();
            // A few calls of stat, on whatever file system.
            let changed = tokio::task::spawn_blocking(move || changed(&world.inputs.geography));
            let changed = changed.await.unwrap_or_default();
            let changed = Some(changed).filter(|changed| !changed.is_empty());
            if let Some(changed) = watched.due(changed, failure) {
                watched.done(self.read_databases(&changed).await, failure);
            }
        }
    }

    /// Reads databases that have changed. The outcome is in the log; a failure is given, too.
    async fn read_databases(self: &Arc<Self>, changed: &[Fingerprint]) -> Result<(), String> {
        match self.try_read_databases().await {
            Ok(generation) => {
                let files = changed.iter().map(|one| one.path.display().to_string());
                let files: Vec<_> = files.collect();
                let files = files.join(", ");
                tracing::info!(
                    event = Kind::Reload.name(),
                    files,
                    plan = generation,
                    "read again: {files}; plan {generation}"
                );
                Ok(())
            }
            Err(failure) => {
                let line = failure.to_string();
                tracing::error!(
                    event = Kind::Reload.name(),
                    cause = line,
                    "the GeoIP databases stay as they were: {line}"
                );
                Err(line)
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

/// Fingerprints of the files that have changed, as they are now.
fn changed(geography: &Geography) -> Vec<Fingerprint> {
    let changed = geography.changed();
    let now = changed.iter().map(|path| Fingerprint::now(path));
    now.filter_map(Result::ok).collect()
}

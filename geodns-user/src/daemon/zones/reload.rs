//! `reload ZONE`: one zone is read again.

use std::sync::Arc;

use super::acme;
use crate::base::name::parse_name;
use crate::control::by::By;
use crate::control::problem::Failure;
use crate::control::reload::Reloaded;
use crate::daemon::Daemon;
use crate::daemon::audit::{self, Who};
use crate::daemon::force::internal;
use crate::zone;

impl Daemon {
    /// `reload ZONE`: reads its file again, or asks its primaries. On an error nothing changes.
    pub async fn reload_zone(self: &Arc<Self>, name: &str, by: &By) -> Result<Reloaded, Failure> {
        let apex = parse_name(name).map_err(Failure::Invalid)?;
        let world = self.world.load_full();
        let config = Arc::clone(&world.inputs.config);
        let Some(number) = world.zone_number(&apex) else {
            let names: Vec<_> = config
                .zones
                .iter()
                .map(|zone| zone.name.to_string())
                .collect();
            let message = format!("no zone {apex}; there are {}", names.join(", "));
            return Err(Failure::NotFound(message));
        };
        if config.zones[number].is_producer() {
            return Err(Failure::Invalid(format!(
                "{apex} is made of what the configuration says: reload that, without naming a zone"
            )));
        }
        if config.zones[number].file.is_none() {
            self.refresh(&apex);
            return Ok(Reloaded {
                generation: world.generation,
                warning: Some(format!(
                    "{apex} comes from its primaries: they are being asked"
                )),
            });
        };
        drop(world);
        // Reading it is none of the others' business.
        let _alone = self.read_alone().await?;
        let read = {
            let config = Arc::clone(&config);
            move || zone::read_file(&config, &config.zones[number])
        };
        let zone = tokio::task::spawn_blocking(read).await;
        let zone = zone
            .map_err(internal)?
            .map_err(|error| Failure::Invalid(error.to_string()));
        let put = match zone {
            Ok(mut zone) => {
                let put = move |daemon: &Self| {
                    acme::put_over(&daemon.world.load().inputs.config, &daemon.state, &mut zone)?;
                    daemon.put_zone(zone)
                };
                self.change(put).await
            }
            Err(failure) => Err(failure),
        };
        audit::reload_zone(&Who::of(by), &apex, &put);
        put.map(|()| Reloaded {
            generation: self.world.load().generation,
            warning: None,
        })
    }
}

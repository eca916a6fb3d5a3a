//! The zones, as the control socket lists them.

use std::collections::BTreeMap;

use async_trait::async_trait;

use crate::base::clock::now_unix_ms;
use crate::config::Catalog;
use crate::control::problem::Failure;
use crate::control::zone::{self, Zone, ZoneRole};
use crate::daemon::control::Control;

#[async_trait]
impl zone::Service for Control {
    async fn zones(&self) -> Result<Vec<Zone>, Failure> {
        let world = self.0.world.load_full();
        let config = &world.inputs.config;
        let zones = world.zones.load();
        let mut steered = vec![BTreeMap::new(); zones.len()];
        for steer in &config.steers {
            if let Some((number, _)) = zones.find(steer.name.for_slice()) {
                let pool = config.pools[steer.pool].id.clone();
                steered[number].insert(steer.name.fmt_with_dot().to_string(), pool);
            }
        }
        let now_unix_ms = now_unix_ms();
        let shown = zones.iter().zip(&config.zones).zip(steered);
        let shown = shown.map(|((zone, of), steered)| {
            let listed = of.listing.as_ref().map(|listing| &listing.catalog);
            let member_of = of.member.as_ref().map(|member| &member.catalog).or(listed);
            let checked_unix_ms = self.0.checked_unix_ms(&zone.apex);
            let expires = checked_unix_ms.filter(|_| !zone.is_empty());
            Zone {
                name: zone.apex.fmt_with_dot().to_string(),
                serial: zone.serial(),
                names: zone.names() as u64,
                steered,
                catalog: of.catalog.as_ref().map(|catalog| match catalog {
                    Catalog::Consumer(_) => zone::Catalog::Consumer,
                    Catalog::Producer => zone::Catalog::Producer,
                }),
                member_of: member_of.map(|catalog| catalog.fmt_with_dot().to_string()),
                role: match of.primaries.is_empty() {
                    true => ZoneRole::Primary,
                    false => ZoneRole::Secondary,
                },
                signed: zone.is_signed(),
                checked_unix_ms,
                expires_unix_ms: expires.map(|at| at + 1000 * zone.expire().as_secs()),
                now_unix_ms,
            }
        });
        Ok(shown.collect())
    }
}

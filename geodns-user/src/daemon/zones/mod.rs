//! Zones that change on their own: from other servers, by catalogs, by tokens of ACME challenges.
//!
//! - `put`: one zone put in the place of another
//! - `notify_out`: secondaries are told of changes; `notify_in`: primaries say that they have changed
//! - `secondary`: zones from other servers
//! - `acme`: tokens of ACME challenges
//! - `catalogs`: zones that come and go as catalogs list them, and catalogs of ours
//! - `promote`: names that are asked often, into the kernel's table
//! - `reload`: one zone read again

pub mod acme;
pub mod catalogs;
mod notify_in;
mod notify_out;
mod promote;
mod put;
mod reload;
mod secondary;

pub use catalogs::Catalogs;
pub use notify_out::Announcements;
pub use promote::Promotion;
pub use put::{kept_for, number};
pub use secondary::Secondaries;

use std::sync::Arc;

use super::Daemon;
use super::report::systemd;
use crate::zone::Zones;

impl Daemon {
    /// After a new configuration is in force: who gives and takes which zones now, and who is told.
    pub fn follow_zones(self: &Arc<Self>, before: Option<&Zones>) {
        let world = self.world.load_full();
        let zones = world.zones.load_full();
        self.follow_primaries();
        self.catalogs.have_changed();
        for zone in zones.iter().filter(|zone| !zone.is_empty()) {
            let before = before.and_then(|before| before.find(zone.apex.for_slice()));
            let before = before.filter(|(_, before)| before.apex == zone.apex);
            if before.is_none_or(|(_, before)| before.serial() != zone.serial()) {
                self.announce(&zone.apex);
            }
        }
        systemd::ready(&self.summary());
    }
}

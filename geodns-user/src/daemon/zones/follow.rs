//! After a new configuration is in force: who gives and takes which zones now, and who is told.

use std::sync::Arc;

use crate::daemon::Daemon;
use crate::daemon::report::systemd;
use crate::zone::Zones;

impl Daemon {
    /// Looks after the zones of the configuration in force. Secondaries are told of those that have changed since
    /// `before`.
    pub fn follow_zones(self: &Arc<Self>, before: Option<&Zones>) {
        let world = self.world.load_full();
        let zones = world.zones.load_full();
        self.follow_primaries();
        self.zones.catalogs.have_changed();
        for zone in zones.iter().filter(|zone| !zone.is_empty()) {
            let before = before.and_then(|before| before.find(zone.apex.for_slice()));
            let before = before.filter(|(_, before)| before.apex == zone.apex);
            if before.is_none_or(|(_, before)| before.serial() != zone.serial()) {
                self.notify_secondaries(&zone.apex);
            }
        }
        systemd::ready(&self.summary());
    }
}

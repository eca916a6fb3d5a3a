//! Zones that change on their own: from other servers, by catalogs, by tokens of ACME challenges.
//!
//! - `notify_out`: secondaries are told of changes
//! - `put`: one zone put in the place of another
//! - `secondary`: zones from other servers; `notify_in`: their primaries say that they have changed
//! - `follow`: who gives and takes which zones, after a new configuration
//! - `acme`: tokens of ACME challenges
//! - `catalogs`: zones that come and go as catalogs list them, and catalogs of ours
//! - `reload`: one zone read again; `list`: the list of zones
//! - `promote`: names that are asked often, into the kernel's table

pub mod acme;
pub mod catalogs;
mod follow;
mod list;
mod notify_in;
mod notify_out;
mod promote;
mod put;
mod reload;
mod secondary;

use acme::Tokens;
use notify_out::Notifications;
use promote::Promotion;
use put::CatalogSignal;
pub use put::kept_for;
use secondary::Secondaries;

use crate::transfer::kept::KeptZones;

/// The state of zones that change on their own.
pub struct ChangingZones {
    /// Transferred zones on disk.
    kept: KeptZones,
    notifications: Notifications,
    secondaries: Secondaries,
    tokens: Tokens,
    catalogs: CatalogSignal,
    promotion: Promotion,
}

impl ChangingZones {
    /// Nothing is under way yet.
    pub fn new(kept: KeptZones) -> Self {
        Self {
            kept,
            notifications: Notifications::default(),
            secondaries: Secondaries::default(),
            tokens: Tokens::default(),
            catalogs: CatalogSignal::default(),
            promotion: Promotion::default(),
        }
    }
}

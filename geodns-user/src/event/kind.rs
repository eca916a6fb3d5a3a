//! Kinds of events.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

macro_rules! kinds {
    ($($(#[doc = $doc:literal])+ $variant:ident = $name:literal,)+) => {
        /// Kind of an event.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
        pub enum Kind {
            $($(#[doc = $doc])+ #[serde(rename = $name)] $variant,)+
        }

        impl Kind {
            /// Every kind.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// Its name, in the log and everywhere else.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)+
                }
            }
        }
    };
}

kinds! {
    /// The daemon is ready.
    Start = "start",
    /// The daemon stops.
    Stop = "stop",
    /// Everything, a zone, or a file that is followed, was read again; or it was not, which has the level `error`.
    Reload = "reload",
    /// New clients are not sent to a mirror any more.
    MirrorOut = "mirror_out",
    /// New clients are sent to a mirror again.
    MirrorIn = "mirror_in",
    /// A pool has no mirror in service: it answers as its `fail` says.
    PoolOut = "pool_out",
    /// A pool has a mirror in service again.
    PoolIn = "pool_in",
    /// An operator says `up`, `down`, `drain`, `auto`, or a weight of a mirror.
    Admin = "admin",
    /// Another monitor reports a verdict on a mirror, or takes it back.
    Monitor = "monitor",
    /// An override is set or deleted.
    Override = "override",
    /// A prefix list is imported.
    Import = "import",
    /// A block rule is added or removed.
    Block = "block",
    /// ACME tokens are set, or go.
    Acme = "acme",
    /// No primary of a zone has answered for too long.
    ZoneExpired = "zone_expired",
    /// No primary of a zone is of help; it is asked again.
    ZoneFailed = "zone_failed",
    /// A zone that had expired is served again.
    ZoneBack = "zone_back",
    /// The program is not attached to an interface any more.
    InterfaceLost = "interface_lost",
    /// The program is attached to an interface, for the first time or again.
    InterfaceBack = "interface_back",
    /// The program does not see the queries of an interface that it is attached to.
    InterfaceBlind = "interface_blind",
    /// The program sees the queries of an interface again.
    InterfaceSees = "interface_sees",
    /// This node is announced in another way, or an operator wants that.
    Announce = "announce",
    /// This node follows the fleet's store, or does not.
    Fleet = "fleet",
    /// A rollout takes a step, or this node runs another bundle.
    Rollout = "rollout",
}

impl Kind {
    /// The kind of this name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|kind| kind.name() == name)
    }

    /// The alert that an event of this kind begins (`true`) or ends.
    pub const fn alert(self) -> Option<(&'static str, bool)> {
        match self {
            Self::MirrorOut => Some(("GeodnsMirrorOut", true)),
            Self::MirrorIn => Some(("GeodnsMirrorOut", false)),
            Self::PoolOut => Some(("GeodnsPoolOut", true)),
            Self::PoolIn => Some(("GeodnsPoolOut", false)),
            Self::ZoneExpired => Some(("GeodnsZoneExpired", true)),
            Self::ZoneBack => Some(("GeodnsZoneExpired", false)),
            Self::InterfaceLost => Some(("GeodnsInterfaceLost", true)),
            Self::InterfaceBack => Some(("GeodnsInterfaceLost", false)),
            Self::InterfaceBlind => Some(("GeodnsInterfaceBlind", true)),
            Self::InterfaceSees => Some(("GeodnsInterfaceBlind", false)),
            _ => None,
        }
    }

    /// All names, for a message.
    pub fn names() -> String {
        let names: Vec<&str> = Self::ALL.iter().map(|kind| kind.name()).collect();
        names.join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_the_same_everywhere() {
        for &kind in Kind::ALL {
            assert_eq!(Kind::parse(kind.name()), Some(kind));
            let json = serde_json::to_string(&kind).unwrap();
            assert_eq!(json, format!("{:?}", kind.name()));
        }
        assert_eq!(Kind::parse("mirror"), None);
    }
}

//! Things that the state keeps, as the rest of the daemon sees them.

use std::fmt;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::block::RuleText;

/// Secrets of cookies.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct CookieSecrets {
    /// The secret that makes them.
    pub current: [u8; 16],
    /// Since when, in milliseconds since 1970.
    pub since_unix_ms: u64,
    /// The one before.
    pub previous: Option<[u8; 16]>,
    /// The one after: the nodes of a fleet know it before any of them makes cookies with it.
    #[serde(default)]
    pub next: Option<[u8; 16]>,
}

impl fmt::Debug for CookieSecrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "secrets since {}", self.since_unix_ms)
    }
}

/// A rule of `geodns block`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptBlock {
    /// Its number.
    pub number: u32,
    /// Queries that it drops.
    pub said: RuleText,
    /// Why.
    pub note: String,
}

/// One `map set`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Override {
    /// Id of the pool.
    pub pool: String,
    /// Address prefix.
    pub prefix: IpNet,
    /// Id of the mirror.
    pub mirror: String,
}

/// The last `map import` of one pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Import {
    /// Id of the pool.
    pub pool: String,
    /// Ids of the mirrors, by their number in the list.
    pub mirrors: Vec<String>,
    /// The list, from [`Layer::to_bytes`](crate::geo::Layer::to_bytes).
    pub layer: Vec<u8>,
}

/// A token of an ACME challenge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// The owner of its TXT record.
    pub owner: String,
    /// Its text.
    pub text: String,
    /// TTL, seconds.
    pub ttl: u32,
    /// When it expires, in milliseconds since 1970.
    pub until_unix_ms: u64,
}

/// Serials of a zone that tokens are or were put over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Serials {
    /// The one of the file that `served` has the content of. `None`: not known.
    pub file: Option<u32>,
    /// The last that was served.
    pub served: u32,
}

impl Token {
    /// Whether both are the same text at the same owner, whatever their times.
    pub fn is_same(&self, other: &Self) -> bool {
        self.owner == other.owner && self.text == other.text
    }
}

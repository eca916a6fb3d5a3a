//! What a node says of itself in the shared store, under `node/NAME`. The entry goes when the node does.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::shared::{Lease, Revision};

/// Keys of nodes begin with this.
pub const PREFIX: &str = "node/";
/// A node lives for this time after it was heard of for the last time.
pub const ALIVE: Duration = Duration::from_secs(10);
/// The lease of what a node puts: it goes when the node does.
pub const LEASE: Lease = Lease::WhileAlive(ALIVE);

/// A node, as it says itself. What a later version says besides is left aside.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Node {
    /// Its id, which no other node has, whatever its name is.
    pub id: String,
    /// The id of this run of its daemon: a copy of the node on another machine has another one.
    pub run: String,
    /// The site that it is at.
    pub site: Option<String>,
    /// Version of geodns.
    pub version: String,
    /// The last commit that is in force there.
    pub revision: Revision,
    /// Hash over the configuration, but for what is each node's own.
    pub config: String,
    /// Hash over all that decides answers. Nodes that answer alike have the same.
    pub plan: String,
    /// Number of changes that this node alone has made.
    pub local: u64,
    /// How the node is announced; `None`: it is not.
    pub announce: Option<String>,
    /// Queries per second, rounded.
    pub queries_per_second: u64,
    /// When it said this, in milliseconds since 1970, by its own clock.
    pub at_unix_ms: u64,
}

impl Node {
    /// Reads an entry.
    pub fn parse(value: &[u8]) -> Result<Self, String> {
        serde_json::from_slice(value).map_err(|error| error.to_string())
    }

    /// Milliseconds that its clock was ahead of one with this time. Its entry's way counts as behind.
    pub fn ahead_ms(&self, now_unix_ms: u64) -> i64 {
        let apart = self.at_unix_ms.abs_diff(now_unix_ms);
        let apart = i64::try_from(apart).unwrap_or(i64::MAX);
        match self.at_unix_ms > now_unix_ms {
            true => apart,
            false => -apart,
        }
    }

    /// The entry.
    pub fn value(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }
}

/// Clocks that differ by more are said to be apart. An entry takes less on its way, unless the store is slow.
const CLOCKS_APART: Duration = Duration::from_secs(10);

/// A line on the clock of a node, which was ahead of this one's by N milliseconds; `None`: it is near.
pub fn clock_apart(name: &str, ahead_ms: i64) -> Option<String> {
    let apart = Duration::from_millis(ahead_ms.unsigned_abs());
    (apart > CLOCKS_APART).then(|| {
        let apart = apart.as_secs();
        let where_to = if ahead_ms > 0 { "ahead of" } else { "behind" };
        format!(
            "the clock of {name} is {apart} s {where_to} this node's: have both follow NTP (cookies, drains over time and \
             serials of bundles go by the clock)"
        )
    })
}

/// The key of a node.
pub fn key(name: &str) -> String {
    format!("{PREFIX}{name}")
}

/// The hash that most of the nodes have; `None`: there is no such.
pub fn common<'a>(hashes: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let mut counts = std::collections::BTreeMap::new();
    hashes.for_each(|hash| *counts.entry(hash).or_insert(0_usize) += 1);
    let all: usize = counts.values().sum();
    let most = counts.into_iter().max_by_key(|(_, count)| *count);
    most.filter(|(_, count)| count * 2 > all)
        .map(|(hash, _)| hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_read_as_it_was_written_and_by_other_versions() {
        let node = Node {
            id: "a".to_owned(),
            revision: Revision(7),
            ..Node::default()
        };
        assert_eq!(Node::parse(&node.value()), Ok(node));
        let other = Node::parse(br#"{"id":"b","colour":"blue"}"#).unwrap();
        assert_eq!((other.id.as_str(), other.revision), ("b", Revision(0)));
        assert!(Node::parse(b"{").is_err());
    }

    #[test]
    fn clocks_that_are_apart_have_a_line() {
        let node = Node {
            at_unix_ms: 100_000,
            ..Node::default()
        };
        for (now, says) in [
            (89_000, Some("11 s ahead of")),
            (91_000, None),
            (109_000, None),
            (140_000, Some("40 s behind")),
        ] {
            let line = clock_apart("b", node.ahead_ms(now));
            assert_eq!(line.is_some(), says.is_some(), "{line:?}");
            assert!(line.unwrap_or_default().contains(says.unwrap_or_default()));
        }
    }

    #[test]
    fn the_common_hash_is_that_of_more_than_half() {
        assert_eq!(common(["a", "b", "a"].into_iter()), Some("a"));
        assert_eq!(common(["a", "b"].into_iter()), None);
        assert_eq!(common(std::iter::empty()), None);
    }
}

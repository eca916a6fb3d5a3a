//! Any octets as votes of a node, and as its list of targets.

use geodns::fleet::votes::{Targets, Votes};

/// No panic; octets that are read are written the same.
pub fn votes(octets: &[u8]) {
    if let Ok(votes) = Votes::parse(octets) {
        assert_eq!(votes.to_octets(), octets);
    }
    if let Ok(targets) = Targets::parse(octets) {
        assert_eq!(targets.to_octets(), octets);
    }
}

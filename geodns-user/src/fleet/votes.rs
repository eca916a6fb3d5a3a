//! Votes of a node: the verdicts of its own checks, as one small value in the shared store.
//!
//! A node puts two values, both with its lease:
//!
//! - `targets/<node>`: its [`Targets`], when its configuration has changed
//! - `health/<node>`: its [`Votes`] on these, two bits each, when a verdict has changed
//!
//! So a mirror that dies costs a node of 1,000 targets 263 octets, and not the list of them. The votes name their list
//! by a hash: votes whose list has not come yet are nobody's.

use std::collections::BTreeMap;
use std::hash::Hasher;

use siphasher::sip::SipHasher13;

use crate::steering::quorum::Ballot;

/// The version of both values.
const VERSION: u8 = 1;
/// Targets of a node, at the most.
pub const MOST_TARGETS: usize = 1 << 16;
/// Nodes whose votes are counted, at the most.
pub const MOST_NODES: usize = 1024;

/// Keys of nodes' targets begin with this.
pub const TARGETS: &str = "targets/";
/// Keys of nodes' votes begin with this.
pub const VOTES: &str = "health/";

/// The targets of a node, each by a number that is the same on every node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Targets {
    /// Ascending.
    numbers: Vec<u64>,
    hash: u64,
}

/// Votes on a list of targets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Votes {
    /// Hash of the list.
    pub list: u64,
    /// Whether each target is up, in the order of the list; `None`: the node does not know.
    pub votes: Vec<Option<bool>>,
}

/// A value that this node cannot read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// A later version of geodns has written it.
    #[error("it is of version {0}, which this node does not know: upgrade it")]
    Version(u8),
    /// Too many targets.
    #[error("it has {0} targets; {MOST_TARGETS} is the most")]
    TooMany(u64),
    /// The octets do not fit together.
    #[error("it is damaged")]
    Damaged,
    /// Too many nodes.
    #[error("there are votes of {MOST_NODES} nodes already")]
    TooManyNodes,
}

impl Targets {
    /// Targets with these numbers. The first ones stay where there are too many.
    pub fn new(numbers: impl IntoIterator<Item = u64>) -> Self {
        let mut numbers: Vec<u64> = numbers.into_iter().collect();
        numbers.sort_unstable();
        numbers.dedup();
        numbers.truncate(MOST_TARGETS);
        let mut hasher = SipHasher13::new();
        for number in &numbers {
            hasher.write(&number.to_le_bytes());
        }
        let hash = hasher.finish();
        Self { numbers, hash }
    }

    /// Their numbers, ascending.
    pub fn numbers(&self) -> &[u64] {
        &self.numbers
    }

    /// The place of a number.
    pub fn place(&self, number: u64) -> Option<usize> {
        self.numbers.binary_search(&number).ok()
    }

    /// The votes on them that a verdict for each number gives.
    pub fn votes(&self, verdict: impl Fn(u64) -> Option<bool>) -> Votes {
        Votes {
            list: self.hash,
            votes: self.numbers.iter().map(|&number| verdict(number)).collect(),
        }
    }

    /// As a value: the version, and the numbers.
    pub fn to_octets(&self) -> Vec<u8> {
        let numbers = self.numbers.iter().flat_map(|number| number.to_le_bytes());
        [VERSION].into_iter().chain(numbers).collect()
    }

    /// From a value.
    pub fn parse(octets: &[u8]) -> Result<Self, Unreadable> {
        let (numbers, rest) = body(octets)?.as_chunks();
        if numbers.len() > MOST_TARGETS {
            return Err(Unreadable::TooMany(numbers.len() as u64));
        }
        let numbers = numbers.iter().map(|octets| u64::from_le_bytes(*octets));
        let numbers: Vec<u64> = numbers.collect();
        if !rest.is_empty() || !numbers.is_sorted_by(|a, b| a < b) {
            return Err(Unreadable::Damaged);
        }
        Ok(Self::new(numbers))
    }
}

impl Votes {
    /// As a value: the version, the hash of the list, the number of votes, and the votes, four in an octet.
    pub fn to_octets(&self) -> Vec<u8> {
        let mut octets = vec![VERSION];
        octets.extend(self.list.to_le_bytes());
        octets.extend((self.votes.len() as u32).to_le_bytes());
        for four in self.votes.chunks(4) {
            let bits = |octet: u8, (place, vote): (usize, &Option<bool>)| {
                let vote = match vote {
                    None => 0,
                    Some(true) => 1,
                    Some(false) => 2,
                };
                octet | vote << (2 * place)
            };
            octets.push(four.iter().enumerate().fold(0, bits));
        }
        octets
    }

    /// From a value.
    pub fn parse(octets: &[u8]) -> Result<Self, Unreadable> {
        let body = body(octets)?;
        let (list, body) = body.split_first_chunk().ok_or(Unreadable::Damaged)?;
        let (count, body) = body.split_first_chunk().ok_or(Unreadable::Damaged)?;
        let count = u32::from_le_bytes(*count) as usize;
        if count > MOST_TARGETS {
            return Err(Unreadable::TooMany(count as u64));
        }
        if body.len() != count.div_ceil(4) {
            return Err(Unreadable::Damaged);
        }
        let mut votes = Vec::with_capacity(body.len() * 4);
        for octet in body {
            for place in 0..4 {
                votes.push(match octet >> (2 * place) & 3 {
                    0 => None,
                    1 => Some(true),
                    2 => Some(false),
                    _ => return Err(Unreadable::Damaged),
                });
            }
        }
        let beyond = votes.split_off(count);
        if beyond.iter().any(Option::is_some) {
            return Err(Unreadable::Damaged);
        }
        let list = u64::from_le_bytes(*list);
        Ok(Self { list, votes })
    }
}

/// The octets behind the version.
fn body(octets: &[u8]) -> Result<&[u8], Unreadable> {
    match octets.split_first() {
        Some((&VERSION, body)) => Ok(body),
        Some((&version, _)) => Err(Unreadable::Version(version)),
        None => Err(Unreadable::Damaged),
    }
}

/// The key of a node's targets.
pub fn targets_key(node: &str) -> String {
    format!("{TARGETS}{node}")
}

/// The key of a node's votes.
pub fn votes_key(node: &str) -> String {
    format!("{VOTES}{node}")
}

/// The votes of all nodes, as the shared store has them.
#[derive(Clone, Debug, Default)]
pub struct AllVotes {
    nodes: BTreeMap<String, OfNode>,
}

#[derive(Clone, Debug, Default)]
struct OfNode {
    targets: Option<Targets>,
    votes: Option<Votes>,
}

impl AllVotes {
    /// Takes a value of the store; `None`: it was deleted. Gives whether the key is one of votes. A value that cannot
    /// be read counts as deleted.
    pub fn take(&mut self, key: &str, value: Option<&[u8]>) -> Result<bool, Unreadable> {
        let (node, is_targets) = match (key.strip_prefix(TARGETS), key.strip_prefix(VOTES)) {
            (Some(node), _) => (node, true),
            (_, Some(node)) => (node, false),
            (None, None) => return Ok(false),
        };
        if value.is_some() && !self.nodes.contains_key(node) && self.nodes.len() >= MOST_NODES {
            return Err(Unreadable::TooManyNodes);
        }
        let of = self.nodes.entry(node.to_owned()).or_default();
        let taken = if is_targets {
            put(&mut of.targets, value.map(Targets::parse))
        } else {
            put(&mut of.votes, value.map(Votes::parse))
        };
        if of.targets.is_none() && of.votes.is_none() {
            self.nodes.remove(node);
        }
        taken.map(|()| true)
    }

    /// The list and the votes of a node.
    pub fn of(&self, node: &str) -> (Option<&Targets>, Option<&Votes>) {
        let of = self.nodes.get(node);
        let targets = of.and_then(|of| of.targets.as_ref());
        (targets, of.and_then(|of| of.votes.as_ref()))
    }

    /// Nodes that vote.
    pub fn nodes(&self) -> impl Iterator<Item = &str> {
        self.nodes.keys().map(String::as_str)
    }

    /// The ballots of all nodes, on the targets of one of them. A node whose list has not come has none.
    pub fn ballots(&self, on: &Targets) -> Vec<Ballot> {
        let mut ballots = Vec::with_capacity(self.nodes.len());
        for (node, of) in &self.nodes {
            let (Some(targets), Some(votes)) = (&of.targets, &of.votes) else {
                continue;
            };
            if votes.list != targets.hash || votes.votes.len() != targets.numbers.len() {
                continue;
            }
            let vote = |number| {
                let place = targets.place(number)?;
                votes.votes.get(place).copied().flatten()
            };
            let votes = match targets.hash == on.hash {
                true => votes.votes.clone(),
                false => on.numbers.iter().map(|&number| vote(number)).collect(),
            };
            ballots.push(Ballot {
                node: node.clone(),
                votes,
            });
        }
        ballots
    }
}

fn put<T>(place: &mut Option<T>, value: Option<Result<T, Unreadable>>) -> Result<(), Unreadable> {
    *place = None;
    *place = value.transpose()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::health::target::number;

    fn targets(count: u64) -> Targets {
        Targets::new((0..count).map(|n| number(&format!("tcp 192.0.2.{n} port=80"))))
    }

    #[test]
    fn a_thousand_targets_are_small() {
        let targets = targets(1000);
        let votes = targets.votes(|number| Some(number % 3 == 0));
        assert_eq!(votes.to_octets().len(), 263);
        assert_eq!(targets.to_octets().len(), 8001);
        assert_eq!(Votes::parse(&votes.to_octets()), Ok(votes));
        assert_eq!(Targets::parse(&targets.to_octets()), Ok(targets));
    }

    #[test]
    fn what_cannot_be_read_says_why() {
        let parse = |octets: &[u8]| Votes::parse(octets).unwrap_err().to_string();
        assert_eq!(parse(b""), "it is damaged");
        assert_eq!(
            parse(&[2, 0, 0]),
            "it is of version 2, which this node does not know: upgrade it"
        );
        let many = [&[1u8; 9][..], &[0xff; 4]].concat();
        assert_eq!(parse(&many), "it has 4294967295 targets; 65536 is the most");
        // Three is no vote, and there is none behind the last.
        let of = |count: u8, octet: u8| [&[1u8; 9][..], &[count, 0, 0, 0, octet]].concat();
        assert!(Votes::parse(&of(4, 0b10_01_00_10)).is_ok());
        assert_eq!(parse(&of(4, 0b11_01_00_10)), "it is damaged");
        assert_eq!(parse(&of(3, 0b10_01_00_10)), "it is damaged");
        assert_eq!(parse(&of(5, 0)), "it is damaged");
        let twice = [&[1u8][..], &[7; 16]].concat();
        assert_eq!(Targets::parse(&twice), Err(Unreadable::Damaged));
    }

    #[test]
    fn ballots_are_on_the_targets_of_the_reader() {
        let (few, many) = (targets(3), targets(5));
        let mut all = AllVotes::default();
        let up = |_: u64| Some(true);
        let octets = few.votes(up).to_octets();
        assert_eq!(all.take("health/n1", Some(&octets)), Ok(true));
        assert_eq!(all.ballots(&many), []);
        all.take("targets/n1", Some(&few.to_octets())).unwrap();
        all.take("targets/n2", Some(&many.to_octets())).unwrap();
        let octets = many.votes(|_| Some(false)).to_octets();
        all.take("health/n2", Some(&octets)).unwrap();
        assert_eq!(all.take("override/eu/192.0.2.0/24", None), Ok(false));

        let ballots = all.ballots(&many);
        let known = |ballot: &Ballot| ballot.votes.iter().flatten().count();
        assert_eq!(
            ballots
                .iter()
                .map(|ballot| (ballot.node.as_str(), known(ballot)))
                .collect::<Vec<_>>(),
            [("n1", 3), ("n2", 5)]
        );
        // Votes on a list that has not come yet are nobody's.
        all.take("targets/n1", Some(&many.to_octets())).unwrap();
        assert_eq!(all.ballots(&many).len(), 1);
        assert!(all.take("targets/n2", Some(b"?")).is_err());
        assert_eq!(all.ballots(&many), []);
        all.take("health/n1", None).unwrap();
        all.take("targets/n1", None).unwrap();
        assert_eq!(all.nodes().collect::<Vec<_>>(), ["n2"]);
    }

    #[test]
    fn a_stranger_cannot_have_more_nodes_kept_than_there_may_be() {
        let mut all = AllVotes::default();
        let octets = targets(1).to_octets();
        for n in 0..MOST_NODES {
            assert_eq!(all.take(&format!("targets/n{n}"), Some(&octets)), Ok(true));
        }
        let more = all.take("targets/more", Some(&octets));
        assert_eq!(more, Err(Unreadable::TooManyNodes));
        assert_eq!(all.nodes().count(), MOST_NODES);
    }

    proptest! {
        #[test]
        fn any_octets_are_read_or_refused(octets in proptest::collection::vec(any::<u8>(), 0..100)) {
            if let Ok(votes) = Votes::parse(&octets) {
                prop_assert_eq!(votes.to_octets(), octets.clone());
            }
            if let Ok(targets) = Targets::parse(&octets) {
                prop_assert_eq!(targets.to_octets(), octets);
            }
        }

        #[test]
        fn votes_come_back_as_they_went(votes in proptest::collection::vec(any::<Option<bool>>(), 0..50), list: u64) {
            let votes = Votes { list, votes };
            prop_assert_eq!(Votes::parse(&votes.to_octets()), Ok(votes));
        }
    }
}
